"""The channel: every codebook kind against plain formulas, and float32 between near-duplicates."""

from typing import Any, cast

import jax
import numpy as np
import pytest
from scipy import special

import tokenkl as tk
from tokenkl import channel

rng = np.random.default_rng(7)
CODEBOOKS: dict[str, tk.Codebook] = {
    "points": tk.PointCodebook(rng.standard_normal((7, 3)) + 30, rng.dirichlet(np.ones(7))),
    "grid C": tk.FSQ((3, 2, 4), priors=[[0.2, 0.3, 0.5], None, [0.1, 0.2, 0.3, 0.4]]),
    "grid F": tk.FSQ((3, 2, 4), order="F"),
    "grid, joint prior": tk.FSQ((2, 3), rng.dirichlet(np.ones(6))),
    "one-hot": tk.OneHot(5, [0.1, 0.2, 0.3, 0.2, 0.2], scale=1.7),
    "residual": tk.ResidualCodebook([rng.standard_normal((3, 2)), rng.standard_normal((4, 2))]),
}


def _reference(codebook: tk.Codebook, y: np.ndarray, snr: float) -> np.ndarray:
    """log p(k | y) from squared distances, in long double."""
    points = codebook.points.astype(np.longdouble)
    distance = ((y[:, None, :] - np.sqrt(np.longdouble(snr)) * points) ** 2).sum(axis=-1)
    logits = codebook.log_prior - distance / 2
    top = logits.max(axis=1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", CODEBOOKS)
@pytest.mark.parametrize("snr", [0.0, 1e-6, 0.5, 40.0, 1e6])
def test_against_plain_formulas(name: str, snr: float) -> None:
    codebook = CODEBOOKS[name]
    _, y = channel.sample(codebook, snr, 20, key=3)
    expected = _reference(codebook, y, snr)
    log_posterior = channel.log_posterior(codebook, y, snr)
    likely = expected > -30
    np.testing.assert_allclose(
        log_posterior[likely], expected[likely], atol=1e-8 if snr > 1e3 else 1e-11
    )
    np.testing.assert_allclose(special.logsumexp(log_posterior, axis=-1), 0, atol=1e-12)
    p, points = np.exp(expected).astype(float), codebook.points
    mean = p @ points
    np.testing.assert_allclose(channel.denoiser(codebook, y, snr), mean, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(
        channel.score(codebook, y, snr), np.sqrt(snr) * mean - y, rtol=1e-7, atol=1e-7
    )
    away = points - mean[:, None, :]
    covariance = np.einsum("bk,bki,bkj->bij", p, away, away)
    np.testing.assert_allclose(
        channel.posterior_covariance(codebook, y, snr), covariance, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("snr", [1e-6, 1e-2, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("traced", [False, True])
def test_float32_between_near_duplicates(snr: float, traced: bool) -> None:
    """Within 1e-4 nats of float64 on the same (float32) observation, tokens 1e-3 apart."""
    points = rng.uniform(-1, 1, (50, 8))
    points[25:] = points[:25] + 1e-3 * rng.choice([-1, 1], (25, 8)) / np.sqrt(8)
    points = points.astype(np.float32).astype(float)
    codebook = tk.PointCodebook(points)
    _, y = channel.sample(codebook, snr, 200, key=1)
    y = y.astype(np.float32)
    exact = _reference(codebook, y.astype(np.longdouble), snr)
    function: Any = channel.log_posterior
    if traced:
        function = jax.jit(channel.log_posterior)
    answer = np.asarray(function(codebook, y, np.float32(snr)))
    assert answer.dtype == np.float32
    # Only where the probability is not negligible can an absolute error in nats be asked for.
    likely = exact > -12
    assert np.abs(answer - exact)[likely].max() < 1e-4


@pytest.mark.parametrize(
    "codebook",
    [
        tk.FSQ((2, 3)),
        tk.PointCodebook([[0.0], [1.0]]),
        tk.Product([tk.OneHot(3), tk.PointCodebook([[0.0, 1.0], [1.0, 3.0]])]),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "function",
    [channel.log_posterior, channel.denoiser, channel.score, channel.posterior_covariance],
)
def test_float32_is_answered_in_float32(codebook: tk.Codebook, function: Any) -> None:
    y = np.zeros((2, codebook.n))
    for kind in (np.float32, np.float64):
        assert function(codebook, y.astype(kind), 1.0).dtype == kind


def test_sample_follows_the_prior() -> None:
    codebook = CODEBOOKS["grid C"]
    N = 200_000
    ids, y = channel.sample(codebook, 4.0, N, key=9)
    counts = np.bincount(ids, minlength=codebook.K)
    chi2 = ((counts - N * codebook.prior) ** 2 / (N * codebook.prior)).sum()
    assert special.chdtrc(codebook.K - 1, chi2) > 1e-5
    noise = y - 2 * codebook.points_at(ids)
    assert abs(noise.mean()) < 4.3 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4.3 * np.sqrt(2 / noise.size)
    again = channel.sample(codebook, 4.0, N, key=9)
    assert (again[0] == ids).all()
    assert (again[1] == y).all()


def test_posterior_is_calibrated() -> None:
    """E[log p(k|Y)] over samples is -H(k|Y), which the exact estimator knows."""
    codebook = CODEBOOKS["grid F"]
    ids, y = channel.sample(codebook, 3.0, 20_000, key=2)
    loss = -np.take_along_axis(channel.log_posterior(codebook, y, 3.0), ids[:, None], axis=1)
    error = loss.std() / np.sqrt(loss.size)
    assert abs(loss.mean() - float(tk.conditional_entropy(codebook, 3.0))) < 4.3 * error


def test_lazy_grids_and_broadcasting() -> None:
    huge = tk.FSQ((17,) * 6)
    _, y = channel.sample(huge, 50.0, 4, key=0)
    assert channel.denoiser(huge, y, 50.0).shape == (4, 6)
    with pytest.raises(ValueError, match="small enough"):
        channel.log_posterior(huge, y, 50.0)
    small = tk.FSQ((3, 3))
    y = rng.standard_normal((5, 1, 2))
    assert channel.log_posterior(small, y, np.ones(4)).shape == (5, 4, 9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: channel.sample(tk.FSQ((2,)), cast(Any, [1.0, 2.0]), 3, key=0),
            "snr must be one number",
        ),
        (lambda: channel.sample(tk.FSQ((2,)), 1.0, 0, key=0), "n_samples must be"),
        (lambda: channel.denoiser(tk.FSQ((2, 2)), np.zeros((3, 5)), 1.0), "y must be"),
        (
            lambda: channel.denoiser(tk.FSQ((2, 2)), np.full((3, 2), np.nan), 1.0),
            "y must be finite",
        ),
        (lambda: channel.score(tk.FSQ((2, 2)), np.zeros((3, 2)), -1.0), "snr must be"),
        (lambda: channel.score(tk.FSQ((2, 2)), np.zeros((3, 2)), np.ones(7)), "snr must be"),
        (
            lambda: channel.log_posterior(cast(Any, np.eye(2)), np.zeros((3, 2)), 1.0),
            "codebook must be",
        ),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_class_is_the_functions() -> None:
    """What `tk.Gaussian` gives is what the functions give, bit by bit."""
    codebook = CODEBOOKS["grid C"]
    bound = tk.Gaussian(codebook)
    assert (bound.K, bound.variable) == (24, "snr")
    for ours, theirs in zip(
        bound.sample(2.0, 5, key=1), channel.sample(codebook, 2.0, 5, key=1), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    _, y = channel.sample(codebook, 2.0, 5, key=1)
    np.testing.assert_array_equal(
        bound.log_posterior(y, 2.0), channel.log_posterior(codebook, y, 2.0)
    )
    snr, sampled = np.array([0.5, 2.0]), tk.MonteCarlo(n_samples=64)
    own = bound.profile(snr, ["mmse"], method=sampled, key=3)
    other = tk.profile(codebook, snr, ["mmse"], method=sampled, key=3)
    assert own.to_json() == other.to_json()
    assert list(own.to_json())[:5] == ["codebook", "K", "n", "interval_level", "snr"]
    assert list(own.to_frame())[:3] == ["snr_db", "snr", "mmse"]
    assert tuple(bound.profile(snr).estimates) == tk.QUANTITIES


def test_what_is_no_codebook() -> None:
    with pytest.raises(ValueError, match="codebook must be a tokenkl codebook"):
        tk.Gaussian(cast(Any, np.eye(3)))
    with pytest.raises(ValueError, match="codebook must be a tokenkl codebook"):
        channel.sample(cast(Any, "a"), 1.0, 5, key=0)
