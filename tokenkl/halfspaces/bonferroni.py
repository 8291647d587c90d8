"""Lower bounds on a union of half-spaces, from each token's nearest rivals.

P_e = sum_k pi_k P(union_j H_kj), H_kj the half-space on which token j beats token k (`thresholds`),
so every lower bound on the probability of a union is one on P_e, for any choice of rivals.

Equal points are merged first: with m_g the largest prior of a group and M = sum_g m_g, the error
probability is (1 - M) + M P_e', P_e' that of the distinct points with priors m_g / M.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._validation import reject
from tokenkl.codebooks import Codebook, OneHot
from tokenkl.codebooks.base import is_equal
from tokenkl.halfspaces.bivariate import bivariate_tail
from tokenkl.halfspaces.thresholds import threshold
from tokenkl.numerics.distances import cut
from tokenkl.numerics.neighbours import nearest
from tokenkl.numerics.threads import share_out

#: Rivals of each token that are looked at; every selection gives a bound, more a sharper one.
RIVALS = 16
#: Different bivariate probabilities found for one SNR, before fewer rivals are looked at.
MAX_PAIRS = 2**15
#: Numbers in one block of pairs.
BLOCK = 2**21
#: Tokens up to which all distances are looked at.
MAX_TOKENS = 2**15


class Events(NamedTuple):
    """For tokens of one block: P(H_kj) of their rivals, and P(H_ki and H_kj).

    `copies` counts rivals that are all alike, as those of a one-hot token.
    """

    single: Float[np.ndarray, "tokens m"]
    joint: Float[np.ndarray, "tokens m m"]
    copies: float = 1.0


#: From events to a lower bound on the probability of their union, for every token.
Methods = tuple[Callable[[Events], np.ndarray], ...]


def largest(events: Events) -> np.ndarray:
    return np.asarray(events.single.max(axis=1))


def bonferroni(events: Events) -> np.ndarray:
    if events.copies > 1:
        q, both = events.single[:, 0], events.joint[:, 0, 0]
        # c q - c (c - 1)/2 both is largest at a whole number next to q / both + 1/2.
        count = np.floor(q / np.maximum(both, 1e-300) + 0.5)
        counts = np.clip(np.stack([count, count + 1]), 1, events.copies)
        return np.asarray((counts * q - counts * (counts - 1) / 2 * both).max(axis=0))
    pairs = np.tril(events.joint, -1).sum(axis=2)  # with the more dangerous ones
    return np.asarray(np.cumsum(events.single - pairs, axis=1).max(axis=1))


def de_caen(events: Events) -> np.ndarray:
    if events.copies > 1:
        q, both = events.single[:, 0], events.joint[:, 0, 0]
        return events.copies * _share(q, q + (events.copies - 1) * both)
    single, m = events.single, events.single.shape[1]
    best = np.zeros(single.shape[0])
    sums = np.zeros_like(single)
    for count in range(m):
        sums = sums + events.joint[:, :, count]
        part = slice(0, count + 1)
        best = np.maximum(best, _share(single[:, part], sums[:, part]).sum(axis=1))
    return best


def _share(single: np.ndarray, total: np.ndarray) -> np.ndarray:
    """P^2 / total as P (P / total), whose square does not underflow."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(single * np.where(total > 0, single / total, 0.0))


def lower_bounds(
    codebook: Codebook, snr: Float[np.ndarray, " s"], methods: Methods
) -> Float[np.ndarray, "s methods"]:
    """The bound on P_e by each of the methods at each SNR; they share the joint probabilities."""
    h = np.sqrt(snr)
    if isinstance(codebook, OneHot):  # needs no table
        return np.array([_one_hot(codebook, float(root), methods) for root in h])
    points, prior, mass, rest = distinct_points(codebook)
    rivals = Rivals(points, prior)
    out = np.zeros((h.size, len(methods)))

    def add(levels: slice) -> None:
        for index in range(*levels.indices(h.size)):
            for weight, events in rivals.blocks(float(h[index]), methods == (largest,)):
                out[index] += [float(weight @ lower(events)) for lower in methods]

    share_out(add, h.size, 1)
    return np.asarray(rest + mass * out)


def distinct_points(
    codebook: Codebook,
) -> tuple[Float[np.ndarray, "G n"], Float[np.ndarray, " G"], float, float]:
    """The distinct points, their priors m_g / M, M, and 1 - M; see the head of this module.

    Raises:
        ValueError: more than 2**15 tokens, or points too many to materialise.
    """
    if codebook.K > MAX_TOKENS or not codebook.fits:
        reject("codebook", repr(codebook), f"at most {MAX_TOKENS:,} tokens for a bound by pairs")
    points, prior = np.asarray(codebook.points), np.asarray(codebook.prior)
    unique, group = np.unique(points, axis=0, return_inverse=True)
    if unique.shape[0] == points.shape[0]:
        return points, prior, 1.0, 0.0
    order = np.lexsort((-prior, group.ravel()))
    likeliest = order[np.unique(group.ravel()[order], return_index=True)[1]]
    mass = min(math.fsum(prior[likeliest]), 1.0)
    # The others directly: 1 - M has lost its digits where they hardly occur.
    return unique, prior[likeliest] / mass, mass, math.fsum(np.delete(prior, likeliest))


class Rivals:
    """Candidates for the most dangerous rivals of every distinct point, whatever the SNR.

    With equal priors these are the nearest points; otherwise also the most probable ones.
    """

    def __init__(self, points: np.ndarray, prior: np.ndarray) -> None:
        self.points, self.prior = points, prior
        K = points.shape[0]
        self.equal = is_equal(prior)
        self.count = min(K - 1, RIVALS)
        self.near = nearest(points, self.count)
        if not self.equal and self.count < K - 1:
            likely = np.argsort(-prior)[: self.count]
            # A token that is in both lists, or the token itself, is no second rival.
            again = (self.near[:, :, None] == likely).any(axis=1)
            again |= np.arange(K)[:, None] == likely
            self.near = np.concatenate([self.near, np.where(again, -1, likely)], axis=1)
        self.distance = np.full(self.near.shape, np.inf)
        rows, columns = np.nonzero(self.near >= 0)
        difference = points[self.near[rows, columns]] - points[rows]
        self.distance[rows, columns] = np.linalg.norm(difference, axis=1)
        self.lattice = self.equal and _repeats(self.distance)
        self.plans: dict[int, Alike] = {}
        if not self.lattice:
            self.count = min(self.count, max(2, int(math.sqrt(2 * MAX_PAIRS / max(K, 1)))))

    def blocks(self, h: float, single_only: bool) -> Iterator[tuple[np.ndarray, Events]]:
        """Weights of tokens, and what their most dangerous rivals do to them."""
        K, m = self.prior.size, 1 if single_only else self.count
        if K < 2:
            return
        # Products of small priors may be 0, and then count as the least above it.
        log_prior = np.log(np.maximum(self.prior, np.finfo(float).tiny))
        rows = max(1, BLOCK // (m * max(m, self.points.shape[1])))
        for start in range(0, K, rows):
            own = np.arange(start, min(K, start + rows))
            near, distance = self.near[own], self.distance[own]
            odds = log_prior[own][:, None] - log_prior[near]
            reach = np.where(near >= 0, distance, 1.0)
            r = np.where(near >= 0, threshold(h * reach, odds), np.inf)
            order = np.argsort(r, axis=1, kind="stable")[:, :m]
            near, distance, r = (
                np.take_along_axis(part, order, axis=1) for part in (near, distance, r)
            )
            single = special.ndtr(-r)
            joint = single[:, :, None]
            if not single_only and self.lattice:
                # Neither the order of rivals nor which pairs are alike depends on h.
                if start not in self.plans:
                    alike = _alike(distance, distance, self._correlations(own, near, distance))
                    self.plans[start] = alike
                joint = self.plans[start].joint(single, h / 2)
            elif not single_only:
                joint = _joint(r, single, self._correlations(own, near, distance))
            yield self.prior[own], Events(single, joint)

    def _correlations(
        self, own: np.ndarray, near: np.ndarray, distance: np.ndarray
    ) -> Float[np.ndarray, "tokens m m"]:
        u = self.points[near] - self.points[own][:, None]
        u = u / distance[:, :, None]
        return np.asarray(np.einsum("kin,kjn->kij", u, u))


def _repeats(distance: np.ndarray) -> bool:
    """Whether distances repeat, as in grids and lattices."""
    some = np.round(distance[:64], 9)
    return np.unique(some).size < some.size / 4


class Alike(NamedTuple):
    """Pairs of rivals, and one representative of all those that are alike."""

    first: np.ndarray
    second: np.ndarray
    correlation: np.ndarray
    inverse: Int[np.ndarray, "tokens pairs"]

    def joint(self, single: np.ndarray, scale: float = 1.0) -> Float[np.ndarray, "tokens m m"]:
        """P(H_ki and H_kj), thresholds times `scale`, with P(H_ki) on the diagonal."""
        m = single.shape[1]
        i, j = np.triu_indices(m, 1)
        found = bivariate_tail(scale * self.first, scale * self.second, self.correlation)
        joint = np.zeros((single.shape[0], m, m))
        joint[:, np.arange(m), np.arange(m)] = single
        pairs = found[self.inverse]
        joint[:, i, j] = pairs
        joint[:, j, i] = pairs
        return joint


def _alike(first: np.ndarray, second: np.ndarray, rho: np.ndarray) -> Alike:
    """Every different combination of two thresholds and a correlation once."""
    i, j = np.triu_indices(first.shape[1], 1)
    one, two, three = first[:, i].ravel(), second[:, j].ravel(), rho[:, i, j].ravel()
    labels = np.zeros(one.size, dtype=np.int64)
    for part in (cut(one), cut(two), np.round(three, 12)):
        _, code = np.unique(part, return_inverse=True)
        _, labels = np.unique(labels * (code.max(initial=0) + 1) + code, return_inverse=True)
    _, where, inverse = np.unique(labels, return_index=True, return_inverse=True)
    shape = (first.shape[0], i.size)
    return Alike(one[where], two[where], np.clip(three[where], -1, 1), inverse.reshape(shape))


def _joint(r: np.ndarray, single: np.ndarray, rho: np.ndarray) -> np.ndarray:
    return _alike(r, r, rho).joint(single)


def _one_hot(codebook: OneHot, h: float, methods: Methods) -> np.ndarray:
    """All distances are equal, all correlations 1/2, and the most probable rivals the worst."""
    total = np.zeros(len(methods))
    if codebook.K == 1:
        return total
    distance = float(codebook.scale) * math.sqrt(2)
    half = np.full((1, 1, 1), 0.5)
    if codebook.has_equal_priors:
        r = np.full((1, 1), h * distance / 2)
        single = special.ndtr(-r)
        joint = bivariate_tail(r[:, :, None], r[:, :, None], half)
        if codebook.K == 2:  # one rival, which meets no other
            joint = single[:, :, None]
        events = Events(single, joint, codebook.K - 1.0)
        return np.array([float(lower(events)[0]) for lower in methods])
    log_prior = np.sort(np.asarray(codebook.log_prior))[::-1]
    m = min(codebook.K - 1, RIVALS)
    # The m + 1 most probable tokens are each other's rivals; all others share the first m.
    own = np.concatenate([log_prior[: m + 1], np.unique(log_prior[m + 1 :])])
    weight = np.exp(own)
    if m + 1 < codebook.K:
        _, counts = np.unique(log_prior[m + 1 :], return_counts=True)
        weight[m + 1 :] *= counts
    rows = max(1, MAX_PAIRS // m**2)
    for start in range(0, own.size, rows):
        index = np.arange(start, min(own.size, start + rows))
        rivals = np.arange(m) + (np.arange(m) >= index[:, None])
        rivals = np.where(index[:, None] <= m, rivals, np.arange(m))
        odds = own[index][:, None] - log_prior[rivals]
        r = threshold(np.full(odds.shape, h * distance), odds)
        single = special.ndtr(-r)
        joint = single[:, :, None]
        if methods != (largest,):
            joint = _joint(r, single, np.full((index.size, m, m), 0.5))
        events = Events(single, joint)
        total += [float(weight[index] @ lower(events)) for lower in methods]
    return total
