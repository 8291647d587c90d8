"""What the commands share: the app, its errors, common options, progress, and writing of files."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from tokenkl._progress import make_display as make_display
from tokenkl._progress import progress_bar as progress_bar

if TYPE_CHECKING:
    from tokenkl.information import MonteCarlo, RareEvents

#: What can be written where a codebook is asked for, and what it stands for.
CODEBOOKS = (
    ("fsq:3^8", "FSQ, 3 levels in each of 8 coordinates"),
    ("fsq:8x5x5x5", "FSQ, levels by coordinate; also fsq:8,5,5,5"),
    ("fsq:8,5,5,5:rounding", "the grid of the FSQ paper (even counts differ)"),
    ("onehot:6561", "one-hot tokens"),
    ("e8", "6561 points of the E8 lattice in the cube"),
    ("FILE", "a .npz, .safetensors or .npy file"),
    ("vq:FILE, vq:FILE:NAME", "... that holds a table of points (called NAME)"),
    ("rvq:FILE, rvq:FILE:NAME", "... that holds the stages of a residual one"),
    ("perturb:SPEC:SD", "N(0, SD^2) noise on every coordinate (--seed)"),
    ("permute:SPEC", "the points in a random order (--seed)"),
    ("centre:SPEC", "moved so that the mean is 0"),
)

#: Noise levels where none are asked for.
DEFAULT_DB = "-20:40:5"

EPILOG = "Ways to write a codebook:\n\n\b\n" + "\n".join(
    f"{spec:<24} {meaning}" for spec, meaning in CODEBOOKS
)

app = typer.Typer(
    name="tokenkl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Commands(TyperGroup):
    """Turns the library's errors into one sentence and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader went away: typer ends quietly
            raise
        except ValueError as error:
            fail(str(error))
        except MemoryError as error:
            fail(f"there is not enough memory{f' ({error})' if str(error) else ''}.")
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            fail(f"{where}{error.strerror or error}.")


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


# ---- Options that several commands share ------------------------------------------------------

CodebookArgument = Annotated[
    str, typer.Argument(metavar="CODEBOOK", help="Such as fsq:3^8; see the list below.")
]
SnrDb = Annotated[
    str | None,
    typer.Option(
        metavar="GRID",
        help="SNR in dB: --snr-db=-20:40:1 (both ends included) or --snr-db=-10,0,10. "
        f"Without --snr and --snr-db: {DEFAULT_DB}.",
        show_default=False,
    ),
]
Snr = Annotated[
    str | None,
    typer.Option(metavar="GRID", help="SNR as a ratio: --snr 0.1,1,10 or --snr 0:1:0.1."),
]
Quantities = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Comma list of accuracy, error_probability, conditional_entropy, "
        "mutual_information, mmse; all without it.",
        show_default=False,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0, max=2**32 - 1, metavar="N", help="Of everything random; same seed, same bits."
    ),
]
How = Annotated[
    str,
    typer.Option(
        "--method", metavar="NAME", help="auto (exact where possible), exact, monte-carlo or rare."
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        min=2, metavar="N", help="Samples; without it 16384, 1024 for a large RVQ, 2000 for rare."
    ),
]
Rtol = Annotated[
    float,
    typer.Option(
        metavar="X", help="Sample until the standard error is at most atol + rtol |value|."
    ),
]
Atol = Annotated[float, typer.Option(metavar="X", help="See --rtol; in the unit of the quantity.")]
Bits = Annotated[bool, typer.Option("--bits", help="Information in bits rather than nats.")]
Csv = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the numbers; - for standard output.")
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the numbers; - for standard output."),
]
Plot = Annotated[
    str | None, typer.Option(metavar="FILE", help="Draw a figure, as .pdf, .png or .svg.")
]
PriorFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Prior: .npz, .npy, .json, .csv or .txt, K numbers."),
]
TokensFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Prior from the token ids in a .npz, .npy or .txt file."),
]
Smoothing = Annotated[
    float | None,
    typer.Option(metavar="X", help="Added to every count of --tokens, 0.5 without it."),
]


def sampling_method(
    method: str, samples: int | None, rtol: float, atol: float
) -> MonteCarlo | RareEvents | None:
    """Settings for what is sampled; None for the library's own choice. Checks the method's name."""
    from tokenkl import MonteCarlo, RareEvents
    from tokenkl._validation import check_choice, reject

    check_choice(method, ("auto", "exact", "monte-carlo", "rare"), "--method")
    for option, value in (("--rtol", rtol), ("--atol", atol)):
        if not 0 <= value < math.inf:
            reject(option, value, "a finite number, at least 0")
    if samples is not None and (rtol > 0 or atol > 0):
        reject("--samples", samples, "left out where --rtol or --atol sets the number of samples")
    if method == "rare":
        if atol > 0:
            reject("--atol", atol, "0 for --method rare, whose targets are relative")
        if samples is not None and samples < 64:
            reject("--samples", samples, "at least 64 for --method rare")
        return RareEvents(rtol=rtol) if samples is None else RareEvents(n_samples=samples)
    if method == "auto" and samples is None and rtol == atol == 0:
        return None
    return MonteCarlo(n_samples=samples, rtol=rtol, atol=atol)


# ---- Terminal and files -----------------------------------------------------------------------


class _PlainConsole(Console):
    """Shows names out of files, which may hold characters that terminals obey, written out."""

    def render_str(self, text: str, **options: Any) -> Any:
        from tokenkl._validation import printable

        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)


def stdout() -> Console:
    return _PlainConsole(highlight=False, markup=False)


def check_outputs(csv: str | None, json_file: str | None, plot: str | None) -> None:
    """Every output can be written, which is better known before the work than after it."""
    from tokenkl._validation import reject

    check_output("--csv", csv)
    check_output("--json", json_file)
    if plot is not None:
        formats = (".pdf", ".png", ".svg")
        if Path(plot).suffix not in formats:
            reject("--plot", plot, f"a file name that ends in {', '.join(formats)}")
        check_output("--plot", plot)
    given = [target for target in (csv, json_file, plot) if target is not None]
    for target in given:
        if given.count(target) > 1:
            reject("--csv, --json and --plot", f"{target} twice", "different files")


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
            _write(content, path)
            digests[Path(target).name] = file_digest(path)
    for target, content in streams:
        if target != "-":
            _write(content, Path(target))  # a device must not be replaced
        elif isinstance(content, str):
            sys.stdout.write(content)
        else:
            content(sys.stdout)
    sys.stdout.flush()  # a reader that went away is noticed here, not at exit


def _write(content: str | Callable[[Any], object], path: Path) -> None:
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
