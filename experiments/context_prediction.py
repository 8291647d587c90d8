"""How far does the two-term law reach: other widths, budgets, architectures, longer sequences?

The law is: KL after N steps = KL of the exact denoiser after N steps + c int nu dlog snr, nu the
excess cross-entropy of the best affine denoiser in context (docs/theory/context.md, C4), for which
nothing is trained. `context_laws` found it with one perceptron (width 64, 3,600 training steps) on
sequences of two tokens. Here c is fitted anew for every condition, on FSQ's law alone (least
squares in log KL over geometries and N, by means over seeds), and the law is held against the other
laws: permuted, lattice, free.

- A. Perceptrons of widths 16, 64, 128 after 250, 1000 and 4000 steps, two tokens.
- B. A transformer (two blocks, width 64) after 500 steps: two tokens, and sequences of six. Of the
  latter no KL can be counted over all sequences: it is the mean over the adjacent pairs of
  KL(law of the pair || generated), and over triples beside it; int nu is that of the token in the
  middle. So c has another unit there. Six tokens: laws FSQ, permuted, free, and FSQ's, permuted and
  one-hot points.
- C. Geometries held out: c from FSQ's law with all geometries but one, for that geometry on the
  other laws. Laws held out: c from all laws but one. A third term: c2 (K - 1) m L / budget, for m
  dimensions (one-hot: K - 1) and L tokens, the number of free slopes of an affine denoiser.

Written before any network of the stored results was trained. Seen before: `context_laws` (other
seeds), out of whose table c is 0.21 and 0.12 after 1200 and 3600 steps in base 2, 0.61 and 0.34 in
base 3 (from N = 25 alone); and, with seed 7, one transformer on FSQ's points after 500 steps, which
told what it costs. rho is the mean excess cross-entropy of the trained networks on FSQ's law over
the mean int nu there, without one-hot; kappa = c / rho.

- H1, budget and width: log c falls with log budget by 0.3 to 0.8 in both bases, and with log width
  by 0 to 0.5. Endpoint: slopes of a regression over the nine perceptrons.
- H2, rule: c is kappa times rho with one kappa for a base: over the nine perceptrons the standard
  deviation of log kappa is at most 0.15, and less than half that of log c. The transformer's c on
  two tokens is within a factor of 1.3 of the perceptrons' (geometric) mean kappa times its rho.
- H3, other laws, perceptrons: after 1000 and 4000 steps, whatever the width, rms in log KL at
  most 0.35, bias at most 0.2 in size, and a smaller rms than the exact term alone.
- H4: the same for the transformer on two tokens.
- H5: the same for pairs in sequences of six; triples have an rms that differs by at most 0.1.
- H6, geometries and laws held out: rms at most 0.4 in at least nine tenths of the conditions of
  A and B, perceptrons after 1000 steps or more (pairs, where sequences have six tokens).
- H7, third term: it lowers the rms of log KL on the other laws by less than a tenth (a null), and
  that of log excess by more than a tenth: one-hot's excess is more than nu says, its KL is not.

Planned and not run, for time: perceptrons of width 128, and lattice's points, which the settings
still take (`--set widths=16,64,128`); so H1 and H2 are about six perceptrons. Asked for after the
results were seen: a constant in the place of int nu, which tells whether it matters what nu is.

Intervals (95 %) are over seeds, with which laws, points, training and sampling all change:
jackknife with Student's t, of logarithms where a number is positive.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from scipy import optimize, stats

from experiments.harness import Experiment, Progress
from experiments.ranks import spearman
from experiments.settings import Settings, among, as_text, holding, increasing, least, most, setting
from experiments.terms import LEAST, Cells, Means, two_terms
from experiments.toy import data
from experiments.toy.kept import Part, gather, kept_folder
from experiments.toy.laws import FREE, GEOMETRIES, LAWS, Bench, lanes
from experiments.toy.model import HEADS, Network, Transformer
from tokenkl._validation import reject
from tokenkl.plotting import COLOURS, DASHES, MARKERS, PAGE, STYLE, label_panels, new_figure

MLP, TRANSFORMER = "MLP", "transformer"
#: Tokens of the sequences whose KL is counted whole.
PAIR = 2


def _grids(name: str, grids: Any) -> None:
    """Windows of three tokens can be counted."""
    for base, n in grids:
        if min(base, n) < 1 or base < 2 or base**n > 10:
            reject(name, as_text(grids), "LEVELS:N of at most 10 tokens")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Sizes of the laws, the networks, the training and the evaluation."""

    seed: int = setting(20261129, "of all random numbers", least(0))
    seeds: int = setting(3, "laws of each kind", least(2))
    grids: tuple[tuple[int, int], ...] = setting(((2, 3), (3, 2)), "LEVELS:N of grids", _grids)
    laws: tuple[str, ...] = setting(
        (data.FSQ, data.PERMUTED, data.LATTICE, FREE),
        "kinds of laws of two tokens",
        among(*LAWS),
        holding(data.FSQ),
    )
    geometries: tuple[str, ...] = setting(
        (data.FSQ, data.PERMUTED, data.ONE_HOT),
        "what is compared on two tokens",
        among(*GEOMETRIES),
        holding(data.FSQ),
    )
    widths: tuple[int, ...] = setting((16, 64), "of perceptrons", least(1), increasing)
    depth: int = setting(2, "layers of perceptrons, and blocks of transformers", least(1))
    budgets: tuple[int, ...] = setting(
        (250, 1000, 4000), "training steps of perceptrons", least(1), increasing
    )
    batch: int = setting(128, "sequences of a training step, of perceptrons", least(1))
    rate: float = setting(3e-3, "learning rate", least(1e-6), most(1))
    heads: int = setting(16, f"width of transformers over their {HEADS} heads", least(1))
    long: int = setting(6, "tokens of long sequences", least(3), most(12))
    long_laws: tuple[str, ...] = setting(
        (data.FSQ, data.PERMUTED, FREE),
        "kinds of laws of long sequences",
        among(*LAWS),
        holding(data.FSQ),
    )
    long_geometries: tuple[str, ...] = setting(
        (data.FSQ, data.PERMUTED, data.ONE_HOT),
        "what is compared on long sequences",
        among(*GEOMETRIES),
        holding(data.FSQ),
    )
    transformer_budget: int = setting(500, "training steps of transformers", least(1))
    transformer_batch: int = setting(64, "sequences of a training step, of transformers", least(1))
    steps: tuple[int, ...] = setting((3, 8, 25), "DDIM steps", least(1), holding(25), increasing)
    samples: int = setting(2**13, "sequences of two tokens generated", least(2))
    long_samples: int = setting(2**11, "long sequences generated", least(2))
    gap_batch: int = setting(2**11, "sequences for the excess cross-entropy", least(2))
    pool: float = setting(
        1e-3, "least probability of a group of windows that is counted", least(1e-9), most(0.5)
    )
    nu_samples: int = setting(2**11, "draws at every SNR for nu", least(64))

    @property
    def networks(self) -> list[tuple[str, int, int]]:
        """Kind, width and tokens of a sequence."""
        transformers = [(TRANSFORMER, HEADS * self.heads, n) for n in (PAIR, self.long)]
        return [*((MLP, width, PAIR) for width in self.widths), *transformers]

    def trained_for(self, kind: str) -> tuple[int, ...]:
        """Budgets of a kind of network."""
        return self.budgets if kind == MLP else (self.transformer_budget,)

    def laws_of(self, length: int) -> tuple[str, ...]:
        """Kinds of laws of sequences of this many tokens."""
        return self.laws if length == PAIR else self.long_laws


SMOKE = Config(
    seeds=2,
    grids=((3, 1),),
    laws=(data.FSQ, data.PERMUTED),
    geometries=(data.FSQ, data.PERMUTED),
    widths=(8,),
    depth=1,
    budgets=(10, 20),
    batch=16,
    heads=2,
    long=3,
    long_laws=(data.FSQ, data.PERMUTED),
    long_geometries=(data.FSQ, data.PERMUTED),
    transformer_budget=10,
    transformer_batch=16,
    steps=(2, 25),
    samples=2**9,
    long_samples=2**9,
    gap_batch=64,
    nu_samples=64,
)


# ---- Compute --------------------------------------------------------------------------------


class Place(NamedTuple):
    """One tokenization of the laws of one seed."""

    grid: tuple[int, int]
    length: int
    geometry: str
    seed: int

    @property
    def file_name(self) -> str:
        """Of stored rows, without what they are about."""
        words = (*self.grid, self.length, self.geometry.replace(" ", ""), self.seed)
        return "-".join(map(str, words))

    def bench(self, config: Config) -> Bench:
        """Its laws and points, and how they are measured."""
        whole = self.length == PAIR
        every = lanes(
            config.laws_of(self.length), *self.grid, self.length, config.seed, self.seed + 1
        )
        return Bench(
            self.geometry,
            [lane for lane in every if lane[1] == self.seed],
            *self.grid,
            seed=config.seed,
            key=config.seed + self.seed,
            steps=config.steps,
            widths=(PAIR,) if whole else (PAIR, PAIR + 1),
            samples=config.samples if whole else config.long_samples,
            pool=config.pool,
        )


def places(config: Config) -> list[Place]:
    """All of them, the first seed first."""
    return [
        Place(grid, length, geometry, seed)
        for seed in range(config.seeds)
        for length, geometries in (
            (PAIR, config.geometries),
            (config.long, config.long_geometries),
        )
        for grid in config.grids
        for geometry in geometries
    ]


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every number; exact KL and int nu are of no network."""
    work = [task for place in places(config) for task in _tasks(config, place)]
    parts = gather(_folder(config), work, progress, "%.8g")
    table = pd.concat(parts, ignore_index=True)
    facts = _facts(table, config)
    shutil.rmtree(_folder(config))
    return table, facts


def _tasks(config: Config, place: Place) -> Iterator[Part]:
    """What is kept of a place."""
    yield Part(f"nu-{place.file_name}", functools.partial(_untrained, config, place))
    for kind, width, length in config.networks:
        if length == place.length:
            name = f"{kind}{width}-{place.file_name}"
            yield Part(name, functools.partial(_trained, config, place, kind, width))


def _untrained(config: Config, place: Place, progress: Callable[[float], None]) -> pd.DataFrame:
    """Integral of nu, of the middle one of a long sequence's tokens, and the exact term."""
    bench = place.bench(config)
    position = None if place.length == PAIR else (place.length - 1) // 2
    parts = [
        bench.nonlinearity(config.nu_samples, position, progress),
        *bench.kl("exact KL", bench.exact, config.steps),
    ]
    return pd.concat(parts).assign(network="none")


def _trained(
    config: Config, place: Place, kind: str, width: int, progress: Callable[[float], None]
) -> pd.DataFrame:
    """KL and excess of networks."""
    network: Callable[..., Any] = functools.partial(Transformer, width=width, depth=config.depth)
    if kind == MLP:
        network = functools.partial(Network, width=width, depth=config.depth, learned=False)
    parts = place.bench(config).trained(
        network,
        budgets=config.trained_for(kind),
        early=config.steps,
        batch=config.batch if kind == MLP else config.transformer_batch,
        rate=config.rate,
        gap_batch=config.gap_batch,
        progress=progress,
    )
    return pd.concat(parts).assign(network=f"{kind} {width}")


#: Settings that no finished task depends on: they say which tasks there are.
CHOICE = ("seeds", "grids", "geometries", "long_geometries", "widths")


def _folder(config: Config) -> Path:
    settings = dataclasses.asdict(config)
    return kept_folder(
        "context_prediction", {name: settings[name] for name in settings if name not in CHOICE}
    )


# ---- Findings -------------------------------------------------------------------------------


class Condition(NamedTuple):
    """One c is fitted in each."""

    network: str
    budget: int
    length: int
    base: int
    n: int
    width: int  # of the windows

    @property
    def grid(self) -> str:
        """As facts are listed."""
        return f"{self.base}^{self.n}"

    def cells(self, table: pd.DataFrame, steps: tuple[int, ...]) -> Cells:
        """What was found."""
        rows = table[(table.base == self.base) & (table.length == self.length)]
        rows = rows[rows.network.isin(["none", self.network])]
        of = "" if self.width == PAIR else f" of {self.width}"
        return Cells.of(rows, steps, self.budget, (f"KL{of}", f"exact KL{of}"))

    def slopes(self, cells: Cells) -> np.ndarray:
        """Free slopes of an affine denoiser of a token over the budget, for every cell."""
        K = self.base**self.n
        dimensions = np.where(cells.geometry(data.ONE_HOT), K - 1, self.n)
        return (K - 1) * dimensions * self.length / self.budget


def conditions(config: Config) -> list[Condition]:
    """All of them."""
    return [
        Condition(f"{kind} {width}", budget, length, base, n, window)
        for kind, width, length in config.networks
        for budget in config.trained_for(kind)
        for base, n in config.grids
        for window in ((PAIR,) if length == PAIR else (PAIR, PAIR + 1))
    ]


def _rms(miss: Any) -> float:
    return float(np.sqrt(np.mean(np.square(miss))))


def three_terms(own: Means, slopes: np.ndarray) -> tuple[float, float]:
    """c and c2 of least squares in log KL."""
    c = own.fitted()
    start = np.log([c, 0.1 * c * own.nu.mean() / slopes.mean()])
    found = optimize.least_squares(
        lambda logs: own.miss(own.predicted(np.exp(logs[0])) + np.exp(logs[1]) * slopes).ravel(),
        start,
        bounds=(start - 10, start + 10),
    )
    return float(np.exp(found.x[0])), float(np.exp(found.x[1]))


def excess_terms(own: Means, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of int nu alone, and of int nu and slopes: coefficients of least squares in log excess."""
    one = np.exp(np.mean(np.log(own.excess) - np.log(own.nu)))
    start = np.log([one, 0.1 * one * own.nu.mean() / slopes.mean()])
    found = optimize.least_squares(
        lambda logs: (
            np.log(np.exp(logs[0]) * own.nu + np.exp(logs[1]) * slopes) - np.log(own.excess)
        ),
        start,
        bounds=(start - 10, start + 10),
    )
    return np.array([one, 0.0]), np.exp(found.x)


def endpoints(cells: Cells, slopes: np.ndarray, seeds: np.ndarray) -> dict[str, float]:
    """Every number that the hypotheses speak of, by means over these seeds."""
    means, fsq, one_hot = cells.mean(seeds), cells.law(data.FSQ), cells.geometry(data.ONE_HOT)
    found = two_terms(cells, seeds)
    own, other = means.at(fsq), means.at(~fsq)
    plain = means.at(fsq & ~one_hot)
    rho = float(plain.excess.sum() / plain.nu.sum())
    by_geometry = []
    for name in cells.index.unique("geometry"):
        of = cells.geometry(name)
        c, there = means.at(fsq & ~of).fitted(), means.at(~fsq & of)
        by_geometry.append(there.miss(there.predicted(c)))
    by_law = []
    for name in cells.index.unique("law"):
        of = cells.law(name)
        c, there = means.at(~of).fitted(), means.at(of)
        by_law.append(there.miss(there.predicted(c)))
    alike = means._replace(nu=np.ones_like(means.nu))  # exact + a constant
    constant = _rms(alike.at(~fsq).miss(alike.at(~fsq).predicted(alike.at(fsq).fitted())))
    c, c2 = three_terms(own, slopes[fsq])
    third = other.miss(other.predicted(c) + c2 * slopes[~fsq])
    coefficients = excess_terms(own, slopes[fsq])
    excess = [
        _rms(np.log(one * other.nu + two * slopes[~fsq]) - np.log(other.excess))
        for one, two in coefficients
    ]
    last, shown = other.measured[-1], ~one_hot
    return found | {
        "rho": rho,
        "kappa": found["c"] / rho,
        "spearman_at_25": float(spearman(other.predicted(found["c"])[-1], last)),
        "spearman_at_25_of_exact_alone": float(spearman(other.exact[-1], last)),
        "rms_geometries_held_out": _rms(by_geometry),
        "rms_laws_held_out": _rms(by_law),
        "rms_of_three_terms": _rms(third),
        # Asked for after the results were seen: does it matter what nu is?
        "rms_of_a_constant": constant,
        "constant_over_two_terms": constant / found["rms"],
        "excess_per_slope": float(coefficients[1][1]),
        "excess_rms": excess[0],
        "excess_rms_with_slopes": excess[1],
        "spearman_nu_excess": float(spearman(means.nu, means.excess)),
        "spearman_nu_excess_without_one_hot": float(spearman(means.nu[shown], means.excess[shown])),
    }


def jackknife(
    function: Callable[[np.ndarray], np.ndarray], seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values of all seeds, and half widths of their 95 % intervals (Student's t)."""
    every = np.arange(seeds)
    without = np.array([function(np.delete(every, one)) for one in every])
    spread = ((without - without.mean(axis=0)) ** 2).sum(axis=0) * (seeds - 1) / seeds
    return function(every), stats.t.ppf(0.975, seeds - 1) * np.sqrt(spread)


#: What may be below 0: its interval is as it is, that of others in logarithms.
SIGNED = ("bias", "slope_of_width", "slope_of_budget")


def with_intervals(
    function: Callable[[np.ndarray], dict[str, float]], seeds: int
) -> dict[str, list[float]]:
    """Value, low and high of each; correlations stay within -1 and 1."""
    names = list(function(np.arange(seeds)))
    ranks = np.array([name.startswith("spearman") for name in names])
    logs = ~ranks & ~np.isin(names, SIGNED)

    def numbers(chosen: np.ndarray) -> np.ndarray:
        found = np.array(list(function(chosen).values()))
        found[logs] = np.log(np.maximum(found[logs], LEAST))
        return found

    value, half = jackknife(numbers, seeds)
    found = np.stack([value, value - half, value + half])
    found[:, logs] = np.exp(found[:, logs])
    found[:, ranks] = np.clip(found[:, ranks], -1, 1)
    return dict(zip(names, found.T.tolist(), strict=True))


def rule(every: dict[Condition, tuple[Cells, np.ndarray]], seeds: np.ndarray) -> dict[str, float]:
    """How c of one grid's perceptrons depends on width and budget, and whether rho says so."""
    found = {
        one: endpoints(cells, slopes, seeds)
        for one, (cells, slopes) in every.items()
        if one.length == PAIR
    }
    inner = [one for one in found if one.network.startswith(MLP)]
    log_c = np.log([found[one]["c"] for one in inner])
    log_kappa = np.log([found[one]["kappa"] for one in inner])
    size = [[int(one.network.split()[1]), one.budget] for one in inner]
    design = np.column_stack([np.ones(len(inner)), np.log(size)])
    slopes, *_ = np.linalg.lstsq(design, log_c, rcond=None)
    [transformer] = [one for one in found if one not in inner]
    return {
        "slope_of_width": float(slopes[1]),
        "slope_of_budget": float(slopes[2]),
        "rms_of_power_law": _rms(log_c - design @ slopes),
        "sd_of_log_c": float(log_c.std(ddof=1)),
        "sd_of_log_kappa": float(log_kappa.std(ddof=1)),
        "kappa_of_perceptrons": float(np.exp(log_kappa.mean())),
        "transformer_over_rule": float(found[transformer]["kappa"] / np.exp(log_kappa.mean())),
    }


def _facts(table: pd.DataFrame, config: Config) -> dict[str, Any]:
    facts: dict[str, Any] = {"conditions": [], "rules": {}}
    every: dict[str, dict[Condition, tuple[Cells, np.ndarray]]] = {}
    for one in conditions(config):
        cells = one.cells(table, config.steps)
        slopes = one.slopes(cells)
        every.setdefault(one.grid, {})[one] = cells, slopes
        found = with_intervals(functools.partial(endpoints, cells, slopes), config.seeds)
        facts["conditions"].append({**one._asdict(), "found": found})
    for grid, known in every.items():
        facts["rules"][grid] = with_intervals(functools.partial(rule, known), config.seeds)
    return facts


# ---- Plot -----------------------------------------------------------------------------------


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """c by budget, the law where it was not fitted, and how far off it is in every condition."""
    figure, axes = new_figure(1, 3, width=PAGE, panel_height=3.1)
    constant, law, misses = axes[0]
    every = [
        (Condition(**{name: one[name] for name in Condition._fields}), one["found"])
        for one in facts["conditions"]
    ]
    for index, base in enumerate(dict.fromkeys(one.base for one, _ in every)):
        shown = [(one, found) for one, found in every if one.base == base]
        _draw_c(constant, shown, COLOURS[index])
        _draw_predictions(law, table, shown, COLOURS[index])
        _draw_misses(misses, shown, COLOURS[index], 0.3 * index - 0.15)
    constant.set(xlabel="training steps", ylabel="c, fitted on FSQ's law", yscale="log")
    constant.set_xscale("log")
    budgets = sorted({one.budget for one, _ in every if one.length == PAIR})
    constant.set_xticks(budgets, [f"{one:,}" for one in budgets])
    constant.xaxis.set_minor_locator(NullLocator())
    law.set(xlabel=r"exact + $c\int\nu\,d\log$snr (nats)", xscale="log", yscale="log")
    law.set(ylabel="KL(data || generated) (nats)")
    low, high = law.get_ylim()
    law.axline((low, low), (high, high), color="#777777", linewidth=0.8, zorder=0)
    misses.set(xlabel="rms in log KL", xscale="log")
    misses.xaxis.set_major_formatter("{x:g}")
    for panel, share in ((constant, 0.5), (law, 0.35)):  # room for the legend
        low, high = panel.get_ylim()
        panel.set_ylim(low, high * (high / low) ** share)
    for panel in axes[0]:
        panel.legend(loc="upper right", fontsize=6, labelspacing=0.2, handlelength=1.8)
    label_panels(axes, ("the constant", "transformers, other laws", "other laws, last budget"))
    return figure


Found = list[tuple[Condition, dict[str, list[float]]]]


def _bars(three: list[float]) -> np.ndarray:
    """Distances of the ends of an interval, as Matplotlib wants them."""
    return np.abs(np.array([[three[1]], [three[2]]]) - three[0])


def _draw_c(panel: Axes, every: Found, colour: str) -> None:
    """Perceptrons by width, joined over budgets, and the transformer on two tokens."""
    networks = list(dict.fromkeys(one.network for one, _ in every if one.length == PAIR))
    for number, network in enumerate(networks):
        own = [(one, found) for one, found in every if (one.network, one.length) == (network, PAIR)]
        away = 1.08 ** (number - 1)  # so that bars do not hide each other
        for one, found in own:
            panel.errorbar(
                one.budget * away, found["c"][0], _bars(found["c"]),
                color=colour, linewidth=0.7, capsize=1.5,
            )  # fmt: skip
        panel.plot(
            [one.budget * away for one, _ in own],
            [found["c"][0] for _, found in own],
            color=colour,
            marker=MARKERS[number],
            linestyle=DASHES[number] if network.startswith(MLP) else "none",
            linewidth=1,
            markerfacecolor=colour if network.startswith(MLP) else "white",
            label=f"base {own[0][0].base}, {network}",
        )


def _draw_predictions(panel: Axes, table: pd.DataFrame, every: Found, colour: str) -> None:
    """Transformers, pairs: predicted and measured by means over seeds, N together."""
    steps = tuple(sorted(set(table[table.quantity == "KL"].steps)))
    for one, found in every:
        if one.network.startswith(TRANSFORMER) and one.width == PAIR:
            cells = one.cells(table, steps)
            means = cells.mean(np.arange(cells.nu.shape[1])).at(~cells.law(data.FSQ))
            whole = one.length == PAIR
            panel.plot(
                means.predicted(found["c"][0]).ravel(),
                means.measured.ravel(),
                color=colour,
                linestyle="none",
                marker=MARKERS[0 if whole else 2],
                markersize=3.5,
                markerfacecolor=colour if whole else "white",
                markeredgewidth=0.7,
                label=f"base {one.base}, {one.length} tokens",
            )


#: What is drawn of the other laws, by their facts.
MISSES = {
    "rms": "two terms",
    "rms_geometries_held_out": "geometry held out",
    "rms_of_a_constant": "a constant for nu",
}


def _draw_misses(panel: Axes, every: Found, colour: str, away: float) -> None:
    """The last budget of every network; intervals of the first of `MISSES`."""
    last = {(one.network, one.length, one.width): (one, found) for one, found in every}
    names = []
    for row, (one, found) in enumerate(last.values()):
        of = "" if one.width == one.length else f" of {one.length}"
        names.append(f"{one.network},\n{one.width}{of} tokens")
        for number, (name, label) in enumerate(MISSES.items()):
            panel.errorbar(
                found[name][0],
                row + away,
                xerr=_bars(found[name]) if number == 0 else None,
                color=colour,
                marker=MARKERS[number],
                markersize=4,
                markerfacecolor=colour if number == 0 else "white",
                linewidth=0.7,
                capsize=1.5,
                linestyle="none",
                label=f"base {one.base}, {label}" if row == 0 else None,
            )
    panel.set_yticks(range(len(names)), names, fontsize=6.5)
    panel.set_ylim(len(names) - 0.5, -0.5 - 0.45 * len(names))  # room for the legend


EXPERIMENT = Experiment(
    name="context_prediction",
    claim=(
        "KL after N steps is that of the exact denoiser plus c times the excess of an affine "
        "denoiser: how far that reaches over widths, budgets, transformers and longer sequences."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": "error"},
    shares=True,
)
