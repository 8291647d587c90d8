"""LaTeX of profiles: siunitx reads every number, errors cover the rounding, text stays text."""

import re

import numpy as np
import pytest

import tokenkl as tk
from tokenkl import digits, latex, plotting
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
        for text in (digits.format_sampled(value, half), digits.format_exact(value, half)):
            assert NUMBER.fullmatch(latex.number(text)), text


def test_fewer_digits_cover() -> None:
    rng = np.random.default_rng(1)
    for _ in range(2000):
        value = float(rng.standard_normal() * 10.0 ** rng.integers(-12, 8))
        half = abs(value) * float(10.0 ** rng.uniform(-9, 1))
        shown, reach = digits.coarser(value, half, 4)
        assert abs(shown - value) + half <= reach * 1.5001
        assert (shown, reach) == (value, half) or abs(shown - value) <= reach / 2 * 1.0001
    assert digits.coarser(0.0, 1e-9, 4) == (0.0, 1e-9)
    assert digits.coarser(1.0, 0.0, 4) == (1.0, 0.0)


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


def test_plot() -> None:
    found = tk.profile(tk.FSQ((3, 3)), [0.1, 1.0])
    assert found.only("mmse").plot().get_figwidth() == plotting.COLUMN
    assert list(found.only("mmse", "accuracy").estimates) == ["mmse", "accuracy"]
    assert len([a for a in found.plot().axes if a.get_ylabel()]) == 5
    with pytest.raises(AttributeError, match="snr must be asked"):
        tk.Masking([0.5, 0.5]).profile([0.1]).plot()
