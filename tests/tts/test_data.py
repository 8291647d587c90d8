"""Layouts of text, batches, and readings of text."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenkl.tts.corpus import Corpus
from tokenkl.tts.data import Example, TextEncoder, batches, make_batch, place_symbols


@given(st.integers(1, 30), st.integers(1, 80))
def test_stretched_symbols_keep_order_and_even_shares(symbols: int, count: int) -> None:
    placed = place_symbols(np.arange(symbols), count, "stretch")
    assert (np.diff(placed) >= 0).all()
    shares = np.bincount(placed, minlength=symbols)
    assert shares.max() - shares.min() <= 1


def test_padded_symbols_are_cut_where_speech_is_shorter() -> None:
    assert place_symbols(np.array([3, 4, 5]), 2, "pad").tolist() == [3, 4]


def test_aligned_symbols_last_as_long_as_they_last() -> None:
    placed = place_symbols(np.array([3, 4, 5]), 4, "aligned", np.array([3, 0, 1]))
    assert placed.tolist() == [3, 3, 3, 5]
    for wrong in (None, np.array([1, 1, 1])):
        with pytest.raises(ValueError, match="durations that sum to count = 4"):
            place_symbols(np.array([3, 4, 5]), 4, "aligned", wrong)


def examples(count: int = 50) -> list[Example]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 60, size=count)
    return [
        Example(str(i), "", np.full(n, i), np.array([1, 2])) for i, n in enumerate(sizes.tolist())
    ]


def test_a_batch_holds_what_it_was_given() -> None:
    chosen = examples(4)
    batch = make_batch(chosen, "stretch")
    for row, example in enumerate(chosen):
        size = example.tokens.size
        assert batch.token_mask[row].sum() == size
        assert (batch.tokens[row, :size] == row).all()
        assert (batch.frames[row, size:] == 0).all()
        assert batch.symbols[row, batch.symbol_mask[row]].tolist() == [1, 2]


def test_batches_can_start_anywhere() -> None:
    whole = list(itertools.islice(batches(examples(), "stretch", 8, key=3), 20))
    for start in (1, 6, 13):
        later = list(itertools.islice(batches(examples(), "stretch", 8, key=3, start=start), 5))
        for ours, theirs in zip(later, whole[start:], strict=False):
            assert ours.tokens.tolist() == theirs.tokens.tolist()


def test_a_pass_sees_no_example_twice() -> None:
    seen = [
        int(row[0])
        for batch in itertools.islice(batches(examples(), "stretch", 8, key=0), 6)
        for row in batch.tokens
    ]
    assert len(set(seen)) == 48


def test_similar_lengths_share_a_batch() -> None:
    many = examples(400)
    chosen = list(itertools.islice(batches(many, "stretch", 8, key=0), 50))
    padding = np.mean([1 - float(b.token_mask.float().mean()) for b in chosen])
    random = np.mean(
        [
            1 - float(make_batch(many[i : i + 8], "stretch").token_mask.float().mean())
            for i in range(0, 400, 8)
        ]
    )
    assert padding < random / 2


def test_readings_of_text(corpus: Corpus) -> None:
    utterances = corpus.split("train")
    characters, phonemes = TextEncoder(), TextEncoder.phonemes(utterances)
    assert characters.size == 35
    assert characters.encode("ab").tolist() == [1, 2]
    assert not characters.is_phonetic
    assert phonemes.is_phonetic
    tokens = np.arange(70)
    example = phonemes.example(utterances[0], tokens)
    assert example.lengths is not None
    assert example.lengths.sum() == 70
    assert example.symbols.min() >= 1
    assert example.symbols.max() < phonemes.size
    assert characters.example(utterances[0], tokens).lengths is None
    with pytest.raises(ValueError, match="xylophone"):
        phonemes.encode("give xylophone")
