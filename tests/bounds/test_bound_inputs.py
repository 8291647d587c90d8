"""Estimates enter bounds at the end of their interval that keeps the bound true."""

from collections.abc import Callable

import numpy as np
import pytest

import tokenkl as tk
from tokenkl import bounds

SAMPLED = tk.Estimate(np.array([0.2, 0.4]), 0.01, 1e-6, n_samples=1000)
EXACT = tk.Estimate(np.array([0.2, 0.4]), 0.0, 1e-6)

UPPER: list[Callable[..., tk.Bound]] = [
    bounds.error_below_sampling_error,
    bounds.jensen_error,
    bounds.hellman_raviv_error,
    bounds.kovalevsky_error,
    lambda x, **o: bounds.fano_entropy(x, 9, **o),
    lambda x, **o: bounds.cover_hart_sampling_error(x, 9, **o),
    lambda x, **o: bounds.mmse_below_error(tk.FSQ((3, 3)), x, **o),
    lambda x, **o: bounds.mmse_below_sampling_error(tk.FSQ((3, 3)), x, **o),
    lambda x, **o: bounds.mmse_below_information(x, 2.0, **o),
    lambda x, **o: bounds.chord_entropy_bound((x, x), (1.0, 2.0), 1.5, **o),
]
LOWER: list[Callable[..., tk.Bound]] = [
    bounds.error_above_sampling_error,
    bounds.sampling_error_above_error,
    bounds.jensen_entropy,
    bounds.hellman_raviv_entropy,
    bounds.kovalevsky_entropy,
    lambda x, **o: bounds.fano_error(x, 9, **o),
    lambda x, **o: bounds.cover_hart_error(x, 9, **o),
    lambda x, **o: bounds.mmse_above_error(tk.FSQ((3, 3)), x, **o),
    lambda x, **o: bounds.mmse_above_sampling_error(tk.FSQ((3, 3)), x, **o),
    lambda x, **o: bounds.information_above_mmse(x, 2.0, **o),
    lambda x, **o: bounds.tangent_entropy_bound(x, 0.3, 2.0, 2.5, **o),
]


@pytest.mark.parametrize(("functions", "sign"), [(UPPER, 1), (LOWER, -1)], ids=["upper", "lower"])
def test_safe_direction(functions: list[Callable[..., tk.Bound]], sign: int) -> None:
    for function in functions:
        plain, exact, sampled = (function(x).value for x in (EXACT.value, EXACT, SAMPLED))
        assert (sign * (exact - plain) > 0).all()
        assert (sign * (sampled - exact) > 0).all()
        wider = function(SAMPLED, level=0.999999)
        assert (sign * (wider.value - sampled) > 0).all()
        assert wider.direction == ("upper" if sign > 0 else "lower")
        assert "input at 0.999999 confidence" in wider.name
        assert "confidence" not in function(EXACT).name


def test_mmse_tangent_uses_the_safe_slope() -> None:
    for at, sign in ((2.5, 1), (1.5, -1)):
        plain = bounds.tangent_entropy_bound(1.0, SAMPLED.value, 2.0, at).value
        safe = bounds.tangent_entropy_bound(1.0, SAMPLED, 2.0, at).value
        assert (safe < plain).all(), sign


def test_bad_numbers() -> None:
    with pytest.raises(ValueError, match="entropy must be at least 0 everywhere"):
        bounds.jensen_error(-0.1)
    with pytest.raises(ValueError, match="error must be below 1 everywhere"):
        bounds.jensen_entropy(1.0)
    with pytest.raises(ValueError, match="K must be a whole number"):
        bounds.fano_entropy(0.1, 0)
    with pytest.raises(ValueError, match="at must be between the two SNRs"):
        bounds.chord_entropy_bound((1.0, 0.5), (1.0, 2.0), 3.0)
    with pytest.raises(ValueError, match="codebook must be at most 32,768 tokens"):
        bounds.de_caen_bound(tk.FSQ((3,) * 12), 1.0)
    for largest in (0.0, -1.0, np.nan, 1.5):
        with pytest.raises(ValueError, match="largest_prior must be"):
            bounds.universal_accuracy(2, [1.0], 1.0, largest)
