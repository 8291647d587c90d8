"""Five to eight dimensions: cuts of D_n+, which is E8 for n = 8, against FSQ of as many tokens.

`regime_map` searches for what is best, up to four dimensions; here nothing is searched. FSQ's
curves are exact, those of the cuts sampled, with errors. At equal power both have mean |e|^2 = n.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import optimize

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, among, least, setting
from tokenkl._validation import reject
from tokenkl.plotting import PAGE, label_panels, line_style, new_figure

ACCURACY, INFORMATION, BOX, POWER = "accuracy", "information", "box", "power"
QUANTITIES: dict[str, Callable[..., Any]] = {
    ACCURACY: tk.accuracy,
    INFORMATION: tk.mutual_information,
}
#: Errors within which two values count as equal.
SIGMAS = 4.0


def _rates(name: str, values: Any) -> None:
    if not values or not all(0 < one < 0.9 for one in values):
        reject(name, values, "error probabilities between 0 and 0.9")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    dimensions: tuple[int, ...] = setting((5, 6, 7, 8), "numbers n", least(2))
    levels: tuple[int, ...] = setting((2, 3, 4), "levels of FSQ", least(2))
    rates: tuple[float, ...] = setting(
        (0.6, 0.35, 0.2, 0.1, 0.05, 0.02, 0.01), "errors of FSQ at the noise levels", _rates
    )
    constraints: tuple[str, ...] = setting((BOX, POWER), "what is alike", among(BOX, POWER))
    samples: int = setting(2**14, "draws of each value", least(2**8))
    most_listed: int = setting(8192, "tokens up to which information is sampled", least(2))
    seed: int = setting(0, "of all random numbers", least(0))


SMOKE = Config((5, 8), (2,), (0.6, 0.05), samples=2**8)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every size, constraint, quantity and noise level; gains in dB of FSQ's SNR."""
    tasks = [
        (n, L, c) for n in config.dimensions for L in config.levels for c in config.constraints
    ]
    rows: list[dict[str, Any]] = []
    for done, (n, L, constraint) in enumerate(tasks):
        progress(done, len(tasks))
        fsq, cut = tk.FSQ((L,) * n), tk.LatticeCodebook("D+", L, n)
        # An SNR of the box is that of the power times n over the average power in the box.
        scales = [1.0, 1.0]
        if constraint == POWER:
            scales = [n / float(tk.average_power(one)) for one in (fsq, cut)]
        for rate in config.rates:
            own = _snr_of(fsq, rate)
            for name, quantity in QUANTITIES.items():
                if name == INFORMATION and L**n > config.most_listed:
                    continue
                snr = own / scales[0] * scales[1]
                found = quantity(cut, snr, key=config.seed, method=tk.MonteCarlo(config.samples))
                error = float(found.standard_error)
                ends = [
                    _gain(quantity, fsq, own, float(found) + way * SIGMAS * error)
                    for way in (0, -1, 1)
                ]
                rows.append(
                    {"n": n, "L": L, "K": L**n, "constraint": constraint, "quantity": name}
                    | {"rate": rate, "snr_db": 10 * math.log10(own / scales[0])}
                    | {"fsq": float(quantity(fsq, own)), "cut": float(found), "error": error}
                    | dict(zip(("gain_db", "low", "high"), ends, strict=True))
                )
    table = pd.DataFrame(rows)
    return table, _facts(table)


def _snr_of(fsq: tk.FSQ, rate: float) -> float:
    def off(log_snr: float) -> float:
        return float(tk.error_probability(fsq, math.exp(log_snr))) - rate

    return math.exp(optimize.brentq(off, -12, 12))


def _gain(quantity: Callable[..., Any], fsq: tk.FSQ, snr: float, value: float) -> float:
    """By how much FSQ's SNR has to change for this value, in dB; NaN beyond 20."""

    def off(db: float) -> float:
        return float(quantity(fsq, snr * 10 ** (db / 10))) - value

    return float(optimize.brentq(off, -20, 20)) if off(-20) < 0 < off(20) else math.nan


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    """Of every constraint, quantity and n: where cuts are surely ahead and surely behind."""
    out = []
    for keys, rows in table.groupby(["constraint", "quantity", "n"], sort=False):
        best = rows.loc[rows.gain_db.idxmax()]
        out.append(
            dict(zip(("constraint", "quantity", "n"), keys, strict=True))
            | {"cases": len(rows), "ahead": int((rows.low > 0).sum())}
            | {"behind": int((rows.high < 0).sum()), "largest_gain_db": float(best.gain_db)}
            | {"at_rate": float(best.rate), "at_levels": int(best.L)}
        )
    return {"summary": out}


def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Gains against FSQ's errors: rows by constraint and quantity, a column for each n."""
    dimensions = sorted(set(table.n))
    kinds = list(dict.fromkeys(zip(table.constraint, table.quantity, strict=True)))
    figure, axes = new_figure(len(kinds), len(dimensions), width=PAGE, panel_height=1.5)
    titles = []
    for row, (constraint, quantity) in enumerate(kinds):
        for column, n in enumerate(dimensions):
            part = table[
                (table.constraint == constraint) & (table.quantity == quantity) & (table.n == n)
            ]
            _draw(axes[row, column], part)
            titles.append(f"n = {n}")
        axes[row, 0].set_ylabel(f"{quantity}, {constraint}\ngain (dB)")
    for panel in axes[-1]:
        panel.set_xlabel("errors of FSQ")
    axes[min(2, len(kinds) - 1), 0].legend(fontsize="x-small", loc="lower center")
    label_panels(axes, titles)
    return figure


def _draw(panel: Axes, part: pd.DataFrame) -> None:
    for L, rows in part.groupby("L"):
        style = line_style(int(L) - 2)
        panel.fill_between(rows.rate, rows.low, rows.high, color=style["color"], alpha=0.25, lw=0)
        panel.plot(rows.rate, rows.gain_db, label=f"${L}^n$ tokens", **style)
    panel.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    panel.set(xscale="log", ylim=(-3.0, 2.6), xlim=(0.009, 0.7))
    panel.set_xticks([0.01, 0.1, 0.6], ["1 %", "10 %", "60 %"])
    panel.minorticks_off()


EXPERIMENT = Experiment(
    "structured_regimes",
    "Beyond four dimensions: at equal power cuts of D_n+ need less SNR than FSQ of as many tokens "
    "where errors are rare; in the same box far fewer do.",
    Config(),
    SMOKE,
    compute,
    plot,
    errors={"cut": "error", "gain_db": ("low", "high")},
)
