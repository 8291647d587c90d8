"""Codebooks, priors and token streams in files, written whole and read without trust.

Nothing is ever unpickled: a file that holds Python objects is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn, TypedDict

import numpy as np
from jaxtyping import Float, Int

from tokenkl._files import PathLike, atomic_path
from tokenkl._formats import (
    HEADER,
    MAX_JSON,
    Arrays,
    Opened,
    conform,
    errors_of_the_disk,
    open_arrays,
    parse_json,
    parsing,
    reading,
    refuse,
)
from tokenkl._validation import (
    as_float_array,
    check_prior,
    is_traced,
    reject,
    shortened,
)
from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.containers import PICKLES, SUFFIXES, in_folder, open_any
from tokenkl.codebooks.layouts import (
    Lengths,
    Part,
    Space,
    Structure,
    check_structure,
    check_words,
    interpret,
    listed,
)
from tokenkl.codebooks.registry import described, made_from

CODEBOOK_FILE = "a codebook in a file or folder"
PRIOR_FILE = "a prior in .npz, .npy, .json (a list), .csv or .txt (one number a line)"
COUNTS_FILE = "counts in .npz, .npy, .json (a list), .csv or .txt (one number a line)"
TOKEN_FILE = "token ids in .npz, .npy, .json, .csv or .txt (whole numbers)"
#: Endings of files with one vector, or one array of tokens.
VECTORS = (".npz", ".npy", ".json", ".csv", ".txt")

#: A number left out of a line; a comma at the end of it leaves none out.
EMPTY_CELL = re.compile(r"(^|,)\s*,")

#: A part of a prior: priors.0 is that of the first coordinate or stage.
PART = re.compile(r"priors\.(0|[1-9]\d{0,8})")


def save_codebook(codebook: Codebook, path: PathLike) -> None:
    """Write a codebook, structure and prior included, to a .npz or .safetensors file.

    `load_codebook` gives back the same kind of codebook, bit for bit. The file appears whole or
    not at all. A lazy codebook stays as small in the file as it is in memory.

    Raises:
        ValueError: another suffix, a folder that does not exist, a codebook of a kind that is
            not one of tokenkl's, or one that JAX is tracing.
    """
    suffix = _suffix(path, (".npz", ".safetensors"), "written to a .npz or .safetensors file")
    header, arrays = described(codebook)
    if is_traced(*arrays.values(), header.get("scale")):
        expected = "a codebook of numbers, outside JAX transformations"
        reject("codebook", "a traced codebook", expected)
    text = json.dumps({"format": "tokenkl codebook", "version": 1, **header})
    plain = {name: np.ascontiguousarray(array, np.float64) for name, array in arrays.items()}
    with atomic_path(path) as temporary:
        if suffix == ".safetensors":
            from safetensors.numpy import save_file

            with errors_of_the_disk():
                save_file(plain, temporary, metadata={HEADER: text})
        else:
            plain[HEADER] = np.frombuffer(text.encode(), np.uint8)
            _write_npz(temporary, plain)


def load_codebook(
    path: PathLike,
    *,
    key: str | None = None,
    structure: Structure | None = None,
    space: Space | None = None,
    lengths: Lengths | None = None,
    allow_duplicates: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Codebook:
    """Read a codebook from a file of `save_codebook`, or of another program.

    A file of `save_codebook` gives back what was saved. Others are read by their layout, the names
    and shapes of their arrays (docs/tokenizers.md lists them, with a command for each):

    - quantizers of vector-quantize-pytorch, EnCodec, DAC, SNAC, Mimi, X-codec, wav2vec 2.0 and
      their like: a `PointCodebook`, a `ResidualCodebook` in the order of the stages, or a `Product`
      of heads or groups;
    - the embeddings of a language model, also from a folder or an index of several files;
    - one (K, n) array, or lines of numbers: a `PointCodebook`, with the array named "prior", if
      there is one, as its prior;
    - one array with three axes: the stages of a `ResidualCodebook` or the parts of a `Product`, as
      `structure` says.

    Half-precision and bfloat16 numbers become float64. Codes that a projection takes elsewhere stay
    in the space that they live in, unless each stage has a projection of its own: such codes add up
    only behind it.

    Args:
        path: .npz, .npy, .safetensors, .pt, .pth, .ckpt, .bin, .gguf, .csv, .tsv, .txt or .vec, an
            index (model.safetensors.index.json), or a folder that has one model.
        key: read the array of this name and no other, or what is in the module of this name.
        structure: "vq" (one table), "rvq" (stages that add up) or "product" (parts side by side);
            what has another structure is refused.
        space: "latent" (before projections) or "decoded" (behind them).
        lengths: "unit" (the vectors of tables divided by their lengths, as quantizers that compare
            directions often use them) or "stored" (as they are). Without it they are as stored,
            and refused where a configuration beside the file or its metadata says that they may be
            normalised and they are not.
        allow_duplicates: accept equal rows, such as unused codes that were never moved.
        tell: called with one sentence on which arrays were read, and how.

    Raises:
        ValueError: a missing, damaged or foreign file, objects that would have to be unpickled, no
            array or several that could be meant (the message lists their names), vectors that do
            not follow from the arrays, or numbers that make no codebook.

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/pq.npy", np.random.default_rng(0).normal(size=(2, 16, 4)))
        ...     load_codebook(f"{folder}/pq.npy", structure="product", tell=print)
        array: array, tables of coordinates of their own
        <Product pq: K = 256, n = 8, equal priors>
    """
    check_words(structure, space, lengths, key)
    if os.path.isdir(path):
        path = in_folder(path, CODEBOOK_FILE)
    _suffix(path, SUFFIXES, f"a codebook in a folder or in {', '.join(SUFFIXES)}")
    with reading(path, CODEBOOK_FILE) as file, open_any(file) as source:
        if source.header is not None and key is None:
            codebook, how = _unpack(source), "what save_codebook wrote"
            check_structure(source.file, codebook, structure, how)
            if lengths == "unit":
                file.refuse(f"it is {how}, read as it was; tk.spherical_codebook takes its points")
        else:
            part = Part(source, "", structure, space, allow_duplicates, lengths)
            codebook, how = interpret(part, key)
    if tell is not None:
        tell(how)
    return codebook


def save_prior(prior: Float[Any, " K"], path: PathLike) -> None:
    """Write a prior to a .npz, .npy, .json, .csv or .txt file, to the last bit.

    Raises:
        ValueError: another suffix, a folder that does not exist, or an invalid prior.
    """
    suffix = _suffix(path, VECTORS, f"for {PRIOR_FILE}")
    prior = check_prior(np.atleast_1d(prior), np.size(prior))
    with atomic_path(path) as temporary:
        if suffix == ".npz":
            _write_npz(temporary, {"prior": prior})
        elif suffix == ".npy":
            with open(temporary, "wb") as file:
                np.save(file, prior, allow_pickle=False)
        elif suffix == ".json":
            temporary.write_text(json.dumps(prior.tolist()) + "\n", encoding="utf-8")
        else:
            lines = "".join(f"{value!r}\n" for value in prior.tolist())
            temporary.write_text(lines, encoding="utf-8")


def load_prior(path: PathLike) -> Float[np.ndarray, " K"]:
    """Read a prior from a .npz, .npy, .json, .csv or .txt file.

    A .npz file holds one array, or one named "prior"; a .json file a list of numbers; a .csv or
    .txt file one number a line.

    Raises:
        ValueError: a missing, damaged or foreign file, or numbers that are not a strictly
            positive probability vector.
    """
    with _of_vector(path, PRIOR_FILE, "prior") as (_, values):
        return check_prior(values, np.size(values))


def load_priors(path: PathLike) -> list[np.ndarray]:
    """Read a prior by parts from a .npz file: its arrays "priors.0", "priors.1", and so on.

    One for each coordinate of a grid, or each stage of a residual codebook. Empty for a file
    without such arrays, which may hold a whole prior.

    Raises:
        ValueError: a missing or damaged file, a number left out, a whole prior beside the parts,
            or numbers that are not strictly positive probability vectors.
    """
    if Path(path).suffix.lower() != ".npz":
        return []
    with reading(path, PRIOR_FILE) as file, open_arrays(file) as source:
        numbers = (PART.fullmatch(name) for name in source.shapes)
        found = {int(number[1]) for number in numbers if number}
        for index in range(max(found, default=-1) + 1):
            if index not in found:
                file.refuse(f"it holds priors.{max(found)}, and no priors.{index}")
        if found and "prior" in source.shapes:
            file.refuse("it holds both a whole prior and priors.0, one of its parts")
        parts = [source.read(f"priors.{index}") for index in sorted(found)]
        return [check_prior(part, part.size, f"priors.{i}") for i, part in enumerate(parts)]


def load_counts(path: PathLike) -> Float[np.ndarray, " K"]:
    """Read how often each token occurs, or sizes of clusters, from files as those of priors.

    A .npz file holds one array, or one named "counts" or "cluster_size".

    Raises:
        ValueError: a missing, damaged or foreign file, or numbers that are negative or all 0.
    """
    with _of_vector(path, COUNTS_FILE, "counts", "cluster_size") as (file, values):
        counts: np.ndarray = as_float_array("counts", values).ravel()
        if counts.size == 0 or (counts < 0).any() or not counts.any():
            file.refuse("it holds a negative number" if (counts < 0).any() else "it counts nothing")
        return counts


def load_tokens(path: PathLike) -> Int[np.ndarray, " N"]:
    """Read token ids from a .npz, .npy, .json, .csv or .txt file, as one flat array.

    Files are those of `load_token_array`.

    Raises:
        ValueError: a missing, damaged, empty or foreign file, or an entry that is not a whole
            number, at least 0.
    """
    ids = load_token_array(path).ravel()
    if ids.min() < 0:
        refuse(path, TOKEN_FILE, f"it holds {ids.min()}")
    return ids


def load_token_array(path: PathLike) -> Int[np.ndarray, "*shape"]:
    """Read token ids, or digits of tokens, from a .npz, .npy, .json, .csv or .txt file.

    A .npz file holds one array, or one named "tokens"; a .json file a list, or lists of one length;
    a .csv file the same number of whole numbers in every line; a .txt file whole numbers separated
    by white space. Floats count where they are whole.

    Raises:
        ValueError: a missing, damaged, empty or foreign file, or an entry that is not a whole
            number of 64 bits.
    """
    suffix = _suffix(path, VECTORS, TOKEN_FILE)
    with reading(path, TOKEN_FILE) as file:
        if suffix == ".txt":
            array: np.ndarray = _numbers(file, r"\s", str.split, int)
        elif suffix == ".csv":
            lines = [line for line in file.text().splitlines() if line.strip()]
            if any(map(EMPTY_CELL.search, lines)):
                file.refuse("one of its lines has nothing between two commas, or before the first")
            widths = {len(_cells(line)) for line in lines}
            if len(widths) > 1:
                file.refuse(f"its lines have from {min(widths)} to {max(widths)} numbers")
            array = _numbers(file, r"\s", _cells, int).reshape(len(lines), *widths)
        elif suffix == ".json":
            lists = parse_json(file.text(MAX_JSON), list[Any], "tokens")
            lengths = {len(one) for one in lists if isinstance(one, list)}
            if len(lengths) > 1:
                file.refuse(f"its lists have from {min(lengths)} to {max(lengths)} entries")
            with parsing():
                array = np.array(lists)
        else:
            with open_arrays(file) as source:
                array = source.read(_only(source, "tokens"))
        if array.size == 0:
            file.refuse("it holds no token")
        if array.dtype.kind not in "iuf":
            file.refuse(f"it holds numbers of type {array.dtype}")
        if not (whole := np.isfinite(array) & (array == np.rint(array))).all():
            file.refuse(f"it holds {array[~whole].flat[0]}")
        for bound in (array.min(), array.max()):
            if not -(2**63) <= int(bound) < 2**63:
                file.refuse(f"it holds {bound}")
        return array.astype(np.int64)


def load_sequences(path: PathLike, padding: int | None = None) -> list[Int[np.ndarray, " tokens"]]:
    """Read sequences of token ids from a .npz, .npy, .json, .csv or .txt file, empty ones left out.

    A sequence is a row of an array with two axes, a list in a list, or a line of text; these may
    differ in length. An array with one axis is one sequence, as is a list of numbers, or a text
    with one number a line.

    Args:
        path: a file as those of `load_token_array`, but for the lengths.
        padding: a number that stands for no token.

    Raises:
        ValueError: a missing, damaged, empty or foreign file, or an entry that is not a whole
            number, at least 0, or padding, or is left out before a comma with others behind it.
    """
    suffix = _suffix(path, VECTORS, TOKEN_FILE)
    with reading(path, TOKEN_FILE) as file:
        if suffix in (".txt", ".csv"):
            text = file.text().splitlines()
            if any(map(EMPTY_CELL.search, (re.sub(r"[,\s]+$", "", line) for line in text))):
                file.refuse("one of its lines has nothing between two commas, or before the first")
            lines = [_cells(line) for line in text if line.strip()]
            if max(map(len, lines), default=0) <= 1:
                lines = [[word for line in lines for word in line]]
            rows = [_whole(file, line) for line in lines]
        elif suffix == ".json":
            value = parse_json(file.text(MAX_JSON), list[Any], "tokens")
            if not any(isinstance(one, list) for one in value):
                value = [value]
            rows = [_whole(file, row) for row in conform(value, list[list[int]], "tokens")]
        else:
            array = load_token_array(path)
            if array.ndim > 2:
                file.refuse(f"it holds an array with {array.ndim} axes, where sequences have two")
            rows = list(np.atleast_2d(array))
        if padding is not None:
            rows = [row[row != padding] for row in rows]
        rows = [row for row in rows if row.size]
        if not rows:
            file.refuse("it holds no token")
        least = min(int(row.min()) for row in rows)
        if least < 0:
            file.refuse(f"it holds {least}, which padding={least} leaves out")
        return rows


def _whole(file: Opened, words: list[Any]) -> Int[np.ndarray, " tokens"]:
    try:
        return np.array([int(word) for word in words], np.int64)
    except (ValueError, OverflowError):
        _refuse_word(file, [str(word) for word in words], int)


def _cells(text: str) -> list[str]:
    return text.replace(",", " ").split()


@contextlib.contextmanager
def _of_vector(path: PathLike, expected: str, *names: str) -> Iterator[tuple[Opened, Any]]:
    """The numbers of a file with one vector; the array of a .npz may have one of these names."""
    suffix = _suffix(path, VECTORS, expected)
    with reading(path, expected) as file:
        if suffix in (".npz", ".npy"):
            with open_arrays(file) as source:
                name = next((name for name in names if name in source.shapes), names[0])
                yield file, source.read(_only(source, name))
        elif suffix == ".json":
            yield file, parse_json(file.text(MAX_JSON), list[float], names[0])
        else:
            yield file, _numbers(file, r"[\r\n]", str.splitlines, float)


def _suffix(path: PathLike, allowed: tuple[str, ...], expected: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix in PICKLES:
        refuse(path, expected, f"{suffix} is a pickle, never opened; save its array by numpy.save")
    if suffix not in allowed:
        refuse(path, expected, f"its name ends in {suffix or 'no suffix'}")
    return suffix


def _numbers(file: Opened, end: str, words: Callable[[str], list[str]], kind: type) -> np.ndarray:
    """The words of a text as numbers; one that is none is named.

    Piece by piece, each up to where the pattern `end` is: a word takes twenty times the memory of
    a number.
    """
    text, ends = file.text(), re.compile(end)
    parts: list[np.ndarray] = [np.zeros(0, kind)]
    start = 0
    while start < len(text):
        found = ends.search(text, start + 2**20)
        stop = len(text) if found is None else found.start()
        piece = [word for word in words(text[start:stop]) if word.strip()]
        try:
            parts.append(np.array([kind(word) for word in piece], kind))
        except (ValueError, OverflowError):
            _refuse_word(file, piece, kind)
        start = stop
    return np.concatenate(parts)


def _refuse_word(file: Opened, words: list[str], kind: type) -> NoReturn:
    for word in words:
        try:
            number = kind(word)
        except ValueError:
            file.refuse(f"{word.strip()[:40]!r} in it is not such a number")
        if kind is int and abs(number) >= 2**63:
            file.refuse(f"it holds {number}")
    raise AssertionError("one of them is refused")


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    # Through a file object: given a name, NumPy may append a suffix of its own.
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def _only(source: Arrays, preferred: str) -> str:
    """The name of the only array, or of the one with the preferred name."""
    if preferred in source.shapes:
        return preferred
    if len(source.shapes) != 1:
        source.file.refuse(f"it holds {_listed(source)}, and none named {preferred!r}")
    return next(iter(source.shapes))


def _listed(source: Arrays) -> str:
    names = [f"{shortened(name, 60)} {shape}" for name, shape in sorted(source.shapes.items())]
    return f"the arrays {listed(names, width=100)}" if names else "no array"


class _Header(TypedDict):
    version: Literal[1]
    kind: str


def _unpack(source: Arrays) -> Codebook:
    header: Any = parse_json(source.header or "", _Header, "the description")

    def read(name: str, optional: bool = False) -> Any:
        return None if optional and name not in source.shapes else source.read(name)

    return made_from(header, read)
