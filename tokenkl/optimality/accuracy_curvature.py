"""First and second derivatives of a grid's Bayes accuracy in its points, in closed form.

K A = int max_k N(y; e_k, s^2 I) dy. The gradient is int_{V_k} N (y - e_k)/s^2 dy over the Voronoi
cell; the second derivative is that of N over the cells, plus what their faces gain by moving,

    sum over neighbours k, j of int_{V_k & V_j} N (<y - e_k, v_k> - <y - e_j, v_j>)^2 / (s^2 |e_k -
    e_j|) dS.

Cells and faces of a grid are boxes, so that all of it is made of moments of truncated normals.
(docs/theory/optimality.md, O6.)
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_positive, reject
from tokenkl.codebooks.base import Codebook, check_codebook

#: Coordinates inside the box whose second derivatives are held at once.
MAX_INNER = 3000
#: Derivatives below this part of the largest count as 0.
TINY = 1e-9
#: SNRs whose squares are numbers.
LOWEST, HIGHEST = 1e-150, 1e150


@dataclasses.dataclass(frozen=True, eq=False)
class AccuracyCurvature:
    """A grid in its box as a stationary point of the Bayes accuracy A at one SNR.

    - `gradient`: (K, n) dA/de_k.
    - `smallest_multiplier`: least outward derivative of a coordinate at a face.
    - `steepest`: largest derivative, in size, of a coordinate inside the box.
    - `eigenvalues`: (m,) of the second derivative in the coordinates inside the box, ascending.
    - `direction`: (K, n) of the largest of them, of length 1; 0 where all coordinates are at faces.
    - `verdict`: "strict", "not a maximum", or "undecided" where an eigenvalue is 0 to rounding.
    """

    snr: float
    gradient: Float[np.ndarray, "K n"]
    smallest_multiplier: float
    steepest: float
    eigenvalues: Float[np.ndarray, " m"]
    direction: Float[np.ndarray, "K n"]
    verdict: str


class _Axis(NamedTuple):
    """Gap, and moments int (x - u)^i N(x; u, s^2) dx of the noise in the cell of every level."""

    gap: float
    zeroth: np.ndarray
    first: np.ndarray
    second: np.ndarray


def accuracy_curvature(codebook: Codebook, snr: float) -> AccuracyCurvature:
    """Gradient, multipliers and spectrum of the accuracy of a grid in its box; equal priors.

    Levels of an axis are equally spaced, so that inner cells are symmetric and every coordinate
    inside the box is stationary; at the faces the accuracy rises outwards. What decides are the
    second derivatives in the inner coordinates. In floating point, to about 1e-12 of the largest.

    Args:
        codebook: a grid with equal priors and equally spaced levels.
        snr: from 1e-150 to 1e150.

    Raises:
        ValueError: no such grid, such as one with equal levels, another snr, or more than
            3000 coordinates inside the box.

    Example:
        >>> import tokenkl as tk
        >>> low, high = (tk.optimality.accuracy_curvature(tk.FSQ((3, 3)), snr) for snr in (0.1, 10))
        >>> low.verdict, high.verdict
        ('strict', 'strict')
    """
    check_codebook(codebook)
    grid, snr = codebook.as_grid, float(check_positive(snr, "snr"))
    if grid is None or not grid.has_equal_priors:
        reject("codebook", repr(codebook), "a grid with equal priors")
    assert grid is not None
    if not LOWEST <= snr <= HIGHEST:
        reject("snr", snr, f"from {LOWEST:g} to {HIGHEST:g}")
    s = 1 / math.sqrt(snr)
    axes = [_axis(np.sort(np.asarray(levels)), s, c) for c, levels in enumerate(grid.levels)]
    digits = np.asarray(grid.to_digits(np.arange(grid.K)))
    order = [np.argsort(np.argsort(np.asarray(levels))) for levels in grid.levels]
    digits = np.stack([ranks[digits[:, c]] for c, ranks in enumerate(order)], axis=1)
    last = np.array([len(levels) - 1 for levels in grid.levels])
    inside = (digits > 0) & (digits < last)
    if inside.sum() > MAX_INNER:
        expected = f"a grid with at most {MAX_INNER:,} coordinates inside its box"
        reject("codebook", repr(codebook), expected)
    moments = [
        np.stack([one[digits[:, c]] for c, one in enumerate(part)], axis=1)
        for part in zip(*(axis[1:] for axis in axes), strict=True)
    ]
    gradient = _first(moments, s) / grid.K
    second = _second(digits, inside, moments, axes, s) / grid.K
    values, vectors = np.linalg.eigh(second) if second.size else (np.zeros(0), np.zeros((0, 0)))
    direction = np.zeros(gradient.shape)
    if values.size:
        direction[inside] = vectors[:, -1]
    outward = np.where(digits == 0, -gradient, gradient)[~inside & (last > 0)]
    smallest = float(outward.min(initial=math.inf))
    steepest = float(np.abs(gradient[inside]).max(initial=0))
    size = float(np.abs(values).max(initial=0))
    verdict = "undecided"
    if values.size and values[-1] > TINY * size:
        verdict = "not a maximum"
    elif smallest > 0 and not (values.size and values[-1] > -TINY * size):
        verdict = "strict"
    return AccuracyCurvature(snr, gradient, smallest, steepest, values, direction, verdict)


def _axis(levels: Any, s: float, c: int) -> _Axis:
    """Moments of the cells of one axis.

    Raises:
        ValueError: levels that are not equally spaced.
    """
    from scipy.special import ndtr  # slow to import

    gaps = np.diff(levels)
    gap = float(gaps.mean()) if gaps.size else 1.0
    if gaps.size and (gap == 0 or np.abs(gaps - gap).max() > TINY * gap):
        reject(f"levels of coordinate {c}", levels, "different and equally spaced")
    end = np.full(levels.size, gap / 2)
    above = np.where(np.arange(levels.size) == levels.size - 1, np.inf, end) / s
    below = np.where(np.arange(levels.size) == 0, np.inf, end) / s
    density = [np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi) for x in (above, below)]
    with np.errstate(invalid="ignore"):
        ends = [np.nan_to_num(x * p) for x, p in zip((above, below), density, strict=True)]
    zeroth = ndtr(above) - ndtr(-below)
    return _Axis(gap, zeroth, s * (density[1] - density[0]), s * s * (zeroth - ends[0] - ends[1]))


def _others(zeroth: np.ndarray, *left_out: int) -> np.ndarray:
    """Products of the zeroth moments over all other coordinates."""
    return np.asarray(np.prod(np.delete(zeroth, left_out, axis=1), axis=1))


def _first(moments: list[np.ndarray], s: float) -> np.ndarray:
    zeroth, first, _ = moments
    columns = [first[:, c] * _others(zeroth, c) for c in range(zeroth.shape[1])]
    return np.stack(columns, axis=1) / s**2


def _second(
    digits: np.ndarray, inside: np.ndarray, moments: list[np.ndarray], axes: list[_Axis], s: float
) -> np.ndarray:
    """In the coordinates inside the box: cells first, then their faces."""
    zeroth, first, second = moments
    K, n = digits.shape
    column = np.where(inside, np.cumsum(inside).reshape(K, n) - 1, -1)
    total = np.zeros((int(inside.sum()), int(inside.sum())))

    def add(tokens: np.ndarray, a: int, others: np.ndarray, b: int, amount: np.ndarray) -> None:
        rows, columns = column[tokens, a], column[others, b]
        both = (rows >= 0) & (columns >= 0)
        np.add.at(total, (rows[both], columns[both]), amount[both])

    every = np.arange(K)
    for a in range(n):
        cell = (second[:, a] / s**4 - zeroth[:, a] / s**2) * _others(zeroth, a)
        add(every, a, every, a, cell)
        for b in range(n):
            if a != b:
                cell = first[:, a] * first[:, b] * _others(zeroth, a, b) / s**4
                add(every, a, every, b, cell)
    where = {tuple(row): k for k, row in enumerate(digits.tolist())}
    for c, axis in enumerate(axes):
        pairs = []
        for row, k in where.items():
            upper = (*row[:c], row[c] + 1, *row[c + 1 :])
            if upper in where:
                pairs.append((k, where[upper]))
        if not pairs:
            continue
        low, high = np.array(pairs).T
        g = axis.gap
        density = math.exp(-(g**2) / (8 * s**2)) / (math.sqrt(2 * math.pi) * s)
        factor = density / (s**2 * g)
        # The form is (g/2 (v_kc + v_jc) + sum_d z_d (v_kd - v_jd))^2, z the noise along the face.
        part = np.delete(np.arange(n), c)
        flat = zeroth[low][:, part], first[low][:, part], second[low][:, part]
        terms = [(c, g / 2, g / 2, None), *((int(d), 1.0, -1.0, i) for i, d in enumerate(part))]
        for a, a_low, a_high, i in terms:
            for b, b_low, b_high, j in terms:
                amount = factor * _mean_of_product(flat, i, j)
                add(low, a, low, b, amount * a_low * b_low)
                add(low, a, high, b, amount * a_low * b_high)
                add(high, a, low, b, amount * a_high * b_low)
                add(high, a, high, b, amount * a_high * b_high)
    return total


def _mean_of_product(flat: tuple[np.ndarray, ...], i: int | None, j: int | None) -> np.ndarray:
    """int z_i z_j N over the face; None stands for 1."""
    zeroth, first, second = flat
    if i is not None and i == j:
        return second[:, i] * _others(zeroth, i)
    chosen = [one for one in (i, j) if one is not None]
    found = _others(zeroth, *chosen)
    for one in chosen:
        found = found * first[:, one]
    return np.asarray(found)
