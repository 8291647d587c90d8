"""Sound as arrays: WAV files in and out, sampling rates, and the one type for an utterance."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import math
import os
import struct
import wave
from collections.abc import Mapping
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tokenkl._files import PathLike, atomic_path
from tokenkl._formats import Opened, reading
from tokenkl._validation import as_float_array, check_count

#: Every model here works at this rate, in samples a second.
SAMPLE_RATE = 16_000

#: Sampling rates that are read, in samples a second: a filter that changes it is as long as the
#: rate is large, and a low one makes many samples of few.
RATES = (1000, 200_000)

#: Longest recording, in seconds.
MAX_SECONDS = 7200

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


@dataclasses.dataclass(frozen=True, eq=False)
class Speech:
    """What a voice says; a notebook shows it as a player.

    - `samples`: in [-1, 1] at `rate` samples a second, float32; louder ones are clipped in files.
    - `text`: what is said, as the voice has read it.

    It stands for its samples where NumPy is given it.

    >>> speech = Speech(np.zeros(8000, np.float32), "nothing")
    >>> speech.seconds, np.asarray(speech).size
    (0.5, 8000)
    """

    samples: Float[np.ndarray, " samples"]
    text: str = ""
    rate: int = SAMPLE_RATE

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples.shape[0] / self.rate

    def save(self, path: PathLike) -> None:
        """Write a .wav file, as `write_wav`."""
        write_wav(path, self.samples, self.rate)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.samples, dtype, copy=copy)

    def _repr_html_(self) -> str:
        """A player with the sound in it, by the protocol of notebooks."""
        sound = base64.b64encode(wav_bytes(self.samples, self.rate)).decode()
        text = html.escape(self.text)
        return (
            f'<figure><audio controls src="data:audio/wav;base64,{sound}"></audio>'
            f"<figcaption>{text} ({self.seconds:.2f} s)</figcaption></figure>"
        )


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

    Channels are averaged. PCM of 8, 16, 24 and 32 bits and floating point are read, at `RATES`
    and for up to `MAX_SECONDS`.

    Raises:
        ValueError: no such file, not a WAV file, damaged or cut short, or without samples.
    """
    with reading(path, _EXPECTED) as file, file.path.open("rb") as stream:
        wav = _header(file, stream)
        samples = np.fromfile(stream, np.uint8, wav.frames * wav.channels * wav.width)
        if wav.width == 3:  # as the upper three bytes of four
            padded = np.zeros((samples.size // 3, 4), np.uint8)
            where = slice(1, None) if wav.order == "<" else slice(None, 3)
            padded[:, where] = samples.reshape(-1, 3)
            samples = padded.reshape(-1)
        width = 4 if wav.width == 3 else wav.width
        values = samples.view(f"{wav.order}{wav.kind}{width}")
        with np.errstate(over="ignore"):  # of float64, to infinity, which is refused below
            audio = values.astype(np.float32)
        if wav.kind == "u":
            audio = (audio - np.float32(128)) / np.float32(128)
        elif wav.kind == "i":
            audio /= 2.0 ** (8 * width - 1)
        elif not (np.abs(audio) < 2.0**32).all():  # neither NaN, nor what filters overflow at
            file.refuse("its samples are not finite, or far from -1 to 1")
        if wav.channels > 1:
            audio = audio.reshape(-1, wav.channels).mean(axis=1)
        return resample(audio, wav.rate, target)


def probe_wav(path: PathLike) -> float:
    """Duration of a WAV file in seconds, without reading its samples.

    Raises:
        ValueError: as `read_wav`.
    """
    with reading(path, _EXPECTED) as file, file.path.open("rb") as stream:
        wav = _header(file, stream)
        return wav.frames / wav.rate


def write_wav(
    path: PathLike, audio: Float[np.ndarray, " samples"], rate: int = SAMPLE_RATE
) -> None:
    """Write one channel of 16-bit PCM; samples beyond [-1, 1] are clipped.

    Raises:
        ValueError: not one finite channel, or a folder that does not exist.
    """
    content = wav_bytes(audio, rate)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def wav_bytes(audio: Float[np.ndarray, " samples"], rate: int = SAMPLE_RATE) -> bytes:
    """What `write_wav` writes."""
    samples = to_int16(as_float_array("audio", audio, ndim=1)).astype("<i2").tobytes()
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples)
    return content.getvalue()


def to_int16(audio: Float[np.ndarray, " samples"]) -> Int[np.ndarray, " samples"]:
    """16-bit samples of audio in [-1, 1], rounded and clipped."""
    return np.clip(np.round(np.asarray(audio) * 32768), -32768, 32767).astype(np.int16)


_EXPECTED = "a readable WAV file"

#: Parts of a WAV file that are looked at before its samples.
_MOST_CHUNKS = 1000


class _Wav(NamedTuple):
    """What the header of a WAV file says: `kind` and `order` are NumPy's, `width` in bytes."""

    rate: int
    channels: int
    kind: Literal["u", "i", "f"]
    width: int
    order: Literal["<", ">"]
    frames: int


def _header(file: Opened, stream: IO[bytes]) -> _Wav:
    """Read up to the first sample. Nothing that is claimed here is believed unchecked.

    (Not by SciPy, which takes sizes and rates for granted.)
    """
    orders: dict[bytes, Literal["<", ">"]] = {b"RIFF": "<", b"RIFX": ">", b"RF64": "<"}
    start = stream.read(12)
    if start[:4] not in orders or start[8:] != b"WAVE":
        file.refuse("it does not begin like one")
    order = orders[start[:4]]
    form, long_size = b"", 0
    for _ in range(_MOST_CHUNKS):
        head = stream.read(8)
        if len(head) < 8:
            break
        name, size = struct.unpack(f"{order}4sI", head)
        if name == b"data":
            size = long_size if start[:4] == b"RF64" and size == 2**32 - 1 else size
            return _checked(file, form, order, size, file.size - stream.tell())
        content = stream.read(min(size, 40))
        if name == b"fmt ":
            form = content
        elif name == b"ds64" and len(content) >= 16:
            long_size = struct.unpack("<8xQ", content[:16])[0]
        stream.seek(size - len(content) + size % 2, os.SEEK_CUR)
    file.refuse("it has no samples, or is cut short")


def _checked(file: Opened, form: bytes, order: Literal["<", ">"], size: int, left: int) -> _Wav:
    if len(form) < 16:
        file.refuse("it does not say what its samples are")
    code, channels, rate, _, block, bits = struct.unpack(f"{order}HHIIHH", form[:16])
    if code == 0xFFFE and len(form) >= 26:  # "extensible": the code comes later
        code = struct.unpack(f"{order}H", form[24:26])[0]
    width, rest = divmod(block, channels) if channels else (0, 0)
    widths = {1: (1, 2, 3, 4, 8), 3: (4, 8)}.get(code, ())
    if (
        width not in widths
        or rest
        or not (bits == 8 * width or (code == 1 and 0 < bits < 8 * width))
    ):
        file.refuse(
            f"its samples are not PCM or floating point (code {code}, {bits} bits, {block} bytes "
            f"for {channels} channels)"
        )
    if not RATES[0] <= rate <= RATES[1]:
        file.refuse(f"its sampling rate is {rate}, not {RATES[0]} to {RATES[1]} Hz")
    if size > left or size % block:
        file.refuse("it is cut short")
    if size == 0:
        file.refuse("it has no samples")
    if size > MAX_SECONDS * rate * block:
        file.refuse(f"it is longer than {MAX_SECONDS} s")
    kind: Literal["u", "i", "f"] = "f" if code == 3 else "u" if width == 1 else "i"
    return _Wav(rate, channels, kind, width, order, size // block)
