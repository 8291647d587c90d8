"""What of C6 at equal power lasts to the validation optimum, and what the text alone foretells.

Networks of `python -m experiments.speech lasting`, each trained until its validation loss rises,
and laws of tokens that never saw a point (`... laws`). Hypotheses L1 to L6 and D1 to D4, endpoints
and sizes were written in docs/speech.md before the runs; this experiment analyses what is stored,
and says of how many seeds.

- The evidence bound of the sampler of N = 5, 12, 25 steps minus FSQ's of the same seed, at 200,
  400, 800 training steps and at the optimum; mean and t interval over seeds.
- Word errors of the unigram judge minus FSQ's, over seeds (paired) and sentences.
- At the optimum B(end), the bound of many steps, and B(0) - B(end), what is read along the path.
- The same bounds for the exact denoiser of a law given the text alone, or given the text and all
  tokens before, with no network: differences from FSQ's, beside those that were measured.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.harness import FIGURES, Experiment, Progress
from experiments.ranks import spearman
from experiments.settings import Settings, least, setting
from experiments.speech.laws import CLASSIFIER, DRAWN, FIXED, TWIN
from experiments.speech.plans import LAST, LASTING, LASTING_NAMES, PLANS, VIEWS
from experiments.speech.results import Results
from experiments.speech.units import OPTIMUM, RESULTS, Budget
from experiments.speech_evidence import (
    LABELS,
    Mean,
    Units,
    above,
    all_of,
    arms,
    bound_rows,
    closings,
    draw_gaps,
    mean_of,
    negative,
    read_rows,
    within,
)
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, new_figure
from tokenkl.tts.reports import paired_difference

PLAN = PLANS["lasting"]
assert LASTING.evidence is not None
STEPS = LASTING.evidence.steps
BUDGETS: tuple[Budget, ...] = (*LASTING.training.snapshots, OPTIMUM)
METRIC = "wer_unigram"
FORETOLD = tuple(name for name in (*FIXED, *DRAWN) if name != "fsq")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Of the analysis; what was trained is in `experiments/speech/plans.py`."""

    seed: int = setting(20261130, "of the resampling", least(0))
    resamples: int = setting(4000, "of each interval of word errors", least(2))


SMOKE = Config(resamples=100)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every number: kind, geometry, budget, steps, value, ends, seeds."""
    stored = Results.load(RESULTS / PLAN.folder).units
    results = Results({name.removesuffix(LAST): records for name, records in stored.items()})
    rows: list[dict[str, Any]] = []
    for index, budget in enumerate(BUDGETS):
        progress(index, len(BUDGETS))
        units = units_at(results, budget)
        rows += growth_rows(units, budget)
        for name in units.names:
            rows += bound_rows(units, name, budget=budget)
            rows += word_rows(units, name, budget, config)
    paths = json.loads((RESULTS / "lasting-paths.json").read_text())
    claims = {label.replace(LAST, ""): found for label, found in paths.items()}
    rows += [{**row, "budget": OPTIMUM} for row in read_rows(claims)]
    earlier = Units(Results.load(RESULTS / PLANS["evidence"].folder))
    laws = json.loads((RESULTS / "laws.json").read_text())
    rows += law_rows(laws) + earlier_rows(earlier)
    table = pd.DataFrame(rows)
    return table, {
        "planned_units": len(PLAN.units),
        "units": sum(len(records) for records in results.units.values()),
        "sentences": LASTING.sentences,
        "optimum": {
            name: sorted(record["optimum"]["step"] for record in records)
            for name, records in results.units.items()
        },
        "laws": {name: _about_law(law) for name, law in laws.items()},
        "foretold": foretold(table),
        "verdicts": verdicts(table),
    }


def units_at(results: Results, budget: Budget) -> Units:
    """Those whose training has reached this budget."""
    reached = {
        name: [one for one in records if f"{budget}" in one["evidence"]]
        for name, records in results.units.items()
    }
    return Units(Results({name: some for name, some in reached.items() if some}), budget)


def growth_rows(units: Units, budget: Budget) -> list[dict[str, Any]]:
    """By how much what is more than FSQ's in the bound grows from the fewest steps to the most."""
    return [
        {"kind": "growth of the gap", "name": name, "budget": budget, "prior": True, **growth}
        for name, growth in closings(units).items()
    ]


def word_rows(units: Units, name: str, budget: Budget, config: Config) -> list[dict[str, Any]]:
    """Word errors by sampling steps, and what they are more than FSQ's."""
    rows: list[dict[str, Any]] = []
    about = {"name": name, "budget": budget, "prior": True}
    cells = (*PLAN.cells, *PLANS["lasting-curve"].cells)
    for cell in (one for one in cells if one.budget == budget):
        seeds = units.shared(name)
        rates = units.results.report(name, cell, seeds).by_seed(METRIC)
        where = {**about, "steps": cell.steps}
        rows.append({"kind": "WER", **where, **dataclasses.asdict(Mean.of(rates))})
        paired = units.shared(name, "fsq")
        if name == "fsq" or len(paired) < 3:
            continue
        mine, rival = (units.results.report(one, cell, paired) for one in (name, "fsq"))
        gap = paired_difference(
            mine, rival, METRIC, config.seed, seeds="paired", resamples=config.resamples
        )
        mean = Mean(gap.value, gap.interval.low, gap.interval.high, len(paired))
        rows.append({"kind": "WER minus rival", **where, **dataclasses.asdict(mean)})
    return rows


def law_rows(laws: dict[str, Any]) -> list[dict[str, Any]]:
    """Path KLs of the exact denoiser of a law, and how much more they are than FSQ's; nats a token.

    Intervals are over what is drawn of the points, with none for points that are not.
    """
    rows: list[dict[str, Any]] = []
    for law, about in laws.items():
        tokens = sum(about["tokens"])
        by_name: dict[str, list[dict[str, list[float]]]] = {}
        for label, bounds in about["points"].items():
            by_name.setdefault(label.rsplit("-", 1)[0], []).append(bounds)
        for steps in STEPS:
            nats = {
                name: np.array([sum(one[f"{steps}"]) for one in found]) / tokens
                for name, found in by_name.items()
            }
            for name, values in nats.items():
                where = {"name": name, "law": law, "steps": steps}
                spent = Mean.of(values - sum(about["cross_entropy"]) / tokens)
                gap = Mean.of(values - nats["fsq"][0])
                rows.append({"kind": "path KL", **where, **dataclasses.asdict(spent)})
                if name != "fsq":
                    rows.append({"kind": "foretold", **where, **dataclasses.asdict(gap)})
    return rows


def earlier_rows(units: Units) -> list[dict[str, Any]]:
    """What was measured of the networks of 200 training steps, with the output prior (E)."""
    return [
        {"kind": "E: evidence minus rival", "name": name, "steps": steps, "prior": True,
         **dataclasses.asdict(units.gap(name, "fsq", steps))}
        for name in FORETOLD
        if len(units.shared(name, "fsq")) > 2
        for steps in STEPS
    ]  # fmt: skip


def _about_law(law: dict[str, Any]) -> dict[str, Any]:
    nats = sum(law["cross_entropy"]) / sum(law["tokens"])
    return {"cross_entropy": nats, **law["optimum"]}


def foretold(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """By law, and by what was measured: rank correlation and root mean square of what is wrong."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for law in (CLASSIFIER, TWIN):
        for outcome, measured in measurements(table).items():
            for steps in STEPS:
                x, y = _paired(table, measured, law, steps)
                found.setdefault(f"{law}, {outcome}", {})[f"{steps}"] = {
                    "points": len(x),
                    "spearman": float(spearman(x, y)) if len(x) > 2 else float("nan"),
                    "rms": float(np.sqrt(np.mean((x - y) ** 2))) if len(x) else float("nan"),
                }
    return found


def measurements(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Differences from FSQ's in the bound: of the networks of E, and of L at their optimum."""
    lasting = table[(table.kind == "evidence minus rival") & (table.budget == OPTIMUM)]
    return {"E": table[table.kind == "E: evidence minus rival"], "L": lasting}


def _paired(
    table: pd.DataFrame, measured: pd.DataFrame, law: str, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Foretold and measured differences of the points that have both."""
    said = table[(table.kind == "foretold") & (table.law == law) & (table.steps == steps)]
    both = said.merge(measured[measured.steps == steps], on="name", suffixes=("", "_measured"))
    return both.value.to_numpy(), both.value_measured.to_numpy()


# ---- Hypotheses -----------------------------------------------------------------------------


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    """Of each part of each hypothesis, at 95 %: confirmed, refuted, open, or not measured; nothing
    is said of fewer than three seeds."""

    def gap(name: str, steps: int, budget: Budget = OPTIMUM) -> Mean | None:
        where = {"name": name, "steps": steps, "budget": budget}
        return mean_of(table, kind="evidence minus rival", **where)

    def last(kind: str, name: str, **where: Any) -> Mean | None:
        return mean_of(table, kind=kind, name=name, budget=OPTIMUM, **where)

    perturbed, permuted, box = "perturbed-power", "permuted", "perturbed-box"
    many = "many steps minus rival"
    found = {
        "L1": above(gap(perturbed, 5), 0),
        "L1, grows": above(last("growth of the gap", perturbed), 0),
        "L2, perturbed": within(last(many, perturbed), -0.1, 0.1),
        "L2, relabelled": within(last(many, "relabelled"), -0.1, 0.1),
        "L2, permuted": above(last(many, permuted), 0.05),
        "L2, FSQ reads": above(last("read along the path", "fsq"), 0.2),
        "L3, bound": all_of(*(above(gap(permuted, 5, budget), 0.3) for budget in BUDGETS)),
        "L3, words": within(last("WER minus rival", permuted, steps=5), -0.03, 0.03),
        "L4": all_of(above(gap("relabelled", 5), 0), above(negative(gap("relabelled", 5)), -0.15)),
        "L5": all_of(*(within(gap(box, steps), -0.05, 0.05) for steps in STEPS[1:])),
        "L6": _stays(gap(permuted, 5, BUDGETS[0]), gap(permuted, 5)),
    }
    return found | _law_verdicts(table)


def _stays(before: Mean | None, after: Mean | None, limit: float = 0.15) -> str:
    """By means: the two are of the same networks, which the table does not keep apart."""
    if before is None or after is None or min(before.seeds, after.seeds) < 3:
        return "not measured"
    return "confirmed" if abs(after.value - before.value) < limit else "refuted"


def _law_verdicts(table: pd.DataFrame) -> dict[str, str]:
    """By what E measured; its six geometries, and the probe's five."""
    words = {True: "confirmed", False: "refuted"}
    measured = measurements(table)["E"]
    agree = foretold(table)[f"{CLASSIFIER}, E"]
    said = table[table.kind == "foretold"].set_index(["law", "name", "steps"]).value

    def of(law: str, steps: int) -> float:
        return float(said[law, "permuted", steps])

    sizes = 0.4 <= of(CLASSIFIER, 5) <= 0.8 and of(CLASSIFIER, 25) < of(CLASSIFIER, 12)
    return {
        "D1": words[all(agree[f"{steps}"]["spearman"] >= 0.8 for steps in STEPS)],
        "D2": words[all(agree[f"{steps}"]["rms"] <= 0.15 for steps in STEPS)],
        "D2, permuted": words[sizes],
        "D3": words[of(TWIN, 5) < of(CLASSIFIER, 5)],
        "D4": words[abs(slope_of_the_rest(said, measured)) <= 0.25],
    }


def slope_of_the_rest(said: pd.Series, measured: pd.DataFrame, steps: int = 5) -> float:
    """Of what the classifier's law does not explain on int nu of the probe; FSQ has 0 of both."""
    probe = pd.read_csv(FIGURES / "context_probe.csv")
    chosen = probe[(probe.kind == "int nu minus FSQ's") & (probe.prior == "phoneme")]
    nu = dict(zip(chosen.name, chosen.value, strict=True))
    at = measured[measured.steps == steps]
    rest = {
        one.name: one.value - float(said[CLASSIFIER, one.name, steps])
        for one in at.itertuples(index=False)
        if one.name in nu
    }
    x, y = [0.0, *(nu[name] for name in rest)], [0.0, *rest.values()]
    return float(np.polyfit(x, y, 1)[0])


# ---- Plot -----------------------------------------------------------------------------------


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Gaps over training and over steps, in words, and what was foretold of them."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.6)
    names = [name for name in VIEWS if name in LASTING_NAMES or name in FORETOLD]
    styles = {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(names)
    }
    training, steps, words, laws = axes.ravel()
    gaps = table[table.kind == "evidence minus rival"]
    _over_training(training, gaps[gaps.steps == STEPS[0]], styles, 1.0)
    training.set_ylabel(f"bound minus FSQ's, {STEPS[0]} steps (nats)")
    training.legend(fontsize=6)
    draw_gaps(steps, table[table.budget == OPTIMUM], styles)
    heard = table[(table.kind == "WER minus rival") & (table.steps == STEPS[0])]
    _over_training(words, heard, styles, 100.0)
    words.set_ylabel(f"word errors minus FSQ's, {STEPS[0]} steps (points)")
    _draw_laws(laws, table, styles)
    label_panels(
        axes,
        (
            "over training",
            "at the optimum, by sampling steps",
            "words, over training",
            "foretold from the text, 200 training steps",
        ),
    )
    return figure


def _over_training(panel: Any, rows: pd.DataFrame, styles: dict[str, Any], factor: float) -> None:
    shown = [name for name in styles if (rows.name == name).any()]
    labels = [f"{budget}" for budget in BUDGETS]
    for offset, name in zip(np.linspace(-0.1, 0.1, len(shown)), shown, strict=True):
        one = rows[rows.name == name]
        places = [labels.index(f"{budget}") + offset for budget in one.budget]
        panel.errorbar(
            places, factor * one.value, yerr=factor * arms(one), capsize=2, elinewidth=0.8,
            markersize=3.5, linewidth=1.0, label=LABELS[name], **styles[name],
        )  # fmt: skip
    panel.axhline(0, color="black", linewidth=0.8)
    panel.set_xticks(range(len(labels)), labels)
    panel.set_xlabel("training steps")


def _draw_laws(panel: Any, table: pd.DataFrame, styles: dict[str, Any]) -> None:
    """A point for each set of points and number of steps; the fewer steps, the larger."""
    said = table[(table.kind == "foretold") & (table.law == CLASSIFIER)]
    both = said.merge(measurements(table)["E"], on=["name", "steps"], suffixes=("", "_measured"))
    for name in [name for name in styles if (both.name == name).any()]:
        one = both[both.name == name]
        ends = {"value": one.value_measured, "low": one.low_measured, "high": one.high_measured}
        panel.errorbar(
            one.value, one.value_measured, yerr=arms(pd.DataFrame(ends)), capsize=2,
            elinewidth=0.8, linestyle="none", markersize=3.5, label=LABELS[name], **styles[name],
        )  # fmt: skip
    low, high = panel.get_xlim()
    panel.plot([low, high], [low, high], color="black", linewidth=0.8, linestyle=":")
    panel.set(xlabel="foretold minus FSQ's (nats)", ylabel="measured minus FSQ's (nats)")
    panel.legend(fontsize=6)


EXPERIMENT = Experiment(
    name="speech_lasting",
    claim=(
        "What of C6 at equal power lasts to the validation optimum, and how much of it a law of "
        "the tokens given the text foretells without training on any points."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
