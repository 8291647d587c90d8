"""`tokenkl tts eval`: what independent judges say of voices."""

from __future__ import annotations

import dataclasses
import math
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
    from tokenkl.tts.audio import Utterance
    from tokenkl.tts.reports import SpeechReport
    from tokenkl.tts.voice import Voice

#: What a JSON file of this command says that it is.
KIND = "tokenkl tts eval"

#: Sentences where no number is asked for.
SENTENCES = 100

#: Words without a pronunciation that are named.
NAMED = 5

#: Columns of the printed table: metric -> head, factor, digits.
COLUMNS = {
    "bound": ("nats a\ntoken", 1.0, 2),
    "wer_unigram": ("WER (%)\nunigram", 100.0, 1),
    "wer_bigram": ("WER (%)\nbigram", 100.0, 1),
    "mel_error": ("mel error\n(nats)", 1.0, 2),
    "length_error": ("length\nerror (%)", 100.0, 1),
    "mos": ("DNSMOS", 1.0, 2),
    "f0_spread": ("F0 over\nseeds (Hz)", 1.0, 1),
    "rtf": ("real-time\nfactor", 1.0, 3),
    "latency": ("latency\n(s)", 1.0, 3),
}


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
        str, typer.Option(metavar="LIST", help="Judges: unigram, bigram or both.")
    ] = "unigram,bigram",
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
        typer.Option(metavar="FOLDER", help="Where the voice's recordings are now, if elsewhere."),
    ] = None,
    device: Device = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that judge.")] = 1,
) -> Result:
    """Let independent judges hear what voices say, beside ceilings and floors.

    Intervals are 95 %: over sentences and seeds from three seeds on, over sentences otherwise.
    Real-time factor and latency are from text to tokens, one sentence at a time, one thread.
    A voice trained on recordings says those that were held out from its training: beside word
    errors, by a judge that knows the words of the corpus, there are the likelihood of their tokens
    and the difference of log-mel features after time warping.

    \b
    Example: tokenkl tts eval phonemes characters --steps 2,5,10 --json eval.json
    """
    from tokenkl._validation import check_choice

    require("pocketsphinx", "jiwer", *(("onnxruntime",) if mos else ()))
    counts = whole_numbers(steps, "--steps")
    check_choice(split, ("valid", "test", "combinations"), "--split")
    if corpus is not None:
        check_choice(corpus, ("plain", "jittered", "paused", "few"), "--corpus")
    grammars = [part.strip() for part in grammar.split(",")]
    for one in grammars:
        check_choice(one, ("unigram", "bigram"), "--grammar")
    sampling.check()
    names = list(dict.fromkeys(voices or ["phonemes"]))
    speakers = {name: load_voice(name, device) for name in names}
    for name, speaker in speakers.items():
        tokenizer_of(speaker, name)  # refuses what cannot be heard, before the work
    options = {name: sampling.options(speakers[name], name) for name in names}
    judging = {"grammars": grammars, "mos": mos, "workers": workers}
    material = _material(speakers, corpus, split, sentences, data)
    references = material.references
    judging |= material.judging
    if not judging["grammars"]:
        say(f"No word errors: {material.unheard}.")
    reports: dict[str, SpeechReport] = {}
    for name, speaker in speakers.items():
        for count in counts if speaker.model.kind == "cdcd" else [0]:
            label = voice_label(name) + (f", {count} steps" if count else "")
            extra = {**options[name], **({"steps": count} if count else {})}
            report = _judge(speaker, references, range(seeds), label, extra, judging)
            reports[label] = _with_likelihood(speaker, references, report, material)
    if baselines:
        reports |= _baselines(speakers, references, judging)
    rows = _rows(reports)
    about = {voice_label(name): _about(speakers[name], options[name], references) for name in names}
    record: dict[str, Any] = {"kind": KIND, "corpus": material.name, "split": material.split}
    record |= {"voices": about, "summary": rows, "unheard": material.unheard}
    return Result(
        record | {"reports": {label: report.to_json() for label, report in reports.items()}},
        show=lambda console: _print(console, rows, record, len(references), seeds),
        # As text, so that what is not a number is written as nan.
        table=lambda: [{name: str(value) for name, value in row.items()} for row in rows],
    )


@dataclasses.dataclass(frozen=True)
class Material:
    """What is said, and how it is judged.

    - `name`, `split`: of the corpus.
    - `judging`: options of `evaluate`.
    - `unheard`: which words no judge can hear, "" for none.
    """

    name: str
    split: str
    references: list[Utterance]
    judging: dict[str, Any] = dataclasses.field(default_factory=dict)
    unheard: str = ""


def _material(
    speakers: dict[str, Voice],
    corpus: str | None,
    split: str,
    sentences: int | None,
    data: Path | None,
) -> Material:
    """What all these voices say."""
    from tokenkl._validation import reject

    recorded = {
        name: voice.record["recipe"]["data"]
        for name, voice in speakers.items()
        if voice.record.get("recipe", {}).get("data") is not None
    }
    if recorded:
        if len(recorded) < len(speakers) or len({s["folder"] for s in recorded.values()}) > 1:
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
    name = corpora.pop()
    return Material(name, split, _references(name, split, sentences))


def _recordings(
    speakers: dict[str, Voice], source: dict[str, Any], sentences: int | None, data: Path | None
) -> Material:
    """What was held out from training, and a judge that knows the words of the whole corpus."""
    from tokenkl._validation import reject
    from tokenkl.tts.judge import Language, unpronounced
    from tokenkl.tts.normalisation import spoken
    from tokenkl.tts.recordings import Source, held_out

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
    folder = data or Path(source["folder"])
    if not folder.is_dir():
        named = "--data" if data is not None else "the folder of the voice's recordings"
        reject(named, str(folder), "there, or --data given with where it is now")
    recordings = Source(source["kind"], str(folder), "skip").recordings()
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
    name = f"{source['kind']} {folder}"
    return Material(name, "held out", references, judging, unheard)


def _with_likelihood(
    voice: Voice, references: list[Utterance], report: SpeechReport, material: Material
) -> SpeechReport:
    """For recordings: the likelihood of what was said in truth; the judges' numbers stay."""
    import numpy as np

    from tokenkl.tts.speaking import nats

    if not material.judging:
        return report
    examples = voice.examples(references)
    sizes = np.array([one.tokens.size for one in examples], dtype=float)
    more = {"nats": nats(voice, examples), "true_tokens": sizes}
    columns = {n: np.repeat(v[:, None], len(report.seeds), axis=1) for n, v in more.items()}
    return dataclasses.replace(report, measurements={**report.measurements, **columns})


def _about(voice: Voice, options: dict[str, Any], references: list[Utterance]) -> dict[str, Any]:
    return {
        "parameters": _parameters(voice),
        "options": options,
        "seconds_from_tokens_to_audio": _resynthesis(voice, references),
        **voice.record,
    }


def _references(corpus: str, split: str, sentences: int | None) -> list[Utterance]:
    from tokenkl._validation import reject
    from tokenkl.tts.recipes import load_named_corpus

    utterances = load_named_corpus(corpus).split(split)
    if sentences is None:
        return utterances[:SENTENCES]
    if sentences > len(utterances):
        reject("--sentences", sentences, f"at most the {len(utterances)} of {corpus}, {split}")
    return utterances[:sentences]


def _judge(
    voice: Voice,
    references: list[Utterance],
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
    return judge(said, tokenizer_of(voice, label), references, label=label, **judging)


def _baselines(
    speakers: dict[str, Voice], references: list[Utterance], judging: dict[str, Any]
) -> dict[str, SpeechReport]:
    """Ceilings and floors; those of tokens for every different tokenizer."""
    from tokenkl.tts.evaluation import BASELINES, ceilings_and_floors

    found: dict[str, SpeechReport] = {}
    different = {_fingerprint(voice): (name, voice) for name, voice in speakers.items()}
    of_tokens = ("true tokens", "shuffled text")
    for index, (name, voice) in enumerate(different.values()):
        which = BASELINES if index == 0 else of_tokens
        made = ceilings_and_floors(references, tokenizer_of(voice, name), which=which, **judging)
        many = len(different) > 1
        for label, report in made.items():
            ours = f"{label} of {voice_label(name)}" if many and label in of_tokens else label
            found[ours] = report
    return found


def _fingerprint(voice: Voice) -> float:
    """Equal for equal tokenizers."""
    weights = tokenizer_of(voice, "").state_dict().values()
    return sum(float(value.double().sum()) for value in weights)


def _parameters(voice: Voice) -> dict[str, int]:
    return {
        "model": sum(p.numel() for p in voice.model.parameters()),
        "tokenizer": sum(p.numel() for p in tokenizer_of(voice, "").parameters()),
    }


def _resynthesis(voice: Voice, references: list[Utterance], count: int = 5) -> float:
    """Seconds for one second of audio, from tokens, on one thread; over a few sentences."""
    import time

    import torch

    tokenizer = tokenizer_of(voice, "")
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
    console: Console, rows: list[dict[str, Any]], record: dict[str, Any], sentences: int, seeds: int
) -> None:
    from rich import box
    from rich.table import Table

    by_system: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_system.setdefault(row["system"], {})[row["metric"]] = row
    shown = [metric for metric in COLUMNS if any(metric in own for own in by_system.values())]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("system", overflow="fold")
    for metric in shown:
        table.add_column(COLUMNS[metric][0], justify="right", no_wrap=True)
    for system, own in by_system.items():
        table.add_row(system, *(_cell(own.get(metric), metric) for metric in shown))
    console.print(table)
    console.print()
    console.print(
        f"{sentences} sentences ({record['corpus']} corpus, split {record['split']}), "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}; 95 % intervals."
    )
    if record["unheard"]:
        console.print(f"Without word errors where no judge knows a word: {record['unheard']}.")
    for label, voice in record["voices"].items():
        millions = {part: f"{count / 1e6:.2f}" for part, count in voice["parameters"].items()}
        console.print(
            f"{label}: {millions['model']} million parameters, and {millions['tokenizer']} of the "
            f"tokenizer, which adds {voice['seconds_from_tokens_to_audio']:.3f} to the real-time "
            "factor."
        )


def _cell(row: dict[str, Any] | None, metric: str) -> str:
    _, factor, digits = COLUMNS[metric]
    if row is None or not math.isfinite(row["value"]):
        return ""
    value, low, high = (factor * row[part] for part in ("value", "low", "high"))
    return f"{value:.{digits}f}\n{low:.{digits}f}-{high:.{digits}f}"
