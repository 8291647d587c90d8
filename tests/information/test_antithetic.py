"""Noise with its signs turned (S3a of docs/theory/sampling.md): what it is, and its intervals."""

import dataclasses

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.information.sampling import kernel, pilot, xla
from tokenkl.information.sampling.controls import Controls
from tokenkl.information.sampling.signs import middle, turned

RNG = np.random.default_rng(0)
#: Many dimensions, few tokens: products are dear.
WIDE = tk.PointCodebook(RNG.standard_normal((60, 32)))


@pytest.mark.parametrize("n", [1, 4, 5, 11, 64])
def test_every_half_has_each_sign(n: int) -> None:
    noise = np.random.default_rng(n).standard_normal((3, n))
    first, second = noise[:, : middle(n)], noise[:, middle(n) :]
    for index, (one, other) in enumerate(((1, 1), (-1, -1), (1, -1), (-1, 1))):
        found = turned(noise, 4)[index]
        np.testing.assert_array_equal(found, np.hstack([one * first, other * second]))
    assert len(turned(noise, 1)) == 1
    # The halves are as equal as multiples of four can be.
    assert abs(2 * middle(n) - n) <= 4


@pytest.mark.parametrize("n", [3, 13])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("K", [3, 700, 1500])
def test_halves_are_means_of_four(K: int, narrow: bool, n: int) -> None:
    """Products of halves are those of the whole, but for the order of their sum."""
    rng = np.random.default_rng(K)
    points, log_prior = rng.standard_normal((K, n)), np.log(rng.dirichlet(np.ones(K)))
    table = kernel.lay_out(points, log_prior, narrow=narrow)
    ids, noise = rng.integers(K, size=20), rng.standard_normal((20, n))
    for h in (np.geomspace(0.1, 4.0, 5), np.linspace(0.1, 4.0, 20)):
        each = [
            kernel.block_statistics(table, ids, one, h, True, narrow, True)
            for one in turned(noise, 4)
        ]
        found = kernel.block_statistics(table, ids, noise, h, True, narrow, True, signs=4)
        rtol, atol = (1e-5, 2e-6) if narrow else (1e-12, 1e-14)
        np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=rtol, atol=atol)


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
        pairs = kernel.block_statistics(table, ids, noise, h, True, narrow, True, signs=2)
        np.testing.assert_array_equal(pairs, (one + other) / 2)


@pytest.mark.parametrize("signs", [2, 4])
def test_signs_on_a_device(signs: int) -> None:
    points, log_prior = np.asarray(WIDE.points), np.asarray(WIDE.log_prior)
    rng = np.random.default_rng(1)
    ids, noise, h = rng.integers(60, size=9), rng.standard_normal((9, 32)), np.array([0.2, 1.0])
    found = xla.block_statistics(points, log_prior, ids, noise, h, True, True, signs)
    table = kernel.lay_out(points, log_prior)
    expected = kernel.block_statistics(table, ids, noise, h, shares=True, signs=signs)
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


@pytest.mark.parametrize(("alike", "taken"), [(4, 1), (2, 4), (1, 4)])
def test_what_does_not_care_for_signs_is_not_turned(alike: int, taken: int) -> None:
    """Then samples are worth one, however dear products are; halves alone may differ."""
    rng = np.random.default_rng(4)
    ids = np.repeat(rng.integers(60, size=256), 4)
    noise = np.stack(turned(rng.standard_normal((256, 32)), 4), axis=1).reshape(-1, 32)
    values = np.repeat(rng.random((1, 4, 1024 // alike)), alike, axis=-1)
    controls = Controls(WIDE, np.asarray(WIDE.points), np.array([1.0]), None, 2**27)
    names, method = ["accuracy", "mmse"], tk.MonteCarlo(n_samples=4096)
    given = controls, ids, noise, values, names, method, 0.9, 100.0
    assert pilot.decide_on_signs(*given).signs == taken


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
    assert found.n_samples == count + -count % 4
    # The Bernstein bound is that of the draws: range of a mean of four, number of draws.
    draws = found.n_samples // 4
    assert found.sample_range / (found.n_samples - 1) == pytest.approx(1 / (draws - 1))


def test_no_more_than_the_most_samples() -> None:
    method = tk.MonteCarlo(atol=1e-9, max_samples=5001)
    found = tk.accuracy(WIDE, 0.3, method=method, key=0)
    assert found.n_samples == 5000
    assert "max_samples was reached" in found.note


@pytest.mark.slow
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
