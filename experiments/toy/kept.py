"""Parts of a long run, kept where it may be interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tokenkl._files import atomic_path, locked
from tokenkl._validation import reject
from tokenkl.workers import Report, each

#: progress(done, total), as in `experiments.harness`.
Progress = Callable[[float, float], None]

ROOT = Path(__file__).resolve().parents[2]

_PARTS: ContextVar[Path] = ContextVar("folder of finished parts", default=ROOT / "build")


@contextlib.contextmanager
def parts_in(folder: Path) -> Iterator[None]:
    """Meanwhile finished parts are kept, and looked for, in another folder than build/."""
    token = _PARTS.set(folder)
    try:
        yield
    finally:
        _PARTS.reset(token)


def kept_folder(name: str, settings: dict[str, Any], *sources: Path) -> Path:
    """Where finished parts of an experiment are, for this code and for settings that matter to it.

    The code is that of this folder, and of more `sources`.
    """
    files = [*sources, *sorted(Path(__file__).parent.glob("*.py"))]
    text = json.dumps(settings).encode()
    digest = hashlib.sha256(text + b"".join(path.read_bytes() for path in files)).hexdigest()
    folder = _PARTS.get() / name / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def alone_with(name: str) -> Iterator[None]:
    """No other process keeps parts of this experiment there meanwhile.

    Raises:
        ValueError: one does.
    """
    folder = _PARTS.get() / name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", wait=False) as held:
        if not held:
            reject(name, "begun twice", f"run by one process at a time where parts are in {folder}")
        yield


class Part(NamedTuple):
    """A part of a long run: its name, what makes its rows, and how much of the work it is.

    It is made in another process where the work is shared: `make` can be pickled.
    """

    name: str
    make: Callable[[Callable[[float], None]], pd.DataFrame]
    weight: float = 1.0


def gather(
    folder: Path, parts: Sequence[Part], progress: Progress, digits: str | None = None
) -> list[pd.DataFrame]:
    """The rows of every part, from where finished ones are kept; the others are made first.

    On a cluster they are made side by side.
    """
    stored = [folder / f"{part.name}.csv" for part in parts]
    missing = [number for number, path in enumerate(stored) if not path.exists()]
    done = [part.weight for part in parts]
    for number in missing:
        done[number] = 0.0

    def told(index: int, share: float, whole: float) -> None:
        number = missing[index]
        done[number] = max(done[number], parts[number].weight * share / whole)
        progress(sum(done), sum(part.weight for part in parts))

    for index, rows in each(_make, [parts[number].make for number in missing], told=told):
        with atomic_path(stored[missing[index]]) as path:
            rows.to_csv(path, index=False, float_format=digits)
        told(index, 1.0, 1.0)
    progress(sum(done), sum(done))
    return [pd.read_csv(path) for path in stored]  # the same digits, interrupted or not


def _make(make: Callable[[Callable[[float], None]], pd.DataFrame], report: Report) -> pd.DataFrame:
    return make(lambda share: report(share, 1.0))
