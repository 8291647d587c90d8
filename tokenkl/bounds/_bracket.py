"""The tightest bounds at hand on a quantity, and which ones they are."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_choice, check_snr
from tokenkl.bounds._inputs import LEVEL, high_end, low_end
from tokenkl.bounds.theorems import Setting, readings
from tokenkl.codebooks import Codebook
from tokenkl.estimate import Bound
from tokenkl.quantities import QUANTITIES

#: What `bracket` can be asked for.
ASKED = tuple(QUANTITIES)
#: What bounds are kept on: accuracy is 1 - error.
KEPT = ASKED[1:]
#: A bound replaces another only where it is better by more than rounding.
BETTER = 1e-12
#: How often bounds are passed on from one quantity to the others.
ROUNDS = 4
EPS = float(np.finfo(float).eps)


@dataclasses.dataclass(frozen=True, eq=False)
class Bracket:
    """lower <= quantity <= upper, and the inequalities behind each end.

    `lower_names` and `upper_names` have the shape of `snr`: which bound is the tightest may change
    with the SNR. A name such as "Fano < union bound" says that Fano's inequality was applied to the
    union bound.
    """

    quantity: str
    snr: Float[np.ndarray, " *shape"]
    lower: Bound
    upper: Bound
    lower_names: np.ndarray
    upper_names: np.ndarray

    @property
    def width(self) -> Float[np.ndarray, " *shape"]:
        """upper - lower."""
        return np.asarray(self.upper.value - self.lower.value)


class _Best:
    """The best value so far of one end of one quantity, and where it came from."""

    def __init__(self, size: int, value: float, is_lower: bool) -> None:
        self.value = np.full(size, value)
        self.names = np.full(size, "range of the quantity", dtype=object)
        self.is_lower = is_lower

    def offer(self, value: Any, name: str, source: np.ndarray | None = None) -> None:
        value = np.broadcast_to(np.asarray(value, float), self.value.shape)
        margin = value - self.value if self.is_lower else self.value - value
        size = np.where(np.isfinite(self.value), np.abs(self.value), 0.0)
        take = margin > BETTER * size
        self.value = np.where(take, value, self.value)
        origin = [name] * value.size if source is None else [f"{name} < {one}" for one in source]
        self.names = np.where(take, np.array(origin, dtype=object), self.names)

    def inherit(self, order: np.ndarray) -> None:
        """Take over the value of the level before, in this order, where it is the better one."""
        for before, here in itertools.pairwise(order):
            ahead = self.value[before] - self.value[here]
            size = abs(self.value[here]) if np.isfinite(self.value[here]) else 0.0
            if (ahead if self.is_lower else -ahead) > BETTER * size:
                self.value[here], self.names[here] = self.value[before], self.names[before]


def bracket(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    quantity: str,
    *,
    known: Mapping[str, Any] | None = None,
    level: float = LEVEL,
) -> Bracket:
    """The tightest lower and upper bound at hand on a quantity, from the geometry alone.

    Nothing is sampled, and no exact formula is used. All inequalities of `tokenkl.bounds` that the
    codebook is small enough for enter, and then each quantity bounds the others (error, sampling
    error, entropy, information, MMSE) until nothing improves; all but the information fall in the
    SNR, so that SNRs asked for together help each other. Holds for every prior; equal points are
    allowed. Rounding can move an end by about 1e-11 of its value.

    Args:
        codebook: any codebook. Up to 2**15 tokens and 2**26 coordinates all bounds enter; beyond,
            only those that need no materialised points.
        snr: signal-to-noise ratios, at least 0.
        quantity: "accuracy", "error_probability", "sampling_error", "conditional_entropy",
            "mutual_information" or "mmse".
        known: values of other quantities that are known and may be used: arrays of the shape of
            snr or `Estimate`s (such as exact ones), by name.
        level: confidence at which sampled `known` values enter.

    Returns:
        A `Bracket`.

    Raises:
        ValueError: snr negative or not finite, an unknown quantity, or a codebook too large to
            materialise whose kind does not know its own geometry.

    Example:
        >>> import tokenkl as tk
        >>> found = bracket(tk.FSQ((3, 3)), 4.0, "accuracy")
        >>> bool(found.lower.value <= tk.accuracy(tk.FSQ((3, 3)), 4.0).value <= found.upper.value)
        True
    """
    return brackets(codebook, snr, (quantity,), known=known, level=level)[quantity]


def brackets(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    quantities: Sequence[str] = ASKED,
    *,
    known: Mapping[str, Any] | None = None,
    level: float = LEVEL,
) -> dict[str, Bracket]:
    """`bracket` of several quantities from one pass, by name. Arguments and errors as there."""
    for quantity in quantities:
        check_choice(quantity, ASKED, "quantity")
    snr = check_snr(snr)
    levels = snr.ravel()
    ends = _start(codebook, levels.size)
    at = Setting(codebook, levels)
    for reading in readings(None, at):
        _add(ends, reading.bound(at))
    for name, value in (known or {}).items():
        _add_known(ends, check_choice(name, ASKED, "known"), value, level, levels.size)
    order = np.argsort(levels, kind="stable")
    for _ in range(ROUNDS):
        before = [end.value for pair in ends.values() for end in pair]
        _pass_on(ends, at)
        _along_the_snr(ends, order)
        after = [end.value for pair in ends.values() for end in pair]
        if all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)):
            break
    return {quantity: _answer(ends, quantity, snr) for quantity in quantities}


def _start(codebook: Codebook, size: int) -> dict[str, tuple[_Best, _Best]]:
    tops = {name: QUANTITIES[name].largest(codebook) for name in KEPT}
    return {name: (_Best(size, 0.0, True), _Best(size, top, False)) for name, top in tops.items()}


def _add(ends: dict[str, tuple[_Best, _Best]], bound: Bound) -> None:
    name, direction, value = bound.quantity, bound.direction, np.asarray(bound.value, float)
    if name == "accuracy":
        name, direction, value = (
            "error_probability",
            "lower" if direction == "upper" else "upper",
            1 - value,
        )
    ends[name][0 if direction == "lower" else 1].offer(value, bound.name)


def _add_known(
    ends: dict[str, tuple[_Best, _Best]], name: str, value: Any, level: float, size: int
) -> None:
    low = np.broadcast_to(low_end(value, name, level).ravel(), (size,))
    high = np.broadcast_to(high_end(value, name, level).ravel(), (size,))
    if name == "accuracy":
        name, low, high = "error_probability", np.maximum(1 - high, 0.0), 1 - low
    ends[name][0].offer(low, f"known {name}")
    ends[name][1].offer(high, f"known {name}")


def _pass_on(ends: dict[str, tuple[_Best, _Best]], at: Setting) -> None:
    """Every quantity bounds the others once."""
    for given, source in ends.items():
        for reading in readings(given, at):
            side = int(reading.direction == "upper")
            bound = reading.bound(at, source[side].value)
            ends[reading.quantity][side].offer(bound.value, bound.name, source[side].names)
        if given == "conditional_entropy":
            _balance(ends, float(at.codebook.prior_entropy()))


def _balance(ends: dict[str, tuple[_Best, _Best]], prior_entropy: float) -> None:
    """I + H = H(prior), rounded to the safe side."""
    entropy, information = ends["conditional_entropy"], ends["mutual_information"]
    slack = 4 * EPS * prior_entropy
    for one, other, name in ((entropy, information, "H"), (information, entropy, "I")):
        low, high = one
        other[0].offer(prior_entropy - high.value - slack, f"H(prior) - {name}", high.names)
        other[1].offer(prior_entropy - low.value + slack, f"H(prior) - {name}", low.names)


def _along_the_snr(ends: dict[str, tuple[_Best, _Best]], order: np.ndarray) -> None:
    """Information grows in the SNR and everything else falls: one level bounds the next."""
    for name, (low, high) in ends.items():
        # From where a lower bound is inherited: from smaller SNRs if the quantity grows.
        forward = order if QUANTITIES[name].grows else order[::-1]
        low.inherit(forward)
        high.inherit(forward[::-1])


def _answer(ends: dict[str, tuple[_Best, _Best]], quantity: str, snr: np.ndarray) -> Bracket:
    low, high = ends["error_probability" if quantity == "accuracy" else quantity]
    values = low.value, high.value
    if quantity == "accuracy":
        low, high, values = high, low, (1 - high.value, 1 - low.value)
    bounds, names = [], []
    for end, value, direction in zip((low, high), values, ("lower", "upper"), strict=True):
        found = end.names.reshape(snr.shape)
        kinds = list(dict.fromkeys(end.names))
        name = kinds[0] if len(kinds) == 1 else "tightest of " + "; ".join(kinds)
        citation = "see the bounds by name"
        bounds.append(
            Bound(
                value.reshape(snr.shape),
                direction,  # type: ignore[arg-type]
                name,
                citation,
                quantity,
                QUANTITIES[quantity].unit,
            )
        )
        names.append(found)
    return Bracket(quantity, snr, bounds[0], bounds[1], names[0], names[1])
