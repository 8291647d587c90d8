"""Machine code by Numba, kept on disk for the next process; imports Numba, so import it late.

Numba's own cache watches the file of each function alone. Functions here inline each other across
files, so code is kept in a folder named by a digest of all files that define compiled functions
(those that import this one) and of the versions that the code may depend on: an edit anywhere
starts a new folder. In it every function has one file for each signature and processor, without an
index, written in one step; several processes may share it. A file that is not as it was written is
compiled anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from tokenkl._files import atomic_path, cache_folder
from tokenkl._progress import wait_for

#: Folders of other digests that stay, most recently used first: other checkouts and versions.
KEPT = 8
#: What is said meanwhile.
COMPILING = "compiling, once for this processor"
#: How a file that defines compiled functions is recognised.
_MARK = b"from tokenkl.numerics.compiled import"
_PACKAGE = Path(__file__).parents[1]
config: Any = numba.config


def compiled(*, fastmath: set[str]) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` that keeps its code on disk where a folder of the user can be written.

    What sums with `fastmath` becomes part of its callers. Else each of them has a copy, compiled in
    its own surroundings with sums in an order of its own, and which copy all take depends on what
    was compiled in this process and what was loaded.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        # Division by zero gives infinity, as in NumPy: a check would keep loops from vector units.
        options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
        options["forceinline"] = bool(fastmath)
        made: Any = numba.njit(**options)(function)
        folder = code_folder()
        if folder is not None and function.__module__ in _sources():
            made._cache = _Kept(function, folder)
        return made

    return decorate


class _Kept(Cache):
    """The cache of one function; Numba's own class gives the key, by signature and processor."""

    #: How many functions are being compiled.
    begun = 0

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._py_func, self._folder, self._enabled = function, folder, True
        self._name = f"{function.__module__}.{function.__qualname__}"

    @property
    def cache_path(self) -> str:
        return str(self._folder)

    def _path(self, signature: Any, codegen: Any) -> Path:
        key = hashlib.sha256(repr(self._index_key(signature, codegen)).encode()).hexdigest()
        return self._folder / f"{self._name}-{key[:32]}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        try:
            content = self._path(sig, target_context.codegen()).read_bytes()
            if self._enabled and hashlib.sha256(content[32:]).digest() == content[:32]:
                # Unpickling runs whatever the file says: it is ours alone, see `_is_private`.
                return CompileResult._rebuild(target_context, *pickle.loads(content[32:]))
        except Exception:  # missing, unreadable, of some other Numba: whatever, it is made anew
            pass
        _Kept.begun += 1
        wait_for(COMPILING)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        _Kept.begun -= 1
        if not _Kept.begun:  # one function is compiled within another
            wait_for("")
        if not self._enabled or data.lifted or data.library.has_dynamic_globals:
            return  # holds addresses of this process
        path, content = self._path(sig, data.codegen), dumps(data._reduce())
        with contextlib.suppress(OSError, ValueError):  # a full disk, a folder that went away
            if _is_private(self._folder):
                with atomic_path(path) as temporary:
                    temporary.write_bytes(hashlib.sha256(content).digest() + content)

    def flush(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


@functools.cache
def _sources() -> dict[str, bytes]:
    """Name and text of every module of the package that defines compiled functions."""
    found = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        text = path.read_bytes()
        if _MARK in text or path == Path(__file__):
            parts = path.relative_to(_PACKAGE.parent).with_suffix("").parts
            found[".".join(parts)] = text
    return found


def _digest() -> str:
    """Of everything that machine code depends on, but the signature and the processor."""
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("NUMBA_") and name not in ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")
    }
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    found = hashlib.sha256(repr((versions, sorted(settings.items()))).encode())
    for name, text in _sources().items():
        found.update(f"{name} {len(text)} ".encode() + text)
    return found.hexdigest()[:32]


@functools.cache
def code_folder() -> Path | None:
    """The folder of this digest, in $NUMBA_CACHE_DIR or the user's cache; None where there is none.

    When a new one comes, those go that were not used for the longest time.
    """
    try:
        given = config.CACHE_DIR
        parent = (Path(given) / "tokenkl" if given else cache_folder()) / "compiled"
        folder = parent / _digest()
        is_new = not folder.exists()
        if not _is_private(folder):
            return None
    except (OSError, RuntimeError):  # not writable, or no home folder
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)  # the time of its last use
        if is_new:
            others = [path for path in parent.iterdir() if len(path.name) == len(folder.name)]
            for path in sorted(others, key=_last_used)[: -KEPT - 1]:
                shutil.rmtree(path, ignore_errors=True)
    return folder


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process was faster
        return 0.0


def _is_private(folder: Path) -> bool:
    """Whether the folder, made if need be, is the user's own and closed to everybody else.

    What others could have written into it is deleted first.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):  # a link, to wherever
        return False
    if os.name != "posix":  # a user's folder is closed by where it lies
        return True
    if found.st_uid != os.geteuid():
        return False
    if stat.S_IMODE(found.st_mode) & 0o777 != 0o700:
        folder.chmod(0o700)
        for path in folder.iterdir():
            path.unlink()
    return True
