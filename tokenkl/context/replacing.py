"""Uniform-noise diffusion of a source: tokens are replaced by uniform draws, and drawn back.

At level r each token was replaced with the probability r by a draw from all K, independently
(`UniformNoise`). One step of the sampler, from Z_a to a lower level b, draws every token of Z_b by
itself, each from its exact law given all of Z_a. So a step costs

    E KL(p(Z_b | Z_a) || prod_i p(Z_b,i | Z_a)) = sum_i H(Z_b,i | Z_a) - H(Z_b | Z_a)
        = [H(Z_a) - H(Z_b)] - sum_i [H(Z_a) - H(Z_a with its token i from Z_b)],

and the KL of the joint laws of the states at all levels is the sum over the steps. The start, at
level 1, is exact: uniform and independent.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import MAX_ELEMENTS, check_count, check_time, reject
from tokenkl.channels import UniformNoise
from tokenkl.context.generated import GeneratedLaw, check_steps, generated
from tokenkl.estimate import Estimate
from tokenkl.information.methods import Exact, Method, MonteCarlo, check_method
from tokenkl.numerics.laws import entropies, entropy_of
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments
from tokenkl.numerics.paths import best_of
from tokenkl.numerics.unseen import labels_of, represented, seen_once
from tokenkl.sources import Source
from tokenkl.sources.base import BLOCK

DEFAULT_SAMPLES = 2**11
#: Most sequences of which all noisy versions are gone through, and most of pairs of them.
MOST_LISTED, MOST_PAIRS = 2**16, 2**28
#: Levels among which the search for the best steps chooses, at least, samples for it, and tokens in
#: these at all levels together.
SEARCH_LEVELS, SEARCH_SAMPLES, SEARCH_TOKENS = 96, 2**12, 2**20
EPS, TINY = np.finfo(float).eps, np.finfo(float).tiny


@dataclasses.dataclass(frozen=True, eq=False)
class ReplacingSteps:
    """Levels of replaced tokens after each step, and the `replacing_kl` of these steps."""

    replaced: Float[np.ndarray, " points"]
    kl: Estimate

    @property
    def N(self) -> int:
        """Number of steps."""
        return self.replaced.size - 1


def replacing_posterior(
    source: Source, seen: Int[Any, "N length"], replaced: float
) -> Float[np.ndarray, "N length K"]:
    """log p(k_i | Z) of every token, given a whole sequence that was seen through uniform noise.

    Args:
        source: the law of the sequences.
        seen: noisy sequences.
        replaced: the probability with which each token was replaced by a uniform draw.

    Raises:
        ValueError: no such sequences or level, or one without noise that never occurs.

    Example: a copy is trusted more than a single token.
        >>> import numpy as np, tokenkl as tk
        >>> copied = tk.sources.Joint([[0.5, 0.0], [0.0, 0.5]])
        >>> law = tk.context.replacing_posterior(copied, [[0, 0]], 0.5)
        >>> np.exp(law).round(3).tolist()
        [[[0.9, 0.1], [0.9, 0.1]]]
    """
    likelihood = _likelihood(source, np.asarray(seen), replaced)
    messages, evidence = source.messages(likelihood)
    if np.isneginf(evidence).any():
        reject("seen", "a sequence of probability 0", "sequences that can occur")
    found: np.ndarray = special.log_softmax(messages + likelihood, axis=-1)
    return found


def replacing_information(
    source: Source,
    replaced: Float[Any, " *shape"],
    *,
    method: Method | None = None,
    key: Any = None,
) -> Estimate:
    """I(X; Z), Z the sequence with each token replaced with this probability; nats.

    Exact for up to 65,536 sequences; elsewhere from the evidence of sampled sequences, with common
    noise at all levels.

    Args:
        source: the law of the sequences.
        replaced: levels in [0, 1]: 0 is clean, 1 is pure noise.
        method: `Exact()`, `MonteCarlo(n_samples=...)` or None: exact where it can be had.
        key: integer seed or JAX key, where something is sampled.

    Raises:
        ValueError: levels outside [0, 1], no exact value of this source, or no key.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=8)
        >>> found = tk.context.replacing_information(chain, [0.0, 0.3, 1.0])
        >>> found.value.round(6).tolist()
        [2.968728, 1.47157, 0.0]
    """
    levels = np.asarray(check_time(replaced, "replaced"))
    L, K = source.length, source.K
    noise = L * _row_entropy(levels, K)
    named: dict[str, Any] = {"quantity": "mutual information", "unit": "nats"}
    if _is_exact(source, method):
        law = source.joint()
        found = [entropy_of(_noisy(law, r)) for r in levels.ravel()]
        error = 64 * EPS * L * math.log(K)
        value = np.reshape(found, levels.shape) - noise
        return Estimate(value, 0.0, error, method="exact, all sequences", **named)
    sample = _Sample(source, method, key)
    parts = [sample.dependence(r) for r in levels.ravel()]
    rows = np.array([row for row, _ in parts]).reshape(-1, sample.size)
    alone = np.reshape([mean for _, mean in parts], levels.shape)
    # Likelihoods of observations that can be: from the least one to 1.
    least = 2 * L * (math.log(K) - np.log(np.where(levels > 0, levels, 1.0)))
    return sample.estimate(rows, float(np.max(least, initial=0)), alone - noise, **named)


def replacing_kl(
    source: Source, grid: Float[Any, " points"], *, method: Method | None = None, key: Any = None
) -> Estimate:
    """KL of the states of N denoising steps with exact laws of single tokens; nats.

    Steps draw all tokens at once, each from its law given the whole noisy sequence. It bounds the
    KL of the generated tokens (`replacing_law`) from above. Exact for up to 65,536 sequences;
    elsewhere the mean log ratio of the two laws over sampled chains of states.

    Args:
        source: the law of the sequences.
        grid: (N + 1,) levels of replaced tokens, falling from 1 to 0.
        method, key: as in `replacing_information`.

    Raises:
        ValueError: as `replacing_information`, or no such grid.

    Example: two equal tokens. In one step the first state tells nothing.
        >>> import tokenkl as tk
        >>> copied = tk.sources.Joint([[0.5, 0.0], [0.0, 0.5]])
        >>> one, two = (tk.context.replacing_kl(copied, g) for g in ([1, 0], [1, 0.5, 0]))
        >>> round(float(one), 6), round(float(two), 6)
        (0.693147, 0.494691)
    """
    levels = check_steps(grid, "grid", 1.0, 0.0)
    named: dict[str, Any] = {"quantity": "replacing KL", "unit": "nats"}
    if _is_exact(source, method):
        law = source.joint()
        costs = [_step_kls(law, a, np.array([b]))[0] for a, b in itertools.pairwise(levels)]
        error = 64 * EPS * source.length**2 * math.log(source.K) * len(costs)
        return Estimate(math.fsum(costs), 0.0, error, method="exact, all sequences", **named)
    sample, L, K = _Sample(source, method, key), source.length, source.K
    # Far less likely states, by a factor of e^-35, are seen by nobody.
    reach = (2 * L * math.log(K) + 35 * (L + 1)) * (levels.size - 1)
    return sample.estimate(sample.log_ratio(levels), reach, np.zeros(()), **named)


def replacing_steps(
    source: Source, Ns: Sequence[int], *, method: Method | None = None, key: Any = None
) -> list[ReplacingSteps]:
    """For each N the levels of replaced tokens with the smallest `replacing_kl` in N steps.

    The best of all grids among 96 levels or 4 N, by a shortest path. They are even in the angle
    arccos(1 - 2 r), so that they are close at both ends. Sampled: found on up to 4096 chains; held
    against levels that are even, and even in the angle, on as many others, since with many steps
    costs differ by less than a sample tells; and valued on others again. A few percent above the
    best of few steps.

    Args:
        source: the law of the sequences.
        Ns: numbers of steps, each at least 1.
        method, key: as in `replacing_kl`.

    Raises:
        ValueError: as `replacing_kl`, or a number of steps below 1.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=4)
        >>> best = tk.context.replacing_steps(chain, [3])[0]
        >>> best.replaced.round(2).tolist(), round(float(best.kl), 3)
        ([1.0, 0.45, 0.2, 0.0], 0.329)
    """
    most = max((check_count(N, "Ns") for N in Ns), default=1)
    streams = (key,) * 3 if key is None else tuple(generator(key).integers(2**63, size=3))
    count = max(SEARCH_LEVELS, 4 * most)
    levels = (1 + np.cos(np.pi * np.arange(count + 1) / count)) / 2
    levels[-1] = 0.0
    if _is_exact(source, method):
        costs = np.full((count + 1, count + 1), np.inf)
        for i in range(count):
            costs[i, i + 1 :] = _step_kls(source.joint(), levels[i], levels[i + 1 :])
    else:
        room = max(SEARCH_TOKENS // (levels.size * source.length), 2)
        few = MonteCarlo(n_samples=min(SEARCH_SAMPLES, room))
        costs = _Sample(source, few, streams[0]).costs(levels)
    found = []
    for N in Ns:
        best = best_of(levels, lambda start, stop: costs, N)
        if not _is_exact(source, method):
            even = np.linspace(1, 0, N + 1)
            grids = [best, even, (1 + np.cos(np.pi * (1 - even))) / 2]
            grids[-1][-1] = 0.0
            kls = [replacing_kl(source, grid, method=few, key=streams[2]) for grid in grids]
            best = grids[int(np.argmin([float(one.value) for one in kls]))]
        kl = replacing_kl(source, best, method=method, key=streams[1])
        if kl.is_sampled:
            kl = dataclasses.replace(kl, seed=seed_of(key), draws=draws_of(key))
        found.append(ReplacingSteps(best, kl))
    return found


def replacing_law(source: Source, grid: Float[Any, " points"]) -> GeneratedLaw:
    """The law of the tokens that N steps generate, and KL(source || it); exact.

    The product of the steps' kernels on all K^length sequences.

    Args:
        source: a law of short sequences: K^(2 length) of at most 2**28.
        grid: (N + 1,) levels of replaced tokens, falling from 1 to 0.

    Raises:
        ValueError: no such grid, a level so near 0 that its powers underflow, or longer sequences.

    Example:
        >>> import tokenkl as tk
        >>> copied = tk.sources.Joint([[0.5, 0.0], [0.0, 0.5]])
        >>> found = tk.context.replacing_law(copied, [1.0, 0.5, 0.0])
        >>> found.law.round(6).tolist(), round(float(found.kl), 6)
        ([[0.33, 0.17], [0.17, 0.33]], 0.415515)
    """
    levels = check_steps(grid, "grid", 1.0, 0.0)
    L, K = source.length, source.K
    if 2 * L * math.log(K) > math.log(MOST_PAIRS):
        reject("the source", f"{K} tokens and length {L}", "K^(2 length) up to 2**28")
    least = math.exp(math.log(TINY) / L)  # so that all tokens but one are replaced in numbers
    if levels[-2] < least * K:
        reject("grid", float(levels[-2]), f"0 or at least {least * K:.1g} at length {L}")
    joint, half = source.joint(), L // 2
    law = np.full(K**L, K**-L)
    ids = np.stack(np.unravel_index(np.arange(K**L), (K,) * L))
    for start, stop in itertools.pairwise(levels):
        kernels = []
        for i in range(L):
            others = np.moveaxis(_noisy(joint, start, skip=i), i, -1)
            rows = others[tuple(np.delete(ids, i, axis=0))]
            kernels.append(_drawn(rows, ids[i], start, stop))
        after = np.zeros((K**half, K ** (L - half)))
        block = max(1, BLOCK // K ** (L - half))
        for first in range(0, law.size, block):
            part = slice(first, first + block)
            sides = [law[part, None], np.ones((law[part].size, 1))]
            for i, kernel in enumerate(kernels):
                side = sides[i >= half]
                sides[i >= half] = (side[:, :, None] * kernel[part, None]).reshape(len(side), -1)
            after += sides[0].T @ sides[1]
        law = after.ravel()
    return generated(source, law.reshape((K,) * L), 4 * levels.size * (K**L + 8 * L))


# ---- Pieces -----------------------------------------------------------------------------------


def _is_exact(source: Source, method: Method | None) -> bool:
    check_method(method, Exact, MonteCarlo, targets=False)
    few = source.length * math.log(source.K) <= math.log(MOST_LISTED)
    if isinstance(method, Exact) and not few:
        where = f"Exact() for {source.K}^{source.length} sequences"
        reject("method", where, f"MonteCarlo(...) for more than {MOST_LISTED:,}")
    return few and not isinstance(method, MonteCarlo)


def _between(start: Any, stop: Any) -> Any:
    """The level of noise that leads from `stop` to `start`, the noisier one."""
    return (start - stop) / (1 - stop)


def _row_entropy(level: Any, K: int) -> Any:
    """Entropy of what is seen of a known token."""
    other = np.asarray(level) / K
    return special.entr(1 - (K - 1) * other) + (K - 1) * special.entr(other)


def _noisy(law: np.ndarray, level: float, skip: int = -1) -> np.ndarray:
    """The law of a sequence behind the noise, but for one position."""
    for axis in range(law.ndim):
        if axis != skip:
            law = (1 - level) * law + level * law.mean(axis=axis, keepdims=True)
    return law


def _step_kls(law: np.ndarray, start: float, stops: np.ndarray) -> Float[np.ndarray, " stops"]:
    """Costs of steps, by the entropies of sequences with none, one and all tokens moved."""
    noisy = entropy_of(_noisy(law, start))
    but_one = [_noisy(law, start, skip=axis) for axis in range(law.ndim)]
    found = []
    for stop in stops:
        gain = 0.0
        for axis, one in enumerate(but_one):
            moved = (1 - stop) * one + stop * one.mean(axis=axis, keepdims=True)
            gain += noisy - entropy_of(moved)
        found.append(noisy - entropy_of(_noisy(law, stop)) - gain)
    return np.array(found)


def _drawn(
    messages: Float[np.ndarray, "*batch K"],
    seen: Int[np.ndarray, " *batch"],
    start: float,
    stop: Any,
) -> Float[np.ndarray, "*batch K"]:
    """p(Z_b,i | Z_a) from P(k_i | the other tokens of Z_a), up to a factor, and the token there."""
    K, rate = messages.shape[-1], _between(start, stop)
    law = (1 - stop) * messages + stop * messages.mean(axis=-1, keepdims=True)
    law = law * (rate / K + (1 - rate) * (np.arange(K) == seen[..., None]))
    found: np.ndarray = law / law.sum(axis=-1, keepdims=True)
    return found


def _likelihood(source: Source, seen: np.ndarray, level: float) -> np.ndarray:
    """log p(Z_i | k_i = k): the posterior under equal priors, since over k it sums to 1."""
    channel = UniformNoise(np.full(source.K, 1 / source.K))
    return np.asarray(channel.log_posterior(seen, level))


class _Sample:
    """Sequences, and their noisy versions with noise that is common to all levels."""

    def __init__(self, source: Source, method: Any, key: Any) -> None:
        if key is None:
            reject("key", "None", "an integer seed or a JAX key, since this source is sampled")
        self.size = (method.n_samples if method else None) or DEFAULT_SAMPLES
        shape = (self.size, source.length)
        if self.size * source.length * source.K > MAX_ELEMENTS:
            reject("n_samples", self.size, f"few enough for {MAX_ELEMENTS:,} numbers")
        self.source, self.key, self.marginals = source, key, source.marginals()
        self.tokens = source.sample(self.size, key=key)
        self.once = seen_once(labels_of(self.tokens))
        rng = generator(key, 1)
        self.place, self.other = rng.random(shape), rng.integers(source.K, size=shape)

    def at(self, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Messages, log p(Z), and Z at a level."""
        seen = np.where(self.place < level, self.other, self.tokens)
        messages, evidence = self.source.messages(_likelihood(self.source, seen, level))
        return np.exp(messages), evidence, seen

    def dependence(self, level: float) -> tuple[np.ndarray, float]:
        """-log p(Z) less what it is for independent tokens, by sample, and the mean of that."""
        _, evidence, seen = self.at(level)
        laws = (1 - level) * self.marginals + level / self.source.K
        apart = np.log(laws[np.arange(self.source.length), seen]).sum(axis=1)
        return apart - evidence, float(entropies(laws).sum())

    def chain(self, levels: Float[np.ndarray, " points"]) -> list[Int[np.ndarray, "N length"]]:
        """States at falling levels that end at 0, made as noise is: from the data up."""
        rng, K = generator(self.key, 2), self.source.K
        states = [self.tokens]
        for stop, start in itertools.pairwise(levels[::-1]):
            clean, fresh = states[-1], rng.integers(K, size=self.tokens.shape)
            states.append(np.where(rng.random(fresh.shape) < _between(start, stop), fresh, clean))
        return states[::-1]

    def losses(
        self, start: float, seen: np.ndarray, stops: np.ndarray, states: np.ndarray
    ) -> Float[np.ndarray, "stops N"]:
        """log p(Z_a | Z_b) - sum_i log p(Z_b,i | Z_a) of steps from one level to others.

        The law of the noise is in both, and cancels; the rest of log p(Z_b | Z_a), which is
        log p(Z_b) - log p(Z_a), is the same in the end on every way.
        """
        found = self.source.messages(_likelihood(self.source, seen, start))[0]
        messages, K = np.exp(found), self.source.K
        stop = stops[:, None, None]
        rate = _between(start, stop)
        own = np.take_along_axis(messages, seen[..., None], axis=-1)[..., 0]
        other = np.stack(
            [np.take_along_axis(messages, one[..., None], axis=-1)[..., 0] for one in states]
        )
        total = rate / K + (1 - rate) * ((1 - stop) * own + stop / K)
        return np.asarray(np.log(total / ((1 - stop) * other + stop / K)).sum(axis=-1))

    def log_ratio(self, levels: Float[np.ndarray, " points"]) -> Float[np.ndarray, " samples"]:
        """log of the law of the states over that of the sampler, along sampled chains."""
        states = self.chain(levels)
        found = self.source.log_prob(self.tokens) + self.source.length * math.log(self.source.K)
        for index, start in enumerate(levels[:-1]):
            after = slice(index + 1, index + 2)
            step = self.losses(start, states[index], levels[after], np.array(states[after]))
            found = found + step[0]
        return found

    def costs(self, levels: Float[np.ndarray, " levels"]) -> Float[np.ndarray, "levels levels"]:
        """Mean losses of the steps between all levels, along one chain through all of them."""
        states = np.array(self.chain(levels))
        found = np.full((levels.size, levels.size), np.inf)
        for index, start in enumerate(levels[:-1]):
            after = slice(index + 1, None)
            step = self.losses(start, states[index], levels[after], states[after])
            found[index, after] = step.mean(axis=1)
        return found

    def estimate(self, rows: np.ndarray, reach: float, more: np.ndarray, **named: Any) -> Estimate:
        """The mean of the last axis, and what is added without a sample."""
        moments, shape = Moments(rows.shape[:-1] or (1,)), more.shape
        moments.add(np.atleast_2d(rows))
        supported = moments.carried() & (self.size >= MIN_EFFECTIVE)
        supported &= represented(self.once, self.size, moments.standard_error, reach)
        return Estimate(
            moments.mean.reshape(shape) + more,
            moments.standard_error.reshape(shape),
            1e-12 * reach,
            n_samples=self.size,
            method="Monte-Carlo",
            seed=seed_of(self.key),
            draws=draws_of(self.key),
            interval_supported=supported.reshape(shape),
            sample_range=reach,
            skewness=moments.skewness.reshape(shape),
            **named,
        )
