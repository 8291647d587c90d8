"""`Findings`: what an estimator found for one quantity at several noise levels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from tokenkl._validation import is_traced
from tokenkl.estimate import (
    NUMBERS,
    PER_ESTIMATE,
    Estimate,
    product_of_independent,
    sum_of_all,
    sum_of_independent,
    union_of_independent,
)
from tokenkl.ways import Ways

#: How a quantity of independent parts is made of theirs, where they do not add up.
COMBINED = {
    "accuracy": product_of_independent,
    "error_probability": union_of_independent,
    "sampling_error": union_of_independent,
}
UNSUPPORTED = (
    "too few informative samples for a central-limit interval at some SNR; the interval there is "
    "an empirical Bernstein bound"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """Values and their errors, one of each for every level; what they mean is said at `Estimate`.

    `method` says by what they were found (`Ways`, or a name), `note` what has to be known about it.
    """

    value: Any
    standard_error: Any = 0.0
    numerical_error: Any = 0.0
    n_samples: Any = 0
    interval_supported: Any = True
    sample_range: Any = np.inf
    skewness: Any = 0.0
    degrees_of_freedom: Any = np.inf
    method: Any = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", Ways.of(self.method))
        if not is_traced(self.value):
            shape = np.shape(self.value)
            for name in NUMBERS:
                number = np.asarray(getattr(self, name))
                whole = number if number.shape == shape else np.full(shape, number)
                object.__setattr__(self, name, whole)

    def at(self, levels: Int[np.ndarray, " levels"]) -> Findings:
        """At some of the levels."""
        numbers = {name: getattr(self, name)[levels] for name in NUMBERS}
        return dataclasses.replace(self, **numbers, method=self.method.moved(levels))

    def noted(self, note: str) -> Findings:
        """With one more note."""
        joined = _listed("; ", (self.note, note))
        return dataclasses.replace(self, note=joined) if note else self

    def complement(self, whole: float, rounding: float = 0.0) -> Findings:
        """Of whole - quantity: an accuracy from an error, an information from an entropy."""
        return dataclasses.replace(
            self,
            value=whole - self.value,
            numerical_error=self.numerical_error + rounding,
            skewness=-self.skewness,
        )

    def plus(self, part: Findings, weight: float) -> Findings:
        """Of a sum with one more independent part (statement S9 of docs/theory/sampling.md)."""
        scaled = ("value", "standard_error", "numerical_error", "sample_range")
        weighed = {name: weight * getattr(part, name) for name in scaled}
        found = sum_of_independent(vars(self), vars(part) | weighed)
        everywhere = np.arange(np.size(self.value))
        ways = Ways.joined(everywhere.size, [(everywhere, one.method) for one in (self, part)])
        return Findings(**found, method=ways, note=self.note)

    @staticmethod
    def together(parts: Sequence[Findings], quantity: str) -> Findings:
        """Of all independent parts of a token: accuracies multiply, errors follow, others add."""
        combine = COMBINED.get(quantity, sum_of_all)
        xp = jnp if is_traced(*(part.value for part in parts)) else np
        everywhere = np.arange(np.size(parts[0].value))
        return Findings(
            **combine([vars(part) for part in parts], xp),
            method=Ways.joined(everywhere.size, [(everywhere, part.method) for part in parts]),
            note=_listed("; ", [part.note for part in parts]),
        )

    @staticmethod
    def joined(size: int, parts: Sequence[tuple[Int[np.ndarray, " levels"], Findings]]) -> Findings:
        """Of `size` levels, from findings at some of them each; later ones replace others."""
        if not size and not parts:
            return Findings(np.zeros(0))
        if len(parts) == 1 and parts[0][0].size == size:
            return parts[0][1]
        numbers: dict[str, Any] = {}
        for name in NUMBERS:
            numbers[name] = np.zeros(size, dtype=getattr(parts[0][1], name).dtype)
            for levels, found in parts:
                numbers[name][levels] = getattr(found, name)
        owner, ways = np.full(size, -1), []
        for index, (levels, _) in enumerate(parts):
            owner[levels] = index
        for index, (levels, found) in enumerate(parts):
            kept = np.flatnonzero(owner[levels] == index)
            ways.append((levels[kept], found.method.moved(kept)))
        return Findings(
            **numbers,
            method=Ways.joined(size, ways),
            note=_listed("; ", [found.note for _, found in parts]),
        )

    def estimate(self, shape: tuple[int, ...], **words: Any) -> Estimate:
        """As an `Estimate` of this shape; `words` are those of its fields that are no numbers."""
        numbers = {name: getattr(self, name) for name in NUMBERS}
        for name, number in numbers.items():
            if np.ndim(number):
                numbers[name] = number.reshape(shape)
            known = name in PER_ESTIMATE and np.size(number) and not is_traced(number)
            if known and np.all(number == np.ravel(number)[0]):
                numbers[name] = np.ravel(number)[0]
        # Parts that are combined inside a JAX transformation are exact, and so supported.
        supported = is_traced(self.interval_supported) or np.all(self.interval_supported)
        notes = (self.note, "" if supported else UNSUPPORTED)
        return Estimate(**numbers, method=self.method, note=_listed("; ", notes), **words)


def _listed(separator: str, words: Sequence[str]) -> str:
    return separator.join(dict.fromkeys(filter(None, words)))
