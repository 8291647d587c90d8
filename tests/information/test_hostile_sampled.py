"""Sampled estimates on random codebooks that nobody chose for comfort, against exact answers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from scipy import stats

import tokenkl as tk
from benchmarks.coverage import rotated

QUANTITIES = ("accuracy", "conditional_entropy", "mutual_information", "mmse", "sampling_error")
METHODS = (None, tk.MonteCarlo(n_samples=1500), tk.MonteCarlo(rtol=0.02, atol=1e-2))


def random_levels(rng: np.random.Generator) -> np.ndarray:
    """One to five levels: scattered, at geometric steps, close together, or clustered."""
    count = int(rng.integers(1, 6))
    kind = rng.integers(4)
    if kind == 0:
        return np.sort(rng.standard_normal(count))
    if kind == 1:
        return np.cumsum(10.0 ** rng.uniform(-5, 1, count))
    if kind == 2:
        return np.arange(count) * 10.0 ** rng.uniform(-6, 0)
    near = 10.0 ** rng.uniform(-6, -1) * np.arange(count - 1)
    return np.concatenate([[0.0], rng.choice([1.0, 3.0]) + near])


def random_prior(rng: np.random.Generator, count: int) -> np.ndarray | None:
    """Equal, uneven, or with probabilities down to 1e-12."""
    if count == 1 or rng.random() < 0.5:
        return None
    prior = rng.dirichlet(np.full(count, 10.0 ** rng.uniform(-1, 1)))
    prior = np.maximum(prior, 10.0 ** -rng.uniform(2, 12))
    return prior / prior.sum()


def random_case(seed: int) -> tuple[tk.ProductCodebook, tk.PointCodebook, np.ndarray]:
    """A grid, its points rotated so that nothing of it is seen, and SNRs that suit its scale."""
    rng = np.random.default_rng([2, seed])
    levels = [random_levels(rng) for _ in range(rng.integers(2, 5))]
    priors = [random_prior(rng, column.size) for column in levels]
    levels += [np.zeros(1)] * (3 - len(levels))
    priors += [None] * (3 - len(priors))
    scale = 10.0 ** rng.uniform(-3, 3)
    exact = tk.ProductCodebook([scale * column for column in levels], priors)
    snr = (10.0 ** rng.uniform(-1, 3, 3) / scale) ** 2
    return exact, rotated(exact, seed=seed), snr


def misses(seeds: Iterable[int]) -> tuple[int, int]:
    """How many supported 95 % intervals miss, of how many; none by much."""
    missed = total = 0
    for seed in seeds:
        exact, points, snr = random_case(seed)
        if exact.K < 2:
            continue
        answers = tk.profile(exact, snr, QUANTITIES)
        found = tk.profile(points, snr, QUANTITIES, method=METHODS[seed % 3], key=seed)
        for name in QUANTITIES:
            answer, estimate = answers[name].value, found[name]
            # Rotated coordinates are rounded, by up to 1e-9 of a distance of 1e-6.
            rounding = 1e-7 * np.abs(answer)
            low, high, _ = estimate.confidence_interval(0.95)
            outside = (answer < low - rounding) | (answer > high + rounding)
            missed += int(np.sum(outside & estimate.interval_supported))
            total += int(np.sum(estimate.interval_supported))
            low, high, _ = estimate.confidence_interval(1 - 1e-7)
            assert (low - rounding <= answer).all(), (seed, name, low, answer)
            assert (answer <= high + rounding).all(), (seed, name, high, answer)
    return missed, total


def test_intervals_on_random_clusters() -> None:
    missed, total = misses(range(6))
    # The fifteen cells of a seed go together, so that the count is about that of seeds.
    assert missed <= 15 * stats.binom.isf(2e-5, total // 15, 0.05)


@pytest.mark.slow
def test_intervals_on_more_random_clusters() -> None:
    missed, total = misses([*range(6, 12), *range(100, 130)])
    assert missed <= 15 * stats.binom.isf(2e-5, total // 15, 0.05)
    assert missed < 0.08 * total
