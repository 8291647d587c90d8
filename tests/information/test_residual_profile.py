"""Residual codebooks beyond enumeration: brackets against exact grids and against enumeration."""

import gc
import math

import numpy as np
import pytest

import tokenkl as tk
from tokenkl import _once
from tokenkl.codebooks import ResidualCodebook
from tokenkl.information.problem import Problem
from tokenkl.information.residual import profile
from tokenkl.information.residual.profile import (
    Stages,
    _Level,
    prepare,
    prepared,
    residual_profile,
    too_large_to_enumerate,
)
from tokenkl.quantities import QUANTITIES

ALL = tuple(QUANTITIES)

#: Two-sided confidence at which a fixed-key comparison may fail: the false-alarm budget.
LEVEL = 1 - 2e-5


def expansion(n: int, base: int, stages: int, seed: int) -> tuple[list[np.ndarray], tk.Codebook]:
    """Stages whose sums are the digits of a grid in [-1, 1]^n, rotated; and the grid itself.

    Stage s holds the base^n combinations of the digit number s of every coordinate.
    """
    size = base**stages
    digit = np.arange(base) - (base - 1) / 2
    grid = np.stack(np.meshgrid(*[digit] * n, indexing="ij"), axis=-1).reshape(-1, n)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    scales = [2 / (size - 1) * base ** (stages - 1 - s) for s in range(stages)]
    return [grid * scale @ rotation for scale in scales], tk.FSQ([size] * n)


def assert_bracketed(found: tk.Profile, exact: tk.Profile, level: float = LEVEL) -> None:
    for name, estimate in found.estimates.items():
        low, high, _ = estimate.confidence_interval(level)
        answer = np.asarray(exact[name].value)
        held = (low <= answer) & (answer <= high)
        assert held.all(), f"{estimate!r}: {answer}, in {low} to {high}"


@pytest.mark.parametrize(("n", "base", "stages"), [(8, 2, 5), (5, 3, 6), (30, 2, 1)])
def test_digits_of_a_grid(n: int, base: int, stages: int) -> None:
    vectors, grid = expansion(n, base, stages, seed=n) if stages > 1 else in_pairs(n)
    codebook = ResidualCodebook(vectors)
    assert codebook.K == grid.K
    assert too_large_to_enumerate(codebook)
    snr = 10.0 ** np.arange(-2, 6.1, 2.0)
    found = tk.profile(codebook, snr, method=tk.MonteCarlo(n_samples=40), key=1)
    assert_bracketed(found, tk.profile(grid, snr))


def in_pairs(n: int) -> tuple[list[np.ndarray], tk.Codebook]:
    """A base-2 grid in R^n as n / 2 stages of four points, each in a plane of its own."""
    square = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], float)
    stages = np.zeros((n // 2, 4, n))
    for s in range(n // 2):
        stages[s, :, 2 * s : 2 * s + 2] = square
    return list(stages), tk.FSQ([2] * n)


@pytest.mark.slow
def test_two_to_the_eighty_tokens() -> None:
    vectors, grid = expansion(10, 2, 8, seed=3)
    codebook = ResidualCodebook(vectors)
    assert codebook.K == 2**80 == grid.K
    snr = 10.0 ** np.array([-2.0, 0.0, 2.0, 4.0, 6.0])
    found = tk.profile(codebook, snr, method=tk.MonteCarlo(n_samples=100), key=1)
    assert_bracketed(found, tk.profile(grid, snr))
    entropy = found["conditional_entropy"]
    assert (entropy.numerical_error[:4] < 0.05).all()


@pytest.mark.slow
def test_intervals_cover() -> None:
    """95 % intervals, 60 times, where all kinds of bounds are in use."""
    vectors, grid = expansion(2, 4, 3, seed=5)
    codebook = ResidualCodebook(vectors)
    snr = 10.0 ** np.array([0.5, 2.0, 3.3])
    exact = tk.profile(grid, snr, ALL)
    runs, held = 60, {name: np.zeros(snr.size) for name in ALL}
    for key in range(runs):
        method = tk.MonteCarlo(n_samples=1024)
        found = residual_profile(Problem(codebook, snr), ALL, method, key=key)
        for name, one in found.items():
            low, high, _ = one.estimate(snr.shape).confidence_interval()
            held[name] += (low <= exact[name].value) & (exact[name].value <= high)
    for name, count in held.items():
        # Binomial(60, 0.95) is below 48 with probability 7e-6, Binomial(60, 0.7) with 94 %.
        assert (count >= 48).all(), f"{name}: {count / runs}"


def trained(seed: int, priors: bool) -> ResidualCodebook:
    """Three stages of 12, each k-means on what the stages before leave of Gaussian data."""
    from scipy.cluster.vq import kmeans2

    rng = np.random.default_rng(seed)
    data = rng.standard_normal((4000, 3))
    stages, shares = [], []
    for _ in range(3):
        centres, labels = kmeans2(data, 12, seed=seed, minit="++")
        stages.append(centres)
        shares.append((np.bincount(labels, minlength=12) + 1) / (len(labels) + 12))
        data = data - centres[labels]
    return ResidualCodebook(stages, stage_priors=shares if priors else None)


@pytest.mark.parametrize("priors", [False, True])
@pytest.mark.slow
def test_k_means_stages_against_enumeration(priors: bool) -> None:
    codebook = trained(0, priors)
    snr = 10.0 ** np.array([-3.0, -1.0, 0.5, 1.5, 2.5, 4.0])
    exact = tk.profile(codebook, snr, ALL, method=tk.MonteCarlo(n_samples=20000), key=2)
    method = tk.MonteCarlo(n_samples=1500)
    fields = residual_profile(Problem(codebook, snr), ALL, method, key=3)
    assert (fields["mmse"].n_samples == 1500).all()
    assert "bracket" in str(fields["mmse"].method)
    z = 4.3  # two-sided 2e-5
    for name in ALL:
        found = fields[name].estimate(snr.shape)
        # At the largest SNR few samples carry the MMSE, and no central limit is claimed for it.
        central = found.interval_supported & exact[name].interval_supported
        assert central.any()
        difference = np.abs(found.value - exact[name].value)
        sampling = np.hypot(found.standard_error, exact[name].standard_error)
        assert (difference <= z * sampling + found.numerical_error)[central].all(), name
        ours, theirs = (one.confidence_interval(1 - 1e-5) for one in (found, exact[name]))
        assert (ours.low <= theirs.high).all(), name
        assert (theirs.low <= ours.high).all(), name
    assert (fields["conditional_entropy"].numerical_error < 0.01).all()


def small(n_stages: int = 4, size: int = 256, n: int = 3, seed: int = 0) -> ResidualCodebook:
    rng = np.random.default_rng(seed)
    return ResidualCodebook([rng.standard_normal((size, n)) / 6**s for s in range(n_stages)])


def test_what_is_enumerated() -> None:
    assert not too_large_to_enumerate(small(2))
    assert too_large_to_enumerate(small(4))
    assert not too_large_to_enumerate(tk.FSQ((17,) * 30))
    joint = ResidualCodebook([np.eye(2), np.eye(2)], prior=[0.1, 0.2, 0.3, 0.4])
    assert not too_large_to_enumerate(joint)


def test_same_key_same_bits_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    snr, method = np.array([1.0, 1e3]), tk.MonteCarlo(n_samples=30)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    first = tk.profile(small(), snr, ALL, method=method, key=7)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    again = tk.profile(small(), snr, ALL, method=method, key=7)
    other = tk.profile(small(), snr, method=method, key=8)
    for name in ALL:
        np.testing.assert_array_equal(first[name].value, again[name].value)
    assert (first["conditional_entropy"].value != other["conditional_entropy"].value).all()


def test_order_of_stages_does_not_matter() -> None:
    """The filter starts with the widest stage, wherever it stands."""
    codebook, method = small(), tk.MonteCarlo(n_samples=20)
    turned = ResidualCodebook(list(codebook.stages[::-1]))
    first, second = (tk.mmse(cb, 30.0, method=method, key=1) for cb in (codebook, turned))
    assert float(first) == float(second)


def test_progress_and_targets() -> None:
    seen: list[tuple[int, int]] = []
    estimate = tk.conditional_entropy(
        small(), 10.0, method=tk.MonteCarlo(atol=0.02), key=0, progress=lambda *x: seen.append(x)
    )
    assert seen[-1][0] == seen[-1][1] == estimate.n_samples
    assert all(done <= wanted for done, wanted in seen)
    assert estimate.standard_error <= 0.02
    assert estimate.numerical_error <= 0.02
    assert "a bracket, of half-width up to" in estimate.note


def test_no_noise_and_nothing_but_noise() -> None:
    codebook = small()
    found = tk.profile(codebook, [0.0, 1e-9], method=tk.MonteCarlo(n_samples=64), key=0)
    assert found["mutual_information"].value[0] == 0
    power = tk.codebooks.transforms.average_power(codebook)
    np.testing.assert_allclose(found["mutual_information"].value[1], power * 1e-9 / 2, rtol=1e-6)
    np.testing.assert_allclose(found["mmse"].value, power, rtol=1e-6)
    assert found["accuracy"].value[0] == pytest.approx(1 / codebook.K, rel=1e-9)


def test_a_control_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"control must be None for the estimator"):
        tk.mmse(small(), 1.0, method=tk.MonteCarlo(control=tk.FSQ((2, 2, 2))), key=0)


@pytest.mark.parametrize(
    ("products", "rough", "sparse", "energy_alone"),
    [
        (False, False, False, False),
        (True, False, False, False),
        (True, True, False, False),
        (True, True, True, True),
    ],
)
def test_the_two_runs_are_what_the_proofs_need(
    products: bool,
    rough: bool,
    sparse: bool,
    energy_alone: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At one y: E Z^_u = Z, E 1/Z^_v = 1/Z, and on average the leaves of v are the posterior."""
    from tokenkl.information.residual import filter as kernel  # brings in Numba

    assert profile.CLASSES == kernel.CLASSES
    monkeypatch.setattr(profile, "WORTH_SINGLE", 0 if rough else 10**9)
    monkeypatch.setattr(profile, "ENOUGH_OF_CLASS", 0 if sparse else 10**9)
    rng = np.random.default_rng(11)
    vectors = [rng.standard_normal((16, 2)) / 2**s for s in range(4)]
    log_prior = [np.log(rng.dirichlet(np.ones(16))) for _ in range(4)]
    covariances = [(c.T * np.exp(p)) @ c for c, p in zip(vectors, log_prior, strict=True)]
    level = _Level(Stages(vectors, log_prior, covariances, 9.0, 9.0), 20.0, ALL)
    joint = ResidualCodebook(vectors, stage_priors=[np.exp(p) for p in log_prior])
    level.by_products = products
    y = level.h * joint.points[777] + rng.standard_normal(2)
    energy = -0.5 * ((y - level.h * joint.points) ** 2).sum(axis=1)
    weight = joint.prior * np.exp(energy)
    total = weight.sum()

    runs, tables, n = 4000, level.tables(), 2
    assert level.sparse == (2 if sparse else 0)
    ids = rng.choice(joint.K, size=runs, p=weight / total)
    out = np.empty((runs, 2, len(kernel.FIELDS) + 4))
    pad = ((0, 0), (0, 2))
    kernel.filter_samples(
        tables,
        level.h,
        np.pad(np.tile(y, (runs, 1)), pad),
        np.pad(joint.points_at(ids), pad),
        joint.to_digits(ids),
        rng.random((runs, 2, 4)),
        9,
        products,
        True,
        energy_alone,
        True,
        out,
    )
    free, told = (dict(zip(kernel.FIELDS, out[:, i].T, strict=False)) for i in (0, 1))
    # The true token has the law of the leaves of the run that is told, and S lies in its bracket.
    wrong = 1 - ((weight / total) ** 2).sum()
    apart = told["found"] - told["alike"]
    assert abs(apart.mean()) < 4.3 * apart.std() / math.sqrt(runs)
    for ends, sign in ((1 - told["alike"], 1), (1 - 2 * free["found"] + free["alike"], -1)):
        assert sign * (ends.mean() - wrong) < 4.3 * ends.std() / math.sqrt(runs)
    mean = out[:, 1, len(kernel.FIELDS) : len(kernel.FIELDS) + n] + joint.points_at(ids)
    posterior = weight / total
    # Second moments are those of the same leaves, whichever way they are found.
    spread = told["second"] - ((mean - joint.points_at(ids)) ** 2).sum(axis=1)
    about = (posterior @ (joint.points**2).sum(axis=1)) - ((posterior @ joint.points) ** 2).sum()
    assert (spread > -1e-9).all()
    assert spread.mean() - about < 4.7 * spread.std() / math.sqrt(runs)  # R5
    both = np.logaddexp(free["log_total"], told["log_total"]) - math.log(2)
    share = 1 / (1 + np.exp(free["log_total"] - told["log_total"]))
    of_free = out[:, 0, len(kernel.FIELDS)] + joint.points_at(ids)[:, 0]
    together = share * mean[:, 0] + (1 - share) * of_free
    for found, answer in (
        (np.exp(free["log_total"]) / total, 1.0),
        (total / np.exp(told["log_total"]), 1.0),
        (total / np.exp(both), 1.0),  # of both runs, as of one with twice the particles
        (together, posterior @ joint.points[:, 0]),
        (told["energy"], posterior @ energy),
        (told["log_prior"], posterior @ joint.log_prior),
        (mean[:, 0], posterior @ joint.points[:, 0]),
        (mean[:, 1], posterior @ joint.points[:, 1]),
    ):
        assert found.std() > 1e-3  # something was thinned out
        assert abs(found.mean() - answer) < 4.7 * found.std() / math.sqrt(runs)
    for found, sign in ((free["log_total"], -1), (told["log_total"], 1), (both, 1)):
        assert sign * (found.mean() - math.log(total)) > -4.7 * found.std() / math.sqrt(runs)
    assert (free["best"] <= np.log(weight.max()) + 1e-12).all()


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("h", [0.3, 10.0])
def test_products_are_as_good_as_differences(h: float, offset: float) -> None:
    """Near-duplicates far from the mean; what they differ by is what the level says of itself."""
    rng = np.random.default_rng(12)
    clusters = np.repeat(rng.standard_normal((8, 6)), 32, axis=0)
    vectors = [clusters * scale + 1e-4 * rng.standard_normal((256, 6)) for scale in (8, 2, 0.5)]
    codebook = ResidualCodebook([vector + offset for vector in vectors])
    level = _Level(prepare(codebook), h**2, ALL)
    assert level.by_products
    found = []
    level.from_energy = False
    for level.by_products in (True, False):
        found.append(level.run(level.tables(), np.random.default_rng(0), slice(0, 64)))
    squares = np.finfo(float).eps * 64 * (level.n + 8) * level.stages.radius**2
    for name, one in found[0].items():
        slack = squares if name in ("variance", "together", "far", "cross", "step") else 0.0
        rtol = 8 * level.rounding
        np.testing.assert_allclose(one, found[1][name], rtol, slack + rtol, err_msg=name)


def test_second_moments_of_energies_are_those_of_leaves() -> None:
    rng = np.random.default_rng(13)
    vectors = [rng.standard_normal((256, 6)) * scale for scale in (4, 1, 0.25)]
    level = _Level(prepare(ResidualCodebook(vectors)), 2.0, ALL)
    assert level.from_energy
    found = []
    for level.from_energy in (True, False):
        found.append(level.run(level.tables(), np.random.default_rng(0), slice(0, 64)))
    for name, one in found[0].items():
        slack = level.of_energy + level.arithmetic("accuracy", 1.0)
        np.testing.assert_allclose(one, found[1][name], 8 * level.rounding, slack, err_msg=name)
    # Where there is next to nothing but noise they would be rounding.
    assert not _Level(prepare(ResidualCodebook(vectors)), 1e-9, ALL).from_energy


def test_a_codebook_is_prepared_once_and_forgotten_with_it() -> None:
    codebook = ResidualCodebook([np.random.default_rng(0).standard_normal((8, 2))] * 2)
    name = id(codebook)
    assert prepared(codebook) is prepared(codebook)
    assert name in _once._MADE
    del codebook
    gc.collect()
    assert name not in _once._MADE


def test_products_are_not_for_large_squares() -> None:
    codebook = ResidualCodebook([np.random.default_rng(0).standard_normal((64, 4))] * 4)
    by_products = [_Level(prepare(codebook), 10.0**x, ALL).by_products for x in (0, 3, 6)]
    assert by_products == [True, True, False]


@pytest.mark.parametrize("scale", [0.01, 50.0])
def test_ranges_of_single_draws(scale: float) -> None:
    """What the empirical Bernstein bound needs: nothing here is a unit away from its default."""
    rng = np.random.default_rng(4)
    vectors = [scale * (rng.standard_normal((300, 2)) + 3) / 4**s for s in range(4)]
    shares = [rng.dirichlet(np.full(300, 0.3)) for _ in range(4)]
    codebook = ResidualCodebook(vectors, stage_priors=shares)
    problem, method = (
        Problem(codebook, np.array([0.1, 5.0]) / scale**2),
        tk.MonteCarlo(n_samples=20),
    )
    fields = residual_profile(problem, ALL, method, key=1)
    # No token is farther from the mean than the sum of what the stages allow, nor is any posterior
    # mean; the estimate that competes lies within twice that radius of it.
    radius = sum(
        np.linalg.norm(c - p @ c, axis=1).max() for c, p in zip(vectors, shares, strict=True)
    )
    entropy = -sum((p * np.log(p)).sum() for p in shares)
    ranges = {name: float(fields[name].sample_range[0]) for name in ALL}
    expected = dict.fromkeys(("accuracy", "error_probability"), 1.0)
    expected |= dict.fromkeys(("conditional_entropy", "mutual_information"), entropy)
    expected["mmse"] = radius**2 + (2 * radius) ** 2
    expected["sampling_error"] = 2.0
    assert ranges == pytest.approx({name: expected[name] for name in ALL}, rel=1e-12)


def test_beyond_what_rounding_leaves_values_stay_in_their_range() -> None:
    """At SNRs at which distances are all rounding, an interval still says no more than is true."""
    rng = np.random.default_rng(3)
    law = np.array([0.9] + [0.1 / 31] * 31)
    stages = [rng.standard_normal((32, 8)) for _ in range(6)]
    book = ResidualCodebook(stages, stage_priors=[law] * 6)
    assert not book.fits
    found = tk.profile(book, 1e32, ALL, method=tk.MonteCarlo(n_samples=16), key=0)
    guess = 0.9**6
    ends = {
        "accuracy": (guess, 1),
        "error_probability": (0, 1 - guess),
        "sampling_error": (0, 1 - (law**2).sum() ** 6),
    }
    for name, (low, high) in ends.items():
        one = found[name]
        assert float(one.value - one.numerical_error) == pytest.approx(low, abs=1e-12)
        assert float(one.value + one.numerical_error) == pytest.approx(high, rel=1e-12)
    entropy = float(book.prior_entropy())
    for name in ("conditional_entropy", "mutual_information"):
        one = found[name]
        assert -1e-12 <= float(one.value - one.numerical_error) < 0.01
        assert entropy - 0.01 < float(one.value + one.numerical_error) <= entropy * (1 + 1e-12)


def test_the_range_ends_where_brackets_leave_it_open() -> None:
    """Random stages cannot be told apart by a search; the range does not run off to infinity."""
    rng = np.random.default_rng(3)
    book = ResidualCodebook([rng.standard_normal((32, 8)) for _ in range(6)])
    low, high = tk.optimality.information_range(book, key=0)
    assert 0 < low < high < 1e3
    found = tk.conditional_entropy(book, high, method=tk.MonteCarlo(n_samples=64), key=1)
    sure = float(found.value - found.numerical_error - 4 * found.standard_error)
    assert sure < 1e-2 * float(book.prior_entropy())


def with_rare(c: np.ndarray) -> tuple[ResidualCodebook, ResidualCodebook, float]:
    """Two stages, then one whose first vector is all but sure; without it; what the others have."""
    rng = np.random.default_rng(0)
    stages = [rng.standard_normal((64, 6)), 0.3 * rng.standard_normal((64, 6))]
    prior = np.full(len(c), 1e-7)
    prior[0] = 1 - prior[1:].sum()
    codebook = ResidualCodebook([*stages, c], stage_priors=[None, None, prior])
    assert too_large_to_enumerate(codebook)
    return codebook, ResidualCodebook(stages), 1 - prior[0]


@pytest.mark.parametrize(("size", "snr"), [(30.0, 0.3), (30.0, 1.0), (100.0, 1.0)])
def test_no_control_rests_on_vectors_that_no_sample_meets(size: float, snr: float) -> None:
    """A last stage that is decoded for sure leaves what the first two do."""
    codebook, fewer, _ = with_rare(size * np.random.default_rng(1).standard_normal((4096, 6)))
    names = ("conditional_entropy", "mmse")
    answer = tk.profile(fewer, snr, names, key=99, method=tk.MonteCarlo(n_samples=2**16))
    method = tk.MonteCarlo(n_samples=512)
    for key in range(5):
        found = tk.profile(codebook, snr, names, key=key, method=method)
        for name in names:
            gap = found[name] - answer[name]
            low, high, _ = gap.confidence_interval(LEVEL)
            assert low <= 0 <= high, (name, key, found[name])


def test_vectors_that_no_sample_meets_are_in_the_error() -> None:
    """All that is met is as uncertain as all the rest; what is not met is twice as much."""
    far = np.repeat(100.0 * np.random.default_rng(1).standard_normal((2048, 6)), 2, axis=0)[1:]
    codebook, fewer, rare = with_rare(far)
    stages = [np.repeat(np.asarray(fewer.stages[0])[::2], 2, axis=0), fewer.stages[1], far]
    codebook = ResidualCodebook(stages, stage_priors=codebook.stage_weights())
    found = tk.profile(codebook, 1e10, ALL, key=0, method=tk.MonteCarlo(n_samples=512))
    for name, answer in (
        ("accuracy", 0.5 - rare / 4),
        ("error_probability", 0.5 + rare / 4),
        ("sampling_error", 0.5 + rare / 4),
        ("conditional_entropy", math.log(2) * (1 + rare)),
    ):
        low, high, _ = found[name].confidence_interval(LEVEL)
        assert low <= answer <= high, found[name]
        assert found[name].interval_supported
        assert found[name].standard_error < 1e-2


@pytest.mark.parametrize("kind", ["unlikely", "long", "neither"])
def test_kinds_of_vectors_that_are_hardly_met(kind: str) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((4096, 6))
    prior, few = np.ones(4096), np.arange(0, 4096, 1024)
    if kind == "unlikely":
        prior[few] = 1e-3
    elif kind == "long":
        vectors[few] *= 100
    prior /= prior.sum()
    plain = rng.standard_normal((2, 4096, 6))
    stages, priors = [vectors, *plain], [prior, None, None]
    level = _Level(prepare(ResidualCodebook(stages, stage_priors=priors)), 1.0, ALL)
    level.look_for_unmet(np.random.default_rng(0), 1024)
    assert level.weights.sum() == pytest.approx(0.0 if kind == "neither" else prior[few].sum())
