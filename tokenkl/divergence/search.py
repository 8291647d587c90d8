"""The best grid of SNRs for a curve of MMSEs: shortest paths, then places ever closer by."""

from __future__ import annotations

import functools

import numpy as np

from tokenkl.divergence.mmse_table import MmseCurve
from tokenkl.numerics.paths import best_of, refined

#: Steps up to which the search starts from the best grid among this many SNRs.
MOST_SEARCHED, SEARCH_LEVELS = 64, 400
#: Points of the quadrature of the optimal density for each node of the table.
DENSE = 4


def best_grid(table: MmseCurve, N: int, low: float, high: float) -> np.ndarray:
    """The N-step grid from low to high that costs least by this curve, as far as is found."""
    start = _searched(table, N) if N <= MOST_SEARCHED else _by_density(table, N)
    x = refined(start, functools.partial(_cost, table))
    return np.concatenate([[low], table.nodes.snr_of(x[1:-1]), [high]])


def density_of(table: MmseCurve) -> tuple[np.ndarray, np.ndarray]:
    """Positions x, and the integral of sqrt(-d mmse / d snr) d snr up to them."""
    nodes = table.nodes.x
    inside = np.diff(nodes)[:, None] * np.arange(DENSE) / DENSE
    x = np.append((nodes[:-1, None] + inside).ravel(), nodes[-1])
    slope = table.slope(table.nodes.snr_of(x))
    density = np.sqrt(np.maximum(-slope, 0)) * np.exp(x) / table.nodes.scale
    # Simpson's rule over pairs of intervals, linear in between.
    width = x[2::2] - x[:-2:2]
    pairs = (density[:-2:2] + 4 * density[1:-1:2] + density[2::2]) * width / 6
    return x[::2], np.concatenate([[0.0], np.cumsum(pairs)])


def _cost(table: MmseCurve, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Cost of steps between positions x, all pairs of the last axes."""
    return table.cost(table.nodes.snr_of(start), table.nodes.snr_of(stop))


def candidates(table: MmseCurve, N: int) -> np.ndarray:
    """Positions that the search for N steps chooses from."""
    x, total = density_of(table)
    share = x / x[-1] + (total / total[-1] if total[-1] > 0 else 0)
    return np.interp(np.linspace(0, share[-1], max(SEARCH_LEVELS, 4 * N)), share, x)


def _searched(table: MmseCurve, N: int) -> np.ndarray:
    """Positions of the best grid among the candidates, by a shortest path."""
    x = candidates(table, N)
    return best_of(x, functools.partial(_cost, table), N)


def _by_density(table: MmseCurve, N: int) -> np.ndarray:
    """Positions at equal parts of the integral of the optimal density."""
    x, total = density_of(table)
    return np.interp(np.linspace(0, total[-1], N + 1), total, x)
