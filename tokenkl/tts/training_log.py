"""The log of a training run: one JSON object on a line, a table, and a picture of it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from tokenkl._files import PathLike, atomic_path
from tokenkl._formats import conform, parse_json, reading, shown_path
from tokenkl._validation import check_choice, reject

LOG = "log.jsonl"
#: Where the bands are.
REFERENCES = Path(__file__).parent / "weights"


class _Line(TypedDict):
    step: int
    loss: float


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines; what a killed process left of a last one is ignored.

    A machine that lost its power may leave zeros in the middle. The weights do not depend on the
    log: a damaged line is left out, with a warning.
    """
    lines, damaged = [], []
    with reading(path, "the log of a training run") as file:
        whole = file.bytes().split(b"\n")[:-1]  # a whole line ends in a newline
    for number, text in enumerate(whole, start=1):
        try:
            line = parse_json(text, _Line)
            lines.append(conform(line, dict[str, float | None]) | {"step": line["step"]})
        except ValueError:
            damaged.append(number)
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        message = f"Left out line {damaged[0]}{more} of {shown_path(path)}: damaged."
        warnings.warn(message, stacklevel=3)
    return lines


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Add one line."""
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def cut_log(path: Path, step: int) -> None:
    """Keep the lines up to a step."""
    if os.path.exists(path):
        kept = [line for line in _lines(path) if line["step"] <= step]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))


def read_log(folder: PathLike) -> pd.DataFrame:
    """The log of a run, finished or not, as a table.

    Columns: `step`, `loss` (mean since the line before), `valid_loss` where it was measured,
    `learning_rate`, `gradient_norm` (before clipping), the model's own scalars, `tokens` and
    `seconds` since the beginning.

    Args:
        folder: of the run, or its log file.

    Raises:
        ValueError: no log there.
    """
    path = Path(folder)
    path = path / LOG if os.path.isdir(path) else path
    if not os.path.exists(path):
        reject("folder", str(folder), "a folder with the log of a training run")
    return pd.DataFrame(_lines(path))


def _table(log: PathLike | pd.DataFrame) -> pd.DataFrame:
    return log if isinstance(log, pd.DataFrame) else read_log(log)


def _smooth(values: np.ndarray, width: float = 0.08) -> np.ndarray:
    """Moving average over entries i (1 - width) to i (1 + width), fewer at the end.

    Losses fall fast at first and slowly later: the window is constant in log(step).
    """
    index = np.arange(values.size)
    reach = np.maximum(1, width * index).astype(int)
    reach = np.minimum(reach, np.maximum(1, values.size - 1 - index))
    low = np.maximum(index - reach, 0)
    high = np.minimum(index + reach + 1, values.size)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[high] - sums[low]) / (high - low)


def loss_band(logs: Sequence[PathLike | pd.DataFrame]) -> pd.DataFrame:
    """What loss is normal: the range of runs with other keys, with room for their noise.

    For every run, the smoothed training loss plus and minus two standard deviations of the raw
    loss around it; the band is from the lowest to the highest of these.

    Args:
        logs: folders or tables of at least one run.

    Returns:
        Columns step, low, high, at the steps of the first run.

    Raises:
        ValueError: no logs.
    """
    tables = [_table(log) for log in logs]
    if not tables:
        reject("logs", "none", "at least one")
    steps = tables[0]["step"].to_numpy(float)
    low, high = np.full(steps.size, np.inf), np.full(steps.size, -np.inf)
    for table in tables:
        loss = table["loss"].to_numpy(float)
        smooth = _smooth(loss)
        spread = 2 * np.sqrt(np.maximum(0, _smooth((loss - smooth) ** 2, 0.24)))
        at = table["step"].to_numpy(float)
        low = np.minimum(low, np.interp(steps, at, smooth - spread))
        high = np.maximum(high, np.interp(steps, at, smooth + spread))
    return pd.DataFrame({"step": steps.astype(int), "low": low, "high": high})


def reference_band(text: str) -> pd.DataFrame:
    """`loss_band` of a run without output prior on "phonemes" or on "characters".

    The former made the included voice. It is about that recipe (corpus, model, batch, learning
    rate): with another one, look at the shape and not at the values.

    Raises:
        ValueError: another name.
    """
    check_choice(text, ("phonemes", "characters"), "text")
    return pd.read_csv(REFERENCES / f"loss-{text}.csv")


def plot_losses(
    logs: dict[str, Any] | Sequence[PathLike],
    path: PathLike,
    reference: pd.DataFrame | None = None,
) -> Path:
    """Draw the loss curves of runs: training (smoothed over a faint raw line) and validation.

    Args:
        logs: folders, named after themselves, or a dictionary of names to folders or tables.
        path: .png, .pdf or .svg.
        reference: a band from `loss_band`, drawn in grey as what is normal.

    Raises:
        ValueError: no logs, one of them empty, or another suffix.
    """
    from tokenkl.plotting import line_style, new_figure, save_figure

    named = logs if isinstance(logs, dict) else {Path(log).resolve().name: log for log in logs}
    tables = {name: _table(log) for name, log in named.items()}
    if not tables or any(table.empty for table in tables.values()):
        reject("logs", "none" if not tables else "an empty one", "logs of at least one line each")
    figure, axes = new_figure(width=4.5, panel_height=2.8)
    panel = axes[0, 0]
    if reference is not None:
        panel.fill_between(
            reference["step"], reference["low"], reference["high"], color="#BBBBBB", alpha=0.6,
            linewidth=0, label="normal range",
        )  # fmt: skip
    lowest, highest = np.inf, -np.inf
    for index, (name, table) in enumerate(tables.items()):
        style = line_style(index)
        steps, loss = table["step"].to_numpy(), table["loss"].to_numpy(float)
        panel.plot(steps, loss, color=style["color"], linewidth=0.5, alpha=0.35)
        smooth = _smooth(loss)
        panel.plot(steps, smooth, label=f"{name}: training", **style)
        if "valid_loss" in table:
            checked = table.dropna(subset=["valid_loss"])
            panel.plot(
                checked["step"], checked["valid_loss"], color=style["color"], linestyle="none",
                marker="o", markerfacecolor="white", label=f"{name}: validation",
            )  # fmt: skip
            smooth = np.concatenate([smooth, checked["valid_loss"]])
        lowest, highest = min(lowest, smooth.min()), max(highest, smooth.max())
    panel.set_xscale("log")
    if lowest > 0 and highest > 5 * lowest:
        panel.set_yscale("log")
    panel.set_xlabel("step")
    panel.set_ylabel("loss (nats per token)")
    panel.legend(fontsize=7, frameon=False)
    return save_figure(figure, Path(path))
