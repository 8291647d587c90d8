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

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tokenkl._random import draws_of, generator, seed_of, split
from tokenkl._validation import (
    as_float_array,
    check_count,
    check_positive,
    check_snr,
    is_traced,
    reject,
    renamed,
)
from tokenkl.channels import gaussian as channel
from tokenkl.codebooks import Codebook
from tokenkl.codebooks.base import check_codebook
from tokenkl.codebooks.transforms import average_power
from tokenkl.divergence.brackets import bracketed_path_kl
from tokenkl.divergence.mmse_table import (
    EPS,
    FEW,
    MOST_UNSEEN,
    as_monte_carlo,
    exact_table,
    is_exact,
    parts_that_differ,
    sample_functionals,
    sampled_nodes,
    sampled_table,
    squared_radius,
    squared_size,
    unseen_variance,
)
from tokenkl.estimate import Estimate
from tokenkl.information import Profile, profile
from tokenkl.information.estimators import Progress
from tokenkl.information.methods import Method
from tokenkl.information.parts import for_each
from tokenkl.information.problem import Problem
from tokenkl.information.residual.profile import too_large_to_enumerate
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments

#: Most different SNRs at which MMSE and entropy are found for themselves; more take a table.
MOST_DIRECT = 256
#: Relative error from which on the table is asked as well: where steps are so short that the
#: difference of entropies loses its digits.
WANTED = 1e-10
#: From this number of paths on, a central-limit interval is offered.
CLT_PATHS = 100
#: Paths of rare tokens that tell what is missing where nobody drew them.
PROBES = 256


@renamed(snr_grid="grid")
def ancestral_kl(
    codebook: Codebook,
    grid: Float[Any, " points"],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """Path KL of the ancestral sampler with the exact denoiser, frozen on each step; nats.

    For gamma_0 < ... < gamma_N it is (1/2) sum_k mmse(gamma_k)(gamma_(k+1) - gamma_k) minus
    H(gamma_0) - H(gamma_N), and never negative. Where the MMSE is exact (grids with a product
    prior, one-hot tokens) it is found at the points of the grid, and the entropy at its ends: no
    interpolation, and an error that is their rounding. Where steps are so short that this
    difference loses its digits, and for grids of more than 256 SNRs, see `ancestral_kl_curve`.
    Everything else: from sampled MMSEs, with the same noise at all levels and the sum formed for
    each sample. Residual codebooks with too many tokens to list: by the definition again, between
    the ends of brackets, half of which is in the numerical error.

    Args:
        codebook: any codebook with at least two distinct tokens; for tokens in context that of
            their sequences, `tk.sequence_codebook(codebook, source)`.
        grid: (N + 1,) signal-to-noise ratios, increasing, the first at least 0.
        method: `Exact()`, `MonteCarlo(...)` or None: exact where the structure allows it, else
            8192 samples, 1024 of codebooks with too many tokens to list.
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
    return ancestral_kl_curve(
        codebook, [check_snr_grid(grid)], method=method, key=key, progress=progress
    )[0]


@renamed(snr_grids="grids")
def ancestral_kl_curve(
    codebook: Codebook,
    grids: Sequence[Float[Any, " points"]],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """`ancestral_kl` of many grids of any lengths, from one table of MMSEs; one value for each.

    The MMSE is tabulated once, from the lowest to the highest SNR of all grids, by polynomials on
    pieces of log(1 + D^2 snr), D the size of the codebook. Exact: pieces are halved until their
    Chebyshev coefficients have fallen to rounding. What the last coefficients leave enters the
    numerical error. Up to 256 different SNRs are not interpolated at all (see `ancestral_kl`), but
    where the table's error is the smaller one. Sampled codebooks: each KL is a weighted sum of the
    MMSEs at the nodes, and all grids share their samples.

    Args, result and errors as in `ancestral_kl`; the result has one entry for each grid.
    """
    grids = [check_snr_grid(grid, f"grids[{i}]") for i, grid in enumerate(grids)]
    if not grids:
        reject("grids", "no grid at all", "at least one array of SNRs")
    check_codebook(codebook)
    squared_size(codebook)  # refuses a single point
    named: dict[str, Any] = {"quantity": "ancestral KL", "unit": "nats"}
    if is_exact(codebook, method):
        value, error, how = _exact_curve(codebook, grids)
        return Estimate(value, 0.0, error, method=how, **named)
    parts = parts_that_differ(codebook)
    if parts[0] is not codebook:  # MMSEs and entropies add up
        each = zip(parts, split(key, len(parts)), strict=True)
        options: dict[str, Any] = {"method": for_each(method, len(parts)), "progress": progress}
        kls = [ancestral_kl_curve(part, grids, key=own, **options) for part, own in each]
        kl = functools.reduce(operator.add, kls)
        return dataclasses.replace(kl, seed=seed_of(key), draws=draws_of(key), **named)
    if too_large_to_enumerate(codebook):
        return bracketed_path_kl(codebook, grids, as_monte_carlo(method, None), key, progress)
    nodes = sampled_nodes(codebook, *_ends(grids))
    weights = nodes.functionals(grids)
    chosen = as_monte_carlo(method, codebook)
    sampled = sample_functionals(codebook, nodes, weights, chosen, key, progress)
    table = sampled_table(nodes, sampled.mmse, sampled.mmse_error)
    supported = sampled.supported
    reach = 2 * squared_radius(codebook) * float(np.abs(weights).sum(axis=1).max())
    return Estimate(
        sampled.moments.mean,
        sampled.moments.standard_error,
        np.array([table.path_kl(grid)[1] for grid in grids]),
        n_samples=sampled.n_samples,
        method="Monte-Carlo, interpolated",
        seed=seed_of(key),
        draws=draws_of(key),
        interval_supported=supported,
        sample_range=reach,
        skewness=sampled.moments.skewness,
        note="" if supported.all() else "too few informative samples for some grid",
        **named,
    )


@renamed(scale="start")
def prior_mismatch(
    codebook: Codebook,
    snr: float,
    *,
    start: float = 1.0,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """KL between the true law of Y at this SNR and N(0, start^2 I), where samplers start; nats.

    With Y = sqrt(snr) e_k + eps and start 1 it is snr E|e|^2 / 2 - I(k; Y). The two terms agree to
    first order in the SNR, so it is computed as snr |E e|^2 / 2 plus the `ancestral_kl` of a single
    step from 0 to snr, which does not cancel. Another start adds
    (snr E|e|^2 + n)(start^-2 - 1) / 2 + n log(start).

    Args:
        codebook: any codebook.
        snr: signal-to-noise ratio at the start of sampling (the smallest one), at least 0.
        start: standard deviation of the start in units of the noise there. A start from
            N(0, rho^2 I) in x at time t is rho / sigma(t) here.
        method, key, progress: as in `ancestral_kl`.

    Raises:
        ValueError: snr negative, not finite or not one number; start not above 0.
    """
    check_codebook(codebook)
    level = check_snr(snr)
    if is_traced(level) or level.ndim:
        reject("snr", snr, "one concrete number")
    level, start = float(level), check_positive(start, "start")
    mean, power = codebook.mean(), average_power(codebook)
    squared = float(mean @ mean)
    offset = level * squared / 2
    # The mean is a sum of tokens, which may cancel.
    rounding = 16 * EPS * level * math.sqrt(squared * (squared + power))
    if start != 1:
        second = level * (squared + power) + codebook.n
        moved = (1 - start) * (1 + start) / start**2
        offset += second * moved / 2 + codebook.n * math.log(start)
        rounding += 16 * EPS * (abs(second * moved) + codebook.n * abs(math.log(start)))
    named: dict[str, Any] = {"quantity": "prior mismatch", "unit": "nats"}
    if level == 0 or power == 0:
        return Estimate(offset, 0.0, rounding, method="exact", **named)
    step = ancestral_kl(codebook, [0.0, level], method=method, key=key, progress=progress)
    error = step.numerical_error + rounding
    return dataclasses.replace(step, value=step.value + offset, numerical_error=error, **named)


@renamed(snr_grid="grid")
def simulate_ancestral_kl(
    codebook: Codebook, grid: Float[Any, " points"], *, key: Any, n_paths: int = 4096
) -> Estimate:
    """The KL of `ancestral_kl` by simulated paths and Girsanov's theorem; nats.

    Each path draws a token and a Brownian motion, whose states Z = gamma e_k + W are exact at any
    gamma. The increment of a step is (1/2)(gamma_(k+1) - gamma_k) |E[e|Z_g] - E[e|Z_k]|^2 at one g
    uniform in the step: unbiased for the integral, so that there is no discretisation error. No
    entropy and no MMSE enters.

    Args:
        codebook: any codebook whose K x paths posterior can be formed a block at a time.
        grid: as in `ancestral_kl`.
        key: integer seed or JAX key.
        n_paths: at least 2; below 100, or where few of them carry the value, or rare tokens or
            mistakes were not seen, no central-limit interval is offered.

    Raises:
        ValueError: as `ancestral_kl`.
    """
    grid = check_snr_grid(grid)
    check_codebook(codebook)
    check_count(n_paths, "n_paths", 2)
    moments = Moments((1,))
    size = max(1, min(4096, 2**22 // min(codebook.K, 2**22)))
    for block, start in enumerate(range(0, n_paths, size)):
        rng = generator(key, block)
        count = min(size, n_paths - start)
        ids, state = channel.sample(codebook, 0.0, count, key=rng.integers(2**32))
        moments.add(_totals(codebook, grid, ids, state, rng)[None])
    # A mistake at the start of a step adds as much as the square of its distance.
    unseen = (
        np.sqrt(10 * unseen_variance(Problem(codebook, grid[:-1]), n_paths)) @ np.diff(grid) / 2
    )
    unseen = math.hypot(unseen, _unseen_tokens(codebook, grid, n_paths, min(size, PROBES), key))
    carriers = min(moments.effective()[0], moments.carriers()[0])
    little = unseen <= MOST_UNSEEN * math.sqrt(moments.variance[0])
    supported = bool(n_paths >= CLT_PATHS and carriers >= MIN_EFFECTIVE and little)
    return Estimate(
        moments.mean[0],
        moments.standard_error[0],
        1e-13 * moments.mean[0],
        n_samples=n_paths,
        method="simulated paths + girsanov",
        seed=seed_of(key),
        draws=draws_of(key),
        quantity="ancestral KL",
        unit="nats",
        interval_supported=supported,
        sample_range=2 * squared_radius(codebook) * float(grid[-1] - grid[0]),
        skewness=moments.skewness[0],
        note="" if supported else "too few informative paths for a central-limit interval",
    )


# ---- Pieces -----------------------------------------------------------------------------------


def check_snr_grid(grid: Any, name: str = "grid") -> np.ndarray:
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


def _ends(grids: Sequence[np.ndarray]) -> tuple[float, float]:
    return min(float(grid[0]) for grid in grids), max(float(grid[-1]) for grid in grids)


def _exact_curve(
    codebook: Codebook, grids: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Values, numerical errors and what to call the method, where the MMSE is exact."""
    points, where = np.unique(np.concatenate(grids), return_inverse=True)
    found = np.array([[0.0], [np.inf]]).repeat(len(grids), axis=1)
    how = "exact"
    if points.size <= MOST_DIRECT:
        here = profile(codebook, points, ("mmse", "conditional_entropy"))
        places = np.split(where, np.cumsum([grid.size for grid in grids])[:-1])
        found = np.array([_by_definition(here, place) for place in places]).T
        how = str(here["mmse"].method)
    poor = np.flatnonzero(~(found[1] <= WANTED * found[0])).tolist()
    if poor:
        table = exact_table(codebook, *_ends([grids[index] for index in poor]))
        for index in poor:
            other = table.path_kl(grids[index])
            if other[1] < found[1, index]:
                found[:, index] = other
                how = "exact, interpolated"
    return found[0], found[1], how


def _by_definition(here: Profile, place: np.ndarray) -> tuple[float, float]:
    """Rectangles less the entropy lost, from the profile at the SNRs of a grid; and its error."""
    steps = np.diff(here.snr[place])
    mmse, mmse_error = (
        np.asarray(part)[place[:-1]] for part in (here["mmse"].value, here["mmse"].numerical_error)
    )
    entropy, entropy_error = (
        np.asarray(part)[place[[0, -1]]]
        for part in (
            here["conditional_entropy"].value,
            here["conditional_entropy"].numerical_error,
        )
    )
    rectangles = float(mmse @ steps) / 2
    error = float(mmse_error @ steps) / 2 + float(entropy_error.sum())
    rounding = 4 * EPS * (rectangles + float(entropy.sum()))
    return rectangles - float(entropy[0] - entropy[1]), error + rounding


def _totals(
    codebook: Codebook,
    grid: Float[np.ndarray, " points"],
    ids: Int[np.ndarray, " paths"],
    state: Float[np.ndarray, "paths n"],
    rng: np.random.Generator,
) -> Float[np.ndarray, " paths"]:
    """The sum of the increments of paths of these tokens, from standard normal states."""
    points, count = codebook.points_at(ids), ids.size
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
    return total


def _unseen_tokens(
    codebook: Codebook, grid: Float[np.ndarray, " points"], n_paths: int, probes: int, key: Any
) -> float:
    """Root mean square of the largest totals, of which paths see fewer than `FEW`, of rare tokens.

    From paths of rare tokens alone, of some of them where they are many.
    """
    prior = np.asarray(codebook.prior)
    rare = np.flatnonzero(n_paths * prior < FEW)
    if not rare.size:
        return 0.0
    ids = rare[np.linspace(0, rare.size - 1, probes).astype(int)]
    rng = generator(key, n_paths)  # a block that no path is of
    total = _totals(codebook, grid, ids, rng.standard_normal((probes, codebook.n)), rng)
    order = np.argsort(-total)
    often = prior[ids[order]] * rare.size / probes
    few = np.searchsorted(n_paths * np.cumsum(often), FEW)
    return math.sqrt(often[:few] @ total[order[:few]] ** 2)


def _denoise(codebook: Codebook, z: np.ndarray, snr: Any) -> np.ndarray:
    """E[e | Z = z] at this SNR; at 0 the prior mean."""
    root = np.sqrt(np.broadcast_to(snr, z.shape[:-1]))
    y = np.where(root[:, None] > 0, z / np.where(root > 0, root, 1.0)[:, None], 0.0)
    return np.asarray(channel.denoiser(codebook, y, root**2))
