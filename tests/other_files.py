"""Files that hold neither codebooks nor speech: schedules, contexts, certificates, states."""

import contextlib
import csv
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
from safetensors.numpy import save_file

import tokenkl as tk
from tokenkl.codebooks import load_sequences
from tokenkl.schedule import load_schedule
from tokenkl.sources import load_contexts

T = np.linspace(0, 1, 5)
SNR = np.array([90.0, 20.0, 3.0, 0.5, 0.01])
LAWS = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))


def _table(path: Path) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("t", "snr"), *zip(T, SNR, strict=True)])


def _contexts(path: Path) -> None:
    save_file({"log_probs": LAWS, "weights": np.array([0.5, 0.5])}, path)


def _most_likely(path: Path) -> None:
    ids = np.array([[0, 2], [1, 0]])
    np.savez(path, ids=ids, log_probs=np.log([[0.5, 0.3], [0.7, 0.2]]), K=np.array(5))


@functools.cache
def _certificate() -> Any:
    return tk.certify_local(tk.FSQ((2, 2)))


def _check(path: Path) -> None:
    found = tk.load_certificate(path)
    with contextlib.suppress(ValueError):  # a certificate, of something that is not so
        found.check()


def _quiet(done: float, total: float) -> None:
    """No bar."""


def _search(path: Path) -> None:
    tk.search(1, 2, starts=1, hops=0, folder=path.parent, progress=_quiet)


Kind = tuple[str, Callable[[Path], object], Callable[[Path], Any], hostile.Damage | None]
KINDS: list[Kind] = [
    ("schedule.csv", _table, load_schedule, hostile.damage_lines),
    ("schedule.npz", lambda p: np.savez(p, t=T, snr=SNR), load_schedule, hostile.damage_npz),
    (
        "schedule.npy",
        lambda p: np.save(p, np.stack([T, SNR], axis=1)),
        load_schedule,
        hostile.damage_npy,
    ),
    (
        "bars.safetensors",
        lambda p: save_file({"alphas_cumprod": np.linspace(0.99, 0.01, 7)}, p),
        load_schedule,
        hostile.damage_safetensors,
    ),
    ("laws.safetensors", _contexts, load_contexts, hostile.damage_safetensors),
    ("laws.npz", _most_likely, load_contexts, hostile.damage_npz),
    (
        "certificate.json",
        lambda p: _certificate().save(p),
        _check,
        hostile.damage_json,
    ),
    ("search.json", _search, _search, hostile.damage_json),
    (
        "rows.txt",
        lambda p: p.write_text("1 2 3\n4 5\n0\n"),
        load_sequences,
        hostile.damage_lines,
    ),
    (
        "rows.json",
        lambda p: p.write_text("[[1, 2], [3], [0, 4, 5]]"),
        load_sequences,
        hostile.damage_json,
    ),
]
