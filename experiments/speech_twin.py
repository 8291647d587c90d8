"""The diffusion model against its autoregressive twin: what is heard, how fast, how large.

Voices were trained and heard by `python -m experiments.speech voices` and `... twin`, in about two
hours; this experiment analyses and draws what these stored.
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
from experiments.speech.twin import CELLS, VOICES
from experiments.speech.units import RESULTS
from tokenkl._random import generator
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, new_figure
from tokenkl.tts.reports import SpeechReport, paired_difference

FOLDER = RESULTS / "twin"
BASELINES = ("true-audio", "resynthesis", "true-tokens", "shuffled-text", "white-noise")
METRICS = (
    "wer_unigram", "wer_bigram", "mos", "length_error", "length_bias", "f0_mean", "f0_spread",
    "f0_spread_total", "f0_within",
)  # fmt: skip
LABELS = {
    "phonemes": "diffusion, phonemes",
    "characters": "diffusion, characters",
    "ar": "AR, characters",
    "ar-10x": "AR of ten times the size",
}
#: The comparison of the two at equal size, and with the larger one.
PAIRS = (("characters-10", "ar-0.8"), ("characters-10", "ar-10x-0.8"), ("characters-5", "ar-0.8"))


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Of the analysis; what was trained is in `experiments/speech/twin.py`."""

    seed: int = setting(20261123, "of the resampling", least(0))
    resamples: int = setting(4000, "of each interval", least(2))


SMOKE = Config(resamples=200)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    reports = {name: SpeechReport.load(FOLDER / f"baseline-{name}.json") for name in BASELINES}
    reports |= {
        cell.name: SpeechReport.load(path)
        for cell in CELLS
        if (path := FOLDER / f"{cell.name}.json").is_file()
    }
    voices = {cell.name: cell.voice for cell in CELLS}
    rows = []
    for index, (name, report) in enumerate(reports.items()):
        progress(index, len(reports))
        for metric in METRICS:
            if metric not in report.metrics:
                continue
            found = report.measured(metric, config.seed, resamples=config.resamples)
            rows.append(
                {
                    "name": name,
                    "voice": voices.get(name, "baseline"),
                    "metric": metric,
                    "value": found.value,
                    "low": found.interval.low,
                    "high": found.interval.high,
                    "over": found.over,
                    "seeds": len(report.seeds),
                }
            )
    differences = []
    for a, b in PAIRS:
        if a not in reports or b not in reports:
            continue
        for metric in ("wer_unigram", "wer_bigram", "mos", "length_error"):
            gap = paired_difference(
                reports[a], reports[b], metric, config.seed, resamples=config.resamples
            )
            differences.append(
                {
                    "pair": f"{a} minus {b}",
                    "metric": metric,
                    "value": gap.value,
                    "low": gap.interval.low,
                    "high": gap.interval.high,
                }
            )
    speed = json.loads((RESULTS / "speed.json").read_text())
    facts = {
        "sentences": len(next(iter(reports.values())).texts),
        "differences": differences,
        "speed": speed,
        "ratios": _ratios(speed["real_time_factor"]),
        "likelihood": {
            name: _nats(FOLDER / f"likelihood-{name}.json", config)
            for name in VOICES
            if (FOLDER / f"likelihood-{name}.json").is_file()
        },
    }
    return pd.DataFrame(rows), facts


def _ratios(factors: dict[str, float]) -> dict[str, float]:
    """Time of AR over that of diffusion, for a second of speech."""
    return {
        f"{ar} / {name}": round(factors[ar] / factors[name], 3)
        for ar in ("ar", "ar-10x")
        for name in factors
        if ar in factors and name.startswith("characters")
    }


def _nats(path: Path, config: Config) -> dict[str, Any]:
    """Mean over tokens with a bootstrap interval over sentences."""
    record = json.loads(path.read_text())
    nats, tokens = np.array(record["nats_per_token"]), np.array(record["tokens"], float)
    chosen = generator(config.seed).integers(nats.size, size=(config.resamples, nats.size))
    means = (nats * tokens)[chosen].sum(axis=1) / tokens[chosen].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "kind": record["kind"],
        "parameters": record["parameters"],
        "nats_per_token": float((nats * tokens).sum() / tokens.sum()),
        "low": float(low),
        "high": float(high),
    }


def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    figure, axes = new_figure(1, 2, width=PAGE, panel_height=2.9)
    with mpl.rc_context(cast(Any, STYLE)):
        for panel, metric, word in (
            (axes[0, 0], "wer_unigram", "without grammar"),
            (axes[0, 1], "wer_bigram", "with the grammar"),
        ):
            _draw_trade(panel, table, facts, metric)
            panel.set_ylabel(f"word error rate, judge {word} (%)")
        axes[0, 0].legend(fontsize=6)
    label_panels(
        axes, ("sensitive judge; dotted: true tokens", "lenient judge; dashed: true audio")
    )
    return figure


def _time(name: str, voice: str, facts: dict[str, Any]) -> float:
    """Of a cell, from the run in which all took turns; NaN where it was not timed."""
    factors = facts["speed"]["real_time_factor"]
    return float(factors.get(voice if voice.startswith("ar") else name, math.nan))


def _draw_trade(panel: Any, table: pd.DataFrame, facts: dict[str, Any], metric: str) -> None:
    errors = table[table.metric == metric].set_index("name")
    for index, (voice, label) in enumerate(LABELS.items()):
        names = [
            name
            for name in errors.index
            if errors.loc[name, "voice"] == voice and math.isfinite(_time(name, voice, facts))
        ]
        if not names:
            continue
        part = errors.loc[names]
        x = np.array([_time(name, voice, facts) for name in names])
        ends = np.abs(np.stack([part.value - part.low, part.high - part.value]))
        size = facts["likelihood"].get(voice, {}).get("parameters", math.nan) / 1e6
        panel.errorbar(
            x, 100 * part.value, yerr=100 * ends, fmt=MARKERS[index], color=COLOURS[index],
            capsize=2, elinewidth=0.8, label=f"{label} ({size:.1f} M)",
        )  # fmt: skip
        for name, place, value in zip(names, x, part.value, strict=True):
            panel.annotate(
                name.removeprefix(voice + "-"), (place, 100 * value), xytext=(4, 3),
                textcoords="offset points", fontsize=5,
            )  # fmt: skip
    for name, dashes in (("true-tokens", ":"), ("true-audio", "--")):
        panel.axhline(100 * errors.value[name], color="black", linewidth=0.7, linestyle=dashes)
    panel.set(xscale="log", yscale="log")
    for axis, ticks in (
        (panel.xaxis, (0.02, 0.05, 0.1, 0.2, 0.4)),
        (panel.yaxis, (0.2, 0.5, 1, 2, 5, 10, 20, 50)),
    ):
        low, high = axis.get_view_interval()
        shown = [tick for tick in ticks if low <= tick <= high]
        axis.set_ticks(shown, [f"{tick:g}" for tick in shown])
    panel.minorticks_off()
    panel.set_xlabel("time for tokens / duration of speech, one thread")


EXPERIMENT = Experiment(
    name="speech_twin",
    claim="C7: diffusion over speech tokens is smaller and faster than AR at equal quality.",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
