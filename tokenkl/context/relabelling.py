"""`relabel`: which token sits at which point, so that what neighbours say is readable."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tokenkl._progress import Report
from tokenkl._random import generator, seed_of, split
from tokenkl._validation import check_count, reject
from tokenkl.codebooks import Codebook, PointCodebook
from tokenkl.codebooks.base import check_codebook
from tokenkl.codebooks.transforms import placed
from tokenkl.context.placement import place, score_of
from tokenkl.context.readability import (
    LOG_STEP,
    MessageIndex,
    all_levels,
    integrals_of_variates,
    log_weights,
    token_matrices,
)
from tokenkl.context.variates import (
    MOST_DENSE,
    StructureTest,
    Variates,
    canonical_variates,
    counted_variates,
    structure_test,
    weighted_features,
)
from tokenkl.estimate import Estimate
from tokenkl.sources import Source
from tokenkl.sources.counts import as_sequences, split_sequences

#: Random permutations that stand for labels without meaning.
PERMUTATIONS = 4
#: Step of log snr in integrals whose sampling error is much larger.
COARSE_STEP = 1.0
GAIN = "gain in context information that is read"
#: Pairs of tokens that are looked up at a time.
BLOCK = 2**16


@dataclasses.dataclass(frozen=True, eq=False)
class Relabelling:
    """Which token sits at which point, and what that is worth.

    - `ids`: for every token the id of its point; `codebook`: the tokens at these points.
    - `readability`: the share of what a token tells its neighbours (weighted canonical variates)
      that affine functions of its point explain; `readability_before` of the given labels, and
      `readability_permuted` the mean of labels without meaning.
    - `before`, `after`, `permuted`: information and nonlinearity to leading order, integrated over
      d log snr, under the law that was used (`message_index`).
    - `gain`: how much more of its neighbours' information an affine denoiser reads, integrated over
      d log snr, in nats for a token: of tokens, the mean over sequences that neither the labels nor
      the variates were made from. Where tokens know much of each other, labels that can be read
      also show more that cannot: nu, too, may grow.
    - `structure`: of tokens, whether neighbours tell anything of each other.
    """

    ids: Int[np.ndarray, " K"]
    codebook: PointCodebook
    readability: float
    readability_before: float
    readability_permuted: float
    before: MessageIndex
    after: MessageIndex
    permuted: MessageIndex
    gain: Estimate
    structure: StructureTest | None

    @property
    def is_better(self) -> bool:
        """Whether there is structure, and the gain is above 0 by its 95 % interval."""
        found = self.structure is None or self.structure.p_value <= 0.05
        return found and bool(self.gain.confidence_interval().low > 0)

    @property
    def verdict(self) -> str:
        """In one sentence, whether to use it."""
        if self.structure is not None and self.structure.p_value > 0.05:
            return (
                "No structure found: neighbours tell nothing of each other that chance would not "
                f"(p = {self.structure.p_value:.2g}), and labels do not matter."
            )
        if not self.is_better:
            return "No gain found: the given labels are as good as those that were looked for."
        return (
            "These labels are better: an affine denoiser reads more of what neighbours say, by the "
            "weak-coupling formula."
        )


def relabel(
    codebook: Codebook,
    law: Source | Any,
    *,
    points: Codebook | None = None,
    gaps: tuple[int, ...] = (1,),
    rank: int | None = None,
    starts: int | None = None,
    folds: int = 4,
    n_samples: int = 512,
    key: Any = 0,
    progress: Report | None = None,
) -> Relabelling:
    """Choose which token sits at which point, so that what neighbours say is linearly readable.

    An affine denoiser reads of its neighbours what is linear in their points. The canonical
    variates of two tokens say what neighbours tell of each other, and tokens are placed so that
    coordinates explain as much of these as they can: by assignment, and exchanges that make the
    score grow. Labels are never worse by it than the given ones. Points stay where they are:
    everything that depends on one token alone is unchanged where tokens are equally frequent.

    Args:
        codebook: the tokens with their given labels. Its prior is kept, and not used.
        law: a source, or sequences of token ids (a list, or rows of an array), whose smoothed
            counts are its law (`tokenkl.context.counted_variates`).
        points: another codebook, of at least as many points, that the tokens are moved to, such as
            a grid for the tokens of a VQ; the codebook's own points by default.
        gaps: distances of neighbours that count, all alike.
        rank: canonical variates of each gap; all for up to 1024 tokens and 64 beyond by default.
        starts: of the search; by default 48 for up to 64 tokens, 12 for up to 2000, 1 beyond.
        folds: parts of the sequences, each of which tests labels made from the others; of tokens.
        n_samples: observations at each SNR, where nothing is exact.
        key: of the search, permutations and observations.
        progress: called with what is done, and what there is to do.

    Raises:
        ValueError: a law of other tokens, too few points, gaps longer than sequences, or fewer
            sequences than folds.

    Example:
        >>> import tokenkl as tk
        >>> hidden = tk.permute(tk.FSQ((3, 3)), key=1).points  # the law lives in these coordinates
        >>> law = tk.sources.bilinear(hidden, hidden, [[0.3, 0.0], [0.0, 0.2]])
        >>> found = tk.relabel(tk.FSQ((3, 3)), law)
        >>> found.readability_before < 0.6 < 0.97 < found.readability
        True
        >>> found.is_better
        True
    """
    check_codebook(codebook)
    home = codebook if points is None else points
    check_codebook(home, "points")
    if home.K < codebook.K:
        reject("points", f"{home.K:,} of them", f"at least {codebook.K:,}, one for each token")
    if not gaps:
        reject("gaps", gaps, "at least one distance")
    gaps = tuple(check_count(gap, "every entry of gaps") for gap in gaps)
    keys = split(key, 8)
    starts = _starts(codebook.K) if starts is None else check_count(starts, "starts")
    task = _Task(
        codebook, home, points is None, gaps, rank, starts, check_count(n_samples, "n_samples")
    )
    if isinstance(law, Source):
        if law.K != codebook.K:
            reject("law", f"a source of {law.K:,} tokens", f"of {codebook.K:,}, as the codebook")
        if max(gaps) >= law.length:
            reject("gaps", gaps, f"below the length of the source's sequences, {law.length}")
        return _of_variates(task, task.variates_of_source(law), None, None, keys, progress)
    rows = as_sequences(law, codebook.K)
    parts = 1 + check_count(folds, "folds", 2)

    def report(part: int) -> Report | None:
        if progress is None:
            return None
        return lambda done, total: progress(part + done / total, parts)

    permutations = 99 if codebook.K <= MOST_DENSE else 39
    tests = structure_test(
        rows, codebook.K, gap=gaps[0], permutations=permutations, rank=1, key=keys[7]
    )
    gain = _held_out_gain(task, rows, folds, keys[6], report)
    variates = task.variates_of_tokens(rows, keys[5])
    return _of_variates(task, variates, gain, tests, keys, report(parts - 1))


@dataclasses.dataclass(frozen=True)
class _Task:
    """What was asked for."""

    codebook: Codebook
    home: Codebook
    at_home: bool
    gaps: tuple[int, ...]
    rank: int | None
    starts: int
    n_samples: int

    def variates_of_source(self, source: Source) -> list[Variates]:
        """Of pairs in the middle of a sequence."""
        places = [(source.length - 1 - gap) // 2 for gap in self.gaps]
        return [
            canonical_variates(source, place, place + gap, rank=self.rank)
            for place, gap in zip(places, self.gaps, strict=True)
        ]

    def variates_of_tokens(self, rows: list[np.ndarray], key: Any) -> list[Variates]:
        """Of counts, with correlations that were found on other halves."""
        K, keys = self.codebook.K, split(key, len(self.gaps))
        return [
            counted_variates(rows, K, gap=gap, rank=self.rank, key=one)
            for gap, one in zip(self.gaps, keys, strict=True)
        ]

    def place(
        self, variates: list[Variates], key: Any, progress: Report | None
    ) -> Int[np.ndarray, " K"]:
        """The point of every token."""
        features, law = weighted_features(variates, [1.0] * len(variates))
        given = np.arange(self.codebook.K) if self.at_home else None
        points = np.asarray(self.home.points)
        return place(
            points, features, law, starts=self.starts, key=key, given=given, progress=progress
        )

    def placed(self, ids: Int[np.ndarray, " K"]) -> PointCodebook:
        """The tokens at points of these ids."""
        name = f"{self.home.label}, relabelled"
        return placed(np.asarray(self.home.points), ids, self.codebook.stated_prior, name)

    def permuted(self, key: Any) -> list[PointCodebook]:
        """Tokens at points of the new home, without meaning."""
        rng = generator(key)
        return [
            self.placed(rng.permutation(self.home.K)[: self.codebook.K])
            for _ in range(PERMUTATIONS)
        ]


def _starts(K: int) -> int:
    return 48 if K <= 64 else 12 if K <= 2000 else 1


def _of_variates(
    task: _Task,
    variates: list[Variates],
    gain: Estimate | None,
    structure: StructureTest | None,
    keys: list[Any],
    progress: Report | None,
) -> Relabelling:
    ids = task.place(variates, keys[0], progress)
    after = task.placed(ids)
    permuted = task.permuted(keys[1])
    features, law = weighted_features(variates, [1.0] * len(variates))
    total = max(float((law[:, None] * features**2).sum()), 1e-300)

    def share(codebook: Codebook) -> float:
        return score_of(np.asarray(codebook.points), features, law) / total

    def index(codebook: Codebook, key: Any) -> MessageIndex:
        exact = gain is None and task.codebook.K <= MOST_DENSE
        levels = all_levels(codebook, LOG_STEP if exact else COARSE_STEP)
        return integrals_of_variates(codebook, variates, levels, n_samples=task.n_samples, key=key)

    first, last = index(task.codebook, keys[2]), index(after, keys[3])
    others = [
        index(one, part) for one, part in zip(permuted, split(keys[4], PERMUTATIONS), strict=True)
    ]
    if gain is None:
        gain = dataclasses.replace(last.read - first.read, quantity=GAIN)
    return Relabelling(
        ids,
        after,
        share(after),
        share(task.codebook),
        float(np.mean([share(one) for one in permuted])),
        first,
        last,
        _mean(others),
        gain,
        structure,
    )


def _mean(found: list[MessageIndex]) -> MessageIndex:
    """Of several labelings, with how they scatter as the error."""

    def of(parts: list[Estimate]) -> Estimate:
        values = np.array([float(one.value) for one in parts])
        return dataclasses.replace(
            parts[0],
            value=values.mean(),
            standard_error=values.std(ddof=1) / math.sqrt(len(values)),
            degrees_of_freedom=len(values) - 1,
            n_samples=len(values),
            method=f"mean of {len(values)} permutations",
        )

    return MessageIndex(
        found[0].snr,
        of([one.information for one in found]),
        of([one.nonlinearity for one in found]),
        of([one.read for one in found]),
    )


def _held_out_gain(
    task: _Task, rows: list[np.ndarray], folds: int, key: Any, report: Any
) -> Estimate:
    """The gain in what is read, on sequences from which neither variates nor labels came.

    It is (1/2) tr(S M A (V - R)) and its mirror image, with A = E f(k) g(l) in the place of the
    second S: the mean over neighbours in the sequences that were left out, which is unbiased, and 0
    where they tell nothing. So every sequence gives a number, and their scatter the error.
    """
    values, sizes = [], []
    keys = split(key, 3 * folds + 1)
    for fold, (kept, left) in enumerate(split_sequences(rows, task.codebook.K, folds, keys[-1])):
        variates = task.variates_of_tokens(kept, keys[3 * fold + 2])
        ids = task.place(variates, keys[3 * fold], report(fold))
        new, old = task.placed(ids), task.codebook
        gained = [0.0] * len(left)
        for gap, pair in zip(task.gaps, variates, strict=True):
            matrix = _reading(new, pair, task.n_samples, keys[3 * fold + 1]) - _reading(
                old, pair, task.n_samples, keys[3 * fold + 1]
            )
            told = pair.first @ matrix
            for i, row in enumerate(left):
                for start in range(0, row.size - gap, BLOCK):
                    here = row[start : start + BLOCK + gap]
                    gained[i] += float((told[here[:-gap]] * pair.second[here[gap:]]).sum())
        values += gained
        sizes += [max(row.size - 1, 0) for row in left]
    value = sum(values) / max(sum(sizes), 1)
    away, count = np.array(values) - value * np.array(sizes), len(values)
    return Estimate(
        value=value,
        standard_error=math.sqrt(count / (count - 1) * float((away**2).sum())) / max(sum(sizes), 1),
        degrees_of_freedom=count - 1,
        n_samples=count,
        method=f"weak coupling, sequences left out in {folds} folds",
        seed=seed_of(key) if isinstance(key, int) else None,
        quantity=GAIN,
        unit="nats",
    )


def _reading(
    codebook: Codebook, pair: Variates, n_samples: int, key: Any
) -> Float[np.ndarray, "r r"]:
    """H with sum H * A for what is read, integrated over d log snr, A = E f g' of neighbours."""
    levels = all_levels(codebook, COARSE_STEP)
    s = pair.correlations
    first, second = (
        token_matrices(codebook, law, side, levels, n_samples=n_samples, key=part)
        for law, side, part in zip(
            pair.marginals, (pair.first, pair.second), split(key, 2), strict=True
        )
    )
    each = (first.residual.mean(axis=0) * s) @ second.linear
    each = each + (first.linear * s) @ second.residual.mean(axis=0)
    found: np.ndarray = np.tensordot(log_weights(levels, 1), each, axes=1) / 2
    return found
