"""Where one token beats another: the half-space {<eps, u_kj> >= r_kj} of the noise.

With u_kj the direction from token k to token j, d their distance and h = sqrt(snr), the posterior
of j is at least that of k from r_kj = h d / 2 + log(pi_k / pi_j) / (h d) on.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def threshold(reach: Any, odds: Any) -> np.ndarray:
    """r from reach = h d and odds = log(pi_k / pi_j).

    With its limits where reach = 0: the more probable token always wins, and r = 0 between equals.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(reach / 2 + np.where(odds == 0, 0.0, odds / reach))
