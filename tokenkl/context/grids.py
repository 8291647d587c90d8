"""E KL(p || q) over the observations of short sequences, by the trapezoid rule.

The mixture is analytic, so that the rule converges geometrically, as long as the strip of
analyticity of the logarithms, pi / (h gap), is wide against the step. Logarithms bend across planes
between tokens; a grid that is turned away from these planes sees them through the Gaussian noise
along them, and its error falls as exp(-c / step^2) whatever the SNR.

The nodes are pairs (U, V) of one for the token's own observation and one for its neighbours'. All
sums over tokens are then products of matrices, and a pair costs one logarithm.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from tokenkl.context.affine import Seat, log_likelihood
from tokenkl.context.newton import solve

#: Probability of observations farther from every centre than the grid reaches, by dimension.
TAIL = {1: 1e-14, 2: 1e-14, 3: 1e-13, 4: 1e-13, 5: 1e-11, 6: 1e-10}
#: Pairs of nodes that are held at a time.
BLOCK = 2**17
#: Most nodes that are looked at for one side.
MOST_NODES = 2**21
#: Largest likelihood ratio, of either side, of laws that are looked at.
LARGE = 1e140
#: Curvature, in units of the value (or of 1e-6), below which logits do not matter.
LEAST_CURVATURE = 1e-9
#: Weight of a node that is too small for its KL to be looked at as one of the largest.
FAINT = 1e-25
#: What is smaller than this part of the largest is no number any more.
TINY = 1e-280


class PairGrid:
    """The problem of one seat at one SNR on pairs of nodes; see `newton.Problem`."""

    def __init__(self, seat: Seat, snr: float, step: float) -> None:
        length, m = seat.source.length, seat.points.shape[1]
        self.tail = TAIL[m * length]
        self.reach2 = float(special.chdtri(m * length, self.tail))
        self.seat, self.snr, self.step = seat, snr, step
        others = [j for j in range(length) if j != seat.position]
        marginals = seat.source.marginals()
        possible = [seat.points[marginals[j] > 0] for j in others]
        self.own, self._near, cell = _nodes([seat.own], snr, step, self.reach2)
        self.log_own = log_likelihood(seat.own, snr, self.own) + cell
        context, self._far, cell = _nodes(possible, snr, step, self.reach2)
        self.log_context = _log_context(seat, snr, context, others) + cell
        columns = [m * a + b for a, j in enumerate(others) if j in seat.seen for b in range(m)]
        self.context = context[:, columns]
        kept = self.log_context.max(axis=1) > -self.reach2 - 200
        self.context, self._far = self.context[kept], self._far[kept]
        self.log_context = self.log_context[kept]
        #: Of the last evaluation: E KL, and the largest KL at a node.
        self._value, self.worst = 0.0, 0.0

    @property
    def pairs(self) -> int:
        """Pairs of nodes within reach."""
        return int(np.searchsorted(self._far, self.reach2 - self._near, side="right").sum())

    def evaluate(self, theta: Float[np.ndarray, "k c"]) -> tuple[float, Float[np.ndarray, "k c"]]:
        """E KL(p || q) and its gradient.

        KL is log(Z_q / Z_p) + sum_k p_k (log p_k - a_k), with all logarithms relative to q's, so
        that little cancels where q is near p.
        """
        own, own_q, own_gap = _sides(self.log_own, self._logits(theta)[0])
        far, far_q, far_gap = _sides(self.log_context, self._logits(theta)[1])
        if max(own_q.max(), far_q.max()) > LARGE:  # a step too far
            return np.inf, np.zeros_like(theta)
        left, right = np.hstack([own_gap, own]), np.hstack([far, far_gap])
        of_own, of_far, values, self.worst = np.zeros_like(own), np.zeros_like(far), [], 0.0
        for rows, count in self._blocks():
            density = np.maximum(own[rows] @ far[:count].T, TINY)
            total = np.maximum(own_q[rows] @ far_q[:count].T, TINY)
            ratio = total / density
            kl = np.log(ratio) * density + left[rows] @ right[:count].T
            values.append(kl.sum())
            self.worst = max(self.worst, float((kl / np.maximum(density, FAINT)).max()))
            np.divide(1.0, ratio, out=ratio)
            of_own[rows] = own_q[rows] * (ratio @ far_q[:count]) - own[rows] * far[:count].sum(0)
            of_far[:count] += far_q[:count] * (ratio.T @ own_q[rows])
            of_far[:count] -= far[:count] * own[rows].sum(axis=0)
        slopes = [of_own.sum(axis=0)[:, None], of_own.T @ self.own, of_far.T @ self.context]
        self._value = float(np.sum(values))
        return self._value, np.hstack(slopes)

    def direction(
        self,
        theta: Float[np.ndarray, "k c"],
        gradient: Float[np.ndarray, "k c"],
        free: Bool[np.ndarray, " c"],
    ) -> Float[np.ndarray, "k c"]:
        return solve(self.hessian(theta, self._value), gradient, free)

    def hessian(
        self, theta: Float[np.ndarray, "k c"], value: float
    ) -> Float[np.ndarray, "k c k c"]:
        """E (diag q - q q') x (1, Y) (1, Y)', and as much as makes it definite.

        Diagonal blocks are minus the sum of the others, since q_k (1 - q_k) loses its digits where
        q_k is near one. Between tokens that are hardly ever confused the curvature is below the
        rounding of the gradient; against a `value` of the whole, what logits do there is nothing.
        """
        own, own_q, _ = _sides(self.log_own, self._logits(theta)[0])
        far, far_q, _ = _sides(self.log_context, self._logits(theta)[1])
        tokens, columns = theta.shape
        first, second = np.triu_indices(tokens, 1)
        products = _Products(
            own_q[:, first] * own_q[:, second],
            far_q[:, first] * far_q[:, second],
            self.own,
            self.context,
        )
        for rows, count in self._blocks():
            density = own[rows] @ far[:count].T
            total = np.maximum(own_q[rows] @ far_q[:count].T, TINY)
            density /= total
            density /= total
            products.add(density, rows, count)
        found = np.zeros((tokens, columns, tokens, columns))
        for k, other, moment in zip(first, second, products.moments(), strict=True):
            found[k, :, other] -= moment
            found[other, :, k] -= moment
            found[k, :, k] += moment
            found[other, :, other] += moment
        sizes = [np.ones(1), (self.own**2).mean(axis=0), (self.context**2).mean(axis=0)]
        least = LEAST_CURVATURE * max(value, 1e-6) * np.concatenate(sizes)
        for own_block in range(tokens):
            found[own_block, :, own_block] += np.diag(least)
        return found

    def _logits(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m = self.own.shape[1]
        slopes, far = theta[:, 1 : 1 + m], theta[:, 1 + m :]
        return theta[:, 0] + self.own @ slopes.T, self.context @ far.T

    def _blocks(self) -> Iterator[tuple[slice, int]]:
        """Rows of own nodes, nearest first, and how many of the others are within reach of them."""
        start = 0
        while start < len(self.own):
            reach = self.reach2 - self._near[start]
            count = int(np.searchsorted(self._far, reach, side="right"))
            stop = min(len(self.own), start + max(1, BLOCK // max(count, 1)))
            if count:
                yield slice(start, stop), count
            start = stop


class _Products:
    """Sums over pairs of weight x F(U) x G(V) x (1, U, V) (1, U, V)' for columns F, G."""

    def __init__(self, first: np.ndarray, second: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
        self.first, self.second, self.u, self.v = first, second, u, v
        self.u1 = np.column_stack([np.ones(len(u)), u])
        v1 = np.column_stack([np.ones(len(v)), v])
        self.spread = (second[:, :, None] * v1[:, None, :]).reshape(len(v), -1)
        self.crossed = np.zeros((first.shape[1], self.u1.shape[1], v1.shape[1]))
        self.squares = np.zeros((first.shape[1], u.shape[1], u.shape[1]))
        self.of_far = np.zeros_like(second)

    def add(self, weight: np.ndarray, rows: slice, count: int) -> None:
        first, u = self.first[rows], self.u[rows]
        seen = (weight @ self.spread[:count]).reshape(len(u), first.shape[1], -1)
        held = first[:, :, None] * self.u1[rows][:, None, :]
        self.crossed += np.einsum("bpa,bpv->pav", held, seen, optimize=True)
        held = (first * seen[:, :, 0])[:, :, None] * u[:, None, :]
        self.squares += np.tensordot(held, u, axes=(0, 0))
        self.of_far[:count] += (weight.T @ first) * self.second[:count]

    def moments(self) -> Float[np.ndarray, "p c c"]:
        m = self.u.shape[1]
        size = 1 + m + self.v.shape[1]
        found = np.zeros((self.first.shape[1], size, size))
        found[:, : 1 + m, 0] = self.crossed[:, :, 0]
        found[:, : 1 + m, 1 + m :] = self.crossed[:, :, 1:]
        found[:, 1 : 1 + m, 1 : 1 + m] = self.squares
        held = self.of_far[:, :, None] * self.v[:, None, :]
        found[:, 1 + m :, 1 + m :] = np.tensordot(held, self.v, axes=(0, 0))
        found[:, 0, 1 : 1 + m] = found[:, 1 : 1 + m, 0]
        found[:, 1 + m :, : 1 + m] = found[:, : 1 + m, 1 + m :].transpose(0, 2, 1)
        return found


def _sides(logs: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """exp(logs), exp(logits + shift), exp(logs) (logs - logits - shift), the shift of each node
    such that the last sum to zero."""
    law = np.exp(logs)
    gap = np.where(law > 0, logs - logits, 0.0)
    shift = (law * gap).sum(axis=1, keepdims=True) / law.sum(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        return law, np.exp(logits + shift), law * (gap - shift)


def _log_context(
    seat: Seat, snr: float, nodes: np.ndarray, others: list[int]
) -> Float[np.ndarray, "nodes tokens"]:
    """log P(k_i = k, Y' = node) of the seat's tokens."""
    length, m, K = seat.source.length, seat.points.shape[1], len(seat.points)
    found = np.empty((len(nodes), len(seat.tokens)))
    size = max(1, 2**20 // (K * length))
    for start in range(0, len(nodes), size):
        part = nodes[start : start + size].reshape(-1, length - 1, m)
        given = np.zeros((len(part), length, K))
        given[:, others] = log_likelihood(seat.points, snr, part)
        message, evidence = seat.source.messages(given)
        joint = message[:, seat.position] + evidence[:, None]
        found[start : start + size] = joint[:, seat.tokens]
    return found


def _nodes(
    sides: list[np.ndarray], snr: float, step: float, reach2: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Nodes of a turned grid near the centres, nearest first; squared distances; log of a cell.

    A centre is a point of each side, at the SNR. One dimension cannot be turned: the step is a
    third there.
    """
    m = sides[0].shape[1]
    size = m * len(sides)
    if size == 1:
        step = step / 3
    turn = _rotation(sides)
    centres = [np.sqrt(snr) * one for one in sides]
    low, high = np.full(size, -np.sqrt(reach2)), np.full(size, np.sqrt(reach2))
    for j, one in enumerate(centres):
        seen = one @ turn[:, j * m : (j + 1) * m].T
        low, high = low + seen.min(axis=0), high + seen.max(axis=0)
    axes = [
        step * (np.arange(np.ceil(a / step), b / step) + 0.29)
        for a, b in zip(low, high, strict=True)
    ]
    if np.prod([float(axis.size) for axis in axes]) > MOST_NODES:
        raise TooLargeError
    split = max(0, size - 3)
    inner = np.stack(np.meshgrid(*axes[split:], indexing="ij"), axis=-1).reshape(-1, size - split)
    inner = inner @ turn[split:]
    found, distances = [], []
    for outer in itertools.product(*axes[:split]):
        nodes = inner + np.array(outer) @ turn[:split]
        square = np.zeros(len(nodes))
        for j, one in enumerate(centres):
            nearest = np.full(len(nodes), np.inf)
            for point in one:
                gaps = nodes[:, j * m : (j + 1) * m] - point
                np.minimum(nearest, np.einsum("nm,nm->n", gaps, gaps), out=nearest)
            square += nearest
        kept = square <= reach2
        found.append(nodes[kept])
        distances.append(square[kept])
    nodes, square = np.concatenate(found), np.concatenate(distances)
    order = np.argsort(square, kind="stable")
    return nodes[order], square[order], size * float(np.log(step))


class TooLargeError(Exception):
    """More nodes than a grid may have."""


def _rotation(sides: list[np.ndarray]) -> Float[np.ndarray, "size size"]:
    """Of some rotations the one whose axes are farthest from all differences of points."""
    m = sides[0].shape[1]
    size = m * len(sides)
    if size == 1:
        return np.eye(1)
    rng = np.random.default_rng(0)
    normals = np.concatenate([_directions(one, m * j, size) for j, one in enumerate(sides)])
    spread = range(-2, 3) if size <= 3 else range(-1, 2)
    dual = np.array([one for one in itertools.product(spread, repeat=size) if any(one)])
    best, most = np.eye(size), -1.0
    for _ in range(64 if size <= 4 else 16):
        turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
        seen = dual @ turn @ normals.T
        apart = float(((dual**2).sum(axis=1)[:, None] - seen**2).min(initial=np.inf))
        if apart > most:
            best, most = turn, apart
    return best


def _directions(points: np.ndarray, first: int, size: int) -> np.ndarray:
    one, other = np.triu_indices(min(len(points), 40), 1)
    gaps = points[one] - points[other]
    sizes = np.linalg.norm(gaps, axis=1)
    apart = sizes > 1e-12 * sizes.max(initial=0.0)  # nothing bends between points that are one
    gaps = gaps[apart] / sizes[apart, None]
    found = np.zeros((len(gaps), size))
    found[:, first : first + points.shape[1]] = gaps
    return found
