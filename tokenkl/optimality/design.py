"""Choices that information answers: where to train, where to step, and how many levels to have.

Half of the MMSE is what the token's entropy loses per unit of SNR, so snr * mmse / 2 is the
information per unit of log snr: noise drawn with this density spends equal training effort on equal
information. `optimal_steps` (the best grid of sampling steps) lives in `divergence.steps`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from jaxtyping import Float

from tokenkl._random import generator
from tokenkl._validation import (
    as_float_array,
    check_choice,
    check_count,
    check_positive,
    check_snr,
    is_traced,
    reject,
    tensors_out,
)
from tokenkl.codebooks import FSQ, Codebook
from tokenkl.codebooks.transforms import average_power
from tokenkl.divergence.mmse_table import check_has_mmse, is_exact, parts_that_differ, tabulate
from tokenkl.estimate import Estimate
from tokenkl.information import (
    QUANTITIES,
    MonteCarlo,
    conditional_entropy,
    exact_quantities,
    mutual_information,
    plan,
    profile,
)
from tokenkl.information.estimators import Progress
from tokenkl.information.methods import Auto, Method
from tokenkl.information.parts import is_bracketed
from tokenkl.optimality.tuples import level_tuples
from tokenkl.optimality.which_grid import Constraint, GridChoice, which_grid
from tokenkl.schedule import Schedule, TableSchedule

#: Logarithm of a ratio beyond which it says no more about where it is 1.
FAR = 3.0
#: Share of the prior entropy that is left out at each end where no range is given.
LEFT_OUT = 1e-3
#: How closely that place is found in log snr where it is exact, and the samples for it where it is
#: not and they are plain ones: as many, but for so many coordinates of all tokens and samples.
CLOSE, RANGE_SAMPLES, FEW_SAMPLES, RANGE_NUMBERS = 1e-3, 2**12, 2**8, 2**31
#: How closely where samples tell no more; how many where each costs much more.
ROUGH, FEWEST_SAMPLES = 2e-2, 2**6
#: Most tokens for which rare confusions are sampled for themselves to find the upper end; those
#: (times coordinates) for which this is done with as many draws as elsewhere.
MOST_RARE, FEW_NUMBERS = 2**13, 2**14
#: Newton's steps from there: more are taken by nobody. They leave no more than this part of the
#: error.
NEWTON, CLOSE_ENOUGH = 12, 0.05
#: The same for particle filters, which take long and whose every step has a noise of its own.
ENOUGH_OF_BRACKETS = 0.25
#: Bisections that find where it is: enough for full precision in log snr.
BISECTIONS = 60
#: Largest magnitude of log snr looked at.
HIGHEST = 700.0
#: Most level tuples that `recommend_levels` looks through.
MAX_CANDIDATES = 10**6
#: SNRs between which profiles are interpolated to find the candidates that are computed exactly.
TABLE = 9
#: What has ends of the range of its information.
WITH_ENDS = "distinct tokens, or snr_min and snr_max given"
#: What candidates may be ordered by.
CRITERIA = ("information", "accuracy", "information_per_bit")


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A law of noise levels: density, distribution function and quantiles in log snr.

    - `log_snr`: (m,) ascending natural logarithms of the SNR.
    - `share`: (m,) shares of the information gained up to them, from 0 to 1.
    - `rate`: (m,) their derivatives, small enough for a monotone cubic between them.
    - `information`: information gained over the whole range, in nats.
    - `numerical_error`, `standard_error`: of `share`, at worst; the second is 0 for exact MMSEs.

    Methods take arrays, and tensors of torch, for which they answer with tensors.
    """

    log_snr: Float[np.ndarray, " m"]
    share: Float[np.ndarray, " m"]
    rate: Float[np.ndarray, " m"]
    information: float
    numerical_error: float
    standard_error: float

    @tensors_out
    def cdf(self, log_snr: Float[Any, " *shape"]) -> Float[np.ndarray, "*shape"]:
        """Share of the information that lies below these noise levels; 0 and 1 outside."""
        x = as_float_array("log_snr", log_snr)
        return np.asarray(self._curve(np.clip(x, self.log_snr[0], self.log_snr[-1])))

    @tensors_out
    def density(self, log_snr: Float[Any, " *shape"]) -> Float[np.ndarray, "*shape"]:
        """Probability per unit of log snr: the derivative of `cdf`; 0 outside the range."""
        x = as_float_array("log_snr", log_snr)
        slack = 1e-9  # a quantile of 0 or 1 may round to just outside
        inside = (x >= self.log_snr[0] - slack) & (x <= self.log_snr[-1] + slack)
        clipped = np.clip(x, self.log_snr[0], self.log_snr[-1])
        return np.where(inside, self._curve(clipped, 1), 0.0)

    @tensors_out
    def quantile(self, u: Float[Any, " *shape"]) -> Float[np.ndarray, "*shape"]:
        """The log snr below which a share u of the information lies: the inverse of `cdf`.

        Raises:
            ValueError: u outside [0, 1].
        """
        u = as_float_array("u", u)
        if (u < 0).any() or (u > 1).any():
            reject("u", float(u[(u < 0) | (u > 1)].flat[0]), "in [0, 1]")
        piece = np.clip(np.searchsorted(self.share, u, side="right") - 1, 0, self.share.size - 2)
        low, high = self.log_snr[piece], self.log_snr[piece + 1]
        for _ in range(BISECTIONS):  # the curve is monotone on every piece
            middle = (low + high) / 2
            below = self._curve(middle) < u
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)

    def sample(self, size: int, *, key: Any) -> Float[Any, " size"]:
        """Independent log SNRs for training; stratified draws are `quantile((i + u) / size)`.

        `key` is an integer seed or a JAX key; with a `torch.Generator` the draws are its own, a
        tensor on its device.
        """
        check_count(size, "size")
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(key, torch.Generator):
            return self.quantile(torch.rand(size, generator=key, device=key.device))
        return self.quantile(generator(key).random(size))

    def as_schedule(self) -> TableSchedule:
        """The schedule whose time is this law: t = 1 - `cdf`, from the noisiest level at t = 1."""
        t = 1 - self.share[::-1]
        kept = np.concatenate([[True], np.diff(t) > 0])
        return TableSchedule(t[kept], np.exp(self.log_snr[::-1][kept]))

    @tensors_out
    def times(self, schedule: Schedule, u: Float[Any, " *shape"]) -> Float[np.ndarray, "*shape"]:
        """Times t of a schedule for u uniform in [0, 1]; u = 1 is the noisiest.

        Raises:
            ValueError: u outside [0, 1], or noise levels that the schedule does not reach.
        """
        if not isinstance(schedule, Schedule):
            reject("schedule", schedule, "a tokenkl Schedule, such as LinearVP()")
        u = as_float_array("u", u)
        return np.asarray(schedule.t_from_snr(np.exp(self.quantile(1 - u))))

    @tensors_out
    def weight(self, schedule: Schedule, t: Float[Any, " *shape"]) -> Float[np.ndarray, "*shape"]:
        """Density of the time t of a schedule under this law, per unit of t.

        The factor by which a loss at t ~ U[0, 1] has to be weighted for the same expectation.
        """
        if not isinstance(schedule, Schedule):
            reject("schedule", schedule, "a tokenkl Schedule, such as LinearVP()")
        t = as_float_array("t", t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        with np.errstate(divide="ignore", invalid="ignore"):
            # g2 = -(sigma^4 / alpha^2) d snr / dt, hence -d log snr / dt = g2 / sigma^2.
            rate = schedule.g2(t) / sigma**2
            x = 2 * np.log(alpha / sigma)
        finite = np.isfinite(x) & np.isfinite(rate)
        inside = np.where(finite, x, self.log_snr[0])
        return np.where(finite, self.density(inside) * np.where(finite, rate, 0.0), 0.0)

    @functools.cached_property
    def _curve(self) -> Callable[..., np.ndarray]:
        from scipy.interpolate import CubicHermiteSpline  # slow to import

        spline: Callable[..., np.ndarray] = CubicHermiteSpline(self.log_snr, self.share, self.rate)
        return spline


def information_uniform_schedule(
    codebook: Codebook,
    snr_min: float | None = None,
    snr_max: float | None = None,
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> NoiseSchedule:
    """The law of noise levels under which every level brings the same information.

    Its density in log snr is proportional to -dH(k|Y)/dlog snr = snr mmse / 2 (Guo, Shamai, Verdu
    2005). For `CDCD` training with cross-entropy this is the importance that Dieleman et al. (2022,
    arXiv 2211.15089) learn by time warping, computed here from the codebook alone: it holds for
    tokens that are independent. For tokens in context take `sequence_codebook(codebook, source)`,
    or what a model has learned already: `cross_entropy_schedule`.

    Args:
        codebook: any codebook with at least two distinct tokens.
        snr_min, snr_max: the range; without them, where all but 0.1 % of H(prior) at each end is
            gained: a little less where that is exact, as far as the samples tell elsewhere. What
            no observation tells, which of equal tokens it is, is not missed.
        method, key, progress: as in `ancestral_kl`.

    Raises:
        ValueError: a range that is not 0 < snr_min < snr_max, or no key where one is needed.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> law = tk.information_uniform_schedule(tk.FSQ((3,) * 8))
        >>> (10 / np.log(10) * law.quantile([0.1, 0.5, 0.9])).round(1).tolist()  # dB
        [-4.3, 5.0, 11.4]
    """
    if not is_exact(codebook, method):
        for part in parts_that_differ(codebook):
            check_has_mmse(part)
    low, high = information_range(codebook, snr_min, snr_max, key=key)
    if high <= low:
        reject("snr_max", high, f"above snr_min = {low}")
    table = tabulate(codebook, low, high, method, key, progress)
    # Even in log snr, and as close as the table where that is closer.
    nodes = np.log(table.nodes.snr[1:-1])
    even = np.linspace(math.log(low), math.log(high), 4 * nodes.size + 9)
    x = np.unique(np.concatenate([even, nodes[(nodes > even[0]) & (nodes < even[-1])]]))
    gained = table.area(np.exp(x)) / 2
    gained = np.maximum.accumulate(gained - gained[0])
    total = float(gained[-1])
    if not total > 0:
        reject("codebook", repr(codebook), "a codebook whose information changes in this range")
    keep = np.concatenate([[True], np.diff(gained) > 0])
    x, share = x[keep], gained[keep] / total
    # The cubics increase where no slope is more than three times the mean one of its pieces
    # (Fritsch and Carlson 1980).
    mean = np.diff(share) / np.diff(x)
    steepest = 3 * np.minimum(np.append(mean, mean[-1]), np.append(mean[0], mean))
    rate = np.clip(np.exp(x) * table.mmse(np.exp(x)) / (2 * total), 0, steepest)
    law = NoiseSchedule(x, share, rate, total, 0.0, 0.0)
    # What is between the points of the curve. A cubic with wrong slopes is farthest off at
    # (1 -+ 3^-1/2) / 2 of its piece.
    places = np.array([0.2113, 0.5, 0.7887])
    between = np.sort(np.concatenate([x, (x[:-1, None] + np.diff(x)[:, None] * places).ravel()]))
    area = (table.area(np.exp(between)) - table.area(low)) / 2
    numerical = float(np.abs(area / total - law.cdf(between)).max()) + table.area_slack / total
    sampling = table.area_error / (2 * total)
    return dataclasses.replace(law, numerical_error=numerical, standard_error=sampling)


def snr_of_information(
    codebook: Codebook,
    share: float = 0.5,
    *,
    near: float | None = None,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """The SNR, in dB, at which an observation tells this share of the token's entropy.

    The root of I(token; Y) = share H(prior), by Newton's steps with the slope
    dI / dlog snr = snr mmse / 2 (Guo, Shamai, Verdu 2005). Its errors are those of the information
    there, divided by the slope.

    Args:
        codebook: any codebook with at least two distinct tokens.
        share: of H(prior), strictly between 0 and 1; below what can be told at all, which is less
            than 1 where some tokens are equal.
        near: about where it is, in dB, for Newton's steps to start from; without it that is
            searched for, which takes longer than they do.
        method, key, progress: as in `tokenkl.profile`.

    Raises:
        ValueError: a share outside (0, 1), too many equal tokens to tell it, or no key where one
            is needed.

    Example:
        >>> import tokenkl as tk
        >>> half = snr_of_information(tk.FSQ((3,) * 8))
        >>> round(float(half), 2), half.unit
        (5.04, 'dB')
    """
    share = check_positive(share, "share")
    if not share < 1:
        reject("share", share, "strictly between 0 and 1")
    entropy = float(codebook.prior_entropy())
    target, expected = share * entropy, f"distinct tokens enough to tell {share:g} of their entropy"
    if not codebook.average_power() > 0 or target >= entropy - _never_told(codebook):
        reject("codebook", repr(codebook), expected)

    def excess(x: float) -> float:
        found = mutual_information(codebook, math.exp(x), method=_ranging(codebook), key=key)
        return math.log(max(float(found.value), 1e-320) / target)

    decibels = 10 / math.log(10)
    if near is None:
        x = _crossing(codebook, excess, expected, _least(codebook, target))
    else:
        x = float(as_float_array("near", near, ndim=0)) / decibels
        if not abs(x) <= HIGHEST:
            reject("near", near, f"from {-decibels * HIGHEST:.0f} to {decibels * HIGHEST:.0f} dB")
    enough = ENOUGH_OF_BRACKETS if is_bracketed(codebook) else CLOSE_ENOUGH
    for _ in range(NEWTON):
        found = plan(codebook, math.exp(x), ("mutual_information", "mmse"), method=method)
        told, mmse = found.run(key, progress).values()
        slope = math.exp(x) * float(mmse.value) / 2
        step = (target - float(told.value)) / slope
        error = float(told.standard_error + told.numerical_error) / slope
        # The step is as wrong as the slope is; and the steps converge quadratically.
        doubt = float(mmse.numerical_error + 3 * mmse.standard_error) / float(mmse.value)
        left = abs(step) * (min(doubt, 1.0) + error + abs(step))
        if left <= enough * error or abs(step) <= 1e-9:
            break
        x += float(np.clip(step, -1, 1))
    # More information than there is would put the root too low.
    root = told.scaled(-decibels / slope, decibels * (x + step))
    left = decibels * left + 1e-13 * abs(float(root.value))
    return dataclasses.replace(
        root, numerical_error=root.numerical_error + left, quantity="SNR", unit="dB"
    )


@dataclasses.dataclass(frozen=True)
class LevelChoice:
    """An FSQ grid and what it tells at the SNR that was asked for; information in nats."""

    levels: tuple[int, ...]
    K: int
    information: float
    conditional_entropy: float
    accuracy: float

    @property
    def bits(self) -> float:
        """log2 K: what a token costs."""
        return math.log2(self.K)

    @property
    def n(self) -> int:
        """Number of coordinates."""
        return len(self.levels)

    @property
    def information_per_bit(self) -> float:
        """Share of a token's bits that survive the noise."""
        return self.information / (self.bits * math.log(2)) if self.K > 1 else 0.0


@overload
def recommend_levels(
    *,
    budget_tokens: int | None = None,
    budget_bits: float | None = None,
    n_range: tuple[int, int] = (1, 12),
    snr: float,
    power: float | None = None,
    by: str = "information",
    least_share: float = 0.95,
    max_levels: int = 64,
    top: int = 10,
) -> list[LevelChoice]: ...


@overload
def recommend_levels(
    *,
    instead_of: Sequence[int],
    snr: float | None = None,
    error: float | None = None,
    constraint: Constraint = "box",
    key: Any = 0,
    top: int = 10,
) -> list[GridChoice]: ...


def recommend_levels(
    *,
    budget_tokens: int | None = None,
    budget_bits: float | None = None,
    n_range: tuple[int, int] = (1, 12),
    snr: float | None = None,
    power: float | None = None,
    by: str = "information",
    least_share: float = 0.95,
    max_levels: int = 64,
    top: int = 10,
    instead_of: Sequence[int] | None = None,
    error: float | None = None,
    constraint: Constraint = "box",
    key: Any = 0,
) -> list[LevelChoice] | list[GridChoice]:
    """The FSQ grids within a budget that tell most about the token at one noise level.

    Given `instead_of`, a level set such as (8, 5, 5, 5), answers with what to take in its place at
    the same number of tokens and coordinates, the choices of `tokenkl.which_grid`, which says more.

    All level tuples (in descending order: the order of coordinates does not matter) with n in
    `n_range`, at least two levels a coordinate, and K between `least_share` of the budget in bits
    and the budget. Exact; equal priors, levels equispaced on [-1, 1] or scaled to a common average
    power.

    Args:
        budget_tokens: largest K; or
        budget_bits: largest log2 K. Exactly one of the two.
        n_range: smallest and largest number of coordinates.
        snr: alpha^2 / sigma^2 at which the grids are compared; not needed with `instead_of`.
        power: average power tr Cov(e) of every grid; None compares them in the box [-1, 1]^n, where
            more coordinates have more power.
        by: "information", "accuracy" or "information_per_bit".
        least_share: smallest log2 K in units of the budget.
        max_levels: most levels of one coordinate.
        top: how many to return, best first.
        instead_of: a level set to replace, in the place of a budget.
        error, constraint, key: with `instead_of`, as in `tokenkl.which_grid`.

    Raises:
        ValueError: an argument out of its range or without effect, no grid, or more than 10^6 of
            them.

    Example:
        >>> import tokenkl as tk
        >>> best = tk.recommend_levels(budget_tokens=6561, n_range=(4, 8), snr=10.0, power=1.0)[0]
        >>> best.levels
        (3, 3, 3, 3, 3, 3, 3, 3)
        >>> best = tk.recommend_levels(instead_of=(8, 6, 5), error=0.01)[0]
        >>> best.name, best.levels, round(float(best.gain.value), 1)
        ('checkerboard', (10, 7, 7), 1.6)
    """
    if instead_of is not None:
        if budget_tokens is not None or budget_bits is not None:
            reject("instead_of", instead_of, "given without a budget, which it has itself")
        how: dict[str, Any] = {"error": error, "snr": snr, "constraint": constraint, "key": key}
        return list(which_grid(instead_of, **how).choices[: check_count(top, "top")])
    if error is not None:
        reject("error", error, "given with instead_of; grids of a budget are compared at an snr")
    budget = _budget(budget_tokens, budget_bits)
    if snr is None:
        reject("snr", "None", "one concrete number")
    if not (isinstance(n_range, (tuple, list)) and len(n_range) == 2):
        reject("n_range", n_range, "a pair: smallest and largest number of coordinates")
    least, most = (check_count(n, "n_range") for n in n_range)
    if most < least:
        reject("n_range", n_range, "a pair in ascending order")
    level = check_snr(snr)
    if is_traced(level) or level.ndim:
        reject("snr", snr, "one concrete number")
    check_choice(by, CRITERIA, "by")
    if not 0 <= least_share < 1:
        reject("least_share", least_share, "in [0, 1)")
    check_count(top, "top")
    check_count(max_levels, "max_levels", 2)
    floor = budget**least_share
    tuples = [
        levels
        for n in range(least, most + 1)
        for levels in level_tuples(n, budget, max_levels, floor, MAX_CANDIDATES)
    ]
    if len(tuples) > MAX_CANDIDATES:
        reject("n_range", n_range, f"small enough for {MAX_CANDIDATES:,} grids")
    if not tuples:
        reject("n_range", n_range, f"such that some grid has {floor:.6g} to {budget:,} tokens")
    scales = _scales(tuples, power)
    listed = _shortlist(tuples, float(level), scales, by, 4 * top)
    choices = [_evaluated(tuples[index], float(level * scales[index])) for index in listed]
    return sorted(choices, key=lambda one: (-getattr(one, by), one.K, one.n))[:top]


# ---- Where the information is -------------------------------------------------------------------


def information_range(
    codebook: Codebook,
    snr_min: float | None = None,
    snr_max: float | None = None,
    *,
    key: Any = None,
) -> tuple[float, float]:
    """The SNRs between which all but 0.1 % of H(prior) at each end is gained.

    A little less is left out where that is exact; elsewhere as far as the samples tell, and where
    they leave a wide bracket, up to the SNR from which it does not prove that more is missing;
    there the ends are whole decibels.

    Args:
        codebook: any codebook with at least two distinct tokens.
        snr_min, snr_max: an end that is given stays as it is.
        key: seed of whatever is sampled.

    Raises:
        ValueError: tokens that are all equal, or no key where one is needed.

    Example:
        >>> import tokenkl as tk
        >>> low, high = tk.optimality.information_range(tk.FSQ((3,) * 8))
        >>> round(low, 4), round(high, 1)
        (0.0033, 47.6)
    """
    low = _lower_end(codebook, key) if snr_min is None else check_positive(snr_min, "snr_min")
    high = _upper_end(codebook, key) if snr_max is None else check_positive(snr_max, "snr_max")
    if is_bracketed(codebook):  # known to no better than that
        low = _whole_decibels(low, math.floor) if snr_min is None else low
        high = _whole_decibels(high, math.ceil) if snr_max is None else high
    return low, high


def _whole_decibels(snr: float, towards: Callable[[float], int]) -> float:
    whole = towards(round(10 * math.log10(snr), 6)) / 10
    return float(10**whole) if -300 < whole < 300 else snr


def _lower_end(codebook: Codebook, key: Any) -> float:
    """Where no more than `LEFT_OUT` of H(prior) is gained.

    The tokens of a sequence tell no more together than each by itself.
    """
    target, one = LEFT_OUT * float(codebook.prior_entropy()) / codebook.length, codebook.by_itself()
    eigenvalues = one.covariance_eigenvalues() if is_bracketed(one) else None

    def excess(x: float) -> float:
        if eigenvalues is not None:  # no more than a Gaussian law's, which costs nothing to find
            told = float(np.log1p(math.exp(x) * eigenvalues).sum()) / 2
        else:
            how: Any = {"method": _ranging(one), "key": key}
            told = float(mutual_information(one, math.exp(x), **how).value)
        return math.log(max(told, 1e-320) / target)

    return math.exp(_crossing(codebook, excess, WITH_ENDS) - _close(codebook))


def _upper_end(codebook: Codebook, key: Any) -> float:
    """Where no more than `LEFT_OUT` of H(prior) is missing that can be told.

    Of a sequence no more is missing than of its tokens, each by itself.
    """
    target, one = LEFT_OUT * float(codebook.prior_entropy()) / codebook.length, codebook.by_itself()
    never = _never_told(one)
    # Where confusions are rare, the method of choice samples them, and priors of any size, best.
    method: Method | None = None if one.K * one.n <= FEW_NUMBERS else Auto(FEW_SAMPLES)
    if one.K > MOST_RARE:
        method = _ranging(one)

    def excess(x: float) -> float:
        found = conditional_entropy(one, math.exp(x), method=method, key=key)
        left = float(found.value) - never
        if found.numerical_error > target:  # a bracket, of which only the lower end is sure
            left -= float(found.numerical_error)
        return math.log(target / max(left, 1e-320))

    start = _least(one, float(one.prior_entropy()) - never - target)
    return math.exp(_crossing(codebook, excess, WITH_ENDS, start) + _close(codebook))


def _never_told(codebook: Codebook) -> float:
    """Entropy that is left without any noise: which of equal tokens, such as unused ones, it is."""
    if codebook.K == 1 or not codebook.fits or codebook.min_distance_bound() > 0:
        return 0.0
    prior = np.asarray(codebook.prior)
    _, which = np.unique(np.asarray(codebook.points), axis=0, return_inverse=True)
    merged = np.bincount(which.ravel(), prior)[which.ravel()]
    return float(-(prior * np.log(prior / merged)).sum())


def _ranging(codebook: Codebook) -> Method | None:
    exact = set(QUANTITIES) <= set(exact_quantities(codebook))
    if is_bracketed(codebook):
        return MonteCarlo(FEWEST_SAMPLES)
    samples = RANGE_NUMBERS // (codebook.K * codebook.n) if codebook.fits else FEW_SAMPLES
    return None if exact else MonteCarlo(min(max(samples, FEW_SAMPLES), RANGE_SAMPLES))


def _close(codebook: Codebook) -> float:
    return CLOSE if _ranging(codebook) is None else ROUGH


def _least(codebook: Codebook, told: float) -> float | None:
    """The log snr at which a Gaussian law of the same covariance tells so much: no token does.

    None where looking around is cheaper than the covariance is.
    """
    from scipy.optimize import brentq  # slow to import

    listed = codebook.fits and codebook.K <= MOST_RARE and codebook.length == 1
    if not (is_bracketed(codebook) or listed) or _ranging(codebook) is None:
        return None
    eigenvalues = codebook.covariance_eigenvalues()
    logs = np.log(eigenvalues[eigenvalues > 0])

    def excess(x: float) -> float:
        return float(np.logaddexp(0.0, x + logs).sum()) / 2 - told

    if logs.size == 0 or not excess(-HIGHEST) < 0 < excess(HIGHEST):
        return None
    return float(brentq(excess, -HIGHEST, HIGHEST, xtol=CLOSE)) - CLOSE


def _crossing(
    codebook: Codebook,
    excess: Callable[[float], float],
    expected: str,
    start: float | None = None,
) -> float:
    """The log snr at which an increasing function of it becomes positive.

    Where there is none the codebook is refused, and `expected` says what would have one.

    Goes up from the start in steps that double, over all that floats allow. Without one it starts
    where tr Cov snr / 2, which no information exceeds, is as much as is left out at the lower end.
    """
    from scipy.optimize import brentq  # slow to import

    power = codebook.length * average_power(codebook.by_itself())
    entropy = float(codebook.prior_entropy())
    if not power > 0:
        reject("codebook", repr(codebook), expected)
    low, step = max(math.log(2 * LEFT_OUT * entropy) - math.log(power), -HIGHEST) - CLOSE, 2.0
    if start is not None and start > low:
        low, step = start, 0.5

    @functools.cache
    def here(x: float) -> float:  # far from the crossing it is no matter how far
        return min(max(excess(x), -FAR), FAR)

    while here(low + step) <= 0:
        low, step = low + step, 2 * step
        if low + step > HIGHEST:
            reject("codebook", repr(codebook), expected)
    if here(low) > 0:  # by sampling errors or rounding: this is the start
        return low
    return float(brentq(here, low, low + step, xtol=_close(codebook), rtol=1e-12))


def _budget(tokens: int | None, bits: float | None) -> int:
    if (tokens is None) == (bits is None):
        reject(
            "budget_tokens or budget_bits", f"{tokens} and {bits}", "given, and only one of them"
        )
    if tokens is not None:
        return check_count(tokens, "budget_tokens", 2)
    bits = check_positive(bits, "budget_bits")
    if not 1 <= bits <= 60:
        reject("budget_bits", bits, "from 1 to 60")
    return math.floor(2**bits * (1 + 1e-12))


def _scales(tuples: Sequence[tuple[int, ...]], power: float | None) -> np.ndarray:
    """Squared factor that gives each grid its average power."""
    if power is None:
        return np.ones(len(tuples))
    power = check_positive(power, "power")
    # Average power of a coordinate with L levels on [-1, 1]: (L + 1) / (3 (L - 1)).
    return np.array([power / sum((L + 1) / (3 * (L - 1)) for L in one) for one in tuples])


def _shortlist(
    tuples: list[tuple[int, ...]], snr: float, scales: np.ndarray, by: str, size: int
) -> list[int]:
    """Indices of the grids that come first, by profiles interpolated between a few SNRs."""
    from scipy.interpolate import PchipInterpolator  # slow to import

    if len(tuples) <= size:
        return list(range(len(tuples)))
    places = np.unique(
        np.concatenate([np.geomspace(scales.min(), scales.max(), TABLE), scales[:1]])
    )
    log_places = np.log(places)
    quantity = "accuracy" if by == "accuracy" else "mutual_information"
    curves: dict[int, Any] = {}
    for count in {count for levels in tuples for count in levels}:
        found = np.asarray(profile(FSQ((count,)), snr * places, (quantity,))[quantity].value)
        values = np.log(found) if by == "accuracy" else found
        curves[count] = PchipInterpolator(log_places, values) if places.size > 1 else values[0]
    total = np.zeros(len(tuples))
    lengths = np.array([len(levels) for levels in tuples])
    for place in range(int(lengths.max())):
        here = np.array([one[place] if place < len(one) else 0 for one in tuples])
        for count, curve in curves.items():
            rows = here == count
            total[rows] += curve(np.log(scales[rows])) if places.size > 1 else curve
    if by == "information_per_bit":
        total = total / np.array([math.log(math.prod(levels)) for levels in tuples])
    return [int(index) for index in np.argsort(-total, kind="stable")[:size]]


def _evaluated(levels: tuple[int, ...], snr: float) -> LevelChoice:
    """Coordinates do not interact: profiles of single coordinates are enough."""
    found = profile(FSQ(levels), snr, ("mutual_information", "conditional_entropy", "accuracy"))
    return LevelChoice(levels, math.prod(levels), *(float(one) for one in found.estimates.values()))
