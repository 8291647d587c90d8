"""Durations from statistics, on texts whose durations are known."""

import numpy as np
import pytest

from tokenkl.tts.data import Example
from tokenkl.tts.lengths import Lengths


def aligned(symbols: list[int], lengths: list[int]) -> Example:
    return Example("", "", np.zeros(sum(lengths), int), np.array(symbols), np.array(lengths))


def test_durations_in_context_are_means_of_that_context() -> None:
    rows = [aligned([1, 2, 3], [2, 5, 1])] * 4 + [aligned([3, 2, 1], [2, 9, 2])] * 4
    found = Lengths.fit(rows)
    assert found.durations(np.array([1, 2, 3])).tolist() == [2, 5, 1]
    assert found.durations(np.array([3, 2, 1])).tolist() == [2, 9, 2]
    # 2 after 4 was never seen, 2 before 1 was: the right context counts.
    assert found.expected(np.array([4, 2, 1]))[1] == 9
    assert found.expected(np.array([4, 2, 4]))[1] == 7  # nothing of it was seen: the mean of 2


def test_lengths_of_characters_are_found_by_regression() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0.0, 2.0, 3.0, 1.0, 4.0])
    rows = []
    for _ in range(400):
        symbols = rng.integers(1, 5, size=20)
        size = round(truth[symbols].sum() + rng.normal(0, 1))
        rows.append(Example("", "", np.zeros(size, int), symbols))
    found = Lengths.fit(rows)
    np.testing.assert_allclose(found.expected(np.arange(1, 5)), truth[1:], atol=0.15)
    assert found.expected(np.array([9])) == pytest.approx(2.5, abs=0.1)  # never seen


def test_rates() -> None:
    fast = [aligned([1, 2], [4, 6])] * 10 + [aligned([1, 2], [8, 12])] * 10
    found = Lengths.fit(fast)
    assert found.durations(np.array([1, 2])).sum() == 15
    assert found.durations(np.array([1, 2]), rate=1.5).sum() == 10


def test_rounding_moves_no_edge_by_more_than_a_half() -> None:
    found = Lengths({(-1, -1, -1): 0.3}, (1.0,))
    durations = found.durations(np.ones(50, int))
    assert durations.sum() == 15
    assert np.abs(np.cumsum(durations) - 0.3 * np.arange(1, 51)).max() <= 0.5 + 1e-9
    assert found.durations(np.ones(1, int)).tolist() == [1]  # speech has at least one token


def test_files() -> None:
    found = Lengths.fit([aligned([1, 2, 3], [2, 5, 1])] * 5)
    again = Lengths.from_json(found.to_json())
    assert again.durations(np.array([1, 2, 3])).tolist() == [2, 5, 1]


def test_wrong_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="examples"):
        Lengths.fit([])
    with pytest.raises(ValueError, match="all with durations"):
        Lengths.fit([aligned([1], [1]), Example("", "", np.zeros(3, int), np.array([1]))])
