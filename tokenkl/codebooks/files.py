"""Codebooks, priors and token streams in files, written whole and read without trust.

Nothing is ever unpickled: a file that holds Python objects is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
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
    errors_of_the_disk,
    open_arrays,
    parse_json,
    reading,
    refuse,
)
from tokenkl._validation import (
    check_prior,
    is_traced,
    reject,
    shortened,
)
from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.codebooks.registry import described, made_from
from tokenkl.codebooks.residual import ResidualCodebook

CODEBOOK_FILE = "a codebook in .npz, .safetensors or .npy"
PRIOR_FILE = "a prior in .npz, .npy, .json (a list), .csv or .txt (one number a line)"
TOKEN_FILE = "token ids in .npz, .npy or .txt (whole numbers separated by white space)"

#: One stage of a residual quantizer, as named by vector-quantize-pytorch ("layers.0._codebook"),
#: EnCodec ("quantizer.vq.layers.0._codebook") and transformers ("quantizer.layers.0.codebook").
STAGE = re.compile(r"(?P<owner>.*\blayers)\.(?P<stage>\d+)\.(?P<rest>_?codebook\.embed)")
#: A part of a prior: priors.0 is that of the first coordinate or stage.
PART = re.compile(r"priors\.(0|[1-9]\d{0,8})")
SINGLE = re.compile(r"(?:.*\.)?_?codebook\.embed")


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
    path: PathLike, *, key: str | None = None, allow_duplicates: bool = False
) -> Codebook:
    """Read a codebook from a .npz, .safetensors or .npy file.

    A file of `save_codebook` gives back what was saved. Other files are read by their layout:

    - one (K, n) array, or (1, K, n) as vector-quantize-pytorch stores it: a `PointCodebook`, with
      the array named "prior", if there is one, as its prior;
    - one (stages, K, n) array: a `ResidualCodebook`;
    - the state dict of a residual quantizer (`layers.0._codebook.embed`, ...): a
      `ResidualCodebook` in the order of the layers, in the space that the codes live in (before
      `project_out`, if there is one);
    - the state dict of a vector quantizer (`_codebook.embed`): a `PointCodebook`.

    Half-precision and bfloat16 numbers become float64.

    Args:
        path: the file.
        key: read the array of this name and no other.
        allow_duplicates: accept equal rows, such as unused codes that were never moved.

    Raises:
        ValueError: a missing, damaged or foreign file, a pickle, no array or several that could
            be meant (the message lists their names), or numbers that make no codebook.
    """
    _suffix(path, (".npz", ".safetensors", ".npy"), CODEBOOK_FILE)
    with reading(path, CODEBOOK_FILE) as file, open_arrays(file) as source:
        if source.header is not None and key is None:
            return _unpack(source)
        return _adopt(source, key, allow_duplicates)


def save_prior(prior: Float[Any, " K"], path: PathLike) -> None:
    """Write a prior to a .npz, .npy, .json, .csv or .txt file, to the last bit.

    Raises:
        ValueError: another suffix, a folder that does not exist, or an invalid prior.
    """
    suffix = _suffix(path, (".npz", ".npy", ".json", ".csv", ".txt"), f"for {PRIOR_FILE}")
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
    suffix = _suffix(path, (".npz", ".npy", ".json", ".csv", ".txt"), PRIOR_FILE)
    with reading(path, PRIOR_FILE) as file:
        if suffix in (".npz", ".npy"):
            with open_arrays(file) as source:
                values: Any = source.read(_only(source, "prior"))
        elif suffix == ".json":
            values = parse_json(file.text(MAX_JSON), list[float], "prior")
        else:
            values = _numbers(file, r"[\r\n]", str.splitlines, float)
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


def load_tokens(path: PathLike) -> Int[np.ndarray, " N"]:
    """Read token ids from a .npz, .npy or .txt file, as one flat array.

    A .npz file holds one array, or one named "tokens"; a .txt file whole numbers separated by
    white space.

    Raises:
        ValueError: a missing, damaged, empty or foreign file, or an entry that is not a whole
            number, at least 0.
    """
    suffix = _suffix(path, (".npz", ".npy", ".txt"), TOKEN_FILE)
    with reading(path, TOKEN_FILE) as file:
        if suffix == ".txt":
            ids = _numbers(file, r"\s", str.split, int)
        else:
            with open_arrays(file) as source:
                ids = source.read(_only(source, "tokens")).ravel()
            if ids.dtype.kind not in "iu":
                file.refuse(f"it holds numbers of type {ids.dtype}")
        if ids.size == 0:
            file.refuse("it holds no token")
        for bound in (int(ids.min()), int(ids.max())):
            if not 0 <= bound < 2**63:
                file.refuse(f"it holds {bound}")
        return ids.astype(np.int64)


def _suffix(path: PathLike, allowed: tuple[str, ...], expected: str) -> str:
    suffix = Path(path).suffix.lower()
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
    return "the arrays " + _few(names) if names else "no array"


def _few(names: Sequence[str]) -> str:
    more = [f"and {len(names) - 12} more"] if len(names) > 12 else []
    return ", ".join([*names[:12], *more])


class _Header(TypedDict):
    version: Literal[1]
    kind: str


def _unpack(source: Arrays) -> Codebook:
    header: Any = parse_json(source.header or "", _Header, "the description")

    def read(name: str, optional: bool = False) -> Any:
        return None if optional and name not in source.shapes else source.read(name)

    return made_from(header, read)


def _adopt(source: Arrays, key: str | None, allow_duplicates: bool) -> Codebook:
    """A codebook from the arrays of another program."""
    path, shapes = source.file.path, source.shapes
    if key is None:
        layers = [match for match in map(STAGE.fullmatch, shapes) if match]
        if layers:
            return _adopt_layers(source, layers)
        plausible = [n for n in shapes if SINGLE.fullmatch(n)]
        plausible = plausible or [n for n, shape in shapes.items() if len(shape) in (2, 3)]
        if len(plausible) != 1:
            refuse(
                path,
                "a file with one array that can be the codebook",
                f"it holds {_listed(source)}; choose one with key=NAME",
            )
        key = plausible[0]
    elif key not in shapes:
        refuse(path, f"a file with an array named {key!r}", f"it holds {_listed(source)}")
    shape = shapes[key]
    if len(shape) not in (2, 3):
        refuse(path, "a file whose codebook has 2 or 3 axes", f"{key} in it has shape {shape}")
    if len(shape) == 3 and shape[0] > 1:
        if SINGLE.fullmatch(key):  # heads quantize parts of a vector: their codes do not add up
            refuse(path, "a codebook with one head", f"{key} in it has {shape[0]} heads")
        return ResidualCodebook(list(source.read(key)), name=path.stem)
    points = source.read(key).reshape(shape[-2:])
    prior = source.read("prior") if "prior" in shapes and key != "prior" else None
    return PointCodebook(points, prior, name=path.stem, allow_duplicates=allow_duplicates)


def _adopt_layers(source: Arrays, layers: list[re.Match[str]]) -> Codebook:
    path, expected = source.file.path, "the state dict of one residual quantizer"
    owners = sorted({match["owner"] for match in layers})
    numbers = sorted(int(match["stage"]) for match in layers)
    if len(owners) > 1:
        refuse(path, expected, f"it holds {len(owners)}: {_few(owners)}; choose with key=NAME")
    if numbers != list(range(len(layers))):
        refuse(path, expected, f"its layers are numbered {_few([str(one) for one in numbers])}")
    projected = re.compile(re.escape(owners[0]) + r"\.\d+\..*proj.*")
    if any(projected.fullmatch(name) for name in source.shapes):
        refuse(path, expected, "its layers project their codes, which then do not add up")
    stages = []
    for match in sorted(layers, key=lambda match: int(match["stage"])):
        shape = source.shapes[match.string]
        if len(shape) != 2 and not (len(shape) == 3 and shape[0] == 1):
            refuse(path, expected, f"{match.string} in it has shape {shape}")
        stages.append(source.read(match.string).reshape(shape[-2:]))
    return ResidualCodebook(stages, name=path.stem)
