"""Token ids of any codec with their texts, from .npz files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tokenkl.tts.data import TextEncoder
from tokenkl.tts.triplets import load_triplets

GOOD: dict[str, Any] = {"tokens": [1, 2, 3], "text": "Two."}


def one_file(path: Path, **arrays: Any) -> Path:
    every: dict[str, Any] = {name: np.array(value) for name, value in {**GOOD, **arrays}.items()}
    np.savez(path, **every)
    return path


def test_files_of_one_utterance(tmp_path: Path) -> None:
    one_file(tmp_path / "b.npz", speaker="ann", durations=[1, 1, 0, 1])
    (tmp_path / "deep").mkdir()
    one_file(tmp_path / "deep" / "a.npz", text="5 Cafés", tokens=np.array([7], np.int16))
    first, second = load_triplets(tmp_path, K=8)
    assert (first.name, first.text, first.speaker) == ("b", "two.", "ann")
    assert first.lengths is not None
    assert first.lengths.tolist() == [1, 1, 0, 1]
    assert (second.name, second.text, second.speaker) == ("deep/a", "five cafes", "")
    assert second.lengths is None
    np.testing.assert_array_equal(second.symbols, TextEncoder().encode("five cafes"))
    [alone] = load_triplets(tmp_path / "b.npz", K=8)
    assert alone.name == "b"
    np.testing.assert_array_equal(alone.tokens, [1, 2, 3])


@hypothesis.given(
    rows=st.lists(
        st.tuples(
            st.text("ab c", min_size=1).filter(str.strip), st.lists(st.integers(0, 9), min_size=1)
        ),
        min_size=1,
        max_size=5,
    ),
    timed=st.booleans(),
)
@hypothesis.settings(deadline=None, max_examples=40)
def test_a_file_of_many(
    rows: list[tuple[str, list[int]]], timed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is taken apart is what was put together."""
    path = tmp_path_factory.mktemp("many") / "all.npz"
    sizes = [len(ids) for _, ids in rows]
    plain = [" ".join(text.split()) for text, _ in rows]
    lengths = [[len(ids), *[0] * (len(t) - 1)] for t, (_, ids) in zip(plain, rows, strict=True)]
    more = {"durations": [one for row in lengths for one in row]} if timed else {}
    ids = [one for _, row in rows for one in row]
    one_file(path, tokens=ids, text=[t for t, _ in rows], ends=np.cumsum(sizes), **more)
    found = load_triplets(path, K=10)
    assert [one.tokens.tolist() for one in found] == [list(row) for _, row in rows]
    assert [one.text for one in found] == plain
    assert len({one.name for one in found}) == len(rows)
    for one, length in zip(found, lengths, strict=True):
        assert (one.lengths is None) == (not timed)
        assert one.lengths is None or one.lengths.tolist() == length


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"tokens": [1, 9]}, "tokens of x must be ids from 0 to 7; got 9"),
        ({"tokens": [-1]}, "tokens must be one row of whole numbers from 0 on; got int64"),
        ({"tokens": [0.5]}, "tokens must be one row of whole numbers from 0 on; got float64"),
        (
            {"tokens": [[1]]},
            "tokens must be one row of whole numbers from 0 on; got int64 of shape",
        ),
        ({"tokens": np.zeros(0, int)}, "ids from 0 to 7; got no token"),
        ({"text": 5}, "text must be a string, or one row of them; got int64"),
        ({"text": "--"}, "text of x must be one with letters or numbers"),
        ({"text": ["a", "b"]}, "text must be one for each of 1 utterances; got 2 strings"),
        ({"speaker": ["a", "b"]}, "speaker must be one for each of 1 utterances; got 2 strings"),
        ({"ends": [2]}, "ends must be ascending, up to the number of tokens, 3"),
        ({"ends": [2, 1, 3], "text": ["a"] * 3}, "ends must be ascending"),
        ({"ends": [1, 3], "names": ["a", "a"], "text": ["a", "b"]}, "name must be another"),
        ({"durations": [1, 1, 1]}, "one for each of the 4 characters of 'two.', with sum 3; got 3"),
        ({"durations": [1, 1, 1, 1]}, "with sum 3; got 4 with sum 4"),
        ({"durations": [1, 1, 1, 0, 5]}, "has 1 durations more than characters"),
    ],
)
def test_what_is_wrong_is_named(arrays: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    one_file(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError) as caught:
        load_triplets(tmp_path, K=8)
    assert sentence in str(caught.value)
    assert 'on_bad="skip"' in str(caught.value)
    one_file(tmp_path / "y.npz")
    with pytest.warns(UserWarning, match="Skipped 1 bad file"):
        found = load_triplets(tmp_path, K=8, on_bad="skip")
    assert "y" in [one.name for one in found]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"with \.npz files of tokens and text"):
        load_triplets(tmp_path, K=8)
    with pytest.raises(ValueError, match="no such file"):
        load_triplets(tmp_path / "a.npz", K=8)
    np.savez(tmp_path / "a.npz", tokens=[1])
    with pytest.raises(ValueError, match="it has no array called text"):
        load_triplets(tmp_path, K=8)
    np.savez(tmp_path / "a.npz", tokens=[1], text=np.array("a", object))
    with pytest.raises(ValueError, match=r"a\.npz"):
        load_triplets(tmp_path, K=8)


def test_what_has_no_reading_is_named(tmp_path: Path) -> None:
    one_file(tmp_path / "a.npz", text="one 漢")
    with pytest.warns(UserWarning, match=r"no reading \(in so many of 1 recordings\): '漢' \(1\)"):
        [found] = load_triplets(tmp_path, K=8)
    assert found.text == "one"


@pytest.mark.parametrize("bad", [{"tokens": [9, 9, 1, 2, 3]}, {"text": ["7", "ab"]}])
def test_what_is_skipped_takes_its_durations_with_it(bad: dict[str, Any], tmp_path: Path) -> None:
    """A bad utterance in front of another: the durations of that are its own."""
    given = {"tokens": [1, 2, 1, 2, 3], "text": ["x", "ab"], "ends": [2, 5]}
    characters = len("seven") if "text" in bad else 1
    one_file(tmp_path / "all.npz", **{**given, **bad}, durations=[1] * characters + [1, 2])
    with pytest.warns(UserWarning, match="Skipped 1 bad files"):
        [found] = load_triplets(tmp_path, K=8, on_bad="skip")
    assert found.lengths is not None
    assert (found.text, found.lengths.tolist()) == ("ab", [1, 2])
