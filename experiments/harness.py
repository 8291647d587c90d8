"""What every experiment shares: run, record, and draw from the record alone.

An experiment computes a table and a few facts. `run` writes them to figures/NAME.csv and
figures/NAME.json (with config, seed, versions and run time); `draw` reads those two files and
nothing else, and writes figures/NAME.png and .pdf. The record, which comes last, holds a digest of
every file that belongs to it: what an interrupted run left is told from what is whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
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

from tokenkl._files import atomic_files, file_digest
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
    with atomic_files() as new:
        path = new(folder / f"{experiment.name}.csv")
        table.to_csv(path, index=False, float_format="%.12g")
        files = {f"{experiment.name}.csv": file_digest(path)}
        _write(new(folder / f"{experiment.name}.json"), {**record, "files": files})
    for picture in _pictures(experiment):
        (folder / picture).unlink(missing_ok=True)  # that of the results before
    return draw(experiment, folder=folder)


def draw(experiment: Experiment, *, folder: Path = FIGURES) -> dict[str, Any]:
    """Draw the figure again from its stored table and record; returns the record, as stored now.

    The pictures of a record from before it held digests are drawn too, and get theirs.

    Raises:
        ValueError: nothing is stored, or it cannot be read, or does not belong together.
    """
    record, table, files = stored(experiment, folder=folder)
    figure = experiment.plot(table, record["facts"])
    with atomic_files() as new:
        for picture in _pictures(experiment):
            path = save_figure(figure, new(folder / picture))
            files[picture] = file_digest(path)
        record = {**record, "files": files}
        _write(new(folder / f"{experiment.name}.json"), record)
    return record


def stored(
    experiment: Experiment, *, folder: Path = FIGURES
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, str]]:
    """The stored record and table, and the digest of the table's file.

    Raises:
        ValueError: nothing is stored, or it cannot be read, or does not belong together.
    """
    found = _stored(experiment, folder)
    if found is None:
        raise ValueError(
            f"{experiment.name} has no stored results in {folder} that can be read and belong "
            f"together; run `tokenkl reproduce {experiment.name}` first."
        )
    return found


def is_current(experiment: Experiment, *, smoke: bool = False, folder: Path = FIGURES) -> bool:
    """Whether stored results of this very config exist, so that an interrupted run can go on.

    A record without digests is not enough: the table beside it may be that of another run.
    """
    found = _stored(experiment, folder)
    if found is None or "files" not in found[0]:
        return False
    record = found[0]
    asked = dataclasses.asdict(experiment.smoke if smoke else experiment.config)
    same_config = record["config"] == json.loads(json.dumps(asked))
    return bool(same_config and record["versions"].get("tokenkl") == version("tokenkl"))


def is_drawn(experiment: Experiment, *, folder: Path = FIGURES) -> bool:
    """Whether the stored pictures are those of the stored results."""
    found = _stored(experiment, folder)
    if found is None:
        return False
    digests = found[0].get("files", {})
    try:
        return all(
            digests.get(name) == file_digest(folder / name) for name in _pictures(experiment)
        )
    except OSError:
        return False


def _pictures(experiment: Experiment) -> tuple[str, str]:
    return f"{experiment.name}.pdf", f"{experiment.name}.png"


def _stored(
    experiment: Experiment, folder: Path
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, str]] | None:
    """The record and the table of an experiment, and the digest of the latter under its name.

    None where they are missing or damaged, or where the record is that of another table.
    """
    name = f"{experiment.name}.csv"
    try:
        record = json.loads((folder / f"{experiment.name}.json").read_text())
        content = (folder / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        parts = ("config", "versions", "facts")
        if not all(isinstance(record[part], dict) for part in parts):
            return None
        if record.get("files", {name: digest})[name] != digest:
            return None
        return record, pd.read_csv(io.BytesIO(content)), {name: digest}
    except (OSError, ValueError, TypeError, LookupError):  # pandas' and json's are ValueErrors
        return None


def _write(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1, default=_plain) + "\n")


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
