"""Accuracy where noise hardly lets any token overrule the likeliest.

Far in the noise everybody decides for the token k of the largest prior. The accuracy is
pi_k + E max_j (p_j - p_k), p the posterior, and another token j alone would add

    G_j = E (p_j - p_k)+ = pi_j P(L > 0 | j) - pi_k P(L > 0 | k),    L = log(p_j / p_k), normal,

so that it lies between pi_k + max G_j and pi_k + sum G_j. Where few samples, or none, see a token
overrule the likeliest, their spread says nothing of it, and controls and Sobol points may leave an
error far below what it adds (docs/theory/sampling.md, S5e).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl.information.findings import Findings
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.near_certain import as_unlikely
from tokenkl.numerics.moments import MIN_CARRIERS, Moments

#: The bounds are the value where they are this many standard errors apart, or less.
NARROW = 0.1
NAME = "bounds of the accuracy"


class Overruled:
    """Bounds of the accuracy at every level, and what of it a sample may not see.

    `gains` are max G_j and sum G_j.
    """

    def __init__(self, problem: Problem) -> None:
        log_prior = np.asarray(problem.log_prior)
        first = int(np.argmax(log_prior))
        apart = np.delete(problem.centred - problem.centred[first], first, axis=0)
        self.h = np.minimum(problem.h, 1e150)  # squares stay finite
        self.distance = np.sqrt(np.einsum("kn,kn->k", apart, apart))
        self.log_odds = np.delete(log_prior, first) - log_prior[first]
        prior = np.asarray(problem.codebook.prior)
        self.first, self.prior = prior[first], np.delete(prior, first)
        self.below = as_unlikely(self.prior)
        gains = [self._races(h).gain for h in self.h]
        self.gains = np.array([(one.max(), one.sum()) for one in gains]).reshape(-1, 2)

    def _races(self, h: float) -> _Races:
        with np.errstate(over="ignore"):
            spread = np.maximum(h * self.distance, 1e-150)
            there, here = self.log_odds + spread**2 / 2, self.log_odds - spread**2 / 2
            won, lost = special.ndtr(there / spread), special.ndtr(here / spread)
        gain = np.maximum(self.prior * won - self.first * lost, 0.0)
        return _Races(there, here, spread, won, lost, gain)

    def variance(self, h: float, count: float) -> float:
        """Of what the tokens add of which `count` samples see fewer than `MIN_CARRIERS` overrule.

        But for those of which there are hardly any samples, which are looked at by themselves.
        E (p_j - p_k)+^2 is at most pi_j E[L+ | j] / 2 - pi_k E[L+ | k] / 2, and at most G_j.
        """
        there, here, spread, won, lost, gain = self._races(h)
        chance = self.prior * won + (1 - self.prior) * lost
        # Elsewhere they overrule in most of their own samples, of which there are enough.
        hidden = np.flatnonzero((there < 0) & (count * self.below >= MIN_CARRIERS))
        order = hidden[np.argsort(chance[hidden])]
        rare = order[count * np.cumsum(chance[order]) < MIN_CARRIERS]
        seconds = self.prior * _positive_part(there, spread, won)
        seconds -= self.first * _positive_part(here, spread, lost)
        return float(np.clip(seconds[rare] / 2, 0.0, gain[rare]).sum())

    def added(self, moments: Moments, count: Int[np.ndarray, "levels 1"]) -> Moments:
        """With that variance, as independent samples have it, in the error probability."""
        unseen = np.zeros(moments.mean.shape)
        for row, h, n in zip(unseen, self.h, count[:, 0], strict=True):
            row[0] = self.variance(h, n) / max(n, 1)
        return moments.widened(unseen)

    def pinned(self, found: Findings, is_error: bool) -> Findings:
        """Where the bounds are closer than the sample tells, what lies between them."""
        half, middle = np.diff(self.gains)[:, 0] / 2, self.gains.mean(axis=1)
        # The error from small numbers alone, so that it keeps its digits.
        whole, sign = (self.prior.sum(), -1) if is_error else (self.first, 1)
        slack = half + 4 * np.finfo(float).eps * np.maximum(whole, middle)
        levels = np.flatnonzero(2 * slack <= NARROW * found.standard_error)
        exact = Findings(whole + sign * middle[levels], 0.0, slack[levels], method=NAME)
        return Findings.joined(half.size, [(np.arange(half.size), found), (levels, exact)])

    @staticmethod
    def of(problem: Problem) -> Overruled | None:
        """None where no token is likelier than the others, and one is overruled at any level."""
        if problem.codebook.has_equal_priors or problem.codebook.K < 2:
            return None
        return Overruled(problem)


class _Races(NamedTuple):
    """Of every other token with the likeliest, at one level.

    Means of L given the other token and given the likeliest, its deviation, the probabilities that
    it is positive given each, and G_j.
    """

    there: Float[np.ndarray, " K"]
    here: Float[np.ndarray, " K"]
    spread: Float[np.ndarray, " K"]
    won: Float[np.ndarray, " K"]
    lost: Float[np.ndarray, " K"]
    gain: Float[np.ndarray, " K"]


def _positive_part(mean: np.ndarray, spread: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """E L+ of a normal L that is positive with this probability."""
    with np.errstate(over="ignore", invalid="ignore"):
        density = np.exp(-((mean / spread) ** 2) / 2) / np.sqrt(2 * np.pi)
        return np.asarray(mean * chance + spread * density)
