"""`tokenkl tts eval`: what independent judges say of voices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tokenkl.cli._app import say
from tokenkl.cli._result import Result, TableFiles, command
from tokenkl.cli.tts._group import (
    Device,
    Sampling,
    Steps,
    load_voice,
    require,
    tokenizer_of,
    tts_app,
    voice_label,
    whole_numbers,
)

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from tokenkl.tts.audio import Utterance
    from tokenkl.tts.corpus import Corpus, CorpusConfig
    from tokenkl.tts.data import Example
    from tokenkl.tts.recordings import Source
    from tokenkl.tts.reports import SpeechReport
    from tokenkl.tts.tokenizers import Tokenizer
    from tokenkl.tts.voice import Voice

#: What a JSON file of this command says that it is.
KIND = "tokenkl tts eval"

#: Sentences where no number is asked for.
SENTENCES = 100

#: Words without a pronunciation that are named.
NAMED = 5

#: Columns of the printed table: metric -> head, what is shown of a value, digits.
COLUMNS: dict[str, tuple[str, Callable[[float], float], int]] = {
    "bound": ("nats a\ntoken", float, 2),
    "bound_other": ("by other\ntext", float, 2),
    "wer_unigram": ("WER (%)\nunigram", lambda share: 100 * share, 1),
    "wer_bigram": ("WER (%)\nbigram", lambda share: 100 * share, 1),
    "mel_error": ("mel error\n(nats)", float, 2),
    "length_error": ("length\nerror (%)", lambda share: 100 * share, 1),
    "entropy": ("perplexity", math.exp, 1),
    "mos": ("DNSMOS", float, 2),
    "f0_spread": ("F0 over\nseeds (Hz)", float, 1),
    "rtf": ("real-time\nfactor", float, 3),
    "latency": ("latency\n(s)", float, 3),
}
#: That which is shown only where there is no sound, which says more.
WITHOUT_SOUND = "entropy"


@command(
    "eval",
    group=tts_app,
    files=TableFiles,
    epilog=None,
    short_help="Word errors, lengths, pitch and speed of voices.",
)
def evaluate(
    *,
    voices: Annotated[
        list[str] | None,
        typer.Argument(metavar="VOICES", help="Names or files; phonemes without any."),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="test (unseen sentences) or combinations (unseen pairs of words); recordings have "
            "one, what was held out.",
        ),
    ] = "test",
    sentences: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help="The first N sentences of the split; 100 if it has so many."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Times that every sentence is said.")
    ] = 3,
    steps: Steps = "10",
    sampling: Sampling,
    grammar: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Judges: unigram, bigram, or both, as without it."),
    ] = None,
    mos: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Sentences that get a DNSMOS opinion (extra `tts-mos`)."
        ),
    ] = 0,
    baselines: Annotated[
        bool, typer.Option(help="Also the best and the worst that a voice could do.")
    ] = True,
    corpus: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="plain, jittered, paused or few; the voice's own without it."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the voice's recordings or token files are now, if elsewhere.",
        ),
    ] = None,
    device: Device = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that judge.")] = 1,
) -> Result:
    """Let independent judges hear what voices say, beside ceilings and floors.

    Intervals are 95 %: over sentences and seeds from three seeds on, over sentences otherwise.
    Real-time factor and latency are from text to tokens, one sentence at a time, one thread.
    A voice trained on recordings says those that were held out from its training: beside word
    errors, by a judge that knows the words of the corpus, there are the likelihood of their tokens
    and the difference of log-mel features after time warping. Of a voice of another program's
    tokens, which no judge can hear, there are that likelihood, lengths, and which tokens it uses.

    \b
    Example: tokenkl tts eval phonemes characters --steps 2,5,10 --json eval.json
    """
    from tokenkl._validation import check_choice, reject

    counts = whole_numbers(steps, "--steps")
    check_choice(split, ("valid", "test", "combinations"), "--split")
    if corpus is not None:
        check_choice(corpus, ("plain", "jittered", "paused", "few"), "--corpus")
    grammars = [part.strip() for part in (grammar or "unigram,bigram").split(",")]
    for one in grammars:
        check_choice(one, ("unigram", "bigram"), "--grammar")
    sampling.check()
    names = list(dict.fromkeys(voices or ["phonemes"]))
    speakers = {name: load_voice(name, device) for name in names}
    mute = [name for name, speaker in speakers.items() if not speaker.can_be_heard]
    if mute:
        for option, value, usual in (
            ("--grammar", grammar, None), ("--mos", mos, 0), ("--workers", workers, 1)
        ):  # fmt: skip
            if value != usual:
                reject(option, value, f"left out for {mute[0]}: no judge hears others' tokens")
    else:
        require("pocketsphinx", "jiwer", *(("onnxruntime",) if mos else ()))
    options = {name: sampling.options(speakers[name], name) for name in names}
    judging = {"grammars": grammars, "mos": mos, "workers": workers}
    material = _material(speakers, corpus, split, sentences, data)
    references = material.references
    judging |= material.judging
    if not judging["grammars"]:
        say(f"No word errors: {material.unheard}.")
    reports: dict[str, SpeechReport] = {}
    for name, speaker in speakers.items():
        likelihood = _likelihood(speaker, references, seeds) if material.recorded else {}
        for count in counts if speaker.model.kind == "cdcd" else [0]:
            label = voice_label(name) + (f", {count} steps" if count else "")
            extra = {**options[name], **({"steps": count} if count else {})}
            report = _judge(speaker, references, range(seeds), label, extra, judging)
            measured = {**report.measurements, **likelihood}
            reports[label] = dataclasses.replace(report, measurements=measured)
    if baselines:
        reports |= _baselines(speakers, references, judging)
    rows = _rows(reports)
    about = {
        voice_label(name): _about(speakers[name], options[name], references)
        | material.about.get(name, {})
        for name in names
    }
    record: dict[str, Any] = {"kind": KIND, "corpus": material.name, "split": material.split}
    record |= {"voices": about, "summary": rows, "unheard": material.unheard}
    return Result(
        record | {"reports": {label: report.to_json() for label, report in reports.items()}},
        show=lambda console: _print(console, rows, record, reports),
        # As text, so that what is not a number is written as nan.
        table=lambda: [{name: str(value) for name, value in row.items()} for row in rows],
    )


@dataclasses.dataclass(frozen=True)
class Material:
    """What is said, and how it is judged.

    - `name`, `split`: of the corpus.
    - `recorded`: whether it is of a corpus on disk, whose likelihood is found, too.
    - `judging`: options of `evaluate`.
    - `unheard`: which words no judge can hear, "" for none.
    - `about`: what is to be known of voices, for the record.
    """

    name: str
    split: str
    references: list[Utterance] | list[Example]
    recorded: bool = False
    judging: dict[str, Any] = dataclasses.field(default_factory=dict)
    unheard: str = ""
    about: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


def _material(
    speakers: dict[str, Voice],
    corpus: str | None,
    split: str,
    sentences: int | None,
    data: Path | None,
) -> Material:
    """What all these voices say."""
    from tokenkl._formats import conform
    from tokenkl._validation import reject
    from tokenkl.tts.recordings import Source

    recorded = {
        name: conform(voice.record["recipe"]["data"], Source, f"the recordings of {name}")
        for name, voice in speakers.items()
        if voice.record.get("recipe", {}).get("data") is not None
    }
    if recorded:
        places = {(one.kind, one.folder) for one in recorded.values()}
        if len(recorded) < len(speakers) or len(places) > 1:
            reject("VOICES", ", ".join(speakers), "all trained on the same recordings, or on none")
        for option, value, usual in (("--corpus", corpus, None), ("--split", split, "test")):
            if value != usual:
                reject(option, value, "left out for a voice that was trained on recordings")
        return _recordings(speakers, next(iter(recorded.values())), sentences, data)
    if data is not None:
        reject("--data", str(data), "left out for voices of a synthetic corpus")
    corpora = {
        corpus or v.record.get("recipe", {}).get("corpus", "plain") for v in speakers.values()
    }
    if len(corpora) > 1:
        reject("--corpus", "nothing", f"given for voices of different ones: {sorted(corpora)}")
    require("espeakng_loader")
    from tokenkl.tts.recipes import load_named_corpus

    name = corpora.pop()
    spoken = load_named_corpus(name)
    pairs = _held_back(speakers, spoken.config) if split == "combinations" else {}
    return Material(name, split, _references(spoken, name, split, sentences), about=pairs)


def _recordings(
    speakers: dict[str, Voice], source: Source, sentences: int | None, data: Path | None
) -> Material:
    """What was held out from training, and a judge that knows the words of the whole corpus."""
    from tokenkl._validation import reject
    from tokenkl.tts.judge import Language, unpronounced
    from tokenkl.tts.normalisation import spoken
    from tokenkl.tts.recordings import held_out, held_out_examples

    texts: dict[str, str] = {}
    for name, voice in speakers.items():
        own = voice.record.get("held_out")
        if own is None:
            reject("VOICES", name, "trained by a version that says in the voice what it held out")
        if texts and own != texts:
            reject("VOICES", ", ".join(speakers), "with the same recordings held out")
        texts = own
    if len(texts) < 2:
        expected = "trained on 40 recordings or more, of which a twentieth is held out"
        reject("VOICES", ", ".join(speakers), expected)
    if sentences is not None:
        if sentences > len(texts):
            reject("--sentences", sentences, f"at most the {len(texts)} that were held out")
        texts = dict(list(texts.items())[:sentences])
    folder = data or Path(source.folder)
    corpus = dataclasses.replace(source, folder=str(folder), on_bad="skip")
    if not (folder.is_dir() or (folder.is_file() and not corpus.has_audio)):
        named = "--data" if data is not None else "the folder of the voice's recordings"
        reject(named, str(folder), "there, or --data given with where it is now")
    name, split = f"{source.kind} {folder}", "held out"
    if not corpus.has_audio:
        examples = corpus.token_examples(min(one.tokenizer.K for one in speakers.values()))
        return Material(name, split, held_out_examples(examples, texts), True)
    recordings = corpus.recordings()
    references = held_out(recordings, texts)
    others = [spoken(one.text)[0] for one in recordings.entries if one.name not in texts]
    mute = unpronounced([*others, *texts.values()])
    heard = [text for text in texts.values() if not unpronounced([text])]
    known = [text for text in others if not unpronounced([text])]
    judging: dict[str, Any] = {"mel": True}
    if len(heard) >= 2:
        judging["language"] = lambda grammar: Language.of_texts(known or heard, grammar, heard)
    else:
        judging["grammars"] = []
    few = ", ".join(sorted(mute)[:NAMED]) + (", ..." if len(mute) > NAMED else "")
    unheard = f"pocketsphinx has no pronunciation of {few}" if mute else ""
    if mute and len(heard) < len(texts):
        unheard += f", which are in {len(texts) - len(heard)} of {len(texts)} recordings"
    return Material(name, split, references, True, judging, unheard)


def _likelihood(
    voice: Voice, references: list[Utterance] | list[Example], seeds: int
) -> dict[str, Float[np.ndarray, "sentences seeds"]]:
    """-ln p of what was said in truth; where no judge hears whether a voice reads its text, also
    given the text of the sentence after it."""
    import numpy as np

    from tokenkl.tts.speaking import nats, with_next_text

    examples = voice.examples(references)
    found = {
        "nats": nats(voice, examples),
        "true_tokens": np.array([one.tokens.size for one in examples], dtype=float),
    }
    if not voice.can_be_heard:
        found["nats_other"] = nats(voice, with_next_text(examples))
    return {name: np.tile(values[:, None], seeds) for name, values in found.items()}


def _held_back(speakers: dict[str, Voice], corpus: CorpusConfig) -> dict[str, dict[str, Any]]:
    """Of voices trained on other sentences than those of their corpus: which of the pairs of words
    that the split "combinations" holds back are in these. Said, and for the record."""
    from tokenkl._formats import conform
    from tokenkl.tts.corpus import CorpusConfig, held_out_combinations, held_out_in, make_sentences

    held = sum(map(len, held_out_combinations(corpus).values()))
    found = {}
    for name, voice in speakers.items():
        if "sentences" in voice.record:
            own = conform(voice.record["sentences"], CorpusConfig, f"the sentences of {name}")
            known = held_out_in(corpus, make_sentences(own)["train"])
            found[name] = {"pairs_held_back": held, "pairs_in_training": known}
            whose = f"{voice_label(name)} was trained on sentences with {known} of the {held}"
            say(f"Note: {whose} pairs of words that this split holds back.")
    return found


def _about(
    voice: Voice, options: dict[str, Any], references: list[Utterance] | list[Example]
) -> dict[str, Any]:
    parameters = {"model": sum(p.numel() for p in voice.model.parameters())}
    about: dict[str, Any] = {"parameters": parameters, "options": options}
    if voice.can_be_heard:
        tokenizer = tokenizer_of(voice, "")
        parameters["tokenizer"] = sum(p.numel() for p in tokenizer.parameters())
        about["seconds_from_tokens_to_audio"] = _resynthesis(tokenizer, references)
    return about | voice.record


def _references(corpus: Corpus, name: str, split: str, sentences: int | None) -> list[Utterance]:
    from tokenkl._validation import reject

    utterances = corpus.split(split)
    if sentences is None:
        return utterances[:SENTENCES]
    if sentences > len(utterances):
        reject("--sentences", sentences, f"at most the {len(utterances)} of {name}, {split}")
    return utterances[:sentences]


def _judge(
    voice: Voice,
    references: list[Utterance] | list[Example],
    seeds: range,
    label: str,
    options: dict[str, Any],
    judging: dict[str, Any],
) -> SpeechReport:
    from tokenkl.tts.evaluation import evaluate as judge
    from tokenkl.tts.speaking import say_all

    texts = [one.text for one in references]
    for text in texts:
        voice.encoder.encode(text)  # a word that the voice has not learned, before the work
    speakers = [one.speaker for one in references] if voice.speakers else None
    said = say_all(voice, texts, seeds, label=label, speakers=speakers, **options)
    return judge(said, voice.tokenizer, references, label=label, **judging)


def _baselines(
    speakers: dict[str, Voice],
    references: list[Utterance] | list[Example],
    judging: dict[str, Any],
) -> dict[str, SpeechReport]:
    """Ceilings and floors; those of tokens for every different tokenizer."""
    from tokenkl.tts.evaluation import OF_TOKENS, ceilings_and_floors

    found: dict[str, SpeechReport] = {}
    different = {_fingerprint(voice): (name, voice) for name, voice in speakers.items()}
    for index, (name, voice) in enumerate(different.values()):
        which = None if index == 0 else OF_TOKENS
        made = ceilings_and_floors(references, voice.tokenizer, which=which, **judging)
        many = len(different) > 1
        for label, report in made.items():
            ours = f"{label} of {voice_label(name)}" if many and label in OF_TOKENS else label
            found[ours] = report
    return found


def _fingerprint(voice: Voice) -> float:
    """Equal for equal true tokens; those of another program are what the files say."""
    if not voice.can_be_heard:
        return 0.0
    weights = tokenizer_of(voice, "").state_dict().values()
    return sum(float(value.double().sum()) for value in weights)


def _resynthesis(tokenizer: Tokenizer, references: Sequence[Any], count: int = 5) -> float:
    """Seconds for one second of audio, from tokens, on one thread; over a few sentences."""
    import time

    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ids = [tokenizer.tokenize(one.audio) for one in references[:count]]
        tokenizer.synthesise(ids[0])
        started = time.perf_counter()
        samples = sum(tokenizer.synthesise(row).size for row in ids)
        seconds = time.perf_counter() - started
    finally:
        torch.set_num_threads(threads)
    return seconds / (samples / tokenizer.config.mel.sample_rate)


# ---- Out -----------------------------------------------------------------------------------------


def _rows(reports: dict[str, SpeechReport]) -> list[dict[str, Any]]:
    rows = []
    for label, report in reports.items():
        for metric, found in report.summary().items():
            low, high = found.interval.low, found.interval.high
            rows.append(
                {
                    "system": label, "metric": metric, "value": found.value, "low": low,
                    "high": high, "over": found.over, "sentences": len(report.names),
                    "seeds": len(report.seeds),
                }
            )  # fmt: skip
    return rows


def _print(
    console: Console,
    rows: list[dict[str, Any]],
    record: dict[str, Any],
    reports: dict[str, SpeechReport],
) -> None:
    from rich import box
    from rich.table import Table

    by_system: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_system.setdefault(row["system"], {})[row["metric"]] = row
    measured = set().union(*by_system.values())
    heard = all("tokenizer" in voice["parameters"] for voice in record["voices"].values())
    shown = [one for one in COLUMNS if one in measured and not (heard and one == WITHOUT_SOUND)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("system", overflow="fold")
    for metric in shown:
        table.add_column(COLUMNS[metric][0], justify="right", no_wrap=True)
    for system, own in by_system.items():
        table.add_row(system, *(_cell(own.get(metric), metric) for metric in shown))
    console.print(table)
    console.print()
    first = next(iter(reports.values()))
    sentences, seeds = len(first.names), len(first.seeds)
    console.print(
        f"{sentences} sentences ({record['corpus']} corpus, split {record['split']}), "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}; 95 % intervals."
    )
    if not heard:
        used = "; ".join(
            f"{sum(report.used) / len(report.used):.0f} by {label}"
            for label, report in reports.items()
            if report.used
        )
        console.print(f"Tokens used, mean over seeds: {used}.")
    if record["unheard"]:
        console.print(f"Without word errors where no judge knows a word: {record['unheard']}.")
    for label, voice in record["voices"].items():
        millions = {part: f"{count / 1e6:.2f}" for part, count in voice["parameters"].items()}
        line = f"{label}: {millions['model']} million parameters"
        if heard:
            line += (
                f", and {millions['tokenizer']} of the tokenizer, which adds "
                f"{voice['seconds_from_tokens_to_audio']:.3f} to the real-time factor"
            )
        console.print(f"{line}.")


def _cell(row: dict[str, Any] | None, metric: str) -> str:
    _, shown, digits = COLUMNS[metric]
    if row is None or not math.isfinite(row["value"]):
        return ""
    value, low, high = (shown(row[part]) for part in ("value", "low", "high"))
    return f"{value:.{digits}f}\n{low:.{digits}f}-{high:.{digits}f}"
