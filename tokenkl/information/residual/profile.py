"""Residual codebooks whose K = K_1 ... K_S sums cannot be enumerated: brackets by particle filters.

With f_k(y) = exp(-|y - h e_k|^2 / 2) and Z(y) = sum_k pi_k f_k(y), everything asked for is an
average over y of something that Z, or the posterior pi_k f_k / Z, enters. The filter of
`_residual_kernel` walks through the stages with a bounded number of prefixes. Its look-ahead is a
Gaussian law for the sum of the later stages, with their true mean and covariance. It runs twice for
every observation. Let W_j be the weights of the leaves that are left at the end of a run, and
Z^ = sum_j W_j. The first run, u, knows y alone, the second, v, is told the true token and keeps it.

    E log Z^_u  <=  E log Z  <=  E log (Z^_u + Z^_v)/2  (bidirectional Monte-Carlo)
    E 1 / Z^_v   =  E 1 / Z
    p(k | y, v)  =  W_k / Z^_v  for the leaves of v     (what a genie who shows v leaves open)

(docs/theory/rvq.md has the proofs; the last two hold for the leaves of both runs, too). Hence for
every number of particles, in expectation:

- I = E[log f_k - log Z] and H = H(pi) - I lie between the values with both and with Z^_u; and H is
  at least the mean entropy of the genie's W_k / Z^_v, which says more where prefixes get lost;
- accuracy: with m = max_k pi_k f_k between the best leaf that was found and a bound from the radius
  of the codebook, A = E[m / Z] = E[m / Z^_v]; and A <= E max_j W_j / Z^_v, by the genie;
- mmse: at least the posterior variance over the leaves of both runs (the genie again), at most
  E[V + |m_v - m_u|^2], with V over those of v: what the posterior mean over the leaves of u
  achieves;
- sampling error: at least E[1 - sum p(k | y, v)^2] (the genie), and at most E |1_k - q|^2, the
  Brier score of any q that knows y alone, such as the weights of the leaves of u.

Half of the mean width of the bracket is reported as numerical error, sampling errors beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from jaxtyping import Float, Int
from scipy import special
from threadpoolctl import threadpool_limits

from tokenkl._once import once
from tokenkl._random import draw_ids, generator
from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.residual import ResidualCodebook
from tokenkl.information.estimators import (
    DOUBLE_ALONE,
    Names,
    Progress,
    SampleAverage,
    Served,
    Task,
)
from tokenkl.information.findings import Findings
from tokenkl.information.methods import MonteCarlo
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.near_certain import Unmet
from tokenkl.information.sampling.targets import sample_on, samples_needed
from tokenkl.numerics.moments import MIN_CARRIERS, MIN_EFFECTIVE, Moments
from tokenkl.numerics.neighbours import neighbourly
from tokenkl.numerics.threads import share_out

if TYPE_CHECKING:
    from tokenkl.information.residual.filter import Tables

EPS = float(np.finfo(float).eps)
#: Samples when neither a count nor a target is given, and before the first look at a target.
DEFAULT_SAMPLES = 2**10
#: Samples of the pilot, which chooses the number of particles and the control variates: a
#: quarter of those that follow, within these bounds.
LEAST_PILOT, PILOT = 32, 128
#: Fewest particles, and most of them without and with a target for the error. The pilot looks for
#: the number at which the numerical error falls below the standard error, or the target.
FEWEST, MOST, MOST_FOR_TARGET = 32, 128, 1024
#: Without a target there are at most as many particles as one for so many samples.
FEW_EACH = 4
#: The same where stages are large and each particle takes long: both runs together have twice as
#: many, which makes up for it at those ends that look at both (docs/theory/rvq.md, R2a). The upper
#: end of the MMSE looks at one, and is wider than it would be with `FEWEST`.
FEWEST_OF_LARGE, FEW_EACH_OF_LARGE = 16, 8
#: Half-width of a bracket, relative to the value, below which no more particles are asked for
#: unless there is a target.
ENOUGH = 5e-3
#: Accuracies below this do not ask for more particles: their brackets are narrow in any case.
SMALL_ACCURACY = 0.02
#: Probabilities of being wrong.
ERRORS = ("error_probability", "sampling_error")
#: Stages are joined while their product has at most this many vectors.
JOINED = 1024
#: Samples that are drawn together, and samples that a thread takes at a time.
BLOCK, TASK = 256, 8
#: Controls are used where they leave less than this part of the variance of the pilot.
WORTHWHILE = 0.25
#: Vectors of a stage are of another kind than those so many times as likely, or half as long.
UNLIKELY = 10.0
#: A chi-square variable with n degrees of freedom is above n + LOST (sqrt(n) + LOST) with a
#: probability below exp(-LOST^2 / 4).
LOST = 6.0
#: What a vector of a stage costs for each particle and coordinate, in seconds.
VECTOR_COST = 5e-10
#: Rounding of logarithms of weights, in nats, that products instead of differences may bring.
UNNOTICED = 1e-8
#: A stage of so many numbers is large: products in single precision save time. The rounding of
#: scores, in nats, by which prefixes may be thinned out: it costs a little spread, and no bias.
WORTH_SINGLE, ROUGH = 2**14, 1e-2
#: Classes of a stage's vectors (as in `filter`); one of them is enough to go on from where about so
#: many of it, or more, matter for a prefix.
CLASSES, ENOUGH_OF_CLASS = 8, 64
#: Rounding of an MMSE, relative to the linear one, that may come with its shortest way.
NO_MATTER = 1e-9
#: Singular values of a stage, relative to all of it, that are rounding.
NOTHING = 1e-13
#: Where the bracket of a probability, or of an information relative to H(pi), is wider than this
#: on either side, the note calls it of no use.
USELESS = 0.2


def too_large_to_enumerate(codebook: Codebook) -> TypeGuard[ResidualCodebook]:
    """Whether this is a residual codebook whose points are more than may be materialised.

    Its prior must be equal or a product over stages; a prior of K numbers is never that large.
    """
    return (
        isinstance(codebook, ResidualCodebook)
        and codebook.given_prior is None
        and not codebook.fits
    )


class ParticleFilter(SampleAverage):
    """`residual_profile`, for residual codebooks that are too large for all else."""

    name = "particle filter over stages, bracket"
    kinds = ResidualCodebook
    only = DOUBLE_ALONE

    def serves(self, problem: Problem, wanted: Names, asked: bool) -> Served:
        return wanted, too_large_to_enumerate(problem.codebook)

    def seconds(self, problem: Problem, method: MonteCarlo) -> float:
        count = min(method.n_samples or DEFAULT_SAMPLES, method.max_samples)
        numbers = sum(c.size for c in prepared(problem.codebook).vectors)
        each = MOST * numbers * VECTOR_COST
        return (count + PILOT) * each

    def run(self, task: Task) -> dict[str, Findings]:
        return residual_profile(*task)


def residual_profile(
    problem: Problem,
    quantities: Sequence[str],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None = None,
) -> dict[str, Findings]:
    """Brackets of the quantities for a residual codebook of any size.

    The time for one sample at one SNR is proportional to the particles times sum_s K_s times n. The
    memory of a thread, beside the stages, is proportional to the particles times max_s K_s; the
    number of particles is cut until this fits `method.memory`. Targets are for standard error and
    numerical error alike.
    """
    snr = problem.snr

    def found(levels: list[_Level]) -> dict[str, Findings]:
        rows = [level.summary() for level in levels]
        return {name: _stacked([row[name] for row in rows], levels[0].done) for name in quantities}

    levels = _sampled(problem, quantities, method, key, progress, lambda x: found(x).values())
    return {
        name: dataclasses.replace(one, note=_note(name, snr, one, levels[0].prior_entropy))
        for name, one in found(levels).items()
    }


def residual_sums(
    problem: Problem,
    weights: Mapping[str, Float[np.ndarray, "sums s"]],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None = None,
) -> tuple[Findings, Float[np.ndarray, " sums"]]:
    """Brackets of sums over levels and quantities, with a weight for each in every sum.

    Beside them what the standard errors of the summands add up to, were they all correlated.

    All levels have the same draws, and every sum is formed for each of them before anything is
    averaged: standard errors know how the levels depend on each other. An end of a sum takes from
    each summand the end that its sign asks for. Targets as in `residual_profile`.
    """
    quantities = tuple(weights)

    def found(levels: list[_Level]) -> list[Findings]:
        return [_summed(levels, weights)]

    levels = _sampled(problem, quantities, method, key, progress, found)
    spread = np.zeros(len(next(iter(weights.values()))))
    for place, level in enumerate(levels):
        known = level.summary()
        for name, whole in weights.items():
            spread += np.abs(whole[:, place]) * known[name]["standard_error"]
    return _summed(levels, weights), spread


def _summed(
    levels: Sequence[_Level], weights: Mapping[str, Float[np.ndarray, "sums s"]]
) -> Findings:
    sums = len(next(iter(weights.values())))
    ends = np.zeros((sums, 2, levels[0].done + levels[0].weights.size))
    error, reach = np.zeros((2, sums))
    for place, level in enumerate(levels):
        known, ends_of = level.summary(), level.found()
        for name, whole in weights.items():
            weight, size, one = whole[:, place], np.abs(whole[:, place]), known[name]
            sampled = one["standard_error"] > 0
            bracket = ends_of[name] if sampled else np.full((2, 1), one["value"])
            turned = weight < 0
            ends += weight[:, None, None] * np.where(turned[:, None, None], bracket[::-1], bracket)
            rest = level.arithmetic(name, one["value"]) if sampled else one["numerical_error"]
            error += size * rest
            reach += size * one["sample_range"]
    moments, widened = levels[0].averages(ends)
    carried = moments.carried()[:, 1] & (moments.effective()[:, 1] >= MIN_EFFECTIVE)
    return Findings(
        moments.mean[:, 1],
        widened.standard_error.max(axis=1),
        error + np.maximum(moments.mean[:, 2] - moments.mean[:, 0], 0.0) / 2,
        levels[0].done,
        carried,
        reach,
        widened.skewness[:, 1],
        method=ParticleFilter.name,
    )


def _sampled(
    problem: Problem,
    quantities: Sequence[str],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None,
    found: Callable[[list[_Level]], Iterable[Findings]],
) -> list[_Level]:
    """Levels with as many samples as `found`, which looks at them, needs for its targets."""
    from scipy import linalg  # noqa: F401  (its BLAS is there before its threads are limited)

    stages = prepared(problem.codebook)
    first = min(method.n_samples or DEFAULT_SAMPLES, method.max_samples)
    levels = [_Level(stages, float(level), quantities) for level in problem.snr]
    done = 0

    def advance(wanted: int) -> int:
        nonlocal done
        _sample(levels, key, done, int(wanted), progress)
        done = int(wanted)
        return done

    def needed() -> int:  # all levels go on together: they share their draws
        pairs = [(one.value, one.standard_error) for one in found(levels)]
        counts = [samples_needed([pair], np.full(pair[0].shape, done), method) for pair in pairs]
        return int(max(count.max(initial=0) for count in counts))

    with threadpool_limits(1, "blas"):  # products whose bits do not depend on the threads
        for level in levels:
            level.look_for_unmet(generator(key, 2), first)
            level.tune(generator(key, 0), first, method)
            if progress is not None:
                progress(0, first)
        sample_on(first, method, advance, needed)
    return levels


def _sample(
    levels: list[_Level], key: Any, done: int, wanted: int, progress: Progress | None
) -> None:
    """Samples number `done` to `wanted` at every level, from the same draws at all of them."""
    whole = sum(level.particles for level in levels) * (wanted - done)
    work = 0
    for level in levels:
        tables = level.tables()
        for start in range(done - done % BLOCK, wanted, BLOCK):
            rows = slice(max(done - start, 0), min(wanted - start, BLOCK))
            level.blocks.append(level.run(tables, generator(key, 1, start // BLOCK), rows))
            work += level.particles * (rows.stop - rows.start)
            if progress is not None:
                progress(done + work * (wanted - done) // whole, wanted)


@dataclasses.dataclass(frozen=True, eq=False)
class Stages:
    """Centred stages from the widest to the narrowest; the radius of their sum; its extent.

    `radius` bounds the distance of a token from the mean, `extent` its coordinates off centre.
    """

    vectors: list[Float[np.ndarray, "K_s n"]]
    log_prior: list[Float[np.ndarray, " K_s"]]
    covariances: list[Float[np.ndarray, "n n"]]
    radius: float
    extent: float

    @functools.cached_property
    def padded(self) -> Padded:
        """As arrays of common sizes."""
        n = self.vectors[0].shape[1]
        sizes = np.array([p.size for p in self.log_prior])
        vectors = np.zeros((sizes.size, sizes.max(), -(-n // 4) * 4))
        log_prior = np.zeros((sizes.size, sizes.max()))
        for s, size in enumerate(sizes):
            vectors[s, :size, :n] = self.vectors[s]
            log_prior[s, :size] = self.log_prior[s]
        return Padded(vectors, log_prior, sizes)


@dataclasses.dataclass(frozen=True, eq=False)
class Padded:
    """What of the kernel's arguments depends on no noise level."""

    vectors: Float[np.ndarray, "stages K n"]
    log_prior: Float[np.ndarray, "stages K"]
    sizes: Int[np.ndarray, " stages"]

    @functools.cached_property
    def columns(self) -> Float[np.ndarray, "stages n K"]:
        """The vectors, turned."""
        return np.ascontiguousarray(self.vectors.transpose(0, 2, 1))

    @functools.cached_property
    def leaves(self) -> Float[np.ndarray, "1 n K"]:
        """Those of the last stage."""
        return np.ascontiguousarray(self.vectors[-1:].transpose(0, 2, 1))

    @functools.cached_property
    def rough(self) -> Float[np.ndarray, "stages n K"]:
        """All of them in single precision, but for the last stage."""
        turned = self.vectors[:-1].transpose(0, 2, 1)
        return np.ascontiguousarray(turned, dtype=np.float32)

    @functools.cached_property
    def classes(self) -> Float[np.ndarray, "stages classes n each"]:
        """The same by class: every `CLASSES`-th vector, as far as they are as many in each."""
        each = self.rough.shape[2] // CLASSES
        return np.stack(
            [self.rough[:, :, a : each * CLASSES : CLASSES] for a in range(CLASSES)], axis=1
        ).copy()

    @functools.cached_property
    def lengths(self) -> Float[np.ndarray, " K"]:
        """Squares of the last stage's vectors."""
        return np.einsum("ji,ji->j", self.vectors[-1], self.vectors[-1])


def radius_of(codebook: ResidualCodebook) -> float:
    """A bound on the distance of a token from the mean point."""
    pairs = zip(codebook.stages, codebook.stage_weights(), strict=True)
    centred = (np.asarray(stage) - weight @ np.asarray(stage) for stage, weight in pairs)
    return sum(math.sqrt((c**2).sum(axis=1).max()) for c in centred)


def prepared(codebook: Codebook) -> Stages:
    """`prepare`, once for a codebook: many problems are posed of one."""
    assert isinstance(codebook, ResidualCodebook)
    return once(codebook, prepare)


def prepare(codebook: ResidualCodebook) -> Stages:
    """Stages as the filter wants them: small ones joined, the widest first, in k-d order."""
    pairs = []
    for stage, log_prior in zip(codebook.stages, codebook.stage_log_priors, strict=True):
        c, p = np.asarray(stage, dtype=float), np.asarray(log_prior)
        pairs.append((c - np.exp(p) @ c, p))
    extent = sum(float(np.abs(stage).max()) for stage in codebook.stages)
    radius = radius_of(codebook)
    pairs.sort(key=lambda pair: -float(np.exp(pair[1]) @ (pair[0] ** 2).sum(axis=1)))
    basis = _span([c for c, _ in pairs])
    if len(basis) < codebook.n:  # what is beside all tokens says nothing
        pairs = [(c @ basis.T, p) for c, p in pairs]
        extent = max(extent, radius)
    joined = [pairs[0]]
    for c, p in pairs[1:]:
        if joined[-1][1].size * p.size <= JOINED:
            sums, log_sums = joined.pop()
            c = (sums[:, None] + c).reshape(-1, c.shape[1])
            p = (log_sums[:, None] + p).ravel()
        joined.append((c, p))
    for index, (c, p) in enumerate(joined):
        # Neighbours next to each other: what is thinned out is then spread evenly.
        order = neighbourly(c, 1)
        joined[index] = (c[order], p[order])
    covariances = [(c.T * np.exp(p)) @ c for c, p in joined]
    return Stages([c for c, _ in joined], [p for _, p in joined], covariances, radius, extent)


def _span(stages: Sequence[Float[np.ndarray, "K_s n"]]) -> Float[np.ndarray, "m n"]:
    """An orthonormal basis of all vectors; what counts in a stage is measured by its own size."""
    basis = np.zeros((0, stages[0].shape[1]))
    for c in stages:
        size = np.abs(c).max()
        if len(basis) == basis.shape[1] or size == 0:
            continue
        rest = c / size
        for _ in range(2):  # the second time for what rounding left
            rest = rest - (rest @ basis.T) @ basis
        _, values, rows = np.linalg.svd(rest, full_matrices=False)
        basis = np.concatenate([basis, rows[values > NOTHING * np.linalg.norm(c / size)]])
    return basis if len(basis) else np.eye(1, basis.shape[1])


class _Level:
    """One noise level: its number of particles, its control variates and its samples so far."""

    def __init__(self, stages: Stages, snr: float, quantities: Sequence[str]) -> None:
        snr = min(snr, 1e140 / max(stages.extent, 1.0) ** 2)  # keeps all squares finite
        self.stages, self.snr, self.h = stages, snr, math.sqrt(snr)
        self.quantities = quantities
        self.n = stages.vectors[0].shape[1]
        self.width = max(p.size for p in stages.log_prior)
        self.large = self.width * self.n >= WORTH_SINGLE
        self.fewest = FEWEST_OF_LARGE if self.large else FEWEST
        self.few_each = FEW_EACH_OF_LARGE if self.large else FEW_EACH
        self.particles = self.fewest
        self.blocks: list[dict[str, np.ndarray]] = []
        #: Samples of vectors that are hardly met; sums with the weights are averages over all
        #: tokens, and `below` is the probability of all that are of such a kind (see `Unmet`).
        self.unmet: dict[str, np.ndarray] = {}
        self.weights, self.below = np.zeros((2, 0))
        self.prior_entropy = sum(-float(np.exp(p) @ p) for p in stages.log_prior)
        self.shrink = 0.0
        self.controls: dict[str, np.ndarray] = {}
        self._tables: Tables | None = None
        #: Stages of which a prefix looks at one class of vectors, known with the tables.
        self.sparse = 0

        covariance = np.sum(stages.covariances, axis=0)
        self.power = float(np.trace(covariance))
        values = np.maximum(np.linalg.eigvalsh(covariance), 0.0)
        #: The information of a Gaussian law of tokens with the same covariance.
        self.gaussian = 0.5 * float(np.log1p(snr * values).sum())
        self.precision = np.linalg.inv(np.eye(self.n) + snr * covariance)
        self.linear = self.h * covariance @ self.precision
        self.linear_mmse = float((values / (1 + snr * values)).sum())
        # Residuals are found by subtraction from y, whose coordinates are about h * extent.
        size = 64 * (self.prior_entropy + self.n) + 8 * self.n * self.h * stages.extent
        self.rounding = EPS * size
        # By products it is that of squares, no matter where it is far below what samples tell.
        reach = 2 * self.h * stages.radius + math.sqrt(self.n) + LOST
        of_products = EPS * (self.n + 8) * reach**2
        self.by_products = of_products < UNNOTICED
        #: Whether prefixes may be thinned out by products in single precision.
        self.roughly = float(np.finfo(np.float32).eps) * reach**2 < ROUGH
        self.rounding += self.by_products * of_products
        #: Rounding of second moments that come from the mean of |y - h e|^2, and whether they do.
        self.of_energy = 8 * of_products / snr if snr > 0 else math.inf
        self.from_energy = self.by_products and self.of_energy < NO_MATTER * self.linear_mmse

    def tables(self) -> Tables:
        """The arguments of the kernel that depend on no sample."""
        if self._tables is None or not self.by_products:  # those of differences are large
            self._tables = self._make_tables()
        return self._tables

    def _make_tables(self) -> Tables:
        from tokenkl.information.residual import filter as kernel

        whole, n = self.stages.padded, self.n
        stages, width, padded = whole.vectors.shape
        single = self.roughly and self.large and self.by_products
        none = np.empty((0, 0, 0))
        scaled = none if self.by_products else np.zeros((stages, padded, width))
        moved, roots = (np.zeros((stages, padded, padded)) for _ in range(2))
        biased = whole.log_prior.copy()
        sparse = np.zeros(stages, dtype=bool)
        later = np.cumsum(self.stages.covariances[::-1], axis=0)[::-1]

        def fill(part: slice) -> None:
            for s in range(part.start, min(part.stop, stages)):
                behind = later[s + 1] if s + 1 < stages else np.zeros((n, n))
                inner = np.linalg.inv(np.eye(n) + self.snr * behind)
                moved[s, :n, :n] = (inner + inner.T) / 2
                c = whole.vectors[s]
                told = self.snr * float((inner * self.stages.covariances[s]).sum())
                many = whole.sizes[s] * math.exp(-min(told, 100.0)) >= ENOUGH_OF_CLASS * CLASSES
                sparse[s] = single and many and whole.sizes[s] == width and width % CLASSES == 0
                if self.by_products:
                    # Where they only thin prefixes out, scores need no more digits than products.
                    kind = np.float32 if single and s < stages - 1 else np.float64
                    inner = moved[s].astype(kind, copy=False)
                    squares = _squares(c.astype(kind, copy=False), inner)
                    biased[s] -= self.snr / 2 * squares
                else:
                    roots[s, :n, :n] = np.linalg.cholesky(inner).T
                    scaled[s] = roots[s] @ (self.h * c.T)

        share_out(fill, stages, 1)
        sparse[0] = sparse[-1] = False  # a single prefix; leaves
        self.sparse = int(sparse.sum())
        none_single = none.astype(np.float32)
        return kernel.Tables(
            columns=whole.columns if self.by_products and not single else whole.leaves,
            vectors=whole.vectors,
            lengths=whole.lengths,
            rough=whole.rough if single else none_single,
            classes=whole.classes if sparse.any() else np.empty((0, 0, 0, 0), np.float32),
            moved=none if single else moved,
            nearly=moved.astype(np.float32) if single else none_single,
            scaled=scaled,
            roots=none if self.by_products else roots,
            log_prior=whole.log_prior,
            biased=biased,
            by_class=_by_class(biased),
            sizes=whole.sizes,
            sparse=sparse,
        )

    def run(
        self,
        tables: Tables,
        rng: np.random.Generator,
        rows: slice,
        forced: tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]] | None = None,
    ) -> dict[str, np.ndarray]:
        """What both runs of the filter say about some samples of a block.

        Where they are `forced`, with this vector of this stage.
        """
        from tokenkl.information.residual import filter as kernel

        stages, n = self.stages, self.n
        draws = [draw_ids(rng, _weights(p), p.size, BLOCK) for p in stages.log_prior]
        paths = np.stack(draws, axis=1)[rows]
        if forced is not None:
            paths[np.arange(len(paths)), forced[0]] = forced[1]
        noise = rng.standard_normal((BLOCK, n))[rows]
        uniforms = rng.random((BLOCK, 2, len(draws)))[rows]
        true = np.sum([c[paths[:, s]] for s, c in enumerate(stages.vectors)], axis=0)
        y = self.h * true + noise
        padded = stages.padded.vectors.shape[2]
        out = np.empty((len(y), 2, len(kernel.FIELDS) + padded))
        wide_y, wide_true = (np.pad(x, ((0, 0), (0, padded - n))) for x in (y, true))

        def work(part: slice) -> None:
            kernel.filter_samples(
                tables,
                self.h,
                wide_y[part],
                wide_true[part],
                paths[part],
                uniforms[part],
                self.particles,
                self.by_products,
                "mmse" in self.quantities,
                self.from_energy,
                "sampling_error" in self.quantities,
                out[part],
            )

        share_out(work, len(y), TASK)
        free, told = (dict(zip(kernel.FIELDS, out[:, i].T, strict=False)) for i in (0, 1))
        skip = len(kernel.FIELDS)
        free_mean, mean = out[:, 0, skip : skip + n], out[:, 1, skip : skip + n]
        # Leaves of both runs are those of one filter with twice the particles, whose halves know
        # nothing of each other, and which is told the true token (docs/theory/rvq.md, R2a).
        share = special.expit(told["log_total"] - free["log_total"])[:, None]
        second = share[:, 0] * told["second"] + (1 - share[:, 0]) * free["second"]
        middle = share * mean + (1 - share) * free_mean
        together = np.maximum(second - (middle**2).sum(axis=1), 0.0)
        linear = y @ self.linear - true  # like the means, relative to the true token
        # Leaves farther from y than noise ever is: the run got lost. It knows y alone, and so may
        # decide by this.
        lost = -2 * free["energy"] > n + LOST * (math.sqrt(n) + LOST)
        free_mean = np.where(lost[:, None], linear, free_mean)
        outside = np.maximum(np.linalg.norm(y, axis=1) - self.h * stages.radius, 0.0)
        return {
            "lower": free["log_total"],
            "upper": told["log_total"],
            "both": np.logaddexp(free["log_total"], told["log_total"]) - math.log(2),
            "energy": told["energy"],
            "log_prior": told["log_prior"],
            "log_weight": told["log_weight"],
            "gauss": -0.5 * np.einsum("si,ij,sj->s", y, self.precision, y),
            "best": np.maximum(free["best"], told["best"]),
            "heaviest": told["heaviest"],
            "ceiling": sum(float(p.max()) for p in stages.log_prior) - 0.5 * outside**2,
            "alike": told["alike"],
            # 0 is a q as well, and better than that of a run that got lost.
            "brier": np.where(lost, 1.0, 1 - 2 * free["found"] + free["alike"]),
            "variance": np.maximum(told["second"] - (mean**2).sum(axis=1), 0.0),
            "together": together,
            # With the estimate linear + shrink * (free_mean - linear), the squared distance from
            # the mean is a + shrink * b + shrink^2 * c.
            "far": ((mean - linear) ** 2).sum(axis=1),
            "cross": ((mean - linear) * (free_mean - linear)).sum(axis=1),
            "step": ((free_mean - linear) ** 2).sum(axis=1),
        }

    # ---- From samples to brackets ---------------------------------------------------------------

    def brackets(
        self, x: dict[str, np.ndarray], count: int
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Two statistics for each quantity, whose means bracket it; no controls yet.

        Which of two bounds is taken, is decided by the first `count` samples.
        """
        known = x["energy"] + x["log_prior"]
        lower, genie = x["lower"] - known, x["upper"] - x["log_weight"]
        # Where a lost prefix costs much, what the genie leaves open says more.
        lower = genie if genie[:count].mean() > lower[:count].mean() else lower
        found = {"conditional_entropy": (lower, x["both"] - known)}
        miss = x["far"] - 2 * self.shrink * x["cross"] + self.shrink**2 * x["step"]
        found["mmse"] = (x["together"], x["variance"] + miss)
        low = np.minimum(x["best"] - x["upper"], 0.0)
        high = x["heaviest"] - x["upper"]
        ceiling = np.exp(np.minimum(x["ceiling"] - x["upper"], 700.0))
        if ceiling[:count].mean() < np.exp(high[:count]).mean():
            found["accuracy"] = (np.exp(low), ceiling)
            found["error_probability"] = (1 - ceiling, -np.expm1(low))
        else:
            found["accuracy"] = (np.exp(low), np.exp(high))
            found["error_probability"] = (-np.expm1(high), -np.expm1(low))
        if "sampling_error" in self.quantities:
            found["sampling_error"] = (1 - x["alike"], x["brier"])
        return found

    def with_mean_0(self, x: dict[str, np.ndarray], name: str) -> Float[np.ndarray, "c samples"]:
        """Control variates: all have mean 0, since the conditional run obeys the posterior."""
        gauss = x["gauss"] + self.n / 2
        columns = [gauss, x["energy"] + self.n / 2 - gauss, x["log_prior"] + self.prior_entropy]
        if name == "mmse":
            columns.append(x["variance"] + x["far"] - self.linear_mmse)
        return np.stack(columns)

    def look_for_unmet(self, rng: np.random.Generator, wanted: int) -> None:
        """Samples of those kinds of vectors of which too few are to be expected."""
        below = [
            np.minimum(
                _mass(p, -p, -p - math.log(UNLIKELY)),
                _mass(p, squares, squares / 4),
            )
            for c, p in zip(self.stages.vectors, self.stages.log_prior, strict=True)
            for squares in [np.einsum("ki,ki->k", c, c)]
        ]
        rare = [np.flatnonzero(wanted * mass < MIN_CARRIERS) for mass in below]
        stage = np.repeat(np.arange(len(rare)), [part.size for part in rare])
        if stage.size == 0:
            return
        vector = np.concatenate(rare)
        prior = np.exp(self.stages.padded.log_prior[stage, vector])
        # By the root of their probabilities: which of them will be met, is not known yet.
        chance = np.sqrt(prior)
        size = _pilot_size(wanted)
        picks = draw_ids(rng, chance / chance.sum(), stage.size, size)
        self.weights = prior[picks] * chance.sum() / chance[picks] / size
        self.below = np.concatenate([m[part] for m, part in zip(below, rare, strict=True)])[picks]
        forced = stage[picks], vector[picks]
        self.unmet = self.run(self.tables(), rng, slice(0, size), forced)

    def tune(self, rng: np.random.Generator, wanted: int, method: MonteCarlo) -> None:
        """Choose, from a pilot that is then forgotten, controls and the number of particles."""
        tables = self.tables()
        # What classes of vectors cost in spread is had back from more prefixes, and in less time.
        self.fewest += 4 * round(self.sparse / 4)
        self.particles = self.fewest
        most = (
            MOST_FOR_TARGET
            if method.has_target
            else max(self.fewest, min(MOST, wanted // self.few_each))
        )
        most = int(np.clip(method.memory // (16 * self.width), self.fewest, most))
        count = _pilot_size(wanted)
        x = self._and_unmet([self.run(tables, rng, slice(0, count))])
        step = float(x["step"][:count].mean())
        cross = float(x["cross"][:count].mean())
        self.shrink = float(np.clip(cross / step, 0.0, 1.0)) if step > 0 else 0.0
        excess = 0.0
        for name, ends in self.brackets(x, count).items():
            whole = (ends[0] + ends[1]) / 2
            low, high, middle = ends[0][:count], ends[1][:count], whole[:count]
            deviation = float(middle.std())
            if name in ("conditional_entropy", "mmse") and method.variance_reduction:
                controls = self.with_mean_0(x, name)
                chosen, left = _chosen(controls[:, :count], middle)
                # Vectors that are hardly met may move the controls more than all others.
                rare, plain = (
                    self.weights @ (row[count:] - row[:count].mean()) ** 2
                    for row in (whole - chosen @ controls, whole)
                )
                if left**2 + rare <= WORTHWHILE * (deviation**2 + plain):
                    self.controls[name], deviation = chosen, left
            asked = name in self.quantities
            if name == "conditional_entropy":
                asked = asked or "mutual_information" in self.quantities
            if not asked or (name == "accuracy" and high.mean() < SMALL_ACCURACY):
                continue
            if name in ERRORS and low.mean() > 1 - SMALL_ACCURACY:
                continue
            gap = high - low
            # For log-normal errors of Z^ the mean gap is half of the mean square, with less noise.
            half = float(np.minimum(gap**2 / 2, np.abs(gap)).mean()) / 2
            if name != "conditional_entropy":
                half = float(gap.mean()) / 2
            target = max(deviation / math.sqrt(wanted), ENOUGH * abs(float(middle.mean())))
            if method.has_target:
                target = method.atol + method.rtol * abs(float(middle.mean()))
            if half > 0:
                excess = max(excess, half / target if target > 0 else most)
        # Brackets narrow like the inverse of the number of particles.
        excess = min(excess, most)
        self.particles = int(np.clip(16 * math.ceil(self.fewest * excess / 16), self.fewest, most))

    @property
    def done(self) -> int:
        """Samples so far."""
        return sum(block["lower"].size for block in self.blocks)

    def _and_unmet(self, blocks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        parts = [*blocks, self.unmet] if self.unmet else blocks
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def found(self) -> dict[str, Float[np.ndarray, "2 samples"]]:
        """Both ends of every bracket for each sample, corrected by the controls.

        Samples of vectors that are hardly met come last.
        """
        x = self._and_unmet(self.blocks)
        ends = {name: np.stack(pair) for name, pair in self.brackets(x, self.done).items()}
        for name, chosen in self.controls.items():
            ends[name] = ends[name] - chosen @ self.with_mean_0(x, name)
        return ends

    def averages(self, ends: Float[np.ndarray, "rows 2 samples"]) -> tuple[Moments, Moments]:
        """Of the low end, the middle and the high end, and with what is hardly ever met."""
        ends = np.stack([ends[:, 0], ends.mean(axis=1), ends[:, 1]], axis=1)
        moments = Moments(ends.shape[:2])
        moments.add(ends[..., : self.done])
        unmet = Unmet(ends[..., self.done :], self.weights, self.below)
        return moments, unmet.added(moments, moments.n)

    def summary(self) -> dict[str, dict[str, Any]]:
        """The fields of every quantity at this level."""
        out: dict[str, dict[str, Any]] = {}
        for name, ends in self.found().items():
            moments, widened = self.averages(ends[None])
            half = max(float(moments.mean[0, 2] - moments.mean[0, 0]) / 2, 0.0)
            value = float(moments.mean[0, 1])
            effective = moments.effective()[0, 1]
            carried = bool(moments.carried()[0, 1])
            if name in ("accuracy", *ERRORS):
                effective = min(effective, _effective(1 - ends[:, : self.done].mean(axis=0)))
            out[name] = {
                "value": value,
                "standard_error": float(widened.standard_error.max()),
                "skewness": float(widened.skewness[0, 1]),
                "numerical_error": half + self.arithmetic(name, value),
                "interval_supported": carried and bool(effective >= MIN_EFFECTIVE),
                "sample_range": self._range(name),
            }
        entropy = out["conditional_entropy"]
        out["mutual_information"] = entropy | {
            "value": self.prior_entropy - entropy["value"],
            "skewness": -entropy["skewness"],
        }
        self._closed_forms(out)
        return out

    def _closed_forms(self, out: dict[str, dict[str, Any]]) -> None:
        """Use what holds of any codebook where it says more than the samples.

        Gaussian bounds at very low SNR, and the quantities' own ranges where rounding of very high
        ones leaves nothing. With radius R and gamma = snr, tr Cov(e) exp(-gamma R^2) <= mmse <= its
        linear value, since d mmse / d gamma = -E |Cov(e | y)|^2 >= -R^2 mmse; and the same
        integrated, for I.
        """
        steep = self.stages.radius**2
        least = self.power * (-math.expm1(-self.snr * steep) / (2 * steep) if steep > 0 else 0.0)
        most = min(self.gaussian, self.prior_entropy)
        guess = math.exp(sum(float(p.max()) for p in self.stages.log_prior))
        bounds = {
            "accuracy": (guess, 1.0),
            "error_probability": (0.0, 1 - guess),
            "mutual_information": (least, most),
            "conditional_entropy": (self.prior_entropy - most, self.prior_entropy - least),
            "mmse": (self.power * math.exp(-self.snr * steep), self.linear_mmse),
        }
        if "sampling_error" in out:
            alike = math.prod(float(np.exp(2 * p).sum()) for p in self.stages.log_prior)
            bounds["sampling_error"] = (0.0, 1 - alike)
        for name, (low, high) in bounds.items():
            # The two sums agree to rounding where gamma vanishes, in either order.
            half = abs(high - low) / 2 + 64 * EPS * max(abs(low), abs(high))
            if half < out[name]["numerical_error"] + 2 * out[name]["standard_error"]:
                out[name] = out[name] | {
                    "value": (low + high) / 2,
                    "standard_error": 0.0,
                    "skewness": 0.0,
                    "numerical_error": half,
                    "interval_supported": True,
                }

    def arithmetic(self, name: str, value: float) -> float:
        """A bound on rounding."""
        if name == "mmse":
            squares = (EPS * self.stages.extent) ** 2
            if self.by_products:
                squares += EPS * (self.n + 8) * self.stages.radius**2
            of_energy = self.of_energy if self.from_energy else 0.0
            return 4 * self.rounding * abs(value) + 64 * squares + of_energy
        if name == "accuracy":
            return 4 * self.rounding * abs(value)
        return self.rounding

    def _range(self, name: str) -> float:
        """Length of the range of one draw; for the entropy that of the posterior's own."""
        if name == "mmse":
            return 5 * self.stages.radius**2
        ranges = {"accuracy": 1.0, "error_probability": 1.0, "sampling_error": 2.0}
        return ranges.get(name, self.prior_entropy)


def _pilot_size(wanted: int) -> int:
    return int(np.clip(wanted // 4, LEAST_PILOT, PILOT))


def _mass(
    log_prior: Float[np.ndarray, " K_s"],
    size: Float[np.ndarray, " K_s"],
    least: Float[np.ndarray, " K_s"],
) -> Float[np.ndarray, " K_s"]:
    """The probability of all vectors whose size is at least this, for each."""
    order = np.argsort(-size)
    whole = np.cumsum(np.exp(log_prior[order]))
    return np.asarray(whole[np.searchsorted(-size[order], -least, side="right") - 1])


def _chosen(
    controls: Float[np.ndarray, "c samples"], target: Float[np.ndarray, " samples"]
) -> tuple[Float[np.ndarray, " c"], float]:
    """Coefficients of the controls, from a pilot, and the deviation that they leave.

    None, or those that turn an entropy into a divergence from the Gaussian law (the first three
    controls are those of `with_mean_0`), or fitted ones where these are much better also on the
    half of the pilot that they were not fitted to: a few outliers can make a fit look good.
    """
    candidates = [np.zeros(len(controls))]
    if len(controls) == 3:
        candidates.append(np.array([0.0, -1.0, -1.0]))
    deviations = [float((target - c @ controls).std()) for c in candidates]
    if deviations[-1] ** 2 > WORTHWHILE * deviations[0] ** 2:
        candidates, deviations = candidates[:1], deviations[:1]
    fit = _least_squares(controls, target)
    even, odd = slice(0, None, 2), slice(1, None, 2)
    squares = 0.0
    for part, rest in ((even, odd), (odd, even)):
        trial = _least_squares(controls[:, part], target[part])
        squares += float((target[rest] - trial @ controls[:, rest]).var()) / 2
    if squares < WORTHWHILE * deviations[-1] ** 2:
        return fit, math.sqrt(squares)
    return candidates[-1], deviations[-1]


def _least_squares(
    controls: Float[np.ndarray, "c samples"], target: Float[np.ndarray, " samples"]
) -> Float[np.ndarray, " c"]:
    scale = controls.std(axis=1)
    used = scale > 1e-12
    design = np.vstack([np.ones_like(target), controls[used] / scale[used, None]]).T
    coefficients = np.zeros(len(controls))
    coefficients[used] = np.linalg.lstsq(design, target, rcond=None)[0][1:] / scale[used]
    return coefficients


def _by_class(biased: Float[np.ndarray, "stages K"]) -> Float[np.ndarray, "stages classes each"]:
    each = biased.shape[1] // CLASSES
    turned = biased[:, : each * CLASSES].reshape(-1, each, CLASSES).transpose(0, 2, 1)
    return np.ascontiguousarray(turned)


def _squares(
    c: Float[np.ndarray, "K n"], inner: Float[np.ndarray, "n n"]
) -> Float[np.ndarray, " K"]:
    """c' inner c for every row."""
    return np.einsum("ki,ki->k", c @ inner, c).astype(float)


def _weights(log_prior: Float[np.ndarray, " K_s"]) -> Float[np.ndarray, " K_s"] | None:
    return None if np.ptp(log_prior) < 1e-14 else np.exp(log_prior)


def _effective(values: Float[np.ndarray, " samples"]) -> float:
    """(sum f)^2 / sum f^2: how many samples carry the sum."""
    return float(values.sum() ** 2 / max((values**2).sum(), np.finfo(float).tiny))


def _stacked(levels: Sequence[dict[str, Any]], done: int) -> Findings:
    columns: dict[str, Any] = {name: np.array([one[name] for one in levels]) for name in levels[0]}
    return Findings(**columns, n_samples=done, method=ParticleFilter.name)


def _note(name: str, snr: Float[np.ndarray, " s"], found: Findings, prior_entropy: float) -> str:
    """How wide the bracket is, and where it says nothing of use."""
    half = found.numerical_error
    worst = int(np.argmax(half))
    with np.errstate(divide="ignore"):
        level = 10 * np.log10(snr)
    text = f"a bracket, of half-width up to {half[worst]:.2g} (at {level[worst]:.3g} dB)"
    scale = {"mmse": found.value, "accuracy": 1.0, **dict.fromkeys(ERRORS, 1.0)}
    useless = half > USELESS * np.maximum(scale.get(name, prior_entropy), found.standard_error)
    useless &= found.value > 0
    if useless.any():
        where = f"{level[useless].min():.3g} to {level[useless].max():.3g} dB"
        text += f"; too wide to be of use at some SNR from {where}"
    return text
