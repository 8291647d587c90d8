"""Sampling steps from an MMSE that was measured at some levels, such as that of tokens in context.

The path KL of steps depends on the MMSE alone, whoever has found it. What is fitted is a curve that
decreases through what was measured, smooth in logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import as_float_array, check_count, check_snr, reject
from tokenkl.divergence.brackets import BracketedCurve, decreasing
from tokenkl.divergence.mmse_table import Nodes
from tokenkl.divergence.search import best_grid
from tokenkl.divergence.steps import OptimalSteps, asymptotic
from tokenkl.estimate import Estimate

#: Fewest levels: with every other one, a curve is still more than its ends.
FEWEST = 5
#: Straight pieces between two levels, whose chords then cost no digits that matter.
INSIDE = 64


def measured_steps(
    snr: Float[Any, " levels"],
    mmse: Estimate | Float[Any, " levels"],
    Ns: Sequence[int],
) -> list[OptimalSteps]:
    """For each N the grid of N steps between the ends of `snr` with the smallest path KL.

    That of the ancestral sampler with an exact denoiser, for a curve that decreases through the
    MMSEs (`optimal_steps` is for codebooks, whose MMSE the library finds for itself). Of the MMSE
    of one token in its sequence, averaged over positions, as `contextual_profile` finds it, the KL
    is that of the sequence for each token.

    Args:
        snr: at least five levels in ascending order, the first at least 0.
        mmse: at each of them, at least 0; an `Estimate` where they have errors.
        Ns: numbers of steps, each at least 1.

    Returns:
        Grids with their path KL. `numerical_error`: the largest difference that leaving out
        every other level makes. `standard_error`: whatever the correlation of errors at different
        levels; that the same MMSEs chose the grid is not in it.

    Raises:
        ValueError: levels or MMSEs that are none of these, or an MMSE that does not fall.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> snr = np.append(0, np.geomspace(0.01, 50, 40))
        >>> mmse = tk.profile(tk.FSQ((3, 3)), snr)["mmse"].value
        >>> tk.divergence.measured_steps(snr, mmse, [4])[0].snr.round(1).tolist()
        [0.0, 2.1, 7.1, 18.4, 50.0]
    """
    levels = np.asarray(check_snr(as_float_array("snr", snr, ndim=1)))
    given = mmse if isinstance(mmse, Estimate) else Estimate(mmse)
    values = np.asarray(as_float_array("mmse", given.value, ndim=1))
    if levels.size < FEWEST or not (np.diff(levels) > 0).all():
        reject("snr", levels, f"at least {FEWEST} levels in ascending order")
    if values.shape != levels.shape or not (values >= 0).all() or not values[0] > values[-1]:
        reject("mmse", values, f"{levels.size} numbers, at least 0, that fall from first to last")
    errors = np.broadcast_to(given.standard_error + given.numerical_error, levels.shape)
    for N in Ns:
        check_count(N, "Ns")
    curve, last = _curve(levels, values, errors), levels.size - 1
    coarse = []
    for first in (0, 1):
        half = np.unique([0, *range(first, last, 2), last])
        coarse.append(_curve(levels[half], values[half], errors[half]))
    moved = []
    for level in np.flatnonzero(errors):
        other = values.copy()
        other[level] += errors[level]
        moved.append(_curve(levels, other, errors))
    limit, doubt = asymptotic(curve)
    found = []
    for N in Ns:
        grid = best_grid(curve, N, float(levels[0]), float(levels[-1]))
        value = curve.price(grid)
        kl = Estimate(
            value,
            standard_error=math.fsum(abs(other.price(grid) - value) for other in moved),
            numerical_error=max(abs(other.price(grid) - value) for other in coarse),
            n_samples=int(np.max(given.n_samples)),
            method="curve through measured MMSEs",
            seed=given.seed,
            draws=given.draws,
            quantity="ancestral KL",
            unit="nats",
        )
        found.append(OptimalSteps(grid, kl, limit / N, doubt / N))
    return found


def _curve(snr: np.ndarray, mmse: np.ndarray, error: np.ndarray) -> BracketedCurve:
    """In x = log(1 + scale (snr - low)), with the scale at which half of the fall is over."""
    middle = np.interp(-(mmse[0] + mmse[-1]) / 2, -np.minimum.accumulate(mmse), snr - snr[0])
    scale = 1 / max(float(middle), float(snr[1] - snr[0]))
    return decreasing(
        Nodes(float(snr[0]), scale, np.zeros(0), 1), snr, mmse, 0 * error, error, INSIDE
    )
