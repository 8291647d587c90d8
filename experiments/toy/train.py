"""Training: cross-entropy at uniform times, all seeds at once, snapshots at several budgets."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from experiments.toy.data import Chain
from experiments.toy.model import noise_level

#: Training steps in one compiled call.
CHUNK = 250
WARM_UP = 100
EMA = 0.998


def draw_tokens(
    key: Any, start: Float[Array, " K"], transition: Float[Array, "K K"], length: int, batch: int
) -> Array:
    """Sequences from the chain, (batch, length), by inversion of the cumulative laws."""
    uniform = jax.random.uniform(key, (length, batch))
    limit = start.shape[0] - 1
    ids = [jnp.minimum(jnp.searchsorted(jnp.cumsum(start), uniform[0]), limit)]
    rows = jnp.cumsum(transition, axis=1)
    for position in range(1, length):
        below = rows[ids[-1]] < uniform[position][:, None]
        ids.append(jnp.minimum(below.sum(axis=1), limit))
    return jnp.stack(ids, axis=1)


def loss(network: Any, given: Float[Array, "K m"], tokens: Array, key: Any) -> Float[Array, ""]:
    """Mean cross-entropy of a token, at times that fill [0, 1] evenly from a random offset."""
    batch = tokens.shape[0]
    offset, noise = jax.random.split(key)
    t = (jnp.arange(batch) + jax.random.uniform(offset)) / batch
    alpha, sigma = noise_level(t)
    clean = network.points(given)[tokens]
    x = alpha[:, None, None] * clean
    x = x + sigma[:, None, None] * jax.random.normal(noise, clean.shape)
    logits = network(x, t)
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens).mean()


@functools.partial(jax.jit, static_argnames=("batch", "rate", "static", "steps"))
def _advance(
    dynamic: Any,
    average: Any,
    state: Any,
    given: Any,
    start: Any,
    transition: Any,
    keys: Any,
    first: Any,
    *,
    batch: int,
    rate: float,
    static: Any,
    steps: int,
) -> Any:
    """`steps` training steps of every seed (leading axis of all arrays)."""
    optimiser = _optimiser(rate)

    def one_seed(
        dynamic: Any, average: Any, state: Any, given: Any, start: Any, rows: Any, key: Any
    ) -> Any:
        def step(carry: Any, number: Any) -> Any:
            dynamic, average, state = carry
            data, noise = jax.random.split(jax.random.fold_in(key, number))
            length = eqx.combine(dynamic, static).length
            tokens = draw_tokens(data, start, rows, length, batch)
            value, slope = jax.value_and_grad(
                lambda d: loss(eqx.combine(d, static), given, tokens, noise)
            )(dynamic)
            change, state = optimiser.update(slope, state, dynamic)
            dynamic = optax.apply_updates(dynamic, change)
            # The average forgets its start: its memory grows with the number of steps.
            keep = jnp.minimum(EMA, (1 + number) / (10 + number))
            average = jax.tree.map(lambda a, d: keep * a + (1 - keep) * d, average, dynamic)
            return (dynamic, average, state), value

        return jax.lax.scan(step, (dynamic, average, state), first + jnp.arange(steps))

    return jax.vmap(one_seed)(dynamic, average, state, given, start, transition, keys)


def _optimiser(rate: float) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.linear_schedule(0.0, rate, WARM_UP)),
    )


def train(
    points: Float[np.ndarray, "seeds K m"],
    chains: list[Chain],
    network: Callable[..., Any],
    *,
    power: float,
    budgets: tuple[int, ...],
    batch: int,
    rate: float,
    seed: int,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Any]:
    """Networks (all seeds stacked on the leading axis) after each number of training steps.

    `network` makes one of points, length, power and key: the classes of `model`, with their sizes.
    Every snapshot is the running average of the weights. Initial weights, token sequences and
    times depend on the seed only, so that tokenizations are compared on the same draws.
    """
    seeds = len(chains)
    key = jax.random.key(seed)
    keys = jax.random.split(key, seeds)
    given = jnp.asarray(points, dtype=jnp.float32)
    start = jnp.asarray(np.stack([chain.start for chain in chains]), dtype=jnp.float32)
    rows = jnp.asarray(np.stack([chain.transition for chain in chains]), dtype=jnp.float32)
    build = functools.partial(network, length=chains[0].length, power=power)
    stacked = eqx.filter_vmap(lambda p, k: build(p, key=k))(given, keys)
    dynamic, static = eqx.partition(stacked, eqx.is_array)
    state = jax.vmap(_optimiser(rate).init)(dynamic)
    average, done = dynamic, 0
    snapshots = []
    for budget in budgets:
        while done < budget:
            steps = min(CHUNK, budget - done)
            (dynamic, average, state), _ = _advance(
                dynamic,
                average,
                state,
                given,
                start,
                rows,
                keys,
                done,
                batch=batch,
                rate=rate,
                static=static,
                steps=steps,
            )
            done += steps
            jax.block_until_ready(average)
            progress(done / budgets[-1])
        snapshots.append(eqx.combine(average, static))
    return snapshots
