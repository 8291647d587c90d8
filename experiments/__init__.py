"""One module for every figure: claim, frozen config, compute, plot. See README.md here."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from experiments import harness
from experiments.harness import Experiment, Progress, Result
from tokenkl._validation import check_choice

#: Name of the figure (and of the module here), in the order of README.md.
NAMES = (
    "path_kl",
    "nn_distance",
    "random_search",
    "local_certificates",
    "atlas",
    "accuracy",
    "medium_noise",
    "regime_map",
    "structured_regimes",
    "four_views",
    "fsq_in_the_wild",
    "which_grid",
    "quantizers",
    "unequal_priors",
    "sampler_kl",
    "step_grids",
    "bound_ladder",
    "score_lipschitz",
    "bounds",
    "capacity",
    "discrete_against_gaussian",
    "context_relabel",
    "context_labels",
    "context_laws",
    "context_index",
    "context_prediction",
    "toy_generation",
    "speech_geometry",
    "speech_evidence",
    "speech_lasting",
    "speech_steps",
    "speech_twin",
    "speech_rivals",
    "context_speech",
    "context_probe",
    "context_schedule",
)

#: Figures that are computed in seconds each; CI checks them.
QUICK = (
    "medium_noise",
    "fsq_in_the_wild",
    "speech_geometry",
    "speech_evidence",
    "speech_lasting",
    "speech_steps",
    "speech_rivals",
    "context_schedule",
)


def load(name: str) -> Experiment:
    """The experiment with this name; its `config` is made of its settings.

    Raises:
        ValueError: there is none.
    """
    module = importlib.import_module(f"experiments.{check_choice(name, NAMES, 'name')}")
    experiment: Experiment = module.EXPERIMENT
    return experiment


def run(
    name: str,
    *,
    smoke: bool = False,
    folder: str | Path | None = None,
    progress: Progress = lambda done, total: None,
    **settings: Any,
) -> Result:
    """Run an experiment with settings of your own, as `python -m experiments NAME --set ...` does.

    Args:
        name: one of `NAMES`.
        smoke: start from the settings of the tiny version, not from the defaults.
        folder: where to store table, record and pictures; nothing is written without it.
        progress: called with what is done and the total.
        settings: by their names; `python -m experiments NAME --list-settings` tells all.

    Raises:
        ValueError: a name or a setting that does not exist, or a value that it cannot have.

    Example:
        >>> found = run("nn_distance", cases=[(2, 5, 100, 0)])
        >>> found.record["overrides"], found.facts["largest_explicit"] > 1
        ({'cases': [[2, 5, 100, 0]]}, True)
    """
    experiment = load(name)
    config = (experiment.smoke if smoke else experiment.config).changed(**settings)
    place = None if folder is None else Path(folder)
    return harness.run(experiment, config, folder=place, progress=progress)
