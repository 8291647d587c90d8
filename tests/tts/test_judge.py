"""Judges: the language models are probability laws, true audio is heard, pitch is measured."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats

from tokenkl._random import generator
from tokenkl.tts.audio import SAMPLE_RATE
from tokenkl.tts.corpus import Corpus
from tokenkl.tts.grammar import Template
from tokenkl.tts.judge import (
    BACKOFF,
    Grammar,
    Judge,
    Language,
    WordErrors,
    dnsmos,
    f0_contour,
    f0_statistics,
    unpronounced,
    word_errors,
    words_of,
)


def _read_arpa(arpa: str) -> tuple[dict[int, int], dict[int, list[tuple[float, tuple[str, ...]]]]]:
    """The sections of an ARPA file: announced sizes, and (log10 p, words, backoff) rows."""
    announced: dict[int, int] = {}
    sections: dict[int, list[tuple[float, tuple[str, ...]]]] = {}
    order = 0
    for line in arpa.splitlines():
        if line.startswith("ngram "):
            size, count = line.removeprefix("ngram ").split("=")
            announced[int(size)] = int(count)
        elif line.endswith("-grams:"):
            order = int(line[1])
            sections[order] = []
        elif line and order and not line.startswith("\\"):
            fields = line.split()
            sections[order].append((float(fields[0]), tuple(fields[1 : 1 + order])))
    return announced, sections


@pytest.mark.parametrize("grammar", ["unigram", "bigram"])
def test_language_models_are_probability_laws(grammar: Grammar) -> None:
    announced, sections = _read_arpa(Language.of_templates(grammar).arpa)
    assert announced == {order: len(rows) for order, rows in sections.items()}
    assert sum(10**p for p, words in sections[1] if words != ("<s>",)) == pytest.approx(1, rel=2e-4)
    if grammar == "bigram":
        histories = {first for _, (first, _) in sections[2]}
        assert histories == {word for _, (word,) in sections[1]} - {"</s>"}
        for history in histories:
            total = sum(10**p for p, (first, _) in sections[2] if first == history)
            assert total == pytest.approx(1 - BACKOFF, rel=2e-4)


def test_bigram_follows_the_grammar() -> None:
    template = Template("a", (("one", "two"), ("three",)), ())
    arpa = Language.of_templates("bigram", (template,)).arpa
    rows = {words: 10**p for p, words in _read_arpa(arpa)[1][2]}
    assert rows["<s>", "one"] == pytest.approx(0.5, rel=2e-4)
    assert rows["two", "three"] == pytest.approx(1, rel=2e-4)
    assert ("two", "one") not in rows


TEXTS = ["Turn left, then turn right.", "Don't turn -- 'twenty-one' is right!", "Left."]


@pytest.mark.parametrize("grammar", ["unigram", "bigram"])
def test_texts_make_a_probability_law(grammar: Grammar) -> None:
    """After every word, over all words: what was seen, and the rest by backing off."""
    language = Language.of_texts(TEXTS, grammar, ["Right, then down."])
    announced, sections = _read_arpa(language.arpa)
    assert announced == {order: len(rows) for order, rows in sections.items()}
    single = {words[0]: 10**p for p, words in sections[1] if words != ("<s>",)}
    assert set(single) - {"</s>"} == language.words
    assert sum(single.values()) == pytest.approx(1, rel=2e-4)
    assert single["turn"] == pytest.approx(3 / (15 + 4), rel=2e-4)
    if grammar == "unigram":
        return
    backoff = {}
    for line in language.arpa.split("1-grams:")[1].split("\\2-grams:")[0].split("\n"):
        if line:
            _, word, weight = line.split()
            backoff[word] = 10 ** float(weight)
    pairs = {words: 10**p for p, words in sections[2]}
    assert ("right", "then") not in pairs  # of the others words alone are counted
    assert pairs["<s>", "turn"] == pytest.approx(1 / (3 + 3), rel=2e-4)
    for first in ({first for first, _ in pairs} | {"down"}) - {"</s>"}:
        after = [pairs.get((first, word), backoff[first] * p) for word, p in single.items()]
        assert sum(after) == pytest.approx(1, rel=3e-4)


def test_words_that_nobody_can_hear() -> None:
    assert unpronounced(TEXTS) == set()
    assert unpronounced(["Say xyzzy, then left"]) == {"xyzzy"}
    assert words_of("-- 'Tis 2nd; -") == ["tis", "2nd"]
    with pytest.raises(ValueError, match="texts must be with at least one word; got 2 of them"):
        Language.of_texts(["--", ""])


def test_other_texts_are_heard(corpus: Corpus) -> None:
    """A judge of just these sentences makes no more errors than that of the whole grammar."""
    utterances = corpus.split("test")
    texts = [one.text.capitalize() + "." for one in utterances]
    judge = Judge(language=Language.of_texts(texts))
    found = judge.word_errors([one.audio for one in utterances], [one.text for one in utterances])
    assert found.rate < 0.1


#: Errors and judge of each grammar, and the audio that they heard.
Heard = tuple[dict[str, WordErrors], dict[str, Judge], list[np.ndarray]]


@pytest.fixture(scope="module")
def heard(corpus: Corpus) -> Heard:
    utterances = corpus.split("test") + corpus.split("combinations")
    audio, texts = [u.audio for u in utterances], [u.text for u in utterances]
    judges = {grammar: Judge(grammar) for grammar in ("unigram", "bigram")}
    return {name: judge.word_errors(audio, texts) for name, judge in judges.items()}, judges, audio


@pytest.mark.slow
def test_true_audio_is_heard(
    heard: Heard,
) -> None:
    """Measured on 120 sentences: about 10 % and 1 %; here on 14."""
    errors, _, _ = heard
    assert errors["bigram"].rate < 0.06
    assert errors["bigram"].rate <= errors["unigram"].rate < 0.25


@pytest.mark.slow
def test_other_sentences_are_not(
    heard: Heard,
) -> None:
    errors, _, _ = heard
    for result in errors.values():
        moved = result.hypotheses[1:] + result.hypotheses[:1]
        assert word_errors(result.references, moved).rate > 0.7


def test_noise_and_silence_score_no_words(
    heard: Heard,
) -> None:
    _, judges, _ = heard
    noise = 0.1 * generator(0).standard_normal(2 * SAMPLE_RATE)
    text = "one two three four five"
    for judge in judges.values():
        for audio in (noise, np.zeros(SAMPLE_RATE), np.zeros(0)):
            assert judge.word_errors([audio], [text]).rate > 0.7


def test_nothing_is_carried_over_from_one_utterance_to_the_next(
    heard: Heard,
) -> None:
    errors, judges, audio = heard
    for name, judge in judges.items():
        for index in (3, 0):
            assert judge.transcribe(audio[index]) == errors[name].hypotheses[index]


@pytest.mark.slow
def test_nothing_is_carried_over_from_bad_speech(
    heard: Heard,
) -> None:
    """True audio with noise as loud as itself: what is heard then hangs on every detail."""
    _, judges, audio = heard
    rng = generator(3)
    noisy = [a + a.std() * rng.standard_normal(a.size) for a in audio[:5]]
    judge = judges["unigram"]
    forward = [judge.transcribe(a) for a in noisy]
    backward = [judge.transcribe(a) for a in noisy[::-1]][::-1]
    assert forward == backward == [Judge("unigram").transcribe(a) for a in noisy]


def test_word_errors_by_hand() -> None:
    result = word_errors(
        ["one two three", "four five", "six"], ["one three", "four nine five", "seven"]
    )
    assert result.errors.tolist() == [1, 1, 1]
    assert result.lengths.tolist() == [3, 2, 1]
    assert result.rate == pytest.approx(0.5)
    low, high, level = result.interval(0)
    # The extreme resamples, one utterance three times, moved away by what three ask for.
    wider = math.sqrt(3 / 2) * stats.t.ppf(0.975, 2) / stats.norm.ppf(0.975)
    assert (low, high) == pytest.approx((0.5 - wider * (0.5 - 1 / 3), 0.5 + wider * 0.5))
    assert word_errors(["one two"] * 3, ["one", "one two", "one two"]).interval(0).low == 0
    nothing = word_errors(["one two"] * 9, ["one two"] * 9).interval(0)
    assert nothing[:2] == (0.0, pytest.approx((1 - 0.025 ** (1 / 9)) / 2))
    assert level == 0.95


def test_an_empty_hypothesis_misses_every_word() -> None:
    assert word_errors(["one two"], [""]).rate == 1


def test_interval_has_the_width_of_the_binomial_law() -> None:
    """Words of one-word sentences are independent: compare with the normal interval."""
    count, wrong = 400, 60
    result = word_errors(["one"] * count, ["two"] * wrong + ["one"] * (count - wrong))
    low, high, _ = result.interval(1)
    sd = math.sqrt(0.15 * 0.85 / count)
    assert low == pytest.approx(0.15 - 1.96 * sd, abs=0.004)
    assert high == pytest.approx(0.15 + 1.96 * sd, abs=0.004)


def test_judge_errors() -> None:
    with pytest.raises(ValueError, match="grammar must be one of 'unigram', 'bigram'"):
        Judge(cast(Any, "trigram"))
    with pytest.raises(
        ValueError,
        match="language must be of words that pocketsphinx can pronounce; got one with xyzzy",
    ):
        Judge(language=Language.of_texts(["say xyzzy"]))
    with pytest.raises(ValueError, match="hypotheses must be as many as references, 2; got 1"):
        word_errors(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="references must be texts with at least one word"):
        word_errors([""], ["a"])


def test_dnsmos_falls_with_noise(corpus: Corpus) -> None:
    audio = corpus.split("test")[0].audio
    noise = generator(0).standard_normal(audio.size) * np.sqrt(np.mean(audio**2))
    clean, noisy = dnsmos(audio), dnsmos(np.clip(audio + noise, -1, 1))
    assert 1 < noisy.overall < clean.overall - 0.4
    assert noisy.background < clean.background
    with pytest.raises(ValueError, match="audio must be one channel with samples"):
        dnsmos(np.zeros(0))


# ---- Pitch ---------------------------------------------------------------------------------------

TIMES = np.arange(SAMPLE_RATE) / SAMPLE_RATE


def _voice(frequency: Any, harmonics: Sequence[int] = range(1, 11)) -> np.ndarray:
    """A sum of harmonics whose fundamental follows `frequency` (Hz, one for each sample)."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, TIMES.shape)) / SAMPLE_RATE
    k = np.array(harmonics)[:, None]
    return 0.1 * (np.sin(k * phase + k) / k).sum(axis=0)


@pytest.mark.parametrize("frequency", [70.0, 103.7, 180.0, 220.5, 390.0])
def test_steady_pitch(frequency: float) -> None:
    contour = f0_contour(_voice(frequency))
    assert np.isfinite(contour).all()
    np.testing.assert_allclose(contour, frequency, rtol=2e-3)


def test_missing_fundamental() -> None:
    found = f0_statistics(_voice(120.0, harmonics=range(2, 9)))
    assert found.mean == pytest.approx(120, rel=2e-3)


def test_mean_and_spread_of_a_glide() -> None:
    """100 to 150 Hz, linearly: the frames reach from about 25 ms to 25 ms before the end."""
    found = f0_statistics(_voice(100 + 50 * TIMES))
    assert found.mean == pytest.approx(125, abs=0.5)
    assert found.spread == pytest.approx(0.95 * 50 / math.sqrt(12), rel=0.01)
    assert found.semitones == pytest.approx(0.95 * 12 * math.log2(1.5) / math.sqrt(12), rel=0.02)
    assert found.voiced == 1


def test_noise_and_silence_have_no_pitch() -> None:
    assert f0_statistics(generator(1).standard_normal(SAMPLE_RATE)).voiced < 0.02
    silent = f0_statistics(np.zeros(SAMPLE_RATE))
    assert silent.voiced == 0
    assert math.isnan(silent.mean)
    assert f0_contour(np.zeros(100)).size == 0


def test_pitch_errors() -> None:
    with pytest.raises(ValueError, match=r"low, high must be 0 < low < high <= 4000\.0 Hz"):
        f0_contour(TIMES, low=300, high=200)
    with pytest.raises(ValueError, match="threshold must be above 0"):
        f0_contour(TIMES, threshold=0)
