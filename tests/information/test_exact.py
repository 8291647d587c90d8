"""Exact estimators against 20-digit references: accurate to 1e-11, and honest about the rest."""

from typing import Any, cast

import numpy as np
import pytest

import tokenkl as tk
from problems import Problem, assert_honest, onehot_problems, product_problems, zipf
from tokenkl.information import exact_quantities
from tokenkl.quantities import QUANTITIES

RELATIVE = 1e-11
ALL = tuple(QUANTITIES)


def _check(problem: Problem) -> None:
    profile = tk.profile(problem.codebook, problem.snr, tuple(problem.answers))
    for name, answer in problem.answers.items():
        estimate = profile[name]
        assert estimate.standard_error == 0
        np.testing.assert_allclose(float(estimate), answer, rtol=RELATIVE, atol=0, err_msg=name)
        assert_honest(estimate, answer)


@pytest.mark.parametrize("problem", product_problems(), ids=lambda problem: problem.label)
def test_grid_line(problem: Problem) -> None:
    _check(problem)


@pytest.mark.parametrize("problem", onehot_problems(), ids=lambda problem: problem.label)
def test_onehot(problem: Problem) -> None:
    _check(problem)


def test_references_reach_small_quantities() -> None:
    """The table itself covers what is promised: errors of 1e-40 and below, information of 1e-6."""
    for problems in (product_problems(), onehot_problems()):
        errors = [p.answers["error_probability"] for p in problems]
        assert any(1e-45 < error < 1e-35 for error in errors)
        assert min(p.snr for p in problems) == 1e-6


def test_published_accuracy() -> None:
    """Published (arXiv 2606.09962, C4): 38.18 % for base 2, n = 2 at alpha/sigma = 0.3."""
    assert round(100 * float(tk.accuracy(tk.FSQ((2, 2)), 0.09)), 2) == 38.18


@pytest.mark.parametrize("snr", [1e-6, 0.3, 20.0, 300.0, 1e6])
def test_product_adds_over_coordinates(snr: float) -> None:
    columns = [[-1.0, 1.0], [-1.0, 0.2, 0.9], np.linspace(-1, 1, 5)]
    priors = [np.array([0.3, 0.7]), None, zipf(5)]
    whole = tk.profile(tk.ProductCodebook(columns, priors), snr, ALL)
    parts = [
        tk.profile(tk.ProductCodebook([u], [p]), snr, ALL)
        for u, p in zip(columns, priors, strict=True)
    ]
    for name in ("conditional_entropy", "mutual_information", "mmse"):
        np.testing.assert_allclose(
            float(whole[name]), sum(float(part[name]) for part in parts), rtol=1e-13
        )
    correct = np.prod([float(part["accuracy"]) for part in parts])
    np.testing.assert_allclose(float(whole["accuracy"]), correct, rtol=1e-13)
    for name in ("error_probability", "sampling_error"):
        errors = [float(part[name]) for part in parts]
        total = -np.expm1(np.sum(np.log1p(-np.array(errors))))
        np.testing.assert_allclose(float(whole[name]), total, rtol=1e-12)


@pytest.mark.parametrize("K", [2, 1000, 10**6])
def test_huge_grid_from_one_coordinate(K: int) -> None:
    """FSQ((2,) * n) has n times the entropy of one coordinate: no K-dimensional work anywhere."""
    n = round(np.log2(K)) or 1
    one, many = tk.FSQ((2,)), tk.FSQ((2,) * n)
    np.testing.assert_allclose(
        float(tk.conditional_entropy(many, 3.0)), n * float(tk.conditional_entropy(one, 3.0))
    )


@pytest.mark.parametrize(
    "codebook",
    [tk.FSQ((3,) * 8), tk.FSQ((17,) * 6), tk.OneHot(65536), tk.OneHot(1000, zipf(1000))],
    ids=repr,
)
def test_limits(codebook: tk.Codebook) -> None:
    """At snr = 0 the observation says nothing; at snr = 1e6 it says everything."""
    profile = tk.profile(codebook, [0.0, 1e6])
    prior_entropy = float(codebook.prior_entropy())
    best = float(np.exp(codebook.log_prior.max())) if codebook.K < 10**6 else 1 / codebook.K
    np.testing.assert_allclose(profile["accuracy"].value[0], best, rtol=1e-12)
    np.testing.assert_allclose(profile["conditional_entropy"].value, [prior_entropy, 0], rtol=1e-12)
    np.testing.assert_allclose(profile["mutual_information"].value[0], 0, atol=1e-14)
    np.testing.assert_allclose(profile["mutual_information"].value[1], prior_entropy, rtol=1e-12)
    assert profile["mmse"].value[1] <= 1e-12
    assert profile["mmse"].value[0] > 0.5


def test_non_product_prior_never_uses_the_product_formula() -> None:
    rng = np.random.default_rng(5)
    joint = rng.dirichlet(np.ones(9))
    codebook = tk.FSQ((3, 3), joint)
    assert not codebook.factorises
    with pytest.raises(ValueError, match="key must be"):
        tk.conditional_entropy(codebook, 1.0)
    with pytest.raises(ValueError, match="method must be"):
        tk.mmse(codebook, 1.0, method=tk.Exact())
    sampled = tk.conditional_entropy(codebook, 1.0, key=1)
    assert sampled.n_samples > 0
    factors = [joint.reshape(3, 3).sum(axis=1), joint.reshape(3, 3).sum(axis=0)]
    wrong = tk.conditional_entropy(tk.FSQ((3, 3), priors=factors), 1.0)
    assert abs(float(sampled) - float(wrong)) > 10 * float(sampled.standard_error)


def test_points_on_a_line_are_exact() -> None:
    direction = np.array([0.6, 0.8, 0.0])
    along = np.array([-1.0, 0.1, 0.7, 2.0])
    prior = np.array([0.4, 0.3, 0.2, 0.1])
    line = tk.PointCodebook(along[:, None] * direction + 3.0, prior)
    grid = tk.ProductCodebook([along], [prior])
    for name in ALL:
        ours, theirs = (tk.profile(one, 2.5, ALL)[name] for one in (line, grid))
        assert str(ours.method).startswith("exact")
        np.testing.assert_allclose(float(ours), float(theirs), rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 2.0**-1070, 2.0**900])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_a_line_of_any_size(scale: float, offset: float) -> None:
    """The few points that are looked at first say nothing against it."""

    along = np.arange(20.0)[:, None] - 2
    points = scale * (offset + along * [1.0, 2.0, -3.0])
    assert exact_quantities(tk.PointCodebook(points))
    for bent in (5, 12):  # one of those few, and another
        off = points.copy()
        off[bent, 0] += scale
        assert not exact_quantities(tk.PointCodebook(off))


def test_shape_follows_snr() -> None:
    snr = np.array([[0.1, 1.0, 10.0], [0.2, 2.0, 20.0]])
    for codebook in (tk.FSQ((3, 5)), tk.OneHot(10)):
        estimate = tk.mmse(codebook, snr)
        assert estimate.value.shape == snr.shape
        assert float(estimate[1, 2]) == float(tk.mmse(codebook, 20.0))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, "high", [[1.0], [-2.0]]])
def test_bad_snr(bad: object) -> None:
    with pytest.raises(ValueError, match="snr must be"):
        tk.accuracy(tk.FSQ((3,)), bad)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="codebook must be"):
        tk.accuracy(cast(Any, np.eye(3)), 1.0)
    with pytest.raises(ValueError, match="method must be"):
        tk.accuracy(tk.FSQ((3,)), 1.0, method=cast(Any, "exact"))
    with pytest.raises(ValueError, match="quantities must be"):
        tk.profile(tk.FSQ((3,)), 1.0, ("accuracy", "loss"))
    with pytest.raises(ValueError, match="at least one of"):
        tk.profile(tk.FSQ((3,)), 1.0, ())
    with pytest.raises(ValueError, match="key must be"):
        tk.mmse(tk.e8_codebook(), 1.0, key=-3)
