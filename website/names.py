"""Names of the library are links to the reference: `tk.accuracy(...)` in lines and in blocks."""

from __future__ import annotations

import re
from typing import Any

from website.code import change_code
from website.questions import public_names, rooms
from website.reference import reference

#: `tk.name...`, or the name of a class alone.
SPAN = re.compile(
    r"(?:tk|tokenkl)\.(?P<name>\w+)|(?P<kind>[A-Z]\w*[a-z]\w*|FSQ|DDIM|EDM|VE)(?:\(.*\))?$"
)
#: `tk.name` as Pygments writes it.
BLOCK = re.compile(
    r'(<span class="n">tk</span><span class="o">\.</span>)(<span class="n">(\w+)</span>)'
)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    names = public_names()
    # Docstrings say `accuracy` of our function; elsewhere that may be a quantity or a column.
    plain = names - rooms() if page.url.startswith("api/") else frozenset()

    def link(code: str) -> str | None:
        found = SPAN.match(code)
        name = str(found["name"] or found["kind"]) if found else code
        if name not in (names if found else plain):
            return None
        return reference(name, f"<code>{code}</code>")

    def inside(found: re.Match[str]) -> str:
        if found[3] not in names:
            return found[0]
        return found[1] + reference(found[3], found[2])

    return BLOCK.sub(inside, change_code(html, link))
