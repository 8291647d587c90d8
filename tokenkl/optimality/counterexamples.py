"""Explicit codebooks that beat FSQ at something, each with where it does so."""

from __future__ import annotations

import numpy as np

from tokenkl.codebooks.base import PointCodebook


def edge_heavy_nine() -> PointCodebook:
    """Nine points of the square that beat the 3 x 3 grid's Bayes accuracy in strong noise.

    The four corners, the midpoints of three edges, and (-1/3, 1) and (1/3, 1) on the fourth: no
    point is left inside. With s = sigma / alpha = 1 / sqrt(snr), A(these) - A(grid) is positive from
    about s = 2.39 (SNR below -7.6 dB) on, 7.57e-6 at s = 3, and
    s^3 (A(these) - A(grid)) tends to (8/27 - 1/4) / (18 sqrt(2 pi)) = 0.001026 as s grows: after the
    corners, the next term of the accuracy counts points on edges only. (THEORY, statement 19.)
    """
    third = 1 / 3
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    edges = [(-1, 0), (1, 0), (0, -1), (-third, 1), (third, 1)]
    return PointCodebook(np.array(corners + edges, dtype=float), name="edge-heavy nine")
