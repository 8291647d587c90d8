"""How often intervals hold on random codebooks that nobody chose for comfort.

Run as `python -m benchmarks.coverage_random`. Up to a dozen tokens on a line, some of them in
clusters, twice at one place, or far from 0, with priors from even to nearly certain and tokens down
to 1e-12; everything is sampled, and compared with exact values by quadrature. A codebook is the
number of its random numbers, and keys count from 0. For every number of samples: in how many of all
levels, quantities and keys an interval did not hold, at 95 % and at a level where none of them
should miss, and the worst cell. Every codebook is written when it is done, and a study that was
interrupted goes on. Writes benchmarks/results/coverage_random.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import tokenkl as tk
from tokenkl._files import atomic_path

RESULTS = Path(__file__).parent / "results" / "coverage_random.json"
QUANTITIES = ("accuracy", "conditional_entropy", "mutual_information", "mmse")
KINDS = ("cloud", "offset", "clusters", "near and far", "twice")
SAMPLES = (512, 4096, 16384)
LEVELS = (0.95, 1 - 1e-6)
KEYS, NOISE_LEVELS = 10, 6


def random_codebook(number: int) -> tuple[str, tk.PointCodebook, np.ndarray]:
    """A kind, a codebook of that kind, and SNRs."""
    rng = np.random.default_rng(number)
    kind, K = KINDS[number % len(KINDS)], int(rng.integers(3, 13))
    line = rng.standard_normal((K, 1))
    if kind == "offset":
        line += 10.0 ** rng.integers(1, 7)
    elif kind == "clusters":
        line = line * 10.0 ** -rng.integers(1, 5) + 3.0 * rng.integers(0, 2, (K, 1))
    elif kind == "near and far":
        line = line * 10.0 ** -rng.integers(1, 4) + rng.uniform(0.5, 4) * rng.integers(0, 3, (K, 1))
    elif kind == "twice":
        line[1] = line[0]
    prior = np.maximum(rng.dirichlet(np.full(K, 10.0 ** rng.uniform(-1.7, 0))), 1e-12)
    snr = np.sort(10.0 ** rng.uniform(-3, 2, NOISE_LEVELS)) / np.var(line)
    return kind, tk.PointCodebook(line, prior / prior.sum(), allow_duplicates=True), snr


def misses(number: int, samples: int) -> dict[str, Any]:
    """Of every cell, a quantity at an SNR, how many of the keys have an interval without truth."""
    kind, codebook, snr = random_codebook(number)
    exact = tk.profile(codebook, snr, QUANTITIES, method=tk.Exact())
    missed = np.zeros((len(LEVELS), len(QUANTITIES), snr.size), dtype=int)
    for key in range(KEYS):
        method = tk.MonteCarlo(samples)
        found = tk.profile(codebook, snr, QUANTITIES, method=method, key=key)
        for row, level in enumerate(LEVELS):
            for column, name in enumerate(QUANTITIES):
                low, high, _ = found[name].confidence_interval(level)
                # What sixteen digits cannot tell is no error of sampling.
                slack = exact[name].numerical_error + 1e-10 * np.abs(exact[name].value)
                slack = slack + (0 if name == "mmse" else 1e-15)
                truth = exact[name].value
                missed[row, column] += (truth < low - slack) | (truth > high + slack)
    return {"number": number, "kind": kind, "samples": samples, "missed": missed.tolist()}


def show(rows: list[dict[str, Any]]) -> None:
    """Per cent of all intervals that did not hold, and the worst cell of all."""
    table = Table("samples", "codebooks", *(f"{level:.7g}" for level in LEVELS), "worst cell")
    for samples in SAMPLES:
        missed = np.array([row["missed"] for row in rows if row["samples"] == samples])
        if missed.size:
            share = 100 * missed.mean(axis=(0, 2, 3)) / KEYS
            worst = f"{missed[:, 0].max()} of {KEYS}, {missed[:, 1].max()} of {KEYS}"
            table.add_row(f"{samples}", f"{len(missed)}", *(f"{x:.3f} %" for x in share), worst)
    Console().print(table)


def main(codebooks: int = 150) -> None:
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    done = {(row["number"], row["samples"]) for row in rows}
    jobs = [(n, SAMPLES[n // len(KINDS) % len(SAMPLES)]) for n in range(codebooks)]
    wanted = [job for job in jobs if job not in done]
    for job in track(wanted, "codebooks", console=Console(stderr=True)):
        rows.append(misses(*job))
        RESULTS.parent.mkdir(exist_ok=True)
        with atomic_path(RESULTS) as path:
            path.write_text(json.dumps({"keys": KEYS, "levels": LEVELS, "rows": rows}) + "\n")
    show(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage_random")
    parser.add_argument("codebooks", type=int, nargs="?", default=150, help="how many of them")
    try:
        main(parser.parse_args().codebooks)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
