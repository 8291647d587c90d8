"""Quantizers of speech tokenizers.

A quantizer is a `tokenkl` codebook that is also a layer: `codebook()` gives the points in the order
of the token ids, so that everything the library computes is about the tokens that speech uses.
"""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

if TYPE_CHECKING:  # imported where a codebook is asked for: speaking needs none
    from tokenkl.codebooks import FSQ, Codebook, PointCodebook, ResidualCodebook


class Quantized(NamedTuple):
    """Points (..., dim) that pass gradients to z, ids (...), and a loss to be added."""

    points: Tensor
    ids: Tensor
    loss: Tensor


class Quantizer(nn.Module, abc.ABC):
    """A codebook as a layer."""

    dim: int
    K: int

    @abc.abstractmethod
    def forward(self, z: Float[Tensor, "batch tokens dim"]) -> Quantized:
        """Round to the tokens."""

    @abc.abstractmethod
    def points_at(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The points of token ids."""

    @abc.abstractmethod
    def codebook(self, prior: Float[Any, " K"] | None = None) -> Codebook:
        """The same tokens, in the same order, as a `tokenkl` codebook."""


class FSQQuantizer(Quantizer):
    """Finite scalar quantization by vector-quantize-pytorch: tanh, then rounding of coordinates.

    Ids count the first coordinate fastest, as in CosyVoice 2.
    """

    table: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.dim, self.K = len(self.levels), math.prod(self.levels)
        digits = np.unravel_index(np.arange(self.K), self.levels, order="F")
        halves = [max(1, n // 2) for n in self.levels]
        columns = [(d - n // 2) / h for d, n, h in zip(digits, self.levels, halves, strict=True)]
        table = torch.from_numpy(np.stack(columns, -1)).float()  # those of `codebook`, exactly
        self.register_buffer("table", table, persistent=False)

    @functools.cached_property
    def layer(self) -> nn.Module:
        """Made when something is to be rounded: its import takes longer than saying a sentence."""
        from vector_quantize_pytorch import FSQ as Layer

        return Layer(list(self.levels))

    def forward(self, z: Tensor) -> Quantized:
        points, ids = self.layer.to(z.device)(z)
        return Quantized(points, ids.long(), z.new_zeros(()))

    def points_at(self, ids: Tensor) -> Tensor:
        return self.table[ids]

    def codebook(self, prior: Float[Any, " K"] | None = None) -> FSQ:
        from tokenkl.codebooks import FSQ

        return FSQ(self.levels, prior, grid="rounding", order="F")


class E8Quantizer(Quantizer):
    """Rounds tanh(z) to the nearest of the 6561 points of the E8 lattice in the cube.

    The search is exact: within each of the two cosets round every coordinate and, where the parity
    comes out wrong, change the one coordinate that costs least; then take the nearer coset. (Conway
    and Sloane 1982, fast quantizing for lattices, here with the levels of the cut.)
    """

    ranks: Tensor
    table: Tensor

    def __init__(self) -> None:
        from tokenkl.codebooks import e8_codebook

        super().__init__()
        self.dim, self.K = 8, 6561
        grid = np.indices((3,) * 8).reshape(8, -1).sum(axis=0) % 2
        ranks = np.empty(grid.size, np.int64)  # of a grid point among those of its parity
        for parity in (0, 1):
            where = np.flatnonzero(grid == parity)
            ranks[where] = np.arange(where.size)
        self._even = int((grid == 0).sum())
        table = torch.from_numpy(e8_codebook().points).float()
        self.register_buffer("ranks", torch.from_numpy(ranks), persistent=False)
        self.register_buffer("table", table, persistent=False)

    def nearest(self, x: Float[Tensor, "*batch 8"]) -> Int[Tensor, "*batch"]:
        """Ids, in the order of `tokenkl.e8_codebook`, of the tokens nearest to these points."""
        scaled = x * 1.25 + 1.25
        weights = 3 ** torch.arange(7, -1, -1, device=x.device)
        ids, distances = [], []
        for parity in (0, 1):
            target = scaled - parity / 2
            level = target.round().clamp(0, 2)
            other = torch.where(level == 1, torch.where(target < 1, 0.0, 2.0), 1.0).to(target)
            cost = (target - other) ** 2 - (target - level) ** 2
            place = cost.argmin(-1, keepdim=True)
            changed = level.scatter(-1, place, other.gather(-1, place))
            wrong = level.sum(-1, keepdim=True) % 2 != parity
            level = torch.where(wrong, changed, level)
            ids.append(self.ranks[(level.long() * weights).sum(-1)] + parity * self._even)
            distances.append(((target - level) ** 2).sum(-1))
        return torch.where(distances[0] <= distances[1], ids[0], ids[1])

    def forward(self, z: Tensor) -> Quantized:
        bounded = torch.tanh(z)
        ids = self.nearest(bounded.detach())
        points = self.table[ids] + (bounded - bounded.detach())  # tokens to the bit
        return Quantized(points, ids, z.new_zeros(()))

    def points_at(self, ids: Tensor) -> Tensor:
        return self.table[ids]

    def codebook(self, prior: Float[Any, " K"] | None = None) -> PointCodebook:
        from tokenkl.codebooks import e8_codebook

        return e8_codebook(prior)


#: Of the exponential moving averages of learned codebooks.
_DECAY = 0.99


class VQQuantizer(Quantizer):
    """Vector quantization by vector-quantize-pytorch: codebook by moving averages.

    Args:
        K: number of tokens.
        dim: dimension of the points.
        batch_tokens: tokens in one training batch; a code used less than a tenth of its equal share
            of them starts anew at a vector of the batch.
    """

    def __init__(self, K: int, dim: int = 8, batch_tokens: int = 1024) -> None:
        super().__init__()
        from vector_quantize_pytorch import VectorQuantize

        self.dim, self.K = dim, K
        self.layer = VectorQuantize(
            dim, K, decay=_DECAY, threshold_ema_dead_code=0.1 * batch_tokens / K,
            rotation_trick=False, commitment_weight=0.25,
        )  # fmt: skip

    def forward(self, z: Tensor) -> Quantized:
        points, ids, loss = self.layer(z)
        return Quantized(points, ids, loss.sum())

    def points_at(self, ids: Tensor) -> Tensor:
        return self.layer.codebook[ids]

    def codebook(self, prior: Float[Any, " K"] | None = None) -> PointCodebook:
        from tokenkl.codebooks import PointCodebook

        points = self.layer.codebook.detach().cpu().double().numpy()
        return PointCodebook(points, prior, name=f"VQ {self.K}", allow_duplicates=True)


class RVQQuantizer(Quantizer):
    """Residual vector quantization by vector-quantize-pytorch; the last stage counts fastest.

    Args:
        sizes: number of vectors of each stage.
        dim, batch_tokens: as `VQQuantizer`.
    """

    def __init__(self, sizes: Sequence[int], dim: int = 8, batch_tokens: int = 1024) -> None:
        super().__init__()
        from vector_quantize_pytorch import ResidualVQ

        self.sizes = tuple(sizes)
        self.dim, self.K = dim, math.prod(self.sizes)
        self.layer = ResidualVQ(
            dim=dim, codebook_size=self.sizes, decay=_DECAY, rotation_trick=False,
            threshold_ema_dead_code=0.1 * batch_tokens / max(self.sizes), commitment_weight=0.25,
        )  # fmt: skip

    def forward(self, z: Tensor) -> Quantized:
        points, digits, loss = self.layer(z)
        ids = torch.zeros_like(digits[..., 0])
        for stage, size in enumerate(self.sizes):
            ids = ids * size + digits[..., stage]
        return Quantized(points, ids, loss.sum())

    def points_at(self, ids: Tensor) -> Tensor:
        total = torch.zeros(*ids.shape, self.dim, device=ids.device)
        for layer, size in zip(reversed(self.layer.layers), reversed(self.sizes), strict=True):
            total = total + layer.codebook[ids % size]
            ids = ids // size
        return total

    def codebook(self, prior: Float[Any, " K"] | None = None) -> ResidualCodebook:
        from tokenkl.codebooks import ResidualCodebook

        stages = [layer.codebook.detach().cpu().double().numpy() for layer in self.layer.layers]
        return ResidualCodebook(stages, prior)
