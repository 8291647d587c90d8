"""Machine code on disk: fresh after every edit, and never a reason to fail."""

import ast
import hashlib
import os
import pickle
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest

import tokenkl
from tokenkl import _progress
from tokenkl.numerics import compiled

PACKAGE = Path(tokenkl.__file__).parent

#: A package with the two real files, a function that others inline, and one that inlines it.
SMALL = {
    "__init__": "",
    "low/__init__": "",
    "numerics/__init__": "",
    "low/base": """
from tokenkl.numerics.compiled import compiled
STEP = 1.0
@compiled(fastmath=set())
def step(x):
    return x + STEP
""",
    "high": """
from tokenkl.numerics.compiled import compiled
from tokenkl.low.base import step
@compiled(fastmath=set())
def twice(x):
    return step(step(x))
""",
}
RUN = (
    "import sys; from tokenkl.high import twice; print(twice(float(sys.argv[1])));"
    "print(sum(twice.stats.cache_hits.values()), twice.stats.cache_path)"
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    root = tmp_path / "small"
    for name, text in SMALL.items():
        path = root / "tokenkl" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("numerics/compiled.py", "_files.py", "_progress.py"):
        shutil.copy(PACKAGE / name, root / "tokenkl" / name)
    return root


def start(root: Path, x: float = 0.0, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    places = {"PYTHONPATH": str(root), "XDG_CACHE_HOME": str(root.parent / "cache")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RUN, str(x)],
        cwd=root,
        env={**kept, **places, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[float, int, str]:
    """Result, how many functions came from disk, and from where."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert not err
    value, rest = out.splitlines()
    hits, folder = rest.split(" ", 1)
    return float(value), int(hits), folder


@pytest.mark.slow  # processes that import Numba
def test_an_edit_of_an_inlined_function_is_noticed(small: Path) -> None:
    first = finish(start(small))
    assert first[:2] == (2.0, 0)
    assert finish(start(small)) == (2.0, 1, first[2])
    base = small / "tokenkl" / "low" / "base.py"
    before = base.stat()
    base.write_text(base.read_text().replace("STEP = 1.0", "STEP = 3.0"))
    os.utime(base, ns=(before.st_atime_ns, before.st_mtime_ns))
    value, hits, folder = finish(start(small))
    assert (value, hits) == (6.0, 0)
    assert folder != first[2]
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700


@pytest.mark.slow
def test_where_the_code_is_kept(small: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    _, _, folder = finish(start(small, NUMBA_CACHE_DIR=str(given)))
    assert Path(folder).is_relative_to(given)
    # Settings that change the code have a folder of their own.
    assert finish(start(small, NUMBA_CACHE_DIR=str(given), NUMBA_OPT="1"))[1] == 0
    (tmp_path / "cache").write_text("not a folder")
    for _ in range(2):
        assert finish(start(small)) == (2.0, 0, "None")


@pytest.mark.slow
def test_several_processes_at_once(small: Path) -> None:
    running = [start(small, x) for x in (0.0, 1.0, 2.0, 3.0)]
    assert [finish(process)[0] for process in running] == [2.0, 3.0, 4.0, 5.0]
    _, hits, folder = finish(start(small))
    assert hits == 1
    assert {path.suffix for path in Path(folder).iterdir()} == {".nbc"}


def test_folders_out_of_use_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = tmp_path / "tokenkl" / "compiled"
    names = [f"{index:032x}" for index in range(2 * compiled.KEPT)]
    for age, name in enumerate(names):
        (parent / name).mkdir(parents=True)
        os.utime(parent / name, (age, age))
    (parent / "other").mkdir()
    monkeypatch.setattr(compiled.config, "CACHE_DIR", str(tmp_path))
    for _ in range(2):
        compiled.code_folder.cache_clear()
        own = compiled.code_folder()
    compiled.code_folder.cache_clear()
    assert own is not None
    assert {path.name for path in parent.iterdir()} == {
        own.name, "other", *names[-compiled.KEPT :]
    }  # fmt: skip


# ---- One function in one folder


def dispatcher(folder: Path, step: float = 2.0) -> Any:
    """A function as `compiled` makes it; `step` stands for what an attacker would like."""

    def add(x: float) -> float:
        return x + step

    made: Any = numba.njit(add)
    made._cache = compiled._Kept(add, folder)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "code"
    assert compiled._is_private(path)
    return path


def call(folder: Path) -> int:
    """Call the function; how many signatures came from disk."""
    made = dispatcher(folder)
    assert made(1.5) == 3.5
    assert made(1) == 3
    return sum(made.stats.cache_hits.values())


def flip(content: bytes) -> bytes:
    """One bit in the middle, where machine code is."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:16],
        lambda content: content[: len(content) // 2],
        lambda content: bytes(len(content)),
        lambda content: hashlib.sha256(b"garbage").digest() + b"garbage",
        lambda content: hashlib.sha256(pickle.dumps((1, 2))).digest() + pickle.dumps((1, 2)),
        flip,
    ],
)
def test_a_damaged_file_is_made_anew(damage: Callable[..., Any], folder: Path) -> None:
    assert call(folder) == 0
    paths = sorted(folder.iterdir())
    assert len(paths) == 2
    for path in paths:
        path.write_bytes(damage(path.read_bytes()))
    assert call(folder) == 0
    assert sorted(folder.iterdir()) == paths
    assert call(folder) == 2


def test_files_that_cannot_be_read_or_written(folder: Path) -> None:
    call(folder)
    for path in list(folder.iterdir()):
        path.unlink()
        path.mkdir()
    assert call(folder) == call(folder) == 0
    shutil.rmtree(folder)
    assert call(folder) == 0  # and the folder is back
    assert call(folder) == 2
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")
    assert call(folder) == 0


def test_a_signature_has_its_own_file(folder: Path) -> None:
    """Closures and signatures are parts of the name: neither is taken for another."""
    assert dispatcher(folder)(1.5) == 3.5
    assert dispatcher(folder, 10.0)(1.5) == 11.5
    assert len(list(folder.iterdir())) == 2


def test_bars_say_what_they_wait_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(_progress, "_waiting", [said.append])
    call(folder)
    assert said == [compiled.COMPILING, ""] * 2
    call(folder)
    assert len(said) == 4


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.mkdir, (str(self.path),)


def test_what_others_could_write_is_not_unpickled(folder: Path, tmp_path: Path) -> None:
    call(folder)
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    folder.chmod(0o777)
    for path in folder.iterdir():
        path.write_bytes(hashlib.sha256(bomb).digest() + bomb)
    assert compiled._is_private(folder)
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert call(folder) == 0
    assert not (tmp_path / "exploded").exists()
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert not compiled._is_private(link)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_a_folder_of_somebody_else_is_not_used(folder: Path) -> None:
    os.chown(folder, 12345, 12345)
    assert not compiled._is_private(folder)
    call(folder)
    assert list(folder.iterdir()) == []


# ---- The package


def test_every_compiled_module_is_watched() -> None:
    """Nothing is compiled past `compiled`, and what compiled modules take over is watched too."""
    watched = compiled._sources()
    known = ("information.sampling.kernel", "halfspaces.pair_sums", "halfspaces.overlaps")
    assert {f"tokenkl.{name}" for name in known} <= set(watched)
    # Called from Python, and from no compiled function.
    plain = {"tokenkl.numerics.threads", "tokenkl.numerics.neighbours"}
    base = {"tokenkl._files", "tokenkl._progress"}
    plain |= {"tokenkl.information.sampling.signs"}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if name != "tokenkl.numerics.compiled":
            assert "numba.njit" not in path.read_text(), path
    for name, text in watched.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tokenkl"):
                is_base = name == "tokenkl.numerics.compiled"
                allowed = {*watched, *plain, *(base if is_base else ())}
                assert node.module in allowed, f"{name} takes over a value of {node.module}"


PROFILE = """
import numpy as np, tokenkl as tk
stages = [np.random.default_rng(s).standard_normal((64, 4)) / 2**s for s in range(5)]
method = tk.MonteCarlo(n_samples=32)
found = tk.profile(tk.ResidualCodebook(stages), [1.0, 10.0], key=0, method=method)
print(*(value.hex() for one in found.estimates.values() for value in one.value.tolist()))
"""


@pytest.mark.slow
def test_code_that_was_just_compiled_gives_the_bits_of_code_that_was_loaded(tmp_path: Path) -> None:
    """Sums with `fastmath` that callers do not contain would be in another order."""
    place = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "NUMBA_CACHE_DIR": ""}
    words = [sys.executable, "-c", PROFILE]
    first, second = (
        subprocess.run(words, env=place, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc"))
    assert first == second
