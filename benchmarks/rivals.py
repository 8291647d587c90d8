"""What a competent user would write instead, each function on its own libraries.

All samplers average max_k p(k|y) and the entropy of p(.|y) over observations, at every level of
`h` = sqrt(snr), and return the two means (levels, 2). Equal priors, float64, one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from scipy import integrate, special, stats

Sampler = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def numpy_shared_noise(points: np.ndarray, h: np.ndarray, samples: int) -> np.ndarray:
    """Tuned NumPy: chunks that fit the cache, one pair of products for all levels."""
    rng = np.random.default_rng(0)
    total = np.zeros((h.size, 2))
    squares = (points**2).sum(axis=1)
    chunk = max(8, 2**19 // len(points))
    for start in range(0, samples, chunk):
        size = min(chunk, samples - start)
        ids = rng.integers(len(points), size=size)
        noise = rng.standard_normal((size, points.shape[1]))
        along = noise @ points.T
        inner = points[ids] @ points.T - squares / 2
        logits, weight = np.empty_like(along), np.empty_like(along)
        for level, root in enumerate(h):
            np.multiply(inner, root**2, out=logits)
            logits += root * along
            logits -= logits.max(axis=1, keepdims=True)
            np.exp(logits, out=weight)
            mass = weight.sum(axis=1)
            energy = np.einsum("sk,sk->s", weight, logits) / mass
            total[level] += (1 / mass).sum(), (np.log(mass) - energy).sum()
    return total / samples


def jax_jitted(points: np.ndarray, h: np.ndarray, samples: int) -> np.ndarray:
    """Jitted JAX: the same sums, levels in a compiled loop."""
    import jax
    import jax.numpy as jnp

    run = _jax_chunk()
    with jax.enable_x64(True):
        chunk = max(8, 2**19 // len(points))
        total = np.zeros((h.size, 2))
        table, roots = jnp.asarray(points), jnp.asarray(h)
        for index in range(-(-samples // chunk)):
            key = jax.random.key(index)
            total += np.asarray(run(table, roots, key, chunk))
        return total / (chunk * -(-samples // chunk))


@cache
def _jax_chunk() -> Any:
    import jax
    import jax.numpy as jnp

    @partial(jax.jit, static_argnums=3)
    def run(points: Any, h: Any, key: Any, size: int) -> Any:
        one, two = jax.random.split(key)
        ids = jax.random.randint(one, (size,), 0, points.shape[0])
        noise = jax.random.normal(two, (size, points.shape[1]), points.dtype)
        along = noise @ points.T
        inner = points[ids] @ points.T - (points**2).sum(axis=1) / 2

        def at(root: Any) -> Any:
            logits = root * along + root**2 * inner
            log_p = jax.nn.log_softmax(logits, axis=1)
            p = jnp.exp(log_p)
            return jnp.stack([p.max(axis=1).sum(), -(p * log_p).sum()])

        return jax.lax.map(at, h)

    return run


def torch_cdist(points: np.ndarray, h: np.ndarray, samples: int) -> np.ndarray:
    """PyTorch as most would write it: for every level noise, cdist, softmax."""
    import torch

    table = torch.from_numpy(points)
    generator = torch.Generator().manual_seed(0)
    chunk = max(8, 2**19 // len(points))
    total = np.zeros((h.size, 2))
    for level, root in enumerate(h.tolist()):
        for start in range(0, samples, chunk):
            size = min(chunk, samples - start)
            ids = torch.randint(len(points), (size,), generator=generator)
            noise = torch.randn(size, points.shape[1], generator=generator, dtype=table.dtype)
            y = table[ids] + noise / root
            log_p = torch.log_softmax(-(torch.cdist(y, table) ** 2) * root**2 / 2, dim=1)
            p = log_p.exp()
            total[level] += p.amax(1).sum().item(), -(p * log_p).sum().item()
    return total / samples


SAMPLERS: dict[str, Sampler] = {
    "tuned NumPy": numpy_shared_noise,
    "jitted JAX": jax_jitted,
    "torch cdist": torch_cdist,
}


def numpy_indicator(points: np.ndarray, root: float, samples: int) -> int:
    """Wrong decisions among so many samples: one matrix product and an argmax for a chunk."""
    rng = np.random.default_rng(0)
    halves = root * (points**2).sum(axis=1) / 2
    chunk = max(8, 2**19 // len(points))
    wrong = 0
    for start in range(0, samples, chunk):
        size = min(chunk, samples - start)
        ids = rng.integers(len(points), size=size)
        y = root * points[ids] + rng.standard_normal((size, points.shape[1]))
        wrong += int(((y @ points.T - halves).argmax(axis=1) != ids).sum())
    return wrong


def quad_told(K: int, h: np.ndarray) -> list[float]:
    """One-hot accuracy int phi(x - h) Phi(x)^(K-1) dx by `quad`, told where the mass is."""

    def accuracy(root: float) -> float:
        def integrand(x: float) -> float:
            exponent = (K - 1) * special.log_ndtr(x) - (x - root) ** 2 / 2
            return np.exp(exponent) / np.sqrt(2 * np.pi)

        return integrate.quad(integrand, root - 12, root + 12, limit=200, epsabs=0, epsrel=1e-11)[0]

    return [accuracy(root) for root in h]


def quad_plain(K: int, h: np.ndarray) -> list[float]:
    """The same formula as it stands in textbooks, with scipy.stats, over the whole line."""

    def accuracy(root: float) -> float:
        def integrand(x: float) -> float:
            return stats.norm.pdf(x - root) * stats.norm.cdf(x) ** (K - 1)

        return integrate.quad(integrand, -np.inf, np.inf)[0]

    return [accuracy(root) for root in h]
