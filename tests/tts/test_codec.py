"""Tokens of another program: their points, their files, and what makes sound of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tts.small import SMALL

import tokenkl as tk
import tokenkl.tts
from tokenkl.tts.audio import Utterance
from tokenkl.tts.codec import MOST_TOKENS, Codec, Vocoder, own_tokenizer
from tokenkl.tts.data import TextEncoder
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.tokenizers import TOKENIZERS, Tokenizer
from tokenkl.tts.voice import Voice, new_cdcd

POINTS = 7 + 3 * np.random.default_rng(0).normal(size=(20, 3))
LENGTHS = Lengths({(-1, -1, -1): 2.0}, (1.0,))


def codec(codebook: tk.Codebook | None = None) -> Codec:
    return Codec(tk.PointCodebook(POINTS) if codebook is None else codebook, 50.0)


def voice_of(tokens: Codec, **options: Any) -> Voice:
    encoder = TextEncoder()
    model = new_cdcd(tokens, encoder, **{**SMALL, **options}).eval()
    return Voice(tokens, encoder, LENGTHS, "stretch", model, {"recipe": {"data": {}}})


@pytest.fixture
def voice() -> Voice:
    return voice_of(codec())


def hum(ids: np.ndarray) -> np.ndarray:
    """Each token for four samples: what was said can be read off the sound."""
    return np.repeat(ids / 100.0, 4)


def test_points_are_centred_and_of_size_one() -> None:
    placed = np.asarray(codec().codebook().points)
    np.testing.assert_allclose(placed.mean(axis=0), 0, atol=1e-12)
    assert np.mean(placed**2) == pytest.approx(1)
    # One shift and one factor: what is nearest stays nearest.
    factor = (placed[0] - placed[1]) / (POINTS[0] - POINTS[1])
    np.testing.assert_allclose(factor, factor[0])
    np.testing.assert_allclose(placed - placed[0], factor[0] * (POINTS - POINTS[0]), atol=1e-12)


def test_fsq_is_what_our_own_tokenizers_make_of_it() -> None:
    """The same model to the bit, from the codebook alone."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(TOKENIZERS["fsq-3^5"]).eval()
    foreign = codec(tk.FSQ((3,) * 5, grid="rounding", order="F"))
    assert foreign.digits() == tokenizer.digits() == ((3,) * 5, "F")
    assert foreign.is_grid
    for head in ("joint", "factorised"):
        made = [new_cdcd(t, TextEncoder(), head=head, **SMALL) for t in (tokenizer, foreign)]
        assert made[0].config == made[1].config
        for name, value in made[0].state_dict().items():
            torch.testing.assert_close(made[1].state_dict()[name], value, rtol=0, atol=0)


def test_digits_of_other_kinds() -> None:
    assert codec().digits() is None
    rng = np.random.default_rng(1)
    residual = codec(tk.ResidualCodebook([rng.normal(size=(4, 2)), rng.normal(size=(3, 2))]))
    assert residual.digits() == ((4, 3), "C")
    assert not residual.is_grid
    grid = codec(tk.ProductCodebook([np.array([0.0, 1.0, 5.0]), np.array([2.0, 3.0])]))
    assert grid.digits() == ((3, 2), "C")
    for one in (residual, grid):
        said = voice_of(one, head="factorised").say_tokens("one two")
        assert 0 <= said.min() <= said.max() < one.K
    assert voice_of(grid, head="factorised").model.config.output_prior  # type: ignore[union-attr]


def test_too_many_tokens() -> None:
    many = tk.ResidualCodebook([np.zeros((1024, 2))] * 8)
    with pytest.raises(ValueError, match=f"of 2 to {MOST_TOKENS} tokens; of a residual codec keep"):
        codec(many)
    with pytest.raises(ValueError, match="token_rate must be above 0"):
        Codec(tk.PointCodebook(POINTS), 0)


def test_a_voice_is_found_again_in_its_file(voice: Voice, tmp_path: Path) -> None:
    assert isinstance(voice.tokenizer, Codec)
    voice.tokenizer.save(tmp_path / "codec.npz")
    voice.save(tmp_path / "voice.safetensors", "codec.npz")
    again = Voice.load(tmp_path / "voice.safetensors")
    assert isinstance(again.tokenizer, Codec)
    assert again.tokenizer.token_rate == 50
    np.testing.assert_array_equal(again.tokenizer.stored.points, POINTS)
    np.testing.assert_array_equal(again.say_tokens("one", key=3), voice.say_tokens("one", key=3))
    tk.save_codebook(tk.PointCodebook(POINTS[::-1]), tmp_path / "codec.npz")
    with pytest.raises(ValueError, match="the tokenizer beside it must be its own"):
        Voice.load(tmp_path / "voice.safetensors")
    (tmp_path / "codec.npz").unlink()
    with pytest.raises(ValueError, match=r"codec\.npz"):
        Voice.load(tmp_path / "voice.safetensors")


def test_a_vocoder_makes_the_sound(voice: Voice, tmp_path: Path) -> None:
    assert isinstance(voice.tokenizer, Codec)
    voice.tokenizer.save(tmp_path / "codec.npz")
    voice.save(tmp_path / "voice.safetensors", "codec.npz")
    mute = tokenkl.tts.load(tmp_path / "voice.safetensors")
    assert not mute.can_be_heard
    with pytest.raises(ValueError, match="vocoder must be given to `load` for the tokens of anoth"):
        mute.say("one two")
    heard = tokenkl.tts.load(tmp_path / "voice.safetensors", vocoder=Vocoder(hum, 200))
    assert heard.can_be_heard
    speech = heard.say("one two", key=1)
    assert (speech.rate, speech.text) == (200, "one two")
    assert speech.seconds == pytest.approx(mute.say_tokens("one two", key=1).size / 50)
    said = mute.say_tokens("one two", key=1)
    np.testing.assert_array_equal((100 * speech.samples[::4]).round(), said)


def test_a_vocoder_for_our_own_tokens() -> None:
    """In the place of Griffin-Lim; the tokens are the same."""
    plain = tokenkl.tts.load("characters")
    other = tokenkl.tts.load("characters", vocoder=Vocoder(hum, 100))
    ids = plain.say_tokens("one two", key=2, steps=2)
    np.testing.assert_array_equal(
        other.say("one two", key=2, steps=2).samples, hum(ids).astype("f")
    )
    assert isinstance(plain.tokenizer, Tokenizer)
    np.testing.assert_array_equal(
        plain.say("one two", key=2, steps=2).samples, plain.tokenizer.synthesise(ids, key=2)
    )


@pytest.mark.parametrize("made", [np.zeros((2, 3)), np.array([np.nan]), "noise"])
def test_what_is_no_sound_is_refused(voice: Voice, made: Any) -> None:
    voice.vocoder = Vocoder(lambda ids: made)
    with pytest.raises(ValueError, match="samples of the vocoder must be"):
        voice.say("one")


def test_vocoders_that_are_none() -> None:
    with pytest.raises(ValueError, match="decode must be a function from token ids to samples"):
        Vocoder("griffin-lim")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rate"):
        Vocoder(hum, 0)


def test_only_our_own_tokenizers_take_audio(voice: Voice) -> None:
    with pytest.raises(ValueError, match="tokenizer must be one that was trained by tokenkl"):
        own_tokenizer(voice.tokenizer)
    sound = Utterance("a", "one", np.zeros(900, np.float32))
    with pytest.raises(ValueError, match="references must be examples, which have tokens"):
        voice.examples([sound])
