"""Which token sits at which point of the grid 3^8, found from bigrams of token ids alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tokenkl as tk
from tokenkl._files import atomic_path
from tokenkl.codebooks import PointCodebook
from tokenkl.tts.data import Example

FOLDER = Path(__file__).resolve().parent.parent / "data" / "speech" / "labels"
#: The files, and whose tokens they are of: the tokenizer's own labels are known to none of them.
LABELS = {"relabelled": "fsq-3^8", "vq-on-grid": "vq-6561"}


def write_labels(name: str, train: Sequence[Example], say: Callable[[str], None]) -> None:
    """The id of a point of the grid for every token, from the training split."""
    found = tk.relabel(_grid(), [e.tokens for e in train], key=0)
    say(f"{name}: share that is read {found.found.share}, permuted {found.permuted.share}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with atomic_path(FOLDER / f"{name}.npy") as path, path.open("wb") as file:
        np.save(file, found.ids.astype(np.int16), allow_pickle=False)


def labelled_grid(name: str) -> tuple[PointCodebook, dict[str, Any]]:
    """The tokens at their points, and what tells these labels from others.

    Raises:
        ValueError: labels that were not made yet.
    """
    path = FOLDER / f"{name}.npy"
    if not path.is_file():
        raise ValueError(f"{path} is not there; `python -m experiments.speech labels` makes it.")
    ids = np.load(path, allow_pickle=False).astype(np.int64)
    points = np.asarray(_grid().points)[ids]
    return PointCodebook(points, name=name), {
        "name": name,
        "digest": hashlib.sha256(ids.tobytes()).hexdigest()[:16],
    }


def _grid() -> tk.FSQ:
    return tk.FSQ((3,) * 8)
