"""The DDPM posterior against conditioning by linear algebra, and its limit against the bridge."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import tokenkl as tk
from tokenkl.symbolic import ddpm_form, ddpm_posterior, doob_drift, posterior_limit, transition
from tokenkl.symbolic._symbols import a, alpha, g, s, sigma, t, x
from tokenkl.symbolic.page import SCHEDULES


@pytest.mark.parametrize("kind", SCHEDULES, ids=lambda kind: kind.__name__)
def test_posterior_by_conditioning(kind: type[tk.Schedule]) -> None:
    schedule, early, late, token, state = kind(), 0.31, 0.74, -0.6, 0.45
    numbers = {x: state, a: token}
    for symbol, at in ((s, early), (t, late)):
        numbers |= {alpha(symbol): schedule.alpha(at), sigma(symbol): schedule.sigma(at)}
    r, v = (float(part.subs(numbers)) for part in transition())
    # (x_s, x_t) given x_0 is Gaussian: condition its 2 x 2 covariance on x_t.
    below = schedule.sigma(early) ** 2
    covariance = np.array([[below, r * below], [r * below, r**2 * below + v]])
    assert covariance[1, 1] == pytest.approx(schedule.sigma(late) ** 2, rel=1e-12)
    gain = covariance[0, 1] / covariance[1, 1]
    mean = schedule.alpha(early) * token + gain * (state - schedule.alpha(late) * token)
    variance = covariance[0, 0] - gain * covariance[0, 1]
    found = [float(part.subs(numbers)) for part in ddpm_posterior()]
    assert found == pytest.approx([mean, variance], rel=1e-9)


def test_limit_is_the_bridge() -> None:
    drift, diffusion = posterior_limit()
    assert sp.simplify(drift - doob_drift()) == 0
    assert diffusion == g(t) ** 2


def test_limit_by_small_steps() -> None:
    schedule, late, token, state = tk.BetaVP(), 0.5, 0.8, -0.3
    drift, diffusion = schedule.f(late) * state, schedule.g2(late)
    al, si = schedule.alpha(late), schedule.sigma(late)
    drift -= diffusion * (al * token - state) / si**2
    mean, variance = ddpm_posterior()
    errors = []
    for step in (1e-3, 5e-4):
        numbers = {x: state, a: token}
        for symbol, at in ((s, late - step), (t, late)):
            numbers |= {alpha(symbol): schedule.alpha(at), sigma(symbol): schedule.sigma(at)}
        slope = (state - float(mean.subs(numbers))) / step
        errors.append([slope - drift, float(variance.subs(numbers)) / step - diffusion])
    # First order in the step: halving it halves the distance.
    np.testing.assert_allclose(errors[0], 2 * np.array(errors[1]), rtol=0.02)


def test_ddpm_of_the_literature() -> None:
    beta, before, state, token = 0.02, 0.37, 0.9, -1.0
    mean, variance = ddpm_form()
    symbols = {one.name: one for one in variance.free_symbols}
    numbers = {symbols[r"\beta_t"]: beta, symbols[r"\bar\alpha_{t-1}"]: before}
    now = before * (1 - beta)
    expected = (
        np.sqrt(before) * beta / (1 - now) * token
        + np.sqrt(1 - beta) * (1 - before) / (1 - now) * state
    )
    assert float(mean.subs({**numbers, x: state, a: token})) == pytest.approx(expected, rel=1e-13)
    assert float(variance.subs(numbers)) == pytest.approx(
        (1 - before) / (1 - now) * beta, rel=1e-13
    )
