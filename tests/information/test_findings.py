"""`Findings`: parts joined over levels, complements, sums of independent parts, one `Estimate`."""

from __future__ import annotations

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.information.findings import NUMBERS, UNSUPPORTED, Findings
from tokenkl.ways import Way, Ways

LOW = Findings(
    np.array([0.2, 0.4]), 0.01, 1e-9, 100, True, 1.0, 0.3, np.inf, method="rays", note="a bracket"
)
HIGH = Findings(np.array([1e-9]), 1e-12, 1e-15, 2000, False, 1e-8, 0.1, 15, method="rare events")


def test_every_number_has_a_place_for_every_level() -> None:
    for name in NUMBERS:
        assert getattr(LOW, name).shape == (2,), name
    assert LOW.at(np.array([1])).value.tolist() == [0.4]


def test_levels_are_joined_each_with_its_own_range() -> None:
    found = Findings.joined(3, [(np.array([0, 2]), LOW), (np.array([1]), HIGH)])
    assert found.value.tolist() == [0.2, 1e-9, 0.4]
    assert found.n_samples.tolist() == [100, 2000, 100]
    assert found.sample_range.tolist() == [1.0, 1e-8, 1.0]
    assert found.degrees_of_freedom.tolist() == [np.inf, 15, np.inf]
    assert found.interval_supported.tolist() == [True, False, True]
    assert (str(found.method), found.note) == ("rays, rare events", "a bracket")
    assert found.method == Ways([Way("rays", (), (0, 2)), Way("rare events", (), (1,))])
    assert found.at(np.array([1])).method == Ways.of("rare events")


def test_what_comes_later_replaces() -> None:
    found = Findings.joined(2, [(np.arange(2), LOW), (np.array([1]), HIGH)])
    assert found.value.tolist() == [0.2, 1e-9]
    assert [str(found.method.at(level)) for level in (0, 1)] == ["rays", "rare events"]
    again = Findings.joined(2, [(np.arange(2), LOW), (np.array([1]), LOW.at(np.array([0])))])
    assert str(again.method) == "rays"  # once


def test_a_complement_of_a_complement() -> None:
    accuracy = LOW.complement(1.0, 1e-16)
    assert accuracy.value.tolist() == [0.8, 0.6]
    assert (accuracy.skewness == -LOW.skewness).all()
    assert (accuracy.numerical_error == LOW.numerical_error + 1e-16).all()
    assert (accuracy.standard_error == LOW.standard_error).all()
    assert np.allclose(accuracy.complement(1.0).value, LOW.value, rtol=1e-15)


def test_a_weighted_sum_is_that_of_estimates() -> None:
    """The same numbers as Estimate's own arithmetic gives, but for its rounding."""
    one, other = LOW.at(np.array([0])), HIGH
    found = one.plus(other, 0.25)
    first, second = (part.estimate((1,), unit="nats") for part in (one, other))
    expected = first + 0.25 * second
    for name in NUMBERS:
        assert np.allclose(getattr(found, name), getattr(expected, name), rtol=1e-12), name
    ours, theirs = found.estimate((1,)).confidence_interval(), expected.confidence_interval()
    assert np.allclose(ours.low, theirs.low, rtol=1e-12)
    assert np.allclose(ours.high, theirs.high, rtol=1e-12)


def test_the_range_of_a_sum_is_more_than_that_of_its_parts() -> None:
    """Maurer and Pontil's second terms, R / (n - 1), add up over parts of different sizes."""
    few = Findings(np.array([0.1]), 0.1, n_samples=11, sample_range=1.0, interval_supported=False)
    many = Findings(np.array([0.1]), 1e-3, n_samples=10**4 + 1, sample_range=3.0)
    found = few.plus(many, 2.0)
    share = found.sample_range / (found.n_samples - 1)
    assert share == pytest.approx(1.0 / 10 + 2 * 3.0 / 10**4, rel=1e-14)
    assert not found.interval_supported.any()


def test_a_part_that_cannot_err_has_no_range() -> None:
    sure = Findings(np.array([0.5]), n_samples=0, sample_range=np.inf)
    assert LOW.at(np.array([0])).plus(sure, 1.0).sample_range == pytest.approx(1.0)


def test_one_estimate() -> None:
    found = LOW.estimate((2, 1), quantity="accuracy", seed=3)
    assert found.value.shape == found.standard_error.shape == (2, 1)
    assert found.n_samples == 100
    assert isinstance(found.n_samples, int)
    assert found.sample_range == 1.0
    assert isinstance(found.sample_range, float)
    assert (str(found.method), found.quantity, found.note) == ("rays", "accuracy", "a bracket")
    mixed = Findings.joined(3, [(np.array([0, 2]), LOW), (np.array([1]), HIGH)]).estimate((3,))
    assert mixed.n_samples.tolist() == [100, 2000, 100]
    assert mixed.note == f"a bracket; {UNSUPPORTED}"


def test_no_level_at_all() -> None:
    points = tk.PointCodebook(np.random.default_rng(0).standard_normal((5, 3)))
    for codebook in (points, tk.FSQ((3, 2))):
        assert tk.accuracy(codebook, np.zeros((0, 2)), key=0).value.shape == (0, 2)


def test_intervals_of_rare_levels_do_not_take_the_range_of_common_ones() -> None:
    """Where both are in one estimate, each level has the range of its own draws."""
    points = tk.PointCodebook(np.random.default_rng(0).standard_normal((40, 4)))
    found = tk.error_probability(points, [1.0, 1e4], key=0)
    alone = tk.error_probability(points, [1e4], key=0)
    assert found.sample_range[0] == 1.0
    assert found.sample_range[1] == alone.sample_range < 1e-20
