"""Is FSQ the most accurate codebook at every noise level? Yes for four tokens, no in general.

(a) K = 4, n = 2: exact accuracy of FSQ minus that of random codebooks and of the ends of ascents.
(b) K = 6561, n = 8: error probabilities. (c) The E8 cut over FSQ 3^8 at low noise: sampled where
sampling can be trusted, bounded by a proved inequality beyond. (d) K = 9, n = 2: nine points
without an interior one against the 3 x 3 grid in strong noise, exact.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import optimize, special

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, increasing, least, setting
from tokenkl._random import generator
from tokenkl.bounds import union_bound
from tokenkl.codebooks.transforms import perturb
from tokenkl.optimality.counterexamples import edge_heavy_nine
from tokenkl.plotting import AXIS_LABELS, COLOURS, PAGE, STYLE, line_style, new_figure

#: Published for base 2, n = 2 (arXiv 2606.09962, C4), at a noise level that was inferred:
#: alpha/sigma = 0.3.
PUBLISHED_FSQ, PUBLISHED_RANDOM, PUBLISHED_SNR = 0.3818, 0.3739, 0.3**2

UNIFORM, STRETCHED = "random", "random, stretched"
FSQ, PERTURBED, RANDOM, E8 = "FSQ", "perturbed FSQ", "random in the box", "E8 cut"
#: Colour of every codebook in the panels, the same in all of them.
NUMBER = {FSQ: 0, E8: 1, PERTURBED: 2, RANDOM: 3, STRETCHED: 4}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Sizes and seed; SNRs are in decibels."""

    seed: int = setting(20260609, "of all random numbers", least(0))
    planar_codebooks: int = setting(1000, "random codebooks of each kind in (a)", least(1))
    planar_levels: int = setting(21, "noise levels of (a)", least(2))
    published_draws: int = setting(10_000, "random codebooks at the published SNR", least(1))
    ascents: int = setting(4, "random starts of the ascent, at each of three SNRs", least(1))
    curve_samples: int = setting(2**14, "draws for each curve of (b)", least(2))
    curve_levels: int = setting(14, "noise levels of (b)", least(2))
    crossing_samples: int = setting(2**18, "draws for the ratio in (c)", least(2))
    crossing_db: tuple[float, ...] = setting(
        (15.5, 16.0, 16.5, 17.0, 17.5, 18.0), "noise levels of the draws in (c), in dB", increasing
    )
    bound_levels: int = setting(1101, "noise levels of the bound in (c)", least(2))
    nine_levels: int = setting(241, "noise levels of (d)", least(2))


SMOKE = Config(
    planar_codebooks=10,
    planar_levels=3,
    published_draws=10,
    ascents=1,
    curve_samples=128,
    curve_levels=4,
    crossing_samples=256,
    crossing_db=(16.0, 18.0),
    bound_levels=31,
    nine_levels=31,
)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """All four panels; the table's column `panel` says which."""
    parts: list[pd.DataFrame] = []
    facts: dict[str, Any] = {}
    for index, part in enumerate((_plane, _curves, _crossing, _nine)):

        def inner(share: float, start: int = index) -> None:
            progress(start + share, 4)

        table, found = part(config, inner)
        parts.append(table.assign(panel="abcd"[index]))
        facts |= found
        progress(index + 1, 4)
    return pd.concat(parts, ignore_index=True), facts


def _from_db(db: Any) -> np.ndarray:
    return 10 ** (np.asarray(db, dtype=float) / 10)


def _plane(config: Config, progress: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """FSQ 2^2 against random codebooks, exactly."""
    db = np.linspace(-30, 15, config.planar_levels)
    fsq = tk.accuracy(tk.FSQ((2, 2)), _from_db(db)).value
    at_published = float(tk.accuracy(tk.FSQ((2, 2)), PUBLISHED_SNR))
    rng = generator(config.seed, 0)
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {
        "fsq_accuracy_at_published_snr": at_published,
        "phi_squared": float(special.ndtr(0.3) ** 2),
        "published_fsq": PUBLISHED_FSQ,
        "published_best_random": PUBLISHED_RANDOM,
        "published_draws": config.published_draws,
    }
    total = 2 * (config.planar_codebooks + config.published_draws)
    done = 0
    for kind, draw in ((UNIFORM, _uniform), (STRETCHED, _stretched)):
        curves = []
        for _ in range(config.planar_codebooks):
            curves.append(tk.accuracy(draw(rng), _from_db(db)).value)
            done += 1
            progress(0.9 * done / total)
        gaps = 100 * (fsq - np.array(curves))
        best, median = gaps.min(axis=0), np.median(gaps, axis=0)
        for index, level in enumerate(db):
            columns = {"snr_db": level, "value": best[index], "high": median[index]}
            rows.append({"codebook": kind, **columns})
        values = []
        for _ in range(config.published_draws):
            values.append(float(tk.accuracy(draw(rng), PUBLISHED_SNR)))
            done += 1
            if done % 50 == 0:
                progress(0.9 * done / total)
        name = "uniform" if kind == UNIFORM else "stretched"
        facts[f"{name}_quantiles_1_50_99_percent"] = np.quantile(values, [0.01, 0.5, 0.99])
        facts[f"{name}_best_at_published_snr"] = max(values)
        facts[f"{name}_smallest_gap_on_the_curves_points"] = float(best.min())
    facts |= _ascents(config, rng, progress)
    return pd.DataFrame(rows), facts


def _uniform(rng: np.random.Generator) -> tk.PointCodebook:
    return tk.PointCodebook(rng.uniform(-1, 1, (4, 2)))


def _stretched(rng: np.random.Generator) -> tk.PointCodebook:
    """Uniform points, then each axis stretched so that all four sides are touched."""
    points = rng.uniform(-1, 1, (4, 2))
    low, high = points.min(axis=0), points.max(axis=0)
    return tk.PointCodebook((2 * points - low - high) / (high - low))


def _ascents(config: Config, rng: np.random.Generator, progress: Any) -> dict[str, Any]:
    """Ascent on the exact accuracy from random starts: a fairer rival than random codebooks."""
    gaps = []
    levels = (-20.0, 0.0, 10.0)
    for number, db in enumerate(levels):
        snr = float(_from_db(db))
        fsq = float(tk.error_probability(tk.FSQ((2, 2)), snr))

        def error(flat: np.ndarray, snr: float = snr) -> float:
            points = flat.reshape(4, 2)
            return float(tk.error_probability(tk.PointCodebook(points), snr))

        for start in range(config.ascents):
            found = optimize.minimize(
                error, rng.uniform(-1, 1, 8), method="L-BFGS-B", bounds=[(-1.0, 1.0)] * 8
            )
            gaps.append(float(found.fun) - fsq)
            progress(
                0.9 + 0.1 * (number * config.ascents + start + 1) / len(levels) / config.ascents
            )
    return {
        "ascents": len(gaps),
        "ascents_that_end_on_fsq": int(np.sum(np.abs(gaps) < 1e-9)),
        "ascents_best_gain_over_fsq": float(-np.min(gaps)),
    }


def _curves(config: Config, progress: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Error probability at 3^8 tokens."""
    grid = tk.FSQ((3,) * 8)
    rng = generator(config.seed, 1)
    random = tk.PointCodebook(rng.uniform(-1, 1, (grid.K, grid.n)), name=RANDOM)
    rivals = {
        E8: tk.e8_codebook(),
        PERTURBED: perturb(grid, 0.1, config.seed, box=1.0),
        RANDOM: random,
    }
    dense = np.linspace(2, 20, 91)
    exact = tk.error_probability(grid, _from_db(dense)).value
    parts = [pd.DataFrame({"codebook": FSQ, "snr_db": dense, "value": exact})]
    db = np.linspace(2, 18, config.curve_levels)
    facts: dict[str, Any] = {}
    for number, (name, codebook) in enumerate(rivals.items()):

        def inner(done: int, total: int, number: int = number) -> None:
            progress((number + done / total) / len(rivals))

        estimate = tk.error_probability(
            codebook,
            _from_db(db),
            method=tk.MonteCarlo(n_samples=config.curve_samples),
            key=config.seed + number,
            progress=inner,
        )
        parts.append(_rows(name, db, estimate))
        at = int(np.argmin(np.abs(db - 10)))
        facts[f"error_near_10_db_{name}"] = float(estimate.value[at])
        facts["near_10_db"] = float(db[at])
        facts["error_near_10_db_FSQ"] = float(tk.error_probability(grid, _from_db(db[at])))
    return pd.concat(parts), facts


def _rows(name: str, db: np.ndarray, estimate: tk.Estimate) -> pd.DataFrame:
    low, high, _ = estimate.confidence_interval()
    supported = np.asarray(estimate.interval_supported)
    columns = {"snr_db": db, "value": estimate.value, "low": low, "high": high}
    return pd.DataFrame({"codebook": name, **columns, "supported": supported})


def _crossing(config: Config, progress: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Error probability of the E8 cut divided by FSQ's, sampled and bounded."""
    grid, lattice = tk.FSQ((3,) * 8), tk.e8_codebook()
    db = np.array(config.crossing_db)
    exact = tk.error_probability(grid, _from_db(db)).value
    estimate = tk.error_probability(
        lattice,
        _from_db(db),
        method=tk.MonteCarlo(n_samples=config.crossing_samples),
        key=config.seed + 10,
        progress=lambda done, total: progress(0.9 * done / total),
    )
    sampled = _rows("sampled", db, estimate)
    sampled[["value", "low", "high"]] = sampled[["value", "low", "high"]].div(exact, axis=0)

    dense = np.linspace(15, 26, config.bound_levels)
    fsq = tk.error_probability(grid, _from_db(dense))
    # The denominator is lowered by its numerical error, so that the ratio stays an upper bound.
    bound = union_bound(lattice, _from_db(dense)).value / (fsq.value - fsq.numerical_error)
    above = np.flatnonzero(bound >= 1 - 1e-9)
    certified = float(dense[above[-1] + 1])
    good = sampled[sampled.supported]
    x = good.snr_db.to_numpy()
    facts: dict[str, Any] = {
        "crossing_db": _root(x, good.value.to_numpy()),
        "crossing_db_low": _root(x, good.low.to_numpy()),
        "crossing_db_high": _root(x, good.high.to_numpy()),
        "certified_from_db": certified,
        "certified_up_to_db": float(dense[-1]),
        "certified_s": float(10 ** (-certified / 20)),
        "bound_on_ratio_at_22_db": float(np.interp(22, dense, bound)),
        "crossing_samples": config.crossing_samples,
    }
    if facts["crossing_db"] is not None:
        facts["crossing_s"] = 10 ** (-facts["crossing_db"] / 20)
    keep = slice(None, None, max(1, config.bound_levels // 100))
    bounds = pd.DataFrame({"codebook": "bound", "snr_db": dense[keep], "value": bound[keep]})
    return pd.concat([sampled, bounds]), facts


def _root(x: np.ndarray, ratio: np.ndarray) -> float | None:
    """Where a falling ratio passes 1: linear in its logarithm between the two points around it.

    Applied to the ends of a 95 % interval at every point, this inverts the test "the ratio is 1
    here", so that the two roots enclose the crossing with that confidence.
    """
    y = np.log(np.maximum(ratio, 1e-300))
    below = np.flatnonzero(y < 0)
    if below.size == 0 or below[0] == 0:
        return None
    right = below[0]
    share = y[right - 1] / (y[right - 1] - y[right])
    return float(x[right - 1] + share * (x[right] - x[right - 1]))


def _nine(config: Config, progress: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A(edge-heavy nine) - A(3 x 3 grid), exactly."""
    grid, nine = tk.FSQ((3, 3)), edge_heavy_nine()

    def gain(snr: Any) -> np.ndarray:
        # Of error probabilities, which cancel less than accuracies do.
        fsq, rival = tk.error_probability(grid, snr), tk.error_probability(nine, snr)
        return np.asarray(fsq.value - rival.value)

    db = np.linspace(-32, -7, config.nine_levels)
    values = gain(_from_db(db))
    root = optimize.brentq(lambda level: float(gain(_from_db(level))), -9.0, -6.0, xtol=1e-10)
    peak = optimize.minimize_scalar(
        lambda level: -float(gain(_from_db(level))), bounds=(-15, -8), method="bounded"
    )
    limit = (8 / 27 - 1 / 4) / (18 * np.sqrt(2 * np.pi))
    table = pd.DataFrame({"codebook": "gain", "snr_db": db, "value": values})
    asymptote = pd.DataFrame(
        {"codebook": "asymptote", "snr_db": db, "value": limit * _from_db(db) ** 1.5}
    )
    facts = {
        "nine_points": nine.points,
        "nine_sign_change_db": float(root),
        "nine_sign_change_s": float(10 ** (-root / 20)),
        "nine_gain_at_s_3": float(gain(1 / 9)),
        "nine_numerical_error_at_s_3": float(
            tk.error_probability(grid, 1 / 9).numerical_error
            + tk.error_probability(nine, 1 / 9).numerical_error
        ),
        "nine_largest_gain": float(-peak.fun),
        "nine_largest_gain_db": float(peak.x),
        "nine_limit_of_s3_gain": float(limit),
        "nine_s3_gain_at_s_300": float(gain(300.0**-2) * 300**3),
        "nine_s3_gain_at_s_1000": float(gain(1e-6) * 1e9),
    }
    progress(1.0)
    return pd.concat([table, asymptote]), facts


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Four panels, two by two."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.5)
    crossing = facts["crossing_db"]
    until = "" if crossing is None else f": FSQ leads until {crossing:.1f} dB"
    parts = (
        (_draw_plane, "K = 4, n = 2: none tried beats FSQ"),
        (_draw_curves, "K = 6561, n = 8" + until),
        (_draw_ratio, f"E8 better by its bound above {facts['certified_from_db']:.2f} dB"),
        (_draw_nine, "K = 9, n = 2: FSQ loses in strong noise"),
    )
    for panel, letter, (draw, title) in zip(axes.ravel(), "abcd", parts, strict=True):
        draw(panel, table, facts)
        panel.set_title(rf"$\bf{{({letter})}}$  {title}", loc="left")
        panel.set_xlabel(AXIS_LABELS["snr_db"])
    return figure


def _select(table: pd.DataFrame, panel: str, codebook: str) -> pd.DataFrame:
    return table[(table.panel == panel) & (table.codebook == codebook)]


def _draw_plane(axes: Any, table: pd.DataFrame, facts: dict[str, Any]) -> None:
    for kind, number in ((UNIFORM, NUMBER[RANDOM]), (STRETCHED, NUMBER[STRETCHED])):
        rows, style = _select(table, "a", kind), line_style(number)
        axes.fill_between(
            rows.snr_db, rows.value, rows.high, color=style["color"], alpha=0.2, linewidth=0
        )
        axes.plot(rows.snr_db, rows.value, **style, label=f"{kind}: best to median")
    db = 10 * np.log10(PUBLISHED_SNR)
    gap = 100 * (facts["published_fsq"] - facts["published_best_random"])
    axes.plot(db, gap, "k*", markersize=7, label=f"published: {gap:.2f} points", zorder=5)
    axes.axhline(0, color=COLOURS[0])
    axes.text(15, -0.3, "FSQ", color=COLOURS[0], va="top", ha="right")
    axes.set(ylabel="accuracy lost against FSQ\n(percentage points)", ylim=(-2.5, None))
    axes.legend(loc="upper left")


def _draw_curves(axes: Any, table: pd.DataFrame, _: dict[str, Any]) -> None:
    for name in (RANDOM, PERTURBED, FSQ, E8):
        rows, style = _select(table, "b", name), line_style(NUMBER[name])
        if name != FSQ:
            rows = rows[rows.supported.astype(bool)]
            axes.fill_between(
                rows.snr_db, rows.low, rows.high, color=style["color"], alpha=0.25, linewidth=0
            )
        axes.plot(rows.snr_db, rows.value, **style, label=name)
    axes.set(yscale="log", ylim=(1e-3, 1.3), ylabel="Bayes error probability")
    axes.set_xlim(2, 18)
    axes.legend(loc="lower left")


def _draw_ratio(axes: Any, table: pd.DataFrame, facts: dict[str, Any]) -> None:
    bound, style = _select(table, "c", "bound"), line_style(NUMBER[E8])
    bound = bound[bound.value < 3]
    axes.plot(bound.snr_db, bound.value, color=style["color"])
    axes.fill_between(
        bound.snr_db, 1e-9, bound.value, color=style["color"], alpha=0.12, linewidth=0
    )
    rows = _select(table, "c", "sampled")
    rows = rows[rows.supported.astype(bool)]
    axes.errorbar(
        rows.snr_db,
        rows.value,
        [rows.value - rows.low, rows.high - rows.value],
        fmt="o",
        color="black",
        markersize=3,
        capsize=2,
        linewidth=1,
    )
    axes.axhline(1, color=COLOURS[0])
    axes.set(yscale="log", ylim=(1e-4, 4), ylabel="error probability, E8 cut / FSQ")
    axes.set_xlim(15, 25)
    axes.text(24.9, 1.1, "equal", ha="right", va="bottom", color=COLOURS[0])
    axes.text(24.9, 0.12, "union bound", ha="right", color=COLOURS[1])
    axes.text(15.3, 5e-4, "the ratio lies in the shaded region", color=COLOURS[1])
    ends = [facts[f"crossing_db{end}"] for end in ("", "_low", "_high")]
    if None not in ends:
        axes.annotate(
            "sampled crossing\n{:.2f} dB [{:.2f}, {:.2f}]".format(*ends),
            (ends[0], 0.97),
            (15.3, 0.03),
            arrowprops={"arrowstyle": "-", "linewidth": 0.6},
        )


def _draw_nine(axes: Any, table: pd.DataFrame, facts: dict[str, Any]) -> None:
    gain, asymptote = _select(table, "d", "gain"), _select(table, "d", "asymptote")
    shown = asymptote[asymptote.value < 1.05e-5]
    axes.plot(shown.snr_db, 1e6 * shown.value, color="black", linestyle=":", linewidth=1)
    axes.plot(gain.snr_db, 1e6 * gain.value, color=COLOURS[1])
    axes.axhline(0, color=COLOURS[0])
    axes.text(-32, -0.25, "3 × 3 FSQ", color=COLOURS[0], va="top")
    axes.set(ylabel="accuracy gained over FSQ\n(millionths)", ylim=(-4, 11))
    axes.text(-15.6, 9.3, "limit, $0.00103\\,/\\,s^3$", ha="right")
    square = axes.inset_axes((0.05, 0.52, 0.21, 0.33))
    square.plot([-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], color="grey", linewidth=0.6)
    square.plot(*np.transpose(facts["nine_points"]), "o", color=COLOURS[1], clip_on=False)
    square.set(aspect="equal", xticks=[], yticks=[], xlim=(-1, 1), ylim=(-1, 1))
    square.spines[:].set_visible(False)
    axes.text(-25.2, 6.6, "these nine\npoints", color=COLOURS[1], va="center")
    axes.annotate(
        f"sign changes\nat {facts['nine_sign_change_db']:.2f} dB",
        (facts["nine_sign_change_db"], 0),
        (-19, -3.3),
        arrowprops={"arrowstyle": "-", "linewidth": 0.6},
    )


EXPERIMENT = Experiment(
    name="accuracy",
    claim="FSQ maximises Bayes accuracy at every noise level (C4): found true for K = 4 in the "
    "plane; false for 3^8 tokens at low noise and for 3 x 3 tokens at high noise.",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
