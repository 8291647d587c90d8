"""Cuts of lattices as quantizers of PyTorch, in the place of FSQ; `tokenkl.torch` has them.

The interface is that of FSQ in vector-quantize-pytorch. Decoding is exact, by the rule of
`tokenkl.codebooks.lattice` (docs/theory/lattices.md), and lists no token. Needs the extra `torch`;
not imported by `import tokenkl`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from tokenkl._extras import MissingExtra

try:
    import torch
except ImportError as error:
    raise MissingExtra("tokenkl.quantizers", "torch", "torch") from error

from torch import Tensor, nn

from tokenkl._validation import check_choice, check_count, check_levels, reject
from tokenkl.codebooks import Checkerboard, Codebook, LatticeCodebook
from tokenkl.codebooks.checkerboard import Spacing

__all__ = ["LatticeQuantizer"]

Lattice = Literal["D", "D+"]
Bound = Literal["tanh", "sigmoid", "clamp", "none"]
#: Most tokens that have ids of 64 bits.
MOST_IDS = 2**62
#: Slope of the sigmoid with which a normal number becomes nearly uniform.
SIGMOID = 1.6


class LatticeQuantizer(nn.Module):
    """Quantizes to the nearest token of a checkerboard, of a cut of D_n+, or of E8.

    In the place of `FSQ` of vector-quantize-pytorch: `forward(z)` gives codes and indices, codes
    with the straight-through gradient. Inputs are (batch, n, dim), or any shape with `dim` last up
    to three axes; from four axes on, or with `channel_first`, the second axis is `dim`. Of FSQ's
    options noise_dropout, orthogonal_rotation and allowed_dtypes are not here.

    Args:
        levels: numbers of levels, such as (7, 7, 7, 6), each at least 2; alike for "D+".
        lattice: "D", the words with an even sum (`tokenkl.Checkerboard`, about half of the grid's
            tokens), or "D+", these and as many between them (`tokenkl.LatticeCodebook`, exactly as
            many tokens as the grid; E8 for eight coordinates).
        dim: coordinates of inputs and outputs; where it is not n times `num_codebooks`, linear
            maps are learned before and behind.
        num_codebooks: how many, alike, stand beside each other.
        keep_num_codebooks_dim: whether indices have an axis for them; by default where there are
            several.
        spacing: "box" or "equal", as for `tokenkl.Checkerboard`; "D+" has equal spacing.
        bound: what is done to inputs first: "tanh" (as FSQ), "sigmoid" (2 / (1 + exp(-1.6 z)) - 1,
            as iFSQ, Lin et al. 2026, arXiv 2601.17124: nearly uniform for normal inputs), "clamp"
            to [-1, 1], or "none", after which any input has its nearest token.
        channel_first: whether the second axis is `dim` for inputs of fewer than four axes, too.
        projection_has_bias: whether the linear maps have one.
        return_indices: whether `forward` gives indices; otherwise None in their place.

    Attributes: `codebook_size` (K), `codebook_dim` (n), `dim`, `num_codebooks`, `codebook` (the
    same tokens with the same ids for tokenkl), `has_projections`, `project_in`, `project_out`.

    Raises:
        ValueError: an argument out of its range, or indices for more than 2**62 tokens.

    Example:
        >>> import torch
        >>> quantizer = LatticeQuantizer((7, 7, 7, 6))
        >>> codes, indices = quantizer(torch.randn(2, 10, 4))
        >>> codes.shape, indices.shape, quantizer.codebook_size
        (torch.Size([2, 10, 4]), torch.Size([2, 10]), 1029)
        >>> torch.equal(quantizer.indices_to_codes(indices), codes)
        True
    """

    _lattice_levels: Tensor
    _basis: Tensor

    def __init__(
        self,
        levels: Sequence[int],
        *,
        lattice: Lattice = "D",
        dim: int | None = None,
        num_codebooks: int = 1,
        keep_num_codebooks_dim: bool | None = None,
        spacing: Spacing = "box",
        bound: Bound = "tanh",
        channel_first: bool = False,
        projection_has_bias: bool = True,
        return_indices: bool = True,
    ) -> None:
        super().__init__()
        counts = check_levels(levels)
        check_choice(lattice, ("D", "D+"), "lattice")
        self.bound_by = check_choice(bound, ("tanh", "sigmoid", "clamp", "none"), "bound")
        #: Whether there are tokens half a step between the others; numbers for `from_module`.
        self.adds_halves = lattice == "D+"
        self.equal_spacing = spacing == "equal"
        self.codebook: Codebook
        if self.adds_halves:
            if len(set(counts)) > 1:
                reject("levels", counts, "the same in all coordinates for the lattice 'D+'")
            self.codebook = LatticeCodebook("D+", counts[0], len(counts))
            self._words_of_whole = self.codebook.sizes[0]
        else:
            self.codebook = Checkerboard(counts, spacing=spacing)
            self._words_of_whole = self.codebook.K
        self.codebook_size = self.codebook.K
        self.codebook_dim = len(counts)
        self.num_codebooks = check_count(num_codebooks, "num_codebooks")
        self.effective_codebook_dim = self.codebook_dim * self.num_codebooks
        self.dim = check_count(dim, "dim") if dim is not None else self.effective_codebook_dim
        several = self.num_codebooks > 1
        keep = several if keep_num_codebooks_dim is None else bool(keep_num_codebooks_dim)
        if several and not keep:
            reject("keep_num_codebooks_dim", False, "True for several codebooks")
        self.keep_num_codebooks_dim = keep
        self.channel_first, self.return_indices = bool(channel_first), bool(return_indices)
        if self.return_indices and math.prod(counts) > 2 * MOST_IDS:
            reject("levels", f"{self.codebook_size:,} tokens", "at most 2**62, or no indices")
        # Not persistent: they follow from the arguments, as FSQ's do.
        self.register_buffer("_lattice_levels", torch.tensor(counts), persistent=False)
        places = [math.prod(counts[axis + 1 :]) for axis in range(len(counts))]
        basis = places if self.return_indices else [0] * len(counts)
        self.register_buffer("_basis", torch.tensor(basis), persistent=False)
        self.has_projections = self.dim != self.effective_codebook_dim
        self.project_in: nn.Module = nn.Identity()
        self.project_out: nn.Module = nn.Identity()
        if self.has_projections:
            how = {"bias": projection_has_bias}
            self.project_in = nn.Linear(self.dim, self.effective_codebook_dim, **how)
            self.project_out = nn.Linear(self.effective_codebook_dim, self.dim, **how)

    @classmethod
    def e8(cls, levels: int = 3, **options: object) -> LatticeQuantizer:
        """A cut of E8 with levels^8 tokens: 6561, as FSQ 3^8 has, for three levels.

        Other arguments are those of the class.
        """
        return cls((levels,) * 8, lattice="D+", **options)  # type: ignore[arg-type]

    # ---- Codes ----------------------------------------------------------------------------------

    def bound(self, z: Tensor) -> Tensor:
        """What is quantized: inputs on their way into the box."""
        if self.bound_by == "tanh":
            return z.tanh()
        if self.bound_by == "sigmoid":
            return 2 * torch.sigmoid(SIGMOID * z) - 1
        return z.clamp(-1, 1) if self.bound_by == "clamp" else z

    def nearest_codes(self, x: Tensor) -> Tensor:
        """The tokens nearest to x (..., n), inside the box or outside, without gradient."""
        halves, words = self._decode(x.detach())
        return self._points(halves, words, x.dtype)

    def quantize(self, z: Tensor) -> Tensor:
        """Bounded, to the nearest token, with the straight-through gradient."""
        bounded = self.bound(z)
        # Not bounded + (codes - bounded): that rounds, and loses the codes of inputs far out.
        return self.nearest_codes(bounded) + (bounded - bounded.detach())

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """Indices (...) of codes (..., n); the inverse of `indices_to_codes` without projections.

        Codes may be off by less than a quarter of a step.
        """
        halves, words = self._words(codes)
        number = (words * self._basis).sum(dim=-1)
        ids = number.div(2, rounding_mode="floor") + halves * self._words_of_whole
        return ids.to(torch.int32 if self.codebook_size < 2**31 else torch.int64)

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Codes of indices, behind the projection; the second axis is `dim` where FSQ has it."""
        image = indices.ndim >= 3 + int(self.keep_num_codebooks_dim)
        codes = self._indices_to_codes(indices)
        if self.keep_num_codebooks_dim:
            codes = codes.flatten(-2)
        codes = self.project_out(codes)
        return codes.movedim(-1, 1) if image or self.channel_first else codes

    def _indices_to_codes(self, indices: Tensor) -> Tensor:
        ids = indices.to(torch.int64)
        halves = ids >= self._words_of_whole
        first = 2 * (ids - halves * self._words_of_whole)
        # Of the words number r and r + 1, r even, one has the right sum.
        odd = (self._digits(first).sum(dim=-1) + halves) % 2
        words = self._digits(first + odd)
        return self._points(halves, words, self._dtype)

    def _digits(self, numbers: Tensor) -> Tensor:
        shifted = numbers.unsqueeze(-1).div(self._basis, rounding_mode="floor")
        return shifted.remainder(self._lattice_levels)

    @property
    def _dtype(self) -> torch.dtype:
        """Of codes made of indices: that of the projection, where there is one."""
        weights = list(self.project_out.parameters())
        return weights[0].dtype if weights else torch.get_default_dtype()

    # ---- Words of the lattice -------------------------------------------------------------------

    def _middle(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Length of a step, and the place of the box's centre, in steps from the first level."""
        centre = (self._lattice_levels - (0.5 if self.adds_halves else 1.0)).to(dtype) / 2
        return 1 / (centre.max() if self.equal_spacing else centre).expand_as(centre), centre

    def _points(self, halves: Tensor, words: Tensor, dtype: torch.dtype) -> Tensor:
        steps, centre = self._middle(_widest(words))
        place = words + 0.5 * halves.unsqueeze(-1) - centre
        return (place * steps).to(dtype)

    def _words(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """What codes are made of, by rounding."""
        wide = _widest(codes)
        steps, centre = self._middle(wide)
        place = codes.detach().to(wide) / steps + centre
        if not self.adds_halves:
            return torch.zeros(place.shape[:-1], dtype=torch.bool, device=place.device), (
                place.round().to(torch.int64)
            )
        doubled = (2 * place).round().to(torch.int64)
        halves = doubled[..., 0] % 2 == 1
        return halves, (doubled - halves.unsqueeze(-1).to(torch.int64)).div(
            2, rounding_mode="floor"
        )

    def _decode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the nearest token is one of the halves, and its word."""
        at_least = x if x.dtype in (torch.float32, torch.float64) else x.float()
        steps, centre = self._middle(at_least.dtype)
        tops = (self._lattice_levels - 1).to(at_least.dtype)
        place = at_least / steps + centre
        whole = _nearest_even(place, 0, tops, steps**2)
        if not self.adds_halves:
            return torch.zeros(whole.shape[:-1], dtype=torch.bool, device=x.device), whole
        words = _nearest_even(place - 0.5, 1, tops, steps**2)
        # |x - whole|^2 - |x - halves|^2, as a product of differences.
        farther = ((words + 0.5 - whole) * (2 * place - whole - words - 0.5)).sum(dim=-1)
        halves = farther > 0
        return halves, torch.where(halves.unsqueeze(-1), words, whole)

    # ---- As a module ----------------------------------------------------------------------------

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes in the shape of z, and indices.

        Raises:
            ValueError: an axis of another length than `dim`.
        """
        moved = z.ndim >= 4 or self.channel_first
        if moved:
            z = z.movedim(1, -1)
        if z.shape[-1] != self.dim:
            reject("z", f"{z.shape[-1]} coordinates", f"with {self.dim} coordinates")
        z = self.project_in(z)
        own = z.dtype
        z = z if own in (torch.float32, torch.float64) else z.float()
        codes = self.quantize(z.unflatten(-1, (self.num_codebooks, self.codebook_dim)))
        indices = self.codes_to_indices(codes) if self.return_indices else None
        if indices is not None and not self.keep_num_codebooks_dim:
            indices = indices.squeeze(-1)
        out = self.project_out(codes.flatten(-2).to(own))
        return (out.movedim(-1, 1) if moved else out), indices

    def extra_repr(self) -> str:
        """For the printed module."""
        return f"{self.codebook!r}, bound={self.bound_by}"


def _widest(x: Tensor) -> torch.dtype:
    """The widest floating numbers that the device of a tensor has."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def _nearest_even(x: Tensor, parity: int, tops: Tensor, weights: Tensor) -> Tensor:
    """The nearest word with digits in [0, tops] and a sum of this parity.

    As `tokenkl.codebooks.lattice.nearest_even`, which says why it is: round, and where the sum is
    wrong change the digit that costs least.
    """
    best = (x - 0.5).ceil().clamp(min=torch.zeros_like(tops), max=tops)
    off = x - best
    step = torch.where(off > 0, 1.0, -1.0).to(x.dtype)
    outside = (best + step < 0) | (best + step > tops)
    step = torch.where(outside, -step, step)
    cost = (1 - 2 * off * step) * weights
    cheapest = cost.argmin(dim=-1, keepdim=True)
    wrong = (best.sum(dim=-1, keepdim=True) - parity).remainder(2) != 0
    change = torch.zeros_like(best).scatter(-1, cheapest, step.gather(-1, cheapest))
    return torch.where(wrong, best + change, best)
