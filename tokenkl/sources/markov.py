"""`Markov` chains of tokens, and `HiddenMarkov` chains of states that show tokens."""

from __future__ import annotations

import math
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse.linalg import LinearOperator

from tokenkl._random import draw_ids, generator
from tokenkl._validation import MAX_ELEMENTS, check_count, reject
from tokenkl.numerics.laws import entropies, entropy_of
from tokenkl.sources.base import MOST_LISTED, Given, Source, check_law, log_sum, normalised
from tokenkl.sources.contexts import Contexts
from tokenkl.sources.matrices import Stochastic


@final
class Markov(Source):
    """P(k_1 .. k_L) = initial(k_1) prod_i transition[k_i, k_{i+1}].

    Sequences of any length; a sparse matrix, or a sparse one plus rank-one terms, serves thousands
    of tokens (`bigrams` makes such from data).

    Args:
        transition: laws in rows, an array or a SciPy sparse matrix; they may have zeros.
        length: tokens in a sequence, at least 1.
        initial: law of the first token; None for the one that a step keeps (`stationary`).

    Raises:
        ValueError: rows that are no laws, not square, or no initial law where the chain has no
            single limit.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.2, 0.8]], length=100)
        >>> chain.initial.round(6).tolist()
        [0.666667, 0.333333]
        >>> round(chain.entropy_rate(), 6)
        0.383523
    """

    transition: Stochastic
    initial: Float[np.ndarray, " K"]
    _length: int

    def __init__(self, transition: Any, length: int, initial: Any = None) -> None:
        self.transition = Stochastic.of(transition)
        self._length = check_count(length, "length")
        if self.transition.shape[0] != self.transition.shape[1]:
            reject("transition", f"a matrix of shape {self.transition.shape}", "square")
        self.initial = _first_law(initial, self.transition)

    @property
    def K(self) -> int:
        return self.transition.shape[1]

    @property
    def length(self) -> int:
        return self._length

    def log_prob(self, tokens: Int[Any, "N length"]) -> Float[np.ndarray, " N"]:
        ids = self._check_tokens(tokens)
        with np.errstate(divide="ignore"):
            found = np.log(self.initial[ids[:, 0]])
            for i in range(1, self.length):
                found = found + np.log(self.transition.entries(ids[:, i - 1], ids[:, i]))
        return found

    def marginals(self) -> Float[np.ndarray, "length K"]:
        return _marginals(self.initial, self.transition, self.length)

    def pair(self, first: int, second: int) -> Float[np.ndarray, "K K"]:
        self._check_pair(first, second)
        law = self.transition.toarray()
        step = np.linalg.matrix_power(law, second - first)
        found: np.ndarray = self.marginals()[first][:, None] * step
        return found

    def pair_operator(self, first: int, second: int) -> LinearOperator:
        self._check_pair(first, second)
        law, steps = self.marginals()[first], range(second - first)

        def onward(column: np.ndarray) -> np.ndarray:
            row = column.reshape(1, -1)
            for _ in steps:
                row = self.transition.times_transposed(row)
            return law * row[0]

        def back(column: np.ndarray) -> np.ndarray:
            row = law * column.reshape(1, -1)
            for _ in steps:
                row = self.transition.times(row)
            found: np.ndarray = row[0]
            return found

        return LinearOperator((self.K, self.K), matvec=onward, rmatvec=back, dtype=float)

    def entropy(self) -> float:
        before = self.marginals()[:-1].sum(axis=0)
        rest = math.fsum(before * self.transition.row_entropies()) if self.length > 1 else 0.0
        return entropy_of(self.initial) + rest

    @property
    def knows_mean_entropies(self) -> bool:
        """Powers of the transition are dense, whatever it is itself."""
        return self.K**2 <= MAX_ELEMENTS

    def mean_entropies(self) -> Float[np.ndarray, "length+1"]:
        """By the chain rule: a token that is kept adds H(it | the last one kept before it).

        Powers of the transition and the exact share of choices in which the two are neighbours.
        """
        if not self.knows_mean_entropies:
            reject("the source", f"{self.K:,} tokens", "few enough for K^2 numbers")
        L, laws, transition = self.length, self.marginals(), self.transition.toarray()
        starts = entropies(laws)
        by_gap, step = np.zeros(L), np.eye(self.K)
        for gap in range(1, L):
            step = step @ transition
            by_gap[gap] = laws[: L - gap].sum(axis=0) @ entropies(step)
        found = np.zeros(L + 1)
        for m in range(1, L + 1):
            every = math.comb(L, m)
            first = [math.comb(L - 1 - i, m - 1) / every for i in range(L)]
            found[m] = math.fsum(first * starts)
            if m > 1:
                next_kept = [math.comb(L - 1 - gap, m - 2) / every for gap in range(1, L)]
                found[m] += math.fsum(next_kept * by_gap[1:])
        return found

    def entropy_rate(self) -> float:
        """H(next token | this one) in nats, in the long run: the limit of H(X) / length.

        Raises:
            ValueError: a chain without a single limit.
        """
        return math.fsum(self.transition.stationary() * self.transition.row_entropies())

    def sample(self, size: int, *, key: Any) -> Int[np.ndarray, "size length"]:
        check_count(size, "size")
        return _sample_chain(generator(key), self.initial, self.transition, size, self.length)

    def messages(
        self, log_likelihood: Float[Any, "N length K"]
    ) -> tuple[Float[np.ndarray, "N length K"], Float[np.ndarray, " N"]]:
        given = self._check_likelihood(log_likelihood)
        return _chain_messages(self.initial, self.transition, given)

    def conditional(
        self, tokens: Int[Any, "N length"], given: Given
    ) -> Float[np.ndarray, "N length K"]:
        if given == "none":
            return Source.conditional(self, tokens, given)
        ids = np.asarray(self._clean(tokens, given).argmax(axis=-1))
        found = np.empty((*ids.shape, self.K))
        with np.errstate(divide="ignore"):
            found[:, 0] = np.log(self.initial)
            for i in range(1, self.length):
                found[:, i] = np.log(self.transition.rows(ids[:, i - 1]))
            if given == "others":
                for i in range(self.length - 1):
                    found[:, i] += np.log(self.transition.columns(ids[:, i + 1]))
        return normalised(found)

    def _every_context(self, given: Given, positions: list[int]) -> Contexts | None:
        """A neighbour on one side or on both, wherever in the sequence; at the ends one is missing.

        The law between two neighbours is the same everywhere: contexts are those of a first token,
        of one between others, and of a last one.
        """
        if given == "none":
            return self._without_context(positions)
        if self.K ** (3 if given == "others" else 2) > MOST_LISTED:
            return None
        law, marginals, rows = self.transition.toarray(), self.marginals(), []
        inside = [i for i in positions if i and (given == "left" or i + 1 < self.length)]
        if inside:
            before = marginals[[i - 1 for i in inside]].sum(axis=0)
            steps = before[:, None] * law
            if given == "others":
                steps = (steps[:, None, :] * law.T).reshape(-1, self.K)
            rows.append(steps)
        if 0 in positions:
            first = self.initial[None]
            rows.append(first * law.T if given == "others" and self.length > 1 else first)
        if given == "others" and self.length > 1 and self.length - 1 in positions:
            rows.append(marginals[-2][:, None] * law)
        return self._weighted(np.concatenate(rows), positions)


@final
class HiddenMarkov(Source):
    """A Markov chain of M states z_i, each of which shows a token by its law emission[z_i].

    Args:
        transition: laws of the next state, in rows of an M x M array or SciPy sparse matrix.
        emission: laws of the token that a state shows, in M rows of K.
        length: tokens in a sequence, at least 1.
        initial: law of the first state; None for the one that a step keeps.

    Raises:
        ValueError: rows that are no laws, shapes that do not fit, or no initial law where the chain
            has no single limit.

    Example:
        >>> import tokenkl as tk
        >>> law = tk.sources.HiddenMarkov([[0.9, 0.1], [0.1, 0.9]], [[0.8, 0.2], [0.2, 0.8]], 3)
        >>> law.marginals().round(6).tolist()
        [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    """

    transition: Stochastic
    emission: Stochastic
    initial: Float[np.ndarray, " M"]
    _length: int

    def __init__(self, transition: Any, emission: Any, length: int, initial: Any = None) -> None:
        self.transition = Stochastic.of(transition)
        self.emission = Stochastic.of(emission, "emission")
        self._length = check_count(length, "length")
        states = self.emission.shape[0]
        if self.transition.shape != (states, states):
            expected = f"of shape {(states, states)}, as many states as emission has rows"
            reject("transition", f"a matrix of shape {self.transition.shape}", expected)
        self.initial = _first_law(initial, self.transition)

    @property
    def K(self) -> int:
        return self.emission.shape[1]

    @property
    def length(self) -> int:
        return self._length

    def log_prob(self, tokens: Int[Any, "N length"]) -> Float[np.ndarray, " N"]:
        ids = self._check_tokens(tokens)
        with np.errstate(divide="ignore"):
            logs = np.broadcast_to(np.log(self.initial), (len(ids), self.initial.size))
            for i in range(self.length):
                before = self.transition.step(logs) if i else logs
                logs = before + np.log(self.emission.columns(ids[:, i]))
        return log_sum(logs)

    def marginals(self) -> Float[np.ndarray, "length K"]:
        return self.emission.times(_marginals(self.initial, self.transition, self.length))

    def pair(self, first: int, second: int) -> Float[np.ndarray, "K K"]:
        self._check_pair(first, second)
        shown = self.emission.toarray()
        step = np.linalg.matrix_power(self.transition.toarray(), second - first)
        law = _marginals(self.initial, self.transition, self.length)[first]
        found: np.ndarray = (law[:, None] * shown).T @ step @ shown
        return found

    def sample(self, size: int, *, key: Any) -> Int[np.ndarray, "size length"]:
        check_count(size, "size")
        rng = generator(key)
        states = _sample_chain(rng, self.initial, self.transition, size, self.length)
        return _draw_rows(rng, self.emission, states.ravel()).reshape(states.shape)

    def messages(
        self, log_likelihood: Float[Any, "N length K"]
    ) -> tuple[Float[np.ndarray, "N length K"], Float[np.ndarray, " N"]]:
        given = self._check_likelihood(log_likelihood)
        rows = given.reshape(-1, self.K)
        of_states = self.emission.step(rows, back=True).reshape(*given.shape[:2], -1)
        states, evidence = _chain_messages(self.initial, self.transition, of_states)
        shown = self.emission.step(states.reshape(-1, states.shape[-1]))
        return normalised(shown.reshape(given.shape)), evidence


# ---- Chains -------------------------------------------------------------------------------


def _first_law(initial: Any, transition: Stochastic) -> np.ndarray:
    """As given, or the law that a step keeps."""
    if initial is None:
        return transition.stationary()
    return check_law("initial", initial, transition.shape[0])


def _chain_messages(
    initial: np.ndarray, transition: Stochastic, given: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """log P(z_i | Y_j, j != i) by the forward and backward recursions, and the evidence."""
    length = given.shape[1]
    with np.errstate(divide="ignore"):
        ahead = np.log(initial)
    before, total = np.empty_like(given), np.zeros(given.shape[0])
    for i in range(length):
        before[:, i] = ahead
        seen = before[:, i] + given[:, i]
        step = log_sum(seen)
        total += step
        if i + 1 < length:
            ahead = transition.step(seen - np.where(np.isfinite(step), step, 0.0)[:, None])
    after = np.zeros_like(given[:, 0])
    for i in reversed(range(length)):
        before[:, i] += after
        if i:
            seen = after + given[:, i]
            top = seen.max(axis=1, keepdims=True)
            after = transition.step(seen - np.where(top > -np.inf, top, 0.0), back=True)
    return normalised(before), total


def _marginals(initial: np.ndarray, transition: Stochastic, length: int) -> np.ndarray:
    rows = [initial]
    for _ in range(length - 1):
        rows.append(transition.times(rows[-1][None])[0])
    return np.stack(rows)


def _sample_chain(
    rng: np.random.Generator, initial: np.ndarray, transition: Stochastic, size: int, length: int
) -> np.ndarray:
    found = np.empty((size, length), np.int64)
    found[:, 0] = draw_ids(rng, initial, initial.size, size)
    for i in range(1, length):
        found[:, i] = _draw_rows(rng, transition, found[:, i - 1])
    return found


def _draw_rows(rng: np.random.Generator, matrix: Stochastic, states: np.ndarray) -> np.ndarray:
    """One draw from the row of every state; rows are taken up once, whoever shares them."""
    used, where = np.unique(states, return_inverse=True)
    order = np.argsort(where, kind="stable")
    ends = np.cumsum(np.bincount(where, minlength=len(used)))
    uniform, found = rng.random(len(states)), np.empty(len(states), np.int64)
    size = max(1, 2**22 // matrix.shape[1])
    for first in range(0, len(used), size):
        edges = np.cumsum(matrix.rows(used[first : first + size]), axis=1)
        for row, edge in enumerate(edges, start=first):
            here = order[(ends[row - 1] if row else 0) : ends[row]]
            drawn = np.searchsorted(edge, edge[-1] * uniform[here], side="right")
            found[here] = np.minimum(drawn, np.searchsorted(edge, edge[-1]))
    return found
