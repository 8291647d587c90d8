"""What an affine probe reads of noisy neighbours, for thousands of tokens: logits by their digits.

The logits of a token at position i are

    sqrt(snr) <Y_i, e_k> - snr |e_k|^2 / 2 + c_k + <phi(k), W x_i>,

c_k from counts (of all tokens, or of those at the same phoneme), phi(k) the digits of the token's
id as its tokenizer has them, the same whatever points the tokens sit at, and x_i one of

- noisy: the `WINDOW` neighbours Y_j on either side;
- denoised: E[phi(l) | Y_j] of the same neighbours by their own observations and counts alone.

W is found by two steps of Newton's method with a ridge on one half of the utterances, and seen on
the other. What that bounds: a cross-entropy on sequences that were left out is above H(k | Y), so
what the noisy probe has more than the denoised one is *at most* what it has more than the truth,
and *at least* nothing is known of: a fit in digits, two steps, a finite corpus. For networks it is
an index, as nu itself. The gain, cross-entropy without x less that with it, is in expectation at
most the information I(k; Y_-i | Y_i) plus what counts alone have wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from tokenkl._random import generator

#: Neighbours on either side.
WINDOW = 2
#: Added to Newton's matrix, in units of one token, for inputs of variance 1.
RIDGE = 10.0
#: Steps of Newton's method.
NEWTON = 2
#: Tokens that are worked on together.
BLOCK = 2048
#: What neighbours are told by.
INPUTS = ("noisy", "denoised")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Utterances end to end.

    - `ids`: of tokens, numbered among `used`; `contexts`: what is known beside, numbered from 0.
    - `sequence`: of every token, the utterance.
    - `used`: ids of the tokens that occur.
    """

    ids: Int[np.ndarray, " N"]
    contexts: Int[np.ndarray, " N"]
    sequence: Int[np.ndarray, " N"]
    used: Int[np.ndarray, " K"]

    @classmethod
    def of(cls, tokens: Sequence[np.ndarray], contexts: Sequence[np.ndarray] | None) -> Corpus:
        """Without contexts there is one, the same everywhere."""
        used, ids = np.unique(np.concatenate(tokens), return_inverse=True)
        sequence = np.repeat(np.arange(len(tokens)), [row.size for row in tokens])
        beside = np.zeros_like(ids)
        if contexts is not None:
            beside = np.unique(np.concatenate(contexts), return_inverse=True)[1]
        return cls(ids, beside, sequence, used)

    def neighbours(self, values: Float[np.ndarray, "N d"]) -> Float[np.ndarray, "N inputs"]:
        """1, and the values at both sides, 0 beyond an end, in units of their deviations."""
        columns = []
        for shift in (*range(-WINDOW, 0), *range(1, WINDOW + 1)):
            moved = np.zeros_like(values)
            here = slice(max(0, -shift), len(values) - max(0, shift))
            there = slice(max(0, shift), len(values) + min(0, shift))
            same = (self.sequence[here] == self.sequence[there])[:, None]
            moved[here] = np.where(same, values[there], 0.0)
            columns.append(moved)
        found = np.concatenate(columns, axis=1)
        spread = found.std(axis=0)
        found = (found - found.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        return np.column_stack([np.ones(len(values)), found])


def log_priors(
    corpus: Corpus, rows: Int[np.ndarray, " n"], discount: float = 0.75
) -> Float[np.ndarray, "contexts K"]:
    """log p(token | context) by interpolated discounting of these tokens' counts."""
    K = corpus.used.size
    alone = np.bincount(corpus.ids[rows], minlength=K) + 0.5
    alone = alone / alone.sum()
    laws = np.empty((int(corpus.contexts.max()) + 1, K))
    for context in range(len(laws)):
        counts = np.bincount(corpus.ids[rows[corpus.contexts[rows] == context]], minlength=K)
        law = np.maximum(counts - discount, 0) + discount * (counts > 0).sum() * alone
        laws[context] = law / law.sum() if counts.sum() else alone
    return np.log(laws)


@dataclasses.dataclass(frozen=True)
class Losses:
    """Sums over every utterance: cross-entropies in nats, and squared errors of posterior means.

    One row for counts alone, and one for each of `INPUTS`.
    """

    cross_entropy: Float[np.ndarray, "3 utterances"]
    squared_error: Float[np.ndarray, "3 utterances"]


def probe(
    points: Float[np.ndarray, "K n"],
    digits: Float[np.ndarray, "K d"],
    corpus: Corpus,
    snr: float,
    key: int,
) -> Losses:
    """Fit on each half of the utterances, and seen on the other; equal keys have equal noise."""
    noise = generator(key, 0).standard_normal((corpus.ids.size, points.shape[1]))
    seen = np.sqrt(snr) * points[corpus.ids] + noise
    halves = generator(key, 1).permutation(np.arange(corpus.sequence.max() + 1) % 2)
    half = halves[corpus.sequence]
    size = int(corpus.sequence.max()) + 1
    sums = np.zeros((2, 3, size))
    for held in (0, 1):
        kept, left = np.flatnonzero(half != held), np.flatnonzero(half == held)
        fit = _Fit(points, digits, corpus, seen, snr, log_priors(corpus, kept))
        everywhere = np.arange(corpus.ids.size)
        told = corpus.neighbours(fit.moments(everywhere, None, None)[0])
        for number, inputs in enumerate((None, corpus.neighbours(seen), told)):
            weights = None
            if inputs is not None:
                for _ in range(NEWTON):
                    weights = fit.stepped(kept, inputs, weights)
            losses = fit.losses(left, inputs, weights)
            for row, values in zip(sums, losses, strict=True):
                row[number] += np.bincount(corpus.sequence[left], values, size)
    return Losses(*sums)


@dataclasses.dataclass(frozen=True)
class _Fit:
    points: Float[np.ndarray, "K n"]
    digits: Float[np.ndarray, "K d"]
    corpus: Corpus
    seen: Float[np.ndarray, "N n"]
    snr: float
    priors: Float[np.ndarray, "contexts K"]

    def _posteriors(
        self, rows: np.ndarray, inputs: np.ndarray | None, weights: np.ndarray | None
    ) -> tuple[Float[np.ndarray, "rows K"], Float[np.ndarray, " rows"]]:
        """p(k) of some tokens, and log p of the true ones."""
        # One product, in single precision: 1e-5 nats are far below what a corpus can tell.
        left = [self.seen[rows], np.ones((len(rows), 1))]
        own = -self.snr * (self.points**2).sum(axis=1, keepdims=True) / 2
        right = [np.sqrt(self.snr) * self.points, own]
        if inputs is not None and weights is not None:
            left.append(inputs[rows] @ weights.T)
            right.append(self.digits)
        logits = _single(np.concatenate(left, axis=1)) @ _single(np.concatenate(right, axis=1)).T
        logits += self.priors.astype(np.float32)[self.corpus.contexts[rows]]
        logits -= logits.max(axis=1, keepdims=True)
        true = logits[np.arange(len(rows)), self.corpus.ids[rows]].astype(np.float64)
        p = np.exp(logits, out=logits)
        total = p.sum(axis=1, dtype=np.float64)
        p /= _single(total[:, None])
        return p, true - np.log(total)

    def moments(
        self, rows: np.ndarray, inputs: np.ndarray | None, weights: np.ndarray | None
    ) -> tuple[Float[np.ndarray, "rows d"], Float[np.ndarray, "rows d d"] | None]:
        """Means of the digits; and their covariances, where there are inputs to fit."""
        d = self.digits.shape[1]
        table = self.digits
        if inputs is not None:
            products = (self.digits[:, :, None] * self.digits[:, None]).reshape(-1, d * d)
            upper = np.ravel_multi_index(np.triu_indices(d), (d, d))
            table = np.concatenate([self.digits, products[:, upper]], axis=1)
        table = table.astype(np.float32)
        found = np.concatenate(
            [
                self._posteriors(rows[first : first + BLOCK], inputs, weights)[0] @ table
                for first in range(0, len(rows), BLOCK)
            ]
        ).astype(np.float64)
        if inputs is None:
            return found, None
        covariance = np.empty((len(rows), d, d))
        i, j = np.triu_indices(d)
        covariance[:, i, j] = covariance[:, j, i] = found[:, d:]
        mean = found[:, :d]
        return mean, covariance - mean[:, :, None] * mean[:, None]

    def stepped(
        self, rows: np.ndarray, inputs: np.ndarray, weights: np.ndarray | None
    ) -> Float[np.ndarray, "d inputs"]:
        """Newton's step for the loss plus ridge |W|^2 / 2, from these weights or from none."""
        d, size = self.digits.shape[1], inputs.shape[1]
        mean, covariance = self.moments(rows, inputs, weights)
        assert covariance is not None
        x = inputs[rows]
        slope = (self.digits[self.corpus.ids[rows]] - mean).T @ x
        matrix, single, spread = np.empty((d, size, d, size)), _single(x), _single(covariance)
        for a in range(d):
            for b in range(a, d):  # the direction of a step need not be exact
                block = single.T @ (spread[:, a, b, None] * single)
                matrix[a, :, b], matrix[b, :, a] = block, block
        current = np.zeros((d, size)) if weights is None else weights
        whole = matrix.reshape(d * size, d * size) + RIDGE * np.eye(d * size)
        step = np.linalg.solve(whole, (slope - RIDGE * current).ravel())
        found: np.ndarray = current + step.reshape(d, size)
        return found

    def losses(
        self, rows: np.ndarray, inputs: np.ndarray | None, weights: np.ndarray | None
    ) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
        """-log p of the true tokens, and the squared distance of their points from the means."""
        loss, error = np.empty(len(rows)), np.empty(len(rows))
        table = self.points.astype(np.float32)
        for first in range(0, len(rows), BLOCK):
            some = rows[first : first + BLOCK]
            p, logs = self._posteriors(some, inputs, weights)
            away = self.points[self.corpus.ids[some]] - p @ table
            loss[first : first + BLOCK] = -logs
            error[first : first + BLOCK] = (away**2).sum(axis=1)
        return loss, error


def _single(values: np.ndarray) -> Float[np.ndarray, "*shape"]:
    return values.astype(np.float32)
