"""Tokens of independent parts: a plan for each part, whose findings are added or multiplied."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

from tokenkl._random import split
from tokenkl._validation import reject
from tokenkl.codebooks.base import Codebook
from tokenkl.information.estimators import Estimator, Names, Progress, Served, Task
from tokenkl.information.findings import Findings
from tokenkl.information.methods import Auto, Exact, MonteCarlo, RareEvents
from tokenkl.information.problem import Problem
from tokenkl.information.residual.profile import too_large_to_enumerate
from tokenkl.ways import Ways


class ExactParts(Estimator):
    """What every part has an exact formula for."""

    name = "exact, by part"
    settings: ClassVar[Any] = Exact
    traced = (False, True)

    def is_for(self, problem: Problem) -> bool:
        return problem.codebook.has_parts

    def serves(self, problem: Problem, wanted: Names, asked: bool) -> Served:
        from tokenkl.information.plans import shares_of  # which has this estimator in its list

        left = [shares_of(part, wanted, Exact())[1] for part in problem.parts]
        return tuple(name for name in wanted if not any(one[name].any() for one in left)), True

    def seconds(self, problem: Problem, method: Any) -> float:
        from tokenkl.information.plans import QUANTITIES, shares_of

        total = 0.0
        for part in problem.parts:
            for share in shares_of(part, QUANTITIES, method)[0]:
                level = share.estimator.seconds(part.at(share.levels), share.method)
                total += level * share.levels.size
        return total / max(problem.snr.size, 1)

    def run(self, task: Task) -> dict[str, Findings]:
        from tokenkl.information.plans import planned

        shape = task.problem.snr.shape
        plans = [planned(part, shape, task.quantities, task.method) for part in task.problem.parts]
        keys = split(task.key, len(plans))
        found = [
            plan.find(key, _share_of(task.progress, place, len(plans)))
            for place, (plan, key) in enumerate(zip(plans, keys, strict=True))
        ]
        together = {
            name: Findings.together([one[name] for one in found], name) for name in task.quantities
        }
        return {name: self._named(one) for name, one in together.items()}

    def _named(self, found: Findings) -> Findings:
        return dataclasses.replace(found, method=self.name)


class EachPart(ExactParts):
    """All else: each part by the method asked for, or its own best one, with a key of its own."""

    name = "by part"
    settings: ClassVar[Any] = (MonteCarlo, RareEvents)

    def is_for(self, problem: Problem) -> bool:
        return sampled_apart(problem.codebook)[0] is not problem.codebook

    def serves(self, problem: Problem, wanted: Names, asked: bool) -> Served:
        return wanted, True

    def chosen(self, wish: Auto) -> Auto:
        return wish

    def check(self, method: Any) -> None:
        if isinstance(method, MonteCarlo) and method.control is not None:
            reject("control", method.control, "None for a product, each part of which has its own")

    def run(self, task: Task) -> dict[str, Findings]:
        method = for_each(task.method, len(task.problem.parts), "accuracy" in task.quantities)
        return super().run(task._replace(method=method))

    def _named(self, found: Findings) -> Findings:
        ways = (way._replace(estimator=f"{self.name}: {way.estimator}") for way in found.method)
        return dataclasses.replace(found, method=Ways(ways))


def sampled_apart(codebook: Codebook) -> list[Codebook]:
    """The parts that are sampled one by one; a grid that can be listed is sampled as a whole."""
    if not codebook.has_parts or (codebook.fits and codebook.as_grid is not None):
        return [codebook]
    return [small for part in codebook.parts for small in sampled_apart(part)]


def is_bracketed(codebook: Codebook) -> bool:
    """Whether a part of it has too many tokens to list, so that what is found is a bracket."""
    return numbers_in_stages(codebook) > 0


def numbers_in_stages(codebook: Codebook) -> int:
    """How many numbers the stages of such parts hold, by which their brackets cost time."""
    large = filter(too_large_to_enumerate, sampled_apart(codebook))
    return sum(part.n * sum(part.shape) for part in large)


def for_each(method: Any, count: int, multiplies: bool = False) -> Any:
    """The method of each of so many parts, for errors of their sum that meet its targets.

    Squared errors add, and so do squared relative ones where the parts are multiplied; relative to
    a sum of positive parts its error is no larger than theirs.
    """
    if method is None or isinstance(method, Exact) or not (method.rtol or method.atol):
        return method
    share = math.sqrt(count)
    rtol = method.rtol / share if multiplies else method.rtol
    return dataclasses.replace(method, atol=method.atol / share, rtol=rtol)


def _share_of(progress: Progress | None, place: int, count: int) -> Progress | None:
    """Progress of one part, as that of all."""
    if progress is None:
        return None
    return lambda done, wanted: progress(place * wanted + done, count * wanted)
