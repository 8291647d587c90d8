"""Tokens in the context of their sequence: what the law of the others adds to an observation."""

from tokenkl.context.brackets import (
    ContextBracket,
    ContextInformation,
    context_information,
    contextual_bracket,
    entropy_per_token,
)
from tokenkl.context.profiles import CONTEXTS, contextual_profile

__all__ = [
    "CONTEXTS",
    "ContextBracket",
    "ContextInformation",
    "context_information",
    "contextual_bracket",
    "contextual_profile",
    "entropy_per_token",
]
