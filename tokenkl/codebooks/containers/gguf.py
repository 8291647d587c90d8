"""GGUF, the files of llama.cpp: descriptions first, then tensors at places that they name."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np

from tokenkl._formats import Arrays, Opened, parsing

#: Numbers of types -> how they are stored, and what NumPy calls that.
TYPES = {
    0: ("F32", "<f4"),
    1: ("F16", "<f2"),
    28: ("F64", "<f8"),
    30: ("BF16", "<u2"),
    8: ("Q8_0", ""),
}
#: Bytes of the values of descriptions, by the number of their type; 8 is a text, 9 a list.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
#: Most descriptions, and tensors, and axes.
MAX_ENTRIES, MAX_AXES = 2**16, 4


class _Tensor(NamedTuple):
    shape: tuple[int, ...]
    kind: int
    place: int


@contextlib.contextmanager
def open_gguf(file: Opened) -> Iterator[Arrays]:
    """The tensors of a GGUF file; of the packed types, Q8_0 is read."""
    with file.path.open("rb") as stream:
        with parsing(struct.error):
            tensors = _Reader(stream, file.size).tensors()

        def numbers(name: str) -> np.ndarray:
            tensor = tensors[name]
            if tensor.kind not in TYPES:
                file.refuse(
                    f"{name} in it is packed (type {tensor.kind}), which is not read; convert the "
                    "model with --outtype f16 or q8_0"
                )
            kind, dtype = TYPES[tensor.kind]
            count = math.prod(tensor.shape)
            with parsing():
                if tensor.place + count > file.size:  # a byte or more for each
                    raise ValueError("cut short")
                stream.seek(tensor.place)
                if kind == "Q8_0":  # blocks of 32 numbers and a scale
                    block = np.dtype([("scale", "<f2"), ("numbers", "i1", 32)])
                    read = np.frombuffer(stream.read(count // 32 * block.itemsize), block)
                    values = read["scale"].astype(np.float32)[:, None] * read["numbers"]
                    return values.reshape(tensor.shape)
                values = np.frombuffer(stream.read(count * np.dtype(dtype).itemsize), dtype)
                if kind == "BF16":
                    values = (values.astype(np.uint32) << 16).view(np.float32)
                return values.reshape(tensor.shape)

        yield Arrays(file, {name: tensor.shape for name, tensor in tensors.items()}, numbers)


class _Reader:
    """What stands before the tensors."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.size = stream, size

    def take(self, form: str) -> int:
        """One whole number."""
        wanted = struct.calcsize(form)
        [number] = struct.unpack(form, self.stream.read(wanted))
        return int(number)

    def text(self) -> str:
        length = self.take("<Q")
        self._check(length)
        return self.stream.read(length).decode()

    def tensors(self) -> dict[str, _Tensor]:
        if self.stream.read(4) != b"GGUF" or self.take("<I") not in (2, 3):
            raise ValueError("no GGUF file of version 2 or 3")
        count, described = self.take("<Q"), self.take("<Q")
        if max(count, described) > MAX_ENTRIES:
            raise ValueError("too many entries")
        alignment = 32
        for _ in range(described):
            name, value = self.text(), self._value(self.take("<I"))
            if name == "general.alignment":
                alignment = value
        entries = [
            (self.text(), self._axes(), self.take("<I"), self.take("<Q")) for _ in range(count)
        ]
        if not 0 < alignment <= 2**20:
            raise ValueError("no alignment")
        start = -(-self.stream.tell() // alignment) * alignment
        # The axes are written from the one that varies fastest.
        return {
            name: _Tensor(axes[::-1], kind, start + place) for name, axes, kind, place in entries
        }

    def _axes(self) -> tuple[int, ...]:
        count = self.take("<I")
        if count > MAX_AXES:
            raise ValueError("too many axes")
        return tuple(self.take("<Q") for _ in range(count))

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind == 8:
            return self.text()
        if kind == 9:
            if depth > 4:
                raise ValueError("lists in lists")
            inner, count = self.take("<I"), self.take("<Q")
            self._check(count)
            if inner in SIZES:
                self._check(count * SIZES[inner])
                self.stream.seek(count * SIZES[inner], 1)
                return None
            for _ in range(count):
                self._value(inner, depth + 1)
            return None
        content = self.stream.read(SIZES[kind])
        return int.from_bytes(content, "little")

    def _check(self, length: int) -> None:
        if length > self.size - self.stream.tell():
            raise ValueError("cut short")
