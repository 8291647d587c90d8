"""One table of vectors, as quantizers keep it: as it is, or to be computed from other arrays."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tokenkl._validation import shortened
from tokenkl.codebooks.layouts.base import Part, Shapes
from tokenkl.codebooks.vq import directions

#: Arrays of training, beside a table, that its points do not depend on.
STATISTICS = frozenset(
    (
        "embed_avg",
        "cluster_size",
        "cluster_usage",
        "initted",
        "inited",
        "initialized",
        "_initialized",
        "_embedding",  # of Moshi: what its table is computed to
        "zero",
    )
)


def _stored(part: Part, name: str) -> np.ndarray:
    return part.read(name)


def _transformed(part: Part, name: str) -> np.ndarray:
    """SimVQ: a frozen table, and the linear map that is trained."""
    home = TRANSFORMS[name]
    maps = part.below(f"{home}.")
    shape = maps.shape("weight")
    if shape is None or len(shape) != 2 or set(maps.names()) - {"weight", "bias"}:
        part.refuse(
            f"the vectors of {part.owner}{name} in it go through {part.owner}{home}, which is not "
            "a linear map; save the table that the module computes"
        )
    table, weight = part.read(name), maps.read("weight")
    if table.ndim != 2 or table.shape[1] != shape[1]:
        part.refuse(f"{maps.owner}weight in it does not fit {part.owner}{name}")
    bias = 0.0 if maps.shape("bias") is None else maps.read("bias")
    part.remarks.append(f"transformed by {home}")
    return np.asarray(table @ weight.T + bias)


def _averaged(part: Part, name: str) -> np.ndarray:
    """Mimi: sums of the vectors that fell to each entry, and how many there were."""
    usage = f"{name.rpartition('.')[0]}.cluster_usage"
    if part.shape(usage) is None:
        part.refuse(f"{part.owner}{name} in it holds sums, and no {usage} to divide them by")
    sums, count = part.read(name), part.read(usage)
    if sums.ndim != 2 or count.shape != sums.shape[:1]:
        part.refuse(f"{part.owner}{usage} in it does not fit {part.owner}{name}")
    part.remarks.append("sums divided by cluster_usage")
    return np.asarray(sums / np.maximum(count, 1e-5)[:, None])


#: Tables of SimVQ, in vector-quantize-pytorch and in its authors' program -> what they go through.
TRANSFORMS = {"frozen_codebook": "code_transform", "embedding.weight": "embedding_proj"}
#: Modules beside a table that change its vectors before they are used.
CHANGERS = ("affine_transform",)
#: Switches of a module whose table has vectors of length 1 when they are used.
NORMALISING = ("l2_norm", "use_l2_norm", "use_norm")
#: The same in a configuration or in metadata, and kinds of models that have no such switch.
SAID = re.compile(
    r"(?P<word>\b(?:(?:use|codebook|quant\w*|vq)_)?l2_norm(?:ali[sz]e\w*)?"
    r"|\bnorm(?:ali[sz]e)?_codebooks?)\b[\\\"']*\s*[:=]\s*[\\\"']*true\b"
    r"|\bmodel_type[\\\"']*\s*:\s*[\\\"']*(?P<kind>janus_vqgan|glm_image_vqmodel)\b",
    re.IGNORECASE,
)
#: An array of LlamaGen, and of the many that build on it, which divide by lengths as a rule.
COUNTED = "codebook_used"
#: What a quantizer is called: its last word.
QUANTIZER = re.compile(r"(?:.*\.)?\w*(?:quant|vq|codebook)\w*")
#: What may stand directly in a quantizer and change its vectors: norms, and the layers of VAR.
CHANGES = re.compile(r"(?:\w*norm\w*|ln\w*|quant_resi)\..+")

#: What is said of vectors that were divided by their lengths.
DIVIDED = "divided by their lengths"
#: Largest deviation from 1 of lengths that are 1, of numbers in float32.
UNIT = 1e-5

#: The end of the name of a table -> how its vectors are found.
TABLES: dict[str, Callable[[Part, str], np.ndarray]] = {
    "_codebook.embed": _stored,
    "codebook.embed": _stored,
    "codebook.weight": _stored,
    "codebook.embed_sum": _averaged,
    "_codebook.embed_sum": _averaged,
    "_codebook.embedding_sum": _averaged,
    "codebook.embedding_sum": _averaged,
    **dict.fromkeys(TRANSFORMS, _transformed),
}
NAME = re.compile(rf"(?P<owner>(?:.*\.)?)(?P<table>{'|'.join(map(re.escape, TABLES))})")


class Named(NamedTuple):
    """A table: who owns it, "" or a name with a dot at its end, and what it is called there."""

    owner: str
    table: str


def tables_of(shapes: Shapes) -> list[Named]:
    """All tables of a file."""
    found = (NAME.fullmatch(name) for name in shapes)
    tables = [Named(match["owner"], match["table"]) for match in found if match]
    # `embedding.weight` by itself is the name of any embedding.
    return [
        one
        for one in tables
        if one.table != "embedding.weight" or f"{one.owner}embedding_proj.weight" in shapes
    ]


def is_computed(name: str, shapes: Shapes) -> bool:
    """Whether an array is only half of what a table is computed from."""
    found = (one for one in tables_of(shapes) if one.owner + one.table == name)
    return any(TABLES[one.table] is not _stored for one in found)


def read_table(part: Part) -> np.ndarray:
    """The (heads, K, d) vectors of the one table that this part owns.

    Raises:
        ValueError: vectors that depend on more than arrays, or that were never trained.
    """
    name = next((name for name in TABLES if part.shape(name) is not None), None)
    if name is None:
        part.refuse(f"{part.owner[:-1]} in it has no table")
    for changer in CHANGERS:
        if part.below(f"{changer}.").names():
            part.refuse(f"the vectors of {part.owner}{name} in it go through {changer}")
    _check_neighbours(part, name)
    vectors = TABLES[name](part, name)
    if vectors.ndim not in (2, 3) or 0 in vectors.shape:
        part.refuse(f"{part.owner}{name} in it has shape {vectors.shape}")
    vectors = as_used(part, f"{part.owner}{name}", vectors)
    vectors = vectors.reshape(-1, *vectors.shape[-2:])
    sizes = part.shape(f"{name.rpartition('.')[0]}.cluster_size")
    if sizes and sizes[-1] != vectors.shape[1]:
        part.refuse(
            f"{part.owner}{name} in it has {vectors.shape[1]} vectors, and its cluster_size is "
            f"for {sizes[-1]}"
        )
    return vectors


def as_used(part: Part, name: str, vectors: np.ndarray) -> np.ndarray:
    """The vectors of a table as its quantizer uses them; `name` is that in the whole file.

    Raises:
        ValueError: several vectors that are all 0, or of other lengths than 1 where something says
            that they may be normalised, and the reader of the file does not say whether.
    """
    with np.errstate(invalid="ignore"):  # what is no number is not 0 either
        is_zero = not vectors.any()
    if is_zero and vectors.shape[-2] > 1:
        part.refuse(
            f"{name} in it is 0 everywhere: a codebook that was never initialised or trained"
        )
    if part.lengths == "unit":
        part.remarks.append(DIVIDED)
        return directions(np.asarray(vectors, np.float64))
    home = name.removesuffix(".weight").rpartition(".")[0]
    if part.lengths is None and (sign := _sign(part, home)) and not _is_unit(vectors):
        part.refuse(
            f"{sign}, and {name} in it has vectors of other lengths than 1; say lengths='unit' if "
            "they are divided by their lengths before they are used, lengths='stored' if not"
        )
    if owner := quantizer_of(name):
        beside = (name for name in part.arrays.shapes if name.startswith(owner))
        change = next((name for name in beside if CHANGES.fullmatch(name[len(owner) :])), None)
        if change is not None:
            part.remarks.append(f"without {change}, which may change its vectors")
    return vectors


def quantizer_of(name: str) -> str:
    """The owner of a table, with a dot at its end, if it is called a quantizer; else ""."""
    home = name.removesuffix(".weight").rpartition(".")[0]
    home = re.sub(r"\._?codebook$", "", home)
    return f"{home}." if QUANTIZER.fullmatch(home) else ""


def _is_unit(vectors: np.ndarray) -> bool:
    lengths = np.linalg.norm(np.asarray(vectors, np.float64), axis=-1)
    return bool(np.abs(lengths - 1).max() <= UNIT)


def _sign(part: Part, home: str) -> str | None:
    """What says that vectors of the module `home` may be divided by their lengths."""
    shapes = part.arrays.shapes
    for switch in (f"{home}.{word}".lstrip(".") for word in NORMALISING):
        if shapes.get(switch) == () and part.arrays.read(switch):
            return f"{switch} is on"
    if (counted := f"{home}.{COUNTED}".lstrip(".")) in shapes:
        return f"it holds {counted}, as of LlamaGen's quantizer, which normalises as a rule"
    for source, text in part.arrays.notes.items():
        if said := SAID.search(f"{source}: {text}"):
            what = f"{said['word']} is on" if said["word"] else f"model_type is {said['kind']}"
            return f"{shortened(what, 60)} in {shortened(source, 60)}"
    return None


def _check_neighbours(part: Part, name: str) -> None:
    """Refuse a table that a further module changes before its vectors are used."""
    home, _, last = name.rpartition(".")
    if not home:
        return
    known = STATISTICS | {last}
    others = [n for n in part.below(f"{home}.").names() if n not in known]
    if last == "weight" and not others:
        return
    if others:
        part.refuse(
            f"the vectors of {part.owner}{name} in it are changed by "
            f"{part.owner}{home}.{others[0]} before they are used; save those that the module "
            "gives for its indices"
        )
