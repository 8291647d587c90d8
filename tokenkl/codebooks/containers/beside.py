"""What programs write beside a model: its configuration."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tokenkl._formats import MAX_JSON

#: What configurations are called, apart from those with the name of the model.
CONFIGURATIONS = ("config.json", "config.yaml", "config.yml")


def notes_beside(path: Path) -> dict[str, str]:
    """The texts of configurations in the folder of a model; what cannot be read tells nothing."""
    names = dict.fromkeys((*CONFIGURATIONS, *(f"{path.stem}.{end}" for end in ("json", "yaml"))))
    found = {}
    for name in names:
        one = path.with_name(name)
        with contextlib.suppress(OSError):
            if one != path and one.is_file() and one.stat().st_size <= MAX_JSON:
                found[f"{name} beside it"] = one.read_text(encoding="utf-8", errors="replace")
    return found
