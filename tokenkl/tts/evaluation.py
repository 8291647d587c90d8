"""Judges of what a speech system said; they know nothing of models.

`evaluate` takes tokens (or audio) by sentence and seed and gives a `SpeechReport`;
`ceilings_and_floors` gives reports of the same form on the best and the worst that a system over
these tokens could do, so that one table holds all of them. Tokens of another program (`Codec`) make
no sound here: of these a report holds what tokens tell, lengths, usage and times.

CPU time for one sentence of 2.6 s on one core: tokens to audio 70 ms (Griffin-Lim 57), judge 158 ms
(unigram) and 143 ms (bigram), F0 13 ms, DNSMOS 370 ms, which is why only the first `mos` sentences
get an opinion. 120 sentences and 3 seeds are 2.3 minutes, and half a minute for 30 opinions each.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import math
import multiprocessing
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from tokenkl._progress import Report, reporting
from tokenkl._random import generator
from tokenkl._validation import check_choice, check_count, check_ids, reject
from tokenkl.tts.alignment import warped_distance
from tokenkl.tts.audio import Utterance
from tokenkl.tts.codec import Codec, check_references, own_tokenizer
from tokenkl.tts.data import Example
from tokenkl.tts.judge import (
    GRAMMARS,
    Grammar,
    Judge,
    Language,
    dnsmos,
    f0_contour,
    unpronounced,
    word_errors,
    words_of,
)
from tokenkl.tts.reports import SpeechReport
from tokenkl.tts.tokenizers import Tokenizer
from tokenkl.usage import token_usage

BASELINES = ("true audio", "resynthesis", "true tokens", "shuffled text", "white noise")
#: Those of them that need no sound.
OF_TOKENS = ("true tokens", "shuffled text")

#: What was said in truth: utterances, or examples of the tokens of another program.
References = Sequence[Utterance] | Sequence[Example]


@dataclasses.dataclass(frozen=True, eq=False)
class Spoken:
    """What a system said for one sentence and one seed.

    - `text`: what was to be said.
    - `tokens`: ids; None for a system without tokens.
    - `audio`: samples at 16 kHz; None for what the tokenizer makes of `tokens`.
    - `seconds`: of computing from text to tokens for this sentence alone, on one thread; None where
      that was not measured (in a batch, say).

    Raises:
        ValueError: neither tokens nor audio.
    """

    text: str
    tokens: Int[np.ndarray, " tokens"] | None = None
    audio: Float[np.ndarray, " samples"] | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.tokens is None and self.audio is None:
            reject("tokens, audio", "neither", "at least one of the two")


def evaluate(
    spoken: Mapping[int, Sequence[Spoken]],
    tokenizer: Tokenizer | Codec,
    references: References,
    *,
    label: str = "",
    grammars: Sequence[Grammar] = GRAMMARS,
    mos: int = 0,
    pitch: bool = True,
    mel: bool = False,
    language: Callable[[Grammar], Language] | None = None,
    workers: int = 1,
    progress: Report | None = None,
) -> SpeechReport:
    """Let all judges hear everything.

    The result depends neither on `workers` nor on the order of the seeds: phases of Griffin-Lim
    follow from seed and text, nothing is carried over between sentences, and PyTorch works with one
    thread. Speech without a token counts as silence: every word missing, no pitch, no opinion.

    Args:
        spoken: by seed, one for every reference, in their order.
        tokenizer: in evaluation mode, on the CPU. Where it is a `Codec` there is nothing to hear:
            no judge is asked, `grammars`, `pitch` and `workers` mean nothing.
        references: true utterances of the same texts, at least two; of a `Codec`, examples.
        label: of the system, for tables.
        grammars: of the judges to ask.
        mos: sentences, from the first on, that get a DNSMOS opinion.
        pitch: whether F0 is measured.
        mel: whether log-mel features are compared with those of the references, see
            `warped_distance`.
        language: what the judge of a grammar expects, that of the closed domain without it;
            sentences with words that no judge can hear have no word errors.
        workers: processes; more than one are spawned, so a script that asks for them needs the
            usual guard `if __name__ == "__main__"`.
        progress: called with the numbers of utterances done and in all; a bar when None.

    Raises:
        ValueError: no seed, fewer than two references, texts that differ, or an unknown grammar;
            of a `Codec`, speech without tokens, or a judge that needs sound.
    """
    rows = _checked(spoken, references)
    check_references(references, tokenizer)
    seeds = sorted(rows)
    if not tokenizer.can_be_heard:
        for name, value in (("mos", mos), ("mel", mel), ("language", language)):
            if value:
                reject(name, value, "left out for the tokens of another program, without sound")
        return _assemble(label, rows, references, [], tokenizer, (), ())
    for grammar in grammars:
        check_choice(grammar, GRAMMARS, "grammars")
    mos = min(check_count(mos, "mos", 0), len(references))
    utterances: Sequence[Any] = references
    silent = [language is not None and bool(unpronounced([one.text])) for one in references]
    jobs = [
        _Job(
            one.tokens,
            one.audio,
            _phases(seed, one.text),
            index < mos,
            utterances[index].audio if mel else None,
            not silent[index],
        )
        for seed in seeds
        for index, one in enumerate(rows[seed])
    ]
    title = f"judging {label}" if label else "judging"
    with reporting(title, progress) as report:
        found = []
        expected = {one: None if language is None else language(one) for one in grammars}
        listener = _Listener(expected, pitch, own_tokenizer(tokenizer))
        for one in _listen(listener, jobs, check_count(workers, "workers")):
            found.append(one)
            report(len(found), len(jobs))
    return _assemble(label, rows, references, found, tokenizer, grammars, silent)


def ceilings_and_floors(
    utterances: References,
    tokenizer: Tokenizer | Codec,
    *,
    which: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    key: Any = 0,
    **options: Any,
) -> dict[str, SpeechReport]:
    """What the judges say of the best and the worst that a system over these tokens could do.

    - "true audio": the utterances themselves.
    - "resynthesis": their log-mel features by Griffin-Lim.
    - "true tokens": their tokens, resynthesised: the ceiling of every system over these tokens.
    - "shuffled text": the true tokens of the sentence after it.
    - "white noise": as long and as loud as the utterance.

    Args:
        utterances: at least two; of a `Codec`, examples.
        tokenizer: as for `evaluate`.
        which: of the above; all that there can be when None, of a `Codec` those of tokens.
        seeds: of the first phases of Griffin-Lim and of the noise. Those of the systems that are
            compared make for the same phases. True audio has none, and is judged once.
        key: whole number or JAX random key, of the noise.
        **options: of `evaluate`.

    Raises:
        ValueError: an unknown name, one that is sound where there is none, or what `evaluate`
            refuses.
    """
    check_references(utterances, tokenizer)
    if which is None:
        which = BASELINES if tokenizer.can_be_heard else OF_TOKENS
    reports = {}
    known: Sequence[Any] = utterances
    texts = [utterance.text for utterance in utterances]
    for name in which:
        check_choice(name, BASELINES, "which")
        said: dict[int, list[Spoken]] = {}
        if name in OF_TOKENS:
            tokens = _true_tokens(known, tokenizer)
            moved = tokens if name == "true tokens" else tokens[1:] + tokens[:1]
            row = [Spoken(text, ids) for text, ids in zip(texts, moved, strict=True)]
            said = dict.fromkeys(seeds, row)
        else:
            ours = own_tokenizer(tokenizer)
            for seed in seeds if name != "true audio" else (0,):
                said[seed] = [
                    Spoken(one.text, audio=_baseline_audio(name, one, seed, ours, key))
                    for one in known
                ]
        reports[name] = evaluate(said, tokenizer, utterances, label=name, **options)
    return reports


def _true_tokens(references: Sequence[Any], tokenizer: Tokenizer | Codec) -> list[np.ndarray]:
    if not tokenizer.can_be_heard:
        return [one.tokens for one in references]
    with _one_thread():
        return [own_tokenizer(tokenizer).tokenize(one.audio) for one in references]


def _baseline_audio(
    name: str, utterance: Utterance, seed: int, tokenizer: Tokenizer, key: Any
) -> np.ndarray:
    if name == "true audio":
        return utterance.audio
    if name == "white noise":
        rng = generator(key, seed, zlib.crc32(utterance.text.encode()))
        loudness = float(np.sqrt(np.mean(utterance.audio**2)))
        return loudness * rng.standard_normal(utterance.audio.size)
    with _one_thread():
        mel = tokenizer.frontend(torch.from_numpy(utterance.audio).to(tokenizer.device))
        phases = _phases(seed, utterance.text)
        return tokenizer.frontend.griffin_lim(mel, key=phases).cpu().numpy()


def _checked(
    spoken: Mapping[int, Sequence[Spoken]], references: References
) -> dict[int, Sequence[Spoken]]:
    if not spoken:
        reject("spoken", "no seed", "a mapping with at least one seed")
    if len(references) < 2:
        reject("references", f"{len(references)} of them", "at least two utterances")
    texts = [utterance.text for utterance in references]
    for seed, row in spoken.items():
        check_count(seed, "every seed of spoken", 0)
        said = [one.text for one in row]
        if len(said) != len(texts):
            reject(f"spoken[{seed}]", f"{len(said)} of them", f"one for each of {len(texts)} texts")
        for index, (one, text) in enumerate(zip(said, texts, strict=True)):
            if one != text:
                reject(f"spoken[{seed}][{index}].text", one, f"that of its reference, {text!r}")
    return dict(spoken)


def _phases(seed: int, text: str) -> int:
    """The key of Griffin-Lim's first phases: the same for all systems."""
    return (int(seed) << 32) + zlib.crc32(text.encode())


# ---- Listening -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    tokens: np.ndarray | None
    audio: np.ndarray | None
    key: int
    mos: bool
    true: np.ndarray | None = None
    words: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class _Heard:
    samples: int
    heard: tuple[str, ...]
    numbers: dict[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class _Listener:
    """All judges; decoders are made at first use and kept."""

    languages: Mapping[Grammar, Language | None]
    pitch: bool
    tokenizer: Tokenizer

    def __call__(self, job: _Job) -> _Heard:
        audio = job.audio
        if audio is None:
            ids = check_ids(job.tokens, self.tokenizer.K, "tokens")
            audio = self.tokenizer.synthesise(ids, key=job.key) if ids.size else np.zeros(0)
        numbers: dict[str, float] = {}
        if self.pitch:
            numbers |= _pitch(audio)
        if job.mos and audio.size:
            numbers["mos"] = dnsmos(audio).overall
        if job.true is not None and audio.size:
            frontend, where = self.tokenizer.frontend, self.tokenizer.device
            heard_and_true = (one.astype(np.float32) for one in (audio, job.true))
            features = (
                frontend(torch.from_numpy(one).to(where)).cpu().numpy() for one in heard_and_true
            )
            numbers["mel_error"] = warped_distance(*(one.astype(float) for one in features))
        heard = tuple(
            _judge(*pair).transcribe(audio) if job.words else "" for pair in self.languages.items()
        )
        return _Heard(audio.size, heard, numbers)


@functools.cache
def _judge(grammar: Grammar, language: Language | None) -> Judge:
    return Judge(grammar, language=language)


def _pitch(audio: np.ndarray) -> dict[str, float]:
    contour = f0_contour(audio)
    f0 = contour[np.isfinite(contour)]
    if f0.size == 0:
        return {"voiced": 0.0}
    return {
        "voiced": f0.size / contour.size,
        "f0_mean": float(f0.mean()),
        "f0_within": float(f0.std()),
        "f0_semitones": float(12 * np.log2(f0).mean()),
    }


class _one_thread:
    """PyTorch with one thread: with more, the last bits depend on how many there are."""

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)


def _listen(listener: _Listener, jobs: Sequence[_Job], workers: int) -> Iterator[_Heard]:
    """What is heard of every job, in their order."""
    if workers == 1:
        with _one_thread():
            yield from map(listener, jobs)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.safetensors"
        listener.tokenizer.save(path)
        with concurrent.futures.ProcessPoolExecutor(
            workers,
            multiprocessing.get_context("spawn"),
            _start_worker,
            (listener.languages, listener.pitch, str(path)),
        ) as pool:
            yield from pool.map(_work, jobs, chunksize=4)


_listener: _Listener | None = None


def _start_worker(languages: Mapping[Grammar, Language | None], pitch: bool, path: str) -> None:
    global _listener
    torch.set_num_threads(1)
    _listener = _Listener(languages, pitch, Tokenizer.load(path))


def _work(job: _Job) -> _Heard:
    assert _listener is not None
    return _listener(job)


# ---- From what was heard to a report -------------------------------------------------------------


def _assemble(
    label: str,
    rows: Mapping[int, Sequence[Spoken]],
    references: References,
    found: Sequence[_Heard],
    tokenizer: Tokenizer | Codec,
    grammars: Sequence[Grammar],
    silent: Sequence[bool],
) -> SpeechReport:
    """`found` has one entry for every sentence of the first seed, then of the next."""
    seeds = sorted(rows)
    n = len(references)
    said = [one for seed in seeds for one in rows[seed]]
    lengths, true_lengths = _lengths(said, references, found, tokenizer)

    def table(values: Sequence[float | None]) -> Float[np.ndarray, "sentences seeds"]:
        return np.array(values, dtype=float).reshape(len(seeds), n).T

    texts = tuple(reference.text for reference in references)
    plain = tuple(" ".join(words_of(text)) for text in texts)
    arrays = {
        "words": table([float(len(words_of(text))) for text in texts] * len(seeds)),
        "duration": table([size / tokenizer.token_rate for size in lengths]),
        "true_duration": table([size / tokenizer.token_rate for size in true_lengths] * len(seeds)),
    }
    for name in ("mos", "mel_error", "voiced", "f0_mean", "f0_within", "f0_semitones"):
        if any(name in one.numbers for one in found):
            arrays[name] = table([one.numbers.get(name, math.nan) for one in found])
    if any(one.seconds is not None for one in said):
        arrays["seconds"] = table([one.seconds for one in said])
    heard: dict[str, tuple[tuple[str, ...], ...]] = {}
    for index, grammar in enumerate(grammars):
        transcripts = [one.heard[index] for one in found]
        errors = table([float(x) for x in word_errors(plain * len(seeds), transcripts).errors])
        errors[silent] = math.nan
        arrays[f"errors_{grammar}"] = errors
        heard[grammar] = tuple(tuple(transcripts[i::n]) for i in range(n))
    used: tuple[int, ...] = ()
    ids = [[one.tokens for one in rows[seed] if one.tokens is not None] for seed in seeds]
    # A jackknife needs two utterances with tokens.
    if all(len(row) == n and sum(one.size > 0 for one in row) >= 2 for row in ids):
        usages = [token_usage(row, tokenizer.K) for row in ids]
        arrays["entropy"] = np.stack([usage.by_utterance for usage in usages], axis=1)
        used = tuple(usage.used for usage in usages)
    names = tuple(reference.name for reference in references)
    K = tokenizer.K if used else 0
    return SpeechReport(label, names, texts, tuple(seeds), arrays, heard, K, used)


def _lengths(
    said: Sequence[Spoken],
    references: Sequence[Any],
    found: Sequence[_Heard],
    tokenizer: Tokenizer | Codec,
) -> tuple[list[int], list[int]]:
    """Tokens of what was said and of what is true; of sound, whole ones, as the tokenizer pads."""
    if tokenizer.can_be_heard:
        each = own_tokenizer(tokenizer).config.mel.samples_per_token
        return (
            [-(-one.samples // each) for one in found],
            [-(-one.audio.shape[0] // each) for one in references],
        )
    if any(one.tokens is None for one in said):
        reject("spoken", "audio alone", "with tokens, where there is no sound of a tokenizer")
    ids = [check_ids(one.tokens, tokenizer.K, "tokens") for one in said]
    return [row.size for row in ids], [one.tokens.size for one in references]
