"""`python -m experiments`: the figures and tables; `tokenkl reproduce` runs this."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import experiments
from experiments import harness
from experiments.comparison import DIFFERENT, FAILED, IDENTICAL, WITHIN, Comparison
from experiments.settings import Settings
from experiments.toy.kept import parts_in
from tokenkl._formats import reading
from tokenkl._progress import make_display
from tokenkl._validation import reject
from tokenkl.cli import guarded
from tokenkl.cli._app import OneCommand, check_folder, say, short_path, stdout
from tokenkl.cli._result import command
from tokenkl.cli.reproduce import Wanted
from tokenkl.cli.tables import print_pairs
from tokenkl.workers import cluster, each, threads_of_cluster

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@command(group=app, cls=OneCommand, epilog=None, short_help="The figures and tables.")
def main(*, wanted: Wanted) -> None:
    """Compute the figures and tables again.

    After Ctrl-C, the same with --keep goes on where it stopped.
    """
    known = tuple(experiments.NAMES)
    if wanted.quick and wanted.names:
        reject("--quick", "with names", "given without names of figures")
    every = tuple(experiments.QUICK) if wanted.quick else known
    chosen = tuple(dict.fromkeys(wanted.names)) if wanted.names else every
    for name in chosen:
        if name not in known:
            reject("NAMES", repr(name), "among " + ", ".join(known))
    if wanted.changes and len(chosen) > 1:
        reject("--set", repr(wanted.changes[0]), "given with the name of one figure")
    if wanted.list_them:
        print_pairs(stdout(), [(name, experiments.load(name).claim) for name in chosen])
        return
    if wanted.list_settings:
        for name in chosen:
            _print_settings(name, _config(experiments.load(name), wanted))
        return
    changed = wanted.smoke or bool(wanted.changes)
    if wanted.plot_only and (wanted.keep or changed):
        reject("--plot-only", "with one of them", "given without --keep, --smoke and --set")
    if wanted.check and (wanted.plot_only or changed):
        reject("--check", "with one of them", "given without --plot-only, --smoke and --set")
    if wanted.changes:
        _config(experiments.load(chosen[0]), wanted)  # which is refused before the work
    if wanted.check:
        _check(chosen, wanted, _expected_seconds(chosen))
        return
    folder = wanted.folder or (harness.FIGURES if not changed else _elsewhere())
    if not wanted.plot_only:
        check_folder(folder)
    _reproduce(chosen, folder, wanted, {} if changed else _expected_seconds(chosen))


def _print_settings(name: str, config: Settings) -> None:
    """Each with its meaning and, in brackets, its value."""
    rows = [(*word.split("=", 1), meaning) for word, meaning in config.words().items()]
    stdout().print(name, style="bold")
    print_pairs(stdout(), [(setting, f"{meaning} [{value}]") for setting, value, meaning in rows])


def _elsewhere() -> Path:
    """Where results of other settings go: figures/ has those of the defaults alone."""
    return harness.FIGURES.parent / "build" / "experiments"


def _config(experiment: harness.Experiment, wanted: Wanted) -> Settings:
    """The settings that are asked for."""
    return (experiment.smoke if wanted.smoke else experiment.config).typed(wanted.changes or ())


def _reproduce(
    names: Sequence[str], folder: Path, wanted: Wanted, expected: dict[str, float]
) -> None:
    rows: list[tuple[str, str, str]] = []

    def is_stored(name: str) -> bool:
        experiment = experiments.load(name)
        config = _config(experiment, wanted)
        return wanted.keep and harness.is_current(experiment, config, folder=folder)

    def work(name: str, run: Run) -> str:
        took = _make(name, folder, wanted, None if is_stored(name) else run)
        rows.append((name, took, short_path(folder / name) + ".{csv,json,pdf,png}"))
        what = took if took == "kept" else f"{took} s"
        pictures = [short_path(folder / f"{name}{suffix}") for suffix in (".pdf", ".png")]
        return f"{what}: {', '.join(pictures)}"

    started = time.perf_counter()
    _do_all(names, wanted, expected, lambda name: wanted.plot_only or is_stored(name), work)
    _print_summary(rows, time.perf_counter() - started)


#: Computes an experiment of a config, or knows already what came of it.
Run = Callable[[harness.Experiment, Settings], harness.Computed]


def _do_all(
    names: Sequence[str],
    wanted: Wanted,
    expected: dict[str, float],
    is_done: Callable[[str], bool],
    work: Callable[[str, Run], str],
) -> None:
    """Do the work for every figure, with bars; it returns what is said of it.

    Figures are computed one after the other. On a cluster they are side by side, but for those made
    of parts: there the parts are.
    """
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    usual = sum(expected.values()) / len(expected) if expected else 1.0
    seconds = {name: expected.get(name, usual) for name in names}
    finished: list[str] = []
    name = names[0]
    try:
        with make_display(console) as display, cluster(wanted.scheduler):
            total = display.add_task("all", total=sum(seconds.values()))

            def done_with(name: str, run: Run) -> None:
                console.print(f"{name}: {work(name, run)}")
                finished.append(name)
                display.update(total, completed=sum(seconds[one] for one in finished))

            for name, computed in _side_by_side(names, wanted, is_done, display, total, seconds):
                done_with(name, functools.partial(_already, computed))
            for name in [one for one in names if one not in finished]:
                task = display.add_task(name, total=None)
                before = sum(seconds[one] for one in finished)
                report = functools.partial(_advance, display, task, total, before, seconds[name])
                done_with(name, functools.partial(harness.compute, progress=report))
                display.remove_task(task)
    except KeyboardInterrupt:
        done = f"after {' and '.join(finished)}" if finished else "before any figure was done"
        how = "`{}` goes on from there."
        if wanted.check and wanted.folder is None:
            how = "with --folder it can go on where it stopped: `{}`."
            wanted = dataclasses.replace(wanted, folder=Path("DIR"))
        again = _resume_command(names, wanted)
        typer.echo(f"Stopped in {name}, {done}; {how.format(again)}", err=True)
        raise typer.Exit(130) from None


def _already(
    computed: harness.Computed, experiment: harness.Experiment, config: Settings
) -> harness.Computed:
    return computed


def _side_by_side(
    names: Sequence[str],
    wanted: Wanted,
    is_done: Callable[[str], bool],
    display: Progress,
    total: Any,
    seconds: dict[str, float],
) -> Iterator[tuple[str, harness.Computed]]:
    """Figures that a cluster computes as a whole, as they are finished."""
    if not threads_of_cluster():
        return
    whole = [name for name in names if not experiments.load(name).shares and not is_done(name)]
    items = [(name, _config(experiments.load(name), wanted)) for name in whole]
    shares = dict.fromkeys(whole, 0.0)

    def told(index: int, done: float, wanted: float) -> None:
        shares[whole[index]] = seconds[whole[index]] * min(done / max(wanted, 1e-300), 1.0)
        display.update(total, completed=sum(shares.values()))

    for index, computed in each(harness.compute_named, items, told=told):
        told(index, 1.0, 1.0)
        yield whole[index], computed


def _make(name: str, folder: Path, wanted: Wanted, run: Run | None) -> str:
    """Compute and draw what is wanted of one figure; the seconds that it took, or "kept"."""
    experiment = experiments.load(name)
    config = _config(experiment, wanted)
    began = time.perf_counter()
    seconds: float | None = None
    try:
        if not (wanted.plot_only or run is None):
            computed = run(experiment, config)
            seconds = computed.seconds
            harness.finish(experiment, config, computed, folder=folder)
        elif wanted.plot_only or not harness.is_drawn(experiment, folder=folder):
            harness.draw(experiment, folder=folder)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if run is None:
        return "kept"
    return f"{time.perf_counter() - began if seconds is None else seconds:.1f}"


def _check(names: Sequence[str], wanted: Wanted, expected: dict[str, float]) -> None:
    """Compare every figure's numbers, computed anew, with those in figures/."""
    folder = wanted.folder
    if folder is None and wanted.keep:
        reject("--keep", "with --check alone", "given with --folder, where results are kept")
    if folder is not None:
        if folder.resolve() == harness.FIGURES.resolve():
            reject("--folder", str(folder), "another than figures/, which is compared with")
        check_folder(folder)
    found: list[tuple[str, Comparison, float]] = []

    before = {
        name: harness.stored(experiments.load(name), folder=harness.FIGURES)[0] for name in names
    }

    def known(name: str) -> tuple[dict[str, Any], str] | None:
        if folder is None or not wanted.keep:
            return None
        experiment = experiments.load(name)
        return harness.kept(experiment, experiment.config, folder=folder)

    def work(name: str, run: Run) -> str:
        experiment, new = experiments.load(name), known(name)
        seconds = 0.0
        if new is None:
            try:
                computed = run(experiment, experiment.config)
            except Exception as error:  # the others are to be checked all the same
                one = Comparison(FAILED, 0, where=f"{type(error).__name__}: {error}")
                found.append((name, one, seconds))
                return f"{one.verdict} ({one.where})"
            seconds = computed.seconds
            result = harness.finish(experiment, experiment.config, computed, folder=folder)
            new = result.record, result.text
        one = harness.check(experiment, *new)
        found.append((name, one, seconds))
        return one.verdict + (f" ({one.where})" if one.where else "")

    with contextlib.ExitStack() as stack:
        if folder is None:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="tokenkl-check-"))
        # Parts that an earlier run left would check nothing.
        stack.enter_context(parts_in(Path(scratch) if folder is None else folder / "parts"))
        _do_all(names, wanted, expected, lambda name: known(name) is not None, work)
    _print_comparisons(found)
    here = harness.versions()
    other = {
        f"{package} {version} (here {here.get(package, 'none')})"
        for one in before.values()
        for package, version in one["versions"].items()
        if here.get(package) != version
    }
    if other:
        say("Stored with other versions: " + ", ".join(sorted(other)) + ".")
    if any(one.verdict in (DIFFERENT, FAILED) for _, one, _ in found):
        raise typer.Exit(1)


def _print_comparisons(found: Sequence[tuple[str, Comparison, float]]) -> None:
    counts = {
        verdict: sum(one.verdict == verdict for _, one, _ in found)
        for verdict in (IDENTICAL, WITHIN, DIFFERENT, FAILED)
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True)
    table.add_column("figure", footer=f"{len(found)} in all", no_wrap=True)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    table.add_column("verdict", footer=told)
    rows, changed = (
        sum(getattr(one, field) for _, one, _ in found) for field in ("rows", "changed")
    )
    table.add_column("rows", footer=f"{rows}", justify="right")
    table.add_column("changed", footer=f"{changed}", justify="right")
    table.add_column("by at most", justify="right")
    table.add_column("seconds", footer=f"{sum(s for *_, s in found):.1f}", justify="right")
    for name, one, seconds in found:
        largest = "" if one.largest is None else f"{one.largest:.2g}"
        cells = (f"{one.rows}", f"{one.changed}", largest, f"{seconds:.1f}")
        table.add_row(name, one.verdict, *cells)
    stdout().print(table)


def _advance(
    display: Progress,
    task: Any,
    total: Any,
    before: float,
    share: float,
    done: float,
    wanted: float,
) -> None:
    """Move the bar of one experiment, and with it the bar of all."""
    display.update(task, completed=done, total=wanted)
    if wanted > 0:
        display.update(total, completed=before + share * min(done / wanted, 1))


class _Timed(TypedDict):
    """What is read of the record of a figure."""

    run_seconds: float


def _expected_seconds(names: Sequence[str]) -> dict[str, float]:
    """Seconds that figures took last time, of those that are known."""
    known = {}
    for name in names:
        with (
            contextlib.suppress(ValueError),
            reading(harness.FIGURES / f"{name}.json", "a record") as file,
        ):
            known[name] = max(file.json(_Timed)["run_seconds"], 0.1)
    return known


def _resume_command(names: Sequence[str], wanted: Wanted) -> str:
    """What goes on where this run stopped, without what goes without saying."""
    everything = tuple(names) == tuple(experiments.NAMES) or wanted.quick
    rest = dataclasses.replace(
        wanted, names=None if everything else list(names), keep=not wanted.plot_only
    )
    return shlex.join(["tokenkl", "reproduce", *rest.words()])


def _print_summary(rows: Sequence[tuple[str, str, str]], seconds: float) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True)
    table.add_column("figure", footer="all", no_wrap=True)
    table.add_column("seconds", footer=f"{seconds:.1f}", justify="right", no_wrap=True)
    table.add_column("files", overflow="fold")
    for row in rows:
        table.add_row(*row)
    stdout().print(table)


if __name__ == "__main__":
    guarded(app)
