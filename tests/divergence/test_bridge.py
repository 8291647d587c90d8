"""Path KL of pinned bridges: the closed form, and a simulation that does not know it.

Every statistical test may fail by chance with probability 2e-5 at most; keys are fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import tokenkl as tk
from tokenkl.divergence import bridge, path_kl, simulate_path_kl
from tokenkl.divergence.bridge import simulate_log_ratios
from tokenkl.schedule import EDM, VE, BetaVP, CosineVP, FlowMatching, LinearVP, SubVP

BUDGET = 2e-5
Z = special.ndtri(1 - BUDGET / 2)

SCHEDULES = [LinearVP(), CosineVP(), BetaVP(), SubVP(), VE(), EDM(), FlowMatching()]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)

A1 = np.array([1.0, 0.0, -0.5])
A2 = np.array([0.4, 0.8, -0.1])
SQUARED = 0.36 + 0.64 + 0.16
SNR_MIN = 6.0  # where the simulations stop: KL of about 3.5


def within(estimate: tk.Estimate, value: SupportsFloat) -> bool:
    half = Z * estimate.standard_error + estimate.numerical_error
    return bool(abs(estimate.value - float(value)) <= half)


# ---------------------------------------------------------------- closed form


def test_hand_values() -> None:
    # snr(1/2) = 1/3 and snr(3/4) = 1/15 for LinearVP; 1 and 1/9 for FlowMatching.
    assert path_kl([1.0], [-1.0], LinearVP(), 0.5) == pytest.approx(2 / 3, rel=1e-15)
    assert path_kl([1.0], [-1.0], LinearVP(), 0.5, 0.75) == pytest.approx(8 / 15, rel=1e-15)
    assert path_kl([3, 0], [0, 4], FlowMatching(), 0.5) == pytest.approx(12.5, rel=1e-15)
    assert path_kl([3, 0], [0, 4], FlowMatching(), 0.5, 0.75) == pytest.approx(100 / 9, rel=1e-15)
    assert path_kl([0.0], [1.0], VE(0.1, 10), 0.5) == pytest.approx(0.5 * (1 - 0.01), rel=1e-14)
    value = path_kl([0.0], [1.0], VE(0.1, 10), 0.5, common_start=False)
    assert value == pytest.approx(0.5, rel=1e-14)
    assert type(value.value) is np.float64
    assert (value.quantity, value.unit, str(value.method)) == ("path KL", "nats", "closed form")


@every_schedule
def test_common_start_takes_off_the_kl_of_the_marginals_at_t_max(schedule: tk.Schedule) -> None:
    # KL of N(alpha a1, s^2) and N(alpha a2, s^2) is alpha^2 |a1 - a2|^2 / (2 s^2).
    own = path_kl(A1, A2, schedule, 0.3, 0.7, common_start=False)
    initial = SQUARED * schedule.alpha(0.7) ** 2 / (2 * schedule.sigma(0.7) ** 2)
    common = path_kl(A1, A2, schedule, 0.3, 0.7)
    assert float(own - initial) == pytest.approx(float(common), rel=1e-13)


@every_schedule
def test_additive_over_time_symmetric_and_translation_invariant(schedule: tk.Schedule) -> None:
    whole = path_kl(A1, A2, schedule, 0.2, 0.9)
    parts = path_kl(A1, A2, schedule, 0.2, 0.6) + path_kl(A1, A2, schedule, 0.6, 0.9)
    assert float(parts) == pytest.approx(float(whole), rel=1e-14)
    low, high, _ = (parts - whole).confidence_interval()
    assert low <= 0 <= high
    assert path_kl(A2, A1, schedule, 0.2, 0.9).value == whole.value
    moved = path_kl(A1 + 1, A2 + 1, schedule, 0.2, 0.9)
    assert float(moved) == pytest.approx(float(whole), rel=1e-14)
    nothing = path_kl(A1, A2, schedule, 0.6, 0.6)
    assert (nothing.value, nothing.numerical_error) == (0, 0)


@every_schedule
def test_at_time_zero_the_measures_are_singular_unless_noise_is_left(schedule: tk.Schedule) -> None:
    value = path_kl(A1, A2, schedule, 0.0)
    assert np.isinf(value) == (schedule.sigma(0) == 0)
    assert value.numerical_error <= 1e-13 * value.value
    for common_start in (True, False):
        assert path_kl(A1, A1, schedule, 0.0, common_start=common_start).value == 0
    assert path_kl(A1, A2, schedule, 0.0, 0.0).value == 0
    distinct = path_kl(A1, A2, schedule, 0.0, 0.0, common_start=False)
    assert np.isinf(distinct) == (schedule.sigma(0) == 0)


def test_a_signal_to_noise_ratio_that_overflows_is_not_nan() -> None:
    for t_min in (0.0, 1e-200):
        found = path_kl([0.0], [1.0], FlowMatching(), t_min, 1e-100)
        assert found.value == np.inf
        assert found.numerical_error == (np.inf if t_min else 0)  # the truth is 5e399


@pytest.mark.parametrize(
    ("size", "schedule", "t"),
    [
        (1e-300, LinearVP(), 1e-300),  # an snr of 5e299
        (1e-170, LinearVP(), 1e-300),
        (1e170, VE(1.0, 1e150), 1.0),  # an snr of 1e-300
    ],
)
def test_squares_of_differences_neither_underflow_nor_overflow(
    size: float, schedule: tk.Schedule, t: float
) -> None:
    points = np.array([size, -size / 2]), np.zeros(2)
    found = path_kl(*points, schedule, t, common_start=False)
    expected = np.exp(np.log(1.25 / 2) + 2 * np.log(size) + np.log(schedule.snr(t)))
    assert found.value == pytest.approx(expected, rel=1e-12, abs=0.0)
    assert path_kl(*points, LinearVP(), 0.0).value == np.inf


def test_broadcasting() -> None:
    rng = np.random.default_rng(0)
    a1, a2 = rng.normal(size=(5, 1, 3)), rng.normal(size=(4, 3))
    times = np.array([0.1, 0.5, 0.5, 0.9])
    values = path_kl(a1, a2, LinearVP(), times, 0.95)
    assert values.value.shape == values.numerical_error.shape == (5, 4)
    for i in range(5):
        for j in range(4):
            single = path_kl(a1[i, 0], a2[j], LinearVP(), times[j], 0.95)
            assert float(values[i, j]) == pytest.approx(float(single), rel=1e-14)
    table = path_kl(a1, a2[0], LinearVP(), times)  # pairs x times, as the docstring says
    assert table.value.shape == (5, 4)
    grid = path_kl(A1, A2, LinearVP(), np.full((2, 1), 0.1), np.full(3, 0.5))
    assert grid.value.shape == (2, 3)
    assert path_kl(A1, A1, LinearVP(), np.zeros((2, 2))).value.tolist() == [[0, 0], [0, 0]]


def test_gradients() -> None:
    schedule, weight = LinearVP(), 1 / 3 - 1 / 15
    slope = jax.jit(jax.grad(lambda a: path_kl(a, A2, schedule, 0.5, 0.75).value))(jnp.asarray(A1))
    np.testing.assert_allclose(slope, weight * (A1 - A2), rtol=1e-5)
    curvature = jax.hessian(lambda a: path_kl(a, A1, schedule, 0.5, 0.75).value)(jnp.asarray(A1))
    np.testing.assert_allclose(curvature, weight * np.eye(3), rtol=1e-5, atol=1e-7)
    in_time = jax.jit(jax.grad(lambda t: path_kl(A1, A2, schedule, t, 0.75).value))(0.5)
    rate = schedule.g2(0.5) * schedule.alpha(0.5) ** 2 / schedule.sigma(0.5) ** 4
    assert float(in_time) == pytest.approx(-SQUARED / 2 * rate, rel=1e-5)
    own = jax.jit(lambda t: path_kl(A1, A2, schedule, 0.5, t, common_start=False))(0.75)
    assert float(own) == pytest.approx(SQUARED / 6, rel=1e-6)
    batch = jax.jit(jax.vmap(lambda a: path_kl(a, A2, schedule, 0.0)))(jnp.array([A1, A2]))
    np.testing.assert_array_equal(batch, [np.inf, 0])


# ---------------------------------------------------------------- simulation


@every_schedule
def test_simulated_mean_and_variance_agree_with_the_closed_form(schedule: tk.Schedule) -> None:
    t_min, t_max = schedule.t_from_snr(SNR_MIN), 0.999
    exact = path_kl(A1, A2, schedule, t_min, t_max)
    estimate = simulate_path_kl(A1, A2, schedule, t_min, t_max, key=1)
    assert within(estimate, exact)
    assert estimate.numerical_error < 1e-3 * exact.value
    assert estimate.standard_error < 0.02 * exact.value

    ratios = simulate_log_ratios(A1, A2, schedule, t_min, t_max, key=1)
    n = ratios.size
    assert estimate.value == ratios.mean()
    assert estimate.standard_error == pytest.approx(np.sqrt(ratios.var(ddof=1) / n), rel=1e-12)
    # (n - 1) s^2 / variance is chi-square for Gaussian ratios, and variance = 2 KL.
    spread = (n - 1) * ratios.var(ddof=1)
    slack = 2 * estimate.numerical_error
    assert spread >= (2 * exact.value - slack) * stats.chi2.ppf(BUDGET / 2, n - 1)
    assert spread <= (2 * exact.value + slack) * stats.chi2.isf(BUDGET / 2, n - 1)


@every_schedule
def test_log_ratios_are_gaussian(schedule: tk.Schedule) -> None:
    t_min = schedule.t_from_snr(SNR_MIN)
    ratios = simulate_log_ratios(A1, A2, schedule, t_min, key=2, n_steps=64)
    # The discretised chain is Gaussian too, with its own KL: no allowance for the steps.
    problem = bridge._problem(A1, A2, schedule, t_min, 0.999, 2, 64)
    kl = bridge._discretised_kl(problem)
    assert stats.kstest((ratios - kl) / np.sqrt(2 * kl), "norm").pvalue > BUDGET


@every_schedule
def test_simulated_states_follow_the_pinned_diffusion(schedule: tk.Schedule) -> None:
    # Given X_u = x at t_max, X at t_min is N(alpha a + r (x - alpha_u a), sigma^2 (1 - q)) with
    # q = snr(t_max) / snr(t_min) and r = q alpha(t_min) / alpha(t_max).
    t_min, t_max = schedule.t_from_snr(SNR_MIN), schedule.t_from_snr(0.5)
    n_paths, q = 4096, 0.5 / SNR_MIN
    alpha, sigma = schedule.alpha(t_min), schedule.sigma(t_min)
    r = q * alpha / schedule.alpha(t_max)
    mean = alpha * A1 + r * schedule.alpha(t_max) * (A2 - A1) / 2
    variance = sigma**2 * (1 - q) + r**2 * schedule.sigma(t_max) ** 2
    x, _ = bridge._simulate(bridge._problem(A1, A2, schedule, t_min, t_max, 2, 256), n_paths, 3)
    assert x.shape == (n_paths, 3)
    z = special.ndtri(1 - BUDGET / 12)  # three means and three variances
    step = np.log(SNR_MIN / 0.5) / 256  # Euler-Maruyama has weak order one in the step
    assert (np.abs(x.mean(0) - mean) <= z * np.sqrt(variance / n_paths) + step * sigma).all()
    ratio = x.var(0, ddof=1) / variance
    assert (ratio >= stats.chi2.ppf(BUDGET / 12, n_paths - 1) / (n_paths - 1) - step).all()
    assert (ratio <= stats.chi2.isf(BUDGET / 12, n_paths - 1) / (n_paths - 1) + step).all()


@every_schedule
def test_log_ratios_belong_to_their_states(schedule: tk.Schedule) -> None:
    # States and log ratio L are jointly Gaussian under P1, and exp(-L) carries P1 to P2, so that
    # Cov(X, L) = E1 X - E2 X = alpha (1 - q) (a1 - a2). Mean and variance of L cannot tell
    # its sign; this can.
    t_min, t_max, n_paths, q = schedule.t_from_snr(SNR_MIN), schedule.t_from_snr(0.5), 4096, 1 / 12
    problem = bridge._problem(A1, A2, schedule, t_min, t_max, 2, 256)
    x, ratios = bridge._simulate(problem, n_paths, 10)
    exact = schedule.alpha(t_min) * (1 - q) * (A1 - A2)
    covariance = ((x - x.mean(0)) * (ratios - ratios.mean())[:, None]).sum(0) / (n_paths - 1)
    # The variance of a product of two correlated centred Gaussians.
    spread = np.sqrt((x.var(0) * ratios.var() + covariance**2) / n_paths)
    step = np.log(SNR_MIN / 0.5) / 256
    z = special.ndtri(1 - BUDGET / 6)
    assert (np.abs(covariance - exact) <= z * spread + step * np.abs(exact)).all()


@every_schedule
def test_discretisation_error_is_of_second_order_and_bounded(schedule: tk.Schedule) -> None:
    t_min, t_max = schedule.t_from_snr(SNR_MIN), 0.99
    exact = float(path_kl(A1, A2, schedule, t_min, t_max))
    errors = []
    for n_steps in (2, 3, 4, 5, 8, 16, 33, 64, 128, 256):
        problem = bridge._problem(A1, A2, schedule, t_min, t_max, 2, n_steps)
        errors.append(bridge._discretised_kl(problem) - exact)
        estimate = simulate_path_kl(
            A1, A2, schedule, t_min, t_max, key=0, n_paths=2, n_steps=n_steps
        )
        assert abs(errors[-1]) <= estimate.numerical_error
    assert errors[-3] / errors[-2] == pytest.approx(4, rel=0.05)
    assert errors[-2] / errors[-1] == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize(
    ("schedule", "t_min", "t_max"),
    [
        (LinearVP(), 0.02, 1 - 1e-9),
        (LinearVP(), 0.3, 0.31),
        (FlowMatching(), 0.1, 0.5),
        (BetaVP(), 0.01, 1.0),
        (VE(), 0.3, 1.0),
        (EDM(), 0.2, 0.9),
    ],
)
def test_other_time_windows(schedule: tk.Schedule, t_min: float, t_max: float) -> None:
    estimate = simulate_path_kl(A1, A2, schedule, t_min, t_max, key=4, n_paths=2000)
    assert within(estimate, path_kl(A1, A2, schedule, t_min, t_max))


def test_reversal_symmetry() -> None:
    forward = simulate_path_kl(A1, A2, CosineVP(), 0.3, key=5)
    backward = simulate_path_kl(A2, A1, CosineVP(), 0.3, key=6)
    error = np.hypot(forward.standard_error, backward.standard_error)
    numerical = forward.numerical_error + backward.numerical_error
    assert abs(forward.value - backward.value) <= Z * error + numerical


def test_equal_points_and_empty_windows_give_zero() -> None:
    estimate = simulate_path_kl(A1, A1, LinearVP(), 0.1, key=0, n_paths=10)
    assert (estimate.value, estimate.standard_error, estimate.numerical_error) == (0, 0, 0)
    estimate = simulate_path_kl(A1, A2, LinearVP(), 0.3, 0.3, key=0, n_paths=10)
    assert (estimate.value, estimate.standard_error) == (0, 0)


def test_estimate_says_how_it_was_found() -> None:
    estimate = simulate_path_kl(A1, A2, LinearVP(), 0.3, key=7, n_paths=128, n_steps=16)
    assert str(estimate.method) == "euler-maruyama + girsanov"
    assert (estimate.unit, estimate.quantity) == ("nats", "path KL")
    assert (estimate.n_samples, estimate.seed) == (128, 7)
    assert np.ndim(estimate.value) == 0
    assert estimate.interval_supported
    assert estimate.bits.value == pytest.approx(estimate.value / np.log(2))
    few = simulate_path_kl(A1, A2, LinearVP(), 0.3, key=7, n_paths=99, n_steps=16)
    assert not few.interval_supported
    assert few.confidence_interval().high == np.inf


def test_same_key_same_bits() -> None:
    arguments = {"n_paths": 50, "n_steps": 8}
    first = simulate_log_ratios(A1, A2, LinearVP(), 0.3, key=8, **arguments)
    again = simulate_log_ratios(A1, A2, LinearVP(), 0.3, key=8, **arguments)
    other = simulate_log_ratios(A1, A2, LinearVP(), 0.3, key=9, **arguments)
    assert (first == again).all()
    assert (first != other).all()
    jax_key = simulate_path_kl(A1, A2, LinearVP(), 0.3, key=jax.random.key(0), **arguments)
    assert jax_key.seed is None


# ---------------------------------------------------------------- errors

GOOD = {"a1": A1, "a2": A2, "schedule": LinearVP(), "t_min": 0.3, "t_max": 0.9}


@pytest.mark.parametrize("simulated", [False, True], ids=["closed form", "simulation"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a1": [1.0, np.nan, 0.0]}, r"^a1 must be finite everywhere; got .*nan"),
        ({"a2": [1.0, np.inf, 0.0]}, r"^a2 must be finite everywhere; got .*inf"),
        ({"a1": "x"}, r"^a1 must be an array of real numbers; got "),
        ({"a1": 1.0}, r"^a1 must be "),
        ({"a1": np.empty(0), "a2": np.empty(0)}, r"^a1 must be of shape .* n >= 1"),
        ({"a2": [1.0, 2.0]}, r"^a2 must be of shape .*, like a1; got .*\(2,\)"),
        ({"schedule": None}, r"^schedule must be a tokenkl Schedule.*; got None\."),
        ({"t_min": -0.1}, r"^t_min must be in \[0, 1\]; got -0.1\."),
        ({"t_max": 1.1}, r"^t_max must be in \[0, 1\]; got 1.1\."),
        ({"t_min": np.nan}, r"^t_min must be finite"),
        ({"t_min": 0.95}, r"^t_min must be at most t_max = 0.9; got 0.95\."),
    ],
)
def test_bad_input(simulated: bool, change: dict[str, Any], message: str) -> None:
    function = partial(simulate_path_kl, key=0) if simulated else path_kl
    with pytest.raises(ValueError, match=message):
        function(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a1": np.zeros((2, 3))}, "can broadcast"),
        ({"t_min": np.full(2, 0.1), "t_max": np.full(3, 0.2)}, "can broadcast"),
        ({"t_min": [0.1, 0.5], "t_max": [[0.6], [0.4]]}, r"^t_min must be at most t_max = 0.4"),
    ],
)
def test_bad_shapes_and_times_of_the_closed_form(change: dict[str, Any], message: str) -> None:
    arguments = {**GOOD, "t_min": np.full(5, 0.1), **change}
    with pytest.raises(ValueError, match=message):
        path_kl(**arguments)


@pytest.mark.parametrize("function", [simulate_path_kl, simulate_log_ratios])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a1": np.zeros((2, 3))}, r"^a1 must be an array with 1 axes"),
        ({"t_min": [0.1, 0.2]}, r"^t_min must be one time; got .*\(2,\)"),
        ({"t_max": 1.0}, r"^t_max must be slightly below 1, where LinearVP .*; got 1.0\."),
        ({"t_min": 0.0}, r"^t_min must be above 0, where LinearVP .*; got 0.0\."),
        ({"n_paths": 1}, r"^n_paths must be a whole number, at least 2; got 1\."),
        ({"n_steps": 1}, r"^n_steps must be a whole number, at least 2; got 1\."),
        ({"n_steps": 2.5}, r"^n_steps must be a whole number"),
        ({"key": -1}, r"^key must be"),
        ({"key": None}, r"^key must be"),
    ],
)
def test_bad_input_of_the_simulation(
    function: Callable[..., Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        function(**{**GOOD, "key": 0, **change})


def test_the_simulation_cannot_be_traced() -> None:
    with pytest.raises(ValueError, match=r"^a1 must be concrete"):
        jax.jit(lambda a: simulate_log_ratios(a, A2, LinearVP(), 0.3, key=0))(jnp.asarray(A1))
