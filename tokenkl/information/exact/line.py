"""Codebooks that are a grid with a product prior, points on one line among them."""

from __future__ import annotations

import math

import numpy as np

from tokenkl.codebooks import Codebook, OneHot, PointCodebook, ProductCodebook
from tokenkl.information.exact.onehot import has_reach
from tokenkl.numerics.scale import power_of_two

EPS = np.finfo(float).eps
#: How far from a line points may lie, over their extent, to count as on it: some roundings.
ON_A_LINE = 2e-15


def as_grid(codebook: Codebook, traced: bool) -> tuple[ProductCodebook, float] | None:
    """The grid that a codebook is, if its prior factorises; None where it is no such grid.

    With it comes how far a point may lie from its level: off the line, and by rounding. What JAX
    traces is not looked at for lines.
    """
    if codebook.K == 1:  # where it is does not matter
        return ProductCodebook([[0.0]]), 0.0
    grid = codebook.factors()
    if grid is not None:
        return grid, 0.0
    return None if traced else _on_a_line(codebook)


def _on_a_line(codebook: Codebook) -> tuple[ProductCodebook, float] | None:
    """A codebook whose points lie on one line, as a one-dimensional grid."""
    if isinstance(codebook, OneHot) and codebook.K == 2 and not has_reach(codebook):
        apart = math.sqrt(2) * codebook.scale
        line = ProductCodebook([[0.0, apart]], [codebook.given_prior], name=codebook.label)
        return line, float(np.spacing(apart))
    if not isinstance(codebook, PointCodebook):
        return None
    points, misplaced = codebook.points, 0.0
    along = points[:, 0]
    if codebook.n > 1:
        exponent = power_of_two(points, 0.0)
        offset = np.ldexp(points, -exponent)
        offset = offset - offset[0]
        squares = (offset**2).sum(axis=1)
        reach = math.sqrt(squares.max())
        if reach == 0:
            return None
        direction = offset[np.argmax(squares)] / reach
        along = offset @ direction
        away = math.sqrt(((offset - along[:, None] * direction) ** 2).sum(axis=1).max())
        if not 0 <= away <= ON_A_LINE * reach:
            return None
        along = np.ldexp(along, exponent)
        misplaced = math.ldexp(away + 2 * codebook.n * EPS * reach, exponent)
    if np.unique(along).size < codebook.K:  # equal points have no thresholds between them
        return None
    return ProductCodebook([along], [codebook.given_prior], name=codebook.label), misplaced
