"""What the units have measured, put together over seeds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.speech.units import RESULTS, Cell
from tokenkl.tts.reports import SpeechReport


@dataclasses.dataclass(frozen=True)
class Results:
    """The finished units of a folder.

    - `units`: by name, the records of its seeds in order.
    """

    units: dict[str, list[dict[str, Any]]]

    @classmethod
    def load(cls, folder: Path = RESULTS / "units") -> Results:
        """Read all units.

        Raises:
            ValueError: none is there.
        """
        units: dict[str, list[dict[str, Any]]] = {}
        for path in folder.glob("*.json"):
            units.setdefault(path.stem.rsplit("-", 1)[0], []).append(json.loads(path.read_text()))
        for records in units.values():
            records.sort(key=lambda record: record["made_from"]["seed"])
        if not units:
            raise ValueError(
                f"{folder} holds no results; make them with "
                "`python -m experiments.speech geometry`."
            )
        return cls(units)

    def names(self, wanted: Sequence[str], cell: Cell) -> list[str]:
        """Those of the wanted units that have this cell."""
        return [name for name in wanted if self._records(name, cell)]

    def report(self, name: str, cell: Cell, seeds: Sequence[int] | None = None) -> SpeechReport:
        """What was heard in one cell; the seeds are those of training, all of them when None.

        Raises:
            ValueError: no seed has this cell.
        """
        records = [
            record
            for record in self._records(name, cell)
            if seeds is None or record["made_from"]["seed"] in seeds
        ]
        if not records:
            raise ValueError(f"No unit {name} has the cell {cell.label}.")
        parts = [SpeechReport.from_json(record["cells"][cell.label]) for record in records]
        return SpeechReport.joined(name, parts)

    def bound(self, name: str, budget: int) -> Float[np.ndarray, "sentences seeds"]:
        """Variational bounds in nats per token."""
        records = self.units[name]
        return np.stack([r["likelihood"][f"{budget}"]["bound"] for r in records], axis=1)

    def tokens(self, name: str, budget: int) -> Float[np.ndarray, " sentences"]:
        """Tokens of the sentences of `bound`."""
        return np.array(self.units[name][0]["likelihood"][f"{budget}"]["tokens"], float)

    def _records(self, name: str, cell: Cell) -> list[dict[str, Any]]:
        return [r for r in self.units.get(name, []) if cell.label in r["cells"]]
