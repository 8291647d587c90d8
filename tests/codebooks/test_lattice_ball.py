"""Balls of lattice points: of the lattice, distinct, dense, and as many as asked for."""

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.codebooks import lattice
from tokenkl.codebooks.lattice import nearest_dn, nearest_dn_plus


@pytest.mark.parametrize(
    ("K", "n"), [(1, 3), (2, 1), (50, 1), (30, 2), (200, 4), (241, 8), (1000, 8), (90, 9), (60, 24)]
)
def test_points_of_the_lattice(K: int, n: int) -> None:
    ball = tk.ball_codebook(K, n)
    points = np.asarray(ball.points)
    assert points.shape == (K, n)
    nearest = nearest_dn if n < 8 else nearest_dn_plus
    assert np.array_equal(nearest(points), points)
    if K > 1:
        assert ball.min_distance() == pytest.approx(2 if n == 1 else np.sqrt(2), rel=1e-12)


def test_nothing_nearer_is_left_out() -> None:
    """Against all points of D_4 in a box."""
    found = np.asarray(tk.ball_codebook(300, 4).points)
    axes = np.meshgrid(*[np.arange(-9, 10)] * 4, indexing="ij")
    box = np.stack(axes, axis=-1).reshape(-1, 4)
    box = box[box.sum(axis=1) % 2 == 0]
    # The ball's centre is not told, but a ball is convex: no point of it is left out.
    middle = found.mean(axis=0)
    inside = box[((box - middle) ** 2).sum(axis=1) < (0.8 * np.abs(found - middle).max()) ** 2]
    assert len(inside) > 50
    assert {tuple(p) for p in inside} <= {tuple(p) for p in found.astype(int)}


def test_more_compact_than_the_box() -> None:
    """As many points, as far apart, with less power than FSQ and the cut of E8."""
    for rival in (tk.FSQ((3,) * 8), tk.e8_codebook()):
        ball = tk.scale_to(tk.ball_codebook(6561, 8), power=1.0)
        assert ball.min_distance() > 1.07 * tk.scale_to(rival, power=1.0).min_distance()


def test_kissing_number_of_e8() -> None:
    """The 241 points of least power are one and its neighbours: 240 of norm 2."""
    ball = tk.centre(tk.ball_codebook(241, 8))
    assert ball.average_power() == pytest.approx(240 / 241 * 2, rel=1e-12)


def test_as_it_is_typed() -> None:
    assert np.array_equal(tk.codebook("ball:40:5").points, tk.ball_codebook(40, 5).points)
    for spec in ("ball:40", "ball:x:5", "ball:40:5:1", "ball:-1:3"):
        with pytest.raises(ValueError, match="ball:K:N"):
            tk.codebook(spec)


@pytest.mark.parametrize(
    ("K", "n", "sentence"),
    [
        (0, 3, "K must be a whole number, at least 1"),
        (3, 0, "n must be a whole number, at least 1"),
        (2**15, 3, "K must be at most 16,384"),
        (2**10, 2**10, "n must be at most 256"),
    ],
)
def test_refusals(K: int, n: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tk.ball_codebook(K, n)


def test_shells_of_far_more_points_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lattice._within(np.full(30, 0.01), 4.0, 1000) is None
    monkeypatch.setattr(lattice, "_within", lambda *_: None)
    with pytest.raises(ValueError, match="smaller in 30 dimensions, where a shell has too many"):
        tk.ball_codebook(1000, 30)
