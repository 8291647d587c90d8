"""tokenkl: what a tokenizer's geometry does to continuous diffusion over categorical data.

Names are grouped in the order in which data flows: a codebook places tokens, a schedule turns time
into a signal-to-noise ratio, information and divergence say what is lost, optimality compares.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tokenkl.bounds import amplitude_capacity, bracket
from tokenkl.channels import Channel, Gaussian, Masking, UniformNoise
from tokenkl.codebooks import (
    FSQ,
    Codebook,
    LatticeCodebook,
    OneHot,
    PointCodebook,
    Product,
    ProductCodebook,
    ResidualCodebook,
    average_power,
    centre,
    d_codebook,
    e6_codebook,
    e8_codebook,
    from_module,
    load_codebook,
    parse_codebook,
    permute,
    perturb,
    prior_from_tokens,
    register,
    register_spec,
    save_codebook,
    scale_to,
    spherical_codebook,
    vq_codebook,
    with_counts,
    with_token_prior,
)
from tokenkl.decoding import decide
from tokenkl.divergence import (
    LearnedPathKL,
    ancestral_kl,
    ancestral_kl_curve,
    excess_cross_entropy,
    learned_path_kl,
    optimal_step_grids,
    optimal_steps,
    path_kl,
    prior_mismatch,
    produced_law,
    score_lipschitz,
    simulate_ancestral_kl,
    simulate_path_kl,
    step_grid,
)
from tokenkl.estimate import Bound, ConfidenceInterval, Estimate
from tokenkl.information import (
    QUANTITIES,
    Auto,
    Exact,
    MonteCarlo,
    Plan,
    Profile,
    RareEvents,
    accuracy,
    bit_metric_information,
    conditional_entropy,
    error_probability,
    gray_labels,
    mmse,
    mutual_information,
    plan,
    profile,
    sampling_error,
)
from tokenkl.optimality import (
    information_uniform_schedule,
    mean_nn_distance,
    min_distance,
    recommend_levels,
)
from tokenkl.samplers import DDIM, Ancestral, Level, Sampler
from tokenkl.schedule import (
    EDM,
    VE,
    BetaVP,
    CosineVP,
    FlowMatching,
    LinearVP,
    LogLinear,
    Schedule,
    SqrtVP,
    SubVP,
    TableSchedule,
    load_schedule,
)
from tokenkl.verification import verify

__all__ = [
    "DDIM",
    "EDM",
    "FSQ",
    "QUANTITIES",
    "VE",
    "Ancestral",
    "Auto",
    "BetaVP",
    "Bound",
    "Channel",
    "Codebook",
    "ConfidenceInterval",
    "CosineVP",
    "Estimate",
    "Exact",
    "FlowMatching",
    "Gaussian",
    "LatticeCodebook",
    "LearnedPathKL",
    "Level",
    "LinearVP",
    "LogLinear",
    "Masking",
    "MonteCarlo",
    "OneHot",
    "Plan",
    "PointCodebook",
    "Product",
    "ProductCodebook",
    "Profile",
    "RareEvents",
    "ResidualCodebook",
    "Sampler",
    "Schedule",
    "SqrtVP",
    "SubVP",
    "TableSchedule",
    "UniformNoise",
    "accuracy",
    "amplitude_capacity",
    "ancestral_kl",
    "ancestral_kl_curve",
    "average_power",
    "bit_metric_information",
    "bracket",
    "centre",
    "conditional_entropy",
    "d_codebook",
    "decide",
    "e6_codebook",
    "e8_codebook",
    "error_probability",
    "excess_cross_entropy",
    "from_module",
    "gray_labels",
    "information_uniform_schedule",
    "learned_path_kl",
    "load_codebook",
    "load_schedule",
    "mean_nn_distance",
    "min_distance",
    "mmse",
    "mutual_information",
    "optimal_step_grids",
    "optimal_steps",
    "parse_codebook",
    "path_kl",
    "permute",
    "perturb",
    "plan",
    "prior_from_tokens",
    "prior_mismatch",
    "produced_law",
    "profile",
    "recommend_levels",
    "register",
    "register_spec",
    "sampling_error",
    "save_codebook",
    "scale_to",
    "score_lipschitz",
    "simulate_ancestral_kl",
    "simulate_path_kl",
    "spherical_codebook",
    "step_grid",
    "verify",
    "vq_codebook",
    "with_counts",
    "with_token_prior",
]
__version__ = "0.1.0"


if TYPE_CHECKING:
    from tokenkl import torch as torch
else:

    def __getattr__(name: str) -> Any:
        """`tokenkl.torch` once it is asked for: it imports PyTorch, which most uses do without."""
        if name == "torch":
            return importlib.import_module("tokenkl.torch")
        raise AttributeError(f"module 'tokenkl' has no attribute {name!r}")
