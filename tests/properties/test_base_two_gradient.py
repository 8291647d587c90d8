"""K dA/de_ki = sign(e_ki) h phi(h) Phi(h)^(n-1) at FSQ 2^n: accuracy falls inwards."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import tokenkl as tk


@given(
    st.floats(0.1, 4.0),
    st.lists(st.floats(0.0, 1.0), min_size=8, max_size=8).filter(lambda v: sum(v) > 0.1),
)
@settings(deadline=None, max_examples=40)
def test_accuracy_falls_by_the_sum_of_all_steps_inwards(h: float, steps: list[float]) -> None:
    """In the plane, where accuracy is exact: a centred difference along any motion inwards."""
    square = np.asarray(tk.FSQ((2, 2)).points)
    motion = -np.sign(square) * np.reshape(steps, (4, 2))
    step = 1e-4

    def accuracy(size: float) -> float:
        return float(tk.accuracy(tk.PointCodebook(square + size * motion), h * h))

    slope = (accuracy(step) - accuracy(-step)) / (2 * step)
    density = np.exp(-h * h / 2) / np.sqrt(2 * np.pi)
    expected = -h * density * special.ndtr(h) * sum(steps) / 4
    assert abs(slope - expected) <= 1e-5 * h * (1 + h) ** 2
    assert accuracy(step) < accuracy(0.0)
