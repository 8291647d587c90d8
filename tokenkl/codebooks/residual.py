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
    and MMSE stay well defined, and it is not looked for, since K may be astronomically large: a
    Python integer, beyond the reach of 64-bit ids. Tokens are then named by their digits, one index
    for each stage.

    Args:
        stages: list of (K_i, n) arrays.
        prior: (K,) probabilities in the order of the ids; equal when None.
        stage_priors: one (K_i,) probability vector, or None for equal ones, for each stage: the
            indices are then independent. Not together with `prior`.

    Raises:
        ValueError: no stage, dimensions that differ, a number that is not finite, or an invalid
            prior.

    Example:
        >>> import numpy as np
        >>> stages = [np.random.default_rng(s).normal(size=(1024, 8)) / 2**s for s in range(8)]
        >>> codebook = ResidualCodebook(stages)
        >>> codebook.K == 2**80, round(codebook.prior_entropy(), 6)
        (True, 55.451774)
        >>> codebook.points_of([3, 1, 4, 1, 5, 9, 2, 6]).shape
        (8,)
    """

    stages: tuple[Float[Any, "K_i n"], ...]
    given_prior: Float[Any, " K"] | None
    stage_priors: tuple[Float[Any, " K_i"] | None, ...] | None
    name: str = eqx.field(static=True)

    def __init__(
        self,
        stages: Sequence[Float[Any, "K_i n"]],
        prior: Float[Any, " K"] | None = None,
        *,
        stage_priors: Sequence[Float[Any, " K_i"] | None] | None = None,
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
        self.stage_priors = None
        if stage_priors is not None:
            if prior is not None:
                reject("stage_priors", "a list", "None where prior gives the joint law")
            if len(stage_priors) != len(self.stages):
                reject(
                    "stage_priors",
                    f"{len(stage_priors)} entries",
                    f"a list with one entry for each of the {len(self.stages)} stages",
                )
            self.stage_priors = tuple(
                check_prior(given, size, f"stage_priors[{index}]")
                for index, (given, size) in enumerate(zip(stage_priors, self.shape, strict=True))
            )
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
        factors = self.stage_priors or ()
        return is_equal(self.given_prior) and all(is_equal(factor) for factor in factors)

    @property
    def stage_log_priors(self) -> tuple[Float[Any, " K_i"], ...]:
        """Logarithms of the laws of the stage indices, which are independent unless `prior` is."""
        if self.given_prior is not None:
            reject("prior", "a joint law", "None or given as stage_priors, for its factors")
        factors = self.stage_priors or (None,) * len(self.stages)
        return tuple(log_of(given, size) for given, size in zip(factors, self.shape, strict=True))

    def to_digits(self, ids: Int[Any, " *batch"]) -> Int[np.ndarray, "*batch stages"]:
        """The index in each stage of the tokens with these ids.

        Raises:
            ValueError: an id is not in 0 .. K - 1.
        """
        return digits_of(check_ids(ids, self.K), self.shape)

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        return self.points_of(self.to_digits(ids))

    def points_of(self, digits: Int[Any, "*batch stages"]) -> Float[Any, "*batch n"]:
        """Coordinates of the tokens with these indices in the stages, however large K is.

        Raises:
            ValueError: wrong number of stages, or an index outside its stage.
        """
        digits = np.asarray(digits)
        if digits.ndim == 0 or digits.shape[-1] != len(self.stages):
            reject(
                "digits",
                f"shape {digits.shape}",
                f"an array whose last axis has length {len(self.stages)}",
            )
        xp = jnp if is_traced(*self.stages) else np
        total = xp.zeros((*digits.shape[:-1], self.n))
        for index, stage in enumerate(self.stages):
            chosen = check_ids(digits[..., index], stage.shape[0], f"digits[..., {index}]")
            total = total + stage[chosen]
        return total

    def _log_prior(self) -> Float[Any, " K"]:
        if self.stage_priors is None:
            return log_of(self.given_prior, self.K)
        xp = jnp if is_traced(*self.stage_priors) else np
        joint = xp.zeros(1)
        for factor in self.stage_log_priors:
            joint = (joint[:, None] + factor).ravel()
        return joint

    def prior_entropy(self) -> Any:
        if self.given_prior is not None:
            return entropy(self._log_prior())
        factors = zip(self.stage_priors or (None,) * len(self.stages), self.shape, strict=True)
        # math.log takes a whole number of any size, which NumPy's does not.
        return sum(math.log(size) if p is None else entropy(log_of(p, size)) for p, size in factors)
