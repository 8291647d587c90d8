"""Rows as a table in the terminal, and their ratios as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.comparison import Change
from benchmarks.rows import Row


def floor_of(row: Row) -> str:
    """Each floor in seconds, and the fraction of it that was reached; or why there is none.

    Example:
        >>> floor_of({"floors": {"kernel": 0.25}, "fractions": {"kernel": 0.5}})
        'kernel 0.25 s, 50%'
        >>> floor_of({"floors": {}, "no_floor": "latency"})
        'none: latency'
    """
    parts = row["floors"].items()
    told = [f"{name} {took:.2g} s, {row['fractions'][name]:.0%}" for name, took in parts]
    return "\n".join(told) if told else f"none: {row['no_floor']}"


def notes_of(row: Row) -> str:
    """What else a row says."""
    notes = []
    if "ns_per_token_and_level" in row:
        notes.append(f"{row['ns_per_token_and_level']:.2f} ns a token and level")
    if "nodes" in row:
        notes.append(f"from {row['nodes']} nodes")
    if "per_level_stopping_ratio" in row:
        notes.append(f"{row['per_level_stopping_ratio']:.3g}x if they stopped level by level")
    if "relative_error" in row:
        notes.append(f"{row['value']:.2g} to {row['relative_error']:.2%}, {row['samples']} samples")
    if "peak_memory_mib" in row:
        notes.append(f"peak {row['peak_memory_mib']:.0f} MiB")
    if "processor_ratio" in row:
        notes.append(f"{row['processor_ratio']:.2f} of the processor seconds")
    if row.get("loaded"):
        notes.append(f"loaded ({row.get('load_average')}): wall seconds are worth little")
    return "; ".join(notes)


def print_table(rows: Sequence[Row], changes: Sequence[Change]) -> None:
    """One row for each comparison: seconds, ratios, those of before, floors."""
    names = "job", "beside it", "ours, s", "theirs, s", "ratio", "committed", "wanted"
    table = Table(*names)
    table.add_column("floor, reached", no_wrap=True)
    table.add_column("notes")
    for row, change in zip(rows, changes, strict=True):
        spread = "" if row["spread"] is None else f" ±{(row['spread'] - 1) / 2:.0%}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}x{spread}"
        wanted = f"{row['target_ratio']:g}x" if row.get("target_ratio") else ""
        if row.get("limit_seconds"):
            wanted += f" {row['limit_seconds']:g} s"
        theirs = "" if row["their_seconds"] is None else f"{row['their_seconds']:.3g}"
        numbers = f"{row['our_seconds']:.3g}", theirs, ratio, str(change), wanted
        table.add_row(row["job"], row["beside"], *numbers, floor_of(row), notes_of(row))
    Console(width=220).print(table)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Bars of all ratios of processor seconds; a mark where a ratio was aimed at."""
    from tokenkl.plotting import COLOURS, PAGE, new_figure, save_figure

    shown = [row for row in rows if row["ratio"] and "threads" not in row][::-1]
    where = np.arange(len(shown))
    figure, axes = new_figure(width=PAGE, panel_height=0.28 * len(shown) + 0.8)
    panel = axes[0, 0]
    panel.barh(where, [row["ratio"] for row in shown], color=COLOURS[5], height=0.6)
    wanted = [(row["target_ratio"], i) for i, row in enumerate(shown) if row.get("target_ratio")]
    style = {"marker": "|", "linestyle": "", "markersize": 12, "markeredgewidth": 2}
    if wanted:
        panel.plot(*zip(*wanted, strict=True), color=COLOURS[1], label="aimed at", **style)
        panel.legend(loc="center right", fontsize=7, frameon=False)
    for i, row in enumerate(shown):
        panel.annotate(
            f"{row['ratio']:.3g}",
            (row["ratio"], i),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    panel.set_yticks(where, [f"{row['job']}  |  {row['beside']}" for row in shown])
    panel.set_xscale("log")
    panel.margins(x=0.16)
    panel.grid(axis="y", visible=False)
    panel.set_xlabel("how many times faster (same process, one core)")
    save_figure(figure, path)
