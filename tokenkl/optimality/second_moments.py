"""What rounding to a lattice costs: normalised second moments, sampled and in closed form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import check_choice, check_count
from tokenkl.codebooks.lattice import (
    nearest_a2,
    nearest_dn,
    nearest_dn_dual,
    nearest_dn_plus,
    nearest_zn,
)
from tokenkl.estimate import Estimate


@dataclasses.dataclass(frozen=True)
class Rounding:
    """A lattice, the decoder of its points, and its second moment.

    - `period`: (n,) sides of a box that it repeats.
    - `volume`: of a cell.
    - `second_moment`: E |x - nearest(x)|^2 / (n volume^(2/n)), x uniform in a cell: dimensionless.
    """

    n: int
    nearest: Callable[[Any], np.ndarray]
    period: tuple[float, ...]
    volume: float
    second_moment: float


def _of_dn(n: int) -> Rounding:
    moment = (1 / 12 + 1 / (2 * n * (n + 1))) / 2 ** (2 / n)
    return Rounding(n, nearest_dn, (2.0,) * n, 2.0, moment)


#: By name: closed forms of Conway and Sloane (1982, IEEE Trans. Inf. Theory 28, 211-226; Sphere
#: Packings, Lattices and Groups, chapter 21).
LATTICES = {
    "Z": Rounding(1, nearest_zn, (1.0,), 1.0, 1 / 12),
    "A2": Rounding(2, nearest_a2, (1.0, math.sqrt(3)), math.sqrt(3) / 2, 5 / (36 * math.sqrt(3))),
    "A3": _of_dn(3),
    "A3*": Rounding(3, nearest_dn_dual, (1.0,) * 3, 0.5, 19 / (192 * 2 ** (1 / 3))),
    "D4": _of_dn(4),
    "D5": _of_dn(5),
    "D6": _of_dn(6),
    "E8": Rounding(8, nearest_dn_plus, (2.0,) * 8, 1.0, 929 / 12960),
}


def second_moment(lattice: str, *, key: Any, n_samples: int = 2**18) -> Estimate:
    """The normalised second moment of a lattice, sampled: what rounding to it costs per coordinate.

    E |x - nearest(x)|^2 / (n V^(2/n)), x uniform over a period, V the volume of a cell: 1/12 for
    whole numbers, 1/(2 pi e) = 0.0585 for the best lattice in many dimensions. `LATTICES` has the
    closed forms.

    Args:
        lattice: a name in `tokenkl.optimality.second_moments.LATTICES`, such as "E8".
        key: integer seed or JAX key.
        n_samples: vectors that are rounded, at least 2.

    Raises:
        ValueError: an unknown lattice, fewer than two samples, or a key that is none.

    Example:
        >>> found = second_moment("D4", key=0)
        >>> abs(float(found.value) - 13 / (120 * 2**0.5)) < 5 * float(found.standard_error)
        True
    """
    check_choice(lattice, tuple(LATTICES), "lattice")
    check_count(n_samples, "n_samples", 2)
    one = LATTICES[lattice]
    x: Float[np.ndarray, "samples n"] = generator(key).random((n_samples, one.n))
    x = x * np.array(one.period)
    squares = ((x - one.nearest(x)) ** 2).sum(axis=1) / (one.n * one.volume ** (2 / one.n))
    return Estimate(
        float(squares.mean()),
        standard_error=float(squares.std(ddof=1)) / n_samples**0.5,
        numerical_error=1e-14,
        n_samples=n_samples,
        method="Monte-Carlo",
        seed=seed_of(key),
        quantity="normalised second moment",
        draws=draws_of(key),
    )
