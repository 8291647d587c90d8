"""Decisions between tokens of very different norms and priors, against logits in long double."""

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.channel import sample


def uneven(K: int, n: int, spread: float) -> np.ndarray:
    """Norms over `spread` decades, a tight cluster, and a last token at the centre of all."""
    rng = np.random.default_rng(K + n)
    points = rng.standard_normal((K - 1, n)) * 10 ** rng.uniform(-spread, 0, (K - 1, 1))
    points[: K // 4] = points[K // 4] + 1e-3 * rng.standard_normal((K // 4, n))
    return np.concatenate([points, points.mean(axis=0, keepdims=True)])


def shares(K: int, kind: str) -> np.ndarray | None:
    if kind == "equal":
        return None
    weight = 10.0 ** -np.random.default_rng(K).uniform(0, 1 if kind == "unequal" else 12, K)
    return weight / weight.sum()


def best_logits(codebook: tk.Codebook, y: np.ndarray, snr: float) -> np.ndarray:
    """Of every token in every row, relative to the largest; with 64 bits of mantissa."""
    points, y = codebook.points.astype(np.longdouble), y.astype(np.longdouble)
    root = np.sqrt(np.longdouble(snr))
    logits = np.stack([codebook.log_prior - ((row - root * points) ** 2).sum(1) / 2 for row in y])
    return np.asarray(logits - logits.max(axis=1, keepdims=True), dtype=float)


@pytest.mark.parametrize("kind", ["equal", "unequal", "twelve decades"])
@pytest.mark.parametrize("shape", [(9, 3), (40, 2), (229, 2), (229, 12), (700, 6), (1200, 16)])
@pytest.mark.parametrize("spread", [0.5, 4.0])
def test_argmax(shape: tuple[int, int], kind: str, spread: float) -> None:
    K, n = shape
    codebook = tk.PointCodebook(uneven(K, n, spread), shares(K, kind))
    rng = np.random.default_rng(1)
    for snr in (0.03, 4.0, 900.0, 3e7):
        _, y = sample(codebook, snr, 60, key=2)
        k, j = rng.integers(K, size=(2, 60))
        middle = np.sqrt(snr) * (codebook.points[k] + codebook.points[j]) / 2
        y = np.concatenate([y, middle + rng.standard_normal(y.shape), 30 * y[:20]])
        logits = best_logits(codebook, y, snr)
        chosen = logits[np.arange(len(y)), tk.decide(codebook, y, snr)]
        # Rounding of logits of size |y|^2 may decide between tokens that are as good.
        size = (y**2).sum(axis=1) + snr * (codebook.points**2).sum(axis=1).max()
        assert (chosen >= -1e-13 * (1 + size)).all()
        assert np.mean(chosen == 0) > 0.98


def test_levels_with_one_at_the_centre() -> None:
    """The same on a line and on a grid, whose thresholds depend on the priors and the SNR."""
    levels = np.array([0.0, -1e-3, 1e-3, 5.0, -0.2, 0.9])
    prior = np.array([1e-9, 0.2, 0.3, 1e-4, 0.4, 0.1 - 1e-4 - 1e-9])
    grid = tk.ProductCodebook([levels, levels[:3]], [prior, None])
    for snr in (1e-4, 1.0, 60.0, 1e5, 4e7):
        _, y = sample(grid, snr, 400, key=3)
        y = np.concatenate([y, 3 * y])
        logits = best_logits(grid, y, snr)
        chosen = logits[np.arange(len(y)), tk.decide(grid, y, snr)]
        assert (chosen >= -1e-13 * (1 + (y**2).sum(axis=1))).all()
        assert np.mean(chosen == 0) > 0.98
