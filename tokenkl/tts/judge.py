"""Judges of speech: words heard, quality guessed, pitch measured. None is trained on our output.

- `Judge`: pocketsphinx with its bundled English acoustic model and an n-gram model of the closed
  domain, built from the grammar, or of other texts. With single words ("unigram") it must hear
  every word by itself; with pairs ("bigram") the grammar helps it. The first is the sensitive one;
  report both.
- `dnsmos`: the DNSMOS P.835 networks that the package speechmos ships; use it relatively, since it
  was made for noisy telephony and not for synthetic speech.
- `f0_statistics`: YIN.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import importlib.util
import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from tokenkl._extras import MissingExtra
from tokenkl._random import generator
from tokenkl._validation import as_float_array, check_choice, check_positive, reject
from tokenkl.estimate import ConfidenceInterval
from tokenkl.tts.audio import SAMPLE_RATE, to_int16
from tokenkl.tts.grammar import TEMPLATES, Template, ngram_counts
from tokenkl.tts.resampling import ends, most_of_none, stretched

Grammar = Literal["unigram", "bigram"]
GRAMMARS: tuple[Grammar, ...] = ("unigram", "bigram")

#: Seconds of silence that the judge adds at both ends, and the standard deviation of the noise that
#: it adds everywhere, 60 dB below full scale. Digital silence, which no recording has, more than
#: doubles the errors on true audio; the noise is the same for every utterance and every system.
MARGIN, DITHER = 0.2, 1e-3

#: Probability that the bigram model leaves for pairs which the grammar does not have.
BACKOFF = 1e-4


# ---- Words ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Language:
    """What a judge expects to hear: an n-gram model in the ARPA format, and its words.

    - `arpa`: the model, as text.
    - `words`: all that can be heard.
    """

    arpa: str
    words: frozenset[str]

    @classmethod
    def of_templates(
        cls, grammar: Grammar = "bigram", templates: Sequence[Template] = TEMPLATES
    ) -> Language:
        """Of a closed domain, from exact counts.

        "unigram": all words equally likely, with the mean length of a sentence. "bigram": the
        probability of each word after the one before it, with `BACKOFF` left for all other pairs.

        Raises:
            ValueError: an unknown grammar.
        """
        check_choice(grammar, GRAMMARS, "grammar")
        single = {words[0]: count for words, count in ngram_counts(1, templates).items()}
        spoken = {word: count for word, count in single.items() if word not in ("<s>", "</s>")}
        length = sum(spoken.values())
        log = {"</s>": math.log10(1 / (length + 1))}
        log |= dict.fromkeys(spoken, math.log10(length / (length + 1) / len(spoken)))
        counts = ngram_counts(2, templates) if grammar == "bigram" else {}
        backoff = math.log10(BACKOFF) if counts else 0.0
        pairs = {
            (first, second): math.log10((1 - BACKOFF) * count / single[first])
            for (first, second), count in counts.items()
        }
        words = {word for template in templates for slot in template.slots for word in slot}
        return cls(_arpa(log, dict.fromkeys([*log, "<s>"], backoff), pairs), frozenset(words))

    @classmethod
    def of_texts(
        cls, texts: Sequence[str], grammar: Grammar = "bigram", others: Sequence[str] = ()
    ) -> Language:
        """Of written texts, whose words are counted, see `words_of`.

        "unigram": words as often as in all texts. "bigram": pairs as often as in `texts`, with
        Witten and Bell's share (IEEE Trans. Inf. Theory 37, 1991) for those that are not there.

        Args:
            texts: with at least one word.
            grammar: as above.
            others: texts whose words can be heard, too, but whose pairs are not counted.

        Raises:
            ValueError: an unknown grammar, or no word.

        Example:
            >>> sorted(Language.of_texts(["Turn left, then right."]).words)
            ['left', 'right', 'then', 'turn']
        """
        check_choice(grammar, GRAMMARS, "grammar")
        rows = [words for text in [*texts, *others] if (words := words_of(text))]
        if not rows:
            reject("texts", f"{len(texts)} of them", "with at least one word")
        counts = collections.Counter(itertools.chain(*rows, ["</s>"] * len(rows)))
        total = counts.total()
        single = {word: count / total for word, count in counts.items()}
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        if grammar == "bigram":
            for text in texts:
                if words := words_of(text):
                    pairs.update(itertools.pairwise(["<s>", *words, "</s>"]))
        followers: dict[str, list[tuple[str, int]]] = {}
        for (first, second), count in sorted(pairs.items()):
            followers.setdefault(first, []).append((second, count))
        log_pairs, backoff = {}, dict.fromkeys([*single, "<s>"], 0.0)
        for first, found in followers.items():
            seen, kinds = sum(count for _, count in found), len(found)
            for second, count in found:
                log_pairs[first, second] = math.log10(count / (seen + kinds))
            # What is left goes to the words that never followed, in their proportions.
            rest = 1 - sum(single[second] for second, _ in found)
            share = kinds / (seen + kinds)
            backoff[first] = math.log10(share / rest) if rest > 1e-12 else -99.0
        log = {word: math.log10(share) for word, share in single.items()}
        return cls(_arpa(log, backoff, log_pairs), frozenset(single) - {"</s>"})


def _arpa(
    single: Mapping[str, float],
    backoff: Mapping[str, float],
    pairs: Mapping[tuple[str, str], float],
) -> str:
    """From logarithms, base 10."""
    lines = ["\\data\\", f"ngram 1={len(single) + 1}"]
    lines += [f"ngram 2={len(pairs)}"] if pairs else []
    lines += ["", "\\1-grams:", f"-99.0 <s> {backoff['<s>']:.4f}"]
    lines += [f"{value:.4f} {word} {backoff[word]:.4f}" for word, value in sorted(single.items())]
    if pairs:
        lines += ["", "\\2-grams:"]
        lines += [
            f"{value:.4f} {first} {second}" for (first, second), value in sorted(pairs.items())
        ]
    return "\n".join([*lines, "", "\\end\\", ""])


def words_of(text: str) -> list[str]:
    """The words of a text as the judge writes them: lower case, without punctuation.

    >>> words_of("Don't stop -- twenty-one, 'please'!")
    ["don't", 'stop', 'twenty', 'one', 'please']
    """
    return [
        bare
        for word in text.lower().replace("-", " ").split()
        if (bare := word.strip(".,?!:;'\"()")) and any(map(str.isalnum, bare))
    ]


@functools.cache
def _pronunciations() -> Mapping[str, tuple[str, ...]]:
    """Words that pocketsphinx can hear, with their lines of its dictionary."""
    try:
        import pocketsphinx
    except ImportError as error:
        raise MissingExtra("the judge", "pocketsphinx", "tts") from error
    source = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    found: dict[str, list[str]] = {}
    for line in source.read_text(encoding="utf-8").splitlines():
        found.setdefault(line.split(" ", 1)[0].split("(", 1)[0], []).append(line)
    return {word: tuple(lines) for word, lines in found.items()}


def unpronounced(texts: Sequence[str]) -> set[str]:
    """Words of these texts that no judge can hear: pocketsphinx has no pronunciation of them.

    Raises:
        ImportError: the extra `tts` is not installed.
    """
    known = _pronunciations()
    return {word for text in texts for word in words_of(text) if word not in known}


class Judge:
    """Hears the words of a language, that of the closed domain by default.

    Args:
        grammar: "unigram" or "bigram" of the closed domain; see the module. Or
        language: the sentences that may occur.

    Raises:
        ImportError: the extra `tts` is not installed.
        ValueError: an unknown grammar, or a word without a pronunciation in pocketsphinx.
    """

    def __init__(self, grammar: Grammar = "bigram", *, language: Language | None = None) -> None:
        known = _pronunciations()
        language = language or Language.of_templates(grammar)
        if missing := sorted(language.words - known.keys()):
            expected = "of words that pocketsphinx can pronounce"
            reject("language", f"one with {', '.join(missing)}", expected)
        import pocketsphinx

        with tempfile.TemporaryDirectory() as folder:
            model, dictionary = Path(folder) / "domain.arpa", Path(folder) / "domain.dict"
            model.write_text(language.arpa, encoding="ascii")
            lines = [line for word in known if word in language.words for line in known[word]]
            dictionary.write_text("\n".join(lines) + "\n", encoding="utf-8")
            self._decoder = pocketsphinx.Decoder(
                hmm=pocketsphinx.get_model_path("en-us/en-us"),
                lm=str(model),
                dict=str(dictionary),
                cmn="batch",  # mean over the utterance
                loglevel="FATAL",
            )

    def transcribe(self, audio: Float[np.ndarray, " samples"]) -> str:
        """The words that are heard in audio at `SAMPLE_RATE`, "" if none.

        Raises:
            ValueError: not one channel of finite samples.
        """
        margin = round(MARGIN * SAMPLE_RATE)
        samples = np.pad(as_float_array("audio", audio, ndim=1), margin)
        samples += DITHER * generator(0).standard_normal(samples.size)
        # The computation of features keeps a state that changes what is heard in later utterances,
        # above all in bad speech (18 of 24 transcripts); a fresh one takes 3 ms.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(to_int16(samples).tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return "" if heard is None else heard.hypstr

    def word_errors(
        self, audio: Sequence[Float[np.ndarray, " samples"]], texts: Sequence[str]
    ) -> WordErrors:
        """Transcribe every recording and compare it with what it should say."""
        return word_errors(texts, [self.transcribe(one) for one in audio])


@dataclasses.dataclass(frozen=True, eq=False)
class WordErrors:
    """Errors of every utterance: substitutions, deletions and insertions together.

    - `errors`, `lengths`: word errors, and words of the reference, of each utterance.
    - `references`, `hypotheses`: what was to be said, and what was heard.
    """

    errors: Int[np.ndarray, " utterances"]
    lengths: Int[np.ndarray, " utterances"]
    references: tuple[str, ...]
    hypotheses: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Word error rate: all errors over all words; above 1 where much is inserted."""
        return float(self.errors.sum() / self.lengths.sum())

    def interval(
        self, key: Any, level: float = 0.95, resamples: int = 10_000
    ) -> ConfidenceInterval:
        """Bootstrap interval of `rate` over utterances, stretched for few of them (`resampling`).

        It says nothing of other voices or seeds. Without a single error its upper end is Clopper
        and Pearson's for the share of utterances with an error, each taken to have one.
        """
        rng = generator(key)
        count = self.errors.size
        rates = np.empty(resamples)
        for start in range(0, resamples, 1000):
            chosen = rng.integers(count, size=(min(1000, resamples - start), count))
            part = self.errors[chosen].sum(axis=1) / self.lengths[chosen].sum(axis=1)
            rates[start : start + part.size] = part
        low, high = ends(stretched(rates, self.rate, count, level), level)
        if not self.errors.any():
            high = max(high, most_of_none(count, level) / float(self.lengths.mean()))
        return ConfidenceInterval(max(low, 0.0), high, level)


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> WordErrors:
    """Count word errors by the least number of edits (jiwer).

    Raises:
        ValueError: lists of different lengths, or a reference without words.
    """
    import jiwer

    if len(references) != len(hypotheses) or not references:
        reject(
            "hypotheses", f"{len(hypotheses)} of them", f"as many as references, {len(references)}"
        )
    errors, lengths = [], []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        if not reference.split():
            reject("references", repr(reference), "texts with at least one word")
        counts = jiwer.process_words(reference, hypothesis)
        errors.append(counts.substitutions + counts.deletions + counts.insertions)
        lengths.append(len(reference.split()))
    return WordErrors(np.array(errors), np.array(lengths), tuple(references), tuple(hypotheses))


# ---- Quality -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Quality:
    """DNSMOS P.835 opinions from 1 to 5: speech alone, background alone, overall."""

    signal: float
    background: float
    overall: float


#: Seconds that the DNSMOS network hears at once, and how far it moves on.
_WINDOW, _STEP = 9.01, 1.0
#: Polynomials, highest power first, from the network's outputs to opinions (in speechmos 0.0.1).
_POLYNOMIALS = {
    "signal": (-0.08397278, 1.22083953, 0.0052439),
    "background": (-0.13166888, 1.60915514, -0.39604546),
    "overall": (-0.06766283, 1.11546468, 0.04602535),
}


def dnsmos_is_available() -> bool:
    """Whether the extra `tts-mos` is installed."""
    return all(importlib.util.find_spec(name) for name in ("speechmos", "onnxruntime"))


def dnsmos(audio: Float[np.ndarray, " samples"]) -> Quality:
    """DNSMOS P.835 of audio at `SAMPLE_RATE` (Reddy, Gopal and Cutler 2022).

    Shorter audio than 9.01 s is repeated until it is long enough, longer audio is averaged over
    windows one second apart, as in the published use of the network.

    Raises:
        ImportError: the extra `tts-mos` is not installed.
        ValueError: audio without samples, or not one channel of finite samples.
    """
    samples = as_float_array("audio", audio, ndim=1).astype(np.float32)
    if samples.size == 0:
        reject("audio", "no sample", "one channel with samples")
    session = _dnsmos_session()
    window = int(_WINDOW * SAMPLE_RATE)
    if samples.size < window:
        samples = np.tile(samples, -(-window // samples.size))[:window]
    step = int(_STEP * SAMPLE_RATE)
    starts = range(0, samples.size - window + 1, step)
    windows = [np.clip(samples[start : start + window], -1, 1) for start in starts]
    raw = np.array([session.run(None, {"input_1": one[None]})[0][0] for one in windows])
    scores = {
        name: float(np.polyval(_POLYNOMIALS[name], raw[:, column]).mean())
        for column, name in enumerate(("signal", "background", "overall"))
    }
    return Quality(**scores)


@functools.lru_cache(maxsize=1)
def _dnsmos_session() -> Any:
    if not dnsmos_is_available():
        raise MissingExtra("DNSMOS", "speechmos and onnxruntime", "tts-mos")
    import onnxruntime

    # The package is only looked up, not imported: importing it needs librosa.
    spec = importlib.util.find_spec("speechmos")
    assert spec is not None
    assert spec.origin is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = Path(spec.origin).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    return onnxruntime.InferenceSession(
        str(model), sess_options=options, providers=["CPUExecutionProvider"]
    )


# ---- Pitch ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class F0Statistics:
    """Pitch of the voiced frames of one recording.

    - `mean`, `spread`: mean and standard deviation in Hz.
    - `semitones`: standard deviation of 12 log2 F0, which does not grow with the mean.
    - `voiced`: share of the frames that are voiced. The others are NaN where it is 0.
    """

    mean: float
    spread: float
    semitones: float
    voiced: float


def f0_contour(
    audio: Float[np.ndarray, " samples"],
    rate: int = SAMPLE_RATE,
    *,
    low: float = 60.0,
    high: float = 400.0,
    hop: int = 160,
    threshold: float = 0.25,
) -> Float[np.ndarray, " frames"]:
    """Fundamental frequency every `hop` samples in Hz, NaN where unvoiced.

    YIN (de Cheveigne and Kawahara 2002): the first dip of the cumulative-mean-normalised difference
    function below `threshold`, with parabolic interpolation. The difference is over a window of
    one period of `low`, doubled. Frames 40 dB below the loudest count as unvoiced.

    Args:
        audio: one channel.
        rate: samples a second.
        low, high: the range that is searched, in Hz.
        hop: samples from one frame to the next.
        threshold: above 0; smaller is stricter about what is voiced. The paper's 0.1 to 0.15 finds
            few voiced frames in speech from Griffin-Lim, whose phases blur the periods.

    Raises:
        ValueError: a range that is not 0 < low < high <= rate / 4, or a threshold not above 0.
    """
    samples = as_float_array("audio", audio, ndim=1)
    check_positive(threshold, "threshold")
    if not 0 < low < high <= rate / 4:
        reject("low, high", f"{low}, {high}", f"0 < low < high <= {rate / 4} Hz")
    shortest, longest = int(rate / high), math.ceil(rate / low) + 1
    window = 2 * longest
    span = window + longest
    if samples.size < span:
        return np.full(0, np.nan)
    frames = np.lib.stride_tricks.sliding_window_view(samples, span)[::hop]
    difference = _difference(frames, window, longest)
    lags = np.arange(1, longest + 1)
    # 1 at lag 0 by definition; a silent frame has no dip.
    total = np.cumsum(difference[:, 1:], axis=1)
    normalised = difference[:, 1:] * lags / np.where(total > 0, total, 1.0)
    normalised[total[:, -1] <= 0] = 1.0
    energy = (frames[:, :window] ** 2).mean(axis=1)
    loud = energy > 1e-4 * energy.max()
    contour = np.full(frames.shape[0], np.nan)
    for index in np.flatnonzero(loud):
        period = _first_dip(normalised[index], shortest, threshold)
        if period is not None:
            contour[index] = rate / period
    return contour


def _difference(frames: np.ndarray, window: int, longest: int) -> np.ndarray:
    """d(tau) = sum over the window of (x[t] - x[t + tau])^2 for tau = 0 .. longest, by FFT."""
    size = 2 ** math.ceil(math.log2(frames.shape[1] + window))
    spectrum = np.fft.rfft(frames, size)
    head = np.fft.rfft(frames[:, :window], size)
    correlation = np.fft.irfft(spectrum * head.conj(), size)[:, : longest + 1]
    squares = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    power = squares[:, window : window + longest + 1] - squares[:, : longest + 1]
    return np.maximum(power[:, :1] + power - 2 * correlation, 0.0)


def _first_dip(curve: np.ndarray, shortest: int, threshold: float) -> float | None:
    """The lag, in samples, of the first minimum below the threshold; `curve[i]` is at lag i + 1."""
    below = np.flatnonzero(curve[shortest - 1 :] < threshold)
    if below.size == 0:
        return None
    i = int(below[0]) + shortest - 1
    while i + 1 < curve.size and curve[i + 1] < curve[i]:
        i += 1
    if i == 0 or i + 1 == curve.size:
        return None  # no minimum inside the range: a slope towards a longer period
    left, centre, right = curve[i - 1 : i + 2]
    bend = left - 2 * centre + right
    return i + 1 + (0.5 * (left - right) / bend if bend > 0 else 0.0)


def f0_statistics(audio: Float[np.ndarray, " samples"], rate: int = SAMPLE_RATE) -> F0Statistics:
    """Mean and spread of the pitch of one recording; see `f0_contour`."""
    contour = f0_contour(audio, rate)
    pitch = contour[np.isfinite(contour)]
    voiced = pitch.size / max(contour.size, 1)
    if pitch.size == 0:
        return F0Statistics(math.nan, math.nan, math.nan, voiced)
    return F0Statistics(
        float(pitch.mean()), float(pitch.std()), float((12 * np.log2(pitch)).std()), voiced
    )
