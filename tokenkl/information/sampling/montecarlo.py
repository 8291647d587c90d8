"""Monte-Carlo estimates for any codebook, in bounded memory.

One sample is a token k ~ prior and a noise vector eps; the same pair serves every noise level,
since the log-posterior relative to the true token,

    log(pi_j) + h <eps, e_j - e_k> - h^2 |e_j - e_k|^2 / 2,        h = sqrt(snr),

needs two products for all levels together (see `kernel`). Every quantity is averaged conditionally
on the observation (Rao-Blackwell): max_k p(k|y) rather than the indicator of a correct decision,
the entropy of p(.|y) rather than -log p(k|y), its variance rather than a squared error.

A pilot (`pilot`) chooses control variates (`controls`) and Sobol points (`sobol`) for every
level; the estimates then come from fresh samples. A level that has met its target takes no further
part. Where levels are close to each other samples are looked at in fewer places (`nodes`), and all
that follows from a pilot is decided for these.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl._random import draw_ids, generator, portable
from tokenkl.codebooks.base import Codebook
from tokenkl.information.estimators import Progress
from tokenkl.information.findings import Findings
from tokenkl.information.methods import MonteCarlo
from tokenkl.information.problem import Problem
from tokenkl.information.sampling import pilot, sobol, xla
from tokenkl.information.sampling.controls import Controls
from tokenkl.information.sampling.near_certain import Unmet, as_unlikely, expected_carriers
from tokenkl.information.sampling.nodes import Nodes
from tokenkl.information.sampling.overruled import Overruled
from tokenkl.information.sampling.signs import SIGNS, turned
from tokenkl.information.sampling.targets import sample_on, samples_needed
from tokenkl.information.sampling.within import Within
from tokenkl.numerics.moments import MIN_CARRIERS, MIN_EFFECTIVE, Moments, Sums, sums_of
from tokenkl.numerics.neighbours import neighbourly
from tokenkl.ways import Way, Ways
from tokenkl.workers import each, in_order, threads_of_cluster

Found = TypeVar("Found")

#: What one sample gives, in the order of the kernel's output; the last where it is asked for.
STATISTICS = ("error_probability", "conditional_entropy", "mmse", "divergence", "sampling_error")
#: Samples when neither a count nor a target is given.
DEFAULT_SAMPLES = 2**14
#: Samples before the first look at the targets.
PILOT = 2**11
#: Most samples in one block, and most tokens times samples.
MAX_BLOCK = 2**9
MAX_WORK = 2**28
#: Single precision is taken unasked where the target is this many times its error.
UNNOTICED = 20.0
#: What one token costs at one level, in nanoseconds, for the choice of controls.
TOKEN_COST, TOKEN_COST_SINGLE = 0.9, 0.4
#: ... and for each of its coordinates at all levels together, for the choice of signs.
COORDINATE_COST, COORDINATE_COST_SINGLE = 0.14, 0.08
#: Part of a target that the error of one part of the tokens may take.
SHARE = 0.6
#: Most times that samples are added because a target was missed.
ROUNDS = 12
#: On a cluster: seconds that a part takes at least, and most parts for every thread.
SHARED_SECONDS, SHARED_PARTS = 0.2, 16
#: Samples of tokens that are too unlikely to be met (`Unmet`).
UNMET = 128
#: Streams of random numbers below the key.
SAMPLE, PILOT_SAMPLE, NETS, PILOT_NETS, UNLIKELY = range(5)


def sample_profile(
    problem: Problem,
    quantities: Sequence[str],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None = None,
    part: Part | None = None,
) -> dict[str, Findings]:
    """Averages over samples at every level.

    As a `part` of a codebook, the problem has its tokens, and posteriors are of all that are in the
    token's cluster.
    """
    run = _Run(problem, quantities, method, key, progress, part)
    method = run.method
    first = np.full(problem.snr.size, method.n_samples or DEFAULT_SAMPLES // run.each)
    if method.has_target:
        first = run.first_look()
    sample_on(first, method, run.advance, run.needed, ROUNDS)
    return run.summarise()


class Part(NamedTuple):
    """Some of the tokens (`ids`) of a codebook in clusters: what they give counts with `weight`.

    `known` is about what the other parts add to each quantity: targets are for the sum.
    """

    whole: Problem
    labels: Int[np.ndarray, " K"]
    ids: Int[np.ndarray, " k"]
    weight: float
    known: dict[str, Float[np.ndarray, " s"]]


class _Run:
    """The sample of one call: what was decided about every level, and its moments so far.

    Counts are of independent draws. Where noise serves with several signs a draw is so many samples
    (`each`), of which the mean counts.
    """

    def __init__(
        self,
        problem: Problem,
        quantities: Sequence[str],
        method: MonteCarlo,
        key: Any,
        progress: Progress | None,
        part: Part | None = None,
    ) -> None:
        # Brings in Numba, which most uses do without.
        from tokenkl.information.sampling import kernel

        self.problem, self.quantities, self.method = problem, quantities, method
        self.key, self.progress, self.kernel, self.part = key, progress, kernel, part
        codebook = problem.codebook
        # Every logit stays finite.
        self.h = np.minimum(problem.h, 1e150)
        self.within: Within | None = None
        if part is not None:
            scaled = np.ldexp(part.whole.points, -problem.exponent)
            self.within = Within(kernel.lay_out, scaled, part.whole.log_prior, part.labels)
            self.radius = self.within.radius
        else:
            self.radius = float(np.max(np.sum(problem.centred**2, axis=1)))
        size = math.ldexp(self.radius, 2 * problem.exponent)
        self.precision = _precision(method, quantities, size)
        if self.within is not None and self.precision.gpu:
            self.precision = _Precision()
        if self.within is None and not self.precision.gpu:
            reach = self.h.max(initial=0.0) * math.sqrt(self.radius)
            narrow = self.precision.error > 0 and reach <= kernel.NARROW
            self.table = kernel.lay_out(problem.centred, problem.log_prior, narrow=narrow)
        self.draw = drawer(codebook)
        #: Columns of the statistics.
        self.columns = len(STATISTICS) - (STATISTICS[-1] not in quantities)
        self.plan: pilot.Plan | None = None
        self.pilot, self.each = pilot.size(method), 1
        self.nodes = Nodes(self.h, _smallest_target(method) if self.pilot else None)
        has_pilot = pilot.affordable(codebook, self.nodes.h.size, self.pilot, method.memory)
        if not has_pilot:
            self.nodes = Nodes(self.h, None)
        numbers = (self.h.size + self.nodes.h.size) * self.columns
        self.size = _block_size(codebook, numbers, method.memory)
        shape = (self.h.size, self.columns)
        #: The statistics themselves; what controls leave of them; means of Sobol replicates; what
        #: reading off between nodes may have missed.
        self.plain, self.rest, self.nets = Moments(shape), Moments(shape), Moments(shape)
        self.missed = np.zeros(shape)
        #: Points in a Sobol replicate of each level; 0 for independent samples.
        self.points = np.zeros(self.h.size, dtype=np.int64)
        self.unmet: Unmet | None = None
        self.overruled: Overruled | None = None
        if has_pilot:
            self._decide()
            self.unmet = self._look_for_unmet()
            self.overruled = Overruled.of(problem) if part is None else None

    def _decide(self) -> None:
        codebook, method, nodes = self.problem.codebook, self.method, self.nodes
        points, exponent = self.problem.centred, self.problem.exponent
        labels = None if self.part is None else self.part.labels[self.part.ids]
        known = (method.control, method.memory // 2, exponent, labels)
        self.controls = Controls(codebook, points, nodes.places, *known)
        is_net = codebook.n <= sobol.MAX_DIMENSION
        is_turned = not is_net and self.part is None
        if is_net:
            order = neighbourly(points, max(codebook.K // 1024, 8))
            self.source = sobol.Nets(codebook, order, self.key)
            each = self.pilot // sobol.REPLICATES
            parts = [self.source.replicate(each, PILOT_NETS, r) for r in range(sobol.REPLICATES)]
        else:
            parts = [self.draw(generator(self.key, PILOT_SAMPLE), self.pilot)]
        ids, noise = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        if is_turned:
            most = SIGNS[-1]
            ids = np.repeat(ids[::most], most)
            noise = np.stack(turned(noise[::most], most), axis=1).reshape(noise.shape)
        pieces = [slice(i, i + self.size) for i in range(0, self.pilot, self.size)]
        every = np.arange(nodes.h.size)
        values = [
            self._statistics(ids[piece], noise[piece], every) + self._certain(ids[piece])
            for piece in pieces
        ]
        single = self.precision.error > 0
        seen = self.controls, ids, noise, np.concatenate(values, axis=-1), self.quantities
        token_cost = TOKEN_COST_SINGLE if single else TOKEN_COST
        if is_turned:
            products = codebook.n * (COORDINATE_COST_SINGLE if single else COORDINATE_COST)
            decided = pilot.decide_on_signs(*seen, method, token_cost, products)
        else:
            decided = pilot.decide(*seen, is_net, token_cost)
        self.each = decided.signs
        self.method = _of_draws(method, self.each)
        nodes.settle(pilot.slope(nodes.h, decided))
        #: What was decided for every place, and for every level: as for the node next to it.
        self.at_places, self.plan = decided.at(nodes.node_of_place), decided.at(nodes.nearest)

    def _look_for_unmet(self) -> Unmet | None:
        """Samples of the tokens of which fewer than `MIN_CARRIERS` are to be expected."""
        codebook = self.problem.codebook
        if codebook.has_equal_priors:
            return None
        prior = np.asarray(codebook.prior)
        below = as_unlikely(prior)
        rare = np.flatnonzero(below * self.pilot < MIN_CARRIERS)
        if rare.size == 0 or below[rare].max() == 0:
            return None
        # By the root of their probabilities: which of them will be met, is not known yet.
        chance = np.sqrt(prior[rare])
        rng = generator(self.key, UNLIKELY)
        picks = draw_ids(rng, chance / chance.sum(), rare.size, UNMET)
        ids, noise = rare[picks], rng.standard_normal((UNMET, codebook.n))
        values, rest, _ = self._look(ids, noise, np.arange(self.h.size))
        weights = prior[ids] / (chance[picks] / chance.sum()) / UNMET
        return Unmet(values if rest is None else rest, weights, below[ids])

    def _statistics(self, ids: np.ndarray, noise: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Beyond what they are where the token is certain."""
        mmse, h = "mmse" in self.quantities, self.nodes.places[places]
        shares = self.columns == len(STATISTICS)
        if self.precision.gpu:
            known = self.problem.centred, self.problem.log_prior
            return xla.block_statistics(*known, ids, noise, h, mmse, shares, self.each)
        block_statistics, single = self.kernel.block_statistics, self.precision.error > 0
        if self.within is not None and self.part is not None:
            tokens = self.part.ids[ids]
            how = h, mmse, single, shares
            return self.within.statistics(block_statistics, tokens, noise, *how)
        return block_statistics(self.table, ids, noise, h, mmse, single, shares, self.each)

    def first_look(self) -> Int[np.ndarray, " levels"]:
        """Samples before the targets are looked at: what the pilot says that it takes."""
        plan = self.plan
        if plan is None:
            return np.full(self.h.size, PILOT)
        moments = Moments(plan.mean.shape)
        moments.n[:] = self.pilot // self.each
        moments.mean, moments.squares = plan.mean, plan.variance * (moments.n - 1)
        needed = self._needed(self.summarise(moments), moments.n[:, 0], 1e3)
        known = plan.used.any(axis=1) | plan.sobol
        needed = np.ceil(plan.margin * needed).astype(np.int64)
        return np.maximum(np.where(known, PILOT // max(self.each, 2), PILOT), needed)

    def needed(self) -> Int[np.ndarray, " levels"]:
        """Samples that the targets call for, by those so far."""
        done = self.plain.n[:, 0]
        # A variance that few samples carry may have met its target by chance.
        thin = self.is_thin() & (done < DEFAULT_SAMPLES)
        return np.maximum(self._needed(self.summarise(), done), np.where(thin, 2 * done, 0))

    def _needed(self, found: dict[str, Findings], done: np.ndarray, *growth: float) -> np.ndarray:
        part = self.part
        pairs = [(one.value, one.standard_error) for one in found.values()]
        if part is not None:
            known = [part.known[name] for name in found]
            pairs = [
                (part.weight * value + rest, part.weight * error / SHARE)
                for (value, error), rest in zip(pairs, known, strict=True)
            ]
        return samples_needed(pairs, done, self.method, *growth)

    def advance(self, counts: Int[np.ndarray, " levels"]) -> Int[np.ndarray, " levels"]:
        """Sample on until every level has at least `counts` samples, in whole blocks or nets."""
        is_net = np.zeros(self.h.size, dtype=bool) if self.plan is None else self.plan.sobol
        self._advance_independent(np.flatnonzero(~is_net), counts)
        for level in np.flatnonzero(is_net & (self.points == 0)):
            self.points[level] = sobol.shape(int(counts[level]))[1]
        for points in np.unique(self.points[is_net]):
            self._advance_nets(np.flatnonzero(self.points == points), counts, int(points))
        return self.plain.n[:, 0]

    def _advance_independent(self, levels: np.ndarray, counts: np.ndarray) -> None:
        """Block b of the stream is the same whoever takes part in it."""
        if levels.size == 0:
            return
        done, last = self.plain.n[levels, 0], int(counts[levels].max())
        limit = self.method.max_samples if self.method.has_target else last
        stops = np.minimum(-(-counts[levels] // self.size) * self.size, limit)
        blocks = []
        for start in range(int(done.min()), int(stops.max()), self.size):
            active = levels[(done <= start) & (stops > start)]
            if active.size:
                blocks.append(_Block(start, min(self.size, limit - start), active))
        for block, seen in zip(blocks, self._shared(_Run.block, blocks), strict=True):
            self._take_in(seen, block.levels)
            self._report(block.start + block.size, int(stops.max()))

    def block(self, block: _Block) -> _Seen:
        """What is seen in one block."""
        ids, noise = self.draw(generator(self.key, SAMPLE, block.start // self.size), self.size)
        values, rest, missed = self._look(ids[: block.size], noise[: block.size], block.levels)
        return _Seen(sums_of(values), None if rest is None else sums_of(rest), missed)

    def _take_in(self, seen: _Seen, levels: np.ndarray) -> None:
        self.plain.merge(seen.plain, levels)
        if seen.rest is not None:
            self.rest.merge(seen.rest, levels)
        self.missed[levels] += seen.missed

    def _advance_nets(self, levels: np.ndarray, counts: np.ndarray, points: int) -> None:
        done = self.nets.n[levels, 0]
        stops = np.maximum(-(-counts[levels] // points), sobol.REPLICATES)
        nets = []
        for number in range(int(done.min()), int(stops.max())):
            active = levels[(done <= number) & (stops > number)]
            if active.size:
                nets.append(_Block(number, points, active))
        for net, (parts, mean) in zip(nets, self._shared(_Run.net, nets), strict=True):
            for seen in parts:
                self._take_in(seen, net.levels)
            self.nets.add(mean[..., None], net.levels)
            self._report((net.start + 1) * points, int(stops.max()) * points)

    def net(self, net: _Block) -> tuple[list[_Seen], np.ndarray]:
        """The same in the pieces of one Sobol replicate, and the mean in it."""
        ids, noise = self.source.replicate(net.size, NETS, net.start)
        total = np.zeros((net.levels.size, self.columns))
        parts = []
        for start in range(0, net.size, self.size):
            piece = slice(start, start + self.size)
            values, rest, missed = self._look(ids[piece], noise[piece], net.levels)
            best = values if rest is None else rest
            parts.append(_Seen(sums_of(values), sums_of(best), missed))
            total += best.sum(axis=-1)
        return parts, total / net.size

    def _shared(
        self, work: Callable[[_Run, _Block], Found], blocks: list[_Block]
    ) -> Iterator[Found]:
        """What the work finds in every block, in their order: here, or on a cluster."""
        threads = threads_of_cluster()
        if threads == 0 or not blocks:
            yield from (work(self, block) for block in blocks)
            return
        cost = (
            TOKEN_COST
            * 1e-9
            * self.problem.codebook.K
            * sum(b.size * b.levels.size for b in blocks)
        )
        few = min(max(int(cost / SHARED_SECONDS), 1), SHARED_PARTS * threads, len(blocks))
        parts = np.array_split(np.arange(len(blocks)), few)
        shares = [[blocks[i] for i in part] for part in parts]
        for found in in_order(each(functools.partial(_work_off, self, work), shares)):
            yield from found

    def __getstate__(self) -> dict[str, Any]:
        """For another process: without the caller's progress, and what is made anew there."""
        left_out = ("progress", "kernel", "draw")
        kept = {name: one for name, one in self.__dict__.items() if name not in left_out}
        return kept | {"key": portable(self.key)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from tokenkl.information.sampling import kernel

        self.__dict__.update(state)
        self.progress, self.kernel, self.draw = None, kernel, drawer(self.problem.codebook)

    def _look(
        self, ids: np.ndarray, noise: np.ndarray, levels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, Any]:
        """The statistics at some levels; what controls leave of them (None: there are none).

        And the sum over samples of what reading off between nodes may have missed.
        """
        places, reading = self.nodes.of(levels)
        values = self._statistics(ids, noise, places)
        rest = self._take_off(ids, noise, values, places)
        missed = 0.0
        if reading is not None:
            missed = reading.missed(values if rest is None else rest).sum(axis=-1)
            values = reading.read(values)
            rest = None if rest is None else reading.read(rest)
        certain = self._certain(ids)
        return values + certain, None if rest is None else rest + certain, missed

    def _certain(self, ids: np.ndarray) -> np.ndarray:
        """What every statistic is where the token is certain: of the divergence, - log pi_k."""
        certain = np.zeros((self.columns, ids.size))
        certain[3] = -self._log_prior(ids)
        return certain

    def _log_prior(self, ids: np.ndarray) -> np.ndarray:
        """Of tokens, in their clusters where the posterior knows these."""
        if self.within is not None and self.part is not None:
            return self.within.log_prior[self.part.ids[ids]]
        return self.problem.log_prior[ids]

    def _take_off(
        self, ids: np.ndarray, noise: np.ndarray, values: np.ndarray, places: np.ndarray
    ) -> np.ndarray | None:
        """What controls leave of the statistics at some places; None where none has any."""
        plan = self.at_places if self.plan else None
        if plan is None or not any(plan.kinds[place] for place in places):
            return None
        kinds = tuple({kind for place in places for kind in plan.kinds[place]})
        block = self.controls.block(ids, noise, kinds, self.each)
        rest = values.copy()
        for row, place in zip(rest, places, strict=True):
            if plan.kinds[place]:
                row -= plan.coefficients[place] @ block(place, plan.kinds[place])
        return rest

    def _report(self, done: int, wanted: int) -> None:
        if self.progress is not None:
            self.progress(done, wanted)

    def summarise(self, pilot: Moments | None = None) -> dict[str, Findings]:
        """All quantities from the sample so far (or as the pilot has them)."""
        best, carriers = (pilot, None) if pilot else self._merged()
        count = (pilot or self.plain).n
        if self.unmet is not None:
            best = self.unmet.added(best, count)
        if self.overruled is not None:
            best = self.overruled.added(best, count)
        nets = self.nets.n[:, 0]
        found = _summary(
            *(self.problem, best, pilot or self.plain, carriers, self.radius, self.precision),
            np.where(nets > 0, nets - 1, np.inf),
            None if self.plan is None else self.plan.direct,
            self.part is not None,
            self.each,
        )
        ways = self.ways()
        out = {name: dataclasses.replace(found[name], method=ways) for name in self.quantities}
        if self.overruled is not None:
            for name in out.keys() & {"accuracy", "error_probability"}:
                out[name] = self.overruled.pinned(out[name], name == "error_probability")
        return out

    def ways(self) -> Ways:
        """What was chosen for every level."""
        each = []
        for level in range(self.h.size):
            chosen = {} if self.plan is None else self.plan.settings(level)
            chosen["precision"] = ("single",) if self.precision.error > 0 else ()
            chosen["levels"] = ("read off",) if self.nodes.close[level] else ()
            settings = tuple((name, words) for name, words in chosen.items() if words)
            each.append((np.array([level]), Ways([Way("Monte-Carlo", settings)])))
        return Ways.joined(self.h.size, each)

    def is_thin(self) -> Bool[np.ndarray, " levels"]:
        """Whether few samples carry some variance that matters, of a mean that many carry."""
        columns = sorted({column for name in self.quantities for column in pilot.COLUMNS[name]})
        informative = self.plain.effective()
        # Where the entropy is rare, so is what moves the divergence from its limit, and conversely.
        informative[:, [1, 3]] = informative[:, [1, 3]].min(axis=1, keepdims=True)
        thin = (self._merged()[1] < MIN_CARRIERS) & (informative >= MIN_EFFECTIVE)
        return thin[:, columns].any(axis=1) & (self.problem.snr > 0)

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
        of_nodes = [
            np.abs(self.at_places.coefficients[node])
            @ self.controls.rounding(node)[self.controls.rows(self.at_places.kinds[node])]
            for node in range(self.nodes.h.size)
        ]
        rounding = self.nodes.reading(np.arange(self.h.size)).spread(np.array(of_nodes))
        out.rounding = np.where(used | (is_net & plan.used), rounding, 0.0)
        out.rounding += np.abs(self.missed) / np.maximum(self.plain.n, 1)
        carriers = np.where(used | is_net, self.rest.carriers(), self.plain.carriers())
        return out, carriers


class _Block(NamedTuple):
    """Samples from `start` on, or the Sobol replicate of that number; the levels they are for."""

    start: int
    size: int
    levels: Int[np.ndarray, " levels"]


class _Seen(NamedTuple):
    """Sums of the statistics over some samples, and of what controls leave of them.

    And the sum of what reading off between nodes may have missed.
    """

    plain: Sums
    rest: Sums | None
    missed: Any


def _work_off(
    run: _Run, work: Callable[[_Run, _Block], Found], blocks: list[_Block]
) -> list[Found]:
    return [work(run, block) for block in blocks]


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


def _of_draws(method: MonteCarlo, each: int) -> MonteCarlo:
    """With numbers of draws of so many samples for numbers of samples."""
    count = None if method.n_samples is None else -(-method.n_samples // each)
    return dataclasses.replace(method, n_samples=count, max_samples=method.max_samples // each)


def _smallest_target(method: MonteCarlo) -> float:
    """About the smallest error that matters: a hundredth of what is tolerated."""
    if not method.has_target:
        return 0.1 / math.sqrt(min(method.n_samples or DEFAULT_SAMPLES, method.max_samples))
    return max(method.atol, 0.01 * method.rtol)


def _block_size(codebook: Codebook, numbers: int, memory: int) -> int:
    """Samples in one block: what half of the memory allows, and few enough to see progress."""
    bytes_each = 8 * (4 * codebook.n + 6 * numbers + 200)
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


def _summary(
    problem: Problem,
    moments: Moments,
    plain: Moments,
    carriers: np.ndarray | None,
    radius: float,
    precision: _Precision,
    degrees_of_freedom: Float[np.ndarray, " s"],
    use_direct: Bool[np.ndarray, " s"] | None,
    is_part: bool,
    each: int = 1,
) -> dict[str, Findings]:
    """Means and errors; `radius` is the largest squared distance from the centre.

    The `plain` moments say how many samples are informative, with or without controls; `carriers`
    how many are behind the variance (None: that does not matter yet). Of a part of the
    tokens the mutual information is their share in the mean divergence from the prior; `use_direct`
    is where it comes from that divergence elsewhere. Moments are of means of `each` samples.
    """
    codebook, eps = problem.codebook, np.finfo(float).eps
    log_K = math.log(max(codebook.K, 2))
    mmse, count = moments.mean[:, 2], plain.n[:, 0]
    # For every statistic the range of one sample, and rounding beyond that of the value itself.
    scales: dict[str, tuple[float, Any]] = {
        "error_probability": (1.0, 0.0),
        "conditional_entropy": (log_K, 0.0),
        "mmse": (radius, 8 * eps * np.sqrt(radius * np.abs(mmse))),
        "divergence": (-float(np.min(problem.log_prior)), 16 * eps * log_K),
        "sampling_error": (1.0, 0.0),
    }
    scales = dict(itertools.islice(scales.items(), moments.mean.shape[1]))
    lengths = np.array([length for length, _ in scales.values()])
    informed = (plain.effective() >= MIN_EFFECTIVE) | (lengths == 0)
    if carriers is not None:
        informed &= moments.carried(carriers)
        informed &= (expected_carriers(problem, count) >= MIN_CARRIERS)[:, None]
    correct = 1 - moments.mean[:, 0]
    effective = count * correct**2 / (correct**2 + plain.squares[:, 0] / np.maximum(count, 1))
    informed[:, 0] &= effective >= MIN_EFFECTIVE
    # Without noise in the posterior, the mean needs no central limit. (A part may be one token.)
    certain = codebook.K == 1 and not is_part
    supported = informed | ((problem.snr == 0) | certain)[:, None]
    # An interval without a central limit goes by the range of a draw over the number of draws.
    samples = each * count
    range_of_draws = np.maximum(samples - 1, 1) / np.maximum(count - 1, 1) if each > 1 else 1.0
    out: dict[str, Findings] = {}
    for index, (name, (length, rounding)) in enumerate(scales.items()):
        value, error = moments.mean[:, index], moments.standard_error[:, index]
        mean = np.abs(value)
        single = precision.error * mean
        if name in ("conditional_entropy", "divergence"):
            single = precision.error * np.minimum(mean, 1.0) + precision.floor
        elif name == "mmse" and precision.error > 0:  # rounded weights move the posterior mean
            single = single + 2.0**-20 * np.sqrt(radius * mean) + 2.0**-40 * radius
        numerical = 1e-12 * mean + moments.rounding[:, index] + rounding + single
        unit = 2 * problem.exponent if name == "mmse" else 0
        out[name] = Findings(
            np.ldexp(value, unit),
            np.ldexp(error, unit),
            np.ldexp(numerical, unit),
            samples,
            supported[:, index],
            np.ldexp(length, unit) * range_of_draws,
            moments.skewness[:, index],
            degrees_of_freedom,
        )
    out["accuracy"] = out["error_probability"].complement(1.0, eps)
    # Two unbiased routes to the mutual information: the one with the smaller variance, in the pilot
    # where there was one. Both need support: an entropy near 0 and a divergence near 0 are carried
    # by few samples each.
    direct, entropy = out.pop("divergence"), out["conditional_entropy"]
    if is_part:
        use_direct = np.ones(count.shape, dtype=bool)
    elif use_direct is None:
        use_direct = direct.standard_error < entropy.standard_error
    routes = [
        (np.arange(count.size), entropy.complement(float(codebook.prior_entropy()))),
        (np.flatnonzero(use_direct), direct.at(np.flatnonzero(use_direct))),
    ]
    out["mutual_information"] = dataclasses.replace(
        Findings.joined(count.size, routes),
        interval_supported=direct.interval_supported & entropy.interval_supported,
        sample_range=np.maximum(direct.sample_range, entropy.sample_range),
    )
    return out
