"""Codebooks made from codebooks: perturbed, permuted, centred, scaled to a constraint."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tokenkl._random import generator
from tokenkl._validation import check_positive, reject
from tokenkl.codebooks.base import Codebook, PointCodebook


def perturb(codebook: Codebook, sd: float, key: Any, *, box: float | None = None) -> PointCodebook:
    """Every coordinate of every token moved by independent N(0, sd^2) noise.

    Args:
        codebook: the codebook; its (K, n) points are materialised. The prior is kept.
        sd: standard deviation of the noise, above 0.
        key: whole number or JAX random key; the same key gives the same codebook.
        box: clip the moved points to [-box, box]^n; tokens clipped to the same corner then
            coincide, which is allowed here.

    Raises:
        ValueError: sd or box not above 0, or a codebook too large to materialise.
    """
    sd = check_positive(sd, "sd")
    points = np.asarray(codebook.points)
    points = points + sd * generator(key).standard_normal(points.shape)
    if box is not None:
        box = check_positive(box, "box")
        points = np.clip(points, -box, box)
    return PointCodebook(
        points, codebook.stated_prior, name=f"{codebook.label}, perturbed", allow_duplicates=True
    )


def permute(codebook: Codebook, key: Any) -> PointCodebook:
    """The same points, given to the token ids in a random order; every id keeps its prior.

    With equal priors nothing that depends only on the law of the points changes; with unequal
    ones, this asks whether it matters which token sits where.

    Raises:
        ValueError: a codebook too large to materialise, or an invalid key.
    """
    points = np.asarray(codebook.points)  # before the ids, of which there may be too many
    order = generator(key).permutation(codebook.K)
    return placed(points, order, codebook.stated_prior, f"{codebook.label}, permuted")


def placed(points: Any, order: Any, prior: Any, name: str) -> PointCodebook:
    """Tokens at these of the points, one id of a point for each token, with a prior."""
    return PointCodebook(points[order], prior, name=name, allow_duplicates=True)


def centre(codebook: Codebook) -> Codebook:
    """The codebook moved so that its prior-weighted mean sum_k pi_k e_k is 0.

    Information quantities do not change under a shift; average power is measured after it. Grids,
    lattice cuts and residual codebooks keep their structure and stay lazy. A centred one-hot
    codebook is a simplex, which is no longer one-hot: it comes back as a `PointCodebook`.

    Raises:
        ValueError: a one-hot codebook too large to materialise.
    """
    return codebook.centred()


def average_power(codebook: Codebook) -> float:
    """Mean squared distance of the tokens from their mean: the trace of Cov(e), prior-weighted.

    Closed forms: a grid, the sum of the variances of its coordinates, whatever the prior;
    one-hot, scale^2 (1 - sum_k pi_k^2); a lattice cut; a residual codebook whose prior is a product
    over its stages, the sum of the power of each. Other codebooks are materialised.

    Raises:
        ValueError: a codebook without a closed form, too large to materialise.
    """
    return codebook.average_power()


def diameter(codebook: Codebook) -> float:
    """Largest distance between two tokens; grids, lattice cuts and one-hot tokens stay lazy.

    Raises:
        ValueError: another codebook too large to materialise.
    """
    return codebook.diameter()


def scale_to(
    codebook: Codebook,
    *,
    box: float | None = None,
    power: float | None = None,
    min_distance: float | None = None,
) -> Codebook:
    """The codebook times one positive number, so that exactly one constraint holds.

    Kind, prior and order of the ids are kept, and lazy codebooks stay lazy; an `FSQ` comes back
    as the `ProductCodebook` of its scaled levels. Nothing is shifted: `centre` does that.

    Args:
        codebook: the codebook.
        box: the largest |coordinate| of any token.
        power: the average power tr Cov(e), see `average_power`.
        min_distance: the smallest distance between two tokens.

    Raises:
        ValueError: not exactly one constraint given, one not above 0, or a codebook on which the
            quantity is 0 and cannot be scaled (one token, all at the origin, equal tokens).
    """
    given = {"box": box, "power": power, "min_distance": min_distance}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        reject(
            "scale_to", ", ".join(chosen) or "none", "given exactly one of box, power, min_distance"
        )
    name = chosen[0]
    target = check_positive(given[name], name)
    if name == "box":
        # Dividing first makes the largest coordinate exactly 1, and then exactly the target.
        now = codebook.largest_coordinate()
    elif name == "power":
        now, target = math.sqrt(codebook.average_power()), math.sqrt(target)
    else:
        if codebook.K < 2:
            reject("K", codebook.K, "at least 2 for a distance between tokens to exist")
        now = codebook.min_distance()
    if now == 0:
        expected = f"a codebook whose {name} is above 0, so that scaling can set it"
        reject("codebook", repr(codebook), expected)
    return codebook.scaled(target, over=now)
