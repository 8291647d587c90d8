"""Real token frequencies: what they change, and whether it matters which token sits where.

With word frequencies as the prior, a grid no longer factorises, so its numbers are sampled. Words
of the King James Bible are given to the points of FSQ 3^8 at random and by five rules.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, most, setting
from tokenkl._random import generator
from tokenkl.plotting import (
    AXIS_LABELS,
    COLOURS,
    DASHES,
    PAGE,
    STYLE,
    draw_interval,
    line_style,
    new_figure,
)

K = 6561
WORDS = Path(__file__).resolve().parent / "data" / "kjv_word_counts.csv"

FSQ, E8, ONE_HOT = "FSQ $3^8$", "E8 cut", "one-hot"
EQUAL, ZIPF, KJV = "equal", "Zipf", "Bible words"
RANDOM = "at random"
CORNERS, APART, IN_ORDER, CLUSTERED, CENTRE = (
    "frequent at the corners",
    "frequent far apart",
    "ids by rank",
    "frequent near one corner",
    "frequent in the centre",
)
NUMBER = {CORNERS: 1, APART: 2, IN_ORDER: 3, CLUSTERED: 4, CENTRE: 5}

#: Names of two facts about every rule.
CHANGE, POINTS = "entropy_bits_against_random", "accuracy_points_against_random"


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Sizes and seed; the grid is in decibels of average power over noise variance."""

    seed: int = setting(20260611, "of all random numbers", least(0))
    first_db: float = setting(-3.0, "lowest SNR, in dB", least(-100))
    last_db: float = setting(24.0, "highest SNR, in dB", most(100))
    levels: int = setting(19, "noise levels", least(2))
    samples: int = setting(2**14, "draws for each curve", least(2))
    replicates: int = setting(4, "random assignments of words to points", least(2))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising("first_db", "last_db")


SMOKE = Config(levels=2, samples=2**4, replicates=2)


def word_prior() -> tuple[Float[np.ndarray, "6561"], dict[str, Any]]:
    """The 6560 most frequent words and one token for all others, most frequent first."""
    counts = pd.read_csv(WORDS, keep_default_na=False)["count"].to_numpy()
    totals = json.loads(WORDS.with_suffix(".json").read_text())
    rest = totals["words_in_text"] - counts.sum()
    counts = np.sort(np.append(counts, rest))[::-1]
    facts = {
        "words_in_text": totals["words_in_text"],
        "distinct_words": totals["distinct_words"],
        "share_of_the_rest_token": float(rest / totals["words_in_text"]),
        "share_of_the_most_frequent": float(counts[0] / counts.sum()),
    }
    return tk.prior_from_tokens(np.repeat(np.arange(K), counts), K), facts


def zipf_prior() -> Float[np.ndarray, "6561"]:
    """Probability proportional to 1 / rank."""
    weight = 1 / np.arange(1.0, K + 1)
    return weight / weight.sum()


def assignments(
    points: Float[np.ndarray, "K n"], rng: np.random.Generator
) -> dict[str, Int[np.ndarray, " K"]]:
    """For every rule, which point the most frequent token gets, the second, and so on."""
    # Ties are broken at random, so that only what the rule names tells the points apart.
    tie = rng.permutation(len(points))
    norms = np.round((points**2).sum(axis=1), 9)
    corner = np.round(((points - points[-1]) ** 2).sum(axis=1), 9)
    return {
        CORNERS: np.lexsort((tie, -norms)),
        APART: _farthest_first(points),
        IN_ORDER: np.arange(len(points)),
        CLUSTERED: np.lexsort((tie, corner)),
        CENTRE: np.lexsort((tie, norms)),
    }


def _farthest_first(points: Float[np.ndarray, "K n"]) -> Int[np.ndarray, " K"]:
    """Every next point as far as can be from those before it (Gonzalez 1985), from a corner on."""
    order = np.empty(len(points), dtype=int)
    distance = np.full(len(points), np.inf)
    chosen = len(points) - 1
    for rank in range(len(points)):
        order[rank] = chosen
        distance = np.minimum(distance, ((points - points[chosen]) ** 2).sum(axis=1))
        distance[chosen] = -1
        chosen = int(distance.argmax())
    return order


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Panel a: codebooks and priors. Panels b to d: assignments, at one box and at one power."""
    db = np.linspace(config.first_db, config.last_db, config.levels)
    words, facts = word_prior()
    priors = {EQUAL: np.full(K, 1 / K), ZIPF: zipf_prior(), KJV: words}
    for name, prior in priors.items():
        nats = float(-(prior * np.log(prior)).sum())
        facts[f"prior_entropy_bits_{name}"] = nats / np.log(2)
        facts[f"perplexity_{name}"] = float(np.exp(nats))
    grid, lattice = tk.FSQ((3,) * 8).points, tk.e8_codebook().points
    rng = generator(config.seed, 0)
    rules = assignments(grid, rng)
    total = 3 + 2 + 2 * (len(rules) + config.replicates)
    parts: list[pd.DataFrame] = []
    done = 0

    def add(codebook: tk.Codebook, /, **labels: Any) -> None:
        nonlocal done
        estimate = _sampled(codebook, db, config, done, lambda part: progress(done + part, total))
        parts.append(estimate.assign(**labels))
        done += 1

    def placed(points: np.ndarray, order: np.ndarray, prior: np.ndarray) -> tk.PointCodebook:
        # Token k, the k-th most frequent, at the point order[k].
        return tk.PointCodebook(points[order], prior)

    for prior_name, prior in priors.items():
        exact = tk.profile(tk.scale_to(tk.OneHot(K, prior), power=1.0), 10 ** (db / 10))
        parts.append(_frame(exact, db).assign(panel="a", codebook=ONE_HOT, prior=prior_name))
        book = placed(lattice, rng.permutation(K), prior)
        add(_unit(book), panel="a", codebook=E8, prior=prior_name)
        if prior_name == EQUAL:
            exact = tk.profile(tk.scale_to(tk.FSQ((3,) * 8), power=1.0), 10 ** (db / 10))
            parts.append(_frame(exact, db).assign(panel="a", codebook=FSQ, prior=EQUAL))
        elif prior_name == ZIPF:
            book = placed(grid, rng.permutation(K), prior)
            add(_unit(book), panel="a", codebook=FSQ, prior=prior_name)

    # In the box the grid of noise levels is that of equal priors, where both axes agree.
    power = tk.average_power(tk.FSQ((3,) * 8))
    orders = {(RANDOM, number): rng.permutation(K) for number in range(config.replicates)}
    orders |= {(rule, 0): order for rule, order in rules.items()}
    powers: dict[str, list[float]] = {}
    for (rule, replicate), order in orders.items():
        book = placed(grid, order, words)
        powers.setdefault(rule, []).append(tk.average_power(book))
        labels = {"codebook": FSQ, "prior": KJV, "assignment": rule, "replicate": replicate}
        in_box = tk.PointCodebook(book.points / np.sqrt(power), words)
        add(in_box, panel="box", **labels)
        parts[-1].snr_db -= 10 * np.log10(power)
        add(_unit(book), panel="power", **labels)
    table = pd.concat(parts, ignore_index=True)
    facts["average_power_equal_priors"] = power
    facts["average_power"] = {rule: float(np.mean(values)) for rule, values in powers.items()}
    facts["samples"] = config.samples
    return table, facts | _findings(table, facts)


def _unit(codebook: tk.Codebook) -> tk.Codebook:
    return tk.scale_to(tk.centre(codebook), power=1.0)


def _sampled(
    codebook: tk.Codebook, db: np.ndarray, config: Config, number: int, progress: Any
) -> pd.DataFrame:
    found = tk.profile(
        codebook,
        10 ** (db / 10),
        ("conditional_entropy", "accuracy"),
        method=tk.MonteCarlo(n_samples=config.samples),
        key=config.seed + number,
        progress=lambda done, wanted: progress(done / wanted),
    )
    return _frame(found, db)


def _frame(found: tk.Profile, db: np.ndarray) -> pd.DataFrame:
    entropy, accuracy = found["conditional_entropy"].bits, found["accuracy"]
    return pd.DataFrame(
        {
            "snr_db": db,
            "bits": entropy.value,
            "bits_error": entropy.standard_error,
            "bits_supported": entropy.interval_supported,
            "accuracy": accuracy.value,
            "accuracy_error": accuracy.standard_error,
            "accuracy_supported": accuracy.interval_supported,
        }
    )


def _findings(table: pd.DataFrame, facts: dict[str, Any]) -> dict[str, Any]:
    """Where half the information is lost, and what an assignment changes."""
    out: dict[str, Any] = {}
    half: dict[str, float | None] = {}
    for (codebook, prior), rows in _panel_a(table).groupby(["codebook", "prior"], sort=False):
        share = rows.groupby("snr_db").bits.mean() / facts[f"prior_entropy_bits_{prior}"]
        half[f"{codebook}, {prior}"] = _crosses(share, 0.5)
    out["db_of_power_at_half_the_information"] = half
    for panel in ("box", "power"):
        part = table[table.panel == panel]
        random = part[part.assignment == RANDOM]
        start = _crosses(
            random.groupby("snr_db").bits.mean() / facts[f"prior_entropy_bits_{KJV}"], 0.5
        )
        for rule in NUMBER:
            rows = part[part.assignment == rule].set_index("snr_db")
            change = _against_random(part, rule, "bits")
            points = 100 * _against_random(part, rule, "accuracy").gap
            here = _crosses(rows.bits / facts[f"prior_entropy_bits_{KJV}"], 0.5)
            worst = change.gap.abs().idxmax()
            out[f"same_{panel}: {rule}"] = {
                CHANGE: float(change.gap[worst]),
                "standard_error": float(change.error[worst]),
                "at_db": float(worst),
                POINTS: float(points[points.abs().idxmax()]),
                "accuracy_at_db": float(points.abs().idxmax()),
                "db_gained_at_half_the_information": None
                if start is None or here is None
                else start - here,
            }
        spread = random.pivot(index="snr_db", columns="replicate", values="bits")
        out[f"same_{panel}: largest_spread_of_random_assignments_bits"] = float(
            np.ptp(spread.to_numpy(), axis=1).max()
        )
    return out


def _panel_a(table: pd.DataFrame) -> pd.DataFrame:
    """All codebooks with random assignments at equal power: panel a, and the Bible words on FSQ."""
    random = (table.panel == "power") & table.get("assignment", pd.Series(dtype=str)).eq(RANDOM)
    return table[(table.panel == "a") | random]


def _against_random(part: pd.DataFrame, rule: str, quantity: str) -> pd.DataFrame:
    """A rule minus the mean of the random assignments, its standard error, and the extremes."""
    random = part[part.assignment == RANDOM].groupby("snr_db")
    mean = random[quantity].mean()
    count = random[quantity].count()
    # The random replicates also differ among themselves, so their spread is the error of the mean.
    error = np.maximum(
        random[quantity].std() / np.sqrt(count),
        np.sqrt(random[f"{quantity}_error"].agg(lambda e: (e**2).sum())) / count,
    )
    rows = part[part.assignment == rule].set_index("snr_db")
    return pd.DataFrame(
        {
            "gap": rows[quantity] - mean,
            "error": np.hypot(rows[f"{quantity}_error"], error),
            "low": random[quantity].min() - mean,
            "high": random[quantity].max() - mean,
        }
    )


def _crosses(share: pd.Series, target: float) -> float | None:
    """The SNR at which a falling curve passes a value; None if it does not."""
    if not share.min() <= target <= share.max():
        return None
    return float(np.interp(-target, -share.to_numpy(), share.index.to_numpy()))


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """What the prior changes (a), and what the assignment changes (b to d)."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.7)
    _draw_priors(axes[0, 0], table, facts)
    for panel, which, quantity, unit in (
        (axes[0, 1], "box", "bits", 1.0),
        (axes[1, 0], "power", "bits", 1.0),
        (axes[1, 1], "box", "accuracy", 100.0),
    ):
        _draw_assignments(panel, table[table.panel == which], quantity, unit)
    for panel, letter, title in zip(axes.ravel(), "abcd", _titles(facts), strict=True):
        panel.set_title(rf"$\bf{{({letter})}}$  {title}", loc="left")
        panel.set_xlabel("average power / noise variance (dB)")
    for panel in (axes[0, 1], axes[1, 1]):
        panel.set_xlabel(AXIS_LABELS["snr_db"] + ", box [−1, 1]$^8$")
    figure.legend(
        *axes[0, 1].get_legend_handles_labels(), loc="outside lower center", ncols=3, title=KEY
    )
    return figure


#: What the colours of panels b to d say.
KEY = "which words get which points of FSQ $3^8$, against random (grey: range of random ones)"


def _titles(facts: dict[str, Any]) -> tuple[str, str, str, str]:
    def largest(panel: str, quantity: str) -> float:
        return max(abs(facts[f"same_{panel}: {rule}"][quantity]) for rule in NUMBER)

    half = facts["db_of_power_at_half_the_information"]
    pairs = [(half[f"{name}, {EQUAL}"], half[f"{name}, {KJV}"]) for name in (FSQ, E8, ONE_HOT)]
    shifts = [equal - words for equal, words in pairs if equal is not None and words is not None]
    return (
        f"word frequencies: {min(shifts):.1f} to {max(shifts):.1f} dB less do"
        if shifts
        else "what word frequencies change",
        f"same box: assignment moves H by {largest('box', CHANGE):.1f} bits",
        f"same power: {largest('power', CHANGE):.1f} bits, and the centre is best",
        f"same box: accuracy moves by {largest('box', POINTS):.0f} points",
    )


def _draw_priors(axes: Any, table: pd.DataFrame, facts: dict[str, Any]) -> None:
    rows = _panel_a(table)
    colours = {FSQ: COLOURS[0], E8: COLOURS[1], ONE_HOT: COLOURS[6]}
    dashes = {EQUAL: DASHES[0], ZIPF: DASHES[1], KJV: DASHES[2]}
    for (codebook, prior), part in rows.groupby(["codebook", "prior"]):
        share = part.groupby("snr_db").bits.mean() / facts[f"prior_entropy_bits_{prior}"]
        axes.plot(share.index, share, color=colours[codebook], linestyle=dashes[prior])
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    handles += [
        Line2D([], [], color="grey", linestyle=dash, label=name) for name, dash in dashes.items()
    ]
    axes.legend(handles=handles, loc="lower left")
    axes.axhline(0.5, color="grey", linewidth=0.6)
    axes.set(ylabel="share of the information lost", ylim=(0, 1.02))


def _draw_assignments(axes: Any, table: pd.DataFrame, quantity: str, unit: float) -> None:
    for rule, number in NUMBER.items():
        gap, style = _against_random(table, rule, quantity) * unit, line_style(number)
        reach = 1.96 * gap.error
        draw_interval(axes, gap.index, gap.gap - reach, gap.gap + reach, **style)
        axes.plot(gap.index, gap.gap, **style, label=rule)
    axes.fill_between(gap.index, gap.low, gap.high, color="grey", alpha=0.35, linewidth=0)
    axes.axhline(0, color=COLOURS[0])
    if quantity == "bits":
        axes.set_ylabel("change of H(token | Y) (bits)")
    else:
        axes.set_ylabel("change of accuracy (% points)")


EXPERIMENT = Experiment(
    name="unequal_priors",
    claim="With real token frequencies it matters which token sits where: in a box, frequent "
    "tokens belong at the corners; at equal average power, in the centre.",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"bits": "bits_error", "accuracy": "accuracy_error"},
)
