"""Figures where a page names them: shown behind the paragraph, once a page, with PDF and CSV.

`figures/NAME.png` stays where it is in the repository; what pages name is copied into the site.
"""

from __future__ import annotations

import ast
import re
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File
from mkdocs.utils import get_relative_url

from website.code import change_code

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"figures/(\w+)\.png")
PARAGRAPH = re.compile(r"<p>(?:(?!</p>).)*?<code>figures/\w+\.png</code>.*?</p>", re.S)
ENDINGS = ("png", "pdf", "csv")


def on_files(files: Any, config: Any) -> Any:
    """Every figure that a page names is a file of the site."""
    pages = "\n".join(one.content_string for one in files.documentation_pages())
    for name in sorted(set(NAMED.findall(pages))):
        for ending in ENDINGS:
            path = ROOT / "figures" / f"{name}.{ending}"
            if path.is_file():
                uri = f"figures/{path.name}"
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Figures behind the paragraphs that name them; names elsewhere are links."""
    shown: set[str] = set()

    def address(name: str, ending: str) -> str:
        return get_relative_url(f"figures/{name}.{ending}", page.url)

    def behind(found: re.Match[str]) -> str:
        names = [one for one in dict.fromkeys(NAMED.findall(found[0])) if there(one) - shown]
        shown.update(names)
        return found[0] + "".join(figure(name) for name in names)

    def figure(name: str) -> str:
        links = [
            f'<a href="{address(name, ending)}">{ending.upper()}</a>'
            for ending in ENDINGS[1:]
            if (ROOT / "figures" / f"{name}.{ending}").is_file()
        ]
        says = escape(alternative(name), quote=True)
        return (
            f'<figure class="result" id="figure-{name}"><a href="{address(name, "png")}">'
            f'<img alt="{says}" src="{address(name, "png")}" loading="lazy"></a>'
            f"<figcaption>{says} {' · '.join(links)}</figcaption></figure>"
        )

    def link(code: str) -> str | None:
        found = NAMED.fullmatch(code)
        if not found or not there(found[1]):
            return None
        name = found[1]
        goal = f"#figure-{name}" if name in shown else address(name, "png")
        return f'<a href="{goal}"><code>{code}</code></a>'

    return change_code(PARAGRAPH.sub(behind, html), link)


def there(name: str) -> set[str]:
    """The figure, if it was drawn: tests/test_docs.py is what misses it."""
    return {name} if (ROOT / "figures" / f"{name}.png").is_file() else set()


def alternative(name: str) -> str:
    """What a figure shows, in a sentence: the first one of the experiment that makes it."""
    path = ROOT / "experiments" / f"{name}.py"
    if not path.is_file():
        return name.replace("_", " ").capitalize() + "."
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or name
    return " ".join(said.split("\n\n")[0].split())
