"""How often 95 % intervals of sampled estimates cover exact answers.

Run as `python -m benchmarks.coverage`. Grids and one-hot codebooks are given as plain points, as
they are or rotated, so that nothing about them is exact and everything is sampled, by
`tokenkl.profile` as users call it, with the key as the number of the run. The exact answers come
from the structured codebooks. With --clustered they are of clusters: two to four scales of
distances, at noise levels where mistakes between clusters go from common to never seen. With
--close there are many levels, so that values are read off between nodes. Results are written after
every batch of runs, and a study that was interrupted goes on where it stopped. Writes
benchmarks/results/coverage.json, or coverage_clustered.json, coverage_close.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy import optimize, stats

import tokenkl as tk
from tokenkl._files import atomic_path

RESULTS = Path(__file__).parent / "results" / "coverage.json"
CLUSTERED = RESULTS.with_name("coverage_clustered.json")
CLOSE = RESULTS.with_name("coverage_close.json")
#: Error probabilities at which every case is looked at, where it reaches them.
ERRORS = (0.9, 0.5, 0.1, 0.01)
QUANTITIES = ("accuracy", "conditional_entropy", "mutual_information", "mmse")
#: Sample sizes and targets: pilots begin at 4096 samples.
METHODS = {
    "4096 samples": tk.MonteCarlo(n_samples=4096),
    "target": tk.MonteCarlo(rtol=0.02, atol=1e-3),
    "default": None,
}
#: Cases that are run with a target too, which takes longest.
TARGETED = (
    "FSQ 3^4, rotated",
    "uneven grid 3^2, unequal priors, rotated",
    "one-hot 16, Zipf",
)
BATCH = 50


class Case(NamedTuple):
    """A codebook with exact answers, the same as plain points, and a grid to be used as control.

    `roots` are square roots of SNRs to look at; without them these come from `ERRORS`.
    """

    exact: tk.Codebook
    points: tk.PointCodebook
    control: tk.Codebook | None = None
    roots: tuple[float, ...] = ()


def as_points(codebook: tk.Codebook) -> tk.PointCodebook:
    """The same tokens without any structure to be seen."""
    prior = None if codebook.has_equal_priors else codebook.prior
    return tk.PointCodebook(codebook.points, prior)


def rotated(codebook: tk.Codebook, seed: int = 0) -> tk.PointCodebook:
    """The same answers, but no grid along the axes."""
    rotation = stats.ortho_group.rvs(codebook.n, random_state=seed)
    prior = None if codebook.has_equal_priors else codebook.prior
    return tk.PointCodebook(codebook.points @ rotation, prior)


def at_errors(codebook: tk.Codebook, errors: Sequence[float]) -> np.ndarray:
    """SNRs at which the error probability has these values, where it ever does."""

    def error(log_snr: float) -> float:
        return float(tk.error_probability(codebook, np.exp(log_snr)).value)

    reachable = [e for e in errors if e < 0.97 * error(-20.0)]
    return np.exp([optimize.brentq(lambda x, e=e: error(x) - e, -20, 10) for e in reachable])


def cases() -> dict[str, Case]:
    """Equal and Zipf priors, grids and one-hot, with and without a grid nearby."""
    zipf3, zipf16 = ((1 / np.arange(1, K + 1)) / np.sum(1 / np.arange(1, K + 1)) for K in (3, 16))
    cube = tk.FSQ((3, 3, 3))
    skewed = tk.ProductCodebook([[-1.0, 0.0, 1.0]] * 3, [zipf3] * 3)
    uneven = tk.ProductCodebook([[-1.0, -0.2, 1.0], [0.0, 0.3, 1.5]], [[0.2, 0.3, 0.5], zipf3])
    square = tk.FSQ((5, 5))
    simplex, unequal = tk.OneHot(16), tk.OneHot(16, zipf16)
    near = tk.ProductCodebook([[-1.05, -0.45, 0.02, 0.55, 0.95]] * 2)
    return {
        "FSQ 3^3": Case(cube, as_points(cube)),
        "FSQ 3^4, rotated": Case(tk.FSQ((3,) * 4), rotated(tk.FSQ((3,) * 4))),
        "grid 3^3, Zipf, rotated": Case(skewed, rotated(skewed)),
        "uneven grid 3^2, unequal priors, rotated": Case(uneven, rotated(uneven)),
        "FSQ 5^2, a grid nearby": Case(square, as_points(square), near),
        "one-hot 16": Case(simplex, as_points(simplex)),
        "one-hot 16, Zipf": Case(unequal, as_points(unequal)),
    }


def clustered_cases() -> dict[str, Case]:
    """Clusters of near tokens at two to four scales, equal and unequal priors, rotated."""

    def zipf(K: int) -> np.ndarray:
        weight = 1 / np.arange(1, K + 1)
        return weight / weight.sum()

    near, few = np.arange(20.0), np.arange(3.0)
    found = {
        "2 clusters of 20, 1e-4 apart": (
            tk.ProductCodebook([[-0.5, 0.5], 1e-4 * near, [0.0]]),
            (4.0, 6.0, 7.5, 8.6, 12.0),
        ),
        "2 clusters of 20, 0.03 apart": (
            tk.ProductCodebook([[-0.5, 0.5], 0.03 * near, [0.0]]),
            (4.0, 6.0, 7.5, 8.6, 12.0),
        ),
        "three scales": (
            tk.ProductCodebook([[-0.5, 0.5], 0.08 * few, 1e-3 * np.arange(5.0)]),
            (5.0, 8.6, 40.0, 80.0, 130.0),
        ),
        "four scales, Zipf": (
            tk.ProductCodebook(
                [[-2.0, 2.0], [-0.3, 0.3], 0.02 * few, 1e-4 * few],
                [[0.3, 0.7], zipf(2), zipf(3), zipf(3)],
            ),
            (1.5, 8.0, 14.0, 200.0, 400.0),
        ),
        "uneven scales, unequal priors": (
            tk.ProductCodebook(
                [[0.0, 1e-3, 1.0, 1.3, 3.0], [0.0, 0.02, 0.7], [0.0, 2.0]],
                [zipf(5), [0.2, 0.5, 0.3], [0.4, 0.6]],
            ),
            (5.0, 10.0, 20.0, 30.0, 60.0),
        ),
        "a prior of 1e-4": (
            tk.ProductCodebook(
                [[0.0, 1.0], 1e-3 * few, [0.0, 0.3]], [[1e-4, 1 - 1e-4], zipf(3), [0.5, 0.5]]
            ),
            (1.0, 4.0, 10.0, 20.0, 40.0),
        ),
        "2 chains of 16": (
            tk.ProductCodebook([[-3.0, 3.0], 0.3 * np.arange(16.0), [0.0]]),
            (0.7, 1.0, 1.3, 1.6, 3.0),
        ),
    }
    return {
        name: Case(exact, rotated(exact), roots=roots) for name, (exact, roots) in found.items()
    }


def close_cases() -> dict[str, Case]:
    """Some of `cases` at 49 levels, from errors of nearly the most to 0.005."""
    found = {name: cases()[name] for name in TARGETED}
    roots = {
        name: np.sqrt(at_errors(case.exact, (*ERRORS[:-1], 0.005))) for name, case in found.items()
    }
    return {
        name: case._replace(roots=tuple(np.geomspace(roots[name][0], roots[name][-1], 49)))
        for name, case in found.items()
    }


class Tally:
    """What the runs of one case and method have shown, cell by cell (quantity, error)."""

    def __init__(self, case: Case, errors: Sequence[float] = ERRORS) -> None:
        self.case = case
        self.snr = np.array(case.roots) ** 2 if case.roots else at_errors(case.exact, errors)
        self.exact = tk.profile(case.exact, self.snr)
        shape = (len(QUANTITIES), self.snr.size)
        self.runs = 0
        self.covered, self.conservative = np.zeros(shape), np.zeros(shape)
        self.squared_error, self.variance = np.zeros(shape), np.zeros(shape)

    def run(self, method: tk.MonteCarlo | None, keys: Sequence[int]) -> None:
        """Add the runs with these keys."""
        if self.case.control is not None and method is not None:
            method = tk.MonteCarlo(
                method.n_samples, method.rtol, method.atol, control=self.case.control
            )
        for key in keys:
            profile = tk.profile(self.case.points, self.snr, QUANTITIES, method=method, key=key)
            for row, name in enumerate(QUANTITIES):
                found, answer = profile[name], self.exact[name].value
                low, high, _ = found.confidence_interval(0.95)
                self.covered[row] += (low <= answer) & (answer <= high)
                self.squared_error[row] += (found.value - answer) ** 2
                self.variance[row] += found.standard_error**2
                # Cells where more than sampling is in the interval, by design.
                rounding = found.numerical_error > 0.05 * found.standard_error
                self.conservative[row] += rounding | ~found.interval_supported
            self.runs += 1

    def state(self) -> dict[str, Any]:
        """Plain numbers, from which `restore` goes on."""
        return {
            "runs": self.runs,
            "snr": self.snr.tolist(),
            "error_probability": self.exact["error_probability"].value.tolist(),
            "quantities": list(QUANTITIES),
            "coverage": (self.covered / self.runs).tolist(),
            "reported_over_true_error": np.sqrt(self.variance / self.squared_error).tolist(),
            "conservative_by_design": (self.conservative / self.runs).tolist(),
            "sums": [x.tolist() for x in self._sums()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what an earlier study has found."""
        self.runs = state["runs"]
        for mine, theirs in zip(self._sums(), state["sums"], strict=True):
            mine[...] = theirs

    def _sums(self) -> tuple[np.ndarray, ...]:
        return self.covered, self.conservative, self.squared_error, self.variance

    def wrong(self, false_alarm: float) -> np.ndarray:
        """Cells whose coverage is significantly outside [93 %, 97 %], at this level in all.

        Above 97 % is no fault where the interval is conservative by design in some of the runs.
        """
        share = false_alarm / 2 / self.covered.size
        low = stats.binom.ppf(share, self.runs, 0.93)
        high = stats.binom.isf(share, self.runs, 0.97)
        too_high = (self.covered > high) & (self.conservative < 0.01 * self.runs)
        return np.asarray((self.covered < low) | too_high)


def studies(kind: str = "") -> list[tuple[str, str]]:
    """Pairs of a case and a method."""
    if kind == "close":
        return [(name, "4096 samples") for name in close_cases()]
    if kind == "clustered":
        return [(name, method) for method in METHODS for name in clustered_cases()]
    return [
        (name, method)
        for method in METHODS
        for name in cases()
        if method == "4096 samples" or (method == "target" and name in TARGETED)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=1000, help="runs of every case and method")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--clustered", action="store_true", help="the clustered cases")
    kinds.add_argument("--close", action="store_true", help="many levels close to each other")
    given = parser.parse_args(arguments)
    kind = "clustered" if given.clustered else "close" if given.close else ""
    runs, output = given.runs, {"clustered": CLUSTERED, "close": CLOSE}.get(kind, RESULTS)
    record = json.loads(output.read_text()) if output.exists() else {}
    found = {"clustered": clustered_cases, "close": close_cases}.get(kind, cases)()
    pairs = studies(kind)
    console = Console()
    with Progress(console=console) as progress:
        bar = progress.add_task("coverage", total=runs * len(pairs))
        for name, method_name in pairs:
            method, label = METHODS[method_name], f"{name}; {method_name}"
            tally = Tally(found[name])
            if label in record:
                tally.restore(record[label])
            progress.advance(bar, min(tally.runs, runs))
            while tally.runs < runs:
                size = min(BATCH, runs - tally.runs)
                tally.run(method, range(tally.runs, tally.runs + size))
                record[label] = tally.state()
                output.parent.mkdir(exist_ok=True)
                with atomic_path(output) as path:
                    path.write_text(json.dumps(record, indent=1) + "\n")
                progress.advance(bar, size)
    for label, entry in record.items():
        errors = [f"{e:.3g}" for e in entry["error_probability"]]
        table = Table("", *errors, title=f"{label}: coverage in %, {entry['runs']} runs")
        for name, row in zip(entry["quantities"], entry["coverage"], strict=True):
            table.add_row(name, *(f"{100 * value:.1f}" for value in row))
        console.print(table)


if __name__ == "__main__":
    main()
