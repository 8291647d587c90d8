"""D <= 2/(K - 1) for K points of [-1, 1], with equality for equal steps
(docs/theory/optimality.md, O8)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenkl.optimality.nn_bounds import line_bound


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_no_points_have_more(values: list[float]) -> None:
    gaps = np.diff(np.sort(values))
    padded = np.concatenate([[np.inf], gaps, [np.inf]])
    mean = np.minimum(padded[1:], padded[:-1]).mean()
    assert mean <= line_bound(len(values)).value * (1 + 1e-12)


@pytest.mark.parametrize("K", [2, 3, 8])
def test_equal_steps_attain_it(K: int) -> None:
    assert np.diff(np.linspace(-1, 1, K)).mean() == pytest.approx(line_bound(K).value, rel=1e-14)
