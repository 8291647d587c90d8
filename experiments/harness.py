"""What every experiment shares: run, record, and draw from the record alone.

An experiment computes a table and a few facts. `run` writes them to NAME.csv and NAME.json (with
config, versions and run time) in a folder; `draw` reads those two files and nothing else, and
writes NAME.png and NAME.pdf. The record, which comes last, holds a digest of every file that
belongs to it: what an interrupted run left is told from what is whole.

Only results of the config as it stands in the code go to figures/.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import experiments
from experiments.comparison import Comparison, Error, compare
from experiments.experiments import refuse
from experiments.settings import Settings
from experiments.toy.kept import alone_with
from tokenkl._files import atomic_files, file_digest
from tokenkl._validation import reject
from tokenkl.plotting import save_figure

FIGURES = Path(__file__).resolve().parent.parent / "figures"

#: progress(done, total): called by compute, often enough for a progress bar.
Progress = Callable[[float, float], None]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A figure and how it is made.

    - `claim`: the one sentence that the figure tests or shows.
    - `config`: its `Settings`; `smoke`: the same with others of their values, in seconds, for CI.
    - `compute(config, progress)` returns the table behind the figure, and facts (plain numbers and
      strings) that it or a document quotes. Every row is the same on another machine: times are
      facts.
    - `plot(table, facts)` draws; it gets what was stored, never what is in memory.
    - `shares`: it is made of parts that a cluster can take one by one (`experiments.toy.kept`).
    - `errors`: columns of the table that are estimates, and where their errors are, for `check`.
    """

    name: str
    claim: str
    config: Settings
    smoke: Settings
    compute: Callable[[Any, Progress], tuple[pd.DataFrame, dict[str, Any]]]
    plot: Callable[[pd.DataFrame, dict[str, Any]], Figure]
    errors: Mapping[str, Error] = dataclasses.field(default_factory=dict)
    shares: bool = False

    def __post_init__(self) -> None:
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        if spec is not None and spec.name == f"experiments.{self.name}":
            refuse(self.name)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run found: the record and the table, as NAME.json and NAME.csv hold them."""

    experiment: Experiment
    record: dict[str, Any]
    table: pd.DataFrame
    text: str

    @property
    def facts(self) -> dict[str, Any]:
        """The numbers that are not rows of the table."""
        found: dict[str, Any] = self.record["facts"]
        return found

    def figure(self) -> Figure:
        """Drawn from these alone."""
        return self.experiment.plot(self.table, self.facts)


def run(
    experiment: Experiment,
    config: Settings | None = None,
    *,
    folder: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Result:
    """Compute; where a folder is given, also store there, and draw.

    Raises:
        ValueError: the folder is figures/, and the config is not the experiment's own.
    """
    config = experiment.config if config is None else config
    _check_folder(experiment, config, folder)
    return finish(experiment, config, compute(experiment, config, progress), folder=folder)


def _check_folder(experiment: Experiment, config: Settings, folder: Path | None) -> None:
    overrides = config.unlike(experiment.config)
    if overrides and folder is not None and folder.resolve() == FIGURES.resolve():
        reject(
            "the folder", str(folder), "another than figures/ where settings are not their defaults"
        )


@dataclasses.dataclass(frozen=True)
class Computed:
    """What `Experiment.compute` gave, and how long it took."""

    table: pd.DataFrame
    facts: dict[str, Any]
    seconds: float


def compute(experiment: Experiment, config: Settings, progress: Progress) -> Computed:
    """The work without the files.

    Raises:
        ValueError: another process keeps parts of the same experiment.
    """
    with alone_with(experiment.name) if experiment.shares else contextlib.nullcontext():
        started = time.perf_counter()
        table, facts = experiment.compute(config, progress)
    return Computed(table, facts, time.perf_counter() - started)


def compute_named(wanted: tuple[str, Settings], progress: Progress) -> Computed:
    """The same by name, on another machine."""
    return compute(experiments.load(wanted[0]), wanted[1], progress)


def finish(
    experiment: Experiment, config: Settings, computed: Computed, *, folder: Path | None = None
) -> Result:
    """Record what was computed; where a folder is given, also store there, and draw.

    Raises:
        ValueError: as `run`.
    """
    _check_folder(experiment, config, folder)
    overrides = config.unlike(experiment.config)
    words = ["--smoke"] if config == experiment.smoke else []
    for word in () if words else config.words(overrides):
        words += ["--set", word]
    table, facts, seconds = computed.table, computed.facts, computed.seconds
    text = table.to_csv(index=False, float_format="%.12g")
    record = {
        "name": experiment.name,
        "claim": experiment.claim,
        "command": shlex.join(["tokenkl", "reproduce", experiment.name, *words]),
        "config": dataclasses.asdict(config),
        "overrides": overrides,
        "run_seconds": round(seconds, 1),
        "versions": versions(),
        "facts": facts,
    }
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_files() as new:
            path = new(folder / f"{experiment.name}.csv")
            path.write_bytes(text.encode())
            files = {f"{experiment.name}.csv": file_digest(path)}
            _write(new(folder / f"{experiment.name}.json"), {**record, "files": files})
        for picture in _pictures(experiment):
            (folder / picture).unlink(missing_ok=True)  # that of the results before
        draw(experiment, folder=folder)
    return Result(experiment, json.loads(_json(record)), pd.read_csv(io.StringIO(text)), text)


def check(experiment: Experiment, record: dict[str, Any], text: str) -> Comparison:
    """What was found, a record and a table as CSV, beside what figures/ has.

    Raises:
        ValueError: nothing is stored there, or it does not belong together.
    """
    before, _, _ = stored(experiment, folder=FIGURES)
    table = (FIGURES / f"{experiment.name}.csv").read_text()
    return compare(table, text, before["facts"], record["facts"], experiment.errors)


def draw(experiment: Experiment, *, folder: Path = FIGURES) -> None:
    """Draw the figure again from its stored table and record.

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


def is_current(experiment: Experiment, config: Settings, *, folder: Path = FIGURES) -> bool:
    """Whether stored results of this very config exist, so that an interrupted run can go on.

    A record without digests is not enough: the table beside it may be that of another run.
    """
    return kept(experiment, config, folder=folder) is not None


def kept(
    experiment: Experiment, config: Settings, *, folder: Path
) -> tuple[dict[str, Any], str] | None:
    """The stored record and table (as CSV) of this very config; None where there are none."""
    found = _stored(experiment, folder)
    if found is None or "files" not in found[0]:
        return None
    record = found[0]
    same_config = record["config"] == json.loads(_json(dataclasses.asdict(config)))
    if not same_config or record["versions"].get("tokenkl") != version("tokenkl"):
        return None
    return record, (folder / f"{experiment.name}.csv").read_text()


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


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1, default=_plain) + "\n"


def _write(path: Path, record: dict[str, Any]) -> None:
    path.write_text(_json(record))


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
