"""H is convex with slope -mmse/2: tangents below, chords above; (snr/2) mmse <= I <= H(prior)."""

from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs(), st.floats(0.3, 0.97), st.floats(1.03, 3.0))
def test_tangent_and_chord(codebook: tk.Codebook, snr: float, below: float, above: float) -> None:
    found = reference_profile(codebook, snr)
    left = reference_profile(codebook, snr * below)["conditional_entropy"]
    right = reference_profile(codebook, snr * above)["conditional_entropy"]
    entropy, mmse = found["conditional_entropy"], found["mmse"]
    for factor, other in ((below, left), (above, right)):
        assert_bound(bounds.tangent_entropy_bound(entropy, mmse, snr, snr * factor), other)
    chord = bounds.chord_entropy_bound((left, right), (snr * below, snr * above), snr)
    assert_bound(chord, entropy)


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_area_under_a_falling_curve(codebook: tk.Codebook, snr: float) -> None:
    found = reference_profile(codebook, snr)
    information, mmse = found["mutual_information"], found["mmse"]
    assert_bound(bounds.information_above_mmse(mmse, snr), information)
    # Dividing by the SNR divides the numerical error too.
    limit = bounds.mmse_below_information(information, snr)
    assert float(mmse.value) - mmse.numerical_error <= limit.value * (1 + 1e-10)


def test_tangent_touches() -> None:
    """To second order, so that its slope is right: a factor 2 would show at once."""
    cube, snr, step = tk.FSQ((2, 3)), 2.0, 1e-4
    found = tk.profile(cube, [snr - step, snr, snr + step])
    entropy, mmse = found["conditional_entropy"].value, found["mmse"].value
    for at, value in ((snr - step, entropy[0]), (snr + step, entropy[2])):
        bound = bounds.tangent_entropy_bound(entropy[1], mmse[1], snr, at).value
        assert 0 <= value - bound < step**2
    chord = bounds.chord_entropy_bound((entropy[0], entropy[2]), (snr - step, snr + step), snr)
    assert 0 <= chord.value - entropy[1] < step**2
    low = tk.profile(cube, 1e-8)
    assert (
        abs(
            bounds.information_above_mmse(low["mmse"].value, 1e-8).value
            / low["mutual_information"].value
            - 1
        )
        < 1e-6
    )
