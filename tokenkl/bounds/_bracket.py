"""The tightest bounds at hand on a quantity, and which ones they are."""

from __future__ import annotations

import dataclasses
import decimal
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_choice, check_snr, reject
from tokenkl.bounds._inputs import LEVEL, high_end, low_end
from tokenkl.bounds.theorems import Setting, readings
from tokenkl.codebooks import Codebook
from tokenkl.estimate import Bound
from tokenkl.quantities import QUANTITIES, check_quantities

#: What `bracket` can be asked for.
ASKED = tuple(QUANTITIES)
#: What bounds are kept on: accuracy is 1 - error.
KEPT = ASKED[1:]
#: A bound replaces another only where it is better by more than rounding.
BETTER = 1e-12
#: How often bounds are passed on from one quantity to the others.
ROUNDS = 4
#: Relative rounding of bounds; of H(prior), where logarithms of 1e-300 are rounded by 1e-13.
EPS = float(np.finfo(float).eps)
ROUNDING, UNEQUAL = 64 * EPS, 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class Bracket:
    """lower <= quantity <= upper, and the inequalities behind each end.

    `lower_names` and `upper_names` have the shape of `snr`: which bound is the tightest may change
    with the SNR. A name such as "Fano < union bound" says that Fano's inequality was applied to the
    union bound; "by part < union bound", that the bounds of independent parts were joined. Prints
    as a sentence, or as a table of several SNRs, with ends rounded outwards to six digits.
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

    @property
    def bits(self) -> Bracket:
        """The same in bits; only for quantities measured in nats or bits."""
        if self.lower.unit == "bits":
            return self
        if self.lower.unit != "nats":
            reject("bits", self.quantity, "asked of information or entropy")
        low, high = (
            dataclasses.replace(one, value=one.value / np.log(2), unit="bits")
            for one in (self.lower, self.upper)
        )
        return dataclasses.replace(self, lower=low, upper=high)

    def rows(self) -> list[dict[str, Any]]:
        """For every SNR both ends, and the inequalities behind them."""
        columns = {
            "snr": self.snr,
            "lower": self.lower.value,
            "upper": self.upper.value,
            "lower_name": self.lower_names,
            "upper_name": self.upper_names,
        }
        cells = zip(*(np.ravel(column).tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in cells]

    def __repr__(self) -> str:
        unit = f" {self.lower.unit}" if self.lower.unit else ""
        lines = [
            f"{outward(row['lower'], 'lower')} <= {self.quantity} <= "
            f"{outward(row['upper'], 'upper')}{unit} at snr = {row['snr']:g} "
            f"[{row['lower_name']}; {row['upper_name']}]"
            for row in self.rows()
        ]
        if len(lines) == 1:
            return f"<{lines[0]}>"
        return "\n".join([f"Bracket of {self.quantity} at {len(lines)} SNRs:", *lines])


def outward(value: float, side: str) -> str:
    """Six digits of a bound, rounded so that it stays one."""
    if not np.isfinite(value):
        return f"{value:g}"
    rounding = decimal.ROUND_FLOOR if side == "lower" else decimal.ROUND_CEILING
    rounded = decimal.Context(prec=6, rounding=rounding).create_decimal_from_float(value)
    return f"{float(rounded):.6g}"


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


#: Lower and upper end of every quantity.
Ends = dict[str, tuple[_Best, _Best]]


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
    SNR, so that SNRs asked for together help each other. Where tokens have independent parts, such
    as the coordinates of a grid, each part is bracketed, and they are joined. Holds for every
    prior; equal points are allowed. Rounding can move an end by about 1e-11 of its value.

    Args:
        codebook: any codebook. Up to 2**15 tokens and 2**26 coordinates in each part all bounds
            enter; beyond, only those that need no materialised points.
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
        >>> found = bracket(tk.FSQ((3,) * 8), 10.0, "accuracy")
        >>> print(f"{found.lower.value:.4f} <= accuracy <= {found.upper.value:.4f}")
        0.5294 <= accuracy <= 0.5318
        >>> str(found.lower_names), str(found.upper_names)
        ('by part < union bound', 'by part < Bonferroni, second order')
    """
    check_choice(quantity, ASKED, "quantity")
    return brackets(codebook, snr, (quantity,), known=known, level=level)[quantity]


def brackets(
    codebook: Codebook,
    snr: Float[Any, " *shape"],
    quantities: str | Sequence[str] = ASKED,
    *,
    known: Mapping[str, Any] | None = None,
    level: float = LEVEL,
) -> dict[str, Bracket]:
    """`bracket` of several quantities from one pass, by name. Arguments and errors as there."""
    names = check_quantities(quantities, ASKED)
    snr = check_snr(snr)
    for name in known or {}:
        check_choice(name, ASKED, "known")
    ends = _ends_of(codebook, snr.ravel(), known or {}, level)
    return {quantity: _answer(ends, quantity, snr) for quantity in names}


def _ends_of(
    codebook: Codebook,
    levels: Float[np.ndarray, " s"],
    known: Mapping[str, Any],
    level: float = LEVEL,
) -> Ends:
    ends = _start(codebook, levels.size)
    at = Setting(codebook, levels)
    if codebook.has_parts:
        _add_parts(ends, codebook.parts, levels)
    else:
        for reading in readings(None, at):
            _add(ends, reading.bound(at))
    for name, value in known.items():
        _add_known(ends, name, value, level, levels.size)
    order = np.argsort(levels, kind="stable")
    for _ in range(ROUNDS):
        before = [end.value for pair in ends.values() for end in pair]
        _pass_on(ends, at)
        _along_the_snr(ends, order)
        after = [end.value for pair in ends.values() for end in pair]
        if all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)):
            break
    return ends


def _add_parts(ends: Ends, parts: Sequence[Codebook], levels: Float[np.ndarray, " s"]) -> None:
    """From the ends of every part: errors are 1 - prod(1 - error), all other quantities add."""
    different: dict[Any, tuple[Ends, list[Codebook]]] = {}
    for part in parts:
        leaves, kind = jax.tree_util.tree_flatten(part)
        key = kind, tuple(np.asarray(leaf).tobytes() for leaf in leaves)
        if key not in different:
            different[key] = _ends_of(part, levels, {}), []
        different[key][1].append(part)
    for name, pair in ends.items():
        for side, end in enumerate(pair):
            found = [(one[name][side], len(alike)) for one, alike in different.values()]
            if name in ("error_probability", "sampling_error"):
                with np.errstate(divide="ignore"):
                    right = sum(count * np.log1p(-np.minimum(one.value, 1)) for one, count in found)
                value = -np.expm1(right)
            else:
                value = sum(count * one.value for one, count in found)
            names = zip(*(one.names for one, _ in found), strict=True)
            joined = ["; ".join(dict.fromkeys(row)).replace("by part < ", "") for row in names]
            end.offer(value, "by part", np.array(joined))


def _start(codebook: Codebook, size: int) -> Ends:
    tops = {name: QUANTITIES[name].largest(codebook) for name in KEPT}
    return {name: (_Best(size, 0.0, True), _Best(size, top, False)) for name, top in tops.items()}


def _add(ends: Ends, bound: Bound) -> None:
    name, direction, value = bound.quantity, bound.direction, np.asarray(bound.value, float)
    if name == "accuracy":
        name, direction = "error_probability", "lower" if direction == "upper" else "upper"
        value = _error_at(value, direction)
    ends[name][0 if direction == "lower" else 1].offer(value, bound.name)


def _add_known(ends: Ends, name: str, value: Any, level: float, size: int) -> None:
    low = np.broadcast_to(low_end(value, name, level).ravel(), (size,))
    high = np.broadcast_to(high_end(value, name, level).ravel(), (size,))
    if name == "accuracy":
        name, low, high = "error_probability", _error_at(high, "lower"), _error_at(low, "upper")
    ends[name][0].offer(low, f"known {name}")
    ends[name][1].offer(high, f"known {name}")


def _error_at(accuracy: np.ndarray, direction: str) -> np.ndarray:
    """1 - accuracy, rounded to the safe side: what is left of nearly 1 has lost its digits."""
    slack = ROUNDING * accuracy
    return np.maximum(1 - accuracy - slack, 0.0) if direction == "lower" else 1 - accuracy + slack


def _pass_on(ends: Ends, at: Setting) -> None:
    """Every quantity bounds the others once."""
    for given, source in ends.items():
        for reading in readings(given, at):
            side = int(reading.direction == "upper")
            bound = reading.bound(at, source[side].value)
            ends[reading.quantity][side].offer(bound.value, bound.name, source[side].names)
        if given == "conditional_entropy":
            _balance(ends, at.codebook)


def _balance(ends: Ends, codebook: Codebook) -> None:
    """I + H = H(prior), rounded to the safe side."""
    prior_entropy = float(codebook.prior_entropy())
    entropy, information = ends["conditional_entropy"], ends["mutual_information"]
    slack = (ROUNDING if codebook.has_equal_priors else UNEQUAL) * prior_entropy
    for one, other, name in ((entropy, information, "H"), (information, entropy, "I")):
        low, high = one
        other[0].offer(prior_entropy - high.value - slack, f"H(prior) - {name}", high.names)
        other[1].offer(prior_entropy - low.value + slack, f"H(prior) - {name}", low.names)


def _along_the_snr(ends: Ends, order: np.ndarray) -> None:
    """Information grows in the SNR and everything else falls: one level bounds the next."""
    for name, (low, high) in ends.items():
        # From where a lower bound is inherited: from smaller SNRs if the quantity grows.
        forward = order if QUANTITIES[name].grows else order[::-1]
        low.inherit(forward)
        high.inherit(forward[::-1])


def _answer(ends: Ends, quantity: str, snr: np.ndarray) -> Bracket:
    low, high = ends["error_probability" if quantity == "accuracy" else quantity]
    values = low.value, high.value
    if quantity == "accuracy":
        # Rounded outwards: errors next to 1 have no more digits than this.
        values = np.maximum(1 - high.value - EPS, 0.0), np.minimum(1 - low.value + EPS, 1.0)
        low, high = high, low
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
