"""Every check of user input, in one place.

Each check raises ``ValueError`` with one sentence that names the argument, the value and what was
expected. Values that JAX is tracing cannot be inspected, so only their shapes are checked.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np

#: Largest number of float64 elements that the library materialises unasked (512 MiB).
MAX_ELEMENTS = 2**26

#: Most coordinates of a grid that is described by its levels: beyond is a slip of the finger.
MAX_COORDINATES = 2**16

#: How far from one a prior may sum before it is refused rather than renormalised.
PRIOR_SUM_TOLERANCE = 1e-6


def reject(name: str, value: Any, expected: str) -> NoReturn:
    """Raise the one kind of error that this library raises for bad input."""
    if isinstance(value, np.ndarray):
        shown = np.array2string(value, threshold=6)
    else:
        shown = value if isinstance(value, str) else repr(value)
    shown = printable(" ".join(shown.split()))  # arrays print over several lines
    raise ValueError(f"{printable(f'{name} must be {expected}')}; got {shortened(shown, 80)}.")


Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def renamed(**names: str) -> Callable[[Callable[Given, Answer]], Callable[Given, Answer]]:
    """Old names of keyword arguments go on working: `renamed(start_scale="start")`."""

    def decorate(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
        @functools.wraps(function)
        def call(*args: Given.args, **given: Given.kwargs) -> Answer:
            for old in names.keys() & given.keys():
                if names[old] in given:
                    reject(old, given[old], f"left out where {names[old]}, its new name, is given")
                given[names[old]] = given.pop(old)
            return function(*args, **given)

        return call

    return decorate


def printable(text: str) -> str:
    """The text with what no terminal should obey, or show as nothing, written out (as \\x1b).

    Names in files, and the names of files, are chosen by strangers and end up in messages.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int) -> str:
    """At most so many characters of a text, an ellipsis at the end where some were left out."""
    return text if len(text) <= most else text[: most - 3] + "..."


def is_traced(*values: Any) -> bool:
    """Whether any of the values is being traced by a JAX transformation."""
    jax = sys.modules.get("jax")  # where it is not imported, nothing is traced
    return jax is not None and any(isinstance(value, jax.core.Tracer) for value in values)


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor of torch, which is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def tensor_like(array: Any, like: Any) -> Any:
    """As a tensor on the device of another, and of its type where that has fractions."""
    found = like.new_tensor(0.0) if like.is_floating_point() else like.new_tensor(0.0).float()
    return found.new_tensor(np.asarray(array))


def tensors_out(method: Callable[Given, Answer]) -> Callable[Given, Any]:
    """The answer of a method of arrays is a tensor where one was given, which has no gradient."""

    @functools.wraps(method)
    def call(*args: Given.args, **given: Given.kwargs) -> Any:
        tensor: Any = next(filter(is_tensor, (*args, *given.values())), None)
        if tensor is None:
            return method(*args, **given)
        if tensor.requires_grad:
            expected = "one without (tensor.detach()), since the answer has none"
            reject(f"a tensor for {method.__name__}", "one that asks for a gradient", expected)
        return tensor_like(method(*args, **given), tensor)

    return call


def as_float_array(name: str, value: Any, *, ndim: int | None = None) -> Any:
    """A float64 array of finite numbers; a traced value passes with its own dtype.

    A tensor of torch counts as the numbers that it holds, wherever it is, without its gradient.
    """
    if is_traced(value):
        if ndim is not None and value.ndim != ndim:
            reject(name, f"an array of shape {value.shape}", f"an array with {ndim} axes")
        return value
    array = array_of(value)
    if array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        array = array.astype(np.float64)  # NumPy does not count these among its own floats
    if array.dtype.kind not in "fiub":
        reject(name, value, "an array of real numbers")
    with np.errstate(invalid="ignore"):  # of what is no number, which is refused below
        array = np.array(array, dtype=np.float64)
    if ndim is not None and array.ndim != ndim:
        reject(name, f"an array of shape {array.shape}", f"an array with {ndim} axes")
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].flat[0]
        reject(name, f"an array holding {bad}", "finite everywhere")
    return array


def array_of(value: Any) -> np.ndarray:
    """As an array, of a tensor of torch too; of what makes none an array of objects."""
    try:
        if is_tensor(value):
            value = value.detach().cpu()
            value = value.double() if value.is_floating_point() else value  # NumPy has no bfloat16
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # rows that differ, a tensor without numbers
        return np.asarray(None)


def real_coordinates(points: Any) -> Any:
    """Complex coordinates as two real ones each: (..., m) as (..., 2 m), and (K,) as (K, 2)."""
    if is_traced(points):
        return points
    array = array_of(points)
    if array.dtype.kind != "c" or array.ndim == 0:
        return points
    array = array[:, None] if array.ndim == 1 else array
    return np.stack([array.real, array.imag], axis=-1).reshape(*array.shape[:-1], -1)


def check_vectors(name: str, value: Any, n: int) -> Any:
    """Finite numbers whose last axis holds the coordinates of vectors in R^n."""
    array = as_float_array(name, value)
    if array.ndim == 0 or array.shape[-1] != n:
        reject(name, f"an array of shape {array.shape}", f"an array whose last axis has length {n}")
    return array


def check_snr(snr: Any, name: str = "snr") -> Any:
    """Signal-to-noise ratios: finite and not negative, any shape."""
    array = as_float_array(name, snr)
    if not is_traced(array) and (array < 0).any():
        reject(name, float(array.min()), "at least 0 everywhere")
    return array


def check_points(points: Any, *, allow_duplicates: bool = False, name: str = "points") -> Any:
    """A (K, n) array of distinct token coordinates with K >= 1 and n >= 1."""
    array = as_float_array(name, points, ndim=2)
    if array.shape[0] < 1 or array.shape[1] < 1:
        reject(name, f"an array of shape {array.shape}", "of shape (K, n) with K >= 1 and n >= 1")
    if is_traced(array):
        return array
    array = array + 0.0  # turns -0.0 into 0.0, so that equal points have equal bytes
    if not allow_duplicates:
        pair = first_duplicate(array)
        if pair is not None:
            expected = "distinct, row by row, unless allow_duplicates=True"
            reject(name, f"rows {pair[0]} and {pair[1]} that are equal", expected)
    return array


def first_duplicate(points: np.ndarray) -> tuple[int, int] | None:
    """The indices of two equal rows, or None; O(K log K) whatever the dimension."""
    if points.shape[1] == 1:  # numbers are sorted many times faster than rows of bytes
        rows = points[:, 0]
    else:
        rows = np.ascontiguousarray(points).view([("row", f"V{points.shape[1] * 8}")]).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    if first.size == rows.size:
        return None
    repeated = np.flatnonzero(first[inverse] != np.arange(rows.size))[0]
    return int(first[inverse[repeated]]), int(repeated)


def check_prior(prior: Any, K: int, name: str = "prior") -> Any:
    """A strictly positive probability vector of length K; None stands for equal priors.

    A sum within ``PRIOR_SUM_TOLERANCE`` of one is rescaled to one exactly; others are refused.
    """
    if prior is None:
        return None
    array = as_float_array(name, prior, ndim=1)
    if array.shape != (K,):
        reject(
            name, f"length {array.shape[0]}", f"of length K = {K}, one probability for each token"
        )
    if is_traced(array):
        return array
    if (array <= 0).any():
        worst = int(np.argmin(array))
        reject(
            name,
            f"{float(array[worst])} for token {worst}",
            "strictly positive (smooth it, or drop the tokens that never occur)",
        )
    total = math.fsum(array)
    if abs(total - 1) > PRIOR_SUM_TOLERANCE:
        reject(name, f"a sum of {total:.9g}", "a probability vector that sums to 1")
    # What was normalised before is left alone bit for bit, so that files and copies are exact.
    return array if abs(total - 1) <= np.finfo(float).eps else array / total


def check_levels(levels: Any, name: str = "levels") -> tuple[int, ...]:
    """Numbers of FSQ levels, one for each coordinate, each at least 1."""
    if isinstance(levels, (int, np.integer)):
        reject(name, levels, "a sequence of integers, one for each coordinate, such as (3,) * 8")
    try:
        values = tuple(levels)
    except TypeError:
        reject(name, levels, "a sequence of integers, one for each coordinate")
    if not values:
        reject(name, levels, "a sequence with at least one coordinate")
    for value in values:
        check_count(value, f"every entry of {name}")
        if value > MAX_ELEMENTS:
            reject(f"every entry of {name}", value, f"at most {MAX_ELEMENTS}")
    return tuple(int(value) for value in values)


def check_count(value: Any, name: str, minimum: int = 1, maximum: int | None = None) -> int:
    """A whole number that is at least ``minimum``, and at most ``maximum`` if there is one."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        reject(name, value, f"a whole number, at least {minimum}")
    if maximum is not None and value > maximum:
        reject(name, value, f"a whole number, at most {maximum}")
    return int(value)


def check_positive(value: Any, name: str) -> Any:
    """One finite number above zero."""
    array = as_float_array(name, value, ndim=0)
    if is_traced(array):
        return array
    if array <= 0:
        reject(name, float(array), "above 0")
    return float(array)


def check_ids(ids: Any, K: int, name: str = "ids") -> np.ndarray:
    """Token ids: whole numbers in 0 .. K - 1, any shape."""
    array = array_of(ids)
    if array.dtype.kind not in "iu":
        if array.size and array.dtype.kind != "f":
            reject(name, ids, f"whole numbers from 0 to {K - 1}")
        if array.size and not (np.isfinite(array).all() and (array == np.round(array)).all()):
            reject(name, ids, f"whole numbers from 0 to {K - 1}")
        if array.size and np.abs(array).max() >= 2.0**63:
            reject(name, float(np.abs(array).max()), f"whole numbers from 0 to {K - 1}")
        array = array.astype(np.int64)
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= min(K, 2**63):  # unsigned ids may be beyond int64, as K may be
            reject(name, low if low < 0 else high, f"whole numbers from 0 to {K - 1}")
    return array.astype(np.int64, copy=False)


def check_time(t: Any, name: str = "t") -> Any:
    """Diffusion times, each in [0, 1]."""
    array = as_float_array(name, t)
    if not is_traced(array) and ((array < 0) | (array > 1)).any():
        bad = array[(array < 0) | (array > 1)].flat[0]
        reject(name, float(bad), "in [0, 1]")
    return array


def check_choice(value: Any, choices: Sequence[str], name: str) -> str:
    """One of a few names."""
    if value not in choices:
        reject(name, value, "one of " + ", ".join(repr(choice) for choice in choices))
    return value
