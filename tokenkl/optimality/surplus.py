"""Checkerboards with exactly as many tokens as are wanted: which to drop, and what it changes.

Tokens far from the centre cost most power; tokens with many neighbours are confused most. The error
of what is left is that of the whole board, exactly, but for noise that would have been decided for
a token that is gone: that share is small, and is sampled (docs/theory/lattices.md).
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import check_choice, check_count, check_snr, reject
from tokenkl.codebooks import Checkerboard, PointCodebook
from tokenkl.estimate import Estimate
from tokenkl.halfspaces.tokens import upper_tail
from tokenkl.information import error_probability
from tokenkl.information.exact.checkerboard import errors_of_words
from tokenkl.numerics.moments import MIN_EFFECTIVE

#: Most numbers of a board that is listed to drop tokens of it.
MAX_LISTED = 2**22
#: Noisy observations of dropped tokens.
SAMPLES = 2**14

Rule = Literal["power", "neighbours"]


@dataclasses.dataclass(frozen=True, eq=False)
class ThinnedBoard:
    """A checkerboard without some of its tokens; see `drop_surplus`."""

    board: Checkerboard
    dropped: Int[np.ndarray, " surplus"]

    @property
    def K(self) -> int:
        """Number of tokens that are left."""
        return self.board.K - self.dropped.size

    @property
    def codebook(self) -> PointCodebook:
        """The tokens that are left, in their order."""
        kept = np.delete(np.arange(self.board.K), self.dropped)
        name = f"{self.board.label}, {self.K:,} tokens"
        return PointCodebook(self.board.points_at(kept), name=name)

    def error_probability(self, snr: float, *, key: Any, n_samples: int = SAMPLES) -> Estimate:
        """P(the best guess is wrong), equal priors, at one SNR.

        Exact but for observations nearest to a token that is gone, whose part is sampled. Where
        too few draws carry that part, the tokens that are left are looked at by themselves.

        Args:
            snr: alpha^2 / sigma^2, above 0.
            key: integer seed or JAX key.
            n_samples: observations that may be nearest to dropped tokens, two or more.

        Raises:
            ValueError: an snr that is not one number above 0, or a key that is none.
        """
        level = check_snr(snr)
        if level.ndim or level == 0:
            reject("snr", snr, "one number above 0")
        check_count(n_samples, "n_samples", 2)
        whole = error_probability(self.board, float(level))
        if not self.dropped.size:
            return whole
        regained = self._regained(float(level), generator(key), n_samples)
        if regained.sum() ** 2 < MIN_EFFECTIVE * (regained**2).sum() or not regained.any():
            return error_probability(self.codebook, float(level), key=key)
        gone = errors_of_words(self.board, self.board.words_at(self.dropped), float(level))
        left = (self.board.K * float(whole.value) - float(gone.sum())) / self.K
        numerical = self.board.K / self.K * float(whole.numerical_error) * 2
        return Estimate(
            left - float(regained.mean()) / self.K,
            standard_error=float(regained.std(ddof=1)) / n_samples**0.5 / self.K,
            numerical_error=numerical,
            n_samples=n_samples,
            method="exact, and dropped tokens sampled",
            seed=seed_of(key),
            quantity="error_probability",
            draws=draws_of(key),
        )

    def _regained(
        self, snr: float, rng: np.random.Generator, size: int
    ) -> Float[np.ndarray, " size"]:
        """Numbers whose mean is the sum of what is regained in the regions of dropped tokens.

        Where y is nearest to a dropped token d, it is now decided for the nearest token k that is
        left: the integral of phi(y - e_k) there is regained. Half of the draws are around dropped
        tokens. Where errors are rare none of them comes near the face between d and k, and the
        other half is of neighbours k that are left, beyond the face to d: y in the region of d
        is beyond all of its faces, so that the density of the draws is a sum over them.
        """
        h = snr**0.5
        lengths, near = self._near
        logs = special.log_ndtr(-h * lengths / 2)
        by_row = np.exp(logs - logs.max()) * (near >= 0).sum(axis=1)
        rows = rng.choice(lengths.size, size=size // 2, p=by_row / by_row.sum())
        place = rng.integers(self.dropped.size, size=size)  # of the dropped token
        for row in np.unique(rows):
            which = np.flatnonzero(rows == row)
            place[which] = rng.choice(np.flatnonzero(near[row] >= 0), size=which.size)
        gone = self.board.points_at(self.dropped[place])
        noise = rng.standard_normal(gone.shape)
        y = gone + noise / h
        kept = self.board.points_at(near[rows, place[: rows.size]])
        axis = (gone[: rows.size] - kept) / lengths[rows, None]
        beyond = upper_tail(h * lengths[rows] / 2, 1 - rng.random(rows.size))
        along = beyond - (noise[: rows.size] * axis).sum(axis=1)
        y[: rows.size] = kept + (noise[: rows.size] + along[:, None] * axis) / h

        out = np.zeros(size)
        inside = np.flatnonzero(self.board.nearest(y) == self.dropped[place])
        y, place, gone = y[inside], place[inside], gone[inside]
        apart = self._tree.query(y)[0] ** 2

        def relative(others: np.ndarray) -> np.ndarray:
            """Density of a draw around other points, over that around the nearest one left."""
            return np.exp(snr / 2 * (apart - ((y - others) ** 2).sum(axis=1)))

        with np.errstate(over="ignore"):  # far from all that is left: nothing is regained
            around = (size - rows.size) / size * relative(gone) / self.dropped.size
        through = np.zeros(inside.size)
        for row in near:
            there = row[place] >= 0
            through += np.where(there, relative(self.board.points_at(np.maximum(row[place], 0))), 0)
        mass = np.exp(logs.max()) * by_row.sum()
        out[inside] = 1 / (around + rows.size / size * through / mass)
        return out

    @functools.cached_property
    def _near(self) -> tuple[Float[np.ndarray, " steps"], Int[np.ndarray, "steps surplus"]]:
        """Lengths of steps to neighbours, and which of the tokens left they lead to, or -1."""
        lengths, near = _neighbours(self.board, self.dropped)
        near[np.isin(near, self.dropped)] = -1
        return lengths, near

    @functools.cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree  # slow to import

        return cKDTree(self.codebook.points)


def drop_surplus(
    board: Checkerboard, K: int, *, by: Rule, snr: float | None = None
) -> ThinnedBoard:
    """The checkerboard with exactly K tokens.

    Args:
        board: at least K tokens, at most 2**22 numbers.
        K: how many to keep.
        by: "power" drops the tokens farthest from the centre, "neighbours" one after the other the
            token that is confused most with those that are left, by the union bound at `snr`.
        snr: for "neighbours".

    Raises:
        ValueError: too few tokens, too large a board, or no snr where one is needed.

    Example:
        >>> thinned = drop_surplus(Checkerboard((8, 8, 8)), 240, by="power")
        >>> thinned.codebook.K, thinned.dropped.size
        (240, 16)
    """
    check_choice(by, ("power", "neighbours"), "by")
    if check_count(K, "K", 2) > board.K:
        reject("K", f"{K:,}", f"at most {board.K:,}, the tokens of the board")
    if board.K * board.n > MAX_LISTED:
        reject("board", repr(board), f"of at most {MAX_LISTED:,} numbers, to be listed")
    if by == "power":
        away = ((board.points - board.mean()) ** 2).sum(axis=1)
        # Distances that differ by rounding alone are equal; the last of them are dropped.
        order = np.argsort(np.round(away, 9), kind="stable")
        return ThinnedBoard(board, np.sort(order[K:]))
    if snr is None:
        reject("snr", "None", "given for by='neighbours'")
    return ThinnedBoard(board, _most_confused(board, board.K - K, float(check_snr(snr))))


def _neighbours(
    board: Checkerboard, ids: Int[np.ndarray, " ids"]
) -> tuple[Float[np.ndarray, " steps"], Int[np.ndarray, "steps ids"]]:
    """Lengths of steps along two coordinates, or two along one, and the ids they lead to, or -1."""
    steps = []
    for i, j in itertools.combinations(range(board.n), 2):
        for signs in itertools.product((1, -1), repeat=2):
            step = np.zeros(board.n, dtype=np.int64)
            step[[i, j]] = signs
            steps.append(step)
    for i, sign in itertools.product(range(board.n), (2, -2)):
        steps.append(sign * np.eye(board.n, dtype=np.int64)[i])
    lengths = np.sqrt([((step * board.step_lengths) ** 2).sum() for step in steps])
    words, tops = board.words_at(ids), np.array(board.levels) - 1
    neighbours = np.full((len(steps), ids.size), -1)
    for row, step in enumerate(steps):
        moved = words + step
        inside = ((moved >= 0) & (moved <= tops)).all(axis=1)
        neighbours[row, inside] = board.ids_of(moved[inside])
    return lengths, neighbours


def _most_confused(board: Checkerboard, count: int, snr: float) -> Int[np.ndarray, " count"]:
    """Tokens with the largest union bound over nearby tokens, one after the other."""
    lengths, neighbours = _neighbours(board, np.arange(board.K))
    # Relative to the nearest ones, so that none vanishes where errors are rare.
    logs = special.log_ndtr(-(snr**0.5) * lengths / 2)
    weights = np.exp(logs - logs.max())
    bound = (weights[:, None] * (neighbours >= 0)).sum(axis=0)
    heap = [(-value, token) for token, value in enumerate(bound.tolist())]
    heapq.heapify(heap)
    gone: list[int] = []
    is_gone = np.zeros(board.K, dtype=bool)
    while len(gone) < count:
        value, token = heapq.heappop(heap)
        if is_gone[token]:
            continue
        if -value > bound[token] * (1 + 1e-12):  # it had more neighbours then
            heapq.heappush(heap, (-float(bound[token]), token))
            continue
        gone.append(token)
        is_gone[token] = True
        for row, other in enumerate(neighbours[:, token].tolist()):
            if other >= 0:
                bound[other] -= weights[row]
    return np.sort(np.array(gone, dtype=np.int64))
