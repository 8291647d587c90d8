"""Laws that live in the coordinates of one geometry or another, and networks trained on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import tokenkl as tk
from experiments.toy import data, evaluate
from experiments.toy.train import train
from tokenkl._random import generator

#: The law whose energies are free numbers, which no geometry explains.
FREE = "free"
#: Kinds of laws: bilinear in the coordinates of a tokenization, or free.
LAWS = (data.FSQ, data.PERMUTED, data.LATTICE, data.RANDOM, FREE)
#: Tokenizations that meet them, all of FSQ's average power.
GEOMETRIES = (
    data.FSQ,
    data.PERTURBED_MORE,
    data.PERMUTED,
    data.LATTICE,
    data.VQ,
    data.RANDOM,
    data.ONE_HOT,
)


def points_key(seed: int, number: int) -> int:
    """Key of the points that are drawn for one of the laws; its own geometry has the same."""
    return seed + 1000 * (number + 1)


def draw_law(law: str, base: int, n: int, length: int, seed: int, number: int) -> data.Chain:
    """One of the laws of a kind; all kinds of a number share the coupling and the free energies.

    As `data.draw_chain`, with the standardised coordinates of the named geometry in place of
    FSQ's, and the size of the free energies doubled where there is no coupling.
    """
    if law in (data.FSQ, FREE):
        coupled = law == data.FSQ
        key, free = seed + number, 0.5 if coupled else 1.0
        return data.draw_chain(base, n, length, key, coupling=float(coupled), free=free)
    u = data.codebook_points(law, base, n, points_key(seed, number))
    u = (u - u.mean(axis=0)) / u.std(axis=0)
    rng = generator(seed + number, 0)
    matrix = rng.standard_normal((n, n))
    energy = u @ matrix @ u.T / np.sqrt(n)
    energy = energy + 0.5 * rng.standard_normal(energy.shape)
    transition = np.exp(energy - energy.max(axis=1, keepdims=True))
    start = np.exp(0.5 * rng.standard_normal(len(u)))
    return data.Chain(
        length, start / start.sum(), transition / transition.sum(axis=1, keepdims=True)
    )


def lanes(
    names: tuple[str, ...], base: int, n: int, length: int, seed: int, numbers: int
) -> list[tuple[str, int, data.Chain]]:
    """Kind, number and law of all that is trained in one go."""
    return [
        (name, number, draw_law(name, base, n, length, seed, number))
        for number in range(numbers)
        for name in names
    ]


def points_of(
    geometry: str, base: int, n: int, seed: int, of: list[tuple[str, int, data.Chain]]
) -> np.ndarray:
    """The points of a tokenization for every lane."""
    return np.stack(
        [data.codebook_points(geometry, base, n, points_key(seed, number)) for _, number, _ in of]
    )


def trained(
    geometry: str,
    of: list[tuple[str, int, data.Chain]],
    *,
    base: int,
    n: int,
    length: int,
    seed: int,
    budgets: tuple[int, ...],
    steps: tuple[int, ...],
    samples: int,
    batch: int,
    rate: float,
    width: int,
    depth: int,
    gap_batch: int,
    pool: float,
    progress: Callable[[float], None],
) -> pd.DataFrame:
    """Train one tokenization on all laws, and measure.

    Rows: "KL" of the DDIM sampler by steps after the last budget and at 25 steps after the others,
    "exact KL" of the exact denoiser, and "excess", the excess cross-entropy of a token over times
    t that are uniform.
    """
    laws = [chain for _, _, chain in of]
    points = points_of(geometry, base, n, seed, of)
    networks = train(
        points,
        laws,
        power=tk.average_power(tk.FSQ((base,) * n)),
        budgets=budgets,
        batch=batch,
        rate=rate,
        width=width,
        depth=depth,
        learned=False,
        seed=seed,
        progress=lambda share: progress(0.6 * share),
    )
    exact = evaluate.exact_denoiser(laws, points)
    parts: list[pd.DataFrame] = []

    def add(quantity: str, budget: int, count: int, values: Any, errors: Any) -> None:
        frame = pd.DataFrame([(law, number) for law, number, _ in of], columns=["law", "seed"])
        frame = frame.assign(quantity=quantity, budget=budget, steps=count)
        parts.append(frame.assign(value=values, error=errors))

    def add_kl(quantity: str, denoiser: Any, budget: int, count: int) -> None:
        counts = evaluate.generated_counts(
            denoiser,
            points,
            steps=count,
            most_steps=max(steps),
            sampler="ddim",
            n_samples=samples,
            length=length,
            seed=seed,
        )
        found = []
        for chain, own in zip(laws, counts, strict=True):
            law = chain.joint()
            groups = evaluate.pool(law, pool)
            pooled = np.bincount(groups, law), np.bincount(groups, own)
            found.append(evaluate.kl_from_counts(*pooled))
        add(quantity, budget, count, *np.transpose(found))

    t = 1 - np.arange(25) / 25
    for budget, network in zip(budgets, networks, strict=True):
        counted = steps if budget == budgets[-1] else (max(steps),)
        for count in counted:
            add_kl("KL", network, budget, count)
        excess, _ = evaluate.denoiser_gaps(
            network, exact, points, laws, t, batch=gap_batch, seed=seed
        )
        each = excess / length
        add("excess", budget, 0, each.mean(axis=1), 0.0)
    progress(0.8)
    for count in steps:
        add_kl("exact KL", exact, 0, count)
    table = pd.concat(parts, ignore_index=True)
    return table.assign(base=base, length=length, geometry=geometry)
