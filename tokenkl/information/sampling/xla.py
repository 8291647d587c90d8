"""The inner loop of `kernel` for a graphics processor: the same sums, compiled by XLA, float32.

Taken where JAX's default device is a GPU. As in the single precision of `kernel`, differences to
the true token come first, its own term stays outside the sums, and exponents are cut off at 60
instead of being shifted, so that one pass over the tokens is enough. A block of samples is so small
that the two products of every pair stay in the device's cache while the levels go by. Several
devices share the samples of a block; every sample is computed on one of them, by the same sums.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tokenkl.information.sampling.signs import turned

#: log2(e); from `kernel`, which brings in Numba.
LOG2_E = 1.4426950408889634

#: Pairs of sample and token worked on together: 32 MiB for their two products.
PAIRS = 2**22
LOWEST, HIGHEST = -125.0, 60.0
#: As `SINGLE_ERROR` and `SINGLE_FLOOR` of `kernel`: here coordinates and products are single too,
#: and sums run over all tokens. Measured on a CPU: 2e-5 and 6e-7 at most.
ERROR, FLOOR = 5e-5, 5e-6


def has_gpu() -> bool:
    """Whether JAX would run on a GPU."""
    return jax.default_backend() in ("gpu", "cuda", "rocm")


def block_statistics(
    points: Float[np.ndarray, "K n"],
    log_prior: Float[np.ndarray, " K"],
    ids: Int[np.ndarray, " samples"],
    noise: Float[np.ndarray, "samples n"],
    h: Float[np.ndarray, " levels"],
    mmse: bool = True,
    shares: bool = False,
    signs: int = 1,
) -> Float[np.ndarray, "levels statistics samples"]:
    """What `kernel.block_statistics` computes with `single`, from centred points."""
    if signs > 1:
        known = points, log_prior, ids
        each = [block_statistics(*known, one, h, mmse, shares) for one in turned(noise, signs)]
        return np.mean(each, axis=0)
    table = jnp.asarray(points, jnp.float32)
    prior = jnp.asarray(np.asarray(log_prior) * LOG2_E, jnp.float32)
    roots = jnp.asarray(h, jnp.float32)
    shards = _shards()
    count = 1 if shards is None else shards.num_devices
    size = max(1, min(-(-ids.size // count), PAIRS // len(points))) * count
    out = np.empty((h.size, 4 + shares, ids.size))
    for start in range(0, ids.size, size):
        # The last block is filled up: another shape would be compiled anew.
        part = np.minimum(np.arange(start, start + size), ids.size - 1)
        given = [jnp.asarray(ids[part]), jnp.asarray(noise[part], jnp.float32)]
        if shards is not None:
            given = [jax.device_put(one, shards) for one in given]
        found = _block(table, prior, *given, roots, mmse, shares)
        stop = min(start + size, ids.size)
        out[:, :, start:stop] = np.asarray(found, dtype=float)[:, :, : stop - start]
    return out


def _shards() -> jax.sharding.NamedSharding | None:
    """How samples are dealt out where there are several devices: in equal runs, one for each."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return None
    mesh = jax.sharding.Mesh(np.array(devices), ("samples",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("samples"))


@functools.partial(jax.jit, static_argnames=("mmse", "shares"))
def _block(
    points: Any, log_prior: Any, ids: Any, noise: Any, h: Any, mmse: bool, shares: bool
) -> Any:
    true = points[ids]
    along, squared = jnp.zeros((2, ids.size, points.shape[0]), jnp.float32)

    def add(d: int, sums: tuple[Any, Any]) -> tuple[Any, Any]:
        step = points[:, d] - true[:, d, None]
        return sums[0] + step * noise[:, d, None], sums[1] + step * step

    along, squared = jax.lax.fori_loop(0, points.shape[1], add, (along, squared), unroll=8)
    own = log_prior[ids]
    others = jnp.arange(points.shape[0]) != ids[:, None]

    def at(root: Any) -> Any:
        q = LOG2_E * root * along - LOG2_E / 2 * root**2 * squared
        w = jnp.where(others, jnp.exp2(jnp.clip(q + log_prior, LOWEST, HIGHEST)), 0)
        total, best = w.sum(axis=1), w.max(axis=1)
        energy, second, prior = (w * q).sum(1), (w * squared).sum(1), (w * log_prior).sum(1)
        own_weight = jnp.exp2(own)
        whole = own_weight + total
        rest = jnp.where(best <= own_weight, total, own_weight + (total - best))
        mean_energy = energy / whole / LOG2_E
        mean_prior = (prior - own * total) / whole / LOG2_E
        log_ratio = jnp.log1p(total / own_weight)
        length = jnp.zeros_like(total)
        if mmse:
            mean = jnp.matmul(w, points, precision=jax.lax.Precision.HIGHEST)
            length = ((mean - true * total[:, None]) ** 2).sum(axis=1)
        rows = [
            rest / whole,
            log_ratio - mean_energy - mean_prior,
            second / whole - length / whole**2,
            mean_energy - log_ratio,
        ]
        if shares:
            p = total / whole
            without = jnp.maximum(p**2 - ((w / whole[:, None]) ** 2).sum(axis=1), 0)
            rows.append(2 * p * (own_weight / whole) + without)
        return jnp.stack(rows)

    return jax.lax.map(at, h)
