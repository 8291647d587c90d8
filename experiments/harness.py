"""What every experiment shares: run, record, and draw from the record alone.

An experiment computes a table and a few facts. `run` writes them to figures/NAME.csv and
figures/NAME.json (with config, seed, versions and run time); `draw` reads those two files and
nothing else, and writes figures/NAME.png and .pdf.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tokenkl._files import atomic_path
from tokenkl.plotting import save_figure

FIGURES = Path(__file__).resolve().parent.parent / "figures"

#: progress(done, total): called by compute, often enough for a progress bar.
Progress = Callable[[float, float], None]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A figure and how it is made.

    - `claim`: the one sentence that the figure tests or shows.
    - `config`, `smoke`: frozen dataclasses of one type; the second runs in seconds, for CI.
    - `compute(config, progress)` returns the table behind the figure, and facts (plain numbers and
      strings) that it or a document quotes.
    - `plot(table, facts)` draws; it gets what was stored, never what is in memory.
    """

    name: str
    claim: str
    config: Any
    smoke: Any
    compute: Callable[[Any, Progress], tuple[pd.DataFrame, dict[str, Any]]]
    plot: Callable[[pd.DataFrame, dict[str, Any]], Figure]


def run(
    experiment: Experiment,
    *,
    smoke: bool = False,
    folder: Path = FIGURES,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Compute, store, draw; returns the stored record."""
    config = experiment.smoke if smoke else experiment.config
    started = time.perf_counter()
    table, facts = experiment.compute(config, progress)
    seconds = time.perf_counter() - started
    record = {
        "name": experiment.name,
        "claim": experiment.claim,
        "command": f"tokenkl reproduce {experiment.name}" + (" --smoke" if smoke else ""),
        "config": dataclasses.asdict(config),
        "smoke": smoke,
        "run_seconds": round(seconds, 1),
        "versions": versions(),
        "facts": facts,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / f"{experiment.name}.csv") as path:
        table.to_csv(path, index=False, float_format="%.12g")
    with atomic_path(folder / f"{experiment.name}.json") as path:
        path.write_text(json.dumps(record, indent=1, default=_plain) + "\n")
    draw(experiment, folder=folder)
    return record


def draw(experiment: Experiment, *, folder: Path = FIGURES) -> None:
    """Draw the figure again from its stored table and record.

    Raises:
        ValueError: nothing is stored, or what is stored cannot be read.
    """
    stored = _stored(experiment, folder)
    if stored is None:
        raise ValueError(
            f"{experiment.name} has no stored results in {folder} that can be read; run "
            f"`tokenkl reproduce {experiment.name}` first."
        )
    record, table = stored
    figure = experiment.plot(table, record["facts"])
    for suffix in (".pdf", ".png"):
        save_figure(figure, folder / f"{experiment.name}{suffix}")


def is_current(experiment: Experiment, *, smoke: bool = False, folder: Path = FIGURES) -> bool:
    """Whether stored results of this very config exist, so that an interrupted run can go on."""
    stored = _stored(experiment, folder)
    if stored is None:
        return False
    record, _ = stored
    asked = dataclasses.asdict(experiment.smoke if smoke else experiment.config)
    same_config = record["config"] == json.loads(json.dumps(asked))
    return bool(same_config and record["versions"]["tokenkl"] == version("tokenkl"))


def _stored(experiment: Experiment, folder: Path) -> tuple[dict[str, Any], pd.DataFrame] | None:
    """The record and the table of an experiment; None where they are missing or damaged."""
    try:
        record = json.loads((folder / f"{experiment.name}.json").read_text())
        table = pd.read_csv(folder / f"{experiment.name}.csv")
        if {"config", "versions", "facts"} <= set(record):
            return record, table
    except (OSError, ValueError, TypeError):  # pandas' and json's own errors are ValueErrors
        pass
    return None


def versions() -> dict[str, str]:
    """Versions that the numbers may depend on."""
    names = ("tokenkl", "numpy", "scipy", "jax", "scikit-learn", "pandas", "matplotlib")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"facts hold a {type(value).__name__}, which JSON cannot")
