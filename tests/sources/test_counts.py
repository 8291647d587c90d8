"""Sources out of data: what is counted, how it is smoothed, and how well it foretells."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from tokenkl.sources import Independent, Markov, bigrams, held_out_entropy, ngrams
from tokenkl.sources.counts import (
    _fitted,
    _log_probs,
    _with_parameters,
    as_sequences,
    split_sequences,
)

K = 4
RAGGED = [np.array([0, 1, 1, 2]), np.array([3, 0]), np.array([1]), np.array([1, 2, 0, 1, 2])]


def _chain(length: int = 30, seed: int = 0) -> Markov:
    return Markov(np.random.default_rng(seed).dirichlet(np.full(K, 0.5), K), length)


def test_bigrams_are_the_formula() -> None:
    """Discount and strength as they were found; counts by plain loops."""
    first, second = _fitted(RAGGED, K, 2)
    pairs, single = np.zeros((K, K)), np.zeros(K)
    for row in RAGGED:
        for token in row:
            single[token] += 1
        for k, later in itertools.pairwise(row):
            pairs[k, later] += 1
    d, s = first.discount, first.strength
    low = np.maximum(single - d, 0) + (s + d * (single > 0).sum()) / K
    low /= s + single.sum()
    d, s = second.discount, second.strength
    high = np.maximum(pairs - d, 0) + (s + d * (pairs > 0).sum(axis=1))[:, None] * low
    high /= (s + pairs.sum(axis=1))[:, None]
    found = bigrams(RAGGED, K, 5)
    assert np.allclose(found.transition.toarray(), high, rtol=1e-13)
    assert found.transition.toarray().min() > 0
    assert abs(low.sum() - 1) < 1e-14


def test_leave_one_out_is_counting_anew() -> None:
    """What the likelihood says of each n-gram: counts without one occurrence of it."""
    rows = [np.array([0, 1, 0, 1, 2, 0, 0, 1, 3])]
    levels = _fitted(rows, K, 2)
    single = levels[0]
    below = np.full(single.codes.size, 1 / K)
    chosen, without = _with_parameters(single, below)
    counts = np.bincount(rows[0], minlength=K).astype(float)
    for token, found in zip(single.codes, without, strict=True):
        left = counts - np.eye(K)[token]
        d, s = chosen.discount, chosen.strength
        expected = max(left[token] - d, 0) + (s + d * (left > 0).sum()) / K
        assert np.isclose(found, expected / (s + left.sum()), rtol=1e-13)


def test_unseen_tokens_and_contexts() -> None:
    found = bigrams([[0, 1, 0, 1, 0]], 5, 3)
    rows = found.transition.toarray()
    assert (rows > 0).all()
    assert np.allclose(rows[2], rows[4])  # of tokens that were never seen nothing is known


@pytest.mark.parametrize("order", [2, 3, 4])
def test_ngrams_foretell_as_their_counts_do(order: int) -> None:
    """Conditional laws of the chain of contexts against the recursion of the formula."""
    tokens = _chain(12).sample(6, key=1)
    levels = _fitted(tokens, K, order)
    seen = _chain(7, 1).sample(20, key=2)
    logs = [ngrams(tokens, K, size, order).log_prob(seen[:, :size]) for size in range(1, 8)]
    found = np.diff(np.stack(logs, axis=1))
    given = np.stack([_log_probs(levels, row, K)[1:] for row in seen])
    # After order - 1 tokens the state is known, and the conditional law is that of counts.
    assert np.allclose(found[:, order - 2 :], given[:, order - 2 :], atol=1e-10)


def test_order_two_is_bigrams() -> None:
    tokens = _chain().sample(20, key=3)
    one, other = bigrams(tokens, K, 4), ngrams(tokens, K, 4, 2)
    seen = _chain(4).sample(30, key=4)
    assert np.allclose(one.log_prob(seen), other.log_prob(seen), rtol=1e-10)


def test_bigrams_approach_the_chain() -> None:
    chain = _chain(50)
    errors = []
    for size in (20, 2000):
        found = bigrams(chain.sample(size, key=5), K, 50).transition.toarray()
        errors.append(abs(found - chain.transition.toarray()).max())
    assert errors[1] < 0.01 < errors[0]


def test_independent_tokens_are_smoothed_to_independence() -> None:
    """Of 100 tokens the pairs, seen twice each at most, tell nothing, and are given no weight."""
    law = np.random.default_rng(0).dirichlet(np.ones(100))
    tokens = Independent(np.tile(law, (40, 1))).sample(100, key=6)
    rows = bigrams(tokens, 100, 2).transition.toarray()
    single = rows.mean(axis=0)
    excess = (law[:, None] * rows * np.log(rows / single)).sum()
    assert 0 < excess < 0.02


@pytest.mark.slow
def test_held_out_entropy_covers() -> None:
    """Its interval lies above the entropy rate, near it; by single tokens it is their entropy."""
    chain = _chain(100)
    rate = chain.entropy() / 100
    scores = []
    for key in range(30):
        found = held_out_entropy(chain.sample(200, key=100 + key), K)
        scores.append((found.value - rate) / found.standard_error)
    assert abs(np.mean(scores)) < 4.3 * (1 / np.sqrt(30)) + 0.15  # 0.15: what smoothing costs
    assert 0.6 < np.std(scores) < 1.6
    assert sum(len(one) for _, one in split_sequences(np.arange(50).reshape(10, 5), 50, 3, 0)) == 10
    alone = held_out_entropy(chain.sample(400, key=7), K, order=1)
    single = -(chain.initial * np.log(chain.initial)).sum()
    assert abs(alone.value - single) < 4.3 * alone.standard_error + 1e-3


def test_one_long_sequence_is_cut() -> None:
    chain = _chain(5000)
    found = held_out_entropy(chain.sample(1, key=1)[0], K)
    assert abs(found.value - chain.entropy_rate()) < 4.3 * found.standard_error + 0.01
    assert found.n_samples == 64


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: bigrams([[0, 4]], 4, 2), "tokens must be whole numbers from 0 to 3"),
        (lambda: bigrams([[0], [1]], 4, 2), "tokens must be longer sequences"),
        (lambda: bigrams([], 4, 2), "tokens must be at least one sequence"),
        (lambda: bigrams(np.zeros((2, 2, 2), int), 4, 2), "sequences in rows"),
        (lambda: held_out_entropy([[0, 1], [1, 0]], 4), "at least as many as folds, 5"),
        (lambda: ngrams([[0, 1, 2]], 2**14, 3, 2), "order must be few enough"),
        (lambda: ngrams([[0, 1, 2]], 4, 3, 1), "order must be a whole number, at least 2"),
    ],
)
def test_refusals(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_sequences_of_every_form() -> None:
    assert [one.tolist() for one in as_sequences([[0, 1], [2]], 3)] == [[0, 1], [2]]
    assert [one.tolist() for one in as_sequences(np.array([[0, 1], [2, 0]]), 3)] == [[0, 1], [2, 0]]
    assert [one.tolist() for one in as_sequences([0, 1, 2], 3)] == [[0, 1, 2]]


@pytest.mark.parametrize(("size", "folds"), [(10, 5), (66, 5), (69, 7), (63, 2)])
def test_one_sequence_too_short_for_its_folds(size: int, folds: int) -> None:
    """What is asked for is enough, and a token less is not."""
    rng = np.random.default_rng(0)
    least = 64 + folds
    for length in {size, least - 1}:
        message = f"tokens must be of at least {least} tokens where it is one, or several sequences"
        with pytest.raises(ValueError, match=message):
            held_out_entropy(rng.integers(3, size=length), 3, folds=folds)
    assert held_out_entropy(rng.integers(3, size=least), 3, folds=folds).value > 0


def test_more_folds_than_blocks() -> None:
    with pytest.raises(ValueError, match="folds must be at most 64 for one sequence"):
        held_out_entropy(np.zeros(1000, dtype=int), 3, folds=65)
