"""Every quantity once more, sampled by other means, with intervals that hold at any sample size.

Nothing of `tokenkl.information` takes part: plain NumPy on the points and priors of the codebook,
rotated and renamed; a grid whose prior factorises is one problem for each different coordinate.
Four ways of drawing observations, each good at other noise levels:

- "plain": Y = h e_k + eps, k from the prior;
- "pairs": with p_k = p(k|y) and m the density of Y, from the density proportional to

      m(y) sum_{k != j} sqrt(p_k p_j),

  a mixture of standard normal laws around the midpoints h (e_k + e_j)/2 with weights
  sqrt(pi_k pi_j) exp(-h^2 |e_k - e_j|^2 / 8), of sum Z. A statistic f of the posterior is averaged
  as f Z / x, x = (sum sqrt p)^2 - 1, and 1 - max p <= x/2, S <= x/2, entropy <= x: bounded however
  rare the errors are;
- "far pairs": the same with |e_k - e_j|^2 in every weight, for the variance of the posterior, which
  is at most a quarter of the sum that takes the place of x: far tokens that seldom meet are drawn
  as often as their squared distance counts;
- "path": at an SNR uniform between 0 and the one asked for; half of it times the variance of the
  posterior is the information on average (I-MMSE), with relative precision where there is little.

Draws come in strata, two in each, and the variance from the differences of the two. With V their
sum of squares, R the range of one draw and N draws the mean is within

    (sqrt(2 V L) + 7 R L / 3) / N,        L = log(3 / (1 - level)),

of the truth at the level: Bernstein's inequality for the sum, and for V from below. The interval of
an `Estimate` without support has this form with a slightly larger L.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special
from scipy.spatial.distance import cdist

from tokenkl._random import generator
from tokenkl.codebooks import Codebook
from tokenkl.codebooks.base import entropy
from tokenkl.estimate import Estimate
from tokenkl.numerics.neighbours import nearest_distances

#: Half-width of an interval, relative to the value, that ends the sampling.
TARGET = 3e-3
#: Most numbers (samples times tokens) for one way at one level, and for all; in one block.
WORK, ALL_WORK, BLOCK = 2**26, 2**28, 2**15
#: Draws that decide how and how often to draw, and how many times more where they are too few.
PILOT, GROWTH = 2**11, 8
#: Tokens up to which there is a table of all pairs.
MAX_PAIRS = 2**11
#: Places at which max p may be cut off, and how much of it that may take.
CAPS, CUT = 64, 1e-4
#: Largest h in units of the part's size: every pair of tokens is told apart by far less.
LARGEST = 1e140
#: Smallest logit that is told from others.
FAINT = -690.0
#: Dimensions up to which a codebook is rotated.
MAX_ROTATED = 2**9
#: Most strata of the noise along the line from token to token.
STRATA = 2**8
EPS, TINY = float(np.finfo(float).eps), 1e-300

#: What is estimated, in this order.
QUANTITIES = (
    "error_probability",
    "accuracy",
    "sampling_error",
    "conditional_entropy",
    "mutual_information",
    "mmse",
)


class Side(NamedTuple):
    """A value and the ends of its interval."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def estimate(
    codebook: Codebook, snr: Float[np.ndarray, " s"], *, key: Any, alarm: float
) -> dict[str, Side] | None:
    """All `QUANTITIES` at every SNR; None for too many tokens.

    `alarm` bounds the probability that any of the intervals misses the truth.
    """
    parts = _parts(codebook, key)
    if parts is None:
        return None
    level = 1 - alarm / (len(QUANTITIES) * snr.size * max(len(parts), 1))
    table = np.empty((len(QUANTITIES), 3, snr.size))
    for index, one in enumerate(snr):
        work = min(WORK, ALL_WORK / (2 * snr.size * max(len(parts), 1)))
        found = [
            _estimate_part(part, float(one), work, level, _Streams(key, index, number))
            for number, part in enumerate(parts)
        ]
        table[:, :, index] = _joined(found, [part.times for part in parts])
    return {name: Side(*rows) for name, rows in zip(QUANTITIES, table, strict=True)}


def _joined(found: list[np.ndarray], times: list[int]) -> np.ndarray:
    """Of independent coordinates, each so many times: chances of being right multiply."""
    out = np.zeros((len(QUANTITIES), 3))
    accuracy = QUANTITIES.index("accuracy")
    out[accuracy] = 1.0
    for rows, count in zip(found, times, strict=True):
        for index, name in enumerate(QUANTITIES):
            if name in ("error_probability", "sampling_error"):
                # 1 - (1 - out) (1 - row)^count, without a difference.
                log_right = count * np.log1p(-np.clip(rows[index], 0.0, 1 - EPS))
                out[index] = out[index] * np.exp(log_right) - np.expm1(log_right)
            elif index == accuracy:
                out[index] *= np.clip(rows[index], 0.0, 1.0) ** count
            else:
                out[index] += count * rows[index]
    return out


class _Streams:
    """Generators below one key, each asked for once."""

    def __init__(self, key: Any, *stream: int) -> None:
        self.key, self.stream, self.number = key, stream, 0

    def next(self) -> np.random.Generator:
        self.number += 1
        return generator(self.key, 11, *self.stream, self.number)


# ---- Codebooks ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Part:
    """Tokens around their centre over 2^`exponent`, so that the squares of squares are finite.

    `times` coordinates of the codebook are like this one.
    """

    points: np.ndarray
    exponent: int
    log_prior: np.ndarray
    prior_entropy: float
    times: int
    squared: np.ndarray | None
    closest: float

    @property
    def K(self) -> int:
        return self.points.shape[0]

    @property
    def n(self) -> int:
        return self.points.shape[1]

    @property
    def cost(self) -> float:
        """Of one sample, in numbers that are looked at."""
        return 16 + self.K * (1 + self.n / 16)

    def squared_distances(self, ids: np.ndarray) -> np.ndarray:
        """To every token, from each of these."""
        if self.squared is not None:
            return self.squared[ids]
        return cdist(self.points[ids], self.points, "sqeuclidean")


def _parts(codebook: Codebook, key: Any) -> list[_Part] | None:
    grid = codebook.factors
    if grid is not None:
        alike: dict[bytes, list[Any]] = {}
        for axis, column in enumerate(grid.levels):
            levels = np.asarray(column, float)
            log_prior = np.asarray(grid.coordinate_log_prior(axis))
            group = alike.setdefault(levels.tobytes() + log_prior.tobytes(), [levels, log_prior, 0])
            group[2] += 1
        groups = [(levels[:, None], prior, count) for levels, prior, count in alike.values()]
    elif codebook.K * codebook.n > 2**24:
        return None
    else:
        groups = [(np.asarray(codebook.points), np.asarray(codebook.log_prior), 1)]
    parts = []
    for number, (points, log_prior, count) in enumerate(groups):
        K, n = points.shape
        if K == 1:
            continue
        if K * (1 + n / 16) * PILOT > 8 * WORK:
            return None
        _, exponent = math.frexp(float(np.abs(points - points[0]).max()))
        points = np.ldexp(points, -exponent)
        rng = generator(key, 10, number)
        order = rng.permutation(K)
        # From the first token: what is far from 0 loses no more digits than it has.
        moved = (points - points[0])[order]
        if n <= MAX_ROTATED:
            rotation, _ = np.linalg.qr(rng.standard_normal((n, n)))
            moved = moved @ rotation
        moved -= moved.mean(axis=0)
        squared = cdist(points[order], points[order], "sqeuclidean") if K <= MAX_PAIRS else None
        gaps = nearest_distances(points) if squared is None else np.sqrt(squared)
        closest = float(np.min(gaps, where=gaps > 0, initial=math.inf))
        part = _Part(moved, exponent, log_prior[order], entropy(log_prior), count, squared, closest)
        parts.append(part)
    return parts


# ---- Ways to draw observations ------------------------------------------------------------------


class _Way:
    """Statistics whose mean is a quantity; `rows` says which, `ranges` how long one draw can be."""

    rows: tuple[str, ...]
    ranges: np.ndarray
    #: How far the mean of the error probability may be above it.
    cut = 0.0

    def __init__(self, part: _Part, h: float) -> None:
        self.part, self.h = part, h
        self.squares = (part.points**2).sum(axis=1)
        self.radius = float(self.squares.max())

    def strata(self, cells: int) -> int:
        """Of the `cells` strata how many divide the second uniform number of a draw."""
        return 1

    def values(self, first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rows at draws that two uniform numbers and whatever else is random decide."""
        raise NotImplementedError

    def logits(self, y: np.ndarray, h: Any) -> tuple[np.ndarray, np.ndarray]:
        """log p(k|y) relative to the most probable token, and that token."""
        part = self.part
        logits = (h * y) @ part.points.T
        logits += part.log_prior - h**2 * self.squares / 2
        best = logits.argmax(axis=1)
        logits -= logits[np.arange(best.size), best][:, None]
        # Weights below the normal numbers would be slow, and count for nothing.
        return np.maximum(logits, FAINT, out=logits), best

    def spread(self, weight: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """sum w |e_k - e_best|^2 and |sum w (e_k - e_best)|^2 of every row."""
        second = np.einsum("rk,rk->r", weight, self.part.squared_distances(best))
        points = self.part.points
        first = weight @ points - weight.sum(axis=1)[:, None] * points[best]
        return second, np.einsum("rn,rn->r", first, first)

    def variance(self, weight: np.ndarray, total: np.ndarray, best: np.ndarray) -> np.ndarray:
        second, first = self.spread(weight, best)
        return second / total - first / total**2


def _errors(weight: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, ...]:
    """1 + sum w over all but the best, 1 - max p, 1 - sum p^2 and the entropy."""
    others = weight.sum(axis=1)
    total = 1 + others
    share = (2 * others + others**2 - np.einsum("rk,rk->r", weight, weight)) / total**2
    entropy = np.log1p(others) - np.einsum("rk,rk->r", weight, logits) / total
    return total, others / total, share, entropy


class _Plain(_Way):
    rows: tuple[str, ...] = (
        "error_probability",
        "sampling_error",
        "conditional_entropy",
        "mmse",
    )

    def __init__(self, part: _Part, h: float) -> None:
        super().__init__(part, h)
        self.edges = np.cumsum(np.exp(part.log_prior))
        self.cap, self.cut = self._cap()
        self.ranges = np.array([self.cap, 1.0, math.log(part.K), self.radius])

    def _cap(self) -> tuple[float, float]:
        """Where max p is cut off, and a bound on what that takes from its mean.

        Without much signal no posterior is near 1, and draws of a shorter range say more. By
        Jensen's inequality log(p_k/pi_k) is at most h <Y, e_k - e> + h^2 (E|e|^2 - |e_k|^2)/2, e
        the prior mean: a normal variable where k is the token, and E (max p - cap)+ is at most the
        probability that p_k exceeds the cap for the token k itself.
        """
        log_prior, prior = self.part.log_prior, np.exp(self.part.log_prior)
        away = self.part.points - prior @ self.part.points
        power = (away**2).sum(axis=1)
        middle = log_prior + self.h**2 * (power + prior @ power) / 2
        spread = self.h * np.sqrt(power) + TINY
        caps = np.geomspace(prior.max(), 1.0, CAPS)
        with np.errstate(over="ignore"):
            cut = np.array(
                [prior @ special.ndtr((middle - math.log(cap)) / spread) for cap in caps]
            )
        cut[-1] = 0.0
        first = int(np.argmax(cut <= CUT * prior.max()))
        return float(caps[first]), float(cut[first])

    def tokens(self, uniform: np.ndarray) -> np.ndarray:
        return _pick(self.edges, uniform)

    def values(self, first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        y = self.h * self.part.points[self.tokens(first)]
        logits, best = self.logits(y + rng.standard_normal(y.shape), self.h)
        weight = _without(np.exp(logits), best)
        total, error, *others = _errors(weight, logits)
        error = np.maximum(error, 1 - self.cap)
        return np.stack([error, *others, self.variance(weight, total, best)])


class _Path(_Plain):
    rows = ("mutual_information",)

    def __init__(self, part: _Part, h: float) -> None:
        super().__init__(part, h)
        self.ranges = np.array([h**2 / 2 * self.radius])

    def values(self, first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        h = self.h * np.sqrt(first)[:, None]
        y = h * self.part.points[self.tokens(second)]
        logits, best = self.logits(y + rng.standard_normal(y.shape), h)
        weight = _without(np.exp(logits), best)
        variance = self.variance(weight, 1 + weight.sum(axis=1), best)
        return self.h**2 / 2 * variance[None]


class _Pairs(_Way):
    rows: tuple[str, ...] = ("error_probability", "sampling_error", "conditional_entropy")
    is_far = False

    def __init__(self, part: _Part, h: float) -> None:
        super().__init__(part, h)
        assert part.squared is not None
        log_weight = (part.log_prior[:, None] + part.log_prior) / 2 - h**2 * part.squared / 8
        weight = np.exp(log_weight)
        np.fill_diagonal(weight, 0.0)
        if self.is_far:
            weight *= part.squared
        self.edges = np.cumsum(weight)
        self.total = float(self.edges[-1])
        self.ranges = self.total * np.array([0.25] if self.is_far else [0.5, 0.5, 1.0])

    def strata(self, cells: int) -> int:
        return min(STRATA, 2 ** (cells.bit_length() // 2))

    def values(self, first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.total == 0:
            return np.zeros((len(self.rows), first.size))
        points = self.part.points
        k, j = np.divmod(_pick(self.edges, first), self.part.K)
        step = points[j] - points[k]
        length = np.linalg.norm(step, axis=1)
        step /= np.where(length > 0, length, 1.0)[:, None]
        noise = rng.standard_normal(step.shape)
        along = special.ndtri(np.clip(second, EPS, 1 - EPS)) - np.einsum("rn,rn->r", noise, step)
        noise += np.where(length > 0, along, 0.0)[:, None] * step
        logits, best = self.logits(self.h * (points[k] + points[j]) / 2 + noise, self.h)
        root = _without(np.exp(logits / 2), best)
        weight = root**2
        one = root.sum(axis=1)
        if self.is_far:
            total = 1 + weight.sum(axis=1)
            second_moment, first_moment = self.spread(root, best)
            density = 2 * ((1 + one) * second_moment - first_moment)
            statistics = self.variance(weight, total, best)[None]
        else:
            total, *errors = _errors(weight, logits)
            density = 2 * one + one**2 - (total - 1)
            statistics = np.stack(errors)
        seen = density > 0
        return np.where(seen, self.total * total / np.where(seen, density, 1.0), 0.0) * statistics


class _FarPairs(_Pairs):
    rows = ("mmse",)
    is_far = True


def _pick(edges: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The cell of a cumulative sum that each uniform number falls into."""
    return np.minimum(np.searchsorted(edges, uniform * edges[-1], side="right"), edges.size - 1)


def _without(weight: np.ndarray, best: np.ndarray) -> np.ndarray:
    """The weights but for the largest, so that sums of the others lose no digits."""
    weight[np.arange(best.size), best] = 0.0
    return weight


# ---- How often, and which way -------------------------------------------------------------------


class _Average(NamedTuple):
    """Means of a way's rows, their standard errors, and the number of draws."""

    mean: np.ndarray
    error: np.ndarray
    draws: int


class _Candidate(NamedTuple):
    """A row of a way that gives a quantity, as it is or as what it leaves of `whole`."""

    way: int
    row: int
    whole: float | None

    def of(self, mean: np.ndarray) -> float:
        """The quantity, where these are the means of the rows."""
        return float(mean[self.row]) if self.whole is None else self.whole - float(mean[self.row])


def _estimate_part(
    part: _Part, snr: float, work: float, level: float, streams: _Streams
) -> np.ndarray:
    """Value, low and high end of every quantity.

    Pilots decide which way is best for a quantity and how often to draw; the estimate is of fresh
    draws alone, so that its interval holds whatever was decided.
    """
    h = min(math.ldexp(math.sqrt(snr), part.exponent), LARGEST)
    most = int(work / part.cost)
    ways: list[_Way] = [_Plain(part, h), _Path(part, h)]
    if part.squared is not None:
        ways = [_Pairs(part, h), _FarPairs(part, h), *ways]
    pilots = [_pilot(way, most, level, streams) for way in ways]
    chosen: dict[str, _Candidate] = {}
    counts = [0] * len(ways)
    for name in QUANTITIES:
        goal = TARGET / (part.times if name == "accuracy" else 1)
        needs = {
            one: _needed(pilots[one.way], ways[one.way], one, goal, level)
            for one in _candidates(name, part, ways)
        }
        best = chosen[name] = min(needs, key=lambda one: needs[one])
        # What the pilot never saw, more draws of an affordable number would not see often enough.
        count = math.ceil(needs[best]) if needs[best] < math.inf else PILOT
        counts[best.way] = max(counts[best.way], min(count, most))
    found = [
        _average(way, count, streams.next()) if count else pilot
        for way, count, pilot in zip(ways, counts, pilots, strict=True)
    ]
    rows = np.array(
        [_interval(found[one.way], ways[one.way], one, level) for one in chosen.values()]
    )
    mmse = QUANTITIES.index("mmse")
    rows[mmse] = np.ldexp(rows[mmse], 2 * part.exponent)
    return rows


def _candidates(name: str, part: _Part, ways: list[_Way]) -> list[_Candidate]:
    out = []
    others = {
        "accuracy": ("error_probability", 1.0),
        "mutual_information": ("conditional_entropy", part.prior_entropy),
    }
    for index, way in enumerate(ways):
        for which, whole in ((name, None), others.get(name, ("", None))):
            if which in way.rows:
                out.append(_Candidate(index, way.rows.index(which), whole))
    return out


def _pilot(way: _Way, most: int, level: float, streams: _Streams) -> _Average:
    """A few draws; more where strata promise that the variance falls faster than one over them."""
    draws = min(PILOT, most)
    while True:
        pilot = _average(way, draws, streams.next())
        rough = _main_term(pilot, level) > math.sqrt(GROWTH * draws) * TARGET * pilot.mean
        if way.strata(draws) == 1 or GROWTH * draws > most / GROWTH or not rough.any():
            return pilot
        draws *= GROWTH


def _average(way: _Way, draws: int, rng: np.random.Generator) -> _Average:
    """Two draws in every stratum; the number of strata is rounded up to whole rows of them."""
    columns = way.strata(max(draws // 2, 1))
    cells = columns * math.ceil(max(draws // 2, 1) / columns)
    step = max(1, BLOCK // (2 * way.part.K))
    total, squares = np.zeros(len(way.rows)), np.zeros(len(way.rows))
    for start in range(0, cells, step):
        cell = np.repeat(np.arange(start, min(start + step, cells)), 2)
        row, column = np.divmod(cell, columns)
        first = (row + rng.random(cell.size)) / (cells // columns)
        second = (column + rng.random(cell.size)) / columns
        values = way.values(first, second, rng)
        total += values.sum(axis=1)
        squares += ((values[:, ::2] - values[:, 1::2]) ** 2).sum(axis=1)
    return _Average(total / (2 * cells), np.sqrt(squares) / (2 * cells), 2 * cells)


def _main_term(pilot: _Average, level: float) -> np.ndarray:
    """What sqrt(N) times the half-width is without the range."""
    return np.asarray(math.sqrt(2 * math.log(4 / (1 - level)) * pilot.draws) * pilot.error)


def _needed(pilot: _Average, way: _Way, candidate: _Candidate, goal: float, level: float) -> float:
    """Draws until the half-width of the interval is `goal` times the value."""
    wanted = goal * candidate.of(pilot.mean)
    if not wanted > 0:
        return math.inf
    log_term = math.log(4 / (1 - level))
    main = float(_main_term(pilot, level)[candidate.row])
    rest = 7 / 3 * log_term * float(way.ranges[candidate.row])
    return ((main + math.sqrt(main**2 + 4 * rest * wanted)) / (2 * wanted)) ** 2


def _interval(
    found: _Average, way: _Way, candidate: _Candidate, level: float
) -> tuple[float, float, float]:
    """Value, low and high end: of the empirical Bernstein bound, and what rounding may add."""
    n, reach = way.part.n, way.h * math.sqrt(way.radius)
    # Logits are sums of terms of this size, each rounded a few times.
    relative = 1e-12 + 16 * EPS * (n + 4) * reach * (reach + math.sqrt(n) + 8)
    mean = float(found.mean[candidate.row])
    if way.rows[candidate.row] in ("mmse", "mutual_information"):
        relative += 16 * EPS * math.sqrt(way.radius) / way.part.closest
    # Beyond a tenth the mean itself is not to be trusted.
    rounding = relative * mean if relative < 0.1 else math.inf
    rounding += TINY + EPS * abs(candidate.whole or 0.0)
    if way.rows[candidate.row] == "error_probability":
        rounding += way.cut
    estimate = Estimate(
        candidate.of(found.mean),
        float(found.error[candidate.row]),
        rounding,
        n_samples=found.draws,
        interval_supported=False,
        sample_range=float(way.ranges[candidate.row]),
    )
    interval = estimate.confidence_interval(level)
    return float(estimate.value), float(interval.low), float(interval.high)
