"""Groups of codevectors, as in wav2vec 2.0 and vq-wav2vec, each with coordinates of its own."""

from __future__ import annotations

import re

import numpy as np

from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.layouts import combine
from tokenkl.codebooks.layouts.base import Part, Shapes
from tokenkl.codebooks.layouts.tables import as_used


class Groups:
    """(1, groups K, d) codevectors of transformers and fairseq, or its (K, groups, d) centres."""

    name = "groups of codevectors"
    _name = re.compile(
        r"(?P<owner>(?:.*\.)?)(quantizer\.(codevectors|vars)|vector_quantizer\.(vars|embedding))"
    )

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        matches = (self._name.fullmatch(name) for name, shape in shapes.items() if len(shape) == 3)
        return {match["owner"]: [match[0]] for match in matches if match}

    def read(self, part: Part) -> Codebook:
        name = next(name for name in part.names() if self._name.fullmatch(name))
        home = part.below(f"{name.rpartition('.')[0]}.")
        vectors = part.read(name)
        if 0 in vectors.shape:
            part.refuse(f"{part.owner}{name} in it has shape {vectors.shape}")
        vectors = as_used(part, part.owner + name, vectors)
        n = vectors.shape[2]
        if name.endswith("embedding"):
            tables = list(vectors.swapaxes(0, 1))
            count = home.copies("groups", n, _size(home, "projection.0.weight", 0) // n)
        else:
            rows = vectors.shape[0] * vectors.shape[1]
            scores = _size(home, "weight_proj.weight", 0) or rows
            # Groups that share vectors have scores of their own.
            guess = scores // rows if scores != rows else _size(part, "project_q.weight", 1) // n
            count = home.copies("num_groups", n, int(home.number("groups", guess)))
            tables = np.split(
                vectors.reshape(rows, n), 1 if scores != rows else _parts(rows, count)
            )
            if guess < 1 and count == 1:
                part.refuse(
                    f"{part.owner}{name} in it has vectors of several groups, and nothing says how "
                    "many; save them as an array (groups, K, d) and say structure='product'"
                )
        if len(tables) not in (1, count):
            part.refuse(f"{part.owner}{name} in it has {len(tables)} groups where {count} are used")
        tables *= count // len(tables)
        part.remarks.append(f"{count} groups, each with coordinates of its own")
        return combine.beside(part, [combine.points(part, table) for table in tables])


def _size(part: Part, name: str, axis: int) -> int:
    """The length of an axis of an array; 0 where there is none."""
    shape = part.shape(name) or ()
    return shape[axis] if axis < len(shape) else 0


def _parts(rows: int, count: int) -> int:
    """As many parts as there are groups, where rows can be shared out among them; else one."""
    return 1 if rows % count else count
