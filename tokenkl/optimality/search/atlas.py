"""The atlas: the best codebooks known, with what proves their distances and how they were found.

`atlas.json` has an entry for each; `atlas.npz` the points, whole numbers over a common one, so that
distances are roots of fractions and values are rounded down to what they provably reach. Families
that a formula gives for every size (FSQ, cuts of D_n+, points of codes) are made, not stored.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from tokenkl._files import PathLike, atomic_files
from tokenkl._validation import MAX_ELEMENTS, check_choice, check_count, reject
from tokenkl.codebooks import FSQ, LatticeCodebook
from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.estimate import Bound
from tokenkl.optimality.nn_bounds import nn_distance_bound
from tokenkl.optimality.search.candidates import CodeCut, code_words
from tokenkl.optimality.search.exact import BITS, DECIMALS, below, decimals_down, to_whole

#: Where the atlas of the library is.
FOLDER = Path(__file__).parent / "data"
INDEX, POINTS = "atlas.json", "atlas.npz"
FORMAT = "tokenkl atlas, version 1"
#: Dimensions and tokens up to which subsets of codes are among the families.
MAX_CODED, MAX_LISTED = 12, 2**16
OBJECTIVES = ("mean_distance", "min_distance")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A codebook in [-1, 1]^n whose points are stored.

    - `over`: what the whole numbers of its points are over.
    - `value`: of the objective, a decimal number rounded down: proved.
    - `how`: how it was found; `key`: of the random numbers, where there were any.
    """

    n: int
    K: int
    objective: str
    over: int
    value: str
    how: str
    key: int | None

    @property
    def name(self) -> str:
        """Of its points in the file."""
        return f"{self.objective}_{self.n}_{self.K}"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BestKnown:
    """The best codebook known for n, K and an objective; see `best_codebook`.

    - `codebook`: it, in the box [-1, 1]^n.
    - `value`: of the objective, rounded down to 12 decimals: its exact coordinates reach it.
    - `bound`: proved, above what any K points reach.
    - `how`, `key`: how it was found.
    """

    codebook: Codebook
    objective: str
    value: float
    bound: Bound
    how: str
    key: int | None

    @property
    def gap(self) -> float:
        """bound / value: nothing better than by this factor exists."""
        return float(self.bound.value) / self.value

    def __repr__(self) -> str:
        return (
            f"<BestKnown {self.objective}, n = {self.codebook.n}, K = {self.codebook.K}: "
            f"{self.value:.12g} <= best <= {self.bound.value:.7g}; {self.how}>"
        )


def best_codebook(n: int, K: int, objective: str = "mean_distance") -> BestKnown:
    """The best codebook known of K tokens in the box [-1, 1]^n, with what is proved of it.

    Of the stored codebooks, FSQ and the cut of D_n+ (both for K = L^n), and the first K points of
    codes (up to 12 dimensions), the one with the largest value. Values are lower bounds in exact
    arithmetic, from rational coordinates; `bound` is an upper bound for all codebooks. Best known
    does not mean best; `how` says "not searched" where nobody looked for better points than those
    of a code. (docs/theory/optimality.md, O7.)

    Args:
        n, K: dimensions and number of tokens.
        objective: "mean_distance", D, or "min_distance", the smallest distance of two tokens.

    Raises:
        ValueError: n and K of which nothing is known; the sentence says of which something is.

    Example:
        >>> import tokenkl as tk
        >>> tk.best_codebook(5, 32)  # FSQ 2^5 has 2
        <BestKnown mean_distance, n = 5, K = 32: 2.01475424859 <= best <= 2.512884; \
merged edges: tokenkl.optimality.counterexamples.merged_edges>
    """
    n, K = check_count(n, "n"), check_count(K, "K", minimum=2)
    check_choice(objective, OBJECTIVES, "objective")
    found = _families(n, K)
    for one in entries():
        if (one.n, one.K, one.objective) == (n, K, objective):
            found.append(_Known(Fraction(one.value), one.how, functools.partial(_stored, one), one))
    if not found:
        expected = f"L^{n} for a whole number L, which is what is known for n = {n} > {MAX_CODED}"
        reject("K", K, expected)
    value, how, make, entry = max(found, key=lambda one: one.value)
    codebook = make()
    rounded = Fraction(math.floor(value * 10**DECIMALS), 10**DECIMALS)
    return BestKnown(
        codebook,
        objective,
        # The float below the fraction: a decimal number is rounded to the nearest one.
        min(float(rounded), math.nextafter(float(rounded), 0))
        if Fraction(float(rounded)) > value
        else float(rounded),
        nn_distance_bound(n, K),
        how,
        None if entry is None else entry.key,
    )


class _Known(NamedTuple):
    """A value that is proved, and how to make the codebook that has it."""

    value: Fraction
    how: str
    make: Callable[[], Codebook]
    entry: Entry | None = None


def _stored(entry: Entry) -> Codebook:
    return PointCodebook(points_of(entry) / entry.over, name=f"best known, {entry.objective}")


def _families(n: int, K: int) -> list[_Known]:
    """What formulas give: values that are proved."""
    found = []
    L = round(math.exp(math.log(K) / n))  # K may be beyond floats
    if L >= 2 and L**n == K:
        grid = functools.partial(FSQ, (L,) * n)
        found.append(_Known(Fraction(2, L - 1), f"FSQ {L}^{n}", grid))
        if n >= 7 and K * n <= MAX_ELEMENTS:
            # Neighbours are min(sqrt 2, sqrt n / 2) steps of 4 / (2 L - 1) apart.
            cut = LatticeCodebook("D+", L, n)
            value = _root(min(8, n)) / 2 * Fraction(4, 2 * L - 1)
            found.append(_Known(value, f"{cut.label} of the box", lambda: cut))
    if 2 <= n <= MAX_CODED and K <= MAX_LISTED:
        for code, squares in (("even", 2), ("four", 4), ("repeated", min(4, n))):
            if not code_words(code, n):
                continue
            levels = next(L for L in itertools.count(3) if CodeCut(code, L, (0,) * n).size() >= K)
            code_cut = CodeCut(code, levels, (0,) * n)
            found.append(
                _Known(
                    _root(squares) * Fraction(2, levels - 1),
                    f"{K} of the {code_cut.size()} points of code {code!r} on {levels} levels, "
                    "not searched",
                    functools.partial(_first_of, code_cut, K),
                )
            )
    return found


def _root(square: int) -> Fraction:
    """A fraction at most the square root, and next to it."""
    return Fraction(math.isqrt(square << 2 * BITS), 1 << BITS)


def _first_of(cut: CodeCut, K: int) -> Codebook:
    return PointCodebook(cut.points()[:K], name=f"code {cut.code!r}, {cut.levels} levels")


@functools.cache
def entries(folder: Path = FOLDER) -> tuple[Entry, ...]:
    """All stored entries."""
    path = folder / INDEX
    if not path.exists():
        return ()
    found = json.loads(path.read_text())
    return tuple(Entry(**row) for row in found["entries"])


def points_of(entry: Entry, folder: Path = FOLDER) -> Int[np.ndarray, "K n"]:
    """Its points, whole numbers over `entry.over`."""
    with np.load(folder / POINTS, allow_pickle=False) as file:
        return np.asarray(file[entry.name], dtype=np.int64)


def make_entry(
    points: Any, objective: str, how: str, key: int | None
) -> tuple[Entry, Int[np.ndarray, "K n"]]:
    """An entry for points in the box: coordinates made rational, the value proved from them.

    Raises:
        ValueError: points outside the box, or two that coincide.
    """
    points = np.asarray(points, dtype=np.float64)
    whole, over = to_whole(points)
    value = below(whole, over, objective)
    rounded = np.rint(points * 2**44).astype(np.int64)
    fine = below(rounded, 2**44, objective)
    if fine > value + Fraction(1, 10**11):  # fractions that only seemed to be the coordinates
        whole, over, value = rounded, 2**44, fine
    if np.abs(whole).max() > over or value == 0:
        reject("points", points, "different, and inside the box [-1, 1]^n")
    K, n = whole.shape
    return Entry(n, K, objective, over, decimals_down(value), how, key), whole


def add(
    new: Iterable[tuple[Entry, Int[np.ndarray, "K n"]]], folder: PathLike = FOLDER
) -> list[Entry]:
    """Write entries that are better than what an atlas has into it; returns those."""
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    entries.cache_clear()
    kept = {entry.name: (entry, points_of(entry, where)) for entry in entries(where)}
    better = []
    for entry, whole in new:
        before = kept.get(entry.name)
        if before is None or Fraction(entry.value) > Fraction(before[0].value):
            kept[entry.name] = (entry, whole)
            better.append(entry)
    ordered = sorted(kept.values(), key=lambda one: (one[0].objective, one[0].n, one[0].K))
    record = {"format": FORMAT, "entries": [dataclasses.asdict(entry) for entry, _ in ordered]}
    small = {entry.name: _smallest(whole) for entry, whole in ordered}
    with atomic_files() as new_file:
        np.savez_compressed(new_file(where / POINTS), allow_pickle=False, **small)
        rows = ",\n".join(json.dumps(row) for row in record["entries"])
        text = f'{{"format": "{FORMAT}", "entries": [\n{rows}\n]}}\n'
        new_file(where / INDEX).write_text(text)
    entries.cache_clear()
    return better


def _smallest(whole: np.ndarray) -> np.ndarray:
    """In the smallest type that holds the numbers."""
    for dtype in (np.int8, np.int16, np.int32):
        if np.abs(whole).max() <= np.iinfo(dtype).max:
            return whole.astype(dtype)
    return whole
