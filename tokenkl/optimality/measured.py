"""Noise for training from what a model has learned: its cross-entropy over the noise levels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._random import generator
from tokenkl._validation import as_float_array, check_snr, reject
from tokenkl.optimality.design import NoiseSchedule
from tokenkl.schedule import TableSchedule

#: Curves drawn for the band.
REPLICATES = 400


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredSchedule:
    """A law of noise levels that was fitted to measured cross-entropies, and its error bars.

    - `law`: density, distribution function and quantiles in log snr.
    - `low`, `high`: 95 % band of `law.share`, at each `law.log_snr` by itself.
    """

    law: NoiseSchedule
    low: Float[np.ndarray, " m"]
    high: Float[np.ndarray, " m"]

    @property
    def schedule(self) -> TableSchedule:
        """The schedule under which uniform times have this law."""
        return self.law.as_schedule()


def cross_entropy_schedule(
    snr: Float[Any, " m"],
    cross_entropy: Float[Any, " m"],
    standard_error: Float[Any, " m"] | float = 0.0,
    *,
    key: Any = None,
) -> MeasuredSchedule:
    """The law of noise levels under which a model's cross-entropy falls evenly.

    The time warping of Dieleman et al. (2022, arXiv 2211.15089), from measurements with errors: the
    distribution function in log snr is the share of the fall of the cross-entropy. Of a model with
    context, which no codebook tells (`information_uniform_schedule` is for exact denoisers). A fit
    that falls, by weighted least squares (pool adjacent violators); where it does not fall nothing
    is drawn, at both ends, and levels pooled in between count at their mean. Monotone cubics
    between the levels (Fritsch and Carlson 1980).

    The band comes from 400 curves around the fit with these errors, which are taken to be normal
    and independent. `law.numerical_error` is the largest step between two levels, since within it
    any curve that falls would fit.

    Args:
        snr: levels in any order, above 0 and all different, at least two.
        cross_entropy: mean loss in nats at each.
        standard_error: of each, or of all; 0 where they are exact.
        key: integer seed or JAX key; needed where there are errors.

    Raises:
        ValueError: shapes that do not fit, equal or non-positive levels, negative errors, a
            cross-entropy that does not fall, or no key where one is needed.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> snr = np.geomspace(0.1, 100, 12)
        >>> loss = tk.profile(tk.FSQ((3, 3)), snr)["conditional_entropy"].value
        >>> found = tk.optimality.cross_entropy_schedule(snr, loss)
        >>> round(float(found.schedule.snr(0.5)), 2)  # half of the fall is below
        3.36
    """
    levels = np.asarray(check_snr(as_float_array("snr", snr, ndim=1)))
    loss = np.asarray(as_float_array("cross_entropy", cross_entropy, ndim=1))
    error = np.asarray(as_float_array("standard_error", standard_error))
    if levels.size < 2 or not (levels > 0).all() or np.unique(levels).size < levels.size:
        reject("snr", levels, "at least two different levels above 0")
    if loss.shape != levels.shape:
        reject("cross_entropy", f"{loss.size} numbers", f"{levels.size}, one for each snr")
    if error.shape not in ((), levels.shape) or (error < 0).any():
        reject("standard_error", standard_error, "one for each snr or for all, at least 0")
    order = np.argsort(levels)
    x, loss = np.log(levels[order]), loss[order]
    error = np.broadcast_to(error, levels.shape)[order]
    if error.any() and key is None:
        reject("key", "None", "an integer seed or a JAX key, since the error bars are sampled")
    fit = _falling(loss, error)
    if not fit[0] > fit[-1]:
        reject("cross_entropy", loss, "falling as the SNR rises, over the range as a whole")
    law = _law_of(x, fit)
    share = np.repeat(law.share[None], 2, axis=0)
    if error.any():
        rng = generator(key)
        curves = fit + error * rng.standard_normal((REPLICATES, x.size))
        again = [_share(_falling(curve, error)) for curve in curves]
        at = np.array([np.interp(law.log_snr, x, one) for one in again])
        share = np.quantile(at, [0.025, 0.975], axis=0)
        law = dataclasses.replace(law, standard_error=float(at.std(axis=0).max()))
    return MeasuredSchedule(law, *share)


def _falling(loss: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The closest curve that falls; levels without errors, where others have some, stay."""
    from scipy.optimize import isotonic_regression  # slow to import

    floor = float(error.max()) * 1e-6 or 1.0
    weights = 1 / np.maximum(error, floor) ** 2
    return np.asarray(isotonic_regression(loss, weights=weights, increasing=False).x)


def _share(fit: np.ndarray) -> np.ndarray:
    """Share of the fall up to each level; of a curve that does not fall, even."""
    fall = fit[0] - fit[-1]
    return (fit[0] - fit) / fall if fall > 0 else np.linspace(0, 1, fit.size)


def _law_of(x: np.ndarray, fit: np.ndarray) -> NoiseSchedule:
    from scipy.interpolate import PchipInterpolator  # slow to import

    values, pool = np.unique(-fit, return_inverse=True)
    place = np.bincount(pool, x) / np.bincount(pool)
    place[0], place[-1] = x[pool == 0][-1], x[pool == values.size - 1][0]
    share = _share(-values)
    rate = PchipInterpolator(place, share).derivative()(place)
    return NoiseSchedule(
        place, share, rate, float(fit[0] - fit[-1]), float(np.diff(share).max()), 0.0
    )
