"""Clean contexts, sampled: the average over contexts of what one observation says of a token.

In a context the token has a law of its own, and what is averaged are functionals of its posterior
given one observation. Tokens are not drawn from that law alone (`proposed`), and where mistakes are
rare nor is the noise (`towards_rivals`), with weights that keep averages as they are, at most 3 and
2: where a model is nearly certain, what matters are tokens that it does not expect, and noise that
is hardly ever met.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from tokenkl._random import draw_ids, generator
from tokenkl.context.averages import INFORMATION, STATISTICS, average, finished
from tokenkl.information.estimators import MISSED, Progress
from tokenkl.information.findings import Findings
from tokenkl.information.methods import MonteCarlo
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.targets import samples_needed
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments
from tokenkl.numerics.neighbours import neighbourly
from tokenkl.numerics.threads import in_order
from tokenkl.numerics.unseen import seen_once
from tokenkl.sources import Contexts

#: Draws of token and noise in all contexts together, where none are asked for.
DEFAULT_DRAWS = 2**14
#: Draws that the kernel takes at a time: it shares out more than these to threads of its own.
AT_A_TIME = 16
#: Replicates of exhaustive contexts in a round.
REPLICATES = 256
#: Where the draws have this part in the variance of a mean over contexts, more of them help.
SHARE = 0.1
#: log of the probability below which tokens are drawn as they are: their weight in the posterior
#: would leave the range of floats.
RARE = math.log(1e-100)
#: Draws in every context before the first look at a target, and contexts in the pilot.
FIRST_DRAWS, PILOT_CONTEXTS = 4, 64
#: Likeliest tokens whose neighbours are drawn, too.
TOP = 4
#: Tokens are rivals up to where exp(-m^2 / 2) is exp(-FAR / 2) of the largest, and no float if
#: m^2 is above `FARTHEST`: noise from there would be seen by nobody, and overflow in the kernel.
FAR, FARTHEST = 40.0, 1400.0
#: Streams of the key.
NOISE, UNIFORM, PILOT = 0, 1, 2
METHOD = "contexts, Monte-Carlo"
LIMITED = "the contexts, not the draws in each, set the standard error; more of them would lower it"


class Posteriors:
    """The statistics of draws in one context at a time, at all levels."""

    def __init__(self, problem: Problem, contexts: Contexts, key: object, mmse: bool) -> None:
        from tokenkl.information.sampling import kernel

        self.kernel, self.problem, self.contexts, self.key = kernel, problem, contexts, key
        self.mmse = mmse
        self.order = neighbourly(problem.centred, kernel.TILE)
        self.points = problem.centred[self.order]
        self.entropies = contexts.entropies()
        #: Levels at which mistakes are so rare that noise is drawn towards them.
        self.rare = np.zeros(problem.h.size, dtype=bool)
        self.expected = self._expected()

    def deviations(
        self,
        context: int,
        uniform: Float[np.ndarray, " draws"],
        levels: Int[np.ndarray, " levels"],
        *stream: int,
    ) -> Float[np.ndarray, "levels statistics draws"]:
        """Statistics at some levels less what is expected of them, with the weight of each draw.

        The token comes from a uniform number, the noise from a stream of the key.
        """
        log_law = self.contexts.log_laws[context][self.order]
        there = np.flatnonzero(log_law > -np.inf)
        log_law = log_law[there]
        proposal = proposed(self.points[there], log_law)
        edges = np.cumsum(proposal)
        ids = np.searchsorted(edges, edges[-1] * uniform, side="right")
        ids = np.minimum(ids, np.searchsorted(edges, edges[-1]))
        points = self.points[there]
        table = self.kernel.lay_out(points, log_law, in_order=True)
        weight = edges[-1] * np.exp(log_law[ids]) / proposal[ids]
        found = np.empty((levels.size, len(STATISTICS), ids.size))
        rng, rare = generator(self.key, *stream), self.rare[levels] & (there.size > 1)
        noise = rng.standard_normal((ids.size, points.shape[1]))
        groups = [(np.flatnonzero(~rare), noise, np.ones(ids.size))]
        far = np.flatnonzero(rare)
        moved = towards_rivals(points, log_law, ids, noise, self.problem.h[levels[far]], rng)
        groups += [(np.array([level]), *pair) for level, pair in zip(far, moved, strict=True)]
        for group, eps, ratio in groups:
            h = self.problem.h[levels[group]]
            for start in range(0, ids.size if group.size else 0, AT_A_TIME):
                part = slice(start, start + AT_A_TIME)
                drawn = (table, ids[part], eps[part], h, self.mmse)
                found[group, :, part] = self.kernel.block_statistics(*drawn)
            found[group, INFORMATION] -= log_law[ids] + self.entropies[context]
            found[group] -= self.expected[levels[group], :, context, None]
            found[group] *= weight * ratio
        return found

    def _expected(self) -> Float[np.ndarray, "levels statistics C"]:
        """What a statistic is without an observation, times what is left of it by a pilot.

        Any numbers would do, since their own mean is known; these make weights matter less.
        """
        contexts, size = self.contexts, len(self.contexts.weights)
        laws = contexts.laws
        errors, variances = 1 - laws.max(axis=1), np.zeros(size)
        if self.mmse:
            points = self.problem.centred
            variances = laws @ (points**2).sum(axis=1) - ((laws @ points) ** 2).sum(axis=1)
        prior = np.stack([errors, self.entropies, variances, -self.entropies])
        self.expected = np.zeros((self.problem.h.size, len(STATISTICS), size))
        rng = generator(self.key, PILOT)
        chosen = draw_ids(rng, contexts.weights, size, PILOT_CONTEXTS)
        levels, draws = np.arange(self.problem.h.size), []
        for index, context in enumerate(chosen):
            uniform = (np.arange(4) + rng.random(4)) / 4
            draws.append(self.deviations(int(context), uniform, levels, PILOT, index))
        pilot = np.concatenate(draws, axis=-1)
        errors = pilot[:, 0]
        square = np.maximum((errors**2).sum(axis=-1), np.finfo(float).tiny)
        self.rare = errors.sum(axis=-1) ** 2 < MIN_EFFECTIVE * square
        total = prior[:, chosen].mean(axis=1)
        left = np.where(total != 0, pilot.mean(axis=-1) / np.where(total != 0, total, 1.0), 0.0)
        left[self.rare] = 0.0
        return np.clip(left, 0.0, 1.0)[..., None] * prior


def towards_rivals(
    points: Float[np.ndarray, "k n"],
    log_law: Float[np.ndarray, " k"],
    ids: Int[np.ndarray, " draws"],
    noise: Float[np.ndarray, "draws n"],
    h: Float[np.ndarray, " levels"],
    rng: np.random.Generator,
) -> list[tuple[Float[np.ndarray, "draws n"], Float[np.ndarray, " draws"]]]:
    """For each level noise, half of it moved to where another token gets likelier, and weights.

    With d the distance to token j that point is m = h d / 2 + log(p_k / p_j) / (h d) away. Noise is
    drawn from half its own law and half a mixture of laws about these points, each with the share
    exp(-m^2 / 2); the weight is the ratio of the first law to all of that, 2 at most.
    """
    out = [(noise.copy(), np.ones(ids.size)) for _ in h]
    if h.size == 0:
        return out
    moved, uniform = rng.random((h.size, ids.size)) < 0.5, rng.random((h.size, ids.size))
    for draw, k in enumerate(ids):
        step = points - points[k]
        length = np.sqrt((step**2).sum(axis=1))
        others = np.flatnonzero(length > 0)
        step, length, gap = step[others], length[others], log_law[k] - log_law[others]
        for level, (eps, ratio) in enumerate(out):
            away = np.maximum(h[level] * length, 1e-300)  # at an SNR of 0 nothing is near but ties
            point = np.clip(away / 2 + gap / away, 0.0, 1e100)
            farthest = min((point**2).min(initial=np.inf) + FAR, FARTHEST)
            rivals = np.flatnonzero(point**2 < farthest)
            if rivals.size == 0:
                continue
            point, unit = point[rivals], step[rivals] / length[rivals, None]
            edges = np.cumsum(np.exp((point.min() ** 2 - point**2) / 2))
            if moved[level, draw]:
                aim = edges[-1] * uniform[level, draw]
                rival = min(np.searchsorted(edges, aim, side="right"), rivals.size - 1)
                eps[draw] += point[rival] * unit[rival]
            log_share = (point.min() ** 2 - point**2) / 2 - math.log(edges[-1])
            log_ratio = log_share + point * (unit @ eps[draw]) - point**2 / 2
            ratio[draw] = 2 / (1 + np.exp(np.minimum(special.logsumexp(log_ratio), 700.0)))
    return out


def proposed(
    points: Float[np.ndarray, "k n"], log_law: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    """What tokens are drawn from: in thirds their law, its square root, and neighbours.

    Neighbours of the likeliest tokens are what these are mistaken for, however unlikely they are.
    """
    usual = np.where(log_law > RARE, np.exp(log_law / 2), 0.0)
    near = np.zeros(len(points))
    for top in np.argsort(log_law)[-TOP:]:
        length = np.sqrt(((points - points[top]) ** 2).sum(axis=1))
        least = np.min(length, where=length > 0, initial=np.inf)
        if least < np.inf:
            closeness = np.minimum(least / np.maximum(length, least), 1.0) ** (2 * points.shape[1])
            closeness[top] = 0.0
            near += np.exp(log_law[top] / 2) * closeness
    near[log_law <= RARE] = 0.0
    others = [one / one.sum() for one in (usual, near) if one.sum() > 0]
    found: np.ndarray = (np.exp(log_law) + sum(others)) / (1 + len(others))
    return found


def tilted(law: Float[np.ndarray, " k"], other: Float[np.ndarray, " k"]) -> np.ndarray:
    """Half a law and half one proportional to something else, which may be 0 everywhere."""
    total = other.sum()
    found: np.ndarray = (law + other / total) / 2 if total > 0 else law
    return found


def clean_averages(
    problem: Problem,
    contexts: Contexts,
    method: MonteCarlo,
    key: object,
    quantities: tuple[str, ...],
    progress: Progress | None = None,
) -> dict[str, Findings]:
    """Averages over contexts that are all there are, or a sample of them."""
    posteriors = Posteriors(problem, contexts, key, "mmse" in quantities)
    run = _exhaustive if contexts.exhaustive else _sampled
    return run(posteriors, method, quantities, progress or (lambda done, wanted: None))


def _sampled(
    posteriors: Posteriors, method: MonteCarlo, quantities: tuple[str, ...], progress: Progress
) -> dict[str, Findings]:
    """Draws in every context; replicates are the groups of contexts, weighed by their weight."""
    contexts, levels = posteriors.contexts, posteriors.problem.h.size
    size = len(contexts.weights)
    wanted = -(-(method.n_samples or DEFAULT_DRAWS) // size)
    most = max(1, method.max_samples // size)
    if method.has_target:
        wanted = min(wanted, FIRST_DRAWS, most)
    totals = np.zeros((2, levels, len(STATISTICS), size))  # of draws, and of their squares
    done, active = np.zeros((levels, 1, 1), dtype=np.int64), np.arange(levels)
    spread, once = 6 * size * float(contexts.weights.max()), groups_seen_once(contexts)
    while True:
        before = int(done[active[0], 0, 0])
        totals[:, active] += _sums(posteriors, active, before, wanted, progress)
        done[active] = wanted
        mean = totals[0] / done
        moments = group_moments(posteriors.expected + mean, contexts)
        found = average(
            posteriors.problem, moments, entropy=contexts.entropy, method=METHOD, spread=spread,
            once=once,
        )  # fmt: skip
        if not method.has_target:
            return found
        missed = is_missed(found, quantities, method)
        within = np.maximum(totals[1] / done - mean**2, 0.0) / np.maximum(done - 1, 1)
        share = within @ contexts.weights**2 / np.maximum(moments.standard_error**2, 1e-300)
        helps = (share > SHARE).any(axis=1) | (done == 1)[:, 0, 0]
        active = np.flatnonzero(missed & helps & (done[:, 0, 0] == wanted))
        if wanted == most or active.size == 0:
            note = LIMITED if missed.any() else ""
            return {name: one.noted(note) for name, one in found.items()}
        wanted = min(2 * wanted, most)


def _sums(
    posteriors: Posteriors,
    levels: Int[np.ndarray, " levels"],
    done: int,
    wanted: int,
    progress: Progress,
) -> Float[np.ndarray, "2 levels statistics C"]:
    """Of draws number `done` to `wanted` of every context, and of their squares."""
    size, more = len(posteriors.contexts.weights), wanted - done

    def work(part: slice) -> np.ndarray:
        uniform = generator(posteriors.key, UNIFORM, done, part.start).random(more)
        strata = (np.arange(more) + uniform) / more
        values = posteriors.deviations(part.start, strata, levels, NOISE, done, part.start)
        return np.stack([values.sum(axis=-1), (values**2).sum(axis=-1)])

    sums = np.empty((2, levels.size, len(STATISTICS), size))
    for context, pair in enumerate(in_order(work, size, 1)):
        sums[..., context] = pair
        progress(done * size + (context + 1) * more, wanted * size)
    return sums


def _exhaustive(
    posteriors: Posteriors, method: MonteCarlo, quantities: tuple[str, ...], progress: Progress
) -> dict[str, Findings]:
    """Draws of context and token together, spread evenly over their joint law in each replicate.

    Contexts that leave no doubt are left out; others are drawn half by their probability and half
    by what they add to the entropy.
    """
    contexts, levels = posteriors.contexts, posteriors.problem.h.size
    doubt = posteriors.entropies * contexts.weights
    open_ = np.flatnonzero(doubt > 0)
    if open_.size == 0:
        nothing = {name: Findings(np.zeros(levels), method="exact") for name in STATISTICS}
        return finished(nothing, contexts.entropy)
    weights = contexts.weights[open_]
    chances = tilted(weights / weights.sum(), doubt[open_] / doubt.sum())
    ratio, edges = weights / chances, np.cumsum(chances)
    known = posteriors.expected @ contexts.weights
    asked = method.n_samples or DEFAULT_DRAWS
    replicates = min(REPLICATES, max(2, asked))
    draws = -(-asked // replicates)
    moments, active = Moments((levels, len(STATISTICS))), np.arange(levels)
    for number in itertools.count():
        rng = generator(posteriors.key, UNIFORM, number)
        uniform = edges[-1] * (np.arange(draws) + rng.random((replicates, draws))).ravel() / draws
        which = np.minimum(np.searchsorted(edges, uniform, side="right"), open_.size - 1)
        inner = np.clip(1 - (edges[which] - uniform) / chances[which], 0.0, 1.0)
        order = np.argsort(which, kind="stable")
        used, first = np.unique(which[order], return_index=True)
        parts = np.split(order, first[1:])

        def work(
            part: slice,
            used: np.ndarray = used,
            parts: list[np.ndarray] = parts,
            inner: np.ndarray = inner,
            active: np.ndarray = active,
            number: int = number,
        ) -> np.ndarray:
            place, uniform = int(used[part.start]), inner[parts[part.start]]
            stream = (NOISE, number, place)
            found = posteriors.deviations(int(open_[place]), uniform, active, *stream)
            return np.asarray(ratio[place] * found)

        values = np.zeros((replicates, active.size, len(STATISTICS)))
        for place, piece in enumerate(in_order(work, used.size, 1)):
            np.add.at(values, parts[place] // draws, np.moveaxis(piece, -1, 0))
            progress(number * used.size + place + 1, (number + 1) * used.size)
        moments.add(known[active, :, None] + np.moveaxis(values, 0, -1) / draws, active)
        found = average(
            posteriors.problem, moments, entropy=contexts.entropy, method=METHOD, spread=12.0
        )
        if not method.has_target:
            return found
        active = active[is_missed(found, quantities, method)[active]]
        if active.size == 0:
            return found
        if (number + 1) * replicates * draws >= method.max_samples:
            return {name: one.noted(MISSED) for name, one in found.items()}
    raise AssertionError


def is_missed(
    found: dict[str, Findings], quantities: tuple[str, ...], method: MonteCarlo
) -> Bool[np.ndarray, " levels"]:
    """Where a standard error is above its target."""
    pairs = [(found[name].value, found[name].standard_error) for name in quantities]
    once = np.ones(pairs[0][0].shape, dtype=np.int64)
    return np.asarray(samples_needed(pairs, once, method) > 1)


def groups_seen_once(contexts: Contexts) -> int:
    """How many groups have laws that no other one has, to ten digits."""
    order, first = _groups(contexts)
    mixed = contexts.laws @ np.random.default_rng(0).random(contexts.K)
    sums = np.add.reduceat((contexts.weights * mixed)[order], first)
    return seen_once(np.round(sums / sums.max(), 10))


def _groups(contexts: Contexts) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " groups"]]:
    """An order that has groups side by side, and where they begin."""
    order = np.argsort(contexts.groups, kind="stable")
    return order, np.unique(contexts.groups[order], return_index=True)[1]


def group_moments(values: Float[np.ndarray, "levels statistics C"], contexts: Contexts) -> Moments:
    """Moments of a weighted mean over contexts, with the groups as its independent terms.

    The mean is a ratio, of sums over groups of W_g f_g and of W_g; a term is its value plus
    W_g (f_g - value) over the average of W_g.
    """
    weights, (order, first) = contexts.weights, _groups(contexts)
    totals = np.add.reduceat((values * weights)[..., order], first, axis=-1)
    sizes = np.add.reduceat(weights[order], first)
    value = totals.sum(axis=-1, keepdims=True) / sizes.sum()
    moments = Moments(values.shape[:-1])
    moments.add(value + (totals - sizes * value) * first.size / sizes.sum())
    return moments
