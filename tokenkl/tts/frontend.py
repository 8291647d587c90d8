"""Sound to log-mel features and back, text to ids, phonemes to frames.

Audio and features share one time grid: audio is padded to whole tokens, frame i is centred on the
samples hop * i to hop * (i + 1), and one token covers `FRAMES_PER_TOKEN` frames. Arrays have time
before features: audio (..., samples), log-mel (..., frames, mels).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor
from torch.nn import functional as F

from tokenkl._files import PathLike, atomic_path
from tokenkl._formats import reading
from tokenkl._validation import check_count, check_ids, check_positive, reject
from tokenkl.tts.audio import PAUSE, RATES, SAMPLE_RATE, Alignment, Utterance
from tokenkl.tts.grammar import check_words
from tokenkl.tts.noise import uniform_like

#: Frames of features in one token: 50 frames and 25 tokens a second.
FRAMES_PER_TOKEN = 2

#: The characters of the CDCD-TTS repository, in the order of their ids.
CHARACTERS = "abcdefghijklmnopqrstuvwxyz.,?!:;' "


# ---- Sound ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class MelConfig:
    """Of the short-time Fourier transform and the mel filters.

    Args:
        sample_rate: samples a second.
        n_fft: samples in one window (Hann).
        hop: samples from one frame to the next; `n_fft - hop` must be even.
        n_mels: filters, equally spaced on the mel scale.
        low, high: edges of the lowest and highest filter, in Hz.
        floor: magnitudes below it count as it before the logarithm.

    Raises:
        ValueError: a count below 1 or far beyond use, an odd `n_fft - hop`, a frequency outside 0
            to half the sample rate, or a floor that is not above 0.
    """

    sample_rate: int = SAMPLE_RATE
    n_fft: int = 1024
    hop: int = 320
    n_mels: int = 80
    low: float = 0.0
    high: float = 8000.0
    floor: float = 1e-4

    def __post_init__(self) -> None:
        check_count(self.sample_rate, "sample_rate", *RATES)
        for name in ("n_fft", "hop"):
            check_count(getattr(self, name), name, 1, 2**16)
        check_count(self.n_mels, "n_mels", 1, 2**8)
        if self.n_mels * self.n_fft > 2**23:  # the filters are inverted
            reject("n_mels, n_fft", f"{self.n_mels}, {self.n_fft}", f"of product {2**23} at most")
        if self.hop > self.n_fft or (self.n_fft - self.hop) % 2:
            reject("hop", self.hop, f"at most n_fft = {self.n_fft}, with an even n_fft - hop")
        if not 0 <= self.low < self.high <= self.sample_rate / 2:
            reject("low, high", f"{self.low}, {self.high}", "0 <= low < high <= half the rate")
        check_positive(self.floor, "floor")

    @property
    def samples_per_token(self) -> int:
        """Samples that one token covers."""
        return self.hop * FRAMES_PER_TOKEN

    @property
    def tokens_per_second(self) -> float:
        """Token rate."""
        return self.sample_rate / self.samples_per_token


def mel_filters(config: MelConfig) -> Float[np.ndarray, "mels bins"]:
    """Triangular filters on Slaney's mel scale, linear below 1 kHz and logarithmic above.

    Each filter has area 1 in Hz, up to a common factor, so that white noise gives a flat spectrum.
    (Slaney 1998, Auditory Toolbox, Interval Research TR 1998-010.)
    """
    mels = np.linspace(_to_mel(config.low), _to_mel(config.high), config.n_mels + 2)
    edges = _to_hertz(mels)
    bins = np.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.clip(np.minimum(rising, falling), 0, None)
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None]


_LINEAR, _KNEE = 200 / 3, 1000.0  # Hz in one mel below the knee; where the logarithm begins
_STEP = math.log(6.4) / 27


def _to_mel(hertz: float) -> float:
    if hertz < _KNEE:
        return hertz / _LINEAR
    return _KNEE / _LINEAR + math.log(hertz / _KNEE) / _STEP


def _to_hertz(mels: np.ndarray) -> np.ndarray:
    knee = _KNEE / _LINEAR
    above = _KNEE * np.exp(_STEP * (np.maximum(mels, knee) - knee))
    return np.where(mels < knee, mels * _LINEAR, above)


class MelFrontend(torch.nn.Module):
    """Audio to log-mel features, and back by Griffin-Lim.

    Without parameters to be learned; `.to(device)` moves its constants.
    """

    window: Tensor
    filters: Tensor
    inverse: Tensor

    def __init__(self, config: MelConfig | None = None) -> None:
        super().__init__()
        self.config = config or MelConfig()
        filters = mel_filters(self.config)
        window = torch.hann_window(self.config.n_fft, dtype=torch.float64, device="cpu").float()
        for name, value in (
            ("window", window),
            ("filters", torch.from_numpy(filters).float()),
            ("inverse", torch.from_numpy(np.linalg.pinv(filters)).float()),
        ):
            self.register_buffer(name, value, persistent=False)

    def pad(self, audio: Float[Tensor, "*batch samples"]) -> Float[Tensor, "*batch padded"]:
        """Zeros at the end up to whole tokens; at least one token."""
        unit = self.config.samples_per_token
        length = max(1, -(-audio.shape[-1] // unit)) * unit
        return F.pad(audio, (0, length - audio.shape[-1]))

    def forward(
        self, audio: Float[Tensor, "*batch samples"]
    ) -> Float[Tensor, "*batch frames mels"]:
        """log(max(mel magnitude, floor)), natural logarithm."""
        magnitude = self.stft(self.pad(audio)).abs()
        return (magnitude @ self.filters.T).clamp_min(self.config.floor).log()

    def stft(self, audio: Float[Tensor, "*batch samples"]) -> Complex[Tensor, "*batch frames bins"]:
        """Windowed Fourier transforms of audio whose length is a multiple of the hop."""
        c = self.config
        side = (c.n_fft - c.hop) // 2
        frames = F.pad(audio, (side, side)).unfold(-1, c.n_fft, c.hop)
        return torch.fft.rfft(frames * self.window)

    def istft(self, spectrum: Complex[Tensor, "*batch frames bins"]) -> Float[Tensor, "*batch s"]:
        """The audio whose `stft` is nearest to the spectrum in squares (Griffin and Lim 1984)."""
        c = self.config
        side = (c.n_fft - c.hop) // 2
        frames = torch.fft.irfft(spectrum, c.n_fft) * self.window
        batch, count = frames.shape[:-2], frames.shape[-2]
        total = (count - 1) * c.hop + c.n_fft

        def overlap_add(blocks: Tensor) -> Tensor:
            columns = blocks.reshape(-1, count, c.n_fft).transpose(1, 2)
            return F.fold(columns, (1, total), (1, c.n_fft), stride=(1, c.hop))[:, 0, 0]

        weight = overlap_add((self.window**2).expand(1, count, c.n_fft))[0]
        audio = overlap_add(frames)[:, side : total - side] / weight[side : total - side]
        return audio.reshape(*batch, -1)

    def magnitudes(
        self, log_mel: Float[Tensor, "*batch frames mels"], iterations: int = 30
    ) -> Float[Tensor, "*batch frames bins"]:
        """Magnitudes, at least 0, whose mel spectrum is nearest to the given one in squares.

        Multiplicative updates (Lee and Seung 2001) from the clipped pseudo-inverse: the error
        never grows, and nothing turns negative.
        """
        mel = log_mel.exp()
        estimate = (mel @ self.inverse.T).clamp_min(self.config.floor)
        target = mel @ self.filters
        for _ in range(iterations):
            estimate = estimate * target / ((estimate @ self.filters.T) @ self.filters + 1e-12)
        return estimate

    @torch.no_grad()
    def griffin_lim(
        self,
        log_mel: Float[Tensor, "*batch frames mels"],
        *,
        iterations: int = 24,
        momentum: float = 0.99,
        key: Any = 0,
    ) -> Float[Tensor, "*batch samples"]:
        """Audio with this log-mel spectrum, by fast Griffin-Lim from random phases.

        Perraudin, Balazs and Sondergaard 2013. The same key gives the same audio on one kind of
        machine.

        Args:
            log_mel: as `forward` gives it.
            iterations: at least 0.
            momentum: in [0, 1); 0 is plain Griffin-Lim.
            key: whole number or JAX random key, of the first phases.

        Raises:
            ValueError: a wrong number of mels, iterations below 0 or momentum outside [0, 1).
        """
        check_count(iterations, "iterations", 0)
        if not 0 <= momentum < 1:
            reject("momentum", momentum, "at least 0 and below 1")
        if log_mel.shape[-1] != self.config.n_mels:
            reject("log_mel", f"shape {tuple(log_mel.shape)}", f"{self.config.n_mels} mels last")
        magnitude = self.magnitudes(log_mel)
        turns = uniform_like(magnitude, key)
        phase = torch.polar(torch.ones_like(magnitude), turns * (2 * math.pi))
        previous = torch.zeros_like(phase)
        for _ in range(iterations):
            rebuilt = self.stft(self.istft(magnitude * phase))
            phase = rebuilt - momentum / (1 + momentum) * previous
            phase = phase / phase.abs().clamp_min(1e-12)
            previous = rebuilt
        return self.istft(magnitude * phase)


@functools.lru_cache(maxsize=4)
def frontend(config: MelConfig | None = None) -> MelFrontend:
    """A shared `MelFrontend` on the CPU."""
    return MelFrontend(config)


def log_mel_of(
    audio: Float[np.ndarray, " samples"], config: MelConfig | None = None
) -> Float[np.ndarray, "frames mels"]:
    """Log-mel features of one recording, NumPy to NumPy."""
    with torch.no_grad():
        return frontend(config)(torch.from_numpy(np.asarray(audio, np.float32))).numpy()


# ---- Text ----------------------------------------------------------------------------------------


def encode_characters(text: str) -> Int[np.ndarray, " characters"]:
    """Ids of the characters, in lower case, runs of white space as one space.

    >>> encode_characters("Ab c").tolist()
    [0, 1, 33, 2]

    Raises:
        ValueError: no character, or one that is not among the 34 of `CHARACTERS`.
    """
    plain = " ".join(text.lower().split())
    if not plain:
        reject("text", repr(text), "at least one character")
    for position, character in enumerate(plain):
        if character not in CHARACTERS:
            reject(
                "text",
                f"{character!r} at position {position}",
                f"written in the {len(CHARACTERS)} characters a-z . , ? ! : ; ' and space",
            )
    return np.array([CHARACTERS.index(character) for character in plain], np.int64)


def decode_characters(ids: Int[np.ndarray, " characters"]) -> str:
    """The text of character ids; the inverse of `encode_characters`."""
    return "".join(CHARACTERS[i] for i in check_ids(ids, len(CHARACTERS)))


class PhonemeTable:
    """Ids of phonemes: 0 is the pause, the others follow in sorted order.

    Args:
        phonemes: names; the pause is added where it is missing.
    """

    def __init__(self, phonemes: Iterable[str]) -> None:
        self.names: tuple[str, ...] = (PAUSE, *sorted(set(phonemes) - {PAUSE}))
        self._ids = {name: index for index, name in enumerate(self.names)}

    @classmethod
    def from_utterances(cls, utterances: Iterable[Utterance]) -> PhonemeTable:
        """All phonemes of the alignments.

        Raises:
            ValueError: an utterance without an alignment.
        """
        return cls(name for u in utterances for name in _aligned(u).phonemes)

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, phonemes: Sequence[str]) -> Int[np.ndarray, " P"]:
        """Ids of phoneme names.

        Raises:
            ValueError: a name that is not in the table.
        """
        for name in phonemes:
            if name not in self._ids:
                reject("phonemes", name, f"among the {len(self)} of the table")
        return np.array([self._ids[name] for name in phonemes], np.int64)

    def decode(self, ids: Int[np.ndarray, " P"]) -> list[str]:
        """Names of phoneme ids."""
        return [self.names[i] for i in check_ids(ids, len(self))]


def durations(
    alignment: Alignment, count: int, unit: int = MelConfig().samples_per_token
) -> Int[np.ndarray, " P"]:
    """Whole durations of the phonemes that sum to `count`, in units of `unit` samples.

    Edges are rounded to the nearest unit, so that no edge moves by more than half of one; the last
    phoneme takes what is left. A short phoneme may get 0.

    Args:
        alignment: phonemes in samples.
        count: tokens (or frames) of the whole utterance.
        unit: samples in one token, or in one frame.

    Raises:
        ValueError: a count or unit below 1.
    """
    check_count(count, "count")
    check_count(unit, "unit")
    edges = np.minimum(np.round(alignment.edges / unit).astype(np.int64), count)
    edges[-1] = count
    return np.diff(edges)


def expand(ids: Int[np.ndarray, " P"], lengths: Int[np.ndarray, " P"]) -> Int[np.ndarray, " count"]:
    """Every id repeated as often as it lasts."""
    return np.repeat(np.asarray(ids), np.asarray(lengths))


class Lexicon:
    """Words of a closed domain and their phonemes, so that text can be read without espeak-ng.

    Args:
        entries: the phonemes of every word.
        before: by word and by the word after it ("" at the end of the text), phonemes that differ
            from the entry, as those of "the" before a vowel.
    """

    def __init__(
        self,
        entries: Mapping[str, Sequence[str]],
        before: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    ) -> None:
        self.entries = {word: tuple(said) for word, said in sorted(entries.items())}
        self.before = {
            word: {after: tuple(said) for after, said in sorted(cases.items())}
            for word, cases in sorted((before or {}).items())
        }

    @classmethod
    def from_utterances(cls, utterances: Iterable[Utterance]) -> Lexicon:
        """Each word with the phonemes that it has most often in the alignments.

        Raises:
            ValueError: an utterance without an alignment.
        """
        heard: dict[str, dict[str, collections.Counter[tuple[str, ...]]]] = {}
        for utterance in utterances:
            alignment = _aligned(utterance)
            words = utterance.text.split()
            for index, (word, after) in enumerate(zip(words, [*words[1:], ""], strict=True)):
                said = tuple(
                    alignment.phonemes[i] for i in np.flatnonzero(alignment.words == index)
                )
                if said:
                    cases = heard.setdefault(word, collections.defaultdict(collections.Counter))
                    cases[after][said] += 1
        entries, before = {}, {}
        for word, cases in heard.items():
            entries[word] = _commonest(sum(cases.values(), collections.Counter()))
            chosen = {after: _commonest(counts) for after, counts in cases.items()}
            before[word] = {a: said for a, said in chosen.items() if said != entries[word]}
        return cls(entries, {word: cases for word, cases in before.items() if cases})

    def pronounce(self, text: str) -> list[str]:
        """Phonemes of a text, a pause at the end as in the corpus.

        Raises:
            ValueError: no word, or a word that is not in the lexicon, with the nearest ones.
        """
        words = check_words(text, self.entries)
        said = [
            self.before.get(word, {}).get(after, self.entries[word])
            for word, after in zip(words, [*words[1:], ""], strict=True)
        ]
        return [*(name for phonemes in said for name in phonemes), PAUSE]

    def save(self, path: PathLike) -> None:
        """Write as JSON."""
        with atomic_path(path) as temporary:
            record = {"entries": self.entries, "before": self.before}
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: PathLike) -> Lexicon:
        """Read what `save` wrote.

        Raises:
            ValueError: no such file, or not one that `save` wrote.
        """
        with reading(path, "a lexicon that tokenkl wrote") as file:
            record = file.json(LexiconRecord)
        return cls(record["entries"], record["before"])


class LexiconRecord(TypedDict):
    """A lexicon as plain values."""

    entries: dict[str, list[str]]
    before: dict[str, dict[str, list[str]]]


def _commonest(counts: collections.Counter[tuple[str, ...]]) -> tuple[str, ...]:
    """The most frequent; ties go to the first in sorted order, not in order of appearance."""
    return min(counts, key=lambda said: (-counts[said], said))


def _aligned(utterance: Utterance) -> Alignment:
    if utterance.alignment is None:
        reject("utterance", utterance.name, "one with an alignment of phonemes")
    return utterance.alignment
