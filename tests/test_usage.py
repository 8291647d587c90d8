"""Entropy from counts: bias against exact expectations, and the jackknife by recounting."""

import math
from collections.abc import Callable
from typing import Any, cast, get_args

import numpy as np
import pytest
from scipy import stats

from tokenkl._random import generator
from tokenkl.usage import Correction, entropy_of_counts, stream_usage, token_usage


def test_large_counts_give_the_entropy() -> None:
    counts = [7_000_000, 2_000_000, 1_000_000]
    truth = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    for correction in ("none", "miller-madow", "grassberger"):
        assert entropy_of_counts(counts, correction) == pytest.approx(truth, abs=2e-7)


def _shares(n: int, correction: Correction) -> np.ndarray:
    """What a token seen 0 .. n times adds to the estimate from n draws, by Grassberger's recursion.

    G(1) = -gamma - log 2, G(2) = G(1) + 2, G(2m + 1) = G(2m), G(2m + 2) = G(2m) + 2 / (2m + 1).
    """
    k = np.arange(n + 1)
    if correction == "grassberger":
        g = [0.0, -np.euler_gamma - math.log(2), 2 - np.euler_gamma - math.log(2)]
        while len(g) <= n:
            m = len(g)
            g.append(g[-1] if m % 2 else g[-2] + 2 / (m - 1))
        return k / n * (math.log(n) - np.array(g[: n + 1]))
    plain = -k / n * np.log(np.maximum(k, 1) / n)
    return plain if correction == "none" else plain + (k > 0) / (2 * n)


@pytest.mark.parametrize("correction", ["none", "miller-madow", "grassberger"])
def test_against_the_recursion(correction: Correction) -> None:
    counts = generator(5).integers(40, size=60)
    n = int(counts.sum())
    expected = _shares(n, correction)[counts].sum()
    expected -= 1 / (2 * n) if correction == "miller-madow" else 0
    assert entropy_of_counts(counts, correction) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("n", [300, 1000, 3000])
def test_exact_bias_with_300_unequal_tokens(n: int) -> None:
    """The mean over multinomial draws is a sum over tokens: each correction leaves less bias."""
    law = 1 / np.arange(1.0, 301)
    law /= law.sum()
    truth = -float((law * np.log(law)).sum())
    seen = stats.binom.pmf(np.arange(n + 1)[:, None], n, law).sum(axis=1)
    bias = {name: float(seen @ _shares(n, name)) - truth for name in ("none", "grassberger")}
    bias["miller-madow"] = float(seen @ _shares(n, "miller-madow")) - 1 / (2 * n) - truth
    assert bias["none"] < bias["miller-madow"] < 0
    assert abs(bias["grassberger"]) < 0.5 * abs(bias["miller-madow"])


def test_unequal_tokens_and_few_draws() -> None:
    """6561 tokens with Zipf frequencies, 20,000 draws: as many as a small corpus has."""
    law = 1 / np.arange(1.0, 6562)
    law /= law.sum()
    truth = -float((law * np.log(law)).sum())
    counts = generator(0).multinomial(20_000, law)
    plain = entropy_of_counts(counts, "none")
    corrected = entropy_of_counts(counts, "grassberger")
    assert plain < truth - 0.05
    assert abs(corrected - truth) < 0.25 * abs(plain - truth)


def test_jackknife_against_recounting() -> None:
    rng = generator(3)
    sequences = [rng.integers(12, size=int(rng.integers(3, 30))) for _ in range(9)]
    for correction in get_args(Correction):
        usage = token_usage(sequences, 15, correction)
        left_out = np.array(
            [
                entropy_of_counts(
                    np.bincount(np.concatenate(sequences[:i] + sequences[i + 1 :]), minlength=15),
                    correction,
                )
                for i in range(9)
            ]
        )
        expected = math.sqrt(8 / 9 * np.sum((left_out - np.mean(left_out)) ** 2))
        assert float(usage.entropy.standard_error) == pytest.approx(expected, rel=1e-9)
        # What the bias may be, less what is corrected, and what was not seen.
        counts = np.bincount(np.concatenate(sequences))
        plain, N = entropy_of_counts(counts, "none"), int(counts.sum())
        shrunk = [
            entropy_of_counts(
                np.bincount(np.concatenate(sequences[:i] + sequences[i + 1 :])), "none"
            )
            for i in range(9)
        ]
        bias = max(math.log1p(14 / N), 16 * (plain - float(np.mean(shrunk))))
        corrected = float(usage.entropy.value) - plain
        unseen = 3 / N * math.log(15 / (3 / N))
        assert usage.entropy.numerical_error == pytest.approx(
            max(corrected, bias - corrected) + unseen
        )
        assert usage.used == np.unique(np.concatenate(sequences)).size
        assert usage.perplexity == pytest.approx(math.exp(float(usage.entropy.value)))


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ([1, -1], "counts must be one row of whole numbers"),
        ([0.5, 1.0], "counts must be one row of whole numbers"),
        ([0, 0], "counts must be with at least one draw"),
    ],
)
def test_counts_refused(counts: list[float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        entropy_of_counts(counts)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.uint64])
def test_counts_of_any_kind(kind: type) -> None:
    for correction in get_args(Correction):
        counts: np.ndarray = np.array([100, 100, 100], kind)
        expected = entropy_of_counts([100, 100, 100], correction)
        assert entropy_of_counts(counts, correction) == expected
        assert entropy_of_counts(counts[:1], correction) == 0.0  # nothing is below
    with pytest.raises(ValueError, match=r"fewer than 2\*\*53 of them"):
        entropy_of_counts(np.full(3, 2**52))


def test_one_token_alone() -> None:
    usage = token_usage([[0] * 7] * 10, 4)
    low, high, _ = usage.perplexity_interval()
    assert usage.perplexity == low == 1 < high < 4
    assert token_usage([[0, 1], [2, 3]], 4).perplexity_interval()[1] == pytest.approx(4)


def test_sequences_refused() -> None:
    with pytest.raises(ValueError, match="at least two utterances"):
        token_usage([[1, 2]], 3)
    with pytest.raises(ValueError, match="sequences must be whole numbers from 0 to 2; got 3"):
        token_usage([[1, 2], [3]], 3)
    with pytest.raises(ValueError, match="sequences must be token ids of each utterance"):
        token_usage(cast(Any, 5), 3)
    with pytest.raises(ValueError, match="at least two with tokens"):
        token_usage([[1, 2], np.zeros(0, int)], 3)


def _copied(rng: np.random.Generator, law: np.ndarray, size: int, run: int) -> np.ndarray:
    """Tokens of a law, each said `run` times in a row: a stream with long repetitions."""
    return np.repeat(rng.choice(law.size, size // run, p=law), run)


@pytest.mark.parametrize("K", [3, 200, 2000])
@pytest.mark.parametrize(
    ("law", "run"),
    [
        (lambda k: np.ones(k.size), 1),
        (lambda k: np.ones(k.size), 20),
        (lambda k: 1 / k, 1),
        (lambda k: 1 / k, 20),
        *((lambda k, p=p: np.where(k == 1, 1, p / k.size), 1) for p in (1e-3, 1e-4, 1e-5)),
    ],
)
def test_intervals_of_streams_cover(
    K: int, law: Callable[[np.ndarray], np.ndarray], run: int
) -> None:
    """Also where nothing but the bias is wrong, one token is nearly certain, or runs are long."""
    weight = law(np.arange(1.0, K + 1))
    weight = weight / weight.sum()
    truth = -float((weight * np.log(weight)).sum())
    rng = generator(11)
    hits = np.zeros(2, int)
    for _ in range(20):
        ids = _copied(rng, weight, 20_000, run)
        for kind, usage in enumerate((stream_usage(ids, K), token_usage(np.split(ids, 20), K))):
            low, high, _ = usage.entropy.confidence_interval()
            hits[kind] += low <= truth <= high
    assert hits.min() >= 13  # of 20 at 95 %: fewer happen once in 10^5


def test_stream_is_that_of_its_blocks() -> None:
    ids = generator(2).integers(50, size=999)
    usage = stream_usage(ids.reshape(3, 333), 60)
    blocks = token_usage(np.array_split(ids, 64), 60)
    assert usage.used == np.unique(ids).size
    assert usage.tokens == 999
    assert float(usage.entropy) == float(blocks.entropy)
    assert usage.entropy.standard_error == blocks.entropy.standard_error
    assert usage.entropy.degrees_of_freedom == 63
    low, high, _ = usage.entropy.confidence_interval(0.9)
    assert usage.perplexity_interval(0.9)[:2] == (math.exp(low), math.exp(high))
    assert low < math.log(50) < high


def test_streams_refused() -> None:
    with pytest.raises(ValueError, match="ids must be at least two tokens; got 1 of them"):
        stream_usage([1], 3)
    with pytest.raises(ValueError, match="ids must be whole numbers from 0 to 2; got 3"):
        stream_usage([1, 3], 3)


def test_more_tokens_than_memory() -> None:
    """What does not occur takes no room."""
    few, many = (stream_usage([0, 3, 1, 3] * 50, K) for K in (4, 2**62))
    assert (many.K, many.used, many.tokens) == (2**62, 3, 200)
    assert float(many.entropy) == float(few.entropy)
    assert many.entropy.numerical_error > few.entropy.numerical_error
