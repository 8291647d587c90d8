"""Parts of a long run, kept where it may be interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pandas as pd

from tokenkl._files import atomic_path

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


def kept(stored: Path, make: Callable[[], pd.DataFrame], digits: str | None = None) -> pd.DataFrame:
    """The rows that are stored there, made first if they are not."""
    if not stored.exists():
        rows = make()
        with atomic_path(stored) as path:
            rows.to_csv(path, index=False, float_format=digits)
    return pd.read_csv(stored)  # the same digits whether or not it was interrupted
