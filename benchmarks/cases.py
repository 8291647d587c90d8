"""Codebooks and noise levels that the jobs are about, and how large they are."""

from __future__ import annotations

import dataclasses

import numpy as np

import tokenkl as tk

QUANTITIES = ("accuracy", "conditional_entropy")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large jobs are; `FULL` is what is written down, `SMALL` shows that they work.

    Codebooks are given by levels, by tokens and coordinates, or by tokens. `target` is a standard
    error; `work` is samples times tokens for the kernel alone; errors of the large
    codebook fall from 0.08 to 8e-5 in the `middle`, in dB; a rival takes slices of about
    `slice_seconds`, and one run of ours at most about `longest` seconds.
    """

    grid: tuple[int, ...] = (3,) * 8
    large_grid: tuple[int, ...] = (17,) * 6
    high: tuple[int, int] = (4096, 64)
    large: tuple[int, int] = (65536, 16)
    onehot: int = 65536
    levels: int = 32
    many: int = 1000
    bulk: int = 10_000
    target: float = 1e-3
    work: int = 2**22
    slice_seconds: float = 2.0
    longest: float = 60.0
    rare_samples: int = 2000
    middle: tuple[float, float] = (7.0, 12.4)
    turns: int = 3
    least: float = 0.02
    #: Of `benchmarks.scaling`: samples of plain averages and with defaults; the first of a decade
    #: of tokens, coordinates, levels and targets; points of every fit.
    samples: tuple[int, int] = (1024, 4096)
    tokens: int = 1000
    coordinates: int = 8
    scaled_levels: int = 16
    scaled_target: float = 1e-2
    decade: float = 10.0
    points: int = 6


FULL = Sizes()
SMALL = Sizes(
    grid=(3,) * 3,
    large_grid=(5,) * 2,
    high=(48, 8),
    large=(64, 4),
    onehot=64,
    levels=6,
    many=40,
    bulk=50,
    target=0.02,
    work=2**10,
    slice_seconds=0.01,
    longest=0.05,
    rare_samples=64,
    middle=(10.0, 20.0),
    turns=1,
    points=5,
    least=1e-4,
    samples=(64, 1024),
    tokens=16,
    coordinates=2,
    scaled_levels=4,
    scaled_target=0.05,
    decade=3.0,
)


def perturbed(levels: tuple[int, ...]) -> tk.PointCodebook:
    """A grid whose points have moved by a tenth, so that nothing about it is exact."""
    label = f"perturbed FSQ {levels[0]}^{len(levels)}"
    return tk.PointCodebook(tk.perturb(tk.FSQ(levels), 0.1, 0).points, name=label)


def gaussian(K: int, n: int) -> tk.PointCodebook:
    """Normally distributed points."""
    points = np.random.default_rng(0).standard_normal((K, n))
    return tk.PointCodebook(points, name=f"VQ {K} x {n}")


def levels(codebook: tk.Codebook, count: int = 32) -> np.ndarray:
    """SNRs, even in decibels, from error about 0.99 to about 1e-3."""
    return even(ends(codebook), count)


def ends(codebook: tk.Codebook) -> tuple[float, float]:
    """Decibels at which the error is about 0.99, and about 1e-3."""
    decibels = np.arange(-20.0, 41.0, 2.0)
    method = tk.MonteCarlo(n_samples=512)
    error = tk.error_probability(codebook, 10 ** (decibels / 10), method=method, key=0)
    logs = np.log(np.maximum(np.asarray(error.value), 1e-9))
    low, high = (float(np.interp(-np.log(x), -logs, decibels)) for x in (0.99, 1e-3))
    return low, high


def even(decibels: tuple[float, float], count: int) -> np.ndarray:
    """So many SNRs, even in decibels."""
    return 10 ** (np.linspace(*decibels, count) / 10)
