"""Clean contexts, sampled: the average over contexts of what one observation says of a token.

In a context the token has a law of its own, and what is averaged are functionals of its posterior
given one observation. Tokens are drawn half from that law and half from one proportional to its
square root, with weights that keep averages as they are (at most 2): where a model is nearly
certain, what matters are the tokens that it does not expect, and they would hardly ever be drawn.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl._random import draw_ids, generator
from tokenkl.context.averages import INFORMATION, STATISTICS, average, finished
from tokenkl.information.estimators import MISSED, Progress
from tokenkl.information.findings import Findings
from tokenkl.information.methods import MonteCarlo
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.targets import samples_needed
from tokenkl.numerics.moments import Moments
from tokenkl.numerics.neighbours import neighbourly
from tokenkl.numerics.threads import in_order
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
        proposal = tilted(np.exp(log_law), np.exp(log_law / 2) * (log_law > RARE))
        edges = np.cumsum(proposal)
        ids = np.searchsorted(edges, edges[-1] * uniform, side="right")
        ids = np.minimum(ids, np.searchsorted(edges, edges[-1]))
        noise = generator(self.key, *stream).standard_normal((ids.size, self.points.shape[1]))
        table = self.kernel.lay_out(self.points[there], log_law, in_order=True)
        found = np.empty((levels.size, len(STATISTICS), ids.size))
        for start in range(0, ids.size, AT_A_TIME):
            part = slice(start, start + AT_A_TIME)
            drawn = (table, ids[part], noise[part], self.problem.h[levels], self.mmse)
            found[..., part] = self.kernel.block_statistics(*drawn)
        found[:, INFORMATION] -= self.entropies[context]
        weight = edges[-1] * np.exp(log_law[ids]) / proposal[ids]
        deviations: np.ndarray = (found - self.expected[levels, :, context, None]) * weight
        return deviations

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
        found, levels = 0.0, np.arange(self.problem.h.size)
        for index, context in enumerate(chosen):
            uniform = (np.arange(4) + rng.random(4)) / 4
            found = found + self.deviations(context, uniform, levels, PILOT, index).mean(axis=-1)
        total = prior[:, chosen].sum(axis=1)
        left = np.where(total != 0, found / np.where(total != 0, total, 1.0), 0.0)
        return np.clip(left, 0.0, 1.0)[..., None] * prior


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
    spread = 2 * size * float(contexts.weights.max())
    while True:
        before = int(done[active[0], 0, 0])
        totals[:, active] += _sums(posteriors, active, before, wanted, progress)
        done[active] = wanted
        mean = totals[0] / done
        moments = group_moments(posteriors.expected + mean, contexts)
        found = average(
            posteriors.problem, moments, entropy=contexts.entropy, method=METHOD, spread=spread
        )
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
            posteriors.problem, moments, entropy=contexts.entropy, method=METHOD, spread=4.0
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


def group_moments(values: Float[np.ndarray, "levels statistics C"], contexts: Contexts) -> Moments:
    """Moments of a weighted mean over contexts, with the groups as its independent terms.

    The mean is a ratio, of sums over groups of W_g f_g and of W_g; a term is its value plus
    W_g (f_g - value) over the average of W_g.
    """
    groups, weights = contexts.groups, contexts.weights
    order = np.argsort(groups, kind="stable")
    first = np.unique(groups[order], return_index=True)[1]
    totals = np.add.reduceat((values * weights)[..., order], first, axis=-1)
    sizes = np.add.reduceat(weights[order], first)
    value = totals.sum(axis=-1, keepdims=True) / sizes.sum()
    moments = Moments(values.shape[:-1])
    moments.add(value + (totals - sizes * value) * first.size / sizes.sum())
    return moments
