"""Powers of two that bring a codebook to a size near one.

Only h |e_j - e_k| matters, h = sqrt(snr): scaling the points by 2^-e and h by 2^e is exact, and
squares of what is of size one neither overflow nor underflow. No SNR is ever raised or lowered.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

#: Largest binary exponent of the scaled h.
LARGEST = 1000


def power_of_two(points: Any, h: Any) -> int:
    """The exponent e for which points * 2^-e have a range near one and h * 2^e is finite."""
    # A quarter of each, since the range of finite numbers may overflow.
    span = float(np.max(np.ldexp(points, -2).max(axis=0) - np.ldexp(points, -2).min(axis=0)))
    room = LARGEST - math.frexp(float(np.max(h, initial=0.0)))[1]
    return min(math.frexp(span)[1] + 2, room)
