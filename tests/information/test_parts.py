"""Products of codebooks: exact where the parts are, and honest about all of their errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest
from scipy import stats

import tokenkl as tk
from tokenkl.codebooks.digits import Order
from tokenkl.estimate import product_of_independent, union_of_independent
from tokenkl.information.findings import Findings
from tokenkl.quantities import QUANTITIES

RNG = np.random.default_rng(5)
PLANE = tk.PointCodebook(RNG.normal(size=(6, 2)), RNG.dirichlet(np.ones(6)))
SOLID = tk.PointCodebook(RNG.normal(size=(20, 3)))
LINE = tk.PointCodebook([[0.0], [1.0], [2.5]], [0.2, 0.5, 0.3])
GRID = tk.FSQ((3, 2), order="F")
PRODUCT = tk.Product([PLANE, LINE, GRID])
SNR = np.array([0.0, 1e-9, 0.3, 4.0, 200.0])


def as_points(codebook: tk.Codebook) -> tk.PointCodebook:
    return tk.PointCodebook(codebook.points, codebook.prior)


@pytest.mark.parametrize("order", ["C", "F"])
def test_tokens_are_one_of_each_part(order: Order) -> None:
    codebook = tk.Product([PLANE, LINE, GRID], order=order)
    digits = codebook.to_digits(np.arange(codebook.K))
    expected = np.stack(np.unravel_index(np.arange(codebook.K), (6, 3, 6), order=order), axis=-1)
    np.testing.assert_array_equal(digits, expected)
    parts = [part.points[column] for part, column in zip(codebook.parts, digits.T, strict=True)]
    np.testing.assert_array_equal(codebook.points, np.concatenate(parts, axis=1))
    prior = [part.prior[column] for part, column in zip(codebook.parts, digits.T, strict=True)]
    np.testing.assert_allclose(codebook.prior, np.prod(prior, axis=0), rtol=1e-13)
    np.testing.assert_array_equal(codebook.nearest(codebook.points), np.arange(codebook.K))


def test_exact_where_all_parts_are() -> None:
    """Against the trapezoid rule in the plane of each part, and plain sampling of the whole."""
    codebook = tk.Product([LINE, tk.OneHot(4, scale=2.0), GRID])
    names = tuple(QUANTITIES)
    found = tk.profile(codebook, SNR, names)
    assert set(tk.information.exact_quantities(codebook)) == set(QUANTITIES)
    many = tk.MonteCarlo(n_samples=60_000)
    plain = tk.profile(as_points(codebook), SNR, names, method=many, key=1)
    parts = [tk.profile(part, SNR, names) for part in codebook.parts]
    for name in names:
        assert str(found[name].method) in ("exact, by part", "exact, by coordinate")
        assert not found[name].is_sampled
        each = np.array([part[name].value for part in parts])
        expected = {
            "accuracy": each.prod(axis=0),
            "error_probability": 1 - (1 - each).prod(axis=0),
            "sampling_error": 1 - (1 - each).prod(axis=0),
        }.get(name, each.sum(axis=0))
        np.testing.assert_allclose(found[name].value, expected, rtol=1e-11, atol=1e-14)
        gap = np.abs(found[name].value - plain[name].value)
        assert (gap <= 5.5 * plain[name].standard_error + plain[name].numerical_error + 1e-9).all()


def test_relative_precision_at_both_ends() -> None:
    """Far beyond the digits of 1: information 1e-15, accuracy 1e-30, error 1e-200."""
    codebook = tk.Product([LINE, tk.OneHot(8)] * 5)
    low, high = 1e-15, 4000.0
    found = tk.profile(codebook, [low, high])
    line, onehot = (tk.profile(one, [low, high]) for one in (LINE, tk.OneHot(8)))
    information = 5 * (line["mutual_information"].value + onehot["mutual_information"].value)
    np.testing.assert_allclose(found["mutual_information"].value, information, rtol=1e-12)
    error = 5 * (line["error_probability"].value[1] + onehot["error_probability"].value[1])
    assert error < 1e-100
    np.testing.assert_allclose(found["error_probability"].value[1], error, rtol=1e-11)
    accuracy = (line["accuracy"].value[0] * onehot["accuracy"].value[0]) ** 5
    np.testing.assert_allclose(found["accuracy"].value[0], accuracy, rtol=1e-12)


def test_sampled_parts_are_independent_and_joined() -> None:
    codebook = tk.Product([SOLID, SOLID, GRID])
    found = tk.profile(codebook, SNR, key=3)
    one, exact = tk.profile(SOLID, SNR, key=11), tk.profile(GRID, SNR)
    for name in ("mutual_information", "mmse", "conditional_entropy"):
        expected = 2 * one[name].value + exact[name].value
        sd = np.hypot(2 * one[name].standard_error, found[name].standard_error)
        slack = 3 * one[name].numerical_error + found[name].numerical_error
        assert (np.abs(found[name].value - expected) <= 5.5 * sd + slack + 1e-15).all()
        assert str(found[name].method).startswith("by part: ")
        assert found[name].seed == 3


@pytest.mark.slow
def test_equal_parts_are_drawn_with_keys_of_their_own() -> None:
    """The variance of two is twice that of one, not four times; each in 200 runs."""
    few, runs = tk.MonteCarlo(n_samples=64), range(200)
    both = [float(tk.mmse(tk.Product([SOLID, SOLID]), 1.0, method=few, key=key)) for key in runs]
    one = [float(tk.mmse(SOLID, 1.0, method=few, key=key)) for key in runs]
    assert 1.3 < np.var(both) / np.var(one) < 3.0


def test_targets_are_met_by_the_whole() -> None:
    codebook = tk.Product([SOLID, PLANE, SOLID, LINE])
    for rtol, atol in ((1e-2, 0.0), (0.0, 2e-3)):
        method = tk.MonteCarlo(rtol=rtol, atol=atol)
        found = tk.profile(codebook, [0.5, 3.0], method=method, key=0)
        for name in tk.QUANTITIES:
            target = atol + rtol * np.abs(found[name].value)
            assert (found[name].standard_error <= 1.001 * target).all(), name


def test_refusals() -> None:
    refused: dict[str, Any] = {"at least one codebook": [], "a tokenkl codebook": [1]}
    for match, parts in refused.items():
        with pytest.raises(ValueError, match=match):
            tk.Product(parts)
    with pytest.raises(ValueError, match="one of 'C', 'F'"):
        tk.Product([LINE], order=cast(Any, "A"))
    with pytest.raises(ValueError, match="None for a product"):
        tk.mmse(PRODUCT, 1.0, method=tk.MonteCarlo(control=GRID), key=0)
    with pytest.raises(ValueError, match="a list of 3, one for each part"):
        PRODUCT.with_priors([None])
    with pytest.raises(ValueError, match="method must be MonteCarlo"):
        tk.mmse(PRODUCT, 1.0, method=tk.Exact())
    with pytest.raises(ValueError, match="key must be an integer seed"):
        tk.mmse(PRODUCT, 1.0)


def test_nested_products_and_files(tmp_path: Path) -> None:
    inner = tk.Product([LINE, tk.Product([GRID, tk.OneHot(3)], order="F", name="two")])
    tk.save_codebook(inner, tmp_path / "in.npz")
    back = tk.load_codebook(tmp_path / "in.npz")
    assert np.array_equal(back.points, inner.points)
    assert back.parts[1].label == "two"
    for parts in (7, [3], [{"kind": 1}], [{"kind": "OneHot"}], [{"kind": "Product", "parts": 1}]):
        header = {"name": "", "order": "C", "parts": parts}
        text = json.dumps({"format": "tokenkl codebook", "version": 1, "kind": "Product", **header})
        np.savez(tmp_path / "bad.npz", tokenkl=np.frombuffer(text.encode(), np.uint8))
        with pytest.raises(ValueError, match=r"bad\.npz must be "):
            tk.load_codebook(tmp_path / "bad.npz")
    deep: tk.Codebook = LINE
    for _ in range(9):
        deep = tk.Product([deep])
    tk.save_codebook(deep, tmp_path / "deep.npz")
    with pytest.raises(ValueError, match="nested at most 8 times"):
        tk.load_codebook(tmp_path / "deep.npz")


def test_a_prior_that_is_no_product_needs_the_points() -> None:
    prior = RNG.dirichlet(np.ones(PRODUCT.K))
    assert isinstance(PRODUCT.with_prior(prior), tk.PointCodebook)
    many = PRODUCT.with_priors([None, [0.1, 0.2, 0.7], None])
    np.testing.assert_allclose(many.parts[1].prior, [0.1, 0.2, 0.7], rtol=1e-15)
    assert isinstance(many, tk.Product)


def test_gradients_pass_through() -> None:
    codebook = tk.Product([tk.FSQ((3,)), GRID])
    assert codebook.as_grid is None

    def information(snr: Any) -> Any:
        return tk.mutual_information(codebook, snr).value

    with jax.enable_x64(True):
        value, slope = jax.jit(jax.value_and_grad(information))(1.5)
    np.testing.assert_allclose(float(value), float(information(1.5)), rtol=1e-12)
    expected = tk.mmse(codebook, 1.5).value / 2  # I-MMSE
    np.testing.assert_allclose(float(slope), float(expected), rtol=1e-6)


def test_path_kl_of_the_sampler_adds() -> None:
    codebook, grid = tk.Product([SOLID, LINE]), [0.1, 1.0, 10.0]
    both = tk.ancestral_kl(codebook, grid, key=0)
    each = tk.ancestral_kl(SOLID, grid, key=5) + tk.ancestral_kl(LINE, grid)
    slack = 5.5 * math.hypot(both.standard_error, each.standard_error)
    assert abs(both.value - each.value) <= slack + both.numerical_error + each.numerical_error
    steps = tk.optimal_steps(codebook, 4, 1e-2, 30.0, key=0)
    assert steps.snr.size == 5


def test_steepness_is_that_of_the_steepest_part() -> None:
    codebook = tk.Product([tk.ProductCodebook([LINE.points[:, 0]]), GRID, tk.OneHot(3)])
    found = tk.score_lipschitz(codebook, 2.0)
    parts = [tk.score_lipschitz(part, 2.0) for part in codebook.parts]
    assert found.is_exact
    assert found.covariance.value == max(float(one.covariance.value) for one in parts)
    lower = tk.score_lipschitz(tk.Product([SOLID, GRID]), 2.0, key=0, starts=4)
    assert not lower.is_exact
    assert lower.covariance.value <= lower.ceiling.value


# ---- The errors of a product ------------------------------------------------------------------


def _estimates(mean: np.ndarray, draws: np.ndarray) -> list[Findings]:
    """Of every mean, from draws in the last axis: averages, with what a sample says of them."""
    n = draws.shape[-1]
    value = draws.mean(axis=-1)
    away = draws - value[..., None]
    sd = np.sqrt((away**2).sum(axis=-1) / (n - 1))
    third = (away**3).mean(axis=-1)
    skewness = third / np.maximum(sd, 1e-300) ** 3 / math.sqrt(n)
    return [
        Findings(v, standard_error=s / math.sqrt(n), skewness=k, n_samples=n, sample_range=1.0)
        for v, s, k in zip(value, sd, skewness, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 6])
def test_variance_and_third_moment_of_a_product(parts: int) -> None:
    """By brute force, with relative errors of 30 % each: far from a linear regime."""
    rng = np.random.default_rng(parts)
    draws = rng.gamma(11.0, 1 / 11.0, size=(parts, 4_000_000)) * 0.4
    product = draws.prod(axis=0)
    known = [
        {
            "value": np.array(0.4),
            "standard_error": np.array(0.4 / math.sqrt(11)),
            "skewness": np.array(2 / math.sqrt(11)),
            "numerical_error": np.array(0.0),
            "interval_supported": np.array(True),
            "degrees_of_freedom": np.array(np.inf),
            "n_samples": np.array(100),
            "sample_range": np.array(1.0),
        }
    ] * parts
    for combine, sign in ((product_of_independent, 1), (union_of_independent, -1)):
        given = known if sign == 1 else [one | {"value": np.array(0.6)} for one in known]
        given = given if sign == 1 else [one | {"skewness": -one["skewness"]} for one in given]
        found = combine(given)
        assert found["value"] == pytest.approx(0.4**parts if sign == 1 else 1 - 0.4**parts)
        assert found["standard_error"] == pytest.approx(product.std(), rel=0.02)
        linear = 0.4**parts * math.sqrt(parts / 11)
        assert found["standard_error"] > 1.02 * linear
        # The interaction counts half, so that this lies between its linear part and the whole.
        skewness = sign * stats.skew(product)
        assert 0.3 * abs(skewness) < sign * found["skewness"] < abs(skewness)


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "size"), [(2, 30), (10, 50), (10, 600)])
def test_intervals_of_products_cover(parts: int, size: int) -> None:
    """Averages of skewed draws: 95 % intervals miss at most 10 % of the time, at either end 7 %.

    With 10 parts of 50 draws the relative error is 0.4; the interval is then not one of the central
    limit and covers always.
    """
    rng = np.random.default_rng(size)
    runs, mean = 1500, 0.3
    given = _estimates(np.full(parts, mean), rng.beta(0.6, 1.4, size=(parts, runs, size)))
    errors = [one.complement(1.0) for one in given]
    for name, known in (("accuracy", given), ("error_probability", errors)):
        found = Findings.together(known, name).estimate((runs,))
        truth = mean**parts if name == "accuracy" else 1 - mean**parts
        interval = found.confidence_interval(0.95)
        below, above = (interval.high < truth).mean(), (interval.low > truth).mean()
        assert below + above <= 0.10
        assert max(below, above) <= 0.07
        supported = np.asarray(found.interval_supported).mean()
        assert supported == 0 if size == 50 else supported > 0.9
