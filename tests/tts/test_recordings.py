"""Recorded corpora: characters, cached token ids, and what is held out."""

import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tokenkl.tts.audio import SAMPLE_RATE, write_wav
from tokenkl.tts.data import Example
from tokenkl.tts.frontend import CHARACTERS
from tokenkl.tts.normalisation import plain_text
from tokenkl.tts.recordings import (
    VALID,
    Source,
    not_too_long,
    some_utterances,
    split_examples,
    tokenized,
)
from tokenkl.tts.tokenizers import TOKENIZERS, Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TOKENIZERS["fsq-3^5"]).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wavs").mkdir()
    for index in range(3):
        audio = 0.1 * np.sin(np.arange(3200 + 640 * index) / 5)
        write_wav(tmp_path / "wavs" / f"{index}.wav", audio)
    (tmp_path / "metadata.csv").write_text("0|Any.|Any (thing).\n1|É|Élan, 漢 really!\n2|漢|漢\n")
    return tmp_path


def test_texts_are_written_in_the_alphabet() -> None:
    assert plain_text("Élan—“vital”, 1984!") == "elan vital, nineteen eighty four!"
    assert set(plain_text("".join(map(chr, range(32, 2000))))) <= set(CHARACTERS)


@pytest.mark.filterwarnings("ignore:1 of 3 recordings")
@pytest.mark.filterwarnings("ignore:Left out of the texts")
def test_tokens_are_kept(folder: Path, tokenizer: Tokenizer) -> None:
    cache = folder / "tokens.npz"
    recordings = Source("ljspeech", str(folder)).recordings()
    first = tokenized(recordings, tokenizer, cache)
    assert [one.text for one in first] == ["any thing.", "elan, really!"]
    assert [one.tokens.size for one in first] == [5, 6]
    written = cache.stat().st_mtime_ns
    again = tokenized(recordings, tokenizer, cache)
    assert cache.stat().st_mtime_ns == written
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.tokens, two.tokens)
    wav = folder / "wavs" / "0.wav"
    write_wav(wav, 0.1 * np.cos(np.arange(3200)))  # of the same length
    edited = tokenized(recordings, tokenizer, cache)
    assert (edited[0].tokens != first[0].tokens).any()
    written = cache.stat().st_mtime_ns
    torch.manual_seed(1)
    tokenized(recordings, Tokenizer(TOKENIZERS["fsq-3^5"]).eval(), cache)
    assert cache.stat().st_mtime_ns != written  # another tokenizer, other tokens
    cache.write_bytes(b"damaged")
    assert len(tokenized(recordings, tokenizer, cache)) == 2


def test_a_fixed_part_is_held_out() -> None:
    def examples(count: int) -> list[Example]:
        return [Example(str(i), "a", np.zeros(1, int), np.ones(1, int)) for i in range(count)]

    for count, expected in ((10, 0), (100, 5), (5000, VALID)):
        train, valid = split_examples(examples(count))
        assert len(valid) == expected
        names = [one.name for one in [*train, *valid]]
        assert sorted(names) == sorted(str(i) for i in range(count))
        assert [e.name for e in split_examples(examples(count))[1]] == [e.name for e in valid]


def test_sources_are_checked() -> None:
    with pytest.raises(ValueError, match="kind"):
        Source(cast(Any, "flac"), ".")
    with pytest.raises(ValueError, match="folder of recordings"):
        Source("cdcd", ".").recordings()


def test_some_recordings_are_as_long_as_asked(tmp_path: Path) -> None:
    """In random order, until there are enough seconds, and without those that cannot be read."""
    (tmp_path / "wavs").mkdir()
    for index in range(12):
        audio = np.full(SAMPLE_RATE // 4 + index, 0.01 * (index + 1))
        write_wav(tmp_path / "wavs" / f"{index}.wav", audio)
    lines = "".join(f"{index}|Any.|Any.\n" for index in range(12))
    (tmp_path / "metadata.csv").write_text(lines)
    recordings = Source("ljspeech", str(tmp_path)).recordings()
    everything = some_utterances(recordings, 1e9)
    assert len(everything) == 12
    names = [one.name for one in everything]
    assert names != sorted(names, key=int)
    assert sorted(names, key=int) == [str(index) for index in range(12)]
    for seconds, count in ((0.1, 1), (1.0, 4), (1.01, 5)):  # 0.25 seconds and a little each
        assert [one.name for one in some_utterances(recordings, seconds)] == names[:count]
    (tmp_path / "wavs" / f"{names[1]}.wav").write_bytes(b"RIFF")
    left = [one.name for one in some_utterances(recordings, 0.6)]
    assert left == [names[0], *names[2:4]]


def test_what_has_no_reading_is_named(folder: Path, tokenizer: Tokenizer) -> None:
    recordings = Source("ljspeech", str(folder)).recordings()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        tokenized(recordings, tokenizer, folder / "tokens.npz")
    assert [str(one.message) for one in warned] == [
        "1 of 3 recordings were left out.",
        "Left out of the texts, since it has no reading (in so many of 3 recordings): '漢' (2).",
    ]


def test_long_recordings_are_left_out_and_counted() -> None:
    sizes = [25, 750, 751, 1075]
    examples = [Example(str(n), "a", np.zeros(n, int), np.ones(1, int)) for n in sizes]
    assert not_too_long(examples, None, 25) == examples
    message = r"^2 of 4 recordings are longer than 30 s and were left out \(73 s in all\)\.$"
    with pytest.warns(UserWarning, match=message):
        assert not_too_long(examples, 30.0, 25) == examples[:2]
    with pytest.raises(ValueError, match=r"^longest must be at least 1 s, the shortest recording"):
        not_too_long(examples, 0.5, 25)
    with pytest.raises(ValueError, match="longest must be above 0"):
        Source("ljspeech", ".", longest=0.0)
