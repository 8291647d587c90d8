"""`Gaussian`, the channel Y = sqrt(snr) e_k + eps with eps ~ N(0, I), and its functions.

A diffusion state X_t = alpha e_k + sigma eps is this channel at snr = alpha^2 / sigma^2, seen as
Y = X_t / sigma. All functions take `y` with its last axis in R^n and an `snr` that broadcasts
against the other axes. float32 observations are worked on in float64 and answered in float32;
inside JAX transformations the traced dtype is kept, and log-posteriors are formed from coordinate
differences to the nearest token, so that float32 stays within 1e-4 nats from SNR 1e-6 to 1e6, even
between tokens that nearly coincide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._random import generator
from tokenkl._validation import check_count, check_snr, check_vectors, is_traced, reject
from tokenkl.channels.base import Channel, check_size
from tokenkl.codebooks import Codebook, ProductCodebook
from tokenkl.codebooks.base import check_codebook
from tokenkl.information import QUANTITIES, Profile
from tokenkl.information import profile as information_profile
from tokenkl.information.methods import Method


@final
class Gaussian(Channel):
    """Y = sqrt(snr) e_k + eps with eps ~ N(0, I): what continuous diffusion does to a token.

    Its noise variable is the signal-to-noise ratio `snr` = alpha^2 / sigma^2, a number without unit
    (for codebooks in the units of their coordinates) from 0 up, where 0 is pure noise and infinity
    is clean. An observation is a point of R^n. This is `tokenkl.channel` and `tokenkl.profile`,
    bound to one codebook; "sampling_error" is found where it is named. `denoiser`, `score` and
    `posterior_covariance` are functions there.

    Args:
        codebook: any codebook.

    Raises:
        ValueError: anything else.

    Example:
        >>> import tokenkl as tk
        >>> seen = tk.Gaussian(tk.FSQ((2, 2))).profile([0.5, 2.0])
        >>> seen["accuracy"].value.round(6).tolist()
        [0.57798, 0.848887]
    """

    codebook: Codebook

    variable: ClassVar[str] = "snr"
    quantities: ClassVar[tuple[str, ...]] = QUANTITIES

    def __check_init__(self) -> None:
        check_codebook(self.codebook)

    @property
    def K(self) -> int:
        return self.codebook.K

    def sample(
        self, noise: float, n_samples: int, *, key: Any
    ) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N n"]]:
        return sample(self.codebook, noise, n_samples, key=key)

    def log_posterior(
        self, observation: Float[Any, "*batch n"], noise: Float[Any, " *batch"]
    ) -> Float[Any, "*batch K"]:
        return log_posterior(self.codebook, observation, noise)

    def profile(
        self,
        noise: Float[Any, " *shape"],
        quantities: str | Sequence[str] | None = None,
        *,
        method: Method | None = None,
        key: Any = None,
    ) -> Profile:
        wanted = self.quantities if quantities is None else quantities
        return information_profile(self.codebook, noise, wanted, method=method, key=key)


def sample(
    codebook: Codebook, snr: float, n_samples: int, *, key: Any
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N n"]]:
    """Tokens k ~ prior and observations Y = sqrt(snr) e_k + eps.

    Args:
        codebook: any codebook; a lazy one stays lazy.
        snr: one signal-to-noise ratio, at least 0.
        n_samples: how many, at least 1.
        key: integer seed or JAX key; the same key gives the same bits.

    Raises:
        ValueError: an argument out of its range, or more than 2**26 numbers asked for.
    """
    check_codebook(codebook)
    level = check_snr(snr)
    if level.ndim:
        reject("snr", f"an array of shape {level.shape}", "one number")
    check_count(n_samples, "n_samples")
    check_size(n_samples * codebook.n, "n_samples")
    rng = generator(key)
    ids = codebook.sample_ids(rng, n_samples)
    noise = rng.standard_normal((n_samples, codebook.n))
    return ids, math.sqrt(float(level)) * codebook.points_at(ids) + noise


def log_posterior(
    codebook: Codebook, y: Float[Any, "*batch n"], snr: Float[Any, " *batch"]
) -> Float[Any, "*batch K"]:
    """log p(k | y) in nats for every token, normalised.

    Raises:
        ValueError: wrong last axis of y, snr negative or not finite, or more than 2**26 numbers.
    """
    y, h, dtype = _inputs(codebook, y, snr)
    check_size(math.prod(y.shape[:-1]) * codebook.K, "y")
    grid = codebook.factors
    if grid is not None:
        return grid.outer(_coordinate_log_posteriors(grid, y, h)).astype(dtype)
    if codebook.has_parts:
        return codebook.outer(_by_part(log_posterior, codebook, y, h)).astype(dtype)
    return _log_softmax(codebook.logits(y, h)).astype(dtype)


def denoiser(
    codebook: Codebook, y: Float[Any, "*batch n"], snr: Float[Any, " *batch"]
) -> Float[Any, "*batch n"]:
    """Posterior mean E[e_k | y]: the denoiser with the smallest mean squared error.

    Part by part where the tokens have independent ones, so that FSQ((17,) * 6) costs nothing.
    Raises as `log_posterior`.
    """
    y, h, dtype = _inputs(codebook, y, snr)
    grid = codebook.factors
    if grid is not None:
        xp = codebook.array_module(y, h)
        parts = _coordinate_log_posteriors(grid, y, h)
        means = [xp.exp(part) @ u for part, u in zip(parts, grid.levels, strict=True)]
        return xp.stack(means, axis=-1).astype(dtype)
    if codebook.has_parts:
        means = _by_part(denoiser, codebook, y, h)
        return codebook.array_module(y, h).concatenate(means, axis=-1).astype(dtype)
    return codebook.mean_under(_probability(codebook, y, h)).astype(dtype)


def score(
    codebook: Codebook, y: Float[Any, "*batch n"], snr: Float[Any, " *batch"]
) -> Float[Any, "*batch n"]:
    """Gradient of the log-density of Y: sqrt(snr) E[e_k | y] - y (Tweedie's formula).

    For X_t = alpha e_k + sigma eps the score is this one at y = x / sigma, divided by sigma.
    Raises as `log_posterior`.
    """
    y, h, dtype = _inputs(codebook, y, snr)
    return (h[..., None] * denoiser(codebook, y, h**2) - y).astype(dtype)


def posterior_covariance(
    codebook: Codebook, y: Float[Any, "*batch n"], snr: Float[Any, " *batch"]
) -> Float[Any, "*batch n n"]:
    """Cov(e_k | y); the Jacobian of the denoiser in y is sqrt(snr) times it.

    Diagonal where the prior factorises over coordinates. Raises as `log_posterior`, and where n * n
    is too large.
    """
    y, h, dtype = _inputs(codebook, y, snr)
    check_size(math.prod(y.shape[:-1]) * codebook.n**2, "y")
    grid = codebook.factors
    if grid is not None:
        xp = codebook.array_module(y, h)
        parts = _coordinate_log_posteriors(grid, y, h)
        variances = []
        for part, u in zip(parts, grid.levels, strict=True):
            p = xp.exp(part)
            away = u - (p @ u)[..., None]
            variances.append((p * away**2).sum(axis=-1))
        return (xp.stack(variances, axis=-1)[..., None] * xp.eye(codebook.n)).astype(dtype)
    if codebook.has_parts:
        blocks = _by_part(posterior_covariance, codebook, y, h)
        return _along_the_diagonal(codebook.array_module(y, h), blocks).astype(dtype)
    return codebook.covariance_under(_probability(codebook, y, h)).astype(dtype)


# ---- Pieces ---------------------------------------------------------------------------------


def _inputs(codebook: Codebook, y: Any, snr: Any) -> tuple[Any, Any, Any]:
    """Checked y and sqrt(snr), both of one dtype, and the dtype of the answer."""
    check_codebook(codebook)
    given = np.result_type(getattr(y, "dtype", np.float64))
    y, snr = check_vectors("y", y, codebook.n), check_snr(snr)
    try:
        batch = np.broadcast_shapes(y.shape[:-1], snr.shape)
    except ValueError:
        reject(
            "snr", f"an array of shape {snr.shape}", f"of a shape that broadcasts to {y.shape[:-1]}"
        )
    xp = codebook.array_module(y, snr)
    dtype = np.float32 if given == np.float32 else xp.zeros(0).dtype
    return xp.broadcast_to(y, (*batch, codebook.n)), xp.broadcast_to(xp.sqrt(snr), batch), dtype


def _log_softmax(logits: Any) -> Any:
    if is_traced(logits):
        return jax.nn.log_softmax(logits, axis=-1)
    return special.log_softmax(logits, axis=-1)


def _probability(codebook: Codebook, y: Any, h: Any) -> Any:
    xp = codebook.array_module(y, h)
    check_size(math.prod(y.shape[:-1]) * codebook.K, "y")
    return xp.exp(_log_softmax(codebook.logits(y, h)))


def _by_part(function: Callable[..., Any], codebook: Codebook, y: Any, h: Any) -> list[Any]:
    pairs = zip(codebook.parts, codebook.split(y), strict=True)
    return [function(part, own, h**2) for part, own in pairs]


def _along_the_diagonal(xp: Any, blocks: list[Any]) -> Any:
    """Matrices in the last two axes as the blocks of a larger one."""
    ends = np.cumsum([block.shape[-1] for block in blocks])
    rows = []
    for block, end in zip(blocks, ends, strict=True):
        before, after = end - block.shape[-1], ends[-1] - end
        rows.append(xp.pad(block, [(0, 0)] * (block.ndim - 1) + [(before, after)]))
    return xp.concatenate(rows, axis=-2)


def _coordinate_log_posteriors(codebook: ProductCodebook, y: Any, h: Any) -> list[Any]:
    """log p(level | y) of every coordinate; the distance to every level is a difference first."""
    parts = []
    for axis, u in enumerate(codebook.levels):
        distance = y[..., axis, None] - h[..., None] * u
        # Relative to the nearest level, as a product of differences: squares would cancel.
        xp = codebook.array_module(y, h)
        best = xp.argmin(xp.abs(distance), axis=-1)
        nearest = xp.take_along_axis(distance, best[..., None], axis=-1)
        gap = h[..., None] * (u - xp.asarray(u)[best][..., None])
        log_prior = codebook.coordinate_log_prior(axis)
        parts.append(_log_softmax(gap * (nearest - gap / 2) + log_prior))
    return parts
