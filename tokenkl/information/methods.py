"""How a quantity is to be found: the `method` argument of every estimator."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from tokenkl._validation import check_choice, check_count, check_positive, reject
from tokenkl.codebooks.base import Codebook

#: Fewest draws of `RareEvents`, and so samples of `Auto`.
FEWEST = 64


@dataclasses.dataclass(frozen=True)
class Exact:
    """Closed forms and spectrally accurate quadrature; refused where the structure has none."""


@dataclasses.dataclass(frozen=True)
class MonteCarlo:
    """Averages over simulated observations, for any codebook.

    Either a fixed `n_samples`, or targets: sampling goes on until the standard error of every
    quantity asked for is at most ``atol + rtol * |value|`` at an SNR, or `max_samples` is reached
    there (the estimate's note then says so). An SNR whose targets are met costs nothing more, so
    that the estimate's `n_samples` is an array. With neither, 16384 samples; 1024 for a residual
    codebook that is too large to enumerate.

    From 4096 samples on, a pilot of 1024 or 2048 samples, which come on top, decides what lowers
    the variance at each SNR: control variates (functions of token and noise with a known mean:
    moments, the nearest rivals of each token, a grid that the codebook is near to) and, up to ten
    dimensions, Sobol points in independently scrambled replicates instead of independent ones; in
    more, noise with its signs turned, two or four samples of which cost less. The estimate comes
    from fresh samples alone, so that it is unbiased and its interval holds whatever was chosen
    (docs/theory/sampling.md). Where SNRs lie close to each other, samples are then looked at in
    fewer places, and values at the SNRs read off by polynomials, so that a thousand cost little
    more than thirty; what these miss is far below the standard error, and part of
    `numerical_error`.

    Args:
        n_samples: samples behind each value, at least 2; rounded up to whole replicates where Sobol
            points are used, and to draws of two or four where signs are turned.
        rtol: target standard error relative to the value.
        atol: target standard error in the units of the quantity.
        max_samples: where to stop when the targets are out of reach.
        memory: bytes for all that is allocated beside a few copies of the points. Where it is too
            small for a pilot, averages are plain.
        variance_reduction: False gives plain averages of independent samples.
        control: a grid (`FSQ` or `ProductCodebook`) that the codebook is near: same number of
            tokens, same prior, same order of ids. Without it, a near grid is looked for where
            priors are equal; a codebook that is itself a grid gets none unasked.
        precision: "single" does most of the arithmetic in float32, twice as fast, with an error of
            up to 1e-5 of the value (of 1 nat, where an entropy is larger) in `numerical_error`, and
            runs on a GPU where JAX has one (5e-5); "double" never does; "auto" does where `atol` is
            at least twenty times that error, and on a GPU.

    Raises:
        ValueError: a number out of its range, or both a sample count and a target.
    """

    n_samples: int | None = None
    rtol: float = 0.0
    atol: float = 0.0
    max_samples: int = 10**7
    memory: int = 2**27
    variance_reduction: bool = True
    control: Codebook | None = dataclasses.field(default=None, compare=False)
    precision: Literal["auto", "double", "single"] = "auto"

    def __post_init__(self) -> None:
        if self.n_samples is not None:
            check_count(self.n_samples, "n_samples", 2)
        check_count(self.max_samples, "max_samples", 2)
        check_count(self.memory, "memory", 2**16)
        check_choice(self.precision, ("auto", "double", "single"), "precision")
        _check_targets(self)

    @property
    def has_target(self) -> bool:
        """Whether a standard error, not a sample count, says when to stop."""
        return self.rtol > 0 or self.atol > 0


@dataclasses.dataclass(frozen=True)
class RareEvents:
    """Sums over pairs of tokens, and draws from what these count in excess; for rare errors.

    Nothing rare is waited for: a relative error is as cheap at 1e-300 as at 1e-3. What it costs is
    a pass over the pairs of tokens at every SNR. Unasked it is used where errors are rare
    (docs/theory/rare.md).

    Args:
        n_samples: independent draws at every SNR, at least 64; the fewest where there are targets.
        rtol: draw on until the standard error of each error probability, conditional entropy and
            MMSE asked for is at most this part of it (an accuracy or a mutual information asks for
            its complement), plus `atol`.
        atol: ... in the units of the quantity; with both 0 the number is fixed.
        max_samples: where draws are not added any more, with the target out of reach.
        truncation: about the part of the union bound that may be left to pairs too far apart to be
            drawn; None: 1e-9, or up to 1e-4 where more than 2^27 pairs would be summed otherwise.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> import tokenkl as tk
        >>> points = tk.PointCodebook([[0.0, 0.0], [1.0, 0.0], [0.3, 1.0]])
        >>> found = tk.error_probability(points, 400.0, method=tk.RareEvents(), key=0)
        >>> f"{float(found):.3g}"
        '5.13e-24'
    """

    #: How many samples of plain averages a draw stands for where `Auto` counts them: it costs about
    #: as much more, and says more.
    worth: ClassVar[int] = 8

    n_samples: int = 2000
    rtol: float = 0.0
    max_samples: int = 2**20
    truncation: float | None = None
    atol: float = 0.0

    def __post_init__(self) -> None:
        check_count(self.n_samples, "n_samples", FEWEST)
        check_count(self.max_samples, "max_samples", 2)
        _check_targets(self)
        if self.truncation is not None and not 0 < self.truncation < 1:
            reject("truncation", self.truncation, "strictly between 0 and 1")


@dataclasses.dataclass(frozen=True)
class Auto:
    """The library's own choice at every level, where something is sampled with so many samples.

    Without arguments what a `method` of None stands for.

    Args:
        n_samples: samples behind each value, at least 64; where errors are rare, an eighth as many
            draws of `RareEvents`, also at least 64.
        rtol: target standard error relative to the value.
        atol: target standard error in the units of the quantity.

    Raises:
        ValueError: a number out of its range, or both a sample count and a target.
    """

    n_samples: int | None = None
    rtol: float = 0.0
    atol: float = 0.0

    def __post_init__(self) -> None:
        if self.n_samples is not None:
            check_count(self.n_samples, "n_samples", FEWEST)
        _check_targets(self)

    def settings(self, kind: type[Any]) -> Any:
        """The method of this kind that it asks for; what is left open has that kind's default."""
        names = {field.name for field in dataclasses.fields(kind)}
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.n_samples is not None:
            given["n_samples"] = max(self.n_samples // getattr(kind, "worth", 1), FEWEST)
        return kind(**{name: value for name, value in given.items() if value and name in names})


Method = Exact | MonteCarlo | RareEvents | Auto


def _check_targets(method: Any) -> None:
    for name in ("rtol", "atol"):
        if getattr(method, name) != 0:
            check_positive(getattr(method, name), name)
    targets = method.rtol > 0 or method.atol > 0
    if targets and method.n_samples is not None and not isinstance(method, RareEvents):
        reject("n_samples", method.n_samples, "None where rtol or atol sets the sample size")


def check_method(method: Method | None, *kinds: type, targets: bool = True) -> None:
    """Refuse what is no method, or none of these kinds of one (all by default).

    `targets`: whether a target of the error is followed; where not, it is refused, not ignored.
    """
    kinds = kinds or (Exact, MonteCarlo, RareEvents, Auto)
    if method is not None and not isinstance(method, kinds):
        names = ", ".join(kind.__name__ + ("()" if kind is Exact else "(...)") for kind in kinds)
        reject("method", method, f"{names} or None")
    if not targets and isinstance(method, MonteCarlo) and method.has_target:
        reject("method", method, "MonteCarlo(n_samples=...), without rtol and atol")
