"""Where base 2 cannot be beaten: FSQ against Smith's capacity of the amplitude-limited channel.

I(k; Y) <= n C(h) for any tokens in the box, so that what a coordinate tells is at most C. Two
equiprobable points attain it up to h = 1.6659; no number of equiprobable levels does beyond.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, holding, least, most, setting
from tokenkl.bounds import capacity_input, capacity_threshold, mckellips_bound
from tokenkl.plotting import COLOURS, PAGE, STYLE, label_panels, line_style, new_figure

BITS = 1 / math.log(2)


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Noise levels, the numbers of levels, and how many thresholds to find."""

    first_db: float = setting(-20.0, "lowest SNR, in dB", least(-100))
    last_db: float = setting(20.0, "highest SNR, in dB", most(20))
    step_db: float = setting(0.25, "from one SNR to the next, in dB", least(0.01))
    bases: tuple[int, ...] = setting(
        (2, 3, 4, 5, 7, 9), "levels of the FSQ grids", least(2), holding(2, 3)
    )
    thresholds: int = setting(8, "points gained, up to 2 + this many", least(1))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising("first_db", "last_db")


SMOKE = Config(step_db=4.0, bases=(2, 3), thresholds=2)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows of three kinds: `curve` (information), `mass` (the best law) and `threshold`."""
    # The last level is 20 dB, h = 10, but for rounding.
    db = np.arange(config.first_db, config.last_db + config.step_db / 2, config.step_db)
    h = np.minimum(10 ** (db / 20), 10.0)
    rows: list[dict[str, Any]] = []
    gaps: list[float] = []
    for index, one in enumerate(h):
        progress(index, h.size)
        found = capacity_input(float(one))
        gaps.append(found.upper - found.lower)
        rows.append(_row("curve", "capacity", db[index], found.lower))
        for point, weight in zip(found.points, found.weights, strict=True):
            rows.append(_row("mass", "", db[index], point) | {"weight": weight})
    for base in config.bases:
        information = tk.mutual_information(tk.FSQ((base,)), h**2).value
        rows += [_row("curve", f"base {base}", *pair) for pair in zip(db, information, strict=True)]
    for name, curve in (
        ("Gaussian", np.log1p(h**2) / 2),
        ("McKellips", mckellips_bound(h).value),
    ):
        rows += [_row("curve", name, *pair) for pair in zip(db, curve, strict=True)]
    for points in range(2, 2 + config.thresholds):
        rows.append(_row("threshold", f"{points}", np.nan, capacity_threshold(points)))
    progress(1, 1)
    table = pd.DataFrame(rows)
    return table, _facts(table, max(gaps), config)


def _row(kind: str, name: str, db: float, value: float) -> dict[str, Any]:
    return {"kind": kind, "name": name, "snr_db": db, "value": value, "weight": np.nan}


def _facts(table: pd.DataFrame, gap: float, config: Config) -> dict[str, Any]:
    curves = _curves(table)
    threshold = capacity_threshold()
    below = curves.index <= 20 * math.log10(threshold)
    bases = curves[[f"base {base}" for base in config.bases]]
    loss = 1 - bases.max(axis=1) / curves["capacity"]
    return {
        "threshold": threshold,
        "threshold_db": 20 * math.log10(threshold),
        "threshold_noise": 1 / threshold,
        "largest_certified_gap_nats": gap,
        "largest_relative_loss_of_base_2_below": float(
            np.abs(1 - curves["base 2"] / curves["capacity"])[below].max()
        ),
        "largest_relative_loss_of_the_best_base": float(loss.max()),
        "at_db": float(loss.idxmax()),
        "base_2_beaten_by_base_3_from_db": _first(curves, "base 3", "base 2"),
        "thresholds": table.loc[table["kind"] == "threshold", "value"].tolist(),
    }


def _curves(table: pd.DataFrame) -> pd.DataFrame:
    """One column for every curve, by SNR."""
    return table[table["kind"] == "curve"].pivot(index="snr_db", columns="name", values="value")


def _first(curves: pd.DataFrame, one: str, other: str) -> float:
    ahead = curves.index[curves[one] > curves[other] * (1 + 1e-9)]
    return float(ahead[0]) if len(ahead) else math.nan


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Information for each coordinate, what is lost, and the best law."""
    figure, axes = new_figure(1, 3, width=PAGE, panel_height=2.7)
    curves = _curves(table)
    bases = [name for name in curves.columns if name.startswith("base")]
    _draw_information(axes[0, 0], curves, bases)
    _draw_loss(axes[0, 1], curves, bases)
    _draw_masses(axes[0, 2], table)
    for panel in axes[0]:
        panel.axvline(facts["threshold_db"], color="#000000", linewidth=0.8, linestyle=":")
        panel.set_xlabel("signal-to-noise ratio (dB)")
    axes[0, 1].text(
        facts["threshold_db"] - 0.6,
        2e-4,
        f"h = {facts['threshold']:.4f}",
        rotation=90,
        ha="right",
        va="bottom",
        fontsize=7,
    )
    label_panels(
        axes,
        (
            "no tokens in the box tell more",
            "base 2 loses nothing below 4.4 dB",
            "the best law gains points",
        ),
    )
    return figure


def _draw_information(panel: Axes, curves: pd.DataFrame, bases: list[str]) -> None:
    x = curves.index
    panel.plot(x, curves["capacity"] * BITS, color="#000000", linewidth=2.2, label="capacity")
    gaussian: dict[str, Any] = {
        "color": "#777777",
        "linewidth": 1,
        "label": "Gaussian input,\nsame power",
    }
    panel.plot(x, curves["Gaussian"] * BITS, **gaussian)
    for index, name in enumerate(bases):
        panel.plot(x, curves[name] * BITS, **line_style(index))
    panel.set(xlim=(-10, 20), ylim=(0, 2.9))
    panel.set_ylabel("information for each coordinate (bits)")
    panel.legend(loc="upper left", handlelength=1.6)


def _draw_loss(panel: Axes, curves: pd.DataFrame, bases: list[str]) -> None:
    for index, name in enumerate(bases):
        loss = 1 - curves[name] / curves["capacity"]
        # Below rounding there is nothing to be drawn.
        loss = loss.where(loss > 1e-9)
        panel.plot(curves.index, loss, label=name, **line_style(index))
    panel.set(yscale="log", ylim=(1e-5, 1), xlim=(-10, 20))
    panel.set_ylabel("share of the capacity that is lost")
    panel.legend(loc="lower right", handlelength=1.6, labelspacing=0.2)


def _draw_masses(panel: Axes, table: pd.DataFrame) -> None:
    masses = table[table["kind"] == "mass"]
    panel.scatter(
        masses["snr_db"],
        masses["value"],
        s=14 * masses["weight"] + 0.4,
        color=COLOURS[0],
        linewidths=0,
    )
    panel.set(xlim=(-10, 20), ylim=(-1.08, 1.08))
    panel.set_ylabel("mass points (size: weight)")


EXPERIMENT = Experiment(
    name="capacity",
    claim=(
        "Base 2 attains the amplitude-limited capacity up to h = 1.6659, so that no tokens in the "
        "box leave less entropy there; beyond, every FSQ loses some of it."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
)
