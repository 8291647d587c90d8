"""What FSQ 3^n gains in accuracy if its centre moves to an edge: one-dimensional integrals."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import special

from tokenkl._validation import check_count, check_snr

#: Gauss-Legendre nodes of a piece; pieces are smooth, and at most 2/3 long.
NODES = 96
#: Levels of the edge that stand for 0: at +-THIRD.
THIRD = 1 / 3


def centre_to_edge_gain(
    n: int, snr: Float[np.ndarray, " t"] | float
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Bounds of the accuracy of `centre_to_edge(n)` minus that of FSQ 3^n, equal priors.

    Both are decided exactly but where two of the moved coordinates are near their old borders at
    once, which is of second order. The lower bound is the success of a decision that is not the
    best there. Double precision; in ball arithmetic it is proved by `prove_less`.

    Args:
        n: dimensions, at least 3.
        snr: of the channel y = e + s Z: 1 / s^2, at least 0; a number or an array.

    Returns:
        The lower and the upper bound, of the shape of `snr`.

    Raises:
        ValueError: n below 3, an SNR below 0.

    Source: docs/theory/optimality.md, O16.

    Example:
        >>> low, high = centre_to_edge_gain(3, 1.0)
        >>> f"{float(low):.3e}, {float(high):.3e}"
        '7.986e-05, 8.077e-05'
    """
    n = check_count(n, "n", minimum=3)
    h = np.sqrt(np.asarray(check_snr(snr), dtype=float))[..., None]
    m, inside = n - 1, special.ndtr(h / 2)

    def density(x: np.ndarray) -> np.ndarray:
        return h * np.exp(-0.5 * (h * x) ** 2) / np.sqrt(2 * np.pi)

    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    low = high = np.zeros(h.shape[:-1])
    for start, end, old, nearer in (
        (0, THIRD / 2, 0, False),
        (THIRD / 2, 0.5, 0, True),
        (0.5, (1 + THIRD) / 2, 1, True),
    ):
        y = (start + end + (end - start) * nodes) / 2
        F, G = density(y - old), density(y - THIRD)
        c = (1 + (y - THIRD) ** 2 - (y - old) ** 2) / 2
        # Masses between 1/2 and c, around 1 and around 0; negative where c is below 1/2.
        lost = special.ndtr(h * (c - 1)) - special.ndtr(-h / 2)
        won = special.ndtr(-h / 2) - special.ndtr(-h * c)
        powers = sum(inside ** (m - 1 - i) * (inside - lost) ** i for i in range(m))
        slope = m * inside ** (m - 1)
        every = G * (inside - lost) ** m - F * inside**m
        telescoped = every + F * won * powers
        kept = G * (inside**m - slope * lost) - F * inside**m if nearer else every
        linear = kept + F * won * slope
        below, above = (linear, telescoped) if nearer else (telescoped, linear)
        low = low + (end - start) * (below * weights).sum(-1)  # the two halves of the edge
        high = high + (end - start) * (above * weights).sum(-1)
    u = (1 + nodes) / 4
    pyramid = (density(u - 1) * (1 - 2 * special.ndtr(-h * u)) ** m * weights).sum(-1) / 4
    centre = (1 - 2 * special.ndtr(-h[..., 0] / 2)) ** n - 2 * n * pyramid
    return (low - centre) / 3.0**n, (high - centre) / 3.0**n
