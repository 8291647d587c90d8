"""MAP decisions against the argmax over all tokens, in all regimes."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.channel import sample
from tokenkl.codebooks import LatticeCodebook
from tokenkl.numerics import decisions

RNG = np.random.default_rng(3)
EPS = np.finfo(float).eps


def dirichlet(size: int) -> np.ndarray:
    return np.maximum(RNG.dirichlet(np.full(size, 0.3)), 1e-12)


def prior(size: int) -> np.ndarray:
    weight = dirichlet(size)
    return weight / weight.sum()


CODEBOOKS = {
    "FSQ": tk.FSQ((3, 4, 5)),
    "FSQ, order F": tk.FSQ((3, 4, 2), order="F"),
    "product priors": tk.FSQ((5, 4), priors=[prior(5), prior(4)]),
    "unsorted levels": tk.ProductCodebook([np.array([0.3, -1.0, 2.0]), np.array([1.0, 0.0])]),
    "joint prior": tk.FSQ((3, 3), prior(9)),
    "one-hot": tk.OneHot(7),
    "one-hot, priors": tk.OneHot(7, prior(7), 2.0),
    "E8 points": tk.e8_codebook(),
    "E8 lattice": LatticeCodebook("D+", 3, 8),
    "D5 lattice": tk.d_codebook(5, 4),
    "plane": tk.PointCodebook(RNG.standard_normal((300, 2))),
    "plane, priors": tk.PointCodebook(RNG.standard_normal((300, 2)), prior(300)),
    "far from 0": tk.PointCodebook(RNG.standard_normal((200, 3)) + 30),
    "R^12": tk.PointCodebook(RNG.standard_normal((700, 12))),
    "R^12, priors": tk.PointCodebook(RNG.standard_normal((700, 12)), prior(700)),
    "RVQ": tk.ResidualCodebook([RNG.standard_normal((20, 4)), RNG.standard_normal((20, 4)) / 4]),
    "one token": tk.PointCodebook(np.ones((1, 3))),
}


def logits(codebook: tk.Codebook, y: np.ndarray, h: float) -> tuple[np.ndarray, np.ndarray]:
    """log pi_k - |y - h e_k|^2/2 by differences, and the rounding of the best of them."""
    squares = np.stack([((row - h * codebook.points) ** 2).sum(axis=-1) for row in y])
    values = codebook.log_prior - squares / 2
    # The smallest square is what counts; coordinates of size |y| + h |e| are rounded first.
    best = squares.min(axis=1)
    size = np.abs(y).max(axis=1) + h * np.abs(codebook.points).max()
    spread = h * np.ptp(codebook.points, axis=0).max()
    rounding = 8 * EPS * codebook.n * (best + size * (np.sqrt(best) + spread) + 1)
    return values, rounding + 32 * EPS * np.abs(values).max(axis=1)


@pytest.mark.parametrize("snr", [0.0, 1e-12, 1e-6, 1e-2, 1.0, 30.0, 1e4, 1e8])
@pytest.mark.parametrize("name", CODEBOOKS)
def test_argmax_over_all_tokens(name: str, snr: float) -> None:
    codebook = CODEBOOKS[name]
    _, y = sample(codebook, snr, 60, key=1)
    spread = np.random.default_rng(0).standard_normal((60, codebook.n))
    y = np.concatenate([y, y + 40 * spread, 1e4 * spread[:20]])  # far outside the box too
    found = tk.decide(codebook, y, snr)
    values, rounding = logits(codebook, y, np.sqrt(snr))
    chosen = values[np.arange(len(y)), found]
    assert (chosen >= values.max(axis=1) - rounding).all()
    # Rounding must not excuse everything: nearly all are the very argmax.
    if snr >= 1e-6:
        assert np.mean(found == values.argmax(axis=1)) > 0.9


@pytest.mark.parametrize("name", CODEBOOKS)
def test_no_noise_gives_the_token_back(name: str) -> None:
    codebook = CODEBOOKS[name]
    ids = np.arange(codebook.K)[:: max(1, codebook.K // 200)]
    y = 1e4 * codebook.points_at(ids)
    np.testing.assert_array_equal(tk.decide(codebook, y, 1e8), ids)


def test_agrees_with_a_posterior_in_its_accuracy() -> None:
    codebook = CODEBOOKS["product priors"]
    ids, y = sample(codebook, 5.0, 200_000, key=4)
    share = np.mean(tk.decide(codebook, y, 5.0) == ids)
    exact = float(tk.accuracy(codebook, 5.0).value)
    assert abs(share - exact) < 4.3 * np.sqrt(exact * (1 - exact) / ids.size)


def test_a_level_may_own_no_interval() -> None:
    codebook = tk.FSQ((3,), priors=[np.array([0.49, 0.02, 0.49])])
    y = np.linspace(-3, 3, 601)[:, None]
    values, _ = logits(codebook, y, np.sqrt(0.3))
    assert set(values.argmax(axis=1)) == {0, 2}
    np.testing.assert_array_equal(tk.decide(codebook, y, 0.3), values.argmax(axis=1))


@pytest.mark.parametrize("name", ["product priors", "plane", "plane, priors", "R^12", "E8 lattice"])
def test_noise_levels_may_differ_by_observation(name: str) -> None:
    codebook = CODEBOOKS[name]
    for count in (3, 200):  # few levels, and more than thresholds and trees are built for
        snr = np.geomspace(0.1, 1e3, count)[np.arange(200) % count]
        y = RNG.standard_normal((200, codebook.n)) * 3
        together = tk.decide(codebook, y, snr)
        alone = [int(tk.decide(codebook, *one)) for one in zip(y, snr, strict=True)]
        np.testing.assert_array_equal(together, alone)


def test_shapes_broadcast() -> None:
    y = RNG.standard_normal((4, 1, 2))
    found = tk.decide(tk.FSQ((3, 3)), y, np.array([1.0, 2.0, 3.0]))
    assert found.shape == (4, 3)
    assert tk.decide(tk.FSQ((3, 3)), y[0, 0], 2.0).shape == ()
    assert tk.decide(tk.FSQ((3, 3)), y[:0, 0], 2.0).shape == (0,)


@pytest.mark.parametrize(
    "codebook",
    [
        tk.FSQ((3, 3)),
        tk.PointCodebook(tk.FSQ((3, 3)).points),
        tk.PointCodebook(np.repeat(tk.FSQ((9, 9)).points, 2, axis=0), allow_duplicates=True),
        tk.PointCodebook(np.tile(np.eye(12), (3, 1)), allow_duplicates=True),
        tk.OneHot(6),
        tk.d_codebook(4, 3),
        LatticeCodebook("D+", 3, 4),
    ],
    ids=lambda codebook: repr(codebook),
)
def test_ties_go_to_the_smallest_id(codebook: tk.Codebook) -> None:
    # Coordinates that are multiples of 1/8: sums and squares are exact, and ties are many.
    scale = 1.25 if isinstance(codebook, LatticeCodebook) and codebook.lattice == "D+" else 1.0
    y = RNG.integers(-12, 13, size=(400, codebook.n)) / 8 / scale
    squares = ((y[:, None] - codebook.points) ** 2).sum(axis=-1) * scale**2
    first = np.round(squares, 9).argmin(axis=1)
    np.testing.assert_array_equal(tk.decide(codebook, y, 1.0), first)
    assert (np.round(squares, 9) == np.round(squares, 9).min(axis=1)[:, None]).sum() > len(y)


def test_equal_points_with_unequal_priors() -> None:
    codebook = tk.PointCodebook(
        np.repeat([[0.0], [1.0]], 3, axis=0),
        np.array([1, 3, 3, 2, 4, 4]) / 17,
        allow_duplicates=True,
    )
    assert tk.decide(codebook, [[-5.0], [6.0]], 4.0).tolist() == [1, 4]
    assert tk.decide(codebook, [[3.0]], 0.0).tolist() == [4]


def test_near_duplicates_at_high_snr() -> None:
    """Single precision cannot tell these tokens apart; what is left of it must not decide."""
    points = RNG.standard_normal((400, 16))
    points = np.concatenate([points, points + 1e-6 * RNG.standard_normal(points.shape)])
    codebook = tk.PointCodebook(points)
    h = 1e7
    y = h * points[::7] + RNG.standard_normal(points[::7].shape)
    np.testing.assert_array_equal(tk.decide(codebook, y, h**2), np.arange(800)[::7])


def test_seventeen_to_the_sixth_without_points() -> None:
    codebook = tk.FSQ((17,) * 6)
    ids, y = sample(codebook, 1e4, 20_000, key=0)
    assert np.mean(tk.decide(codebook, y, 1e4) == ids) > 0.99
    digits = codebook.to_digits(tk.decide(codebook, y, 16.0))
    nearest = np.abs(y[..., None] / 4 - codebook.levels[0]).argmin(axis=-1)
    np.testing.assert_array_equal(digits, nearest)


def test_the_tree_and_the_products_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plane", "plane, priors", "far from 0"):
        codebook = CODEBOOKS[name]
        y = RNG.standard_normal((500, codebook.n)) * 4 + codebook.points.mean(axis=0)
        by_tree = tk.decide(codebook, y, 2.0)
        with monkeypatch.context() as patch:
            patch.setattr(decisions, "TREE_DIMENSIONS", 0)
            np.testing.assert_array_equal(tk.decide(codebook, y, 2.0), by_tree)


@pytest.mark.parametrize(
    ("y", "snr", "sentence"),
    [
        (np.zeros((2, 3)), 1.0, "y must be an array whose last axis has length 2"),
        (np.zeros((2, 2)), -1.0, "snr must be at least 0"),
        (np.zeros((2, 2)), np.ones(3), "snr must be one that broadcasts"),
        ([[np.nan, 0.0]], 1.0, "y must be finite"),
    ],
)
def test_refusals(y: Any, snr: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tk.decide(tk.FSQ((2, 2)), y, snr)
    with pytest.raises(ValueError, match="codebook must be"):
        tk.decide(cast(Any, np.zeros((2, 2))), y, snr)


@given(
    scale=st.floats(-100.0, 100.0),
    snr=st.floats(0.0, 300.0),
    n=st.sampled_from([1, 3, 20]),
    K=st.sampled_from([5, 100]),
    uneven=st.booleans(),
)
@settings(deadline=None)
def test_squares_that_overflow_decide_nothing(
    scale: float, snr: float, n: int, K: int, uneven: bool
) -> None:
    """Where the signal is far above the noise every token is decided as it was sent."""
    rng = np.random.default_rng(0)
    points = 10**scale * rng.normal(size=(K, n))
    prior = rng.dirichlet(np.ones(K)) if uneven else None
    power = 10.0 ** max(snr, 20 - 2 * scale)
    codebook = tk.PointCodebook(points, prior)
    found = tk.decide(codebook, math.sqrt(power) * points, power)
    np.testing.assert_array_equal(found, np.arange(K))
