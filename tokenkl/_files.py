"""Files appear whole or not at all, several together; digests, locks and the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def atomic_files() -> Iterator[Callable[[PathLike], Path]]:
    """Files that belong together: the block gets a function from a path to a temporary path.

    A temporary path is in the same folder and has the same suffix as the path itself. When the
    block ends, all temporary files take the places of the paths asked for, in that order; when it
    fails, they are deleted and everything is as it was before. A reader never sees half a file,
    and never a new file beside an old one: where there are several, the old ones step aside before
    the first new one is there, so that a process killed between two renames leaves some of the
    files missing, not a mixture. What was written is on the disk before it gets its name. A
    symbolic link is followed, so that its target is what gets replaced.

    Raises:
        ValueError: (by the function) the folder does not exist, or the path is a folder.
    """
    pairs: list[tuple[Path, Path]] = []

    def new(path: PathLike) -> Path:
        target = Path(os.path.realpath(path))
        if not target.parent.is_dir():
            raise ValueError(
                f"{path} must be in a folder that exists; there is no {target.parent}."
            )
        if target.is_dir():
            raise ValueError(f"{path} must be a file to write to; it is a folder.")
        # Only the name is made: the writer creates the file, with the permissions it would have.
        pairs.append((_hidden(target), target))
        return pairs[-1][0]

    try:
        yield new
        for temporary, _ in pairs:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        _replace(pairs)
    finally:
        for temporary, _ in pairs:
            temporary.unlink(missing_ok=True)
    for folder in {target.parent for _, target in pairs}:
        _sync_names(folder)


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """`atomic_files` for one file: its temporary path."""
    with atomic_files() as new:
        yield new(path)


def _hidden(target: Path) -> Path:
    """A free name beside a file."""
    return target.parent / f".{target.stem[:64]}.{secrets.token_hex(8)}{target.suffix}"


def _replace(pairs: list[tuple[Path, Path]]) -> None:
    """Every first path becomes the second one; on failure the old files are back."""
    if len(pairs) == 1:  # in one step, without a moment in which the file is missing
        os.replace(*pairs[0])
        return
    aside: list[tuple[Path, Path]] = []
    done: list[Path] = []
    try:
        for _, target in pairs:
            if target.exists():
                aside.append((_hidden(target), target))
                os.replace(target, aside[-1][0])
        for temporary, target in pairs:
            done.append(target)
            os.replace(temporary, target)
    except BaseException:
        for target in done:
            target.unlink(missing_ok=True)
        for spare, target in aside:
            with contextlib.suppress(FileNotFoundError):  # the one that could not step aside
                os.replace(spare, target)
        raise
    for spare, _ in aside:
        spare.unlink()


def _sync_names(folder: Path) -> None:
    """Names in a folder are on the disk, where the system lets a folder be synchronised."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_digest(path: PathLike) -> str:
    """SHA-256 of what is in a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: PathLike, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file, made if it is not there; False where another process holds it.

    The kernel frees the lock when its process ends, however it ends; the file stays. Where the
    system has no such locks (Windows, some network disks) everybody gets it.

    Args:
        path: of the file, written by nobody.
        wait: until the other process is done.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except BlockingIOError:
            held = False
        except OSError:
            held = True
        yield held


def cache_folder() -> Path:
    """Where generated files go: $XDG_CACHE_HOME/tokenkl, or .cache/tokenkl in the home folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "tokenkl"
