"""`DiscreteChannel`: a token is shown as it is or replaced; every quantity has a closed form.

Every formula is a sum of terms of one sign (docs/theory/channels.md), so that nothing cancels: the
relative error is some roundings at both ends of the noise and for any strictly positive prior.
Concrete levels are computed by NumPy in float64; levels or priors that JAX traces by `jax.numpy`.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tokenkl._random import draw_ids, generator
from tokenkl._validation import (
    as_float_array,
    check_count,
    check_ids,
    check_prior,
    check_time,
    is_traced,
    reject,
)
from tokenkl.channels.base import Channel, check_size
from tokenkl.estimate import Estimate
from tokenkl.information import Exact, Profile
from tokenkl.information.methods import Method, check_method
from tokenkl.quantities import QUANTITIES, check_quantities

#: Roundings of one term, by far (tests/channels/test_precision.py); a sum adds its depth.
ROUNDINGS = 16
EPS, TINY = np.finfo(float).eps, np.finfo(float).tiny


class Law(NamedTuple):
    """A prior by its distinct probabilities, and what the formulas ask of it."""

    probability: Any
    count: Any  # of tokens that have it
    rest: Any  # 1 - probability, with its digits
    entropy: Any
    top: Any  # the largest probability
    without_top: Any  # 1 - top
    disorder: Any  # sum_k pi_k (1 - pi_k), the sampling error of a guess without observation


class DiscreteChannel(Channel):
    """The observation is the token itself, or with the probability `noise` something else.

    A kind says what replaces a token, how many observations there are, the posterior, and the value
    of every quantity. Arguments: `prior`, a strictly positive vector of any length K >= 1.
    """

    prior: Float[Any, " K"] = eqx.field(converter=lambda prior: _as_prior(prior))

    quantities: ClassVar[tuple[str, ...]] = tuple(name for name in QUANTITIES if name != "mmse")

    # ---- What a kind defines ----------------------------------------------------------------

    @property
    def n_observations(self) -> int:
        """How many different observations there are; tokens are the first K of them."""
        return self.K

    @abc.abstractmethod
    def _replacements(self, rng: np.random.Generator, size: int) -> Int[np.ndarray, " size"]: ...

    @abc.abstractmethod
    def _log_posterior(self, observation: Any, noise: Any) -> Any:
        """Of ids with a last axis of length one, and levels of the same shape."""

    @abc.abstractmethod
    def _value(self, quantity: str, noise: Any, law: Law, xp: Any) -> Any:
        """At levels with a last axis of length one, over which the tokens of `law` may spread."""

    # ---- What follows -----------------------------------------------------------------------

    @property
    def K(self) -> int:
        return int(self.prior.shape[0])

    @property
    def label(self) -> str:
        """A short name for tables and legends."""
        return f"{type(self).__name__}, K = {self.K:,}"

    def sample(
        self, noise: float, n_samples: int, *, key: Any
    ) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
        level = check_time(noise, self.variable)
        if level.ndim:
            reject(self.variable, f"an array of shape {level.shape}", "one number")
        check_size(check_count(n_samples, "n_samples"), "n_samples")
        rng = generator(key)
        ids = draw_ids(rng, self.prior, self.K, n_samples)
        replaced = rng.random(n_samples) < level
        return ids, np.where(replaced, self._replacements(rng, n_samples), ids)

    def log_posterior(
        self, observation: Int[Any, " *batch"], noise: Float[Any, " *batch"]
    ) -> Float[Any, "*batch K"]:
        seen = check_ids(observation, self.n_observations, "observation")
        level = check_time(noise, self.variable)
        try:
            seen, level = np.broadcast_arrays(seen, level)
        except ValueError:
            shape = f"an array of shape {level.shape}"
            reject(self.variable, shape, f"of a shape that broadcasts to {seen.shape}")
        check_size(seen.size * self.K, "observation")
        with np.errstate(divide="ignore", over="ignore"):
            return self._log_posterior(seen[..., None], level[..., None])

    def profile(
        self,
        noise: Float[Any, " *shape"],
        quantities: str | Sequence[str] | None = None,
        *,
        method: Method | None = None,
        key: Any = None,
    ) -> Profile:
        asked = self.quantities if quantities is None else quantities
        if "mmse" in ((asked,) if isinstance(asked, str) else asked):
            reject("quantities", "'mmse'", "without it, since these tokens have no coordinates")
        wanted = check_quantities(asked, self.quantities)
        check_method(method, Exact)  # all quantities have closed forms
        level = check_time(noise, self.variable)
        traced = is_traced(level, self.prior)
        law = _law_of(self.prior)
        compute = self._traced if traced else self._computed
        estimates = {}
        for name in wanted:
            value = compute(name, level.reshape(-1, 1), law).reshape(level.shape)
            error = jnp.nan if traced else self._error_of(value, level, law)
            how, unit = "exact, closed form", QUANTITIES[name].unit
            estimates[name] = Estimate(value, 0.0, error, method=how, quantity=name, unit=unit)
        return Profile(self.label, self.K, None, level, estimates, self.variable)

    def _traced(self, name: str, levels: Any, law: Law) -> Any:
        return self._value(name, levels, law, jnp)

    def _computed(self, name: str, levels: np.ndarray, law: Law) -> np.ndarray:
        """Some levels at a time, so that levels times tokens need not fit into memory."""
        rows = max(2**18 // law.probability.size, 1)
        with np.errstate(over="ignore", under="ignore"):
            parts = [
                self._value(name, levels[start : start + rows], law, np)
                for start in range(0, len(levels), rows)
            ]
        return np.concatenate(parts) if parts else levels

    def _error_of(self, value: np.ndarray, level: np.ndarray, law: Law) -> np.ndarray:
        depth = math.log2(1 + law.probability.size)
        underflow = np.where(level > 0, 2**10 * self.K * TINY, 0.0)
        return (ROUNDINGS + depth) * EPS * value + underflow


def _as_prior(prior: Any) -> Any:
    array = as_float_array("prior", prior, ndim=1)
    return check_prior(array, array.shape[0])


def rest_and_log(probability: Any, count: Any, xp: Any) -> tuple[Any, Any]:
    """1 - p and log p of the probabilities of a law, with their digits where one is near 1."""
    likely = probability > 0.5
    others = (count * xp.where(likely, 0.0, probability)).sum()
    log_of_likely = xp.log1p(-xp.where(likely, others, 0.0))
    rest = xp.where(likely, others, 1 - probability)
    return rest, xp.where(likely, log_of_likely, xp.log(probability))


def _law_of(prior: Any) -> Law:
    xp: Any = jnp if is_traced(prior) else np
    probability, count = prior, xp.ones_like(prior)
    if xp is np:  # equal ones count once
        probability, count = np.unique(prior, return_counts=True)
    rest, logs = rest_and_log(probability, count, xp)
    top = probability.argmax()
    return Law(
        probability,
        count,
        rest,
        entropy=-(count * probability * logs).sum(),
        top=probability[top],
        without_top=rest[top],
        disorder=(count * probability * rest).sum(),
    )
