"""The best codebooks known, by the mean distance of nearest neighbours, and what none exceeds.

For every number of tokens that FSQ with equal levels has, in two to eight dimensions: FSQ's D, the
best that the atlas has (its value rounded down, from exact coordinates) and the smallest proved
upper bound.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, setting
from tokenkl import best_codebook, nn_distance_bound
from tokenkl._validation import reject
from tokenkl.plotting import COLOURS, PAGE, label_panels, new_figure

#: Of the table.
COLUMNS = ("n", "L", "K", "fsq", "best", "bound", "inequality", "how")
#: Best known and FSQ count as equal up to this part: values are rounded down.
EQUAL = 1e-9


def _dimensions(name: str, values: Any) -> None:
    if not values or min(values) < 2 or max(values) > 16:
        reject(name, values, "whole numbers from 2 to 16")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    dimensions: tuple[int, ...] = setting((2, 3, 4, 5, 6, 7, 8), "numbers n", _dimensions)
    largest: int = setting(65_536, "most tokens", least(4))
    most_levels: int = setting(16, "most levels of FSQ", least(2))


SMOKE = Config(dimensions=(2, 3), largest=40)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every FSQ with equal levels."""
    cases = [
        (n, L)
        for n in config.dimensions
        for L in range(2, config.most_levels + 1)
        if L**n <= config.largest
    ]
    rows = []
    for done, (n, L) in enumerate(cases):
        K = L**n
        found, bound = best_codebook(n, K), nn_distance_bound(n, K)
        fsq = 2 / (L - 1)
        rows.append(
            (n, L, K, fsq, max(found.value, fsq), float(bound.value), bound.name, found.how)
        )
        if found.value < fsq * (1 - EQUAL):  # cannot be: FSQ is one of its families
            raise AssertionError(f"{found} is below FSQ")
        progress(done + 1, len(cases))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table, _facts(table)


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    """Where FSQ is beaten, by how much, and how much is still open."""
    beaten = table[table.best > table.fsq * (1 + EQUAL)]
    closed = table[table.bound <= table.best * (1 + EQUAL)]
    return {
        "cases": len(table),
        "beaten": [
            {"n": int(r.n), "L": int(r.L), "K": int(r.K), "gain": r.best / r.fsq - 1}
            for r in beaten.itertuples()
        ],
        "closed": [{"n": int(r.n), "L": int(r.L)} for r in closed.itertuples()],
        "largest_gap": float((table.bound / table.best).max()),
    }


def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Best known and bound relative to FSQ, against the number of tokens."""
    figure, axes = new_figure(1, 2, width=PAGE, panel_height=3.0)
    left, right = axes[0]
    for place, (n, rows) in enumerate(table.groupby("n")):
        colour = COLOURS[place % len(COLOURS)]
        left.plot(
            rows.K, 100 * (rows.best / rows.fsq - 1), "o-", ms=3, color=colour, label=f"n = {n}"
        )
        right.plot(rows.K, rows.bound / rows.best, "o-", ms=3, color=colour)
    for one in (left, right):
        one.set_xscale("log")
        one.set_xlabel("tokens K")
    left.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    left.set_ylabel("best known D above FSQ (%)")
    left.legend(fontsize="x-small", ncols=2)
    right.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    right.set_ylim(bottom=0.97)
    right.set_ylabel("proved upper bound / best known D")
    right.set_yticks(np.arange(1.0, float((table.bound / table.best).max()) + 0.1, 0.1))
    label_panels(axes, ("best known against FSQ", "what is still open"))
    return figure


EXPERIMENT = Experiment(
    "atlas",
    "C3, beyond: the best codebooks known at FSQ's sizes, each D proved from exact coordinates, "
    "and the upper bounds that no codebook exceeds. FSQ 2^2, 2^3 and 3^2 are the best there are.",
    Config(),
    SMOKE,
    compute,
    plot,
)
