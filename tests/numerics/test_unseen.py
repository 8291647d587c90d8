"""What a sample of discrete draws has not seen."""

from collections import Counter

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from tokenkl.numerics.unseen import labels_of, represented, seen_once

ROWS = hnp.arrays(
    np.int64, st.tuples(st.integers(1, 20), st.integers(1, 4)), elements=st.integers(0, 2)
)


@given(ROWS)
@settings(deadline=None)
def test_labels_are_those_of_rows(rows: np.ndarray) -> None:
    counts = Counter(map(tuple, rows.tolist()))
    labels = labels_of(rows)
    assert seen_once(labels) == sum(count == 1 for count in counts.values())
    for first, one in zip(rows.tolist(), labels, strict=True):
        for second, other in zip(rows.tolist(), labels, strict=True):
            assert (one == other) == (first == second)


def test_what_is_not_seen() -> None:
    # Nothing rare met in a thousand: three in a thousand may be elsewhere.
    assert not represented(0, 1000, np.array(0.0029), 1.0)
    assert represented(0, 1000, np.array(0.0031), 1.0)
    assert not represented(7, 1000, np.array(0.0099), 1.0)
    assert represented(40, 1000, np.array(0.0), 1.0)
    # All draws differ: they stand for those that were not made.
    assert represented(5, 5, np.array(0.0), 1.0)
