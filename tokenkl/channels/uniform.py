"""`UniformNoise`: the token is shown, or another drawn from all of them with equal chances."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Int

from tokenkl.channels.discrete import DiscreteChannel, Law, rest_and_log

#: Terms of the series of `_surplus`, and the size of z up to which it is asked for.
TERMS, NEAR = 11, 0.2
#: Larger odds are found by their logarithm, since they may overflow.
LARGE = 1e300


@final
class UniformNoise(DiscreteChannel):
    """The token, or a uniform draw in its place: one step of uniform-noise diffusion.

    Its noise variable is `replaced`, the probability that the token was replaced by a draw from all
    K tokens, the old one among them: 0 is clean, 1 is pure noise. An observation is a token's id,
    and nothing tells whether it is the true one.

    Args:
        prior: strictly positive probabilities of the tokens, one for each.

    Raises:
        ValueError: no such vector.

    Example:
        >>> import tokenkl as tk
        >>> seen = tk.UniformNoise([0.5, 0.25, 0.25]).profile([0.0, 0.3, 1.0])
        >>> seen["error_probability"].value.round(12).tolist()
        [0.0, 0.2, 0.5]
    """

    variable: ClassVar[str] = "replaced"

    def _replacements(self, rng: np.random.Generator, size: int) -> Int[np.ndarray, " size"]:
        return rng.integers(self.K, size=size)

    def _log_posterior(self, observation: Any, noise: Any) -> Any:
        rest, log_prior = rest_and_log(self.prior, 1, np)
        shown, other, own = 1 - noise, noise / self.K, self.prior[observation]
        odds = _at_most(shown * own / _positive(other, np), np)
        with np.errstate(divide="ignore"):  # of no noise at all
            beyond = np.log(_positive(shown * own, np)) - (np.log(noise) - np.log(self.K))
        loss = np.where((odds < LARGE) & (other > 0), np.log1p(odds), beyond)
        own_log = -_own_loss(shown, other, own, rest[observation], np)
        return np.where(observation == np.arange(self.K), own_log, log_prior - loss)

    def _value(self, quantity: str, noise: Any, law: Law, xp: Any) -> Any:
        # P(y | k) is `other`, and more by `shown` where y = k; `marginal` is P(y) for y = k.
        shown, other = 1 - noise, noise / self.K
        own, rest = law.probability, law.rest
        marginal = other + shown * own
        both = shown + other
        value: Any = 0.0
        if quantity == "accuracy":
            terms = xp.maximum(own * both, other * law.top)
        elif quantity == "error_probability":
            terms = xp.minimum(other * rest, other * law.without_top + shown * own)
        elif quantity == "conditional_entropy":
            value = noise[:, 0] * ((self.K - 1) / self.K * law.entropy)
            terms = other * rest * xp.log1p(_at_most(shown * own / _positive(other, xp), xp))
            terms = terms + own * both * _own_loss(shown, other, own, rest, xp)
        elif quantity == "mutual_information":
            terms = own * _surplus(both, marginal, shown * rest, xp)
            terms = terms + rest * _surplus(other, marginal, -shown * own, xp)
        else:
            terms = other / marginal * (other * law.disorder + 2 * shown * own * rest)
        return value + (law.count * terms).sum(axis=-1)


def _own_loss(shown: Any, other: Any, own: Any, rest: Any, xp: Any) -> Any:
    """-log p(k | k), where p(k | k) = own (shown + other) / (other + shown own)."""
    marginal = other + shown * own
    doubt = other * rest / marginal
    sure = -xp.log1p(-xp.minimum(doubt, 0.5))
    return xp.where(doubt < 0.5, sure, xp.log(_at_most(marginal / (shown + other) / own, xp)))


def _surplus(w: Any, v: Any, difference: Any, xp: Any) -> Any:
    """w log(w / v) - w + v >= 0, where w - v is known with its digits.

    With z = (w - v) / (w + v), log(w / v) = 2 artanh z: the series leaves out what would cancel.
    """
    z = difference / (w + v)
    near = xp.abs(z) < NEAR
    z = xp.where(near, z, 0.0)
    square, tail = z * z, 0.0
    for order in range(2 * TERMS + 1, 2, -2):
        tail = (tail + 1 / order) * square
    close = 2 * v * z * (z + (1 + z) * tail) / (1 - z)
    return xp.where(near, close, w * xp.log(_at_most(_positive(w, xp) / v, xp)) - difference)


def _positive(number: Any, xp: Any) -> Any:
    """The number, or 1 in place of 0, for a factor that is multiplied by it."""
    return xp.where(number > 0, number, 1.0)


def _at_most(number: Any, xp: Any) -> Any:
    """Finite: what would overflow stands in a product with what is nearly 0."""
    return xp.minimum(number, xp.finfo(number.dtype).max)
