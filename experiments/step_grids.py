"""Where should the steps of a sampler go? The best grids of SNRs against the usual ones.

The price is the path KL of the ancestral sampler with the exact denoiser (docs/theory/sampler.md,
10). Everything here is exact up to interpolation.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, as_text, holding, increasing, least, most, setting
from tokenkl._validation import reject
from tokenkl.plotting import AXIS_LABELS, COLOURS, MARKERS, PAGE, STYLE, line_style, new_figure
from tokenkl.samplers.grids import STEP_GRIDS, uniform_time_steps

OPTIMAL = "optimal"
#: How the rules are called in the figure.
RULES = {
    "uniform": "LinearVP, uniform t",
    "cosine": "CosineVP, uniform t",
    "beta": "BetaVP, uniform t",
    "flow": "FlowMatching, uniform t",
    "edm": "EDM, ρ = 7",
    "log-snr": "uniform in log SNR",
}
#: Steps of the grid that shows the density.
DENSE = 250
MAIN, ONE_HOT = "FSQ $3^8$", "one-hot"


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Range of SNRs as a share of the entropy that is left, and numbers of steps."""

    left_at_start: float = setting(
        0.9999, "share of the entropy left where sampling starts", least(0.5), most(0.9999)
    )
    left_at_end: float = setting(
        0.001, "share of the entropy left where it stops", least(1e-6), most(0.4)
    )
    steps: tuple[int, ...] = setting(
        (2, 3, 4, 6, 8, 12, 16, 25, 32, 64, 128, 256, 512),
        "numbers of steps", least(1), holding(8), increasing,
    )  # fmt: skip
    shown: int = setting(8, "number of steps whose grids are drawn, one of these", least(1))
    one_hot: int = setting(6561, "tokens of the one-hot codebook", least(2))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shown not in self.steps:
            reject("shown", self.shown, f"one of the steps {as_text(self.steps)}")


SMOKE = Config(steps=(2, 8), one_hot=20)


def codebooks(config: Config) -> dict[str, tk.Codebook]:
    """What is compared: FSQ of three kinds, and one-hot."""
    return {
        MAIN: tk.FSQ((3,) * 8),
        "FSQ $2^{13}$": tk.FSQ((2,) * 13),
        "FSQ $8\\times 5^3$": tk.FSQ((8, 5, 5, 5)),
        ONE_HOT: tk.OneHot(config.one_hot),
    }


def rule(name: str, N: int, low: float, high: float) -> np.ndarray:
    """The grid of a rule by its name here."""
    if name in STEP_GRIDS:
        return tk.step_grid(name, N, low, high)
    schedule = tk.BetaVP() if name == "beta" else tk.FlowMatching()
    return uniform_time_steps(N, low, high, schedule)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows of kinds `cost` (codebook, rule, N), `point` (a grid's SNRs) and `density`."""
    parts: list[pd.DataFrame] = []
    facts: dict[str, Any] = {"times_the_optimum": {}, "range_db": {}}
    books = codebooks(config)
    for number, (name, codebook) in enumerate(books.items()):
        low, high = _range(codebook, config)
        facts["range_db"][name] = [10 * np.log10(low), 10 * np.log10(high)]
        best = tk.optimal_step_grids(codebook, config.steps, low, high)
        rows = [(OPTIMAL, N, one.kl) for N, one in zip(config.steps, best, strict=True)]
        pairs = [(other, N) for other in RULES for N in config.steps]
        curve = tk.ancestral_kl_curve(codebook, [rule(*pair, low, high) for pair in pairs])
        rows += [(*pair, curve[index]) for index, pair in enumerate(pairs)]
        frame = pd.DataFrame(
            {
                "kind": "cost",
                "codebook": name,
                "rule": [row[0] for row in rows],
                "x": [float(row[1]) for row in rows],
                "value": [float(row[2].value) for row in rows],
                "error": [float(row[2].numerical_error) for row in rows],
            }
        )
        frame["asymptotic"] = best[0].asymptotic_kl * config.steps[0] / frame["x"]
        parts.append(frame)
        optimum = frame[frame["rule"] == OPTIMAL].set_index("x")["value"]
        facts["times_the_optimum"][name] = {
            other: {str(int(N)): float(v / optimum[N]) for N, v in rows.items()}
            for other in RULES
            for rows in [frame[frame["rule"] == other].set_index("x")["value"]]
        }
        if name == MAIN:
            parts.append(_points(config, low, high, best))
            parts.append(_densities(codebook, low, high))
        progress(number + 1, len(books))
    return pd.concat(parts, ignore_index=True), facts


def _range(codebook: tk.Codebook, config: Config) -> tuple[float, float]:
    """SNRs at which the entropy left is as configured, read off a fine profile."""
    db = np.linspace(-45, 35, 161)
    left = np.asarray(tk.conditional_entropy(codebook, 10 ** (db / 10)).value)
    share = left / float(codebook.prior_entropy())
    ends = [np.interp(-level, -share, db) for level in (config.left_at_start, config.left_at_end)]
    return float(10 ** (ends[0] / 10)), float(10 ** (ends[1] / 10))


def _points(config: Config, low: float, high: float, best: list[Any]) -> pd.DataFrame:
    N = config.shown
    grids = {OPTIMAL: best[config.steps.index(N)].snr}
    grids |= {name: rule(name, N, low, high) for name in RULES}
    return pd.concat(
        [
            pd.DataFrame({"kind": "point", "rule": name, "x": 10 * np.log10(grid)})
            for name, grid in grids.items()
        ]
    )


def _densities(codebook: tk.Codebook, low: float, high: float) -> pd.DataFrame:
    """Per dB: information, and the points of a large optimal grid."""
    law = tk.information_uniform_schedule(codebook, low, high)
    db = np.linspace(10 * np.log10(low), 10 * np.log10(high), 161)
    inside = np.log(10) / 10 * law.density(np.log(10) / 10 * db)
    snr = tk.optimal_steps(codebook, DENSE, low, high).snr
    middle = 5 * np.log10(snr[1:] * snr[:-1])
    steps = 1 / (DENSE * np.diff(10 * np.log10(snr)))
    rows = [("information", db, inside), ("optimal steps", middle, steps)]
    return pd.concat(
        [pd.DataFrame({"kind": "density", "rule": n, "x": x, "value": v}) for n, x, v in rows]
    )


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Cost over steps, cost by codebook, the grids, and densities."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.6)
    _draw_costs(axes[0, 0], table[(table.kind == "cost") & (table.codebook == MAIN)])
    _draw_codebooks(axes[0, 1], facts)
    _draw_points(axes[1, 0], table[table.kind == "point"])
    _draw_densities(axes[1, 1], table[table.kind == "density"])
    second = min(costs["8"] for costs in facts["times_the_optimum"][MAIN].values())
    titles = (
        f"{MAIN}, N = 8: others cost {second:.1f} times or more",
        "N = 8: the second best grid varies",
        f"{MAIN}, N = 8: the best steps are at high SNR",
        "steps belong later than the information",
    )
    for panel, letter, title in zip(axes.ravel(), "abcd", titles, strict=True):
        panel.set_title(rf"$\bf{{({letter})}}$ {title}", loc="left")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _draw_costs(axes: Any, table: pd.DataFrame) -> None:
    for index, name in enumerate([OPTIMAL, *RULES]):
        rows = table[table.rule == name]
        label = RULES.get(name, "optimal")
        axes.plot(rows.x, rows.value, **line_style(index), label=label)
    rows = table[(table.rule == OPTIMAL) & (table.x >= 4)]
    dots = {"color": "#777777", "linestyle": (0, (1, 2.5)), "linewidth": 2}
    axes.plot(rows.x, rows.asymptotic, **dots, label="law for large N")
    axes.set(xscale="log", yscale="log", xlabel="sampling steps N", ylabel="path KL (nats)")


def _draw_codebooks(axes: Any, facts: dict[str, Any]) -> None:
    costs = facts["times_the_optimum"]
    for index, name in enumerate(RULES):
        ratios = [costs[book][name]["8"] for book in costs]
        style = {"color": COLOURS[index + 1], "marker": MARKERS[index + 1]}
        axes.plot(range(len(costs)), ratios, linestyle="", markersize=5, **style)
    axes.axhline(1, color=COLOURS[0])
    axes.set_xticks(range(len(costs)), list(costs))
    axes.set(yscale="log", ylabel="path KL over the optimum's", xlim=(-0.5, len(costs) - 0.5))
    axes.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    axes.minorticks_off()


def _draw_points(axes: Any, table: pd.DataFrame) -> None:
    names = [OPTIMAL, *RULES]
    for index, name in enumerate(names):
        rows = table[table.rule == name]
        axes.plot(rows.x, np.full(len(rows), -index), marker="o", markersize=3, **line_style(index))
    axes.set_yticks([-i for i in range(len(names))], [RULES.get(n, n).split(",")[0] for n in names])
    axes.set_xlabel(AXIS_LABELS["snr_db"])


def _draw_densities(axes: Any, table: pd.DataFrame) -> None:
    for name, colour, dash in (("information", 2, "--"), ("optimal steps", 0, "-")):
        rows = table[table.rule == name]
        axes.plot(rows.x, rows.value, dash, color=COLOURS[colour], label=name)
    axes.set(xlabel=AXIS_LABELS["snr_db"], ylabel="share per dB")
    axes.legend(loc="upper left")


EXPERIMENT = Experiment(
    name="step_grids",
    claim="The best grid of sampling steps follows sqrt(-d mmse / d snr); usual grids cost several "
    "times its path KL, and which of them is best depends on the codebook.",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": "error"},
)
