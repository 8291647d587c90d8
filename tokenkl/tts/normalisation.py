"""Text as it is said: numbers, currency and signs as words, accents and typography taken off.

What comes out is written in the 34 characters of `CHARACTERS`; marks that have no sound (dashes,
brackets, quotation marks) become spaces, and what has no reading here is named, in training as in
speaking. Words for numbers are those of num2words, in English.
"""

from __future__ import annotations

import collections
import re
import unicodedata
import warnings

from tokenkl._extras import MissingExtra
from tokenkl.tts.frontend import CHARACTERS

#: Signs that are said.
_SIGNS = {
    "%": "percent", "&": "and", "+": "plus", "=": "equals", "@": "at", "°": "degrees",
    "\u2212": "minus", "×": "times", "÷": "divided by",
}  # fmt: skip

#: One and many of a currency, and of its hundredth.
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "sen", "sen"),
}

#: Letters that are no other letter with an accent.
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i",
     "\u2019": "'", "\u2018": "'", "\u02bc": "'"}
)  # fmt: skip

_NUMBER = r"(\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.(\d+))?"
_MONEY = re.compile(rf"([{''.join(_CURRENCIES)}])\s?{_NUMBER}(\s(?:thousand|million|billion))?\b")
_TIME = re.compile(r"\b(\d{1,2}):([0-5]\d)\b")
_FRACTION = re.compile(r"\b(\d+)[/\u2044](\d+)\b")
_ORDINAL = re.compile(r"\b(\d{1,15})(?:st|nd|rd|th)\b")
_DECADE = re.compile(r"\b((?:1[1-9]|20)\d0)s\b")
_YEAR = re.compile(r"(?<![\d.,])(1[1-9]\d\d|20\d\d)(?![\d]|[.,]\d)")
_MINUS = re.compile(r"(?<!\S)-(?=\d)")
_PLAIN = re.compile(_NUMBER)

#: Digits beyond which a number is said digit by digit, as one that begins with a zero is.
LONGEST_NUMBER = 15

#: Characters without a reading that a warning names.
NAMED = 10


def spoken(text: str) -> tuple[str, list[str]]:
    """A text in the characters of `CHARACTERS`, and the characters of it that have no reading.

    >>> spoken("Café No. 23 – $5.50, call 555 & 0123")[0]
    'cafe no. twenty three five dollars fifty cents, call five hundred and fifty five and zero one two three'
    >>> spoken("one 漢 two")
    ('one two', ['漢'])

    Raises:
        ImportError: there are digits, and the extra `tts` is not installed.
    """  # noqa: E501
    plain = _without_accents(text.lower().translate(_LETTERS))
    if any(c.isdecimal() for c in plain):
        plain = _numbers(plain)
    plain = "".join(f" {_SIGNS[c]} " if c in _SIGNS else c for c in plain)
    unread = [c for c in dict.fromkeys(plain) if c not in CHARACTERS and not _is_silent(c)]
    spaced = "".join(c if c in CHARACTERS else " " for c in plain)
    return re.sub(r" (?=[,.?!:;](?: |$))", "", " ".join(spaced.split())), unread


def plain_text(text: str) -> str:
    """As `spoken`, without what has no reading.

    >>> plain_text("Café – “Noël”, 3 p.m.")
    'cafe noel, three p.m.'
    """
    return spoken(text)[0]


def warn_unread(unread: collections.Counter[str], texts: int) -> None:
    """One warning that names what `spoken` left out of so many texts, if anything."""
    if not unread:
        return
    named = ", ".join(f"{c!r} ({count})" for c, count in unread.most_common(NAMED))
    more = f" and {len(unread) - NAMED} more" if len(unread) > NAMED else ""
    warnings.warn(
        "Left out of the texts, since it has no reading (in so many of "
        f"{texts} recordings): {named}{more}.",
        stacklevel=3,
    )


def _without_accents(text: str) -> str:
    bare = unicodedata.normalize("NFKD", text)
    return "".join(c for c in bare if unicodedata.category(c) not in ("Mn", "Me", "Cf")).lower()


def _is_silent(character: str) -> bool:
    """White space, control characters and punctuation."""
    return unicodedata.category(character)[0] in "ZPC"


# ---- Numbers -------------------------------------------------------------------------------------


def _numbers(text: str) -> str:
    """Every digit of a text as words; the narrower forms come first."""
    text = _MONEY.sub(lambda m: _words(_money(*m.groups())), text)
    text = _TIME.sub(lambda m: _words(_time(m[1], m[2])), text)
    text = _FRACTION.sub(lambda m: _words(f"{_cardinal(m[1])} over {_cardinal(m[2])}"), text)
    text = _ORDINAL.sub(lambda m: _words(_say(int(m[1]), "ordinal")), text)
    text = _DECADE.sub(lambda m: _words(_decade(m[1])), text)
    text = _YEAR.sub(lambda m: _words(_say(int(m[1]), "year")), text)
    text = _MINUS.sub("minus ", text)
    return _PLAIN.sub(lambda m: _words(_cardinal(m[1], m[2])), text)


def _words(said: str) -> str:
    """Words with room on both sides, for numbers that stand against letters."""
    return f" {said.replace('-', ' ').replace(',', '')} "


def _say(number: int, kind: str = "cardinal") -> str:
    try:
        from num2words import num2words
    except ImportError as error:
        raise MissingExtra("text with numbers", "num2words", "tts") from error
    return num2words(number, to=kind)


def _cardinal(whole: str, decimals: str | None = None) -> str:
    bare = whole.replace(",", "")
    if len(bare) > LONGEST_NUMBER or (len(bare) > 1 and int(bare[0]) == 0):
        said = _digits(bare)
    else:
        said = _say(int(bare))
    return said if decimals is None else f"{said} point {_digits(decimals)}"


def _digits(row: str) -> str:
    return " ".join(_say(int(digit)) for digit in row)


def _money(sign: str, whole: str, decimals: str | None, scale: str | None) -> str:
    one, many, part, parts = _CURRENCIES[sign]
    number = int(whole.replace(",", ""))
    if scale is not None:
        return f"{_cardinal(whole, decimals)}{scale} {many}"
    if decimals is None or len(decimals) != 2:
        alone = number == 1 and decimals is None
        return f"{_cardinal(whole, decimals)} {one if alone else many}"
    said = [f"{_cardinal(whole)} {one if number == 1 else many}"] if number else []
    small = int(decimals)
    if small or not number:
        said.append(f"{_say(small)} {part if small == 1 else parts}")
    return " ".join(said)


def _time(hour: str, minute: str) -> str:
    if int(minute) == 0:
        return f"{_say(int(hour))} o'clock"
    between = " oh " if minute[0] == "0" else " "
    return f"{_say(int(hour))}{between}{_say(int(minute))}"


def _decade(year: str) -> str:
    said = _say(int(year), "year")
    return f"{said[:-1]}ies" if said.endswith("y") else f"{said}s"
