"""Expansions in strong noise against the exact product formula, Owen's T and one another."""

from __future__ import annotations

import itertools
import math
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp

import tokenkl as tk
from tokenkl.optimality.counterexamples import edge_heavy_nine
from tokenkl.symbolic import (
    accuracy_expansion,
    edge_term,
    edges_term,
    grid_accuracy,
    line_accuracy,
    mmse_expansion,
    mmse_expansion_vector,
    mutual_information_expansion,
)
from tokenkl.symbolic._symbols import L, gamma, h, n
from tokenkl.symbolic.expansions import moments

SKEWED = (np.array([-1.0, 0.1, 0.6, 2.0]), np.array([0.2, 0.1, 0.4, 0.3]))


def test_line_accuracy() -> None:
    levels = [sp.Rational(-3, 2), sp.Rational(1, 5), 1]
    found = line_accuracy(levels)
    grid = tk.ProductCodebook([np.array([-1.5, 0.2, 1.0])])
    for root in (0.1, 1.0, 4.0):
        expected = 3 * float(tk.accuracy(grid, root**2).value)
        assert float(found.subs(h, root)) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(("count", "dimension"), [(2, 1), (2, 7), (3, 4), (5, 2)])
def test_grid_accuracy(count: int, dimension: int) -> None:
    formula = grid_accuracy().subs({L: count, n: dimension})
    for root in (0.03, 0.8, 5.0):
        exact = tk.accuracy(tk.FSQ((count,) * dimension), root**2)
        assert float(formula.subs(h, root)) == pytest.approx(float(exact.value), rel=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "dimension"), [(2, 1), (2, 5), (3, 1), (3, 8), (6, 3)])
def test_accuracy_expansion(count: int, dimension: int) -> None:
    """What the expansion leaves is of fourth order, with the coefficient that mpmath finds."""
    cubic = accuracy_expansion().subs({L: count, n: dimension})
    short = accuracy_expansion(count).subs(n, dimension)
    direct = accuracy_expansion(count, dimension)
    assert sp.simplify(cubic - short) == sp.simplify(cubic - direct) == 0
    whole = sp.lambdify(h, count**dimension * grid_accuracy(count, dimension), "mpmath")
    with mpmath.workdps(60):
        exact = mpmath.taylor(whole, 0, 5)
        for order in range(4):
            assert mpmath.almosteq(sp.N(cubic.coeff(h, order), 40), exact[order], abs_eps=1e-30)
    # And against the code's own accuracy, at a noise where the fourth order is visible.
    root = 2e-2 / dimension
    accuracy = count**dimension * float(tk.accuracy(tk.FSQ((count,) * dimension), root**2).value)
    left = accuracy - float(cubic.subs(h, sp.Float(root)))
    following = float(exact[4] + exact[5] * root) * root**4  # on a line the fourth order is 0
    assert left == pytest.approx(following, rel=0.1, abs=1e-14)


def test_edges_agree_with_the_grid() -> None:
    """L^2 grids: the sum over edges is the h^3 that the product formula has beyond the corners."""
    corners = accuracy_expansion(2, 2).coeff(h, 3)
    for count in (3, 4, 7):
        inner = [sp.Rational(2 * i, count - 1) - 1 for i in range(1, count - 1)]
        from_grid = accuracy_expansion(count, 2).coeff(h, 3) - corners
        assert sp.simplify(edges_term([inner] * 4) - from_grid) == 0
        assert sp.simplify(4 * edge_term(count - 2) - from_grid) == 0


def test_edge_heavy_nine_at_large_s() -> None:
    third = sp.Rational(1, 3)
    limit = (edges_term([[0], [0], [0], [-third, third]]) - edges_term([[0]] * 4)) / 9
    stated = (sp.Rational(8, 27) - sp.Rational(1, 4)) / (18 * sp.sqrt(2 * sp.pi))
    assert sp.simplify(limit - stated) == 0
    gains = []
    for s in (100.0, 200.0, 400.0):
        nine, grid = (
            tk.error_probability(one, 1 / s**2) for one in (edge_heavy_nine(), tk.FSQ((3, 3)))
        )
        gains.append(s**3 * float(grid.value - nine.value))
    away = float(limit) - np.array(gains)  # a / s + b / s^2 + ..., with no inner points in a limit
    np.testing.assert_allclose(away[:-1] / away[1:], 2, rtol=0.03)
    assert 2 * gains[2] - gains[1] == pytest.approx(float(limit), rel=2e-4)


@pytest.mark.slow
def test_edges_of_any_codebook() -> None:
    """Uneven points on two edges and some inside, against Owen's T: inner ones do not count."""
    edges = [[-0.5, 0.25], [0.4], [], []]
    on = [(-0.5, 1.0), (0.25, 1.0), (1.0, 0.4)]
    points = np.array([*itertools.product((-1.0, 1.0), repeat=2), *on, (0.2, -0.3), (-0.6, 0.1)])
    term = float(edges_term([[sp.Rational(str(u)) for u in edge] for edge in edges]))
    corners = tk.FSQ((2, 2))
    gains = []
    for s in (100.0, 200.0, 400.0):
        K_A = [
            len(cb.points) * (1 - float(tk.error_probability(cb, s**-2).value))
            for cb in (tk.PointCodebook(points), corners)
        ]
        gains.append(s**3 * (K_A[0] - K_A[1]))
    assert 2 * gains[2] - gains[1] == pytest.approx(term, rel=1e-3)


def _numbers(order: int) -> dict[Any, float]:
    levels, prior = SKEWED
    centred = levels - prior @ levels
    symbols = [one for one in moments(order) if one.is_Symbol]
    return {one: float(prior @ centred ** int(one.name[2:])) for one in symbols}


@pytest.mark.parametrize("order", [1, 2, 3])
def test_mmse_expansion(order: int) -> None:
    """Truncated at gamma^order, the error is the next coefficient times the next power."""
    numbers = _numbers(10)
    grid = tk.ProductCodebook([SKEWED[0]], [SKEWED[1]])
    at = 3e-3
    left = float(tk.mmse(grid, at).value) - float(
        mmse_expansion(order).subs(numbers).subs(gamma, at)
    )
    following = float(mmse_expansion(order + 1).coeff(gamma, order + 1).subs(numbers))
    assert left == pytest.approx(following * at ** (order + 1), rel=0.05, abs=4e-15)


def test_mmse_of_the_literature() -> None:
    """Unit variance: 1 - g + (2 - m3^2) g^2/2 - (15 - 12 m3^2 - 6 m4 + m4^2) g^3/6."""
    _, _, m2, m3, m4 = moments(4)
    series = mmse_expansion(3).subs(m2, 1)
    known = 1 - gamma + (2 - m3**2) * gamma**2 / 2
    known -= (15 - 12 * m3**2 - 6 * m4 + m4**2) * gamma**3 / 6
    assert sp.expand(series - known) == 0


def test_information_expansion() -> None:
    numbers = _numbers(6)
    series = mutual_information_expansion(mmse_expansion(3)).subs(numbers)
    grid = tk.ProductCodebook([SKEWED[0]], [SKEWED[1]])
    for at in (1e-3, 1e-2):
        exact = tk.mutual_information(grid, at)
        assert float(series.subs(gamma, at)) == pytest.approx(float(exact.value), rel=60 * at**4)
        entropy = tk.conditional_entropy(grid, at)
        left = float(grid.prior_entropy()) - float(series.subs(gamma, at))
        assert left == pytest.approx(float(entropy.value), rel=1e-7)


@pytest.mark.slow
def test_vector_expansion() -> None:
    series, S, T = mmse_expansion_vector(2)
    cubes = sum(one**2 for one in sp.flatten(T.tolist()))
    assert sp.expand(series.coeff(gamma, 0) - S.trace()) == 0
    assert sp.expand(series.coeff(gamma, 1) + (S * S).trace()) == 0
    assert sp.expand(series.coeff(gamma, 2) - (S**3).trace() + cubes / 2) == 0
    # A grid with skewed priors, turned: its MMSE is that of the grid, its moments are full.
    grid = tk.ProductCodebook([SKEWED[0], np.array([-0.5, 1.0])], [SKEWED[1], np.array([0.8, 0.2])])
    angle = 0.6
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = grid.points @ turn.T
    points = points - grid.prior @ points
    numbers = {}
    for i, j in itertools.product(range(2), repeat=2):
        numbers[S[i, j]] = grid.prior @ (points[:, i] * points[:, j])
        for k in range(2):
            numbers[T[i, j, k]] = grid.prior @ (points[:, i] * points[:, j] * points[:, k])
    lefts = [
        float(tk.mmse(grid, at).value) - float(series.subs(numbers).subs(gamma, at))
        for at in (4e-3, 2e-3)
    ]
    assert lefts[0] / lefts[1] == pytest.approx(8, rel=0.1)
