"""Exact information for product codebooks: one coordinate at a time.

With a product prior, entropy and MMSE add over coordinates, accuracy and 1 - S multiply
(docs/theory/index.md, statement 2; S is the sampling error), so all the work is on one coordinate
with levels u and prior p, at h = sqrt(snr):

- The MAP regions are intervals between thresholds on the upper envelope of the log-densities, so
  the error probability is a finite sum of positive normal tails.
- Entropy, MMSE and S are integrals over z = h y of functions that are analytic in a strip around
  the real line, which the trapezoid rule integrates with an error that decays exponentially in the
  number of nodes. The strip narrows like pi / (h gap), and the step follows it.
- Where the levels reach over many noise units, windows of them are integrated one by one, each
  with the levels in reach of it: the others only interact through tails, which are bounded.
- Where all levels are resolved (h gap >= 9), only the two neighbours of a threshold matter, and
  the integral is written in their log-odds. This keeps full relative precision in quantities as
  small as float64 can hold.

Levels enter by differences, which float64 rounds relative to themselves, and by their place in
their own window, whose rounding is counted. Nothing is ever computed as one minus something close
to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._validation import is_traced
from tokenkl.codebooks.base import entropy as entropy_of
from tokenkl.codebooks.base import log_of
from tokenkl.codebooks.product import ProductCodebook
from tokenkl.information.exact.immse import mutual_information
from tokenkl.information.exact.slopes import with_slope
from tokenkl.numerics.scale import power_of_two

EPS = np.finfo(float).eps
TINY = np.finfo(float).tiny

#: Noise standard deviations that the grid reaches beyond the outermost levels.
MARGIN = 12.0
#: Step of the trapezoid rule: at most MAX_STEP, and STEP_TIMES_GAP over the scaled gap.
MAX_STEP = 0.25
STEP_TIMES_GAP = 0.45
#: Width in noise units up to which one grid serves all levels, and that of a window beyond it.
ONE_GRID, WINDOW = 256.0, 128.0
#: What two levels may add to each other is dropped below exp(-DROPPED) of the whole.
DROPPED = 45.0
#: A third level changes a two-level integral by less than exp(-RESOLVED), relatively.
RESOLVED = 40.0
#: Half-width in log-odds of the two-level integral; its tails fall like exp(-|v|/4) or faster.
ODDS_WIDTH = 170.0
#: Largest number of array elements in one block of work (128 KiB of float64: they stay cached).
BLOCK = 2**14
#: Nodes of the fixed grid that is used while JAX traces.
TRACED_NODES = 4096

DECISION = ("accuracy", "error_probability")
SHARE = "sampling_error"
ALL = (*DECISION, SHARE, "conditional_entropy", "mutual_information", "mmse")

Values = dict[str, tuple[Float[Any, " s"], Float[Any, " s"]]]


@np.errstate(under="ignore", over="ignore")
def product_profile(
    codebook: ProductCodebook,
    snr: Float[Any, " s"],
    quantities: Sequence[str] = ALL,
    misplaced: float = 0.0,
) -> Values:
    """Value and numerical error of these quantities at each SNR (one axis); the prior factorises.

    `misplaced` is how far every level may lie from where it stands; the errors then hold that too.
    """
    totals: Values = dict.fromkeys(quantities, (0.0, 0.0))
    log_accuracy = log_accuracy_error = log_share = log_share_error = 0.0
    decision = set(quantities) & set(DECISION)
    for levels, log_prior, count in distinct_coordinates(codebook):
        scalar = scalar_profile(levels, log_prior, snr, quantities, misplaced)
        for name in totals.keys() - decision - {SHARE}:
            value, error = scalar[name]
            total, total_error = totals[name]
            totals[name] = total + count * value, total_error + count * (error + EPS * value)
        if decision:
            accuracy, accuracy_error = scalar["accuracy"]
            error, error_error = scalar["error_probability"]
            xp = jnp if is_traced(error) else np
            # log of an accuracy near one comes from the error probability, of a small one from
            # itself.
            near = error < 0.5
            log_one = xp.where(near, xp.log1p(-xp.minimum(error, 0.5)), xp.log(accuracy))
            log_accuracy = log_accuracy + count * log_one
            log_accuracy_error = log_accuracy_error + count * (
                xp.where(near, error_error, accuracy_error) / accuracy - 2 * EPS * log_one
            )
        if SHARE in totals:
            error, error_error = scalar[SHARE]
            log_one = (jnp if is_traced(error) else np).log1p(-error)
            log_share = log_share + count * log_one
            log_share_error += count * (error_error / (1 - error) - 2 * EPS * log_one)
    if SHARE in totals:
        xp = jnp if is_traced(log_share) else np
        error = 0.0 - xp.expm1(log_share)
        totals[SHARE] = error, xp.exp(log_share) * log_share_error + 4 * EPS * error
    if decision:
        xp = jnp if is_traced(log_accuracy) else np
        accuracy, error = xp.exp(log_accuracy), 0.0 - xp.expm1(log_accuracy)  # 0, not -0
        moved = accuracy * log_accuracy_error
        found = {
            "accuracy": (accuracy, moved + 4 * EPS * accuracy + TINY),
            "error_probability": (error, moved + 4 * EPS * error),
        }
        totals |= {name: found[name] for name in decision}
    return totals


def distinct_coordinates(codebook: ProductCodebook) -> list[tuple[Any, Any, int]]:
    """Levels, log-prior and multiplicity of every different coordinate."""
    # Not by the method of the codebook: eight calls of one would take a third of a short answer.
    coordinates = [
        (u, log_of(prior, u.shape[0]))
        for u, prior in zip(codebook.levels, codebook.priors, strict=True)
    ]
    if is_traced(*codebook.levels, *codebook.priors):
        return [(u, log_prior, 1) for u, log_prior in coordinates]
    seen: dict[tuple[bytes, bytes], tuple[Any, Any, int]] = {}
    for levels, log_prior in coordinates:
        key = (levels.tobytes(), log_prior.tobytes())
        count = seen[key][2] if key in seen else 0
        seen[key] = (levels, log_prior, count + 1)
    return list(seen.values())


def different_levels(
    levels: Float[np.ndarray, " L"], log_prior: Float[np.ndarray, " L"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The levels in ascending order, each once, and the logarithms of their summed priors."""
    rank = np.argsort(levels)
    levels, log_prior = levels[rank], log_prior[rank]
    starts = np.flatnonzero(np.append(True, np.diff(levels) > 0))
    if starts.size == levels.size:
        return levels, log_prior
    return levels[starts], np.log(np.add.reduceat(np.exp(log_prior), starts))


def entropy_within(prior: Float[np.ndarray, " K"], place: Int[np.ndarray, " K"]) -> float:
    """H(token | place), for places 0, 1, ...; small terms make it up where one token is certain."""
    ranked = np.lexsort((-prior, place))
    prior, place = prior[ranked], place[ranked]
    starts = np.flatnonzero(np.append(True, np.diff(place) > 0))
    top, others = prior[starts], prior.copy()
    others[starts] = 0.0
    rest = np.add.reduceat(others, starts)
    shares = np.delete(others / (top + rest)[place], starts)
    return float(top @ np.log1p(rest / top) - np.delete(others, starts) @ np.log(shares))


def _coinciding_profile(
    levels: Float[np.ndarray, " L"],
    log_prior: Float[np.ndarray, " L"],
    snr: Float[np.ndarray, " s"],
    quantities: Sequence[str],
    misplaced: float,
) -> Values:
    """`scalar_profile` of ascending levels of which some are equal.

    What is observed depends on the level alone, whose prior is a sum; nothing tells the tokens that
    share it apart. So the information and the MMSE are those of the levels, the entropy is that and
    the entropy within, and the best guess is the most probable token of a level: only their priors,
    of sum W, count, and A = W A' where A' is the accuracy with their normalised priors. The
    sampling error has no thresholds, and is that of the tokens as they are.
    """
    starts = np.flatnonzero(np.append(True, np.diff(levels) > 0))
    place = np.repeat(np.arange(starts.size), np.diff(np.append(starts, levels.size)))
    prior = np.exp(log_prior)
    others = set(quantities) - {*DECISION, SHARE}
    found = scalar_profile(*different_levels(levels, log_prior), snr, [*others], misplaced)
    if "conditional_entropy" in others:
        within = entropy_within(prior, place)
        value, error = found["conditional_entropy"]
        found["conditional_entropy"] = value + within, error + 4 * EPS * (value + within)
    if SHARE in quantities:
        exponent = power_of_two(levels, np.sqrt(snr))
        scaled, h = np.ldexp(levels, -exponent), np.ldexp(np.sqrt(snr), exponent)
        widest, off = np.full_like(h, np.ptp(scaled)), math.ldexp(misplaced, -exponent)
        value, error = _averages(scaled, log_prior, h, widest, off, exponent, 3)[:, 2]
        found[SHARE] = value, error
    if set(quantities) & set(DECISION):
        top = np.maximum.reduceat(prior, starts)
        right = top.sum()
        # What is not the first of the most probable tokens of its level is never guessed.
        ranked = np.lexsort((-prior, place))
        missed = np.sum(np.delete(prior[ranked], starts))
        decided = scalar_profile(levels[starts], np.log(top / right), snr, DECISION, misplaced)
        (accuracy, slack), (error, error_slack) = (decided[name] for name in DECISION)
        found["accuracy"] = right * accuracy, right * slack + 4 * EPS * accuracy
        error = missed + right * error
        found["error_probability"] = error, right * error_slack + 4 * EPS * error
    return found


def scalar_profile(
    levels: Float[Any, " L"],
    log_prior: Float[Any, " L"],
    snr: Float[Any, " s"],
    quantities: Sequence[str],
    misplaced: float,
) -> Values:
    """What `product_profile` needs of one coordinate; accuracy and its complement together."""
    if is_traced(levels, log_prior, snr):
        return _traced_scalar_profile(levels, log_prior, snr, quantities)
    order = np.argsort(levels)
    levels, log_prior = levels[order], log_prior[order]
    if levels.size > 1 and np.diff(levels).min() == 0:
        return _coinciding_profile(levels, log_prior, snr, quantities, misplaced)
    wanted = set(quantities)
    zero = np.zeros_like(snr)
    if levels.size == 1:
        return dict.fromkeys(ALL, (zero, zero)) | {"accuracy": (zero + 1, zero)}
    h = np.sqrt(snr)
    exponent = power_of_two(levels, h)
    levels, h = np.ldexp(levels, -exponent), np.ldexp(h, exponent)
    misplaced = math.ldexp(misplaced, -exponent)
    out: Values = {}
    is_equal = np.ptp(log_prior) == 0
    widest = np.full_like(h, np.diff(levels).max() if is_equal else levels[-1] - levels[0])
    if wanted & set(DECISION):
        error, accuracy, accuracy_error, widest = _error_probability(levels, log_prior, h)
        error_error = error * _relative_rounding(error, 0.0, h * misplaced) + TINY
        out["error_probability"] = error, error_error
        small = np.minimum(error_error + EPS, accuracy_error)
        out["accuracy"] = accuracy, np.where(error < 0.5, small, accuracy_error) + h * misplaced
    if not wanted - set(DECISION):
        return out
    names = ("conditional_entropy", "mmse", *({SHARE} & wanted))
    found = _averages(levels, log_prior, h, widest, misplaced, exponent, len(names))
    out |= {name: (value, error) for name, value, error in zip(names, *found, strict=True)}
    if "mutual_information" in wanted:
        diameter = levels[-1] - levels[0]

        def mmse_at(gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            root = np.sqrt(gamma)
            any_gap = np.full_like(root, diameter)
            values, errors = _averages(levels, log_prior, root, any_gap, misplaced, 0)
            return values[1], errors[1]

        prior_entropy = entropy_of(log_prior)
        rounding = EPS * (16 - log_prior.min()) * prior_entropy
        out["mutual_information"] = mutual_information(
            h**2, (prior_entropy, rounding), out["conditional_entropy"], mmse_at, diameter
        )
    return out


def _relative_rounding(value: Any, half_width: Any, moved: Any) -> Any:
    """Relative error of a sum of Gaussian tails that is this small.

    The mass lies within R of some level. An exponent there, x^2 / 2 with x up to R, is off by
    x |dx|: dx from rounding of places up to half_width + R, and `moved` in noise units.
    """
    exponent = np.abs(np.log(np.maximum(value, TINY)))
    R = 3 + np.sqrt(2 * exponent)
    return EPS * (64 + 8 * exponent + 4 * R * (half_width + R)) + 4 * R * moved


# ---- MAP decision ---------------------------------------------------------------------------


def _error_probability(
    levels: np.ndarray, log_prior: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Error probability, accuracy and its error, and the widest gap between MAP intervals."""
    gaps = np.diff(levels)
    L = levels.size
    if np.ptp(log_prior) == 0:
        half = h[:, None] * gaps / 2
        error = (2 / L) * special.ndtr(-half).sum(axis=1)
        accuracy = (1 + special.erf(half / math.sqrt(2)).sum(axis=1)) / L
        return error, accuracy, 64 * EPS * accuracy, np.full_like(h, gaps.max())
    error, accuracy, rounding, widest = np.empty((4, h.size))
    prior = np.exp(log_prior)
    spread = math.sqrt(2 * np.ptp(log_prior))
    block = max(1, BLOCK // L**2)
    step = max(1, BLOCK // L)
    for start in range(0, h.size, block):
        rows = slice(start, start + block)
        parts = [
            map_intervals(np, levels, log_prior, h[rows], slice(k, k + step))
            for k in range(0, L, step)
        ]
        right, left, owns = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        error[rows] = np.where(owns, special.ndtr(-right) + special.ndtr(-left), 1.0) @ prior
        # Where a level lies outside of its own interval a difference of tails is left.
        near, far = np.minimum(right, left), np.maximum(right, left)
        inside = (special.erf(near / math.sqrt(2)) + special.erf(far / math.sqrt(2))) / 2
        hit, miss = special.ndtr(near), special.ndtr(-far)
        correct = np.where(near >= 0, inside, hit - miss)
        accuracy[rows] = np.where(owns, correct, 0.0) @ prior
        # Rounding of the terms, and of both ends, sums of terms up to `spread` above themselves.
        terms = np.where(near >= 0, inside, hit + miss)
        for end in (right, left):
            size = np.minimum(np.abs(end), 40.0)
            terms = terms + np.exp(-(size**2) / 2) * (size + spread)
        rounding[rows] = EPS * (np.where(owns, terms, 0.0) @ (prior * (8 - log_prior)))
        last_owner = np.maximum.accumulate(np.where(owns, levels, -np.inf), axis=1)[:, :-1]
        gap = np.where(owns[:, 1:] & np.isfinite(last_owner), levels[1:] - last_owner, 0.0)
        # With one owner left, the log-density still turns between it and its neighbours.
        widest[rows] = np.maximum(gap.max(axis=1), gaps.max())
    accuracy = np.where(error < 0.5, 1 - error, accuracy)
    return error, accuracy, rounding, widest


def map_intervals(
    xp: Any, levels: Any, log_prior: Any, h: Any, own: slice = slice(None)
) -> tuple[Any, Any, Any]:
    """How far the MAP interval of each level in `own` reaches right and left of it, in noise units.

    Level k beats level j on k's side of the point at h d / 2 + log(p_k / p_j) / (h d) from k,
    d = |u_k - u_j|; a level whose two reaches do not leave an interval owns nothing.
    """
    index = xp.arange(levels.shape[0])
    offset = index[None, :] - index[own, None]
    distance = xp.where(offset == 0, 1.0, xp.abs(levels[None, :] - levels[own, None]))
    odds = log_prior[own, None] - log_prior[None, :]
    apart = xp.maximum(h[:, None, None] * distance, TINY)
    reach = apart / 2 + odds / apart
    far = 1e30  # beyond every float64 tail; finite, so that gradients stay finite
    right = xp.where(offset > 0, reach, far).min(axis=2)
    left = xp.where(offset < 0, reach, far).min(axis=2)
    return right, left, right + left > 0


# ---- Entropy, MMSE and sampling error -------------------------------------------------------


def _averages(
    levels: np.ndarray,
    log_prior: np.ndarray,
    h: np.ndarray,
    widest_gap: np.ndarray,
    misplaced: float,
    exponent: int,
    count: int = 2,
) -> Float[np.ndarray, "2 count s"]:
    """Values and numerical errors of entropy, MMSE (times 4^exponent) and, as a third, S."""
    out = np.zeros((2, count, h.size))
    spread, size = np.ptp(log_prior), levels[-1] - levels[0]
    narrowest = h * np.diff(levels).min()
    resolved = narrowest**2 / 2 >= RESOLVED + 2 * spread
    if resolved.any():
        known = levels, log_prior, h[resolved], misplaced, exponent, count
        out[..., resolved] = _resolved(*known)
    is_narrow = h * size <= ONE_GRID
    # Beyond `reach` two levels contribute nothing that the narrowest gap would notice, neither to
    # the entropy nor, by the square of their distance, to the MMSE.
    ratio = np.minimum(h * size, 2 * ONE_GRID) / np.maximum(narrowest, TINY)
    share = DROPPED + spread + math.log(levels.size) + 2 * np.log(np.maximum(ratio, 1.0))
    reach = np.sqrt(narrowest**2 + 8 * share)
    gap = np.minimum(h * widest_gap, reach)
    one = np.flatnonzero(~resolved & is_narrow)
    if one.size:
        out[..., one] = _grids(levels, log_prior, h[one], gap[one], misplaced, exponent, count)
    for row in np.flatnonzero(~resolved & ~is_narrow):
        # Steps beyond the reach need no length.
        steps = np.minimum(h[row] * np.diff(levels), 2 * ONE_GRID)
        place = np.concatenate([[0.0], np.cumsum(steps)])
        starts = np.flatnonzero(np.diff(place // WINDOW, prepend=-1))
        stops = np.append(starts[1:], place.size)
        lows = np.searchsorted(place, place[starts] - reach[row])
        highs = np.searchsorted(place, place[stops - 1] + reach[row], side="right")
        for start, stop, low, high in zip(starts, stops, lows, highs, strict=True):
            if steps[low : high - 1].min(initial=np.inf) > reach[row]:
                continue
            part = slice(low, high)
            own = np.zeros(high - low)
            own[start - low : stop - low] = 1.0
            there = levels[part], log_prior[part], h[[row]], gap[[row]]
            out[..., row] += _grids(*there, misplaced, exponent, count, own)[..., 0]
    # What the levels beyond the reach of each other would add (docs/theory, 2c).
    rest = ~resolved
    dropped = levels.size * np.exp(-(reach[rest] ** 2) / 8)
    longest = np.minimum(h[rest] * size, WINDOW + 2 * reach[rest])
    out[1, 0, rest] += 1.4 * dropped
    away = np.ldexp(np.sqrt(dropped) * longest / np.maximum(h[rest], TINY), exponent) ** 2
    out[1, 1, rest] += away
    out[1, 2:, rest] += dropped[:, None]
    return out


def _grids(
    levels: np.ndarray,
    log_prior: np.ndarray,
    h: np.ndarray,
    gap: np.ndarray,
    misplaced: float,
    exponent: int,
    count: int,
    own: np.ndarray | None = None,
) -> Float[np.ndarray, "2 count s"]:
    """What `_averages` finds, from one grid over all levels, for gaps in noise units."""
    scale = power_of_two(levels, h)
    levels, h, exponent = np.ldexp(levels, -scale), np.ldexp(h, scale), exponent + scale
    misplaced = math.ldexp(misplaced, -scale)
    length = h * (levels[-1] - levels[0])
    step = np.minimum(MAX_STEP, STEP_TIMES_GAP / np.maximum(gap, 1.0))
    # Node counts are rounded up to powers of 2^(1/4), so that a few array shapes serve all; they
    # are even, so that two interleaved grids tell the error.
    nodes = 2 * np.ceil(2 ** (np.ceil(4 * np.log2((length + 2 * MARGIN) / step)) / 4) / 2)
    integrands = (_integrands, _all_integrands)[count - 2]
    halves = np.empty((count, h.size, 2))
    for size in np.unique(nodes).astype(int):
        rows = np.flatnonzero(nodes == size)
        block = max(1, BLOCK // (size * levels.size))
        for start in range(0, rows.size, block):
            part = rows[start : start + block]
            halves[:, part] = _trapezoid(np, levels, log_prior, h[part], size, own, integrands)
    value = halves.sum(axis=2)
    # Doubling the nodes squares a geometrically small relative error.
    doubt = 2 * np.abs(halves[..., 0] - halves[..., 1]) / np.maximum(value, TINY)
    relative = _relative_rounding(value, length / 2, h * misplaced)
    error = value * (np.minimum(doubt, 16 * doubt**2) + relative) + TINY
    error[1] += 4 * misplaced * (np.sqrt(value[1]) + misplaced)
    out = np.stack([value, error])
    out[:, 1] = np.ldexp(out[:, 1], 2 * exponent)
    return out


def _trapezoid(
    xp: Any,
    levels: Any,
    log_prior: Any,
    h: Any,
    count: int,
    own: Any,
    integrands: Callable[..., tuple[Any, ...]],
) -> Float[Any, "q s 2"]:
    """Integrals from `count` equispaced nodes over the whole line: even and odd nodes.

    Of the levels marked by `own` only, if given; the others then only add to the posterior.
    """
    places = levels - (levels[0] + levels[-1]) / 2
    lower = h * places[0] - MARGIN
    step = (h * (places[-1] - places[0]) + 2 * MARGIN) / count
    chunk = count if xp is jnp else 2 * max(1, BLOCK // (2 * h.size * levels.size))
    total = 0.0
    for start in range(0, count, chunk):
        z = lower[:, None] + step[:, None] * (xp.arange(start, min(start + chunk, count)) + 0.5)
        parts = integrands(xp, levels, places, log_prior, h, z, own)
        total = total + xp.stack(
            [xp.stack([part[:, 0::2].sum(axis=1), part[:, 1::2].sum(axis=1)], -1) for part in parts]
        )
    return total * (step / math.sqrt(2 * math.pi))[:, None]


class _Relative(NamedTuple):
    """The posterior relative to the best level; axes are snr, level, node.

    `density` and `others`, the sum of the weights, have no levels; the best has no weight.
    """

    density: Any
    best: Any
    below: Any
    weight: Any
    away: Any
    others: Any

    @property
    def mean(self) -> Any:
        return (self.weight * self.away).sum(axis=1) / (1 + self.others)


def _relative(xp: Any, levels: Any, places: Any, log_prior: Any, h: Any, z: Any) -> _Relative:
    exponent = log_prior[:, None] - (z[:, None, :] - h[:, None, None] * places[:, None]) ** 2 / 2
    best = exponent.argmax(axis=1)
    top = xp.take_along_axis(exponent, best[:, None, :], axis=1)
    below = top - exponent
    is_best = xp.arange(levels.shape[0])[:, None] == best[:, None, :]
    weight = xp.where(is_best, 0.0, xp.exp(-below))
    away = levels[:, None] - levels[best][:, None, :]
    return _Relative(xp.exp(top[:, 0, :]), best, below, weight, away, weight.sum(axis=1))


def _integrands(
    xp: Any, levels: Any, places: Any, log_prior: Any, h: Any, z: Any, own: Any
) -> tuple[Any, Any]:
    """Density of z times the posterior's entropy and variance."""
    return _moments_of(xp, _relative(xp, levels, places, log_prior, h, z), own)


def _moments_of(xp: Any, seen: _Relative, own: Any) -> tuple[Any, Any]:
    density, best, below, weight, away, others = seen
    mean = seen.mean
    if own is not None:
        weight = weight * own[:, None]
    first = 1.0 if own is None else own[best]
    mass = first + (others if own is None else weight.sum(axis=1))
    entropy = density * (mass * xp.log1p(others) + (weight * below).sum(axis=1))
    spread = (weight * (away - mean[:, None, :]) ** 2).sum(axis=1)
    return entropy, density * (spread + first * mean**2)


def _all_integrands(
    xp: Any, levels: Any, places: Any, log_prior: Any, h: Any, z: Any, own: Any
) -> tuple[Any, Any, Any]:
    """The same, and the density times sum p (1 - p)."""
    seen = _relative(xp, levels, places, log_prior, h, z)
    weight, others = seen.weight, seen.others
    split = weight * (1 + others[:, None, :] - weight)
    first = 1.0
    if own is not None:
        split, first = split * own[:, None], own[seen.best]
    share = seen.density * (first * others + split.sum(axis=1)) / (1 + others)
    return *_moments_of(xp, seen, own), share


def _resolved(
    levels: np.ndarray,
    log_prior: np.ndarray,
    h: np.ndarray,
    misplaced: float,
    exponent: int,
    count: int,
) -> Float[np.ndarray, "2 count s"]:
    """What `_averages` finds where only the two levels around a threshold matter.

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
    values = np.zeros((count, h.size))
    for (gap, left, right), times in zip(pairs.T, counts, strict=True):
        eta = np.minimum(h * gap, 1e100)[:, None]  # no float64 is left of its tail
        odds = left - right
        x = eta / 2 + odds / eta
        # exp(left - x^2/2) is the left level's weight at the threshold; the rest is relative to it.
        tilt = -(v * odds) / eta**2 - (v / eta) ** 2 / 2
        entropy = np.exp(tilt + np.abs(v) / 2) * (1 + e) * binary_entropy
        mmse = np.exp(tilt - np.abs(v) / 2) / (1 + e)
        weight = times * np.exp(left - x[:, 0] ** 2 / 2) * step / eta[:, 0]
        values[0] += weight * entropy.sum(axis=1)
        values[1] += weight * eta[:, 0] ** 2 * mmse.sum(axis=1)
        values[2:] += 2 * weight * mmse.sum(axis=1)
    errors = values * _relative_rounding(values, 0.0, h * misplaced) + TINY
    errors[1] += 4 * h * misplaced * (np.sqrt(values[1]) + h * misplaced)
    out = np.stack([values, errors])
    out[:, 1] = np.ldexp(np.sqrt(out[:, 1]) / h, exponent) ** 2  # from noise units
    return out


# ---- Inside JAX transformations -----------------------------------------------------------------


def _traced_scalar_profile(
    levels: Any, log_prior: Any, snr: Any, quantities: Sequence[str]
) -> Values:
    """The same formulas on a fixed grid, in the dtype that is being traced; errors are NaN."""
    order = jnp.argsort(levels)
    levels, log_prior = jnp.asarray(levels)[order], jnp.asarray(log_prior)[order]
    nan = jnp.full(snr.shape, jnp.nan)
    if levels.shape[0] == 1:
        zero = 0.0 * snr
        return dict.fromkeys(ALL, (zero, nan)) | {"accuracy": (1 + zero, nan)}
    # In units of the range, at an SNR that squares keep finite in float32.
    size = jax.lax.stop_gradient(levels[-1] - levels[0])
    levels = (levels - jax.lax.stop_gradient(levels[0])) / size
    gamma = jnp.minimum(snr * size * size, 1e30)
    error = _traced_error(gamma, (levels, log_prior))
    out = {"error_probability": (error, nan), "accuracy": (1 - error, nan)}
    if set(quantities) <= set(DECISION):
        return out
    entropy = _traced_entropy(gamma, (levels, log_prior))
    if SHARE in quantities:
        out[SHARE] = _traced_share(gamma, (levels, log_prior)), nan
    return out | {
        "conditional_entropy": (entropy, nan),
        "mutual_information": (entropy_of(log_prior) - entropy, nan),
        "mmse": (_traced_mmse(gamma, (levels, log_prior)) * size * size, nan),
    }


def _traced_error_at(h: Any, rest: tuple[Any, Any]) -> Any:
    levels, log_prior = rest
    right, left, owns = map_intervals(jnp, levels, log_prior, h)
    tails = jax.scipy.special.ndtr(-right) + jax.scipy.special.ndtr(-left)
    return jnp.where(owns, tails, 1.0) @ jnp.exp(log_prior)


def _nearly_zero(gamma: Any) -> Any:
    """The root of the SNR, above 0 by so little that everything has its limit."""
    return jnp.maximum(jnp.sqrt(gamma), 1e-15)


def _traced_error_slope(gamma: Any, rest: tuple[Any, Any]) -> Any:
    """In the SNR: by that in h, which at 0 is 0, or not if several tokens are the most probable."""
    h = _nearly_zero(gamma)
    _, slope = jax.jvp(lambda root: _traced_error_at(root, rest), (h,), (jnp.ones_like(h),))
    return jnp.where(slope == 0, 0.0, slope / (2 * jnp.sqrt(gamma)))


def _traced_integrals(
    gamma: Any, rest: tuple[Any, Any], integrands: Callable[..., tuple[Any, ...]] = _integrands
) -> Any:
    halves = _trapezoid(jnp, *rest, jnp.sqrt(gamma), TRACED_NODES, None, integrands)
    return halves.sum(axis=-1)


def _squared_variance(
    xp: Any, levels: Any, places: Any, log_prior: Any, h: Any, z: Any, own: Any
) -> tuple[Any]:
    _, variance = _integrands(xp, levels, places, log_prior, h, z, own)
    exponent = log_prior[:, None] - (z[:, None, :] - h[:, None, None] * places[:, None]) ** 2 / 2
    density = xp.exp(exponent).sum(axis=1)
    return (variance**2 / xp.maximum(density, xp.finfo(density.dtype).tiny),)


def _share_slope(
    xp: Any, levels: Any, places: Any, log_prior: Any, h: Any, z: Any, _: None
) -> tuple[Any]:
    """Density of z times sum p^2 (u - mean)^2."""
    seen = _relative(xp, levels, places, log_prior, h, z)
    spread = ((seen.weight * (seen.away - seen.mean[:, None, :])) ** 2).sum(axis=1)
    return (seen.density * (spread + seen.mean**2) / (1 + seen.others),)


_traced_error = with_slope(
    lambda gamma, rest: _traced_error_at(_nearly_zero(gamma), rest), _traced_error_slope
)
#: d mmse / d snr = -E Var^2, dS / d snr = -E sum p^2 |e - E[e|Y]|^2 and dH / d snr = -mmse / 2
#: (docs/theory/index.md, statement 4).
_traced_mmse = with_slope(
    lambda gamma, rest: _traced_integrals(gamma, rest)[1],
    lambda gamma, rest: -_traced_integrals(gamma, rest, _squared_variance)[0],
)
_traced_share = with_slope(
    lambda gamma, rest: _traced_integrals(gamma, rest, _all_integrands)[2],
    lambda gamma, rest: -_traced_integrals(gamma, rest, _share_slope)[0],
)
_traced_entropy = with_slope(
    lambda gamma, rest: _traced_integrals(gamma, rest)[0],
    lambda gamma, rest: -_traced_mmse(gamma, rest) / 2,
)
