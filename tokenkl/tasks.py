"""Ground truth for estimators of mutual information: a token and its noisy observation.

X is the vector e_k of a token, Y = sqrt(snr) e_k + eps what a Gaussian channel makes of it. The
information I(X; Y) is a sum of one-dimensional integrals where tokens have independent parts that
are exact, so it is known to 1e-11 nats with millions of tokens and in 24 dimensions, for any
priors: no cached simulation stands behind it, it is found by `tk.mutual_information` when asked
for. Tasks have the interface of the bmi benchmark (package benchmark-mi; Czyz et al. 2023, arXiv
2306.11078): its estimators take them as they are.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypedDict, final

import numpy as np
from jaxtyping import Float

from tokenkl._files import PathLike, atomic_files
from tokenkl._formats import reading, refuse
from tokenkl._validation import as_float_array, check_choice, check_count, check_snr, reject
from tokenkl.channels.gaussian import sample
from tokenkl.codebooks import (
    FSQ,
    Codebook,
    OneHot,
    Product,
    ProductCodebook,
    load_codebook,
    save_codebook,
)
from tokenkl.codebooks.base import check_codebook
from tokenkl.estimate import Estimate
from tokenkl.information import exact_quantities, mutual_information

TASK_FILE = "a task in a .json file, with its codebook beside it in the .npz file of the same name"
#: Largest error of the truth, in nats.
TOLERANCE = 1e-11


@final
@dataclasses.dataclass(frozen=True, eq=False)
class TokenSampler:
    """Draws of (X, Y) and their information: a sampler of bmi."""

    codebook: Codebook
    snr: float

    @property
    def dim_x(self) -> int:
        """Coordinates of X."""
        return self.codebook.n

    @property
    def dim_y(self) -> int:
        """Coordinates of Y."""
        return self.codebook.n

    @property
    def dim_total(self) -> int:
        """Of both."""
        return self.dim_x + self.dim_y

    @functools.cached_property
    def information(self) -> Estimate:
        """I(X; Y) in nats, with a bound on its numerical error."""
        return mutual_information(self.codebook, self.snr)

    def mutual_information(self) -> float:
        """I(X; Y) in nats."""
        return float(self.information)

    def sample(
        self, n_points: int, rng: Any
    ) -> tuple[Float[np.ndarray, "N n"], Float[np.ndarray, "N n"]]:
        """Independent pairs in rows: vectors of tokens, and observations.

        Args:
            n_points: how many.
            rng: integer seed or JAX key.
        """
        check_count(n_points, "n_points")
        ids, y = sample(self.codebook, self.snr, n_points, key=rng)
        return self.codebook.points_at(ids), y


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A named sampler with a known answer.

    Example:
        >>> import tokenkl as tk
        >>> task = tk.tasks.load("fsq-3^8-snr4")
        >>> task.dim_x, task.dim_y, round(task.mutual_information, 9)
        (8, 8, 4.953155881)
        >>> x, y = task.sample(100, seed=0)
        >>> x.shape, y.shape
        ((100, 8), (100, 8))
    """

    id: str
    sampler: TokenSampler

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.sampler.codebook.label} at SNR {self.sampler.snr:g}"

    @property
    def params(self) -> dict[str, Any]:
        """SNR and number of tokens."""
        return {"snr": self.sampler.snr, "K": self.sampler.codebook.K}

    @property
    def dim_x(self) -> int:
        """Coordinates of X."""
        return self.sampler.dim_x

    @property
    def dim_y(self) -> int:
        """Coordinates of Y."""
        return self.sampler.dim_y

    @property
    def mutual_information(self) -> float:
        """I(X; Y) in nats, to `error`."""
        return self.sampler.mutual_information()

    @property
    def error(self) -> float:
        """Bound on the numerical error of `mutual_information`, in nats."""
        return float(self.sampler.information.numerical_error)

    def sample(
        self, n_samples: int, seed: Any
    ) -> tuple[Float[np.ndarray, "N n"], Float[np.ndarray, "N n"]]:
        """Independent pairs (X, Y) in rows; the same seed gives the same ones."""
        return self.sampler.sample(n_samples, seed)


def make(name: str, codebook: Codebook, snr: float) -> Task:
    """A task of your own.

    Args:
        name: its `id`.
        codebook: one whose information is exact: grids with product priors, one-hot tokens,
            products of such, points on a line.
        snr: signal-to-noise ratio, above 0.

    Raises:
        ValueError: a codebook that would have to be sampled, or no SNR above 0.

    Example:
        >>> import tokenkl as tk
        >>> tk.tasks.make("mine", tk.FSQ((8, 5, 5, 5)), 20.0).dim_x
        4
    """
    check_codebook(codebook)
    if "mutual_information" not in exact_quantities(codebook):
        expected = "a codebook whose information is exact, such as a grid with a product prior"
        reject("codebook", repr(codebook), expected)
    level = as_float_array("snr", check_snr(snr))
    if level.ndim or level == 0:
        reject("snr", snr, "one number above 0")
    return Task(name, TokenSampler(codebook, float(level)))


def list() -> tuple[str, ...]:
    """Names of the tasks that are ready.

    Example:
        >>> import tokenkl as tk
        >>> tk.tasks.list()[:2]
        ('bit-snr1', 'rare-bit-snr4')
    """
    return tuple(READY)


def load(which: PathLike) -> Task:
    """A task by its name, or from a .json file of `save`.

    Nothing is unpickled, and the truth is found anew: a file that claims another one is refused.

    Raises:
        ValueError: no such name, or a missing, damaged or foreign file.
    """
    if not isinstance(which, (str, os.PathLike)):
        reject("which", which, "the name of a task, or the path of a .json file")
    if Path(which).suffix.lower() != ".json":
        name = check_choice(str(which), list(), "which")
        return make(name, *READY[name]())
    with reading(which, TASK_FILE) as file:
        record = file.json(_Record)
        codebook = load_codebook(Path(which).with_suffix(".npz"))
        task = make(record["task_id"], codebook, record["task_params"]["snr"])
        found, claimed = task.mutual_information, record["mi_true"]
        if not abs(claimed - found) <= TOLERANCE + task.error:
            file.refuse(f"it claims {claimed!r} nats, and its codebook has {found!r}")
        if not record["dim_x"] == record["dim_y"] == codebook.n:
            file.refuse(f"it claims other dimensions than its codebook, which has {codebook.n}")
    return task


def save(task: Task, path: PathLike) -> None:
    """Write a task to a .json file, with its codebook in a .npz file of the same name.

    The .json file has the fields of bmi's task metadata (task_id, task_name, dim_x, dim_y, mi_true
    in nats, task_params), and mi_error, the bound on the error of mi_true. The codebook is as
    `tk.save_codebook` writes it. Both files appear, or none.

    Raises:
        ValueError: another suffix, or a folder that does not exist.

    Example:
        >>> import tempfile, tokenkl as tk
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tk.tasks.save(tk.tasks.load("bit-snr1"), f"{folder}/bit.json")
        ...     round(tk.tasks.load(f"{folder}/bit.json").mutual_information, 12)
        0.336830820347
    """
    target = Path(path)
    if target.suffix.lower() != ".json":
        refuse(path, TASK_FILE, f"its name ends in {target.suffix or 'no suffix'}")
    record: _Record = {
        "format": "tokenkl task",
        "version": 1,
        "task_id": task.id,
        "task_name": task.name,
        "dim_x": task.dim_x,
        "dim_y": task.dim_y,
        "mi_true": task.mutual_information,
        "mi_error": task.error,
        "task_params": {"snr": task.sampler.snr, "K": task.sampler.codebook.K},
    }
    with atomic_files() as new:
        save_codebook(task.sampler.codebook, new(target.with_suffix(".npz")))
        new(target).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


class _Params(TypedDict):
    snr: float
    K: int


class _Record(TypedDict):
    format: Literal["tokenkl task"]
    version: Literal[1]
    task_id: str
    task_name: str
    dim_x: int
    dim_y: int
    mi_true: float
    mi_error: float
    task_params: _Params


# ---- Ready made ----------------------------------------------------------------------------------


def _zipf(K: int) -> np.ndarray:
    law = 1 / np.arange(1, K + 1)
    found: np.ndarray = law / law.sum()
    return found


def _grid(levels: builtins.list[float], prior: builtins.list[float], n: int) -> ProductCodebook:
    """n coordinates, each with these levels and this prior."""
    return ProductCodebook([np.array(levels)] * n, [np.array(prior)] * n)


_SEVENTEEN = np.linspace(-1.0, 1.0, 17).tolist()
#: Name -> codebook and SNR. Few and many tokens, unequal priors, little information and all of it.
READY: dict[str, Callable[[], tuple[Codebook, float]]] = {
    "bit-snr1": lambda: (FSQ((2,)), 1.0),
    "rare-bit-snr4": lambda: (_grid([-1.0, 1.0], [0.98, 0.02], 1), 4.0),
    "fsq-3^8-snr0.1": lambda: (FSQ((3,) * 8), 0.1),
    "fsq-3^8-snr4": lambda: (FSQ((3,) * 8), 4.0),
    "fsq-3^8-snr100": lambda: (FSQ((3,) * 8), 100.0),
    "fsq-2^24-snr1": lambda: (FSQ((2,) * 24), 1.0),
    "fsq-10^6-snr100": lambda: (FSQ((10,) * 6), 100.0),
    "fsq-3^12-unequal-snr4": lambda: (_grid([-1.0, 0.0, 1.0], [0.45, 0.1, 0.45], 12), 4.0),
    "clusters-4^8-snr20": lambda: (_grid([-1.0, -0.9, 0.1, 1.0], [0.25] * 4, 8), 20.0),
    "zipf-17^4-snr20": lambda: (_grid(_SEVENTEEN, _zipf(17).tolist(), 4), 20.0),
    "onehot-7-snr4": lambda: (OneHot(7), 4.0),
    "onehot-7-zipf-snr60": lambda: (OneHot(7, _zipf(7)), 60.0),
    "onehot-7^3-zipf-snr10": lambda: (Product([OneHot(7, _zipf(7))] * 3), 10.0),
}
