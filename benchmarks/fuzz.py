"""Every theorem on random codebooks of every kind that nobody chose for comfort.

    python -m benchmarks.fuzz [--count 500] [--first 0]

Clusters, offsets, scales from 1e-150 to 1e150, priors down to 1e-300, SNRs from 1e-12 to 1e12 in
units of the codebook's own size. `faults` says what is wrong with one of them: a theorem that
`tokenkl.verify` finds violated (which samples every quantity a second time), a value that is not a
number, an exception, a warning, or more seconds than `PATIENCE`. Some are run by
`tests/verification/test_fuzz.py`.
"""

from __future__ import annotations

import argparse
import time
import traceback
import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from rich.progress import track

import tokenkl as tk
from tokenkl.cli import stopped
from tokenkl.codebooks.transforms import perturb

#: Seconds for one codebook at three noise levels.
PATIENCE = 180.0


def random_prior(rng: np.random.Generator, count: int) -> np.ndarray | None:
    """Equal, uneven, Zipf's, or with some probabilities down to 1e-300."""
    kind = rng.integers(4)
    if count == 1 or kind == 0:
        return None
    if kind == 1:
        prior = rng.dirichlet(np.full(count, 10.0 ** rng.uniform(-0.5, 1))) + 1e-12
    elif kind == 2:
        prior = 1 / np.arange(1, count + 1) ** rng.uniform(0.5, 3)
    else:
        prior = np.where(rng.random(count) < 0.5, 1.0, 10.0 ** rng.uniform(-300, -1, count))
        prior[rng.integers(count)] = 1.0
    return prior / prior.sum()


def random_levels(rng: np.random.Generator) -> np.ndarray:
    """One to six levels: scattered, at geometric steps, equispaced, or clustered."""
    count = int(rng.integers(1, 7))
    kind = rng.integers(4)
    if kind == 0:
        return np.sort(rng.standard_normal(count))
    if kind == 1:
        return np.cumsum(10.0 ** rng.uniform(-6, 1, count))
    if kind == 2:
        return np.linspace(-1, 1, count)
    near = 10.0 ** rng.uniform(-8, -1) * np.arange(count)
    return np.sort(rng.choice([0.0, 1.0, 3.0], count) + near)


def random_points(rng: np.random.Generator, n: int) -> np.ndarray:
    """Up to 60 points: Gaussian, in clusters of one or two scales, or with a few that coincide."""
    count = int(rng.integers(1, 61))
    points = rng.standard_normal((count, n))
    kind = rng.integers(4)
    if kind == 1:
        points = rng.standard_normal((4, n))[rng.integers(4, size=count)] + 1e-4 * points
    elif kind == 2:
        points = points * 10.0 ** rng.uniform(-6, 0, (count, 1))
    elif kind == 3:
        points = points[rng.integers(count, size=count)]
    return points


def random_codebook(seed: int) -> tuple[tk.Codebook, Float[np.ndarray, "3"]]:
    """A codebook and three SNRs for it."""
    rng = np.random.default_rng([7, seed])
    scale = 10.0 ** (rng.uniform(-150, 150) if rng.random() < 0.3 else rng.uniform(-3, 3))
    offset = 10.0 ** rng.uniform(-1, 6) if rng.random() < 0.3 else 0.0
    kind = seed % 8
    codebook: tk.Codebook
    if kind == 0:
        K = int(rng.integers(1, 200))
        codebook = tk.OneHot(K, random_prior(rng, K), scale)
    elif kind in (1, 2):
        levels = [random_levels(rng) for _ in range(rng.integers(1, 4))]
        levels = [scale * (np.unique(one) + offset) for one in levels]
        sizes = [one.size for one in levels]
        if kind == 1:
            codebook = tk.ProductCodebook(levels, [random_prior(rng, size) for size in sizes])
        else:
            codebook = tk.ProductCodebook(levels, prior=random_prior(rng, int(np.prod(sizes))))
    elif kind in (3, 4, 5):
        points = random_points(rng, (1, 2, int(rng.integers(3, 9)))[kind - 3])
        prior = random_prior(rng, len(points))
        codebook = tk.PointCodebook(scale * (points + offset), prior, allow_duplicates=True)
    elif kind == 6:
        n, sizes = int(rng.integers(1, 5)), rng.integers(1, 7, size=rng.integers(2, 4)).tolist()
        stages = [scale * 0.3**s * rng.standard_normal((size, n)) for s, size in enumerate(sizes)]
        priors = [random_prior(rng, int(size)) for size in sizes]
        priors = [
            np.full(size, 1 / size) if one is None else one
            for one, size in zip(priors, sizes, strict=True)
        ]
        given = priors if rng.random() < 0.5 else None
        codebook = tk.ResidualCodebook(stages, stage_priors=given)
    elif rng.random() < 0.5:
        codebook = tk.d_codebook(int(rng.integers(2, 5)), 3)
        scale = 1.0
    else:
        grid = tk.FSQ((3,) * int(rng.integers(1, 5)))
        codebook = perturb(grid, 10.0 ** rng.uniform(-9, 0), key=0)
        scale = 1.0
    reach = 12.0 if rng.random() < 0.5 else 3.0
    with np.errstate(over="ignore"):
        snr = 10.0 ** rng.uniform(-reach, reach, 3) / scale / scale
    return codebook, np.sort(snr[np.isfinite(snr) & (snr > 0)])


def faults(seed: int) -> list[str]:
    """What is wrong on the codebook of this seed; nothing, where all is well."""
    out: list[str] = []
    start = time.perf_counter()
    try:
        codebook, snr = random_codebook(seed)
        if not snr.size:
            return out
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            checks = tk.verify(codebook, snr, key=seed)
        for one in checks:
            if one.verdict == "fail" or not np.isfinite([one.left, one.right]).all():
                out.append(f"{one.theorem} at snr {one.snr:.3g}: {one.left!r}, {one.right!r}")
    except Exception:
        out.append(traceback.format_exc(limit=-3))
    seconds = time.perf_counter() - start
    if seconds > PATIENCE:
        out.append(f"{seconds:.0f} s")
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=500, help="codebooks")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    given = parser.parse_args(arguments)
    if given.count < 1 or given.first < 0:
        parser.error("--count must be at least 1 and --first at least 0")
    bad, seed = 0, given.first
    try:
        for seed in track(range(given.first, given.first + given.count), "codebooks"):
            found = faults(seed)
            bad += bool(found)
            for line in found:
                print(f"seed {seed}, {random_codebook(seed)[0]!r}: {line}", flush=True)
    except KeyboardInterrupt:
        done = seed - given.first
        print(f"{done} codebooks, {bad} with faults; --first {seed} goes on from there.")
        raise SystemExit(stopped()) from None
    print(f"{given.count} codebooks, {bad} with faults")


if __name__ == "__main__":
    main()
