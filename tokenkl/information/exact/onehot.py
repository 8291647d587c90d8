"""Exact information for one-hot codebooks, at any K: one-dimensional integrals only.

With Y = h e_k + eps, h = scale sqrt(snr), and l_k = log pi_k (docs/theory/index.md, statement 3):

- P_e = sum_k pi_k int phi(w - h - l_k/h) [1 - prod_{j != k} Phi(w - l_j/h)] dw.
- log(1 + R) = int_0^inf (1 - e^(-tau R)) e^(-tau) / tau dtau, applied to the odds R against the
  true token, gives, with L(v) = E exp(-e^(v + h z)), z ~ N(0, 1), and M = -L',
      H    = sum_k pi_k int L(v + l_k + h^2) [1 - prod_{j != k} L(v + l_j)] dv,
      mmse = scale^2 sum_k pi_k int M(v + l_k + h^2) [1 - prod_{j != k} L(v + l_j)] dv,
  and the sampling error is E R/(1 + R) = mmse / scale^2.

All integrands are positive and analytic around the real line: the trapezoid rule keeps full
relative precision. N = 1 - L is computed as the integral of a positive function, never as a
difference. Tokens with distinct priors are summed through Gauss quadrature rules of the empirical
law of l, one for each short interval, so that the work does not grow with K.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view
from scipy import special

from tokenkl.codebooks.onehot import OneHot
from tokenkl.information.exact.immse import mutual_information

EPS = np.finfo(float).eps
TINY = np.finfo(float).tiny

#: Nodes of the Gauss rule that stands for the tokens of one interval of log-priors.
RULE_SIZE = 14
#: Step of the trapezoid rules, in noise standard deviations.
STEP = 1 / 16
#: Points of the local polynomial interpolation of log N, log L and log M.
STENCIL = 16
#: Largest difference of log-priors: beyond it tables would have to reach deeper than they do.
#: (Measured for two tokens, against a line: errors below 1e-13 at 70, up to 5e-5 at 230.)
REACH = 70.0
#: Every quantity has its limit below the first h, and is smaller than any double beyond the second.
SEEN = 1e-145, 1e3
#: Beyond this h^2 / 4 - 2 log K everything but the accuracy is below the smallest double.
UNDERFLOW = 750.0


@np.errstate(under="ignore", over="ignore")
def has_reach(codebook: OneHot) -> bool:
    """Whether the tables of this module reach the least likely of the tokens."""
    return bool(np.ptp(np.asarray(codebook.log_prior)) <= REACH)


def onehot_profile(
    codebook: OneHot, snr: Float[np.ndarray, " s"], quantities: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Value and numerical error of the quantities at each SNR (one axis)."""
    if codebook.K == 1:
        zero = np.zeros_like(snr)
        return {name: (zero + (name == "accuracy"), zero) for name in quantities}
    # Equal priors are one token with a multiplicity; others are compressed from their sorted logs.
    log_prior = np.array([-math.log(codebook.K)])
    count = np.array([float(codebook.K)])
    if not codebook.has_equal_priors:
        log_prior, count = _distinct(np.sort(codebook.log_prior))
    # In units of the scale, within what is told from 0 and from no noise.
    scaled = np.sqrt(snr) * float(codebook.scale)
    roots = np.clip(scaled, *SEEN)
    out: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if {"accuracy", "error_probability"} & set(quantities):
        if codebook.has_equal_priors:
            error, accuracy, rounding = _equal_error_probability(codebook.K, roots)
        else:
            rows = np.array([_error_probability(log_prior, count, h) for h in roots])
            error, accuracy, rounding = rows.reshape(-1, 3).T
        out["error_probability"] = error, rounding
        out["accuracy"] = accuracy, np.minimum(rounding, accuracy) + 16 * EPS * accuracy
    if set(quantities) <= set(out):
        return out
    rule = compress(log_prior, count, 1.0)

    def entropy_and_mmse(roots: np.ndarray) -> np.ndarray:
        """Rows: entropy, MMSE, and the numerical errors of both."""
        return np.array([_entropy_and_mmse(rule, h) for h in roots]).reshape(-1, 4).T

    def mmse_at(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, mmse, _, error = entropy_and_mmse(np.maximum(np.sqrt(values), SEEN[0]))
        return mmse, error

    entropy, mmse, entropy_error, mmse_error = entropy_and_mmse(roots)
    out["conditional_entropy"] = entropy, entropy_error
    out["sampling_error"] = mmse, mmse_error
    out["mmse"] = tuple((np.sqrt(part) * codebook.scale) ** 2 for part in (mmse, mmse_error))
    if "mutual_information" in quantities:
        prior_entropy = float(codebook.prior_entropy())
        rounding = EPS * (16 - log_prior[0]) * prior_entropy
        out["mutual_information"] = mutual_information(
            scaled**2, (prior_entropy, rounding), (entropy, entropy_error), mmse_at, math.sqrt(2)
        )
    return out


# ---- Tokens of distinct priors ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """sum_k f(l_k) ~ sum_i count_i f(l_i), for f analytic; log-priors ascending."""

    log_prior: np.ndarray
    count: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """Total prior probability that each node stands for."""
        return self.count * np.exp(self.log_prior)


def _distinct(log_prior: Float[np.ndarray, " K"]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values of sorted log-priors, and how often each occurs.

    Values that differ by rounding only are one value: a Gauss rule could not tell them apart.
    """
    jumps = np.diff(log_prior) > 8 * EPS * np.maximum(1, -log_prior[1:])
    starts = np.concatenate([[0], np.flatnonzero(jumps) + 1])
    counts = np.diff(np.concatenate([starts, [log_prior.size]]))
    return log_prior[starts], counts.astype(float)


def compress(
    values: Float[np.ndarray, " distinct"], counts: Float[np.ndarray, " distinct"], width: float
) -> Rule:
    """Gauss rules of the law of ascending log-priors, one for each interval of `width`.

    An interval with at most RULE_SIZE distinct values is kept as it is.
    """
    interval = np.floor((values - values[0]) / width)
    nodes, weights = [], []
    for low, high in _runs(interval):
        u, c = values[low:high], counts[low:high]
        if u.size > RULE_SIZE:
            u, c = _gauss_rule(u, c)
        nodes.append(u)
        weights.append(c)
    return Rule(np.concatenate(nodes), np.concatenate(weights))


def _runs(labels: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of every run of equal labels."""
    breaks = np.flatnonzero(np.diff(labels)) + 1
    return list(zip([0, *breaks], [*breaks, labels.size], strict=True))


def _gauss_rule(u: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RULE_SIZE nodes and positive weights, exact for polynomials of degree 2 RULE_SIZE - 1.

    Stieltjes procedure for the recurrence coefficients, then Golub and Welsch (1969).
    """
    middle, half = (u[0] + u[-1]) / 2, (u[-1] - u[0]) / 2
    x = (u - middle) / half
    total = counts.sum()
    diagonal, off = np.zeros(RULE_SIZE), np.zeros(RULE_SIZE)
    previous, current = np.zeros_like(x), np.ones_like(x)
    norm = total
    for degree in range(RULE_SIZE):
        diagonal[degree] = (counts * x * current**2).sum() / norm
        following = (x - diagonal[degree]) * current - off[degree] * previous
        new_norm = (counts * following**2).sum()
        if degree + 1 < RULE_SIZE:
            off[degree + 1] = new_norm / norm
        previous, current, norm = current, following, new_norm
    matrix = np.diag(diagonal) + np.diag(np.sqrt(off[1:]), 1) + np.diag(np.sqrt(off[1:]), -1)
    nodes, vectors = np.linalg.eigh(matrix)
    return middle + half * nodes, total * vectors[0] ** 2


def _others(terms: np.ndarray, count: np.ndarray) -> np.ndarray:
    """For every node, the sum of the terms of all tokens but one of that node (last axis).

    Prefix and suffix sums: subtracting a term from the total would lose the small others.
    """
    weighted = terms * count
    zero = np.zeros((*terms.shape[:-1], 1))
    before = np.concatenate([zero, np.cumsum(weighted, axis=-1)[..., :-1]], axis=-1)
    after = np.concatenate([zero, np.cumsum(weighted[..., ::-1], axis=-1)[..., :-1]], axis=-1)
    return before + after[..., ::-1] + (count - 1) * terms


# ---- Accuracy -----------------------------------------------------------------------------------


def _error_probability(
    log_prior: np.ndarray, count: np.ndarray, h: float
) -> tuple[float, float, float]:
    """Error probability, accuracy, and the numerical error of the first."""
    top = log_prior[-1]
    # A token this far below the most probable one is never decided on: all its weight is error.
    hopeless = np.searchsorted(log_prior, top - 40 * h)
    lost = (count[:hopeless] * np.exp(log_prior[:hopeless])).sum()
    rule = compress(log_prior[hopeless:], count[hopeless:], min(1.0, h))
    shift = (rule.log_prior - top) / h  # noise units
    low = h + shift - MARGIN_W - np.maximum(0, (h + shift) / 2)
    # Even, so that two interleaved grids tell the error.
    steps = 2 * math.ceil((h + MARGIN_W - low.min()) / STEP / 2)
    w = low.min() + STEP * np.arange(steps)[:, None]
    argument = w - shift
    log_cdf = np.where(
        argument > -1,
        np.log1p(-special.ndtr(-np.maximum(argument, -1))),
        special.log_ndtr(np.minimum(argument, -1)),
    )
    log_correct = _others(log_cdf, rule.count)
    missed = -np.expm1(log_correct)
    density = np.exp(-((argument - h) ** 2) / 2) / math.sqrt(2 * math.pi)
    halves = _halves(density * rule.weight * missed)
    error = STEP * halves.sum() + lost
    # Where errors are the rule, accuracy is summed for itself.
    accuracy = 1 - error
    if accuracy < 0.5:
        accuracy = STEP * (density * rule.weight * np.exp(log_correct)).sum()
    gap = 2 * abs(halves[0] - halves[1]) / max(halves.sum(), TINY)
    exponent = abs(math.log(max(error, TINY)))
    relative = min(gap, 16 * gap**2) + EPS * (64 + 8 * exponent)
    return error, accuracy, error * relative + TINY


def _equal_error_probability(
    K: int, roots: Float[np.ndarray, " s"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `_error_probability` finds, for equal priors and all levels together.

    One grid of w serves every h, so that what depends on K is found once, and a level costs one
    Gaussian at each node.
    """
    reach = min(float(roots.max(initial=0.0)) + MARGIN_W, FARTHEST_W)
    steps = 2 * math.ceil((reach + MARGIN_W) / STEP / 2)
    w = -MARGIN_W + STEP * np.arange(steps)
    log_cdf = np.where(
        w > -1, np.log1p(-special.ndtr(-np.maximum(w, -1))), special.log_ndtr(np.minimum(w, -1))
    )
    log_correct = (K - 1) * log_cdf
    missed, correct = -np.expm1(log_correct), np.exp(log_correct)
    # Contiguous halves, so that each is one sum of products in a fixed order.
    halves_w, halves_missed, halves_correct = (
        np.concatenate([row[0::2], row[1::2]]).reshape(2, -1) for row in (w, missed, correct)
    )
    factor = STEP / math.sqrt(2 * math.pi)
    sums, right = np.empty((2, roots.size)), np.zeros(roots.size)
    for start in range(0, roots.size, LEVELS):
        part = slice(start, start + LEVELS)
        for half in (0, 1):
            density = np.exp(-((halves_w[half] - roots[part, None]) ** 2) / 2)
            sums[half, part] = factor * np.einsum("sw,w->s", density, halves_missed[half])
            right[part] += factor * np.einsum("sw,w->s", density, halves_correct[half])
    # Below the grid every token is missed.
    error = sums.sum(axis=0) + special.ndtr(-MARGIN_W - STEP / 2 - roots)
    accuracy = np.where(error > 0.5, right, 1 - error)
    gap = 2 * np.abs(sums[0] - sums[1]) / np.maximum(error, TINY)
    exponent = np.abs(np.log(np.maximum(error, TINY)))
    relative = np.minimum(gap, 16 * gap**2) + EPS * (64 + 8 * exponent)
    return error, accuracy, error * relative + TINY


#: Reach of the grid around h; beyond the second number no double is left of Q(w).
MARGIN_W, FARTHEST_W = 10.0, 39.0
#: Levels worked on together (2.5 MiB).
LEVELS = 512


def _halves(values: np.ndarray) -> np.ndarray:
    """Sums over the even and the odd nodes (first axis)."""
    return np.array([values[0::2].sum(), values[1::2].sum()])


# ---- Entropy and MMSE -----------------------------------------------------------------------


def _entropy_and_mmse(rule: Rule, h: float) -> tuple[float, float, float, float]:
    """Entropy and MMSE (unit scale) at one h, and their numerical errors."""
    total = rule.count.sum()
    if h**2 / 4 - 2 * math.log(total) > UNDERFLOW:
        return 0.0, 0.0, TINY, TINY
    step = max(1 / 8, h * STEP)
    low = -(h**2) / 2 - 45 - math.log(total) - min(h**2 / 4, 9 * h)
    high = -(h**2) / 2 + 9 * h + 5
    top, bottom = rule.log_prior[-1], rule.log_prior[0]
    steps = 2 * math.ceil((high - bottom - low + top) / step / 2)
    v = low - top + step * np.arange(steps)[:, None]
    argument = v + rule.log_prior
    # Rarer tokens ask for smaller arguments, to where the logarithms are straight lines.
    deep = min(low, max(low - (top - bottom), -(h**2) - 9 * h - 10))
    table = smoothed_gumbel(h, deep, high + h**2)
    log_n, log_l = table(argument, (N_ROW, L_ROW))
    n = np.exp(np.minimum(log_n, 0.0))
    # log L from N where N is small, from itself elsewhere; floored where L is zero anyway.
    log_survival = np.where(n < 0.5, np.log1p(-np.minimum(n, 0.5)), log_l)
    missed = -np.expm1(np.maximum(_others(log_survival, rule.count), -800.0)) * rule.weight
    values, errors = [], []
    for log_kernel in table(argument + h**2, (L_ROW, M_ROW)):
        halves = step * _halves(np.exp(log_kernel) * missed)
        value = halves.sum()
        gap = 2 * abs(halves[0] - halves[1]) / max(value, TINY)
        exponent = abs(math.log(max(value, TINY)))
        values.append(value)
        errors.append(value * (min(gap, 16 * gap**2) + EPS * (256 + 8 * exponent)) + TINY)
    return values[0], values[1], errors[0], errors[1]


#: Rows of the table that `smoothed_gumbel` interpolates.
N_ROW, L_ROW, M_ROW = 0, 1, 2

#: h below which a Gauss-Hermite rule smooths: exp(-e^v) is then almost a polynomial over the noise.
SMALL_H = 0.05
HERMITE_NODES, HERMITE_WEIGHTS = np.polynomial.hermite_e.hermegauss(20)


def smoothed_gumbel(
    h: float, low: float, high: float
) -> Callable[[np.ndarray, tuple[int, ...]], list[np.ndarray]]:
    """log N, log L and log M on [low, high], to be interpolated; continued linearly beyond.

    L(v) = E exp(-e^(v + h z)), N = 1 - L, M = -L'. Far below, N and M are e^(v + h^2/2), but for
    a part of them that is Q((-v - h^2) / h).
    """
    step = max(1 / 16, h * STEP)
    count = math.ceil((high - low) / step) + 1 + STENCIL
    start = low - step * STENCIL / 2
    if h < SMALL_H:
        v = start + step * np.arange(count)[:, None]
        weights = HERMITE_WEIGHTS / math.sqrt(2 * math.pi)
        tables = [np.einsum("ij,j->i", f, weights) for f in _gumbel(v + h * HERMITE_NODES)]
    else:
        # Trapezoid rule in t = v + h z, on one fine grid for all v: a discrete convolution. The
        # functions vary on the scale 1, the Gaussian on the scale h.
        ratio = math.ceil(step / min(1 / 8, h / 8))
        fine = step / ratio
        # Reaches over the peaks of both N (z = -v / h up to h/2 + 9) and L.
        reach = math.ceil(h * (h / 2 + 26) / fine)
        offsets = fine * np.arange(-reach, reach + 1)
        kernel = np.exp(-((offsets / h) ** 2) / 2) * (fine / h) / math.sqrt(2 * math.pi)
        t = start + fine * np.arange(-reach, (count - 1) * ratio + reach + 1)
        # einsum on a view: no copy of the overlapping windows, and no threads for small work.
        tables = [
            np.einsum("ij,j->i", sliding_window_view(column, kernel.size)[::ratio], kernel)
            for column in _gumbel(t)
        ]
    return _interpolant(np.log(np.maximum(tables, 1e-320)), start, step)


def _gumbel(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """1 - exp(-e^t), exp(-e^t) and e^t exp(-e^t)."""
    rate = np.exp(np.minimum(t, 700.0))
    survival = np.exp(-rate)
    return -np.expm1(-rate), survival, rate * survival


def _interpolant(
    table: np.ndarray, start: float, step: float
) -> Callable[[np.ndarray, tuple[int, ...]], list[np.ndarray]]:
    """Local polynomial interpolation of rows on an even grid, linear continuation outside of it.

    Below it with the slopes that are known there: a measured one would be off by its rounding.
    """
    half = STENCIL // 2
    # Barycentric weights of equispaced nodes are binomial coefficients with alternating signs.
    signs = [(-1.0) ** k * math.comb(STENCIL - 1, k) for k in range(STENCIL)]
    first, last = half - 1, table.shape[1] - half - 1
    slope_below = {N_ROW: step, L_ROW: 0.0, M_ROW: step}
    slope_above = table[:, last] - table[:, last - 1]

    def evaluate(x: np.ndarray, rows: tuple[int, ...]) -> list[np.ndarray]:
        position = (x - start) / step
        inside = np.clip(position, first, last)
        base = np.minimum(inside.astype(int), last - 1)
        # On a node the weight of that node takes over: 1e-30 stands for a distance of zero.
        fraction = np.maximum(inside - base, 1e-30)
        fraction = np.where(fraction == 1, 1 - EPS, fraction)
        numerators = [np.zeros_like(fraction) for _ in rows]
        denominator = np.zeros_like(fraction)
        for k in range(STENCIL):
            weight = signs[k] / (fraction - (k - half + 1))
            denominator += weight
            for numerator, row in zip(numerators, rows, strict=True):
                numerator += weight * table[row][base + (k - half + 1)]
        over, under = np.maximum(position - last, 0), np.maximum(first - position, 0)
        return [
            numerator / denominator + over * slope_above[row] - under * slope_below[row]
            for numerator, row in zip(numerators, rows, strict=True)
        ]

    return evaluate
