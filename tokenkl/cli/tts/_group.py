"""What the commands of `tokenkl tts` share: the group, its errors, options, and voices."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from tokenkl._extras import MissingExtra
from tokenkl.cli import TERMINATED
from tokenkl.cli._app import app, say

if TYPE_CHECKING:
    from tokenkl.tts.tokenizers import Tokenizer
    from tokenkl.tts.voice import Voice

#: Module -> the extra that brings it.
_EXTRAS = {
    "torch": "tts",
    "vector_quantize_pytorch": "tts",
    "accelerate": "tts",
    "pocketsphinx": "tts",
    "jiwer": "tts",
    "num2words": "tts",
    "espeakng_loader": "tts-data",
    "speechmos": "tts-mos",
    "onnxruntime": "tts-mos",
}


class _Commands(TyperGroup):
    """Turns a missing extra, and a loss that is no longer finite, into one sentence."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with _warnings_in_one_line():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            from tokenkl.tts.interrupts import Terminated

            if isinstance(error, Terminated):  # training has an eye on signals of its own
                raise typer.Exit(TERMINATED) from None
            raise
        except MissingExtra:
            raise
        except ImportError as error:
            module = (error.name or "").split(".")[0]
            if module not in _EXTRAS:
                raise
            raise MissingExtra("`tokenkl tts`", module, _EXTRAS[module]) from error
        except FloatingPointError as error:
            raise ValueError(str(error)) from error


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """The library's warnings (skipped files) without the line of code that they come from."""

    def show(message: Any, category: Any, filename: Any, lineno: Any, *rest: Any) -> None:
        if category is UserWarning:
            say("Warning: " + " ".join(str(message).split()))
        else:
            before(message, category, filename, lineno, *rest)

    before = warnings.showwarning
    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = before


tts_app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(tts_app, name="tts", short_help="Text to speech: speak, train, evaluate.")


@tts_app.callback()
def _tts() -> None:
    """Text to speech by continuous diffusion over speech tokens.

    Needs the extra `tts`. Training on the synthetic corpus, and evaluation against it, need
    `tts-data` as well.
    """


# ---- Options that several commands share ---------------------------------------------------------

Steps = Annotated[
    str, typer.Option("--steps", metavar="LIST", help="Sampling steps of diffusion voices: 2,5,10.")
]


Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Where networks compute: cpu (without it), cuda, or one of several, such as cuda:1.",
    ),
]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; None where nothing was asked for."""

    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            metavar="NAME",
            help="Noise levels of the steps: uniform (without it), optimal, cosine, log-snr or "
            "edm.",
            show_default=False,
        ),
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option("--sampler", metavar="NAME", help="ddim (without it) or ancestral."),
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance", metavar="W", help="Weight of classifier-free guidance; 0.5 without it."
        ),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            metavar="T",
            help="Of autoregressive voices; 0.8 without it, 0 is greedy.",
        ),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", metavar="P", help="Of autoregressive voices; 1 without it."),
    ] = None

    def check(self) -> None:
        """Refuse what no voice takes, before the work.

        Raises:
            ValueError: a name or number that is not one.
        """
        from tokenkl._validation import check_choice, reject

        if self.grid is not None:  # imports that take a second of speaking's time
            from tokenkl.tts.levels import GRIDS

            check_choice(self.grid, GRIDS, "--grid")
        if self.sampler is not None:
            from tokenkl.samplers import as_sampler

            as_sampler(self.sampler, "--sampler")
        if self.guidance is not None and not 0 <= self.guidance < float("inf"):
            reject("--guidance", self.guidance, "a finite number, at least 0")
        if self.temperature is not None and not 0 <= self.temperature < float("inf"):
            reject("--temperature", self.temperature, "a finite number, at least 0")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            reject("--top-p", self.top_p, "above 0 and at most 1")

    def options(self, voice: Voice, name: str, rate: float | None = None) -> dict[str, Any]:
        """What `Voice.tokens` takes besides the steps, without the rate.

        Raises:
            ValueError: an option that is not for this kind of voice.
        """
        from tokenkl._validation import reject

        ours: dict[str, Any]
        foreign: dict[str, Any]
        diffusion = {"grid": self.grid, "guidance": self.guidance, "sampler": self.sampler}
        autoregressive = {"temperature": self.temperature, "top_p": self.top_p}
        if voice.model.kind == "cdcd":
            ours, foreign = {**diffusion}, {**autoregressive}
        else:
            ours, foreign = {**autoregressive}, {**diffusion, "rate": rate}
        for option, value in foreign.items():
            if value is not None:
                kind = "a diffusion" if voice.model.kind == "cdcd" else "an autoregressive"
                reject(f"--{option.replace('_', '-')}", value, f"left out: {name} is {kind} voice")
        return {option: value for option, value in ours.items() if value is not None}


def load_voice(name: str, device: str | None = None) -> Voice:
    """A voice by the name of an included one or by its file, on a device.

    Raises:
        ValueError: no such voice, or no such device.
    """
    # The first import of PyTorch takes a second or two, which a bar would not make shorter.
    check_device(device)
    voice: Voice = importlib.import_module("tokenkl.tts.voice").Voice.load(name)
    return voice if device is None else voice.to(device)


def check_device(device: str | None) -> None:
    """Refuse what is no device of this machine, before the work.

    Raises:
        ValueError: so.
    """
    if device is not None:
        importlib.import_module("tokenkl.tts.devices").as_device(device, "--device")


def tokenizer_of(voice: Voice, name: str) -> Tokenizer:
    """The tokenizer of a voice that can be listened to.

    Raises:
        ValueError: a voice of another program's tokens.
    """
    from tokenkl._validation import reject

    if not voice.can_be_heard:
        expected = "a voice of our own tokens: only their program makes sound of others'"
        reject("VOICE", name, expected)
    return cast("Tokenizer", voice.tokenizer)


def require(*modules: str) -> None:
    """Ask for modules that are needed late, before the work.

    Raises:
        ImportError: one of them is not installed.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(name=module)


def whole_numbers(text: str, option: str) -> list[int]:
    """A comma list of whole numbers from 1 on, each once.

    Raises:
        ValueError: something else.
    """
    from tokenkl._validation import reject

    numbers: dict[int, None] = {}
    for part in text.split(","):
        if not part.strip().isdecimal() or not 1 <= int(part) <= 1000:
            reject(option, text, "whole numbers from 1 to 1000 with commas between them")
        numbers[int(part)] = None
    return list(numbers)


def voice_label(name: str) -> str:
    """Short name of a voice for tables and pages."""
    return Path(name).stem.removeprefix("voice-") if name.endswith(".safetensors") else name


def run_folder(name: str) -> Path | None:
    """The folder of the training run beside a voice's file, if there is one."""
    path = Path(name)
    folder = path.parent / voice_label(name)
    return folder if path.suffix == ".safetensors" and folder.is_dir() else None
