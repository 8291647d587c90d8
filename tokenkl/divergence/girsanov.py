"""What a learned denoiser costs: the path KL of the sampler that it drives, from the exact one.

With L = sqrt(snr) Y the noisy token is the process L = snr e_k + W(snr), W a Brownian motion in
the time snr. Seen from inside it solves dL = e(L) dsnr + dB, e the exact posterior mean; a learned
p_theta(k | y, snr) puts e_theta = sum_k p_theta(k) e_k in its place. Girsanov's theorem then gives
for the laws P (exact) and Q_theta (learned) of the whole path from snr_0 to snr_N

    KL(P || Q_theta) = KL(P_0 || Q_0) + (1/2) int E |e_theta(Y) - e(Y)|^2 dsnr,

and for the ancestral sampler, which keeps e_theta fixed on every step of a grid, exactly

    KL = KL(P_0 || Q_0) + (1/2) sum_k (snr_{k+1} - snr_k) E |e_theta(Y_k) - e(Y_k)|^2
         + (1/2) sum_k int E |e(Y_snr) - e(Y_k)|^2 dsnr:

initial, denoiser and discretisation part (e is a martingale, so that nothing crosses). The last
part is (1/2) sum_k mmse_k (snr_{k+1} - snr_k) - [H_0 - H_N]. Proofs: docs/theory/learned.md.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy import special

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import (
    as_float_array,
    check_choice,
    check_count,
    check_positive,
    check_snr,
    reject,
    renamed,
)
from tokenkl.channels.gaussian import denoiser as posterior_mean
from tokenkl.channels.gaussian import log_posterior, sample
from tokenkl.codebooks import Codebook, average_power
from tokenkl.codebooks.base import check_codebook
from tokenkl.codebooks.transforms import diameter
from tokenkl.divergence.sampler import ancestral_kl
from tokenkl.estimate import Estimate
from tokenkl.information import exact_quantities
from tokenkl.numerics.moments import MIN_EFFECTIVE

#: A learned p_theta: (batch, n) observations Y and (batch,) SNRs to (batch, K) logits.
Denoiser = Callable[[Any, Any], Any]
Backend = Literal["numpy", "jax", "torch"]
Sampler = Literal["ancestral", "continuous"]
Direction = Literal["forward", "reverse"]
#: progress(done, wanted), in draws.
Progress = Callable[[int, int], None]

#: Draws in every stratum: enough for its variance and third moment.
PER_STRATUM = 8
#: Numbers in the largest array of one block of draws.
BLOCK = 2**22
#: Rounding of a posterior mean, in units of the codebook's diameter.
ROUNDING = 64 * np.finfo(float).eps
#: How far log p_theta may be from the sum of its coordinates' logs and still count as a product.
PRODUCT_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class LearnedPathKL:
    """The path KL of a learned sampler from the exact reverse process, in parts; all in nats.

    - `initial`: KL between the true law at the first SNR and the sampler's starting law.
    - `denoiser`: what the wrong posterior means cost.
    - `discretisation`: what keeping them fixed on each step costs; 0 for a continuous sampler.
    - `total`: the sum, KL(P || Q_theta) on paths. By data processing it bounds the KL of every
      marginal on the way, that at the last SNR among them.
    - `decoding`: E KL(p(k | Y) || p_theta(k | Y)) at the last SNR. A token drawn from p_theta there
      has KL(prior || produced) <= `token_bound` = total + decoding.
    - `pinsker`: upper bound on `denoiser` by the cross-entropy, diameter^2 / 4 times
      int (CE_theta - H) dsnr; `cross_entropy` is that integral (a sum over the grid for the
      ancestral sampler).
    - `dimension_free`: the bound with (largest range of a coordinate)^2 / 4 in place of
      diameter^2 / 4, where it was asked for and holds; else None.
    """

    initial: Estimate
    denoiser: Estimate
    discretisation: Estimate
    decoding: Estimate
    cross_entropy: Estimate
    pinsker: Estimate
    dimension_free: Estimate | None

    @property
    def total(self) -> Estimate:
        """Initial, denoiser and discretisation part together."""
        return _sum((self.initial, self.denoiser, self.discretisation), "path KL")

    @property
    def token_bound(self) -> Estimate:
        """Upper bound on KL(prior || token drawn from p_theta at the last SNR)."""
        parts = (self.initial, self.denoiser, self.discretisation, self.decoding)
        return _sum(parts, "bound on the token KL")

    def __repr__(self) -> str:
        parts = ("initial", "denoiser", "discretisation", "total", "decoding", "pinsker")
        shown = ", ".join(f"{name} {float(getattr(self, name)):.4g}" for name in parts)
        return f"<LearnedPathKL in nats: {shown}>"


@renamed(snr="grid")
def learned_path_kl(
    codebook: Codebook,
    denoiser: Denoiser,
    grid: Float[Any, " points"],
    *,
    key: Any,
    sampler: Sampler = "ancestral",
    n_samples: int = 2**14,
    start: float = 1.0,
    start_variance: float | None = None,
    dimension_free: Direction | None = None,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> LearnedPathKL:
    """Path KL from the exact reverse process to the sampler that a learned denoiser drives.

    Monte-Carlo, stratified over the SNR, with the exact posterior of the codebook beside the
    learned one at every draw. Every draw of `denoiser`, `discretisation`, `cross_entropy` and of
    the bounds is at least 0, so that small values keep their relative precision. `pinsker` and
    `dimension_free` use the draws of `denoiser` and are above it draw by draw.

    Args:
        codebook: the tokens and their prior, as the exact process has them.
        denoiser: p_theta. Called with observations Y = sqrt(snr) e_k + eps, (batch, n), and SNRs,
            (batch,); returns (batch, K) logits or log-probabilities. A diffusion state X is
            Y = X / sigma.
        grid: for the ancestral sampler the increasing grid snr_0 < ... < snr_N, at least 2 points;
            for the continuous one the pair (first, last).
        key: integer seed or JAX key.
        sampler: "ancestral" keeps e_theta on every step of the grid; "continuous" never does.
        n_samples: draws, at least 8 for every step; rounded down to a multiple of 8 x strata.
        start: the sampler starts at Y ~ N(0, start^2 I): 1 for pure noise; sqrt(1 + snr_0) for
            X ~ N(0, I) under a variance-preserving schedule.
        start_variance: its square, in place of it.
        dimension_free: "forward" bounds by KL(p || p_theta), which needs a codebook that is a grid
            and a p_theta that is a product over its coordinates (a factorised head; checked at
            every draw, which is not a proof elsewhere); "reverse" by KL(p_theta || p), which needs
            a grid with a product prior and allows any p_theta.
        backend: what the denoiser is called with: NumPy arrays (which JAX functions take too), or
            "torch" tensors without gradients, in the dtype and on the device of a module's
            parameters. None: "torch" for a `torch.nn.Module`, NumPy arrays otherwise.
        progress: called with (draws done, draws wanted).

    Raises:
        ValueError: an argument out of its range, logits of a wrong shape or NaN, or a
            dimension-free bound whose condition fails.

    Source: Girsanov's theorem as in Chen et al. (2023), arXiv 2209.11215; the exact discrete
    identity and the bounds are proved in docs/theory/learned.md.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> cube = tk.FSQ((2, 2))
        >>> constant = lambda y, snr: np.zeros((len(y), 4))  # always the prior mean
        >>> found = learned_path_kl(cube, constant, (0.0, 1.0), sampler="continuous", key=0)
        >>> exact = 1.0 - tk.mutual_information(cube, 1.0).value  # n snr / 2 - I
        >>> abs(found.denoiser.value - exact) < 4 * found.denoiser.standard_error
        np.True_
    """
    _check(codebook, denoiser)
    grid = _check_grid(grid, sampler)
    steps = grid.size - 1
    check_count(n_samples, "n_samples", minimum=PER_STRATUM * steps)
    variance = check_positive(start, "start") ** 2
    if start_variance is not None:
        if start != 1:
            reject("start_variance", start_variance, "left out where start is given")
        variance = check_positive(start_variance, "start_variance")
    model = _Model(codebook, denoiser, backend, _factor(codebook, dimension_free), dimension_free)
    strata = _steps(grid, n_samples)
    if sampler == "continuous":
        strata = _window(codebook, grid, n_samples, key)
    draws = _draw(model, strata, key, progress)
    half, squared = diameter(codebook) / 2, diameter(codebook) ** 2
    rounding = ROUNDING * diameter(codebook)
    error = _estimate(draws.denoiser, strata, squared, 2 * rounding, "denoiser part", key)
    excess = _estimate(draws.kl, strata, np.inf, ROUNDING, "cross-entropy part", key)
    bound = _scaled(excess, half**2, "Pinsker bound on the denoiser part")
    free = None
    if dimension_free is not None:
        other = excess
        if dimension_free == "reverse":
            other = _estimate(draws.reverse, strata, np.inf, ROUNDING, "", key)
        free = _scaled(other, model.factor, "dimension-free bound on the denoiser part")
    if sampler == "continuous":
        steps_cost = Estimate(0.0, quantity="discretisation part", unit="nats")
    else:
        steps_cost = _discretisation(codebook, grid, strata, key)
    return LearnedPathKL(
        initial=_initial(codebook, float(grid[0]), variance, n_samples, key),
        denoiser=error,
        discretisation=steps_cost,
        decoding=excess_cross_entropy(
            codebook,
            denoiser,
            grid[-1],
            key=_subkey(key, 5),
            n_samples=max(n_samples // 4, 2),
            backend=backend,
        ),
        cross_entropy=excess,
        pinsker=bound,
        dimension_free=free,
    )


def excess_cross_entropy(
    codebook: Codebook,
    denoiser: Denoiser,
    snr: Float[Any, " *shape"],
    *,
    key: Any,
    n_samples: int = 2**12,
    reverse: bool = False,
    backend: Backend | None = None,
) -> Estimate:
    """CE_theta - H: the training loss of a learned denoiser above its floor, in nats.

    At each SNR the mean over `n_samples` observations of KL(p(k | Y) || p_theta(k | Y)), which is
    never negative (the difference of a loss and an entropy, each sampled, would be). With
    `reverse`, of KL(p_theta || p).

    Args:
        codebook, denoiser, key, backend: as in `learned_path_kl`.
        snr: signal-to-noise ratios of any shape; the result has their shape.
        n_samples: observations at every SNR, at least 2.
        reverse: exchange the arguments of KL.

    Raises:
        ValueError: as `learned_path_kl`.
    """
    _check(codebook, denoiser)
    levels = check_snr(snr)
    check_count(n_samples, "n_samples", minimum=2)
    model = _Model(codebook, denoiser, backend, None, "reverse" if reverse else None)
    flat = np.ravel(levels)
    strata = _Strata(np.repeat(flat[:, None], n_samples, axis=1), np.ones((flat.size, n_samples)))
    draws = _draw(model, strata, key, None)
    values = draws.reverse if reverse else draws.kl
    each = [
        _estimate(
            values[row : row + 1],
            _Strata(strata.snr[row : row + 1], strata.weight[row : row + 1]),
            np.inf,
            ROUNDING,
            "excess cross-entropy",
            key,
        )
        for row in range(flat.size)
    ]
    if not each:
        return Estimate(levels, n_samples=n_samples, method="Monte-Carlo", unit="nats")
    found = jax.tree.map(lambda row: np.reshape(row, levels.shape)[()], Estimate.stack(each))
    return dataclasses.replace(found, n_samples=n_samples, method="Monte-Carlo")


# ---- The learned law and the exact one, at the same observations ---------------------------


class _Model(NamedTuple):
    codebook: Codebook
    denoiser: Denoiser
    backend: Backend | None
    factor: float | None  # of the dimension-free bound
    direction: Direction | None

    def log_probabilities(self, y: np.ndarray, snr: np.ndarray) -> np.ndarray:
        """log p_theta(k | y), normalised in float64 whatever the denoiser's precision."""
        logits = _call(self.denoiser, y, snr, self.backend)
        if logits.shape != (y.shape[0], self.codebook.K):
            expected = f"a function whose result has shape {(y.shape[0], self.codebook.K)}"
            reject("denoiser", f"a result of shape {logits.shape}", expected)
        if np.isnan(logits).any() or np.isposinf(logits).any():
            reject("denoiser", "a result holding NaN or inf", "a function with finite logits")
        return special.log_softmax(logits, axis=-1)


def _call(denoiser: Denoiser, y: np.ndarray, snr: np.ndarray, backend: Backend | None) -> Any:
    torch = sys.modules.get("torch")
    if backend is None and torch is not None and isinstance(denoiser, torch.nn.Module):
        backend = "torch"
    if backend != "torch":
        return np.asarray(denoiser(y, snr), dtype=np.float64)
    import torch as library

    place: dict[str, Any] = {"dtype": library.float64}
    parameter = next(denoiser.parameters(), None) if hasattr(denoiser, "parameters") else None
    if parameter is not None:
        place = {"dtype": parameter.dtype, "device": parameter.device}
    with library.no_grad():
        found = denoiser(library.as_tensor(y, **place), library.as_tensor(snr, **place))
    return found.detach().to("cpu", library.float64).numpy()


class _Strata(NamedTuple):
    """Draws in strata: the estimate is the sum over strata of the mean of weight x value."""

    snr: Float[np.ndarray, "strata draws"]
    weight: Float[np.ndarray, "strata draws"]


class _Draws(NamedTuple):
    denoiser: np.ndarray  # |e_theta - e|^2 / 2
    kl: np.ndarray  # KL(p || p_theta)
    reverse: np.ndarray  # KL(p_theta || p), where asked for


def _steps(grid: np.ndarray, n_samples: int) -> _Strata:
    """One stratum for every step, at the SNR where the step begins, weighted by its length."""
    steps = grid.size - 1
    draws = max(n_samples // steps, 2)
    ones = np.ones((steps, draws))
    return _Strata(grid[:-1, None] * ones, np.diff(grid)[:, None] * ones)


def _window(codebook: Codebook, grid: np.ndarray, n_samples: int, key: Any) -> _Strata:
    """Strata equal in log(1 + c snr), which resolves both low and high SNRs."""
    count = max(n_samples // PER_STRATUM, 1)
    scale = max(average_power(codebook), np.finfo(float).tiny)
    ends = np.log1p(scale * grid)
    width = (ends[1] - ends[0]) / count
    at = np.arange(count)[:, None] + generator(key, 0).random((count, PER_STRATUM))
    snr = np.expm1(ends[0] + width * at) / scale
    return _Strata(np.clip(snr, grid[0], grid[1]), width * (1 / scale + snr))


def _draw(model: _Model, strata: _Strata, key: Any, progress: Progress | None) -> _Draws:
    """The statistics at every draw, block by block."""
    codebook = model.codebook
    points = codebook.points
    snr = strata.snr.ravel()
    out = np.zeros((3, snr.size))
    for part, y, _ in _observations(codebook, snr, key):
        log_p = log_posterior(codebook, y, snr[part])
        log_q = model.log_probabilities(y, snr[part])
        p, q = np.exp(log_p), np.exp(log_q)
        gap = (q - p) @ points
        out[0, part] = (gap**2).sum(axis=-1) / 2
        out[1, part] = _kl(p, log_p, log_q)
        if model.direction == "reverse":
            out[2, part] = _kl(q, log_q, log_p)
        if model.direction == "forward":
            _check_product(codebook, log_q)
        if progress is not None:
            progress(part.stop, snr.size)
    return _Draws(*out.reshape(3, *strata.snr.shape))


def _kl(p: np.ndarray, log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p || q) of every row as a sum of terms that are not negative: p (r - 1 - log r)."""
    with np.errstate(invalid="ignore", over="ignore"):
        log_r = log_q - log_p
        terms = p * (np.expm1(log_r) - log_r)
    # A token that p rules out adds q; where q is 0 and p is not, the divergence is inf.
    terms = np.where(p > 0, terms, np.exp(log_q))
    return np.where(np.isnan(terms), np.inf, terms).sum(axis=-1)


def _observations(
    codebook: Codebook, snr: np.ndarray, key: Any
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of draws: where they go, Y = sqrt(snr) e_k + eps, and the tokens."""
    size = max(BLOCK // max(codebook.K, codebook.n), 1)
    for block, start in enumerate(range(0, snr.size, size)):
        part = slice(start, min(start + size, snr.size))
        # At snr = 0 the observation is the noise alone.
        ids, noise = sample(codebook, 0.0, part.stop - start, key=_subkey(key, 1, block))
        yield part, np.sqrt(snr[part])[:, None] * codebook.points_at(ids) + noise, ids


def _subkey(key: Any, *stream: int) -> int:
    return int(generator(key, *stream).integers(2**63))


# ---- Parts ----------------------------------------------------------------------------------


def _initial(codebook: Codebook, snr: float, variance: float, n_samples: int, key: Any) -> Estimate:
    """KL between the law of Y at the first SNR and N(0, variance I).

    It is E log r under the law of Y, r the ratio of its density to that of N(0, I), and what the
    true variance v adds to it, (n log v + (1/v - 1) E|Y|^2) / 2, which is known. At low SNR the
    draws are log r - 1 + 1/r instead: 1/r has mean 1, and these are never negative. (With the ratio
    to N(0, v I), 1/r would have heavy tails.)
    """
    quantity, n = "initial part", codebook.n
    points, prior = codebook.points, codebook.prior
    squares = (points**2).sum(axis=1)
    power = snr * float(prior @ squares)
    known = (n * math.log(variance) + (1 / variance - 1) * (n + power)) / 2
    rounding = ROUNDING * n * (abs(math.log(variance)) + abs(1 / variance - 1))
    if power <= ROUNDING:  # E log r is at most power / 2, by convexity
        return Estimate(known, 0.0, rounding + power / 2, quantity=quantity, unit="nats")
    near = snr * float(squares.max()) <= 1
    h, levels, draws = math.sqrt(snr), np.full(n_samples, snr), np.zeros(n_samples)
    for part, y, _ in _observations(codebook, levels, _subkey(key, 2)):
        along = h * (y @ points.T) + codebook.log_prior - snr * squares / 2
        log_r = special.logsumexp(along, axis=-1)
        draws[part] = log_r + np.expm1(-log_r) if near else log_r
    strata = _Strata(levels[None], np.ones((1, n_samples)))
    found = _estimate(draws[None], strata, np.inf, ROUNDING, quantity, key)
    return dataclasses.replace(
        found, value=known + found.value, numerical_error=found.numerical_error + rounding
    )


def _discretisation(codebook: Codebook, grid: np.ndarray, strata: _Strata, key: Any) -> Estimate:
    """What keeping the exact denoiser fixed on every step costs."""
    quantity = "discretisation part"
    if {"mmse", "mutual_information"} <= set(exact_quantities(codebook)):
        return dataclasses.replace(ancestral_kl(codebook, grid), quantity=quantity)
    # (1/2) int E|e(Y_snr) - e(Y_k)|^2 over the step, at one uniform SNR for every draw.
    begin = strata.snr.ravel()
    length = strata.weight.ravel()
    rng = generator(key, 3)
    out = np.zeros(begin.size)
    for part, y, ids in _observations(codebook, begin, _subkey(key, 4)):
        gained = length[part] * (1 - rng.random(part.stop - part.start))
        later = begin[part] + gained
        noise = np.sqrt(gained)[:, None] * rng.standard_normal(y.shape)
        state = np.sqrt(begin[part])[:, None] * y + noise
        state = state + gained[:, None] * codebook.points_at(ids)
        moved = posterior_mean(codebook, state / np.sqrt(later)[:, None], later)
        out[part] = ((moved - posterior_mean(codebook, y, begin[part])) ** 2).sum(axis=-1) / 2
    width = diameter(codebook)
    values = out.reshape(strata.snr.shape)
    return _estimate(values, strata, width**2, 2 * ROUNDING * width, quantity, key)


# ---- Conditions of the dimension-free bound -------------------------------------------------


def _factor(codebook: Codebook, direction: Direction | None) -> float | None:
    """(largest range of a coordinate)^2 / 4, where the codebook allows the bound."""
    if direction is None:
        return None
    check_choice(direction, ("forward", "reverse"), "dimension_free")
    grid = codebook.as_grid
    if grid is None:
        reject(
            "codebook",
            repr(codebook),
            "a grid (ProductCodebook) for the dimension-free bound, which adds up over coordinates",
        )
    if direction == "reverse" and not grid.factorises:
        reject(
            "codebook",
            repr(codebook),
            "a grid with a product prior for the reversed dimension-free bound, whose exact "
            "posterior has to be a product over coordinates",
        )
    return max(float(np.ptp(levels)) for levels in grid.levels) ** 2 / 4


def _check_product(codebook: Codebook, log_q: np.ndarray) -> None:
    """Refuse a p_theta that is no product over the coordinates of the grid."""
    grid = codebook.as_grid
    assert grid is not None
    rows = log_q.shape[0]
    if grid.order == "C":
        q = np.exp(log_q).reshape(rows, *grid.shape)
    else:
        q = np.exp(log_q).reshape(rows, *grid.shape[::-1])
        q = q.transpose(0, *range(codebook.n, 0, -1))
    product = np.ones((rows,) + (1,) * codebook.n)
    for axis in range(1, codebook.n + 1):
        others = tuple(other for other in range(1, codebook.n + 1) if other != axis)
        product = product * q.sum(axis=others, keepdims=True)
    away = np.abs(q - product).reshape(rows, -1).sum(axis=1).max() / 2
    if away > PRODUCT_TOLERANCE:
        reject(
            "denoiser",
            f"a law at total variation {away:.3g} from the product of its marginals",
            "a product over the coordinates of the grid (a factorised head) for the dimension-free "
            "bound; use dimension_free='reverse' or the bound by the diameter",
        )


# ---- Estimates ------------------------------------------------------------------------------


def _estimate(
    values: np.ndarray,
    strata: _Strata,
    largest: float,
    rounding: float,
    quantity: str,
    key: Any,
) -> Estimate:
    """Sum over strata of the mean of weight x value, where no value is above `largest` / 2.

    `rounding` is that of one posterior mean (of which |.|^2 / 2 is taken) or of one divergence.
    """
    named: dict[str, Any] = {"quantity": quantity, "unit": "nats"}
    named |= {"seed": seed_of(key), "draws": draws_of(key)}
    if np.isposinf(values).any():
        note = "p_theta gives probability 0 to a token that the exact posterior allows"
        return Estimate(math.inf, method="Monte-Carlo", note=note, **named)
    parts = strata.weight * values
    draws = parts.shape[1]
    value = float(parts.mean(axis=1).sum())
    deviation = parts - parts.mean(axis=1, keepdims=True)
    variance = float((deviation**2).sum() / (draws - 1) / draws)
    cubes = float((deviation**3).sum() / draws**3)
    error = strata.weight * rounding * (np.sqrt(np.maximum(values, 0)) + rounding)
    numerical = float(error.mean(axis=1).sum())
    # A sample that saw no mistake, or few, says little about rare ones: both what carries the mean
    # and what carries its variance has to be spread over many draws, and be more than rounding.
    carriers = min(_carriers(parts), _carriers(deviation**2))
    supported = value > numerical and carriers >= MIN_EFFECTIVE
    if not supported:
        # The empirical Bernstein bound is about the spread of all draws together.
        variance = float((parts.shape[0] * parts).var(ddof=1) / parts.size)
    return Estimate(
        value=value,
        standard_error=math.sqrt(variance),
        numerical_error=numerical,
        n_samples=parts.size,
        method="Monte-Carlo, stratified over the SNR",
        interval_supported=supported,
        sample_range=float(strata.weight.max()) * parts.shape[0] * largest / 2,
        skewness=cubes / variance**1.5 if variance > 1e-200 and supported else 0.0,
        note="" if supported else "too few informative draws for a central-limit interval",
        **named,
    )


def _carriers(parts: np.ndarray) -> float:
    """(sum f)^2 / sum f^2: how many draws carry the sum of numbers that are not negative."""
    scaled = parts / max(float(np.abs(parts).max()), np.finfo(float).tiny)
    second = float((scaled**2).sum())
    return float(scaled.sum()) ** 2 / second if second > 0 else 0.0


def _scaled(estimate: Estimate, factor: float | None, quantity: str) -> Estimate:
    assert factor is not None
    return dataclasses.replace(estimate.scaled(factor), quantity=quantity)


def _sum(parts: tuple[Estimate, ...], quantity: str) -> Estimate:
    """Independent estimates added up: they share a key, but no stream of it.

    The skewnesses are left out: a sum is closer to normal than its parts.
    """
    supported = all(bool(part.interval_supported) for part in parts)
    return Estimate(
        value=sum(float(part.value) for part in parts),
        standard_error=math.hypot(*(float(part.standard_error) for part in parts)),
        numerical_error=sum(float(part.numerical_error) for part in parts),
        n_samples=max(part.n_samples for part in parts),
        method="sum of parts",
        seed=parts[0].seed,
        quantity=quantity,
        unit="nats",
        interval_supported=supported,
        sample_range=sum(part.sample_range for part in parts),
        draws=tuple(sorted({words for part in parts for words in part.draws})),
        note="" if supported else "a part has too few informative draws",
    )


def _check(codebook: Any, denoiser: Any) -> None:
    check_codebook(codebook)
    if not callable(denoiser):
        reject("denoiser", denoiser, "a function of observations and SNRs that returns logits")


def _check_grid(grid: Any, sampler: Any) -> np.ndarray:
    check_choice(sampler, ("ancestral", "continuous"), "sampler")
    levels: np.ndarray = check_snr(as_float_array("grid", grid, ndim=1), "grid")
    if levels.size < 2 or (np.diff(levels) <= 0).any():
        reject("grid", levels, "at least two SNRs that increase")
    if sampler == "continuous" and levels.size != 2:
        reject("grid", levels, "a pair (first, last) for the continuous sampler")
    return levels
