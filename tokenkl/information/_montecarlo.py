"""Monte-Carlo estimates for any codebook, in bounded memory.

One sample is a token k ~ prior and a noise vector eps; the same pair serves every noise level,
since the log-posterior relative to the true token,

    log(pi_j) + h <eps, e_j - e_k> - h^2 |e_j - e_k|^2 / 2,        h = sqrt(snr),

needs two products for all levels together (see `_kernel`). Every quantity is averaged conditionally
on the observation (Rao-Blackwell): max_k p(k|y) rather than the indicator of a correct decision,
the entropy of p(.|y) rather than -log p(k|y), its variance rather than a squared error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from tokenkl._random import generator
from tokenkl.codebooks.base import Codebook
from tokenkl.information._controls import Controls, Reduction, affordable
from tokenkl.information._moments import Moments
from tokenkl.information.methods import MonteCarlo

#: What one sample gives, in the order of the kernel's output.
STATISTICS = ("error_probability", "conditional_entropy", "mmse", "divergence")
#: Samples when neither a count nor a target is given.
DEFAULT_SAMPLES = 2**14
#: Samples before the first look at the targets.
PILOT = 2**11
#: Effective number of informative samples below which no central-limit interval is offered.
MIN_EFFECTIVE = 60
#: Most samples in one block, and most tokens times samples.
MAX_BLOCK = 2**11
MAX_WORK = 2**28

Progress = Callable[[int, int], None]


@jax.jit
def traced_statistics(
    points: Any, log_prior: Any, ids: Any, noise: Any, h: Any
) -> Float[Any, "levels statistics samples"]:
    """What `_kernel.block_statistics` computes, in JAX: differentiable, and many times slower."""
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


def sample_profile(
    codebook: Codebook,
    snr: Float[np.ndarray, " s"],
    quantities: Sequence[str],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None = None,
) -> tuple[dict[str, dict[str, Any]], int, str]:
    """For every quantity its mean, its errors, support and range; the sample count, and how."""
    from tokenkl.information import _kernel  # brings in Numba, which most uses do without

    points = np.asarray(codebook.points)
    points = points - points.mean(axis=0)  # large offsets would cost digits
    table = _kernel.lay_out(points, codebook.log_prior)
    radius = float(np.max(np.sum(points**2, axis=1)))
    draw = _drawer(codebook)
    h = np.sqrt(np.minimum(snr, 1e300 / max(4 * radius, 1.0)))  # keeps every logit finite
    size = _block_size(codebook, h.size, method.memory)
    moments = Moments((h.size, len(STATISTICS)))
    wanted = method.n_samples or (PILOT if method.has_target else DEFAULT_SAMPLES)
    wanted = min(wanted, method.max_samples)
    reduction = None
    if method.reduces_variance and affordable(codebook, h.size * len(STATISTICS), method):
        controls = Controls(codebook, points, h, method.control, method.memory)
        reduction = Reduction(controls, len(STATISTICS))

    def summarise() -> dict[str, dict[str, Any]]:
        best = moments if reduction is None else reduction.merged(moments, MIN_EFFECTIVE)
        return _summary(codebook, best, snr, radius)

    block = 0
    while moments.n < wanted:
        ids, noise = draw(generator(key, block), size)
        used = slice(wanted - moments.n)
        ids, noise = ids[used], noise[used]
        values = _kernel.block_statistics(table, ids, noise, h, "mmse" in quantities)
        moments.add(values)
        if reduction is not None:
            reduction.add(ids, noise, values)
        block += 1
        if progress is not None:
            progress(moments.n, wanted)
        if moments.n >= wanted and method.has_target:
            summary = summarise()
            wanted = _needed([summary[name] for name in quantities], moments.n, method)
    summary = summarise()
    how = "Monte-Carlo" if reduction is None else f"Monte-Carlo{reduction.description}"
    return {name: summary[name] for name in quantities}, moments.n, how


def _block_size(codebook: Codebook, levels: int, memory: int) -> int:
    """Samples in one block: what the memory allows, and few enough to see progress."""
    bytes_each = 8 * (3 * codebook.n + 4 * len(STATISTICS) * levels)
    return int(np.clip(min(memory // bytes_each, MAX_WORK // codebook.K), 1, MAX_BLOCK))


def _drawer(codebook: Codebook) -> Callable[[np.random.Generator, int], tuple[Any, Any]]:
    """A function that draws token ids from the prior, and standard normal noise."""
    edges = None
    if not codebook.has_equal_priors:
        edges = np.cumsum(codebook.prior)
        edges = edges[:-1] / edges[-1]

    def draw(rng: np.random.Generator, size: int) -> tuple[Any, Any]:
        if edges is None:
            ids = rng.integers(codebook.K, size=size)
        else:
            ids = np.searchsorted(edges, rng.random(size), side="right")
        return ids, rng.standard_normal((size, codebook.n))

    return draw


def _needed(summaries: Sequence[dict[str, Any]], n: int, method: MonteCarlo) -> int:
    """Samples that bring the standard errors to their targets, from the variances so far."""
    ratio = 0.0
    for summary in summaries:
        target = method.atol + method.rtol * np.abs(summary["value"])
        excess = summary["standard_error"] / np.maximum(target, np.finfo(float).tiny)
        ratio = max(ratio, min(float(np.max(excess)), 2.0))
    if ratio <= 1:
        return n
    # A tenth more than the estimate asks for, and at most four times on a rough variance.
    return min(math.ceil(min(1.1 * ratio**2, 4.0) * n), method.max_samples)


def _summary(
    codebook: Codebook, moments: Moments, snr: Float[np.ndarray, " s"], radius: float
) -> dict[str, dict[str, Any]]:
    """Means and errors; `radius` is the largest squared distance from the centre."""
    eps = np.finfo(float).eps
    log_K = math.log(max(codebook.K, 2))
    error, mmse = moments.mean[:, 0], moments.mean[:, 2]
    # For every statistic the range of one sample, and rounding beyond that of the value itself.
    scales: dict[str, tuple[float, Any]] = {
        "error_probability": (1.0, 0.0),
        "conditional_entropy": (log_K, 0.0),
        "mmse": (radius, 8 * eps * np.sqrt(radius * np.abs(mmse))),
        "divergence": (-float(np.min(codebook.log_prior)), 16 * eps * log_K),
    }
    # Without noise in the posterior, the mean needs no central limit.
    certain = (snr == 0) | (codebook.K == 1)
    out: dict[str, dict[str, Any]] = {}
    for index, (name, (length, rounding)) in enumerate(scales.items()):
        out[name] = {
            "value": moments.mean[:, index],
            "standard_error": moments.standard_error[:, index],
            "skewness": moments.skewness[:, index],
            "numerical_error": (
                1e-12 * np.abs(moments.mean[:, index]) + moments.rounding[:, index] + rounding
            ),
            "interval_supported": (moments.effective()[:, index] >= MIN_EFFECTIVE) | certain,
            "sample_range": length,
        }
    correct = 1 - error
    effective = moments.n * correct**2 / (correct**2 + moments.squares[:, 0] / moments.n)
    out["error_probability"]["interval_supported"] &= (effective >= MIN_EFFECTIVE) | certain
    out["accuracy"] = out["error_probability"] | {
        "value": correct,
        "skewness": -moments.skewness[:, 0],
        "numerical_error": 1e-12 * error + eps + moments.rounding[:, 0],
    }
    # Two unbiased routes to the mutual information: keep the one with the smaller variance. Both
    # need support: an entropy near 0 and a divergence near 0 are carried by few samples each.
    direct = out.pop("divergence")
    entropy = out["conditional_entropy"]
    use_direct = direct["standard_error"] < entropy["standard_error"]
    out["mutual_information"] = {
        name: np.where(use_direct, direct[name], entropy[name])
        for name in ("standard_error", "numerical_error")
    } | {
        "value": np.where(
            use_direct, direct["value"], float(codebook.prior_entropy()) - entropy["value"]
        ),
        "skewness": np.where(use_direct, direct["skewness"], -entropy["skewness"]),
        "interval_supported": direct["interval_supported"] & entropy["interval_supported"],
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
    values = traced_statistics(jnp.asarray(points), jnp.asarray(log_prior), ids, noise, h)
    mean = jnp.mean(values * weight, axis=-1)
    return {
        "error_probability": mean[:, 0],
        "accuracy": jnp.mean(weight) - mean[:, 0],
        "conditional_entropy": mean[:, 1],
        "mutual_information": codebook.prior_entropy() - mean[:, 1],
        "mmse": mean[:, 2],
    }
