"""Bounds as brackets around exact curves: how much of accuracy and entropy geometry alone tells.

Nothing behind a bracket is sampled or exact: inequalities between error, entropy, information and
MMSE, and a few geometric ones to start from. The curves inside are exact (FSQ, one-hot) or sampled.
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
from matplotlib.lines import Line2D

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, most, setting
from tokenkl.bounds import brackets
from tokenkl.plotting import COLOURS, PAGE, STYLE, label_panels, new_figure

QUANTITIES = ("accuracy", "conditional_entropy")
#: Where a bound comes from in the end -> its colour and name in the legend.
FAMILIES = {
    "union bound": "union bound",
    "de Caen": "pairs of rivals (Bonferroni, de Caen)",
    "Bonferroni, second order": "pairs of rivals (Bonferroni, de Caen)",
    "any tokens in the box": "any tokens in the box",
    "capacity of the box": "Smith's capacity",
    "Gaussian input, same covariance": "Gaussian input, linear MMSE",
    "Gaussian input in the box": "Gaussian input, linear MMSE",
    "Gaussian input less chi-squared": "Gaussian input less chi-squared",
    "distances of pairs": "distances of pairs",
    "divergences of pairs": "distances of pairs",
    "linear MMSE": "Gaussian input, linear MMSE",
    "decay": "decay of the MMSE",
    "guess from the prior": "prior alone",
    "entropy of the prior": "prior alone",
    "range of the quantity": "prior alone",
}
ORDER = tuple(dict.fromkeys(FAMILIES.values()))
#: The curve itself is black.
PALETTE = tuple(colour for colour in COLOURS if colour != "#000000")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """The noise levels, and samples for the codebook that has no exact formula."""

    seed: int = setting(20261123, "of all random numbers", least(0))
    first_db: float = setting(-20.0, "lowest SNR, in dB", least(-100))
    last_db: float = setting(30.0, "highest SNR, in dB", most(100))
    step_db: float = setting(1.0, "from one SNR to the next, in dB", least(0.01))
    samples: int = setting(4096, "draws for the E8 cut", least(2))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising("first_db", "last_db")


SMOKE = Config(step_db=25.0, samples=128)


def codebooks() -> dict[str, tk.Codebook]:
    """As many tokens each."""
    return {
        "FSQ $3^8$": tk.FSQ((3,) * 8),
        "one-hot 6561": tk.OneHot(6561),
        "E8 cut": tk.e8_codebook(),
    }


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every codebook, quantity and SNR."""
    db = np.arange(config.first_db, config.last_db + config.step_db / 2, config.step_db)
    snr = 10 ** (db / 10)
    parts: list[pd.DataFrame] = []
    books = codebooks()
    for number, (name, codebook) in enumerate(books.items()):
        progress(number, len(books))
        method = tk.MonteCarlo(n_samples=config.samples) if name == "E8 cut" else None
        found = tk.profile(codebook, snr, QUANTITIES, method=method, key=config.seed)
        bracket = brackets(codebook, snr, QUANTITIES)
        for quantity in QUANTITIES:
            one, interval = bracket[quantity], found[quantity].confidence_interval(0.95)
            parts.append(
                pd.DataFrame(
                    {
                        "codebook": name,
                        "quantity": quantity,
                        "snr_db": db,
                        "value": found[quantity].value,
                        "value_low": interval.low,
                        "value_high": interval.high,
                        "lower": one.lower.value,
                        "upper": one.upper.value,
                        "lower_name": one.lower_names,
                        "upper_name": one.upper_names,
                    }
                )
            )
    progress(1, 1)
    table = pd.concat(parts, ignore_index=True)
    return table, _facts(table)


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    """Largest gaps, and whether every bracket holds its curve."""
    facts: dict[str, Any] = {"tokens": 6561}
    inside = (table["lower"] <= table["value_high"] + 1e-9) & (
        table["upper"] >= table["value_low"] - 1e-9
    )
    facts["brackets_that_hold"] = int(inside.sum())
    facts["brackets"] = len(table)
    for (name, quantity), rows in table.groupby(["codebook", "quantity"], sort=False):
        size = 1.0 if quantity == "accuracy" else math.log(6561)
        width = (rows["upper"] - rows["lower"]) / size
        facts[f"{name}, {quantity}"] = {
            "largest_width": float(width.max()),
            "at_db": float(rows["snr_db"].to_numpy()[int(np.argmax(width))]),
            "largest_gap_below": float(((rows["value"] - rows["lower"]) / size).max()),
            "largest_gap_above": float(((rows["upper"] - rows["value"]) / size).max()),
            "share_of_levels_within_5_percent": float((width <= 0.05).mean()),
        }
    return facts


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """A row for each quantity, a column for each codebook."""
    names = list(dict.fromkeys(table["codebook"]))
    figure, axes = new_figure(2, len(names), width=PAGE, panel_height=2.25, sharex=True)
    used: set[str] = set()
    for row, quantity in enumerate(QUANTITIES):
        for column, name in enumerate(names):
            rows = table[(table["codebook"] == name) & (table["quantity"] == quantity)]
            used |= _draw(axes[row, column], rows, 1.0 if row == 0 else 1 / math.log(2))
    for panel in axes[1]:
        panel.set_xlabel("signal-to-noise ratio (dB)")
    axes[0, 0].set_ylabel("Bayes accuracy")
    axes[1, 0].set_ylabel("entropy left, H(k | Y) (bits)")
    handles = [Line2D([], [], color="#000000", linewidth=1.2, label="exact or sampled")]
    handles += [
        Line2D([], [], color=PALETTE[ORDER.index(one) % len(PALETTE)], linewidth=2.2, label=one)
        for one in ORDER
        if one in used
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=3,
        title="Each end of a bracket has the colour of the bound that it starts from:",
        title_fontsize=7,
    )
    label_panels(
        axes,
        [f"{name}: off by up to {_off(facts, name, 'accuracy'):.2f}" for name in names]
        + [
            f"from below, at most {_off(facts, name, 'conditional_entropy', 'below'):.1f} bits off"
            for name in names
        ],
    )
    return figure


def _off(facts: dict[str, Any], name: str, quantity: str, side: str = "") -> float:
    """How far an end of a bracket is from the curve at most; in bits for the entropy."""
    gaps = facts[f"{name}, {quantity}"]
    unit = 1.0 if quantity == "accuracy" else math.log2(facts["tokens"])
    sides = (side,) if side else ("below", "above")
    return unit * max(gaps[f"largest_gap_{one}"] for one in sides)


def _draw(panel: Axes, rows: pd.DataFrame, unit: float) -> set[str]:
    """The curve, the bracket, and its ends in the colours of their bounds; which ones they are."""
    x = rows["snr_db"].to_numpy()
    low, high = rows["lower"].to_numpy() * unit, rows["upper"].to_numpy() * unit
    panel.fill_between(x, low, high, color="#BBBBBB", alpha=0.35, linewidth=0)
    panel.plot(x, rows["value"] * unit, color="#000000", linewidth=1.2)
    used = set()
    for end, names in ((low, rows["lower_name"]), (high, rows["upper_name"])):
        families = [FAMILIES[one.split(" < ")[-1]] for one in names]
        used |= set(families)
        for index in range(x.size - 1):
            panel.plot(
                x[index : index + 2],
                end[index : index + 2],
                color=PALETTE[ORDER.index(families[index]) % len(PALETTE)],
                linewidth=2.2,
                solid_capstyle="butt",
                alpha=0.9,
            )
    panel.set_xlim(x[0], x[-1])
    return used


EXPERIMENT = Experiment(
    name="bounds",
    claim=(
        "Brackets from the geometry alone hold accuracy and entropy of FSQ, one-hot and E8 at "
        "every SNR: closed where errors are rare, near to the entropy from below, else open."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("value_low", "value_high")},
)
