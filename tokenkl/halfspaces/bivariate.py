"""Two correlated standard normals that are both large, with relative accuracy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special

#: Trapezoid rule in log s: the integrand is analytic up to |Im| = pi/4 whatever the correlation, so
#: the rule errs by exp(-2 pi (pi/4) / STEP), and what lies below exp(LOWEST) is as small.
STEP, LOWEST, HIGHEST = 1 / 6, -30.0, 4.4
#: Numbers worked on at once.
CHUNK = 2**21
#: Probabilities from here on come from Owen's T function, which is faster.
DIRECT = 1e-4
#: Correlations this near to 1 or -1 count as such.
NEARLY_ONE = 1 - 1e-15


def bivariate_tail(
    h: Float[Any, " *batch"], k: Float[Any, " *batch"], rho: Float[Any, " *batch"]
) -> Float[np.ndarray, " *batch"]:
    """P(X > h, Y > k) for standard normals X, Y with correlation rho.

    By Owen's T function down to 1e-4. Below, for h >= k (they are exchanged otherwise), it is the
    integral of the positive function phi(x) Q((k - rho x) / sqrt(1 - rho^2)) over x > h, by the
    trapezoid rule in log(x - h), with a relative error below 1e-11 as far as double precision
    reaches. With both thresholds negative, where it is no tail, the absolute error is below 1e-15.

    Args:
        h, k: thresholds, infinite ones allowed; all three arguments broadcast.
        rho: correlation, in [-1, 1].

    Example:
        >>> round(float(bivariate_tail(0.0, 0.0, 0.5)), 12)  # 1/4 + arcsin(1/2) / (2 pi)
        0.333333333333
    """
    h, k, rho = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (h, k, rho)))
    shape = h.shape
    high, low, rho = np.maximum(h, k).ravel(), np.minimum(h, k).ravel(), rho.ravel()
    out = special.ndtr(-high)  # where rho = 1, or where the smaller threshold is no threshold
    opposite = rho <= -NEARLY_ONE
    with np.errstate(invalid="ignore"):
        out[opposite] = np.maximum(out - special.ndtr(low), 0.0)[opposite]
    inner = np.flatnonzero((np.abs(rho) < NEARLY_ONE) & np.isfinite(high) & np.isfinite(low))
    out[inner] = _by_owens_t(high[inner], low[inner], rho[inner])
    tails = inner[(out[inner] < DIRECT) & (high[inner] >= 0)]
    # Where the second threshold gives way only beyond the edge, the integrand has a narrow slope
    # there; at least about half of what lies beyond the first threshold is then in the quadrant.
    late = (low[tails] < 0) & (low[tails] < rho[tails] * high[tails]) & (rho[tails] < 0)
    a, b, c = high[tails[late]], -low[tails[late]], -rho[tails[late]]
    out[tails[late]] = special.ndtr(-a) - _tail(np.maximum(a, b), np.minimum(a, b), c)
    tails = tails[~late]
    out[tails] = _tail(high[tails], low[tails], rho[tails])
    return out.reshape(shape)


def _by_owens_t(h: np.ndarray, k: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Owen's (1956) formula, absolute error about 1e-16."""
    h = np.where(h == 0, 1e-300, h)
    k = np.where(k == 0, 1e-300, k)
    root = np.sqrt((1 - rho) * (1 + rho))
    with np.errstate(over="ignore"):
        first, second = (k / h - rho) / root, (h / k - rho) / root
    value = (special.ndtr(-h) + special.ndtr(-k)) / 2
    value = value - special.owens_t(h, first) - special.owens_t(k, second)
    return np.asarray(np.maximum(value - np.where(h * k > 0, 0.0, 0.5), 0.0))


def _tail(h: np.ndarray, k: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """The integral, for h >= max(k, 0)."""
    out = np.empty(h.size)
    tau = np.arange(LOWEST, HIGHEST, STEP)
    rows = max(1, CHUNK // tau.size)
    for start in range(0, h.size, rows):
        part = slice(start, start + rows)
        x, root = h[part], np.sqrt((1 - rho[part]) * (1 + rho[part]))
        at_edge = (k[part] - rho[part] * x) / root
        slope = rho[part] / root
        # How fast the integrand falls at the edge: with a negative correlation the second
        # factor, whose hazard rate is below at_edge + 1, makes it steeper.
        rate = np.maximum(x, 1.0) + np.maximum(-slope, 0.0) * (np.maximum(at_edge, 0.0) + 1)
        s = np.exp(tau) / rate[:, None]
        log_value = special.log_ndtr(slope[:, None] * s - at_edge[:, None])
        log_value += np.log(s) - x[:, None] * s - s**2 / 2
        top = log_value.max(axis=1)
        total = np.exp(log_value - top[:, None]).sum(axis=1) * STEP
        out[part] = np.exp(top + np.log(total) - x**2 / 2 - math.log(2 * math.pi) / 2)
    return out
