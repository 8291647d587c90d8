"""What the commands share: the app, its errors, progress, and writing of files."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from tokenkl._extras import MissingExtra
from tokenkl._progress import progress_bar as progress_bar

#: Exit code where the reader of the output went away, as that of a program that SIGPIPE ends.
PIPE = 141

app = typer.Typer(
    name="tokenkl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Sentences:
    """Turns the library's errors into one sentence and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except BrokenPipeError:  # the reader went away, as head does; nothing is left to say
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(PIPE) from None
        except (ValueError, MissingExtra) as error:
            fail(str(error))
        except MemoryError as error:
            fail(f"there is not enough memory{f' ({error})' if str(error) else ''}.")
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            fail(f"{where}{error.strerror or error}.")


class _Commands(_Sentences, TyperGroup):
    pass


class OneCommand(_Sentences, TyperCommand):
    """For an app of its own."""


def fail(message: str) -> NoReturn:
    say(f"Error: {' '.join(message.split())}")
    raise typer.Exit(2)


def say(message: str) -> None:
    """One line on stderr; names of files and in files may hold characters that terminals obey."""
    from tokenkl._validation import printable

    typer.echo(printable(message), err=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        import tokenkl

        typer.echo(f"tokenkl {tokenkl.__version__}")
        raise typer.Exit


@app.callback(cls=_Commands)
def _tokenkl(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and go."),
    ] = False,
) -> None:
    """What a tokenizer's geometry does to continuous diffusion over categorical data."""


# ---- Terminal and files -----------------------------------------------------------------------


class _PlainConsole(Console):
    """Shows names out of files, which may hold characters that terminals obey, written out."""

    def render_str(self, text: str, **options: Any) -> Any:
        from tokenkl._validation import printable

        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)

    def on_broken_pipe(self) -> None:
        """Rich would end the program here, with the exit code of a failed theorem."""
        raise BrokenPipeError


def stdout() -> Console:
    return _PlainConsole(highlight=False, markup=False)


def check_output(option: str, target: str | None) -> None:
    from tokenkl._validation import reject

    if target is None or target == "-":
        return
    path = Path(target)
    try:
        if path.is_dir():
            reject(option, target, "a file to write to, not a folder")
        if _is_device(target):
            return
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            reject(option, target, "in a folder that exists")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reject(option, target, f"a file that can be written ({error.strerror})")


def check_folder(folder: Path, option: str = "--folder") -> None:
    from tokenkl._validation import reject

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reject(option, str(folder), f"a folder that can be written to ({error.strerror})")


#: What an output holds: text, a record for JSON, or a function that writes to a path (or stream).
Content = str | dict[str, Any] | Callable[[Any], object]


def write_outputs(*outputs: tuple[str | None, Content]) -> None:
    """Write what was asked for: all files together or none, then standard output ("-") and devices.

    A record gets the digests of the files named before it, and so comes last.
    """
    from tokenkl._files import atomic_files, file_digest

    digests: dict[str, str] = {}
    streams: list[tuple[str, str | Callable[[Any], object]]] = []
    with atomic_files() as new:
        for target, content in outputs:
            if target is None:
                continue
            if isinstance(content, dict):
                content = json_text({**content, "files": digests} if digests else content)
            if target == "-" or _is_device(target):
                streams.append((target, content))
                continue
            path = new(target)
            write_content(content, path)
            digests[Path(target).name] = file_digest(path)
    for target, content in streams:
        if target != "-":
            write_content(content, Path(target))  # a device must not be replaced
        elif isinstance(content, str):
            sys.stdout.write(content)
        else:
            content(sys.stdout)
    sys.stdout.flush()  # a reader that went away is noticed here, not at exit


def write_content(content: str | Callable[[Any], object], path: Path) -> None:
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        content(path)


def _is_device(target: str) -> bool:
    return Path(target).exists() and not Path(target).is_file()


def json_text(record: Any) -> str:
    return json.dumps(_without_infinities(record), indent=1, allow_nan=False) + "\n"


def _without_infinities(value: Any) -> Any:
    """JSON has no infinities: they become null."""
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say_written(*targets: str | None) -> None:
    for target in targets:
        if target is not None and target != "-":
            say(f"Wrote {target}")


def short_path(path: Path) -> str:
    """Relative to the working folder where it lies in it."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
