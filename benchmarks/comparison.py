"""Ratios of this run beside those that are committed.

Times of two runs are never compared: machines differ, and so does their load. What is compared is
how many times faster than a rival in the same run, and only between machines whose description
(`benchmarks.machine.machine`) is the same. A ratio counts as worse or better where it changed by
more than the turns of either run differ.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.rows import Row

#: What is said of a ratio, and the mark behind it in the table.
MARKS = {
    "as before": "",
    "better": " better",
    "worse": " WORSE",
    "spread unknown": " ?",
    "other machine": " (other machine)",
    "new": "new",
    "no ratio": "",
}


class Change(NamedTuple):
    """The ratio of before, if there was one, and one of the words in `MARKS`."""

    before: float | None
    word: str

    def __str__(self) -> str:
        shown = "" if self.before is None else f"{self.before:.3g}x"
        return shown + MARKS[self.word]


def committed(path: Path) -> dict[str, Any]:
    """The record as it was last committed; outside a repository the file, and {} without one."""
    command = ["git", "show", f"HEAD:./{path.name}"]
    try:
        done = subprocess.run(command, cwd=path.parent, capture_output=True, check=True)
        return dict(json.loads(done.stdout))
    except (OSError, subprocess.CalledProcessError):
        return dict(json.loads(path.read_bytes())) if path.exists() else {}


def rows_of(record: dict[str, Any]) -> list[Row]:
    """All rows of a record."""
    return [row for rows in record.get("jobs", {}).values() for row in rows]


def compare(rows: Sequence[Row], before: Sequence[Row]) -> list[Change]:
    """What became of the ratio of each row, by its job and what stands beside it.

    Example:
        >>> then = {"job": "a", "beside": "b", "ratio": 8.0, "spread": 1.1, "machine": "M"}
        >>> [str(one) for one in compare([then | {"ratio": 6.0}], [then])]
        ['8x WORSE']
    """
    known = {(row["job"], row["beside"]): row for row in before}
    return [_change(row, known.get((row["job"], row["beside"]))) for row in rows]


def _change(now: Row, then: Row | None) -> Change:
    if now["ratio"] is None:
        return Change(None, "no ratio")
    if then is None or then["ratio"] is None:
        return Change(None, "new")
    before = then["ratio"]
    # Records of before machines were told apart say nothing of theirs.
    if "machine" not in now or then.get("machine") != now["machine"]:
        return Change(before, "other machine")
    spreads = [float(one["spread"]) for one in (now, then) if one.get("spread") is not None]
    if len(spreads) < 2:
        return Change(before, "spread unknown")
    spread = max(spreads)
    if before > now["ratio"] * spread:
        return Change(before, "worse")
    return Change(before, "better" if now["ratio"] > before * spread else "as before")
