"""What the best denoiser with affine logits loses in context: `message_nonlinearity`."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy import special
from scipy.spatial.distance import pdist

from tokenkl._random import draws_of, seed_of, split
from tokenkl._validation import check_choice, check_count, check_snr, first_duplicate, reject
from tokenkl.codebooks import Codebook
from tokenkl.codebooks.base import check_codebook
from tokenkl.context.affine import FAMILIES, Family, Seat, stretched
from tokenkl.context.quadrature import MOST_DIMENSIONS, least
from tokenkl.context.sampled import bracketed, draw
from tokenkl.estimate import Bound, Estimate
from tokenkl.information.methods import Exact, Method, MonteCarlo, check_method
from tokenkl.numerics.moments import Moments
from tokenkl.sources import Source

NAME = "message nonlinearity"
#: Precision, relative to the value, that quadrature aims for.
RTOL = 1e-7
#: Values that rounding could have made.
ATOL = 1e-15
#: Most levels of an integral.
MOST_LEVELS = 2048
INTEGRAL = "integral of the message nonlinearity"
#: Distance in log snr up to which the law at one level is a start at a higher one. Where tokens are
#: as good as told, slopes may be anything, and further down they are worse than those of Gaussians.
NEAR = 1.0
#: Draws at every SNR unless told otherwise.
N_SAMPLES = 2**14


def message_nonlinearity(
    codebook: Codebook,
    source: Source,
    snr: Float[Any, " *shape"],
    *,
    position: int | None = None,
    window: int | None = None,
    family: Family = "affine",
    method: Method | None = None,
    key: Any = None,
) -> Estimate:
    """Excess cross-entropy of the best denoiser whose logits are affine in the noisy sequence.

        nu_i = min over c, B of E KL(p(k_i | Y) || softmax_k(c_k + <B_k, Y>)),

    Y_j = sqrt(snr) e_{k_j} + eps for all positions j, p the exact law of token i given all of Y.
    It is 0 where token i is independent of the others, and (docs/theory/context.md) the information
    that Y holds about the token less what first moments of Y given the token guarantee.

    Sequences of at most six coordinates in all (those of the codebook's span, times the length)
    are integrated over: the trapezoid rule on grids that are refined until they agree, Newton's
    method with a stated gap. Longer ones are sampled: laws are fitted on either half of the draws
    and seen on both. The least mean over a half is too low on average, and a law's mean over the
    other half, or that of the "gaussian" law, is too high; `numerical_error` is half their
    distance, `standard_error` the rest.

    Args:
        codebook: the points of the tokens; its prior is not used, the law is the source's.
        source: the law of the sequences, over as many tokens.
        snr: signal-to-noise ratios, at least 0; the result has their shape.
        position: of the token, counted from 0; None for the mean over all positions.
        window: logits see this many neighbours on either side; None for all. The exact law always
            sees all, so that fewer give more.
        family: "affine"; or what is easier to fit, and larger: "message" keeps the exact own term
            (B_i = sqrt(snr) e_k) and fits what is said of neighbours, "gaussian" fits nothing: the
            messages of Gaussian neighbours with one common covariance (discriminant analysis).
        method: `Exact()` for quadrature, `MonteCarlo(n_samples)`; None: the first where it can.
        key: integer seed or JAX key, where draws are needed.

    Raises:
        ValueError: an argument out of its range, a source over another number of tokens,
            quadrature of too many coordinates, or no key where draws are needed.

    Example:
        >>> import tokenkl as tk
        >>> bit = tk.FSQ((2,))
        >>> copied = tk.sources.Joint([[0.5, 0.0], [0.0, 0.5]])
        >>> float(tk.message_nonlinearity(bit, copied, 1.0)) < 1e-9  # the sum says it all
        True
        >>> square = tk.FSQ((2, 2))
        >>> permuted = tk.PointCodebook(square.points[[0, 3, 2, 1]])
        >>> law = tk.sources.bilinear(square.points, square.points, [[0.8, 0.0], [0.0, 0.8]])
        >>> given, moved = (float(tk.message_nonlinearity(c, law, 1.0)) for c in (square, permuted))
        >>> moved > 3 * given
        True
    """
    task = _Task.of(codebook, source, position, window, family, method, key)
    levels = check_snr(snr)
    if levels.size == 0:
        return Estimate(levels, quantity=NAME, unit="nats")
    flat, keys, starts = np.ravel(levels), split(key, levels.size), None
    found: list[Any] = [None] * flat.size
    for index in np.argsort(flat, kind="stable"):  # each start is the law at the level below
        found[index], starts = task.at(float(flat[index]), keys[index], starts)
    return jax.tree.map(lambda row: np.reshape(row, levels.shape)[()], Estimate.stack(found))


def nonlinearity_integral(
    codebook: Codebook,
    source: Source,
    *,
    position: int | None = None,
    window: int | None = None,
    family: Literal["affine", "message"] = "affine",
    method: Method | None = None,
    key: Any = None,
) -> Estimate:
    """int_0^inf nu dlog snr: one number for a codebook and a law, whatever the codebook's scale.

    The trapezoid rule in log snr, halved until it agrees. Below the lowest level nu = a snr^2 +
    b snr^3 + c snr^4 (docs/theory/context.md) is summed on; above the highest nu is at most
    `nonlinearity_bound(.., by="pairs")`, whose integral is added to `numerical_error`.

    Args:
        codebook, source, position, window, family, method, key: as in `message_nonlinearity`;
            draws at different levels are independent.

    Raises:
        ValueError: as there, or two tokens of one position at one point, and others elsewhere.

    Example:
        >>> import tokenkl as tk
        >>> law = tk.sources.Joint([[0.4, 0.1], [0.1, 0.4]])
        >>> found = tk.nonlinearity_integral(tk.FSQ((2,)), law)
        >>> doubled = tk.nonlinearity_integral(tk.FSQ((2,)).scaled(2.0), law)
        >>> abs(float(found) - float(doubled)) < 1e-5 * float(found)
        True
    """
    check_choice(family, ("affine", "message"), "family")
    task = _Task.of(codebook, source, position, window, family, method, key)
    integral = _Integral(task, key)
    if source.length > 1 and integral.diameter2:
        for seat in task.seats:
            pair = first_duplicate(np.asarray(codebook.points)[seat.tokens])
            if pair is not None:
                ids = " and ".join(str(seat.tokens[one]) for one in pair)
                expected = "one of distinct points: of others the integral need not be finite"
                reject("codebook", f"one with tokens {ids} at one point", expected)
    return integral.found()


def nonlinearity_bound(
    codebook: Codebook,
    source: Source,
    snr: Float[Any, " *shape"],
    *,
    by: Literal["pairs", "message", "gaussian"] = "pairs",
    position: int | None = None,
    window: int | None = None,
) -> Bound:
    """Upper bounds of `message_nonlinearity`.

    "pairs", for sources of any size: the token's own posterior is affine, so that nu is at most
    the information of the context, so at most H(k_i | Y_i), so at most
    sum_{k != l} sqrt(pi_k pi_l) exp(-snr |e_k - e_l|^2 / 8), by log(1 + x) <= sqrt(x).
    "message" and "gaussian": the families of that name, by quadrature, with its error added.

    nu is also about half the variance of what affine logits leave of the log-posterior; that holds
    to leading order only and is no bound.

    Args:
        codebook, source, snr, position, window: as in `message_nonlinearity`.
        by: which.

    Raises:
        ValueError: as there.

    Example:
        >>> import tokenkl as tk
        >>> law = tk.sources.Joint([[0.4, 0.1], [0.1, 0.4]])
        >>> float(tk.nonlinearity_bound(tk.FSQ((2,)), law, 8.0).value.round(6))
        0.018316
    """
    check_choice(by, ("pairs", "message", "gaussian"), "by")
    levels = check_snr(snr)
    if by == "pairs":
        task = _Task.of(codebook, source, position, window, "affine", MonteCarlo(2), 0)
        value = np.mean([_pair_sum(seat, levels, _own_decay) for seat in task.seats], axis=0)
        return Bound(value, "upper", "pairs of tokens", quantity=NAME, unit="nats")
    found = message_nonlinearity(
        codebook, source, levels, position=position, window=window, family=by, method=Exact()
    )
    value = found.value + found.numerical_error
    return Bound(value, "upper", f"{by} logits", quantity=NAME, unit="nats")


def low_snr_nonlinearity(
    codebook: Codebook, source: Source, *, position: int | None = None
) -> float:
    """The limit of nu / snr^2 at low SNR, for a source whose sequences can be listed.

        (1/4) sum_k pi_k |Cov(X' | k) - E Cov(X' | k)|_F^2,

    X' the points of all other tokens, pi and k the law and the value of token i: what context
    scatters otherwise from token to token costs, what only moves with it does not.

    Args:
        codebook, source, position: as in `message_nonlinearity`.

    Raises:
        ValueError: as there, or more than 2**22 sequences.

    Example:
        >>> import tokenkl as tk
        >>> law = tk.sources.Joint([[0.4, 0.1], [0.2, 0.3]])
        >>> round(tk.low_snr_nonlinearity(tk.FSQ((2,)), law, position=0), 6)
        0.0064
    """
    task = _Task.of(codebook, source, position, None, "affine", MonteCarlo(2), 0)
    law, length = source.joint(), source.length
    tokens = np.stack(np.unravel_index(np.arange(law.size), law.shape), axis=1)
    found = []
    for seat in task.seats:
        others = [j for j in range(length) if j != seat.position]
        context = seat.points[tokens[:, others]].reshape(law.size, -1)
        covariances = []
        for k, weight in zip(seat.tokens, seat.prior, strict=True):
            here = tokens[:, seat.position] == k
            given = law.ravel()[here] / weight
            centred = context[here] - given @ context[here]
            covariances.append((given[:, None] * centred).T @ centred)
        away = np.array(covariances) - np.tensordot(seat.prior, covariances, axes=1)
        found.append(float(seat.prior @ (away**2).sum(axis=(1, 2))) / 4)
    return float(np.mean(found))


# ---- One level ----------------------------------------------------------------------------


class _Task(NamedTuple):
    """What is asked for, checked."""

    seats: list[Seat]
    family: Family
    n_samples: int  # 0 for quadrature

    @staticmethod
    def of(
        codebook: Codebook,
        source: Source,
        position: int | None,
        window: int | None,
        family: Family,
        method: Method | None,
        key: Any,
    ) -> _Task:
        check_codebook(codebook)
        if not isinstance(source, Source):
            reject("source", source, "one of tokenkl.sources, such as tk.sources.Markov(...)")
        if source.K != codebook.K:
            reject("source", f"one over {source.K:,} tokens", f"over {codebook.K:,}, as codebook")
        if position is not None:
            check_count(position, "position", 0, source.length - 1)
        if window is not None:
            check_count(window, "window")
        check_choice(family, FAMILIES, "family")
        check_method(method, Exact, MonteCarlo, targets=False)
        places = range(source.length) if position is None else [position]
        seats = [Seat.of(codebook, source, place, window) for place in places]
        if isinstance(method, MonteCarlo):
            size = method.n_samples or N_SAMPLES
        else:
            coordinates = seats[0].points.shape[1] * source.length
            size = 0 if coordinates <= MOST_DIMENSIONS else N_SAMPLES
            if size and isinstance(method, Exact):
                expected = f"of at most {MOST_DIMENSIONS} coordinates in all, for quadrature"
                reject("source", f"sequences of {coordinates} coordinates", expected)
        if size and key is None:
            reject("key", key, "an integer seed or JAX key: sequences this long are sampled")
        return _Task(seats, family, size)

    def at(
        self, snr: float, key: Any, starts: Starts | None, rtol: float = RTOL, atol: float = ATOL
    ) -> tuple[Estimate, Starts]:
        """The mean over positions at one SNR, and where to start at the next."""
        if snr == 0 or self.seats[0].source.length == 1 or not self.seats[0].points.shape[1]:
            return Estimate(0.0, quantity=NAME, unit="nats"), Starts(snr, [])
        most = self.most(snr, _own_decay)
        if most <= atol and self.family != "gaussian":  # nu is between 0 and this
            return Estimate(
                most / 2, numerical_error=most / 2, method="pairs", quantity=NAME, unit="nats"
            ), Starts(snr, [])
        first = [seat.gaussian(snr) for seat in self.seats]
        if starts is not None and starts.laws and 0 <= math.log(snr / starts.snr) <= NEAR:
            first = [starts.of(index, snr) for index in range(len(first))]
        if not self.n_samples:
            found = [
                least(seat, snr, self.family, start, rtol, atol)
                for seat, start in zip(self.seats, first, strict=True)
            ]
            estimate = Estimate(
                np.mean([one.value for one in found]),
                numerical_error=np.mean([one.error for one in found]),
                method="trapezoid rule",
                quantity=NAME,
                unit="nats",
            )
            return estimate, Starts(snr, [one.theta for one in found])
        return self._sampled(snr, key), Starts(snr, [])

    def most(self, snr: float, decay: Callable[[Any], Any]) -> float:
        """The bound by pairs, mean over positions."""
        return float(np.mean([_pair_sum(seat, np.array(snr), decay) for seat in self.seats]))

    def _sampled(self, snr: float, key: Any) -> Estimate:
        seats = self.seats
        places = [seat.position for seat in seats]
        draws = draw(seats[0].points, seats[0].source, places, snr, self.n_samples, key)
        found = [
            bracketed(seat, draws, index, self.family, seat.gaussian(snr))
            for index, seat in enumerate(seats)
        ]
        moments = Moments((1,))
        moments.add(np.mean([one.draws for one in found], axis=0)[None])
        return Estimate(
            moments.mean[0],
            standard_error=moments.standard_error[0],
            numerical_error=np.mean([one.half_width for one in found]),
            n_samples=self.n_samples,
            method="Monte-Carlo",
            seed=seed_of(key),
            draws=draws_of(key),
            skewness=moments.skewness[0],
            interval_supported=bool(moments.carried()[0]),
            quantity=NAME,
            unit="nats",
        )


class Starts(NamedTuple):
    """Laws found at one SNR, for every position."""

    snr: float
    laws: list[np.ndarray]

    def of(self, index: int, snr: float) -> np.ndarray:
        return stretched(self.laws[index], (self.snr, snr))


# ---- All levels ---------------------------------------------------------------------------


class _Integral:
    """The sum over levels origin exp(j x spacing), of which more are added as they are needed."""

    def __init__(self, task: _Task, key: Any) -> None:
        self.task = task
        self.keys = iter(split(key, MOST_LEVELS))
        self.known: dict[float, Estimate] = {}
        self.starts: list[Starts] = []
        seat = task.seats[0]
        laws = seat.source.marginals()
        occurring = seat.points[laws.max(axis=0) > 0]
        #: Squared distance of the two tokens farthest from each other.
        self.diameter2 = float(pdist(occurring, "sqeuclidean").max(initial=0.0))
        # The token of this position may be all but known: the power then is no scale of the points.
        power = float(laws[seat.position] @ (seat.points**2).sum(axis=1))
        self.origin = -math.log(max(power, 1e-9 * self.diameter2) or 1.0)
        self.tolerance = 1e-6 if not task.n_samples else 1e-2

    def found(self) -> Estimate:
        if self.task.seats[0].source.length == 1 or not self.diameter2:
            return Estimate(0.0, quantity=INTEGRAL, unit="nats")
        spacing, sums = 0.8, []
        low, high = self._range(spacing)
        while True:
            levels = np.arange(round(low / spacing), round(high / spacing) + 1) * spacing
            total = self._sum(levels, spacing)
            sums.append(float(total))
            if self.task.n_samples and spacing <= 0.4:
                break
            change = abs(sums[-1] - sums[-2]) if len(sums) > 1 else np.inf
            if change <= self.tolerance * abs(sums[-1]) + ATOL or spacing <= 0.1:
                break
            spacing /= 2
        change = abs(sums[-1] - sums[-2])
        if self.task.n_samples:  # most of the change is noise; the rule itself errs by its square
            change = min(change, 1e-3 * abs(sums[-1]))
        error = total.numerical_error + change + self._above(high)
        return dataclasses.replace(total, numerical_error=error, quantity=INTEGRAL)

    def value(self, place: float) -> Estimate:
        """nu at origin + place in log snr."""
        place = round(place, 6)
        if place not in self.known:
            largest = max((float(one) for one in self.known.values()), default=0.0)
            atol = max(ATOL, 0.1 * self.tolerance * largest)
            snr = math.exp(self.origin + place)
            lower = (one for one in self.starts if one.snr <= snr)
            nearest = max(lower, key=lambda one: one.snr, default=None)
            found, start = self.task.at(snr, next(self.keys), nearest, RTOL, atol)
            self.known[place] = found
            if start.laws:
                self.starts.append(start)
        return self.known[place]

    def _range(self, spacing: float) -> tuple[float, float]:
        """Levels beyond which there is little, or what is known well enough."""
        tolerance = 0.1 * self.tolerance
        total, low = float(self.value(0.0)), 0.0
        reach = 0.03 if not self.task.n_samples else 0.1  # in nu; of its square below
        # Small values say nothing where all tokens are told: below this no two are.
        far = -self.origin - math.log(self.diameter2)
        while low > far or (low > far - 30 and float(self.value(low)) > reach**2 * total + ATOL):
            low -= spacing
            total = max(total, float(self.value(low)))
        high = 0.0
        while self._above(high) > tolerance * total and high < 60:
            high += spacing
            total = max(total, float(self.value(high)))
        return low, high

    def _sum(self, levels: np.ndarray, spacing: float) -> Estimate:
        terms = [self.value(float(one)) for one in levels]
        total = functools.reduce(operator.add, terms) * spacing
        tail, error = self._below(levels, terms, spacing)
        return dataclasses.replace(
            total, value=total.value + tail, numerical_error=total.numerical_error + error
        )

    def _below(
        self, levels: np.ndarray, terms: list[Estimate], spacing: float
    ) -> tuple[float, float]:
        """The sum over levels below the lowest by the series of nu there, and its error."""
        orders = 3 if not self.task.n_samples else 1
        ratio = np.exp(levels[:orders] - levels[0])
        values = np.array([float(one) for one in terms[:orders]])
        errors = np.array([float(one.numerical_error) for one in terms[:orders]])
        powers = np.arange(2, 2 + orders)
        sums = spacing / np.expm1(powers * spacing)
        weights = np.linalg.solve((ratio[:, None] ** powers).T, sums)
        last = np.linalg.solve(ratio[:, None] ** powers, values)[-1] * sums[-1]
        return float(weights @ values), float(abs(last) + abs(weights) @ errors)

    def _above(self, high: float) -> float:
        return self.task.most(math.exp(self.origin + high), _integrated)


def _pair_sum(
    seat: Seat, snr: Float[np.ndarray, " *shape"], decay: Callable[[Any], Any]
) -> Float[np.ndarray, " *shape"]:
    """sum_{k != l} sqrt(pi_k pi_l) decay(snr |e_k - e_l|^2 / 8)."""
    first, second = np.triu_indices(len(seat.tokens), 1)
    root, squares = np.sqrt(seat.prior), pdist(seat.own, "sqeuclidean")
    weights = 2 * root[first] * root[second]
    found = [weights @ decay(one * squares / 8) for one in np.ravel(snr)]
    return np.reshape(found, np.shape(snr))


def _own_decay(exponent: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.exp(-exponent)
    return found


def _integrated(exponent: np.ndarray) -> np.ndarray:
    """int_x^inf exp(-y) dlog y."""
    found: np.ndarray = special.exp1(exponent)
    return found
