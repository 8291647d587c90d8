"""Data processing: nothing done to token or observation tells more."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.testing import (
    codebooks,
    exact_codebooks,
    point_codebooks,
    priors,
    reference_profile,
    snrs,
)


def slack(*estimates: tk.Estimate) -> float:
    return sum(float(one.numerical_error) for one in estimates)


@settings(max_examples=30)
@given(point_codebooks(), snrs())
def test_dropping_a_coordinate(codebook: tk.PointCodebook, snr: float) -> None:
    """I(k; Y_1) <= I(k; Y) and the error grows; tokens may coincide in what is left."""
    less = tk.PointCodebook(codebook.points[:, :1], codebook.prior, allow_duplicates=True)
    before, after = reference_profile(codebook, snr), reference_profile(less, snr)
    for name, sign in (("mutual_information", 1), ("error_probability", -1)):
        error = slack(before[name], after[name])
        assert sign * (before[name].value - after[name].value) >= -error, name


@settings(max_examples=30)
@given(codebooks(), snrs(), st.floats(0.05, 0.95))
def test_adding_noise(codebook: tk.Codebook, snr: float, share: float) -> None:
    """Noise added to Y is a smaller SNR: less information, more error, entropy and MMSE."""
    before = reference_profile(codebook, snr)
    after = reference_profile(codebook, snr * share)
    for name, sign in (
        ("mutual_information", 1),
        ("error_probability", -1),
        ("sampling_error", -1),
        ("conditional_entropy", -1),
        ("mmse", -1),
    ):
        error = slack(before[name], after[name])
        assert sign * (before[name].value - after[name].value) >= -error, name


@settings(max_examples=30)
@given(point_codebooks(), snrs())
def test_a_function_of_the_token(codebook: tk.PointCodebook, snr: float) -> None:
    """Only the first coordinate of the token matters: I(f(k); Y) <= I(k; Y).

    f(k) = parity. H(f(k) | Y) comes from I(k; Y) = I(f; Y) + I(k; Y | f), each part a codebook.
    """
    parity = np.arange(codebook.K) % 2
    given = 0.0
    error = 0.0
    for value in (0, 1):
        own = parity == value
        mass = codebook.prior[own].sum()
        part = tk.PointCodebook(codebook.points[own], codebook.prior[own] / mass)
        found = reference_profile(part, snr)["mutual_information"]
        given += mass * found.value
        error += found.numerical_error
    whole = reference_profile(codebook, snr)["mutual_information"]
    of_parity = whole.value - given
    masses = np.array([codebook.prior[parity == value].sum() for value in (0, 1)])
    coin = -(masses * np.log(masses)).sum()
    assert -error - whole.numerical_error <= of_parity <= coin + error + whole.numerical_error


@given(exact_codebooks(), snrs(), st.floats(0.05, 0.95))
def test_adding_noise_with_relative_precision(
    codebook: tk.Codebook, snr: float, share: float
) -> None:
    found = tk.profile(codebook, np.array([snr * share, snr]))
    information = found["mutual_information"].value
    assert information[0] <= information[1] * (1 + 1e-9)


@given(st.sampled_from((2, 3, 5, 9)).flatmap(priors), st.floats(0, 1), st.floats(0, 1))
def test_more_noise_in_every_channel(prior: np.ndarray | None, one: float, other: float) -> None:
    """Each channel at more noise is itself, followed by noise: a snr falls, replacements grow.

    Masks on masks are masks, and 1 - m = (1 - m1) (1 - m2); so for replacements.
    """
    law = np.array([0.5, 0.5]) if prior is None else prior
    low, high = min(one, other), max(one, other)
    onehot = tk.Gaussian(tk.OneHot(law.size, law))
    for channel, levels in (
        (onehot, np.array([10 * high, 10 * low])),
        (tk.Masking(law), np.array([low, high])),
        (tk.UniformNoise(law), np.array([low, high])),
    ):
        found = channel.profile(levels)
        for name, sign in (
            ("mutual_information", 1),
            ("accuracy", 1),
            ("error_probability", -1),
            ("conditional_entropy", -1),
        ):
            fall = sign * (found[name].value[0] - found[name].value[1])
            assert fall >= -found[name].numerical_error.sum(), (channel, name)


@given(st.sampled_from((2, 3, 5, 9)).flatmap(priors), st.floats(0, 1))
def test_masks_lose_their_share(prior: np.ndarray | None, masked: float) -> None:
    """I = (1 - m) H(prior), and the posterior under the mask is the prior."""
    law = np.array([0.5, 0.5]) if prior is None else prior
    found = tk.Masking(law).profile(masked)
    entropy = -(law * np.log(law)).sum()
    np.testing.assert_allclose(
        found["mutual_information"].value, (1 - masked) * entropy, rtol=1e-13, atol=1e-15
    )
