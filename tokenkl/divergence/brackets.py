"""MMSE curves and path KLs where MMSE and entropy come as brackets: large residual codebooks.

A path KL is a sum of MMSEs and entropies at the points of its grid (`sampler`), so that its bracket
is that of a sum over levels (`information.residual.residual_sums`), and nothing is interpolated.

A curve, from which steps are chosen, decreases through the MMSEs at some levels, smooth in
logarithms. Its area is held against the entropies there (I-MMSE), which tell how far it is off.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special
from scipy.spatial.distance import cdist

from tokenkl._random import draws_of, seed_of
from tokenkl.codebooks import Codebook, ResidualCodebook
from tokenkl.divergence.mmse_table import (
    MOST_UNSEEN,
    MmseCurve,
    Nodes,
    squared_size,
    unseen_variance,
)
from tokenkl.divergence.search import best_grid
from tokenkl.estimate import Estimate
from tokenkl.halfspaces.thresholds import threshold
from tokenkl.information import MonteCarlo, plan
from tokenkl.information.estimators import Progress
from tokenkl.information.problem import Problem
from tokenkl.information.residual.profile import residual_sums
from tokenkl.numerics.moments import MIN_CARRIERS

#: Samples of a curve to begin with; how many there may be, where that is not said.
FEWEST_SAMPLES, MOST_SAMPLES = 2**6, 2**9
#: Levels of a curve: to begin with, and at most.
FEWEST_LEVELS, MOST_LEVELS = 9, 33
#: Loss that is of no matter, relative to the best path KL of this number of steps.
LOSS, STEPS = 0.01, 8
#: Curves within the errors of the one that was found, which might be the true one.
OTHERS, ANCHORS = 4, 5
#: Rivals of a rare vector that are looked at one by one, and the others at a time.
NEAREST, GROUP = 32, 16
#: A distance at which nobody is a rival.
BEYOND = 1e150
#: Straight pieces between two levels.
INSIDE = 8
#: Doubts are at least this part of the largest MMSE, and MMSEs this number: they have logarithms.
SURE, LEAST = 1e-9, 1e-290


@dataclasses.dataclass(frozen=True)
class BracketedCurve(MmseCurve):
    """A decreasing MMSE with straight pieces between `nodes`: `inside` of them for every level.

    - `value`: at the nodes; `half`, `error`: half-widths of brackets and standard errors at levels.
    - `area_slack`, `area_error`: as of `MmseCurve`.
    """

    nodes: Nodes
    value: Float[np.ndarray, " nodes"]
    half: Float[np.ndarray, " levels"]
    error: Float[np.ndarray, " levels"]
    area_slack: float = 0.0
    area_error: float = 0.0
    inside: int = INSIDE
    exact: bool = dataclasses.field(default=False, init=False)

    @functools.cached_property
    def _areas(self) -> Float[np.ndarray, " nodes"]:
        pieces = np.diff(self.nodes.snr) * (self.value[1:] + self.value[:-1]) / 2
        return np.append(0.0, np.cumsum(pieces))

    def mmse(self, snr: Any) -> np.ndarray:
        return np.asarray(np.interp(snr, self.nodes.snr, self.value))

    def _piece(self, snr: Any) -> np.ndarray:
        right = np.searchsorted(self.nodes.snr, snr, side="right")
        return np.clip(right - 1, 0, self.value.size - 2)

    def area(self, snr: Any) -> np.ndarray:
        piece = self._piece(snr)
        inside = (np.asarray(snr) - self.nodes.snr[piece]) * (self.mmse(snr) + self.value[piece])
        return np.asarray(self._areas[piece] + inside / 2)

    def slope(self, snr: Any) -> np.ndarray:
        return np.asarray((np.diff(self.value) / np.diff(self.nodes.snr))[self._piece(snr)])

    def price(self, grid: Float[np.ndarray, " points"]) -> float:
        """The path KL of a grid of SNRs by this curve."""
        area = self.area(grid[[0, -1]])
        return float(self.mmse(grid[:-1]) @ np.diff(grid) - (area[1] - area[0])) / 2

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        levels = slice(None, None, self.inside)
        return self.nodes.snr[levels], self.value[levels], self.half + 3 * self.error


def bracketed_curve(
    codebook: Codebook,
    low: float,
    high: float,
    method: MonteCarlo,
    key: Any,
    progress: Progress | None = None,
) -> BracketedCurve:
    """The MMSE from snr = low to snr = high, good enough to choose steps by.

    Levels are added where the curve is known least, until steps chosen without every other one of
    them lose no more than 1 % of the path KL. Samples are doubled, up to those of `method`, until
    steps lose no more if the truth is elsewhere within the errors.
    """
    size = squared_size(codebook)
    nodes = Nodes(low, size / (1 + size * low), np.zeros(0), 1)

    def look(snr: np.ndarray) -> np.ndarray:
        asked = ("mmse", "conditional_entropy")
        both = plan(codebook, snr, asked, method=method).run(key, progress).values()
        return np.stack([[e.value, e.numerical_error, e.standard_error] for e in both])

    def loss(chosen: BracketedCurve, true: BracketedCurve) -> float:
        costs = [true.price(best_grid(one, STEPS, low, high)) for one in (chosen, true)]
        return costs[0] / costs[1] - 1 if costs[1] > 0 else 0.0

    def moved(side: float, move: np.ndarray) -> BracketedCurve:
        value = np.maximum(found[0, 0] + side * found[0, 1] + move * found[0, 2], 0.0)
        return _fitted(nodes, snr, np.stack([np.stack([value, *found[0, 1:]]), found[1]]))

    most = method.n_samples or MOST_SAMPLES
    count = min(FEWEST_SAMPLES, most)
    if not method.has_target:
        method = dataclasses.replace(method, n_samples=count)
    end = math.log1p(nodes.scale * (high - low))
    snr = nodes.snr_of(np.linspace(0.0, end, FEWEST_LEVELS))
    snr[[0, -1]] = low, high
    found = look(snr)
    while snr.size < MOST_LEVELS:
        here = _fitted(nodes, snr, found)
        half = np.union1d(np.arange(0, snr.size, 2), snr.size - 1)
        if loss(_fitted(nodes, snr[half], found[..., half]), here) <= LOSS:
            break
        unknown = -np.diff(here.value[::INSIDE]) * np.diff(snr)
        widest = np.argsort(-unknown)[: min(snr.size // 2, MOST_LEVELS - snr.size)]
        x = nodes.scale * (snr - low)
        middle = nodes.snr_of((np.log1p(x[widest]) + np.log1p(x[widest + 1])) / 2)
        snr, found = np.append(snr, middle), np.concatenate([found, look(middle)], axis=-1)
        order = np.argsort(snr)
        snr, found = snr[order], found[..., order]
    rng = np.random.default_rng(0)
    sides = np.resize([-1.0, 1.0], OTHERS)
    # Levels have common draws: errors are alike where levels are close to each other.
    places = np.linspace(0, ANCHORS - 1, snr.size)
    smooth = [np.interp(places, range(ANCHORS), rng.standard_normal(ANCHORS)) for _ in sides]
    while not method.has_target and count < most:
        here = _fitted(nodes, snr, found)
        others = (moved(side, move) for side, move in zip(sides, smooth, strict=True))
        if max(loss(here, other) for other in others) <= LOSS:
            break
        count = min(2 * count, most)
        method = dataclasses.replace(method, n_samples=count)
        found = look(snr)
    return _fitted(nodes, snr, found)


def _fitted(
    nodes: Nodes, snr: Float[np.ndarray, " levels"], found: Float[np.ndarray, "2 3 levels"]
) -> BracketedCurve:
    """The curve through what was found: value, half-width and error of MMSE and entropy."""
    (mmse, half, error), (entropy, half_of_entropy, error_of_entropy) = found
    curve = decreasing(nodes, snr, mmse, half, error)
    fit = curve.value[::INSIDE]
    # Entropies tell how far areas are off at the levels. Between them, an MMSE that decreases from
    # the one value to the other, with the same mean, differs by no more than the triangle.
    area = curve.area(snr)
    mean = np.diff(area) / np.diff(snr)
    above = (fit + half)[:-1] - mean
    below = mean - np.maximum(fit - half, 0.0)[1:]
    both = above + below
    width = np.divide(above * below, both, out=np.zeros(both.size), where=both > 0)
    off = np.abs(area - 2 * (entropy[0] - entropy)) + 2 * (half_of_entropy[0] + half_of_entropy)
    slack = float(off.max() + np.max(width * np.diff(snr)))
    return dataclasses.replace(
        curve, area_slack=slack, area_error=4 * float(error_of_entropy.max())
    )


def decreasing(
    nodes: Nodes,
    snr: Float[np.ndarray, " levels"],
    mmse: Float[np.ndarray, " levels"],
    half: Float[np.ndarray, " levels"],
    error: Float[np.ndarray, " levels"],
    inside: int = INSIDE,
) -> BracketedCurve:
    """A curve that falls through MMSEs, nearer to those that are known better."""
    from scipy.interpolate import PchipInterpolator  # slow to import
    from scipy.optimize import isotonic_regression

    doubt = np.maximum(np.hypot(half, error), SURE * mmse.max())
    fit = isotonic_regression(mmse, weights=(doubt.min() / doubt) ** 2, increasing=False).x
    x = np.log1p(nodes.scale * (snr - nodes.low))
    edges = np.interp(np.arange(inside * (x.size - 1) + 1) / inside, np.arange(x.size), x)
    value = np.exp(PchipInterpolator(x, np.log(np.maximum(fit, LEAST)))(edges))
    nodes = dataclasses.replace(nodes, edges=edges)
    return BracketedCurve(nodes, value, half, error, inside=inside)


def bracketed_path_kl(
    codebook: ResidualCodebook,
    grids: Sequence[Float[np.ndarray, " points"]],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None = None,
) -> Estimate:
    """Path KLs of the ancestral sampler by their definition, as brackets."""
    points, where = np.unique(np.concatenate(grids), return_inverse=True)
    weights = {
        name: np.zeros((len(grids), points.size)) for name in ("mmse", "conditional_entropy")
    }
    places = np.split(where, np.cumsum([grid.size for grid in grids])[:-1])
    for row, (grid, place) in enumerate(zip(grids, places, strict=True)):
        weights["mmse"][row, place[:-1]] = np.diff(grid) / 2
        weights["conditional_entropy"][row, place[[0, -1]]] = -1.0, 1.0
    found, spread = residual_sums(Problem(codebook, points), weights, method, key, progress)
    # Mistakes of one digit that no sample saw; of nats they cost at most snr / 2 times as much.
    n_samples = int(found.n_samples.max())
    unseen = np.sqrt(_unseen_by_stage(codebook, points, n_samples))
    lost = (weights["mmse"] + np.abs(weights["conditional_entropy"]) * points / 2) @ unseen
    seen = spread * math.sqrt(n_samples)
    supported = found.interval_supported & (lost <= MOST_UNSEEN * seen)
    return dataclasses.replace(found, interval_supported=supported).estimate(
        (len(grids),),
        quantity="ancestral KL",
        unit="nats",
        seed=seed_of(key),
        draws=draws_of(key),
    )


def _unseen_by_stage(
    codebook: ResidualCodebook, snr: Float[np.ndarray, " s"], n_samples: int
) -> Float[np.ndarray, " s"]:
    """`unseen_variance` by mistakes in one stage, and by vectors of it that are too rare."""
    total = np.zeros(snr.size)
    for stage, prior in zip(codebook.stages, codebook.stage_weights(), strict=True):
        alone = ResidualCodebook([stage], prior)
        total += unseen_variance(Problem(alone, snr), n_samples)
        total += _by_rare_vectors(np.asarray(stage), np.asarray(prior), snr, n_samples)
    return total


def _by_rare_vectors(
    stage: Float[np.ndarray, "K n"],
    prior: Float[np.ndarray, " K"],
    snr: Float[np.ndarray, " s"],
    n_samples: int,
) -> Float[np.ndarray, " s"]:
    """About the variance of tr Cov(e | y) by vectors too rare for the sample to have enough of.

    These are the ones whose squared distance from the mean is least like that of the others, by
    which tr Cov may change where noise lets them be taken for others, and not all look the same.
    """
    stage, prior = stage[prior > 0], prior[prior > 0]
    centred = stage - prior @ stage
    squared = (centred**2).sum(axis=1)
    unlike = np.abs(squared - prior @ squared)
    order = np.argsort(-unlike)
    rare = order[: np.searchsorted(n_samples * np.cumsum(prior[order]), MIN_CARRIERS)]
    apart = cdist(centred[rare], centred)
    np.put_along_axis(apart, rare[:, None], BEYOND, axis=1)  # no rival of itself
    order = np.argsort(apart, axis=1)
    # Far rivals by groups, as if all of one were as near and as likely as any of it.
    starts = np.arange(len(stage))
    starts = np.append(starts[:NEAREST], starts[NEAREST::GROUP])
    copies = np.diff(np.append(starts, len(stage)))
    apart = np.take_along_axis(apart, order[:, starts], axis=1)
    likely = np.maximum.reduceat(np.log(prior)[order], starts, axis=1)
    odds = np.log(prior[rare])[:, None] - likely
    out = np.zeros(snr.size)
    for index, root in enumerate(np.sqrt(snr)):
        beaten = special.erfc(threshold(root * apart, odds) * math.sqrt(0.5)) @ copies / 2
        changed = np.minimum(beaten, 1.0) * np.minimum(root**2 * squared[rare], 1.0)
        out[index] = prior[rare] @ (unlike[rare] * changed) ** 2
    return out
