"""Sets of many points in the box that keep a distance: Construction A on codes, and whole grids.

{x in {0 .. L - 1}^n : x mod 2 in a coset of a binary code}, mapped to [-1, 1]^n. With a code of
minimum distance 4 points differ by 2 steps at least, as often as L / 2 levels would have, and
there are more of them than of a grid (Conway and Sloane, Sphere Packings, Lattices and Groups,
chapter 5).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

#: Rows that generate the code of each name, for n coordinates.
CODES = ("all", "even", "four", "repeated")
#: Most candidates of one set.
MAX_CANDIDATES = 40_000
#: Words of weight 4 that generate the longest codes of minimum distance 4, up to n = 8.
_FOUR = {
    4: ("1111",),
    5: ("11110",),
    6: ("111100", "001111"),
    7: ("1111000", "1100110", "1010101"),
    8: ("11111111", "00001111", "00110011", "01010101"),
}


class CodeCut(NamedTuple):
    """A recipe of a candidate set.

    - `code`: "all" words, "even" ones, "four" (minimum distance 4, n = 4 to 8), or "repeated".
    - `levels`: L, at least 2; `coset`: a word that is added to the code.
    - `fill`: what else there is: "middles", the midpoints of nearest neighbours, where two of them
      can be merged; "grid", all other words, for when the code has too few; or nothing.
    """

    code: str
    levels: int
    coset: tuple[int, ...]
    fill: str = ""

    def points(self) -> Float[np.ndarray, "M n"]:
        """The candidates, in [-1, 1]^n: those of the code first, in lexicographic order."""
        whole = self.whole()
        return (whole if self.fill == "middles" else 2 * whole) * (1 / (self.levels - 1)) - 1

    def whole(self) -> Int[np.ndarray, "M n"]:
        """The candidates as words over 0 .. L - 1; with midpoints in halves of these steps."""
        n = len(self.coset)
        parts = []
        for word in code_words(self.code, n):
            bits = (np.array(word) + self.coset) % 2
            digits = [np.arange(bit, self.levels, 2) for bit in bits]
            grid = np.meshgrid(*digits, indexing="ij")
            parts.append(np.stack([axis.ravel() for axis in grid], axis=1))
        found = np.concatenate(parts)
        found = found[np.lexsort(found.T[::-1])]
        if self.fill == "grid":
            every = np.stack(np.meshgrid(*[np.arange(self.levels)] * n, indexing="ij"), axis=-1)
            every = every.reshape(-1, n)
            in_code = {tuple(row) for row in found.tolist()}
            rest = [row for row in every.tolist() if tuple(row) not in in_code]
            return np.concatenate([found, np.array(rest, dtype=found.dtype).reshape(-1, n)])
        if self.fill != "middles":
            return np.asarray(found)
        squares = np.square(found[:, None] - found).sum(axis=-1)
        least = squares[squares > 0].min()
        a, b = np.nonzero(np.triu(squares == least))
        return np.concatenate([2 * found, np.unique(found[a] + found[b], axis=0)])

    def size(self) -> int:
        """Number of candidates in the code, without listing them."""
        counts = ((self.levels + 1) // 2, self.levels // 2)
        total = 0
        for word in code_words(self.code, len(self.coset)):
            product = 1
            for a, b in zip(word, self.coset, strict=True):
                product *= counts[(a + b) % 2]
            total += product
        return total


def code_words(code: str, n: int) -> list[tuple[int, ...]]:
    """All words of a code; none where it does not exist for this n."""
    if code == "all":
        return list(itertools.product((0, 1), repeat=n))
    if code == "even":
        return [word for word in itertools.product((0, 1), repeat=n) if sum(word) % 2 == 0]
    if code == "repeated":
        return [(0,) * n, (1,) * n] if n > 1 else []
    rows = [[int(bit) for bit in row] for row in _FOUR.get(n, ())]
    if not rows:
        return []
    sums = itertools.product((0, 1), repeat=len(rows))
    return sorted({tuple(int(b) for b in np.array(one) @ np.array(rows) % 2) for one in sums})


def cuts(n: int, K: int, least: float = 1.0, most: float = 4.0) -> Iterator[CodeCut]:
    """Recipes with at least `least` K and at most `most` K candidates (K + 40 are fine)."""
    limit = min(MAX_CANDIDATES, max(most * K, K + 40))
    seen = set()
    for code in CODES:
        if not code_words(code, n):
            continue
        cosets = [(0,) * n, (1,) * n, (0,) * (n - 1) + (1,), (1,) * (n // 2) + (0,) * (n - n // 2)]
        for coset in dict.fromkeys(cosets):
            words = frozenset(
                tuple((a + b) % 2 for a, b in zip(word, coset, strict=True))
                for word in code_words(code, n)
            )
            for levels in range(2, 4 * round(K ** (1 / n)) + 4):
                if levels == 2 and code != "all":
                    continue
                cut = CodeCut(code, levels, coset)
                count = cut.size()
                if count > limit:
                    break
                if count >= least * K and (words, levels) not in seen:
                    seen.add((words, levels))
                    yield cut
