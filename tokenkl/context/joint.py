"""The noisy context, sampled: whole sequences are observed, and every token given all of that.

A replicate is a sequence with its noise, the same at all levels. The posterior of a token given its
own observation alone comes from the same sequence: where its averages are known exactly it takes
variance off, and the difference of the two entropies is what the context says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tokenkl._random import generator
from tokenkl.context.averages import STATISTICS, average
from tokenkl.context.clean import is_missed
from tokenkl.information.estimators import MISSED, Progress
from tokenkl.information.findings import Findings
from tokenkl.information.methods import MonteCarlo
from tokenkl.information.problem import Problem
from tokenkl.numerics.moments import Moments
from tokenkl.numerics.unseen import labels_of, seen_once
from tokenkl.sources import Source

#: Sequences where none are asked for, before the first look at a target, and in the pilot.
DEFAULT_SEQUENCES, FIRST, PILOT = 4096, 512, 128
#: Most numbers of one block of sequences.
BLOCK = 2**20
#: Streams of the key.
SAMPLE, LOOK = 0, 1
#: A control is used where the pilot says that it leaves less than this of the variance.
WORTH = 0.7
METHOD = "sequences, Monte-Carlo"
#: The statistics, and the context information: what the entropy falls by, from own to all.
COLUMNS = (*STATISTICS, "context_information")


class Known(NamedTuple):
    """Statistics of tokens by themselves that are known, with errors, in the problem's units."""

    values: Float[np.ndarray, "levels statistics"]
    errors: Float[np.ndarray, "levels statistics"]


class Sequences:
    """Samples of sequences, and what is found of each."""

    def __init__(
        self,
        problem: Problem,
        source: Source,
        positions: list[int],
        key: object,
        known: Known | None,
    ) -> None:
        self.problem, self.source, self.key, self.known = problem, source, key, known
        self.positions = positions
        with np.errstate(divide="ignore"):
            self.log_marginals = np.log(source.marginals()[positions])
        self.size = max(1, BLOCK // (source.length * source.K))
        #: Numbers of the sequences that averages are of, see `labels_of`.
        self.labels: list[np.ndarray] = []
        self.controls = np.zeros((problem.h.size, len(COLUMNS), len(STATISTICS)))
        if known is not None:
            self.controls = self._controls()
            self.labels.clear()

    def values(
        self, levels: Int[np.ndarray, " levels"], size: int, *stream: int
    ) -> tuple[Float[np.ndarray, "levels columns N"], Float[np.ndarray, "levels statistics N"]]:
        """The columns of fresh sequences, and the statistics of their tokens by themselves."""
        rng = generator(self.key, *stream)
        tokens = self.source.sample(size, key=int(rng.integers(2**62)))
        self.labels.append(labels_of(tokens))
        along, squared = self._relative(tokens, rng.standard_normal((*tokens.shape, self.n)))
        found = np.empty((levels.size, len(COLUMNS), size))
        own = np.empty((levels.size, len(STATISTICS), size))
        for place, h in enumerate(self.problem.h[levels]):
            seen = h * along - h**2 / 2 * squared
            messages, _ = self.source.messages(seen)
            here, at = seen[:, self.positions], messages[:, self.positions]
            whole = self._statistics(at + here).mean(axis=1)
            alone = self._statistics(self.log_marginals + here).mean(axis=1)
            found[place, : len(STATISTICS)], own[place] = whole.T, alone.T
            found[place, -1] = own[place, 1] - found[place, 1]
        return found, own

    @property
    def n(self) -> int:
        return int(self.problem.centred.shape[1])

    def controlled(self, found: np.ndarray, own: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """The columns less what the tokens by themselves say of them."""
        if self.known is None:
            return found
        away = own - self.known.values[levels, :, None]
        return np.asarray(found - np.einsum("lcs,lsn->lcn", self.controls[levels], away))

    def seen_once(self, count: int) -> int:
        """How many of the first sequences are like no other one of these."""
        return seen_once(np.concatenate(self.labels)[:count])

    def _controls(self) -> np.ndarray:
        """For each column the same statistic of own observations, where a pilot says so.

        For the context information that is the entropy.
        """
        every = np.arange(self.problem.h.size)
        blocks = [
            self.values(every, min(self.size, PILOT - start), LOOK, start)
            for start in range(0, PILOT, self.size)
        ]
        found, own = (np.concatenate(part, axis=-1) for part in zip(*blocks, strict=True))
        out = np.zeros((every.size, len(COLUMNS), len(STATISTICS)))
        for column in range(len(COLUMNS)):
            by = column if column < len(STATISTICS) else 1
            x = own[:, by] - own[:, by].mean(axis=-1, keepdims=True)
            y = found[:, column] - found[:, column].mean(axis=-1, keepdims=True)
            square = np.maximum((x * x).sum(axis=-1), 1e-300)
            slope = (x * y).sum(axis=-1) / square
            left = ((y - slope[:, None] * x) ** 2).sum(axis=-1)
            slope = np.where(left < WORTH * (y * y).sum(axis=-1), slope, 0.0)
            # Where the two are the same but for rounding, so is what is left of their difference.
            out[:, column, by] = np.where(abs(slope - 1) < 1e-9, 1.0, slope)
        return out

    def _relative(
        self, tokens: np.ndarray, noise: np.ndarray
    ) -> tuple[Float[np.ndarray, "N length K"], Float[np.ndarray, "N length K"]]:
        """<eps, e_j - e_k> and |e_j - e_k|^2; differences first, which keeps their digits."""
        along = np.zeros((*tokens.shape, self.source.K))
        squared = np.zeros_like(along)
        for d, column in enumerate(self.problem.centred.T):
            step = column - column[tokens][..., None]
            along += noise[..., d, None] * step
            step *= step
            squared += step
        return along, squared

    def _statistics(self, logits: np.ndarray) -> Float[np.ndarray, "N positions statistics"]:
        """Of the posteriors, relative to their best token: what is left keeps its digits."""
        best = logits.argmax(axis=-1)[..., None]
        q = logits - np.take_along_axis(logits, best, axis=-1)
        w = np.exp(q)
        np.put_along_axis(w, best, 0.0, axis=-1)
        rest = w.sum(axis=-1)
        total = 1 + rest
        entropy = np.log1p(rest) - _weighed(w, q) / total
        points, own = self.problem.centred, self.problem.centred[best[..., 0]]
        first = w @ points
        second = w @ (points**2).sum(axis=1) - 2 * (own * first).sum(axis=-1)
        second += (own**2).sum(axis=-1) * rest
        length = ((first - own * rest[..., None]) ** 2).sum(axis=-1)
        variance = np.maximum(second / total - length / total**2, 0.0)
        w /= total[..., None]
        np.put_along_axis(w, best, (1 / total)[..., None], axis=-1)
        before = self.log_marginals
        prior_entropy = -_weighed(np.exp(before), before)
        divergence = -entropy - _weighed(w, np.broadcast_to(before, w.shape))
        return np.stack([rest / total, entropy, variance, divergence - prior_entropy], axis=-1)


def _weighed(weights: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Sums of products over the last axis; without weight -inf counts for nothing."""
    return np.asarray(np.einsum("...k,...k->...", weights, np.where(weights > 0, logs, 0.0)))


class Found(NamedTuple):
    """Findings of the quantities, and of context information with a term for every sequence.

    `once`: how many of these sequences are like no other one.
    """

    quantities: dict[str, Findings]
    context: Findings
    terms: Float[np.ndarray, "levels N"]
    once: int


def joint_averages(
    sequences: Sequences,
    method: MonteCarlo,
    entropy: float | None,
    quantities: tuple[str, ...],
    progress: Progress | None = None,
) -> Found:
    """Averages over sampled sequences.

    Context information takes the rows of the entropy: its range, and its support.
    """
    levels = sequences.problem.h.size
    moments, plain = Moments((levels, len(COLUMNS))), Moments((levels, len(COLUMNS)))
    wanted = method.n_samples or (FIRST if method.has_target else DEFAULT_SEQUENCES)
    wanted = min(wanted, method.max_samples)
    active, terms = np.arange(levels), []
    say: Callable[[int, int], None] = progress or (lambda done, wanted: None)
    done = 0
    while True:
        while done < wanted:
            size = min(sequences.size, wanted - done)
            found, own = sequences.values(active, size, SAMPLE, done)
            kept = sequences.controlled(found, own, active)
            moments.add(kept, active)
            plain.add(found, active)
            terms.append(kept[:, -1])
            done += size
            say(done, wanted)
        quantities_, context = _findings(sequences, moments, plain, entropy)
        if not method.has_target:
            break
        active = np.flatnonzero(is_missed(quantities_, quantities, method))
        if active.size == 0 or done >= method.max_samples:
            note = MISSED if active.size else ""
            quantities_ = {name: one.noted(note) for name, one in quantities_.items()}
            break
        wanted = min(2 * done, method.max_samples)
    whole = [one for one in terms if len(one) == levels]
    terms_ = np.concatenate(whole, axis=-1)
    return Found(quantities_, context, terms_, sequences.seen_once(terms_.shape[1]))


def _findings(
    sequences: Sequences, moments: Moments, plain: Moments, entropy: float | None
) -> tuple[dict[str, Findings], Findings]:
    count, eps = len(STATISTICS), np.finfo(float).eps
    log_K = math.log(max(sequences.source.K, 2))
    if sequences.known is not None:
        errors = sequences.known.errors + 1e-12 * abs(sequences.known.values)
        moments.rounding = (abs(sequences.controls) @ errors[..., None])[..., 0]
    whole = average(
        sequences.problem,
        _columns(moments, slice(count)),
        _columns(plain, slice(count)),
        entropy=entropy,
        method=METHOD,
        once=np.array([sequences.seen_once(int(n)) for n in moments.n.ravel()]),
    )
    context = _columns(moments, slice(count, count + 1))
    supported = whole["conditional_entropy"].interval_supported & context.carried()[:, 0]
    own = plain.mean[:, 1] + abs(context.mean[:, 0])
    found = Findings(
        context.mean[:, 0],
        context.standard_error[:, 0],
        1e-12 * own + moments.rounding[:, -1] + 16 * eps * log_K,
        moments.n[:, 0],
        supported,
        2 * log_K,
        context.skewness[:, 0],
        method=METHOD,
    )
    return whole, found


def _columns(moments: Moments, part: slice) -> Moments:
    out = Moments(moments.mean[:, part].shape)
    out.n = moments.n
    for name in ("mean", "squares", "cubes", "fourths", "rounding"):
        setattr(out, name, getattr(moments, name)[:, part])
    return out
