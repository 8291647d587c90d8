"""What every number comes back as: an `Estimate`, a `Bound`, a `ConfidenceInterval`.

Estimates and bounds are JAX pytrees: their arrays are leaves, so that `jax.jit` and `jax.vmap` take
and return them, and their words are static. Estimates are added, and multiplied by numbers, with
their errors.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey
from scipy import special

from tokenkl._formats import conform
from tokenkl._validation import as_float_array, is_traced, reject
from tokenkl.ways import Ways


class ConfidenceInterval(NamedTuple):
    """Two-sided interval; `low` and `high` have the shape of the estimate."""

    low: Any
    high: Any
    level: float


#: Fields of an `Estimate` that have the shape of its value.
PER_VALUE = (
    "standard_error",
    "numerical_error",
    "interval_supported",
    "skewness",
    "degrees_of_freedom",
)
#: Those that are one number, of this type, or have the shape of the value.
PER_ESTIMATE: dict[str, Callable[[Any], Any]] = {"n_samples": int, "sample_range": float}
#: All of them.
NUMBERS = ("value", *PER_VALUE, *PER_ESTIMATE)
#: Most of a product's relative variance that may come from more than its worst factor, for its
#: interval to be one of the central limit.
INTERACTION = 0.1

Result = TypeVar("Result")


def pytree(leaves: Callable[[Any], tuple[str, ...]]) -> Callable[[type[Result]], type[Result]]:
    """Make a dataclass a JAX pytree: `leaves` names the fields that hold arrays; others are static.

    JAX puts whatever it likes into the leaves, so that nothing is checked on the way back.
    """

    def flatten(one: Any) -> tuple[list[tuple[GetAttrKey, Any]], Any]:
        names = leaves(one)
        static = (f.name for f in dataclasses.fields(one) if f.name not in names)
        rest = tuple((name, getattr(one, name)) for name in static)
        return [(GetAttrKey(name), getattr(one, name)) for name in names], (names, rest)

    def register(kind: type[Result]) -> type[Result]:
        def unflatten(known: Any, children: Any) -> Result:
            names, rest = known
            one = object.__new__(kind)
            vars(one).update(rest)
            vars(one).update(zip(names, children, strict=True))
            return one

        jax.tree_util.register_pytree_with_keys(kind, flatten, unflatten)
        return kind

    return register


@pytree(lambda estimate: ("value", *PER_VALUE, *estimate.varying))
@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """A quantity, how far it may be off, and how it was found.

    `value`, `standard_error` and `numerical_error` have one common shape, that of the `snr` that
    was asked for. Nothing is ever clamped: an estimate of a mutual information may come out
    negative, and its interval then says so.

    - `standard_error`: one standard deviation of the sampling error; 0 where nothing was sampled.
    - `numerical_error`: a bound on quadrature, truncation and rounding errors; NaN inside a JAX
      transformation, where it is not tracked.
    - `method`: which estimator found which value (`Ways`); `str(method)` says it in short. One that
      has the same name everywhere is given as a string.
    - `n_samples`: samples behind the value, 0 where nothing was sampled: a number, or an array of
      the value's shape where every SNR had as many as it needed. A pilot is not counted.
    - `degrees_of_freedom`: of `standard_error`, for Student's quantile; infinite for an average of
      independent samples, the number of replicates less one for randomised Sobol points.
    - `interval_supported`: False where the sample holds too few informative draws for a
      central-limit interval (see `note`). The interval is then the empirical Bernstein bound of
      Maurer and Pontil (2009), which holds for any sample size but is wide.
    - `sample_range`: length of the range that a single draw can take, which that bound needs; as
      `n_samples`, a number or an array.
    - `skewness`: of the sampling error (that of one draw over the root of `n_samples`); the
      central-limit interval is moved by it.
    - `unit`: "nats", "bits", "squared distance" or "" for probabilities.
    - `draws`: which random numbers are behind the value: the words of each key. Estimates that
      have a key in common are not independent.

    As a pytree: `value` and what has its shape are leaves, `n_samples` and `sample_range` among
    them where they are arrays.

    Arithmetic: estimates of one unit are added and subtracted; numbers are added; an estimate is
    multiplied and divided by numbers. With values add the numerical errors, with the rounding of
    the operation, and the squares of standard errors, since the summands have to be independent: a
    sum of estimates with common `draws` is refused. Skewness is that of the sum, degrees of freedom
    are those of Welch (1947) and Satterthwaite (1946), and an interval is supported where that of
    every summand is. Results have no `quantity`: `dataclasses.replace` names them.

    Example:
        >>> import tokenkl as tk
        >>> first, last = tk.mutual_information(tk.FSQ((2, 2)), [1.0, 4.0])
        >>> gained = (last - first) / 2  # by each coordinate
        >>> round(float(gained.bits), 6)
        0.426878
        >>> gained.unit
        'nats'
    """

    value: Any
    standard_error: Any = 0.0
    numerical_error: Any = 0.0
    n_samples: Any = 0
    method: Any = "exact"
    seed: int | None = None
    quantity: str = ""
    unit: str = ""
    interval_supported: Any = True
    sample_range: Any = math.inf
    note: str = ""
    skewness: Any = 0.0
    degrees_of_freedom: Any = math.inf
    draws: tuple[tuple[int, ...], ...] = ()
    #: Which of `PER_ESTIMATE` are arrays.
    varying: tuple[str, ...] = dataclasses.field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", Ways.of(self.method))
        for name, number in self._numbers().items():
            if np.ndim(number) and not hasattr(number, "shape"):
                object.__setattr__(self, name, np.asarray(number))
        shape, varying = np.shape(self.value), []
        for name in (*PER_VALUE, *PER_ESTIMATE):
            given = getattr(self, name)
            if name in PER_ESTIMATE and np.ndim(given) == 0 and not is_traced(given):
                object.__setattr__(self, name, PER_ESTIMATE[name](given))
                continue
            if name in PER_ESTIMATE:
                varying.append(name)
            if np.shape(given) != shape:
                object.__setattr__(self, name, _module(given).broadcast_to(given, shape))
        object.__setattr__(self, "varying", tuple(varying))

    def confidence_interval(self, level: float = 0.95) -> ConfidenceInterval:
        """Interval that covers the true value with probability `level`.

        Half-width: quantile z times `standard_error`, plus `numerical_error`; z is the normal
        quantile, or Student's where `degrees_of_freedom` are finite. The centre is moved from the
        value by (1 + 2 z^2) / 6 times `skewness` standard errors (Johnson 1978), since draws that
        are rare and large are missing more often than they are in excess; the end that this brings
        nearer stays z / 2 standard errors away, so that intervals hold the value, and those of
        lower levels. Where `interval_supported` is False: the value plus and minus the empirical
        Bernstein half-width, valid at every sample size.
        """
        if not 0 < level < 1:
            reject("level", level, "strictly between 0 and 1")
        value = np.asarray(self.value)
        freedom = np.asarray(self.degrees_of_freedom, dtype=float)
        student = special.stdtrit(np.minimum(freedom, 1e6), 0.5 + level / 2)
        z = np.where(np.isinf(freedom), special.ndtri(0.5 + level / 2), student)
        error = np.asarray(self.standard_error)
        moved = np.where(np.isinf(error), 0.0, error)  # an infinite error has no skewness
        half, shift = z * error, (1 + 2 * z**2) / 6 * np.asarray(self.skewness) * moved
        if not np.all(self.interval_supported):
            n = np.maximum(self.n_samples, 1)
            log_term = math.log(4 / (1 - level))
            variance = np.asarray(self.standard_error) ** 2 * n
            bernstein = np.sqrt(2 * variance * log_term / n)
            bernstein = bernstein + 7 * self.sample_range * log_term / (3 * np.maximum(n - 1, 1))
            half = np.where(self.interval_supported, half, bernstein)
            shift = np.where(self.interval_supported, shift, 0.0)
        low = half - np.minimum(shift, half / 2) + np.asarray(self.numerical_error)
        high = half + np.maximum(shift, -half / 2) + np.asarray(self.numerical_error)
        return ConfidenceInterval(value - low, value + high, level)

    @property
    def bits(self) -> Estimate:
        """The same estimate in bits; only for quantities measured in nats or bits."""
        if self.unit == "bits":
            return self
        if self.unit != "nats":
            raise ValueError(
                f"bits must be asked of information in nats; this is {self.quantity or 'a number'} "
                f"with unit {self.unit or 'none'}."
            )
        factor = 1 / math.log(2)
        return dataclasses.replace(self.scaled(factor), quantity=self.quantity, unit="bits")

    def __getitem__(self, index: Any) -> Estimate:
        numbers = {name: getattr(self, name) for name in ("value", *PER_VALUE, *self.varying)}
        xp = _module(*numbers.values())
        chosen = {name: xp.asarray(number)[index] for name, number in numbers.items()}
        method = self.ways_of(lambda places: places[index])
        return dataclasses.replace(self, **chosen, method=method)

    @property
    def is_sampled(self) -> bool:
        """Whether any of it was sampled."""
        return is_traced(self.n_samples) or bool(np.any(self.n_samples))

    # ---- Arithmetic ---------------------------------------------------------------------------

    #: NumPy's arrays leave operators to this class.
    __array_priority__ = 1000

    def scaled(self, factor: Any, value: Any = None) -> Estimate:
        """This times numbers, as by `*`, for a caller who accounts for the product's rounding.

        `value` is that product, where it is known otherwise.
        """
        size = abs(factor)

        def times(error: Any) -> Any:
            return _module(size, error).where(size > 0, error, 0.0) * size  # of inf, 0 times is 0

        value = self.value * factor if value is None else value
        return dataclasses.replace(
            self,
            value=value,
            method=self.ways_in(np.shape(value)),
            standard_error=times(self.standard_error),
            numerical_error=times(self.numerical_error),
            skewness=self.skewness * _module(factor).sign(factor),
            sample_range=times(self.sample_range),
            quantity="",
        )

    def _rounded(self) -> Estimate:
        """With the rounding of the operation that gave the value."""
        xp = _module(self.value)
        value = xp.asarray(self.value) * 1.0
        # One rounding is half of it, and the factor may have been rounded before.
        rounding = xp.where(xp.isfinite(value), jnp.finfo(value.dtype).eps * xp.abs(value), 0.0)
        return dataclasses.replace(self, numerical_error=self.numerical_error + rounding)

    def ways_of(self, move: Callable[[np.ndarray], Any]) -> Ways:
        """How the values were found that `move` picks from an array of these."""
        method: Ways = self.method
        if all(way.levels is None for way in method):
            return method
        shape = np.shape(self.value)
        return method.moved(np.ravel(move(np.arange(math.prod(shape)).reshape(shape))))

    def ways_in(self, shape: tuple[int, ...]) -> Ways:
        """How the values were found, in an array of this shape."""
        return self.ways_of(lambda places: np.broadcast_to(places, shape))

    def _numbers(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("value", *PER_VALUE, *PER_ESTIMATE)}

    def _check_summand(self, other: Estimate) -> None:
        if other.unit != self.unit:
            reject(
                "the estimates of a sum",
                f"{self.unit or 'none'} and {other.unit or 'none'}",
                "of one unit",
            )
        known = not is_traced(*self._numbers().values())
        twice = other is self and known and np.any(_may_err(self._numbers(), np))
        if twice or set(self.draws) & set(other.draws):
            reject(
                "the estimates of a sum",
                "two that share draws",
                "independent, each sampled with its own key (where they are not, add values and "
                "standard errors by hand, which holds whatever the correlation)",
            )

    def __add__(self, other: Any) -> Estimate:
        if not isinstance(other, Estimate):
            number = as_float_array("a summand", other)
            if not is_traced(number) and number.ndim == 0 and number == 0:
                return self  # this is where Python's sum() starts
            value = self.value + number
            method = self.ways_in(np.shape(value))
            return dataclasses.replace(self, value=value, method=method, quantity="")._rounded()
        self._check_summand(other)
        both = (self, other)
        xp = _module(*self._numbers().values(), *other._numbers().values())
        seeds, draws = {one.seed for one in both}, {*self.draws, *other.draws}
        numbers = sum_of_independent(self._numbers(), other._numbers(), xp)
        everywhere, shape = np.arange(np.size(numbers["value"])), np.shape(numbers["value"])
        ways = [(everywhere, one.ways_in(shape)) for one in both]
        found = Estimate(
            **numbers,
            method=Ways.joined(everywhere.size, ways),
            seed=self.seed if len(seeds) == 1 else None,
            unit=self.unit,
            note=_notes(both),
            draws=tuple(sorted(draws)),
        )
        return found._rounded()

    __radd__ = __add__

    def __neg__(self) -> Estimate:
        return self.scaled(-1.0)

    def __sub__(self, other: Any) -> Estimate:
        if isinstance(other, Estimate):
            self._check_summand(other)  # before its negative is another object
        return self + -other

    def __rsub__(self, other: Any) -> Estimate:
        return -self + other

    def __mul__(self, other: Any) -> Estimate:
        if isinstance(other, Estimate):
            return NotImplemented
        return self.scaled(as_float_array("a factor", other))._rounded()

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Estimate:
        if isinstance(other, Estimate):
            return NotImplemented
        divisor = as_float_array("a divisor", other)
        if not is_traced(divisor) and not divisor.all():
            reject("a divisor", other, "other than 0")
        return self.scaled(1 / divisor, self.value / divisor)._rounded()

    @staticmethod
    def stack(estimates: Sequence[Estimate]) -> Estimate:
        """Estimates of one shape and unit along a new first axis.

        Raises:
            ValueError: no estimate at all, or shapes or units that differ.
        """
        if not estimates:
            reject("estimates", "none", "at least one")
        for what, kinds in (
            ("shape", [np.shape(one.value) for one in estimates]),
            ("unit", [one.unit or "none" for one in estimates]),
        ):
            if len(set(kinds)) > 1:
                reject("estimates", " and ".join(map(str, dict.fromkeys(kinds))), f"of one {what}")
        shape = np.shape(estimates[0].value)
        columns: dict[str, Any] = {}
        for name in ("value", *PER_VALUE, *PER_ESTIMATE):
            rows = [getattr(one, name) for one in estimates]
            plain = name in PER_ESTIMATE and not any(name in one.varying for one in estimates)
            if plain and len(set(rows)) == 1:
                columns[name] = rows[0]
            else:
                xp = _module(*rows)
                columns[name] = xp.stack([xp.broadcast_to(row, shape) for row in rows])
        names = {one.quantity for one in estimates}
        seeds = {one.seed for one in estimates}
        places = np.arange(len(estimates) * math.prod(shape)).reshape(len(estimates), -1)
        ways = zip(places, (one.method for one in estimates), strict=True)
        return Estimate(
            **columns,
            method=Ways.joined(places.size, ways),
            seed=estimates[0].seed if len(seeds) == 1 else None,
            quantity=estimates[0].quantity if len(names) == 1 else "",
            unit=estimates[0].unit,
            note=_notes(estimates),
            draws=tuple(sorted({words for one in estimates for words in one.draws})),
        )

    # ---- Files --------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings for `json.dump`; what is not finite becomes "inf" or "nan".

        `from_json` gives the same numbers back, bit by bit, as NumPy arrays.
        """
        record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        for name, number in self._numbers().items():
            record[name] = _in_json(np.asarray(number).tolist())
        record["method"] = self.method.to_json()
        record["draws"] = [list(words) for words in self.draws]
        return {"shape": list(np.shape(self.value)), **record}

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Estimate:
        """The estimate that `to_json` described.

        Raises:
            ValueError: anything else.
        """
        kinds: dict[str, type] = dict.fromkeys(("value", *PER_VALUE, *PER_ESTIMATE), float)
        kinds |= {"interval_supported": bool, "n_samples": int}
        try:
            shape = tuple(record["shape"])
            known = {f.name: record[f.name] for f in dataclasses.fields(Estimate) if f.init}
            for name, kind in kinds.items():
                array: np.ndarray = np.array(known[name], dtype=kind)
                known[name] = array if name in PER_ESTIMATE else array.reshape(shape)[()]
            for name in ("quantity", "unit", "note"):
                conform(known[name], str, name)
            known["method"] = Ways.from_json(known["method"])
            known["draws"] = tuple(tuple(map(int, words)) for words in known["draws"])
            return Estimate(**known)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reject("record", f"one with {error!r}", "what Estimate.to_json gives")

    def __float__(self) -> float:
        return float(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value, dtype=dtype)

    def __repr__(self) -> str:
        name = self.quantity or "Estimate"
        unit = f" {self.unit}" if self.unit else ""
        if is_traced(*self._numbers().values()):
            return f"<{name} = {self.value!r}{unit}, error not tracked [{self.method}]>"
        how = f"{self.method}" + (f", {count_of(self)} samples" if self.is_sampled else "")
        if np.ndim(self.value) == 0:
            error = f"{float(self.standard_error):.2g} (sampling), " if self.is_sampled else ""
            error += f"{float(self.numerical_error):.2g} (numerical)"
            text = f"{name} = {float(self.value):.12g}{unit}, error {error} [{how}]"
        else:
            shown = np.array2string(np.asarray(self.value), precision=6, threshold=8)
            text = f"{name} = {shown}{unit} [{how}]"
        return f"<{text}{'; ' + self.note if self.note else ''}>"


def sum_of_independent(one: Mapping[str, Any], other: Mapping[str, Any], xp: Any = np) -> Any:
    """All numbers of the sum of two independent estimates, from those of both (by field)."""
    both, errors = (one, other), (one["standard_error"], other["standard_error"])
    error = xp.hypot(*errors)
    # Parts of the variance: their powers weigh skewness and (Welch and Satterthwaite) freedom.
    tiny = jnp.finfo(error.dtype).tiny
    ours, theirs = (e / xp.maximum(error, tiny) for e in errors)
    inverse = ours**4 / one["degrees_of_freedom"] + theirs**4 / other["degrees_of_freedom"]
    # So that the second terms of Maurer and Pontil's bounds add up (docs/theory/sampling.md, S9).
    counts = [numbers["n_samples"] for numbers in both]
    reaches = [xp.where(_may_err(numbers, xp), numbers["sample_range"], 0.0) for numbers in both]
    shares = [reach / xp.maximum(n - 1, 1) for reach, n in zip(reaches, counts, strict=True)]
    total = counts[0] + counts[1]
    return {
        "value": one["value"] + other["value"],
        "standard_error": error,
        "numerical_error": one["numerical_error"] + other["numerical_error"],
        "skewness": ours**3 * one["skewness"] + theirs**3 * other["skewness"],
        "degrees_of_freedom": xp.where(inverse > 0, 1 / xp.maximum(inverse, tiny), np.inf),
        "interval_supported": one["interval_supported"] & other["interval_supported"],
        "n_samples": total,
        "sample_range": xp.maximum(total - 1, 1) * (shares[0] + shares[1]),
    }


def sum_of_all(parts: Sequence[Mapping[str, Any]], xp: Any = np) -> dict[str, Any]:
    """All numbers of the sum of independent estimates, with its rounding."""
    found = {name: parts[0][name] for name in NUMBERS}
    for part in parts[1:]:
        found = sum_of_independent(found, part, xp)
    return _folded(found, len(parts), xp)


def product_of_independent(parts: Sequence[Mapping[str, Any]], xp: Any = np) -> dict[str, Any]:
    """All numbers of the product of independent unbiased estimates of numbers in [0, 1].

    Nothing is linearised: docs/theory/sampling.md, S10.
    """
    factors = [part["value"] for part in parts]
    return _folded(_errors_of_product(parts, factors, 1, xp), len(parts), xp)


def union_of_independent(parts: Sequence[Mapping[str, Any]], xp: Any = np) -> dict[str, Any]:
    """The same of 1 - prod (1 - x_i), as a sum that keeps the digits of small x_i."""
    found = _errors_of_product(parts, [1 - part["value"] for part in parts], -1, xp)
    total = parts[0]["value"]
    for part in parts[1:]:
        total = total + (1 - total) * part["value"]
    return _folded(found | {"value": total}, len(parts), xp)


def _errors_of_product(
    parts: Sequence[Mapping[str, Any]], factors: Sequence[Any], sign: int, xp: Any
) -> dict[str, Any]:
    """All numbers of the product of the factors, which are the estimates or (sign -1) 1 less them.

    With x_i the factors, v_i their variances: the variance is prod (x_i^2 + v_i) - prod x_i^2.
    """
    found = {name: parts[0][name] for name in NUMBERS}
    value, error = 1.0, 0.0
    variance = third = largest = spread = 0.0
    for part, x in zip(parts, factors, strict=True):
        v = part["standard_error"] ** 2
        skewed = sign * part["skewness"] * part["standard_error"] ** 3
        slack = part["numerical_error"]
        error = xp.abs(value) * slack + error * (xp.abs(x) + slack)
        # The last term is half of what it is in the third moment: the standard error moves with the
        # factors, otherwise than with those of an average, which the interval's shift supposes.
        third = third * (x**3 + skewed + 3 * x * v) + skewed * (value**3 + 3 * value * variance)
        third = third + 3 * value * x * variance * v
        spread = spread * (x**2 + v) ** 2
        spread = spread + ((value**2 + variance) * v) ** 2 / part["degrees_of_freedom"]
        largest = xp.maximum(largest * x**2, value**2 * v)
        variance = variance * (x**2 + v) + value**2 * v
        value = value * x
    tiny = jnp.finfo(xp.asarray(value).dtype).tiny
    deviation = xp.sqrt(variance)
    found |= {
        "value": value,
        "standard_error": deviation,
        "numerical_error": error,
        "skewness": sign * third / xp.maximum(deviation, tiny ** (1 / 3)) ** 3,
        "degrees_of_freedom": xp.where(
            spread > 0, variance**2 / xp.where(spread > 0, spread, 1.0), np.inf
        ),
    }
    supported = [part["interval_supported"] for part in parts]
    if not is_traced(value):
        supported.append(variance - largest <= INTERACTION * value**2)
    found["interval_supported"] = functools.reduce(operator.and_, supported)
    # The empirical Bernstein bounds of all parts at once, each at its share of the level (S10).
    level = 1 + math.log(len(parts)) / math.log(4)
    total, reach = 0, 0.0
    for part in parts:
        n, errs = part["n_samples"], _may_err(part, xp)
        bound = level * part["sample_range"] / xp.maximum(n - 1, 1)
        bound = bound + 3 / 7 * math.sqrt(2 * level / math.log(4)) * part["standard_error"]
        reach = reach + xp.where(errs, bound, 0.0)
        total = total + n
    for x in factors:
        reach = reach * xp.maximum(xp.abs(x), 1.0)
    return found | {"n_samples": total, "sample_range": xp.maximum(total - 1, 1) * reach}


def _folded(found: dict[str, Any], count: int, xp: Any) -> dict[str, Any]:
    """With the rounding of so many operations on positive numbers."""
    value = xp.asarray(found["value"])
    rounding = 2 * count * jnp.finfo(value.dtype).eps * xp.abs(value)
    return found | {"numerical_error": found["numerical_error"] + rounding}


def _may_err(numbers: Mapping[str, Any], xp: Any) -> Any:
    """Where there is a sampling error, if it was seen or not."""
    return (xp.asarray(numbers["n_samples"]) > 0) | (xp.asarray(numbers["standard_error"]) != 0)


def _module(*values: Any) -> Any:
    """`jax.numpy` where something is traced, else NumPy."""
    return jnp if is_traced(*values) else np


def _notes(estimates: Sequence[Estimate]) -> str:
    return "; ".join(dict.fromkeys(one.note for one in estimates if one.note))


def _in_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_json(one) for one in value]
    return value if math.isfinite(value) else str(value)


def count_of(estimate: Estimate, style: str = "d") -> str:
    """The sample count as text, "fewest to most" where it differs from SNR to SNR."""
    fewest, most = np.min(estimate.n_samples), np.max(estimate.n_samples)
    return f"{most:{style}}" if fewest == most else f"{fewest:{style}} to {most:{style}}"


@pytree(lambda bound: ("value",))
@dataclasses.dataclass(frozen=True, eq=False)
class Bound:
    """A proved one-sided bound, which arithmetic cannot confuse with a value.

    `direction` is "lower" or "upper"; `name` says which inequality; `citation` who proved it.
    """

    value: Any
    direction: Literal["lower", "upper"]
    name: str
    citation: str = ""
    quantity: str = ""
    unit: str = ""

    def __repr__(self) -> str:
        sign = ">=" if self.direction == "lower" else "<="
        unit = f" {self.unit}" if self.unit else ""
        return f"<{self.quantity or 'quantity'} {sign} {self.value}{unit} [{self.name}]>"
