"""mmse <= tr Sigma (I + snr Sigma)^-1, Sigma = Cov(e)."""

import numpy as np
from hypothesis import given, settings

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, reference_profile, snrs


@settings(max_examples=40)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    assert_bound(bounds.linear_mmse_bound(codebook, snr), reference_profile(codebook, snr)["mmse"])


def test_by_matrices_and_at_low_snr() -> None:
    rng = np.random.default_rng(3)
    prior = rng.dirichlet(np.ones(90))
    for codebook in (
        tk.PointCodebook(rng.normal(size=(12, 3)), prior[:12] / prior[:12].sum()),
        tk.OneHot(90, prior, 1.7),
        tk.OneHot(9, scale=0.4),
        tk.FSQ((3, 2), priors=[[0.5, 0.3, 0.2], None]),
        tk.FSQ((2, 2), prior=[0.4, 0.3, 0.2, 0.1]),
    ):
        points, weight = codebook.points, codebook.prior
        centred = points - weight @ points
        sigma = (weight[:, None] * centred).T @ centred
        snr = np.array([0.0, 0.01, 1.0, 300.0])
        inverse = [np.linalg.inv(np.eye(codebook.n) + one * sigma) for one in snr]
        expected = [np.trace(sigma @ one) for one in inverse]
        bound = bounds.linear_mmse_bound(codebook, snr).value
        np.testing.assert_allclose(bound, expected, rtol=1e-11)
        assert abs(bound[0] - tk.average_power(codebook)) <= 1e-12 * bound[0]
        logs = [np.linalg.slogdet(np.eye(codebook.n) + one * sigma)[1] / 2 for one in snr]
        information = bounds.gaussian_information_bound(codebook, snr).value
        np.testing.assert_allclose(information, logs, rtol=1e-11, atol=1e-14)
