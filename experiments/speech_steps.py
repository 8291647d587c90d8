"""A task that one call of the network cannot solve: do steps matter, and geometry with them?

Networks of `python -m experiments.speech steps` on the corpus "paused": digits, characters without
alignment, and pauses of unknown length between words, so that nobody knows from the text when a
word is spoken. Hypotheses N1 to N6, endpoints and sizes were written in docs/speech.md before the
run; this experiment analyses what is stored, and says of how many seeds.

- Word errors of the bigram judge at N = 1, 2, 5, 10, 25 calls of the ancestral sampler; differences
  from FSQ of the same seed and from other N, over seeds (paired) and sentences.
- The evidence bound at N = 5, 12, 25, minus FSQ's of the same seed, t interval over seeds.
- B(end), the bound in the limit of many steps, and B(0) - B(end), what is read along the path.
- What one call has to lose by not knowing the alignment, out of the corpus alone
  (`experiments/speech/alignments.py`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, setting
from experiments.speech.plans import (
    ANCESTRAL,
    BUDGET,
    DECODED,
    PAUSED,
    PAUSED_SEEDS,
    PAUSED_STEPS,
    PLANS,
    SUFFIX,
    VIEWS,
)
from experiments.speech.results import Results
from experiments.speech.units import RESULTS, Cell
from experiments.speech_evidence import (
    LABELS,
    Mean,
    Units,
    above,
    all_of,
    arms,
    bound_rows,
    closings,
    costs,
    draw_gaps,
    mean_of,
    negative,
    path_rows,
    read_rows,
    within,
)
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, new_figure
from tokenkl.tts.reports import Measured, SpeechReport, paired_difference

PLAN = PLANS["steps"]
assert PAUSED.evidence is not None
EVIDENCE_STEPS = PAUSED.evidence.steps
METRIC = "wer_bigram"
#: Calls that are compared with each other, in words.
GAINS = ((1, 10), (1, 2), (2, 5), (5, 10), (25, 10))

#: On and off, of lines that lie upon each other.
DASHED: tuple[tuple[float, ...], ...] = ((), (4, 3), (1, 1.5), (6, 2, 1, 2), (2, 2))


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Of the analysis; what was trained is in `experiments/speech/plans.py`."""

    seed: int = setting(20261201, "of the resampling", least(0))
    resamples: int = setting(4000, "of each interval of word errors", least(2))


SMOKE = Config(resamples=100)


def stored() -> tuple[Units, dict[str, Any]]:
    """Units by the names of their geometries, and what their networks claim at each noise level."""
    units = Results.load(RESULTS / PLAN.folder).units
    plain = {name.removesuffix(SUFFIX): records for name, records in units.items()}
    claims = json.loads((RESULTS / "steps-paths.json").read_text())
    return Units(Results(plain), BUDGET), {
        label.replace(SUFFIX, ""): found for label, found in claims.items()
    }


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every number: kind, geometry, steps, value, ends, seeds."""
    units, claims = stored()
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(units.names):
        progress(index, len(units.names))
        rows += word_rows(units, name, config) + bound_rows(units, name)
    rows += _decoded_rows(units, config) + read_rows(claims) + _path_gaps(claims)
    rows += [one for one in path_rows(claims) if one["kind"] == "cost of a path"]
    before = json.loads((RESULTS / "calibration.json").read_text())
    rows += [
        {**one, "name": "fsq, C6"}
        for one in path_rows({"fsq-0": before["fsq-0"]})
        if one["kind"] == "cost of a path"
    ]
    table = pd.DataFrame(rows)
    return table, {
        "planned_seeds": len(PAUSED_SEEDS),
        "planned_units": len(PLAN.units),
        "units": sum(len(records) for records in units.records.values()),
        "sentences": PAUSED.sentences,
        "training_steps": BUDGET,
        "alignment": json.loads((RESULTS / "alignments.json").read_text()),
        "ceilings": json.loads((RESULTS / "steps-ceiling.json").read_text()),
        "closing": closings(units),
        "verdicts": verdicts(table, closings(units)),
    }


def _cell(steps: int) -> Cell:
    return Cell(BUDGET, steps, options=ANCESTRAL)


def word_rows(units: Units, name: str, config: Config) -> list[dict[str, Any]]:
    """Word errors by calls, what calls gain, and the difference from FSQ, also of these gains."""
    rows: list[dict[str, Any]] = []

    def add(kind: str, found: Measured, seeds: list[int], **where: int) -> None:
        low, high = found.interval.low, found.interval.high
        if len(seeds) == 1:  # over sentences alone: no more is known than in the bound
            low, high = -math.inf, math.inf
        mean = Mean(found.value, low, high, len(seeds))
        rows.append({"kind": kind, "name": name, **where, **dataclasses.asdict(mean)})

    def report(one: str, steps: int, seeds: list[int]) -> SpeechReport:
        return units.results.report(one, _cell(steps), seeds)

    def gap(kind: str, mine: tuple[str, int], rival: tuple[str, int], **where: int) -> None:
        seeds = units.shared(mine[0], rival[0])
        given = report(*mine, seeds), report(*rival, seeds), METRIC, config.seed
        pairing: Any = "paired" if len(seeds) > 2 else "independent"
        found = paired_difference(*given, seeds=pairing, resamples=config.resamples)
        add(kind, found, seeds, **where)

    seeds = units.shared(name)
    for steps in PAUSED_STEPS:
        heard = report(name, steps, seeds)
        found = heard.measured(METRIC, config.seed, resamples=config.resamples)
        add("WER", found, seeds, steps=steps)
        if name != "fsq":
            gap("WER minus rival", (name, steps), ("fsq", steps), steps=steps)
    if name != "fsq" and len(paired := units.shared(name, "fsq")) > 1:
        growth = [
            report(name, steps, paired).by_seed(METRIC)
            - report("fsq", steps, paired).by_seed(METRIC)
            for steps in (10, 1)
        ]
        about = {"kind": "WER minus rival, at 10 minus at 1", "name": name}
        rows.append({**about, **dataclasses.asdict(Mean.of(growth[0] - growth[1]))})
    for steps, other in GAINS:
        gap("WER minus other steps", (name, steps), (name, other), steps=steps, other=other)
    return rows


def _decoded_rows(units: Units, config: Config) -> list[dict[str, Any]]:
    """Word errors of FSQ by other samplers and decisions, of the seeds that were heard so."""
    rows = []
    for cell in DECODED:
        if units.results.names(["fsq"], cell):
            report = units.results.report("fsq", cell)
            found = report.measured(METRIC, config.seed, resamples=config.resamples)
            ends = {"value": found.value, "low": found.interval.low, "high": found.interval.high}
            about = {"kind": "WER, other decoding", "name": "fsq", "steps": cell.steps}
            how = ", ".join(value for _, value in cell.options) or "ddim"
            rows.append({**about, "decoding": how, **ends, "seeds": len(report.seeds)})
    return rows


def _path_gaps(claims: dict[str, Any]) -> list[dict[str, Any]]:
    """What is read along the path minus what FSQ of the same seed reads."""
    read: dict[str, dict[int, float]] = {}
    for label, found in claims.items():
        name, seed = label.rsplit("-", 1)
        path = costs(found, "test")
        read.setdefault(name, {})[int(seed)] = path[0] - path[-1]
    rows = []
    for name, by_seed in read.items():
        paired = sorted(set(by_seed) & set(read.get("fsq", {})))
        if name != "fsq" and paired:
            mean = Mean.of([by_seed[seed] - read["fsq"][seed] for seed in paired])
            about = {"kind": "read minus rival", "name": name, "prior": True}
            rows.append({**about, **dataclasses.asdict(mean)})
    return rows


# ---- Hypotheses -----------------------------------------------------------------------------


def verdicts(table: pd.DataFrame, closing: dict[str, dict[str, float]]) -> dict[str, str]:
    """Of each part of each hypothesis, at 95 %: confirmed, refuted, open, or not measured; nothing
    is said of fewer than three seeds."""

    def of(kind: str, name: str, **where: Any) -> Mean | None:
        return mean_of(table, kind=kind, name=name, **where)

    def gain(name: str, steps: int, other: int) -> Mean | None:
        return of("WER minus other steps", name, steps=steps, other=other)

    def everywhere(name: str, limit: float) -> str:
        return all_of(
            *(
                within(of("WER minus rival", name, steps=steps), -limit, limit)
                for steps in PAUSED_STEPS
            )
        )

    found = {
        "N1, FSQ": above(gain("fsq", 1, 10), 0.1),
        "N1, perturbed": above(gain("perturbed-power", 1, 10), 0.1),
        "N1, falls": all_of(*(above(gain("fsq", *pair), 0) for pair in ((1, 2), (2, 5), (5, 10)))),
        "N1, 25": above(gain("fsq", 25, 10), -0.05),
        "N2": within(of("read along the path", "fsq"), 0.4, 0.9),
    }
    for name in ("perturbed-power", "permuted"):
        one_call = of("WER minus rival", name, steps=1)
        found[f"N3, {LABELS[name]}"] = within(one_call, -0.05, 0.05)
    found |= {
        "N4, read": above(negative(of("read minus rival", "permuted")), 0.1),
        "N4, words at 10": above(of("WER minus rival", "permuted", steps=10), 0.05),
        "N4, grows": above(of("WER minus rival, at 10 minus at 1", "permuted"), 0),
        "N4, many steps": above(of("many steps minus rival", "permuted"), 0.1),
    }
    for key, name in (("N5", "perturbed-power"), ("N6", "e8-power")):
        growth = Mean(**closing[name]) if name in closing else None  # type: ignore[arg-type]
        found |= {
            f"{key}, bound": above(of("evidence minus rival", name, steps=5), 0),
            f"{key}, grows": above(growth, 0),
            f"{key}, words": everywhere(name, 0.04),
        }
    return found


# ---- Plot -----------------------------------------------------------------------------------


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Word errors by calls, and what they are more than FSQ's; the same of the bound; paths."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.6)
    names = [name for name in VIEWS if (table[table.kind == "WER"].name == name).any()]
    styles = {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(names)
    }
    _draw_words(axes[0, 0], table, styles, "WER")
    ceiling = 100 * facts["ceilings"]["true tokens"][METRIC]
    axes[0, 0].axhline(ceiling, color="black", linewidth=0.8, linestyle=":", label="true tokens")
    words = table[table.kind == "WER"]
    most = 100 * (words.value + arms(words)[1]).max()
    axes[0, 0].set(ylabel="word errors (%)", ylim=(0, 1.4 * most))
    axes[0, 0].legend(fontsize=6, loc="upper right", ncols=2)
    _draw_words(axes[0, 1], table, styles, "WER minus rival")
    axes[0, 1].axhline(0, color="black", linewidth=0.8)
    axes[0, 1].set_ylabel("word errors minus FSQ's (points)")
    draw_gaps(axes[1, 0], table, styles)
    _draw_paths(axes[1, 1], table, styles)
    label_panels(
        axes,
        (
            "words by calls of the network",
            "words, minus FSQ of the same seed",
            "bound, minus FSQ of the same seed",
            "what a path costs, by where it ends",
        ),
    )
    return figure


def _draw_words(panel: Any, table: pd.DataFrame, styles: dict[str, Any], kind: str) -> None:
    rows = table[table.kind == kind]
    shown = [name for name in styles if (rows.name == name).any()]
    for offset, name in zip(np.linspace(-0.06, 0.06, len(shown)), shown, strict=True):
        one = rows[rows.name == name].sort_values("steps")
        panel.errorbar(
            one.steps * np.exp(offset), 100 * one.value, yerr=100 * arms(one), capsize=2,
            elinewidth=0.8, markersize=3.5, linewidth=1.0, label=LABELS[name], **styles[name],
        )  # fmt: skip
    panel.set(xscale="log", xlabel="calls of the network")
    panel.set_xticks(PAUSED_STEPS, [f"{steps}" for steps in PAUSED_STEPS])
    panel.minorticks_off()


def _draw_paths(panel: Any, table: pd.DataFrame, styles: dict[str, Any]) -> None:
    rows = table[(table.kind == "cost of a path") & (table.split == "test")]
    for index, name in enumerate([*styles, "fsq, C6"]):
        one = rows[rows.name == name].sort_values("log_snr")
        if len(one):
            panel.plot(
                10 / math.log(10) * one.log_snr, one.value, linewidth=1.2, dashes=DASHED[index],
                color=styles[name]["color"] if name in styles else "0.5",
                label=LABELS.get(name, "FSQ, task of C6"),
            )  # fmt: skip
    panel.set(xlabel="SNR where the path ends (dB)", ylabel="bound, many steps (nats a token)")
    panel.margins(y=0.2)
    panel.legend(fontsize=6)


EXPERIMENT = Experiment(
    name="speech_steps",
    claim=(
        "A task that one call of the network cannot solve, since the text does not say when words "
        "are spoken: word errors and bounds by sampling steps and geometry."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
