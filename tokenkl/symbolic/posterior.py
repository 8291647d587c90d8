"""The law of x_s given x_t and x_0 (DDPM), and what is left of it as s approaches t."""

from __future__ import annotations

from typing import Any

import sympy as sp

from tokenkl.symbolic._symbols import a, alpha, normal_density, s, sigma, t, x, x_s
from tokenkl.symbolic.schedules import in_coefficients


def transition() -> tuple[Any, Any]:
    """Factor r and variance v of the forward step x_t = r x_s + sqrt(v) eps.

    Solves alpha_t = r alpha_s and sigma_t^2 = r^2 sigma_s^2 + v: both laws given x_0 are known.
    """
    r, v = sp.symbols("r v")
    equations = [
        sp.Eq(alpha(t), r * alpha(s)),
        sp.Eq(sigma(t) ** 2, r**2 * sigma(s) ** 2 + v),
    ]
    (solution,) = sp.solve(equations, [r, v], dict=True)
    return solution[r], sp.expand(solution[v])


def ddpm_posterior() -> tuple[Any, Any]:
    """Mean and variance of x_s given x_t = x and x_0 = a, for any alpha and sigma, s < t.

    The log of p(x_t | x_s) p(x_s | x_0) is quadratic in x_s: its derivatives give both.
    """
    r, v = sp.symbols("r v", positive=True)
    forward = sp.log(normal_density(x, r * x_s, v))
    prior = sp.log(normal_density(x_s, alpha(s) * a, sigma(s) ** 2))
    slope = sp.diff(forward + prior, x_s)
    (mean,) = sp.solve(slope, x_s)
    variance = -1 / sp.simplify(sp.diff(slope, x_s))
    values = dict(zip((r, v), transition(), strict=True))
    mean = sp.collect(sp.expand(sp.simplify(mean.subs(values))), (x, a), sp.factor)
    return mean, sp.factor(sp.simplify(variance.subs(values)))


def posterior_limit() -> tuple[Any, Any]:
    """Drift and squared diffusion of the posterior as s approaches t.

    mean = x + (s - t) drift + O((s - t)^2) and variance = (t - s) diffusion + O((s - t)^2): the
    reverse SDE pinned at a. With E[a | x_t] for a, by Tweedie's formula, its drift is f x - g^2
    times the score.
    """
    mean, variance = ddpm_posterior()
    drift, diffusion = (sp.diff(part, s).subs(s, t).doit() for part in (mean, -variance))
    return in_coefficients(drift), in_coefficients(diffusion)


def ddpm_form() -> tuple[Any, Any]:
    """The posterior in DDPM's symbols: alpha_t = sqrt(abar_t), beta = 1 - abar_t / abar_{t-1}.

    Variance preserving. (Ho, Jain and Abbeel 2020, arXiv 2006.11239, equations 6 and 7.)
    """
    beta, before = sp.symbols(r"\beta_t \bar\alpha_{t-1}", positive=True)
    now = (1 - beta) * before
    mean, variance = (
        part.subs({sigma(s): sp.sqrt(1 - before), sigma(t): sp.sqrt(1 - now)}).subs(
            {alpha(s): sp.sqrt(before), alpha(t): sp.sqrt(1 - beta) * sp.sqrt(before)}
        )
        for part in ddpm_posterior()
    )
    mean = sp.collect(sp.expand(sp.simplify(mean)), (x, a), sp.factor)
    return mean, sp.factor(sp.simplify(variance))
