"""Vectors in text, with words before them or without, and the binary files of word2vec."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import numpy as np

from tokenkl._formats import Arrays, Opened, parsing
from tokenkl._validation import shortened

#: Most bytes of a text with vectors: numbers take a third of that in memory.
MAX_VECTORS = 2**30


@contextlib.contextmanager
def open_text(file: Opened) -> Iterator[Arrays]:
    """One array, "vectors": a vector in each line, after a word in files of word2vec and GloVe.

    Numbers are separated by commas, semicolons, tabs or spaces. A first line may say how many
    vectors there are and of how many numbers, or name the columns.
    """
    if file.size > MAX_VECTORS:
        file.refuse(f"it has more than {MAX_VECTORS:,} bytes")
    lines = [line for line in file.text(MAX_VECTORS).split("\n") if line.strip()]
    if not lines:
        file.refuse("it holds no line")
    counted = re.fullmatch(r"\s*(\d{1,9})\s+(\d{1,9})\s*", lines[0])
    rows, n = lines, 0
    if counted and len(lines) > 1 and len(lines[1].split()) == int(counted[2]) + 1:
        rows, n = lines[1:], int(counted[2])
        if len(rows) != int(counted[1]):
            file.refuse(f"its first line says {counted[1]} vectors, and {len(rows)} follow")
    elif (
        _is_word(lines[0].split()[0])
        and len(lines[0].split()) > 2
        and _are_numbers(lines[0].split()[1:])
    ):
        n = len(lines[0].split()) - 1  # GloVe, which does not count
    vectors = _of_words(file, rows, n) if n else _of_numbers(file, rows)
    yield Arrays(file, {"vectors": vectors.shape}, lambda name: vectors)


def _is_word(text: str) -> bool:
    return not _are_numbers([text])


def _are_numbers(words: list[str]) -> bool:
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return True


def _of_words(file: Opened, rows: list[str], n: int) -> np.ndarray:
    """The last n words of each row: a word of a language may hold spaces itself."""
    vectors = np.empty((len(rows), n))
    for row, line in enumerate(rows):
        vectors[row] = _row(file, line.strip().rsplit(None, n)[-n:], n, row)
    return vectors


def _of_numbers(file: Opened, lines: list[str]) -> np.ndarray:
    separator = next((mark for mark in (",", ";", "\t") if mark in lines[0]), None)
    cells = [[cell.strip() for cell in line.split(separator)] for line in lines]
    first = cells[0]
    if not _are_numbers(first):
        if not first[0] or first[0].lower() in ("index", "unnamed: 0", '""'):
            file.refuse(
                "its first column looks like the numbers of its rows, as pandas writes them; write "
                "the vectors alone (index=False, header=False)"
            )
        if any(map(_is_number, first)):
            file.refuse(f"{shortened(next(filter(_is_word, first)), 40)!r} in it is not a number")
        cells = cells[1:]
    elif first == [str(column) for column in range(len(first))] and any(
        "." in cell or "e" in cell for row in cells[1:] for cell in row
    ):
        file.refuse(
            "its first line counts 0, 1, 2 like the names of columns; write it without "
            "(header=False)"
        )
    if not cells:
        file.refuse("it holds no vector")
    n = len(cells[0])
    vectors = np.stack([_row(file, row, n, number) for number, row in enumerate(cells)])
    for place in (0, n - 1):
        column = vectors[:, place]
        counts = column[0] in (0, 1) and np.array_equal(column - column[0], np.arange(len(column)))
        if counts and len(column) > 2 and (vectors != np.rint(vectors)).any():
            file.refuse(
                f"its {'last' if place else 'first'} column counts its rows; write the vectors "
                "alone, or by numpy.save if it is a coordinate"
            )
    return vectors


def _is_number(text: str) -> bool:
    return _are_numbers([text])


def _row(file: Opened, cells: list[str], n: int, number: int) -> np.ndarray:
    if len(cells) != n:
        file.refuse(f"vector {number} in it has {len(cells)} numbers, and the first has {n}")
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        word = next(cell for cell in cells if _is_word(cell))
        file.refuse(f"{shortened(word, 40)!r} in it is not a number")


@contextlib.contextmanager
def open_word2vec(file: Opened) -> Iterator[Arrays]:
    """One array, "vectors", of a binary file of word2vec: float32 numbers after each word."""
    content = file.bytes(2**33)
    line = content[:64].partition(b"\n")[0]
    counted = re.fullmatch(rb"(\d{1,9}) (\d{1,6})\s*", line)
    if counted is None:
        file.refuse("it is neither of PyTorch nor of word2vec")
    count, n = int(counted[1]), int(counted[2])
    if count * n * 4 > len(content):
        file.refuse(
            f"it says that it holds {count:,} vectors of {n:,} numbers, more than it has bytes"
        )
    with parsing():
        vectors = np.empty((count, n), np.float32)
        place = len(line) + 1
        for row in range(count):
            place = content.index(b" ", place) + 1
            vectors[row] = np.frombuffer(content, "<f4", n, place)
            place += 4 * n
    yield Arrays(file, {"vectors": vectors.shape}, lambda name: vectors)
