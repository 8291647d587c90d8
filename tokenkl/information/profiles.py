"""`Profile`: several quantities of one channel over levels of its noise, such as a grid of SNRs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.tree_util import GetAttrKey
from jaxtyping import Float

from tokenkl._validation import check_count
from tokenkl.estimate import Estimate
from tokenkl.quantities import QUANTITIES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, eq=False)
class Profile:
    """Estimates of several quantities, all of the shape of `noise`; ``profile["mmse"]`` is one.

    `noise` has the levels of the channel's noise variable, whose name `variable` is; `n` is None
    where tokens have no coordinates. A JAX pytree, whose leaves are the levels and those of the
    estimates.
    """

    label: str
    K: int
    n: int | None
    noise: Float[np.ndarray, " *shape"]
    estimates: dict[str, Estimate]
    variable: str = "snr"

    def __getitem__(self, quantity: str) -> Estimate:
        return self.estimates[quantity]

    @property
    def snr(self) -> Float[np.ndarray, " *shape"]:
        """The levels of a Gaussian channel."""
        if self.variable != "snr":
            raise AttributeError(f"snr must be asked of a profile over it; got {self!r}.")
        return self.noise

    @property
    def snr_db(self) -> Float[np.ndarray, " *shape"]:
        """SNR in decibels, 10 log10(snr); minus infinity at snr = 0."""
        return in_db(self.snr)

    @property
    def bits(self) -> Profile:
        """The same profile with its information quantities in bits."""
        estimates = {
            name: estimate.bits if estimate.unit == "nats" else estimate
            for name, estimate in self.estimates.items()
        }
        return dataclasses.replace(self, estimates=estimates)

    def only(self, *quantities: str) -> Profile:
        """The same profile with these quantities alone, in this order."""
        return dataclasses.replace(self, estimates={name: self[name] for name in quantities})

    def plot(self, title: str = "") -> Figure:
        """A panel for each quantity, over dB: a curve with its 95 % band.

        One quantity fills the column of a paper, several the page; `tokenkl.plotting.save_figure`
        writes the figure. Only of profiles over the SNR.

        Example:
            >>> import tokenkl as tk
            >>> figure = tk.profile(tk.FSQ((3, 3)), [1.0, 10.0], ["accuracy"]).plot()
            >>> figure.axes[0].get_ylabel()
            'Bayes accuracy'
        """
        from tokenkl.information.pictures import profile_figure

        return profile_figure([("", self)], title)

    def to_latex(self, digits: int = 5) -> str:
        """A table for a paper: a row for every level, a column for every quantity.

        It needs booktabs and siunitx. A sampled value is followed by +- the way to the farther end
        of its 95 % interval; where more than so many `digits` are known, the value is rounded to
        these, and the error up, so that it covers that. An exact one has no error. A star stands
        for an interval that is no central-limit one.

        Raises:
            ValueError: digits that are no count.

        Example:
            >>> import tokenkl as tk
            >>> table = tk.profile(tk.FSQ((3, 3)), [1.0, 10.0], ["accuracy"]).to_latex()
            >>> print(table.splitlines()[-3])
            10 & 0.85397 \\\\
        """
        from tokenkl.latex import escape, numbers_table
        from tokenkl.readable import cells

        check_count(digits, "digits")
        levels = self.snr_db if self.variable == "snr" else self.noise
        head = "SNR (dB)" if self.variable == "snr" else escape(self.variable)
        columns = {head: [f"{level:.6g}" for level in np.ravel(levels)]}
        for name, estimate in self.estimates.items():
            unit = {"nats": " (nats)", "bits": " (bits)"}.get(estimate.unit, "")
            columns[f"${QUANTITIES[name].latex}${unit}"] = cells(estimate, digits=digits)
        return numbers_table(columns)

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row for every level; for every quantity its value, errors and interval at `level`."""
        import pandas as pd

        columns: dict[str, Any] = {"snr_db": self.snr_db.ravel()} if self.variable == "snr" else {}
        columns[self.variable] = self.noise.ravel()
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
                "method": estimate.method.to_json(),
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
        tokens: dict[str, Any] = {"codebook": self.label, "K": self.K, "n": self.n}
        if self.n is None:
            tokens = {"channel": self.label, "K": self.K}
        return {
            **tokens,
            "interval_level": level,
            self.variable: np.ravel(self.noise).tolist(),
            "quantities": quantities,
        }

    def __repr__(self) -> str:
        levels = "SNRs" if self.variable == "snr" else f"levels of {self.variable}"
        return (
            f"<Profile of {self.label}: {', '.join(self.estimates)} at {self.noise.size} {levels}>"
        )


def in_db(snr: Float[np.ndarray, " *shape"]) -> Float[np.ndarray, " *shape"]:
    """10 log10(snr); minus infinity at 0."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(snr)


def _flatten(profile: Profile) -> tuple[list[tuple[GetAttrKey, Any]], Any]:
    """The estimates one by one: a dictionary would come back in alphabetical order."""
    children = {profile.variable: profile.noise, **profile.estimates}
    known = profile.label, profile.K, profile.n, profile.variable, tuple(profile.estimates)
    return [(GetAttrKey(name), child) for name, child in children.items()], known


def _unflatten(known: Any, children: Any) -> Profile:
    label, K, n, variable, names = known
    noise, *estimates = children
    return Profile(label, K, n, noise, dict(zip(names, estimates, strict=True)), variable)


jax.tree_util.register_pytree_with_keys(Profile, _flatten, _unflatten)
