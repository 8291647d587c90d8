"""-sum p_k log sum p_j exp(-snr d^2/8) <= I <= -sum p_k log sum p_j exp(-snr d^2/2)."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.spatial.distance import cdist

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, exact_codebooks, reference_profile, snrs

BOTH = (bounds.distance_information_bound, bounds.divergence_information_bound)
CERTAIN = [1 - 3e-13, 2e-13, 1e-13]


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    information = reference_profile(codebook, snr)["mutual_information"]
    for bound in BOTH:
        assert_bound(bound(codebook, snr), information)


@given(exact_codebooks(), snrs())
def test_relative_precision(codebook: tk.Codebook, snr: float) -> None:
    """Informations of 1e-18 and less: a quarter and all of snr tr Sigma, to their last digits."""
    found = float(tk.mutual_information(codebook, snr).value)
    low, high = (float(bound(codebook, snr).value) for bound in BOTH)
    assert low <= found * (1 + 1e-9) + 1e-300
    assert found <= high * (1 + 1e-9) + 1e-300


@pytest.mark.parametrize(
    "codebook",
    [
        tk.FSQ((3, 4)),
        tk.ProductCodebook([[1e6, 1e6 + 1, 1e6 + 1e-3]], [CERTAIN]),
        tk.OneHot(3, CERTAIN, scale=2.0),
        tk.OneHot(1000),
        tk.PointCodebook([[0.0, 1.0], [0.0, 1.0], [3.0, 0.0]], CERTAIN, allow_duplicates=True),
        tk.Product([tk.FSQ((3,)), tk.OneHot(4, [0.7, 0.1, 0.1, 0.1])]),
    ],
    ids=repr,
)
def test_both_ends_of_the_snr(codebook: tk.Codebook) -> None:
    """snr tr Sigma / 4 and snr tr Sigma where it is low, the entropy of the points where high."""
    low, high = (bound(codebook, [1e-18, 1e9]).value for bound in BOTH)
    # By pairs, since the rest of a nearly certain prior is known by its small entries alone.
    power = sum(
        one.prior @ cdist(one.points, one.points, "sqeuclidean") @ one.prior / 2
        for one in codebook.smallest_parts
    )
    np.testing.assert_allclose([low[0], high[0]], [power / 4e18, power / 1e18], rtol=1e-9)
    merged = tk.mutual_information(codebook, 1e9, key=0)
    for value in (low[1], high[1]):
        np.testing.assert_allclose(value, merged.value, rtol=1e-8)


def test_by_its_definition() -> None:
    """In the plainest way, for points, one-hot tokens and grids alike; what is alike agrees."""
    rng = np.random.default_rng(0)
    for codebook in (
        tk.PointCodebook(rng.normal(size=(9, 3)), rng.dirichlet(np.ones(9))),
        tk.OneHot(6, rng.dirichlet(np.ones(6)), scale=1.5),
        tk.ProductCodebook([[0.0, 1, 4], [-1.0, 1]], [rng.dirichlet(np.ones(3)), None]),
        tk.Product([tk.OneHot(3), tk.PointCodebook(rng.normal(size=(4, 2)))], order="F"),
    ):
        points, prior = codebook.points, codebook.prior
        squared = np.square(points[:, None] - points).sum(axis=-1)
        for bound, divisor in zip(BOTH, (8, 2), strict=True):
            for snr in (0.3, 5.0):
                expected = -prior @ np.log(np.exp(-snr * squared / divisor) @ prior)
                np.testing.assert_allclose(bound(codebook, snr).value, expected, rtol=1e-12)


def test_tokens_too_many_to_list() -> None:
    """Structure answers, or a sentence says what is needed; memory stays small."""
    grid = tk.FSQ((3,) * 40)
    low, high = (float(bound(grid, 4.0).value) for bound in BOTH)
    assert low < float(tk.mutual_information(grid, 4.0).value) < high
    cut, small = tk.d_codebook(24, 4), tk.d_codebook(3, 4)
    assert 0 < bounds.distance_information_bound(cut, 1.0).value < cut.prior_entropy()
    # Counted by distance it is the logarithm of an average, which is no more than by token.
    squared = np.square(small.points[:, None] - small.points).sum(axis=-1)
    average = -math.log(np.mean(np.exp(-0.7 * squared / 8)))
    by_token = bounds.distance_information_bound(tk.PointCodebook(small.points), 0.7).value
    assert average <= by_token * (1 + 1e-12)
    with pytest.raises(ValueError, match="at most 65,536 tokens"):
        bounds.divergence_information_bound(cut, 1.0)
    with pytest.raises(ValueError, match="at most 65,536 tokens"):
        bounds.distance_information_bound(tk.PointCodebook(np.arange(65_537.0)[:, None]), 1.0)
    points = tk.PointCodebook(np.random.default_rng(0).normal(size=(6000, 2)))
    tracemalloc.start()
    bounds.distance_information_bound(points, 1.0)
    assert tracemalloc.get_traced_memory()[1] < 2**28
    tracemalloc.stop()
