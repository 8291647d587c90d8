"""Tokens in context: what a noisy sequence says of its tokens, and to whom."""

from tokenkl.context.nonlinearity import (
    low_snr_nonlinearity,
    message_nonlinearity,
    nonlinearity_bound,
    nonlinearity_integral,
)
from tokenkl.context.probe import Probe, probe_nonlinearity

__all__ = [
    "Probe",
    "low_snr_nonlinearity",
    "message_nonlinearity",
    "nonlinearity_bound",
    "nonlinearity_integral",
    "probe_nonlinearity",
]
