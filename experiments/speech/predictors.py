"""What is known of a geometry before any network is trained: candidates for predicting the outcome.

Quantities of the codebook are computed under the linear-VP schedule that the models were trained
and sampled with, with the token frequencies of the training examples as prior. Context is left
out: they describe one token alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

import tokenkl as tk
from experiments.speech.plans import SETTINGS
from experiments.speech.units import Material
from experiments.toy.predictors import SCHEDULE, lipschitz_constant, path_kl, sampler_snrs
from tokenkl._random import generator
from tokenkl.codebooks import Codebook, OneHot, PointCodebook, prior_from_tokens
from tokenkl.tts.geometry import place_tokens
from tokenkl.tts.tokenizers import Tokenizer

#: Label of each, and whether a large value is expected to be good (+1) or bad (-1).
PREDICTORS = {
    "mean NN distance D": 1,
    "area under A(t)": 1,
    "area under H(t)": -1,
    "5-step path KL": -1,
    "25-step path KL": -1,
    "Lipschitz constant": -1,
    "neighbours sound unlike": -1,
}


def codebook_with_prior(geometry: Any, at: Material, *, key: Any) -> Codebook:
    """The points of a geometry, as a unit with this key has them, and the frequencies of tokens."""
    prior = prior_from_tokens(np.concatenate([e.tokens for e in at.train]), at.tokenizer.K)
    placed = place_tokens(geometry, at.tokenizer.codebook(), view=SETTINGS.view, key=key)
    if isinstance(placed, OneHot):
        return OneHot(placed.K, prior, float(placed.scale))
    return PointCodebook(np.asarray(placed.points), prior, name=geometry, allow_duplicates=True)


def predict(
    codebook: Codebook, at: Material, *, key: int, samples: int = 2**12
) -> dict[str, float]:
    """All of `PREDICTORS`."""
    t = np.linspace(0.02, 0.98, 25)
    five, many = sampler_snrs(5), sampler_snrs(25)
    snr = np.concatenate([SCHEDULE.snr(t), five, many])
    area, coarse, fine = slice(0, 25), slice(25, 30), slice(30, 55)
    if isinstance(codebook, OneHot):
        accuracy, entropy, nats, mmse = _one_hot_profile(codebook, snr, key=key)
    else:
        names = ("accuracy", "conditional_entropy", "mutual_information", "mmse")
        found = tk.profile(codebook, snr, names, method=tk.MonteCarlo(samples), key=key)
        accuracy, entropy, nats, mmse = (np.asarray(found[name].value) for name in names)
    points = np.zeros((0, 0)) if isinstance(codebook, OneHot) else np.asarray(codebook.points)
    return {
        "mean NN distance D": tk.mean_nn_distance(codebook),
        "area under A(t)": float(np.trapezoid(accuracy[area], t)),
        "area under H(t)": float(np.trapezoid(entropy[area], t)),
        "5-step path KL": path_kl(snr[coarse], mmse[coarse], nats[coarse]),
        "25-step path KL": path_kl(snr[fine], mmse[fine], nats[fine]),
        # Of one-hot tokens: half way between two of them the covariance has eigenvalue |e|^2 / 2.
        "Lipschitz constant": (
            float(codebook.scale) ** 2 / 2
            if isinstance(codebook, OneHot)
            else lipschitz_constant(points, key=key, starts=32, rounds=40)
        ),
        "neighbours sound unlike": unlike_neighbours(codebook, at, key=key),
    }


def _one_hot_profile(
    codebook: OneHot, snr: Float[np.ndarray, " s"], *, key: int, samples: int = 2**9
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Accuracy, H(k|Y), I(k;Y) and MMSE of one-hot tokens with unequal priors.

    The library's own estimators are exact for equal priors, and for others treat the codebook as
    6561 points in 6561 dimensions, which takes minutes. Here p(k|Y) is pi_k exp(h |e| Y_k) up
    to a factor.
    """
    rng = generator(key, 13)
    prior = np.exp(np.asarray(codebook.log_prior))
    token = rng.choice(prior.size, size=samples, p=prior)
    rows = np.arange(samples)
    found = []
    for level in np.sqrt(snr) * float(codebook.scale):  # in units of |e|
        score = level * rng.standard_normal((samples, prior.size), dtype=np.float32)
        score[rows, token] += level**2
        score = score + np.log(prior)
        score -= score.max(axis=1, keepdims=True)
        p = np.exp(score)
        p /= p.sum(axis=1, keepdims=True)
        entropy = -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1)
        error = (1 - (p**2).sum(axis=1)) * float(codebook.scale) ** 2
        found.append((p.max(axis=1).mean(), entropy.mean(), error.mean()))
    accuracy, left, mmse = np.array(found).T
    start = -float(prior @ np.log(prior))
    return accuracy, left, start - left, mmse


def unlike_neighbours(codebook: Codebook, at: Material, *, key: int, swaps: int = 400) -> float:
    """How much the speech changes when a token is mistaken for a nearest neighbour.

    Mean absolute difference of log-mel features (nats) over the two frames of the token, when one
    token of a true sequence is exchanged for one of those nearest to it in `codebook`, and
    everything is decoded by the tokenizer. Tokens are drawn as often as they are used.
    """
    rng = generator(key, 11)
    examples = [at.test[int(i)] for i in rng.integers(len(at.test), size=swaps)]
    total = 0.0
    tokenizer: Tokenizer = at.tokenizer
    points = None if isinstance(codebook, OneHot) else np.asarray(codebook.points)
    for example in examples:
        place = int(rng.integers(example.tokens.size))
        token = int(example.tokens[place])
        other = _neighbour(points, codebook.K, token, rng)
        both = np.stack([example.tokens, example.tokens])
        both[1, place] = other
        with torch.no_grad():
            mel = tokenizer.decode(tokenizer.points_at(torch.from_numpy(both)))
        total += float((mel[0] - mel[1]).abs()[2 * place : 2 * place + 2].mean())
    return total / swaps


def _neighbour(
    points: Float[np.ndarray, "K n"] | None, K: int, token: int, rng: np.random.Generator
) -> int:
    """One of the nearest, at random where several are as near."""
    if points is None:
        return int((token + rng.integers(1, K)) % K)
    distances = ((points - points[token]) ** 2).sum(axis=1)
    distances[token] = np.inf
    nearest = np.flatnonzero(distances <= distances.min() * (1 + 1e-9) + 1e-12)
    return int(rng.choice(nearest))
