"""`ResidualCodebook`: all sums, in order, lazily."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenkl.codebooks import ResidualCodebook
from tokenkl.codebooks.files import load_codebook, save_codebook
from tokenkl.codebooks.transforms import average_power, centre, scale_to

RNG = np.random.default_rng(0)
STAGES = [RNG.normal(size=(size, 2)) for size in (2, 3, 4)]


def test_points_are_all_sums_with_the_last_stage_fastest() -> None:
    cb = ResidualCodebook(STAGES)
    expected = (STAGES[0][:, None, None] + STAGES[1][:, None] + STAGES[2]).reshape(24, 2)
    np.testing.assert_allclose(cb.points, expected, rtol=1e-15)
    assert (cb.K, cb.n, cb.shape, cb.label) == (24, 2, (2, 3, 4), "RVQ 2x3x4")
    np.testing.assert_allclose(cb.points_at([[1], [23]])[:, 0], expected[[1, 23]], rtol=1e-15)


def test_it_is_lazy_at_any_size() -> None:
    cb = ResidualCodebook([RNG.normal(size=(1024, 8)) for _ in range(32)])
    assert cb.K == 1024**32
    np.testing.assert_allclose(cb.points_at(0), sum(stage[0] for stage in cb.stages), rtol=1e-13)
    with pytest.raises(ValueError, match="points must be at most"):
        cb.points  # noqa: B018


def test_sums_may_coincide() -> None:
    cb = ResidualCodebook([[[0.0], [1.0]], [[0.0], [1.0]]])
    assert cb.points[:, 0].tolist() == [0, 1, 1, 2]


def test_prior() -> None:
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
def test_bad_stages_are_refused(stages: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualCodebook(stages)


def test_digits_reach_where_ids_do_not() -> None:
    cb = ResidualCodebook([RNG.normal(size=(1024, 8)) for _ in range(8)])
    assert cb.K == 2**80
    digits = RNG.integers(1024, size=(5, 8))
    expected = sum(stage[digits[:, s]] for s, stage in enumerate(cb.stages))
    np.testing.assert_allclose(cb.points_of(digits), expected, rtol=1e-13)
    np.testing.assert_array_equal(cb.to_digits(2**62 + 5), [0, 4, 0, 0, 0, 0, 0, 5])
    assert cb.prior_entropy() == pytest.approx(80 * np.log(2), rel=1e-15)
    assert "K = 1,208,925,819,614,629,174,706,176" in repr(cb)
    with pytest.raises(ValueError, match="last axis has length 8"):
        cb.points_of([1, 2])
    with pytest.raises(ValueError, match=r"digits\[..., 7\] must be whole numbers from 0 to 1023"):
        cb.points_of([0] * 7 + [1024])


def test_stage_priors_are_a_product() -> None:
    first, last = RNG.dirichlet(np.ones(2)), RNG.dirichlet(np.ones(4))
    cb = ResidualCodebook(STAGES, stage_priors=[first, None, last])
    joint = np.einsum("i,j,k->ijk", first, np.full(3, 1 / 3), last).ravel()
    np.testing.assert_allclose(cb.prior, joint, rtol=1e-14)
    assert cb.prior_entropy() == pytest.approx(-joint @ np.log(joint), rel=1e-14)
    assert not cb.has_equal_priors
    assert ResidualCodebook(STAGES, stage_priors=[None] * 3).has_equal_priors
    as_joint = ResidualCodebook(STAGES, joint)
    assert average_power(cb) == pytest.approx(average_power(as_joint), rel=1e-13)
    np.testing.assert_allclose(centre(cb).points, centre(as_joint).points, atol=1e-14)
    np.testing.assert_allclose(scale_to(cb, power=2.0).prior, joint, rtol=1e-14)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_stage_priors_survive_a_file(suffix: str, tmp_path: Path) -> None:
    laws = [None, RNG.dirichlet(np.ones(3)), RNG.dirichlet(np.ones(4))]
    save_codebook(ResidualCodebook(STAGES, stage_priors=laws), tmp_path / f"cb{suffix}")
    found = load_codebook(tmp_path / f"cb{suffix}")
    assert isinstance(found, ResidualCodebook)
    assert found.stage_priors is not None
    assert found.stage_priors[0] is None
    np.testing.assert_array_equal(np.asarray(found.stage_priors[1]), laws[1])
    np.testing.assert_array_equal(np.asarray(found.stage_priors[2]), laws[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stage_priors": [None]}, "stage_priors must be a list with one entry for each"),
        ({"stage_priors": [None, None, [1.0]]}, r"stage_priors\[2\] must be of length K = 4"),
        ({"prior": np.full(24, 1 / 24), "stage_priors": [None] * 3}, "stage_priors must be None"),
    ],
)
def test_bad_stage_priors_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualCodebook(STAGES, **arguments)


def test_bounds_on_distances_where_pairs_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    codebook = ResidualCodebook([[[0.0], [1.0]], [[0.0], [0.1]]])
    smallest, largest = codebook.min_distance(), codebook.diameter()
    monkeypatch.setattr(ResidualCodebook, "fits", False)
    assert codebook.min_distance_bound() <= smallest
    assert codebook.diameter_bound() >= largest
    coinciding = ResidualCodebook([[[0.0], [1.0]], [[0.0], [1.0]]])
    assert coinciding.min_distance_bound() == 0


@pytest.mark.parametrize("offset", [-9.0, 9.0])
def test_the_box_around_more_tokens_than_can_be_listed(
    offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smaller of the diagonal of the box and the sum of the diameters of the stages."""
    steps = np.array([[0.0, 0.0], [1.0, 1.0]])  # the stages' diameters add up to the diagonal
    cross = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    round_about = ResidualCodebook([cross + offset, 0.1 * cross])
    far = ResidualCodebook([steps + offset, np.array([[2.0, 0.0], [0.0, 2.0]])])
    for cb in (round_about, far):
        assert cb.largest_coordinate() == np.abs(cb.points).max()
        np.testing.assert_allclose(cb.half_widths(), np.ptp(cb.points, axis=0) / 2)
    monkeypatch.setattr(ResidualCodebook, "fits", False)
    assert round_about.diameter_bound() == pytest.approx(2.2)  # and the diagonal is longer
    assert far.diameter_bound() == pytest.approx(np.hypot(3, 3))  # and the sum is larger
