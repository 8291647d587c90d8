"""Control variates: functions of (token, noise) with a known mean that move with the statistics.

If c has mean 0, f - beta c has the mean of f, whatever beta. With beta from a regression the
variance that c explains goes away. Three kinds of controls, all cheap beside the K terms of f:

- moments: polynomials of token and noise, whose means are sums over tokens and Gaussian moments;
  they explain low signal-to-noise ratios (the quadratic forms are those of the expansion of entropy
  and posterior variance to second order in the signal);
- neighbours: the posterior as if token k had only one rival, summed over the nearest ones. A rival
  at distance d sees one normal variable, so the mean is a one-dimensional integral G(h d); they
  explain high signal-to-noise ratios;
- grid: the same (k, eps) on a grid that the codebook is near to, whose means are exact.

Which controls are used, and with which coefficients, is decided in `pilot`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tokenkl._validation import reject
from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.product import ProductCodebook
from tokenkl.information.exact.product import product_profile
from tokenkl.information.sampling.signs import turned
from tokenkl.numerics.neighbours import TREE_DIMENSIONS, nearest_by_tree

#: Nearest neighbours of every token; the largest K for which all distances are computed.
NEIGHBOURS = 16
MAX_PAIRWISE = 2**13
#: Distances in noise standard deviations beyond which a rival is never met (mean below 1e-40).
FAR = 28.0
#: Error of `_rival_means`, by its spline (measured: 2e-11).
RIVAL_ERROR = 5e-11

#: Kinds of controls in the order of their rows, and what one sample costs at one level for each: a
#: constant, one rival, one level of one axis (nanoseconds, measured; only their ratios matter).
KINDS = ("moments", "neighbours", "grid")
MOMENTS_COST, RIVAL_COST, GRID_COST = 50.0, 30.0, 90.0

#: The controls of some samples, by level; all kinds (`Block`) also by the kinds that are wanted.
OneKind = Callable[[int], Float[np.ndarray, "controls samples"]]
Block = Callable[..., Float[np.ndarray, "controls samples"]]


class Controls:
    """The controls of one codebook at levels h; each has mean 0.

    `points` are the codebook's, divided by 2 to the power `exponent`, and `h` belongs to them.
    With `labels` they are for what happens inside clusters: neighbours of other clusters take no
    part and there is no grid, since rare mistakes between clusters would only make these controls
    as rarely right.
    """

    def __init__(
        self,
        codebook: Codebook,
        points: Float[np.ndarray, "K n"],
        h: Float[np.ndarray, " levels"],
        control: Codebook | None,
        memory: int,
        exponent: int = 0,
        labels: Int[np.ndarray, " K"] | None = None,
    ) -> None:
        prior = np.asarray(codebook.prior)
        centred = points - prior @ points
        #: Length that makes moments numbers of order 1, at any scale of the codebook.
        self.scale = math.sqrt(float(prior @ np.einsum("kn,kn->k", centred, centred))) or 1.0
        self.points, self.h, self.labels = centred, h, labels
        self.log_prior = None if codebook.has_equal_priors else np.asarray(codebook.log_prior)
        #: Number of controls and cost of every kind at hand, in the order of `KINDS`.
        self.sizes: dict[str, int] = {}
        self.costs: dict[str, float] = {}
        self._learn_moments(prior)
        if codebook.K >= 2 and memory // 8 >= 16 * codebook.K * NEIGHBOURS:
            self._learn_neighbours(prior)
        grid = _checked(control, codebook) if control is not None else None
        if grid is None and labels is None:
            grid = _nearby_grid(codebook)
        if grid is not None and labels is None:
            self._learn_grid(*grid, exponent)

    def rows(self, kinds: tuple[str, ...]) -> Int[np.ndarray, " rows"]:
        """Where the controls of these kinds stand among those of all kinds."""
        ends = np.cumsum(list(self.sizes.values()))
        parts = zip(self.sizes, ends - list(self.sizes.values()), ends, strict=True)
        found = [np.arange(start, end) for kind, start, end in parts if kind in kinds]
        return np.concatenate([np.empty(0, dtype=np.int64), *found])

    def rounding(self, level: int) -> Float[np.ndarray, " controls"]:
        """How far the means of all controls may be off."""
        parts = [1e-14 * (1 + np.abs(self.moment_means))]
        if "neighbours" in self.sizes:
            # The means are even in the distance, so what the spline misses falls like its square.
            reach = min(float(self.h[level] * self.distances.max()), 1.0)
            spline = min(RIVAL_ERROR, 4e-6 * reach**2) + 1e-15
            spline *= self.distances.shape[1]
            parts.append(spline * np.array([1, 1, (self.distances.max() / self.scale) ** 2]))
        if "grid" in self.sizes:
            parts.append(1e-13 * self.grid_means[level] + 1e-15)
        return np.concatenate(parts)

    def block(
        self,
        ids: Int[np.ndarray, " s"],
        noise: Float[np.ndarray, "s n"],
        kinds: tuple[str, ...] = KINDS,
        signs: int = 1,
    ) -> Block:
        """A function of a level's index and of some of `kinds`: their controls there.

        With several `signs` the means of what the noise gives with them (`signs.turned`).
        """
        make = {
            "moments": self._moments,
            "neighbours": self._neighbour_posteriors,
            "grid": self._grid_posteriors,
        }
        noises = turned(noise, signs)
        parts = {
            kind: [make[kind](ids, one) for one in noises] for kind in self.sizes if kind in kinds
        }

        def at(level: int, wanted: tuple[str, ...] = kinds) -> np.ndarray:
            rows = [
                np.mean([part(level) for part in each], axis=0)
                for kind, each in parts.items()
                if kind in wanted
            ]
            return np.concatenate([np.empty((0, ids.size)), *rows])

        return at

    # ---- moments

    def _learn_moments(self, prior: np.ndarray) -> None:
        e = self.points / self.scale
        self.covariance = np.einsum("k,ki,kj->ij", prior, e, e, optimize=True)
        squares = np.einsum("kn,kn->k", e, e)
        self.skew = (prior * squares) @ e
        n, C = e.shape[1], self.covariance
        weighted = np.einsum("k,ki,kj->ij", prior * squares, e, e, optimize=True)
        #: Quadratic forms: the covariance, its square, and the covariance weighted by |e|^2.
        self.forms = (C, C @ C, weighted)
        means = [1, 0, n, prior @ squares**2, 1, n * (n + 2), 0, n, 0, 0, 0]
        for form in self.forms:
            means += [np.sum(C * form), 0, np.trace(form)]
        if self.log_prior is not None:
            means.append(prior @ self.log_prior)
        self.moment_means = np.array(means, dtype=float)
        self.sizes["moments"], self.costs["moments"] = len(means), MOMENTS_COST

    def _moments(self, ids: np.ndarray, noise: np.ndarray) -> OneKind:
        e = self.points[ids] / self.scale
        a, b, c = (np.einsum("sn,sn->s", *pair) for pair in ((e, e), (e, noise), (noise, noise)))
        rows = [a, b, c, a * a, b * b, c * c, a * b, a * c, b * c]
        rows += [noise @ self.skew, e @ self.skew]
        for form in self.forms:
            blurred = e @ form
            rows += [np.einsum("sn,sn->s", blurred, e), np.einsum("sn,sn->s", blurred, noise)]
            rows += [np.einsum("sn,sn->s", noise @ form, noise)]
        if self.log_prior is not None:
            rows.append(self.log_prior[ids])
        table = np.stack(rows) - self.moment_means[:, None]
        return lambda level: table

    # ---- nearest neighbours

    def _learn_neighbours(self, prior: np.ndarray) -> None:
        found = _nearest(self.points, NEIGHBOURS)
        if found is None:
            return
        self.neighbours, self.distances = found
        #: Which of them are of the same cluster.
        self.near = np.ones(self.distances.shape, dtype=bool)
        if self.labels is not None:
            self.near = self.labels[self.neighbours] == self.labels[:, None]
            self.distances = np.where(self.near, self.distances, 0.0)
            if not self.near.any():
                return
        self.sizes["neighbours"] = 3
        self.costs["neighbours"] = RIVAL_COST * self.neighbours.shape[1]
        self.prior = prior
        self._neighbour_means: dict[int, np.ndarray] = {}

    def _mean_of_neighbours(self, level: int) -> Float[np.ndarray, " 3"]:
        """Made when a level is first looked at: it costs a pass over all pairs."""
        if level not in self._neighbour_means:
            total = np.zeros(3)
            for start in range(0, self.prior.size, 4096):
                part = slice(start, start + 4096)
                reach = np.minimum(self.h[level] * self.distances[part], FAR)
                means = _rival_means()(reach) * self.near[part, :, None]
                means[..., 2] *= (self.distances[part] / self.scale) ** 2
                total += self.prior[part] @ means.sum(axis=1)
            self._neighbour_means[level] = total
        return self._neighbour_means[level]

    def _neighbour_posteriors(self, ids: np.ndarray, noise: np.ndarray) -> OneKind:
        rivals, distance, near = self.neighbours[ids], self.distances[ids], self.near[ids]
        along = np.empty(rivals.shape)
        for start in range(0, ids.size, 128):  # differences of a few samples fit into the cache
            part = slice(start, start + 128)
            steps = self.points[rivals[part]] - self.points[ids[part], None]
            along[part] = (steps @ noise[part, :, None])[..., 0]
        squares = (distance / self.scale) ** 2

        def at(level: int) -> np.ndarray:
            h = self.h[level]
            logit = np.where(near, h * along - (h * distance) ** 2 / 2, -np.inf)
            posterior, entropy, variance = _rival(logit)
            rows = [posterior.sum(1), entropy.sum(1), (variance * squares).sum(1)]
            return np.stack(rows) - self._mean_of_neighbours(level)[:, None]

        return at

    # ---- a grid nearby

    def _learn_grid(self, grid: ProductCodebook, ids: Int[np.ndarray, " K"], exponent: int) -> None:
        self.sizes["grid"], self.costs["grid"] = 3, GRID_COST * sum(grid.shape)
        self.grid, self.grid_ids = grid, ids
        self.grid_axes = [
            (np.ldexp(column, -exponent), np.asarray(grid.coordinate_log_prior(axis)))
            for axis, column in enumerate(grid.levels)
        ]
        exact = product_profile(grid, np.ldexp(self.h, -exponent) ** 2)
        names = ("error_probability", "conditional_entropy", "mmse")
        self.grid_means = np.stack([exact[name][0] for name in names], axis=1)
        self.grid_means[:, 2] = np.ldexp(self.grid_means[:, 2], -2 * exponent)

    def _grid_posteriors(self, ids: np.ndarray, noise: np.ndarray) -> OneKind:
        digits = self.grid.to_digits(self.grid_ids[ids])

        def at(level: int) -> np.ndarray:
            h = self.h[level]
            log_accuracy = entropy = mmse = 0.0
            for axis, (column, log_prior) in enumerate(self.grid_axes):
                step = column - column[digits[:, axis], None]
                logits = h * noise[:, axis, None] * step - (h * step) ** 2 / 2 + log_prior
                logits -= logits.max(axis=1, keepdims=True)
                weight = np.exp(logits)
                total = weight.sum(axis=1)
                log_accuracy = log_accuracy - np.log(total)
                entropy = entropy + np.log(total) - (weight * logits).sum(axis=1) / total
                mean = (weight * step).sum(axis=1) / total
                mmse = mmse + (weight * step**2).sum(axis=1) / total - mean**2
            rows = np.stack([-np.expm1(log_accuracy), entropy, mmse])
            return rows - self.grid_means[level][:, None]

        return at


def _rival(logit: Any) -> tuple[Any, Any, Any]:
    """Posterior of the second of two tokens at these log-odds, its entropy, and its variance."""
    size = np.abs(logit)
    small = np.exp(-size)
    posterior = np.where(logit > 0, 1, small) / (1 + small)
    variance = small / (1 + small) ** 2
    entropy = np.log1p(small) + np.where(small > 0, size, 0) * small / (1 + small)
    return posterior, entropy, variance


@functools.cache
def _rival_means() -> Any:
    """Means of `_rival` over d z - d^2 / 2, z ~ N(0, 1), as a function of d in [0, FAR]."""
    from scipy.interpolate import CubicSpline  # slow to import

    d = np.linspace(0, FAR, 2801)
    z = np.arange(-9, 9, 0.02)
    weight = np.exp(-(z**2) / 2) * 0.02 / math.sqrt(2 * math.pi)
    rows = [
        np.stack([part @ weight for part in _rival(chunk[:, None] * z - chunk[:, None] ** 2 / 2)])
        for chunk in np.array_split(d, 50)
    ]
    # Even functions: flat at 0.
    return CubicSpline(d, np.concatenate(rows, axis=1).T, bc_type=("clamped", "not-a-knot"))


def _nearest(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Ids and distances of the nearest other tokens; None where they cost too much to find."""
    K, n = points.shape
    count = min(count, K - 1)
    if n <= TREE_DIMENSIONS and 2 * count < K:
        ids = nearest_by_tree(points, count)
    elif K <= MAX_PAIRWISE:
        ids = np.empty((K, count), dtype=np.int64)
        norms = np.einsum("kn,kn->k", points, points)
        for start in range(0, K, 256):
            rows = np.arange(start, min(start + 256, K))
            squares = norms - 2 * points[rows] @ points.T
            squares[rows - start, rows] = np.inf
            ids[rows] = np.argpartition(squares, count - 1, axis=1)[:, :count]
    else:
        return None
    distances = np.empty(ids.shape)
    for start in range(0, K, 256):
        part = slice(start, start + 256)
        distances[part] = np.linalg.norm(points[ids[part]] - points[part, None], axis=2)
    return ids.astype(np.int32), distances


def _checked(control: Codebook, codebook: Codebook) -> tuple[ProductCodebook, np.ndarray]:
    if not isinstance(control, ProductCodebook) or not control.factorises:
        reject("control", control, "a grid (FSQ or ProductCodebook) whose prior factorises")
    if (control.K, control.n) != (codebook.K, codebook.n):
        reject("control", control, f"a grid with K = {codebook.K} and n = {codebook.n}")
    if not np.allclose(control.log_prior, codebook.log_prior, rtol=0, atol=1e-12):
        reject("control", control, "a grid with the prior of the codebook, token by token")
    return control, np.arange(codebook.K)


def _nearby_grid(codebook: Codebook) -> tuple[ProductCodebook, np.ndarray] | None:
    """A grid with one token of the codebook at each of its points, and the tokens' ids there.

    Levels are groups of equal size of each coordinate's sorted values, as they are for a grid and
    for one moved a little; that no two tokens share all their groups is the test.
    """
    K, n = codebook.K, codebook.n
    if not codebook.has_equal_priors or not 2 <= n <= math.log2(max(K, 2)):
        return None
    points = np.asarray(codebook.points)
    order = np.argsort(points, axis=0, kind="stable")
    ascending = np.take_along_axis(points, order, axis=0)
    divisors = [L for L in range(2, min(K // 2 ** (n - 1), 64) + 1) if K % L == 0]
    shapes = [tuple(_sharpest(column, divisors) for column in ascending.T)]
    shapes += [(L,) * n for L in divisors if L**n == K]
    for shape in shapes:
        if math.prod(shape) != K:
            continue
        levels = [ascending[:, axis].reshape(L, -1).mean(axis=1) for axis, L in enumerate(shape)]
        if any(np.any(np.diff(column) <= 0) for column in levels):
            continue
        digits = np.empty((K, n), dtype=np.int64)
        for axis, L in enumerate(shape):
            digits[order[:, axis], axis] = np.arange(K) // (K // L)
        grid = ProductCodebook(levels)
        ids = grid.from_digits(digits)
        if np.unique(ids).size == K:
            moved = np.abs(grid.points_at(ids) - points).max()
            return (grid, ids) if moved > 1e-9 * np.ptp(points) else None
    return None


def _sharpest(ascending: np.ndarray, divisors: list[int]) -> int:
    """Into how many equal groups a sorted column falls best: wide gaps between narrow groups."""
    scores = []
    for L in divisors:
        groups = ascending.reshape(L, -1)
        gap = np.min(groups[1:, 0] - groups[:-1, -1])
        scores.append(gap / max(float(groups.std(axis=1).max()), 1e-9 * np.ptp(ascending), 1e-300))
    return divisors[int(np.argmax(scores))] if scores else 1
