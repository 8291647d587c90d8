"""Entropies of laws, and the KL divergence of laws that are known up to an error."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy import special

EPS = np.finfo(float).eps


def entropies(laws: Float[np.ndarray, "*rows K"]) -> Float[np.ndarray, " *rows"]:
    """In nats, of laws along the last axis, up to a common factor of each.

    By the odds of all others against the likeliest, so that a nearly certain law keeps its digits.
    """
    top = laws.argmax(axis=-1)[..., None]
    odds = laws / np.maximum(np.take_along_axis(laws, top, axis=-1), np.finfo(float).tiny)
    np.put_along_axis(odds, top, 0.0, axis=-1)
    others = odds.sum(axis=-1)
    return np.asarray(np.log1p(others) + special.entr(odds).sum(axis=-1) / (1 + others))


def entropy_of(law: Float[np.ndarray, " *shape"]) -> float:
    """The same of one law, a table of any shape."""
    return float(entropies(np.ravel(law)))


def kl_and_error(log_p: np.ndarray, law: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """KL(p || law) as a sum of terms that are never negative, and its error; p may have zeros."""
    possible = log_p > -np.inf
    outside = float(law[~possible].sum())  # each is a term 0 log 0 - 0 + q
    slack = float(error[~possible].sum())
    log_p, law, error = log_p[possible], law[possible], error[possible]
    if (law <= 0).any():
        return math.inf, 0.0 if (law + error <= 0).any() else math.inf
    p = np.exp(log_p)
    # p log(p/q) - p + q >= 0 in every term; r = q/p - 1 keeps the digits of near equality.
    r = (law - p) / p
    near = np.abs(r) < 0.5
    terms = p * np.where(near, _r_minus_log(np.where(near, r, 0.0)), r - np.log(law) + log_p)
    rest = np.where(error < law, error * np.abs(1 - p / law) + (error / law) ** 2 * p, 0.0)
    slack += float(np.where(error < law, rest, np.inf).sum() + 1e-14 * terms.sum())
    # A law that does not quite sum to one, and rounding of the differences q - p.
    slack += float(np.abs(law - p).sum()) * 8 * EPS + 64 * EPS**2
    return float(terms.sum()) + outside, slack


def _r_minus_log(r: np.ndarray) -> np.ndarray:
    """r - log(1 + r), r > -1, without cancellation at small r."""
    small = np.abs(r) < 1e-3
    tiny = np.where(small, r, 0.0)
    series = tiny**2 * (1 / 2 - tiny * (1 / 3 - tiny * (1 / 4 - tiny * (1 / 5 - tiny / 6))))
    return np.where(small, series, r - np.log1p(np.where(small, 0.0, r)))
