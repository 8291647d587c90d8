"""mmse >= tr Sigma exp(-snr diam^2/4), I >= 2 (tr Sigma/diam^2)(1 - exp(-snr diam^2/4))."""

from hypothesis import given, settings

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, exact_codebooks, reference_profile, snrs


@settings(max_examples=40)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    found = reference_profile(codebook, snr)
    assert_bound(bounds.mmse_decay_bound(codebook, snr), found["mmse"])
    assert_bound(bounds.information_decay_bound(codebook, snr), found["mutual_information"])


@given(exact_codebooks(), snrs())
def test_relative_precision(codebook: tk.Codebook, snr: float) -> None:
    found = tk.profile(codebook, snr)
    for bound, name in (
        (bounds.mmse_decay_bound, "mmse"),
        (bounds.information_decay_bound, "mutual_information"),
    ):
        value = float(found[name].value)
        assert float(bound(codebook, snr).value) <= value * (1 + 1e-6) + 1e-300


def test_rate_is_the_smallest_possible() -> None:
    """Two equal tokens: d log mmse / d snr = -diam^2/4 at snr = 0, so that no rate below is true.

    Their MMSE is 1 - snr + snr^2 + ..., the bound is 1 - snr + snr^2/2 - ...
    """
    snr = 1e-3
    exact = float(tk.mmse(tk.FSQ((2,)), snr))
    gap = exact - float(bounds.mmse_decay_bound(tk.FSQ((2,)), snr).value)
    assert 0 < gap < 0.6 * snr**2
