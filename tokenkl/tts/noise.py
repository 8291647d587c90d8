"""Random numbers where they are needed: on the CPU by NumPy, elsewhere by the device itself.

On the CPU they depend on the key alone, whatever the version of PyTorch, and so does what a voice
says. On another device they depend on the key and on the kind of device: nothing is drawn here and
carried there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokenkl._random import generator


class Noise:
    """Draws for sequences side by side, each from a source of its own.

    Args:
        key: whole number or JAX random key.
        rows: number of sequences.
        device: where the numbers are needed.
    """

    def __init__(self, key: Any, rows: int, device: torch.device) -> None:
        self.device = device
        self.sources = [generator(key, row) for row in range(rows)]
        self.elsewhere: list[torch.Generator] = []
        if device.type != "cpu":
            self.elsewhere = [_on(device, source) for source in self.sources]

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers of this shape for every sequence, float32."""
        if not self.elsewhere:
            rows = [source.standard_normal(shape, np.float32) for source in self.sources]
            return torch.from_numpy(np.stack(rows))
        drawn = [torch.randn(shape, generator=g, device=self.device) for g in self.elsewhere]
        return torch.stack(drawn)

    def gumbel(self, shape: tuple[int, ...]) -> Tensor:
        """Standard Gumbel numbers, -ln of exponential ones, float64."""
        if not self.elsewhere:
            return torch.from_numpy(np.stack([s.gumbel(size=shape) for s in self.sources]))
        empty = torch.empty(shape, dtype=torch.float64, device=self.device)
        drawn = [torch.empty_like(empty).exponential_(generator=g) for g in self.elsewhere]
        return -torch.stack(drawn).log()


def normal_like(x: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape of x and where it is; `rng` is of the CPU."""
    if x.device.type == "cpu":
        return torch.randn(x.shape, generator=rng).to(x)
    seed = int(torch.randint(2**62, (), generator=rng))
    own = torch.Generator(x.device).manual_seed(seed)
    return torch.randn(x.shape, generator=own, device=x.device, dtype=x.dtype)


def uniform_like(x: Tensor, key: Any) -> Tensor:
    """Numbers in [0, 1) in the shape of x and where it is."""
    source = generator(key)
    if x.device.type == "cpu":
        return torch.from_numpy(source.random(tuple(x.shape), dtype=np.float32)).to(x)
    own = _on(x.device, source)
    return torch.rand(x.shape, generator=own, device=x.device, dtype=x.dtype)


def _on(device: torch.device, source: np.random.Generator) -> torch.Generator:
    return torch.Generator(device).manual_seed(int(source.integers(2**62)))
