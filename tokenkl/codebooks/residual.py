"""`ResidualCodebook`: residual vector quantization, every sum of one vector from each stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tokenkl._formats import conform
from tokenkl._once import once
from tokenkl._random import draw_ids
from tokenkl._validation import check_points, check_prior, is_traced, reject
from tokenkl.codebooks.base import (
    Codebook,
    Reader,
    Record,
    all_but_the_top,
    away_from_mean,
    entropy,
    is_equal,
    log_of,
    power_of,
)
from tokenkl.codebooks.digits import ByDigits, Order
from tokenkl.codebooks.product import marginals_of
from tokenkl.codebooks.registry import register
from tokenkl.numerics.distances import largest_distance


class _OfStages(TypedDict):
    name: str
    stages: int


@register
class ResidualCodebook(ByDigits):
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
    order: Order = eqx.field(static=True)

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
                    f"a list of {len(stage_priors)}",
                    f"a list with one entry for each of the {len(self.stages)} stages",
                )
            self.stage_priors = tuple(
                check_prior(given, size, f"stage_priors[{index}]")
                for index, (given, size) in enumerate(zip(stage_priors, self.shape, strict=True))
            )
        self.name = name
        self.order = "C"

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of vectors of each stage."""
        return tuple(stage.shape[0] for stage in self.stages)

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

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        return self.points_of(self.to_digits(ids))

    def points_of(self, digits: Int[Any, "*batch stages"]) -> Float[Any, "*batch n"]:
        """Coordinates of the tokens with these indices in the stages, however large K is.

        Raises:
            ValueError: wrong number of stages, or an index outside its stage.
        """
        xp = jnp if is_traced(*self.stages) else np
        total = xp.zeros((*np.shape(digits)[:-1], self.n))
        for stage, chosen in zip(self.stages, self.check_digits(digits), strict=True):
            total = total + stage[chosen]
        return total

    def all_log_priors(self) -> Float[Any, " K"]:
        if self.stage_priors is None:
            return log_of(self.given_prior, self.K)
        xp = jnp if is_traced(*self.stage_priors) else np
        return self.outer([xp.asarray(factor) for factor in self.stage_log_priors])

    def prior_entropy(self) -> Any:
        if self.given_prior is not None:
            return entropy(self.all_log_priors())
        factors = zip(self.stage_priors or (None,) * len(self.stages), self.shape, strict=True)
        # math.log takes a whole number of any size, which NumPy's does not.
        return sum(math.log(size) if p is None else entropy(log_of(p, size)) for p, size in factors)

    def stage_weights(self) -> list[Float[np.ndarray, " K_i"]]:
        """Probabilities of the vectors of every stage, whatever the prior."""
        if self.given_prior is not None:
            return marginals_of(self.given_prior, self.shape)
        return [np.exp(np.asarray(factor)) for factor in self.stage_log_priors]

    # ---- What the structure knows ---------------------------------------------------------------

    @property
    def knows_covariance(self) -> bool:
        return self.given_prior is None

    def largest_prior(self) -> float:
        if self.has_equal_priors or self.given_prior is not None:
            return super().largest_prior()
        return float(np.exp(sum(factor.max() for factor in self.stage_log_priors)))

    def smaller_priors(self) -> float:
        if self.has_equal_priors or self.given_prior is not None:
            return super().smaller_priors()
        rests = [all_but_the_top(np.asarray(factor)) for factor in self.stage_log_priors]
        return -math.expm1(math.fsum(math.log1p(-rest) for rest in rests))

    def sample_points(self, rng: np.random.Generator, size: int) -> Float[np.ndarray, "size n"]:
        if self.given_prior is not None or self.K <= 2**63:
            return super().sample_points(rng, size)
        digits = [draw_ids(rng, weight, weight.size, size) for weight in self.stage_weights()]
        return np.asarray(self.points_of(np.stack(digits, axis=-1)))

    def mean(self) -> Float[np.ndarray, " n"]:
        pairs = zip(self.stages, self.stage_weights(), strict=True)
        return np.asarray(np.sum([weight @ stage for stage, weight in pairs], axis=0))

    def average_power(self) -> float:
        if self.given_prior is not None:
            return super().average_power()
        pairs = zip(self.stages, self.stage_weights(), strict=True)
        return math.fsum(power_of(np.asarray(stage), weight) for stage, weight in pairs)

    def covariance_eigenvalues(self) -> Float[np.ndarray, " m"]:
        if self.given_prior is not None:
            return super().covariance_eigenvalues()
        return once(self, _covariance_eigenvalues).copy()

    def _corners(self) -> tuple[np.ndarray, np.ndarray]:
        # All combinations occur, so the extremes of a coordinate are the sums of the stages'.
        low = np.sum([np.min(stage, axis=0) for stage in self.stages], axis=0)
        return low, np.sum([np.max(stage, axis=0) for stage in self.stages], axis=0)

    def half_widths(self) -> Float[np.ndarray, " n"]:
        low, high = self._corners()
        return np.asarray((high - low) / 2)

    def largest_coordinate(self) -> float:
        low, high = self._corners()
        return float(max(high.max(), -low.min()))

    def diameter_bound(self) -> float:
        if self.fits:
            return super().diameter_bound()
        return once(self, _diameter_bound)

    def min_distance_bound(self) -> float:
        return super().min_distance_bound() if self.fits else 0.0

    # ---- Codebooks made from this one -----------------------------------------------------------

    def scaled(self, by: Any, over: Any = 1.0) -> ResidualCodebook:
        return self._with_stages([stage / over * by for stage in self.stages], "scaled")

    def shifted(self, by: Float[Any, " n"], what: str = "shifted") -> ResidualCodebook:
        return self._with_stages([self.stages[0] + by, *self.stages[1:]], what)

    def _with_stages(self, stages: list[Any], what: str) -> ResidualCodebook:
        name = f"{self.label}, {what}"
        return ResidualCodebook(stages, self.given_prior, stage_priors=self.stage_priors, name=name)

    def with_prior(self, prior: Float[Any, " K"] | None) -> ResidualCodebook:
        return ResidualCodebook(self.stages, prior, name=self.label)

    def with_priors(self, priors: list[Any]) -> ResidualCodebook:
        return ResidualCodebook(self.stages, stage_priors=priors, name=self.label)

    def record(self) -> Record:
        header = {"name": self.name, "stages": len(self.stages)}
        arrays = {f"stages.{index}": stage for index, stage in enumerate(self.stages)}
        priors = enumerate(self.stage_priors or ())
        arrays |= {f"stage_priors.{index}": prior for index, prior in priors}
        return header, {"prior": self.given_prior, **arrays}

    @classmethod
    def from_record(cls, header: dict[str, Any], read: Reader) -> Codebook:
        conform(header, _OfStages, "the description")
        indices = range(header["stages"])
        stages = [read(f"stages.{index}") for index in indices]
        given = [read(f"stage_priors.{index}", optional=True) for index in indices]
        product = None if all(factor is None for factor in given) else given
        prior = read("prior", optional=True)
        return cls(stages, prior, stage_priors=product, name=header["name"])


def _diameter_bound(codebook: ResidualCodebook) -> float:
    """The smaller of what the half-widths and the widths of the stages allow."""
    apart = [largest_distance(np.asarray(stage)) for stage in codebook.stages]
    return min(float(2 * np.linalg.norm(codebook.half_widths())), math.fsum(apart))


def _covariance_eigenvalues(codebook: ResidualCodebook) -> Float[np.ndarray, " m"]:
    # Covariances of independent stages add up: those of all their vectors, one below the other.
    parts = [
        np.sqrt(weight)[:, None] * away_from_mean(np.asarray(stage), weight)
        for stage, weight in zip(codebook.stages, codebook.stage_weights(), strict=True)
    ]
    return np.asarray(np.linalg.svd(np.concatenate(parts), compute_uv=False) ** 2)
