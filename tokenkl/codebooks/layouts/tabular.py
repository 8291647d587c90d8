"""Quantizers with tables: one, a list of them that add up (RVQ), groups of such lists, branches.

vector-quantize-pytorch, EnCodec, DAC, SNAC, Mimi, X-codec, SpeechTokenizer, WavTokenizer and
S3Tokenizer compose the same few modules, and differ in what they call them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

import numpy as np

from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.layouts import combine
from tokenkl.codebooks.layouts.base import Layout, Part, Shapes
from tokenkl.codebooks.layouts.linear import OUT, Linear, projection
from tokenkl.codebooks.layouts.tables import NAME, read_table, tables_of

#: The names of a list and of the tables in it that programs use for stages that add up.
RESIDUAL = re.compile(
    r"(.*\.)?(layers\.\d+\.(_?codebook\.(embed|embed_sum|embedding_sum)|frozen_codebook)"
    r"|quantizers\.\d+\.codebook\.(weight|embed))"
)
#: A member of a list: the list, and the place in it.
MEMBER = re.compile(r"(?P<home>(?:.*\.)?[^.\d][^.]*\.)(?P<place>\d+)\.")
#: What a member of a list may have besides its table: the ways in and out.
AROUND = re.compile(rf"(project_in|in_proj|input_proj|code_transform|{'|'.join(OUT)})\..*")
#: Branches that a codec adds up behind their projections, in the order of its codes.
BRANCHES = (
    ("semantic_residual_vector_quantizer.layers.", "acoustic_residual_vector_quantizer.layers."),
    ("rvq_first.vq.layers.", "rvq_rest.vq.layers."),
)


class Single:
    """One table, of one or several heads, and maybe a projection."""

    name = "vector quantizer"

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        return {one.owner: [one.owner + one.table] for one in tables_of(shapes)}

    def read(self, part: Part) -> Codebook:
        heads, out = list(read_table(part)), projection(part)
        if len(heads) == 1:  # one table may serve several heads, which shows in the projection
            n = heads[0].shape[1]
            heads *= part.copies("heads", n, out.n_in // n if out else 1)
        if len(heads) > 1:
            part.remarks.append(f"{len(heads)} heads, each with coordinates of its own")
        codebook = combine.beside(part, [combine.points(part, one) for one in heads])
        return combine.decoded(part, codebook, out)


class Residual:
    """A list of tables whose vectors add up, each behind its own projection or all behind one."""

    name = "residual quantizer"

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        lists: dict[str, dict[int, str]] = {}
        for one in tables_of(shapes):
            if member := MEMBER.fullmatch(one.owner):
                tables = lists.setdefault(member["home"], {})
                tables[int(member["place"])] = one.owner + one.table
        return {home: list(t.values()) for home, t in lists.items() if _is_list(t)}

    def read(self, part: Part) -> Codebook:
        home = part.above()
        outer = home.above() if home.owner.endswith("vq.") else home  # its projection is there
        if home.below("mlps.").names():
            part.refuse(
                f"vectors of its stages depend on those of the stages before, through "
                f"{home.owner}mlps: a neural codebook is no sum of tables"
            )
        stages = [part.below(f"{place}.") for place in range(part.length())]
        means = part.structure
        if all(RESIDUAL.fullmatch(part.owner + name) for name in _tables(part)):
            means = "rvq"
        if means not in ("rvq", "product"):
            part.refuse(
                f"{part.owner[:-1]} in it is a list of {len(stages)} tables; say structure='rvq' "
                "if their vectors add up, structure='product' if each has coordinates of its own"
            )
        vectors, outs = [_one_head(one) for one in stages], [projection(one) for one in stages]
        if means == "product":
            pairs = zip(stages, vectors, outs, strict=True)
            codebooks = [combine.decoded(s, combine.points(s, v), out) for s, v, out in pairs]
            return combine.decoded(part, combine.beside(part, codebooks), projection(outer))
        if any(outs):
            return _each_projected(part, vectors, outs)
        return combine.decoded(part, combine.added(part, vectors), projection(outer))


class Grouped:
    """Quantizers of groups of coordinates, as the classes Grouped... of vector-quantize-pytorch."""

    _group = re.compile(r"(?P<home>(?:.*\.)?rvqs\.)(?P<place>\d+)\.layers\.")

    def __init__(self, inner: Layout) -> None:
        self.inner = inner
        self.name = f"grouped {inner.name}"

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for owner, names in self.inner.claims(shapes).items():
            if group := self._group.fullmatch(owner):
                found.setdefault(group["home"], []).extend(names)
        return found

    def read(self, part: Part) -> Codebook:
        inner = dataclasses.replace(part, structure=None)
        groups = [self.inner.read(inner.below(f"{i}.layers.")) for i in range(part.length())]
        part.remarks.append(f"{len(groups)} groups, each with coordinates of its own")
        return combine.beside(part, groups)


class Branches:
    """Two residual quantizers whose projected sums are added: Mimi's semantic and acoustic ones."""

    name = "residual quantizer in two branches"

    def claims(self, shapes: Shapes) -> dict[str, list[str]]:
        lists = Residual().claims(shapes)
        return {
            first.removesuffix(pair[0]): [*lists[first], *lists[second]]
            for pair in BRANCHES
            for first in lists
            if first.endswith(pair[0])
            if (second := first.removesuffix(pair[0]) + pair[1]) in lists
        }

    def read(self, part: Part) -> Codebook:
        vectors: list[np.ndarray] = []
        outs: list[Linear | None] = []
        for name in next(pair for pair in BRANCHES if part.below(pair[0]).names()):
            branch = part.below(name)
            stages = [_one_head(branch.below(f"{place}.")) for place in range(branch.length())]
            vectors += stages
            outs += [projection(part.below(f"{name.partition('.')[0]}."))] * len(stages)
        return _each_projected(part, vectors, outs)


def _is_list(tables: dict[int, str]) -> bool:
    """Whether members of a list are the stages of one quantizer, not modules of a network."""
    if all(map(RESIDUAL.fullmatch, tables.values())):
        return 0 in tables or len(tables) > 1
    return len(tables) > 1 and set(tables) == set(range(len(tables)))


def _tables(part: Part) -> Iterable[str]:
    return filter(NAME.fullmatch, part.names())


def _one_head(stage: Part) -> np.ndarray:
    for name in stage.names():
        if not (AROUND.fullmatch(name) or re.match(r"_?codebook\.|frozen_codebook$", name)):
            stage.refuse(
                f"{stage.owner}{name} stands in it beside the vectors of a stage, which may then "
                "not be all that is added up"
            )
    vectors = read_table(stage)
    if len(vectors) != 1:
        stage.refuse(f"{stage.owner[:-1]} in it has {len(vectors)} heads; a stage has one")
    return vectors[0]


def _each_projected(part: Part, vectors: list[np.ndarray], outs: list[Linear | None]) -> Codebook:
    """Stages add up behind their projections; before them, each has coordinates of its own."""
    if part.space == "latent":
        part.remarks.append("before the projections of the stages, side by side")
        return combine.beside(part, [combine.points(part, table) for table in vectors])
    part.remarks.append("decoded, behind the projections of the stages")
    stages = []
    for table, out in zip(vectors, outs, strict=True):
        if out is not None and out.n_in != table.shape[1]:
            part.refuse(
                f"a projection in it is for vectors of {out.n_in} numbers, and those of its stage "
                f"have {table.shape[1]}"
            )
        stages.append(table if out is None else out(table))
    return combine.added(part, stages)
