"""Speech with exact phoneme boundaries from espeak-ng (extra `tts-data`).

espeak-ng is under the GPL, version 3 or later, unlike tokenkl; it is installed only with the extra
`tts-data`, and runs in a process of its own. The speech that it makes is not covered by the GPL.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tokenkl._extras import MissingExtra
from tokenkl.tts.audio import PAUSE, SAMPLE_RATE, Alignment, resample

_WORKER = Path(__file__).with_name("_espeak_worker.py")


@dataclasses.dataclass(frozen=True)
class Request:
    """One sentence to be spoken.

    - `text`: words separated by single spaces.
    - `voice`: a name that espeak-ng knows, with a variant after "+".
    - `rate`: words a minute, 80 to 450.
    - `pitch`: 0 to 100, 50 being the voice's own.
    """

    text: str
    voice: str = "en-us+klatt4"
    rate: int = 150
    pitch: int = 50


@dataclasses.dataclass(frozen=True, eq=False)
class Speech:
    """What espeak-ng made of a request: float32 audio at `SAMPLE_RATE`, and its phonemes."""

    audio: np.ndarray
    alignment: Alignment


def is_available() -> bool:
    """Whether the extra `tts-data` is installed."""
    return importlib.util.find_spec("espeakng_loader") is not None


def version() -> str:
    """Version of the package that carries libespeak-ng.

    Raises:
        ImportError: the extra `tts-data` is not installed.
    """
    _require()
    return importlib.metadata.version("espeakng-loader")


def speak(requests: Sequence[Request]) -> list[Speech]:
    """Speak a list of sentences in a fresh process; the same list gives the same samples.

    The result of one request depends on those before it in the list, in the noise of fricatives
    and the flutter of the voice: espeak-ng never resets the generators of either.

    Raises:
        ImportError: the extra `tts-data` is not installed.
        ValueError: a voice that espeak-ng does not have.
        RuntimeError: espeak-ng failed.
    """
    _require()
    with tempfile.TemporaryDirectory() as folder:
        asked, result = Path(folder) / "requests.json", Path(folder) / "result.npz"
        asked.write_text(json.dumps([dataclasses.asdict(r) for r in requests]), encoding="utf-8")
        # -P: the folder of the script must not come first in the search path.
        command = [sys.executable, "-P", str(_WORKER), str(asked), str(result)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            message = done.stderr.strip() or f"exit code {done.returncode}"
            kind = ValueError if message.startswith("voice must") else RuntimeError
            raise kind(message)
        with np.load(result, allow_pickle=False) as arrays:
            rate = int(arrays["rate"])
            return [
                _speech(
                    request.text,
                    rate,
                    *(arrays[f"{i}.{key}"] for key in ("samples", "names", "starts", "positions")),
                )
                for i, request in enumerate(requests)
            ]


def _speech(
    text: str,
    rate: int,
    samples: np.ndarray,
    names: np.ndarray,
    starts: np.ndarray,
    positions: np.ndarray,
) -> Speech:
    """Audio at our rate, and phonemes with their words; names that begin with "_" are pauses."""
    audio = resample(samples.astype(np.float32) / 32768, rate)
    moved = np.minimum(np.round(starts * (SAMPLE_RATE / rate)), audio.shape[0])
    edges = np.append(moved, audio.shape[0]).astype(np.int64)
    phonemes = [PAUSE if name.startswith("_") else str(name) for name in names]
    words = _word_indices(text, positions)
    words[np.array(phonemes) == PAUSE] = -1
    if edges[0] > 0 or not phonemes:  # what comes before the first phoneme is silence
        phonemes, words = [PAUSE, *phonemes], np.append(-1, words)
        edges = np.append(0, edges)
    # Pauses come in pairs, the second without length.
    again = [i for i in range(1, len(phonemes)) if phonemes[i - 1] == phonemes[i] == PAUSE]
    phonemes = [name for i, name in enumerate(phonemes) if i not in again]
    return Speech(
        audio, Alignment(tuple(phonemes), np.delete(edges, again), np.delete(words, again))
    )


def _word_indices(text: str, positions: np.ndarray) -> np.ndarray:
    """Index of the word that holds each 1-based character position."""
    begins = [i + 1 for i in range(len(text)) if text[i] != " " and (i == 0 or text[i - 1] == " ")]
    return np.searchsorted(begins, positions, side="right").astype(np.int64) - 1


def _require() -> None:
    if not is_available():
        raise MissingExtra("the synthetic corpus", "espeakng_loader", "tts-data")
