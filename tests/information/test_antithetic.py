"""Antithetic pairs (S3a of docs/theory/sampling.md): what they are, and their intervals."""

import dataclasses

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.information.sampling import kernel, pilot, xla
from tokenkl.information.sampling.controls import Controls

RNG = np.random.default_rng(0)
#: Chosen for pairs: many dimensions, few tokens.
WIDE = tk.PointCodebook(RNG.standard_normal((60, 32)))


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("K", [3, 700, 1500])
def test_pairs_are_means_of_both_signs(K: int, narrow: bool) -> None:
    """To the bit: products of -eps are those of eps with another sign."""
    rng = np.random.default_rng(K)
    points, log_prior = rng.standard_normal((K, 13)), np.log(rng.dirichlet(np.ones(K)))
    table = kernel.lay_out(points, log_prior, narrow=narrow)
    ids, noise = rng.integers(K, size=20), rng.standard_normal((20, 13))
    for h in (np.geomspace(0.1, 4.0, 5), np.linspace(0.1, 4.0, 20)):
        one, other = (
            kernel.block_statistics(table, ids, sign * noise, h, True, narrow, True)
            for sign in (1, -1)
        )
        pairs = kernel.block_statistics(table, ids, noise, h, True, narrow, True, antithetic=True)
        np.testing.assert_array_equal(pairs, (one + other) / 2)


def test_pairs_on_a_device() -> None:
    points, log_prior = np.asarray(WIDE.points), np.asarray(WIDE.log_prior)
    rng = np.random.default_rng(1)
    ids, noise, h = rng.integers(60, size=9), rng.standard_normal((9, 32)), np.array([0.2, 1.0])
    found = xla.block_statistics(points, log_prior, ids, noise, h, True, True, antithetic=True)
    table = kernel.lay_out(points, log_prior)
    expected = kernel.block_statistics(table, ids, noise, h, shares=True, antithetic=True)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_they_are_taken_where_they_pay() -> None:
    """Not in few dimensions, where Sobol points are, nor without a pilot."""
    many = tk.MonteCarlo(n_samples=4096)
    wide = tk.profile(WIDE, [0.3], ["accuracy"], method=many, key=0)["accuracy"]
    assert "antithetic" in str(wide.method)
    plain = dataclasses.replace(many, variance_reduction=False)
    assert "antithetic" not in str(tk.accuracy(WIDE, 0.3, method=plain, key=0).method)
    flat = tk.PointCodebook(np.asarray(WIDE.points)[:, :8])
    assert "antithetic" not in str(tk.accuracy(flat, 0.3, method=many, key=0).method)


@pytest.mark.parametrize(("even", "taken"), [(True, False), (False, True)])
def test_pairs_of_what_does_not_care_for_the_sign_are_not_taken(even: bool, taken: bool) -> None:
    """Then two samples are worth one, however dear the products are."""
    rng = np.random.default_rng(4)
    ids = np.repeat(rng.integers(60, size=512), 2)
    noise = np.repeat(rng.standard_normal((512, 32)), 2, axis=0)
    noise[1::2] *= -1
    values = rng.random((1, 4, 1024))
    if even:
        values[..., 1::2] = values[..., ::2]
    controls = Controls(WIDE, np.asarray(WIDE.points), np.array([1.0]), None, 2**27)
    names, method = ["accuracy", "mmse"], tk.MonteCarlo(n_samples=4096)
    given = controls, ids, noise, values, names, method, 0.9, 100.0
    assert pilot.decide_on_pairs(*given).antithetic == taken


def test_controls_serve_pairs_as_they_serve_samples() -> None:
    """Those of near rivals depend on the sign: with that of one sample they would add variance."""
    rng = np.random.default_rng(0)
    middles, apart = rng.standard_normal((2, 20, 12))
    apart /= 2 * np.linalg.norm(apart, axis=1, keepdims=True)
    book = tk.PointCodebook(np.concatenate([1.5 * middles + apart, 1.5 * middles - apart]))
    found = []
    for reduced in (True, False):
        method = tk.MonteCarlo(n_samples=8192, variance_reduction=reduced)
        found.append(tk.conditional_entropy(book, 4.0, method=method, key=1))
    assert "neighbours; points: antithetic" in str(found[0].method)
    assert float(found[0].standard_error) < 0.6 * float(found[1].standard_error)


@pytest.mark.parametrize("count", [4096, 4097, 10_001])
def test_samples_are_counted_one_by_one(count: int) -> None:
    found = tk.accuracy(WIDE, 0.3, method=tk.MonteCarlo(n_samples=count), key=0)
    assert found.n_samples == count + count % 2
    # The Bernstein bound is that of the pairs: range of a mean of two, number of pairs.
    pairs = found.n_samples // 2
    assert found.sample_range / (found.n_samples - 1) == pytest.approx(1 / (pairs - 1))


def test_no_more_than_the_most_samples() -> None:
    method = tk.MonteCarlo(atol=1e-9, max_samples=5001)
    found = tk.accuracy(WIDE, 0.3, method=method, key=0)
    assert found.n_samples == 5000
    assert "max_samples was reached" in found.note


def test_intervals_of_pairs_cover() -> None:
    """Against the exact values of a grid that is given as points, in 12 dimensions.

    Of 300 runs with 95 % intervals fewer than 264 or all 300 cover with a probability below 1e-5.
    """
    grid = tk.FSQ((2,) * 12)
    turned, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((12, 12)))
    chosen = np.asarray(grid.points)[:256] @ turned  # FSQ 2^8, in a subspace of another origin
    book, exact = tk.PointCodebook(chosen), tk.FSQ((2,) * 8)
    names, snr = ["accuracy", "conditional_entropy", "mmse"], [1.5]
    true = tk.profile(exact, snr, names)
    covered = dict.fromkeys(names, 0)
    drawn = 0
    for key in range(300):
        made = tk.profile(book, snr, names, method=tk.MonteCarlo(n_samples=4096), key=key)
        drawn += "antithetic" in str(made["accuracy"].method)
        for name in names:
            low, high, _ = made[name].confidence_interval(0.95)
            covered[name] += bool(np.all((low <= true[name].value) & (true[name].value <= high)))
    assert drawn > 250
    assert all(264 <= count < 300 for count in covered.values()), covered
