"""Tokens in context: what neighbours say, and how well an affine denoiser can hear it."""

from tokenkl.context.readability import (
    MessageIndex,
    largest_reading,
    message_index,
    permuted_reading,
)
from tokenkl.context.relabelling import Relabelling, relabel
from tokenkl.context.variates import (
    StructureTest,
    Variates,
    canonical_variates,
    counted_variates,
    structure_test,
)

__all__ = [
    "MessageIndex",
    "Relabelling",
    "StructureTest",
    "Variates",
    "canonical_variates",
    "counted_variates",
    "largest_reading",
    "message_index",
    "permuted_reading",
    "relabel",
    "structure_test",
]
