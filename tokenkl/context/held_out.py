"""What labels are worth on sequences that were left out: what neighbours tell, and what is read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tokenkl._random import split
from tokenkl.codebooks import Codebook
from tokenkl.context.readability import all_levels, log_weights, token_matrices
from tokenkl.context.variates import Variates

#: Step of log snr in integrals whose sampling error is much larger.
COARSE_STEP = 1.0
#: Standard errors that what is told has to be above 0, for a share of it to mean something.
SURE = 4.0
#: Pairs of tokens that are looked up at a time.
BLOCK = 2**16


class HeldOut:
    """What neighbours tell and what is read, with axes for labelings, halves, the two, sequences.

    Halves are of the observations that the matrices are from. `without`: the two under the law of
    all sequences but those of a fold, by halves. These vary with the variates too, which sequences
    that are left out know nothing of: their scatter alone is up to three times too small. Of few
    sequences, or two folds, these are too large: they show what variates make up.
    """

    def __init__(
        self,
        folds: list[Float[np.ndarray, "labelings 2 2 sequences"]],
        sizes: Int[np.ndarray, " sequences"],
        without: Float[np.ndarray, "folds 2 2"],
    ) -> None:
        self.folds, self.without = folds, without
        self.sizes, self.total = sizes, max(int(sizes.sum()), 1)
        self.means = sum(fold.mean(axis=1).sum(axis=-1) for fold in folds) / self.total

    def gain(self, other: HeldOut) -> dict[str, Any]:
        """How much more is read than with other labels, for every token."""
        value = float(self.means[:, 1].mean() - other.means[:, 1].mean())
        rows = [
            one[:, :, 1].mean(axis=0) - two[:, :, 1].mean(axis=0)
            for one, two in zip(self.folds, other.folds, strict=True)
        ]
        without = self.without[..., 1] - other.without[..., 1]
        return self._with_errors(value, rows, value, self.means[:, 1], without)

    def share(self) -> dict[str, Any]:
        """What is read over what is told; its error is that of a ratio (the delta method)."""
        told, read = self.means.mean(axis=0)
        rows = [fold[:, :, 0].mean(axis=0) for fold in self.folds]
        known = self.without[..., 0]
        error = self._with_errors(told, rows, told, self.means[:, 0], known)["standard_error"]
        if not told > SURE * error:  # of nothing any share is read
            return {"value": 0.5, "numerical_error": 0.5, "n_samples": self.sizes.size}
        value = float(read / told)
        rows = []
        for fold in self.folds:
            mean = fold.mean(axis=0)
            rows.append((mean[:, 1] - value * mean[:, 0]) / told)
        without = self.without[..., 1] / known
        return self._with_errors(value, rows, 0.0, self.means[:, 1] / told, without)

    def _with_errors(
        self,
        value: float,
        rows: list[np.ndarray],
        mean: float,
        labelings: np.ndarray,
        without: Float[np.ndarray, "folds 2"],
    ) -> dict[str, Any]:
        """Errors of sequences, of observations, and of labelings out of all."""
        count, total = self.sizes.size, self.total
        each = np.concatenate([row.mean(axis=0) for row in rows])
        away = each - mean * self.sizes
        squares = [count / (count - 1) * float((away**2).sum()) / total**2]
        freedoms = [count - 1, len(rows)]
        # Less what the observations alone make of it, which are others in every fold.
        noise = (len(rows) - 1) / len(rows) * float(np.square(np.diff(without)).mean()) / 4
        jackknife = (len(rows) - 1) * (float(without.mean(axis=1).var()) - noise)
        if jackknife > squares[0]:
            squares[0], freedoms[0] = jackknife, len(rows) - 1
        halves = [row.sum(axis=1) / total for row in rows]
        squares.append(sum(float(one - other) ** 2 / 4 for one, other in halves))
        if len(labelings) > 1:
            squares.append(float(labelings.var(ddof=1)) / len(labelings))
            freedoms.append(len(labelings) - 1)
        # Welch and Satterthwaite's degrees of freedom of a sum.
        whole = sum(squares)
        spread = sum(square**2 / freedom for square, freedom in zip(squares, freedoms, strict=True))
        return {
            "value": value,
            "standard_error": math.sqrt(whole),
            "degrees_of_freedom": whole**2 / spread if spread > 0 else math.inf,
            "n_samples": count,
        }


def told_on(
    pair: Variates, matrices: Float[np.ndarray, "2 2 r r"], rows: list[np.ndarray], gap: int
) -> Float[np.ndarray, "2 2 sequences"]:
    """Sum of f(k)' matrix g(l) over neighbours of every sequence, by each matrix."""
    told, found = pair.first @ matrices, np.zeros((2, 2, len(rows)))
    for i, row in enumerate(rows):
        for start in range(0, row.size - gap, BLOCK):
            here = row[start : start + BLOCK + gap]
            each = told[:, :, here[:-gap]] * pair.second[here[gap:]]
            found[:, :, i] += each.sum(axis=(2, 3))
    return found


def readings(
    codebook: Codebook, pair: Variates, n_samples: int, key: Any
) -> Float[np.ndarray, "2 2 r r"]:
    """H with sum H * A for what is told, and for what is read; A = E f g' of neighbours.

    Integrated over d log snr, from either half of the observations.
    """
    levels = all_levels(codebook, COARSE_STEP)
    s = pair.correlations
    first, second = (
        token_matrices(codebook, law, side, levels, n_samples=n_samples, key=part)
        for law, side, part in zip(
            pair.marginals, (pair.first, pair.second), split(key, 2), strict=True
        )
    )
    found = []
    for half in (0, 1):
        own, other = (
            side.residual[half % len(side.residual) :: 2].mean(axis=0) for side in (first, second)
        )
        heard, heard_too = (
            side.linear + side.unread[half % len(side.unread) :: 2].mean(axis=0)
            for side in (first, second)
        )
        told = (own * s) @ heard_too + (heard * s) @ other
        read = (own * s) @ second.linear + (first.linear * s) @ other
        weights = log_weights(levels, 1) / 2
        found.append([np.tensordot(weights, each, axes=1) for each in (told, read)])
    return np.array(found)
