"""The house has one direction: modules import only from rooms below their own."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import tokenkl

PACKAGE = Path(tokenkl.__file__).parent

#: Rooms from the ground up (docs/architecture.md). A room is a module or a folder.
ROOMS = (
    "_validation",
    "_extras",
    "_files",
    "_formats",
    "_module",
    "_once",
    "_progress",
    "_random",
    "workers",
    "numerics",
    "ways",
    "estimate",
    "readable",
    "latex",
    "usage",
    "quantities",
    "plotting",
    "pages",
    "schedule",
    "samplers",
    "sources",
    "codebooks",
    "decoding",
    "halfspaces",
    "information",
    "channels",
    "channel",
    "tasks",
    "context",
    "divergence",
    "bounds",
    "verification",
    "optimality",
    "corpus",
    "quantizers",
    "torch",
    "symbolic",
    "testing",
    "tts",
    "cli",
)

KINDS = ("Product", "Point", "Lattice", "Residual")


@functools.cache
def _nodes(path: Path) -> list[ast.AST]:
    """All that can import or call, in the order of `ast.walk`."""
    kinds = ast.Import | ast.ImportFrom | ast.Call
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


def _imports(path: Path) -> set[str]:
    """Rooms of tokenkl that a file imports from, at any depth of nesting."""
    rooms = set()
    for node in _nodes(path):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names = [module] if module != "tokenkl" else [f"tokenkl.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("tokenkl.")}
    return rooms


def test_no_import_runs_upwards() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room in ("__init__", "__main__"):
            continue
        assert room in ROOMS, f"{path} is in a room that docs/architecture.md does not know"
        for used in _imports(path):
            if used in ROOMS and ROOMS.index(used) > ROOMS.index(room):
                wrong.append(f"{room} imports {used}")
    assert not wrong, wrong


def test_no_private_name_leaves_its_room() -> None:
    """What another room needs has a name without an underscore."""
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for node in _nodes(path):
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            package, *parts = node.module.split(".")
            if package != "tokenkl" or not parts:
                continue
            # Modules at the top whose names begin with an underscore serve every room.
            inner = [*parts[1:], *(alias.name for alias in node.names)]
            if parts[0] != room and any(name.startswith("_") for name in inner):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {'.'.join(parts)}: {inner[-1]}")
    assert not wrong, wrong


def test_few_places_ask_for_a_kind_of_codebook() -> None:
    """A codebook answers for itself; only what holds for one kind alone has to ask."""
    kinds = {
        "FSQ",
        "OneHot",
        "ProductCodebook",
        "PointCodebook",
        "LatticeCodebook",
        "ResidualCodebook",
    }
    asked = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] == "codebooks":
            continue
        for node in _nodes(path):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "isinstance":
                continue
            if kinds & {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}:
                asked.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert len(asked) <= 10, asked


def test_speech_is_known_to_its_commands_only() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        if parts[0] != "tts" and parts[:2] != ("cli", "tts"):
            assert "tts" not in _imports(path), path


def test_import_is_light() -> None:
    """Importing the library pulls in nothing that only some users need."""
    heavy = [
        "torch",
        "numba",
        "sklearn",
        "pandas",
        "scipy.stats",
        "matplotlib",
        "seaborn",
        "sympy",
        "flint",
        "hypothesis",
        "typer",
    ]
    code = f"import sys, tokenkl; print(sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_changes_no_global_setting() -> None:
    code = (
        "import jax, numpy as np; before = jax.config.jax_enable_x64, np.geterr();"
        "import tokenkl as tk; tk.profile(tk.e8_codebook(), 1.0, key=0,"
        " method=tk.MonteCarlo(n_samples=64)); tk.accuracy(tk.OneHot(5), 2.0);"
        "assert before == (jax.config.jax_enable_x64, np.geterr()); print('same')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "same"


def test_public_names() -> None:
    """Names that others import stay."""
    for name in tokenkl.__all__:
        assert hasattr(tokenkl, name), name
    promised = """
        FSQ ProductCodebook OneHot PointCodebook ResidualCodebook e8_codebook LinearVP
        accuracy error_probability conditional_entropy mutual_information mmse profile
        path_kl simulate_path_kl mean_nn_distance min_distance Exact MonteCarlo
    """
    assert set(promised.split()) <= set(tokenkl.__all__)
