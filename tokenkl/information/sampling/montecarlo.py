"""Monte-Carlo estimates for any codebook, in bounded memory.

One sample is a token k ~ prior and a noise vector eps; the same pair serves every noise level,
since the log-posterior relative to the true token,

    log(pi_j) + h <eps, e_j - e_k> - h^2 |e_j - e_k|^2 / 2,        h = sqrt(snr),

needs two products for all levels together (see `kernel`). Every quantity is averaged conditionally
on the observation (Rao-Blackwell): max_k p(k|y) rather than the indicator of a correct decision,
the entropy of p(.|y) rather than -log p(k|y), its variance rather than a squared error.

A pilot (`pilot`) chooses control variates (`controls`) and Sobol points (`sobol`) for every
level; the estimates then come from fresh samples. A level that has met its target takes no further
part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl._random import generator
from tokenkl._validation import is_traced
from tokenkl.codebooks.base import Codebook
from tokenkl.information.exact.slopes import with_slope
from tokenkl.information.methods import MonteCarlo
from tokenkl.information.sampling import pilot, sobol, xla
from tokenkl.information.sampling.controls import Controls
from tokenkl.information.sampling.within import Within
from tokenkl.numerics.moments import MIN_CARRIERS, MIN_EFFECTIVE, Moments
from tokenkl.numerics.neighbours import neighbourly

#: What one sample gives, in the order of the kernel's output.
STATISTICS = ("error_probability", "conditional_entropy", "mmse", "divergence")
#: Samples when neither a count nor a target is given.
DEFAULT_SAMPLES = 2**14
#: Samples before the first look at the targets.
PILOT = 2**11
#: Most samples in one block, and most tokens times samples.
MAX_BLOCK = 2**9
MAX_WORK = 2**28
#: Numbers in one array of the differentiable statistics: larger batches run slower in XLA on a CPU.
TRACED_WORK = 2**16
#: Single precision is taken unasked where the target is this many times its error.
UNNOTICED = 20.0
#: What one token costs at one level, in nanoseconds, for the choice of controls.
TOKEN_COST, TOKEN_COST_SINGLE = 0.9, 0.4
#: Part of a target that the error of one part of the tokens may take.
SHARE = 0.6
#: Most times that samples are added because a target was missed.
ROUNDS = 12
#: Streams of random numbers below the key.
SAMPLE, PILOT_SAMPLE, NETS, PILOT_NETS = range(4)

Progress = Callable[[int, int], None]


def sample_profile(
    codebook: Codebook,
    snr: Float[np.ndarray, " s"],
    quantities: Sequence[str],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None = None,
    part: Part | None = None,
) -> tuple[dict[str, dict[str, Any]], str]:
    """For every quantity its mean, errors, support, range and sample count; and how.

    As a `part` of a codebook, `codebook` has its tokens, and posteriors are of all that are in the
    token's cluster.
    """
    run = _Run(codebook, snr, quantities, method, key, progress, part)
    plan = run.plan
    if not method.has_target:
        run.advance(np.full(snr.size, min(method.n_samples or DEFAULT_SAMPLES, method.max_samples)))
    else:
        first = np.full(snr.size, PILOT)
        if plan is not None:
            pilot = Moments(plan.mean.shape)
            pilot.n[:] = run.pilot
            pilot.mean, pilot.squares = plan.mean, plan.variance * (run.pilot - 1)
            needed = samples_needed(run.summarise(pilot), pilot.n[:, 0], 1e3, method, part)
            known = plan.used.any(axis=1) | plan.sobol
            needed = np.ceil(plan.margin * needed).astype(np.int64)
            first = np.maximum(np.where(known, PILOT // 2, PILOT), needed)
        wanted = np.minimum(first, method.max_samples)
        for _ in range(ROUNDS):
            run.advance(wanted)
            done = run.plain.n[:, 0]
            needed = samples_needed(run.summarise(), done, 4.0, method, part)
            # A variance that few samples carry may have met its target by chance.
            thin = run.is_thin() & (done < DEFAULT_SAMPLES)
            needed = np.maximum(needed, np.where(thin, 2 * done, 0))
            wanted = np.minimum(needed, method.max_samples)
            if (wanted <= done).all():
                break
    summary = run.summarise()
    how = "Monte-Carlo" if plan is None else f"Monte-Carlo{plan.description}"
    return {name: summary[name] for name in quantities}, how


class Part(NamedTuple):
    """Some of the tokens (`ids`) of a codebook in clusters: what they give counts with `weight`.

    `known` is about what the other parts add to each quantity: targets are for the sum.
    """

    whole: Codebook
    labels: Int[np.ndarray, " K"]
    ids: Int[np.ndarray, " k"]
    weight: float
    known: dict[str, Float[np.ndarray, " s"]]


class _Run:
    """The sample of one call: what was decided about every level, and its moments so far."""

    def __init__(
        self,
        codebook: Codebook,
        snr: Float[np.ndarray, " s"],
        quantities: Sequence[str],
        method: MonteCarlo,
        key: Any,
        progress: Progress | None,
        part: Part | None = None,
    ) -> None:
        # Brings in Numba, which most uses do without.
        from tokenkl.information.sampling import kernel

        self.codebook, self.snr, self.quantities, self.method = codebook, snr, quantities, method
        self.key, self.progress, self.kernel, self.part = key, progress, kernel, part
        points = np.asarray(codebook.points)
        # A power of two keeps every bit, and squares from overflow and underflow.
        whole = points if part is None else np.asarray(part.whole.points)
        _, self.exponent = math.frexp(float(np.abs(whole).max()) or 1.0)
        points = np.ldexp(points, -self.exponent)
        points = points - points.mean(axis=0)  # large offsets would cost digits
        self.centred = points
        self.within: Within | None = None
        if part is not None:
            log_prior = np.asarray(part.whole.log_prior)
            scaled = np.ldexp(whole, -self.exponent)
            self.within = Within(kernel.lay_out, scaled, log_prior, part.labels)
            self.radius = self.within.radius
        else:
            self.table = kernel.lay_out(points, codebook.log_prior)
            self.radius = float(np.max(np.sum(points**2, axis=1)))
        self.precision = _precision(method, quantities, math.ldexp(self.radius, 2 * self.exponent))
        if self.within is not None and self.precision.gpu:
            self.precision = _Precision()
        self.draw = drawer(codebook)
        # Every logit stays finite.
        self.h = np.minimum(np.ldexp(np.sqrt(snr), self.exponent), 1e150)
        self.size = _block_size(codebook, self.h.size, method.memory)
        shape = (self.h.size, len(STATISTICS))
        #: The statistics themselves; what controls leave of them; means of Sobol replicates.
        self.plain, self.rest, self.nets = Moments(shape), Moments(shape), Moments(shape)
        #: Points in a Sobol replicate of each level; 0 for independent samples.
        self.points = np.zeros(self.h.size, dtype=np.int64)
        self.plan: pilot.Plan | None = None
        self.pilot = pilot.size(method)
        if pilot.affordable(codebook, self.h.size, self.pilot, method.memory):
            self._decide(points)

    def _decide(self, points: np.ndarray) -> None:
        codebook, method = self.codebook, self.method
        labels = None if self.part is None else self.part.labels[self.part.ids]
        known = (method.control, method.memory // 2, self.exponent, labels)
        self.controls = Controls(codebook, points, self.h, *known)
        is_net = codebook.n <= sobol.MAX_DIMENSION
        if is_net:
            order = neighbourly(points, max(codebook.K // 1024, 8))
            self.source = sobol.Nets(codebook, order, self.key)
            each = self.pilot // sobol.REPLICATES
            parts = [self.source.replicate(each, PILOT_NETS, r) for r in range(sobol.REPLICATES)]
        else:
            parts = [self.draw(generator(self.key, PILOT_SAMPLE), self.pilot)]
        ids, noise = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        pieces = [slice(i, i + self.size) for i in range(0, self.pilot, self.size)]
        every = np.arange(self.h.size)
        values = [self._statistics(ids[piece], noise[piece], every) for piece in pieces]
        self.plan = pilot.decide(
            self.controls,
            ids,
            noise,
            np.concatenate(values, axis=-1),
            self.quantities,
            is_net,
            TOKEN_COST_SINGLE if self.precision.error > 0 else TOKEN_COST,
        )

    def _statistics(self, ids: np.ndarray, noise: np.ndarray, levels: np.ndarray) -> np.ndarray:
        mmse, h = "mmse" in self.quantities, self.h[levels]
        if self.precision.gpu:
            log_prior = np.asarray(self.codebook.log_prior)
            return xla.block_statistics(self.centred, log_prior, ids, noise, h, mmse)
        block_statistics, single = self.kernel.block_statistics, self.precision.error > 0
        if self.within is not None and self.part is not None:
            tokens = self.part.ids[ids]
            return self.within.statistics(block_statistics, tokens, noise, h, mmse, single)
        return block_statistics(self.table, ids, noise, h, mmse, single)

    def advance(self, counts: Int[np.ndarray, " levels"]) -> None:
        """Sample on until every level has at least `counts` samples, in whole blocks or nets."""
        is_net = np.zeros(self.h.size, dtype=bool) if self.plan is None else self.plan.sobol
        self._advance_independent(np.flatnonzero(~is_net), counts)
        for level in np.flatnonzero(is_net & (self.points == 0)):
            self.points[level] = sobol.shape(int(counts[level]))[1]
        for points in np.unique(self.points[is_net]):
            self._advance_nets(np.flatnonzero(self.points == points), counts, int(points))

    def _advance_independent(self, levels: np.ndarray, counts: np.ndarray) -> None:
        """Block b of the stream is the same whoever takes part in it."""
        if levels.size == 0:
            return
        done, last = self.plain.n[levels, 0], int(counts[levels].max())
        limit = self.method.max_samples if self.method.has_target else last
        stops = np.minimum(-(-counts[levels] // self.size) * self.size, limit)
        for start in range(int(done.min()), int(stops.max()), self.size):
            active = levels[(done <= start) & (stops > start)]
            if active.size == 0:
                continue
            size = min(self.size, limit - start)
            ids, noise = self.draw(generator(self.key, SAMPLE, start // self.size), self.size)
            ids, noise = ids[:size], noise[:size]
            values = self._statistics(ids, noise, active)
            self.plain.add(values, active)
            rest = self._take_off(ids, noise, values, active)
            if rest is not None:
                self.rest.add(rest, active)
            self._report(start + size, int(stops.max()))

    def _advance_nets(self, levels: np.ndarray, counts: np.ndarray, points: int) -> None:
        done = self.nets.n[levels, 0]
        stops = np.maximum(-(-counts[levels] // points), sobol.REPLICATES)
        for number in range(int(done.min()), int(stops.max())):
            active = levels[(done <= number) & (stops > number)]
            if active.size == 0:
                continue
            ids, noise = self.source.replicate(points, NETS, number)
            total = np.zeros((active.size, len(STATISTICS)))
            for start in range(0, points, self.size):
                piece = slice(start, start + self.size)
                values = self._statistics(ids[piece], noise[piece], active)
                self.plain.add(values, active)
                rest = self._take_off(ids[piece], noise[piece], values, active)
                self.rest.add(values if rest is None else rest, active)
                total += (values if rest is None else rest).sum(axis=-1)
            self.nets.add((total / points)[..., None], active)
            self._report((number + 1) * points, int(stops.max()) * points)

    def _take_off(
        self, ids: np.ndarray, noise: np.ndarray, values: np.ndarray, levels: np.ndarray
    ) -> np.ndarray | None:
        """What controls leave of the statistics; None where no level has any."""
        plan = self.plan
        if plan is None or not any(plan.kinds[level] for level in levels):
            return None
        kinds = tuple({kind for level in levels for kind in plan.kinds[level]})
        block = self.controls.block(ids, noise, kinds)
        rest = values.copy()
        for row, level in zip(rest, levels, strict=True):
            if plan.kinds[level]:
                row -= plan.coefficients[level] @ block(level, plan.kinds[level])
        return rest

    def _report(self, done: int, wanted: int) -> None:
        if self.progress is not None:
            self.progress(done, wanted)

    def summarise(self, pilot: Moments | None = None) -> dict[str, dict[str, Any]]:
        """All quantities from the sample so far (or as the pilot has them)."""
        best, carriers = (pilot, None) if pilot else self._merged()
        source = pilot or self.plain
        summary = _summary(
            self.codebook,
            best,
            source,
            self.snr,
            (self.radius, self.exponent),
            self.plan,
            self.precision,
            carriers,
            self.part is not None,
        )
        for fields in summary.values():
            fields["n_samples"] = source.n[:, 0]
            nets = self.nets.n[:, 0]
            fields["degrees_of_freedom"] = np.where(nets > 0, nets - 1, np.inf)
        return {name: summary[name] for name in self.quantities}

    def is_thin(self) -> Bool[np.ndarray, " levels"]:
        """Whether few samples carry some variance that matters, of a mean that many carry."""
        columns = sorted({column for name in self.quantities for column in pilot.COLUMNS[name]})
        informative = self.plain.effective()
        # Where the entropy is rare, so is what moves the divergence from its limit, and conversely.
        informative[:, [1, 3]] = informative[:, [1, 3]].min(axis=1, keepdims=True)
        thin = (self._merged()[1] < MIN_CARRIERS) & (informative >= MIN_EFFECTIVE)
        return thin[:, columns].any(axis=1) & (self.snr > 0)

    def _merged(self) -> tuple[Moments, np.ndarray]:
        """The moments that the estimate rests on, of every level and statistic; what carries them.

        That is the number of samples that carry the variance, infinite where there is none.
        """
        plan = self.plan
        if plan is None:
            return self.plain, self.plain.carriers()
        out = Moments(self.plain.mean.shape)
        # A variance that few samples carry is not to be trusted: then the plain one is taken, of
        # the same samples. Where nothing but rounding is left, there is nothing to trust.
        trusted = self.rest.carriers() >= MIN_CARRIERS
        trusted |= self.rest.squares <= 1e-20 * self.plain.squares
        used = plan.used & trusted & (self.rest.n > 0)
        is_net = np.broadcast_to(plan.sobol[:, None], used.shape)
        out.n = np.where(plan.sobol[:, None], self.nets.n, self.plain.n)
        for name in ("mean", "squares", "cubes"):
            rest, plain = getattr(self.rest, name), getattr(self.plain, name)
            net = np.zeros_like(plain) if name == "cubes" else getattr(self.nets, name)
            setattr(out, name, np.where(is_net, net, np.where(used, rest, plain)))
        rounding = [
            np.abs(beta) @ self.controls.rounding(level)[self.controls.rows(kinds)]
            for level, (beta, kinds) in enumerate(zip(plan.coefficients, plan.kinds, strict=True))
        ]
        out.rounding = np.where(used | (is_net & plan.used), rounding, 0.0)
        carriers = np.where(used | is_net, self.rest.carriers(), self.plain.carriers())
        return out, carriers


class _Precision(NamedTuple):
    """Where the statistics are computed, and what that may add to them (see `kernel`)."""

    gpu: bool = False
    error: float = 0.0
    floor: float = 0.0


def _precision(method: MonteCarlo, quantities: Sequence[str], radius: float) -> _Precision:
    """Single precision where it was asked for, or where no target would notice it."""
    from tokenkl.information.sampling import kernel

    if method.precision == "double" or not 1e-12 < radius < 1e12:
        return _Precision()
    if xla.has_gpu():
        return _Precision(True, xla.ERROR, xla.FLOOR)
    scale = max(1.0, 4 * radius) if "mmse" in quantities else 1.0
    error, floor = kernel.SINGLE_ERROR, kernel.SINGLE_FLOOR
    if method.precision == "single" or method.atol >= UNNOTICED * (error + floor) * scale:
        return _Precision(False, error, floor)
    return _Precision()


def _block_size(codebook: Codebook, levels: int, memory: int) -> int:
    """Samples in one block: what half of the memory allows, and few enough to see progress."""
    bytes_each = 8 * (4 * codebook.n + 6 * len(STATISTICS) * levels + 200)
    return int(np.clip(min(memory // 2 // bytes_each, MAX_WORK // codebook.K), 1, MAX_BLOCK))


def drawer(codebook: Codebook) -> Callable[[np.random.Generator, int], tuple[Any, Any]]:
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


def samples_needed(
    summaries: dict[str, dict[str, Any]],
    done: Int[np.ndarray, " levels"],
    growth: float,
    method: MonteCarlo,
    part: Part | None = None,
) -> Int[np.ndarray, " levels"]:
    """Samples that bring the standard errors to their targets, from the variances so far."""
    ratio = np.zeros(done.shape)
    for name, summary in summaries.items():
        value, error = summary["value"], summary["standard_error"]
        if part is not None:
            value, error = part.weight * value + part.known[name], part.weight * error / SHARE
        target = method.atol + method.rtol * np.abs(value)
        excess = error / np.maximum(target, np.finfo(float).tiny)
        ratio = np.maximum(ratio, np.minimum(excess, 1e6))
    # A tenth more than the estimate asks for, and not too many times more on a rough variance.
    more = np.ceil(np.minimum(1.1 * ratio**2, growth) * done).astype(np.int64)
    return np.where(ratio <= 1, np.minimum(more, done), more)


def _summary(
    codebook: Codebook,
    moments: Moments,
    plain: Moments,
    snr: Float[np.ndarray, " s"],
    size: tuple[float, int],
    plan: pilot.Plan | None,
    precision: _Precision,
    carriers: np.ndarray | None,
    is_part: bool,
) -> dict[str, dict[str, Any]]:
    """Means and errors; `size` is the largest squared distance from the centre, and the exponent
    of the power of two that distances are divided by.

    The `plain` moments say how many samples are informative, with or without controls; `carriers`
    how many are behind the variance (None: that does not matter yet). Of a part of the
    tokens the mutual information is their share in the mean divergence from the prior.
    """
    radius, exponent = size
    eps = np.finfo(float).eps
    log_K = math.log(max(codebook.K, 2))
    mmse = moments.mean[:, 2]
    informative = plain.effective()
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
        mean = np.abs(moments.mean[:, index])
        single = precision.error * mean
        if name in ("conditional_entropy", "divergence"):
            single = precision.error * np.minimum(mean, 1.0) + precision.floor
        elif name == "mmse" and precision.error > 0:  # rounded weights move the posterior mean
            single = single + 2.0**-22 * np.sqrt(radius * mean) + 2.0**-44 * radius
        informed = (informative[:, index] >= MIN_EFFECTIVE) | (length == 0)
        out[name] = {
            "value": moments.mean[:, index],
            "standard_error": moments.standard_error[:, index],
            "skewness": moments.skewness[:, index],
            "numerical_error": (1e-12 * mean + moments.rounding[:, index] + rounding + single),
            "interval_supported": informed | certain,
            "sample_range": length,
        }
    if carriers is not None:
        carried = moments.carried(carriers)
        for index, name in enumerate(scales):
            out[name]["interval_supported"] &= carried[:, index] | certain
    for field in ("value", "standard_error", "numerical_error", "sample_range"):
        out["mmse"][field] = np.ldexp(out["mmse"][field], 2 * exponent)
    correct = 1 - out["error_probability"]["value"]
    count = plain.n[:, 0]
    effective = count * correct**2 / (correct**2 + plain.squares[:, 0] / np.maximum(count, 1))
    out["error_probability"]["interval_supported"] &= (effective >= MIN_EFFECTIVE) | certain
    out["accuracy"] = out["error_probability"] | {
        "value": correct,
        "skewness": -out["error_probability"]["skewness"],
        "numerical_error": out["error_probability"]["numerical_error"] + eps,
    }
    # Two unbiased routes to the mutual information: the one with the smaller variance, in the pilot
    # where there was one. Both need support: an entropy near 0 and a divergence near 0 are carried
    # by few samples each.
    direct = out.pop("divergence")
    entropy = out["conditional_entropy"]
    use_direct = direct["standard_error"] < entropy["standard_error"]
    if is_part:
        use_direct = np.ones_like(use_direct)
    elif plan is not None:
        use_direct = plan.direct
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
            return jnp.stack(
                [
                    others / total,
                    jnp.log1p(others) - mean_logit,
                    second - jnp.sum(centre**2),
                    mean_logit - jnp.log1p(others) - mean_prior,
                ]
            )

        return jax.vmap(at_level)(h)

    K, n = points.shape
    together = int(np.clip(TRACED_WORK // (K * max(n, h.shape[0])), 1, ids.shape[0]))
    values = jax.lax.map(sample, (ids, noise), batch_size=together)
    return jnp.moveaxis(values, 0, -1)


def traced_profile(codebook: Codebook, snr: Any, method: MonteCarlo, key: Any) -> dict[str, Any]:
    """Differentiable estimates: the same samples at every value of the traced inputs.

    Tokens are drawn with common random numbers and weighted by prior / stop_gradient(prior), so
    that derivatives with respect to points, prior and snr are unbiased.
    """
    points, log_prior = codebook.points, codebook.log_prior
    if not is_traced(points):
        points = np.asarray(points) - np.mean(points, axis=0)  # before float32 loses the offset
    size = method.n_samples or 2**12
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
        # By I-MMSE at snr 0, where samples of the slope would have no variance.
        moved = jax.jvp(lambda g: averages(g, rest), (gamma,), (jnp.ones_like(gamma),))[1]
        half = averages(gamma, rest)[:, 2] / 2
        known_there = moved.at[:, 1].set(-half).at[:, 3].set(half)
        return jnp.where((gamma > 0)[:, None], moved, known_there)

    mean = with_slope(averages, slopes)(jnp.asarray(snr), known)
    return {
        "error_probability": mean[:, 0],
        "accuracy": jnp.mean(weight) - mean[:, 0],
        "conditional_entropy": mean[:, 1],
        "mutual_information": codebook.prior_entropy() - mean[:, 1],
        "mmse": mean[:, 2],
    }
