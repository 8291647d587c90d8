"""Do networks learn better with labels that were found from a finite number of tokens?

`context_relabel` judges labels by the law itself; here networks are trained. Pairs of tokens follow
laws that live in the coordinates of a grid whose ids were permuted, with equally frequent tokens.
From N tokens of sequences of such a law labels are looked for, and beside them stand the given
ones, others without meaning, and those that the law lives in. All have the same points, so that
every quantity of one token is the same. Laws, tokens and networks are new: nothing was looked for,
or tuned, on them.

Written before any of these networks was trained; known were the figures of `context_relabel`, for
other laws of these kinds, and a trial of three laws of twice the strength, 2^6, in which the law's
own labels had a KL 2.8 in the logarithm below the given ones (c = 0.5 there):

- L1: labels from 300,000 tokens: KL(data || generated) of 25 DDIM steps is below that of the given
  ones, by the 95 % t interval over laws of the difference of logarithms, on both grids, and by more
  than 0.5 in the mean; and it is within 0.1 of the law's own labels.
- L2: labels from 3,000 tokens gain less than those from 30,000 on 3^4, and as much, within 0.1, on
  2^6 (`context_relabel`: readability 0.67 and 0.90, and 0.85 for both).
- L3: permuted ids are as bad as the given ones: the interval holds 0.
- L4: the predicted gain. With one c for a grid, fitted on given labels alone, KL of N steps = KL of
  the exact denoiser of N steps + c int nu (of the law, by the weak-coupling formula) predicts log
  KL of the labels that were found, and of the law's own, with a root mean square error of at most
  0.3 over (N, labels), by means over laws. In the pilot of `relabel` it was 0.15 to 0.28.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy import optimize, stats

import tokenkl as tk
from experiments import context_relabel
from experiments.context_relabel import LENGTH
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, holding, increasing, least, most, setting
from experiments.terms import LEAST
from experiments.toy.data import Chain
from experiments.toy.kept import Part, gather, kept_folder
from experiments.toy.laws import Bench
from experiments.toy.model import Network
from tokenkl.context import canonical_variates, counted_variates
from tokenkl.context.readability import index_of_variates
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, new_figure

GIVEN, PERMUTED, OWN = "given", "permuted", "the law's own"


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Laws, tokens, networks, and what is generated."""

    seed: int = setting(20261201, "of all random numbers", least(0))
    grids: tuple[tuple[int, ...], ...] = setting(
        ((2, 6), (3, 4)), "levels and coordinates of each grid", least(2)
    )
    laws: int = setting(4, "laws of each grid", least(2))
    coupling: float = setting(0.3, "strength of the energies", least(0.0))
    tokens: tuple[int, ...] = setting(
        (3000, 30_000, 300_000), "that labels are found from", least(200), increasing
    )
    starts: int = setting(4, "starts of the search for labels", least(1))
    budget: int = setting(2000, "training steps", least(1))
    steps: tuple[int, ...] = setting((2, 5, 25), "DDIM steps", least(1), holding(25), increasing)
    samples: int = setting(2**14, "pairs generated", least(2))
    batch: int = setting(128, "pairs of a training step", least(1))
    rate: float = setting(3e-3, "learning rate", least(1e-6), most(1))
    width: int = setting(64, "of the network", least(1))
    depth: int = setting(2, "of the network", least(1))
    gap_batch: int = setting(2**9, "pairs for the excess cross-entropy", least(2))
    pool: float = setting(
        1e-3, "least probability of a group of pairs that is counted", least(1e-9), most(0.5)
    )


SMOKE = Config(
    grids=((2, 3),), laws=2, tokens=(1000,), starts=1, budget=20, steps=(2, 25), samples=2**9,
    batch=32, width=16, gap_batch=64, pool=5e-3,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Labelled(Bench):
    """A `Bench` whose points are given."""

    placed: Any = None

    @functools.cached_property
    def points(self) -> Float[np.ndarray, "lanes K m"]:
        return np.asarray(self.placed)


@dataclasses.dataclass(frozen=True)
class Law:
    """One law, and the points of the tokens by every kind of labels.

    - `nu`: of each kind, the integral over d log snr, to leading order, of a token of a pair.
    """

    chain: Chain
    points: dict[str, Float[np.ndarray, "K n"]]
    nu: dict[str, float]


def draw(grid: tuple[int, ...], number: int, config: Config) -> Law:
    """A law, tokens of it, and labels."""
    base, n = grid
    book = tk.FSQ((base,) * n)
    rng = np.random.default_rng([config.seed, base, n, number])
    source, hidden = context_relabel.draw_law(book, config.coupling, rng)
    truth = canonical_variates(source)
    key = config.seed + number
    corpus = source.sample(max(config.tokens) // LENGTH, key=key)
    points = {
        GIVEN: np.asarray(book.points),
        PERMUTED: np.asarray(book.points[rng.permutation(book.K)]),
        OWN: np.asarray(hidden),
    }
    for size in config.tokens:
        variates = counted_variates(corpus[: size // LENGTH], book.K, key=key)
        points[found(size)] = context_relabel.found_places(book, variates, config.starts, key)
    nu = {
        name: float(index_of_variates(tk.PointCodebook(own), [truth]).nonlinearity.value)
        for name, own in points.items()
    }
    pair = source.pair(0, 1)
    start = pair.sum(axis=1)
    return Law(Chain(2, start, pair / start[:, None]), points, nu)


def found(size: int) -> str:
    """Name of the labels out of so many tokens."""
    return f"found, {size:,}"


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every grid, kind of labels, law, quantity and number of steps."""
    folder = kept_folder(
        "context_labels",
        dataclasses.asdict(config),
        Path(__file__).with_name("context_relabel.py"),
    )
    kinds = (GIVEN, PERMUTED, *map(found, config.tokens), OWN)
    tasks = list(itertools.product(config.grids, kinds))
    work = [
        Part(
            f"{grid[0]}x{grid[1]}-{kind.replace(' ', '').replace(',', '')}",
            functools.partial(_measured, grid, kind, config),
        )
        for grid, kind in tasks
    ]
    parts = gather(folder, work, progress, "%.8g")
    table = pd.concat(parts, ignore_index=True).rename(columns={"geometry": "labels"})
    grids = _facts(table, config)
    known = config.grids == Config().grids and set(Config().tokens) <= set(config.tokens)
    return table, {"grids": grids, "verdicts": verdicts(grids) if known else {}}


@functools.lru_cache
def _laws(grid: tuple[int, ...], config: Config) -> tuple[Law, ...]:
    return tuple(draw(grid, number, config) for number in range(config.laws))


def _measured(
    grid: tuple[int, ...], kind: str, config: Config, progress: Callable[[float], None]
) -> pd.DataFrame:
    laws = _laws(grid, config)
    bench = Labelled(
        kind,
        [("coupled", number, law.chain) for number, law in enumerate(laws)],
        base=grid[0],
        n=grid[1],
        seed=config.seed,
        key=config.seed,
        steps=config.steps,
        widths=(2,),
        samples=config.samples,
        pool=config.pool,
        placed=np.stack([law.points[kind] for law in laws]),
    )
    parts = bench.trained(
        functools.partial(Network, width=config.width, depth=config.depth, learned=False),
        budgets=(config.budget,),
        early=(),
        batch=config.batch,
        rate=config.rate,
        gap_batch=config.gap_batch,
        progress=progress,
    )
    parts += bench.kl("exact KL", bench.exact, config.steps)
    parts.append(bench.rows("int nu", [law.nu[kind] for law in laws], 0.0))
    return pd.concat(parts)


def cells(table: pd.DataFrame, quantity: str, base: int, steps: int = 0) -> pd.DataFrame:
    """Labels in rows, laws in columns."""
    rows = table[(table.quantity == quantity) & (table.base == base) & (table.steps == steps)]
    return cast(pd.DataFrame, rows.pivot(index="labels", columns="seed", values="value"))


def _gap(one: Any, other: Any) -> list[float]:
    """Mean of a difference of logarithms over laws, and its 95 % t interval."""
    logs = [np.log(np.maximum(np.asarray(each, dtype=float), LEAST)) for each in (one, other)]
    gap = logs[0] - logs[1]
    half = stats.t.ppf(0.975, gap.size - 1) * gap.std(ddof=1) / np.sqrt(gap.size)
    return [float(gap.mean()), float(gap.mean() - half), float(gap.mean() + half)]


def _facts(table: pd.DataFrame, config: Config) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for base, n in config.grids:
        at = {N: cells(table, "KL", base, N) for N in config.steps}
        exact = {N: cells(table, "exact KL", base, N) for N in config.steps}
        nu, excess = cells(table, "int nu", base), cells(table, "excess", base)
        kinds = [kind for kind in nu.index if kind != GIVEN]
        c = _fitted(
            np.array([at[N].loc[GIVEN].mean() for N in config.steps]),
            np.array([exact[N].loc[GIVEN].mean() for N in config.steps]),
            float(nu.loc[GIVEN].mean()),
        )
        predicted = {
            kind: {
                str(N): float(max(exact[N].loc[kind].mean(), 0) + c * nu.loc[kind].mean())
                for N in config.steps
            }
            for kind in nu.index
        }
        judged = [kind for kind in kinds if kind != PERMUTED]
        misses = [
            np.log(predicted[kind][str(N)]) - np.log(max(at[N].loc[kind].mean(), LEAST))
            for kind in judged
            for N in config.steps
        ]
        facts[f"{base}^{n}"] = {
            "log KL, 25 steps, minus given": {
                kind: _gap(at[25].loc[kind], at[25].loc[GIVEN]) for kind in kinds
            },
            "log KL, 25 steps, minus the law's own": {
                kind: _gap(at[25].loc[kind], at[25].loc[OWN]) for kind in kinds if kind != OWN
            },
            "log excess minus given": {
                kind: _gap(excess.loc[kind], excess.loc[GIVEN]) for kind in kinds
            },
            "means": {
                kind: {
                    "int nu": float(nu.loc[kind].mean()),
                    "excess": float(excess.loc[kind].mean()),
                    **{f"KL, {N} steps": float(at[N].loc[kind].mean()) for N in config.steps},
                    **{f"exact, {N} steps": float(exact[N].loc[kind].mean()) for N in config.steps},
                }
                for kind in nu.index
            },
            "c": c,
            "predicted": predicted,
            "rms": float(np.sqrt(np.mean(np.square(misses)))),
            "bias": float(np.mean(misses)),
            "log KL, 25 steps, from first to second": {
                f"{one} to {other}": _gap(at[25].loc[other], at[25].loc[one])
                for one, other in itertools.pairwise(map(found, config.tokens))
            },
        }
    return facts


def verdicts(facts: dict[str, Any]) -> dict[str, str]:
    """Of L1 to L4, by their own rules, on both grids of the default settings."""
    two, three = facts["2^6"], facts["3^4"]
    most, gain, left = found(300_000), "log KL, 25 steps, minus given", "minus the law's own"
    grows = f"{found(3000)} to {found(30_000)}"
    steps = [one["log KL, 25 steps, from first to second"][grows] for one in (two, three)]
    found_ones = [one[gain][most] for one in (two, three)]
    near = [abs(one[f"log KL, 25 steps, {left}"][most][0]) < 0.1 for one in (two, three)]
    rules = {
        "L1": all(value < -0.5 and high < 0 for value, _, high in found_ones) and all(near),
        "L2": steps[1][2] < 0 and abs(steps[0][0]) < 0.1,
        "L3": all(one[gain][PERMUTED][1] < 0 < one[gain][PERMUTED][2] for one in (two, three)),
        "L4": max(two["rms"], three["rms"]) <= 0.3,
    }
    return {name: "confirmed" if holds else "refuted" for name, holds in rules.items()}


def _fitted(measured: np.ndarray, exact: np.ndarray, nu: float) -> float:
    """The c of least squares in log KL."""

    def miss(log_c: float) -> float:
        predicted = np.maximum(exact, 0) + np.exp(log_c) * nu
        return float(((np.log(predicted) - np.log(np.maximum(measured, LEAST))) ** 2).sum())

    return float(np.exp(optimize.minimize_scalar(miss, bounds=(-9.0, 4.0), method="bounded").x))


# ---- Plot -----------------------------------------------------------------------------------


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Gain over tokens that labels were found from, and measured against predicted KL."""
    figure, axes = new_figure(1, 2, width=PAGE, panel_height=2.8)
    left, right = axes[0]
    for number, (grid, one) in enumerate(facts["grids"].items()):
        gaps = one["log KL, 25 steps, minus given"]
        kinds = list(gaps)
        values = np.array([gaps[kind] for kind in kinds])
        places = np.arange(len(kinds)) + 0.16 * (number - (len(facts["grids"]) - 1) / 2)
        arms = np.abs(values[:, 1:].T - values[:, 0])
        style = {"color": COLOURS[number], "marker": MARKERS[number]}
        label = "$" + grid.replace("^", "^{") + "}$"
        left.errorbar(
            places, values[:, 0], yerr=arms, linestyle="none", markersize=4, capsize=2,
            elinewidth=0.8, label=label, **style,
        )  # fmt: skip
        left.set_xticks(range(len(kinds)), kinds, fontsize=6, rotation=20)
        for kind, means in one["means"].items():
            for name, value in one["predicted"][kind].items():
                right.plot(
                    value, max(means[f"KL, {name} steps"], LEAST), markersize=4, linestyle="none",
                    fillstyle="none" if kind == GIVEN else "full", **style,
                )  # fmt: skip
    left.axhline(0, color="black", linewidth=0.6)
    left.set(ylabel="log KL, 25 steps, minus given labels")
    left.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.42, 0.84), frameon=True)
    ends = np.concatenate([line.get_xydata().ravel() for line in right.lines])
    low, high = ends.min(), ends.max()
    right.plot([low, high], [low, high], color="black", linewidth=0.6)
    right.set(xscale="log", yscale="log", xlabel="predicted KL (nats)", ylabel="KL of networks")
    label_panels(axes, ("labels, found from so many tokens", "two terms; open: fitted on these"))
    return figure


EXPERIMENT = Experiment(
    name="context_labels",
    claim=(
        "Networks learn better with labels that were found from a finite number of tokens, by what "
        "the integral of nu says."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": "error"},
    shares=True,
)
