"""Three levels and medium noise: FSQ 3^n against the same tokens with the centre on an edge.

The gain in accuracy is bracketed by one-dimensional integrals (docs/theory/optimality.md, O16): the
curves are bands, narrower than the lines over most of the range. Certificates in ball arithmetic
are in tokenkl/optimality/proofs/centre_to_edge_*.json.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import optimize

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, increasing, least, setting
from tokenkl.optimality.counterexamples import centre_to_edge
from tokenkl.optimality.moved_centre import centre_to_edge_gain
from tokenkl.plotting import COLOURS, PAGE, STYLE, label_panels, line_style, new_figure

#: Between these SNRs, 10^-3 and 100, the gain has its one change of sign for n = 3 to 8.
LOWEST, HIGHEST = 1e-3, 100.0


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Dimensions and noise levels; SNRs are in decibels."""

    dimensions: tuple[int, ...] = setting((3, 4, 5, 6, 7, 8), "numbers n", least(3), increasing)
    first_db: float = setting(-15.0, "lowest SNR, in dB", least(-40))
    last_db: float = setting(13.0, "highest SNR, in dB")
    step_db: float = setting(0.1, "from one SNR to the next, in dB", least(0.01))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising("first_db", "last_db")


SMOKE = Config(dimensions=(3, 4), step_db=2.0)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every n and SNR; facts: where the sign changes, where the gain is largest."""
    db = np.arange(config.first_db, config.last_db + config.step_db / 2, config.step_db)
    parts, cases = [], []
    for done, n in enumerate(config.dimensions):
        low, high = centre_to_edge_gain(n, 10 ** (db / 10))
        parts.append(pd.DataFrame({"n": n, "snr_db": db, "low": low, "high": high}))
        cases.append(_case(n))
        progress(done + 1, len(config.dimensions))
    return pd.concat(parts, ignore_index=True), {"cases": cases}


def _case(n: int) -> dict[str, Any]:
    """Noise levels s and SNRs: surely better from one s on, surely worse up to another."""

    def gain(log_snr: float, end: int) -> float:
        return float(centre_to_edge_gain(n, np.exp(log_snr))[end])

    ends = np.log([LOWEST, HIGHEST])
    better, worse = (optimize.brentq(gain, *ends, args=(end,), xtol=1e-12) for end in (0, 1))
    most = optimize.minimize_scalar(
        lambda x: -gain(x, 0), bounds=(ends[0], better), method="bounded", options={"xatol": 1e-7}
    ).x
    return {
        "n": n,
        "better_from_s": _noise(better),
        "worse_up_to_s": _noise(worse),
        "largest_gain_at_s": _noise(most),
        "largest_gain": gain(most, 0),
        "largest_gain_at_most": gain(most, 1),
        "accuracy_there": float(tk.accuracy(tk.FSQ((3,) * n), float(np.exp(most)))),
    }


def _noise(log_snr: float) -> float:
    """s, to the digits that a maximum can be found to."""
    return round(float(np.exp(-log_snr / 2)), 6)


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """The tokens in three dimensions, the gain, and where it begins."""
    figure, axes = new_figure(1, 3, width=PAGE, panel_height=2.8)
    _draw_tokens(axes[0, 0])
    _draw_gain(axes[0, 1], table)
    _draw_thresholds(axes[0, 2], facts)
    label_panels(axes, ("27 tokens, the centre moved", "accuracy gained", "where it begins"))
    return figure


def _draw_tokens(axes: Axes) -> None:
    """An oblique view of the box: x to the right, y into the page, z upwards."""

    def seen(points: Any) -> np.ndarray:
        x, y, z = np.asarray(points, dtype=float).T
        return np.array([x + 0.5 * y, z + 0.35 * y])

    for axis in range(3):
        for a, b in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            ends = np.insert([[a, b], [a, b]], axis, [-1, 1], axis=1)
            axes.plot(*seen(ends), color="0.75", linewidth=0.7, zorder=0)
    points = np.asarray(centre_to_edge(3).points)
    new = np.abs(np.abs(points[:, 0]) - 1 / 3) < 1e-9
    axes.plot(*seen(points[~new]), "o", color=COLOURS[0], markersize=3.5)
    axes.plot(*seen(points[new]), "o", color=COLOURS[1], markersize=5)
    gone = seen([[0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    axes.plot(*gone, "o", color=COLOURS[1], markersize=5, markerfacecolor="white")
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_gain(axes: Axes, table: pd.DataFrame) -> None:
    for place, (n, rows) in enumerate(table.groupby("n")):
        style = line_style(place)
        axes.fill_between(
            rows.snr_db, 1e6 * rows.low, 1e6 * rows.high, color=style["color"], alpha=0.35, lw=0
        )
        axes.plot(rows.snr_db, 1e6 * rows.low, label=f"n = {n}", **style)
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.set(ylim=(-60, 130), xlabel="SNR (dB)", ylabel="gain over FSQ $3^n$ (millionths)")
    axes.legend(fontsize="x-small")


def _draw_thresholds(axes: Axes, facts: dict[str, Any]) -> None:
    cases = pd.DataFrame(facts["cases"])
    axes.plot(cases.n, cases.better_from_s, "o-", color=COLOURS[1], label="the gain begins")
    axes.plot(cases.n, cases.largest_gain_at_s, "s--", color=COLOURS[0], label="it is largest")
    axes.set(xlabel="dimensions n", ylabel="noise s", ylim=(0, None), xticks=list(cases.n))
    axes.legend(fontsize="x-small")


EXPERIMENT = Experiment(
    "medium_noise",
    "C4, three levels: moving the centre of FSQ 3^n to an edge raises the accuracy from medium "
    "noise on, in every n from 3 to 8 that was looked at.",
    Config(),
    SMOKE,
    compute,
    plot,
)
