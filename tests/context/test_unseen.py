"""Averages over sampled sequences whose rare tokens nobody drew: error bars know that they may be.

A chain that leaves its state once in ten thousand steps, or so. Nearly all samples of it are the
same sequence over and over, so that their spread says nothing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokenkl as tk

C, BIT, LEVEL = tk.context, tk.FSQ((2,)), 1 - 1e-6


def chain(leaves: float, length: int) -> tk.sources.Markov:
    return tk.sources.Markov([[1 - leaves, leaves], [0.5, 0.5]], length, [1.0, 0.0])


def varied() -> tk.sources.Markov:
    return tk.sources.Markov(np.random.default_rng(0).dirichlet(np.ones(16), size=16), 3)


def holds(found: tk.Estimate, truth: Any) -> bool:
    low, high, _ = found.confidence_interval(LEVEL)
    return bool(np.all((low - 1e-12 * truth <= truth) & (truth <= high + 1e-12 * truth)))


def sampled(function: Callable[..., tk.Estimate], *arguments: Any) -> Callable[..., tk.Estimate]:
    def of(source: Any, key: int | None) -> tk.Estimate:
        method = tk.Exact() if key is None else tk.MonteCarlo(n_samples=500)
        return function(source, *arguments, method=method, key=key)

    return of


ESTIMATORS = {
    "entropy per token": lambda source, key: C.entropy_per_token(source, key and 200, key=key),
    "unmasking curve": sampled(C.unmasking_curve, 0.5),
    "unmasking KL": sampled(C.unmasking_kl, [0, 0.5, 1]),
    "replacing information": sampled(C.replacing_information, 0.1),
    "replacing KL": sampled(C.replacing_kl, [1, 0]),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("length", [3, 6])
def test_intervals_cover(name: str, length: int) -> None:
    of = ESTIMATORS[name]
    for leaves in (1e-3, 1e-4, 1e-5):
        source = chain(leaves, length)
        truth = of(source, None).value
        for key in range(1, 11):
            assert holds(of(source, key), truth)


@pytest.mark.slow
@pytest.mark.parametrize("method", [tk.Exact(), tk.MonteCarlo(n_samples=12_000)], ids=["exact", ""])
def test_intervals_of_sampled_contexts_cover(method: Any) -> None:
    source = chain(1e-4, 6)
    names = ("conditional_entropy", "error_probability")
    true = tk.contextual_profile(BIT, source, 0.5, names, context="left-clean")
    for key in range(4):
        found = tk.contextual_profile(
            BIT, source, 0.5, names, context="left-clean", method=method, sequences=1000, key=key
        )
        for name in names:
            assert holds(found[name], true[name].value)


def test_none_is_vouched_for_where_observations_are_noisy() -> None:
    snr, method = np.geomspace(0.1, 10, 5), tk.MonteCarlo(n_samples=500)
    stays = tk.sources.Markov([[0.997, 0.003], [0.003, 0.997]], 6)  # noise varies, sequences do not
    for codebook, source in ((BIT, chain(1e-5, 6)), (BIT, stays), (tk.FSQ((16,)), varied())):
        found = tk.context_information(codebook, source, snr, method=method, key=0)
        profile = found.profile["conditional_entropy"]
        assert found.integral.interval_supported == (codebook is not BIT)
        # All of them, or none.
        assert (np.asarray(profile.interval_supported) == (codebook is not BIT)).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_varies_has_plain_intervals(name: str) -> None:
    """A few hundred of thousands of sequences see enough that no range is needed."""
    assert np.all(ESTIMATORS[name](varied(), 1).interval_supported)


def test_two_sequences_are_too_few() -> None:
    source = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], 10)
    for key in range(40):
        assert holds(C.entropy_per_token(source, 2, key=key), source.entropy() / 10)
