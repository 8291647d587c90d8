"""What is typed on a command line, turned into codebooks, schedules, noise levels and points.

Everything here raises `ValueError` with one sentence that names the option, the value and what was
expected. Heavy imports stay inside the functions, so that `tokenkl --help` is quick.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tokenkl._validation import MAX_COORDINATES, check_prior, reject

if TYPE_CHECKING:
    from tokenkl.codebooks import Codebook
    from tokenkl.schedule import Schedule

SUFFIXES = (".npz", ".safetensors", ".npy")

#: Most noise levels of a grid, and transformations of a codebook: beyond is a slip of the finger.
MAX_LEVELS = 10**5
MAX_TRANSFORMATIONS = 32

#: Largest |dB| whose ratio, and its square root, are ordinary float64 numbers.
MAX_DB = 3000.0

#: Prior for a codebook with this many tokens.
PriorOf = Callable[[int], Any]


def parse_codebook(spec: str, *, seed: int = 0, prior: PriorOf | None = None) -> Codebook:
    """The codebook that a specification such as "perturb:fsq:3^8:0.1" stands for.

    `prior` gives the prior from the number of tokens and replaces the codebook's own. Random
    transformations use `seed`; a second one, outside the first, uses a stream of its own.
    """
    from tokenkl.codebooks.transforms import centre, permute, perturb

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
        codebook = with_prior(codebook, prior(codebook.K))
    count = 0
    for name, sd in reversed(around):
        if name == "perturb":
            codebook, count = perturb(codebook, sd, _key(seed, count)), count + 1
        elif name == "permute":
            codebook, count = permute(codebook, _key(seed, count)), count + 1
        else:
            codebook = centre(codebook)
    return codebook


def _key(seed: int, count: int) -> Any:
    # The seed alone for the first, so that it is what `tk.perturb(cb, sd, key=seed)` gives.
    return seed if count == 0 else np.array([seed, count], np.uint32)


def _base(spec: str, head: str, rest: str) -> Codebook:
    from tokenkl.codebooks import OneHot, e8_codebook

    if head == "fsq":
        return _fsq(spec, rest)
    if head == "onehot":
        if not (rest.isascii() and rest.isdigit() and 0 < len(rest) < 16 and int(rest) > 0):
            reject("CODEBOOK", spec, "onehot:K with a whole number K above 0, such as onehot:6561")
        return OneHot(int(rest))
    if spec == "e8":
        return e8_codebook()
    if head in ("vq", "rvq") and rest:
        return _from_file(head, rest)
    if Path(spec).suffix.lower() in SUFFIXES:
        return _from_file("", spec)
    _refuse_codebook(spec)


def _refuse_codebook(spec: str) -> NoReturn:
    reject(
        "CODEBOOK",
        repr(spec),
        "one of fsq:LEVELS, onehot:K, e8, vq:FILE, rvq:FILE, perturb:SPEC:SD, permute:SPEC, "
        "centre:SPEC or a .npz, .safetensors or .npy file, such as fsq:3^8 or "
        "perturb:fsq:8x5x5x5:0.1",
    )


def _fsq(spec: str, rest: str) -> Codebook:
    from tokenkl.codebooks import FSQ
    from tokenkl.codebooks.product import GRIDS

    numbers, _, grid = rest.partition(":")
    grid = grid or "symmetric"
    expected = "fsq:LEVELS such as fsq:3^8, fsq:8x5x5x5 or fsq:8,5,5,5:rounding"
    if grid not in GRIDS:
        reject("CODEBOOK", spec, f"{expected}, with the grid {' or '.join(GRIDS)}")
    levels: list[int] = []
    for factor in numbers.replace(",", "x").split("x"):
        count, caret, power = factor.strip().partition("^")
        times = power if caret else "1"
        if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in (count, times)):
            reject("CODEBOOK", spec, expected)
        if int(count) < 1 or int(times) < 1:
            reject("CODEBOOK", spec, f"{expected}, with every number at least 1")
        if len(levels) + int(times) > MAX_COORDINATES:
            reject("CODEBOOK", spec, f"{expected}, with at most {MAX_COORDINATES} coordinates")
        levels += [int(count)] * int(times)
    return FSQ(levels, grid=grid)  # type: ignore[arg-type]


def _from_file(head: str, rest: str) -> Codebook:
    from tokenkl.codebooks import PointCodebook, ResidualCodebook
    from tokenkl.codebooks.files import load_codebook

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
    if head == "vq" and not isinstance(codebook, PointCodebook):
        reject(f"vq:{path}", repr(codebook), "a file that holds one table of points")
    if head == "rvq" and not isinstance(codebook, ResidualCodebook):
        reject(f"rvq:{path}", repr(codebook), "a file that holds the stages of a residual codebook")
    return codebook


def with_prior(codebook: Codebook, prior: Any) -> Codebook:
    """The same points in the same order, with this (K,) prior."""
    from tokenkl.codebooks import OneHot, ProductCodebook, ResidualCodebook
    from tokenkl.codebooks.base import PointCodebook

    if isinstance(codebook, ProductCodebook):
        return ProductCodebook(
            list(codebook.levels), prior=prior, order=codebook.order, name=codebook.label
        )
    if isinstance(codebook, OneHot):
        return OneHot(codebook.K, prior, codebook.scale)
    if isinstance(codebook, ResidualCodebook):
        return ResidualCodebook(codebook.stages, prior, name=codebook.label)
    return PointCodebook(codebook.points, prior, name=codebook.label, allow_duplicates=True)


def parse_prior(prior: Path | None, tokens: Path | None, smoothing: float | None) -> PriorOf | None:
    """What `--prior FILE`, or `--tokens FILE` with `--smoothing`, ask for; files are read now."""
    from tokenkl.codebooks.files import load_prior, load_tokens
    from tokenkl.codebooks.vq import prior_from_tokens

    if prior is not None and tokens is not None:
        reject("--prior", str(prior), "left out where --tokens gives the prior")
    if smoothing is not None and tokens is None:
        reject("--smoothing", smoothing, "given together with --tokens")
    if smoothing is not None and not 0 <= smoothing < math.inf:
        reject("--smoothing", smoothing, "a finite number, at least 0")
    if prior is not None:
        values = _naming("--prior", lambda: load_prior(prior))
        return lambda K: check_prior(values, K, "--prior")
    if tokens is not None:
        ids = _naming("--tokens", lambda: load_tokens(tokens))
        amount = 0.5 if smoothing is None else smoothing
        return lambda K: _naming("--tokens", lambda: prior_from_tokens(ids, K, amount))
    return None


def _naming(option: str, work: Callable[[], Any]) -> Any:
    """Run something whose errors do not know which option they are about."""
    try:
        return work()
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error


def parse_grid(text: str, option: str, *, example: str) -> np.ndarray:
    """Numbers written as start:stop:step, both ends included, or as a comma list.

    Decimal fractions are stepped through exactly: 0:1:0.1 holds 0.3, not 0.30000000000000004.
    """
    expected = f"start:stop:step or a comma list, such as {example}"
    separator = ":" if ":" in text else ","
    try:
        numbers = [Decimal(word.strip()) for word in text.split(separator)]
    except InvalidOperation:
        reject(option, repr(text), expected)
    if not all(number.is_finite() and abs(float(number)) < math.inf for number in numbers):
        reject(option, repr(text), f"{expected}, of finite numbers")
    if separator == ",":
        return np.array([float(number) for number in numbers])
    if len(numbers) != 3:
        reject(option, repr(text), expected)
    start, stop, step = numbers
    if step <= 0 or stop < start:
        reject(option, repr(text), f"{expected}, with start <= stop and a step above 0")
    if float(step) == 0 or (float(stop) - float(start)) / float(step) >= MAX_LEVELS:
        reject(option, repr(text), f"{expected}, with at most {MAX_LEVELS:,} numbers")
    count = int((stop - start) // step) + 1
    return np.array([float(start + index * step) for index in range(count)])


def parse_snr(snr_db: str | None, snr: str | None, default_db: str) -> np.ndarray:
    """SNRs, linear, from `--snr-db` or `--snr`."""
    if snr is not None:
        if snr_db is not None:
            reject("--snr", repr(snr), "left out where --snr-db is given")
        values = parse_grid(snr, "--snr", example="--snr 0.1,1,10")
        if (values < 0).any():
            reject("--snr", float(values.min()), "at least 0 everywhere")
        return values
    levels = parse_grid(snr_db or default_db, "--snr-db", example="--snr-db=-20:40:1")
    if (np.abs(levels) > MAX_DB).any():
        worst = float(levels[np.argmax(np.abs(levels))])
        reject("--snr-db", worst, f"between -{MAX_DB:g} and {MAX_DB:g} dB")
    return np.asarray(10.0 ** (levels / 10))


def parse_names(text: str | None, choices: Sequence[str], option: str) -> tuple[str, ...]:
    """A comma list of names, each once, in the order given; all of them for None."""
    if text is None:
        return tuple(choices)
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for name in names:
        if name not in choices:
            reject(option, repr(name), "a comma list of " + ", ".join(choices))
    return names


def parse_point(text: str, option: str) -> np.ndarray:
    """Coordinates written as a comma list."""
    try:
        point = np.array([float(word) for word in text.split(",")])
    except ValueError:
        reject(option, repr(text), f"coordinates separated by commas, such as {option}=-1,0,1")
    if not np.isfinite(point).all():
        reject(option, repr(text), f"finite coordinates, such as {option}=-1,0,1")
    return point


def parse_ids(text: str, K: int, option: str = "--ids") -> np.ndarray:
    """Two token ids, as in "0,1"."""
    words = [word.strip() for word in text.split(",")]
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):
        reject(option, repr(text), f"two token ids, such as {option} 0,1")
    ids = [int(word) for word in words]
    if max(ids) >= min(K, 2**63):
        reject(option, repr(text), f"two token ids from 0 to {min(K, 2**63) - 1}")
    return np.array(ids, np.int64)


#: Name on the command line -> class in `tokenkl.schedule`.
SCHEDULES = {
    "linear-vp": "LinearVP",
    "cosine-vp": "CosineVP",
    "beta-vp": "BetaVP",
    "sub-vp": "SubVP",
    "ve": "VE",
    "edm": "EDM",
    "flow-matching": "FlowMatching",
}


def parse_schedule(text: str, option: str = "--schedule") -> Schedule:
    """A schedule by its name, with its parameters after a colon: beta-vp, or beta-vp:0.05,20."""
    import dataclasses

    from tokenkl import schedule

    name, colon, rest = text.partition(":")
    if name not in SCHEDULES:
        reject(option, repr(text), "one of " + ", ".join(SCHEDULES))
    kind = getattr(schedule, SCHEDULES[name])
    make: Callable[..., Schedule] = kind
    if not colon:
        return make()
    fields = [field.name for field in dataclasses.fields(kind)]
    try:
        values = [float(word) for word in rest.split(",")]
    except ValueError:
        values = []
    if not 0 < len(values) <= len(fields):
        with_values = f"{name}:{','.join(fields)}" if fields else f"{name}, which has no parameters"
        reject(option, repr(text), with_values)
    made: Schedule = _naming(option, lambda: make(*values))
    return made
