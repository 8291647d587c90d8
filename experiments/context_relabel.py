"""How many tokens does it take to find labels that neighbours can be read by?

Laws of two neighbours live in the coordinates of a grid whose ids were permuted. From N tokens of a
corpus labels are looked for, and judged by the law itself: the share of its canonical variates that
coordinates explain, and the integral of nu over all d log snr (weak coupling). Beside them the
labels found from the law, the given ones, and those that the law lives in.
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
from experiments.settings import Settings, least, setting
from tokenkl.context import Variates, canonical_variates, counted_variates
from tokenkl.context.placement import place, score_of
from tokenkl.context.readability import index_of_variates
from tokenkl.context.variates import weighted_features
from tokenkl.plotting import COLOURS, STYLE, label_panels, line_style, new_figure
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
    laws: int = setting(4, "laws drawn for each grid", least(1))
    coupling: float = setting(0.3, "strength of the energies", least(0.0))
    tokens: tuple[int, ...] = setting(
        (1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000), "sizes of the corpus", least(200)
    )
    starts: int = setting(4, "starts of the search for labels", least(1))


SMOKE = Config(grids=((2, 3),), laws=1, tokens=(1000, 10_000), starts=1)


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
    total, done = len(config.grids) * config.laws * (len(config.tokens) + 1), 0
    for base, n in config.grids:
        grid = tk.FSQ((base,) * n)
        for law in range(config.laws):
            rng = np.random.default_rng([config.seed, base, n, law])
            chain, hidden = draw_law(grid, config.coupling, rng)
            truth = canonical_variates(chain)
            head = {"base": base, "coordinates": n, "law": law}
            key = config.seed + law

            def add(labels: str, tokens: int, points: np.ndarray) -> None:
                about = {**head, "tokens": tokens, "labels": labels}  # noqa: B023
                rows.append({**about, **_judged(points, truth)})  # noqa: B023

            add("known law", 0, _found(grid, truth, config.starts, key))
            add("given", 0, grid.points)
            add("hidden", 0, hidden)
            progress(done := done + 1, total)
            corpus = chain.sample(max(config.tokens) // LENGTH, key=key)
            for size in config.tokens:
                variates = counted_variates(corpus[: size // LENGTH], grid.K, key=key)
                add("found", size, _found(grid, variates, config.starts, key))
                progress(done := done + 1, total)
    table = pd.DataFrame(rows)
    return table, _facts(table)


def _found(grid: tk.FSQ, variates: Variates, starts: int, key: int) -> np.ndarray:
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
    """For every grid, tokens from which found labels have lost half of what the given ones cost."""
    facts: dict[str, Any] = {}
    for (base, n), rows in table.groupby(["base", "coordinates"], sort=False):
        mean = rows.groupby(["labels", "tokens"])["nonlinearity"].mean()
        given, known = float(mean["given"][0]), float(mean["known law"][0])
        found = mean["found"]
        half = found[found <= (given + known) / 2]
        facts[f"{base}^{n}"] = {
            "nonlinearity": {
                name: float(mean[name][0]) for name in ("given", "known law", "hidden")
            },
            "found": {int(size): float(value) for size, value in found.items()},
            "readability": {
                int(size): float(value)
                for size, value in rows[rows["labels"] == "found"]
                .groupby("tokens")["readability"]
                .mean()
                .items()
            },
            "half_is_gained_from_tokens": int(half.index.min()) if len(half) else None,
        }
    return facts


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Readability above, the integral of nu below, over the size of the corpus."""
    figure, axes = new_figure(2, 1, panel_height=1.9, sharex=True)
    for panel, (quantity, label) in zip(
        axes[:, 0],
        (("readability", "share that is readable"), ("nonlinearity", r"$\int\nu$ (nats)")),
        strict=True,
    ):
        for number, ((base, n), rows) in enumerate(
            table.groupby(["base", "coordinates"], sort=False)
        ):
            found = rows[rows["labels"] == "found"]
            grouped = found.groupby("tokens")[quantity]
            mean = grouped.mean()
            panel.fill_between(
                mean.index, grouped.min(), grouped.max(), color=COLOURS[number], alpha=0.2, lw=0
            )
            panel.plot(mean.index, mean, label=f"${base}^{n}$, found", **line_style(number))
            for name, dashes in (("known law", ":"), ("given", "--")):
                level = float(rows[rows["labels"] == name][quantity].mean())
                panel.axhline(level, color=COLOURS[number], linestyle=dashes, lw=0.8)
        panel.set(xscale="log", ylabel=label)
    axes[1, 0].set(yscale="log", xlabel="tokens in the corpus")
    for dashes, name in ((":", "from the law itself"), ("--", "given labels")):
        axes[0, 0].plot([], [], color="#000000", linestyle=dashes, lw=0.8, label=name)
    axes[0, 0].legend()
    axes[0, 0].set_title("Labels that are as good as known need thousands of tokens a type")
    label_panels(axes)
    return figure


EXPERIMENT = Experiment(
    "context_relabel",
    "Labels that neighbours can be read by are found from a corpus; how many tokens that takes.",
    Config(),
    SMOKE,
    compute,
    plot,
)
