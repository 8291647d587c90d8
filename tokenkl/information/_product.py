"""Exact information for product codebooks: one coordinate at a time.

With a product prior, entropy and MMSE add over coordinates and accuracy multiplies (THEORY,
statement 2), so all the work is on one coordinate with levels u and prior p, at h = sqrt(snr):

- The MAP regions are intervals between thresholds on the upper envelope of the log-densities, so
  the error probability is a finite sum of positive normal tails.
- Entropy and MMSE are integrals over z = h y of functions that are analytic in a strip around the
  real line, which the trapezoid rule integrates with an error that decays exponentially in the
  number of nodes. The strip narrows like pi / (h gap), and the step follows it.
- Where all levels are resolved (h gap >= 9), only the two neighbours of a threshold matter, and
  the integral is written in their log-odds. This keeps full relative precision in quantities as
  small as float64 can hold.

Nothing is ever computed as one minus something close to one.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import special

from tokenkl._validation import is_traced
from tokenkl.codebooks.base import entropy as entropy_of
from tokenkl.codebooks.product import ProductCodebook
from tokenkl.information._immse import mutual_information

EPS = np.finfo(float).eps
TINY = np.finfo(float).tiny

#: Noise standard deviations that the grid reaches beyond the outermost levels.
MARGIN = 12.0
#: Step of the trapezoid rule: at most MAX_STEP, and STEP_TIMES_GAP over the scaled gap.
MAX_STEP = 0.25
STEP_TIMES_GAP = 0.45
#: A third level changes a two-level integral by less than exp(-RESOLVED), relatively.
RESOLVED = 40.0
#: Half-width in log-odds of the two-level integral; its tails fall like exp(-|v|/4) or faster.
ODDS_WIDTH = 170.0
#: Largest number of array elements in one block of work (16 MiB of float64).
BLOCK = 2**21
#: Nodes of the fixed grid that is used while JAX traces.
TRACED_NODES = 4096


def product_profile(
    codebook: ProductCodebook, snr: Float[Any, " s"]
) -> dict[str, tuple[Float[Any, " s"], Float[Any, " s"]]]:
    """Value and numerical error of every quantity at each SNR (one axis); the prior factorises."""
    log_accuracy = entropy = mmse = information = 0.0
    log_accuracy_error = entropy_error = mmse_error = information_error = 0.0
    for levels, log_prior, count in _distinct_coordinates(codebook):
        scalar = scalar_profile(levels, log_prior, snr)
        xp = jnp if is_traced(scalar["error_probability"][0]) else np
        error, error_error = scalar["error_probability"]
        accuracy, accuracy_error = scalar["accuracy"]
        # log of an accuracy near one comes from the error probability, of a small one from itself.
        log_one = xp.where(error < 0.5, xp.log1p(-xp.minimum(error, 0.5)), xp.log(accuracy))
        log_accuracy = log_accuracy + count * log_one
        log_accuracy_error = log_accuracy_error + count * xp.minimum(
            error_error / accuracy, accuracy_error / accuracy
        )
        entropy, entropy_error = _add(entropy, entropy_error, scalar["conditional_entropy"], count)
        mmse, mmse_error = _add(mmse, mmse_error, scalar["mmse"], count)
        information, information_error = _add(
            information, information_error, scalar["mutual_information"], count
        )
    xp = jnp if is_traced(log_accuracy) else np
    accuracy, error = xp.exp(log_accuracy), -xp.expm1(log_accuracy)
    return {
        "accuracy": (accuracy, accuracy * (log_accuracy_error + 4 * EPS) + TINY),
        "error_probability": (error, accuracy * log_accuracy_error + 4 * EPS * error),
        "conditional_entropy": (entropy, entropy_error),
        "mutual_information": (information, information_error),
        "mmse": (mmse, mmse_error),
    }


def product_mmse(
    codebook: ProductCodebook, snr: Float[np.ndarray, " s"]
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """MMSE and its numerical error alone: many times faster than the profile at low SNR."""
    h = np.sqrt(np.maximum(snr, 1e-290))
    value, error = np.zeros_like(h), np.zeros_like(h)
    for levels, log_prior, count in _distinct_coordinates(codebook):
        if levels.size > 1:
            order = np.argsort(levels)
            # The diameter serves as the widest gap between MAP intervals, whatever they are.
            gap = np.full_like(h, np.ptp(levels))
            _, one, _, slack = _entropy_and_mmse(levels[order], log_prior[order], h, gap)
            value, error = _add(value, error, (one, slack), count)
    return value, error


def _add(total: Any, error: Any, term: tuple[Any, Any], count: int) -> tuple[Any, Any]:
    return total + count * term[0], error + count * (term[1] + EPS * term[0])


def _distinct_coordinates(codebook: ProductCodebook) -> list[tuple[Any, Any, int]]:
    """Levels, log-prior and multiplicity of every different coordinate."""
    if is_traced(*codebook.levels, *codebook.priors):
        return [(u, codebook.coordinate_log_prior(i), 1) for i, u in enumerate(codebook.levels)]
    seen: dict[tuple[bytes, bytes], tuple[Any, Any, int]] = {}
    for axis, levels in enumerate(codebook.levels):
        log_prior = codebook.coordinate_log_prior(axis)
        key = (levels.tobytes(), log_prior.tobytes())
        count = seen[key][2] if key in seen else 0
        seen[key] = (levels, log_prior, count + 1)
    return list(seen.values())


def scalar_profile(
    levels: Float[Any, " L"], log_prior: Float[Any, " L"], snr: Float[Any, " s"]
) -> dict[str, tuple[Float[Any, " s"], Float[Any, " s"]]]:
    """The profile of one coordinate."""
    if is_traced(levels, log_prior, snr):
        return _traced_scalar_profile(levels, log_prior, snr)
    order = np.argsort(levels)
    levels, log_prior = levels[order], log_prior[order]
    zero = np.zeros_like(snr)
    if levels.size == 1:
        names = ("error_probability", "conditional_entropy", "mutual_information", "mmse")
        return dict.fromkeys(names, (zero, zero)) | {"accuracy": (zero + 1, zero)}
    # At snr = 0 everything has its limit; the smallest positive number gives it to rounding.
    h = np.sqrt(np.maximum(snr, 1e-290))
    error, accuracy, widest_gap = _error_probability(levels, log_prior, h)
    entropy, mmse, entropy_error, mmse_error = _entropy_and_mmse(levels, log_prior, h, widest_gap)

    diameter = levels[-1] - levels[0]

    def mmse_at(gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        root = np.sqrt(np.maximum(gamma, 1e-290))
        _, value, _, error = _entropy_and_mmse(
            levels, log_prior, root, np.full_like(root, diameter)
        )
        return value, error

    information = mutual_information(
        snr, entropy_of(log_prior), entropy, entropy_error, mmse_at, diameter
    )
    return {
        "error_probability": (error, _tail_rounding(error)),
        "accuracy": (accuracy, np.minimum(16 * EPS, 64 * EPS * accuracy)),
        "conditional_entropy": (entropy, entropy_error),
        "mutual_information": information,
        "mmse": (mmse, mmse_error),
    }


def _tail_rounding(value: np.ndarray) -> np.ndarray:
    """Rounding error of a sum of Gaussian tails: a relative error that grows with the exponent."""
    exponent = -np.log(np.maximum(value, TINY))
    return value * EPS * (64 + 8 * np.abs(exponent)) + TINY


# ---- MAP decision ---------------------------------------------------------------------------


def _error_probability(
    levels: np.ndarray, log_prior: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Error probability, accuracy, and the widest gap between neighbouring MAP intervals."""
    gaps = np.diff(levels)
    L = levels.size
    if np.ptp(log_prior) == 0:
        half = h[:, None] * gaps / 2
        error = (2 / L) * special.ndtr(-half).sum(axis=1)
        accuracy = (1 + special.erf(half / math.sqrt(2)).sum(axis=1)) / L
        return error, accuracy, np.full_like(h, gaps.max())
    error, widest = np.empty_like(h), np.empty_like(h)
    prior = np.exp(log_prior)
    block = max(1, BLOCK // L**2)
    for start in range(0, h.size, block):
        rows = slice(start, start + block)
        right, left, owns = _map_intervals(np, levels, log_prior, h[rows])
        missed = np.where(owns, special.ndtr(-right) + special.ndtr(-left), 1.0)
        error[rows] = missed @ prior
        last_owner = np.maximum.accumulate(np.where(owns, levels, -np.inf), axis=1)[:, :-1]
        gap = np.where(owns[:, 1:] & np.isfinite(last_owner), levels[1:] - last_owner, 0.0)
        # With one owner left, the log-density still turns between it and its neighbours.
        widest[rows] = np.maximum(gap.max(axis=1), gaps.max())
    return error, 1 - error, widest


def _map_intervals(xp: Any, levels: Any, log_prior: Any, h: Any) -> tuple[Any, Any, Any]:
    """How far each level's MAP interval reaches right and left of it, in noise units.

    Level k beats level j on k's side of the point at h d / 2 + log(p_k / p_j) / (h d) from k,
    d = |u_k - u_j|; a level whose two reaches do not leave an interval owns nothing.
    """
    index = xp.arange(levels.shape[0])
    offset = index[None, :] - index[:, None]
    distance = xp.where(offset == 0, 1.0, xp.abs(levels[None, :] - levels[:, None]))
    odds = log_prior[:, None] - log_prior[None, :]
    reach = h[:, None, None] * distance / 2 + odds / (h[:, None, None] * distance)
    far = 1e30  # beyond every float64 tail; finite, so that gradients stay finite
    right = xp.where(offset > 0, reach, far).min(axis=2)
    left = xp.where(offset < 0, reach, far).min(axis=2)
    return right, left, right + left > 0


# ---- Entropy and MMSE -----------------------------------------------------------------------


def _entropy_and_mmse(
    levels: np.ndarray, log_prior: np.ndarray, h: np.ndarray, widest_gap: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Entropy, MMSE and their numerical errors at each h."""
    out = np.empty((4, h.size))
    spread = np.ptp(log_prior)
    narrowest = np.diff(levels).min()
    resolved = (h * narrowest) ** 2 / 2 >= RESOLVED + 2 * spread
    if resolved.any():
        out[:, resolved] = _resolved(levels, log_prior, h[resolved])
    rest = np.flatnonzero(~resolved)
    if rest.size:
        # Gaps so wide that they contribute below rounding need not be resolved by the grid.
        relevant = np.sqrt((h[rest] * narrowest) ** 2 + 8 * (45 + spread))
        scaled_gap = np.minimum(h[rest] * widest_gap[rest], relevant)
        step = np.minimum(MAX_STEP, STEP_TIMES_GAP / scaled_gap)
        width = h[rest] * (levels[-1] - levels[0]) + 2 * MARGIN
        # Node counts are rounded up to powers of 2^(1/4), so that a few array shapes serve all;
        # they are even, so that two interleaved grids tell the error.
        exponent = np.ceil(4 * np.log2(width / step))
        nodes = 2 * np.ceil(2 ** (exponent / 4) / 2).astype(int)
        for count in np.unique(nodes):
            rows = rest[nodes == count]
            block = max(1, BLOCK // (count * levels.size))
            for start in range(0, rows.size, block):
                part = rows[start : start + block]
                out[:, part] = _trapezoid(np, levels, log_prior, h[part], int(count))
    return out[0], out[1], out[2], out[3]


def _trapezoid(xp: Any, levels: Any, log_prior: Any, h: Any, count: int) -> Any:
    """Entropy, MMSE and their errors from `count` equispaced nodes over the whole line."""
    lower = h * levels[0] - MARGIN
    step = (h * (levels[-1] - levels[0]) + 2 * MARGIN) / count
    z = lower[:, None] + step[:, None] * (xp.arange(count) + 0.5)
    # Axes: snr, level, node.
    exponent = log_prior[:, None] - (z[:, None, :] - h[:, None, None] * levels[:, None]) ** 2 / 2
    best = exponent.argmax(axis=1)
    top = xp.take_along_axis(exponent, best[:, None, :], axis=1)
    below = top - exponent
    is_best = xp.arange(levels.shape[0])[:, None] == best[:, None, :]
    weight = xp.where(is_best, 0.0, xp.exp(-below))
    away = levels[:, None] - levels[best][:, None, :]
    s0 = weight.sum(axis=1)
    s1 = (weight * away).sum(axis=1)
    s2 = (weight * away**2).sum(axis=1)
    slope = (weight * below).sum(axis=1)
    density = xp.exp(top[:, 0, :]) * (step / math.sqrt(2 * math.pi))[:, None]
    entropy = density * ((1 + s0) * xp.log1p(s0) + slope)
    mmse = density * (s2 + (s2 * s0 - s1**2)) / (1 + s0)
    results, errors = [], []
    for integrand in (entropy, mmse):
        halves = integrand[:, 0::2].sum(axis=1), integrand[:, 1::2].sum(axis=1)
        value = halves[0] + halves[1]
        results.append(value)
        if xp is np:
            # Doubling the nodes squares a geometrically small relative error.
            gap = 2 * np.abs(halves[0] - halves[1]) / np.maximum(value, TINY)
            errors.append(value * np.minimum(gap, 16 * gap**2) + _tail_rounding(value))
    return np.stack(results + errors) if xp is np else xp.stack(results)


def _resolved(levels: np.ndarray, log_prior: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Entropy, MMSE and their errors where only the two levels around a threshold matter.

    With eta = h gap, r = log(p_left / p_right) and v the log-odds of the right level, the left
    level's density at v is p_left phi(x + v / eta), x = eta / 2 + r / eta, and dz = dv / eta.
    """
    pairs, counts = np.unique(
        np.stack([np.diff(levels), log_prior[:-1], log_prior[1:]]), axis=1, return_counts=True
    )
    v = np.arange(-ODDS_WIDTH, ODDS_WIDTH, STEP_TIMES_GAP)
    e = np.exp(-np.abs(v))
    step = STEP_TIMES_GAP / math.sqrt(2 * math.pi)
    binary_entropy = np.log1p(e) + np.abs(v) * e / (1 + e)
    out = np.zeros((4, h.size))
    for (gap, left, right), count in zip(pairs.T, counts, strict=True):
        eta = (h * gap)[:, None]
        odds = left - right
        x = eta / 2 + odds / eta
        # exp(left - x^2/2) is the left level's weight at the threshold; the rest is relative to it.
        tilt = -(v * odds) / eta**2 - (v / eta) ** 2 / 2
        entropy = np.exp(tilt + np.abs(v) / 2) * (1 + e) * binary_entropy
        mmse = np.exp(tilt - np.abs(v) / 2) / (1 + e)
        weight = count * np.exp(left - x[:, 0] ** 2 / 2) * step / eta[:, 0]
        out[0] += weight * entropy.sum(axis=1)
        out[1] += weight * gap**2 * mmse.sum(axis=1)
    out[2:] = _tail_rounding(out[:2])
    return out


# ---- Inside JAX transformations -----------------------------------------------------------------


def _traced_scalar_profile(levels: Any, log_prior: Any, snr: Any) -> dict[str, tuple[Any, Any]]:
    """The same formulas on a fixed grid, in the dtype that is being traced; errors are NaN."""
    order = jnp.argsort(levels)
    levels, log_prior = jnp.asarray(levels)[order], jnp.asarray(log_prior)[order]
    nan = jnp.full(snr.shape, jnp.nan)
    h = jnp.sqrt(jnp.maximum(snr, 1e-30))
    if levels.shape[0] == 1:
        error = entropy = mmse = 0.0 * h
    else:
        right, left, owns = _map_intervals(jnp, levels, log_prior, h)
        tails = jax.scipy.special.ndtr(-right) + jax.scipy.special.ndtr(-left)
        error = jnp.where(owns, tails, 1.0) @ jnp.exp(log_prior)
        entropy, mmse = jax.vmap(
            lambda root: _trapezoid(jnp, levels, log_prior, root[None], TRACED_NODES)[:, 0]
        )(h).T
    prior_entropy = entropy_of(log_prior)
    return {
        "error_probability": (error, nan),
        "accuracy": (1 - error, nan),
        "conditional_entropy": (entropy, nan),
        "mutual_information": (prior_entropy - entropy, nan),
        "mmse": (mmse, nan),
    }
