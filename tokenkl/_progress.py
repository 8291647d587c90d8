"""Progress of long work, on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

#: Seconds between two lines where a bar cannot be drawn.
EVERY = 30.0

#: Of every bar that is shown now: takes words on what the work waits for, or none.
_waiting: list[Callable[[str], None]] = []

#: What long work calls with what is done and what there is to do.
Report = Callable[[float, float], None]


def part_of(report: Report | None, first: float, size: float, whole: float) -> Report | None:
    """The report of a part of the work, from `first` on; None where nobody listens."""
    if report is None:
        return None
    return lambda done, total: report(first + size * done / max(total, 1e-300), whole)


def wait_for(what: str) -> None:
    """Say on the bars what their work waits for; "" when it goes on."""
    for show in _waiting:
        show(what)


class NotedReport(Protocol):
    """A report that may carry a few words, such as the loss; a bar shows them behind its title."""

    def __call__(self, done: float, total: float, note: str = "") -> None: ...


@contextlib.contextmanager
def make_display(console: Console) -> Iterator[Progress]:
    """Bars on stderr, shown only where that is a terminal."""
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    display = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,  # what is printed there may be on its way to a file
        speed_estimate_period=600,
    )
    # Older versions of rich end with an empty line even what is disabled, if it was begun.
    with display if console.is_terminal else contextlib.nullcontext():
        yield display


@contextlib.contextmanager
def progress_bar(title: str, *, lines: bool = False) -> Iterator[NotedReport]:
    """A bar for one piece of work; pulsing until the first report.

    With `lines`, a plain line every half a minute where stderr is no terminal, as in a log.
    """
    from rich.console import Console

    if lines and not Console(stderr=True).is_terminal:
        yield _plain_lines(title)
        return
    with make_display(Console(stderr=True, highlight=False)) as display:
        task = display.add_task(title, total=None)

        def show(note: str) -> None:
            display.update(task, description=f"{title}, {note}" if note else title)

        def report(done: float, total: float, note: str = "") -> None:
            show(note)
            display.update(task, completed=done, total=total)

        _waiting.append(show)
        try:
            yield report
        finally:
            _waiting.remove(show)


def _plain_lines(title: str) -> NotedReport:
    last = time.monotonic()

    def report(done: float, total: float, note: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            behind = f", {note}" if note else ""
            print(f"{title}: {done:g} of {total:g}{behind}", file=sys.stderr, flush=True)

    return report


@contextlib.contextmanager
def reporting(title: str, progress: Report | None) -> Iterator[NotedReport]:
    """The caller's own report of progress, or a bar (or lines) where there is none."""
    if progress is not None:
        yield lambda done, total, note="": progress(done, total)
    else:
        with progress_bar(title, lines=True) as report:
            yield report
