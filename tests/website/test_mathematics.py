"""Formulas become MathML, as browsers draw it, or the build fails."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("latex2mathml", reason="the extra docs is not installed")
markdown = pytest.importorskip("markdown", reason="the extra docs is not installed")

from website.mathematics import FORMULA, Mathematics, NoFormula, to_mathml  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def elements(tex: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<p>{to_mathml(tex)}</p>").iter())


def operator(tex: str, text: str) -> dict[str, str]:
    (found,) = (one for one in elements(tex) if one.tag == "mo" and one.text == text)
    return found.attrib


def test_every_formula_of_the_documents() -> None:
    """All of them are well-formed and keep their TeX for those who cannot see them."""
    count = 0
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
        for found in re.finditer(FORMULA, text):
            tex = found[1] or found[2]
            shown = ElementTree.fromstring(f"<p>{to_mathml(tex, found[1] is not None)}</p>")
            first = next(shown.iter("math"))
            assert first.get("alttext") == " ".join(tex.split())
            count += 1
    assert count > 1500


@pytest.mark.parametrize("tex", [r"\nosuchcommand x", r"a \over", r"\frac{1}{2", "x}", r"\left( x"])
def test_what_is_no_formula(tex: str) -> None:
    with pytest.raises(NoFormula, match="the formula"):
        to_mathml(tex)


def test_a_page_with_a_wrong_formula_is_refused() -> None:
    with pytest.raises(NoFormula, match="nosuchcommand"):
        markdown.Markdown(extensions=[Mathematics()]).convert(r"So $\nosuchcommand x$.")


def test_in_a_page() -> None:
    """Code, money and escaped dollars are none; emphasis does not reach into a formula."""
    page = markdown.Markdown(extensions=[Mathematics(), "tables"])
    assert "<math" not in page.convert(r"`$x$`, \$5 and $5 or $6, 5 $ and 6 $")
    shown = page.convert("of $a_1$ and $b_1$,\n$$c_i * d_i\n= e_i,$$\nso *that*")
    assert shown.count("<math") == 3
    assert shown.count("<em>") == 1
    assert 'class="formula"><math display="block"' in shown.replace(' alttext="', ' alttext="')


def test_a_sign_before_a_term_has_no_space_behind_it() -> None:
    assert operator("a = -b", "−")["form"] == "prefix"
    assert operator("-b", "−")["form"] == "prefix"
    assert "form" not in operator("a - b", "−")
    assert "form" not in operator("f(a) - b", "−")
    assert "form" not in operator("|a|- b", "−")


def test_one_bar_is_given_and_two_are_a_value() -> None:
    assert "form" not in operator("p(k|Y)", "|")
    bars = [one.attrib for one in elements("|a - b|^2") if one.tag == "mo" and one.text == "|"]
    assert [one["form"] for one in bars] == ["prefix", "postfix"]


def test_names_of_functions_are_set_apart() -> None:
    assert operator(r"p\log p", "log")["lspace"] != "0"
    assert operator(r"\log(p)", "log")["rspace"] == "0"
    assert operator(r"-\log p", "log")["lspace"] == "0"
    assert "<munder>" in to_mathml(r"\max_k p", display=True)


def test_other_alphabets_are_letters() -> None:
    assert "ℝ" in to_mathml(r"\mathbb{R}^n")
    assert "𝟏" in to_mathml(r"\mathbf 1\{x\}")
    assert "mathvariant" not in to_mathml(r"\mathbb{R}\mathbf{a}")


def test_a_line_breaks_after_relations_outside_of_brackets() -> None:
    assert to_mathml("a = b + c \\le d").count("<math") == 3
    assert to_mathml("P(a = b)").count("<math") == 1
    assert to_mathml("a = b", display=True).count("<math") == 1
