"""tokenkl: what a tokenizer's geometry does to continuous diffusion over categorical data.

Names are grouped in the order in which data flows: codebook, information.
"""

from tokenkl.codebooks import (
    FSQ,
    Codebook,
    OneHot,
    PointCodebook,
    ProductCodebook,
    ResidualCodebook,
    e8_codebook,
)
from tokenkl.estimate import Bound, ConfidenceInterval, Estimate
from tokenkl.information import (
    QUANTITIES,
    Exact,
    MonteCarlo,
    Profile,
    accuracy,
    conditional_entropy,
    error_probability,
    mmse,
    mutual_information,
    profile,
)

__all__ = [
    "FSQ",
    "QUANTITIES",
    "Bound",
    "Codebook",
    "ConfidenceInterval",
    "Estimate",
    "Exact",
    "MonteCarlo",
    "OneHot",
    "PointCodebook",
    "ProductCodebook",
    "Profile",
    "ResidualCodebook",
    "accuracy",
    "conditional_entropy",
    "e8_codebook",
    "error_probability",
    "mmse",
    "mutual_information",
    "profile",
]
__version__ = "0.1.0"
