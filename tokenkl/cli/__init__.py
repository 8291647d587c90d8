"""The command `tokenkl`: profiles, comparisons, path KLs and the figures, from a terminal.

Whatever the user got wrong ends in one sentence on stderr and exit code 2; Ctrl-C ends in exit code
130, also while modules are imported: the commands are in `tokenkl.cli.commands`.
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


def guarded(work: Callable[[], object]) -> None:
    """Work that Ctrl-C ends, wherever it comes."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _take_ignored
        work()
    except (KeyboardInterrupt, SystemError) as error:  # before or after typer looks out for it
        if not is_ctrl_c(error):
            raise
        sys.exit(130)


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


# ---- Ctrl-C where it must not end anything at once -----------------------------------------------


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Waits for the end of an import: compiled modules crash, or print, where they are left."""
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
    import _thread
    import threading

    later = threading.Timer(0.02, _thread.interrupt_main)
    later.daemon = True  # the command may end before
    later.start()
