"""Parts of lattices as quantizers of PyTorch, in the place of FSQ; `tokenkl.torch` has them.

The interface is that of FSQ in vector-quantize-pytorch. Decoding is exact, by the rules of
`tokenkl.codebooks.lattice` (docs/theory/lattices.md) and of `LeechQuantizer`, and lists no token.
Needs the extra `torch`; not imported by `import tokenkl`.
"""

from __future__ import annotations

import abc
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
from tokenkl.codebooks import Checkerboard, Codebook, LatticeCodebook, PointCodebook
from tokenkl.codebooks.checkerboard import Spacing
from tokenkl.codebooks.leech import check_inner, leech_codebook, leech_parts, radius

__all__ = ["LatticeQuantizer", "LeechQuantizer"]

Lattice = Literal["D", "D+"]
Bound = Literal["tanh", "sigmoid", "clamp", "none"]
SphereBound = Literal["sphere", "none"]
#: Most tokens that have ids of 64 bits.
MOST_IDS = 2**62
#: Slope of the sigmoid with which a normal number becomes nearly uniform.
SIGMOID = 1.6
#: Vectors that are compared with the parts of the Leech lattice at once: some 60 MB.
CHUNK = 512


class _Quantizer(nn.Module, abc.ABC):
    """What FSQ of vector-quantize-pytorch is besides its tokens: shapes, projections, gradients.

    Of FSQ's options noise_dropout, orthogonal_rotation and allowed_dtypes are not here. Arguments
    are those of `LatticeQuantizer`.
    """

    def __init__(
        self,
        size: int,
        n: int,
        *,
        dim: int | None,
        num_codebooks: int,
        keep_num_codebooks_dim: bool | None,
        bound: str,
        channel_first: bool,
        projection_has_bias: bool,
        return_indices: bool,
    ) -> None:
        super().__init__()
        self.bound_by = bound
        self.codebook_size, self.codebook_dim = size, n
        self.num_codebooks = check_count(num_codebooks, "num_codebooks")
        self.effective_codebook_dim = self.codebook_dim * self.num_codebooks
        self.dim = check_count(dim, "dim") if dim is not None else self.effective_codebook_dim
        several = self.num_codebooks > 1
        keep = several if keep_num_codebooks_dim is None else bool(keep_num_codebooks_dim)
        if several and not keep:
            reject("keep_num_codebooks_dim", False, "True for several codebooks")
        self.keep_num_codebooks_dim = keep
        self.channel_first, self.return_indices = bool(channel_first), bool(return_indices)
        self.has_projections = self.dim != self.effective_codebook_dim
        self.project_in: nn.Module = nn.Identity()
        self.project_out: nn.Module = nn.Identity()
        if self.has_projections:
            how = {"bias": projection_has_bias}
            self.project_in = nn.Linear(self.dim, self.effective_codebook_dim, **how)
            self.project_out = nn.Linear(self.effective_codebook_dim, self.dim, **how)

    @abc.abstractmethod
    def nearest_codes(self, x: Tensor) -> Tensor:
        """The tokens nearest to x (..., n), inside the box or outside, without gradient."""

    @abc.abstractmethod
    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """Indices (...) of codes (..., n)."""

    @abc.abstractmethod
    def _indices_to_codes(self, indices: Tensor) -> Tensor:
        """The inverse of `codes_to_indices`."""

    def bound(self, z: Tensor) -> Tensor:
        """What is quantized: inputs on their way into the box, or onto the sphere."""
        if self.bound_by == "sphere":
            return nn.functional.normalize(z, dim=-1)
        if self.bound_by == "tanh":
            return z.tanh()
        if self.bound_by == "sigmoid":
            return 2 * torch.sigmoid(SIGMOID * z) - 1
        return z.clamp(-1, 1) if self.bound_by == "clamp" else z

    def quantize(self, z: Tensor) -> Tensor:
        """Bounded, to the nearest token, with the straight-through gradient."""
        bounded = self.bound(z)
        # Not bounded + (codes - bounded): that rounds, and loses the codes of inputs far out.
        return self.nearest_codes(bounded) + (bounded - bounded.detach())

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Codes of indices, behind the projection; the second axis is `dim` where FSQ has it."""
        image = indices.ndim >= 3 + int(self.keep_num_codebooks_dim)
        codes = self._indices_to_codes(indices)
        if self.keep_num_codebooks_dim:
            codes = codes.flatten(-2)
        codes = self.project_out(codes)
        return codes.movedim(-1, 1) if image or self.channel_first else codes

    @property
    def _dtype(self) -> torch.dtype:
        """Of codes made of indices: that of the projection, where there is one."""
        weights = list(self.project_out.parameters())
        return weights[0].dtype if weights else torch.get_default_dtype()

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


class LatticeQuantizer(_Quantizer):
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

    codebook: Codebook
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
        counts = check_levels(levels)
        check_choice(lattice, ("D", "D+"), "lattice")
        codebook: Codebook
        if lattice == "D+":
            if len(set(counts)) > 1:
                reject("levels", counts, "the same in all coordinates for the lattice 'D+'")
            codebook = LatticeCodebook("D+", counts[0], len(counts))
            whole = codebook.sizes[0]
        else:
            codebook = Checkerboard(counts, spacing=spacing)
            whole = codebook.K
        super().__init__(
            codebook.K,
            len(counts),
            dim=dim,
            num_codebooks=num_codebooks,
            keep_num_codebooks_dim=keep_num_codebooks_dim,
            bound=check_choice(bound, ("tanh", "sigmoid", "clamp", "none"), "bound"),
            channel_first=channel_first,
            projection_has_bias=projection_has_bias,
            return_indices=return_indices,
        )
        self.codebook, self._words_of_whole = codebook, whole
        #: Whether there are tokens half a step between the others; numbers for `from_module`.
        self.adds_halves = lattice == "D+"
        self.equal_spacing = spacing == "equal"
        if self.return_indices and math.prod(counts) > 2 * MOST_IDS:
            reject("levels", f"{self.codebook_size:,} tokens", "at most 2**62, or no indices")
        # Not persistent: they follow from the arguments, as FSQ's do.
        self.register_buffer("_lattice_levels", torch.tensor(counts), persistent=False)
        places = [math.prod(counts[axis + 1 :]) for axis in range(len(counts))]
        basis = places if self.return_indices else [0] * len(counts)
        self.register_buffer("_basis", torch.tensor(basis), persistent=False)

    @classmethod
    def e8(cls, levels: int = 3, **options: object) -> LatticeQuantizer:
        """A cut of E8 with levels^8 tokens: 6561, as FSQ 3^8 has, for three levels.

        Other arguments are those of the class.
        """
        return cls((levels,) * 8, lattice="D+", **options)  # type: ignore[arg-type]

    # ---- Codes ----------------------------------------------------------------------------------

    def nearest_codes(self, x: Tensor) -> Tensor:
        """The tokens nearest to x (..., n), inside the box or outside, without gradient."""
        halves, words = self._decode(x.detach())
        return self._points(halves, words, x.dtype)

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """Indices (...) of codes (..., n); the inverse of `indices_to_codes` without projections.

        Codes may be off by less than a quarter of a step.
        """
        halves, words = self._words(codes)
        number = (words * self._basis).sum(dim=-1)
        ids = number.div(2, rounding_mode="floor") + halves * self._words_of_whole
        return ids.to(torch.int32 if self.codebook_size < 2**31 else torch.int64)

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

    def extra_repr(self) -> str:
        """For the printed module."""
        return f"{self.codebook!r}, bound={self.bound_by}"


class LeechQuantizer(_Quantizer):
    """Quantizes to the nearest shortest vector of the Leech lattice, on the unit sphere of R^24.

    In the place of `FSQ` of vector-quantize-pytorch, for 24 coordinates: `forward(z)` gives codes
    and indices, codes with the straight-through gradient; 196,560 tokens, 60 degrees apart. Or with
    `inner`, those at one inner product with one of them, in 23 coordinates (`leech_codebook`).
    Shapes and the arguments that are not here are those of `LatticeQuantizer`.

    Decoding is exact and compares 1,342 octads with their signs, 4,096 words at 24 places of a
    three, and 1,104 vectors with two fours: about 0.2 million operations for a vector, where all
    tokens take 9.4 million. They are made in double precision, `CHUNK` vectors at a time.

    Args:
        inner: 0 (93,150 tokens), 1 (47,104), 2 (4,600), or None (196,560).
        bound: what is done to inputs first: "sphere" (they are divided by their lengths) or "none".
            The nearest token is the same, the gradient is not.

    Attributes: those of `LatticeQuantizer`; `codebook` lists the tokens, when it is asked for.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> import torch
        >>> quantizer = LeechQuantizer()
        >>> codes, indices = quantizer(torch.randn(2, 10, 24))
        >>> codes.shape, indices.shape, quantizer.codebook_size
        (torch.Size([2, 10, 24]), torch.Size([2, 10]), 196560)
        >>> torch.equal(quantizer.indices_to_codes(indices), codes)
        True
    """

    _fours: Tensor
    _signs: Tensor
    _spikes: Tensor
    _rank_of_spike: Tensor
    _twos: Tensor
    _members: Tensor
    _first_ids: Tensor
    _block_of: Tensor

    def __init__(
        self,
        inner: int | None = None,
        *,
        dim: int | None = None,
        num_codebooks: int = 1,
        keep_num_codebooks_dim: bool | None = None,
        bound: SphereBound = "sphere",
        channel_first: bool = False,
        projection_has_bias: bool = True,
        return_indices: bool = True,
    ) -> None:
        self.inner = check_inner(inner)
        parts = leech_parts(self.inner)
        super().__init__(
            parts.size,
            24 if self.inner is None else 23,
            dim=dim,
            num_codebooks=num_codebooks,
            keep_num_codebooks_dim=keep_num_codebooks_dim,
            bound=check_choice(bound, ("sphere", "none"), "bound"),
            channel_first=channel_first,
            projection_has_bias=projection_has_bias,
            return_indices=return_indices,
        )
        #: A number for `from_module`; -1 for all tokens.
        self.leech_inner = -1 if self.inner is None else self.inner
        for name, table in parts._asdict().items():
            if name != "size":
                self.register_buffer(f"_{name}", torch.tensor(table), persistent=False)

    @property
    def codebook(self) -> PointCodebook:
        """The tokens with the same ids, listed: 38 MB for all of them."""
        return leech_codebook(self.inner)

    # ---- Codes ----------------------------------------------------------------------------------

    def nearest_codes(self, x: Tensor) -> Tensor:
        """The tokens nearest to x (..., n), of any length, without gradient."""
        flat = self._lifted(x.detach().to(_widest(x)).reshape(-1, self.codebook_dim))
        found = [self._nearest(part) for part in flat.split(CHUNK)]
        whole = torch.cat(found) if found else flat.long()
        return self._codes(whole).reshape(x.shape).to(x.dtype)

    def codes_to_indices(self, codes: Tensor) -> Tensor:
        """Indices (...) of codes (..., n); the inverse of `indices_to_codes` without projections.

        Codes may be off by 0.08 in every coordinate.
        """
        lifted = self._lifted(codes.detach().to(_widest(codes)) * radius(self.inner))
        whole = lifted + torch.nn.functional.pad(
            torch.full((2,), float(self.inner or 0), dtype=lifted.dtype), (0, 22)
        ).to(lifted)
        return self._ids(whole.round().long().reshape(-1, 24)).reshape(codes.shape[:-1])

    def _indices_to_codes(self, indices: Tensor) -> Tensor:
        ids = indices.to(torch.int64).reshape(-1)
        whole = torch.zeros((ids.numel(), 24), dtype=torch.int64, device=ids.device)
        first_three, first_two = len(self._fours), len(self._fours) + len(self._spikes)
        fours, twos = ids < first_three, ids >= first_two
        whole[fours] = self._fours[ids[fours]].long()
        place, word = self._spikes[ids[~fours & ~twos] - first_three].T
        whole[~fours & ~twos] = self._three(place, word)
        block = torch.searchsorted(self._first_ids, ids[twos], right=True) - 1
        rank = (ids[twos] - self._first_ids[block]).unsqueeze(-1)
        members = self._members[block]
        size = (members < 24).sum(dim=-1, keepdim=True)
        shift = size - 2 - torch.arange(8, device=ids.device)
        minus = (rank >> shift.clamp(min=0)) % 2 * (shift >= 0)
        last = (minus.sum(dim=-1) + (self._twos[block] < 0).sum(dim=-1)) % 2
        minus = minus.scatter(-1, size - 1, last.unsqueeze(-1))
        whole[twos] = self._two(block, minus)
        return self._codes(whole).reshape(*indices.shape, self.codebook_dim).to(self._dtype)

    # ---- Whole coordinates ----------------------------------------------------------------------

    def _lifted(self, x: Tensor) -> Tensor:
        """(..., n) to the 24 coordinates, across the fixed vector."""
        if self.inner is None:
            return x
        first = x[..., :1] / math.sqrt(2)
        return torch.cat([first, -first, x[..., 1:]], dim=-1)

    def _codes(self, whole: Tensor) -> Tensor:
        """Whole coordinates to codes, as `tokenkl.codebooks.leech.flattened`."""
        x = whole.to(_widest(whole))
        if self.inner is not None:
            x = torch.cat([(x[..., :1] - x[..., 1:2]) / math.sqrt(2), x[..., 2:]], dim=-1)
        return x / radius(self.inner)

    def _three(self, place: Tensor, word: Tensor) -> Tensor:
        whole = self._signs[word]
        at = place.unsqueeze(-1)
        return whole.scatter(-1, at, -3 * whole.gather(-1, at))

    def _two(self, block: Tensor, minus: Tensor) -> Tensor:
        """Tokens of blocks whose members have these signs."""
        room = torch.zeros((block.numel(), 25), dtype=torch.int64, device=block.device)
        room[:, :2] = self._twos[block]
        return room.scatter(-1, self._members[block], 2 - 4 * minus)[:, :24]

    def _nearest(self, x: Tensor) -> Tensor:
        """The tokens of the largest inner products with x (rows, 24): all are equally long."""
        twos, two = self._best_two(x)
        best, whole = twos, two
        signs = self._signs.to(x.dtype)
        sums = x @ signs.T
        for place, words in enumerate(self._words_by_place()):
            if words.numel():
                three, chosen = (
                    sums[:, words] - 4 * x[:, place : place + 1] * signs[words, place]
                ).max(dim=-1)
                better = three > best
                at = torch.full_like(chosen[better], place)
                whole[better] = self._three(at, words[chosen[better]])
                best = torch.maximum(best, three)
        if len(self._fours):
            four, chosen = (x @ self._fours.to(x.dtype).T).max(dim=-1)
            whole[four > best] = self._fours[chosen[four > best]].long()
        return whole

    def _words_by_place(self) -> tuple[Tensor, ...]:
        counts = torch.bincount(self._spikes[:, 0], minlength=24).tolist()
        return self._spikes[:, 1].split(counts)

    def _best_two(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest inner product with a token of eight twos, and that token.

        In a block every other coordinate has the sign of x; if that makes an odd number of minus
        signs, the one of the smallest |x| changes.
        """
        size, minus = x.abs(), x < 0
        twos = self._twos.to(x.dtype)
        # Which places the members are, (25, B); the last row is for those that are missing.
        inside = torch.zeros((25, len(twos)), dtype=x.dtype, device=x.device)
        inside = inside.scatter(0, self._members.T, 1.0)[:24]
        odd = (minus.to(x.dtype) @ inside + (twos < 0).sum(dim=-1)) % 2
        padded = torch.nn.functional.pad(size, (0, 1), value=math.inf)
        least = padded[:, self._members].amin(dim=-1)
        score = x[:, :2] @ twos.T + 2 * (size @ inside) - 4 * odd * least
        best, block = score.max(dim=-1)
        members = self._members[block]
        chosen = torch.nn.functional.pad(minus, (0, 1)).gather(-1, members).long()
        weakest = padded.gather(-1, members).argmin(dim=-1, keepdim=True)
        wrong = odd.gather(-1, block.unsqueeze(-1)).long()
        flipped = (chosen.gather(-1, weakest) + wrong) % 2
        return best, self._two(block, chosen.scatter(-1, weakest, flipped))

    def _ids(self, whole: Tensor) -> Tensor:
        """Ids of tokens in whole coordinates (rows, 24)."""
        size = whole.abs()
        most, place = size.max(dim=-1)
        ids = torch.zeros_like(place)
        four, three, two = most == 4, most == 3, most == 2
        if len(self._fours):
            alike = whole[four].double() @ self._fours.double().T
            ids[four] = alike.argmax(dim=-1)
        binary = 2 ** torch.arange(11, -1, -1, device=whole.device)
        # The sign at a three is that of the word, changed.
        at = place[three].unsqueeze(-1)
        bits = (whole[three] < 0).long()
        bits = bits.scatter(-1, at, 1 - bits.gather(-1, at))
        word = (bits[:, :12] * binary).sum(dim=-1)
        ids[three] = len(self._fours) + self._rank_of_spike[place[three], word]
        word = (size[two][:, :12] // 2 * binary).sum(dim=-1)
        head = whole[two][:, :2] // 2 + 1
        block = self._block_of[word, 3 * head[:, 0] + head[:, 1]]
        members = self._members[block]
        minus = torch.nn.functional.pad(whole[two] < 0, (0, 1)).gather(-1, members).long()
        count = (members < 24).sum(dim=-1, keepdim=True)
        shift = count - 2 - torch.arange(8, device=whole.device)
        rank = ((minus * (shift >= 0)) << shift.clamp(min=0)).sum(dim=-1)
        ids[two] = self._first_ids[block] + rank
        return ids.to(torch.int32)

    def extra_repr(self) -> str:
        """For the printed module."""
        kind = "all" if self.inner is None else f"inner product {self.inner}"
        return f"Leech, {kind}: K = {self.codebook_size:,}, bound={self.bound_by}"


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
