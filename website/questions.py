"""Public names by the question that they answer: the pages of the reference (website/reference.py).

Names come out of `tokenkl/__init__.pyi`, without importing the library.
"""

from __future__ import annotations

import ast
import dataclasses
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Group:
    """A page: names of `tokenkl` in the order in which they are read, and rooms with more."""

    page: str
    question: str
    answer: str
    names: tuple[str, ...]
    rooms: tuple[str, ...] = ()


GROUPS = (
    Group(
        "codebooks",
        "Which tokens, and where?",
        "A codebook places tokens: a grid, a table of vectors, a lattice, a product of others, "
        "or whatever a file holds.",
        (
            *("FSQ", "OneHot", "PointCodebook", "ProductCodebook", "Product", "ResidualCodebook"),
            *(
                "LatticeCodebook",
                "Checkerboard",
                "d_codebook",
                "e6_codebook",
                "e8_codebook",
                "leech_codebook",
                "ball_codebook",
            ),
            *("spherical_codebook", "vq_codebook", "sequence_codebook", "load_codebook"),
            *("from_module", "codebook", "save_codebook", "average_power", "centre"),
            *("scale_to", "perturb", "permute", "prior_from_tokens", "with_token_prior"),
            *("with_counts", "Usage", "token_usage", "stream_usage", "entropy_of_counts"),
            *("decide", "Codebook"),
        ),
        ("codebooks", "decoding"),
    ),
    Group(
        "noise",
        "Which noise levels?",
        "A schedule turns time into a signal-to-noise ratio; an information profile says at which "
        "ratios a model has something to learn.",
        (
            *("information_uniform_schedule", "snr_of_information", "LinearVP", "CosineVP"),
            *("BetaVP", "SubVP", "VE", "EDM", "FlowMatching", "LogLinear", "SqrtVP"),
            *("TableSchedule", "load_schedule", "Schedule"),
        ),
        ("schedule",),
    ),
    Group(
        "information",
        "How much of a token survives the noise?",
        "Accuracy, entropy, information and MMSE of a token, at one level of noise or many.",
        (
            *("profile", "accuracy", "error_probability", "conditional_entropy"),
            *("mutual_information", "mmse", "sampling_error", "Profile", "QUANTITIES"),
            *("bit_metric_information", "gray_labels"),
        ),
        ("information", "quantities"),
    ),
    Group(
        "trust",
        "How far can I trust a number?",
        "Every number is an estimate with its errors and the method that found it; brackets are "
        "proved, and theorems are checked on your codebook.",
        (
            *("Estimate", "ConfidenceInterval", "Auto", "Exact", "MonteCarlo", "RareEvents"),
            *("plan", "Plan", "Bound", "bracket", "amplitude_capacity", "verify"),
        ),
        ("bounds", "verification", "estimate", "ways", "halfspaces", "numerics", "tasks"),
    ),
    Group(
        "steps",
        "How many steps, and which?",
        "What sampling in N steps loses, with the exact denoiser, and the grid that loses least.",
        (
            *("optimal_steps", "optimal_step_grids", "ancestral_kl", "ancestral_kl_curve"),
            *("step_grid", "produced_law", "simulate_ancestral_kl", "path_kl"),
            *("simulate_path_kl", "prior_mismatch", "score_lipschitz", "Sampler", "DDIM"),
            *("Ancestral", "Level"),
        ),
        ("divergence", "samplers"),
    ),
    Group(
        "learned",
        "What does my network lose?",
        "Losses of a trained denoiser, and information with gradients for its training.",
        (
            *("learned_path_kl", "LearnedPathKL", "evidence_bound", "EvidenceBound"),
            "excess_cross_entropy",
        ),
        ("torch",),
    ),
    Group(
        "optimality",
        "Is my tokenizer better than FSQ?",
        "Distances, levels for a budget, certificates that a codebook is a local maximum, or that "
        "one is better than another; search, the best codebooks known, and bounds that none "
        "exceeds.",
        (
            *("which_grid", "WhichGrid", "GridChoice"),
            *("recommend_levels", "mean_nn_distance", "min_distance", "certify_local"),
            *("LocalCertificate", "load_certificate", "search", "SearchResult"),
            *("best_codebook", "BestKnown", "nn_distance_bound"),
            *("prove_less", "Enclosed", "LessCertificate", "load_inequalities"),
        ),
        ("optimality",),
    ),
    Group(
        "sequences",
        "And in context?",
        "Tokens beside their neighbours: laws of sequences, what a denoiser in context reads of "
        "them, and which token should sit where.",
        (
            *("tokens_in_context", "TokensInContext", "contextual_profile", "contextual_bracket"),
            *("context_information", "message_nonlinearity", "low_snr_nonlinearity"),
            *("nonlinearity_bound", "nonlinearity_integral", "probe_nonlinearity", "Probe"),
            *("relabel", "Relabelling"),
        ),
        ("sources", "context"),
    ),
    Group(
        "channels",
        "Masks or Gaussian noise?",
        "The same numbers for masked and for uniform-noise diffusion.",
        ("Gaussian", "Masking", "UniformNoise", "Channel"),
        ("channels",),
    ),
    Group(
        "extend",
        "How do I add my own?",
        "Kinds of codebooks, words for them, and layouts of files.",
        ("register", "register_spec", "register_layout"),
    ),
    Group(
        "machines",
        "How do I use more machines?",
        "Searches, sampled estimates and figures on the workers of a Dask scheduler, with the same "
        "bits.",
        ("cluster", "ClusterError"),
    ),
)


def page_name(group: Group) -> str:
    return f"api/{group.page}.md"


@cache
def _stub() -> tuple[frozenset[str], frozenset[str]]:
    """Names that the package has from its rooms, and the rooms that it has as names."""
    tree = ast.parse((ROOT / "tokenkl" / "__init__.pyi").read_text(encoding="utf-8"))
    names: set[str] = set()
    rooms: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            goal = rooms if node.module is None else names
            goal.update(alias.asname or alias.name for alias in node.names)
    return frozenset(names), frozenset(rooms)


def public_names() -> frozenset[str]:
    """Every public name of the package, rooms among them."""
    return _stub()[0] | _stub()[1]


def rooms() -> frozenset[str]:
    """Those of the public names that are modules or packages."""
    return _stub()[1]


def ungrouped() -> tuple[list[str], list[str]]:
    """Public names that no group has or several have, and names in groups that are not public."""
    listed = [name for group in GROUPS for name in (*group.names, *group.rooms)]
    public = public_names()
    wrong = [name for name in sorted(public) if listed.count(name) != 1]
    return wrong, sorted(set(listed) - public)


def rest_of(room: str) -> list[str]:
    """Public names of a room that the package does not have itself."""
    folder = ROOT / "tokenkl" / room
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    listed: list[str] | None = None
    defined: list[str] = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.append(node.name)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed = list(ast.literal_eval(node.value))
    names = listed if listed is not None else [one for one in defined if not one.startswith("_")]
    return [name for name in names if name not in _stub()[0]]
