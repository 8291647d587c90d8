"""Codebooks cut from lattices."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_count, reject
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


def e6_codebook(K: int = 729) -> PointCodebook:
    """The K points of the lattice E6 nearest to a point in general position; 729 as FSQ 3^6.

    E6 as triples of Eisenstein integers a + b w that agree modulo sqrt(-3), that is in a + b modulo
    3; it is the densest lattice in six dimensions. (Conway and Sloane, Sphere Packings, Lattices
    and Groups, chapter 4, section 8.3.) Neighbours are sqrt(3) apart.

    Raises:
        ValueError: K below 1, or above 2000, where the ball leaves the list of lattice points.
    """
    if check_count(K, "K") > 2000:
        reject("K", K, "a whole number from 1 to 2000")
    w = np.exp(2j * np.pi / 3)
    classes: list[list[complex]] = [[], [], []]
    for a, b in itertools.product(range(-5, 6), repeat=2):
        if abs(a + b * w) <= 4.1:
            classes[(a + b) % 3].append(a + b * w)
    points = np.concatenate([np.array(list(itertools.product(one, repeat=3))) for one in classes])
    real = np.concatenate([points.real, points.imag], axis=1)
    real = real + np.array([0.11, 0.07, 0.03, 0.05, 0.02, 0.13])  # no two points equally far
    return PointCodebook(real[np.argsort((real**2).sum(axis=1))[:K]], name="E6 ball")
