"""How a quantity is to be found: the `method` argument of every estimator."""

from __future__ import annotations

import dataclasses

from tokenkl._validation import check_count, check_positive, reject
from tokenkl.codebooks.base import Codebook


@dataclasses.dataclass(frozen=True)
class Exact:
    """Closed forms and spectrally accurate quadrature; refused where the structure has none."""


@dataclasses.dataclass(frozen=True)
class MonteCarlo:
    """Averages over simulated observations, for any codebook.

    Either a fixed `n_samples`, or targets: sampling goes on until the standard error of every
    quantity asked for, at every SNR, is at most ``atol + rtol * |value|``, or `max_samples` is
    reached (the estimate's note then says so). With neither, 16384 samples.

    With `variance_reduction`, control variates lower the variance where they can: functions of
    token and noise with a known mean (moments, the nearest rivals of each token, a grid that the
    codebook is near to). Their coefficients are fitted on the samples themselves, but never applied
    to those they come from: every sample counts, and estimates stay unbiased. Fewer than 1024
    samples are left as they are.

    Args:
        n_samples: independent samples, at least 2.
        rtol: target standard error relative to the value.
        atol: target standard error in the units of the quantity.
        max_samples: where to stop when the targets are out of reach.
        memory: bytes that one block of samples may take, about, beside the points themselves.
        variance_reduction: use control variates. Off unless asked for: the intervals are then
            conservative at low SNR, and tested less widely than those of plain averages.
        control: turns it on, with a grid (`FSQ` or `ProductCodebook`) that the codebook is near:
            same number of tokens, same prior, same order of ids. Without it, a near grid is looked
            for where priors are equal; a codebook that is itself a grid gets none unasked.

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

    def __post_init__(self) -> None:
        if self.n_samples is not None:
            check_count(self.n_samples, "n_samples", 2)
        check_count(self.max_samples, "max_samples", 2)
        check_count(self.memory, "memory", 2**16)
        for name in ("rtol", "atol"):
            if getattr(self, name) != 0:
                check_positive(getattr(self, name), name)
        if self.n_samples is not None and self.has_target:
            reject("n_samples", self.n_samples, "None where rtol or atol sets the sample size")

    @property
    def reduces_variance(self) -> bool:
        """Whether control variates are wanted."""
        return self.variance_reduction

    @property
    def has_target(self) -> bool:
        """Whether a standard error, not a sample count, says when to stop."""
        return self.rtol > 0 or self.atol > 0


Method = Exact | MonteCarlo
