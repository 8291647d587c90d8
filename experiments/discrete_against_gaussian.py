"""Gaussian, masked and uniform-noise diffusion of one Markov source, all with exact denoisers.

The same chain of tokens, whose energies are bilinear in FSQ's coordinates: Gaussian diffusion with
FSQ's points under their own labels, permuted, and relabelled from the law alone; with a lattice cut
and one-hot; masked and uniform-noise diffusion. N evaluations of the exact law of each token given
the whole noisy sequence; nothing is learned. Two divergences: that of the joint laws of states and
tokens (identities), and that of data and generated tokens (short sequences). Each with its best
grid for the first one, and with a standard grid.

Hypotheses, written before the run (a pilot with another law, FSQ alone, had been seen: at 16
evaluations 0.29 nats against 0.074 of masking, joint laws):

H1. One evaluation costs all of them the same, the total correlation.
H2. In the joint laws masking costs least at every N from 2 on, uniform noise up to a tenth more,
    and both fall like 1/N. Every Gaussian costs more, since its steps pay for the whole state.
H3. Among Gaussians FSQ's own labels cost less than permuted ones and less than one-hot at every N
    from 2 on; labels from the law alone win back all that a permutation costs.
H4. The generated tokens are closer to the data than the joint laws, and more so with more steps:
    falling like 1/N^2 where the joint law falls like 1/N.
H5. In the generated tokens Gaussian diffusion with DDIM beats masking at 32 evaluations.
H6. A standard grid costs Gaussian diffusion more than twice what the best one does, masking less
    than a tenth more. (Cosine, between SNR 0 and where a token by itself is told but for 0.1 %;
    even steps of masking and of uniform noise.)
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import optimize

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, increasing, least, setting
from experiments.toy.data import codebook_points
from tokenkl import context, divergence
from tokenkl._random import generator
from tokenkl.plotting import PAGE, STYLE, draw_interval, line_style, new_figure
from tokenkl.sources import Markov, Source

FSQ, PERMUTED, RELABELLED = "FSQ", "permuted", "relabelled"
LATTICE, ONE_HOT = "lattice", "one-hot"
GAUSSIAN = (FSQ, PERMUTED, RELABELLED, LATTICE, ONE_HOT)
MASKED, UNIFORM = "masked", "uniform"
NUMBER = {name: index for index, name in enumerate((*GAUSSIAN, MASKED, UNIFORM))}
BEST, STANDARD = "best", "standard"
JOINT, DATA = "joint", "data"


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """The law, numbers of evaluations, and effort."""

    seed: int = setting(20261128, "of all random numbers", least(0))
    base: int = setting(3, "levels of each of two coordinates", least(2))
    strength: float = setting(1.5, "standard deviation of the energies' matrix", least(0))
    short: int = setting(3, "tokens in sequences that are gone through", least(2))
    long: int = setting(16, "tokens in long sequences", least(2))
    steps: tuple[int, ...] = setting(
        (1, 2, 4, 8, 16, 32), "numbers of evaluations", least(1), increasing
    )
    samples: int = setting(
        2**10, "sequences behind each joint KL, short ones of Gaussian", least(60)
    )
    long_samples: int = setting(2**8, "long ones of Gaussian diffusion", least(60))
    paths: int = setting(2**13, "paths behind each law of generated tokens", least(100))
    starts: int = setting(32, "starts of the search for labels", least(1))


SMOKE = Config(
    base=2, short=2, long=3, steps=(1, 3), samples=60, long_samples=60, paths=100, starts=2
)


def transition(config: Config) -> np.ndarray:
    """Energies bilinear in FSQ's coordinates."""
    points = np.asarray(tk.FSQ((config.base,) * 2).points)
    matrix = config.strength * generator(config.seed).standard_normal((2, 2))
    weights = np.exp(points @ matrix @ points.T)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def codebooks(config: Config, source: Source) -> dict[str, tk.Codebook]:
    """Every tokenization at FSQ's average power."""
    found = {
        name: codebook_points(name, config.base, 2, config.seed)
        for name in (FSQ, PERMUTED, LATTICE, ONE_HOT)
    }
    found[RELABELLED] = relabelled(found[PERMUTED], source.pair(0, 1), config)
    return {name: tk.PointCodebook(found[name], name=name) for name in GAUSSIAN}


def relabelled(points: np.ndarray, pair: np.ndarray, config: Config) -> np.ndarray:
    """The points in the order that agrees best with the canonical variates of neighbours.

    After a rotation; assignment and rotation in turns, from several rotations.
    """
    first, second = pair.sum(axis=1), pair.sum(axis=0)
    left, weight, _ = np.linalg.svd(pair / np.sqrt(np.outer(first, second)))
    kept = slice(1, 1 + points.shape[1])
    features = left[:, kept] / np.sqrt(first)[:, None] * weight[kept]
    rng, best, most = generator(config.seed, 1), points, -np.inf
    for _ in range(config.starts):
        rotation = np.linalg.qr(rng.standard_normal((points.shape[1],) * 2))[0]
        for _ in range(20):
            gains = first[:, None] * (features @ rotation @ points.T)
            placed = points[optimize.linear_sum_assignment(gains, maximize=True)[1]]
            U, sizes, V = np.linalg.svd((first[:, None] * features).T @ placed)
            rotation = U @ V
        if sizes.sum() > most:
            best, most = placed, sizes.sum()
    return best


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A row for every process, length, grid, divergence and number of evaluations."""
    rows: list[dict[str, Any]] = []
    matrix = transition(config)
    total = 2 * len(NUMBER)
    for place, length in enumerate((config.short, config.long)):
        source = Markov(matrix, length)
        short = length == config.short
        _masked(rows, config, source, short)
        progress(place * len(NUMBER) + 1, total)
        _uniform(rows, config, source, short)
        progress(place * len(NUMBER) + 2, total)
        for number, (name, book) in enumerate(codebooks(config, source).items()):
            _gaussian(rows, config, name, book, source, short)
            progress(place * len(NUMBER) + 3 + number, total)
    table = pd.DataFrame(rows)
    return table, _facts(config, table)


def _row(name: str, length: int, grid: str, what: str, sampler: str, N: int, kl: Any) -> Any:
    low, high, _ = kl.confidence_interval(0.95)
    known = {"process": name, "length": length, "grid": grid, "divergence": what}
    found = {"value": float(kl), "low": float(low), "high": float(high)}
    supported = bool(np.all(kl.interval_supported))
    return {**known, "sampler": sampler, "N": N, **found, "supported": supported}


def _masked(rows: list[Any], config: Config, source: Source, short: bool) -> None:
    best = context.unmasking_steps(source, config.steps)
    for N, one in zip(config.steps, best, strict=True):
        for grid, shown in ((BEST, one.shown), (STANDARD, np.linspace(0, 1, N + 1))):
            known = MASKED, source.length, grid
            rows.append(_row(*known, JOINT, "", N, context.unmasking_kl(source, shown)))
            if short:
                rows.append(_row(*known, DATA, "", N, context.unmasking_law(source, shown).kl))


def _uniform(rows: list[Any], config: Config, source: Source, short: bool) -> None:
    sampled = None if short else tk.MonteCarlo(n_samples=config.samples)
    options: dict[str, Any] = {"method": sampled, "key": None if short else config.seed}
    best = context.replacing_steps(source, config.steps, **options)
    for N, one in zip(config.steps, best, strict=True):
        for grid, levels in ((BEST, one.replaced), (STANDARD, np.linspace(1, 0, N + 1))):
            known = UNIFORM, source.length, grid
            kl = context.replacing_kl(source, levels, **options)
            rows.append(_row(*known, JOINT, "", N, kl))
            if short:
                rows.append(_row(*known, DATA, "", N, context.replacing_law(source, levels).kl))


def _gaussian(
    rows: list[Any], config: Config, name: str, book: tk.Codebook, source: Source, short: bool
) -> None:
    method = tk.MonteCarlo(n_samples=config.samples if short else config.long_samples)
    end = tk.optimality.information_range(book, key=config.seed)[1]
    options: dict[str, Any] = {"method": method, "key": config.seed}
    found = divergence.sequence_steps(book, source, config.steps, end, **options)
    grids = [
        np.zeros(1) if N == 1 else tk.step_grid("cosine", N - 1, 0.0, end) for N in config.steps
    ]
    standard = divergence.sequence_kl_curve(book, source, grids, **options)
    for index, N in enumerate(config.steps):
        both = (
            (BEST, found[index].snr, found[index].kl),
            (STANDARD, grids[index], standard[index]),
        )
        for grid, snr, kl in both:
            known = name, source.length, grid
            rows.append(_row(*known, JOINT, "ancestral", N, kl))
            for sampler in ("ancestral", "ddim") if short and grid == BEST else ():
                law = divergence.sequence_law(
                    book, source, snr, sampler=sampler, n_paths=config.paths, key=config.seed + N
                )
                rows.append(_row(*known, DATA, sampler, N, law.kl))


def _facts(config: Config, table: pd.DataFrame) -> dict[str, Any]:
    """Values by process and number of evaluations, and ratios of them."""
    facts: dict[str, Any] = {}
    for what, sampler, length in (
        (JOINT, ("", "ancestral"), config.short),
        (JOINT, ("", "ancestral"), config.long),
        (DATA, ("", "ancestral"), config.short),
        (DATA, ("", "ddim"), config.short),
    ):
        for grid in (BEST, STANDARD):
            part = table[
                (table.divergence == what)
                & table.sampler.isin(sampler)
                & (table.length == length)
                & (table.grid == grid)
            ]
            label = " ".join((what, sampler[-1], "length", str(length), grid))
            facts[label] = {
                name: {str(row.N): [row.value, row.low, row.high] for row in rows.itertuples()}
                for name, rows in part.groupby("process", sort=False)
            }
    for length in (config.short, config.long):
        chain = Markov(transition(config), length)
        facts[f"entropy length {length}"] = chain.entropy()
    return facts


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Joint KL of short and long sequences, KL of the tokens, and what standard grids cost."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.5)
    short, long = sorted(table.length.unique())
    best = table[table.grid == BEST]
    joint, data = best[best.divergence == JOINT], best[best.divergence == DATA]
    _draw(axes[0, 0], joint[joint.length == short])
    _draw(axes[0, 1], joint[joint.length == long])
    _draw(axes[1, 0], data[data.sampler != "ancestral"])
    standard = table[(table.grid == STANDARD) & (table.divergence == JOINT)]
    keys = ["process", "N"]
    ratio = standard[standard.length == long].set_index(keys).value
    ratio = ratio / joint[joint.length == long].set_index(keys).value
    for name, number in NUMBER.items():
        if name in ratio.index.get_level_values(0):
            axes[1, 1].plot(ratio[name].index, ratio[name], **line_style(number))
    axes[1, 1].set(xscale="log", yscale="log", ylabel="joint KL over that of the best grid")
    titles = (
        f"{short} tokens: states and tokens",
        f"{long} tokens: states and tokens",
        f"{short} tokens: the generated tokens alone (DDIM)",
        f"{long} tokens: cosine or even steps against the best",
    )
    ticks = sorted(table.N.unique())
    for panel, letter, title in zip(axes.ravel(), "abcd", titles, strict=True):
        panel.set_title(rf"$\bf{{({letter})}}$ {title}", loc="left")
        panel.set(xlabel="evaluations N", xticks=ticks, xticklabels=[f"{N:g}" for N in ticks])
        panel.minorticks_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7)
    return figure


def _draw(axes: Any, table: pd.DataFrame) -> None:
    for name, number in NUMBER.items():
        rows = table[table.process == name]
        style = line_style(number)
        axes.plot(rows.N, rows.value, label=name, **style)
        told = rows[rows.supported]  # the others' are wide: the table has them
        draw_interval(axes, told.N, told.low.clip(lower=told.value / 3), told.high, **style)
    axes.set(xscale="log", yscale="log", ylabel="KL (nats)")


EXPERIMENT = Experiment(
    name="discrete_against_gaussian",
    claim="The same Markov source, exact denoisers: what N evaluations cost Gaussian diffusion "
    "under five tokenizations, masked diffusion and uniform-noise diffusion.",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
