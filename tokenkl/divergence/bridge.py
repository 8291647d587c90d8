"""How far apart two tokens are as reverse diffusions: the path KL of two pinned bridges.

Pin the reverse diffusion at X_0 = a: its score is -(x - alpha a) / sigma^2. The drifts for two
points a1 and a2 differ by g^2 alpha (a1 - a2) / sigma^2, whatever the state, and
g^2 alpha^2 / sigma^4 = -d(snr)/dt. Girsanov's theorem then gives, for any schedule,

    KL(P1 || P2) = (1/2) ||a1 - a2||^2 (snr(t_min) - snr(t_max)),

and log dP1/dP2 ~ N(KL, 2 KL) under P1. The closed form and the simulation are two separate roads
to it: the simulation sees the drifts only, never the snr that they integrate to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import special

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import as_float_array, check_count, check_time, is_traced, reject
from tokenkl.estimate import Estimate
from tokenkl.schedule import Schedule

#: From this number of paths on, a central-limit interval for Gaussian log ratios is offered.
_CLT_PATHS = 100
EPS = np.finfo(float).eps


def path_kl(
    a1: Float[ArrayLike, "*leading1 n"],
    a2: Float[ArrayLike, "*leading2 n"],
    schedule: Schedule,
    t_min: Float[ArrayLike, "*times1"],
    t_max: Float[ArrayLike, "*times2"] = 1.0,
    *,
    common_start: bool = True,
) -> Estimate:
    """KL between the reverse diffusions pinned at a1 and at a2, run from t_max to t_min, in nats.

    The value is (1/2) ||a1 - a2||^2 (snr(t_min) - snr(t_max)) when both processes start from one
    common law at t_max. With `common_start=False` each starts from its own marginal
    N(alpha a, sigma^2 I) at t_max, whose KL adds (1/2) ||a1 - a2||^2 snr(t_max), so that only
    (1/2) ||a1 - a2||^2 snr(t_min) is left. Symmetric in a1 and a2 either way.

    Shapes: a1 and a2 are (..., n) with the same n. The result has the NumPy broadcast of four
    shapes: the leading axes of a1, those of a2, the shape of t_min and the shape of t_max. So to
    get every pair at every time, give the pairs a trailing axis of length one:
    `path_kl(a1[:, None], a2[:, None], schedule, times)` is (pairs, times).

    At t_min = 0 the KL of distinct points is inf wherever sigma(0) = 0, because the two path
    measures become singular; equal points give 0. `value` is differentiable in a1, a2, t_min and
    t_max by JAX.

    Returns:
        An `Estimate` in nats, whose numerical error is rounding.

    Raises:
        ValueError: unless 0 <= t_min <= t_max <= 1, the points are finite and shapes match.

    Example:
        >>> import tokenkl as tk
        >>> float(tk.path_kl([1.0], [-1.0], tk.FlowMatching(), 0.5))  # snr(1/2) = 1
        2.0
    """
    point1, point2 = as_float_array("a1", a1), as_float_array("a2", a2)
    _check_schedule(schedule)
    end, start = _check_times(t_min, t_max)
    for name, point in (("a1", point1), ("a2", point2)):
        if point.ndim < 1 or point.shape[-1] < 1:
            reject(name, f"an array of shape {point.shape}", "of shape (..., n) with n >= 1")
    if point1.shape[-1] != point2.shape[-1]:
        expected = f"of shape (..., {point1.shape[-1]}), like a1"
        reject("a2", f"an array of shape {point2.shape}", expected)
    shapes = (point1.shape[:-1], point2.shape[:-1], end.shape, start.shape)
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        what = "the shapes of a1, a2 (without the last axis), t_min and t_max"
        reject(what, shapes, "such that NumPy can broadcast them")
    with np.errstate(over="ignore"):
        difference = point1 - point2
    high, low = schedule.snr(end), (schedule.snr(start) if common_start else 0.0)
    xp = jnp if is_traced(difference, high, low, start) else np
    # In a power of two as unit, exactly: squares of small differences would underflow.
    largest = xp.abs(jax.lax.stop_gradient(difference) if xp is jnp else difference).max(axis=-1)
    unit = xp.ldexp(xp.ones_like(largest), xp.frexp(largest)[1] - 1)
    squared = ((difference / unit[..., None]) ** 2).sum(axis=-1)
    # Two limits are 0 rather than NaN: no time passes (inf - inf), and equal points (0 * inf).
    still = (end == start) & xp.isinf(low)
    gap = xp.where(still, 0.0, high) - xp.where(xp.isinf(low), 0.0, low)
    gap = xp.where((squared == 0) & xp.isinf(gap), 0.0, gap)
    with np.errstate(over="ignore"):
        value = 0.5 * squared * unit * gap * unit
    named: dict[str, Any] = {"method": "closed form", "quantity": "path KL", "unit": "nats"}
    if xp is jnp:
        return Estimate(xp.broadcast_to(value, shape), 0.0, np.nan, **named)
    with np.errstate(invalid="ignore", over="ignore"):
        rounding = 0.5 * squared * unit * (_snr_error(high) + _snr_error(low)) * unit
        rounding = rounding + EPS * (point1.shape[-1] + 4) * value
    # No difference and no time are exact, and so is inf at time 0; later it has overflown.
    certain = (squared == 0) | (gap == 0) | (np.isinf(value) & (end == 0))
    rounding = np.where(certain, 0.0, np.where(np.isinf(value), np.inf, rounding))
    value, rounding = (np.broadcast_to(number, shape)[()] for number in (value, rounding))
    return Estimate(value, 0.0, rounding, **named)


def _snr_error(snr: Any) -> Any:
    """Rounding of an snr: a few operations, and the exponent's where it is an exponential."""
    return EPS * (16 * snr + 2 * np.abs(special.xlogy(snr, snr)))


def simulate_path_kl(
    a1: Float[ArrayLike, " n"],
    a2: Float[ArrayLike, " n"],
    schedule: Schedule,
    t_min: float,
    t_max: float = 0.999,
    *,
    key: Any,
    n_paths: int = 4096,
    n_steps: int = 256,
) -> Estimate:
    """The path KL of `path_kl` (common start), by simulating the pinned diffusion; nats.

    Euler-Maruyama in float64: `n_paths` paths of the reverse SDE pinned at a1 start from
    N(alpha (a1 + a2) / 2, sigma^2 I) at t_max and run to t_min. Each step adds to the
    log-likelihood ratio of Girsanov's theorem from the drifts for a1 and for a2 at the state that
    the path has reached. The closed form is not used, nor that the drift difference does not
    depend on the state.

    The steps are equal in log snr. The scalar coefficients (alpha, sigma, f, g^2) are those at the
    step's middle in log snr. With the starting point of the step instead, as in the plain scheme,
    the sum over steps would be a one-sided Riemann sum with a bias of first order in the step;
    the midpoint makes it second order at no cost. The state still enters at the start of the step.

    In the returned `Estimate`, `standard_error` is the sample standard deviation over
    sqrt(n_paths). `numerical_error` bounds the discretisation error by what changes in the
    discretised drift-difference integral when the steps are made at least eight times finer, plus
    the change over the last halving of these (about three times the error that is left then),
    plus an allowance for rounding. With fewer than 100 paths no central-limit interval is offered.

    Raises `ValueError` for points that are not finite vectors of one length, times that break
    0 <= t_min <= t_max <= 1, fewer than 2 paths or steps, snr(t_max) = 0 (take t_max slightly
    below 1) and snr(t_min) = inf (take t_min above 0). Memory: a few n_paths x n arrays.
    """
    problem = _problem(a1, a2, schedule, t_min, t_max, n_paths, n_steps)
    _, ratios = _simulate(problem, n_paths, key)
    kl = _discretised_kl(problem)
    span = np.abs(schedule.log_snr(t_min) - schedule.log_snr(t_max))
    # Fine enough for second-order convergence to show, also where the caller's steps are not.
    n_fine = max(8 * n_steps, int(16 * span))
    fine, half_fine = (
        _discretised_kl(problem._replace(steps=_steps(schedule, t_min, t_max, n)))
        for n in (n_fine, n_fine // 2)
    )
    # Rounding of drift differences: the drifts themselves are of size |x| / sigma and
    # |a| sqrt(snr) per square root of a unit of log snr.
    size = np.linalg.norm(problem.a1) + np.linalg.norm(problem.a2)
    drift = np.sqrt(problem.a1.size * span) + size * np.sqrt(schedule.snr(t_min))
    rounding = np.finfo(float).eps * (8 * np.sqrt(2 * kl) * drift + n_fine * kl)
    return Estimate(
        value=ratios.mean(),
        standard_error=ratios.std(ddof=1) / np.sqrt(n_paths),
        numerical_error=abs(kl - fine) + abs(fine - half_fine) + rounding,
        n_samples=n_paths,
        method="euler-maruyama + girsanov",
        seed=seed_of(key),
        draws=draws_of(key),
        quantity="path KL",
        unit="nats",
        interval_supported=n_paths >= _CLT_PATHS,
        note="" if n_paths >= _CLT_PATHS else "too few paths for an interval",
    )


def simulate_log_ratios(
    a1: Float[ArrayLike, " n"],
    a2: Float[ArrayLike, " n"],
    schedule: Schedule,
    t_min: float,
    t_max: float = 0.999,
    *,
    key: Any,
    n_paths: int = 4096,
    n_steps: int = 256,
) -> Float[np.ndarray, " n_paths"]:
    """The log-likelihood ratios log dP1/dP2 of the paths behind `simulate_path_kl`, in nats.

    Same arguments, same paths for the same key, same errors. Up to discretisation they are
    independent draws of N(KL, 2 KL).
    """
    return _simulate(_problem(a1, a2, schedule, t_min, t_max, n_paths, n_steps), n_paths, key)[1]


class _Steps(NamedTuple):
    """One entry for each step, from noise to data."""

    h: np.ndarray  # length in t
    alpha: np.ndarray
    sigma: np.ndarray
    f: np.ndarray
    g2: np.ndarray


class _Problem(NamedTuple):
    a1: np.ndarray
    a2: np.ndarray
    start_mean: np.ndarray
    start_sigma: np.ndarray
    steps: _Steps


def _steps(schedule: Schedule, t_min: Any, t_max: Any, n_steps: int) -> _Steps:
    """Steps of equal length in log snr, with coefficients at their middles in log snr."""
    # Steps equal in log snr keep (rate of the drift) x (step in t) bounded at both ends, where the
    # coefficients blow up.
    low, high = schedule.snr(t_max), schedule.snr(t_min)
    log_snr = np.linspace(schedule.log_snr(t_max), schedule.log_snr(t_min), 2 * n_steps + 1)
    t = schedule.t_from_snr(np.clip(np.exp(log_snr), low, high))
    nodes, middles = t[::2], t[1::2]
    nodes[0], nodes[-1] = t_max, t_min
    nodes = np.maximum(np.minimum.accumulate(nodes), t_min)  # rounding must not turn time back
    coefficients = (c(middles) for c in (schedule.alpha, schedule.sigma, schedule.f, schedule.g2))
    return _Steps(-np.diff(nodes), *coefficients)


def _check_times(t_min: Any, t_max: Any) -> tuple[Any, Any]:
    t_min, t_max = check_time(t_min, "t_min"), check_time(t_max, "t_max")
    if not is_traced(t_min, t_max):
        try:
            end, start = np.broadcast_arrays(t_min, t_max)
        except ValueError:  # the caller checks shapes, with those of the points in view
            return t_min, t_max
        if (end > start).any():
            bad = np.argmax(end > start)
            reject("t_min", float(end.flat[bad]), f"at most t_max = {start.flat[bad]}")
    return t_min, t_max


def _check_schedule(schedule: Any) -> None:
    if not isinstance(schedule, Schedule):
        reject("schedule", schedule, "a tokenkl Schedule, such as LinearVP()")


def _problem(
    a1: Any, a2: Any, schedule: Any, t_min: Any, t_max: Any, n_paths: Any, n_steps: Any
) -> _Problem:
    """Check everything, and lay out the steps."""
    for name, value in (("a1", a1), ("a2", a2), ("t_min", t_min), ("t_max", t_max)):
        if is_traced(value):
            reject(name, "a traced value", "concrete, because the simulation runs in NumPy")
    a1, a2 = as_float_array("a1", a1, ndim=1), as_float_array("a2", a2, ndim=1)
    if a1.size < 1:
        reject("a1", f"an array of shape {a1.shape}", "of shape (n,) with n >= 1")
    if a1.shape != a2.shape:
        reject("a2", f"an array of shape {a2.shape}", f"of shape {a1.shape}, like a1")
    _check_schedule(schedule)
    t_min, t_max = _check_times(t_min, t_max)
    for name, t in (("t_min", t_min), ("t_max", t_max)):
        if t.ndim:
            reject(name, f"an array of shape {t.shape}", "one time")
    check_count(n_paths, "n_paths", minimum=2)
    check_count(n_steps, "n_steps", minimum=2)
    if schedule.snr(t_max) == 0:
        reject("t_max", float(t_max), f"slightly below 1, where {schedule.name} has snr > 0")
    if np.isinf(schedule.snr(t_min)):
        reject("t_min", float(t_min), f"above 0, where {schedule.name} has finite snr")
    start_mean = schedule.alpha(t_max) * (a1 + a2) / 2
    steps = _steps(schedule, t_min, t_max, n_steps)
    return _Problem(a1, a2, start_mean, schedule.sigma(t_max), steps)


def _discretised_kl(problem: _Problem) -> Any:
    """The KL of the two discretised chains: (1/2) sum of h |drift difference|^2 / g^2."""
    h, alpha, sigma, _, g2 = problem.steps
    return (
        0.5
        * ((problem.a1 - problem.a2) ** 2).sum()
        * (h * g2 / sigma**2 * (alpha / sigma) ** 2).sum()
    )


def _simulate(problem: _Problem, n_paths: int, key: Any) -> tuple[np.ndarray, np.ndarray]:
    """States at t_min, (n_paths, n), and log-likelihood ratios, (n_paths,), of paths under P1."""
    rng = generator(key)
    a1, a2 = problem.a1, problem.a2

    def drift(x: np.ndarray, a: np.ndarray, alpha: Any, sigma: Any, f: Any, g2: Any) -> np.ndarray:
        """Of the reverse SDE pinned at X_0 = a, per unit of t (which runs backwards)."""
        score = (alpha * a - x) / sigma**2
        return f * x - g2 * score

    x = problem.start_mean + problem.start_sigma * rng.standard_normal((n_paths, a1.size))
    ratios = np.zeros(n_paths)
    for h, *coefficients in zip(*problem.steps, strict=True):
        noise = np.sqrt(h) * rng.standard_normal(x.shape)  # Brownian increment of the step
        g = np.sqrt(coefficients[-1])
        drift1, drift2 = (drift(x, a, *coefficients) for a in (a1, a2))
        shift = (drift2 - drift1) / g  # of the mean of the Brownian increment, per unit of t
        ratios += (shift * noise).sum(axis=1) + 0.5 * h * (shift**2).sum(axis=1)
        x = x - h * drift1 + g * noise
    return x, ratios
