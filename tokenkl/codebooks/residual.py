"""`ResidualCodebook`: residual vector quantization, every sum of one vector from each stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tokenkl._validation import check_ids, check_points, check_prior, is_traced, reject
from tokenkl.codebooks.base import Codebook, entropy, is_equal, log_of
from tokenkl.codebooks.product import digits_of


class ResidualCodebook(Codebook):
    """Tokens are tuples of stage indices, points are sums of stage vectors (RVQ).

    K = K_1 * ... * K_S; the last stage varies fastest in the token ids. The joint posterior does
    not factorise over the stages. Sums may coincide: that is allowed, since accuracy, entropies
    and MMSE stay well defined, and it is not looked for, since K may be astronomically large.

    Args:
        stages: list of (K_i, n) arrays.
        prior: (K,) probabilities in the order of the ids; equal when None.

    Raises:
        ValueError: no stage, dimensions that differ, a number that is not finite, or an invalid
            prior.
    """

    stages: tuple[Float[Any, "K_i n"], ...]
    given_prior: Float[Any, " K"] | None
    name: str = eqx.field(static=True)

    def __init__(
        self,
        stages: Sequence[Float[Any, "K_i n"]],
        prior: Float[Any, " K"] | None = None,
        *,
        name: str = "",
    ) -> None:
        if len(stages) < 1:
            reject("stages", stages, "a list with at least one (K_i, n) array")
        self.stages = tuple(
            check_points(stage, allow_duplicates=True, name=f"stages[{index}]")
            for index, stage in enumerate(stages)
        )
        for index, stage in enumerate(self.stages):
            if stage.shape[1] != self.n:
                reject(
                    f"stages[{index}]",
                    f"{stage.shape[1]} dimensions",
                    f"in R^{self.n} like stages[0]",
                )
        self.given_prior = check_prior(prior, self.K)
        self.name = name

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of vectors of each stage."""
        return tuple(stage.shape[0] for stage in self.stages)

    @property
    def K(self) -> int:
        return math.prod(self.shape)

    @property
    def n(self) -> int:
        return self.stages[0].shape[1]

    @property
    def label(self) -> str:
        return self.name or "RVQ " + "x".join(str(size) for size in self.shape)

    @property
    def has_equal_priors(self) -> bool:
        return is_equal(self.given_prior)

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        digits = digits_of(check_ids(ids, self.K), self.shape)
        xp = jnp if is_traced(*self.stages) else np
        total = xp.zeros((*digits.shape[:-1], self.n))
        for index, stage in enumerate(self.stages):
            total = total + stage[digits[..., index]]
        return total

    def _log_prior(self) -> Float[Any, " K"]:
        return log_of(self.given_prior, self.K)

    def prior_entropy(self) -> Any:
        return np.log(self.K) if self.given_prior is None else entropy(self._log_prior())
