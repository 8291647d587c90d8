"""`tokenkl tts tokenize`: recordings to token ids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenkl.cli._app import check_folder, check_output, progress_bar, say, say_written, stdout
from tokenkl.cli.tts._group import Device, check_device, tokenizer_of, tts_app

if TYPE_CHECKING:
    import numpy as np

    from tokenkl.tts.tokenizers import Tokenizer


@tts_app.command(short_help="Token ids of .wav files.")
def tokenize(
    wavs: Annotated[
        list[Path], typer.Argument(metavar="WAV...", help="Files, or folders of them.")
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE.npz", help="Where to write ids.")
    ] = None,
    tokenizer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The file of a tokenizer or of a voice, or the name of an included voice.",
        ),
    ] = "phonemes",
    reconstruct: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write what can be heard of the tokens.")
    ] = None,
    codebook: Annotated[
        str | None,
        typer.Option(metavar="FILE.npz", help="Also write the points, for `tokenkl profile`."),
    ] = None,
    device: Device = None,
    on_bad: Annotated[
        str, typer.Option(metavar="WHAT", help="refuse or skip files that cannot be read.")
    ] = "refuse",
) -> None:
    """Turn .wav files into token ids, and print how many tokens they use.

    The .npz file has "tokens" (all ids in a row, as --tokens of other commands reads them),
    "names", and "ends" (where each file ends in the row).

    \b
    Example: tokenkl tts tokenize recordings/ -o tokens.npz --codebook points.npz
             tokenkl profile points.npz --tokens tokens.npz
    """
    from tokenkl._validation import check_choice, reject

    check_choice(on_bad, ("refuse", "skip"), "--on-bad")
    if output is None:
        reject("--output", "nothing", "given: the .npz file to write, such as -o tokens.npz")
    for option, target in (("--output", output), ("--codebook", codebook)):
        if target is not None and not target.endswith(".npz"):
            reject(option, target, "a file name that ends in .npz")
        check_output(option, target)
    paths = _paths(wavs, reconstruct)
    if reconstruct is not None:
        check_folder(reconstruct, "--reconstruct")
    check_device(device)
    machine = _load(tokenizer)
    if device is not None:
        machine.to(device)
    found = _tokenize(machine, paths, on_bad, reconstruct)
    if not found:
        reject("WAV", "none that can be read", "at least one readable file")
    _print(machine, found)
    _write(output, found)
    if codebook is not None:
        from tokenkl.codebooks import save_codebook

        save_codebook(machine.codebook(), codebook)
    say_written(
        output, codebook, None if reconstruct is None else f"{len(found)} files in {reconstruct}"
    )


def _paths(wavs: list[Path], reconstruct: Path | None) -> list[Path]:
    """The files, those of folders in sorted order."""
    from tokenkl._validation import reject

    paths: dict[Path, None] = {}
    for one in wavs:
        inside = sorted(one.rglob("*.wav")) if os.path.isdir(one) else [one]
        if not inside:
            reject("WAV", str(one), "a folder with .wav files in it")
        paths |= dict.fromkeys(inside)
    if reconstruct is not None:
        stems = [path.stem for path in paths]
        for path in paths:
            if stems.count(path.stem) > 1:
                reject("--reconstruct", f"{path.stem}.wav twice", "given for files of other names")
            if path.parent.resolve() == reconstruct.resolve():
                reject("--reconstruct", str(reconstruct), "another folder than that of the files")
    return list(paths)


def _load(name: str) -> Tokenizer:
    """A tokenizer's own file, or the one of a voice."""
    from tokenkl._validation import reject
    from tokenkl.tts.tokenizers import Tokenizer
    from tokenkl.tts.voice import INCLUDED, Voice

    if name in INCLUDED:
        return tokenizer_of(Voice.load(name), name)
    expected = f"the file of a tokenizer or of a voice, or {' or '.join(INCLUDED)}"
    if not Path(name).is_file():
        reject("--tokenizer", name, f"{expected}; there is no such file")
    try:
        return Tokenizer.load(name)
    except ValueError:
        try:
            voice = Voice.load(name)
        except ValueError:
            reject("--tokenizer", name, expected)
        if not voice.can_be_heard:
            reject("--tokenizer", name, f"{expected}; the tokens of this one are another program's")
        return tokenizer_of(voice, name)


def _tokenize(
    tokenizer: Tokenizer, paths: list[Path], on_bad: str, reconstruct: Path | None
) -> dict[str, np.ndarray]:
    from tokenkl.tts.audio import read_wav, write_wav

    found: dict[str, np.ndarray] = {}
    with progress_bar("tokenizing", lines=True) as report:
        for done, path in enumerate(paths, start=1):
            try:
                audio = read_wav(path, tokenizer.config.mel.sample_rate)
            except ValueError as error:
                if on_bad == "refuse":
                    raise ValueError(f"{error} --on-bad skip goes on without it.") from error
                say(f"Warning: skipped: {error}")
                continue
            ids = found[str(path)] = tokenizer.tokenize(audio)
            if reconstruct is not None:
                again = tokenizer.synthesise(ids)[: audio.size]
                write_wav(reconstruct / f"{path.stem}.wav", again)
            report(done, len(paths))
    return found


def _print(tokenizer: Tokenizer, found: dict[str, np.ndarray]) -> None:
    import numpy as np

    from tokenkl.cli.tables import print_pairs
    from tokenkl.usage import token_usage

    every = np.concatenate(list(found.values()))
    rate = tokenizer.config.mel.tokens_per_second
    pairs = [
        ("files", str(len(found))),
        ("tokens", f"{every.size}, that is {every.size / rate:.1f} s at {rate:g} a second"),
        ("used", f"{np.unique(every).size} of {tokenizer.K}"),
    ]
    if len(found) > 1 and all(row.size for row in found.values()):
        usage = token_usage(list(found.values()), tokenizer.K)
        low, high, _ = usage.perplexity_interval()
        shown = f"{usage.perplexity:.0f} (95 %: {low:.0f} to {high:.0f}; bias corrected)"
        pairs.append(("perplexity", shown))
    print_pairs(stdout(), pairs)


def _write(output: str, found: dict[str, np.ndarray]) -> None:
    import numpy as np

    from tokenkl._files import atomic_path

    with atomic_path(output) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            tokens=np.concatenate(list(found.values())),
            names=np.array(list(found)),
            ends=np.cumsum([row.size for row in found.values()]),
        )
