"""Which machine a record is of, in words that name no machine: its processor, and its load."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Cores that this process may use, before a benchmark keeps to one of them.
CORES: frozenset[int] = (
    frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()
)


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name and number of its kind, and the vector instructions that NumPy finds.

    Two machines of the same words are taken for one: their ratios are compared.
    """
    known: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for name, value in re.findall(r"^([\w ]+?)\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE):
            known.setdefault(name, value)
    words = [known.get("model name") or platform.processor() or platform.machine()]
    words += [f"{name} {known[name]}" for name in ("cpu family", "model") if name in known]
    return ", ".join([*words, vector_instructions()])


def vector_instructions() -> str:
    """The latest vector instructions that NumPy finds, in its words."""
    found: Any = np.show_config(mode="dicts")
    kinds = found.get("SIMD Extensions", {})
    names = [*kinds.get("baseline", []), *kinds.get("found", [])]
    return names[-1] if names else "no SIMD"


def load_average() -> float | None:
    """Of the last minute: how many processes ran or wanted to, this one among them."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def cores() -> int:
    """How many cores this process may use."""
    return len(CORES) or os.cpu_count() or 1


def keep_to_one_core() -> None:
    """From here on everybody's threads share one core, where the system can be told so."""
    if CORES:
        os.sched_setaffinity(0, {max(CORES)})


@contextlib.contextmanager
def every_core() -> Iterator[None]:
    """All cores for the time being, as users have them."""
    if not CORES:
        yield
        return
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, here)
