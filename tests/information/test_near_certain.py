"""Priors that leave next to nothing open: what a sample without rare tokens can claim."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, special, stats

import tokenkl as tk
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.montecarlo import _Run
from tokenkl.information.sampling.near_certain import as_unlikely, expected_carriers
from tokenkl.numerics.moments import Moments

QUANTITIES = ("accuracy", "conditional_entropy", "mutual_information", "mmse")


@pytest.mark.parametrize("rare", [1e-6, 1e-3])
@pytest.mark.parametrize("root", [0.3, 1.0, 3.0])
def test_expected_carriers_of_two_tokens(root: float, rare: float) -> None:
    """Against adaptive quadrature of the posterior variance."""
    book = tk.PointCodebook([[0.0, 0.0], [0.6, 0.8]], [1 - rare, rare])
    count = 1000

    def moment(power: int) -> float:
        def integrand(z: float) -> float:
            odds = np.log(rare / (1 - rare)) + root * z - root**2 / 2
            p = special.expit(odds)
            law = (1 - rare) * stats.norm.pdf(z) + rare * stats.norm.pdf(z - root)
            return float((p * (1 - p) / rare) ** power * law)

        value: float = integrate.quad(integrand, -12, 25, limit=500, points=(0.0, root, 4 * root))[
            0
        ]
        return value

    expected = count * moment(2) ** 2 / moment(4)
    found = expected_carriers(Problem(book, np.array([root**2])), np.array([count]))
    assert found[0] == pytest.approx(expected, rel=0.05)


def test_enough_samples_of_others_need_no_such_count() -> None:
    book = tk.PointCodebook([[0.0, 0.0], [0.6, 0.8]], [0.9, 0.1])
    found = expected_carriers(Problem(book, np.array([9.0])), np.array([4096]))
    assert found[0] == np.inf


@pytest.mark.slow
@pytest.mark.parametrize("method", [tk.MonteCarlo(4096), tk.MonteCarlo(rtol=0.02)], ids=repr)
def test_tokens_that_no_sample_meets_are_in_the_error(method: tk.MonteCarlo) -> None:
    """One in 20,000, at an SNR so low that Sobol points leave next to no error of the others."""
    prior = np.array([4.85e-5, 0.020344, 0.121202, 0.858112, 1e-12, 2.935e-4, 6.6e-11, 1e-12])
    line = [0.05, -0.497, -0.782, 0.274, 1.467, 1.538, -1.054, 0.933]
    book = tk.PointCodebook(np.array(line)[:, None], prior / prior.sum())
    exact = tk.profile(book, 4e-3, QUANTITIES, method=tk.Exact())
    for key in range(40):
        found = tk.profile(book, 4e-3, QUANTITIES, method=method, key=key)
        for name in QUANTITIES:
            low, high, _ = found[name].confidence_interval(1 - 2e-5 / 160)
            slack = exact[name].numerical_error
            assert low - slack <= exact[name].value <= high + slack, (name, key)


def test_tokens_that_are_met_add_nothing() -> None:
    """Nor do they where all are as likely: then errors are what the sample shows."""
    line = np.array([[0.0], [1.3], [-0.7], [2.1]])
    for prior in ([0.4, 0.3, 0.2, 0.1], None):
        run = _Run(
            Problem(tk.PointCodebook(line, prior), np.array([0.1])), QUANTITIES,
            tk.MonteCarlo(4096), 0, None,
        )  # fmt: skip
        assert run.unmet is None


def test_what_is_added_is_of_the_tokens_that_are_not_met() -> None:
    """Their samples average over them by their probabilities, and count where none is met."""
    prior = np.array([0.6, 0.4 - 1.3e-3, 1e-3, 2e-4, 1e-4])
    line = np.array([[0.0], [1.0], [2.0], [-1.0], [3.0]])
    book = tk.PointCodebook(line, prior / prior.sum())
    run = _Run(
        Problem(book, np.array([0.1])), QUANTITIES, tk.MonteCarlo(16384), 0, None
    )  # fmt: skip
    assert run.unmet is not None
    assert run.unmet.weights.sum() == pytest.approx(1.3e-3, rel=0.3)
    moments = Moments((1, 4))
    moments.add(np.random.default_rng(0).normal(size=(1, 4, 100)))
    for met, unmet in ((10**7, 0.0), (10**5, 3e-4), (10**4, 1.3e-3)):
        added = run.unmet.added(moments, np.array([[met]])).variance - moments.variance
        apart = (run.unmet.values - moments.mean[..., None]) ** 2
        most = apart.max(axis=-1) * unmet / met * 100  # of a mean of 100, per draw
        assert (added <= 1.3 * most).all()
        assert ((added > 0) == (unmet > 0)).all()


@pytest.mark.slow
def test_what_is_supported_covers() -> None:
    """Of runs that look well where they are not, none is marked; of those at low SNR, all hold."""
    rare = 1e-6
    grid = tk.ProductCodebook(
        [[0.0, 1.0, 2.2], [0.0, 0.7, 1.5]],
        [[1 - rare, rare / 2, rare / 2], [1 - rare, 0.6 * rare, 0.4 * rare]],
    )
    turn = stats.ortho_group.rvs(2, random_state=0)
    book = tk.PointCodebook(grid.points @ turn, grid.prior)
    snr = np.array([0.3, 1.0, 3.0]) ** 2
    exact = tk.profile(grid, snr, QUANTITIES)
    runs, held = 60, dict.fromkeys(QUANTITIES, 0)
    marked = dict.fromkeys(QUANTITIES, 0)
    for key in range(runs):
        found = tk.profile(book, snr, QUANTITIES, method=tk.MonteCarlo(n_samples=4096), key=key)
        for name in QUANTITIES:
            supported = np.asarray(found[name].interval_supported)
            sampled = np.asarray(found[name].standard_error) > 0  # not so where it is bracketed
            assert not (supported & sampled)[1:].any(), name
            low, high, _ = found[name].confidence_interval(0.95)
            answer = np.asarray(exact[name].value)
            slack = found[name].numerical_error[0]
            held[name] += bool(supported[0] and low[0] - slack <= answer[0] <= high[0] + slack)
            marked[name] += bool(supported[0])
            low, high, _ = found[name].confidence_interval(0.999)
            slack = found[name].numerical_error
            assert ((low - slack <= answer) & (answer <= high + slack)).all(), name
    for name in ("accuracy", "conditional_entropy", "mmse"):
        assert marked[name] == runs
        # Binomial(60, 0.95) is below 47 with probability 2e-5.
        assert held[name] >= 47, name


def test_the_study_is_kept_and_within_its_bounds() -> None:
    """Every cell of benchmarks/coverage_near_certain.py, by the limits that the theory states."""
    folder = Path(__file__).parents[2] / "benchmarks" / "results"
    cells = json.loads((folder / "coverage_near_certain.json").read_text())["cells"]
    assert {cell["mass"] for cell in cells} >= {1e-6, 1e-3, 5e-3, 1e-2, 2e-2}
    for cell in cells:
        assert cell["runs"] >= 150
        assert cell["any_held"] >= 0.905 * cell["runs"], cell
        if cell["mass"] <= 3e-3 and cell["root"] >= 1:
            assert cell["claimed"] == 0, cell


def test_the_study_of_random_codebooks_is_within_its_bounds() -> None:
    """No cell of coverage_random always misses, and hardly a sure interval is wrong."""
    folder = Path(__file__).parents[2] / "benchmarks" / "results"
    record = json.loads((folder / "coverage_random.json").read_text())
    missed = np.array([row["missed"] for row in record["rows"]])
    assert len(missed) >= 150
    assert missed[:, 0].max() <= record["keys"] / 2
    usual, sure = missed.mean(axis=(0, 2, 3)) / record["keys"]
    assert usual < 0.05
    assert sure < 1e-3


def test_the_mass_of_all_that_is_no_likelier() -> None:
    found = as_unlikely(np.array([0.5, 0.05, 0.15, 0.3]))
    np.testing.assert_allclose(found, [1.0, 0.05, 0.2, 0.5])
