"""Derivatives in the SNR that are known: none is taken through the square root at SNR 0.

dI / d snr = mmse / 2 and d mmse / d snr = -E |Cov(e|Y)|_F^2 (statement 4 of docs/theory) hold down
to snr = 0, where derivatives in sqrt(snr) cancel to 0 / 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def with_slope(
    value: Callable[[Any, Any], Any], slope: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], Any]:
    """value(snr, rest) with the derivative slope(snr, rest) in the SNR, the first axis of both.

    Derivatives in `rest` (any pytree) stay those of `value`.
    """

    @jax.custom_jvp
    def function(snr: Any, rest: Any) -> Any:
        return value(snr, rest)

    @function.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (snr, rest), (snr_tangent, rest_tangent) = primals, tangents
        out, moved = jax.jvp(lambda given: value(snr, given), (rest,), (rest_tangent,))
        along = slope(snr, rest)
        return out, moved + along * snr_tangent.reshape(-1, *[1] * (along.ndim - 1))

    return function
