"""Do bigrams of the tokens foretell which geometry of speech tokens is learned best?

Six geometries of the same tokens, trained and heard for `speech_geometry`, against two quantities
in context for which nothing is trained:

- the share of what neighbours tell that affine functions of their noisy points read, from bigrams
  of the corpus alone, on utterances left out (docs/theory/context.md, C7);
- the path KL of N steps of the exact denoiser where a token's prior is its law given the phoneme
  that is spoken: counts, which know nothing of coordinates.

What was measured was known before this was written, and so were the shares of FSQ, permuted and
one-hot tokens; those of the others, and all path KLs, were not. Expected, and endpoints:

- H1: Spearman correlation of the share with the variational bound of the trained networks over the
  six geometries at least 0.8, after 100 and after 200 training steps; and with the word error rate
  at 5 and 25 sampling steps at least 0.8.
- H2: at 5 and 25 steps the path KL given the phoneme is larger for permuted and spherical points
  than for FSQ. (One-hot tokens, points in 6561 dimensions, are left out there.)
- H3: labels that are found from bigrams are read better than the tokenizer's own.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.ranks import permutation_p, spearman
from experiments.settings import Settings, among, holding, increasing, least, most, setting
from experiments.speech.plans import FULL, MIDDLE, SETTINGS
from experiments.speech.results import Results
from experiments.speech.tokens import PADDING
from experiments.speech.units import RESULTS, Cell
from experiments.speech_geometry import LABELS
from experiments.toy.predictors import SCHEDULE
from tokenkl.codebooks import Codebook
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, label_panels, new_figure
from tokenkl.tts.geometry import Geometry, place_tokens

#: What `place_tokens` calls them; learned points begin as spherical ones, and are left out.
PLACED: dict[str, Geometry] = {
    "fsq": "tokenizer",
    "perturbed": "perturbed",
    "permuted": "permuted",
    "e8": "e8",
    "spherical": "spherical",
    "one-hot": "one-hot",
}
FOUND = "relabelled"
#: What is subtracted from every count of a token at a phoneme.
DISCOUNT = 0.75
#: Outcomes: kind, budget, sampling steps.
OUTCOMES = {
    "bound, 100 training steps": ("bound", MIDDLE, 0),
    "bound, 200 training steps": ("bound", FULL, 0),
    "word errors, 5 steps": ("WER", MIDDLE, 5),
    "word errors, 25 steps": ("WER", MIDDLE, 25),
}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Of the corpus, and of what is sampled."""

    seed: int = setting(20261129, "of all random numbers", least(0))
    coordinates: int = setting(8, "of the grid that are kept of every token", least(1), most(8))
    utterances: int = setting(1200, "of the corpus", least(8), most(1200))
    geometries: tuple[str, ...] = setting(
        tuple(PLACED), "what is compared", among(*PLACED), holding("fsq")
    )
    steps: tuple[int, ...] = setting(
        (2, 3, 5, 8, 12, 25), "DDIM steps", least(1), holding(5, 25), increasing
    )
    samples: int = setting(2**13, "tokens at every noise level", least(64))
    folds: int = setting(4, "of utterances, each of which tests what the others say", least(2))


SMOKE = Config(
    coordinates=3,
    utterances=60,
    geometries=("fsq", "permuted", "one-hot"),
    steps=(5, 25),
    samples=128,
    folds=2,
)


def load_corpus(config: Config) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Tokens, by their first coordinates, and phonemes, utterance by utterance."""
    arrays = [
        np.load(RESULTS / f"{name}.npy", allow_pickle=False)[: config.utterances].astype(np.int64)
        for name in ("tokens", "symbols")
    ]
    tokens, symbols = ([row[row != PADDING] for row in array] for array in arrays)
    return [row // 3 ** (8 - config.coordinates) for row in tokens], symbols


def placed(config: Config) -> dict[str, Codebook]:
    """The points of every geometry as it was trained, those drawn at random by the seed."""
    grid = tk.FSQ((3,) * config.coordinates)
    return {
        name: place_tokens(PLACED[name], grid, view=SETTINGS.view, key=config.seed)
        for name in config.geometries
    }


def laws_given_phonemes(
    tokens: list[np.ndarray], symbols: list[np.ndarray], K: int
) -> tuple[Float[np.ndarray, "C K"], Float[np.ndarray, " C"]]:
    """log p(token | phoneme) by interpolated discounting, and how often each phoneme is spoken."""
    ids, spoken = np.concatenate(tokens), np.concatenate(symbols)
    alone = np.bincount(ids, minlength=K) + 0.5
    alone = alone / alone.sum()
    rows, weights = [], []
    for symbol in np.unique(spoken):
        counts = np.bincount(ids[spoken == symbol], minlength=K)
        rest = DISCOUNT * (counts > 0).sum()
        law = np.maximum(counts - DISCOUNT, 0) + rest * alone
        rows.append(np.log(law / law.sum()))
        weights.append(counts.sum())
    return np.stack(rows), np.array(weights) / ids.size


def path_kls(
    codebook: Codebook, contexts: tk.sources.Contexts, config: Config
) -> dict[int, tuple[float, float]]:
    """Path KL of N steps, equal in time, of the exact denoiser given the phoneme; nats.

    A token is drawn from its posterior at the last of N evaluations. Errors are at most those of
    MMSEs and entropies added up.
    """
    t = np.unique([1 - i / N for N in config.steps for i in range(1, N)])[::-1]
    snr = np.append(0.0, np.asarray(SCHEDULE.snr(t)))
    method = tk.MonteCarlo(config.samples)
    names = ("mmse", "conditional_entropy")
    found = tk.contextual_profile(codebook, contexts, snr, names, method=method, key=config.seed)
    mmse, entropy = (found[name] for name in names)
    out = {}
    for N in config.steps:
        places = [0, *(int(np.argmin(abs(t - (1 - i / N)))) + 1 for i in range(1, N))]
        widths = np.diff(snr[places]) / 2
        told = entropy.value[0] - entropy.value[places[-1]]
        value = widths @ mmse.value[places[:-1]] - told + entropy.value[places[-1]]
        error = widths @ mmse.standard_error[places[:-1]]
        error += 2 * entropy.standard_error[places[-1]] + entropy.standard_error[0]
        out[N] = float(value), float(error)
    return out


def measured(config: Config) -> list[dict[str, Any]]:
    """Means over seeds of what was measured of every geometry."""
    results, rows = Results.load(), []
    for outcome, (kind, budget, steps) in OUTCOMES.items():
        for name in config.geometries:
            if kind == "bound":
                tokens = results.tokens(name, budget)
                each = (results.bound(name, budget) * tokens[:, None]).sum(axis=0) / tokens.sum()
            else:
                each = results.report(name, Cell(budget, steps)).by_seed("wer_unigram")
            rows.append({"kind": outcome, "name": name, "value": float(np.mean(each))})
    return rows


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every number: kind, geometry, steps, value and interval or error."""
    tokens, symbols = load_corpus(config)
    books = placed(config)
    rivals = {LABELS[name]: book for name, book in books.items() if name != "fsq"}
    parts = len(books) + 1
    found = tk.relabel(
        books["fsq"],
        tokens,
        rivals=rivals,
        starts=1,
        folds=config.folds,
        key=config.seed,
        progress=lambda done, total: progress(done / total, parts),
    )
    rows = []
    every = {"fsq": found.given, FOUND: found.found}
    every |= {name: found.rivals[LABELS[name]] for name in books if name != "fsq"}
    for name, labels in every.items():
        low, high, _ = labels.share.confidence_interval()
        share = {"value": float(labels.share), "low": float(low), "high": float(high)}
        rows.append({"kind": "share that is read", "name": name, "steps": 0, **share})
    logs, weights = laws_given_phonemes(tokens, symbols, books["fsq"].K)
    contexts = tk.sources.Contexts(logs, weights, exhaustive=True)
    for number, (name, book) in enumerate(books.items(), 1):
        if book.common_distance is not None:
            continue
        for N, (value, error) in path_kls(book, contexts, config).items():
            ends = {"low": value - 2 * error, "high": value + 2 * error}
            rows.append({"kind": "path KL", "name": name, "steps": N, "value": value, **ends})
        progress(number + 1, parts)
    table = pd.concat([pd.DataFrame(rows), pd.DataFrame(measured(config))], ignore_index=True)
    return table, _facts(table, config, found)


def _values(table: pd.DataFrame, kind: str, names: tuple[str, ...], steps: int = 0) -> np.ndarray:
    rows = table[(table.kind == kind) & (table.steps.fillna(0) == steps)].set_index("name")
    return np.asarray(rows.value[list(names)], dtype=float)


def _facts(table: pd.DataFrame, config: Config, found: tk.Relabelling) -> dict[str, Any]:
    names = config.geometries
    predictors: list[tuple[str, int, int]] = [("share that is read", 0, -1)]
    predictors += [("path KL", N, 1) for N in (5, 25)]
    correlations = []
    for kind, N, sign in predictors:
        known = set(table[table.kind == kind].name)
        these = tuple(name for name in names if name in known)
        x = sign * _values(table, kind, these, N)
        for outcome in OUTCOMES:
            y = _values(table, outcome, these)
            correlations.append(
                {
                    "predictor": f"{kind}, {N} steps" if N else kind,
                    "outcome": outcome,
                    "geometries": len(these),
                    "value": float(spearman(x, y)),
                    "p": permutation_p(x, y),
                }
            )
    shares = {name: one.share for name, one in (("given", found.given), ("found", found.found))}
    return {
        "tokens": int(sum(row.size for row in load_corpus(config)[0])),
        "correlations": correlations,
        "order": list(found.every),
        "found_less_given": float(shares["found"]) - float(shares["given"]),
        "labels_are_better": found.is_better,
    }


# ---- Plot -----------------------------------------------------------------------------------


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Shares, against what was measured; and path KLs over steps."""
    figure, axes = new_figure(1, 3, width=PAGE, panel_height=2.6)
    shares = table[table.kind == "share that is read"].sort_values("value")
    names = list(shares.name)
    styles = {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate([*PLACED, FOUND])
    }
    left, middle, right = axes[0]
    for place, row in enumerate(shares.itertuples()):
        name, value, low, high = (getattr(row, one) for one in ("name", "value", "low", "high"))
        left.plot([low, high], [place, place], color=styles[name]["color"], linewidth=1.2)
        left.plot(value, place, markersize=5, linestyle="none", **styles[name])
    left.set_yticks(range(len(names)), [LABELS.get(one, one) for one in names], fontsize=7)
    left.set_ylim(-0.5, len(names) - 0.5)
    left.set(xlim=(0, None), xlabel="share that affine functions read")
    outcome = "bound, 200 training steps"
    measured_ones = [name for name in names if name != FOUND]
    x = _values(table, "share that is read", tuple(measured_ones))
    y = _values(table, outcome, tuple(measured_ones))
    for name, one, other in zip(measured_ones, x, y, strict=True):
        middle.plot(one, other, markersize=5, linestyle="none", **styles[name])
    middle.set(xlim=(0, None), xlabel="share that affine functions read")
    middle.set_ylabel("bound, 200 training steps\n(nats a token)")
    for name in dict.fromkeys(table[table.kind == "path KL"].name):
        rows = table[(table.kind == "path KL") & (table.name == name)].sort_values("steps")
        right.plot(rows.steps, rows.value, label=LABELS[name], markersize=4, **styles[name])
    right.set(xscale="log", yscale="log", xlabel="sampling steps N", ylabel="path KL (nats)")
    steps = sorted(set(table[table.kind == "path KL"].steps))
    right.set_xticks(steps, [f"{N:.0f}" for N in steps])
    low, high = right.get_ylim()
    ticks = [one for one in (0.5, 1, 1.5, 2, 3, 4, 6) if low < one < high]
    right.set_yticks(ticks, [f"{one:g}" for one in ticks])
    right.minorticks_off()
    right.legend(fontsize=6, frameon=False)
    label_panels(axes, ("from bigrams alone", "nothing trained, and trained", "given the phoneme"))
    return figure


EXPERIMENT = Experiment(
    name="context_speech",
    claim=(
        "Bigrams of speech tokens tell, without training, which geometry of the tokens is learned "
        "best: the one in which affine functions of noisy neighbours read the largest share."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
