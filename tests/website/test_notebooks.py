"""The notebooks run, say what is stored in them, and are what Jupyter reads."""

import json
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra docs is not installed")

from website import notebooks

PATHS = sorted(notebooks.FOLDER.glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_they_say_what_is_stored(path: Path) -> None:
    """`python -m website.notebooks` stores anew."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    found = [notebooks.texts(outputs) for outputs in notebooks.run(notebook)]
    stored = [notebooks.texts(cell["outputs"]) for cell in notebooks.code_cells(notebook)]
    assert found == stored


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_form(path: Path) -> None:
    """Version 4.5 of the format: https://nbformat.readthedocs.io/en/latest/format_description.html"""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        own = {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | own
        for one in cell.get("outputs", ()):
            assert one["output_type"] in ("stream", "execute_result", "display_data")
    text, pictures = notebooks.page(notebook, path.stem)
    assert text.startswith("# ")
    assert all(f"({name})" in text and content[1:4] == b"PNG" for name, content in pictures.items())


def test_there_are_three_and_one_draws() -> None:
    assert len(PATHS) == 3
    drawn = [notebooks.page(json.loads(path.read_text()), path.stem)[1] for path in PATHS]
    assert any(drawn)


def test_a_cell() -> None:
    cell = {"cell_type": "code", "source": ["print(1)\n", "x = 2\n", "x + 1"]}
    (outputs,) = notebooks.run({"cells": [cell]})
    assert notebooks.texts(outputs) == ["1\n", "3"]
    broken = {"cell_type": "code", "source": "import warnings\nwarnings.warn('no')"}
    with pytest.raises(UserWarning, match="no"):
        notebooks.run({"cells": [broken]})
