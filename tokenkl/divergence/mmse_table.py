"""The MMSE of a codebook over a range of SNRs, and sums over sampling steps as linear functionals.

With gamma = snr, D^2 the squared size of the codebook, x = log(1 + D^2 gamma) less its value at the
lowest gamma, and u(x) = mmse(gamma) d gamma / dx, the cost of one sampling step is

    (1/2) [ mmse(gamma_a) (gamma_b - gamma_a) - int_(x_a)^(x_b) u dx ],

so polynomials on pieces of x make the cost of any grid of steps a linear function of the MMSE at
the nodes. Nothing singles out gamma = 0, where u is as smooth as anywhere. It is D^2 and not the
power c = tr Cov(e) that counts: what falls, falls where d^2 gamma, d a distance between tokens, is
of order 1 or of the order of the log-odds of the priors, where c gamma may still be tiny.

The MMSE decreases, so nothing hides between two nodes at which it is the same: where it falls, the
values show it. Exact MMSEs are tabulated on pieces that are halved until their Chebyshev
coefficients have fallen to rounding; what the last coefficients leave is the error of a piece.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.polynomial import chebyshev
from scipy.spatial.distance import cdist

from tokenkl._once import once
from tokenkl._random import generator, split
from tokenkl._validation import reject
from tokenkl.codebooks import Codebook
from tokenkl.halfspaces.tokens import pair_terms
from tokenkl.halfspaces.union import PROBES
from tokenkl.information import MonteCarlo, exact_quantities, mmse
from tokenkl.information.estimators import Progress
from tokenkl.information.methods import Exact, Method, check_method
from tokenkl.information.parts import for_each, is_bracketed, sampled_apart
from tokenkl.information.problem import Problem
from tokenkl.information.residual.profile import radius_of, too_large_to_enumerate
from tokenkl.information.sampling.montecarlo import MAX_WORK, PILOT, drawer
from tokenkl.information.sampling.targets import sample_on, samples_needed
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments

#: Degree of the polynomials, and the longest piece in x that they start from. (Degree 10 left an
#: error of 6 % in the path KL of 1000 steps of a perturbed grid; 16 leaves 0.2 %.)
EXACT_DEGREE, EXACT_PIECE = 16, 1.0
SAMPLED_DEGREE, SAMPLED_PIECE = 16, 1.0
#: A piece is fine where its last coefficients are below this part of its largest value, or below
#: the second number times the largest value of all.
TOLERANCE, NEGLIGIBLE = 2e-14, 1e-18
#: Halving a piece whose last coefficients are as small as the second number makes them fall a
#: thousandfold and more, unless they are rounding: then it is not halved again.
MAX_HALVINGS, SMOOTH = 12, 1e-8
#: Coefficients left out are at most the last ones of a geometric fall; the factor allows for slow
#: ones, and for the part of them that the values at the nodes take for something else.
TAIL = 4.0
#: How far errors at the nodes spread in between (the Lebesgue constant of so many Chebyshev nodes).
SPREAD = 3.0
#: Points evaluated at once.
BLOCK = 2**16
DEFAULT_SAMPLES, FEWEST = 2**13, 2**9
#: Most samples in one block, and tokens of them where they are sequences.
MAX_BLOCK, BLOCK_OF_SEQUENCES = 2**11, 2**10
#: Mistakes of which a sample sees enough, distances in noise units from which on there are any, and
#: the part of a standard deviation that those not seen may have.
FEW, NEAR, MOST_UNSEEN = 10, 3.0, 1.0
#: Pairs from which their probabilities are told.
PAIRS = 2**17
EPS = np.finfo(float).eps


@functools.cache
def _rules(degree: int) -> dict[str, np.ndarray]:
    """Chebyshev nodes on [-1, 1], and maps from values there to Chebyshev coefficients."""
    nodes = -np.cos(math.pi * np.arange(degree + 1) / degree)
    fit = np.linalg.inv(chebyshev.chebvander(nodes, degree))
    return {
        "nodes": nodes,
        "value": fit,
        "area": chebyshev.chebint(fit, lbnd=-1),
        "slope": chebyshev.chebder(fit),
    }


@dataclasses.dataclass(frozen=True)
class Nodes:
    """Where the MMSE is tabulated: Chebyshev nodes of pieces of x = log(1 + scale (snr - low)).

    Neighbouring pieces share a node. With scale = D^2 / (1 + D^2 low) this is the x of the module's
    head; starting from `low`, a short range keeps its digits.
    """

    low: float
    scale: float
    edges: Float[np.ndarray, " edges"]
    degree: int

    @property
    def widths(self) -> Float[np.ndarray, " pieces"]:
        return np.diff(self.edges)

    @property
    def x(self) -> Float[np.ndarray, " nodes"]:
        share = (_rules(self.degree)["nodes"] + 1) / 2
        inside = self.edges[:-1, None] + self.widths[:, None] * share[:-1]
        return np.append(inside.ravel(), self.edges[-1])

    @property
    def snr(self) -> Float[np.ndarray, " nodes"]:
        return self.snr_of(self.x)

    @property
    def slope(self) -> Float[np.ndarray, " nodes"]:
        """d snr / dx."""
        return np.exp(self.x) / self.scale

    def x_of(self, snr: Any) -> np.ndarray:
        """Position of SNRs, clipped to the table: rounding may put the ends outside."""
        x = np.log1p(np.maximum(self.scale * (np.asarray(snr) - self.low), 0.0))
        return np.minimum(x, self.edges[-1])

    def snr_of(self, x: Any) -> np.ndarray:
        return np.asarray(self.low + np.expm1(x) / self.scale)

    def by_piece(self, values: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, "pieces each"]:
        """Values at the nodes of every piece, both of its ends included."""
        return values[self.columns(np.arange(self.widths.size))]

    def columns(self, piece: Int[np.ndarray, " m"]) -> Int[np.ndarray, "m each"]:
        """Indices of the nodes of pieces."""
        return piece[:, None] * self.degree + np.arange(self.degree + 1)

    def rows(
        self, x: Float[np.ndarray, " m"], what: str
    ) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, "m each"]]:
        """The piece of each position, and weights of its nodes in "value", "slope" or "area" of u.

        Areas are from the left end of the piece.
        """
        piece = np.clip(np.searchsorted(self.edges, x, side="right") - 1, 0, self.widths.size - 1)
        half = self.widths[piece] / 2
        t = np.clip((x - self.edges[piece]) / half - 1, -1, 1)
        rule = _rules(self.degree)[what]
        weights = chebyshev.chebvander(t, len(rule) - 1) @ rule
        unit = {"value": 0, "slope": -1, "area": 1}[what]
        return piece, weights * half[:, None] ** unit

    def functionals(
        self, grids: Sequence[Float[np.ndarray, " points"]]
    ) -> Float[np.ndarray, "grids nodes"]:
        """Weights of the MMSE at the nodes in the path KL of each grid of SNRs."""
        out = np.zeros((len(grids), self.edges.size * self.degree + 1 - self.degree))
        whole = np.zeros((self.widths.size + 1, out.shape[1]))
        pieces = np.arange(self.widths.size)
        full = self.widths[:, None] / 2 * _rules(self.degree)["area"].sum(axis=0)
        np.put_along_axis(whole[1:], self.columns(pieces), full, axis=1)
        whole = np.cumsum(whole, axis=0)
        for row, grid in zip(out, grids, strict=True):
            x = self.x_of(grid)
            piece, weights = self.rows(x[:-1], "value")
            rectangle = np.diff(grid) * self.scale * np.exp(-x[:-1]) / 2
            np.add.at(row, self.columns(piece), rectangle[:, None] * weights)
            piece, weights = self.rows(x[[0, -1]], "area")
            row -= (whole[piece[1]] - whole[piece[0]]) / 2
            np.add.at(row, self.columns(piece), weights * np.array([[0.5], [-0.5]]))
        return out * self.slope


class MmseCurve(abc.ABC):
    """The MMSE as a function of the SNR, between the ends of `nodes`."""

    nodes: Nodes
    exact: bool

    @abc.abstractmethod
    def mmse(self, snr: Any) -> np.ndarray:
        """The MMSE."""

    @abc.abstractmethod
    def area(self, snr: Any) -> np.ndarray:
        """Integral of the MMSE from the first node: twice the information gained."""

    @abc.abstractmethod
    def slope(self, snr: Any) -> np.ndarray:
        """d mmse / d snr."""

    @abc.abstractmethod
    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """SNRs, the MMSE there and how far it may be off: far apart where it is sampled."""

    @property
    @abc.abstractmethod
    def area_slack(self) -> float:
        """How far the integral over the whole curve may be off but for sampling."""

    @property
    @abc.abstractmethod
    def area_error(self) -> float:
        """At most the standard error of the integral up to anywhere; 0 where that is exact."""

    def cost(self, start: Any, stop: Any) -> np.ndarray:
        """Path KL of the steps from every `start` to every `stop` (last axes); infinite where a
        step does not go up."""
        start, stop = np.asarray(start)[..., :, None], np.asarray(stop)[..., None, :]
        spent = self.mmse(start) * (stop - start) - (self.area(stop) - self.area(start))
        return np.where(stop > start, spent / 2, np.inf)


@dataclasses.dataclass(frozen=True)
class MmseTable(MmseCurve):
    """MMSE at nodes, with its errors, as a smooth function of the SNR.

    `error` is a numerical error where `exact`, a standard error elsewhere; `slack` is how far the
    polynomials may be off on each piece, in units of u (all of the error, where `exact`).
    """

    nodes: Nodes
    value: Float[np.ndarray, " nodes"]
    error: Float[np.ndarray, " nodes"]
    slack: Float[np.ndarray, " pieces"]
    exact: bool

    @functools.cached_property
    def _u(self) -> Float[np.ndarray, "pieces each"]:
        return self.nodes.by_piece(self.value * self.nodes.slope)

    @functools.cached_property
    def _areas(self) -> Float[np.ndarray, "2 edges"]:
        """Integral of u from the first node up to every edge, and its error."""
        full = _rules(self.nodes.degree)["area"].sum(axis=0)
        pieces = np.stack([self._u @ full / 2, self.slack]) * self.nodes.widths
        return np.concatenate([np.zeros((2, 1)), np.cumsum(pieces, axis=1)], axis=1)

    def _at(self, snr: Any, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position, piece, and value, slope or area of u at SNRs of any shape."""
        x = self.nodes.x_of(snr)
        flat = x.ravel()
        piece, found = np.zeros(flat.size, dtype=int), np.zeros(flat.size)
        for start in range(0, flat.size, BLOCK):
            part = slice(start, start + BLOCK)
            piece[part], weights = self.nodes.rows(flat[part], what)
            found[part] = (weights * self._u[piece[part]]).sum(axis=1)
        return x, piece.reshape(x.shape), found.reshape(x.shape)

    def mmse(self, snr: Any) -> np.ndarray:
        """The interpolated MMSE."""
        x, _, u = self._at(snr, "value")
        return np.asarray(u * self.nodes.scale * np.exp(-x))

    def mmse_slack(self, snr: Any) -> np.ndarray:
        """How far the interpolated MMSE may be off."""
        x, piece, _ = self._at(snr, "value")
        return np.asarray(self.slack[piece] * self.nodes.scale * np.exp(-x))

    def area(self, snr: Any) -> np.ndarray:
        _, piece, inside = self._at(snr, "area")
        return np.asarray(self._areas[0][piece] + inside)

    @property
    def area_slack(self) -> float:
        return float(self._areas[1][-1]) + 4 * EPS * float(self._areas[0][-1])

    @property
    def area_error(self) -> float:
        return (
            0.0 if self.exact else float(np.trapezoid(self.error * self.nodes.slope, self.nodes.x))
        )

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Over short distances sampling errors would outweigh the fall.
        apart = slice(None, None, 1 if self.exact else self.nodes.degree // 2)
        reach = (1.0 if self.exact else 3.0) * self.error
        return self.nodes.snr[apart], self.value[apart], reach[apart]

    def slope(self, snr: Any) -> np.ndarray:
        x, _, u = self._at(snr, "value")
        factor = self.nodes.scale * np.exp(-x)
        return np.asarray((self._at(snr, "slope")[2] - u) * factor**2)

    def path_kl(self, grid: Float[np.ndarray, " points"]) -> tuple[float, float]:
        """Path KL of a grid of SNRs, and how far it may be off by `slack` and rounding."""
        steps = np.diff(grid)
        rectangles = float(self.mmse(grid[:-1]) @ steps)
        area = self.area(grid[[0, -1]])
        error = float(self.mmse_slack(grid[:-1]) @ steps) + self.area_slack
        return (rectangles - float(area[1] - area[0])) / 2, error / 2 + 4 * EPS * rectangles


def make_nodes(codebook: Codebook, low: float, high: float, degree: int, piece: float) -> Nodes:
    """Nodes from snr = low to snr = high."""
    # Any scale is right; the bounds keep it from overflow where nothing is left to resolve.
    scale = float(np.clip(squared_size(codebook), 1e-200 / high, 1e300 / high))
    scale /= 1 + scale * low
    end = math.log1p(scale * (high - low))
    return Nodes(low, scale, np.linspace(0.0, end, math.ceil(end / piece) + 1), degree)


def sampled_nodes(codebook: Codebook, low: float, high: float) -> Nodes:
    """Nodes for a sampled MMSE, fixed before anything is sampled."""
    return make_nodes(codebook, low, high, SAMPLED_DEGREE, SAMPLED_PIECE)


def squared_size(codebook: Codebook) -> float:
    """Squared diameter, or of a ball around all tokens, which is no more than four times that."""
    size = _squared_size(codebook)
    if not size > 0:
        reject("codebook", repr(codebook), "a codebook with at least two distinct tokens")
    return size


def _squared_size(codebook: Codebook) -> float:
    if codebook.knows_distances:
        return codebook.diameter() ** 2
    if codebook.has_parts:
        return sum(map(_squared_size, codebook.parts))
    return 4 * squared_radius(codebook)


def squared_radius(codebook: Codebook) -> float:
    """Largest squared distance of a token from the mean point: no tr Cov(e | y) is larger."""
    if codebook.has_parts:
        return sum(map(squared_radius, codebook.parts))
    if codebook.length > 1:
        return codebook.length * squared_radius(codebook.by_itself())
    check_has_mmse(codebook)
    if too_large_to_enumerate(codebook):
        return radius_of(codebook) ** 2
    points = np.asarray(codebook.points)
    return float(((points - points.mean(axis=0)) ** 2).sum(axis=1).max())


def check_has_mmse(codebook: Codebook) -> None:
    """Refuse more tokens than an MMSE can be had for."""
    if not (codebook.by_itself().fits or too_large_to_enumerate(codebook)):
        expected = "one whose MMSE is exact, few enough tokens to list them all, or a residual one"
        reject("codebook", repr(codebook), expected)


def exact_table(codebook: Codebook, low: float, high: float) -> MmseTable:
    """The exact MMSE from snr = low to snr = high, on pieces halved until they are fine."""
    nodes = make_nodes(codebook, low, high, EXACT_DEGREE, EXACT_PIECE)
    # Left and right ends, and the last coefficients of the piece that was halved.
    waiting = np.stack([nodes.edges[:-1], nodes.edges[1:], np.full(nodes.widths.size, np.inf)])
    budget = 16 * waiting.shape[1] + 64
    share = (_rules(EXACT_DEGREE)["nodes"] + 1) / 2
    found = []
    largest = 0.0
    for again in reversed(range(MAX_HALVINGS)):
        x = waiting[0, :, None] + (waiting[1] - waiting[0])[:, None] * share
        slope = np.exp(x) / nodes.scale
        value, error = (
            part.reshape(x.shape) for part in exact_mmse(codebook, nodes.snr_of(x).ravel())[:2]
        )
        u, numerical = value * slope, (error * slope).max(axis=1)
        tail = _tail(u)
        top = u.max(axis=1)
        largest = max(largest, float(top.max()))
        # Rounding of x and of gamma moves u along its slope.
        shift = np.abs(u @ _rules(EXACT_DEGREE)["slope"].T).sum(axis=1)
        shift *= 2 * EPS * (1 + waiting[1]) / (waiting[1] - waiting[0])
        off = TAIL * tail + SPREAD * (numerical + 4 * EPS * top) + shift
        budget -= waiting.shape[1]
        fine = tail <= np.maximum(TOLERANCE * top + numerical, NEGLIGIBLE * largest)
        fine |= (tail > waiting[2] / 4) & (tail < SMOOTH * top)
        fine |= again == 0 or budget < 2 * np.count_nonzero(~fine)
        found += list(zip(*waiting[:2, fine], value[fine], error[fine], off[fine], strict=True))
        start, stop, _ = waiting[:, ~fine]
        middle = (start + stop) / 2
        halves = [[start, middle, tail[~fine]], [middle, stop, tail[~fine]]]
        waiting = np.concatenate(halves, axis=1)
        if waiting.size == 0:
            break
    # Every piece is there: those that were not fine at last have it in their slack.
    found.sort(key=lambda one: float(one[0]))
    left, right, values, errors, slack = (np.array(one) for one in zip(*found, strict=True))
    nodes = dataclasses.replace(nodes, edges=np.append(left, right[-1]))
    value, error = (np.append(one[:, :-1].ravel(), one[-1, -1]) for one in (values, errors))
    return MmseTable(nodes, value, error, slack, True)


def _tail(u: Float[np.ndarray, "pieces each"]) -> Float[np.ndarray, " pieces"]:
    """The largest of the last three Chebyshev coefficients of every piece."""
    return np.asarray(np.abs(u @ _rules(u.shape[1] - 1)["value"].T)[:, -3:].max(axis=1))


def is_exact(codebook: Codebook, method: Method | None) -> bool:
    """Whether the MMSE will be exact; refuses methods that cannot be had."""
    check_method(method, Exact, MonteCarlo)
    if isinstance(method, MonteCarlo):
        return False
    if "mmse" in exact_quantities(codebook):
        return True
    if isinstance(method, Exact):
        reject("method", f"Exact() for {codebook!r}", "MonteCarlo(...) where the MMSE is sampled")
    return False


def exact_mmse(codebook: Codebook, snr: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """The MMSE where it is exact, its numerical error, and how it was found."""
    found = mmse(codebook, snr)
    return np.asarray(found.value), np.asarray(found.numerical_error), str(found.method)


def tabulate(
    codebook: Codebook,
    low: float,
    high: float,
    method: Method | None,
    key: Any,
    progress: Progress | None = None,
) -> MmseCurve:
    """The MMSE from snr = low to snr = high: exact, sampled, or out of brackets."""
    from tokenkl.divergence.brackets import bracketed_curve  # which makes an `MmseCurve`

    if is_exact(codebook, method):
        return exact_table(codebook, low, high)
    parts = parts_that_differ(codebook)
    if is_bracketed(codebook):
        chosen = as_monte_carlo(method, None)
        if not isinstance(key, int) or chosen.control is not None:
            return bracketed_curve(codebook, low, high, chosen, key, progress)

        def curve(one: Codebook) -> MmseCurve:
            return bracketed_curve(one, low, high, chosen, key, progress)

        # A noise schedule and steps in the same range need the same curve, which takes long.
        return once(codebook, curve, low, high, chosen, key)
    nodes = sampled_nodes(codebook, low, high)
    none = np.zeros((0, nodes.x.size))
    chosen = for_each(as_monte_carlo(method, codebook), len(parts))
    sampled = [
        sample_functionals(part, nodes, none, chosen, own, progress)
        for part, own in zip(parts, split(key, len(parts)), strict=True)
    ]
    variance = sum(np.square(one.mmse_error) for one in sampled)
    return sampled_table(nodes, sum(one.mmse for one in sampled), np.sqrt(variance))


def parts_that_differ(codebook: Codebook) -> list[Codebook]:
    """The parts that are sampled one by one, without those that are the same in all tokens."""
    return [part for part in sampled_apart(codebook) if part.average_power() > 0]


def sampled_table(nodes: Nodes, mmse: Any, mmse_error: Any) -> MmseTable:
    """Polynomials through sampled MMSEs, which are smooth: all levels have the same noise."""
    slack = TAIL * _tail(nodes.by_piece(mmse * nodes.slope))
    return MmseTable(nodes, mmse, mmse_error, slack, False)


def as_monte_carlo(method: Method | None, codebook: Codebook | None) -> MonteCarlo:
    """The method that was asked for; without one, as many samples as serve this codebook.

    A sequence is as good as its number of tokens. None leaves the number of samples open.
    """
    if isinstance(method, MonteCarlo):
        return method
    if codebook is None:
        return MonteCarlo(n_samples=None)
    return MonteCarlo(n_samples=max(DEFAULT_SAMPLES // codebook.length, FEWEST))


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Sampled functionals and the sampled MMSE behind them.

    `unseen`: about the variance at the nodes by mistakes too rare for the sample.
    """

    n_samples: int
    weights: Float[np.ndarray, "functionals nodes"]
    moments: Moments
    profile: Moments
    unseen: Float[np.ndarray, " nodes"]

    @property
    def mmse(self) -> Float[np.ndarray, " nodes"]:
        """Means at the nodes."""
        return self.profile.mean

    @property
    def mmse_error(self) -> Float[np.ndarray, " nodes"]:
        """Standard errors at the nodes, with what rare mistakes add that the sample did not see."""
        return np.asarray(np.sqrt(self.profile.standard_error**2 + self.unseen / self.n_samples))

    @property
    def supported(self) -> np.ndarray:
        """Whether each functional may have a central-limit interval.

        Enough samples carry it and its variance, and rare mistakes that the sample did not see add
        little to the standard deviations at the nodes.
        """
        enough = np.minimum(self.moments.effective(), self.moments.carriers()) >= MIN_EFFECTIVE
        size = np.abs(self.weights)
        seen = size @ np.sqrt(self.profile.variance)
        return np.asarray(enough & (size @ np.sqrt(self.unseen) <= MOST_UNSEEN * seen))


def sample_functionals(
    codebook: Codebook,
    nodes: Nodes,
    weights: Float[np.ndarray, "functionals nodes"],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None = None,
) -> Sampled:
    """Means over samples of weighted sums of tr Cov(e | y) at the nodes.

    One token and one noise vector serve all nodes, and every functional is formed for each sample
    before anything is averaged: its standard error has the correlation of the nodes in it.
    """
    if key is None:
        reject("key", "None", f"an integer seed or a JAX key, since {codebook!r} has to be sampled")
    if method.control is not None:
        reject("method", "MonteCarlo with a control", "without one: control variates are not used")
    draw, size = _drawer_of_variances(codebook, nodes.snr, method)
    single = Problem(codebook.by_itself(), nodes.snr)
    moments = Moments((len(weights),))
    profile = Moments((nodes.snr.size,))
    block = done = 0

    def advance(wanted: int) -> int:
        nonlocal block, done
        while done < wanted:
            variance = draw(generator(key, block), size, wanted - done)
            moments.add(weights @ variance)
            profile.add(variance)
            block += 1
            done += variance.shape[-1]
            if progress is not None:
                progress(done, wanted)
        return done

    def needed() -> int:
        found = [(moments.mean, moments.standard_error)]
        return int(samples_needed(found, np.full(len(weights), done), method).max(initial=0))

    first = method.n_samples or (PILOT if method.has_target else DEFAULT_SAMPLES)
    sample_on(first, method, advance, needed)
    # The square of a sum over a sequence is at most its length times the sum of squares.
    unseen = codebook.length**2 * unseen_variance(single, done)
    return Sampled(done, weights, moments, profile, unseen)


def _drawer_of_variances(
    codebook: Codebook, snr: np.ndarray, method: MonteCarlo
) -> tuple[Callable[[np.random.Generator, int, int], np.ndarray], int]:
    """draw(rng, size, used): tr Cov(e | y) at all SNRs of the first `used` of `size` draws; size.

    What is drawn does not depend on how much of it is used.
    """
    if codebook.length > 1:
        size = max(BLOCK_OF_SEQUENCES // codebook.length, 16)
        return lambda rng, size, used: codebook.posterior_variances(rng, size, snr)[:, :used], size
    from tokenkl.information.sampling import kernel  # brings in Numba, which most uses do without

    problem = Problem(codebook, snr)
    layout, ids_and_noise = kernel.lay_out(problem.centred, problem.log_prior), drawer(codebook)
    h = np.minimum(problem.h, 1e150)
    # Of noise, and of the kernel's four statistics at every node.
    bytes_each = 8 * (3 * codebook.n + 16 * h.size)

    def draw(rng: np.random.Generator, size: int, used: int) -> np.ndarray:
        ids, noise = ids_and_noise(rng, size)
        variance = kernel.block_statistics(layout, ids[:used], noise[:used], h)[:, 2]
        return np.ldexp(variance, 2 * problem.exponent)

    most = min(method.memory // bytes_each, MAX_WORK // codebook.K)
    return draw, int(np.clip(most, 1, MAX_BLOCK))


def unseen_variance(problem: Problem, n_samples: int) -> Float[np.ndarray, " s"]:
    """About the variance of tr Cov(e | y) by mistakes of which a sample sees fewer than `FEW`.

    These are the ones over the largest distances. At a distance d the mean square is d^4 / 10 times
    the probability of a mistake, by a two-token integral. Where rivals at half that distance and
    more beat the true token not seldom but so many at a time, they share what the two tokens of
    the integral have for themselves, and every sample sees something of them. So it does of tokens
    closer than `NEAR` noise units, which are no matter of mistakes. Found from the pairs of a few
    tokens, all of them where there are few.
    """
    tokens = problem.tokens
    K = tokens.ids.size
    rows = np.unique(np.linspace(0, K - 1, max(PROBES, PAIRS // K)).astype(int))
    squared = cdist(tokens.points[rows], tokens.points, "sqeuclidean").ravel()
    order = np.argsort(-squared)
    order = order[squared[order] > 0]
    row, column = np.divmod(order, K)
    squared = squared[order]
    fourth = np.ldexp(squared, 2 * tokens.exponent) ** 2 / 10
    out = np.zeros(problem.h.size)
    for index, root in enumerate(problem.h):
        far = np.count_nonzero(root**2 * squared > NEAR**2)
        terms = pair_terms(tokens, root, rows[row[:far]], column[:far], squared[:far])
        terms *= K / rows.size
        often = np.cumsum(terms)
        few = np.searchsorted(n_samples * often, FEW)
        out[index] = terms[:few] @ fourth[:few]
        if few < far:
            at_once = often[np.count_nonzero(squared[:far] >= squared[few] / 4) - 1]
            out[index] /= max(at_once, 1.0) ** 2
    return out
