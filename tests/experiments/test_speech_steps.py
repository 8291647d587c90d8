"""`speech_steps`: what is compared with what, its verdicts, and what an unknown alignment costs."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.speech.alignments import TOKEN, entropies, spoken
from experiments.speech.plans import BUDGET, DECODED, PAUSED_STEPS, PLANS
from experiments.speech.results import Results
from experiments.speech_evidence import Mean, Units, bound_rows, closings, read_rows
from experiments.speech_steps import (
    EVIDENCE_STEPS,
    SMOKE,
    _cell,
    _decoded_rows,
    _path_gaps,
    verdicts,
    word_rows,
)
from tokenkl._random import generator
from tokenkl.tts.audio import PAUSE, SAMPLE_RATE, Alignment, Utterance

#: Errors of 100 words, by calls.
FALLING = dict(zip(PAUSED_STEPS, (60, 50, 30, 20, 18), strict=True))


def _record(seed: int, bound: float, errors: dict[int, int]) -> dict[str, Any]:
    def report(wrong: int) -> dict[str, Any]:
        return {
            "format": 1, "label": "", "names": ["a", "b"], "texts": ["x y", "z w"],
            "seeds": [seed], "heard": {}, "K": 9, "used": [0],
            "measurements": {
                "words": [[100.0], [100.0]], "errors_bigram": [[wrong + seed], [wrong + seed]],
            },
        }  # fmt: skip

    return {
        "made_from": {"seed": seed},
        "evidence": {f"{BUDGET}": {f"{N}": [bound * 30, bound * 10] for N in EVIDENCE_STEPS}},
        "evidence_tokens": [30, 10],
        "cells": {_cell(steps).label: report(errors[steps]) for steps in PAUSED_STEPS},
    }


def _units(errors: dict[str, dict[int, int]], bounds: dict[str, float], seeds: int = 3) -> Units:
    common, own = np.random.default_rng(1).normal(size=(2, 4, seeds))
    return Units(
        Results(
            {
                name: [
                    _record(s, bounds[name] + common[0, s] + 0.01 * own[i, s], errors[name])
                    for s in range(seeds)
                ]
                for i, name in enumerate(errors)
            }
        ),
        BUDGET,
    )


def _claims(start: float, end: float) -> dict[str, Any]:
    found = {"squared_error": [0.0, 0.0], "cross_entropy": [start, end]}
    return {"log_snr": [0.0, 1.0], "test": found}


def _verdicts(units: Units, read: dict[str, tuple[float, float]]) -> dict[str, str]:
    seeds = len(units.records["fsq"])
    claims = {
        f"{name}-{seed}": _claims(start + 0.01 * seed * (1 + k), end)
        for k, (name, (start, end)) in enumerate(read.items())
        for seed in range(seeds)
    }
    rows = [row for name in units.names for row in word_rows(units, name, SMOKE)]
    rows += [row for name in units.names for row in bound_rows(units, name)]
    rows += read_rows(claims) + _path_gaps(claims)
    return verdicts(pd.DataFrame(rows), closings(units))


def test_verdicts() -> None:
    worse = {steps: wrong + (0 if steps == 1 else 15) for steps, wrong in FALLING.items()}
    errors = {"fsq": FALLING, "perturbed-power": FALLING, "permuted": worse}
    bounds = {"fsq": 3.0, "perturbed-power": 3.2, "permuted": 3.5}
    read = {"fsq": (3.6, 3.0), "perturbed-power": (3.6, 3.0), "permuted": (3.5, 3.3)}
    found = _verdicts(_units(errors, bounds), read)
    assert found == {
        "N1, FSQ": "confirmed",
        "N1, perturbed": "confirmed",
        "N1, falls": "confirmed",
        "N1, 25": "confirmed",
        "N2": "confirmed",
        "N3, perturbed, equal power": "confirmed",
        "N3, permuted": "confirmed",
        "N4, read": "confirmed",
        "N4, words at 10": "confirmed",
        "N4, grows": "confirmed",
        "N4, many steps": "confirmed",
        "N5, bound": "confirmed",
        "N5, grows": "open",  # the same difference at every N
        "N5, words": "confirmed",
        "N6, bound": "not measured",
        "N6, grows": "not measured",
        "N6, words": "not measured",
    }
    flat = dict.fromkeys(PAUSED_STEPS, 40)
    errors = {"fsq": flat, "perturbed-power": worse, "permuted": FALLING}
    bounds = {"fsq": 3.0, "perturbed-power": 2.8, "permuted": 3.5}
    found = _verdicts(_units(errors, bounds), read | {"permuted": (3.6, 3.0)})
    for key in ("N1, FSQ", "N3, permuted", "N4, words at 10", "N4, grows", "N4, read", "N5, bound",
                "N5, words", "N4, many steps"):  # fmt: skip
        assert found[key] == "refuted", key
    few = _verdicts(_units(errors, bounds, seeds=2), read)
    assert set(few.values()) == {"not measured"}


def test_words_are_compared_by_calls_and_geometry() -> None:
    units = _units(
        {"fsq": FALLING, "permuted": {steps: wrong + 5 for steps, wrong in FALLING.items()}},
        {"fsq": 3.0, "permuted": 3.0},
    )
    del units.records["permuted"][1]  # then it has two seeds, and so have its differences
    rows = pd.DataFrame(word_rows(units, "permuted", SMOKE)).set_index(["kind", "steps"])
    at_ten = rows.loc[("WER minus rival", 10.0)]
    assert at_ten.value == pytest.approx(0.05)
    assert at_ten.seeds == 2
    gain = rows.loc[("WER minus other steps", 1.0)].set_index("other")
    assert gain.value[10.0] == pytest.approx(0.4)
    assert gain.value[2.0] == pytest.approx(0.1)
    del units.records["permuted"][2]
    rows = pd.DataFrame(word_rows(units, "permuted", SMOKE))
    assert (rows.seeds == 1).all()
    assert np.isinf(rows.high).all()  # of one seed nothing is said


def test_other_decodings_are_those_that_were_heard() -> None:
    units = _units({"fsq": FALLING}, {"fsq": 3.0})
    assert _decoded_rows(units, SMOKE) == []
    for record in units.records["fsq"].values():
        record["cells"][DECODED[2].label] = record["cells"][_cell(2).label]
    [row] = _decoded_rows(units, SMOKE)
    assert (row["steps"], row["decoding"], row["seeds"]) == (1, "sample", 3)
    assert row["value"] == pytest.approx(0.51)  # 50 errors in 100 words, and one more a seed


def test_what_is_read_is_compared_seed_by_seed() -> None:
    claims = {
        "fsq-0": _claims(4.0, 3.0), "fsq-1": _claims(5.0, 3.0), "permuted-1": _claims(3.5, 3.0),
    }  # fmt: skip
    [row] = _path_gaps(claims)
    assert Mean(row["value"], row["low"], row["high"], row["seeds"]).seeds == 1
    assert row["value"] == pytest.approx(-1.5)


def test_units_of_the_plan() -> None:
    units = PLANS["steps"].units
    assert len({unit.label for unit in units}) == len(units)
    assert set(PLANS["steps-decoded"].units) < set(units)
    others = {
        unit.label for plan in PLANS.values() if plan.folder != "steps" for unit in plan.units
    }
    assert not others & {unit.label for unit in units}  # which share a folder of runs
    assert {unit.seed for unit in units[:3]} == {0}


def _utterance(words: str, pauses: tuple[int, ...]) -> Utterance:
    """Each word one phoneme of one token; pauses in tokens, and one at the end."""
    phonemes, numbers, lengths = [], [], []
    for index, word in enumerate(words.split()):
        phonemes += [word, PAUSE]
        numbers += [index, -1]
        lengths += [TOKEN, TOKEN * ([*pauses, 1][index])]
    edges = np.append(0, np.cumsum(lengths))
    alignment = Alignment(tuple(phonemes), edges, np.array(numbers))
    return Utterance("", words, np.zeros(edges[-1], np.float32), alignment=alignment)


def test_what_is_spoken_at_each_token() -> None:
    said = _utterance("x y x", (2, 1))
    states, lengths = spoken(said, TOKEN * np.array([[2.0, 1.0], [0.0, 3.0], [1.4, 1.6]]))
    assert (lengths == said.audio.size).all()
    assert states.tolist() == [
        [1, 0, 0, 2, 0, 1, 0],  # as it was
        [1, 2, 0, 0, 0, 1, 0],
        [1, 0, 2, 0, 0, 1, 0],  # y from 2.4 to 3.4: the middle of token 2 is in it
    ]


def test_an_unknown_alignment_costs_what_can_be_computed_by_hand() -> None:
    """One word that may be anywhere: its place is uniform, to the edges of the slab."""
    each, together = entropies(_utterance("x y z", (2, 2)), 4 * TOKEN / SAMPLE_RATE, 400_000,
                               generator(0))  # fmt: skip
    share = np.array([0.125, 0.25, 0.25, 0.25, 0.125])  # the word at tokens 1 to 5, silence else
    exact = -(share * np.log(share) + (1 - share) * np.log(1 - share)).sum()
    assert each == pytest.approx(exact, abs=0.15)
    assert together == pytest.approx(np.log(3.75), abs=0.02)  # 4 x 1 less the corners


def test_a_known_alignment_costs_nothing() -> None:
    each, together = entropies(_utterance("x y", (3,)), 4 * TOKEN / SAMPLE_RATE, 100_000,
                               generator(1))  # fmt: skip
    assert together == pytest.approx(0.0, abs=0.05)
    assert each < 2 * np.log(2)  # the two tokens at an end that is known to half a token
