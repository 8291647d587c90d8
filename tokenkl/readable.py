"""Estimates as people read them: as many digits as are known, and not one more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tokenkl.estimate import Estimate

#: Significant digits of a value whose error is far below them.
DIGITS = 6
#: Beyond these a sampled value counts as known as well as an exact one.
MOST_DIGITS = 13
#: Powers of ten that are written out rather than as e-05.
PLAIN = range(-4, 7)

#: After a value: its interval is not a central-limit one; its target was not reached.
UNSUPPORTED, MISSED = "*", "†"


def format_exact(value: float, error: float) -> str:
    """At most six significant digits, and none beyond the numerical error."""
    if (value == 0 and error == 0) or not math.isfinite(value):
        return f"{value:g}"
    if not math.isfinite(error):
        return f"{value:.{DIGITS}g} ± {error:g}"
    # Of the rounded value, so that 0.9999999 takes as much room as the 1.00000 that it shows as.
    top = _exponent(float(f"{value:.{DIGITS - 1}e}")) if value else -400
    known = math.ceil(math.log10(error)) if error > 0 else -400
    if known > top:  # not one digit is known
        shown = f"{error:.1g}"
        return f"{f'{value:.1g}' if abs(value) > float(shown) else 0} ± {shown}"
    return _write(value, top, max(top - DIGITS + 1, known))


def format_sampled(value: float, half: float, digits: int = MOST_DIGITS) -> str:
    """Value ± half-width: two digits of the half-width, and the value to the same place.

    Where that takes more than so many digits of the value, it is rounded to these, and the
    half-width up, so that it covers the rounding, too.
    """
    if half == 0 or not (math.isfinite(value) and math.isfinite(half)):
        return f"{value:.{DIGITS}g} ± {half:g}"
    top = _exponent(max(abs(value), half))
    last = _exponent(float(f"{half:.1e}")) - 1
    if last <= top - MOST_DIGITS:
        return format_exact(value, max(half, last_of(value, digits)))
    if last <= top - digits and top >= -300:
        value, half, last = *_rounded(value, half, digits), top - digits + 1
    if top in PLAIN:
        places = max(-last, 0)
        short = f"{half:.{_exponent(float(f'{half:.1e}')) - last}e}"
        error = short if last < top - DIGITS else _fixed(half, last, places)
        return f"{_fixed(value, last, places)} ± {error}"
    if top < -300:  # where powers of ten are no longer ordinary numbers
        return f"{value:.1e} ± {half:.1e}"
    places, scale = top - last, 10.0**top
    return f"({_minus_zero(f'{value / scale:.{places}f}')} ± {half / scale:.{places}f})e{top:+03d}"


def _rounded(value: float, half: float, digits: int) -> tuple[float, float]:
    """A value of so many digits, and a half-width in whole units of its last one."""
    shown, last = float(f"{value:.{digits - 1}e}"), last_of(value, digits)
    units = math.ceil((abs(shown - value) + half) / last - 1e-9)  # but for what floats lose
    return shown, units * last


def last_of(value: float, digits: int) -> float:
    """One unit of the last of so many digits of a value; 0 for 0."""
    return float(f"1e{_exponent(value) - digits + 1}") if value and math.isfinite(value) else 0.0


def _exponent(value: float) -> int:
    return int(f"{abs(value):.13e}".partition("e")[2])


def _write(value: float, top: int, last: int) -> str:
    """A value from the digit of 10^top down to that of 10^last."""
    if top in PLAIN:
        return _fixed(value, last, max(-last, 0))
    return f"{value:.{top - last}e}"


def _fixed(value: float, last: int, places: int) -> str:
    return _minus_zero(f"{round(value, -last) if last > 0 else value:.{places}f}")


def _minus_zero(text: str) -> str:
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def reach(estimate: Estimate) -> Any:
    """From the value to the farther end of the 95 % interval, which may lie unevenly around it."""
    interval = estimate.confidence_interval(0.95)
    return np.maximum(interval.high - estimate.value, estimate.value - interval.low)


def cells(estimate: Estimate, missed: Any = False, digits: int = MOST_DIGITS) -> list[str]:
    """One string for each SNR, decimal points above each other, with so many digits at most."""
    values = np.ravel(estimate.value)
    halves = np.ravel(reach(estimate))
    errors = np.ravel(estimate.numerical_error)
    supported = np.ravel(estimate.interval_supported)
    sampled = np.ravel(np.broadcast_to(estimate.n_samples, np.shape(estimate.value))) > 0
    missed = np.broadcast_to(missed, values.shape)
    texts = []
    for value, half, error, is_supported, is_sampled, is_missed in zip(
        values, halves, errors, supported, sampled, missed, strict=True
    ):
        if is_sampled:
            text = format_sampled(float(value), float(half), digits)
        else:
            text = format_exact(float(value), max(float(error), last_of(float(value), digits)))
        texts.append(text + UNSUPPORTED * (not is_supported) + MISSED * bool(is_missed))
    return aligned(texts)


def aligned(texts: Sequence[str]) -> list[str]:
    """Padded on the left so that the (first) decimal points fall on one column."""

    def before(text: str) -> int:
        word = text.split(" ")[0]
        return len(word.partition(".")[0]) if "." in word else len(word.rstrip("*†"))

    widest = max(map(before, texts), default=0)
    return [" " * (widest - before(text)) + text for text in texts]
