"""Labels and laws of `context_labels`, and what is made of trained networks."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import tokenkl as tk
from experiments.context_labels import (
    GIVEN,
    OWN,
    PERMUTED,
    SMOKE,
    _facts,
    _fitted,
    _gap,
    draw,
    found,
)


def test_a_law_and_its_labels() -> None:
    config = dataclasses.replace(SMOKE, tokens=(100_000,), coupling=0.5)
    law = draw((2, 3), 0, config)
    assert np.allclose(law.chain.start, 1 / 8)
    assert np.allclose(law.chain.transition.sum(axis=1), 1)
    grid = {tuple(point) for point in tk.FSQ((2, 2, 2)).points}
    for points in law.points.values():
        assert {tuple(point) for point in points} == grid  # the same points, another order
    assert law.nu[OWN] < law.nu[GIVEN]
    assert law.nu[found(100_000)] == pytest.approx(law.nu[OWN], rel=0.05)


def test_c_of_a_law_of_two_terms() -> None:
    exact = np.array([0.1, 0.01, 0.0])
    assert _fitted(exact + 0.7 * 0.3, exact, 0.3) == pytest.approx(0.7, rel=1e-4)


def test_gap_is_paired() -> None:
    rng = np.random.default_rng(0)
    law = rng.lognormal(0, 2, 6)
    value, low, high = _gap(0.5 * law * np.exp(0.01 * rng.standard_normal(6)), law)
    assert low < np.log(0.5) < high
    assert high - low < 0.05
    assert value == pytest.approx(np.log(0.5), abs=0.02)


def test_facts() -> None:
    config = dataclasses.replace(SMOKE, laws=3)
    rng, rows = np.random.default_rng(1), []
    nu = {GIVEN: 0.4, PERMUTED: 0.4, found(1000): 0.1, OWN: 0.1}
    for labels, own in nu.items():
        for seed in range(3):
            noise = np.exp(0.01 * rng.standard_normal())
            where = {"labels": labels, "seed": seed, "base": 2}
            rows.append({**where, "quantity": "int nu", "steps": 0, "value": own})
            rows.append({**where, "quantity": "excess", "steps": 0, "value": own * noise})
            for N, exact in ((2, 0.1), (25, 0.001)):
                rows.append({**where, "quantity": "exact KL", "steps": N, "value": exact})
                value = (exact + 0.5 * own) * noise
                rows.append({**where, "quantity": "KL", "steps": N, "value": value})
    facts = _facts(pd.DataFrame(rows), config)["2^3"]
    assert facts["c"] == pytest.approx(0.5, rel=0.05)
    assert facts["rms"] < 0.03
    gap = facts["log KL, 25 steps, minus given"]
    assert gap[found(1000)][2] < -1.3
    assert gap[PERMUTED][1] < 0.05
    assert gap[PERMUTED][2] > -0.05
