"""Upper bounds of D: published values, integrals against sampling, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.optimality.counterexamples import COUNTEREXAMPLES
from tokenkl.optimality.nn_bounds import (
    Corner,
    blichfeldt_bound,
    line_bound,
    newman_bound,
    pattern_bound,
    plotkin_bound,
)

#: What was found for Blichfeldt's inequality by other means: ours may be smaller, not larger.
LISTED = {
    (3, 27): 1.302, (4, 16): 2.434, (5, 32): 2.539, (6, 64): 2.648, (7, 128): 2.757,
    (8, 256): 2.864, (4, 81): 1.354, (5, 243): 1.404, (6, 729): 1.451, (7, 2187): 1.496,
    (8, 6561): 1.539, (8, 65536): 1.036,
}  # fmt: skip


@pytest.mark.parametrize(("n", "K"), LISTED)
def test_blichfeldt_reaches_what_is_listed(n: int, K: int) -> None:
    found = blichfeldt_bound(n, K)
    assert float(found.value) < LISTED[n, K] + 5e-4  # printed with three decimals
    assert (found.direction, found.name, found.quantity) == ("upper", "Blichfeldt", "D")


@pytest.mark.parametrize(("n", "K"), [(3, 27), (4, 81), (8, 6561), (8, 256), (2, 100)])
def test_blichfeldt_is_at_most_its_closed_form(n: int, K: int) -> None:
    """Without a margin, where all of a ball's orthant fits: at most 4 sqrt 2 (...)^(1/n)."""
    volume = math.pi ** (n / 2) / math.gamma(n / 2 + 1)
    closed = 4 * math.sqrt(2) * ((n + 2) / (2 * volume * K)) ** (1 / n)
    assert float(blichfeldt_bound(n, K).value) <= closed


@pytest.mark.parametrize(
    ("n", "a", "r"), [(1, 0.3, 1.0), (2, 0.0, 1.3), (3, 0.4, 1.2), (4, 0.7, 2.9), (8, 0.5, 1.5)]
)
def test_integrals_against_sampling(n: int, a: float, r: float) -> None:
    """Bounded from below, and closely: by plain draws in the box, one false alarm in 10^9."""
    rng = np.random.default_rng(n)
    draws = np.concatenate(
        [
            np.maximum(0, 1 - 2 * np.square(rng.uniform(-a, 2 + a, (200_000, n))).sum(1) / r**2)
            for _ in range(10)
        ]
    )
    volume = (2 + 2 * a) ** n
    error = volume * draws.std() / math.sqrt(draws.size)
    value = Corner(n, a, 4096)(r)
    assert abs(value - volume * draws.mean()) < 6.2 * error + 1e-4 * value


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_integrals_against_closed_forms(n: int) -> None:
    """A whole orthant: kappa_n (r / sqrt 2)^n 2 / (n + 2) / 2^n, from below, finer from nearer."""
    r, volume = 1.7, math.pi ** (n / 2) / math.gamma(n / 2 + 1)
    exact = volume * (r / math.sqrt(2)) ** n * 2 / (n + 2) / 2**n
    coarse, fine = (Corner(n, 0.0, cells)(r) for cells in (256, 4096))
    assert coarse < fine < exact
    assert fine == pytest.approx(exact, rel=1e-4)


def test_the_smallest_is_given() -> None:
    assert tk.nn_distance_bound(1, 5).value == line_bound(5).value == 0.5
    assert tk.nn_distance_bound(2, 4).value == newman_bound(4).value == 2.0
    assert tk.nn_distance_bound(3, 8).value == pattern_bound(3, 8).value == 2.0
    assert tk.nn_distance_bound(7, 8).value == plotkin_bound(7, 8).value
    assert tk.nn_distance_bound(2, 9).value == pattern_bound(2, 9).value == 1.0
    assert tk.nn_distance_bound(2, 10).name == "Blichfeldt"
    assert tk.nn_distance_bound(100, 7).name == "Plotkin"


def test_nothing_known_is_above() -> None:
    for case in COUNTEREXAMPLES:
        assert float(tk.nn_distance_bound(case.n, case.base**case.n).value) > case.D
    for n, L in [(1, 4), (2, 2), (2, 3), (3, 2), (3, 3), (4, 2), (2, 12), (8, 2), (6, 4)]:
        assert float(tk.nn_distance_bound(n, L**n).value) >= 2 / (L - 1)


@pytest.mark.slow
def test_more_points_never_have_a_larger_bound() -> None:
    for n in (2, 3, 5):
        values = [float(tk.nn_distance_bound(n, K).value) for K in (2, 3, 5, 9, 20, 50, 300)]
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: tk.nn_distance_bound(0, 4), "n must be"),
        (lambda: tk.nn_distance_bound(2, 1), "K must be"),
        (lambda: tk.nn_distance_bound(2, 10**400), "K must be at most 1e"),
        (lambda: tk.nn_distance_bound(3, 10**400), "K must be at most 1e"),
        (lambda: tk.nn_distance_bound(10**400, 3), "n must be at most 1e"),
        (lambda: pattern_bound(3, 9), "n, K must be one of"),
        (lambda: blichfeldt_bound(65, 4), "at most 64"),
    ],
)
def test_refused(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()  # type: ignore[operator]
