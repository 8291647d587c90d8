"""`bracket`: lower <= quantity <= upper, for every kind of codebook, from the geometry alone."""

import numpy as np
import pytest
from hypothesis import given, settings

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.bounds._bracket import ASKED, brackets
from tokenkl.testing import codebooks, exact_codebooks, reference_profile, snrs


@settings(max_examples=15)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    found = reference_profile(codebook, snr)
    for name in ASKED:
        bracket = tk.bracket(codebook, snr, name)
        assert_bound(bracket.lower, found[name])
        assert_bound(bracket.upper, found[name])


@pytest.mark.slow
@settings(max_examples=12)
@given(exact_codebooks(), snrs())
def test_exact_codebooks_and_known_quantities(codebook: tk.Codebook, snr: float) -> None:
    found = tk.profile(codebook, snr, ASKED)
    for name in ASKED:
        free = tk.bracket(codebook, snr, name)
        told = tk.bracket(codebook, snr, name, known={"mmse": found["mmse"]})
        for one in (free, told):
            assert_bound(one.lower, found[name])
            assert_bound(one.upper, found[name])
        assert told.width <= free.width * (1 + 1e-9) + 1e-15


#: Token counts, grids of up to 1e18 tokens, and laws with tokens that hardly ever occur.
WHERE_DIGITS_ARE_LOST = {
    **{
        f"{L}^{n}": tk.FSQ((L,) * n)
        for L, n in ((3, 15), (3, 16), (5, 11), (5, 20), (7, 16), (8, 16), (10, 12), (16, 13))
    },
    **{f"one-hot {K}": tk.OneHot(K) for K in (2, 3, 7, 23, 50, 199)},
    **{
        f"rarely {rare:g}": tk.ProductCodebook([[0.0, 1.0, 3.0]], [[1 - 3 * rare, rare, 2 * rare]])
        for rare in (1e-4, 6.5e-8, 1.6e-11, 1e-17, 1e-40, 1e-290)
    },
}


@pytest.mark.parametrize("name", WHERE_DIGITS_ARE_LOST)
def test_ends_hold_where_digits_are_lost(name: str) -> None:
    """Of 1 - accuracy next to 1, and of H(prior) - H where nothing is told."""
    book = WHERE_DIGITS_ARE_LOST[name]
    snr = np.array([0.0, 1e-300, 1e-18, 1e-15, 1e-12, 1e-6, 1e-3, 1.0, 1e4])
    found = tk.profile(book, snr, ASKED)
    for told in (None, *ASKED):
        ends = brackets(book, snr, ASKED, known={told: found[told]} if told else None)
        for quantity, bracket in ends.items():
            one = found[quantity]
            assert (bracket.lower.value <= one.value + one.numerical_error).all(), (told, quantity)
            assert (bracket.upper.value >= one.value - one.numerical_error).all(), (told, quantity)


def test_names_say_which_bound_is_the_tightest() -> None:
    grid = tk.FSQ((3,) * 4)
    found = tk.bracket(grid, np.array([1e-4, 1e3]), "error_probability")
    assert found.upper_names[1] == "by part < union bound"
    assert found.lower_names[1] in ("by part < Bonferroni, second order", "by part < de Caen")
    points = tk.bracket(tk.PointCodebook(grid.points), 1e-4, "error_probability")
    assert str(points.lower_names) == "any tokens in the box"
    assert found.lower.direction == "lower"
    assert found.upper.quantity == "error_probability"
    assert found.width.shape == (2,)
    exact = tk.error_probability(grid, 1e3).value
    assert found.upper.value[1] / exact < 1 + 1e-6
    assert found.lower.value[1] / exact > 1 - 1e-6


def test_known_quantities_enter() -> None:
    points = tk.PointCodebook(np.random.default_rng(0).normal(size=(40, 5)))
    free = tk.bracket(points, 2.0, "sampling_error")
    known = {"accuracy": tk.accuracy(points, 2.0, key=1)}
    told = tk.bracket(points, 2.0, "sampling_error", known=known)
    assert told.width < free.width
    assert "known error_probability" in str(told.upper_names) + str(told.lower_names)


def test_large_codebooks_are_not_materialised() -> None:
    huge = tk.FSQ((17,) * 12)
    for name in ASKED:
        found = tk.bracket(huge, np.array([0.01, 100.0, 1e5]), name)
        exact = tk.profile(huge, np.array([0.01, 100.0, 1e5]), [name])[name]
        assert_bound(found.lower, exact)
        assert_bound(found.upper, exact)
    vocabulary = tk.OneHot(50_000)
    found = tk.bracket(vocabulary, 30.0, "accuracy")
    assert found.lower.value <= tk.accuracy(vocabulary, 30.0).value <= found.upper.value


def test_bad_names() -> None:
    with pytest.raises(ValueError, match="quantity must be one of"):
        tk.bracket(tk.FSQ((2,)), 1.0, "loss")
    with pytest.raises(ValueError, match="known must be one of"):
        tk.bracket(tk.FSQ((2,)), 1.0, "mmse", known={"loss": 1.0})
    with pytest.raises(ValueError, match="snr must be at least 0"):
        bounds.bracket(tk.FSQ((2,)), -1.0, "mmse")


def _relations(codebook: tk.Codebook, snr: np.ndarray, ends: dict) -> list:
    """Quantity, side, and what another quantity's end says about it."""
    low = {name: np.asarray(one.lower.value) for name, one in ends.items()}
    high = {name: np.asarray(one.upper.value) for name, one in ends.items()}
    error, share, entropy = "error_probability", "sampling_error", "conditional_entropy"
    K, prior_entropy = codebook.K, float(codebook.prior_entropy())
    return [
        (share, 0, bounds.sampling_error_above_error(low[error])),
        (share, 1, bounds.cover_hart_sampling_error(high[error], K)),
        (entropy, 0, bounds.kovalevsky_entropy(low[error])),
        (entropy, 1, bounds.fano_entropy(high[error], K)),
        (error, 0, bounds.cover_hart_error(low[share], K)),
        (error, 1, bounds.error_below_sampling_error(high[share])),
        ("mmse", 0, bounds.mmse_above_sampling_error(codebook, low[share])),
        ("mmse", 1, bounds.mmse_below_sampling_error(codebook, high[share])),
        (error, 0, bounds.fano_error(low[entropy], K)),
        (error, 1, bounds.kovalevsky_error(high[entropy])),
        ("mutual_information", 0, prior_entropy - high[entropy]),
        ("mutual_information", 1, prior_entropy - low[entropy]),
        ("mmse", 1, bounds.mmse_below_information(high["mutual_information"], snr)),
        ("mutual_information", 0, bounds.information_above_mmse(low["mmse"], snr)),
    ]


@pytest.mark.parametrize("known", [None, "error_probability", "conditional_entropy", "mmse"])
@pytest.mark.parametrize(
    "codebook",
    [tk.OneHot(5), tk.d_codebook(3, 3), tk.FSQ((3, 2)), tk.ProductCodebook([[0.0, 0.1, 3.0]])],
    ids=repr,
)
def test_no_end_of_one_quantity_says_more_about_another(
    codebook: tk.Codebook, known: str | None
) -> None:
    """Whatever is known to begin with, all that follows from it has been drawn."""
    snr = np.array([1e-3, 0.3, 2.0, 9.0, 60.0])
    told = {known: tk.profile(codebook, snr, key=0)[known]} if known else None
    ends = brackets(codebook, snr, ASKED, known=told)
    for name, side, bound in _relations(codebook, snr, ends):
        value = np.asarray(getattr(bound, "value", bound))
        slack = 1e-9 * np.abs(value) + 1e-12
        if side == 0:
            assert (ends[name].lower.value >= value - slack).all(), (name, bound)
        else:
            assert (ends[name].upper.value <= value + slack).all(), (name, bound)


def test_points_too_many_for_pairs() -> None:
    points = tk.PointCodebook(np.arange(2.0**15 + 1)[:, None])
    found = tk.bracket(points, 0.5, "error_probability")
    exact = tk.error_probability(points, 0.5).value
    assert found.lower.value <= exact <= found.upper.value
    assert "union bound" not in str(found.upper_names)
