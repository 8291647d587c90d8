"""Bit-metric decoding (docs/theory/bits.md, B1): H(B) - sum_i H(B_i|Y) <= I(token; Y)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.testing import level_arrays, priors, snrs


@st.composite
def labelled(draw: st.DrawFn) -> tuple[tk.Codebook, np.ndarray]:
    """Points on a line with any prior, and any labels of one to three bits."""
    levels = draw(level_arrays((2, 3, 5)))
    size, width = levels.size, draw(st.integers(1, 3))
    bits = draw(st.lists(st.integers(0, 1), min_size=size * width, max_size=size * width))
    book = tk.ProductCodebook([levels], [draw(priors(size))])
    return book, np.array(bits).reshape(size, width)


@given(labelled(), snrs(-40, 40))
def test_at_most_the_information(case: tuple[tk.Codebook, np.ndarray], snr: float) -> None:
    book, labels = case
    found = tk.bit_metric_information(book, labels, snr)
    most = tk.mutual_information(book, snr)
    assert float(found) <= float(most) + found.numerical_error + most.numerical_error


@given(level_arrays((2,)), priors(2), snrs(-40, 40))
def test_one_bit_of_two_tokens_is_the_token(
    levels: np.ndarray, prior: np.ndarray | None, snr: float
) -> None:
    book = tk.ProductCodebook([levels], [prior])
    found = tk.bit_metric_information(book, [[0], [1]], snr)
    whole = tk.mutual_information(book, snr)
    slack = found.numerical_error + whole.numerical_error
    assert abs(float(found) - float(whole)) <= slack


@given(labelled(), snrs(-40, 40), st.integers(0, 2))
def test_names_of_bits_do_not_matter(
    case: tuple[tk.Codebook, np.ndarray], snr: float, bit: int
) -> None:
    """Complementing a bit, and reversing their order."""
    book, labels = case
    other = labels[:, ::-1].copy()
    other[:, bit % labels.shape[1]] ^= 1
    found, same = (tk.bit_metric_information(book, one, snr) for one in (labels, other))
    assert abs(float(found) - float(same)) <= found.numerical_error + same.numerical_error
    method = tk.MonteCarlo(n_samples=64)
    one, two = (
        tk.bit_metric_information(book, names, snr, method=method, key=0)
        for names in (labels, other)
    )
    np.testing.assert_allclose(one.value, two.value, rtol=1e-9, atol=1e-13)
