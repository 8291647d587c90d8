"""Token ids of any codec with what is said in them, from .npz files.

A file holds one utterance or many:

- `tokens`: ids; of many utterances all in a row;
- `text`: what is said; of many utterances one string for each;
- `ends`: of many utterances, where each ends in the row, as `tokenkl tts tokenize` writes it;
- `names`: of many utterances, where they have names;
- `durations`, if known: tokens of every character of the text, in a row as the tokens are;
- `speaker`, if known: a name; of many utterances one for each.

Nothing is unpickled: strings are arrays of strings.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from tokenkl._files import PathLike
from tokenkl._formats import open_arrays, reading
from tokenkl._progress import Report
from tokenkl._validation import reject, shortened
from tokenkl.tts.data import Example, TextEncoder
from tokenkl.tts.loaders import Complaints, OnBad
from tokenkl.tts.normalisation import spoken, warn_unread

_EXPECTED = "a .npz file with the arrays tokens and text"
_KNOWN = ("tokens", "text", "ends", "names", "durations", "speaker")


def load_triplets(
    path: PathLike, *, K: int, on_bad: OnBad = "refuse", progress: Report | None = None
) -> list[Example]:
    """Utterances of one .npz file, or of all in a folder.

    Texts are written as they are said, see `tokenkl.tts.normalisation.spoken`; characters that have
    no reading are left out and named in one warning. Durations are of the characters of what is
    left, and sum to the number of tokens.

    Args:
        path: the file or the folder.
        K: ids are below it.
        on_bad: "skip" or "refuse" bad files and utterances.
        progress: called with the numbers of files done and in all.

    Raises:
        ValueError: nothing usable, or, with "refuse", the first that is bad.
    """
    root = Path(path)
    paths = sorted(root.rglob("*.npz")) if os.path.isdir(root) else [root]
    if not paths:
        reject("folder", str(path), "one with .npz files of tokens and text in it")
    complaints = Complaints(on_bad)
    examples: dict[str, Example] = {}
    unread: collections.Counter[str] = collections.Counter()
    for done, one in enumerate(paths, start=1):
        row: _Row | None = None
        with complaints.of(one), reading(one, _EXPECTED) as file, open_arrays(file) as arrays:
            for name in ("tokens", "text"):
                if name not in arrays.shapes:
                    file.refuse(f"it has no array called {name}")
            found = {name: arrays.read(name) for name in _KNOWN if name in arrays.shapes}
            stem = str(one.relative_to(root).with_suffix("")) if one != root else one.stem
            row = _row(found, stem)
        if row is not None:
            _add(row, K, one, complaints, examples, unread)
        if progress is not None:
            progress(done, len(paths))
    complaints.warn()
    if not examples:
        reject("folder", str(path), "one with at least one usable utterance")
    warn_unread(unread, len(examples))
    return list(examples.values())


class _Row(NamedTuple):
    """The utterances of one file, one after the other."""

    tokens: Int[np.ndarray, " n"]
    ends: Int[np.ndarray, " utterances"]
    texts: list[str]
    names: list[str]
    voices: list[str]
    durations: Int[np.ndarray, " d"] | None


def _row(found: Mapping[str, np.ndarray], stem: str) -> _Row:
    tokens = _ids(found["tokens"], "tokens")
    ends = _ids(found["ends"], "ends") if "ends" in found else np.array([tokens.size])
    count = ends.size
    if (np.diff([0, *ends]) < 0).any() or (count and ends[-1] != tokens.size):
        reject("ends", "others", f"ascending, up to the number of tokens, {tokens.size}")
    texts = _strings(found["text"], "text")
    names = _strings(found["names"], "names") if "names" in found else _numbered(stem, count)
    voices = _strings(found["speaker"], "speaker") if "speaker" in found else []
    for what, given in (("text", texts), ("names", names), ("speaker", voices)):
        if len(given) != count and not (what == "speaker" and not given):
            reject(what, f"{len(given)} strings", f"one for each of {count} utterances")
    durations = _ids(found["durations"], "durations") if "durations" in found else None
    return _Row(tokens, ends, texts, names, voices, durations)


def _add(
    row: _Row,
    K: int,
    path: Path,
    complaints: Complaints,
    examples: dict[str, Example],
    unread: collections.Counter[str],
) -> None:
    """The utterances of one file."""
    tokens, ends, texts, names, voices, rest = row
    starts = np.concatenate([[0], ends[:-1]])
    encoder = TextEncoder()
    for index, name in enumerate(names):
        with complaints.of(path):
            text, left_out = spoken(texts[index])
            symbols = encoder.encode(text) if text else np.empty(0, np.int64)
            lengths = None
            if rest is not None:  # before anything is refused: the next ones begin behind them
                lengths, rest = rest[: symbols.size], rest[symbols.size :]
            if name in examples:
                reject("name", shortened(name, 80), "another for every utterance")
            unread.update(left_out)
            if not text:
                named = f"text of {shortened(name, 80)}"
                reject(named, shortened(repr(texts[index]), 80), "one with letters or numbers")
            ids = tokens[starts[index] : ends[index]]
            if ids.size == 0 or ids.max() >= K:
                got = "no token" if ids.size == 0 else int(ids.max())
                reject(f"tokens of {shortened(name, 80)}", got, f"ids from 0 to {K - 1}")
            if lengths is not None and (
                lengths.size < symbols.size or int(lengths.sum()) != ids.size
            ):
                reject(
                    f"durations of {shortened(name, 80)}",
                    f"{lengths.size} with sum {int(lengths.sum())}",
                    f"one for each of the {symbols.size} characters of {shortened(text, 80)!r}"
                    f", with sum {ids.size}",
                )
            speaker = voices[index] if voices else ""
            examples[name] = Example(name, text, ids, symbols, lengths, speaker)
    if rest is not None and rest.size:
        complaints.add(path, f"has {rest.size} durations more than characters")


def _numbered(stem: str, count: int) -> list[str]:
    return [stem] if count == 1 else [f"{stem}-{index}" for index in range(count)]


def _ids(array: np.ndarray, name: str) -> Int[np.ndarray, " n"]:
    whole = array.ndim == 1 and array.dtype.kind in "iu"
    if not whole or (array.size and not 0 <= int(array.min()) <= int(array.max()) < 2**62):
        reject(name, f"{array.dtype} of shape {array.shape}", "one row of whole numbers from 0 on")
    return array.astype(np.int64)


def _strings(array: np.ndarray, name: str) -> list[str]:
    if array.ndim > 1 or array.dtype.kind != "U":
        reject(name, f"{array.dtype} of shape {array.shape}", "a string, or one row of them")
    return [str(one) for one in array.reshape(-1)]
