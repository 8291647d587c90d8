"""The usual grids of SNRs, from the start of a sampler to its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import (
    check_choice,
    check_count,
    check_positive,
    check_snr,
    is_traced,
    reject,
)
from tokenkl.schedule import EDM, CosineVP, LinearVP, Schedule


def uniform_time_steps(
    N: int, snr_min: float, snr_max: float, schedule: Schedule | None = None
) -> Float[np.ndarray, " points"]:
    """N + 1 SNRs at equidistant times of a schedule, from t(snr_min) down to t(snr_max).

    `schedule` is `LinearVP()` where none is given: the one of the paper's public code.

    Raises:
        ValueError: N below 1, or not 0 <= snr_min < snr_max within the schedule's range.
    """
    low, high = check_range(N, snr_min, snr_max)
    chosen = LinearVP() if schedule is None else schedule
    if not isinstance(chosen, Schedule):
        reject("schedule", schedule, "a tokenkl Schedule, such as LinearVP()")
    start, stop = chosen.t_from_snr(np.array([low, high]))
    inner = chosen.snr(np.linspace(start, stop, N + 1)[1:-1])
    return np.concatenate([[low], inner, [high]])


def cosine_steps(N: int, snr_min: float, snr_max: float) -> Float[np.ndarray, " points"]:
    """N + 1 SNRs at equidistant times of `CosineVP`. Raises as `uniform_time_steps`."""
    return uniform_time_steps(N, snr_min, snr_max, CosineVP())


def log_snr_steps(N: int, snr_min: float, snr_max: float) -> Float[np.ndarray, " points"]:
    """N + 1 SNRs equidistant in log snr; snr_min must be above 0. Raises as the others."""
    low, high = check_range(N, snr_min, snr_max, positive=True)
    inner = np.exp(np.linspace(math.log(low), math.log(high), N + 1)[1:-1])
    return np.concatenate([[low], inner, [high]])


def edm_steps(
    N: int, snr_min: float, snr_max: float, rho: float = 7.0
) -> Float[np.ndarray, " points"]:
    """N + 1 SNRs with snr^(-1/(2 rho)) equidistant: Karras et al. (2022), eq. 5, rho = 7.

    snr_min must be above 0. Raises as the others, and for rho not above 0.
    """
    low, high = check_range(N, snr_min, snr_max, positive=True)
    rho = check_positive(rho, "rho")
    return uniform_time_steps(N, low, high, EDM(high**-0.5, low**-0.5, rho))


#: Name -> function of N, snr_min, snr_max.
STEP_GRIDS: dict[str, Callable[[int, float, float], np.ndarray]] = {
    "uniform": uniform_time_steps,
    "cosine": cosine_steps,
    "log-snr": log_snr_steps,
    "edm": edm_steps,
}


def step_grid(name: str, N: int, snr_min: float, snr_max: float) -> Float[np.ndarray, " points"]:
    """The grid of N + 1 SNRs with this name: "uniform", "cosine", "log-snr" or "edm".

    Raises:
        ValueError: another name, or as `uniform_time_steps` and `log_snr_steps`.
    """
    check_choice(name, tuple(STEP_GRIDS), "name")
    return STEP_GRIDS[name](N, snr_min, snr_max)


def check_range(N: Any, snr_min: Any, snr_max: Any, positive: bool = False) -> tuple[float, float]:
    """The two ends as plain numbers, where N and they are those of a grid."""
    check_count(N, "N")
    for name, value in (("snr_min", snr_min), ("snr_max", snr_max)):
        if is_traced(value) or np.ndim(value):
            reject(name, value, "one concrete number")
        check_snr(value, name)
    low, high = float(snr_min), float(snr_max)
    if positive and low == 0:
        reject("snr_min", low, "above 0, where its logarithm and its noise level are finite")
    if high <= low:
        reject("snr_max", high, f"above snr_min = {low}")
    return low, high
