"""How many tokens does it take to find labels that neighbours can be read by?

Laws of two neighbours live in the coordinates of a grid whose ids were permuted. From N tokens of a
corpus labels are looked for, and judged by the law itself: the share of its canonical variates that
coordinates explain, and the integral of nu over all d log snr (weak coupling). Beside them the
labels found from the law, the given ones, and those that the law lives in.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, setting
from tokenkl.context import Variates, canonical_variates, counted_variates
from tokenkl.context.placement import place, score_of
from tokenkl.context.readability import index_of_variates
from tokenkl.context.variates import weighted_features
from tokenkl.plotting import STYLE, line_style, new_figure
from tokenkl.sources import Markov

#: Tokens in a sequence of the corpus.
LENGTH = 50


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Grids, laws and sizes of the corpus."""

    seed: int = setting(20261128, "of all random numbers", least(0))
    grids: tuple[tuple[int, ...], ...] = setting(
        ((2, 6), (3, 4)), "levels and coordinates of each grid", least(2)
    )
    laws: int = setting(3, "laws drawn for each grid and strength", least(1))
    couplings: tuple[float, ...] = setting((0.3, 0.1), "strengths of the energies", least(0.0))
    tokens: tuple[int, ...] = setting(
        (1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000), "sizes of the corpus", least(200)
    )
    starts: int = setting(4, "starts of the search for labels", least(1))


SMOKE = Config(grids=((2, 3),), laws=1, couplings=(0.3,), tokens=(1000, 10_000), starts=1)


def draw_law(
    grid: tk.FSQ, coupling: float, rng: np.random.Generator
) -> tuple[Markov, np.ndarray[Any, Any]]:
    """A chain with equally frequent tokens, and the points of their hidden places.

    Energies are bilinear in hidden coordinates, by a rotation; rows and columns are rescaled until
    every token is as frequent (Sinkhorn).
    """
    hidden = grid.points[rng.permutation(grid.K)]
    scaled = hidden / hidden.std()
    rotation = np.linalg.qr(rng.standard_normal((grid.n, grid.n)))[0]
    law = np.exp(coupling * scaled @ rotation @ scaled.T)
    for _ in range(500):
        law /= law.sum(axis=0)
        law /= law.sum(axis=1, keepdims=True)
    return Markov(law, LENGTH, np.full(grid.K, 1 / grid.K)), hidden


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every grid, law, size of the corpus and kind of labels."""
    rows: list[dict[str, Any]] = []
    cases = list(itertools.product(config.grids, config.couplings, range(config.laws)))
    total, done = len(cases) * (len(config.tokens) + 1), 0
    for (base, n), coupling, law in cases:
        grid = tk.FSQ((base,) * n)
        rng = np.random.default_rng([config.seed, base, n, law])
        chain, hidden = draw_law(grid, coupling, rng)
        truth = canonical_variates(chain)
        head = {"base": base, "coordinates": n, "coupling": coupling, "law": law}
        key = config.seed + law

        places = {
            "known law": found_places(grid, truth, config.starts, key),
            "given": grid.points,
            "hidden": hidden,
        }
        for labels, points in places.items():
            rows.append({**head, "tokens": 0, "labels": labels, **_judged(points, truth)})
        progress(done := done + 1, total)
        corpus = chain.sample(max(config.tokens) // LENGTH, key=key)
        for size in config.tokens:
            variates = counted_variates(corpus[: size // LENGTH], grid.K, key=key)
            points = found_places(grid, variates, config.starts, key)
            rows.append({**head, "tokens": size, "labels": "found", **_judged(points, truth)})
            progress(done := done + 1, total)
    table = pd.DataFrame(rows)
    return table, _facts(table)


def found_places(grid: tk.FSQ, variates: Variates, starts: int, key: int) -> np.ndarray:
    """Where labels that are looked for put the tokens."""
    features, law = weighted_features([variates], [1.0])
    return np.asarray(grid.points[place(grid.points, features, law, starts=starts, key=key)])


def _judged(points: np.ndarray, truth: Variates) -> dict[str, float]:
    """What the law itself says of labels."""
    features, law = weighted_features([truth], [1.0])
    whole = float((law[:, None] * features**2).sum())
    index = index_of_variates(tk.PointCodebook(points), [truth])
    return {
        "readability": score_of(points, features, law) / whole,
        "nonlinearity": float(index.nonlinearity.value),
        "information": float(index.information.value),
    }


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    """Means over laws, and from how many tokens half of what given labels cost is gained."""
    facts: dict[str, Any] = {}
    for (base, n, coupling), rows in table.groupby(["base", "coordinates", "coupling"], sort=False):
        means = rows.groupby(["labels", "tokens"])[["readability", "nonlinearity"]].mean()
        nu = means["nonlinearity"]
        given, known, found = nu["given"].iloc[0], nu["known law"].iloc[0], nu["found"]
        half = found[found <= (given + known) / 2]
        facts[f"{base}^{n}, coupling {coupling:g}"] = {
            **{
                name: means.loc[name].iloc[0].to_dict() for name in ("given", "known law", "hidden")
            },
            "found": {str(size): row.to_dict() for size, row in means.loc["found"].iterrows()},
            "half_is_gained_from_tokens": int(half.index.min()) if len(half) else None,
        }
    return facts


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Readability above, the integral of nu below, over the size of the corpus."""
    figure, axes = new_figure(2, 1, panel_height=2.0, sharex=True)
    cases = table.groupby(["base", "coordinates", "coupling"], sort=False)
    for number, ((base, n, coupling), rows) in enumerate(cases):
        style, label = line_style(number), f"${base}^{n}$, coupling {coupling:g}"
        known = rows[rows["labels"] == "known law"].set_index("law")
        given = rows[rows["labels"] == "given"].set_index("law")
        found = rows[rows["labels"] == "found"].join(
            given["nonlinearity"].rename("nonlinearity_given"), on="law"
        )
        found["share"] = found["nonlinearity"] / found["nonlinearity_given"]
        least = float((known["nonlinearity"] / given["nonlinearity"]).mean())
        for panel, column, level in (
            (axes[0, 0], "readability", float(known["readability"].mean())),
            (axes[1, 0], "share", least),
        ):
            grouped = found.groupby("tokens")[column]
            low, mean, high = grouped.min(), grouped.mean(), grouped.max()
            panel.fill_between(mean.index, low, high, color=style["color"], alpha=0.2, lw=0)
            panel.plot(mean.index, mean, label=label, **style)
            panel.axhline(level, color=style["color"], linestyle=":", lw=0.8)
    axes[0, 0].set(xscale="log", ylabel="readable share", ylim=(0, 1))
    axes[1, 0].set(ylabel=r"$\int\nu\,$ / that of given labels", xlabel="tokens in the corpus")
    axes[1, 0].set_ylim(0, None)
    axes[0, 0].plot([], [], color="#000000", linestyle=":", lw=0.8, label="from the law itself")
    axes[0, 0].legend(fontsize=6)
    figure.suptitle("Labels out of a corpus, judged by its law", fontsize=8)
    return figure


EXPERIMENT = Experiment(
    "context_relabel",
    "Labels that neighbours can be read by are found from a corpus; how many tokens that takes.",
    Config(),
    SMOKE,
    compute,
    plot,
)
