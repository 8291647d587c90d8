"""`tokenkl tts report`: a page to listen to voices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenkl.cli._app import check_folder, progress_bar
from tokenkl.cli._options import Seed
from tokenkl.cli._result import command
from tokenkl.cli.tts._group import (
    Device,
    Sampling,
    Steps,
    load_voice,
    run_folder,
    tts_app,
    voice_label,
    whole_numbers,
)
from tokenkl.cli.tts.evaluate import KIND

if TYPE_CHECKING:
    from tokenkl.tts.judge import Judge
    from tokenkl.tts.listening import About, Sample
    from tokenkl.tts.voice import Voice


@command(group=tts_app, epilog=None, short_help="A page with players, spectrograms and numbers.")
def report(
    *,
    voices: Annotated[
        list[str], typer.Argument(metavar="VOICE...", help="Names of included ones, or files.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the page goes.")
    ] = Path("tts-report"),
    steps: Steps = "2,5,10",
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="What to say, may be repeated; unseen test sentences without it."
        ),
    ] = None,
    sentences: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="Sentences where no --text is given.")
    ] = 3,
    sampling: Sampling,
    device: Device = None,
    seed: Seed = 0,
) -> None:
    """Write index.html with players and spectrograms: sentences by numbers of steps, every voice.

    Loss curves and the JSON files of `tokenkl tts eval` are shown too where they lie in the
    folder of a voice's training run. The page works without a network; about 90 kB and a picture
    for every sample. A voice of another program's tokens, which make no sound here, has none.

    \b
    Example: tokenkl tts report phonemes characters --steps 2,10 -o page
    """
    from tokenkl._validation import reject

    counts = whole_numbers(steps, "--steps")
    sampling.check()
    _check_labels(voices)
    speakers = {name: load_voice(name, device) for name in voices}
    heard = [name for name in voices if speakers[name].can_be_heard]
    if text and not heard:
        reject("--text", text[0], "left out where no voice can be heard")
    texts = {name: text or _texts(speakers[name], name, sentences) for name in heard}
    options = {name: sampling.options(speakers[name], name) for name in voices}
    check_folder(output, "--output")  # makes it: after all else that may be refused
    for name in heard:
        for one in texts[name]:
            speakers[name].read(one)  # where there is nothing that it can say, before the work
    from tokenkl.tts.listening import write_page

    samples: list[Sample] = []
    with progress_bar("speaking", lines=True) as progress:
        for index, name in enumerate(heard):
            samples += _samples(speakers[name], name, texts[name], counts, seed, options[name])
            progress(index + 1, len(heard))
    about = {voice_label(name): _about(speakers[name], name) for name in voices}
    title = "Voices: " + ", ".join(about)
    page, size = write_page(output, samples, about, title=title)
    typer.echo(f"Wrote {page}: {len(samples)} samples, {size / 1e6:.1f} MB in all.")


def _check_labels(voices: list[str]) -> None:
    from tokenkl._validation import reject

    labels = [voice_label(name) for name in voices]
    for label in labels:
        if labels.count(label) > 1:
            reject("VOICE", f"{label} twice", "voices with different names")


def _texts(voice: Voice, name: str, count: int) -> list[str]:
    """Sentences that were not trained on, of each domain in turn."""
    from tokenkl._validation import reject
    from tokenkl.tts.corpus import CorpusConfig, make_sentences
    from tokenkl.tts.grammar import DOMAINS

    if voice.vocabulary is None:
        held: list[str] = list(voice.record.get("held_out", {}).values())
        if not held:
            reject("--text", "nothing", f"given for {name}, which has learned no closed domain")
        return held[:count]
    unseen = [
        sentence
        for sentence in make_sentences(CorpusConfig())["test"]
        if set(sentence.words) <= set(voice.vocabulary)
    ]
    by_domain = [[s.text for s in unseen if s.domain == domain] for domain in DOMAINS]
    return [row[i] for i in range(len(unseen)) for row in by_domain if i < len(row)][:count]


def _samples(
    voice: Voice, name: str, texts: list[str], counts: list[int], seed: int, options: dict[str, Any]
) -> list[Sample]:
    from tokenkl.tts.listening import Sample

    diffusion, judge = voice.model.kind == "cdcd", _judge(voice)
    made = []
    for text in texts:
        for count in counts if diffusion else [0]:
            how = f"{count} steps" if diffusion else "token by token"
            steps = {"steps": count} if diffusion else {}
            audio = voice.say(text, key=seed, **{**steps, **options}).samples
            heard = judge.transcribe(audio) if judge is not None else None
            made.append(Sample(voice_label(name), text, how, audio, heard))
    return made


def _judge(voice: Voice) -> Judge | None:
    """Who tells what is heard, where that is installed and knows the words of the voice."""
    from tokenkl.tts.grammar import VOCABULARY

    if voice.vocabulary is None or not set(voice.vocabulary) <= set(VOCABULARY):
        return None
    try:
        from tokenkl.tts.judge import Judge

        return Judge("bigram")
    except ImportError:
        return None


def _about(voice: Voice, name: str) -> About:
    from tokenkl.tts.listening import About, find_evaluations
    from tokenkl.tts.training_log import LOG

    parameters = sum(p.numel() for p in voice.model.parameters())
    recipe = voice.record.get("recipe", {})
    facts = {
        "model": f"{voice.model.kind}, {parameters / 1e6:.2f} million parameters",
        "text": "phonemes" if voice.encoder.is_phonetic else "characters",
        "tokens": f"{voice.tokenizer.K} ({voice.tokenizer.kind})",
    }
    for part in ("geometry", "schedule", "corpus"):
        if part in recipe:
            facts[part] = str(recipe[part])
    if (source := recipe.get("data")) is not None:
        facts["corpus"] = f"{source['kind']} {source['folder']}"
    if "training" in recipe:
        facts["training"] = f"{recipe['training']['steps']} steps"
    run = run_folder(name)
    if run is None:
        return About(facts)
    losses = run if (run / LOG).is_file() else None
    return About(facts, losses, find_evaluations(run, voice_label(name), KIND))
