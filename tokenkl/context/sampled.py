"""E KL(p || q) over drawn observations, at which the exact law p is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from tokenkl._random import generator
from tokenkl._validation import MAX_ELEMENTS, reject
from tokenkl.context.affine import Family, Seat, log_likelihood
from tokenkl.context.newton import minimise
from tokenkl.numerics.laws import entropies
from tokenkl.sources import Source

#: Residual at which conjugate gradients stop, relative to the gradient, and steps at most.
SOLVED, MOST_PRODUCTS = 1e-3, 400
#: Numbers in one block of messages.
BLOCK = 2**22


class Sample:
    """The problem of one seat on drawn observations; see `newton.Problem`."""

    def __init__(
        self, features: Float[np.ndarray, "N c"], log_law: Float[np.ndarray, "N tokens"]
    ) -> None:
        self.features, self.log_law = features, log_law
        self.law = np.exp(log_law)
        self._floor = -entropies(self.law)

    def kl(self, theta: Float[np.ndarray, "tokens c"]) -> Float[np.ndarray, " N"]:
        """KL(p || q) at every observation."""
        logs = special.log_softmax(self.features @ theta.T, axis=1)
        found: np.ndarray = self._floor - (self.law * logs).sum(axis=1)
        return found

    def evaluate(
        self, theta: Float[np.ndarray, "tokens c"]
    ) -> tuple[float, Float[np.ndarray, "tokens c"]]:
        logs = special.log_softmax(self.features @ theta.T, axis=1)
        value = float((self._floor - (self.law * logs).sum(axis=1)).mean())
        return value, (np.exp(logs) - self.law).T @ self.features / len(self.law)

    def direction(
        self,
        theta: Float[np.ndarray, "tokens c"],
        gradient: Float[np.ndarray, "tokens c"],
        free: Bool[np.ndarray, " c"],
    ) -> Float[np.ndarray, "tokens c"]:
        """By conjugate gradients, preconditioned by E[diag q - q q'] x E[(1, Y) (1, Y)']."""
        q = special.softmax(self.features @ theta.T, axis=1)
        seen, size = self.features[:, free], len(self.law)

        def times(moved: np.ndarray) -> np.ndarray:
            change = seen @ moved.T
            change -= (q * change).sum(axis=1, keepdims=True)
            found: np.ndarray = (q * change).T @ seen / size
            return found

        of_tokens = np.diag(q.mean(axis=0)) - q.T @ q / size
        scale = max(float(np.trace(of_tokens)), 1e-300) / len(theta)
        of_tokens += scale * (1e-10 * np.eye(len(theta)) + 1 / len(theta))
        of_features = seen.T @ seen / size
        of_features += np.eye(len(of_features)) * 1e-12 * np.trace(of_features)
        found = np.zeros_like(gradient)
        if free.any():
            left, right = np.linalg.inv(of_tokens), np.linalg.inv(of_features)
            found[:, free] = _conjugate_gradients(
                times, lambda one: left @ one @ right, gradient[:, free]
            )
        return found


def _conjugate_gradients(
    times: Callable[[np.ndarray], np.ndarray],
    precondition: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
) -> np.ndarray:
    found, residual = np.zeros_like(right), right.copy()
    scaled = precondition(residual)
    along, power = scaled, float((residual * scaled).sum())
    first = power
    for _ in range(MOST_PRODUCTS):
        if power <= SOLVED**2 * first:
            break
        product = times(along)
        bend = float((along * product).sum())
        if bend <= 0:  # rounding is all that is left
            break
        found += power / bend * along
        residual -= power / bend * product
        scaled = precondition(residual)
        power, before = float((residual * scaled).sum()), power
        along = scaled + power / before * along
    return found


class Draws(NamedTuple):
    """Observations of sequences, and the exact laws of the tokens at some positions."""

    seen: Float[np.ndarray, "N length m"]
    log_laws: Float[np.ndarray, "N positions K"]


def draw(
    points: Float[np.ndarray, "K m"],
    source: Source,
    positions: list[int],
    snr: float,
    size: int,
    key: object,
) -> Draws:
    """So many sequences, Y = sqrt(snr) e_k + noise, and log P(k_i = k | Y) at these positions."""
    length, K, m = source.length, source.K, points.shape[1]
    if size * K * len(positions) > MAX_ELEMENTS:
        expected = f"few enough for {MAX_ELEMENTS:,} numbers: fewer samples, or one position"
        reject("n_samples", f"{size:,} laws of {K} tokens at {len(positions)} positions", expected)
    tokens = source.sample(size, key=key)
    seen = np.sqrt(snr) * points[tokens]
    seen += generator(key, 1).standard_normal((size, length, m))
    laws = np.empty((size, len(positions), K))
    rows = max(1, BLOCK // (length * K))
    for start in range(0, size, rows):
        part = slice(start, start + rows)
        given = log_likelihood(points, snr, seen[part])
        message, _ = source.messages(given)
        laws[part] = special.log_softmax((message + given)[:, positions], axis=-1)
    return Draws(seen, laws)


class Bracketed(NamedTuple):
    """Draws whose mean is the estimate; half the distance of in-sample and out-of-sample means."""

    draws: Float[np.ndarray, " N"]
    half_width: float


def bracketed(
    seat: Seat,
    draws: Draws,
    index: int,
    family: Family,
    start: Float[np.ndarray, "tokens columns"],
) -> Bracketed:
    """Laws fitted on either half from a start that was not, each seen on both.

    The least mean over a half is too low on average, and the mean of a law that was fitted on the
    other half, or of the start, is too high: the expectation of the mean of both differs from the
    least by at most half their distance. Where tokens are nearly told, so that what is left hangs
    on few draws, the start is the better one of those.
    """
    parts = [draws.seen[:, seat.position], *(draws.seen[:, j] for j in seat.seen)]
    features = np.concatenate([np.ones((len(parts[0]), 1)), *parts], axis=1)
    logs = draws.log_laws[:, index, seat.tokens]
    half, free = len(features) // 2, seat.free(family)
    samples = [Sample(features[:half], logs[:half]), Sample(features[half:], logs[half:])]
    fits = [minimise(one, start, free, 1e-4) for one in samples]
    ours, others = (
        np.concatenate([one.kl(fit.theta) for one, fit in zip(samples, order, strict=True)])
        for order in (fits, fits[::-1])
    )
    plain = np.concatenate([one.kl(start) for one in samples])
    if plain.mean() < others.mean():
        others = plain
    width = abs(float(others.mean() - ours.mean())) + max(fit.gap for fit in fits)
    return Bracketed((ours + others) / 2, width / 2)
