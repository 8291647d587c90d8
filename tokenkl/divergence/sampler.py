"""What an N-step sampler loses, by path measures: exact identities for any codebook.

In the time gamma = snr the observation process Z = gamma e_k + W (W a Brownian motion) solves
dZ = E[e | Z] d gamma + dW~. The ancestral (DDPM) sampler with the exact denoiser freezes the drift
at the start of each of its steps gamma_0 < ... < gamma_N. By Girsanov's theorem and I-MMSE,

    KL(process || sampler) = (1/2) sum_k mmse(gamma_k) (gamma_(k+1) - gamma_k)
                             - [H(gamma_0) - H(gamma_N)]
                           = sum_k (1/2) int_(gamma_k)^(gamma_(k+1)) [mmse(gamma_k) - mmse(g)] dg,

for every codebook and prior. It is also the KL between the two laws of the states at the grid
points, because between those both are the same Brownian bridges. The start is common: what
replacing the true law at gamma_0 by a Gaussian costs is `prior_mismatch`, and it adds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl import channel
from tokenkl._random import generator, seed_of
from tokenkl._validation import (
    as_float_array,
    check_count,
    check_positive,
    check_snr,
    is_traced,
    reject,
)
from tokenkl.codebooks import Codebook, ProductCodebook
from tokenkl.codebooks.transforms import average_power
from tokenkl.divergence._mmse_table import (
    EPS,
    EXACT_STEP,
    SAMPLED_STEP,
    Nodes,
    as_monte_carlo,
    exact_mmse,
    is_exact,
    make_nodes,
    sample_functionals,
)
from tokenkl.estimate import Estimate
from tokenkl.information._montecarlo import Progress
from tokenkl.information.methods import Method

#: Longest panel of the quadrature inside one step, in log(1 + power * snr), and its nodes; the
#: smaller rule tells the error.
PANEL = 0.3
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
CHECK_NODES, CHECK_WEIGHTS = np.polynomial.legendre.leggauss(6)
#: From this number of paths on, a central-limit interval is offered.
CLT_PATHS = 100


def ancestral_kl(
    codebook: Codebook,
    snr_grid: Float[Any, " points"],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """Path KL of the ancestral sampler with the exact denoiser, frozen on each step; nats.

    For gamma_0 < ... < gamma_N it is (1/2) sum_k mmse(gamma_k)(gamma_(k+1) - gamma_k) minus
    H(gamma_0) - H(gamma_N), and never negative. Grids with a product prior: every step is a
    quadrature of mmse(gamma_k) - mmse(g) >= 0, so that a small KL is no difference of large
    numbers. One-hot tokens: from a table of exact MMSEs. Everything else: from sampled MMSEs, with
    the same noise at all levels and the sum formed for each sample.

    Args:
        codebook: any codebook with at least two distinct tokens.
        snr_grid: (N + 1,) signal-to-noise ratios, increasing, the first at least 0.
        method: `Exact()`, `MonteCarlo(...)` or None: exact where the structure allows it, else
            8192 samples.
        key: integer seed or JAX key; needed where the method samples.
        progress: called with (samples done, samples wanted) while sampling.

    Returns:
        An `Estimate`. `numerical_error` holds quadrature or interpolation, and rounding.

    Raises:
        ValueError: an SNR that is negative or not finite, fewer than two, not increasing; no key
            where one is needed.

    Source: I-MMSE (Guo, Shamai, Verdu 2005) and Girsanov's theorem; docs/theory/sampler.md.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> round(float(tk.ancestral_kl(tk.FSQ((2,)), [0.0, 1.0])), 6)  # 1/2 - I(1)
        0.163169
    """
    grid = check_snr_grid(snr_grid)
    _check_codebook(codebook)
    factorises = isinstance(codebook, ProductCodebook) and codebook.factorises
    if factorises and is_exact(codebook, method):
        value, error = _by_quadrature(codebook, grid)
        return Estimate(
            value, 0.0, error, method="exact, by step", quantity="ancestral KL", unit="nats"
        )
    return ancestral_kl_curve(codebook, [grid], method=method, key=key, progress=progress)[0]


def ancestral_kl_curve(
    codebook: Codebook,
    snr_grids: Sequence[Float[Any, " points"]],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """`ancestral_kl` of many grids of any lengths, from one table of MMSEs; one value for each.

    The MMSE is tabulated once, from the lowest to the highest SNR of all grids, and interpolated
    by a spline of degree 5; each KL is then a weighted sum of tabulated values. The change when
    every second node is left out enters the numerical error; for a spline of this degree it is
    many times the error itself. Sampled codebooks: all grids share their samples.

    Args, result and errors as in `ancestral_kl`; the result has one entry for each grid.
    """
    grids = [check_snr_grid(grid, f"snr_grids[{i}]") for i, grid in enumerate(snr_grids)]
    if not grids:
        reject("snr_grids", "no grid at all", "at least one array of SNRs")
    _check_codebook(codebook)
    low, high = min(grid[0] for grid in grids), max(grid[-1] for grid in grids)
    exact = is_exact(codebook, method)
    nodes = make_nodes(codebook, low, high, EXACT_STEP if exact else SAMPLED_STEP)
    weights = nodes.functionals(grids)
    coarse = nodes.functionals(grids, every=2)
    named: dict[str, Any] = {"quantity": "ancestral KL", "unit": "nats"}
    if exact:
        table, slack, how = exact_mmse(codebook, nodes.snr)
        error = np.abs((weights - coarse) @ table) + np.abs(weights) @ slack
        error = error + _rounding(nodes, weights, table)
        return Estimate(weights @ table, 0.0, error, method=f"{how}, interpolated", **named)
    chosen = as_monte_carlo(method)
    sampled = sample_functionals(codebook, nodes, weights, chosen, key, progress)
    error = np.abs((weights - coarse) @ sampled.mmse) + _rounding(nodes, weights, sampled.mmse)
    supported = sampled.supported
    reach = 2 * _squared_radius(codebook) * float(np.abs(weights).sum(axis=1).max())
    return Estimate(
        sampled.moments.mean,
        sampled.moments.standard_error,
        error,
        n_samples=sampled.n_samples,
        method="Monte-Carlo, interpolated",
        seed=seed_of(key),
        interval_supported=supported,
        sample_range=reach,
        skewness=sampled.moments.skewness,
        note="" if supported.all() else "too few informative samples for some grid",
        **named,
    )


def prior_mismatch(
    codebook: Codebook,
    snr: float,
    *,
    scale: float = 1.0,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """KL between the true law of Y at this SNR and N(0, scale^2 I), where samplers start; nats.

    With Y = sqrt(snr) e_k + eps and scale 1 it is snr E|e|^2 / 2 - I(k; Y). The two terms agree to
    first order in the SNR, so it is computed as snr |E e|^2 / 2 plus the `ancestral_kl` of a single
    step from 0 to snr, which does not cancel. Another scale adds
    (snr E|e|^2 + n)(scale^-2 - 1) / 2 + n log(scale).

    Args:
        codebook: any codebook.
        snr: signal-to-noise ratio at the start of sampling (the smallest one), at least 0.
        scale: standard deviation of the start in units of the noise there. A start from
            N(0, rho^2 I) in x at time t is rho / sigma(t) here.
        method, key, progress: as in `ancestral_kl`.

    Raises:
        ValueError: snr negative, not finite or not one number; scale not above 0.
    """
    _check_codebook(codebook)
    level = check_snr(snr)
    if is_traced(level) or level.ndim:
        reject("snr", snr, "one concrete number")
    level, scale = float(level), check_positive(scale, "scale")
    mean, power = _mean(codebook), average_power(codebook)
    squared = float(mean @ mean)
    offset = level * squared / 2
    rounding = 16 * EPS * offset
    if scale != 1:
        second = level * (squared + power) + codebook.n
        moved = (1 - scale) * (1 + scale) / scale**2
        offset += second * moved / 2 + codebook.n * math.log(scale)
        rounding += 16 * EPS * (abs(second * moved) + codebook.n * abs(math.log(scale)))
    named: dict[str, Any] = {"quantity": "prior mismatch", "unit": "nats"}
    if level == 0 or power == 0:
        return Estimate(offset, 0.0, rounding, method="exact", **named)
    step = ancestral_kl(codebook, [0.0, level], method=method, key=key, progress=progress)
    return Estimate(
        step.value + offset,
        step.standard_error,
        step.numerical_error + rounding,
        n_samples=step.n_samples,
        method=step.method,
        seed=step.seed,
        interval_supported=step.interval_supported,
        sample_range=step.sample_range,
        note=step.note,
        skewness=step.skewness,
        **named,
    )


def simulate_ancestral_kl(
    codebook: Codebook, snr_grid: Float[Any, " points"], *, key: Any, n_paths: int = 4096
) -> Estimate:
    """The KL of `ancestral_kl` by simulated paths and Girsanov's theorem; nats.

    Each path draws a token and a Brownian motion, whose states Z = gamma e_k + W are exact at any
    gamma. The increment of a step is (1/2)(gamma_(k+1) - gamma_k) |E[e|Z_g] - E[e|Z_k]|^2 at one g
    uniform in the step: unbiased for the integral, so that there is no discretisation error. No
    entropy and no MMSE enters.

    Args:
        codebook: any codebook whose K x paths posterior can be formed a block at a time.
        snr_grid: as in `ancestral_kl`.
        key: integer seed or JAX key.
        n_paths: at least 2; below 100 no central-limit interval is offered.

    Raises:
        ValueError: as `ancestral_kl`.
    """
    grid = check_snr_grid(snr_grid)
    _check_codebook(codebook)
    check_count(n_paths, "n_paths", 2)
    totals = []
    size = max(1, min(4096, 2**22 // min(codebook.K, 2**22)))
    for block, start in enumerate(range(0, n_paths, size)):
        rng = generator(key, block)
        count = min(size, n_paths - start)
        ids, state = channel.sample(codebook, 0.0, count, key=rng.integers(2**32))
        points = codebook.points_at(ids)
        state = math.sqrt(grid[0]) * state  # W at the first level
        total = np.zeros(count)
        for low, high in itertools.pairwise(grid):
            frozen = _denoise(codebook, low * points + state, low)
            part = rng.random(count)
            middle = low + (high - low) * part
            first, rest = middle - low, high - middle
            noise = rng.standard_normal((2, *state.shape))
            state = state + np.sqrt(first)[:, None] * noise[0]
            moved = _denoise(codebook, middle[:, None] * points + state, middle)
            total += 0.5 * (high - low) * ((moved - frozen) ** 2).sum(axis=1)
            state = state + np.sqrt(rest)[:, None] * noise[1]
        totals.append(total)
    every = np.concatenate(totals)
    deviation = every - every.mean()
    spread = math.sqrt(float((deviation**2).sum()) / (n_paths - 1))
    cubes = float((deviation**3).mean()) / max(float((deviation**2).mean()) ** 1.5, 1e-200)
    return Estimate(
        every.mean(),
        spread / math.sqrt(n_paths),
        1e-13 * every.mean(),
        n_samples=n_paths,
        method="simulated paths + girsanov",
        seed=seed_of(key),
        quantity="ancestral KL",
        unit="nats",
        interval_supported=n_paths >= CLT_PATHS,
        skewness=cubes / math.sqrt(n_paths),
        note="" if n_paths >= CLT_PATHS else "too few paths for an interval",
    )


# ---- Pieces -----------------------------------------------------------------------------------


def check_snr_grid(grid: Any, name: str = "snr_grid") -> np.ndarray:
    """At least two increasing SNRs, in float64."""
    array = as_float_array(name, grid, ndim=1)
    if is_traced(array):
        reject(name, "a traced value", "concrete")
    array = check_snr(array, name)
    if array.size < 2:
        reject(name, f"{array.size} numbers", "at least two SNRs, start and end of a step")
    if (np.diff(array) <= 0).any():
        reject(name, array, "strictly increasing (from noise to data)")
    return np.asarray(array)


def _squared_radius(codebook: Codebook) -> float:
    """Largest squared distance of a token from the mean point: no tr Cov(e | y) is larger."""
    points = np.asarray(codebook.points)
    return float(((points - points.mean(axis=0)) ** 2).sum(axis=1).max())


def _check_codebook(codebook: Any) -> None:
    if not isinstance(codebook, Codebook):
        reject("codebook", codebook, "a tokenkl codebook, such as tk.PointCodebook(points)")


def _rounding(nodes: Nodes, weights: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Rounding of the weights, which are differences of splines as large as the table's area."""
    area = float(np.sum(table * nodes.slope)) * (nodes.x[1] - nodes.x[0])
    return 64 * EPS * (np.abs(weights) @ np.abs(table) + area)


def _by_quadrature(codebook: Codebook, grid: np.ndarray) -> tuple[float, float]:
    """The sum over steps of (1/2) int (mmse(gamma_k) - mmse), and a bound on its error."""
    power = average_power(codebook)
    if power == 0:
        return 0.0, 0.0
    x = np.log1p(power * grid)
    panels = np.maximum(np.ceil(np.diff(x) / PANEL).astype(int), 1)
    step_of = np.repeat(np.arange(panels.size), panels)
    place = np.arange(step_of.size) - np.repeat(np.cumsum(panels) - panels, panels)
    width = (np.diff(x) / panels)[step_of]
    start = x[:-1][step_of] + place * width
    rule = np.concatenate([NODES, CHECK_NODES])
    position = start[:, None] + width[:, None] * (rule + 1) / 2
    snr = np.clip(
        np.expm1(position) / power, grid[:-1][step_of][:, None], grid[1:][step_of][:, None]
    )
    value, error, _ = exact_mmse(codebook, np.concatenate([grid[:-1], snr.ravel()]))
    steps = panels.size
    drop = value[:steps][step_of][:, None] - value[steps:].reshape(snr.shape)
    slack = error[:steps][step_of][:, None] + error[steps:].reshape(snr.shape)
    weight = width[:, None] / 2 * np.exp(position) / power / 2
    main, check = slice(0, NODES.size), slice(NODES.size, None)
    total = float((weight[:, main] * drop[:, main] @ WEIGHTS).sum())
    other = weight[:, check] * drop[:, check] @ CHECK_WEIGHTS
    quadrature = np.abs(weight[:, main] * drop[:, main] @ WEIGHTS - other).sum()
    numerical = (weight[:, main] * slack[:, main] @ WEIGHTS).sum()
    # Where a step is short, rounding of its ends matters too.
    size = (weight[:, main] * value[:steps][step_of][:, None] @ WEIGHTS).sum()
    return total, float(quadrature + numerical + 16 * EPS * size)


def _denoise(codebook: Codebook, z: np.ndarray, snr: Any) -> np.ndarray:
    """E[e | Z = z] at this SNR; at 0 the prior mean."""
    root = np.sqrt(np.broadcast_to(snr, z.shape[:-1]))
    y = np.where(root[:, None] > 0, z / np.where(root > 0, root, 1.0)[:, None], 0.0)
    return np.asarray(channel.denoiser(codebook, y, root**2))


def _mean(codebook: Codebook) -> np.ndarray:
    """The prior mean of the points."""
    return np.asarray(channel.denoiser(codebook, np.zeros(codebook.n), 0.0))
