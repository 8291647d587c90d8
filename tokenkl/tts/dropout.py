"""Dropout that depends on the key of a training step, and on nothing else."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Dropout:
    """Dropout from a generator of its own, so that a step of training depends on its key alone."""

    def __init__(self, rng: torch.Generator, device: torch.device) -> None:
        seed = int(torch.randint(2**62, (), generator=rng))
        self.rng = torch.Generator(device).manual_seed(seed)

    def keep(self, shape: tuple[int, ...], rate: float) -> Float[Tensor, "..."]:
        """0 with probability `rate`, else 1."""
        return torch.empty(shape, device=self.rng.device).bernoulli_(1 - rate, generator=self.rng)

    def __call__(self, x: Tensor, rate: float) -> Tensor:
        return x * self.keep(tuple(x.shape), rate).to(x.dtype) / (1 - rate) if rate else x
