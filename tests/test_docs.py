"""What the documents point to exists, and the code that they show runs."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

from website.questions import GROUPS, page_name

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "experiments" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
#: Pages that the site has and the repository has not.
WRITTEN = {ROOT / "docs" / "api" / "index.md", *(ROOT / "docs" / page_name(g) for g in GROUPS)}
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


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "tokenkl").rglob("*.py")), *sorted((ROOT / "experiments").glob("*.py"))],
    ids=str,
)
def test_examples_in_docstrings(path: Path) -> None:
    if ">>>" not in path.read_text():
        return
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    assert doctest.testmod(importlib.import_module(name)).failed == 0
