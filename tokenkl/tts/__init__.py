"""Text to speech by continuous diffusion over speech tokens: data, tokenizers, judges.

Needs the extra `tts` (PyTorch and the judges); the synthetic corpus needs `tts-data` as well.
`import tokenkl` never imports this package, and this package imports nothing heavy by itself:
import its modules, such as ``from tokenkl.tts.corpus import load_corpus``.
"""
