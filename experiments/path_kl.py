"""Path KL of two pinned bridges: the closed form against simulated paths (claim C1).

For every schedule the theory gives KL = (1/2) |a1 - a2|^2 (snr(t_min) - snr(t_max)), and log
likelihood ratios N(KL, 2 KL). The simulation accumulates Girsanov's log ratio from drifts and never
uses the snr difference. Each point is a simulation of its own, with its own random stream.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special, stats

from experiments.harness import Experiment, Progress
from experiments.settings import Settings, among, holding, increasing, least, most, setting
from tokenkl._random import generator
from tokenkl._validation import reject
from tokenkl.divergence.bridge import path_kl, simulate_log_ratios
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, line_style, new_figure
from tokenkl.schedule import (
    EDM,
    VE,
    BetaVP,
    CosineVP,
    FlowMatching,
    LinearVP,
    Schedule,
    SubVP,
)

#: The schedules of the figure, by the name in its legend.
SCHEDULES: dict[str, Schedule] = {
    "LinearVP": LinearVP(),
    "CosineVP": CosineVP(),
    "BetaVP": BetaVP(),
    "SubVP": SubVP(),
    "VE": VE(),
    "EDM": EDM(),
    "FlowMatching": FlowMatching(),
}
#: Two tokens of FSQ 3 x 3 that differ by one level in both coordinates.
A1, A2 = np.array([0.0, 1.0]), np.array([1.0, 0.0])
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """What is simulated.

    The path ends where the KL is about `kls` (nats), a round number that each schedule reaches at
    its own t_min. In the convergence study, steps times paths stays at `convergence_work`.
    """

    seed: int = setting(260609962, "of all random numbers", least(0))
    t_max: float = setting(0.999, "where the path starts", least(0.5), most(0.999999))
    kls: tuple[float, ...] = setting(
        (5.0, 12.0, 30.0, 75.0, 200.0), "KLs at which it ends, in nats", least(0.01), increasing
    )
    n_paths: int = setting(20_000, "simulated paths of each point", least(2))
    n_steps: int = setting(256, "steps of each path", least(2))
    convergence_schedules: tuple[str, ...] = setting(
        ("LinearVP", "BetaVP"), "schedules of the convergence study", among(*SCHEDULES)
    )
    convergence_kl: float = setting(200.0, "its KL, in nats", least(0.01))
    convergence_steps: tuple[int, ...] = setting(
        (4, 8, 16, 32, 64, 128), "its numbers of steps", least(2), holding(16), increasing
    )
    convergence_work: int = setting(4_000_000, "its steps times paths", least(1000))
    convergence_max_paths: int = setting(250_000, "its most paths", least(2))
    curve_points: int = setting(60, "points of each closed-form curve", least(2))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.convergence_work < 2 * self.convergence_steps[-1]:
            expected = "enough for two paths of the most convergence_steps"
            reject("convergence_work", self.convergence_work, expected)


SMOKE = Config(
    kls=(3.0, 60.0),
    n_paths=2_000,
    n_steps=64,
    convergence_schedules=("LinearVP",),
    convergence_steps=(4, 16, 64),
    convergence_work=200_000,
    convergence_max_paths=10_000,
    curve_points=20,
)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows of three kinds: `curve` (closed form), `point` and `step` (simulations)."""
    runs = [("point", name, kl, config.n_steps) for name in SCHEDULES for kl in config.kls]
    runs += [
        ("step", name, config.convergence_kl, steps)
        for name in config.convergence_schedules
        for steps in config.convergence_steps
    ]
    rows: list[dict[str, Any]] = []
    for name, schedule in SCHEDULES.items():
        kl_range = np.geomspace(min(config.kls) / 3, max(config.kls) * 3, config.curve_points)
        for t in (_t_of_kl(schedule, kl, config.t_max) for kl in kl_range):
            rows.append(
                {
                    "kind": "curve",
                    "schedule": name,
                    "t_min": t,
                    "closed_form": float(path_kl(A1, A2, schedule, t, config.t_max)),
                }
            )
    done, total = 0.0, float(sum(_paths(config, kind, steps) * steps for kind, _, _, steps in runs))
    for stream, (kind, name, kl, steps) in enumerate(runs):
        progress(done, total)
        n_paths = _paths(config, kind, steps)
        rows.append(_simulate(config, stream, kind, name, kl, steps, n_paths))
        done += n_paths * steps
    progress(done, total)
    table = pd.DataFrame(rows)
    return table, _facts(config, table)


def _t_of_kl(schedule: Schedule, kl: float, t_max: float) -> float:
    """The t_min at which the closed form equals kl."""
    squared = np.square(A1 - A2).sum()
    return float(schedule.t_from_snr(2 * kl / squared + schedule.snr(t_max)))


def _paths(config: Config, kind: str, steps: int) -> int:
    if kind == "point":
        return config.n_paths
    return min(config.convergence_work // steps, config.convergence_max_paths)


def _simulate(
    config: Config, stream: int, kind: str, name: str, kl: float, steps: int, n_paths: int
) -> dict[str, Any]:
    """One simulation, its intervals, and how far it is from the theory in standard errors."""
    schedule = SCHEDULES[name]
    t_min = _t_of_kl(schedule, kl, config.t_max)
    closed = float(path_kl(A1, A2, schedule, t_min, config.t_max))
    key = int(generator(config.seed, stream).integers(2**31))
    ratios = simulate_log_ratios(
        A1, A2, schedule, t_min, config.t_max, key=key, n_paths=n_paths, n_steps=steps
    )
    mean, variance = ratios.mean(), ratios.var(ddof=1)
    error = np.sqrt(variance / n_paths)
    half = special.ndtri(0.5 + LEVEL / 2) * error
    # The ratios are normal, so that (n - 1) variance / true variance is chi-squared.
    free = n_paths - 1
    tails = stats.chi2.ppf([0.5 + LEVEL / 2, 0.5 - LEVEL / 2], free)
    return {
        "kind": kind,
        "schedule": name,
        "t_min": t_min,
        "n_steps": steps,
        "n_paths": n_paths,
        "closed_form": closed,
        "simulated": mean,
        "standard_error": error,
        "simulated_low": mean - half,
        "simulated_high": mean + half,
        "variance": variance,
        "variance_low": variance * free / tails[0],
        "variance_high": variance * free / tails[1],
        "z_mean": (mean - closed) / error,
        "z_variance": (variance / (2 * closed) - 1) / np.sqrt(2 / free),
    }


def _facts(config: Config, table: pd.DataFrame) -> dict[str, Any]:
    points = table[table["kind"] == "point"]
    closed = points["closed_form"]
    ratio = points["simulated"] / closed
    half = (points["simulated_high"] - points["simulated_low"]) / (2 * closed)
    weights = (closed / points["standard_error"]) ** 2
    steps = table[(table["kind"] == "step") & (table["n_steps"] >= 8) & (table["n_steps"] <= 32)]
    gap = np.abs(steps["simulated"] / steps["closed_form"] - 1)
    return {
        "n_points": len(points),
        "n_paths": config.n_paths,
        "n_steps": config.n_steps,
        "squared_distance": float(np.square(A1 - A2).sum()),
        "level": LEVEL,
        "intervals_of_the_mean_that_cover": int((np.abs(ratio - 1) <= half).sum()),
        "intervals_of_the_variance_that_cover": int(
            ((points["variance_low"] <= 2 * closed) & (2 * closed <= points["variance_high"])).sum()
        ),
        "largest_relative_deviation": float(np.abs(ratio - 1).max()),
        "largest_relative_half_width": float(half.max()),
        "smallest_relative_half_width": float(half.min()),
        "pooled_ratio": float((weights * ratio).sum() / weights.sum()),
        "pooled_ratio_half_width": float(special.ndtri(0.5 + LEVEL / 2) / np.sqrt(weights.sum())),
        "pooled_variance_over_kl": float((points["variance"] / closed).mean()),
        "pooled_variance_over_kl_half_width": float(
            special.ndtri(0.5 + LEVEL / 2) * 2 * np.sqrt(2 / (config.n_paths * len(points)))
        ),
        "p_value_of_all_means": float(stats.chi2.sf((points["z_mean"] ** 2).sum(), len(points))),
        "p_value_of_all_variances": float(
            stats.chi2.sf((points["z_variance"] ** 2).sum(), len(points))
        ),
        "order_in_the_step": float(
            -np.polyfit(np.log(steps["n_steps"]), np.log(gap), 1)[0]
            if steps["n_steps"].nunique() > 1
            else np.nan
        ),
        "error_at_16_steps": float(gap[steps["n_steps"] == 16].max()),
    }


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Curves with points, the two ratios at high resolution, convergence in the steps."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.5)
    names = list(dict.fromkeys(table["schedule"]))
    points = table[table["kind"] == "point"]
    closed = points["closed_form"]
    _draw_curves(axes[0, 0], table, names)

    panel = axes[0, 1]
    low, high = points["simulated_low"], points["simulated_high"]
    _draw_ratio(panel, points, names, points["simulated"] / closed, low / closed, high / closed)
    panel.axhspan(0.99, 1.01, color="#000000", alpha=0.07, linewidth=0)
    panel.axhline(1, color="#000000", linewidth=0.8)
    panel.set_ylim(0.974, 1.026)
    panel.set_ylabel("simulated KL / closed form")
    _note(
        panel,
        "grey band: ±1 %",
        f"all points pooled: {facts['pooled_ratio']:.4f} ± {facts['pooled_ratio_half_width']:.4f}\n"
        f"{facts['intervals_of_the_mean_that_cover']} of {facts['n_points']} bars (95 %) cover 1",
    )

    panel = axes[1, 0]
    low, high = points["variance_low"], points["variance_high"]
    _draw_ratio(panel, points, names, points["variance"] / closed, low / closed, high / closed)
    panel.axhline(2, color="#000000", linewidth=0.8)
    panel.set_ylim(1.86, 2.12)
    panel.set_ylabel("variance of the log ratio / KL (nats)")
    _note(
        panel,
        "",
        f"theory (line): 2;  mean of all: {facts['pooled_variance_over_kl']:.3f} ± "
        f"{facts['pooled_variance_over_kl_half_width']:.3f}\n"
        f"{facts['intervals_of_the_variance_that_cover']} of {facts['n_points']} bars (95 %) "
        "cover 2",
    )
    _draw_convergence(axes[1, 1], table, names)
    label_panels(
        axes,
        (
            "one formula holds for seven schedules",
            "the simulated mean agrees, bars below 1 %",
            "the log ratio's variance is twice its mean",
            "what remains is the step, of second order",
        ),
    )
    return figure


def _note(panel: Axes, above: str, below: str) -> None:
    """Small print at the upper and lower right of a panel."""
    for y, text, anchor in ((0.97, above, "top"), (0.03, below, "bottom")):
        panel.text(0.985, y, text, transform=panel.transAxes, ha="right", va=anchor, fontsize=7)


def _draw_curves(panel: Axes, table: pd.DataFrame, names: list[str]) -> None:
    for index, name in enumerate(names):
        rows = table[table["schedule"] == name]
        curve, points = rows[rows["kind"] == "curve"], rows[rows["kind"] == "point"]
        panel.plot(curve["t_min"], curve["closed_form"], **line_style(index))
        panel.errorbar(
            points["t_min"],
            points["simulated"],
            yerr=points["simulated_high"] - points["simulated"],
            color=COLOURS[index],
            marker=MARKERS[index],
            linestyle="none",
            markersize=4,
            elinewidth=0.8,
            label=name,
        )
    panel.set(xscale="log", yscale="log")
    curves = table[table["kind"] == "curve"]
    panel.set_xlim(curves["t_min"].min() / 25, 1)
    panel.set_xlabel("end of the reverse path, $t_{min}$ (share of the diffusion)")
    panel.set_ylabel("path KL (nats)")
    panel.legend(
        loc="lower left",
        handlelength=1.0,
        labelspacing=0.25,
        borderpad=0.1,
        borderaxespad=0.2,
        title="lines: closed form\npoints: simulated",
        title_fontsize=7,
        alignment="left",
    )


def _draw_ratio(
    panel: Axes, points: pd.DataFrame, names: list[str], value: Any, low: Any, high: Any
) -> None:
    """Values with bars, the schedules side by side at each KL."""
    for index, name in enumerate(names):
        own = points["schedule"] == name
        shift = 1.06 ** (index - (len(names) - 1) / 2)
        panel.errorbar(
            points["closed_form"][own] * shift,
            value[own],
            yerr=[(value - low)[own], (high - value)[own]],
            color=COLOURS[index],
            marker=MARKERS[index],
            linestyle="none",
            markersize=3,
            elinewidth=0.9,
        )
    panel.set_xscale("log")
    ticks = sorted(set(points["closed_form"].round(6)))
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.grid(visible=False, axis="x")
    panel.set_xlabel("closed-form KL (nats; schedules side by side)")


def _draw_convergence(panel: Axes, table: pd.DataFrame, names: list[str]) -> None:
    """Deviation from the closed form; hollow where it is smaller than its interval."""
    steps = table[table["kind"] == "step"]
    counts = sorted(set(steps["n_steps"].astype(int)))
    gap = np.abs(steps["simulated"] / steps["closed_form"] - 1)
    half = (steps["simulated_high"] - steps["simulated"]) / steps["closed_form"]
    floor = half.min() / 10
    for name in dict.fromkeys(steps["schedule"]):
        index = names.index(name)
        for seen in (True, False):
            own = (steps["schedule"] == name) & ((gap > half) == seen)
            panel.errorbar(
                steps["n_steps"][own],
                gap[own],
                yerr=[np.minimum(half, gap - floor / 10)[own], half[own]],
                color=COLOURS[index],
                marker=MARKERS[index],
                markerfacecolor=COLOURS[index] if seen else "white",
                linestyle="none",
                markersize=4.5,
                elinewidth=0.9,
                label=name if seen else None,
            )
    grid = np.array([counts[0], counts[-1]], dtype=float)
    for curve in (steps[steps["schedule"] == name] for name in dict.fromkeys(steps["schedule"])):
        at = curve.iloc[np.abs(curve["n_steps"] - 16).argmin()]
        height = abs(at["simulated"] / at["closed_form"] - 1) * at["n_steps"] ** 2
        colour = COLOURS[names.index(at["schedule"])]
        panel.plot(grid, height / grid**2, color=colour, linewidth=0.8, linestyle=":")
    panel.set(xscale="log", yscale="log", ylim=(floor, 1))
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.minorticks_off()
    panel.set_xlabel("steps of the simulation, equal in log SNR")
    panel.set_ylabel("|simulated KL / closed form − 1|")
    panel.legend(loc="upper right", handlelength=1.0, labelspacing=0.25)
    panel.text(
        0.02,
        0.03,
        "dotted: slope −2\nhollow: within the 95 % bar of 0",
        transform=panel.transAxes,
        fontsize=7,
    )


EXPERIMENT = Experiment(
    name="path_kl",
    claim=(
        "C1: the KL between reverse-time bridges to two tokens is half their squared distance "
        "times an SNR difference, for every schedule, with log ratios of variance 2 KL."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={
        "simulated": "standard_error",
        "variance": ("variance_low", "variance_high"),
        "z_mean": 1.0,
        "z_variance": 1.0,
    },
)
