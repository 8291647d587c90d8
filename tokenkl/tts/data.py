"""Examples of text and tokens, and batches of them.

An `Example` is what a speech model learns from: the token ids of an utterance and its symbols
(characters or phonemes). A `Batch` also places the symbols on the time axis of the tokens, since
diffusion over tokens needs to know what is said where, or at least in which order:

- "aligned": every symbol for as long as it lasts (needs durations; phonemes).
- "stretch": symbols spread evenly over the tokens, as in ZipVoice (Zhu et al. 2025,
  arXiv 2506.13053). No alignment is known; the network has to find it near the diagonal.
- "pad": symbols one after another from the first token on, then filler, as in E2 TTS (Eskimez et
  al. 2024, arXiv 2406.18009) and in the CDCD-TTS repository.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenkl._progress import Report, reporting
from tokenkl._random import generator
from tokenkl._validation import check_choice, check_count, reject
from tokenkl.tts.audio import Utterance
from tokenkl.tts.frontend import Lexicon, PhonemeTable, durations, encode_characters, expand
from tokenkl.tts.tokenizers import Tokenizer

Layout = Literal["aligned", "stretch", "pad"]
LAYOUTS = ("aligned", "stretch", "pad")

#: What the size of a batch counts, see `batches`.
Unit = Literal["examples", "tokens", "padded"]
UNITS = ("examples", "tokens", "padded")

#: In front of the symbols: what stands where there is none, or where the text was dropped.
FILLER = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One utterance as a model sees it.

    - `name`, `text`: of the utterance.
    - `tokens`: L token ids.
    - `symbols`: P ids from 1 on (`FILLER` is 0), of characters or phonemes.
    - `lengths`: tokens that each symbol lasts, with sum L; None where that is not known.
    - `speaker`: who speaks, "" where that is not known; `speaker_id`: the number of that, for
      models that are told.
    """

    name: str
    text: str
    tokens: Int[np.ndarray, " L"]
    symbols: Int[np.ndarray, " P"]
    lengths: Int[np.ndarray, " P"] | None = None
    speaker: str = ""
    speaker_id: int = 0


class Batch(NamedTuple):
    """Examples side by side; what is beyond an end is 0 and its mask False.

    - `tokens`, `token_mask`: token ids.
    - `symbols`, `symbol_mask`: the text as a row of its own.
    - `frames`: the symbol at every token, `FILLER` where there is none.
    - `speakers`: numbers of who speaks.
    """

    tokens: Int[Tensor, "B L"]
    token_mask: Bool[Tensor, "B L"]
    symbols: Int[Tensor, "B P"]
    symbol_mask: Bool[Tensor, "B P"]
    frames: Int[Tensor, "B L"]
    speakers: Int[Tensor, " B"]

    def to(self, device: Any) -> Batch:
        """The same on a device."""
        return Batch(*(part.to(device) for part in self))


def speakers_of(examples: Sequence[Example]) -> tuple[str, ...]:
    """Their names, those with the most tokens first.

    Raises:
        ValueError: an example without one, or less than two in all.
    """
    nameless = sum(not one.speaker for one in examples)
    if nameless:
        reject("speakers", f"{nameless} of {len(examples)} without one", "known of every example")
    counts: collections.Counter[str] = collections.Counter()
    for one in examples:
        counts[one.speaker] += one.tokens.size
    if len(counts) < 2:
        reject("speakers", f"only {', '.join(counts)}", "two or more")
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


def numbered(examples: Sequence[Example], speakers: Sequence[str]) -> list[Example]:
    """The examples with the numbers of their speakers among these.

    Raises:
        ValueError: a speaker that is not among them.
    """
    places = {name: index for index, name in enumerate(speakers)}
    for one in examples:
        if one.speaker not in places:
            reject("speaker", one.speaker, f"one of the {len(speakers)} that the voice knows")
    return [dataclasses.replace(one, speaker_id=places[one.speaker]) for one in examples]


def place_symbols(
    symbols: Int[np.ndarray, " P"],
    count: int,
    layout: Layout,
    lengths: Int[np.ndarray, " P"] | None = None,
) -> Int[np.ndarray, " count"]:
    """The symbol at every one of `count` tokens; see the module for the layouts.

    >>> place_symbols(np.array([5, 7]), 5, "stretch").tolist()
    [5, 5, 7, 7, 7]
    >>> place_symbols(np.array([5, 7]), 5, "pad").tolist()
    [5, 7, 0, 0, 0]

    Raises:
        ValueError: an unknown layout, or "aligned" without lengths that sum to `count`.
    """
    check_choice(layout, LAYOUTS, "layout")
    check_count(count, "count")
    symbols = np.asarray(symbols, np.int64)
    if layout == "aligned":
        if lengths is None or int(np.sum(lengths)) != count:
            total = "None" if lengths is None else f"a sum of {int(np.sum(lengths))}"
            reject("lengths", total, f"durations that sum to count = {count}")
        return expand(symbols, lengths)
    if layout == "stretch":
        return symbols[(2 * np.arange(count) + 1) * symbols.size // (2 * count)]
    placed = np.full(count, FILLER, np.int64)
    placed[: min(count, symbols.size)] = symbols[:count]
    return placed


def make_batch(examples: Sequence[Example], layout: Layout) -> Batch:
    """Examples of different lengths side by side, on the CPU.

    Raises:
        ValueError: no examples, or what `place_symbols` refuses.
    """
    if not examples:
        reject("examples", "none", "at least one")

    def side_by_side(rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        longest = max(row.size for row in rows)
        values = np.zeros((len(rows), longest), np.int64)
        mask = np.zeros((len(rows), longest), bool)
        for index, row in enumerate(rows):
            values[index, : row.size] = row
            mask[index, : row.size] = True
        return torch.from_numpy(values), torch.from_numpy(mask)

    tokens, token_mask = side_by_side([e.tokens for e in examples])
    symbols, symbol_mask = side_by_side([e.symbols for e in examples])
    frames, _ = side_by_side(
        [place_symbols(e.symbols, e.tokens.size, layout, e.lengths) for e in examples]
    )
    speakers = torch.tensor([e.speaker_id for e in examples])
    return Batch(tokens, token_mask, symbols, symbol_mask, frames, speakers)


def batches(
    examples: Sequence[Example],
    layout: Layout,
    size: int,
    *,
    key: Any,
    start: int = 0,
    unit: Unit = "examples",
) -> Iterator[Batch]:
    """Batches without end, passing over all examples in a new order every time.

    Examples of a batch have similar lengths, so that little is wasted on padding: every pass sorts
    within random groups of eight batches, or, where padding counts, all examples by their length up
    to a tenth. What batch number i holds depends on `key` and i alone,
    so that training can go on at any `start`.

    Args:
        examples: what to draw from.
        layout: see `make_batch`.
        size: how much there is in one batch.
        key: whole number or JAX random key.
        start: number of the first batch.
        unit: what `size` counts. With "tokens", every batch of a pass has the same number of tokens
            up to one example's, at most `size` and at least half of it if there are so many. With
            "padded" every batch has at most `size` tokens and padding together, and all examples
            are in one batch of every pass: one long example makes no batch long but its own.

    Raises:
        ValueError: fewer examples than `size`, or room for less than two of the longest (for less
            than one, where padding counts).
    """
    check_choice(unit, UNITS, "unit")
    check_count(size, "size")
    lengths = np.array([example.tokens.size for example in examples])
    if unit == "examples":
        if len(examples) < size:
            reject("size", size, f"at most the number of examples, {len(examples)}")
        each = len(examples) // size  # batches in one pass; what is left over changes every time
    elif unit == "padded":
        if not examples or size < lengths.max():
            longest = int(lengths.max()) if examples else 1
            reject("size", size, f"at least the longest example's {longest} tokens")
        buckets, cuts = _buckets(lengths, size)
        each = len(cuts) + 1
    else:
        if not examples or size < 2 * lengths.max():
            longest = int(lengths.max()) if examples else 1
            reject("size", size, f"at least two of the longest example's {longest} tokens")
        each = -(-int(lengths.sum()) // size)
    step = check_count(start, "start", 0)
    while True:
        order = generator(key, 0, step // each).permutation(len(examples))
        if unit == "examples":
            rows = _cut_by_examples(order[: each * size], lengths, size)
        elif unit == "padded":
            rows = np.split(order[np.argsort(-buckets[order], kind="stable")], cuts)
        else:
            rows = _cut_by_tokens(order, lengths, each)
        shuffled = generator(key, 1, step // each).permutation(each)
        for index in range(step % each, each):
            yield make_batch([examples[i] for i in rows[shuffled[index]]], layout)
            step += 1


def _cut_by_examples(order: np.ndarray, lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Batches of `size` examples, of similar length within groups of eight batches."""
    groups = np.split(order, range(8 * size, order.size, 8 * size))
    return [
        part
        for group in groups
        for part in np.split(group[np.argsort(lengths[group], kind="stable")], group.size // size)
    ]


def _buckets(lengths: np.ndarray, size: int) -> tuple[np.ndarray, list[int]]:
    """The longest length that each example may lie beside, and where batches end.

    The lengths of a bucket differ by a tenth at most. From the longest examples on, every batch
    takes as many as fit; whatever the order within the buckets, the cuts are the same.
    """
    buckets = lengths.copy()
    top = 0
    for index in np.argsort(-lengths, kind="stable"):
        if 1.1 * lengths[index] < top or top == 0:
            top = int(lengths[index])
        buckets[index] = top
    tops = np.sort(buckets)[::-1]
    cuts = [0]
    while cuts[-1] < tops.size:
        cuts.append(cuts[-1] + size // int(tops[cuts[-1]]))
    return buckets, cuts[1:-1]


def _cut_by_tokens(order: np.ndarray, lengths: np.ndarray, each: int) -> list[np.ndarray]:
    """`each` batches with equal shares of the tokens, as above.

    An example belongs to the share that its middle lies in. Neighbouring middles are at most the
    longest example apart, which is less than a share: no batch is empty.
    """
    share = lengths.sum() / each

    def numbers(ids: np.ndarray) -> np.ndarray:
        ends = np.cumsum(lengths[ids])
        return np.minimum((ends - lengths[ids] / 2) / share, each - 0.5).astype(int)

    group = numbers(order) // 8
    order = order[np.lexsort((lengths[order], group))]
    number = numbers(order)
    return np.split(order, np.searchsorted(number, np.arange(1, each)))


# ---- From utterances ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class TextEncoder:
    """Text to symbols, as characters or, with a lexicon, as phonemes.

    Args:
        table: names of the phonemes; None for characters.
        lexicon: how words are said; None for characters.
    """

    table: PhonemeTable | None = None
    lexicon: Lexicon | None = None

    @classmethod
    def phonemes(cls, utterances: Sequence[Utterance]) -> TextEncoder:
        """Phonemes and words of aligned utterances."""
        return cls(PhonemeTable.from_utterances(utterances), Lexicon.from_utterances(utterances))

    @property
    def is_phonetic(self) -> bool:
        return self.table is not None

    @property
    def size(self) -> int:
        """Number of symbols, `FILLER` included."""
        from tokenkl.tts.frontend import CHARACTERS

        return 1 + (len(CHARACTERS) if self.table is None else len(self.table))

    def encode(self, text: str) -> Int[np.ndarray, " P"]:
        """Symbols of a text.

        Raises:
            ValueError: a character or word outside the domain, by name.
        """
        if self.table is None or self.lexicon is None:
            return 1 + encode_characters(text)
        return 1 + self.table.encode(self.lexicon.pronounce(text))

    def example(self, utterance: Utterance, tokens: Int[np.ndarray, " L"]) -> Example:
        """An utterance and its tokens; phonemes come with their true durations."""
        if self.table is None:
            symbols, lengths = self.encode(utterance.text), None
        else:
            if utterance.alignment is None:
                reject("utterance", utterance.name, "one with an alignment of phonemes")
            symbols = 1 + self.table.encode(utterance.alignment.phonemes)
            lengths = durations(utterance.alignment, tokens.size)
        name, text, speaker = utterance.name, utterance.text, utterance.speaker
        return Example(name, text, tokens, symbols, lengths, speaker)


def examples_of(
    tokenizer: Tokenizer,
    encoder: TextEncoder,
    utterances: Sequence[Utterance],
    *,
    progress: Report | None = None,
) -> list[Example]:
    """Utterances with their symbols and true tokens.

    Args:
        tokenizer: in evaluation mode.
        encoder: of the text.
        utterances: what is said.
        progress: called with the numbers of utterances done and in all; a bar when None.
    """
    found = []
    with reporting("tokenizing", progress) as report:
        for utterance in utterances:
            found.append(encoder.example(utterance, tokenizer.tokenize(utterance.audio)))
            report(len(found), len(utterances))
    return found
