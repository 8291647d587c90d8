"""Accuracy where noise hardly lets any token overrule the likeliest.

Far in the noise everybody decides for the token k of the largest prior. The accuracy is
pi_k + E max_j (p_j - p_k), p the posterior, and another token j alone would add

    G_j = E (p_j - p_k)+ = pi_j P(L > 0 | j) - pi_k P(L > 0 | k),    L = log(p_j / p_k), normal,

so that it lies between pi_k + max G_j and pi_k + sum G_j. Where few samples, or none, see a token
overrule the likeliest, their spread says nothing of it, and controls and Sobol points may leave an
error far below what it adds (docs/theory/sampling.md, S5e).
"""

from __future__ import annotations

import copy

import numpy as np
from jaxtyping import Int
from scipy import special

from tokenkl.information.findings import Findings
from tokenkl.information.problem import Problem
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
        #: Probability of all tokens that are no likelier.
        self.below = np.empty(self.prior.size)
        order = np.argsort(self.prior)
        self.below[order] = np.cumsum(self.prior[order])
        self.gains = np.array([self._gains(h) for h in self.h]).reshape(-1, 2)

    def _log_ratio(self, h: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean of L given the other token, given the likeliest, and its standard deviation."""
        spread = np.maximum(h * self.distance, 1e-150)
        return self.log_odds + spread**2 / 2, self.log_odds - spread**2 / 2, spread

    def _gains(self, h: float) -> tuple[float, float]:
        """The largest G_j and their sum."""
        with np.errstate(over="ignore"):
            there, here, spread = self._log_ratio(h)
            won, lost = special.ndtr(there / spread), special.ndtr(here / spread)
        gains = np.maximum(self.prior * won - self.first * lost, 0.0)
        return float(gains.max()), float(gains.sum())

    def variance(self, h: float, count: float) -> float:
        """Of what the tokens add of which `count` samples see fewer than `MIN_CARRIERS` overrule.

        But for those of which there are hardly any samples, which are looked at by themselves.
        E (p_j - p_k)+^2 is at most pi_j E[L+ | j] / 2 - pi_k E[L+ | k] / 2, and at most G_j.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            there, here, spread = self._log_ratio(h)
            won, lost = special.ndtr(there / spread), special.ndtr(here / spread)
            chance = self.prior * won + (1 - self.prior) * lost
            # Elsewhere they overrule in most of their own samples, of which there are enough.
            hidden = np.flatnonzero((there < 0) & (count * self.below >= MIN_CARRIERS))
            order = hidden[np.argsort(chance[hidden])]
            rare = order[count * np.cumsum(chance[order]) < MIN_CARRIERS]
            density = [np.exp(-((mean / spread) ** 2) / 2) for mean in (there, here)]
            excess = [
                mean * part + spread * peak / np.sqrt(2 * np.pi)
                for mean, part, peak in zip((there, here), (won, lost), density, strict=True)
            ]
            seconds = (self.prior * excess[0] - self.first * excess[1]) / 2
        gains = self.prior * won - self.first * lost
        return float(np.clip(seconds[rare], 0.0, np.maximum(gains[rare], 0.0)).sum())

    def added(self, moments: Moments, count: Int[np.ndarray, "levels 1"]) -> Moments:
        """With that variance, as independent samples have it, in the error probability."""
        out = copy.copy(moments)
        unseen = np.array([self.variance(h, n) for h, n in zip(self.h, count[:, 0], strict=True)])
        unseen /= np.maximum(count[:, 0], 1)
        out.squares = moments.squares.copy()
        out.squares[:, 0] += unseen * moments.n[:, 0] * np.maximum(moments.n[:, 0] - 1, 0)
        return out

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
