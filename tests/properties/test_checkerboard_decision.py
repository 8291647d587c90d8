"""When an even word is the nearest of all even words (docs/theory/lattices.md, L2).

x is nearest to y if and only if no level of its own parity costs less in any coordinate, and the
cheapest levels of the other parity cost together at least 0 in any two coordinates.
"""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

#: Multiples of 1/8, where ties are common, and anything.
PLACES = st.one_of(st.integers(-24, 56).map(lambda i: i / 8), st.floats(-20, 20))
AXES = st.lists(
    st.tuples(st.integers(2, 5), st.sampled_from([0.5, 1.0, 1.5, 4.0]), PLACES),
    min_size=2,
    max_size=4,
)


@given(AXES, st.integers(0, 10**6))
def test_two_conditions_decide(axes: list[tuple[int, float, float]], which: int) -> None:
    levels, steps, y = (np.array(column) for column in zip(*axes, strict=True))
    words = np.array(list(itertools.product(*(range(L) for L in levels))))
    words = words[words.sum(axis=1) % 2 == 0]
    squares = ((steps * (y - words)) ** 2).sum(axis=1)
    x = words[which % len(words)]
    cost = [
        (step * (place - np.arange(L))) ** 2 - (step * (place - digit)) ** 2
        for L, step, place, digit in zip(levels, steps, y, x, strict=True)
    ]
    same = [one[digit % 2 :: 2].min() for one, digit in zip(cost, x, strict=True)]
    other = [one[1 - digit % 2 :: 2].min() for one, digit in zip(cost, x, strict=True)]
    room = 1e-9 * (1 + squares.max())
    own = ((steps * (y - x)) ** 2).sum()
    by_conditions = min(*same, *(a + b for a, b in itertools.combinations(other, 2)))
    if own <= squares.min() + room / 8:
        assert by_conditions >= -room
    if by_conditions >= -room / 8:
        assert own <= squares.min() + len(levels) * room
