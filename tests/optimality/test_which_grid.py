"""What to take instead of a level set: known gains, lists of tokens, and what is refused."""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any, Literal, cast

import numpy as np
import pytest
from scipy import optimize, special
from scipy.spatial import cKDTree

import tokenkl as tk
from tokenkl.optimality import GridChoice, WhichGrid, drop_surplus

Constraint = Literal["box", "power"]


@functools.cache
def found(levels: tuple[int, ...], constraint: Constraint) -> WhichGrid:
    return tk.which_grid(levels, error=0.01, constraint=constraint)


def named(which: WhichGrid, name: str) -> GridChoice:
    return next(one for one in which.choices if one.name == name)


def needed_db(levels: tuple[int, ...], target: float) -> float:
    """Where FSQ has a token error, by its closed form alone."""

    def excess(db: float) -> float:
        h, right = 10 ** (db / 20), 1.0
        for L in levels:
            right *= (2 * (L - 1) * special.ndtr(h / (L - 1)) - (L - 2)) / L
        return 1 - right - target

    return float(optimize.brentq(excess, -10, 60, xtol=1e-10))


def test_balanced_levels_by_the_closed_form() -> None:
    """[6,6,6,5] in the place of [8,5,5,5]: 1.78 dB, with a tenth of its errors."""
    balanced = named(found((8, 5, 5, 5), "box"), "balanced")
    assert balanced.levels == (6, 6, 6, 5)
    gain = needed_db((8, 5, 5, 5), 0.01) - needed_db((6, 6, 6, 5), 0.01)
    assert float(balanced.gain_in_box.value) == pytest.approx(gain, abs=1e-6)
    assert float(balanced.gain_in_box.value) == pytest.approx(1.78, abs=0.01)
    assert 0.0095 < 10 * float(balanced.error.value) < 0.0105
    half = needed_db((8, 5, 5, 5), 0.5) - needed_db((6, 6, 6, 5), 0.5)
    assert float(balanced.at_half_in_box.value) == pytest.approx(half, abs=1e-6)


def test_equal_spacing_costs_nothing_but_a_scale() -> None:
    """1.86 dB at equal power, by the closed form with other steps; less than none at 50 %."""
    equal = named(found((8, 5, 5, 5), "power"), "equal spacing")
    assert float(equal.gain_at_power.value) == pytest.approx(1.856, abs=0.001)
    assert float(equal.at_half_at_power.value) < 0
    steps = [np.diff(column) for column in cast(tk.ProductCodebook, equal.codebook).levels]
    np.testing.assert_allclose(np.concatenate(steps), 2 / 7, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("levels", "board", "K", "in_box", "at_power"),
    [
        # Gains of lists of tokens, found before this was written.
        ((8, 5, 5, 5), (7, 7, 7, 6), 1000, 2.6, 3.0),
        ((7, 5, 5, 5, 5), (7, 6, 6, 6, 6), 4375, 1.85, 2.2),
    ],
)
def test_checkerboards(
    levels: tuple[int, ...], board: tuple[int, ...], K: int, in_box: float, at_power: float
) -> None:
    boxed = named(found(levels, "box"), "checkerboard")
    powered = named(found(levels, "power"), "checkerboard")
    assert boxed.levels == powered.levels == board
    assert boxed.K == powered.K == K
    assert float(boxed.gain.value) == pytest.approx(in_box, abs=0.08)
    assert float(powered.gain.value) == pytest.approx(at_power, abs=0.1)
    assert float(boxed.gain.standard_error) < 0.003
    assert found(levels, "box").choices[0] is boxed


@pytest.mark.slow
def test_a_choice_errs_as_often_as_it_is_said() -> None:
    """Noise at the SNR that the gain leaves: the list of tokens errs in 1 % of cases."""
    for constraint in ("box", "power"):
        which = found((8, 5, 5, 5), constraint)
        for choice in which.choices:
            db = 10 * math.log10(which.snr) - float(choice.gain_in_box.value)
            points = choice.codebook.points
            rng, size = np.random.default_rng(7), 300_000
            ids = rng.integers(len(points), size=size)
            y = points[ids] + rng.standard_normal((size, 4)) / 10 ** (db / 20)
            wrong = (cKDTree(points).query(y)[1] != ids).mean()
            assert abs(wrong - 0.01) < 5 * math.sqrt(0.01 / size) + 3e-5, choice.name


def test_power_is_what_is_equal() -> None:
    which = found((8, 6, 5), "power")
    given = which.given.codebook.average_power()
    for choice in which.choices:
        points = choice.codebook.points
        power = float(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean())
        more = float(choice.gain_at_power.value) - float(choice.gain_in_box.value)
        assert more == pytest.approx(10 * math.log10(given / power), abs=1e-9)
        assert np.abs(points).max() <= 1 + 1e-12


def test_where_half_of_the_tokens_are_wrong() -> None:
    """Little is left to gain, and the best board is still the same."""
    board = named(tk.which_grid((8, 5, 5, 5), error=0.5), "checkerboard")
    assert board.levels == (7, 7, 7, 6)
    assert float(board.gain_in_box.value) == pytest.approx(0.36, abs=0.01)


def test_from_tokens_and_coordinates() -> None:
    which = tk.which_grid(n=3, K=240, snr=100.0)
    assert which.given.levels == (7, 6, 6)
    assert which.error == pytest.approx(1 - float(tk.accuracy(tk.FSQ((7, 6, 6)), 100.0)), rel=1e-9)
    assert all(one.K >= 240 for one in which.choices)


@pytest.mark.slow
def test_cut_of_as_many_tokens() -> None:
    """6561 tokens of E8: 1.4 dB at equal power, and none in the same box."""
    which = tk.which_grid((3,) * 8, error=0.01, constraint="power")
    cut = which.choices[0]
    assert (cut.name, cut.K) == ("E8 cut", 6561)
    assert float(cut.gain_at_power.value) == pytest.approx(1.38, abs=0.03)
    assert float(cut.gain_in_box.value) == pytest.approx(-0.17, abs=0.03)
    listed = tk.error_probability(
        tk.e8_codebook(), which.snr, key=1, method=tk.MonteCarlo(n_samples=2**13)
    )
    rays = tk.which_grid((3,) * 8, error=0.01).choices[-1].error
    spread = math.hypot(float(listed.standard_error), float(rays.standard_error))
    assert abs(float(listed.value) - float(rays.value)) < 5 * spread


def test_one_coordinate_has_no_rival() -> None:
    which = tk.which_grid((16,), error=0.1)
    assert [one.name for one in which.choices] == ["given"]
    assert "nothing beats" in which.limits[0]


def test_in_the_place_of_levels() -> None:
    choices = tk.recommend_levels(instead_of=(8, 6, 5), error=0.01, top=2)
    assert [one.name for one in choices] == ["checkerboard", "balanced"]
    assert float(choices[0].gain.value) > 1.5
    frame = found((8, 6, 5), "box").to_frame()
    assert list(frame.gain_in_box) == sorted(frame.gain_in_box, reverse=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "levels, n and K must be levels alone, or n and K"),
        ({"levels": (4, 4), "n": 2}, "levels, n and K must be levels alone"),
        ({"n": 2}, "levels, n and K must be levels alone"),
        ({"levels": (4, 1)}, "levels must be two or more"),
        ({"levels": (3,)}, "levels must be two or more"),
        ({"n": 9, "K": 100}, "n must be at most 6"),
        ({"levels": (4, 4), "error": 0.1, "snr": 3.0}, "error and snr must be given alone"),
        ({"levels": (4, 4), "error": 0.95}, "error must be from"),
        ({"levels": (4, 4), "error": 0.0}, "error must be above 0"),
        ({"levels": (4, 4), "snr": 1e9}, "snr must be one at which the given levels err"),
        ({"levels": (4, 4), "constraint": "ball"}, "constraint must be one of"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tk.which_grid(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instead_of": (4, 4), "budget_tokens": 9}, "instead_of must be given without a budget"),
        ({"budget_tokens": 9, "snr": 1.0, "error": 0.1}, "error must be given with instead_of"),
        ({"budget_tokens": 9}, "snr must be one concrete number"),
    ],
)
def test_recommendation_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tk.recommend_levels(**options)


def test_the_grid_of_rounding_loses_more() -> None:
    """Even numbers of levels from -1 to 1 - 2/L, as published: 0.9 dB at equal power."""

    def needed(grid: Any) -> float:
        codebook = tk.FSQ((8, 5, 5, 5), grid=grid)
        db = optimize.brentq(
            lambda db: float(tk.error_probability(codebook, 10 ** (db / 10))) - 0.01, 20, 35
        )
        return float(db) + 10 * math.log10(codebook.average_power())

    assert needed("rounding") - needed("symmetric") == pytest.approx(0.925, abs=0.005)


# ---- Surplus -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["power", "neighbours"])
@pytest.mark.parametrize(("levels", "K", "snr"), [((8, 8, 8), 240, 60.0), ((4, 3, 3), 12, 6.0)])
def test_error_without_surplus(by: Any, levels: tuple[int, ...], K: int, snr: float) -> None:
    thinned = drop_surplus(tk.Checkerboard(levels), K, by=by, snr=snr)
    points = thinned.codebook.points
    assert len(points) == K
    value = thinned.error_probability(snr, key=0)
    rng, size = np.random.default_rng(5), 400_000
    ids = rng.integers(K, size=size)
    y = points[ids] + rng.standard_normal((size, 3)) / snr**0.5
    wrong = float((cKDTree(points).query(y)[1] != ids).mean())
    spread = math.hypot(math.sqrt(wrong / size), float(value.standard_error))
    assert abs(float(value.value) - wrong) < 5 * spread


@pytest.mark.parametrize("key", [0, 1])
@pytest.mark.parametrize("reach", [2.0, 6.0, 12.0, 22.0])
@pytest.mark.parametrize(
    ("levels", "K", "by"),
    [((5, 5, 5), 50, "neighbours"), ((5, 5, 5), 20, "power"), ((8, 6), 13, "neighbours")],
)
def test_what_is_regained_where_no_draw_around_a_dropped_token_goes(
    levels: tuple[int, ...], K: int, by: Any, reach: float, key: int
) -> None:
    board = tk.Checkerboard(levels)
    snr = (reach / board.min_distance()) ** 2
    thinned = drop_surplus(board, K, by=by, snr=snr)
    value = thinned.error_probability(snr, key=key)
    sampled = tk.MonteCarlo(2**16) if reach < 4 else tk.RareEvents(n_samples=2**14)
    alone = tk.error_probability(thinned.codebook, snr, key=2, method=sampled)
    spread = math.hypot(float(value.standard_error), float(alone.standard_error))
    assert abs(float(value.value) - float(alone.value)) < 5 * spread
    assert spread < 0.05 * float(alone.value)


def test_too_few_draws_are_not_believed() -> None:
    thinned = drop_surplus(tk.Checkerboard((5, 5, 5)), 50, by="neighbours", snr=4.0)
    few = thinned.error_probability(4.0, key=0, n_samples=32)
    alone = tk.error_probability(thinned.codebook, 4.0, key=0)
    assert float(few.value) == float(alone.value)
    with pytest.raises(ValueError, match="n_samples must be a whole number, at least 2"):
        thinned.error_probability(4.0, key=0, n_samples=1)


def test_a_rare_error_is_reached_where_the_tokens_left_reach_it() -> None:
    found = tk.which_grid((4, 4, 4), error=1e-5)
    board = next(one for one in found.choices if one.name == "checkerboard")
    there = 10 * math.log10(found.snr) - float(board.gain.value)
    alone = tk.error_probability(board.codebook, 10 ** (there / 10), key=3)
    slack = 2e-5 * (5 * float(board.gain.standard_error) + float(board.gain.numerical_error))
    assert abs(float(alone.value) - 1e-5) < slack + 5 * float(alone.standard_error)


def test_a_search_whose_steps_do_not_end_is_done_by_bisection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = tk.which_grid((5, 5, 5), error=1e-3)
    monkeypatch.setattr(importlib.import_module("tokenkl.optimality.which_grid"), "STEPS", 1)
    found = tk.which_grid((5, 5, 5), error=1e-3)
    for one, other in zip(found.choices, expected.choices, strict=True):
        spread = float(other.gain.standard_error) + float(other.gain.numerical_error)
        assert abs(float(one.gain.value) - float(other.gain.value)) <= 2 * spread


def test_what_is_dropped() -> None:
    board = tk.Checkerboard((8, 8, 8))
    far = drop_surplus(board, 240, by="power")
    away = (board.points**2).sum(axis=1)
    kept = np.delete(np.arange(board.K), far.dropped)
    assert away[far.dropped].min() >= away[kept].max() - 1e-12
    crowded = drop_surplus(board, 240, by="neighbours", snr=100.0)
    error = tk.error_probability(board, 100.0)
    assert float(crowded.error_probability(100.0, key=0).value) < float(error.value)
    whole = drop_surplus(board, 256, by="power")
    assert float(whole.error_probability(100.0, key=0).value) == float(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"K": 257, "by": "power"}, "K must be at most 256"),
        ({"K": 240, "by": "size"}, "by must be one of"),
        ({"K": 240, "by": "neighbours"}, "snr must be given for by='neighbours'"),
    ],
)
def test_surplus_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drop_surplus(tk.Checkerboard((8, 8, 8)), **options)
    with pytest.raises(ValueError, match="snr must be one number above 0"):
        drop_surplus(tk.Checkerboard((8, 8, 8)), 240, by="power").error_probability(0.0, key=0)
    large = tk.Checkerboard((7,) * 9 + (6,))
    with pytest.raises(ValueError, match="board must be of at most"):
        drop_surplus(large, 1000, by="power")
