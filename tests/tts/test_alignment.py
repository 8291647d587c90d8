"""Time warping against all paths, one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tokenkl.tts.alignment import warped_distance

FRAMES = st.integers(1, 4).flatmap(
    lambda size: arrays(float, (size, 2), elements=st.integers(-3, 3).map(float))
)


def by_listing(a: np.ndarray, b: np.ndarray) -> float:
    """The cheapest of all paths, the longest of equally cheap ones."""
    ends = (len(a) - 1, len(b) - 1)

    def paths(at: tuple[int, int]) -> list[list[tuple[int, int]]]:
        if at == ends:
            return [[at]]
        steps = [(1, 0), (0, 1), (1, 1)]
        after = [(at[0] + i, at[1] + j) for i, j in steps]
        return [
            [at, *rest] for one in after if one[0] <= ends[0] and one[1] <= ends[1]
            for rest in paths(one)
        ]  # fmt: skip

    found = []
    for path in paths((0, 0)):
        costs = [float(np.abs(a[i] - b[j]).mean()) for i, j in path]
        found.append((sum(costs), -len(costs)))
    total, pairs = min(found)
    return total / -pairs


@settings(deadline=None)
@given(FRAMES, FRAMES)
def test_the_cheapest_path(a: np.ndarray, b: np.ndarray) -> None:
    assert warped_distance(a, b) == pytest.approx(by_listing(a, b), abs=1e-12)
    assert warped_distance(b, a) == pytest.approx(warped_distance(a, b), abs=1e-12)


def test_pace_costs_nothing() -> None:
    frames = np.random.default_rng(0).standard_normal((40, 8))
    slow = np.repeat(frames, np.random.default_rng(1).integers(1, 4, 40), axis=0)
    assert warped_distance(frames, slow) == 0
    assert warped_distance(frames, slow + 0.25) == pytest.approx(0.25)
    assert warped_distance(frames, np.flip(frames, 0)) > 0.5


def test_frames_are_needed() -> None:
    for a, b in itertools.permutations([np.zeros((0, 2)), np.zeros((1, 2)), np.zeros((1, 3))], 2):
        with pytest.raises(ValueError, match="a, b must be frames of one size"):
            warped_distance(a, b)
