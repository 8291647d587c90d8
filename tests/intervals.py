"""Do intervals cover what they say? Counts over keys, added up over cases.

A fault of an estimator shows in every case, so a few runs of each are a sharp test together: of 80
intervals at least 67 must hold the answer, which a coverage of 70 % fails nearly always. A fault
of one case alone shows in its own count, or in a wide interval that misses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

import tokenkl as tk

#: Chance that a test of right intervals fails.
BUDGET = 2e-5


class Intervals:
    """What intervals at one level have held, cell by cell: (case, ...) as the first `add` has it.

    With `wide`, each answer is also held by an interval at the level 1 - 1e-7.
    """

    def __init__(self, cases: int, level: float = 0.95, *, wide: bool = True) -> None:
        self.level, self.wide = level, wide
        self.hits: list[Any] = [0] * cases
        self.runs = [0] * cases

    def add(self, case: int, found: tk.Estimate | list[tk.Estimate], answer: Any) -> None:
        """One run: its estimates, whose shapes are alike, and the exact values."""
        every = found if isinstance(found, list) else [found]
        answers = np.reshape(answer, (len(every), *np.shape(every[0].value)))
        self.hits[case] = self.hits[case] + self._held(every, answers, self.level)
        self.runs[case] += 1
        if self.wide:
            assert self._held(every, answers, 1 - 1e-7).all(), (case, every, answers)

    @staticmethod
    def _held(every: list[tk.Estimate], answers: np.ndarray, level: float) -> np.ndarray:
        ends = [one.confidence_interval(level)[:2] for one in every]
        low, high = np.moveaxis(np.array(ends), 1, 0)
        held: np.ndarray = (low <= answers) & (answers <= high)
        return held

    def check(self) -> None:
        """In every case, and in all together, as many as luck allows."""
        hits = np.array(self.hits)
        share = BUDGET / 2 / hits.size
        least = stats.binom.ppf(share, np.array(self.runs), self.level)
        assert (hits.reshape(len(hits), -1).min(axis=1) >= least).all(), hits
        together = hits.sum(axis=0)
        least = stats.binom.ppf(BUDGET / 2 / together.size, sum(self.runs), self.level)
        assert (together >= least).all(), together / sum(self.runs)
