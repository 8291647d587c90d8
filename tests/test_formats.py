"""Files opened without trust, and values of JSON compared with types."""

import dataclasses
import os
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest

from tokenkl._formats import FileError, conform, parse_json, reading, refuse


@dataclasses.dataclass
class Inner:
    low: float
    name: str = "x"


@dataclasses.dataclass
class Outer:
    inner: Inner
    sizes: tuple[int, ...] = ()
    pair: tuple[int, float] = (0, 0.0)

    def __post_init__(self) -> None:
        if any(size < 0 for size in self.sizes):
            raise ValueError("sizes must be at least 0")


class Free(TypedDict, total=False):
    note: str


class Record(Free):
    kind: Literal["a", "b"]
    rows: list[list[float | None]]
    named: dict[str, bool]


def test_what_conforms() -> None:
    record = {"kind": "a", "rows": [[1, None, 2.5], []], "named": {"x": True}, "more": [object]}
    assert conform(record, Record) == record
    assert isinstance(conform(record, Record)["rows"][0][0], float)
    made = conform({"inner": {"low": 1}, "sizes": [1, 2], "pair": [3, 4]}, Outer)
    assert made == Outer(Inner(1.0), (1, 2), (3, 4.0))
    assert isinstance(made.inner.low, float)
    assert conform([0.5, 2, 2**70], list[float]) == [0.5, 2.0, 2.0**70]
    assert conform([0.5, 2.0], tuple[float, ...]) == (0.5, 2.0)
    assert conform(-(2**63) + 1, int) == -(2**63) + 1
    assert conform({"x": [object]}, dict[str, Any]) == {"x": [object]}


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (True, int, "r must be a whole number of 64 bits; got True."),
        (1.0, int, "r must be a whole number of 64 bits; got 1.0."),
        (2**63, int, f"r must be a whole number of 64 bits; got {2**63}."),
        (True, float, "r must be a number; got True."),
        (10**400, float, "r must be a number; got 1"),
        ([0.5, "x"], list[float], "r[1] must be a number; got 'x'."),
        ("1", float, "r must be a number; got '1'."),
        (1, bool, "r must be of type bool; got 1."),
        (None, str, "r must be a text; got None."),
        (1, Literal["1", 2], "r must be '1' or 2; got 1."),
        (True, Literal[1], "r must be 1; got True."),
        ({"a": 1}, list[int], "r must be a list; got a table of 1."),
        ([1, "x"], list[int], "r[1] must be a whole number of 64 bits; got 'x'."),
        ([1], tuple[int, int], "r must be a list of 2; got a list of 1."),
        ({"k": [None]}, dict[str, list[int]], "r['k'][0] must be a whole number"),
        ([], dict[str, int], "r must be a table of names; got a list of 0."),
        ({"x": "\x1b[31m"}, dict[str, int], r"got '\x1b[31m'."),
        ([], Record, "r must be a table of names; got a list of 0."),
        ({"kind": "c"}, Record, "r.kind must be 'a' or 'b'; got 'c'."),
        ({"kind": "a", "rows": []}, Record, "; got none called 'named'."),
        ({"kind": "a", "note": 1}, Record, "r.note must be a text; got 1."),
        ({"inner": {}}, Outer, "r.inner must be a table with the names low, name; got none"),
        ({"inner": {"low": 1, "x": 2}}, Outer, "r.inner must be without unknown fields; got the"),
        ({"inner": {"low": 1}, "sizes": [-1]}, Outer, "sizes must be at least 0"),
        ([[[1]] * 50] * 50, float, "r must be a number; got a list of 50."),
    ],
)
def test_what_does_not(value: Any, kind: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        conform(value, kind, "r")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_names_of_any_length_make_short_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"' + "n" * 100_000 + '": {"' + "m" * 100_000 + '": 1}}')
    with (
        pytest.raises(FileError) as caught,
        reading(path, "a record") as file,
    ):
        file.json(dict[str, dict[str, str]])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["", "{", "\0", "nope", "[" * 10_000, "1" * 5000, '"\\x"'])
def test_what_is_not_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(text)
    with (
        pytest.raises(FileError, match="a must be a record; it is damaged, or of another kind"),
        reading(tmp_path / "a", "a record") as file,
    ):
        file.json(dict[str, int])
    with pytest.raises(ValueError):
        parse_json(text, dict[str, int])


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, why in (
        ("none", "there is no such file"),
        ("", "it is a folder"),
        ("pipe", "it is a device or a pipe, not a file"),
        ("x" * 300, "File name too long"),
        ("a\0b", "in it, .*null (byte|character)"),
        ("loop", "Too many levels of symbolic links"),
    ):
        with (
            pytest.raises(FileError, match=rf"must be a record; {why}.*\.$"),
            reading(tmp_path / name, "a record"),
        ):
            raise AssertionError("nothing is to be read")


def test_files_that_are_too_long(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 11)
    with reading(tmp_path / "a", "short") as file:
        assert file.text(11) == "x" * 11
        with pytest.raises(FileError, match="a must be short; it has more than 10 bytes"):
            file.text(10)
    with reading("/proc/self/maps", "short") as file, pytest.raises(FileError, match="more than"):
        file.text(1)  # it says that it has none


def test_errors_of_ours_are_not_taken_for_damage(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("{}")
    for error in (TypeError("ours"), KeyError("ours"), ZeroDivisionError()):
        with pytest.raises(type(error)), reading(tmp_path / "a", "a record"):
            raise error
    with (
        pytest.raises(FileError, match=r"in it, x must be y; got 1\.$"),
        reading(tmp_path / "a", "a record"),
    ):
        raise ValueError("x must be y; got 1.")
    with pytest.raises(FileError, match="not enough memory"), reading(tmp_path / "a", "a record"):
        raise MemoryError


def test_the_sentence_is_short_and_plain() -> None:
    with pytest.raises(FileError) as caught:
        refuse("/" + "f" * 5000 + ".npz", "a file", "it holds \x1b[31m\n" + "x\0" * 9000)
    message = str(caught.value)
    assert message.startswith("...fff")
    assert r"f.npz must be a file; it holds \x1b[31m x\x00x\x00x" in message
    assert message.endswith("....")
    assert len(message) < 900
    assert message.isprintable()
