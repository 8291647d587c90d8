"""How a bound reads the number that it starts from: the end of its interval that keeps it true."""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenkl._validation import as_float_array, check_count, reject
from tokenkl.estimate import Estimate

#: Confidence with which a sampled input enters a bound, unless asked for otherwise.
LEVEL = 0.9999


def low_end(value: Any, name: str, level: float = LEVEL) -> np.ndarray:
    """The smallest value that an estimate allows, at least 0; plain numbers are taken as they are.

    Raises:
        ValueError: a plain number that is negative or not finite.
    """
    return _end(value, name, level, -1)


def high_end(value: Any, name: str, level: float = LEVEL) -> np.ndarray:
    """The largest value that an estimate allows, at least 0; otherwise as `low_end`."""
    return _end(value, name, level, 1)


def _end(value: Any, name: str, level: float, side: int) -> np.ndarray:
    if isinstance(value, Estimate):
        interval = value.confidence_interval(level)
        return np.maximum(np.asarray(interval.low if side < 0 else interval.high, float), 0.0)
    array = as_float_array(name, value)
    if (array < 0).any():
        reject(name, float(array.min()), "at least 0 everywhere")
    return np.asarray(array)


def how_sure(value: Any, level: float = LEVEL) -> str:
    """What to add to a bound's name where its input was sampled."""
    sampled = isinstance(value, Estimate) and bool(np.any(value.n_samples))
    return f" (input at {level:.12g} confidence)" if sampled else ""


def check_tokens(K: Any) -> int:
    """A number of tokens, at least 1."""
    return check_count(K, "K")
