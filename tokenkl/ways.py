"""`Ways`: which estimator found which values of an estimate, and what it decided by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from tokenkl._formats import conform


class Way(NamedTuple):
    """One way in which values were found.

    - `estimator`: its name, as `tokenkl.plan` shows it.
    - `settings`: names and values of what it chose by itself, as control variates.
    - `levels`: flat indices of the values that it had a part in; None for all of them.
    """

    estimator: str
    settings: tuple[tuple[str, tuple[str, ...]], ...] = ()
    levels: tuple[int, ...] | None = None


class Ways(tuple[Way, ...]):
    """Every way in which some value was found; where there are two at one level, they were added.

    As text: the names of the estimators, and what they chose at any level.

    Example:
        >>> import tokenkl as tk
        >>> points = tk.PointCodebook([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]])
        >>> found = tk.error_probability(points, [1.0, 400.0], key=0)
        >>> found.method.at(1)[0].estimator
        'rare-event sampling'
        >>> print(found[1].method)
        rare-event sampling
    """

    @staticmethod
    def of(given: str | Iterable[Way]) -> Ways:
        """By one estimator everywhere, or as given."""
        if isinstance(given, str):
            return Ways([Way(given)] if given else [])
        return given if isinstance(given, Ways) else Ways(given)

    def at(self, level: int) -> Ways:
        """Those of one value, by its flat index."""
        return Ways(way for way in self if way.levels is None or level in way.levels)

    def moved(self, origin: Int[np.ndarray, " values"]) -> Ways:
        """Of other values, each of which has been the one at `origin`."""
        out = []
        for way in self:
            if way.levels is not None:
                found = np.flatnonzero(np.isin(origin, way.levels))
                if found.size == 0 and origin.size:
                    continue
                way = way._replace(levels=None if found.size == origin.size else _ints(found))
            out.append(way)
        return Ways(out)

    @staticmethod
    def joined(size: int, parts: Iterable[tuple[Int[np.ndarray, " levels"], Ways]]) -> Ways:
        """Of `size` values, from the ways of those at some places each; they may be the same."""
        places: dict[tuple[Any, Any], list[np.ndarray]] = {}
        for where, ways in parts:
            for way in ways:
                levels = where if way.levels is None else where[list(way.levels)]
                places.setdefault((way.estimator, way.settings), []).append(levels)
        out = []
        for (estimator, settings), found in places.items():
            levels = np.unique(np.concatenate(found))
            if levels.size == 0 and size:
                continue
            everywhere = levels.size == size
            out.append(Way(estimator, settings, None if everywhere else _ints(levels)))
        return Ways(out)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain lists and tables; `from_json` takes them back."""
        return [
            {
                "estimator": way.estimator,
                "settings": {name: list(values) for name, values in way.settings},
                "levels": None if way.levels is None else list(way.levels),
            }
            for way in self
        ]

    @staticmethod
    def from_json(record: Any) -> Ways:
        """The ways that `to_json` described; a sentence, as older records have it, is one way.

        Raises:
            ValueError: anything else.
        """
        if isinstance(record, str):
            return Ways.of(record)
        ways = []
        for one in conform(record, list[dict[str, Any]], "method"):
            settings = conform(one["settings"], dict[str, tuple[str, ...]], "settings")
            levels = conform(one["levels"], tuple[int, ...] | None, "levels")
            estimator = conform(one["estimator"], str, "estimator")
            ways.append(Way(estimator, tuple(settings.items()), levels))
        return Ways(ways)

    def __str__(self) -> str:
        settings: dict[str, dict[str, dict[str, None]]] = {}
        for way in self:
            chosen = settings.setdefault(way.estimator, {})
            for name, values in way.settings:
                chosen.setdefault(name, {}).update(dict.fromkeys(values))
        return ", ".join(name + _text(chosen) for name, chosen in settings.items())


def _text(settings: Mapping[str, Iterable[str]]) -> str:
    parts = [f"{name}: {', '.join(sorted(values))}" for name, values in settings.items()]
    return f" ({'; '.join(parts)})" if parts else ""


def _ints(levels: np.ndarray) -> tuple[int, ...]:
    return tuple(levels.tolist())
