"""The rules of `speech_evidence`: what is paired, and when a hypothesis is called what."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import tokenkl as tk
from experiments.speech.plans import PLAIN
from experiments.speech.results import Results
from experiments.speech_evidence import (
    CELL,
    SMOKE,
    STEPS,
    Mean,
    Units,
    _rows_of,
    above,
    path_rows,
    read_rows,
    verdicts,
    within,
)


def test_intervals_are_those_of_a_t_test() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 8)
    found = Mean.of(values)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert Mean.of([2.0]) == Mean(2.0, -math.inf, math.inf, 1)


def _record(seed: int, evidence: float, errors: int) -> dict[str, Any]:
    report = {
        "format": 1, "label": CELL.label, "names": ["a", "b"], "texts": ["x y", "z w"],
        "seeds": [seed], "heard": {}, "K": 9, "used": [0],
        "measurements": {"words": [[50.0], [50.0]], "errors_unigram": [[errors], [errors]]},
    }  # fmt: skip
    return {
        "made_from": {"seed": seed},
        "evidence": {f"{CELL.budget}": {f"{N}": [evidence * 30, evidence * 10] for N in STEPS}},
        "evidence_tokens": [30, 10],
        "likelihood": {
            f"{CELL.budget}": {"log_snr": [0.0], "cross_entropy": [evidence]},
        },
        "cells": {CELL.label: report},
    }


def _units(levels: dict[str, float], errors: dict[str, int], seeds: int = 8) -> Units:
    """Geometries whose bounds differ by a constant, on top of what each seed adds."""
    rng = np.random.default_rng(1)
    by_seed, small = 5 * rng.normal(size=seeds), 0.02 * rng.normal(size=(len(levels), seeds))
    return Units(
        Results(
            {
                name: [
                    _record(s, level + by_seed[s] + small[i, s], errors.get(name, 10))
                    for s in range(seeds)
                ]
                for i, (name, level) in enumerate(levels.items())
            }
        )
    )


def _table(units: Units) -> pd.DataFrame:
    pairs = [(name, prior) for name in units.names for prior in (True, False)]
    return pd.DataFrame([row for pair in pairs for row in _rows_of(units, *pair, SMOKE)])


def test_what_a_seed_adds_to_both_falls_out() -> None:
    units = _units({"fsq": 3.0, "permuted": 3.25}, {})
    gap = units.gap("permuted", "fsq", 5)
    assert gap.low < 0.25 < gap.high
    assert gap.high - gap.low < 0.1
    assert gap.seeds == 8
    assert units.evidence("fsq", 5, [2])[0] == pytest.approx(
        units.records["fsq"][2]["evidence"][f"{CELL.budget}"]["5"][0] / 30
    )


def test_exact_posteriors_cost_the_entropy_wherever_the_path_ends() -> None:
    cube, log_snr = tk.FSQ((2, 2)), np.linspace(-6, 4, 400)
    exact = tk.profile(cube, np.exp(log_snr), ("mmse", "conditional_entropy"))
    mmse, entropy = (exact[name].value.tolist() for name in ("mmse", "conditional_entropy"))
    claims = {"squared_error": mmse, "variance": mmse, "cross_entropy": entropy}
    rows = pd.DataFrame(
        path_rows({"fsq-plain-0": {"log_snr": log_snr.tolist(), "test": claims, "train": claims}})
    )
    assert not rows.prior.any()
    assert set(rows.name) == {"fsq"}
    paths, ratios = (rows[rows.kind == k] for k in ("cost of a path", "error over claim"))
    assert np.allclose(paths.value, np.log(4), atol=2e-5)
    assert (ratios.value.dropna() == 1).all()
    assert ratios.value.notna().mean() > 0.5


def test_what_is_read_along_the_path() -> None:
    """What a network is told at each level, out of a path of two costs."""
    log_snr = np.log([1.0, 2.0])

    def found(start: float, end: float) -> dict[str, Any]:
        claims = {"squared_error": [0.0, 0.0], "cross_entropy": [start, end]}
        return {"log_snr": log_snr.tolist(), "test": claims}

    rows = pd.DataFrame(
        read_rows(
            {"fsq-0": found(3.4, 3.2), "fsq-1": found(3.5, 3.2), "permuted-1": found(3.3, 3.25)}
        )
    ).set_index(["kind", "name"])
    assert rows.loc[("read along the path", "fsq"), "value"] == pytest.approx(0.25)
    assert rows.loc[("many steps minus rival", "permuted"), "value"] == pytest.approx(0.05)
    assert rows.loc[("many steps minus rival", "permuted"), "seeds"] == 1
    assert ("many steps minus rival", "fsq") not in rows.index


def test_seeds_that_only_one_has_are_left_out() -> None:
    units = _units({"fsq": 3.0, "permuted": 3.25}, {})
    del units.records["fsq"][3]
    assert units.shared("fsq", "permuted") == [0, 1, 2, 4, 5, 6, 7]
    assert units.gap("permuted", "fsq", 5).seeds == 7


def test_verdicts() -> None:
    levels = {
        "fsq": 3.0, "perturbed-power": 3.4, "permuted": 3.25, "relabelled": 3.3, "e8-power": 3.0,
        "spherical": 3.5,
    }  # fmt: skip
    levels |= {name + PLAIN: value for name, value in levels.items()}
    units = _units(levels, {"permuted" + PLAIN: 25})
    found = verdicts(units, _table(units))
    assert found == {
        "E1": "confirmed",
        "E2": "open",
        "E3": "confirmed",
        "E3, in the bound": "confirmed",
        "E4": "refuted",
        "E5": "refuted",  # perturbed is worse than permuted
        "E6": "not measured",
        "W1": "not measured",
    }
    words = {"kind": "WER minus rival, words", "name": "perturbed-power", "seeds": 25}
    for low, high, verdict in (
        (-0.008, 0.009, "confirmed"),
        (-0.014, -0.001, "open"),
        (0.011, 0.03, "refuted"),
    ):
        row = pd.DataFrame([{**words, "value": (low + high) / 2, "low": low, "high": high}])
        table = pd.concat([_table(units), row])
        assert verdicts(units, table)["W1"] == verdict
    levels |= {"permuted": 3.6, "permuted" + PLAIN: 3.6}
    units = _units(levels, {})
    assert verdicts(units, _table(units))["E5"] == "confirmed"
    few = _units(levels, {}, seeds=2)
    assert set(verdicts(few, _table(few)).values()) == {"not measured"}


@pytest.mark.parametrize(
    ("mean", "more", "between"),
    [
        (Mean(0.2, 0.15, 0.25, 8), "confirmed", "confirmed"),
        (Mean(0.2, 0.05, 0.35, 8), "open", "open"),
        (Mean(0.0, -0.05, 0.05, 8), "refuted", "refuted"),
        (Mean(0.5, 0.45, 0.55, 8), "confirmed", "refuted"),
        (Mean(0.35, 0.25, 0.45, 8), "confirmed", "open"),
        (Mean(0.2, 0.15, 0.25, 2), "not measured", "not measured"),
        (None, "not measured", "not measured"),
    ],
)
def test_rules(mean: Mean | None, more: str, between: str) -> None:
    assert above(mean, 0.1) == more
    assert within(mean, 0.1, 0.4) == between


def test_claims_of_a_network_that_is_exact() -> None:
    """With an output prior it begins as the denoiser of independent tokens: what it claims is so,
    and both are what the library finds for the codebook."""
    pytest.importorskip("torch")
    from experiments.speech.calibration import claims
    from tokenkl.tts.cdcd import CDCD, CDCDConfig
    from tokenkl.tts.data import Example, make_batch
    from tokenkl.tts.levels import noise_levels

    grid = tk.FSQ((3, 3), grid="rounding", order="F")
    config = CDCDConfig(
        K=9, symbols=5, dim=2, shape=(3, 3), width=16, heads=2, depth=1, time_width=8,
        text_width=8, text_blocks=1, output_prior=True,
    )  # fmt: skip
    model = CDCD(config, np.asarray(grid.points), noise_levels("linear-vp", grid)).eval()
    rng = np.random.default_rng(0)
    balanced = np.tile(np.arange(9), 22)  # every token as often, as the law has it
    examples = [
        Example("", "", rng.permutation(balanced), 1 + rng.integers(4, size=3)) for _ in range(40)
    ]
    log_snr = np.log([0.3, 2.0, 8.0])
    found = claims(model, make_batch(examples, "stretch"), log_snr, 2, seed=0)
    exact = tk.profile(grid, np.exp(log_snr), ("mmse", "conditional_entropy"))
    for name, right in (("squared_error", "mmse"), ("variance", "mmse"),
                        ("cross_entropy", "conditional_entropy")):  # fmt: skip
        assert np.allclose(found[name], exact[right].value, rtol=0.04, atol=2e-3), name
