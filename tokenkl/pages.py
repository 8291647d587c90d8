"""Web pages of one file: nothing is loaded, no script runs, and text from files stays text."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

from tokenkl._validation import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: So that a browser, too, refuses whatever is not in the page or beside it.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' file:; media-src 'self' file:"
)


def text(value: object) -> str:
    """Any text as HTML that shows it as it is."""
    return html.escape(printable(str(value)))


def page(title: str, body: Iterable[str]) -> str:
    """A page for phones and desks, bright and dark; the title is plain text, the body is HTML."""
    style = resources.files("tokenkl").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def pairs(facts: Iterable[tuple[str, str]]) -> str:
    """Names and values, which are plain text."""
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in facts
    )
    return f'<div class="scroll"><table class="pairs"><tbody>{rows}</tbody></table></div>'


def table(columns: Mapping[str, Sequence[str]], caption: str, *, numbers: bool = True) -> str:
    """A table of plain text, the first column names its rows; wide ones scroll by themselves."""
    head = "".join(f'<th scope="col">{text_lines(name)}</th>' for name in columns)
    rows = []
    for first, *rest in zip(*columns.values(), strict=True):
        cells = "".join(f"<td>{text(one)}</td>" for one in rest)
        rows.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    kind = ' class="numbers"' if numbers else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">'
        f"<table{kind}><caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>"
        + "\n".join(rows)
        + "</tbody></table></div>"
    )


def text_lines(value: str) -> str:
    """Plain text of several lines."""
    return "\n".join(map(text, value.split("\n")))


def code(value: str, *, wrap: bool = False) -> str:
    """Lines to copy; long ones scroll, or go on in the next line."""
    kind = ' class="wrap"' if wrap else ""
    return f'<pre tabindex="0"{kind}><code>{text_lines(value)}</code></pre>'


def picture(figure: Figure, name: str, caption: str) -> str:
    """A figure as part of the page, in the page's colours; the name is one word of its own."""
    drawn = _recoloured(_drawing(figure), name)
    return f'<figure id="{name}">{drawn}<figcaption>{text(caption)}</figcaption></figure>'.replace(
        "<svg ", f'<svg role="img" aria-label="{text(caption)}" ', 1
    )


def _drawing(figure: Figure) -> str:
    import matplotlib as mpl

    from tokenkl.plotting import STYLE

    out = io.StringIO()
    settings = cast(Any, STYLE | {"svg.hashsalt": "tokenkl", "svg.fonttype": "path"})
    with mpl.rc_context(settings):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return out.getvalue()


def _recoloured(svg: str, name: str) -> str:
    """The <svg> alone, with the page's colours and names that no other picture has."""
    from tokenkl.plotting import COLOURS

    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)  # as wide as the page has room
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    for index, colour in enumerate(COLOURS):
        if colour != "#000000":
            svg = svg.replace(colour.lower(), f"var(--curve-{index})")
    return svg.replace("#000000", "currentColor").replace("#dddddd", "var(--line)").rstrip()
