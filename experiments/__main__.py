"""`python -m experiments`: the figures and tables; `tokenkl reproduce` runs this."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import experiments
from experiments import harness
from experiments.settings import Settings
from tokenkl._formats import reading
from tokenkl._progress import make_display
from tokenkl._validation import reject
from tokenkl.cli import guarded
from tokenkl.cli._app import OneCommand, check_folder, short_path, stdout
from tokenkl.cli._result import command
from tokenkl.cli.reproduce import Wanted
from tokenkl.cli.tables import print_pairs

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
    chosen = tuple(dict.fromkeys(wanted.names)) if wanted.names else known
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
    if wanted.changes:
        _config(experiments.load(chosen[0]), wanted)  # which is refused before the work
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
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    usual = sum(expected.values()) / len(expected) if expected else 1.0
    seconds = {name: expected.get(name, usual) for name in names}
    rows: list[tuple[str, str, str]] = []
    started = time.perf_counter()
    name = names[0]
    try:
        with make_display(console) as display:
            total = display.add_task("all", total=sum(seconds.values()))
            before = 0.0
            for name in names:
                task = display.add_task(name, total=None)
                report = functools.partial(_advance, display, task, total, before, seconds[name])
                took = _make(name, folder, wanted, report)
                rows.append((name, took, short_path(folder / name) + ".{csv,json,pdf,png}"))
                what = took if took == "kept" else f"{took} s"
                pictures = [short_path(folder / f"{name}{suffix}") for suffix in (".pdf", ".png")]
                console.print(f"{name}: {what}: {', '.join(pictures)}")
                display.remove_task(task)
                before += seconds[name]
                display.update(total, completed=before)
    except KeyboardInterrupt:
        done = " and ".join(row[0] for row in rows)
        finished = f"after {done}" if done else "before any figure was done"
        again = _resume_command(names, wanted)
        typer.echo(f"Stopped in {name}, {finished}; `{again}` goes on from there.", err=True)
        raise typer.Exit(130) from None
    _print_summary(rows, time.perf_counter() - started)


def _make(name: str, folder: Path, wanted: Wanted, report: harness.Progress) -> str:
    """Compute and draw what is wanted of one figure; the seconds that it took, or "kept"."""
    experiment = experiments.load(name)
    began = time.perf_counter()
    config = _config(experiment, wanted)
    stored = wanted.keep and harness.is_current(experiment, config, folder=folder)
    try:
        if not (wanted.plot_only or stored):
            harness.run(experiment, config, folder=folder, progress=report)
        elif wanted.plot_only or not harness.is_drawn(experiment, folder=folder):
            harness.draw(experiment, folder=folder)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return "kept" if stored else f"{time.perf_counter() - began:.1f}"


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
    everything = tuple(names) == tuple(experiments.NAMES)
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
