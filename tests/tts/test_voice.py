"""Geometries, and voices from text to audio and through files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tokenkl import FSQ, mean_nn_distance
from tokenkl.codebooks import average_power, e8_codebook
from tokenkl.tts.corpus import Corpus
from tokenkl.tts.data import TextEncoder
from tokenkl.tts.geometry import GEOMETRIES, place_tokens
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import Recipe, new_model
from tokenkl.tts.tokenizers import TOKENIZERS, Tokenizer
from tokenkl.tts.voice import Voice, new_cdcd

OWN = FSQ((3,) * 8, grid="rounding", order="F")
#: Words that even the smallest corpus has.
LONG = "one two three four"
SMALL = {"width": 16, "heads": 2, "depth": 1, "text_width": 8, "text_blocks": 1, "time_width": 8}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TOKENIZERS["fsq-3^8"]).eval()


@pytest.fixture(scope="module")
def voice(tokenizer: Tokenizer, corpus: Corpus) -> Voice:
    utterances = corpus.split("train")
    encoder = TextEncoder.phonemes(utterances)
    model = new_cdcd(tokenizer, encoder, head="factorised", **SMALL).eval()
    made = Voice(tokenizer, encoder, Lengths({}, (1.0,)), "aligned", model, {"made": "by a test"})
    made.lengths = Lengths.fit(made.examples(utterances))
    return made


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_geometries(geometry: str) -> None:
    placed = place_tokens(geometry, OWN, key=0)
    assert placed.K == 6561
    again = place_tokens(geometry, OWN, key=0)
    if geometry != "one-hot":
        np.testing.assert_array_equal(np.asarray(placed.points), np.asarray(again.points))


def test_permuted_tokens_keep_all_but_their_names() -> None:
    placed = place_tokens("permuted", OWN, key=0)
    assert mean_nn_distance(placed) == pytest.approx(1)
    ours, theirs = np.asarray(placed.points), np.asarray(OWN.points)
    assert (ours != theirs).any(axis=1).mean() > 0.99
    np.testing.assert_array_equal(np.unique(ours, axis=0), np.unique(theirs, axis=0))


def test_e8_moves_no_token_far() -> None:
    placed = np.asarray(place_tokens("e8", OWN, key=0).points)
    cut = np.asarray(e8_codebook().points)
    np.testing.assert_allclose(np.unique(placed.round(9), axis=0), np.unique(cut.round(9), axis=0))
    assert np.abs(placed - 0.8 * np.asarray(OWN.points)).max() <= 0.2 + 1e-9
    with pytest.raises(ValueError, match="FSQ 3"):
        place_tokens("e8", FSQ((3, 3)), key=0)


@pytest.mark.parametrize("geometry", ["one-hot", "spherical", "learned"])
def test_power_is_that_of_the_grid(geometry: str) -> None:
    placed = place_tokens(geometry, OWN, key=0)
    assert average_power(placed) / placed.n == pytest.approx(2 / 3, rel=1e-3)


def test_a_voice_speaks(voice: Voice) -> None:
    [one, two] = voice.tokens([LONG, "nine"], steps=2, key=1)
    assert one.size > two.size > 1
    assert min(one.min(), two.min()) >= 0
    assert max(one.max(), two.max()) < 6561
    audio = voice.say("nine", steps=2, key=1)
    assert audio.size == two.size * 640
    assert np.isfinite(audio).all()
    [longer] = voice.tokens(["nine"], counts=[40], steps=2)
    assert abs(longer.size - 40) <= 1
    for grid in ("optimal", "log-snr"):
        assert voice.tokens(["nine"], steps=3, grid=grid)[0].size == two.size


def test_words_outside_the_domain_are_named(voice: Voice) -> None:
    with pytest.raises(ValueError, match="zebra"):
        voice.say("on zebra")


def test_a_voice_survives_its_file(voice: Voice, tmp_path: Path) -> None:
    voice.tokenizer.save(tmp_path / "tokenizer.safetensors")
    voice.save(tmp_path / "voice.safetensors", "tokenizer.safetensors")
    again = Voice.load(tmp_path / "voice.safetensors")
    assert again.record == {"made": "by a test"}
    assert again.layout == "aligned"
    texts = [LONG, "nine"]
    for ours, theirs in zip(voice.tokens(texts), again.tokens(texts), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    voice.save(tmp_path / "half.safetensors", "tokenizer.safetensors", half=True)
    smaller = (tmp_path / "half.safetensors").stat().st_size
    assert smaller < (tmp_path / "voice.safetensors").stat().st_size - 10_000
    assert Voice.load(tmp_path / "half.safetensors").codebook() is not None


def test_another_tokenizer_is_noticed(voice: Voice, tmp_path: Path) -> None:
    voice.tokenizer.save(tmp_path / "tokenizer.safetensors")
    voice.save(tmp_path / "voice.safetensors", "tokenizer.safetensors")
    voice.tokenizer.save(tmp_path / "tokenizer.safetensors", record={"another": 1})
    with pytest.raises(ValueError, match="tokenizer"):
        Voice.load(tmp_path / "voice.safetensors")
    with pytest.raises(ValueError, match="name of a file in"):
        voice.save(tmp_path / "voice.safetensors", "../tokenizer.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"nonsense that is no voice", b"\x00" * 64])
def test_files_that_are_no_voice(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="a voice that tokenkl wrote"):
        Voice.load(path)


@pytest.mark.parametrize("model", ["cdcd", "ar"])
def test_both_models_make_voices(model: str, tokenizer: Tokenizer, corpus: Corpus) -> None:
    changes = SMALL if model == "cdcd" else {"width": 16, "heads": 2, "depth": 1}
    recipe = Recipe(text="characters", model=model, changes=tuple(changes.items()))
    made = new_model(recipe, tokenizer, TextEncoder(), key=0).eval()
    voice = Voice(tokenizer, TextEncoder(), Lengths({(-1, -1, -1): 2.0}, (1.0,)), "stretch", made)
    options = {"steps": 2} if model == "cdcd" else {"max_tokens": 12}
    [ids] = voice.tokens([LONG], **options)
    assert ids.size >= 1
    again = new_model(recipe, tokenizer, TextEncoder(), key=0)
    for ours, theirs in zip(made.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
