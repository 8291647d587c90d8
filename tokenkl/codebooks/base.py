"""`Codebook`, what every codebook offers, and `PointCodebook`, the one without structure."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tokenkl._validation import (
    MAX_ELEMENTS,
    check_ids,
    check_points,
    check_prior,
    is_traced,
    reject,
)


class Codebook(eqx.Module):
    """K tokens, each a point in R^n, with a strictly positive prior.

    Codebooks are immutable pytrees. Structured ones are lazy: `points` and `prior` are made only
    when asked for, and refuse above 2**26 elements; `points_at(ids)` gives any part at any size.
    """

    @property
    @abc.abstractmethod
    def K(self) -> int:
        """Number of tokens."""

    @property
    @abc.abstractmethod
    def n(self) -> int:
        """Dimension of the space that the tokens sit in."""

    @property
    @abc.abstractmethod
    def has_equal_priors(self) -> bool:
        """Whether every token has prior probability 1/K."""

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """A short name for tables and legends."""

    @abc.abstractmethod
    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        """Coordinates of the tokens with these ids, nothing else materialised.

        Raises:
            ValueError: an id is not in 0 .. K - 1.
        """

    @abc.abstractmethod
    def _log_prior(self) -> Float[Any, " K"]:
        """Natural logarithms of the prior."""

    @abc.abstractmethod
    def prior_entropy(self) -> Any:
        """H(pi), in nats, without materialising the prior where structure allows it."""

    def materialise(self, max_elements: int = MAX_ELEMENTS) -> Float[np.ndarray, "K n"]:
        """All K points; `max_elements` is the largest K * n that is accepted.

        Raises:
            ValueError: K * n is above `max_elements`.
        """
        self._check_size(self.K * self.n, max_elements, "points")
        return self.points_at(np.arange(self.K))

    @property
    def points(self) -> Float[np.ndarray, "K n"]:
        """All K points; refuses above 2**26 elements (512 MiB)."""
        return self.materialise()

    @property
    def log_prior(self) -> Float[np.ndarray, " K"]:
        """Natural logarithms of the prior probabilities; refuses above 2**26 tokens."""
        self._check_size(self.K, MAX_ELEMENTS, "log_prior")
        return self._log_prior()

    @property
    def prior(self) -> Float[np.ndarray, " K"]:
        """Prior probabilities of the tokens; refuses above 2**26 tokens."""
        log_prior = self.log_prior
        return (jnp if is_traced(log_prior) else np).exp(log_prior)

    def _check_size(self, elements: int, max_elements: int, name: str) -> None:
        if elements > max_elements:
            reject(
                name,
                f"{self.K:,} tokens in {self.n:,} dimensions",
                f"at most {max_elements:,} numbers to be materialised; ask for a part with "
                "points_at(ids), or raise the limit with materialise(max_elements=...)",
            )

    def __repr__(self) -> str:
        prior = "equal priors" if self.has_equal_priors else "unequal priors"
        return f"<{type(self).__name__} {self.label}: K = {self.K:,}, n = {self.n:,}, {prior}>"


def entropy(log_prior: Any) -> Any:
    """Entropy in nats of the law with these log-probabilities, up to a common constant.

    Summed relative to the most probable token, so that a nearly certain law keeps its digits.
    """
    xp = jnp if is_traced(log_prior) else np
    best = xp.argmax(log_prior)
    below = log_prior[best] - log_prior
    odds = xp.where(xp.arange(log_prior.shape[0]) == best, 0.0, xp.exp(-below))
    others = xp.sum(odds)
    return xp.log1p(others) + xp.sum(odds * below) / (1 + others)


class PointCodebook(Codebook):
    """Any K distinct points in R^n.

    Args:
        points: (K, n) coordinates, finite, distinct unless `allow_duplicates`.
        prior: (K,) probabilities, strictly positive, summing to 1; equal when None.
        name: a label for tables and legends.
        allow_duplicates: accept equal points. All information quantities stay well defined (the
            token is then not determined even without noise); nearest-neighbour distances are 0.

    Raises:
        ValueError: wrong shape, a number that is not finite, equal points, or an invalid prior.
    """

    coordinates: Float[Any, "K n"]
    given_prior: Float[Any, " K"] | None
    name: str = eqx.field(static=True)

    def __init__(
        self,
        points: Float[Any, "K n"],
        prior: Float[Any, " K"] | None = None,
        *,
        name: str = "points",
        allow_duplicates: bool = False,
    ) -> None:
        self.coordinates = check_points(points, allow_duplicates=allow_duplicates)
        self.given_prior = check_prior(prior, self.coordinates.shape[0])
        self.name = name

    @property
    def K(self) -> int:
        return self.coordinates.shape[0]

    @property
    def n(self) -> int:
        return self.coordinates.shape[1]

    @property
    def label(self) -> str:
        return self.name

    @property
    def has_equal_priors(self) -> bool:
        return is_equal(self.given_prior)

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        return self.coordinates[check_ids(ids, self.K)]

    def materialise(self, max_elements: int = MAX_ELEMENTS) -> Float[np.ndarray, "K n"]:
        return self.coordinates

    def _log_prior(self) -> Float[Any, " K"]:
        return log_of(self.given_prior, self.K)

    def prior_entropy(self) -> Any:
        return np.log(self.K) if self.given_prior is None else entropy(self._log_prior())


def is_equal(prior: Any) -> bool:
    """Whether a given prior (None stands for equal) is the equal one, to rounding."""
    if prior is None:
        return True
    if is_traced(prior):
        return False
    return bool(np.ptp(prior) <= 4 * np.finfo(float).eps * prior[0])


def log_of(prior: Any, K: int) -> Any:
    """Log-probabilities of a given prior over K tokens; None stands for equal."""
    if prior is None:
        return np.full(K, -np.log(K))
    return (jnp if is_traced(prior) else np).log(prior)
