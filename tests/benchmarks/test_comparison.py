"""What is said of ratios beside those of another record."""

import doctest
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import comparison, rows
from benchmarks.comparison import Change, committed, compare

THEN = {"job": "a", "beside": "b", "ratio": 8.0, "spread": 1.2, "machine": "M"}


def test_examples() -> None:
    assert doctest.testmod(comparison).failed == 0
    assert doctest.testmod(rows).failed == 0


@pytest.mark.parametrize(
    ("now", "then", "word"),
    [
        ({"ratio": 7.0}, {}, "as before"),
        ({"ratio": 9.0}, {}, "as before"),
        ({"ratio": 6.0}, {}, "worse"),
        ({"ratio": 10.0}, {}, "better"),
        # The larger spread of either run counts.
        ({"ratio": 6.0, "spread": 1.5}, {}, "as before"),
        ({"ratio": 6.0, "spread": 1.01}, {"spread": 1.5}, "as before"),
        ({"ratio": 7.5, "spread": 1.01}, {"spread": 1.02}, "worse"),
        # Just at the edge of it nothing is said.
        ({"ratio": 4.0, "spread": 2.0}, {}, "as before"),
        ({"ratio": 16.0, "spread": 2.0}, {}, "as before"),
        ({"ratio": 1.0, "spread": None}, {}, "spread unknown"),
        ({"ratio": 1.0, "machine": "N"}, {}, "other machine"),
        ({"ratio": 1.0}, {"machine": "N"}, "other machine"),
        ({"ratio": None}, {}, "no ratio"),
        ({"ratio": 1.0}, {"ratio": None}, "new"),
    ],
)
def test_words(now: dict[str, Any], then: dict[str, Any], word: str) -> None:
    (found,) = compare([THEN | now], [THEN | then])
    assert found.word == word
    assert found.before == (None if word in ("no ratio", "new") else 8.0)


def test_a_record_of_before_machines_were_told_apart() -> None:
    old = {"job": "a", "beside": "b", "ratio": 8.0}
    assert compare([THEN | {"ratio": 1.0}], [old]) == [Change(8.0, "other machine")]


def test_what_was_not_there_is_new() -> None:
    other = THEN | {"beside": "c"}
    assert compare([THEN, other], [THEN]) == [Change(8.0, "as before"), Change(None, "new")]
    assert compare([THEN], []) == [Change(None, "new")]
    assert compare([], [THEN]) == []


def test_only_a_fall_is_shouted() -> None:
    assert str(Change(8.0, "worse")) == "8x WORSE"
    assert str(Change(8.0, "as before")) == "8x"
    assert str(Change(None, "new")) == "new"


def test_turns_say_how_far_a_ratio_is_known() -> None:
    found = rows.row("a", "b", [1.0, 2.0, 4.0], [8.0, 8.0, 8.0])
    assert (found["our_seconds"], found["their_seconds"]) == (1.0, 8.0)
    assert (found["ratio"], found["spread"]) == (8.0, 4.0)
    assert rows.row("a", "b", [1.0], [8.0])["spread"] is None
    assert rows.row("a", "", [1.0], None)["ratio"] is None


def test_outside_a_repository_the_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "estimators.json"
    assert committed(path) == {}
    path.write_text('{"jobs": {}}')
    assert committed(path) == {"jobs": {}}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_what_is_committed_counts_and_not_what_was_written_since(tmp_path: Path) -> None:
    path = tmp_path / "estimators.json"
    path.write_text(json.dumps({"jobs": {"one": [THEN]}}))

    def git(*words: str) -> None:
        name = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *name, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("add", path.name)
    git("commit", "-m", "record")
    path.write_text("{}")
    assert comparison.rows_of(committed(path)) == [THEN]
