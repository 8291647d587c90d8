"""What random search can see: draws near FSQ, draws from the whole box, and what they miss.

A codebook of the neighbourhood of size w is FSQ with a uniform number in [-w g, w g] added to every
coordinate, g its gap, clipped to the box; the largest neighbourhood is the box itself. For each
size: the mean nearest-neighbour distance D of many draws, what quasi-Newton ascent reaches from
some of them, and the share of all draws that are as good as FSQ. That share is far beyond what can
be drawn, so it is measured by nested sampling (Skilling 2006; as an estimator of rare events:
Guyader, Hengartner and Matzner-Lober 2011), in independent runs; beside it stands what a law of
extremes that is fitted to the draws says of it.
"""

# ruff: noqa: NPY002 (machine code has no other generator)

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from experiments.harness import Experiment, Progress
from experiments.nn_distance import random_distances
from experiments.settings import Settings, as_text, increasing, least, setting
from tokenkl import FSQ, best_codebook
from tokenkl._random import generator
from tokenkl._validation import reject
from tokenkl.numerics.compiled import compiled
from tokenkl.numerics.neighbours import nearest_distances
from tokenkl.optimality.search.climb import ascend
from tokenkl.optimality.search.objectives import objective_of
from tokenkl.optimality.search.spaces import Space
from tokenkl.plotting import COLOURS, PAGE, STYLE, label_panels, line_style, new_figure

#: Of the table.
COLUMNS = ("n", "L", "K", "width", "kind", "x", "value", "low", "high")
#: The neighbourhood that is the box.
BOX = math.inf
#: Steps of a walk for each token, between two levels of nested sampling.
SWEEPS = 12
#: Share of the draws that the law of extremes is fitted to, and how often they are drawn again.
TAIL, AGAIN = 0.05, 200
#: Of intervals.
CONFIDENCE = 0.95


def _possible(name: str, cases: Any) -> None:
    for n, L in cases:
        if n < 1 or L < 2 or n * math.log2(L) > 10:
            reject(name, as_text((n, L), ":"), "N:L with N >= 1, L >= 2 and L^N <= 1024")
    if len(set(cases)) < len(cases):
        reject(name, as_text(cases), "a list with every N:L once")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    cases: tuple[tuple[int, int], ...] = setting(
        ((2, 6), (3, 4), (4, 3), (5, 2)), "N:L, FSQ with L levels in N coordinates", _possible
    )
    widths: tuple[float, ...] = setting(
        (0.01, 0.03, 0.1, 0.3, 1.0), "sizes of neighbourhoods, in gaps", least(1e-6), increasing
    )
    draws: int = setting(10_000, "random codebooks of each neighbourhood", least(100))
    ascents: int = setting(20, "of these, from which is climbed", least(1))
    walkers: int = setting(30, "codebooks at once in nested sampling", least(10))
    runs: int = setting(4, "independent runs of it", least(2))
    deepest: float = setting(100.0, "decades of rarity at which it stops", least(1))
    seed: int = setting(0, "of all random numbers", least(0))


SMOKE = Config(
    cases=((2, 2), (5, 2)),
    widths=(0.1,),
    draws=300,
    ascents=2,
    walkers=10,
    runs=2,
    deepest=4.0,
)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows of kinds `draws` (`value` the best, `low`, `high` the 1 % and 99 % quantiles), `ascent`
    (the best; the worst and the median) and `rare` (`value` decades of 1 / P(D >= `x`), with an
    interval); D always relative to FSQ.
    """
    todo = [(n, L, w) for n, L in config.cases for w in (*config.widths, BOX)]
    rows: list[dict[str, Any]] = []
    facts: list[dict[str, Any]] = []
    for done, (n, L, width) in enumerate(todo):
        progress(done, len(todo))
        rng = generator(config.seed, n, L, done)
        centre, reach = neighbourhood(n, L, width)
        fsq = 2 / (L - 1)
        case = {"n": n, "L": L, "K": L**n, "width": width}
        if width == BOX:
            found = random_distances(L**n, n, config.draws, rng) / fsq
        else:
            found = np.array(
                [_distance(_draw(centre, reach, rng)) / fsq for _ in range(config.draws)]
            )
        low, high = np.quantile(found, (0.01, 0.99))
        rows.append(case | {"kind": "draws", "value": found.max(), "low": low, "high": high})
        climbed = [_climb(_draw(centre, reach, rng), fsq) for _ in range(config.ascents)]
        low, high = np.quantile(climbed, (0.0, 0.5))
        rows.append(case | {"kind": "ascent", "value": max(climbed), "low": low, "high": high})
        known = max(best_codebook(n, L**n).value / fsq, 1.0)
        fact = case | {
            "width": None if width == BOX else width,  # None is the box
            "best_of_draws": float(found.max()),
            "best_of_ascents": float(max(climbed)),
            "ascents": config.ascents,
            "ascents_above": int(sum(one > 1 + 1e-6 for one in climbed)),
            "best_known": known,
        }
        if width == BOX or width == max(config.widths):
            curve = rarity(centre, reach, fsq, config, rng)
            rows += [case | {"kind": "rare"} | one for one in curve]
            fact["decades"] = [curve[-1][key] for key in ("value", "low", "high")]
            fact["reached"] = curve[-1]["x"]
            fact["extrapolated"] = extrapolated(found, curve[-1]["x"], rng)
        facts.append(fact)
    progress(len(todo), len(todo))
    return pd.DataFrame(rows, columns=list(COLUMNS)), {
        "unit": "D divided by D of FSQ with the same K and n; decades of the number of draws",
        "draws": config.draws,
        "neighbourhoods": facts,
    }


def neighbourhood(n: int, L: int, width: float) -> tuple[Float[np.ndarray, "K n"], float]:
    """Middles of the cubes that tokens are drawn from, and half of the cubes' sides."""
    points = np.asarray(FSQ((L,) * n).points)
    return (0 * points, 1.0) if width == BOX else (points, 2 * width / (L - 1))


def _draw(
    centre: Float[np.ndarray, "K n"], reach: float, rng: np.random.Generator
) -> Float[np.ndarray, "K n"]:
    return np.clip(centre + reach * rng.uniform(-1, 1, centre.shape), -1, 1)


def _distance(points: Float[np.ndarray, "K n"]) -> float:
    return float(nearest_distances(points).mean())


def _climb(points: Float[np.ndarray, "K n"], fsq: float) -> float:
    K, n = points.shape
    return (
        _distance(ascend(points, Space(K, n, "box"), objective_of("mean_distance", n, None, 0)))
        / fsq
    )


# ---- Rare codebooks -----------------------------------------------------------------------------


def rarity(
    centre: Float[np.ndarray, "K n"],
    reach: float,
    fsq: float,
    config: Config,
    rng: np.random.Generator,
) -> list[dict[str, float]]:
    """Decades of 1 / P(D >= x fsq) at some x up to 1, or as far as the deepest run gets.

    The worst of all walkers is replaced by a copy of another one that walks above it; with N
    walkers each replacement stands for a factor 1 - 1/N. Intervals are those of Student's t over
    independent runs.
    """
    most = math.ceil(config.deepest * math.log(10) * config.walkers)
    paths = []
    for _ in range(config.runs):
        levels = np.full(most, np.inf)
        walkers = np.stack([rng.uniform(-1, 1, centre.shape) for _ in range(config.walkers)])
        count = nested(
            walkers, centre, reach, fsq, SWEEPS * len(centre), levels, int(rng.integers(2**31))
        )
        paths.append(levels[:count])
    factor = -math.log10(1 - 1 / config.walkers)
    top = min(1.0, min(float(path[-1]) for path in paths) / fsq)
    bottom = max(float(path[0]) for path in paths) / fsq
    out = []
    for x in np.append(np.linspace(bottom, top, 25)[:-1], top):
        each = np.array([np.searchsorted(path, x * fsq) for path in paths]) * factor
        room = float(stats.t.ppf((1 + CONFIDENCE) / 2, config.runs - 1))
        error = room * float(each.std(ddof=1)) / math.sqrt(config.runs)
        mean = float(each.mean())
        out.append(
            {"x": float(x), "value": mean, "low": max(mean - error, 0.0), "high": mean + error}
        )
    return out


@compiled(fastmath=set())
def nested(walkers, centre, reach, target, steps, levels, seed):  # type: ignore[no-untyped-def]
    """Nested sampling of D; `levels` gets the D of the worst walkers, in order.

    Walkers are (N, K, n) numbers u in [-1, 1], their points centre + reach u, clipped to the box.
    A walk moves one token at a time, to anywhere or by a reflected step whose length follows what
    is accepted. Returns the number of levels: it ends where all walkers are at the target.
    """
    np.random.seed(seed)
    N, K, n = walkers.shape
    squares = np.empty((N, K, K))
    radii = np.empty((N, K))
    values = np.empty(N)
    points = np.empty((N, K, n))
    for w in range(N):
        for k in range(K):
            for c in range(n):
                x = centre[k, c] + reach * walkers[w, k, c]
                points[w, k, c] = min(1.0, max(-1.0, x))
        for k in range(K):
            radii[w, k] = np.inf
            for j in range(K):
                total = 0.0
                for c in range(n):
                    total += (points[w, k, c] - points[w, j, c]) ** 2
                squares[w, k, j] = total if j != k else np.inf
                radii[w, k] = min(radii[w, k], squares[w, k, j])
        values[w] = np.sqrt(radii[w]).mean()
    step = 1.0
    new, moved, point, after = np.empty(n), np.empty(K), np.empty(n), np.empty(K)
    for level in range(levels.size):
        worst = values.argmin()
        floor = values[worst]
        if floor >= target:
            return level
        levels[level] = floor
        other = np.random.randint(N - 1)
        other += other >= worst
        walkers[worst], points[worst] = walkers[other], points[other]
        squares[worst], radii[worst] = squares[other], radii[other]
        u, e, square, radius = walkers[worst], points[worst], squares[worst], radii[worst]
        value = values[other]
        accepted, tried = 0, 0
        for _ in range(steps):
            k = np.random.randint(K)
            far = np.random.random() < 0.1
            length = step * 10 ** np.random.uniform(-1.0, 0.5)
            for c in range(n):
                if far:
                    new[c] = np.random.uniform(-1.0, 1.0)
                else:
                    new[c] = u[k, c] + length * np.random.uniform(-1.0, 1.0)
                    # A reflection at both ends, however long the step.
                    folded = (new[c] + 1.0) % 4.0
                    new[c] = (folded if folded <= 2.0 else 4.0 - folded) - 1.0
                point[c] = min(1.0, max(-1.0, centre[k, c] + reach * new[c]))
            least = np.inf
            for j in range(K):
                total = 0.0
                for c in range(n):
                    total += (point[c] - e[j, c]) ** 2
                moved[j] = total if j != k else np.inf
                least = min(least, moved[j])
            change = math.sqrt(least) - math.sqrt(radius[k])
            for j in range(K):
                after[j] = radius[j]
                if j == k:
                    after[j] = least
                elif moved[j] <= radius[j]:
                    after[j] = moved[j]
                elif square[j, k] == radius[j]:
                    after[j] = moved[j]
                    for i in range(K):
                        if i != k:
                            after[j] = min(after[j], square[j, i])
                if j != k and after[j] != radius[j]:
                    change += math.sqrt(after[j]) - math.sqrt(radius[j])
            if not far:
                tried += 1
            if value + change / K > floor:
                value += change / K
                accepted += not far
                for c in range(n):
                    u[k, c], e[k, c] = new[c], point[c]
                for j in range(K):
                    square[k, j] = square[j, k] = moved[j]
                    radius[j] = after[j]
        values[worst] = np.sqrt(radius).mean()
        # Below a quarter of accepted steps they become shorter, above it longer.
        step = min(1.0, step * math.exp(0.1 * (accepted / max(tried, 1) - 0.25)))
    return levels.size


def extrapolated(
    found: Float[np.ndarray, " draws"], x: float, rng: np.random.Generator
) -> dict[str, float | None]:
    """Decades of 1 / P(D >= x) by a generalised Pareto law of the best draws.

    Fitted by probability-weighted moments (Hosking and Wallis 1987); `low` and `high` are quantiles
    over draws with replacement. None stands for never: the law then ends below x.
    """
    each = [_decades(rng.choice(found, found.size), x) for _ in range(AGAIN)]
    ends = np.quantile(each, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), method="nearest")
    numbers = {"value": _decades(found, x), "low": float(ends[0]), "high": float(ends[1])}
    return {name: one if math.isfinite(one) else None for name, one in numbers.items()}


def _decades(found: Float[np.ndarray, " draws"], x: float) -> float:
    above = np.sort(found)[-max(10, int(TAIL * found.size)) - 1 :]
    excess = above[1:] - above[0]
    share = np.arange(excess.size)[::-1] / (excess.size - 1)
    first, second = float(excess.mean()), float((share * excess).mean())
    shape, scale = first / (first - 2 * second) - 2, 2 * first * second / (first - 2 * second)
    # P(excess > y) = (1 - shape y / scale)^(1/shape).
    base = 1 - shape * (x - above[0]) / scale
    if base <= 0:
        return math.inf
    tail = math.log10(found.size / excess.size)
    return tail - (math.log10(base) / shape if shape else -(x - above[0]) / scale / math.log(10))


# ---- The figure ---------------------------------------------------------------------------------


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """For every case: D over sizes of neighbourhoods, and how rare codebooks of some D are."""
    cases = list(table.groupby(["n", "L"], sort=False))
    known = {(one["n"], one["L"]): one["best_known"] for one in facts["neighbourhoods"]}
    top = table[table.kind == "rare"].value.max()
    figure, axes = new_figure(2, len(cases), width=PAGE, panel_height=2.1)
    for column, (key, rows) in enumerate(cases):
        _draw_sizes(axes[0, column], rows, known[key])
        _draw_rarity(axes[1, column], rows, known[key], top)
    axes[0, 0].set_ylabel("D relative to FSQ")
    axes[1, 0].set_ylabel("draws needed for it")
    axes[0, 0].legend(fontsize="x-small", loc="lower left", borderaxespad=0.0)
    axes[1, 0].legend(fontsize="x-small", loc="upper left", title="drawn from", title_fontsize=6)
    label_panels(axes, (*(f"${L}^{n}$ in {n}D" for (n, L), _ in cases), *[""] * len(cases)))
    return figure


def _draw_sizes(panel: Axes, rows: pd.DataFrame, known: float) -> None:
    widths = sorted(set(rows.width))
    finite = [w for w in widths if w < BOX]
    place = {w: w if w < BOX else 4 * finite[-1] for w in widths}
    for kind, colour, label in (("draws", COLOURS[0], "draws"), ("ascent", COLOURS[2], "ascents")):
        part = rows[rows.kind == kind].sort_values("width")
        x = [place[w] for w in part.width]
        panel.fill_between(x, part.low, part.high, color=colour, alpha=0.2, linewidth=0)
        mark = "o" if kind == "draws" else "^"
        panel.plot(x, part.value, mark + "-", color=colour, markersize=3, label=f"best of {label}")
    panel.axhline(1, color="0.4", linewidth=0.8, zorder=0)
    panel.axhline(known, color=COLOURS[1], linestyle="--", linewidth=1.0, label="best known")
    panel.set(xscale="log", xlabel="neighbourhood (gaps)", ylim=(0.35, 1.09))
    ticks = [place[w] for w in widths[::2] if w < BOX] + [place[BOX]]
    panel.set_xticks(ticks, [f"{w:g}" for w in ticks[:-1]] + ["box"])
    panel.minorticks_off()


def _draw_rarity(panel: Axes, rows: pd.DataFrame, known: float, top: float) -> None:
    draws = rows[rows.kind == "rare"]
    for place, (width, part) in enumerate(sorted(draws.groupby("width"), reverse=True)):
        style = line_style(2 * place)
        name = "the box" if width == BOX else f"{width:g} gap around"
        panel.fill_between(part.x, part.low, part.high, color=style["color"], alpha=0.25, lw=0)
        panel.plot(part.x, part.value, label=name, **style)
    panel.axvline(1, color="0.4", linewidth=0.8, zorder=0)
    panel.axvline(known, color=COLOURS[1], linestyle="--", linewidth=1.0)
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.yaxis.set_major_formatter(lambda decades, place: f"$10^{{{decades:.0f}}}$")
    panel.set(xlim=(0.4, 1.09), ylim=(0, top), xlabel="D relative to FSQ")


EXPERIMENT = Experiment(
    "random_search",
    "C3, C4: that random codebooks never beat FSQ says nothing of its being the best. They cannot "
    "see what there is: of codebooks drawn from the box, or around FSQ, too few to be drawn in any "
    "experiment come near it, while ascent from the same draws does, and explicit ones are beyond.",
    Config(),
    SMOKE,
    compute,
    plot,
)
