"""Mean nearest-neighbour distance D of random, ascended and explicit codebooks (claims C2, C3).

10^4 codebooks, uniform in the box [-1, 1]^n, are what the paper compares FSQ with. They say little:
random codebooks lie far below. Two stronger comparators stand beside them: codebooks found by
gradient ascent on D, and the explicit ones of `tokenkl.optimality.counterexamples`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.harness import Experiment, Progress
from experiments.settings import Settings, as_text, least, setting
from tokenkl import FSQ
from tokenkl._random import generator
from tokenkl._validation import reject
from tokenkl.numerics.neighbours import nearest_distances
from tokenkl.optimality import mean_nn_distance
from tokenkl.optimality.counterexamples import COUNTEREXAMPLES
from tokenkl.plotting import COLOURS, PAGE, STYLE, label_panels, new_figure

#: Squared distances held at once by the batched search (64 MiB).
BATCH_ELEMENTS = 2**23
#: From this many tokens on, one codebook at a time by k-d tree is faster than all pairs.
TREE_TOKENS = 1000
#: Of the table.
COLUMNS = ("base", "n", "K", "D_fsq", "kind", "value", "width", "count", "label")


def _possible(name: str, cases: Any) -> None:
    """Grids of at least two levels, each once, with random codebooks to compare them with."""
    for base, n, random, starts in cases:
        if min(base - 1, n, random) < 1 or starts < 0 or n * math.log2(base) > 16:
            expected = "BASE:N:RANDOM:STARTS with BASE >= 2, N, RANDOM >= 1 and BASE^N <= 65536"
            reject(name, as_text((base, n, random, starts), ":"), expected)
    if len({case[:2] for case in cases}) < len(cases):
        reject(name, as_text(cases), "a list with every BASE:N once")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """`cases` are (base, n, number of random codebooks, number of starts of the ascent)."""

    seed: int = setting(260609962, "of all random numbers", least(0))
    cases: tuple[tuple[int, int, int, int], ...] = setting(
        (
            (2, 2, 10_000, 500),
            (2, 3, 10_000, 500),
            (2, 4, 10_000, 500),
            (2, 5, 10_000, 500),
            (2, 8, 10_000, 5),
            (3, 2, 10_000, 500),
            (3, 3, 10_000, 250),
            (3, 4, 10_000, 60),
            (3, 8, 100, 0),
        ),
        "BASE:N:RANDOM:STARTS, FSQ base^n, random codebooks, and starts of the ascent",
        _possible,
    )
    ascent_steps: int = setting(1500, "steps of each ascent", least(1))
    histogram_bins: int = setting(40, "most bins of a histogram", least(4))


SMOKE = Config(
    cases=((2, 2, 200, 10), (2, 5, 100, 0), (2, 8, 20, 0), (3, 2, 200, 10), (3, 4, 100, 0)),
    ascent_steps=300,
    histogram_bins=20,
)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows of four kinds, `value` always relative to FSQ: `random` (histogram bins), `random_max`,
    `ascent` (one for each start) and `explicit`.
    """
    costs = [
        random * base ** (2 * n) + 30 * starts * config.ascent_steps * base ** (2 * n)
        if base**n < TREE_TOKENS
        else 1e9
        for base, n, random, starts in config.cases
    ]
    rows: list[dict[str, Any]] = []
    done, total = 0.0, float(sum(costs))
    for stream, ((base, n, n_random, n_starts), cost) in enumerate(
        zip(config.cases, costs, strict=True)
    ):
        report = _part_of(progress, done, cost, total)
        fsq = mean_nn_distance(FSQ((base,) * n))
        case = {"base": base, "n": n, "K": base**n, "D_fsq": fsq}
        values = random_distances(
            base**n,
            n,
            n_random,
            generator(config.seed, stream, 0),
            _part_of(progress, done, cost / 2 if n_starts else cost, total),
        )
        values = values / fsq
        counts, edges = np.histogram(values, bins=min(config.histogram_bins, max(4, n_random // 5)))
        rows += [
            {**case, "kind": "random", "value": (low + high) / 2, "width": high - low, "count": c}
            for c, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
        ]
        rows.append({**case, "kind": "random_max", "value": values.max(), "count": n_random})
        if n_starts:
            found = ascend(
                base**n, n, n_starts, config.ascent_steps, generator(config.seed, stream, 1), report
            )
            rows += [{**case, "kind": "ascent", "value": v / fsq, "count": 1} for v in found]
        rows += [
            {
                **case,
                "kind": "explicit",
                "label": example.name,
                "value": mean_nn_distance(example.build()) / fsq,
                "count": 1,
            }
            for example in COUNTEREXAMPLES
            if (example.base, example.n) == (base, n)
        ]
        done += cost
        progress(done, total)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table, _facts(table)


def _part_of(progress: Progress, done: float, cost: float, total: float) -> Callable[[float], None]:
    """Progress of one case, as a share of it, told in terms of the whole."""
    return lambda share: progress(done + share * cost, total)


def random_distances(
    K: int,
    n: int,
    count: int,
    rng: np.random.Generator,
    report: Callable[[float], None] = lambda share: None,
) -> Float[np.ndarray, " count"]:
    """D of `count` codebooks of K independent points, uniform in [-1, 1]^n."""
    if K >= TREE_TOKENS:
        out = np.empty(count)
        for i in range(count):
            out[i] = nearest_distances(rng.uniform(-1, 1, (K, n))).mean()
            report((i + 1) / count)
        return out
    size = max(1, BATCH_ELEMENTS // K**2)
    parts = []
    for first in range(0, count, size):
        points = rng.uniform(-1, 1, (min(size, count - first), K, n))
        parts.append(np.sqrt(_squares(points).min(axis=2)).mean(axis=1))
        report((first + points.shape[0]) / count)
    return np.concatenate(parts)


def _squares(points: Float[np.ndarray, "batch K n"]) -> Float[np.ndarray, "batch K K"]:
    """Squared distances within every codebook, infinite on the diagonal.

    |x|^2 + |y|^2 - 2 x.y in float64 loses at most 1e-15 here, which is far below what is plotted
    unless points nearly coincide, and then the term hardly counts in the mean.
    """
    norms = np.square(points).sum(axis=-1)
    squares = np.matmul(points, -2 * points.transpose(0, 2, 1))
    squares += norms[:, :, None]
    squares += norms[:, None, :]
    np.maximum(squares, 0, out=squares)
    diagonal = np.arange(points.shape[1])
    squares[:, diagonal, diagonal] = np.inf
    return squares


def ascend(
    K: int,
    n: int,
    starts: int,
    steps: int,
    rng: np.random.Generator,
    report: Callable[[float], None] = lambda share: None,
) -> Float[np.ndarray, " starts"]:
    """The best D that projected subgradient ascent meets from each of some random starts.

    The subgradient of D pushes every point and its nearest neighbour apart. Each step follows its
    running mean (over about ten steps), by a length that shrinks geometrically from 0.3 to 1e-5,
    and clips the points to the box. What comes back is D of a codebook in the box, so a true lower
    bound on the maximum, but with no claim that the maximum was found.
    """
    points = rng.uniform(-1, 1, (starts, K, n))
    best = np.zeros(starts)
    batch = np.arange(starts)[:, None]
    momentum = np.zeros_like(points)
    for step, length in enumerate(np.geomspace(0.3, 1e-5, steps)):
        squares = _squares(points)
        nearest = squares.argmin(axis=2)
        apart = points - np.take_along_axis(points, nearest[:, :, None], axis=1)
        distance = np.sqrt(np.square(apart).sum(axis=2))
        best = np.maximum(best, distance.mean(axis=1))
        push = apart / np.maximum(distance, 1e-12)[:, :, None]
        gradient = push.copy()
        np.subtract.at(gradient, (batch, nearest), push)
        momentum = 0.9 * momentum + 0.1 * gradient
        points = np.clip(points + length * momentum, -1, 1)
        if step % 100 == 0:
            report(0.5 + 0.5 * step / steps)
    return best


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    """One entry for each case: what FSQ has, and what the others reach relative to it."""
    cases = []
    known = table[table["kind"] == "explicit"]["value"]
    for (base, n), rows in table.groupby(["base", "n"], sort=True):
        random = rows[rows["kind"] == "random"]
        ascent = rows[rows["kind"] == "ascent"]["value"]
        explicit = rows[rows["kind"] == "explicit"]
        centre = (random["value"] * random["count"]).sum() / random["count"].sum()
        cases.append(
            {
                "base": int(base),
                "n": int(n),
                "K": int(rows["K"].iloc[0]),
                "D_fsq": float(rows["D_fsq"].iloc[0]),
                "n_random": int(random["count"].sum()),
                "random_mean": float(centre),
                "random_max": float(rows[rows["kind"] == "random_max"]["value"].iloc[0]),
                "ascent_starts": len(ascent),
                "ascent_max": float(ascent.max()) if len(ascent) else None,
                "ascent_share_within_1e-3": float((ascent > 1 - 1e-3).mean())
                if len(ascent)
                else None,
                "explicit_max": float(explicit["value"].max()) if len(explicit) else None,
                "explicit": dict(zip(explicit["label"], explicit["value"], strict=True)),
            }
        )
    return {
        "unit": "D divided by D of FSQ with the same K and n",
        "largest_random": float(table[table["kind"] == "random_max"]["value"].max()),
        "largest_explicit": float(known.max()) if len(known) else None,
        "cases": cases,
    }


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """All codebooks at one scale, and those above FSQ by how much they are above it."""
    figure, axes = new_figure(1, 2, width=PAGE, panel_height=3.0, width_ratios=[1.25, 1])
    _draw_all(axes[0, 0], table, facts)
    _draw_gains(axes[0, 1], facts)
    label_panels(
        axes,
        (
            f"random codebooks reach {100 * facts['largest_random']:.0f} % of FSQ at most ...",
            "... yet FSQ is not the maximum",
        ),
    )
    return figure


def _draw_all(panel: Axes, table: pd.DataFrame, facts: dict[str, Any]) -> None:
    """Random codebooks as mirrored histograms with their best; the others as marks."""
    keys = [(case["base"], case["n"]) for case in facts["cases"]]
    new_base = [0] + [a[0] != b[0] for a, b in zip(keys[1:], keys[:-1], strict=True)]
    places = np.arange(len(keys)) + 0.6 * np.cumsum(new_base)
    for first, ((base, n), x) in enumerate(zip(keys, places, strict=True)):
        rows = table[(table["base"] == base) & (table["n"] == n)]
        bins = rows[rows["kind"] == "random"]
        half = 0.38 * bins["count"] / bins["count"].max()
        label = (lambda text: text) if first == 0 else (lambda text: None)
        panel.barh(
            bins["value"],
            2 * half,
            left=x - half,
            height=bins["width"],
            color=COLOURS[5],
            linewidth=0,
            label=label("random, all"),
        )
        best = rows[rows["kind"] == "random_max"]["value"].iloc[0]
        panel.plot([x - 0.3, x + 0.3], [best, best], color=COLOURS[0], label=label("random, best"))
        values = {kind: rows[rows["kind"] == kind]["value"] for kind in ("ascent", "explicit")}
        shift = 0.17 if all(len(v) for v in values.values()) else 0.0
        if len(values["ascent"]):
            panel.plot(x - shift, values["ascent"].max(), **ASCENT_MARK)
        if len(values["explicit"]):
            panel.plot(x + shift, values["explicit"].max(), **EXPLICIT_MARK)
    panel.plot([], [], **ASCENT_MARK, label="gradient ascent, best")
    panel.plot([], [], **EXPLICIT_MARK, label="explicit, best")
    panel.axhline(1, color="#000000", linewidth=1.0, zorder=1.5)
    panel.text(places[-1] + 0.65, 0.985, "FSQ", fontsize=7, va="top", ha="right")
    panel.set_xlim(-0.7, places[-1] + 0.7)
    panel.set_ylim(0, 1.38)
    panel.set_xticks(places, [f"{n}\n{base**n}" for base, n in keys])
    panel.grid(visible=False, axis="x")
    panel.tick_params(axis="x", length=0)
    for base in sorted({key[0] for key in keys}):
        middle = float(np.mean([x for key, x in zip(keys, places, strict=True) if key[0] == base]))
        below: dict[str, Any] = {
            "textcoords": "offset points",
            "xycoords": ("data", "axes fraction"),
        }
        text = f"base {base}: FSQ has D = {2 // (base - 1)}"
        panel.annotate(text, (middle, 0), xytext=(0, -32), ha="center", **below)
        panel.annotate(
            "n\nK", (-0.7, 0), xytext=(-3, -5), ha="right", va="top", fontsize=7, **below
        )
    panel.set_ylabel("mean nearest-neighbour distance,\nrelative to FSQ")
    panel.legend(loc="upper left", ncols=2, columnspacing=1.0, handlelength=1.2, borderaxespad=0.1)


def _draw_gains(panel: Axes, facts: dict[str, Any]) -> None:
    """One row for each codebook above FSQ: its gain, on a logarithmic axis."""
    y, ticks, names = 0.0, [], []
    for case in facts["cases"]:
        found = sorted(case["explicit"].items(), key=lambda item: item[1])
        if case["ascent_max"] is not None and case["ascent_max"] > 1 + 1e-6:
            found.append((f"ascent, best of {case['ascent_starts']}", case["ascent_max"]))
        if not found:
            continue
        names.append(f"$\\bf{{{case['base']}^{case['n']}}}$ = {case['K']} points")
        ticks.append(y)
        y += 0.9
        for name, value in found:
            gain = 100 * (value - 1)
            mark = EXPLICIT_MARK if name in case["explicit"] else ASCENT_MARK
            panel.plot(gain, y, **mark)
            panel.annotate(
                f"+{gain:.{2 if gain < 1 else 1}f} %",
                (gain, y),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
            names.append(name)
            ticks.append(y)
            y += 0.9
        y += 0.5
    panel.set_ylim(y - 0.6, -0.6)
    panel.set_yticks(ticks, names)
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False, axis="y")
    panel.set(xscale="log", xlim=(0.1, 60))
    panel.set_xticks([0.1, 1, 10], ["0.1 %", "1 %", "10 %"])
    small = [c for c in facts["cases"] if c["ascent_starts"] and not c["explicit"]]
    sizes = ", ".join(f"${c['base']}^{c['n']}$" for c in small)
    panel.set_xlabel("D above FSQ with the same n and K")
    panel.text(
        0.5,
        -0.19,
        f"not shown: {sizes}, where the\nascent reaches FSQ and nothing above it",
        transform=panel.transAxes,
        ha="center",
        va="top",
        fontsize=7,
    )


#: How the two stronger comparators are drawn.
ASCENT_MARK: dict[str, Any] = {
    "color": COLOURS[2],
    "marker": "^",
    "markersize": 5,
    "linestyle": "none",
}
EXPLICIT_MARK: dict[str, Any] = {
    "color": COLOURS[1],
    "marker": "*",
    "markersize": 8,
    "linestyle": "none",
}


EXPERIMENT = Experiment(
    name="nn_distance",
    claim=(
        "C2, C3: FSQ is a local maximum of the mean nearest-neighbour distance in the box and far "
        "above random codebooks, but explicit codebooks beat it from n = 5 (base 2) and n = 4 "
        "(base 3) on."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
)
