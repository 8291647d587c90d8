"""The law of the produced token: exact laws against simulation, counts against theory.

Every statistical test may fail by chance with probability 2e-5 at most; keys are fixed.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

import tokenkl as tk
from tokenkl.channel import denoiser, log_posterior
from tokenkl.codebooks.digits import Order
from tokenkl.divergence import ancestral_kl, prior_mismatch, produced_law
from tokenkl.divergence._coordinate_laws import Scalar, ddim_law
from tokenkl.divergence.produced import kl_from_counts, variation_from_counts
from tokenkl.numerics.laws import kl_and_error

Z = special.ndtri(1 - 1e-5)
GRID = np.concatenate([[0.0], np.geomspace(0.05, 60, 6)])
SKEWED = tk.ProductCodebook([[0.5, -1.0, 2.0], [0.0, 1.0]], [[0.3, 0.6, 0.1], [0.4, 0.6]])
CASES = [
    (sampler, decision, temperature, scale)
    for sampler in ("ddim", "ddpm")
    for decision in ("map", "sample")
    for temperature, scale in ((1.0, 1.0), (0.7, 2 / 3))
]


@pytest.mark.parametrize(("sampler", "decision", "temperature", "scale"), CASES)
@pytest.mark.parametrize("grid", [GRID, GRID[1:]], ids=["from 0", "from 0.05"])
def test_exact_laws_against_paths(
    sampler: str, decision: str, temperature: float, scale: float, grid: np.ndarray
) -> None:
    options: dict[str, Any] = {"sampler": sampler, "decision": decision, "temperature": temperature}
    exact = produced_law(SKEWED, grid, start=scale, **options)
    paths = produced_law(
        SKEWED, grid, start=scale, method=tk.MonteCarlo(n_samples=40_000), key=7, **options
    )
    assert paths.counts is not None
    law, m = exact.probabilities, 40_000
    assert law.sum() == pytest.approx(1.0, abs=1e-12)
    expected = m * law
    rare = expected < 5
    chi2 = ((paths.counts - expected) ** 2 / expected)[~rare].sum()
    assert chi2 < stats.chi2.ppf(1 - 1e-6, (~rare).sum())
    assert paths.counts[rare].sum() <= stats.poisson.ppf(1 - 1e-6, expected[rare].sum())
    assert exact.kl.numerical_error < 1e-8
    assert exact.total_variation.numerical_error < 1e-8


def test_ddim_by_root_finding() -> None:
    """The preimage of a threshold by Brent's method on the map itself."""
    codebook = tk.FSQ((4,), priors=[[0.1, 0.2, 0.3, 0.4]])
    h = np.sqrt(GRID)

    def final(y: float) -> float:
        for now, then in itertools.pairwise(h):
            y += (then - now) * float(denoiser(codebook, np.array([y]), now**2)[0])
        return y

    u, prior = codebook.levels[0], codebook.prior
    cuts = h[-1] * (u[1:] + u[:-1]) / 2
    cuts = cuts + np.log(prior[:-1] / prior[1:]) / (h[-1] * np.diff(u))
    starts = [
        optimize.brentq(lambda y, cut=cut: final(y) - cut, -20, 20, xtol=1e-14) for cut in cuts
    ]
    expected = np.diff(special.ndtr([-np.inf, *starts, np.inf]))
    found = produced_law(codebook, GRID)
    assert found.probabilities == pytest.approx(expected, abs=1e-11)
    assert float(found.kl) == pytest.approx(special.rel_entr(prior, expected).sum(), abs=1e-10)


def test_one_ddpm_step_by_hand() -> None:
    """From snr 0 the first mean is the prior's: Y is N(h mean, 1), whatever the start."""
    codebook = tk.FSQ((3,), priors=[[0.5, 0.25, 0.25]])
    law = produced_law(codebook, [0.0, 4.0], sampler="ddpm").probabilities
    mean = 2.0 * -0.25
    cuts = [2 * -0.5 + np.log(2) / 2, 2 * 0.5]
    assert law == pytest.approx(np.diff(special.ndtr([-np.inf, *(np.array(cuts) - mean), np.inf])))


@pytest.mark.parametrize("scale", [0.03, 1.0, 1.7])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_one_step_to_a_noisy_end_by_quadrature(sampler: str, scale: float) -> None:
    """At snr 2 a token drawn and the best guess have laws far apart; the start may be narrow."""
    levels, prior = np.array([-1.0, 0.2, 1.0]), np.array([0.5, 0.2, 0.3])
    codebook = tk.ProductCodebook([levels], [prior])

    def posterior(y: np.ndarray, h: float) -> np.ndarray:
        weight = prior * np.exp(-((y[..., None] - h * levels) ** 2) / 2)
        return weight / weight.sum(axis=-1, keepdims=True)

    def normal(points: int) -> tuple[np.ndarray, np.ndarray]:
        z = np.linspace(-8, 8, points)
        weight = np.exp(-(z**2) / 2)
        return z, weight / weight.sum()

    before, after = np.sqrt([0.5, 2.0])
    u, mass = normal(2001)
    y = scale * u
    mean = posterior(y, before) @ levels
    if sampler == "ddim":
        end = (y + (after - before) * mean)[:, None]
        mass = mass[:, None]
    else:
        z, noise = normal(601)
        end = ((before * y + 1.5 * mean)[:, None] + np.sqrt(1.5) * z) / after
        mass = mass[:, None] * noise
    p = posterior(end, after)
    laws = {
        "map": (mass[..., None] * (p == p.max(axis=-1, keepdims=True))).sum(axis=(0, 1)),
        "sample": (mass[..., None] * p).sum(axis=(0, 1)),
    }
    assert np.abs(laws["map"] - laws["sample"]).max() > 0.05
    for decision, expected in laws.items():
        found = produced_law(codebook, [0.5, 2.0], sampler=sampler, decision=decision, start=scale)
        slack = 4e-3 if decision == "map" else 1e-9  # a threshold lies between two nodes
        assert found.probabilities == pytest.approx(expected, abs=slack)
        assert found.total_variation.numerical_error < 1e-8


@pytest.mark.parametrize("scale", [0.02, 0.7, 1.7])
@pytest.mark.parametrize("grid", [(0.5, 2.0), (0.1, 0.5, 2.0, 8.0), (0.02, 1.0, 4.0, 30.0, 90.0)])
def test_errors_of_a_token_drawn_after_ddim(grid: tuple, scale: float) -> None:
    """Against a very fine rule over the start; flat maps and steep ones, narrow and wide starts."""
    levels, prior = np.array([-1.0, 0.2, 1.0]), np.array([0.5, 0.2, 0.3])
    scalar = Scalar(levels, np.log(prior), 0.8, scale)
    law, error = ddim_law(scalar, np.array(grid), "sample")
    z = np.linspace(-9, 9, 300_001)
    y, h = scale * z, np.sqrt(grid)
    for now, then in itertools.pairwise(h):
        y = y + (then - now) * scalar.mean(y, now)
    mass = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (18 / 300_000)
    assert (np.abs(mass @ scalar.posterior(y, h[-1]) - law) <= error + 1e-13).all()
    assert (error < 1e-8).all()


@pytest.mark.parametrize(
    ("sampler", "decision", "grid"),
    [
        ("ddim", "sample", (0.1, 1.0, 1e12)),
        ("ddpm", "sample", (0.1, 1.0, 1e8)),
        ("ddpm", "map", (0.1, 1.0, 1e12)),  # the kernels of one step
        ("ddpm", "map", (0.1, 1e12, 1e14)),
    ],
)
def test_exact_laws_that_no_memory_holds_are_refused(
    sampler: str, decision: str, grid: tuple
) -> None:
    """And what is advised works."""
    options: dict[str, Any] = {"sampler": sampler, "decision": decision}
    with pytest.raises(ValueError, match=r"method must be MonteCarlo\(n_samples=...\)"):
        produced_law(tk.FSQ((3,)), grid, **options)
    paths = produced_law(tk.FSQ((3,)), grid, method=tk.MonteCarlo(n_samples=1000), key=0, **options)
    assert paths.counts is not None
    assert paths.counts.sum() == 1000


RARE = [
    # A level of a tiny prior, whose probability is much smaller than rounding of that of others.
    ([1.809, 3.221, 4.66], [7.7e-7, 1 - 7.7e-7, 4.4e-9], (0.0024, 0.0148, 0.047, 1.378), 0.05),
    # Two levels so near that the last is the likeliest only where no path comes.
    ([0.15, 1.42, 2.064, 2.184], [7e-4, 3.7e-3, 0.9853, 0.0103], (0.0392, 2.179), 0.05),
    ([-2.184, -2.064, -1.42, -0.15], [0.0103, 0.9853, 3.7e-3, 7e-4], (0.0392, 2.179), 0.05),
]


@pytest.mark.parametrize(("levels", "prior", "grid", "temperature"), RARE)
def test_rare_tokens_drawn_after_ddim_keep_their_digits(
    levels: list[float], prior: list[float], grid: tuple, temperature: float
) -> None:
    """Against a very fine rule over the start, which reaches as far as there are numbers."""
    scalar = Scalar(np.array(levels), np.log(np.array(prior) / sum(prior)), temperature, 1.0)
    law, error = ddim_law(scalar, np.array(grid), "sample")
    z, h = np.linspace(-38, 38, 300_001), np.sqrt(grid)
    y = z
    for now, then in itertools.pairwise(h):
        y = y + (then - now) * scalar.mean(y, now)
    mass = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    assert law == pytest.approx(mass @ scalar.posterior(y, h[-1]), rel=1e-10, abs=0.0)
    assert (error <= 1e-7 * law).all()
    assert math.isfinite(kl_and_error(scalar.log_prior, law, error)[1])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_probabilities_of_tokens_drawn_after_ddim(seed: int) -> None:
    """None is negative, and they sum to one within their errors."""
    rng = np.random.default_rng(seed)
    levels = np.cumsum(rng.uniform(0.1, 2.0, rng.integers(2, 6))) - 3
    log_prior = special.log_softmax(-rng.uniform(0, 25, levels.size))
    scalar = Scalar(levels, log_prior, rng.choice([0.05, 0.3, 1.0]), rng.choice([0.1, 1.0]))
    grid = np.sort(np.exp(rng.uniform(-6, 3, rng.integers(2, 6))))
    law, error = ddim_law(scalar, grid, "sample")
    assert (law >= 0).all()
    assert abs(law.sum() - 1) <= error.sum()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_base_two_is_unbiased_and_base_three_favours_the_middle(sampler: str) -> None:
    """Symmetry at every N; a bias of order 1/N of the middle (docs/theory/sampler.md, 11)."""
    excess = []
    for N in (8, 16, 32, 64):
        grid = tk.step_grid("cosine", N, 1e-6, 100.0)
        assert float(produced_law(tk.FSQ((2, 2)), grid, sampler=sampler).kl) < 1e-20
        law = produced_law(tk.FSQ((3,)), grid, sampler=sampler).probabilities
        assert law[0] == pytest.approx(law[2], abs=1e-12)
        excess.append(law[1] - 1 / 3)
    rates = np.array(excess[:-1]) / excess[1:]
    assert (np.array(excess) > 0).all()
    assert rates[-1] == pytest.approx(2.0, abs=0.15)


def test_kl_of_a_product_is_a_sum_over_the_joint_law() -> None:
    found = produced_law(SKEWED, GRID)
    law, prior = found.probabilities, SKEWED.prior
    assert float(found.kl) == pytest.approx(special.rel_entr(prior, law).sum(), rel=1e-9)
    expected = 0.5 * np.abs(prior - law).sum()
    assert float(found.total_variation) == pytest.approx(expected, rel=1e-12)
    assert found.n_steps == 6


def test_order_of_ids() -> None:
    levels = [[-1.0, 0.0, 1.0], [0.0, 1.0]]
    priors = [[0.2, 0.5, 0.3], [0.9, 0.1]]
    c, f = (tk.ProductCodebook(levels, priors, order=order) for order in get_args(Order))
    law_c = produced_law(c, GRID).probabilities
    law_f = produced_law(f, GRID).probabilities
    digits = c.to_digits(np.arange(6))
    assert law_f[f.from_digits(digits)] == pytest.approx(law_c, rel=1e-13)


@pytest.mark.parametrize("N", [1, 2, 4, 16])
def test_data_processing(N: int) -> None:
    """With the token drawn from the posterior, KL(prior || token) <= path KL + mismatch."""
    for codebook in (SKEWED, tk.FSQ((3, 5))):
        grid = tk.step_grid("log-snr", N, 0.01, 50.0)
        token = produced_law(codebook, grid, sampler="ddpm", decision="sample").kl
        path = ancestral_kl(codebook, grid)
        start = prior_mismatch(codebook, grid[0])
        assert float(token) <= float(path) + float(start)


def test_a_token_that_is_never_produced() -> None:
    """A level that owns no interval: KL is infinite, and says so."""
    codebook = tk.ProductCodebook([[-1.0, 0.0, 1.0]], [[0.4999, 0.0002, 0.4999]])
    found = produced_law(codebook, [0.0, 1.0, 2.0])
    assert np.isinf(float(found.kl))
    assert "never produced" in found.kl.note
    assert found.probabilities[1] == 0


def test_logits_hook() -> None:
    """The exact log-posterior as a hook gives what the exact denoiser gives; guidance does not."""
    method = tk.MonteCarlo(n_samples=2000)

    def exact(y: np.ndarray, snr: float) -> np.ndarray:
        return log_posterior(SKEWED, y, snr) + 3.0  # a constant does not matter

    def guided(y: np.ndarray, snr: float) -> np.ndarray:
        return 1.5 * log_posterior(SKEWED, y, snr) - 0.5 * np.log(SKEWED.prior)

    one, two, other = (
        produced_law(SKEWED, GRID, sampler="ddpm", logits=hook, method=method, key=3).counts
        for hook in (exact, None, guided)
    )
    assert one is not None
    assert two is not None
    assert other is not None
    assert np.abs(one - two).sum() <= 4  # rounding may move a path across a threshold
    assert np.abs(other - two).sum() > 100
    with pytest.raises(ValueError, match="logits must be a function to arrays of shape"):
        produced_law(SKEWED, GRID, logits=lambda y, snr: y, method=method, key=0)


def test_paths_of_symmetric_codebooks() -> None:
    """One-hot with equal priors: exchangeable, so uniform; the estimate of a KL of 0 covers 0."""
    found = produced_law(tk.OneHot(20), GRID, method=tk.MonteCarlo(n_samples=20_000), key=5)
    half = Z * found.kl.standard_error + found.kl.numerical_error
    assert abs(found.kl.value) < half < 0.01
    assert found.kl.interval_supported


@pytest.mark.parametrize("K", [2, 20, 300])
@pytest.mark.parametrize("tilt", [0.0, 0.02, 0.5])
def test_coverage_of_kl_from_counts(K: int, tilt: float) -> None:
    """600 samples each, down to seven draws a token; nominal 95 %, tolerance 4.3 sd of a count."""
    rng = np.random.default_rng(K)
    prior = rng.dirichlet(np.full(K, 5.0)) * 0.9 + 0.1 / K
    law = prior * np.exp(tilt * rng.standard_normal(K))
    law /= law.sum()
    truth = special.rel_entr(prior, law).sum()
    m = int(max(200, 7 / min(law.min(), prior.min())))
    covered, values = 0, []
    for _ in range(600):
        counts = rng.multinomial(m, law)
        found = kl_from_counts(np.log(prior), counts[None])
        low, high, _ = found.confidence_interval(0.95)
        covered += low <= truth <= high
        values.append(found.value)
    assert covered >= 600 * 0.95 - 4.3 * np.sqrt(600 * 0.95 * 0.05)
    bias = (np.mean(values) - truth) / np.std(values)
    assert abs(bias) < 4.3 / np.sqrt(600) + 0.1  # far below the spread


def test_no_sample_makes_the_total_variation_certain() -> None:
    """Halves that agree with the prior by chance; nearly certain laws keep small errors."""
    even = np.array([0.5, 0.5])
    assert variation_from_counts(even, np.full((2, 2), 250)).standard_error > 0.015
    rng = np.random.default_rng(3)
    for law in ([0.53, 0.47], [0.45, 0.35, 0.2]):
        prior = np.full(len(law), 1 / len(law))
        truth = 0.5 * np.abs(prior - law).sum()
        for _ in range(2000):
            found = variation_from_counts(prior, rng.multinomial(500, law, size=2))
            low, high, _ = found.confidence_interval(1 - 1e-5)
            assert low <= truth <= high
    sure = np.array([1 - 1e-6, 1e-6])
    assert variation_from_counts(sure, np.array([[500, 0], [500, 0]])).standard_error < 1e-4


def test_total_variation_from_counts() -> None:
    rng = np.random.default_rng(0)
    prior = np.full(40, 1 / 40)
    for tilt in (0.0, 0.1, 1.0):
        law = prior * np.exp(tilt * rng.standard_normal(40))
        law /= law.sum()
        truth = 0.5 * np.abs(prior - law).sum()
        missed = 0
        for _ in range(300):
            found = variation_from_counts(prior, rng.multinomial(1000, law, size=2))
            low, high, _ = found.confidence_interval(0.95)
            missed += not low <= truth <= high
        assert missed <= stats.binom.ppf(1 - 1e-5, 300, 0.05)


def test_support_is_honest() -> None:
    few = produced_law(tk.OneHot(500), GRID, method=tk.MonteCarlo(n_samples=600), key=0)
    assert not few.kl.interval_supported
    assert "more paths" in few.kl.note
    assert np.isinf(few.kl.confidence_interval().high)


def test_large_grids_are_not_materialised() -> None:
    found = produced_law(tk.FSQ((3,) * 40), GRID)
    one = produced_law(tk.FSQ((3,)), GRID)
    assert float(found.kl) == pytest.approx(40 * float(one.kl), rel=1e-12)
    assert np.isnan(float(found.total_variation))
    assert "not computed" in found.total_variation.note


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "euler"}, "sampler must be one of"),
        ({"decision": "nearest"}, "decision must be one of"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"start": -1.0}, "start must be above 0"),
        ({"method": tk.MonteCarlo(n_samples=100)}, "key must be"),
        ({"method": tk.MonteCarlo(rtol=0.1), "key": 0}, "without rtol and atol"),
        ({"method": "paths"}, "method must be Exact"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        produced_law(SKEWED, GRID, **options)
    with pytest.raises(ValueError, match="method must be MonteCarlo"):
        produced_law(tk.OneHot(3), GRID, method=tk.Exact())
