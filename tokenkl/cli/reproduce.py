"""`tokenkl reproduce`: the figures and tables, from a source checkout."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer
from rich.console import Console
from rich.progress import Progress

from tokenkl.cli._app import app, check_folder, make_display, short_path, stdout


@app.command(short_help="Compute the figures and tables again.")
def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAMES", help="Figures; all without any.")
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="Names and claims; no work.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="The tiny version of each, in seconds.")
    ] = False,
    plot_only: Annotated[
        bool, typer.Option("--plot-only", help="Draw again from stored results.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Skip what is stored already for the same config.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go; figures/ without it.")
    ] = None,
) -> None:
    """Compute the figures and tables again, from a source checkout.

    After Ctrl-C, `tokenkl reproduce --keep` goes on where it stopped.
    """
    from tokenkl._validation import reject

    experiments = _experiments()
    known = tuple(experiments.NAMES)
    chosen = tuple(dict.fromkeys(names)) if names else known
    for name in chosen:
        if name not in known:
            reject("NAMES", repr(name), "among " + ", ".join(known))
    if list_them:
        from tokenkl.cli.tables import print_pairs

        print_pairs(stdout(), [(name, experiments.load(name).claim) for name in chosen])
        return
    if plot_only and (keep or smoke):
        reject("--plot-only", "with --keep or --smoke", "given without --keep and --smoke")
    target = experiments.harness.FIGURES if folder is None else folder
    if not plot_only:
        check_folder(target)
    _reproduce(experiments, chosen, target, smoke=smoke, plot_only=plot_only, keep=keep)


def _experiments() -> Any:
    """The package `experiments` of the source checkout that tokenkl is imported from."""
    import tokenkl

    root = Path(tokenkl.__file__).resolve().parents[1]
    if not (root / "experiments" / "__init__.py").is_file():
        raise ValueError(
            "reproduce must be run with tokenkl installed from a source checkout (pip install -e "
            f".), which holds the experiments; there is no {root / 'experiments'}."
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    import experiments
    import experiments.harness

    return experiments


def _reproduce(
    experiments: Any,
    names: Sequence[str],
    folder: Path,
    *,
    smoke: bool,
    plot_only: bool,
    keep: bool,
) -> None:
    harness = experiments.harness
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    seconds = _expected_seconds(names, harness.FIGURES, smoke)
    rows: list[tuple[str, str, str]] = []
    done: list[str] = []
    started = time.perf_counter()
    name = names[0]
    try:
        with make_display(console) as display:
            total = display.add_task("all", total=sum(seconds.values()))
            before = 0.0
            for name in names:
                experiment = experiments.load(name)
                task = display.add_task(name, total=None)
                report = functools.partial(_advance, display, task, total, before, seconds[name])
                began = time.perf_counter()
                stored = keep and harness.is_current(experiment, smoke=smoke, folder=folder)
                pictures = [folder / f"{name}.pdf", folder / f"{name}.png"]
                try:
                    if plot_only or stored:
                        if plot_only or not harness.is_drawn(experiment, folder=folder):
                            harness.draw(experiment, folder=folder)
                    else:
                        harness.run(experiment, smoke=smoke, folder=folder, progress=report)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
                took = "kept" if stored else f"{time.perf_counter() - began:.1f}"
                what = "kept" if stored else f"{took} s"
                console.print(f"{name}: {what}: {', '.join(map(short_path, pictures))}")
                files = short_path(folder / f"{name}") + ".{csv,json,pdf,png}"
                rows.append((name, took, files))
                done.append(name)
                display.remove_task(task)
                before += seconds[name]
                display.update(total, completed=before)
    except KeyboardInterrupt:
        finished = f"after {' and '.join(done)}" if done else "before any figure was done"
        again = _resume_command(names, folder, harness.FIGURES, smoke, plot_only)
        typer.echo(f"Stopped in {name}, {finished}; `{again}` goes on from there.", err=True)
        raise typer.Exit(130) from None
    _print_summary(rows, time.perf_counter() - started)


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

    smoke: bool
    run_seconds: float


def _expected_seconds(names: Sequence[str], folder: Path, smoke: bool) -> dict[str, float]:
    """Seconds that each took last time; the mean of the others where it has never run."""
    from tokenkl._formats import reading

    known = {}
    for name in names:
        with contextlib.suppress(ValueError), reading(folder / f"{name}.json", "a record") as file:
            record = file.json(_Timed)
            if record["smoke"] == smoke:
                known[name] = max(record["run_seconds"], 0.1)
    usual = sum(known.values()) / len(known) if known else 1.0
    return {name: known.get(name, usual) for name in names}


def _resume_command(
    names: Sequence[str], folder: Path, default: Path, smoke: bool, plot_only: bool
) -> str:
    import shlex

    import experiments

    words = ["tokenkl", "reproduce", *(names if tuple(names) != tuple(experiments.NAMES) else ())]
    words += ["--smoke"] * smoke + ["--plot-only" if plot_only else "--keep"]
    words += ["--folder", str(folder)] * (folder != default)
    return shlex.join(words)


def _print_summary(rows: Sequence[tuple[str, str, str]], seconds: float) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True)
    table.add_column("figure", footer="all", no_wrap=True)
    table.add_column("seconds", footer=f"{seconds:.1f}", justify="right", no_wrap=True)
    table.add_column("files", overflow="fold")
    for row in rows:
        table.add_row(*row)
    stdout().print(table)
