"""The MMSE of a codebook over a range of SNRs, and sums over sampling steps as linear functionals.

With gamma = snr, c the codebook's average power, x = log(1 + c gamma) and
u(x) = mmse(gamma) d gamma / dx, the cost of one sampling step from gamma_a to gamma_b is

    (1/2) [ u(x_a) (e^(x_b - x_a) - 1) - int_(x_a)^(x_b) u dx ],

so a spline of u through nodes makes the cost of any grid of steps a linear function of the MMSE at
the nodes. Nothing singles out gamma = 0, where u is as smooth as anywhere. Because rectangle and
integral come from one spline, its error acts on the slope of u, to which the cost is proportional
for small steps, and not on the difference of two large numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix

from tokenkl._random import generator
from tokenkl._validation import reject
from tokenkl.codebooks import Codebook
from tokenkl.codebooks.transforms import average_power
from tokenkl.information import MonteCarlo, exact_quantities, mmse
from tokenkl.information._moments import Moments
from tokenkl.information._montecarlo import (
    MAX_WORK,
    MIN_EFFECTIVE,
    PILOT,
    Progress,
    _drawer,
)
from tokenkl.information.methods import Exact, Method

#: Distance of the nodes in x: exact MMSEs are cheap, sampled ones need not be as fine.
EXACT_STEP, SAMPLED_STEP = 0.04, 0.12
MIN_NODES = 17
DEGREE = 5
DEFAULT_SAMPLES = 2**13
#: Most samples in one block.
MAX_BLOCK = 2**11
EPS = np.finfo(float).eps


@dataclasses.dataclass(frozen=True)
class Nodes:
    """Where the MMSE is tabulated: an odd number of equidistant points in x = log(1 + c snr)."""

    power: float
    x: Float[np.ndarray, " nodes"]

    @property
    def snr(self) -> Float[np.ndarray, " nodes"]:
        return np.expm1(self.x) / self.power

    @property
    def slope(self) -> Float[np.ndarray, " nodes"]:
        """d snr / dx."""
        return np.exp(self.x) / self.power

    def x_of(self, snr: Any) -> np.ndarray:
        """Position of SNRs, clipped to the table: rounding may put the ends outside."""
        return np.clip(np.log1p(self.power * np.asarray(snr)), self.x[0], self.x[-1])

    def functionals(
        self, grids: Sequence[Float[np.ndarray, " points"]], every: int = 1
    ) -> Float[np.ndarray, "grids nodes"]:
        """Weights of the MMSE at the nodes in the path KL of each grid of SNRs.

        With `every` = 2 the spline goes through every second node, and the others get weight 0.
        """
        from scipy.interpolate import BSpline, make_interp_spline  # slow to import

        x, identity = self.x[::every], np.eye(self.x[::every].size)
        spline = make_interp_spline(x, identity, k=DEGREE)
        where = [self.x_of(grid) for grid in grids]
        left = np.concatenate([one[:-1] for one in where])
        growth = np.concatenate([np.expm1(np.diff(one)) for one in where])
        counts = [one.size - 1 for one in where]
        pointers = np.concatenate([[0], np.cumsum(counts)])
        rows = csr_matrix((growth, np.arange(left.size), pointers), shape=(len(counts), left.size))
        rectangles = rows @ BSpline.design_matrix(left, spline.t, DEGREE)
        area = spline.antiderivative()
        ends = np.array([[one[0], one[-1]] for one in where])
        integral = area(ends[:, 1]) - area(ends[:, 0])
        weights = 0.5 * (rectangles @ spline.c - integral)
        out = np.zeros((len(counts), self.x.size))
        out[:, ::every] = weights * self.slope[::every]
        return out


def make_nodes(codebook: Codebook, low: float, high: float, step: float) -> Nodes:
    """Nodes from snr = low to snr = high."""
    power = average_power(codebook)
    if not power > 0:
        reject("codebook", repr(codebook), "a codebook with at least two distinct tokens")
    ends = np.log1p(power * np.array([low, high]))
    half = max((MIN_NODES - 1) // 2, math.ceil((ends[1] - ends[0]) / (2 * step)))
    return Nodes(power, np.linspace(ends[0], ends[1], 2 * half + 1))


@dataclasses.dataclass(frozen=True)
class MmseTable:
    """MMSE at nodes, with its errors, as a smooth function of the SNR.

    `error` is a numerical error where `exact`, a standard error elsewhere.
    """

    nodes: Nodes
    value: Float[np.ndarray, " nodes"]
    error: Float[np.ndarray, " nodes"]
    exact: bool
    spline: Any

    def mmse(self, snr: Any) -> np.ndarray:
        """The interpolated MMSE."""
        x = self.nodes.x_of(snr)
        return np.asarray(self.spline(x)) * self.nodes.power * np.exp(-x)

    def area(self, snr: Any) -> np.ndarray:
        """Integral of the MMSE from the first node: twice the information gained."""
        return np.asarray(self.spline.antiderivative()(self.nodes.x_of(snr)))

    def thinned(self) -> MmseTable:
        """The table of every second node: how far it is off bounds how far this one is."""
        nodes = Nodes(self.nodes.power, self.nodes.x[::2])
        return make_table(nodes, self.value[::2], self.error[::2], self.exact)

    def slope(self, snr: Any) -> np.ndarray:
        """d mmse / d snr."""
        x = self.nodes.x_of(snr)
        factor = self.nodes.power * np.exp(-x)
        return (np.asarray(self.spline.derivative()(x)) - np.asarray(self.spline(x))) * factor**2

    def cost(self, start: Any, stop: Any) -> np.ndarray:
        """Path KL of single steps; infinite where a step does not go up."""
        start, stop = np.broadcast_arrays(start, stop)
        x0, x1 = self.nodes.x_of(start), self.nodes.x_of(stop)
        area = self.spline.antiderivative()
        cost = 0.5 * (self.spline(x0) * np.expm1(x1 - x0) - (area(x1) - area(x0)))
        return np.where(stop > start, cost, np.inf)


def make_table(nodes: Nodes, value: np.ndarray, error: np.ndarray, exact: bool) -> MmseTable:
    from scipy.interpolate import make_interp_spline  # slow to import

    spline = make_interp_spline(nodes.x, value * nodes.slope, k=DEGREE)
    return MmseTable(nodes, value, error, exact, spline)


def is_exact(codebook: Codebook, method: Method | None) -> bool:
    """Whether the MMSE will be exact; refuses methods that cannot be had."""
    if method is not None and not isinstance(method, (Exact, MonteCarlo)):
        reject("method", method, "Exact(), MonteCarlo(...) or None")
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
    return np.asarray(found.value), np.asarray(found.numerical_error), found.method


def tabulate(
    codebook: Codebook,
    low: float,
    high: float,
    method: Method | None,
    key: Any,
    progress: Progress | None = None,
) -> MmseTable:
    """The MMSE from snr = low to snr = high, exact or sampled."""
    if is_exact(codebook, method):
        nodes = make_nodes(codebook, low, high, EXACT_STEP)
        value, error, _ = exact_mmse(codebook, nodes.snr)
        return make_table(nodes, value, error, True)
    nodes = make_nodes(codebook, low, high, SAMPLED_STEP)
    none = np.zeros((0, nodes.x.size))
    sampled = sample_functionals(codebook, nodes, none, as_monte_carlo(method), key, progress)
    return make_table(nodes, sampled.mmse, sampled.mmse_error, False)


def as_monte_carlo(method: Method | None) -> MonteCarlo:
    return method if isinstance(method, MonteCarlo) else MonteCarlo(n_samples=DEFAULT_SAMPLES)


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Sampled functionals and the sampled MMSE behind them."""

    n_samples: int
    moments: Moments
    mmse: Float[np.ndarray, " nodes"]
    mmse_error: Float[np.ndarray, " nodes"]

    @property
    def supported(self) -> np.ndarray:
        """Whether enough samples carry each functional for a central-limit interval."""
        return self.moments.effective() >= MIN_EFFECTIVE


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
    from tokenkl.information import _kernel  # brings in Numba, which most uses do without

    if key is None:
        reject("key", "None", f"an integer seed or a JAX key, since {codebook!r} has to be sampled")
    if method.control is not None:
        reject("method", "MonteCarlo with a control", "without one: control variates are not used")
    points = np.asarray(codebook.points)
    layout = _kernel.lay_out(points - points.mean(axis=0), codebook.log_prior)
    draw = _drawer(codebook)
    h = np.sqrt(nodes.snr)
    # Of noise, and of the kernel's four statistics at every node.
    bytes_each = 8 * (3 * codebook.n + 16 * h.size)
    size = int(np.clip(min(method.memory // bytes_each, MAX_WORK // codebook.K), 1, MAX_BLOCK))
    moments = Moments((len(weights),))
    profile = Moments((h.size,))
    wanted = method.n_samples or (PILOT if method.has_target else DEFAULT_SAMPLES)
    wanted = min(wanted, method.max_samples)
    block = done = 0
    while done < wanted:
        ids, noise = draw(generator(key, block), size)
        used = slice(wanted - done)
        variance = _kernel.block_statistics(layout, ids[used], noise[used], h)[:, 2]
        moments.add(weights @ variance)
        profile.add(variance)
        block += 1
        done += variance.shape[-1]
        if progress is not None:
            progress(done, wanted)
        if done >= wanted and method.has_target and len(weights):
            wanted = _needed(moments, done, method)
    return Sampled(done, moments, profile.mean, profile.standard_error)


def _needed(moments: Moments, done: int, method: MonteCarlo) -> int:
    """Samples that bring all standard errors to their targets, from the variances so far."""
    target = method.atol + method.rtol * np.abs(moments.mean)
    ratio = float(np.max(moments.standard_error / np.maximum(target, np.finfo(float).tiny)))
    if ratio <= 1:
        return done
    # A tenth more than the estimate asks for, and at most four times on a rough variance.
    return min(math.ceil(min(1.1 * ratio**2, 4.0) * done), method.max_samples)
