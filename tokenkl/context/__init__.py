"""Tokens in the context of their sequence: what a noisy sequence says of them, and to whom."""

from tokenkl.context.brackets import (
    ContextBracket,
    ContextInformation,
    context_information,
    contextual_bracket,
    entropy_per_token,
)
from tokenkl.context.nonlinearity import (
    low_snr_nonlinearity,
    message_nonlinearity,
    nonlinearity_bound,
    nonlinearity_integral,
)
from tokenkl.context.probe import Probe, probe_nonlinearity
from tokenkl.context.profiles import CONTEXTS, contextual_profile

__all__ = [
    "CONTEXTS",
    "ContextBracket",
    "ContextInformation",
    "Probe",
    "context_information",
    "contextual_bracket",
    "contextual_profile",
    "entropy_per_token",
    "low_snr_nonlinearity",
    "message_nonlinearity",
    "nonlinearity_bound",
    "nonlinearity_integral",
    "probe_nonlinearity",
]
