"""What a sampler of token sequences generates, and grids of its steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import as_float_array, reject
from tokenkl.estimate import Estimate
from tokenkl.numerics.laws import kl_and_error
from tokenkl.sources import Source

EPS = np.finfo(float).eps


@dataclasses.dataclass(frozen=True, eq=False)
class GeneratedLaw:
    """The law of generated sequences, one axis a position, and KL(source || it) in nats."""

    law: Float[np.ndarray, "..."]
    kl: Estimate


def generated(source: Source, law: Float[np.ndarray, "..."], roundings: int) -> GeneratedLaw:
    """A law that was found in sums of positive terms with so many roundings in each."""
    with np.errstate(divide="ignore"):
        log_p = np.log(source.joint()).ravel()
    value, error = kl_and_error(log_p, law.ravel(), EPS * roundings * law.ravel())
    named: dict[str, Any] = {"quantity": "KL", "unit": "nats"}
    return GeneratedLaw(law, Estimate(value, 0.0, error, method="exact, all sequences", **named))


def check_steps(grid: Any, name: str, first: float, last: float) -> Float[np.ndarray, " points"]:
    """Levels of noise from the first to the last, each beyond the one before it."""
    levels: np.ndarray = np.asarray(as_float_array(name, grid, ndim=1))
    if levels.size < 2 or levels[0] != first or levels[-1] != last:
        reject(name, levels, f"levels from {first:g} to {last:g}")
    if (np.diff(levels) * np.sign(last - first) <= 0).any():
        reject(name, levels, f"levels that go from {first:g} to {last:g} without a step back")
    return levels
