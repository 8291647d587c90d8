"""Code that a page shows: where it stands, so that hooks change what they mean and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

#: Code in a line, outside of blocks of code, links and headings, which are stepped over.
CODE = re.compile(
    r"<pre\b.*?</pre>|<a\b.*?</a>|<autoref\b.*?</autoref>|<h[1-6]\b.*?</h[1-6]>|<code>(.*?)</code>",
    re.S,
)


def change_code(html: str, change: Callable[[str], str | None]) -> str:
    """The page with every piece of code in a line replaced by `change` of it, unless that is None.

    Example:
        >>> change_code("<pre><code>a</code></pre> <code>b</code>", lambda code: code.upper())
        '<pre><code>a</code></pre> B'
    """

    def changed(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        new = change(found[1])
        return found[0] if new is None else new

    return CODE.sub(changed, html)
