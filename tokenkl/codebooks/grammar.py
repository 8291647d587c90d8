"""Codebooks as they are written on a command line, such as "perturb:fsq:3^8:0.1".

Kinds register how they are written (`registry.register_spec`); files and transformations are here.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tokenkl._validation import reject
from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.containers import PICKLES, SUFFIXES
from tokenkl.codebooks.files import load_codebook
from tokenkl.codebooks.registry import SPECS, register_spec
from tokenkl.codebooks.transforms import centre, permute, perturb

#: Words before a file, and what they say about it.
WORDS = {
    "vq": "structure",
    "rvq": "structure",
    "product": "structure",
    "latent": "space",
    "decoded": "space",
    "unit": "lengths",
    "stored": "lengths",
}

#: Most transformations of a codebook: beyond is a slip of the finger.
MAX_TRANSFORMATIONS = 32

#: A codebook with another prior.
Weighed = Callable[[Codebook], Codebook]
#: Called with a sentence.
Tell = Callable[[str], None] | None


def codebook(
    spec: str, *, seed: int = 0, prior: Weighed | None = None, tell: Tell = None
) -> Codebook:
    """The codebook that a specification such as "perturb:fsq:3^8:0.1" stands for.

    `prior` gives the codebook its prior in place of its own. Random
    transformations use `seed`; a second one, outside the first, uses a stream of its own. `tell` is
    called with one sentence on how a file was read.

    Raises:
        ValueError: a specification that means nothing, or a file that holds no codebook.

    Example:
        >>> codebook("centre:fsq:3x3").K
        9
    """
    # Taken off from the outside, applied from the inside.
    around: list[tuple[str, float]] = []
    inner = spec
    while True:
        head, _, rest = inner.partition(":")
        if head == "perturb":
            inner, _, number = rest.rpartition(":")
            try:
                sd = float(number)
            except ValueError:
                sd = math.nan
            if not (inner and 0 < sd < math.inf):
                expected = "perturb:SPEC:SD with a standard deviation above 0"
                reject("CODEBOOK", spec, f"{expected}, such as perturb:fsq:3^8:0.1")
            around.append((head, sd))
        elif head in ("permute", "centre", "center") and rest:
            inner = rest
            around.append((head, 0.0))
        else:
            break
        if len(around) > MAX_TRANSFORMATIONS:
            reject("CODEBOOK", spec, f"transformed at most {MAX_TRANSFORMATIONS} times")
    made = _base(inner, head, rest, tell)
    if prior is not None:
        made = prior(made)
    count = 0
    for name, sd in reversed(around):
        if name == "perturb":
            made, count = perturb(made, sd, _key(seed, count)), count + 1
        elif name == "permute":
            made, count = permute(made, _key(seed, count)), count + 1
        else:
            made = centre(made)
    return made


def _key(seed: int, count: int) -> Any:
    # The seed alone for the first, so that it is what `tk.perturb(cb, sd, key=seed)` gives.
    return seed if count == 0 else np.array([seed, count], np.uint32)


def _base(spec: str, head: str, rest: str, tell: Tell) -> Codebook:
    known = SPECS.get(head)
    if head in WORDS and rest:
        return _from_file(spec, tell)
    if known is not None and (rest or head == spec):
        return known.parse(spec, rest)
    if _split(spec) is not None or os.path.isfile(spec):
        return _from_file(spec, tell)
    _refuse(spec)


def _refuse(spec: str) -> NoReturn:
    forms = ", ".join(spec.form for spec in SPECS.values())
    reject(
        "CODEBOOK",
        repr(spec),
        f"one of {forms}, perturb:SPEC:SD, permute:SPEC, centre:SPEC or a file or folder with a "
        "codebook, such as fsq:3^8 or perturb:fsq:8x5x5x5:0.1",
    )


def _from_file(spec: str, tell: Tell) -> Codebook:
    """A file, after words on what it holds and before the name of what is meant in it."""
    words: dict[str, str] = {}
    rest = spec
    while (head := rest.partition(":")[0]) in WORDS and not os.path.exists(rest):
        if (said := words.setdefault(WORDS[head], head)) != head:
            reject("CODEBOOK", spec, f"either {said} or {head}, not both")
        rest = rest.partition(":")[2]
    path, key = _split(rest) or (rest, None)
    try:
        # Learned tables often hold entries that never moved; every quantity is defined with them.
        return load_codebook(path, key=key, allow_duplicates=True, tell=tell, **words)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"CODEBOOK: {_as_typed(str(error), words, rest, path)}") from error


def _as_typed(sentence: str, words: dict[str, str], rest: str, path: str) -> str:
    """What a sentence of the library tells to say, in the words of the command line."""
    prefix = "".join(f"{word}:" for word in words.values())
    sentence = sentence.replace("choose one with key=NAME", f"choose one as {prefix}{path}:NAME")

    def typed(said: re.Match[str]) -> str:
        return ":".join([*(words | {said[1]: said[2]}).values(), rest])

    return re.sub(r"(structure|lengths)='(\w+)'", typed, sentence)


def _split(spec: str) -> tuple[str, str | None] | None:
    """A file or folder and the name of something in it; None for what is neither."""
    path, colon, key = spec.rpartition(":")
    for one, name in ((spec, None), (path, key if colon else None)):
        if one and (Path(one).suffix.lower() in SUFFIXES + PICKLES or os.path.isdir(one)):
            return one, name
    return None


def _register(word: str) -> None:
    @register_spec(word, f"{word}:FILE", f"{word}:codec.safetensors")
    def parse(spec: str, _: str) -> Codebook:
        return _from_file(spec, None)


for _word in WORDS:
    _register(_word)
