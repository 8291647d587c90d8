"""How programs store codebooks: `LAYOUTS`, an entry for each way, and `interpret`, which asks."""

from __future__ import annotations

import dataclasses
import typing
from typing import NamedTuple, TypeVar

from tokenkl._formats import Opened
from tokenkl._validation import check_choice, reject, shortened
from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.codebooks.layouts import plain
from tokenkl.codebooks.layouts.base import (
    Layout,
    Lengths,
    Part,
    Space,
    Structure,
    listed,
    ranges,
)
from tokenkl.codebooks.layouts.embeddings import Embeddings
from tokenkl.codebooks.layouts.faiss import Faiss
from tokenkl.codebooks.layouts.groups import Groups
from tokenkl.codebooks.layouts.scalar import Latent, OfSpeech, ResidualScalar, Scalar
from tokenkl.codebooks.layouts.tables import DIVIDED
from tokenkl.codebooks.layouts.tabular import Branches, Grouped, Residual, Single
from tokenkl.codebooks.parts import Product
from tokenkl.codebooks.product import ProductCodebook
from tokenkl.codebooks.residual import ResidualCodebook

__all__ = [
    "LAYOUTS",
    "Layout",
    "Lengths",
    "Part",
    "Space",
    "Structure",
    "check_structure",
    "check_words",
    "interpret",
    "listed",
    "register_layout",
]

#: In the order of preference: an array that one of them claims is not offered to the next.
LAYOUTS: list[Layout] = [
    Grouped(Residual()),
    Grouped(ResidualScalar()),
    Branches(),
    Residual(),
    ResidualScalar(),
    Groups(),
    OfSpeech(),
    Single(),
    Latent(),
    Scalar(),
    Faiss(),
]
#: Where no quantizer is found.
OTHERWISE: list[Layout] = [Embeddings()]


class _Meaning(NamedTuple):
    words: str
    kinds: tuple[type[Codebook], ...]


STRUCTURES: dict[Structure, _Meaning] = {
    "vq": _Meaning("one table of points", (PointCodebook, ProductCodebook)),
    "rvq": _Meaning("the stages of a residual codebook", (ResidualCodebook,)),
    "product": _Meaning("the parts of a product", (Product, ProductCodebook)),
}


Kind = TypeVar("Kind", bound=type[Layout])


def register_layout(kind: Kind) -> Kind:
    """Make a layout known to `load_codebook` and `from_module`, before those of tokenkl.

    A decorator of a class with `name`, `claims` and `read` (docs/extending.md); one of the same
    name is replaced.
    """
    layout = kind()
    LAYOUTS[:] = [layout, *(known for known in LAYOUTS if known.name != layout.name)]
    return kind


def interpret(part: Part, key: str | None) -> tuple[Codebook, str]:
    """The codebook in these arrays, and a sentence on which of them were read, and how.

    Args:
        part: all arrays of a file, and what its reader knows of them.
        key: the name of one array, or of the module whose arrays are meant.

    Raises:
        ValueError: no codebook, several, or one that is not of the structure asked for.
    """
    shapes = part.arrays.shapes
    if key in shapes and key is not None:
        return _told(part, plain.read(part, key), "array")
    if key is not None:
        key = key.rstrip(".")
        if not any(name.startswith(f"{key}.") for name in shapes):
            part.refuse(f"no array or module in it is named {shortened(key, 60)!r}")
    for layouts in (LAYOUTS, OTHERWISE):
        found = _found(part, layouts, key)
        if len(found) > 1:
            shown = [f"{one.owner.rstrip('.') or one.table} ({one.layout.name})" for one in found]
            part.refuse(
                f"it holds {len(found)} codebooks: {listed(shown)}; choose one with key=NAME"
            )
        if found:
            [one] = found
            inner = dataclasses.replace(part, owner=one.owner)
            return _told(part, one.layout.read(inner), one.layout.name)
    inner = part if key is None else part.below(f"{key}.")
    names = [inner.owner + name for name in plain.choose(inner)]
    return _told(part, plain.read(part, *names), "array")


class _Found(NamedTuple):
    layout: Layout
    owner: str
    table: str


def _found(part: Part, layouts: list[Layout], key: str | None) -> list[_Found]:
    """Every quantizer, by the first layout that claims its arrays."""
    left = dict(part.arrays.shapes)
    if key is not None:
        left = {name: shape for name, shape in left.items() if name.startswith(f"{key}.")}
    found = []
    for layout in layouts:
        for owner, names in layout.claims(left).items():
            if key is None or owner.startswith(f"{key}."):
                taken = set(names)
                found.append(_Found(layout, owner, min(taken)))
                left = {name: shape for name, shape in left.items() if name not in taken}
    return found


def _told(part: Part, codebook: Codebook, what: str) -> tuple[Codebook, str]:
    if part.space == "decoded" and not any("decoded" in remark for remark in part.remarks):
        part.remarks.append("no projection: decoded codes are the codes")
    if part.lengths == "unit" and DIVIDED not in part.remarks:
        part.refuse("it holds no table whose vectors could be divided by their lengths")
    how = ", ".join([f"{what}: {ranges(part.used)}", *dict.fromkeys(part.remarks)])
    check_structure(part.arrays.file, codebook, part.structure, how)
    return codebook, how


def check_words(
    structure: Structure | None, space: Space | None, lengths: Lengths | None, key: str | None
) -> None:
    """What a user says of a file is one of the words for it, or nothing."""
    if key is not None and not isinstance(key, str):
        reject("key", key, "the name of an array or of a module, or None")
    if structure is not None:
        check_choice(structure, tuple(STRUCTURES), "structure")
    if space is not None:
        check_choice(space, typing.get_args(Space), "space")
    if lengths is not None:
        check_choice(lengths, typing.get_args(Lengths), "lengths")


def check_structure(
    file: Opened, codebook: Codebook, structure: Structure | None, how: str
) -> None:
    """Refuse a codebook that is not what the user took it for."""
    if structure is not None and not isinstance(codebook, STRUCTURES[structure].kinds):
        file.refuse(
            f"it was to hold {STRUCTURES[structure].words}, and it holds {codebook!r} ({how})"
        )
