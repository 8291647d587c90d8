"""Differentiable Monte-Carlo estimates, inside JAX transformations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from tokenkl._random import generator
from tokenkl._validation import is_traced
from tokenkl.information.estimators import Names, SampleAverage, Served, Task, defaults
from tokenkl.information.exact.slopes import with_slope
from tokenkl.information.findings import Findings
from tokenkl.information.methods import MonteCarlo
from tokenkl.information.problem import Problem

#: Samples where no number is given.
DEFAULT_SAMPLES = 2**12
#: Numbers in one array of the differentiable statistics: larger batches run slower in XLA on a CPU.
TRACED_WORK = 2**16
#: What a token costs in one sample at one level, in seconds, compiled.
TOKEN_COST = 2e-8


class TracedSampling(SampleAverage):
    """`traced_profile`: values without errors, where JAX traces the SNRs or the codebook."""

    name = "Monte-Carlo"
    traced = (True,)
    only = defaults(MonteCarlo, "rtol", "atol", "memory", "control") | {"precision": ("auto",)}

    def serves(self, problem: Problem, wanted: Names, asked: bool) -> Served:
        return wanted, True

    def seconds(self, problem: Problem, method: MonteCarlo) -> float:
        return _size(method) * problem.codebook.K * TOKEN_COST

    def run(self, task: Task) -> dict[str, Findings]:
        values = traced_profile(task.problem, task.method, task.key)
        known: dict[str, Any] = dict.fromkeys(("standard_error", "numerical_error"), jnp.nan)
        return {name: Findings(values[name], **known, method=self.name) for name in task.quantities}

    def note(self, found: Findings, method: MonteCarlo) -> str:
        return ""


def _size(method: MonteCarlo) -> int:
    return min(method.n_samples or DEFAULT_SAMPLES, method.max_samples)


@jax.jit
def traced_statistics(
    points: Any, log_prior: Any, ids: Any, noise: Any, h: Any
) -> Float[Any, "levels statistics samples"]:
    """What `kernel.block_statistics` computes, in JAX: differentiable, and many times slower.

    Fit for float32: points enter as differences from the true token, logits are relative to the
    largest one, and what is small is a sum of small terms.
    """
    tokens = jnp.arange(points.shape[0])

    @jax.checkpoint  # derivatives compute a sample anew rather than keep all that it went through
    def sample(given: Any) -> Any:
        token, eps = given
        step = points - points[token]
        along = step @ eps
        squared = jnp.einsum("kn,kn->k", step, step)
        relative_prior = log_prior - log_prior[token]

        def at_level(root: Any) -> Any:
            logits = relative_prior + root * along - root**2 * squared / 2
            best = jnp.argmax(jax.lax.stop_gradient(logits))
            logits = logits - logits[best]
            weight = jnp.exp(logits)
            others = jnp.sum(jnp.where(tokens == best, 0, weight))
            total = 1 + others
            mean_logit = jnp.sum(weight * logits) / total
            mean_prior = jnp.sum(weight * log_prior) / total
            centre = weight @ step / total
            second = jnp.sum(weight * squared) / total
            split = jnp.where(tokens == best, 0, weight * (total - weight))
            return jnp.stack(
                [
                    others / total,
                    jnp.log1p(others) - mean_logit,
                    second - jnp.sum(centre**2),
                    mean_logit - jnp.log1p(others) - mean_prior,
                    (others + jnp.sum(split)) / total**2,
                ]
            )

        return jax.vmap(at_level)(h)

    K, n = points.shape
    together = int(np.clip(TRACED_WORK // (K * max(n, h.shape[0])), 1, ids.shape[0]))
    values = jax.lax.map(sample, (ids, noise), batch_size=together)
    return jnp.moveaxis(values, 0, -1)


def traced_profile(problem: Problem, method: MonteCarlo, key: Any) -> dict[str, Any]:
    """Differentiable estimates: the same samples at every value of the traced inputs.

    Tokens are drawn with common random numbers and weighted by prior / stop_gradient(prior), so
    that derivatives with respect to points, prior and snr are unbiased.
    """
    codebook, snr = problem.codebook, problem.snr
    points, log_prior = codebook.points, codebook.log_prior
    if not is_traced(points):
        points = np.asarray(points) - np.mean(points, axis=0)  # before float32 loses the offset
    size = _size(method)
    rng = generator(key)
    uniform, noise = rng.random(size), rng.standard_normal((size, codebook.n))
    prior = jnp.exp(jnp.asarray(log_prior))
    fixed = jax.lax.stop_gradient(prior)
    edges = jnp.cumsum(fixed)
    ids = jnp.searchsorted(edges / edges[-1], uniform, side="right")
    ids = jnp.minimum(ids, codebook.K - 1)
    weight = prior[ids] / fixed[ids]
    known = (jnp.asarray(points), jnp.asarray(log_prior), weight)

    def averages(gamma: Any, rest: Any) -> Any:
        # The root has no slope at 0; what is a function of it alone, as the error, is flat there.
        h = jnp.where(gamma > 0, jnp.sqrt(jnp.where(gamma > 0, gamma, 1.0)), 0.0)
        values = traced_statistics(rest[0], rest[1], ids, noise, h)
        return jnp.mean(values * rest[2], axis=-1)

    def slopes(gamma: Any, rest: Any) -> Any:
        # As statement 4 of docs/theory has them at snr 0, where samples of a slope in sqrt(snr)
        # would have no variance.
        moved = jax.jvp(lambda g: averages(g, rest), (gamma,), (jnp.ones_like(gamma),))[1]
        half = averages(gamma, rest)[:, 2] / 2
        p = jnp.exp(rest[1])
        away = rest[0] - p @ rest[0]
        share = -jnp.sum((p[:, None] * away) ** 2)
        known_there = moved.at[:, 1].set(-half).at[:, 3].set(half).at[:, 4].set(share)
        return jnp.where((gamma > 0)[:, None], moved, known_there)

    mean = with_slope(averages, slopes)(jnp.asarray(snr), known)
    return {
        "error_probability": mean[:, 0],
        "accuracy": jnp.mean(weight) - mean[:, 0],
        "conditional_entropy": mean[:, 1],
        "mutual_information": codebook.prior_entropy() - mean[:, 1],
        "mmse": mean[:, 2],
        "sampling_error": mean[:, 4],
    }
