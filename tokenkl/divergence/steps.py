"""The best grid of SNRs for the sampler of a codebook; `tokenkl.samplers.grids` has the usual ones.

The path KL of a grid (`ancestral_kl`) is a sum over its steps, so that shortest paths find the best
grid among all grids of given SNRs. For many steps its density tends to sqrt(-d mmse / d snr), and
the KL to (1/(4N)) (int sqrt(-d mmse / d snr) d snr)^2.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import reject
from tokenkl.codebooks import Codebook
from tokenkl.divergence.mmse_table import MmseTable, tabulate
from tokenkl.divergence.sampler import ancestral_kl, ancestral_kl_curve
from tokenkl.estimate import Estimate
from tokenkl.information.estimators import Progress
from tokenkl.information.methods import Method
from tokenkl.numerics.paths import best_of, refined
from tokenkl.samplers.grids import check_range

#: Steps up to which the search starts from the best grid among this many SNRs.
MOST_SEARCHED, SEARCH_LEVELS = 64, 400
#: Points of the quadrature of the optimal density for each node of the table.
DENSE = 4


@dataclasses.dataclass(frozen=True, eq=False)
class OptimalSteps:
    """The grid of N steps with the smallest path KL that was found, and what it costs.

    - `snr`: (N + 1,) SNRs from snr_min to snr_max.
    - `kl`: `ancestral_kl` on it, in nats; where sampled, from samples that did not choose the grid.
    - `asymptotic_kl`: (1/(4N)) (int sqrt(-d mmse / d snr) d snr)^2, what N KL tends to over N.
    - `asymptotic_error`: how far that may be off. `asymptotic_kl` plus this is an upper bound, by
      the Cauchy-Schwarz inequality between nodes of the table; where the MMSE is sampled, up to
      three standard errors at each of them.
    """

    snr: Float[np.ndarray, " points"]
    kl: Estimate
    asymptotic_kl: float
    asymptotic_error: float

    @property
    def N(self) -> int:
        """Number of steps."""
        return self.snr.size - 1


def optimal_steps(
    codebook: Codebook,
    N: int,
    snr_min: float,
    snr_max: float,
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> OptimalSteps:
    """The N-step grid from snr_min to snr_max with the smallest path KL of the ancestral sampler.

    Up to 64 steps the search starts from the best of all grids among 400 SNRs (shortest path, a
    global optimum on that set), beyond that from the asymptotic density sqrt(-d mmse / d snr). Half
    of the 400 are spread by that density, half by x = log(1 + D^2 snr) with D the size of the
    codebook, so that they are close where the MMSE falls, at however rare priors. Then every point
    is given nine places around it, the best choice of places for all points together is a shortest
    path again, and so on with the places ever closer, down to 1e-9 in x. The result is a local
    optimum, and up to 64 steps no worse than any grid among those 400 SNRs, as far as
    `numerical_error` tells; where the MMSE is sampled, that is so for the sample that chose it.

    Args:
        codebook: any codebook with at least two distinct tokens.
        N: number of steps, at least 1.
        snr_min, snr_max: where sampling starts and ends, 0 <= snr_min < snr_max.
        method, key, progress: as in `ancestral_kl`.

    Raises:
        ValueError: an argument out of its range, or no key where one is needed.

    Example:
        >>> import tokenkl as tk
        >>> tk.optimal_steps(tk.FSQ((3, 3)), 4, 0.0, 50.0).snr.round(2).tolist()
        [0.0, 2.12, 7.1, 18.41, 50.0]
    """
    options: dict[str, Any] = {"method": method, "key": key, "progress": progress}
    return optimal_step_grids(codebook, [N], snr_min, snr_max, **options)[0]


def optimal_step_grids(
    codebook: Codebook,
    Ns: Sequence[int],
    snr_min: float,
    snr_max: float,
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> list[OptimalSteps]:
    """`optimal_steps` for several numbers of steps, from one table (and one sample) of MMSEs.

    Args, results and errors as in `optimal_steps`. Sampled: the grids are chosen on one set of
    samples and all of them are valued on another.
    """
    if not Ns:
        reject("Ns", Ns, "at least one number of steps")
    for N in Ns:
        low, high = check_range(N, snr_min, snr_max)
    streams = (key, key) if key is None else tuple(generator(key).integers(2**63, size=2))
    table = tabulate(codebook, low, high, method, streams[0], progress)
    grids = []
    for N in Ns:
        start = _searched(table, N) if N <= MOST_SEARCHED else _by_density(table, N)
        best = refined(start, functools.partial(_cost, table))
        grids.append(_snr_of(table, best, low, high))
    options: dict[str, Any] = {"method": method, "key": streams[1], "progress": progress}
    if len(grids) == 1 or (codebook.as_grid is not None and table.exact):
        kls = [ancestral_kl(codebook, grid, **options) for grid in grids]
    else:
        curve = ancestral_kl_curve(codebook, grids, **options)
        kls = [curve[index] for index in range(len(grids))]
    limit, error = _asymptotic(table)
    found = []
    for N, grid, kl in zip(Ns, grids, kls, strict=True):
        if kl.is_sampled:
            kl = dataclasses.replace(kl, seed=seed_of(key), draws=draws_of(key))
        found.append(OptimalSteps(grid, kl, limit / N, error / N))
    return found


# ---- Pieces -----------------------------------------------------------------------------------


def _snr_of(table: MmseTable, x: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.concatenate([[low], table.nodes.snr_of(x[1:-1]), [high]])


def _cost(table: MmseTable, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Cost of steps between positions x, all pairs of the last axes."""
    return table.cost(table.nodes.snr_of(start), table.nodes.snr_of(stop))


def candidates(table: MmseTable, N: int) -> np.ndarray:
    """Positions that the search for N steps chooses from."""
    x, total = _density(table)
    share = x / x[-1] + (total / total[-1] if total[-1] > 0 else 0)
    return np.interp(np.linspace(0, share[-1], max(SEARCH_LEVELS, 4 * N)), share, x)


def _searched(table: MmseTable, N: int) -> np.ndarray:
    """Positions of the best grid among the candidates, by a shortest path."""
    x = candidates(table, N)
    return best_of(x, functools.partial(_cost, table), N)


def _density(table: MmseTable) -> tuple[np.ndarray, np.ndarray]:
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


def _asymptotic(table: MmseTable) -> tuple[float, float]:
    """(1/4) (int sqrt(-d mmse / d snr) d snr)^2, and how far it may be off.

    Between nodes the integral is at most sqrt(fall of the MMSE * rise of the SNR), whatever the
    MMSE does there (Cauchy-Schwarz).
    """
    root = float(_density(table)[1][-1])
    # Over short distances sampling errors would outweigh the fall.
    nodes = slice(None, None, 1 if table.exact else table.nodes.degree // 2)
    reach = (1.0 if table.exact else 3.0) * table.error[nodes]
    fall = np.maximum(-np.diff(table.value[nodes]) + reach[1:] + reach[:-1], 0)
    highest = float(np.sqrt(fall * np.diff(table.nodes.snr[nodes])).sum())
    return root**2 / 4, abs(highest**2 - root**2) / 4


def _by_density(table: MmseTable, N: int) -> np.ndarray:
    """Positions at equal parts of the integral of the optimal density."""
    x, total = _density(table)
    return np.interp(np.linspace(0, total[-1], N + 1), total, x)
