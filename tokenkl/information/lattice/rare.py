"""Rare errors of lattice cuts, by importance sampling over their short vectors.

ALOE (see `rare.profile`) with a list of competitors that no token has to be looked up for: token x
has the rivals x + v, v a short vector of the lattice, wherever x + v is in the cut. A pair (x, v)
is drawn with probability pi_x Q(r_v) / B, r_v = h |v| / 2, then the noise given that x + v beats x.
With S the number of rivals that beat x,

    P(a short rival wins) = B E[1/S],    B = sum_v P(x + v in the cut) Q(r_v).

How many x allow v is a count of words with given parity, in closed form. All other tokens together
add at most the sum of Q over the longer vectors of the whole lattice, which its theta series
counts: this is reported as numerical error.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from tokenkl._random import generator
from tokenkl._validation import reject
from tokenkl.codebooks import LatticeCodebook
from tokenkl.information.estimators import Estimator, Names, Progress, Served, Task, defaults
from tokenkl.information.findings import Findings
from tokenkl.information.methods import Auto, RareEvents
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.montecarlo import DEFAULT_SAMPLES
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments

EPS = float(np.finfo(float).eps)
#: What decoding can find.
DECODED_QUANTITIES = ("accuracy", "error_probability")
#: Up to this many tokens every posterior is computed, which gives all quantities.
LARGE = 2**15
#: What a vector costs in one draw for each coordinate, in seconds.
VECTOR_COST = 2e-9

#: Used where what longer vectors may add is below this part of the union bound B.
TRUNCATION = 1e-4
#: Halves are listed up to this dimension, where there are 2^n of them, and anything up to that one.
MAX_HALVES, MAX_DIMENSION = 10, 32
#: Terms of the theta series; what is beyond counts as if every other token were just there.
TERMS = 64


def short_vectors(
    codebook: LatticeCodebook,
) -> list[tuple[int, Float[np.ndarray, "v n"], Int[np.ndarray, "v n"]]]:
    """For each kind of token (0 in D, 1 halves): short vectors, and what they add to the word.

    In steps of the lattice. Vectors of length sqrt(2) that lead to a token of the same kind, and
    (+-1/2, ..., +-1/2) where these lead to one of the other kind.
    """
    n = codebook.n
    pairs = []
    for i, j in itertools.combinations(range(n), 2):
        for signs in itertools.product((1, -1), repeat=2):
            v = np.zeros(n, dtype=np.int64)
            v[[i, j]] = signs
            pairs.append(v)
    same = np.array(pairs, dtype=np.int64).reshape(-1, n)
    found = [(kind, same.astype(float), same) for kind in range(len(codebook.sizes))]
    if codebook.lattice == "D+" and n <= MAX_HALVES:
        halves = np.array(list(itertools.product((0.5, -0.5), repeat=n)))
        for kind, away in ((0, -0.5), (1, 0.5)):
            # From x to the half x + v its word is x + v - 1/2, and back it is w + 1/2 + v; the
            # parity changes from even to odd, or from odd to even.
            words = np.round(halves + away).astype(np.int64)
            odd = words.sum(axis=1) % 2 != 0
            found.append((kind, halves[odd], words[odd]))
    return found


def counts(codebook: LatticeCodebook, kind: int, steps: Int[np.ndarray, "v n"]) -> list[int]:
    """How many tokens of this kind stay in the cut after each step of their words."""
    L = codebook.levels
    out = []
    for step in steps:
        allowed, excess = 1, 1  # words, and those of even sum less those of odd sum
        for one in step:
            length = L - abs(int(one))
            allowed *= length
            first = max(0, -int(one))
            excess *= (length % 2) * (-1) ** first
        out.append((allowed + (-1) ** kind * excess) // 2)
    return out


def longer_vectors(codebook: LatticeCodebook) -> tuple[Float[np.ndarray, " m"], np.ndarray]:
    """Squared lengths of the vectors that are not listed, and how many the whole lattice has."""
    n = codebook.n
    squares = np.zeros(TERMS)
    squares[[k * k for k in range(math.isqrt(TERMS - 1) + 1)]] = 2.0
    squares[0] = 1.0
    whole = _power(squares, n)  # vectors of Z^n; those of D_n have an even square
    even = np.arange(4, TERMS, 2)
    lengths, number = [even.astype(float)], [whole[even]]
    if codebook.lattice == "D+":
        steps = np.zeros(TERMS)
        steps[[k * (k + 1) for k in range(math.isqrt(TERMS)) if k * (k + 1) < TERMS]] = 1.0
        halves = 2.0 ** (n - 1) * _power(steps, n)
        first = 1 if n <= MAX_HALVES else 0
        lengths.append(n / 4 + np.arange(first, TERMS))
        number.append(halves[first:])
    return np.concatenate(lengths), np.concatenate(number)


def _power(series: Float[np.ndarray, " m"], n: int) -> Float[np.ndarray, " m"]:
    total = np.zeros(series.size)
    total[0] = 1.0
    for _ in range(n):
        total = np.convolve(total, series)[: series.size]
    return total


class Rivals:
    """The short vectors of a cut, how often they occur, and the union bounds that they give."""

    def __init__(self, codebook: LatticeCodebook) -> None:
        self.codebook = codebook
        self.groups = short_vectors(codebook)
        self.squares = [(v**2).sum(axis=1) for _, v, _ in self.groups]
        #: Mean number of tokens at each short vector from a token.
        self.share = [
            np.array([count / codebook.K for count in counts(codebook, kind, steps)])
            for kind, _, steps in self.groups
        ]
        self.longer = longer_vectors(codebook)

    def bounds(self, h: float) -> tuple[float, float]:
        """B, and what all tokens that are not listed can add."""
        step = h * self.codebook.unit
        total = sum(
            float(share @ _upper(step * np.sqrt(squares) / 2))
            for share, squares in zip(self.share, self.squares, strict=True)
        )
        squares, number = self.longer
        rest = float(number @ _upper(step * np.sqrt(squares) / 2))
        log_K = self.codebook.n * math.log(self.codebook.levels)
        beyond = log_K + float(special.log_ndtr(-step * math.sqrt(TERMS) / 2))
        return total, rest + math.exp(min(beyond, 700.0))

    def sample(self, h: float, rng: np.random.Generator, size: int) -> Float[np.ndarray, " size"]:
        """Values of 1/S."""
        step = h * self.codebook.unit
        weights = [
            share * _upper(step * np.sqrt(squares) / 2)
            for share, squares in zip(self.share, self.squares, strict=True)
        ]
        edges = np.cumsum(np.concatenate(weights))
        which = np.searchsorted(edges, edges[-1] * rng.random(size), side="right")
        which = np.minimum(which, edges.size - 1)
        group = np.repeat(np.arange(len(weights)), [w.size for w in weights])[which]
        place = np.concatenate([np.arange(w.size) for w in weights])[which]
        out = np.empty(size)
        for index, (kind, vectors, steps) in enumerate(self.groups):
            rows = np.flatnonzero(group == index)
            chosen = place[rows]
            words = self._words(kind, steps[chosen], rng)
            v = vectors[chosen]
            length = np.sqrt(self.squares[index][chosen])
            r = step * length / 2
            noise = rng.standard_normal(v.shape)
            t = -special.ndtri_exp(np.log(rng.random(rows.size)) + special.log_ndtr(-r))
            unit = v / length[:, None]
            noise += (np.maximum(t, r) - np.einsum("pn,pn->p", noise, unit))[:, None] * unit
            out[rows] = 1 / self._beaten_by(kind, words, noise, step)
        return out

    def _words(
        self, kind: int, steps: Int[np.ndarray, "p n"], rng: np.random.Generator
    ) -> Int[np.ndarray, "p n"]:
        """Uniform words of this kind that stay in the cut after the step."""
        low = np.maximum(0, -steps)
        length = self.codebook.levels - np.abs(steps)
        words = np.empty_like(steps)
        missing = np.arange(len(steps))
        while missing.size:
            words[missing] = low[missing] + rng.integers(length[missing])
            missing = missing[(words[missing].sum(axis=1) + kind) % 2 != 0]
        return words

    def _beaten_by(
        self,
        kind: int,
        words: Int[np.ndarray, "p n"],
        noise: Float[np.ndarray, "p n"],
        step: float,
    ) -> Float[np.ndarray, " p"]:
        """Number of listed rivals that are at least as near as the true token."""
        total = np.zeros(len(words))
        for (own, vectors, steps), squares in zip(self.groups, self.squares, strict=True):
            if own != kind:
                continue
            # To 1e-12: the rival that was drawn lies on the boundary or beyond, to rounding.
            wins: Bool[np.ndarray, "p v"] = noise @ vectors.T >= step * squares / 2 * (1 - 1e-12)
            row, column = np.nonzero(wins)
            after = words[row] + steps[column]
            inside = ((after >= 0) & (after < self.codebook.levels)).all(axis=1)
            total += np.bincount(row[inside], minlength=len(words))
        return total


class ShortVectors(Estimator):
    """Accuracy of a cut too large to list, where its short vectors are as good as all."""

    name = "short vectors where errors are rare"
    settings = RareEvents
    kinds = LatticeCodebook
    only = defaults(RareEvents, "rtol", "atol", "max_samples", "truncation")

    def serves(self, problem: Problem, wanted: Names, asked: bool) -> Served:
        return wanted, is_decoded(problem, wanted) and is_complete(problem)

    def chosen(self, wish: Auto) -> RareEvents:
        found: RareEvents = super().chosen(wish)
        fixed = wish.n_samples or wish.rtol or wish.atol
        return found if fixed else RareEvents(n_samples=DEFAULT_SAMPLES)

    def seconds(self, problem: Problem, method: RareEvents) -> float:
        vectors = sum(len(vectors) for _, vectors, _ in problem.once(Rivals).groups)
        return method.n_samples * VECTOR_COST * vectors * problem.codebook.n

    def run(self, task: Task) -> dict[str, Findings]:
        error = rare_errors(task.problem, task.method.n_samples, task.key, task.progress)
        both = {"error_probability": error, "accuracy": error.complement(1.0, EPS)}
        return {name: both[name] for name in task.quantities}


def is_decoded(problem: Problem, wanted: Names) -> bool:
    """Whether decoding is the way: few quantities, or points too many for the others.

    Raises:
        ValueError: too many points for a quantity that needs them all.
    """
    codebook = problem.codebook
    if codebook.K <= LARGE:
        return False
    others = [name for name in wanted if name not in DECODED_QUANTITIES]
    if others and not codebook.fits:
        reject(
            "quantities",
            others[0],
            f"accuracy or error_probability for {codebook!r}: a posterior needs all tokens, and "
            "lattice decoding finds the best one only",
        )
    return not others


def is_complete(problem: Problem) -> Bool[np.ndarray, " s"]:
    """Where errors are rare enough for the list of short vectors to be as good as complete."""
    if not 2 <= problem.codebook.n <= MAX_DIMENSION:
        return np.zeros(problem.snr.shape, dtype=bool)
    bounds = (problem.once(Rivals).bounds(float(root)) for root in problem.root)
    return np.array([0 < rest <= TRUNCATION * total for total, rest in bounds], dtype=bool)


def rare_errors(
    problem: Problem, n_samples: int, key: Any, progress: Progress | None = None
) -> Findings:
    """The error probability at levels at which the list is as good as complete."""
    rivals, rows = problem.once(Rivals), []
    for place, root in zip(problem.place, problem.root, strict=True):
        total, rest = rivals.bounds(float(root))
        stream = key, int(place)
        rows.append((*_one_level(rivals, float(root), total, rest, n_samples, stream), total))
        if progress is not None:
            progress(len(rows) * n_samples, problem.snr.size * n_samples)
    value, error, skewness, numerical, bound = np.array(rows).reshape(-1, 5).T
    return Findings(
        *(value, error, numerical, n_samples, True, bound, skewness), method=ShortVectors.name
    )


def _one_level(
    rivals: Rivals, h: float, total: float, rest: float, n_samples: int, stream: tuple[Any, int]
) -> tuple[float, float, float, float]:
    moments, overlaps, count = Moments((1,)), 0, 0
    block = max(1, 2**21 // (4 * rivals.codebook.n**2 + 2**8))
    while count < n_samples:
        rng = generator(*stream, 1 + count)  # rays use the streams with one number
        shares = rivals.sample(h, rng, min(block, n_samples - count))
        overlaps += int((shares < 1).sum())
        moments.add(shares[None])
        count += shares.size
    value = total * float(moments.mean[0])
    error = rest + 1e-12 * value
    if overlaps < MIN_EFFECTIVE:
        # Too few samples with S > 1 for their variance to be trusted: 1 - 1/S is below 1, and their
        # number is below this bound but for a chance of 3e-4 (Poisson).
        error += total * (overlaps + 3 * math.sqrt(overlaps) + 8) / count
    return value, total * float(moments.standard_error[0]), float(moments.skewness[0]), error


def _upper(r: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    tail: np.ndarray = special.ndtr(-r)
    return tail
