"""Every kind of codebook x (equal, unequal, joint prior) x (plain, jit, vmap, grad), against NumPy.

What is expected comes from squared distances and softmaxes written out here, its derivatives from
differences of it, and averages over observations from quadrature in the plane.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tokenkl as tk
from tokenkl import channel
from tokenkl.testing import reference_profile

RNG = np.random.default_rng(11)
POINTS = RNG.standard_normal((4, 2)) * [[0.2], [1.0], [1.5], [3.0]]
LEVELS = [np.array([-1.0, -0.2, 1.3]), np.array([0.7, -0.6])]
STAGES = [RNG.standard_normal((3, 2)), 0.4 * RNG.standard_normal((2, 2))]


@dataclasses.dataclass(frozen=True)
class Case:
    """A codebook as a function of its prior, and what law of the tokens that prior stands for."""

    build: Callable[[Any], tk.Codebook]
    prior: np.ndarray | None
    law: Callable[[np.ndarray], np.ndarray] = np.asarray

    @property
    def direction(self) -> np.ndarray:
        """Within the simplex, towards equal priors, where all quantities change."""
        assert self.prior is not None
        return -self.prior * (np.log(self.prior) - self.prior @ np.log(self.prior))


SKEW = np.array([0.7, 0.02, 0.2, 0.08])
JOINT = np.array([0.3, 0.05, 0.02, 0.4, 0.03, 0.2])
CASES = {
    "points": Case(lambda p: tk.PointCodebook(POINTS, p), SKEW),
    "points, equal": Case(lambda p: tk.PointCodebook(POINTS, p), None),
    "grid, joint": Case(lambda p: tk.ProductCodebook(LEVELS, prior=p), JOINT),
    "grid, joint, F": Case(lambda p: tk.ProductCodebook(LEVELS, prior=p, order="F"), JOINT),
    "grid, factor": Case(
        lambda p: tk.ProductCodebook(LEVELS, [p, None]),
        np.array([0.1, 0.85, 0.05]),
        lambda p: np.repeat(p, 2) / 2,
    ),
    "grid, equal": Case(lambda p: tk.ProductCodebook(LEVELS, prior=p), None),
    "one-hot": Case(lambda p: tk.OneHot(3, p, 1.7), np.array([0.3, 0.6, 0.1])),
    "one-hot, equal": Case(lambda p: tk.OneHot(3, p, 1.7), None),
    "residual": Case(lambda p: tk.ResidualCodebook(STAGES, p), JOINT),
    "residual, stage": Case(
        lambda p: tk.ResidualCodebook(STAGES, stage_priors=[None, p]),
        np.array([0.9, 0.1]),
        lambda p: np.tile(p, 3) / 3,
    ),
    "residual, equal": Case(lambda p: tk.ResidualCodebook(STAGES, p), None),
}
#: A plain `pytest` tries two of them.
ALL = [
    name if name in ("points", "grid, joint") else pytest.param(name, marks=pytest.mark.slow)
    for name in CASES
]
UNEQUAL = [name for name, case in CASES.items() if case.prior is not None]


def posterior(points: np.ndarray, law: np.ndarray, y: np.ndarray, snr: Any) -> np.ndarray:
    root = np.sqrt(np.asarray(snr, float))[..., None, None]
    squares = ((y[..., None, :] - root * points) ** 2).sum(axis=-1)
    logits = np.log(law) - squares / 2
    return np.exp(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))


def expected(name: str, points: np.ndarray, law: np.ndarray, y: np.ndarray, snr: Any) -> np.ndarray:
    p = posterior(points, law, y, snr)
    if name == "log_posterior":
        return np.log(p)
    if name == "denoiser":
        return p @ points
    if name == "score":
        return np.sqrt(np.asarray(snr))[..., None] * (p @ points) - y
    away = points - (p @ points)[..., None, :]
    return np.einsum("...k,...ki,...kj->...ij", p, away, away)


FUNCTIONS = ("log_posterior", "denoiser", "score", "posterior_covariance")


def setting(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, law, and observations at three noise levels, some of them far from all tokens."""
    codebook = case.build(case.prior)
    law = np.full(codebook.K, 1 / codebook.K) if case.prior is None else case.law(case.prior)
    y = 1.5 * np.random.default_rng(5).standard_normal((3, codebook.n))
    return np.asarray(codebook.points), law, y, np.array([0.3, 1.7, 6.0])


def every(codebook: tk.Codebook, y: Any, snr: Any) -> dict[str, Any]:
    return {name: getattr(channel, name)(codebook, y, snr) for name in FUNCTIONS}


@pytest.mark.parametrize("name", ALL)
def test_values(name: str) -> None:
    """Plain; jit with the codebook inside, as an argument, and made of a traced prior; vmap."""
    case = CASES[name]
    points, law, y, snr = setting(case)
    codebook = case.build(case.prior)

    def table(codebook: tk.Codebook, y: Any, snr: Any, prior: Any) -> dict[str, Any]:
        out = {
            "codebook inside": every(case.build(case.prior), y, snr),
            "codebook traced": every(codebook, y, snr),
            "vmap": jax.vmap(lambda y, s: every(codebook, y, s))(y, snr),
        }
        if prior is not None:
            out["prior traced"] = every(case.build(prior), y, snr)
            both = jax.vmap(lambda p: every(case.build(p), y, snr))(jnp.stack([prior, prior[::-1]]))
            out["vmap over priors"] = jax.tree.map(lambda x: x[0], both)
            out["another prior"] = jax.tree.map(lambda x: x[1], both)
        return out

    with jax.enable_x64(True):
        found = jax.jit(table)(codebook, y, snr, case.prior)
    found["plain"] = every(codebook, y, snr)
    for how, values in found.items():
        for function, value in values.items():
            here = case.law(np.flip(np.asarray(case.prior))) if how == "another prior" else law
            right = expected(function, points, here, y, snr)
            np.testing.assert_allclose(value, right, rtol=1e-10, atol=1e-12, err_msg=how + function)


def difference(f: Callable[[float], np.ndarray]) -> np.ndarray:
    """Fourth-order central difference at 0."""
    step = 1e-3
    return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)


@pytest.mark.parametrize("name", ALL)
def test_derivatives(name: str) -> None:
    """Along a line in the observations, in the noise level and in the prior."""
    case = CASES[name]
    points, law, y, snr = setting(case)
    along = np.random.default_rng(6).standard_normal(y.shape)

    def moved(e: Any) -> tuple[Any, Any, Any]:
        prior = None if case.prior is None else case.prior + e[2] * case.direction
        return y + e[0] * along, snr * (1 + e[1]), prior

    def ours(e: Any) -> dict[str, Any]:
        y, snr, prior = moved(e)
        return every(case.build(prior), y, snr)

    with jax.enable_x64(True):
        found = jax.jit(jax.jacfwd(ours))(np.zeros(3))
    for index in range(3 if case.prior is not None else 2):
        for function in FUNCTIONS:

            def theirs(e: float, function: str = function, index: int = index) -> np.ndarray:
                y, snr, prior = moved(e * np.eye(3)[index])
                return expected(function, points, law if prior is None else case.law(prior), y, snr)

            right = difference(theirs)
            assert np.abs(right).max() > 1e-2  # or nothing would be compared
            np.testing.assert_allclose(found[function][..., index], right, rtol=1e-7, atol=1e-8)


#: Cases whose points lie in a plane or on a line, for quadrature.
SNR = 2.5
SAMPLES, KEYS = 2**13, 16


def reference(codebook: tk.Codebook, snr: float) -> np.ndarray:
    found = reference_profile(codebook, snr)
    return np.array([float(found[name]) for name in tk.QUANTITIES])


@pytest.mark.slow
@pytest.mark.parametrize("name", UNEQUAL)
def test_derivatives_of_averages(name: str) -> None:
    """All quantities in prior and SNR, with standard errors of a few percent at most."""
    case = CASES[name]
    prior = case.prior
    assert prior is not None
    right = {
        "prior": difference(lambda e: reference(case.build(prior + e * case.direction), SNR)),
        "snr": difference(lambda e: reference(case.build(prior), SNR * (1 + e))),
    }

    def values(along: Any, key: int) -> Any:
        codebook = case.build(prior + along[0] * case.direction)
        how = tk.MonteCarlo(n_samples=SAMPLES)
        found = tk.profile(codebook, SNR * (1 + along[1]), method=how, key=key)
        return jnp.stack([found[one].value for one in tk.QUANTITIES])

    with jax.enable_x64(True):  # all at once: what is drawn is evaluated once
        table = np.array([jax.jacfwd(values)(jnp.zeros(2), key) for key in range(KEYS)])
    for index, what in enumerate(("prior", "snr")):
        draws = table[..., index]
        error = draws.std(axis=0, ddof=1) / np.sqrt(KEYS)
        size = np.abs(right[what])
        assert np.median(error / size) < 0.02, what
        # Student's quantile of 15 degrees of freedom, two in 1e5 for ten comparisons.
        np.testing.assert_array_less(np.abs(draws.mean(axis=0) - right[what]), 7.5 * error)
