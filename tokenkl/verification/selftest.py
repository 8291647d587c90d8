"""What this very installation computes, beside values that are known to twenty digits.

A few seconds, for `tokenkl doctor`: exact formulas, sampled averages (the machine code of Numba),
rare errors, gradients (JAX) and a file that is written and read. `verify` checks one codebook.
"""

from __future__ import annotations

import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tokenkl.codebooks import FSQ, PointCodebook
from tokenkl.codebooks.files import load_codebook, save_codebook
from tokenkl.codebooks.grammar import codebook
from tokenkl.estimate import Estimate
from tokenkl.information import MonteCarlo, RareEvents, accuracy, error_probability, profile

#: What is promised of exact values, relative to them (docs/guide.md).
EXACT = 1e-11
#: Standard errors that a sampled value may be off. The keys are fixed: it is so or not.
SIGMAS = 5.0
#: Relative error of a gradient in single precision.
SINGLE = 1e-4

QUANTITIES = ("error_probability", "conditional_entropy", "mutual_information", "mmse")


class Known(NamedTuple):
    """A codebook, a noise level, and twenty digits of `QUANTITIES`, in nats."""

    specification: str
    snr: float
    values: tuple[str, str, str, str]


#: Out of tests/references, where mpmath found them by quadrature in many digits.
KNOWN = (
    Known(
        "onehot:2",
        700.0,
        (
            "2.1188958477373197111e-78",
            "6.6335774718034049029e-78",
            "0.69314718055994530942",
            "3.326146729091395008e-78",
        ),
    ),
    Known(
        "onehot:3",
        400.0,
        (
            "2.0884875837625445058e-45",
            "6.5216969480526395165e-45",
            "1.0986122886681096914",
            "3.2768009917473280476e-45",
        ),
    ),
    Known(
        "onehot:6561",
        60.0,
        (
            "0.000088922847663782424667",
            "0.00028823723604084159779",
            "8.7886100721088366896",
            "0.00013622807767073975127",
        ),
    ),
    Known(
        "onehot:1000000",
        16.0,
        (
            "0.79877478665956179188",
            "5.9445265172413435207",
            "7.8709840407229305834",
            "0.90454705115817261128",
        ),
    ),
    Known(
        "fsq:2",
        1e-06,
        (
            "0.49960105778608893742",
            "0.69314668056019530925",
            "4.9999975000016664383e-7",
            "0.99999900000099999833",
        ),
    ),
    Known(
        "fsq:2",
        177.0,
        (
            "1.095069971770028209e-40",
            "3.4169462456383201513e-40",
            "0.69314718055994530942",
            "3.4357825136154330429e-40",
        ),
    ),
    Known(
        "fsq:3",
        20.0,
        (
            "0.016898212451645509288",
            "0.045883733291125031202",
            "1.0527285553769846602",
            "0.012820938457591095331",
        ),
    ),
    Known(
        "fsq:3",
        100.0,
        (
            "3.8220209583892521557e-7",
            "1.1508879477937693214e-6",
            "1.0986111377801618976",
            "2.9760668096404712267e-7",
        ),
    ),
)


class SelfCheck(NamedTuple):
    """One comparison: its name, whether it is well, and in words by how much it is off."""

    name: str
    ok: bool
    said: str
    seconds: float


def self_checks() -> Iterator[SelfCheck]:
    """Each as soon as it is done; whatever goes wrong in one is said in it.

    Example:
        >>> first = next(self_checks())
        >>> first.name, first.ok
        ('exact formulas', True)
    """
    for name, check in CHECKS.items():
        began = time.perf_counter()
        try:
            off, limit, unit = check()
            ok, said = off <= limit, f"off by {off:.2g} {unit}, of {limit:g} allowed"
        except Exception as error:  # of whatever is broken here
            where = traceback.extract_tb(error.__traceback__)[-1]
            ok = False
            said = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        yield SelfCheck(name, ok, said, time.perf_counter() - began)


def _exact() -> tuple[float, float, str]:
    worst = 0.0
    for one in KNOWN:
        found = profile(codebook(one.specification), one.snr, QUANTITIES)
        for name, digits in zip(QUANTITIES, one.values, strict=True):
            worst = max(worst, abs(float(found[name].value) / float(digits) - 1))
    return worst, EXACT, "of a value"


def _of_three_by_three(snr: float) -> tuple[PointCodebook, float]:
    """Points of a grid that do not know that they are one, and their error probability."""
    digits = {one.snr: one.values[0] for one in KNOWN if one.specification == "fsq:3"}[snr]
    p = float(digits)
    return PointCodebook(FSQ((3, 3)).points), p * (2 - p)


def _sampling() -> tuple[float, float, str]:
    points, error = _of_three_by_three(20.0)
    method = MonteCarlo(n_samples=8192, variance_reduction=False)
    return _sigmas(error_probability(points, 20.0, method=method, key=0), error)


def _rare() -> tuple[float, float, str]:
    points, error = _of_three_by_three(100.0)
    return _sigmas(error_probability(points, 100.0, method=RareEvents(), key=0), error)


def _sigmas(estimate: Estimate, exact: float) -> tuple[float, float, str]:
    error = max(float(estimate.standard_error + estimate.numerical_error), 1e-300)
    return abs(float(estimate.value) - exact) / error, SIGMAS, "standard errors"


def _gradients() -> tuple[float, float, str]:
    """Of the accuracy Phi(sqrt(snr)) of two tokens."""
    import jax

    snr = 0.5
    slope = jax.grad(lambda snr: accuracy(FSQ((2,)), snr).value)(snr)
    exact = math.exp(-snr / 2) / math.sqrt(8 * math.pi * snr)
    return abs(float(slope) / exact - 1), SINGLE, "of a value"


def _files() -> tuple[float, float, str]:
    points = PointCodebook(np.random.default_rng(0).standard_normal((64, 3)))
    with tempfile.TemporaryDirectory(prefix="tokenkl-doctor-") as folder:
        path = Path(folder) / "codebook.safetensors"
        save_codebook(points, path)
        read = load_codebook(path)
    return float(np.abs(read.points - points.points).max()), 0.0, "in a coordinate"


#: How far something is off, how far it may be, and the unit of both.
CHECKS: dict[str, Callable[[], tuple[float, float, str]]] = {
    "exact formulas": _exact,
    "sampling": _sampling,
    "rare errors": _rare,
    "gradients": _gradients,
    "files": _files,
}
