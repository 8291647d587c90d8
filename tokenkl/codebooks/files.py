"""Codebooks, priors and token streams in files, written whole and read without trust.

Nothing is ever unpickled: a file that holds Python objects is refused.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from jaxtyping import Float, Int

from tokenkl._files import PathLike, atomic_path
from tokenkl._validation import check_prior, first_duplicate, is_traced, reject
from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.codebooks.onehot import OneHot
from tokenkl.codebooks.product import FSQ, GRIDS, ProductCodebook
from tokenkl.codebooks.residual import ResidualCodebook

#: Name of the JSON header: a uint8 array of its bytes in .npz, a metadata entry in .safetensors.
HEADER = "tokenkl"

#: Most bytes that a .npz file may unpack to (2**31 float64 numbers); a zip archive can claim more
#: than any machine holds.
MAX_BYTES = 2**34

CODEBOOK_FILE = "a codebook in .npz, .safetensors or .npy"
PRIOR_FILE = "a prior in .npz, .npy, .json (a list), .csv or .txt (one number a line)"
TOKEN_FILE = "token ids in .npz, .npy or .txt (whole numbers separated by white space)"

#: One stage of a residual quantizer, as named by vector-quantize-pytorch ("layers.0._codebook"),
#: EnCodec ("quantizer.vq.layers.0._codebook") and transformers ("quantizer.layers.0.codebook").
STAGE = re.compile(r"(?P<owner>.*\blayers)\.(?P<stage>\d+)\.(?P<rest>_?codebook\.embed)")
SINGLE = re.compile(r"(?:.*\.)?_?codebook\.embed")


class FileError(ValueError):
    """A file that is missing, damaged, or not of the kind that was expected."""


def save_codebook(cb: Codebook, path: PathLike) -> None:
    """Write a codebook, structure and prior included, to a .npz or .safetensors file.

    `load_codebook` gives back the same kind of codebook, bit for bit. The file appears whole or
    not at all. A lazy codebook stays as small in the file as it is in memory.

    Raises:
        ValueError: another suffix, a folder that does not exist, a codebook of a kind that is
            not one of tokenkl's, or one that JAX is tracing.
    """
    suffix = _suffix(path, (".npz", ".safetensors"), "written to a .npz or .safetensors file")
    header, arrays = _pack(cb)
    if is_traced(*arrays.values(), header.get("scale")):
        reject("cb", "a traced codebook", "a codebook of numbers, outside JAX transformations")
    text = json.dumps({"format": "tokenkl codebook", "version": 1, **header})
    plain = {name: np.ascontiguousarray(array, np.float64) for name, array in arrays.items()}
    with atomic_path(path) as temporary:
        if suffix == ".safetensors":
            from safetensors.numpy import save_file

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
    with _reading(path, CODEBOOK_FILE):
        source = _open(path, (".npz", ".safetensors", ".npy"), CODEBOOK_FILE)
        if source.header is not None and key is None:
            return _unpack(json.loads(source.header), source.read)
        return _adopt(path, source, key, allow_duplicates)


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
    with _reading(path, PRIOR_FILE):
        suffix = _suffix(path, (".npz", ".npy", ".json", ".csv", ".txt"), PRIOR_FILE)
        if suffix in (".npz", ".npy"):
            source = _open(path, (".npz", ".npy"), PRIOR_FILE)
            values: Any = source.read(_only(path, source, "prior", PRIOR_FILE))
        elif suffix == ".json":
            values = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        else:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
            values = [_number(path, line, float, PRIOR_FILE) for line in lines if line.strip()]
        return check_prior(values, len(values))


def load_tokens(path: PathLike) -> Int[np.ndarray, " N"]:
    """Read token ids from a .npz, .npy or .txt file, as one flat array.

    A .npz file holds one array, or one named "tokens"; a .txt file whole numbers separated by
    white space.

    Raises:
        ValueError: a missing, damaged, empty or foreign file, or an entry that is not a whole
            number, at least 0.
    """
    with _reading(path, TOKEN_FILE):
        suffix = _suffix(path, (".npz", ".npy", ".txt"), TOKEN_FILE)
        if suffix == ".txt":
            words = Path(path).read_text(encoding="utf-8-sig").split()
            ids = np.array([_number(path, word, int, TOKEN_FILE) for word in words], np.int64)
        else:
            source = _open(path, (".npz", ".npy"), TOKEN_FILE)
            ids = source.read(_only(path, source, "tokens", TOKEN_FILE)).ravel()
            if ids.dtype.kind not in "iu":
                _refuse(path, TOKEN_FILE, f"it holds numbers of type {ids.dtype}")
            ids = ids.astype(np.int64)
        if ids.size == 0:
            _refuse(path, TOKEN_FILE, "it holds no token")
        if ids.min() < 0:
            _refuse(path, TOKEN_FILE, f"it holds {int(ids.min())}")
        return ids


class _Source(NamedTuple):
    """Arrays in a file: their shapes, a way to read one, and tokenkl's header if it has one."""

    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    header: str | None


def _refuse(path: PathLike, expected: str, why: str) -> NoReturn:
    raise FileError(f"{path} must be {expected}; {why}.")


@contextlib.contextmanager
def _reading(path: PathLike, expected: str) -> Iterator[None]:
    """Turn whatever a damaged or foreign file sets off into one sentence."""
    try:
        yield
    except FileError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"{path} must be {expected}; there is no such file.") from error
    except IsADirectoryError as error:
        raise FileError(f"{path} must be {expected}; it is a folder.") from error
    except OSError as error:
        why = error.strerror or "it cannot be read"
        raise FileError(f"{path} must be {expected}; {why}.") from error
    # Parsers fail on hostile bytes in a dozen ways: zip, zlib, struct, Unicode, recursion, memory.
    except Exception as error:
        if isinstance(error, ValueError) and " must " in str(error):  # one of our own checks
            raise FileError(f"{path} must be {expected}; in it, {error}") from error
        raise FileError(
            f"{path} must be {expected}; it is damaged, or of another kind (a pickle or a PyTorch "
            "file is never opened)."
        ) from error


def _suffix(path: PathLike, allowed: tuple[str, ...], expected: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in allowed:
        _refuse(path, expected, f"its name ends in {suffix or 'no suffix'}")
    return suffix


def _number(path: PathLike, word: str, kind: type, expected: str) -> Any:
    try:
        return kind(word)
    except ValueError:
        _refuse(path, expected, f"{word.strip()[:40]!r} in it is not such a number")


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    # Through a file object: given a name, NumPy may append a suffix of its own.
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def _open(path: PathLike, allowed: tuple[str, ...], expected: str) -> _Source:
    """The arrays of a file; call inside `_reading`."""
    suffix = _suffix(path, allowed, expected)
    if suffix == ".safetensors":
        return _open_safetensors(path, expected)
    # np.load would look at the content instead of the suffix, and may leave the file open.
    read = functools.partial(np.lib.format.read_array, allow_pickle=False)
    if suffix == ".npy":
        with open(path, "rb") as file:
            array = read(file)
        return _Source({"array": array.shape}, lambda name: array, None)
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            _refuse(path, expected, f"it would unpack to {size:,} bytes")
        for name in archive.namelist():
            if not name.endswith(".npy"):
                _refuse(path, expected, f"{name} in it is no array (is it a PyTorch file?)")
            with archive.open(name) as member:
                arrays[name.removesuffix(".npy")] = read(member)
    packed = arrays.pop(HEADER, None)
    header = None if packed is None else packed.astype(np.uint8).tobytes().decode()
    return _Source({name: a.shape for name, a in arrays.items()}, arrays.__getitem__, header)


def _open_safetensors(path: PathLike, expected: str) -> _Source:
    from safetensors import safe_open

    Path(path).open("rb").close()  # a missing file is reported as such, not as damaged
    with safe_open(path, "np") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        kinds = {name: part.get_dtype() for name, part in slices.items()}
        metadata = file.metadata() or {}

    def read(name: str) -> np.ndarray:
        kind = kinds[name]
        if kind == "BF16":
            return _read_bfloat16(Path(path), name)
        if not re.fullmatch(r"F(16|32|64)|[IU](8|16|32|64)", kind):
            _refuse(path, expected, f"{name} in it is of type {kind}, which is not read")
        with safe_open(path, "np") as file:
            return file.get_tensor(name)

    return _Source(shapes, read, metadata.get(HEADER))


def _read_bfloat16(path: Path, name: str) -> np.ndarray:
    """NumPy has no bfloat16: its 16 bits are the upper half of a float32."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        start, stop = entry["data_offsets"]
        file.seek(8 + size + start)
        words = np.frombuffer(file.read(stop - start), "<u2")
    return (words.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _only(path: PathLike, source: _Source, preferred: str, expected: str) -> str:
    """The name of the only array, or of the one with the preferred name."""
    if preferred in source.shapes:
        return preferred
    if len(source.shapes) != 1:
        _refuse(path, expected, f"it holds {_listed(source)}, and none named {preferred!r}")
    return next(iter(source.shapes))


def _listed(source: _Source) -> str:
    names = [f"{name} {shape}" for name, shape in sorted(source.shapes.items())]
    if len(names) > 12:
        names = [*names[:12], f"and {len(names) - 12} more"]
    return "the arrays " + ", ".join(names) if names else "no array"


def _pack(cb: Codebook) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scalar fields and the arrays that determine a codebook."""
    kind = type(cb)
    header: dict[str, Any] = {"kind": kind.__name__}
    arrays: dict[str, Any] = {}
    if isinstance(cb, (PointCodebook, ResidualCodebook, OneHot)) and cb.given_prior is not None:
        arrays["prior"] = cb.given_prior
    if kind is PointCodebook:
        assert isinstance(cb, PointCodebook)
        arrays["points"] = cb.coordinates
        traced = is_traced(cb.coordinates)
        header["name"] = cb.name
        header["allow_duplicates"] = not traced and first_duplicate(cb.coordinates) is not None
    elif kind is OneHot:
        assert isinstance(cb, OneHot)
        header["K"] = cb.K
        header["scale"] = cb.scale if is_traced(cb.scale) else float(cb.scale)
    elif kind is ResidualCodebook:
        assert isinstance(cb, ResidualCodebook)
        header["name"] = cb.name
        header["stages"] = len(cb.stages)
        arrays |= {f"stages.{index}": stage for index, stage in enumerate(cb.stages)}
        for index, prior in enumerate(cb.stage_priors or ()):
            if prior is not None:
                arrays[f"stage_priors.{index}"] = prior
    elif kind in (ProductCodebook, FSQ):
        assert isinstance(cb, ProductCodebook)
        header["order"] = cb.order
        if isinstance(cb, FSQ) and _is_plain_grid(cb):
            header |= {"levels": list(cb.shape), "grid": cb.grid}
        else:  # also an FSQ whose levels were replaced, so that they no longer follow its name
            header |= {"kind": "ProductCodebook", "name": cb.name, "coordinates": cb.n}
            arrays |= {f"levels.{axis}": column for axis, column in enumerate(cb.levels)}
        if cb.joint_prior is not None:
            arrays["prior"] = cb.joint_prior
        for axis, prior in enumerate(cb.priors):
            if prior is not None:
                arrays[f"priors.{axis}"] = prior
    else:
        reject("cb", kind.__name__, "one of tokenkl's own codebooks; save PointCodebook(cb.points)")
    return header, arrays


def _is_plain_grid(cb: FSQ) -> bool:
    if is_traced(*cb.levels):
        return False
    make = GRIDS[cb.grid]
    return all(np.array_equal(column, make(column.shape[0])) for column in cb.levels)


def _unpack(header: dict[str, Any], read: Callable[[str], np.ndarray]) -> Codebook:
    """The inverse of `_pack`; a damaged header ends in a KeyError or TypeError."""
    if header["version"] != 1:
        reject("version", header["version"], "1, the only one that this release reads")

    def optional(name: str) -> Any:
        with contextlib.suppress(KeyError):
            return read(name)
        return None

    kind, prior = header["kind"], optional("prior")
    if kind == "PointCodebook":
        return PointCodebook(
            read("points"),
            prior,
            name=str(header["name"]),
            allow_duplicates=bool(header["allow_duplicates"]),
        )
    if kind == "OneHot":
        return OneHot(header["K"], prior, header["scale"])
    if kind == "ResidualCodebook":
        stages = [read(f"stages.{index}") for index in range(header["stages"])]
        given = [optional(f"stage_priors.{index}") for index in range(header["stages"])]
        product = None if all(factor is None for factor in given) else given
        return ResidualCodebook(stages, prior, stage_priors=product, name=str(header["name"]))
    if kind not in ("FSQ", "ProductCodebook"):
        reject("kind", kind, "one of tokenkl's codebooks")
    if kind == "FSQ":
        levels, n = [], len(header["levels"])
    else:
        levels = [read(f"levels.{axis}") for axis in range(header["coordinates"])]
        n = len(levels)
    factors = None if prior is not None else [optional(f"priors.{axis}") for axis in range(n)]
    order = header["order"]
    if kind == "FSQ":
        return FSQ(header["levels"], prior, grid=header["grid"], order=order, priors=factors)
    return ProductCodebook(levels, factors, prior, order=order, name=str(header["name"]))


def _adopt(path: PathLike, source: _Source, key: str | None, allow_duplicates: bool) -> Codebook:
    """A codebook from the arrays of another program."""
    name = Path(path).stem
    shapes = source.shapes
    if key is None:
        layers = [match for match in map(STAGE.fullmatch, shapes) if match]
        if layers:
            return _adopt_layers(path, source, layers)
        plausible = [n for n in shapes if SINGLE.fullmatch(n)]
        plausible = plausible or [n for n, shape in shapes.items() if len(shape) in (2, 3)]
        if len(plausible) != 1:
            _refuse(
                path,
                "a file with one array that can be the codebook",
                f"it holds {_listed(source)}; choose one with key=NAME",
            )
        key = plausible[0]
    elif key not in shapes:
        _refuse(path, f"a file with an array named {key!r}", f"it holds {_listed(source)}")
    shape = shapes[key]
    if len(shape) not in (2, 3):
        _refuse(path, "a file whose codebook has 2 or 3 axes", f"{key} in it has shape {shape}")
    if len(shape) == 3 and shape[0] > 1:
        if SINGLE.fullmatch(key):  # heads quantize parts of a vector: their codes do not add up
            _refuse(path, "a codebook with one head", f"{key} in it has {shape[0]} heads")
        return ResidualCodebook(list(source.read(key)), name=name)
    points = source.read(key).reshape(shape[-2:])
    prior = source.read("prior") if "prior" in shapes and key != "prior" else None
    return PointCodebook(points, prior, name=name, allow_duplicates=allow_duplicates)


def _adopt_layers(path: PathLike, source: _Source, layers: list[re.Match[str]]) -> Codebook:
    expected = "the state dict of one residual quantizer"
    owners = sorted({match["owner"] for match in layers})
    numbers = sorted(int(match["stage"]) for match in layers)
    if len(owners) > 1:
        _refuse(
            path, expected, f"it holds {len(owners)}: {', '.join(owners)}; choose with key=NAME"
        )
    if numbers != list(range(len(layers))):
        _refuse(path, expected, f"its layers are numbered {', '.join(map(str, numbers))}")
    projected = re.compile(re.escape(owners[0]) + r"\.\d+\..*proj.*")
    if any(projected.fullmatch(name) for name in source.shapes):
        _refuse(path, expected, "its layers project their codes, which then do not add up")
    stages = []
    for match in sorted(layers, key=lambda match: int(match["stage"])):
        shape = source.shapes[match.string]
        if len(shape) != 2 and not (len(shape) == 3 and shape[0] == 1):
            _refuse(path, expected, f"{match.string} in it has shape {shape}")
        stages.append(source.read(match.string).reshape(shape[-2:]))
    return ResidualCodebook(stages, name=Path(path).stem)
