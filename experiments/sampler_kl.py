"""What few sampling steps cost a tokenization, with the exact denoiser (claim C6 of the paper).

Path KL of the ancestral sampler for 6561 tokens in R^8, and the law of the token that DDIM produces
for 81 tokens. Nothing is learned here: what remains of a gap is due to geometry alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import tokenkl as tk
from experiments.harness import Experiment, Progress
from experiments.settings import Settings, increasing, least, most, setting
from tokenkl._random import generator
from tokenkl.plotting import COLOURS, MARKERS, PAGE, STYLE, draw_interval, line_style, new_figure
from tokenkl.samplers.grids import uniform_time_steps

FSQ, PERTURBED, PERMUTED = "FSQ base 3", "perturbed", "permuted"
VQ, LATTICE, ONE_HOT = "VQ, uniform data", "E8 cut", "one-hot"
NUMBER = {FSQ: 0, PERTURBED: 3, PERMUTED: 5, VQ: 4, LATTICE: 1, ONE_HOT: 6}


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Codebooks, grids and effort. All SNRs are those of the box [-1, 1]^n."""

    seed: int = setting(20260614, "of all random numbers", least(0))
    start_db: float = setting(-30.0, "SNR where sampling starts, in dB", least(-100))
    stop_db: float = setting(20.0, "SNR where it stops, in dB", most(100))
    steps: tuple[int, ...] = setting(
        (4, 5, 8, 12, 16, 25, 50, 100, 250, 1000), "numbers of steps", least(1), increasing
    )
    samples: int = setting(2**14, "draws for each path KL", least(2))
    sd: float = setting(0.1, "standard deviation of the perturbed codebook", least(0.001))
    n: int = setting(8, "dimension, of 3^n tokens", least(1), most(8))
    data: int = setting(30_000, "vectors from which VQ learns", least(1))
    max_iter: int = setting(4, "most iterations of its k-means", least(1))
    token_n: int = setting(4, "dimension where tokens are produced", least(1), most(6))
    token_steps: tuple[int, ...] = setting(
        (2, 4, 8, 16, 25), "numbers of steps there", least(1), increasing
    )
    paths: int = setting(2**16, "tokens produced", least(2))
    bias_steps: tuple[int, ...] = setting(
        (2, 4, 8, 16, 32, 64, 128), "numbers of steps of the bias in (d)", least(1), increasing
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rising("start_db", "stop_db")


SMOKE = Config(
    steps=(4, 25), samples=64, n=3, data=300, max_iter=1, token_n=2, token_steps=(2, 4),
    paths=500, bias_steps=(2, 4),
)  # fmt: skip


def grid_of(config: Config, N: int) -> np.ndarray:
    """The paper's grid: uniform in the time of LinearVP, between two SNRs."""
    return uniform_time_steps(N, 10 ** (config.start_db / 10), 10 ** (config.stop_db / 10))


def codebooks(config: Config, n: int) -> dict[str, tk.Codebook]:
    """3^n tokens each; the E8 cut has 3^8 only."""
    fsq = tk.FSQ((3,) * n)
    data = generator(config.seed, n).uniform(-1, 1, (max(config.data, 4 * fsq.K), n))
    found: dict[str, tk.Codebook] = {
        FSQ: fsq,
        PERTURBED: tk.perturb(fsq, config.sd, config.seed, box=1.0),
        PERMUTED: tk.permute(fsq, config.seed),
        VQ: tk.vq_codebook(data, fsq.K, key=config.seed, max_iter=config.max_iter),
        ONE_HOT: tk.OneHot(fsq.K),
    }
    if n == 8:
        found[LATTICE] = tk.scale_to(tk.e8_codebook(), box=1.0)
    return found


def compute(config: Config, progress: Progress) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows of kinds `path`, `token` and `bias`."""
    books = codebooks(config, config.n)
    small = codebooks(config, config.token_n)
    total = len(books) + len(small) + 1
    parts = []
    grids = [grid_of(config, N) for N in config.steps]
    method = tk.MonteCarlo(n_samples=config.samples)
    for number, (name, book) in enumerate(books.items()):
        exact = name in (FSQ, ONE_HOT)
        # Every codebook is sampled with the same key: common noise makes gaps more precise.
        found = tk.ancestral_kl_curve(
            book, grids, method=None if exact else method, key=config.seed
        )
        parts.append(_rows("path", name, config.steps, found))
        progress(number + 1, total)
    for number, (name, book) in enumerate(small.items()):
        laws = [
            tk.produced_law(
                book,
                grid_of(config, N),
                method=None if name == FSQ else tk.MonteCarlo(n_samples=config.paths),
                key=config.seed + N,
            )
            for N in config.token_steps
        ]
        for kind, estimates in (
            ("token", [law.kl for law in laws]),
            ("variation", [law.total_variation for law in laws]),
        ):
            parts += [
                _rows(kind, name, (N,), one)
                for N, one in zip(config.token_steps, estimates, strict=True)
            ]
        progress(len(books) + number + 1, total)
    parts += _bias(config)
    progress(1, 1)
    table = pd.concat(parts, ignore_index=True)
    return table, _facts(table)


def _rows(kind: str, name: str, steps: tuple[int, ...], found: tk.Estimate) -> pd.DataFrame:
    low, high, _ = found.confidence_interval(0.95)
    return pd.DataFrame(
        {
            "kind": kind,
            "codebook": name,
            "x": np.array(steps, dtype=float),
            "value": found.value,
            "low": low,
            "high": high,
            "supported": np.broadcast_to(found.interval_supported, np.shape(steps)),
        }
    )


def _bias(config: Config) -> list[pd.DataFrame]:
    """How much too often the middle level of base 3 comes out, by sampler; and KL for base 2."""
    parts = []
    for sampler in ("ddim", "ddpm"):
        excess, two = [], []
        for N in config.bias_steps:
            grid = grid_of(config, N)
            law = tk.produced_law(tk.FSQ((3,)), grid, sampler=sampler)
            excess.append(float(law.probabilities[1]) - 1 / 3)
            base2 = tk.produced_law(tk.FSQ((2,)), grid, sampler=sampler)
            two.append(float(np.abs(base2.probabilities - 0.5).max()))
        for name, values in (("base 3", excess), ("base 2", two)):
            parts.append(
                pd.DataFrame(
                    {
                        "kind": "bias",
                        "codebook": f"{name}, {sampler.upper()}",
                        "x": np.array(config.bias_steps, dtype=float),
                        "value": values,
                    }
                )
            )
    return parts


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    path = table[table.kind == "path"].pivot(index="x", columns="codebook", values="value")
    ratio = path.div(path[FSQ], axis=0)
    gap = path[PERTURBED] - path[FSQ]
    token = table[table.kind == "token"]
    bias = table[(table.kind == "bias") & table.codebook.str.startswith("base 3")]
    two = table[(table.kind == "bias") & table.codebook.str.startswith("base 2")]
    return {
        "path_kl": {name: _by_steps(path[name]) for name in path},
        "path_kl_over_fsq": {name: _by_steps(ratio[name]) for name in ratio},
        "gap_perturbed_minus_fsq_nats": _by_steps(gap),
        "token_kl": {
            name: {str(int(row.x)): [row.value, row.low, row.high] for row in rows.itertuples()}
            for name, rows in token.groupby("codebook", sort=False)
        },
        "middle_excess": {
            name: _by_steps(rows.set_index("x")["value"])
            for name, rows in bias.groupby("codebook", sort=False)
        },
        "largest_bias_of_base_2": float(two.value.max()),
    }


def _by_steps(values: pd.Series) -> dict[str, float]:
    return {str(int(N)): float(value) for N, value in values.items()}


@mpl.rc_context(cast(Any, STYLE))
def plot(table: pd.DataFrame, facts: dict[str, Any]) -> Figure:
    """Path KL, its ratio to FSQ's, the produced token, and the bias of base 3."""
    figure, axes = new_figure(2, 2, width=PAGE, panel_height=2.5)
    _draw_path(axes[0, 0], axes[0, 1], table[table.kind == "path"])
    _draw_token(axes[1, 0], table[table.kind == "token"])
    _draw_bias(axes[1, 1], table[table.kind == "bias"])
    titles = (
        "6561 tokens: path KL falls like 1/N",
        "few steps: others are cheaper; many: FSQ",
        "81 tokens, DDIM: does the token's law fit?",
        "base 3 favours its middle by O(1/N)",
    )
    for panel, letter, title in zip(axes.ravel(), "abcd", titles, strict=True):
        panel.set_title(rf"$\bf{{({letter})}}$ {title}", loc="left")
        panel.set_xlabel("sampling steps N")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    return figure


def _draw_path(left: Any, right: Any, table: pd.DataFrame) -> None:
    fsq = table[table.codebook == FSQ].set_index("x").value
    for name, number in NUMBER.items():
        rows = table[table.codebook == name].set_index("x")
        if rows.empty:
            continue
        style = line_style(number)
        left.plot(rows.index, rows.value, **style, label=name)
        if name != ONE_HOT:
            right.plot(rows.index, rows.value / fsq, **style)
            draw_interval(right, rows.index, rows.low / fsq, rows.high / fsq, **style)
    left.set(xscale="log", yscale="log", ylabel="path KL (nats)")
    right.set(xscale="log", ylabel="path KL over FSQ's")


def _draw_token(axes: Any, table: pd.DataFrame) -> None:
    for name, number in NUMBER.items():
        rows = table[table.codebook == name]
        if rows.empty:
            continue
        style = line_style(number) | {"marker": MARKERS[number], "markersize": 3}
        lower = rows.low.clip(lower=1e-5)
        axes.plot(rows.x, rows.value.clip(lower=1e-5), **style)
        draw_interval(axes, rows.x, lower, rows.high, **style)
    steps = sorted(table.x.unique())
    axes.set(xscale="log", yscale="log", ylabel="KL(prior || produced) (nats)", ylim=(4e-5, None))
    axes.set_xticks(steps, [f"{N:g}" for N in steps])
    axes.minorticks_off()


def _draw_bias(axes: Any, table: pd.DataFrame) -> None:
    for index, (name, rows) in enumerate(table.groupby("codebook", sort=False)):
        if not str(name).startswith("base 3"):
            continue
        axes.plot(rows.x, rows.value, "o-", color=COLOURS[index], markersize=3, label=name)
        last = rows.iloc[-1]
        axes.plot(rows.x, last.value * last.x / rows.x, ":", color="black", linewidth=1)
    axes.set(xscale="log", yscale="log", ylabel="probability of 0, minus 1/3")
    axes.legend(loc="lower left", title="dotted: 1/N; base 2: 0 at every N", title_fontsize=7)


EXPERIMENT = Experiment(
    name="sampler_kl",
    claim="With the exact denoiser the path KL of every tokenization falls like 1/N: absolute gaps "
    "close with the steps, ratios tend to constants. At few steps FSQ is not the cheapest.",
    config=Config(),
    smoke=SMOKE,
    compute=compute,
    plot=plot,
    errors={"value": ("low", "high")},
)
