"""Examples in docstrings as Griffe reads them: our heading is "Example:", its own "Examples:"."""

from __future__ import annotations

import re
from typing import Any

import griffe

HEADING = re.compile(r"^(\s*)Example:$", re.M)


class Examples(griffe.Extension):
    """So that they are shown as code, and not as prose."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = HEADING.sub(r"\1Examples:", obj.docstring.value)
