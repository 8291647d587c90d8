"""What a voice says for many sentences and seeds, with the time that it takes."""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from tokenkl._progress import Report, reporting
from tokenkl._random import generator
from tokenkl._validation import check_count, reject
from tokenkl.tts.cdcd import CDCD, best_bound
from tokenkl.tts.data import Example, make_batch
from tokenkl.tts.evaluation import Spoken
from tokenkl.tts.voice import Voice


def say_all(
    voice: Voice,
    texts: Sequence[str],
    seeds: Sequence[int],
    *,
    label: str = "",
    speakers: Sequence[str] | None = None,
    progress: Report | None = None,
    **options: Any,
) -> dict[int, list[Spoken]]:
    """Every sentence by itself, for every seed, as `evaluate` takes it.

    The noise of a sentence follows from the seed and its text. PyTorch works with one thread, so
    that the seconds can be compared; one sentence is said before that counts.

    Args:
        voice: any.
        texts: of its domain.
        seeds: whole numbers, each once.
        label: of the voice, for the bar.
        speakers: who says every text, for a voice that knows speakers; the first when None.
        progress: called with the numbers of sentences done and in all; a bar when None.
        **options: of `Voice.tokens`.

    Raises:
        ValueError: no text, no seed or one twice, or what `Voice.tokens` refuses.
    """
    for seed in seeds:
        check_count(seed, "every entry of seeds", 0)
    if speakers is not None and len(speakers) != len(texts):
        reject("speakers", len(speakers), f"one for each of {len(texts)} texts")
    if not texts or not seeds or len(set(seeds)) < len(seeds):
        reject("texts, seeds", (len(texts), list(seeds)), "at least one text, and different seeds")
    said: dict[int, list[Spoken]] = {seed: [] for seed in seeds}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        voice.tokens(texts[:1], key=0, **options)
        with reporting(f"speaking {label}".strip(), progress) as report:
            for number, seed in enumerate(seeds):
                for index, text in enumerate(texts):
                    if speakers is not None:
                        options["speaker"] = speakers[index]
                    started = time.perf_counter()
                    [ids] = voice.tokens([text], key=_key(seed, text), **options)
                    seconds = time.perf_counter() - started
                    said[seed].append(Spoken(text, ids, seconds=seconds))
                    report(number * len(texts) + index + 1, len(seeds) * len(texts))
    finally:
        torch.set_num_threads(threads)
    return said


#: Examples whose likelihood is found together.
BATCH = 50


def nats(
    voice: Voice, examples: Sequence[Example], *, draws: int = 16
) -> Float[np.ndarray, " examples"]:
    """-ln p of the tokens of every example given its text, or an upper bound on it.

    Exact for an autoregressive model, which has to say where they end, too; for diffusion a bound
    given text and length, that of the reverse process in many steps, see `CDCD.bound`.

    Args:
        voice: any.
        examples: with true tokens.
        draws: of the noise, for each.
    """
    found = []
    for start in range(0, len(examples), BATCH):
        batch = make_batch(examples[start : start + BATCH], voice.layout).to(voice.device)
        if isinstance(voice.model, CDCD):
            rng = torch.Generator().manual_seed(int(generator(start).integers(2**62)))
            found.append(best_bound(voice.model.bound(batch, rng, draws).cpu().numpy()))
        else:
            found.append(voice.model.nll(batch).cpu().numpy())
    return np.concatenate(found)


def with_next_text(examples: Sequence[Example]) -> list[Example]:
    """The same tokens, each with the text of the example after it, the last with the first one's.

    Durations of the text, where they are known, are stretched to the tokens.
    """
    made = []
    for one, other in zip(examples, [*examples[1:], *examples[:1]], strict=True):
        lengths = None
        if other.lengths is not None:
            edges = np.cumsum(other.lengths) * (one.tokens.size / other.tokens.size)
            lengths = np.diff(np.round(edges).astype(np.int64), prepend=0)
        text, symbols = other.text, other.symbols
        made.append(dataclasses.replace(one, text=text, symbols=symbols, lengths=lengths))
    return made


def _key(seed: int, text: str) -> int:
    return (seed << 32) + zlib.crc32(text.encode())
