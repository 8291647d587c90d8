"""tokenkl: what a tokenizer's geometry does to continuous diffusion over categorical data.

Names are grouped in the order in which data flows: a codebook places tokens, a schedule turns time
into a signal-to-noise ratio, information and divergence say what is lost, optimality compares.
"""

from tokenkl.bounds import amplitude_capacity, bracket
from tokenkl.codebooks import (
    FSQ,
    Codebook,
    LatticeCodebook,
    OneHot,
    PointCodebook,
    ProductCodebook,
    ResidualCodebook,
    average_power,
    centre,
    d_codebook,
    e6_codebook,
    e8_codebook,
    load_codebook,
    permute,
    perturb,
    prior_from_tokens,
    save_codebook,
    scale_to,
    spherical_codebook,
    vq_codebook,
)
from tokenkl.decoding import decide
from tokenkl.divergence import path_kl, simulate_path_kl
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
from tokenkl.optimality import mean_nn_distance, min_distance
from tokenkl.schedule import EDM, VE, BetaVP, CosineVP, FlowMatching, LinearVP, Schedule, SubVP
from tokenkl.verification import verify

__all__ = [
    "EDM",
    "FSQ",
    "QUANTITIES",
    "VE",
    "BetaVP",
    "Bound",
    "Codebook",
    "ConfidenceInterval",
    "CosineVP",
    "Estimate",
    "Exact",
    "FlowMatching",
    "LatticeCodebook",
    "LinearVP",
    "MonteCarlo",
    "OneHot",
    "PointCodebook",
    "ProductCodebook",
    "Profile",
    "ResidualCodebook",
    "Schedule",
    "SubVP",
    "accuracy",
    "amplitude_capacity",
    "average_power",
    "bracket",
    "centre",
    "conditional_entropy",
    "d_codebook",
    "decide",
    "e6_codebook",
    "e8_codebook",
    "error_probability",
    "load_codebook",
    "mean_nn_distance",
    "min_distance",
    "mmse",
    "mutual_information",
    "path_kl",
    "permute",
    "perturb",
    "prior_from_tokens",
    "profile",
    "save_codebook",
    "scale_to",
    "simulate_path_kl",
    "spherical_codebook",
    "verify",
    "vq_codebook",
]
__version__ = "0.1.0"
