"""Tokens in context: sequences of a source, seen through noise."""

from tokenkl.context.generated import GeneratedLaw
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
    "GeneratedLaw",
    "ReplacingSteps",
    "UnmaskingSteps",
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
