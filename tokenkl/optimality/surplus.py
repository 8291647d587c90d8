"""Checkerboards with exactly as many tokens as are wanted: which to drop, and what it changes.

Tokens far from the centre cost most power; tokens with many neighbours are confused most. The error
of what is left is that of the whole board, exactly, but for noise that would have been decided for
a token that is gone: that share is small, and is sampled (docs/theory/lattices.md).
"""

from __future__ import annotations

import dataclasses
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
from tokenkl.information import error_probability
from tokenkl.information.exact.checkerboard import errors_of_words

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

        Exact but for observations nearest to a token that is gone, whose part is sampled.

        Args:
            snr: alpha^2 / sigma^2, above 0.
            key: integer seed or JAX key.
            n_samples: observations of dropped tokens.

        Raises:
            ValueError: an snr that is not one number above 0, or a key that is none.
        """
        level = check_snr(snr)
        if level.ndim or level == 0:
            reject("snr", snr, "one number above 0")
        whole = error_probability(self.board, float(level))
        if not self.dropped.size:
            return whole
        gone = errors_of_words(self.board, self.board.words_at(self.dropped), float(level))
        left = (self.board.K * float(whole.value) - float(gone.sum())) / self.K
        numerical = self.board.K / self.K * float(whole.numerical_error) * 2
        regained = self._regained(float(level), generator(key), n_samples)
        share = self.dropped.size / self.K
        return Estimate(
            left - share * float(regained.mean()),
            standard_error=share * float(regained.std(ddof=1)) / n_samples**0.5,
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
        """Density of the nearest token that is left over that of a dropped one, in its region.

        Where y is nearest to a dropped token d, it is now decided for the nearest token k that is
        left, and rightly with probability phi(y - e_k) / phi(y - e_d) of where y is by d.
        """
        tree = self._tree
        ids = self.dropped[rng.integers(self.dropped.size, size=size)]
        points = self.board.points_at(ids)
        y = points + rng.standard_normal(points.shape) / snr**0.5
        inside = self.board.nearest(y) == ids
        apart, _ = tree.query(y[inside])
        own = ((y[inside] - points[inside]) ** 2).sum(axis=1)
        out = np.zeros(size)
        out[inside] = np.exp(-snr * np.maximum(apart**2 - own, 0.0) / 2)
        return out

    @property
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


def _most_confused(board: Checkerboard, count: int, snr: float) -> Int[np.ndarray, " count"]:
    """Tokens with the largest union bound over nearby tokens, one after the other."""
    n, K = board.n, board.K
    steps = []
    for i, j in itertools.combinations(range(n), 2):
        for signs in itertools.product((1, -1), repeat=2):
            step = np.zeros(n, dtype=np.int64)
            step[[i, j]] = signs
            steps.append(step)
    for i, sign in itertools.product(range(n), (2, -2)):
        steps.append(sign * np.eye(n, dtype=np.int64)[i])
    words, tops = board.words_at(np.arange(K)), np.array(board.levels) - 1
    neighbours = np.full((len(steps), K), -1)
    lengths = np.sqrt([((step * board.step_lengths) ** 2).sum() for step in steps])
    # Relative to the nearest ones, so that none vanishes where errors are rare.
    logs = special.log_ndtr(-(snr**0.5) * lengths / 2)
    weights = np.exp(logs - logs.max())
    for row, step in enumerate(steps):
        moved = words + step
        inside = ((moved >= 0) & (moved <= tops)).all(axis=1)
        neighbours[row, inside] = board.ids_of(moved[inside])
    bound = (weights[:, None] * (neighbours >= 0)).sum(axis=0)
    heap = [(-value, token) for token, value in enumerate(bound.tolist())]
    heapq.heapify(heap)
    gone: list[int] = []
    is_gone = np.zeros(K, dtype=bool)
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
