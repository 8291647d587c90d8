"""Files read without trust, and the one way in which a bad file is refused.

A reader does its work inside `reading`, which turns everything that may be wrong with a file into
one sentence that names it. Sizes that a file claims are compared with its own size before room is
made for them; what a parser gave is compared with a type (`conform`) before it is relied upon, so
that an error of ours still looks like one. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import json
import math
import os
import re
import stat
import sys
import tokenize
import types
import typing
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, NoReturn

import numpy as np

from tokenkl._files import PathLike
from tokenkl._validation import printable, reject, shortened

#: Most bytes of a text file, and of JSON, which takes some 25 times as much memory when parsed.
MAX_TEXT, MAX_JSON = 2**27, 2**25

#: Numbers that any file may unpack to, and how many for each of its own bytes beyond that: a zip
#: archive can claim, and a run of zeros can unpack to, more than any machine holds.
FREE_NUMBERS, NUMBERS_PER_BYTE = 2**24, 4

#: Longest name of an array.
MAX_NAME = 1000

#: Name of tokenkl's own description: a uint8 array of its bytes in .npz, a metadata entry in
#: .safetensors.
HEADER = "tokenkl"

DAMAGED = (
    "it is damaged, or of another kind (a pickle is never opened, nor a PyTorch file by another "
    "name)"
)

#: How the parsers of zip archives, array headers, safetensors and JSON fail on bytes that they did
#: not expect; RuntimeError is an encrypted member, or (as RecursionError) brackets in brackets.
_PARSING: tuple[type[Exception], ...] = (
    ValueError, EOFError, KeyError, IndexError, TypeError, OverflowError, SyntaxError, RuntimeError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class FileError(ValueError):
    """A file that is missing, damaged, or not of the kind that was expected."""


class _Damage(ValueError):
    """What a parser stumbled over."""


def shown_path(path: PathLike) -> str:
    """A path as messages show it, the end of a long one."""
    shown = printable(str(path))
    return shown if len(shown) <= 300 else f"...{shown[-297:]}"


def refuse(path: PathLike, expected: str, why: str) -> NoReturn:
    """Raise the one kind of error that a bad file causes."""
    why = shortened(printable(" ".join(why.rstrip(".").split())), 500)
    raise FileError(f"{shown_path(path)} must be {printable(expected)}; {why}.")


@dataclasses.dataclass(frozen=True)
class Opened:
    """A file that is there, and is a file: `size` is in bytes, `expected` what it should be."""

    path: Path
    size: int
    expected: str

    def refuse(self, why: str) -> NoReturn:
        """This file is not what was expected."""
        refuse(self.path, self.expected, why)

    def bytes(self, most: int = MAX_TEXT) -> bytes:
        """The whole of a file that is not larger than that."""
        with self.path.open("rb") as file:
            content = file.read(most + 1)  # a file may be longer than it says, such as in /proc
        if len(content) > most:
            self.refuse(f"it has more than {most:,} bytes")
        return content

    def text(self, most: int = MAX_TEXT) -> str:
        """The whole of a UTF-8 text file, out of gzip where its name ends so."""
        if self.path.suffix == ".gz":
            with parsing(), gzip.open(self.path) as file:
                content = file.read(most + 1)
            if len(content) > most:
                self.refuse(f"it unpacks to more than {most:,} bytes")
        else:
            content = self.bytes(most)
        with parsing():
            return content.decode("utf-8-sig")

    def json(self, kind: Any) -> Any:
        """A JSON file whose value is of this type; see `conform`."""
        return parse_json(self.text(MAX_JSON), kind)


@contextlib.contextmanager
def reading(path: PathLike, expected: str) -> Iterator[Opened]:
    """Open a file, and turn whatever is wrong with it into one sentence.

    Args:
        path: a regular file, or a link to one; devices and pipes may never end.
        expected: what it must be, for the sentence.

    Raises:
        FileError: no such file, or anything that a reader refuses while this is open.
    """
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            refuse(path, expected, "it is a folder")
        if not stat.S_ISREG(found.st_mode):
            refuse(path, expected, "it is a device or a pipe, not a file")
        yield Opened(Path(path), found.st_size, expected)
    except FileError:
        raise
    except FileNotFoundError as error:
        raise_from(error, path, expected, "there is no such file")
    except OSError as error:
        raise_from(error, path, expected, error.strerror or "it cannot be read")
    except MemoryError as error:
        raise_from(error, path, expected, "there is not enough memory to read it")
    except _Damage as error:
        raise_from(error, path, expected, DAMAGED)
    except ValueError as error:  # one of our own checks
        raise_from(error, path, expected, f"in it, {error}")


def raise_from(error: BaseException, path: PathLike, expected: str, why: str) -> NoReturn:
    """`refuse`, because of an error."""
    try:
        refuse(path, expected, why)
    except FileError as refusal:
        raise refusal from error


@contextlib.contextmanager
def parsing(*more: type[Exception]) -> Iterator[None]:
    """Around a parser of others and nothing else: what it raises means that the file is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's about headers of Python 2
            yield
    except FileError:
        raise
    except _PARSING + more as error:
        raise _Damage(str(error)) from error


# ---- JSON ----------------------------------------------------------------------------------------


def parse_json(text: str | bytes, kind: Any, name: str = "the record") -> Any:
    """The value of a JSON text, which must be of this type; see `conform`."""
    with parsing():
        value = json.loads(text)
    return conform(value, kind, name)


def conform(value: Any, kind: Any, name: str = "the record") -> Any:
    """A JSON value as what a type says, or a `ValueError` that names the first part that is not.

    Types are int (of 64 bits), float, bool, str, None, Literal, list, tuple, dict with names as
    keys, unions with None, TypedDict (whose other keys are kept as they are) and dataclasses
    (which have no others, and are made). Lists become tuples where a tuple is asked for.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and types.NoneType in parts:
            return None
        [kind] = [part for part in parts if part is not types.NoneType]
        return conform(value, kind, name)
    if origin is Literal:
        if not any(value == part and type(value) is type(part) for part in parts):
            _mismatch(value, " or ".join(repr(part) for part in parts), name)
        return value
    if typing.is_typeddict(kind):
        return _fields(value, _hints(kind), kind.__required_keys__, name)
    if dataclasses.is_dataclass(kind):
        return _made(value, kind, name)
    if origin is list or origin is tuple:
        if not isinstance(value, (list, tuple)):
            _mismatch(value, "a list", name)
        if parts[0] is float and set(map(type, value)) <= {float, int}:
            with contextlib.suppress(OverflowError):
                return origin(map(float, value))  # of millions, quickly
        if origin is tuple and parts[-1] is not Ellipsis:
            if len(value) != len(parts):
                _mismatch(value, f"a list of {len(parts)}", name)
        else:
            parts = (parts[0],) * len(value)
        rows = zip(value, parts, strict=True)
        return origin([conform(one, part, f"{name}[{i}]") for i, (one, part) in enumerate(rows)])
    if origin is dict:
        if not isinstance(value, dict):
            _mismatch(value, "a table of names", name)
        return {
            key: conform(one, parts[1], f"{name}[{shortened(repr(key), 40)}]")
            for key, one in value.items()
        }
    return _scalar(value, kind, name)


def _made(value: Any, kind: Any, name: str) -> Any:
    """A dataclass from its fields."""
    none = dataclasses.MISSING
    needed = {f.name for f in dataclasses.fields(kind) if f.default is none is f.default_factory}
    made = _fields(value, _hints(kind), needed, name)
    for field in made:
        if field not in _hints(kind):
            reject(name, f"the field {field!r}", "without unknown fields")
    return kind(**made)


def _scalar(value: Any, kind: Any, name: str) -> Any:
    if kind is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    elif type(value) is kind and not (kind is int and abs(value) >= 2**63):
        return value
    names: dict[Any, str] = {int: "a whole number of 64 bits", float: "a number", str: "a text"}
    return _mismatch(value, names.get(kind, f"of type {kind.__name__}"), name)


def _fields(value: Any, hints: Mapping[str, Any], needed: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _mismatch(value, "a table of names", name)
    made = {
        key: conform(one, hints.get(key, Any), f"{name}.{shortened(key, 40)}")
        for key, one in value.items()
    }
    for field in hints:
        if field in needed and field not in made:
            reject(name, f"none called {field!r}", f"a table with the names {', '.join(hints)}")
    return made


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _mismatch(value: Any, expected: str, name: str) -> NoReturn:
    # Not shown whole: it may be as large as the file, and as deep as the stack.
    shown = repr(value)
    if isinstance(value, (list, tuple, dict)):
        shown = f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    reject(shortened(name, 120), shown, expected)


# ---- Arrays --------------------------------------------------------------------------------------


class Arrays:
    """The arrays of a file: their shapes first, numbers when they are asked for.

    - `shapes`: of every array, by name.
    - `header`: tokenkl's own description of the file, None where there is none.
    - `notes`: whatever else its writer noted.
    """

    def __init__(
        self,
        file: Opened,
        shapes: dict[str, tuple[int, ...]],
        numbers: Callable[[str], Any],
        header: str | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self.file, self.shapes, self.header, self._numbers = file, shapes, header, numbers
        self.notes = notes or {}
        self._room = max(FREE_NUMBERS, NUMBERS_PER_BYTE * file.size)
        for name in shapes:  # to compare long ones with patterns, or to show them, takes long
            if len(name) > MAX_NAME:
                file.refuse(f"an array in it has a name of {len(name):,} characters")

    def read(self, name: str) -> Any:
        """The numbers of one array.

        Raises:
            ValueError: no array of this name, or more numbers than a file of this size may hold.
        """
        if name not in self.shapes:
            reject("the arrays", ", ".join(self.shapes) or "none", f"with one named {name!r}")
        count = math.prod(self.shapes[name])
        self._room -= count
        if self._room < 0:
            self.file.refuse(f"it would unpack to {count:,} numbers, too many for its size")
        return self._numbers(name)


@contextlib.contextmanager
def open_arrays(file: Opened) -> Iterator[Arrays]:
    """The arrays of a .npy file (its only one is called "array"), a .npz or a .safetensors file."""
    open_as = {".npy": _open_npy, ".npz": _open_npz, ".safetensors": _open_safetensors}
    with open_as[file.path.suffix.lower()](file) as arrays:
        yield arrays


class _Claim(NamedTuple):
    """What the header of an array says."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _claim(stream: IO[bytes], size: int) -> _Claim:
    """The header of an array in so many bytes, which must hold what it claims."""
    with parsing():
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        claim = _Claim(*read(stream))
        if claim.dtype.hasobject or min(claim.shape, default=0) < 0:
            raise ValueError("a pickle, or no shape")
        if claim.bytes > size - stream.tell():
            raise ValueError("cut short")
        return claim


def _numbers(stream: IO[bytes], claim: _Claim) -> np.ndarray:
    """The array behind a header."""
    order: Literal["F", "C"] = "F" if claim.fortran else "C"
    with parsing():
        content = stream.read(claim.bytes)
        if claim.dtype.kind == "U":  # NumPy would fail later, at the first that is no character
            codes = np.frombuffer(content, np.dtype("u4").newbyteorder(claim.dtype.byteorder))
            if codes.max(initial=0) > sys.maxunicode:
                raise ValueError("no characters")
        return np.frombuffer(content, claim.dtype).reshape(claim.shape, order=order)


@contextlib.contextmanager
def _open_npy(file: Opened) -> Iterator[Arrays]:
    with file.path.open("rb") as stream:
        claim = _claim(stream, file.size)
        yield Arrays(file, {"array": claim.shape}, lambda name: _numbers(stream, claim))


@contextlib.contextmanager
def _open_npz(file: Opened) -> Iterator[Arrays]:
    with contextlib.ExitStack() as stack:
        with parsing():
            archive = stack.enter_context(zipfile.ZipFile(file.path))
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

        def read(name: str, then: Callable[[IO[bytes], _Claim], Any]) -> Any:
            info = members[name]
            if not info.filename.endswith(".npy"):
                file.refuse(f"{info.filename} in it is no array (is it a PyTorch file?)")
            # The other methods that zip knows unpack without a limit; NumPy writes none of them.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                file.refuse(f"{info.filename} in it is packed by a method that is not read")
            with contextlib.ExitStack() as inner:
                with parsing():
                    member = inner.enter_context(archive.open(info))
                return then(member, _claim(member, info.file_size))

        def numbers(name: str) -> np.ndarray:
            return read(name, _numbers)

        shapes = {name: read(name, lambda _, claim: claim.shape) for name in members}
        packed = shapes.pop(HEADER, None)
        header = None
        if packed is not None:
            if math.prod(packed) > MAX_JSON:
                file.refuse(f"its description has more than {MAX_JSON:,} bytes")
            with parsing():
                header = numbers(HEADER).astype(np.uint8).tobytes().decode()
        yield Arrays(file, shapes, numbers, header)


@contextlib.contextmanager
def _open_safetensors(file: Opened) -> Iterator[Arrays]:
    with open_tensors(file, "np") as (arrays, kinds):
        # `save_model` keeps one of the tensors that share memory, and notes the others' names.
        kept = {name: name for name in kinds}
        shared = {name: one for name, one in arrays.notes.items() if one in kinds}
        shared.pop("format", None)  # the program that wrote the file, such as "pt"
        kept = shared | kept
        shapes = {name: arrays.shapes[one] for name, one in kept.items()}

        def numbers(name: str) -> np.ndarray:
            name = kept[name]
            if kinds[name] == "BF16":
                return _read_bfloat16(file.path, name)
            if not re.fullmatch(r"F(16|32|64)|[IU](8|16|32|64)", kinds[name]):
                file.refuse(f"{name} in it is of type {kinds[name]}, which is not read")
            return arrays.read(name)

        yield Arrays(file, shapes, numbers, arrays.header, arrays.notes)


@contextlib.contextmanager
def open_tensors(
    file: Opened, framework: Literal["np", "pt"]
) -> Iterator[tuple[Arrays, dict[str, str]]]:
    """The tensors of a .safetensors file, as NumPy arrays or for PyTorch, and their types."""
    from safetensors import SafetensorError, safe_open

    with contextlib.ExitStack() as stack:
        with parsing(SafetensorError):
            opened = stack.enter_context(safe_open(file.path, framework))
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            kinds = {name: part.get_dtype() for name, part in slices.items()}
            notes = dict(opened.metadata() or {})

        def numbers(name: str) -> Any:
            with parsing(SafetensorError):
                return opened.get_tensor(name)

        yield Arrays(file, shapes, numbers, notes.pop(HEADER, None), notes), kinds


def _read_bfloat16(path: Path, name: str) -> np.ndarray:
    """NumPy has no bfloat16: its 16 bits are the upper half of a float32."""
    with path.open("rb") as file, parsing():
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        start, stop = entry["data_offsets"]
        file.seek(8 + size + start)
        words = np.frombuffer(file.read(stop - start), "<u2")
        return (words.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


@contextlib.contextmanager
def errors_of_the_disk() -> Iterator[None]:
    """Around the writer of safetensors, whose errors of the disk are not the usual `OSError`."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise OSError(str(error)) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
