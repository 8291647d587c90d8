"""Noise schedules: how much of a token is left at diffusion time t.

At time t in [0, 1] the state is X_t = alpha(t) a + sigma(t) eps with eps ~ N(0, I), where a is the
token's point: t = 0 is (almost) clean and t = 1 is (almost) pure noise. What the state says about
the token depends on t only through snr(t) = alpha(t)^2 / sigma(t)^2, which decreases in t.

X_t solves the linear SDE dX = f(t) X dt + sqrt(g2(t)) dW with f = d log(alpha)/dt and
g2 = d(sigma^2)/dt - 2 f sigma^2 = -(sigma^4 / alpha^2) d(snr)/dt (Song et al. 2021,
arXiv 2011.13456; Kingma et al. 2021, arXiv 2107.00630).

Concrete times are computed by NumPy in float64 whatever JAX's settings; the formulas avoid
differences of nearly equal numbers, so that both ends keep full relative precision. Times (or
parameters) that JAX traces are computed by `jax.numpy` in their own precision, so that `jax.grad`,
`jax.jit` and `jax.vmap` pass through every method.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from tokenkl._validation import check_positive, check_snr, check_time, is_traced, reject

#: How far beyond the end of a schedule an snr may lie and still count as the end: rounding in the
#: caller's formula, such as 1 / sigma_max**2, is of this size.
_END_SLACK = 32 * np.finfo(np.float64).eps

#: Name on the command line -> class.
SCHEDULES: dict[str, type[Schedule]] = {}
Kind = TypeVar("Kind", bound="type[Schedule]")


def register_schedule(name: str) -> Callable[[Kind], Kind]:
    """Make a schedule known by this name to `parse_schedule` and the command line; a decorator."""

    def keep(kind: Kind) -> Kind:
        SCHEDULES[name] = kind
        return kind

    return keep


class Schedule(eqx.Module):
    """A path from data (t = 0) to noise (t = 1): X_t = alpha(t) a + sigma(t) eps.

    Every method takes an array of any shape and returns an array of that shape (a NumPy float64
    scalar for a scalar). Times outside [0, 1], NaN and anything but real numbers raise
    `ValueError`; traced values cannot be checked. t has no unit and spans the whole diffusion;
    f and g2 are per unit of t.
    """

    # What a schedule has to say. `xp` is numpy, or jax.numpy where something is traced.
    @abc.abstractmethod
    def _alpha(self, t: Any, xp: Any) -> Any: ...

    @abc.abstractmethod
    def _sigma(self, t: Any, xp: Any) -> Any: ...

    @abc.abstractmethod
    def _f(self, t: Any, xp: Any) -> Any: ...

    @abc.abstractmethod
    def _g2(self, t: Any, xp: Any) -> Any: ...

    @abc.abstractmethod
    def _t_from_snr(self, snr: Any, xp: Any) -> Any: ...

    def _snr(self, t: Any, xp: Any) -> Any:
        return (self._alpha(t, xp) / self._sigma(t, xp)) ** 2

    def _log_snr(self, t: Any, xp: Any) -> Any:
        return 2 * (xp.log(self._alpha(t, xp)) - xp.log(self._sigma(t, xp)))

    def _evaluate(self, function: Callable[[Any, Any], Any], argument: Any) -> Any:
        """Call `function(argument, xp)` with the right xp; infinities at the ends are meant."""
        if is_traced(argument, *jax.tree.leaves(self)):
            return function(argument * 1.0, jnp)
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(function(argument, np), np.float64)[()]

    def alpha(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Factor in front of the token."""
        return self._evaluate(self._alpha, check_time(t))

    def sigma(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Standard deviation of the noise, in the unit of the token's coordinates."""
        return self._evaluate(self._sigma, check_time(t))

    def snr(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Signal-to-noise ratio alpha^2 / sigma^2; inf where sigma = 0 and 0 where alpha = 0."""
        return self._evaluate(self._snr, check_time(t))

    def log_snr(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Natural logarithm of the snr; inf where sigma = 0 and -inf where alpha = 0."""
        return self._evaluate(self._log_snr, check_time(t))

    def f(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Drift coefficient d log(alpha)/dt of the forward SDE; -inf where alpha = 0."""
        return self._evaluate(self._f, check_time(t))

    def g2(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Squared diffusion coefficient d(sigma^2)/dt - 2 f sigma^2; inf where alpha = 0."""
        return self._evaluate(self._g2, check_time(t))

    def t_from_snr(self, snr: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """The time at which the schedule has this snr.

        snr = inf gives 0 where sigma(0) = 0, and snr = 0 gives 1 where alpha(1) = 0. An snr
        outside `snr_range` raises `ValueError`; one that misses an end by rounding only counts as
        the end. A traced snr cannot be checked: outside the range it gives the nearer end.
        """
        low, high = self.snr_range
        if is_traced(snr, low, high):
            return self._evaluate(self._clipped_t, jnp.clip(snr, low, high))
        array = self._check_range(snr, low, high)
        t = self._evaluate(self._clipped_t, array)
        return np.where(array <= low, 1.0, np.where(array >= high, 0.0, t))[()]

    def _clipped_t(self, snr: Any, xp: Any) -> Any:
        return xp.clip(self._t_from_snr(snr, xp), 0.0, 1.0)

    def _check_range(self, snr: Any, low: Any, high: Any) -> np.ndarray:
        try:
            infinite = np.isposinf(snr)
        except (TypeError, ValueError):  # no numbers at all: check_snr says so
            infinite = np.False_
        finite = check_snr(np.where(infinite, 0.0, snr) if infinite.any() else snr)
        array = np.where(infinite, np.inf, finite)
        outside = (array < low * (1 - _END_SLACK)) | (array > high * (1 + _END_SLACK))
        if outside.any():
            reject("snr", float(array[outside].flat[0]), f"in [{low}, {high}] for {self.name}")
        return array

    @property
    def snr_range(self) -> tuple[Any, Any]:
        """The pair (snr(1), snr(0)): the smallest and the largest snr of the schedule."""
        return self.snr(1.0), self.snr(0.0)

    @property
    def name(self) -> str:
        """Label for plots and tables, such as "LinearVP" or "BetaVP(0.1, 20)"."""
        values = [format(getattr(self, field.name), "g") for field in dataclasses.fields(self)]
        return type(self).__name__ + (f"({', '.join(values)})" if values else "")


def _positive(name: str, default: float) -> Any:
    """A field that holds a finite number above zero, as a Python float."""
    return eqx.field(converter=functools.partial(check_positive, name=name), default=default)


@register_schedule("linear-vp")
@final
class LinearVP(Schedule):
    """Variance-preserving with alpha = 1 - t and sigma^2 = t (2 - t), so alpha^2 + sigma^2 = 1.

    snr falls from inf at t = 0 to 0 at t = 1, where f = -inf and g2 = inf.
    """

    def _alpha(self, t: Any, xp: Any) -> Any:
        return 1 - t

    def _sigma(self, t: Any, xp: Any) -> Any:
        return xp.sqrt(t * (2 - t))

    def _f(self, t: Any, xp: Any) -> Any:
        return -1 / (1 - t)

    def _g2(self, t: Any, xp: Any) -> Any:
        return 2 / (1 - t)

    def _t_from_snr(self, snr: Any, xp: Any) -> Any:
        # 1 - alpha = (1 - alpha^2) / (1 + alpha), and 1 - alpha^2 = sigma^2 = 1 / (1 + snr).
        return 1 / ((1 + snr) * (1 + xp.sqrt(1 / (1 + 1 / snr))))


@register_schedule("cosine-vp")
@final
class CosineVP(Schedule):
    """Variance-preserving with alpha = cos(pi t / 2) and sigma = sin(pi t / 2).

    The cosine schedule of Nichol and Dhariwal (2021, arXiv 2102.09672) without its offset. snr
    falls from inf at t = 0 to 0 at t = 1, where f = -inf and g2 = inf.
    """

    def _alpha(self, t: Any, xp: Any) -> Any:
        return xp.sin(xp.pi / 2 * (1 - t))  # exactly 0 at t = 1, and precise next to it

    def _sigma(self, t: Any, xp: Any) -> Any:
        return xp.sin(xp.pi / 2 * t)

    def _f(self, t: Any, xp: Any) -> Any:
        return -xp.pi / 2 * self._sigma(t, xp) / self._alpha(t, xp)

    def _g2(self, t: Any, xp: Any) -> Any:
        return -2 * self._f(t, xp)

    def _t_from_snr(self, snr: Any, xp: Any) -> Any:
        return xp.arctan2(1.0, xp.sqrt(snr)) / (xp.pi / 2)


class _LinearBeta(Schedule):
    """Shared by the schedules with f = -beta/2 and beta(t) = beta_0 + t (beta_1 - beta_0)."""

    beta_0: float = _positive("beta_0", 0.1)
    beta_1: float = _positive("beta_1", 20.0)

    def __check_init__(self) -> None:
        if not is_traced(self.beta_0, self.beta_1) and self.beta_1 < self.beta_0:
            reject("beta_1", self.beta_1, f"at least beta_0 = {self.beta_0}")

    def _beta(self, t: Any) -> Any:
        return self.beta_0 + t * (self.beta_1 - self.beta_0)

    def _B(self, t: Any) -> Any:
        """The integral of beta from 0 to t."""
        return t * (self.beta_0 + t * (self.beta_1 - self.beta_0) / 2)

    def _t_from_B(self, B: Any, xp: Any) -> Any:
        root = xp.sqrt(self.beta_0**2 + 2 * (self.beta_1 - self.beta_0) * B)
        return 2 * B / (self.beta_0 + root)

    def _alpha(self, t: Any, xp: Any) -> Any:
        return xp.exp(-self._B(t) / 2)

    def _f(self, t: Any, xp: Any) -> Any:
        return -self._beta(t) / 2


@register_schedule("beta-vp")
@final
class BetaVP(_LinearBeta):
    """Variance-preserving with a linear rate: the continuous limit of DDPM.

    With beta(t) = beta_0 + t (beta_1 - beta_0) and B(t) its integral from 0 to t,
    alpha = exp(-B/2), sigma^2 = 1 - exp(-B), f = -beta/2 and g2 = beta. The defaults (0.1, 20) are
    those of Song et al. (2021, arXiv 2011.13456, appendix C); Grad-TTS (Popov et al. 2021,
    arXiv 2105.06337) uses (0.05, 20). snr falls from inf at t = 0 to 1 / expm1(B(1)) at t = 1.

    Raises `ValueError` unless 0 < beta_0 <= beta_1.
    """

    def _sigma(self, t: Any, xp: Any) -> Any:
        return xp.sqrt(-xp.expm1(-self._B(t)))

    def _g2(self, t: Any, xp: Any) -> Any:
        return self._beta(t)

    def _t_from_snr(self, snr: Any, xp: Any) -> Any:
        return self._t_from_B(xp.log1p(1 / snr), xp)


@register_schedule("sub-vp")
@final
class SubVP(_LinearBeta):
    """Sub-variance-preserving: alpha = exp(-B/2) and sigma = 1 - exp(-B), with B as in `BetaVP`.

    g2 = beta (1 - exp(-2B)), which vanishes at t = 0 (Song et al. 2021, arXiv 2011.13456, section
    3.4). snr falls from inf at t = 0 to 1 / (2 sinh(B(1)/2))^2 at t = 1.

    Raises `ValueError` unless 0 < beta_0 <= beta_1.
    """

    def _sigma(self, t: Any, xp: Any) -> Any:
        return -xp.expm1(-self._B(t))

    def _g2(self, t: Any, xp: Any) -> Any:
        return -self._beta(t) * xp.expm1(-2 * self._B(t))

    def _t_from_snr(self, snr: Any, xp: Any) -> Any:
        return self._t_from_B(2 * xp.arcsinh(0.5 / xp.sqrt(snr)), xp)


class _UnitAlpha(Schedule):
    """Shared by the schedules that only add noise: alpha = 1, sigma from sigma_min to sigma_max."""

    sigma_min: float
    sigma_max: float

    def __check_init__(self) -> None:
        if not is_traced(self.sigma_min, self.sigma_max) and self.sigma_max <= self.sigma_min:
            reject("sigma_max", self.sigma_max, f"above sigma_min = {self.sigma_min}")

    def _log_ratio(self, xp: Any) -> Any:
        """log(sigma_max / sigma_min), precise also when the two are close."""
        return xp.log1p((self.sigma_max - self.sigma_min) / self.sigma_min)

    def _alpha(self, t: Any, xp: Any) -> Any:
        return xp.ones_like(t)

    def _f(self, t: Any, xp: Any) -> Any:
        return xp.zeros_like(t)


@register_schedule("ve")
@final
class VE(_UnitAlpha):
    """Variance-exploding: alpha = 1 and sigma = sigma_min (sigma_max / sigma_min)^t.

    Song et al. (2021, arXiv 2011.13456, appendix C) with the defaults of their CIFAR-10 models.
    snr falls from sigma_min^-2 at t = 0 to sigma_max^-2 at t = 1; f = 0.

    Raises `ValueError` unless 0 < sigma_min < sigma_max.
    """

    sigma_min: float = _positive("sigma_min", 0.01)
    sigma_max: float = _positive("sigma_max", 50.0)

    def _sigma(self, t: Any, xp: Any) -> Any:
        return self.sigma_min ** (1 - t) * self.sigma_max**t  # exact at both ends

    def _g2(self, t: Any, xp: Any) -> Any:
        return 2 * self._sigma(t, xp) ** 2 * self._log_ratio(xp)

    def _t_from_snr(self, snr: Any, xp: Any) -> Any:
        return -xp.log(xp.sqrt(snr) * self.sigma_min) / self._log_ratio(xp)


@register_schedule("edm")
@final
class EDM(_UnitAlpha):
    """alpha = 1 and sigma = (u_min + t (u_max - u_min))^rho with u = sigma^(1/rho) at the ends.

    The noise levels of Karras et al. (2022, arXiv 2206.00364, eq. 5), with t in [0, 1] in the
    direction of growing noise. snr falls from sigma_min^-2 at t = 0 to sigma_max^-2 at t = 1;
    f = 0.

    Raises `ValueError` unless 0 < sigma_min < sigma_max and rho > 0.
    """

    sigma_min: float = _positive("sigma_min", 0.002)
    sigma_max: float = _positive("sigma_max", 80.0)
    rho: float = _positive("rho", 7.0)

    def _growth(self, xp: Any) -> Any:
        """(sigma_max / sigma_min)^(1/rho) - 1."""
        return xp.expm1(self._log_ratio(xp) / self.rho)

    def _sigma(self, t: Any, xp: Any) -> Any:
        return self.sigma_min * (1 + t * self._growth(xp)) ** self.rho

    def _g2(self, t: Any, xp: Any) -> Any:
        growth = self._growth(xp)
        return 2 * self._sigma(t, xp) ** 2 * self.rho * growth / (1 + t * growth)

    def _t_from_snr(self, snr: Any, xp: Any) -> Any:
        log_sigma = -xp.log(xp.sqrt(snr) * self.sigma_min)  # relative to sigma_min
        return xp.expm1(log_sigma / self.rho) / self._growth(xp)


@register_schedule("flow-matching")
@final
class FlowMatching(Schedule):
    """The straight path alpha = 1 - t, sigma = t.

    Lipman et al. (2023, arXiv 2210.02747) and Liu et al. (2023, arXiv 2209.03003), with t in the
    direction of growing noise. snr falls from inf at t = 0 to 0 at t = 1, where f = -inf and
    g2 = inf.
    """

    def _alpha(self, t: Any, xp: Any) -> Any:
        return 1 - t

    def _sigma(self, t: Any, xp: Any) -> Any:
        return t

    def _f(self, t: Any, xp: Any) -> Any:
        return -1 / (1 - t)

    def _g2(self, t: Any, xp: Any) -> Any:
        return 2 * t / (1 - t)

    def _t_from_snr(self, snr: Any, xp: Any) -> Any:
        return 1 / (1 + xp.sqrt(snr))


def parse_schedule(text: str, option: str = "--schedule") -> Schedule:
    """A schedule by its name, with its parameters after a colon: beta-vp, or beta-vp:0.05,20.

    Raises:
        ValueError: an unknown name, or parameters that it does not take.
    """
    name, colon, rest = text.partition(":")
    if name not in SCHEDULES:
        reject(option, repr(text), "one of " + ", ".join(SCHEDULES))
    make: Callable[..., Schedule] = SCHEDULES[name]
    if not colon:
        return make()
    fields = [field.name for field in dataclasses.fields(SCHEDULES[name])]
    try:
        values = [float(word) for word in rest.split(",")]
    except ValueError:
        values = []
    if not 0 < len(values) <= len(fields):
        with_values = f"{name}:{','.join(fields)}" if fields else f"{name}, which has no parameters"
        reject(option, repr(text), with_values)
    try:
        return make(*values)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
