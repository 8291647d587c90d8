"""What `verify` samples on its own: ways of drawing against quadrature, errors and ranges."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.testing import reference_profile
from tokenkl.verification import _anew
from tokenkl.verification._anew import QUANTITIES, estimate

RNG = np.random.default_rng(8)
CLUSTERS = 0.02 * (RNG.normal(size=(10, 2)) + np.repeat([[0.0, 0.0], [400.0, 0.0]], 5, axis=0))
PLANAR = tk.PointCodebook(RNG.normal(size=(6, 2)), RNG.dirichlet(np.ones(6)))
CODEBOOKS = [
    PLANAR,
    tk.PointCodebook(CLUSTERS + 1e3, RNG.dirichlet(np.ones(10))),
    tk.FSQ((3, 3, 2), priors=[[0.7, 0.2, 0.1], None, [0.999, 0.001]]),
    tk.OneHot(3, [0.2, 0.7, 0.1], 1.3),
    tk.PointCodebook(np.repeat(np.eye(3), 2, axis=0), [0.3, 0.2, 0.1, 0.1, 0.2, 0.1],
                     allow_duplicates=True),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("codebook", CODEBOOKS, ids=repr)
def test_intervals_hold_the_truth_and_are_narrow(codebook: tk.Codebook) -> None:
    """All quantities against quadrature; the truth is near the middle, as if sigma were a sixth."""
    snr = np.array([0.02, 1.0, 30.0])
    found = estimate(codebook, snr, key=4, alarm=1e-6)
    assert found is not None
    for index, one in enumerate(snr):
        right = reference_profile(codebook, float(one))
        for name in QUANTITIES:
            truth, slack = float(right[name]), float(right[name].numerical_error)
            value, low, high = (part[index] for part in found[name])
            # A half-width is 6.2 standard errors and more.
            assert abs(value - truth) <= 0.7 * (high - low) / 2 + slack, name
            if name != "sampling_error":
                assert high - low <= 2 * 0.006 * truth, name


def part_of(codebook: tk.Codebook) -> _anew._Part:
    """The one part of a codebook, in the codebook's own unit of length."""
    parts = _anew._parts(codebook, 0)
    assert parts is not None
    (part,) = parts
    size = 2.0**part.exponent
    return dataclasses.replace(
        part,
        points=size * part.points,
        squared=None if part.squared is None else size**2 * part.squared,
        closest=size * part.closest,
        exponent=0,
    )


@pytest.mark.parametrize("way", [_anew._Plain, _anew._Path, _anew._Pairs, _anew._FarPairs])
@pytest.mark.parametrize("codebook", [PLANAR, CODEBOOKS[1], CODEBOOKS[4]], ids=repr)
def test_every_way_is_unbiased(codebook: tk.PointCodebook, way: type[_anew._Way]) -> None:
    """Each of them at every noise level, also where another one would be taken."""
    for snr in (0.1, 2.0, 15.0):
        drawn = way(part_of(codebook), math.sqrt(snr))
        mean, error, draws = _anew._average(drawn, 2**15, np.random.default_rng(1))
        assert draws >= 2**15
        right = reference_profile(codebook, snr)
        for row, name in enumerate(drawn.rows):
            off = abs(mean[row] - float(right[name]))
            # 5.2 standard errors: two in 1e7, for a hundred comparisons.
            assert off <= 5.2 * error[row] + drawn.cut + 1e-9 * mean[row], (name, snr)
            if snr == 2.0:  # not only because errors are large
                assert error[row] < 0.02 * mean[row], (name, snr)


@pytest.mark.parametrize("way", [_anew._Plain, _anew._Path, _anew._Pairs, _anew._FarPairs])
def test_standard_errors_are_what_repetitions_vary_by(way: type[_anew._Way]) -> None:
    drawn = way(part_of(PLANAR), 1.5)
    rng = np.random.default_rng(3)
    runs = [_anew._average(drawn, 2**9, rng) for _ in range(400)]
    spread = np.var([run.mean for run in runs], axis=0, ddof=1)
    claimed = np.mean([run.error**2 for run in runs], axis=0)
    # The variance of 400 runs is known to 7 %.
    np.testing.assert_allclose(claimed, spread, rtol=0.3)


def test_strata_lower_the_variance_of_rare_errors() -> None:
    """Only the noise from token to token matters there, and strata divide it evenly."""
    part = part_of(tk.PointCodebook(np.array([[0.0, 0.0], [1.0, 0.0]])))
    drawn = _anew._Pairs(part, 20.0)
    few = _anew._average(drawn, 2**10, np.random.default_rng(0))
    many = _anew._average(drawn, 2**16, np.random.default_rng(0))
    truth = float(tk.error_probability(tk.FSQ((2,)), 100.0))
    assert abs(many.mean[0] / truth - 1) < 1e-4
    assert many.error[0] < few.error[0] / 50  # plain samples: an eighth


@given(st.integers(0, 2**32), st.integers(2, 9), st.floats(0.0, 60.0))
def test_ranges(seed: int, K: int, spread: float) -> None:
    """1 - max p <= x/2, S <= x/2, entropy <= x, variance <= a quarter of the far sum."""
    rng = np.random.default_rng(seed)
    points, logits = rng.normal(size=(K, 2)), spread * rng.normal(size=K)
    p = np.exp(logits - np.logaddexp.reduce(logits))
    root = np.sqrt(np.outer(p, p)) * (1 - np.eye(K))
    squares = ((points[:, None] - points) ** 2).sum(axis=-1)
    x, far = root.sum(), (root * squares).sum()
    assert 1 - p.max() <= x / 2 + 1e-12
    assert 1 - (p**2).sum() <= x / 2 + 1e-12
    assert -(p * logits).sum() + np.logaddexp.reduce(logits) <= x + 1e-9
    variance = p @ ((points - p @ points) ** 2).sum(axis=-1)
    assert variance <= far / 4 + 1e-12


def test_no_draw_is_longer_than_its_range() -> None:
    for codebook in CODEBOOKS[:2]:
        for h in (0.05, 1.0, 7.0):
            for way in (_anew._Plain, _anew._Path, _anew._Pairs, _anew._FarPairs):
                drawn = way(part_of(codebook), h)
                rng = np.random.default_rng(5)
                values = drawn.values(rng.random(5000), rng.random(5000), rng)
                assert (np.ptp(values, axis=1) <= drawn.ranges * (1 + 1e-9)).all()
                if way is not _anew._Plain:  # the error is cut off at its lower end there
                    assert (values >= -1e-12 * drawn.ranges[:, None]).all()
                    assert (values.max(axis=1) <= drawn.ranges * (1 + 1e-9)).all()


def test_what_is_cut_off_max_p() -> None:
    """Two tokens: the mean of (max p - cap)+ by quadrature, below what is said of it."""
    points = np.array([[0.0], [1.0], [0.3]])
    part = part_of(tk.PointCodebook(points, [0.3, 0.3, 0.4]))
    z, step = np.linspace(-9, 9, 40_001, retstep=True)
    for h in (0.01, 0.1, 0.4, 2.0):
        way = _anew._Plain(part, h)
        densities = np.exp(part.log_prior - (z[:, None] - h * part.points[:, 0]) ** 2 / 2)
        above = np.maximum(densities.max(axis=1) - way.cap * densities.sum(axis=1), 0.0)
        lost = above.sum() * step / math.sqrt(2 * math.pi)
        assert lost <= way.cut + 1e-15
        assert way.cut <= 1e-4 * 0.4
    assert _anew._Plain(part, 0.01).cap < 0.45
    assert _anew._Plain(part, 2.0).cap > 0.9


def test_small_bernstein_samples_cover() -> None:
    """Far fewer draws than a central limit needs, at a low level: no more misses than allowed."""
    way = _anew._Pairs(part_of(CODEBOOKS[1]), 1.2)
    truth = float(reference_profile(CODEBOOKS[1], 1.44)["conditional_entropy"])
    candidate, rng, missed = _anew._Candidate(0, 2, None), np.random.default_rng(6), 0
    for _ in range(300):
        found = _anew._average(way, 64, rng)
        _, low, high = _anew._interval(found, way, candidate, 0.9)
        missed += not low <= truth <= high
    assert missed <= 30


def test_too_many_tokens() -> None:
    assert estimate(tk.OneHot(5000), np.array([1.0]), key=0, alarm=1e-6) is None
    one = estimate(tk.PointCodebook(np.ones((1, 3))), np.array([1.0]), key=0, alarm=1e-6)
    assert one is not None
    assert float(one["accuracy"].value[0]) == 1
    assert float(one["mmse"].high[0]) == 0


@pytest.mark.slow
def test_rounding_is_in_the_interval() -> None:
    """Where logits lose digits the interval grows, and where they lose all it says nothing."""
    points = np.array([[0.0, 0.0], [1e6, 0.0], [1e6, 1e-4]])
    truth = float(tk.error_probability(tk.FSQ((2,)), 1.0)) * 2 / 3
    widths = []
    for scale in (1e-5, 1e-4, 1.0):  # 2e5, 2e6, 2e10 noise standard deviations from end to end
        codebook = tk.PointCodebook(points * [scale, 1.0])
        found = estimate(codebook, np.array([4e8]), key=1, alarm=1e-6)
        assert found is not None
        side = found["error_probability"]
        assert side.low[0] <= truth <= side.high[0]
        widths.append((side.high[0] - side.low[0]) / truth)
    assert widths[0] < 0.01 < widths[1]
    assert widths[2] == pytest.approx(1 / truth)  # from 0 to 1
