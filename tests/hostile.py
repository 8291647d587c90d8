"""Damage done to files: seeded changes of bytes and of structure, and what a reader may answer."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import signal
import struct
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tokenkl._formats import FileError

#: What stands in the place of a value.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 10**6, 2**31 - 1, 2**63, 10**30, 10**400, 0.5, -0.0, 1e308,
    1e-320, float("nan"), float("inf"), "", "x", "\x1b[31mred\x07", "\ud800", "../x", "é" * 1000,
    [], {}, [[]], [1, "x"], {"x": 1}, "BRACKETS",
)  # fmt: skip

#: What stands in the place of a number in a binary header.
NUMBERS = (0, 1, 2, 3, 7, 8, 16, 255, 256, 2**15, 2**16 - 1, 2**20, 2**31 - 1, 2**31, 2**32 - 1)

Damage = Callable[[bytes, np.random.Generator], bytes]


def _pick(rng: np.random.Generator, things: Any) -> Any:
    return things[int(rng.integers(len(things)))]


def damage_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip, overwrite, cut, repeat, insert or zero, mostly near the beginning or the end."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        size = len(data)
        if size == 0:
            break
        reach = min(size, int(_pick(rng, (32, 200, 2000, size))))
        at = int(rng.integers(reach)) if rng.random() < 0.6 else size - 1 - int(rng.integers(reach))
        length = int(rng.integers(1, 40))
        match int(rng.integers(7)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at : at + 4] = struct.pack("<I", _pick(rng, NUMBERS))
            case 2:
                del data[at : at + length]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                data[at:at] = rng.bytes(length)
            case _:
                data[at : at + length] = bytes(length)
    return bytes(data)


def damage_value(value: Any, rng: np.random.Generator) -> Any:
    """Replace, remove, rename, repeat or wrap one part of a JSON value, at any depth."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.15:
        return _pick(rng, VALUES)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = _pick(rng, keys)
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    match int(rng.integers(8)):
        case 0:
            del changed[key]
        case 1 if isinstance(changed, dict):
            changed[_pick(rng, ("", "x", "\x1b[2J", "y" * 500))] = changed.pop(key)
        case 1:
            changed.insert(key, changed[key])
        case 2:
            changed[key] = [changed[key]]
        case _:
            changed[key] = damage_value(changed[key], rng)
    return changed


def dumps(value: Any) -> bytes:
    """JSON with what only a hostile writer puts there."""
    return json.dumps(value).replace('"BRACKETS"', "[" * 3000 + "]" * 3000).encode()


def damage_json(content: bytes, rng: np.random.Generator) -> bytes:
    return dumps(damage_value(json.loads(content), rng))


def damage_lines(content: bytes, rng: np.random.Generator) -> bytes:
    """One line or field of a text file."""
    lines = content.split(b"\n")
    at = int(rng.integers(len(lines)))
    words = (
        b"", b"|", b"||||", b"x" * 300, b"../x", b"..", b"\x00", b"\xff\xfe", b"\x1b[31m|x|y",
        b"1e999", b"9" * 5000, b"-1", b"nan", b" " * 5000 + b"|a", b"/dev/zero|x|y",
        b"\xef\xbb\xbf|x",
    )  # fmt: skip
    match int(rng.integers(4)):
        case 0:
            lines[at] = _pick(rng, words)
        case 1:
            fields = lines[at].split(b"|")
            fields[int(rng.integers(len(fields)))] = _pick(rng, words)
            lines[at] = b"|".join(fields)
        case 2:
            lines.insert(at, lines[at])
        case _:
            lines[at] = damage_bytes(lines[at], rng)
    return b"\n".join(lines)


def damage_npy(content: bytes, rng: np.random.Generator) -> bytes:
    """The header of an array: its shape, type, order and length."""
    size = struct.unpack("<H", content[8:10])[0]
    header, body = content[10 : 10 + size].decode(), content[10 + size :]
    before, rest = header.split("'shape': (", 1)
    shape, after = rest.split(")", 1)
    shapes = (
        shape, "", "-1,", "-1, -1", "0,", "3.5,", "None,", "True, 2", f"{2**26}, 4", f"{2**62}, 8",
        "1, " * 70, f"{2**40}, {2**40}, 0", "(2, 2)", "'x',", "1" * 5000 + ",",
    )  # fmt: skip
    kinds = (
        "<f8", ">f8", "|O", "<i8", "<u8", "|b1", "<c16", "|V8", "<U9", "<U0", "|S2000000000", "x",
        "<f2", "<M8[s]", "|i1", "<f16",
    )  # fmt: skip
    match int(rng.integers(4)):
        case 0:
            header = f"{before}'shape': ({_pick(rng, shapes)}){after}"
        case 1:
            start = header.index("'", header.index("descr") + 6)
            stop = header.index("'", start + 1)
            header = f"{header[:start]}'{_pick(rng, kinds)}{header[stop:]}"
        case 2:
            header = damage_bytes(header.encode(), rng).decode("latin1")
        case _:
            body = damage_bytes(body, rng)
    packed = header.encode("latin1")
    length = len(packed) if rng.random() < 0.9 else _pick(rng, (0, 1, 2**15))
    return content[:8] + struct.pack("<H", min(length, 2**16 - 1)) + packed + body


def damage_npz(content: bytes, rng: np.random.Generator) -> bytes:
    """A member, its name, the way in which it is packed, or the directory of the archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = int(rng.integers(len(members)))
    name, body = members[at]
    how = zipfile.ZIP_STORED
    match int(rng.integers(6)):
        case 0:
            members[at] = (_pick(rng, ("x", "\x1b[31m.npy", "y" * 5000 + ".npy", "../z.npy")), body)
        case 1:
            how = _pick(rng, (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        case 2:
            del members[at]
        case _:
            members[at] = (name, damage_npy(body, rng))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, body in members:
            archive.writestr(name, body)
    made = bytearray(buffer.getvalue())
    if rng.random() < 0.3:  # flags, methods, sizes and places in the directory
        start = made.find(b"PK\x01\x02", int(rng.integers(len(made))))
        field = start + int(_pick(rng, (6, 8, 10, 16, 20, 24, 28, 30, 32, 42)))
        made[field : field + 2] = struct.pack("<H", _pick(rng, NUMBERS) % 2**16)
    return bytes(made)


def damage_safetensors(content: bytes, rng: np.random.Generator) -> bytes:
    """The header: shapes, types, places, or our own description in it."""
    size = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    ours = header.get("__metadata__", {}).get("tokenkl")
    if ours is not None and rng.random() < 0.75:
        described = dumps(damage_value(json.loads(ours), rng)).decode()
        header["__metadata__"]["tokenkl"] = described
    else:
        header = damage_value(header, rng)
    packed = dumps(header)
    packed += b" " * (-len(packed) % 8)
    length = len(packed) if rng.random() < 0.95 else _pick(rng, (0, 8, 2**31, 2**63))
    return struct.pack("<Q", length) + packed + body


def damage_wav(content: bytes, rng: np.random.Generator) -> bytes:
    """Numbers of the header."""
    data = bytearray(content)
    fields = ((4, "<I"), (16, "<I"), (20, "<H"), (22, "<H"), (24, "<I"), (28, "<I"), (32, "<H"),
              (34, "<H"), (40, "<I"))  # fmt: skip
    for _ in range(int(rng.integers(1, 4))):
        at, form = _pick(rng, fields)
        number = _pick(rng, (*NUMBERS, 8000, 22_050, 44_100, 192_000, 0xFFFE))
        data[at : at + struct.calcsize(form)] = struct.pack(
            form, number % 256 ** struct.calcsize(form)
        )
    return bytes(data)


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def attack(
    path: Path,
    load: Callable[[], object],
    damage: Damage | None,
    count: int,
    *,
    seed: int = 0,
    seconds: float = 5.0,
    megabytes: float = 600.0,
    error: type[ValueError] = FileError,
) -> dict[str, int]:
    """Damage a file in `count` ways; a reader loads it, or says in one sentence why not.

    Returns:
        How often it was loaded, and refused.
    """
    whole = path.read_bytes()
    told = {"loaded": 0, "refused": 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        way = damage if damage is not None and rng.random() < 0.65 else damage_bytes
        path.write_bytes(way(whole, rng))
        where = f"damage {number} by {way.__name__}"
        began = time.monotonic()
        try:
            load()
            told["loaded"] += 1
        except error as refusal:
            message = str(refusal)
            assert message.isprintable(), (where, message)
            assert len(message) < 1500, (where, message)
            assert message.endswith("."), (where, message)
            assert error is not FileError or path.name in message, (where, message)
            told["refused"] += 1
        except BaseException as other:
            raise AssertionError(f"{where}: {type(other).__name__}: {other}") from other
        assert time.monotonic() - began < seconds, where
    path.write_bytes(whole)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) / 1024 < megabytes
    return told
