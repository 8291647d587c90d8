"""Real corpora from disk: LJSpeech-style and LibriTTS-style folders, and the CDCD-TTS triplets.

Loading goes in two steps. The index is read at once: what can be seen without decoding samples (a
missing file, an unreadable header, an empty text) is found there. Samples are read one at a time,
when asked for. Bad files are named either way: with ``on_bad="refuse"`` by a `ValueError` at the
first one, with ``on_bad="skip"`` in `bad` and in one warning, and the rest is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from tokenkl._files import PathLike
from tokenkl._formats import open_arrays, reading, shown_path
from tokenkl._progress import Report
from tokenkl._validation import check_choice, check_count, printable, reject, shortened
from tokenkl.tts.audio import Utterance, probe_wav, read_wav

OnBad = Literal["skip", "refuse"]

#: Bad files that a warning names one by one.
_NAMED = 5

#: Most bytes of the transcript of one recording.
_TRANSCRIPT = 2**20


@dataclasses.dataclass(frozen=True)
class BadFile:
    """A file that was skipped, and why."""

    path: Path
    reason: str


class Complaints:
    """Skips or refuses bad files, as the user chose."""

    def __init__(self, on_bad: OnBad) -> None:
        self.on_bad = check_choice(on_bad, ("skip", "refuse"), "on_bad")
        self.bad: list[BadFile] = []

    def add(self, path: Path, reason: str) -> None:
        where = shown_path(path)
        reason = printable(reason.rstrip(".")).removeprefix(f"{where} ")
        reason = shortened(reason, 800)
        if self.on_bad == "refuse":
            raise ValueError(f'{where}: {reason}. Use on_bad="skip" to go on without it.')
        self.bad.append(BadFile(path, reason))

    @contextlib.contextmanager
    def of(self, path: Path) -> Iterator[None]:
        """Around all that is done with one file."""
        try:
            yield
        except (ValueError, OSError) as error:
            self.add(path, str(error))

    def warn(self, start: int = 0) -> None:
        """One warning for everything that was skipped since."""
        fresh = self.bad[start:]
        if not fresh:
            return
        named = "; ".join(f"{shown_path(one.path)}: {one.reason}" for one in fresh[:_NAMED])
        more = f"; and {len(fresh) - _NAMED} more, see .bad" if len(fresh) > _NAMED else ""
        warnings.warn(f"Skipped {len(fresh)} bad files: {named}{more}.", stacklevel=4)


# ---- Recordings ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Entry:
    """One recording of the index, its samples not yet read.

    - `name`: unique; `text`: as normalised by the corpus; `path`: the WAV file.
    - `speaker`: "" where the corpus has one speaker; `seconds`: duration.
    """

    name: str
    text: str
    path: Path
    speaker: str
    seconds: float


class Recordings:
    """A corpus on disk; iterate over it for its utterances, at 16 kHz.

    - `entries`: the recordings that passed the checks of the index.
    - `bad`: what was skipped, growing as samples are read.
    """

    def __init__(self, entries: Sequence[Entry], complaints: Complaints) -> None:
        self.entries = list(entries)
        self._complaints = complaints

    @property
    def bad(self) -> list[BadFile]:
        """Files that were skipped, and why."""
        return self._complaints.bad

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def seconds(self) -> float:
        """Duration of all entries, from the headers."""
        return sum(entry.seconds for entry in self.entries)

    def read(self, entry: Entry) -> Utterance:
        """The samples of one entry.

        Raises:
            ValueError: a damaged file.
        """
        return Utterance(entry.name, entry.text, read_wav(entry.path), entry.speaker)

    def __iter__(self) -> Iterator[Utterance]:
        """All utterances whose samples can be read; damaged files are skipped or refused."""
        start = len(self.bad)
        for entry in self.entries:
            try:
                utterance = self.read(entry)
            except (ValueError, OSError) as error:
                if all(one.path != entry.path for one in self.bad):
                    self._complaints.add(entry.path, str(error))
                continue
            yield utterance
        self._complaints.warn(start)


def load_ljspeech(
    folder: PathLike, *, on_bad: OnBad = "refuse", progress: Report | None = None
) -> Recordings:
    """A folder with `metadata.csv` (lines ``id|text|normalised text``) and `wavs/id.wav`.

    The last field of a line is the text; two fields are accepted, and four, of which the last is
    the name of the speaker. No field is quoted, as in LJSpeech itself.

    Args:
        folder: the folder that holds `metadata.csv`.
        on_bad: "skip" or "refuse" bad lines and files.
        progress: called with the numbers of lines done and in all.

    Raises:
        ValueError: no `metadata.csv`, no usable recording, or, with "refuse", the first bad line
            or file.
    """
    root = Path(folder)
    index = root / "metadata.csv"
    complaints = Complaints(on_bad)
    if not os.path.exists(index):
        reject("folder", str(folder), "an LJSpeech-style folder, with metadata.csv in it")
    with reading(index, "UTF-8 text with lines id|text|normalised") as file:
        lines = [(i, line) for i, line in _lines(file.text()) if line.strip()]
    entries: dict[str, Entry] = {}
    for done, (number, line) in enumerate(lines, start=1):
        fields = [field.strip() for field in line.split("|")]
        if len(fields) not in (2, 3, 4) or not fields[0]:
            complaints.add(index, f"line {number} has {len(fields)} fields, not id|text|normalised")
        elif Path(fields[0]).name != fields[0]:
            name = shortened(fields[0], 80)
            complaints.add(index, f"line {number} names a file outside wavs: {name}")
        elif fields[0] in entries:
            complaints.add(index, f"line {number} repeats the id {shortened(fields[0], 80)}")
        else:
            path = root / "wavs" / f"{fields[0]}.wav"
            text, speaker = (fields[2], fields[3]) if len(fields) == 4 else (fields[-1], "")
            _add_entry(entries, complaints, fields[0], text, path, speaker)
        if progress is not None:
            progress(done, len(lines))
    return _recordings(entries, complaints, root)


def load_libritts(
    folder: PathLike, *, on_bad: OnBad = "refuse", progress: Report | None = None
) -> Recordings:
    """A folder with `speaker/chapter/NAME.wav` and `NAME.normalized.txt`, at any depth.

    The folder may be a whole release (`LibriTTS`), one subset (`train-clean-100`) or one speaker.
    The speaker is the part of NAME before the first "_", as in LibriTTS.

    Args:
        folder: where to look for `*.wav`.
        on_bad: "skip" or "refuse" bad files.
        progress: called with the numbers of files done and in all.

    Raises:
        ValueError: no usable recording, or, with "refuse", the first bad file.
    """
    root = Path(folder)
    if not os.path.isdir(root):
        reject("folder", str(folder), "a folder that exists")
    complaints = Complaints(on_bad)
    entries: dict[str, Entry] = {}
    paths = sorted(root.rglob("*.wav"))
    for number, path in enumerate(paths, start=1):
        transcript = path.with_name(f"{path.stem}.normalized.txt")
        if path.stem in entries:
            complaints.add(path, f"repeats the name of {entries[path.stem].path}")
        else:
            with complaints.of(transcript):
                with reading(transcript, "the transcript of a recording, UTF-8 text") as file:
                    text = " ".join(file.text(_TRANSCRIPT).split())
                speaker = path.stem.split("_", 1)[0]
                _add_entry(entries, complaints, path.stem, text, path, speaker)
        if progress is not None:
            progress(number, len(paths))
    return _recordings(entries, complaints, root)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text and their numbers, from 1; only "\\n" ends a line."""
    return enumerate(text.split("\n"), start=1)


def _add_entry(
    entries: dict[str, Entry],
    complaints: Complaints,
    name: str,
    text: str,
    path: Path,
    speaker: str,
) -> None:
    if not text:
        complaints.add(path, "has an empty text")
        return
    with complaints.of(path):
        entries[name] = Entry(name, text, path, speaker, probe_wav(path))


def _recordings(entries: dict[str, Entry], complaints: Complaints, root: Path) -> Recordings:
    complaints.warn()
    if not entries:
        reject("folder", str(root), "a folder with at least one usable recording")
    return Recordings(list(entries.values()), complaints)


# ---- Tokens of the CDCD-TTS repository -----------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class TokenSequence:
    """One utterance as ids.

    - `name`: the id in the info file; `seconds`: duration.
    - `text`: ids of `frontend.CHARACTERS`; `speech`: ids of the speech tokens.
    """

    name: str
    seconds: float
    text: Int[np.ndarray, " characters"]
    speech: Int[np.ndarray, " tokens"]


class TokenCorpus:
    """Token sequences of one folder, in memory; `bad` is what was skipped."""

    def __init__(self, sequences: Sequence[TokenSequence], bad: Sequence[BadFile]) -> None:
        self.sequences = list(sequences)
        self.bad = list(bad)

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> TokenSequence:
        return self.sequences[index]

    @property
    def seconds(self) -> float:
        """Duration of all sequences."""
        return sum(sequence.seconds for sequence in self.sequences)


#: How far the number of tokens may be from 25 a second, in tokens, before it is called wrong.
_LENGTH_TOLERANCE = 3


def load_cdcd(
    folder: PathLike,
    *,
    K: int = 6561,
    characters: int = 34,
    tokens_per_second: float = 25.0,
    on_bad: OnBad = "refuse",
    progress: Report | None = None,
) -> TokenCorpus:
    """One data set of the CDCD-TTS repository: triplets of info, speech and text.

    A triplet is `NAME_info.txt` (lines ``seconds|id``), `NAME_speech.npz` and `NAME_text.npz`; the
    arrays `arr_0`, `arr_1`, ... of the latter two belong to the lines in order. A folder holds any
    number of triplets. Text ids at or above `characters` stand for characters outside the alphabet
    and are dropped, as the repository itself does.

    Args:
        folder: the folder of the data set.
        K: speech ids are below this.
        characters: number of character ids.
        tokens_per_second: against which the numbers of tokens are checked, within 3 tokens.
        on_bad: "skip" or "refuse" bad triplets, lines and sequences.
        progress: called with the numbers of triplets done and in all.

    Raises:
        ValueError: no triplet, no usable sequence, or, with "refuse", the first that is bad.
    """
    root = Path(folder)
    infos = sorted(root.glob("*_info.txt"))
    if not infos:
        reject("folder", str(folder), "a folder with files NAME_info.txt")
    check_count(K, "K")
    complaints = Complaints(on_bad)
    sequences: list[TokenSequence] = []
    for number, info in enumerate(infos, start=1):
        stem = info.name.removesuffix("_info.txt")
        speech_path, text_path = (
            info.with_name(f"{stem}_speech.npz"),
            info.with_name(f"{stem}_text.npz"),
        )
        lines = None
        with complaints.of(info), reading(info, "UTF-8 text of lines seconds|id") as file:
            lines = [line for _, line in _lines(file.text()) if line.strip()]
        if lines is None:
            continue
        speech = _arrays(speech_path, len(lines), complaints)
        text = _arrays(text_path, len(lines), complaints)
        if speech is None or text is None:
            continue
        for index, line in enumerate(lines):
            one = _sequence(line, index, info, speech, text, characters, complaints)
            if one is None:
                continue
            if one.speech.max() >= K:
                reason = (
                    f"{one.name} (arr_{index}) has the speech id {one.speech.max()}, not below {K}"
                )
                complaints.add(speech_path, reason)
            elif abs(one.speech.size - one.seconds * tokens_per_second) > _LENGTH_TOLERANCE:
                complaints.add(
                    speech_path,
                    f"{one.name} (arr_{index}) has {one.speech.size} tokens in {one.seconds} s",
                )
            else:
                sequences.append(one)
        if progress is not None:
            progress(number, len(infos))
    complaints.warn()
    if not sequences:
        reject("folder", folder, "a folder with at least one usable sequence")
    return TokenCorpus(sequences, complaints.bad)


def _arrays(path: Path, count: int, complaints: Complaints) -> list[np.ndarray] | None:
    """arr_0, arr_1, ..., or None if the file is bad as a whole."""
    expected = "rows of token ids in .npz"
    # Read at once: an open archive for every triplet would run out of file handles.
    with complaints.of(path), reading(path, expected) as file, open_arrays(file) as arrays:
        names = [f"arr_{index}" for index in range(count)]
        if set(arrays.shapes) != set(names):
            file.refuse(f"it has {len(arrays.shapes)} arrays, not the {count} of the info file")
        return [arrays.read(name) for name in names]
    return None


def _sequence(
    line: str,
    index: int,
    info: Path,
    speech: list[np.ndarray],
    text: list[np.ndarray],
    characters: int,
    complaints: Complaints,
) -> TokenSequence | None:
    seconds, _, name = (part.strip() for part in line.partition("|"))
    if not name or not re.fullmatch(r"\d{1,18}(\.\d{1,18})?", seconds):
        complaints.add(info, f"line {index + 1} is not seconds|id: {line.strip()[:40]!r}")
        return None
    ids = {"speech": speech[index], "text": text[index]}
    for kind, array in ids.items():
        path = info.with_name(info.name.removesuffix("_info.txt") + f"_{kind}.npz")
        whole = array.ndim == 1 and array.dtype.kind in "iu"
        if not whole or (array.size and not 0 <= int(array.min()) <= int(array.max()) < 2**63):
            complaints.add(path, f"{name} (arr_{index}) is no row of whole numbers, at least 0")
            return None
    known = ids["text"][ids["text"] < characters].astype(np.int64)
    if known.size == 0 or ids["speech"].size == 0:
        complaints.add(info, f"{name} (line {index + 1}) has no text or no speech")
        return None
    return TokenSequence(name, float(seconds), known, ids["speech"].astype(np.int64))
