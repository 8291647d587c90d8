"""`relabel`: which token sits at which point, so that what neighbours say is readable."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from tokenkl._progress import Report, part_of
from tokenkl._random import generator, seed_of, split
from tokenkl._validation import check_count, reject
from tokenkl.codebooks import Codebook, PointCodebook
from tokenkl.codebooks.base import check_codebook
from tokenkl.codebooks.transforms import placed
from tokenkl.context.held_out import COARSE_STEP, HeldOut, readings, told_on
from tokenkl.context.placement import place, score_of
from tokenkl.context.readability import (
    LOG_STEP,
    SHARE,
    MessageIndex,
    all_levels,
    integrals_of_variates,
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

#: Random permutations that stand for labels without meaning; of many tokens any is like the others.
PERMUTATIONS = 4
GAIN = "gain in context information that is read"


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """What neighbours read of tokens that sit at certain points.

    - `readability`: the share of what a token tells its neighbours (weighted canonical variates)
      that affine functions of its point explain.
    - `index`: information and nonlinearity to leading order, integrated over d log snr, under the
      law that was used (`message_index`).
    - `gain`: how much more of its neighbours' information an affine denoiser reads than with the
      given labels, integrated over d log snr, in nats for a token: of tokens, the mean over
      sequences that neither labels nor variates were made from. Where tokens know much of each
      other, labels that can be read also show more that cannot: nu, too, may grow. For labels of
      the same points; others tell and hide over wider or narrower ranges of the SNR.
    - `share`: the part of what neighbours tell that is read, on the same sequences: for any points.
    """

    readability: float
    index: MessageIndex
    gain: Estimate
    share: Estimate

    @property
    def is_better(self) -> bool:
        """Whether more is read than of the given labels, by the 95 % interval of the gain."""
        return bool(self.gain.confidence_interval().low > 0)

    @property
    def bits(self) -> Labels:
        """With index and gain in bits."""
        return Labels(self.readability, self.index.bits, self.gain.bits, self.share)


@dataclasses.dataclass(frozen=True, eq=False)
class Relabelling:
    """Which token sits at which point, and what that is worth.

    - `ids`: for every token the id of its point; `codebook`: the tokens at these points.
    - `given`, `found`, `permuted`: the labels of before, those of `codebook`, and the mean of
      labels without meaning; `rivals`: the other codebooks and points that were asked for, by name.
    - `structure`: of tokens, whether neighbours tell anything of each other.
    """

    ids: Int[np.ndarray, " K"]
    codebook: PointCodebook
    given: Labels
    found: Labels
    permuted: Labels
    rivals: Mapping[str, Labels]
    structure: StructureTest | None

    @property
    def gain(self) -> Estimate:
        """That of the labels that were found."""
        return self.found.gain

    @property
    def has_structure(self) -> bool:
        """Whether neighbours tell more of each other than chance would."""
        return self.structure is None or self.structure.p_value <= 0.05

    @property
    def is_better(self) -> bool:
        """Whether there is structure, and the gain is above 0 by its 95 % interval."""
        return self.has_structure and self.found.is_better

    @property
    def every(self) -> dict[str, Labels]:
        """All labels by name, those first of which the largest share is read."""
        named = {"given": self.given, "found": self.found, "permuted": self.permuted, **self.rivals}
        return dict(sorted(named.items(), key=lambda one: -float(one[1].share.value)))

    @property
    def bits(self) -> Relabelling:
        """With every information in bits."""
        three = {name: getattr(self, name).bits for name in ("given", "found", "permuted")}
        rivals = {name: labels.bits for name, labels in self.rivals.items()}
        return dataclasses.replace(self, rivals=rivals, **three)

    @property
    def verdict(self) -> str:
        """In one sentence, whether to use it."""
        if self.structure is not None and not self.has_structure:
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
    rivals: Mapping[str, Codebook] | None = None,
    grounds: Mapping[str, Codebook] | None = None,
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
        rivals: other codebooks of the same tokens, by name, that are judged beside, such as one-hot
            or a lattice. Those of one distance are exact in their geometry, of any size.
        grounds: other points, by name, on which labels are looked for and judged, too.
        gaps: distances of neighbours that count, all alike.
        rank: canonical variates of each gap; all for up to 1024 tokens and 64 beyond by default.
        starts: of the search; by default 48 for up to 64 tokens, 12 for up to 2000, 1 beyond.
        folds: parts of the sequences, each of which tests labels made from the others; of tokens.
        n_samples: observations at each SNR, where nothing is exact.
        key: of the search, permutations and observations.
        progress: called with what is done, and what there is to do.

    Raises:
        ValueError: a law or a rival of other tokens, too few points or all of them one, gaps longer
            than sequences, or fewer sequences than folds.

    Example:
        >>> import tokenkl as tk
        >>> hidden = tk.permute(tk.FSQ((3, 3)), key=1).points  # the law lives in these coordinates
        >>> law = tk.sources.bilinear(hidden, hidden, [[0.3, 0.0], [0.0, 0.2]])
        >>> found = tk.relabel(tk.FSQ((3, 3)), law)
        >>> found.given.readability < 0.6 < 0.97 < found.found.readability
        True
        >>> found.is_better
        True
    """
    home = codebook if points is None else points
    _check_points(codebook, "codebook")
    _check_points(home, "points")
    if home.K < codebook.K:
        reject("points", f"{home.K:,} of them", f"at least {codebook.K:,}, one for each token")
    others, places = dict(rivals or {}), dict(grounds or {})
    for what, books in (("rivals", others), ("grounds", places)):
        for name, book in books.items():
            _check_points(book, f"{what}[{name!r}]")
            if name in ("given", "found", "permuted") or (name in others and name in places):
                reject(what, repr(name), "a name of its own, and not given, found or permuted")
    for name, book in others.items():
        if book.K != codebook.K:
            expected = f"of {codebook.K:,}, as the codebook"
            reject(f"rivals[{name!r}]", f"one of {book.K:,} tokens", expected)
    for name, book in places.items():
        if book.K < codebook.K:
            expected = f"at least {codebook.K:,}, one for each token"
            reject(f"grounds[{name!r}]", f"{book.K:,} points", expected)
    if not gaps:
        reject("gaps", gaps, "at least one distance")
    gaps = tuple(check_count(gap, "every entry of gaps") for gap in gaps)
    keys = split(key, 8)
    starts = _starts(codebook.K) if starts is None else check_count(starts, "starts")
    check_count(n_samples, "n_samples")
    task = _Task(
        codebook, home, points is None, others, places, gaps, rank, starts, n_samples, keys[1]
    )
    if isinstance(law, Source):
        if law.K != codebook.K:
            reject("law", f"a source of {law.K:,} tokens", f"of {codebook.K:,}, as the codebook")
        if max(gaps) >= law.length:
            reject("gaps", gaps, f"below the length of the source's sequences, {law.length}")
        return _of_variates(task, task.variates_of_source(law), None, None, keys, progress)
    rows = as_sequences(law, codebook.K)
    check_count(folds, "folds", 2)
    permutations = 99 if codebook.K <= MOST_DENSE else 39
    tests = structure_test(
        rows, codebook.K, gap=gaps[0], permutations=permutations, rank=1, key=keys[7]
    )
    held_out = _held_out(task, rows, folds, keys[6], progress)
    variates = task.variates_of_tokens(rows, keys[5])
    report = part_of(progress, folds, 1, folds + 1)
    return _of_variates(task, variates, held_out, tests, keys, report)


def _check_points(codebook: Codebook, name: str) -> None:
    check_codebook(codebook, name)
    if codebook.K < 2 or not codebook.diameter_bound():
        points = "one token" if codebook.K < 2 else f"{codebook.K:,} tokens at one point"
        reject(name, points, "of tokens at two points or more, so that labels matter")


@dataclasses.dataclass(frozen=True)
class _Task:
    """What was asked for."""

    codebook: Codebook
    home: Codebook
    at_home: bool
    rivals: dict[str, Codebook]
    grounds: dict[str, Codebook]
    gaps: tuple[int, ...]
    rank: int | None
    starts: int
    n_samples: int
    key: Any  # of permutations

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
    ) -> dict[str, Int[np.ndarray, " K"]]:
        """The point of every token, at home ("found") and on other grounds."""
        features, law = weighted_features(variates, [1.0] * len(variates))
        every = {"found": self.home, **self.grounds}
        ids = {}
        for number, ((name, home), part) in enumerate(
            zip(every.items(), split(key, len(every)), strict=True)
        ):
            given = np.arange(self.codebook.K) if self.at_home and name == "found" else None
            report = part_of(progress, number, 1, len(every))
            where = np.asarray(home.points)
            words: dict[str, Any] = {"starts": self.starts, "given": given, "progress": report}
            ids[name] = place(where, features, law, key=part, **words)
        return ids

    def placed(self, ids: Int[np.ndarray, " K"], home: Codebook | None = None) -> PointCodebook:
        """The tokens at points of these ids."""
        home = self.home if home is None else home
        name = f"{home.label}, relabelled"
        return placed(np.asarray(home.points), ids, self.codebook.stated_prior, name)

    def moved(self, ids: dict[str, Int[np.ndarray, " K"]]) -> dict[str, PointCodebook]:
        """The tokens on all grounds."""
        every = {"found": self.home, **self.grounds}
        return {name: self.placed(ids[name], home) for name, home in every.items()}

    def others(self) -> dict[str, list[Codebook]]:
        """What labels are held against; of those without meaning there are several."""
        rng, several = generator(self.key), self.codebook.K <= MOST_DENSE
        permuted: list[Codebook] = [
            self.placed(rng.permutation(self.home.K)[: self.codebook.K])
            for _ in range(PERMUTATIONS if several else 1)
        ]
        return {"permuted": permuted, **{name: [one] for name, one in self.rivals.items()}}


def _starts(K: int) -> int:
    return 48 if K <= 64 else 12 if K <= 2000 else 1


def _of_variates(
    task: _Task,
    variates: list[Variates],
    held_out: dict[str, tuple[Estimate, Estimate]] | None,
    structure: StructureTest | None,
    keys: list[Any],
    progress: Report | None,
) -> Relabelling:
    ids = task.place(variates, keys[0], progress)
    moved = task.moved(ids)
    after = moved.pop("found")
    features, law = weighted_features(variates, [1.0] * len(variates))
    total = max(float((law[:, None] * features**2).sum()), 1e-300)

    def share(codebook: Codebook) -> float:
        if codebook.common_distance is not None:
            return 1.0  # any feature is an affine function of points that are a simplex
        return score_of(np.asarray(codebook.points), features, law) / total

    def index(codebook: Codebook, key: Any) -> MessageIndex:
        exact = held_out is None and task.codebook.K <= MOST_DENSE
        levels = all_levels(codebook, LOG_STEP if exact else COARSE_STEP)
        return integrals_of_variates(codebook, variates, levels, n_samples=task.n_samples, key=key)

    def labels(name: str, books: Sequence[Codebook], one: MessageIndex) -> Labels:
        readability = float(np.mean([share(book) for book in books]))
        if held_out is not None:
            return Labels(readability, one, *held_out[name])
        gain = Estimate(0.0, unit="nats") if one is first else one.read - first.read
        gain = dataclasses.replace(gain, quantity=GAIN)
        return Labels(readability, one, gain, one.read_share)

    first = index(task.codebook, keys[2])
    rivals: dict[str, list[Codebook]] = task.others()
    rivals |= {name: [book] for name, book in moved.items()}
    made = {}
    for (name, books), part in zip(rivals.items(), split(keys[4], len(rivals)), strict=True):
        every = [index(one, of) for one, of in zip(books, split(part, len(books)), strict=True)]
        made[name] = labels(name, books, _mean(every) if len(every) > 1 else every[0])
    return Relabelling(
        ids["found"],
        after,
        labels("given", [task.codebook], first),
        labels("found", [after], index(after, keys[3])),
        made.pop("permuted"),
        made,
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
            interval_supported=all(bool(one.interval_supported) for one in parts),
            method=f"mean of {len(values)} permutations",
        )

    return MessageIndex(
        found[0].snr,
        of([one.information for one in found]),
        of([one.nonlinearity for one in found]),
        of([one.read for one in found]),
    )


def _held_out(
    task: _Task, rows: list[np.ndarray], folds: int, key: Any, progress: Report | None
) -> dict[str, tuple[Estimate, Estimate]]:
    """Gains in what is read, and its shares, on sequences from which no variate or label came.

    What is told is (1/2) tr(S M A V) and its mirror image, with A = E f(k) g(l) in the place of the
    second S, and V - R in the place of V for what is read: the mean over neighbours in sequences
    that were left out, which is unbiased, and 0 where they tell nothing. So every sequence gives a
    number. The error is their scatter, or that of the law without one fold after the other (a
    delete-a-group jackknife), if that is larger.
    """
    parts: dict[str, list[np.ndarray]] = {}
    without: dict[str, list[np.ndarray]] = {}
    sizes: list[int] = []
    keys = split(key, 3 * folds + 1)
    for fold, (kept, left) in enumerate(split_sequences(rows, task.codebook.K, folds, keys[-1])):
        variates = task.variates_of_tokens(kept, keys[3 * fold + 2])
        report = part_of(progress, fold, 1, folds + 1)
        ids = task.place(variates, keys[3 * fold], report)
        sizes += [max(row.size - 1, 0) for row in left]
        every: dict[str, list[Codebook]] = {"given": [task.codebook], **task.others()}
        every |= {name: [book] for name, book in task.moved(ids).items()}
        for name, books in every.items():
            told, known = np.zeros((len(books), 2, 2, len(left))), np.zeros((2, 2))
            for gap, pair in zip(task.gaps, variates, strict=True):
                for number, book in enumerate(books):
                    matrices = readings(book, pair, task.n_samples, keys[3 * fold + 1])
                    told[number] += told_on(pair, matrices, left, gap)
                    # Of these variates E f g' is diagonal.
                    known += np.einsum("hwrr,r->hw", matrices, pair.correlations) / len(books)
            parts.setdefault(name, []).append(told)
            without.setdefault(name, []).append(known)
    seed = seed_of(key) if isinstance(key, int) else None
    held_out = {
        name: HeldOut(one, np.array(sizes), np.array(without[name])) for name, one in parts.items()
    }
    given, found = held_out["given"], {}
    for name, one in held_out.items():
        method = f"weak coupling, sequences left out in {folds} folds"
        words: dict[str, Any] = {"method": method, "seed": seed}
        gain = Estimate(**one.gain(given), quantity=GAIN, unit="nats", **words)
        if name == "given":
            gain = Estimate(0.0, quantity=GAIN, unit="nats")
        found[name] = gain, Estimate(**one.share(), quantity=SHARE, **words)
    return found
