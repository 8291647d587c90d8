"""Noise levels to train at and to sample at, for a codebook: tables of ln(snr)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_choice, check_count
from tokenkl.codebooks import Codebook
from tokenkl.divergence.steps import optimal_steps
from tokenkl.optimality.design import information_uniform_schedule
from tokenkl.samplers.grids import STEP_GRIDS, step_grid
from tokenkl.schedule import parse_schedule
from tokenkl.tts.cdcd import LEVELS, RANGE

#: The schedule under which every noise level brings the same information about the token.
INFORMATION = "information"

#: Ways to choose the noise levels of a sampler.
GRIDS = ("uniform", "optimal", *(name for name in STEP_GRIDS if name != "uniform"))


def noise_levels(
    schedule: str, codebook: Codebook, *, key: Any = 0
) -> Float[np.ndarray, " levels"]:
    """ln(snr) at equal steps of diffusion time, 0 to 1, as `CDCD` takes it.

    Args:
        schedule: as in `tokenkl steps --schedule`, such as "linear-vp"; or "information", for
            `information_uniform_schedule(codebook)`, where time is the share of the information
            about a token without context that is still missing.
        codebook: the points and prior; only "information" looks at them.
        key: of sampled quantities.

    Raises:
        ValueError: an unknown schedule.
    """
    t = np.linspace(0, 1, LEVELS)
    if schedule == INFORMATION:
        return information_uniform_schedule(codebook, key=key).quantile(1 - t)
    chosen = parse_schedule(schedule)
    with np.errstate(divide="ignore"):
        return np.clip(np.log(chosen.snr(t)), *RANGE)


def sampling_levels(
    grid: str, steps: int, codebook: Codebook, table: Float[np.ndarray, " levels"], *, key: Any = 0
) -> Float[np.ndarray, " steps"]:
    """ln(snr) at the calls of a sampler with that many steps, ascending.

    Args:
        grid: "uniform" for equal steps of the time of `table`; "optimal" for the smallest path KL
            of the ancestral sampler (`optimal_steps`) on the same range; or one of `STEP_GRIDS`.
        steps: calls of the network.
        codebook: the points and prior, for "optimal".
        table: `noise_levels` of the schedule.
        key: of sampled quantities.

    Raises:
        ValueError: an unknown grid, or steps below 1.
    """
    check_choice(grid, GRIDS, "grid")
    check_count(steps, "steps")
    if grid == "uniform" or steps == 1:
        return np.interp(1 - np.arange(steps) / steps, np.linspace(0, 1, LEVELS), table)
    # The ends of a schedule are at infinity: its grid ends where nothing is left to be known.
    law = information_uniform_schedule(codebook, key=key)
    low, high = np.exp([law.log_snr[0], law.log_snr[-1]])
    if grid == "optimal":
        snr = optimal_steps(codebook, steps, low, high, key=key).snr
    else:
        snr = step_grid(grid, steps, low, high)
    return np.log(snr[:-1])
