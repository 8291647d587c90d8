"""What a command gives back, and where it goes: files, standard output and stderr.

A command turns a request into a `Result`; `command` makes options of the bundles that it takes,
checks that its files can be written before the work, and emits the result after it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import typer
from rich.console import Console
from typer.core import TyperCommand

from tokenkl.cli._app import (
    Content,
    app,
    check_folder,
    check_output,
    json_text,
    say_written,
    stdout,
    write_content,
    write_outputs,
)
from tokenkl.cli._options import EPILOG, Csv, Json, Output, Plot, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".pdf", ".png", ".svg")

#: Where the results of commands go instead of to files and the terminal; see `result_of`.
_TAKERS: ContextVar[list[Any] | None] = ContextVar("_TAKERS", default=None)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command found; whatever takes time to make is made only where it is asked for.

    - `record` is for --json; `table` (a frame, rows or columns), `figure` and `report` are for
      --csv, --plot and --report; `files` (by their paths in it) for a folder.
    - `found` is what another command that builds on this one takes, as Python objects.
    - `title` and what `show` prints are for people.
    - `notes` go to stderr when all is written, and then the command ends with `exit_code`.
    """

    record: dict[str, Any]
    show: Callable[[Console], object]
    found: Any = None
    title: str = ""
    table: Callable[[], Any] = dict
    figure: Callable[[], Figure] | None = None
    report: str = ""
    files: Mapping[str, str | Callable[[Path], object]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    exit_code: int = 0


@dataclasses.dataclass(frozen=True)
class Files:
    """Where a result goes; the bundles below say which files there are."""

    def _targets(self) -> dict[str, str | None]:
        """Option -> file, in the order of the help."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {f"--{name.removesuffix('_file')}": target for name, target in given.items()}

    def check(self) -> None:
        """Every output can be written, which is better known before the work than after it."""
        from tokenkl._validation import reject

        targets = self._targets()
        for option, target in targets.items():
            if option == "--plot" and target is not None and Path(target).suffix not in FORMATS:
                reject("--plot", target, f"a file name that ends in {', '.join(FORMATS)}")
            check_output(option, target)
        given = [target for target in targets.values() if target is not None]
        for target in given:
            if given.count(target) > 1:
                *first, last = targets
                reject(f"{', '.join(first)} and {last}", f"{target} twice", "different files")

    def _outputs(self, result: Result) -> list[tuple[str | None, Content]]:
        """Files and what goes to them; the record is the last."""
        targets = self._targets()
        return [
            (targets.get("--csv"), lambda file: _write_table(result.table(), file)),
            (targets.get("--report"), result.report),
            (targets.get("--plot"), lambda path: _draw(result, path)),
            (targets.get("--json"), result.record),
        ]

    def emit(self, result: Result) -> None:
        """Write the files, all together or none; print, unless standard output is one of them."""
        targets = self._targets()
        write_outputs(*self._outputs(result))
        if "-" not in targets.values():
            console = stdout()
            if result.title:
                console.print(result.title, style="bold")
                console.print()
            result.show(console)
        say_written(*targets.values())
        for note in result.notes:
            typer.echo(note, err=True)
        if result.exit_code:
            raise typer.Exit(result.exit_code)


@dataclasses.dataclass(frozen=True)
class FolderFiles(Files):
    """A folder of files, which a record with their digests completes."""

    output: Output = Path("page")

    def check(self) -> None:
        missing = _missing(self.output)
        check_folder(self.output, "--output")
        for folder in missing:
            folder.rmdir()  # made again once there is something in it

    def emit(self, result: Result) -> None:
        from tokenkl._files import atomic_files, file_digest

        digests: dict[str, str] = {}
        folders = sorted({(self.output / name).parent for name in (*result.files, "record.json")})
        missing = [one for folder in reversed(folders) for one in _missing(folder)]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_files() as new:
                for name, content in result.files.items():
                    path = new(self.output / name)
                    write_content(content, path)
                    digests[name] = file_digest(path)
                record = json_text({**result.record, "files": digests})
                write_content(record, new(self.output / "record.json"))
        except BaseException:
            for folder in missing:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
        super().emit(result)


@dataclasses.dataclass(frozen=True)
class JsonFile(Files):
    json_file: Json = None


@dataclasses.dataclass(frozen=True)
class TableFiles(Files):
    csv: Csv = None
    json_file: Json = None


@dataclasses.dataclass(frozen=True)
class FigureFiles(TableFiles):
    plot: Plot = None


@dataclasses.dataclass(frozen=True)
class ReportFiles(TableFiles):
    report: Report = None


def _missing(folder: Path) -> list[Path]:
    """The folders that are not there yet, those in others first."""
    return [one for one in (folder, *folder.parents) if not one.exists()]


def _write_table(table: Any, file: Any) -> None:
    import pandas as pd

    pd.DataFrame(table).to_csv(file, index=False)


def _draw(result: Result, path: Path) -> None:
    from tokenkl.plotting import save_figure

    assert result.figure is not None  # since there is an option for it
    save_figure(result.figure(), path)


def command(
    name: str | None = None,
    *,
    files: type[Files] = Files,
    group: typer.Typer = app,
    cls: type[TyperCommand] | None = None,
    epilog: str | None = EPILOG,
    short_help: str,
) -> Callable[[Callable[..., Result | None]], Callable[..., None]]:
    """Make a command of a function: its bundles become options, its `Result` goes to `files`."""

    def register(work: Callable[..., Result | None]) -> Callable[..., None]:
        kinds = get_type_hints(work, include_extras=True)
        wanted = inspect.signature(work).parameters
        bundles = {one: kinds[one] for one in wanted if dataclasses.is_dataclass(kinds[one])}
        options: dict[str, inspect.Parameter] = {}
        for one, parameter in wanted.items():
            plain = {one: parameter.replace(annotation=kinds[one])}
            _add(options, _options(bundles[one]) if one in bundles else plain)
        _add(options, _options(files))

        def run(**given: Any) -> None:
            def take(bundle: Any) -> Any:
                return bundle(**{field: given.pop(field) for field in _options(bundle)})

            target = take(files)
            made = {one: take(bundle) for one, bundle in bundles.items()}
            target.check()
            result = work(**made, **given)
            takers = _TAKERS.get()
            if result is not None:
                (takers.append if takers is not None else target.emit)(result)

        functools.update_wrapper(run, work)
        run.__signature__ = inspect.Signature(list(options.values()))  # type: ignore[attr-defined]
        run.__annotations__ = {one: option.annotation for one, option in options.items()}
        return group.command(name, cls=cls, epilog=epilog, short_help=short_help)(run)

    return register


def _add(options: dict[str, inspect.Parameter], more: dict[str, inspect.Parameter]) -> None:
    twice = options.keys() & more.keys()
    if twice:
        raise TypeError(f"options of a command must have different names; got {min(twice)} twice.")
    options |= more


def result_of(words: Sequence[str], group: typer.Typer = app) -> Result:
    """What the command line `tokenkl WORDS...` finds; nothing is written or printed.

    Raises:
        ValueError: whatever the command refuses.
    """
    name, *rest = words
    commands: Any = typer.main.get_command(group)
    found: list[Result] = []
    token = _TAKERS.set(found)
    try:
        # Not by its `main`, which makes an exit code of Ctrl-C.
        with commands.commands[name].make_context(name, rest) as context:
            context.command.invoke(context)
    finally:
        _TAKERS.reset(token)
    return found[0]


def _options(bundle: Any) -> dict[str, inspect.Parameter]:
    """The fields of a bundle as a function's parameters."""
    kinds = get_type_hints(bundle, include_extras=True)
    return {
        name: parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=kinds[name])
        for name, parameter in inspect.signature(bundle).parameters.items()
    }
