"""Keys: the only source of randomness is what the caller passes in."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from tokenkl._validation import reject

#: Stream of a key from which those of parts are made; no generator is made from it.
PARTS = 2**32 - 1


def _key_words(key: Any, name: str = "key") -> list[int]:
    """The 32-bit words that identify a key: an integer seed or a JAX PRNG key."""
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool) and key >= 0:
        return [int(key)]
    jax = sys.modules.get("jax")  # imported by whoever has one of its keys
    if isinstance(key, np.ndarray) or (jax is not None and isinstance(key, jax.Array)):
        if jax is not None and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.key_data(key)
        if key.dtype == np.uint32 and key.ndim == 1:
            return [int(word) for word in np.asarray(key)]
    reject(name, key, "a whole number, at least 0, or one JAX random key")


def generator(key: Any, *stream: int) -> np.random.Generator:
    """A NumPy generator that depends only on the key and the stream numbers.

    Different streams of one key are statistically independent (`numpy.random.SeedSequence`).
    """
    return np.random.default_rng(np.random.SeedSequence(_key_words(key), spawn_key=stream))


def split(key: Any, count: int) -> list[Any]:
    """Keys of so many independent parts of a task: None for None, the key itself for one part.

    Their streams are independent of each other, and of those of the key.
    """
    if key is None or count == 1:
        return [key] * count
    words = _key_words(key)
    parts = (np.random.SeedSequence(words, spawn_key=(PARTS, part)) for part in range(count))
    return [one.generate_state(8) for one in parts]


def portable(key: Any) -> Any:
    """The same key as numbers, which can be sent to another process as they are."""
    if isinstance(key, (int, np.integer)):
        return int(key)
    return np.array(_key_words(key), dtype=np.uint32)


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
