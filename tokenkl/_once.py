"""What follows from an object that never changes: made once, and forgotten with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Owner = TypeVar("Owner")
Made = TypeVar("Made")

#: What was made, by the identity of its owner, for as long as that lives.
_MADE: dict[int, dict[Hashable, Any]] = {}


def once(owner: Owner, make: Callable[[Owner], Made], *how: Hashable) -> Made:
    """make(owner), when it is first asked for; `how` tells apart what one function makes.

    For owners that are equal where they are the same: arrays of a codebook may have no hash.

    Example:
        >>> class Book: pass
        >>> book, made = Book(), []
        >>> once(book, lambda one: made.append(one), "list"), len(made)
        (None, 1)
    """
    if id(owner) not in _MADE:
        _MADE[id(owner)] = {}
        weakref.finalize(owner, _MADE.pop, id(owner), None)
    kept = _MADE[id(owner)]
    name = (f"{make.__module__}.{make.__qualname__}", *how)
    if name not in kept:
        kept[name] = make(owner)
    found: Made = kept[name]
    return found
