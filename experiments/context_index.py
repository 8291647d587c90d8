"""Which number out of bigrams names the tokenization that a network learns best?

The networks of `context_laws` are trained and measured already: 420 cells of law, tokenization and
seed. For each cell the weak-coupling formula (docs/theory/context.md, C7) gives what neighbours
tell, how much of it affine functions read, and nu, the rest, integrated over all log SNR. `tokenkl
context` has to order labels and geometries by one of these.

An exploration: what was measured was known, the first three candidates were looked at once before
this was written, and the choice of the share follows from it. On speech, which had no part in that,
see `context_speech`.

- Endpoint: Spearman correlation over the seven tokenizations of a law, averaged over laws, with a
  bootstrap over seeds; in how many of ten (case, law) the named one has the smallest KL at 25
  steps; and how often the better of FSQ and permuted ids is named, where they differ by 0.3 in
  log KL.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import tokenkl as tk
from experiments import context_laws
from experiments.harness import FIGURES, Experiment, Progress
from experiments.ranks import spearman
from experiments.settings import Settings, among, holding, least, most, setting
from experiments.toy import data
from experiments.toy.laws import GEOMETRIES, lanes, points_of
from tokenkl._random import generator
from tokenkl.plotting import COLOURS, PAGE, STYLE, label_panels, new_figure

CELL = ["base", "law", "seed", "geometry"]
#: Candidates, all small where little is lost.
CANDIDATES = ("exact nu", "nu", "less that is read", "share that is not read")
OUTCOMES = ("excess", "KL, 5 steps", "KL, 25 steps")
#: Difference of log KL from which one of two is better.
APART = 0.3


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Of what is sampled; the networks are those of `context_laws`."""

    seed: int = setting(20261129, "of all random numbers", least(0))
    samples: int = setting(512, "observations at every SNR", least(32))
    geometries: tuple[str, ...] = setting(
        GEOMETRIES, "what is compared", among(*GEOMETRIES), holding(data.FSQ, data.PERMUTED)
    )
    seeds: int = setting(6, "laws of each kind", least(2), most(6))
    resamples: int = setting(1000, "of the seeds, for intervals", least(2))


SMOKE = Config(samples=32, seeds=2, geometries=(data.FSQ, data.PERMUTED), resamples=20)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every cell: candidates and outcomes."""
    trained = context_laws.Config()
    stored = pd.read_csv(FIGURES / "context_laws.csv")
    last = stored.budget.max()
    rows = []
    total, done = len(trained.cases) * len(config.geometries), 0
    for base, n, length in trained.cases:
        every = lanes(trained.laws, base, n, length, trained.seed, config.seeds)
        for geometry in config.geometries:
            points = points_of(geometry, base, n, trained.seed, every)
            for (law, seed, chain), own in zip(every, points, strict=True):
                source = tk.sources.Markov(chain.transition, length, chain.start)
                found = tk.context.message_index(
                    tk.PointCodebook(own), source, n_samples=config.samples, key=config.seed
                )
                told, nu, read = (
                    float(one.value) for one in (found.information, found.nonlinearity, found.read)
                )
                values = {"nu": nu, "less that is read": -read}
                values["share that is not read"] = nu / told
                rows.append((base, law, seed, geometry, *values.values()))
            progress(done := done + 1, total)
    table = pd.DataFrame(rows, columns=[*CELL, *CANDIDATES[1:]]).set_index(CELL)
    for name, (quantity, steps, budget) in {
        "exact nu": ("int nu", 0, 0),
        "excess": ("excess", 0, last),
        "KL, 5 steps": ("KL", 5, last),
        "KL, 25 steps": ("KL", 25, last),
    }.items():
        chosen = stored[
            (stored.quantity == quantity) & (stored.steps == steps) & (stored.budget == budget)
        ]
        table[name] = chosen.set_index(CELL).value
    return table.reset_index(), _facts(table, config)


def _facts(table: pd.DataFrame, config: Config) -> dict[str, Any]:
    rng = generator(config.seed)
    draws = rng.integers(config.seeds, size=(config.resamples, config.seeds))
    facts: dict[str, Any] = {}
    for without in ((), (data.ONE_HOT,)):
        kept = table[~table.index.get_level_values("geometry").isin(without)]
        key = "all" if not without else "without one-hot"
        facts[key] = {
            outcome: {one: _correlation(kept, one, outcome, draws) for one in CANDIDATES}
            for outcome in OUTCOMES
        }
    means = table.groupby(["base", "law", "geometry"]).mean()
    cells = [rows for _, rows in means.groupby(["base", "law"])]
    facts["winners"] = {
        one: sum(int(rows[one].idxmin() == rows["KL, 25 steps"].idxmin()) for rows in cells)
        for one in CANDIDATES
    }
    facts["of"] = len(cells)
    own, other = (table.xs(name, level="geometry") for name in (data.FSQ, data.PERMUTED))
    gap = np.log(own["KL, 25 steps"].clip(1e-9)) - np.log(other["KL, 25 steps"].clip(1e-9))
    apart = gap.abs() > APART
    facts["FSQ or permuted"] = {"pairs": int(apart.sum())} | {
        one: float((np.sign(own[one] - other[one]) == np.sign(gap))[apart].mean())
        for one in CANDIDATES
    }
    return facts


def _correlation(table: pd.DataFrame, one: str, outcome: str, draws: np.ndarray) -> list[float]:
    """Mean over laws, and its 95 % interval over seeds."""
    by_seed = [
        [float(spearman(rows[one].to_numpy(), rows[outcome].to_numpy())) for _, rows in law]
        for law in (cell.groupby("seed") for _, cell in table.groupby(["base", "law"]))
    ]
    values = np.array(by_seed)
    means = values[:, draws].mean(axis=(0, 2))
    return [float(values.mean()), *(float(q) for q in np.quantile(means, [0.025, 0.975]))]


# ---- Plot -----------------------------------------------------------------------------------


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Correlations by candidate and outcome, and how often the better one is named."""
    figure, axes = new_figure(1, 2, width=PAGE, panel_height=2.6)
    left, right = axes[0]
    places = np.arange(len(CANDIDATES))
    for number, outcome in enumerate(OUTCOMES):
        values = np.array([facts["all"][outcome][one] for one in CANDIDATES])
        low, high = values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]
        left.errorbar(
            values[:, 0], places + 0.2 * (number - 1), xerr=[low, high], fmt="osD"[number],
            color=COLOURS[number], markersize=4, linewidth=1.2, label=outcome,
        )  # fmt: skip
    left.axvline(0, color="#777777", linewidth=0.8, zorder=0)
    left.set_yticks(places, CANDIDATES, fontsize=7)
    left.set_ylim(len(places) - 0.5, -1.1)  # room for the legend
    left.set(xlabel="rank correlation within a law", xlim=(-0.5, 1))
    left.legend(fontsize=6.5, frameon=False, loc="upper center", ncols=3, columnspacing=0.8)
    shares = {
        "smallest KL of seven": [facts["winners"][one] / facts["of"] for one in CANDIDATES],
        "FSQ or permuted": [facts["FSQ or permuted"][one] for one in CANDIDATES],
    }
    for number, (name, parts) in enumerate(shares.items()):
        right.barh(
            places + 0.36 * (number - 0.5), parts, height=0.34, color=COLOURS[number], label=name
        )
    right.set_yticks(places, [""] * len(places))
    right.set_ylim(len(places) - 0.5, -1.1)
    right.set(xlabel="how often the better one is named", xlim=(0, 1))
    right.legend(fontsize=6.5, frameon=False, loc="upper center", ncols=2)
    label_panels(axes, ("networks trained on 60 laws", "at 25 steps"))
    return figure


EXPERIMENT = Experiment(
    name="context_index",
    claim=(
        "Across geometries, what affine functions read of neighbours says nothing of what is "
        "learned; the share of what is told that they read does, and so does nu."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
)
