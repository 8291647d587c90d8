"""What a way of finding quantities has to say: where it serves, what it costs, how it runs."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool

from tokenkl._validation import reject
from tokenkl.codebooks.base import Codebook
from tokenkl.information.findings import Findings
from tokenkl.information.methods import Auto, Exact, Method, MonteCarlo
from tokenkl.information.problem import Problem

#: Called with (samples done, samples wanted) while sampling.
Progress = Callable[[int, int], None]
#: Settings of `MonteCarlo` for what knows neither control grids nor single precision.
DOUBLE_ALONE: Mapping[str, tuple[Any, ...]] = {"control": (None,), "precision": ("auto", "double")}
#: Quantities that are found by their complement.
COMPLEMENTS = {"accuracy": "error_probability", "mutual_information": "conditional_entropy"}


Names = tuple[str, ...]
#: Names of quantities, and a mask over levels, or one answer for all.
Served = tuple[Names, Bool[np.ndarray, " s"] | bool]


class Task(NamedTuple):
    """What an estimator is to find in one go, and how."""

    problem: Problem
    quantities: Names
    method: Any
    key: Any
    progress: Progress | None = None


class Estimator(abc.ABC):
    """One way of finding quantities; a new one is a subclass and an entry in `plans.ESTIMATORS`."""

    #: What the method of an estimate begins with.
    name: ClassVar[str]
    #: The kind of method that asks for it, whose defaults hold where none was asked for.
    settings: ClassVar[type[Method]]
    #: The codebooks that it is for, and whether with or without something that JAX traces.
    kinds: ClassVar[type] = Codebook
    traced: ClassVar[tuple[bool, ...]] = (False,)
    #: Settings that it does not honour, and the values that it is content with.
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def is_for(self, problem: Problem) -> bool:
        """Whether it is worth asking what it serves."""
        return isinstance(problem.codebook, self.kinds) and problem.is_traced in self.traced

    @abc.abstractmethod
    def serves(self, problem: Problem, wanted: Names, asked: bool) -> Served:
        """Which of the quantities it finds, and the levels at which it is the one to take.

        `asked`: its method was asked for, so that all it can serve counts. Nothing random.
        """

    @abc.abstractmethod
    def seconds(self, problem: Problem, method: Any) -> float:
        """About what a level costs on one core (constants: `python -m benchmarks.costs`)."""

    @abc.abstractmethod
    def run(self, task: Task) -> dict[str, Findings]:
        """What it finds at the levels of the problem."""

    def chosen(self, wish: Auto) -> Any:
        """Its method, where none was asked for by its kind."""
        return wish.settings(self.settings)

    def note(self, found: Findings, method: Any) -> str:
        """What has to be said of findings by this method."""
        return ""

    @property
    def samples(self) -> bool:
        """Whether it needs a key."""
        return self.settings is not Exact

    def honours(self, method: Any) -> bool:
        """Whether it would ignore none of the settings."""
        try:
            self.check(method)
        except ValueError:
            return False
        return True

    def check(self, method: Any) -> None:
        """Refuse settings that would be ignored."""
        for field, allowed in self.only.items():
            given = getattr(method, field)
            if not any(given is one or given == one for one in allowed):
                shown = " or ".join(map(repr, allowed))
                reject(field, repr(given), f"{shown} for the estimator {self.name!r}")


class SampleAverage(Estimator):
    """Shared by those that take the settings of `MonteCarlo`."""

    settings = MonteCarlo

    def note(self, found: Findings, method: MonteCarlo) -> str:
        if not method.has_target:
            return ""
        missed = found.standard_error > method.atol + method.rtol * np.abs(found.value)
        # Antithetic pairs leave out the last one of an odd number.
        if np.any(missed & (found.n_samples >= method.max_samples - 1)):
            return MISSED
        return OVERTAKEN if np.any(missed) else ""


MISSED = "max_samples was reached before the target standard error"
OVERTAKEN = "the target standard error was missed, by a variance that kept growing"


def defaults(kind: type[Method], *names: str) -> dict[str, tuple[Any, ...]]:
    """These settings of a method at their defaults alone, for `Estimator.only`."""
    return {f.name: (f.default,) for f in dataclasses.fields(kind) if f.name in names}
