"""Files of the repository that a page names, `tests/test_x.py::name` say, as pages of their own.

So a statement leads to the function that computes it and to the test that holds it, also where the
site is a folder on a disk.
"""

from __future__ import annotations

import keyword
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.utils import get_relative_url

from website.code import change_code
from website.questions import public_names
from website.reference import reference

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(
    r"((?:tokenkl|tests|experiments|benchmarks|website)/[\w/]+\.py)(?:::(?:\w+\.)?(\w+))?"
)
DEFINITION = re.compile(r"^[ \t]*(?:async def|def|class) (\w+)", re.M)
#: Two hundred files are coloured in a second by this, and in half a minute by a real lexer.
COLOURED = re.compile(
    r"(?P<s>[rbf]?(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"))"
    rf"|(?P<c>\#[^\n]*)|\b(?P<k>{'|'.join(keyword.kwlist)})\b",
    re.S,
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{path}</title>
<link rel="stylesheet" href="{style}">
</head>
<body>
<p><a href="{home}">tokenkl</a> · {path}</p>
<pre>{code}</pre>
</body>
</html>
"""
STYLE = """:root { color-scheme: light dark; }
body { margin: 1rem; font-family: system-ui, sans-serif; }
pre { line-height: 1.4; overflow-x: auto; font-size: 0.85rem; counter-reset: line; }
pre span[id]::before {
  counter-increment: line; content: counter(line);
  display: inline-block; width: 3em; padding-right: 1em; text-align: right; opacity: 0.45;
}
pre span[id]:target { background: light-dark(#fff3bf, #5c4b00); }
a { color: light-dark(#1a56b0, #8ab4f8); }
.k { color: light-dark(#8a1a8a, #d6a2ff); }
.s { color: light-dark(#1a6b2a, #9fd6a3); }
.c { color: light-dark(#5f6368, #9aa0a6); }
"""

_wanted: set[str] = set()


def on_pre_build(config: Any) -> None:
    _wanted.clear()


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Names of files are links to them, at the definition if they name one."""

    def link(code: str) -> str | None:
        found = NAMED.fullmatch(code)
        if not found or not (ROOT / found[1]).is_file():
            return None
        _wanted.add(found[1])
        goal = get_relative_url(f"source/{found[1]}.html", page.url)
        line = _lines(found[1]).get(found[2] or "")
        anchor = f"#L-{line}" if line else ""
        shown = f'<a href="{goal}{anchor}"><code>{code}</code></a>'
        if found[1].startswith("tokenkl/") and found[2] in public_names():
            shown += f" ({reference(found[2], f'<code>tk.{found[2]}</code>')})"
        return shown

    return change_code(html, link)


def on_post_build(config: Any) -> None:
    """The files that were named, with their lines to be linked to."""
    out = Path(config.site_dir) / "source"
    out.mkdir(parents=True, exist_ok=True)
    (out / "source.css").write_text(STYLE, encoding="utf-8")
    for path in sorted(_wanted):
        url = f"source/{path}.html"
        text = PAGE.format(
            path=escape(path),
            style=get_relative_url("source/source.css", url),
            home=get_relative_url("index.html", url),
            code=coloured((ROOT / path).read_text(encoding="utf-8")),
        )
        goal = Path(config.site_dir) / url
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.write_text(text, encoding="utf-8")


def coloured(text: str) -> str:
    """Python as HTML: strings, comments and keywords marked, and every line with its id.

    Example:
        >>> coloured("x = 1  # one")
        '<span id="L-1">x = 1  <span class="c"># one</span></span>'
    """
    parts: list[str] = []
    end = 0
    for found in COLOURED.finditer(text):
        parts.append(escape(text[end : found.start()], quote=False))
        mark = found.lastgroup
        lines = escape(found[0], quote=False).split("\n")
        parts.append("\n".join(f'<span class="{mark}">{line}</span>' for line in lines))
        end = found.end()
    parts.append(escape(text[end:], quote=False))
    lines = "".join(parts).rstrip("\n").split("\n")
    return "\n".join(f'<span id="L-{n}">{line}</span>' for n, line in enumerate(lines, 1))


@cache
def _lines(path: str) -> dict[str, int]:
    """The line of every function and class."""
    text = (ROOT / path).read_text(encoding="utf-8")
    found = DEFINITION.finditer(text)
    return {one[1]: text.count("\n", 0, one.start(1)) + 1 for one in found}
