"""What one comparison of a job found: a row of the table, and of the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def row(
    job: str,
    beside: str,
    ours: Sequence[float],
    theirs: Sequence[float] | None,
    floors: dict[str, float] | None = None,
    **facts: Any,
) -> Row:
    """A row out of the seconds of ours, and of what stands beside it, at every turn.

    Seconds and their ratio are of the least of each; `spread` is the largest ratio of a turn over
    the smallest. `fractions` are floors over our seconds (see `benchmarks.floors`); a job without
    a floor says why in `no_floor`.

    Example:
        >>> found = row("job", "rival", [2.0, 2.5], [8.0, 12.0], {"kernel": 1.0})
        >>> found["ratio"], round(found["spread"], 2), found["fractions"]
        (4.0, 1.2, {'kernel': 0.5})
    """
    ours_least, floors = min(ours), floors or {}
    found: Row = {"job": job, "beside": beside, "our_seconds": ours_least}
    if theirs is None:
        found |= {"their_seconds": None, "ratio": None, "spread": None}
    else:
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        spread = max(ratios) / min(ratios) if len(ratios) > 1 else None
        least = min(theirs)
        found |= {"their_seconds": least, "ratio": least / ours_least, "spread": spread}
    fractions = {name: seconds / ours_least for name, seconds in floors.items()}
    return found | {"floors": floors, "fractions": fractions, **facts}
