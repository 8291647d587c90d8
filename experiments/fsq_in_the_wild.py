"""What published tokenizers' grids lose to noise, exactly: half-information noise levels.

Every tokenizer here is a product grid, so that every number is exact (one-dimensional quadrature),
also at 262,144 tokens. Priors are equal: token frequencies are not published with the level sets.

Two scales of noise. On the tokenizer's own grid, SNR is 1 over the noise variance in units of its
coordinates. Grids differ in spacing and offset ("rounding" grids of an even number of levels reach
-1 but not 1), so that comparisons use the SNR times the average power tr Cov, over n: the power of
a coordinate against its noise. That is the same for a grid shifted or scaled.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import optimize

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, least, most, setting
from tokenkl._validation import reject
from tokenkl.codebooks.product import power_notation
from tokenkl.plotting import PAGE, STYLE, label_panels, new_figure
from tokenkl.schedule import LinearVP

_FSQ = "Mentzer et al. 2023, Finite Scalar Quantization: VQ-VAE Made Simple, arXiv 2309.15505"


@dataclasses.dataclass(frozen=True)
class LevelSet:
    """The levels of one grid, who uses it, and where that is written.

    `tokenizers` that quantise in several groups use one such grid for each group. `source` says
    where the level set and the grid convention were read.
    """

    tokenizers: str
    levels: tuple[int, ...]
    grid: Literal["symmetric", "rounding"] | None
    citation: str
    source: str


LEVEL_SETS = (
    LevelSet(
        "MAGVIT-v2 (LFQ)",
        (2,) * 18,
        "symmetric",
        "Yu et al. 2023, Language Model Beats Diffusion, arXiv 2310.05737",
        "paper: 2^18 codes, the sign of each coordinate",
    ),
    LevelSet(
        "CosyVoice 2",
        (3,) * 8,
        "rounding",
        "Du et al. 2024, CosyVoice 2, arXiv 2412.10117",
        "xingchensong/S3Tokenizer: FSQCodebook(dim=8, level=3); odd, so both grids agree",
    ),
    LevelSet(
        "X-codec 2, NeuCodec",
        (4,) * 8,
        "rounding",
        "Ye et al. 2025, Llasa, arXiv 2502.04128; Julian et al. 2025, Finite Scalar Quantization "
        "Enables Redundant and Transmission-Robust Neural Audio Compression, arXiv 2509.09550",
        "code of both: vector-quantize-pytorch ResidualFSQ(levels=[4] * 8, num_quantizers=1)",
    ),
    LevelSet(
        "FSQ 2^12",
        (7, 5, 5, 5, 5),
        "rounding",
        _FSQ,
        "paper, table 1; grid as in its appendix A.1",
    ),
    LevelSet(
        "FSQ 2^10, NeMo audio and mel codecs",
        (8, 5, 5, 5),
        "rounding",
        f"{_FSQ}; Langman et al. 2024, Spectral Codecs, arXiv 2406.05298",
        "paper, table 1; model cards nvidia/audio-codec-22khz, nvidia/mel-codec-44khz; NeMo "
        "divides rounded codes by L // 2",
    ),
    LevelSet(
        "Stable Codec, 400 bit/s",
        (6,) * 6,
        "symmetric",
        "Parker et al. 2024, Scaling Transformers for Low-Bitrate High-Quality Speech Coding, "
        "arXiv 2411.19842",
        "Stability-AI/stable-codec: preset 1x46656_400bps; DitheredFSQ has step 2/(L - 1)",
    ),
    LevelSet(
        "FSQ 2^8",
        (8, 6, 5),
        "rounding",
        _FSQ,
        "paper, table 1; grid as in its appendix A.1",
    ),
    LevelSet(
        "FSQ 2^16, Cosmos, FlexTok",
        (8, 8, 8, 5, 5, 5),
        "rounding",
        f"{_FSQ}; NVIDIA 2025, Cosmos World Foundation Model Platform, arXiv 2501.03575; "
        "Bachmann et al. 2025, FlexTok, arXiv 2502.13967",
        "paper, table 1; NVIDIA/Cosmos-Tokenizer networks/configs.py; flextok.epfl.ch",
    ),
    LevelSet(
        "Low Frame-rate Speech Codec",
        (8, 7, 6, 6),
        "rounding",
        "Casanova et al. 2024, Low Frame-rate Speech Codec, arXiv 2409.12117",
        "model card nvidia/low-frame-rate-speech-codec-22khz; grid as in NeMo",
    ),
    LevelSet(
        "FSQ 2^14",
        (8, 8, 8, 6, 5),
        "rounding",
        _FSQ,
        "paper, table 1; grid as in its appendix A.1",
    ),
    LevelSet(
        "NanoCodec, 0.6 kbit/s",
        (9, 8, 8, 7),
        "rounding",
        "Casanova et al. 2025, NanoCodec, arXiv 2508.05835",
        "model card nvidia/nemo-nano-codec-22khz-0.6kbps-12.5fps; grid as in NeMo",
    ),
    LevelSet(
        "17 levels, six times",
        (17,) * 6,
        "symmetric",
        "Parker et al. 2024, Scaling Transformers for Low-Bitrate High-Quality Speech Coding, "
        "arXiv 2411.19842",
        "unverified: the set was named to us without a source, and its attribution to this "
        "paper is from memory",
    ),
)


def _own_grid(name: str, spec: Any) -> None:
    """Formulas are exact for a grid, and the figure's bits are those of equal priors."""
    if spec:
        try:
            grid = tk.codebook(spec).as_grid
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if grid is None or not grid.has_equal_priors or grid.K < 2:
            reject(name, spec, "a grid of levels with equal priors, such as fsq:8,5,5,5")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """The grid of SNRs, in decibels on the tokenizer's own grid, and one tokenizer more."""

    snr_db_low: float = setting(-24.0, "lowest SNR, in dB", least(-100))
    snr_db_high: float = setting(38.0, "highest SNR, in dB", most(100))
    snr_points: int = setting(125, "noise levels", least(2))
    own: str = setting("", "one tokenizer more, such as fsq:8,5,5,5 or a file", _own_grid)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising("snr_db_low", "snr_db_high")


SMOKE = Config(snr_points=14)


def codebook_of(entry: LevelSet) -> tk.ProductCodebook:
    """The grid of a level set, with equal priors."""
    return tk.FSQ(entry.levels, grid=cast(Any, entry.grid))


def grids(config: Config) -> dict[LevelSet, tk.ProductCodebook]:
    """The published ones, and the one that was asked for."""
    found = {entry: codebook_of(entry) for entry in LEVEL_SETS}
    if config.own:
        grid = cast(tk.ProductCodebook, tk.codebook(config.own).as_grid)
        shape = tuple(len(levels) for levels in grid.levels)
        found[LevelSet("own grid", shape, None, "", f"own={config.own}")] = grid
    return found


def half_information_snr(codebook: tk.Codebook) -> float:
    """The snr at which I(token; Y) is half the entropy of the prior."""
    half = float(codebook.prior_entropy()) / 2

    def excess(log_snr: float) -> float:
        return float(tk.mutual_information(codebook, math.exp(log_snr)).value) - half

    # Information grows from 0 to the whole entropy; the brackets are e^-20 and e^20.
    return math.exp(optimize.brentq(excess, -20.0, 20.0, xtol=1e-13))


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows: level sets x SNRs, information in bits; facts: one summary for each level set."""
    snr = 10 ** (np.linspace(config.snr_db_low, config.snr_db_high, config.snr_points) / 10)
    frames, summaries = [], []
    books = grids(config)
    for index, (entry, codebook) in enumerate(books.items()):
        progress(index, len(books))
        summary = _summary(index, entry, codebook)
        summaries.append(summary)
        profile = tk.profile(codebook, snr)
        frame = pd.DataFrame(
            {
                "number": summary["number"],
                "tokenizers": entry.tokenizers,
                "levels": str(list(entry.levels)),
                "grid": entry.grid,
                "K": codebook.K,
                "n": codebook.n,
                "bits": summary["bits"],
                "snr_db": profile.snr_db,
                "coordinate_snr_db": profile.snr_db
                + 10 * math.log10(summary["average_power"] / codebook.n),
                "accuracy": profile["accuracy"].value,
                "error_probability": profile["error_probability"].value,
                "conditional_entropy_bits": profile["conditional_entropy"].bits.value,
                "mutual_information_bits": profile["mutual_information"].bits.value,
                "information_fraction": profile["mutual_information"].bits.value / summary["bits"],
                "mmse": profile["mmse"].value,
                "mmse_over_power": profile["mmse"].value / summary["average_power"],
                "largest_numerical_error": np.max(
                    [estimate.numerical_error for estimate in profile.estimates.values()], axis=0
                ),
                "citation": entry.citation,
                "source": entry.source,
            }
        )
        frames.append(frame)
    progress(1, 1)
    table = pd.concat(frames, ignore_index=True)
    excess = [summary["above_gaussian_bound_db"] for summary in summaries]
    return table, {
        "prior": "equal",
        "units": "snr_db: own grid; coordinate snr: snr times average power over n; dB and bits",
        "smallest_excess_over_gaussian_bound_db": min(excess),
        "largest_excess_over_gaussian_bound_db": max(excess),
        "summary": summaries,
    }


def _summary(index: int, entry: LevelSet, codebook: tk.ProductCodebook) -> dict[str, Any]:
    """The numbers of one tokenizer that a document quotes."""
    bits = math.log2(codebook.K)
    power = tk.average_power(codebook)
    snr = half_information_snr(codebook)
    coordinate_snr = snr * power / codebook.n
    # A Gaussian input of this power carries (n/2) log2(1 + snr P/n) bits, and no input more.
    bound = 2 ** (bits / codebook.n) - 1
    return {
        "number": index + 1,
        "tokenizers": entry.tokenizers,
        "levels": list(entry.levels),
        "grid": entry.grid,
        "K": codebook.K,
        "n": codebook.n,
        "bits": bits,
        "bits_per_coordinate": bits / codebook.n,
        "average_power": power,
        "half_information_snr_db": 10 * math.log10(snr),
        "half_information_snr_times_power_db": 10 * math.log10(snr * power),
        "half_information_coordinate_snr_db": 10 * math.log10(coordinate_snr),
        "gaussian_bound_coordinate_snr_db": 10 * math.log10(bound),
        "above_gaussian_bound_db": 10 * math.log10(coordinate_snr / bound),
        "half_information_t_linear_vp": float(LinearVP().t_from_snr(snr)),
        "accuracy_at_half_information": float(tk.accuracy(codebook, snr).value),
        "mmse_over_power_at_half_information": float(tk.mmse(codebook, snr).value) / power,
        "citation": entry.citation,
        "source": entry.source,
    }


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Information against noise on the own grid, and what decides the half-way point."""
    figure, axes = new_figure(1, 2, width=PAGE, panel_height=3.9)
    # Dark for few bits a coordinate, light for many; the marks carry numbers as well.
    shades = mpl.colormaps["viridis"]
    rates = [summary["bits_per_coordinate"] for summary in facts["summary"]]
    colours = [shades(0.9 * (rate - min(rates)) / (max(rates) - min(rates))) for rate in rates]
    _draw_information(axes[0, 0], table, facts, colours)
    _draw_half_way(axes[0, 1], facts, colours)
    label_panels(
        axes,
        (
            "one schedule, very different losses",
            "bits per coordinate decide the half-way SNR",
        ),
    )
    handles = [
        mpl.lines.Line2D([], [], color=colour, marker="o", markersize=5, linewidth=1.3)
        for colour in colours
    ]
    names = [
        f"{summary['number']}  {_tex(summary['tokenizers'])}: "
        f"{_tex(power_notation(summary['levels']))} = {summary['bits']:.1f} bits"
        for summary in facts["summary"]
    ]
    figure.legend(
        handles, names, loc="outside lower center", ncols=2, fontsize=7, columnspacing=1.5
    )
    return figure


def _tex(text: str) -> str:
    """2^18 with a raised exponent, 8x5x5x5 with multiplication signs."""
    words = []
    for word in text.split(" "):
        if "^" in word:
            base, exponent = word.split("^")
            comma = "," if exponent.endswith(",") else ""
            words.append(f"${base}^{{{exponent.rstrip(',')}}}${comma}")
        else:
            words.append(word.replace("x", "×") if word[:1].isdigit() else word)
    return " ".join(words)


def _draw_information(
    panel: Axes, table: pd.DataFrame, facts: dict[str, Any], colours: list[Any]
) -> None:
    for summary, colour in zip(facts["summary"], colours, strict=True):
        rows = table[table["number"] == summary["number"]]
        panel.plot(rows["snr_db"], rows["information_fraction"], color=colour, linewidth=1.1)
        panel.plot(summary["half_information_snr_db"], 0.5, color=colour, marker="o", markersize=4)
    panel.axhline(0.5, color="#000000", linewidth=0.6, zorder=1)
    ends = sorted(facts["summary"], key=lambda summary: summary["half_information_snr_db"])
    for summary, side in ((ends[0], -1), (ends[-1], 1)):
        t = summary["half_information_t_linear_vp"]
        panel.annotate(
            f"{summary['number']}: {summary['half_information_snr_db']:.1f} dB\n"
            f"(LinearVP: t = {t:.2g})",
            (summary["half_information_snr_db"], 0.5),
            # Beside the first curve on its left, below the last one on its right.
            xytext=(4 * side, -side * (40 if side > 0 else 4)),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="top" if side > 0 else "bottom",
            fontsize=7,
        )
    panel.set(xlim=(table["snr_db"].min(), table["snr_db"].max()), ylim=(0, 1.02))
    panel.set_xlabel("SNR on the tokenizer's own grid (dB)")
    panel.set_ylabel("share of the token's bits that Y still holds")


def _draw_half_way(panel: Axes, facts: dict[str, Any], colours: list[Any]) -> None:
    rates = np.linspace(0.8, 4.3, 100)
    panel.plot(rates, 10 * np.log10(2**rates - 1), color="#000000", linewidth=1.0)
    panel.annotate(
        "no codebook of equal power\ncan lie below this line\n(Gaussian capacity)",
        (2.2, 10 * np.log10(2**2.2 - 1)),
        xytext=(14, -18),
        textcoords="offset points",
        va="top",
        fontsize=7,
    )
    for summary, colour in zip(facts["summary"], colours, strict=True):
        x, y = summary["bits_per_coordinate"], summary["half_information_coordinate_snr_db"]
        panel.plot(x, y, color=colour, marker="o", markersize=5)
        panel.annotate(
            str(summary["number"]),
            (x, y),
            # Neighbours crowd: every second number goes below the line.
            xytext=(-5, 4) if summary["number"] % 2 else (7, -11),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    panel.set_xlim(0.8, 4.3)
    panel.set_ylim(bottom=-1.5)
    panel.set_xlabel("bits per coordinate, $\\log_2(K)/n$")
    panel.set_ylabel("SNR of a coordinate at half information (dB)")
    panel.text(
        0.03,
        0.97,
        f"{facts['smallest_excess_over_gaussian_bound_db']:.2f} to "
        f"{facts['largest_excess_over_gaussian_bound_db']:.2f} dB above the line",
        transform=panel.transAxes,
        va="top",
        fontsize=7,
    )


EXPERIMENT = Experiment(
    name="fsq_in_the_wild",
    claim=(
        "Published FSQ tokenizers lose half of a token's information at noise levels set almost "
        "entirely by their bits per coordinate."
    ),
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
)
