"""Control variates: functions of (token, noise) with a known mean that move with the statistics.

If c has mean 0, f - beta c has the mean of f, whatever beta. With beta from a regression the
variance that c explains goes away. Three kinds of controls, all cheap beside the K terms of f:

- moments: polynomials of token and noise, whose means are sums over tokens and Gaussian moments;
  they explain low signal-to-noise ratios;
- neighbours: the posterior as if token k had only one rival, summed over the nearest ones. A rival
  at distance d sees one normal variable, so the mean is a one-dimensional integral G(h d); they
  explain high signal-to-noise ratios;
- grid: the same (k, eps) on a grid that the codebook is near to, whose means are exact.

Coefficients never come from the samples they are applied to, so estimates stay exactly unbiased: in
the pilot (the first samples) they are fitted on the other folds, later ones on the whole pilot.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from tokenkl._neighbours import TREE_DIMENSIONS
from tokenkl._validation import reject
from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.product import ProductCodebook
from tokenkl.information._moments import Moments
from tokenkl.information._product import product_profile
from tokenkl.information.methods import MonteCarlo

#: Samples after which coefficients are fitted first (fewer are left as they are), in these folds.
PILOT = 2**10
FOLDS = 4
#: Informative samples needed for every control: with fewer, intervals turn out too short.
SAMPLES_PER_CONTROL = 40
#: Samples that carry the variance, (sum d^2)^2 / sum d^4, below which it is not to be trusted.
MIN_CARRIERS = 40
#: Informative samples whose share of the plain variance is always added to what is left: events
#: that are rare and that no sample met may carry as much.
MISSED = 30
#: Directions of the correlation matrix of controls, relative to the largest, that are not used: a
#: coefficient that rests on near-collinear controls blows up with the next rare event.
MIN_EIGENVALUE = 1e-3
#: Nearest neighbours of every token; the largest K for which all distances are computed.
NEIGHBOURS = 16
MAX_PAIRWISE = 2**13
#: Controls are used where the variance they leave is at most this part of the plain one.
WORTHWHILE = 0.9
#: Distances in noise standard deviations beyond which a rival is never met (mean below 1e-40).
FAR = 28.0
#: Error of `_rival_means`, by its spline (measured: 2e-11).
RIVAL_ERROR = 5e-11

Block = Callable[[int], Float[np.ndarray, "controls samples"]]


def affordable(codebook: Codebook, statistics: int, method: MonteCarlo) -> bool:
    """Whether the pilot and what the controls know of every token fit into the memory."""
    n = codebook.n
    bytes_needed = 8 * (2 * PILOT * (n + 2 * statistics) + n**2 + 8 * codebook.K)
    enough = method.n_samples is None or method.n_samples >= PILOT
    return enough and codebook.K > 1 and bytes_needed <= method.memory


class Reduction:
    """Accumulates what is left of the statistics when their controls are taken off.

    Samples wait in a pilot until there are enough to fit coefficients, which are fitted again
    whenever the number of samples has doubled: early ones have met few rare events.
    """

    def __init__(self, controls: Controls, statistics: int) -> None:
        shape = (controls.h.size, statistics)
        self.controls = controls
        #: What is left, and its squared distance from its mean in the pilot; the latter says how
        #: many samples carry the variance.
        self.rest, self.spread = Moments(shape), Moments(shape)
        self.pilot: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.waiting = self.refit_at = 0
        self.helped = False
        self.sums: list[np.ndarray] = []
        self.coefficients: list[np.ndarray] = []
        self.origin = self.centre = np.zeros(shape)

    def add(self, ids: np.ndarray, noise: np.ndarray, values: np.ndarray) -> None:
        """One block of samples with their statistics (levels, statistics, samples)."""
        if not self.coefficients:
            self.pilot.append((ids, noise, values))
            self.waiting += ids.size
            if self.waiting >= PILOT:
                self._fit_pilot()
            return
        block = self.controls.block(ids, noise)
        rest = np.empty_like(values)
        for level, value in enumerate(values):
            controls = block(level)
            rest[level] = value - self.coefficients[level] @ controls
            self.sums[level] += _products(controls, value - self.origin[level, :, None])
        self._accumulate(rest)
        if self.rest.n >= self.refit_at:
            self._fit()

    def _fit_pilot(self) -> None:
        """Coefficients from the pilot, whose own samples take theirs from the other folds."""
        ids, noise = (np.concatenate([part[i] for part in self.pilot]) for i in (0, 1))
        values = np.concatenate([part[2] for part in self.pilot], axis=-1)
        self.pilot = []
        self.origin = values.mean(axis=-1)
        block = self.controls.block(ids, noise)
        edges = np.arange(FOLDS + 1) * ids.size // FOLDS
        folds = [slice(*pair) for pair in itertools.pairwise(edges)]
        rest = np.empty_like(values)
        for level, value in enumerate(values):
            controls = block(level)
            around = value - self.origin[level, :, None]
            parts = [_products(controls[:, fold], around[:, fold]) for fold in folds]
            self.sums.append(np.sum(parts, axis=0))
            for fold, part in zip(folds, parts, strict=True):
                beta = _regress(self.sums[level] - part, self.controls.rounding(level))
                rest[level][:, fold] = value[:, fold] - beta @ controls[:, fold]
        self.centre = rest.mean(axis=-1)
        self._accumulate(rest)
        self._fit()

    def _fit(self) -> None:
        self.coefficients = [
            _regress(sums, self.controls.rounding(level)) for level, sums in enumerate(self.sums)
        ]
        self.refit_at = 2 * self.rest.n

    def _accumulate(self, rest: np.ndarray) -> None:
        self.rest.add(rest)
        self.spread.add((rest - self.centre[..., None]) ** 2)

    @property
    def description(self) -> str:
        """What the estimate's method says beside "Monte-Carlo"."""
        return f", control variates: {', '.join(self.controls.kinds)}" if self.helped else ""

    def merged(self, plain: Moments, enough: float) -> Moments:
        """Reduced moments where they pay and both samples carry an interval; plain elsewhere.

        A difference of two rare events is as rare as they are, so that few samples carry it, even
        though its mean is known nearly exactly: support is asked of the plain sample too.
        """
        if not self.coefficients:
            return plain
        enough = max(enough, SAMPLES_PER_CONTROL * self.controls.count)
        # Controls leave rare large differences behind more often than not, and then the variance
        # is uncertain itself, by one part in the root of the number of samples that carry it, and
        # too small where they were missed; one and a half such parts keep intervals nominal.
        carriers = np.maximum(self.spread.effective(), 1e-9)
        squares = self.rest.squares * (1 + 1.5 / np.sqrt(carriers))
        informative = plain.effective()
        # Where the entropy is rare, so is what moves the divergence from its limit, and conversely.
        informative[:, [1, 3]] = informative[:, [1, 3]].min(axis=1, keepdims=True)
        squares = squares + plain.squares * MISSED / np.maximum(informative, MISSED)
        # Where nothing but rounding is left, no central limit is needed.
        exact = self.rest.squares <= 1e-20 * plain.squares
        used = (informative >= enough) & ((carriers >= MIN_CARRIERS) | exact)
        used &= squares < WORTHWHILE * plain.squares
        self.helped = bool(used.any())
        out = Moments(plain.mean.shape)
        out.n = plain.n
        out.mean = np.where(used, self.rest.mean, plain.mean)
        out.squares = np.where(used, squares, plain.squares)
        out.cubes = np.where(used, self.rest.cubes, plain.cubes)
        rounding = [
            np.abs(beta) @ self.controls.rounding(level)
            for level, beta in enumerate(self.coefficients)
        ]
        out.rounding = np.where(used, rounding, 0.0)
        return out


def _products(controls: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums over samples of all products of controls, values and one."""
    rows = np.concatenate([controls, values, np.ones((1, controls.shape[1]))])
    return rows @ rows.T


def _regress(sums: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """Coefficients (statistics, controls) of least squares with an intercept, from `_products`.

    Directions in which the controls do not vary, as |e_k|^2 on a sphere, get none, nor do those
    that vary by little more than their means may be off.
    """
    count = rounding.size
    covariance = sums - np.outer(sums[-1], sums[-1]) / sums[-1, -1]
    length = np.sqrt(np.maximum(np.diag(covariance)[:count], 0))
    varies = length > 1e3 * rounding * math.sqrt(sums[-1, -1])
    scale = np.where(varies, 1 / np.where(varies, length, 1), 0)
    eigenvalues, vectors = np.linalg.eigh(covariance[:count, :count] * np.outer(scale, scale))
    kept = eigenvalues > MIN_EIGENVALUE * max(eigenvalues[-1], 1e-300)
    vectors = vectors[:, kept]
    cross = covariance[count:-1, :count] * scale
    return (cross @ vectors / eigenvalues[kept]) @ vectors.T * scale


class Controls:
    """The controls of one codebook at levels h; each has mean 0."""

    def __init__(
        self,
        codebook: Codebook,
        points: Float[np.ndarray, "K n"],
        h: Float[np.ndarray, " levels"],
        control: Codebook | None,
        memory: int,
    ) -> None:
        prior = np.asarray(codebook.prior)
        centred = points - prior @ points
        #: Length that makes moments numbers of order 1, at any scale of the codebook.
        self.scale = math.sqrt(float(prior @ np.einsum("kn,kn->k", centred, centred)))
        self.points, self.h = centred, h
        self.log_prior = None if codebook.has_equal_priors else np.asarray(codebook.log_prior)
        self.kinds = ["moments"]
        self._learn_moments(prior)
        self.neighbours: Any = None
        if codebook.K >= 2 and memory // 8 >= 16 * codebook.K * NEIGHBOURS:
            self._learn_neighbours(prior)
        self.grid: Any = None
        grid = _checked(control, codebook) if control is not None else _nearby_grid(codebook)
        if grid is not None:
            self._learn_grid(*grid)

    @property
    def count(self) -> int:
        """Number of controls at every level."""
        return self.rounding(0).size

    def rounding(self, level: int) -> Float[np.ndarray, " controls"]:
        """How far the means of the controls may be off."""
        parts = [1e-14 * (1 + np.abs(self.moment_means))]
        if self.neighbours is not None:
            # The means are even in the distance, so what the spline misses falls like its square.
            reach = min(float(self.h[level] * self.distances.max()), 1.0)
            spline = min(RIVAL_ERROR, 4e-6 * reach**2) + 1e-15
            spline *= self.distances.shape[1]
            parts.append(spline * np.array([1, 1, (self.distances.max() / self.scale) ** 2]))
        if self.grid is not None:
            parts.append(1e-13 * self.grid_means[level] + 1e-15)
        return np.concatenate(parts)

    def block(self, ids: Int[np.ndarray, " s"], noise: Float[np.ndarray, "s n"]) -> Block:
        """A function of the level's index that gives all controls of these samples there."""
        parts = [self._moments(ids, noise)]
        if self.neighbours is not None:
            parts.append(self._neighbour_posteriors(ids, noise))
        if self.grid is not None:
            parts.append(self._grid_posteriors(ids, noise))
        return lambda level: np.concatenate([part(level) for part in parts])

    # ---- moments

    def _learn_moments(self, prior: np.ndarray) -> None:
        e = self.points / self.scale
        self.covariance = np.einsum("k,ki,kj->ij", prior, e, e, optimize=True)
        squares = np.einsum("kn,kn->k", e, e)
        self.skew = (prior * squares) @ e
        n, C = e.shape[1], self.covariance
        self.moment_means = np.array(
            [1, 0, n, prior @ squares**2, 1, n * (n + 2), 0, n, 0]
            + [np.sum(C * C), 0, np.trace(C), 0, 0]
            + ([] if self.log_prior is None else [prior @ self.log_prior])
        )

    def _moments(self, ids: np.ndarray, noise: np.ndarray) -> Block:
        e = self.points[ids] / self.scale
        a, b, c = (np.einsum("sn,sn->s", *pair) for pair in ((e, e), (e, noise), (noise, noise)))
        blurred = e @ self.covariance
        rows = [a, b, c, a * a, b * b, c * c, a * b, a * c, b * c]
        rows += [np.einsum("sn,sn->s", blurred, e), np.einsum("sn,sn->s", blurred, noise)]
        rows += [np.einsum("sn,sn->s", noise @ self.covariance, noise)]
        rows += [noise @ self.skew, e @ self.skew]
        if self.log_prior is not None:
            rows.append(self.log_prior[ids])
        table = np.stack(rows) - self.moment_means[:, None]
        return lambda level: table

    # ---- nearest neighbours

    def _learn_neighbours(self, prior: np.ndarray) -> None:
        found = _nearest(self.points, NEIGHBOURS)
        if found is None:
            return
        self.kinds.append("neighbours")
        self.neighbours, self.distances = found
        self.neighbour_means = np.zeros((self.h.size, 3))
        for start in range(0, prior.size, 4096):
            part = slice(start, start + 4096)
            distance = self.distances[part] / self.scale
            for level, h in enumerate(self.h):
                means = _rival_means()(np.minimum(h * self.distances[part], FAR))
                means[..., 2] *= distance**2
                self.neighbour_means[level] += prior[part] @ means.sum(axis=1)

    def _neighbour_posteriors(self, ids: np.ndarray, noise: np.ndarray) -> Block:
        rivals, distance = self.neighbours[ids], self.distances[ids]
        along = np.empty(rivals.shape)
        for start in range(0, ids.size, 128):  # differences of a few samples fit into the cache
            part = slice(start, start + 128)
            steps = self.points[rivals[part]] - self.points[ids[part], None]
            along[part] = (steps @ noise[part, :, None])[..., 0]
        squares = (distance / self.scale) ** 2

        def at(level: int) -> np.ndarray:
            h = self.h[level]
            posterior, entropy, variance = _rival(h * along - (h * distance) ** 2 / 2)
            rows = [posterior.sum(1), entropy.sum(1), (variance * squares).sum(1)]
            return np.stack(rows) - self.neighbour_means[level][:, None]

        return at

    # ---- a grid nearby

    def _learn_grid(self, grid: ProductCodebook, ids: Int[np.ndarray, " K"]) -> None:
        self.kinds.insert(0, "grid")
        self.grid, self.grid_ids = grid, ids
        exact = product_profile(grid, self.h**2)
        names = ("error_probability", "conditional_entropy", "mmse")
        self.grid_means = np.stack([exact[name][0] for name in names], axis=1)

    def _grid_posteriors(self, ids: np.ndarray, noise: np.ndarray) -> Block:
        grid = self.grid
        digits = grid.to_digits(self.grid_ids[ids])

        def at(level: int) -> np.ndarray:
            h = self.h[level]
            log_accuracy = entropy = mmse = 0.0
            for axis, column in enumerate(grid.levels):
                log_prior = grid.coordinate_log_prior(axis)
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
    small = np.exp(-np.abs(logit))
    posterior = np.where(logit > 0, 1, small) / (1 + small)
    variance = small / (1 + small) ** 2
    entropy = np.log1p(small) + np.abs(logit) * small / (1 + small)
    return posterior, entropy, variance


@functools.cache
def _rival_means() -> CubicSpline:
    """Means of `_rival` over d z - d^2 / 2, z ~ N(0, 1), as a function of d in [0, FAR]."""
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
        found = cKDTree(points).query(points, k=count + 1)[1]
        # With equal points the token itself need not come first, nor at all.
        own = found == np.arange(K)[:, None]
        own[~own.any(axis=1), -1] = True
        ids = found[~own].reshape(K, count)
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
