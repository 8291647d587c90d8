"""Evaluation: intervals cover, known pitch and length come out, floors are below ceilings."""

import dataclasses
import math
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats

from tokenkl._random import generator
from tokenkl.tts.audio import SAMPLE_RATE, Utterance
from tokenkl.tts.corpus import Corpus
from tokenkl.tts.evaluation import Spoken, ceilings_and_floors, evaluate
from tokenkl.tts.judge import Judge, WordErrors
from tokenkl.tts.reports import METRICS, SpeechReport, paired_difference
from tokenkl.tts.tokenizers import (
    TOKENIZERS,
    Tokenizer,
    TrainingConfig,
    features_of,
    train_tokenizer,
)

BUDGET = 2e-5


def quiet(done: float, total: float) -> None:
    """No bar."""


def _report(**arrays: np.ndarray) -> SpeechReport:
    """A report of nothing but these arrays (sentences, seeds)."""
    n, seeds = next(iter(arrays.values())).shape
    names = tuple(str(i) for i in range(n))
    return SpeechReport("simulated", names, names, tuple(range(seeds)), arrays)


# ---- Intervals -----------------------------------------------------------------------------------


def _two_way(
    rng: np.random.Generator,
    n: int,
    seeds: int,
    of_sentence: float,
    of_seed: float,
    of_both: float,
    mean: float = 3.0,
) -> np.ndarray:
    """mean + a_i + b_s + e_is."""
    a = of_sentence * rng.standard_normal((n, 1))
    b = of_seed * rng.standard_normal((1, seeds))
    return mean + a + b + of_both * rng.standard_normal((n, seeds))


def _least(runs: int, level: float) -> float:
    """Covered runs below which an interval of this level is rejected."""
    return stats.binom.ppf(BUDGET, runs, level)


@pytest.mark.parametrize(
    ("spreads", "seeds"),
    [((1, 0.0, 0.5), 3), ((1, 0.0, 2.0), 3), ((1, 0.1, 0.5), 3), ((0.3, 1.0, 0.3), 3),
     ((1, 0.3, 0.5), 5)],
)  # fmt: skip
def test_intervals_over_both_cover(spreads: tuple[float, float, float], seeds: int) -> None:
    """From no effect of the seed to nothing else; 93 % allows for 40 sentences and clipping."""
    runs, covered = 200, 0
    for run in range(runs):
        values = _two_way(generator(11, run), 40, seeds, *spreads)
        low, high, _ = _report(mos=values).measured("mos", run, resamples=400).interval
        covered += low < 3 < high
    assert covered >= _least(runs, 0.93)


def test_intervals_over_sentences_cover() -> None:
    """About these very seeds: what they add is part of the truth, not of the error."""
    runs, covered = 400, 0
    for run in range(runs):
        rng = generator(12, run)
        seeds = rng.standard_normal((1, 3))
        values = 3 + seeds + rng.standard_normal((40, 1)) + 0.5 * rng.standard_normal((40, 3))
        found = _report(mos=values).measured("mos", run, over="sentences", resamples=400)
        covered += found.interval.low < 3 + seeds.mean() < found.interval.high
    assert covered >= _least(runs, 0.93)


@pytest.mark.parametrize("n", [3, 8, 20])
def test_intervals_of_few_sentences_cover(n: int) -> None:
    """Plain percentiles cover 75, 87 and 91 % of them."""
    runs, covered = 300, np.zeros(3, int)
    for run in range(runs):
        rng = generator(14, run)
        one, other = (_report(mos=3 + rng.standard_normal((n, 1))) for _ in range(2))
        errors = np.rint(100 + 10 * rng.standard_normal(n)).astype(int)
        words = WordErrors(errors, np.full(n, 500), (), ())
        pairs = (
            (one.measured("mos", run, resamples=400).interval, 3.0),
            (paired_difference(one, other, "mos", run, resamples=400).interval, 0.0),
            (words.interval(run, resamples=400), 0.2),
        )
        covered += [interval.low < truth < interval.high for interval, truth in pairs]
    assert covered.min() >= _least(runs, 0.93)


def test_no_rate_is_below_0() -> None:
    errors, words = np.array([[2.0], [0], [0], [0]]), np.full((4, 1), 5.0)
    found = _report(errors_bigram=errors, words=words).measured("wer_bigram", 0)
    assert found.interval.low == 0 < found.value < found.interval.high


def test_one_sentence_tells_nothing_of_others() -> None:
    one = _report(mos=np.array([[3.0]]))
    assert one.measured("mos", 0).interval[:2] == (-np.inf, np.inf)
    assert paired_difference(one, one, "mos", 0).interval[:2] == (-np.inf, np.inf)


def test_resampling_three_seeds_does_not_cover() -> None:
    """Why `SpeechReport.measured` does not: the reason stated in `reports`."""
    runs, covered = 400, 0
    for run in range(runs):
        rng = generator(13, run)
        values = _two_way(rng, 40, 3, 0.3, 1.0, 0.3)
        draws = [
            values[rng.integers(40, size=40)][:, rng.integers(3, size=3)].mean() for _ in range(100)
        ]
        low, high = np.quantile(draws, [0.025, 0.975])
        covered += low < 3 < high
    assert covered / runs == pytest.approx(0.75, abs=0.08)


def test_word_error_rates_cover() -> None:
    """Rare errors that come in clusters, as one bad sentence has several."""
    runs, covered, words = 200, 0, np.full((120, 3), 7.0)
    for run in range(runs):
        rng = generator(14, run)
        hard = rng.beta(0.2, 3.0, size=(120, 1))
        errors = rng.binomial(7, np.broadcast_to(hard, (120, 3))).astype(float)
        report = _report(errors_bigram=errors, words=words)
        low, high, _ = report.measured("wer_bigram", run, resamples=400).interval
        covered += low < 0.2 / 3.2 < high
    assert covered >= _least(runs, 0.93)


def test_no_error_at_all_is_not_certainty() -> None:
    """120 sentences without an error: at 95 % up to 3 % of the sentences may have one."""
    report = _report(errors_bigram=np.zeros((120, 3)), words=np.full((120, 3), 6.0))
    low, high, _ = report.measured("wer_bigram", 0).interval
    assert low == 0
    assert high == pytest.approx((1 - 0.025 ** (1 / 120)) / 6, rel=1e-12)
    same = paired_difference(report, report, "wer_bigram", 0).interval
    assert same.low == -high
    assert same.high == high


def test_paired_differences_cover_and_use_the_pairing() -> None:
    runs, covered, width, unpaired = 200, 0, [], []
    for run in range(runs):
        rng = generator(15, run)
        shared = rng.standard_normal((40, 1))
        a, b = (
            _report(mos=shared + _two_way(rng, 40, 3, 0.2, 0.1, 0.3, mean=mean)) for mean in (3, 2)
        )
        low, high, _ = paired_difference(a, b, "mos", run, resamples=400).interval
        covered += low < 1 < high
        width.append(high - low)
        unpaired.append(np.ptp(a.measured("mos", run, resamples=400).interval[:2]))
    assert covered >= _least(runs, 0.93)
    assert np.mean(width) < 0.8 * np.mean(unpaired) * math.sqrt(2)


def test_paired_seeds_cover_and_are_narrower() -> None:
    """What a seed adds to both falls out; what it adds to one does not."""
    runs, covered, width, unpaired = 200, 0, [], []
    for run in range(runs):
        rng = generator(18, run)
        shared = 0.5 * rng.standard_normal((1, 5)) + rng.standard_normal((40, 1))
        a, b = (
            _report(mos=shared + _two_way(rng, 40, 5, 0.2, 0.1, 0.3, mean=mean)) for mean in (3, 2)
        )
        low, high, _ = paired_difference(a, b, "mos", run, seeds="paired", resamples=400).interval
        covered += low < 1 < high
        width.append(high - low)
        unpaired.append(np.ptp(paired_difference(a, b, "mos", run, resamples=400).interval[:2]))
    assert covered >= _least(runs, 0.93)
    assert np.mean(width) < 0.5 * np.mean(unpaired)


def test_seeds_that_add_nothing_widen_little() -> None:
    """What sentences alone make of the differences between seeds is no effect of seeds."""
    wider = []
    for run in range(40):
        values = _two_way(generator(19, run), 40, 3, 0.2, 0.0, 1.0)
        both, sentences = (
            _report(mos=values).measured("mos", run, over=over, resamples=400).interval
            for over in ("both", "sentences")
        )
        wider.append((both.high - both.low) / (sentences.high - sentences.low))
    assert np.median(wider) < 1.3


def test_other_seeds_are_not_paired() -> None:
    a, b = (_report(mos=np.ones((3, seeds))) for seeds in (3, 4))
    with pytest.raises(ValueError, match=r"a, b .*of the same seeds, in order"):
        paired_difference(a, b, "mos", 0, seeds="paired")


def test_a_report_differs_not_from_itself_over_sentences() -> None:
    report = _report(mos=_two_way(generator(16), 30, 3, 1, 0.2, 0.5))
    found = paired_difference(report, report, "mos", 0, over="sentences")
    assert found.value == found.interval.low == found.interval.high == 0


# ---- Spread of pitch -----------------------------------------------------------------------------


def test_spreads_are_those_of_the_simulation() -> None:
    """Sentence means 5 Hz apart, seeds 3 Hz: 3 within, the root of 34 in all; both cover."""
    covered = {"f0_spread": 0, "f0_spread_total": 0}
    runs = 150
    found: dict[str, list[float]] = {name: [] for name in covered}
    for run in range(runs):
        report = _report(f0_mean=_two_way(generator(17, run), 120, 3, 5.0, 0.0, 3.0, mean=100))
        for name, truth in (("f0_spread", 3), ("f0_spread_total", math.sqrt(34))):
            low, high, _ = report.measured(name, run, resamples=400).interval
            covered[name] += low < truth < high
            found[name].append(report.value(name) ** 2)
    assert min(covered.values()) >= _least(runs, 0.92)
    for name, variance in (("f0_spread", 9), ("f0_spread_total", 34)):  # unbiased in squares
        error = np.std(found[name]) / math.sqrt(runs)
        assert abs(np.mean(found[name]) - variance) < stats.norm.isf(BUDGET / 2) * error


def test_unvoiced_utterances_are_left_out_of_pitch() -> None:
    values = np.array([[100.0, 104.0, np.nan], [90.0, np.nan, np.nan], [120.0, 120.0, 120.0]])
    report = _report(f0_mean=values)
    assert report.value("f0_mean") == pytest.approx(np.nanmean(values))
    assert report.value("f0_spread") == pytest.approx(math.sqrt(8 / 3))  # 8 of 1, 0 of 2 degrees


# ---- From sound ----------------------------------------------------------------------------------


def _tone(frequency: float, tokens: int) -> np.ndarray:
    times = np.arange(640 * tokens) / SAMPLE_RATE
    k = np.arange(1, 8)[:, None]
    return 0.1 * (np.sin(2 * np.pi * k * frequency * times) / k).sum(axis=0)


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> Tokenizer:
    """Seconds of training: enough to tell floors from ceilings by true audio, not to be good."""
    config = dataclasses.replace(TOKENIZERS["fsq-3^8"], channels=24, blocks=(1, 1))
    features = features_of(corpus.split("train"), progress=quiet)
    training = TrainingConfig(steps=20, batch=4, frames=64)
    return train_tokenizer(features, config, training, key=7, progress=quiet)


def test_known_lengths_and_pitch(tokenizer: Tokenizer) -> None:
    """Two sentences of 25 tokens, said in 20 and 30, at pitches 4 and 8 Hz apart."""
    references = [Utterance(str(i), f"text {i}", _tone(100, 25)) for i in range(2)]
    spoken = {
        0: [Spoken("text 0", audio=_tone(98, 20), seconds=0.4),
            Spoken("text 1", audio=_tone(116, 30), seconds=0.2)],
        3: [Spoken("text 0", audio=_tone(102, 20), seconds=0.2),
            Spoken("text 1", audio=_tone(124, 30), seconds=0.4)],
    }  # fmt: skip
    report = evaluate(spoken, tokenizer, references, grammars=(), progress=quiet)
    assert report.value("length_error") == pytest.approx(0.2)
    assert report.value("length_bias") == pytest.approx(0, abs=1e-12)
    assert report.value("f0_mean") == pytest.approx(110, rel=2e-3)
    assert report.value("f0_spread") == pytest.approx(math.sqrt((8 + 32) / 2), rel=0.02)
    octaves = 12 * np.log2([102 / 98, 124 / 116])
    assert report.value("f0_spread_semitones") == pytest.approx(
        math.sqrt((octaves**2).mean() / 2), rel=0.02
    )
    assert report.value("f0_spread_total") == pytest.approx(
        math.sqrt((18**2 + 22**2) / 4), rel=0.01
    )
    assert report.value("latency") == pytest.approx(0.3)
    assert report.value("rtf") == pytest.approx(1.2 / (100 * 0.04))
    assert report.by_seed("latency").tolist() == pytest.approx([0.3, 0.3])
    assert "entropy" not in report.metrics
    assert report.K == 0


def test_speech_without_tokens_is_silence(tokenizer: Tokenizer, corpus: Corpus) -> None:
    references = corpus.split("test")[:2]
    said = [Spoken(u.text, np.zeros(0, np.int64)) for u in references]
    said[1] = Spoken(references[1].text, tokenizer.tokenize(references[1].audio))
    report = evaluate({0: said}, tokenizer, references, grammars=("bigram",), mos=2, progress=quiet)
    assert report.measurements["errors_bigram"][0, 0] == len(references[0].text.split())
    assert math.isnan(report.measurements["mos"][0, 0])
    assert 1 < report.measurements["mos"][1, 0] < 5
    assert report.measurements["duration"][0, 0] == 0


#: References, and what was said for each of them, by seed.
Said = tuple[list[Utterance], dict[int, list[Spoken]]]


@pytest.fixture(scope="module")
def spoken(tokenizer: Tokenizer, corpus: Corpus) -> Said:
    references = corpus.split("test")[:3]
    tokens = [tokenizer.tokenize(u.audio) for u in references]
    return references, {
        seed: [
            Spoken(u.text, np.roll(ids, seed), seconds=0.1)
            for u, ids in zip(references, tokens, strict=True)
        ]
        for seed in (1, 0)
    }


@pytest.mark.slow
def test_reports_survive_files(spoken: Said, tokenizer: Tokenizer, tmp_path: Path) -> None:
    references, said = spoken
    report = evaluate(said, tokenizer, references, grammars=("bigram",), progress=quiet)
    report.save(tmp_path / "report.json")
    read = SpeechReport.load(tmp_path / "report.json")
    assert read.to_json() == report.to_json()
    assert read.summary() == report.summary()
    assert report.seeds == (0, 1)
    assert report.value("entropy") > 0
    assert 0 < report.used[0] <= report.K == 6561
    assert report.heard["bigram"][2][1] == Judge("bigram").transcribe(
        tokenizer.synthesise(
            said[1][2].tokens, key=(1 << 32) + zlib.crc32(said[1][2].text.encode())
        )
    )


@pytest.mark.slow
def test_result_does_not_depend_on_workers(spoken: Said, tokenizer: Tokenizer) -> None:
    references, said = spoken
    calls = []
    one, two = (
        evaluate(said, tokenizer, references, label="x", grammars=("bigram",), workers=workers,
                 progress=lambda *a: calls.append(a))
        for workers in (1, 2)
    )  # fmt: skip
    assert one.to_json() == two.to_json()
    assert calls == [(i, 6) for i in range(1, 7)] * 2


@pytest.mark.slow
def test_true_audio_is_above_white_noise(tokenizer: Tokenizer, corpus: Corpus) -> None:
    found = ceilings_and_floors(
        corpus.split("test")[:3],
        tokenizer,
        which=("true audio", "white noise"),
        seeds=(2, 5),
        grammars=("bigram",),
        progress=quiet,
    )
    wer = {name: report.value("wer_bigram") for name, report in found.items()}
    assert wer["true audio"] < 0.1
    assert wer["white noise"] > 0.7
    assert found["true audio"].seeds == (0,)
    assert found["white noise"].seeds == (2, 5)


@pytest.mark.slow
def test_floors_and_ceilings_are_in_order(tokenizer: Tokenizer, corpus: Corpus) -> None:
    """A tokenizer of 20 steps is not heard: what is known of it is only that it cannot be best."""
    found = ceilings_and_floors(corpus.split("test")[:3], tokenizer, progress=quiet)
    wer = {name: report.value("wer_bigram") for name, report in found.items()}
    assert wer["true audio"] < 0.1
    assert wer["resynthesis"] < 0.2
    assert wer["true tokens"] > wer["true audio"]
    assert min(wer["white noise"], wer["shuffled text"]) > 0.7
    for name, report in found.items():
        assert (report.value("length_error") > 0) == (name == "shuffled text")
        assert ("entropy" in report.metrics) == (name in ("true tokens", "shuffled text"))
    worst, best = found["shuffled text"], found["true audio"]
    assert paired_difference(worst, best, "wer_unigram", 0).interval.low > 0.4


def test_errors(tokenizer: Tokenizer, corpus: Corpus) -> None:
    references = corpus.split("test")[:2]
    said = [Spoken(u.text, audio=u.audio) for u in references]
    with pytest.raises(ValueError, match="tokens, audio must be at least one of the two"):
        Spoken("a")
    with pytest.raises(ValueError, match="spoken must be a mapping with at least one seed"):
        evaluate({}, tokenizer, references)
    with pytest.raises(ValueError, match="references must be at least two utterances"):
        evaluate({0: said[:1]}, tokenizer, references[:1])
    with pytest.raises(ValueError, match=r"spoken\[4\] must be one for each of 2 texts"):
        evaluate({4: said[:1]}, tokenizer, references)
    with pytest.raises(ValueError, match=r"spoken\[4\]\[0\].text must be that of its reference"):
        evaluate({4: said[::-1]}, tokenizer, references)
    with pytest.raises(ValueError, match="grammars must be one of 'unigram', 'bigram'"):
        evaluate({0: said}, tokenizer, references, grammars=cast(Any, ("trigram",)))
    with pytest.raises(ValueError, match="which must be one of 'true audio'"):
        ceilings_and_floors(references, tokenizer, which=("best",))


def test_report_errors(tmp_path: Path) -> None:
    report = _report(mos=np.ones((4, 2)))
    with pytest.raises(ValueError, match="metric must be one of 'mos'; got rtf"):
        report.value("rtf")
    with pytest.raises(ValueError, match="over must be 'sentences' with fewer than 3 seeds"):
        report.measured("mos", 0, over="both")
    with pytest.raises(ValueError, match="a, b must be on the same texts"):
        paired_difference(report, _report(mos=np.ones((3, 2))), "mos", 0)
    with pytest.raises(ValueError, match=r"measurements\['mos'\] must be of shape \(4, 2\)"):
        dataclasses.replace(report, measurements={"mos": np.ones((4, 3))})
    with pytest.raises(
        ValueError,
        match=r"record must be a table with the names format, .*; got none called 'label'",
    ):
        SpeechReport.from_json({"format": 1})
    with pytest.raises(ValueError, match=r"record\.format must be 1; got 0"):
        SpeechReport.from_json({"format": 0})
    good = _report(mos=np.array([[1.0, np.nan]])).to_json()
    assert SpeechReport.from_json(good).measurements["mos"][0, 0] == 1
    for change, message in (
        ({"measurements": [1]}, r"record\.measurements must be a table of names; got a list of 1"),
        (
            {"measurements": {"mos": [[1.0, "x"]]}},
            r"measurements\['mos'\]\[0\]\[1\] must be a number",
        ),
        ({"measurements": {"mos": [[1.0], [2.0]]}}, r"record\['mos'\] must be 1 rows of 2"),
        ({"heard": {"unigram": [["a"]]}}, r"record\['unigram'\] must be 1 rows of 2"),
        ({"seeds": [0.5, 1]}, r"record\.seeds\[0\] must be a whole number"),
        ({"K": None}, r"record\.K must be a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            SpeechReport.from_json(good | change)
    (tmp_path / "x").write_text("{")
    with pytest.raises(ValueError, match="must be a report that tokenkl wrote; it is damaged"):
        SpeechReport.load(tmp_path / "x")


def test_every_metric_says_what_it_is() -> None:
    assert all(metric.meaning for metric in METRICS.values())
