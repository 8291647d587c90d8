"""Every check of user input: what passes unchanged, and the sentence for what does not."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenkl import _validation as v
from tokenkl._random import generator, seed_of


def refuses(message: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_the_sentence_names_argument_expectation_and_value() -> None:
    with pytest.raises(ValueError) as caught:
        v.reject("snr", -1.5, "at least 0")
    assert str(caught.value) == "snr must be at least 0; got -1.5."
    with pytest.raises(ValueError) as caught:
        v.reject("x", list(range(1000)), "short")
    assert len(str(caught.value)) < 110


@pytest.mark.parametrize(
    "value", [1, 2.5, True, [1, 2], np.float32(3), np.arange(4, dtype=np.int8), jnp.ones((2, 2))]
)
def test_float_arrays_pass_as_float64_copies(value: Any) -> None:
    array = v.as_float_array("x", value)
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, np.asarray(value))
    assert not np.shares_memory(array, np.asarray(value))


def test_half_precision_of_jax_passes() -> None:
    np.testing.assert_array_equal(v.as_float_array("x", jnp.array([1.5], jnp.bfloat16)), [1.5])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "x must be finite everywhere; got an array holding nan"),
        ([1, np.inf], "holding inf"),
        ([1, -np.inf], "holding -inf"),
        ("abc", "x must be an array of real numbers; got abc"),
        (1j, "real numbers"),
        (None, "real numbers"),
        ([[1], [1, 2]], "real numbers"),
        ([10**400], "real numbers"),
        (object(), "real numbers"),
    ],
)
def test_float_arrays_that_are_refused(value: Any, message: str) -> None:
    refuses(message, v.as_float_array, "x", value)


def test_tensors_are_numbers() -> None:
    torch = pytest.importorskip("torch")
    for given in (torch.ones(2), torch.nn.Parameter(torch.ones(2)), torch.ones(2).bfloat16()):
        np.testing.assert_array_equal(v.as_float_array("x", given), [1, 1])
    np.testing.assert_array_equal(v.check_ids(torch.tensor([0, 2]), 3), [0, 2])
    refuses("finite everywhere", v.as_float_array, "x", torch.tensor([1.0, torch.nan]))
    refuses("real numbers", v.as_float_array, "x", torch.ones(2, dtype=torch.complex64))
    refuses("real numbers", v.as_float_array, "x", torch.ones(2, device="meta"))
    refuses("whole numbers from 0 to 2", v.check_ids, torch.tensor([0.5]), 3)


def test_number_of_axes() -> None:
    refuses(
        r"an array with 2 axes; got an array of shape \(3,\)",
        v.as_float_array,
        "x",
        [1] * 3,
        ndim=2,
    )
    refuses("an array with 0 axes", v.as_float_array, "x", [1], ndim=0)


def test_traced_values_are_checked_by_shape_alone() -> None:
    assert jax.jit(lambda x: v.check_snr(x))(-1.0) == -1
    assert jax.jit(lambda x: v.check_points(x))(jnp.zeros((2, 2))).shape == (2, 2)
    np.testing.assert_allclose(jax.jit(lambda p: v.check_prior(p, 2))(jnp.array([3.0, 4])), [3, 4])
    assert jax.jit(lambda x: v.check_positive(x, "x"))(-1.0) == -1
    assert jax.jit(lambda x: v.check_time(x))(2.0) == 2
    refuses("2 axes", jax.jit(lambda x: v.check_points(x)), jnp.zeros(3))
    refuses("length 3", jax.jit(lambda p: v.check_prior(p, 2)), jnp.ones(3))


def test_snr() -> None:
    np.testing.assert_array_equal(v.check_snr([[0, 1e300]]), [[0, 1e300]])
    refuses("snr must be at least 0 everywhere; got -2.0", v.check_snr, [1, -2])
    refuses("snr must be finite", v.check_snr, np.inf)
    refuses("gamma must be", v.check_snr, -1, "gamma")


def test_points() -> None:
    points = v.check_points([[0, -0.0], [1, 2]])
    assert not np.signbit(points).any()
    for shape in ((0, 2), (2, 0), (0, 0)):
        refuses("K >= 1 and n >= 1", v.check_points, np.zeros(shape))
    refuses("2 axes", v.check_points, [1.0])
    refuses("rows 0 and 2 that are equal", v.check_points, [[1, 2], [3, 4], [1, 2]])
    refuses("rows 0 and 1", v.check_points, [[0.0], [-0.0]])
    assert v.check_points([[1], [1]], allow_duplicates=True).shape == (2, 1)


def test_first_duplicate_in_many_rows() -> None:
    points = np.random.default_rng(0).normal(size=(20_000, 8))
    assert v.first_duplicate(points) is None
    points[15_000] = points[77]
    assert v.first_duplicate(points) == (77, 15_000)
    assert v.first_duplicate(np.asfortranarray(points)) == (77, 15_000)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([0.5, 0.5, 0.0], "strictly positive .* got 0.0 for token 2"),
        ([1.5, -0.5, 0.1], "got -0.5 for token 1"),
        ([0.5, 0.5], "of length K = 3, one probability for each token; got length 2"),
        ([0.5, 0.3, 0.3], "sums to 1; got a sum of 1.1"),
        ([0.3, 0.3, 0.3], "got a sum of 0.9"),
        ([0.5, np.nan, 0.5], "prior must be finite"),
        ([[0.5, 0.3, 0.2]], "1 axes"),
        (0.5, "1 axes"),
        ("abc", "real numbers"),
    ],
)
def test_priors_that_are_refused(prior: Any, message: str) -> None:
    refuses(message, v.check_prior, prior, 3)


def test_priors() -> None:
    assert v.check_prior(None, 3) is None
    off = v.check_prior([0.25 + 5e-7, 0.75], 2)
    assert off.sum() == pytest.approx(1, abs=2e-16)


@pytest.mark.parametrize("K", [2, 7, 1000, 65536])
def test_a_checked_prior_passes_again_bit_for_bit(K: int) -> None:
    rng = np.random.default_rng(K)
    for _ in range(20):
        once = v.check_prior(rng.dirichlet(np.ones(K)) * (1 + 1e-9) + 1e-12, K)
        np.testing.assert_array_equal(v.check_prior(once, K), once)


def test_levels() -> None:
    assert v.check_levels([3, np.int64(2)]) == (3, 2)
    assert v.check_levels(n for n in (3, 2)) == (3, 2)
    refuses(r"a sequence of integers, one for each coordinate, such as .* got 3", v.check_levels, 3)
    refuses("a sequence of integers", v.check_levels, None)
    refuses("at least one coordinate", v.check_levels, ())
    for bad in (0, -1, 2.5, True, "3", None):
        refuses(
            "every entry of levels must be a whole number, at least 1", v.check_levels, [3, bad]
        )
    refuses("every entry of levels must be at most", v.check_levels, [10**12])


def test_counts() -> None:
    assert v.check_count(np.int32(4), "K") == 4
    assert v.check_count(10**30, "K") == 10**30
    for bad in (0, -3, 1.0, True, "1", None, np.nan):
        refuses("K must be a whole number, at least 1", v.check_count, bad, "K")
    refuses("at least 2; got 1", v.check_count, 1, "K", 2)


def test_positive_numbers() -> None:
    assert v.check_positive(np.float32(0.5), "sd") == 0.5
    for bad, message in [(0, "above 0"), (-1, "above 0"), (np.inf, "finite"), ([1.0], "0 axes")]:
        refuses(f"sd must be .*{message}", v.check_positive, bad, "sd")


@pytest.mark.parametrize(
    "ids", [5, [0, 5], [[1], [2]], np.array([3], np.uint8), [1.0, 2.0], [], np.zeros((0, 2), int)]
)
def test_ids(ids: Any) -> None:
    checked = v.check_ids(ids, 6)
    assert checked.dtype == np.int64
    np.testing.assert_array_equal(checked, np.asarray(ids))


@pytest.mark.parametrize(
    "ids",
    [
        6,
        -1,
        [0, 6],
        0.5,
        [np.nan],
        [np.inf],
        [1e300],
        "a",
        [True],
        np.array([2**64 - 1], np.uint64),
    ],
)
def test_ids_that_are_refused(ids: Any) -> None:
    refuses("ids must be whole numbers from 0 to 5", v.check_ids, ids, 6)


def test_ids_of_astronomical_codebooks() -> None:
    assert v.check_ids(2**63 - 1, 10**40) == 2**63 - 1
    assert v.check_ids(np.array([2**63 - 1], np.uint64), 10**40) == [2**63 - 1]
    for K in (6, 10**40):  # unsigned ids that int64 would take for negative ones
        message = rf"whole numbers from 0 to {K - 1}; got {2**64 - 1}\.$"
        with pytest.raises(ValueError, match=message):
            v.check_ids(np.array([3, 2**64 - 1], np.uint64), K)


@pytest.mark.parametrize("K", [2, 10**40])
@pytest.mark.parametrize(
    "ids", [[True, False], [[0], [1, 2]], 1j, ["1"], [None], 2**64, [2.0**63], [np.inf]]
)
def test_ids_of_no_such_type(ids: Any, K: int) -> None:
    with pytest.raises(ValueError, match=r"^ids must be whole numbers from 0 to \d+; got .*\.$"):
        v.check_ids(ids, K)


def test_messages_hold_nothing_that_a_terminal_obeys() -> None:
    with pytest.raises(ValueError, match=r"^x must be y; got ") as caught:
        v.reject("x", "\x1b]0;owned\x07\x1b[31m \u202e\ud800 ä\n1", "y")
    assert str(caught.value) == r"x must be y; got \x1b]0;owned\x07\x1b[31m \u202e\ud800 ä 1."
    for text in ("plain ä 漢 ±", ""):
        assert v.printable(text) == text
    assert v.shortened("abcdef", 6) == "abcdef"
    assert v.shortened("abcdefg", 6) == "abc..."


def test_counts_with_a_largest_value() -> None:
    assert v.check_count(7, "n", 0, 7) == 7
    refuses("n must be a whole number, at most 7", v.check_count, 8, "n", 0, 7)


def test_times() -> None:
    np.testing.assert_array_equal(v.check_time([0, 0.5, 1]), [0, 0.5, 1])
    refuses(r"t must be in \[0, 1\]; got 1.5", v.check_time, [0.2, 1.5])
    refuses(r"got -0.1", v.check_time, -0.1)
    refuses("t must be finite", v.check_time, np.nan)


def test_choices() -> None:
    assert v.check_choice("C", ("C", "F"), "order") == "C"
    refuses("order must be one of 'C', 'F'; got A", v.check_choice, "A", ("C", "F"), "order")


def test_keys() -> None:
    for key in (0, np.int64(3), jax.random.key(1), jax.random.PRNGKey(1)):
        assert generator(key, 1).random() == generator(key, 1).random()
        assert generator(key, 1).random() != generator(key, 2).random()
    assert (seed_of(3), seed_of(jax.random.key(0))) == (3, None)
    for bad in (-1, 1.0, True, None, "a", np.ones(2), jax.random.split(jax.random.key(0))):
        refuses("key must be a whole number, at least 0, or one JAX random key", generator, bad)
