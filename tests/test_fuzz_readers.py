"""The fuzzer finds what is wrong with a reader; the real ones have it for longer, and by hand."""

from pathlib import Path

import pytest

from benchmarks import fuzz_readers
from benchmarks.fuzz_readers import Fault, Target, at_random, trial


def reader(path: Path) -> None:
    content = path.read_bytes()
    if content[:1] != b"a":
        raise ValueError(f"{path.name} must begin with an a.")
    if len(content) > 1 and content[1] > 127:
        raise KeyError(content[1])
    if content == b"a\n":
        raise ValueError("a\nb")


TARGET = Target("x.bin", lambda path: path.write_bytes(b"abc"), reader, None, ValueError)


def test_what_a_reader_may_do(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    assert trial(TARGET, path, b"abc")
    assert not trial(TARGET, path, b"bc")
    with pytest.raises(Fault, match="KeyError: 200"):
        trial(TARGET, path, b"a\xc8")
    with pytest.raises(Fault, match="no sentence"):
        trial(TARGET, path, b"a\n")


def test_a_fault_is_found_and_kept(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="KeyError"):
        at_random(TARGET, 30.0, tmp_path, 0)
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("fault-x.bin-")
    with pytest.raises(Fault):
        trial(TARGET, tmp_path / "y", kept.read_bytes())


def test_every_table_has_its_readers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = fuzz_readers.targets()
    assert len(known) > 50
    assert {"grammar", "points.npz", "schedule.csv", "search.json"} <= known.keys()
    words = ["grammar", "schedule.csv", "--seconds", "1", "--corpus", str(tmp_path), "--random"]
    fuzz_readers.main(words)
    assert "2 readers, 0 with faults" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        fuzz_readers.main(["nothing"])
