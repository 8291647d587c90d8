"""Every job at tiny sizes, and what becomes of a run that is stopped."""

import doctest
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmarks
from benchmarks import machine, run, scaling, tables, threads, timing
from benchmarks.rows import row
from benchmarks.timing import in_turns

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests have the cores that they had."""
    monkeypatch.setattr(run, "keep_to_one_core", lambda: None)


@pytest.mark.parametrize("module", [benchmarks, tables, threads])
def test_examples(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


QUICK = ("grid", "kernel", "vq_high", "import", "threads")


@pytest.mark.parametrize(
    "names",
    [
        QUICK,
        pytest.param(
            [name for name in run.ROWS if name not in QUICK], marks=pytest.mark.slow, id="others"
        ),
    ],
)
def test_every_job(
    names: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    run.main([*names, "--small", "--folder", str(tmp_path)])
    record = json.loads((tmp_path / "estimators.json").read_text())
    assert list(record["jobs"]) == list(names)
    for rows in record["jobs"].values():
        assert rows
        for one in rows:
            assert one["our_seconds"] > 0
            assert one["machine"] == record["machine"]
            assert "load_average" in one
            # A floor and the fraction reached, or the word that says why there is none.
            assert one["floors"] or one["no_floor"]
            for name, seconds in one["floors"].items():
                assert one["fractions"][name] == pytest.approx(seconds / one["our_seconds"])
            assert (one["ratio"] is None) == (one["their_seconds"] is None)
    assert (tmp_path / "estimators.png").exists()
    assert "floor, reached" in capsys.readouterr().out


@pytest.mark.slow
def test_scaling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.main(["scaling", "--small", "--folder", str(tmp_path)])
    moved = json.loads((tmp_path / "scaling.json").read_text())["moved"]
    assert list(moved) == list(scaling.TITLES)
    for one in moved.values():
        assert len(one["x"]) >= 5
        for line in one["lines"].values():
            known = scaling.fit(one["x"], line["seconds"])
            assert line["exponent"] == known.exponent
    assert {path.name for path in tmp_path.iterdir()} == {"scaling.json", "scaling.png"}
    assert "noise levels" in capsys.readouterr().out


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt


def _one_row(*_: object) -> list[dict[str, Any]]:
    return [row("a", "b", [1.0, 1.1], [2.0, 2.0], {"kernel": 0.5})]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (_stopped, "Stopped, grid written; `python -m benchmarks.run rare "),
        (None, None),
    ],
)
def test_what_was_done_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    second: Callable[..., Any] | None,
    said: str | None,
) -> None:
    monkeypatch.setattr(run, "ROWS", {"grid": _one_row, "rare": second or _one_row})
    words = ["grid", "rare", "--small", "--folder", str(tmp_path)]
    if said is None:
        run.main(words)
    else:
        with pytest.raises(SystemExit) as stop:
            run.main(words)
        assert stop.value.code == 130
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith(said)
        assert last.endswith(f"--small --folder {tmp_path}` goes on from there.")
    jobs = json.loads((tmp_path / "estimators.json").read_text())["jobs"]
    assert list(jobs) == (["grid"] if said else ["grid", "rare"])
    # Some jobs alone keep the results of the others.
    monkeypatch.setattr(run, "ROWS", {"grid": _one_row, "rare": _one_row})
    run.main(["rare", *words[2:]])
    assert list(json.loads((tmp_path / "estimators.json").read_text())["jobs"]) == ["grid", "rare"]


@pytest.mark.parametrize(
    ("words", "said"), [(["nothing"], "NAME must be among"), (["--small"], "--folder")]
)
def test_mistakes(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run.main(words)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_are_one_sentence_in_every_benchmark(sent: signal.Signals, code: int) -> None:
    """One that does not look out for it itself, while it works."""
    # Where tests run in the background it may be ignored from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "benchmarks.costs"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("codebook")
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert said == "Stopped; `python -u -m benchmarks.costs` starts it again.\n"
    assert process.returncode == code


def test_a_mistake_keeps_its_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.nothing"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "No module named benchmarks.nothing" in done.stderr


def test_turns_are_taken() -> None:
    """One of each before those that count."""
    order: list[str] = []
    ticks = iter(range(100))

    def clock(call: Callable[[], Any]) -> float:
        call()
        return float(next(ticks))

    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    reports: list[tuple[float, float]] = []
    found = in_turns(runs, 2, lambda *how: reports.append(how), clock=clock)
    assert "".join(order) == "ababab"
    assert found == {"a": [0.0, 2.0], "b": [1.0, 3.0]}
    assert reports == [(i, 6) for i in range(1, 7)]


def test_progress_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with timing.progress("job") as report:
        report(1, 4)  # too soon
    monkeypatch.setattr(timing, "EVERY", 0.0)
    with timing.progress("job") as report:
        timing.part_of(report, 1, 2)(1, 2)
    assert capsys.readouterr().err == "job: 75%\n"


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["python", "-m", "benchmarks.run", "grid"], True),
        (["python", "-X", "dev", "-m", "benchmarks.costs"], True),
        (["python", "-m", "pytest", "benchmarks.run"], False),
        (["python", "-m"], False),
        (["python"], False),
    ],
)
def test_only_commands_of_benchmarks_are_looked_after(words: list[str], known: bool) -> None:
    assert benchmarks._is_command(words) == known


def test_machines_are_told_apart_without_names(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(
        "processor\t: 0\ncpu family\t: 23\nmodel\t\t: 1\nmodel name\t: Some CPU\n\n"
        "processor\t: 1\ncpu family\t: 24\nmodel\t\t: 2\nmodel name\t: Another\n"
    )
    told = machine.machine(path)
    assert told == f"Some CPU, cpu family 23, model 1, {machine.vector_instructions()}"
    assert machine.machine(tmp_path / "nothing").endswith(machine.vector_instructions())
    assert os.uname().nodename not in told


def test_threads_of_profiles_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenkl.numerics.threads import threads as of_tokenkl

    monkeypatch.setenv("NUMBA_NUM_THREADS", "7")
    with threads.of_threads(3):
        assert of_tokenkl() == 3
    assert of_tokenkl() == 7
    monkeypatch.delenv("NUMBA_NUM_THREADS")
    before = of_tokenkl()
    with threads.of_threads(3):
        assert of_tokenkl() == 3
    assert of_tokenkl() == before


def test_one_thread_is_one_times_as_fast() -> None:
    """A row for every number of threads; work that is not shared out gains nothing."""
    rows = threads._scaled("a", lambda: np.ones(2**20).sum(), 2, lambda *_: None)
    assert [one["threads"] for one in rows] == threads.counts_of(machine.cores())[1:] or [1]
    for one in rows:
        assert one["floors"]["one thread's time"] < one["our_seconds"] * 1.5
        assert 0 < one["share_of_cores"] < 1.5
