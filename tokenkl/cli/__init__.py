"""The command `tokenkl`: profiles, comparisons, path KLs and the figures, from a terminal.

Heavy imports stay inside the commands, so that `tokenkl --help` is quick. Whatever the user got
wrong ends in one sentence on stderr and exit code 2; Ctrl-C ends in exit code 130.
"""

from __future__ import annotations

import importlib
import io
import sys

from tokenkl.cli._app import app

# A command registers with the app when its module is imported; this is the order of the help.
for _module in (
    "profiles",
    "path_kl",
    "derive",
    "sampling",
    "bounds",
    "verify",
    "report",
    "reproduce",
    "tts",
):
    importlib.import_module(f"tokenkl.cli.{_module}")


def main() -> None:
    """Entry point of the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± gets a question mark
    try:
        app()
    except KeyboardInterrupt:  # before or after typer looks out for it
        sys.exit(130)
