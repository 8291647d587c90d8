"""The exact ways of finding quantities, as estimators."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np

from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.onehot import OneHot
from tokenkl.information.estimators import Estimator, Names, Served, Task
from tokenkl.information.exact.line import as_grid
from tokenkl.information.exact.onehot import has_reach, onehot_profile
from tokenkl.information.exact.planar import PLANAR_QUANTITIES, planar_profile, planar_rivals
from tokenkl.information.exact.product import ALL, product_profile
from tokenkl.information.findings import Findings
from tokenkl.information.methods import Exact
from tokenkl.information.problem import Problem


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
    #: Seconds for a pair of levels of one coordinate.
    pair_cost = 1e-5

    def quantities(self, problem: Problem) -> Names:
        return ALL if problem.once(as_grid, problem.is_traced) else ()

    def find(self, problem: Problem, wanted: Names) -> Mapping[str, tuple[Any, Any]]:
        found = problem.once(as_grid, problem.is_traced)
        assert found is not None
        grid, misplaced = found
        return product_profile(grid, problem.snr, wanted, misplaced=misplaced)

    def seconds(self, problem: Problem, method: Exact) -> float:
        found = problem.once(as_grid, problem.is_traced)
        pairs = sum(levels.size**2 for levels in found[0].levels) if found else 0
        return self.pair_cost * pairs


class ByPrior(_Exact):
    """`onehot_profile`: one-hot tokens with any prior."""

    name = "exact, one-hot"
    #: Seconds at one level, and for each of so many different priors.
    level_cost, prior_cost, most = 5e-2, 3e-4, 200

    def quantities(self, problem: Problem) -> Names:
        known = not problem.is_traced and isinstance(problem.codebook, OneHot)
        return ALL if known and problem.once(has_reach) else ()

    def find(self, problem: Problem, wanted: Names) -> Mapping[str, tuple[Any, Any]]:
        codebook = problem.codebook
        assert isinstance(codebook, OneHot)
        return onehot_profile(codebook, problem.snr, wanted)

    def seconds(self, problem: Problem, method: Exact) -> float:
        different = 1 if problem.codebook.has_equal_priors else min(problem.codebook.K, self.most)
        return self.level_cost + self.prior_cost * different


class InThePlane(_Exact):
    """`planar_profile`: accuracy and error probability in two dimensions."""

    name = "exact, Owen's T over Voronoi edges"
    #: Seconds for an edge.
    edge_cost = 1e-6

    def quantities(self, problem: Problem) -> Names:
        if problem.is_traced or problem.once(planar_rivals) is None:
            return ()
        return PLANAR_QUANTITIES

    def find(self, problem: Problem, wanted: Names) -> Mapping[str, tuple[Any, Any]]:
        rivals = problem.once(planar_rivals)
        assert rivals is not None
        return planar_profile(problem.codebook, rivals, problem.snr)

    def seconds(self, problem: Problem, method: Exact) -> float:
        rivals = problem.once(planar_rivals)
        edges = sum(others.size for _, others in rivals.groups) if rivals else 0
        return self.edge_cost * (100 + edges)


#: In the order of preference.
EXACT: tuple[_Exact, ...] = (ByCoordinate(), ByPrior(), InThePlane())


def exact_quantities(codebook: Codebook) -> Names:
    """The quantities that need no sampling for this codebook, by its structure."""
    problem = Problem(codebook, np.zeros(0))
    found = (estimator.quantities(problem) for estimator in EXACT)
    return next((known for known in found if known), ())
