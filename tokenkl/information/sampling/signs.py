"""Noise with its signs turned: several draws of the channel out of the products of one.

<eps, u> for -eps is that for eps with another sign; and with the products over both halves of the
coordinates, a and b, one has a + b, -a - b, a - b and b - a: four noise vectors of the same law.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

#: How many noise vectors one may serve as.
SIGNS = (1, 2, 4)


def middle(n: int) -> int:
    """Where the second half of n coordinates begins: a multiple of four, as the kernel has them."""
    return 4 * (-(-n // 4) // 2)


def turned(noise: Float[np.ndarray, "s n"], signs: int) -> tuple[Float[np.ndarray, "s n"], ...]:
    """The noise; its negative; and both with the second half turned: the first `signs` of these.

    Example:
        >>> [one.tolist() for one in turned(np.ones((1, 8)), 4)][2]
        [[1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]]
    """
    half = np.where(np.arange(noise.shape[-1]) < middle(noise.shape[-1]), 1.0, -1.0)
    return (noise, -noise, half * noise, -half * noise)[:signs]
