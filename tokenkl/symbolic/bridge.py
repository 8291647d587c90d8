"""The reverse diffusion pinned at a token, and the KL of two of them (Statement 8).

Noise is isotropic and the drift linear, so that one coordinate says everything; squared distances
add over coordinates.
"""

from __future__ import annotations

import functools
from typing import Any

import sympy as sp

from tokenkl.symbolic._symbols import (
    a,
    a1,
    a2,
    alpha,
    f,
    g,
    normal_density,
    sigma,
    t,
    t_max,
    t_min,
    x,
)
from tokenkl.symbolic.schedules import SymbolicSchedule, coefficients

_p = sp.Function("p", positive=True)(x, t)


def forward_residual() -> Any:
    """Fokker-Planck's equation applied to N(alpha a, sigma^2), with the derived f and g^2: zero.

    dp/dt + d(f x p)/dx - (g^2/2) d^2p/dx^2.
    """
    drift, g2 = coefficients()
    density = normal_density(x, alpha(t) * a, sigma(t) ** 2)
    terms = sp.diff(density, t) + sp.diff(drift * x * density, x) - g2 / 2 * sp.diff(density, x, 2)
    return sp.simplify(terms / density)


def _pinning_function() -> Any:
    """h = p(x_t = x | x_0 = a) / p_t(x), proportional to the probability of X_0 = a given x."""
    return normal_density(x, alpha(t) * a, sigma(t) ** 2) / _p


def doob_residual() -> Any:
    """Whether h is harmonic for the reverse SDE of any data law: dh/dt + b dh/dx - (g^2/2) h'' = 0.

    b = f x - g^2 d log p/dx is the drift of the reverse SDE, per unit of t, which runs backwards; p
    is any solution of Fokker-Planck's equation. Then Doob's transform conditions on X_0 = a.
    """
    rate, g2 = coefficients()
    drift = rate * x - g2 * sp.diff(sp.log(_p), x)
    h = _pinning_function()
    terms = sp.diff(h, t) + drift * sp.diff(h, x) - g2 / 2 * sp.diff(h, x, 2)
    flow = -sp.diff(rate * x * _p, x) + g2 / 2 * sp.diff(_p, x, 2)
    return sp.simplify((terms / h).doit().subs(sp.Derivative(_p, t), flow).doit())


@functools.cache
def doob_drift() -> Any:
    """Drift of the reverse SDE of any data law, pinned at X_0 = a: b - g^2 d log h/dx.

    The data law drops out; what is left is f x + g^2 (x - alpha a) / sigma^2, the reverse SDE of a
    diffusion that starts at a. Per unit of t, which runs backwards.
    """
    drift = f(t) * x - g(t) ** 2 * sp.diff(sp.log(_p), x)
    pinned = drift - g(t) ** 2 * sp.diff(sp.expand_log(sp.log(_pinning_function())), x)
    return sp.expand(pinned.doit())


@functools.cache
def path_kl_rate() -> tuple[Any, Any]:
    """The drift difference of the bridges to a1 and a2, and the KL that it adds per unit of t.

    Girsanov: the rate is (drift difference)^2 / (2 g^2).
    """
    drift = doob_drift()
    difference = sp.factor(drift.subs(a, a1) - drift.subs(a, a2))
    return difference, sp.factor(difference**2 / (2 * g(t) ** 2))


def gaussian_kl(mean1: Any, mean2: Any, variance: Any) -> Any:
    """KL of N(mean1, variance) against N(mean2, variance), by integration."""
    z = sp.Symbol("z", real=True)
    root = sp.sqrt(variance)
    # In standard units of the first law, where SymPy knows every integral.
    ratio = sp.log(normal_density(mean1 + root * z, mean1, variance)) - sp.log(
        normal_density(mean1 + root * z, mean2, variance)
    )
    ratio = sp.expand(sp.expand_log(ratio, force=True))
    return sp.factor(sp.integrate(ratio * normal_density(z), (z, -sp.oo, sp.oo)))


def path_kl(schedule: SymbolicSchedule | None = None, *, common_start: bool = True) -> Any:
    """KL of the reverse diffusions pinned at a1 and at a2, from t_max down to t_min (Statement 8).

    The rate is integrated as -(a1 - a2)^2/2 times the derivative of an antiderivative that is
    checked by differentiation, so that it holds for every schedule.

    Args:
        schedule: a derived schedule, or None for any alpha and sigma.
        common_start: both start from one law at t_max; otherwise each from its own marginal, whose
            KL is added.

    Raises:
        ArithmeticError: the antiderivative does not differentiate to the rate.
    """
    snr = alpha(t) ** 2 / sigma(t) ** 2
    rate = path_kl_rate()[1].subs(g(t) ** 2, coefficients()[1])
    antiderivative = -((a1 - a2) ** 2) / 2 * snr
    if sp.simplify(sp.diff(antiderivative, t) - rate) != 0:
        raise ArithmeticError("the KL rate is not the derivative of the SNR.")
    total = antiderivative.subs(t, t_max) - antiderivative.subs(t, t_min)
    if not common_start:
        total += gaussian_kl(alpha(t_max) * a1, alpha(t_max) * a2, sigma(t_max) ** 2)
    if schedule is None:
        return sp.factor_terms(sp.simplify(total)) if not common_start else sp.factor_terms(total)
    for time in (t_min, t_max):
        total = total.subs(alpha(time), schedule.alpha.subs(t, time))
        total = total.subs(sigma(time), schedule.sigma.subs(t, time))
    return total


@functools.cache
def log_ratio_cumulants() -> tuple[Any, Any, Any]:
    """The law of log dP1/dP2 under P1: cumulant generating function, mean and variance, by KL.

    One step of the bridge is Gaussian with one variance v under both laws and means that differ by
    delta, whatever the state. log E exp(theta log ratio) is found by integration; with
    delta = sqrt(2 v KL) it is KL theta + KL theta^2, that of N(KL, 2 KL). Steps are independent, so
    their generating functions add, and the sum of their KLs is the integral of `path_kl_rate`.
    """
    delta, v, KL = sp.symbols(r"\delta v \mathrm{KL}", positive=True)
    theta, z = sp.symbols("theta z", real=True)
    kl = gaussian_kl(delta, 0, v)
    at = delta + sp.sqrt(v) * z
    ratio = sp.log(normal_density(at, delta, v)) - sp.log(normal_density(at, 0, v))
    ratio = sp.expand(sp.expand_log(ratio, force=True))
    moment = sp.integrate(sp.exp(theta * ratio) * normal_density(z), (z, -sp.oo, sp.oo))
    cumulants = sp.expand_log(sp.log(sp.simplify(moment)), force=True)
    (scale,) = sp.solve(sp.Eq(kl, KL), delta)
    by_kl = sp.expand(sp.simplify(cumulants.subs(delta, scale)))
    mean, variance = (sp.diff(by_kl, theta, order).subs(theta, 0) for order in (1, 2))
    return by_kl, mean, variance
