"""Recorded corpora as training material: what a recipe learns from a folder on disk.

The folders are read by `tokenkl.tts.loaders`. Samples are never held all at once: an utterance is
read, turned into token ids, and forgotten; the ids are kept in a file of the workspace.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from tokenkl._files import atomic_path, file_digest
from tokenkl._progress import Report, reporting
from tokenkl._random import generator
from tokenkl._validation import check_choice, check_positive, reject
from tokenkl.tts.audio import Utterance
from tokenkl.tts.codec import Codec
from tokenkl.tts.data import Example, TextEncoder
from tokenkl.tts.frontend import decode_characters
from tokenkl.tts.loaders import OnBad, Recordings, load_cdcd, load_libritts, load_ljspeech
from tokenkl.tts.normalisation import spoken, warn_unread
from tokenkl.tts.tokenizers import Tokenizer
from tokenkl.tts.triplets import load_triplets

SourceKind = Literal["ljspeech", "libritts", "cdcd", "tokens"]
SOURCES = ("ljspeech", "libritts", "cdcd", "tokens")

Named = TypeVar("Named")

#: Speech that a tokenizer is trained on, in seconds: it sees far fewer crops than that in training.
TOKENIZER_SECONDS = 5 * 3600.0

#: At most so many recordings are kept for validation, and at most every twentieth.
VALID = 60


@dataclasses.dataclass(frozen=True)
class Source:
    """A corpus on disk.

    Args:
        kind: "ljspeech" or "libritts" (folders of recordings), "cdcd" (the token files of the
            CDCD-TTS repository, which come with token ids and without audio), or "tokens" (ids of
            any codec and their texts, see `tokenkl.tts.triplets`).
        folder: where it is; of "tokens" one file will do.
        on_bad: whether bad files are skipped or refused.
        longest: seconds; longer recordings are not learned from. None for no limit.
        codebook: of "tokens" alone: a file that `tokenkl.load_codebook` reads.
        token_rate: likewise: tokens a second.

    Raises:
        ValueError: an unknown kind or choice, a limit that is not above 0, or "tokens" without a
            codebook and a rate, or others with them.
    """

    kind: SourceKind
    folder: str
    on_bad: OnBad = "refuse"
    longest: float | None = None
    codebook: str | None = None
    token_rate: float | None = None

    def __post_init__(self) -> None:
        check_choice(self.kind, SOURCES, "kind")
        check_choice(self.on_bad, ("skip", "refuse"), "on_bad")
        if self.longest is not None:
            check_positive(self.longest, "longest")
        for name in ("codebook", "token_rate"):
            value, needed = getattr(self, name), self.kind == "tokens"
            if (value is None) == needed:
                reject(name, value, f"{'given' if needed else 'None'} for a {self.kind} corpus")

    @property
    def label(self) -> str:
        """For the names of files: the kind, and a digest of the place."""
        place = hashlib.sha256(str(Path(self.folder).resolve()).encode()).hexdigest()
        return f"{self.kind}-{place[:8]}"

    @property
    def has_audio(self) -> bool:
        return self.kind in ("ljspeech", "libritts")

    def codec(self) -> Codec:
        """Whose tokens these are, of "tokens".

        Raises:
            ValueError: as `Codec.load`, or a source of another kind.
        """
        if self.codebook is None or self.token_rate is None:
            reject("kind", self.kind, "tokens")
        return Codec.load(self.codebook, self.token_rate)

    def recordings(self) -> Recordings:
        """The index of a folder of recordings.

        Raises:
            ValueError: as the loaders, or a source without audio.
        """
        if not self.has_audio:
            reject("kind", self.kind, "a folder of recordings")
        load = load_ljspeech if self.kind == "ljspeech" else load_libritts
        with reporting("reading the index", None) as report:
            return load(self.folder, on_bad=self.on_bad, progress=report)

    def token_examples(self, K: int) -> list[Example]:
        """The sequences of a source without audio, whose ids are below K."""
        with reporting("reading the tokens", None) as report:
            if self.kind == "tokens":
                return load_triplets(self.folder, K=K, on_bad=self.on_bad, progress=report)
            corpus = load_cdcd(self.folder, K=K, on_bad=self.on_bad, progress=report)
        return [
            Example(one.name, decode_characters(one.text), one.speech, 1 + one.text)
            for one in corpus.sequences
        ]


def some_utterances(recordings: Recordings, seconds: float = TOKENIZER_SECONDS) -> list[Utterance]:
    """Recordings in random order until there are so many seconds; unreadable ones are left out."""
    chosen: list[Utterance] = []
    total = 0.0
    for index in generator(0, 0).permutation(len(recordings)):
        if total >= seconds:
            break
        try:
            chosen.append(recordings.read(recordings.entries[index]))
        except ValueError:  # named when everything is read in order, see `tokenized`
            continue
        total += chosen[-1].seconds
    return chosen


def content_digest(recordings: Recordings, *, progress: Report | None = None) -> str:
    """Of the names and the files of all recordings: edited audio has another one.

    Every file is read, which is far less work than its tokens: about a gigabyte a second.
    """
    found = hashlib.sha256()
    with reporting("comparing the audio", progress) as report:
        for done, entry in enumerate(recordings.entries, start=1):
            try:  # nothing but a file: a pipe or a device may never end
                content = file_digest(entry.path) if entry.path.is_file() else ""
            except OSError:  # named when it is read for its tokens
                content = ""
            found.update(json.dumps([entry.name, content]).encode())
            report(done, len(recordings))
    return found.hexdigest()


def tokenized(
    recordings: Recordings,
    tokenizer: Tokenizer,
    cache: Path,
    *,
    content: str | None = None,
    progress: Report | None = None,
) -> list[Example]:
    """Characters and token ids of all recordings, from the cache or made now.

    Texts are written as they are said, see `spoken`; recordings without a single known character
    are left out, and characters that have no reading are named in one warning.

    Args:
        recordings: read one after the other.
        tokenizer: in evaluation mode.
        cache: a .npz file; made anew where it is of other recordings or of another tokenizer.
        content: `content_digest` of the recordings, where it is known already.
        progress: called with the numbers of recordings done and in all; a bar on stderr when None.

    Raises:
        ValueError: a damaged recording, if these are refused, or no usable one.
    """
    digest = _digest(content or content_digest(recordings), tokenizer)
    ids = _cached(cache, digest)
    if ids is None:
        ids = {}
        with reporting("tokenizing", progress) as report:
            for done, utterance in enumerate(recordings, start=1):
                ids[utterance.name] = tokenizer.tokenize(utterance.audio)
                report(done, len(recordings))
        with atomic_path(cache) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                digest=np.array(digest),
                names=np.array(list(ids)),
                tokens=np.concatenate([*ids.values(), np.zeros(0, np.int64)]),
                ends=np.cumsum([row.size for row in ids.values()], dtype=np.int64),
            )
    encoder = TextEncoder()
    examples = []
    unread: collections.Counter[str] = collections.Counter()
    for entry in recordings.entries:
        text, left_out = spoken(entry.text)
        unread.update(left_out)
        if entry.name in ids and text:
            symbols, who = encoder.encode(text), entry.speaker
            examples.append(Example(entry.name, text, ids[entry.name], symbols, speaker=who))
    if not examples:
        reject("recordings", "none", "at least one that can be read and has a text")
    if len(examples) < len(recordings):
        warnings.warn(
            f"{len(recordings) - len(examples)} of {len(recordings)} recordings were left out.",
            stacklevel=2,
        )
    warn_unread(unread, len(recordings))
    return examples


def not_too_long(examples: Sequence[Example], longest: float | None, rate: float) -> list[Example]:
    """The examples of at most so many seconds; the others are counted in one warning, and not cut.

    Args:
        examples: with tokens.
        longest: seconds, None for no limit.
        rate: tokens in a second.

    Raises:
        ValueError: all are longer.
    """
    if longest is None:
        return list(examples)
    kept = [one for one in examples if one.tokens.size <= longest * rate]
    if not kept:
        shortest = min(one.tokens.size for one in examples) / rate
        reject("longest", longest, f"at least {shortest:g} s, the shortest recording")
    if len(kept) < len(examples):
        lost = sum(one.tokens.size for one in examples) - sum(one.tokens.size for one in kept)
        warnings.warn(
            f"{len(examples) - len(kept)} of {len(examples)} recordings are longer than "
            f"{longest:g} s and were left out ({lost / rate:.0f} s in all).",
            stacklevel=2,
        )
    return kept


def held_out(recordings: Recordings, texts: Mapping[str, str]) -> list[Utterance]:
    """The recordings of these names, with these texts in place of their own.

    Args:
        recordings: of the folder that a voice was trained on.
        texts: by name, as a voice's record has them under "held_out".

    Raises:
        ValueError: a name that is not there, or a damaged file.
    """
    entries = _of_names({entry.name: entry for entry in recordings.entries}, texts)
    return [
        dataclasses.replace(recordings.read(entry), text=texts[entry.name]) for entry in entries
    ]


def held_out_examples(examples: Sequence[Example], texts: Mapping[str, str]) -> list[Example]:
    """The examples of these names: as `held_out`, where there are tokens in place of recordings.

    Raises:
        ValueError: a name that is not there, or another text.
    """
    found = _of_names({one.name: one for one in examples}, texts)
    for one in found:
        if one.text != texts[one.name]:
            expected = f"that which was held out, {texts[one.name]!r}"
            reject(f"the text of {one.name}", repr(one.text), expected)
    return found


def _of_names(there: Mapping[str, Named], names: Iterable[str]) -> list[Named]:
    if missing := [name for name in names if name not in there]:
        named = f"{missing[0]} and {len(missing) - 1} more" if len(missing) > 1 else missing[0]
        reject("recordings", f"those without {named}", "those that the voice was trained on")
    return [there[name] for name in names]


def split_examples(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """For training, and every twentieth but at most `VALID` for validation; always the same."""
    count = min(VALID, len(examples) // 20)
    held = set(generator(0, 1).permutation(len(examples))[:count].tolist())
    train = [one for index, one in enumerate(examples) if index not in held]
    return train, [examples[index] for index in sorted(held)]


def _digest(content: str, tokenizer: Tokenizer) -> str:
    found = hashlib.sha256(content.encode())
    for name, value in sorted(tokenizer.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _cached(path: Path, digest: str) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["digest"]) != digest:
                return None
            rows = np.split(file["tokens"], file["ends"][:-1])
            return {str(name): row for name, row in zip(file["names"], rows, strict=True)}
    except Exception:  # zip, zlib, header and key errors: whatever the damage, it is made anew
        return None
