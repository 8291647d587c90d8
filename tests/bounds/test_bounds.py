"""The union bound: above the exact error, right in closed cases, tight at low noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

import tokenkl as tk
from tokenkl.bounds import union_bound

SNR = 10 ** (np.array([-20.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0]) / 10)


def q(x: Any) -> Any:
    return special.ndtr(-x)


def by_definition(points: np.ndarray, prior: np.ndarray, snr: float) -> float:
    """The double sum, term by term."""
    h, total = np.sqrt(snr), 0.0
    for k, e in enumerate(points):
        for j, f in enumerate(points):
            if j != k:
                d = np.linalg.norm(e - f)
                total += prior[k] * q(h * d / 2 + np.log(prior[k] / prior[j]) / (h * d))
    return min(total, 1.0)


def random_prior(K: int, seed: int = 3) -> np.ndarray:
    weight = np.random.default_rng(seed).exponential(size=K) + 0.05
    return weight / weight.sum()


RNG = np.random.default_rng(1)
CASES = [
    tk.FSQ((2,)),
    tk.FSQ((3,) * 4),
    tk.FSQ((5, 4, 2)),
    tk.ProductCodebook([RNG.normal(size=4), RNG.normal(size=3)]),
    tk.ProductCodebook([RNG.normal(size=4), RNG.normal(size=3)], [random_prior(4), None]),
    tk.OneHot(20),
    tk.OneHot(20, random_prior(20)),
    tk.PointCodebook(RNG.normal(size=(12, 2))),
    tk.PointCodebook(RNG.normal(size=(9, 2)), random_prior(9)),
]


@pytest.mark.parametrize("codebook", CASES, ids=repr)
def test_above_the_exact_error(codebook: tk.Codebook) -> None:
    bound = union_bound(codebook, SNR)
    exact = tk.error_probability(codebook, SNR, method=tk.Exact())
    assert bound.direction == "upper"
    assert bound.quantity == "error_probability"
    assert bound.value.shape == SNR.shape
    slack = 1e-11 * exact.value + exact.numerical_error
    assert (bound.value >= exact.value - slack).all()


@pytest.mark.parametrize("codebook", CASES, ids=repr)
def test_is_the_double_sum(codebook: tk.Codebook) -> None:
    expected = [by_definition(codebook.points, codebook.prior, snr) for snr in SNR]
    np.testing.assert_allclose(union_bound(codebook, SNR).value, expected, rtol=1e-10)


def test_two_tokens_have_no_union() -> None:
    # With two tokens the bound is the error itself, whatever the prior.
    for prior in (None, [0.9, 0.1]):
        codebook = tk.PointCodebook([[0.0, 0.0], [1.0, 2.0]], prior)
        exact = tk.error_probability(codebook, SNR).value
        np.testing.assert_allclose(union_bound(codebook, SNR).value, exact, rtol=1e-10)


def test_tight_at_low_noise() -> None:
    grid = tk.FSQ((3,) * 8)
    ratio = union_bound(grid, 1000.0).value / tk.error_probability(grid, 1000.0).value
    assert 1 <= ratio < 1 + 1e-6


def test_grid_spectrum_needs_no_points() -> None:
    # 10^20 tokens; at high SNR only the 2 (1 - 1/L) n neighbours on the axes count.
    grid, snr = tk.FSQ((10,) * 20), 8000.0
    leading = 20 * 1.8 * q(np.sqrt(snr) / 9)
    assert union_bound(grid, snr).value == pytest.approx(leading, rel=1e-6)


def test_e8_cut_matches_pairs_and_beats_fsq() -> None:
    # docs/theory/index.md, 18: the cut's bound is below FSQ's exact error from s = 0.135 down.
    e8, grid = tk.e8_codebook(), tk.FSQ((3,) * 8)
    s = np.array([0.135, 0.12, 0.1, 0.05])
    exact = tk.error_probability(grid, 1 / s**2)
    assert (union_bound(e8, 1 / s**2).value < exact.value - exact.numerical_error).all()
    direct = np.zeros(1)
    for row in e8.points[:20]:
        d = np.sort(np.linalg.norm(e8.points - row, axis=1))[1:]
        direct += q(d / (2 * 0.1)).sum() / 20
    assert 0.2 < direct[0] / union_bound(e8, 100.0).value < 5


def test_many_distances_and_many_blocks() -> None:
    points = np.random.default_rng(5).normal(size=(1700, 3))
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distance, np.inf)
    for snr in (1e4, 1e6):
        expected = min(1.0, q(np.sqrt(snr) * distance / 2).sum() / 1700)
        value = union_bound(tk.PointCodebook(points), snr).value
        assert value == pytest.approx(expected, rel=1e-9)


def test_equal_points_and_no_signal() -> None:
    twice = tk.PointCodebook([[0.0], [0.0], [5.0]], allow_duplicates=True)
    assert union_bound(twice, 100.0).value == pytest.approx(1 / 3, rel=1e-9)
    unequal = tk.PointCodebook([[0.0], [0.0], [50.0]], [0.5, 0.2, 0.3], allow_duplicates=True)
    assert union_bound(unequal, 100.0).value == pytest.approx(0.2, rel=1e-9)
    assert union_bound(tk.FSQ((2,)), 0.0).value == 0.5
    assert union_bound(tk.PointCodebook([[0.0], [1.0]], [0.7, 0.3]), 0.0).value == pytest.approx(
        0.3
    )


def test_bad_snr_is_refused() -> None:
    with pytest.raises(ValueError, match="snr must be at least 0"):
        union_bound(tk.FSQ((2,)), -1.0)
