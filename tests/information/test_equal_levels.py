"""Grids whose levels coincide keep their exact formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.testing import reference_profile

SNR = np.array([0.0, 1e-8, 0.2, 3.0, 60.0])
CASES: dict[str, tuple[list[float], list[float] | None]] = {
    "equal priors": ([0.0, 1.0, 0.0, -3.0], None),
    "unequal priors": ([0.0, 1.0, 0.0, 1.0, 1.0], [0.3, 0.1, 0.1, 0.25, 0.25]),
    "all the same": ([2.0, 2.0, 2.0], [0.2, 0.3, 0.5]),
    "near-certain": ([0.0, 1.0, 1.0, 0.0], [1 - 3e-9, 1e-9, 1e-9, 1e-9]),
}


@pytest.mark.parametrize("case", CASES)
def test_against_integrals_over_the_noise(case: str) -> None:
    levels, prior = CASES[case]
    line = tk.ProductCodebook([levels], None if prior is None else [prior], allow_duplicates=True)
    points = tk.PointCodebook(np.array(levels)[:, None], prior, allow_duplicates=True)
    for codebook in (line, points):
        found = tk.profile(codebook, SNR)
        assert str(found["mmse"].method) == "exact, by coordinate"
        for index, snr in enumerate(SNR[2:], 2):
            expected = reference_profile(points, float(snr))
            for name in ("mmse", "conditional_entropy", "mutual_information"):
                error = expected[name].numerical_error + found[name].numerical_error[index]
                assert abs(found[name].value[index] - expected[name].value) <= error + 1e-14, name
        # The error probability by its definition: at most probable tokens of each level.
        total = found["accuracy"].value + found["error_probability"].value
        np.testing.assert_allclose(total, 1, rtol=1e-14)
    drawn = tk.error_probability(points, SNR, method=tk.MonteCarlo(n_samples=100_000), key=0)
    exact = tk.error_probability(line, SNR)
    spread = 5.5 * drawn.standard_error + drawn.numerical_error + exact.numerical_error
    assert (np.abs(drawn.value - exact.value) <= spread + 1e-12).all()


def test_what_is_never_guessed_keeps_its_digits() -> None:
    """At high SNR the error is the probability of the tokens that are not the first of a level."""
    line = tk.ProductCodebook([[0.0, 1.0, 1.0]], [[0.5, 0.5 - 1e-13, 1e-13]], allow_duplicates=True)
    assert tk.error_probability(line, 1e5).value == pytest.approx(1e-13, rel=1e-9)
    assert tk.mutual_information(line, 1e-14).value == pytest.approx(0.25e-14 / 2, rel=1e-9)
    wide = tk.ProductCodebook([[0.0, 1.0, 1.0]] * 40, allow_duplicates=True)
    assert tk.accuracy(wide, 1e5).value == pytest.approx((2 / 3) ** 40, rel=1e-12)
    assert tk.bracket(wide, 2.0, "mutual_information").lower.value > 1


def test_residual_grids_are_grids() -> None:
    """Two stages of FSQ in every coordinate, whose sums coincide."""
    first = np.array([-1.0, 0.0, 1.0])
    sums = np.add.outer(first, first / 2).ravel()
    grid = tk.ProductCodebook([sums, sums], allow_duplicates=True)
    stages = tk.ResidualCodebook([tk.FSQ((3, 3)).points, tk.FSQ((3, 3)).points / 2])
    drawn = tk.profile(stages, [1.0, 9.0], method=tk.MonteCarlo(n_samples=60_000), key=0)
    for name in tk.QUANTITIES:
        exact = tk.profile(grid, [1.0, 9.0])[name]
        gap = np.abs(exact.value - drawn[name].value)
        assert (gap <= 5.5 * drawn[name].standard_error + 1e-9).all(), name
    with pytest.raises(ValueError, match="distinct, row by row"):
        tk.ProductCodebook([sums, sums])


def test_laws_of_what_is_produced_are_simulated(tmp_path: Path) -> None:
    line = tk.ProductCodebook([[0.0, 1.0, 1.0]], allow_duplicates=True)
    law = tk.produced_law(line, [0.1, 1.0, 50.0], method=tk.MonteCarlo(n_samples=512), key=0)
    assert law.kl.is_sampled
    tk.save_codebook(line, tmp_path / "line.npz")
    back = tk.load_codebook(tmp_path / "line.npz")
    assert np.array_equal(back.points, line.points)
    assert tk.scale_to(line, power=2.0).average_power() == pytest.approx(2.0)
