"""Facts of the figure on published tokenizers: level sets, half-information roots, the bound."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from scipy import integrate

import experiments
import tokenkl as tk
from experiments import fsq_in_the_wild as wild

PUBLISHED_SIZES = {
    (2,) * 18: 262_144,
    (17,) * 6: 24_137_569,
    (3,) * 8: 6561,
    (4,) * 8: 65_536,
    (6,) * 6: 46_656,
    (8, 6, 5): 240,
    (8, 5, 5, 5): 1000,
    (7, 5, 5, 5, 5): 4375,
    (8, 8, 8, 6, 5): 15_360,
    (8, 8, 8, 5, 5, 5): 64_000,
    (8, 7, 6, 6): 2016,
    (9, 8, 8, 7): 4032,
}


def test_sizes_are_the_published_ones_and_every_set_is_cited() -> None:
    sizes = {entry.levels: wild.codebook_of(entry).K for entry in wild.LEVEL_SETS}
    assert sizes == PUBLISHED_SIZES
    assert all("arXiv" in entry.citation and entry.source for entry in wild.LEVEL_SETS)


@pytest.mark.parametrize("entry", wild.LEVEL_SETS, ids=lambda entry: entry.tokenizers)
def test_half_information_root_really_halves(entry: wild.LevelSet) -> None:
    codebook = wild.codebook_of(entry)
    snr = wild.half_information_snr(codebook)
    left = tk.conditional_entropy(codebook, snr).value / math.log(codebook.K)
    assert left == pytest.approx(0.5, abs=1e-12)


def test_lfq_against_adaptive_quadrature() -> None:
    # One coordinate of LFQ: levels +-1; H = E log(1 + exp(-2 (snr + sqrt(snr) z))).
    snr = wild.half_information_snr(wild.codebook_of(wild.LEVEL_SETS[0]))

    def integrand(z: float) -> float:
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return density * np.logaddexp(0, -2 * (snr + math.sqrt(snr) * z))

    entropy = integrate.quad(integrand, -12, 12, epsabs=1e-13)[0]
    assert entropy == pytest.approx(math.log(2) / 2, abs=1e-11)


def test_power_basis_does_not_depend_on_the_grid_convention() -> None:
    def coordinate_snr(grid: Literal["symmetric", "rounding"]) -> float:
        codebook = tk.FSQ((8, 8), grid=grid)
        return wild.half_information_snr(codebook) * tk.average_power(codebook)

    assert coordinate_snr("symmetric") == pytest.approx(coordinate_snr("rounding"), rel=1e-10)


def test_nothing_lies_below_gaussian_capacity() -> None:
    _, facts = wild.compute(wild.SMOKE, lambda done, total: None)
    assert facts["smallest_excess_over_gaussian_bound_db"] > 0
    for summary in facts["summary"]:
        assert summary["half_information_snr_times_power_db"] == pytest.approx(
            summary["half_information_coordinate_snr_db"] + 10 * math.log10(summary["n"])
        )


def test_a_tokenizer_of_ones_own_stands_beside_the_published_ones() -> None:
    found = experiments.run("fsq_in_the_wild", own="fsq:9,7,5", snr_points=2)
    own = found.facts["summary"][-1]
    assert (own["levels"], own["K"], len(found.facts["summary"])) == ([9, 7, 5], 315, 13)
    snr = 10 ** (own["half_information_snr_db"] / 10)
    left = tk.conditional_entropy(tk.FSQ((9, 7, 5)), snr).value
    assert left == pytest.approx(math.log(315) / 2, rel=1e-10)
    assert (found.table.number == 13).sum() == 2
    with pytest.raises(ValueError, match="own must be a grid of levels with equal priors"):
        wild.Config(own="onehot:10")
    with pytest.raises(ValueError, match="own: CODEBOOK must be one of"):
        wild.Config(own="nothing")
