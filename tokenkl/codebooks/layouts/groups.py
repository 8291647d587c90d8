"""Groups of codevectors, as in wav2vec 2.0 and vq-wav2vec, each with coordinates of its own."""

from __future__ import annotations

import re

import numpy as np

from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.layouts import combine
from tokenkl.codebooks.layouts.base import Part, Shapes
from tokenkl.codebooks.layouts.tables import check_trained


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
        check_trained(part, part.owner + name, vectors)
        if name.endswith("embedding"):
            tables = list(vectors.swapaxes(0, 1))
            inside = (home.shape("projection.0.weight") or (0,))[0]
            count = inside // vectors.shape[2] or len(tables)
        else:
            rows, dimension = vectors.shape[1:]
            scores = (home.shape("weight_proj.weight") or (rows,))[0]
            inside = (part.shape("project_q.weight") or (0, 0))[1]
            shared = scores != rows  # by all groups, each of which has scores of its own
            count = int(home.number("groups", home.number("num_groups")))
            count = count or (scores // rows if shared else inside // dimension)
            if count < 1 or rows % (1 if shared else count) or len(vectors) != 1:
                part.refuse(
                    f"{part.owner}{name} in it has vectors of several groups, and nothing says how "
                    "many; save them as an array (groups, K, d) and say structure='product'"
                )
            tables = list(vectors[0].reshape(1 if shared else count, -1, dimension))
        if len(tables) not in (1, count):
            part.refuse(f"{part.owner}{name} in it has {len(tables)} groups where {count} are used")
        tables *= count // len(tables)
        part.remarks.append(f"{count} groups, each with coordinates of its own")
        return combine.beside(part, [combine.points(part, np.asarray(table)) for table in tables])
