"""`speech_lasting`: gaps over training budgets and steps, what was foretold, and the verdicts."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.speech.laws import CLASSIFIER, DRAWN, FIXED, FORETOLD, TWIN
from experiments.speech.plans import LASTING_NAMES, PLANS
from experiments.speech.results import Results
from experiments.speech.units import OPTIMUM
from experiments.speech_evidence import bound_rows, read_rows
from experiments.speech_lasting import (
    BUDGETS,
    SMOKE,
    STEPS,
    foretold,
    growth_rows,
    law_rows,
    slope_of_the_rest,
    units_at,
    verdicts,
    word_rows,
)

CELLS = (*PLANS["lasting"].cells, *PLANS["lasting-curve"].cells)
#: Nats more than FSQ, by budget and steps, of a world in which all hypotheses hold.
GAPS: dict[str, dict[int, float]] = {
    "fsq": dict.fromkeys(STEPS, 0.0),
    "perturbed-power": {5: 0.05, 12: 0.15, 25: 0.2},
    "permuted": {5: 0.6, 12: 0.7, 25: 0.3},
    "relabelled": {5: 0.1, 12: 0.1, 25: 0.1},
    "perturbed-box": dict.fromkeys(STEPS, 0.0),
}


def _record(seed: int, name: str, noise: float, budgets: tuple[Any, ...]) -> dict[str, Any]:
    report = {
        "format": 1, "label": "", "names": ["a", "b"], "texts": ["x y", "z w"],
        "seeds": [seed], "heard": {}, "K": 9, "used": [0],
        "measurements": {"words": [[100.0], [100.0]], "errors_unigram": [[20 + seed], [20]]},
    }  # fmt: skip
    return {
        "made_from": {"seed": seed},
        "evidence": {
            f"{budget}": {
                f"{N}": [(3 + seed + GAPS[name][N] + noise) * size for size in (30, 10)]
                for N in STEPS
            }
            for budget in budgets
        },
        "evidence_tokens": [30, 10],
        "cells": {cell.label: report for cell in CELLS if cell.budget in budgets},
        "optimum": {"step": 700, "ended": 1000, "loss": 2.0},
    }


def _results(seeds: int = 3, budgets: tuple[Any, ...] = BUDGETS) -> Results:
    noise = 0.003 * np.random.default_rng(0).normal(size=(len(GAPS), seeds))
    return Results(
        {
            name: [_record(s, name, noise[i, s], budgets) for s in range(seeds)]
            for i, name in enumerate(GAPS)
        }
    )


def _claims(read: dict[str, tuple[float, float]], seeds: int) -> dict[str, Any]:
    found = {}
    for k, (name, (start, end)) in enumerate(read.items()):
        for seed in range(seeds):
            apart = {"squared_error": [0.0, 0.0], "cross_entropy": [start + 0.001 * seed * k, end]}
            found[f"{name}-{seed}"] = {"log_snr": [0.0, 1.0], "test": apart}
    return found


def _laws() -> dict[str, Any]:
    """Path KLs that foretell the gaps, and for the twin half of them."""
    every = {name: GAPS.get(name, {5: 0.2 + i, 12: 0.3 + i, 25: 0.2 + i})
             for i, name in enumerate((*FIXED, *DRAWN))}  # fmt: skip
    return {
        law: {
            "tokens": [30, 10],
            "cross_entropy": [60.0, 20.0],
            "optimum": {"step": 500, "ended": 800, "loss": 2.0},
            "points": {
                f"{name}-{seed}": {
                    f"{N}": [(2.1 + part * every[name][N]) * size for size in (30, 10)]
                    for N in STEPS
                }
                for name, seed in FORETOLD
            },
        }
        for law, part in ((CLASSIFIER, 1.0), (TWIN, 0.5))
    }


def _table(seeds: int = 3) -> pd.DataFrame:
    results = _results(seeds)
    rows: list[dict[str, Any]] = []
    for budget in BUDGETS:
        units = units_at(results, budget)
        for name in units.names:
            rows += bound_rows(units, name, budget=budget)
            rows += word_rows(units, name, budget, SMOKE)
        rows += growth_rows(units, budget)
    read = dict.fromkeys(LASTING_NAMES, (3.3, 3.0)) | {"permuted": (3.2, 3.15)}
    rows += [{**row, "budget": OPTIMUM} for row in read_rows(_claims(read, seeds))]
    earlier = [
        {"kind": "E: evidence minus rival", "name": name, "steps": N, "prior": True,
         "value": gap, "low": gap, "high": gap, "seeds": 5}
        for name, gaps in GAPS.items() if name != "fsq" for N, gap in gaps.items()
    ]  # fmt: skip
    return pd.DataFrame(rows + earlier + law_rows(_laws()))


def test_verdicts() -> None:
    table = _table()
    found = verdicts(table)
    assert set(found.values()) == {"confirmed"}, found
    assert set(verdicts(_table(2)).values()) - {"confirmed"} == {"not measured"}
    worse = table.copy()
    gaps = worse.kind.isin(["evidence minus rival", "many steps minus rival"])
    ends = ["value", "low", "high"]
    worse.loc[gaps & (worse.budget == OPTIMUM), ends] *= -3.0
    worse.loc[worse.kind == "foretold", ends] *= -1.0
    found = verdicts(worse)
    for key in ("L1", "L3, bound", "L4", "L6", "L2, permuted", "D1", "D2", "D2, permuted", "D4"):
        assert found[key] == "refuted", key


def test_budgets_that_training_did_not_reach_are_left_out() -> None:
    results = _results(budgets=(200, OPTIMUM))
    assert units_at(results, 800).names == []
    units = units_at(results, OPTIMUM)
    rows = pd.DataFrame(bound_rows(units, "permuted"))
    gap = rows[rows.kind == "evidence minus rival"].set_index("steps").value
    assert gap[5] == pytest.approx(0.6, abs=0.02)
    growth = pd.DataFrame(growth_rows(units, OPTIMUM)).set_index("name").value
    assert growth["permuted"] == pytest.approx(-0.3, abs=0.02)


def test_what_is_foretold_is_beyond_the_laws_own_nats() -> None:
    rows = pd.DataFrame(law_rows(_laws())).set_index(["law", "kind", "name", "steps"]).value
    assert rows[CLASSIFIER, "path KL", "fsq", 5] == pytest.approx(0.1)
    assert rows[CLASSIFIER, "path KL", "permuted", 5] == pytest.approx(0.7)
    assert rows[TWIN, "foretold", "permuted", 12] == pytest.approx(0.35)


def test_agreement_of_what_is_foretold() -> None:
    table = _table()
    found = foretold(table)
    assert found[f"{CLASSIFIER}, E"]["5"] == {
        "points": 4, "spearman": pytest.approx(1.0), "rms": pytest.approx(0.0, abs=1e-12),
    }  # fmt: skip
    half = np.sqrt(np.mean([(gaps[5] / 2) ** 2 for name, gaps in GAPS.items() if name != "fsq"]))
    assert found[f"{TWIN}, E"]["5"]["rms"] == pytest.approx(half)
    said = table[table.kind == "foretold"].set_index(["law", "name", "steps"]).value
    measured = table[table.kind == "E: evidence minus rival"]
    assert slope_of_the_rest(said, measured) == pytest.approx(0.0, abs=1e-9)
    more = measured.assign(value=measured.value + 0.5 * (measured.name == "permuted"))
    assert slope_of_the_rest(said, more) > 0.7  # int nu of permuted ids is 0.6 more than FSQ's
