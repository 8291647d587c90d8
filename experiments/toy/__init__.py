"""A small CDCD model on token sequences whose law is known exactly.

`data` draws the law and places the tokens, `model` is the network, `train` trains many seeds at
once, `evaluate` samples, estimates KL(data || generated) and compares with the exact denoiser.
"""
