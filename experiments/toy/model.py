"""Networks: noisy points of a whole sequence in, logits of the clean tokens out."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: Fourier features of the time.
FREQUENCIES = 8
#: Attention heads of a transformer; they divide its width.
HEADS = 4


class Network(eqx.Module):
    """A residual multilayer perceptron p_theta(k | x, t), and the points of a learned embedding."""

    first: Float[Array, "inputs width"]
    time: Float[Array, "features width"]
    inner: Float[Array, "depth width width"]
    bias: Float[Array, "depth width"]
    last: Float[Array, "width outputs"]
    last_bias: Float[Array, " outputs"]
    embedding: Float[Array, "K m"] | None
    length: int = eqx.field(static=True)
    power: float = eqx.field(static=True)

    def __init__(
        self,
        points: Float[Any, "K m"],
        length: int,
        power: float,
        width: int,
        depth: int,
        key: Any,
        *,
        learned: bool,
    ) -> None:
        K, m = points.shape
        keys = jax.random.split(key, 4)
        self.first = jax.random.normal(keys[0], (length * m, width)) / jnp.sqrt(length * m)
        self.time = jax.random.normal(keys[1], (2 * FREQUENCIES, width)) / jnp.sqrt(FREQUENCIES)
        self.inner = jax.random.normal(keys[2], (depth, width, width)) / jnp.sqrt(width)
        self.bias = jnp.zeros((depth, width))
        self.last = 0.1 * jax.random.normal(keys[3], (width, length * K)) / jnp.sqrt(width)
        self.last_bias = jnp.zeros(length * K)
        self.embedding = jnp.asarray(points, dtype=jnp.float32) if learned else None
        self.length, self.power = length, power

    def points(self, given: Float[Array, "K m"]) -> Float[Array, "K m"]:
        """Where the tokens are: as given, or learned.

        A learned embedding has rows of one norm, as in CDCD (Dieleman et al. 2022), which keeps
        it from growing or collapsing; it is then centred and scaled to the common power.
        """
        if self.embedding is None:
            return given
        rows = self.embedding / jnp.linalg.norm(self.embedding, axis=1, keepdims=True)
        rows = rows - rows.mean(axis=0)
        return rows * jnp.sqrt(self.power / jnp.mean(jnp.sum(rows**2, axis=1)))

    def __call__(
        self,
        x: Float[Array, "batch length m"],
        t: Float[Array, " times"],
    ) -> Float[Array, "batch length K"]:
        """Logits of every token at every position; one time for each row of x, or one for all."""
        flat = unit_power(x, t, self.power).reshape(x.shape[0], -1)
        state = flat @ self.first + time_features(t) @ self.time
        for weight, bias in zip(self.inner, self.bias, strict=True):
            state = state + jax.nn.silu(state @ weight + bias)
        logits = jax.nn.silu(state) @ self.last + self.last_bias
        return logits.reshape(x.shape[0], self.length, -1)


class Block(eqx.Module):
    """Attention over positions and a layer at each, both residual and normalised before."""

    norms: tuple[eqx.nn.LayerNorm, eqx.nn.LayerNorm]
    attention: eqx.nn.MultiheadAttention
    up: Float[Array, "width inner"]
    bias: Float[Array, " inner"]
    down: Float[Array, "inner width"]

    def __init__(self, width: int, key: Any) -> None:
        keys = jax.random.split(key, 3)
        self.norms = (eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width))
        self.attention = eqx.nn.MultiheadAttention(HEADS, width, key=keys[0])
        self.up = jax.random.normal(keys[1], (width, 2 * width)) / jnp.sqrt(width)
        self.bias = jnp.zeros(2 * width)
        self.down = jax.random.normal(keys[2], (2 * width, width)) / jnp.sqrt(2 * width)

    def __call__(self, state: Float[Array, "length width"]) -> Float[Array, "length width"]:
        """One sequence."""
        before = jax.vmap(self.norms[0])(state)
        state = state + self.attention(before, before, before)
        inner = jax.nn.silu(jax.vmap(self.norms[1])(state) @ self.up + self.bias)
        return state + inner @ self.down


class Transformer(eqx.Module):
    """A small transformer p_theta(k | x, t) with learned positions, called as a `Network` is."""

    first: Float[Array, "m width"]
    place: Float[Array, "length width"]
    time: Float[Array, "features width"]
    blocks: tuple[Block, ...]
    norm: eqx.nn.LayerNorm
    last: Float[Array, "width K"]
    last_bias: Float[Array, " K"]
    length: int = eqx.field(static=True)
    power: float = eqx.field(static=True)

    def __init__(
        self, points: Float[Any, "K m"], length: int, power: float, width: int, depth: int, key: Any
    ) -> None:
        K, m = points.shape
        keys = jax.random.split(key, 4 + depth)
        self.first = jax.random.normal(keys[0], (m, width)) / jnp.sqrt(m)
        self.place = jax.random.normal(keys[1], (length, width))
        self.time = jax.random.normal(keys[2], (2 * FREQUENCIES, width)) / jnp.sqrt(FREQUENCIES)
        self.blocks = tuple(Block(width, one) for one in keys[4:])
        self.norm = eqx.nn.LayerNorm(width)
        self.last = 0.1 * jax.random.normal(keys[3], (width, K)) / jnp.sqrt(width)
        self.last_bias = jnp.zeros(K)
        self.length, self.power = length, power

    def points(self, given: Float[Array, "K m"]) -> Float[Array, "K m"]:
        """Where the tokens are, as given."""
        return given

    def __call__(
        self,
        x: Float[Array, "batch length m"],
        t: Float[Array, " times"],
    ) -> Float[Array, "batch length K"]:
        """Logits of every token at every position; one time for each row of x, or one for all."""
        when = (time_features(t) @ self.time)[:, None]
        state = unit_power(x, t, self.power) @ self.first + self.place + when
        for block in self.blocks:
            state = jax.vmap(block)(state)
        return jax.vmap(jax.vmap(self.norm))(state) @ self.last + self.last_bias


def unit_power(
    x: Float[Array, "batch length m"], t: Float[Array, " times"], power: float
) -> Float[Array, "batch length m"]:
    """x over its root mean square under the noise, alike for all tokenizations.

    That is sqrt(alpha^2 P / m + sigma^2) for power P in m dimensions, the input preconditioning of
    Karras et al. 2022.
    """
    alpha, sigma = noise_level(t)
    scale = jax.lax.rsqrt(alpha**2 * power / x.shape[-1] + sigma**2)
    return x * scale[:, None, None]


def time_features(t: Float[Array, " times"]) -> Float[Array, "times features"]:
    """Cosines and sines of the time."""
    angles = jnp.pi * t[:, None] * jnp.arange(FREQUENCIES)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)


def noise_level(t: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Alpha and sigma of the schedule of the paper, alpha = 1 - t and sigma^2 = t (2 - t)."""
    return 1 - t, jnp.sqrt(t * (2 - t))
