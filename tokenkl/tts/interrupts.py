"""Ctrl-C and SIGTERM during long work that can stop at a good moment."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Terminated(KeyboardInterrupt):
    """Told to end by SIGTERM, as job schedulers do."""


class Interrupt(threading.Event):
    """Set by a signal, whose number is `by`."""

    by = 0


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupt]:
    """An event that the first Ctrl-C or SIGTERM sets, so that the step at hand can end.

    The second does what it did before.
    """
    event = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield event  # only the main thread may handle signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # What was not set from Python, or is ignored on purpose, stays as it is.
    ours = [
        n for n, was in before.items() if n == signal.SIGINT or was not in (None, signal.SIG_IGN)
    ]

    def restore() -> None:
        for number in ours:
            signal.signal(number, before[number])

    def handle(number: int, _: Any) -> None:
        event.by = number
        event.set()
        restore()

    for number in ours:
        signal.signal(number, handle)
    try:
        yield event
    finally:
        restore()
