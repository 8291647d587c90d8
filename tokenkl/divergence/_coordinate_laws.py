"""The law of the level that a sampler produces, for one coordinate, without sampling.

With h = sqrt(snr) and y = x / sigma, a DDIM step is y <- y + (h' - h) E[e | y] and an ancestral
(DDPM) step is z <- z + (snr' - snr) E[e | y] + N(0, snr' - snr) for z = h y. The posterior mean
increases in y, so a DDIM step is an increasing map, with a slope of at least 1: the preimage of
every threshold is one number, and stepping backwards never makes an error larger. Densities of the
ancestral sampler are carried by the trapezoid rule, whose error falls exponentially for Gaussian
kernels, and so does that of a rule over the start for a token drawn after DDIM. Each function
returns probabilities of the levels and a bound on their errors.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
from jaxtyping import Float
from scipy import special

from tokenkl._validation import MAX_ELEMENTS, reject
from tokenkl.information.exact.product import MARGIN, map_intervals
from tokenkl.samplers import DDIM, Ancestral, Level

EPS = np.finfo(float).eps
#: Nodes of the trapezoid rule for each standard deviation of the narrowest Gaussian in it: its
#: relative error is exp(-2 pi^2 RATIO^2), 2e-28 for 1.8. The check uses the coarser one (5e-20).
RATIO, CHECK_RATIO = 1.8, 1.5
#: Step of the trapezoid rule over posteriors, times their scaled gap, and the check's.
POSTERIOR_STEP, CHECK_STEP = 0.45, 0.56
#: Points of the rule over the start, the check's first, and the error up to which it is enough.
FORWARD, ENOUGH = (901, 1201), 1e-13
#: Where a posterior is this many noise units times its scaled gap off, it is at its limit.
TAIL = 40.0
MAX_NEWTON = 200
#: Most entries of a transition matrix made at once.
BLOCK = 2**22
#: Most of them in all, about a minute.
MAX_KERNELS = 2**32


@dataclasses.dataclass(frozen=True)
class Scalar:
    """One coordinate: levels in ascending order, log-prior, temperature, sd of the start."""

    levels: Float[np.ndarray, " L"]
    log_prior: Float[np.ndarray, " L"]
    temperature: float
    start: float

    def posterior(self, y: np.ndarray, h: float) -> np.ndarray:
        """p(level | y)^(1 / temperature), normalised: (..., L)."""
        logits = h * self.levels * (y[..., None] - h * self.levels / 2) + self.log_prior
        return np.asarray(special.softmax(logits / self.temperature, axis=-1))

    def mean(self, y: np.ndarray, h: float) -> np.ndarray:
        return self.posterior(y, h) @ self.levels

    def mean_and_slope(self, y: np.ndarray, h: float) -> tuple[np.ndarray, np.ndarray]:
        """The denoised value and its derivative in y, which is never negative."""
        p = self.posterior(y, h)
        mean = p @ self.levels
        variance = (p * (self.levels - mean[..., None]) ** 2).sum(axis=-1)
        return mean, h / self.temperature * variance

    def takeovers(self, h: float) -> tuple[float, float]:
        """Below the first y the lowest level is the likeliest, above the second the highest."""
        u, prior = self.levels, self.log_prior
        first = h * (u[0] + u[1:]) / 2 + (prior[0] - prior[1:]) / (h * (u[1:] - u[0]))
        last = h * (u[-1] + u[:-1]) / 2 + (prior[:-1] - prior[-1]) / (h * (u[-1] - u[:-1]))
        return float(first.min()), float(last.max())

    def decision(self, h: float) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the interval of y where each level is the best guess."""
        right, left, owns = map_intervals(np, self.levels, self.log_prior, np.array([h]))
        middle = h * self.levels
        lower, upper = middle - left[0], middle + right[0]
        # What owns nothing gets an empty interval.
        return np.where(owns[0], lower, np.inf), np.where(owns[0], upper, np.inf)


def ddim_law(scalar: Scalar, grid: np.ndarray, decision: str) -> tuple[np.ndarray, np.ndarray]:
    """DDIM from y ~ N(0, start^2), over a grid of SNRs."""
    h = np.sqrt(grid)
    if decision == "map":
        lower, upper = scalar.decision(h[-1])
        low, low_error = _pulled_back(scalar, h, lower)
        high, high_error = _pulled_back(scalar, h, upper)
        # The difference from the side where both tails are small keeps its digits.
        flip = low > 0
        a, b = np.where(flip, -high, low), np.where(flip, -low, high)
        law = np.where(lower < upper, special.ndtr(b) - special.ndtr(a), 0.0)
        moved = _density(low) * low_error + _density(high) * high_error
        return law, moved + 8 * EPS * special.ndtr(b)
    law, error = _carried_forward(scalar, grid)
    if error.max() < ENOUGH:
        return law, error
    laws, errors = [], []
    # The posterior comes near its limits exponentially, faster than its outermost levels allow.
    outer = min(np.diff(scalar.levels)[[0, -1]])
    tail = TAIL * scalar.temperature / (h[-1] * outer)
    ends = scalar.takeovers(h[-1])
    steepness = h[-1] / scalar.temperature
    for step in (POSTERIOR_STEP, CHECK_STEP):
        # By parts: |Phi(preimage of v) - Phi(preimage of v*)| against the slope of the posterior in
        # v, which changes sign at its peak v* alone (the posterior mean increases, and is the level
        # there): all terms are positive, so that a level hardly ever drawn keeps its digits.
        delta = _posterior_spacing(scalar, h[-1], step)
        v = _line(scalar, h[-1], delta, ends, tail)
        start, error = _pulled_back(scalar, h, v)
        p = scalar.posterior(v, h[-1])
        mean = p @ scalar.levels
        slope = np.abs(p * (scalar.levels - mean[:, None])) * steepness
        at = np.clip(np.searchsorted(mean, scalar.levels[1:-1]), 0, v.size - 1)
        peak = np.concatenate([[-np.inf], start[at], [np.inf]])
        peak_error = np.concatenate([[0.0], error[at], [0.0]])
        # From the side of the peak's smaller tail.
        side = np.where(peak > 0, -1.0, 1.0)
        ours, theirs = special.ndtr(side * peak), special.ndtr(side * start[:, None])
        apart = np.abs(theirs - ours)
        laws.append(delta * (apart * slope).sum(axis=0))
        moved = (_density(start) * error)[:, None] + _density(peak) * peak_error
        moved = (moved + 8 * EPS * (ours + theirs)) * slope
        steeper = 4 * EPS * np.abs(scalar.levels).max() * steepness * p
        errors.append(delta * (moved + steeper * apart).sum(axis=0))
    return laws[0], np.abs(laws[0] - laws[1]) + errors[0]


def ancestral_law(scalar: Scalar, grid: np.ndarray, decision: str) -> tuple[np.ndarray, np.ndarray]:
    """The ancestral sampler from y ~ N(0, start^2), over a grid of SNRs."""
    fine = _carried(scalar, grid, decision, RATIO, POSTERIOR_STEP)
    coarse = _carried(scalar, grid, decision, CHECK_RATIO, CHECK_STEP)
    return fine, np.abs(fine - coarse) + 16 * EPS * grid.size * fine


# ---- DDIM -------------------------------------------------------------------------------------


def _carried_forward(scalar: Scalar, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The law of a drawn token by a plain rule over the start: exact unless the map is steep."""
    laws, levels = [], [Level.of_snr(snr) for snr in grid]
    last = levels[-1].alpha
    for points in FORWARD:
        start = np.linspace(-MARGIN, MARGIN, points)
        mass = _density(start) * (2 * MARGIN / (points - 1))
        y = scalar.start * start
        for now, then in itertools.pairwise(levels):
            y = DDIM().step(y, scalar.mean(y, now.alpha), now, then)
        laws.append(mass @ scalar.posterior(y, last))
    steepest = float((np.diff(y) / np.diff(start)).max()) * last * np.ptp(scalar.levels)
    rounding = 4 * EPS * grid.size * (1 + steepest / scalar.temperature)
    return laws[1], np.abs(laws[1] - laws[0]) + rounding


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-(np.minimum(np.abs(z), 40.0) ** 2) / 2) / math.sqrt(2 * math.pi)


def _pulled_back(scalar: Scalar, h: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Preimages at the start, in units of its scale, of values y at the end; and their errors."""
    finite = np.abs(y) < 1e20  # the outermost thresholds are at infinity
    value = np.where(finite, y, 0.0)
    error = 4 * EPS * np.abs(value)
    for now, then in zip(h[-2::-1], h[:0:-1], strict=True):
        value = _step_back(scalar, value, now, then - now)
        reach = np.abs(value) + (then - now) * np.abs(scalar.levels).max()
        error = error + 16 * EPS * reach  # each step back contracts what came before
    start = np.where(finite, value / scalar.start, np.copysign(np.inf, y))
    return start, np.where(finite, error / scalar.start, 0.0)


def _step_back(scalar: Scalar, target: np.ndarray, h: float, width: float) -> np.ndarray:
    """Solve y + width * mean(y) = target by Newton's method, kept inside a bracket.

    The left side increases with a slope of at least 1, so an error of the left side bounds that
    of y.
    """
    low = target - width * scalar.levels[-1]
    high = target - width * scalar.levels[0]
    y = target - width * scalar.mean(target, h)
    size = np.abs(target) + width * np.abs(scalar.levels).max()
    before = np.full(y.shape, np.inf)
    for _ in range(MAX_NEWTON):
        mean, slope = scalar.mean_and_slope(y, h)
        excess = y + width * mean - target
        low, high = np.where(excess <= 0, y, low), np.where(excess >= 0, y, high)
        if (np.minimum(np.abs(excess), high - low) <= 4 * EPS * size).all():
            break
        newton = y - excess / (1 + width * slope)
        # Halve the bracket where Newton's method leaves it, or has not halved the excess.
        good = (newton >= low) & (newton <= high) & (np.abs(excess) <= before / 2)
        before = np.abs(excess)
        y = np.where(good, newton, (low + high) / 2)
    return y


# ---- Ancestral --------------------------------------------------------------------------------


def _posterior_spacing(scalar: Scalar, h: float, step: float) -> float:
    """Of points that resolve posteriors: their strip of analyticity is pi T / (h gap)."""
    widest = float(np.diff(scalar.levels).max())
    return step * min(scalar.temperature, 1.0) / max(1.8, h * widest)


def _line(
    scalar: Scalar,
    h: float,
    delta: float,
    ends: tuple[float, float] = (0.0, 0.0),
    tail: float = 0.0,
) -> np.ndarray:
    """Equidistant points that no path leaves: drifts are in the hull of the levels and 0."""
    margin = MARGIN * max(1.0, scalar.start) + tail
    low = min(h * scalar.levels[0], ends[0], 0.0) - margin
    high = max(h * scalar.levels[-1], ends[1], 0.0) + margin
    _refuse_beyond(MAX_ELEMENTS // 4, (high - low) / delta * scalar.levels.size)
    count = math.ceil((high - low) / delta)
    return low + (np.arange(count + 1) + (1 - (count - (high - low) / delta)) / 2) * delta


def _refuse_beyond(most: int, numbers: float) -> None:
    if not numbers <= most:
        expected = "MonteCarlo(n_samples=...) where levels of this sharpness take too many numbers"
        reject("method", f"an exact law by {numbers:.1e} numbers", expected)


def _carried(
    scalar: Scalar, grid: np.ndarray, decision: str, ratio: float, posterior_step: float
) -> np.ndarray:
    """Probabilities of the levels, by densities on equidistant points, one step after another."""
    levels = [Level.of_snr(snr) for snr in grid]
    h = [level.alpha for level in levels]
    steps = [Ancestral().coefficients(*pair) for pair in itertools.pairwise(levels)]
    last = len(steps)

    def spacing(step: int) -> float:
        """Of the points before a step: their density is a mixture of Gaussians of width `made`, and
        the step integrates it against one of width spread / slope (or against the posterior)."""
        made = scalar.start if step == 0 else steps[step - 1][2]
        if step == last:
            return min(made / ratio, _posterior_spacing(scalar, h[-1], posterior_step))
        rough = _line(scalar, h[step], _posterior_spacing(scalar, h[step], posterior_step))
        kept, towards, spread = steps[step]
        slope = kept + towards * scalar.mean_and_slope(rough, h[step])[1].max()
        return 1 / (ratio * math.hypot(1 / made, slope / spread))

    delta = spacing(0)
    y = _line(scalar, h[0], delta)
    mass = delta * _density(y / scalar.start) / scalar.start
    for step, (kept, towards, spread) in enumerate(steps):
        centre = kept * y + towards * scalar.mean(y, h[step])
        if step == last - 1 and decision == "map":
            lower, upper = scalar.decision(h[-1])
            return mass @ _between(centre, spread, lower, upper)
        delta = spacing(step + 1)
        following = _line(scalar, h[step + 1], delta)
        mass = _moved(mass, centre, following, spread) * delta
        y = following
    return mass @ scalar.posterior(y, h[-1])


def _between(centre: np.ndarray, sd: float, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Probability of every interval under N(centre, sd^2), from the side of the smaller tail."""
    with np.errstate(invalid="ignore"):
        a = (np.clip(lower, -1e30, 1e30) - centre[:, None]) / sd
        b = (np.clip(upper, -1e30, 1e30) - centre[:, None]) / sd
    flip = a > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    return np.where(lower < upper, special.ndtr(b) - special.ndtr(a), 0.0)


def _moved(mass: np.ndarray, centre: np.ndarray, y: np.ndarray, sd: float) -> np.ndarray:
    """Density at y of a mixture of N(centre, sd^2) with these masses."""
    density: np.ndarray = np.zeros(y.size)
    step = y[1] - y[0]
    # A kernel reaches 9.5 standard deviations (1e-20 of it lies beyond): a band of the matrix.
    half = math.ceil(min(9.5 * sd / step, y.size))
    width = min(2 * half + 1, y.size)
    _refuse_beyond(MAX_KERNELS, centre.size * width)
    block = max(1, BLOCK // width)
    for start in range(0, centre.size, block):
        part = slice(start, start + block)
        if width == y.size:
            density += mass[part] @ np.exp(-(((y - centre[part, None]) / sd) ** 2) / 2)
            continue
        first = np.rint((centre[part] - y[0]) / step).astype(int) - half
        columns = first[:, None] + np.arange(width)
        inside = (columns >= 0) & (columns < y.size)
        columns = np.clip(columns, 0, y.size - 1)
        kernel = np.exp(-(((y[columns] - centre[part, None]) / sd) ** 2) / 2)
        weight = np.where(inside, kernel * mass[part, None], 0.0)
        density += np.bincount(columns.ravel(), weight.ravel(), minlength=y.size)
    return density / (sd * math.sqrt(2 * math.pi))
