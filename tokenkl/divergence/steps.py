"""The best grid of SNRs for the sampler of a codebook; `tokenkl.samplers.grids` has the usual ones.

The path KL of a grid (`ancestral_kl`) is a sum over its steps, so that shortest paths find the best
grid among all grids of given SNRs. For many steps its density tends to sqrt(-d mmse / d snr), and
the KL to (1/(4N)) (int sqrt(-d mmse / d snr) d snr)^2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import reject
from tokenkl.codebooks import Codebook
from tokenkl.divergence.mmse_table import MmseCurve, tabulate
from tokenkl.divergence.sampler import ancestral_kl, ancestral_kl_curve
from tokenkl.divergence.search import best_grid, density_of
from tokenkl.estimate import Estimate
from tokenkl.information.estimators import Progress
from tokenkl.information.methods import Method
from tokenkl.information.parts import is_bracketed
from tokenkl.samplers.grids import check_range


@dataclasses.dataclass(frozen=True, eq=False)
class OptimalSteps:
    """The grid of N steps with the smallest path KL that was found, and what it costs.

    - `snr`: (N + 1,) SNRs from snr_min to snr_max.
    - `kl`: `ancestral_kl` on it, in nats; where sampled, from samples that did not choose the grid.
    - `beside`: (m,) path KLs of the grids that were to be valued beside it, from the same samples;
      None where there were none.
    - `asymptotic_kl`: (1/(4N)) (int sqrt(-d mmse / d snr) d snr)^2, what N KL tends to over N.
    - `asymptotic_error`: how far that may be off. `asymptotic_kl` plus this is an upper bound, by
      the Cauchy-Schwarz inequality between nodes of the table; where the MMSE is sampled, up to
      three standard errors at each of them.
    """

    snr: Float[np.ndarray, " points"]
    kl: Estimate
    asymptotic_kl: float
    asymptotic_error: float
    beside: Estimate | None = None

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
    beside: Sequence[Float[Any, " points"]] = (),
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
    `numerical_error` tells; where the MMSE is sampled, that is so for the sample that chose it, and
    where it is a bracket, for a curve that loses about 1 % (`tokenkl.divergence.brackets`).

    Args:
        codebook: any codebook with at least two distinct tokens.
        N: number of steps, at least 1.
        snr_min, snr_max: where sampling starts and ends, 0 <= snr_min < snr_max.
        beside: grids of SNRs, such as `step_grid` makes them, to be valued from the same samples.
        method, key, progress: as in `ancestral_kl`.

    Raises:
        ValueError: an argument out of its range, or no key where one is needed.

    Example:
        >>> import tokenkl as tk
        >>> tk.optimal_steps(tk.FSQ((3, 3)), 4, 0.0, 50.0).snr.round(2).tolist()
        [0.0, 2.12, 7.1, 18.41, 50.0]
    """
    options: dict[str, Any] = {"method": method, "key": key, "progress": progress}
    return optimal_step_grids(codebook, [N], snr_min, snr_max, beside=beside, **options)[0]


def optimal_step_grids(
    codebook: Codebook,
    Ns: Sequence[int],
    snr_min: float,
    snr_max: float,
    *,
    beside: Sequence[Float[Any, " points"]] = (),
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
    # The curve of brackets is that of a noise schedule with the same key, which may be there.
    own = key if is_bracketed(codebook) else streams[0]
    table = tabulate(codebook, low, high, method, own, progress)
    grids = [best_grid(table, N, low, high) for N in Ns]
    options: dict[str, Any] = {"method": method, "key": streams[1], "progress": progress}
    others: Estimate | None = None
    if codebook.as_grid is not None and table.exact:  # each by definition, while SNRs are few
        kls = [ancestral_kl(codebook, grid, **options) for grid in grids]
        others = ancestral_kl_curve(codebook, beside, **options) if len(beside) else None
    else:
        curve = ancestral_kl_curve(codebook, [*grids, *beside], **options)
        if curve.is_sampled:
            curve = dataclasses.replace(curve, seed=seed_of(key), draws=draws_of(key))
        kls = [curve[index] for index in range(len(grids))]
        others = curve[len(grids) :] if len(beside) else None
    limit, error = asymptotic(table)
    found = []
    for N, grid, kl in zip(Ns, grids, kls, strict=True):
        found.append(OptimalSteps(grid, kl, limit / N, error / N, others))
    return found


# ---- Pieces -----------------------------------------------------------------------------------


def asymptotic(table: MmseCurve) -> tuple[float, float]:
    """(1/4) (int sqrt(-d mmse / d snr) d snr)^2, and how far it may be off.

    Between nodes the integral is at most sqrt(fall of the MMSE * rise of the SNR), whatever the
    MMSE does there (Cauchy-Schwarz).
    """
    root = float(density_of(table)[1][-1])
    snr, value, reach = table.places()
    fall = np.maximum(-np.diff(value) + reach[1:] + reach[:-1], 0)
    highest = float(np.sqrt(fall * np.diff(snr)).sum())
    return root**2 / 4, abs(highest**2 - root**2) / 4
