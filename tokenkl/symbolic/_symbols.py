"""The symbols that all derivations share."""

from __future__ import annotations

import functools
from typing import Any

import sympy as sp

#: Time; t = 0 is data and t = 1 noise. s is an earlier time, s < t.
t, s = sp.symbols("t s", positive=True)
t_min, t_max = sp.symbols(r"t_{\min} t_{\max}", positive=True)
#: A coordinate of the state at time t, of the state at time s, of the token; two tokens.
x, x_s, a, a1, a2 = sp.symbols("x x_s a a_1 a_2", real=True)
#: SNR, its root, and a coordinate of the observation in noise units.
gamma, h = sp.symbols("gamma h", positive=True)
y = sp.Symbol("y", real=True)
#: Dimension and number of levels.
n, L = sp.symbols("n L", positive=True)

#: Any schedule.
alpha = sp.Function("alpha", positive=True)
sigma = sp.Function("sigma", positive=True)
#: Drift and diffusion coefficient of its SDE dX = f X dt + g dW, where their values do not matter.
f = sp.Function("f", real=True)
g = sp.Function("g", positive=True)


def normal_density(at: Any, mean: Any = 0, variance: Any = 1) -> Any:
    """Density of N(mean, variance)."""
    return sp.exp(-((at - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)


def normal_cdf(at: Any) -> Any:
    """Phi, by integration of the density."""
    upper, integral = _integrated()
    return integral.subs(upper, at)


@functools.cache
def _integrated() -> tuple[Any, Any]:
    z, upper = sp.Dummy("z", real=True), sp.Dummy("upper", real=True)
    return upper, sp.integrate(normal_density(z), (z, -sp.oo, upper))
