"""How often 95 % intervals hold where one token is nearly certain.

Run as `python -m benchmarks.coverage_near_certain`. A grid of 3 x 3 whose likeliest levels leave a
small mass to the others is handed over as rotated plain points, so that it is sampled; the exact
answers come from the grid, by quadrature along each coordinate. Keys are the numbers of the runs.
For every mass, noise level and quantity: in how many runs a central-limit interval was claimed, in
how many of those it held the exact value, and how often whatever interval was given held it. Every
mass is written when it is done, and a study that was interrupted goes on with the next one. Writes
benchmarks/results/coverage_near_certain.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

import tokenkl as tk
from tokenkl._files import atomic_path

RESULTS = Path(__file__).parent / "results" / "coverage_near_certain.json"
#: What all other levels of a coordinate have together.
MASSES = (1e-6, 1e-4, 1e-3, 3e-3, 5e-3, 1e-2, 2e-2, 5e-2)
#: Square roots of SNRs.
ROOTS = (0.3, 1.0, 2.0, 3.0, 4.0, 6.0)
QUANTITIES = ("accuracy", "conditional_entropy", "mutual_information", "mmse")
SAMPLES, LEVEL = 4096, 0.95


def near_certain(mass: float) -> tuple[tk.ProductCodebook, tk.PointCodebook]:
    """The grid, with its exact answers, and its points, rotated."""
    priors = [[1 - mass, mass / 2, mass / 2], [1 - mass, 0.6 * mass, 0.4 * mass]]
    grid = tk.ProductCodebook([[0.0, 1.0, 2.2], [0.0, 0.7, 1.5]], priors)
    turn = stats.ortho_group.rvs(2, random_state=0)
    return grid, tk.PointCodebook(grid.points @ turn, grid.prior)


def coverage(mass: float, runs: int) -> list[dict[str, Any]]:
    """One row for every level and quantity."""
    grid, points = near_certain(mass)
    snr = np.square(ROOTS)
    exact = tk.profile(grid, snr, QUANTITIES)
    claimed, held, any_held = np.zeros((3, len(QUANTITIES), snr.size), dtype=int)
    for key in track(range(runs), f"mass {mass:g}", console=Console(stderr=True)):
        method = tk.MonteCarlo(n_samples=SAMPLES)
        found = tk.profile(points, snr, QUANTITIES, method=method, key=key)
        for row, name in enumerate(QUANTITIES):
            low, high, _ = found[name].confidence_interval(LEVEL)
            answer, slack = exact[name].value, exact[name].numerical_error
            holds = (low <= answer + slack) & (answer - slack <= high)
            central = np.broadcast_to(found[name].interval_supported, snr.shape)
            claimed[row] += central
            held[row] += central & holds
            any_held[row] += holds
    return [
        {
            "mass": mass,
            "root": root,
            "quantity": name,
            "runs": runs,
            "claimed": int(claimed[row, column]),
            "held": int(held[row, column]),
            "any_held": int(any_held[row, column]),
        }
        for row, name in enumerate(QUANTITIES)
        for column, root in enumerate(ROOTS)
    ]


def show(cells: list[dict[str, Any]]) -> None:
    """Per cent of the claimed intervals that held, behind them in how many runs one was claimed."""
    table = Table("mass", "quantity", *(f"{root:g}" for root in ROOTS))
    for mass in MASSES:
        for name in QUANTITIES:
            row = [c for c in cells if c["mass"] == mass and c["quantity"] == name]
            shown = (
                f"{100 * c['held'] / c['claimed']:.0f} of {c['claimed']}" if c["claimed"] else "-"
                for c in row
            )
            if row:
                table.add_row(f"{mass:g}", name, *shown)
    Console(width=120).print(table)


def main(runs: int = 400) -> None:
    cells = json.loads(RESULTS.read_text())["cells"] if RESULTS.exists() else []
    for mass in MASSES:
        if any(cell["mass"] == mass and cell["runs"] >= runs for cell in cells):
            continue
        cells = [cell for cell in cells if cell["mass"] != mass] + coverage(mass, runs)
        RESULTS.parent.mkdir(exist_ok=True)
        with atomic_path(RESULTS) as path:
            record = {"samples": SAMPLES, "level": LEVEL, "cells": cells}
            path.write_text(json.dumps(record, indent=1) + "\n")
    show(cells)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
