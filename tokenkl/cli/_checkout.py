"""What only a source checkout has: its experiments, run in place of a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import typer


def run_in_checkout(command: str, module: str, words: list[str]) -> None:
    """Run a module of the experiments with these words; does not return.

    Raises:
        ValueError: tokenkl is not installed from a checkout.
    """
    import tokenkl

    root = Path(tokenkl.__file__).resolve().parents[1]
    if not (root / "experiments" / "__main__.py").is_file():
        raise ValueError(
            f"The experiments are not in the installed package: get the source, and {command} with "
            "tokenkl installed from a source checkout (pip install -e '.[experiments]'); there is "
            f"no {root / 'experiments'}."
        )
    # Without the working folder, which may hold other experiments, and with that of the checkout.
    command_line = [sys.executable, "-P", "-m", module, *words]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if os.name == "posix":  # in this very process: nothing stands between it and a signal
        os.execve(sys.executable, command_line, environment)
    raise typer.Exit(subprocess.call(command_line, env=environment))
