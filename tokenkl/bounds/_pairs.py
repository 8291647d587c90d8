"""Lower bounds on the error probability, from each token's nearest rivals.

Token j beats token k on the half-space H_kj = {<eps, u_kj> >= r_kj} of the noise, with
u_kj = (e_j - e_k)/d, r_kj = h d/2 + log(pi_k/pi_j)/(h d). So P_e = sum_k pi_k P(union_j H_kj), and
every lower bound on the probability of a union is one on P_e, for any choice of rivals.

Equal points are merged first: with m_g the largest prior of a group and M = sum_g m_g, the error
probability is (1 - M) + M P_e', P_e' that of the distinct points with priors m_g / M.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from tokenkl._validation import MAX_ELEMENTS, check_snr, reject
from tokenkl.bounds._union import _threshold
from tokenkl.codebooks import Codebook, OneHot
from tokenkl.codebooks.base import is_equal
from tokenkl.estimate import Bound
from tokenkl.halfspaces.bivariate import bivariate_tail
from tokenkl.numerics.distances import cut
from tokenkl.numerics.neighbours import TREE_DIMENSIONS

#: Rivals of each token that are looked at; every selection gives a bound, more a sharper one.
RIVALS = 16
#: Different bivariate probabilities found for one SNR, before fewer rivals are looked at.
MAX_PAIRS = 2**15
#: Numbers in one block of distances or of pairs.
BLOCK = 2**21
#: Tokens up to which all distances are looked at.
MAX_TOKENS = 2**15

DE_CAEN = "de Caen 1997, Discrete Mathematics 169; Seguin 1998 for Gaussian noise"
BONFERRONI = "Bonferroni 1936; Galambos and Simonelli 1996, chapter 1"


def pairwise_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """P_e >= sum_k pi_k max_j Q(r_kj): a union is at least as probable as its largest event.

    r_kj = h d_kj/2 + log(pi_k/pi_j)/(h d_kj), h = sqrt(snr). Holds for every codebook and prior;
    equal points are allowed. Cost: distances of all pairs of tokens.

    Args:
        codebook: any codebook of at most 2**15 tokens that can be materialised, or one-hot.
        snr: signal-to-noise ratios, at least 0; the result has their shape.

    Returns:
        A lower `Bound` on the error probability.

    Raises:
        ValueError: snr negative or not finite, or a codebook too large.

    Example:
        >>> import tokenkl as tk
        >>> cube = tk.FSQ((2, 2))
        >>> float(pairwise_bound(cube, 9.0).value) < float(tk.error_probability(cube, 9.0))
        True
    """
    return _bound(codebook, snr, "largest pair", "monotonicity of probability", _largest)


def bonferroni_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """P_e >= sum_k pi_k max_J [sum_{j in J} P(H_kj) - sum_{i<j in J} P(H_ki and H_kj)].

    The second Bonferroni inequality, for each token with the best of the sets J that hold its most
    dangerous rivals (1, 2, ... up to 16 of them): never below `pairwise_bound`. The joint
    probabilities are exact bivariate normal ones with correlation <u_ki, u_kj>.

    Arguments, result and errors as in `pairwise_bound`.
    """
    return _bound(codebook, snr, "Bonferroni, second order", BONFERRONI, _bonferroni)


def de_caen_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """P_e >= sum_k pi_k sum_j P(H_kj)^2 / sum_i P(H_ki and H_kj), de Caen's inequality.

    For each token over the best of the sets of its most dangerous rivals (1, 2, ... up to 16 of
    them), with exact bivariate normal probabilities: never below `pairwise_bound`.

    Arguments, result and errors as in `pairwise_bound`.
    """
    return _bound(codebook, snr, "de Caen", DE_CAEN, _de_caen)


class Events(NamedTuple):
    """For tokens of one block: P(H_kj) of their rivals, and P(H_ki and H_kj).

    `copies` counts rivals that are all alike, as those of a one-hot token.
    """

    single: Float[np.ndarray, "tokens m"]
    joint: Float[np.ndarray, "tokens m m"]
    copies: float = 1.0


#: From events to a lower bound on the probability of their union, for every token.
Methods = tuple[Callable[[Events], np.ndarray], ...]


def _largest(events: Events) -> np.ndarray:
    return np.asarray(events.single.max(axis=1))


def _bonferroni(events: Events) -> np.ndarray:
    if events.copies > 1:
        q, both = events.single[:, 0], events.joint[:, 0, 0]
        # c q - c (c - 1)/2 both is largest at a whole number next to q / both + 1/2.
        count = np.floor(q / np.maximum(both, 1e-300) + 0.5)
        counts = np.clip(np.stack([count, count + 1]), 1, events.copies)
        return np.asarray((counts * q - counts * (counts - 1) / 2 * both).max(axis=0))
    pairs = np.tril(events.joint, -1).sum(axis=2)  # with the more dangerous ones
    return np.asarray(np.cumsum(events.single - pairs, axis=1).max(axis=1))


def _de_caen(events: Events) -> np.ndarray:
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


def _bound(
    codebook: Codebook, snr: Any, name: str, citation: str, lower: Callable[[Events], np.ndarray]
) -> Bound:
    snr = check_snr(snr)
    rivals = _rivals(codebook)
    value = np.array([_at(codebook, rivals, float(one), (lower,))[0] for one in snr.ravel()])
    return Bound(value.reshape(snr.shape), "lower", name, citation, "error_probability")


def bounds_by_pairs(codebook: Codebook, snr: Float[np.ndarray, " s"]) -> list[Bound]:
    """`bonferroni_bound` and `de_caen_bound` at one go: they share the joint probabilities."""
    rivals, methods = _rivals(codebook), (_bonferroni, _de_caen)
    found = np.array([_at(codebook, rivals, float(one), methods) for one in snr])
    names = (("Bonferroni, second order", BONFERRONI), ("de Caen", DE_CAEN))
    return [
        Bound(found[:, column], "lower", name, citation, "error_probability")
        for column, (name, citation) in enumerate(names)
    ]


def _at(codebook: Codebook, rivals: Rivals | None, snr: float, methods: Methods) -> np.ndarray:
    """1 - M and the weighted bounds of all tokens, one number for every method."""
    h = math.sqrt(snr)
    if rivals is None:
        return _one_hot(codebook, h, methods)  # type: ignore[arg-type]
    total = np.zeros(len(methods))
    for weight, events in rivals.blocks(h, methods == (_largest,)):
        total += [float(weight @ lower(events)) for lower in methods]
    return (1 - rivals.mass) + rivals.mass * total


def distinct_points(
    codebook: Codebook,
) -> tuple[Float[np.ndarray, "G n"], Float[np.ndarray, " G"], float]:
    """The distinct points, their priors m_g / M, and M; see the head of this module.

    Raises:
        ValueError: more than 2**15 tokens, or points too many to materialise.
    """
    if codebook.K > MAX_TOKENS or codebook.K * codebook.n > MAX_ELEMENTS:
        reject("codebook", repr(codebook), f"at most {MAX_TOKENS:,} tokens for a bound by pairs")
    points, prior = np.asarray(codebook.points), np.asarray(codebook.prior)
    unique, group = np.unique(points, axis=0, return_inverse=True)
    if unique.shape[0] == points.shape[0]:
        return points, prior, 1.0
    largest = np.zeros(unique.shape[0])
    np.maximum.at(largest, group.ravel(), prior)
    mass = min(math.fsum(largest), 1.0)
    return unique, largest / mass, mass


class Rivals:
    """Candidates for the most dangerous rivals of every distinct point, whatever the SNR.

    With equal priors these are the nearest points; otherwise also the most probable ones.
    """

    def __init__(self, points: np.ndarray, prior: np.ndarray, mass: float) -> None:
        self.points, self.prior, self.mass = points, prior, mass
        K = points.shape[0]
        self.equal = is_equal(prior)
        self.count = min(K - 1, RIVALS)
        self.near = _nearest(points, self.count)
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
            threshold = np.where(near >= 0, _threshold(h, reach, odds), np.inf)
            order = np.argsort(threshold, axis=1, kind="stable")[:, :m]
            near, distance, r = (
                np.take_along_axis(part, order, axis=1) for part in (near, distance, threshold)
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


def _rivals(codebook: Codebook) -> Rivals | None:
    """None for one-hot tokens, which need no table."""
    return None if isinstance(codebook, OneHot) else Rivals(*distinct_points(codebook))


def _nearest(points: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest other points of every point, nearest first."""
    K, n = points.shape
    if count < 1:
        return np.zeros((K, 0), dtype=np.int64)
    if K > 1024 and n <= TREE_DIMENSIONS:
        _, near = cKDTree(points).query(points, k=count + 1)
        # The point itself is first, unless rounding puts it elsewhere.
        own = near == np.arange(K)[:, None]
        own[~own.any(axis=1), -1] = True
        return np.asarray(near[~own].reshape(K, count))
    found = np.empty((K, count), dtype=np.int64)
    rows = max(1, BLOCK // K)
    for start in range(0, K, rows):
        own = np.arange(start, min(K, start + rows))
        squared = cdist(points[own], points, "sqeuclidean")
        squared[np.arange(own.size), own] = np.inf
        part = np.argpartition(squared, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(squared, part, axis=1), axis=1)
        found[own] = np.take_along_axis(part, order, axis=1)
    return found


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
        r = _threshold(h, np.full(odds.shape, distance), odds)
        single = special.ndtr(-r)
        joint = single[:, :, None]
        if methods != (_largest,):
            joint = _joint(r, single, np.full((index.size, m, m), 0.5))
        events = Events(single, joint)
        total += [float(weight[index] @ lower(events)) for lower in methods]
    return total
