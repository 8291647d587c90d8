"""How often 95 % intervals of rare errors cover: `python -m benchmarks.coverage_rare`.

Codebooks with exact answers are handed over as plain points, so that they are sampled, through the
public API and with its default method. For every error probability and quantity the row says how
often the interval held the exact value, and how large the numerical error is beside the standard
error: where it is above a fifth, the interval is meant to be conservative. Writes
benchmarks/results/coverage_rare.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy import optimize, stats

import tokenkl as tk
from tokenkl._files import atomic_path

RESULTS = Path(__file__).parent / "results" / "coverage_rare.json"
ERRORS = (1e-3, 1e-6, 1e-9, 5e-2)
QUANTITIES = ("accuracy", "error_probability", "conditional_entropy", "mmse")
LEVEL = 0.95
#: A numerical error above this part of the standard error widens the interval visibly.
DOMINATES = 0.2


def zipf(K: int) -> np.ndarray:
    """Probabilities proportional to 1 / rank."""
    weight = 1 / np.arange(1, K + 1)
    return weight / weight.sum()


def rotation(n: int) -> np.ndarray:
    """A random rotation of R^n, always the same."""
    q, _ = np.linalg.qr(np.random.default_rng(n).standard_normal((n, n)))
    return q


def cases() -> dict[str, tuple[tk.Codebook, np.ndarray]]:
    """Codebooks with exact answers, and the points that are sampled instead."""
    uneven = tk.ProductCodebook([[-1.0, 0.0, 1.03], [-1.0, 0.1, 1.2], [0.0, 1.0, 2.1]])
    skewed = tk.ProductCodebook(
        [[-1.0, 0.0, 1.03], [-1.0, 0.1, 1.2], [0.0, 1.0]],
        [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.7, 0.3]],
    )
    cube, ternary = tk.FSQ((2, 2, 2)), tk.FSQ((3, 3, 3))
    biased = tk.FSQ((2,) * 4, priors=[zipf(2)] * 4)
    zipf_grid = tk.FSQ((3, 4, 2), priors=[zipf(3), zipf(4), zipf(2)])
    simplex, zipf_simplex = tk.OneHot(8), tk.OneHot(16, zipf(16))
    return {
        "cube 2^3": (cube, cube.points),
        "simplex K = 8": (simplex, np.eye(8)),
        "FSQ 3 x 4 x 2, rotated, Zipf": (zipf_grid, zipf_grid.points @ rotation(3)),
        "simplex K = 16, Zipf": (zipf_simplex, np.eye(16)),
        "FSQ 3^3, rotated": (ternary, ternary.points @ rotation(3)),
        "cube 2^4, Zipf": (biased, biased.points),
        "uneven grid 3^3": (uneven, uneven.points),
        "grid 3 x 3 x 2, skewed prior": (skewed, skewed.points),
    }


def snr_at(codebook: tk.Codebook, error: float) -> float:
    """Where an exactly solvable codebook has this error probability."""

    def gap(log_snr: float) -> float:
        found = float(tk.error_probability(codebook, np.exp(log_snr)))
        return np.log(max(found, 1e-300)) - np.log(error)

    return float(np.exp(optimize.brentq(gap, -5, 10)))


def coverage(
    exact: tk.Codebook, points: np.ndarray, error: float, runs: int
) -> list[dict[str, Any]]:
    """One row for every quantity, from `runs` independent keys."""
    snr = snr_at(exact, error)
    codebook = tk.PointCodebook(points, None if exact.has_equal_priors else exact.prior)
    answers = tk.profile(exact, snr, QUANTITIES)
    hits, method = dict.fromkeys(QUANTITIES, 0), ""
    ratio: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    errors: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for key in range(runs):
        found = tk.profile(codebook, snr, QUANTITIES, key=key)
        for name in QUANTITIES:
            estimate, truth = found[name], answers[name]
            low, high, _ = estimate.confidence_interval(LEVEL)
            slack = float(truth.numerical_error)
            hits[name] += int(low - slack <= truth.value <= high + slack)
            errors[name].append(float(estimate.standard_error))
            tiny = np.finfo(float).tiny
            ratio[name].append(float(estimate.numerical_error / max(errors[name][-1], tiny)))
        method = found[QUANTITIES[0]].method
    rows = []
    for name in QUANTITIES:
        middle = float(np.median(ratio[name]))
        low, high = stats.binomtest(hits[name], runs).proportion_ci(0.95)
        rows.append(
            {
                "error_probability": error,
                "snr": snr,
                "quantity": name,
                "method": method,
                "runs": runs,
                "coverage": hits[name] / runs,
                "coverage_interval": [float(low), float(high)],
                "relative_standard_error": float(
                    np.median(errors[name]) / abs(float(answers[name].value))
                ),
                "numerical_over_standard_error": middle,
                "numerical_error_dominates": middle > DOMINATES,
            }
        )
    return rows


def show(console: Console, row: dict[str, Any]) -> None:
    console.print(
        f"{row['codebook']:32}{row['error_probability']:<7g}{row['quantity']:20}"
        f"{row['coverage']:.3f}  SE/value {row['relative_standard_error']:.1e}"
        f"  numerical/SE {row['numerical_over_standard_error']:.1e}  {row['method']}",
        highlight=False,
        soft_wrap=True,
    )


def main(runs: int = 1000, only: str = "") -> None:
    """Every cell that is not stored yet, or those whose codebook's name holds `only`."""
    console = Console()
    rows: list[dict[str, Any]] = []
    if RESULTS.exists():
        rows = json.loads(RESULTS.read_text())["cells"]
    stored = {(row["codebook"], row["error_probability"]) for row in rows if row["runs"] >= runs}
    cells = [(label, error) for error in ERRORS for label in cases() if only in label]
    cells = [cell for cell in cells if cell not in stored]
    for label, error in track(cells, "coverage", console=console):
        exact, points = cases()[label]
        found = [{"codebook": label} | row for row in coverage(exact, points, error, runs)]
        for row in found:
            show(console, row)
        kept = [r for r in rows if (r["codebook"], r["error_probability"]) != (label, error)]
        rows = kept + found
        RESULTS.parent.mkdir(exist_ok=True)
        with atomic_path(RESULTS) as path:
            path.write_text(json.dumps({"level": LEVEL, "cells": rows}, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(int(sys.argv[1]), *sys.argv[2:])
    else:
        main()
