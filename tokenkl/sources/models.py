"""`FromModel` and `FromMasked`: laws that a trained model states, as a callable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from tokenkl._module import Module
from tokenkl._random import generator
from tokenkl._validation import MAX_ELEMENTS, array_of, check_count, reject
from tokenkl.sources.base import BLOCK, MOST_SEQUENCES, Given, Source, log_sum, normalised
from tokenkl.sources.contexts import SUM_TOLERANCE, Contexts

#: Most tokens whose law given all others is found by trying each of them.
MOST_TRIED = 256


@final
class FromModel(Source):
    """The law of sequences that an autoregressive model states.

    Args:
        log_probs: from prefixes, an array (N, i) of ids with i from 0 to length - 1, to
            log P(k_{i+1} | prefix) in nats, (N, K). The same prefixes give the same numbers.
        K: number of tokens.
        length: tokens in a sequence.

    Tokens given those before them are one call; tokens given all others are found by trying all K
    tokens in their place, up to 256 of them. What needs a list of all sequences is refused as usual
    where those are many, the noisy context ("joint") among it: a model states no law of that.

    Raises:
        ValueError: a count below 1; when called, a model whose answer is no law of K tokens.

    Example:
        >>> import numpy as np
        >>> import tokenkl as tk
        >>> def repeats(prefixes):
        ...     last = prefixes[:, -1:] if prefixes.shape[1] else np.full((len(prefixes), 1), -1)
        ...     stay = np.where(np.arange(2) == last, 0.9, 0.1)
        ...     return np.log(np.where(last < 0, 0.5, stay))
        >>> model = tk.sources.FromModel(repeats, K=2, length=3)
        >>> round(model.entropy(), 6)
        1.343313
    """

    log_probs: Callable[[np.ndarray], Any] = eqx.field(static=True)
    _K: int
    _length: int

    def __init__(self, log_probs: Callable[[np.ndarray], Any], K: int, length: int) -> None:
        self.log_probs = log_probs
        self._K, self._length = check_count(K, "K"), check_count(length, "length")

    @property
    def K(self) -> int:
        return self._K

    @property
    def length(self) -> int:
        return self._length

    def log_prob(self, tokens: Int[Any, "N length"]) -> Float[np.ndarray, " N"]:
        ids = self._check_tokens(tokens)
        found, rows = np.zeros(len(ids)), max(1, BLOCK // self.K)
        for start in range(0, len(ids), rows):
            part = ids[start : start + rows]
            here = found[start : start + rows]
            for i in range(self.length):
                alive = np.flatnonzero(here > -np.inf)  # of what cannot be, nothing is asked
                if alive.size:
                    here[alive] += self._next(part[alive, :i])[
                        np.arange(alive.size), part[alive, i]
                    ]
        return found

    def sample(self, size: int, *, key: Any) -> Int[np.ndarray, "size length"]:
        check_count(size, "size")
        rng, found = generator(key), np.empty((size, self.length), np.int64)
        rows = max(1, BLOCK // self.K)
        for start in range(0, size, rows):
            part = found[start : start + rows]
            for i in range(self.length):
                edges = np.cumsum(np.exp(self._next(part[:, :i])), axis=1)
                aim = edges[:, -1:] * rng.random((len(part), 1))
                # The last token of positive probability, where rounding reaches the end.
                last = (edges < edges[:, -1:]).sum(axis=1)
                part[:, i] = np.minimum((edges <= aim).sum(axis=1), last)
        return found

    def conditional(
        self, tokens: Int[Any, "N length"], given: Given
    ) -> Float[np.ndarray, "N length K"]:
        if given == "none":
            return Source.conditional(self, tokens, given)
        clean = self._clean(tokens, given)
        ids = self._check_tokens(tokens)
        if given == "left":
            return np.stack([self._next(ids[:, :i]) for i in range(self.length)], axis=1)
        if self.K > MOST_TRIED:
            expected = f"'left' or 'none' for a model of more than {MOST_TRIED} tokens"
            reject("given", repr(given), f"{expected} ('others' would try each in each place)")
        for i in range(self.length):
            tried = np.repeat(ids[:, None], self.K, axis=1)
            tried[:, :, i] = np.arange(self.K)
            found = self.log_prob(tried.reshape(-1, self.length))
            clean[:, i] = normalised(found.reshape(-1, self.K))
        return clean

    def _token_entropies(self) -> Float[np.ndarray, " length"] | None:
        if self.length * math.log(self.K) > math.log(MOST_SEQUENCES) + 1e-9:
            return None
        return super()._token_entropies()

    def _next(self, prefixes: Int[np.ndarray, "N i"]) -> Float[np.ndarray, "N K"]:
        return _answer(self.log_probs(prefixes.copy()), (len(prefixes), self.K))


@final
class FromMasked(Module):
    """What a masked model states: the law of each token given all others, clean.

    Such laws need not be those of any joint law; no more than averages over contexts is made of
    them.

    Args:
        log_probs: from sequences, an array (N, length) of ids, to log P(k_i | all other tokens),
            (N, length, K): what the model says of every position that is masked by itself.
        K: number of tokens.

    Raises:
        ValueError: K below 1.
    """

    log_probs: Callable[[np.ndarray], Any] = eqx.field(static=True)
    K: int

    def __init__(self, log_probs: Callable[[np.ndarray], Any], K: int) -> None:
        self.log_probs, self.K = log_probs, check_count(K, "K")

    def contexts(self, tokens: Int[Any, "N length"], *, entropy: float | None = None) -> Contexts:
        """The contexts that these sequences are, each sequence a group.

        Args:
            tokens: sequences of the data.
            entropy: as for `Contexts`.

        Raises:
            ValueError: no array (N, length) of ids, too many numbers, or a model whose answer is no
                law.
        """
        ids = array_of(tokens)
        if ids.ndim != 2 or ids.dtype.kind not in "iu" or 0 in ids.shape:
            reject("tokens", f"an array of shape {ids.shape}", "ids of shape (N, length)")
        if ids.size * self.K > MAX_ELEMENTS:
            expected = f"few enough for {MAX_ELEMENTS:,} numbers"
            reject("tokens", f"{ids.size:,} tokens of {self.K:,}", expected)
        laws = _answer(self.log_probs(ids.copy()), (*ids.shape, self.K))
        return Contexts.of_sequences(laws, entropy=entropy)


def _answer(answer: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Log-laws that a model gave, checked and normalised over the last axis."""
    array = array_of(answer)
    if array.shape != shape or array.dtype.kind != "f":
        found = f"an array of shape {array.shape}"
        reject("the answer of log_probs", found, f"log-probabilities of shape {shape}")
    laws: np.ndarray = array.astype(float)
    totals = log_sum(laws)
    if not (abs(totals) < SUM_TOLERANCE).all():  # also where one is NaN
        worst = totals.ravel()[np.argmax(~(abs(totals) < SUM_TOLERANCE))]
        found = f"a law whose logarithms add up to {worst:.6g}"
        reject("the answer of log_probs", found, "logarithms of laws, which add up to 0")
    return normalised(laws)
