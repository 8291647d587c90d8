"""The fuzzer finds what is wrong with a reader; the real ones have it for longer, and by hand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import fuzz_readers
from benchmarks.fuzz_readers import ROOT, Fault, Target, at_random, trial


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


@pytest.mark.slow
def test_every_table_has_its_readers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = fuzz_readers.targets()
    assert len(known) > 50
    assert {"grammar", "points.npz", "schedule.csv", "search.json"} <= known.keys()
    words = ["grammar", "schedule.csv", "--seconds", "1", "--corpus", str(tmp_path), "--random"]
    fuzz_readers.main(words)
    assert "2 readers, 0 with faults" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        fuzz_readers.main(["nothing"])


@pytest.mark.slow
@pytest.mark.skipif(not fuzz_readers.has_atheris(), reason="atheris is not installed")
def test_every_reader_guided_by_coverage(tmp_path: Path) -> None:
    """In a process of its own, since what is imported there bears instruments."""
    words = ["--runs", "60", "--seconds", "20", "--corpus", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks.fuzz_readers", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("guided by coverage\n")
    known = len(fuzz_readers.targets())
    assert len(re.findall("^.*: 60 tried, [1-9]", done.stdout, re.MULTILINE)) == known
    assert f"{known} readers, 0 with faults" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not fuzz_readers.has_atheris(), reason="atheris is not installed")
def test_a_fault_found_by_coverage_is_kept(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = ['', 'tests']\n"
        "from benchmarks import fuzz_readers\n"
        "from test_fuzz_readers import TARGET\n"
        "fuzz_readers.targets = lambda: {TARGET.name: TARGET}\n"
        "fuzz_readers.READERS = ()\n"
        "fuzz_readers.main(['--corpus', sys.argv[1], '--runs', '20000'])"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "x.bin: FAULT: " in done.stdout
    (kept,) = tmp_path.glob("fault-x.bin-*")
    with pytest.raises(Fault):
        trial(TARGET, tmp_path / "x.bin.again", kept.read_bytes())
