"""Sequences read token by token: against quadrature, lists of all sequences, and each other."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from scipy import special

import tokenkl as tk
from tokenkl.codebooks import SequenceCodebook
from tokenkl.context import GeneratedLaw, unmasking_kl
from tokenkl.divergence import (
    sequence_kl,
    sequence_kl_curve,
    sequence_law,
    sequence_steps,
)
from tokenkl.sources import Joint, Markov

TOKENS = tk.ProductCodebook([[-1.0, 0.2, 1.3]])
LAW = np.array([[0.25, 0.05, 0.0], [0.02, 0.2, 0.1], [0.08, 0.0, 0.3]])
PAIR = Joint(LAW)
GRID = np.array([0.0, 0.8, 2.5])
Z = np.linspace(-9, 9, 181)
U = np.asarray(TOKENS.levels[0])


def _posterior(y: np.ndarray, snr: float) -> np.ndarray:
    """p(k, l | y) for pairs y, straight from the definition."""
    one = [-((y[:, i, None] - math.sqrt(snr) * U) ** 2) / 2 for i in (0, 1)]
    with np.errstate(divide="ignore"):
        logs = np.log(LAW) + one[0][:, :, None] + one[1][:, None, :]
    p = np.exp(logs - logs.max(axis=(1, 2), keepdims=True))
    return np.asarray(p / p.sum(axis=(1, 2), keepdims=True))


def _average(snr: float, mean: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """E of a function of y = sqrt(snr) mean + noise by the trapezoid rule in both coordinates."""
    y = np.stack(np.meshgrid(Z, Z, indexing="ij"), axis=-1).reshape(-1, 2)
    weight = np.exp(-np.square(y).sum(axis=1) / 2) / (2 * np.pi) * (Z[1] - Z[0]) ** 2
    return np.tensordot(weight, of(y + math.sqrt(snr) * mean), axes=1)


def _curves(y: np.ndarray, snr: float) -> np.ndarray:
    """tr Cov(X | y) and sum_i H(k_i | y)."""
    p = _posterior(y, snr)
    marginals = [p.sum(axis=2), p.sum(axis=1)]
    variance = sum(q @ U**2 - (q @ U) ** 2 for q in marginals)
    entropy = sum(special.entr(q).sum(axis=1) for q in marginals)
    return np.stack([variance, entropy], axis=1)


def _exact_kl(grid: np.ndarray) -> float:
    found = np.zeros((len(grid), 2))
    for index, snr in enumerate(grid):
        for pair in np.argwhere(LAW):
            curve = _average(snr, U[pair], functools.partial(_curves, snr=snr))
            found[index] += LAW[tuple(pair)] * curve
    return float(found[:-1, 0] @ np.diff(grid) / 2 + found[-1, 1] - special.entr(LAW).sum())


def test_kl_by_quadrature() -> None:
    grids = [GRID, GRID[:2], GRID[:1]]
    found = sequence_kl_curve(TOKENS, PAIR, grids, method=tk.MonteCarlo(n_samples=4000), key=1)
    for index, grid in enumerate(grids):
        half = 4.3 * found.standard_error[index] + found.numerical_error[index]
        assert abs(found.value[index] - _exact_kl(grid)) < half + 1e-9
        assert found.standard_error[index] < 0.02
    # Without a step it is what all samplers cost, and no sample is needed for it.
    assert found.value[2] == pytest.approx(unmasking_kl(PAIR, [0, 1]).value, rel=1e-12)
    assert found.standard_error[2] < 1e-12


def test_dependence_is_of_the_posteriors() -> None:
    """Draw by draw, from the list of all pairs, in the digits that are left."""
    size, snr = 200, np.array([0.0, 1.0, 30.0])
    found = SequenceCodebook(TOKENS, PAIR).posterior_dependence(np.random.default_rng(3), size, snr)
    rng = np.random.default_rng(3)
    tokens = PAIR.sample(size, key=int(rng.integers(2**63)))
    noise = rng.standard_normal((size, 2, 1))[..., 0]
    every = np.arange(size)
    for level, values in zip(snr, found, strict=True):
        p = _posterior(math.sqrt(level) * U[tokens] + noise, level)
        own = p.sum(axis=2)[every, tokens[:, 0]] * p.sum(axis=1)[every, tokens[:, 1]]
        exact = np.log(p[every, tokens[:, 0], tokens[:, 1]] / own)
        assert np.allclose(values, exact, rtol=0, atol=1e-12)


def _exact_law(grid: np.ndarray) -> np.ndarray:
    """Two evaluations: the first denoiser is a constant, and both samplers step alike."""
    mean = np.array([LAW.sum(axis=1) @ U, LAW.sum(axis=0) @ U])

    def read(y: np.ndarray) -> np.ndarray:
        p = _posterior(y, grid[1])
        return p.sum(axis=2)[:, :, None] * p.sum(axis=1)[:, None, :]

    return _average(grid[1], mean, read)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_law_by_quadrature(sampler: str) -> None:
    found = sequence_law(TOKENS, PAIR, GRID[:2], sampler=sampler, n_paths=20_000, key=2)
    exact = _exact_law(GRID)
    assert exact.sum() == pytest.approx(1, abs=1e-9)
    assert abs(found.law - exact).max() < 0.01
    kl = special.kl_div(LAW, exact).sum()
    assert abs(found.kl.value - kl) < 4.3 * found.kl.standard_error + found.kl.numerical_error
    assert found.kl.value < _exact_kl(GRID[:2])


@pytest.mark.parametrize("n_paths", [300, 30_000, 300_000])
@pytest.mark.parametrize(("a", "b"), [(0.2210033, 0.3975479), (0.0008615, 0.3454794)])
def test_error_of_the_mean_law_holds_the_rounding_of_many_paths(
    a: float, b: float, n_paths: int
) -> None:
    """One evaluation knows nothing: all paths say the same, so that rounding is all the error."""
    chain = Markov([[1 - a, a], [b, 1 - b]], length=2)
    found = sequence_law(tk.FSQ((2,)), chain, [0.0], n_paths=n_paths, key=1)
    one, two = chain.marginals()
    assert found.law == pytest.approx(np.outer(one, two), rel=3e-14, abs=0.0)
    law = chain.joint()
    truth = special.kl_div(law, np.outer(one, two)).sum()
    assert abs(found.kl.value - truth) <= found.kl.numerical_error
    low, high, _ = found.kl.confidence_interval()
    assert low <= truth <= high < low + 1e-11


def test_the_interval_of_the_law_covers() -> None:
    exact = special.kl_div(LAW, _exact_law(GRID)).sum()
    inside = 0
    for key in range(60):
        kl = sequence_law(TOKENS, PAIR, GRID[:2], n_paths=300, key=key).kl
        low, high, _ = kl.confidence_interval(0.95)
        inside += low <= exact <= high
    assert inside >= 50  # 57 expected; below with probability 1e-3, and the keys are fixed


def test_samplers_of_one_token_agree_with_the_produced_law() -> None:
    """A sequence of one token: as `produced_law` with a decision by sampling."""
    law = np.array([0.5, 0.2, 0.3])
    grid = np.array([0.0, 1.0, 3.0, 8.0])
    for sampler in ("ancestral", "ddim"):
        exact = tk.produced_law(
            TOKENS.with_prior(law), grid, sampler=sampler, decision="sample"
        ).probabilities
        found: GeneratedLaw = sequence_law(
            TOKENS, Markov(np.eye(3), 1, law), grid, sampler=sampler, n_paths=20_000, key=4
        )
        assert abs(found.law - exact).max() < 4.3 * 0.5 / math.sqrt(20_000)


@pytest.mark.slow
def test_best_steps() -> None:
    """No worse than many other grids with other ends, on one exact curve of two tokens."""
    few = tk.MonteCarlo(n_samples=1500)
    best = sequence_steps(TOKENS, PAIR, [1, 2, 3], 40.0, method=few, key=1)
    assert [one.N for one in best] == [1, 2, 3]
    assert best[0].snr.tolist() == [0.0]
    two = _exact_kl(best[1].snr)
    others = [_exact_kl(np.array([0.0, end])) for end in (0.3, 0.7, 1.2, 2.0, 4.0)]
    assert two < min(others) + 5e-3
    assert best[2].kl.value < best[1].kl.value < best[0].kl.value


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: sequence_kl(TOKENS, PAIR, [0.5, 1.0], key=1), "SNRs from 0 up"),
        (lambda: sequence_kl(TOKENS, PAIR, [0.0, 2.0, 1.0], key=1), "strictly increasing"),
        (lambda: sequence_kl(TOKENS, PAIR, GRID), "key must be"),
        (lambda: sequence_kl_curve(TOKENS, PAIR, [], key=1), "grids must be"),
        (lambda: sequence_law(TOKENS, PAIR, GRID, n_paths=50, key=1), "n_paths must be"),
        (
            lambda: sequence_law(TOKENS, Markov(np.eye(3), 12, [1, 0, 0]), GRID, key=1),
            "n_paths must be",
        ),
        (lambda: sequence_steps(TOKENS, PAIR, [0], 3.0, key=1), "Ns must be"),
    ],
)
def test_refusals(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("leaving", [1e-7, 1e-5, 1e-4, 1e-3])
def test_tokens_too_rare_to_be_drawn_are_not_made_up(leaving: float) -> None:
    """Draws that are all alike say nothing of what is known at SNR 0, and their interval so."""
    chain = Markov([[1 - leaving, leaving], [0.4, 0.6]], length=2)
    truth = unmasking_kl(chain, [0, 1]).value
    for key in range(6):
        found = sequence_kl_curve(
            tk.FSQ((2,)), chain, [[0.0], [0.0, 7.0]], method=tk.MonteCarlo(n_samples=512), key=key
        )
        assert abs(found.value[0] - truth) <= found.numerical_error[0]
        assert found.interval_supported.tolist() == [True, False]
        assert abs(found.value[1]) < 0.1


def test_what_is_no_grid_and_no_range() -> None:
    for grid in ("a", ["0", "x"], [0.0, np.nan], [[0.0, 1.0]]):
        with pytest.raises(ValueError, match="grid must be"):
            sequence_kl(TOKENS, PAIR, cast(Any, grid), key=0)
    for most in (0.0, -1.0, np.nan, [1.0], "a"):
        with pytest.raises(ValueError, match="snr_max must be"):
            sequence_steps(TOKENS, PAIR, [2], cast(Any, most), key=0)
    with pytest.raises(ValueError, match="Ns must be"):
        sequence_steps(TOKENS, PAIR, [], 4.0, key=0)
