"""The two-term law: KL after N steps = that of the exact denoiser + c int nu dlog snr."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import optimize

from experiments.ranks import spearman
from experiments.toy import data

#: Estimates from counts may be below 0; logarithms are taken of this at least.
LEAST = 1e-9


def values(table: pd.DataFrame, quantity: str, steps: int = 0, budget: int = 0) -> pd.DataFrame:
    """Laws and geometries in rows, seeds in columns."""
    rows = table[(table.quantity == quantity) & (table.steps == steps) & (table.budget == budget)]
    return cast(pd.DataFrame, rows.pivot(index=["law", "geometry"], columns="seed", values="value"))


class Cells(NamedTuple):
    """What was found in one case: cells (law, geometry) in rows, seeds in the last axis."""

    index: pd.MultiIndex
    nu: Float[np.ndarray, "cells seeds"]
    excess: Float[np.ndarray, "cells seeds"]
    measured: Float[np.ndarray, "steps cells seeds"]
    exact: Float[np.ndarray, "steps cells seeds"]

    @classmethod
    def of(
        cls, table: pd.DataFrame, steps: tuple[int, ...], budget: int, kl: tuple[str, str]
    ) -> Cells:
        """From the rows of one case; `kl` names what was trained, and the exact term."""
        nu = values(table, "int nu")
        measured = [values(table, kl[0], count, budget) for count in steps]
        exact = [values(table, kl[1], count) for count in steps]
        return cls(
            cast(pd.MultiIndex, nu.index),
            nu.to_numpy(),
            values(table, "excess", 0, budget).to_numpy(),
            np.stack([one.to_numpy() for one in measured]),
            np.stack([one.to_numpy() for one in exact]),
        )

    def law(self, name: str) -> Bool[np.ndarray, " cells"]:
        """The cells of a law."""
        return np.asarray(self.index.get_level_values("law") == name)

    def geometry(self, name: str) -> Bool[np.ndarray, " cells"]:
        """The cells of a geometry."""
        return np.asarray(self.index.get_level_values("geometry") == name)

    def mean(self, seeds: np.ndarray) -> Means:
        """Over these seeds."""
        return Means(
            self.nu[:, seeds].mean(-1),
            self.excess[:, seeds].mean(-1),
            self.measured[..., seeds].mean(-1),
            np.maximum(self.exact[..., seeds].mean(-1), LEAST),
        )


class Means(NamedTuple):
    """The terms of some cells, by means over seeds."""

    nu: Float[np.ndarray, " cells"]
    excess: Float[np.ndarray, " cells"]
    measured: Float[np.ndarray, "steps cells"]
    exact: Float[np.ndarray, "steps cells"]

    def at(self, where: Bool[np.ndarray, " cells"]) -> Means:
        """Some of the cells."""
        return Means(
            self.nu[where], self.excess[where], self.measured[:, where], self.exact[:, where]
        )

    def predicted(self, c: float) -> Float[np.ndarray, "steps cells"]:
        """The two terms together."""
        return self.exact + c * self.nu

    def miss(self, predicted: Float[np.ndarray, "steps cells"]) -> Float[np.ndarray, "steps cells"]:
        """Log of a prediction, less that of what was measured."""
        return np.log(predicted) - np.log(np.maximum(self.measured, LEAST))

    def fitted(self) -> float:
        """The c of least squares in log KL."""
        found = optimize.minimize_scalar(
            lambda log_c: (self.miss(self.predicted(np.exp(log_c))) ** 2).sum(),
            bounds=(-9.0, 4.0),
            method="bounded",
        )
        return float(np.exp(found.x))


def two_terms(cells: Cells, seeds: np.ndarray) -> dict[str, float]:
    """c fitted on FSQ's law, and how the two-term law does on the others, by means over seeds."""
    means, fsq = cells.mean(seeds), cells.law(data.FSQ)
    own, other = means.at(fsq), means.at(~fsq)
    c = own.fitted()
    predicted = other.predicted(c)
    miss = other.miss(predicted)
    alone = other.miss(other.exact) - own.miss(own.exact).mean()
    measured = other.measured.ravel()
    return {
        "c": c,
        "spearman": float(spearman(predicted.ravel(), measured)),
        "rms": float(np.sqrt((miss**2).mean())),
        "bias": float(miss.mean()),
        "rms_of_exact_alone": float(np.sqrt((alone**2).mean())),
        "spearman_of_exact_alone": float(spearman(other.exact.ravel(), measured)),
    }
