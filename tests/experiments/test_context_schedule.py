"""Schedules out of a curve, the grids that follow from it, and the rules of the verdicts."""

import math

import numpy as np
import pandas as pd
import pytest

import tokenkl as tk
from experiments.context_schedule import above, below, verdicts, within
from experiments.speech.noise import CONTEXTUAL, FILES, TOLD, equal_steps, origin, table_of
from experiments.speech.plans import PLANS, SEEDS
from experiments.speech.schedules import BEST, Curve, alone, best_levels, quantile_of_told
from experiments.speech_evidence import Mean


def _exact(points: int = 60) -> tuple[tk.FSQ, Curve]:
    """The curve of a network that is the exact denoiser of tokens alone."""
    grid, log_snr = tk.FSQ((3, 3)), np.linspace(-6, 5, points)
    found = tk.profile(grid, np.exp(log_snr), ("conditional_entropy", "mmse"))
    return grid, Curve(log_snr, found["conditional_entropy"].value, found["mmse"].value)


def test_cost_is_the_path_kl_and_the_entropy() -> None:
    """Of the exact denoiser, at levels of the curve: entropy, path KL and what the start costs."""
    grid, curve = _exact()
    levels = curve.log_snr[[0, 20, 30, 40, 50]]
    exact = float(tk.ancestral_kl(grid, np.exp(levels)))
    start = float(np.exp(levels[0])) * grid.average_power() / 2
    told = float(tk.mutual_information(grid, np.exp(levels[0])))
    expected = math.log(grid.K) + exact + start - told
    assert curve.cost(levels, grid.average_power()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
def test_the_best_grid_costs_least() -> None:
    grid, curve = _exact()
    power = grid.average_power()
    for steps in (4, 8):
        levels = best_levels(curve, steps, power)
        assert levels.shape == (steps,)
        assert (np.diff(levels) > 0).all()
        best = curve.cost(levels, power)
        for name in ("linear-vp", "cosine-vp", "information"):
            assert best < curve.cost(equal_steps(name, steps, grid), power)
        rng = np.random.default_rng(0)
        for _ in range(20):
            other = np.sort(levels + 0.3 * rng.standard_normal(steps))
            assert best < curve.cost(other, power) + 2e-3


def test_told_is_where_context_tells() -> None:
    log_snr = np.linspace(-4, 4, 9)
    entropy = np.full(9, 3.0)
    told = np.where(log_snr < 0, 1.0, 0.0)
    curve = Curve(log_snr, entropy - told, entropy)
    quantiles = quantile_of_told(curve, entropy, np.array([0.0, 0.5, 1.0]))
    assert quantiles[0] == -4
    assert quantiles[1] == pytest.approx(-4 + 3.5 / 2, abs=1e-6)  # trapezoids: half of one step
    assert quantiles[2] == pytest.approx(4, abs=1e-5)


def test_files_are_schedules() -> None:
    grid = tk.FSQ((3,) * 8)
    for name in FILES:
        table = table_of(name, grid)
        assert (np.diff(table) < 0).all()
        assert origin(name)["name"] == name
    contextual, told = table_of(CONTEXTUAL, grid), table_of(TOLD, grid)
    assert told[128] < table_of("linear-vp", grid)[128] < contextual[128]
    assert equal_steps("linear-vp", 4, grid)[2] == pytest.approx(math.log(1 / 3))


def test_alone_is_the_entropy_of_the_tokens() -> None:
    tokens = [np.arange(3**8), np.zeros(3**8, int)]
    found = alone(tokens, Curve(np.array([-12.0, 6.0]), np.zeros(2), np.zeros(2)))
    law = np.full(3**8, 1.0)
    law[0] += 3**8
    law /= law.sum()
    assert found[0] == pytest.approx(-(law * np.log(law)).sum(), abs=1e-3)
    assert found[1] < 1e-3


def test_plan() -> None:
    units = PLANS["context-schedules"].units
    assert {(unit.name, unit.seed) for unit in units} == {
        (name, seed)
        for name in ("linear-vp", "information", "contextual", "told", "corpus")
        for seed in SEEDS
    }
    assert all((unit.noise is None) == (unit.name not in FILES) for unit in units)


@pytest.mark.parametrize(
    ("mean", "over", "under", "inside"),
    [
        (Mean(0.3, 0.2, 0.4, 3), "confirmed", "refuted", "refuted"),
        (Mean(0.1, 0.0, 0.2, 3), "open", "open", "open"),
        (Mean(-0.05, -0.09, 0.0, 3), "refuted", "confirmed", "confirmed"),
        (Mean(-0.3, -0.4, -0.2, 3), "refuted", "confirmed", "refuted"),
        (Mean(0.3, 0.2, 0.4, 2), "not measured", "not measured", "not measured"),
        (None, "not measured", "not measured", "not measured"),
    ],
)
def test_rules(mean: Mean | None, over: str, under: str, inside: str) -> None:
    assert (above(mean, 0.1), below(mean, 0.1), within(mean, 0.1)) == (over, under, inside)


def test_verdicts() -> None:
    def row(kind: str, name: str, steps: int, value: float, levels: str = "own") -> dict:
        ends = {"value": value, "low": value - 0.02, "high": value + 0.02, "seeds": 3}
        return {"kind": kind, "name": name, "steps": steps, "levels": levels, **ends}

    rows = [row("bound on a grid", CONTEXTUAL, N, x) for N, x in ((5, 0.6), (12, 0.1), (25, -0.3))]
    rows += [row("bound on a grid", BEST, N, -0.3) for N in (5, 12, 25)]
    for N in (2, 5, 25):
        rows.append(row("WER minus linear-vp's", "information", N, 0.3))
        rows.append(row("WER minus linear-vp's", CONTEXTUAL, N, 0.05))
        rows.append(row("WER minus information's", CONTEXTUAL, N, -0.25))
        rows.append(row("WER minus linear-vp's", TOLD, N, 0.0))
    found = verdicts(pd.DataFrame(rows))
    assert found["W1"] == "confirmed"
    assert found["W2"] == "open"  # 0.3 is asked for at 25 steps
    assert found["W3"] == "not measured"
    assert found["T1"] == "confirmed"
    assert found["T2"] == "refuted"
    assert found["T3"] == "not measured"
    assert found["T4"] == "confirmed"
    assert found["T5"] == "not measured"
