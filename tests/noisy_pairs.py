"""Two noisy tokens on a line, on one plain grid: a second opinion on what affine logits lose."""

from __future__ import annotations

import numpy as np
from scipy import special


class NoisyPairs:
    """Y_1 and Y_2 at the nodes of a grid, and the exact law of the first token there."""

    def __init__(
        self, points: np.ndarray, law: np.ndarray, snr: float, position: int = 0, step: float = 0.15
    ) -> None:
        h = np.sqrt(snr)
        law = law if position == 0 else law.T
        line = np.arange(h * points.min() - 9, h * points.max() + 9, step)
        logs = -((line[:, None] - h * points) ** 2) / 2 - np.log(2 * np.pi) / 2
        with np.errstate(divide="ignore"):
            context = special.logsumexp(logs[:, None, :] + np.log(law), axis=2)
        joint = logs[:, None, :] + context[None]
        evidence = special.logsumexp(joint, axis=2)
        self.weight = np.exp(evidence.ravel()) * step**2
        self.log_p = (joint - evidence[..., None]).reshape(-1, len(points))
        first, second = np.meshgrid(line, line, indexing="ij")
        #: 1 and the observations of the token itself and of the other one.
        self.features = np.stack([np.ones(first.size), first.ravel(), second.ravel()], axis=1)
        self.prior = law.sum(axis=1)

    def expected(self, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.tensordot(self.weight, values, axes=1)
        return found

    def log_q(self, theta: np.ndarray) -> np.ndarray:
        found: np.ndarray = special.log_softmax(self.features @ theta.T, axis=1)
        return found

    def kl(self, log_p: np.ndarray, log_q: np.ndarray) -> float:
        """E KL(p || q), by terms that are never negative."""
        gap = np.where(log_p > -700, log_q - log_p, 0.0)
        return float(self.expected((np.exp(log_p) * (np.expm1(gap) - gap)).sum(axis=1)))

    def least(self) -> float:
        """By Newton's method on the grid."""
        p, theta = np.exp(self.log_p), np.zeros((self.log_p.shape[1], 3))
        K = len(theta)
        for _ in range(40):
            q = np.exp(self.log_q(theta))
            slope = (self.weight[:, None] * (q - p)).T @ self.features
            each = np.einsum("nk,na->nka", q, self.features).reshape(-1, 3 * K)
            hessian = -(self.weight[:, None] * each).T @ each
            for k in range(K):
                weighted = (self.weight * q[:, k])[:, None] * self.features
                hessian[3 * k : 3 * k + 3, 3 * k : 3 * k + 3] += weighted.T @ self.features
            step = np.linalg.lstsq(hessian, slope.ravel(), rcond=1e-12)[0].reshape(K, 3)
            value, size = self.kl(self.log_p, self.log_q(theta)), 1.0
            while self.kl(self.log_p, self.log_q(theta - size * step)) > value and size > 1e-3:
                size /= 2
            theta = theta - size * step
            if (step * slope).sum() < 1e-9 * value:
                break
        return self.kl(self.log_p, self.log_q(theta))
