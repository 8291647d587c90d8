"""Which tokenization tells most about the token? It depends on what is held fixed: four views.

(i) the same box, (ii) the same average power, (iii) the same power in any number of dimensions,
(iv) no scale at all: the path KL of N ancestral sampling steps. K = 729 tokens, equal priors.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats
from scipy.interpolate import PchipInterpolator

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, most, setting
from tokenkl._random import generator
from tokenkl.numerics.paths import cheapest_paths
from tokenkl.plotting import (
    AXIS_LABELS,
    COLOURS,
    DASHES,
    PAGE,
    STYLE,
    draw_interval,
    line_style,
    new_figure,
)

K, N = 729, 6
#: Added before a logarithm: a sampled entropy of resolved tokens can be 0.
TINY = 1e-300

FSQ, PERTURBED = "FSQ $3^6$", "perturbed FSQ"
UNIFORM, GAUSSIAN, SPHERE, LATTICE = "VQ, uniform data", "VQ, Gaussian data", "sphere", "E6 ball"
ONE_HOT = "one-hot"
NUMBER = {FSQ: 0, LATTICE: 1, GAUSSIAN: 2, PERTURBED: 3, UNIFORM: 4, SPHERE: 5, ONE_HOT: 6}
#: Grids with 729 tokens in other numbers of dimensions.
GRIDS = {
    "FSQ $729^1$": (729,),
    "FSQ $27^2$": (27, 27),
    "FSQ $9^3$": (9, 9, 9),
    FSQ: (3,) * 6,
}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Sizes and seed; the grid is in decibels of average power over noise variance."""

    seed: int = setting(20260610, "of all random numbers", least(0))
    first_db: float = setting(-20.0, "lowest SNR, in dB", least(-100))
    last_db: float = setting(32.0, "highest SNR, in dB", most(100))
    levels: int = setting(105, "noise levels", least(4))
    #: Their spread is the error of what is computed from whole curves.
    batches: int = setting(8, "independent batches of draws", least(1))
    batch_samples: int = setting(2**13, "draws in each batch", least(2))
    data: int = setting(40_000, "vectors from which VQ learns", least(729))
    max_iter: int = setting(30, "most iterations of its k-means", least(1))
    steps: tuple[int, ...] = setting(
        (2, 3, 4, 6, 8, 12, 16), "numbers of sampling steps in (iv)", least(1)
    )
    step_levels: int = setting(400, "SNRs among which the steps are chosen", least(2))
    entropy_left: float = setting(
        0.05, "entropy at which sampling stops, in nats", least(1e-6), most(6)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising("first_db", "last_db")


SMOKE = Config(
    levels=8, batches=2, batch_samples=2**8, data=800, max_iter=2, steps=(2, 4, 8), step_levels=30
)


def codebooks(config: Config) -> dict[str, tk.Codebook]:
    """The codebooks of views (i) and (ii): 729 points in R^6."""
    grid = tk.FSQ((3,) * N)
    rng = generator(config.seed, 0)
    learn: dict[str, Any] = {"key": config.seed, "max_iter": config.max_iter}
    gaussian = rng.standard_normal((config.data, N))
    directions = gaussian / np.linalg.norm(gaussian, axis=1, keepdims=True)
    return {
        FSQ: grid,
        PERTURBED: tk.perturb(grid, 0.1, config.seed, box=1.0),
        UNIFORM: tk.vq_codebook(rng.uniform(-1, 1, (config.data, N)), K, **learn),
        GAUSSIAN: tk.vq_codebook(gaussian, K, **learn),
        # Spherical k-means: better spread than random unit vectors, which would be a straw man.
        SPHERE: tk.spherical_codebook(tk.vq_codebook(directions, K, **learn).points),
        LATTICE: tk.e6_codebook(K),
    }


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every view, codebook and SNR (views i to iii) or number of steps (iv)."""
    db = np.linspace(config.first_db, config.last_db, config.levels)
    books = codebooks(config)
    progress(1, len(books) + 2)
    parts: list[pd.DataFrame] = []
    powers: dict[str, float] = {}
    for number, (name, codebook) in enumerate(books.items()):
        # One run serves views (i), (ii) and (iv): they differ by a shift of the decibel axis only.
        normal = tk.scale_to(tk.centre(codebook), power=1.0)
        powers[name] = tk.average_power(_boxed(codebook))
        runs = _runs(normal, db, config, number)
        rows = _rows(name, runs)
        for view, shift in (("i", 10 * np.log10(powers[name])), ("ii", 0.0)):
            # In the box the SNR is 1 / sigma^2; the runs have power / sigma^2.
            reference = tk.scale_to(books[FSQ], power=powers[FSQ] if view == "i" else 1.0)
            fsq = tk.mutual_information(reference, 10 ** ((db - shift) / 10)).bits.value
            parts.append(rows.assign(view=view, x=db - shift, fsq_bits=fsq))
        parts.append(_steps(name, db, runs, config))
        progress(number + 2, len(books) + 2)
    free: dict[str, tk.Codebook] = {name: tk.FSQ(levels) for name, levels in GRIDS.items()}
    for name, codebook in (free | {ONE_HOT: tk.OneHot(K)}).items():
        runs = [tk.profile(tk.scale_to(codebook, power=1.0), 10 ** (db / 10))]
        parts.append(_rows(name, runs).assign(view="iii", x=db))
        if name == ONE_HOT:
            parts.append(_steps(name, db, runs, config))
    table = pd.concat(parts, ignore_index=True)
    progress(1, 1)
    samples = {"samples": config.batches * config.batch_samples, "power_in_the_box": powers}
    return table, samples | _findings(table)


def _boxed(codebook: tk.Codebook) -> tk.Codebook:
    """Moved and scaled to fill the box [-1, 1]^n as far as one scale for all axes allows."""
    if isinstance(codebook, tk.FSQ):
        return codebook
    points = codebook.points
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    moved = tk.PointCodebook(points - middle, allow_duplicates=True)
    return tk.scale_to(moved, box=1.0)


def _runs(codebook: tk.Codebook, db: np.ndarray, config: Config, number: int) -> list[tk.Profile]:
    """One exact profile, or independent sampled ones."""
    snr = 10 ** (db / 10)
    if isinstance(codebook, tk.ProductCodebook):
        return [tk.profile(codebook, snr)]
    method = tk.MonteCarlo(n_samples=config.batch_samples)
    keys = [config.seed + 1000 * number + batch for batch in range(config.batches)]
    return [tk.profile(codebook, snr, method=method, key=key) for key in keys]


def _rows(name: str, runs: list[tk.Profile]) -> pd.DataFrame:
    """Information in bits with a 95 % interval, from all runs together."""
    each = [run["mutual_information"].bits for run in runs]
    value = np.mean([one.value for one in each], axis=0)
    error = np.sqrt(np.sum([one.standard_error**2 for one in each], axis=0)) / len(each)
    half = stats.norm.ppf(0.975) * error
    supported = np.all([one.interval_supported for one in each], axis=0)
    columns = {"bits": value, "low": value - half, "high": value + half, "error": error}
    accuracy = np.mean([run["accuracy"].value for run in runs], axis=0)
    return pd.DataFrame({"codebook": name, **columns, "accuracy": accuracy, "supported": supported})


def _steps(name: str, db: np.ndarray, runs: list[tk.Profile], config: Config) -> pd.DataFrame:
    """Path KL of the N-step ancestral sampler on this codebook's own best grid of SNRs.

    For gamma_0 = 0 < ... < gamma_N it is (1/2) sum mmse(gamma_k)(gamma_{k+1} - gamma_k) minus the
    information gained from gamma_0 to gamma_N (docs/theory/sampler.md, statement 10), a sum over
    steps, so that dynamic programming over all grids of the tabulated SNRs finds the best. It has
    no scale: a factor on the points leaves it as it is.
    """
    left = np.mean([run["conditional_entropy"].value for run in runs], axis=0)
    # Beyond where the grid ends a sampled mean may be below 0.
    left = np.maximum(left, TINY)
    end_db = float(np.interp(-np.log(config.entropy_left), -np.log(left), db))
    # The grid that steps may use is finer than the sampled one, and ends between its SNRs: either
    # would else cost some codebooks several per cent more than others.
    fine = np.linspace(config.first_db, end_db, config.step_levels)
    gamma = np.concatenate([[0.0], 10 ** (fine / 10)])

    def cost(runs: list[tk.Profile]) -> np.ndarray:
        mmse = np.mean([run["mmse"].value for run in runs], axis=0)
        nats = np.mean([run["mutual_information"].value for run in runs], axis=0)
        # At gamma = 0 the MMSE is the power, which is 1, and nothing is known yet.
        logs = np.log(np.maximum(mmse, TINY))
        mmse = np.append(1.0, np.exp(PchipInterpolator(db, logs)(fine)))
        nats = np.append(0.0, PchipInterpolator(db, nats)(fine))
        table = mmse[:, None] * np.subtract.outer(-gamma, -gamma) / 2
        table -= np.subtract.outer(-nats, -nats)
        table[np.tril_indices(gamma.size)] = np.inf
        return table

    pooled = cost(runs)
    batches = [cost([run]) for run in runs]
    rows = []
    for step, (value, path) in enumerate(cheapest_paths(pooled, max(config.steps)), start=1):
        if step not in config.steps or path is None:
            continue
        each = [float(table[path[:-1], path[1:]].sum()) for table in batches]
        error = float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else 0.0
        half = stats.t.ppf(0.975, len(each) - 1) * error if len(each) > 1 else 0.0
        interval = {"nats": value, "low": value - half, "high": value + half, "error": error}
        rows.append({"view": "iv", "codebook": name, "x": step, **interval})
    return pd.DataFrame(rows)


def _findings(table: pd.DataFrame) -> dict[str, Any]:
    """Who wins where, as plain numbers."""
    out: dict[str, Any] = {}
    for view in ("i", "ii"):
        part = table[(table.view == view) & (table.codebook != FSQ) & table.supported.eq(True)]
        # One false alarm in 100 over all points of a view (Bonferroni).
        sure = float(stats.norm.ppf(1 - 0.01 / max(len(part), 1)))
        out[f"view_{view}"] = {}
        for name, rows in part.groupby("codebook", sort=False):
            gap = rows.bits - rows.fsq_bits
            wins = rows.x[gap > sure * rows.error]
            out[f"view_{view}"][name] = {
                "surely_above_fsq_db": [float(wins.min()), float(wins.max())]
                if len(wins)
                else None,
                "largest_gain_bits": float(gap.max()),
                "standard_error": float(rows.error[gap.idxmax()]),
                "at_db": float(rows.x[gap.idxmax()]),
                "largest_loss_bits": float(-gap.min()),
                "loss_at_db": float(rows.x[gap.idxmin()]),
            }
    free = table[table.view == "iii"].groupby("codebook")
    out["view_iii_db_for_half_the_bits"] = {
        name: _level(rows.bits, rows.x, np.log2(K) / 2) for name, rows in free
    }
    out["view_iii_db_for_accuracy_0.9"] = {
        name: _level(rows.accuracy, rows.x, 0.9) for name, rows in free
    }
    steps = table[table.view == "iv"].set_index(["codebook", "x"])
    out["view_iv_nats"] = {
        name: {str(int(x)): [float(v), float(e)] for x, v, e in zip(*part, strict=True)}
        for name, rows in steps.groupby("codebook")
        for part in [(rows.index.get_level_values("x"), rows.nats, rows.error)]
    }
    return out


def _level(values: pd.Series, x: pd.Series, target: float) -> float | None:
    """Where a rising curve reaches a value; None if it does not."""
    return float(np.interp(target, values, x)) if values.max() >= target else None


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """The four views."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.5)
    gains = [one["largest_gain_bits"] for one in facts["view_ii"].values()]
    titles = (
        "same box: FSQ tells most",
        f"same power: FSQ tells up to {max(gains):.2f} bits less" if gains else "same power",
        "same power: more dimensions tell more",
        "no scale: in R$^6$, N steps cost E6 least",
    )
    for panel, view, title in zip(axes.ravel(), ("i", "ii", "iii", "iv"), titles, strict=True):
        panel.set_title(rf"$\bf{{({view})}}$  {title}", loc="left")
        rows = table[table.view == view]
        {"iii": _draw_free, "iv": _draw_steps}.get(view, _draw_gaps)(panel, rows)
    axes[0, 0].set_xlabel(AXIS_LABELS["snr_db"] + ", box [−1, 1]$^6$")
    axes[0, 1].legend(loc="upper left")
    return figure


def _draw_gaps(axes: Any, table: pd.DataFrame) -> None:
    """Information minus that of FSQ."""
    for name in (PERTURBED, UNIFORM, SPHERE, LATTICE, GAUSSIAN):
        rows, style = table[table.codebook == name], line_style(NUMBER[name])
        gap = rows.bits - rows.fsq_bits
        axes.plot(rows.x, gap, **style, label=name)
        # Beyond, nearly every sample says the same, and the interval is not supported.
        known = rows[rows.supported.eq(True) & (rows.fsq_bits < np.log2(K) - 1e-4)]
        base = known.fsq_bits
        draw_interval(axes, known.x, known.low - base, known.high - base, **style)
    axes.axhline(0, color=COLOURS[0])
    axes.margins(y=0.1)
    axes.text(-9.7, 0, FSQ, color=COLOURS[0], va="bottom")
    axes.set(xlim=(-10, 26), ylabel="information minus FSQ's (bits)")
    axes.set_xlabel("average power / noise variance (dB)")


def _draw_free(axes: Any, table: pd.DataFrame) -> None:
    """Grids of other dimensions, and one-hot."""
    dimensions = {ONE_HOT: 729, **{name: len(levels) for name, levels in GRIDS.items()}}
    for number, (name, n) in enumerate(sorted(dimensions.items(), key=lambda item: -item[1])):
        rows = table[table.codebook == name]
        # Grids share FSQ's colour; dashes tell them apart.
        style = {"color": COLOURS[NUMBER[ONE_HOT if name == ONE_HOT else FSQ]]}
        style["linestyle"] = DASHES[(number - 1) % len(DASHES)]
        axes.plot(rows.x, rows.bits, **style, label=f"{name}: n = {n}")
    axes.set(xlim=(-9, 32), ylabel="information about the token (bits)", ylim=(0, 10.2))
    axes.set_xlabel("average power / noise variance (dB)")
    axes.legend(loc="upper left")


def _draw_steps(axes: Any, table: pd.DataFrame) -> None:
    """Path KL over that of FSQ, for the same number of steps."""
    fsq = table[table.codebook == FSQ].set_index("x").nats
    for name in (PERTURBED, UNIFORM, SPHERE, LATTICE, GAUSSIAN):
        rows, style = table[table.codebook == name].set_index("x"), line_style(NUMBER[name])
        draw_interval(axes, rows.index, rows.low / fsq, rows.high / fsq, **style)
        axes.plot(rows.index, rows.nats / fsq, **style)
    axes.axhline(1, color=COLOURS[0])
    axes.text(2, 1.002, FSQ, color=COLOURS[0], va="bottom")
    ratio = (table[table.codebook == ONE_HOT].set_index("x").nats / fsq).dropna()
    axes.text(
        0.97,
        0.04,
        f"one-hot: {ratio.min():.2f} to {ratio.max():.2f}",
        transform=axes.transAxes,
        ha="right",
        color=COLOURS[NUMBER[ONE_HOT]],
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks([2, 4, 8, 16], ["2", "4", "8", "16"])
    axes.set(xlabel="sampling steps N", ylabel="path KL of the sampler / FSQ's")


EXPERIMENT = Experiment(
    name="four_views",
    claim="Which tokenization is best depends on what is held fixed: FSQ tells most in a box, less "
    "than ball-shaped codebooks at equal power, and less than one-hot if dimensions are free.",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"bits": "error", "nats": "error"},
)
