"""The command `tokenkl`: profiles, comparisons, path KLs and the figures, from a terminal.

Whatever the user got wrong ends in one sentence on stderr and exit code 2; Ctrl-C ends in exit code
130 and SIGTERM, by which job schedulers end things, in 143, also while modules are imported: the
commands are in `tokenkl.cli.commands`.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from sys import UnraisableHookArgs
    from types import FrameType


def __getattr__(name: str) -> Any:
    """`app`, for tools that look at commands; it is imported when it is asked for."""
    if name == "app":
        from tokenkl.cli.commands import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


#: The file that Python names for the code that imports modules.
IMPORTER = "<frozen importlib._bootstrap>"


def main() -> None:
    """Entry point of the command."""
    guarded(_run)


#: Exit code after Ctrl-C, and after SIGTERM, as shells name them.
INTERRUPTED, TERMINATED = 130, 143


def guarded(work: Callable[[], object]) -> None:
    """Work that Ctrl-C and SIGTERM end in the same way, wherever they come."""

    def end(number: int, frame: FrameType | None) -> None:
        _came.add(number)
        _interrupt(frame)

    # What is ignored on purpose, or handled by whoever calls, stays as it is.
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is usual:
            signal.signal(number, end)
    sys.unraisablehook = _take_ignored
    try:
        _in_one_code(work)
    except SystemExit as error:
        if error.code == INTERRUPTED:
            sys.exit(stopped())
        raise


def stopped() -> int:
    """The exit code of what was stopped: by SIGTERM, or by Ctrl-C."""
    return TERMINATED if signal.SIGTERM in _came else INTERRUPTED


def _in_one_code(work: Callable[[], object]) -> None:
    try:
        work()
    except (KeyboardInterrupt, SystemError) as error:  # before or after typer looks out for it
        if not is_ctrl_c(error):
            raise
        sys.exit(INTERRUPTED)


def is_ctrl_c(error: BaseException) -> bool:
    """Whether it comes from Ctrl-C: numba makes a SystemError of that while it takes arguments."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)


def _run() -> None:
    import io

    from tokenkl.cli.commands import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± gets a question mark
    app()


# ---- signals where they must not end anything at once ------------------------------------------

#: The signals that came.
_came: set[int] = set()
#: The interrupt that is still to come, if one is.
_late: list[object] = []


def _interrupt(frame: FrameType | None) -> None:
    """Waits for the end of an import: compiled modules crash, or print, where they are left."""
    _late.clear()
    while frame is not None and frame.f_code.co_filename != IMPORTER:
        frame = frame.f_back
    if frame is None:
        raise KeyboardInterrupt
    _interrupt_soon()


def _take_ignored(ignored: UnraisableHookArgs) -> None:
    """Keeps what came where no exception can be raised, as in a callback of the collector."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        _interrupt_soon()
    else:
        sys.__unraisablehook__(ignored)


def _interrupt_soon() -> None:
    import threading

    _late[:] = [object()]
    # The command may end before.
    threading.Thread(target=_interrupt_until_taken, args=(_late[0],), daemon=True).start()


def _interrupt_until_taken(mine: object) -> None:
    """Signals to the main thread, which end its waiting; one that comes just before that does not.

    Where there are none (on Windows), Python's own flag, which is looked at after the waiting.
    """
    import _thread
    import threading
    import time

    main = threading.main_thread().ident
    time.sleep(0.02)
    for _ in range(200):
        if _late != [mine]:
            break
        if hasattr(signal, "pthread_kill") and main is not None:
            signal.pthread_kill(main, signal.SIGINT)
        else:
            _thread.interrupt_main()
        time.sleep(0.05)
