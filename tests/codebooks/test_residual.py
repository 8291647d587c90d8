"""`ResidualCodebook`: all sums, in order, lazily."""

import numpy as np
import pytest

from tokenkl.codebooks import ResidualCodebook

RNG = np.random.default_rng(0)
STAGES = [RNG.normal(size=(size, 2)) for size in (2, 3, 4)]


def test_points_are_all_sums_with_the_last_stage_fastest():
    cb = ResidualCodebook(STAGES)
    expected = (STAGES[0][:, None, None] + STAGES[1][:, None] + STAGES[2]).reshape(24, 2)
    np.testing.assert_allclose(cb.points, expected, rtol=1e-15)
    assert (cb.K, cb.n, cb.shape, cb.label) == (24, 2, (2, 3, 4), "RVQ 2x3x4")
    np.testing.assert_allclose(cb.points_at([[1], [23]])[:, 0], expected[[1, 23]], rtol=1e-15)


def test_it_is_lazy_at_any_size():
    cb = ResidualCodebook([RNG.normal(size=(1024, 8)) for _ in range(32)])
    assert cb.K == 1024**32
    np.testing.assert_allclose(cb.points_at(0), sum(stage[0] for stage in cb.stages), rtol=1e-13)
    with pytest.raises(ValueError, match="points must be at most"):
        cb.points  # noqa: B018


def test_sums_may_coincide():
    cb = ResidualCodebook([[[0.0], [1.0]], [[0.0], [1.0]]])
    assert cb.points[:, 0].tolist() == [0, 1, 1, 2]


def test_prior():
    prior = RNG.dirichlet(np.ones(24))
    cb = ResidualCodebook(STAGES, prior)
    np.testing.assert_allclose(cb.prior, prior, rtol=1e-14)
    assert not cb.has_equal_priors


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "stages must be a list with at least one"),
        ([[1.0, 2.0]], r"stages\[0\] must be an array with 2 axes"),
        ([[[1.0]], [[1.0, 2.0]]], r"stages\[1\] must be in R\^1"),
        ([[[np.inf]]], r"stages\[0\] must be finite"),
    ],
)
def test_bad_stages_are_refused(stages, message):
    with pytest.raises(ValueError, match=message):
        ResidualCodebook(stages)
