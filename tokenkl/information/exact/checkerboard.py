"""Exact accuracy of checkerboards at any K: integrals over one number (docs/theory/lattices.md).

The word x is decided iff in every coordinate no level of its own parity is nearer, and no two
coordinates gain by going to levels of the other parity: with a_i = what the nearest of those levels
costs more than x_i, a_i + a_j >= 0 for all i, j. Given x the a_i are independent, and of a_i only
the smallest may be negative. So the error probability is an integral over t = -(the smallest a_i)
of a density times products of probabilities that the others are below t, and the mean over even
words of a product over coordinates is half the sum of two products of sums, over all digits and
over digits with signs.

All terms of the sum without signs are positive, so that errors of 1e-280 keep their digits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl.codebooks import Checkerboard

#: What this finds.
CHECKERBOARD_QUANTITIES = ("accuracy", "error_probability")
EPS = float(np.finfo(float).eps)
#: Nodes of a panel, panels for each standard deviation of the noise, most panels in all.
NODES, PANELS, MOST = 16, 2, 2**12
#: Standard deviations after which nothing is left, relative to what was before.
REACH = 20.0


class _Kind(NamedTuple):
    """Digits that see the same neighbours: a step and two steps up, and down."""

    up: bool
    down: bool
    two_up: bool
    two_down: bool


def checkerboard_profile(
    codebook: Checkerboard, snr: Float[np.ndarray, " s"]
) -> dict[str, tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]]:
    """Value and numerical error of `CHECKERBOARD_QUANTITIES` at each SNR (one axis)."""
    found = np.array([_at(codebook, math.sqrt(level)) for level in snr]).reshape(-1, 4)
    error, its_error, accuracy, its_other = found.T
    return {"error_probability": (error, its_error), "accuracy": (accuracy, its_other)}


def _at(codebook: Checkerboard, h: float) -> tuple[float, float, float, float]:
    K = codebook.K
    if h == 0:
        return 1 - 1 / K, EPS, 1 / K, EPS / K
    fine, rough = (_mean_integrals(codebook, h, count * PANELS) for count in (2, 1))
    out = []
    for value, other in zip(fine, rough, strict=True):
        # Tails are rounded by about eps times their exponent.
        exponent = -math.log(max(value, np.finfo(float).tiny))
        rounding = EPS * codebook.n * (16 + 4 * exponent) * value
        out += [value, abs(value - other) + rounding]
    return out[0], out[1], out[2], out[3]


def errors_of_words(
    codebook: Checkerboard, words: Int[np.ndarray, "words n"], snr: float
) -> Float[np.ndarray, " words"]:
    """The probability that each of these words is not decided when it is sent, at snr > 0."""
    axes = _axes_of(codebook, math.sqrt(snr))
    kinds = np.stack([axis.kind_of(words[:, i]) for i, axis in enumerate(axes)], axis=-1)
    different, place = np.unique(kinds, axis=0, return_inverse=True)

    def of_words(axis: _Axis, table: np.ndarray) -> np.ndarray:
        return np.asarray(table[different[:, axes.index(axis)]])

    errors, _ = _integrals(codebook, math.sqrt(snr), 2 * PANELS, axes, of_words)
    return np.asarray(errors[place.ravel()])


def _mean_integrals(codebook: Checkerboard, h: float, panels: int) -> tuple[float, float]:
    """Error probability and accuracy: half the sums over words without and with signs."""

    def sums(axis: _Axis, table: np.ndarray) -> np.ndarray:
        return np.asarray(axis.counts @ table)

    found = _integrals(codebook, h, panels, _axes_of(codebook, h), sums)
    error, right = (float(one.sum()) / (2 * codebook.K) for one in found)
    return error, right


def _axes_of(codebook: Checkerboard, h: float) -> list[_Axis]:
    pairs = zip(codebook.levels, codebook.steps, strict=True)
    return [_Axis(L, u, h) for L, u in pairs]


def _integrals(
    codebook: Checkerboard,
    h: float,
    panels: int,
    axes: list[_Axis],
    reduce: Callable[[_Axis, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Error probability and accuracy, for every row that `reduce` makes of a row for each kind."""
    t, weight = _nodes(np.array(codebook.steps), h, panels)
    gone, here, kept, right, density, above, below, whole = (
        [reduce(axis, axis.table(name, at)) for axis in axes]
        for name, at in (
            ("lost", None), ("one", None), ("kept", None), ("above", np.zeros(1)),
            ("density", t), ("above", t), ("between", t), ("above", -t),
        )
    )  # fmt: skip
    wrong = _difference(here, gone, kept)[:, 0]
    correct = _product(right)[:, 0]
    for j in range(len(axes)):
        others = [i for i in range(len(axes)) if i != j]
        lost = _difference(*([one[i] for i in others] for one in (whole, below, above)))
        wrong = wrong + (density[j] * lost) @ weight
        correct = correct + (density[j] * _product([above[i] for i in others])) @ weight
    return wrong, correct


def _product(parts: list[np.ndarray]) -> np.ndarray:
    out = np.ones_like(parts[0])
    for part in parts:
        out = out * part
    return out


def _difference(
    whole: list[np.ndarray], less: list[np.ndarray], rest: list[np.ndarray]
) -> np.ndarray:
    """prod(whole) - prod(rest), where less = whole - rest, as a sum of products.

    One coordinate after the other goes over from `whole` to `rest`.
    """
    total = np.zeros_like(less[0])
    for i, part in enumerate(less):
        total = total + _product([*whole[:i], part, *rest[i + 1 :]])
    return total


class _Axis:
    """Probabilities of one coordinate; r = noise in steps, from the digit that was sent."""

    def __init__(self, levels: int, step: float, h: float) -> None:
        self.levels, self.square, self.sharp = levels, step * step, h * step
        # Digits from 2 to levels - 3 are alike, and those at the other end are mirrored.
        digits = np.arange(levels)
        near = np.minimum(digits, levels - 1 - digits)
        lowest = np.minimum(near, 2) if levels > 4 else near
        self.kinds = [
            _Kind(d < levels - 1, d > 0, d < levels - 2, d > 1) for d in range(lowest.max() + 1)
        ]
        self._kind_of = lowest
        signs = np.stack([np.ones(levels), (-1.0) ** digits])
        #: How many digits are of each kind, and with signs.
        self.counts = np.stack([signs[:, lowest == k].sum(axis=1) for k in range(lowest.max() + 1)])
        self.counts = self.counts.T

    def kind_of(self, digits: Int[np.ndarray, " words"]) -> Int[np.ndarray, " words"]:
        return np.asarray(self._kind_of[digits])

    def table(self, name: str, t: np.ndarray | None) -> Float[np.ndarray, "kinds nodes"]:
        """A function of kinds, and of t where there is one."""
        function = getattr(self, name)
        rows = [function(kind) if t is None else function(kind, t) for kind in self.kinds]
        return np.array([np.atleast_1d(np.asarray(row, dtype=float)) for row in rows])

    def one(self, kind: _Kind) -> float:
        return 1.0

    def _mass(self, low: object, high: object) -> np.ndarray:
        """P(low < r < high), 0 where the interval is empty, with its digits in either tail."""
        low, high = (self.sharp * np.asarray(end, dtype=float) for end in (low, high))
        low, high = np.broadcast_arrays(low, np.maximum(low, high))
        flipped = low > -high  # to the lower tail, where no difference is of nearly 1
        ends = np.where(flipped, -high, low), np.where(flipped, -low, high)
        out: np.ndarray = special.ndtr(ends[1]) - special.ndtr(ends[0])
        return out

    def lost(self, kind: _Kind) -> float:
        """P(a level of the same parity is nearer)."""
        return float((kind.two_up + kind.two_down) * special.ndtr(-self.sharp))

    def kept(self, kind: _Kind) -> np.ndarray:
        return self._mass(*self._bounds(kind))

    def _bounds(self, kind: _Kind) -> tuple[float, float]:
        return -1.0 if kind.two_down else -np.inf, 1.0 if kind.two_up else np.inf

    def above(self, kind: _Kind, t: object) -> np.ndarray:
        """P(a >= t, and no level of the same parity is nearer)."""
        low, high = self._bounds(kind)
        reach = (1 - np.asarray(t) / self.square) / 2
        return self._mass(
            np.maximum(low, -reach) if kind.down else np.full_like(reach, low),
            np.minimum(high, reach) if kind.up else np.full_like(reach, high),
        )

    def between(self, kind: _Kind, t: np.ndarray) -> np.ndarray:
        """P(-t <= a < t, and no level of the same parity is nearer), t >= 0."""
        low, high = self._bounds(kind)
        near, far = (1 - t / self.square) / 2, (1 + t / self.square) / 2
        total = np.zeros_like(t)
        if kind.up and kind.down:  # |r| from near to far
            start = np.maximum(near, 0.0)
            total += self._mass(start, np.minimum(far, high))
            total += self._mass(np.maximum(-far, low), -start)
        elif kind.up:
            total += self._mass(near, np.minimum(far, high))
        elif kind.down:
            total += self._mass(np.maximum(-far, low), -near)
        return total

    def density(self, kind: _Kind, t: np.ndarray) -> np.ndarray:
        """Density of -a at t >= 0 where no level of the same parity is nearer."""
        place = (1 + t / self.square) / 2
        sides = [(kind.up, kind.two_up), (kind.down, kind.two_down)]
        count = sum((place <= 1 if two else 1.0) for one, two in sides if one)
        normal = np.exp(-((self.sharp * place) ** 2) / 2) / math.sqrt(2 * math.pi)
        return np.asarray(normal * self.sharp / (2 * self.square) * count)


def _nodes(
    steps: Float[np.ndarray, " n"], h: float, panels: int
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Gauss-Legendre nodes and weights in t >= 0, with panels that end where something has a kink.

    That is where levels two steps away become nearer, t = u_i^2. In t the noise has the standard
    deviation 2 u_i / h.
    """
    end = REACH * steps.max() / h
    ends = [0.0, *sorted({s * s for s in steps if s * s < end}), end]
    width = max(2 * steps.min() / h / panels, end / MOST)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    out = []
    for low, high in itertools.pairwise(ends):
        count = math.ceil((high - low) / width)
        cuts = np.linspace(low, high, count + 1)
        half = (high - low) / count / 2
        places = (cuts[:-1, None] + half * (1 + nodes)).ravel()
        out.append((places, np.tile(half * weights, count)))
    return np.concatenate([p for p, _ in out]), np.concatenate([w for _, w in out])
