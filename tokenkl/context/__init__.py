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
from tokenkl.context.readability import (
    MessageIndex,
    largest_reading,
    message_index,
    permuted_reading,
)
from tokenkl.context.relabelling import Relabelling, relabel
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
from tokenkl.context.variates import (
    StructureTest,
    Variates,
    canonical_variates,
    counted_variates,
    structure_test,
)

__all__ = [
    "CONTEXTS",
    "ContextBracket",
    "ContextInformation",
    "GeneratedLaw",
    "MessageIndex",
    "Probe",
    "Relabelling",
    "ReplacingSteps",
    "StructureTest",
    "UnmaskingSteps",
    "Variates",
    "canonical_variates",
    "context_information",
    "contextual_bracket",
    "contextual_profile",
    "counted_variates",
    "entropy_per_token",
    "largest_reading",
    "low_snr_nonlinearity",
    "message_index",
    "message_nonlinearity",
    "nonlinearity_bound",
    "nonlinearity_integral",
    "permuted_reading",
    "probe_nonlinearity",
    "relabel",
    "replacing_information",
    "replacing_kl",
    "replacing_law",
    "replacing_posterior",
    "replacing_steps",
    "structure_test",
    "unmasking_curve",
    "unmasking_information",
    "unmasking_kl",
    "unmasking_law",
    "unmasking_steps",
]
