"""Averages over independent replicates, whose values are those of four statistics at each level.

A statistic is of the posterior of a token, averaged over the tokens of a replicate: its error
probability, its entropy, its variance, and `INFORMATION`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Int

from tokenkl.information.findings import Findings
from tokenkl.information.problem import Problem
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments
from tokenkl.numerics.unseen import represented

#: Divergence of the posterior from a law p0 that it is compared with, less the entropy of p0. It is
#: the information about a token less its entropy without context, whatever p0 is; where the
#: posterior hardly differs from p0 it hardly varies, as the entropy of the posterior would.
INFORMATION = 3
STATISTICS = ("error_probability", "conditional_entropy", "mmse", "information")


def average(
    problem: Problem,
    moments: Moments,
    plain: Moments | None = None,
    *,
    entropy: float | None,
    method: Any,
    spread: float = 1.0,
    once: int | Int[np.ndarray, " levels"] | None = None,
) -> dict[str, Findings]:
    """Every quantity from the moments (levels, statistics) of replicates.

    Args:
        problem: codebook and levels.
        moments: what the estimate rests on.
        plain: of the statistics themselves, where the estimate rests on other averages; they say
            how many replicates are informative.
        entropy: H of the token without context; None: no mutual information.
        method: how it was found.
        spread: how many times the range of a statistic that of a replicate is.
        once: replicates, by level, whose tokens are those of no other one; None: not sampled.
    """
    K, eps = problem.codebook.K, np.finfo(float).eps
    radius = float((problem.centred**2).sum(axis=1).max())
    log_K = math.log(max(K, 2))
    reach = np.array([1.0, log_K, radius, log_K])
    ranges = spread * reach
    plain = moments if plain is None else plain
    correct = 1 - plain.mean[:, 0]
    right = plain.n[:, 0] * correct**2 / (correct**2 + plain.variance[:, 0] + 1e-300)
    supported = (plain.effective() >= MIN_EFFECTIVE) & moments.carried()
    supported[:, 0] &= right >= MIN_EFFECTIVE
    if once is not None:
        once = np.reshape(once, (-1, 1))
        supported &= represented(once, moments.n, moments.standard_error, reach)
    found: dict[str, Findings] = {}
    for column, name in enumerate(STATISTICS):
        value = moments.mean[:, column]
        rounding = 1e-12 * abs(value) + moments.rounding[:, column]
        if name == "mmse":
            rounding = rounding + 8 * eps * np.sqrt(radius * abs(value))
        if column == INFORMATION:
            rounding = 16 * eps * log_K + moments.rounding[:, column]
        unit = 2 * problem.exponent if name == "mmse" else 0
        found[name] = Findings(
            np.ldexp(value, unit),
            np.ldexp(moments.standard_error[:, column], unit),
            np.ldexp(rounding, unit),
            moments.n[:, 0],
            supported[:, column],
            np.ldexp(ranges[column], unit),
            moments.skewness[:, column],
            method=method,
        )
    return finished(found, entropy)


def finished(found: dict[str, Findings], entropy: float | None) -> dict[str, Findings]:
    """With accuracy, and mutual information by the route that errs less."""
    eps = np.finfo(float).eps
    found["accuracy"] = found["error_probability"].complement(1.0, eps)
    direct = found.pop("information")
    if entropy is None:
        return found
    rounding = 4 * eps * entropy
    routes = [
        found["conditional_entropy"].complement(entropy, rounding),
        dataclasses.replace(
            direct,
            value=direct.value + entropy,
            numerical_error=direct.numerical_error + rounding + 1e-12 * abs(direct.value + entropy),
        ),
    ]
    # An entropy near 0 and an information near 0 are carried by few replicates each: both count.
    both = routes[0].interval_supported & routes[1].interval_supported
    better = np.flatnonzero(both & (routes[1].standard_error <= routes[0].standard_error))
    everywhere = np.arange(np.size(direct.value))
    joined = Findings.joined(
        everywhere.size, [(everywhere, routes[0]), (better, routes[1].at(better))]
    )
    found["mutual_information"] = dataclasses.replace(joined, interval_supported=both)
    return found
