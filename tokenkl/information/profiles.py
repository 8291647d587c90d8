"""`Profile`: several quantities of one codebook over a grid of SNRs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.tree_util import GetAttrKey
from jaxtyping import Float

from tokenkl.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False)
class Profile:
    """Estimates of several quantities, all of the shape of `snr`; ``profile["mmse"]`` is one.

    A JAX pytree, whose leaves are `snr` and those of the estimates.
    """

    label: str
    K: int
    n: int
    snr: Float[np.ndarray, " *shape"]
    estimates: dict[str, Estimate]

    def __getitem__(self, quantity: str) -> Estimate:
        return self.estimates[quantity]

    @property
    def snr_db(self) -> Float[np.ndarray, " *shape"]:
        """SNR in decibels, 10 log10(snr); minus infinity at snr = 0."""
        with np.errstate(divide="ignore"):
            return 10 * np.log10(self.snr)

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row for every SNR; for every quantity its value, errors and interval at `level`."""
        import pandas as pd

        columns: dict[str, Any] = {"snr_db": self.snr_db.ravel(), "snr": self.snr.ravel()}
        for name, estimate in self.estimates.items():
            interval = estimate.confidence_interval(level)
            columns[name] = np.ravel(estimate.value)
            columns[f"{name}_standard_error"] = np.ravel(estimate.standard_error)
            columns[f"{name}_numerical_error"] = np.ravel(estimate.numerical_error)
            columns[f"{name}_low"] = np.ravel(interval.low)
            columns[f"{name}_high"] = np.ravel(interval.high)
        return pd.DataFrame(columns)

    def to_json(self, level: float = 0.95) -> dict[str, Any]:
        """Plain numbers and strings, ready for `json.dump`."""
        quantities = {}
        for name, estimate in self.estimates.items():
            interval = estimate.confidence_interval(level)
            quantities[name] = {
                "unit": estimate.unit,
                "method": estimate.method,
                "n_samples": np.asarray(estimate.n_samples).tolist(),
                "seed": estimate.seed,
                "note": estimate.note,
                "value": np.ravel(estimate.value).tolist(),
                "standard_error": np.ravel(estimate.standard_error).tolist(),
                "numerical_error": np.ravel(estimate.numerical_error).tolist(),
                "degrees_of_freedom": [
                    df if np.isfinite(df) else None for df in np.ravel(estimate.degrees_of_freedom)
                ],
                "interval_low": np.ravel(interval.low).tolist(),
                "interval_high": np.ravel(interval.high).tolist(),
                "interval_supported": np.ravel(estimate.interval_supported).tolist(),
            }
        return {
            "codebook": self.label,
            "K": self.K,
            "n": self.n,
            "interval_level": level,
            "snr": np.ravel(self.snr).tolist(),
            "quantities": quantities,
        }

    def __repr__(self) -> str:
        return f"<Profile of {self.label}: {', '.join(self.estimates)} at {self.snr.size} SNRs>"


def _flatten(profile: Profile) -> tuple[list[tuple[GetAttrKey, Any]], Any]:
    """The estimates one by one: a dictionary would come back in alphabetical order."""
    children = {"snr": profile.snr, **profile.estimates}
    known = profile.label, profile.K, profile.n, tuple(profile.estimates)
    return [(GetAttrKey(name), child) for name, child in children.items()], known


def _unflatten(known: Any, children: Any) -> Profile:
    label, K, n, names = known
    snr, *estimates = children
    return Profile(label, K, n, snr, dict(zip(names, estimates, strict=True)))


jax.tree_util.register_pytree_with_keys(Profile, _flatten, _unflatten)
