"""2^x and its parts, compiled so that loops over them become vector instructions.

Imports Numba, which most uses do without (see `tokenkl.numerics.compiled`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from tokenkl.numerics.compiled import compiled

# 2^f = 1 + f (G0 + G1 f + ...) on [-1/2, 1/2] by interpolation at the Chebyshev nodes: relative
# error 6e-16, and exactly 1 at 0.
G0, G1, G2, G3, G4, G5, G6, G7, G8, G9 = (
    0.6931471805599462,
    0.24022650695910075,
    0.05550410866465167,
    0.009618129107618665,
    0.0013333558200794592,
    0.00015403530424776529,
    1.5252672924850737e-05,
    1.3215451633221434e-06,
    1.0205905413765595e-07,
    7.070977866508138e-09,
)
# The same by six nodes: relative error 5e-9, less than a tenth of an ulp in single precision.
S0, S1, S2, S3, S4, S5 = (
    np.float32(0.6931471880262288),
    np.float32(0.24022650760568126),
    np.float32(0.05550357114219078),
    np.float32(0.009618082557277852),
    np.float32(0.0013390863364671234),
    np.float32(0.0001545316294512069),
)
#: Adding this number leaves the nearest whole number in the low bits of the sum.
ROUNDING, ROUNDING_SINGLE = 1.5 * 2.0**52, np.float32(1.5 * 2.0**23)
LOWEST, HIGHEST = np.float32(-125), np.float32(60)
ONE = np.float32(1)
LOG2_E = 1.4426950408889634

# Sums may be reordered (that is what vector units need) and no operand is ever infinite or NaN.
SUMS = {"reassoc", "contract", "nsz", "nnan"}


def _cast(source: Any, target: Any, kind: Any) -> Any:
    """The same 64 bits read as another type."""

    @intrinsic
    def cast(_context: Any, x: Any) -> Any:  # noqa: ARG001 - Numba asks for it
        def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
            return builder.bitcast(args[0], kind)

        return target(source), generate

    return cast


bits = _cast(types.float64, types.int64, ir.IntType(64))
_float = _cast(types.int64, types.float64, ir.DoubleType())
_bits_single = _cast(types.float32, types.int32, ir.IntType(32))
_float_single = _cast(types.int32, types.float32, ir.FloatType())


def _extreme(name: str) -> Any:
    """A maximum or minimum of two floats of one type, neither NaN, that LLVM makes vectors of."""

    @intrinsic
    def choose(_context: Any, x: Any, y: Any) -> Any:
        real = x if y == x else types.float64

        def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
            form = ir.FloatType() if real == types.float32 else ir.DoubleType()
            kind = ir.FunctionType(form, [form] * 2)
            function = builder.module.declare_intrinsic(name, [form], kind)
            return builder.call(function, args, fastmath=("nnan", "nsz"))

        return real(real, real), generate

    return choose


larger, smaller = _extreme("llvm.maxnum"), _extreme("llvm.minnum")


@compiled(fastmath={"contract"})  # reordering would undo the rounding trick
def exp2(x: float) -> float:
    """2^x, with a relative error below 1e-15 for x > -960; 0 below -1021, 2^1000 above 1000."""
    x = smaller(larger(x, -1021.0), 1000.0)
    rounded = x + ROUNDING
    f = x - (rounded - ROUNDING)
    p = G5 + f * (G6 + f * (G7 + f * (G8 + f * G9)))
    p = 1.0 + f * (G0 + f * (G1 + f * (G2 + f * (G3 + f * (G4 + f * p)))))
    return _float(bits(p) + (bits(rounded) << 52)) - 2.0**-1021


@compiled(fastmath={"contract"})
def exp2_single(x: Any) -> Any:
    """2^x in single precision, relative error below 2e-7; 2^-125 below that, 2^60 above 60."""
    x = smaller(larger(x, LOWEST), HIGHEST)
    rounded = x + ROUNDING_SINGLE
    f = x - (rounded - ROUNDING_SINGLE)
    p = ONE + f * (S0 + f * (S1 + f * (S2 + f * (S3 + f * (S4 + f * S5)))))
    return _float_single(_bits_single(p) + (_bits_single(rounded) << np.int32(23)))


def power(x):  # type: ignore[no-untyped-def]
    """2^x in the precision of x; compiled code takes one of the two below instead."""
    return np.exp2(x)


@overload(power)
def _power_of(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: exp2_single(x)
    return lambda x: exp2(x)


@compiled(fastmath=set())
def exponent(x: float) -> int:
    """The whole part of log2(x), x >= 0; at most -1023 for x = 0 and next to it."""
    return (bits(x) >> 52) - 1023
