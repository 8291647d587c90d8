"""Text to speech by continuous diffusion over speech tokens: data, tokenizers, judges.

    import tokenkl.tts

    voice = tokenkl.tts.load()
    voice.say("5 5 5 0 1 2 3").save("out.wav")

Needs the extra `tts` (PyTorch and the judges); the synthetic corpus needs `tts-data` as well.
`import tokenkl` never imports this package, and this package imports nothing heavy by itself:
import its modules, such as ``from tokenkl.tts.corpus import load_corpus``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenkl._files import PathLike
    from tokenkl.tts.codec import Vocoder
    from tokenkl.tts.voice import Voice


def load(name: PathLike = "phonemes", *, vocoder: Vocoder | None = None) -> Voice:
    """A voice that comes with the package, "phonemes" or "characters", or the file of another.

    Args:
        name: of the voice, or of its file.
        vocoder: what makes sound of its token ids, such as ``Vocoder(codec.decode, 24_000)`` of
            `tokenkl.tts.codec`; Griffin-Lim, where they are those of our tokenizers, when None.

    Raises:
        ImportError: the extra `tts` is not installed.
        ValueError: no such voice.
    """
    from tokenkl._extras import MissingExtra

    try:
        from tokenkl.tts.voice import Voice
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "vector_quantize_pytorch"):
            raise
        raise MissingExtra("a voice", error.name, "tts") from error
    return Voice.load(name, vocoder=vocoder)
