"""How well an affine denoiser hears what neighbours say: the single-token formula for weak laws.

With the canonical form P(k, l) = pi_k pi'_l (1 + sum_r s_r f_r(k) g_r(l)) and weak coupling
(docs/theory/context.md, C7), the information that a noisy neighbour gives about a token beside its
own observation, and the part of it that no affine denoiser reads, are, up to the third power of s,

    (1/2) tr(S M_f S V_g)   and   (1/2) tr(S M_f S R_g),

where M_f = E Cov(f | Y), V_g = Cov(E[g | Y]) and R_g = Cov of what is left of E[g | Y] after
regression on Y. All three belong to one token alone.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import MAX_ELEMENTS, as_float_array, check_count, check_snr, reject
from tokenkl.codebooks import Codebook, ProductCodebook
from tokenkl.codebooks.base import check_codebook
from tokenkl.context.variates import Variates, canonical_variates
from tokenkl.estimate import Estimate
from tokenkl.information import sampling_error
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments
from tokenkl.sources import Source

#: Batches of sampled observations, whose scatter is the error.
BATCHES = 16
#: Observations where nothing else is asked for.
SAMPLES = 1024
#: Steps of log snr in an integral over all levels, which then is exact to about 1e-8.
LOG_STEP = 0.5
#: Distance of two points, in diameters, below which they are as good as one.
NEAREST = 1e-10
#: Scaled gap of two levels from which an observation tells them apart with certainty.
RESOLVED = 20.0
#: What exact values may be off by, times the sum of squared correlations.
ROUNDING = 1e-12
SHARE = "share of context information that is read"


class TokenMatrices(NamedTuple):
    """Of features of one noisy token, with axes for batches, levels and two features.

    - `residual`: M = E Cov(f | Y); `unread`: R, of what affine functions of Y miss in E[f | Y];
    - `linear`: what they read, so that residual + unread + linear = Cov f.

    - `draws`: traces of the first, of every observation.

    An exact one has one batch, and no draws.
    """

    residual: Float[np.ndarray, "batches levels r r"]
    unread: Float[np.ndarray, "batches levels r r"]
    linear: Float[np.ndarray, "levels r r"]
    draws: Float[np.ndarray, "levels N"]

    def carried(self, weights: Float[np.ndarray, "m levels"]) -> Bool[np.ndarray, "3 m"]:
        """Whether enough draws carry what is told, what is not read, and what is; of levels' sums.

        The first is a product of what is unknown and what is known, the others of what is unknown
        and what is unread, or linear.
        """
        if not self.draws.size:
            return np.ones((3, len(weights)), bool)
        unread, linear = (
            np.trace(one, axis1=-2, axis2=-1) for one in (self.unread.mean(axis=0), self.linear)
        )
        known = unread + self.draws.mean(axis=1)
        shown = self.draws, (known + linear)[:, None] - self.draws, known[:, None] - self.draws
        moments = Moments((3, len(weights)))
        moments.add(np.stack([weights @ one for one in shown]))
        residual, told, missed = moments.effective() >= MIN_EFFECTIVE
        return np.stack([residual & told, residual & missed, residual])


def token_matrices(
    codebook: Codebook,
    law: Float[Any, " K"],
    features: Float[Any, "K r"],
    snr: Float[Any, " levels"],
    *,
    n_samples: int = SAMPLES,
    key: Any = None,
) -> TokenMatrices:
    """How much of features of a token is left unknown, and unread, given its noisy point.

    Exact where the points are a grid, in whatever order, and `law` is a product on it: second
    moments of E[f | Y] are then those of one coordinate after another. Sampled elsewhere, by
    observations that are as often of tokens where features are large as of frequent ones.

    Args:
        codebook: points of the tokens; its prior is not used.
        law: how often each token occurs; it may have zeros.
        features: columns of numbers, centred under the law.
        snr: signal-to-noise ratios, one axis.
        n_samples, key: of what is sampled.

    Raises:
        ValueError: shapes that do not fit, an invalid SNR, or no key where one is needed.
    """
    levels, weights = check_snr(snr), as_float_array("law", law, ndim=1)
    columns = as_float_array("features", features)
    if weights.shape != (codebook.K,) or columns.ndim != 2 or len(columns) != codebook.K:
        shapes = f"shapes {weights.shape} and {columns.shape}"
        reject("law and features", shapes, f"of {codebook.K} tokens each")
    total = columns.T @ (weights[:, None] * columns)
    distance = codebook.common_distance
    seen: _Simplex | _Points
    if distance is not None:
        seen, grid = _Simplex(distance / math.sqrt(2), weights, columns), None
    else:
        points = np.asarray(codebook.points)
        seen, grid = (
            _Points(points - weights @ points, weights, columns),
            _as_product(points, weights),
        )
    fits = seen.regressions(levels)
    shape = len(levels), *total.shape
    linear = np.reshape([fit[1] for fit in fits], shape)
    if grid is not None:
        book, order = grid
        told = np.reshape([_read_on_grid(book, columns[order], one) for one in levels], shape)
        none = np.zeros((len(levels), 0))
        return TokenMatrices((total - told)[None], (told - linear)[None], linear, none)
    rng = generator(key)
    count = max(2, check_count(n_samples, "n_samples", 2 * BATCHES) // BATCHES)
    # A feature of variance 1 is of size pi^-1/2 on a token that occurs with probability pi: sums
    # over draws by the law miss what few rare tokens carry. Observations are from a mixture by the
    # law and by law |f|^2, so that no weighted square of a feature exceeds twice its mean.
    squares = (columns**2).sum(axis=1)
    relative = squares / max(float(weights @ squares), np.finfo(float).tiny)
    edges = np.cumsum(weights * (1 + relative))
    sampled = np.empty((2, BATCHES, *shape))
    draws = np.empty((2, len(levels), BATCHES * count))
    for batch in range(BATCHES):
        here = slice(batch * count, (batch + 1) * count)
        noise = rng.standard_normal((count, codebook.n))
        drawn = (rng.permutation(count) + rng.random(count)) / count  # stratified
        ids = np.searchsorted(edges, edges[-1] * drawn, side="right").clip(0, codebook.K - 1)
        own, along, squared = seen.drawn(ids, noise)
        for level, one in enumerate(levels):
            y = math.sqrt(one) * own + noise
            posterior = _posterior(weights, math.sqrt(one) * along - one / 2 * squared)
            weight = edges[-1] / (1 + posterior @ relative)
            heard = posterior @ columns
            rest = heard - y @ fits[level][0]
            second = columns.T @ ((weight @ posterior)[:, None] * columns)
            sampled[0, batch, level] = second - heard.T @ (weight[:, None] * heard)
            sampled[1, batch, level] = rest.T @ (weight[:, None] * rest)
            draws[0, level, here] = weight * (posterior @ squares - (heard**2).sum(axis=1))
            draws[1, level, here] = weight * (rest**2).sum(axis=1)
    residual, unread = sampled / count
    # Each of the two follows from the other; the one that scatters less is kept.
    known = total - linear
    scatter = [abs(one.std(axis=0)).max(axis=(1, 2)) for one in (residual, unread)]
    by_truth = scatter[0] < scatter[1]
    kept = by_truth[None, :, None, None]
    return TokenMatrices(
        np.where(kept, residual, known - unread),
        np.where(kept, known - residual, unread),
        linear,
        np.where(by_truth[:, None], draws[0], known.trace(axis1=1, axis2=2)[:, None] - draws[1]),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class MessageIndex:
    """Information from noisy neighbours, and what of it no affine denoiser reads, in nats.

    - `information`: what they add to a token's own observation;
    - `nonlinearity`: the part of it that is lost, nu;
    - `read`: the rest, which affine functions of the neighbours' points convey.

    All to leading order in the strength of the law, summed over both tokens of every pair.
    """

    snr: Float[np.ndarray, " *shape"]
    information: Estimate
    nonlinearity: Estimate
    read: Estimate

    @property
    def share(self) -> Float[np.ndarray, " *shape"]:
        """The part of the information that is lost, between 0 and 1."""
        with np.errstate(invalid="ignore"):
            found: np.ndarray = self.nonlinearity.value / self.information.value
        return found

    @property
    def read_share(self) -> Estimate:
        """What is read over what is told, whatever the correlation of their errors; of one level.

        Of nothing any share may be read.
        """
        told, read = self.information, self.read
        if not told.value > 0:
            return Estimate(0.5, numerical_error=0.5, quantity=SHARE)
        share = float(read.value / told.value)
        return dataclasses.replace(
            read,
            value=share,
            standard_error=(read.standard_error + share * told.standard_error) / told.value,
            numerical_error=(read.numerical_error + share * told.numerical_error) / told.value,
            interval_supported=read.interval_supported & told.interval_supported,
            quantity=SHARE,
            unit="",
        )

    @property
    def bits(self) -> MessageIndex:
        """In bits."""
        parts = (self.information.bits, self.nonlinearity.bits, self.read.bits)
        return MessageIndex(self.snr, *parts)


def message_index(
    codebook: Codebook,
    source: Source,
    snr: Any = None,
    *,
    pairs: list[tuple[int, int]] | None = None,
    rank: int | None = None,
    n_samples: int = SAMPLES,
    key: Any = None,
) -> MessageIndex:
    """C7: context information and nonlinearity nu of weakly coupled tokens, by single-token terms.

    For each pair of positions (1/2) [tr(S M_f S R_g) + tr(S M_g S R_f)], the losses of both of its
    tokens; of a long chain that is the loss of one token with such a neighbour on either side. The
    codebook's prior is not used, the laws are the source's. Values are exact where points are a
    grid on which the law of a token is a product (equal priors), in whatever order of the ids. How
    far the formula itself is from the exact nu is of the third power of the correlations. Where too
    few observations carry a sampled value, no interval is offered (`interval_supported`).

    Args:
        codebook: points of the tokens.
        source: law of their sequences.
        snr: signal-to-noise ratios, any shape; None for the integrals of both over all
            d log snr, which do not depend on the codebook's scale.
        pairs: pairs of positions whose terms are added; the first two tokens alone by default.
        rank: canonical variates of each pair, see `canonical_variates`.
        n_samples, key: of what is sampled.

    Raises:
        ValueError: a source of other tokens, invalid SNRs or pairs, or no key where one is needed;
            or integrals for points of which two are less than 1e-10 of the diameter apart.

    Example:
        >>> import tokenkl as tk
        >>> fsq = tk.FSQ((2, 2, 2))
        >>> law = tk.sources.bilinear(fsq.points, fsq.points, [[0.1, 0, 0], [0, 0.1, 0], [0, 0, 0]])
        >>> round(float(tk.context.message_index(fsq, law).share), 3)
        0.068
        >>> round(float(tk.context.message_index(tk.permute(fsq, key=4), law).share), 3)
        0.591
    """
    check_codebook(codebook)
    if codebook.K != source.K:
        reject("source", f"a law of {source.K:,} tokens", f"of {codebook.K:,}, as the codebook")
    found = [
        canonical_variates(source, *pair, rank=rank)
        for pair in (pairs if pairs is not None else [(0, 1)])
    ]
    return index_of_variates(codebook, found, snr, n_samples=n_samples, key=key)


def index_of_variates(
    codebook: Codebook,
    variates: list[Variates],
    snr: Any = None,
    *,
    n_samples: int = SAMPLES,
    key: Any = None,
) -> MessageIndex:
    """`message_index` of pairs whose canonical variates are known."""
    if snr is None:
        least = codebook.min_distance()
        if least <= NEAREST * codebook.diameter_bound():
            expected = f"one whose points are {NEAREST:g} of its diameter apart, or at given SNRs: "
            expected += "integrals over all of them need not be finite"
            reject("codebook", f"one with two points {least:.3g} apart", expected)
        levels = all_levels(codebook)
        return integrals_of_variates(codebook, variates, levels, n_samples=n_samples, key=key)
    given = check_snr(snr)
    totals, carried = _totals(codebook, variates, given.ravel(), np.eye(given.size), n_samples, key)
    size = ROUNDING * sum(float((pair.correlations**2).sum()) for pair in variates)
    parts = [
        (
            total.reshape(len(total), *given.shape),
            np.full(given.shape, size),
            one.reshape(given.shape),
        )
        for total, one in zip(totals, carried, strict=True)
    ]
    return _index(given, parts, n_samples, key)


def integrals_of_variates(
    codebook: Codebook,
    variates: list[Variates],
    levels: Float[np.ndarray, " levels"],
    *,
    n_samples: int = SAMPLES,
    key: Any = None,
) -> MessageIndex:
    """Integrals over all d log snr, summed on these levels."""
    totals, carried = _totals(
        codebook, variates, levels, log_weights(levels, 1)[None], n_samples, key
    )
    size = ROUNDING * sum(float((pair.correlations**2).sum()) for pair in variates)
    size *= math.log(levels[-1] / levels[0])
    parts = []
    for total, power, one in zip(totals, (1, 2, 1), carried[:, 0], strict=True):
        values, errors = integral(total, levels, power)
        parts.append((values, errors.mean() + size, one))
    return _index(levels, parts, n_samples, key)


def _totals(
    codebook: Codebook,
    variates: list[Variates],
    levels: np.ndarray,
    weights: Float[np.ndarray, "m levels"],
    n_samples: int,
    key: Any,
) -> tuple[Float[np.ndarray, "3 batches levels"], Bool[np.ndarray, "3 m"]]:
    """Information, nonlinearity and what is read of all pairs, for every batch of observations.

    And whether enough draws carry their sums over levels with these weights.
    """
    totals, carried = np.zeros((3, 1, len(levels))), np.ones((3, len(weights)), bool)
    for number, pair in enumerate(variates):
        keep = pair.correlations > 1e-12
        if not keep.any():
            continue
        root = np.sqrt(pair.correlations[keep])  # of either side: s f g is the product of both
        both = zip(pair.marginals, (pair.first, pair.second), strict=True)
        sides = [
            token_matrices(
                codebook,
                law,
                side[:, keep] * root,
                levels,
                n_samples=n_samples,
                key=_part(key, number, i),
            )
            for i, (law, side) in enumerate(both)
        ]
        for one in sides:
            carried &= one.carried(weights)
        for own, other in (sides, reversed(sides)):
            parts = (other.unread + other.linear, other.unread, other.linear[None])
            for which, read in enumerate(parts):
                totals = totals + np.zeros((1, len(own.residual), 1))
                totals[which] += (own.residual * read).sum(axis=(-1, -2)) / 2
    return totals, carried


def _index(
    levels: np.ndarray, parts: list[tuple[np.ndarray, Any, Any]], n_samples: int, key: Any
) -> MessageIndex:
    """Estimates out of values for every batch, numerical errors, and whether draws carry them."""
    found = []
    names = ("context information", "nonlinearity", "context information that is read")
    for (values, errors, supported), name in zip(parts, names, strict=True):
        batches = len(values)
        sampled = batches > 1
        estimate = Estimate(
            value=values.mean(axis=0),
            standard_error=values.std(axis=0, ddof=1) / math.sqrt(batches) if sampled else 0.0,
            numerical_error=errors,
            degrees_of_freedom=batches - 1 if sampled else math.inf,
            n_samples=n_samples if sampled else 0,
            interval_supported=supported,
            method="weak coupling, " + ("sampled posteriors" if sampled else "exact on a grid"),
            seed=seed_of(key) if sampled else None,
            draws=draws_of(key) if sampled else (),
            quantity=name,
            unit="nats",
        )
        found.append(estimate)
    return MessageIndex(levels, *found)


def all_levels(codebook: Codebook, step: float = LOG_STEP) -> Float[np.ndarray, " levels"]:
    """Levels on which integrals over d log snr are summed: from deaf to certain, evenly in log."""
    diameter, least = codebook.diameter_bound(), codebook.min_distance()
    if least <= NEAREST * diameter:  # as good as one point, which no level tells apart
        least = 1e-4 * math.sqrt(codebook.average_power() / codebook.n)
    low, high = math.log(1e-5) - 2 * math.log(diameter), math.log(400) - 2 * math.log(least)
    return np.exp(np.arange(low, high + step, step))


def log_weights(levels: Float[np.ndarray, " levels"], power: int) -> Float[np.ndarray, " levels"]:
    """Of the trapezoid rule over d log snr, for what falls like a power of the SNR below them."""
    step = math.log(levels[1] / levels[0])
    found = np.full(levels.size, step)
    found[0] += step / math.expm1(power * step)
    return found


def integral(
    values: Float[np.ndarray, "... levels"], levels: Float[np.ndarray, " levels"], power: int
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Integral over d log snr and its error, by the trapezoid rule.

    Its error falls exponentially with the step, and is taken from every second level, whose error
    is about the root.
    """
    fine = values @ log_weights(levels, power)
    coarse = values[..., ::2] @ log_weights(levels[::2], power)
    scale = np.maximum(abs(fine), np.finfo(float).tiny)
    step = math.log(levels[1] / levels[0])
    tails = step * abs(values[..., -1]) + power * levels[0] / levels[-1] * abs(fine)
    return fine, (fine - coarse) ** 2 / scale + tails


# ---- Closed forms --------------------------------------------------------------------------


def permuted_reading(
    codebook: Codebook, snr: Any, **given: Any
) -> tuple[Estimate, Float[np.ndarray, " *shape"]]:
    """C12: what is heard of a feature whose tokens sit anywhere: V, and its linear part.

    Of any feature of mean 0 and variance 1 under equal priors, averaged over all permutations of
    the ids: V = (E sum_k p(k | Y)^2 - 1/K) / (1 - 1/K), the normalised probability that two draws
    from the posterior agree; and tr[snr C (I + snr C)^-1] / (K - 1), C = Cov(e). For one-hot tokens
    both hold for every labeling.

    Args:
        codebook: with equal priors.
        snr: signal-to-noise ratios, any shape.
        given: method, key and progress of `sampling_error`.

    Raises:
        ValueError: unequal priors, one token, or what `sampling_error` raises.

    Example:
        >>> import tokenkl as tk
        >>> V, linear = tk.context.permuted_reading(tk.FSQ((3,) * 8), 12.0)
        >>> round(float(V.value), 2), round(float(linear), 4)
        (0.5, 0.0011)
    """
    check_codebook(codebook)
    K = check_count(codebook.K, "K", 2)
    if not codebook.has_equal_priors:
        reject("codebook", repr(codebook), "one with equal priors, whose ids can be permuted")
    levels = check_snr(snr)
    heard = (1 - sampling_error(codebook, levels, **given) * (K / (K - 1))) * 1.0
    eigenvalues = codebook.covariance_eigenvalues()
    along = levels[..., None] * eigenvalues
    heard = dataclasses.replace(heard, quantity="reading of a permuted feature")
    return heard, (along / (1 + along)).sum(axis=-1) / (K - 1)


def largest_reading(
    correlations: Float[Any, " r"], snr: Any, power: float
) -> Float[np.ndarray, " *shape"]:
    """C10: the most that affine functions of a noisy point read of variates, over all codebooks.

    max sum_r s_r^2 snr x_r / (1 + snr x_r) over powers x_r >= 0 that add up to `power`: water is
    filled into the variates. It is reached by points e = (sqrt(x_r) g_r)_r, in as many dimensions
    as there are variates, for features g of mean 0 and variance 1 that are uncorrelated.

    Args:
        correlations: weights s_r, at least 0.
        snr: signal-to-noise ratios, any shape.
        power: tr Cov(e), at least 0.

    Raises:
        ValueError: negative numbers.

    Example:
        >>> float(largest_reading([1.0, 1.0], 2.0, power=1.0))  # two directions of power 1/2
        1.0
    """
    s = np.sort(as_float_array("correlations", correlations, ndim=1))[::-1]
    levels, budget = check_snr(snr), float(as_float_array("power", power, ndim=0))
    if s.size == 0 or s[-1] < 0 or budget < 0:
        reject("correlations and power", (correlations, power), "at least 0")
    if s[0] == 0:
        return np.zeros(levels.shape)
    # Where `used` directions are: snr x_r = mu s_r - 1, mu from the sum, and above 0 for the last.
    # All by differences of the s: at low SNR that is next to nothing.
    water = levels[..., None] * budget
    dry = np.append(0.0, np.cumsum(np.arange(1, s.size) * -np.diff(s)))  # sum_q<=r (s_q - s_r)
    used = ((water * s >= dry) & (s > 0)).sum(axis=-1, keepdims=True)
    filled = water * s + used * (s - s[used - 1]) - dry[used - 1]
    filled = np.where(np.arange(s.size) < used, filled, 0.0) / np.cumsum(s)[used - 1]
    return np.asarray((s**2 * filled / (1 + filled)).sum(axis=-1))


# ---- Pieces --------------------------------------------------------------------------------


def _part(key: Any, *stream: int) -> Any:
    if key is None:
        return None
    return generator(key, *stream).integers(2**32, size=4, dtype=np.uint32)


def _as_product(
    points: np.ndarray, law: np.ndarray
) -> tuple[ProductCodebook, Int[np.ndarray, " K"]] | None:
    """The grid that the points are, with the law, and the token at each of its places."""
    columns = [np.unique(column, return_inverse=True) for column in points.T]
    shape = tuple(levels.size for levels, _ in columns)
    if math.prod(shape) != len(points) or law.min() <= 0:
        return None
    place = np.ravel_multi_index(tuple(digits for _, digits in columns), shape)
    if np.bincount(place, minlength=len(points)).max() > 1:
        return None
    order = np.argsort(place)
    book = ProductCodebook([levels for levels, _ in columns], prior=law[order])
    return (book, order) if book.factorises else None


def _read_on_grid(
    book: ProductCodebook, features: Float[np.ndarray, "K r"], snr: float
) -> Float[np.ndarray, "r r"]:
    """Second moments of E[f | Y], by those of the posterior of each coordinate."""
    size = features.shape[1]
    moved = features.reshape(*book.shape, size)
    pairs = zip(book.levels, book.level_weights(), strict=True)
    for axis, (levels, weights) in enumerate(pairs):
        if levels.size == 1:
            continue
        agree = _agreement(np.asarray(levels), np.asarray(weights), snr)
        moved = np.moveaxis(np.tensordot(agree, moved, axes=(1, axis)), 0, axis)
    return features.T @ moved.reshape(book.K, size)


def _agreement(
    levels: Float[np.ndarray, " L"], weights: Float[np.ndarray, " L"], snr: float
) -> Float[np.ndarray, "L L"]:
    """E p(a | Y) p(b | Y) of one coordinate's ascending levels, by the trapezoid rule."""
    places, doubt = math.sqrt(snr) * levels, 2 * math.log(1 / weights.min())
    found = np.diag(weights)
    gaps = np.flatnonzero(np.diff(places) > RESOLVED + doubt)
    for first, last in zip([0, *(gaps + 1)], [*gaps, levels.size - 1], strict=True):
        if first < last:  # of levels that may be taken for each other
            here = slice(first, last + 1)
            near = math.sqrt(snr) * (levels[here] - levels[first])  # this keeps their digits
            found[here, here] = _agreement_near(near, weights[here], math.sqrt(180 + doubt))
    return found


def _agreement_near(
    places: Float[np.ndarray, " L"], weights: Float[np.ndarray, " L"], reach: float
) -> Float[np.ndarray, "L L"]:
    """The same, exact to rounding, where an observation speaks of places within `reach` of it."""
    found = np.zeros((places.size, places.size))
    # Poles of the posterior are pi / span away from the real line, or more.
    step = min(0.3, 0.5 / max(min(places[-1], 2 * reach), 1e-300))
    low, count = -10.0, math.ceil((places[-1] + 20) / step) + 1
    size = max(1, min(math.ceil(2 * reach / step), MAX_ELEMENTS // 64 // places.size))
    for start in range(0, count, size):
        y = low + step * np.arange(start, min(start + size, count))
        first, last = np.searchsorted(places, [y[0] - reach, y[-1] + reach])
        if first == last:  # nothing is seen here
            continue
        here = slice(first, last)
        logs = np.log(weights[here])[:, None] - (y - places[here, None]) ** 2 / 2
        top = logs.max(axis=0)
        joint = np.exp(logs - top)
        total = joint.sum(axis=0)
        found[here, here] += (joint * (np.exp(top) / total)) @ joint.T
    return found * step / math.sqrt(2 * math.pi)


class _Points(NamedTuple):
    """Tokens at any points, whose mean is 0."""

    points: Float[np.ndarray, "K n"]
    law: Float[np.ndarray, " K"]
    features: Float[np.ndarray, "K r"]

    def regressions(
        self, levels: Float[np.ndarray, " levels"]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Slopes of features on noisy points, and what these explain of them.

        By singular values of the points: a covariance holds the squares of distances, and of near
        points no digit.
        """
        root = np.sqrt(self.law)[:, None]
        left, sizes, axes = np.linalg.svd(root * self.points, full_matrices=False)
        cross, found = left.T @ (root * self.features), []
        for snr in levels:
            along = math.sqrt(snr) * sizes[:, None]
            slopes = along / (1 + along**2) * cross
            found.append((axes.T @ slopes, cross.T @ (along * slopes)))
        return found

    def drawn(
        self, ids: Int[np.ndarray, " N"], noise: Float[np.ndarray, "N n"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points e_j of these tokens, <eps, e_k> and |e_j - e_k|^2 (differences first) of all k."""
        own = self.points[ids]
        return own, noise @ self.points.T, cdist(own, self.points, "sqeuclidean")


class _Simplex(NamedTuple):
    """Tokens at `scale` times the basis vectors, less their mean: all are as far from each other.

    The covariance is scale^2 (diag(law) - law law^T); Sherman and Morrison's formula inverts it
    without differences.
    """

    scale: float
    law: Float[np.ndarray, " K"]
    features: Float[np.ndarray, "K r"]

    def regressions(
        self, levels: Float[np.ndarray, " levels"]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self._regression(one) for one in levels]

    def _regression(self, snr: float) -> tuple[np.ndarray, np.ndarray]:
        power = snr * self.scale**2
        share = self.law / (1 + power * self.law)
        shared = (share * self.law) @ self.features
        root = math.sqrt(power)
        slopes = root * share[:, None] * (self.features + power * shared / share.sum())
        return slopes, root * (self.law[:, None] * self.features).T @ slopes

    def drawn(
        self, ids: Int[np.ndarray, " N"], noise: Float[np.ndarray, "N n"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shown = np.zeros((ids.size, self.law.size))
        shown[np.arange(ids.size), ids] = 1.0
        return self.scale * (shown - self.law), self.scale * noise, 2 * self.scale**2 * (1 - shown)


def _posterior(law: Float[np.ndarray, " K"], logs: np.ndarray) -> Float[np.ndarray, "N K"]:
    """By log-likelihoods, which are overwritten."""
    logs += np.log(np.maximum(law, 1e-300))
    logs -= logs.max(axis=1, keepdims=True)
    np.exp(logs, out=logs)
    logs /= logs.sum(axis=1, keepdims=True)
    return logs
