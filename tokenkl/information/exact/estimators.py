"""The exact ways of finding quantities, as estimators."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from tokenkl.codebooks import Checkerboard, Codebook, OneHot, PointCodebook, ProductCodebook
from tokenkl.information.estimators import Estimator, Names, Served, Task
from tokenkl.information.exact.checkerboard import (
    CHECKERBOARD_QUANTITIES,
    checkerboard_profile,
)
from tokenkl.information.exact.onehot import has_reach, onehot_profile
from tokenkl.information.exact.planar import PLANAR_QUANTITIES, planar_profile, planar_rivals
from tokenkl.information.exact.product import ALL, product_profile
from tokenkl.information.findings import Findings
from tokenkl.information.methods import Exact
from tokenkl.information.problem import Problem
from tokenkl.numerics.scale import power_of_two

EPS = np.finfo(float).eps
#: How far from a line points may lie, over their extent, to count as on it: some roundings.
ON_A_LINE = 2e-15


class _Exact(Estimator):
    """Shared by what gives a value and a numerical error at every level, whatever the level."""

    settings = Exact

    @abc.abstractmethod
    def quantities(self, problem: Problem) -> Names:
        """What it finds for this codebook."""

    @abc.abstractmethod
    def find(self, problem: Problem, wanted: Names) -> Mapping[str, tuple[Any, Any]]:
        """Value and numerical error of quantities."""

    def serves(self, problem: Problem, wanted: Names, asked: bool) -> Served:
        known = self.quantities(problem)
        return tuple(name for name in wanted if name in known), True

    def run(self, task: Task) -> dict[str, Findings]:
        found = self.find(task.problem, task.quantities)
        return {
            name: Findings(found[name][0], numerical_error=found[name][1], method=self.name)
            for name in task.quantities
        }


class ByCoordinate(_Exact):
    """`product_profile`: grids with a product prior, and points on one line."""

    name = "exact, by coordinate"
    traced = (False, True)
    #: Seconds for a pair of levels of one coordinate.
    pair_cost = 1e-5

    def quantities(self, problem: Problem) -> Names:
        return ALL if problem.once(line_or_grid, problem.is_traced) else ()

    def find(self, problem: Problem, wanted: Names) -> Mapping[str, tuple[Any, Any]]:
        found = problem.once(line_or_grid, problem.is_traced)
        assert found is not None
        grid, misplaced = found
        return product_profile(grid, problem.snr, wanted, misplaced=misplaced)

    def seconds(self, problem: Problem, method: Exact) -> float:
        found = problem.once(line_or_grid, problem.is_traced)
        pairs = sum(levels.size**2 for levels in found[0].levels) if found else 0
        return self.pair_cost * pairs


class ByPrior(_Exact):
    """`onehot_profile`: one-hot tokens with any prior."""

    name = "exact, one-hot"
    kinds = OneHot
    #: Seconds at one level, and for each of so many different priors.
    level_cost, prior_cost, most = 5e-2, 3e-4, 200

    def quantities(self, problem: Problem) -> Names:
        return ALL if problem.once(has_reach) else ()

    def find(self, problem: Problem, wanted: Names) -> Mapping[str, tuple[Any, Any]]:
        return onehot_profile(cast(OneHot, problem.codebook), problem.snr, wanted)

    def seconds(self, problem: Problem, method: Exact) -> float:
        different = 1 if problem.codebook.has_equal_priors else min(problem.codebook.K, self.most)
        return self.level_cost + self.prior_cost * different


class OnTheBoard(_Exact):
    """`checkerboard_profile`: accuracy and error probability of checkerboards, at any K."""

    name = "exact, checkerboard"
    kinds = Checkerboard
    #: Seconds at one level, for each coordinate.
    axis_cost = 1e-2

    def quantities(self, problem: Problem) -> Names:
        return CHECKERBOARD_QUANTITIES

    def find(self, problem: Problem, wanted: Names) -> Mapping[str, tuple[Any, Any]]:
        return checkerboard_profile(cast(Checkerboard, problem.codebook), problem.snr)

    def seconds(self, problem: Problem, method: Exact) -> float:
        return self.axis_cost * problem.codebook.n


class InThePlane(_Exact):
    """`planar_profile`: accuracy and error probability in two dimensions."""

    name = "exact, Owen's T over Voronoi edges"
    #: Seconds for an edge.
    edge_cost = 1e-6

    def quantities(self, problem: Problem) -> Names:
        plane = problem.codebook.n == 2 and problem.once(planar_rivals) is not None
        return PLANAR_QUANTITIES if plane else ()

    def find(self, problem: Problem, wanted: Names) -> Mapping[str, tuple[Any, Any]]:
        rivals = problem.once(planar_rivals)
        assert rivals is not None
        return planar_profile(problem.codebook, rivals, problem.snr)

    def seconds(self, problem: Problem, method: Exact) -> float:
        rivals = problem.once(planar_rivals)
        edges = sum(others.size for _, others in rivals.groups) if rivals else 0
        return self.edge_cost * (100 + edges)


def line_or_grid(codebook: Codebook, traced: bool) -> tuple[ProductCodebook, float] | None:
    """The grid that a codebook is, if its prior factorises; None where it is no such grid.

    With it comes how far a point may lie from its level: off the line, and by rounding. What JAX
    traces is not looked at for lines.
    """
    if codebook.K == 1:  # where it is does not matter
        return ProductCodebook([[0.0]]), 0.0
    grid = codebook.factors
    if grid is not None:
        return grid, 0.0
    return None if traced else _on_a_line(codebook)


def _on_a_line(codebook: Codebook) -> tuple[ProductCodebook, float] | None:
    """A codebook whose points lie on one line, as a one-dimensional grid."""
    if isinstance(codebook, OneHot) and codebook.K == 2 and not has_reach(codebook):
        apart = math.sqrt(2) * codebook.scale
        line = ProductCodebook([[0.0, apart]], [codebook.given_prior], name=codebook.label)
        return line, float(np.spacing(apart))
    if not isinstance(codebook, PointCodebook):
        return None
    points, misplaced = codebook.points, 0.0
    along = points[:, 0]
    if codebook.n > 1:
        if _are_off_a_line(points):
            return None
        exponent = power_of_two(points, 0.0)
        offset = np.ldexp(points, -exponent)
        offset = offset - offset[0]
        squares = (offset**2).sum(axis=1)
        reach = math.sqrt(squares.max())
        if reach == 0:
            return None
        direction = offset[np.argmax(squares)] / reach
        along = offset @ direction
        away = math.sqrt(((offset - along[:, None] * direction) ** 2).sum(axis=1).max())
        if not 0 <= away <= ON_A_LINE * reach:
            return None
        along = np.ldexp(along, exponent)
        misplaced = math.ldexp(away + 2 * codebook.n * EPS * reach, exponent)
    if misplaced and np.unique(along).size < codebook.K:  # they may differ by what was rounded
        return None
    rest: dict[str, Any] = {"name": codebook.label, "allow_duplicates": True}
    return ProductCodebook([along], [codebook.given_prior], **rest), misplaced


def _are_off_a_line(points: np.ndarray) -> bool:
    """Whether a few of the points say already that not all of them are on one line.

    The m rows of a matrix are at most sqrt(m) times their largest distance from a line through the
    origin away from the next matrix of rank one, which is its second singular value.
    """
    exponent = math.frexp(float(points.max()) / 2 - float(points.min()) / 2)[1]
    few = np.ldexp(points[:8], -exponent) - np.ldexp(points[0], -exponent)
    second = float(np.linalg.svd(few, compute_uv=False)[1:2].sum())
    return second > 1e-12 * math.sqrt(points.shape[1])  # far above 2 sqrt(m n) times ON_A_LINE


#: In the order of preference.
EXACT: tuple[_Exact, ...] = (ByCoordinate(), ByPrior(), OnTheBoard(), InThePlane())


def exact_quantities(codebook: Codebook) -> Names:
    """The quantities that need no sampling for this codebook, by its structure."""
    problem = Problem(codebook, np.zeros(0))
    found = (one.quantities(problem) for one in EXACT if one.is_for(problem))
    known = next((known for known in found if known), ())
    if known or not codebook.has_parts:
        return known
    by_part = [exact_quantities(part) for part in codebook.parts]
    return tuple(name for name in ALL if all(name in one for one in by_part))
