"""What one call of a network loses by not knowing when words are spoken, out of the corpus alone.

In the corpus "paused" only the lengths of the pauses are unknown given the text. Let S_i be what is
spoken at token i, and A the pauses, given text and length of the utterance. A network that answers
for every token by itself loses their total correlation, sum_i I(S_i; A) - I(S; A); S_i follows from
A, and A (to a token) from all of S, so this is sum_i H(S_i) - H(A).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from experiments.speech.rivals import write
from tokenkl._random import generator
from tokenkl.tts.audio import PAUSE, SAMPLE_RATE, Utterance
from tokenkl.tts.corpus import CorpusConfig
from tokenkl.tts.recipes import Workspace

#: Samples of one token.
TOKEN = SAMPLE_RATE // 25
SENTENCES, DRAWS = 40, 200_000


def spoken(
    utterance: Utterance, pauses: Float[np.ndarray, "draws gaps"]
) -> tuple[Int[np.ndarray, "draws tokens"], Float[np.ndarray, " draws"]]:
    """What is spoken in the middle of every token of the utterance, with other pauses in samples.

    Phonemes of a word are told apart, pauses are not; words that are said twice are the same. Also
    the length in samples that such an utterance has.
    """
    alignment, texts = utterance.alignment, utterance.text.split()
    assert alignment is not None
    names, numbers, lengths, gap = {PAUSE: 0}, [], [], []
    words, durations = alignment.words, np.diff(alignment.edges)
    first = [int(np.argmax(words == k)) for k in range(len(texts))]
    for i, (word, duration) in enumerate(zip(words, durations, strict=True)):
        inner = word < 0 and first[0] < i < first[-1]
        name = PAUSE if word < 0 else f"{texts[word]} {i - first[word]}"
        numbers.append(names.setdefault(name, len(names)))
        lengths.append(0 if inner else duration)
        gap.append(inner)
    drawn = np.tile(np.array(lengths, float), (len(pauses), 1))
    drawn[:, np.array(gap)] = pauses
    edges = np.cumsum(drawn, axis=1)
    middles = (np.arange(-(-utterance.audio.size // TOKEN)) + 0.5) * TOKEN
    places = (edges[:, None, :] <= middles[None, :, None]).sum(axis=-1)
    return np.array([*numbers, 0])[places], edges[:, -1]


def entropies(
    utterance: Utterance, longest: float, draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """sum_i H(S_i) and H(A), nats, of pauses that are uniform from 0 to `longest` seconds.

    Pauses are drawn and kept where the utterance is as long as it is, to a token.
    """
    gaps = len(utterance.text.split()) - 1
    pauses = rng.uniform(0, longest * SAMPLE_RATE, (draws, gaps))
    _, length = spoken(utterance, np.zeros((1, gaps)))
    kept = np.abs(pauses.sum(axis=1) + length - utterance.audio.size) < TOKEN / 2
    states, _ = spoken(utterance, pauses[kept][:1000])
    counts = [np.unique(column, return_counts=True)[1] / len(column) for column in states.T]
    each = sum(float(-(share * np.log(share)).sum()) for share in counts)
    # Uniform on the slab: the log of its volume in tokens.
    return each, gaps * np.log(longest * SAMPLE_RATE / TOKEN) + np.log(kept.mean())


def measure_alignments(workspace: Workspace, path: Path) -> dict[str, float]:
    """Of test sentences, in nats a token; written as JSON."""
    said = workspace.corpus("paused").split("test")[:SENTENCES]
    rng, longest = generator(0), CorpusConfig.paused().pause
    each, together = np.array([entropies(one, longest, DRAWS, rng) for one in said]).T
    tokens = sum(-(-one.audio.size // TOKEN) for one in said)
    found = {
        "each": float(each.sum() / tokens),
        "together": float(together.sum() / tokens),
        "lost by one call": float((each.sum() - together.sum()) / tokens),
    }
    write(path, {"sentences": len(said), **{k: round(v, 4) for k, v in found.items()}})
    return found
