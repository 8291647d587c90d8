"""`Masking`: the token is shown, or nothing of it is."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Int

from tokenkl.channels.discrete import DiscreteChannel, Law, rest_and_log


@final
class Masking(DiscreteChannel):
    """The token, or the mask in its place: one step of masked (absorbing) diffusion.

    Its noise variable is `masked`, the probability that the token is hidden: 0 is clean, 1 is pure
    noise. An observation is the token's id, or K for the mask. The mask says nothing about which
    token it hides, so that the posterior does not depend on `masked`, and
    I = (1 - masked) H(prior).

    Args:
        prior: strictly positive probabilities of the tokens, one for each.

    Raises:
        ValueError: no such vector.

    Example:
        >>> import tokenkl as tk
        >>> seen = tk.Masking([0.5, 0.25, 0.25]).profile([0.0, 0.5, 1.0])
        >>> seen["mutual_information"].bits.value.round(12).tolist()
        [1.5, 0.75, 0.0]
    """

    variable: ClassVar[str] = "masked"

    @property
    def n_observations(self) -> int:
        return self.K + 1

    def _replacements(self, rng: np.random.Generator, size: int) -> Int[np.ndarray, " size"]:
        return np.full(size, self.K)

    def _log_posterior(self, observation: Any, noise: Any) -> Any:
        certain = np.where(observation == np.arange(self.K), 0.0, -np.inf)
        return np.where(observation == self.K, rest_and_log(self.prior, 1, np)[1], certain)

    def _value(self, quantity: str, noise: Any, law: Law, xp: Any) -> Any:
        shown = 1 - noise
        if quantity == "accuracy":
            value = shown + noise * law.top
        elif quantity == "error_probability":
            value = noise * law.without_top
        elif quantity == "conditional_entropy":
            value = noise * law.entropy
        elif quantity == "mutual_information":
            value = shown * law.entropy
        else:
            value = noise * law.disorder
        return value[:, 0]
