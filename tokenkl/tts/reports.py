"""What was measured of generated speech, sentence by sentence, and intervals made from it.

A `SpeechReport` holds arrays (sentences, seeds), one for every quantity, so that any later analysis
can resample them. Two populations can be asked about:

- "sentences": other sentences of the domain, said by these very runs. Percentiles over resampled
  sentences, all seeds of a sentence together, stretched as few sentences ask for (`resampling`).
- "both": other sentences and other seeds. To the resampled sentences a draw of Student's law with
  S - 1 degrees of freedom is added, scaled by the standard deviation between the S seeds beyond
  what the choice of sentences explains. To resample a handful of seeds instead is not honest:
  with three, nominal 95 % intervals cover 75 % where seeds differ most (tests/tts).

A seed that merely drives independent noise in every sentence adds no variance between seeds, and
both intervals are then alike. With one seed only "sentences" can be asked for, with two neither
would be useful.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np
from jaxtyping import Bool, Float

from tokenkl._files import PathLike, atomic_path
from tokenkl._formats import conform, reading
from tokenkl._random import generator
from tokenkl._validation import check_choice, reject
from tokenkl.estimate import ConfidenceInterval
from tokenkl.tts.resampling import ends, most_of_none, stretched

Population = Literal["sentences", "both"]
Moments = Float[np.ndarray, "sentences seeds k"]
Arrays = Mapping[str, Float[np.ndarray, "sentences seeds"]]

#: Raised whenever the meaning of a written report changes.
FORMAT = 1
#: Resampled sets of sentences behind an interval.
RESAMPLES = 5000
#: Seeds that an interval over "both" needs.
LEAST_SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Measured:
    """A number, its interval, and the population that the interval is about."""

    value: float
    interval: ConfidenceInterval
    over: Population

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"value": self.value, "interval": list(self.interval), "over": self.over}


# ---- Metrics -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Metric:
    """A quantity that follows from sums over sentences.

    - `needs`: the measurements that it is made of.
    - `moments`: what is to be summed over sentences, for every seed; (sentences, 1, k) where seeds
      are already taken together. A sentence that was not measured has zeros.
    - `finish`: from sums (..., seeds, k) to the quantity (...).
    - `unit`, `meaning`: for tables.
    """

    needs: tuple[str, ...]
    moments: Callable[[Arrays], Moments]
    finish: Callable[[Float[np.ndarray, "*batch seeds k"]], Float[np.ndarray, "*batch"]]
    unit: str
    meaning: str
    counts: bool = False  # numerators are counts of rare events: an interval of no width is wrong


def _quotient(sums: np.ndarray) -> np.ndarray:
    total = sums.sum(axis=-2)
    return np.divide(
        total[..., 0],
        total[..., 1],
        out=np.full(total.shape[:-1], np.nan),
        where=total[..., 1] != 0,
    )


def _ratio(top: str, bottom: str, unit: str, meaning: str, *, counts: bool = False) -> Metric:
    """Sum of one measurement over the sum of another."""

    def moments(arrays: Arrays) -> Moments:
        a, b = arrays[top], arrays[bottom]
        known = np.isfinite(a) & np.isfinite(b)
        return np.stack([np.where(known, a, 0), np.where(known, b, 0)], axis=-1)

    return Metric((top, bottom), moments, _quotient, unit, meaning, counts)


def _mean(
    needs: tuple[str, ...], value: Callable[[Arrays], np.ndarray], unit: str, meaning: str
) -> Metric:
    """Mean over utterances, each counting the same."""

    def moments(arrays: Arrays) -> Moments:
        values = value(arrays)
        known = np.isfinite(values)
        return np.stack([np.where(known, values, 0), known.astype(float)], axis=-1)

    return Metric(needs, moments, _quotient, unit, meaning)


def _relative_length(arrays: Arrays) -> np.ndarray:
    return arrays["duration"] / arrays["true_duration"] - 1


def _spread_over_seeds(name: str) -> Callable[[Arrays], Moments]:
    def moments(arrays: Arrays) -> Moments:
        values = arrays[name]
        known = np.isfinite(values)
        count = known.sum(axis=1, keepdims=True)
        mean = np.where(known, values, 0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
        squares = np.where(known, values - mean, 0) ** 2
        freedom = np.maximum(count[:, 0] - 1, 0)
        return np.stack([squares.sum(axis=1), freedom], axis=-1)[:, None]

    return moments


def _spread_over_utterances(name: str) -> Callable[[Arrays], Moments]:
    def moments(arrays: Arrays) -> Moments:
        values = arrays[name]
        known = np.isfinite(values)
        # Near zero, so that the difference of squares below loses no digits.
        centred = np.where(known, values - np.mean(values[known]), 0) if known.any() else 0 * values
        return np.stack([centred, centred**2, known.astype(float)], axis=-1)

    return moments


def _root_of_quotient(sums: np.ndarray) -> np.ndarray:
    return np.sqrt(_quotient(sums))


def _root_of_variance(sums: np.ndarray) -> np.ndarray:
    first, second, count = np.moveaxis(sums, -1, 0)
    squares = np.maximum(second - first**2 / np.maximum(count, 1), 0)
    return _root_of_quotient(np.stack([squares, np.maximum(count - 1, 0)], axis=-1))


#: Everything that a report can be asked for.
METRICS: dict[str, Metric] = {
    "wer_unigram": _ratio(
        "errors_unigram", "words", "", "word error rate, judge without word order", counts=True
    ),
    "wer_bigram": _ratio(
        "errors_bigram", "words", "", "word error rate, judge with the grammar", counts=True
    ),
    "mos": _mean(("mos",), lambda a: a["mos"], "", "DNSMOS overall opinion, 1 to 5"),
    "mel_error": _mean(
        ("mel_error",),
        lambda a: a["mel_error"],
        "nats",
        "mean absolute difference of log-mel features to the true utterance, after time warping",
    ),
    "bound": _ratio(
        "nats", "true_tokens", "nats", "-ln p of the true tokens, or a bound on it, a token"
    ),
    "bound_other": _ratio(
        "nats_other", "true_tokens", "nats", "the same, given the text of the sentence after it"
    ),
    "length_error": _mean(
        ("duration", "true_duration"),
        lambda a: np.abs(_relative_length(a)),
        "",
        "mean absolute relative difference of durations to the true utterance",
    ),
    "length_bias": _mean(
        ("duration", "true_duration"),
        _relative_length,
        "",
        "mean relative difference of durations to the true utterance",
    ),
    "f0_mean": _mean(("f0_mean",), lambda a: a["f0_mean"], "Hz", "mean F0 of an utterance"),
    "f0_spread": Metric(
        ("f0_mean",),
        _spread_over_seeds("f0_mean"),
        _root_of_quotient,
        "Hz",
        "standard deviation of an utterance's mean F0 over seeds, within a sentence",
    ),
    "f0_spread_semitones": Metric(
        ("f0_semitones",),
        _spread_over_seeds("f0_semitones"),
        _root_of_quotient,
        "semitones",
        "standard deviation of an utterance's mean log F0 over seeds, within a sentence",
    ),
    "f0_spread_total": Metric(
        ("f0_mean",),
        _spread_over_utterances("f0_mean"),
        _root_of_variance,
        "Hz",
        "standard deviation of an utterance's mean F0 over sentences, within a seed",
    ),
    "f0_within": _mean(
        ("f0_within",), lambda a: a["f0_within"], "Hz", "standard deviation of F0 in an utterance"
    ),
    "voiced": _mean(("voiced",), lambda a: a["voiced"], "", "share of voiced frames"),
    "entropy": _mean(("entropy",), lambda a: a["entropy"], "nats", "entropy of one token"),
    "rtf": _ratio("seconds", "duration", "", "seconds of computing for a second of speech"),
    "latency": _mean(
        ("seconds",), lambda a: a["seconds"], "s", "seconds of computing for an utterance"
    ),
}


# ---- Reports -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class SpeechReport:
    """What was measured of one system.

    - `label`: of the system.
    - `names`, `texts`: of the n sentences.
    - `seeds`: of the S runs.
    - `measurements`: arrays (n, S), NaN where something was not measured: "words",
      "errors_unigram", "errors_bigram", "mos", "duration" and "true_duration" (seconds, in whole
      tokens), "f0_mean" and "f0_within" (mean and standard deviation in the utterance, Hz),
      "f0_semitones" (12 log2 of Hz, mean in the utterance), "voiced", "seconds" (of computing),
      "mel_error", "nats" and "true_tokens" (-ln p of the true tokens, and how many there are),
      "nats_other" (-ln p of these given the text of the sentence after it),
      and "entropy" (nats; jackknife values whose mean over sentences is the estimate of a seed).
    - `heard`: by grammar, n rows of S transcripts.
    - `K`, `used`: tokens that there are, and how many different ones each seed uses; 0 and empty
      where no tokens were given.

    Raises:
        ValueError: an array of another shape.
    """

    label: str
    names: tuple[str, ...]
    texts: tuple[str, ...]
    seeds: tuple[int, ...]
    measurements: dict[str, Float[np.ndarray, "sentences seeds"]]
    heard: dict[str, tuple[tuple[str, ...], ...]] = dataclasses.field(default_factory=dict)
    K: int = 0
    used: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.names), len(self.seeds))
        for name, array in self.measurements.items():
            if array.shape != shape:
                reject(f"measurements[{name!r}]", f"shape {array.shape}", f"of shape {shape}")

    @classmethod
    def joined(cls, label: str, parts: Sequence[SpeechReport]) -> SpeechReport:
        """Reports on the same sentences as one of several seeds; what only some measured is left.

        Args:
            label: of the new report.
            parts: at least one.
        """
        shared = set.intersection(*(set(part.measurements) for part in parts))
        return cls(
            label=label,
            names=parts[0].names,
            texts=parts[0].texts,
            seeds=tuple(seed for part in parts for seed in part.seeds),
            measurements={
                key: np.concatenate([part.measurements[key] for part in parts], axis=1)
                for key in sorted(shared)
            },
        )

    @property
    def metrics(self) -> tuple[str, ...]:
        """What can be asked for, in the order of `METRICS`."""
        found = []
        for name, metric in METRICS.items():
            if set(metric.needs) <= set(self.measurements):
                moments = metric.moments(self.measurements)
                if np.isfinite(metric.finish(moments.sum(axis=0))):
                    found.append(name)
        return tuple(found)

    def value(self, metric: str) -> float:
        """One of `metrics`, over all sentences and seeds.

        Raises:
            ValueError: a metric that is unknown or was not measured.
        """
        chosen = METRICS[check_choice(metric, self.metrics, "metric")]
        return float(chosen.finish(chosen.moments(self.measurements).sum(axis=0)))

    def by_seed(self, metric: str) -> Float[np.ndarray, " seeds"]:
        """The metric for every seed by itself; one number where it is about all seeds together."""
        chosen = METRICS[check_choice(metric, self.metrics, "metric")]
        return _one_by_one(chosen, chosen.moments(self.measurements).sum(axis=0))

    def measured(
        self,
        metric: str,
        key: Any,
        *,
        over: Population | None = None,
        level: float = 0.95,
        resamples: int = RESAMPLES,
    ) -> Measured:
        """A metric with its interval.

        Without a single word error the upper end is that of Clopper and Pearson for the share of
        sentences with an error, each of which is taken to have one.

        Args:
            metric: one of `metrics`.
            key: whole number or JAX random key, of the resampling.
            over: the population, see the module; "both" from three seeds on when None.
            level: of the interval.
            resamples: sets of sentences.

        Raises:
            ValueError: a metric that is unknown or was not measured, or "both" with fewer than
                three seeds.
        """
        sample = _Sample(self, metric, over)
        low, high = ends(sample.draws(sample.kept, key, 0, resamples, level), level)
        if sample.metric.counts:
            low, high = max(low, 0.0), max(high, sample.most_without_errors(level))
        return Measured(self.value(metric), ConfidenceInterval(low, high, level), sample.over)

    def summary(self, key: Any = 0, *, over: Population | None = None) -> dict[str, Measured]:
        """All metrics with their intervals."""
        return {name: self.measured(name, key, over=over) for name in self.metrics}

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values; numbers that were not measured are None."""
        return {
            "format": FORMAT,
            "label": self.label,
            "names": list(self.names),
            "texts": list(self.texts),
            "seeds": list(self.seeds),
            "measurements": {
                name: [[None if math.isnan(x) else float(x) for x in row] for row in array]
                for name, array in self.measurements.items()
            },
            "heard": {name: [list(row) for row in rows] for name, rows in self.heard.items()},
            "K": self.K,
            "used": list(self.used),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SpeechReport:
        """What `to_json` gave.

        Raises:
            ValueError: something else.
        """
        made = conform(record, _Record, "record")
        shape = (len(made["names"]), len(made["seeds"]))
        tables: dict[str, list[list[Any]]] = {**made["measurements"], **made["heard"]}
        for name, rows in tables.items():
            if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
                reject(f"record[{name!r}]", "other rows", f"{shape[0]} rows of {shape[1]}")
        return cls(
            label=made["label"],
            names=tuple(made["names"]),
            texts=tuple(made["texts"]),
            seeds=tuple(made["seeds"]),
            measurements={
                name: np.array(rows, dtype=float).reshape(shape)  # None is NaN
                for name, rows in made["measurements"].items()
            },
            heard={name: tuple(map(tuple, rows)) for name, rows in made["heard"].items()},
            K=made["K"],
            used=tuple(made["used"]),
        )

    def save(self, path: PathLike) -> None:
        """Write `to_json` to a file."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_json()) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: PathLike) -> SpeechReport:
        """Read what `save` wrote.

        Raises:
            ValueError: no such file, or another kind of file.
        """
        with reading(path, "a report that tokenkl wrote") as file:
            return cls.from_json(file.json(_Record))


class _Record(TypedDict):
    """A report as plain values."""

    format: Literal[1]
    label: str
    names: list[str]
    texts: list[str]
    seeds: list[int]
    measurements: dict[str, list[list[float | None]]]
    heard: dict[str, list[list[str]]]
    K: int
    used: list[int]


def paired_difference(
    a: SpeechReport,
    b: SpeechReport,
    metric: str,
    key: Any,
    *,
    over: Population | None = None,
    seeds: Literal["independent", "paired"] = "independent",
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Measured:
    """The metric of `a` minus that of `b`, on the same sentences.

    The same resampled sentences are used for both. Seeds of `a` and of `b` are taken for
    independent draws, also where they have the same numbers, unless they are said to be paired:
    then what one seed adds to both falls out. Under "both", a report with one seed (true audio)
    counts as free of randomness.

    Args:
        a, b: reports on the same sentences, in the same order.
        metric: one of the `metrics` of both.
        key: whole number or JAX random key, of the resampling.
        over: the population; "both" when None, if one of them has three seeds or more.
        seeds: "paired" where equal seeds share their randomness (batches, noise, points); both
            reports have the same ones then.
        level: of the interval.
        resamples: sets of sentences.

    Raises:
        ValueError: other sentences, or what `SpeechReport.measured` refuses.
    """
    if a.texts != b.texts:
        reject("a, b", f"reports on {len(a.texts)} and {len(b.texts)} texts", "on the same texts")
    many = [len(report.seeds) > 1 for report in (a, b)]
    if over is None:
        enough = [len(report.seeds) >= LEAST_SEEDS for report in (a, b)]
        over = "both" if any(enough) and enough == many else "sentences"
    left, right = (
        _Sample(report, metric, over if several else "sentences")
        for report, several in zip((a, b), many, strict=True)
    )
    if over == "both" and not any(many):
        reject("over", over, "'sentences' where both reports have one seed")
    if check_choice(seeds, ("independent", "paired"), "seeds") == "paired" and a.seeds != b.seeds:
        reject("a, b", f"reports of seeds {a.seeds} and {b.seeds}", "of the same seeds, in order")
    kept = left.kept & right.kept
    if not kept.any():
        reject("a, b", "no sentence where both were measured", "measured on the same sentences")
    values = left.value(kept) - right.value(kept)
    if seeds == "paired" and "both" in (left.over, right.over):
        draws = left.paired_draws(right, kept, key, resamples, level)
    else:
        draws = left.draws(kept, key, 0, resamples, level)
        draws = draws - right.draws(kept, key, 1, resamples, level)
    low, high = ends(draws, level)
    low = min(low, -right.most_without_errors(level) + left.value(kept))
    high = max(high, left.most_without_errors(level) - right.value(kept))
    interval = ConfidenceInterval(low, high, level)
    return Measured(values, interval, over if "both" in (left.over, right.over) else "sentences")


class _Sample:
    """One metric of one report, ready to be resampled."""

    def __init__(self, report: SpeechReport, metric: str, over: Population | None) -> None:
        self.metric = METRICS[check_choice(metric, report.metrics, "metric")]
        self.moments = self.metric.moments(report.measurements)
        self.kept: Bool[np.ndarray, " sentences"] = (self.moments != 0).any(axis=(1, 2))
        seeds = len(report.seeds)
        if over is None:
            over = "both" if seeds >= LEAST_SEEDS else "sentences"
        if check_choice(over, ("sentences", "both"), "over") == "both" and seeds < LEAST_SEEDS:
            reject("over", "both", f"'sentences' with fewer than {LEAST_SEEDS} seeds, here {seeds}")
        # A metric about all seeds together is one number for a sentence, and sentences carry it.
        self.over: Population = over if self.moments.shape[1] > 1 else "sentences"

    def value(self, kept: Bool[np.ndarray, " sentences"]) -> float:
        return float(self.metric.finish(self.moments[kept].sum(axis=0)))

    def draws(
        self,
        kept: Bool[np.ndarray, " sentences"],
        key: Any,
        stream: int,
        resamples: int,
        level: float,
    ) -> Float[np.ndarray, " resamples"]:
        """The metric over resampled sentences, plus what seeds add; the sentences depend on `key`
        alone, the seeds on `stream` too."""
        sums = self.resampled(kept, key, resamples)
        draws = stretched(self.metric.finish(sums), self.value(kept), kept.sum(), level)
        if self.over == "sentences":
            return draws
        total = _one_by_one(self.metric, self.moments[kept].sum(axis=0))
        return draws + _of_seeds(_one_by_one(self.metric, sums), total, generator(key, 1, stream))

    def paired_draws(
        self,
        other: _Sample,
        kept: Bool[np.ndarray, " sentences"],
        key: Any,
        resamples: int,
        level: float,
    ) -> Float[np.ndarray, " resamples"]:
        """`draws` of the difference, where seed by seed both have the same randomness."""
        sums, rivals = (one.resampled(kept, key, resamples) for one in (self, other))
        metric = self.metric

        def gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return _one_by_one(metric, a) - _one_by_one(metric, b)

        total = gap(*(one.moments[kept].sum(axis=0) for one in (self, other)))
        draws = metric.finish(sums) - metric.finish(rivals)
        value = self.value(kept) - other.value(kept)
        draws = stretched(draws, value, kept.sum(), level)
        return draws + _of_seeds(gap(sums, rivals), total, generator(key, 1, 0))

    def resampled(
        self, kept: Bool[np.ndarray, " sentences"], key: Any, resamples: int
    ) -> Float[np.ndarray, "resamples seeds k"]:
        """Moments of resampled sentences, the same ones for every report."""
        moments = self.moments[kept]
        n = moments.shape[0]
        weights = generator(key, 0).multinomial(n, np.full(n, 1 / n), size=resamples)
        return np.tensordot(weights.astype(float), moments, axes=1)

    def most_without_errors(self, level: float) -> float:
        """An upper end for counts where nothing was counted, -inf elsewhere."""
        moments = self.moments[self.kept]
        if not self.metric.counts or moments[..., 0].any():
            return -math.inf
        n = moments.shape[0]
        return most_of_none(n, level) / float(moments[..., 1].sum() / moments.shape[1] / n)


def _one_by_one(metric: Metric, sums: np.ndarray) -> np.ndarray:
    """The metric for every seed; `sums` is (..., seeds, k)."""
    return np.stack([metric.finish(sums[..., s : s + 1, :]) for s in range(sums.shape[-2])], -1)


def _of_seeds(
    resampled: Float[np.ndarray, "resamples seeds"],
    total: Float[np.ndarray, " seeds"],
    rng: np.random.Generator,
) -> Float[np.ndarray, " resamples"]:
    """What the choice of seeds alone adds: Student's t times the standard error from it.

    Args:
        resampled: the metric for every seed, over resampled sentences.
        total: over all sentences.
        rng: of the draws.
    """
    seeds = total.size
    covariance = np.cov(resampled, rowvar=False)
    # What the variance between seeds would be if only sentences made them differ.
    explained = (np.trace(covariance) - covariance.mean() * seeds) / (seeds - 1)
    error = math.sqrt(max(float(total.var(ddof=1) - explained), 0.0) / seeds)
    return error * rng.standard_t(seeds - 1, size=len(resampled))
