"""Rank correlations, and how far a handful of geometries determines them."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from tokenkl._random import generator
from tokenkl._validation import as_float_array, check_choice, reject
from tokenkl.estimate import ConfidenceInterval


def spearman(
    a: Float[np.ndarray, "*batch n"], b: Float[np.ndarray, "*batch n"]
) -> Float[np.ndarray, "*batch"]:
    """Spearman correlation along the last axis, with mean ranks for ties; 0 for a constant.

    The first argument is rounded to 9 digits, so that equal predictions are equal.
    """
    a, b = stats.rankdata(a.round(9), axis=-1), stats.rankdata(b, axis=-1)
    a, b = (x - x.mean(axis=-1, keepdims=True) for x in (a, b))
    norm = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.where(norm > 0, (a * b).sum(axis=-1) / np.maximum(norm, 1e-300), 0.0)


def kendall(
    a: Float[np.ndarray, "*batch n"], b: Float[np.ndarray, "*batch n"]
) -> Float[np.ndarray, "*batch"]:
    """Kendall's tau-b along the last axis; 0 where one is constant. Rounding as in `spearman`."""
    a = a.round(9)
    sign_a, sign_b = (np.sign(x[..., :, None] - x[..., None, :]) for x in (a, b))
    norm = np.sqrt((sign_a**2).sum(axis=(-1, -2)) * (sign_b**2).sum(axis=(-1, -2)))
    return np.where(norm > 0, (sign_a * sign_b).sum(axis=(-1, -2)) / np.maximum(norm, 1e-300), 0.0)


KINDS = {"spearman": spearman, "kendall": kendall}


@dataclasses.dataclass(frozen=True)
class RankCorrelation:
    """A rank correlation over geometries, and what it hangs on.

    - `value`: of the predictor and the mean outcome over replicates.
    - `interval`: geometries and replicates resampled: about other geometries of the same kind.
    - `replicates`: replicates alone resampled: about these geometries.
    - `leave_one_out`: smallest and largest value without one geometry.
    """

    value: float
    interval: ConfidenceInterval
    replicates: ConfidenceInterval
    leave_one_out: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def rank_correlation(
    x: Float[Any, " geometries"],
    y: Float[Any, "geometries replicates"],
    key: Any,
    *,
    kind: Literal["spearman", "kendall"] = "spearman",
    level: float = 0.95,
    resamples: int = 4000,
) -> RankCorrelation:
    """Rank correlation of a prediction and an outcome measured several times.

    In simulations with 7 to 12 geometries and 3 replicates, normal, the nominal 95 % `interval`
    covered 94 to 99 % of the time, more where the correlation is high. It is about the correlation
    with means over as many replicates: noise in the outcome pulls it towards 0.

    Args:
        x: the prediction for each geometry, at least four of them.
        y: the outcome of each geometry in every replicate (training seed), independent of those of
            other geometries; one column where it is known exactly.
        key: whole number or JAX random key, of the resampling.
        kind: "spearman" or "kendall" (tau-b).
        level: of the intervals.
        resamples: of each.

    Raises:
        ValueError: shapes that do not fit, fewer than four geometries, or an unknown kind.
    """
    x, y = as_float_array("x", x, ndim=1), as_float_array("y", y, ndim=2)
    n, seeds = y.shape
    if x.shape != (n,) or n < 4:
        reject("x, y", f"shapes {x.shape} and {y.shape}", "of shapes (G,) and (G, R) with G >= 4")
    function = KINDS[check_choice(kind, tuple(KINDS), "kind")]
    rng = generator(key)
    same = np.broadcast_to(np.arange(n), (resamples, n))

    def interval(chosen: np.ndarray) -> ConfidenceInterval:
        columns = rng.integers(seeds, size=(resamples, n, seeds))
        means = y[chosen[..., None], columns].mean(axis=-1)
        ends = np.quantile(function(x[chosen], means), [(1 - level) / 2, (1 + level) / 2])
        return ConfidenceInterval(float(ends[0]), float(ends[1]), level)

    both, replicates = interval(rng.integers(n, size=(resamples, n))), interval(same)
    mean = y.mean(axis=1)
    rest = ~np.eye(n, dtype=bool)
    without = function(np.stack([x[row] for row in rest]), np.stack([mean[row] for row in rest]))
    value = float(function(x, mean))
    return RankCorrelation(value, both, replicates, (float(without.min()), float(without.max())))


def permutation_p(
    x: Float[Any, " n"], y: Float[Any, " n"], kind: Literal["spearman", "kendall"] = "spearman"
) -> float:
    """Two-sided test of no association: all permutations up to n = 8, 100,000 random ones beyond.

    Raises:
        ValueError: shapes that do not fit, or an unknown kind.
    """
    x, y = as_float_array("x", x, ndim=1), as_float_array("y", y, ndim=1)
    if x.shape != y.shape:
        reject("x, y", f"shapes {x.shape} and {y.shape}", "of one length")
    function = KINDS[check_choice(kind, tuple(KINDS), "kind")]
    found = stats.permutation_test(
        (x,),
        lambda values, axis: function(values, np.broadcast_to(y, values.shape)),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=40_320 if x.size <= 8 else 100_000,
        batch=4096,
        rng=generator(0),
    )
    return float(found.pvalue)
