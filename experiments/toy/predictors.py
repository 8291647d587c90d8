"""What the codebook alone says about a tokenization, under equal priors: the candidates for rank.

All are functions of the token's points and of the schedule; none has seen a network.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

import tokenkl as tk
from tokenkl._random import generator
from tokenkl.channels.gaussian import posterior_covariance

SCHEDULE = tk.LinearVP()
#: Label of each predictor, and whether a large value is expected to be good (+1) or bad (-1).
PREDICTORS = {
    "mean NN distance D": 1,
    "smallest distance": 1,
    "accuracy A at t = 1/2": 1,
    "area under A(t)": 1,
    "area under H(t)": -1,
    "5-step path KL": -1,
    "25-step path KL": -1,
    "Lipschitz constant": -1,
    "dimension": -1,
}


def sampler_snrs(steps: int) -> Float[np.ndarray, " steps"]:
    """SNRs at which an N-step sampler on equal times 1, 1 - 1/N, ..., 1/N calls its denoiser."""
    return SCHEDULE.snr(1 - np.arange(steps) / steps)


def predict(points: Float[np.ndarray, "K m"], *, samples: int, key: int) -> dict[str, float]:
    """All predictors of one codebook."""
    grid = _as_grid(points)
    t = np.linspace(0.02, 1.0, 50)
    quantities = ("accuracy", "conditional_entropy", "mutual_information", "mmse")
    five, many = sampler_snrs(5), sampler_snrs(25)
    snr = np.concatenate([SCHEDULE.snr(t), [SCHEDULE.snr(0.5)], five, many])
    method = None if isinstance(grid, (tk.ProductCodebook, tk.OneHot)) else tk.MonteCarlo(samples)
    found = tk.profile(grid, snr, quantities, method=method, key=key)
    accuracy, entropy = found["accuracy"].value, found["conditional_entropy"].value
    mmse, nats = found["mmse"].value, found["mutual_information"].value
    ends = np.cumsum([0, t.size, 1, five.size, many.size])
    area, middle, coarse, fine = (slice(a, b) for a, b in itertools.pairwise(ends))
    return {
        "mean NN distance D": tk.mean_nn_distance(grid),
        "smallest distance": tk.min_distance(grid),
        "accuracy A at t = 1/2": float(accuracy[middle][0]),
        "area under A(t)": float(np.trapezoid(accuracy[area], t)),
        "area under H(t)": float(np.trapezoid(entropy[area], t)),
        "5-step path KL": path_kl(snr[coarse], mmse[coarse], nats[coarse]),
        "25-step path KL": path_kl(snr[fine], mmse[fine], nats[fine]),
        "Lipschitz constant": lipschitz_constant(points, key=key),
        "dimension": float(points.shape[1]),
    }


def path_kl(snr: np.ndarray, mmse: np.ndarray, nats: np.ndarray) -> float:
    """Of the ancestral sampler, first to last SNR (docs/theory/sampler.md, statement 10)."""
    return float(mmse[:-1] @ np.diff(snr)) / 2 - float(nats[-1] - nats[0])


def _as_grid(points: np.ndarray) -> tk.Codebook:
    """The codebook, as a grid or as one-hot tokens where it is one, so that it is exact."""
    K, m = points.shape
    if m == K:
        norm = np.sqrt((points**2).sum(axis=1).mean())
        simplex = (np.eye(K) - 1 / K) * norm * np.sqrt(K / (K - 1))
        if np.allclose(points, simplex, rtol=0, atol=1e-9):
            return tk.OneHot(K, None, norm * np.sqrt(K / (K - 1)))
    levels = [np.unique(column) for column in points.T]
    if int(np.prod([level.size for level in levels])) == K:
        return tk.ProductCodebook(levels)
    return tk.PointCodebook(points, allow_duplicates=True)


def lipschitz_constant(
    points: Float[np.ndarray, "K m"], *, key: int, starts: int = 128, rounds: int = 60
) -> float:
    """Largest eigenvalue of Cov(e | y) that a search over y and the SNR finds.

    The Hessian of log p(x_t) is -I / sigma^2 + (alpha^2 / sigma^4) Cov(e | y), so this is the
    Lipschitz constant of the denoiser in the unit of the SNR. Half of the starts are midpoints of
    pairs of tokens, half are random; each is improved by random moves that shrink. A lower bound
    of the supremum; 1 for FSQ base 2, and (largest distance)^2 / 4 bounds it from above.
    """
    rng = generator(key, 7)
    codebook = tk.PointCodebook(points, allow_duplicates=True)
    pairs = rng.integers(len(points), size=(starts, 2))
    weight = np.where(np.arange(starts) % 2 == 0, 0.5, rng.random(starts))[:, None]
    place = weight * points[pairs[:, 0]] + (1 - weight) * points[pairs[:, 1]]
    log_snr = rng.uniform(-1, 5, starts)
    best = np.zeros(starts)
    scale = 0.5
    for _ in range(rounds):
        trial = place + scale * rng.standard_normal(place.shape) * (best > 0)[:, None]
        level = np.clip(log_snr + scale * rng.standard_normal(starts) * (best > 0), -3, 6)
        snr = np.exp(level)
        covariance = posterior_covariance(codebook, np.sqrt(snr)[:, None] * trial, snr)
        value = np.linalg.eigvalsh(covariance)[:, -1]
        better = value > best
        place[better], log_snr[better], best[better] = trial[better], level[better], value[better]
        scale = max(0.93 * scale, 0.01)
    return float(best.max())
