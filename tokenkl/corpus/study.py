"""`tokens_in_context`: all that a codebook and a token file tell of tokens in context."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from tokenkl._progress import Report, part_of
from tokenkl._random import split
from tokenkl._validation import check_count, check_snr, reject
from tokenkl.codebooks import Codebook, OneHot
from tokenkl.codebooks.base import check_codebook
from tokenkl.context import (
    ContextInformation,
    Relabelling,
    context_information,
    contextual_profile,
    relabel,
)
from tokenkl.divergence import OptimalSteps
from tokenkl.divergence.measured import measured_steps
from tokenkl.estimate import Estimate
from tokenkl.information import MonteCarlo, Profile
from tokenkl.optimality import MeasuredSchedule, cross_entropy_schedule, information_range
from tokenkl.sources import Source, bigrams, held_out_entropy, ngrams
from tokenkl.sources.counts import as_sequences

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Levels of the noise unless given, and how far below those of single tokens context is heard.
LEVELS, BELOW = 25, 3.0
#: The name under which one-hot tokens are judged beside.
ONE_HOT = "one-hot"
#: Shares of the work: labels, then profiles.
PARTS = (2, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class TokensInContext:
    """What a corpus says of a codebook in context (`tokens_in_context`).

    - `n_sequences`, `n_tokens`: of the corpus.
    - `source`: the law that was fitted to it; profiles are of this law.
    - `told_alone`, `told`: cross-entropy of a token on sequences left out, by its frequency and by
      those before it.
    - `labels`: labels and geometries, and what is read of neighbours with each.
    - `alone`: a token given its own observation; `context`: what the rest of a noisy sequence adds
      to that, and `context.profile` the token given all.
    - `schedule`: noise levels under which the cross-entropy of tokens in context falls evenly.
    - `steps`: sampling steps from the lowest to the highest level, path KL for each token.
    """

    n_sequences: int
    n_tokens: int
    source: Source
    told_alone: Estimate
    told: Estimate
    labels: Relabelling
    alone: Profile
    context: ContextInformation
    schedule: MeasuredSchedule
    steps: Sequence[OptimalSteps]

    @property
    def bits(self) -> TokensInContext:
        """Everything in bits that is an information; the KL of steps is."""
        steps = [dataclasses.replace(one, kl=one.kl.bits) for one in self.steps]
        named = ("told_alone", "told", "labels", "alone", "context")
        return dataclasses.replace(
            self, steps=steps, **{name: getattr(self, name).bits for name in named}
        )

    @property
    def order(self) -> str:
        """Labels by the share that is read, the largest first; "=" where intervals overlap."""
        every = list(self.labels.every.items())
        text = every[0][0]
        for (_, better), (name, worse) in itertools.pairwise(every):
            low = better.share.confidence_interval().low
            text += (" > " if low > worse.share.confidence_interval().high else " = ") + name
        return text

    def plot(self, title: str = "") -> Figure:
        """At page width: accuracy with and without context, what context tells, and labels."""
        from tokenkl.corpus.pictures import corpus_figure

        return corpus_figure(self, title)


def tokens_in_context(
    codebook: Codebook,
    tokens: Any,
    snr: Float[Any, " levels"] | None = None,
    *,
    rivals: Mapping[str, Codebook] | None = None,
    grounds: Mapping[str, Codebook] | None = None,
    points: Codebook | None = None,
    order: int = 2,
    length: int = 8,
    sequences: int = 256,
    steps: Sequence[int] = (4, 8, 16),
    gaps: tuple[int, ...] = (1,),
    starts: int | None = None,
    folds: int = 4,
    key: Any = 0,
    progress: Report | None = None,
) -> TokensInContext:
    """All that a codebook and a token file tell of tokens in context.

    How much neighbours tell (held-out n-grams); how much of it a denoiser reads with the given
    labels, with permuted and one-hot tokens, rivals, and the labels that `relabel` finds; accuracy,
    entropy and MMSE of tokens in noisy sequences under the law that was counted; the noise schedule
    and the sampling steps that follow.

    Args:
        codebook: points of the tokens; its prior is not used, the law is that of the tokens.
        tokens: sequences of ids, a list of them or rows of an array.
        snr: at least five levels in ascending order, above 0; None: 25 from where next to nothing
            is told of a token to where nearly all is.
        rivals: other codebooks of the same tokens, by name; one-hot is always beside.
        grounds, points, gaps, starts, folds: as in `relabel`.
        order: tokens in a row that the fitted law counts, at least 2.
        length: tokens in the sequences that are observed, at least 2.
        sequences: how many of these are sampled.
        steps: numbers of sampling steps.
        key: integer seed or JAX key.
        progress: called with what is done, and what there is to do.

    Raises:
        ValueError: an argument out of its range, or what `relabel` and `bigrams` raise.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> grid = tk.FSQ((3, 3))
        >>> rows = np.exp(1.5 * grid.points @ grid.points.T)  # neighbours are alike
        >>> chain = tk.sources.Markov(rows / rows.sum(axis=1, keepdims=True), length=40)
        >>> found = tk.tokens_in_context(grid, chain.sample(60, key=0), sequences=64, starts=2)
        >>> bool(float(found.told) < float(found.told_alone))
        True
        >>> list(found.labels.every)[-1]  # of these least is read
        'permuted'
    """
    check_codebook(codebook)
    check_count(order, "order", 2)
    check_count(length, "length", 2)
    check_count(sequences, "sequences", 2)
    for N in steps:
        check_count(N, "every entry of steps")
    if snr is not None:
        _check_levels(snr)
    given = dict(rivals or {})
    if ONE_HOT in given:
        reject("rivals", ONE_HOT, "names other than one-hot, which is judged anyway")
    rows, keys = as_sequences(tokens, codebook.K), split(key, 8)
    labels = relabel(
        codebook,
        rows,
        points=points,
        rivals={ONE_HOT: OneHot(codebook.K), **given},
        grounds=grounds,
        gaps=gaps,
        starts=starts,
        folds=folds,
        key=keys[1],
        progress=part_of(progress, 0, PARTS[0], sum(PARTS)),
    )
    told_alone, told = (
        held_out_entropy(rows, codebook.K, order=one, folds=folds) for one in (1, order)
    )
    source: Source = bigrams(rows, codebook.K, length)
    if order > 2:
        source = ngrams(rows, codebook.K, length, order)
    law = codebook.with_prior(source.marginals().mean(axis=0))
    levels = _levels(law, keys[0]) if snr is None else np.asarray(check_snr(snr))
    alone = contextual_profile(codebook, source, levels, context="none", key=keys[3])
    context = context_information(
        codebook,
        source,
        levels,
        method=MonteCarlo(sequences),
        key=keys[2],
        progress=part_of(progress, *PARTS, sum(PARTS)),
    )
    entropy, mmse = context.profile["conditional_entropy"], context.profile["mmse"]
    error = entropy.standard_error + entropy.numerical_error
    unseen = Estimate(law.average_power(), unit=mmse.unit)
    with_zero = Estimate.stack([unseen, *(mmse[i] for i in range(levels.size))])
    return TokensInContext(
        len(rows),
        sum(row.size for row in rows),
        source,
        told_alone,
        told,
        labels,
        alone,
        context,
        cross_entropy_schedule(levels, entropy.value, error, key=keys[4]),
        measured_steps(np.append(0.0, levels), with_zero, steps),
    )


def _check_levels(snr: Any) -> None:
    levels = np.asarray(check_snr(snr))
    if levels.ndim != 1 or levels.size < 5 or levels[0] <= 0 or (np.diff(levels) <= 0).any():
        reject("snr", snr, "at least five levels above 0, in ascending order")


def _levels(law: Codebook, key: Any) -> Float[np.ndarray, " levels"]:
    low, high = information_range(law, key=key)
    return np.geomspace(low / BELOW, high, LEVELS)
