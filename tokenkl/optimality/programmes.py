"""Linear programmes of local optimality, solved by HiGHS: ascent, duals, flat motions, curvature.

Columns are motions v (K n of them, token by token) and a slope t for each owner of ties, with
t <= <u, v_k - v_j> for each of its pairs.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import reject
from tokenkl.optimality.constraints import Constraint
from tokenkl.optimality.ties import Ties

#: Slopes, weights and motions below this count as 0: HiGHS is accurate to 1e-7.
TINY = 1e-6
#: Largest acceleration that is looked for.
MAX_ACCELERATION = 10.0
#: Weights below this part of the largest possible one are told apart from it no more.
ENOUGH = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Dual:
    """Weights on tied pairs that balance, and multipliers on the normals of the constraint.

    - `weights`: (m,) at least 0; those of an owner sum to its share.
    - `force`: (K, n) gradient of the weighted distances, a combination of normals.
    - `multipliers`: (rows,) of the constraint's rows, at least 0.
    """

    weights: Float[np.ndarray, " m"]
    force: Float[np.ndarray, "K n"]
    multipliers: Float[np.ndarray, " rows"]


class Programme:
    """The linear programmes of one codebook under one constraint."""

    def __init__(self, ties: Ties, constraint: Constraint) -> None:
        self.ties, self.constraint = ties, constraint
        self.K, self.n = ties.points.shape
        self.size, self.owners = self.K * self.n, ties.share.size

    @functools.cached_property
    def pulls(self) -> Any:
        """(m, K n) sparse: <u, v_k - v_j> of every pair."""
        from scipy import sparse  # slow to import

        pairs, n = self.ties.first.size, self.n
        rows = np.repeat(np.arange(pairs), n)
        first = (self.ties.first[:, None] * n + np.arange(n)).ravel()
        second = (self.ties.second[:, None] * n + np.arange(n)).ravel()
        units = self.ties.units.ravel()
        return sparse.csr_array(
            (
                np.concatenate([units, -units]),
                (np.concatenate([rows, rows]), np.concatenate([first, second])),
            ),
            shape=(pairs, self.size),
        )

    @functools.cached_property
    def owned(self) -> Any:
        """(m, owners) sparse: whose distance each pair is."""
        from scipy import sparse  # slow to import

        pairs = self.ties.owner.size
        places = (np.arange(pairs), self.ties.owner)
        return sparse.csr_array((np.ones(pairs), places), shape=(pairs, self.owners))

    def _faces(self) -> np.ndarray:
        """Bounds of every coordinate of a motion that is at most 1."""
        low = np.where(self.constraint.low, 0.0, -1.0).ravel()
        high = np.where(self.constraint.high, 0.0, 1.0).ravel()
        return np.stack([low, high], axis=1)

    def ascent(self) -> tuple[float, Float[np.ndarray, "K n"]]:
        """The largest directional derivative of the objective, and the motion that has it."""
        from scipy import sparse  # slow to import

        rows = self.constraint.rows
        above = sparse.block_array([[-self.pulls, self.owned], [rows, None]])
        found = _solve(
            np.concatenate([np.zeros(self.size), -self.ties.share]),
            above,
            np.zeros(above.shape[0]),
            self._still(self.owners),
            np.concatenate([self._faces(), np.tile([-np.inf, np.inf], (self.owners, 1))]),
        )
        return -found.fun, found.x[: self.size].reshape(self.K, self.n)

    def _still(self, others: int) -> Any:
        """Rows that keep a motion across the isometries; None where there are none."""
        from scipy import sparse  # slow to import

        fixed = self.constraint.isometries
        if not fixed.shape[0]:
            return None
        return sparse.hstack([fixed, sparse.csr_array((fixed.shape[0], others))])

    def dual(self) -> Dual | None:
        """Weights and multipliers, as many of them above 0 as can be; None where none balance.

        First the smallest is made as large as it can be. Where some have to be 0, all others
        are: the sum of their parts below a small size is then the largest.
        """
        from scipy import sparse  # slow to import

        ties, constraint = self.ties, self.constraint
        low, high = constraint.low.ravel(), constraint.high.ravel()
        at_low, at_high = np.flatnonzero(low), np.flatnonzero(high)
        pairs, rows = ties.first.size, constraint.rows.shape[0]

        def only(places: np.ndarray, sign: float) -> Any:
            one = (np.full(places.size, sign), (places, np.arange(places.size)))
            return sparse.csr_array(one, shape=(self.size, places.size))

        balance = sparse.hstack(
            [self.pulls.T, only(at_low, 1.0), only(at_high, -1.0), -constraint.rows.T]
        )
        count = pairs + at_low.size + at_high.size + rows
        sums = sparse.hstack([self.owned.T, sparse.csr_array((self.owners, count - pairs))])
        right = np.concatenate([np.zeros(self.size), ties.share])
        equal = sparse.vstack([balance, sums])
        # In units of an even share, with rows of the constraint in units of their own size.
        unit = np.full(count, float(ties.share.max()))
        if rows:
            unit[-rows:] /= np.sqrt(constraint.rows.power(2).sum(axis=1))
        least = sparse.hstack([-sparse.eye_array(count), sparse.csr_array(unit[:, None])])
        with_least = sparse.hstack([equal, sparse.csr_array((equal.shape[0], 1))])
        bounds = np.tile([0, np.inf], (count + 1, 1))
        bounds[-1] = [0, 1]
        cost = np.zeros(count + 1)
        cost[-1] = -1
        found = _solve(cost, least, np.zeros(count), with_least, bounds, right)
        if found is None:
            return None
        solution = found.x[:count]
        if -found.fun < TINY:
            parts = sparse.hstack([-sparse.eye_array(count), sparse.diags_array(unit)])
            with_parts = sparse.hstack([equal, sparse.csr_array((equal.shape[0], count))])
            bounds = np.tile([0, np.inf], (2 * count, 1))
            bounds[count:, 1] = ENOUGH
            cost = np.concatenate([np.zeros(count), -np.ones(count)])
            again = _solve(cost, parts, np.zeros(count), with_parts, bounds, right)
            solution = solution if again is None else again.x[:count]
        solution = np.where(solution > TINY * unit, solution, 0.0)
        weights = solution[:pairs]
        return self.with_weights(weights, solution[count - rows :])

    def with_weights(self, weights: np.ndarray, multipliers: np.ndarray) -> Dual:
        """The dual with these weights; what they pull with follows."""
        force = np.asarray(self.pulls.T @ weights).reshape(self.K, self.n)
        return Dual(weights, force, multipliers)

    def flat(self, towards: Float[np.ndarray, "K n"], dual: Dual) -> Float[np.ndarray, "K n"]:
        """Among motions that keep the objective in first order, that furthest in a direction."""
        from scipy import sparse  # slow to import

        used = dual.weights > 0
        bounds = np.concatenate([self._faces(), np.tile([-np.inf, np.inf], (self.owners, 1))])
        faces = (self.constraint.low | self.constraint.high).ravel()
        bounds[: self.size][faces & (np.abs(dual.force).ravel() > TINY * self.ties.share.max())] = 0
        slopes = sparse.hstack([-self.pulls, self.owned]).tocsr()
        rows = sparse.hstack(
            [self.constraint.rows, sparse.csr_array((self.constraint.rows.shape[0], self.owners))]
        ).tocsr()
        tight = dual.multipliers > 0
        still = self._still(self.owners)
        equal = [slopes[used], rows[tight]] + ([] if still is None else [still])
        above = sparse.vstack([slopes[~used], rows[~tight]])
        cost = np.concatenate([-towards.ravel(), np.zeros(self.owners)])
        found = _solve(cost, above, np.zeros(above.shape[0]), sparse.vstack(equal), bounds)
        if found is None:
            return np.zeros((self.K, self.n))
        motion = np.clip(found.x[: self.size], -1, 1).reshape(self.K, self.n)
        return np.where(np.abs(motion) > TINY, motion, 0.0)

    def curvature(self, motion: Float[np.ndarray, "K n"]) -> tuple[float, Float[np.ndarray, "K n"]]:
        """Largest second derivative along e + s v + s^2 w / 2 for a flat motion v, and its w.

        Of the pairs of an owner those count whose distance grows least in first order.
        """
        from scipy import sparse  # slow to import

        ties, constraint = self.ties, self.constraint
        slopes = self.pulls @ motion.ravel()
        least = np.full(self.owners, np.inf)
        np.minimum.at(least, ties.owner, slopes)
        active = slopes <= least[ties.owner] + TINY
        growth = np.square(ties.across(motion)).sum(axis=1) / ties.distance[ties.owner]
        alone = np.full(self.owners, np.inf)
        np.minimum.at(alone, ties.owner[active], growth[active])
        straight = float(ties.share @ alone)
        nothing = np.zeros((self.K, self.n))
        if constraint.name == "box" and straight > TINY:
            return straight, nothing
        tight = np.asarray(constraint.rows @ motion.ravel()) >= -TINY
        above = sparse.block_array(
            [
                [-self.pulls[active], self.owned[active]],
                [constraint.rows[tight], sparse.csr_array((int(tight.sum()), self.owners))],
            ]
        )
        right = np.concatenate([growth[active], -2 * constraint.curvature(motion)[tight]])
        far = MAX_ACCELERATION
        stays = np.abs(motion) <= TINY
        low = np.where(constraint.low & stays, 0.0, -far).ravel()
        high = np.where(constraint.high & stays, 0.0, far).ravel()
        free = np.tile([-np.inf, np.inf], (self.owners, 1))
        bounds = np.concatenate([np.stack([low, high], axis=1), free])
        cost = np.concatenate([np.zeros(self.size), -ties.share])
        found = _solve(cost, above, right, self._still(self.owners), bounds)
        if found is None:
            return straight, nothing
        return -found.fun, found.x[: self.size].reshape(self.K, self.n)

    def flat_space(self, dual: Dual) -> Float[np.ndarray, "size d"]:
        """An orthonormal basis of the motions that keep all used slopes equal (dense)."""
        from scipy import linalg, sparse  # slow to import

        used = dual.weights > 0
        rows = [sparse.hstack([-self.pulls, self.owned]).tocsr()[used].toarray()]
        width = self.size + self.owners
        for part in (self.constraint.rows[dual.multipliers > 0], self.constraint.isometries):
            rows.append(np.pad(part.toarray(), ((0, 0), (0, self.owners))))
        faces = (self.constraint.low | self.constraint.high).ravel()
        held = np.flatnonzero(faces & (np.abs(dual.force.ravel()) > TINY * self.ties.share.max()))
        rows.append(np.eye(width)[held])
        basis = linalg.null_space(np.concatenate(rows), rcond=1e-10)[: self.size]
        return np.asarray(linalg.orth(basis)) if basis.size else basis

    def hessian(self, dual: Dual, basis: Float[np.ndarray, "size d"]) -> Float[np.ndarray, "d d"]:
        """Of the Lagrangian on these motions: growth of distances, less that of the constraint."""
        ties = self.ties
        motions = basis.T.reshape(-1, self.K, self.n)
        root = np.sqrt(dual.weights / ties.distance[ties.owner])
        across = np.array([(ties.across(one) * root[:, None]).ravel() for one in motions])
        total = across @ across.T
        if not dual.multipliers.size:
            return np.asarray(total)
        name, multipliers = self.constraint.name, dual.multipliers
        if name == "ball":
            weight = np.zeros((self.K, self.n))
            weight.ravel()[:] = 0
            on = self.constraint.rows.indices.reshape(multipliers.size, -1)
            weight.ravel()[on] = multipliers[:, None]
            bent = motions * weight
        else:
            bent = (motions - motions.mean(axis=1, keepdims=True)) * multipliers
        return np.asarray(total - bent.reshape(len(motions), -1) @ basis)


def _solve(
    cost: np.ndarray, above: Any, most: Any, equal: Any, bounds: np.ndarray, right: Any = None
) -> Any:
    """min cost @ x with above @ x <= most, equal @ x = right; None where no x satisfies it.

    Raises:
        ValueError: HiGHS found no answer.
    """
    from scipy.optimize import linprog  # slow to import

    if right is None and equal is not None:
        right = np.zeros(equal.shape[0])
    found = linprog(cost, above, most, equal, right, bounds, method="highs")
    if found.status == 2:
        return None
    if found.x is None:
        reject("codebook", found.message, "one whose linear programmes HiGHS can solve")
    return found
