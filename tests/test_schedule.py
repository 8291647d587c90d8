"""Schedules against 60-digit arithmetic, at both ends and in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import tokenkl as tk
from tokenkl.schedule import (
    EDM,
    VE,
    BetaVP,
    CosineVP,
    FlowMatching,
    LinearVP,
    LogLinear,
    Schedule,
    SqrtVP,
    SubVP,
    TableSchedule,
    load_schedule,
    parse_schedule,
)

DIGITS = 60
EPS = np.finfo(np.float64).eps

SCHEDULES = [
    LinearVP(),
    CosineVP(),
    BetaVP(),
    BetaVP(0.05, 20),
    BetaVP(2.0, 2.0),
    SubVP(),
    VE(),
    EDM(),
    EDM(0.5, 0.75, 3.0),
    EDM(rho=1e6),
    FlowMatching(),
    CosineVP(0.008),
    SqrtVP(),
    SqrtVP(0.25),
    LogLinear(),
    LogLinear(2.0, 1.5),
    FlowMatching(3.0),
    FlowMatching(0.5, 1e-3),
    FlowMatching(sway=-1.0),
    FlowMatching(2.0, 1e-4, 0.8),
]
#: Those whose inverse has a formula.
INVERTIBLE = [one for one in SCHEDULES if not getattr(one, "sway", 0)]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)

#: Both ends to 1e-12 and closer, and a spread in between.
TIMES = np.array(
    [1e-200, 1e-30, 1e-12, 1e-5, 0.01, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99, 1 - 1e-5, 1 - 1e-12, 1 - EPS]
)


def _B(s: Any, t: Any) -> Any:
    return mp.mpf(s.beta_0) * t + (mp.mpf(s.beta_1) - mp.mpf(s.beta_0)) * t**2 / 2


def _edm_ends(s: Any) -> tuple[Any, Any]:
    return mp.mpf(s.sigma_min) ** (1 / mp.mpf(s.rho)), mp.mpf(s.sigma_max) ** (1 / mp.mpf(s.rho))


def _edm_sigma(s: Any, t: Any) -> Any:
    low, high = _edm_ends(s)
    return (low + t * (high - low)) ** mp.mpf(s.rho)


def _t_from_B(s: Any, B: Any) -> Any:
    b0, slope = mp.mpf(s.beta_0), mp.mpf(s.beta_1) - mp.mpf(s.beta_0)
    return B / b0 if slope == 0 else (mp.sqrt(b0**2 + 2 * slope * B) - b0) / slope


def _cosine(s: Any, t: Any) -> Any:
    offset = mp.mpf(s.s)
    start, angle = (mp.pi / 2 * (x + offset) / (1 + offset) for x in (mp.mpf(0), t))
    return mp.cos(angle) / mp.cos(start)


def _t_cosine(s: Any, r: Any) -> Any:
    offset = mp.mpf(s.s)
    start = mp.pi / 2 * offset / (1 + offset)
    angle = mp.acos(mp.cos(start) * r / mp.sqrt(1 + r**2))
    return angle * 2 / mp.pi * (1 + offset) - offset


def _log_linear(s: Any, t: Any) -> Any:
    return mp.exp(mp.mpf(s.log_snr_max) * (1 - t) + mp.mpf(s.log_snr_min) * t)


def _moved(s: Any, t: Any) -> Any:
    v = t + mp.mpf(s.sway) * (t - mp.sin(mp.pi * t / 2))
    return mp.mpf(s.shift) * v / (1 + (mp.mpf(s.shift) - 1) * v)


def _t_flow(s: Any, u: Any) -> Any:
    return u / (mp.mpf(s.shift) - (mp.mpf(s.shift) - 1) * u)


#: class -> (alpha, sigma, t from r = sqrt(snr)), written as in the definition of each schedule.
REFERENCE = {
    LinearVP: (
        lambda s, t: 1 - t,
        lambda s, t: mp.sqrt(t * (2 - t)),
        lambda s, r: 1 - r / mp.sqrt(1 + r**2),
    ),
    CosineVP: (_cosine, lambda s, t: mp.sqrt(1 - _cosine(s, t) ** 2), _t_cosine),
    SqrtVP: (
        lambda s, t: mp.sqrt(1 - mp.sqrt(mp.mpf(s.s) + (1 - mp.mpf(s.s)) * t)),
        lambda s, t: (mp.mpf(s.s) + (1 - mp.mpf(s.s)) * t) ** (mp.mpf(1) / 4),
        lambda s, r: ((1 + r**2) ** -2 - mp.mpf(s.s)) / (1 - mp.mpf(s.s)),
    ),
    LogLinear: (
        lambda s, t: mp.sqrt(_log_linear(s, t) / (1 + _log_linear(s, t))),
        lambda s, t: mp.sqrt(1 / (1 + _log_linear(s, t))),
        lambda s, r: (s.log_snr_max - 2 * mp.log(r)) / (mp.mpf(s.log_snr_max) - s.log_snr_min),
    ),
    BetaVP: (
        lambda s, t: mp.exp(-_B(s, t) / 2),
        lambda s, t: mp.sqrt(1 - mp.exp(-_B(s, t))),
        lambda s, r: _t_from_B(s, mp.log(1 + 1 / r**2)),
    ),
    SubVP: (
        lambda s, t: mp.exp(-_B(s, t) / 2),
        lambda s, t: 1 - mp.exp(-_B(s, t)),
        lambda s, r: _t_from_B(s, -2 * mp.log((mp.sqrt(1 + 4 * r**2) - 1) / (2 * r))),
    ),
    VE: (
        lambda s, t: mp.mpf(1),
        lambda s, t: mp.mpf(s.sigma_min) * (mp.mpf(s.sigma_max) / mp.mpf(s.sigma_min)) ** t,
        lambda s, r: (
            mp.log(1 / r / mp.mpf(s.sigma_min)) / mp.log(mp.mpf(s.sigma_max) / s.sigma_min)
        ),
    ),
    EDM: (
        lambda s, t: mp.mpf(1),
        _edm_sigma,
        lambda s, r: (
            (r ** (-1 / mp.mpf(s.rho)) - _edm_ends(s)[0]) / (_edm_ends(s)[1] - _edm_ends(s)[0])
        ),
    ),
    FlowMatching: (
        lambda s, t: 1 - _moved(s, t),
        lambda s, t: mp.mpf(s.sigma_min) + (1 - mp.mpf(s.sigma_min)) * _moved(s, t),
        lambda s, r: _t_flow(s, (1 - r * s.sigma_min) / (1 + r * (1 - mp.mpf(s.sigma_min)))),
    ),
}


def reference_snr(schedule: Schedule, t: Any) -> Any:
    alpha, sigma, _ = REFERENCE[type(schedule)]
    return (alpha(schedule, t) / sigma(schedule, t)) ** 2


def reference(schedule: Schedule, quantity: str, t: Any) -> Any:
    """The quantity at t to far more digits than float64 holds."""
    alpha, sigma, _ = REFERENCE[type(schedule)]
    # 1 - exp(-B) loses as many digits as t has zeros, and so does a numerical derivative.
    with mp.workdps(DIGITS + 2 * int(-np.log10(t)) + 20):
        t = mp.mpf(float(t))
        a, s = alpha(schedule, t), sigma(schedule, t)

        def f() -> Any:
            return mp.diff(lambda u: mp.log(alpha(schedule, u)), t, h=t * mp.eps ** (1 / 3))

        def g2() -> Any:
            growth = mp.diff(lambda u: sigma(schedule, u) ** 2, t, h=t * mp.eps ** (1 / 3))
            return growth - 2 * f() * s**2

        return {
            "alpha": lambda: a,
            "sigma": lambda: s,
            "snr": lambda: (a / s) ** 2,
            "log_snr": lambda: 2 * mp.log(a / s),
            "f": f,
            "g2": g2,
        }[quantity]()


@every_schedule
@pytest.mark.parametrize("quantity", ["alpha", "sigma", "snr", "log_snr", "f", "g2"])
def test_agrees_with_high_precision_arithmetic_up_to_both_ends(
    schedule: tk.Schedule, quantity: str
) -> None:
    values = getattr(schedule, quantity)(TIMES)
    for t, value in zip(TIMES, values, strict=True):
        exact = reference(schedule, quantity, t)
        if abs(exact) > np.finfo(np.float64).max:
            assert value == np.inf
            continue
        # EDM takes a power rho = 7 of a rounded number, and snr squares it again. A log near 0
        # and a derivative (f of VE is 0) are measured against 1.
        scale = abs(exact) + (quantity in ("log_snr", "f"))
        assert abs(mp.mpf(float(value)) - exact) <= 30 * EPS * scale, (t, value, exact)


@every_schedule
def test_g2_alpha2_over_sigma4_is_minus_the_derivative_of_snr(schedule: tk.Schedule) -> None:
    for t in (1e-5, 0.03, 0.3, 0.5, 0.8, 0.999):
        product = schedule.g2(t) * schedule.alpha(t) ** 2 / schedule.sigma(t) ** 4
        with mp.workdps(DIGITS):
            slope = mp.diff(lambda u: reference_snr(schedule, u), mp.mpf(t))
        assert product == pytest.approx(float(-slope), rel=1e-13)


@pytest.mark.parametrize("schedule", INVERTIBLE, ids=lambda s: s.name)
def test_t_from_snr_agrees_with_high_precision_inverse(schedule: tk.Schedule) -> None:
    low, high = schedule.snr_range
    snr = np.logspace(-30, 30, 121)
    snr = snr[(snr > low) & (snr < high)]
    snr = np.append(snr, np.sqrt(max(low, 1e-3) * min(high, 1e3)))
    times = schedule.t_from_snr(snr)
    for value, t in zip(snr, times, strict=True):
        with mp.workdps(3 * DIGITS):
            exact = REFERENCE[type(schedule)][2](schedule, mp.sqrt(mp.mpf(float(value))))
        # What rounding the snr itself to float64 does to t.
        conditioning = schedule.sigma(t) ** 2 / (schedule.g2(t) * t) if t < 1 else 0.0
        assert abs(mp.mpf(float(t)) - exact) <= 8 * EPS * (1 + conditioning) * exact


@every_schedule
def test_round_trips(schedule: tk.Schedule) -> None:
    low, high = schedule.snr_range
    snr = np.logspace(-30, 30, 301)
    snr = snr[(snr > low) & (snr < high)]
    t = schedule.t_from_snr(snr)
    inside = t < 1  # 1 - t below half an ulp cannot be told from 0
    # Rounding t to float64 moves log snr by |d log snr / dt| t eps, with d log snr / dt =
    # -g2 / sigma^2; next to t = 1 this is much more than rounding snr.
    slope = t[inside] * schedule.g2(t[inside]) / schedule.sigma(t[inside]) ** 2
    error = np.abs(schedule.snr(t[inside]) / snr[inside] - 1)
    # Where the move is not small its exponential counts: cap by a factor of 4 in snr.
    assert (error <= np.maximum(16 * EPS * (1 + slope), 4.0 * (EPS * slope > 0.1))).all()

    t = np.concatenate([TIMES[1:], np.linspace(0.001, 0.999, 200)])
    conditioning = schedule.sigma(t) ** 2 / (schedule.g2(t) * t)
    back = schedule.t_from_snr(schedule.snr(t))
    assert (np.abs(back / t - 1) <= 64 * EPS * (1 + conditioning)).all()


@every_schedule
def test_ends(schedule: tk.Schedule) -> None:
    low, high = schedule.snr_range
    assert low == schedule.snr(1.0)
    assert high == schedule.snr(0.0)
    assert schedule.t_from_snr(low) == 1
    assert schedule.t_from_snr(high) == 0
    assert np.signbit(schedule.t_from_snr(high)) == np.False_
    if schedule.sigma(0.0) == 0:
        assert high == np.inf
        assert schedule.log_snr(0) == np.inf
    if schedule.alpha(1.0) == 0:
        assert low == 0
        assert schedule.log_snr(1) == -np.inf
        assert schedule.f(1) == -np.inf
        assert schedule.g2(1) == np.inf
    else:
        assert low > 0
        assert np.isfinite([schedule.f(1), schedule.g2(1), schedule.log_snr(1)]).all()
    assert np.isfinite([schedule.f(0), schedule.g2(0)]).all()


@pytest.mark.parametrize("schedule", [LinearVP(), CosineVP(), FlowMatching()], ids=lambda s: s.name)
def test_singular_at_both_ends(schedule: tk.Schedule) -> None:
    assert schedule.snr_range == (0, np.inf)


@pytest.mark.parametrize(
    ("schedule", "alpha", "sigma"),
    [
        (LinearVP(), 0.75, np.sqrt(7) / 4),
        (CosineVP(), np.cos(np.pi / 8), np.sin(np.pi / 8)),
        (BetaVP(2, 2), np.exp(-0.25), np.sqrt(1 - np.exp(-0.5))),
        (SubVP(2, 2), np.exp(-0.25), 1 - np.exp(-0.5)),
        (VE(0.1, 1000), 1, 1),
        (EDM(1, 625, 4), 1, 16),
        (FlowMatching(), 0.75, 0.25),
    ],
    ids=lambda value: value.name if isinstance(value, Schedule) else None,
)
def test_hand_values_at_a_quarter(schedule: tk.Schedule, alpha: float, sigma: float) -> None:
    assert schedule.alpha(0.25) == pytest.approx(alpha, rel=1e-14)
    assert schedule.sigma(0.25) == pytest.approx(sigma, rel=1e-14)


def test_defaults_are_those_of_the_papers() -> None:
    assert (BetaVP().beta_0, BetaVP().beta_1) == (0.1, 20)
    assert (SubVP().beta_0, SubVP().beta_1) == (0.1, 20)
    assert (VE().sigma_min, VE().sigma_max) == (0.01, 50)
    assert (EDM().sigma_min, EDM().sigma_max, EDM().rho) == (0.002, 80, 7)


@every_schedule
def test_variance_preservation_and_monotone_snr(schedule: tk.Schedule) -> None:
    t = np.linspace(0, 1, 501)
    assert (np.diff(schedule.snr(t)) < 0).all()
    total = schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2
    assert np.allclose(total, 1, rtol=1e-14, atol=0) == isinstance(
        schedule, LinearVP | CosineVP | BetaVP | SqrtVP | LogLinear
    )


METHODS = ["alpha", "sigma", "snr", "log_snr", "f", "g2", "t_from_snr"]


@every_schedule
@pytest.mark.parametrize("method", METHODS)
def test_shapes_and_types(schedule: tk.Schedule, method: str) -> None:
    argument = 0.3 if method != "t_from_snr" else float(schedule.snr(0.3))
    function = getattr(schedule, method)
    scalar = function(argument)
    assert type(scalar) is np.float64
    for given in (
        [argument] * 3,
        np.array([argument]),
        np.full((2, 1, 2), argument),
        np.empty((0, 2)),
    ):
        result = function(given)
        assert type(result) is np.ndarray
        assert result.dtype == np.float64
        assert result.shape == np.shape(given)
        assert (result == scalar).all()
    # A JAX array is concrete too: float64 comes back whatever JAX's precision is.
    assert type(function(jnp.asarray(argument))) is np.float64


@every_schedule
def test_jit_and_vmap_agree_with_numpy(schedule: tk.Schedule) -> None:
    def everything(schedule: Schedule, t: Any, snr: Any) -> list[Any]:
        return [getattr(schedule, m)(t if m != "t_from_snr" else snr) for m in METHODS]

    t = np.array([0.2, 0.5, 0.8])
    arguments = (t, schedule.snr(t))
    expected = everything(schedule, *arguments)
    for result in (
        jax.jit(jax.vmap(partial(everything, schedule)))(*arguments),
        # The schedule may be what is traced, and the times need not be.
        jax.jit(lambda schedule: everything(schedule, *arguments))(schedule),
    ):
        assert all(isinstance(value, jax.Array) for value in result)
        np.testing.assert_allclose(np.array(result), expected, rtol=2e-5)


@every_schedule
def test_gradients(schedule: tk.Schedule) -> None:
    t = 0.4
    snr = float(schedule.snr(t))
    slope = -schedule.g2(t) * snr / schedule.sigma(t) ** 2
    functions = (schedule.snr, schedule.log_snr, schedule.t_from_snr)

    @jax.jit
    def slopes(*arguments: jax.Array) -> list[jax.Array]:
        return [jax.grad(g)(x) for g, x in zip(functions, arguments, strict=True)]

    np.testing.assert_allclose(slopes(t, t, snr), [slope, slope / snr, 1 / slope], rtol=1e-4)


def test_gradient_in_a_parameter() -> None:
    slope = jax.jit(jax.grad(lambda b: BetaVP(0.1, b).log_snr(0.5)))(20.0)
    B, dB = 0.05 + 19.9 / 8, 1 / 8
    assert float(slope) == pytest.approx(-dB / (1 - np.exp(-B)), rel=1e-5)


@every_schedule
def test_traced_ends(schedule: tk.Schedule) -> None:
    assert float(jax.jit(schedule.t_from_snr)(np.inf)) == 0
    assert float(jax.jit(schedule.snr)(0.0)) == pytest.approx(schedule.snr(0.0), rel=1e-5)
    assert float(jax.jit(schedule.t_from_snr)(0.0)) == pytest.approx(1, rel=1e-6)  # float32


def test_repr_names_and_equality() -> None:
    assert [s.name for s in (LinearVP(), BetaVP(), EDM())] == [
        "LinearVP",
        "BetaVP(0.1, 20)",
        "EDM(0.002, 80, 7)",
    ]
    assert BetaVP() == BetaVP(0.1, 20)
    assert BetaVP() != BetaVP(0.05, 20)
    assert BetaVP() != SubVP()


@every_schedule
@pytest.mark.parametrize("bad", [-1e-9, 1.0000001, np.nan, np.inf, "x", None, [0.5, 2], 1j])
def test_bad_times(schedule: tk.Schedule, bad: Any) -> None:
    for method in METHODS[:-1]:
        with pytest.raises(ValueError, match=r"^t must be .*; got .*\.$"):
            getattr(schedule, method)(bad)


@every_schedule
@pytest.mark.parametrize("bad", [-1.0, np.nan, -np.inf, "x", None, [1.0, -2.0], 1j, [[1], [1, 2]]])
def test_bad_snr(schedule: tk.Schedule, bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^snr must be .*; got .*\.$"):
        schedule.t_from_snr(bad)


@pytest.mark.parametrize(
    ("schedule", "snr"),
    [
        (BetaVP(), 0.0),
        (BetaVP(), 4.3e-5),
        (SubVP(), 1e-9),
        (VE(), 1.0001e4),
        (VE(), np.inf),
        (EDM(), [1.0, 2.51e5]),
    ],
)
def test_snr_out_of_range_names_the_range(schedule: tk.Schedule, snr: float | list[float]) -> None:
    low, high = schedule.snr_range
    with pytest.raises(ValueError) as error:
        schedule.t_from_snr(snr)
    assert f"[{low}, {high}] for {schedule.name}" in str(error.value)


def test_an_end_computed_by_hand_is_in_range() -> None:
    assert EDM().t_from_snr(1 / 80**2) == 1
    assert EDM().t_from_snr(0.002**-2) == 0
    assert EDM().t_from_snr(np.nextafter(EDM().snr(0), np.inf)) == 0
    assert VE().t_from_snr(1 / 50**2 * (1 - 4 * EPS)) == 1


@pytest.mark.parametrize("cls", [BetaVP, SubVP])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 20.0), r"beta_0 must be above 0; got 0.0\."),
        ((-1.0, 20.0), r"beta_0 must be above 0"),
        ((0.1, np.inf), r"beta_1 must be finite"),
        (("a", 20.0), r"beta_0 must be an array of real numbers"),
        (([0.1], 20.0), r"beta_0 must be an array with 0 axes"),
        ((0.2, 0.1), r"beta_1 must be at least beta_0 = 0.2; got 0.1\."),
    ],
)
def test_bad_rates(cls: type[Schedule], arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(*arguments)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VE(0.0, 1.0), r"sigma_min must be above 0"),
        (lambda: VE(1.0, 1.0), r"sigma_max must be above sigma_min = 1.0; got 1.0\."),
        (lambda: EDM(0.1, np.nan), r"sigma_max must be finite"),
        (lambda: EDM(0.1, 0.01), r"sigma_max must be above sigma_min = 0.1; got 0.01\."),
        (lambda: EDM(rho=0), r"rho must be above 0; got 0.0\."),
    ],
)
def test_bad_noise_levels(build: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_schedule_is_abstract() -> None:
    abstract: Any = Schedule
    with pytest.raises(TypeError):
        abstract()


# ---- Schedules without formulas, tables, tensors -------------------------------------------------


class OfTwo(Schedule):
    """The straight path again, with nothing but alpha and sigma."""

    def alpha_at(self, t: Any, xp: Any) -> Any:
        return 1 - t

    def sigma_at(self, t: Any, xp: Any) -> Any:
        return t


def test_alpha_and_sigma_are_enough() -> None:
    ours, exact = OfTwo(), FlowMatching()
    t = np.array([1e-200, 1e-30, 1e-5, 0.3, 0.9, 1 - 1e-6])
    for method in METHODS[:-1]:
        np.testing.assert_allclose(getattr(ours, method)(t), getattr(exact, method)(t), rtol=1e-13)
    snr = np.array([0.0, 1e-20, 1e-3, 1.0, 1e5, 1e60, np.inf])
    np.testing.assert_allclose(ours.t_from_snr(snr), exact.t_from_snr(snr), rtol=1e-14)
    assert ours.name == "OfTwo"
    assert cast(Any, jax.config).jax_enable_x64 is False  # as it was


DDPM = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
#: Rescaled to zero terminal SNR (Lin et al. 2024, arXiv 2305.08891, algorithm 1).
ROOTS = (np.sqrt(DDPM) - np.sqrt(DDPM[-1])) * np.sqrt(DDPM[0])
ZERO_TERMINAL = (ROOTS / (np.sqrt(DDPM[0]) - np.sqrt(DDPM[-1]))) ** 2


@pytest.mark.parametrize("table", [DDPM, ZERO_TERMINAL, np.r_[1.0, 0.5, 0.0]])
def test_a_table_is_met_at_its_times(table: np.ndarray) -> None:
    schedule = TableSchedule.from_alpha_bar(table)
    t = np.linspace(0, 1, table.size)
    np.testing.assert_allclose(schedule.alpha(t) ** 2, table, rtol=1e-14)
    np.testing.assert_allclose(schedule.sigma(t) ** 2, 1 - table, rtol=1e-14)
    between = (t[1:] + t[:-1]) / 2
    assert (np.diff(schedule.snr(np.sort(np.r_[t, between]))) < 0).all()
    assert schedule.snr(1.0) == (0 if table[-1] == 0 else table[-1] / (1 - table[-1]))
    # The inverse, and derivatives against those of the general method.
    inner = np.r_[1e-4, between[:: max(1, table.size // 20)]]
    conditioning = schedule.sigma(inner) ** 2 / (schedule.g2(inner) * inner)
    back = schedule.t_from_snr(schedule.snr(inner))
    assert (np.abs(back / inner - 1) <= 64 * EPS * (1 + conditioning)).all()
    assert np.isin(schedule.t_from_snr(schedule.snr_range), [0, 1]).all()
    np.testing.assert_allclose(schedule.f(inner), Schedule.f_at(schedule, inner, np), rtol=1e-9)
    np.testing.assert_allclose(schedule.g2(inner), Schedule.g2_at(schedule, inner, np), rtol=1e-9)


def test_a_table_far_down_keeps_its_slopes() -> None:
    """Where the angle from pure signal is pi / 2 in all its digits, that from noise has them."""
    schedule = TableSchedule([0, 0.25, 0.5, 0.75, 1], [1e30, 1, 1e-20, 1e-30, 1e-34])
    t, h = np.array([0.01, 0.1, 0.3, 0.6, 0.8, 0.9]), 1e-6
    slope = (schedule.log_snr(t - h) - schedule.log_snr(t + h)) / (2 * h)
    np.testing.assert_allclose(schedule.g2(t), slope * schedule.sigma(t) ** 2, rtol=1e-7)
    np.testing.assert_allclose(schedule.f(t), -schedule.g2(t) / 2, rtol=1e-15)


def test_a_dense_table_is_the_schedule_it_was_made_of() -> None:
    t = np.linspace(0, 1, 2001)
    for exact in (CosineVP(), LinearVP(), BetaVP()):
        table = TableSchedule(t, exact.snr(t))
        inner = np.linspace(0.01, 0.98, 77)
        np.testing.assert_allclose(table.snr(inner), exact.snr(inner), rtol=1e-5)
        np.testing.assert_allclose(table.g2(inner), exact.g2(inner), rtol=2e-3)
        traced = jax.jit(table.snr)(0.37)
        assert float(traced) == pytest.approx(float(exact.snr(0.37)), rel=1e-4)


@pytest.mark.parametrize(
    ("t", "snr", "message"),
    [
        ([0.0], [1.0], r"^t must be at least two, rising from 0 to 1; got 1 times\."),
        ([0.0, 0.5], [2.0, 1.0], "rising from 0 to 1"),
        ([0.0, 0.5, 0.5, 1.0], [4.0, 3.0, 2.0, 1.0], "rising from 0 to 1"),
        ([0.0, 1.0], [1.0, 2.0], r"^snr must be falling .*; got 1 and then 2\."),
        ([0.0, 1.0], [2.0, -1.0], "at least 0"),
        ([0.0, 1.0], [2.0], "one SNR"),
        ([0.0, 1.0], [np.inf, np.inf], "one SNR"),
        ([0.0, 1.0], ["a", "b"], "real numbers"),
    ],
)
def test_what_is_no_table(t: list[float], snr: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableSchedule(t, snr)


@pytest.mark.parametrize("table", [[0.5], [0.2, 0.5], [1.5, 0.5], [0.5, -0.1], [[0.5, 0.2]]])
def test_what_is_no_alpha_bar(table: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"^(alpha_bar|snr) must be "):
        TableSchedule.from_alpha_bar(table)


def test_tables_in_files(tmp_path: Path) -> None:
    t, snr = [0.0, 0.25, 1.0], [9.0, 1.0, 0.0]
    np.savez(tmp_path / "pair.npz", t=t, snr=snr)
    np.savez(tmp_path / "diffusers.npz", alphas_cumprod=DDPM, betas=DDPM)
    np.save(tmp_path / "bar.npy", DDPM)
    np.save(tmp_path / "pair.npy", np.stack([t, snr], axis=1))
    (tmp_path / "pair.csv").write_text("t,snr\n0,9\n0.25,1\n1,0\n")
    (tmp_path / "bar.txt").write_text("".join(f"{value!r}\n" for value in DDPM.tolist()))
    for name in ("pair.npz", "pair.npy", "pair.csv"):
        found = parse_schedule(str(tmp_path / name))
        np.testing.assert_allclose(found.snr(t), snr, rtol=1e-14)
    for name in ("diffusers.npz", "bar.npy", "bar.txt"):
        assert parse_schedule(str(tmp_path / name)) == TableSchedule.from_alpha_bar(DDPM)
    (tmp_path / "named.csv").write_text("step;snr;t\n1;9;0\n2;1;0.25\n3;0;1\n")
    assert load_schedule(tmp_path / "named.csv") == TableSchedule(t, snr)
    (tmp_path / "bar.csv").write_text("\ufefft,alpha_bar\n0,0.9\n1,0.1\n", encoding="utf-8")
    assert load_schedule(tmp_path / "bar.csv") == TableSchedule.from_alpha_bar([0.9, 0.1])
    (tmp_path / "three.csv").write_text("0.9,0,0\n0.5,0,0\n0.1,0,0\n")
    with pytest.raises(ValueError, match=r"one or two columns without names; got .*\(3, 3\)"):
        load_schedule(tmp_path / "three.csv")
    (tmp_path / "short.csv").write_text("t,snr\n0,9\n1\n")
    with pytest.raises(ValueError, match=r"every line must be 2 numbers, .*; got 1 of them"):
        load_schedule(tmp_path / "short.csv")
    (tmp_path / "other.csv").write_text("t,psnr\n0,9\n1,0\n")
    with pytest.raises(ValueError, match="one of t and snr, or of alpha_bar; got t, psnr"):
        load_schedule(tmp_path / "other.csv")
    (tmp_path / "words.csv").write_text("t,snr\n0,9\nx,1\n")
    (tmp_path / "empty.txt").write_text("")
    np.savez(tmp_path / "other.npz", points=t)
    np.savez(tmp_path / "rising.npz", t=t, snr=snr[::-1])
    for name in ("words.csv", "empty.txt", "other.npz", "rising.npz", "none.npy"):
        with pytest.raises(ValueError, match=rf"^--schedule: .*{name}"):
            parse_schedule(str(tmp_path / name))


def test_options_by_name() -> None:
    assert parse_schedule("cosine-vp:0.008") == CosineVP(0.008)
    assert parse_schedule("flow-matching:3").name == "FlowMatching(3, 0, 0)"
    assert (CosineVP().name, FlowMatching().name) == ("CosineVP", "FlowMatching")
    for text, message in (
        ("cosine-vp:1", r"^--schedule: s must be in \[0, 1\); got 1.0\.$"),
        ("flow-matching:1,0,2", "sway must be in"),
        ("sqrt-vp:1", "s must be below 1"),
        ("log-linear:1,2", "log_snr_min must be below log_snr_max = 1.0; got 2.0"),
        ("nothing", "or a file"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_schedule(text)


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int64"])
def test_tensors_give_tensors(kind: str) -> None:
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, kind)
    t = torch.tensor([[0, 1]]) if kind == "int64" else torch.tensor([[0.25, 0.5]], dtype=dtype)
    schedule = BetaVP()
    for method in METHODS:
        argument = schedule.snr(t) if method == "t_from_snr" else t
        found = getattr(schedule, method)(argument)
        expected = getattr(schedule, method)(argument.double().numpy())
        assert found.shape == t.shape
        assert found.dtype == (torch.float32 if kind == "int64" else dtype)
        np.testing.assert_array_equal(found, torch.tensor(expected).to(found.dtype))
    with pytest.raises(ValueError, match=r"^t must be one without \(t.detach\(\)\); got a tensor"):
        schedule.snr(torch.tensor([0.5], requires_grad=True))
    with pytest.raises(ValueError, match=r"^t must be .* \[0, 1\]"):
        schedule.snr(torch.tensor([2.0]))
