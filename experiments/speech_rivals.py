"""Diffusion against autoregressive twins, each at its own validation optimum and best decoding.

Networks were trained and heard by `python -m experiments.speech rivals`; set-up, endpoints and
expectations (R1 to R8, B1, B2) were written in docs/speech.md before the run. This experiment
analyses and draws what is stored, and says of how many training seeds.

- Primary: word errors of the bigram judge on test sentences, diffusion minus AR, both with the
  decoding that was chosen on validation sentences; interval over training seeds and sentences.
- Secondary: unigram judge, DNSMOS, length error, nats a token, one call of diffusion, time.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, setting
from experiments.speech.rivals import (
    DECODINGS,
    FOLDER,
    ONE_CALL,
    RIVALS,
    SAID,
    SPLITS,
    Decoding,
    chosen,
    report_name,
)
from experiments.speech.units import RESULTS
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, new_figure
from tokenkl.tts.reports import Measured, SpeechReport, paired_difference

#: The voice of characters that came with the package, what is to be it, and what was heard of the
#: former before (`speech_twin`).
INCLUDED, NEXT, EARLIER = "included", "next", RESULTS / "twin"

METRICS = ("wer_bigram", "wer_unigram", "mos", "length_error", "length_bias")
LABELS = {
    "diffusion": "diffusion",
    "diffusion-more": "diffusion, four times the sentences",
    "ar": "AR",
    "ar-10x": "AR of ten times the size",
}
PAIRS = (("diffusion", "ar"), ("diffusion", "ar-10x"), ("ar-10x", "ar"))
#: By expectation: what the numbers of a kind, name and metric must lie between, said by the paper
#: (None where it says nothing) and written down by us.
Range = tuple[float, float]
EXPECTED: dict[str, tuple[tuple[str, str, str], Range | None, Range]] = {
    "R1": (("difference", "diffusion minus ar", "wer_bigram"), (-1, 0), (-0.04, -0.01)),
    "R2": (("difference", "diffusion minus ar", "mos"), (0, math.inf), (-0.2, -0.05)),
    "R3": (("difference", "diffusion minus ar", "length_error"), None, (0.01, 0.02)),
    "R4": (("difference", "diffusion minus ar", "bound"), None, (1, math.inf)),
    "R6": (("one call minus best", "diffusion", "wer_bigram"), None, (-1, 0.03)),
    "R7, against AR": (("difference", "ar-10x minus ar", "wer_bigram"), None, (-1, 0)),
    "R7, against diffusion": (
        ("difference", "diffusion minus ar-10x", "wer_bigram"), (-1, 0), (-0.02, 1),
    ),
    "B1, bound": (("nats", "diffusion", "test"), None, (2.3, 3.0)),
    "B1, gap": (("nats", "diffusion", "test minus train"), None, (-math.inf, 0.7)),
    "B2, bound": (("nats", "diffusion-more", "test"), None, (0, 2.3)),
    "B2, gap": (("nats", "diffusion-more", "test minus train"), None, (-math.inf, 0.3)),
    "B2, words": (("difference", "diffusion-more minus diffusion", "wer_bigram"), None, (-1, 0)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Of the analysis; what was trained is in `experiments/speech/rivals.py`."""

    seed: int = setting(20261130, "of the resampling", least(0))
    resamples: int = setting(4000, "of each interval", least(2))


SMOKE = Config(resamples=200)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every number: kind, name of the system, metric, decoding, value, ends, seeds."""
    rows: list[dict[str, Any]] = []

    def add(kind: str, name: str, metric: str, found: Measured, seeds: int, **more: Any) -> None:
        ends = {"value": found.value, "low": found.interval.low, "high": found.interval.high}
        about = {"kind": kind, "name": name, "metric": metric, "seeds": seeds, "over": found.over}
        rows.append({**about, **ends, **more})

    choices, heard, likelihoods, single = _chosen(FOLDER), {}, {}, {}
    for index, name in enumerate(choices):
        progress(index, len(choices))
        best = choices[name]
        rows += _validation_rows(name, FOLDER)
        heard[name] = reports(name, best, FOLDER)
        for metric in METRICS:
            found = heard[name].measured(metric, config.seed, resamples=config.resamples)
            add("test", name, metric, found, len(heard[name].seeds), decoding=best.name)
        likelihoods[name] = {split: nats_of(name, split, FOLDER) for split in SPLITS}
        rows += _nats_rows(name, likelihoods[name], config)
        if RIVALS[name].model == "cdcd":
            single[name] = reports(name, ONE_CALL, FOLDER)
            for metric in METRICS:
                found = single[name].measured(metric, config.seed, resamples=config.resamples)
                add("one call", name, metric, found, len(single[name].seeds))
            given = single[name], heard[name], "wer_bigram", config.seed
            gap = paired_difference(
                *given, seeds="paired" if len(heard[name].seeds) > 2 else "independent",
                resamples=config.resamples,
            )  # fmt: skip
            add("one call minus best", name, "wer_bigram", gap, len(heard[name].seeds))
    for a, b in (*PAIRS, ("diffusion-more", "diffusion")):
        if a not in heard or b not in heard:
            continue
        seeds = min(len(heard[a].seeds), len(heard[b].seeds))
        for metric in METRICS:
            gap = paired_difference(
                heard[a], heard[b], metric, config.seed, resamples=config.resamples
            )
            add("difference", f"{a} minus {b}", metric, gap, seeds)
        gap = paired_difference(
            likelihoods[a]["test"], likelihoods[b]["test"], "bound", config.seed,
            resamples=config.resamples,
        )  # fmt: skip
        add("difference", f"{a} minus {b}", "bound", gap, seeds)
    for name in (INCLUDED, NEXT):
        if (FOLDER / f"nats-{name}-0.json").is_file():
            of = {split: nats_of(name, split, FOLDER, (0,)) for split in SPLITS}
            rows += _nats_rows(name, of, config)
    rows += _voice_rows(config)
    for steps in (2, 10):
        for metric in ("wer_bigram", "wer_unigram"):
            old = SpeechReport.load(EARLIER / f"characters-{steps}.json")
            new = _first(heard["diffusion"], old)
            if new.texts == old.texts:
                gap = paired_difference(new, old, metric, config.seed, resamples=config.resamples)
                about = f"diffusion minus {INCLUDED}, {steps} steps"
                add("difference", about, metric, gap, len(new.seeds))
    table = pd.DataFrame(rows)
    return table, {
        "sentences": len(next(iter(heard.values())).texts),
        "validation_words": int(table[table.kind == "validation"].words.iloc[0]),
        "chosen": {name: choice.name for name, choice in choices.items()},
        "training": _training(choices),
        "speed": json.loads((FOLDER / "speed.json").read_text()),
        "verdicts": verdicts(table),
    }


def _voice_rows(config: Config) -> list[dict[str, Any]]:
    """What is to be the voice of the package against what was, about these runs of training."""
    rows = []
    for decoding in SAID:
        paths = [FOLDER / report_name(name, 0, decoding) for name in (NEXT, INCLUDED)]
        if not all(path.is_file() for path in paths):
            continue
        new, old = (SpeechReport.load(path) for path in paths)
        for metric in METRICS:
            more: dict[str, Any] = {"resamples": config.resamples, "over": "sentences"}
            found = {
                NEXT: new.measured(metric, config.seed, **more),
                INCLUDED: old.measured(metric, config.seed, **more),
                f"{NEXT} minus {INCLUDED}": paired_difference(
                    new, old, metric, config.seed, **more
                ),
            }
            rows += [
                {
                    "kind": "voice", "name": name, "metric": metric, "seeds": 1,
                    "over": one.over, "value": one.value, "low": one.interval.low,
                    "high": one.interval.high, "decoding": decoding.name,
                }
                for name, one in found.items()
            ]  # fmt: skip
    return rows


def _first(report: SpeechReport, other: SpeechReport) -> SpeechReport:
    """As many sentences as another report has, which are its first ones."""
    n = len(other.texts)
    return dataclasses.replace(
        report,
        names=report.names[:n],
        texts=report.texts[:n],
        measurements={name: array[:n] for name, array in report.measurements.items()},
    )


def _chosen(folder: Path) -> dict[str, Decoding]:
    """Of the systems that were heard; diffusion is decoded in one way, however it was trained."""
    found = {}
    for name, rival in RIVALS.items():
        source = "diffusion" if rival.model == "cdcd" else name
        if any(folder.glob(f"choice-{source}-?.json")):
            best, _ = chosen(source, folder)
            if any((folder / report_name(name, seed, best)).is_file() for seed in rival.seeds):
                found[name] = best
    return found


def reports(name: str, decoding: Decoding, folder: Path) -> SpeechReport:
    """What was heard on test sentences with one decoding, all training seeds that are there."""
    paths = [folder / report_name(name, seed, decoding) for seed in RIVALS[name].seeds]
    return SpeechReport.joined(name, [SpeechReport.load(path) for path in paths if path.is_file()])


def nats_of(
    name: str, split: str, folder: Path, seeds: tuple[int, ...] | None = None
) -> SpeechReport:
    """Nats and tokens of every sentence of a split, all training seeds that are there."""
    records = {
        seed: json.loads(path.read_text())
        for seed in (RIVALS[name].seeds if seeds is None else seeds)
        if (path := folder / f"nats-{name}-{seed}.json").is_file()
    }
    arrays = {
        "nats": np.array([one[split] for one in records.values()], dtype=float).T,
        "true_tokens": np.array([one[f"{split}_tokens"] for one in records.values()], float).T,
    }
    names = tuple(f"{split} {index}" for index in range(len(arrays["nats"])))
    return SpeechReport(name, names, names, tuple(records), arrays)


def _validation_rows(name: str, folder: Path) -> list[dict[str, Any]]:
    """Word errors by decoding, for which there is no interval: these are what was chosen from."""
    if not any(folder.glob(f"choice-{name}-?.json")):
        return []
    seeds = len(list(folder.glob(f"choice-{name}-?.json")))
    return [
        {
            "kind": "validation", "name": name, "metric": "wer_bigram", "decoding": decoding,
            "value": errors / words, "words": words, "seeds": seeds,
        }
        for decoding, (errors, words) in chosen(name, folder)[1].items()
    ]  # fmt: skip


def _nats_rows(name: str, of: dict[str, SpeechReport], config: Config) -> list[dict[str, Any]]:
    """A token on test and on training sentences, and the difference, whose ends add in squares."""
    found = {
        split: report.measured("bound", config.seed, resamples=config.resamples)
        for split, report in of.items()
    }
    ends = {split: (one.value, one.interval.low, one.interval.high) for split, one in found.items()}
    (test, test_low, test_high), (train, train_low, train_high) = (ends[one] for one in SPLITS)
    gap = test - train
    ends["test minus train"] = (
        gap,
        gap - math.hypot(test - test_low, train_high - train),
        gap + math.hypot(test_high - test, train - train_low),
    )
    about = {
        "kind": "nats",
        "name": name,
        "seeds": len(of["test"].seeds),
        "over": found["test"].over,
    }
    return [
        {**about, "metric": metric, "value": value, "low": low, "high": high}
        for metric, (value, low, high) in ends.items()
    ]


def _training(names: Any) -> dict[str, dict[str, dict[str, float]]]:
    """Of every network: parameters, step of the validation optimum, its loss, seconds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        for seed in RIVALS[name].seeds:
            path = FOLDER / f"nats-{name}-{seed}.json"
            if path.is_file():
                record = json.loads(path.read_text())
                about = {key: record[key] for key in ("parameters", "training_seconds")}
                found.setdefault(name, {})[f"{seed}"] = {**about, **record["best"]}
    return found


def verdict(low: float, high: float, expected: Range) -> str:
    """Of an interval: within what was expected, beyond it, or neither.

    >>> verdict(0.2, 0.4, (0, 1)), verdict(-0.2, 0.4, (0, 1)), verdict(-0.2, -0.1, (0, 1))
    ('confirmed', 'open', 'refuted')
    """
    if expected[0] <= low and high <= expected[1]:
        return "confirmed"
    return "refuted" if high < expected[0] or low > expected[1] else "open"


def verdicts(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Of the paper, where it says something, and of our own expectation."""
    found = {}
    for name, ((kind, system, metric), paper, ours) in EXPECTED.items():
        rows = table[(table.kind == kind) & (table.name == system) & (table.metric == metric)]
        if not len(rows):
            found[name] = {"expected": "not measured"}
            continue
        [row] = rows.itertuples()
        found[name] = {"expected": verdict(row.low, row.high, ours)}
        if paper is not None:
            found[name]["paper"] = verdict(row.low, row.high, paper)
    return found


# ---- Figure --------------------------------------------------------------------------------------


def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.4)
    with mpl.rc_context(cast(Any, STYLE)):
        _draw_ar(axes[0, 0], table, facts)
        _draw_diffusion(axes[0, 1], table, facts)
        most = 100 * table[table.kind == "validation"].value.max()
        for panel in axes[0]:
            panel.set(ylim=(0, 1.3 * most), ylabel="word errors, validation (%)")
        _draw_time(axes[1, 0], table, facts)
        _draw_nats(axes[1, 1], table)
    label_panels(
        axes,
        (
            "AR by decoding; ring: what is chosen",
            "diffusion by steps; ring: what is chosen",
            "test sentences, 95 %; light: one call",
            "nats: test; light: training; dotted: wanted",
        ),
    )
    return figure


def _style(name: str) -> dict[str, Any]:
    index = list(LABELS).index(name)
    return {"color": COLOURS[index], "marker": MARKERS[index]}


def _tried(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[(table.kind == "validation") & (table.name == name)].set_index("decoding")


def _ring(panel: Any, x: float, y: float) -> None:
    panel.plot(x, y, "o", markersize=11, markerfacecolor="none", color="black", markeredgewidth=0.8)


def _draw_ar(panel: Any, table: pd.DataFrame, facts: dict[str, Any]) -> None:
    names = [one.name for one in DECODINGS["ar"]]
    for system in ("ar", "ar-10x"):
        found = _tried(table, system)
        if not len(found):
            continue
        values = [100 * found.value[name] for name in names]
        panel.plot(values, linestyle="", label=LABELS[system], **_style(system))
        best = names.index(facts["chosen"][system])
        _ring(panel, best, values[best])
    panel.set_xticks(range(len(names)), [name.replace(", ", ",\n") for name in names], fontsize=6)
    panel.set(xlabel="temperature")
    panel.legend(fontsize=6)


def _draw_diffusion(panel: Any, table: pd.DataFrame, facts: dict[str, Any]) -> None:
    found = _tried(table, "diffusion")
    for index, guidance in enumerate((0.0, 0.5)):
        cells = [one for one in DECODINGS["cdcd"] if one.options["guidance"] == guidance]
        steps = [one.options["steps"] for one in cells]
        values = [100 * found.value[one.name] for one in cells]
        style = {"color": COLOURS[0], "marker": MARKERS[index]}
        panel.plot(steps, values, label=f"guidance {guidance:g}", alpha=1 - 0.5 * index, **style)
        for one, x, y in zip(cells, steps, values, strict=True):
            if one.name == facts["chosen"]["diffusion"]:
                _ring(panel, x, y)
    panel.set(xscale="log", xlabel="sampling steps")
    panel.set_xticks(steps, [f"{one}" for one in steps])
    panel.minorticks_off()
    panel.legend(fontsize=6)


def _draw_time(panel: Any, table: pd.DataFrame, facts: dict[str, Any]) -> None:
    factors = facts["speed"]["real_time_factor"]
    for name, decoding in facts["chosen"].items():
        time = factors.get(name, factors.get(f"diffusion, {decoding}", math.nan))
        for kind, x, alpha in (
            ("test", time, 1.0), ("one call", factors.get("diffusion, one call", math.nan), 0.45),
        ):  # fmt: skip
            rows = table[(table.kind == kind) & (table.name == name)]
            rows = rows[rows.metric == "wer_bigram"]
            for row in rows.itertuples():
                ends = [[100 * (row.value - row.low)], [100 * (row.high - row.value)]]
                panel.errorbar(
                    [x], [100 * row.value], yerr=ends, capsize=2, elinewidth=0.8, alpha=alpha,
                    linestyle="", label=LABELS[name] if kind == "test" else None, **_style(name),
                )  # fmt: skip
    panel.set(xscale="log", xlabel="time for tokens / duration of speech, one thread")
    panel.set(ylabel="word errors, bigram judge (%)", ylim=(0, None))
    low, high = panel.get_xlim()
    ticks = [one for one in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if low <= one <= high]
    panel.set_xticks(ticks, [f"{one:g}" for one in ticks])
    panel.minorticks_off()
    panel.legend(fontsize=6)


def _draw_nats(panel: Any, table: pd.DataFrame) -> None:
    found = table[table.kind == "nats"]
    names = [name for name in LABELS if name in set(found.name)]
    for index, name in enumerate(names):
        for split, alpha in (("test", 1.0), ("train", 0.45)):
            [row] = found[(found.name == name) & (found.metric == split)].itertuples()
            panel.errorbar(
                [index], [row.value], yerr=[[row.value - row.low], [row.high - row.value]],
                capsize=2, elinewidth=0.8, alpha=alpha, linestyle="", **_style(name),
            )  # fmt: skip
    panel.axhline(2.3, color="black", linewidth=0.7, linestyle=":")
    words = [LABELS[name].replace(" of ", "\nof ").replace(", ", ",\n") for name in names]
    panel.set_xticks(range(len(names)), words, fontsize=6)
    panel.set(ylabel="nats a token (diffusion: a bound)", ylim=(0, None))
    panel.margins(x=0.2)


EXPERIMENT = Experiment(
    name="speech_rivals",
    claim=(
        "C7, fairly: diffusion and autoregressive twins over the same tokens, each at its own "
        "validation optimum and with the decoding that suits it."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
