"""Codebooks made from codebooks: perturbed, permuted, centred, scaled to a constraint."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from tokenkl._random import generator
from tokenkl._validation import check_positive, first_duplicate, reject
from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.codebooks.onehot import OneHot
from tokenkl.codebooks.product import ProductCodebook
from tokenkl.codebooks.residual import ResidualCodebook
from tokenkl.numerics.neighbours import level_gaps, nearest_distances


def perturb(cb: Codebook, sd: float, key: Any, *, box: float | None = None) -> PointCodebook:
    """Every coordinate of every token moved by independent N(0, sd^2) noise.

    Args:
        cb: the codebook; its (K, n) points are materialised. The prior is kept.
        sd: standard deviation of the noise, above 0.
        key: whole number or JAX random key; the same key gives the same codebook.
        box: clip the moved points to [-box, box]^n; tokens clipped to the same corner then
            coincide, which is allowed here.

    Raises:
        ValueError: sd or box not above 0, or a codebook too large to materialise.
    """
    sd = check_positive(sd, "sd")
    points = np.asarray(cb.points)
    points = points + sd * generator(key).standard_normal(points.shape)
    if box is not None:
        box = check_positive(box, "box")
        points = np.clip(points, -box, box)
    return PointCodebook(
        points, _prior_of(cb), name=f"{cb.label}, perturbed", allow_duplicates=True
    )


def permute(cb: Codebook, key: Any) -> PointCodebook:
    """The same points, given to the token ids in a random order; every id keeps its prior.

    With equal priors nothing that depends only on the law of the points changes; with unequal
    ones, this asks whether it matters which token sits where.

    Raises:
        ValueError: a codebook too large to materialise, or an invalid key.
    """
    points = np.asarray(cb.points)[generator(key).permutation(cb.K)]
    return PointCodebook(points, _prior_of(cb), name=f"{cb.label}, permuted", allow_duplicates=True)


def centre(cb: Codebook) -> Codebook:
    """The codebook moved so that its prior-weighted mean sum_k pi_k e_k is 0.

    Information quantities do not change under a shift; average power is measured after it. Grids
    and residual codebooks keep their structure (a grid moves its levels, a residual codebook its
    first stage) and stay lazy. A centred one-hot codebook is a simplex, which is no longer
    one-hot: it comes back as a `PointCodebook`.

    Raises:
        ValueError: a one-hot codebook too large to materialise.
    """
    name = f"{cb.label}, centred"
    if isinstance(cb, ProductCodebook):
        levels = [
            column - math.fsum(column * weight)
            for column, weight in zip(cb.levels, _level_weights(cb), strict=True)
        ]
        return _like_product(cb, levels, name)
    if isinstance(cb, ResidualCodebook):
        means = [
            weight @ stage for stage, weight in zip(cb.stages, _stage_weights(cb), strict=True)
        ]
        first = cb.stages[0] - np.sum(means, axis=0)
        return _like_residual(cb, [first, *cb.stages[1:]], name)
    points, prior = np.asarray(cb.points), _prior_of(cb)
    return PointCodebook(
        points - _mean(points, prior),
        prior,
        name=name,
        allow_duplicates=first_duplicate(points) is not None,
    )


def average_power(cb: Codebook) -> float:
    """Mean squared distance of the tokens from their mean: the trace of Cov(e), prior-weighted.

    Closed forms: a grid, the sum of the variances of its coordinates, whatever the prior;
    one-hot, scale^2 (1 - sum_k pi_k^2); a residual codebook whose prior is a product over its
    stages, the sum of the power of each. Only a residual codebook with a joint prior is
    materialised.

    Raises:
        ValueError: a residual codebook with a joint prior, too large to materialise.
    """
    if isinstance(cb, ProductCodebook):
        pairs = zip(cb.levels, _level_weights(cb), strict=True)
        return math.fsum(_power(column[:, None], weight) for column, weight in pairs)
    if isinstance(cb, OneHot):
        if cb.given_prior is None:
            return float(cb.scale**2 * (cb.K - 1) / cb.K)
        # sum pi (1 - pi), which does not cancel where one token holds nearly everything.
        rest = np.asarray(cb.given_prior)
        return float(cb.scale**2 * np.sum(rest * (1 - rest))) if cb.K > 1 else 0.0
    if isinstance(cb, ResidualCodebook) and cb.given_prior is None:
        pairs = zip(cb.stages, _stage_weights(cb), strict=True)
        return math.fsum(_power(np.asarray(stage), weight) for stage, weight in pairs)
    return _power(np.asarray(cb.points), _prior_of(cb))


def smallest_distance(cb: Codebook) -> float:
    """Smallest distance between two tokens; see `tokenkl.optimality.min_distance`."""
    if cb.K < 2:
        reject("K", cb.K, "at least 2 for a distance between tokens to exist")
    if isinstance(cb, ProductCodebook):
        return float(min(level_gaps(column).min() for column in cb.levels))
    if isinstance(cb, OneHot):
        return float(cb.scale * math.sqrt(2))
    return float(nearest_distances(np.asarray(cb.points)).min())


def diameter(cb: Codebook) -> float:
    """Largest distance between two tokens; a grid and one-hot tokens are not materialised.

    Raises:
        ValueError: another codebook too large to materialise.
    """
    if isinstance(cb, ProductCodebook):
        return math.sqrt(math.fsum(float(np.ptp(column)) ** 2 for column in cb.levels))
    if isinstance(cb, OneHot):
        return float(cb.scale) * math.sqrt(2) if cb.K > 1 else 0.0
    points = np.asarray(cb.points)
    rows = max(2**21 // len(points), 1)
    blocks = (points[start : start + rows] for start in range(0, len(points), rows))
    return float(max(cdist(block, points).max() for block in blocks))


def scale_to(
    cb: Codebook,
    *,
    box: float | None = None,
    power: float | None = None,
    min_distance: float | None = None,
) -> Codebook:
    """The codebook times one positive number, so that exactly one constraint holds.

    Kind, prior and order of the ids are kept, and lazy codebooks stay lazy; an `FSQ` comes back
    as the `ProductCodebook` of its scaled levels. Nothing is shifted: `centre` does that.

    Args:
        cb: the codebook.
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
        now = largest_coordinate(cb)
    elif name == "power":
        now, target = math.sqrt(average_power(cb)), math.sqrt(target)
    else:
        now = smallest_distance(cb)
    if now == 0:
        reject("cb", repr(cb), f"a codebook whose {name} is above 0, so that scaling can set it")
    return _scaled(cb, now, target)


def _scaled(cb: Codebook, now: float, target: float) -> Codebook:
    """Every coordinate divided by `now` and multiplied by `target`."""
    name = f"{cb.label}, scaled"
    if isinstance(cb, ProductCodebook):
        return _like_product(cb, [column / now * target for column in cb.levels], name)
    if isinstance(cb, OneHot):
        return OneHot(cb.K, cb.given_prior, cb.scale / now * target)
    if isinstance(cb, ResidualCodebook):
        stages = [stage / now * target for stage in cb.stages]
        return _like_residual(cb, stages, name)
    points = np.asarray(cb.points)
    return PointCodebook(
        points / now * target,
        _prior_of(cb),
        name=name,
        allow_duplicates=first_duplicate(points) is not None,
    )


def _like_product(cb: ProductCodebook, levels: list[Any], name: str) -> ProductCodebook:
    """A grid with other levels and everything else the same."""
    if cb.joint_prior is not None:
        return ProductCodebook(levels, prior=cb.joint_prior, order=cb.order, name=name)
    return ProductCodebook(levels, cb.priors, order=cb.order, name=name)


def _like_residual(cb: ResidualCodebook, stages: list[Any], name: str) -> ResidualCodebook:
    """A residual codebook with other stages and the same prior."""
    return ResidualCodebook(stages, cb.given_prior, stage_priors=cb.stage_priors, name=name)


def _prior_of(cb: Codebook) -> Float[np.ndarray, " K"] | None:
    """The prior, or None for equal priors that nobody had to write down."""
    if isinstance(cb, (PointCodebook, OneHot)):
        return cb.given_prior
    return None if cb.has_equal_priors else cb.prior


def _level_weights(cb: ProductCodebook) -> list[np.ndarray]:
    """Probabilities of the levels of every coordinate."""
    if cb.joint_prior is not None:
        return _marginals(cb.joint_prior, cb.shape, cb.order)
    return [
        np.full(size, 1 / size) if prior is None else np.asarray(prior)
        for size, prior in zip(cb.shape, cb.priors, strict=True)
    ]


def _stage_weights(cb: ResidualCodebook) -> list[np.ndarray]:
    """Probabilities of the vectors of every stage."""
    if cb.given_prior is not None:
        return _marginals(cb.given_prior, cb.shape, "C")
    return [np.exp(np.asarray(factor)) for factor in cb.stage_log_priors]


def _marginals(joint: Any, shape: tuple[int, ...], order: Any) -> list[np.ndarray]:
    grid = np.asarray(joint).reshape(shape, order=order)
    axes = range(len(shape))
    return [grid.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]


def _mean(points: np.ndarray, prior: Any) -> np.ndarray:
    return points.mean(axis=0) if prior is None else np.asarray(prior) @ points


def _power(points: np.ndarray, prior: Any) -> float:
    """Sum_k pi_k |e_k - mean|^2, by deviations, so that an offset does not cancel digits."""
    squares = np.square(points - _mean(points, prior)).sum(axis=1)
    return float(squares.mean() if prior is None else np.asarray(prior) @ squares)


def largest_coordinate(cb: Codebook) -> float:
    """The largest |coordinate| of any token, without materialising structured codebooks."""
    if isinstance(cb, ProductCodebook):
        return float(max(np.abs(column).max() for column in cb.levels))
    if isinstance(cb, OneHot):
        return float(cb.scale)
    if isinstance(cb, ResidualCodebook):
        # All combinations occur, so the extremes of a coordinate are the sums of the stages'.
        high = np.sum([np.max(stage, axis=0) for stage in cb.stages], axis=0)
        low = np.sum([np.min(stage, axis=0) for stage in cb.stages], axis=0)
        return float(max(high.max(), -low.min()))
    return float(np.abs(cb.points).max())
