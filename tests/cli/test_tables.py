"""Numbers as they are printed: nothing beyond what is known, and nothing that is not so."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import tokenkl as tk
from tokenkl import readable
from tokenkl.cli import tables
from tokenkl.information import exact_quantities
from tokenkl.information.pictures import profile_figure
from tokenkl.quantities import QUANTITIES


def _pair(text: str) -> tuple[float, float]:
    """The value and the half-width that a printed pair states."""
    inside = re.fullmatch(r"\((.*) ± (.*)\)(e[+-]\d+)", text)
    if inside:
        return float(inside[1] + inside[3]), float(inside[2] + inside[3])
    value, _, half = text.partition(" ± ")
    return float(value), float(half)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.0, 0.0, "0"),
        (0.123456789, 1e-16, "0.123457"),
        (0.123456789, 3e-5, "0.1235"),
        (0.9999999999, 1e-16, "1.00000"),
        (8.788898309344878, 1e-12, "8.78890"),
        (3.0576e-6, 1e-20, "3.05760e-06"),
        (123456789.0, 0.0, "1.23457e+08"),
        (12480.2123, 1e-9, "12480.2"),
        (-0.5, 1e-3, "-0.500"),
        (1e-300, 1e-298, "0 ± 1e-298"),
        (math.inf, 0.0, "inf"),
        (1.0, math.inf, "1 ± inf"),
        (0.25, math.nan, "0.25 ± nan"),
    ],
)
def test_exact(value: float, error: float, text: str) -> None:
    assert readable.format_exact(value, error) == text


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (0.123456789, 3e-5, "0.123457 ± 0.000030"),
        (0.41576, 0.009012, "0.4158 ± 0.0090"),
        (3.4e-10, 0.0102, "0.000 ± 0.010"),
        (-3.4e-10, 0.0102, "0.000 ± 0.010"),
        (2.2e-7, 2.1e-8, "(2.20 ± 0.21)e-07"),
        (-2.2e-7, 2.1e-8, "(-2.20 ± 0.21)e-07"),
        (1234.0, 120.0, "1230 ± 120"),
        (5.0, 0.0999, "5.00 ± 0.10"),
        (0.9999999999, 1e-10, "0.99999999990 ± 1.0e-10"),
        (1.0, 1e-14, "1.00000"),
        (1e-310, 1e-311, "1.0e-310 ± 1.0e-311"),
        (1.0, math.inf, "1 ± inf"),
    ],
)
def test_sampled(value: float, half: float, text: str) -> None:
    assert readable.format_sampled(value, half) == text


def test_what_is_printed_is_true() -> None:
    """Rounding moves a value by at most a twentieth of the half-width beside it."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        value = rng.standard_normal() * 10.0 ** rng.integers(-40, 12)
        half = abs(value) * 10.0 ** rng.uniform(-11, 3)
        shown, shown_half = _pair(readable.format_sampled(value, half))
        assert abs(shown - value) <= 0.0501 * half
        assert shown_half == pytest.approx(half, rel=0.0501)
        error = abs(value) * 10.0 ** rng.uniform(-20, -0.1)
        shown = float(readable.format_exact(value, error).split(" ± ")[0])
        if shown:
            assert abs(shown - value) <= max(5.01 * error, 5.01e-6 * abs(value))


def test_an_error_that_is_shown_covers_the_value() -> None:
    rng = np.random.default_rng(2)
    for _ in range(1000):
        value = rng.choice([-1, 1]) * 10.0 ** rng.uniform(-20, 20)
        error = abs(value) * 10.0 ** rng.uniform(-1, 1)
        shown, *half = readable.format_exact(value, error).split(" ± ")
        assert abs(float(shown) - value) <= (float(half[0]) * (1 + 1e-9) if half else 5.01 * error)
        assert abs(value) <= 1.5 * error or float(shown) != 0


def test_cells_mark_what_is_not_a_central_limit_interval() -> None:
    estimate = tk.Estimate(
        [0.5, 0.0],
        [0.01, 0.0],
        0.0,
        n_samples=100,
        interval_supported=[True, False],
        sample_range=1,
    )
    first, second = readable.cells(estimate, missed=[True, False])
    assert first == "0.500 ± 0.020†"
    assert second.endswith("*")
    assert float(second.split(" ± ")[1].rstrip("*")) == pytest.approx(
        (estimate.confidence_interval().high - estimate.value)[1], rel=0.05
    )


def test_missed_targets_are_named_and_kept_ones_are_not() -> None:
    """The target of the third is missed by rounding alone."""
    estimate = tk.Estimate(
        [10.0, 10.0, -10.0, 0.0],
        [0.5, 0.2, 0.3 * (1 + 1e-12), 0.101],
        0.0,
        n_samples=100,
        quantity="mmse",
        note="of no use",
    )
    missed = [tables.missed_target(estimate[i], 0.02, 0.1) for i in range(4)]
    assert missed == [True, False, False, True]
    exact = tk.Estimate(10.0, 0.0, 5.0, quantity="mmse")
    assert not tables.missed_target(exact, 0.02, 0.1)
    assert not tables.missed_target(estimate[0], 0.0, 0.0)  # nothing was asked for

    def lines(given: tk.Estimate, rtol: float) -> list[str]:
        profile = tk.Profile("a grid", 9, 2, np.ones(np.shape(given.value)), {"mmse": given})
        return tables.note_lines([("a grid", profile)], rtol, 0.1)

    assert [line[0] for line in lines(estimate, 0.02)] == ["†", "N"]
    assert [line[0] for line in lines(estimate[1:3], 0.02)] == ["N"]
    assert lines(exact, 0.02) == []


def test_decimal_points_are_above_each_other() -> None:
    estimate = tk.Estimate([12.5, 0.25, 100.0], 0.0, [1e-9, 1e-9, 1e-9])
    assert [text.index(".") for text in readable.cells(estimate)] == [3, 3, 3]


def test_a_wide_table_is_split() -> None:
    console = Console(width=40, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    columns = [(f"column {i}", ["0.123456"]) for i in range(6)]
    tables.print_table(console, [("SNR", ["1"])], columns)
    console.file.close()
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 40
    assert sum("SNR" in line for line in lines) == 2
    assert all(sum(title in line for line in lines) == 1 for title, _ in columns)


def test_bits() -> None:
    found = tk.profile(tk.FSQ((3, 3)), [1.0])
    converted = found.bits
    assert converted["mutual_information"].value[0] == pytest.approx(
        found["mutual_information"].value[0] / math.log(2)
    )
    assert converted["mmse"] is found["mmse"]
    columns = list(tables.frame_of(converted))
    assert "mutual_information_bits_low" in columns
    assert "mutual_information" not in columns
    assert "accuracy" in columns


ALL = tuple(QUANTITIES)


@pytest.mark.parametrize(
    ("codebook", "expected"),
    [
        (tk.FSQ((3, 3)), ALL),
        (tk.OneHot(5), ALL),
        (tk.PointCodebook([[0.0, 0, 0], [1, 1, 1], [3, 3, 3]]), ALL),
        (tk.perturb(tk.FSQ((3, 3)), 0.1, key=0), ("accuracy", "error_probability")),
        (tk.FSQ((2, 2), [0.4, 0.1, 0.1, 0.4]), ("accuracy", "error_probability")),
        (tk.perturb(tk.FSQ((3, 3, 3)), 0.1, key=0), ()),
    ],
)
def test_exact_quantities_are_those_of_the_library(
    codebook: tk.Codebook, expected: tuple[str, ...]
) -> None:
    assert exact_quantities(codebook) == expected
    for name in ALL:
        if name in expected:
            tk.profile(codebook, 1.0, [name], method=tk.Exact())
        else:
            with pytest.raises(ValueError, match="method must be"):
                tk.profile(codebook, 1.0, [name], method=tk.Exact())


def test_facts_on_a_huge_grid_and_on_a_huge_residual_codebook() -> None:
    facts = tables.facts_on(tk.FSQ((17,) * 6000))
    assert facts["bits"] == pytest.approx(6000 * math.log2(17))
    assert facts["K"] is None
    assert dict(tables.shown_facts(facts, tk.QUANTITIES))["tokens K"].startswith("4.94e+7382 ")
    stages = [np.random.default_rng(i).standard_normal((1024, 4)) for i in range(8)]
    facts = tables.facts_on(tk.ResidualCodebook(stages))
    assert facts["K"] == 1024**8
    assert facts["min_distance"] is None
    assert "not computed" in dict(tables.shown_facts(facts, tk.QUANTITIES))["min distance"]


def test_facts_on_one_token_and_on_an_unequal_prior() -> None:
    shown = dict(tables.shown_facts(tables.facts_on(tk.OneHot(1)), tk.QUANTITIES))
    assert shown["min distance"] == "none, for a single token"
    facts = tables.facts_on(tk.OneHot(2, [0.25, 0.75]))
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert facts["prior_entropy"] == pytest.approx(entropy, rel=1e-14)
    assert facts["perplexity"] == pytest.approx(math.exp(entropy), rel=1e-14)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_figures(count: int, tmp_path: Path) -> None:
    from tokenkl.plotting import save_figure

    names = tk.QUANTITIES[-count:]
    snr = [0.0, 0.1, 10.0, 1000.0]
    exact = tk.profile(tk.FSQ((3, 3)), snr, names)
    sampled = tk.profile(tk.FSQ((3, 3)), snr, names, method=tk.MonteCarlo(50), key=0)
    figure = profile_figure([("exact", exact), ("sampled", sampled)])
    panels = [panel for panel in figure.axes if panel.axison]
    assert len(panels) == count
    for panel, name in zip(panels, names, strict=True):
        line = panel.lines[0]
        assert np.array_equal(line.get_xdata(), exact.snr_db[1:])
        assert np.array_equal(line.get_ydata(), np.asarray(exact[name].value)[1:])
    save_figure(figure, tmp_path / "figure.svg")
