"""How steep the score can be: the largest eigenvalue that the posterior covariance reaches.

The Hessian of the log-density of Y is -I + snr Cov(e | y), so the score of Y has the Lipschitz
constant max(1, snr lambda - 1) with lambda = sup over y of the largest eigenvalue of Cov(e | y),
and for X = sigma Y that over sigma^2. A grid with a product prior in the box has lambda <= 1 in any
number of dimensions; a general codebook in the box can reach n.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from tokenkl._random import generator, split
from tokenkl._validation import check_count, check_snr, is_traced, reject
from tokenkl.codebooks import Codebook, OneHot
from tokenkl.codebooks.base import check_codebook
from tokenkl.estimate import Bound, Estimate
from tokenkl.information.exact.product import different_levels, distinct_coordinates

EPS = np.finfo(float).eps
#: Starts of the search, and its steps; how many are polished, and for how long.
STARTS, STEPS = 64, 60
POLISHED, POLISH_STEPS = 3, 100
#: Most numbers held at once.
BLOCK = 2**22
#: Smallest cells in one coordinate, in units of two over the levels' range: log variance changes by
#: no more from their middle, so that what is left is to climb the hills that they show.
FINEST, CLIMBS = 0.3, 30
TINY = np.finfo(float).tiny


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreLipschitz:
    """The largest eigenvalue of Cov(e | y) over all y, and what follows for the score of Y.

    - `covariance`: an `Estimate` where it is exact, a lower `Bound` where it was searched for.
    - `score`: max(1, snr * covariance - 1), of the same kind.
    - `ceiling`: an upper bound of `covariance`, whatever the SNR: the squared radius of a ball
      around the codebook.
    """

    covariance: Estimate | Bound
    score: Estimate | Bound
    ceiling: Bound

    @property
    def is_exact(self) -> bool:
        """Whether the values are exact rather than lower bounds."""
        return isinstance(self.covariance, Estimate)


def score_lipschitz(
    codebook: Codebook, snr: float, *, key: Any = None, starts: int = STARTS
) -> ScoreLipschitz:
    """Largest eigenvalue of Cov(e_k | y) over all y, and the Lipschitz constant of the score.

    Exact for grids with a product prior (the largest posterior variance of one coordinate, at most
    1/4 of the squared length of its levels' range) and for one-hot tokens (scale^2 / 2: two tokens
    tie, all others are as unlikely as wanted); of independent parts the largest is taken. Otherwise
    a lower bound: posteriors have the form p_k ~ pi_k exp(<theta, e_k> - snr |e_k|^2 / 2) with any
    theta, and gradient ascent on the largest eigenvalue starts at theta where pairs of tokens tie:
    near neighbours, far and random ones.

    Args:
        codebook: any codebook.
        snr: one signal-to-noise ratio, at least 0.
        key: integer seed or JAX key for the starts of the search; needed where it searches.
        starts: number of starts.

    Raises:
        ValueError: snr negative, not finite or not one number; no key where one is needed.

    Example:
        >>> import tokenkl as tk
        >>> float(tk.score_lipschitz(tk.FSQ((2,) * 8), 4.0).covariance)
        1.0
    """
    check_codebook(codebook)
    level = check_snr(snr)
    if is_traced(level) or level.ndim:
        reject("snr", snr, "one concrete number")
    level = float(level)
    check_count(starts, "starts")
    named: dict[str, Any] = {"quantity": "posterior covariance", "unit": "squared distance"}
    if isinstance(codebook, OneHot):
        value = codebook.scale**2 / 2 if codebook.K > 1 else 0.0
        ceiling = codebook.scale**2 * (codebook.K - 1) / codebook.K
        return _exact(float(value), EPS * float(value), level, float(ceiling), named)
    grid = codebook.factors
    if grid is not None:
        found = [
            _scalar_supremum(levels, log_prior, level)
            for levels, log_prior, _ in distinct_coordinates(grid)
        ]
        ceiling = sum(float(np.ptp(levels)) ** 2 / 4 for levels in grid.levels)
        value = max(one for one, _ in found)
        error = max(one + slack for one, slack in found) - value
        return _exact(value, error, level, ceiling, named)
    if codebook.has_parts:
        return _by_part(codebook, level, key, starts, named)
    if key is None:
        reject("key", "None", f"an integer seed or a JAX key, since {codebook!r} is searched")
    points = np.asarray(codebook.points)
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    ceiling = float((points**2).sum(axis=1).max())
    value = _search(points, codebook.log_prior, level, key, starts)
    return _searched(value, level, ceiling, named)


def _by_part(
    codebook: Codebook, level: float, key: Any, starts: int, named: dict[str, Any]
) -> ScoreLipschitz:
    """Cov(e | y) has the covariances of the parts along its diagonal: the largest of all counts."""
    pairs = zip(codebook.parts, split(key, len(codebook.parts)), strict=True)
    found = [score_lipschitz(part, level, key=own, starts=starts) for part, own in pairs]
    largest = max((one.covariance for one in found), key=lambda one: float(one.value))
    ceiling = max(float(one.ceiling.value) for one in found)
    value = float(largest.value)
    exact = [one.covariance for one in found if isinstance(one.covariance, Estimate)]
    if len(exact) == len(found):
        error = max(float(one.value + one.numerical_error) for one in exact) - value
        return _exact(value, error, level, ceiling, named)
    return _searched(value, level, ceiling, named)


def _score(value: float, snr: float) -> float:
    return max(1.0, snr * value - 1)


def _ceiling(value: float, named: dict[str, Any]) -> Bound:
    return Bound(value, "upper", "squared radius", "Bhatia and Davis 2000", **named)


def _exact(
    value: float, error: float, snr: float, ceiling: float, named: dict[str, Any]
) -> ScoreLipschitz:
    score = Estimate(
        _score(value, snr), 0.0, snr * error + EPS, quantity="score Lipschitz constant"
    )
    return ScoreLipschitz(Estimate(value, 0.0, error, **named), score, _ceiling(ceiling, named))


def _searched(value: float, snr: float, ceiling: float, named: dict[str, Any]) -> ScoreLipschitz:
    name = "search over observations"
    lower = Bound(value, "lower", name, **named)
    score = Bound(_score(value, snr), "lower", name, quantity="score Lipschitz constant")
    return ScoreLipschitz(lower, score, _ceiling(ceiling, named))


# ---- One coordinate ---------------------------------------------------------------------------


def _scalar_supremum(levels: np.ndarray, log_prior: np.ndarray, snr: float) -> tuple[float, float]:
    """The largest variance of p_k ~ pi_k exp(theta u_k - snr u_k^2 / 2) over theta; its error."""
    u, base = different_levels(levels, log_prior)
    if u.size == 1:
        return 0.0, 0.0
    u = u - u.mean()
    span = float(u[-1] - u[0])
    error = 64 * EPS * span**2
    # Ties of neighbours, and of all with an outermost level, in the order of their theta. What is
    # near a tie of i and j counts from it, with -snr (u_k - u_i)(u_k - u_j) / 2 in the exponent:
    # theta itself and snr u^2 / 2 have no digits left for the tie where the SNR is high.
    low, high = np.arange(u.size - 1), np.arange(1, u.size)
    i, j = np.concatenate([low, 0 * low, low]), np.concatenate([high, high, 0 * low + u.size - 1])
    snr = min(snr, 1e100 / span / span)  # more changes nothing, and would overflow
    tilt = (base[i] - base[j]) / (u[j] - u[i])
    place = snr * (u[i] + u[j]) / 2 + tilt
    order = np.argsort(place)
    i, j, tilt, place = i[order], j[order], tilt[order], place[order]

    def moments(tie: np.ndarray, tau: np.ndarray) -> np.ndarray:
        """Rows: distance from the tie, mean, variance, number of the tie."""
        out = np.stack([tau, np.zeros(tau.size), np.zeros(tau.size), tie])
        for start in range(0, tau.size, max(1, BLOCK // u.size)):
            part = slice(start, start + max(1, BLOCK // u.size))
            own = tie[part].astype(int)
            first, second = u - u[i[own], None], u - u[j[own], None]
            lost = snr * first * second / 2
            p = special.softmax((tau[part] + tilt[own])[:, None] * first + base - lost, axis=1)
            out[1, part] = p @ u
            out[2, part] = (p * (u - out[1, part, None]) ** 2).sum(axis=1)
        return out

    # A distance X beyond the last tie the variance is at most a sum of d^2 exp(-X d), each at most
    # 1 / X^2.
    every = np.arange(place.size)
    at = moments(every, 0.0 * place)
    beyond = math.sqrt(u.size / max(float(at[2].max()), error))
    reach = np.concatenate([[beyond], np.diff(place) / 2, [beyond]]) + 4 * EPS * abs(place).max()
    ends = moments(every, -reach[:-1]), moments(every, reach[1:])
    left, right = np.concatenate([ends[0], at], axis=1), np.concatenate([at, ends[1]], axis=1)
    at = np.concatenate([left, ends[1]], axis=1)
    while True:
        top = float(at[2].max())
        width = right[0] - left[0]
        # The mean rises by the variance, and |d log variance / d theta| is at most the span. So the
        # variance is at most the root of its values at the ends times exp(span width / 2), and one
        # of v makes the mean rise by v (1 - exp(-span width / 2)) / span or more.
        half = span * width / 2
        both = np.sqrt(np.maximum(left[2], TINY)) * np.sqrt(np.maximum(right[2], TINY))
        by_ends = np.where(half < 300, both * np.exp(np.minimum(half, 300.0)), np.inf)
        by_rise = (span * (right[1] - left[1]) + error) / -np.expm1(-np.maximum(half, EPS))
        middle = left[0] + width / 2
        open_ = np.minimum(by_ends, by_rise) > top + error
        open_ &= (half > FINEST) & (left[0] < middle) & (middle < right[0])
        if not open_.any():
            break
        cut = moments(left[3, open_], middle[open_])
        at = np.concatenate([at, cut], axis=1)
        left = np.concatenate([left[:, open_], cut], axis=1)
        right = np.concatenate([cut, right[:, open_]], axis=1)
    # Shrinking windows around every high place.
    at = at[:, np.lexsort((at[0], at[3]))]
    inner = at[2, 1:-1]
    peak = 1 + np.flatnonzero((inner >= np.maximum(at[2, :-2], at[2, 2:])) & (inner > top / 2))
    tau, tie = at[0, peak], at[3, peak]
    width = 2 * FINEST / span  # wider intervals next to a peak hold nothing higher
    for _ in range(CLIMBS):
        window = tau[:, None] + width * np.linspace(-1, 1, 9)
        found = moments(np.repeat(tie, 9), window.ravel())[2].reshape(window.shape)
        tau = window[np.arange(tau.size), found.argmax(axis=1)]
        top, width = max(top, float(found.max())), width / 2
    return top, error


# ---- Search -----------------------------------------------------------------------------------


def _search(
    points: Float[np.ndarray, "K n"], log_prior: np.ndarray, snr: float, key: Any, starts: int
) -> float:
    """The largest eigenvalue found by gradient ascent in theta; a lower bound by construction."""
    K, n = points.shape
    if not points.any():  # about their middle: all are equal
        return 0.0
    logits = np.asarray(log_prior) - snr * (points**2).sum(axis=1) / 2
    theta = _pair_starts(points, logits, snr, generator(key), starts)
    size = max(1, BLOCK // (K * n))
    parts = [
        _ascend(points, logits, theta[start : start + size]) for start in range(0, len(theta), size)
    ]
    theta, value = (np.concatenate(each) for each in zip(*parts, strict=True))
    best = float(value.max())
    for start in np.argsort(-value)[:POLISHED]:
        best = max(best, _polished(points, logits, theta[start]))
    return best


def _pair_starts(
    points: np.ndarray, logits: np.ndarray, snr: float, rng: np.random.Generator, starts: int
) -> np.ndarray:
    """Values of theta where two tokens tie: random, far and near pairs; and theta = 0."""
    K, n = points.shape
    first = rng.integers(K, size=starts)
    first[0] = int((points**2).sum(axis=1).argmax())
    distance = ((points[first][:, None] - points) ** 2).sum(axis=2)
    far = distance.argmax(axis=1)
    distance[np.arange(starts), first] = np.inf
    near = distance.argmin(axis=1)
    kind = np.arange(starts) % 3
    second = np.choose(kind, [far, near, rng.integers(K, size=starts)])
    gap = points[second] - points[first]
    square = (gap**2).sum(axis=1)
    usable = square > 0
    first, gap, square = first[usable], gap[usable], square[usable]
    second = second[usable]
    # Around the pair's midpoint, and farther out, where only the hull's tokens compete.
    middle = (points[first] + points[second]) / 2
    push = np.array([0.0, 1.0, 4.0])[np.arange(first.size) // 3 % 3]
    theta = (snr + push * (snr + 8 / square.max()))[:, None] * middle
    tie = (logits[first] - logits[second] - (gap * theta).sum(axis=1)) / square
    theta = theta + tie[:, None] * gap
    return np.concatenate([np.zeros((1, n)), theta])


def _ascend(
    points: np.ndarray, logits: np.ndarray, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ascent with steps that grow where the eigenvalue rises and shrink where it does not."""
    value, slope = _eigenvalue(points, logits, theta)
    length = np.full(len(theta), 0.5 / math.sqrt(max((points**2).sum(axis=1).max(), 1e-300)))
    for _ in range(STEPS):
        norm = np.linalg.norm(slope, axis=1)
        direction = slope / np.maximum(norm, 1e-300)[:, None]
        trial = theta + length[:, None] * direction
        found, steepness = _eigenvalue(points, logits, trial)
        better = found > value
        theta = np.where(better[:, None], trial, theta)
        slope = np.where(better[:, None], steepness, slope)
        value = np.where(better, found, value)
        length = length * np.where(better, 1.6, 0.4)
    return theta, value


def _polished(points: np.ndarray, logits: np.ndarray, theta: np.ndarray) -> float:
    """The same by a quasi-Newton method, which follows narrow ridges out to far observations."""

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _eigenvalue(points, logits, flat[None])
        return -float(value[0]), -slope[0]

    found = optimize.minimize(
        objective, theta, jac=True, method="L-BFGS-B", options={"maxiter": POLISH_STEPS}
    )
    return -float(found.fun)


def _eigenvalue(
    points: np.ndarray, logits: np.ndarray, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalue of the covariance, and its gradient E <u, e - m>^2 (e - m)."""
    p = special.softmax(theta @ points.T + logits, axis=1)
    mean = p @ points
    second = np.einsum("sk,ki,kj->sij", p, points, points, optimize=True)
    covariance = second - mean[:, :, None] * mean[:, None, :]
    vectors = np.linalg.eigh(covariance)[1][:, :, -1]
    along = vectors @ points.T - (vectors * mean).sum(axis=1)[:, None]
    weight = p * along**2  # by deviations: the second moments above only choose the direction
    value = weight.sum(axis=1)
    return value, weight @ points - value[:, None] * mean
