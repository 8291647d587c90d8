"""Explicit codebooks in [-1, 1]^n that beat FSQ of the same K and n, each with its exact value.

The objective is D, the mean nearest-neighbour distance (`mean_nn_distance`). FSQ with L levels has
D = 2/(L - 1) in every dimension and is a strict local maximum in the box; these codebooks show
that it is not the global one for two levels from n = 5 on, nor for three from n = 4 on.
(docs/theory/index.md, statement 17; the lattices: Conway and Sloane, Sphere Packings, Lattices and
Groups, chapters 4, 5.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tokenkl._validation import check_count
from tokenkl.codebooks import FSQ, PointCodebook, ProductCodebook, e8_codebook


def centre_for_vertex(n: int = 5) -> PointCodebook:
    """The vertices of the cube, except that (-1, ..., -1) moves to the centre; n >= 5.

    The centre is sqrt(n) > 2 away from every vertex, and every vertex keeps a neighbour at 2:
    D = 2 + (sqrt(n) - 2) / 2^n, against 2 of FSQ 2^n.

    Raises:
        ValueError: n below 5, where the centre is too near.
    """
    n = check_count(n, "n", minimum=5)
    points = np.array(FSQ((2,) * n).points)
    points[0] = 0
    return PointCodebook(points, name=f"vertex to centre, n = {n}")


def merged_edges() -> PointCodebook:
    """32 points in R^5 with D = (60 + 2 sqrt 5)/32 = 2.0148, against 2 of FSQ 2^5.

    The two facets x_5 = +-1 of the cube can each take their centre as a further point at distance
    2 from its vertices, which makes 34 points. The edges at (1, 1, 1, 1, +-1) and at
    (-1, -1, -1, -1, +-1) are then merged into their midpoints, each sqrt 5 away from everything.
    """
    cube = FSQ((2,) * 5).points
    on_edges = np.abs(cube[:, :4].sum(axis=1)) == 4
    facets = np.eye(5)[4] * [[-1.0], [1.0]]
    middles = np.array([1.0, 1.0, 1.0, 1.0, 0.0]) * [[-1.0], [1.0]]
    return PointCodebook(np.concatenate([cube[~on_edges], facets, middles]), name="merged edges")


def hamming_cut() -> PointCodebook:
    """256 points in R^8 with D = (7 + sqrt 2)/4 = 2.1036, against 2 of FSQ 2^8.

    Construction A on the [8, 4, 4] extended Hamming code has 481 points at distance 2 in the cube:
    the origin, 224 points with +-1 on a word of weight 4 and 0 elsewhere, and the 256 vertices.
    Of these, 225 are spare. Removing the 220 points at distance 2 from the 32 vertices with
    x_1 = x_2 = 1 and an even number of minus signs leaves those 32 at 2 sqrt 2 from everything.
    Five more vertices go to leave 256; the other 224 keep a neighbour at 2.
    """
    code = ProductCodebook([np.arange(2.0)] * 4).points @ _HAMMING % 2
    signs = np.array(FSQ((2,) * 8).points)
    points = np.unique(np.concatenate([word * signs for word in code]) + 0.0, axis=0)
    vertex = np.abs(points).sum(axis=1) == 8
    apart = vertex & (points[:, 0] == 1) & (points[:, 1] == 1) & (points.prod(axis=1) == 1)
    # Coordinates are whole numbers, so that |x|^2 + |y|^2 - 2 x.y is exact.
    norms = np.square(points).sum(axis=1)
    to_apart = norms[:, None] + norms[apart] - 2 * points @ points[apart].T
    kept = ~(to_apart == 4).any(axis=1)
    kept[np.flatnonzero(kept & vertex & ~apart)[:5]] = False
    return PointCodebook(points[kept], name="Hamming cut")


#: Generator matrix of the [8, 4, 4] extended Hamming code, the first-order Reed-Muller code.
_HAMMING = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1, 1],
        [0, 0, 1, 1, 0, 0, 1, 1],
        [0, 1, 0, 1, 0, 1, 0, 1],
    ]
)


def d4_cut() -> PointCodebook:
    """81 points in R^4 with D = (77 + 4 sqrt 2)/81 = 1.0205, against 1 of FSQ 3^4.

    {-1, 0, 1}^4 and {-1/2, 1/2}^4 together are 97 points at distance 1 (a cut of the lattice D4,
    scaled). The 16 of them at distance 1 from the corners (1, 1, +-1, +-1) are removed, which
    leaves those four corners at sqrt 2 from everything.
    """
    points = np.concatenate([FSQ((3,) * 4).points, FSQ((2,) * 4).points / 2])
    corners = points[(np.abs(points) == 1).all(axis=1) & (points[:, :2] == 1).all(axis=1)]
    squares = np.square(points[:, None] - corners).sum(axis=-1)
    return PointCodebook(points[~(squares == 1).any(axis=1)], name="D4 cut")


class Counterexample(NamedTuple):
    """A codebook with `base`**n tokens in the box and its exact mean nearest-neighbour distance."""

    name: str
    base: int
    n: int
    build: Callable[[], PointCodebook]
    D: float

    @property
    def D_fsq(self) -> float:
        """Mean nearest-neighbour distance of FSQ with the same K and n."""
        return 2 / (self.base - 1)


#: Every explicit codebook known here to beat FSQ on D, in order of base and dimension.
COUNTEREXAMPLES = (
    Counterexample("vertex to centre", 2, 5, centre_for_vertex, (62 + math.sqrt(5)) / 32),
    Counterexample("merged edges", 2, 5, merged_edges, (60 + 2 * math.sqrt(5)) / 32),
    Counterexample(
        "vertex to centre", 2, 8, lambda: centre_for_vertex(8), (510 + math.sqrt(8)) / 256
    ),
    Counterexample("Hamming cut", 2, 8, hamming_cut, (7 + math.sqrt(2)) / 4),
    Counterexample("D4 cut", 3, 4, d4_cut, (77 + 4 * math.sqrt(2)) / 81),
    Counterexample("E8 cut", 3, 8, e8_codebook, math.sqrt(2) / 1.25),
)


def edge_heavy_nine() -> PointCodebook:
    """Nine points of the square that beat FSQ 3^2 at Bayes accuracy A, not D, in strong noise.

    The four corners, the midpoints of three edges, and (-1/3, 1) and (1/3, 1) on the fourth: no
    point is left inside. With s = 1 / sqrt(snr), A(these) - A(FSQ) is positive from s = 2.378 (SNR
    -7.52 dB) on, and 7.57e-6 at s = 3. As s grows, s^3 times it tends to
    (8/27 - 1/4) / (18 sqrt(2 pi)) = 0.001026: after the corners, the next term of the accuracy
    counts points on edges only. (docs/theory/index.md, statement 19.)
    """
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    on_edges = [(-1, 0), (1, 0), (0, -1), (-1 / 3, 1), (1 / 3, 1)]
    return PointCodebook(np.array(corners + on_edges, dtype=float), name="edge-heavy nine")


def centre_to_edge(n: int = 3) -> PointCodebook:
    """FSQ 3^n with its centre moved to the edge at (., 1, ..., 1), whose levels are then four.

    Those are -1, -1/3, 1/3 and 1, in place of -1, 0 and 1. In medium noise this has the larger
    Bayes accuracy: at n = 3 from s = 1 / sqrt(snr) = 0.7776 on, at n = 4 from 0.4846 on (at the
    noise levels that are certified: docs/theory/optimality.md, O16). Its gain is largest, 8.0e-5,
    near s = 1.02 for n = 3, and 1.16e-4 near s = 0.63 for n = 4.

    Raises:
        ValueError: n below 3 (in the plane the centre is what the edge is taken from: there
            `edge_heavy_nine` is the exact counterpart).
    """
    n = check_count(n, "n", minimum=3)
    points = np.array(FSQ((3,) * n).points)
    edge = (points[:, 0] == 0) & (points[:, 1:] == 1).all(axis=1)
    centre = (points == 0).all(axis=1)
    points[edge, 0], points[centre] = -1 / 3, [1 / 3] + [1.0] * (n - 1)
    return PointCodebook(points, name=f"centre to edge, n = {n}")
