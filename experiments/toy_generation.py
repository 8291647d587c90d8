"""Which tokenization does a small CDCD model learn and sample best, and what predicts it?

Sequences of tokens with a known law, ten tokenizations, ten seeds trained at once. KL(data ||
generated) is found from counts without bias, by number of steps and by training budget; beside it
stand the quantities of the codebook that might predict it, and their rank correlations.

An interrupted run goes on where it was: every finished tokenization is kept under build/ until
all are done.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.ranks import kendall, spearman
from experiments.settings import Settings, among, as_text, holding, increasing, least, most, setting
from experiments.toy import data, evaluate, predictors
from experiments.toy.kept import Part, gather, kept_folder
from experiments.toy.model import Network
from experiments.toy.train import train
from tokenkl._random import generator
from tokenkl._validation import reject
from tokenkl.plotting import COLOURS, PAGE, STYLE, label_panels, line_style, new_figure

PAPER = {2: (-9.55, -8.68), 3: (-7.16, -6.72)}
#: Training steps of the rows that hold results of the exact denoiser.
EXACT = -1
#: The row of a finished unit that holds its processor time, no result.
SECONDS = "seconds"
#: Kinds of law: with a coupling of FSQ coordinates, or with free energies alone.
ALIGNED, NEUTRAL = "aligned", "neutral"


#: What no comparison can be without.
COMPARED = (data.FSQ, data.PERTURBED)


def _grids(name: str, bases: Any) -> None:
    """One or two, as the figure has panels, of other numbers of levels and at most 64 tokens."""
    small = all(base >= 2 and n >= 1 and n * math.log2(base) <= 6 for base, n in bases)
    if not small or len(dict(bases)) < len(bases) or len(bases) > 2:
        expected = "one or two LEVELS:N, other LEVELS each, LEVELS >= 2, N >= 1, LEVELS^N <= 64"
        reject(name, as_text(bases), expected)


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Sizes of the law, the network, the training and the evaluation."""

    seed: int = setting(20260622, "of all random numbers", least(0))
    seeds: int = setting(10, "laws, and networks trained at once", least(2))
    bases: tuple[tuple[int, int], ...] = setting(
        ((2, 3), (3, 2)), "LEVELS:N of the FSQ grids", _grids
    )
    tokenizations: tuple[str, ...] = setting(
        data.TOKENIZATIONS, "what is compared", among(*data.TOKENIZATIONS), holding(*COMPARED)
    )
    length: int = setting(2, "tokens of a sequence", least(1), most(3))
    coupling: float = setting(1.0, "of the coordinates of neighbours in the law", least(0))
    free: float = setting(0.5, "energies of the law that no geometry explains", least(0))
    width: int = setting(64, "of the network", least(1))
    depth: int = setting(2, "of the network", least(1))
    batch: int = setting(128, "sequences of a training step", least(1))
    rate: float = setting(3e-3, "learning rate", least(1e-6), most(1))
    budgets: tuple[int, ...] = setting(
        (400, 1200, 3600), "training steps after which it is measured", least(1), increasing
    )
    steps: tuple[int, ...] = setting(
        (2, 3, 5, 8, 12, 25, 50), "DDIM steps", least(1), holding(5, 25), increasing
    )
    ancestral_steps: tuple[int, ...] = setting(
        (5, 25), "steps of the ancestral sampler", least(1), holding(25), increasing
    )
    early_steps: tuple[int, ...] = setting(
        (5, 25), "DDIM steps after smaller budgets", least(1), increasing
    )
    exact_steps: tuple[int, ...] = setting(
        (2, 3, 5), "DDIM steps with the exact denoiser, two or more", least(1), increasing
    )
    samples: int = setting(6 * 2**11, "sequences generated", least(2))
    fewer_samples: int = setting(
        2**13, "the same for 50 steps, the ancestral sampler and early budgets", least(2)
    )
    pool: float = setting(
        1e-3, "least probability of a group of sequences that is counted", least(1e-9), most(0.5)
    )
    #: It shows whether the comparison depends on the rate.
    second_rate: float = setting(1e-3, "another learning rate", least(1e-6), most(1))
    at_second_rate: tuple[str, ...] = setting(
        (data.FSQ, data.PERTURBED_MORE),
        "trained at that too, on the first base",
        among(*data.TOKENIZATIONS), holding(data.FSQ), may_be_empty=True,
    )  # fmt: skip
    #: A control.
    neutral: tuple[str, ...] = setting(
        (data.FSQ, data.PERMUTED, data.LATTICE),
        "trained on laws without coupling too, on the first base",
        among(*data.TOKENIZATIONS), holding(data.FSQ), may_be_empty=True,
    )  # fmt: skip
    neutral_free: float = setting(1.0, "energies of those laws", least(0))
    gap_batch: int = setting(2**11, "sequences for the excess cross-entropy", least(2))
    bound_samples: int = setting(2**13, "draws for the path KL of the networks", least(192))
    predictor_samples: int = setting(2**13, "draws for each predictor", least(64))
    resamples: int = setting(2000, "of the seeds, for the intervals of correlations", least(2))

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.exact_steps) < 2:
            reject("exact_steps", as_text(self.exact_steps), "a list of two or more")
        if self.rate == self.second_rate:
            reject("second_rate", self.second_rate, "another than rate")


SMOKE = Config(
    seeds=2,
    bases=((3, 1),),
    tokenizations=(data.FSQ, data.PERTURBED, data.PERTURBED_MORE),
    at_second_rate=(),
    neutral=(data.FSQ, data.PERMUTED),
    width=16,
    budgets=(10, 20),
    batch=32,
    steps=(2, 5, 25),
    samples=2**9,
    fewer_samples=2**9,
    exact_steps=(2, 3),
    gap_batch=64,
    bound_samples=2**8,
    predictor_samples=2**6,
    resamples=50,
)


class Unit(NamedTuple):
    """What is trained in one go, all seeds together."""

    base: int
    name: str
    rate: float
    law: str

    def is_full(self, config: Config) -> bool:
        """Whether everything is measured, and not only the KL of the final network."""
        return self.rate == config.rate and self.law == ALIGNED

    @property
    def file_name(self) -> str:
        """Of the stored rows, without suffix."""
        return f"{self.base}-{self.name.replace(' ', '')}-{self.rate:g}-{self.law}"


# ---- Compute --------------------------------------------------------------------------------


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every measured number: base, tokenization, budget, sampler, steps, seed."""
    units = [
        Unit(base, name, rate, law)
        for base, _ in config.bases
        for names, rate, law in (
            (config.tokenizations, config.rate, ALIGNED),
            (
                config.at_second_rate if base == config.bases[0][0] else (),
                config.second_rate,
                ALIGNED,
            ),
            (config.neutral if base == config.bases[0][0] else (), config.rate, NEUTRAL),
        )
        for name in names
    ]
    folder = _work_folder(config)
    work = [
        Part(
            unit.file_name,
            functools.partial(_unit, config, unit),
            1.0 if unit.is_full(config) else 0.5,
        )
        for unit in units
    ]
    parts, seconds = [], {}
    for unit, rows in zip(units, gather(folder, work, progress), strict=True):
        timed = rows.quantity == SECONDS
        parts.append(rows[~timed])
        seconds[unit.file_name] = float(rows[timed].value.iloc[0])
    table = pd.concat(parts, ignore_index=True)
    facts = _facts(table, config) | {"process_seconds": seconds}
    shutil.rmtree(folder)
    return table, facts


def _work_folder(config: Config) -> Path:
    """Where finished units of this very config and code are kept."""
    return kept_folder("toy_generation", dataclasses.asdict(config), Path(__file__))


def chains(config: Config, base: int, law: str = ALIGNED) -> list[data.Chain]:
    """The laws, one for every seed."""
    neutral = law == NEUTRAL
    return [
        data.draw_chain(
            base,
            dict(config.bases)[base],
            config.length,
            config.seed + seed,
            coupling=0.0 if neutral else config.coupling,
            free=config.neutral_free if neutral else config.free,
        )
        for seed in range(config.seeds)
    ]


def _unit(config: Config, unit: Unit, report: Callable[[float], None]) -> pd.DataFrame:
    """Everything about one tokenization, at one learning rate and one kind of law."""
    started = time.process_time()
    base, name, rate, _ = unit
    n, laws = dict(config.bases)[base], chains(config, base, unit.law)
    keys = [config.seed + 1000 * (seed + 1) for seed in range(config.seeds)]
    points = np.stack([data.codebook_points(name, base, n, key) for key in keys])
    power = tk.average_power(tk.FSQ((base,) * n))
    network = functools.partial(
        Network, width=config.width, depth=config.depth, learned=name == data.LEARNED
    )
    networks = train(
        points,
        laws,
        network,
        power=power,
        budgets=config.budgets,
        batch=config.batch,
        rate=rate,
        seed=config.seed,
        progress=lambda share: report(0.4 * share),
    )
    final = networks[-1]
    if name == data.LEARNED:
        points = np.asarray(jax.vmap(lambda net: net.points(None))(final), dtype=float)
    out = _Rows(unit, laws, points, config)
    if not unit.is_full(config):
        for steps in config.early_steps:
            out.add_kl(final, config.budgets[-1], "ddim", steps, config.fewer_samples)
        return out.frame(time.process_time() - started)
    for budget, network in zip(config.budgets[:-1], networks, strict=False):
        for steps in config.early_steps:
            out.add_kl(network, budget, "ddim", steps, config.fewer_samples)
    report(0.5)
    for sampler, counts in (("ddim", config.steps), ("ancestral", config.ancestral_steps)):
        for steps in counts:
            samples = config.samples
            if steps > 25 or sampler == "ancestral":
                samples = config.fewer_samples
            out.add_kl(final, config.budgets[-1], sampler, steps, samples)
    report(0.8)
    exact = evaluate.exact_denoiser(laws, points)
    for steps in config.exact_steps:
        out.add_kl(exact, EXACT, "ddim", steps, config.samples)
    t = 1 - np.arange(25) / 25
    excess, _ = evaluate.denoiser_gaps(
        final, exact, points, laws, t, batch=config.gap_batch, seed=config.seed
    )
    out.add("excess cross-entropy", excess.mean(axis=1))
    for label in predictors.PREDICTORS:
        out.predicted[label] = []
    known: dict[bytes, dict[str, float]] = {}
    for key, one in zip(keys, points, strict=True):
        bits = one[np.lexsort(one.round(9).T)].round(9).tobytes()
        if bits not in known:
            known[bits] = predictors.predict(one, samples=config.predictor_samples, key=key)
        for label, value in known[bits].items():
            out.predicted[label].append(value)
    report(0.95)
    out.add_bound(final)
    return out.frame(time.process_time() - started)


class _Rows:
    """Rows of the table, all of one tokenization at one learning rate."""

    def __init__(
        self, unit: Unit, laws: list[data.Chain], points: np.ndarray, config: Config
    ) -> None:
        self.common = {
            "law": unit.law,
            "base": unit.base,
            "tokenization": unit.name,
            "rate": unit.rate,
        }
        self.laws, self.points, self.config = laws, points, config
        self.predicted: dict[str, list[float]] = {}
        self.parts: list[pd.DataFrame] = []

    def add(self, quantity: str, values: Any, errors: Any = 0.0, **where: Any) -> None:
        """One value for every seed."""
        frame = pd.DataFrame({"seed": np.arange(len(values)), "value": values, "error": errors})
        self.parts.append(frame.assign(quantity=quantity, **where))

    def add_kl(self, denoiser: Any, budget: int, sampler: Any, steps: int, samples: int) -> None:
        """KL(data || generated) of every seed."""
        counts = evaluate.generated_counts(
            denoiser,
            self.points,
            steps=steps,
            most_steps=max(self.config.steps),
            sampler=sampler,
            n_samples=samples,
            length=self.config.length,
            seed=self.config.seed,
        )
        found = []
        for chain, own in zip(self.laws, counts, strict=True):
            found.append(evaluate.pooled_kl(chain.joint(), own, self.config.pool))
        value, error = np.transpose(found)
        self.add("KL", value, error, budget=budget, sampler=sampler, steps=steps)

    def add_bound(self, network: Any) -> None:
        """Path KL of the 25-step ancestral sampler of the first seed, by `learned_path_kl`."""
        first = jax.tree.map(lambda leaf: leaf[0], network)
        law, points, length = self.laws[0], self.points[0], self.config.length
        codebook = sequence_codebook(points, law)
        found = tk.learned_path_kl(
            codebook,
            sequence_denoiser(first, points, length),
            predictors.sampler_snrs(25),
            key=self.config.seed,
            n_samples=self.config.bound_samples,
        )
        for part in ("denoiser", "discretisation", "decoding", "pinsker", "token_bound"):
            estimate = getattr(found, part)
            self.add(f"path: {part}", [float(estimate)], float(estimate.standard_error))

    def frame(self, seconds: float) -> pd.DataFrame:
        """All rows, with the processor time that they took, which stays out of the table."""
        for label, values in self.predicted.items():
            self.add(f"predictor: {label}", values)
        self.add(SECONDS, [seconds])
        columns = ["law", "base", "tokenization", "rate", "quantity", "budget", "sampler", "steps"]
        table = pd.concat(self.parts, ignore_index=True).assign(**self.common)
        table["budget"] = table["budget"].fillna(self.config.budgets[-1]).astype(int)
        table["steps"] = table["steps"].fillna(0).astype(int)
        table = table[[*columns, "seed", "value", "error"]]
        return table.assign(value=_rounded(table.value), error=_rounded(table.error))


def _rounded(column: Any) -> pd.Series:
    """Eight significant digits: what is stored is what is used."""
    return cast(pd.Series, column.map(lambda value: float(f"{value:.8g}")))


def sequence_codebook(points: np.ndarray, law: data.Chain) -> tk.PointCodebook:
    """Whole sequences as the tokens of one codebook, with their law as the prior."""
    ids = np.stack(np.unravel_index(np.arange(law.K**law.length), (law.K,) * law.length), axis=1)
    return tk.PointCodebook(
        points[ids].reshape(len(ids), -1), law.joint(), name="sequences", allow_duplicates=True
    )


def sequence_denoiser(
    network: Any, points: np.ndarray, length: int
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The network as a law of sequences: the product of its laws at every position."""
    m = points.shape[1]

    def log_probabilities(y: np.ndarray, snr: np.ndarray) -> np.ndarray:
        t = predictors.SCHEDULE.t_from_snr(snr)
        x = predictors.SCHEDULE.sigma(t)[:, None] * y
        logits = network(
            jax.numpy.asarray(x.reshape(-1, length, m), dtype=np.float32),
            jax.numpy.asarray(t, dtype=np.float32),
        )
        each = np.asarray(jax.nn.log_softmax(logits), dtype=float)
        total = each[:, 0]
        for position in range(1, length):
            total = (total[:, :, None] + each[:, position, None]).reshape(len(y), -1)
        return total

    return log_probabilities


# ---- Findings -------------------------------------------------------------------------------


def _log_mean(values: np.ndarray, level: float = 0.95) -> list[float | None]:
    """Log of the mean over seeds with a t interval (delta method); None where it is not above 0."""
    mean = float(values.mean())
    if mean <= 0:
        return [None, None, None]
    spread = float(values.std(ddof=1)) / np.sqrt(len(values)) / mean
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * spread
    return [float(np.log(mean)), float(np.log(mean)) - half, float(np.log(mean)) + half]


def _log_ratio(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> list[float | None]:
    """Log mean of a minus log mean of b with a t interval, paired over seeds."""
    if a.mean() <= 0 or b.mean() <= 0:
        return [None, None, None]
    influence = a / a.mean() - b / b.mean()
    half = float(stats.t.ppf(0.5 + level / 2, len(a) - 1) * influence.std(ddof=1))
    half /= np.sqrt(len(a))
    value = float(np.log(a.mean() / b.mean()))
    return [value, value - half, value + half]


def _kl_of(table: pd.DataFrame, **where: Any) -> dict[str, np.ndarray]:
    """Tokenization -> KL by seed."""
    rows = table[table.quantity == "KL"]
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    return {
        name: part.sort_values("seed").value.to_numpy()
        for name, part in rows.groupby("tokenization")
    }


def _facts(table: pd.DataFrame, config: Config) -> dict[str, Any]:
    last = config.budgets[-1]
    aligned = table[table.law == ALIGNED]
    main = aligned[aligned.rate == config.rate]
    facts: dict[str, Any] = {
        "states": {str(base): (base**n) ** config.length for base, n in config.bases},
        "groups": {
            str(base): [
                int(evaluate.pool(chain.joint(), config.pool).max()) + 1
                for chain in chains(config, base)
            ]
            for base, _ in config.bases
        },
        "entropy_of_the_law": {
            f"{base}, {law}": [round(chain.entropy(), 4) for chain in chains(config, base, law)]
            for base, _ in config.bases
            for law in (ALIGNED, NEUTRAL)
        },
        "paper_log_kl": {str(base): list(pair) for base, pair in PAPER.items()},
    }
    for base, _ in config.bases:
        rows = main[main.base == base]
        found: dict[str, Any] = {"log_kl": {}, "minus_fsq": {}}
        for sampler, steps in (("ddim", config.steps), ("ancestral", config.ancestral_steps)):
            for count in steps:
                each = _kl_of(rows, budget=last, sampler=sampler, steps=count)
                label = f"{sampler} {count}"
                found["log_kl"][label] = {k: _log_mean(v) for k, v in each.items()}
                found["minus_fsq"][label] = {
                    k: _log_ratio(v, each[data.FSQ]) for k, v in each.items() if k != data.FSQ
                }
        for budget in config.budgets:
            for count in config.early_steps:
                each = _kl_of(rows, budget=budget, sampler="ddim", steps=count)
                found["minus_fsq"][f"budget {budget}, ddim {count}"] = {
                    k: _log_ratio(v, each[data.FSQ]) for k, v in each.items() if k != data.FSQ
                }
                found["log_kl"][f"budget {budget}, ddim {count}"] = {
                    k: _log_mean(v) for k, v in each.items()
                }
        for count in config.exact_steps:
            each = _kl_of(rows, budget=EXACT, sampler="ddim", steps=count)
            found["log_kl"][f"exact, ddim {count}"] = {k: _log_mean(v) for k, v in each.items()}
        own = table[table.base == base]
        for label, rows_of in (
            (f"rate {config.second_rate:g}", own[own.rate == config.second_rate]),
            ("neutral law", own[own.law == NEUTRAL]),
        ):
            for count in config.early_steps if len(rows_of) else ():
                each = _kl_of(rows_of, budget=last, sampler="ddim", steps=count)
                found["log_kl"][f"{label}, ddim {count}"] = {
                    k: _log_mean(v) for k, v in each.items()
                }
                found["minus_fsq"][f"{label}, ddim {count}"] = {
                    k: _log_ratio(v, each[data.FSQ]) for k, v in each.items() if k != data.FSQ
                }
        found["excess_cross_entropy"] = {
            name: float(part.value.mean())
            for name, part in rows[rows.quantity == "excess cross-entropy"].groupby("tokenization")
        }
        found["predictors"] = {
            label: {
                name: float(part.value.mean())
                for name, part in rows[rows.quantity == f"predictor: {label}"].groupby(
                    "tokenization"
                )
            }
            for label in predictors.PREDICTORS
        }
        found["path_kl_of_the_first_seed"] = _bounds(rows)
        facts[f"base_{base}"] = found
    facts["rank_correlation"] = _rank_correlations(main, config)
    return facts


def _bounds(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Parts of the path KL beside the measured KL of the 25-step ancestral sampler, seed 0."""
    out: dict[str, dict[str, float]] = {}
    first = rows[rows.seed == 0]
    measured = first[(first.quantity == "KL") & (first.sampler == "ancestral")]
    measured = measured[measured.steps == 25]
    for name, part in first[first.quantity.str.startswith("path: ")].groupby("tokenization"):
        out[name] = dict(zip(part.quantity.str.removeprefix("path: "), part.value, strict=True))
        own = measured[measured.tokenization == name]
        out[name] |= {"measured": float(own.value.iloc[0]), "error": float(own.error.iloc[0])}
    return out


def _rank_correlations(table: pd.DataFrame, config: Config) -> list[dict[str, Any]]:
    """Spearman and Kendall correlation over tokenizations of every predictor and outcome.

    The sign is such that +1 means: the ranking that the quantity suggests is the one that was
    measured. Intervals are percentiles over resampled seeds: they hold for these tokenizations,
    and the spread under leaving one of them out says how much hangs on a single one. The permuted
    FSQ is left out: no quantity of the point set alone can tell it from FSQ.
    """
    same = set(config.tokenizations) & set(data.SAME_POWER)
    names = [name for name in data.SAME_POWER if name in same and name != data.PERMUTED]
    last = config.budgets[-1]
    rng = generator(config.seed, 9)
    draws = rng.integers(config.seeds, size=(config.resamples, config.seeds))
    draws = np.concatenate([np.arange(config.seeds)[None], draws])
    out: list[dict[str, Any]] = []
    for base, _ in config.bases:
        rows = table[table.base == base]
        kl = {
            "DDIM, 5 steps": _kl_of(rows, budget=last, sampler="ddim", steps=5),
            "DDIM, 25 steps": _kl_of(rows, budget=last, sampler="ddim", steps=25),
            "ancestral, 25 steps": _kl_of(rows, budget=last, sampler="ancestral", steps=25),
        }
        outcomes = {k: np.stack([v[name] for name in names]) for k, v in kl.items()}
        candidates = {
            label: (sign, _values(rows, f"predictor: {label}", names))
            for label, sign in predictors.PREDICTORS.items()
        }
        exact = _kl_of(rows, budget=EXACT, sampler="ddim", steps=config.exact_steps[-2])
        candidates[f"exact denoiser, {config.exact_steps[-2]} steps"] = (
            -1,
            np.stack([exact[name] for name in names]),
        )
        excess = _values(rows, "excess cross-entropy", names)
        candidates["excess cross-entropy"] = (-1, excess)
        outcomes["excess cross-entropy"] = excess
        for outcome, measured in outcomes.items():
            result = measured[:, draws].mean(axis=2).T
            for label, (sign, values) in candidates.items():
                if label == outcome:
                    continue
                guess = sign * values[:, draws].mean(axis=2).T
                row: dict[str, Any] = {"base": base, "outcome": outcome, "predictor": label}
                for kind, function in (("spearman", spearman), ("kendall", kendall)):
                    value = function(guess, -result)
                    spread = np.quantile(value[1:], [0.025, 0.975])
                    without = [
                        float(
                            function(
                                np.delete(guess[:1], i, axis=1), -np.delete(result[:1], i, axis=1)
                            )[0]
                        )
                        for i in range(len(names))
                    ]
                    row[kind] = float(value[0])
                    row[f"{kind}_interval"] = spread.tolist()
                    row[f"{kind}_leave_one_out"] = [min(without), max(without)]
                out.append(row)
    return out


def _values(rows: pd.DataFrame, quantity: str, names: list[str]) -> np.ndarray:
    part = rows[rows.quantity == quantity]
    return cast(
        np.ndarray,
        part.pivot(index="tokenization", columns="seed", values="value").loc[names].to_numpy(),
    )


# ---- Plot -----------------------------------------------------------------------------------

#: What panels (a) and (b) show.
SHOWN = (
    data.FSQ,
    data.PERTURBED_MORE,
    data.LATTICE,
    data.VQ,
    data.ONE_HOT,
    data.LEARNED,
    data.PERMUTED,
)
#: What panel (c) shows, and its colours there and elsewhere.
PERTURBATIONS = (data.PERTURBED, data.PERTURBED_MORE, data.BOXED)
NUMBER = {name: index for index, name in enumerate((*SHOWN[:2], data.PERTURBED, *SHOWN[2:]))}
NUMBER[data.BOXED] = NUMBER[data.VQ]
#: What panel (d) shows: outcome, colour, marker.
OUTCOMES = (("DDIM, 5 steps", 0, "o"), ("DDIM, 25 steps", 1, "s"))


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """KL against steps, what perturbing costs, and what predicts it."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=3.0)
    bases = [int(key) for key in facts["states"]]
    for panel, base in zip(axes[0], bases, strict=False):
        _draw_steps(panel, facts[f"base_{base}"]["log_kl"])
    _draw_gaps(axes[1, 0], facts, bases)
    _draw_ranks(axes[1, 1], facts, bases)
    axes[0, 0].legend(loc="upper right", ncol=2, fontsize=6.5, handlelength=1.8, columnspacing=1)
    label_panels(
        axes,
        (
            "base 2: none surely beats FSQ from 5 steps on",
            "base 3: one-hot wins up to 5 steps",
            "what perturbing costs; base 2 recovers",
            "no quantity predicts both bases well",
        ),
    )
    return figure


def _curve(facts: dict[str, Any], sampler: str, name: str) -> np.ndarray:
    """Rows (steps, value, low, high) of one tokenization, where there is a value."""
    rows = []
    for label, values in facts.items():
        if label.startswith(f"{sampler} ") and values.get(name, [None])[0] is not None:
            rows.append((int(label.split()[-1]), *values[name]))
    return np.array(sorted(rows), dtype=float).reshape(-1, 4)


def _draw_steps(panel: Any, facts: dict[str, Any]) -> None:
    for name in SHOWN:
        rows = _curve(facts, "ddim", name)
        if not len(rows):
            continue
        style = line_style(NUMBER[name])
        panel.plot(rows[:, 0], rows[:, 1], **style, label=name)
        panel.vlines(rows[:, 0], rows[:, 2], rows[:, 3], color=style["color"], linewidth=0.8)
    exact = _curve(facts, "exact, ddim", data.FSQ)
    panel.plot(
        exact[:, 0],
        exact[:, 1],
        color="#777777",
        linewidth=0.9,
        marker=".",
        label="FSQ, exact denoiser",
    )
    _step_axis(panel)
    panel.set_ylabel("log KL(data || generated), KL in nats")


def _step_axis(panel: Any) -> None:
    panel.set_xscale("log")
    ticks = (2, 3, 5, 8, 12, 25, 50)
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("DDIM steps")


def _draw_gaps(panel: Any, facts: dict[str, Any], bases: list[int]) -> None:
    """log KL minus that of FSQ, paired over seeds."""
    total = len(PERTURBATIONS) * len(bases)
    for row, base in enumerate(bases):
        for number, name in enumerate(PERTURBATIONS):
            rows = _curve(facts[f"base_{base}"]["minus_fsq"], "ddim", name)
            if not len(rows):
                continue
            shift = 1.035 ** (row * len(PERTURBATIONS) + number - (total - 1) / 2)
            panel.errorbar(
                rows[:, 0] * shift,
                rows[:, 1],
                yerr=[rows[:, 1] - rows[:, 2], rows[:, 3] - rows[:, 1]],
                color=COLOURS[NUMBER[name]],
                marker="os"[row],
                markerfacecolor="white" if row else COLOURS[NUMBER[name]],
                linestyle="-" if row == 0 else "--",
                linewidth=0.8,
                elinewidth=0.8,
                markersize=3.5,
                label=f"{name}; base {base}",
            )
        if str(base) not in facts["paper_log_kl"]:
            continue
        fsq, perturbed = facts["paper_log_kl"][str(base)]
        panel.plot(
            75,  # beside the axis of steps: theirs are not known
            perturbed - fsq,
            marker="*",
            markersize=8,
            color="#000000",
            markerfacecolor="white" if row else "#000000",
            linestyle="none",
            label=f"published; base {base}",
        )
    panel.axhline(0, color="#000000", linewidth=0.8)
    _step_axis(panel)
    panel.set_ylabel("log KL minus that of FSQ")
    panel.set_ylim(top=1.5 * panel.get_ylim()[1])
    panel.legend(loc="upper left", fontsize=6, handlelength=1.6, labelspacing=0.25)


def _draw_ranks(panel: Any, facts: dict[str, Any], bases: list[int]) -> None:
    """Spearman correlations with intervals over seeds."""
    rows = facts["rank_correlation"]
    labels = list(dict.fromkeys(row["predictor"] for row in rows))
    for outcome, colour, marker in OUTCOMES:
        for number, base in enumerate(bases):
            own = {
                row["predictor"]: row
                for row in rows
                if row["outcome"] == outcome and row["base"] == base
            }
            for place, label in enumerate(labels):
                y = -place + 0.27 - 0.18 * (2 * colour + number)
                low, high = own[label]["spearman_interval"]
                panel.plot([low, high], [y, y], color=COLOURS[colour], linewidth=0.9)
                panel.plot(
                    own[label]["spearman"],
                    y,
                    marker=marker,
                    markersize=3.2,
                    color=COLOURS[colour],
                    markerfacecolor="white" if number else COLOURS[colour],
                    linestyle="none",
                    label=f"{outcome}; base {base}" if place == 0 else None,
                )
    panel.axvline(0, color="#000000", linewidth=0.8)
    panel.set_yticks([-i for i in range(len(labels))], labels)
    panel.set(xlim=(-1.05, 1.05), ylim=(-len(labels) - 1.6, 0.6))
    panel.set_xlabel("Spearman correlation with low KL")
    panel.legend(loc="lower center", ncol=2, fontsize=6, handlelength=1.0, columnspacing=0.8)


EXPERIMENT = Experiment(
    name="toy_generation",
    claim="C5, C6: with few steps a small CDCD model generates FSQ tokens with a smaller KL than "
    "perturbed ones; which quantity of a codebook predicts the KL of ten tokenizations?",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": "error"},
    shares=True,
)
