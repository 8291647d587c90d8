"""The grid near a codebook is found by its gaps, whatever else its levels hold."""

import numpy as np

import tokenkl as tk
from tokenkl.information.sampling.controls import _nearby_grid


def test_tokens_that_did_not_move_are_no_levels_of_their_own() -> None:
    """Two levels of four tokens each, some of them at one place: not four levels of two."""
    first = np.array([0.0, 0.0, 0.05, 0.06, 1.0, 1.0, 1.05, 1.07])
    second = np.tile([0.0, 1.0, 2.0, 3.0], 2) + np.linspace(-0.02, 0.02, 8) ** 3 * 1e3
    order = np.random.default_rng(0).permutation(8)
    found = _nearby_grid(tk.PointCodebook(np.stack([first, second], axis=1)[order]))
    assert found is not None
    grid, ids = found
    assert [column.size for column in grid.levels] == [2, 4]
    np.testing.assert_allclose(grid.levels[0], [first[:4].mean(), first[4:].mean()])
    np.testing.assert_array_equal(ids, order)
