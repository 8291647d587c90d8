"""Samplers and decisions by the names that papers and commands type."""

from __future__ import annotations

from collections.abc import Sequence

from tokenkl._validation import check_choice, reject
from tokenkl.samplers.base import Sampler
from tokenkl.samplers.kinds import DDIM, Ancestral

#: Name -> sampler; "ddpm" is what papers call the ancestral one.
SAMPLERS: dict[str, Sampler] = {"ddim": DDIM(), "ancestral": Ancestral(), "ddpm": Ancestral()}
#: Other words for the same decision.
SAME = {"argmax": "map"}


def as_sampler(value: Sampler | str, name: str = "sampler") -> Sampler:
    """The sampler itself, or the one of this name.

    Raises:
        ValueError: anything else.

    Example:
        >>> from tokenkl.samplers import as_sampler
        >>> as_sampler("ddpm")
        Ancestral()
    """
    if isinstance(value, Sampler):
        return value
    if not isinstance(value, str) or value not in SAMPLERS:
        known = ", ".join(repr(one) for one in SAMPLERS)
        reject(name, value, f"one of {known}, or an object such as DDIM()")
    return SAMPLERS[value]


def as_decision(value: str, known: Sequence[str] = ("map", "sample")) -> str:
    """One of the decisions that are known here; "argmax" is another word for "map".

    Raises:
        ValueError: anything else.

    Example:
        >>> from tokenkl.samplers import as_decision
        >>> as_decision("argmax")
        'map'
    """
    return check_choice(SAME.get(value, value), known, "decision")
