"""Codebooks as they are written on a command line, such as "perturb:fsq:3^8:0.1".

Kinds register how they are written (`registry.register_spec`); files and transformations are here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tokenkl._validation import reject
from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.codebooks.files import load_codebook
from tokenkl.codebooks.registry import SPECS, register_spec
from tokenkl.codebooks.residual import ResidualCodebook
from tokenkl.codebooks.transforms import centre, permute, perturb

SUFFIXES = (".npz", ".safetensors", ".npy")

#: Most transformations of a codebook: beyond is a slip of the finger.
MAX_TRANSFORMATIONS = 32

#: Prior for a codebook with this many tokens, or one for each part of its tokens.
PriorOf = Callable[[int], Any]


def parse_codebook(spec: str, *, seed: int = 0, prior: PriorOf | None = None) -> Codebook:
    """The codebook that a specification such as "perturb:fsq:3^8:0.1" stands for.

    `prior` gives the prior from the number of tokens and replaces the codebook's own. Random
    transformations use `seed`; a second one, outside the first, uses a stream of its own.

    Raises:
        ValueError: a specification that means nothing, or a file that holds no codebook.

    Example:
        >>> parse_codebook("centre:fsq:3x3").K
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
    codebook = _base(inner, head, rest)
    if prior is not None:
        codebook = _with_prior(codebook, prior(codebook.K))
    count = 0
    for name, sd in reversed(around):
        if name == "perturb":
            codebook, count = perturb(codebook, sd, _key(seed, count)), count + 1
        elif name == "permute":
            codebook, count = permute(codebook, _key(seed, count)), count + 1
        else:
            codebook = centre(codebook)
    return codebook


def _with_prior(codebook: Codebook, prior: Any) -> Codebook:
    try:
        parts = isinstance(prior, list)
        return codebook.with_priors(prior) if parts else codebook.with_prior(prior)
    except ValueError as error:
        raise ValueError(f"--prior: {error}") from error


def _key(seed: int, count: int) -> Any:
    # The seed alone for the first, so that it is what `tk.perturb(cb, sd, key=seed)` gives.
    return seed if count == 0 else np.array([seed, count], np.uint32)


def _base(spec: str, head: str, rest: str) -> Codebook:
    known = SPECS.get(head)
    if known is not None and (rest or head == spec):
        return known.parse(spec, rest)
    if Path(spec).suffix.lower() in SUFFIXES:
        return _from_file("", spec)
    _refuse(spec)


def _refuse(spec: str) -> NoReturn:
    forms = ", ".join(spec.form for spec in SPECS.values())
    reject(
        "CODEBOOK",
        repr(spec),
        f"one of {forms}, perturb:SPEC:SD, permute:SPEC, centre:SPEC or a .npz, .safetensors or "
        ".npy file, such as fsq:3^8 or perturb:fsq:8x5x5x5:0.1",
    )


def _from_file(head: str, rest: str) -> Codebook:
    path, key = rest, None
    if head and not Path(rest).exists() and ":" in rest:  # a path may hold a colon itself
        path, _, key = rest.rpartition(":")
    try:
        # Learned tables often hold entries that never moved; every quantity is defined with them.
        codebook = load_codebook(path, key=key, allow_duplicates=True)
    except ValueError as error:
        message = str(error)
        for library in ("choose one with key=NAME", "choose with key=NAME"):
            message = message.replace(library, f"choose one as {head or 'vq'}:{path}:NAME")
        raise ValueError(f"CODEBOOK: {message}") from error
    return codebook


def _register_file(head: str, kind: type[Codebook], example: str, expected: str) -> None:
    @register_spec(head, f"{head}:FILE", example)
    def parse(_: str, rest: str) -> Codebook:
        codebook = _from_file(head, rest)
        if not isinstance(codebook, kind):
            reject(f"{head}:{rest}", repr(codebook), expected)
        return codebook


_register_file("vq", PointCodebook, "vq:book.npz", "a file that holds one table of points")
_register_file(
    *("rvq", ResidualCodebook, "rvq:stages.safetensors"),
    "a file that holds the stages of a residual codebook",
)
