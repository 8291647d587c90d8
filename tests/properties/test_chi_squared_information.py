"""log det(I + snr Sigma) / 2 - log(1 + chi^2) <= I: Gaussian inputs say little more, if at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import tokenkl as tk
from problems import assert_bound
from tokenkl.bounds import chi_squared_information_bound as bound
from tokenkl.bounds import gaussian_information_bound
from tokenkl.testing import codebooks, exact_codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    information = reference_profile(codebook, snr)["mutual_information"]
    assert_bound(bound(codebook, snr), information)


@given(exact_codebooks(), snrs())
def test_relative_precision(codebook: tk.Codebook, snr: float) -> None:
    """Where it is tight it is so to rounding: far below 1e-16 it keeps its digits."""
    found = float(tk.mutual_information(codebook, snr).value)
    assert float(bound(codebook, snr).value) <= found * (1 + 1e-9) + 1e-300


@pytest.mark.parametrize("snr", [0.05, 1.0, 7.0])
def test_by_its_definition(snr: float) -> None:
    """chi^2 as an integral over one coordinate."""
    levels, prior = np.array([0.0, 1.0, 1.7]), np.array([0.5, 0.2, 0.3])
    h = np.sqrt(snr)
    mean = prior @ levels
    sd = np.sqrt(1 + snr * (prior @ (levels - mean) ** 2))

    def density(y: float) -> float:
        mixture = prior @ stats.norm.pdf(y, h * levels)
        return float(mixture**2 / stats.norm.pdf(y, h * mean, sd))

    squared, _ = integrate.quad(density, -15, 25, epsabs=1e-13, limit=500)
    expected = max(np.log(sd) - np.log(squared), 0.0)
    found = bound(tk.ProductCodebook([levels], [prior]), snr).value
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_it_closes_in_where_the_snr_is_low() -> None:
    rng = np.random.default_rng(1)
    for codebook in (
        tk.PointCodebook(rng.normal(3, 1, size=(50, 6)), rng.dirichlet(np.ones(50))),
        tk.PointCodebook([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], allow_duplicates=True),
        tk.Product([tk.FSQ((3,) * 20), tk.PointCodebook(rng.normal(size=(300, 2)))]),
        tk.OneHot(20, rng.dirichlet(np.ones(20))),
    ):
        snr = np.array([1e-18, 1e-4]) / codebook.average_power()
        low, high = bound(codebook, snr).value, gaussian_information_bound(codebook, snr).value
        np.testing.assert_allclose(low, high, rtol=1e-6)
        assert (low <= high * (1 + 1e-12)).all()
        assert (bound(codebook, [1e3, 1e9, 1e300]).value >= 0).all()
    with pytest.raises(ValueError, match="at most 65,536 tokens"):
        bound(tk.OneHot(70_000), 1.0)


@settings(max_examples=20)
@given(codebooks(), st.floats(1e15, 1e300))
def test_resolved_tokens(codebook: tk.Codebook, snr: float) -> None:
    """It stays as it is at a high SNR, under the entropy, and a bracket can use it."""
    distinct = [part for part in codebook.smallest_parts if part.fits and part.K > 1]
    for part in distinct:
        ends = tk.bracket(part, [snr], "mutual_information")
        found = float(bound(part, snr).value)
        assert found <= float(part.prior_entropy())
        assert ends.lower.value <= part.prior_entropy() * (1 + 1e-12)


@pytest.mark.parametrize("scale", [1e-90, 1.0, 1e9, 1e150])
def test_two_resolved_tokens(scale: float) -> None:
    """Once they are resolved it is 3/2 log 2 - 1/2, however far apart they are."""
    snr = np.array([1e12, 1e17, 1e20, 1e100]) / scale**2
    for points in ([[0.1], [1.3]], [[0.0, 0.0], [1.0, 1.0 / 3]]):
        found = bound(tk.PointCodebook(scale * np.array(points)), np.minimum(snr, 1e300)).value
        np.testing.assert_allclose(found, 1.5 * np.log(2) - 0.5, rtol=1e-9)
