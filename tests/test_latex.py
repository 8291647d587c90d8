"""LaTeX of profiles: siunitx reads every number, errors cover the rounding, text stays text."""

import re
from decimal import Decimal

import numpy as np
import pytest

import tokenkl as tk
from tokenkl import latex, plotting, readable
from tokenkl.information.pictures import profile_figure

#: What siunitx reads as a number in a column S, and a mark behind it.
NUMBER = re.compile(r"-?\d+(\.\d+)?( \+- \d+(\.\d+)?)?( e-?\d+)?( \{(\*|\$\\dagger\$)+\})?")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.4158 ± 0.0090", "0.4158 +- 0.0090"),
        (" 0.4158 ± 0.0090*", "0.4158 +- 0.0090 {*}"),
        ("(-2.20 ± 0.21)e-07†", r"-2.20 +- 0.21 e-7 {$\dagger$}"),
        ("3.05760e-06", "3.05760 e-6"),
        ("1.23457e+08", "1.23457 e8"),
        ("0.99999999990 ± 1.0e-10", "0.99999999990 +- 0.00000000010"),
        ("1230 ± 120", "1230 +- 120"),
        ("0 ± 1e-298", f"0 +- 0.{'0' * 297}1"),
        ("-inf", "{-{}inf}"),
        ("a_b & c", r"{a\_b \& c}"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert latex.number(text) == expected


def test_every_number_can_be_read() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        value = float(rng.standard_normal() * 10.0 ** rng.integers(-12, 8))
        half = abs(value) * float(10.0 ** rng.uniform(-9, 1))
        for text in (readable.format_sampled(value, half), readable.format_exact(value, half)):
            assert NUMBER.fullmatch(latex.number(text)), text


def _pair(text: str) -> tuple[Decimal, Decimal]:
    """What siunitx reads: a value and its error, to the last digit."""
    value, _, rest = latex.number(text).partition(" +- ")
    half, _, power = rest.partition(" e")
    scale = Decimal(f"1e{power or 0}")
    return Decimal(value) * scale, Decimal(half) * scale


@pytest.mark.parametrize("digits", [1, 4, 5])
def test_fewer_digits_cover(digits: int) -> None:
    """Where digits are left out, the error covers them, and is no coarser than that."""
    rng = np.random.default_rng(1)
    shortened = 0
    for _ in range(3000):
        value = float(rng.standard_normal() * 10.0 ** rng.integers(-12, 8))
        half = abs(value) * float(10.0 ** rng.uniform(-9, -digits))
        text = readable.format_sampled(value, half, digits)
        shown, error = _pair(text)
        unit = Decimal(10) ** (Decimal(value).adjusted() - digits + 1)
        if text == readable.format_sampled(value, half):
            continue
        shortened += 1
        off = abs(shown - Decimal(value)) + Decimal(half)
        assert off <= error * (1 + Decimal("1e-8"))
        assert error < off + unit
        assert shown % unit == error % unit == 0
    assert shortened > 1000


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (0.989703, 1.02e-5, "0.98970 ± 0.00002"),
        (0.98970, 1e-5, "0.98970 ± 0.00001"),
        (0.010297, 1.02e-5, "0.010297 ± 0.000010"),
        (7.95804, 1e-9, "7.9580 ± 0.0001"),
        (7.95804, 1e-15, "7.9580"),
        (123456.7, 0.5, "123460 ± 10"),
        (1.234567e-20, 1e-26, "(1.2346 ± 0.0001)e-20"),
        (0.0, 1e-9, "(0.0 ± 1.0)e-09"),
        (1.0, 0.0, "1 ± 0"),
    ],
)
def test_five_digits(value: float, half: float, text: str) -> None:
    assert readable.format_sampled(value, half, 5) == text


def test_only_what_was_sampled_has_an_error() -> None:
    mixed = tk.Estimate([0.25, 0.5], [0.0, 0.01], n_samples=np.array([0, 100]))
    assert readable.cells(mixed) == ["0.250000", "0.500 ± 0.020"]


def test_escaped() -> None:
    text = latex.escape('\\a{b}$#%&_~^<>|"--\n')
    assert "\n" not in text
    assert re.sub(r"\\text\w+\{\}|\\[{}$#%&_n]|-\{\}", "", text) == "abn"


def test_profile_table() -> None:
    book = tk.perturb(tk.FSQ((3, 3)), 0.1, key=0)
    found = tk.profile(book, [0.0, 1.0, 1e4], key=0).bits
    lines = found.to_latex().splitlines()
    rows = [line.removesuffix(r" \\").split(" & ") for line in lines if line.endswith(r"\\")]
    assert rows[0] == [
        *("{SNR (dB)}", "{$A$}", r"{$P_\mathrm{e}$}", "{$H$ (bits)}", "{$I$ (bits)}"),
        r"{$\mathrm{mmse}$}",
    ]
    assert [row[0] for row in rows[1:]] == ["{-{}inf}", "0", "40"]
    assert all(NUMBER.fullmatch(cell) for row in rows[1:] for cell in row[1:])
    kinds = next(line for line in lines if "begin{tabular}" in line)
    assert kinds.count("S[table-format=") == 6
    hidden = tk.Masking([0.5, 0.3, 0.2]).profile([0.1, 0.5]).to_latex()
    assert "dB" not in hidden


def test_pictures_take_labels_for_text() -> None:
    found = tk.profile(tk.FSQ((3,)), [0.1, 1.0], ["accuracy"])
    labels = ["_a", r"$\frac{", "b\x1b[0m"]
    figure = profile_figure([(label, found) for label in labels], r"$\frac$")
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == [" _a", r"\$\frac{", r"b\x1b[0m"]
    figure.canvas.draw()  # would fail on a formula that is none
    assert plotting.plain("a$b") == r"a\$b"


def test_small_error_probabilities_are_on_the_axis() -> None:
    """Twelve powers of ten below the largest; the axis goes upwards wherever that is."""
    for levels in ([200.0, 400.0], [1.0, 400.0]):
        found = tk.profile(tk.FSQ((3, 3)), levels, ["error_probability"])
        low, high = found.plot().axes[0].get_ylim()
        largest, smallest = np.asarray(found["error_probability"].value)
        assert low < largest < high
        assert low == pytest.approx(max(smallest, 1e-12 * largest) / 1.5)


def test_plot() -> None:
    found = tk.profile(tk.FSQ((3, 3)), [0.1, 1.0])
    assert found.only("mmse").plot().get_figwidth() == plotting.COLUMN
    assert list(found.only("mmse", "accuracy").estimates) == ["mmse", "accuracy"]
    assert len([a for a in found.plot().axes if a.get_ylabel()]) == 5
    (line,) = tk.profile(tk.FSQ((3,)), [[4.0, 0.0], [2.0, 1.0]], ["mmse"]).plot().axes[0].lines
    assert np.allclose(line.get_xdata(), 10 * np.log10([1, 2, 4]))
    assert np.allclose(line.get_ydata(), tk.mmse(tk.FSQ((3,)), [1.0, 2.0, 4.0]).value)
    assert tk.profile(tk.FSQ((3,)), 1.0, ["mmse"]).plot().axes[0].lines[0].get_xdata() == [0]
    with pytest.raises(ValueError, match="digits must be a whole number, at least 1; got 0"):
        found.to_latex(0)
    with pytest.raises(AttributeError, match="snr must be asked"):
        tk.Masking([0.5, 0.5]).profile([0.1]).plot()
