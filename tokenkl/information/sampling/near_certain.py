"""How many samples can be expected to carry a mean where one token is nearly certain.

Samples of all other tokens are then too few to count on, and means are carried by observations of
the certain one that look like another. Their weights are heavy-tailed: a sample without the few
that matter shows a small variance and many carriers of it, so that it cannot be asked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tokenkl.information.problem import Problem
from tokenkl.numerics.moments import MIN_CARRIERS, Moments

#: Places at which the integrals are found, and how far they reach beyond both tokens.
PLACES, REACH = 96, 9.0
#: Distances, in units of the noise, beyond which no sample sees anything in any case.
FARTHEST = 30.0
#: Tokens whose integrals are found together.
TOKENS = 2**14


class Unmet(NamedTuple):
    """What the tokens would give that a sample hardly meets, and so shows nothing of in its spread.

    Sobol points and controls may leave less error than the few samples of them that there would be.

    - `values`: statistics of samples of such tokens, of what the estimate rests on.
    - `weights`: sums with these are averages over all tokens.
    - `below`: probability of all tokens that are no likelier than that of the sample.
    """

    values: Float[np.ndarray, "levels statistics samples"]
    weights: Float[np.ndarray, " samples"]
    below: Float[np.ndarray, " samples"]

    def added(self, moments: Moments, count: Int[np.ndarray, "levels 1"]) -> Moments:
        """With the variance of those tokens that `count` samples meet less than `MIN_CARRIERS` of.

        As independent samples have it: what a token far from the mean adds if it is met, or takes
        away if it is not, is about that.
        """
        weights = np.where(self.below * count < MIN_CARRIERS, self.weights, 0.0)
        apart = (self.values - moments.mean[..., None]) ** 2
        variance = np.einsum("lsd,ld->ls", apart, weights) / np.maximum(count, 1)
        return moments.widened(variance)


def as_unlikely(prior: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """The probability of all tokens that are no likelier than each."""
    order = np.argsort(prior, kind="stable")
    out = np.empty(prior.size)
    out[order] = np.cumsum(prior[order])
    return out


def expected_carriers(problem: Problem, count: Int[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """About N (E x^2)^2 / E x^4, x the posterior variance between the likeliest token and another.

    Infinite at levels at which at least `MIN_CARRIERS` of N samples are of other tokens. Without
    that, x is summed over the others as if no two of them were ever likely at once, and the fewer
    of the carriers of an error and of a squared error are given.
    """
    log_prior = np.asarray(problem.log_prior)
    likeliest = int(np.argmax(log_prior))
    rare = np.delete(log_prior, likeliest)
    out = np.full(count.size, np.inf)
    near = np.flatnonzero(count * np.exp(rare).sum() < MIN_CARRIERS)
    apart = np.delete(problem.centred - problem.centred[likeliest], likeliest, axis=0)
    distance = np.sqrt((apart**2).sum(axis=1))
    odds = rare - log_prior[likeliest]
    for level in near:
        root = np.minimum(problem.h[level] * distance, FARTHEST)
        # E x^k relative to the odds, for the error (exponent 0) and the squared error (2).
        moments = np.zeros((2, 2))
        for start in range(0, rare.size, TOKENS):
            part = slice(start, start + TOKENS)
            moments += _moments(root[part], odds[part] - odds.max(), odds.max(), distance[part])
        (seconds, fourths) = moments
        with np.errstate(divide="ignore", invalid="ignore"):
            carriers = count[level] * np.where(fourths > 0, seconds**2 / fourths, np.inf)
        out[level] = float(np.min(carriers))
    return out


def _moments(
    root: Float[np.ndarray, " K"],
    relative: Float[np.ndarray, " K"],
    largest: float,
    distance: Float[np.ndarray, " K"],
) -> Float[np.ndarray, "2 2"]:
    """Sums over tokens of E x^2 and E x^4, in units of exp(largest)^2 and ^4; columns as above."""
    # Where x^2 and x^4 matter: as far out as the tilted laws that they lead to.
    far = np.minimum(
        4 * root, np.maximum(root, (0.5 * root**2 - relative - largest) / root.clip(1e-9))
    )
    x = np.linspace(0.0, 1.0, PLACES)
    z = -REACH + (far + 2 * REACH)[:, None] * x
    step = (far + 2 * REACH)[:, None] / (PLACES - 1)
    log_odds = (relative + largest)[:, None] + root[:, None] * z - 0.5 * root[:, None] ** 2
    # Density of the observation along the line between both: that of both tokens.
    density = np.exp(-0.5 * z**2 + np.logaddexp(0.0, log_odds)) / np.sqrt(2 * np.pi)
    log_x = log_odds - 2 * np.logaddexp(0.0, log_odds) - largest
    size = (distance / max(float(distance.max()), 1e-300))[:, None]
    second, fourth = (density * np.exp(k * log_x) * step for k in (2, 4))
    return np.array(
        [
            [second.sum(), (second * size**4).sum()],
            [fourth.sum(), (fourth * size**8).sum()],
        ]
    )
