"""Who speaks, from the corpus to the voice."""

from __future__ import annotations

import collections
import dataclasses
import json
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from safetensors import safe_open
from tts.small import SMALL
from tts.training_case import CONFIG, Small

import tokenkl.tts
from tokenkl.tts.ar import AR, ARConfig
from tokenkl.tts.audio import Utterance, write_wav
from tokenkl.tts.cdcd import CDCD, CDCDConfig
from tokenkl.tts.data import Example, TextEncoder, make_batch, numbered, speakers_of
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.loaders import load_ljspeech
from tokenkl.tts.recipes import RECIPES, Recipe, new_model
from tokenkl.tts.recordings import Source
from tokenkl.tts.speaking import nats, say_all
from tokenkl.tts.stored import write_network
from tokenkl.tts.tokenizers import Tokenizer, TokenizerConfig
from tokenkl.tts.training import train
from tokenkl.tts.voice import Voice

WIDE = {"width": 16, "heads": 2, "depth": 1}


def example(speaker: str, size: int = 4, speaker_id: int = 0) -> Example:
    ids, symbols = np.arange(size) % 9, np.array([1, 2])
    return Example("", "ab", ids, symbols, speaker=speaker, speaker_id=speaker_id)


def voice_of(model: str, speakers: tuple[str, ...] = ("ann", "bob", "cy")) -> Voice:
    """One that tells its speakers apart, as after training."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(levels=(3, 3), channels=8, blocks=(0, 1))).eval()
    changes = tuple((SMALL if model == "cdcd" else WIDE).items())
    recipe = Recipe(text="characters", model=model, changes=changes)
    made = new_model(recipe, tokenizer, TextEncoder(), speakers=len(speakers), key=0).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    lengths = Lengths({(-1, -1, -1): 2.0}, (1.0,))
    return Voice(
        tokenizer, TextEncoder(), lengths, "stretch", made, {"recipe": {"data": {}}},
        speakers=speakers,
    )  # fmt: skip


@pytest.fixture(params=["cdcd", "ar"])
def voice(request: pytest.FixtureRequest) -> Voice:
    return voice_of(request.param)


@hypothesis.given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 9)), min_size=1))
@hypothesis.settings(deadline=None)
def test_speakers_by_what_they_say(rows: list[tuple[str, int]]) -> None:
    examples = [example(name, size) for name, size in rows]
    if len({name for name, _ in rows}) < 2:
        with pytest.raises(ValueError, match="speakers must be two or more; got only"):
            speakers_of(examples)
        return
    found = speakers_of(examples)
    totals = collections.Counter(dict.fromkeys(found, 0))
    for name, size in rows:
        totals[name] += size
    assert [totals[name] for name in found] == sorted(totals.values(), reverse=True)
    assert [found[one.speaker_id] for one in numbered(examples, found)] == [n for n, _ in rows]
    with pytest.raises(ValueError, match=r"1 of .* without one"):
        speakers_of([*examples, example("")])


def test_a_batch_says_who_speaks() -> None:
    batch = make_batch([example("x", 3, 2), example("y", 5)], "stretch")
    assert batch.speakers.tolist() == [2, 0]
    assert batch.to("cpu").speakers.tolist() == [2, 0]


def test_models_that_are_not_told_are_as_before() -> None:
    """No parameter, no random number and no entry of a file more."""
    for config in (CDCDConfig(K=9, symbols=5, dim=2), ARConfig(K=9, symbols=5)):
        assert "speakers" not in config.to_json()
        told = dataclasses.replace(config, speakers=2)
        assert told.to_json()["speakers"] == 2
        assert type(config).from_json(told.to_json()) == told
    for model in (CDCD(CDCDConfig(9, 5, 2, **SMALL)), AR(ARConfig(9, 5, **WIDE))):
        assert not any("speaker" in name for name in model.state_dict())
    assert "speakers" not in RECIPES["small"].to_json()
    with pytest.raises(ValueError, match="speakers"):
        CDCDConfig(9, 5, 2, speakers=-1)


def test_a_voice_speaks_as_it_is_told(voice: Voice) -> None:
    said = {name: voice.say_tokens("one two", speaker=name, key=1) for name in voice.speakers}
    assert len({row.tobytes() for row in said.values()}) == 3
    np.testing.assert_array_equal(voice.say_tokens("one two", key=1), said["ann"])
    speech = voice.say("one two", speaker="cy", key=1)
    assert isinstance(voice.tokenizer, Tokenizer)
    np.testing.assert_array_equal(speech.samples, voice.tokenizer.synthesise(said["cy"], key=1))
    with pytest.raises(ValueError, match="speaker must be one of bob, ann, cy; got bobb"):
        voice.say("one", speaker="bobb")
    voice.speakers = ()
    with pytest.raises(ValueError, match="speaker must be left out for a voice that was trained w"):
        voice.say("one", speaker="ann")


def test_the_loss_is_that_of_the_speaker(voice: Voice) -> None:
    own = numbered([example(name) for name in voice.speakers], voice.speakers)
    apart = np.concatenate([nats(voice, [one]) for one in own])
    assert np.ptp(apart) > 1e-3
    swapped = [dataclasses.replace(one, speaker_id=0) for one in own]
    np.testing.assert_allclose([nats(voice, [one])[0] for one in swapped], apart[0])
    if isinstance(voice.model, AR):  # and in a batch; a bound has other noise there
        np.testing.assert_allclose(nats(voice, own), apart, rtol=1e-5)


def test_many_speakers_are_not_all_named() -> None:
    many = voice_of("cdcd", tuple(f"s{i}" for i in range(40)))
    with pytest.raises(ValueError, match=r"speaker must be one of .* or 32 more; got nobody"):
        many.speaker_id("nobody")


def test_a_voice_keeps_its_speakers(voice: Voice, tmp_path: Path) -> None:
    assert isinstance(voice.tokenizer, Tokenizer)
    voice.tokenizer.save(tmp_path / "tokenizer.safetensors")
    path = tmp_path / "voice.safetensors"
    voice.save(path, "tokenizer.safetensors")
    again = tokenkl.tts.load(path)
    assert again.speakers == voice.speakers
    for name in voice.speakers:
        np.testing.assert_array_equal(
            again.say_tokens("one", speaker=name), voice.say_tokens("one", speaker=name)
        )
    with safe_open(path, "pt") as file:
        header = json.loads(next(iter(file.metadata().values())))
    for wrong in (["ann"], ["ann", "bob", "ann"], []):
        write_network(path, voice.model.state_dict(), {**header, "speakers": wrong})
        with pytest.raises(ValueError, match="the speakers of its model must be"):
            Voice.load(path)


def test_everybody_says_their_own(voice: Voice) -> None:
    texts, who = ["one two", "two", "two"], ["ann", "cy", "bob"]
    said = say_all(voice, texts, [0], speakers=who, progress=lambda done, total: None)[0]
    alone = say_all(voice, ["two"], [0], speakers=["bob"], progress=lambda done, total: None)[0]
    rows = [np.array(one.tokens) for one in (*said, *alone)]
    np.testing.assert_array_equal(rows[2], rows[3])
    assert not np.array_equal(rows[1], rows[2])
    with pytest.raises(ValueError, match="speakers must be one for each of 3 texts"):
        say_all(voice, texts, [0], speakers=["ann"])


def test_utterances_become_examples_of_their_speakers(voice: Voice) -> None:
    audio = 0.1 * np.sin(np.arange(4000) / 5).astype(np.float32)
    made = voice.examples([Utterance("a", "one", audio, "cy"), Utterance("b", "two", audio, "ann")])
    assert [one.speaker_id for one in made] == [2, 0]
    with pytest.raises(ValueError, match="speaker must be one of the 3 that the voice knows"):
        voice.examples([Utterance("a", "one", audio, "dan")])


def test_another_speaker_is_another_run(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=2, batch=2, snapshots=(), layout="stretch")
    examples = [example("", 6), example("", 6)]
    options: dict[str, Any] = {"key": 0, "cpu": True, "progress": lambda done, total: None}
    train(Small(), examples, config, tmp_path, **options)
    other = [examples[0], dataclasses.replace(examples[1], speaker_id=1)]
    with pytest.raises(ValueError, match=r"folder must be a run with .* got one with data"):
        train(Small(), other, config, tmp_path, **options)


def test_a_column_of_speakers(tmp_path: Path) -> None:
    (tmp_path / "wavs").mkdir()
    for name in "ab":
        write_wav(tmp_path / "wavs" / f"{name}.wav", np.zeros(1600) + 0.01)
    (tmp_path / "metadata.csv").write_text("a|One.|one|ann\nb|Two.|two\n")
    first, second = load_ljspeech(tmp_path)
    assert (first.text, first.speaker) == ("one", "ann")
    assert (second.text, second.speaker) == ("two", "")


def test_recipes_with_speakers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="speakers must be False for the synthetic corpus"):
        Recipe(speakers=True)
    source = Source("ljspeech", str(tmp_path))
    assert Recipe(text="characters", data=source, speakers=True).to_json()["speakers"] is True
