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
`jax.jit` and `jax.vmap` pass through every method. Tensors of torch give tensors, computed in the
same float64 and without a gradient.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from tokenkl._formats import open_arrays, reading
from tokenkl._module import Module
from tokenkl._validation import (
    as_float_array,
    check_positive,
    check_snr,
    check_time,
    is_tensor,
    is_traced,
    reject,
    tensor_like,
)

#: How far beyond the end of a schedule an snr may lie and still count as the end: rounding in the
#: caller's formula, such as 1 / sigma_max**2, is of this size.
_END_SLACK = 32 * np.finfo(np.float64).eps

#: Where log(t / (1 - t)) is looked for, and halvings of that interval.
EARLIEST, LATEST, HALVINGS = -700.0, 40.0, 64
#: No logarithm of an SNR, but of 0 and infinity, is farther from 0.
BEYOND = 2e3
#: Endings of files that hold a table.
TABLES = (".csv", ".txt", ".npy", ".npz", ".safetensors")
#: Name on the command line -> class.
SCHEDULES: dict[str, type[Schedule]] = {}
Kind = TypeVar("Kind", bound="type[Schedule]")


def register_schedule(name: str) -> Callable[[Kind], Kind]:
    """Make a schedule known by this name to `parse_schedule` and the command line; a decorator."""

    def keep(kind: Kind) -> Kind:
        SCHEDULES[name] = kind
        return kind

    return keep


class Schedule(Module):
    """A path from data (t = 0) to noise (t = 1): X_t = alpha(t) a + sigma(t) eps.

    Every method takes an array of any shape and returns an array of that shape (a NumPy float64
    scalar for a scalar). Times outside [0, 1], NaN and anything but real numbers raise
    `ValueError`; traced values cannot be checked. t has no unit and spans the whole diffusion;
    f and g2 are per unit of t.

    A schedule of one's own is a subclass with `alpha_at` and `sigma_at`. The other methods that end
    in `_at` follow from the two, by differentiation and by bisection; a formula of one's own is
    faster, and keeps all digits next to both ends.

    Example:
        >>> class Quadratic(Schedule):
        ...     def alpha_at(self, t, xp):
        ...         return (1 - t) ** 2
        ...
        ...     def sigma_at(self, t, xp):
        ...         return t**2
        >>> schedule = Quadratic()
        >>> round(float(schedule.t_from_snr(schedule.snr(0.3))), 12)
        0.3
        >>> round(float(schedule.f(0.5)), 12)
        -4.0
    """

    # What a schedule says; `xp` is numpy, or jax.numpy where something is traced. Of the two that
    # it has to say, the logarithm of the ratio falls from t = 0 to t = 1.
    @abc.abstractmethod
    def alpha_at(self, t: Any, xp: Any) -> Any:
        """Factor in front of the token."""

    @abc.abstractmethod
    def sigma_at(self, t: Any, xp: Any) -> Any:
        """Standard deviation of the noise."""

    def snr_at(self, t: Any, xp: Any) -> Any:
        """(alpha / sigma)^2."""
        return (self.alpha_at(t, xp) / self.sigma_at(t, xp)) ** 2

    def log_snr_at(self, t: Any, xp: Any) -> Any:
        """Its natural logarithm."""
        return 2 * (xp.log(self.alpha_at(t, xp)) - xp.log(self.sigma_at(t, xp)))

    def f_at(self, t: Any, xp: Any) -> Any:
        """d log(alpha) / dt."""
        return _slope(lambda u, module: module.log(self.alpha_at(u, module)), t, xp)

    def g2_at(self, t: Any, xp: Any) -> Any:
        """d sigma^2 / dt - 2 f sigma^2."""
        growth = _slope(lambda u, module: self.sigma_at(u, module) ** 2, t, xp)
        return growth - 2 * self.f_at(t, xp) * self.sigma_at(t, xp) ** 2

    def t_at(self, snr: Any, xp: Any) -> Any:
        """The time of an snr: bisection of log(t / (1 - t)), and two of Newton's steps.

        They give the last digits, and carry the derivative.
        """
        target = xp.clip(xp.log(snr), -BEYOND, BEYOND)

        def halve(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
            middle = (ends[0] + ends[1]) / 2
            is_early = self.log_snr_at(1 / (1 + xp.exp(-middle)), xp) > target
            return xp.where(is_early, middle, ends[0]), xp.where(is_early, ends[1], middle)

        is_end = (snr == 0) | xp.isinf(snr)
        root = xp.sqrt(xp.where(is_end, 1.0, snr))
        ends = xp.full_like(target, EARLIEST), xp.full_like(target, LATEST)
        if xp is np:
            for _ in range(HALVINGS):
                ends = halve(_, ends)
        else:
            ends = jax.lax.stop_gradient(jax.lax.fori_loop(0, HALVINGS, halve, ends))
        t = 1 / (1 + xp.exp(-(ends[0] + ends[1]) / 2))
        for _ in range(2):  # d log(snr) / dt = -g2 / sigma^2
            now = self.alpha_at(t, xp) / (self.sigma_at(t, xp) * root)
            excess = xp.clip(2 * (now - 1), -1.0, 1.0)  # of the logarithm, where it is small
            step = excess * self.sigma_at(t, xp) ** 2 / self.g2_at(t, xp)
            t = xp.where(xp.abs(step) < 1e-3 * t, t + step, t)  # more would be no polish
        return xp.where(is_end, snr == 0, t)

    def _evaluate(self, function: Callable[[Any, Any], Any], argument: Any) -> Any:
        """Call `function(argument, xp)` with the right xp; infinities at the ends are meant."""
        if is_traced(argument, *jax.tree.leaves(self)):
            return function(argument * 1.0, jnp)
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(function(argument, np), np.float64)[()]

    def _of_time(self, function: Callable[[Any, Any], Any], t: Any) -> Any:
        if is_tensor(t):
            return tensor_like(self._of_time(function, _as_array("t", t)), t)
        return self._evaluate(function, check_time(t))

    def alpha(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Factor in front of the token."""
        return self._of_time(self.alpha_at, t)

    def sigma(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Standard deviation of the noise, in the unit of the token's coordinates."""
        return self._of_time(self.sigma_at, t)

    def snr(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Signal-to-noise ratio alpha^2 / sigma^2; inf where sigma = 0 and 0 where alpha = 0."""
        return self._of_time(self.snr_at, t)

    def log_snr(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Natural logarithm of the snr; inf where sigma = 0 and -inf where alpha = 0."""
        return self._of_time(self.log_snr_at, t)

    def f(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Drift coefficient d log(alpha)/dt of the forward SDE; -inf where alpha = 0."""
        return self._of_time(self.f_at, t)

    def g2(self, t: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """Squared diffusion coefficient d(sigma^2)/dt - 2 f sigma^2; inf where alpha = 0."""
        return self._of_time(self.g2_at, t)

    def t_from_snr(self, snr: Float[ArrayLike, "*shape"]) -> Float[Any, "*shape"]:
        """The time at which the schedule has this snr.

        snr = inf gives 0 where sigma(0) = 0, and snr = 0 gives 1 where alpha(1) = 0. An snr
        outside `snr_range` raises `ValueError`; one that misses an end by rounding only counts as
        the end. A traced snr cannot be checked: outside the range it gives the nearer end.
        """
        if is_tensor(snr):
            return tensor_like(self.t_from_snr(_as_array("snr", snr)), snr)
        low, high = self.snr_range
        if is_traced(snr, low, high):
            return self._evaluate(self._clipped_t, jnp.clip(jnp.asarray(snr), low, high))
        array = self._check_range(snr, low, high)
        t = self._evaluate(self._clipped_t, array)
        return np.where(array <= low, 1.0, np.where(array >= high, 0.0, t))[()]

    def _clipped_t(self, snr: Any, xp: Any) -> Any:
        return xp.clip(self.t_at(snr, xp), 0.0, 1.0)

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
        fields = dataclasses.fields(self)
        if fields and all("plain" in field.metadata for field in fields) and self._is_plain:
            fields = ()
        values = [format(getattr(self, field.name), "g") for field in fields]
        return type(self).__name__ + (f"({', '.join(values)})" if values else "")

    @property
    def _is_plain(self) -> bool:
        """Whether all options have the values with which they change nothing."""
        options = [field for field in dataclasses.fields(self) if "plain" in field.metadata]
        values = [getattr(self, field.name) for field in options]
        return not is_traced(*values) and values == [field.default for field in options]


def _positive(name: str, default: float, **metadata: Any) -> Any:
    """A field that holds a finite number above zero, as a Python float."""
    check = functools.partial(check_positive, name=name)
    return eqx.field(converter=check, default=default, metadata=metadata)


def _number(
    name: str, default: float, low: float = -np.inf, high: float = np.inf, **metadata: Any
) -> Any:
    """A field that holds a number in [low, high), as a Python float."""

    def check(value: Any) -> Any:
        number = as_float_array(name, value, ndim=0)
        if is_traced(number):
            return number
        if not low <= number < high:
            reject(name, value, f"in [{low:g}, {high:g})")
        return float(number)

    return eqx.field(converter=check, default=default, metadata=metadata)


def _slope(function: Callable[[Any, Any], Any], t: Any, xp: Any) -> Any:
    """d function / dt at every t, by JAX; in float64 where nothing is traced."""

    def tangent(at: Any) -> Any:
        return jax.jvp(lambda u: function(u, jnp), (at,), (jnp.ones_like(at),))[1]

    if xp is jnp:
        return tangent(t)
    with _float64():
        return np.asarray(tangent(jnp.asarray(t)))


def _float64() -> Any:
    """JAX with 64 bits, for a while."""
    return jax.enable_x64(True)


def _as_array(name: str, tensor: Any) -> np.ndarray:
    if tensor.requires_grad:
        reject(name, "a tensor that asks for a gradient", f"one without ({name}.detach())")
    array: np.ndarray = tensor.detach().cpu().double().numpy()
    return array


@register_schedule("linear-vp")
@final
class LinearVP(Schedule):
    """Variance-preserving with alpha = 1 - t and sigma^2 = t (2 - t), so alpha^2 + sigma^2 = 1.

    snr falls from inf at t = 0 to 0 at t = 1, where f = -inf and g2 = inf.
    """

    def alpha_at(self, t: Any, xp: Any) -> Any:
        return 1 - t

    def sigma_at(self, t: Any, xp: Any) -> Any:
        return xp.sqrt(t * (2 - t))

    def f_at(self, t: Any, xp: Any) -> Any:
        return -1 / (1 - t)

    def g2_at(self, t: Any, xp: Any) -> Any:
        return 2 / (1 - t)

    def t_at(self, snr: Any, xp: Any) -> Any:
        # 1 - alpha = (1 - alpha^2) / (1 + alpha), and 1 - alpha^2 = sigma^2 = 1 / (1 + snr).
        return 1 / ((1 + snr) * (1 + xp.sqrt(1 / (1 + 1 / snr))))


@register_schedule("cosine-vp")
@final
class CosineVP(Schedule):
    """Variance-preserving with alpha = cos(u) / cos(u_0), u = (t + s) / (1 + s) pi / 2.

    u_0 is u at t = 0. The cosine schedule of Nichol and Dhariwal (2021, arXiv 2102.09672), who take
    the offset s = 0.008; without one alpha = cos(pi t / 2) and sigma = sin(pi t / 2). snr falls
    from inf at t = 0 to 0 at t = 1, where f = -inf and g2 = inf.

    Raises `ValueError` unless 0 <= s < 1.
    """

    s: float = _number("s", 0.0, 0.0, 1.0, plain=True)

    def _start(self, xp: Any) -> Any:
        return xp.pi / 2 * self.s / (1 + self.s)

    def alpha_at(self, t: Any, xp: Any) -> Any:
        if self._is_plain:
            return xp.sin(xp.pi / 2 * (1 - t))  # exactly 0 at t = 1, and precise next to it
        return xp.sin(xp.pi / 2 * (1 - t) / (1 + self.s)) / xp.cos(self._start(xp))

    def sigma_at(self, t: Any, xp: Any) -> Any:
        if self._is_plain:
            return xp.sin(xp.pi / 2 * t)
        # cos(u_0)^2 - cos(u)^2 = sin(u - u_0) sin(u + u_0)
        start, gone = self._start(xp), xp.pi / 2 * t / (1 + self.s)
        return xp.sqrt(xp.sin(gone) * xp.sin(gone + 2 * start)) / xp.cos(start)

    def f_at(self, t: Any, xp: Any) -> Any:
        if self._is_plain:
            return -xp.pi / 2 * self.sigma_at(t, xp) / self.alpha_at(t, xp)
        left, u = (xp.pi / 2 * x / (1 + self.s) for x in (1 - t, t + self.s))
        return -xp.pi / 2 / (1 + self.s) * xp.sin(u) / xp.sin(left)  # the tangent of u

    def g2_at(self, t: Any, xp: Any) -> Any:
        return -2 * self.f_at(t, xp)

    def t_at(self, snr: Any, xp: Any) -> Any:
        if self._is_plain:
            return xp.arctan2(1.0, xp.sqrt(snr)) / (xp.pi / 2)
        # Sine and cosine of u - u_0 without differences; alpha^2 = snr / (1 + snr).
        sine, cosine = xp.sin(self._start(xp)), xp.cos(self._start(xp))
        cosine_u = cosine * xp.sqrt(1 / (1 + 1 / snr))
        sine_u = xp.sqrt(sine**2 + cosine**2 / (1 + snr))
        gone = cosine**2 / (1 + snr) / (sine_u * cosine + cosine_u * sine)
        return xp.arctan2(gone, cosine_u * cosine + sine_u * sine) * (1 + self.s) / (xp.pi / 2)


@register_schedule("sqrt-vp")
@final
class SqrtVP(Schedule):
    """Variance-preserving with sigma^2 = sqrt(s + (1 - s) t).

    The square-root schedule of Diffusion-LM (Li et al. 2022, arXiv 2205.14217, appendix A), whose
    alpha^2 = 1 - sqrt(t + s) falls to 0 at t = 1 - s; here that is t = 1. snr falls from
    1 / sqrt(s) - 1 at t = 0 to 0 at t = 1, where f = -inf and g2 = inf.

    Raises `ValueError` unless 0 < s < 1.
    """

    s: float = _positive("s", 1e-4)

    def __check_init__(self) -> None:
        if not is_traced(self.s) and self.s >= 1:
            reject("s", self.s, "below 1")

    def _variance(self, t: Any, xp: Any) -> Any:
        return xp.sqrt(self.s + (1 - self.s) * t)

    def alpha_at(self, t: Any, xp: Any) -> Any:
        return xp.sqrt((1 - self.s) * (1 - t) / (1 + self._variance(t, xp)))

    def sigma_at(self, t: Any, xp: Any) -> Any:
        return xp.sqrt(self._variance(t, xp))

    def f_at(self, t: Any, xp: Any) -> Any:
        variance = self._variance(t, xp)
        return -(1 + variance) / (4 * variance * (1 - t))

    def g2_at(self, t: Any, xp: Any) -> Any:
        return -2 * self.f_at(t, xp)

    def t_at(self, snr: Any, xp: Any) -> Any:
        return (1 / (1 + snr) ** 2 - self.s) / (1 - self.s)


@register_schedule("log-linear")
@final
class LogLinear(Schedule):
    """Variance-preserving with a logarithm of the SNR that is linear in t.

    The fixed schedule of Kingma et al. (2021, arXiv 2107.00630), with the defaults of its learned
    end points before training: log(snr) falls from `log_snr_max` at t = 0 to `log_snr_min` at 1.

    Raises `ValueError` unless log_snr_min < log_snr_max.
    """

    log_snr_max: float = _number("log_snr_max", 13.3)
    log_snr_min: float = _number("log_snr_min", -5.0)

    def __check_init__(self) -> None:
        ends = self.log_snr_min, self.log_snr_max
        if not is_traced(*ends) and ends[0] >= ends[1]:
            reject("log_snr_min", ends[0], f"below log_snr_max = {ends[1]}")

    def log_snr_at(self, t: Any, xp: Any) -> Any:
        return self.log_snr_max * (1 - t) + self.log_snr_min * t

    def snr_at(self, t: Any, xp: Any) -> Any:
        return xp.exp(self.log_snr_at(t, xp))

    def alpha_at(self, t: Any, xp: Any) -> Any:
        return 1 / xp.sqrt(1 + xp.exp(-self.log_snr_at(t, xp)))

    def sigma_at(self, t: Any, xp: Any) -> Any:
        return 1 / xp.sqrt(1 + xp.exp(self.log_snr_at(t, xp)))

    def f_at(self, t: Any, xp: Any) -> Any:
        return -self.g2_at(t, xp) / 2

    def g2_at(self, t: Any, xp: Any) -> Any:
        return (self.log_snr_max - self.log_snr_min) * self.sigma_at(t, xp) ** 2

    def t_at(self, snr: Any, xp: Any) -> Any:
        return (self.log_snr_max - xp.log(snr)) / (self.log_snr_max - self.log_snr_min)


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

    def alpha_at(self, t: Any, xp: Any) -> Any:
        return xp.exp(-self._B(t) / 2)

    def f_at(self, t: Any, xp: Any) -> Any:
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

    def sigma_at(self, t: Any, xp: Any) -> Any:
        return xp.sqrt(-xp.expm1(-self._B(t)))

    def g2_at(self, t: Any, xp: Any) -> Any:
        return self._beta(t)

    def t_at(self, snr: Any, xp: Any) -> Any:
        return self._t_from_B(xp.log1p(1 / snr), xp)


@register_schedule("sub-vp")
@final
class SubVP(_LinearBeta):
    """Sub-variance-preserving: alpha = exp(-B/2) and sigma = 1 - exp(-B), with B as in `BetaVP`.

    g2 = beta (1 - exp(-2B)), which vanishes at t = 0 (Song et al. 2021, arXiv 2011.13456, section
    3.4). snr falls from inf at t = 0 to 1 / (2 sinh(B(1)/2))^2 at t = 1.

    Raises `ValueError` unless 0 < beta_0 <= beta_1.
    """

    def sigma_at(self, t: Any, xp: Any) -> Any:
        return -xp.expm1(-self._B(t))

    def g2_at(self, t: Any, xp: Any) -> Any:
        return -self._beta(t) * xp.expm1(-2 * self._B(t))

    def t_at(self, snr: Any, xp: Any) -> Any:
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

    def alpha_at(self, t: Any, xp: Any) -> Any:
        return xp.ones_like(t)

    def f_at(self, t: Any, xp: Any) -> Any:
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

    def sigma_at(self, t: Any, xp: Any) -> Any:
        return self.sigma_min ** (1 - t) * self.sigma_max**t  # exact at both ends

    def g2_at(self, t: Any, xp: Any) -> Any:
        return 2 * self.sigma_at(t, xp) ** 2 * self._log_ratio(xp)

    def t_at(self, snr: Any, xp: Any) -> Any:
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

    def sigma_at(self, t: Any, xp: Any) -> Any:
        # By logarithms: 1 + t growth to the power rho would have rho times its rounding.
        return self.sigma_min * xp.exp(self.rho * xp.log1p(t * self._growth(xp)))

    def g2_at(self, t: Any, xp: Any) -> Any:
        growth = self._growth(xp)
        return 2 * self.sigma_at(t, xp) ** 2 * self.rho * growth / (1 + t * growth)

    def t_at(self, snr: Any, xp: Any) -> Any:
        log_sigma = -xp.log(xp.sqrt(snr) * self.sigma_min)  # relative to sigma_min
        return xp.expm1(log_sigma / self.rho) / self._growth(xp)


@register_schedule("flow-matching")
@final
class FlowMatching(Schedule):
    """The straight path alpha = 1 - u, sigma = sigma_min + (1 - sigma_min) u.

    Lipman et al. (2023, arXiv 2210.02747) and Liu et al. (2023, arXiv 2209.03003), with t in the
    direction of growing noise. u = t as it is; otherwise time is moved by sway,
    v = t + sway (t - sin(pi t / 2)) (Chen et al. 2024, arXiv 2410.06885, whose coefficient it is:
    -1 spends more steps at low SNR), and shifted, u = shift v / (1 + (shift - 1) v) (Esser et al.
    2024, arXiv 2403.03206). snr falls from 1 / sigma_min^2 at t = 0 to 0 at t = 1, where f = -inf
    and g2 = inf.

    Raises `ValueError` unless shift > 0, 0 <= sigma_min < 1 and -1 <= sway < 2 / (pi - 2).
    """

    shift: float = _positive("shift", 1.0, plain=True)
    sigma_min: float = _number("sigma_min", 0.0, 0.0, 1.0, plain=True)
    sway: float = _number("sway", 0.0, -1.0, 2 / (np.pi - 2), plain=True)

    def _moved(self, t: Any, xp: Any) -> tuple[Any, Any, Any]:
        """u, 1 - u and du/dt."""
        if self._is_plain:
            return t, 1 - t, xp.ones_like(t)
        left, sway = 1 - t, self.sway
        swayed = (1 + sway) * t - sway * xp.sin(xp.pi / 2 * t)
        rest = (1 + sway) * left - 2 * sway * xp.sin(xp.pi / 4 * left) ** 2
        rate = 1 + sway - sway * xp.pi / 2 * xp.sin(xp.pi / 2 * left)
        scale = 1 + (self.shift - 1) * swayed
        return self.shift * swayed / scale, rest / scale, self.shift * rate / scale**2

    def alpha_at(self, t: Any, xp: Any) -> Any:
        return self._moved(t, xp)[1]

    def sigma_at(self, t: Any, xp: Any) -> Any:
        return self.sigma_min + (1 - self.sigma_min) * self._moved(t, xp)[0]

    def f_at(self, t: Any, xp: Any) -> Any:
        if self._is_plain:
            return -1 / (1 - t)
        _, left, rate = self._moved(t, xp)
        return xp.where(t == 1, -xp.inf, -rate / xp.where(t == 1, 1.0, left))

    def g2_at(self, t: Any, xp: Any) -> Any:
        return -2 * self.sigma_at(t, xp) * self.f_at(t, xp)

    def t_at(self, snr: Any, xp: Any) -> Any:
        if self._is_plain:
            return 1 / (1 + xp.sqrt(snr))
        if is_traced(self.sway) or self.sway:
            return super().t_at(snr, xp)
        root, low = xp.sqrt(snr), self.sigma_min
        token = 1 / (1 + 1 / root)  # alpha / (alpha + sigma)
        u = (1 / (1 + root) - low * token) / (1 - low * token)
        return u / (self.shift - (self.shift - 1) * u)


@final
class TableSchedule(Schedule):
    """A schedule by its values: times from 0 to 1, and the SNR at each, falling.

    Variance-preserving. Between the times the angle whose cotangent is sqrt(snr) is a monotone
    cubic (Fritsch and Carlson 1980), so that an SNR of infinity at t = 0, or of 0 at t = 1 (zero
    terminal SNR), is met. A table of alpha-bar = alpha^2 has snr = alpha_bar / (1 - alpha_bar);
    `from_alpha_bar` takes it.

    Args:
        t: times, rising from 0 to 1; at least two.
        snr: the SNR at each.

    Raises:
        ValueError: anything else.

    Example:
        >>> import numpy as np
        >>> beta = np.linspace(1e-4, 0.02, 1000)  # DDPM
        >>> schedule = TableSchedule.from_alpha_bar(np.cumprod(1 - beta))
        >>> schedule.name
        'TableSchedule(1000 values)'
        >>> round(float(schedule.snr(1.0)) * 1e5, 4)
        4.036
    """

    t: Float[np.ndarray, " values"]
    ratio: Float[np.ndarray, " values"]
    #: Angles from pure signal and from pure noise, and their slopes at the times.
    from_signal: Float[np.ndarray, "2 values"]
    from_noise: Float[np.ndarray, "2 values"]

    def __init__(self, t: Float[ArrayLike, " values"], snr: Float[ArrayLike, " values"]) -> None:
        from scipy.interpolate import PchipInterpolator

        self.t = as_float_array("t", t, ndim=1)
        given = np.asarray(snr)
        infinite = np.isposinf(given) if given.dtype.kind == "f" else np.zeros(given.shape, bool)
        finite = np.where(infinite, 0.0, given) if infinite.any() else snr
        ratio = as_float_array("snr", finite, ndim=1)
        self.ratio = np.where(infinite, np.inf, ratio)
        if self.t.size < 2 or self.t[0] != 0 or self.t[-1] != 1 or (np.diff(self.t) <= 0).any():
            reject("t", f"{self.t.size} times", "at least two, rising from 0 to 1")
        if self.ratio.shape != self.t.shape or (ratio < 0).any() or infinite[1:].any():
            reject("snr", f"an array of shape {given.shape}", "one SNR, at least 0, for each time")
        if (self.ratio[1:] >= self.ratio[:-1]).any():
            at = int(np.argmax(self.ratio[1:] >= self.ratio[:-1]))
            shown = f"{self.ratio[at]:g} and then {self.ratio[at + 1]:g}"
            reject("snr", shown, "falling from each time to the next")
        root = np.sqrt(self.ratio)
        for name, angle in (
            ("from_signal", np.arctan2(1.0, root)),
            ("from_noise", np.arctan(root)),
        ):
            slopes = PchipInterpolator(self.t, angle).derivative()(self.t)
            setattr(self, name, np.stack([angle, slopes]))

    @staticmethod
    def from_alpha_bar(alpha_bar: Float[ArrayLike, " values"]) -> TableSchedule:
        """From alpha^2 at evenly spaced times, the first at t = 0 and the last at t = 1.

        Raises:
            ValueError: fewer than two numbers, any outside [0, 1], or one that does not fall.
        """
        table = as_float_array("alpha_bar", alpha_bar, ndim=1)
        if table.size < 2 or (table < 0).any() or (table > 1).any():
            reject("alpha_bar", f"{table.size} numbers", "at least two, each in [0, 1]")
        with np.errstate(divide="ignore"):
            return TableSchedule(np.linspace(0, 1, table.size), table / (1 - table))

    def __hash__(self) -> int:
        return hash((self.t.tobytes(), self.ratio.tobytes()))

    @property
    def name(self) -> str:
        return f"TableSchedule({self.t.size} values)"

    def _angle(self, table: Any, t: Any, xp: Any, slope: bool = False) -> Any:
        """The cubic through values and slopes, or its derivative."""
        times = xp.asarray(self.t)
        at = xp.clip(xp.searchsorted(times, t, side="right") - 1, 0, self.t.size - 2)
        (low, low_slope), (high, high_slope) = (xp.asarray(table)[:, at + i] for i in (0, 1))
        width = times[at + 1] - times[at]
        u = (t - times[at]) / width
        v = (times[at + 1] - t) / width
        if slope:
            chord = (high - low) / width
            return v * (v - 2 * u) * low_slope + u * (u - 2 * v) * high_slope + 6 * u * v * chord
        ends = v * v * (1 + 2 * u) * low + u * u * (1 + 2 * v) * high
        return ends + width * u * v * (v * low_slope - u * high_slope)

    def alpha_at(self, t: Any, xp: Any) -> Any:
        return xp.sin(self._angle(self.from_noise, t, xp))

    def sigma_at(self, t: Any, xp: Any) -> Any:
        return xp.sin(self._angle(self.from_signal, t, xp))

    def f_at(self, t: Any, xp: Any) -> Any:
        return -self.g2_at(t, xp) / 2

    def g2_at(self, t: Any, xp: Any) -> Any:
        alpha, sigma = self.alpha_at(t, xp), self.sigma_at(t, xp)
        # The smaller angle has the digits of both.
        near_signal = self._angle(self.from_signal, t, xp, slope=True)
        near_noise = -self._angle(self.from_noise, t, xp, slope=True)
        return 2 * xp.where(sigma < alpha, near_signal, near_noise) * sigma / alpha


def load_schedule(path: str | Path) -> TableSchedule:
    """A schedule from a table in a file.

    - .npz or .safetensors with arrays `t` and `snr`, or with one called `alpha_bar`,
      `alphas_cumprod` or `alphas_bar`;
    - .npy or text (.csv, .txt): two columns, t and snr, or one of alpha-bar. Where the first line
      of a text names its columns, they are found by these names.

    Raises:
        FileError: no such file, or anything else in it.
    """
    expected = "a table of t and snr, or of alpha-bar"
    with reading(path, expected) as file:
        if file.path.suffix.lower() in (".csv", ".txt"):
            names, table = _columns(file.text())
            if names is None:
                return _from_columns(table)
            columns = dict(zip(names, table.T, strict=True))
            return _from_names(columns, columns.__getitem__)
        with open_arrays(file) as arrays:
            if set(arrays.shapes) == {"array"}:
                return _from_columns(arrays.read("array"))
            return _from_names(arrays.shapes, arrays.read)


def _columns(text: str) -> tuple[list[str] | None, np.ndarray]:
    """The numbers of a text, a row a line, and the names that its first line may have."""
    lines = [line.replace(",", " ").replace(";", " ").split() for line in text.splitlines()]
    rows = [words for words in lines if words and not words[0].startswith("#")]
    names = rows.pop(0) if rows and not any(map(_is_number, rows[0])) else None
    if not rows:
        raise ValueError("no numbers")
    width = len(names or rows[0])
    for row in rows:
        if len(row) != width:
            reject("every line", f"{len(row)} of them", f"{width} numbers, as the first")
    return names, np.array([[float(word) for word in row] for row in rows])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _from_names(known: Collection[str], read: Callable[[str], np.ndarray]) -> TableSchedule:
    for name in ("alpha_bar", "alphas_cumprod", "alphas_bar"):
        if name in known:
            return TableSchedule.from_alpha_bar(read(name))
    for name in ("t", "snr"):
        if name not in known:
            reject("the table", f"{', '.join(known)}", "one of t and snr, or of alpha_bar")
    return TableSchedule(read("t"), read("snr"))


def _from_columns(table: np.ndarray) -> TableSchedule:
    if table.ndim == 2 and table.shape[1] == 2:
        return TableSchedule(*table.T)
    if table.ndim == 2 and table.shape[1] == 1:
        table = table[:, 0]
    if table.ndim != 1:
        reject("the table", f"one of shape {table.shape}", "one or two columns without names")
    return TableSchedule.from_alpha_bar(table)


def parse_schedule(text: str, option: str = "--schedule") -> Schedule:
    """A schedule by its name, with its parameters after a colon: beta-vp, or beta-vp:0.05,20.

    Anything that is not a name but the path of a file: what `load_schedule` makes of it.

    Raises:
        ValueError: an unknown name, parameters that it does not take, or a file without a table.
    """
    name, colon, rest = text.partition(":")
    if name not in SCHEDULES:
        if Path(text).suffix.lower() in TABLES:
            return _naming(option, lambda: load_schedule(text))
        known = ", ".join(SCHEDULES)
        reject(option, repr(text), f"one of {known}, or a file ({', '.join(TABLES)})")
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
    return _naming(option, lambda: make(*values))


def _naming(option: str, make: Callable[[], Schedule]) -> Schedule:
    """Make a schedule; errors say which option they are about."""
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
