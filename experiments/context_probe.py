"""What is lost of noisy speech tokens by reading them affinely, and does a probe foretell networks?

An affine probe (`experiments/speech/probe.py`) is fitted to real tokens, two neighbours on either
side, for five labelings and geometries, with the tokens' frequencies as prior and with their law
given the phoneme; on utterances left out. Relabelled points come from utterances that the probe
does not see. Three integrals, in nats a token:

- gain: of what the probe's cross-entropy is below that without neighbours, over d log snr;
- int nu, of the fit: of what it is above that of a probe that is shown denoised neighbours;
- read along the path: (1/2) of what its squared error is below that without neighbours, over d snr.
  For a network B(0) - B(end) is the same (docs/theory/learned.md, 9h), and was measured.

Seen after the run: denoised neighbours know their own phonemes through their priors, so that int nu
given the phoneme has a part, the same for all points, that noisy neighbours could not tell.

Written before the run; known were the networks (`speech_evidence`), the shares of `context_speech`,
and the three numbers of FSQ at snr = 2 with 200 and 600 utterances (with a gain of 0.06 nats given
the phoneme):

- P1: what is read along the path, given the phoneme, has the networks' order over the five:
  Spearman correlation with their B(0) - B(end) of at least 0.8.
- P2: it is of their size: between 0.08 and 0.25 for FSQ, E8 and perturbed points, below 0.06 for
  permuted ones.
- P3: given the phoneme relabelled points are read less than FSQ's by the 95 % interval, as networks
  have it; without text, where the share from bigrams sees no difference, by no more than a fifth.
- P4: int nu of permuted ids is at least twice FSQ's, and it ranks the five as the evidence bound of
  5 steps does (Spearman at least 0.8); that of many steps, where networks are level, it does not.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

import tokenkl as tk
from experiments import context_speech
from experiments.harness import FIGURES, Experiment, Progress
from experiments.ranks import spearman
from experiments.settings import Settings, among, holding, increasing, least, most, setting
from experiments.speech import probe as probe_module
from experiments.speech.probe import Corpus, Losses, probe
from experiments.toy.kept import Part, gather, kept_folder
from tokenkl.context.placement import place
from tokenkl.context.variates import counted_variates, weighted_features
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, new_figure
from tokenkl.tts.geometry import Geometry, place_tokens

#: What `place_tokens` calls them, at FSQ's power; the names are those of `speech_evidence`.
PLACED: dict[str, Geometry] = {
    "fsq": "tokenizer",
    "perturbed-power": "perturbed",
    "e8-power": "e8",
    "permuted": "permuted",
}
FOUND = "relabelled"
GEOMETRIES = (*PLACED, FOUND)
NAMES = {
    "fsq": "FSQ",
    "perturbed-power": "perturbed",
    "e8-power": "E8 cut",
    "permuted": "permuted",
    FOUND: "relabelled",
}
#: What the token's own prior knows.
PRIORS = ("frequency", "phoneme")
#: Integrals, in the order of figures and tables.
GAIN, NU, READ = "gain", "int nu", "read along the path"


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Of the corpus and the levels."""

    seed: int = setting(20261129, "of all random numbers", least(0))
    coordinates: int = setting(8, "of the grid that are kept of every token", least(2), most(8))
    utterances: int = setting(
        600, "that the probe sees; others are for labels", least(8), most(900)
    )
    geometries: tuple[str, ...] = setting(
        GEOMETRIES, "what is compared", among(*GEOMETRIES), holding("fsq", "permuted")
    )
    frequency: tuple[str, ...] = setting(
        (), "those that are probed by frequency alone, too", among(*GEOMETRIES), may_be_empty=True
    )
    decibels: tuple[float, ...] = setting(
        (-6.0, -2.0, 2.0, 6.0, 10.0), "SNRs of the observations", increasing
    )


SMOKE = Config(
    coordinates=3,
    utterances=60,
    geometries=("fsq", "permuted"),
    frequency=("fsq", "permuted"),
    decibels=(0.0, 6.0),
)


def probed(config: Config, prior: str) -> tuple[str, ...]:
    """The geometries that are probed with this prior."""
    if prior == "phoneme":
        return config.geometries
    return tuple(name for name in config.geometries if name in config.frequency)


@functools.lru_cache
def points_of(name: str, config: Config) -> Float[np.ndarray, "K n"]:
    """The points of every token."""
    grid = tk.FSQ((3,) * config.coordinates)
    if name == FOUND:
        return _relabelled(grid, config)
    return np.asarray(place_tokens(PLACED[name], grid, view="power", key=config.seed).points)


def _relabelled(grid: tk.FSQ, config: Config) -> Float[np.ndarray, "K n"]:
    """Labels from bigrams of the utterances that the probe does not see."""
    tokens = _corpus(config)[0][config.utterances :]
    variates = counted_variates(tokens, grid.K, key=config.seed)
    features, law = weighted_features([variates], [1.0])
    ids = place(grid.points, features, law, starts=1, key=config.seed)
    return np.asarray(grid.points[ids])


def _corpus(config: Config) -> tuple[list[np.ndarray], list[np.ndarray]]:
    every = context_speech.Config(coordinates=config.coordinates, utterances=1200)
    return context_speech.load_corpus(every)


def digits_of(coordinates: int) -> Float[np.ndarray, "K d"]:
    """Of every token's id, indicators of two of the three levels of each, less their mean."""
    points = tk.FSQ((3,) * coordinates).points
    return np.concatenate([points == level for level in (0, 1)], axis=1) - 1 / 3


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every number: kind, prior, geometry, level in decibels, value and 95 % ends."""
    tokens, phonemes = (part[: config.utterances] for part in _corpus(config))
    digits = digits_of(config.coordinates)
    settings = {name: getattr(config, name) for name in ("seed", "coordinates", "utterances")}
    folder = kept_folder("context_probe", settings, Path(probe_module.__file__))
    jobs = [
        (prior, level, name)
        for prior in reversed(PRIORS)
        for level in config.decibels
        for name in probed(config, prior)
    ]
    corpora = {
        prior: Corpus.of(tokens, phonemes if prior == "phoneme" else None) for prior in PRIORS
    }
    work = []
    for prior, level, name in jobs:
        corpus = corpora[prior]
        make = functools.partial(_losses, name, digits[corpus.used], corpus, level, config)
        work.append(Part(f"{prior}-{level:g}-{name}", make))
    parts = [
        rows.assign(prior=prior, level=level, name=name)
        for rows, (prior, level, name) in zip(gather(folder, work, progress), jobs, strict=True)
    ]
    every = pd.concat(parts, ignore_index=True)
    sizes = np.array([row.size for row in tokens], dtype=float)
    table = pd.DataFrame(_rows(every, sizes, config))
    return table, _facts(table, config) | {"tokens": int(sizes.sum())}


def _losses(
    name: str,
    digits: np.ndarray,
    corpus: Corpus,
    level: float,
    config: Config,
    progress: Callable[[float], None],
) -> pd.DataFrame:
    """A row for every utterance, of sums over its tokens."""
    points = points_of(name, config)[corpus.used]
    found: Losses = probe(points, digits, corpus, 10 ** (level / 10), config.seed)
    rows = ("alone", "noisy", "denoised")
    columns = {f"CE {one}": found.cross_entropy[i] for i, one in enumerate(rows)}
    return pd.DataFrame(
        columns | {f"SE {one}": found.squared_error[i] for i, one in enumerate(rows)}
    )


def _rows(every: pd.DataFrame, sizes: np.ndarray, config: Config) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def add(kind: str, prior: str, name: str, sums: np.ndarray, level: float = np.nan) -> None:
        value, low, high = _mean(sums, sizes)
        where = {"kind": kind, "prior": prior, "name": name, "level": level}
        rows.append({**where, "value": value, "low": low, "high": high})

    for prior in PRIORS:
        integrals: dict[tuple[str, str], np.ndarray] = {}
        for name in probed(config, prior):
            chosen = every[(every.prior == prior) & (every.name == name)]
            levels = dict(list(chosen.groupby("level")))
            curves: dict[str, list[np.ndarray]] = {kind: [] for kind in (GAIN, NU, READ)}
            for level in config.decibels:
                one = levels[level]
                parts = {
                    GAIN: one["CE alone"] - one["CE noisy"],
                    NU: one["CE noisy"] - one["CE denoised"],
                    READ: 10 ** (level / 10) * (one["SE alone"] - one["SE noisy"]) / 2,
                }
                for kind, sums in parts.items():
                    curves[kind].append(sums.to_numpy())
                    add(f"{kind}, at a level", prior, name, sums.to_numpy(), level)
                add("cross-entropy alone", prior, name, one["CE alone"].to_numpy(), level)
            for kind, curve in curves.items():
                integrals[kind, name] = over_levels(np.array(curve), config.decibels)
                add(kind, prior, name, integrals[kind, name])
                gap = integrals[kind, name] - integrals[kind, config.geometries[0]]
                if name != config.geometries[0]:
                    add(f"{kind} minus FSQ's", prior, name, gap)
    return rows


def over_levels(
    values: Float[np.ndarray, "levels utterances"], decibels: tuple[float, ...]
) -> Float[np.ndarray, " utterances"]:
    """Integral over d log snr by trapezoids; one level beyond each end nothing is left."""
    x = np.log(10) / 10 * np.array(decibels)
    x = np.concatenate([[2 * x[0] - x[1]], x, [2 * x[-1] - x[-2]]])
    padded = np.pad(values, ((1, 1), (0, 0)))
    found: np.ndarray = np.diff(x) @ (padded[1:] + padded[:-1]) / 2
    return found


def _mean(sums: np.ndarray, sizes: np.ndarray) -> tuple[float, float, float]:
    """Per token, with its 95 % ends by the scatter of utterances."""
    mean = sums.sum() / sizes.sum()
    count = sizes.size
    scatter = ((sums - mean * sizes) ** 2).sum() * count / (count - 1)
    half = 1.96 * np.sqrt(scatter) / sizes.sum()
    return float(mean), float(mean - half), float(mean + half)


def measured() -> dict[str, dict[str, float]]:
    """Of trained networks with the output prior, by geometry (`speech_evidence`)."""
    table = pd.read_csv(FIGURES / "speech_evidence.csv")
    table = table[table.prior.astype(bool)]
    found: dict[str, dict[str, float]] = {}
    for kind, steps, label in (
        (READ, None, READ),
        ("evidence minus rival", 5, "bound, 5 steps"),
        ("evidence minus rival", 12, "bound, 12 steps"),
        ("evidence minus rival", 25, "bound, 25 steps"),
        ("many steps minus rival", None, "bound, many steps"),
    ):
        rows = table[table.kind == kind]
        rows = rows if steps is None else rows[rows.steps == steps]
        values = dict(zip(rows.name, rows.value, strict=True))
        if "fsq" not in values:
            values["fsq"] = 0.0
        found[label] = {name: float(values[name]) for name in GEOMETRIES}
    return found


def _facts(table: pd.DataFrame, config: Config) -> dict[str, Any]:
    names = config.geometries

    def of(kind: str, prior: str) -> dict[str, float]:
        rows = table[(table.kind == kind) & (table.prior == prior)]
        return {str(name): float(x) for name, x in zip(rows.name, rows.value, strict=True)}

    correlations = []
    for kind in (READ, GAIN, NU):
        known = of(kind, "phoneme")
        for label, values in measured().items():
            x, y = (np.array([of_all[name] for name in names]) for of_all in (known, values))
            # What is read helps; what is lost costs.
            sign = 1.0 if (kind == NU) != (label == READ) else -1.0
            value = float(spearman(sign * x, y)) if len(names) > 2 else float("nan")
            correlations.append({"predictor": kind, "outcome": label, "value": value})
    return {
        "integrals": {
            prior: {kind: of(kind, prior) for kind in (GAIN, NU, READ)} for prior in PRIORS
        },
        "networks": measured(),
        "correlations": correlations,
        "verdicts": _verdicts(table, correlations) if set(names) == set(GEOMETRIES) else {},
    }


def _verdicts(table: pd.DataFrame, correlations: list[dict[str, Any]]) -> dict[str, str]:
    """Of P1 to P4, by their own rules."""
    by = table[table.level.isna()].set_index(["kind", "prior", "name"])

    def of(kind: str, name: str, prior: str = "phoneme", column: str = "value") -> float:
        return float(by.loc[(kind, prior, name), column])

    def rank(predictor: str, outcome: str) -> float:
        [one] = [
            one["value"]
            for one in correlations
            if (one["predictor"], one["outcome"]) == (predictor, outcome)
        ]
        return float(one)

    near = all(0.08 <= of(READ, name) <= 0.25 for name in ("fsq", "e8-power", "perturbed-power"))
    less = of(f"{READ} minus FSQ's", FOUND, column="high") < 0
    alike = None
    if {(READ, "frequency", name) for name in ("fsq", FOUND)} <= set(by.index):
        alike = of(READ, FOUND, "frequency") >= 0.8 * of(READ, "fsq", "frequency")
    rules = {
        "P1": rank(READ, READ) >= 0.8,
        "P2": near and of(READ, "permuted") < 0.06,
        "P3": less and alike,  # None where a part was not measured
        "P4": of(NU, "permuted") >= 2 * of(NU, "fsq")
        and rank(NU, "bound, 5 steps") >= 0.8 > rank(NU, "bound, many steps"),
    }
    words = {True: "confirmed", False: "refuted", None: "open"}
    return {name: words[holds] for name, holds in rules.items()}


# ---- Plot -----------------------------------------------------------------------------------


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Gain and what is lost over SNR, and what is read along the path beside networks."""
    figure, axes = new_figure(1, 3, width=PAGE, panel_height=2.6)
    left, middle, right = axes[0]
    names = list(dict.fromkeys(table.name))
    styles = {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(GEOMETRIES)
    }
    for panel, kind, label in (
        (left, GAIN, "gain of the probe (nats a token)"),
        (middle, NU, "lost to denoised neighbours (nats)"),
    ):
        for name in names:
            for prior, line in (("phoneme", "-"), ("frequency", ":")):
                rows = table[
                    (table.kind == f"{kind}, at a level")
                    & (table.name == name)
                    & (table.prior == prior)
                ].sort_values("level")
                panel.plot(
                    rows.level, rows.value, linestyle=line, markersize=3, linewidth=1.0,
                    label=NAMES[name] if line == "-" else None, **styles[name],
                )  # fmt: skip
        panel.axhline(0, color="black", linewidth=0.6)
        panel.set(xlabel="SNR (dB)", ylabel=label)
    rows = table[(table.kind == READ) & (table.prior == "phoneme")].set_index("name")
    for name in names:
        row, network = rows.loc[name], facts["networks"][READ][name]
        right.errorbar(
            row.value, network, xerr=[[row.value - row.low], [row.high - row.value]], capsize=2,
            markersize=4, elinewidth=0.8, **styles[name],
        )  # fmt: skip
    right.set(xlabel="read by the probe (nats)", ylabel="read by networks (nats)")
    middle.legend(fontsize=6)
    label_panels(axes, ("told, given the phoneme", "not told", "read along the path"))
    return figure


EXPERIMENT = Experiment(
    name="context_probe",
    claim=(
        "An affine probe of noisy neighbours, fitted to real tokens given the phoneme, reads of "
        "each set of points what trained networks read along the path."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
    shares=True,
)
