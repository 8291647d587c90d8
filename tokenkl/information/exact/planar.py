"""Exact accuracy of planar codebooks: Owen's T function over the edges of the MAP regions.

The MAP region of a token is a convex polygon, bounded by lines at a distance r from the token. In
the angular sector that an edge spans, the noise leaves the region with probability
T(h r, t2 / r) - T(h r, t1 / r), where t1 < t2 are the ends of the edge along its line and h is
sqrt(snr); so the error probability is a sum over edges (docs/theory/index.md, statement 5; Owen
1956). With unequal priors a token may lie outside its region: r is then negative on the edges that
face it, and the same sum is one less than the error probability.

Points enter by differences only. Rivals that lie close together have almost the same line, on which
their crossing is known badly; but both edges end at one and the same point, so that what one
loses, to rounding, the other gains.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._validation import first_duplicate
from tokenkl.codebooks.base import Codebook
from tokenkl.numerics.scale import power_of_two

EPS = np.finfo(float).eps
TINY = np.finfo(float).tiny
#: Largest number of tokens of which all pairs are looked at: where priors differ the regions change
#: with the SNR, and a triangulation cannot be trusted with points that almost coincide.
MAX_PAIRS = 256
#: Smallest distance of two tokens, and smallest width of them all, over their extent for a
#: triangulation.
SEPARATE = 1e-7
#: Rivals whose directions differ by less are one: the nearer one. Roundings of crossings are then
#: small against the edges between them.
PARALLEL = 1e-14
#: Noise units beyond which nothing is left; finite, so that differences are.
FAR = 1e30

#: What `planar_profile` gives.
PLANAR_QUANTITIES = ("accuracy", "error_probability")


class Rivals(NamedTuple):
    """The tokens that can share an edge with each token, in groups of tokens with as many."""

    groups: list[tuple[Int[np.ndarray, " g"], Int[np.ndarray, "g r"]]]
    are_all: bool


@np.errstate(under="ignore")
def planar_rivals(codebook: Codebook) -> Rivals | None:
    """Who may share an edge with whom; None where `planar_profile` does not apply.

    It is for distinct points in the plane, few of them where priors differ or points almost
    coincide.
    """
    if codebook.n != 2 or codebook.K < 2 or not codebook.fits:
        return None
    K, points = codebook.K, np.asarray(codebook.points)
    if (K > MAX_PAIRS and not codebook.has_equal_priors) or first_duplicate(points) is not None:
        return None
    others = None
    if codebook.has_equal_priors and K > 4:
        others = _delaunay_neighbours(np.ldexp(points, -power_of_two(points, 0.0)))
    are_all = others is None
    if others is None:
        if K > MAX_PAIRS:
            return None
        others = [np.delete(np.arange(K), k) for k in range(K)]
    degree = np.array([rivals.size for rivals in others])
    groups = []
    for size in np.unique(degree):
        tokens = np.flatnonzero(degree == size)
        chunk = max(1, 2**21 // size**2)
        for begin in range(0, tokens.size, chunk):
            part = tokens[begin : begin + chunk]
            groups.append((part, np.stack([others[k] for k in part])))
    return Rivals(groups, are_all)


def _delaunay_neighbours(points: np.ndarray) -> list[np.ndarray] | None:
    """With equal priors only Delaunay neighbours share an edge; None where that is in doubt."""
    from scipy.spatial import Delaunay, QhullError

    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    extents = np.sqrt(np.maximum(np.linalg.eigvalsh(points.T @ points), 0.0))
    if extents[0] < SEPARATE * extents[1]:
        return None
    try:
        start, neighbours = Delaunay(points).vertex_neighbor_vertices
    except QhullError:
        return None
    degree = np.diff(start)
    lengths = np.hypot(*(points[np.repeat(np.arange(degree.size), degree)] - points[neighbours]).T)
    if degree.min() < 2 or lengths.min() < SEPARATE * np.abs(points).max():
        return None
    return [neighbours[a:b] for a, b in itertools.pairwise(start)]


def planar_profile(
    codebook: Codebook, rivals: Rivals, snr: Float[np.ndarray, " s"]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Value and numerical error of `PLANAR_QUANTITIES` at each SNR (one axis)."""
    error, rounding = planar_error(codebook, rivals, snr)
    return {"error_probability": (error, rounding), "accuracy": (1 - error, rounding + EPS)}


@np.errstate(under="ignore", over="ignore")
def planar_error(
    codebook: Codebook, rivals: Rivals, snr: Float[np.ndarray, " s"]
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Error probability at each SNR and its numerical error."""
    points, h = np.asarray(codebook.points), np.sqrt(snr)
    exponent = power_of_two(points, h)
    points, h = np.ldexp(points, -exponent), np.ldexp(h, exponent)
    log_prior = np.asarray(codebook.log_prior)
    equal = codebook.has_equal_priors
    error, scale, doubt = np.zeros((3, h.size))
    edges: list[tuple[np.ndarray, ...]] = []
    for tokens, others in rivals.groups:
        direction = points[others] - points[tokens][:, None]
        distance = np.hypot(direction[..., 0], direction[..., 1])
        unit = direction / distance[..., None]
        if equal:
            r = distance / 2
            edges.append((r, *_edges(unit, r), np.broadcast_to(tokens[:, None], r.shape), others))
            continue
        prior = np.exp(log_prior[tokens])
        odds = log_prior[tokens][:, None] - log_prior[others]
        for index, root in enumerate(h):
            apart = np.maximum(root * distance, TINY)
            r = np.clip(apart / 2 + odds / apart, -FAR, FAR)
            missed, size = _missed(1.0, r, *_edges(unit, r))
            outside = (r < 0).any(axis=1)
            error[index] += prior @ (missed.sum(axis=1) + outside)
            scale[index] += prior @ (size.sum(axis=1) + outside)
    if equal:
        r, first, last, own, other = (
            np.concatenate([part[i].ravel() for part in edges]) for i in range(5)
        )
        pairs = np.lexsort((np.maximum(own, other), np.minimum(own, other))).reshape(-1, 2)
        pairs = pairs[(first != last)[pairs].any(axis=1)]
        r, first, last = r[pairs], first[pairs], last[pairs]
        for index, root in enumerate(h):
            missed, size = _missed(root, r, first, last)
            error[index], scale[index] = missed.sum() / codebook.K, size.sum() / codebook.K
            if not rivals.are_all:
                # Both tokens of an edge see as much of it, unless a third one was overlooked.
                doubt[index] = np.abs(missed[:, 0] - missed[:, 1]).sum() / codebook.K
    size = np.abs(np.log(np.maximum(error, TINY)))
    return error, scale * EPS * (64 + 8 * size) + doubt + TINY


def _edges(unit: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two ends of every edge, along its line; those of no length have equal ends.

    `unit` (tokens, rivals, 2) points to the rivals, `r` (tokens, rivals) is the signed distance of
    the line on which the rival is as probable. The line is cut by all other half-planes. That says
    which edges there are; those that follow one another in angle then share an end.
    """
    x, y = unit[..., 0], unit[..., 1]
    sine = x[:, :, None] * y[:, None, :] - y[:, :, None] * x[:, None, :]
    cosine = x[:, :, None] * x[:, None, :] + y[:, :, None] * y[:, None, :]
    mine, theirs = r[:, :, None], r[:, None, :]
    room = theirs - mine * cosine
    flat = np.abs(sine) < PARALLEL
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = room / sine
    last = np.where(~flat & (sine > 0), cut, np.inf).min(axis=2)
    first = np.where(~flat & (sine < 0), cut, -np.inf).max(axis=2)
    index = np.arange(r.shape[1])
    nearer = (theirs < mine) | ((theirs == mine) & (index < index[:, None]))
    beaten = flat & np.where(cosine > 0, nearer, room < 0)
    is_edge = ~beaten.any(axis=2) & (first < last)

    angle = np.where(is_edge, np.arctan2(y, x), np.inf)
    order = np.argsort(angle, axis=1)
    count = is_edge.sum(axis=1)[:, None]
    following = np.where(index + 1 < count, index + 1, np.where(index < count, 0, index))
    token = np.arange(r.shape[0])[:, None]
    after = np.take_along_axis(order, following, axis=1)
    turn, along = sine[token, order, after], cosine[token, order, after]
    # A turn by half a circle or more: both edges go on for ever.
    end = np.where(turn > 0, cut[token, order, after], np.inf)
    with np.errstate(invalid="ignore"):
        start = np.where(turn > 0, end * along - r[token, order] * turn, -np.inf)
    new_first, new_last = np.zeros((2, *r.shape))
    new_last[token, order], new_first[token, after] = end, start
    return np.where(is_edge, new_first, 0.0), np.where(is_edge, new_last, 0.0)


def _missed(
    h: float, r: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Signed probability that the noise crosses each edge in its sector; size of what it is of."""
    r = np.where(np.abs(r) < TINY, TINY, r)
    high, low = special.owens_t(h * r, last / r), special.owens_t(h * r, first / r)
    is_edge = first != last
    return np.where(is_edge, high - low, 0.0), np.where(is_edge, np.abs(high) + np.abs(low), 0.0)
