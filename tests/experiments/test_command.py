"""`python -m experiments`: what is computed, kept, drawn and said; `tokenkl reproduce` runs it."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hostile
import pandas as pd
import pytest
from commands import commands
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

import experiments
from experiments import __main__ as command
from experiments import harness
from experiments.settings import Settings, least, setting
from tokenkl._files import file_digest
from tokenkl.cli.reproduce import Wanted

run, succeed, fail = commands(command.app)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    count: int = setting(4, "of rows", least(1))
    names: tuple[str, ...] = setting(("a",), "of nothing")


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """Two tiny experiments in place of the real ones, a folder, and a log of what is computed."""
    log: list[str] = []

    def make(name: str) -> harness.Experiment:
        def compute(config: Config, progress: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
            log.append(f"{name} {config.count}")
            for done in range(config.count):
                progress(done + 1, config.count)
            return pd.DataFrame({"x": range(config.count)}), {"sum": config.count}

        def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
            figure = Figure(figsize=(1, 1))
            figure.subplots().plot(table["x"])
            return figure

        return harness.Experiment(name, f"{name} holds", Config(), Config(2), compute, plot)

    made = {name: make(name) for name in ("first", "second")}
    monkeypatch.setattr(experiments, "NAMES", tuple(made))
    monkeypatch.setattr(experiments, "load", made.__getitem__)
    monkeypatch.setattr(harness, "FIGURES", tmp_path / "figures")
    return tmp_path / "figures", log


def test_reproduce_everything(figures: tuple[Path, list[str]]) -> None:
    folder, log = figures
    done = succeed()
    assert log == ["first 4", "second 4"]
    for name in ("first", "second"):
        for suffix in (".csv", ".json", ".pdf", ".png"):
            assert (folder / f"{name}{suffix}").exists()
        assert f"{name}.{{csv,json,pdf,png}}" in done.stdout
        assert str(Path("figures") / f"{name}.pdf") in done.stderr


def test_reproduce_some_and_keep(figures: tuple[Path, list[str]], tmp_path: Path) -> None:
    _, log = figures
    folder = tmp_path / "elsewhere" / "deep"
    words = ("--smoke", "--folder", str(folder))
    succeed("second", *words)
    done = succeed(*words, "--keep")
    assert log == ["second 2", "first 2"]
    assert "second: kept" in done.stderr
    # What was stored but not drawn, as after Ctrl-C in between, is drawn.
    (folder / "first.png").unlink()
    succeed(*words, "--keep")
    assert (folder / "first.png").exists()
    # Another config is not the same result.
    succeed("first", "--keep", "--folder", str(folder))
    assert log == ["second 2", "first 2", "first 4"]


@pytest.mark.slow
def test_keep_mends_what_does_not_belong_together(
    figures: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an interrupted run or a hand left: afterwards all is as after a fresh run."""
    log = figures[1]
    folder = Path("place")
    there = ("--folder", str(folder))
    succeed("first", "--smoke", *there)
    small = {path.name: path.read_bytes() for path in folder.iterdir()}
    succeed("first", *there)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(json.loads(whole["first.json"])["files"]) == {*whole} - {"first.json"}

    def state() -> dict[str, bytes]:
        succeed("first", "--keep", *there)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    for name in whole:
        assert small[name] != whole[name]
        for damage in (small[name], b"", None):
            if damage is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(damage)
            log.clear()
            found = state()
            found["first.json"] = whole["first.json"]  # it holds the run time
            assert found == whole, (name, damage)
            # Only what a picture is made from has to be computed again.
            assert log == ([] if name.endswith((".pdf", ".png")) else ["first 4"])

    # Ctrl-C while drawing: what was computed is kept, and no picture of the run before is.
    def interrupted(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
        raise KeyboardInterrupt

    succeed("first", "--smoke", *there)
    stopped = dataclasses.replace(experiments.load("first"), plot=interrupted)
    with monkeypatch.context() as patch:
        patch.setattr(experiments, "load", {"first": stopped}.__getitem__)
        assert run("first", *there).exit_code == 130
    assert {path.name for path in folder.iterdir()} == {"first.csv", "first.json"}
    log.clear()
    assert {**state(), "first.json": b""} == {**whole, "first.json": b""}
    assert log == []


def test_a_record_without_digests_is_drawn_but_not_kept(figures: tuple[Path, list[str]]) -> None:
    folder, log = figures
    succeed("first")
    path = folder / "first.json"
    whole = path.read_text()
    record = json.loads(whole)
    del record["files"]
    old = json.dumps(record, indent=1) + "\n"
    path.write_text(old)
    succeed("first", "--keep")
    assert log == ["first 4", "first 4"]
    path.write_text(old)
    succeed("first", "--plot-only")
    assert path.read_text() == whole
    assert len(log) == 2


def test_plot_only(figures: tuple[Path, list[str]]) -> None:
    folder, log = figures
    assert "first: first has no stored results" in fail("first", "--plot-only")
    succeed("first")
    (folder / "first.pdf").unlink()
    succeed("first", "--plot-only")
    assert (folder / "first.pdf").exists()
    assert log == ["first 4"]
    (folder / "first.csv").write_text("x\n1\n")
    assert "and belong together" in fail("first", "--plot-only")


def _stop_in_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, as soon as the second figure is begun."""

    def interrupted(config: Config, progress: Any) -> Any:
        raise KeyboardInterrupt

    second = dataclasses.replace(experiments.load("second"), compute=interrupted)
    made = {"first": experiments.load("first"), "second": second}
    monkeypatch.setattr(experiments, "load", made.__getitem__)


def test_ctrl_c_says_how_to_go_on(
    figures: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _stop_in_second(monkeypatch)
    done = run("--smoke")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == (
        "Stopped in second, after first; `tokenkl reproduce --smoke --keep` goes on from there."
    )
    done = run("second", "--folder", "a b")
    assert "before any figure was done" in done.stderr
    assert "`tokenkl reproduce second --keep --folder 'a b'`" in done.stderr
    done = run("second", "--set", "names=a b")
    assert "`tokenkl reproduce second --set 'names=a b' --keep`" in done.stderr


def test_check(figures: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, log = figures
    assert "first has no stored results" in fail("first", "--check")
    succeed()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    log.clear()
    done = succeed("--check")
    assert log == ["first 4", "second 4"]
    assert [line.split()[:2] for line in done.stdout.splitlines()[2:4]] == [
        ["first", "identical"],
        ["second", "identical"],
    ]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "build").exists()
    # What is stored may have been changed by hand, with a digest that fits.
    table, record = folder / "first.csv", folder / "first.json"
    table.write_bytes(table.read_bytes().replace(b"\n3\n", b"\n5\n"))
    changed = json.loads(record.read_text())
    changed["files"]["first.csv"] = file_digest(table)
    changed["versions"]["numpy"] = "0.1"
    record.write_text(json.dumps(changed))
    done = run("--check", "--folder", "new")
    assert done.exit_code == 1
    assert "first: different (x, row 4: 5, now 3)" in done.stderr
    assert "Stored with other versions: numpy 0.1 (here " in done.stderr
    assert "1 identical, 1 different" in " ".join(done.stdout.split())
    # What was computed is kept where that was asked for.
    log.clear()
    assert run("--check", "--folder", "new", "--keep").exit_code == 1
    assert log == []
    assert json.loads((tmp_path / "new" / "second.json").read_text())["name"] == "second"


def test_a_check_goes_on_where_a_figure_fails(
    figures: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: Any, progress: Any) -> Any:
        raise ValueError("`y` must contain only finite values.")

    _, log = figures
    succeed()
    log.clear()
    made = {name: experiments.load(name) for name in ("first", "second")}
    made["first"] = dataclasses.replace(made["first"], compute=broken)
    monkeypatch.setattr(experiments, "load", made.__getitem__)
    done = run("--check")
    assert done.exit_code == 1
    assert log == ["second 4"]
    assert "first: failed (ValueError: `y` must contain only finite values.)" in done.stderr
    assert "1 identical, 1 failed" in " ".join(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--check", "--folder", "new")])
def test_on_a_cluster(
    words: tuple[str, ...], figures: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are not made of parts come first, side by side (here in a loop)."""
    _, log = figures
    succeed()
    log.clear()
    first = dataclasses.replace(experiments.load("first"), shares=True)
    made = {"first": first, "second": experiments.load("second")}
    monkeypatch.setattr(experiments, "load", made.__getitem__)
    monkeypatch.setattr(command, "threads_of_cluster", lambda: 2)
    done = succeed(*words)
    assert log == ["second 4", "first 4"]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["second", "first"]
    log.clear()
    folder = () if words else ("--folder", "figures")
    succeed(*words, *folder, "--keep")
    assert log == []
    assert "the scheduler must be the address" in fail("--scheduler", "x")


def test_check_takes_no_other_settings(figures: tuple[Path, list[str]]) -> None:
    succeed("first")
    for words in (("--smoke",), ("--set", "count=3"), ("--plot-only",)):
        assert "without --plot-only, --smoke and --set" in fail("first", "--check", *words)
    assert "--keep must be given with --folder" in fail("first", "--check", "--keep")
    assert "another than figures/" in fail("first", "--check", "--folder", "figures")
    assert "without names of figures" in fail("first", "--quick")


def test_ctrl_c_in_a_check(
    figures: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed()
    _stop_in_second(monkeypatch)
    done = run("--check")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == (
        "Stopped in second, after first; with --folder it can go on where it stopped: "
        "`tokenkl reproduce --keep --check --folder DIR`."
    )
    done = run("--check", "--folder", "new")
    assert "`tokenkl reproduce --keep --check --folder new` goes on from there." in done.stderr


def test_a_full_disk_keeps_the_results_before(figures: tuple[Path, list[str]]) -> None:
    succeed("first", "--smoke", "--folder", "new")
    before = {path.name: path.read_bytes() for path in Path("new").iterdir()}
    with hostile.full_disk(30):
        assert "File too large" in fail("first", "--folder", "new")
    assert {path.name: path.read_bytes() for path in Path("new").iterdir()} == before


def test_other_settings_leave_figures_alone(figures: tuple[Path, list[str]]) -> None:
    folder, log = figures
    succeed("first")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    place = folder.parent / "build" / "experiments"
    for words, count in ((("--smoke",), 2), (("--set", "count=3", "--set", "names=b, c"), 3)):
        done = succeed("first", *words)
        assert str(Path("build") / "experiments" / "first.pdf") in done.stderr
        record = json.loads((place / "first.json").read_text())
        assert record["config"]["count"] == record["facts"]["sum"] == count
    assert record["overrides"] == {"count": 3, "names": ["b", "c"]}
    assert record["command"] == "tokenkl reproduce first --set count=3 --set names=b,c"
    assert log == ["first 4", "first 2", "first 3"]
    # Results of other settings are not kept, those of the same are.
    succeed("first", "--set", "count=3", "--set", "names=b,c", "--keep")
    succeed("first", "--set", "count=3", "--keep")
    succeed("first", "--smoke", "--set", "count=3", "--keep")
    assert log[3:] == ["first 3"]
    error = fail("first", "--smoke", "--folder", str(folder))
    assert "the folder must be another than figures/" in error
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_settings_are_refused_before_the_work(figures: tuple[Path, list[str]]) -> None:
    assert "a setting must be among count, names; got 'n'" in fail("first", "--set", "n=6")
    assert "count must be a whole number, such as count=4; got 'x'" in fail(
        "first", "--set", "count=x"
    )
    assert "count must be at least 1; got 0" in fail("first", "--set", "count=0")
    assert "a setting must be NAME=VALUE, such as count=4; got 'count'" in fail(
        "first", "--set", "count"
    )
    assert "count must be set once" in fail("first", "--set", "count=1", "--set", "count=2")
    assert "--set must be given with the name of one figure" in fail("--set", "count=1")
    assert "--plot-only must be given without" in fail("first", "--plot-only", "--set", "count=1")
    assert figures[1] == []
    assert not (figures[0].parent / "build").exists()


def test_list_settings(figures: tuple[Path, list[str]]) -> None:
    done = succeed("first", "--list-settings", "--set", "names=b")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["first"],
        ["count", "of", "rows", "[4]"],
        ["names", "of", "nothing", "[b]"],
    ]
    assert figures[1] == []
    assert "--set must be given with the name" in fail("--list-settings", "--set", "names=b")


def test_reproduce_list(figures: tuple[Path, list[str]]) -> None:
    done = succeed("--list")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["first", "first", "holds"],
        ["second", "second", "holds"],
    ]
    assert figures[1] == []


def test_reproduce_mistakes(figures: tuple[Path, list[str]], tmp_path: Path) -> None:
    assert "NAMES must be among first, second; got 'third'" in fail("third")
    assert "--plot-only must be given without" in fail("--plot-only", "--keep")
    (tmp_path / "file").write_text("")
    assert "--folder must be a folder that can be written to" in fail(
        "--folder", str(tmp_path / "file")
    )


def test_expected_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "FIGURES", tmp_path)
    for name, seconds in (("a", 10.0), ("b", 0.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"run_seconds": seconds}))
    (tmp_path / "damaged.json").write_text("{")
    assert command._expected_seconds(["a", "b", "damaged", "new"]) == {"a": 10, "b": 0.1}


def test_the_bar_of_all_figures_moves_with_that_of_one() -> None:
    with Progress(console=Console(file=io.StringIO())) as display:
        one, total = display.add_task("one"), display.add_task("all", total=10.0)
        for done, share in ((0.0, 0.0), (1.0, 0.5), (3.0, 1.0)):
            command._advance(display, one, total, 4.0, 2.0, done, 2.0)
            assert [task.completed for task in display.tasks] == [done, 4.0 + 2.0 * share]


# ---- Through `tokenkl reproduce`, in a process of its own ----------------------------------------

REPRODUCE = [sys.executable, "-m", "tokenkl", "reproduce"]


@pytest.mark.slow
def test_reproduce_hands_on_what_is_wanted_and_what_came_of_it(tmp_path: Path) -> None:
    # Whatever lies in the working folder is not taken for the experiments.
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("raise SystemExit(3)")
    words = ["path_kl", "ranks", "--smoke", "--plot-only", "--folder", "a b"]
    done = subprocess.run([*REPRODUCE, *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: NAMES must be among path_kl, ")
    assert done.stderr.endswith("; got 'ranks'.\n")


def test_what_is_wanted_can_be_typed_again() -> None:
    wanted = Wanted(["a"], smoke=True, changes=["b=1", "c= d"], keep=True, folder=Path("e f"))
    words = ["a", "--smoke", "--set", "b=1", "--set", "c= d", "--keep", "--folder", "e f"]
    assert wanted.words() == words
    assert Wanted(list_them=True, plot_only=True).words() == ["--list", "--plot-only"]
    assert Wanted(list_settings=True).words() == ["--list-settings"]
    assert Wanted(check=True, quick=True).words() == ["--check", "--quick"]


@pytest.mark.slow  # imports
@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_ctrl_c_where_nothing_can_be_raised(tmp_path: Path) -> None:
    """An exception in a callback of the collector is dropped; the interrupt comes again."""
    code = (
        "import gc, signal, sys, time, runpy, experiments\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def work(*_):\n"
        "    gc.callbacks.append(lambda *_: (gc.callbacks.clear(), signal.raise_signal(2)))\n"
        "    gc.collect(); time.sleep(60)\n"
        "experiments.load = work; sys.argv = ['experiments', 'path_kl', '--smoke']\n"
        "runpy.run_module('experiments', run_name='__main__')"
    )
    words = [sys.executable, "-c", code, "--folder", str(tmp_path / "new")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (130, "")


@pytest.mark.slow  # ten seconds, most of them imports
@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_work_and_leaves_a_whole_state(
    tmp_path: Path, number: signal.Signals
) -> None:
    words = ["fsq_in_the_wild", "path_kl", "--folder", "new"]
    code = (
        # A job in the background of a script begins with the signal ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from tokenkl import cli\n"
        "sys.argv = ['tokenkl', 'reproduce', *sys.argv[1:]]; cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "fsq_in_the_wild: " in process.stderr.readline()
    time.sleep(1)  # the second figure, of half a minute, has begun
    process.send_signal(number)
    error = process.communicate(timeout=120)[1]  # on a busy machine
    assert process.returncode == 128 + number
    assert error == (
        "Stopped in path_kl, after fsq_in_the_wild; `tokenkl reproduce fsq_in_the_wild "
        "path_kl --keep --folder new` goes on from there.\n"
    )
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        f"fsq_in_the_wild{suffix}" for suffix in (".csv", ".json", ".pdf", ".png")
    }
