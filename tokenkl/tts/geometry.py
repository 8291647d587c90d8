"""Where the tokens lie while they are diffused: other points for the same token ids.

`GEOMETRIES` names the choices. All but "learned" are `tokenkl` codebooks, so that everything the
library computes can be computed of them; "learned" starts from one and moves in training.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from tokenkl._random import generator
from tokenkl._validation import check_choice, reject
from tokenkl.codebooks import (
    Codebook,
    OneHot,
    PointCodebook,
    average_power,
    permute,
    perturb,
    scale_to,
    spherical_codebook,
)

Geometry = Literal["tokenizer", "perturbed", "permuted", "e8", "one-hot", "spherical", "learned"]
GEOMETRIES: tuple[str, ...] = get_args(Geometry)
#: What is held equal between geometries.
View = Literal["power", "box", "raw"]
VIEWS: tuple[str, ...] = get_args(View)

#: Standard deviation of "perturbed" where the box is [-1, 1]; as in the toy experiment.
PERTURBATION = 0.3


def place_tokens(geometry: Geometry, own: Codebook, *, view: View = "power", key: Any) -> Codebook:
    """The codebook in which token ids of a tokenizer are diffused.

    - "tokenizer": the tokenizer's own points (FSQ's grid, the vectors of VQ, the sums of RVQ).
    - "perturbed": each moved by N(0, 0.3^2) in every coordinate, drawn once (FSQ-perturb).
    - "permuted": its own points, given to the ids in a random order (FSQ-permute).
    - "e8": for FSQ 3^8 only, the 6561 points of `e8_codebook` (levels 0, 1, 2 with an even sum,
      1/2, 3/2, 5/2 with an odd one, scaled to the box). A grid point of even parity keeps its
      levels, one of odd parity moves up by half a level, so that neighbours stay near.
    - "one-hot": one axis for each token.
    - "spherical": independent uniform directions, in the dimension of the tokenizer.
    - "learned": as "spherical", to be moved by training.

    What is held equal to the tokenizer's own points is the `view`:

    - "power": the average power per coordinate, by a scale.
    - "box": every coordinate stays between the least and the largest of the tokenizer's points
      there; what lies beyond is moved to the face. Not of one-hot tokens, which have axes of their
      own.
    - "raw": nothing. Perturbed points then have 1.13 times the power of the grid 3^8 and leave its
      box, the E8 cut has 0.70 times its power: geometry and signal-to-noise ratio are confounded.

    One-hot tokens and points on a sphere are scaled to the tokenizer's power in every view.

    Raises:
        ValueError: an unknown geometry or view, "e8" for anything but FSQ 3^8, or "box" for
            "one-hot".
    """
    check_choice(view, VIEWS, "view")
    check_choice(geometry, GEOMETRIES, "geometry")
    placed = _placed(geometry, own, key)
    if view == "raw" or geometry in ("tokenizer", "permuted"):  # the tokenizer's own points
        return placed
    if view == "box":
        if geometry == "one-hot":
            reject("view", view, "'power' for one-hot tokens, whose axes are their own")
        low, high = (np.asarray(own.points).min(axis=0), np.asarray(own.points).max(axis=0))
        points = np.clip(np.asarray(placed.points), low, high)
        return PointCodebook(points, name=f"{geometry} in the box", allow_duplicates=True)
    return scale_to(placed, power=average_power(own) / own.n * placed.n)


def _placed(geometry: Geometry, own: Codebook, key: Any) -> Codebook:
    if geometry == "tokenizer":
        return own
    if geometry == "perturbed":
        return perturb(own, PERTURBATION, key)
    if geometry == "permuted":
        return permute(own, key)
    if geometry == "e8":
        return _on_e8(own)
    power = average_power(own) / own.n
    if geometry == "one-hot":
        return scale_to(OneHot(own.K), power=power * own.K)
    directions = generator(key).standard_normal((own.K, own.n))
    unit = spherical_codebook(directions)
    return PointCodebook(unit.points * np.sqrt(power * own.n), name=geometry)


def _on_e8(own: Codebook) -> PointCodebook:
    points = np.asarray(own.points)
    if own.K != 3**8 or own.n != 8 or not np.isin(points, (-1, 0, 1)).all():
        reject("geometry", "e8", f"another one than for {own.label}: it is for FSQ 3^8")
    digits = points + 1
    odd = digits.sum(axis=1, keepdims=True) % 2
    return PointCodebook((digits + odd / 2 - 1.25) / 1.25, name="E8 cut on FSQ ids")
