"""The two-term law on numbers that follow it: what is fitted, held out, and given an interval."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import context_prediction as prediction
from experiments.terms import Cells
from experiments.toy import data
from experiments.toy.laws import FREE

LAWS = (data.FSQ, data.PERMUTED, FREE)
GEOMETRIES = (data.FSQ, data.PERMUTED, data.ONE_HOT)
STEPS, SEEDS = (3, 25), 4
CONDITION = prediction.Condition("MLP 16", 100, 2, 2, 3, 2)


def cells(c: float, c2: float = 0.0, noise: float = 0.0) -> Cells:
    """A table that obeys the law with both terms, up to noise in log KL, and its cells."""
    rng = np.random.default_rng(0)
    rows = []
    for law in LAWS:
        for geometry in GEOMETRIES:
            for seed in range(SEEDS):
                nu = float(rng.uniform(0.02, 0.2))
                wide = 7 if geometry == data.ONE_HOT else 3
                slopes = 7 * wide * 2 / 100
                where = {"law": law, "geometry": geometry, "seed": seed, "base": 2, "length": 2}
                rows.append({**where, "quantity": "int nu", "value": nu, "network": "none"})
                excess = 0.3 * nu + c2 * slopes
                trained = {**where, "budget": 100, "network": "MLP 16"}
                rows.append({**trained, "quantity": "excess", "value": excess})
                for steps in STEPS:
                    exact = float(rng.uniform(0.5, 1)) / steps**2
                    kl = (exact + c * nu + c2 * slopes) * np.exp(noise * rng.standard_normal())
                    known = {**where, "steps": steps, "network": "none"}
                    rows.append({**known, "quantity": "exact KL", "value": exact})
                    rows.append({**trained, "steps": steps, "quantity": "KL", "value": kl})
    table = pd.DataFrame(rows).fillna({"budget": 0, "steps": 0})
    return CONDITION.cells(table, STEPS)


def test_a_law_of_two_terms_is_found_and_foretells_the_rest() -> None:
    made = cells(0.25)
    found = prediction.endpoints(made, CONDITION.slopes(made), np.arange(SEEDS))
    assert found["c"] == pytest.approx(0.25, rel=1e-4)
    assert found["rho"] == pytest.approx(0.3)
    assert found["kappa"] == pytest.approx(0.25 / 0.3, rel=1e-4)
    for name in ("rms", "rms_geometries_held_out", "rms_laws_held_out", "rms_of_three_terms"):
        assert found[name] < 1e-3
    assert abs(found["bias"]) < 1e-3
    assert found["spearman"] == found["spearman_at_25"] == pytest.approx(1)
    assert found["spearman_nu_excess"] == pytest.approx(1)
    assert found["rms_of_exact_alone"] > 0.1


def test_a_third_term_is_found_where_there_is_one() -> None:
    made = cells(0.25, 0.02)
    slopes = CONDITION.slopes(made)
    assert slopes.min() == pytest.approx(7 * 3 * 2 / 100)
    assert slopes[made.geometry(data.ONE_HOT)] == pytest.approx(7 * 7 * 2 / 100)
    own = made.mean(np.arange(SEEDS)).at(made.law(data.FSQ))
    there = slopes[made.law(data.FSQ)]
    assert prediction.three_terms(own, there) == pytest.approx((0.25, 0.02), rel=1e-3)
    one, two = prediction.excess_terms(own, there)
    assert two == pytest.approx([0.3, 0.02], rel=1e-3)
    assert one[1] == 0
    found = prediction.endpoints(made, slopes, np.arange(SEEDS))
    assert found["rms_of_three_terms"] < 0.01 < 0.03 < found["rms"]
    assert found["excess_rms_with_slopes"] < 0.01 < 0.03 < found["excess_rms"]


def test_power_laws_and_the_rule() -> None:
    """c = width^-0.2 budget^-0.5 and excess in proportion: slopes are found, kappa is constant."""
    every = {}
    for width in (16, 64):
        for budget in (100, 900):
            c = width**-0.2 * budget**-0.5
            one = cells(c)
            condition = CONDITION._replace(network=f"MLP {width}", budget=budget)
            every[condition] = one._replace(excess=c * one.nu / 3), condition.slopes(one)
    transformer = CONDITION._replace(network="transformer 64")
    one = cells(0.5)
    every[transformer] = one._replace(excess=0.25 * one.nu), transformer.slopes(one)
    found = prediction.rule(every, np.arange(SEEDS))
    assert found["slope_of_width"] == pytest.approx(-0.2, abs=1e-3)
    assert found["slope_of_budget"] == pytest.approx(-0.5, abs=1e-3)
    assert found["sd_of_log_kappa"] < 1e-3 < 0.3 < found["sd_of_log_c"]
    assert found["kappa_of_perceptrons"] == pytest.approx(3, rel=1e-3)
    assert found["transformer_over_rule"] == pytest.approx(2 / 3, rel=1e-3)


def test_the_jackknife_of_a_mean_is_its_t_interval() -> None:
    sample = np.array([1.0, 4.0, 2.5, 3.0, 8.0])
    value, half = prediction.jackknife(lambda chosen: sample[chosen].mean(keepdims=True), 5)
    low, high = stats.t.interval(0.95, 4, sample.mean(), stats.sem(sample))
    assert value == pytest.approx([sample.mean()])
    assert half == pytest.approx([(high - low) / 2])


def test_intervals_of_c_cover() -> None:
    """Noise in log KL: c, by means over seeds, is within its interval."""
    made = cells(0.25, noise=0.1)
    of = functools.partial(prediction.endpoints, made, CONDITION.slopes(made))
    value, low, high = prediction.with_intervals(of, SEEDS)["c"]
    assert low < 0.25 < high
    assert low < value < high < 2 * low
