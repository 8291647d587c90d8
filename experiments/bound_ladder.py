"""How many times too large are the bounds on what N steps of a sampler cost?

The exact path KL of the ancestral sampler with the exact denoiser stands below each of them. Bounds
that are proved with their constants (docs/theory/bounds.md, section 8) are drawn as they are;
published orders of growth, whose constants are not known, with the constant 1.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, increasing, least, most, setting
from tokenkl import bounds
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, new_figure

FSQ, ONE_HOT, LATTICE, CHAIN = "FSQ $3^8$", "one-hot", "E8 cut", "Markov source"
#: Proved, then published up to a constant, each from the smallest up.
RUNGS = (
    "MMSE at the steps",
    "entropy",
    "dimension",
    "Lipschitz denoiser",
    "entropy squared / N",
    "nearly linear in n",
    "Lipschitz score",
)
PROVED = 4


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Codebooks, grids and effort. SNRs are those of the box [-1, 1]^n, steps equal in log SNR."""

    seed: int = setting(20261128, "of all random numbers", least(0))
    start_db: float = setting(-30.0, "SNR where sampling starts, in dB", least(-100))
    stop_db: float = setting(20.0, "SNR where it stops, in dB", most(100))
    steps: tuple[int, ...] = setting(
        (2, 4, 8, 16, 32, 64, 128), "numbers of steps", least(1), increasing
    )
    n: int = setting(8, "dimension, of 3^n tokens; the E8 cut is there at 8", least(1), most(8))
    samples: int = setting(2**12, "draws for each path KL", least(2))
    mmse_samples: int = setting(2**10, "draws for each MMSE", least(2))
    length: int = setting(6, "tokens in a sequence of the Markov source", least(2), most(7))
    kept: float = setting(0.8, "probability that the next token is the same", most(0.99))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising("start_db", "stop_db")


SMOKE = Config(steps=(2, 16), n=2, samples=200, mmse_samples=100, length=3)


def codebooks(config: Config) -> dict[str, tk.Codebook]:
    """The tokens, and the sequences of the source as tokens."""
    found: dict[str, tk.Codebook] = {
        FSQ: tk.FSQ((3,) * config.n),
        ONE_HOT: tk.OneHot(3**config.n),
    }
    if config.n == 8:
        found[LATTICE] = tk.scale_to(tk.e8_codebook(), box=1.0)
    chain = tk.sources.Markov(
        config.kept * np.eye(3) + (1 - config.kept) * (1 - np.eye(3)) / 2, config.length
    )
    every = np.indices((3,) * config.length).reshape(config.length, -1).T
    line = tk.FSQ((3,)).points[:, 0]
    found[CHAIN] = tk.PointCodebook(line[every], chain.joint().ravel())
    return found


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A row for every codebook, number of steps and rung, with the exact KL beside it."""
    low, high = (10 ** (db / 10) for db in (config.start_db, config.stop_db))
    grids = [tk.step_grid("log-snr", N, low, high) for N in config.steps]
    levels = np.unique(np.concatenate(grids))
    rows = []
    books = codebooks(config)
    for number, (name, book) in enumerate(books.items()):
        exact = name in (FSQ, ONE_HOT)
        method = None if exact else tk.MonteCarlo(n_samples=config.samples)
        found = tk.ancestral_kl_curve(book, grids, method=method, key=config.seed)
        # Bounds take the ends of intervals, which are narrow where rare events are sampled.
        auto = tk.Auto(n_samples=config.mmse_samples)
        wanted = ("mmse", "mutual_information")
        known = tk.profile(book, levels, wanted, method=auto, key=config.seed)
        for index, (N, grid) in enumerate(zip(config.steps, grids, strict=True)):
            at, kl = np.searchsorted(levels, grid), found[index]
            interval = kl.confidence_interval(0.95)
            beside = {"codebook": name, "N": N, "exact": float(kl)}
            beside |= {"low": float(interval.low), "high": float(interval.high)}
            rows += [
                beside | {"rung": rung, "value": value}
                for rung, value in _rungs(book, grid, known, at).items()
            ]
        progress(number + 1, len(books))
    table = pd.DataFrame(rows)
    return table, _facts(table)


def _rungs(
    book: tk.Codebook, grid: np.ndarray, known: tk.Profile, at: np.ndarray
) -> dict[str, float]:
    """Every bound and rate on this grid, by its name."""
    rank = book.K - 1 if isinstance(book, tk.OneHot) else book.n  # of what the tokens span
    entropy = float(book.prior_entropy())
    N = grid.size - 1
    found: tuple[tk.Bound | bounds.Rate, ...] = (
        bounds.mmse_step_bound(known["mmse"][at], grid),
        bounds.entropy_step_bound(known["mutual_information"][at[-2]], grid),
        bounds.dimension_step_bound(rank, grid),
        bounds.lipschitz_step_bound(book, grid),
        bounds.entropy_squared_rate(entropy, N),
        bounds.dimension_rate(book, grid),
        bounds.lipschitz_score_rate(book, grid),
    )
    return {rung: float(one.value) for rung, one in zip(RUNGS, found, strict=True)}


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    times = table.assign(times=table.value / table.exact)
    return {
        "times_too_large": {
            name: {
                rung: {str(int(row.N)): float(row.times) for row in rows.itertuples()}
                for rung, rows in of_book.groupby("rung", sort=False)
            }
            for name, of_book in times.groupby("codebook", sort=False)
        },
        "exact": {
            name: {str(int(row.N)): float(row.exact) for row in rows.itertuples()}
            for name, rows in table[table.rung == RUNGS[0]].groupby("codebook", sort=False)
        },
    }


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """A panel for each codebook: bound over exact KL, against N."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.4)
    names = list(dict.fromkeys(table.codebook))
    for panel, letter, name in zip(axes.ravel(), "abcd", names, strict=False):
        _draw(panel, table[table.codebook == name])
        panel.set_title(rf"$\bf{{({letter})}}$ {name}", loc="left")
    for panel in axes.ravel()[len(names) :]:
        panel.set_visible(False)
    for panel in axes[:, 0]:
        panel.set_ylabel("bound over exact path KL")
    for panel in axes[-1]:
        panel.set_xlabel("sampling steps N")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _draw(axes: Any, table: pd.DataFrame) -> None:
    for number, rung in enumerate(RUNGS):
        rows = table[table.rung == rung]
        proved = number < PROVED
        axes.plot(
            rows.N,
            rows.value / rows.exact,
            linestyle="-" if proved else "--",
            color=COLOURS[number],
            marker=MARKERS[number],
            markersize=3,
            label=f"{rung} (proved)" if proved else f"{rung} (rate, constant 1)",
        )
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set(xscale="log", yscale="log")
    steps = sorted(set(table.N))
    axes.set_xticks(steps, [f"{N:g}" for N in steps])
    axes.minorticks_off()
    top = math.ceil(math.log10((table.value / table.exact).max()) / 2) * 2
    axes.set_ylim(10**-1.5, 10 ** (top + 0.4))


EXPERIMENT = Experiment(
    name="bound_ladder",
    claim="Bounds on what N steps cost, against the exact path KL: the MMSE at the steps and the "
    "entropy give away a factor of two at most steps, the dimension ten and more, Lipschitz "
    "constants powers of ten; published rates have unknown constants and are drawn with 1.",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"exact": ("low", "high")},
)
