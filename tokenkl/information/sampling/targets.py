"""Sampling until standard errors have met their targets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tokenkl.information.methods import MonteCarlo

#: Most times more samples than there are, on a variance that may be rough.
GROWTH = 4.0


def sample_on(
    first: Any,
    method: MonteCarlo,
    advance: Callable[[Any], Any],
    needed: Callable[[], Any],
    rounds: int | None = None,
) -> None:
    """Have `advance` sample up to a number, the `first` one to begin with, until that is enough.

    It returns how many there are then; `needed` says how many the sample so far calls for. Numbers
    may be arrays over levels. Without a target in `method` the first one is enough.
    """
    wanted = np.minimum(first, method.max_samples)
    for _ in itertools.count() if rounds is None else range(rounds):
        done = advance(wanted)
        if not method.has_target:
            break
        wanted = np.minimum(needed(), method.max_samples)
        if np.all(wanted <= done):
            break


def samples_needed(
    found: Iterable[tuple[Float[Any, " s"], Float[Any, " s"]]],
    done: Int[Any, " s"],
    method: MonteCarlo,
    growth: float = GROWTH,
) -> Int[np.ndarray, " s"]:
    """Samples that bring standard errors to their targets, from values and errors so far."""
    ratio = np.zeros(np.shape(done))
    for value, error in found:
        target = method.atol + method.rtol * np.abs(value)
        excess = error / np.maximum(target, np.finfo(float).tiny)
        ratio = np.maximum(ratio, np.minimum(excess, 1e6))
    # A tenth more than the estimate asks for, and not too many times more on a rough variance.
    more = np.ceil(np.minimum(1.1 * ratio**2, growth) * done).astype(np.int64)
    return np.where(ratio <= 1, np.minimum(more, done), more)
