"""Rare errors: against product grids and Owen's T, honest intervals, and bounds on both sides."""

from typing import Any

import numpy as np
import pytest
from scipy import optimize, special, stats

import tokenkl as tk
from benchmarks.coverage_rare import cases, coverage, snr_at
from tokenkl.bounds import union_bound
from tokenkl.halfspaces.tokens import Draws
from tokenkl.halfspaces.wedges import _along_face
from tokenkl.information.findings import NUMBERS
from tokenkl.information.problem import Problem
from tokenkl.information.rare import profile
from tokenkl.information.rare.profile import STATISTICS, rare_error_probability, rare_is_better
from tokenkl.numerics.neighbours import nearest_distances
from tokenkl.quantities import QUANTITIES

#: Deviations beyond so many reported errors happen twice in 1e5 correct normal estimates.
SIGMAS = 4.3
#: At which the intervals are looked at.
RARE = (5e-2, 1e-3, 1e-6, 1e-9)
ERRORS = (0.3, 1e-2, 1e-3, 1e-6, 1e-9, 1e-40, 1e-280)

ALL = tuple(QUANTITIES)
UNEVEN = [[-1.0, 0.0, 1.03], [-1.0, 0.1, 1.2], [0.0, 1.0, 2.1]]
GRIDS = [
    tk.FSQ((3, 3, 3)),
    tk.FSQ((2,) * 6),
    tk.FSQ((3,) * 8),
    tk.ProductCodebook(UNEVEN),
    tk.ProductCodebook(UNEVEN[:2], [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]),
    tk.FSQ((2,) * 4, priors=[[0.8, 0.2]] * 4),
]


def rare_profile(
    codebook: tk.Codebook,
    snr: np.ndarray,
    quantities: tuple[str, ...] = tk.QUANTITIES,
    *,
    key: int,
    **settings: Any,
) -> dict[str, dict[str, Any]]:
    method = tk.RareEvents(**settings)
    found = profile.rare_profile(Problem(codebook, snr), quantities, method, key)
    return {name: vars(one) for name, one in found.items()}


@pytest.mark.parametrize("corner", [-3.0, 0.0, 0.9, 4.0])
@pytest.mark.parametrize("radius", [1e-12, 1e-3, 0.7, 3.0])
def test_places_along_a_face(radius: float, corner: float) -> None:
    """Against the law's own distribution function, in the angle that decides."""
    size, nearest = 20_000, max(corner, 0.0)
    w = _along_face(np.full(size, radius), np.full(size, corner), np.random.default_rng(0))
    low, high = np.arctan2(radius, [nearest + 9, corner])
    angles = np.linspace(low, high, 100_001)
    density = np.exp((nearest**2 - (radius / np.tan(angles)) ** 2) / 2)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    uniform = np.interp(np.arctan2(radius, w), angles, below / below[-1])
    assert stats.kstest(uniform, "uniform").pvalue > 2e-5


def hardly_ever_drawn() -> dict[str, tk.ProductCodebook]:
    """Grids of which 2000 draws hardly see some tokens, or mistakes between far ones."""
    certain, even = [1 - 1e-4, 1e-4], [0.5, 0.5]
    alike, far = 1e-9 * np.arange(3), [[0.0, 9.5], [0.0, 9.6]]
    return {
        "a likely token": tk.ProductCodebook([[0.0, 1.0]] * 3, [certain] * 3),
        "more likely": tk.ProductCodebook([[0.0, 1.0]] * 3, [[1 - 1e-6, 1e-6]] * 3),
        "three at a place": tk.ProductCodebook([alike, *far], [[0.97, 0.015, 0.015], even, even]),
        "three alike": tk.ProductCodebook([alike, *far]),
    }


@pytest.mark.parametrize("method", [None, tk.RareEvents()], ids=["unasked", "rare"])
@pytest.mark.parametrize("name", hardly_ever_drawn())
def test_what_is_hardly_ever_drawn(name: str, method: tk.RareEvents | None) -> None:
    """It counts in the value, or the interval says that it may be missing."""
    grid, snr = hardly_ever_drawn()[name], np.array([1e-12, 1e-2, 0.3, 0.7, 1.0])
    turn = stats.ortho_group.rvs(3, random_state=1)
    points = tk.PointCodebook(np.asarray(grid.points) @ turn, np.asarray(grid.prior))
    answer = tk.profile(grid, snr, ALL)
    for key in range(3):
        for quantity, found in tk.profile(
            points, snr, ALL, method=method, key=key
        ).estimates.items():
            expected, rounding = answer[quantity].value, answer[quantity].numerical_error
            low, high, _ = found.confidence_interval(1 - 1e-7)
            assert (low <= expected + rounding).all()
            assert (expected <= high + rounding).all()


def test_tokens_at_one_place_with_unequal_priors() -> None:
    """Where one token never beats another, the rest of its rivals are drawn all the same."""
    points = [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [-3.1, -3.9], [6.9, -7.7]]
    codebook = tk.PointCodebook(points, [0.18, 0.06, 0.02, 0.02, 0.72], allow_duplicates=True)
    merged = tk.PointCodebook([points[0], *points[3:]], [0.26, 0.02, 0.72])
    found, expected = (
        rare_profile(one, np.array([1.0]), ("mmse",), n_samples=20_000, key=1)["mmse"]
        for one in (codebook, merged)
    )
    error = np.hypot(found["standard_error"], expected["standard_error"])
    assert abs(found["value"] - expected["value"]) < SIGMAS * error
    assert error < 0.05 * expected["value"]


@pytest.mark.parametrize("apart", [0.0, 1e-7])
@pytest.mark.parametrize("snr", [25.0, 36.0])
def test_overlaps_that_the_mmse_is_not_about(snr: float, apart: float) -> None:
    """Those of tokens at one place take nearly all draws, and say nothing of far mistakes."""
    points = np.array([[-1.0, 0, 0], [-1, apart, 0], [-1, 0, apart], [1, 0, 0], [4, 0, 0]])
    prior = np.array([1e-4, 1e-6, 1e-7, 0.3, 0.6998989])
    codebook = tk.PointCodebook(points, prior, allow_duplicates=True)
    merged = tk.PointCodebook(points[[0, 3, 4], :1], [prior[:3].sum(), *prior[3:]])
    answer = tk.mmse(merged, snr)
    assert answer.standard_error == 0
    for key in range(5):
        found = tk.mmse(codebook, snr, key=key)
        assert str(found.method) == "rare-event sampling"
        low, high, _ = found.confidence_interval(1 - 1e-6)
        assert low <= answer.value <= high, found


def test_faint_overlaps_may_be_all_that_the_mmse_is_about() -> None:
    """The unlikeliest of two tokens at one place is always taken for the other one."""
    points = np.array([[-1.0, 0], [-1, 0], [-2, 0], [5, 0], [-5, 0]])
    prior = np.array([4e-10, 3e-13, 0.745, 0.255, 3e-8])
    codebook = tk.PointCodebook(points, prior / prior.sum(), allow_duplicates=True)
    merged = np.append(prior[:1] + prior[1], prior[2:])
    answer = tk.mmse(tk.PointCodebook(points[[0, 2, 3, 4], :1], merged / merged.sum()), 300.0)
    for key in range(5):
        low, high, _ = tk.mmse(codebook, 300.0, key=key).confidence_interval(1 - 1e-6)
        assert low <= answer.value <= high


def test_controls_know_of_pairs_that_nobody_drew() -> None:
    """A close pair makes errors common, and takes all draws: a slope from it is of no other."""
    x = np.array([-2.5232, -2.5222, 0.1746, -2.4262, 3.015])
    codebook = tk.PointCodebook(x[:, None] * np.array([0.6, 0.64, 0.48]))
    names = ("error_probability", "conditional_entropy", "sampling_error")
    true = tk.profile(tk.PointCodebook(x[:, None]), 10.0, names)
    missed = np.zeros(3, int)
    for key in range(40):
        found = tk.profile(codebook, 10.0, names, method=tk.RareEvents(), key=key)
        for index, name in enumerate(names):
            low, high, _ = found[name].confidence_interval()
            missed[index] += not low <= true[name].value <= high
    # Of 40 at 95 %: more than 10 happen once in 10^5. There were 12, 33 and 35.
    assert missed.max() <= 10


def test_rounding_of_tokens_at_one_place_is_no_variance() -> None:
    """They add to the error, and to the MMSE only what their means are rounded by."""
    place = np.array([0.19491419, 0.05541774])
    points = np.stack([place, place, place, -3 * place])
    codebook = tk.PointCodebook(points, [0.5, 0.3, 0.1, 0.1], allow_duplicates=True)
    found = rare_profile(codebook, np.array([1e6]), STATISTICS, key=0)
    error, mmse = found["error_probability"], found["mmse"]
    assert error["value"] == pytest.approx(0.4, rel=1e-3)
    assert 0 <= mmse["value"] <= 5 * mmse["standard_error"] + mmse["numerical_error"]
    # Squares of half a unit in the last place of the coordinates.
    assert 1e-34 < mmse["numerical_error"] < 1e-28


@pytest.mark.parametrize(("off", "used"), [(-2.0, True), (2.0, True), (-4.0, False), (4.0, False)])
def test_a_control_that_is_not_seen_whole_is_left_out(off: float, used: bool) -> None:
    """Of mean 0, and so many of its standard errors off in the draws."""
    rng, n = np.random.default_rng(0), 2000
    control = rng.standard_normal(n)
    control = (control - control.mean()) / control.std() + off / np.sqrt(n)
    excess = 5 + control + 1e-3 * rng.standard_normal(n)
    draws = Draws(excess[:, None], control[:, None], np.zeros(n, dtype=int))
    mean, error, *_ = draws.summary()
    expected = 5.0 if used else excess.mean()
    assert mean[0] == pytest.approx(expected, abs=1e-4)
    assert error[0] == pytest.approx((1e-3 if used else 1.0) / np.sqrt(n), rel=0.1)


@pytest.mark.parametrize(("unseen", "used"), [(0.0, True), (0.01, True), (0.03, False)])
def test_what_a_control_knows_of_what_nobody_drew(unseen: float, used: bool) -> None:
    """In the error by the slope; no control where that is more than the error without one."""
    rng, n = np.random.default_rng(0), 2000
    control = rng.standard_normal(n)
    control = (control - control.mean()) / control.std()
    excess = 5 + 2 * control + 1e-3 * rng.standard_normal(n)
    draws = Draws(
        excess[:, None], control[:, None], np.zeros(n, dtype=int), unseen=np.array([unseen])
    )
    error = draws.summary()[1][0]
    expected = np.hypot(1e-3 / np.sqrt(n), 2 * unseen) if used else 2 / np.sqrt(n)
    assert error == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
def test_more_rivals_than_a_list_holds() -> None:
    """All of them equally near, so that most pairs are not in it."""
    exact = tk.OneHot(90)
    points = tk.PointCodebook(np.eye(90))
    snr = np.array([45.0])
    found = rare_profile(points, snr, STATISTICS, n_samples=5000, key=0)
    for name in STATISTICS:
        answer = getattr(tk, name)(exact, snr)
        assert_close(found[name], answer)
        # Far less than what is counted twice, which is of the size of the union bound's excess.
        excess = union_bound(exact, snr).value / found["error_probability"]["value"] - 1
        assert (found[name]["standard_error"] < 0.1 * excess * answer.value).all()


def as_points(codebook: tk.Codebook) -> tk.PointCodebook:
    prior = None if codebook.has_equal_priors else codebook.prior
    return tk.PointCodebook(codebook.points, prior)


def assert_close(found: dict, exact: tk.Estimate) -> None:
    """Within the reported errors, with room for many comparisons."""
    allowed = SIGMAS * found["standard_error"] + found["numerical_error"] + exact.numerical_error
    assert (np.abs(found["value"] - exact.value) <= allowed).all(), (found, exact)


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_product_grids(grid: tk.Codebook) -> None:
    errors = ERRORS if grid.K < 1000 else ERRORS[1:]  # common errors take many tokens to tell
    snr = np.array([snr_at(grid, error) for error in errors])
    exact = tk.profile(grid, snr, ALL)
    found = rare_profile(as_points(grid), snr, ALL, key=5)
    for name in ALL:
        assert_close(found[name], exact[name])
        assert found[name]["interval_supported"].all()
    error = found["error_probability"]
    reported = (error["standard_error"] + error["numerical_error"]) / error["value"]
    assert (reported < 0.015).all()
    # Where errors are rare the few that overlap are bounded, not only looked for.
    assert (reported[-2:] < 1e-6).all()
    assert (
        found["conditional_entropy"]["standard_error"] < 0.015 * exact["conditional_entropy"].value
    ).all()


@pytest.mark.parametrize("equal", [True, False])
def test_planar_points(equal: bool) -> None:
    rng = np.random.default_rng(2)
    prior = None if equal else rng.dirichlet(np.full(12, 0.7)) * 0.9 + 0.1 / 12
    codebook = tk.PointCodebook(rng.uniform(-1, 1, (12, 2)), prior)
    snr = np.array([3.0, 100.0, 1e3, 1e4, 1e5])
    exact = tk.error_probability(codebook, snr)
    assert_close(rare_error_probability(codebook, snr, key=8), exact)


def test_two_tokens_leave_nothing_to_chance() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0]])
    snr = np.array([0.0, 1e-3, 1.0, 20.0, 50.0, 200.0])
    found = rare_profile(tk.PointCodebook(points), snr, STATISTICS, n_samples=64, key=0)
    h = np.sqrt(snr)
    error = found["error_probability"]
    np.testing.assert_allclose(error["value"], special.ndtr(-2.5 * h), rtol=1e-12)
    assert (error["standard_error"] == 0).all()
    exact = tk.profile(tk.FSQ((2,)), snr * 25 / 4)
    entropy = found["conditional_entropy"]
    np.testing.assert_allclose(entropy["value"], exact["conditional_entropy"].value, rtol=1e-11)
    assert (entropy["standard_error"] < 1e-13 * entropy["value"]).all()
    np.testing.assert_allclose(found["mmse"]["value"], exact["mmse"].value * 25 / 4, rtol=1e-11)
    # With unequal priors the error is exact as well.
    uneven = tk.PointCodebook(points, [0.9, 0.1])
    error = rare_error_probability(uneven, snr, n_samples=64, key=0)
    np.testing.assert_allclose(error["value"], tk.error_probability(uneven, snr).value, rtol=1e-11)
    assert (error["standard_error"] < 1e-13 * error["value"]).all()


def test_no_signal_and_equal_points() -> None:
    """Nothing tells tokens apart: the guess is the most probable, or any of those."""
    prior = np.array([0.5, 0.2, 0.3])
    codebook = tk.PointCodebook([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], prior)
    found = rare_profile(codebook, np.array([0.0]), key=0)
    np.testing.assert_allclose(found["error_probability"]["value"], 0.5, rtol=1e-12)
    np.testing.assert_allclose(found["mutual_information"]["value"], 0, atol=1e-14)
    points = [[0.0, 0.0], [0.0, 0.0], [4.0, 0.0]]
    twins = tk.PointCodebook(points, [0.3, 0.2, 0.5], allow_duplicates=True)
    error = rare_error_probability(twins, np.array([4.0, 1e4]), key=0)
    merged = tk.PointCodebook([[0.0], [4.0]], [0.5, 0.5])
    exact = 0.2 + 0.8 * tk.error_probability(merged, np.array([4.0, 1e4])).value
    # At snr = 4 the nearer twin shifts the threshold; at 1e4 the twins alone matter.
    assert abs(error["value"][0] - exact[0]) < 0.02
    np.testing.assert_allclose(error["value"][1], 0.2, rtol=1e-9)


def test_one_token_never_errs() -> None:
    found = rare_profile(tk.PointCodebook([[1.0, 2.0]]), np.array([0.0, 3.0]), key=0)
    assert (found["error_probability"]["value"] == 0).all()
    assert not rare_is_better(Problem(tk.PointCodebook([[1.0, 2.0]]), np.array([3.0]))).any()


@pytest.mark.slow
def test_same_key_same_bits() -> None:
    rng = np.random.default_rng(0)
    codebook = tk.PointCodebook(rng.normal(size=(700, 5)), rng.dirichlet(np.full(700, 5.0)))
    snr = np.array([20.0, 60.0, 200.0])
    first = rare_profile(codebook, snr, key=3)
    again = rare_profile(codebook, snr, key=3)
    other = rare_profile(codebook, snr, key=4)
    for name, fields in first.items():
        for field in NUMBERS:
            np.testing.assert_array_equal(fields[field], again[name][field])
        if name != "accuracy":
            assert (fields["value"] != other[name]["value"]).any()


def test_scale_and_offset_change_nothing() -> None:
    points = np.random.default_rng(1).integers(-8, 9, size=(300, 6)) / 8.0
    points = np.unique(points, axis=0)
    snr = np.array([30.0, 100.0])
    base = rare_profile(tk.PointCodebook(points), snr, STATISTICS, key=1)
    moved = rare_profile(tk.PointCodebook(2.0**40 * points), snr / 4.0**40, STATISTICS, key=1)
    far = rare_profile(tk.PointCodebook(points + 2.0**20), snr, STATISTICS, key=1)
    for name in STATISTICS:
        unit = 4.0**40 if name == "mmse" else 1.0
        np.testing.assert_allclose(moved[name]["value"], unit * base[name]["value"], rtol=1e-13)
        np.testing.assert_allclose(far[name]["value"], base[name]["value"], rtol=1e-7)


@pytest.mark.parametrize("prior", [None, [0.6, 0.3, 0.1]])
@pytest.mark.parametrize("truncation", [0.9, 0.1, 1e-3])
def test_dropped_pairs_are_accounted_for(truncation: float, prior: list[float] | None) -> None:
    """Where the radius is forced to be short, the reported error still covers the truth."""
    grid = tk.ProductCodebook([[0.0, 1.0, 2.4]] * 4, [prior] * 4)
    snr = np.array([3.0, 10.0, 40.0])
    exact = tk.profile(grid, snr, STATISTICS)
    found = rare_profile(as_points(grid), snr, STATISTICS, key=2, truncation=truncation)
    for name in STATISTICS:
        assert_close(found[name], exact[name])
    short = rare_error_probability(as_points(grid), snr, key=2, truncation=truncation)
    assert (short["union_bound"] >= union_bound(grid, snr).value * (1 - 1e-9)).all()


def test_truncation_does_drop_pairs() -> None:
    """The radius matters: far pairs are neither drawn nor counted, and what they add is tiny."""
    rng = np.random.default_rng(6)
    codebook = tk.PointCodebook(np.concatenate([rng.normal(size=(600, 3)), [[50.0, 0.0, 0.0]]]))
    snr = np.array([100.0, 400.0])
    found = rare_error_probability(codebook, snr, key=2)
    expected = union_bound(codebook, snr).value
    np.testing.assert_allclose(
        found["union_bound"], np.where(expected < 1, expected, found["union_bound"]), rtol=1e-8
    )


@pytest.mark.parametrize("codebook", [as_points(GRIDS[0]), as_points(GRIDS[4])], ids=repr)
def test_union_bound(codebook: tk.PointCodebook) -> None:
    snr = np.array([30.0, 60.0, 200.0])
    found = rare_error_probability(codebook, snr, n_samples=64, key=0)
    np.testing.assert_allclose(found["union_bound"], union_bound(codebook, snr).value, rtol=1e-8)


@pytest.mark.slow
def test_e8_between_its_bounds() -> None:
    """Below the union bound, above the error against the nearest token alone, and below FSQ."""
    e8 = tk.e8_codebook()
    snr = np.array([110.0, 300.0])
    found = rare_error_probability(e8, snr, key=0)
    error = SIGMAS * found["standard_error"] + found["numerical_error"]
    assert (found["value"] - error <= union_bound(e8, snr).value).all()
    nearest = nearest_distances(e8.points)
    pairwise = special.ndtr(-np.sqrt(snr)[:, None] * nearest / 2).mean(axis=1)
    assert (found["value"] + error >= pairwise).all()
    assert (found["value"] + error < tk.error_probability(tk.FSQ((3,) * 8), snr).value).all()
    assert (error < 0.05 * found["value"]).all()


def test_sampling_stops_at_the_target() -> None:
    codebook = as_points(tk.FSQ((2,) * 6))
    snr = np.array([snr_at(tk.FSQ((2,) * 6), 0.2)])
    found = rare_error_probability(codebook, snr, n_samples=256, rtol=2e-3, key=0)
    assert found["standard_error"] <= 2e-3 * found["value"]
    assert found["n_samples"] > 2000
    assert_close(found, tk.error_probability(tk.FSQ((2,) * 6), snr))


def test_hand_over_follows_the_union_bound() -> None:
    for grid in (GRIDS[1], GRIDS[2], GRIDS[4]):
        snr = np.array([snr_at(grid, error) for error in (0.3, 1e-2, 1e-9)])
        better = rare_is_better(Problem(as_points(grid), snr))
        assert better.tolist() == [False, True, True]


def test_arguments() -> None:
    codebook = tk.PointCodebook([[0.0], [1.0]])
    snr = np.ones(1)
    with pytest.raises(ValueError, match="n_samples must be a whole number, at least 64"):
        rare_profile(codebook, snr, n_samples=3, key=0)
    with pytest.raises(ValueError, match="rtol must be above 0"):
        rare_profile(codebook, snr, rtol=-1.0, key=0)
    with pytest.raises(ValueError, match="truncation must be strictly between 0 and 1"):
        rare_profile(codebook, snr, truncation=1.0, key=0)


def test_three_scales() -> None:
    """The nearest rivals lie opposite each other: overlaps are among tokens that seldom win."""
    priors = [np.array([6, 3, 2]) / 11, np.array([12, 6, 4, 3]) / 25, [2 / 3, 1 / 3]]
    grid = tk.FSQ((3, 4, 2), priors=priors)
    snr = np.array([snr_at(grid, error) for error in (1e-3, 1e-5)])
    exact = tk.profile(grid, snr, STATISTICS)
    for key in range(5):
        found = rare_profile(as_points(grid), snr, STATISTICS, key=key)
        for name in STATISTICS:
            assert_close(found[name], exact[name])
            assert (found[name]["standard_error"] < 1e-5 * exact[name].value).all()


@pytest.mark.slow
def test_near_duplicates() -> None:
    """Two tokens 1e-3 apart among far ones: half their mass is lost until the SNR is huge."""
    rng = np.random.default_rng(5)
    points = 4 * rng.normal(size=(60, 4))
    points[1] = points[0] + [1e-3, 0, 0, 0]
    prior = np.full(60, 0.9 / 58)
    prior[:2] = [0.06, 0.04]
    snr = np.array([100.0, 1e8, 1e9])
    found = rare_error_probability(tk.PointCodebook(points, prior), snr, key=0)
    two = tk.ProductCodebook([[0.0, 1e-3]], [[0.6, 0.4]])
    alone = 0.1 * tk.error_probability(two, snr).value
    np.testing.assert_allclose(found["value"], alone, rtol=1e-9)
    assert (found["lower_bound"] <= found["value"] * (1 + 1e-12)).all()
    assert (found["value"] <= found["union_bound"] * (1 + 1e-12)).all()


@pytest.mark.parametrize("equal", [True, False])
def test_between_bounds(equal: bool) -> None:
    """Lower and upper bounds on both sides, near each other where errors are rare."""
    rng = np.random.default_rng(3)
    points = rng.normal(size=(400, 6))
    prior = None if equal else rng.dirichlet(np.full(400, 2.0)) * 0.9 + 0.1 / 400
    snr = np.array([4.0, 16.0, 100.0, 1000.0])
    found = rare_error_probability(tk.PointCodebook(points, prior), snr, n_samples=1000, key=0)
    error = SIGMAS * found["standard_error"] + found["numerical_error"]
    assert (found["lower_bound"] <= found["value"] + error).all()
    assert (found["value"] - error <= found["union_bound"]).all()
    assert (found["lower_bound"] > 0.2 * found["value"]).all()
    assert found["lower_bound"][-1] > 0.999 * found["value"][-1]


def test_against_plain_sampling() -> None:
    """Where both see enough: another method altogether, on points without structure."""
    rng = np.random.default_rng(9)
    codebook = tk.PointCodebook(rng.normal(size=(500, 6)), rng.dirichlet(np.full(500, 3.0)))
    snr = np.array([20.0, 40.0])
    found = rare_profile(codebook, snr, STATISTICS, key=1)
    plain = tk.profile(codebook, snr, STATISTICS, method=tk.MonteCarlo(n_samples=2**16), key=2)
    for name in STATISTICS:
        both = np.hypot(found[name]["standard_error"], plain[name].standard_error)
        allowed = SIGMAS * both + found[name]["numerical_error"]
        assert (np.abs(found[name]["value"] - plain[name].value) <= allowed).all(), name


def _covers(rows: list[dict[str, Any]]) -> None:
    """Neither below nor, unless numerical error dominates, above 95 % by more than luck allows."""
    hits = sum(round(row["coverage"] * row["runs"]) for row in rows)
    runs = sum(row["runs"] for row in rows)
    assert stats.binom.cdf(hits, runs, 0.95) > 1e-6, rows
    if not any(row["numerical_error_dominates"] for row in rows):
        assert stats.binom.sf(hits - 1, runs, 0.95) > 1e-6, rows


@pytest.mark.slow
def test_coverage() -> None:
    """Too low or too high a coverage would show: one by one, and over errors and codebooks."""
    runs = {"simplex K = 8": (1e-3,), "simplex K = 16, Zipf": RARE, "FSQ 3^3, rotated": RARE}
    found = []
    for label, errors in runs.items():
        exact, points = cases()[label]
        for error in errors:
            found += coverage(exact, points, error, 80 if label == "simplex K = 8" else 20)
    for row in found:
        _covers([row])
    for name in {row["quantity"] for row in found}:
        own = [row for row in found if row["quantity"] == name]
        _covers(own)  # 240 intervals
        _covers([row for row in own if not row["numerical_error_dominates"]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Gaussian", "clusters", "FSQ", "E8", "RVQ", "Zipf"])
def test_one_percent_from_two_thousand_samples(kind: str) -> None:
    """At 1e-9: 1 % of standard error, inside the bounds on both sides."""
    rng = np.random.default_rng(4)
    prior = None
    if kind == "Gaussian":
        points = rng.normal(size=(1024, 64))
    elif kind == "clusters":  # as k-means leaves them: many near few
        points = rng.normal(size=(32, 64))[rng.integers(32, size=1024)]
        points = points + 0.5 * rng.normal(size=(1024, 64))
    elif kind == "FSQ":
        points = tk.FSQ((3,) * 8).points + 0.1 * rng.normal(size=(6561, 8))
    elif kind == "E8":
        points = tk.e8_codebook().points
    elif kind == "RVQ":
        stages = [rng.normal(size=(16, 8)) / 2.0**stage for stage in range(3)]
        points = (stages[0][:, None, None] + stages[1][:, None] + stages[2]).reshape(-1, 8)
    else:
        points = rng.normal(size=(2000, 16))
        prior = 1 / np.arange(1, 2001)
        prior = prior / prior.sum()
    codebook = tk.PointCodebook(points, prior)

    def log_bound(snr: float) -> float:  # nearly a line, and without samples
        return float(np.log(max(union_bound(codebook, snr).value, 1e-300) / 1e-9))

    start = 8 * np.log(1e9) / np.median(nearest_distances(points)) ** 2
    options = {"method": "secant", "rtol": 2e-3}
    snr = optimize.root_scalar(log_bound, x0=start, x1=start / 2, **options).root
    found = rare_error_probability(codebook, np.array([snr]), n_samples=2000, key=0)
    value = found["value"]
    assert 5e-10 < value < 2e-9  # the SNR is found to half a percent
    assert found["standard_error"] + found["numerical_error"] < 0.01 * value
    error = SIGMAS * found["standard_error"] + found["numerical_error"]
    assert found["lower_bound"] - error <= value <= found["union_bound"] + error
    # The lower bound knows the 48 nearest rivals of each token. E8 has up to 240 at one distance,
    # and in 64 dimensions many are about as near: there it holds, but is not tight.
    assert found["lower_bound"] > {"E8": 0.5, "Gaussian": 0.5}.get(kind, 0.99) * value


def test_default_method_hands_over_where_errors_are_rare() -> None:
    """One profile over both regimes agrees with the exact grid throughout."""
    grid = tk.FSQ((3, 3, 3))
    snr = 10.0 ** np.array([0.0, 0.8, 1.6, 2.2, 3.0])
    exact = tk.profile(grid, snr, ALL)
    found = tk.profile(tk.PointCodebook(grid.points), snr, ALL, key=5)
    assert str(found["mmse"].method).startswith("Monte-Carlo")
    assert str(found["mmse"].method).endswith(", rare-event sampling")
    for name in ALL:
        estimate = found[name]
        assert estimate.interval_supported.all(), name
        low, high, _ = estimate.confidence_interval(1 - 1e-5)
        assert ((low <= exact[name].value) & (exact[name].value <= high)).all(), name
    alone = tk.error_probability(tk.PointCodebook(grid.points), snr[-1], key=5)
    assert str(alone.method) == "rare-event sampling"
    np.testing.assert_allclose(float(alone), exact["error_probability"].value[-1], rtol=1e-3)


def test_a_named_method_is_used_as_it_is() -> None:
    points = tk.PointCodebook(tk.FSQ((3, 3, 3)).points)
    estimate = tk.error_probability(points, 1e3, method=tk.MonteCarlo(n_samples=500), key=5)
    assert str(estimate.method) == "Monte-Carlo"
    assert not estimate.interval_supported
