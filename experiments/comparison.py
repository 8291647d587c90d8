"""`tokenkl reproduce --check`: is what a figure shows what the code finds today?

A table is compared with the stored one cell by cell. "Identical" is meant to the digit. Other
numbers are "within error" where they differ by their last digits, or by no more than sampling
explains: an experiment says in `errors` which column holds the standard error of which, or the ends
of its interval. All else is "different": words, numbers of rows, and numbers without an error.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

#: A column with the standard errors of another, two with the ends of its intervals, or a number.
Error = str | tuple[str, str] | float

IDENTICAL, WITHIN, DIFFERENT, FAILED = "identical", "within error", "different", "failed"

#: Digits that another processor or version may change, relative to a number.
ROUNDING = 1e-9
#: ... and in facts, which may say that something is zero up to rounding.
FACTS_ROUNDING = 1e-12
#: Standard errors of the difference, in which two estimates may be apart.
SIGMAS = 4.0
#: Standard errors are estimates too; they may be apart by this factor.
FACTOR = 2.0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What became of a figure's numbers.

    - `verdict`: "identical", "within error" or "different"; "failed" where nothing was found.
    - `rows`: of the stored table; `changed`: rows in which a cell is not the same to the digit.
    - `largest`: relative difference of numbers that are not errors; None where none differ.
    - `where`: the first cell, or fact, that is different; else that of `largest`.
    """

    verdict: str
    rows: int
    changed: int = 0
    largest: float | None = None
    where: str = ""


def compare(
    stored: str,
    found: str,
    stored_facts: Mapping[str, Any],
    found_facts: Mapping[str, Any],
    errors: Mapping[str, Error],
) -> Comparison:
    """Two tables, as CSV, and the facts beside them.

    Example:
        >>> before, now = "x,value,error\\n1,0.5,0.1\\n", "x,value,error\\n1,0.6,0.1\\n"
        >>> compare(before, now, {}, {}, {"value": "error"}).verdict
        'within error'
        >>> compare(before, now, {}, {}, {})
        Comparison(verdict='different', rows=1, changed=1, largest=0.2, where='value, row 1: 0.5, now 0.6')
    """  # noqa: E501 (one line is printed)
    old, new = (
        pd.read_csv(io.StringIO(text), dtype=str, na_filter=False) for text in (stored, found)
    )
    rows = len(old)
    if list(old.columns) != list(new.columns):
        missing = sorted(set(old.columns) ^ set(new.columns)) or ["their order"]
        return Comparison(DIFFERENT, rows, rows, None, "columns: " + ", ".join(missing))
    if rows != len(new):
        return Comparison(DIFFERENT, rows, rows, None, f"{rows} rows, now {len(new)}")
    unlike = old.to_numpy() != new.to_numpy()
    largest, where, verdict = None, "", WITHIN if unlike.any() else IDENTICAL
    first_bad = ""
    for index in np.flatnonzero(unlike.any(axis=0)):
        name = str(old.columns[index])
        rows_of = np.flatnonzero(unlike[:, index])
        numbers = _numbers(old[name], new[name])
        allowed = None if numbers is None else _allowed(name, old, new, errors)
        for row in rows_of:
            cell = f"{name}, row {row + 1}: {old[name][row]}, now {new[name][row]}"
            if numbers is None or allowed is None or not np.isfinite(numbers[:, row]).all():
                first_bad = first_bad or cell
                continue
            a, b = numbers[:, row]
            apart = abs(a - b) / max(abs(a), 1e-300)
            is_error = name in _named(errors)
            if not is_error and (largest is None or apart > largest):
                largest, where = float(f"{apart:.2g}"), cell
            if abs(a - b) > max(ROUNDING * max(abs(a), abs(b)), allowed[row]):
                first_bad = first_bad or cell
    for name, a, b in _unlike_facts(stored_facts, found_facts):
        cell = f"fact {name}: {a}, now {b}"
        number = all(type(one) in (int, float) for one in (a, b))
        if number and abs(a - b) <= max(ROUNDING * max(abs(a), abs(b)), FACTS_ROUNDING):
            verdict = WITHIN if verdict == IDENTICAL else verdict
            where = where or cell
        elif not (number and verdict == WITHIN):  # else it follows from a table that has errors
            first_bad = first_bad or cell
    if first_bad:
        verdict, where = DIFFERENT, first_bad
    return Comparison(verdict, rows, int(unlike.any(axis=1).sum()), largest, where)


def _named(errors: Mapping[str, Error]) -> set[str]:
    """Columns that hold errors."""
    names: set[str] = set()
    for error in errors.values():
        names |= (
            {error} if isinstance(error, str) else set(error) if isinstance(error, tuple) else set()
        )
    return names


def _numbers(old: pd.Series, new: pd.Series) -> np.ndarray | None:
    """Both columns as numbers, NaN where a cell is empty; None where they are words."""
    try:
        return np.array([[float(x) if x else np.nan for x in one] for one in (old, new)])
    except ValueError:
        return None


def _allowed(
    name: str, old: pd.DataFrame, new: pd.DataFrame, errors: Mapping[str, Error]
) -> np.ndarray:
    """How far apart the numbers of a column may be, row by row."""
    nothing = np.zeros(len(old))
    error = errors.get(name)
    if error is None:
        if name not in _named(errors):
            return nothing
        ends = [one for one in errors.items() if isinstance(one[1], tuple) and name in one[1]]
        if ends:  # of an interval: as far as the value itself
            return _allowed(ends[0][0], old, new, errors)
        numbers = _numbers(old[name], new[name])
        return nothing if numbers is None else np.nan_to_num((FACTOR - 1) * np.fmin(*numbers))
    if isinstance(error, float):
        return np.full(len(old), SIGMAS * np.sqrt(2) * error)
    if isinstance(error, tuple):  # the intervals meet
        low, high = (_numbers(old[one], new[one]) for one in error)
        if low is None or high is None:
            return nothing
        return np.nan_to_num(((high - low) / 2).sum(axis=0))
    found = _numbers(old[error], new[error])
    return nothing if found is None else np.nan_to_num(SIGMAS * np.hypot(*found))


def _unlike_facts(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Facts that are not the same, without those that are times."""
    if "seconds" in name:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{name}, {key}" if name else str(key)
            yield from _unlike_facts(old.get(key), new.get(key), inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _unlike_facts(a, b, f"{name}, {index + 1}")
    elif old != new and not (old != old and new != new):  # NaN is NaN
        yield name, old, new
