"""Noise schedules out of files: tables of t and snr, as every `--schedule` takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

import tokenkl as tk
from tokenkl._files import atomic_path, file_digest
from tokenkl.codebooks import Codebook
from tokenkl.tts.cdcd import LEVELS, RANGE
from tokenkl.tts.levels import noise_levels

FOLDER = Path(__file__).resolve().parent.parent / "data" / "speech" / "schedules"
#: The files; `schedules.py` makes them.
CONTEXTUAL, CORPUS, TOLD = "contextual", "corpus", "told"
FILES = (CONTEXTUAL, CORPUS, TOLD)


def table_of(name: str, codebook: Codebook) -> Float[np.ndarray, " levels"]:
    """ln(snr) at equal steps of time, 0 to 1, of one of these files or what `noise_levels` names.

    Raises:
        ValueError: a file that was not made yet, or an unknown name.
    """
    if name not in FILES:
        return noise_levels(name, codebook)
    snr = tk.load_schedule(_existing(name)).snr(np.linspace(0, 1, LEVELS))
    return np.clip(np.log(np.asarray(snr)), *RANGE)


def origin(name: str) -> dict[str, Any]:
    """What tells the schedule of a file from others."""
    return {"name": name, "digest": file_digest(_existing(name))[:16]}


def write_schedule(
    name: str, t: Float[np.ndarray, " m"], snr: Float[np.ndarray, " m"], folder: Path = FOLDER
) -> None:
    """As t,snr; both of them rise and fall, with nine digits."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{a:.9g},{b:.9g}\n" for a, b in zip(t, snr, strict=True)]
    with atomic_path(folder / f"{name}.csv") as path:
        path.write_text("t,snr\n" + "".join(lines))


def equal_steps(name: str, steps: int, codebook: Codebook) -> Float[np.ndarray, " steps"]:
    """ln(snr) at the calls of a sampler of that many equal steps of a schedule's time."""
    table = table_of(name, codebook)
    return np.interp(1 - np.arange(steps) / steps, np.linspace(0, 1, table.size), table)


def _existing(name: str) -> Path:
    path = FOLDER / f"{name}.csv"
    if not path.is_file():
        raise ValueError(f"{path} is not there; `python -m experiments.speech curve` makes it.")
    return path
