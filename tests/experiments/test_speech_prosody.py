"""`python -m experiments.speech prosody`: pitch as tokens tell it, and its spread over seeds."""

import numpy as np
import pytest

from experiments.speech.plans import PLANS
from experiments.speech.prosody import BUDGETS, WAYS, PitchOfTokens, spread
from tokenkl.tts.data import Example


def test_pitch_is_read_off_tokens_whatever_is_said() -> None:
    """Tokens of two digits: one follows the phoneme, the other is 1 the more often the higher."""
    rng = np.random.default_rng(0)
    levels = np.array([[a, b] for a in (0.0, 1.0) for b in (0.0, 1.0)])

    def utterance(pitch: float) -> Example:
        symbols = rng.integers(1, 4, 40)
        spoken = np.repeat(symbols, 5)
        tokens = 2 * (spoken > rng.integers(1, 4, 200)) + (rng.random(200) < pitch / 100)
        return Example("", "", tokens, symbols, np.full(40, 5))

    pitches = rng.uniform(20, 80, 400)
    examples = [utterance(pitch) for pitch in pitches]
    probe = PitchOfTokens.fit(levels, examples[:300], pitches[:300])
    found = [probe.of(one, one.tokens) for one in examples[300:]]
    assert np.std(found - pitches[300:]) < 5  # 200 tokens tell a share of 1/2 to 3.5 points
    higher = examples[300].tokens | 1
    assert probe.of(examples[300], higher) > max(found)


def test_spread_is_that_within_sentences() -> None:
    seeds = np.random.default_rng(1).normal(0, 2, (4000, 4))
    sentences = 10 * np.arange(4000.0)[:, None]
    assert spread(seeds + sentences) == pytest.approx(2, rel=0.03)


def test_ways_and_budgets() -> None:
    assert len({way.label for way in WAYS}) == len(WAYS)
    assert set(BUDGETS) <= {cell.budget for cell in PLANS["lasting"].cells}
