"""`OneHot`: every token a basis vector, never a K x K matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypedDict

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from tokenkl._formats import conform
from tokenkl._validation import (
    MAX_ELEMENTS,
    check_count,
    check_ids,
    check_positive,
    check_prior,
    check_vectors,
    is_traced,
    reject,
)
from tokenkl.codebooks.base import Codebook, Reader, Record, entropy, is_equal, log_of
from tokenkl.codebooks.registry import register, register_spec
from tokenkl.numerics.distances import pairs_by_rows


class _OfOneHot(TypedDict):
    K: Any  # of any size
    scale: float


@register
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

    @property
    def stated_prior(self) -> Float[Any, " K"] | None:
        return self.given_prior

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        ids = check_ids(ids, self.K)
        self._check_size(ids.size * self.n, MAX_ELEMENTS, "points_at(ids)")
        return self.scale * (ids[..., None] == np.arange(self.n))

    def all_log_priors(self) -> Float[Any, " K"]:
        return log_of(self.given_prior, self.K)

    def prior_entropy(self) -> Any:
        return np.log(self.K) if self.given_prior is None else entropy(self.all_log_priors())

    # ---- What the structure knows ---------------------------------------------------------------

    @property
    def knows_distances(self) -> bool:
        return True

    @property
    def common_distance(self) -> float:
        return self.min_distance()

    @property
    def knows_pairs(self) -> bool:
        return True

    @property
    def knows_covariance(self) -> bool:
        return True

    def average_power(self) -> float:
        if self.given_prior is None:
            return float(self.scale**2 * (self.K - 1) / self.K)
        top, rest = self._split_prior()
        return float(self.scale**2 * (top * rest.sum() + np.sum(rest * (1 - rest))))

    def mean(self) -> Float[np.ndarray, " n"]:
        if self.given_prior is None:
            return np.full(self.K, self.scale / self.K)
        return np.asarray(self.scale * self.given_prior)

    def covariance_eigenvalues(self) -> Float[np.ndarray, " m"]:
        if not self.has_equal_priors:
            return super().covariance_eigenvalues()
        return np.full(self.K - 1, float(self.scale) ** 2 / self.K)

    def second_order(
        self, snr: Float[np.ndarray, " s"]
    ) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
        if self.has_equal_priors:
            return super().second_order(snr)
        # Cov / scale^2 = diag(pi) - pi pi^T; Sherman and Morrison's formula, with every term
        # positive: nothing cancels where one token holds nearly everything, or at a large snr.
        top, rest = self._split_prior()
        power = float(self.scale) ** 2
        linear, log_det = np.empty(snr.size), np.empty(snr.size)
        for index, one in enumerate(np.minimum(snr * power, np.finfo(float).max)):
            first, share = top / (1 + one * top), rest / (1 + one * rest)
            left = first + share.sum()
            ratios = np.append(first * (share.sum() / left), share * ((left - share) / left))
            linear[index] = power * ratios.sum()
            # (1 + one top) left - 1, since top and rest sum to one.
            more = np.sum(one * share * (top - rest))
            log_det[index] = np.log1p(one * rest).sum() + np.log1p(more)
        return linear, log_det

    def _split_prior(self) -> tuple[float, Float[np.ndarray, " rest"]]:
        """The largest probability, and all others: what is left of it is their sum, not 1 - it."""
        prior = np.asarray(self.given_prior)
        top = int(prior.argmax())
        return float(prior[top]), np.delete(prior, top)

    def half_widths(self) -> Float[np.ndarray, " n"]:
        return np.full(self.K, 0.0 if self.K == 1 else float(self.scale) / 2)

    def largest_coordinate(self) -> float:
        return float(self.scale)

    def diameter(self) -> float:
        return self.min_distance() if self.K > 1 else 0.0

    def nn_distances(self) -> Float[np.ndarray, " K"]:
        self._check_size(self.K, MAX_ELEMENTS, "nn_distances")
        return np.full(self.K, self.min_distance())

    def min_distance(self) -> float:
        return float(self.scale * math.sqrt(2))

    def mean_nn_distance(self) -> float:
        return self.min_distance()

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        if self.has_equal_priors:
            pairs = np.array([float(self.K) * (self.K - 1)])
            yield pairs / self.K, np.sqrt([2 * float(self.scale) ** 2]), None
        else:  # only the prior tells pairs apart, and word counts repeat
            log_prior, counts = np.unique(np.asarray(self.log_prior), return_counts=True)
            distance = float(self.scale) * np.sqrt(2)
            yield from pairs_by_rows(log_prior, counts.astype(float), None, distance)

    def logits(self, y: Float[Any, "*batch n"], h: Float[Any, " *batch"]) -> Float[Any, "*batch K"]:
        return h[..., None] * self.scale * y + self.log_prior

    def mean_under(self, p: Float[Any, "*batch K"]) -> Float[Any, "*batch n"]:
        return self.scale * p

    def covariance_under(self, p: Float[Any, "*batch K"]) -> Float[Any, "*batch n n"]:
        product = p[..., :, None] * p[..., None, :]
        return self.scale**2 * (p[..., None] * self.array_module(p).eye(self.n) - product)

    def decide(
        self, y: Float[np.ndarray, "rows n"], h: Float[np.ndarray, " rows"]
    ) -> Int[np.ndarray, " rows"]:
        logits = h[:, None] * float(self.scale) * y
        if not self.has_equal_priors:
            logits = logits + self.log_prior
        return np.asarray(logits.argmax(axis=1))

    def nearest(self, x: Float[Any, "*batch n"]) -> Int[np.ndarray, " *batch"]:
        return np.asarray(check_vectors("x", x, self.n).argmax(axis=-1))

    def scaled(self, by: Any, over: Any = 1.0) -> OneHot:
        return OneHot(self.K, self.given_prior, self.scale / over * by)

    def with_prior(self, prior: Float[Any, " K"] | None) -> OneHot:
        return OneHot(self.K, prior, self.scale)

    def record(self) -> Record:
        scale = self.scale if is_traced(self.scale) else float(self.scale)
        return {"K": self.K, "scale": scale}, {"prior": self.given_prior}

    @classmethod
    def from_record(cls, header: dict[str, Any], read: Reader) -> Codebook:
        conform(header, _OfOneHot, "the description")
        return cls(header["K"], read("prior", optional=True), header["scale"])


@register_spec("onehot", "onehot:K", "onehot:6561")
def _from_spec(spec: str, rest: str) -> Codebook:
    if not (rest.isascii() and rest.isdigit() and 0 < len(rest) < 16 and int(rest) > 0):
        reject("CODEBOOK", spec, "onehot:K with a whole number K above 0, such as onehot:6561")
    return OneHot(int(rest))
