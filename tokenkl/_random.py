"""Keys: the only source of randomness is what the caller passes in."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from tokenkl._validation import reject


def _key_words(key: Any, name: str = "key") -> list[int]:
    """The 32-bit words that identify a key: an integer seed or a JAX PRNG key."""
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool) and key >= 0:
        return [int(key)]
    if isinstance(key, (jax.Array, np.ndarray)):
        if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.key_data(key)
        if key.dtype == np.uint32 and key.ndim == 1:
            return [int(word) for word in np.asarray(key)]
    reject(name, key, "a whole number, at least 0, or one JAX random key")


def generator(key: Any, *stream: int) -> np.random.Generator:
    """A NumPy generator that depends only on the key and the stream numbers.

    Different streams of one key are statistically independent (`numpy.random.SeedSequence`).
    """
    return np.random.default_rng(np.random.SeedSequence(_key_words(key), spawn_key=stream))


def seed_of(key: Any) -> int | None:
    """The integer seed, for the record in an `Estimate`; None for a JAX key."""
    return int(key) if isinstance(key, (int, np.integer)) else None


def draws_of(key: Any) -> tuple[tuple[int, ...], ...]:
    """The words of the key, for the record in an `Estimate` of what its draws depend on."""
    return (tuple(_key_words(key)),)


def draw_ids(rng: np.random.Generator, prior: np.ndarray | None, K: int, size: int) -> np.ndarray:
    """Token ids from a prior over K tokens; None stands for equal probabilities."""
    if prior is None:
        return rng.integers(K, size=size)
    edges = np.cumsum(prior)
    ids = np.searchsorted(edges, edges[-1] * rng.random(size), side="right")
    return np.minimum(ids, K - 1)  # rng.random times the last edge may round up to it
