"""What tokens on spheres cost and are worth: `python -m benchmarks.spheres`, two minutes.

Shells of the Leech lattice and of E8, and BSQ, on independent normal coordinates of variance 1: a
code is decoded to itself times one length, the best. Rates are log2 K a coordinate, the bound is
Shannon's at that rate, and codes of equal power are compared in noise at a token error of 1 %.
Cuts in a box are in `figures/quantizers.png`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

import tokenkl as tk
from tokenkl.quantizers import LeechQuantizer

SAMPLES, ERROR = 2**13, 0.01
Nearest = Callable[[np.ndarray], np.ndarray]


def shells() -> dict[str, tuple[float, int, Nearest]]:
    """Name -> bits, n, and the nearest code of unit length."""
    found: dict[str, tuple[float, int, Nearest]] = {}
    for inner in (None, 0, 1, 2):
        module = LeechQuantizer(inner, bound="none")
        name = "Leech, all" if inner is None else f"Leech, inner product {inner}"
        found[name] = (math.log2(module.codebook_size), module.codebook_dim, _of_torch(module))
    roots = tk.PointCodebook(_e8_roots())
    found["E8, 240 roots"] = (math.log2(240), 8, lambda x: roots.points_at(roots.nearest(x)))
    found["BSQ, 24 bits"] = (24.0, 24, lambda x: np.where(x >= 0, 1, -1) / math.sqrt(24))
    return found


def _of_torch(module: LeechQuantizer) -> Nearest:
    return lambda x: module.nearest_codes(torch.from_numpy(x)).numpy()


def _e8_roots() -> np.ndarray:
    """The shortest vectors of E8, of length 1."""
    values = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 8, indexing="ij"), -1).reshape(-1, 8)
    values = values[np.square(values).sum(axis=1) == 8]
    even = (values % 2 == 0).all(axis=1) | ((values % 2 == 1).all(axis=1))
    return values[even & (values.sum(axis=1) % 4 == 0)] / math.sqrt(8)


def measured(bits: float, n: int, nearest: Nearest, rng: np.random.Generator) -> dict[str, float]:
    """In dB: distortion, how far from the bound, SNR at the error; microseconds a vector."""
    x = rng.standard_normal((SAMPLES, n))
    began = time.perf_counter()
    codes = nearest(x)
    each = (time.perf_counter() - began) / SAMPLES
    # |x - g c|^2 is least for g = mean x.c: the distortion a coordinate is 1 - g^2 / n.
    gain = float((x * codes).sum(axis=1).mean())
    distortion = 10 * math.log10(1 - gain**2 / n)
    noise = rng.standard_normal(codes.shape)

    def error(db: float) -> float:
        y = codes + noise * math.sqrt(10 ** (-db / 10) / n)
        return float((np.abs(nearest(y) - codes).max(axis=1) > 1e-9).mean())

    low, high = 0.0, 30.0
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) > ERROR else (low, middle)
    return {
        "bits a coordinate": bits / n,
        "distortion": distortion,
        "from the bound": distortion + 20 * math.log10(2) * bits / n,
        "SNR at 1 %": (low + high) / 2,
        "microseconds": 1e6 * each,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, (bits, n, nearest) in shells().items():
        row = measured(bits, n, nearest, np.random.default_rng(0))
        print(f"{name:24}", "  ".join(f"{key} {value:.2f}" for key, value in row.items()))
