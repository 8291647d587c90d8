"""`Channel`: what every channel offers, whatever its noise."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

from jaxtyping import Float, Int

from tokenkl._module import Module
from tokenkl._validation import MAX_ELEMENTS, reject
from tokenkl.information import Profile
from tokenkl.information.methods import Method


class Channel(Module):
    """One token k, drawn from a prior, and what is observed of it at some noise level.

    A kind defines all that is abstract here, and says which end of its noise variable is noise;
    `DiscreteChannel` is the base of those whose observation is a token or a mask
    (docs/extending.md).
    """

    #: Name of the noise variable, as `Profile.variable` and the columns of tables have it.
    variable: ClassVar[str]
    #: What `profile` finds unless told otherwise.
    quantities: ClassVar[tuple[str, ...]]

    @property
    @abc.abstractmethod
    def K(self) -> int:
        """Number of tokens."""

    @abc.abstractmethod
    def sample(
        self, noise: float, n_samples: int, *, key: Any
    ) -> tuple[Int[Any, " N"], Float[Any, "N ..."]]:
        """Tokens k ~ prior and what is observed of them.

        Args:
            noise: one level of the noise variable.
            n_samples: how many, at least 1.
            key: integer seed or JAX key; the same key gives the same bits.

        Raises:
            ValueError: an argument out of its range, or more than 2**26 numbers asked for.
        """

    @abc.abstractmethod
    def log_posterior(
        self, observation: Float[Any, "*batch ..."], noise: Float[Any, " *batch"]
    ) -> Float[Any, "*batch K"]:
        """log p(k | observation) in nats for every token, normalised.

        Raises:
            ValueError: no observation of this channel, a level that it does not have, or more than
                2**26 numbers.
        """

    @abc.abstractmethod
    def profile(
        self,
        noise: Float[Any, " *shape"],
        quantities: str | Sequence[str] | None = None,
        *,
        method: Method | None = None,
        key: Any = None,
    ) -> Profile:
        """Several quantities over levels of the noise variable.

        Args:
            noise: levels of the noise variable; the estimates have their shape.
            quantities: any selection of the channel's `quantities`; None for all of them.
            method: how to find them, as for `tokenkl.profile`.
            key: integer seed or JAX key; needed where something has to be sampled.

        Raises:
            ValueError: a level or quantity that the channel does not have, a method that does not
                apply, or no key where one is needed.
        """


def check_size(elements: int, name: str) -> None:
    """Refuse what would not fit into memory."""
    if elements > MAX_ELEMENTS:
        reject(name, f"a request for {elements:,} numbers", f"small enough for {MAX_ELEMENTS:,}")
