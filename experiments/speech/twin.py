"""The diffusion model and its autoregressive twin, heard and timed in one process.

Voices are trained by `make_voices`, one after the other, and then say the same sentences one by one
on one thread, so that their times can be compared.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenkl._files import atomic_path
from tokenkl.tts.ar import AR
from tokenkl.tts.data import Example
from tokenkl.tts.evaluation import Spoken, ceilings_and_floors, evaluate
from tokenkl.tts.recipes import Recipe, Workspace
from tokenkl.tts.speaking import nats
from tokenkl.tts.training import PRESETS
from tokenkl.tts.training_log import loss_band
from tokenkl.tts.voice import INCLUDED, WEIGHTS, Voice

#: Tokens for one character in the training examples, where the AR models' text positions lie.
PACE = 1.65

_SMALL = dataclasses.replace(PRESETS["small"], learning_rate=1.5e-3)


def _ar(steps: int, rate: float) -> dict[str, Any]:
    changes = (("pace", PACE), ("dropout", 0.1), ("token_dropout", 0.1))
    training = dataclasses.replace(_SMALL, steps=steps, learning_rate=rate)
    return {"text": "characters", "changes": changes, "training": training}


#: As these were made, which was before output priors.
_FACTORISED = (("head", "factorised"), ("output_prior", False))

#: The voices that are compared. The first comes with the package; the second did, see
#: `rivals.NEXT`.
VOICES: dict[str, Recipe] = {
    "phonemes": Recipe(changes=(*_FACTORISED, ("depth", 4), ("text_blocks", 1)), training=_SMALL),
    "characters": Recipe(
        text="characters", changes=_FACTORISED, training=dataclasses.replace(_SMALL, steps=4000)
    ),
    # As long as it helps: in a first run of 2000 steps the validation loss of AR was at its lowest
    # after about 900. The larger one learns, and overfits, in fewer steps.
    "ar": Recipe(model="ar", **_ar(1000, 1.5e-3)),
    "ar-10x": Recipe(model="ar-10x", **_ar(300, 1e-3)),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A voice, the options it speaks with, and the seeds of sampling."""

    name: str
    voice: str
    options: tuple[tuple[str, Any], ...]
    seeds: tuple[int, ...] = (0, 1, 2)


def _diffusion(voice: str, steps: int, seeds: int, **options: Any) -> Cell:
    name = "-".join([voice, str(steps), *(str(value) for value in options.values())])
    return Cell(name, voice, (("steps", steps), *options.items()), tuple(range(seeds)))


CELLS: tuple[Cell, ...] = (
    _diffusion("phonemes", 10, 3),
    _diffusion("characters", 10, 3),
    Cell("ar-0.8", "ar", (("temperature", 0.8),)),
    Cell("ar-10x-0.8", "ar-10x", (("temperature", 0.8),), (0,)),
    _diffusion("characters", 25, 1),
    _diffusion("characters", 5, 1),
    _diffusion("characters", 2, 1),
    Cell("ar-0.5", "ar", (("temperature", 0.5),), (0,)),
    Cell("ar-1.0", "ar", (("temperature", 1.0),), (0,)),
    _diffusion("phonemes", 5, 1),
    _diffusion("phonemes", 2, 1),
    _diffusion("characters", 10, 1, guidance=0.0),
    _diffusion("characters", 5, 1, grid="optimal"),
)

#: Sentences of the test split, and those of them that get a DNSMOS opinion.
SENTENCES, OPINIONS = 100, 20


def make_voices(workspace: Workspace, only: Sequence[str]) -> None:
    """Train what is not there yet, of these."""
    for name, recipe in VOICES.items():
        if name in only:
            workspace.voice(recipe, name, half=True, cpu=True)


def include_voices(workspace: Workspace, characters: Voice) -> None:
    """Put the voices that come with the package, and their tokenizer, where they belong.

    Losses are of the voices of C7, which others without output prior can be compared with.
    """
    WEIGHTS.mkdir(exist_ok=True)
    shutil.copyfile(
        workspace.tokenizer_path(VOICES[INCLUDED[0]]), WEIGHTS / "tokenizer.safetensors"
    )
    voices = {"phonemes": Voice.load(workspace.voice_path("phonemes")), "characters": characters}
    for name in INCLUDED:
        voices[name].save(WEIGHTS / f"{name}.safetensors", "tokenizer.safetensors", half=True)
        with atomic_path(WEIGHTS / f"loss-{name}.csv") as temporary:
            band = loss_band([workspace.folder / name])
            band.to_csv(temporary, index=False, float_format="%.4f")


def listen_to_all(
    workspace: Workspace, folder: Path, only: str, say: Callable[[str], None]
) -> None:
    """Hear every cell, and what the judges say of true and of wrong speech; one file each."""
    references = workspace.corpus("plain").split("test")[:SENTENCES]
    tokenizer = workspace.tokenizer(VOICES["phonemes"])
    folder.mkdir(parents=True, exist_ok=True)
    if not only and not (folder / "baseline-white-noise.json").is_file():
        for name, report in ceilings_and_floors(references, tokenizer, mos=OPINIONS).items():
            report.save(folder / f"baseline-{name.replace(' ', '-')}.json")
            say(f"{name}: bigram WER {report.value('wer_bigram'):.4f}")
    for cell in CELLS:
        path = folder / f"{cell.name}.json"
        voice_path = workspace.voice_path(cell.voice)
        wanted = cell.name.startswith(tuple(only.split(",")))
        if path.is_file() or not wanted or not voice_path.is_file():
            continue
        voice = Voice.load(voice_path)
        spoken = {seed: _speak(voice, references, cell, seed) for seed in cell.seeds}
        report = evaluate(spoken, tokenizer, references, label=cell.name, mos=OPINIONS)
        report.save(path)
        rates = " ".join(f"{g} {report.value(f'wer_{g}'):.4f}" for g in ("unigram", "bigram"))
        say(f"{cell.name}: {rates} rtf {report.value('rtf'):.3f}")
    for name in VOICES:
        path = folder / f"likelihood-{name}.json"
        if not path.is_file() and not only and workspace.voice_path(name).is_file():
            record = likelihood(Voice.load(workspace.voice_path(name)), references)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(record) + "\n")
            say(f"{name}: {np.mean(record['nats_per_token']):.3f} nats per token")


def _speak(voice: Voice, references: Sequence[Any], cell: Cell, seed: int) -> list[Spoken]:
    options = dict(cell.options)
    voice.tokens([references[0].text], key=seed, **options)  # the first call pays for set-up
    spoken = []
    for index, reference in enumerate(references):
        started = time.perf_counter()
        key = 1000 * seed + index
        [ids] = voice.tokens([reference.text], key=key, **options)
        spoken.append(Spoken(reference.text, ids, seconds=time.perf_counter() - started))
    return spoken


#: What is timed: the voice and its options.
TIMED: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"characters-{n}": ("characters", {"steps": n}) for n in (2, 5, 10, 25)},
    **{f"phonemes-{n}": ("phonemes", {"steps": n}) for n in (2, 5, 10)},
    "characters-10-0.0": ("characters", {"steps": 10, "guidance": 0.0}),
    "ar": ("ar", {"temperature": 0.8}),
    "ar-10x": ("ar-10x", {"temperature": 0.8}),
}


def time_all(workspace: Workspace, path: Path, sentences: int = 20) -> dict[str, Any]:
    """Computing time for a second of speech, all systems taking turns on every sentence.

    One process, one thread, one sentence at a time. Medians over sentences; "vocoder" is from
    tokens to audio, and comes on top of every other.
    """
    references = workspace.corpus("plain").split("test")[:sentences]
    voices = {
        name: Voice.load(workspace.voice_path(name))
        for name in {voice for voice, _ in TIMED.values()}
        if workspace.voice_path(name).is_file()
    }
    factors: dict[str, list[float]] = {}
    latencies: dict[str, list[float]] = {}
    for index, reference in enumerate([references[0], *references]):
        for name, (voice, options) in TIMED.items():
            if voice not in voices:
                continue
            started = time.perf_counter()
            [ids] = voices[voice].tokens([reference.text], key=index, **options)
            seconds = time.perf_counter() - started
            if index and ids.size:  # the first round pays for set-up
                factors.setdefault(name, []).append(seconds * 25 / ids.size)
                latencies.setdefault(name, []).append(seconds)
        ids = np.asarray(ids)
        started = time.perf_counter()
        voices["characters"].audio(ids)
        factors.setdefault("vocoder", []).append((time.perf_counter() - started) * 25 / ids.size)
    record = {
        "sentences": sentences,
        "real_time_factor": {n: round(float(np.median(v)), 5) for n, v in factors.items()},
        "latency_seconds": {n: round(float(np.median(v)), 4) for n, v in latencies.items()},
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    return record


def likelihood(voice: Voice, references: Sequence[Any], draws: int = 48) -> dict[str, Any]:
    """Nats per token of every sentence: exact for AR, a variational bound for diffusion.

    Diffusion is told the length (and, with phonemes, all durations); AR pays for EOS.
    """
    examples: list[Example] = voice.examples(references)
    sizes = np.array([one.tokens.size for one in examples])
    rows = nats(voice, examples, draws=draws) / sizes
    return {
        "kind": "exact" if isinstance(voice.model, AR) else "bound",
        "nats_per_token": [round(float(x), 5) for x in rows],
        "tokens": sizes.tolist(),
        "parameters": sum(p.numel() for p in voice.model.parameters()),
    }
