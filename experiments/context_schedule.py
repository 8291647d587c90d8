"""Does a schedule that knows the context repair what the context-free one lost on speech?

Networks of `python -m experiments.speech context-schedules`, and samplers of the networks of
"evidence" on other grids (`... grids`). Where the schedules come from, hypotheses W1 to W3 and T1
to T5, endpoints and sizes were written in docs/speech.md before the first run; this experiment
analyses what is stored, and says of how many seeds.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, setting
from experiments.speech.noise import CONTEXTUAL, CORPUS, TOLD, equal_steps, table_of
from experiments.speech.plans import CROSSED, LATER, PLANS, SCHEDULED
from experiments.speech.results import Results
from experiments.speech.schedules import BEST, BOUNDED, HEARD, SPOKEN, STEPS, Curve, best_levels
from experiments.speech.units import RESULTS, Cell
from experiments.speech_evidence import Mean
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, new_figure
from tokenkl.tts.reports import SpeechReport, paired_difference

PLAN = PLANS["context-schedules"]
BASE = SCHEDULED[0]
INFORMATION = SCHEDULED[1]
NAMES = (*SCHEDULED, *LATER)
BUDGET = PLAN.cells[0].budget
LABELS = {
    BASE: "linear-VP",
    INFORMATION: "information",
    CONTEXTUAL: "contextual",
    TOLD: "told",
    CORPUS: "corpus",
    BEST: "smallest bound",
}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Of the analysis; what was trained is in `experiments/speech/plans.py`."""

    seed: int = setting(20261129, "of the resampling", least(0))
    resamples: int = setting(4000, "of each interval of word errors", least(2))


SMOKE = Config(resamples=100)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every number: kind, name, steps, levels, value, ends, seeds."""
    progress(0, 3)
    curve, grid = Curve.load(), tk.FSQ((3,) * 8)
    rows = _laws(grid) + _predicted(curve, grid)
    progress(1, 3)
    rows += _sampler(config)
    progress(2, 3)
    trained, seeds = _trained(config)
    table = pd.DataFrame(rows + trained)
    progress(3, 3)
    return table, {
        "seeds": seeds,
        "planned": len({unit.seed for unit in PLAN.units}),
        "sentences": PLAN.settings.sentences,
        "medians": {
            name: float(rows[len(rows) // 2])
            for name in NAMES
            for rows in [10 / math.log(10) * table_of(name, grid)]
        },
        "verdicts": verdicts(table),
    }


def _laws(grid: tk.FSQ) -> list[dict[str, Any]]:
    """ln(snr) of every schedule, in decibels, at shares of its law."""
    rows = []
    for name in NAMES:
        levels = table_of(name, grid)
        for share in np.linspace(0.02, 0.98, 49):
            value = 10 / math.log(10) * np.interp(1 - share, np.linspace(0, 1, levels.size), levels)
            rows.append({"kind": "law", "name": name, "share": share, "value": float(value)})
    return rows


def _predicted(curve: Curve, grid: tk.FSQ) -> list[dict[str, Any]]:
    """What the curve says of every grid, minus equal steps of linear-VP."""
    power, rows = grid.average_power(), []
    for steps in STEPS:
        base = curve.cost(equal_steps(BASE, steps, grid), power)
        for name in BOUNDED[1:]:
            levels = (
                best_levels(curve, steps, power) if name == BEST else equal_steps(name, steps, grid)
            )
            where = {"name": name, "steps": steps}
            value = curve.cost(levels, power) - base
            rows.append({"kind": "bound by the curve", **where, "value": value})
            last = 10 / math.log(10) * float(levels[-1])
            rows.append({"kind": "last level", **where, "value": last})
    return rows


def _sampler(config: Config) -> list[dict[str, Any]]:
    """Bounds and words of the linear-VP networks of "evidence" on other grids."""
    rows: list[dict[str, Any]] = []
    path = RESULTS / "grids.json"
    if not path.is_file():
        return rows
    found = json.loads(path.read_text())
    for steps in STEPS:
        for name in BOUNDED[1:]:
            gaps = [
                (sum(one["evidence"][f"{name}-{steps}"]) - sum(one["evidence"][f"{BASE}-{steps}"]))
                / sum(one["tokens"])
                for one in found.values()
                if {f"{name}-{steps}", f"{BASE}-{steps}"} <= set(one["evidence"])
            ]
            if gaps:
                where = {"kind": "bound on a grid", "name": name, "steps": steps}
                rows.append({**where, **dataclasses.asdict(Mean.of(gaps))})
    for steps in HEARD:
        reports = {
            name: [
                SpeechReport.from_json(one["words"][f"{name}-{steps}"])
                for one in found.values()
                if all(f"{other}-{steps}" in one["words"] for other in SPOKEN)
            ]
            for name in SPOKEN
        }
        if not reports[BASE]:
            continue
        joined = {name: SpeechReport.joined(name, parts) for name, parts in reports.items()}
        for name, report in joined.items():
            each = report.by_seed("wer_unigram")
            where = {"kind": "words on a grid", "name": name, "steps": steps}
            rows.append({**where, **dataclasses.asdict(Mean.of(each))})
        rows.append(
            {"kind": "words on a grid minus linear-vp's", "name": CONTEXTUAL, "steps": steps}
            | _difference(joined[CONTEXTUAL], joined[BASE], config)
        )
    return rows


def _difference(one: SpeechReport, other: SpeechReport, config: Config) -> dict[str, Any]:
    """By seeds, which are paired, and sentences; of one seed by sentences alone."""
    words: dict[str, Any] = {"seeds": "paired"} if len(one.seeds) > 1 else {}
    found = paired_difference(
        one, other, "wer_unigram", config.seed, resamples=config.resamples, **words
    )
    low, high = found.interval.low, found.interval.high
    return {"value": found.value, "low": low, "high": high, "seeds": len(one.seeds)}


def _trained(config: Config) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Words and bounds of networks that were trained by each schedule."""
    results = Results.load(RESULTS / PLAN.folder)
    rows: list[dict[str, Any]] = []
    names = [name for name in NAMES if name in results.units]
    whole = {
        name: [
            record["made_from"]["seed"]
            for record in results.units[name]
            if all(cell.label in record["cells"] for cell in PLAN.cells)
        ]
        for name in names
    }
    for name in names:
        shared = sorted(set(whole[name]) & set(whole[BASE]))
        if not shared:
            continue
        where: dict[str, Any] = {"name": name}
        for cell in (*PLAN.cells, *CROSSED):
            at = {**where, "steps": cell.steps, "levels": cell.schedule or "own"}
            heard = [
                record["made_from"]["seed"]
                for record in results.units[name]
                if cell.label in record["cells"] and record["made_from"]["seed"] in shared
            ]
            if not heard:
                continue
            mine = results.report(name, cell, heard)
            rows.append({"kind": "WER", **at, **_mean(mine.by_seed("wer_unigram"))})
            own = Cell(cell.budget, cell.steps)
            rival = results.report(BASE, own, heard)
            if name == BASE and cell.schedule in (None, BASE):
                continue
            gap = _difference(mine, rival, config)
            rows.append({"kind": "WER minus linear-vp's", **at, **gap})
        if name not in (BASE, INFORMATION):
            with_both = sorted(set(shared) & set(whole[INFORMATION]))
            for steps in HEARD:
                cell = Cell(BUDGET, steps)
                mine, rival = (results.report(one, cell, with_both) for one in (name, INFORMATION))
                at = {**where, "steps": steps, "levels": "own"}
                rows.append(
                    {"kind": "WER minus information's", **at, **_difference(mine, rival, config)}
                )
        bounds = {
            seed: _bound(record)
            for record in results.units[name]
            if (seed := record["made_from"]["seed"]) in shared
        }
        base = {record["made_from"]["seed"]: _bound(record) for record in results.units[BASE]}
        rows.append({"kind": "bound", **where, **_mean([bounds[seed] for seed in shared])})
        if name != BASE:
            gaps = [bounds[seed] - base[seed] for seed in shared]
            rows.append({"kind": "bound minus linear-vp's", **where, **_mean(gaps)})
        profiles = [
            record["likelihood"][f"{BUDGET}"]
            for record in results.units[name]
            if record["made_from"]["seed"] in shared
        ]
        for log_snr, *each in zip(
            profiles[0]["log_snr"], *(one["cross_entropy"] for one in profiles), strict=True
        ):
            level = 10 / math.log(10) * log_snr
            rows.append({"kind": "cross-entropy", **where, "level": level, **_mean(each)})
    return rows, {name: len(set(whole[name]) & set(whole[BASE])) for name in names}


def _mean(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    return dataclasses.asdict(Mean.of(values))


def _bound(record: dict[str, Any]) -> float:
    """Nats per token, over all tokens."""
    found = record["likelihood"][f"{BUDGET}"]
    tokens = np.array(found["tokens"], float)
    return float(np.array(found["bound"]) @ tokens / tokens.sum())


# ---- Hypotheses -----------------------------------------------------------------------------


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    """Confirmed, refuted or open, at 95 %, one by one; nothing is said of fewer than three seeds.

    A hypothesis of several parts is confirmed if all are, and refuted if one is.
    """

    def at(kind: str, name: str, steps: int, levels: str | None = None) -> Mean | None:
        rows = table[(table.kind == kind) & (table.name == name) & (table.steps == steps)]
        if levels is not None:
            rows = rows[rows.levels == levels]
        if rows.empty:
            return None
        [row] = rows.itertuples()
        return Mean(row.value, row.low, row.high, int(row.seeds))

    def grid(name: str, steps: int) -> Mean | None:
        return at("bound on a grid", name, steps)

    def words(name: str, steps: int, levels: str = "own") -> Mean | None:
        return at("WER minus linear-vp's", name, steps, levels)

    heard = "words on a grid minus linear-vp's"
    against = "WER minus information's"
    return {
        "W1": _all(above(grid(CONTEXTUAL, 5), 0.3), below(grid(CONTEXTUAL, 25), -0.1)),
        "W2": _all(*(below(grid(BEST, N), -x) for N, x in ((5, 0.1), (12, 0.2), (25, 0.3)))),
        "W3": _all(
            above(at(heard, CONTEXTUAL, 2), 0.05),
            above(at(heard, CONTEXTUAL, 25), -0.04),
            below(at(heard, CONTEXTUAL, 25), 0.04),
        ),
        "T1": _all(*(above(words(INFORMATION, N), 0.1) for N in HEARD)),
        "T2": _all(
            *(above(words(CONTEXTUAL, N), 0.1) for N in HEARD),
            *(within(at(against, CONTEXTUAL, N), 0.1) for N in HEARD),
        ),
        "T3": _all(
            *(above(words(CORPUS, N), 0.0) for N in HEARD),
            *(below(at(against, CORPUS, N), 0.0) for N in HEARD),
        ),
        "T4": _all(*(within(words(TOLD, N), 0.05) for N in (5, 25))),
        "T5": _all(
            above(words(INFORMATION, 5, BASE), 0.1),
            above(words(CONTEXTUAL, 5, BASE), 0.1),
            below(words(BASE, 5, CONTEXTUAL), 0.1),
        ),
    }


def above(mean: Mean | None, limit: float) -> str:
    """Whether a mean is above a limit."""
    if mean is None or mean.seeds < 3:
        return "not measured"
    if mean.low > limit:
        return "confirmed"
    return "refuted" if mean.high < limit else "open"


def below(mean: Mean | None, limit: float) -> str:
    """Whether a mean is below a limit."""
    return above(mean and Mean(-mean.value, -mean.high, -mean.low, mean.seeds), -limit)


def within(mean: Mean | None, limit: float) -> str:
    """Whether the magnitude of a mean is below a limit."""
    return _all(above(mean, -limit), below(mean, limit))


def _all(*parts: str) -> str:
    order: dict[str, Callable[[], bool]] = {
        "not measured": lambda: "not measured" in parts,
        "refuted": lambda: "refuted" in parts,
        "open": lambda: "open" in parts,
    }
    return next((name for name, is_so in order.items() if is_so()), "confirmed")


# ---- Plot -----------------------------------------------------------------------------------


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Laws of noise; the sampler alone; words by the schedule of training; and what is learned."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.5)
    styles: dict[str, dict[str, Any]] = {
        name: {"color": COLOURS[i % len(COLOURS)]} for i, name in enumerate([*NAMES, BEST])
    }
    markers = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate([*NAMES, BEST])}
    for name in NAMES:
        rows = table[(table.kind == "law") & (table.name == name)]
        axes[0, 0].plot(rows.value, rows.share, label=LABELS[name], linewidth=1.2, **styles[name])
    axes[0, 0].set(xlabel="SNR (dB)", ylabel="share of training below", xlim=(-40, 20))
    axes[0, 0].legend(fontsize=6)
    panel = axes[0, 1]
    for name in BOUNDED[1:]:
        rows = table[(table.kind == "bound on a grid") & (table.name == name)]
        if len(rows):
            panel.errorbar(
                rows.steps, rows.value, yerr=_arms(rows), marker=markers[name], markersize=4,
                capsize=2, elinewidth=0.8, linewidth=1.0, label=LABELS[name], **styles[name],
            )  # fmt: skip
        rows = table[(table.kind == "bound by the curve") & (table.name == name)]
        panel.plot(rows.steps, rows.value, linestyle=":", linewidth=1.0, **styles[name])
    panel.axhline(0, color="black", linewidth=0.6)
    panel.set(xscale="log", xlabel="sampling steps N")
    panel.set_ylabel("bound minus equal steps'\n(nats a token; dotted: by the curve)")
    panel.set_xticks(STEPS, [str(N) for N in STEPS])
    panel.minorticks_off()
    panel.legend(fontsize=6)
    panel = axes[1, 0]
    trained = [name for name in NAMES if name in facts["seeds"]]
    for number, name in enumerate(trained):
        rows = table[(table.kind == "WER") & (table.name == name) & (table.levels == "own")]
        panel.errorbar(
            rows.steps * 1.04 ** (number - 2), 100 * rows.value, yerr=100 * _arms(rows),
            marker=markers[name], markersize=4, capsize=2, elinewidth=0.8, linewidth=1.0,
            label=LABELS[name], **styles[name],
        )  # fmt: skip
    panel.set(xscale="log", xlabel="sampling steps N", ylabel="word errors (%)", ylim=(0, 100))
    panel.set_xticks(HEARD, [str(N) for N in HEARD])
    panel.minorticks_off()
    panel.legend(fontsize=6)
    for name in trained:
        rows = table[(table.kind == "cross-entropy") & (table.name == name)]
        axes[1, 1].plot(
            rows.level, rows.value, label=LABELS[name], linewidth=1.2, **styles[name]
        )  # fmt: skip
    axes[1, 1].set(xlabel="SNR (dB)", ylabel="cross-entropy (nats a token)", ylim=(0, None))
    label_panels(
        axes,
        (
            "laws of noise levels",
            "the sampler alone",
            "trained by each schedule",
            "what they have learned",
        ),
    )
    return figure


def _arms(rows: pd.DataFrame) -> np.ndarray:
    """Of error bars; none where there is one seed."""
    arms = np.abs(np.stack([rows.value - rows.low, rows.high - rows.value]))
    return np.where(np.isfinite(arms), arms, 0.0)


EXPERIMENT = Experiment(
    name="context_schedule",
    claim=(
        "Whether schedules that know the context repair what the information-uniform one loses on "
        "speech: for the sampler alone, and for training."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
