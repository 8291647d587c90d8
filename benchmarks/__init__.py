"""Benchmarks and long studies: `python -m benchmarks.NAME` runs the module of that name.

Ctrl-C and SIGTERM end any of them with one sentence and exit codes 130 and 143; those that keep
what is done say so themselves. That is seen to here, since this runs before the imports of any
module do.
"""

import shlex
import sys
from types import TracebackType

from tokenkl.cli import guarded, is_ctrl_c, stopped


def told(words: list[str]) -> str:
    """What is said of a command that was stopped.

    Example:
        >>> told(["python", "-m", "benchmarks.run", "kernel"])
        'Stopped; `python -m benchmarks.run kernel` starts it again.'
    """
    return f"Stopped; `{shlex.join(['python', *words[1:]])}` starts it again."


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not is_ctrl_c(error):
        sys.__excepthook__(kind, error, trace)
        return
    print(told(sys.orig_argv), file=sys.stderr, flush=True)
    sys.exit(stopped())


def _watch() -> None:
    sys.excepthook = _say


def _is_command(words: list[str]) -> bool:
    """Whether a module of this folder is what was started, and not imported by something else."""
    if "-m" not in words[:-1]:
        return False
    return words[words.index("-m") + 1].startswith(f"{__name__}.")


if _is_command(sys.orig_argv):
    # Also leaves handlers behind, by which Ctrl-C waits for the end of an import.
    guarded(_watch)
