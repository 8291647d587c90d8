"""Quantizers without tables (FSQ, FSP, LFQ, BSQ, cuts of lattices), whose codes only modules know.

A file has at most their projections. A module has the rest as attributes, and `tk.from_module`
hands it on in the same way as arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np

from tokenkl._formats import FREE_NUMBERS
from tokenkl._validation import MAX_COORDINATES, MAX_ELEMENTS
from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.checkerboard import Checkerboard
from tokenkl.codebooks.lattice import LatticeCodebook
from tokenkl.codebooks.layouts import combine
from tokenkl.codebooks.layouts.base import Part, Shapes
from tokenkl.codebooks.layouts.linear import Linear, projection
from tokenkl.codebooks.leech import leech_codebook
from tokenkl.codebooks.product import FSQ, ProductCodebook

#: Standard deviation of a uniform number in [0, 1], by which FSP divides.
UNIFORM = 0.28867513459481287


def _levels(part: Part, name: str = "_levels") -> list[int]:
    """How many levels each coordinate has."""
    counts = part.read(name)
    if counts.ndim != 1 or (counts < 1).any() or counts.sum() > FREE_NUMBERS:
        part.refuse(f"{part.owner}{name} in it are no numbers of levels")
    return [int(count) for count in counts]


def _fsq(part: Part) -> ProductCodebook:
    kind = "symmetric" if part.number("preserve_symmetry") else "rounding"
    return FSQ(_levels(part), grid=kind, order="F")  # type: ignore[arg-type]


def _fsp(part: Part) -> ProductCodebook:
    if part.number("need_inv_act"):
        part.refuse("its codes go back through an activation (need_inv_act), which is not read")
    levels = [((np.arange(count) + 0.5) / count - 0.5) / UNIFORM for count in _levels(part)]
    return ProductCodebook(levels, order="F", name=part.name)


def _lfq(part: Part) -> ProductCodebook:
    n = len(part.read("mask"))
    if n > MAX_COORDINATES:
        part.refuse(f"{part.owner}mask in it has {n:,} bits")
    scale = part.number("codebook_scale")
    if part.number("spherical"):  # BSQ: on a sphere of this radius
        scale /= math.sqrt(n)
    return ProductCodebook([scale * np.array([-1.0, 1.0])] * n, name=part.name)


def _lattice(part: Part) -> Codebook:
    levels = _levels(part, "_lattice_levels")
    if part.number("adds_halves"):
        return LatticeCodebook("D+", levels[0], len(levels))
    return Checkerboard(levels, spacing="equal" if part.number("equal_spacing") else "box")


def _leech(part: Part) -> Codebook:
    inner = int(part.number("leech_inner"))
    return leech_codebook(inner if inner >= 0 else None)


#: Arrays and numbers that tell a scalar quantizer -> how its grid is made.
GRIDS: dict[tuple[str, ...], Callable[[Part], Codebook]] = {
    ("_levels", "preserve_symmetry"): _fsq,
    ("_levels", "need_inv_act"): _fsp,
    ("mask", "codebook_scale", "spherical"): _lfq,
    ("_lattice_levels", "adds_halves", "equal_spacing"): _lattice,
    ("_spikes", "leech_inner"): _leech,
}


class Scalar:
    """FSQ, FSP, LFQ or BSQ of vector-quantize-pytorch or one of `tokenkl.torch`, as a module."""

    name = "scalar quantizer"

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for marks in GRIDS:
            for name in shapes:
                owner, dot, last = name.rpartition(".")
                if last == marks[0] and all(owner + dot + mark in shapes for mark in marks):
                    found[owner + dot] = [owner + dot + mark for mark in marks]
        return found

    def read(self, part: Part) -> Codebook:
        return several(part, _turned(part))


class ResidualScalar:
    """ResidualFSQ or ResidualLFQ: each stage has a finer grid, and their codes add up."""

    name = "residual scalar quantizer"
    _stage = re.compile(r"(?P<home>(?:.*\.)?layers\.)(?P<place>\d+)\.")

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for owner, names in Scalar().claims(shapes).items():
            if stage := self._stage.fullmatch(owner):
                found.setdefault(stage["home"], []).extend(names)
        return found

    def read(self, part: Part) -> Codebook:
        home = part.above()
        scales = None if home.shape("scales") is None else home.read("scales")
        stages = []
        for place in range(part.length()):
            stage = part.below(f"{place}.")
            if stage.shape("orthogonal_rot") is not None:
                part.refuse(
                    "its stages are rotated, of which the library's own decoder knows nothing"
                )
            grid = _grid(stage)
            if grid.K * grid.n > MAX_ELEMENTS:
                part.refuse(f"its stages have {grid.K:,} tokens, too many to be listed")
            stages.append(grid.points if scales is None else grid.points * scales[place])
        return combine.decoded(part, combine.added(part, stages), projection(home))


class Latent:
    """LatentQuantize: a grid whose levels are learned, in files too."""

    name = "learned grid (LatentQuantize)"
    _level = re.compile(r"(?P<owner>(?:.*\.)?)values_per_latent\.\d+")

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for match in filter(None, map(self._level.fullmatch, shapes)):
            found.setdefault(match["owner"], []).append(match[0])
        return found

    def read(self, part: Part) -> Codebook:
        values = part.below("values_per_latent.")
        levels = [values.read(str(place)) for place in range(values.length())]
        return several(part, ProductCodebook(levels, order="F", name=part.name))


class OfSpeech:
    """The FSQ of CosyVoice 2 and S3Tokenizer 2: three levels in each of eight coordinates."""

    name = "FSQ of S3Tokenizer"
    _down = re.compile(r"(?P<owner>(?:.*\.)?(?:_|fsq_)codebook\.)project_down\.weight")

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        matches = (self._down.fullmatch(name) for name in shapes)
        return {match["owner"]: [match[0]] for match in matches if match}

    def read(self, part: Part) -> Codebook:
        shape = part.shape("project_down.weight") or ()
        if len(shape) != 2 or shape[0] != 8:
            part.refuse(f"{part.owner}project_down.weight in it has shape {shape}, not eight rows")
        part.remarks.append("3 levels in each of 8 coordinates, the first fastest in the ids")
        return FSQ((3,) * 8, order="F")


def without_points(part: Part) -> str | None:
    """What a file tells that has the projections, rotation or bits of a quantizer, and no codes."""
    advice = "or use tk.from_module on the module"
    for name in part.names():
        last = name.rpartition(".")[2]
        shape = part.shape(name) or ()
        if last in ("mask", "basis") and len(shape) == 1 and shape[0] < 63:
            bits = part.arrays.read(part.owner + name)
            if np.array_equal(bits, 2 ** np.arange(shape[0])[::-1]):
                return (
                    f"it holds the bits of an LFQ or BSQ, {name}, which has no table: write its "
                    f"grid itself, fsq:2^{shape[0]} or bsq:{shape[0]}, {advice}"
                )
        is_out = name.endswith("project_out.weight") and len(shape) == 2
        inwards = f"{name.removesuffix('out.weight')}in.weight"
        if last == "orthogonal_rot" or (is_out and part.shape(inwards) is not None):
            return (
                f"it holds {name} of a quantizer without a table, such as FSQ: write its grid of "
                f"{shape[-1]} coordinates itself, as fsq:LEVELS:rounding (fsq:LEVELS:symmetric:F "
                f"where preserve_symmetry is on), {advice}"
            )
    return None


def _grid(part: Part) -> Codebook:
    for marks, make in GRIDS.items():
        if all(part.shape(mark) is not None for mark in marks):
            return make(part)
    part.refuse(f"{part.owner[:-1]} in it is no quantizer like the others")


def _turned(part: Part) -> Codebook:
    """The grid of a module, behind the rotation that it may have."""
    grid = _grid(part)
    if part.shape("orthogonal_rot") is None:
        return grid
    part.remarks.append("rotated")
    turn = part.read("orthogonal_rot")
    return combine.projected(part, grid, Linear(turn, np.zeros(len(turn))), "orthogonal_rot")


def several(part: Part, one: Codebook) -> Codebook:
    """One codebook, or several alike beside each other, and what is behind their projection."""
    shape = part.shape("project_in.weight")
    count = part.copies("num_codebooks", one.n, shape[0] // one.n if shape else 1)
    if count > 1:
        part.remarks.append(f"{count} codebooks, each with coordinates of its own")
    return combine.decoded(part, combine.beside(part, [one] * count), projection(part))
