"""Transforms: what they promise, on every kind of codebook, lazily where it matters."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import tokenkl as tk
from tokenkl.codebooks import (
    FSQ,
    Codebook,
    OneHot,
    PointCodebook,
    ProductCodebook,
    ResidualCodebook,
)
from tokenkl.codebooks.transforms import average_power, centre, permute, perturb, scale_to
from tokenkl.optimality import min_distance

RNG = np.random.default_rng(5)
STAGES = [RNG.normal(1, 1, size=(size, 3)) for size in (2, 3)]
LEVELS = [[0.0, 1.0, 5.0], [-2.0, 7.0]]


def simplex(K: int) -> np.ndarray:
    return RNG.dirichlet(np.ones(K))


CODEBOOKS = {
    "points": PointCodebook(RNG.normal(3, 2, size=(7, 3))),
    "points, prior": PointCodebook(RNG.normal(3, 2, size=(7, 3)), simplex(7)),
    "fsq": FSQ((3, 4), grid="rounding", order="F"),
    "product": ProductCodebook(LEVELS),
    "product, priors": ProductCodebook(LEVELS, [simplex(3), None], order="F"),
    "product, joint": ProductCodebook(LEVELS, prior=simplex(6), order="F"),
    "one-hot": OneHot(5, scale=3.0),
    "one-hot, prior": OneHot(5, simplex(5)),
    "residual": ResidualCodebook(STAGES),
    "residual, prior": ResidualCodebook(STAGES, simplex(6)),
}
every_codebook = pytest.mark.parametrize("cb", list(CODEBOOKS.values()), ids=list(CODEBOOKS))


def brute_power(cb: Codebook) -> float:
    deviations = cb.points - cb.prior @ cb.points
    return cb.prior @ np.square(deviations).sum(axis=1)


@every_codebook
def test_centre(cb: tk.Codebook) -> None:
    centred = centre(cb)
    np.testing.assert_allclose(centred.prior @ centred.points, 0, atol=1e-14)
    np.testing.assert_allclose(centred.points, cb.points - cb.prior @ cb.points, atol=1e-14)
    np.testing.assert_allclose(centred.prior, cb.prior, rtol=1e-14)
    if isinstance(cb, ProductCodebook):
        assert type(centred) is ProductCodebook
        assert (centred.order, centred.factorises) == (cb.order, cb.factorises)
    elif isinstance(cb, ResidualCodebook):
        assert isinstance(centred, ResidualCodebook)
    else:
        assert isinstance(centred, PointCodebook)


@every_codebook
def test_average_power(cb: tk.Codebook) -> None:
    assert average_power(cb) == pytest.approx(brute_power(cb), rel=1e-13)


@every_codebook
@pytest.mark.parametrize("target", [1.0, 0.3, 7e5])
def test_scale_to(cb: tk.Codebook, target: float) -> None:
    for name, measure in {
        "box": lambda c: np.abs(c.points).max(),
        "power": brute_power,
        "min_distance": min_distance,
    }.items():
        scaled = scale_to(cb, **{name: target})
        assert measure(scaled) == pytest.approx(target, rel=1e-13)
        kind = ProductCodebook if isinstance(cb, FSQ) else type(cb)
        assert type(scaled) is kind
        np.testing.assert_allclose(scaled.prior, cb.prior, rtol=1e-14)
        np.testing.assert_allclose(
            scaled.points / np.abs(scaled.points).max(),
            cb.points / np.abs(cb.points).max(),
            atol=1e-14,
        )
        if isinstance(cb, ProductCodebook):
            assert isinstance(scaled, ProductCodebook)
            assert (scaled.order, scaled.factorises) == (cb.order, cb.factorises)


def test_a_box_is_met_exactly() -> None:
    assert np.abs(scale_to(CODEBOOKS["points"], box=1).points).max() == 1


def test_power_of_points_far_from_the_origin_does_not_cancel() -> None:
    points = np.array([[0.0], [1e-6]])
    far = PointCodebook(points + 1024)
    gap = float(np.diff(far.points[:, 0])[0])
    assert average_power(far) == pytest.approx(gap**2 / 4, rel=1e-12)


def test_big_codebooks_stay_lazy() -> None:
    tracemalloc.start()
    grid = FSQ((17,) * 6, grid="rounding", order="F")
    grids = [centre(grid), *(scale_to(grid, **{c: 2.0}) for c in ("box", "power", "min_distance"))]
    hot = OneHot(10**6)
    hots = [scale_to(hot, **{name: 2.0}) for name in ("box", "power", "min_distance")]
    big = ResidualCodebook([np.random.default_rng(s).normal(size=(64, 2)) for s in range(20)])
    bigs = [centre(big), scale_to(big, box=1.0), scale_to(big, power=1.0)]
    powers = [average_power(cb) for cb in [*grids, *hots, *bigs]]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert all(type(cb) is ProductCodebook and cb.K == grid.K for cb in grids)
    assert powers[2] == pytest.approx(2, rel=1e-13)
    assert min_distance(grids[3]) == pytest.approx(2, rel=1e-13)
    assert isinstance(hots[0], OneHot)
    assert hots[0].scale == 2
    assert powers[5] == pytest.approx(2, rel=1e-13)
    assert min_distance(hots[2]) == pytest.approx(2, rel=1e-13)
    assert powers[-1] == pytest.approx(1, rel=1e-12)
    assert "FSQ 17^6" in grids[0].label
    with pytest.raises(ValueError, match="points must be at most"):
        centre(hot)
    with pytest.raises(ValueError, match="points must be at most"):
        perturb(grid, 0.1, 0)


def test_perturb() -> None:
    cb = FSQ((20, 30), simplex(600))
    moved = perturb(cb, 0.01, 3)
    noise = (moved.points - cb.points).ravel()
    assert abs(noise.std() / 0.01 - 1) < 0.1
    assert abs(noise.mean()) < 0.002
    np.testing.assert_allclose(moved.prior, cb.prior, rtol=1e-13)
    np.testing.assert_array_equal(perturb(cb, 0.01, 3).points, moved.points)
    assert (perturb(cb, 0.01, 4).points != moved.points).all()
    boxed = perturb(cb, 0.01, 3, box=1.0)
    np.testing.assert_array_equal(boxed.points, np.clip(moved.points, -1, 1))
    key = jax.random.key(0)
    np.testing.assert_array_equal(perturb(cb, 0.1, key).points, perturb(cb, 0.1, key).points)
    assert perturb(FSQ((2, 2)), 100.0, 0, box=1.0).K == 4  # may coincide in the corners


def test_permute() -> None:
    cb = CODEBOOKS["product, joint"]
    moved = permute(cb, 1)
    assert sorted(moved.points.tolist()) == sorted(cb.points.tolist())
    assert moved.points.tolist() != cb.points.tolist()
    np.testing.assert_array_equal(moved.prior, cb.prior)
    np.testing.assert_array_equal(permute(cb, 1).points, moved.points)


def test_codebooks_with_equal_points_pass_through() -> None:
    cb = PointCodebook([[0.0], [0.0], [3.0]], allow_duplicates=True)
    assert centre(cb).K == 3
    assert scale_to(cb, box=1).points[:, 0].tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="min_distance is above 0"):
        scale_to(cb, min_distance=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cb: scale_to(cb), "exactly one of box, power, min_distance; got none"),
        (lambda cb: scale_to(cb, box=1, power=1), "exactly one .* got box, power"),
        (lambda cb: scale_to(cb, box=0), "box must be above 0"),
        (lambda cb: scale_to(cb, power=float("nan")), "power must be finite"),
        (lambda cb: scale_to(cb, min_distance=-1), "min_distance must be above 0"),
        (
            lambda cb: scale_to(PointCodebook([[0.0]]), box=1),
            "codebook must be a codebook whose box",
        ),
        (
            lambda cb: scale_to(PointCodebook([[1.0]]), power=1),
            "codebook must be a codebook whose power",
        ),
        (lambda cb: scale_to(OneHot(1), min_distance=1), "K must be at least 2"),
        (lambda cb: perturb(cb, 0, 1), "sd must be above 0"),
        (lambda cb: perturb(cb, 1, 1, box=-1), "box must be above 0"),
        (lambda cb: perturb(cb, 1, -1), "key must be a whole number"),
        (lambda cb: permute(cb, 1.5), "key must be a whole number"),
    ],
)
def test_bad_input_is_refused(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(CODEBOOKS["points"])


@pytest.mark.parametrize("kind", ["points", "product", "residual"])
@pytest.mark.parametrize("offset", [0.0, 1e8 + 0.3])
def test_power_of_a_nearly_certain_token_far_away(kind: str, offset: float) -> None:
    """10 p up to terms of the order of p^2, wherever the tokens are."""
    p = 1e-15
    line, law = np.array([0.0, 1.0, 3.0]) + offset, [1 - 2 * p, p, p]
    makers: dict[str, Callable[[], Codebook]] = {
        "points": lambda: PointCodebook(line[:, None], law),
        "product": lambda: ProductCodebook([line], [law]),
        "residual": lambda: ResidualCodebook([line[:, None]], stage_priors=[law]),
    }
    cb = makers[kind]()
    assert average_power(cb) == pytest.approx(10 * p, rel=1e-12, abs=0)
    assert cb.covariance_eigenvalues() == pytest.approx(10 * p, rel=1e-12, abs=0)


@pytest.mark.parametrize("kind", [FSQ, PointCodebook])
def test_tokens_that_meet_when_they_are_moved(kind: type[Codebook]) -> None:
    """Rounding makes them equal; every quantity is defined with them."""
    cb = FSQ((3,)) if kind is FSQ else PointCodebook([[-1.0], [0.0], [1.0]])
    assert cb.shifted([1e20]).points.tolist() == [[1e20]] * 3
    assert cb.scaled(1e-200, 1e200).min_distance() == 0
