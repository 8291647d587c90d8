"""jax.grad of accuracy, entropy and MMSE in points, prior and snr, against finite differences."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import tokenkl as tk

QUANTITIES = (*tk.QUANTITIES, "sampling_error")
LEVELS = np.array([-1.0, -0.3, 0.8])
PRIOR = np.array([0.5, 0.2, 0.3])
#: Directions of the derivative with respect to a prior stay on the simplex.
ON_SIMPLEX = np.array([0.3, 0.1, -0.4])


def _difference(f: Callable[[float], float], step: float) -> float:
    """Fourth-order central difference at 0."""
    return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)


def _along(
    f: Callable[..., Any], at: list[np.ndarray], place: int, direction: np.ndarray
) -> Callable[[float], float]:
    """As a function of how far one argument is moved."""
    return lambda eps: float(f(*at[:place], at[place] + eps * direction, *at[place + 1 :]))


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_exact_grid(quantity: str) -> None:
    """Traced in float64, compiled once for all levels; differences are of the concrete path."""
    estimate = getattr(tk, quantity)

    def value(levels: Any, prior: Any, snr: Any) -> Any:
        return estimate(tk.ProductCodebook([levels], [prior]), snr).value

    gradient = jax.jit(jax.grad(value, argnums=(0, 1, 2)))
    directions = {"levels": np.array([0.2, 1.0, -0.5]), "prior": ON_SIMPLEX, "snr": np.array(1.0)}
    for snr in (0.4, 3.0, 12.0):
        at = [LEVELS, PRIOR, np.array(snr)]
        with jax.enable_x64(True):
            slopes = [np.asarray(one) for one in gradient(*at)]
        for place, (name, direction) in enumerate(directions.items()):
            by_jax = float((slopes[place] * direction).sum())
            label = f"{name} at {snr}"
            np.testing.assert_allclose(
                by_jax,
                _difference(_along(value, at, place, direction), 1e-3),
                rtol=2e-7,
                atol=1e-9,
                err_msg=label,
            )


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_sampled_points(quantity: str) -> None:
    """With common random numbers the sampled estimate is itself a smooth function."""
    rng = np.random.default_rng(2)
    points, snr = rng.standard_normal((3, 4)), 1.5
    method = tk.MonteCarlo(n_samples=256)

    def estimate(points: Any, prior: Any, snr: Any) -> tk.Estimate:
        codebook = tk.PointCodebook(points, prior)
        return getattr(tk, quantity)(codebook, snr, method=method, key=4)

    with jax.enable_x64(True):
        traced = jax.jit(lambda p, w, s: estimate(p, w, s).value)
        on_points, on_snr = jax.grad(lambda p, w, s: estimate(p, w, s).value, argnums=(0, 2))(
            points, PRIOR, snr
        )
        direction = rng.standard_normal(points.shape)
        by_difference = _difference(
            lambda e: float(traced(points + e * direction, PRIOR, snr)), 1e-4
        )
        np.testing.assert_allclose((on_points * direction).sum(), by_difference, rtol=1e-5)
        by_difference = _difference(lambda e: float(traced(points, PRIOR, snr + e)), 1e-4)
        np.testing.assert_allclose(on_snr, by_difference, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("quantity", ["accuracy", "conditional_entropy", "mmse", "sampling_error"])
def test_sampled_gradients_are_unbiased(quantity: str) -> None:
    """Against the exact derivative on a line, in points, prior and snr, within five errors."""
    snr, runs = 3.0, 24
    exact = {
        "points": lambda e: tk.ProductCodebook([LEVELS + e * np.array([0.2, 1.0, -0.5])], [PRIOR]),
        "prior": lambda e: tk.ProductCodebook([LEVELS], [PRIOR + e * ON_SIMPLEX]),
    }
    function = getattr(tk, quantity)

    def along(make: Callable[[float], tk.Codebook]) -> float:
        return _difference(lambda e: float(function(make(e), snr)), 1e-3)

    expected = {name: along(make) for name, make in exact.items()}

    def value(points: Any, prior: Any, key: int) -> Any:
        codebook = tk.PointCodebook(points, prior)
        method = tk.MonteCarlo(n_samples=4096)
        return function(codebook, snr, method=method, key=key).value

    plane = np.stack([LEVELS, np.zeros(3)], axis=1)
    draws: dict[str, list[float]] = {"points": [], "prior": []}
    with jax.enable_x64(True):
        for key in range(runs):
            on_points, on_prior = jax.grad(value, argnums=(0, 1))(plane, PRIOR, key)
            draws["points"].append(float((on_points[:, 0] * np.array([0.2, 1.0, -0.5])).sum()))
            draws["prior"].append(float((on_prior * ON_SIMPLEX).sum()))
    for name, values in draws.items():
        error = np.std(values, ddof=1) / np.sqrt(runs)
        assert abs(np.mean(values) - expected[name]) < 5.5 * error, name


@pytest.mark.slow
def test_i_mmse_by_autodiff() -> None:
    """dH/dsnr = -mmse/2, in float32 too (JAX's default)."""
    codebook = tk.FSQ((3,) * 8)
    gradient = jax.jit(jax.grad(lambda s: tk.conditional_entropy(codebook, s).value))(2.0)
    np.testing.assert_allclose(gradient, -tk.mmse(codebook, 2.0).value / 2, rtol=1e-5)


def test_vmap_and_jit() -> None:
    codebook = tk.FSQ((5, 3))
    snr = np.array([0.3, 1.0, 9.0], dtype=np.float32)
    batched = jax.jit(jax.vmap(lambda s: tk.accuracy(codebook, s).value))(snr)
    np.testing.assert_allclose(batched, tk.accuracy(codebook, snr).value, rtol=1e-5)


@pytest.mark.slow
def test_onehot_gradient_is_sampled() -> None:
    codebook = tk.OneHot(6)

    def value(snr: Any) -> Any:
        method = tk.MonteCarlo(n_samples=20_000)
        return tk.conditional_entropy(codebook, snr, method=method, key=1).value

    np.testing.assert_allclose(jax.grad(value)(2.0), -float(tk.mmse(codebook, 2.0)) / 2, rtol=0.05)
