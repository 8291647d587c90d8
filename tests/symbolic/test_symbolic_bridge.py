"""Bridges: the derived drift, KL and log-ratio law against the simulation code and quadrature."""

from __future__ import annotations

import dataclasses
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp

import tokenkl as tk
from tokenkl.divergence.bridge import simulate_log_ratios
from tokenkl.symbolic import (
    coefficients,
    derive_schedule,
    doob_drift,
    doob_residual,
    forward_residual,
    gaussian_kl,
    log_ratio_cumulants,
    path_kl,
    path_kl_rate,
)
from tokenkl.symbolic._symbols import a, a1, a2, alpha, f, g, sigma, t, t_max, t_min, x
from tokenkl.symbolic.page import SCHEDULES


def test_fokker_planck_and_doob() -> None:
    assert forward_residual() == 0
    assert doob_residual() == 0


def test_doob_drift_of_a_mixture() -> None:
    """Conditioning a two-token reverse process on its token, by numbers only."""
    schedule, point, at = tk.SubVP(), 0.7, 0.35
    tokens, prior = np.array([0.7, -1.1]), np.array([0.3, 0.7])
    al, si = schedule.alpha(at), schedule.sigma(at)
    drift, g2 = schedule.f(at), schedule.g2(at)

    def density(state: Any) -> Any:
        return mpmath.fsum(
            p * mpmath.npdf(state, al * e, si) for p, e in zip(prior, tokens, strict=True)
        )

    def chance(state: Any) -> Any:  # P(token = point | x)
        return prior[0] * mpmath.npdf(state, al * point, si) / density(state)

    for state in (-1.3, 0.2, 0.9):
        score = mpmath.diff(lambda z: mpmath.log(density(z)), state)
        tilt = mpmath.diff(lambda z: mpmath.log(chance(z)), state)
        expected = drift * state - g2 * score - g2 * tilt
        found = doob_drift().subs({f(t): drift, g(t): mpmath.sqrt(g2), alpha(t): al, sigma(t): si})
        assert float(found.subs({x: state, a: point})) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("kind", SCHEDULES, ids=lambda kind: kind.__name__)
def test_path_kl_of_every_schedule(kind: type[tk.Schedule]) -> None:
    one, schedule = derive_schedule(kind), kind()
    free = [field for field in dataclasses.fields(schedule) if "plain" not in field.metadata]
    values = [getattr(schedule, field.name) for field in free]
    at = {t_min: 0.13, t_max: 0.91, a1: -0.4, a2: 1.3}
    formula = path_kl(one).subs(dict(zip(one.parameters, map(sp.Rational, values), strict=True)))
    expected = tk.path_kl([-0.4], [1.3], schedule, 0.13, 0.91)
    exactly = {symbol: sp.Rational(number) for symbol, number in at.items()}
    error = abs(formula.subs(exactly).evalf(50) - sp.Rational(float(expected)))
    assert error <= expected.numerical_error <= 1e-13 * float(expected)
    # The rate, with the code's own f and g^2, integrated by quadrature.
    rate = sp.lambdify((alpha(t), sigma(t), g(t)), path_kl_rate()[1].subs(at))

    def at_time(time: Any) -> float:
        time = float(time)
        return rate(schedule.alpha(time), schedule.sigma(time), np.sqrt(schedule.g2(time)))

    pieces = schedule.t_from_snr(np.geomspace(schedule.snr(0.91), schedule.snr(0.13), 9))
    with mpmath.workdps(15):
        integral = mpmath.quad(at_time, [float(p) for p in pieces[::-1]], maxdegree=4)
    assert float(integral) == pytest.approx(float(expected), rel=1e-6)


def test_true_marginals_add_the_kl_at_the_start() -> None:
    total = path_kl(common_start=False)
    expected = (a1 - a2) ** 2 * alpha(t_min) ** 2 / sigma(t_min) ** 2 / 2
    assert sp.simplify(total - expected) == 0
    at = tk.path_kl([0.2], [-1.0], tk.CosineVP(), 0.3, 0.8, common_start=False)
    numbers = {a1: 0.2, a2: -1.0, alpha(t_min): tk.CosineVP().alpha(0.3)}
    numbers[sigma(t_min)] = tk.CosineVP().sigma(0.3)
    assert float(total.subs(numbers)) == pytest.approx(float(at), rel=1e-13)


def test_rate_is_the_fall_of_the_snr() -> None:
    rate = path_kl_rate()[1].subs(g(t) ** 2, coefficients()[1])
    snr = alpha(t) ** 2 / sigma(t) ** 2
    assert sp.simplify(rate + (a1 - a2) ** 2 * sp.diff(snr, t) / 2) == 0


def test_gaussian_kl() -> None:
    m1, m2 = sp.symbols("m_1 m_2", real=True)
    v = sp.Symbol("v", positive=True)
    found = gaussian_kl(m1, m2, v).subs({m1: 0.3, m2: -1.1, v: 0.6})
    p = lambda z: mpmath.npdf(z, 0.3, mpmath.sqrt(0.6))  # noqa: E731
    q = lambda z: mpmath.npdf(z, -1.1, mpmath.sqrt(0.6))  # noqa: E731
    exact = mpmath.quad(lambda z: p(z) * mpmath.log(p(z) / q(z)), [-9, 0, 9])
    assert float(found) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.slow
def test_log_ratio_law() -> None:
    total, mean, variance = log_ratio_cumulants()
    KL, theta = mean, sp.Symbol("theta", real=True)
    assert KL.is_Symbol
    assert variance == 2 * KL
    normal = sp.log(sp.simplify(sp.exp(theta * mean + theta**2 * variance / 2)))
    assert sp.simplify(total - sp.expand_log(normal, force=True)) == 0
    # The simulated paths know the drifts only: mean, variance and skewness of N(KL, 2 KL).
    ratios = simulate_log_ratios(
        [0.0, 0.5], [0.3, -0.2], tk.FlowMatching(), 0.3, 0.9, key=5, n_paths=20000, n_steps=64
    )
    kl = float(tk.path_kl([0.0, 0.5], [0.3, -0.2], tk.FlowMatching(), 0.3, 0.9))
    z_mean = (ratios.mean() - kl) / np.sqrt(2 * kl / ratios.size)
    z_variance = (ratios.var() / (2 * kl) - 1) / np.sqrt(2 / ratios.size)
    cubes = ((ratios - kl) / np.sqrt(2 * kl)) ** 3
    z_skew = cubes.mean() / np.sqrt(15 / ratios.size)
    assert max(abs(z_mean), abs(z_variance), abs(z_skew)) < 4.6
