"""Token ids of the training split, and the phoneme at each, as files that need no speech model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tokenkl._files import atomic_path
from tokenkl.tts.codec import own_tokenizer
from tokenkl.tts.data import TextEncoder, examples_of
from tokenkl.tts.recipes import load_named_corpus
from tokenkl.tts.voice import Voice

#: What stands for no token, and for no symbol.
PADDING = -1


def write_tokens(folder: Path, say: Callable[[str], None]) -> None:
    """tokens.npy and symbols.npy: a row for every utterance, as long as the longest.

    By the tokenizer of the phoneme voice, an FSQ of 3^8, at 25 tokens a second.
    """
    say("speaking the corpus, about a minute")
    train = load_named_corpus("jittered").split("train")
    tokenizer = own_tokenizer(Voice.load("phonemes").tokenizer)
    examples = examples_of(tokenizer, TextEncoder.phonemes(train), train)
    longest = max(example.tokens.size for example in examples)
    tokens = np.full((len(examples), longest), PADDING, dtype=np.int16)
    symbols = np.full((len(examples), longest), PADDING, dtype=np.int16)
    for row, example in enumerate(examples):
        assert example.lengths is not None  # the voice speaks in known times
        tokens[row, : example.tokens.size] = example.tokens
        symbols[row, : example.tokens.size] = np.repeat(example.symbols, example.lengths)
    for name, array in (("tokens", tokens), ("symbols", symbols)):
        with atomic_path(folder / f"{name}.npy") as path, path.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    say(f"{int((tokens != PADDING).sum()):,} tokens of {len(examples):,} utterances")
