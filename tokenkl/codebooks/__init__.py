"""Where tokens sit in R^n."""

from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.codebooks.lattice import e8_codebook
from tokenkl.codebooks.onehot import OneHot
from tokenkl.codebooks.product import FSQ, ProductCodebook
from tokenkl.codebooks.residual import ResidualCodebook

__all__ = [
    "FSQ",
    "Codebook",
    "OneHot",
    "PointCodebook",
    "ProductCodebook",
    "ResidualCodebook",
    "e8_codebook",
]
