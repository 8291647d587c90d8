"""Cases with answers known to 20 digits, and the check that reported errors are honest.

The references come from `references/make_references.py` (Arb enclosures and high-precision sums),
by formulas other than the library's.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

import tokenkl as tk

REFERENCES = Path(__file__).parent / "references"


@dataclasses.dataclass(frozen=True)
class Problem:
    """A codebook, an SNR, and the exact value of each quantity."""

    label: str
    codebook: tk.Codebook
    snr: float
    answers: dict[str, float]


def zipf(K: int) -> np.ndarray:
    """Probabilities proportional to 1 / rank."""
    weight = 1 / np.arange(1, K + 1)
    return weight / weight.sum()


def _answers(entry: dict) -> dict[str, float]:
    return {name: float(entry[name]) for name in tk.QUANTITIES if name in entry}


def product_problems() -> list[Problem]:
    """One-dimensional grids: equal, skewed and near-degenerate priors, errors down to 1e-289."""
    problems = []
    for index, entry in enumerate(json.loads((REFERENCES / "product.json").read_text())):
        codebook = tk.ProductCodebook([entry["levels"]], [entry["prior"]])
        label = f"{index}: {len(entry['levels'])} levels at {entry['snr']:g}"
        problems.append(Problem(label, codebook, entry["snr"], _answers(entry)))
    return problems


def onehot_problems() -> list[Problem]:
    """One-hot with K = 2 .. 10^6, equal and unequal priors."""
    problems = []
    for index, entry in enumerate(json.loads((REFERENCES / "onehot.json").read_text())):
        prior, K = entry["prior"], entry["K"]
        if isinstance(prior, str):
            prior = None if prior == "equal" else zipf(K)
        label = f"{index}: K = {K} at {entry['snr']:g}"
        problems.append(Problem(label, tk.OneHot(K, prior), entry["snr"], _answers(entry)))
    return problems


def assert_honest(estimate: tk.Estimate, answer: float) -> None:
    """The true error is no larger than the reported numerical error (plus the answer's ulp)."""
    error = np.abs(np.asarray(estimate.value) - answer)
    reported = np.asarray(estimate.numerical_error) + np.finfo(float).eps * abs(answer)
    assert (error <= reported).all(), f"{estimate!r} is off by {error}, the answer is {answer}"


def assert_bound(bound: tk.Bound, answer: tk.Estimate) -> None:
    """The answer is on the right side of the bound, but for its numerical error and rounding."""
    value, limit = np.asarray(answer.value), np.asarray(bound.value)
    slack = np.asarray(answer.numerical_error) + 1e-10 * np.abs(value) + 1e-15
    excess = limit - value if bound.direction == "lower" else value - limit
    assert (excess <= slack).all(), f"{bound!r} is violated by {answer!r}: {excess}"
