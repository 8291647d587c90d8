"""`Sampler`: one step from a level of noise to a lower one, whatever the array library."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple


class Level(NamedTuple):
    """How much of a token and of noise is in a state x = alpha e + sigma eps.

    In units of the noise (`of_snr`), y = x / sigma, alpha is sqrt(snr) and sigma is 1; `snr` is
    then known without a square root. Numbers may be Python's, NumPy's or traced by JAX.
    """

    alpha: Any
    sigma: Any
    snr: Any = None

    @classmethod
    def of_snr(cls, snr: Any) -> Level:
        """The level at which a state in units of its noise has this SNR."""
        return cls(root(snr), 1.0, snr)


@dataclasses.dataclass(frozen=True)
class Sampler(abc.ABC):
    """How a state moves to the next level, given where the clean token seems to be.

    A kind is a frozen dataclass with a `name` that defines `step`; `draws` says whether a step
    needs fresh noise.
    """

    name: ClassVar[str]
    draws: ClassVar[bool]

    @abc.abstractmethod
    def step(self, x: Any, mean: Any, now: Level, then: Level, fresh: Any = None) -> Any:
        """The state at level `then`.

        Args:
            x: state at level `now`: an array of NumPy, JAX or torch.
            mean: the denoised state E[e | x], of the same shape.
            now: level of the state, in the same units of x as `then`.
            then: one with a higher SNR.
            fresh: standard normal noise of the same shape, where the sampler `draws`.
        """


def root(number: Any) -> Any:
    """A square root by whoever made the number."""
    if isinstance(number, (int, float)):
        return math.sqrt(number)
    space = getattr(number, "__array_namespace__", None)
    return number.sqrt() if space is None else space().sqrt(number)  # torch has a method alone
