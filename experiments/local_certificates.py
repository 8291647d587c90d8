"""Is a grid a local maximum of its distances in its box? Certificates in exact arithmetic (C2).

Grids of equal levels, as the paper proves it for two and three; the published sets of unequal
levels, which are none; and the codebooks that beat FSQ.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.harness import Experiment, Progress
from experiments.settings import Settings, as_text, least, setting
from tokenkl import FSQ, Codebook, certify_local
from tokenkl._validation import reject
from tokenkl.numerics.neighbours import nearest_distances
from tokenkl.optimality import mean_nn_distance, min_distance
from tokenkl.optimality.counterexamples import COUNTEREXAMPLES
from tokenkl.plotting import COLOURS, PAGE, label_panels, line_style, new_figure

#: Of the table.
COLUMNS = (
    "kind", "codebook", "K", "n", "objective", "before", "verdict", "order", "value", "curvature",
    "step", "rise", "arithmetic",
)  # fmt: skip
OBJECTIVES = {"mean_distance": mean_nn_distance, "min_distance": min_distance}


def _grids(name: str, levels: Any) -> None:
    for one in levels:
        if not one or min(one) < 2 or np.prod(one, dtype=float) > 2**17:
            reject(
                name, as_text(one, ":"), "grids of at least two levels, and 2**17 tokens at most"
            )


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    levels: tuple[tuple[int, ...], ...] = setting(
        (
            (2, 2), (2,) * 3, (2,) * 4, (2,) * 8, (2,) * 12, (3, 3), (3,) * 3, (3,) * 4, (3,) * 8,
            (4,) * 6, (5,) * 4, (8, 5, 5, 5), (8, 6, 5), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5),
            (8, 8, 8, 5, 5, 5),
        ),
        "grids, levels with colons between them",
        _grids,
    )  # fmt: skip

    largest: int = setting(
        500, "numbers K n up to which codebooks that beat FSQ are looked at too", least(0)
    )


SMOKE = Config(levels=((2, 2), (3, 3), (4, 3), (8, 6, 5)), largest=0)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows `certificate`, and `curve`: the rise along an ascent for each step."""
    codebooks: list[Codebook] = [FSQ(levels) for levels in config.levels]
    codebooks += [
        made for case in COUNTEREXAMPLES if (made := case.build()).K * made.n <= config.largest
    ]
    rows: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    total = float(sum(one.K for one in codebooks))
    done = 0.0
    for codebook in codebooks:
        for objective, measure in OBJECTIVES.items():
            before, start = measure(codebook), time.perf_counter()
            found = certify_local(codebook, objective)
            seconds[f"{codebook.label}, {objective}"] = round(time.perf_counter() - start, 2)
            row = {
                "codebook": codebook.label,
                "K": codebook.K,
                "n": codebook.n,
                "objective": objective,
                "before": before,
            }
            rows.append(
                {
                    **row,
                    "kind": "certificate",
                    "verdict": found.verdict,
                    "order": found.order,
                    "value": found.value,
                    "curvature": found.curvature,
                    "step": found.step,
                    "rise": found.gain,
                    "arithmetic": found.arithmetic,
                }
            )
            if found.direction is not None and objective == "mean_distance":
                unit = min_distance(codebook)
                for step in np.linspace(0.025, 0.7, 28) * unit:
                    moved = nearest_distances(found.points + step * found.direction)
                    rise = float(moved.mean()) - before
                    rows.append({**row, "kind": "curve", "step": step, "rise": rise})
        done += codebook.K
        progress(done, total)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table, _facts(table, seconds)


def _facts(table: pd.DataFrame, seconds: dict[str, float]) -> dict[str, Any]:
    """Which are maxima, and by how much the others rise, relative to what they had."""
    found = table[(table.kind == "certificate") & (table.objective == "mean_distance")]
    exact = found[found.arithmetic == "exact"]
    up = exact[exact.verdict == "not a maximum"]
    return {
        "strict_exactly": list(exact[exact.verdict == "strict"].codebook),
        "strict_in_floating_point": list(
            found[(found.verdict == "strict") & (found.arithmetic != "exact")].codebook
        ),
        "not_a_maximum": {
            one.codebook: {
                "order": int(one.order),
                "relative_rise": one.rise / one.before,
                "step": one.step,
            }
            for one in up.itertuples()
        },
        "seconds": seconds,
    }


def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Rise of D along the certified ascents; the rises of both objectives."""
    figure, axes = new_figure(1, 2, width=PAGE, panel_height=2.8)
    left, right = axes[0]
    curves = table[table.kind == "curve"]
    names = list(dict.fromkeys(curves.codebook))
    for place, name in enumerate(names):
        one = curves[curves.codebook == name]
        gap = table[(table.codebook == name) & (table.objective == "min_distance")].before.iloc[0]
        left.plot(one.step / gap, 100 * one.rise / one.before, label=name, **line_style(place))
    left.axhline(0, color="0.6", linewidth=0.8)
    left.set_xlim(0, 1.1)
    left.set_ylim(bottom=-5)
    left.set_xlabel("shift, in gaps of the finest axis")
    left.set_ylabel("change of D (%)")
    left.legend(fontsize="x-small")
    found = table[(table.kind == "certificate") & table.codebook.isin(names)]
    for place, (objective, label) in enumerate(
        (("mean_distance", "mean distance D"), ("min_distance", "smallest distance"))
    ):
        one = found[found.objective == objective].set_index("codebook").loc[names]
        right.barh(
            np.arange(len(names)) + 0.4 * place - 0.2,
            100 * one.rise / one.before,
            height=0.38,
            color=COLOURS[place],
            label=label,
        )
    right.set_yticks(np.arange(len(names)), names)
    right.invert_yaxis()
    right.set_xlabel("best rise along the certified direction (%)")
    right.set_xlim(0, 45)
    right.legend(loc="center right", fontsize="x-small")
    label_panels(axes, ("unequal levels: D rises in second order", "how far, at the best step"))
    return figure


EXPERIMENT = Experiment(
    "local_certificates",
    "C2: FSQ with equal levels is a strict local maximum of D in its box, with certificates in "
    "exact arithmetic; with unequal levels, as published tokenizers have them, it is none: D rises "
    "in second order.",
    Config(),
    SMOKE,
    compute,
    plot,
)
