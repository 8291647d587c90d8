"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary path to write to, in the same folder and with the same suffix as `path`.

    When the block ends, the temporary file takes the place of `path` in one step; when the block
    fails, the temporary file is deleted and `path` is as it was before. A reader therefore never
    sees half a file. A symbolic link is followed, so that its target is what gets replaced.

    Raises:
        ValueError: the folder does not exist, or `path` is a folder.
    """
    suffix = Path(path).suffix
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise ValueError(f"{path} must be in a folder that exists; there is no {target.parent}.")
    if target.is_dir():
        raise ValueError(f"{path} must be a file to write to; it is a folder.")
    # Only the name is made here: the writer creates the file, with the permissions it would have.
    temporary = target.parent / f".{target.stem[:64]}.{secrets.token_hex(8)}{suffix}"
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
