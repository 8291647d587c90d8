"""What N evaluations of an exact denoiser cost sequences whose tokens are read one by one.

A model of sequences gives the law of each token by itself. From Y at SNR 0, which is noise alone,
N - 1 ancestral steps lead to gamma_(N-1), where every token is drawn from its own posterior. With H
of the source, the KL of states and tokens is

    (1/2) sum_j mmse(X | Y_gamma_j)(gamma_(j+1) - gamma_j) + sum_i H(k_i | Y_gamma_(N-1)) - H(X):

the path KL of the steps, and sum_i H(k_i | Y) - H(X | Y) for reading. Where to stop is part of the
grid. For N = 1 it is sum_i H(k_i) - H(X), as of unmasking and replacing (`tokenkl.context`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special

from tokenkl._random import draws_of, generator, seed_of, split
from tokenkl._validation import (
    MAX_ELEMENTS,
    as_float_array,
    check_count,
    check_positive,
    is_traced,
    reject,
)
from tokenkl.codebooks import Codebook, SequenceCodebook, sequence_codebook
from tokenkl.context import GeneratedLaw
from tokenkl.divergence.mmse_table import EPS, as_monte_carlo, tabulate
from tokenkl.divergence.sampler import ancestral_kl_curve, check_snr_grid
from tokenkl.divergence.search import candidates
from tokenkl.estimate import Estimate
from tokenkl.information.methods import Method, MonteCarlo, check_method
from tokenkl.numerics.laws import entropies, kl_and_error
from tokenkl.numerics.moments import MIN_CARRIERS, MIN_EFFECTIVE, Moments
from tokenkl.numerics.paths import cheapest_paths
from tokenkl.samplers import Level, Sampler, as_sampler
from tokenkl.sources import Source

#: Levels at which the cost of reading is sampled for the search, and draws in a block of them.
READ_LEVELS, BLOCK = 64, 2**6
DEFAULT_PATHS = 2**14
#: Fewest paths, for their spread to tell the error.
FEWEST_PATHS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class SequenceSteps:
    """SNRs of N evaluations, the last one where tokens are read, and their `sequence_kl`."""

    snr: Float[np.ndarray, " N"]
    kl: Estimate

    @property
    def N(self) -> int:
        """Number of evaluations."""
        return self.snr.size


def sequence_kl(
    codebook: Codebook,
    source: Source,
    grid: Float[Any, " N"],
    *,
    method: Method | None = None,
    key: Any = None,
) -> Estimate:
    """KL of states and tokens for N evaluations of the exact denoiser of sequences; nats.

    N - 1 ancestral steps from pure noise, then every token is drawn from its own posterior. It
    bounds the KL of the tokens (`sequence_law`) from above. Sampled, with common noise on all
    levels.

    Args:
        codebook: where single tokens sit.
        source: the law of the sequences; it has to know its entropy.
        grid: (N,) SNRs, the first one 0, increasing.
        method: `MonteCarlo(...)` or None: as `ancestral_kl` of the `sequence_codebook`.
        key: integer seed or JAX key.

    Raises:
        ValueError: no such grid, another number of tokens, or no key.

    Example: one evaluation, of noise alone, makes tokens independent.
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=2)
        >>> once = tk.divergence.sequence_kl(tk.FSQ((2,)), chain, [0.0], key=0)
        >>> round(float(once), 2)
        0.37
    """
    return sequence_kl_curve(codebook, source, [grid], method=method, key=key)[0]


def sequence_kl_curve(
    codebook: Codebook,
    source: Source,
    grids: Sequence[Float[Any, " N"]],
    *,
    method: Method | None = None,
    key: Any = None,
) -> Estimate:
    """`sequence_kl` of many grids of any lengths, from one sample; one value for each.

    Args, result and errors as in `sequence_kl`.
    """
    sequences = SequenceCodebook(codebook, source)
    check_method(method, MonteCarlo)
    checked = [_check_grid(grid) for grid in grids]
    if not checked:
        reject("grids", "no grid at all", "at least one array of SNRs")
    keys = split(_check_key(key), 2)
    ends = np.array([grid[-1] for grid in checked])
    chosen = as_monte_carlo(method, sequences)
    reading = _reading(sequences, ends, chosen, keys[0])
    named: dict[str, Any] = {"quantity": "sequence KL", "seed": seed_of(key)}
    steps = [index for index, grid in enumerate(checked) if grid.size > 1]
    if not steps:
        return dataclasses.replace(reading, draws=draws_of(key), **named)
    path = ancestral_kl_curve(
        sequence_codebook(codebook, source),
        [checked[index] for index in steps],
        method=method,
        key=keys[1],
    )
    place = {index: number for number, index in enumerate(steps)}
    whole = [
        reading[index] + path[place[index]] if index in place else reading[index]
        for index in range(len(checked))
    ]
    return dataclasses.replace(Estimate.stack(whole), draws=draws_of(key), **named)


def sequence_steps(
    codebook: Codebook,
    source: Source,
    Ns: Sequence[int],
    snr_max: float,
    *,
    method: Method | None = None,
    key: Any = None,
) -> list[SequenceSteps]:
    """For each N the SNRs from 0 to at most snr_max with the smallest `sequence_kl`.

    The best of all grids among 400 SNRs (see `optimal_steps`), where the last one, at which tokens
    are read, is free: a shortest path, on one sample. The KLs are from another.

    Args:
        codebook, source: as in `sequence_kl`.
        Ns: numbers of evaluations, each at least 1.
        snr_max: the largest SNR at which tokens may be read.
        method, key: as in `sequence_kl`.

    Raises:
        ValueError: an argument out of its range, or no key.
    """
    Ns = list(Ns)
    if not Ns:
        reject("Ns", Ns, "at least one number of evaluations")
    for N in Ns:
        check_count(N, "Ns")
    snr_max = check_positive(snr_max, "snr_max")
    sequences = SequenceCodebook(codebook, source)
    keys = split(_check_key(key), 3)
    listed = sequence_codebook(codebook, source)
    table = tabulate(listed, 0.0, snr_max, method, keys[0])
    x = candidates(table, max(Ns))
    snr = table.nodes.snr_of(x)
    few = np.linspace(0, x[-1], READ_LEVELS)
    chosen = as_monte_carlo(method, sequences)
    read = _reading(sequences, table.nodes.snr_of(few), chosen, keys[1])
    # Another row and column: the end, which is reached by reading.
    costs = np.full((x.size + 1, x.size + 1), np.inf)
    costs[:-1, :-1] = table.cost(snr, snr)
    costs[:-1, -1] = np.interp(x, few, read.value)
    grids = []
    for _, path in (cheapest_paths(costs, max(Ns))[N - 1] for N in Ns):
        assert path is not None  # there are more levels than steps
        grids.append(snr[path[:-1]])
    kls = sequence_kl_curve(codebook, source, grids, method=method, key=keys[2])
    return [SequenceSteps(grid, kls[index]) for index, grid in enumerate(grids)]


def sequence_law(
    codebook: Codebook,
    source: Source,
    grid: Float[Any, " N"],
    *,
    sampler: Sampler | str = "ancestral",
    n_paths: int = DEFAULT_PATHS,
    key: Any = None,
) -> GeneratedLaw:
    """The law of the tokens that N evaluations generate, and KL(source || it); from paths.

    Paths are simulated; the tokens are not drawn, but the product of their laws at the end is
    averaged over the paths. The KL of such a mean is too large by half the mean of
    Var / law^2 / paths, to first order: that is taken off, and added to the `numerical_error`.

    Args:
        codebook, source: as in `sequence_kl`.
        grid: as in `sequence_kl`.
        sampler: "ancestral", "ddim" or any `Sampler`.
        n_paths: at least 100; K^length times as many numbers have to be at most 2**26.
        key: integer seed or JAX key.

    Raises:
        ValueError: no such grid, too many sequences or paths, fewer paths, or no key.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=2)
        >>> found = tk.divergence.sequence_law(tk.FSQ((2,)), chain, [0.0, 1.0, 4.0], key=0)
        >>> found.law.round(2).tolist()
        [[0.42, 0.08], [0.08, 0.42]]
    """
    SequenceCodebook(codebook, source)
    snr, moves = _check_grid(grid), as_sampler(sampler)
    check_count(n_paths, "n_paths", FEWEST_PATHS)
    L, K = source.length, source.K
    if n_paths * K**L > MAX_ELEMENTS:
        reject("n_paths", f"{n_paths:,} of {K}^{L} sequences", f"{MAX_ELEMENTS:,} numbers at most")
    joint, points = source.joint(), np.asarray(codebook.points)
    offset = points.mean(axis=0)
    centred = points - offset
    size = max(1, min(n_paths, 2**18 // (L * K)))
    rng = generator(_check_key(key))
    blocks, levels = [], [Level.of_snr(one) for one in snr]
    for first in range(0, n_paths, size):
        count = min(size, n_paths - first)
        y = rng.standard_normal((count, L, points.shape[1]))
        for step, now in enumerate(levels, start=1):
            h = now.alpha
            seen = h * (y - h * offset) @ centred.T - h**2 / 2 * np.square(centred).sum(axis=1)
            law = special.softmax(source.messages(seen)[0] + seen, axis=-1)
            if step < len(levels):
                fresh = rng.standard_normal(y.shape) if moves.draws else None
                y = moves.step(y, law @ points, now, levels[step], fresh)
        product = np.ones((count, 1))
        for i in range(L):
            product = (product[:, :, None] * law[:, i, None]).reshape(count, -1)
        blocks.append(product)
    # NumPy adds in pairs along the last axis in memory alone: along the first, tens of thousands of
    # roundings in a row would outweigh the error given below.
    blocks = [np.ascontiguousarray(block.T) for block in blocks]
    mean = sum(block.sum(axis=1) for block in blocks) / n_paths
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(joint.ravel() > 0, joint.ravel() / mean, 0.0)
    second = sum(np.square(block).sum(axis=1) for block in blocks) / n_paths
    bias = float((ratio / mean * np.maximum(second - mean**2, 0))[ratio > 0].sum()) / (2 * n_paths)
    moments = Moments((1,))
    for block in blocks:
        moments.add((ratio @ block)[None])
    with np.errstate(divide="ignore"):
        value, error = kl_and_error(np.log(joint).ravel(), mean, EPS * 64 * L * mean)
    kl = Estimate(
        value - bias,
        math.hypot(float(moments.standard_error[0]), bias),
        error + bias,
        n_samples=n_paths,
        method=f"{moves.name}, simulated paths",
        seed=seed_of(key),
        draws=draws_of(key),
        # Where all paths have the same law, from SNR 0, what they differ by is rounding.
        interval_supported=bool(
            moments.carriers()[0] >= MIN_EFFECTIVE or moments.standard_error[0] <= error
        ),
        skewness=-float(moments.skewness[0]),
        quantity="KL",
        unit="nats",
    )
    return GeneratedLaw(mean.reshape(joint.shape), kl)


# ---- Pieces -----------------------------------------------------------------------------------


def _check_grid(grid: Any) -> Float[np.ndarray, " N"]:
    levels = as_float_array("grid", grid)
    if is_traced(levels) or levels.ndim != 1 or levels.size == 0 or levels[0] != 0:
        reject("grid", grid, "SNRs from 0 up, in one row")
    return check_snr_grid(levels, "grid") if levels.size > 1 else levels


def _check_key(key: Any) -> Any:
    if key is None:
        reject("key", "None", "an integer seed or a JAX key, since sequences are sampled")
    return key


def _reading(
    sequences: SequenceCodebook, snr: Float[np.ndarray, " levels"], method: MonteCarlo, key: Any
) -> Estimate:
    """sum_i H(k_i | Y) - H(X | Y): what it costs to draw the tokens one by one; nats."""
    levels, where = np.unique(np.append(0.0, snr), return_inverse=True)
    wanted = method.n_samples or as_monte_carlo(None, sequences).n_samples or BLOCK
    drawn = [
        sequences.posterior_dependence(generator(key, block), BLOCK, levels)[:, : wanted - done]
        for block, done in enumerate(range(0, wanted, BLOCK))
    ]
    rows = np.concatenate(drawn, axis=1)
    L, K = sequences.length, sequences.token.K
    rounding = 1e-13 * L * math.log(K)
    # What is known at SNR 0 takes off what the levels have in common with it. Of rare tokens that
    # nobody drew it knows nothing: all draws are alike then, but for their rounding.
    source = sequences.source
    before = rows[0] - (float(entropies(source.marginals()).sum()) - source.entropy())
    first = Moments((1,))
    first.add(before[None])
    spread, carriers = float(first.squares[0]), float(first.carriers()[0])
    known = spread > wanted * rounding**2 and carriers >= MIN_CARRIERS
    share = (rows - rows.mean(axis=1, keepdims=True)) @ (before - before.mean()) / (spread or 1.0)
    share = np.where(levels == 0, 1.0, share if known else 0.0)
    moments = Moments((levels.size,))
    moments.add(rows - share[:, None] * before)
    where = where[1:]
    seen = known or float(np.abs(before).max()) <= rounding
    supported = moments.carried() & (wanted >= MIN_EFFECTIVE) & (seen | (levels == 0))
    return Estimate(
        moments.mean[where],
        moments.standard_error[where],
        rounding,
        n_samples=wanted,
        method="Monte-Carlo",
        seed=seed_of(key),
        draws=draws_of(key),
        interval_supported=supported[where],
        # P(p(k | Y) < e^-t) <= K e^-t, so that 35 nats more are seen by nobody.
        sample_range=2 * (2 * L * math.log(K) + 35 * (L + 1)),
        skewness=moments.skewness[where],
        quantity="cost of reading",
        unit="nats",
    )
