"""Steps from measured MMSEs, against those of codebooks whose MMSE the library finds itself."""

from typing import Any

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.divergence import measured_steps

CODEBOOKS = [tk.FSQ((3, 3)), tk.FSQ((2, 5)), tk.OneHot(3, [0.98, 0.01, 0.01])]
NS, HIGHEST = (1, 3, 16, 65), 2000.0


@pytest.mark.slow
@pytest.mark.parametrize("codebook", CODEBOOKS, ids=repr)
def test_against_exact(codebook: tk.Codebook) -> None:
    """Path KLs are within their errors, and grids nearly as good as the best ones."""
    best = tk.optimal_step_grids(codebook, NS, 0.0, HIGHEST)
    for levels in (17, 65):
        snr = np.append(0, np.geomspace(0.05, HIGHEST, levels - 1))
        mmse = tk.profile(codebook, snr, "mmse")["mmse"].value
        measured = measured_steps(snr, mmse, NS)
        exact = tk.ancestral_kl_curve(codebook, [one.snr for one in measured])
        for found, kl, other in zip(measured, exact.value, best, strict=True):
            assert abs(float(found.kl) - kl) < found.kl.numerical_error
            assert kl < 1.003 * float(other.kl)
            assert found.snr[[0, -1]].tolist() == [0.0, HIGHEST]
            assert found.asymptotic_kl == pytest.approx(other.asymptotic_kl, rel=0.03)


@pytest.mark.slow
def test_of_tokens_in_context() -> None:
    """Sampled MMSEs of a chain: the KL of the sequence for each token, within its interval."""
    chain = tk.sources.Markov([[0.9, 0.1], [0.2, 0.8]], length=3)
    whole = tk.sequence_codebook(tk.FSQ((2,)), chain)
    snr = np.append(0, np.geomspace(0.02, 60, 24))
    for key in range(4):
        mmse = tk.contextual_profile(tk.FSQ((2,)), chain, snr, "mmse", key=key)["mmse"]
        for found in measured_steps(snr, mmse, [2, 8]):
            exact = tk.ancestral_kl(whole, found.snr, key=0)
            low, high, _ = found.kl.confidence_interval()
            assert low < float(exact) / 3 < high
            assert found.kl.standard_error < 0.3 * float(found.kl)


def test_what_does_not_depend() -> None:
    """Units of the SNR, and equal errors of levels that were measured alike, move no grid."""
    snr = np.append(0, np.geomspace(0.05, 200, 32))
    mmse = tk.profile(tk.FSQ((3, 3)), snr, "mmse")["mmse"].value
    plain = measured_steps(snr, mmse, [5])[0]
    scaled = measured_steps(1e6 * snr, tk.Estimate(1e-6 * mmse, 1e-9), [5])[0]
    assert np.allclose(scaled.snr, 1e6 * plain.snr, rtol=1e-6)
    assert float(scaled.kl) == pytest.approx(float(plain.kl), rel=1e-9)
    assert scaled.kl.standard_error > 0 == plain.kl.standard_error
    # An error of either kind counts, and what was sampled says so.
    other = tk.Estimate(1e-6 * mmse, numerical_error=1e-9, n_samples=7, method="measured")
    numerical = measured_steps(1e6 * snr, other, [5])[0].kl
    assert numerical.standard_error == pytest.approx(scaled.kl.standard_error)
    assert numerical.n_samples == 7


SNR, MMSE = np.arange(5.0), np.arange(5.0)[::-1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((SNR[:4], MMSE[:4], [2]), "snr must be at least 5 levels"),
        ((SNR[::-1], MMSE, [2]), "snr must be at least 5 levels"),
        ((SNR, MMSE[:4], [2]), "mmse must be 5 numbers"),
        ((SNR, SNR, [2]), "mmse must be 5 numbers"),
        ((SNR, MMSE, [0]), "Ns must be"),
    ],
)
def test_refusals(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        measured_steps(*given)
