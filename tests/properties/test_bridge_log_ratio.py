"""Bridges: path KL is symmetric, half a squared distance times SNR; log ratios N(KL, 2 KL)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import tokenkl as tk
from tokenkl.divergence.bridge import simulate_log_ratios

POINTS = st.tuples(st.floats(-2, 2), st.floats(-2, 2))
SCHEDULES = [tk.LinearVP(), tk.CosineVP(), tk.BetaVP(), tk.SubVP(), tk.VE(), tk.EDM()]


@given(POINTS, POINTS, POINTS, st.sampled_from(SCHEDULES), st.floats(0.05, 0.9))
def test_symmetric_and_only_through_the_snr(
    a: tuple[float, ...],
    b: tuple[float, ...],
    shift: tuple[float, ...],
    schedule: tk.Schedule,
    t: float,
) -> None:
    first, second, move = np.array(a), np.array(b), np.array(shift)
    forward = float(tk.path_kl(first, second, schedule, t, 0.95))
    assert forward == float(tk.path_kl(second, first, schedule, t, 0.95))
    expected = ((first - second) ** 2).sum() / 2 * (schedule.snr(t) - schedule.snr(0.95))
    assert forward == pytest.approx(float(expected), rel=1e-12, abs=1e-300)
    moved = float(tk.path_kl(first + move, second + move, schedule, t, 0.95))
    assert moved == pytest.approx(forward, rel=1e-9, abs=1e-12)
    # Additive in time.
    middle = (t + 0.95) / 2
    parts = [(t, middle), (middle, 0.95)]
    total = sum(float(tk.path_kl(first, second, schedule, *part)) for part in parts)
    assert total == pytest.approx(forward, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("schedule", SCHEDULES[:3], ids=lambda schedule: schedule.name)
def test_log_ratios_are_normal(schedule: tk.Schedule) -> None:
    """Mean KL and variance 2 KL, in both directions, at 4.8 standard errors; and a normal shape."""
    a, b, n = np.array([0.0, 1.0]), np.array([1.0, 0.0]), 4000
    t = float(schedule.t_from_snr(4.0 + schedule.snr(0.999)))
    kl = float(tk.path_kl(a, b, schedule, t, 0.999))
    for key, (first, second) in enumerate(((a, b), (b, a))):
        ratios = simulate_log_ratios(
            first, second, schedule, t, 0.999, key=key, n_paths=n, n_steps=512
        )
        # The step's bias is of second order, below 1e-3 of the KL here.
        assert abs(ratios.mean() - kl) <= 4.8 * np.sqrt(2 * kl / n) + 1e-3 * kl
        assert abs(ratios.var(ddof=1) / (2 * kl) - 1) <= 4.8 * np.sqrt(2 / n) + 2e-3
        shape = stats.kstest((ratios - ratios.mean()) / ratios.std(), "norm")
        assert shape.pvalue > 2e-5
