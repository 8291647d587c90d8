"""Capacity of the scalar Gaussian channel with a bounded input (Smith 1971), and what follows.

C(h) = max over laws of X on [-1, 1] of I(X; h X + eps). The best law is unique, symmetric and has
finitely many mass points. F is the best law if and only if its marginal information density

    i(x; F) = int phi(y - h x) log(phi(y - h x) / f(y)) dy,      f the density of Y under F,

is nowhere above I(F) (and equal to it at the mass points). For any F, I(F) <= C <= max_x i(x; F):
whatever finds F, this certifies C.

The law is followed in h: the number of points grows by one at a time, by a new point at 0 where
there was none (i(0) reaches C), or by the point at 0 splitting in two (i''(0) reaches 0). Between
these thresholds Newton's method solves i = C at the points and i' = 0 at the inner ones.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_count, check_positive, check_snr, reject
from tokenkl.codebooks import FSQ, Codebook
from tokenkl.estimate import Bound, Estimate

SMITH = "Smith 1971, Information and Control 18"
MCKELLIPS = "McKellips 2004, ISIT; Thangaraj, Kramer and Boecherer 2017, IEEE Trans. Inf. Theory 63"
#: Largest h whose law is computed; beyond it the bounds use McKellips' closed form.
MAX_H = 10.0
#: Step of the trapezoid rule in y, and how far it reaches beyond the box: Gaussian tails.
STEP, REACH = 0.1, 10.0
#: Where the certified gap is at most this, the law counts as found.
TOLERANCE = 1e-9
#: Largest step in h between two solutions.
STRIDE = 0.1
#: Smallest such step, where points are born: the law is followed no nearer to a threshold.
SHORTEST = 1e-9
#: Largest change of the logarithm of a weight or gap in one step.
LARGEST_CHANGE = 0.3
LOG_ROOT = 0.5 * math.log(2 * math.pi)


@dataclasses.dataclass(frozen=True)
class CapacityInput:
    """A law on [-1, 1] and what it certifies: lower = I(F) <= C(h) <= upper = max_x i(x; F)."""

    h: float
    points: Float[np.ndarray, " m"]
    weights: Float[np.ndarray, " m"]
    lower: float
    upper: float


@dataclasses.dataclass(frozen=True)
class _Law:
    """A symmetric law in noise units: masses at +x (half each at x and -x), x = 0 first if any."""

    x: np.ndarray
    p: np.ndarray

    @property
    def size(self) -> int:
        return 2 * self.x.size - int(self.has_centre)

    @property
    def has_centre(self) -> bool:
        return bool(self.x[0] == 0)


# ---- The information density --------------------------------------------------------------------


def _grid(a: float) -> np.ndarray:
    count = math.ceil((a + REACH) / STEP)
    return STEP * np.arange(-count, count + 1)


def _kernel(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """phi(y - x), one row for every x."""
    return np.asarray(np.exp(-((y - x[:, None]) ** 2) / 2 - LOG_ROOT))


def _pair(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(phi(y - x) + phi(y + x))/2 and its derivative in x."""
    plus, minus = _kernel(y, x), _kernel(y, -x)
    slope = ((y - x[:, None]) * plus - (y + x[:, None]) * minus) / 2
    return (plus + minus) / 2, slope


def _log_density(y: np.ndarray, law: _Law) -> np.ndarray:
    """log f(y), also where f underflows."""
    signed = np.concatenate([-law.x, law.x])
    log_p = np.log(np.concatenate([law.p, law.p]) / 2)[:, None]
    exponent = log_p - (y - signed[:, None]) ** 2 / 2
    top = exponent.max(axis=0)
    return np.asarray(top + np.log(np.exp(exponent - top).sum(axis=0)) - LOG_ROOT)


def _density(law: _Law, x: np.ndarray, order: int = 0) -> np.ndarray:
    """i(x; F), or its first or second derivative in x."""
    y = _grid(float(law.x[-1]))
    log_f = _log_density(y, law)
    z = y - x[:, None]
    weight = STEP * np.exp(-(z**2) / 2 - LOG_ROOT)
    if order == 0:
        # phi log(phi / f): the entropies cancel pointwise, not at the end.
        return np.asarray((weight * (-(z**2) / 2 - LOG_ROOT - log_f)).sum(axis=1))
    if order == 1:
        return np.asarray(-(weight * z * log_f).sum(axis=1))
    return np.asarray(-(weight * (z**2 - 1) * log_f).sum(axis=1))


def _information(law: _Law) -> float:
    return float(law.p @ _density(law, law.x))


def _largest_density(law: _Law) -> float:
    """max_x i(x; F) over [0, a]: a grid, and Newton's method from each of its maxima."""
    a = float(law.x[-1])
    x = np.linspace(0, a, math.ceil(a / 0.02) + 2)
    value = _density(law, x)
    inner = np.flatnonzero((value[1:-1] >= value[:-2]) & (value[1:-1] >= value[2:])) + 1
    start = np.concatenate([x[inner], law.x])
    best = float(value.max())
    for _ in range(4):
        curvature = _density(law, start, 2)
        move = np.where(curvature < 0, -_density(law, start, 1) / np.minimum(curvature, -1e-6), 0)
        start = np.clip(start + np.clip(move, -0.02, 0.02), 0, a)
        best = max(best, float(_density(law, start).max()))
    return best


# ---- Newton's method on the conditions of optimality --------------------------------------------


def _solve(law: _Law, a: float) -> _Law | None:
    """The stationary law of the same number of points on [-a, a], from a start near to it."""
    y = _grid(a)
    first = 1 if law.has_centre else 0
    m = law.x.size
    x, p = law.x * (a / law.x[-1]), law.p.copy()
    x[-1] = a  # exactly: whoever asked for a waits for it
    level = _information(_Law(x, p))
    inner = np.arange(first, m - 1)
    previous = math.inf
    for _ in range(40):
        law = _Law(x, p)
        f = np.exp(_log_density(y, law))
        log_f = np.log(np.maximum(f, 1e-300))
        z = y - x[:, None]
        weight = STEP * np.exp(-(z**2) / 2 - LOG_ROOT)
        value = (weight * (-(z**2) / 2 - LOG_ROOT - log_f)).sum(axis=1)
        slope = -(weight * z * log_f).sum(axis=1)
        residual = np.concatenate([value - level, slope[inner], [p.sum() - 1]])
        size = float(np.abs(residual).max())
        if size < 1e-14 or (size < 1e-11 and size >= previous):
            break
        previous = size
        mixed, turned = _pair(y, x)
        by_p, by_x = mixed / f, p[:, None] * turned / f
        jacobian = np.zeros((residual.size, residual.size))
        k = inner.size
        # Columns: inner positions, weights, level.
        jacobian[:m, :k] = -weight @ by_x[inner].T
        jacobian[inner, np.arange(k)] += slope[inner]
        jacobian[:m, k : k + m] = -weight @ by_p.T
        jacobian[:m, -1] = -1
        moment = weight[inner] * z[inner]
        jacobian[m : m + k, :k] = -moment @ by_x[inner].T
        bend = -(weight[inner] * (z[inner] ** 2 - 1) * log_f).sum(axis=1)
        jacobian[m + np.arange(k), np.arange(k)] += bend
        jacobian[m : m + k, k : k + m] = -moment @ by_p.T
        jacobian[-1, k : k + m] = 1
        try:
            step = np.linalg.solve(jacobian, -residual)
        except np.linalg.LinAlgError:
            return None
        # Not so far that a weight turns negative or points change their order.
        scale = 1.0
        gaps = np.diff(np.concatenate([[0.0] if not first else [], x]))
        moves = np.zeros(m)
        moves[inner] = step[:k]
        moved = np.diff(np.concatenate([[0.0] if not first else [], moves]))
        for now, change in ((p, step[k : k + m]), (gaps, moved)):
            falls = change < 0
            if falls.any():
                scale = min(scale, 0.7 * float((now[falls] / -change[falls]).min()))
        x = x + scale * moves
        p = p + scale * step[k : k + m]
        level += scale * float(step[-1])
    else:
        return None
    return _Law(x, p / p.sum())


def _follow(law: _Law, a: float) -> _Law:
    """The stationary law at a, from one of as many points at another half-width.

    Steps are halved where a weight or a gap changes much: just above a threshold the new points
    move as the square root of the distance from it, and Newton's method may fall back. Every turn
    moves by at least half of SHORTEST, to a itself at the end, or halves the step.
    """
    step = STRIDE
    while (here := float(law.x[-1])) != a:
        found = _solve(law, here + math.copysign(step, a - here) if abs(a - here) > step else a)
        if found is not None and _change(law, found) < LARGEST_CHANGE:
            law, step = found, min(2 * step, STRIDE)
        else:
            step /= 2
            if step < SHORTEST:
                raise RuntimeError(f"the law of {law.size} points was lost at h = {here:.6g}")
    return law


def _change(law: _Law, found: _Law) -> float:
    """The largest change of the logarithm of a weight or of a gap."""
    values = [np.concatenate([one.p, one.x[one.x > 0], np.diff(one.x)]) for one in (law, found)]
    return float(np.abs(np.log(values[1] / values[0])).max())


def _excess(law: _Law) -> float:
    """Above 0 where one more point is needed: i(0) - C, or i''(0) if there is a point at 0."""
    at_zero = np.zeros(1)
    if law.has_centre:
        return float(_density(law, at_zero, 2)[0])
    return float(_density(law, at_zero)[0]) - _information(law)


def _more_points(law: _Law, a: float) -> _Law:
    """The law of one more point, at a half-width slightly above a threshold."""
    for size in (0.02, 0.05, 0.1, 0.2, 0.01, 0.4, 0.7, 0.005):
        if law.has_centre:  # split the point at 0
            start = _Law(np.concatenate([[size], law.x[1:]]), law.p)
        else:
            start = _Law(
                np.concatenate([[0.0], law.x]), np.concatenate([[size / 4], law.p * (1 - size / 4)])
            )
        found = _solve(start, a)
        if found is not None and found.p.min() > 0 and _gap(found) < TOLERANCE:
            return found
    raise RuntimeError(f"no law of {law.size + 1} points found at h = {a:.6g}")


def _gap(law: _Law) -> float:
    return _largest_density(law) - _information(law)


@functools.cache
def _stage(size: int) -> tuple[float, _Law]:
    """The threshold from which `size` points are best, and the law of them just above it."""
    if size == 2:
        return 0.0, _Law(np.array([1.0]), np.array([1.0]))
    threshold, law = _threshold_above(size - 1)
    start = threshold + 0.01
    return threshold, _more_points(_follow(law, start), start)


@functools.cache
def _threshold_above(size: int) -> tuple[float, _Law]:
    """Where `size` points stop being enough, and the law there."""
    from scipy import optimize  # slow to import, and seldom needed

    _, law = _stage(size)
    a = float(law.x[-1])
    while _excess(law) < 0:
        a += STRIDE
        before, law = law, _follow(law, a)
    low, high = float(before.x[-1]), a
    root = float(
        optimize.brentq(lambda b: _excess(_follow(before, b)), low, high, xtol=1e-12, rtol=1e-13)
    )
    return root, _follow(before, root)


def _law_at(h: float) -> _Law:
    """The best law on [-h, h]; within SHORTEST of a threshold, that of one point less."""
    if h <= _threshold_above(2)[0]:
        return _Law(np.array([h]), np.array([1.0]))
    size = 3
    while _threshold_above(size)[0] < h:
        size += 1
    threshold, law = _stage(size)
    if h - threshold < 4 * SHORTEST:
        law = _threshold_above(size - 1)[1]
    return _follow(law, h)


# ---- Public -------------------------------------------------------------------------------------


def capacity_threshold(points: int = 2) -> float:
    """The h at which this many mass points stop being the best law; 1.665925 for two.

    For two points it is where i(0; F) reaches I(F), F equiprobable on -1 and 1.

    Args:
        points: 2 to 10.

    Raises:
        ValueError: another number of points.

    Example:
        >>> round(capacity_threshold(), 5)
        1.66593
    """
    if check_count(points, "points", 2) > 10:
        reject("points", points, "a whole number from 2 to 10")
    return _threshold_above(points)[0]


@functools.lru_cache(maxsize=4096)
def capacity_input(h: float) -> CapacityInput:
    """Smith's best law at one h, and the two sides of its certificate.

    Args:
        h: amplitude over the standard deviation of the noise, above 0 and at most 10.

    Raises:
        ValueError: h out of this range.

    Example:
        >>> capacity_input(2.0).points
        array([-1.,  0.,  1.])
    """
    from tokenkl.information import mutual_information

    if check_positive(h, "h") > MAX_H:
        reject("h", h, f"at most {MAX_H:g}")
    law = _law_at(h)
    if law.size == 2:
        # With full relative precision: the capacity is h^2 / 2 for small h.
        lower = float(mutual_information(FSQ((2,)), h**2))
        upper = lower + max(_gap(law), 0.0)
    else:
        lower = _information(law)
        upper = max(_largest_density(law), lower)
    x, p = law.x / law.x[-1], law.p
    inner = x[1:] if law.has_centre else x
    share = p[1:] if law.has_centre else p
    middle = slice(0, 1) if law.has_centre else slice(0, 0)
    return CapacityInput(
        h,
        np.concatenate([-inner[::-1], x[middle], inner]),
        np.concatenate([share[::-1] / 2, p[middle], share / 2]),
        lower,
        upper,
    )


def amplitude_capacity(h: Float[Any, " *shape"]) -> Estimate:
    """C(h), in nats: the most that Y = h X + eps can tell about X if |X| <= 1.

    Args:
        h: amplitude over the standard deviation of the noise, sqrt(snr) for tokens in the box
            [-1, 1]; from 0 to 10.

    Returns:
        An `Estimate` with the shape of h. Its numerical error holds the whole certified gap between
        I(F) and max_x i(x; F), at most 1e-8 (in practice 1e-12), the maximum found numerically.

    Raises:
        ValueError: h negative, not finite or above 10.

    Example:
        >>> import tokenkl as tk
        >>> float(amplitude_capacity(1.0)) == float(tk.mutual_information(tk.FSQ((2,)), 1.0))
        True

    Source: Smith (1971), "The information capacity of amplitude- and variance-constrained scalar
    Gaussian channels".
    """
    h = check_snr(h, "h")
    if (h > MAX_H).any():
        reject("h", float(h.max()), f"at most {MAX_H:g} everywhere")
    value, error = np.zeros(h.size), np.zeros(h.size)
    for index, one in enumerate(h.ravel()):
        if one > 0:
            found = capacity_input(float(one))
            value[index] = found.lower
            error[index] = found.upper - found.lower + 1e-13 * found.lower
    return Estimate(
        value.reshape(h.shape),
        0.0,
        error.reshape(h.shape),
        method="Smith's conditions, Newton",
        quantity="mutual_information",
        unit="nats",
    )


def mckellips_bound(h: Float[Any, " *shape"]) -> Bound:
    """C(h) <= min(log(1 + 2 h / sqrt(2 pi e)), (1/2) log(1 + h^2)), in nats, for every h.

    Raises:
        ValueError: h negative or not finite.
    """
    h = check_snr(h, "h")
    value = np.minimum(
        np.log1p(2 * h / math.sqrt(2 * math.pi * math.e)), np.log1p(np.square(h)) / 2
    )
    return Bound(value, "upper", "McKellips", MCKELLIPS, "mutual_information", "nats")


def capacity_bound(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    *,
    unless_above: Float[Any, " *shape"] = math.inf,
) -> Bound:
    """I(k; Y) <= sum_i C(h b_i), b_i half the range of coordinate i and h = sqrt(snr).

    The channel acts on the coordinates independently, so that I is at most the sum of what each
    tells of its own input, which lies in an interval of half-width b_i. In the box [-1, 1]^n:
    I <= n C(h). C is the upper side of its certificate, or `mckellips_bound` above h b_i = 10.

    Args:
        codebook: any codebook and prior; equal points are allowed.
        snr: signal-to-noise ratios, at least 0; the result has their shape.
        unless_above: numbers above which the sum is of no use. Where it is sure to be above,
            since a uniform input tells at least log(1 + 2 h^2 / (pi e)) / 2 (entropy power
            inequality), C is McKellips' bound everywhere, which costs nothing to find.

    Returns:
        An upper `Bound` on the information, in nats.

    Raises:
        ValueError: snr negative or not finite.
    """
    snr = check_snr(snr)
    half, counts = np.unique(codebook.half_widths(), return_counts=True)
    limits = np.broadcast_to(np.asarray(unless_above, float), snr.shape).ravel()
    value = np.zeros(snr.size)
    for index, one in enumerate(np.sqrt(snr.ravel())):
        h = one * half
        with np.errstate(over="ignore"):
            least = counts @ np.log1p(2 * np.square(h) / (math.pi * math.e)) / 2
        if least > limits[index]:
            value[index] = counts @ mckellips_bound(h).value
        else:
            value[index] = counts @ np.array([_one_capacity(float(width)) for width in h])
    return Bound(
        value.reshape(snr.shape),
        "upper",
        "capacity of the box",
        SMITH,
        "mutual_information",
        "nats",
    )


def _one_capacity(h: float) -> float:
    if h == 0:
        return 0.0
    return capacity_input(h).upper if h <= MAX_H else float(mckellips_bound(h).value)


def smallest_box_entropy(K: int, n: int, snr: Float[Any, " *shape"]) -> Bound:
    """H(k | Y) >= log K - n C(h) for any K equally probable tokens in [-1, 1]^n.

    For K = 2^n and h <= 1.665925 (noise s = 1/h >= 0.600267) FSQ of base 2 attains it, since two
    equiprobable points are Smith's best law: no 2^n equally probable tokens in the box have a
    smaller conditional entropy, whatever n (docs/theory/bounds.md, statement 16).

    Args:
        K: number of tokens.
        n: dimension of the box.
        snr: signal-to-noise ratios, at least 0; the result has their shape.

    Returns:
        A lower `Bound` on the conditional entropy, in nats, at least 0.

    Raises:
        ValueError: snr negative or not finite, K or n below 1.
    """
    snr = check_snr(snr)
    room = math.log(check_count(K, "K")), check_count(n, "n")
    capacities = np.array([_one_capacity(float(one)) for one in np.sqrt(snr.ravel())])
    value = np.maximum(room[0] - room[1] * capacities, 0.0)
    return Bound(
        value.reshape(snr.shape),
        "lower",
        "capacity of the box",
        SMITH,
        "conditional_entropy",
        "nats",
    )
