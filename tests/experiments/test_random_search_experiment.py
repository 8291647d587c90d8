"""Rare codebooks: nested sampling against exact shares, and what a fitted tail says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments import random_search
from experiments.random_search import BOX, Config, extrapolated, neighbourhood, rarity


@pytest.mark.slow
def test_two_points_on_a_line() -> None:
    """Their distance exceeds 2 x with probability (1 - x)^2.

    Nested sampling with N walkers has a standard deviation of sqrt(decades / (2.3 N)) decades; the
    mean of six runs is asked to be within 5 of it at 25 places (1.5e-5).
    """
    config = Config(walkers=100, runs=6, deepest=8.0)
    curve = rarity(*neighbourhood(1, 2, BOX), 2.0, config, np.random.default_rng(3))
    assert curve[-1]["value"] > 7  # up to where the first of the runs stopped
    for one in curve:
        exact = -2 * math.log10(1 - one["x"])
        spread = math.sqrt(exact / (math.log(10) * config.walkers * config.runs))
        assert abs(one["value"] - exact) < 5 * spread + 0.02
    assert all(one["low"] <= one["value"] <= one["high"] for one in curve)


@pytest.mark.slow
def test_the_grid_itself_where_draws_are_clipped() -> None:
    """With half of a cube outside the box, every coordinate is a vertex's with probability 1/2."""
    config = Config(walkers=100, runs=6, deepest=8.0)
    curve = rarity(*neighbourhood(2, 2, 0.1), 2.0, config, np.random.default_rng(4))
    decades = 8 * math.log10(2)
    spread = math.sqrt(decades / (math.log(10) * config.walkers * config.runs))
    assert curve[-1]["x"] == pytest.approx(1, abs=1e-3)
    assert abs(curve[-1]["value"] - decades) < 4.3 * spread + 0.02


def test_extrapolation_of_an_exponential_tail() -> None:
    """What is Pareto is found: 10^6 draws needed for 6 log 10, within a decade."""
    draws = np.random.default_rng(5).exponential(size=100_000)
    found = extrapolated(draws, 6 * math.log(10), np.random.default_rng(6))
    assert found["value"] == pytest.approx(6, abs=0.5)
    assert found["low"] is not None
    assert found["low"] < 6
    uniform = extrapolated(np.random.default_rng(7).random(1000), 1.5, np.random.default_rng(8))
    assert uniform["value"] is None  # never


@pytest.mark.slow
def test_ascents_come_back_and_draws_do_not() -> None:
    config = Config(((3, 3),), (0.1,), draws=200, ascents=3, walkers=10, runs=2, deepest=2.0)
    table, facts = random_search.compute(config, lambda done, total: None)
    near = facts["neighbourhoods"][0]
    assert near["best_of_draws"] < 0.99 < near["best_of_ascents"] <= 1 + 1e-12
    assert near["best_known"] == 1
    rare = table[(table.kind == "rare") & np.isinf(table.width)]
    assert (np.diff(rare.value) >= 0).all()


def test_refused() -> None:
    with pytest.raises(ValueError, match="cases must be N:L"):
        Config(cases=((2, 64),))
    with pytest.raises(ValueError, match="every N:L once"):
        Config(cases=((2, 2), (2, 2)))
