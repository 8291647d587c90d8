"""Accuracy where noise hardly lets any token overrule the likeliest, against exact ones."""

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.information.findings import Findings
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.overruled import NAME, Overruled
from tokenkl.numerics.moments import Moments


def random_plane(seed: int) -> tk.PointCodebook:
    rng = np.random.default_rng(seed)
    K = int(rng.integers(3, 12))
    prior = np.maximum(rng.dirichlet(np.full(K, 0.5)), 1e-9)
    return tk.PointCodebook(rng.standard_normal((K, 2)), prior / prior.sum())


@pytest.mark.parametrize("seed", range(20))
def test_bounds(seed: int) -> None:
    codebook, snr = random_plane(seed), 10.0 ** np.linspace(-4, 2, 13)
    exact = tk.accuracy(codebook, snr)
    low, high = np.max(codebook.prior) + Overruled(Problem(codebook, snr)).gains.T
    assert (low <= exact.value + 1e-12).all()
    assert (high >= exact.value - 1e-12).all()


def test_of_two_tokens_they_are_the_accuracy() -> None:
    codebook, snr = tk.PointCodebook([[0.0], [1.0]], [0.8, 0.2]), 10.0 ** np.linspace(-3, 3, 25)
    low, high = 0.8 + Overruled(Problem(codebook, snr)).gains.T
    np.testing.assert_allclose(low, tk.accuracy(codebook, snr).value, atol=1e-14)
    np.testing.assert_allclose(high, low, atol=1e-15)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_far_in_the_noise_sampling_finds_them(scale: float, offset: float) -> None:
    """Three dimensions, of which the tokens need two: there the accuracy is exact."""
    flat = random_plane(3)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0][:2]
    points = (flat.points @ turn + offset) * scale
    codebook, snr = tk.PointCodebook(points, flat.prior), np.array([1e-5, 1e-4])
    names = ["accuracy", "error_probability", "conditional_entropy"]
    found = tk.profile(codebook, snr / scale**2, names, method=tk.MonteCarlo(), key=0)
    exact = tk.accuracy(flat, snr)
    for name, value in (("accuracy", exact.value), ("error_probability", 1 - exact.value)):
        one = found[name]
        assert str(one.method) == NAME
        assert np.all(one.interval_supported)
        assert (one.standard_error == 0).all()
        assert (one.numerical_error < 1e-14).all()
        # What an offset costs in digits of the points it costs here.
        np.testing.assert_allclose(one.value, value, rtol=0, atol=1e-14)
    assert (found["conditional_entropy"].standard_error > 0).all()


def test_an_error_of_a_nearly_certain_token_keeps_its_digits() -> None:
    rng = np.random.default_rng(1)
    codebook = tk.PointCodebook(rng.standard_normal((4, 3)), [1 - 3e-12, 1e-12, 1e-12, 1e-12])
    found = tk.error_probability(codebook, [0.0, 1e-3], method=tk.MonteCarlo(), key=0)
    np.testing.assert_allclose(found.value, np.sort(codebook.prior)[:3].sum(), rtol=1e-14)
    assert (found.numerical_error <= 1e-14 * found.value).all()


def test_a_rare_error_is_no_difference_of_large_numbers() -> None:
    codebook = tk.PointCodebook([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]], [0.7, 0.3])
    found = tk.error_probability(codebook, [4.0, 10.0, 40.0], method=tk.MonteCarlo(), key=0)
    exact = tk.error_probability(codebook, [4.0, 10.0, 40.0])
    assert exact.value[2] < 1e-18
    low, high, _ = found.confidence_interval(1 - 1e-6)
    slack = found.numerical_error
    assert ((low - slack <= exact.value) & (exact.value <= high + slack)).all()
    assert (slack <= 0.05 * exact.value).all()


def test_a_target_is_met_by_them_at_once() -> None:
    codebook = random_plane(3)
    found = tk.profile(codebook, 1e-5, ["accuracy"], method=tk.MonteCarlo(rtol=1e-9), key=0)
    assert found["accuracy"].n_samples < 1e4


@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("seed", range(8))
def test_second_moments(seed: int, K: int) -> None:
    """On a line, by the sum over a fine grid of observations; of two tokens nearly it."""
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet([8.0, *[1.0] * (K - 1)])
    likeliest = int(np.argmax(prior))
    codebook = tk.PointCodebook(rng.standard_normal((K, 1)), prior)
    problem = Problem(codebook, 10.0 ** np.linspace(-2, 0.5, 6))
    found, line = Overruled(problem), problem.centred[:, 0]
    found.below[:] = np.inf  # as if there were samples of every token
    for h in problem.h:
        y = np.linspace(-16, 16, 200_001) + h * line[likeliest]
        joint = prior * np.exp(-((y[:, None] - h * line) ** 2) / 2) / np.sqrt(2 * np.pi)
        total = joint.sum(axis=1, keepdims=True)
        gain = np.maximum(joint - joint[:, [likeliest]], 0) / total
        exact = np.delete((total * gain**2).sum(axis=0), likeliest) * (y[1] - y[0])
        seldom = found.log_odds + (h * found.distance) ** 2 / 2 < 0
        bound = found.variance(h, 1e-9)  # as if so few saw any of them overrule
        assert bound >= exact[seldom].sum() - 1e-13
        if K == 2:
            assert bound <= 2 * exact[seldom].sum() + 1e-13


def test_intervals_cover_where_few_samples_see_a_token_overrule() -> None:
    """At most 40 of 16384 samples do: spreads alone were up to eight times too small."""
    missed = cells = 0
    for seed in range(40):
        codebook, snr = random_plane(seed), 10.0 ** np.linspace(-3, -0.5, 11)
        exact = tk.accuracy(codebook, snr)
        gain = exact.value - np.max(codebook.prior)
        # What an overruling token adds in a sample is about 0.1 at most.
        levels = (gain > 1e-7) & (gain < 2e-4)
        if not levels.any():
            continue
        found = tk.profile(codebook, snr, ["accuracy", "mmse"], method=tk.MonteCarlo(), key=seed)
        low, high, _ = found["accuracy"].confidence_interval(1 - 1e-4)
        slack = found["accuracy"].numerical_error + exact.numerical_error
        outside = (exact.value < low - slack) | (exact.value > high + slack)
        missed, cells = missed + outside[levels].sum(), cells + levels.sum()
    assert cells > 30
    assert missed == 0


def test_the_value_where_the_bounds_are_close() -> None:
    """Close beside the error of the sample, which is made up here; else the sample is kept."""
    codebook, snr = random_plane(3), 10.0 ** np.linspace(-4, 2, 40)
    exact, bounds = tk.accuracy(codebook, snr).value, Overruled(Problem(codebook, snr))
    sample = Findings(np.full(40, 0.123), 1e-3, n_samples=100, method="as it was")
    apart = np.diff(bounds.gains)[:, 0]
    close = apart <= 1e-4
    assert 5 < close.sum() < 35
    assert (apart[close] > 1e-9).any()
    for is_error, truth in ((False, exact), (True, 1 - exact)):
        found = bounds.pinned(sample, is_error)
        assert [str(found.method.at(level)) == NAME for level in range(40)] == close.tolist()
        assert (found.value[~close] == 0.123).all()
        assert (found.standard_error == np.where(close, 0.0, 1e-3)).all()
        assert (np.abs(found.value - truth) <= found.numerical_error)[close].all()
        np.testing.assert_allclose(found.numerical_error[close], apart[close] / 2, atol=1e-14)


def test_what_is_added_to_the_squared_error() -> None:
    """The variance over the samples, whether these are in nets or not; other columns stay."""
    codebook = tk.PointCodebook([[0.0], [1.0]], [0.8, 0.2])
    bounds = Overruled(Problem(codebook, np.array([0.2])))
    moments = Moments((1, 4))
    moments.add(np.random.default_rng(0).standard_normal((1, 4, 16)))
    before = moments.standard_error**2
    count = np.array([[2048]])
    after = bounds.added(moments, count).standard_error ** 2
    unseen = bounds.variance(bounds.h[0], 2048)
    assert unseen > 1e-12
    np.testing.assert_allclose(after[0, 0] - before[0, 0], unseen / 2048, rtol=1e-6, atol=0)
    assert (after[0, 1:] == before[0, 1:]).all()


def test_tokens_that_are_hardly_met_count_elsewhere() -> None:
    """Two of 2048 samples are of the last one: `Unmet` looks at it."""
    codebook = tk.PointCodebook([[0.0], [1.0], [1.5]], [0.6, 0.399, 0.001])
    bounds, with_it = (Overruled(Problem(codebook, np.array([2.0]))) for _ in range(2))
    with_it.below[:] = np.inf
    assert with_it.variance(bounds.h[0], 2048) > 1e-9
    assert bounds.variance(bounds.h[0], 2048) == 0
