"""What is typed on a command line, turned into priors, noise levels and points.

Everything here raises `ValueError` with one sentence that names the option, the value and what was
expected. Heavy imports stay inside the functions, so that `tokenkl --help` is quick.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenkl._validation import check_prior, reject

if TYPE_CHECKING:
    from tokenkl.codebooks.grammar import Weighed

#: Most noise levels of a grid: beyond is a slip of the finger.
MAX_LEVELS = 10**5

#: Largest |dB| whose ratio, and its square root, are ordinary float64 numbers.
MAX_DB = 3000.0


def parse_prior(
    prior: Path | None = None,
    tokens: Path | None = None,
    smoothing: float | None = None,
    *,
    counts: Path | None = None,
    padding: int | None = None,
    used_only: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Weighed | None:
    """What `--prior`, `--counts` or `--tokens` ask for; files are read now."""
    from tokenkl.codebooks import files, streams

    given = {"--prior": prior, "--counts": counts, "--tokens": tokens}
    names = [name for name, path in given.items() if path is not None]
    if len(names) > 1:
        reject(names[0], str(given[names[0]]), f"left out where {names[1]} gives the prior")
    for option, value, needs in (
        ("--smoothing", smoothing, ("--counts", "--tokens")),
        ("--used-only", used_only or None, ("--counts", "--tokens")),
        ("--padding", padding, ("--tokens",)),
    ):
        if value is not None and not set(names) & set(needs):
            reject(option, value, f"given together with {' or '.join(needs)}")
    if smoothing is not None and not 0 <= smoothing < math.inf:
        reject("--smoothing", smoothing, "a finite number, at least 0")
    if prior is not None:
        parts = naming("--prior", lambda: files.load_priors(prior))
        if parts:
            return lambda codebook: naming("--prior", lambda: codebook.with_priors(parts))
        values = naming("--prior", lambda: files.load_prior(prior))
        return lambda codebook: codebook.with_prior(check_prior(values, codebook.K, "--prior"))
    how: dict[str, Any] = {"used_only": used_only, "tell": tell}
    if counts is not None:
        numbers = naming("--counts", lambda: files.load_counts(counts))
        return lambda codebook: naming(
            "--counts", lambda: streams.with_counts(codebook, numbers, smoothing, **how)
        )
    if tokens is not None:
        array = naming("--tokens", lambda: files.load_token_array(tokens))
        how["padding"] = padding
        return lambda codebook: naming(
            "--tokens", lambda: streams.with_token_prior(codebook, array, smoothing, **how)
        )
    return None


def naming(option: str, work: Callable[[], Any]) -> Any:
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
    asked = default_db if snr_db is None else snr_db
    levels = parse_grid(asked, "--snr-db", example="--snr-db=-20:40:1")
    if (np.abs(levels) > MAX_DB).any():
        worst = float(levels[np.argmax(np.abs(levels))])
        reject("--snr-db", worst, f"between -{MAX_DB:g} and {MAX_DB:g} dB")
    return np.asarray(10.0 ** (levels / 10))


def parse_names(text: str, choices: Sequence[str], option: str) -> tuple[str, ...]:
    """A comma list of names, each once, in the order given."""
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
