"""Where is FSQ the best that can be found, for accuracy, information and a sampler of few steps?

Small FSQ grids in the same box and at the same power, at noise levels where FSQ errs at given
rates. Against each stand known counterexamples, and the end of a search: climbs from FSQ, from
those, from lattices and others, with the objective itself as their goal. Who is best is chosen on
one sample and judged on another. What is not beaten is not proved to be the best there is.

The sampler's cost is the path KL of a few steps plus the entropy that they leave: by the first
alone, tokens that coincide would be the best, as nothing is to be decided.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import optimize

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, setting
from tokenkl._random import generator
from tokenkl._validation import reject
from tokenkl.optimality.counterexamples import centre_to_edge, d4_cut, edge_heavy_nine
from tokenkl.plotting import COLOURS, PAGE, STYLE, label_panels, line_style, new_figure

ACCURACY, INFORMATION, SAMPLER = "accuracy", "information", "sampler"
BOX, POWER = "box", "power"
SEARCHED = "searched"
#: Errors of a difference within which two codebooks count as equal.
SIGMAS = 4.0
#: Draws of noise for the sampler's cost as an objective, with their mirror images.
DRAWS = 256


def _cases(name: str, values: Any) -> None:
    if not values or any(n < 1 or L < 2 or L**n > 256 for n, L in values):
        reject(name, values, "pairs n:L with at most 256 tokens")


def _rates(name: str, values: Any) -> None:
    if not values or not all(0 < one < 0.9 for one in values):
        reject(name, values, "error probabilities between 0 and 0.9")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Sizes, noise levels, and the effort of search and judgement."""

    seed: int = setting(20260609, "of all random numbers", least(0))
    cases: tuple[tuple[int, int], ...] = setting(
        ((2, 2), (2, 3), (2, 4), (3, 2), (3, 3), (4, 2)), "pairs n:L that are searched", _cases
    )
    listed: tuple[tuple[int, int], ...] = setting(
        ((4, 3),), "pairs n:L of which only known codebooks are compared", _cases
    )
    planar: tuple[int, ...] = setting(
        (8,), "levels L of further squares, information at equal power alone", least(2)
    )
    rates: tuple[float, ...] = setting(
        (0.6, 0.2, 0.05, 0.01), "token errors of FSQ, which set the SNR", _rates
    )
    starts: int = setting(2, "starts of a search beyond those that are known", least(1))
    hops: int = setting(1, "changes that each start tries", least(0))
    steps: int = setting(4, "steps of the sampler, to where FSQ errs least", least(1))
    samples: int = setting(2**17, "draws of a judgement", least(2**8))


SMOKE = Config(
    cases=((2, 2),),
    listed=((3, 3),),
    planar=(3,),
    rates=(0.4, 0.05),
    starts=1,
    hops=0,
    samples=2**9,
)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every size, constraint, objective and noise level."""
    tasks = [(n, L, c, True) for n, L in config.cases for c in (BOX, POWER)]
    tasks += [(n, L, c, False) for n, L in config.listed for c in (BOX, POWER)]
    tasks += [(2, L, POWER, True) for L in config.planar if (2, L) not in config.cases]
    rows: list[dict[str, Any]] = []
    pictures: dict[str, Any] = {}
    for done, (n, L, constraint, searched) in enumerate(tasks):
        case = _Case(config, n, L, constraint, searched)
        alone = (n, L) not in (*config.cases, *config.listed)
        for row, points in case.rows(information_alone=alone):
            rows.append(row)
            if n == 2 and row["codebook"] != "FSQ":
                name = f"{L}, {constraint}, {row['objective']}, {row['rate']}"
                pictures[name] = np.round(points, 4).tolist()
        progress(done + 1, len(tasks))
    table = pd.DataFrame(rows)
    return table, _facts(table) | {"pictures": pictures}


class _Case:
    """FSQ of one size under one constraint, and what stands against it."""

    def __init__(self, config: Config, n: int, L: int, constraint: str, searched: bool) -> None:
        self.config, self.n, self.L, self.constraint = config, n, L, constraint
        self.searched = searched
        self.fsq = tk.ProductCodebook([np.linspace(-1, 1, L) * self._scale(L)] * n)
        self.snrs = [self._snr_of(rate) for rate in config.rates]

    def _scale(self, L: int) -> float:
        """1 in the box; at power n every coordinate has variance 1."""
        spread = float(np.std(np.linspace(-1, 1, L)))
        return 1.0 if self.constraint == BOX else 1 / spread

    def _snr_of(self, rate: float) -> float:
        def off(log_snr: float) -> float:
            return float(tk.accuracy(self.fsq, math.exp(log_snr))) - 1 + rate

        return math.exp(optimize.brentq(off, -12, 12))

    def known(self) -> Iterator[tuple[str, np.ndarray]]:
        """Codebooks of this size with a name."""
        yield "FSQ", np.asarray(self.fsq.points)
        if (self.n, self.L) == (2, 3):
            yield "edge-heavy nine", self._inside(np.asarray(edge_heavy_nine().points))
        if self.L == 3 and self.n >= 3:
            yield "centre to edge", self._inside(np.asarray(centre_to_edge(self.n).points))
        if (self.n, self.L) == (4, 3):
            yield "D4 cut", self._inside(np.asarray(d4_cut().points))
        best = tk.best_codebook(self.n, self.L**self.n)
        if best.value > 2 / (self.L - 1) * (1 + 1e-9):
            yield "largest known D", self._inside(np.asarray(best.codebook.points))

    def _inside(self, points: np.ndarray) -> np.ndarray:
        if self.constraint == BOX:
            return points
        away = points - points.mean(axis=0)
        return np.asarray(away * math.sqrt(self.n / np.square(away).sum(axis=1).mean()))

    def rows(self, information_alone: bool) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        for objective in (INFORMATION,) if information_alone else (ACCURACY, INFORMATION):
            last: list[np.ndarray] = []
            for rate, snr in zip(self.config.rates, self.snrs, strict=True):
                name, points, values = self._best(objective, snr, last)
                last = [points]
                yield self._row(objective, rate, snr, name, values), points
        # In the box smaller codebooks win, which is to stop earlier: it says nothing of shape.
        if not information_alone and self.searched and self.constraint == POWER:
            end = max(self.snrs)
            name, points, values = self._best(SAMPLER, end, [])
            yield self._row(SAMPLER, min(self.config.rates), end, name, values), points

    def _best(
        self, objective: str, snr: float, last: list[np.ndarray]
    ) -> tuple[str, np.ndarray, tuple[float, float, float]]:
        """The best by one sample; FSQ's value, its own and their error by another."""
        candidates = [*self.known(), *(("from the level before", one) for one in last)]
        if self.searched:
            candidates.append((SEARCHED, self._search(objective, snr, candidates)))
        found = [self._judge(objective, one, snr, 1)[0] for _, one in candidates]
        place = int(np.argmax(found))
        name, points = candidates[place]
        fsq, fsq_error = self._judge(objective, np.asarray(self.fsq.points), snr, 2)
        best, error = (fsq, 0.0) if place == 0 else self._judge(objective, points, snr, 2)
        error = math.hypot(error, fsq_error)
        if best - fsq <= SIGMAS * error or best - fsq <= 1e-9:
            name = "FSQ"
        return name, points, (fsq, best, error)

    def _search(
        self, objective: str, snr: float, candidates: list[tuple[str, np.ndarray]]
    ) -> np.ndarray:
        goals = {ACCURACY: "accuracy", INFORMATION: "mutual_information"}
        goal: Any = goals.get(objective)
        if goal is None:
            grid = tk.optimal_steps(self.fsq, self.config.steps, 0.0, snr).snr
            goal = _negative_cost(self.n, np.asarray(grid), self.config.seed)
        starts = [points for _, points in candidates]
        found = tk.search(
            self.n,
            self.L**self.n,
            goal,
            self.constraint,
            snr=snr if objective in goals else None,
            starts=len(starts) + self.config.starts,
            hops=self.config.hops,
            include=starts,
            key=self.config.seed,
            progress=lambda done, total: None,
        )
        return np.asarray(found.codebook.points)

    def _judge(self, objective: str, points: np.ndarray, snr: float, turn: int) -> Any:
        """Value, larger is better, and its error; exact for FSQ and for accuracy in the plane."""
        given = np.asarray(self.fsq.points)
        is_fsq = points.shape == given.shape and np.array_equal(points, given)
        codebook = self.fsq if is_fsq else tk.PointCodebook(points, allow_duplicates=True)
        distinct = len(np.unique(points, axis=0)) == len(points)
        exact = is_fsq or (objective == ACCURACY and self.n == 2 and distinct)
        method = None if exact else tk.MonteCarlo(self.config.samples)
        key = None if exact else self.config.seed + turn
        if objective == SAMPLER:
            steps = tk.optimal_steps(codebook, self.config.steps, 0.0, snr, key=turn)
            found = tk.ancestral_kl(codebook, steps.snr, method=method, key=key)
            left = tk.conditional_entropy(codebook, snr, method=method, key=key)
            return -float(found) - float(left), _error(found) + _error(left)
        quantity: Callable[..., Any] = {ACCURACY: tk.accuracy, INFORMATION: tk.mutual_information}[
            objective
        ]
        found = quantity(codebook, snr, method=method, key=key)
        return float(found), _error(found)

    def _row(
        self, objective: str, rate: float, snr: float, name: str, values: tuple[float, float, float]
    ) -> dict[str, Any]:
        fsq, best, error = values
        beaten = name != "FSQ"
        return {
            "n": self.n,
            "L": self.L,
            "K": self.L**self.n,
            "constraint": self.constraint,
            "objective": objective,
            "rate": rate,
            "snr_db": 10 * math.log10(snr),
            "fsq": abs(fsq),
            "best": abs(best) if beaten else abs(fsq),
            "error": error,
            "gain_db": self._decibels(objective, snr, best) if beaten else 0.0,
            "gaussian": self.n / 2 * math.log1p(snr) if self.constraint == POWER else math.nan,
            "codebook": name,
        }

    def _decibels(self, objective: str, snr: float, best: float) -> float:
        """How much more SNR FSQ needs to do as well."""
        if objective == SAMPLER:
            return math.nan
        quantity: Callable[..., Any] = {ACCURACY: tk.accuracy, INFORMATION: tk.mutual_information}[
            objective
        ]

        def off(db: float) -> float:
            return float(quantity(self.fsq, snr * 10 ** (db / 10))) - best

        return float(optimize.brentq(off, 0, 30)) if off(30) > 0 else math.nan


def _error(found: Any) -> float:
    return float(np.hypot(found.standard_error or 0.0, found.numerical_error or 0.0))


def _negative_cost(n: int, grid: np.ndarray, seed: int) -> Callable[[Any], Any]:
    """Minus path KL and entropy left, steps from SNR 0 on, up to log K, over fixed draws."""
    half = generator(seed, 11).standard_normal((DRAWS // 2, n))
    noise = jnp.asarray(np.concatenate([half, -half]))

    def function(points: Any) -> Any:
        differences = points[:, None] - points  # (K, K, n), from the true token
        squares = jnp.sum(differences**2, axis=-1)

        def posterior(snr: float) -> Any:
            along = jnp.einsum("sn,kjn->ksj", noise, differences)
            logits = -jnp.sqrt(snr) * along - snr * squares[:, None] / 2
            return jax.nn.log_softmax(logits, axis=-1)

        total: Any = 0.0
        for low, high in itertools.pairwise(grid):
            p = jnp.exp(posterior(float(low)))
            mean = p @ points
            mmse = jnp.mean(p @ jnp.sum(points**2, axis=-1) - jnp.sum(mean**2, axis=-1))
            total += (float(high) - float(low)) / 2 * mmse
        last = posterior(float(grid[-1]))
        return -total + 2 * jnp.mean(jnp.sum(jnp.exp(last) * last, axis=-1))

    return function


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    """For every size, constraint and objective: how often FSQ is beaten, and by how much."""
    summary = []
    for keys, rows in table.groupby(["objective", "constraint", "n", "L"], sort=False):
        beaten = rows[rows.codebook != "FSQ"]
        summary.append(
            dict(zip(("objective", "constraint", "n", "L"), keys, strict=True))
            | {
                "levels": len(rows),
                "beaten": len(beaten),
                "gain_db": float(beaten.gain_db.max()) if beaten.gain_db.notna().any() else 0.0,
                "at_rate": float(beaten.loc[beaten.gain_db.idxmax(), "rate"])
                if beaten.gain_db.notna().any()
                else None,
                "ratio": float((rows.best / rows.fsq).iloc[-1]),
            }
        )
    planar = table[(table.n == 2) & (table.constraint == POWER) & (table.objective == INFORMATION)]
    closed = (planar.best - planar.fsq) / (planar.gaussian - planar.fsq)
    gap = [
        {"K": int(K), "rate": float(rate), "snr_db": float(db), "closed": float(part)}
        for K, rate, db, part in zip(planar.K, planar.rate, planar.snr_db, closed, strict=True)
    ]
    return {"summary": summary, "gaussian_gap_closed": gap}


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Gains in dB by size and noise; the sampler; the Gaussian limit; two codebooks."""
    figure, axes = new_figure(2, 4, width=PAGE, panel_height=2.3)
    titles = []
    for place, (objective, constraint) in enumerate(
        (o, c) for o in (ACCURACY, INFORMATION) for c in (BOX, POWER)
    ):
        rows = table[(table.objective == objective) & (table.constraint == constraint)]
        _draw_map(axes[0, place], rows)
        titles.append(f"{objective}, {constraint}")
    _draw_sampler(axes[1, 0], table[table.objective == SAMPLER])
    _draw_gap(axes[1, 1], facts["gaussian_gap_closed"])
    titles += ["sampler, power", "Gaussian limit, power"]
    for place, name in enumerate(_shown(list(facts["pictures"])), 2):
        _draw_codebook(axes[1, place], facts["pictures"][name])
        L, constraint, objective, rate = name.split(", ")
        titles.append(f"{objective}, {constraint}")
        axes[1, place].set_xlabel(f"{int(L) ** 2} tokens, error {float(rate):.0%}")
    label_panels(axes, titles + [""] * (axes.size - len(titles)))
    return figure


def _shown(names: list[str]) -> list[str]:
    """Two that differ from FSQ in different ways: much noise in the box, little at equal power."""
    boxed = [one for one in names if f", {BOX}, {INFORMATION}" in one]
    powered = [one for one in names if f", {POWER}, {ACCURACY}" in one]
    return [found[-1] for found in (boxed, powered) if found]


def _draw_map(axes: Axes, rows: pd.DataFrame) -> None:
    sizes = list(dict.fromkeys(zip(rows.n, rows.L, strict=True)))
    rates = sorted(rows.rate.unique(), reverse=True)
    gains = np.array(
        [
            [rows[(rows.n == n) & (rows.L == L) & (rows.rate == r)].gain_db.max() for r in rates]
            for n, L in sizes
        ]
    )
    axes.imshow(np.sqrt(np.nan_to_num(gains)), cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    for i, line in enumerate(gains):
        for j, gain in enumerate(line):
            text = "" if np.isnan(gain) else "FSQ" if gain == 0 else f"{gain:.2f}"
            dark = gain > 1
            axes.text(
                j, i, text, ha="center", va="center", fontsize=5.5, color="w" if dark else "k"
            )
    axes.set_xticks(range(len(rates)), [f"{100 * r:g}" for r in rates])
    axes.set_yticks(range(len(sizes)), [f"${L}^{n}$" for n, L in sizes])
    axes.set_xlabel("FSQ's token error (%)")
    axes.grid(visible=False)


def _draw_sampler(axes: Axes, rows: pd.DataFrame) -> None:
    sizes = [f"${L}^{n}$" for n, L in zip(rows.n, rows.L, strict=True)]
    axes.plot(sizes, rows.best / rows.fsq, "o", color=COLOURS[1])
    axes.axhline(1, color="0.5", linewidth=0.8)
    axes.set(ylabel="best found / FSQ", ylim=(0.8, 1.02))


def _draw_gap(axes: Axes, gap: list[dict[str, Any]]) -> None:
    for place, (K, rows) in enumerate(pd.DataFrame(gap).groupby("K")):
        axes.plot(rows.snr_db, 100 * rows.closed, label=f"K = {K}", **line_style(place), marker="o")
    axes.set(xlabel="SNR (dB)", ylabel="gap to $\\log(1+$SNR$)$ closed (%)")
    axes.legend(fontsize="xx-small")


def _draw_codebook(axes: Axes, points: Any) -> None:
    places, counts = np.unique(np.round(points, 1), axis=0, return_counts=True)
    size = 1.15 * max(1.0, float(np.abs(points).max()))
    axes.scatter(places[:, 0], places[:, 1], s=14 * counts, color=COLOURS[1])
    for (x, y), count in zip(places, counts, strict=True):
        if count > 1:
            side = -1 if x > 0 else 1
            axes.annotate(
                f"{count} times",
                (x, y),
                (5 * side, -2),
                textcoords="offset points",
                fontsize=5.5,
                ha="right" if x > 0 else "left",
            )
    axes.set(aspect="equal", xlim=(-size, size), ylim=(-size, size), xticks=[], yticks=[])


EXPERIMENT = Experiment(
    "regime_map",
    "Is FSQ the best that can be found for accuracy, information and a sampler of few steps, in "
    "the same box and at the same power?",
    Config(),
    SMOKE,
    compute,
    plot,
)
