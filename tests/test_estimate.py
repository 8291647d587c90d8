"""Estimates: intervals, units, indexing, arithmetic, pytrees, files; bounds are no values."""

import dataclasses
import json
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

import tokenkl as tk


def test_interval_adds_sampling_and_numerical_error() -> None:
    estimate = tk.Estimate(2.0, standard_error=0.1, numerical_error=0.05, n_samples=100)
    low, high, level = estimate.confidence_interval(0.95)
    half = special.ndtri(0.975) * 0.1 + 0.05
    np.testing.assert_allclose([low, high], [2 - half, 2 + half])
    assert level == 0.95
    with pytest.raises(ValueError, match="level must be"):
        estimate.confidence_interval(1.0)


def test_unsupported_interval_is_the_bernstein_bound() -> None:
    """Maurer and Pontil (2009): sqrt(2 V log(4/delta) / n) + 7 R log(4/delta) / (3 (n - 1))."""
    estimate = tk.Estimate(
        0.0, standard_error=0.0, n_samples=1001, interval_supported=False, sample_range=1.0
    )
    low, high, _ = estimate.confidence_interval(0.95)
    np.testing.assert_allclose(high, 7 * np.log(80) / 3000)
    assert low == -high  # never clamped


def test_negative_values_stay() -> None:
    assert float(tk.Estimate(-1e-3, 0.01, unit="nats", quantity="mutual_information")) == -1e-3


def test_bits() -> None:
    estimate = tk.Estimate(np.log(2.0), 0.1 * np.log(2.0), unit="nats")
    assert estimate.bits.unit == "bits"
    np.testing.assert_allclose([estimate.bits.value, estimate.bits.standard_error], [1, 0.1])
    assert estimate.bits.bits is not None
    with pytest.raises(ValueError, match="bits must be asked of"):
        tk.accuracy(tk.FSQ((2,)), 1.0).bits  # noqa: B018


def test_indexing_and_arrays() -> None:
    estimate = tk.conditional_entropy(tk.FSQ((3,)), [0.5, 1.0, 2.0])
    assert float(estimate[1]) == float(tk.conditional_entropy(tk.FSQ((3,)), 1.0))
    np.testing.assert_array_equal(np.asarray(estimate), estimate.value)
    assert estimate.numerical_error.shape == (3,)


def test_repr_names_quantity_value_unit_and_method() -> None:
    text = repr(tk.mutual_information(tk.FSQ((2,)), 1.0))
    for part in ("mutual_information", "nats", "exact"):
        assert part in text
    assert "note here" in repr(dataclasses.replace(tk.Estimate(1.0), note="note here"))


def test_bound_is_no_number() -> None:
    bound = tk.Bound(0.3, "upper", "union bound")
    assert "<=" in repr(bound)
    with pytest.raises(TypeError):
        float(cast(Any, bound))


@pytest.mark.parametrize(("freedom", "level"), [(1, 0.95), (4, 0.95), (15, 0.95), (15, 1 - 1e-6)])
def test_few_degrees_of_freedom(freedom: int, level: float) -> None:
    """Student's quantile, by integrating his density: 2.13 rather than 1.96 for 15 and 95 %."""
    constant = special.gamma((freedom + 1) / 2) / special.gamma(freedom / 2)
    constant /= np.sqrt(freedom * np.pi)
    estimate = tk.Estimate([1.0, 1.0], 0.1, n_samples=64, degrees_of_freedom=[freedom, np.inf])
    low, high, _ = estimate.confidence_interval(level)
    np.testing.assert_allclose(high[1], 1 + 0.1 * special.ndtri(0.5 + level / 2), rtol=1e-12)
    np.testing.assert_allclose(low + high, 2, rtol=1e-12)
    tail, _ = integrate.quad(
        lambda t: constant * (1 + t**2 / freedom) ** (-(freedom + 1) / 2),
        10 * (high[0] - 1),
        np.inf,
        epsabs=0,
    )
    assert tail == pytest.approx((1 - level) / 2, rel=1e-6)


def test_student_and_skewness_together() -> None:
    """The shift of a skewed estimate grows with Student's quantile, not with the normal one."""
    t = special.stdtrit(5, 0.975)
    estimate = tk.Estimate(0.0, 0.1, n_samples=9, degrees_of_freedom=5, skewness=0.3)
    low, high, _ = estimate.confidence_interval(0.95)
    np.testing.assert_allclose((low + high) / 2, (1 + 2 * t**2) / 6 * 0.3 * 0.1, rtol=1e-12)
    np.testing.assert_allclose((high - low) / 2, t * 0.1, rtol=1e-12)


@given(st.floats(-4, 4), st.sampled_from([2.0, 15.0, np.inf]), st.booleans())
def test_intervals_are_nested_and_hold_the_value(
    skewness: float, freedom: float, supported: bool
) -> None:
    estimate = tk.Estimate(
        3.0, 0.1, n_samples=40, degrees_of_freedom=freedom, skewness=skewness, sample_range=1.0,
        interval_supported=supported,
    )  # fmt: skip
    levels = 1 - np.geomspace(0.9, 1e-12, 60)
    ends = np.array([estimate.confidence_interval(level)[:2] for level in levels])
    assert (np.diff(ends[:, 0]) < 0).all()
    assert (np.diff(ends[:, 1]) > 0).all()
    assert (ends[:, 0] < 3).all()
    assert (ends[:, 1] > 3).all()


# ---------------------------------------------------------------- pytrees


FIELDS = [field.name for field in dataclasses.fields(tk.Estimate)]
GRID = tk.ProductCodebook([[0.0, 1.0, 3.0], [-1.0, 1.0]])
SAMPLED = tk.profile(
    tk.e8_codebook(),
    [0.3, 1.0],
    key=3,
    method=tk.MonteCarlo(n_samples=256, variance_reduction=False),
)


def same(one: tk.Estimate, other: tk.Estimate) -> None:
    assert one.method == other.method
    for name in set(FIELDS) - {"method"}:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_a_tree_of_leaves_and_back() -> None:
    levels = tk.Estimate([1.0, 2.0], 0.1, 0.2, [5, 6], "m", 3, "q", "nats", [True, False])
    plain = dataclasses.replace(levels, n_samples=9, sample_range=[1.0, np.inf], draws=((3,),))
    for estimate, leaves in ((levels, 7), (plain, 7), (SAMPLED["mmse"], 6), (tk.Estimate(1.0), 6)):
        found, structure = jax.tree.flatten(estimate)
        assert len(found) == leaves
        same(jax.tree.unflatten(structure, found), estimate)
        assert hash(structure) == hash(jax.tree.structure(jax.tree.map(lambda x: x, estimate)))
        # What JAX puts in place of leaves is not looked at, and does not change what is a leaf.
        for sentinel in (object(), 0, 0.5):
            odd = jax.tree.structure(jax.tree.unflatten(structure, [sentinel] * leaves))
            assert cast(Any, odd) == structure
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(levels)]
    assert names[:2] == [".value", ".standard_error"]
    assert names[-1] == ".n_samples"


def test_profiles_and_bounds_are_trees() -> None:
    back = jax.tree.map(lambda x: x, SAMPLED)
    assert list(back.estimates) == list(SAMPLED.estimates)  # not in alphabetical order
    assert (back.label, back.K, back.n) == (SAMPLED.label, SAMPLED.K, SAMPLED.n)
    for name, estimate in SAMPLED.estimates.items():
        same(back[name], estimate)
    doubled = jax.tree.map(lambda x: 2 * x, tk.Bound(np.ones(2), "upper", "Fano", unit="nats"))
    assert (doubled.direction, doubled.name, doubled.unit) == ("upper", "Fano", "nats")
    np.testing.assert_array_equal(doubled.value, [2, 2])


@pytest.mark.parametrize(
    "codebook", [tk.FSQ((3, 3)), GRID, tk.OneHot(2)], ids=lambda one: one.label
)
def test_estimators_under_transformations(codebook: tk.Codebook) -> None:
    snr = np.array([0.5, 1.0, 2.0])
    exact = tk.mmse(codebook, snr)
    batch = jax.jit(jax.vmap(lambda s: tk.mmse(codebook, s, key=0)))(snr)
    assert isinstance(batch, tk.Estimate)
    assert (batch.quantity, batch.unit) == (exact.quantity, exact.unit)
    assert batch.standard_error.shape == batch.interval_supported.shape == (3,)
    tolerance = 0.1 if batch.draws else 1e-5  # OneHot is sampled where it is traced
    np.testing.assert_allclose(batch.value, exact.value, rtol=tolerance)


@pytest.mark.slow
def test_slopes_of_arithmetic() -> None:
    codebook = tk.FSQ((2,))
    one = jax.jit(lambda s: tk.accuracy(codebook, s))(1.0)
    assert float(one) == pytest.approx(float(tk.accuracy(codebook, 1.0)), rel=1e-5)
    slope = jax.grad(lambda s: (2 * tk.accuracy(codebook, s) / 4 - 1).value)(1.0)
    # P(N < h) with h = sqrt(snr), halved.
    assert float(slope) == pytest.approx(np.exp(-0.5) / np.sqrt(2 * np.pi) / 4, rel=1e-5)


def test_a_profile_under_transformations() -> None:
    codebook, snr = tk.FSQ((2,)), np.array([1.0, 2.0])
    found = jax.jit(lambda s: tk.profile(codebook, s, ["mmse", "accuracy"]))(snr)
    assert isinstance(found, tk.Profile)
    assert list(found.estimates) == ["mmse", "accuracy"]
    assert found.snr.shape == (2,)
    np.testing.assert_allclose(found["mmse"].value, tk.mmse(codebook, snr).value, rtol=1e-5)


def test_estimates_go_into_transformations() -> None:
    both = jax.jit(lambda a, b: 2 * a - b / 4 + 1)(SAMPLED["mmse"], tk.mmse(GRID, 1.0))
    plain = 2 * SAMPLED["mmse"] - tk.mmse(GRID, 1.0) / 4 + 1
    for name in ("value", "standard_error", "skewness", "degrees_of_freedom", "sample_range"):
        np.testing.assert_allclose(getattr(both, name), getattr(plain, name), rtol=1e-5)
    assert (both.n_samples, both.draws, both.unit) == (256, ((3,),), "squared distance")
    assert "not tracked" in jax.eval_shape(lambda s: _seen(tk.mmse(GRID, s)), np.ones(2)).note


def _seen(estimate: tk.Estimate) -> tk.Estimate:
    return dataclasses.replace(estimate, note=repr(estimate))


# ---------------------------------------------------------------- arithmetic


ONE = tk.Estimate(2.0, 0.3, 0.01, 101, "a", 1, "x", "nats", True, 4.0, "n", 0.2, 10, ((1,),))
TWO = tk.Estimate(1.0, 0.4, 0.02, 201, "b", 2, "y", "nats", True, 6.0, "", -0.1, 20, ((2,),))
UNNAMED = tk.Estimate(1.0, 0.1)


def test_a_sum_of_independent_estimates() -> None:
    total = ONE + TWO
    assert (total.value, total.n_samples, total.unit) == (3.0, 302, "nats")
    assert total.standard_error == pytest.approx(0.5)
    assert total.numerical_error == pytest.approx(0.03)
    assert (str(total.method), total.note, total.seed, total.quantity) == ("a, b", "n", None, "")
    assert total.draws == ((1,), (2,))
    # Third cumulants add; so do squared variances over the degrees of freedom.
    assert total.skewness * 0.5**3 == pytest.approx(0.2 * 0.3**3 - 0.1 * 0.4**3)
    assert 0.5**4 / total.degrees_of_freedom == pytest.approx(0.3**4 / 10 + 0.4**4 / 20)
    less = ONE - TWO
    assert (less.value, less.standard_error) == (1.0, total.standard_error)
    assert less.skewness * 0.5**3 == pytest.approx(0.2 * 0.3**3 + 0.1 * 0.4**3)
    assert not (ONE + dataclasses.replace(TWO, interval_supported=False)).interval_supported


def test_parts_of_one_sample_make_the_whole() -> None:
    """The average of two halves' averages has the error and the skewness of the whole sample's."""
    halves = np.random.default_rng(0).exponential(size=(2, 500))
    error, third = halves.std(axis=1) / np.sqrt(500), stats.skew(halves, axis=1) / np.sqrt(500)
    first, second = (
        tk.Estimate(row.mean(), e, n_samples=500, skewness=s, seed=i)
        for i, (row, e, s) in enumerate(zip(halves, error, third, strict=True))
    )
    mean = (first + second) / 2
    assert float(mean) == pytest.approx(halves.mean(), rel=1e-14)
    assert mean.n_samples == 1000
    inside = halves - halves.mean(axis=1, keepdims=True)
    spread = np.sqrt((inside**2).mean())
    assert mean.standard_error == pytest.approx(spread / np.sqrt(1000))
    assert mean.skewness == pytest.approx((inside**3).mean() / spread**3 / np.sqrt(1000))


def test_intervals_of_differences_cover() -> None:
    """20000 differences of means of few draws: normal ones, and rare ones by Bernstein's bound."""
    rng, runs = np.random.default_rng(1), 20000
    parts = []
    for key, (n, spread) in enumerate([(5, 1.0), (12, 3.0)]):
        draws = spread * rng.standard_normal((runs, n))
        error = draws.std(axis=1, ddof=1) / np.sqrt(n)
        drawn: dict[str, Any] = {"n_samples": n, "degrees_of_freedom": n - 1, "draws": ((key,),)}
        parts.append(tk.Estimate(draws.mean(axis=1), error, **drawn))
    low, high, _ = (parts[0] - 2 * parts[1]).confidence_interval()
    assert 0.945 <= np.mean((low <= 0) & (high >= 0)) <= 0.96
    parts = []
    for key, (n, rate) in enumerate([(40, 0.02), (400, 0.002)]):
        rare = rng.random((runs, n)) < rate
        error = rare.std(axis=1, ddof=1) / np.sqrt(n)
        drawn = {"n_samples": n, "interval_supported": False, "draws": ((key,),)}
        parts.append(tk.Estimate(rare.mean(axis=1), error, sample_range=1.0, **drawn))
    low, high, _ = (parts[0] - parts[1]).confidence_interval()
    assert np.mean((low <= 0.018) & (high >= 0.018)) >= 0.95


def test_bernstein_bounds_of_a_sum() -> None:
    """What has no variance in it adds up: 7 R log(4/delta) / (3 (n - 1)) of each."""
    flat = [
        dataclasses.replace(one, standard_error=0.0, interval_supported=False) for one in (ONE, TWO)
    ]
    halves = [one.confidence_interval().high - one.value for one in flat]
    total = flat[0] + flat[1]
    high = total.confidence_interval().high
    np.testing.assert_allclose(high - total.value, sum(halves), rtol=1e-12)
    exact = tk.Estimate(5.0, unit="nats")
    assert (flat[0] + exact).confidence_interval().high == pytest.approx(halves[0] + 7)
    unknown = dataclasses.replace(TWO, sample_range=np.inf)
    assert (flat[0] + unknown).confidence_interval().high == np.inf


def test_multiples() -> None:
    for multiple in (-2 * ONE, ONE * -2, np.float64(-2) * ONE, ONE / -0.5, -ONE - ONE.value):
        assert multiple.value == -4
    half = ONE / -2
    assert (half.value, half.standard_error, half.skewness) == (-1.0, 0.15, -0.2)
    assert (half.sample_range, half.degrees_of_freedom, half.n_samples) == (2.0, 10, 101)
    assert half.numerical_error == pytest.approx(0.005)
    weights = np.array([0.0, 1.0, -3.0])
    products: list[Any] = [weights * ONE, ONE * weights, jnp.asarray(weights) * ONE]
    for many in products:
        np.testing.assert_array_equal(many.value, [0, 2, -6])
        np.testing.assert_allclose(many.standard_error, [0, 0.3, 0.9])
        np.testing.assert_array_equal(many.sample_range, [0, 4, 12])
        np.testing.assert_array_equal(many[2].sample_range, 12)
    assert (0 * tk.Estimate(1.0, 0.1, n_samples=9)).sample_range == 0  # of an infinite one
    assert float(1 - ONE) == -1
    assert (1 - ONE).standard_error == 0.3
    with pytest.raises(TypeError):
        ONE * TWO
    with pytest.raises(TypeError):
        ONE / TWO
    with pytest.raises(ValueError, match=r"^a divisor must be other than 0; got 0\.$"):
        ONE / 0
    with pytest.raises(ValueError, match=r"^a factor must be an array of real numbers; got"):
        ONE * "2"


def test_sums_start_at_zero() -> None:
    assert float(sum([ONE, TWO])) == 3
    assert sum([ONE]) is ONE
    spread = tk.Estimate(1.0) + np.zeros(3)
    assert spread.value.shape == spread.numerical_error.shape == (3,)


def test_arithmetic_rounds() -> None:
    tiny = tk.error_probability(tk.FSQ((2, 2)), 1200.0)
    assert 0 < tiny.value < 1e-250
    low, high, _ = (1 + tiny).confidence_interval()
    assert low < 1 < high


def test_shared_draws_do_not_add() -> None:
    entropy, other = SAMPLED["conditional_entropy"], SAMPLED["mutual_information"]
    sentence = r"^the estimates of a sum must be independent, .*; got two that share draws\.$"
    for add in (
        lambda: ONE + ONE,
        lambda: ONE - ONE,
        lambda: (ONE + TWO) - TWO,
        lambda: ONE + 2 * ONE,
        lambda: entropy + other,
        lambda: entropy[0] - entropy[1],
        lambda: sum(cast(Any, tk.Estimate.stack([ONE, TWO]))),
        lambda: UNNAMED + UNNAMED,
    ):
        with pytest.raises(ValueError, match=sentence):
            add()
    again = tk.conditional_entropy(
        tk.e8_codebook(), [0.3, 1.0], key=4, method=tk.MonteCarlo(n_samples=256)
    )
    assert (entropy - again).draws == ((3,), (4,))
    jax_key = tk.mmse(tk.e8_codebook(), 0.3, key=jax.random.key(7))
    assert jax_key.draws == ((0, 7),)
    exact = tk.mmse(GRID, 1.0)
    assert float(exact + exact) == 2 * float(exact)  # nothing is drawn


def test_units_do_not_mix() -> None:
    with pytest.raises(
        ValueError, match=r"^the estimates of a sum must be of one unit; got nats and"
    ):
        ONE + tk.Estimate(1.0, unit="bits")
    with pytest.raises(ValueError, match=r"got none and nats\.$"):
        tk.Estimate(1.0) - ONE


def test_stack() -> None:
    both = tk.Estimate.stack([ONE, TWO])
    np.testing.assert_array_equal(both.n_samples, [101, 201])
    np.testing.assert_array_equal(both.sample_range, [4, 6])
    assert (both.quantity, both.seed, both.draws) == ("", None, ((1,), (2,)))
    assert [str(both[index].method) for index in (0, 1)] == ["a", "b"]
    for index, one in enumerate((ONE, TWO)):
        for name in FIELDS[:4]:
            assert getattr(both[index], name) == getattr(one, name)
    alike = tk.Estimate.stack([ONE, ONE])
    assert (alike.n_samples, alike.sample_range, alike.quantity, alike.seed) == (101, 4.0, "x", 1)
    assert tk.Estimate.stack([both, both]).n_samples.shape == (2, 2)
    for wrong, sentence in (
        ([], "at least one; got none"),
        ([ONE, both], r"of one shape; got \(\) and \(2,\)"),
        ([ONE, tk.Estimate(1.0)], "of one unit; got nats and none"),
    ):
        with pytest.raises(ValueError, match=sentence):
            tk.Estimate.stack(wrong)


def test_json_there_and_back() -> None:
    empty = tk.Estimate(np.zeros((0, 3)))
    odd = tk.Estimate([[np.inf, np.nan, -0.0]], 1e-310, n_samples=[[1, 2, 3]], draws=((1, 2**70),))
    for estimate in (ONE, odd, empty, *SAMPLED.estimates.values(), tk.mmse(GRID, 1.0)):
        text = json.dumps(estimate.to_json(), allow_nan=False)
        back = tk.Estimate.from_json(json.loads(text))
        same(back, estimate)
        assert back.to_json() == estimate.to_json()
    record = ONE.to_json()
    assert tk.Estimate.from_json(record | {"more": 1}).value == ONE.value
    for change in ({"value": "x"}, {"shape": [2]}, {"unit": 3}, {"draws": 1}, {"n_samples": "inf"}):
        with pytest.raises(ValueError, match=r"^record must be what Estimate.to_json gives"):
            tk.Estimate.from_json(record | change)
    del record["note"]
    with pytest.raises(ValueError, match="KeyError"):
        tk.Estimate.from_json(record)
