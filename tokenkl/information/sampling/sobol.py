"""Randomised Sobol points: each replicate fills the cube of tokens and noise evenly.

A replicate is a Sobol net in n + 1 dimensions, scrambled by a random linear matrix and a digital
shift (Matousek 1998). Every point of it is uniform, so its mean is unbiased; replicates are
independent, so their spread gives the error whatever the net does (Owen 1997). The first coordinate
is the token, in an order in which neighbours in space are neighbours; the others are the noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._random import generator
from tokenkl.codebooks.base import Codebook

#: Largest dimension of the noise: nothing was gained beyond it.
MAX_DIMENSION = 10
#: Fewest replicates behind an error, and how many points one may have.
REPLICATES = 16
FEWEST_POINTS, MOST_POINTS = 64, 1024
#: Binary digits of a net's coordinates; uniform noise fills up the rest, so that tails are whole.
BITS = 30


class Nets:
    """The replicates of one codebook and key; number r is always the same."""

    def __init__(self, codebook: Codebook, order: Int[np.ndarray, " K"], key: Any) -> None:
        prior = np.asarray(codebook.prior)[order]
        edges = np.cumsum(prior)
        self.order, self.edges = order, edges[:-1] / edges[-1]
        self.n, self.key = codebook.n, key

    def replicate(
        self, points: int, *number: int
    ) -> tuple[Int[np.ndarray, " points"], Float[np.ndarray, "points n"]]:
        """Token ids and noise of one replicate; `points` is a power of two."""
        from scipy.stats import qmc  # slow to import, and only needed here

        rng = generator(self.key, *number)
        net = qmc.Sobol(self.n + 1, scramble=True, bits=BITS, seed=rng)
        cube = net.random(points) + rng.random((points, self.n + 1)) * 2.0**-BITS
        cube = np.clip(cube, 2.0**-80, 1 - 2.0**-53)  # what rounding may have made 0 or 1
        ids = self.order[np.searchsorted(self.edges, cube[:, 0], side="right")]
        return ids, special.ndtri(cube[:, 1:])


def shape(count: int) -> tuple[int, int]:
    """Replicates and their points: at least `REPLICATES`, and at least `count` samples in all."""
    points = FEWEST_POINTS
    while 2 * points * REPLICATES <= count and points < MOST_POINTS:
        points *= 2
    return max(-(-count // points), REPLICATES), points
