"""Kullback-Leibler divergences in nats: of laws on path space, and of what samplers produce."""

from tokenkl.divergence.bridge import path_kl, simulate_path_kl
from tokenkl.divergence.evidence import EvidenceBound, evidence_bound
from tokenkl.divergence.girsanov import LearnedPathKL, excess_cross_entropy, learned_path_kl
from tokenkl.divergence.lipschitz import ScoreLipschitz, score_lipschitz
from tokenkl.divergence.measured import measured_steps
from tokenkl.divergence.produced import ProducedLaw, produced_law
from tokenkl.divergence.sampler import (
    ancestral_kl,
    ancestral_kl_curve,
    prior_mismatch,
    simulate_ancestral_kl,
)
from tokenkl.divergence.sequences import (
    SequenceSteps,
    sequence_kl,
    sequence_kl_curve,
    sequence_law,
    sequence_steps,
)
from tokenkl.divergence.steps import OptimalSteps, optimal_step_grids, optimal_steps
from tokenkl.samplers.grids import step_grid

__all__ = [
    "EvidenceBound",
    "LearnedPathKL",
    "OptimalSteps",
    "ProducedLaw",
    "ScoreLipschitz",
    "SequenceSteps",
    "ancestral_kl",
    "ancestral_kl_curve",
    "evidence_bound",
    "excess_cross_entropy",
    "learned_path_kl",
    "measured_steps",
    "optimal_step_grids",
    "optimal_steps",
    "path_kl",
    "prior_mismatch",
    "produced_law",
    "score_lipschitz",
    "sequence_kl",
    "sequence_kl_curve",
    "sequence_law",
    "sequence_steps",
    "simulate_ancestral_kl",
    "simulate_path_kl",
    "step_grid",
]
