"""A sequence of tokens as one token: its points side by side, and the source as the prior."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int
from scipy import special
from scipy.spatial.distance import cdist

from tokenkl._validation import MAX_ELEMENTS, check_ids, reject
from tokenkl.codebooks.base import Codebook, PointCodebook, check_codebook, power_of
from tokenkl.sources import Source

#: Most sequences that are listed one by one, and numbers that are worked on at a time.
MOST_LISTED, BLOCK = 2**12, 2**20


def sequence_codebook(codebook: Codebook, source: Source) -> Codebook:
    """The codebook whose tokens are the sequences of a source.

    With the points (e_(k_1), .., e_(k_L)) in R^(L n) and the source as its prior. Whatever holds
    for every codebook and prior holds for it, and every function takes it: path KL, steps,
    schedules and produced laws are then those of sequences in context. Up to 4096 sequences that
    can occur become a `PointCodebook`, in the order of `source.joint()`; those of probability 0 are
    left out. More are a `SequenceCodebook`, for what needs posteriors of single tokens alone:
    `ancestral_kl`, `optimal_steps`, `prior_mismatch`, `information_uniform_schedule`.

    Args:
        codebook: where single tokens sit; its own prior is not used.
        source: the law of the sequences, of as many tokens.

    Raises:
        ValueError: another number of tokens, or more of them than can be listed.

    Example: two bits that are nearly equal.
        >>> import tokenkl as tk
        >>> bit, chain = tk.FSQ((2,)), tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=2)
        >>> pair = tk.sequence_codebook(bit, chain)
        >>> pair.prior.round(6).tolist()
        [0.45, 0.05, 0.05, 0.45]
        >>> pair.points.tolist()
        [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    made = SequenceCodebook(codebook, source)
    if source.length * math.log(source.K) > math.log(MOST_LISTED) + 1e-9:
        return made
    prior = source.joint().ravel()
    ids = np.flatnonzero(prior)
    return PointCodebook(made.points_at(ids), prior[ids], name=made.label, allow_duplicates=True)


@final
class SequenceCodebook(Codebook):
    """Sequences of a source as tokens that are too many to be listed; see `sequence_codebook`.

    Sampled through the posteriors of single tokens given the whole noisy sequence, which the
    source's messages give exactly. Mistakes too rare for a sample are looked for among those of
    single tokens by themselves; several tokens that are mistaken together are not.
    """

    token: Codebook
    source: Source

    def __init__(self, codebook: Codebook, source: Source) -> None:
        check_codebook(codebook)
        if not isinstance(source, Source):
            reject("source", source, "a tokenkl source, such as tk.sources.Markov(...)")
        if codebook.K != source.K:
            reject("source", f"one of {source.K:,} tokens", f"one of {codebook.K:,}, as codebook")
        if not codebook.fits:
            reject("codebook", repr(codebook), "one whose tokens can be listed")
        self.token, self.source = codebook, source

    @property
    def K(self) -> int:
        return self.token.K**self.source.length

    @property
    def n(self) -> int:
        return self.token.n * self.source.length

    @property
    def length(self) -> int:
        return self.source.length

    @property
    def label(self) -> str:
        return f"{self.length} x {self.token.label}"

    @property
    def fits(self) -> bool:
        return False

    @property
    def has_equal_priors(self) -> bool:
        return False

    def all_log_priors(self) -> Float[Any, " K"]:
        with np.errstate(divide="ignore"):
            return np.log(self.source.joint().ravel())

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        if self.K > 2**63:
            reject("K", f"{self.token.K}^{self.length}", "at most 2**63 for sequences to have ids")
        left = check_ids(ids, self.K)
        digits = np.stack(np.unravel_index(left, (self.token.K,) * self.length), axis=-1)
        return self.token.points[digits].reshape(*left.shape, self.n)

    def sample_points(self, rng: np.random.Generator, size: int) -> Float[np.ndarray, "size n"]:
        tokens = self.source.sample(size, key=int(rng.integers(2**63)))
        return np.asarray(self.token.points)[tokens].reshape(size, self.n)

    def prior_entropy(self) -> float:
        return self.source.entropy()

    def mean(self) -> Float[np.ndarray, " n"]:
        return np.asarray(self.source.marginals() @ self.token.points).ravel()

    def average_power(self) -> float:
        points = np.asarray(self.token.points)
        return math.fsum(power_of(points, law) for law in self.source.marginals())

    def by_itself(self) -> Codebook:
        """A single token, with its mean law over the positions."""
        law = self.source.marginals().mean(axis=0)
        if law.all():
            return self.token.with_prior(law)  # keeps its kind, and what is exact for it
        seen = np.flatnonzero(law)
        points = np.asarray(self.token.points)[seen]
        return PointCodebook(points, law[seen] / law.sum(), allow_duplicates=True)

    def posterior_variances(
        self, rng: np.random.Generator, size: int, snr: Float[np.ndarray, " levels"]
    ) -> Float[np.ndarray, "levels size"]:
        """tr Cov(X | Y) of sampled sequences, with noise that is common to all levels."""
        points, apart = self._geometry
        found = np.empty((snr.size, size))
        for part, _, law, _ in self._seen(rng, size, snr):
            best = law.argmax(axis=-1)
            np.put_along_axis(law, best[..., None], 0.0, axis=-1)
            moved = law @ points - law.sum(axis=-1, keepdims=True) * points[best]
            squares = np.einsum("sik,sik->s", law, apart[best])
            squares -= np.square(moved).sum(axis=(1, 2))
            found[part] = squares.reshape(-1, size)
        return found

    def posterior_dependence(
        self, rng: np.random.Generator, size: int, snr: Float[np.ndarray, " levels"]
    ) -> Float[np.ndarray, "levels size"]:
        """log p(X | Y) - sum_i log p(k_i | Y), whose mean is sum_i H(k_i | Y) - H(X | Y)."""
        found = np.empty((snr.size, size))
        for part, tokens, law, log_posterior in self._seen(rng, size, snr):
            ids = np.tile(tokens, (len(law) // size, 1))[..., None]
            own = np.take_along_axis(law, ids, axis=-1)[..., 0]
            rest = law.copy()
            np.put_along_axis(rest, ids, 0.0, axis=-1)
            # A posterior near 1 keeps its digits in what is left.
            logs = np.where(own > 0.5, np.log1p(-rest.sum(axis=-1)), np.log(own))
            found[part] = (log_posterior - logs.sum(axis=1)).reshape(-1, size)
        return found

    @property
    def _geometry(self) -> tuple[Float[np.ndarray, "K n"], Float[np.ndarray, "K K"]]:
        """Points around their mean, and squared distances."""
        points = np.asarray(self.token.points) - np.mean(self.token.points, axis=0)
        return points, cdist(points, points, "sqeuclidean")

    def _seen(
        self, rng: np.random.Generator, size: int, snr: Float[np.ndarray, " levels"]
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        """Some levels at a time: p(k_i | Y) and log p(X | Y) of sampled sequences, levels first."""
        if size * self.length * self.token.K > MAX_ELEMENTS:
            reject("size", size, f"few enough for {MAX_ELEMENTS:,} numbers")
        tokens = self.source.sample(size, key=int(rng.integers(2**63)))
        points, apart = self._geometry
        noise = rng.standard_normal((*tokens.shape, points.shape[1]))
        # Everything relative to the true token: nothing large cancels.
        along = noise @ points.T - np.einsum("sin,sin->si", noise, points[tokens])[..., None]
        log_prior = self.source.log_prob(tokens)
        together = max(1, BLOCK // along.size)
        for first in range(0, snr.size, together):
            part = slice(first, min(first + together, snr.size))
            h = np.minimum(np.sqrt(snr[part]), 1e150)[:, None, None, None]
            seen = (h * along - h**2 / 2 * apart[tokens]).reshape(-1, *along.shape[1:])
            messages, evidence = self.source.messages(seen)
            law = special.softmax(messages + seen, axis=-1)
            yield part, tokens, law, np.tile(log_prior, len(law) // size) - evidence

    def __repr__(self) -> str:
        return f"<SequenceCodebook {self.label}: {self.token.K:,}^{self.length} sequences>"
