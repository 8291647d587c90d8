"""The closed domain: what it holds, and the exact n-gram counts of it."""

import collections
import itertools

import pytest

from tokenkl.tts.grammar import (
    TEMPLATES,
    VOCABULARY,
    Template,
    all_combinations,
    check_words,
    ngram_counts,
    parse,
)


def test_about_a_hundred_words() -> None:
    assert len(VOCABULARY) == 101


def test_number_of_combinations() -> None:
    assert len(all_combinations("objects")) == 100
    assert len(all_combinations("dates")) == 240
    assert len(all_combinations("digits")) == 100


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("give eight silver flowers behind the village", "objects"),
        ("on monday the first of may at nine thirty", "dates"),
        ("Zero one  two", "digits"),
    ],
)
def test_parse(text: str, domain: str) -> None:
    template, words = parse(text)
    assert template.domain == domain
    assert template.matches(words)


def test_parse_refuses_a_sentence_outside_the_domain() -> None:
    with pytest.raises(ValueError, match="text must be a sentence of the domain"):
        parse("one two")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("give eight silvery flowers", "the word 'silvery' (near it: silver"),
        ("", "text must be at least one word"),
        ("xyzzy", "made of the 101 known words; got the word 'xyzzy'."),
    ],
)
def test_words_outside_the_vocabulary_are_named(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        check_words(text)
    assert sentence in str(error.value)


def _brute_force(order: int, templates: tuple[Template, ...]) -> dict[tuple[str, ...], float]:
    """Counts over every sentence, written out."""
    domains = {template.domain for template in templates}
    counts: dict[tuple[str, ...], float] = collections.defaultdict(float)
    for template in templates:
        alike = sum(other.domain == template.domain for other in templates)
        sentences = list(itertools.product(*template.slots))
        for words in sentences:
            row = ("<s>", *words, "</s>")
            for i in range(len(row) - order + 1):
                counts[row[i : i + order]] += 1 / (len(sentences) * alike * len(domains))
    return counts


@pytest.mark.parametrize("order", [1, 2])
def test_counts_against_enumeration_of_all_sentences(order: int) -> None:
    templates = (
        Template("a", (("x", "y"), ("x",), ("x", "z", "w")), ()),
        Template("a", (("z",), ("y", "z")), ()),
        Template("b", (("x", "w"),), ()),
    )
    expected = _brute_force(order, templates)
    found = ngram_counts(order, templates)
    assert found.keys() == expected.keys()
    for words, count in expected.items():
        assert found[words] == pytest.approx(count, rel=1e-12)


def test_counts_of_the_domain_have_one_start_and_the_mean_length() -> None:
    counts = ngram_counts(1)
    lengths = {"objects": [7], "dates": [9], "digits": [3, 4, 5, 6, 7]}
    mean = sum(sum(v) / len(v) for v in lengths.values()) / 3
    assert counts["<s>",] == pytest.approx(1)
    assert sum(counts.values()) == pytest.approx(mean + 2)


def test_order() -> None:
    with pytest.raises(ValueError, match="order must be 1 or 2; got 3"):
        ngram_counts(3, TEMPLATES)
