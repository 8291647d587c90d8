"""Pages that live elsewhere in the repository, links to them, and what links are called."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
#: Name in the site, and file in the repository.
PAGES = {
    "experiments.md": "experiments/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}


def on_files(files: Any, config: Any) -> Any:
    for name, path in PAGES.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        # As seen from docs/, where the page is in the site.
        text = re.sub(r"\]\((\.\./)?docs/", "](", text)
        text = re.sub(r"\[(\w+)\]\(\.\./(figures/\w+\.png)\)", r"`\2`", text)
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links out of docs/ to those files lead to their pages."""
    up = "../" * (page.file.src_uri.count("/") + 1)
    for name, path in PAGES.items():
        markdown = markdown.replace(f"]({up}{path}", f"]({up[3:]}{name}")
    return markdown


def on_page_context(context: Any, page: Any, config: Any, nav: Any) -> Any:
    """A link that is called by its file is called by its title."""
    titles = {one.file.src_uri: one.title for one in nav.pages}
    here = page.file.src_uri.rpartition("/")[0]

    def named(found: re.Match[str]) -> str:
        for uri in (found[1], posixpath.normpath(posixpath.join(here, found[1]))):
            if uri in titles:
                return f">{titles[uri]}</a>"
        return found[0]

    page.content = re.sub(r">([\w/.]+\.md)</a>", named, page.content)
    return context
