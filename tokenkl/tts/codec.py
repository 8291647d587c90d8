"""Tokens of another program: a codec whose ids a voice is trained on, and the way back to sound.

A voice needs of a codec only its codebook, in the order of the ids, and how many tokens are a
second. What makes sound of its tokens is a `Vocoder`, a function of the user's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from tokenkl._files import PathLike
from tokenkl._validation import as_float_array, check_count, check_positive, reject
from tokenkl.tts.audio import SAMPLE_RATE, Utterance

if TYPE_CHECKING:  # what speaking with our own tokens does not need, and takes long to import
    from tokenkl.codebooks import Codebook
    from tokenkl.tts.data import Example
    from tokenkl.tts.tokenizers import Tokenizer

#: Most tokens of a codec: a model has an output for each, or for each digit and a table of all.
MOST_TOKENS = 2**17


@dataclasses.dataclass(frozen=True)
class Vocoder:
    """What makes sound of token ids.

    - `decode`: from one row of whole numbers, the ids, to one row of samples in [-1, 1].
    - `rate`: samples a second of what it returns.

    >>> hum = Vocoder(lambda ids: np.sin(np.repeat(ids, 4)), rate=100)
    >>> hum(np.array([1, 2])).shape
    (8,)

    Raises:
        ValueError: no function, or a rate below 1.
    """

    decode: Callable[[Int[np.ndarray, " tokens"]], Float[np.ndarray, " samples"]]
    rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        if not callable(self.decode):
            reject("decode", self.decode, "a function from token ids to samples")
        check_count(self.rate, "rate")

    def __call__(self, ids: Int[np.ndarray, " tokens"]) -> Float[np.ndarray, " samples"]:
        """Samples of token ids, float32.

        Raises:
            ValueError: what was made is not one row of finite numbers.
        """
        samples = np.asarray(self.decode(ids))
        return as_float_array("samples of the vocoder", samples, ndim=1).astype(np.float32)


class Codec:
    """The tokens of another program; takes the place of a `Tokenizer`.

    >>> import tokenkl as tk
    >>> codec = Codec(tk.PointCodebook([[9.0, 0.0], [11.0, 0.0], [10.0, 1.0]]), token_rate=75)
    >>> codec.K, bool(abs(codec.codebook().mean()).max() < 1e-12)
    (3, True)

    Args:
        stored: its codebook, in the order of the ids.
        token_rate: tokens a second.

    Raises:
        ValueError: more than `MOST_TOKENS` tokens, or less than two.
    """

    #: Whether it makes sound of its tokens by itself.
    can_be_heard = False
    #: In the place of the kind of a tokenizer's quantizer.
    kind = "of another program"

    def __init__(self, stored: Codebook, token_rate: float) -> None:
        if not 2 <= stored.K <= MOST_TOKENS:
            expected = f"of 2 to {MOST_TOKENS} tokens; of a residual codec keep the first stages"
            reject("codebook", f"one of {stored.K} tokens", expected)
        self.stored = stored
        self.token_rate = check_positive(token_rate, "token_rate")

    @property
    def K(self) -> int:
        """Number of tokens."""
        return int(self.stored.K)

    def codebook(self) -> Codebook:
        """The points in which a model diffuses the tokens.

        Points that reach the faces of the box [-1, 1], as FSQ's do, are as they are. All others are
        centred and scaled to a mean square of 1 in a coordinate, since noise levels are made for
        points of about that size; what matters to the sound are the ids alone.
        """
        return self._placed

    @functools.cached_property
    def _placed(self) -> Codebook:
        from tokenkl.codebooks import scale_to

        if self.stored.largest_coordinate() == 1:
            return self.stored
        centred = self.stored.centred()
        return scale_to(centred, power=centred.n)

    def digits(self) -> tuple[tuple[int, ...], str] | None:
        """Levels of every digit of an id, and which counts fastest; None for ids without digits."""
        from tokenkl.codebooks.digits import ByDigits

        placed = self.codebook()
        by_digit = placed.as_grid or placed
        if not isinstance(by_digit, ByDigits):
            return None
        return tuple(int(size) for size in by_digit.shape), by_digit.order

    @property
    def is_grid(self) -> bool:
        """Whether every digit has a coordinate of its own, as FSQ's have."""
        return self.codebook().as_grid is not None

    def save(self, path: PathLike) -> None:
        """Write the codebook, as `save_codebook`; the rate is in the voice."""
        from tokenkl.codebooks import save_codebook

        save_codebook(self.stored, path)

    @classmethod
    def load(cls, path: PathLike, token_rate: float) -> Codec:
        """Read the codebook from any file that `load_codebook` reads.

        Raises:
            ValueError: as `load_codebook`, or too many tokens.
        """
        from tokenkl.codebooks import load_codebook

        return cls(load_codebook(path, allow_duplicates=True), token_rate)


def own_tokenizer(tokenizer: Tokenizer | Codec) -> Tokenizer:
    """A tokenizer that was trained here, which goes from audio to tokens and back.

    Raises:
        ValueError: the tokens of another program.
    """
    if isinstance(tokenizer, Codec):
        reject("tokenizer", "the tokens of another program", "one that was trained by tokenkl")
    return tokenizer


def check_references(
    references: Sequence[Utterance] | Sequence[Example], tokenizer: Tokenizer | Codec
) -> None:
    """Refuse what does not say the true tokens: utterances, which a tokenizer hears, or examples.

    Raises:
        ValueError: examples for a tokenizer, or utterances for the tokens of another program.
    """
    part, expected = ("audio", "utterances") if tokenizer.can_be_heard else ("tokens", "examples")
    for one in references:
        if not hasattr(one, part):
            reject("references", f"a {type(one).__name__}", f"{expected}, which have {part}")
