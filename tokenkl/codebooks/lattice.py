"""Codebooks cut from lattices."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl.codebooks.base import PointCodebook
from tokenkl.codebooks.product import ProductCodebook


def e8_codebook(prior: Float[Any, "6561"] | None = None) -> PointCodebook:
    """6561 points of the E8 lattice in [-1, 1]^8, as many as FSQ 3^8 has.

    {0,1,2}^8 with an even sum and {1/2,3/2,5/2}^8 with an odd sum, mapped by x -> (x - 5/4)/(5/4).
    Every nearest neighbour is at sqrt(2)/1.25 = 1.1314, where FSQ 3^8 has 1. (THEORY, statement 17;
    E8: Conway and Sloane, Sphere Packings, Lattices and Groups, chapter 4.)
    """
    whole = ProductCodebook([np.arange(3.0)] * 8).points
    even = whole[whole.sum(axis=1) % 2 == 0]
    shifted = whole + 0.5
    odd = shifted[shifted.sum(axis=1) % 2 == 1]
    return PointCodebook((np.concatenate([even, odd]) - 1.25) / 1.25, prior, name="E8 cut")
