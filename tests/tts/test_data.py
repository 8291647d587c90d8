"""Layouts of text, batches, and readings of text."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
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


# ---- Batches in which padding counts -------------------------------------------------------------


def of_lengths(lengths: list[int]) -> list[Example]:
    """Examples whose tokens say which one they are of."""
    return [Example(str(i), "", np.full(n, i + 1), np.array([1, 2])) for i, n in enumerate(lengths)]


def one_pass(lengths: list[int], size: int, key: int, start: int = 0) -> list[list[int]]:
    """The examples of every batch from number `start` of the first pass on."""
    found: list[list[int]] = []
    seen = 0
    for batch in batches(of_lengths(lengths), "stretch", size, key=key, start=start, unit="padded"):
        assert batch.tokens.numel() <= size
        found.append([int(row[0]) - 1 for row in batch.tokens])
        seen += len(found[-1])
        if seen >= len(lengths):
            return found
    raise AssertionError


@settings(deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(0, 500), st.integers(0))
def test_every_example_is_in_one_batch_of_a_pass(lengths: list[int], more: int, key: int) -> None:
    """And no batch has more tokens than are allowed, padding counted."""
    key %= 2**32
    size = max(lengths) + more
    found = one_pass(lengths, size, key)
    assert sorted(itertools.chain(*found)) == list(range(len(lengths)))
    stream = batches(of_lengths(lengths), "stretch", size, key=key, start=1, unit="padded")
    whole = batches(of_lengths(lengths), "stretch", size, key=key, unit="padded")
    for one, two in zip(itertools.islice(whole, 1, 6), itertools.islice(stream, 5), strict=True):
        assert torch.equal(one.tokens, two.tokens)


def test_one_long_example_lengthens_no_other_batch() -> None:
    """43 s among clips of 2 to 8 s: it is alone, and little is lost on padding."""
    rng = np.random.default_rng(1)
    lengths = [43 * 25, *rng.integers(50, 200, size=400).tolist()]
    found = one_pass(lengths, 2000, 0)
    [long] = [rows for rows in found if 0 in rows]
    assert long == [0]
    padded = sum(len(rows) * max(lengths[i] for i in rows) for rows in found)
    assert padded < 1.1 * sum(lengths)
    of_sixteen = batches(of_lengths(lengths), "stretch", 16, key=0)
    worst = max(batch.tokens.numel() for batch in itertools.islice(of_sixteen, 25))
    assert worst == 16 * 43 * 25  # what it was about


def test_passes_differ_and_so_do_keys() -> None:
    lengths = np.random.default_rng(2).integers(50, 200, size=100).tolist()
    assert one_pass(lengths, 2000, 0) != one_pass(lengths, 2000, 1)
    stream = batches(of_lengths(lengths), "stretch", 2000, key=0, unit="padded")
    each = len(one_pass(lengths, 2000, 0))
    passes = [
        {
            tuple(sorted(set(batch.tokens[:, 0].tolist())))
            for batch in itertools.islice(stream, each)
        }
        for _ in range(2)
    ]
    assert passes[0] != passes[1]


def test_a_batch_has_room_for_the_longest() -> None:
    with pytest.raises(ValueError, match=r"^size must be at least the longest example's 9 tokens"):
        next(batches(of_lengths([9, 3]), "stretch", 8, key=0, unit="padded"))
