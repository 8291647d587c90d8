"""The Monte-Carlo kernel against slower arithmetic, and its intervals against exact answers."""

import math
import subprocess
import sys
import tracemalloc
from typing import Any

import jax
import mpmath as mp
import numpy as np
import pytest
from scipy import stats

import tokenkl as tk
from benchmarks.coverage import as_points, at_errors
from tokenkl.information.problem import Problem
from tokenkl.information.residual.profile import residual_profile
from tokenkl.information.sampling import kernel
from tokenkl.information.sampling.traced import traced_statistics
from tokenkl.numerics import moments as moments_module
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments
from tokenkl.numerics.threads import threads

#: Probability with which the statistical assertions of this file fail although nothing is wrong.
FALSE_ALARM = 2e-5


def run(
    points: np.ndarray,
    prior: np.ndarray,
    ids: np.ndarray,
    noise: np.ndarray,
    h: np.ndarray,
    **how: bool,
) -> np.ndarray:
    return kernel.block_statistics(kernel.lay_out(points, np.log(prior)), ids, noise, h, **how)


def problem(
    K: int, n: int, samples: int = 40, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((K, n))
    prior = rng.dirichlet(np.full(K, 0.5)) + 1e-6
    ids = rng.integers(K, size=samples)
    return points - points.mean(0), prior / prior.sum(), ids, rng.standard_normal((samples, n))


# --- the kernel


def test_exp2_to_the_last_bits() -> None:
    x = np.concatenate([np.linspace(-960, 999.9, 20001), np.linspace(-1e-3, 1e-3, 2001)])
    values = np.array([kernel.exp2(v) for v in x])
    with mp.workdps(30):
        exact = [mp.mpf(2) ** mp.mpf(float(v)) for v in x]
        error = max(abs(mp.mpf(float(a)) / b - 1) for a, b in zip(values, exact, strict=True))
    assert error < 1e-15
    assert kernel.exp2(0.0) == 1
    assert kernel.exp2(-1021.0) == kernel.exp2(-1e300) == 0
    assert kernel.exp2(1e300) == 2.0**1000


@pytest.mark.parametrize(
    ("K", "n"), [(1, 3), (2, 1), (3, 2), (16, 16), (513, 5), (2000, 8), (1025, 70)]
)
def test_agrees_with_the_differentiable_statistics(K: int, n: int) -> None:
    points, prior, ids, noise = problem(K, n)
    h = np.sqrt([1.0, 1e-6, 0, 0.1, 10, 100, 1e4, 1.0, 1e6])  # in no order, with a repetition
    ours = run(points, prior, ids, noise, h, shares=True)
    with jax.enable_x64(True):
        theirs = np.array(traced_statistics(points, np.log(prior), ids, noise, h))
    theirs[:, 3] += np.log(prior[ids])
    assert ours.shape == (h.size, 5, ids.size)
    scale = np.array([1, 1, max(np.max(points**2) * n, 1), 1, 1])[:, None]
    assert np.abs((ours - theirs) / scale).max() < 1e-12


@pytest.mark.parametrize("n", [2, 8, 64])
def test_float32_of_the_differentiable_statistics(n: int) -> None:
    """Entropies within 1e-4 nats of float64 from SNR 1e-6 to 1e6, with tokens at distance 1e-3."""
    rng = np.random.default_rng(n)
    points, step = rng.standard_normal((2, 128, n))
    twins = points + 1e-3 * step / np.linalg.norm(step, axis=1, keepdims=True)
    points = np.concatenate([points, twins])
    prior = rng.dirichlet(np.ones(256))
    ids, noise = rng.choice(256, 500, p=prior), rng.standard_normal((500, n))
    h = np.sqrt([1e-6, 1.0, 1e2, 1e6])
    exact = run(points, prior, ids, noise, h, shares=True)
    given = [x.astype(np.float32) for x in (points, np.log(prior), noise, h)]
    found = traced_statistics(given[0], given[1], ids.astype(np.int32), given[2], given[3])
    assert found.dtype == np.float32
    error = np.asarray(found, dtype=float) - exact
    assert np.abs(error.mean(axis=-1))[:, :2].max() < 1e-4
    assert np.abs(error[:, 1]).max() < 1e-3  # rounded tokens move single logits at SNR 1e6
    own = run(given[0].astype(float), prior, ids, noise, h, shares=True)
    assert np.abs(np.asarray(found, dtype=float) - own)[:, :2].max() < 1e-5


def exact_statistics(
    points: np.ndarray, prior: np.ndarray, k: int, eps: np.ndarray, h: float
) -> tuple[Any, ...]:
    """Error, entropy, variance and divergence + log pi_k by their definitions, with 60 digits."""
    with mp.workdps(60):
        exact = [[mp.mpf(float(x)) for x in row] for row in points]
        h = mp.mpf(float(h))
        y = [h * e + mp.mpf(float(z)) for e, z in zip(exact[k], eps, strict=True)]
        weight = [
            mp.mpf(float(p))
            * mp.exp(-sum((a - h * e) ** 2 for a, e in zip(y, row, strict=True)) / 2)
            for row, p in zip(exact, prior, strict=True)
        ]
        p = [w / mp.fsum(weight) for w in weight]
        mean = [mp.fsum(q * row[d] for q, row in zip(p, exact, strict=True)) for d in range(len(y))]
        best = max(range(len(p)), key=lambda j: p[j])
        return (
            mp.fsum(q for j, q in enumerate(p) if j != best),
            -mp.fsum(q * mp.log(q) for q in p),
            mp.fsum(
                q * mp.fsum((x - m) ** 2 for x, m in zip(row, mean, strict=True))
                for q, row in zip(p, exact, strict=True)
            ),
            mp.log(mp.mpf(float(prior[k])))
            + mp.fsum(q * mp.log(q / mp.mpf(float(r))) for q, r in zip(p, prior, strict=True)),
        )


@pytest.mark.parametrize("gap", [1e-3, 1e-6])
@pytest.mark.parametrize("snr", [1e-6, 1.0, 30.0, 1e6])
def test_near_duplicates_against_sixty_digits(snr: float, gap: float) -> None:
    points = np.array([[0, 0.0], [gap, 0], [1, 0], [-0.5, 1], [-0.5, 1 - gap]])
    points = points - points.mean(0)
    prior = np.array([0.4, 0.1, 0.2, 0.05, 0.25])
    rng = np.random.default_rng(1)
    ids, noise = np.arange(20) % 5, rng.standard_normal((20, 2))
    ours = run(points, prior, ids, noise, np.sqrt([snr]))[0].T
    for k, eps, got in zip(ids, noise, ours, strict=True):
        exact = [float(x) for x in exact_statistics(points, prior, int(k), eps, np.sqrt(snr))]
        assert np.abs(got - exact).max() < 3e-14 * max(1, np.sqrt(snr))


@pytest.mark.parametrize("snr", [30.0, 300.0, 3000.0])
def test_digits_of_what_vanishes_with_the_error(snr: float) -> None:
    """All four statistics vanish with the error, which is 1e-5, 1e-40 and less here."""
    points = np.array([[0, 0.0], [1, 0], [-0.5, 1], [-0.5, -1]])
    prior = np.array([0.4, 0.1, 0.2, 0.3])
    rng = np.random.default_rng(1)
    ids, noise = np.arange(8) % 4, 0.5 * rng.standard_normal((8, 2))
    ours = run(points, prior, ids, noise, np.sqrt([snr]))[0].T
    for k, eps, got in zip(ids, noise, ours, strict=True):
        exact = [float(x) for x in exact_statistics(points, prior, int(k), eps, np.sqrt(snr))]
        seen = np.abs(exact) > 1e-55  # of 60 digits
        np.testing.assert_allclose(got[seen], np.array(exact)[seen], rtol=1e-11)


def test_small_errors_keep_their_digits() -> None:
    """Relative accuracy down to 1e-80 where the true token wins, whatever is left out."""
    points, prior, ids, noise = problem(1500, 2, samples=25, seed=3)
    levels = np.sqrt(np.geomspace(0.1, 3e5, 25))
    ours = run(points, prior, ids, noise, levels)
    difference = points[None] - points[ids][:, None]
    along = np.einsum("ikn,in->ik", difference, noise)
    squared = (difference**2).sum(-1)
    checked = 0
    for h, (error, entropy, _, _) in zip(levels, ours, strict=True):
        odds = np.log(prior / prior[ids][:, None]) + h * along - h**2 * squared / 2
        odds[np.arange(ids.size), ids] = -np.inf
        others = np.exp(odds).sum(1)
        logs = np.where(np.isfinite(odds), odds, 0)
        exact = np.log1p(others) - (np.exp(odds) * logs).sum(1) / (1 + others)
        certain = (odds.max(1) <= 0) & (others > 1e-80)
        checked += (others[certain] < 1e-20).sum()
        np.testing.assert_allclose(error[certain], (others / (1 + others))[certain], rtol=2e-12)
        np.testing.assert_allclose(entropy[certain], exact[certain], rtol=2e-12)
    assert checked > 20


def test_bits_depend_on_no_thread_and_no_block(monkeypatch: pytest.MonkeyPatch) -> None:
    points, prior, ids, noise = problem(700, 3, samples=100)
    table, h = kernel.lay_out(points, np.log(prior)), np.array([0.3, 3.0, 30.0])
    results = []
    for count in ("1", "2", "5"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", count)
        assert threads() == int(count)
        results.append(kernel.block_statistics(table, ids, noise, h))
    alone = [kernel.block_statistics(table, ids[i : i + 7], noise[i : i + 7], h) for i in (0, 7)]
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    assert (results[0][..., :14] == np.concatenate(alone, axis=-1)).all()


def test_without_mmse_the_rest_keeps_its_bits() -> None:
    points, prior, ids, noise = problem(700, 3)
    table, h = kernel.lay_out(points, np.log(prior)), np.array([0.3, 3.0])
    full = kernel.block_statistics(table, ids, noise, h)
    part = kernel.block_statistics(table, ids, noise, h, mmse=False)
    assert (full[:, [0, 1, 3]] == part[:, [0, 1, 3]]).all()


def test_an_error_in_a_thread_is_raised() -> None:
    points, prior, ids, noise = problem(5, 3)
    with pytest.raises(IndexError):
        run(points, prior, ids + 5, noise, np.ones(1))


def test_import_leaves_numba_alone() -> None:
    code = "import sys, tokenkl; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- streaming


CODEBOOK = tk.PointCodebook(np.random.default_rng(5).standard_normal((12, 3)))
SNR = np.array([0.0, 0.1, 1.0, 10.0])


def fields(profile: tk.Profile) -> list[np.ndarray]:
    names = ("value", "standard_error", "skewness", "numerical_error", "interval_supported")
    return [np.asarray(getattr(profile[q], name)) for q in profile.estimates for name in names]


def test_moments_of_a_stream_are_those_of_the_whole() -> None:
    x = np.random.default_rng(0).gamma(0.3, size=(2, 1000))
    moments = Moments((2,))
    for cut in np.split(x, [1, 2, 300, 999], axis=1):
        moments.add(cut)
    np.testing.assert_allclose(moments.mean, x.mean(1), rtol=1e-13)
    np.testing.assert_allclose(moments.standard_error, stats.sem(x, axis=1), rtol=1e-12)
    np.testing.assert_allclose(moments.skewness, stats.skew(x, axis=1) / np.sqrt(1000), rtol=1e-11)
    np.testing.assert_allclose(moments.effective(), x.sum(1) ** 2 / (x**2).sum(1), rtol=1e-12)


def test_same_key_same_bits() -> None:
    method = tk.MonteCarlo(n_samples=5000)
    first, again, other = (tk.profile(CODEBOOK, SNR, method=method, key=k) for k in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(fields(first), fields(again), strict=True))
    assert first["mmse"].value[2] != other["mmse"].value[2]


@pytest.mark.parametrize("n", [2, 2047, 2048, 2049, 5000])
def test_n_samples_is_honoured_exactly(n: int) -> None:
    seen = []
    estimate = tk.accuracy(
        CODEBOOK,
        SNR,
        method=tk.MonteCarlo(n_samples=n, variance_reduction=False),
        key=1,
        progress=lambda done, wanted: seen.append((done, wanted)),
    )
    assert estimate.n_samples == n
    assert seen[-1] == (n, n)


def test_whole_sobol_replicates_make_up_at_least_n_samples() -> None:
    found = tk.profile(CODEBOOK, SNR[1:], method=tk.MonteCarlo(n_samples=5000), key=1)["mmse"]
    is_net = np.isfinite(found.degrees_of_freedom)
    assert is_net.any()
    assert (found.degrees_of_freedom[is_net] >= 15).all()
    assert (np.broadcast_to(found.n_samples, is_net.shape)[is_net] == 5120).all()  # 20 of 256


def test_a_level_that_has_met_its_target_takes_no_further_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = []
    statistics = kernel.block_statistics

    def counting(
        table: kernel.Table, ids: np.ndarray, noise: np.ndarray, h: np.ndarray, *how: bool
    ) -> np.ndarray:
        work.append((ids.size, h.copy()))
        return statistics(table, ids, noise, h, *how)

    monkeypatch.setattr(kernel, "block_statistics", counting)
    method = tk.MonteCarlo(atol=2e-3, variance_reduction=False)
    found = tk.conditional_entropy(CODEBOOK, SNR, method=method, key=3)
    assert (found.standard_error <= 2e-3).all()
    assert found.n_samples.min() < found.n_samples.max()
    # The kernel sees the codebook scaled by a power of two.
    _, exponent = np.frexp(np.abs(CODEBOOK.points).max())
    for level, root in enumerate(np.ldexp(np.sqrt(SNR), exponent)):
        done = sum(size for size, h in work if root in h)
        assert done == found.n_samples[level]


def test_a_target_is_reached() -> None:
    method = tk.MonteCarlo(rtol=0.005, atol=1e-4)
    profile = tk.profile(CODEBOOK, SNR[1:], method=method, key=3)
    for estimate in profile.estimates.values():
        assert (estimate.standard_error <= 1e-4 + 0.005 * np.abs(estimate.value)).all()
        assert estimate.note == ""
    # An accuracy alone asks for less than everything does.
    alone = tk.accuracy(CODEBOOK, SNR[1:], method=method, key=3)
    assert np.sum(alone.n_samples) < np.sum(profile["mmse"].n_samples)


def test_a_target_out_of_reach_is_noted() -> None:
    method = tk.MonteCarlo(rtol=1e-9, max_samples=5000, variance_reduction=False)
    estimate = tk.mmse(CODEBOOK, 1.0, method=method, key=3)
    assert estimate.n_samples == 5000
    assert "max_samples was reached" in estimate.note


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "memory"), [(2000, 2**20), (5000, 2**24)])
def test_memory_stays_bounded(samples: int, memory: int) -> None:
    """2000 samples of 20000 tokens: one table of their products would take 320 MB."""
    codebook = tk.PointCodebook(np.random.default_rng(0).standard_normal((20_000, 4)))
    method = tk.MonteCarlo(n_samples=samples, memory=memory)
    tk.accuracy(codebook, 1.0, method=tk.MonteCarlo(n_samples=2), key=1)  # compiles
    tracemalloc.start()
    tk.profile(codebook, [1.0, 10.0], method=method, key=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < memory + 10 * 8 * codebook.K * codebook.n  # the block, and copies of the points


def test_one_token() -> None:
    profile = tk.profile(tk.PointCodebook([[1.0, 2.0]]), [0.0, 3.0], method=tk.MonteCarlo(), key=1)
    assert (np.asarray(profile["accuracy"].value) == 1).all()
    for name in ("error_probability", "conditional_entropy", "mutual_information", "mmse"):
        assert (np.asarray(profile[name].value) == 0).all()
        assert profile[name].note == ""


def test_no_signal_needs_no_central_limit() -> None:
    prior = np.array([0.5, 0.2, 0.3])
    codebook = tk.PointCodebook([[0.0], [1.0], [5.0]], prior)
    profile = tk.profile(codebook, 0.0, method=tk.MonteCarlo(n_samples=100), key=1)
    for name, value in {"accuracy": 0.5, "mutual_information": 0.0, "mmse": 4.81}.items():
        low, high, _ = profile[name].confidence_interval()
        assert low <= value <= high
        assert high - low < 1e-10
        assert profile[name].note == ""


def test_the_whole_range_of_signal_to_noise_ratios() -> None:
    snr = [1e-310, 1e-300, 1e-20, 1e20, 1e300, 1e308]
    for scale in (1e-20, 1.0, 1e20):
        codebook = tk.PointCodebook(scale * CODEBOOK.points)
        profile = tk.profile(codebook, snr, method=tk.MonteCarlo(n_samples=100), key=1)
        assert all(np.isfinite(part).all() for part in fields(profile))
        assert profile["error_probability"].value[-1] == 0


def test_a_prior_that_does_not_factorise_is_sampled() -> None:
    prior = np.array([0.4, 0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="key must be"):
        tk.mutual_information(tk.FSQ((2, 2), prior=prior), 1.0)
    grid = tk.mutual_information(tk.FSQ((2, 2), prior=prior), 1.0, key=1)
    points = tk.PointCodebook(tk.FSQ((2, 2)).points, prior)
    assert str(grid.method).startswith("Monte-Carlo")
    assert float(grid) == float(tk.mutual_information(points, 1.0, key=1))
    with pytest.raises(ValueError, match="method must be"):
        tk.mutual_information(tk.FSQ((2, 2), prior=prior), 1.0, method=tk.Exact())


# --- intervals


SKEWED = ([0.2, 0.3, 0.5], [0.1, 0.15, 0.75])
UNEVEN = ([-1.0, -0.2, 1.0], [0.0, 0.3, 1.5])
CASES = {
    "FSQ (2, 2)": tk.FSQ((2, 2)),
    "FSQ (3, 3)": tk.FSQ((3, 3)),
    "FSQ (3, 3, 3)": tk.FSQ((3, 3, 3)),
    "skewed prior": tk.FSQ((3, 3), priors=SKEWED),
    "uneven levels": tk.ProductCodebook(UNEVEN),
    "uneven levels, skewed prior": tk.ProductCodebook(UNEVEN, SKEWED),
    "one-hot 16": tk.OneHot(16),
}


def coverage(
    codebook: tk.Codebook, errors: tuple[float, ...], method: tk.MonteCarlo, keys: range
) -> np.ndarray:
    """For quantity and SNR: how many 95 % intervals cover the exact answer."""
    snr, points = at_errors(codebook, errors), as_points(codebook)
    exact = tk.profile(codebook, snr)
    covered = np.zeros((len(tk.QUANTITIES), snr.size))
    for key in keys:
        profile = tk.profile(points, snr, method=method, key=key)
        for row, name in zip(covered, tk.QUANTITIES, strict=True):
            low, high, _ = profile[name].confidence_interval(0.95)
            row += (low <= exact[name].value) & (exact[name].value <= high)
    return covered


def assert_nominal(covered: np.ndarray, runs: int | np.ndarray) -> None:
    """Each cell is compatible with a coverage in [93 %, 97 %]."""
    share = FALSE_ALARM / 2 / covered.size / (len(CASES) + 2)
    assert (covered >= stats.binom.ppf(share, runs, 0.93)).all(), covered / runs
    assert (covered <= stats.binom.isf(share, runs, 0.97)).all(), covered / runs


@pytest.mark.slow
def test_intervals_cover_what_they_say() -> None:
    """Of every codebook, and of all together: some 400 at every error, and their mean."""
    errors = (0.9, 0.5, 0.3, 0.1, 0.03, 0.01)
    covered, total, first = np.zeros((len(tk.QUANTITIES), len(errors))), np.zeros(len(errors)), 0
    for name, codebook in CASES.items():
        runs = 30 if "uneven" in name else 80  # near levels are clusters, which take longer
        keys, first = range(first, first + runs), first + runs
        found = coverage(codebook, errors, tk.MonteCarlo(n_samples=2000), keys)
        assert_nominal(found, runs)
        reached = found.shape[1]
        covered[:, -reached:] += found
        total[-reached:] += runs
    assert_nominal(covered, total)
    assert 0.93 <= covered.sum() / total.sum() / len(covered) <= 0.97, covered / total


@pytest.mark.slow
def test_intervals_cover_where_the_sample_size_is_chosen_on_the_way() -> None:
    method, runs = tk.MonteCarlo(rtol=0.03, atol=1e-3), 80
    covered = coverage(CASES["skewed prior"], (0.5, 0.1, 0.03), method, range(runs))
    assert_nominal(covered, runs)
    assert 0.93 <= covered.mean() / runs <= 0.97, covered / runs


def test_skewness_moves_the_interval_to_the_long_side() -> None:
    z = stats.norm.isf(0.025)
    estimate = tk.Estimate(
        np.ones(2), 0.1, n_samples=100, unit="nats", skewness=0.3, interval_supported=[True, False]
    )
    low, high, _ = estimate[0].confidence_interval()
    assert (low + high) / 2 == pytest.approx(1 + (1 + 2 * z**2) / 6 * 0.3 * 0.1)
    assert high - low == pytest.approx(2 * z * 0.1)
    assert estimate.bits.skewness[0] == 0.3


def test_rare_errors_are_flagged_and_their_intervals_cover() -> None:
    codebook = tk.FSQ((3, 3))
    snr = at_errors(codebook, (1e-3, 1e-5, 1e-9))
    exact = tk.profile(codebook, snr)
    profile = tk.profile(as_points(codebook), snr, method=tk.MonteCarlo(n_samples=1000), key=0)
    for name in tk.QUANTITIES:
        estimate = profile[name]
        low, high, _ = estimate.confidence_interval(1 - FALSE_ALARM / 15)
        assert not np.any(estimate.interval_supported), name
        assert "empirical Bernstein" in estimate.note
        assert ((low <= exact[name].value) & (exact[name].value <= high)).all()
    assert MIN_EFFECTIVE > 1000 * 1e-3  # what the first SNR has to show


@pytest.mark.slow
def test_agrees_with_exact_values_at_large_samples() -> None:
    """Five quantities of two codebooks at four SNRs, each within what the budget allows."""
    z = stats.norm.isf(FALSE_ALARM / 2 / 40)
    for name in ("skewed prior", "uneven levels, skewed prior"):
        codebook = CASES[name]
        snr = at_errors(codebook, (0.45, 0.3, 0.1, 0.03))
        exact = tk.profile(codebook, snr)
        method = tk.MonteCarlo(n_samples=200_000)
        profile = tk.profile(as_points(codebook), snr, method=method, key=0)
        for quantity, estimate in profile.estimates.items():
            error = np.abs(estimate.value - exact[quantity].value)
            assert (error <= z * estimate.standard_error).all(), (name, quantity)


def test_the_range_of_an_information_is_that_of_either_way_to_it() -> None:
    """Divergences from the prior reach further than entropies where a token is unlikely."""
    prior = np.array([1e-6, 0.2, 0.3, 0.3, 0.2 - 1e-6])
    codebook = tk.PointCodebook(np.random.default_rng(0).normal(size=(5, 3)), prior)
    found = tk.profile(codebook, [0.1, 3.0], method=tk.MonteCarlo(n_samples=500), key=0)
    assert found["mutual_information"].sample_range >= -math.log(1e-6)


def test_few_carriers_of_a_variance_are_not_trusted() -> None:
    moments = Moments((3,))
    draws = np.random.default_rng(0).standard_normal((3, 1000)) + 5
    draws[1, 7] = 1e4
    draws[2] = 5.0
    moments.add(draws)
    assert moments.carried().tolist() == [True, False, True]


def test_brackets_and_rays_ask_how_many_carry_the_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a threshold that nothing reaches, no interval of theirs is supported."""
    vectors = np.random.default_rng(0).normal(size=(2, 4, 3))
    residual, lattice = tk.ResidualCodebook(list(vectors)), tk.d_codebook(12, 4)

    def supported() -> list[bool]:
        problem, method = Problem(residual, np.array([1.0])), tk.MonteCarlo(n_samples=300)
        fields = residual_profile(problem, ("mmse",), method, 0)
        rays = tk.accuracy(lattice, 30.0, method=tk.MonteCarlo(n_samples=2000), key=0)
        return [bool(fields["mmse"].interval_supported[0]), bool(rays.interval_supported)]

    assert supported() == [True, True]
    monkeypatch.setattr(moments_module, "MIN_CARRIERS", np.inf)
    assert supported() == [False, False]
