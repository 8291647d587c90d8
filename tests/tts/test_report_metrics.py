"""Every metric of a report by plain sums, where sentences differ and measurements are missing."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from tokenkl.tts.reports import METRICS, SpeechReport, paired_difference

SENTENCES, SEEDS = 7, 4
RATIOS = {
    "wer_unigram": ("errors_unigram", "words"),
    "wer_bigram": ("errors_bigram", "words"),
    "rtf": ("seconds", "duration"),
    "bound": ("nats", "true_tokens"),
    "bound_other": ("nats_other", "true_tokens"),
}
MEANS = {name: name for name in ("mos", "f0_mean", "f0_within", "voiced", "entropy")}
MEANS |= {"latency": "seconds", "mel_error": "mel_error"}


def report(key: int, missing: float = 0.2) -> SpeechReport:
    """Measurements of different sizes, some of them missing, each pattern of its own."""
    rng = np.random.default_rng(key)
    shape = (SENTENCES, SEEDS)
    arrays = {
        "words": rng.integers(3, 12, size=shape).astype(float),
        "errors_unigram": rng.integers(0, 4, size=shape).astype(float),
        "errors_bigram": rng.integers(1, 3, size=shape).astype(float),
        "mos": rng.uniform(1, 5, size=shape),
        "duration": rng.uniform(0.5, 3, size=shape),
        "true_duration": rng.uniform(0.5, 3, size=shape),
        "f0_mean": rng.normal(120, 25, size=shape) + 30 * rng.standard_normal((SENTENCES, 1)),
        "f0_semitones": rng.normal(80, 3, size=shape),
        "f0_within": rng.uniform(5, 30, size=shape),
        "voiced": rng.uniform(0.2, 0.9, size=shape),
        "seconds": rng.uniform(0.1, 4, size=shape),
        "entropy": rng.uniform(1, 6, size=shape),
        "mel_error": rng.uniform(0.1, 2, size=shape),
        "nats": rng.uniform(50, 300, size=shape),
        "true_tokens": rng.integers(20, 90, size=shape).astype(float),
        "nats_other": rng.uniform(50, 300, size=shape),
    }
    for array in arrays.values():
        array[rng.random(shape) < missing] = np.nan
    names = tuple(f"s{i}" for i in range(SENTENCES))
    return SpeechReport(f"system {key}", names, names, tuple(range(SEEDS)), arrays)


def by_hand(metric: str, arrays: dict[str, np.ndarray], seeds: list[int]) -> float:
    """The metric, from its meaning: sums over what is known, in loops."""
    cells = [(i, j) for i in range(SENTENCES) for j in seeds]

    def known(*names: str) -> list[list[float]]:
        rows = [[float(arrays[name][cell]) for name in names] for cell in cells]
        return [row for row in rows if not any(map(math.isnan, row))]

    if metric in RATIOS:
        rows = known(*RATIOS[metric])
        return sum(a for a, _ in rows) / sum(b for _, b in rows)
    if metric in MEANS:
        return statistics.fmean(a for [a] in known(MEANS[metric]))
    if metric.startswith("length"):
        ratios = [a / b - 1 for a, b in known("duration", "true_duration")]
        return statistics.fmean(map(abs, ratios) if metric == "length_error" else ratios)
    values = arrays["f0_semitones" if metric == "f0_spread_semitones" else "f0_mean"]
    if metric == "f0_spread_total":  # one mean for every seed
        groups = [[values[i, j] for i in range(SENTENCES)] for j in seeds]
    else:  # one mean for every sentence
        groups = [[values[i, j] for j in seeds] for i in range(SENTENCES)]
    groups = [[float(x) for x in group if not math.isnan(x)] for group in groups]
    squares = sum(statistics.variance(g) * (len(g) - 1) for g in groups if len(g) > 1)
    return math.sqrt(squares / sum(max(len(g) - 1, 0) for g in groups))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("key", [1, 2])
def test_metrics_by_hand(metric: str, key: int) -> None:
    one = report(key)
    expected = by_hand(metric, one.measurements, list(range(SEEDS)))
    assert one.value(metric) == pytest.approx(expected, rel=1e-9)
    found = one.by_seed(metric)
    if metric in ("f0_spread", "f0_spread_semitones"):  # about all seeds together
        assert found.tolist() == pytest.approx([expected], rel=1e-9)
    else:
        every = [by_hand(metric, one.measurements, [j]) for j in range(SEEDS)]
        assert found.tolist() == pytest.approx(every, rel=1e-9)


def test_a_metric_needs_all_its_measurements() -> None:
    one = report(3)
    less = {name: array for name, array in one.measurements.items() if name != "true_duration"}
    less["mos"] = np.full((SENTENCES, SEEDS), np.nan)
    less["words"] = np.where(np.isnan(less["words"]), np.nan, 0.0)
    part = SpeechReport("part", one.names, one.texts, one.seeds, less)
    lost = {"length_error", "length_bias", "mos", "wer_unigram", "wer_bigram"}
    assert set(part.metrics) == set(METRICS) - lost
    assert list(part.metrics) == [name for name in METRICS if name not in lost]


def _wider(n: int, level: float) -> float:
    """Deviations of a resampled mean of n are too small by this: Student's law, and n - 1."""
    upper = (1 + level) / 2
    return math.sqrt(n / (n - 1)) * stats.t.ppf(upper, n - 1) / stats.norm.ppf(upper)


@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("metric", ["rtf", "mos", "f0_spread"])
def test_intervals_over_sentences_are_quantiles_of_resampled_reports(
    metric: str, level: float
) -> None:
    """Sentences drawn anew with everything measured of them, and the metric taken once more."""
    one = report(4, missing=0.1)
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(4000):
        rows = rng.integers(SENTENCES, size=SENTENCES)
        arrays = {name: array[rows] for name, array in one.measurements.items()}
        draws.append(by_hand(metric, arrays, list(range(SEEDS))))
    found = one.measured(metric, 0, over="sentences", level=level, resamples=40000)
    assert found.over == "sentences"
    assert found.interval.level == level
    moved = found.value + _wider(SENTENCES, level) * (np.array(draws) - found.value)
    for end, p in ((found.interval.low, (1 - level) / 2), (found.interval.high, (1 + level) / 2)):
        assert abs(np.mean(moved < end) - p) < 4.7 * math.sqrt(p * (1 - p) / 4000) + 0.005


def test_paired_differences_over_sentences_by_hand() -> None:
    """Only sentences where both were measured count, and they are drawn together."""
    a, b = report(6, missing=0.0), report(7, missing=0.0)
    a.measurements["mos"][2] = np.nan
    b.measurements["mos"][5] = np.nan
    rows = [0, 1, 3, 4, 6]
    x, y = (one.measurements["mos"][rows].mean(axis=1) for one in (a, b))
    found = paired_difference(a, b, "mos", 0, over="sentences", level=0.6, resamples=40000)
    assert found.value == pytest.approx((x - y).mean())
    rng = np.random.default_rng(8)
    draws = (x - y)[rng.integers(5, size=(4000, 5))].mean(axis=1)
    draws = found.value + _wider(5, 0.6) * (draws - found.value)
    for end, p in ((found.interval.low, 0.2), (found.interval.high, 0.8)):
        assert abs(np.mean(draws < end) - p) < 4.7 * math.sqrt(p * (1 - p) / 4000) + 0.005
    back = paired_difference(b, a, "mos", 0, over="sentences", level=0.6, resamples=40000)
    assert back.value == -found.value
    assert [back.interval.low, back.interval.high] == pytest.approx(
        [-found.interval.high, -found.interval.low]
    )
