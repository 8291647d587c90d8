"""Schedules from measured cross-entropies: exact curves, errors, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.optimality import cross_entropy_schedule

TOKENS = tk.FSQ((3, 3))
SNR = np.geomspace(0.05, 80, 25)
LOSS = np.asarray(tk.profile(TOKENS, SNR, ("conditional_entropy",))["conditional_entropy"].value)
EXACT = (LOSS[0] - LOSS) / (LOSS[0] - LOSS[-1])


def test_exact_losses_give_the_information_uniform_schedule() -> None:
    order = np.random.default_rng(0).permutation(SNR.size)
    found = cross_entropy_schedule(SNR[order], LOSS[order]).law
    exact = tk.information_uniform_schedule(TOKENS, SNR[0], SNR[-1])
    assert np.allclose(found.cdf(np.log(SNR)), exact.cdf(np.log(SNR)), atol=1e-9)
    between = np.log(np.geomspace(0.06, 70, 200))
    assert abs(found.cdf(between) - exact.cdf(between)).max() < 2e-3 < found.numerical_error
    assert found.information == pytest.approx(exact.information, rel=1e-9)


def test_uniform_times_have_the_law() -> None:
    found = cross_entropy_schedule(SNR, LOSS)
    assert np.allclose(found.schedule.snr(1 - EXACT), SNR, rtol=1e-9)
    table = tk.information_uniform_schedule(TOKENS).as_schedule()
    law = tk.information_uniform_schedule(TOKENS)
    assert np.allclose(law.cdf(np.log(table.snr(np.array([0.2, 0.7])))), [0.8, 0.3], atol=1e-4)


def test_a_rise_is_pooled_and_plateaus_are_left_out() -> None:
    found = cross_entropy_schedule(
        np.exp([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), [3.0, 3.0, 2.0, 2.5, 1.0, 0.0, 0.5]
    ).law
    assert np.allclose(found.log_snr, [1.0, 2.5, 4.0, 5.0])
    assert np.allclose(found.share, [0, 0.75 / 2.75, 2 / 2.75, 1])
    assert (found.density(np.array([0.5, 5.5])) == 0).all()


def test_the_band_covers() -> None:
    """Of 60 noisy curves, at every level by itself."""
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        error = rng.uniform(0.01, 0.04, SNR.size)
        found = cross_entropy_schedule(
            SNR, LOSS + error * rng.standard_normal(SNR.size), error, key=seed
        )
        exact = np.interp(found.law.log_snr, np.log(SNR), EXACT)
        inside.append(np.mean((found.low <= exact + 1e-12) & (exact - 1e-12 <= found.high)))
        assert 0 < found.law.standard_error < 0.1
    assert np.mean(inside) > 0.9


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: cross_entropy_schedule([1.0], [1.0]), "snr must be"),
        (lambda: cross_entropy_schedule([1.0, 1.0], [1.0, 0.5]), "snr must be"),
        (lambda: cross_entropy_schedule([1.0, 2.0], [1.0]), "cross_entropy must be 2"),
        (lambda: cross_entropy_schedule([1.0, 2.0], [1.0, 1.5]), "falling as the SNR rises"),
        (lambda: cross_entropy_schedule([1.0, 2.0], [1.0, 0.5], -1.0), "standard_error must be"),
        (lambda: cross_entropy_schedule([1.0, 2.0], [1.0, 0.5], 0.1), "key must be"),
    ],
)
def test_refusals(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
