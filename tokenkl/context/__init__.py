"""Tokens in context: what a noisy sequence says of its tokens, and to whom."""

from tokenkl.context.nonlinearity import (
    low_snr_nonlinearity,
    message_nonlinearity,
    nonlinearity_bound,
    nonlinearity_integral,
)

__all__ = [
    "low_snr_nonlinearity",
    "message_nonlinearity",
    "nonlinearity_bound",
    "nonlinearity_integral",
]
