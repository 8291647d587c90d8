"""What can be said about a token given its observation: one entry a quantity.

Estimators, bounds, checks, tables and axes read names, units and ranges here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal

from tokenkl._validation import check_choice, reject


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A functional of the joint law of token and observation.

    Args:
        name: as it is asked for.
        symbol: as formulas write it.
        unit: "" for a probability.
        title: head of a column, in one or two lines.
        axis: label of an axis, without the unit.
        limit: the largest value: 1, the entropy of the prior, or nothing.
        grows: whether it grows with the SNR; all others fall.
        complement: another quantity that is the limit minus this one.
    """

    name: str
    symbol: str
    unit: str
    title: str
    axis: str
    limit: Literal["one", "entropy", "none"] = "one"
    grows: bool = False
    complement: str | None = None

    @property
    def latex(self) -> str:
        """The symbol in a formula; words of several letters are upright."""
        name, _, index = self.symbol.partition("_")
        word = name if len(name) == 1 else rf"\mathrm{{{name}}}"
        return rf"{word}_\mathrm{{{index}}}" if index else word

    @property
    def axis_label(self) -> str:
        """What it is called on an axis, with its unit."""
        return f"{self.axis} ({self.unit})" if self.unit else self.axis

    def largest(self, codebook: Any) -> float:
        """What it cannot exceed for this codebook's prior."""
        if self.limit == "entropy":
            return float(codebook.prior_entropy())
        return 1.0 if self.limit == "one" else math.inf


QUANTITIES: dict[str, Quantity] = {
    one.name: one
    for one in (
        Quantity(
            "accuracy", "A", "", "accuracy", "Bayes accuracy",
            grows=True, complement="error_probability",
        ),
        Quantity(
            "error_probability", "P_e", "", "error\nprobability", "Bayes error probability",
            complement="accuracy",
        ),
        Quantity(
            "sampling_error", "S", "", "sampling\nerror", "error of a token drawn given Y",
        ),
        Quantity(
            "conditional_entropy", "H", "nats", "conditional\nentropy",
            "entropy of the token given Y",
            limit="entropy", complement="mutual_information",
        ),
        Quantity(
            "mutual_information", "I", "nats", "mutual\ninformation",
            "information about the token",
            limit="entropy", grows=True, complement="conditional_entropy",
        ),
        Quantity("mmse", "mmse", "squared distance", "MMSE", "MMSE", limit="none"),
    )
}  # fmt: skip


def check_quantities(
    given: str | Iterable[str], known: tuple[str, ...] = tuple(QUANTITIES)
) -> tuple[str, ...]:
    """Names of quantities, at least one; a single name stands for itself."""
    names = (given,) if isinstance(given, str) else tuple(given)
    if not names:
        reject("quantities", names, "at least one of " + ", ".join(known))
    for name in names:
        check_choice(name, known, "quantities")
    return names
