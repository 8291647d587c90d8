"""Progress of long work, on stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

#: What long work calls with what is done and what there is to do.
Report = Callable[[float, float], None]


def make_display(console: Console) -> Progress:
    """Bars on stderr, shown only where that is a terminal."""
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
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


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Report]:
    """A bar for one piece of work; pulsing until the first report."""
    from rich.console import Console

    display = make_display(Console(stderr=True, highlight=False))
    with display:
        task = display.add_task(title, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


@contextlib.contextmanager
def reporting(title: str, progress: Report | None) -> Iterator[Report]:
    """The caller's own report of progress, or a bar where there is none."""
    if progress is not None:
        yield progress
    else:
        with progress_bar(title) as report:
            yield report
