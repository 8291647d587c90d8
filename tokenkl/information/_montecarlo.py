"""Monte-Carlo estimates for any codebook, in bounded memory.

One sample is a token k ~ prior and a noise vector eps; the same pair serves every noise level,
since the log-posterior relative to the true token,

    log(pi_j) + h <eps, e_j - e_k> - h^2 |e_j - e_k|^2 / 2,        h = sqrt(snr),

needs two matrix products for all levels together. Every quantity is averaged conditionally on the
observation (Rao-Blackwell): max_k p(k|y) rather than the indicator of a correct decision, the
entropy of p(.|y) rather than -log p(k|y), its variance rather than a squared error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from tokenkl._random import generator
from tokenkl.codebooks.base import Codebook
from tokenkl.information.methods import MonteCarlo

#: What one sample gives, in the order of the kernel's output.
STATISTICS = ("error_probability", "conditional_entropy", "mmse", "divergence")
#: Samples when neither a count nor a target is given.
DEFAULT_SAMPLES = 2**14
#: Samples before the first look at the targets.
PILOT = 2**11
#: Effective number of informative samples below which no central-limit interval is offered.
MIN_EFFECTIVE = 60
#: Samples in one block when tokens are few.
MAX_BLOCK = 2**11

Progress = Callable[[int, int], None]


@jax.jit
def _block_statistics(
    points: Any, log_prior: Any, ids: Any, noise: Any, h: Any
) -> Float[Any, "levels statistics samples"]:
    """Error, entropy, variance of the posterior, and its divergence from the prior."""
    true = points[ids]
    norms = jnp.sum(points**2, axis=1)
    squared = norms[ids][:, None] - 2 * true @ points.T + norms
    squared = jnp.maximum(squared, 0.0)
    along = noise @ points.T - jnp.sum(noise * true, axis=1, keepdims=True)

    def at_level(root: Any) -> Any:
        logits = log_prior + root * along - root**2 * squared / 2
        top = jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
        logits = logits - top
        weight = jnp.exp(logits)
        total = jnp.sum(weight, axis=1)
        best = jnp.max(weight, axis=1)
        log_total = jnp.log(total)
        mean_logit = jnp.sum(weight * logits, axis=1) / total
        mean_prior = jnp.sum(weight * log_prior, axis=1) / total
        centre = (weight @ points) / total[:, None] - true
        second = jnp.sum(weight * squared, axis=1) / total
        return jnp.stack(
            [
                (total - best) / total,
                log_total - mean_logit,
                second - jnp.sum(centre**2, axis=1),
                mean_logit - log_total - mean_prior,
            ]
        )

    return jax.lax.map(at_level, h)


class Moments:
    """Mean and sum of squared deviations of a stream of sample blocks (Chan et al. 1983)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.n = 0
        self.mean = np.zeros(shape)
        self.squares = np.zeros(shape)

    def add(self, block: Float[np.ndarray, "... samples"]) -> None:
        size = block.shape[-1]
        mean = block.mean(axis=-1)
        squares = ((block - mean[..., None]) ** 2).sum(axis=-1)
        delta = mean - self.mean
        total = self.n + size
        self.squares += squares + delta**2 * self.n * size / total
        self.mean += delta * size / total
        self.n = total

    @property
    def variance(self) -> np.ndarray:
        return self.squares / max(self.n - 1, 1)

    @property
    def standard_error(self) -> np.ndarray:
        return np.sqrt(self.variance / self.n)

    def effective(self, offset: float = 0.0) -> np.ndarray:
        """(sum f)^2 / sum f^2 for f = offset + statistic: how many samples carry the sum."""
        mean = self.mean + offset
        second = mean**2 + self.squares / self.n
        return self.n * mean**2 / np.maximum(second, np.finfo(float).tiny)


def sample_profile(
    codebook: Codebook,
    snr: Float[np.ndarray, " s"],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None = None,
) -> tuple[dict[str, dict[str, Any]], int]:
    """For every quantity its mean, standard error, support and range; and the sample count."""
    points = np.asarray(codebook.points)
    points = points - points.mean(axis=0)  # large offsets would cost digits
    log_prior = np.asarray(codebook.log_prior)
    h = np.sqrt(snr)
    draw = partial(_draw, points.shape[1], None if codebook.has_equal_priors else log_prior)
    size = int(np.clip(method.memory // (8 * 6 * codebook.K), 1, MAX_BLOCK))
    moments = Moments((h.size, len(STATISTICS)))
    wanted = method.n_samples or (PILOT if method.has_target else DEFAULT_SAMPLES)
    wanted = min(wanted, method.max_samples)
    block = 0
    with jax.enable_x64(True):
        table = jnp.asarray(points), jnp.asarray(log_prior)
        while moments.n < wanted:
            ids, noise = draw(generator(key, block), size, codebook.K)
            values = np.asarray(_block_statistics(*table, ids, noise, h))
            moments.add(values[..., : wanted - moments.n])
            block += 1
            if progress is not None:
                progress(moments.n, wanted)
            if moments.n >= wanted and method.has_target:
                wanted = min(_needed(moments, method), method.max_samples)
    return _summary(codebook, moments, float(np.max(np.sum(points**2, axis=1)))), moments.n


def _draw(
    n: int, log_prior: np.ndarray | None, rng: np.random.Generator, size: int, K: int
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids from the prior (None: equal) and standard normal noise."""
    if log_prior is None:
        ids = rng.integers(K, size=size)
    else:
        edges = np.cumsum(np.exp(log_prior))
        ids = np.searchsorted(edges / edges[-1], rng.random(size), side="right")
    return np.minimum(ids, K - 1), rng.standard_normal((size, n))


def _needed(moments: Moments, method: MonteCarlo) -> int:
    """Samples that bring every standard error to its target, from the variances so far."""
    target = method.atol + method.rtol * np.abs(moments.mean)
    ratio = np.max(moments.variance / np.maximum(target, np.finfo(float).tiny) ** 2)
    if not np.isfinite(ratio) or ratio > method.max_samples:
        return method.max_samples
    # A tenth more than the estimate asks for, and never more than doubling on a rough variance.
    wanted = math.ceil(1.1 * ratio) if ratio > moments.n else moments.n
    return int(min(wanted, 4 * moments.n))


def _summary(codebook: Codebook, moments: Moments, radius: float) -> dict[str, dict[str, Any]]:
    mean, error, effective = moments.mean, moments.standard_error, moments.effective()
    column = {name: i for i, name in enumerate(STATISTICS)}
    ranges = {
        "error_probability": 1.0,
        "conditional_entropy": math.log(max(codebook.K, 2)),
        "mmse": radius,
        "divergence": -float(np.min(codebook.log_prior)),
    }
    out: dict[str, dict[str, Any]] = {}
    for name, index in column.items():
        out[name] = {
            "value": mean[:, index],
            "standard_error": error[:, index],
            "interval_supported": effective[:, index] >= MIN_EFFECTIVE,
            "sample_range": ranges[name],
        }
    correct = -moments.mean[:, 0] + 1
    second = correct**2 + moments.squares[:, 0] / moments.n
    effective_correct = moments.n * correct**2 / np.maximum(second, np.finfo(float).tiny)
    both = out["error_probability"]["interval_supported"] & (effective_correct >= MIN_EFFECTIVE)
    out["accuracy"] = out["error_probability"] | {"value": correct, "interval_supported": both}
    out["error_probability"]["interval_supported"] = both
    # Two unbiased routes to the mutual information: keep the one with the smaller variance.
    prior_entropy = float(codebook.prior_entropy())
    direct, entropy = out.pop("divergence"), out["conditional_entropy"]
    use_direct = direct["standard_error"] < entropy["standard_error"]
    out["mutual_information"] = {
        "value": np.where(use_direct, direct["value"], prior_entropy - entropy["value"]),
        "standard_error": np.minimum(direct["standard_error"], entropy["standard_error"]),
        "interval_supported": np.where(
            use_direct, direct["interval_supported"], entropy["interval_supported"]
        ),
        "sample_range": max(direct["sample_range"], entropy["sample_range"]),
    }
    return out


def traced_profile(codebook: Codebook, snr: Any, method: MonteCarlo, key: Any) -> dict[str, Any]:
    """Differentiable estimates: the same samples at every value of the traced inputs.

    Tokens are drawn with common random numbers and weighted by prior / stop_gradient(prior), so
    that derivatives with respect to points, prior and snr are unbiased.
    """
    points, log_prior = codebook.points, codebook.log_prior
    size = method.n_samples or 2**12
    rng = generator(key)
    uniform, noise = rng.random(size), rng.standard_normal((size, codebook.n))
    prior = jnp.exp(jnp.asarray(log_prior))
    fixed = jax.lax.stop_gradient(prior)
    edges = jnp.cumsum(fixed)
    ids = jnp.searchsorted(edges / edges[-1], uniform, side="right")
    ids = jnp.minimum(ids, codebook.K - 1)
    weight = prior[ids] / fixed[ids]
    h = jnp.sqrt(jnp.maximum(snr, 1e-30))
    values = _block_statistics(jnp.asarray(points), jnp.asarray(log_prior), ids, noise, h)
    mean = jnp.mean(values * weight, axis=-1)
    return {
        "error_probability": mean[:, 0],
        "accuracy": jnp.mean(weight) - mean[:, 0],
        "conditional_entropy": mean[:, 1],
        "mutual_information": codebook.prior_entropy() - mean[:, 1],
        "mmse": mean[:, 2],
    }
