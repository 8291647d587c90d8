"""How the time of a sampled profile grows with tokens, coordinates, levels and the target.

Each is moved over a decade, the others stay (K = 1000, n = 8, 16 levels; K = 100 where the target
moves). An exponent is the slope of a least-squares line
through logarithms, of the least processor seconds of several turns; its standard error is that of
the line, so that it holds both noise and a bend, as where a fixed cost matters at one end. Levels
go from error about 0.99 to about 1e-3 for every codebook. Two ways:

- "plain averages", of a fixed number of samples, every level by itself: the inner loop alone;
- "defaults": control variates, Sobol points, and levels read off between nodes. The number of
  samples is fixed too, but where the target moves.

Written are scaling.json and scaling.png.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import tokenkl as tk
from benchmarks.cases import QUANTITIES, Sizes, ends, even, gaussian, levels
from benchmarks.timing import Report, in_turns, part_of

Work = Callable[[], Any]

PLAIN, DEFAULTS = "plain averages", "defaults"
#: What is moved, as it stands on an axis.
TITLES = {
    "K": "tokens K",
    "n": "coordinates n",
    "levels": "noise levels",
    "target": "target standard error",
}


class Fit(NamedTuple):
    """seconds = factor * x^exponent, by least squares on logarithms."""

    exponent: float
    standard_error: float
    factor: float


def fit(x: Sequence[float] | np.ndarray, seconds: Sequence[float] | np.ndarray) -> Fit:
    """The power of x that goes through some times; at least three of them.

    Example:
        >>> fit([1.0, 2.0, 4.0], [3.0, 12.0, 48.0]).exponent
        2.0
    """
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(seconds, float))
    centred = log_x - log_x.mean()
    squares = float(centred @ centred)
    slope = float(centred @ log_y / squares)
    rest = log_y - log_y.mean() - slope * centred
    error = float(np.sqrt(rest @ rest / (log_x.size - 2) / squares))
    return Fit(round(slope, 12), error, float(np.exp(log_y.mean() - slope * log_x.mean())))


def _profile(codebook: tk.Codebook, snr: np.ndarray, method: tk.MonteCarlo) -> Work:
    return lambda: tk.profile(codebook, snr, QUANTITIES, method=method, key=0)


def works(sizes: Sizes) -> dict[str, tuple[np.ndarray, dict[str, list[Work]]]]:
    """For everything that is moved where it goes, and by way the profiles there."""
    span = np.geomspace(1, sizes.decade, sizes.points)
    counts = {
        "K": np.rint(sizes.tokens * span).astype(int),
        "n": np.rint(sizes.coordinates * span).astype(int),
        "levels": np.rint(sizes.scaled_levels * span).astype(int),
    }
    targets = sizes.scaled_target / span
    base = gaussian(sizes.tokens, sizes.coordinates)
    # A tenth of the tokens, since the smallest target asks for many samples.
    small = gaussian(max(sizes.tokens // 10, 8), sizes.coordinates)
    cases: dict[str, list[tuple[tk.PointCodebook, np.ndarray]]] = {}
    by_size = {
        "K": [gaussian(int(K), sizes.coordinates) for K in counts["K"]],
        "n": [gaussian(sizes.tokens, int(n)) for n in counts["n"]],
    }
    for name, codebooks in by_size.items():
        cases[name] = [(one, levels(one, sizes.scaled_levels)) for one in codebooks]
    decibels = ends(base)
    cases["levels"] = [(base, even(decibels, int(count))) for count in counts["levels"]]
    methods = {
        PLAIN: tk.MonteCarlo(n_samples=sizes.samples[0], variance_reduction=False),
        DEFAULTS: tk.MonteCarlo(n_samples=sizes.samples[1]),
    }
    found = {
        name: (
            counts[name],
            {
                way: [_profile(*case, method) for case in cases[name]]
                for way, method in methods.items()
            },
        )
        for name in counts
    }
    at = levels(small, sizes.scaled_levels)
    found["target"] = (
        targets,
        {
            way: [
                _profile(small, at, tk.MonteCarlo(atol=goal, variance_reduction=reduced))
                for goal in targets.tolist()
            ]
            for way, reduced in ((PLAIN, False), (DEFAULTS, True))
        },
    )
    return found


def measure(
    sizes: Sizes, report: Report, clock: Callable[[Callable[[], Any]], float]
) -> dict[str, Any]:
    """By what is moved: where (`x`), and by way the least seconds with their exponent."""
    found: dict[str, Any] = {}
    all_works = works(sizes)
    for place, (name, (x, ways)) in enumerate(all_works.items()):
        runs = {f"{way} {i}": run for way, some in ways.items() for i, run in enumerate(some)}
        part = part_of(report, place, len(all_works))
        took = in_turns(runs, sizes.turns, part, clock=clock)
        lines = {}
        for way, some in ways.items():
            seconds = [min(took[f"{way} {i}"]) for i in range(len(some))]
            exponent, error, factor = fit(x, seconds)
            lines[way] = {
                "seconds": seconds,
                "exponent": exponent,
                "standard_error": error,
                "factor": factor,
            }
        found[name] = {"x": x.tolist(), "lines": lines}
    return found


def print_exponents(found: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Exponents with their standard errors, beside those that are committed."""
    table = Table("processor seconds go with", "way", "exponent", "committed")
    for name, one in found.items():
        for way, line in one["lines"].items():
            then = before.get(name, {}).get("lines", {}).get(way)
            told = [_told(some) if some else "new" for some in (line, then)]
            ends = f"{one['x'][0]:g} to {one['x'][-1]:g}"
            table.add_row(f"{TITLES[name]}, {ends}", way, *told)
    Console(width=110).print(table)


def _told(line: Mapping[str, float]) -> str:
    return f"{line['exponent']:.2f} ± {line['standard_error']:.2f}"


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Seconds and fitted lines, one panel for everything that is moved; a column wide."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    from tokenkl.plotting import COLUMN, MARKERS, line_style, new_figure, save_figure

    figure, axes = new_figure(2, 2, width=COLUMN, panel_height=1.8)
    for panel, (name, one) in zip(axes.ravel(), found.items(), strict=True):
        x, ways = np.array(one["x"]), list(one["lines"].items())
        for index, (way, line) in enumerate(ways):
            style = line_style(index)
            fitted = line["factor"] * x ** line["exponent"]
            mark = {"marker": MARKERS[index], "markersize": 3.5}
            panel.plot(x, fitted, linewidth=1, **style)
            panel.plot(x, line["seconds"], color=style["color"], linestyle="", **mark)
            panel.plot([], [], label=way, **mark, **style)  # what the legend shows
            panel.annotate(
                f"exponent {_told(line)}",
                (0, 1),
                (0, 3 + 9 * (len(ways) - 1 - index)),
                xycoords="axes fraction",
                textcoords="offset points",
                color=style["color"],
                fontsize=7,
            )
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel(TITLES[name])
        panel.xaxis.set_major_locator(FixedLocator(sorted([x[0], x[x.size // 2], x[-1]])))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_minor_formatter(NullFormatter())
        if name != "target":
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    for panel in axes[:, 0]:
        panel.set_ylabel("processor seconds")
    handles, names = axes[0, 0].get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "outside upper center", "ncols": 2, "frameon": False}
    figure.legend(handles, names, fontsize=7, **place)
    save_figure(figure, path)
