"""Clusters of tokens: what mistakes between them add, and intervals that know of it."""

from __future__ import annotations

from itertools import product as product_of

import numpy as np
import pytest
from intervals import Intervals
from scipy import special, stats

import tokenkl as tk
from benchmarks.coverage import clustered_cases, rotated
from tokenkl.information.problem import Problem
from tokenkl.information.rare.profile import STATISTICS, rare_profile
from tokenkl.information.sampling import kernel
from tokenkl.information.sampling.clusters import clusters_of
from tokenkl.information.sampling.controls import Controls
from tokenkl.information.sampling.within import Within
from tokenkl.numerics.moments import Moments

BUDGET = 2e-5
RNG = np.random.default_rng(7)
#: A grid, the same tokens turned, and the cluster of each.
Case = tuple[tk.ProductCodebook, tk.PointCodebook, np.ndarray]


def product(
    far: list[float],
    near: list[float],
    far_prior: list[float] | None = None,
    near_prior: list[float] | None = None,
) -> Case:
    """Clusters are the levels of the first coordinate, and tokens of one those of the others."""
    exact = tk.ProductCodebook([far, near, [0.0]], [far_prior, near_prior, None])
    labels = exact.to_digits(np.arange(exact.K))[:, 0]
    return exact, rotated(exact, seed=3), labels


UNEQUAL = product([-1.0, 0.1, 1.3], [0.0, 1e-3, 0.2], [0.2, 0.3, 0.5], [0.6, 0.1, 0.3])
EQUAL = product([-0.5, 0.5], list(1e-4 * np.arange(20)))


@pytest.mark.parametrize("case", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("root", [5.0, 8.0, 20.0])
def test_what_clusters_add_by_coordinate(case: Case, root: float) -> None:
    """With independent coordinates the first one alone says what not knowing it costs."""
    exact, points, labels = case
    snr = np.array([root**2])
    first, rest = (
        tk.ProductCodebook([exact.levels[i]], [np.exp(exact.coordinate_log_prior(i))])
        for i in (0, 1)
    )
    answers = {
        "error_probability": tk.error_probability(first, snr).value * tk.accuracy(rest, snr).value,
        "conditional_entropy": tk.conditional_entropy(first, snr).value,
        "mmse": tk.mmse(first, snr).value,
        "sampling_error": tk.sampling_error(first, snr).value
        * (1 - tk.sampling_error(rest, snr).value),
    }
    method = tk.RareEvents(n_samples=8000)
    found = rare_profile(Problem(points, snr), STATISTICS, method, 1, labels=labels)
    z = stats.norm.isf(BUDGET / 8)
    for name, answer in answers.items():
        error = z * found[name].standard_error + found[name].numerical_error
        assert abs(found[name].value - answer) <= error, name
        assert found[name].standard_error < 0.03 * answer, name
        assert found[name].interval_supported.all()


def test_posteriors_that_know_the_cluster() -> None:
    points = RNG.standard_normal((30, 3))
    log_prior = np.log(RNG.dirichlet(np.ones(30)))
    labels = RNG.integers(0, 4, 30) * 5
    within = Within(kernel.lay_out, points, log_prior, labels)
    ids, noise, h = RNG.integers(0, 30, 40), RNG.standard_normal((40, 3)), np.array([0.3, 2.0])
    found = within.statistics(kernel.block_statistics, ids, noise, h, True, False, True)
    for level, root in enumerate(h):
        for sample, (k, eps) in enumerate(zip(ids, noise, strict=True)):
            own = np.flatnonzero(labels == labels[k])
            prior = special.softmax(log_prior[own])
            y = root * points[k] + eps
            p = special.softmax(log_prior[own] - ((y - root * points[own]) ** 2).sum(axis=1) / 2)
            mean = p @ points[own]
            answers = (
                1 - p.max(),
                -special.xlogy(p, p).sum(),
                p @ ((points[own] - mean) ** 2).sum(axis=1),
                special.xlogy(p, p / prior).sum() + np.log(prior[np.flatnonzero(own == k)[0]]),
                1 - (p**2).sum(),
            )
            np.testing.assert_allclose(found[level, :, sample], answers, rtol=1e-9, atol=1e-13)


@pytest.mark.slow
def test_intervals_cover_where_mistakes_are_never_seen() -> None:
    methods = (None, tk.MonteCarlo(n_samples=4000), tk.MonteCarlo(rtol=0.01, atol=1e-4))
    snr, runs, intervals = np.array([8.6**2]), 9, Intervals(6)
    quantities = ("conditional_entropy", "mutual_information", "mmse", "sampling_error")
    for number, ((exact, points, _), method) in enumerate(product_of((EQUAL, UNEQUAL), methods)):
        answers = tk.profile(exact, snr, quantities)
        for key in range(runs * number, runs * (number + 1)):
            found = tk.profile(points, snr, quantities, method=method, key=key)
            every = [found[name] for name in quantities]
            intervals.add(number, every, [answers[name].value for name in quantities])
            assert all(one.interval_supported.all() for one in every)
    intervals.check()


def test_plain_averages_say_that_they_are_blind() -> None:
    exact, points, _ = EQUAL
    snr = np.array([1.0, 8.6**2])
    method = tk.MonteCarlo(n_samples=4000, variance_reduction=False)
    found = tk.profile(points, snr, ("conditional_entropy", "mmse"), method=method, key=0)
    for name in ("conditional_entropy", "mmse"):
        assert found[name].interval_supported.tolist() == [True, False], name
        low, high, _ = found[name].confidence_interval(0.95)
        answer = tk.profile(exact, snr, (name,))[name].value
        assert (low <= answer).all(), name
        assert (answer <= high).all(), name


def test_where_there_are_clusters() -> None:
    """By brute force: pairs of different clusters are farther apart than those linked within."""
    centres = RNG.standard_normal((700, 4))
    points = np.concatenate([centres, centres + 1e-3 * RNG.standard_normal((700, 4))])
    order = RNG.permutation(1400)
    codebook = tk.PointCodebook(points[order])
    for root in (2.0, 40.0):  # mistakes between clusters are common, and rare
        found = list(clusters_of(Problem(codebook, np.array([root**2])), 2**14))
        if root == 2.0:
            assert not found
            continue
        (clusters,) = found
        partners = np.argsort(order)
        assert (clusters.labels[partners[:700]] == clusters.labels[partners[700:]]).mean() > 0.95
        assert np.unique(clusters.labels).size > 600
    smooth = tk.perturb(tk.FSQ((3,) * 4), 0.1, key=0)
    assert not list(clusters_of(Problem(smooth, np.geomspace(0.1, 100, 7)), 2**14))


def test_one_remote_token_is_a_cluster() -> None:
    """A prior of 1e-5 at a distance of 300: most of the variance, and never drawn."""
    levels, prior = [0.0, 1e-3, 300.0], [0.5, 0.5 - 1e-5, 1e-5]
    exact = tk.ProductCodebook([levels, [0.0, 1e-3]], [prior, None])
    points = rotated(tk.ProductCodebook([levels, [0.0, 1e-3], [0.0]], [prior, None, None]))
    snr = np.array([1e-4, 4e-4, 1e-3])
    found = tk.profile(points, snr, ("mmse", "conditional_entropy"), key=4)
    z = stats.norm.isf(BUDGET / 12)
    for name, estimate in found.estimates.items():
        answer = tk.profile(exact, snr, (name,))[name].value
        error = z * estimate.standard_error + estimate.numerical_error
        assert (np.abs(estimate.value - answer) <= error).all(), name


def test_controls_inside_clusters_have_mean_zero() -> None:
    """At an extreme scale too: points are divided by a power of two, and distances with them."""
    _, points, labels = UNEQUAL
    exponent = 7
    scaled = np.ldexp(points.points, -exponent)
    h = np.ldexp(np.array([1.0, 8.0]), exponent)
    controls = Controls(points, scaled - scaled.mean(axis=0), h, None, 2**26, exponent, labels)
    assert "neighbours" in controls.sizes
    assert "grid" not in controls.sizes
    rng = np.random.default_rng(0)
    ids = rng.choice(points.K, size=100_000, p=np.asarray(points.prior))
    block = controls.block(ids, rng.standard_normal((ids.size, 3)))
    for level in range(2):
        rows = block(level)
        spread = rows.std(axis=1) / np.sqrt(ids.size)
        bound = stats.norm.isf(BUDGET / 2 / rows.size * ids.size) * spread
        assert (np.abs(rows.mean(axis=1)) <= bound + controls.rounding(level)).all()


def test_fourth_moments_of_a_stream() -> None:
    x = RNG.exponential(size=(3, 2000)) ** 2 + 5
    moments = Moments((3,))
    for start, stop in ((0, 3), (3, 700), (700, 2000)):
        moments.add(x[:, start:stop])
    d = x - x.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(moments.cubes, (d**3).sum(axis=1), rtol=1e-10)
    np.testing.assert_allclose(moments.fourths, (d**4).sum(axis=1), rtol=1e-10)
    carriers = (d**2).sum(axis=1) ** 2 / (d**4).sum(axis=1)
    np.testing.assert_allclose(moments.carriers(), carriers, rtol=1e-10)


@pytest.mark.parametrize("power", [-498, 498])
def test_extreme_scales(power: int) -> None:
    """Everything depends on sqrt(snr) times the points alone, bit for bit."""
    base, snr = RNG.standard_normal((7, 3)), np.array([0.3, 3.0])
    known = tk.profile(tk.PointCodebook(base), snr, key=2)
    moved = tk.PointCodebook(np.ldexp(base, power))
    found = tk.profile(moved, np.ldexp(snr, -2 * power), key=2)
    for name, estimate in found.estimates.items():
        unit = 2 * power if name == "mmse" else 0
        for field in ("value", "standard_error", "numerical_error"):
            ours = np.ldexp(getattr(estimate, field), -unit)
            rtol = 1e-9 if field == "numerical_error" else 0
            np.testing.assert_allclose(ours, getattr(known[name], field), rtol=rtol, err_msg=name)


@pytest.mark.slow
def test_clustered_cases_are_within_their_intervals() -> None:
    """Levels of all cases go from where mistakes between clusters are common to never seen."""
    quantities = ("accuracy", "conditional_entropy", "mutual_information", "mmse")
    cases, runs = clustered_cases(), 5
    intervals = Intervals(len(cases))
    for number, case in enumerate(cases.values()):
        snr = np.array(case.roots) ** 2
        answers = tk.profile(case.exact, snr)
        for key in range(1000 + runs * number, 1000 + runs * (number + 1)):
            found = tk.profile(case.points, snr, quantities, key=key)
            every = [found[name] for name in quantities]
            intervals.add(number, every, [answers[name].value for name in quantities])
    intervals.check()


def test_tokens_that_are_hardly_drawn_are_in_the_error_between_clusters() -> None:
    """One token, a cluster of its own, has 4e-8; the entropy shows 3e-5 of it. By quadrature."""
    prior, h = np.array([0.997282, 0.002195, 4.5e-8, 5.23e-4]), 0.05546
    prior = prior / prior.sum()
    line, labels = np.array([-0.0073, 2.9891, -0.004, 2.9885]), np.array([1, 0, 2, 0])
    book = tk.PointCodebook(line[:, None], prior)
    noise, weights = np.polynomial.hermite_e.hermegauss(150)
    exact = 0.0
    for true, share in zip(line, prior, strict=True):
        logits = np.log(prior) + h * noise[:, None] * line - h**2 * (line - true) ** 2 / 2
        logits -= h * noise[:, None] * true
        posterior = special.softmax(logits, axis=1)
        clusters = np.stack([posterior[:, labels == c].sum(axis=1) for c in range(3)])
        exact += share * weights @ special.entr(clusters).sum(axis=0) / weights.sum()
    problem = Problem(book, np.array([h**2]))
    for key in range(8):
        found = rare_profile(
            problem, ("conditional_entropy",), tk.RareEvents(8000), key, labels=labels
        )["conditional_entropy"]
        z = (found.value[0] - exact) / found.standard_error[0]
        assert abs(z) < special.ndtri(1 - BUDGET / 16)


#: Priors and places on a line in units of the noise. Two tokens a hundredth apart, one 200 times
#: likelier: a mistake in 200 samples; others, of tokens ten units away, are a millionth of these,
#: and most of the variance. And a token that is nearly all of its cluster: 512 samples of it
#: see no other.
APART_AND_ALONE = (
    (16384,
     [0.98390225, 0.011276, 0.00460577, 2.155e-4, 4.336e-7, 2.745e-9, 1e-12, 1e-12],
     [9.9762, 19.9438, 9.9675, 0.0019, 0.0036, 19.9474, 0.0064, 19.9439]),
    (512,
     [0.999915, 8.472e-5, 2.268e-7, 4.351e-10, 1e-12, 1e-12, 1e-12, 1e-12],
     [1.5265, 6.8348, -1.7221, -2.4936, 5.6994, 2.6327, -10.6573, -1.8204]),
)  # fmt: skip


@pytest.mark.parametrize(("samples", "prior", "line"), APART_AND_ALONE)
def test_what_hardly_differs_is_no_cluster_and_what_is_alone_is_in_doubt(
    samples: int, prior: list[float], line: list[float]
) -> None:
    book = tk.PointCodebook(np.array(line)[:, None], np.array(prior) / sum(prior))
    names = ("accuracy", "conditional_entropy", "mutual_information", "mmse")
    exact = tk.profile(book, 1.0, names, method=tk.Exact())
    for key in range(6):
        found = tk.profile(book, 1.0, names, method=tk.MonteCarlo(samples), key=key)
        for name in names:
            low, high, _ = found[name].confidence_interval(1 - BUDGET / 48)
            assert low <= exact[name].value <= high, (name, key)


@pytest.mark.parametrize(
    ("apart", "share", "samples"),
    [(1.0, 0.1, 512), (0.1, 0.004, 4096)],  # mistaken too often, or not at all told apart
)
def test_clusters_are_told_apart_whatever_is_likely(
    apart: float, share: float, samples: int
) -> None:
    """Two tokens at a hair's breadth, so that the other two would be clusters of their own."""
    line = np.array([0.0, 1e-4, 10.0, 10.0 + apart])
    prior = [0.5 - share, 0.5 - share, share, share]
    problem = Problem(tk.PointCodebook(line[:, None], prior), np.array([1.0]))
    [found] = clusters_of(problem, samples)
    assert found.labels[0] == found.labels[1] != found.labels[2] == found.labels[3]
