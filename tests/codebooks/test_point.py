"""`PointCodebook` and what every codebook shares."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenkl.codebooks import PointCodebook


def test_fields() -> None:
    cb = PointCodebook([[0, 1], [2, 3], [4, 5]], name="three")
    assert (cb.K, cb.n, cb.label) == (3, 2, "three")
    assert cb.points.dtype == np.float64
    assert cb.has_equal_priors
    np.testing.assert_allclose(cb.prior, np.full(3, 1 / 3), rtol=1e-15)
    assert cb.prior_entropy() == pytest.approx(np.log(3))
    assert repr(cb) == "<PointCodebook three: K = 3, n = 2, equal priors>"
    assert cb.points_at([[2], [0]]).tolist() == [[[4, 5]], [[0, 1]]]


def test_prior() -> None:
    cb = PointCodebook([[0.0], [1.0]], [0.25, 0.75])
    assert not cb.has_equal_priors
    assert "unequal priors" in repr(cb)
    np.testing.assert_allclose(cb.prior, [0.25, 0.75], rtol=1e-15)
    assert cb.prior_entropy() == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    assert PointCodebook([[0.0], [1.0]], [0.5, 0.5]).has_equal_priors


def test_the_codebook_keeps_its_own_copy() -> None:
    points = np.eye(2)
    cb = PointCodebook(points)
    points[0, 0] = 9
    assert cb.points[0, 0] == 1


def test_duplicates_only_when_allowed() -> None:
    with pytest.raises(ValueError, match="rows 0 and 2 that are equal"):
        PointCodebook([[0.0, 0.0], [1.0, 0.0], [-0.0, 0.0]])
    assert PointCodebook([[0.0], [0.0]], allow_duplicates=True).K == 2


def test_it_is_a_pytree_that_jax_can_differentiate() -> None:
    prior = np.array([0.3, 0.7])

    def spread(points: jax.Array) -> jax.Array:
        cb = PointCodebook(points, prior)
        return jnp.sum(cb.points_at([0]) * cb.points_at([1]))

    points = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(jax.grad(spread)(points), [[3, 4], [1, 2]])


@pytest.mark.parametrize(
    "points", [[], [[]], [1.0, 2.0], np.zeros((0, 3)), [[np.nan]], [["a"]], [[1j * np.inf]], None]
)
def test_bad_points_are_refused(points: Any) -> None:
    with pytest.raises(ValueError, match="points must be"):
        PointCodebook(points)


def test_complex_coordinates_are_two_real_ones() -> None:
    line = np.array([1 + 2j, -3j, 4])
    pairs = [[1, 2], [0, -3], [4, 0]]
    for given in (line, line[:, None], line.astype(np.complex64), list(line), jnp.asarray(line)):
        assert PointCodebook(given).points.tolist() == pairs
    assert PointCodebook(np.stack([line, 1j * line], 1)).points[0].tolist() == [1, 2, -2, 1]
    torch = pytest.importorskip("torch")
    assert PointCodebook(torch.tensor(line, requires_grad=True)).points.tolist() == pairs
    with pytest.raises(ValueError, match="points must be finite everywhere"):
        PointCodebook([1j, complex(0, np.nan)])
    with pytest.raises(ValueError, match="points must be an array of real numbers"):
        PointCodebook(1j)
