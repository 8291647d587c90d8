"""Tokens in context: what neighbours say, and how well an affine denoiser can hear it."""

from tokenkl.context.variates import (
    StructureTest,
    Variates,
    canonical_variates,
    structure_test,
)

__all__ = [
    "StructureTest",
    "Variates",
    "canonical_variates",
    "structure_test",
]
