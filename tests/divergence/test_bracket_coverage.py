"""Errors of path KLs of residual books cover the true errors, over many keys and hostile books.

The books lie on a line, where sums of any stages are a grid of one coordinate, which is exact. Each
test may fail by chance with probability 2e-5 at most; keys are fixed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

import tokenkl as tk
from tokenkl.codebooks import ProductCodebook, ResidualCodebook
from tokenkl.divergence import ancestral_kl_curve
from tokenkl.divergence.brackets import bracketed_path_kl
from tokenkl.information import MonteCarlo

ALARM, LEVEL = 2e-5, 0.95
KEYS, METHOD = range(24), MonteCarlo(256)
RNG = np.random.default_rng(8)


def on_a_line(*sizes: float, tokens: int = 6) -> list[np.ndarray]:
    return [size * np.sort(RNG.standard_normal((tokens, 1)), axis=0) for size in sizes]


def near(top: float) -> list[float]:
    """A prior of six tokens, the first of which has nearly all of it."""
    return [top, *[(1 - top) / 5] * 5]


STAGES = on_a_line(1, 0.6, 0.3)
#: Books, and where their steps start and stop.
BOOKS = {
    "clusters": (ResidualCodebook(on_a_line(30, 1e-3, 1)), (0.05, 2.0)),
    "near-certain priors": (
        ResidualCodebook(STAGES, stage_priors=[near(0.5), near(1 - 1e-6), near(0.9)]),
        (0.05, 1.0),
    ),
    "an offset": (ResidualCodebook([stage + 1e4 for stage in STAGES]), (0.05, 1.0)),
    "a small scale": (ResidualCodebook([1e-9 * stage for stage in STAGES]), (0.05e18, 1e18)),
    "prefixes thinned out": (ResidualCodebook(on_a_line(1, 0.4, tokens=64)), (0.05, 4.0)),
}


class Runs(NamedTuple):
    """Of every key: how far the value is off, what the estimate says of that, and of the truth."""

    off: np.ndarray
    numerical: np.ndarray
    standard: np.ndarray
    covers: np.ndarray


def as_a_grid(book: ResidualCodebook) -> ProductCodebook:
    x, prior = np.asarray(book.points)[:, 0], np.asarray(book.prior)
    order = np.argsort(x)
    return ProductCodebook([(x - prior @ x)[order]], priors=[prior[order]])


@pytest.fixture(scope="module")
def runs() -> Runs:
    rows = []
    for book, ends in BOOKS.values():
        grid = [tk.step_grid("log-snr", 2, *ends)]
        truth = float(ancestral_kl_curve(as_a_grid(book), grid).value[0])
        for key in KEYS:
            found = bracketed_path_kl(book, grid, METHOD, key)[0]
            low, high, _ = found.confidence_interval(LEVEL)
            errors = found.numerical_error, found.standard_error
            rows.append((abs(float(found) - truth), *errors, low <= truth <= high))
    return Runs(*np.array(rows).T)


def are_honest(off: np.ndarray, numerical: np.ndarray, standard: np.ndarray) -> bool:
    """What is off beyond the bracket is no more than standard errors allow."""
    squares = (np.maximum(off - numerical, 0) / standard) ** 2
    return bool(squares.sum() <= stats.chi2.isf(ALARM, off.size))


@pytest.mark.slow
def test_intervals_cover(runs: Runs) -> None:
    misses = runs.covers.size - int(runs.covers.sum())
    assert stats.binom.sf(misses - 1, runs.covers.size, 1 - LEVEL) > ALARM


@pytest.mark.slow
def test_standard_errors_are_no_smaller_than_the_errors(runs: Runs) -> None:
    assert are_honest(runs.off, runs.numerical, runs.standard)


@pytest.mark.slow
def test_a_fault_is_found(runs: Runs) -> None:
    """Standard errors that are a third too small."""
    assert not are_honest(runs.off, runs.numerical, 0.7 * runs.standard)


def test_nothing_is_claimed_of_vectors_too_rare_for_the_sample() -> None:
    """Samples without them are those whose errors look small: of 256 draws no interval is central.

    Without the look at rare vectors a third of the keys had one, and a third of those missed.
    """
    book = ResidualCodebook(STAGES, stage_priors=[near(0.9), near(0.5), near(0.95)])
    grid = [tk.step_grid("log-snr", 2, 0.05, 1.0)]
    truth = ancestral_kl_curve(as_a_grid(book), grid).value
    for key in KEYS[:12]:
        found = bracketed_path_kl(book, grid, METHOD, key)
        low, high, _ = found.confidence_interval(LEVEL)
        assert not found.interval_supported.any()
        assert low <= truth <= high
