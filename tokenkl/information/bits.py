"""Labels of bits: what is known of them when a decoder looks at every bit by itself.

The quantity needs a label for every token beside the codebook, so that it is a function of its own
and none of `QUANTITIES` (docs/theory/bits.md).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import special
from scipy.spatial.distance import cdist

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import MAX_ELEMENTS, check_ids, check_levels, check_snr, reject
from tokenkl.codebooks import Codebook, PointCodebook, ProductCodebook
from tokenkl.codebooks.base import check_codebook
from tokenkl.codebooks.digits import digits_of
from tokenkl.codebooks.product import Order
from tokenkl.estimate import Estimate
from tokenkl.information.estimators import DOUBLE_ALONE, MISSED, Progress
from tokenkl.information.exact.estimators import exact_quantities
from tokenkl.information.findings import Findings
from tokenkl.information.methods import Auto, Exact, Method, MonteCarlo, check_method
from tokenkl.information.plans import plan
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.montecarlo import DEFAULT_SAMPLES, drawer
from tokenkl.information.sampling.outside import LARGEST_ROOT, misplaced_logits, unseen
from tokenkl.information.sampling.targets import sample_on, samples_needed
from tokenkl.numerics.laws import entropy_of
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments

NAME = "bit_metric_information"
EPS = float(np.finfo(float).eps)
#: Samples that choose the route, and before the first look at a target.
PILOT, FIRST = 2**10, 2**11
#: Most samples in a block, and numbers in one of its arrays.
MAX_BLOCK, MAX_WORK = 2**9, 2**20
#: Streams of random numbers below the key.
SAMPLE, PILOT_SAMPLE = 8, 9


def gray_labels(levels: tuple[int, ...], *, order: Order = "C") -> Int[np.ndarray, "K bits"]:
    """Binary-reflected Gray labels of a grid: neighbours along a coordinate differ in one bit.

    Every coordinate has ceil(log2 L) bits of its own, the highest first; L levels that are no power
    of two have the first L labels of the next one.

    Args:
        levels: numbers of levels, in ascending order of the coordinate (`FSQ(...).shape`).
        order: in which ids count through the grid, as that of the codebook.

    Raises:
        ValueError: levels that are no positive integers, or more than 2**26 labels.

    Example:
        >>> import tokenkl as tk
        >>> tk.gray_labels((4,)).tolist()
        [[0, 0], [0, 1], [1, 1], [1, 0]]
    """
    shape = check_levels(levels)
    widths = [(count - 1).bit_length() for count in shape]
    if math.prod(shape) * max(sum(widths), len(shape)) > MAX_ELEMENTS:
        reject("levels", shape, f"a grid with at most {MAX_ELEMENTS:,} bits in its labels")
    digits = digits_of(np.arange(math.prod(shape)), shape, order)
    codes = digits ^ (digits >> 1)
    columns = [
        codes[:, axis] >> shift & 1
        for axis, width in enumerate(widths)
        for shift in reversed(range(width))
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((len(digits), 0), dtype=np.int64)


def bit_metric_information(
    codebook: Codebook,
    labels: Int[Any, "K bits"],
    snr: Float[Any, " *shape"],
    *,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> Estimate:
    """H(B) - sum_i H(B_i | Y) in nats: the rate of a decoder that looks at bits one by one.

    B = (B_1, ..., B_m) is the label of the token, and the decoder knows P(B_i = 1 | Y) of every bit
    and nothing of how they depend on each other (bit-interleaved coded modulation). Where the bits
    are independent, as with equal priors and every label used once, this is sum_i I(B_i; Y), the
    generalised mutual information (GMI) of that decoder at its best scale. It is at most I(token;
    Y), and may be negative where bits depend on each other.

    The channel is Y = sqrt(snr) e_k + eps with unit noise in every real coordinate. A complex
    constellation x with noise of variance N0 has N0 / 2 in each of the two, and so is at
    snr = 2 (Es / N0) / E|e|^2 with Es = E|x|^2: twice Es / N0 at unit power.

    Exact where a grid has a product prior and every bit depends on one coordinate, and where points
    are on one line; sampled elsewhere, from posteriors of the bits.

    Args:
        codebook: any codebook of at most 2**26 numbers.
        labels: (K, m) zeros and ones: the label of every token, in the order of the ids.
        snr: signal-to-noise ratios, at least 0; the result has their shape.
        method: `Exact()`, `MonteCarlo(...)` (plain averages), or `Auto(...)` and None: exact where
            there is a formula.
        key: integer seed or JAX key; needed where the method samples.
        progress: called with (samples done, samples wanted) while sampling.

    Raises:
        ValueError: labels that are not (K, m) bits, snr negative or not finite, no key where one is
            needed, or an exact method where there is none.

    Example:
        >>> import tokenkl as tk
        >>> qam = tk.scale_to(tk.FSQ((4, 4)), power=1.0)
        >>> snr = 2 * 10**0.5  # Es / N0 = 5 dB
        >>> found = tk.bit_metric_information(qam, tk.gray_labels(qam.shape), snr)
        >>> round(float(found.bits), 6), round(float(tk.mutual_information(qam, snr).bits), 6)
        (1.931573, 1.973167)
    """
    check_codebook(codebook)
    bits = _check_labels(labels, codebook.K)
    check_method(method, Exact, MonteCarlo, Auto)
    snr = check_snr(snr)
    problem = Problem(codebook, np.reshape(snr, -1))
    if problem.is_traced:
        reject("snr", "a traced value", "a number, outside of JAX transformations")
    parts = None if isinstance(method, MonteCarlo) else _parts(codebook, bits)
    if parts is not None:
        common, size = _common(bits, np.asarray(codebook.prior))
        total = Estimate(np.full(snr.shape, common), unit="nats", method="" if parts else "exact")
        for share, one in parts:
            found = plan(one, snr, ("mutual_information",), method=Exact()).run()
            total = total + (term := share * found["mutual_information"])
            size = size + np.abs(term.value)
        # Terms have their own errors; their sum is rounded too, where they cancel above all.
        total = dataclasses.replace(total, numerical_error=total.numerical_error + 8 * EPS * size)
        return dataclasses.replace(total, quantity=NAME)
    if isinstance(method, Exact):
        where = "a grid whose every bit depends on one coordinate, or points on a line"
        reject("method", f"Exact() for {NAME} of {codebook!r}", f"MonteCarlo(...) but for {where}")
    if key is None:
        why = f"since {NAME} of {codebook!r} has to be sampled"
        reject("key", "None", f"an integer seed or a JAX key, {why}")
    wish = method if isinstance(method, Auto) else Auto()
    settings = method if isinstance(method, MonteCarlo) else wish.settings(MonteCarlo)
    sampled = _Run(problem, bits, settings, key, progress).findings()
    words = {"quantity": NAME, "unit": "nats", "seed": seed_of(key), "draws": draws_of(key)}
    return sampled.estimate(snr.shape, **words)


def _check_labels(labels: Any, K: int) -> Int[np.ndarray, "K m"]:
    bits = check_ids(labels, 2, "labels")
    if bits.ndim != 2 or bits.shape[0] != K or bits.shape[1] < 1:
        shape = f"an array of shape {bits.shape}"
        reject("labels", shape, f"of shape (K, m) = ({K}, m) with m >= 1 bits for every token")
    return bits


def _common(bits: Int[np.ndarray, "K m"], prior: Float[np.ndarray, " K"]) -> tuple[float, float]:
    """H(B) - sum_i H(B_i): minus what the bits tell about each other without any observation.

    And the sum of these entropies, to which rounding is relative.
    """
    rows = np.packbits(bits.astype(np.uint8), axis=1)
    _, place = np.unique(rows.view(f"V{rows.shape[1]}"), return_inverse=True)
    joint = entropy_of(np.bincount(place.ravel(), prior))
    alone = sum(entropy_of(law) for law in np.stack([bits.T @ prior, (1 - bits).T @ prior], axis=1))
    return joint - alone, joint + alone


# ---- Exact ----------------------------------------------------------------------------------


def _parts(codebook: Codebook, bits: Int[np.ndarray, "K m"]) -> list[tuple[float, Codebook]] | None:
    """Codebooks whose information, times these numbers, adds up to that about the bits.

    None where one of them has no exact formula.
    """
    parts: list[tuple[float, Codebook]] = []
    for bit in bits.T:
        if np.ptp(bit) == 0:
            continue
        one, own = _on_one_coordinate(codebook, bit) or (codebook, bit)
        for part in _told(one, own):
            if "mutual_information" not in exact_quantities(part[1]):
                return None
            parts.append(part)
    return parts


def _on_one_coordinate(
    codebook: Codebook, bit: Int[np.ndarray, " K"]
) -> tuple[Codebook, np.ndarray] | None:
    """The only coordinate of a product law that a bit depends on, and the bit on its levels."""
    grid = codebook.factors
    if grid is None:
        return None
    table = bit.reshape(grid.shape, order=grid.order)
    axes = [axis for axis in range(grid.n) if np.ptp(table, axis=axis).any()]
    if len(axes) > 1:
        return None
    first = tuple(slice(None) if axis == axes[0] else 0 for axis in range(grid.n))
    levels, prior = grid.levels[axes[0]], grid.priors[axes[0]]
    return ProductCodebook([levels], [prior], allow_duplicates=True), table[first]


def _told(codebook: Codebook, bit: Int[np.ndarray, " K"]) -> Iterator[tuple[float, Codebook]]:
    """I(B; Y) = I(k; Y) - sum_b P(B = b) I(k; Y | B = b)."""
    yield 1.0, codebook
    points, prior = np.asarray(codebook.points), np.asarray(codebook.prior)
    for own in (bit == 0, bit == 1):
        share = float(prior[own].sum())
        yield -share, PointCodebook(points[own], prior[own] / share, allow_duplicates=True)


# ---- Sampled --------------------------------------------------------------------------------


class _Run:
    """Averages of the entropies of all bits given Y, and of their divergences from the prior."""

    def __init__(
        self,
        problem: Problem,
        bits: Int[np.ndarray, "K m"],
        method: MonteCarlo,
        key: Any,
        progress: Progress | None,
    ) -> None:
        for field, allowed in DOUBLE_ALONE.items():
            if getattr(method, field) not in allowed:
                shown = " or ".join(map(repr, allowed))
                reject(field, repr(getattr(method, field)), f"{shown} for {NAME}")
        self.problem, self.method, self.key, self.progress = problem, method, key, progress
        self.prior = np.asarray(problem.codebook.prior)
        self.common, _ = _common(bits, self.prior)
        #: Whether a token has a bit, and whether it does not: sums over tokens of one sign.
        self.has = np.stack([bits, 1 - bits]).astype(float)
        self.odds = np.einsum("k,vkm->vm", self.prior, self.has)
        self.varies = (self.odds > 0).all(axis=0)
        #: Where nothing is random.
        self.known = (problem.snr == 0) | ~self.varies.any()
        self.draw: Callable[..., tuple[Any, Any]] = drawer(problem.codebook)
        self.size = max(min(MAX_BLOCK, MAX_WORK // problem.codebook.K), 1)
        pilot = Moments((problem.snr.size, 2))
        self._add(pilot, PILOT_SAMPLE, PILOT)
        # Equal priors have equal spreads: then the smaller one, which keeps more digits.
        cost = pilot.variance + 1e-9 * pilot.mean**2
        self.direct = cost[:, 1] < cost[:, 0]
        self.moments = Moments((problem.snr.size, 2))

    def findings(self) -> Findings:
        first = self.method.n_samples or (FIRST if self.method.has_target else DEFAULT_SAMPLES)
        sample_on(first, self.method, self._advance, self._needed)
        found = self._summary()
        missed = found.standard_error > self.method.atol + self.method.rtol * np.abs(found.value)
        # One bit is no more uncertain than the token.
        width = max(self.varies.sum(), 1)
        alike = dataclasses.replace(found, standard_error=found.standard_error / width)
        count = int(found.n_samples.max(initial=2))
        blind = unseen(self.problem, {"conditional_entropy": alike}, count) & ~self.known
        found = dataclasses.replace(found, interval_supported=found.interval_supported & ~blind)
        return found.noted(MISSED if self.method.has_target and missed.any() else "")

    def _advance(self, count: int) -> int:
        self._add(self.moments, SAMPLE, int(np.max(count)))
        return int(self.moments.n[0, 0]) if self.moments.n.size else count

    def _needed(self) -> int:
        found, done = self._summary(), self.moments.n[:, 0]
        pairs = [(found.value, found.standard_error)]
        return int(np.max(samples_needed(pairs, done, self.method), initial=0))

    def _add(self, moments: Moments, stream: int, count: int) -> None:
        """Blocks of the stream up to so many samples."""
        done = int(moments.n.max(initial=0))
        while done < count and moments.n.size:
            size = min(self.size, count - done)
            ids, noise = self.draw(generator(self.key, stream, done), size)
            moments.add(self._statistics(ids, noise))
            done += size
            if self.progress is not None and stream == SAMPLE:
                self.progress(done, count)

    def _statistics(
        self, ids: Int[np.ndarray, " samples"], noise: Float[np.ndarray, "samples n"]
    ) -> Float[np.ndarray, "levels 2 samples"]:
        points, log_prior = self.problem.centred, self.problem.log_prior
        true, place = np.unique(ids, return_inverse=True)
        squared = cdist(points[true], points, "sqeuclidean")[place]  # by differences
        along = noise @ points.T
        along -= np.take_along_axis(along, ids[:, None], axis=1)
        out = np.empty((self.problem.h.size, 2, ids.size))
        for level, h in enumerate(np.minimum(self.problem.h, LARGEST_ROOT)):
            logits = log_prior + h * along - h**2 / 2 * squared
            weight = np.exp(logits - logits.max(axis=1, keepdims=True))
            q = weight @ self.has / weight.sum(axis=1, keepdims=True)  # (value, samples, bits)
            small, large = q.min(axis=0), q.max(axis=0)
            # What is next to 1 comes from the other, a sum of small terms.
            entropy = special.entr(small) - large * np.log1p(-np.minimum(small, 0.5))
            divergence = special.rel_entr(q, self.odds[:, None]).sum(axis=0)
            out[level, 0] = entropy[:, self.varies].sum(axis=1)
            out[level, 1] = divergence[:, self.varies].sum(axis=1)
        return out

    def _summary(self) -> Findings:
        """The route that the pilot chose, at every level."""
        moments, column = self.moments, self.direct.astype(int)
        levels = np.arange(column.size)
        value, error = moments.mean[levels, column], moments.standard_error[levels, column]
        small, count = moments.mean[:, 0], moments.n[:, 0]
        whole = self.common + special.entr(self.odds).sum()
        sign = np.where(self.direct, 1, -1)
        with np.errstate(divide="ignore"):
            longest = -np.log(self.odds.min(axis=0))[self.varies].sum()
        ranges = np.where(self.direct, longest, math.log(2) * self.varies.sum())
        misplaced = np.minimum(misplaced_logits(self.problem) * small, ranges)
        informed = (moments.effective() >= MIN_EFFECTIVE) & moments.carried()
        return Findings(
            np.where(self.direct, self.common, whole) + sign * value,
            error,
            1e-12 * value + 64 * EPS * (1 + whole) + misplaced,
            count,
            informed.all(axis=1) | self.known,
            ranges,
            sign * moments.skewness[levels, column],
            method="Monte-Carlo over bits",
        )
