"""How long speech lasts, from statistics of the training examples alone.

A diffusion model has to be told the number of tokens. No network predicts it here: phonemes have
their mean durations in context, characters their shares of the mean length.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float, Int

from tokenkl._formats import conform
from tokenkl._validation import check_positive, reject
from tokenkl.tts.data import Example

#: Tokens of one symbol beyond which a file is wrong: that is most of a minute.
LONGEST = 1000

#: Examples of a context below which the next smaller one is asked.
ENOUGH = 4


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Durations of symbols, and of whole texts.

    Args:
        means: mean tokens of a symbol in context: keys are (before, symbol, after) with -1 for
            anything, and -2 for the ends of the text.
        rates: quantiles at equal steps of true over predicted length in training: the spread of
            speaking rates, and what is not predicted.
    """

    means: dict[tuple[int, int, int], float]
    rates: tuple[float, ...]

    @classmethod
    def fit(cls, examples: Sequence[Example]) -> Lengths:
        """Count.

        Durations of symbols are averaged in context where the examples have them. Otherwise every
        symbol has one mean, by least squares from the lengths of the examples with a small
        ridge towards the mean of all.

        Raises:
            ValueError: no examples, or some with durations and some without.
        """
        if not examples:
            reject("examples", "none", "at least one")
        if len({e.lengths is None for e in examples}) > 1:
            reject("examples", "some with durations", "all with durations, or none")
        aligned = examples[0].lengths is not None
        means = _in_context(examples) if aligned else _by_regression(examples)
        first = cls(means, (1.0,))
        ratios = [e.tokens.size / float(first.expected(e.symbols).sum()) for e in examples]
        return cls(means, tuple(np.quantile(ratios, np.linspace(0, 1, 101)).tolist()))

    def expected(self, symbols: Int[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        """Mean tokens of every symbol of a text, not whole."""
        padded = [-2, *(int(s) for s in symbols), -2]
        found = []
        for before, symbol, after in zip(padded, padded[1:-1], padded[2:], strict=False):
            for context in _contexts(before, symbol, after):
                if context in self.means:
                    found.append(self.means[context])
                    break
        return np.array(found)

    def durations(self, symbols: Int[np.ndarray, " P"], rate: float = 1.0) -> Int[np.ndarray, " P"]:
        """Whole durations, their edges the rounded edges of the expected ones; at least 1 in all.

        Args:
            symbols: of a text.
            rate: how much faster than usual, above 0.
        """
        check_positive(rate, "rate")
        edges = np.concatenate([[0.0], np.cumsum(self.expected(symbols))]) / rate
        whole = np.round(edges).astype(np.int64)
        whole[-1] = max(1, whole[-1])
        return np.diff(whole)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        rows = [[*context, round(mean, 4)] for context, mean in sorted(self.means.items())]
        return {"means": rows, "rates": [round(rate, 5) for rate in self.rates]}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Lengths:
        """The inverse of `to_json`, up to its rounding.

        Raises:
            ValueError: something else.
        """
        conform(record, LengthsRecord, "lengths")
        means = {(a, b, c): float(mean) for a, b, c, mean in record["means"]}
        rates = record["rates"]
        if (-1, -1, -1) not in means:
            reject("lengths.means", "no mean of all symbols", "with one, as a last resort")
        if not all(0 <= mean <= LONGEST for mean in means.values()):
            reject("lengths.means", "others", f"numbers of tokens from 0 to {LONGEST}")
        if not rates or not all(1e-3 <= rate <= 1e3 for rate in rates):
            reject("lengths.rates", rates, "numbers near 1")
        return cls(means, tuple(rates))


class LengthsRecord(TypedDict):
    """Durations as plain values."""

    means: list[tuple[int, int, int, float]]
    rates: list[float]


def _contexts(before: int, symbol: int, after: int) -> list[tuple[int, int, int]]:
    """From the narrowest to the widest."""
    return [
        (before, symbol, after),
        (-1, symbol, after),
        (before, symbol, -1),
        (-1, symbol, -1),
        (-1, -1, -1),
    ]


def _in_context(examples: Sequence[Example]) -> dict[tuple[int, int, int], float]:
    sums: dict[tuple[int, int, int], list[float]] = collections.defaultdict(lambda: [0.0, 0])
    for example in examples:
        padded = [-2, *(int(s) for s in example.symbols), -2]
        for i, length in enumerate(np.asarray(example.lengths)):
            for context in _contexts(*padded[i : i + 3]):
                sums[context][0] += float(length)
                sums[context][1] += 1
    return {
        context: total / count
        for context, (total, count) in sums.items()
        if count >= ENOUGH or context[0] == context[2] == -1
    }


def _by_regression(examples: Sequence[Example]) -> dict[tuple[int, int, int], float]:
    size = 1 + max(int(e.symbols.max()) for e in examples)
    counts = np.stack([np.bincount(e.symbols, minlength=size) for e in examples]).astype(float)
    totals = np.array([e.tokens.size for e in examples], float)
    mean = totals.sum() / counts.sum()
    # Ten symbols' worth of the mean: what is hardly ever seen stays near it.
    gram = counts.T @ counts + 10 * np.eye(size)
    fitted = mean + np.linalg.solve(gram, counts.T @ (totals - counts.sum(axis=1) * mean))
    seen = np.flatnonzero(counts.sum(axis=0))
    table = {(-1, int(s), -1): max(0.1, float(fitted[s])) for s in seen}
    return {**table, (-1, -1, -1): float(mean)}
