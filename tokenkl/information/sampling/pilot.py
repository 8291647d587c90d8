"""What a pilot decides: controls and their coefficients, plain or Sobol points, how many samples.

The pilot is a sample of its own. It is thrown away once everything is decided, and estimates come
from fresh samples alone. Given the pilot these are independent draws of one fixed function with the
right mean, so that the estimate is unbiased and its interval that of an ordinary average, whatever
the pilot chose and however badly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl.codebooks.base import Codebook
from tokenkl.information.methods import MonteCarlo
from tokenkl.information.sampling import sobol
from tokenkl.information.sampling.controls import Controls
from tokenkl.information.sampling.signs import SIGNS
from tokenkl.numerics.moments import Moments

#: Samples in a pilot where at least `MANY` are to follow, and where at least `FEWEST` are; with
#: fewer to follow there is none.
LARGE, SMALL = 2**11, 2**10
MANY, FEWEST = 2**14, 2**12
#: Parts of the pilot; what coefficients are worth is judged on the parts that they do not know.
FOLDS = 4
#: Informative samples that a statistic needs in the pilot. Rarer events carry controls and
#: statistic apart only where two of them meet, which the sample would then hardly ever see.
INFORMATIVE = 100
#: Controls are used where they leave at most this part of the variance.
WORTHWHILE = 0.8
#: Directions of the correlation matrix of controls, relative to the largest, that are not used.
MIN_EIGENVALUE = 1e-6
#: Sobol points are used where they lower the variance of the pilot by this factor: more than
#: Student's quantile costs, and than chance pretends.
SOBOL_GAIN = 1.5
#: Samples beyond those that a target calls for, in standard errors of the pilot's variance (about):
#: where a fresh sample seldom misses its target, its size hardly depends on what it has shown.
MARGIN = 4.0

#: What draws of so many signs are called.
POINTS: dict[int, tuple[str, ...]] = {1: (), 2: ("antithetic",), 4: ("antithetic by halves",)}

#: The statistics (columns of the kernel's output) that every quantity rests on.
COLUMNS = {
    "accuracy": (0,),
    "error_probability": (0,),
    "conditional_entropy": (1,),
    "mutual_information": (1, 3),
    "mmse": (2,),
    "sampling_error": (4,),
}


class Plan(NamedTuple):
    """What is settled before the sample begins; arrays over levels and statistics.

    `signs` is how many samples a draw consists of, `direct` says which route the mutual information
    takes, `margin` how many times more samples to take than the variance calls for.
    """

    kinds: list[tuple[str, ...]]
    coefficients: list[Float[np.ndarray, "statistics controls"]]
    used: Bool[np.ndarray, "levels statistics"]
    sobol: Bool[np.ndarray, " levels"]
    signs: int
    direct: Bool[np.ndarray, " levels"]
    mean: Float[np.ndarray, "levels statistics"]
    variance: Float[np.ndarray, "levels statistics"]
    margin: Float[np.ndarray, " levels"]

    def settings(self, level: int) -> dict[str, tuple[str, ...]]:
        """What was chosen for a level, in words."""
        chosen = {"control variates": tuple(sorted(self.kinds[level]))}
        points = ("Sobol",) if self.sobol[level] else POINTS[self.signs]
        return chosen | {"points": points}

    def at(self, nodes: Int[np.ndarray, " levels"]) -> Plan:
        """The same for each of `nodes`."""
        kinds = [self.kinds[node] for node in nodes]
        coefficients = [self.coefficients[node] for node in nodes]
        arrays = ("used", "sobol", "direct", "mean", "variance", "margin")
        there = {name: getattr(self, name)[nodes] for name in arrays}
        return self._replace(kinds=kinds, coefficients=coefficients, **there)


def slope(h: Float[np.ndarray, " nodes"], plan: Plan) -> float:
    """How fast errors fall: like exp(-slope h^2) from 1/2 to where the pilot hardly sees any."""
    error = plan.mean[:, 0]
    seen = np.flatnonzero((h < 1e150) & (error < 0.5) & (error > 1e-4))
    if seen.size < 2:
        return 0.0
    first, last = seen[h[seen].argmin()], seen[h[seen].argmax()]
    fallen = np.log(error[first] / error[last]) / (h[last] ** 2 - h[first] ** 2)
    return max(float(fallen), 0.0)


def size(method: MonteCarlo) -> int:
    """Samples in the pilot; 0 where there is to be none."""
    if not method.variance_reduction:
        return 0
    wanted = method.max_samples if method.has_target else method.n_samples or MANY
    wanted = min(wanted, method.max_samples)
    return LARGE if wanted >= MANY else SMALL if wanted >= FEWEST else 0


def affordable(codebook: Codebook, levels: int, samples: int, memory: int) -> bool:
    """Whether the pilot and the quadratic forms of the moments fit into half of the memory."""
    numbers = samples * (2 * codebook.n + 4 * 4 * levels + 100) + 8 * codebook.n**2
    return samples > 0 and codebook.K > 1 and 8 * numbers <= memory / 2


def decide(
    controls: Controls,
    ids: np.ndarray,
    noise: np.ndarray,
    values: Float[np.ndarray, "levels statistics samples"],
    quantities: Sequence[str],
    is_net: bool,
    token_cost: float,
    signs: int = 1,
) -> Plan:
    """The plan that follows from a pilot; `is_net` says that it consists of Sobol replicates.

    With several `signs` a sample is the mean over these (`signs.turned`).

    `token_cost` is what one token costs at one level, as `Controls.costs` (nanoseconds).
    """
    levels, statistics, count = values.shape
    columns = sorted({column for name in quantities for column in COLUMNS[name]})
    moments = Moments((levels, statistics))
    moments.add(values)
    informative = moments.effective()
    # Where the entropy is rare, so is what moves the divergence from its limit, and conversely.
    informative[:, [1, 3]] = informative[:, [1, 3]].min(axis=1, keepdims=True)
    enough = informative >= INFORMATIVE
    wanted = np.zeros(statistics, dtype=bool)
    wanted[columns] = True
    eligible = enough & wanted & (moments.squares > 0)
    block = controls.block(ids, noise, signs=signs)
    kernel_cost = token_cost * controls.points.shape[0]
    rest = values.copy()
    fewest = np.where(wanted, informative, np.inf).min(axis=1)
    plan = Plan(
        kinds=[],
        coefficients=[],
        used=np.zeros_like(eligible),
        sobol=np.zeros(levels, dtype=bool),
        signs=signs,
        direct=np.zeros(levels, dtype=bool),
        mean=moments.mean.copy(),
        variance=np.zeros((levels, statistics)),
        margin=np.minimum(1 + MARGIN / np.sqrt(np.maximum(fewest, 1)), 3),
    )
    for level in range(levels):
        fit = _Fit(block(level), values[level], controls.rounding(level))
        best = 0.0
        kinds: tuple[str, ...] = ()
        for candidate in _candidates(controls):
            residual = fit.residual(controls.rows(candidate))
            before = np.where(eligible[level], moments.squares[level] / count, 1)
            ratio = residual.var(axis=-1) / before
            helped = eligible[level] & (ratio <= WORTHWHILE)
            # What time at equal error would become: geometric mean over the statistics.
            gain = np.log(np.maximum(ratio[helped], 1e-9)).sum() / max(eligible[level].sum(), 1)
            score = gain + math.log1p(sum(controls.costs[kind] for kind in candidate) / kernel_cost)
            if score < best:
                best, kinds = score, candidate
                plan.used[level] = helped
                rest[level] = np.where(helped[:, None], residual, values[level])
        rows = controls.rows(kinds)
        plan.kinds.append(kinds)
        plan.coefficients.append(fit.coefficients(rows) * plan.used[level][:, None])
    plan.variance[:] = rest.var(axis=-1)
    plan.mean[:] = rest.mean(axis=-1)
    if is_net:
        means = rest.reshape(levels, statistics, sobol.REPLICATES, -1).mean(axis=-1)
        between = means.var(axis=-1, ddof=1) * (count // sobol.REPLICATES)
        judged = wanted & (plan.variance > 0)
        gain = np.log(np.where(judged, plan.variance / np.maximum(between, 1e-300), 1))
        helps = gain.sum(axis=1) > math.log(SOBOL_GAIN) * np.maximum(judged.sum(axis=1), 1)
        plan.sobol[:] = helps & judged.any(axis=1) & (enough | ~judged).all(axis=1)
        plan.variance[plan.sobol] = between[plan.sobol]
    plan.direct[:] = plan.variance[:, 3] < plan.variance[:, 1]
    return plan


def decide_on_signs(
    controls: Controls,
    ids: np.ndarray,
    noise: np.ndarray,
    values: Float[np.ndarray, "levels statistics samples"],
    quantities: Sequence[str],
    method: MonteCarlo,
    token_cost: float,
    product_cost: float,
) -> Plan:
    """`decide` on a pilot of samples with all `SIGNS`, one after the other (`signs.turned`).

    Those of one noise vector share the products of token and noise (`product_cost` for each token),
    and have a mean of small variance where a statistic goes with the noise; where it does not care
    for a sign, two samples are worth one. The plan is for as many signs as take least time.
    """
    plans = []
    for signs in SIGNS:
        means = values.reshape(*values.shape[:2], -1, signs).mean(axis=-1)
        known = quantities, False, token_cost, signs
        plans.append(decide(controls, ids[::signs], noise[::signs], means, *known))
    columns = [COLUMNS[name][0] for name in quantities]
    target = 1.0
    if method.has_target:
        target = method.atol + method.rtol * np.maximum(np.abs(plans[0].mean[:, columns]), 1e-300)
    # How many draws a level takes, or, where all take the same, what each is worth.
    draws = [(plan.variance[:, columns] / target**2).max(axis=1) for plan in plans]
    if not method.has_target:
        draws = [some / np.maximum(draws[0], 1e-300) for some in draws]
    # Products are for the level that takes most, which the others share.
    times = [
        product_cost * some.max() + token_cost * plan.signs * some.sum()
        for plan, some in zip(plans, draws, strict=True)
    ]
    return plans[int(np.argmin(times))]


def _candidates(controls: Controls) -> list[tuple[str, ...]]:
    """Selections of kinds: the moments, which cost next to nothing, and some of the others."""
    others = [kind for kind in controls.sizes if kind != "moments"]
    picks = itertools.chain.from_iterable(
        itertools.combinations(others, count) for count in range(len(others) + 1)
    )
    return [("moments", *pick) for pick in picks]


class _Fit:
    """Regressions of the statistics of one level on any selection of its controls."""

    def __init__(self, controls: np.ndarray, values: np.ndarray, rounding: np.ndarray) -> None:
        self.controls, self.values, self.rounding = controls, values, rounding
        around = values - values.mean(axis=-1, keepdims=True)
        edges = np.arange(FOLDS + 1) * values.shape[-1] // FOLDS
        self.folds = [slice(*pair) for pair in itertools.pairwise(edges)]
        rows = np.concatenate([controls, around, np.ones((1, values.shape[-1]))])
        self.parts = [rows[:, fold] @ rows[:, fold].T for fold in self.folds]
        self.sums = np.sum(self.parts, axis=0)

    def coefficients(self, rows: np.ndarray, without: int | None = None) -> np.ndarray:
        """Coefficients of these controls, from all folds or from all but one."""
        sums = self.sums if without is None else self.sums - self.parts[without]
        kept = np.concatenate([rows, np.arange(len(self.controls), len(sums))])
        return regress(sums[np.ix_(kept, kept)], self.rounding[rows])

    def residual(self, rows: np.ndarray) -> np.ndarray:
        """What the coefficients of the other folds leave of every sample."""
        out = np.empty_like(self.values)
        for index, fold in enumerate(self.folds):
            beta = self.coefficients(rows, without=index)
            out[:, fold] = self.values[:, fold] - beta @ self.controls[rows, fold]
        return out


def regress(sums: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """Coefficients (statistics, controls) of least squares with an intercept.

    `sums` holds the sums over samples of all products of controls, statistics and one. Directions
    in which the controls do not vary, as |e_k|^2 on a sphere, get no coefficient, nor do those that
    vary by little more than their means may be off (`rounding`).
    """
    count = rounding.size
    if count == 0:
        return np.zeros((len(sums) - 1, 0))
    covariance = sums - np.outer(sums[-1], sums[-1]) / sums[-1, -1]
    length = np.sqrt(np.maximum(np.diag(covariance)[:count], 0))
    varies = length > 1e3 * rounding * math.sqrt(sums[-1, -1])
    scale = np.where(varies, 1 / np.where(varies, length, 1), 0)
    eigenvalues, vectors = np.linalg.eigh(covariance[:count, :count] * np.outer(scale, scale))
    kept = eigenvalues > MIN_EIGENVALUE * max(eigenvalues[-1], 1e-300)
    vectors = vectors[:, kept]
    cross = covariance[count:-1, :count] * scale
    return np.asarray((cross @ vectors / eigenvalues[kept]) @ vectors.T * scale)
