"""Which geometry wins on whose law, and does the excess of an affine denoiser in context say so?

Laws of two or three tokens that live in the coordinates of FSQ, of a permuted grid, of a lattice or
of random points, and laws that no geometry explains; seven tokenizations of equal power meet all of
them, as networks trained alike. Beside what was trained stands nu, the excess cross-entropy of the
best affine denoiser in context (docs/theory/context.md, C4), integrated over log SNR, for which
nothing is trained.

Written before any of these networks was trained (other seeds of such laws had been seen in a
pilot, which named the hypotheses):

- H1, winners: on a law in the coordinates of a geometry that geometry has the smallest KL(data ||
  generated) after 25 DDIM steps of all that are compared, and the smallest integral of nu.
  Endpoint: in how many of the cells (case, law), by means over seeds, the tokenization that nu
  names has the smallest KL; and the difference in log KL between FSQ and the law's own geometry,
  with a t interval over seeds, which is expected above 0.
- H2, ranks: within a case, Spearman correlation of the integral of nu with the excess cross-entropy
  of the trained network, over all cells (law, tokenization, seed), at least 0.8.
- H3, two terms: KL after N steps = KL of the exact denoiser after N steps + c int nu dlog snr, with
  one c for a case that is fitted on FSQ's law alone (least squares in log KL). Endpoints: Spearman
  and root mean square error in log KL on the four other laws, over (N, law, tokenization), means
  over seeds; expected at least 0.9 and at most 0.35, and better than the exact term alone.
- H4: c is not the same in all cases.
- H5: one-hot's excess is more than what nu says by the c of the other tokenizations.

All intervals are over seeds (bootstrap of 95 %), with which the laws change too.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments.settings import Settings, among, as_text, holding, increasing, least, most, setting
from experiments.toy import data
from experiments.toy.laws import GEOMETRIES, LAWS, lanes, trained
from tokenkl._files import atomic_path
from tokenkl._validation import reject

ROOT = Path(__file__).resolve().parent.parent


def _cases(name: str, cases: Any) -> None:
    """Laws whose sequences can be listed and counted."""
    for base, n, length in cases:
        if min(base, n) < 1 or base < 2 or not 2 <= length <= 3 or base ** (n * length) > 1000:
            expected = "LEVELS:N:LENGTH of 2 or 3 tokens and at most 1000 sequences"
            reject(name, as_text(cases), expected)


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Sizes of the laws, the network, the training and the evaluation."""

    seed: int = setting(20261128, "of all random numbers", least(0))
    seeds: int = setting(6, "laws of each kind", least(2))
    cases: tuple[tuple[int, int, int], ...] = setting(
        ((2, 3, 2), (3, 2, 2), (2, 3, 3)), "LEVELS:N:LENGTH of grids and sequences", _cases
    )
    laws: tuple[str, ...] = setting(LAWS, "kinds of laws", among(*LAWS), holding(data.FSQ))
    geometries: tuple[str, ...] = setting(
        GEOMETRIES, "what is compared", among(*GEOMETRIES), holding(data.FSQ)
    )
    budgets: tuple[int, ...] = setting(
        (1200, 3600), "training steps after which it is measured", least(1), increasing
    )
    steps: tuple[int, ...] = setting(
        (2, 3, 5, 8, 12, 25), "DDIM steps", least(1), holding(25), increasing
    )
    samples: int = setting(2**13, "sequences generated", least(2))
    batch: int = setting(128, "sequences of a training step", least(1))
    rate: float = setting(3e-3, "learning rate", least(1e-6), most(1))
    width: int = setting(64, "of the network", least(1))
    depth: int = setting(2, "of the network", least(1))
    gap_batch: int = setting(2**11, "sequences for the excess cross-entropy", least(2))
    pool: float = setting(
        1e-3, "least probability of a group of sequences that is counted", least(1e-9), most(0.5)
    )


SMOKE = Config(
    seeds=2,
    cases=((3, 1, 2),),
    laws=(data.FSQ, data.PERMUTED),
    geometries=(data.FSQ, data.PERMUTED, data.ONE_HOT),
    budgets=(10, 20),
    steps=(2, 25),
    samples=2**9,
    batch=32,
    width=16,
    gap_batch=64,
)

#: Laws of each kind that are trained in one go.
TOGETHER = 2


class Unit(NamedTuple):
    """What is trained in one go, and kept."""

    case: tuple[int, int, int]
    geometry: str
    first: int

    @property
    def file_name(self) -> str:
        """Of the stored rows, without suffix."""
        case = "x".join(map(str, self.case))
        return f"{case}-{self.geometry.replace(' ', '')}-{self.first}"


def units(config: Config) -> list[Unit]:
    """All of them, the first laws of every kind first."""
    return [
        Unit(case, geometry, first)
        for first in range(0, config.seeds, TOGETHER)
        for case in config.cases
        for geometry in config.geometries
    ]


def rows_of(config: Config, unit: Unit, progress: Any) -> pd.DataFrame:
    """The rows of a unit, from where finished ones are kept if it is there."""
    stored = _work_folder(config) / f"{unit.file_name}.csv"
    if not stored.exists():
        base, n, length = unit.case
        numbers = min(TOGETHER, config.seeds - unit.first)
        every = lanes(config.laws, base, n, length, config.seed, unit.first + numbers)
        rows = trained(
            unit.geometry,
            [lane for lane in every if lane[1] >= unit.first],
            base=base,
            n=n,
            length=length,
            seed=config.seed,
            **{name: getattr(config, name) for name in TRAINED},
            progress=progress,
        )
        with atomic_path(stored) as path:
            rows.to_csv(path, index=False, float_format="%.8g")
    return pd.read_csv(stored)  # the same digits whether or not it was interrupted


#: Settings that a unit depends on.
TRAINED = (
    "budgets", "steps", "samples", "batch", "rate", "width", "depth", "gap_batch", "pool",
)  # fmt: skip


@functools.lru_cache
def _work_folder(config: Config) -> Path:
    """Where finished units of this code, and of settings that matter to them, are kept."""
    sources = sorted((ROOT / "experiments" / "toy").glob("*.py"))
    settings = {name: getattr(config, name) for name in ("seed", "laws", *TRAINED)}
    text = json.dumps(settings).encode()
    digest = hashlib.sha256(text + b"".join(path.read_bytes() for path in sources)).hexdigest()
    folder = ROOT / "build" / "context_laws" / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder
