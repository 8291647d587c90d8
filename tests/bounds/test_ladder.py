"""Bounds on the sampler's KL: the masked one by brute force, published rates, what is refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import tokenkl as tk
from tokenkl import bounds


def orders(places: tuple[int, ...], sizes: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """All ways to show places, so many at a time."""
    if not sizes:
        yield []
        return
    for now in itertools.combinations(places, sizes[0]):
        rest = tuple(place for place in places if place not in now)
        for later in orders(rest, sizes[1:]):
            yield [now, *later]


def produced(law: np.ndarray, order: list[tuple[int, ...]]) -> np.ndarray:
    """The law of what is shown in this order, each token of a step by itself."""
    found = np.ones_like(law)
    axes, shown = set(range(law.ndim)), set[int]()
    for now in order:
        given = law.sum(axis=tuple(axes - shown), keepdims=True)
        for place in now:
            one = law.sum(axis=tuple(axes - shown - {place}), keepdims=True)
            found = found * np.divide(one, given, out=np.zeros_like(one * given), where=given > 0)
        shown |= set(now)
    return found


def kl(p: np.ndarray, q: np.ndarray) -> float:
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (1, 3), (3, 1), (1, 2, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("key", range(4))
def test_masked_steps_by_every_order(sizes: tuple[int, ...], key: int) -> None:
    rng = np.random.default_rng(key)
    law = rng.dirichlet(np.full(3**4, 0.05 if key else 5.0)).reshape((3,) * 4)
    if key == 3:  # four copies of one token, where all at once is as bad as the bound
        law = np.zeros((3,) * 4)
        law[range(3), range(3), range(3), range(3)] = [0.5, 0.3, 0.2]
    laws = [produced(law, order) for order in orders((0, 1, 2, 3), sizes)]
    sums = [one.sum() for one in laws]  # what is shown may be impossible, and then goes nowhere
    assert np.allclose(sums, 1) if law.min() > 0 else max(sums) < 1 + 1e-12
    mean = float(np.mean([kl(law, one) for one in laws]))
    bound = bounds.masked_step_bound(tk.sources.Joint(law), sizes)
    assert bound.value >= mean - 1e-12
    assert mean >= kl(law, np.mean(laws, axis=0)) - 1e-12
    if key == 3 and sizes == (4,):
        assert bound.value == pytest.approx(mean, rel=1e-9)
    if max(sizes) == 1:
        assert bound.value == 0


def test_sampled_numbers_enter_with_their_better_end() -> None:
    e8, grid = tk.e8_codebook(), np.geomspace(0.01, 10.0, 6)
    method = tk.MonteCarlo(n_samples=512)
    mmse = tk.mmse(e8, grid, method=method, key=0)
    bound = bounds.mmse_step_bound(mmse, grid)
    assert bound.value > bounds.mmse_step_bound(mmse.value, grid).value
    assert "confidence" in bound.name
    assert bound.value > tk.ancestral_kl(e8, grid, method=method, key=1).value


def test_rates_have_the_growth_that_is_published() -> None:
    """Squared steps and dimensions; a change of scale that the SNR follows changes nothing."""
    cube = tk.FSQ((2,) * 4)
    coarse, fine = (np.geomspace(1e-4, 10.0, N + 1) for N in (500, 1000))
    for rate in (bounds.lipschitz_score_rate, bounds.dimension_rate):
        assert rate(cube, coarse).value / rate(cube, fine).value == pytest.approx(2, rel=0.02)
        wide = tk.scale_to(cube, power=4 * tk.average_power(cube))
        assert rate(wide, coarse / 4).value == pytest.approx(rate(cube, coarse).value, rel=1e-12)
        assert rate(tk.FSQ((2,) * 8), fine).value == pytest.approx(2 * rate(cube, fine).value)
    # kappa n (kappa N + T) by hand, with times of 1 and more than 1 left.
    t = np.array([2.0, 1.5, 0.5])
    grid = 1 / np.expm1(2 * t)
    assert bounds.dimension_rate(cube, grid).value == pytest.approx(4 * (4 * 2 + 2 * 2.0))
    # The score's Lipschitz constant is that of two levels at the last SNR.
    top = float(grid[-1])
    score = (1 + top) * max(1.0, top - 1)
    expected = score**2 * 4 * (0.25 + 1.0)
    assert bounds.lipschitz_score_rate(cube, grid).value == pytest.approx(expected)
    assert bounds.entropy_squared_rate(3.0, 2).value == 4.5
    assert bounds.total_variation_rate(3, 10).value == pytest.approx(3 * math.log(10) ** 3 / 10)
    assert repr(bounds.entropy_squared_rate(3.0, 2)) == (
        "<ancestral KL <= const * 4.5 [entropy squared / N]>"
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: bounds.mmse_step_bound([1.0, 0.5], [0.0, 1.0, 2.0]), r"of shape \(3,\)"),
        (lambda: bounds.mmse_step_bound([-1.0, 0.5], [0.0, 1.0]), "mmse must be at least 0"),
        (lambda: bounds.entropy_step_bound(1.0, [0.0, 1.0]), "grid must be one that begins above"),
        (lambda: bounds.entropy_step_bound(-1.0, [1.0, 2.0]), "information must be at least 0"),
        (lambda: bounds.dimension_step_bound(0, [1.0, 2.0]), "n must be"),
        (lambda: bounds.lipschitz_step_bound(tk.FSQ((2,)), [1.0]), "at least two SNRs"),
        (
            lambda: bounds.masked_step_bound(tk.sources.Joint(np.eye(2) / 2), [1]),
            "sizes must be tokens of each step, 2 in all",
        ),
        (lambda: bounds.masked_step_bound(tk.sources.Joint(np.eye(2) / 2), [2, 0]), "sizes must"),
        (lambda: bounds.dimension_rate(tk.PointCodebook([[1.0]]), [1.0, 2.0]), "different tokens"),
        (lambda: bounds.total_variation_rate(1, 0), "N must be"),
    ],
)
def test_refusals(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
