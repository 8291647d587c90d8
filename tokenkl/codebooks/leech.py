"""The Golay code and the shortest vectors of the Leech lattice, as codebooks on a sphere.

Conway and Sloane, Sphere Packings, Lattices and Groups, chapters 3 (section 2.8), 4 (section 11)
and 14 (section 4). Whole coordinates are those of sqrt(8) times the lattice, where its shortest
vectors have the squared length 32.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl._validation import reject
from tokenkl.codebooks.base import PointCodebook

#: Inner products with a shortest vector, of squared length 4, that give a set of tokens.
INNER = (0, 1, 2)


@functools.cache
def golay_words() -> Bool[np.ndarray, "4096 24"]:
    """The words of the extended binary Golay code; the first 12 bits of a word are its number."""
    # Rows of the identity beside those of the adjacency of the icosahedron, complemented: a border
    # of ones, and ones where a difference modulo 11 is no square.
    squares = {i * i % 11 for i in range(11)}
    circulant = [[(j - i) % 11 not in squares or i == j for j in range(11)] for i in range(11)]
    right = np.ones((12, 12), dtype=bool)
    right[0, 0], right[1:, 1:] = False, circulant
    numbers = np.array(list(itertools.product((0, 1), repeat=12)))
    words = np.concatenate([numbers, numbers @ right.astype(int) % 2], axis=1).astype(bool)
    words.setflags(write=False)
    return words


def leech_whole(inner: int | None = None) -> Int[np.ndarray, "K 24"]:
    """The shortest vectors in whole coordinates, or those with x_1 + x_2 = 2 `inner`.

    First those with two fours, then with a three, by its place, then with eight twos.
    """
    words = golay_words()
    signed = 1 - 2 * words.astype(np.int8)
    threes = []
    for place in range(24):
        part = signed.copy()
        part[:, place] *= -3
        threes.append(part)
    # All signs of eight coordinates with an even number of minus signs.
    even = np.array([s for s in itertools.product((2, -2), repeat=8) if s.count(-2) % 2 == 0])
    twos = np.zeros((759, 128, 24), dtype=np.int8)
    for octad, row in zip(words[words.sum(axis=1) == 8], twos, strict=True):
        row[:, octad] = even
    found = np.concatenate([_fours(), *threes, twos.reshape(-1, 24)])
    return found if inner is None else found[found[:, :2].sum(axis=1) == 2 * inner]


def _fours() -> Int[np.ndarray, "1104 24"]:
    """Those with two fours."""
    found = np.zeros((1104, 24), dtype=np.int8)
    pairs = itertools.combinations(range(24), 2)
    for row, (places, signs) in zip(
        found, itertools.product(pairs, itertools.product((4, -4), repeat=2)), strict=True
    ):
        row[list(places)] = signs
    return found


def leech_codebook(inner: int | None = None) -> PointCodebook:
    """The 196,560 shortest vectors of the Leech lattice, or a part of them, on the unit sphere.

    They are 60 degrees apart at least, in R^24; no more points than these can be (Levenshtein;
    Odlyzko and Sloane, 1979). Seen from one of them, of squared length 4, the others have inner
    products 2, 1, 0, -1, -2 and -4: 4,600, 47,104, 93,150, 47,104, 4,600 and 1 of them. With
    `inner` 0, 1 or 2 the tokens are those with this inner product with (4, 4, 0, ..., 0), projected
    to the R^23 across it, and scaled to the unit sphere; their cosines are at most 1/2, 7/15, 1/3.

    Args:
        inner: 0, 1 or 2; None for all.

    Raises:
        ValueError: another `inner`.

    Example:
        >>> part = leech_codebook(2)
        >>> part.K, part.n, round(part.min_distance() ** 2, 9)  # 2 - 2/3
        (4600, 23, 1.333333333)
    """
    whole = leech_whole(check_inner(inner)).astype(np.float64)
    name = "Leech" if inner is None else f"Leech, inner product {inner}"
    return PointCodebook(flattened(whole, inner), name=f"{name}, sphere")


def check_inner(inner: Any) -> int | None:
    """`inner` as `leech_codebook` takes it."""
    if inner is not None and (isinstance(inner, bool) or inner not in INNER):
        reject("inner", inner, "0, 1, 2 or None")
    return None if inner is None else int(inner)


def radius(inner: int | None) -> float:
    """Length of the tokens in whole coordinates, across the fixed vector."""
    return math.sqrt(32 if inner is None else 32 - 2 * inner**2)


def flattened(whole: Any, inner: int | None) -> Float[np.ndarray, "K n"]:
    """Whole coordinates to the unit sphere of R^24, or of R^23."""
    if inner is not None:
        across = (whole[:, :1] - whole[:, 1:2]) / math.sqrt(2)
        whole = np.concatenate([across, whole[:, 2:]], axis=1)
    return np.asarray(whole / radius(inner))


class LeechParts(NamedTuple):
    """What finds the nearest token, and its id, without a list of them; see `leech_parts`.

    - `size`: K. `fours` (M, 24): tokens with two fours, whose ids come first.
    - `signs` (4096, 24): 1 and -1, by word; `spikes` (M, 2): place of the three, and word, in the
      order of ids; `rank_of_spike` (24, 4096): which row of `spikes`, or -1.
    - `twos` (B, 2): what blocks of tokens with eight twos have at the first two coordinates;
      `members` (B, 8): their other places, 24 where there are fewer; `first_ids` (B,): of blocks;
      `block_of` (4096, 9): which block, by word and 3 (x_1 / 2 + 1) + x_2 / 2 + 1, or -1. Within a
      block ids count signs in binary, those of the first places highest; the last one follows.
    """

    size: int
    fours: Int[np.ndarray, "M 24"]
    signs: Int[np.ndarray, "4096 24"]
    spikes: Int[np.ndarray, "M 2"]
    rank_of_spike: Int[np.ndarray, "24 4096"]
    twos: Int[np.ndarray, "B 2"]
    members: Int[np.ndarray, "B 8"]
    first_ids: Int[np.ndarray, " B"]
    block_of: Int[np.ndarray, "4096 9"]


@functools.cache
def leech_parts(inner: int | None) -> LeechParts:
    """Tables of the tokens of `leech_codebook`, in the order of their ids."""
    words = golay_words()
    signs = 1 - 2 * words.astype(np.int64)
    allowed = np.ones((24, 4096), dtype=bool)
    fours = _fours()
    if inner is not None:
        fours = fours[fours[:, :2].sum(axis=1) == 2 * inner]
        for place, row in enumerate(allowed):
            factor = np.array([-3 if place == axis else 1 for axis in range(2)])
            row[:] = signs[:, :2] @ factor == 2 * inner
    spikes = np.argwhere(allowed)
    rank = np.where(allowed, np.cumsum(allowed).reshape(allowed.shape) - 1, -1)
    twos: list[tuple[int, int]] = []
    members: list[list[int]] = []
    first_ids: list[int] = []
    block_of = np.full((4096, 9), -1)
    next_id = len(fours) + len(spikes)
    for number in np.flatnonzero(words.sum(axis=1) == 8):
        rest = np.flatnonzero(words[number, 2:]) + 2
        for a, b in itertools.product(*((2, -2) if bit else (0,) for bit in words[number, :2])):
            if inner is None or a + b == 2 * inner:
                block_of[number, 3 * (a // 2 + 1) + b // 2 + 1] = len(twos)
                twos.append((a, b))
                members.append([*rest, *[24] * (8 - rest.size)])
                first_ids.append(next_id)
                next_id += 1 << (rest.size - 1)
    return LeechParts(
        next_id,
        fours,
        signs,
        spikes,
        rank,
        np.array(twos),
        np.array(members),
        np.array(first_ids),
        block_of,
    )
