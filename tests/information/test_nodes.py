"""Values read off between nodes, against exact curves and against levels of their own."""

import tracemalloc

import numpy as np
import pytest

import tokenkl as tk
from benchmarks.coverage import rotated
from tokenkl.information.sampling import kernel, montecarlo
from tokenkl.information.sampling.nodes import ORDER, PER_OCTAVE, Nodes

QUANTITIES = ("error_probability", "conditional_entropy", "mmse")
#: Grids and one-hot codebooks with exact curves, and SNRs in decibels.
CURVES = {
    "FSQ 3^8": (tk.FSQ((3,) * 8), -2.0, 20.0),
    "one bit": (tk.FSQ((2,)), -20.0, 16.0),
    "FSQ 8, 5, 5, 5": (tk.FSQ((8, 5, 5, 5)), -10.0, 30.0),
    "one-hot 4096": (tk.OneHot(4096), 0.0, 18.0),
    "scales": (tk.ProductCodebook([[0.0, 1.0, 1.3, 5.0, 5.1, 9.0]] * 2), -20.0, 32.0),
    "unequal priors": (
        tk.ProductCodebook([[-1.0, -0.2, 1.0], [0.0, 1.5]], [[0.2, 0.3, 0.5], [1e-3, 0.999]]),
        -20.0,
        20.0,
    ),
}


def _levels(low: float, high: float, count: int = 181) -> np.ndarray:
    return np.sqrt(10 ** (np.linspace(low, high, count) / 10))


def test_polynomials_times_the_fall_are_read_off_exactly() -> None:
    levels = _levels(-5, 15)
    nodes = Nodes(levels, 1e-3)
    nodes.settle(0.3)
    of, reading = nodes.of(np.arange(levels.size))
    assert (of == np.arange(nodes.h.size)).all()
    assert reading is not None
    assert nodes.close.all()
    for power in range(ORDER):

        def value(h: np.ndarray, power: int = power) -> np.ndarray:
            return (h / 3) ** power * np.exp(-0.3 * h**2)

        values = np.stack([value(nodes.h), 2 * value(nodes.h)], axis=1)
        read = reading.read(values)
        np.testing.assert_allclose(read[:, 0], value(levels), rtol=1e-9)
        np.testing.assert_allclose(read[:, 1], 2 * value(levels), rtol=1e-9)
        missed = reading.missed(values)[:, 0]
        if power < ORDER - 2:
            assert np.abs(missed / value(levels)).max() < 1e-9
        else:
            assert np.abs(missed / value(levels)).max() > 1e-9


@pytest.mark.parametrize(("target", "allowed"), [(1e-4, 1e-5), (1e-5, 2e-6), (0, 5e-8)])
@pytest.mark.parametrize("name", CURVES)
def test_exact_curves_are_read_off(name: str, target: float, allowed: float) -> None:
    codebook, low, high = CURVES[name]
    levels = _levels(low, high)
    nodes = Nodes(levels, target)
    assert nodes.close.all()
    error = np.asarray(tk.error_probability(codebook, nodes.h**2).value)
    half, last = np.flatnonzero(error <= max(0.9 * error[0], 0.1))[0], -1
    nodes.settle(np.log(error[half] / error[last]) / (nodes.h[last] ** 2 - nodes.h[half] ** 2))
    _, reading = nodes.of(np.arange(levels.size))
    assert reading is not None
    at_nodes, exact = tk.profile(codebook, nodes.h**2), tk.profile(codebook, levels**2)
    for quantity in QUANTITIES:
        values = np.asarray(at_nodes[quantity].value)
        answer = np.asarray(exact[quantity].value)
        apart = np.abs(reading.read(values) - answer)
        scale = answer.max()
        assert apart.max() <= allowed * scale
        # A polynomial of a lower order says more than what is missed, but where signs change.
        missed = np.abs(reading.missed(values))
        assert apart.mean() <= missed.mean() + 1e-12 * scale
        assert (apart <= 10 * missed + 1e-9 * scale).mean() > 0.95


@pytest.mark.parametrize("prior", [None, [0.7, 0.2, 0.1]])
def test_information_where_nothing_is_seen_any_more(prior: list[float] | None) -> None:
    """Far beyond the last error that is seen: what is read off is what certainty gives.

    Rounding of a divergence there, times exp(slope h^2), would be millions of nats.
    """
    grid = tk.FSQ((3,) * 3, priors=None if prior is None else [prior] * 3)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    points = tk.PointCodebook(grid.points @ turn, grid.prior)
    snr = 10 ** (np.linspace(-20, 40, 121) / 10)
    method = tk.MonteCarlo(n_samples=8192)
    found = tk.profile(points, snr, ["mutual_information"], method=method, key=0)
    exact = tk.mutual_information(grid, snr)
    (estimate,) = found.estimates.values()
    assert "read off" in str(estimate.method)
    error = np.abs(estimate.value - exact.value)
    assert error.max() < 0.1
    assert (error <= 6 * estimate.standard_error + estimate.numerical_error + 1e-5).all()
    assert estimate.numerical_error.max() < 1e-3


@pytest.mark.slow
def test_means_that_fall_no_further() -> None:
    """Two rare tokens of 344 nearly at one place: errors fall by four decades, and stay there."""
    grid = np.asarray(tk.FSQ((7, 7, 7)).points)
    points = np.concatenate([grid, grid[:1] + 1e-9])
    prior = np.full(344, 1.0)
    prior[[0, -1]] = 5e-3
    book = tk.PointCodebook(points, prior / prior.sum())
    snr = 10 ** (np.linspace(0, 60, 181) / 10)
    method = tk.MonteCarlo(n_samples=16384)
    found = tk.profile(
        book, snr, ["error_probability", "conditional_entropy"], method=method, key=0
    )
    expected = 0.5 * 2 * 5e-3 / prior.sum()
    for estimate, whole in zip(found.estimates.values(), (1.0, 2 * np.log(2)), strict=True):
        assert "read off" in str(estimate.method)
        last = snr > 1e5
        assert estimate.numerical_error[last].max() < 20 * expected
        assert np.abs(estimate.value[last] - whole * expected).max() < 20 * expected


def test_few_levels_and_those_far_apart_are_their_own_nodes() -> None:
    for levels in (
        np.array([0.0]),
        _levels(0, 1, 15),
        _levels(-10, 30, 41),  # six for each octave
        np.array([1e-300, 1.0, 1e150]),
    ):
        nodes = Nodes(levels, 1e-3)
        every = np.arange(levels.size)
        assert (nodes.h == levels).all()
        assert not nodes.close.any()
        places, reading = nodes.of(every)
        assert reading is None
        assert (nodes.places[places] == levels).all()
        assert (nodes.nearest == every).all()
    assert (Nodes(_levels(0, 10), None).h == _levels(0, 10)).all()


def test_some_levels_are_read_off_and_others_are_not() -> None:
    close = _levels(0, 10, 101)
    levels = np.concatenate([[0.0], close[::-1], [1e-9, 100.0, 1e150]])
    nodes = Nodes(levels, 1e-3)
    assert (nodes.close == np.isin(levels, close)).all()
    assert nodes.h.size < 40
    for single in (True, False):  # the kernel finds them evenly spaced
        run = kernel.RUN_SINGLE if single else kernel.RUN
        steps, _ = kernel._runs(np.sort(nodes.h), run)
        assert 2 * (steps > 0).sum() >= nodes.h.size - 6
    some = np.concatenate([[0], np.arange(5, 40), [103]])
    of, reading = nodes.of(some)
    assert reading is not None
    assert set(nodes.places[of]) >= {0.0, 100.0}
    assert of.size < some.size
    np.testing.assert_allclose(reading.read(nodes.places[of]), levels[some], rtol=1e-12)
    # What is not read off misses nothing; errors of any signs add up, and are its own there.
    missed, alone = reading.missed(np.exp(-nodes.places[of])), np.array([0, -1])
    assert not missed[alone].any()
    assert missed[1:-1].any()
    signs = np.where(np.arange(of.size) % 2, 1.0, -1.0)
    spread = reading.spread(np.ones(of.size))
    assert (spread >= np.abs(reading.read(signs)) - 1e-12).all()
    assert (spread[alone] == 1).all()
    assert spread.max() > 1.01
    assert (np.abs(nodes.h[nodes.nearest] - levels)[1:102] < levels[1:102] / 6).all()


def test_few_levels_that_are_left_are_looked_at_by_themselves() -> None:
    levels = np.concatenate([[0.0], _levels(0, 10, 40)])
    nodes = Nodes(levels, 1e-3)
    assert nodes.close.sum() == 40
    for some in ([0, 3, 17], [40], [0]):
        places, reading = nodes.of(np.array(some))
        assert reading is None
        assert (nodes.places[places] == levels[some]).all()
        assert (nodes.node_of_place[places] == nodes.nearest[some]).all()
    many = Nodes(_levels(0, 10, 400), 1e-3)
    places, reading = many.of(np.array([7]))
    assert reading is not None
    assert places.size == ORDER


def test_tight_targets_have_more_nodes() -> None:
    counts = [Nodes(_levels(0, 20), target).h.size for target, _ in PER_OCTAVE]
    octaves = np.log2(10)
    for count, (_, per_octave) in zip(counts, PER_OCTAVE, strict=True):
        assert octaves * per_octave < count <= octaves * per_octave + 6


@pytest.mark.slow
@pytest.mark.parametrize("single", [True, False])
def test_a_profile_of_many_levels(single: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at levels of their own, whose samples are the same, and right."""
    grid = tk.ProductCodebook(
        [[-1.0, -0.2, 1.0], [0.0, 0.3, 1.5]], [[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]]
    )
    codebook, snr = rotated(grid), _levels(-10, 25, 150) ** 2
    quantities = (*QUANTITIES, "accuracy", "mutual_information", "sampling_error")
    method = tk.MonteCarlo(n_samples=2**13, precision="single" if single else "double")
    found = tk.profile(codebook, snr, quantities, method=method, key=0)
    answer = tk.profile(grid, snr, quantities)
    monkeypatch.setattr(montecarlo, "Nodes", lambda levels, _: Nodes(levels, None))
    alone = tk.profile(codebook, snr, quantities, method=method, key=0)
    for name in quantities:
        error = np.asarray(found[name].standard_error)
        apart = np.abs(np.asarray(found[name].value) - np.asarray(answer[name].value))
        # Neighbouring levels go up and down together: a false alarm for about thirty of them.
        assert (apart <= 5.5 * error + np.asarray(found[name].numerical_error)).all()
        ratio = error / np.asarray(alone[name].standard_error)
        assert 0.9 < np.median(ratio) < 1.1
        numerical = np.asarray(found[name].numerical_error)
        # What reading off may have missed is in it.
        assert np.median(numerical / np.asarray(alone[name].numerical_error)) > 1
        assert (numerical <= 0.5 * error + 1e-4 * np.asarray(answer[name].value)).all()


def test_a_target_is_met_at_every_level() -> None:
    codebook = tk.PointCodebook(np.random.default_rng(0).standard_normal((300, 3)))
    snr = _levels(-5, 20, 120) ** 2
    method = tk.MonteCarlo(atol=3e-3)
    found = tk.profile(codebook, snr, ("accuracy", "conditional_entropy"), method=method, key=1)
    for name in ("accuracy", "conditional_entropy"):
        assert np.asarray(found[name].standard_error).max() <= 3e-3
        assert np.asarray(found[name].numerical_error).max() <= 3e-4  # mostly the noise in it
    count = np.asarray(found["accuracy"].n_samples)
    assert count.min() < count.max()


def test_tens_of_thousands_of_levels_take_no_room_for_their_pairs() -> None:
    """With close ones among them or not: numbers are levels times nodes, never levels squared."""
    for levels, target in ((np.geomspace(1e-3, 1e3, 10_000), 1e-3), (_levels(0, 10, 60_000), None)):
        tracemalloc.start()
        nodes = Nodes(levels, target)
        _, reading = nodes.of(np.arange(levels.size))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2**28
        assert (reading is None) == (target is None)
    many = Nodes(np.geomspace(1e-3, 1e3, 10**5), 1e-3)  # beyond what a rule may have
    assert not many.close.any()
