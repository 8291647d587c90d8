"""Every quantity of a discrete channel from its joint law, term by term, in any precision."""

from typing import Any

import mpmath
import numpy as np


def joint(variable: str, prior: np.ndarray, noise: float) -> list[list[Any]]:
    """P(token, observation): one row for every observation, by what the channel is said to do."""
    weights = [mpmath.mpf(float(one)) for one in prior]
    p = [one / mpmath.fsum(weights) for one in weights]
    K, level = len(p), mpmath.mpf(float(noise))
    shown = [[p[k] * (1 - level) * (k == y) for k in range(K)] for y in range(K)]
    if variable == "masked":
        return [*shown, [level * one for one in p]]
    return [[shown[y][k] + p[k] * level / K for k in range(K)] for y in range(K)]


def quantities(rows: list[list[Any]]) -> dict[str, Any]:
    """By definition; differences of nearly equal numbers are for the precision to bear."""
    found = dict.fromkeys(
        (
            "accuracy",
            "error_probability",
            "conditional_entropy",
            "mutual_information",
            "sampling_error",
        ),
        mpmath.mpf(0),
    )
    prior = [mpmath.fsum(row[k] for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        total = mpmath.fsum(row)
        if total == 0:
            continue
        found["accuracy"] += max(row)
        best = row.index(max(row))
        found["error_probability"] += mpmath.fsum(row[:best] + row[best + 1 :])
        for k, (weight, own) in enumerate(zip(row, prior, strict=True)):
            found["sampling_error"] += weight * mpmath.fsum(row[:k] + row[k + 1 :]) / total
            if weight > 0:
                found["conditional_entropy"] -= weight * mpmath.log(weight / total)
                found["mutual_information"] += weight * mpmath.log(weight / total / own)
    return found
