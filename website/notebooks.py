"""Notebooks of `docs/notebooks/`: run without Jupyter, and shown as pages of the site.

    python -m website.notebooks     # runs them, and stores what they print and draw

A notebook is what it is in Jupyter. What its cells print, the value of their last line and figures
are stored in it, and are its page; `tests/website/test_notebooks.py` runs them and compares.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"


# ---- Running -----------------------------------------------------------------------------------


def run(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """What every cell of code gives, in their order, as notebooks store it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    return [
        _run_cell("".join(cell["source"]), names, number)
        for number, cell in enumerate(code_cells(notebook), 1)
    ]


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _run_cell(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in (DeprecationWarning, FutureWarning):  # of other packages, to be mended there
            warnings.simplefilter("ignore", kind)
        exec(compile(ast.Module(body, []), f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = _lines(printed.getvalue())
        outputs.append({"name": "stdout", "output_type": "stream", "text": text})
    if value is not None:
        data = _shown(value)
        output: dict[str, Any] = {"data": data, "metadata": {}, "output_type": "display_data"}
        if "image/png" not in data:
            output |= {"execution_count": number, "output_type": "execute_result"}
        outputs.append(output)
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    """A figure as a picture, all else as its repr."""
    if not hasattr(value, "savefig"):
        return {"text/plain": _lines(repr(value))}
    picture = io.BytesIO()
    value.savefig(picture, format="png", dpi=100, metadata={"Software": None})
    coded = base64.b64encode(picture.getvalue()).decode()
    return {"image/png": coded, "text/plain": ["a figure"]}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def texts(outputs: list[dict[str, Any]]) -> list[str]:
    """What is printed of them, without pictures."""
    return ["".join(one.get("text") or one["data"]["text/plain"]) for one in outputs]


def store(path: Path) -> None:
    """Run a notebook, and store what it gives."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for number, (cell, outputs) in enumerate(
        zip(code_cells(notebook), run(notebook), strict=True), 1
    ):
        cell |= {"outputs": outputs, "execution_count": number}
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")


# ---- Pages -------------------------------------------------------------------------------------


def page(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Markdown of a notebook, and its pictures by their names."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for one, text in zip(cell["outputs"], texts(cell["outputs"]), strict=True):
            coded = one.get("data", {}).get("image/png")
            if coded is None:
                parts.append(f"```text\n{text.rstrip()}\n```")
            else:
                picture = f"{name}-{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode("".join(coded))
                parts.append(f"![what the line above draws]({picture})")
    title, *rest = parts
    link = (
        f"[This page as a notebook]({name}.ipynb), to change and run: `jupyter lab {name}.ipynb`."
    )
    return "\n\n".join([title, link, *rest]) + "\n", pictures


def on_files(files: Any, config: Any) -> Any:
    for path in sorted(FOLDER.glob("*.ipynb")):
        text, pictures = page(json.loads(path.read_text(encoding="utf-8")), path.stem)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def main() -> None:
    for path in sorted(FOLDER.glob("*.ipynb")):
        store(path)
        print(path.name)


if __name__ == "__main__":
    main()
