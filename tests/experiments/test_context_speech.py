"""The parts of `context_speech`: laws given phonemes, and path KLs with them."""

import dataclasses

import numpy as np
import pytest

import tokenkl as tk
from experiments.context_speech import SMOKE, laws_given_phonemes, load_corpus, path_kls
from experiments.toy.predictors import SCHEDULE


def test_corpus() -> None:
    tokens, symbols = load_corpus(SMOKE)
    assert len(tokens) == len(symbols) == SMOKE.utterances
    assert [row.size for row in tokens] == [row.size for row in symbols]
    assert max(row.max() for row in tokens) < 27
    assert min(row.min() for row in symbols) >= 0


def test_laws_given_phonemes() -> None:
    tokens, symbols = (
        [np.array([0, 0, 0, 1]), np.array([2, 2])],
        [np.array([5, 5, 5, 5]), np.array([7, 7])],
    )
    logs, weights = laws_given_phonemes(tokens, symbols, 4)
    assert weights.tolist() == [4 / 6, 2 / 6]
    assert np.allclose(np.exp(logs).sum(axis=1), 1)
    alone = np.array([3.5, 1.5, 2.5, 0.5]) / 8
    assert np.allclose(np.exp(logs[0]), (np.array([2.25, 0.25, 0, 0]) + 1.5 * alone) / 4)


@pytest.mark.slow
def test_path_kl_without_context() -> None:
    """One context is a prior: steps as the library has them, and what the last look leaves."""
    config = dataclasses.replace(SMOKE, samples=2**12)
    prior = np.array([0.4, 0.3, 0.1, 0.2])
    book = tk.FSQ((2, 2), prior)
    contexts = tk.sources.Contexts(np.log(prior)[None], exhaustive=True)
    for N, (value, error) in path_kls(book, contexts, config).items():
        snr = np.asarray(SCHEDULE.snr(1 - np.arange(N) / N))
        exact = float(tk.ancestral_kl(book, snr, key=0))
        exact += float(tk.conditional_entropy(book, snr[-1], key=0))
        assert value == pytest.approx(exact, abs=4 * error + 1e-9)
        assert error < 0.1 * exact
