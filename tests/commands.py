"""Commands as tests call them: what succeeds, and the one sentence that a mistake ends in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner


def commands(
    app: typer.Typer, *first: str, quiet: bool = True
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., str]]:
    """`run`, `succeed` and `fail` for an app, whose words begin with these.

    Where it is not `quiet` a mistake may come after other lines on stderr, such as progress.
    """

    def run(*words: str | Path) -> Any:
        return CliRunner().invoke(app, [*first, *map(str, words)], env={"COLUMNS": "120"})

    def succeed(*words: str | Path) -> Any:
        done = run(*words)
        assert done.exit_code == 0, done.output
        return done

    def fail(*words: str | Path) -> str:
        done = run(*words)
        assert done.exit_code == 2, done.output
        assert done.stdout == ""
        lines: list[str] = done.stderr.splitlines()
        assert len(lines) == 1 or not quiet, done.stderr
        assert lines[-1].startswith("Error: "), done.stderr
        assert lines[-1].endswith("."), done.stderr
        return lines[-1]

    return run, succeed, fail
