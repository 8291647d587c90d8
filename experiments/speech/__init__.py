"""Speech experiments: models are trained by `python -m experiments.speech`, results kept in files.

Training takes hours, so that the figures (`experiments/speech_*.py`) are drawn from stored results,
`experiments/data/speech/`, and trained anew only in smoke mode.
"""
