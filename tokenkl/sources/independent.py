"""`Independent`: tokens that know nothing of each other."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._random import draw_ids, generator
from tokenkl._validation import as_float_array, check_count
from tokenkl.numerics.laws import entropies
from tokenkl.sources.base import Given, Source, check_laws
from tokenkl.sources.contexts import Contexts


@final
class Independent(Source):
    """P(k_1 .. k_L) = prod_i P_i(k_i).

    Args:
        laws: one law for every position, in rows; they may have zeros.

    Raises:
        ValueError: rows that are no laws.

    Example:
        >>> import tokenkl as tk
        >>> round(tk.sources.Independent([[0.5, 0.5], [1.0, 0.0]]).entropy(), 6)
        0.693147
    """

    laws: Float[np.ndarray, "length K"]

    def __init__(self, laws: Float[Any, "length K"]) -> None:
        self.laws = check_laws("laws", as_float_array("laws", laws, ndim=2))

    @property
    def K(self) -> int:
        return int(self.laws.shape[1])

    @property
    def length(self) -> int:
        return int(self.laws.shape[0])

    def log_prob(self, tokens: Int[Any, "N length"]) -> Float[np.ndarray, " N"]:
        ids = self._check_tokens(tokens)
        return self._logs()[np.arange(self.length), ids].sum(axis=1)

    def marginals(self) -> Float[np.ndarray, "length K"]:
        return self.laws

    def pair(self, first: int, second: int) -> Float[np.ndarray, "K K"]:
        self._check_pair(first, second)
        return np.outer(self.laws[first], self.laws[second])

    def entropy(self) -> float:
        return float(entropies(self.laws).sum())

    @property
    def knows_mean_entropies(self) -> bool:
        return True

    def mean_entropies(self) -> Float[np.ndarray, "length+1"]:
        return np.arange(self.length + 1) * (self.entropy() / self.length)

    def sample(self, size: int, *, key: Any) -> Int[np.ndarray, "size length"]:
        check_count(size, "size")
        rng = generator(key)
        return np.stack([draw_ids(rng, law, self.K, size) for law in self.laws], axis=1)

    def messages(
        self, log_likelihood: Float[Any, "N length K"]
    ) -> tuple[Float[np.ndarray, "N length K"], Float[np.ndarray, " N"]]:
        given = self._check_likelihood(log_likelihood)
        logs = self._logs()
        found: np.ndarray = special.logsumexp(logs + given, axis=-1)
        return np.broadcast_to(logs, given.shape).copy(), found.sum(axis=1)

    def _every_context(self, given: Given, positions: list[int]) -> Contexts:
        return self._without_context(positions)

    def _logs(self) -> Float[np.ndarray, "length K"]:
        with np.errstate(divide="ignore"):
            return np.log(self.laws)
