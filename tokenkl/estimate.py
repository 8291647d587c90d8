"""What every number comes back as: an `Estimate`, a `Bound`, a `ConfidenceInterval`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special

from tokenkl._validation import reject


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


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """A quantity, how far it may be off, and how it was found.

    `value`, `standard_error` and `numerical_error` have one common shape, that of the `snr` that
    was asked for. Nothing is ever clamped: an estimate of a mutual information may come out
    negative, and its interval then says so.

    - `standard_error`: one standard deviation of the sampling error; 0 where nothing was sampled.
    - `numerical_error`: a bound on quadrature, truncation and rounding errors; NaN inside a JAX
      transformation, where it is not tracked.
    - `n_samples`: samples behind the value, 0 where nothing was sampled: a number, or an array of
      the value's shape where every SNR had as many as it needed. A pilot is not counted.
    - `degrees_of_freedom`: of `standard_error`, for Student's quantile; infinite for an average of
      independent samples, the number of replicates less one for randomised Sobol points.
    - `interval_supported`: False where the sample holds too few informative draws for a
      central-limit interval (see `note`). The interval is then the empirical Bernstein bound of
      Maurer and Pontil (2009), which holds for any sample size but is wide.
    - `sample_range`: length of the range that a single draw can take, which that bound needs.
    - `skewness`: of the sampling error (that of one draw over the root of `n_samples`); the
      central-limit interval is moved by it.
    - `unit`: "nats", "bits", "squared distance" or "" for probabilities.
    """

    value: Any
    standard_error: Any = 0.0
    numerical_error: Any = 0.0
    n_samples: Any = 0
    method: str = "exact"
    seed: int | None = None
    quantity: str = ""
    unit: str = ""
    interval_supported: Any = True
    sample_range: float = math.inf
    note: str = ""
    skewness: Any = 0.0
    degrees_of_freedom: Any = math.inf

    def __post_init__(self) -> None:
        shape = np.shape(self.value)
        for name in PER_VALUE:
            given = getattr(self, name)
            if np.shape(given) != shape:
                object.__setattr__(self, name, np.broadcast_to(given, shape))

    def confidence_interval(self, level: float = 0.95) -> ConfidenceInterval:
        """Interval that covers the true value with probability `level`.

        Half-width: quantile z times `standard_error`, plus `numerical_error`; z is the normal
        quantile, or Student's where `degrees_of_freedom` are finite. The centre is moved from the
        value by (1 + 2 z^2) / 6 times `skewness` standard errors (Johnson 1978), since draws that
        are rare and large are missing more often than they are in excess. Where
        `interval_supported` is False: the value plus and minus the empirical Bernstein half-width,
        valid at every sample size.
        """
        if not 0 < level < 1:
            reject("level", level, "strictly between 0 and 1")
        value = np.asarray(self.value)
        freedom = np.asarray(self.degrees_of_freedom, dtype=float)
        student = special.stdtrit(np.minimum(freedom, 1e6), 0.5 + level / 2)
        z = np.where(np.isinf(freedom), special.ndtri(0.5 + level / 2), student)
        half = z * np.asarray(self.standard_error)
        shift = (1 + 2 * z**2) / 6 * np.asarray(self.skewness) * np.asarray(self.standard_error)
        if not np.all(self.interval_supported):
            n = np.maximum(self.n_samples, 1)
            log_term = math.log(4 / (1 - level))
            variance = np.asarray(self.standard_error) ** 2 * n
            bernstein = np.sqrt(2 * variance * log_term / n)
            bernstein = bernstein + 7 * self.sample_range * log_term / (3 * np.maximum(n - 1, 1))
            half = np.where(self.interval_supported, half, bernstein)
            shift = np.where(self.interval_supported, shift, 0.0)
        half = half + np.asarray(self.numerical_error)
        return ConfidenceInterval(value + shift - half, value + shift + half, level)

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
        return dataclasses.replace(
            self,
            value=self.value * factor,
            standard_error=self.standard_error * factor,
            numerical_error=self.numerical_error * factor,
            sample_range=self.sample_range * factor,
            unit="bits",
        )

    def __getitem__(self, index: Any) -> Estimate:
        fields = {name: np.asarray(getattr(self, name))[index] for name in ("value", *PER_VALUE)}
        if np.ndim(self.n_samples):
            fields["n_samples"] = self.n_samples[index]
        return dataclasses.replace(self, **fields)

    @property
    def is_sampled(self) -> bool:
        """Whether any of it was sampled."""
        return bool(np.any(self.n_samples))

    def __float__(self) -> float:
        return float(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value, dtype=dtype)

    def __repr__(self) -> str:
        name = self.quantity or "Estimate"
        unit = f" {self.unit}" if self.unit else ""
        how = self.method + (f", {count_of(self)} samples" if self.is_sampled else "")
        if np.ndim(self.value) == 0:
            try:
                value = f"{float(self.value):.12g}"
                error = f"{float(self.standard_error):.2g} (sampling), " if self.is_sampled else ""
                error += f"{float(self.numerical_error):.2g} (numerical)"
            except TypeError:  # traced
                value, error = repr(self.value), "not tracked"
            text = f"{name} = {value}{unit}, error {error} [{how}]"
        else:
            shown = np.array2string(np.asarray(self.value), precision=6, threshold=8)
            text = f"{name} = {shown}{unit} [{how}]"
        return f"<{text}{'; ' + self.note if self.note else ''}>"


def count_of(estimate: Estimate, style: str = "d") -> str:
    """The sample count as text, "fewest to most" where it differs from SNR to SNR."""
    fewest, most = np.min(estimate.n_samples), np.max(estimate.n_samples)
    return f"{most:{style}}" if fewest == most else f"{fewest:{style}} to {most:{style}}"


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
