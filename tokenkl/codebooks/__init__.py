"""Where tokens sit in R^n."""

from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.codebooks.checkerboard import Checkerboard
from tokenkl.codebooks.files import (
    load_codebook,
    load_prior,
    load_sequences,
    load_tokens,
    save_codebook,
    save_prior,
)
from tokenkl.codebooks.grammar import codebook
from tokenkl.codebooks.lattice import (
    LatticeCodebook,
    ball_codebook,
    d_codebook,
    e6_codebook,
    e8_codebook,
)
from tokenkl.codebooks.layouts import register_layout
from tokenkl.codebooks.leech import leech_codebook
from tokenkl.codebooks.modules import from_module
from tokenkl.codebooks.onehot import OneHot
from tokenkl.codebooks.parts import Product
from tokenkl.codebooks.product import FSQ, ProductCodebook
from tokenkl.codebooks.registry import register, register_spec
from tokenkl.codebooks.residual import ResidualCodebook
from tokenkl.codebooks.sequences import SequenceCodebook, sequence_codebook
from tokenkl.codebooks.streams import with_counts, with_token_prior
from tokenkl.codebooks.transforms import average_power, centre, permute, perturb, scale_to
from tokenkl.codebooks.vq import prior_from_tokens, spherical_codebook, vq_codebook

__all__ = [
    "FSQ",
    "Checkerboard",
    "Codebook",
    "LatticeCodebook",
    "OneHot",
    "PointCodebook",
    "Product",
    "ProductCodebook",
    "ResidualCodebook",
    "SequenceCodebook",
    "average_power",
    "ball_codebook",
    "centre",
    "codebook",
    "d_codebook",
    "e6_codebook",
    "e8_codebook",
    "from_module",
    "leech_codebook",
    "load_codebook",
    "load_prior",
    "load_sequences",
    "load_tokens",
    "permute",
    "perturb",
    "prior_from_tokens",
    "register",
    "register_layout",
    "register_spec",
    "save_codebook",
    "save_prior",
    "scale_to",
    "sequence_codebook",
    "spherical_codebook",
    "vq_codebook",
    "with_counts",
    "with_token_prior",
]
