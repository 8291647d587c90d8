"""`Layout`, how a family of programs stores a codebook, and `Part`, what one is given to read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NoReturn, Protocol

import numpy as np

from tokenkl._formats import Arrays
from tokenkl._validation import MAX_COORDINATES, as_float_array, shortened
from tokenkl.codebooks.base import Codebook

Shapes = Mapping[str, tuple[int, ...]]
#: One table of points; vectors of stages that add up; tables of coordinates side by side.
Structure = Literal["vq", "rvq", "product"]
#: The space that the codes live in, or the one that they are projected to.
Space = Literal["latent", "decoded"]
#: Vectors divided by their lengths, as quantizers that compare directions use them, or as they are.
Lengths = Literal["unit", "stored"]


@dataclasses.dataclass(frozen=True)
class Part:
    """The arrays of a file whose names begin with `owner`; names are given without it.

    Args:
        arrays: all arrays of the file.
        owner: "" for the whole file, or a name that ends with a dot.
        structure: what the reader of the file says it is, None where the layout has to know.
        space: the space that is asked for, None for the layout's own choice.
        allow_duplicates: accept equal rows.
        lengths: of the vectors of tables; None where nobody said.
        used: the arrays that were read, in order; shared by the parts of a file.
        remarks: what else there is to say on how they were read; shared, too.
    """

    arrays: Arrays
    owner: str = ""
    structure: Structure | None = None
    space: Space | None = None
    allow_duplicates: bool = False
    lengths: Lengths | None = None
    used: list[str] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        """What the codebook is called in tables and legends: the file without its ending."""
        return Path(self.arrays.file.path.name.removesuffix(".index.json")).stem

    def above(self) -> Part:
        """The part that this one, a list in it, belongs to."""
        home = self.owner[:-1].rpartition(".")[0]
        return dataclasses.replace(self, owner=f"{home}." if home else "")

    def below(self, name: str) -> Part:
        """The part of this one whose names begin with `name`."""
        return dataclasses.replace(self, owner=self.owner + name)

    def names(self) -> list[str]:
        """Names of the arrays of this part, single numbers left out."""
        start, shapes = len(self.owner), self.arrays.shapes
        return [name[start:] for name in shapes if name.startswith(self.owner) and shapes[name]]

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of an array, None where there is none of this name."""
        return self.arrays.shapes.get(self.owner + name)

    def read(self, name: str) -> np.ndarray:
        """The finite numbers of an array, as float64."""
        full = self.owner + name
        if full not in self.used and self.shape(name):
            self.used.append(full)
        return np.asarray(as_float_array(shortened(full, 80), self.arrays.read(full)))

    def length(self) -> int:
        """How many members this part, a list, has: 0.x, 1.x, and so on.

        Raises:
            ValueError: a number is left out.
        """
        heads = {name.partition(".")[0] for name in self.names()}
        places = sorted(int(head) for head in heads if head.isascii() and head.isdigit())
        if places != list(range(len(places))):
            shown = listed([str(place) for place in places])
            self.refuse(f"the layers of {self.owner[:-1]} in it are numbered {shown}")
        return len(places)

    def copies(self, name: str, n: int, otherwise: int = 1) -> int:
        """How many alike, of so many coordinates each, stand beside each other.

        Raises:
            ValueError: a number that no quantizer has.
        """
        count = self.number(name, max(otherwise, 1))
        if not 1 <= count <= MAX_COORDINATES / n:
            self.refuse(f"{self.owner}{name} in it is {count:g}")
        return int(count)

    def number(self, name: str, otherwise: float = 0.0) -> float:
        """A single number, which a module in memory gives and a file mostly does not."""
        return float(self.read(name)) if self.shape(name) == () else otherwise

    def refuse(self, why: str) -> NoReturn:
        """This file is not what was expected."""
        self.arrays.file.refuse(why)


class Layout(Protocol):
    """How a family of programs stores a quantizer: where one lies, and how it is read."""

    @property
    def name(self) -> str:
        """What it is, for people: "residual quantizer"."""

    def claims(self, shapes: Shapes) -> Mapping[str, Iterable[str]]:
        """The owner of every quantizer of this layout, and the arrays that are its codebooks."""

    def read(self, part: Part) -> Codebook:
        """The quantizer of this owner.

        Raises:
            ValueError: arrays that make none, or one whose points follow from more than arrays.
        """


def listed(names: Sequence[str], most: int = 12, width: int = 60) -> str:
    """Names of a file as messages list them, the first few."""
    shown = [shortened(name, width) for name in names[:most]]
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*shown, *more])


def ranges(names: Sequence[str]) -> str:
    """The same in fewer words: "a.0.x to a.7.x (8)" for names that differ in a number."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"(^|\.)\d+\.", ".#.", name), []).append(shortened(name, 100))
    shown = [
        f"{group[0]} to {group[-1]} ({len(group)})" if len(group) > 2 else " and ".join(group)
        for group in groups.values()
    ]
    return listed(shown, 6, 300) if shown else "no array"
