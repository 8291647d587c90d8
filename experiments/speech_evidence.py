"""Is it the geometry, its power, or a head that has to learn to round?

The networks of `python -m experiments.speech evidence`: the same tokens as other points, at equal
power or in the same box, each trained with an output prior and without, seeds paired. Hypotheses
E1 to E6, endpoints and sizes were written in docs/speech.md before the first run; this experiment
analyses what is stored, and says of how many seeds.

- Primary: the evidence bound of the sampler of N = 5, 12, 25 steps, minus FSQ's of the same seed,
  mean and t interval over seeds (sentences are the same 48, and so is the noise).
- Secondary: word errors at 5 steps minus FSQ's, over seeds, which are paired, and sentences.
- Of the run "words": the same difference of the perturbed points with more seeds, on other
  sentences, which was planned for it (W1).
- Asked for when the first units were there: the bound in the limit of many steps, B(end), and what
  a network reads along the path, B(0) - B(end) (`experiments/speech/calibration.py`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy import stats

from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, setting
from experiments.speech.plans import EVIDENCE, PLAIN, PLANS, VIEWS, WORD_RIVALS, WORDS
from experiments.speech.results import Results
from experiments.speech.units import RESULTS, Budget
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, new_figure
from tokenkl.tts.reports import paired_difference

PLAN = PLANS["evidence"]
[CELL] = PLAN.cells
assert EVIDENCE.evidence is not None
STEPS = EVIDENCE.evidence.steps
#: What has tokens of its own is compared with this in place of FSQ.
RIVALS = {"vq-on-grid": "vq"}
ALONE = ("fsq", *RIVALS.values())
LABELS = {
    "fsq": "FSQ",
    "perturbed-power": "perturbed, equal power",
    "perturbed-box": "perturbed, in the box",
    "permuted": "permuted",
    "relabelled": "relabelled",
    "e8-power": "E8, equal power",
    "e8-box": "E8, in the box",
    "spherical": "spherical",
    "learned": "learned",
    "vq": "VQ",
    "vq-on-grid": "VQ on the grid (minus VQ)",
}
#: Geometries whose share that is read was known before the runs (E5), and its two lowest.
SHARES = ("fsq", "perturbed-power", "permuted", "e8-power", "spherical")
LOWEST = {"permuted", "spherical"}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Of the analysis; what was trained is in `experiments/speech/plans.py`."""

    seed: int = setting(20261129, "of the resampling", least(0))
    resamples: int = setting(4000, "of each interval of word errors", least(2))


SMOKE = Config(resamples=100)


@dataclasses.dataclass(frozen=True)
class Mean:
    """Of paired numbers over seeds, with a t interval; endless with one seed."""

    value: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray, level: float = 0.95) -> Mean:
        values = np.asarray(values, dtype=float)
        mean, n = float(values.mean()), values.size
        if n < 2:
            return cls(mean, -math.inf, math.inf, n)
        half = stats.t.ppf(0.5 + level / 2, n - 1) * values.std(ddof=1) / math.sqrt(n)
        return cls(mean, mean - half, mean + half, n)


class Units:
    """What is stored, seed by seed, of networks of so many training steps."""

    def __init__(self, results: Results, budget: Budget = CELL.budget) -> None:
        self.results, self.budget = results, budget
        self.records = {
            name: {record["made_from"]["seed"]: record for record in records}
            for name, records in results.units.items()
        }
        self.names = [name for name in VIEWS if name in self.records]

    def shared(self, *names: str) -> list[int]:
        """Seeds that all of these have."""
        return sorted(set.intersection(*(set(self.records.get(name, {})) for name in names)))

    def evidence(self, name: str, steps: int, seeds: Sequence[int]) -> Float[np.ndarray, " seeds"]:
        """Nats per token, over all tokens."""
        records = [self.records[name][seed] for seed in seeds]
        sums = [sum(one["evidence"][f"{self.budget}"][f"{steps}"]) for one in records]
        return np.array(sums) / [sum(one["evidence_tokens"]) for one in records]

    def gap(self, name: str, rival: str, steps: int) -> Mean:
        """Evidence bound minus the rival's of the same seed."""
        seeds = self.shared(name, rival)
        return Mean.of(self.evidence(name, steps, seeds) - self.evidence(rival, steps, seeds))

    def closing(self, name: str, rival: str) -> Mean:
        """What the gap at the most steps has more than that at the fewest."""
        seeds = self.shared(name, rival)
        gaps = [
            self.evidence(name, steps, seeds) - self.evidence(rival, steps, seeds)
            for steps in (STEPS[-1], STEPS[0])
        ]
        return Mean.of(gaps[0] - gaps[1])

    def error_rates(self, name: str, seeds: Sequence[int]) -> Float[np.ndarray, " seeds"]:
        """Word error rates, one a seed."""
        return self.results.report(name, CELL, seeds).by_seed("wer_unigram")


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every number: kind, geometry, with or without output prior, steps, value, ends,
    seeds."""
    units = Units(Results.load(RESULTS / PLAN.folder))
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(units.names):
        progress(index, len(units.names))
        for prior in (True, False):
            rows += _rows_of(units, name, prior, config)
    calibration = json.loads((RESULTS / "calibration.json").read_text())
    rows += path_rows(calibration) + read_rows(calibration)
    rows += _word_rows(config)
    table = pd.DataFrame(rows)
    return table, {
        "planned_seeds": len({unit.seed for unit in PLAN.units}),
        "planned_units": len(PLAN.units),
        "units": sum(len(records) for records in units.records.values()),
        "sentences": EVIDENCE.sentences,
        "sentences_of_words": WORDS.sentences,
        "closing": closings(units),
        "verdicts": verdicts(units, table),
    }


def _rows_of(units: Units, name: str, prior: bool, config: Config) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    suffix = "" if prior else PLAIN
    mine, rival = name + suffix, RIVALS.get(name, "fsq") + suffix
    seeds = units.shared(mine)
    if not seeds:
        return rows

    def add(kind: str, mean: Mean, **where: Any) -> None:
        about = {"kind": kind, "name": name, "prior": prior, **where}
        rows.append({**about, **dataclasses.asdict(mean)})

    for steps in STEPS:
        add("evidence", Mean.of(units.evidence(mine, steps, seeds)), steps=steps)
    add("WER", Mean.of(units.error_rates(mine, seeds)), steps=CELL.steps)
    profiles = [units.records[mine][seed]["likelihood"][f"{CELL.budget}"] for seed in seeds]
    for log_snr, *values in zip(
        profiles[0]["log_snr"], *(one["cross_entropy"] for one in profiles), strict=True
    ):
        add("cross-entropy", Mean.of(values), log_snr=log_snr)
    paired = units.shared(mine, rival)
    if name in ALONE or not paired:
        return rows
    for steps in STEPS:
        add("evidence minus rival", units.gap(mine, rival, steps), steps=steps)
    if len(paired) > 2:
        gap = paired_difference(
            units.results.report(mine, CELL, paired),
            units.results.report(rival, CELL, paired),
            "wer_unigram",
            config.seed,
            seeds="paired",
            resamples=config.resamples,
        )
        low, high = gap.interval.low, gap.interval.high
        add("WER minus rival", Mean(gap.value, low, high, len(paired)), steps=CELL.steps)
    return rows


def _word_rows(config: Config) -> list[dict[str, Any]]:
    """Word errors of the run "words", and the difference of its two geometries."""
    [cell], units = PLANS["words"].cells, Units(Results.load(RESULTS / PLANS["words"].folder))
    names = [f"{name}-words" for name in WORD_RIVALS]
    seeds = units.shared(*names)
    mine, rival = reports = [units.results.report(name, cell, seeds) for name in names]
    given = mine, rival, "wer_unigram", config.seed
    gap = paired_difference(*given, seeds="paired", resamples=config.resamples)
    about = {"prior": True, "steps": cell.steps, "seeds": len(seeds)}
    rows = [
        {"kind": "WER, words", "name": name, **about, "value": report.by_seed("wer_unigram").mean()}
        for name, report in zip(WORD_RIVALS, reports, strict=True)
    ]
    ends = {"value": gap.value, "low": gap.interval.low, "high": gap.interval.high}
    return [*rows, {"kind": "WER minus rival, words", "name": WORD_RIVALS[0], **about, **ends}]


def bound_rows(units: Units, name: str, **about: Any) -> list[dict[str, Any]]:
    """The evidence bound with the prior by sampling steps, and what it is more than FSQ's."""
    rows: list[dict[str, Any]] = []
    for steps in STEPS:
        where = {"name": name, "steps": steps, "prior": True, **about}
        mean = Mean.of(units.evidence(name, steps, units.shared(name)))
        rows.append({"kind": "evidence", **where, **dataclasses.asdict(mean)})
        if name != "fsq" and units.shared(name, "fsq"):
            gap = units.gap(name, "fsq", steps)
            rows.append({"kind": "evidence minus rival", **where, **dataclasses.asdict(gap)})
    return rows


def costs(found: dict[str, Any], split: str) -> Float[np.ndarray, " levels"]:
    """B at every level: what many steps cost that end there, nats per token."""
    snr = np.exp(found["log_snr"])
    error = np.array(found[split]["squared_error"])
    # Trapezoids in ln snr; before the first level the error is what it is there.
    over = (error[1:] * snr[1:] + error[:-1] * snr[:-1]) / 2 * np.diff(np.log(snr))
    spent = (error[0] * snr[0] + np.append(0.0, np.cumsum(over))) / 2
    return spent + found[split]["cross_entropy"]


def _read_label(label: str) -> tuple[str, bool, int]:
    """Geometry, whether with the output prior, and seed of a unit."""
    name, seed = label.rsplit("-", 1)
    return name.removesuffix(PLAIN), not name.endswith(PLAIN), int(seed)


def path_rows(calibration: dict[str, Any]) -> list[dict[str, Any]]:
    """B over SNRs and the squared error over what the network claims it to be, of the first seed;
    no ratio where less than 1e-3 is claimed."""
    rows = []
    for label, found in calibration.items():
        name, prior, seed = _read_label(label)
        about = {"name": name, "prior": prior, "seeds": 1}
        for split in ("test", "train") if seed == 0 else ():
            if split not in found:
                continue
            parts = {key: np.array(value) for key, value in found[split].items()}
            claim = np.where(parts["variance"] > 1e-3, parts["variance"], math.nan)
            values = {
                "cost of a path": costs(found, split),
                "error over claim": parts["squared_error"] / claim,
            }
            for kind, of_levels in values.items():
                for log_snr, value in zip(found["log_snr"], of_levels, strict=True):
                    where = {"log_snr": log_snr, "split": split, **about}
                    rows.append({"kind": kind, "value": float(value), **where})
    return rows


def read_rows(calibration: dict[str, Any]) -> list[dict[str, Any]]:
    """Means over seeds of B(end), the same minus FSQ's, and of B(0) - B(end), on test sentences."""
    paths: dict[tuple[str, bool], dict[int, np.ndarray]] = {}
    for label, found in calibration.items():
        name, prior, seed = _read_label(label)
        paths.setdefault((name, prior), {})[seed] = costs(found, "test")
    rows: list[dict[str, Any]] = []
    for (name, prior), by_seed in paths.items():
        means = {
            "many steps": Mean.of([path[-1] for path in by_seed.values()]),
            "read along the path": Mean.of([path[0] - path[-1] for path in by_seed.values()]),
        }
        rival = paths.get((RIVALS.get(name, "fsq"), prior), {})
        paired = sorted(set(by_seed) & set(rival))
        if name not in ALONE and paired:
            gaps = [by_seed[seed][-1] - rival[seed][-1] for seed in paired]
            means["many steps minus rival"] = Mean.of(gaps)
        about = {"name": name, "prior": prior}
        rows += [{"kind": k, **about, **dataclasses.asdict(mean)} for k, mean in means.items()]
    return rows


def closings(units: Units) -> dict[str, dict[str, float]]:
    """By how much gaps grow from the fewest steps to the most, with the prior."""
    pairs = {name: RIVALS.get(name, "fsq") for name in units.names if name not in ALONE}
    return {
        name: dataclasses.asdict(units.closing(name, rival))
        for name, rival in pairs.items()
        if units.shared(name, rival)
    }


# ---- Hypotheses -----------------------------------------------------------------------------


def verdicts(units: Units, table: pd.DataFrame) -> dict[str, str]:
    """Of each hypothesis: confirmed, refuted, open, or not measured. The rules are those of the
    hypotheses, at 95 %, one by one; nothing is said of fewer than three seeds."""

    def gap(name: str, steps: int, prior: bool = True) -> Mean | None:
        kind = "evidence minus rival"
        return mean_of(table, kind=kind, name=name, steps=steps, prior=prior)

    perturbed, e8 = gap("perturbed-power", 5), gap("e8-power", 5)
    relabelled, grid = gap("relabelled", 5), gap("vq-on-grid", 5)
    return {
        "E1": above(perturbed, 0),
        "E2": above(e8, 0),
        "E3": _penalty(units, table),
        "E3, in the bound": within(gap("permuted", 5), 0.1, 0.4),
        "E4": above(negative(relabelled), 0),
        "E5": _lowest_are_worst(units),
        "E6": above(negative(grid), 0),
        "W1": _point(mean_of(table, kind="WER minus rival, words", name=WORD_RIVALS[0])),
    }


def mean_of(table: pd.DataFrame, **where: Any) -> Mean | None:
    chosen = table
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    if chosen.empty:
        return None
    [row] = chosen.itertuples()
    return Mean(row.value, row.low, row.high, int(row.seeds))


def _point(mean: Mean | None) -> str:
    """Within a point of zero, or outside, or neither is known."""
    return within(mean, -0.01, 0.01)


def negative(mean: Mean | None) -> Mean | None:
    return mean and Mean(-mean.value, -mean.high, -mean.low, mean.seeds)


def above(mean: Mean | None, limit: float) -> str:
    if mean is None or mean.seeds < 3:
        return "not measured"
    if mean.low > limit:
        return "confirmed"
    return "refuted" if mean.high < limit else "open"


def within(mean: Mean | None, low: float, high: float) -> str:
    both = {above(mean, low), above(negative(mean), -high)}
    if len(both) == 1:
        return both.pop()
    return "refuted" if "refuted" in both else "open"


def all_of(*parts: str) -> str:
    """Of a hypothesis of several parts."""
    for verdict in ("not measured", "refuted", "open"):
        if verdict in parts:
            return verdict
    return "confirmed"


def _penalty(units: Units, table: pd.DataFrame) -> str:
    """Permuted minus FSQ in words: below 3 points with the prior, 8 points more without it."""
    kind = "WER minus rival"
    small = above(negative(mean_of(table, kind=kind, name="permuted", prior=True)), -0.03)
    names = ("permuted", "fsq", "permuted" + PLAIN, "fsq" + PLAIN)
    seeds = units.shared(*names)
    if len(seeds) < 3:
        return "not measured"
    rates = [units.error_rates(name, seeds) for name in names]
    more = above(Mean.of((rates[2] - rates[3]) - (rates[0] - rates[1])), 0.08)
    if small == more:
        return small
    return "refuted" if "refuted" in (small, more) else "open"


def _lowest_are_worst(units: Units) -> str:
    """In the means of common seeds, with and without prior, at every number of steps."""
    found = []
    for suffix in ("", PLAIN):
        names = [name + suffix for name in SHARES]
        seeds = units.shared(*names)
        if len(seeds) < 3:
            return "not measured"
        for steps in STEPS:
            bounds = {name: units.evidence(name + suffix, steps, seeds).mean() for name in SHARES}
            worst = sorted(bounds, key=lambda name: bounds[name])[-len(LOWEST) :]
            found.append(set(worst) == LOWEST)
    return "confirmed" if all(found) else "refuted"


# ---- Plot -----------------------------------------------------------------------------------


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Gaps in the bound over steps and in words; cross-entropy over noise, and what paths cost."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.8)
    turns = {name: divmod(i, len(COLOURS)) for i, name in enumerate(VIEWS)}
    styles = {  # a colour that comes again has another marker
        name: {"color": COLOURS[i], "marker": MARKERS[(i + turn) % len(MARKERS)]}
        for name, (turn, i) in turns.items()
    }
    draw_gaps(axes[0, 0], table, styles)
    _draw_words(axes[0, 1], table, styles)
    _draw_rounding(axes[1, 0], table, styles)
    _draw_paths(axes[1, 1], table, styles)
    label_panels(
        axes,
        (
            "bound minus FSQ's, with output prior",
            f"words, {CELL.steps} steps",
            "what the output prior does",
            "what a path costs, by where it ends",
        ),
    )
    return figure


def draw_gaps(panel: Any, table: pd.DataFrame, styles: dict[str, Any]) -> None:
    gaps = table[(table.kind == "evidence minus rival") & table.prior]
    best = table[(table.kind == "many steps minus rival") & table.prior]
    names = [name for name in VIEWS if (gaps.name == name).any()]
    apart = 2 * STEPS[-1]
    for offset, name in zip(np.linspace(-0.1, 0.1, len(names)), names, strict=True):
        one, end = gaps[gaps.name == name].sort_values("steps"), best[best.name == name]
        for rows, steps, line in ((one, one.steps, "-"), (end, [apart] * len(end), "none")):
            panel.errorbar(
                np.asarray(steps) * np.exp(offset), rows.value, yerr=arms(rows), capsize=2,
                elinewidth=0.8, markersize=3.5, linewidth=1.0, linestyle=line,
                label=LABELS[name] if line == "-" else None, **styles[name],
            )  # fmt: skip
    panel.axhline(0, color="black", linewidth=0.8)
    panel.set(xscale="log", xlabel="sampling steps N", ylabel="difference (nats a token)")
    panel.set_xticks([*STEPS, apart], [*(str(steps) for steps in STEPS), "many"])
    panel.minorticks_off()
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.45 * (high - low))  # room above all lines
    panel.legend(fontsize=6, loc="upper right", ncols=2, columnspacing=1, handlelength=1.4)


def arms(rows: pd.DataFrame) -> np.ndarray:
    """Of error bars; none where there is one seed."""
    lengths = np.abs(np.stack([rows.value - rows.low, rows.high - rows.value]))
    return np.where(np.isfinite(lengths), lengths, 0.0)


def _draw_words(panel: Any, table: pd.DataFrame, styles: dict[str, Any]) -> None:
    rows, more = (
        table[table.kind == kind] for kind in ("WER minus rival", "WER minus rival, words")
    )
    shown = [name for name in VIEWS if (rows.name == name).any()]
    labels = [LABELS[name] for name in shown]
    series = [(rows[rows.prior], -0.12, "full"), (rows[~rows.prior.astype(bool)], 0.12, "none")]
    points = [
        (place + shift, one, name, fill)
        for some, shift, fill in series
        for place, name in enumerate(shown)
        for one in [some[some.name == name]]
    ]
    for one in more.itertuples():
        points.append((len(labels), more, one.name, "full"))
        labels.append(f"{LABELS[one.name]},\nrun of {one.seeds} seeds")
    for place, one, name, fill in points:
        panel.errorbar(
            100 * one.value, [place] * len(one), xerr=100 * arms(one), capsize=2,
            elinewidth=0.8, markersize=4, fillstyle=fill, linestyle="none", **styles[name],
        )  # fmt: skip
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_yticks(range(len(labels)), labels, fontsize=6)
    panel.set_ylim(len(labels) - 0.4, -0.6)
    panel.set(xlabel="word errors minus FSQ's (points)\nfull: with output prior; open: without")


def _draw_rounding(panel: Any, table: pd.DataFrame, styles: dict[str, Any]) -> None:
    rows = table[table.kind == "cross-entropy"]
    for name in ("fsq", "permuted"):
        for prior, line in ((True, "-"), (False, ":")):
            one = rows[(rows.name == name) & (rows.prior == prior)].sort_values("log_snr")
            label = f"{LABELS[name]}, {'with' if prior else 'without'}"
            panel.plot(
                10 / math.log(10) * one.log_snr, one.value, linestyle=line, linewidth=1.2,
                color=styles[name]["color"], label=label,
            )  # fmt: skip
    panel.set(xlabel="SNR (dB)", ylabel="cross-entropy (nats a token)")
    panel.set_ylim(0, None)
    panel.legend(fontsize=6)


def _draw_paths(panel: Any, table: pd.DataFrame, styles: dict[str, Any]) -> None:
    rows = table[(table.kind == "cost of a path") & table.prior]
    for name in ("fsq", "permuted"):
        for split, line in (("test", "-"), ("train", ":")):
            one = rows[(rows.name == name) & (rows.split == split)].sort_values("log_snr")
            panel.plot(
                10 / math.log(10) * one.log_snr, one.value, linestyle=line, linewidth=1.2,
                color=styles[name]["color"], label=f"{LABELS[name]}, {split}",
            )  # fmt: skip
    panel.set(xlabel="SNR where the path ends (dB)", ylabel="bound, many steps (nats a token)")
    panel.margins(y=0.25)
    panel.legend(fontsize=6)


EXPERIMENT = Experiment(
    name="speech_evidence",
    claim=(
        "C6 at equal power: what is left of FSQ's advantage on speech when powers are equal and "
        "the network is given the rounding."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
