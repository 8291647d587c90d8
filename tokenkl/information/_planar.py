"""Exact accuracy of planar codebooks: Owen's T function over the edges of the MAP regions.

The MAP region of a token is a convex polygon, bounded by lines at a distance r from the token. In
the angular sector that an edge spans, the noise leaves the region with probability
T(h r, t2 / r) - T(h r, t1 / r), where t1 < t2 are the ends of the edge along its line and h is
sqrt(snr); so the error probability is a sum over edges (THEORY, statement 5; Owen 1956). With
unequal priors a token may lie outside its region: r is then negative on the edges that face it,
and the same sum is one less than the error probability.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import special

from tokenkl._validation import MAX_ELEMENTS, first_duplicate
from tokenkl.codebooks.base import Codebook

EPS = np.finfo(float).eps
#: With unequal priors the regions change with the SNR and all pairs are looked at.
MAX_UNEQUAL = 256


def has_planar_accuracy(codebook: Codebook) -> bool:
    """Whether `planar_error` applies: distinct points in the plane, few where priors differ."""
    if codebook.n != 2 or codebook.K < 2:
        return False
    if not codebook.has_equal_priors and codebook.K > MAX_UNEQUAL:
        return False
    return codebook.K <= MAX_ELEMENTS and first_duplicate(np.asarray(codebook.points)) is None


#: What `planar_profile` gives.
PLANAR_QUANTITIES = ("accuracy", "error_probability")


def planar_profile(
    codebook: Codebook, snr: Float[np.ndarray, " s"]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Value and rounding error of `PLANAR_QUANTITIES` at each SNR (one axis)."""
    error, rounding = planar_error(codebook, snr)
    return {"error_probability": (error, rounding), "accuracy": (1 - error, rounding + EPS)}


def planar_error(
    codebook: Codebook, snr: Float[np.ndarray, " s"]
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Error probability at each SNR and its rounding error."""
    points = np.asarray(codebook.points)
    log_prior = np.asarray(codebook.log_prior)
    h = np.sqrt(np.maximum(snr, 1e-290))
    error, scale = np.zeros_like(h), np.zeros_like(h)
    for token, rivals in _candidate_rivals(points, codebook.has_equal_priors):
        direction = points[rivals] - points[token][:, None]
        distance = np.linalg.norm(direction, axis=-1)
        unit = direction / distance[..., None]
        prior = np.exp(log_prior[token])
        if codebook.has_equal_priors:
            r, first, last = _edges(unit, distance / 2)
            for index, root in enumerate(h):
                missed = _missed(root, r, first, last)
                error[index] += (prior[:, None] * missed).sum()
                scale[index] += (prior[:, None] * np.abs(missed)).sum()
        else:
            odds = log_prior[token][:, None] - log_prior[rivals]
            for index, root in enumerate(h):
                r, first, last = _edges(unit, distance / 2 + odds / (root**2 * distance))
                missed = _missed(root, r, first, last)
                outside = (r < 0).any(axis=1)
                error[index] += (prior * (missed.sum(axis=1) + outside)).sum()
                scale[index] += (prior * (np.abs(missed).sum(axis=1) + outside)).sum()
    exponent = -np.log(np.maximum(error, np.finfo(float).tiny))
    return error, scale * EPS * (32 + 8 * np.abs(exponent)) + np.finfo(float).tiny


def _candidate_rivals(points: np.ndarray, equal: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Groups of tokens with as many rivals each: (tokens, rivals of each).

    With equal priors only Delaunay neighbours can share an edge; otherwise all others can.
    """
    K = points.shape[0]
    others = [np.delete(np.arange(K), k) for k in range(K)] if K <= MAX_UNEQUAL else []
    if equal and K > 4:
        from scipy.spatial import Delaunay, QhullError

        try:
            start, neighbours = Delaunay(points).vertex_neighbor_vertices
            others = [neighbours[start[k] : start[k + 1]] for k in range(K)]
        except QhullError:  # all on one line, where every pair is looked at
            others = others or [np.delete(np.arange(K), k) for k in range(K)]
    degree = np.array([rival.size for rival in others])
    groups = []
    for size in np.unique(degree):
        tokens = np.flatnonzero(degree == size)
        chunk = max(1, 2**21 // max(1, size**2))
        for begin in range(0, tokens.size, chunk):
            part = tokens[begin : begin + chunk]
            groups.append((part, np.stack([others[k] for k in part])))
    return groups


def _edges(unit: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance and the two ends of every edge; empty ones have equal ends.

    `unit` (tokens, rivals, 2) points to the rivals, `r` (tokens, rivals) is the distance of the
    line on which the rival is as probable. The line is cut by all other half-planes.
    """
    along = np.stack([-unit[..., 1], unit[..., 0]], axis=-1)
    slope = np.einsum("kix,klx->kil", along, unit)
    room = r[:, None, :] - r[..., None] * np.einsum("kix,klx->kil", unit, unit)
    rivals = r.shape[1]
    slope[:, np.arange(rivals), np.arange(rivals)] = 0.0
    room[:, np.arange(rivals), np.arange(rivals)] = 0.0
    flat = np.abs(slope) < 1e-15
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = room / slope
    last = np.where(~flat & (slope > 0), cut, np.inf).min(axis=2)
    first = np.where(~flat & (slope < 0), cut, -np.inf).max(axis=2)
    hidden = (flat & (room < 0)).any(axis=2) | (first >= last)
    zero = np.zeros_like(first)
    return r, np.where(hidden, zero, first), np.where(hidden, zero, last)


def _missed(h: float, r: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Signed probability that the noise crosses each edge within its sector."""
    r = np.where(np.abs(r) < 1e-300, 1e-300, r)
    with np.errstate(over="ignore"):
        a1, a2 = first / r, last / r
    value = special.owens_t(h * r, a2) - special.owens_t(h * r, a1)
    return np.where(first == last, 0.0, value)
