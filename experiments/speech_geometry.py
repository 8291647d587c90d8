"""Does the geometry of the tokens matter for speech, and is it what the theory says?

The same token sequences are diffused as other points (and VQ and RVQ, which have sequences of their
own), by small networks that differ in nothing else. The models are trained by `python -m
experiments.speech geometry`, in about two hours; this experiment analyses and draws what it stored.
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
from scipy import stats

from experiments.harness import Experiment, Progress
from experiments.ranks import permutation_p, rank_correlation
from experiments.settings import Settings, least, setting
from experiments.speech.plans import FULL, GEOMETRIES, LITTLE, MIDDLE, SETTINGS, STEPS
from experiments.speech.predictors import PREDICTORS
from experiments.speech.results import Results
from experiments.speech.units import RESULTS, Cell
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, new_figure
from tokenkl.tts.reports import paired_difference

BUDGET = MIDDLE
#: Those with the same token sequences, which alone can be compared without a word on the tokenizer.
SAME_TOKENS = tuple(name for name in GEOMETRIES if name not in ("vq", "rvq"))
#: Other heads and schedules on the same tokens: in the table and not in the figure.
OTHERS = ("factorised", "fsq-information")
LABELS = {
    "fsq": "FSQ",
    "perturbed": "FSQ-perturb",
    "permuted": "FSQ-permute",
    "e8": "E8 cut",
    "one-hot": "one-hot",
    "spherical": "spherical",
    "learned": "learned",
    "vq": "VQ (own tokens)",
    "rvq": "RVQ (own tokens)",
}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Of the analysis; what was trained is in `experiments/speech/plans.py`."""

    seed: int = setting(20261123, "of the resampling", least(0))
    resamples: int = setting(4000, "of each interval", least(2))


SMOKE = Config(resamples=100)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    results = Results.load()
    names = results.names(tuple(GEOMETRIES), Cell(BUDGET, STEPS[0]))
    more = [name for name in OTHERS if name in results.units]
    comparable = (*SAME_TOKENS, *more)
    rows: list[dict[str, Any]] = []

    def add(kind: str, name: str, value: float, low: float, high: float, **where: Any) -> None:
        rows.append({"kind": kind, "name": name, "value": value, "low": low, "high": high, **where})

    budgets = SETTINGS.training.snapshots
    cells = [Cell(BUDGET, steps) for steps in STEPS]
    cells += [Cell(FULL, 2), Cell(FULL, 5), Cell(LITTLE, 5)]
    for index, cell in enumerate(cells):
        progress(index, len(cells) + len(names))
        for name in results.names([*names, *more], cell):
            report = results.report(name, cell)
            found = report.measured("wer_unigram", config.seed, resamples=config.resamples)
            where: dict[str, Any] = {"budget": cell.budget, "steps": cell.steps}
            add("WER", name, found.value, *_ends(found), **where)
            for seed, value in zip(report.seeds, report.by_seed("wer_unigram"), strict=True):
                add("WER by seed", name, float(value), math.nan, math.nan, seed=seed, **where)
            if name != "fsq" and name in comparable:
                gap = paired_difference(
                    report, results.report("fsq", cell), "wer_unigram", config.seed,
                    resamples=config.resamples,
                )  # fmt: skip
                add("WER minus FSQ", name, gap.value, *_ends(gap), **where)
    for index, name in enumerate([*names, *more]):
        progress(min(len(cells) + index, len(cells) + len(names)), len(cells) + len(names))
        for budget in budgets:
            if f"{budget}" not in results.units[name][0]["likelihood"]:
                continue
            by_seed = _mean_bound(results, name, budget)
            value, half = _with_seeds(by_seed)
            add("bound", name, value, value - half, value + half, budget=budget)
            if name != "fsq" and name in comparable:
                paired = by_seed - _mean_bound(results, "fsq", budget)[: by_seed.size]
                value, half = _with_seeds(paired)
                add("bound minus FSQ", name, value, value - half, value + half, budget=budget)
    predictions = json.loads((RESULTS / "predictors.json").read_text())
    for name in names:
        for label in PREDICTORS:
            values = np.array([one[label] for one in predictions[name]])
            add(label, name, float(values.mean()), float(values.min()), float(values.max()))
    table = pd.DataFrame(rows)
    return table, _facts(table, results, names, config)


def _ends(measured: Any) -> tuple[float, float]:
    return measured.interval.low, measured.interval.high


def _mean_bound(results: Results, name: str, budget: int) -> np.ndarray:
    """Nats per token of each seed, over all tokens."""
    tokens = results.tokens(name, budget)
    return (results.bound(name, budget) * tokens[:, None]).sum(axis=0) / tokens.sum()


def _with_seeds(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Mean and half width of a t interval over seeds."""
    if values.size < 2:
        return float(values.mean()), math.nan
    half = stats.t.ppf(0.5 + level / 2, values.size - 1) * values.std(ddof=1)
    return float(values.mean()), float(half / math.sqrt(values.size))


def _facts(
    table: pd.DataFrame, results: Results, names: list[str], config: Config
) -> dict[str, Any]:
    outcomes = {f"WER, {steps} steps": (BUDGET, steps, "WER by seed") for steps in (2, 5, 25)} | {
        "bound": (BUDGET, 0, "bound")
    }
    same = [name for name in names if name in SAME_TOKENS]
    fewest = min(len(results.units[name]) for name in same)
    correlations = []
    for outcome, (budget, steps, kind) in outcomes.items():
        if kind == "bound":
            y = np.stack([_mean_bound(results, name, budget)[:fewest] for name in same])
        else:
            chosen = table[(table.kind == kind) & (table.budget == budget) & (table.steps == steps)]
            y = np.stack([chosen[chosen.name == name].value.to_numpy()[:fewest] for name in same])
        for label, sign in PREDICTORS.items():
            x = np.array(
                [
                    float(table[(table.kind == label) & (table.name == name)].value.iloc[0])
                    for name in same
                ]
            )
            found = rank_correlation(-sign * x, y, config.seed, resamples=config.resamples)
            correlations.append(
                {
                    "outcome": outcome,
                    "predictor": label,
                    "value": found.value,
                    "low": found.interval.low,
                    "high": found.interval.high,
                    "p": permutation_p(-sign * x, y.mean(axis=1)),
                }
            )
    tokenizers = json.loads((RESULTS / "tokenizers.json").read_text())
    parameters = {name: results.units[name][0]["parameters"] for name in names}
    names_of_all = [*names, *(name for name in OTHERS if name in results.units)]
    return {
        "geometries": names,
        "seeds": {name: len(results.units[name]) for name in names},
        "parameters": parameters,
        "training_cpu_seconds": {
            name: round(float(np.mean([r["training_cpu_seconds"] for r in results.units[name]])))
            for name in names_of_all
        },
        "sentences": SETTINGS.sentences,
        "true_tokens": tokenizers["fsq-3^8"]["wer_unigram_of_cells"],
        "tokenizers": tokenizers,
        "correlations": correlations,
    }


def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    names = facts["geometries"]
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=3.0)
    with mpl.rc_context(cast(Any, STYLE)):
        _draw_errors(axes[0, 0], table, names, facts["true_tokens"])
        _draw_gaps(axes[0, 1], table)
        _draw_bounds(axes[1, 0], table, names)
        _draw_correlations(axes[1, 1], facts)
    label_panels(
        axes,
        (
            "word errors against sampling steps",
            "word errors minus FSQ's, same tokens",
            "likelihood against training, same tokens",
            "what predicts the order of the geometries",
        ),
    )
    return figure


def _style(name: str) -> dict[str, Any]:
    index = list(GEOMETRIES).index(name)
    return {
        "color": (*COLOURS, "#888888")[index],
        "marker": (*MARKERS, "h")[index],
        "markersize": 3.5,
        "linewidth": 1.1,
        "label": LABELS[name],
    }


def _draw_errors(panel: Any, table: pd.DataFrame, names: list[str], true_tokens: float) -> None:
    rows = table[(table.kind == "WER") & (table.budget == BUDGET)]
    for name in names:
        one = rows[rows.name == name].sort_values("steps")
        panel.plot(one.steps, 100 * one.value, **_style(name))
    panel.axhline(100 * true_tokens, color="black", linewidth=0.7, linestyle=":")
    panel.text(STEPS[0], 100 * true_tokens, "true FSQ tokens", fontsize=6, va="bottom")
    panel.set(xscale="log", yscale="log", xlabel="sampling steps", ylabel="word error rate (%)")
    panel.set_xticks(STEPS, [str(step) for step in STEPS])
    panel.set_yticks([10, 20, 30, 40, 60, 80], ["10", "20", "30", "40", "60", "80"])
    panel.minorticks_off()
    panel.set_ylim(top=190)
    panel.legend(ncols=2, fontsize=6, loc="upper right")


def _draw_gaps(panel: Any, table: pd.DataFrame) -> None:
    rows = table[(table.kind == "WER minus FSQ") & (table.budget == BUDGET)]
    shown = [n for n in ("perturbed", "e8", "permuted", "spherical") if (rows.name == n).any()]
    for offset, name in zip(np.linspace(-0.06, 0.06, len(shown)), shown, strict=True):
        one = rows[rows.name == name].sort_values("steps")
        panel.errorbar(
            one.steps * np.exp(offset), 100 * one.value,
            yerr=100 * np.abs(np.stack([one.value - one.low, one.high - one.value])),
            capsize=2, elinewidth=0.8, **_style(name),
        )  # fmt: skip
    panel.axhline(0, color="black", linewidth=0.8)
    panel.set(xscale="log", xlabel="sampling steps", ylabel="difference (points of WER)")
    panel.set_xticks(STEPS, [str(step) for step in STEPS])
    panel.minorticks_off()
    panel.set_ylim(top=36)
    panel.legend(fontsize=6, ncols=2, loc="upper left")


def _draw_bounds(panel: Any, table: pd.DataFrame, names: list[str]) -> None:
    rows = table[table.kind == "bound"]
    for name in (name for name in names if name in SAME_TOKENS):
        one = rows[rows.name == name].sort_values("budget")
        panel.plot(one.budget, one.value, **_style(name))
    budgets = sorted(rows.budget.unique())
    panel.set(xscale="log", xlabel="training steps", ylabel="bound on -ln p (nats per token)")
    panel.set_xticks(budgets, [str(int(b)) for b in budgets])
    panel.minorticks_off()


def _draw_correlations(panel: Any, facts: dict[str, Any]) -> None:
    found = pd.DataFrame(facts["correlations"])
    outcomes = list(dict.fromkeys(found.outcome))
    labels = list(PREDICTORS)
    for index, outcome in enumerate(outcomes):
        rows = found[found.outcome == outcome].set_index("predictor").loc[labels]
        y = np.arange(len(labels)) + 0.17 * (index - (len(outcomes) - 1) / 2)
        ends = np.abs(np.stack([rows.value - rows.low, rows.high - rows.value]))
        panel.errorbar(
            rows.value, y, xerr=ends, fmt=MARKERS[index], color=COLOURS[index], markersize=3,
            elinewidth=0.7, label=outcome,
        )  # fmt: skip
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_yticks(range(len(labels)), labels, fontsize=6)
    panel.set(xlim=(-1.05, 1.05), xlabel="rank correlation (1: as the theory has it)")
    panel.set_xticks([-1, -0.5, 0, 0.5, 1])
    panel.set_ylim(len(labels) + 1.4, -0.6)
    panel.legend(fontsize=6, loc="lower center", ncols=2)


EXPERIMENT = Experiment(
    name="speech_geometry",
    claim="C6: on the same speech tokens FSQ's grid beats perturbed, permuted and other points.",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
