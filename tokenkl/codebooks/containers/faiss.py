"""Indexes of faiss: vectors, centroids of a product quantizer, or stages of a residual one."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np

from tokenkl._formats import Arrays, Opened, parsing

#: Most parts or stages, and bits of each.
MAX_PARTS, MAX_BITS = 2**16, 24


@contextlib.contextmanager
def open_faiss(file: Opened) -> Iterator[Arrays]:
    """What `write_index` keeps of an index.

    That of an IndexFlat is "vectors", of an IndexPQ "pq.centroids", of an IndexResidualQuantizer
    "rq.0", "rq.1", and so on.
    """
    with file.path.open("rb") as stream:
        kind = stream.read(4)
        readers = {b"IxPq": _product, b"IxRq": _residual}
        readers |= dict.fromkeys((b"IxF2", b"IxFI", b"IxFl"), _flat)  # by their metrics
        if kind not in readers:
            shown = kind.decode("ascii", "backslashreplace")
            file.refuse(
                f"it begins with {shown!r}: of faiss, IndexFlat, IndexPQ and "
                "IndexResidualQuantizer are read; save the array of another one by numpy.save"
            )
        with parsing(struct.error):
            d, *_ = _take(stream, "<iqqq?")  # and size, two numbers without meaning, trained
            if _take(stream, "<i")[0] > 1:  # a metric with a number of its own
                _take(stream, "<f")
            found = readers[kind](stream, file.size, d)
    yield Arrays(file, {name: array.shape for name, array in found.items()}, found.__getitem__)


def _flat(stream: IO[bytes], size: int, d: int) -> dict[str, np.ndarray]:
    return {"vectors": _vector(stream, size).reshape(-1, d)}


def _product(stream: IO[bytes], size: int, d: int) -> dict[str, np.ndarray]:
    _, parts, bits = _take(stream, "<QQQ")
    _check(parts, bits)
    centroids = _vector(stream, size)
    return {"pq.centroids": centroids.reshape(parts, 2**bits, d // parts)}


def _residual(stream: IO[bytes], size: int, d: int) -> dict[str, np.ndarray]:
    _, stages, count = _take(stream, "<QQQ")
    _check(stages, 1)
    if count != stages:
        raise ValueError("not a number of bits for each stage")
    bits = _take(stream, f"<{stages}Q")
    for one in bits:
        _check(stages, one)
    _take(stream, "<?")
    rows = _vector(stream, size).reshape(-1, d)
    ends = np.cumsum([2**one for one in bits])
    if ends[-1] != len(rows):
        raise ValueError("not 2^bits rows for each stage")
    return {f"rq.{place}": one for place, one in enumerate(np.split(rows, ends[:-1]))}


def _take(stream: IO[bytes], form: str) -> tuple[int, ...]:
    return struct.unpack(form, stream.read(struct.calcsize(form)))


def _check(parts: int, bits: int) -> None:
    if not (0 < parts <= MAX_PARTS and 0 < bits <= MAX_BITS):
        raise ValueError("no quantizer")


def _vector(stream: IO[bytes], size: int) -> np.ndarray:
    [count] = _take(stream, "<Q")
    if count > size:
        raise ValueError("cut short")
    return np.frombuffer(stream.read(4 * count), "<f4")
