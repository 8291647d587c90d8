"""Accuracy of lattice cuts by decoding along rays, against exact formulas and posteriors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

import tokenkl as tk
from tokenkl.codebooks import LatticeCodebook, d_codebook
from tokenkl.information.findings import Findings
from tokenkl.information.lattice import rare
from tokenkl.information.lattice.accuracy import cell_reach, decoded_profile
from tokenkl.information.lattice.rare import (
    counts,
    is_complete,
    longer_vectors,
    rare_errors,
    short_vectors,
)
from tokenkl.information.problem import Problem


def by_rays(
    codebook: tk.LatticeCodebook, snr: Any, n_samples: int, key: int
) -> dict[str, Findings]:
    method = tk.MonteCarlo(n_samples=n_samples)
    names = ("error_probability", "accuracy")
    return decoded_profile(Problem(codebook, np.asarray(snr)), names, method, key)


def z_scores(fields: Findings, exact: np.ndarray) -> np.ndarray:
    return (fields.value - exact) / np.hypot(fields.standard_error, fields.numerical_error)


def test_a_simplex() -> None:
    """The words of {0, 1}^3 with an even sum: four points 2 sqrt 2 apart, one-hot up to a shift."""
    snr = np.array([0.01, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
    found = by_rays(d_codebook(3, 2), snr, 100_000, key=1)
    for name in ("error_probability", "accuracy"):
        exact = tk.profile(tk.OneHot(4, scale=2.0), snr, [name])[name].value
        assert (np.abs(z_scores(found[name], exact)) < 5).all()
    assert found["error_probability"].interval_supported.all()
    assert found["error_probability"].value[-1] < 1e-44


@pytest.mark.parametrize("levels", [2, 3, 4, 7])
def test_in_the_plane(levels: int) -> None:
    snr = np.array([0.1, 2.0, 20.0, 60.0])
    codebook = d_codebook(2, levels)
    found = by_rays(codebook, snr, 100_000, key=levels)["error_probability"]
    exact = tk.error_probability(tk.PointCodebook(codebook.points), snr, method=tk.Exact()).value
    assert (np.abs(z_scores(found, exact)) < 4.9).all()


def test_on_a_line() -> None:
    codebook = LatticeCodebook("D+", 5, 1)
    found = by_rays(codebook, np.array([1.0, 50.0]), 50_000, key=0)["error_probability"]
    exact = tk.error_probability(tk.PointCodebook(codebook.points), [1.0, 50.0]).value
    assert (np.abs(z_scores(found, exact)) < 4.6).all()


@pytest.mark.slow
def test_e8_against_posteriors() -> None:
    snr = np.array([0.1, 1.0, 10.0, 40.0, 100.0])
    found = by_rays(LatticeCodebook("D+", 3, 8), snr, 200_000, key=2)["error_probability"]
    listed = tk.error_probability(tk.e8_codebook(), snr, key=3)
    z = (found.value - listed.value) / np.hypot(found.standard_error, listed.standard_error)
    assert (np.abs(z) < 4.9).all()


def test_reach_is_where_the_token_changes() -> None:
    codebook = LatticeCodebook("D+", 3, 8)
    rng = np.random.default_rng(0)
    points = codebook.sample_points(np.random.default_rng(0), 400)
    reach, is_open = cell_reach(codebook, rng, 400)
    # The same generator, read in the same order: the token first, then its direction.
    again = np.random.default_rng(0)
    assert np.array_equal(points, codebook.sample_points(again, 400))
    u = again.standard_normal((400, 8))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    own = codebook.nearest(points)
    inside = codebook.nearest(points + (reach * (1 - 1e-9))[:, None] * u)
    outside = codebook.nearest(points + (reach * (1 + 1e-9))[:, None] * u)
    np.testing.assert_array_equal(inside, own)
    assert (outside[~is_open] != own[~is_open]).all()
    assert (outside[is_open] == own[is_open]).all()
    assert 0 < is_open.mean() < 0.5


def test_large_cuts_go_by_rays_and_say_so() -> None:
    codebook = d_codebook(24, 4)
    snr = np.array([0.0, 10.0, 40.0, 60.0])
    found = tk.error_probability(codebook, snr, key=0)
    assert str(found.method).startswith("lattice decoding along rays")
    assert found.value[0] == pytest.approx(1 - 1 / codebook.K, abs=1e-15)
    # Half-spaces of the nearest 2 n (n - 1) lattice points bound it from above.
    h, d, n = np.sqrt(snr[1:]), 2 * np.sqrt(2) / 3, 24
    shells = 2 * n * (n - 1) * ndtr(-h * d / 2) + 2 * n * ndtr(-h * d / np.sqrt(2))
    assert (found.value[2:] < 1.2 * shells[1:]).all()
    # The plain share of wrong decisions, where errors are not rare.
    rng = np.random.default_rng(8)
    points = codebook.sample_points(rng, 20_000)
    noisy = points + rng.standard_normal(points.shape) / np.sqrt(40.0)
    share = (codebook.nearest_points(noisy) != points).any(axis=1).mean()
    spread = np.hypot(np.sqrt(share * (1 - share) / 20_000), found.standard_error[2])
    assert abs(share - found.value[2]) < 4.6 * spread
    accuracy = tk.accuracy(codebook, snr, key=0)
    np.testing.assert_allclose(accuracy.value + found.value, 1, atol=1e-12)


def test_targets_keys_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    codebook = d_codebook(12, 4)
    target = tk.error_probability(codebook, 30.0, method=tk.MonteCarlo(rtol=0.01), key=1)
    assert target.standard_error <= 0.01 * target.value
    again = tk.error_probability(codebook, 30.0, method=tk.MonteCarlo(rtol=0.01), key=1)
    assert again.value == target.value
    small = LatticeCodebook("D", 3, 4)
    assert "ray" not in str(tk.error_probability(small, 1.0, key=0).method)
    monkeypatch.setattr(rare, "LARGE", 10)
    assert "ray" in str(tk.error_probability(small, 1.0, key=0).method)
    # What needs the whole posterior still lists the tokens where it can.
    assert "ray" not in str(tk.mmse(small, 1.0, key=0).method)


def test_what_needs_a_posterior_is_refused() -> None:
    for name in ("conditional_entropy", "mutual_information", "mmse"):
        with pytest.raises(ValueError, match="a posterior needs all tokens"):
            getattr(tk, name)(d_codebook(24, 4), 1.0, key=0)


@pytest.mark.slow
def test_intervals_cover() -> None:
    """95 % intervals at an error of 1e-4: 400 runs, exact reference."""
    codebook, snr = d_codebook(3, 2), np.array([7.5])
    exact = float(tk.error_probability(tk.OneHot(4, scale=2.0), 7.5).value)
    method = tk.MonteCarlo(n_samples=1000)
    hits = 0
    for key in range(400):
        found = decoded_profile(Problem(codebook, snr), ("error_probability",), method, key)
        low, high, _ = found["error_probability"].estimate(snr.shape).confidence_interval()
        hits += int(low[0] <= exact <= high[0])
    # Binomial with 400 draws of 0.95 lies in these bounds with probability 1 - 2e-5.
    assert 357 <= hits <= 397


# ---- Rare errors: short vectors ---------------------------------------------------------------


@pytest.mark.parametrize(
    "codebook",
    [
        d_codebook(2, 4),
        d_codebook(4, 3),
        d_codebook(3, 4),
        LatticeCodebook("D+", 3, 4),
        LatticeCodebook("D+", 2, 5),
    ],
    ids=lambda codebook: codebook.label,
)
def test_short_vectors_are_counted(codebook: tk.LatticeCodebook) -> None:
    """How many pairs of tokens differ by each listed vector, against a list of all pairs."""
    points = codebook.points / codebook.unit
    gaps = np.round(2 * (points[None] - points[:, None])).astype(int)
    half = np.round(2 * (points - points[0])).astype(int)[:, 0] % 2  # kind, from token 0 in D
    for kind, vectors, steps in short_vectors(codebook):
        expected = [
            int(((gaps == np.round(2 * v)).all(axis=-1) & (half == kind)[:, None]).sum())
            for v in vectors
        ]
        assert counts(codebook, kind, steps) == expected
    assert sum(len(vectors) for _, vectors, _ in short_vectors(codebook)) > 0


def test_theta_series() -> None:
    """240, 2160, 6720 vectors of E8; 24, 24, 96 of D4 (Conway and Sloane, chapter 4)."""
    squares, number = longer_vectors(LatticeCodebook("D+", 3, 8))
    assert [number[squares == m].sum() for m in (4, 6)] == [2160, 6720]
    squares, number = longer_vectors(d_codebook(4, 3))
    assert [number[squares == m].sum() for m in (4, 6)] == [24, 96]
    vectors = [one for _, one, _ in short_vectors(LatticeCodebook("D+", 3, 8))]
    assert len(vectors[0]) + len(vectors[2]) == 240


def test_rare_errors_of_a_simplex() -> None:
    snr = np.array([4.0, 10.0, 18.0, 50.0, 150.0])
    problem = Problem(d_codebook(3, 2), snr)
    listed = is_complete(problem)
    fields = rare_errors(problem.at(np.flatnonzero(listed)), 20_000, 1)
    exact = tk.error_probability(tk.OneHot(4, scale=2.0), snr).value[listed]
    assert listed[2:].all()
    allowed = 4.6 * fields.standard_error + fields.numerical_error
    assert (np.abs(fields.value - exact) <= allowed).all()
    assert (allowed < 0.02 * exact).all()
    assert exact.min() < 1e-60


def test_rare_errors_against_the_list_of_all_tokens() -> None:
    """Two importance samplers that share nothing, at 1e-5 to 1e-13."""
    for codebook, levels in (
        (d_codebook(5, 4), [110.0, 190.0, 300.0]),
        (LatticeCodebook("D+", 3, 4), [90.0, 130.0, 240.0]),
    ):
        listed = tk.error_probability(codebook, levels, key=2)
        problem = Problem(codebook, np.array(levels))
        assert is_complete(problem).all()
        fields = rare_errors(problem, 20_000, 3)
        spread = np.hypot(fields.standard_error, listed.standard_error)
        allowed = 4.6 * spread + fields.numerical_error + listed.numerical_error
        assert (np.abs(fields.value - listed.value) <= allowed).all()
        assert (allowed < 0.02 * listed.value).all()


def test_rare_errors_of_a_large_cut() -> None:
    """Rays and short vectors agree where both can tell, and the latter go on to 1e-30."""
    codebook = d_codebook(12, 6)
    snr = np.array([150.0, 240.0, 400.0, 1600.0])
    found = tk.error_probability(codebook, snr, key=0)
    assert "short vectors" in str(found.method)
    rays = tk.error_probability(codebook, snr, key=0, method=tk.MonteCarlo(n_samples=100_000))
    assert "short vectors" not in str(rays.method)
    both = rays.interval_supported
    assert both[:2].all()
    z = (found.value - rays.value) / np.hypot(found.standard_error, rays.standard_error)
    assert (np.abs(z[both]) < 4.6).all()
    assert found.interval_supported.all()
    assert found.value[-1] < 1e-25
    assert found.standard_error[-1] + found.numerical_error[-1] < 0.01 * found.value[-1]
    accuracy = tk.accuracy(codebook, snr, key=0)
    np.testing.assert_allclose(accuracy.value + found.value, 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("snr", [60.0, 300.0])  # along rays, by short vectors
@pytest.mark.parametrize(("scale", "offset"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1e8), (4.0, 1e14)])
def test_neither_place_nor_scale_matters(snr: float, scale: float, offset: float) -> None:
    cut = tk.d_codebook(24, 4)
    moved = cut.scaled(scale).shifted(np.full(24, offset))
    found, expected = tk.accuracy(moved, snr / scale**2, key=0), tk.accuracy(cut, snr, key=0)
    assert abs(found.value - expected.value) <= found.numerical_error + expected.numerical_error
    assert found.numerical_error <= 1.1 * expected.numerical_error
