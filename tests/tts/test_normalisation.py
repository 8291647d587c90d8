"""Text as it is said: against a reader of its own for whole numbers, and by examples."""

import string
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenkl.tts.frontend import CHARACTERS, encode_characters
from tokenkl.tts.normalisation import plain_text, spoken

ONES = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905


def number_of(words: list[str]) -> int:
    """What a row of words says, by the rule that a scale multiplies what is before it."""
    total, part = 0, 0
    for word in words:
        if word in ONES:
            part += ONES.index(word)
        elif word in TENS:
            part += 10 * (2 + TENS.index(word))
        elif word == "hundred":
            part *= 100
        elif word != "and":
            total += part * 1000 ** (1 + ["thousand", "million", "billion"].index(word))
            part = 0
    return total + part


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**11), st.booleans())
def test_numbers_mean_what_they_did(number: int, commas: bool) -> None:
    written = f"{number:,}" if commas else f"{number}"
    if 1100 <= number < 2100 and not commas:
        written += ".0"  # a year has words of its own
    said, unread = spoken(written)
    assert unread == []
    assert number_of(said.removesuffix(" point zero").split()) == number


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_nothing_is_dropped_silently(text: str) -> None:
    """Every letter and every number is in what is said, or named; twice is as good as once."""
    said, unread = spoken(text)
    assert set(said) <= set(CHARACTERS)
    assert spoken(said) == (said, [])
    if any(c.isalnum() for c in text):
        assert said or unread
    if said:
        encode_characters(said)


@settings(deadline=None)
@given(st.text(st.sampled_from(string.ascii_lowercase + " "), max_size=40))
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert spoken(text) == (" ".join(text.split()), [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call 5 5 5 0 1 2 3", "call five five five zero one two three"),
        ("room 0123", "room zero one two three"),
        ("$5, $1 and $0.01", "five dollars, one dollar and one cent"),
        ("$5.50", "five dollars fifty cents"),
        ("$1.5 and $1.00", "one point five dollars and one dollar"),
        ("£2.01 €1.5 million", "two pounds one penny one point five million euros"),
        ("in 1984, 2020.", "in nineteen eighty four, twenty twenty."),
        ("the 1990s", "the nineteen nineties"),
        ("1,984 things", "one thousand nine hundred and eighty four things"),
        ("at 9:30, 10:05, 9:00", "at nine thirty, ten oh five, nine o'clock"),
        ("3rd of may", "third of may"),
        ("21st", "twenty first"),
        ("-3.14", "minus three point one four"),
        ("pages 3-5", "pages three five"),
        ("½", "one over two"),
        ("25% & 2+2=4", "twenty five percent and two plus two equals four"),
        ("Café naïve Straße Łódź œuvre", "cafe naive strasse lodz oeuvre"),
        ("“It’s” (so) – fine…", "it's so fine..."),
    ],
)  # fmt: skip
def test_examples(text: str, expected: str) -> None:
    assert spoken(text) == (expected, [])


def test_what_has_no_reading_is_named() -> None:
    assert spoken("one 漢字 two 😀 漢") == ("one two", ["漢", "字", "😀"])
    assert plain_text("漢") == ""


def test_numbers_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "num2words", None)
    assert plain_text("one") == "one"
    with pytest.raises(ImportError, match="text with numbers needs num2words"):
        plain_text("1")
