"""Facts of the path-KL figure that could be wrong: its closed forms, and what its intervals say."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments import path_kl
from tokenkl.schedule import BetaVP, LinearVP

CONFIG = dataclasses.replace(
    path_kl.SMOKE,
    kls=(20.0,),
    convergence_steps=(8, 16, 32),
    convergence_work=4_000_000,
    convergence_max_paths=250_000,
)
Result = tuple[pd.DataFrame, dict[str, Any]]


@pytest.fixture(scope="module")
def result() -> Result:
    return path_kl.compute(CONFIG, lambda done, total: None)


def test_closed_form_by_hand(result: Result) -> None:
    table, facts = result
    assert facts["squared_distance"] == 2
    rows = table.set_index("schedule")
    # LinearVP: snr = (1 - t)^2 / (t (2 - t)); BetaVP: 1 / expm1(B) with B = 0.1 t + 9.95 t^2.
    t = rows.loc["LinearVP", "t_min"].to_numpy()
    snr = (1 - t) ** 2 / (t * (2 - t)) - LinearVP().snr(CONFIG.t_max)
    assert np.allclose(rows.loc["LinearVP", "closed_form"], snr, rtol=1e-12)
    t = rows.loc["BetaVP", "t_min"].to_numpy()
    snr = 1 / np.expm1(0.1 * t + 9.95 * t**2) - BetaVP().snr(CONFIG.t_max)
    assert np.allclose(rows.loc["BetaVP", "closed_form"], snr, rtol=1e-12)


def test_points_are_where_they_are_said_to_be(result: Result) -> None:
    table, facts = result
    points = table[table["kind"] == "point"]
    assert facts["n_points"] == len(points) == len(path_kl.SCHEDULES)
    assert np.allclose(points["closed_form"], 20.0, rtol=1e-10)
    assert (points["variance_low"] < points["variance"]).all()
    assert (points["variance"] < points["variance_high"]).all()


def test_simulation_agrees_and_converges_to_second_order(
    result: Result,
) -> None:
    # Seven normal means and seven chi-squared variances at 4.8 standard errors (chance 2e-5 in all,
    # for fixed keys); the variance's normal approximation is good at 2000 paths.
    table, facts = result
    points = table[table["kind"] == "point"]
    assert np.abs(points["z_mean"]).max() < 4.8
    assert np.abs(points["z_variance"]).max() < 4.8
    assert facts["order_in_the_step"] == pytest.approx(2, abs=0.25)
