"""One module for every figure: claim, frozen config, compute, plot. See README.md here."""

from __future__ import annotations

import importlib

from experiments.harness import Experiment

#: Name of the figure (and of the module here), in the order of README.md.
NAMES = (
    "path_kl",
    "nn_distance",
    "accuracy",
    "four_views",
    "fsq_in_the_wild",
    "unequal_priors",
    "sampler_kl",
    "step_grids",
    "score_lipschitz",
    "bounds",
    "capacity",
    "toy_generation",
    "speech_geometry",
    "speech_twin",
)


def load(name: str) -> Experiment:
    """The experiment with this name."""
    experiment: Experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
    return experiment
