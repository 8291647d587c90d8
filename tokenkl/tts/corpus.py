"""A synthetic corpus of the closed domain, spoken by espeak-ng, made at first use and cached.

Everything follows from `CorpusConfig`: the same configuration gives the same sentences, samples and
phoneme boundaries. Splits:

- "train", "valid", "test": distinct sentences. None of them holds a held-out combination.
- "combinations": sentences with at least one combination of words that "train" never has
  (adjective and object, ordinal and month, two neighbouring digits).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenkl._files import PathLike, atomic_path
from tokenkl._files import cache_folder as cache_folder
from tokenkl._formats import open_arrays, reading
from tokenkl._progress import Report, reporting
from tokenkl._random import generator
from tokenkl._validation import as_float_array, check_choice, check_count, reject
from tokenkl.tts import espeak
from tokenkl.tts.audio import PAUSE, SAMPLE_RATE, Alignment, Utterance, to_int16
from tokenkl.tts.grammar import DOMAINS, TEMPLATES, Words, all_combinations, templates_of

SPLITS = ("train", "valid", "test", "combinations")

#: Raised whenever the files of the cache change their meaning.
FORMAT = 1

#: Samples over which sound fades at a pause: 10 ms.
FADE = 160

#: Utterances in one file, which is also what one process of espeak-ng speaks.
SHARD = 50


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """What determines the corpus.

    Args:
        seed: whole number, at least 0, of all random choices.
        train, valid, test, combinations: numbers of utterances.
        shares: shares of the domains ("objects", "dates", "digits"), not negative, summing to 1.
        held_out: share of the combinations of each domain that only "combinations" has, above 0
            and below 1.
        voices: names that espeak-ng knows; every utterance draws one.
        rate: words a minute, 80 to 450.
        pitch: 0 to 100 on espeak-ng's scale, 50 being the voice's own.
        rate_jitter: every utterance multiplies `rate` by a uniform draw from 1 -+ this.
        pitch_jitter: every utterance adds to `pitch` a uniform draw from -+ this.
        pause: seconds, 0 to 10; between any two words there is a silence that lasts a uniform draw
            from 0 to this.

    Raises:
        ValueError: a value outside its range.
    """

    seed: int = 0
    train: int = 1200
    valid: int = 60
    test: int = 120
    combinations: int = 120
    shares: tuple[float, float, float] = (0.5, 0.25, 0.25)
    held_out: float = 0.1
    voices: tuple[str, ...] = ("en-us+klatt4",)
    rate: int = 150
    pitch: int = 50
    rate_jitter: float = 0.0
    pitch_jitter: float = 0.0
    pause: float = 0.0

    def __post_init__(self) -> None:
        check_count(self.seed, "seed", 0)
        for split in SPLITS:
            check_count(self.size(split), split, 0)
        shares = tuple(float(share) for share in self.shares)
        if len(shares) != len(DOMAINS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
            reject("shares", self.shares, "three shares, at least 0, that sum to 1")
        if not 0 < self.held_out < 1:
            reject("held_out", self.held_out, "above 0 and below 1")
        if not self.voices or isinstance(self.voices, str):
            reject("voices", self.voices, "a tuple with at least one name")
        low, high = self.rate * (1 - self.rate_jitter), self.rate * (1 + self.rate_jitter)
        if self.rate_jitter < 0 or not (low >= 80 and high <= 450):
            reject("rate", f"{self.rate} and rate_jitter {self.rate_jitter}", "in 80 to 450")
        low, high = self.pitch - self.pitch_jitter, self.pitch + self.pitch_jitter
        if self.pitch_jitter < 0 or not (low >= 0 and high <= 100):
            reject("pitch", f"{self.pitch} and pitch_jitter {self.pitch_jitter}", "in 0 to 100")
        if not 0 <= as_float_array("pause", self.pause, ndim=0) <= 10:
            reject("pause", self.pause, "in 0 to 10")
        # From JSON come lists, and equal configurations must be equal.
        object.__setattr__(self, "shares", shares)
        object.__setattr__(self, "voices", tuple(self.voices))

    @classmethod
    def jittered(cls, **changes: Any) -> CorpusConfig:
        """The harder task: pitch 50 -+ 20, rate 150 -+ 25 %, otherwise as the default."""
        return cls(**{"rate_jitter": 0.25, "pitch_jitter": 20.0, **changes})

    @classmethod
    def paused(cls, **changes: Any) -> CorpusConfig:
        """Digits with pauses of 0 to 0.5 s between them, otherwise as the default.

        When a word is spoken cannot be known from the text, and hangs on when all others are: the
        law of each token by itself says little of how to speak.
        """
        return cls(**{"shares": (0.0, 0.0, 1.0), "pause": 0.5, **changes})

    def size(self, split: str) -> int:
        """Number of utterances of a split."""
        return getattr(self, check_choice(split, SPLITS, "split"))

    def digest(self) -> str:
        """A short name for everything that the cached files depend on."""
        config = dataclasses.asdict(self)
        if not self.pause:  # so that corpora from before there were any keep their names
            del config["pause"]
        record = {
            "config": config,
            "format": FORMAT,
            "shard": SHARD,
            "espeakng_loader": espeak.version(),
            "templates": repr(TEMPLATES),
        }
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def held_out_combinations(config: CorpusConfig) -> dict[str, frozenset[tuple[str, str]]]:
    """The combinations of each domain that only the split "combinations" has."""
    held = {}
    for index, domain in enumerate(DOMAINS):
        pairs = all_combinations(domain)
        order = generator(config.seed, 0, index).permutation(len(pairs))
        count = max(1, round(config.held_out * len(pairs)))
        held[domain] = frozenset(pairs[i] for i in order[:count])
    return held


@dataclasses.dataclass(frozen=True)
class Sentence:
    """One sentence of the domain and how it is to be spoken; pauses in seconds, after each word but
    the last."""

    domain: str
    words: Words
    voice: str
    rate: int
    pitch: int
    pauses: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def held_out_in(config: CorpusConfig, sentences: Iterable[Sentence]) -> int:
    """How many of the held-out combinations of a corpus there are in sentences, of any corpus."""
    heard = {
        (one.domain, pair)
        for one in sentences
        for template in templates_of(one.domain)
        if template.matches(one.words)
        for pair in template.combinations(one.words)
    }
    held = held_out_combinations(config)
    return sum((domain, pair) in heard for domain, pairs in held.items() for pair in pairs)


def make_sentences(config: CorpusConfig) -> dict[str, list[Sentence]]:
    """The sentences of every split, without speech; no sentence occurs twice.

    Raises:
        ValueError: the domain has too few sentences for what is asked.
    """
    held = held_out_combinations(config)
    seen: set[Words] = set()
    splits: dict[str, list[Sentence]] = {}
    for index, split in enumerate(SPLITS):
        rng = generator(config.seed, 1, index)
        drawn: list[tuple[str, Words]] = []
        for domain, count in zip(DOMAINS, _portions(config, split), strict=True):
            wants_held = split == "combinations"
            drawn += _draw(domain, count, held[domain], wants_held, seen, rng)
        order = rng.permutation(len(drawn))
        prosody = generator(config.seed, 2, index)
        splits[split] = [_with_prosody(config, drawn[i], prosody) for i in order]
    return splits


def _portions(config: CorpusConfig, split: str) -> list[int]:
    """Whole numbers with the shares of the domains that sum to the size of the split."""
    total = config.size(split)
    edges = [round(total * sum(config.shares[:i])) for i in range(len(DOMAINS) + 1)]
    return [edges[i + 1] - edges[i] for i in range(len(DOMAINS))]


def _draw(
    domain: str,
    count: int,
    held: frozenset[tuple[str, str]],
    wants_held: bool,
    seen: set[Words],
    rng: np.random.Generator,
) -> list[tuple[str, Words]]:
    templates = templates_of(domain)
    drawn: list[tuple[str, Words]] = []
    misses = 0
    while len(drawn) < count:
        template = templates[int(rng.integers(len(templates)))]
        words = template.sample(rng)
        if words in seen or bool(template.combinations(words) & held) != wants_held:
            misses += 1
            if misses > 1000 + 200 * count:
                reject(
                    "the corpus",
                    f"{count} sentences about {domain}",
                    "small enough for the domain to have that many different sentences",
                )
            continue
        seen.add(words)
        drawn.append((domain, words))
    return drawn


def _with_prosody(
    config: CorpusConfig, drawn: tuple[str, Words], rng: np.random.Generator
) -> Sentence:
    domain, words = drawn
    voice = config.voices[int(rng.integers(len(config.voices)))]
    factor = rng.uniform(1 - config.rate_jitter, 1 + config.rate_jitter)
    shift = rng.uniform(-config.pitch_jitter, config.pitch_jitter)
    pauses: tuple[float, ...] = ()
    if config.pause:
        pauses = tuple(rng.uniform(0, config.pause, len(words) - 1).tolist())
    rate, pitch = round(config.rate * factor), round(config.pitch + shift)
    return Sentence(domain, words, voice, rate, pitch, pauses)


def _with_pauses(speech: espeak.Speech, pauses: Sequence[float]) -> espeak.Speech:
    """Silence put between words: seconds after each word but the last.

    Around each the sound fades out and in, over `FADE` samples or half of what there is between two
    pauses. The silence is a phoneme of its own, `PAUSE`.
    """
    alignment = speech.alignment
    words = np.maximum.accumulate(alignment.words)  # that of a pause is the one before it
    places = [int(np.argmax(words > index)) for index in range(len(pauses))]
    cuts = alignment.edges[places]
    silences = [round(seconds * SAMPLE_RATE) for seconds in pauses]
    parts = np.split(speech.audio, cuts)
    for index, part in enumerate(parts):
        parts[index] = _faded(part, before=index > 0, after=index < len(cuts))
    audio = [parts[0]]
    for silence, part in zip(silences, parts[1:], strict=True):
        audio += [np.zeros(silence, np.float32), part]
    lengths = np.insert(np.diff(alignment.edges), places, silences)
    phonemes = np.insert(np.array(alignment.phonemes, object), places, PAUSE)
    return espeak.Speech(
        np.concatenate(audio),
        Alignment(
            tuple(phonemes.tolist()),
            np.append(0, np.cumsum(lengths)),
            np.insert(alignment.words, places, -1),
        ),
    )


def _faded(sound: np.ndarray, *, before: bool, after: bool) -> np.ndarray:
    """With a raised cosine at the ends that lie at a pause."""
    n = min(FADE, len(sound) // 2)
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / FADE)).astype(np.float32)
    gain = np.ones(len(sound), np.float32)
    if before:
        gain[:n] = rise
    if after:
        gain[len(sound) - n :] = rise[::-1]
    return sound * gain


class Corpus:
    """The splits of one configuration; read a split at its first use."""

    def __init__(self, config: CorpusConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self._splits: dict[str, list[Utterance]] = {}

    def split(self, name: str) -> list[Utterance]:
        """All utterances of "train", "valid", "test" or "combinations".

        Raises:
            ValueError: an unknown split.
        """
        if check_choice(name, SPLITS, "split") not in self._splits:
            shards = _shards(self.config, name)
            self._splits[name] = [u for one in shards for u in _load_shard(one.path(self.folder))]
        return self._splits[name]

    @functools.cached_property
    def sentences(self) -> dict[str, list[Sentence]]:
        """What is said in every split, and how."""
        return make_sentences(self.config)

    def __iter__(self) -> Iterator[str]:
        return iter(SPLITS)


def load_corpus(
    config: CorpusConfig | None = None,
    *,
    folder: PathLike | None = None,
    progress: Report | None = None,
) -> Corpus:
    """The corpus of a configuration, from the cache or generated now.

    Files appear whole or not at all, so that an interrupted run goes on where it stopped and ends
    with the same bytes; a damaged file is made anew. The default configuration, an hour of
    speech, takes about half a minute.

    Args:
        config: `CorpusConfig()` when None.
        folder: where the corpora lie, each in a folder of its own; `cache_folder()` / "corpus"
            when None.
        progress: called with the numbers of utterances done and in all; a bar on stderr when None.

    Raises:
        ImportError: the extra `tts-data` is not installed.
        ValueError: a voice that espeak-ng does not have, or more sentences than the domain has.
    """
    config = config or CorpusConfig()
    root = Path(folder) if folder is not None else cache_folder() / "corpus"
    target = root / config.digest()
    target.mkdir(parents=True, exist_ok=True)
    shards = [shard for split in SPLITS for shard in _shards(config, split)]
    missing = [shard for shard in shards if not _is_whole(shard.path(target))]
    if missing:
        with atomic_path(target / "config.json") as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")
        sentences = make_sentences(config)
        total = sum(config.size(split) for split in SPLITS)
        done = total - sum(shard.stop - shard.start for shard in missing)
        with reporting("speaking the corpus", progress) as report:
            report(done, total)
            for shard in missing:
                _make_shard(shard, sentences[shard.split], shard.path(target))
                done += shard.stop - shard.start
                report(done, total)
    return Corpus(config, target)


# ---- Files ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Shard:
    split: str
    start: int
    stop: int

    def path(self, folder: Path) -> Path:
        return folder / f"{self.split}-{self.start:05d}.npz"


def _shards(config: CorpusConfig, split: str) -> list[_Shard]:
    size = config.size(split)
    return [_Shard(split, start, min(start + SHARD, size)) for start in range(0, size, SHARD)]


def _make_shard(shard: _Shard, sentences: list[Sentence], path: Path) -> None:
    chosen = sentences[shard.start : shard.stop]
    requests = [espeak.Request(s.text, s.voice, s.rate, s.pitch) for s in chosen]
    spoken = [
        _with_pauses(speech, sentence.pauses)
        for speech, sentence in zip(espeak.speak(requests), chosen, strict=True)
    ]
    alignments = [speech.alignment for speech in spoken]
    arrays: dict[str, Any] = {
        "names": np.array([f"{shard.split}-{shard.start + i:05d}" for i in range(len(chosen))]),
        "texts": np.array([s.text for s in chosen]),
        "voices": np.array([s.voice for s in chosen]),
        "rates": np.array([s.rate for s in chosen]),
        "pitches": np.array([s.pitch for s in chosen]),
        "audio": to_int16(np.concatenate([speech.audio for speech in spoken])),
        "audio_ends": np.cumsum([speech.audio.shape[0] for speech in spoken]),
        "phonemes": np.array([name for a in alignments for name in a.phonemes]),
        "phoneme_ends": np.cumsum([len(a.phonemes) for a in alignments]),
        "edges": np.concatenate([a.edges for a in alignments]),  # one more than phonemes each
        "words": np.concatenate([a.words for a in alignments]),
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


#: Arrays of a shard and what they hold: texts, whole numbers, or samples.
_KINDS = {
    "names": "U", "texts": "U", "voices": "U", "phonemes": "U", "rates": "iu", "pitches": "iu",
    "audio": "i", "audio_ends": "iu", "phoneme_ends": "iu", "edges": "iu", "words": "iu",
}  # fmt: skip


def _load_shard(path: Path) -> list[Utterance]:
    with reading(path, "a part of a corpus") as file, open_arrays(file) as source:
        arrays = {name: source.read(name) for name in _KINDS}
        for name, array in arrays.items():
            if array.ndim != 1 or array.dtype.kind not in _KINDS[name]:
                reject(name, f"{array.ndim} axes of {array.dtype}", "one row of its kind")
        count = arrays["names"].size
        parts = {
            "audio": _split(arrays, "audio", "audio_ends", count),
            "phonemes": _split(arrays, "phonemes", "phoneme_ends", count),
            "words": _split(arrays, "words", "phoneme_ends", count),
            "edges": _split(arrays, "edges", "phoneme_ends", count, 1),
        }
        for name in ("texts", "voices", "rates", "pitches"):
            if arrays[name].size != count:
                reject(name, f"{arrays[name].size} of them", f"{count}, one for each name")
    return [
        Utterance(
            name=str(arrays["names"][i]),
            text=str(arrays["texts"][i]),
            audio=parts["audio"][i].astype(np.float32) / 32768,
            speaker=str(arrays["voices"][i]),
            alignment=Alignment(
                tuple(str(p) for p in parts["phonemes"][i]), parts["edges"][i], parts["words"][i]
            ),
            prosody={"rate": float(arrays["rates"][i]), "pitch": float(arrays["pitches"][i])},
        )
        for i in range(count)
    ]


def _split(
    arrays: dict[str, np.ndarray], name: str, ends: str, count: int, more: int = 0
) -> list[np.ndarray]:
    """An array by utterances, each with `more` entries beyond those that `ends` counts."""
    edges = arrays[ends].astype(np.int64) + more * np.arange(1, arrays[ends].size + 1)
    if edges.size != count or (np.diff(edges, prepend=0) < 0).any():
        reject(ends, "others", f"{count} whole numbers that do not decrease")
    if count and edges[-1] != arrays[name].size:
        reject(name, f"{arrays[name].size} of them", f"as many as {ends} says, {edges[-1]}")
    return np.split(arrays[name], edges[:-1])


def _is_whole(path: Path) -> bool:
    """Whether the file is there and every array in it passes its checksum."""
    try:
        _load_shard(path)
    except ValueError:  # whatever the damage, it is made anew
        return False
    return True
