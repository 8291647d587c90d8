"""`Stochastic`, a matrix whose rows are laws: dense, or sparse plus a few rank-one terms."""

from __future__ import annotations

import math
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from tokenkl._module import Module
from tokenkl._validation import MAX_ELEMENTS, as_float_array, reject
from tokenkl.numerics.laws import entropies
from tokenkl.sources.base import check_laws

#: Logs of products that are far enough from underflow.
LEAST = -690.0
#: States up to which the law that a step keeps is found by squaring.
MOST_SQUARED = 512


@final
class Stochastic(Module):
    """T = sparse + left @ right, or a dense array; T[k, l] is the probability of l after k.

    Sums have positive terms alone, so that products keep their relative precision.
    """

    dense: Float[np.ndarray, "M K"] | None
    csr: Any
    left: Float[np.ndarray, "M r"] | None
    right: Float[np.ndarray, "r K"] | None

    @classmethod
    def of(cls, rows: Any, name: str = "transition") -> Stochastic:
        """From an array or a SciPy sparse matrix whose rows are laws; those that are one as is.

        Raises:
            ValueError: rows that are no laws, or too many numbers for a dense array.
        """
        if isinstance(rows, cls):
            return rows
        if not sparse.issparse(rows):
            return cls(check_laws(name, rows), None, None, None)
        given = sparse.csr_array(rows, dtype=float)
        given.sum_duplicates()
        return cls.mixed(given, None, None, name)

    @classmethod
    def mixed(cls, csr: Any, left: Any, right: Any, name: str = "transition") -> Stochastic:
        """sparse + left @ right, all without negative numbers, whose rows sum to one."""
        if 0 in csr.shape:
            reject(name, f"a matrix of shape {csr.shape}", "one with rows and columns")
        if csr.nnz > MAX_ELEMENTS:
            reject(name, f"{csr.nnz:,} numbers", f"at most {MAX_ELEMENTS:,}")
        if left is not None:
            left, right = as_float_array(name, left, ndim=2), as_float_array(name, right, ndim=2)
        parts = [part for part in (csr.data, left, right) if part is not None]
        if any(part.size and not (np.isfinite(part).all() and part.min() >= 0) for part in parts):
            reject(name, "a number that is negative or not finite", "probabilities, at least 0")
        totals = np.asarray(csr.sum(axis=1)).ravel()
        if left is not None:
            totals = totals + left @ right.sum(axis=1)
        worst = int(np.argmax(abs(totals - 1)))
        if abs(totals[worst] - 1) > 1e-6:
            reject(name, f"a sum of {totals[worst]:.9g} in row {worst}", "laws, which sum to 1")
        scaled = sparse.csr_array(sparse.diags_array(1 / totals) @ csr)
        return cls(None, scaled, None if left is None else left / totals[:, None], right)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        kept = self.csr if self.dense is None else self.dense
        return int(kept.shape[0]), int(kept.shape[1])

    def rows(self, ids: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N K"]:
        """The laws in these rows."""
        if self.dense is not None:
            return self.dense[ids]
        found: np.ndarray = self.csr[ids].toarray()
        return found if self.left is None else found + self.left[ids] @ self.right

    def columns(self, ids: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N M"]:
        """T[:, l] for each of these l, in rows."""
        if self.dense is not None:
            return np.ascontiguousarray(self.dense[:, ids].T)
        found: np.ndarray = self.csr[:, ids].toarray().T
        if self.left is None or self.right is None:
            return found
        return found + self.right[:, ids].T @ self.left.T

    def entries(
        self, rows: Int[np.ndarray, " N"], columns: Int[np.ndarray, " N"]
    ) -> Float[np.ndarray, " N"]:
        """T[k, l] of pairs."""
        if self.dense is not None:
            return self.dense[rows, columns]
        found = np.asarray(self.csr[rows, columns]).ravel()
        if self.left is None or self.right is None:
            return found
        return found + np.einsum("nr,rn->n", self.left[rows], self.right[:, columns])

    def toarray(self) -> Float[np.ndarray, "M K"]:
        """The whole of it.

        Raises:
            ValueError: more than 2**26 numbers.
        """
        if self.dense is not None:
            return self.dense
        if self.shape[0] * self.shape[1] > MAX_ELEMENTS:
            expected = f"one of at most {MAX_ELEMENTS:,} numbers"
            reject("the matrix", f"{self.shape[0]:,} x {self.shape[1]:,}", expected)
        return self.rows(np.arange(self.shape[0]))

    def times(self, weights: Float[np.ndarray, "N M"]) -> Float[np.ndarray, "N K"]:
        """weights @ T: one step forward of laws in rows."""
        if self.dense is not None:
            return weights @ self.dense
        found: np.ndarray = weights @ self.csr
        return found if self.left is None else found + (weights @ self.left) @ self.right

    def times_transposed(self, weights: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N M"]:
        """weights @ T': one step backward of likelihoods in rows."""
        if self.dense is not None:
            return weights @ self.dense.T
        found: np.ndarray = weights @ self.csr.T
        if self.left is None or self.right is None:
            return found
        return found + (weights @ self.right.T) @ self.left.T

    def step(
        self, logs: Float[np.ndarray, "N M"], *, back: bool = False
    ) -> Float[np.ndarray, "N K"]:
        """log(exp(logs) @ T), or @ T' if `back`, to relative precision however far logs spread."""
        product = self.times_transposed if back else self.times
        top = logs.max(axis=1, keepdims=True)
        top = np.where(top > -np.inf, top, 0.0)  # of what contradicts itself nothing is left
        spread = logs - top
        smallest = self._smallest()
        # Weights that would underflow are multiplied apart, unless larger ones go everywhere.
        width = max(math.log(smallest) - LEAST, 5.0)
        everywhere = smallest > 1e-40 and self._reaches_all
        bands = np.zeros(spread.shape)
        if not everywhere:
            np.floor(-spread / width, out=bands, where=np.isfinite(spread))
        found = None
        with np.errstate(divide="ignore"):
            for band in np.unique(bands):  # those between hold nothing, however far logs spread
                inside = bands == band
                shifted = np.where(inside, np.exp(np.minimum(spread + band * width, 0.0)), 0.0)
                logged = np.log(product(shifted)) - band * width
                found = logged if found is None else np.logaddexp(found, logged)
        assert found is not None
        return found + top

    @property
    def _reaches_all(self) -> bool:
        """Whether every entry is positive."""
        if self.dense is not None:
            return bool(self.dense.min() > 0)
        if self.left is None or self.right is None:
            return False
        return bool(self.left.min(initial=1.0) > 0 and self.right.min(initial=1.0) > 0)

    def _smallest(self) -> float:
        """A lower bound on the entries that are positive."""
        if self.dense is not None:
            return float(np.min(self.dense, where=self.dense > 0, initial=1.0))
        least = np.min(self.csr.data, where=self.csr.data > 0, initial=1.0)
        if self.left is None or self.right is None:
            return float(least)
        sizes = [np.min(part, where=part > 0, initial=1.0) for part in (self.left, self.right)]
        return float(min(least, sizes[0] * sizes[1]))

    def row_entropies(self) -> Float[np.ndarray, " M"]:
        """Entropy of every row, in nats."""
        size, found = max(1, 2**22 // self.shape[1]), []
        for start in range(0, self.shape[0], size):
            ids = np.arange(start, min(start + size, self.shape[0]))
            found.append(entropies(self.rows(ids)))
        return np.concatenate(found)

    def _closed_classes(self) -> int:
        """How many sets of states are never left, and hold no smaller one; of a square matrix."""
        steps = sparse.csr_array(self.csr if self.dense is None else self.dense) > 0
        if self.left is not None and self.right is not None:  # by way of a state for each factor
            leave, arrive = (sparse.csr_array(one > 0) for one in (self.left, self.right))
            steps = sparse.block_array([[steps, leave], [arrive, None]])
        count, of = connected_components(steps, directed=True, connection="strong")
        start, end = steps.nonzero()
        leaves = np.zeros(count, dtype=bool)
        leaves[of[start[of[start] != of[end]]]] = True
        return int((~leaves[np.unique(of[: self.shape[0]])]).sum())

    def stationary(self) -> Float[np.ndarray, " K"]:
        """The law that a step keeps, where there is one alone.

        By steps that are taken with probability 1/2, so that a chain may have a period; of few
        states by squaring, so that it may be slow.

        Raises:
            ValueError: not square, several such laws, or steps of many states that do not settle to
                1e-13 in 100,000.
        """
        if self.shape[0] != self.shape[1]:
            reject("transition", f"a matrix of shape {self.shape}", "square")
        size = self.shape[0]
        if size <= MOST_SQUARED:
            ends = (self.toarray() + np.eye(size)) / 2
            for _ in range(100):
                after = ends @ ends
                after /= after.sum(axis=1, keepdims=True)
                moved = abs(after - ends).sum(axis=1).max()
                ends = after
                if moved < 1e-14:
                    break
        else:
            ends = np.stack([np.full(size, 1 / size), np.eye(1, size)[0]])
            for _ in range(100_000):
                after = (self.times(ends) + ends) / 2
                moved = abs(after - ends).sum()
                ends = after
                if moved < 1e-14:
                    break
        if (
            moved > 1e-13
            or self._closed_classes() > 1
            or abs(ends - ends[:1]).sum(axis=1).max() > 1e-10
        ):
            expected = "one whose steps keep a single law, and come near it soon"
            reject("transition", "a chain without such a law", expected)
        found: np.ndarray = ends[0] / ends[0].sum()
        return found
