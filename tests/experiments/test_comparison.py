"""What counts as the same numbers: to the digit, within the stated error, or not."""

from typing import Any

import pytest

from experiments.comparison import DIFFERENT, IDENTICAL, WITHIN, Comparison, Error, compare

BEFORE = "kind,value,error,low,high,count\na,0.5,0.01,0.4,0.6,3\nb,2e-30,,,,4\n"
ERRORS: dict[str, Error] = {"value": "error"}


def found(
    *changes: tuple[str, str], errors: dict[str, Error] = ERRORS, facts: Any = (None, None)
) -> Comparison:
    now = BEFORE
    for old, new in changes:
        assert now.count(old) == 1
        now = now.replace(old, new)
    before, after = ({} if one is None else one for one in facts)
    return compare(BEFORE, now, before, after, errors)


def test_the_same_digits() -> None:
    assert found() == Comparison(IDENTICAL, 2)


@pytest.mark.parametrize(
    ("old", "new", "errors", "verdict"),
    [
        ("a,0.5,", "a,0.5000000001,", {}, WITHIN),  # last digits
        ("a,0.5,", "a,0.50001,", {}, DIFFERENT),
        ("a,0.5,", "a,0.55,", {"value": "error"}, WITHIN),  # 4 sqrt(2) 0.01 = 0.0566
        ("a,0.5,", "a,0.56,", {"value": "error"}, DIFFERENT),
        ("a,0.5,", "a,0.69,", {"value": ("low", "high")}, WITHIN),  # 0.2, if it is as wide now
        ("a,0.5,", "a,0.71,", {"value": ("low", "high")}, DIFFERENT),
        ("a,0.5,", "a,0.55,", {"value": 0.01}, WITHIN),
        ("a,0.5,", "a,0.56,", {"value": 0.01}, DIFFERENT),
        ("2e-30", "3e-30", {"value": "error"}, DIFFERENT),  # small, and said without an error
        ("2e-30", "2.0000000001e-30", {"value": "error"}, WITHIN),
        ("a,0.5,0.01", "a,0.5,0.019", {"value": "error"}, WITHIN),  # an error is an estimate
        ("a,0.5,0.01", "a,0.5,0.021", {"value": "error"}, DIFFERENT),
        ("a,0.5,0.01", "a,0.5,0.011", {}, DIFFERENT),
        ("0.4,0.6", "0.35,0.6", {"value": ("low", "high")}, WITHIN),
        ("0.4,0.6", "0.1,0.6", {"value": ("low", "high")}, WITHIN),  # wide enough to meet
        ("0.6,3", "0.6,4", {"value": "error"}, DIFFERENT),
        ("b,2e-30", "c,2e-30", {"value": "error"}, DIFFERENT),
        ("b,2e-30", "b,nan", {"value": "error"}, DIFFERENT),
        ("b,2e-30", "b,", {"value": "error"}, DIFFERENT),
        ("b,2e-30,", "b,2e-30,0.1", {"value": "error"}, DIFFERENT),
        ("b,2e-30", "b,inf", {"value": "error"}, DIFFERENT),
        ("kind,", "sort,", {"value": "error"}, DIFFERENT),
        ("b,2e-30,,,,4\n", "", {"value": "error"}, DIFFERENT),
        ("b,2e-30,,,,4\n", "b,2e-30,,,,4\n" * 2, {"value": "error"}, DIFFERENT),
    ],
)
def test_one_change(old: str, new: str, errors: dict[str, Error], verdict: str) -> None:
    assert found((old, new), errors=errors).verdict == verdict


def test_the_worst_is_named() -> None:
    one = found(("a,0.5,", "a,0.51,"), ("2e-30", "3e-30"))
    assert one == Comparison(DIFFERENT, 2, 2, 0.5, "value, row 2: 2e-30, now 3e-30")
    one = found(("a,0.5,", "a,0.51,"), ("2e-30", "2.0000000001e-30"))
    assert one == Comparison(WITHIN, 2, 2, 0.02, "value, row 1: 0.5, now 0.51")


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ({"x": 1.0, "seconds": 3}, {"x": 1.0, "seconds": 4}, IDENTICAL),  # times are no findings
        ({"x": {"run_seconds": {"a": 1}}}, {"x": {"run_seconds": {}}}, IDENTICAL),
        ({"x": float("nan")}, {"x": float("nan")}, IDENTICAL),
        ({"x": [1, {"y": 2.0}]}, {"x": [1, {"y": 2.0000000001}]}, WITHIN),
        ({"gap": 1e-16}, {"gap": 3e-15}, WITHIN),  # zero up to rounding
        ({"x": [1, {"y": 2.0}]}, {"x": [1, {"y": 2.1}]}, DIFFERENT),
        ({"x": [1]}, {"x": [1, 2]}, DIFFERENT),
        ({"x": True}, {"x": False}, DIFFERENT),
        ({"x": 1}, {}, DIFFERENT),
        ({}, {"x": 1}, DIFFERENT),
    ],
)
def test_facts(old: Any, new: Any, verdict: str) -> None:
    assert found(facts=(old, new)).verdict == verdict


def test_facts_follow_a_table_that_has_errors() -> None:
    within = ("a,0.5,", "a,0.51,")
    assert found(within, facts=({"mean": 0.5}, {"mean": 0.51})).verdict == WITHIN
    assert found(within, facts=({"better": True}, {"better": False})).verdict == DIFFERENT
