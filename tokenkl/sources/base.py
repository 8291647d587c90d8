"""`Source`, a law of token sequences, and what every kind of it offers."""

from __future__ import annotations

import abc
import itertools
import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import special
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from tokenkl._module import Module
from tokenkl._random import draws_of, generator
from tokenkl._validation import (
    MAX_ELEMENTS,
    as_float_array,
    check_choice,
    check_count,
    check_ids,
    reject,
)
from tokenkl.numerics.laws import entropies, entropy_of
from tokenkl.sources.contexts import Contexts

#: What of its sequence a token is seen with, beside its own observation: nothing, the clean tokens
#: before it, or all other tokens clean.
Given = Literal["none", "left", "others"]
GIVEN: tuple[Given, ...] = ("none", "left", "others")
#: Most sequences that are listed one by one.
MOST_SEQUENCES = 2**22
#: Most numbers in all laws of a token in every context there is, for these to be listed unasked.
MOST_LISTED = 2**22
#: Most numbers that an enumeration holds at a time.
BLOCK = 2**22


class Source(Module):
    """A law P of sequences of `length` tokens, each one of K.

    A kind defines `K`, `length` and `log_prob`; all else follows from it by listing all K^length
    sequences, where those are few (2**22), and a kind overrides what its structure knows better
    (docs/extending.md). Probabilities may be 0. Laws are exact: what comes out of data is one of
    these kinds, with numbers that were estimated (`bigrams`).
    """

    @property
    @abc.abstractmethod
    def K(self) -> int:
        """Number of tokens."""

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """Tokens in a sequence."""

    @abc.abstractmethod
    def log_prob(self, tokens: Int[Any, "N length"]) -> Float[np.ndarray, " N"]:
        """log P(k_1 .. k_L) in nats, -inf where a sequence never occurs.

        Raises:
            ValueError: no array of ids of that shape.
        """

    # ---- What follows by enumeration -------------------------------------------------------

    def joint(self) -> Float[np.ndarray, "K*length"]:
        """P as an array with one axis of size K for every position.

        Raises:
            ValueError: more than 2**22 sequences.
        """
        return np.exp(self.log_prob(self._sequences())).reshape((self.K,) * self.length)

    def marginals(self) -> Float[np.ndarray, "length K"]:
        """The law of the token at every position."""
        law, axes = self.joint(), range(self.length)
        return np.stack([law.sum(axis=tuple(j for j in axes if j != i)) for i in axes])

    def pair(self, first: int, second: int) -> Float[np.ndarray, "K K"]:
        """The joint law of the tokens at two positions, first < second, counted from 0.

        Raises:
            ValueError: no two such positions.
        """
        self._check_pair(first, second)
        away = tuple(j for j in range(self.length) if j not in (first, second))
        return self.joint().sum(axis=away)

    def pair_operator(self, first: int, second: int) -> LinearOperator:
        """`pair` as what multiplies vectors; a kind overrides it that need not make the matrix.

        Raises:
            ValueError: no two such positions.
        """
        return aslinearoperator(self.pair(first, second))

    def entropy(self) -> float:
        """H(k_1 .. k_L) in nats."""
        return entropy_of(self.joint())

    @property
    def knows_mean_entropies(self) -> bool:
        """Whether `mean_entropies` can be had: all parts of all sequences are few enough, or else.

        A kind whose structure gives them says so.
        """
        return self.length * math.log(self.K + 1) <= math.log(MOST_SEQUENCES)

    def mean_entropies(self) -> Float[np.ndarray, "length+1"]:
        """Mean entropy in nats of m of the tokens, over all choices of m positions, m = 0 .. L.

        Raises:
            ValueError: (K + 1)^L is above 2**22, where it needs all parts of all sequences.
        """
        if not self.knows_mean_entropies:
            expected = f"one with (K + 1)^L of at most {MOST_SEQUENCES:,}"
            reject("the source", f"{self.K} tokens and length {self.length}", expected)
        total = np.zeros(self.length + 1)

        def visit(law: np.ndarray, position: int, kept: int) -> None:
            if position == self.length:
                total[kept] += entropy_of(law)
                return
            visit(law, position + 1, kept + 1)
            visit(law.sum(axis=kept), position + 1, kept)

        visit(self.joint(), 0, 0)
        return total / [math.comb(self.length, m) for m in range(self.length + 1)]

    def sample(self, size: int, *, key: Any) -> Int[np.ndarray, "size length"]:
        """Independent sequences; the same key gives the same ones.

        Raises:
            ValueError: size below 1, or no key.
        """
        check_count(size, "size")
        edges = np.cumsum(self.joint().ravel())
        drawn = np.searchsorted(edges, edges[-1] * generator(key).random(size), side="right")
        drawn = np.minimum(drawn, np.searchsorted(edges, edges[-1]))
        return np.stack(np.unravel_index(drawn, (self.K,) * self.length), axis=-1)

    def messages(
        self, log_likelihood: Float[Any, "N length K"]
    ) -> tuple[Float[np.ndarray, "N length K"], Float[np.ndarray, " N"]]:
        """What the rest of a sequence says of each token, and the evidence.

        Args:
            log_likelihood: log p(Y_i | k_i = k) up to a constant for each position, which the
                evidence then has too; -inf where an observation excludes a token. Observations of
                different positions are independent given the tokens, whatever their channel.

        Returns:
            log P(k_i = k | Y_j, j != i), normalised over k, and log p(Y_1 .. Y_L). The posterior of
            a token is proportional to the exponential of message plus log-likelihood.

        Raises:
            ValueError: an array of another shape, NaN or +inf in it, or too many numbers.
        """
        given = self._check_likelihood(log_likelihood)
        tokens, size = self._sequences(), given.shape[0]
        log_law = self.log_prob(tokens)
        kept = log_law > -np.inf
        tokens, log_law = tokens[kept], log_law[kept]
        found, evidence = np.empty_like(given), np.empty(size)
        rows = max(1, BLOCK // len(tokens))
        for start in range(0, size, rows):
            part = slice(start, start + rows)
            seen = given[part][:, np.arange(self.length), tokens]  # N, sequences, length
            evidence[part] = special.logsumexp(log_law + seen.sum(axis=-1), axis=-1)
            for i in range(self.length):
                others = log_law + np.delete(seen, i, axis=-1).sum(axis=-1)
                for k in range(self.K):
                    here = others[:, tokens[:, i] == k]
                    found[part, i, k] = log_sum(here)
        return normalised(found), evidence

    def conditional(
        self, tokens: Int[Any, "N length"], given: Given
    ) -> Float[np.ndarray, "N length K"]:
        """log P(k_i = k | what is given of the others) at every position of these sequences.

        Args:
            tokens: sequences that can occur.
            given: "none" of the other tokens, those before it ("left"), or all "others".

        Raises:
            ValueError: no such sequences, or no such word.
        """
        clean = self._clean(tokens, given)
        if given == "none":
            with np.errstate(divide="ignore"):
                return np.broadcast_to(np.log(self.marginals()), clean.shape).copy()
        if given == "others":
            return self.messages(clean)[0]
        found = np.empty_like(clean)
        for i in range(self.length):
            seen = clean.copy()
            seen[:, i:] = 0.0
            found[:, i] = self.messages(seen)[0][:, i]
        return found

    def contexts(
        self,
        given: Given,
        n: int | None = None,
        *,
        tokens: Int[Any, "N length"] | None = None,
        position: int | None = None,
        key: Any = None,
    ) -> Contexts:
        """The laws of one token given what is clean of the others, over contexts.

        Args:
            given: as in `conditional`.
            n: sequences to sample contexts from; None: all contexts, with their probabilities,
                where these laws have at most 2**22 numbers.
            tokens: sequences to take contexts from in place of sampled ones, such as data.
            position: of the token, from 0; None for the average over all positions.
            key: integer seed or JAX key, where sequences are sampled.

        Raises:
            ValueError: an argument out of its range, or too many contexts to list them.

        Example:
            >>> import tokenkl as tk
            >>> chain = tk.sources.Markov([[0.9, 0.1], [0.2, 0.8]], length=100)
            >>> sorted(chain.contexts("left").laws.round(3).tolist())  # of the first token, too
            [[0.2, 0.8], [0.667, 0.333], [0.9, 0.1]]
        """
        check_choice(given, GIVEN, "given")
        positions = self.positions(position)
        if n is None and tokens is None:
            found = self.all_contexts(given, position)
            if found is None:
                expected = "a number of sequences to sample, where all contexts are too many"
                reject("n", "None", expected)
            return found
        if tokens is not None and n is not None:
            reject("n", n, "left out where tokens are given")
        taken = self.sample(check_count(n, "n"), key=key) if tokens is None else tokens
        laws = self.conditional(taken, given)[:, positions]
        draws = draws_of(key) if tokens is None else ()
        return Contexts.of_sequences(laws, entropy=self.token_entropy(position), draws=draws)

    def all_contexts(self, given: Given, position: int | None = None) -> Contexts | None:
        """All contexts with their probabilities; None where they are too many to list unasked."""
        check_choice(given, GIVEN, "given")
        return self._every_context(given, self.positions(position))

    def token_entropy(self, position: int | None = None) -> float | None:
        """H(k_i) in nats, at a position or averaged over all; None where a kind cannot tell."""
        entropies, positions = self._token_entropies(), self.positions(position)
        return None if entropies is None else math.fsum(entropies[positions]) / len(positions)

    # ---- For kinds -------------------------------------------------------------------------

    def _every_context(self, given: Given, positions: list[int]) -> Contexts | None:
        """All contexts with their probabilities; None where they are too many."""
        if given == "none":
            return self._without_context(positions)
        if self.length * math.log(self.K) + math.log(len(positions)) > math.log(MOST_LISTED) + 1e-9:
            return None
        law, rows = self.joint(), []
        for i in positions:
            here = np.moveaxis(law, i, -1)
            if given == "left":
                here = law.sum(axis=tuple(range(i + 1, self.length)))
            rows.append(here.reshape(-1, self.K))
        return self._weighted(np.concatenate(rows), positions)

    def _without_context(self, positions: list[int]) -> Contexts:
        """The laws of the tokens by themselves."""
        return self._weighted(self.marginals()[positions], positions)

    def _weighted(self, rows: Float[np.ndarray, "C K"], positions: list[int]) -> Contexts:
        """All contexts, from rows p(k | context) P(context), summed over positions.

        Those with the same law are one, but for rounding: its digits are relative.
        """
        rows = rows[rows.sum(axis=1) > 0]
        with np.errstate(divide="ignore"):
            rounded = np.round(np.log(rows / rows.sum(axis=1, keepdims=True)), 11)
            _, first, same = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
            place = np.argsort(np.argsort(first))[same.ravel()]  # in the order they come in
            summed = np.zeros((first.size, self.K))
            np.add.at(summed, place, rows)
            weights = summed.sum(axis=1)
            logs = np.log(summed / weights[:, None])
        entropies = self._token_entropies()
        entropy = None if entropies is None else math.fsum(entropies[positions]) / len(positions)
        return Contexts(logs, weights, exhaustive=True, entropy=entropy)

    def positions(self, position: int | None) -> list[int]:
        """This position, from 0, or all of them for None.

        Raises:
            ValueError: no such position.
        """
        if position is None:
            return list(range(self.length))
        several = getattr(position, "ndim", 0) > 0  # of which no one truth is asked below
        if several or isinstance(position, bool) or position not in range(self.length):
            reject("position", position, f"None or a position from 0 to {self.length - 1}")
        return [int(position)]

    def _token_entropies(self) -> Float[np.ndarray, " length"] | None:
        """H of the token at every position, in nats; None where a kind cannot tell."""
        return entropies(self.marginals())

    def _sequences(self) -> Int[np.ndarray, "S length"]:
        """All sequences, the last token fastest."""
        if self.length * math.log(self.K) > math.log(MOST_SEQUENCES) + 1e-9:
            reject(
                "the source",
                f"{self.K}^{self.length} sequences",
                f"one of at most {MOST_SEQUENCES:,}, where they have to be listed",
            )
        every = itertools.product(range(self.K), repeat=self.length)
        return np.array(list(every), dtype=np.int64).reshape(-1, self.length)

    def _check_pair(self, first: int, second: int) -> None:
        whole = all(isinstance(one, (int, np.integer)) for one in (first, second))
        if not (whole and 0 <= first < second < self.length):
            reject(
                "positions",
                (first, second),
                f"two of 0 to {self.length - 1}, the first before the second",
            )

    def _check_tokens(self, tokens: Any) -> Int[np.ndarray, "N length"]:
        ids = check_ids(tokens, self.K, "tokens")
        if ids.ndim != 2 or ids.shape[1] != self.length:
            reject(
                "tokens",
                f"an array of shape {ids.shape}",
                f"of shape (N, {self.length}), sequences",
            )
        return ids

    def _check_likelihood(self, given: Any) -> Float[np.ndarray, "N length K"]:
        array = np.asarray(given, dtype=float)
        if array.ndim != 3 or array.shape[1:] != (self.length, self.K) or not len(array):
            expected = f"of shape (N, {self.length}, {self.K}) with N >= 1"
            reject("log_likelihood", f"an array of shape {array.shape}", expected)
        if array.size > MAX_ELEMENTS:
            reject("log_likelihood", f"{array.size:,} numbers", f"at most {MAX_ELEMENTS:,}")
        if np.isnan(array).any() or np.isposinf(array).any():
            reject("log_likelihood", "an array holding nan or inf", "finite or -inf everywhere")
        if np.isneginf(array).all(axis=-1).any():
            reject("log_likelihood", "a position that excludes every token", "one that does not")
        return array

    def _clean(self, tokens: Any, given: Given) -> Float[np.ndarray, "N length K"]:
        """The log-likelihood of sequences that are seen clean; possible ones only."""
        check_choice(given, GIVEN, "given")
        ids = self._check_tokens(tokens)
        if ids.size * self.K > MAX_ELEMENTS:
            expected = f"few enough for {MAX_ELEMENTS:,} numbers"
            reject("tokens", f"{ids.size:,} tokens of {self.K:,}", expected)
        if given != "none" and np.isneginf(self.log_prob(ids)).any():
            reject("tokens", "a sequence of probability 0", "sequences that can occur")
        clean = np.full((*ids.shape, self.K), -np.inf)
        np.put_along_axis(clean, ids[..., None], 0.0, axis=-1)
        return clean


def log_sum(rows: Float[np.ndarray, "... k"]) -> Float[np.ndarray, "..."]:
    """log of the sum of exponentials over the last axis; of none, or of -inf alone, -inf."""
    if rows.shape[-1] == 0:
        return np.full(rows.shape[:-1], -np.inf)
    found: np.ndarray = special.logsumexp(rows, axis=-1)
    return found


def normalised(logs: Float[np.ndarray, "... K"]) -> Float[np.ndarray, "... K"]:
    """Log-laws over the last axis: their exponentials sum to one."""
    total = log_sum(logs)[..., None]
    found: np.ndarray = logs - np.where(total > -np.inf, total, 0.0)
    return found


def check_law(name: str, law: Any, size: int | None = None) -> Float[np.ndarray, " size"]:
    """A law that may have zeros, rescaled to a sum of one."""
    rows = check_laws(name, as_float_array(name, law, ndim=1)[None])
    if size is not None and rows.shape[1] != size:
        reject(name, f"length {rows.shape[1]}", f"of length {size}")
    return rows[0]


def check_laws(name: str, rows: Any) -> Float[np.ndarray, "rows size"]:
    """Laws in rows, which may have zeros, each rescaled to a sum of one."""
    array = as_float_array(name, rows, ndim=2)
    if array.size == 0:
        reject(name, f"an array of shape {array.shape}", "at least one law of one token")
    if array.min() < 0:
        reject(name, float(array.min()), "probabilities, at least 0")
    totals = array.sum(axis=1)
    worst = int(np.argmax(abs(totals - 1)))
    if abs(totals[worst] - 1) > 1e-6:
        reject(name, f"a sum of {totals[worst]:.9g} in row {worst}", "laws, which sum to 1")
    found: np.ndarray = array / totals[:, None]
    return found
