"""Drift, diffusion and SNR of the schedules, from alpha and sigma alone.

alpha and sigma of a schedule are not written down a second time here: the methods of
`tokenkl.schedule` are called with symbols, and with SymPy in the place of NumPy. What the code says
about f, g^2 and the inverse of the SNR is not used, but can be compared with what is derived.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import sympy as sp

from tokenkl.schedule import Schedule
from tokenkl.symbolic._symbols import a, alpha, f, g, gamma, sigma, t


class _Namespace:
    """What `tokenkl.schedule` asks of numpy, in SymPy."""

    pi = sp.pi
    sqrt, log, sin = sp.sqrt, sp.log, sp.sin
    arctan2, arcsinh = sp.atan2, sp.asinh

    @staticmethod
    def exp(value: Any) -> Any:
        return sp.exp(value).rewrite(sp.Pow)  # exp(p log b) as a power of b

    @staticmethod
    def expm1(value: Any) -> Any:
        return _Namespace.exp(value) - 1

    @staticmethod
    def log1p(value: Any) -> Any:
        return sp.log(sp.together(1 + value))

    @staticmethod
    def ones_like(value: Any) -> Any:
        return sp.Integer(1)

    @staticmethod
    def zeros_like(value: Any) -> Any:
        return sp.Integer(0)


def coefficients(alpha_t: Any = None, sigma_t: Any = None) -> tuple[Any, Any]:
    """f and g^2 of dX = f X dt + g dW whose law given X_0 = a is N(alpha a, sigma^2).

    Solves the equations of its moments, m' = f m and V' = 2 f V + g^2, with m = alpha a and
    V = sigma^2.

    Args:
        alpha_t: expression in t; the function alpha(t) when None.
        sigma_t: likewise.

    Returns:
        f and g^2, simplified.

    Example:
        >>> from tokenkl.symbolic._symbols import t
        >>> coefficients(1 - t, t)
        (1/(t - 1), -2*t/(t - 1))
    """
    alpha_t = alpha(t) if alpha_t is None else alpha_t
    sigma_t = sigma(t) if sigma_t is None else sigma_t
    drift, g2 = sp.symbols("f g2")
    mean = sp.Eq(sp.diff(alpha_t * a, t), drift * alpha_t * a)
    variance = sp.Eq(sp.diff(sigma_t**2, t), 2 * drift * sigma_t**2 + g2)
    (solution,) = sp.solve([mean, variance], [drift, g2], dict=True)
    return sp.cancel(solution[drift]), sp.cancel(solution[g2])


def in_coefficients(expression: Any) -> Any:
    """An expression in alpha, sigma and their derivatives, by f(t) and g(t) instead of these."""
    slopes = sp.diff(alpha(t), t), sp.diff(sigma(t), t)
    derived = coefficients()
    equations = [sp.Eq(f(t), derived[0]), sp.Eq(g(t) ** 2, derived[1])]
    (solution,) = sp.solve(equations, slopes, dict=True)
    return sp.expand(sp.simplify(expression.subs(solution)))


def snr_identity(alpha_t: Any = None, sigma_t: Any = None) -> Any:
    """g^2 alpha^2 / sigma^4 + dSNR/dt with the derived g^2: zero, for every schedule.

    Example:
        >>> snr_identity()
        0
    """
    alpha_t = alpha(t) if alpha_t is None else alpha_t
    sigma_t = sigma(t) if sigma_t is None else sigma_t
    _, g2 = coefficients(alpha_t, sigma_t)
    rate = sp.diff(alpha_t**2 / sigma_t**2, t)
    return sp.simplify(g2 * alpha_t**2 / sigma_t**4 + rate)


@dataclasses.dataclass(frozen=True)
class SymbolicSchedule:
    """A schedule of `tokenkl.schedule` in symbols.

    `alpha` and `sigma` come from its code; `f`, `g2` and `snr` are derived from them. `parameters`
    holds the symbols of its fields, in their order.
    """

    name: str
    parameters: tuple[Any, ...]
    alpha: Any
    sigma: Any
    f: Any
    g2: Any
    snr: Any
    code: Any = dataclasses.field(repr=False)

    @property
    def identity(self) -> Any:
        """g^2 alpha^2 / sigma^4 + dSNR/dt, which is zero."""
        return _reduce(self.g2 * self.alpha**2 / self.sigma**4 + sp.diff(self.snr, t))

    @property
    def code_differences(self) -> tuple[Any, Any]:
        """What the code says of f and of g^2, less what is derived: zero and zero."""
        drift, g2 = (_tidy(one(t, _Namespace)) for one in (self.code.f_at, self.code.g2_at))
        difference = sp.expand_log(g2, force=True) - sp.expand_log(self.g2, force=True)
        return _reduce(drift - self.f), _reduce(difference)

    @property
    def inverse(self) -> Any:
        """The time at which the SNR is gamma, as the code has it."""
        return sp.radsimp(_tidy(self.code.t_at(gamma, _Namespace)))

    @property
    def inverse_residual(self) -> Any:
        """snr(inverse) - gamma, or the difference of their logarithms; both are zero."""
        snr = self.snr.subs(t, self.inverse)
        if self.f == 0:  # powers, which logarithms open
            return _reduce(sp.expand_log(sp.log(snr), force=True) - sp.log(gamma))
        snr = snr.replace(sp.exp, lambda at: sp.exp(sp.factor(sp.expand(at))))
        return _reduce(snr.replace(sp.asinh, lambda at: sp.asinh(at).rewrite(sp.log)) - gamma)


def derive_schedule(kind: type[Schedule]) -> SymbolicSchedule:
    """f, g^2 and the SNR of a schedule, with symbols for its parameters.

    Args:
        kind: a class of `tokenkl.schedule`, such as `BetaVP`.

    Example:
        >>> import tokenkl as tk
        >>> derive_schedule(tk.LinearVP).g2
        -2/(t - 1)
    """
    example = kind()
    fields = dataclasses.fields(example)
    values, structure = jax.tree.flatten(example)
    if len(values) != len(fields):
        raise TypeError(f"{kind.__name__} has fields that are no numbers.")
    free = [field for field in fields if "plain" not in field.metadata]  # options change nothing
    symbols = tuple(_symbol(field.name) for field in free)
    known = dict(zip([field.name for field in free], symbols, strict=True))
    leaves = [known.get(field.name, one) for field, one in zip(fields, values, strict=True)]
    code = jax.tree.unflatten(structure, leaves)
    alpha_t, sigma_t = (_tidy(one(t, _Namespace)) for one in (code.alpha_at, code.sigma_at))
    drift, g2 = coefficients(alpha_t, sigma_t)
    drift = sp.factor(drift)
    if drift == 0:
        g2 = sp.factor_terms(sp.diff(sigma_t**2, t))
    else:  # -2 f is what preserves the variance; the rest is short
        g2 = -2 * drift * sp.trigsimp(sp.powsimp(sp.expand(sp.cancel(g2 / (-2 * drift)))))
    snr = alpha_t**2 / sigma_t**2
    return SymbolicSchedule(kind.__name__, symbols, alpha_t, sigma_t, drift, g2, snr, code)


def _symbol(name: str) -> Any:
    """beta_0 and sigma_max as one would print them."""
    stem, _, index = name.partition("_")
    shown = rf"\{index}" if index in ("min", "max") else index
    return sp.Symbol(rf"\{stem}_{{{shown}}}" if index else rf"\{stem}", positive=True)


def _reduce(expression: Any) -> Any:
    """Zero where SymPy can see it."""
    factored = sp.factor(expression)
    return factored if factored == 0 else sp.simplify(factored)


def _tidy(expression: Any) -> Any:
    """Floats of the code as fractions, and angles expanded so that sines become cosines."""
    exact = sp.nsimplify(expression, rational=True)
    return exact.replace(sp.sin, lambda angle: sp.sin(sp.expand(angle)))
