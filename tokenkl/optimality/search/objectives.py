"""What a search maximises: a value and a gradient at any codebook, and how to judge the result.

Distances have kinks, so they are climbed by smooth functions below them: powers that rise.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._random import generator
from tokenkl._validation import check_positive, reject
from tokenkl.numerics.neighbours import nearest_distances
from tokenkl.optimality.search.lists import NeighbourLists

#: Names of objectives that are known.
OBJECTIVES = ("mean_distance", "min_distance", "accuracy", "mutual_information")
#: Exponents of the smooth distances, in the order in which they are climbed.
POWERS = (8.0, 24.0, 80.0, 240.0)
#: Draws of noise for accuracy and information, each with its mirror image.
SAMPLES = 512

#: A user's function: its value and its gradient (K, n) at points (K, n).
ValueAndGradient = Callable[[Float[np.ndarray, "K n"]], tuple[float, Float[np.ndarray, "K n"]]]


class Objective(abc.ABC):
    """A function of codebooks, larger is better."""

    name: str
    #: Whether linear programmes can polish it: a (weighted) sum of nearest distances.
    is_distance = False
    #: Stages of the climb, from smooth to sharp.
    stages: tuple[float, ...] = (0.0,)

    @abc.abstractmethod
    def climbed(self, stage: float) -> ValueAndGradient:
        """The smooth function of a stage of the climb, which may keep lists of its own."""

    @abc.abstractmethod
    def value(self, points: Float[np.ndarray, "K n"]) -> float:
        """The objective itself."""


class Distance(Objective):
    """D, the mean nearest-neighbour distance, or the smallest distance of all."""

    is_distance = True
    stages = POWERS

    def __init__(self, minimum: bool) -> None:
        self.minimum = minimum
        self.name = "min_distance" if minimum else "mean_distance"

    def climbed(self, stage: float) -> ValueAndGradient:
        return SoftDistance(stage, self.minimum)

    def value(self, points: Float[np.ndarray, "K n"]) -> float:
        found = nearest_distances(points)
        return float(found.min() if self.minimum else found.mean())


class SoftDistance:
    """Mean or minimum of distances as power sums, over neighbour lists that follow the tokens."""

    def __init__(self, power: float, minimum: bool) -> None:
        self.power, self.minimum = power, minimum
        self.lists: NeighbourLists | None = None

    def __call__(self, points: Float[np.ndarray, "K n"]) -> tuple[float, Float[np.ndarray, "K n"]]:
        from tokenkl.optimality.search.kernels import soft_mean, soft_minimum  # slow to import

        points = np.ascontiguousarray(points)
        kernel = soft_minimum if self.minimum else soft_mean
        slope = np.empty_like(points)
        radii = np.empty(len(points))
        if self.lists is None:
            self.lists = NeighbourLists(points)
        for _ in range(2):
            room = np.empty(self.lists.others.size)
            value = kernel(
                points, self.lists.first, self.lists.others, self.power, radii, room, slope
            )
            if self.lists.holds(points, radii):
                break
            self.lists.rebuild(points)
        return float(value), slope


class NearestDistances:
    """D itself and its gradient where it has one, over neighbour lists that follow the tokens.

    Exact: lists are rebuilt as soon as they might miss a nearest neighbour.
    """

    def __init__(self) -> None:
        self.lists: NeighbourLists | None = None

    def __call__(self, points: Float[np.ndarray, "K n"]) -> tuple[float, Float[np.ndarray, "K n"]]:
        from tokenkl.optimality.search.kernels import hard_mean  # slow to import

        points = np.ascontiguousarray(points)
        slope, radii = np.empty_like(points), np.empty(len(points))
        if self.lists is None:
            self.lists = NeighbourLists(points)
        for _ in range(2):
            value = hard_mean(points, self.lists.first, self.lists.others, radii, slope)
            if self.lists.holds(points, radii):
                break
            self.lists.rebuild(points)
        return float(value), slope


class Sampled(Objective):
    """Accuracy or mutual information (nats) of equally probable tokens at one snr.

    Both are averages over noise of a smooth function of the posterior, E max_k p(k|y) and
    log K + E sum_k p(k|y) log p(k|y), here over fixed draws with their mirror images, the same for
    every codebook and token: a smooth function of the points whose gradient is exact. What is found
    is then judged by `tk.accuracy` or `tk.mutual_information`.
    """

    def __init__(self, name: str, snr: float, n: int, key: Any) -> None:
        self.name, self.snr = name, float(check_positive(snr, "snr"))
        half = generator(key, 7).standard_normal((SAMPLES // 2, n))
        self.noise = np.concatenate([half, -half])
        self.key = key

    def climbed(self, stage: float) -> ValueAndGradient:
        return self._value_and_slope

    def value(self, points: Float[np.ndarray, "K n"]) -> float:
        return self._value_and_slope(points)[0]

    def _value_and_slope(
        self, points: Float[np.ndarray, "K n"]
    ) -> tuple[float, Float[np.ndarray, "K n"]]:
        """The average over tokens and draws, and its gradient.

        With the noise z = y - h e_k, p(j|y) is the softmax over j of -|z + h (e_k - e_j)|^2 / 2:
        all depends on differences of points.
        """
        K, n = points.shape
        h, samples = float(np.sqrt(self.snr)), len(self.noise)
        total, slope = 0.0, np.zeros((K, n))
        for k in range(K):
            steps = h * (points[k] - points)  # (K, n)
            logits = -self.noise @ steps.T - np.square(steps).sum(axis=1) / 2
            top = logits.max(axis=1, keepdims=True)
            p = np.exp(logits - top)
            mass = p.sum(axis=1, keepdims=True)
            p /= mass
            if self.name == "accuracy":
                best = logits.argmax(axis=1)
                peak = p[np.arange(samples), best]
                total += float(peak.sum())
                # d max p / d logit_j = max p (1[j = best] - p_j)
                pull = -peak[:, None] * p
                pull[np.arange(samples), best] += peak
            else:
                log_p = logits - top - np.log(mass)
                terms = p * log_p
                inner = terms.sum(axis=1, keepdims=True)
                total += float(inner.sum())
                # d sum p log p / d logit_j = p_j (log p_j - sum p log p)
                pull = terms - p * inner
            # d logit_j / d e_k = -h (z + h (e_k - e_j)), and minus that for e_j.
            by_noise = pull.T @ self.noise
            moved = -h * (by_noise + pull.sum(axis=0)[:, None] * steps)
            slope -= moved
            slope[k] += moved.sum(axis=0)
        scale = 1 / (K * samples)
        constant = 0.0 if self.name == "accuracy" else float(np.log(K))
        return constant + total * scale, slope * scale


class Custom(Objective):
    """A user's function: of NumPy arrays with its gradient, or one that JAX can differentiate."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        self._function = function
        self._compiled: Any = None

    def climbed(self, stage: float) -> ValueAndGradient:
        return self._value_and_slope

    def value(self, points: Float[np.ndarray, "K n"]) -> float:
        found = self._value_and_slope(points)[0]
        return -math.inf if math.isnan(found) else found

    def _value_and_slope(
        self, points: Float[np.ndarray, "K n"]
    ) -> tuple[float, Float[np.ndarray, "K n"]]:
        if self._compiled is None:
            found = self._function(points)
            if isinstance(found, tuple):
                self._compiled = self._function
            else:
                import jax  # slow to import

                self._compiled = jax.jit(jax.value_and_grad(self._function))
        found = self._compiled(points)
        if not isinstance(found, tuple) or len(found) != 2:
            expected = "a function that returns a number, or a number and a gradient"
            reject("objective", f"one that returns {type(found).__name__}", expected)
        value, slope = float(found[0]), np.asarray(found[1], dtype=np.float64)
        if slope.shape != points.shape:
            expected = f"a function whose gradient has the shape {points.shape} of the points"
            reject("objective", f"a gradient of shape {slope.shape}", expected)
        return value, slope


def objective_of(objective: Any, n: int, snr: float | None, key: Any) -> Objective:
    """The objective of a name or a function.

    Raises:
        ValueError: an unknown name, snr missing, or given where it means nothing.
    """
    if isinstance(objective, Objective):
        return objective
    sampled = objective in ("accuracy", "mutual_information")
    if sampled and snr is None:
        reject("snr", snr, f"given for {objective}")
    if not sampled and snr is not None:
        reject("snr", snr, "left out for an objective that has no noise")
    if callable(objective):
        return Custom(objective)
    if objective not in OBJECTIVES:
        reject("objective", objective, f"one of {', '.join(OBJECTIVES)}, or a function")
    if sampled:
        assert snr is not None
        return Sampled(objective, snr, n, key)
    return Distance(minimum=objective == "min_distance")
