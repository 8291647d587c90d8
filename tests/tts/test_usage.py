"""Entropy from counts: bias against exact expectations, and the jackknife by recounting."""

import math

import numpy as np
import pytest
from scipy import stats

from tokenkl._random import generator
from tokenkl.tts.usage import entropy_of_counts, token_usage


def test_large_counts_give_the_entropy():
    counts = [7_000_000, 2_000_000, 1_000_000]
    truth = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    for correction in ("none", "miller-madow", "grassberger"):
        assert entropy_of_counts(counts, correction) == pytest.approx(truth, abs=2e-7)


def _shares(n, correction):
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
def test_against_the_recursion(correction):
    counts = generator(5).integers(40, size=60)
    n = int(counts.sum())
    expected = _shares(n, correction)[counts].sum()
    expected -= 1 / (2 * n) if correction == "miller-madow" else 0
    assert entropy_of_counts(counts, correction) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("n", [300, 1000, 3000])
def test_exact_bias_with_300_unequal_tokens(n):
    """The mean over multinomial draws is a sum over tokens: each correction leaves less bias."""
    law = 1 / np.arange(1.0, 301)
    law /= law.sum()
    truth = -float((law * np.log(law)).sum())
    seen = stats.binom.pmf(np.arange(n + 1)[:, None], n, law).sum(axis=1)
    bias = {name: float(seen @ _shares(n, name)) - truth for name in ("none", "grassberger")}
    bias["miller-madow"] = float(seen @ _shares(n, "miller-madow")) - 1 / (2 * n) - truth
    assert bias["none"] < bias["miller-madow"] < 0
    assert abs(bias["grassberger"]) < 0.5 * abs(bias["miller-madow"])


def test_unequal_tokens_and_few_draws():
    """6561 tokens with Zipf frequencies, 20,000 draws: as many as a small corpus has."""
    law = 1 / np.arange(1.0, 6562)
    law /= law.sum()
    truth = -float((law * np.log(law)).sum())
    counts = generator(0).multinomial(20_000, law)
    plain = entropy_of_counts(counts, "none")
    corrected = entropy_of_counts(counts, "grassberger")
    assert plain < truth - 0.05
    assert abs(corrected - truth) < 0.25 * abs(plain - truth)


def test_jackknife_against_recounting():
    rng = generator(3)
    sequences = [rng.integers(12, size=int(rng.integers(3, 30))) for _ in range(9)]
    for correction in ("none", "miller-madow", "grassberger"):
        usage = token_usage(sequences, 15, correction)
        left_out = [
            entropy_of_counts(
                np.bincount(np.concatenate(sequences[:i] + sequences[i + 1 :]), minlength=15),
                correction,
            )
            for i in range(9)
        ]
        expected = math.sqrt(8 / 9 * np.sum((left_out - np.mean(left_out)) ** 2))
        assert float(usage.entropy.standard_error) == pytest.approx(expected, rel=1e-9)
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
def test_counts_refused(counts, sentence):
    with pytest.raises(ValueError, match=sentence):
        entropy_of_counts(counts)


def test_sequences_refused():
    with pytest.raises(ValueError, match="at least two utterances"):
        token_usage([[1, 2]], 3)
    with pytest.raises(ValueError, match="sequences must be whole numbers from 0 to 2; got 3"):
        token_usage([[1, 2], [3]], 3)
    with pytest.raises(ValueError, match="at least two with tokens"):
        token_usage([[1, 2], np.zeros(0, int)], 3)
