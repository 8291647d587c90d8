"""Benchmarks and long studies: `python -m benchmarks.NAME` runs the module of that name.

Ctrl-C ends any of them with one sentence and exit code 130; those that keep what is done say so
themselves. That is seen to here, since this runs before the imports of any module do.
"""

import sys
from types import TracebackType

from tokenkl.cli import guarded, is_ctrl_c


def told(words: list[str]) -> str:
    """What is said of a command that was stopped.

    Example:
        >>> told(["python", "-m", "benchmarks.run", "kernel"])
        'Stopped; `python -m benchmarks.run kernel` starts it again.'
    """
    return f"Stopped; `python {' '.join(words[1:])}` starts it again."


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not is_ctrl_c(error):
        sys.__excepthook__(kind, error, trace)
        return
    print(told(sys.orig_argv), file=sys.stderr, flush=True)
    sys.exit(130)


def _watch() -> None:
    sys.excepthook = _say


if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2:3][0].startswith(f"{__name__}."):
    # Also leaves handlers behind, by which Ctrl-C waits for the end of an import.
    guarded(_watch)
