"""Formulas between dollars become MathML while the site is built, so that browsers draw them alone.

A formula that cannot be converted fails the build: none is left as TeX on a page. What the
converter gives is mended where MathML Core, which browsers draw, and TeX differ: spaces around
names of functions, signs and bars, limits below, letters of other alphabets, places to break.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor

#: `$$...$$`, or `$...$` with neither a space inside the dollars nor a digit behind them.
FORMULA = r"(?s)(?<!\\)(?:\$\$(.+?)\$\$|\$(?![\s$])((?:\\.|[^\\$])+?)(?<!\s)\$(?![\d$]))"
#: What is left where the converter did not know a command, or met a brace too many.
LEFT_OVER = re.compile(r"\\[A-Za-z]+|\\.|[{}$]")
NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
THIN = "0.1667em"
#: Signs of a formula that fills the line of a phone.
LONG = 45
#: Names with their limits below, where a formula stands by itself.
WITH_LIMITS = {"max", "min", "sup", "inf", "lim"}
OPENING, CLOSING = "([{⟨⌈⌊", ")]}⟩⌉⌋"
SIGNS = {"−", "-", "+", "±"}
RELATIONS = {"=", "≤", "≥", "<", ">", "∼", "∈", "≈", "→", "∝"}
#: First code points of the digits, small and capital letters of other alphabets.
ALPHABETS = {"bold": (0x1D7CE, 0x1D41A, 0x1D400), "double-struck": (0x1D7D8, 0x1D552, 0x1D538)}
#: Capitals that are older than their alphabet.
OLDER = {"double-struck": dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True))}


class NoFormula(ValueError):
    """What stands between dollars is no formula that can be shown."""


def to_mathml(tex: str, display: bool = False) -> str:
    r"""MathML of a formula; its TeX is kept as the text for those who cannot see it.

    Args:
        tex: what stands between the dollars.
        display: whether it stands by itself, and not in a line.

    Raises:
        NoFormula: a command that the converter does not know, or braces that do not match.

    Example:
        >>> to_mathml("K^2")
        '<math display="inline" alttext="K^2"><msup><mi>K</mi><mn>2</mn></msup></math>'
    """
    words = " ".join(tex.split())
    if not _balanced(words):
        raise NoFormula(f"the formula {words!r} has a brace without its other.")
    try:
        found = convert(words, display="block" if display else "inline")
    except Exception as error:
        raise NoFormula(f"the formula {words!r} cannot be read: {error!r}.") from error
    root = ElementTree.fromstring(found)
    for node in root.iter():
        node.tag = node.tag.removeprefix(NAMESPACE)
    for text in (node.text or "" for node in root.iter()):
        left = LEFT_OVER.search(text)
        if left and text not in ("{", "}"):
            raise NoFormula(f"the formula {words!r} leaves {left[0]!r}.")
    for node in root.iter():
        _letters(node)
    for node in list(root.iter()):
        if node.tag in ("math", "mrow", "mstyle", "mtd", "msqrt"):
            _row(node)
    root.set("alttext", words)
    shown = [root] if display else _pieces(root)
    text = "<wbr />".join(_written(one) for one in shown)
    return f'<span class="formula">{text}</span>' if display else text


def _written(formula: Element) -> str:
    """A formula that is too long for a phone, and does not break, can be moved."""
    text = ElementTree.tostring(formula, encoding="unicode")
    long = formula.get("display") == "inline" and len("".join(formula.itertext())) > LONG
    return f'<span class="long">{text}</span>' if long else text


def _balanced(tex: str) -> bool:
    """Whether every brace has its other: the converter closes what is open, without a word."""
    depth = 0
    for brace in re.findall(r"\\.|([{}])", tex, re.S):
        depth += {"{": 1, "}": -1, "": 0}[brace]
        if depth < 0:
            return False
    return depth == 0


def _letters(node: Element) -> None:
    """What one element says by itself: alphabets by their letters, names as operators."""
    variant = node.get("mathvariant", "normal")
    if variant in ALPHABETS:
        del node.attrib["mathvariant"]
        node.text = "".join(_letter(one, variant) for one in node.text or "")
        node.tag = "mi"
    if node.text == "~":
        node.tag, node.text = "mo", "∼"
        node.set("lspace", "0.2778em")
        node.set("rspace", "0.2778em")
    if node.tag == "mo" and node.text in ("∞", "⊤"):
        node.tag = "mi"
    if node.tag == "mi" and len(node.text or "") > 1 and (node.text or "").isalpha():
        node.tag = "mo"  # log, exp, sin: names are set apart from what they stand beside
    if node.tag == "mo" and (node.text or "").isalpha() and node.text not in WITH_LIMITS:
        node.set("lspace", THIN)
        node.set("rspace", THIN)
    if node.tag == "msub" and node[0].tag == "mo" and node[0].text in WITH_LIMITS:
        node.tag = "munder"
        node[0].set("movablelimits", "true")
    if node.tag == "mo" and node.text == "/":
        node.set("lspace", "0")
        node.set("rspace", "0")


def _letter(one: str, variant: str) -> str:
    digits, small, capitals = ALPHABETS[variant]
    if one.isdigit():
        return chr(digits + int(one))
    if "a" <= one <= "z":
        return chr(small + ord(one) - ord("a"))
    if "A" <= one <= "Z":
        return OLDER.get(variant, {}).get(one, chr(capitals + ord(one) - ord("A")))
    return one


def _core(node: Element) -> Element | None:
    """The operator that a node is, perhaps with scripts."""
    while node.tag in ("msub", "msup", "msubsup", "munder", "mover", "munderover") and len(node):
        node = node[0]
    return node if node.tag == "mo" else None


def _row(row: Element) -> None:
    """What an operator says beside its neighbours: a sign before a term, a bar around one."""
    before: Element | None = None
    groups: list[list[tuple[Element, int]]] = [[]]
    for place, node in enumerate(row):
        mark = _core(node)
        text = (mark.text or "") if mark is not None else ""
        ends = before is not None and (before.text or "") in (*CLOSING, "!", "|", "‖")
        if mark is not None:
            fresh = place == 0 or (before is not None and not ends)
            if text in SIGNS and fresh:
                mark.set("form", "prefix")
            if text.isalpha():
                if fresh:
                    mark.set("lspace", "0")
                follows = _core(row[place + 1]) if place + 1 < len(row) else None
                if follows is not None and (follows.text or "") in (*OPENING,):
                    mark.set("rspace", "0")
            if text and text in OPENING:
                groups.append([])
            elif text and text in CLOSING and len(groups) > 1:
                _bars(groups.pop())
            elif text == "|" and mark.get("fence") is None:
                groups[-1].append((mark, place))
        before = mark
        if node.tag == "mspace" and place > 0:
            before = _core(row[place - 1])
    for group in groups:
        _bars(group)


def _bars(group: list[tuple[Element, int]]) -> None:
    """Two bars within the same brackets are an absolute value; one is "given"."""
    if len(group) % 2:
        return
    for index, (mark, _) in enumerate(group):
        mark.set("form", "postfix" if index % 2 else "prefix")
        mark.set("lspace", "0")
        mark.set("rspace", "0")


def _pieces(root: Element) -> list[Element]:
    """A formula in a line, after each of whose relations the line may break."""
    row = root[0] if len(root) == 1 and root[0].tag == "mrow" else root
    pieces = [Element("math", dict(root.attrib))]
    inner = 0
    for node in row:
        pieces[-1].append(node)
        text = (node.text or "") if node.tag == "mo" else ""
        inner += (text != "" and text in OPENING) - (text != "" and text in CLOSING)
        if inner == 0 and text in RELATIONS and len(pieces[-1]) > 1:
            node.set("form", "infix")
            pieces.append(Element("math", {"display": "inline"}))
    return [one for one in pieces if len(one)]


class _Formula(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        shown = to_mathml(m[1] or m[2], m[1] is not None)
        return self.md.htmlStash.store(shown), m.start(0), m.end(0)


class Mathematics(Extension):
    """Before backslashes and emphasis are looked for, and after code is."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(_Formula(FORMULA, md), "formula", 185)


def on_config(config: Any) -> Any:
    config.markdown_extensions.append(Mathematics())
    return config
