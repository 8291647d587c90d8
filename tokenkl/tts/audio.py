"""Sound as arrays: WAV files in and out, sampling rates, and the one type for an utterance."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from tokenkl._files import PathLike, atomic_path
from tokenkl._validation import as_float_array, check_count, reject

#: Every model here works at this rate, in samples a second.
SAMPLE_RATE = 16_000

#: What stands for a pause in a row of phonemes.
PAUSE = "_"


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """Phonemes in time.

    - `phonemes`: P names in espeak-ng's ASCII notation, with stress marks; `PAUSE` is silence.
    - `edges`: P + 1 sample positions at `SAMPLE_RATE`, not decreasing; phoneme i lasts from
      `edges[i]` to `edges[i + 1]` and may have no length. The first edge is 0.
    - `words`: for each phoneme the index of its word in the text, -1 for a pause.
    """

    phonemes: tuple[str, ...]
    edges: Int[np.ndarray, " P+1"]
    words: Int[np.ndarray, " P"]


@dataclasses.dataclass(frozen=True, eq=False)
class Utterance:
    """One recording and what is known of it.

    - `name`: unique within its data set.
    - `text`: what is said, lower or mixed case as the source has it.
    - `audio`: samples in [-1, 1] at `SAMPLE_RATE`, float32.
    - `speaker`: voice or speaker, "" where unknown.
    - `alignment`: phonemes in time where known.
    - `prosody`: what the speech was asked to be ("rate" in words a minute, "pitch" on espeak's
      scale of 0 to 100), empty for recordings.
    """

    name: str
    text: str
    audio: Float[np.ndarray, " samples"]
    speaker: str = ""
    alignment: Alignment | None = None
    prosody: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.audio.shape[0] / SAMPLE_RATE


def resample(
    audio: Float[np.ndarray, " samples"], rate: int, target: int = SAMPLE_RATE
) -> Float[np.ndarray, " new_samples"]:
    """Change the sampling rate by polyphase filtering; float32, linear phase, no delay."""
    from scipy.signal import resample_poly

    rate, target = check_count(rate, "rate"), check_count(target, "target")
    audio = np.asarray(audio, np.float32)
    if rate == target:
        return audio
    common = math.gcd(rate, target)
    return resample_poly(audio, target // common, rate // common).astype(np.float32)


def read_wav(path: PathLike, target: int = SAMPLE_RATE) -> Float[np.ndarray, " samples"]:
    """A WAV file as one channel at the target rate, float32 in [-1, 1].

    Channels are averaged. PCM of 8, 16, 24 and 32 bits and floating point are read.

    Raises:
        ValueError: no such file, not a WAV file, damaged or cut short, or without samples.
    """
    rate, samples = _read_samples(path)
    if samples.shape[0] == 0:
        reject("path", str(path), "a WAV file with samples")
    audio: np.ndarray
    if samples.dtype == np.uint8:
        audio = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        audio = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    else:
        audio = samples.astype(np.float32)
    if not np.isfinite(audio).all():
        reject("path", str(path), "a WAV file of finite samples")
    if audio.ndim == 2:
        audio = audio.mean(axis=1)
    return resample(audio, rate, target)


def probe_wav(path: PathLike) -> float:
    """Duration of a WAV file in seconds, without reading its samples where possible.

    Raises:
        ValueError: as `read_wav`.
    """
    rate, samples = _read_samples(path, mmap=True)
    if samples.shape[0] == 0:
        reject("path", str(path), "a WAV file with samples")
    return samples.shape[0] / rate


def write_wav(
    path: PathLike, audio: Float[np.ndarray, " samples"], rate: int = SAMPLE_RATE
) -> None:
    """Write one channel of 16-bit PCM; samples beyond [-1, 1] are clipped.

    Raises:
        ValueError: not one finite channel, or a folder that does not exist.
    """
    from scipy.io import wavfile

    array = as_float_array("audio", audio, ndim=1)
    with atomic_path(path) as temporary:
        wavfile.write(temporary, rate, to_int16(array))


def to_int16(audio: Float[np.ndarray, " samples"]) -> Int[np.ndarray, " samples"]:
    """16-bit samples of audio in [-1, 1], rounded and clipped."""
    return np.clip(np.round(np.asarray(audio) * 32768), -32768, 32767).astype(np.int16)


def _read_samples(path: PathLike, mmap: bool = False) -> tuple[int, np.ndarray]:
    from scipy.io import wavfile

    expected = "a readable WAV file"
    if not Path(path).is_file():
        reject("path", str(path), f"{expected}; there is no such file")
    try:
        with warnings.catch_warnings():
            # SciPy only warns of a file that ends early; unknown chunks are harmless.
            warnings.filterwarnings("error", message="Reached EOF", category=wavfile.WavFileWarning)
            warnings.filterwarnings("ignore", message="Chunk", category=wavfile.WavFileWarning)
            if mmap:
                try:
                    return wavfile.read(path, mmap=True)
                except ValueError:  # 24-bit samples cannot be mapped
                    pass
            return wavfile.read(path)
    except Exception as error:  # damaged headers fail in many ways: struct, EOF, memory, division
        raise ValueError(f"path must be {expected}; {path} is not ({error}).") from error
