"""`tokenkl tts say`: text to a .wav file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenkl.cli._app import check_output, progress_bar, say_written, write_outputs
from tokenkl.cli._options import Plot, Seed
from tokenkl.cli._result import FigureFiles, command
from tokenkl.cli.tts._group import Device, Sampling, load_voice, tts_app

if TYPE_CHECKING:
    import numpy as np

    from tokenkl.tts.voice import Prompt, Voice

#: Silence between two sentences of a file, in seconds.
PAUSE = 0.3
_SEE = "`tokenkl tts say --words` lists the words and the patterns of sentences."


@command(group=tts_app, epilog=None, short_help="Speak a sentence into a .wav file.")
def say(
    *,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What to say.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.wav",
            help="Where to write it; token ids if it ends in .npy, or .npz for those of a --file.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Say every line of a text file instead."),
    ] = None,
    voice: Annotated[
        str,
        typer.Option("--voice", metavar="NAME", help="phonemes, characters, or the file of one."),
    ] = "phonemes",
    steps: Annotated[
        int, typer.Option("--steps", min=1, max=1000, metavar="N", help="Sampling steps.")
    ] = 10,
    sampling: Sampling,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="X", help="Speed; 2 is twice as fast, 1 without it."),
    ] = None,
    speaker: Annotated[
        str | None,
        typer.Option(
            "--speaker",
            metavar="NAME",
            help="Who says it, for voices trained with speakers; the one heard most without it.",
        ),
    ] = None,
    seed: Seed = 0,
    any_text: Annotated[
        bool,
        typer.Option("--any-text", help="Let a voice of characters try words it has not learned."),
    ] = False,
    prompt: Annotated[
        Path | None,
        typer.Option(
            "--prompt",
            metavar="FILE.wav",
            help="Speech to go on from, for voices trained with prompts (preset paper).",
        ),
    ] = None,
    prompt_text: Annotated[
        str | None,
        typer.Option("--prompt-text", metavar="TEXT", help="What is said in --prompt."),
    ] = None,
    device: Device = None,
    plot: Plot = None,
    words: Annotated[
        bool, typer.Option("--words", help="List what can be said, and do nothing else.")
    ] = False,
) -> None:
    """Speak a sentence of the domain: object commands, dates and times, digits.

    --plot draws the spectrogram. The same seed says the same.

    \b
    Example: tokenkl tts say "give eight silver flowers behind the village" -o out.wav
    """
    from tokenkl._validation import check_positive, reject
    from tokenkl.tts.audio import SAMPLE_RATE

    if words:
        _print_words()
        return
    if output is None:
        reject("--output", "nothing", "given: the .wav file to write, such as -o out.wav")
    if not output.lower().endswith((".wav", ".npy", ".npz")):
        reject("--output", output, "a file name that ends in .wav, or in .npy for token ids")
    heard = output.lower().endswith(".wav")
    if plot is not None and not heard:
        reject("--plot", plot, f"left out where --output is {output}: token ids are no sound")
    if output.lower().endswith(".npy") and file is not None:
        reject("--output", output, "a file name that ends in .wav or .npz, for the lines of --file")
    check_output("--output", output)
    FigureFiles(plot=plot).check()
    sentences = _sentences(text, file)
    sampling.check()
    if rate is not None:
        check_positive(rate, "--rate")
    if (prompt is None) != (prompt_text is None):
        missing = "--prompt" if prompt is None else "--prompt-text"
        reject(missing, "nothing", "given: --prompt and --prompt-text go together")
    started = time.perf_counter()
    loaded = load_voice(voice, device)
    _one_thread()
    loading = time.perf_counter() - started
    if heard and not loaded.can_be_heard:
        expected = "a file name that ends in .npy: only their own program makes sound of its tokens"
        reject("--output", output, expected)
    options = sampling.options(loaded, voice, rate)
    if speaker is not None:
        loaded.speaker_id(speaker)  # refused before the work
        options["speaker"] = speaker
    options |= {"steps": steps, "key": seed, "any_text": any_text, "rate": rate}
    said = [_check(sentence, loaded, any_text) for sentence in sentences]
    if prompt is not None:
        options["prompt"] = _prompt(loaded, voice, prompt, prompt_text or "")
    if not heard:
        ids, seconds = _say_tokens(loaded, sentences, options)
        _write_tokens(output, ids, said)
        count = sum(row.size for row in ids)
        typer.echo(
            f"{count} tokens ({count / loaded.tokenizer.token_rate:.2f} s at "
            f"{loaded.tokenizer.token_rate:g} a second) in {seconds:.2f} s on one thread, after "
            f"{loading:.1f} s to load the voice."
        )
        say_written(output)
        return
    audio, seconds = _speak(loaded, sentences, options)
    _write(output, audio, plot, said)
    duration = audio.size / SAMPLE_RATE
    typer.echo(
        f"{duration:.2f} s of speech in {seconds:.2f} s: real-time factor {seconds / duration:.3f} "
        f"on one thread, after {loading:.1f} s to load the voice."
    )
    say_written(output, plot)


def _sentences(text: str | None, file: Path | None) -> list[str]:
    from tokenkl._formats import reading
    from tokenkl._validation import reject

    if (text is None) == (file is None):
        reject("TEXT", "none" if text is None else "one beside --file", "given, or --file instead")
    if file is None:
        return [text or ""]
    with reading(file, "a UTF-8 text file for --file") as opened:
        lines = opened.text().splitlines()
    sentences = [line for line in lines if line.strip()]
    if not sentences:
        reject("--file", str(file), "a text file with at least one sentence")
    return sentences


def _check(text: str, voice: Voice, any_text: bool) -> str:
    """Refuses a text of which nothing can be said, and warns of one that may be unclear."""
    from tokenkl._validation import reject
    from tokenkl.tts.grammar import TEMPLATES

    if any_text and voice.encoder.is_phonetic:
        reject("--any-text", "given", "for a voice of characters: phonemes are only known of words")
    try:
        said, _ = voice.read(text, any_text=any_text)
    except ValueError as error:
        see = "" if voice.vocabulary is None or any_text else f" {_SEE}"
        raise ValueError(f"{error}{see}") from error
    closed = voice.vocabulary is not None and not any_text
    if closed and not any(template.matches(said.split()) for template in TEMPLATES):
        typer.echo(
            f"Note: {said!r} is no sentence of the patterns that the voice has learned "
            "and may be unclear; --words lists them.",
            err=True,
        )
    return said


def _prompt(voice: Voice, name: str, path: Path, text: str) -> Prompt:
    from tokenkl._validation import reject
    from tokenkl.tts.audio import SAMPLE_RATE, read_wav

    if not getattr(voice.model.config, "prompt", 0):
        reject("--prompt", str(path), f"left out: {name} was trained without prompts")
    return voice.prompt(read_wav(path, SAMPLE_RATE), text)


def _speak(voice: Voice, sentences: list[str], options: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Everything one after another with pauses, and the seconds that it took."""
    import numpy as np

    from tokenkl.tts.audio import SAMPLE_RATE

    pause = np.zeros(round(PAUSE * SAMPLE_RATE), np.float32)
    parts: list[np.ndarray] = []
    started = time.perf_counter()
    with progress_bar("speaking", lines=True) as report:
        for index, sentence in enumerate(sentences):
            parts += [pause] if parts else []
            parts.append(voice.say(sentence, **options).samples)
            report(index + 1, len(sentences))
    return np.concatenate(parts), time.perf_counter() - started


def _say_tokens(
    voice: Voice, sentences: list[str], options: dict[str, Any]
) -> tuple[list[np.ndarray], float]:
    """Token ids of every sentence, and the seconds that it took."""
    rows: list[np.ndarray] = []
    started = time.perf_counter()
    with progress_bar("speaking", lines=True) as report:
        for sentence in sentences:
            rows.append(voice.say_tokens(sentence, **options))
            report(len(rows), len(sentences))
    return rows, time.perf_counter() - started


def _write_tokens(output: str, rows: list[np.ndarray], sentences: list[str]) -> None:
    """One row in .npy; in .npz all rows as `tokenkl tts tokenize` writes them, with their texts."""
    import numpy as np

    from tokenkl._files import atomic_path

    with atomic_path(output) as temporary, open(temporary, "wb") as file:
        if output.lower().endswith(".npy"):
            np.save(file, rows[0])
        else:
            ends = np.cumsum([row.size for row in rows])
            np.savez(file, tokens=np.concatenate(rows), ends=ends, text=np.array(sentences))


def _write(output: str, audio: np.ndarray, plot: str | None, sentences: list[str]) -> None:
    from tokenkl.tts.audio import write_wav
    from tokenkl.tts.spectrogram import plot_spectrogram

    title = sentences[0] + (f" and {len(sentences) - 1} more" if len(sentences) > 1 else "")
    write_outputs(
        (output, lambda path: write_wav(path, audio)),
        (plot, lambda path: plot_spectrogram(audio, path, title=title)),
    )


def _one_thread() -> None:
    """So small a network gains nothing from more, and loses much where other work goes on.

    The bits of the audio depend on the number, too.
    """
    import torch

    torch.set_num_threads(1)


def _print_words() -> None:
    from tokenkl.tts.grammar import DOMAINS, VOCABULARY, templates_of

    typer.echo(f"Sentences that can be said, from {len(VOCABULARY)} words:\n")
    for domain in DOMAINS:
        templates = templates_of(domain)
        if domain == "digits":
            counts = [len(template.slots) for template in templates]
            typer.echo(f"{domain}: {min(counts)} to {max(counts)} of")
            typer.echo(f"    {' '.join(templates[0].slots[0])}\n")
            continue
        typer.echo(f"{domain}: one of each line")
        for slot in templates[0].slots:
            typer.echo(f"    {' '.join(slot)}")
        typer.echo("")
    typer.echo('Example: tokenkl tts say "on monday the first of may at nine thirty" -o out.wav')
