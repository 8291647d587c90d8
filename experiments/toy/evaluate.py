"""Sampling, KL(data || generated) from counts, and the exact denoiser of the same law."""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import special

from experiments.toy.data import Chain
from experiments.toy.model import noise_level
from tokenkl.samplers import Level, Sampler, as_sampler

#: Sequences that are sampled together, for every seed.
BLOCK = 2048


# ---- KL(data || generated) ------------------------------------------------------------------


def kl_from_counts(
    law: Float[np.ndarray, " states"], counts: Int[np.ndarray, " states"]
) -> tuple[float, float]:
    """KL(law || generated) and its standard error, from counts of M generated states; nats.

    For a count c ~ Binomial(M, q), E[psi(M + 1) - psi(c + 1)] = sum_{j=1}^M (1 - q)^j / j, which is
    -log q up to a term below (1 - q)^M / (M q). Weighted by the law, this leaves no bias where M q
    is above about 5 for every state (see `pool`), while the plug-in estimate has one of about
    (states - 1) / (2 M). The standard error is that of the first order; the half that is added to
    the counts makes it right at KL = 0 too, where the variance is states / (2 M^2).
    """
    total = int(counts.sum())
    terms = np.log(law) + special.digamma(total + 1) - special.digamma(counts + 1)
    spread = float((law**2 / (counts + 0.5)).sum()) * total - 1
    return float(law @ terms), float(np.sqrt(max(spread, 0) / total))


def pool(law: Float[np.ndarray, " states"], least: float) -> Int[np.ndarray, " states"]:
    """A group number for every state: rare states together, so that each group has mass `least`.

    States are taken in the order of their probabilities. The KL between laws of groups is at most
    that of the states; the groups depend on the law alone, so they are fair to what is compared.
    """
    groups = np.zeros(law.size, dtype=int)
    number, mass = 0, 0.0
    for state in np.argsort(law, kind="stable"):
        if mass >= least:
            number, mass = number + 1, 0.0
        groups[state] = number
        mass += law[state]
    if mass < least and number > 0:
        groups[groups == number] = number - 1
    return groups


def pooled_kl(
    law: Float[np.ndarray, " states"], counts: Int[np.ndarray, " states"], least: float
) -> tuple[float, float]:
    """`kl_from_counts` of groups of states, each of this mass at least."""
    groups = pool(law, least)
    return kl_from_counts(np.bincount(groups, law), np.bincount(groups, counts))


def window_kl(
    laws: Float[np.ndarray, "windows states"],
    counts: Int[np.ndarray, "windows states"],
    least: float,
) -> tuple[float, float]:
    """Mean of `pooled_kl` over windows, and a standard error.

    Windows of one sequence are dependent, in a way that is not known: the error of the mean is at
    most the mean of the errors, which is what is returned.
    """
    found = [pooled_kl(law, own, least) for law, own in zip(laws, counts, strict=True)]
    value, error = np.mean(found, axis=0)
    return float(value), float(error)


# ---- Denoisers ------------------------------------------------------------------------------


class ExactDenoiser(eqx.Module):
    """log p(token at each position | the whole noisy sequence), by the forward-backward recursion.

    Called as a `Network` is.
    """

    log_start: Float[Array, " K"]
    transition: Float[Array, "K K"]
    given: Float[Array, "K m"]

    def points(self, given: Float[Array, "K m"]) -> Float[Array, "K m"]:
        """The points of the codebook, as they are."""
        return given

    def __call__(
        self,
        x: Float[Array, "batch length m"],
        t: Float[Array, " times"],
    ) -> Float[Array, "batch length K"]:
        """Log-probabilities of every token at every position."""
        e = self.given
        alpha, sigma = noise_level(t)
        ratio = (alpha / sigma**2)[:, None, None]
        snr = ((alpha / sigma) ** 2)[:, None, None]
        local = ratio * (x @ e.T) - snr * (e**2).sum(axis=1) / 2
        length = x.shape[1]
        forward = [jax.nn.log_softmax(self.log_start + local[:, 0])]
        for position in range(1, length):
            step = jnp.log(jnp.exp(forward[-1]) @ self.transition)
            forward.append(jax.nn.log_softmax(step + local[:, position]))
        backward = [jnp.zeros_like(forward[0])]
        for position in range(length - 1, 0, -1):
            weight = jax.nn.softmax(backward[0] + local[:, position])
            backward.insert(0, jnp.log(weight @ self.transition.T))
        both = [f + b for f, b in zip(forward, backward, strict=True)]
        return jax.nn.log_softmax(jnp.stack(both, axis=1))


# ---- Samplers -------------------------------------------------------------------------------


def times(steps: int, most: int) -> Float[np.ndarray, " most"]:
    """1, 1 - 1/N, ..., 1/N, 0 and zeros up to a common length."""
    out = np.zeros(most + 1)
    out[: steps + 1] = 1 - np.arange(steps + 1) / steps
    return out


def sample_ids(
    denoiser: Any,
    given: Float[Array, "K m"],
    key: Any,
    t: Float[Array, " most"],
    steps: Int[Array, ""],
    sampler: Sampler,
    shape: tuple[int, int],
) -> Int[Array, "batch length"]:
    """Token sequences from noise in `steps` evaluations of the denoiser.

    A sampler that draws its steps draws the token from p_theta at the last evaluation; another one
    (DDIM) takes the most probable token, as CDCD does.
    """
    points = denoiser.points(given)
    noise, walk, last = jax.random.split(key, 3)
    x = jax.random.normal(noise, (*shape, points.shape[1]))

    def step(number: Any, x: Any) -> Any:
        now, after = t[number], t[number + 1]
        mean = jax.nn.softmax(denoiser(x, now[None])) @ points
        levels = Level(*noise_level(now)), Level(*noise_level(after))
        draws = sampler.draws
        z = jax.random.normal(jax.random.fold_in(walk, number), x.shape) if draws else None
        return sampler.step(x, mean, *levels, z)

    x = jax.lax.fori_loop(0, steps - 1, step, x)
    logits = denoiser(x, t[steps - 1][None])
    if sampler.draws:
        return jax.random.categorical(last, logits)
    return jnp.argmax(logits, axis=-1)


@functools.partial(jax.jit, static_argnames=("static", "sampler", "length", "widths", "blocks"))
def _counts(
    dynamic: Any,
    given: Any,
    keys: Any,
    t: Any,
    steps: Any,
    *,
    static: Any,
    sampler: Sampler,
    length: int,
    widths: tuple[int, ...],
    blocks: int,
) -> Any:
    K = given.shape[1]

    def one_seed(dynamic: Any, given: Any, key: Any) -> Any:
        denoiser = eqx.combine(dynamic, static)

        def block(number: Any, counts: Any) -> Any:
            inner = jax.random.fold_in(key, number)
            ids = sample_ids(denoiser, given, inner, t, steps, sampler, (BLOCK, length))
            return [_counted(own, ids) for own in counts]

        none = [jnp.zeros((length - w + 1, K**w), dtype=jnp.int32) for w in widths]
        return jax.lax.fori_loop(0, blocks, block, none)

    def _counted(counts: Any, ids: Any) -> Any:
        windows = counts.shape[0]
        width = length - windows + 1
        states = sum(ids[:, i : i + windows] * K ** (width - 1 - i) for i in range(width))
        return counts.at[jnp.arange(windows), states].add(1)

    return jax.vmap(one_seed)(dynamic, given, keys)


def window_counts(
    denoiser: Any,
    points: Float[Any, "seeds K m"],
    *,
    steps: int,
    most_steps: int,
    sampler: Sampler | str,
    n_samples: int,
    length: int,
    widths: tuple[int, ...],
    seed: int,
) -> list[Int[np.ndarray, "seeds windows states"]]:
    """How often each window of every width is generated, for every seed of a stacked denoiser.

    `n_samples` is rounded up to whole blocks. The noise depends on the seed and on the sampler,
    not on the denoiser.
    """
    dynamic, static = eqx.partition(denoiser, eqx.is_array)
    given = jnp.asarray(points, dtype=jnp.float32)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), given.shape[0])
    found = _counts(
        dynamic,
        given,
        keys,
        jnp.asarray(times(steps, most_steps), dtype=jnp.float32),
        steps,
        static=static,
        sampler=as_sampler(sampler),
        length=length,
        widths=widths,
        blocks=-(-n_samples // BLOCK),
    )
    return [np.asarray(one) for one in found]


def generated_counts(
    denoiser: Any, points: Float[Any, "seeds K m"], *, length: int, **how: Any
) -> Int[np.ndarray, "seeds states"]:
    """How often each whole sequence is generated; arguments as in `window_counts`."""
    [found] = window_counts(denoiser, points, length=length, widths=(length,), **how)
    return found[:, 0]


# ---- How far the network is from the exact denoiser -----------------------------------------


@functools.partial(jax.jit, static_argnames=("static", "static_exact"))
def _gaps(
    dynamic: Any,
    exact: Any,
    given: Any,
    tokens: Any,
    keys: Any,
    t: Any,
    *,
    static: Any,
    static_exact: Any,
) -> Any:
    def one_seed(dynamic: Any, exact: Any, given: Any, tokens: Any, key: Any) -> Any:
        network, truth = eqx.combine(dynamic, static), eqx.combine(exact, static_exact)
        points = network.points(given)
        clean = points[tokens]

        def at(pair: Any) -> Any:
            now, key = pair
            alpha, sigma = noise_level(now)
            x = alpha * clean + sigma * jax.random.normal(key, clean.shape)
            log_q = jax.nn.log_softmax(network(x, now[None]))
            log_p = truth(x, now[None])
            p, q = jnp.exp(log_p), jnp.exp(log_q)
            excess = (p * (log_p - log_q)).sum(axis=(1, 2))
            squared = (((q - p) @ points) ** 2).sum(axis=(1, 2))
            return jnp.stack([excess.mean(), squared.mean()])

        return jax.lax.map(at, (t, jax.random.split(key, t.size)))

    return jax.vmap(one_seed)(dynamic, exact, given, tokens, keys)


def denoiser_gaps(
    network: Any,
    exact: ExactDenoiser,
    points: Float[Any, "seeds K m"],
    chains: list[Chain],
    t: Float[np.ndarray, " times"],
    *,
    batch: int,
    seed: int,
) -> tuple[Float[np.ndarray, "seeds times"], Float[np.ndarray, "seeds times"]]:
    """Excess cross-entropy (summed over positions) and E|e_theta - e|^2 at every time."""
    dynamic, static = eqx.partition(network, eqx.is_array)
    dynamic_exact, static_exact = eqx.partition(exact, eqx.is_array)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 2), len(chains))
    tokens = np.stack([chain.sample(batch, seed + 17 * i) for i, chain in enumerate(chains)])
    found = np.asarray(
        _gaps(
            dynamic,
            dynamic_exact,
            jnp.asarray(points, dtype=jnp.float32),
            tokens,
            keys,
            jnp.asarray(t, dtype=jnp.float32),
            static=static,
            static_exact=static_exact,
        ),
        dtype=float,
    )
    return found[..., 0], found[..., 1]


def exact_denoiser(chains: list[Chain], points: Float[Any, "seeds K m"]) -> ExactDenoiser:
    """The exact denoisers of all seeds, stacked."""
    rows = np.stack([chain.transition for chain in chains])
    start = np.log(np.stack([chain.start for chain in chains]))
    return ExactDenoiser(*(jnp.asarray(a, dtype=jnp.float32) for a in (start, rows, points)))
