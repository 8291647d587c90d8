"""How steep can the score of a tokenization be? The largest posterior variance in any direction.

Exact for FSQ and one-hot; found by search, hence lower bounds, for the others.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, increasing, least, setting
from tokenkl._random import generator
from tokenkl.plotting import AXIS_LABELS, COLOURS, MARKERS, PAGE, STYLE, line_style, new_figure

BASE2, BASE3, ONE_HOT = "FSQ base 2", "FSQ base 3", "one-hot"
PERTURBED, LATTICE = "perturbed base 3", "E8 cut"
VQ, RANDOM = "VQ, uniform data", "random in the box"
NUMBER = {BASE3: 0, PERTURBED: 3, LATTICE: 1, VQ: 4, RANDOM: 5, BASE2: 2, ONE_HOT: 6}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Noise levels, codebooks and effort of the searches."""

    seed: int = setting(20260613, "of all random numbers", least(0))
    db: tuple[float, ...] = setting(
        (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0), "SNRs of (a), in dB", increasing
    )
    K: int = setting(729, "tokens of the learned, random and one-hot codebooks", least(2))
    n: int = setting(6, "dimension of (a)", least(1))
    starts: int = setting(32, "starts of each search", least(1))
    dimensions: tuple[int, ...] = setting(
        (1, 2, 3, 4, 6, 8, 12, 16), "dimensions of (b)", least(1), increasing
    )
    tokens: int = setting(256, "random tokens in (b)", least(2))
    growth_db: float = setting(5.0, "SNR of (b), in dB")
    e8_starts: int = setting(9, "starts for the E8 cut", least(1))


SMOKE = Config(db=(0.0, 15.0), K=27, n=3, starts=4, dimensions=(1, 3), tokens=32, e8_starts=2)


def codebooks(config: Config) -> dict[str, tk.Codebook]:
    """Codebooks in the box [-1, 1]^n; E8 lives in eight dimensions."""
    rng = generator(config.seed, 0)
    grid = tk.FSQ((3,) * config.n)
    data = rng.uniform(-1, 1, (20 * config.K, config.n))
    return {
        BASE2: tk.FSQ((2,) * config.n),
        BASE3: grid,
        PERTURBED: tk.perturb(grid, 0.1, config.seed, box=1.0),
        VQ: tk.vq_codebook(data, config.K, key=config.seed, max_iter=15),
        RANDOM: tk.PointCodebook(rng.uniform(-1, 1, (config.K, config.n))),
        LATTICE: tk.scale_to(tk.e8_codebook(), box=1.0),
        ONE_HOT: tk.OneHot(config.K),
    }


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for each codebook and SNR (`snr`), and for each kind and dimension (`growth`)."""
    books = codebooks(config)
    rows = []
    total = len(books) * len(config.db) + len(config.dimensions)
    for name, book in books.items():
        starts = config.e8_starts if name == LATTICE else config.starts
        for db in config.db:
            found = tk.score_lipschitz(book, 10 ** (db / 10), key=config.seed, starts=starts)
            rows.append(_row("snr", name, db, found))
            progress(len(rows), total)
    for n in config.dimensions:
        snr = 10 ** (config.growth_db / 10)
        points = generator(config.seed, 1, n).uniform(-1, 1, (config.tokens, n))
        random = tk.PointCodebook(points)
        found = tk.score_lipschitz(random, snr, key=config.seed, starts=config.starts)
        rows.append(_row("growth", RANDOM, n, found))
        rows.append(_row("growth", BASE2, n, tk.score_lipschitz(tk.FSQ((2,) * n), snr)))
        rows.append(_row("growth", BASE3, n, tk.score_lipschitz(tk.FSQ((3,) * n), snr)))
        progress(min(len(rows), total), total)
    progress(1, 1)
    table = pd.DataFrame(rows)
    largest = table[table.kind == "snr"].groupby("codebook", sort=False)["covariance"].max()
    growth = table[(table.kind == "growth") & (table.codebook == RANDOM)]
    facts = {
        "largest_over_snr": {name: float(value) for name, value in largest.items()},
        "random_by_dimension": {
            str(int(n)): float(v) for n, v in zip(growth.x, growth.covariance, strict=True)
        },
        "dimension": config.n,
        "tokens_of_random": config.tokens,
        "growth_db": config.growth_db,
    }
    return table, facts


def _row(kind: str, name: str, x: float, found: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "codebook": name,
        "x": x,
        "covariance": float(found.covariance.value),
        "score": float(found.score.value),
        "ceiling": float(found.ceiling.value),
        "exact": found.is_exact,
    }


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Over the SNR, and over the dimension."""
    figure, axes = new_figure(1, 2, width=PAGE, panel_height=2.7)
    left, right = axes[0]
    for name, number in NUMBER.items():
        rows = table[(table.kind == "snr") & (table.codebook == name)]
        style = line_style(number) | {"marker": MARKERS[number], "markersize": 3.5}
        where = " (n = 8)" if name == LATTICE else ""
        left.plot(rows.x, rows.covariance, **style, label=name + where)
    left.set(xlabel=AXIS_LABELS["snr_db"] + ", box", yscale="log")
    left.set_ylabel("largest posterior variance\nin any direction (dist²)")
    left.set_yticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    left.minorticks_off()
    for name in (RANDOM, BASE2, BASE3):
        rows = table[(table.kind == "growth") & (table.codebook == name)]
        style = line_style(NUMBER[name]) | {"marker": MARKERS[NUMBER[name]], "markersize": 3.5}
        right.plot(rows.x, rows.covariance, **style)
    limit = table[(table.kind == "growth") & (table.codebook == BASE2)]
    right.plot(limit.x, limit.x, color=COLOURS[6], linestyle=":", linewidth=1)
    right.text(limit.x.max() * 0.62, limit.x.max() * 0.72, "n, the most in the box", ha="right")
    right.set(xlabel="dimension n", ylabel="largest posterior variance (dist²)")
    left.set_title(
        rf"$\bf{{(a)}}$ n = {facts['dimension']}: FSQ is at or below 1 (searched: at least)",
        loc="left",
    )
    right.set_title(
        rf"$\bf{{(b)}}$ {facts['tokens_of_random']} random tokens at {facts['growth_db']:g} dB: "
        "grows with n",
        loc="left",
    )
    figure.legend(loc="outside lower center", ncols=4)
    return figure


EXPERIMENT = Experiment(
    name="score_lipschitz",
    claim="The largest eigenvalue of the posterior covariance, hence the Lipschitz constant of the "
    "score, is at most 1 for FSQ in any dimension, and grows with it for random codebooks.",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
)
