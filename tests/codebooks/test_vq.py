"""k-means codebooks, spherical codebooks, priors from counts."""

from typing import Any

import jax
import numpy as np
import pytest

from tokenkl.codebooks.vq import prior_from_tokens, spherical_codebook, vq_codebook

CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
COUNTS = np.array([50, 100, 150])
DATA = np.repeat(CENTRES, COUNTS, axis=0) + np.random.default_rng(0).normal(0, 0.1, (300, 2))


def test_k_means_finds_separated_clusters_and_their_frequencies() -> None:
    cb = vq_codebook(DATA, 3, key=0, n_init=3, with_frequencies=True)
    order = np.argmin(np.linalg.norm(cb.points[:, None] - CENTRES, axis=-1), axis=1)
    assert sorted(order) == [0, 1, 2]
    for token, cluster in enumerate(order):
        mean = DATA[COUNTS[:cluster].sum() : COUNTS[: cluster + 1].sum()].mean(axis=0)
        np.testing.assert_allclose(cb.points[token], mean, atol=1e-12)
    np.testing.assert_allclose(cb.prior, (COUNTS[order] + 0.5) / (300 + 1.5), rtol=1e-14)
    assert vq_codebook(DATA, 3, key=0).has_equal_priors


def test_the_same_key_gives_the_same_bits() -> None:
    data = np.random.default_rng(1).normal(size=(2000, 5))
    first, again, other = (vq_codebook(data, 20, key=k, max_iter=5).points for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert vq_codebook(data, 4, key=jax.random.key(1)).K == 4


def test_one_token_for_each_row() -> None:
    cb = vq_codebook(CENTRES, 3, key=0)
    assert sorted(cb.points.tolist()) == sorted(CENTRES.tolist())


@pytest.mark.parametrize(
    ("data", "K", "message"),
    [
        (DATA[:3], 4, "data must be an array with at least K = 4 distinct rows; got 3"),
        (np.repeat(CENTRES, 5, axis=0), 4, "at least K = 4 distinct rows; got 3"),
        (DATA, 0, "K must be a whole number"),
        (DATA[:, 0], 2, "data must be an array with 2 axes"),
        (np.where(DATA > 10, np.nan, DATA), 2, "data must be finite"),
        (np.array([[0.0], [1e-200], [1.0]]), 3, "K = 3 rows that k-means can tell apart"),
    ],
)
def test_data_that_cannot_give_k_tokens_is_refused(data: np.ndarray, K: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vq_codebook(data, K, key=0)


def test_bad_settings_are_refused() -> None:
    settings: dict[str, Any] = {"n_init": 0, "max_iter": 0, "key": "a"}
    for name, bad in settings.items():
        with pytest.raises(ValueError, match=name):
            vq_codebook(DATA, 2, **{"key": 0, name: bad})


def test_spherical() -> None:
    cb = spherical_codebook([[3.0, 4.0], [1e-300, 0.0], [-1e300, 1e300]], [0.2, 0.3, 0.5])
    expected = np.array([[0.6, 0.8], [1, 0], [-np.sqrt(0.5), np.sqrt(0.5)]])
    np.testing.assert_allclose(cb.points, expected, rtol=1e-15)
    np.testing.assert_allclose(cb.prior, [0.2, 0.3, 0.5], rtol=1e-15)
    with pytest.raises(ValueError, match=r"vectors must be nonzero.* row 1 that is 0"):
        spherical_codebook([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="rows 0 and 1 that are equal"):
        spherical_codebook([[1.0, 0.0], [2.0, 0.0]])


def test_a_sphere_of_any_radius_around_padding() -> None:
    rows = [[3.0, 4.0], [0.0, 0.0], [-5.0, 12.0]]
    found = spherical_codebook(rows, [0.2, 0.3, 0.5], radius=13.0, keep_zero=True)
    assert np.allclose(found.points, [[7.8, 10.4], [0.0, 0.0], [-5.0, 12.0]], rtol=1e-15)
    with pytest.raises(ValueError, match=r"or keep_zero=True; got row 1 that is 0"):
        spherical_codebook(rows)
    with pytest.raises(ValueError, match="vectors must be in distinct directions"):
        spherical_codebook([[0.0, 0.0], [0.0, 0.0]], keep_zero=True)
    for radius in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="radius must be"):
            spherical_codebook(rows, radius=radius, keep_zero=True)


def test_prior_from_tokens() -> None:
    np.testing.assert_allclose(prior_from_tokens([0, 0, 2], 3), np.array([2.5, 0.5, 1.5]) / 4.5)
    np.testing.assert_allclose(prior_from_tokens([[0, 1], [1, 1]], 2, 0), [0.25, 0.75])
    np.testing.assert_allclose(prior_from_tokens([], 4), np.full(4, 0.25))
    assert prior_from_tokens([3], 10**6).sum() == pytest.approx(1)
    refused: list[tuple[Any, str]] = [
        (([0, 2], 3, 0), "smoothing must be above 0 unless every token occurs; got 0, and token 1"),
        (([0, 3], 3), "ids must be whole numbers from 0 to 2; got 3"),
        (([0.5], 3), "ids must be whole"),
        (([0], 3, -1), "smoothing must be at least 0"),
        (([0], 3, np.nan), "smoothing must be finite"),
        (([0], 0), "K must be a whole number"),
    ]
    for arguments, message in refused:
        with pytest.raises(ValueError, match=message):
            prior_from_tokens(*arguments)
