"""`OneHot`: every token a basis vector, never a K x K matrix."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from tokenkl._validation import check_count, check_ids, check_positive, check_prior
from tokenkl.codebooks.base import Codebook, entropy, is_equal, log_of


class OneHot(Codebook):
    """K tokens at `scale` times the basis vectors of R^K.

    Every pair of tokens is `scale` * sqrt(2) apart. A regular simplex is this codebook up to a
    shift, so it has the same accuracy, entropies and MMSE.

    Args:
        K: number of tokens, at least 1.
        prior: (K,) probabilities, strictly positive, summing to 1; equal when None.
        scale: length of every token vector, above 0.

    Raises:
        ValueError: K below 1, scale not above 0, or an invalid prior.
    """

    size: int = eqx.field(static=True)
    given_prior: Float[Any, " K"] | None
    scale: Any

    def __init__(self, K: int, prior: Float[Any, " K"] | None = None, scale: float = 1.0) -> None:
        self.size = check_count(K, "K")
        self.given_prior = check_prior(prior, self.size)
        self.scale = check_positive(scale, "scale")

    @property
    def K(self) -> int:
        return self.size

    @property
    def n(self) -> int:
        return self.size

    @property
    def label(self) -> str:
        return f"one-hot {self.size}"

    @property
    def has_equal_priors(self) -> bool:
        return is_equal(self.given_prior)

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        ids = check_ids(ids, self.K)
        self._check_size(ids.size * self.n, 2**26, "points_at(ids)")
        return self.scale * (ids[..., None] == np.arange(self.n))

    def _log_prior(self) -> Float[Any, " K"]:
        return log_of(self.given_prior, self.K)

    def prior_entropy(self) -> Any:
        return np.log(self.K) if self.given_prior is None else entropy(self._log_prior())
