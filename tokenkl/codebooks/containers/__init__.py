"""Files that hold arrays, by their endings: one module for each way to keep them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tokenkl._formats import Arrays, Opened, open_arrays
from tokenkl.codebooks.containers.beside import notes_beside
from tokenkl.codebooks.containers.checkpoint import open_checkpoint
from tokenkl.codebooks.containers.faiss import open_faiss
from tokenkl.codebooks.containers.folders import in_folder, open_shards
from tokenkl.codebooks.containers.gguf import open_gguf
from tokenkl.codebooks.containers.vectors import open_text, open_word2vec

__all__ = ["PICKLES", "SUFFIXES", "in_folder", "open_any"]


def _open_bin(file: Opened) -> AbstractContextManager[Arrays]:
    """Of PyTorch, an archive, or of word2vec."""
    with file.path.open("rb") as stream:
        is_archive = stream.read(2) == b"PK"
    return open_checkpoint(file) if is_archive else open_word2vec(file)


OPENERS: dict[str, Callable[[Opened], AbstractContextManager[Arrays]]] = {
    ".npz": open_arrays,
    ".npy": open_arrays,
    ".safetensors": open_arrays,
    ".json": open_shards,
    ".pt": open_checkpoint,
    ".pth": open_checkpoint,
    ".ckpt": open_checkpoint,
    ".bin": _open_bin,
    ".gguf": open_gguf,
    ".faiss": open_faiss,
    ".index": open_faiss,
    ".csv": open_text,
    ".tsv": open_text,
    ".txt": open_text,
    ".vec": open_text,
}
SUFFIXES = tuple(OPENERS)
#: Files that only unpickling opens.
PICKLES = (".pkl", ".pickle", ".joblib")


@contextlib.contextmanager
def open_any(file: Opened) -> Iterator[Arrays]:
    """The arrays of a file of any of these kinds, and what is noted in it and beside it."""
    with OPENERS[Path(file.path).suffix.lower()](file) as arrays:
        arrays.notes = {**arrays.notes, **notes_beside(file.path)}
        yield arrays
