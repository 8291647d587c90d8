"""Whatever is typed for a codebook, a noise level or a list of ids: a value, or one sentence."""

import warnings
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.cli.typed import parse_snr
from tokenkl.schedule import parse_schedule

WORDS = [
    "fsq", "bsq", "onehot", "e8", "e6", "d", "d+", "checker", "ball", "vq", "rvq", "product",
    "latent", "decoded", "unit", "stored", "perturb", "permute", "centre", "rounding", "midpoint",
    "equal", "F", "C", "linear-vp", "beta-vp", "cosine-vp", "edm", "flow-matching",
]  # fmt: skip
NUMBERS = ["0", "1", "2", "3", "8", "17", "-1", "1e400", "1e-400", "nan", "inf", "0.1", "9" * 30]
MARKS = [":", ":", ":", ",", "x", "^", "^", "+", "-", ".", " ", "/", "é", "\x1b[31m", "\x00"]
texts = st.one_of(
    st.lists(st.sampled_from(WORDS + NUMBERS + MARKS), max_size=9).map("".join),
    st.lists(st.sampled_from(WORDS + NUMBERS), min_size=1, max_size=5).map(":".join),
    st.text(max_size=30),
)


def is_refused(parse: Callable[[str], Any], text: str) -> bool:
    """Whether it is; then in one sentence that a terminal can show."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parse(text)
    except ValueError as error:
        message = str(error)
        assert message.isprintable(), (text, message)
        assert message.endswith("."), (text, message)
        assert len(message) < 2000, (text, message)
        return True
    return False


@hypothesis.settings(max_examples=250)
@hypothesis.given(texts)
def test_codebooks(text: str) -> None:
    is_refused(tk.codebook, text)


@hypothesis.settings(max_examples=200)
@hypothesis.given(texts)
def test_schedules(text: str) -> None:
    is_refused(parse_schedule, text)


@hypothesis.settings(max_examples=200)
@hypothesis.given(
    st.lists(st.sampled_from([*NUMBERS, ":", ",", " ", "x"]), max_size=7).map("".join)
)
def test_noise_levels(text: str) -> None:
    is_refused(lambda one: parse_snr(one, None, "0"), text)
    is_refused(lambda one: parse_snr(None, one, "0"), text)


@pytest.mark.parametrize("text", ["fsq:3^8", "perturb:centre:fsq:3x3:0.1", "e8", "ball:16:4"])
def test_what_is_meant_is_taken(text: str) -> None:
    assert not is_refused(tk.codebook, text)
