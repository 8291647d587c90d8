"""Quantizers at equal numbers of tokens and coordinates: rate, distortion, usage, and noise.

FSQ (clipped, behind tanh as in its paper, behind the sigmoid of iFSQ), checkerboards, cuts of D_n+
and E8, BSQ, and k-means, on independent coordinates of three laws of variance 1. Every scalar or
lattice quantizer has the input scale that is best for it, and a decoder that takes each coordinate
of a code to its mean; k-means decodes to its centroids. Noise is added to codes of equal power, and
the nearest code is taken.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, among, least, setting
from tokenkl._random import generator
from tokenkl.plotting import COLOURS, PAGE, label_panels, new_figure

#: Name of a case -> quantizers: name, codebook, what is done to scaled inputs.
Quantizers = dict[str, tuple[tk.Codebook | None, str]]
SOURCES = ("normal", "Laplace", "uniform")
#: Entropy powers of the laws of variance 1, the least distortion at rate 0 in Shannon's bound.
ENTROPY_POWER = {
    "normal": 1.0,
    "Laplace": (math.sqrt(2) * math.e) ** 2 / (2 * math.pi * math.e),
    "uniform": 12 / (2 * math.pi * math.e),
}
BOUNDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda z: z,
    "tanh": np.tanh,
    "sigmoid": lambda z: np.tanh(0.8 * z),  # 2 / (1 + exp(-1.6 z)) - 1
    "sphere": lambda z: z / np.linalg.norm(z, axis=1, keepdims=True),
}
COLUMNS = (
    "case", "source", "quantizer", "K", "n", "scale", "bits", "usage", "distortion_db",
    "distortion_error", "from_bound_db", "noise_db", "noise_error",
)  # fmt: skip


def _case(name: str) -> Quantizers:
    if name == "1000 in 4":
        fsq, board = tk.FSQ((8, 5, 5, 5)), tk.Checkerboard((7, 7, 7, 6), spacing="equal")
        flat = tk.ProductCodebook([np.linspace(-L, L, L + 1) / 7 for L in (7, 4, 4, 4)])
        return {
            "FSQ 8x5x5x5, clipped": (fsq, "none"),
            "FSQ 8x5x5x5, tanh": (fsq, "tanh"),
            "FSQ 8x5x5x5, iFSQ": (fsq, "sigmoid"),
            "8x5x5x5, equal spacing": (flat, "none"),
            "FSQ 6x6x6x5, clipped": (tk.FSQ((6, 6, 6, 5)), "none"),
            "checkerboard 7x7x7x6": (board, "none"),
            "checkerboard, sigmoid": (board, "sigmoid"),
            "k-means": (None, "none"),
        }
    if name == "6561 in 8":
        fsq, cut = tk.FSQ((3,) * 8), tk.LatticeCodebook("D+", 3, 8)
        board = tk.Checkerboard((4, 4, 4, 3, 3, 3, 3, 3), spacing="equal")
        return {
            "FSQ 3^8, clipped": (fsq, "none"),
            "FSQ 3^8, tanh": (fsq, "tanh"),
            "FSQ 3^8, iFSQ": (fsq, "sigmoid"),
            "E8 cut": (cut, "none"),
            "E8 cut, sigmoid": (cut, "sigmoid"),
            "checkerboard 4x4x4x3^5": (board, "none"),
            "k-means": (None, "none"),
        }
    return {
        "FSQ 2^8": (tk.FSQ((2,) * 8), "none"),
        "BSQ": (tk.codebook("bsq:8"), "sphere"),
        "D8+ cut, 2 levels": (tk.LatticeCodebook("D+", 2, 8), "none"),
        "k-means": (None, "none"),
    }


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    cases: tuple[str, ...] = setting(
        ("1000 in 4", "6561 in 8", "256 in 8"),
        "which tokens and coordinates",
        among("1000 in 4", "6561 in 8", "256 in 8"),
    )
    sources: tuple[str, ...] = setting(SOURCES, "laws of coordinates", among(*SOURCES))
    samples: int = setting(2**16, "vectors, and as many again for decoders", least(2**8))
    noisy: int = setting(2**15, "of these, to which noise is added", least(2**8))
    scales: int = setting(19, "input scales that are tried", least(2))
    iterations: int = setting(12, "iterations of k-means", least(1))
    error: float = setting(0.01, "token error at which codes are compared in noise", least(1e-4))
    seed: int = setting(0, "seed of everything random", least(0))


SMOKE = Config(("256 in 8",), ("normal",), samples=2**12, scales=3, iterations=2, error=0.05)


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row for every case, law and quantizer."""
    rows: list[dict[str, Any]] = []
    todo = [
        (case, source, name)
        for case in config.cases
        for source in config.sources
        for name in _case(case)
    ]
    for place, (case, source, name) in enumerate(todo):
        progress(place, len(todo))
        codebook, bound = _case(case)[name]
        first = next(one for one, _ in _case(case).values() if one is not None)
        n, K = first.n, first.K
        rng = generator(config.seed, config.cases.index(case), SOURCES.index(source))
        train, test = (_draw(source, rng, (config.samples, n)) for _ in range(2))
        if codebook is None:
            codebook = _k_means(train, K, config.iterations)
        row = _measured(codebook, bound, train, test, config, name == "k-means")
        row |= {"case": case, "source": source, "quantizer": name, "K": codebook.K, "n": n}
        rate = row["bits"] / n
        least_db = 10 * math.log10(ENTROPY_POWER[source]) - 20 * math.log10(2) * rate
        rows.append(row | {"from_bound_db": row["distortion_db"] - least_db})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table, _facts(table)


def _draw(source: str, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    if source == "normal":
        return rng.standard_normal(shape)
    if source == "Laplace":
        return rng.laplace(scale=math.sqrt(0.5), size=shape)
    return math.sqrt(3) * rng.uniform(-1, 1, size=shape)


def _nearest(codebook: tk.Codebook) -> Callable[[np.ndarray], np.ndarray]:
    """Ids by the codebook's own decoder; a table's by all distances, in single precision."""
    if not isinstance(codebook, tk.PointCodebook):
        return codebook.nearest
    points = codebook.points.astype(np.float32)
    half = (points**2).sum(axis=1) / 2

    def nearest(x: np.ndarray) -> np.ndarray:
        blocks = np.array_split(x.astype(np.float32), max(1, len(x) // 1024))
        return np.concatenate([(half - one @ points.T).argmin(axis=1) for one in blocks])

    return nearest


def _k_means(x: np.ndarray, K: int, iterations: int) -> tk.PointCodebook:
    """Lloyd's algorithm from the first vectors; a centre that loses all of them stays."""
    centres = x[:K].copy()
    for _ in range(iterations):
        ids = _nearest(tk.PointCodebook(centres))(x)
        count = np.bincount(ids, minlength=K)
        for axis in range(x.shape[1]):
            total = np.bincount(ids, x[:, axis], K)
            centres[:, axis] = np.where(count > 0, total / np.maximum(count, 1), centres[:, axis])
    return tk.PointCodebook(centres, name="k-means")


def _measured(
    codebook: tk.Codebook,
    bound: str,
    train: np.ndarray,
    test: np.ndarray,
    config: Config,
    is_table: bool,
) -> dict[str, Any]:
    """Rate, usage, distortion with its standard error, and what noise the codes stand."""
    nearest, fit = _nearest(codebook), train[: max(len(train) // 8, 2**8)]

    def decoded(scale: float, learn: np.ndarray, use: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids of vectors, and what they are decoded to."""
        ids = nearest(BOUNDS[bound](scale * use))
        if is_table:
            return ids, codebook.points_at(ids)
        codes = codebook.points_at(nearest(BOUNDS[bound](scale * learn)))
        return ids, _by_coordinate(codes, learn, codebook.points_at(ids))

    def distortion(scale: float) -> float:
        return float(((decoded(scale, fit, fit)[1] - fit) ** 2).mean())

    scales = [1.0]
    if not is_table and bound != "sphere":
        scales = list(np.geomspace(0.15, 4.0, config.scales))
    scale = min(scales, key=distortion)
    ids, out = decoded(scale, train, test)
    each = ((out - test) ** 2).mean(axis=1)
    value, spread = float(each.mean()), float(each.std(ddof=1)) / len(each) ** 0.5
    counts = np.bincount(ids, minlength=codebook.K)
    nats = tk.entropy_of_counts(counts)
    db = 10 / math.log(10)
    noise, noise_error = _noise_stood(codebook, nearest, ids, config)
    return {
        "scale": scale,
        "bits": nats / math.log(2),
        "usage": math.exp(nats) / codebook.K,
        "distortion_db": db * math.log(value),
        "distortion_error": db * spread / value,
        "noise_db": noise,
        "noise_error": noise_error,
    }


def _by_coordinate(codes: np.ndarray, x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The mean of x for each value that a coordinate of a code takes; the code's own if unseen."""
    out = np.empty_like(wanted)
    for axis in range(codes.shape[1]):
        values = np.unique(np.round(np.append(codes[:, axis], wanted[:, axis]), 9))
        place = np.searchsorted(values, np.round(codes[:, axis], 9))
        total = np.bincount(place, x[:, axis], values.size)
        count = np.bincount(place, minlength=values.size)
        means = np.where(count > 0, total / np.maximum(count, 1), values)
        out[:, axis] = means[np.searchsorted(values, np.round(wanted[:, axis], 9))]
    return out


def _noise_stood(
    codebook: tk.Codebook,
    nearest: Callable[[np.ndarray], np.ndarray],
    ids: np.ndarray,
    config: Config,
) -> tuple[float, float]:
    """The power of the codes in use over that of the noise, in dB, at which the error is wanted.

    Tokens are as frequent as the source makes them; with a standard error.
    """
    ids = ids[: config.noisy]
    codes = codebook.points_at(ids)
    power = float(((codes - codes.mean(axis=0)) ** 2).mean())
    noise = generator(config.seed, 9).standard_normal(codes.shape)

    def error(db: float) -> float:
        y = codes + noise * math.sqrt(power / 10 ** (db / 10))
        return float((nearest(y) != ids).mean())

    low, high = 0.0, 40.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) > config.error else (low, middle)
    db = (low + high) / 2
    slope = math.log(max(error(db - 0.5), 1e-9) / max(error(db + 0.5), 1e-9))
    return db, 1 / math.sqrt(config.error * len(ids)) / max(slope, 1e-3)


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    """For every case and law: all quantizers, and how far they are from Shannon's bound."""
    out: dict[str, Any] = {}
    for (case, source), rows in table.groupby(["case", "source"], sort=False):
        out.setdefault(case, {})[source] = {
            row.quantizer: {
                "bits": row.bits,
                "usage": row.usage,
                "distortion_db": row.distortion_db,
                "from_bound_db": row.from_bound_db,
                "noise_db": row.noise_db,
            }
            for row in rows.itertuples()
        }
    return out


def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Distortion against the noise that codes stand, for every case and law."""
    cases = list(dict.fromkeys(table.case))
    sources = list(dict.fromkeys(table.source))
    figure, axes = new_figure(len(cases), len(sources), width=PAGE, panel_height=2.3)
    for row, case in enumerate(cases):
        names = list(dict.fromkeys(table[table.case == case].quantizer))
        for column, source in enumerate(sources):
            panel = axes[row, column]
            part = table[(table.case == case) & (table.source == source)]
            for one in part.itertuples():
                number = names.index(one.quantizer)
                panel.plot(
                    one.noise_db,
                    one.distortion_db,
                    marker="osD^vPX*"[number % 8],
                    color=COLOURS[number % len(COLOURS)],
                    linestyle="none",
                    label=one.quantizer,
                )
            panel.set_xlabel("SNR at the token error (dB)")
            if column == 0:
                panel.set_ylabel("distortion (dB)")
        beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0), "borderaxespad": 0.0}
        axes[row, -1].legend(fontsize=6, frameon=False, handletextpad=0.2, **beside)
    label_panels(
        axes,
        tuple(
            source if column else f"{case}D, {source}"
            for case in cases
            for column, source in enumerate(sources)
        ),
    )
    return figure


EXPERIMENT = Experiment(
    "quantizers",
    "At about as many tokens and coordinates, cuts of lattices distort normal and Laplace inputs "
    "less than FSQ, and stand 0.3 to 3.2 dB more noise at equal power; uniform inputs in eight "
    "dimensions FSQ distorts as little.",
    Config(),
    SMOKE,
    compute,
    plot,
    errors={"distortion_db": "distortion_error", "noise_db": "noise_error"},
)
