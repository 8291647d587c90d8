"""The explorer shows the numbers of the library."""

import json
import math
from typing import Any

import numpy as np
import pytest

import tokenkl as tk
from website.explorer import DECIBELS, PLACE, QUANTITIES, STORED, VIEWS, cases, numbers
from website.explorer import on_page_content as stand_in


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return record


def test_codebooks_and_views_are_those_of_the_command(stored: dict[str, Any]) -> None:
    assert stored["decibels"] == list(DECIBELS)
    assert stored["views"] == VIEWS
    assert [one["label"] for one in stored["codebooks"]] == [case.label for case in cases()]
    for one in stored["codebooks"]:
        for seen in one["views"].values():
            assert all(len(seen[name]) == len(DECIBELS) for name in QUANTITIES)
            known = np.array(seen["conditional_entropy"]) + seen["mutual_information"]
            assert np.allclose(known, one["bits"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_stored_numbers_are_those_of_the_library(stored: dict[str, Any]) -> None:
    """All that is exact, at three levels: five digits are stored."""
    levels = (-10, 4, 13)
    places = [DECIBELS.index(level) for level in levels]
    for case, one in zip(cases(), stored["codebooks"], strict=True):
        if case.group == "Lattices":
            continue
        anew = numbers(case, levels)
        assert anew["steps"] == pytest.approx(one["steps"], rel=2e-5)
        for view, seen in one["views"].items():
            assert anew["views"][view]["half"] == seen["half"]
            for name in QUANTITIES:
                found = [seen[name][place] for place in places]
                assert anew["views"][view][name] == pytest.approx(found, rel=2e-5), (one, name)


def test_views_are_what_they_say(stored: dict[str, Any]) -> None:
    """By the library's own scaling, and by a formula: FSQ 2^10 is ten bits on a line."""
    (binary,) = (one for one in stored["codebooks"] if one["label"] == "FSQ 2^10")
    place = DECIBELS.index(0)
    powers = {"box": 10.0, "coordinate": 10.0, "power": 1.0}
    for view, power in powers.items():
        book = tk.scale_to(tk.FSQ((2,) * 10), power=power)
        seen = binary["views"][view]
        assert seen["mmse"][place] == pytest.approx(float(tk.mmse(book, 1.0)) / power, rel=2e-5)
        right = math.erf(math.sqrt(power / 10 / 2)) / 2 + 1 / 2
        assert seen["accuracy"][place] == pytest.approx(right**10, rel=2e-5)


def test_steps_cost_what_the_sampler_loses(stored: dict[str, Any]) -> None:
    """By the sum over steps, on the grid of another scale; and more steps cost less."""
    (ternary,) = (one for one in stored["codebooks"] if one["label"] == "FSQ 3^6")
    book = tk.scale_to(tk.FSQ((3,) * 6), power=1.0)
    _, high = tk.optimality.information_range(book, 1e-6)
    grid = tk.optimal_steps(book, 10, 0.0, high)
    place = stored["steps"].index(10)
    assert float(tk.ancestral_kl(book, grid.snr)) == pytest.approx(
        ternary["steps"][place], rel=1e-3
    )
    for one in stored["codebooks"]:
        assert sorted(one["steps"], reverse=True) == one["steps"]


def test_sampled_numbers_cover_what_another_sample_finds(stored: dict[str, Any]) -> None:
    """E6 ball at one level, with another key; five standard errors, three quantities."""
    (ball,) = (one for one in stored["codebooks"] if one["label"].startswith("E6"))
    seen = ball["views"]["coordinate"]
    place = DECIBELS.index(5)
    book = tk.scale_to(tk.e6_codebook(), power=6.0)
    method = tk.MonteCarlo(n_samples=2048)
    anew = tk.profile(book, 10**0.5, QUANTITIES, method=method, key=7).bits
    for name in QUANTITIES:
        scale = 1 / 6 if name == "mmse" else 1.0
        apart = float(anew[name].value) * scale - seen[name][place]
        error = math.hypot(float(anew[name].standard_error) * scale, seen[f"{name}_error"][place])
        assert abs(apart) < 5 * error
    half = tk.snr_of_information(book, near=5.0, method=method, key=7)
    error = math.hypot(float(half.standard_error), seen["half_error"])
    assert abs(float(half) - seen["half"]) < 5 * error


def test_numbers_stand_in_the_page() -> None:
    page = stand_in(f"<p>{PLACE}</p>", None, None, None)
    assert page.startswith('<p><script type="application/json" id="explorer-values">{"decibels"')
    assert page.count("</script>") == 1
    assert stand_in("<p>no place</p>", None, None, None) == "<p>no place</p>"
