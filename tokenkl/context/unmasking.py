"""Masked diffusion of a source: what it costs to unmask several tokens in one step.

Tokens are revealed at random times: after share s of the way each is shown with the probability s,
independently. With the exact law of every hidden token given those shown, each step draws all its
new tokens at once, as if they were independent. With g(s) = H(tokens shown at s) and f = g',

    f(s) = sum_i E H(k_i | tokens shown of the others),        f falls, int_0^1 f = H(X),

the KL of the joint laws of tokens and times of N steps s_0 = 0 < ... < s_N = 1 is

    sum_j (s_(j+1) - s_j) f(s_j) - H(X),

the left Riemann error of f: the twin of `ancestral_kl` (Chen, Cong, Li 2025, arXiv 2511.04647). The
generated tokens alone are closer to the source, see `unmasking_law`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import MAX_ELEMENTS, check_count, check_time, reject
from tokenkl.context.generated import GeneratedLaw, check_steps, generated
from tokenkl.estimate import Estimate
from tokenkl.information.methods import Exact, Method, MonteCarlo, check_method
from tokenkl.numerics.laws import entropies
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments
from tokenkl.numerics.paths import best_of, refined
from tokenkl.numerics.unseen import labels_of, represented, seen_once
from tokenkl.sources import Source
from tokenkl.sources.base import BLOCK

DEFAULT_SAMPLES = 2**12
#: Shares among which the search for the best steps starts, at least.
SEARCH_LEVELS = 400
EPS = np.finfo(float).eps


@dataclasses.dataclass(frozen=True, eq=False)
class UnmaskingSteps:
    """Shares of shown tokens after each step, and the `unmasking_kl` of these steps."""

    shown: Float[np.ndarray, " points"]
    kl: Estimate

    @property
    def N(self) -> int:
        """Number of steps."""
        return self.shown.size - 1


def unmasking_curve(
    source: Source, shown: Float[Any, " *shape"], *, method: Method | None = None, key: Any = None
) -> Estimate:
    """f(s) = sum_i E H(k_i | the other tokens, each shown with probability s); nats.

    What the tokens tell that are shown next, per unit of s: it falls, and its integral is H(X). A
    polynomial in s, whose coefficients are mean entropies of m of the tokens. Exact for `Markov`
    chains of any length and up to thousands of tokens, and for sources of few sequences; elsewhere
    sampled: sequences, random orders, and the exact law of each hidden token given those before it.

    Args:
        source: the law of the sequences.
        shown: shares s in [0, 1].
        method: `Exact()`, `MonteCarlo(n_samples=...)` or None: exact where it can be had.
        key: integer seed or JAX key, where something is sampled.

    Raises:
        ValueError: shares outside [0, 1], no exact value of this source, or no key.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=8)
        >>> tk.context.unmasking_curve(chain, [0.0, 0.5, 1.0]).value.round(4).tolist()
        [5.5452, 2.6719, 1.7228]
    """
    share = check_time(shown, "shown")
    gains = _gains_of(source, method, key)
    weights = _binomial(np.arange(source.length), source.length - 1, share[..., None])
    return gains.weighted(weights, "entropy of hidden tokens", float(source.length))


def unmasking_information(
    source: Source, shown: Float[Any, " *shape"], *, method: Method | None = None, key: Any = None
) -> Estimate:
    """g(s) = I(X; tokens that are shown, each with probability s), the integral of f; nats.

    Args, result and errors as in `unmasking_curve`.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=8)
        >>> gained = tk.context.unmasking_information(chain, [0.5, 1.0])
        >>> gained.value.round(4).tolist(), round(chain.entropy(), 4)
        ([1.9052, 2.9687], 2.9687)
    """
    share = check_time(shown, "shown")
    gains = _gains_of(source, method, key)
    return gains.weighted(_areas(source.length, share), "mutual information", 1.0)


def unmasking_kl(
    source: Source, grid: Float[Any, " points"], *, method: Method | None = None, key: Any = None
) -> Estimate:
    """KL of parallel unmasking in N steps with exact conditional laws, times included; nats.

    The left Riemann error of `unmasking_curve` on the grid. It bounds the KL of the generated
    tokens (`unmasking_law`) from above, and is more than that where the times vary.

    Args:
        source: the law of the sequences.
        grid: (N + 1,) shares of shown tokens, rising from 0 to 1.
        method, key: as in `unmasking_curve`.

    Raises:
        ValueError: as `unmasking_curve`, or no such grid.

    Example: two equal tokens, in one step and in two.
        >>> import tokenkl as tk
        >>> copied = tk.sources.Joint([[0.5, 0.0], [0.0, 0.5]])
        >>> one, two = (tk.context.unmasking_kl(copied, g) for g in ([0, 1], [0, 0.5, 1]))
        >>> round(float(one), 6), round(float(two), 6)
        (0.693147, 0.346574)
    """
    shown = check_steps(grid, "grid", 0.0, 1.0)
    gains = _gains_of(source, method, key)
    return gains.weighted(_step_weights(source.length, shown), "unmasking KL", 1.0)


def unmasking_steps(
    source: Source, Ns: Sequence[int], *, method: Method | None = None, key: Any = None
) -> list[UnmaskingSteps]:
    """For each N the shares of shown tokens with the smallest `unmasking_kl` in N steps.

    The best of all grids among 400 shares or more by a shortest path, then refined as in
    `optimal_steps`, to a stationary point. Sampled: grids are chosen on one set of samples and
    valued on another.

    Args:
        source: the law of the sequences.
        Ns: numbers of steps, each at least 1.
        method, key: as in `unmasking_curve`.

    Raises:
        ValueError: as `unmasking_curve`, or a number of steps below 1.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.1, 0.9]], length=8)
        >>> best = tk.context.unmasking_steps(chain, [4])[0]
        >>> best.shown.round(3).tolist(), round(float(best.kl), 4)
        ([0.0, 0.164, 0.37, 0.64, 1.0], 0.4751)
    """
    most = max((check_count(N, "Ns") for N in Ns), default=1)
    streams = (key, key) if key is None else tuple(generator(key).integers(2**63, size=2))
    cost = functools.partial(_cost, _gains_of(source, method, streams[0]).mean)
    levels = np.linspace(0, 1, max(SEARCH_LEVELS, 4 * most) + 1)
    found = []
    for N in Ns:
        shown = refined(best_of(levels, cost, N), cost)
        shown[0], shown[-1] = 0.0, 1.0
        kl = unmasking_kl(source, shown, method=method, key=streams[1])
        if kl.is_sampled:
            kl = dataclasses.replace(kl, seed=seed_of(key), draws=draws_of(key))
        found.append(UnmaskingSteps(shown, kl))
    return found


def unmasking_law(source: Source, grid: Float[Any, " points"]) -> GeneratedLaw:
    """The law of the tokens that N steps of parallel unmasking generate, and KL(P || it); exact.

    By recursion over all sets of shown tokens, with every content. Two tokens in two equal steps:
    half of the source and half of the product of its marginals, (P + P_1 P_2) / 2. Where tokens
    that were drawn together contradict each other, the next ones are uniform; this is nothing to
    the KL, since no such sequence occurs.

    Args:
        source: a law of short sequences: (2 K + 1)^length of at most 2**26.
        grid: (N + 1,) shares of shown tokens, rising from 0 to 1.

    Raises:
        ValueError: no such grid, or longer sequences.

    Example:
        >>> import tokenkl as tk
        >>> copied = tk.sources.Joint([[0.5, 0.0], [0.0, 0.5]])
        >>> found = tk.context.unmasking_law(copied, [0.0, 0.5, 1.0])
        >>> found.law.tolist(), round(float(found.kl), 6)
        ([[0.375, 0.125], [0.125, 0.375]], 0.287682)
    """
    shown = check_steps(grid, "grid", 0.0, 1.0)
    L = source.length
    if L * math.log(2 * source.K + 1) > math.log(MAX_ELEMENTS):
        reject("the source", f"{source.K} tokens and length {L}", "(2 K + 1)^length up to 2**26")
    joint, everything = source.joint(), (1 << L) - 1
    marginals = [
        joint.sum(axis=tuple(i for i in range(L) if not kept >> i & 1), keepdims=True)
        for kept in range(everything + 1)
    ]

    @functools.cache
    def fresh(kept: int, new: int) -> np.ndarray:
        """The product of the laws of some hidden tokens given those that are shown."""
        if not new:
            return np.ones((1,) * L)
        last = new & -new
        before = marginals[kept]
        law = np.full(marginals[kept | last].shape, 1 / source.K)
        np.divide(marginals[kept | last], before, out=law, where=before > 0)
        return fresh(kept, new ^ last) * law

    state = {0: np.ones((1,) * L)}
    for start, stop in itertools.pairwise(shown):
        share = 1.0 if stop == 1 else (stop - start) / (1 - start)
        after: dict[int, Any] = {}
        for kept, weight in state.items():
            hidden = everything & ~kept
            for new in _subsets(hidden):
                count, left = new.bit_count(), (hidden & ~new).bit_count()
                chance = share**count * (1 - share) ** left
                if chance > 0:
                    moved = weight * fresh(kept, new) * chance
                    after[kept | new] = after.get(kept | new, 0.0) + moved
        state = after
    return generated(source, state[everything], (shown.size + 2) * (L + 4))


# ---- Pieces -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Gains:
    """F_m, m < L: L times what a token tells after m random others; exact, or by sample in rows."""

    rows: Float[np.ndarray, "samples length"]
    error: float
    reach: float
    key: Any
    once: int = 0

    @property
    def mean(self) -> Float[np.ndarray, " length"]:
        return self.rows.mean(axis=0)

    def weighted(self, weights: Float[np.ndarray, "*shape length"], name: str, top: float) -> Any:
        """Sums with these weights; no draw of one is above `top` times the log of the tokens."""
        named: dict[str, Any] = {"quantity": name, "unit": "nats"}
        size = np.abs(weights).sum(axis=-1)
        last = self.rows[:, -1:]
        # Differences from the last one, since many weights sum to nearly nothing.
        values = (self.rows - last) @ weights.reshape(-1, self.rows.shape[1]).T
        values = (values + last * weights.sum(axis=-1).ravel()).T
        if len(self.rows) == 1:
            value = values[:, 0].reshape(size.shape)
            return Estimate(value, 0.0, self.error * size, method="exact", **named)
        moments = Moments((len(values),))
        moments.add(values)
        shape = size.shape
        supported = moments.carried() & (moments.effective() >= MIN_EFFECTIVE)
        reach = size.ravel() * self.reach
        supported &= represented(self.once, len(self.rows), moments.standard_error, reach)
        return Estimate(
            moments.mean.reshape(shape),
            moments.standard_error.reshape(shape),
            self.error * size,
            n_samples=len(self.rows),
            method="Monte-Carlo over orders",
            seed=seed_of(self.key),
            draws=draws_of(self.key),
            interval_supported=supported.reshape(shape),
            sample_range=float(size.max(initial=0.0)) * self.reach,
            skewness=moments.skewness.reshape(shape),
            **named,
        )


def _gains_of(source: Source, method: Method | None, key: Any) -> _Gains:
    check_method(method, Exact, MonteCarlo, targets=False)
    L, top = source.length, source.length * math.log(source.K)
    if source.knows_mean_entropies and not isinstance(method, MonteCarlo):
        mean = source.mean_entropies()
        return _Gains(L * np.diff(mean)[None], 4 * EPS * L * (L + float(mean[-1])), top, None)
    if isinstance(method, Exact):
        reject("method", f"Exact() for {source.K} tokens and length {L}", "MonteCarlo(...)")
    if key is None:
        reject("key", "None", "an integer seed or a JAX key, since this source is sampled")
    size = (method.n_samples if method else None) or DEFAULT_SAMPLES
    tokens = source.sample(size, key=key)
    order = generator(key, 1).permuted(np.tile(np.arange(L), (size, 1)), axis=1).argsort(axis=1)
    rows = np.empty((size, L))
    block = max(1, BLOCK // (L * source.K))
    for first in range(0, size, block):
        part = slice(first, first + block)
        clean = np.full((*tokens[part].shape, source.K), -np.inf)
        np.put_along_axis(clean, tokens[part][..., None], 0.0, axis=-1)
        for m in range(L):
            hidden = order[part] >= m
            law = np.exp(source.messages(np.where(hidden[..., None], 0.0, clean))[0])
            left = entropies(law)
            rows[part, m] = np.where(hidden, left, 0.0).sum(axis=1) * (L / (L - m))
    return _Gains(rows, 1e-12 * top, top, key, seen_once(labels_of(tokens)))


def _areas(length: int, share: Float[np.ndarray, " *shape"]) -> Float[np.ndarray, "*shape length"]:
    """Integrals of the polynomials up to s, by coefficient."""
    m = np.arange(length)
    return np.asarray(special.betainc(m + 1, length - m, share[..., None]) / length)


def _step_weights(length: int, shown: np.ndarray) -> Float[np.ndarray, " length"]:
    """What each F_m adds to the KL of a grid."""
    rectangles = _binomial(np.arange(length), length - 1, shown[:-1, None])
    return np.diff(shown) @ rectangles - 1 / length


def _cost(gains: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Cost of the steps from every `start` to every `stop` (last axes); infinite backwards."""
    length = gains.size
    gains = gains - gains[-1]
    rate = _binomial(np.arange(length), length - 1, start[..., None]) @ gains
    area = [_areas(length, np.asarray(x)) @ gains for x in (start, stop)]
    step = stop[..., None, :] - start[..., :, None]
    spent = rate[..., :, None] * step - (area[1][..., None, :] - area[0][..., :, None])
    return np.where(step > 0, spent, np.inf)


def _subsets(bits: int) -> Iterator[int]:
    """All sets within a set, as bits."""
    part = bits
    while True:
        yield part
        if not part:
            return
        part = (part - 1) & bits


def _binomial(
    count: Int[np.ndarray, " m"], of: int, share: Float[np.ndarray, "*shape 1"]
) -> Float[np.ndarray, "*shape m"]:
    """Probabilities of these counts."""
    from scipy import stats  # half a second, and not where torch is blocked

    found: np.ndarray = stats.binom.pmf(count, of, share)
    return found
