"""What an N-step sampler makes of given tokens: the evidence bound on its own grid.

In the time snr the state is Z = snr e + W, W a Brownian motion. Given the tokens, each increment of
Z over a step is N((snr' - snr) e, (snr' - snr) I); the ancestral sampler puts e_theta in place of
e. So by the chain rule of KL, with the decision drawn from p_theta at the last level,

    -log p_N(tokens) <= KL(start given the tokens || start of the sampler)
        + (1/2) sum_i (snr_{i+1} - snr_i) E |e - e_theta(Y_i)|^2 - E log p_theta(tokens | Y_N),

whatever the denoiser. Its mean over the law of the tokens, less their entropy, is for the exact
denoiser `ancestral_kl`, plus `prior_mismatch` at the first level, plus, for sequences, what it
costs to draw each token by itself at the last one: docs/theory/learned.md, 9g.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import MAX_ELEMENTS, check_count, check_ids, check_positive, reject
from tokenkl.codebooks import Codebook
from tokenkl.divergence.girsanov import Backend, Denoiser, Progress, _call, _check
from tokenkl.divergence.sampler import check_snr_grid
from tokenkl.estimate import Estimate
from tokenkl.numerics.moments import MIN_CARRIERS, Moments

#: Fewest sequences whose spread is taken for that of their law.
FEWEST = 20
#: Of sums of squares and logarithms of one sign, and of posterior means.
ROUNDING = 64 * np.finfo(float).eps


@dataclasses.dataclass(frozen=True, eq=False)
class EvidenceBound:
    """Upper bounds on -log p_N of sequences, in nats, one for each draw of the noise.

    - `values`: the draws; their mean over the first axis is the bound of each sequence.
    - `lengths`: tokens in each sequence.
    - `rounding`: what arithmetic may add per token.
    - `draws`, `seed`: which random numbers are behind them.

    The difference of two of the same sequences, `one - other`, is an `Estimate` per token from
    paired sequences: what they have in common, and common noise (the same key), cancels.
    """

    values: Float[np.ndarray, "draws sequences"]
    lengths: Int[np.ndarray, " sequences"]
    rounding: float
    seed: int | None
    draws: tuple[tuple[int, ...], ...]

    @property
    def per_token(self) -> Estimate:
        """Nats per token, the sequences being a sample of their law: its error is theirs.

        Of a single sequence it is infinite.
        """
        sums = self.values.mean(axis=0)
        with np.errstate(invalid="ignore"):
            apart = sums - self._mean() * self.lengths
        return self._estimate(apart / self.lengths.mean(), sums.size - 1, sums.size)

    @property
    def given_tokens(self) -> Estimate:
        """Nats per token of these very sequences: its error is that of the noise alone."""
        draws, sequences = self.values.shape
        with np.errstate(invalid="ignore"):
            apart = self.values - self.values.mean(axis=0)
        # A sum over sequences of means over draws, whose deviations lost a degree of freedom.
        scale = math.sqrt(draws / (draws - 1)) / self.lengths.mean()
        return self._estimate(scale * apart.ravel(), (draws - 1) * sequences, apart.size)

    def _mean(self) -> float:
        return float(self.values.mean(axis=0).sum() / self.lengths.sum())

    def _estimate(self, apart: np.ndarray, freedom: int, count: int) -> Estimate:
        """The mean per token, from what each of its parts adds to its error."""
        mean = self._mean()
        named: dict[str, Any] = {"quantity": "evidence bound", "unit": "nats"}
        named |= {"seed": self.seed, "draws": self.draws, "n_samples": count}
        if not math.isfinite(mean):
            note = "a token that is there has probability 0"
            return Estimate(mean, method="Monte-Carlo", note=note, **named)
        moments = Moments((1,))
        moments.add(apart[None])
        carried = moments.carriers()[0] >= min(MIN_CARRIERS, freedom / 6)
        # Nothing but rounding; a single sequence has no spread that would tell.
        steady = freedom > 0 and moments.variance[0] <= self.rounding**2
        supported = bool((freedom + 1 >= FEWEST and carried) or steady)
        return Estimate(
            mean,
            float(moments.standard_error[0]) if freedom else math.inf,
            self.rounding,
            method="Monte-Carlo",
            interval_supported=supported,
            degrees_of_freedom=float(max(freedom, 1)),
            skewness=float(moments.skewness[0]),
            note="" if supported else "too few sequences carry the spread",
            **named,
        )

    def __sub__(self, other: EvidenceBound) -> Estimate:
        if not isinstance(other, EvidenceBound):
            return NotImplemented
        if not np.array_equal(self.lengths, other.lengths):
            expected = "of the same sequences as the first"
            reject("the second bound", f"of {other.lengths.size} sequences", expected)
        with np.errstate(invalid="ignore"):
            apart = self.values.mean(axis=0) - other.values.mean(axis=0)
        difference = EvidenceBound(
            apart[None],
            self.lengths,
            self.rounding + other.rounding,
            self.seed if self.seed == other.seed else None,
            tuple(sorted({*self.draws, *other.draws})),
        )
        name = "difference of evidence bounds"
        return dataclasses.replace(difference.per_token, quantity=name)

    @staticmethod
    def joined(parts: Sequence[EvidenceBound]) -> EvidenceBound:
        """The bounds of several batches of sequences, each with its own key and as many draws.

        Raises:
            ValueError: no part, or parts that differ in the number of draws.
        """
        counts = {len(part.values) for part in parts}
        if len(counts) != 1:
            reject("parts", f"bounds of {sorted(counts)} draws", "some, of one number of draws")
        return EvidenceBound(
            np.concatenate([part.values for part in parts], axis=1),
            np.concatenate([part.lengths for part in parts]),
            max(part.rounding for part in parts),
            parts[0].seed if len({part.seed for part in parts}) == 1 else None,
            tuple(sorted({words for part in parts for words in part.draws})),
        )


def evidence_bound(
    codebook: Codebook,
    denoiser: Denoiser,
    tokens: Int[Any, " *shape"],
    grid: Float[Any, " points"],
    *,
    key: Any,
    mean: Callable[[Any, Any], Any] | None = None,
    mask: Bool[Any, " *shape"] | None = None,
    n_noise: int = 8,
    start: float = 1.0,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> EvidenceBound:
    """Upper bound on -log p_N of tokens under the N-step ancestral sampler of any denoiser.

    The sampler starts from noise at the first SNR of the grid, takes a step from each SNR to the
    next one, and draws every token from p_theta at the last; a grid of N SNRs is N calls of the
    denoiser. Unlike a training loss or a continuous-time bound this is about the sampler that is
    used, few steps and all, and comparable between models, codebooks, embeddings, grids and
    numbers of steps: all bound the same -log p of the same tokens. (DDIM has no such bound: given
    the tokens its states have no density of their own.)

    Args:
        codebook: where the tokens sit.
        denoiser: p_theta. Called with observations Y = sqrt(snr) e + eps of all sequences in the
            order of `tokens`, (sequences, length, n), and SNRs, (sequences,); returns
            (sequences, length, K) logits. Whatever else it is given (text, a mask) it knows itself.
        tokens: ids; of shape (sequences,) where tokens stand alone, and then the denoiser sees
            (sequences, n) and returns (sequences, K).
        grid: SNRs that increase, at least two.
        key: integer seed or JAX key. The same key gives another model the same noise.
        mean: e_theta, where the sampler is not moved by the mean of p_theta; called as `denoiser`,
            returns vectors of the shape of Y.
        mask: False where a sequence has no token; the denoiser sees noise there.
        n_noise: independent draws of the noise, at least 2.
        start: standard deviation of the sampler's first state, in units of the noise there.
        backend: as in `learned_path_kl`: "torch" calls with tensors; None asks the denoiser.
        progress: called with (calls done, calls wanted).

    Returns:
        An `EvidenceBound`; `float(found.per_token)` is nats per token.

    Raises:
        ValueError: an argument out of its range, a result of a wrong shape or holding NaN, or
            sequences too many for one batch (`EvidenceBound.joined`).

    Source: the variational bound of Ho, Jain and Abbeel (2020), arXiv 2006.11239, in the form of
    Kingma et al. (2021), arXiv 2107.00630; proof and identities: docs/theory/learned.md.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> from tokenkl.channels.gaussian import log_posterior
        >>> cube, tokens = tk.FSQ((2, 2)), np.arange(4).repeat(50)
        >>> exact = lambda y, snr: log_posterior(cube, y, snr)
        >>> few, many = (evidence_bound(cube, exact, tokens, tk.step_grid("uniform", N, 1e-3, 50.0),
        ...     key=0) for N in (3, 30))
        >>> bool(np.log(4) < float(many.per_token) < float(few.per_token))
        True
        >>> bool((many - few).confidence_interval(0.999).high < 0)
        True
    """
    _check(codebook, denoiser)
    ids, present = _check_tokens(tokens, mask, codebook)
    levels = check_snr_grid(grid)
    check_count(n_noise, "n_noise", minimum=2)
    spread = check_positive(start, "start")
    shape = (*ids.shape, codebook.n)
    for wide in (codebook.n, codebook.K):
        if ids.size * wide > MAX_ELEMENTS:
            expected = f"few enough for {MAX_ELEMENTS:,} numbers (EvidenceBound.joined takes parts)"
            reject("tokens", f"{ids.size:,} tokens of {wide:,} numbers", expected)
    clean, centre = codebook.points_at(ids), codebook.points.mean(axis=0)
    points = codebook.points - centre  # so that the sum of them keeps its digits
    first = (levels[0] * (clean**2).sum(axis=-1) / spread**2) / 2
    first = first + codebook.n * (math.log(spread) + (1 / spread**2 - 1) / 2)
    values = np.empty((n_noise, len(ids)))
    steps = np.append(np.diff(levels), 0.0)
    for draw in range(n_noise):
        total = np.where(present, first, 0.0)
        for i, (level, step) in enumerate(zip(levels, steps, strict=True)):
            noise = generator(key, draw, i).standard_normal(shape)
            y, snr = math.sqrt(level) * clean + noise, np.full(len(ids), level)
            last = i + 1 == levels.size
            if mean is None or last:
                log_q = _log_law(denoiser, y, snr, backend, (*ids.shape, codebook.K))
            if last:
                lost = -np.take_along_axis(log_q, ids[..., None], axis=-1)[..., 0]
            else:
                if mean is None:
                    gap = clean - centre - np.exp(log_q) @ points
                else:
                    gap = clean - _checked("mean", _call(mean, y, snr, backend), shape)
                lost = step / 2 * (gap**2).sum(axis=-1)
            total = total + np.where(present, lost, 0.0)
            if progress is not None:
                progress(draw * levels.size + i + 1, n_noise * levels.size)
        values[draw] = total.reshape(len(ids), -1).sum(axis=1)
    lengths = present.reshape(len(ids), -1).sum(axis=1)
    # Each gap is rounded in units of the codebook; Cauchy and Schwarz, over the steps.
    size = float(values.mean(axis=0).sum() / lengths.sum())
    reach = 4 * float((points**2).sum(axis=1).max() * (levels[-1] - levels[0]))
    rounding = ROUNDING * (size + math.sqrt(2 * size * reach))
    return EvidenceBound(values, lengths, rounding, seed_of(key), draws_of(key))


def _check_tokens(tokens: Any, mask: Any, codebook: Codebook) -> tuple[np.ndarray, np.ndarray]:
    ids = check_ids(tokens, codebook.K, "tokens")
    if ids.ndim not in (1, 2) or ids.size == 0:
        expected = "of shape (sequences,) or (sequences, length), not empty"
        reject("tokens", f"an array of shape {ids.shape}", expected)
    if mask is None:
        return ids, np.ones(ids.shape, dtype=bool)
    present = np.asarray(mask)
    if present.dtype != bool or present.shape != ids.shape:
        expected = f"True and False, of the shape {ids.shape} of tokens"
        reject("mask", f"{present.dtype} of shape {present.shape}", expected)
    if not present.reshape(len(ids), -1).any(axis=1).all():
        reject("mask", "a sequence without a token", "at least one in each")
    return ids, present


def _log_law(
    denoiser: Denoiser, y: np.ndarray, snr: np.ndarray, backend: Backend | None, shape: Any
) -> np.ndarray:
    logits = _checked("denoiser", _call(denoiser, y, snr, backend), shape)
    if np.isposinf(logits).any():
        reject("denoiser", "a result holding inf", "a function with logits below inf")
    found: np.ndarray = special.log_softmax(logits, axis=-1)
    return found


def _checked(name: str, found: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if found.shape != shape:
        expected = f"a function whose result has shape {shape}"
        reject(name, f"a result of shape {found.shape}", expected)
    if np.isnan(found).any():
        reject(name, "a result holding NaN", "a function with numbers")
    return found
