"""The closed domain: every sentence that the corpus can hold and the judge can hear.

Three kinds of sentences over 98 words: object commands, dates with a time, and digits. Each kind
is one or more templates, a template a row of slots, a slot a list of words of which one is spoken.
Everything else (the corpus, the judge's language models, the lexicon) is derived from `TEMPLATES`.
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from tokenkl._validation import reject

Words = tuple[str, ...]

VERBS = ("move", "bring", "show", "carry", "find", "take", "turn", "give")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ADJECTIVES = (
    "small",
    "large",
    "yellow",
    "purple",
    "orange",
    "silver",
    "golden",
    "broken",
    "heavy",
    "wooden",
)
OBJECTS = (
    "boxes",
    "tables",
    "windows",
    "candles",
    "pictures",
    "bottles",
    "letters",
    "baskets",
    "cameras",
    "flowers",
)
PREPOSITIONS = ("to", "near", "behind", "inside")
PLACES = ("kitchen", "garden", "station", "office", "museum", "village", "market", "library")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ORDINALS = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
)
MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
HOURS = (*NUMBERS, "eleven", "twelve")
MINUTES = ("ten", "fifteen", "twenty", "thirty", "forty", "fifty")
DIGITS = ("zero", *NUMBERS[:9])


@dataclasses.dataclass(frozen=True)
class Template:
    """A row of slots; every word of a slot is equally likely, slots are independent.

    - `domain`: "objects", "dates" or "digits".
    - `slots`: one tuple of words for each position.
    - `pairs`: the pairs of positions whose words make up a combination that can be held out.
    """

    domain: str
    slots: tuple[Words, ...]
    pairs: tuple[tuple[int, int], ...]

    def sample(self, rng: np.random.Generator) -> Words:
        """One sentence, every one of the template equally likely."""
        return tuple(slot[int(rng.integers(len(slot)))] for slot in self.slots)

    def combinations(self, words: Words) -> set[tuple[str, str]]:
        """The combinations that a sentence of this template holds."""
        return {(words[i], words[j]) for i, j in self.pairs}

    def matches(self, words: Sequence[str]) -> bool:
        """Whether the words are a sentence of this template."""
        return len(words) == len(self.slots) and all(
            word in slot for word, slot in zip(words, self.slots, strict=True)
        )


def _digits(count: int) -> Template:
    pairs = tuple((i, i + 1) for i in range(count - 1))
    return Template("digits", (DIGITS,) * count, pairs)


TEMPLATES: tuple[Template, ...] = (
    Template(
        "objects",
        (VERBS, NUMBERS, ADJECTIVES, OBJECTS, PREPOSITIONS, ("the",), PLACES),
        pairs=((2, 3),),
    ),
    Template(
        "dates",
        (("on",), WEEKDAYS, ("the",), ORDINALS, ("of",), MONTHS, ("at",), HOURS, MINUTES),
        pairs=((3, 5),),
    ),
    *(_digits(count) for count in range(3, 8)),
)
DOMAINS = ("objects", "dates", "digits")
VOCABULARY: Words = tuple(sorted({word for t in TEMPLATES for slot in t.slots for word in slot}))


def templates_of(domain: str) -> tuple[Template, ...]:
    """The templates of one kind of sentence."""
    return tuple(template for template in TEMPLATES if template.domain == domain)


def all_combinations(domain: str) -> list[tuple[str, str]]:
    """Every pair of words that can be held out, in a fixed order without repetition."""
    found: dict[tuple[str, str], None] = {}
    for template in templates_of(domain):
        for i, j in template.pairs:
            found |= dict.fromkeys(itertools.product(template.slots[i], template.slots[j]))
    return list(found)


def parse(text: str) -> tuple[Template, Words]:
    """The template and the words of a sentence of the domain.

    >>> parse("give eight silver flowers behind the village")[0].domain
    'objects'

    Raises:
        ValueError: a word outside the vocabulary (with the nearest words of it), or words that
            make no sentence of the domain.
    """
    words = tuple(check_words(text))
    for template in TEMPLATES:
        if template.matches(words):
            return template, words
    reject(
        "text",
        text,
        'a sentence of the domain, such as "give eight silver flowers behind the village", '
        '"on monday the first of may at nine thirty" or "one two three"',
    )


def check_words(text: str, vocabulary: Iterable[str] = VOCABULARY) -> list[str]:
    """The words of a text in lower case, all of them in the vocabulary.

    Raises:
        ValueError: no word, or a word outside the vocabulary, with the nearest words of it.
    """
    words = text.lower().split()
    if not words:
        reject("text", repr(text), "at least one word")
    known = list(vocabulary)
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
            hint = f" (near it: {', '.join(near)})" if near else ""
            reject("text", f"the word {word!r}{hint}", f"made of the {len(known)} known words")
    return words


def ngram_counts(order: int, templates: Sequence[Template] = TEMPLATES) -> dict[Words, float]:
    """Expected number of each n-gram in one sentence, with "<s>" and "</s>" at the ends.

    Domains are equally likely, and so are the templates within each; exact, by enumeration of
    neighbouring slots.

    Args:
        order: 1 or 2.
        templates: the sentences that are possible.
    """
    if order not in (1, 2):
        reject("order", order, "1 or 2")
    domains = collections.Counter(template.domain for template in templates)
    counts: dict[Words, float] = collections.defaultdict(float)
    for template in templates:
        weight = 1 / (len(domains) * domains[template.domain])
        slots = (("<s>",), *template.slots, ("</s>",))
        for window in zip(*(slots[i:] for i in range(order)), strict=False):
            share = weight / float(np.prod([len(slot) for slot in window]))
            for words in itertools.product(*window):
                counts[words] += share
    return dict(counts)
