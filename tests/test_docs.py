"""What the documents point to exists, and the code that they show runs."""

import ast
import doctest
import importlib
import inspect
import json
import re
from pathlib import Path

import pytest

from website.questions import GROUPS, page_name

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "experiments" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
#: Pages that the site has and the repository has not.
WRITTEN = {ROOT / "docs" / "api" / "index.md", *(ROOT / "docs" / page_name(g) for g in GROUPS)}
WRITTEN |= {path.with_suffix(".md") for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")}
#: `folder/file.py::name`, `folder/file.py`, or a figure.
LINK = re.compile(
    r"`((?:tokenkl|tests|experiments|figures|benchmarks|website)/[\w/.-]+?)(?:::(\w+))?`"
)


def _definitions(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links(document: Path) -> None:
    for target, name in LINK.findall(document.read_text()):
        if "NAME" in target:
            continue
        path = ROOT / target
        assert path.exists(), f"{document.name} points to {target}, which does not exist"
        if name:
            assert name in _definitions(path), f"{target} has no {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        path = (document.parent / target).resolve()
        assert path.exists() or path in WRITTEN, f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", document.read_text(), flags=re.DOTALL):
        exec(compile(block, document.name, "exec"), namespace)


def test_readme_is_short_and_tells_what_was_measured() -> None:
    """What is written by hand there is what was timed, and numbers are those of the record."""
    pytest.importorskip("torch")
    from benchmarks import by_hand

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) < 120
    source = inspect.getsource(by_hand.profile_by_hand)
    assert source.replace("  # type: ignore[no-untyped-def]", "") in readme
    assert by_hand.table(json.loads(by_hand.RESULTS.read_text(encoding="utf-8"))) in readme
    assert doctest.testmod(by_hand).failed == 0


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "tokenkl").rglob("*.py")), *sorted((ROOT / "experiments").glob("*.py"))],
    ids=str,
)
def test_examples_in_docstrings(path: Path) -> None:
    if ">>>" not in path.read_text():
        return
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if error.name != "torch":
            raise
        pytest.skip(str(error))  # other Pythons in `make versions` are without it
    assert doctest.testmod(module).failed == 0
