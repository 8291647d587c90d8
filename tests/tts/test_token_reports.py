"""Reports on tokens that make no sound here: lengths, usage, likelihood, and no judge."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tts.small import SMALL

import tokenkl as tk
from tokenkl.tts.ar import AR, ARConfig
from tokenkl.tts.audio import Utterance
from tokenkl.tts.codec import Codec
from tokenkl.tts.data import Example, TextEncoder, make_batch
from tokenkl.tts.evaluation import Spoken, ceilings_and_floors, evaluate
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.speaking import nats, with_next_text
from tokenkl.tts.tokenizers import TOKENIZERS, Tokenizer
from tokenkl.tts.voice import Voice, new_cdcd

K, RATE = 20, 50.0
CODEC = Codec(tk.PointCodebook(np.random.default_rng(0).normal(size=(K, 3))), RATE)
TEXTS = ("one two", "three", "four five six", "seven")


def example(text: str, tokens: Any, **more: Any) -> Example:
    return Example(text, text, np.asarray(tokens), TextEncoder().encode(text), **more)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = np.random.default_rng(1)
    return [example(text, rng.integers(K, size=2 * len(text))) for text in TEXTS]


def test_lengths_usage_and_times(examples: list[Example]) -> None:
    """Against each of them by hand, of two seeds."""
    rng = np.random.default_rng(2)
    said = {
        seed: [
            Spoken(e.text, rng.integers(9, size=e.tokens.size + seed), seconds=0.5)
            for e in examples
        ]
        for seed in (0, 3)
    }
    report = evaluate(said, CODEC, examples, label="made up")
    assert report.names == report.texts == TEXTS
    assert report.seeds == (0, 3)
    assert set(report.metrics) == {"length_error", "length_bias", "entropy", "rtf", "latency"}
    true = np.array([e.tokens.size for e in examples])
    assert report.value("length_bias") == pytest.approx(np.mean(3 / true) / 2)
    assert report.value("length_error") == report.value("length_bias")
    assert report.value("latency") == pytest.approx(0.5)
    assert report.value("rtf") == pytest.approx(4 / ((2 * true.sum() + 12) / RATE))
    assert K == report.K
    for index, row in enumerate(said.values()):
        ids = [one.tokens for one in row if one.tokens is not None]
        assert report.used[index] == np.unique(np.concatenate(ids)).size
        usage = tk.token_usage(ids, K)
        assert report.by_seed("entropy")[index] == pytest.approx(float(usage.entropy.value))


def test_ceilings_and_floors_without_sound(examples: list[Example]) -> None:
    found = ceilings_and_floors(examples, CODEC)
    assert list(found) == ["true tokens", "shuffled text"]
    sizes = np.array([e.tokens.size for e in examples])
    assert found["true tokens"].value("length_error") == 0
    others = np.mean(np.abs(np.roll(sizes, -1) / sizes - 1))
    assert found["shuffled text"].value("length_error") == pytest.approx(others)
    assert found["shuffled text"].value("entropy") == found["true tokens"].value("entropy")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mos": 2}, "mos must be left out for the tokens of another program"),
        ({"mel": True}, "mel must be left out"),
        ({"language": lambda grammar: None}, "language must be left out"),
    ],
)
def test_judges_that_need_sound(
    options: dict[str, Any], expected: str, examples: list[Example]
) -> None:
    said = {0: [Spoken(e.text, e.tokens) for e in examples]}
    with pytest.raises(ValueError, match=expected):
        evaluate(said, CODEC, examples, **options)


def test_what_is_refused(examples: list[Example]) -> None:
    said = {0: [Spoken(e.text, e.tokens) for e in examples]}
    sound = [Utterance(e.text, e.text, np.zeros(900, np.float32)) for e in examples]
    with pytest.raises(
        ValueError, match="references must be examples, which have tokens; got a Utt"
    ):
        evaluate(said, CODEC, sound)
    tokenizer = Tokenizer(TOKENIZERS["fsq-3^5"]).eval()
    with pytest.raises(
        ValueError, match="references must be utterances, which have audio; got a E"
    ):
        evaluate(said, tokenizer, examples)
    with pytest.raises(ValueError, match="tokenizer must be one that was trained by tokenkl"):
        ceilings_and_floors(examples, CODEC, which=("true audio",))
    heard = {0: [Spoken(e.text, audio=np.zeros(900)) for e in examples]}
    with pytest.raises(ValueError, match="spoken must be with tokens, where there is no sound"):
        evaluate(heard, CODEC, examples)
    beyond = {0: [Spoken(e.text, e.tokens + K) for e in examples]}
    with pytest.raises(ValueError, match=f"tokens must be whole numbers from 0 to {K - 1}"):
        evaluate(beyond, CODEC, examples)


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=2, max_size=5))
def test_next_text_fills_the_tokens(durations: list[list[int]]) -> None:
    """Its durations sum to the tokens of another sentence, each edge within half a token."""
    made = [
        example("a" * len(row), np.arange(sum(row)) % K, lengths=np.array(row)) for row in durations
    ]
    moved = with_next_text(made)
    for one, new, other in zip(made, moved, made[1:] + made[:1], strict=True):
        assert new.tokens is one.tokens
        assert new.text == other.text
        np.testing.assert_array_equal(new.symbols, other.symbols)
        assert new.lengths is not None
        assert other.lengths is not None
        assert new.lengths.min() >= 0
        edges = np.cumsum(other.lengths) * one.tokens.size / other.tokens.size
        assert np.abs(np.cumsum(new.lengths) - edges).max() <= 0.5 + 1e-9
        assert new.lengths.sum() == one.tokens.size


def test_likelihood_given_another_text(examples: list[Example]) -> None:
    """Of the twin, exact: every sentence by itself, its text put there by hand."""
    encoder = TextEncoder()
    torch.manual_seed(0)
    model = AR(ARConfig(K, encoder.size, width=16, heads=2, depth=1)).eval()
    with torch.no_grad():
        for part in model.parameters():
            part.mul_(3)  # so that the text matters
    voice = Voice(CODEC, encoder, Lengths({(-1, -1, -1): 2.0}, (1.0,)), "stretch", model)
    found = nats(voice, with_next_text(voice.examples(examples)))
    for index, one in enumerate(examples):
        text = examples[(index + 1) % len(examples)].text
        alone = make_batch([example(text, one.tokens)], "stretch")
        with torch.no_grad():
            assert found[index] == pytest.approx(float(model.nll(alone)[0]), rel=1e-4)
    assert not np.allclose(found, nats(voice, voice.examples(examples)), rtol=1e-3)


@pytest.mark.parametrize("layout", ["stretch", "aligned"])
def test_diffusion_takes_another_text_in_every_layout(layout: Any, examples: list[Example]) -> None:
    encoder = TextEncoder()
    model = new_cdcd(CODEC, encoder, **SMALL).eval()
    voice = Voice(CODEC, encoder, Lengths({(-1, -1, -1): 2.0}, (1.0,)), layout, model)
    timed = [dataclasses.replace(e, lengths=np.full(e.symbols.size, 2)) for e in examples]
    found = nats(voice, with_next_text(voice.examples(timed)), draws=2)
    assert found.shape == (len(TEXTS),)
    assert np.isfinite(found).all()
    assert found.min() > 0


def test_speakers_of_examples(examples: list[Example]) -> None:
    encoder = TextEncoder()
    model = new_cdcd(CODEC, encoder, speakers=2, **SMALL).eval()
    lengths = Lengths({(-1, -1, -1): 2.0}, (1.0,))
    voice = Voice(CODEC, encoder, lengths, "stretch", model, speakers=("ann", "bob"))
    who = [dataclasses.replace(e, speaker="bob") for e in examples]
    assert [one.speaker_id for one in voice.examples(who)] == [1] * len(TEXTS)
    with pytest.raises(ValueError, match="speaker must be one of the 2 that the voice knows"):
        voice.examples([dataclasses.replace(examples[0], speaker="cy")])
