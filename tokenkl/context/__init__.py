"""Tokens in the context of their sequence: what a noisy sequence says of them, and to whom."""

from tokenkl.context.brackets import (
    ContextBracket,
    ContextInformation,
    context_information,
    contextual_bracket,
    entropy_per_token,
)
from tokenkl.context.generated import GeneratedLaw
from tokenkl.context.nonlinearity import (
    low_snr_nonlinearity,
    message_nonlinearity,
    nonlinearity_bound,
    nonlinearity_integral,
)
from tokenkl.context.probe import Probe, probe_nonlinearity
from tokenkl.context.profiles import CONTEXTS, contextual_profile
from tokenkl.context.replacing import (
    ReplacingSteps,
    replacing_information,
    replacing_kl,
    replacing_law,
    replacing_posterior,
    replacing_steps,
)
from tokenkl.context.unmasking import (
    UnmaskingSteps,
    unmasking_curve,
    unmasking_information,
    unmasking_kl,
    unmasking_law,
    unmasking_steps,
)

__all__ = [
    "CONTEXTS",
    "ContextBracket",
    "ContextInformation",
    "GeneratedLaw",
    "Probe",
    "ReplacingSteps",
    "UnmaskingSteps",
    "context_information",
    "contextual_bracket",
    "contextual_profile",
    "entropy_per_token",
    "low_snr_nonlinearity",
    "message_nonlinearity",
    "nonlinearity_bound",
    "nonlinearity_integral",
    "probe_nonlinearity",
    "replacing_information",
    "replacing_kl",
    "replacing_law",
    "replacing_posterior",
    "replacing_steps",
    "unmasking_curve",
    "unmasking_information",
    "unmasking_kl",
    "unmasking_law",
    "unmasking_steps",
]
