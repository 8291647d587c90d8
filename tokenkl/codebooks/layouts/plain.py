"""Arrays that no program named: a table of points, or three axes that the user has to explain."""

from __future__ import annotations

import re
from typing import NoReturn

import numpy as np

from tokenkl._validation import real_coordinates
from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.layouts import combine
from tokenkl.codebooks.layouts.base import Part, Shapes, listed, ranges
from tokenkl.codebooks.layouts.linear import projection
from tokenkl.codebooks.layouts.scalar import without_points
from tokenkl.codebooks.layouts.tables import as_used, is_computed, quantizer_of

#: Words in names of matrices that are no codebooks: maps between layers, positions, statistics.
OTHER = re.compile(
    r"proj\w*|conv\w*|mlp|fc\d*|ffn|attn\d*|attention|linear\d*|dense|head|norm\d*|ln|bias|w?pe|pos"
    r"|position\w*|type|lstm|rnn|gru|ih|hh|original\d|transform|avg|sum|usage|size|frozen|rot"
)
#: The last word in names of tables that are.
LIKELY = re.compile(
    r"codebooks?|codewords?|embed|embeddings?|emb|centroids?|cent(er|re)s?|codevectors?|vocab\w*"
    r"|tokens|codes|points|table|vectors"
)
#: What whole numbers are multiplied by, or moved by, that stand for others: beside them.
SCALE = re.compile(r"(?:\w*_)?(?:scales?|scale_inv|absmax|scb|zero_points?|q?zeros)", re.IGNORECASE)
#: Tables with a token in each column: of dm-haiku.
COLUMNS = re.compile(r"(?:.*/)?vector_quantizer\w*/embeddings")


def choose(part: Part) -> list[str]:
    """The name of the one array that can be the codebook, or those of a list that is asked for.

    Raises:
        ValueError: none, or several.
    """
    shapes = {name: part.shape(name) or () for name in part.names()}
    if why := without_points(part):
        part.refuse(why)
    matrices = [name for name, shape in shapes.items() if len(shape) in (2, 3)]
    fitting = [name for name in matrices if not _is_layer(name, shapes)]
    likely = [name for name in fitting if LIKELY.fullmatch(_words(name)[-1])]
    if not likely and len(fitting) == len(matrices) == 1:  # nothing else that it could be
        likely = fitting
    if not matrices and len(shapes) == 1:  # to say what is wrong with it; or complex, in one row
        likely = list(shapes)
    if len(likely) == 1:
        return likely
    if part.structure in ("rvq", "product") and (members := _members(likely or fitting)):
        return members
    if fitting:
        shown = _with_shapes(likely or fitting, shapes)
        part.refuse(f"it holds the arrays {shown}; choose one with key=NAME")
    _nothing(part, shapes)


def _members(names: list[str]) -> list[str]:
    """Names that differ in one number alone, 0, 1, 2, ..., in that order; else none."""
    parts = [re.split(r"(\d+)", name) for name in names]
    if len(set(map(len, parts))) != 1:
        return []
    differing = [one for one in zip(*parts, strict=True) if len(set(one)) > 1]
    if len(differing) != 1 or not all(map(str.isdecimal, differing[0])):
        return []
    numbered = dict(zip(map(int, differing[0]), names, strict=True))
    if set(numbered) != set(range(len(names))):
        return []
    return [numbered[place] for place in range(len(names))]


def _is_layer(name: str, shapes: Shapes) -> bool:
    """Whether a matrix is a map between layers: by its name, or by a bias for each of its rows."""
    bias = re.sub(r"weight$", "bias", name)
    is_biased = bias != name and shapes.get(bias) == shapes[name][:1]
    is_half = name.endswith(("weight_g", "weight_v"))  # length or direction
    return is_biased or is_half or any(map(OTHER.fullmatch, _words(name)))


def _words(name: str) -> list[str]:
    """What stands between dots and underscores, "weight" at the end left out."""
    words = [word for word in re.split(r"[._]", name) if word]
    return (words[:-1] if words[1:] and words[-1] == "weight" else words) or [name]


def _nothing(part: Part, shapes: Shapes) -> NoReturn:
    if not shapes:
        part.refuse(
            "it holds no array; a quantizer without a table, such as FSQ, saves none: write its "
            "grid itself, as fsq:LEVELS"
        )
    part.refuse(
        f"none of its arrays looks like a codebook ({_with_shapes(list(shapes), shapes)}); choose "
        "one with key=NAME if it is one"
    )


def _with_shapes(names: list[str], shapes: Shapes) -> str:
    return listed([f"{name[:60]} {shapes[name]}" for name in sorted(names)])


def read(part: Part, *names: str) -> Codebook:
    """The array of this name as a codebook, or those of these names as its stages or parts.

    One is a table, or stages or parts where the user says so.

    Raises:
        ValueError: another number of axes, or three whose meaning nobody said.
    """
    tables = [_table(part, name) for name in names]
    name, values = names[0], tables[0]
    if values.ndim == 2 and len(tables) == 1:
        if part.structure not in (None, "vq"):
            part.refuse(f"{name} in it is one table of shape {values.shape}, not several")
        codebook = combine.points(part, values)
        if owner := quantizer_of(name):
            codebook = combine.decoded(part, codebook, projection(part.below(owner)))
        is_given = part.shape("prior") is not None and name != "prior"
        return codebook.with_prior(part.arrays.read("prior")) if is_given else codebook
    if len(tables) == 1:
        tables = list(values)
    elif any(table.ndim != 2 for table in tables):
        part.refuse(f"{ranges(list(names))} in it are no tables, each of a row for a token")
    if part.structure == "rvq":
        part.remarks.append("tables whose vectors add up")
        return combine.added(part, tables)
    if part.structure == "product":
        part.remarks.append("tables of coordinates of their own")
        return combine.beside(part, [combine.points(part, table) for table in tables])
    part.refuse(
        f"{name} in it has shape {values.shape}; say structure='rvq' if the vectors of its "
        f"{len(values)} tables add up, structure='product' if each has coordinates of its own"
    )


def _table(part: Part, name: str) -> np.ndarray:
    """The numbers of an array with 2 or 3 axes, as its quantizer uses them."""
    if is_computed(name, part.arrays.shapes):
        part.refuse(
            f"{name} in it is not the codebook, but one of the arrays that it is computed from; "
            "leave its name out, or give that of the quantizer"
        )
    values = part.arrays.read(name)
    part.used.append(name)
    home = name.rpartition(".")[0]
    beside = [one for one in part.arrays.shapes if one.rpartition(".")[0] == home]
    scale = next((one for one in beside if SCALE.fullmatch(one[len(home) :].lstrip("."))), None)
    if values.dtype.kind in "iu" and scale is not None:
        part.refuse(
            f"{name} in it has whole numbers that {scale} turns into others; save those, or make a "
            "PointCodebook of them"
        )
    if values.dtype.kind == "c":
        if values.ndim == 2 and len(values) == 1 < values.shape[1]:
            part.refuse(
                f"{name} in it is one row of {values.shape[1]} complex numbers, which would be one "
                "token; save it as a column, if they are tokens"
            )
        part.remarks.append("complex numbers as two real coordinates each")
        values = real_coordinates(values)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim not in (2, 3):
        part.refuse(f"a codebook has 2 or 3 axes, and {name} in it has shape {values.shape}")
    if values.ndim == 2:
        values = _upright(part, name, values)
    return as_used(part, name, values) if values.dtype.kind in "fiub" else np.asarray(values)


def _upright(part: Part, name: str, values: np.ndarray) -> np.ndarray:
    """Tokens as rows: some programs keep them as columns, which names or counts show."""
    if COLUMNS.fullmatch(name):
        part.remarks.append("its columns, as dm-haiku keeps tokens")
        return values.T
    sizes = part.shape(f"{name.rpartition('.')[0]}.cluster_size") if "." in name else None
    sizes = sizes or part.shape("cluster_size")
    if sizes is None or sizes[-1] == len(values):
        return values
    if sizes[-1] != values.shape[1]:
        part.refuse(f"{name} in it has shape {values.shape}, and its cluster_size {sizes}")
    part.remarks.append("its columns, as many as cluster_size has entries")
    return values.T
