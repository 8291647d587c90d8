"""`Contexts`, laws of one token in many contexts: of a source, of a model, or out of a file."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import Any, final

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._formats import Arrays, open_arrays, reading, refuse
from tokenkl._module import Module
from tokenkl._validation import (
    MAX_ELEMENTS,
    array_of,
    as_float_array,
    check_count,
    check_ids,
    reject,
)
from tokenkl.numerics.laws import entropies, entropy_of

#: How far from one a law may sum: log-probabilities in single precision are off by less.
SUM_TOLERANCE = 1e-4
#: How far rounding may take an entropy out of its range.
SLACK = 1e-9
CONTEXTS_FILE = (
    "a .npz or .safetensors file with log_probs (C, K), or the largest (C, m) of each law and the "
    "ids of their tokens; weights, groups and entropy beside them, if need be"
)


@final
class Contexts(Module):
    """Conditional laws of one token, p(k | context), in C contexts.

    Args:
        log_laws: log p(k | context) in nats, a context in each row; -inf for what never follows.
        weights: of every context, such as its probability; equal ones unless given.
        groups: contexts with the same number depend on each other, such as those of one sequence;
            errors are by group. Each is its own group unless given.
        exhaustive: whether these are all contexts there are, `weights` their probabilities. Else
            they are a sample, whose size shows in the errors.
        rest: probability of tokens that a law leaves out, per context; laws are those of the tokens
            that are there, and what the rest may change is part of `numerical_error`.
        entropy: H of the token without context, in nats, averaged over positions; mutual
            information is measured against it. None: of exhaustive contexts of one position without
            a rest that of their mixture, else not known.
        draws: words of the keys that contexts were sampled with.

    Raises:
        ValueError: rows that are no laws, or numbers of another shape or out of their range.

    Example:
        >>> import numpy as np
        >>> import tokenkl as tk
        >>> laws = np.array([[0.9, 0.1], [0.2, 0.8]])
        >>> contexts = tk.sources.Contexts(np.log(laws), [0.5, 0.5], exhaustive=True)
        >>> round(contexts.clean_entropy, 4)
        0.4127
    """

    log_laws: Float[np.ndarray, "C K"]
    weights: Float[np.ndarray, " C"]
    groups: Int[np.ndarray, " C"]
    rest: Float[np.ndarray, " C"]
    exhaustive: bool
    entropy: float | None
    draws: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __init__(
        self,
        log_laws: Float[Any, "C K"],
        weights: Float[Any, " C"] | None = None,
        *,
        groups: Int[Any, " C"] | None = None,
        exhaustive: bool = False,
        rest: Float[Any, " C"] | None = None,
        entropy: float | None = None,
        draws: tuple[tuple[int, ...], ...] = (),
    ) -> None:
        self.log_laws = _check_log_laws(log_laws)
        size = len(self.log_laws)
        given = np.ones(size) if weights is None else as_float_array("weights", weights, ndim=1)
        self.weights = _of_size("weights", given, size)
        if self.weights.min() < 0 or self.weights.max() <= 0:
            reject("weights", self.weights, "at least 0, not all of them 0")
        # The sum of what is given may overflow; powers of two leave its digits alone.
        self.weights = np.ldexp(self.weights, -math.frexp(self.weights.max())[1])
        self.weights = self.weights / self.weights.sum()
        labels = np.arange(size) if groups is None else array_of(groups)
        self.groups = np.unique(_of_size("groups", labels, size), return_inverse=True)[1]
        left = np.zeros(size) if rest is None else as_float_array("rest", rest, ndim=1)
        self.rest = _of_size("rest", left, size)
        if self.rest.min() < 0 or self.rest.max() >= 1:
            reject("rest", self.rest, "from 0 to below 1")
        self.exhaustive, self.draws = bool(exhaustive), draws
        if entropy is None and self.exhaustive and not self.rest.any():
            entropy = entropy_of(self.weights @ np.exp(self.log_laws))
        if entropy is not None:
            entropy = float(as_float_array("entropy", entropy, ndim=0))
            most = math.log(self.log_laws.shape[1])
            if not -SLACK <= entropy <= most + SLACK:
                reject("entropy", entropy, f"from 0 to log K = {most:.6g}")
        self.entropy = entropy

    @classmethod
    def from_top(
        cls,
        ids: Int[Any, "C m"],
        log_probs: Float[Any, "C m"],
        K: int,
        weights: Float[Any, " C"] | None = None,
        **given: Any,
    ) -> Contexts:
        """From the m most likely tokens of each law, as models store them.

        Args:
            ids: of the tokens, each once in a row.
            log_probs: theirs, in nats; -inf for a place that is not used.
            K: number of tokens.
            weights, **given: as for `Contexts`.

        Raises:
            ValueError: shapes that differ, ids that are none or twice in a row, probabilities that
                exceed 1 together, or too many numbers.

        Example:
            >>> import numpy as np
            >>> import tokenkl as tk
            >>> top = tk.sources.Contexts.from_top([[5, 2]], np.log([[0.7, 0.2]]), K=100)
            >>> round(float(top.rest[0]), 6)
            0.1
        """
        check_count(K, "K")
        tokens, logs = check_ids(ids, K), _log_probs(log_probs)
        if tokens.ndim != 2 or tokens.shape != logs.shape:
            reject(
                "ids", f"an array of shape {tokens.shape}", f"of shape {logs.shape}, as log_probs"
            )
        _check_room(len(tokens), K)
        order = np.sort(tokens, axis=1)
        if (np.diff(order, axis=1) == 0).any():
            reject("ids", "a row with a token twice", "of different tokens, row by row")
        totals = special.logsumexp(logs, axis=1)
        worst = int(np.argmax(totals)) if len(totals) else 0
        if len(totals) and not -np.inf < totals.min() <= totals[worst] <= math.log1p(SUM_TOLERANCE):
            found = f"a sum of {_sum(totals[worst])} in row {worst}"
            reject("log_probs", found, "of probabilities that sum to at most 1, and not to 0")
        laws = np.full((len(tokens), K), -np.inf)
        np.put_along_axis(laws, tokens, logs - totals[:, None], axis=1)
        rest = np.zeros(len(tokens)) if logs.shape[1] == K else np.maximum(-np.expm1(totals), 0.0)
        return cls(laws, weights, rest=rest, **given)

    @classmethod
    def of_sequences(cls, log_laws: Float[Any, "N length K"], **given: Any) -> Contexts:
        """From the laws at every position of some sequences, each sequence a group.

        Raises:
            ValueError: as for `Contexts`, or no array with three axes.
        """
        laws = _log_probs(log_laws, 3)
        groups = np.repeat(np.arange(len(laws)), laws.shape[1])
        return cls(laws.reshape(-1, laws.shape[2]), groups=groups, **given)

    @property
    def K(self) -> int:
        """Number of tokens."""
        return int(self.log_laws.shape[1])

    @property
    def laws(self) -> Float[np.ndarray, "C K"]:
        """p(k | context)."""
        return np.exp(self.log_laws)

    def entropies(self) -> Float[np.ndarray, " C"]:
        """H of every law, in nats."""
        return entropies(self.laws)

    @property
    def clean_entropy(self) -> float:
        """H(k | context), the average of them: the cross-entropy of the model that they are of."""
        return math.fsum(self.weights * self.entropies())


def load_contexts(path: str | PathLike[str], K: int | None = None) -> Contexts:
    """Laws that a model gave, out of a .npz or .safetensors file.

    Arrays `log_probs` (C, K); or `ids` and `log_probs` (C, m), with the number of tokens K as an
    array `K` or an argument. If they are there also `weights` (C,), `groups` (C,), and the number
    `entropy`. Nothing is unpickled.

    Raises:
        ValueError: a missing, damaged or foreign file, numbers that are no laws, or K not known.
    """
    if Path(path).suffix.lower() not in (".npz", ".safetensors"):
        refuse(path, CONTEXTS_FILE, "its name ends otherwise")
    with reading(path, CONTEXTS_FILE) as file, open_arrays(file) as arrays:
        if "log_probs" not in arrays.shapes:
            file.refuse("it has no array log_probs")
        shape = arrays.shapes["log_probs"]
        if len(shape) != 2:
            file.refuse(f"its log_probs have the shape {shape}")
        given: dict[str, Any] = {
            name: arrays.read(name)
            for name in ("weights", "groups")
            if name in arrays.shapes and arrays.shapes[name] == shape[:1]
        }
        for name in {"weights", "groups"} & arrays.shapes.keys() - given.keys():
            file.refuse(f"its {name} have the shape {arrays.shapes[name]}, not {shape[:1]}")
        if "entropy" in arrays.shapes:
            given["entropy"] = _one_number(arrays, "entropy")
        if "ids" not in arrays.shapes:
            if K not in (None, shape[1]):
                file.refuse(f"its laws are of {shape[1]} tokens, not {K}")
            _check_room(*shape)
            return Contexts(arrays.read("log_probs"), **given)
        if K is None and "K" not in arrays.shapes:
            file.refuse("it does not say the number of tokens K, which is then an argument")
        count = int(_one_number(arrays, "K")) if K is None else K
        _check_room(shape[0], count)
        return Contexts.from_top(arrays.read("ids"), arrays.read("log_probs"), count, **given)


def _one_number(arrays: Arrays, name: str) -> float:
    if math.prod(arrays.shapes[name]) != 1:
        arrays.file.refuse(f"its {name} is not one number")
    return float(as_float_array(name, arrays.read(name)).ravel()[0])


def _of_size(name: str, array: np.ndarray, size: int) -> np.ndarray:
    if array.shape != (size,):
        reject(name, f"an array of shape {array.shape}", f"of shape ({size},), one a context")
    return array


def _check_room(contexts: int, K: int) -> None:
    if contexts * K > MAX_ELEMENTS:
        expected = f"few enough for {MAX_ELEMENTS:,} numbers"
        reject("the contexts", f"{contexts:,} laws of {K:,} tokens", expected)


def _log_probs(logs: Any, ndim: int = 2) -> np.ndarray:
    """Logarithms of numbers, -inf among them."""
    given = array_of(logs)
    if given.dtype.kind not in "fiu" and given.dtype.name != "bfloat16":
        reject("log-probabilities", logs, "an array of real numbers")
    array: np.ndarray = given.astype(float)
    if array.ndim != ndim or 0 in array.shape:
        reject(
            "log-probabilities", f"an array of shape {array.shape}", f"of {ndim} axes, not empty"
        )
    if np.isnan(array).any() or np.isposinf(array).any():
        reject("log-probabilities", "an array holding nan or inf", "finite or -inf everywhere")
    return array


def _sum(log: float) -> str:
    """exp of a logarithm that may be of any size."""
    return f"{math.exp(log):.9g}" if abs(log) < 700 else f"exp({log:.9g})"


def _check_log_laws(logs: Any) -> Float[np.ndarray, "C K"]:
    """Log-laws in rows, each normalised."""
    array = _log_probs(logs)
    _check_room(*array.shape)
    totals = special.logsumexp(array, axis=1)
    worst = int(np.argmax(abs(totals)))
    if not abs(totals[worst]) < SUM_TOLERANCE:
        found = f"a sum of {_sum(totals[worst])} in row {worst}"
        reject("log-probabilities", found, "of laws, whose probabilities sum to 1")
    laws: np.ndarray = array - totals[:, None]
    return laws
