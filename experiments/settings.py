"""Settings of an experiment: fields of a frozen dataclass, each with its meaning and its limits.

They are declared once, by `setting`, and checked whenever a config is made: in the code, from
Python, or out of the words `NAME=VALUE` of a command line.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, Self, TypeVar

from tokenkl._formats import conform
from tokenkl._validation import reject

T = TypeVar("T")

#: Called with the name of a setting and its value; raises by `reject`.
Check = Callable[[str, Any], object]

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


def setting(default: T, meaning: str, *checks: Check, may_be_empty: bool = False) -> T:
    """A field of `Settings`; `meaning` is what `--list-settings` says of it."""
    about = {"meaning": meaning, "checks": checks, "may_be_empty": may_be_empty}
    return dataclasses.field(default=default, metadata=about)


def least(bound: float) -> Check:
    """No number is below the bound."""

    def check(name: str, value: Any) -> None:
        if min(leaves(value)) < bound:
            reject(name, value, f"at least {bound:g}")

    return check


def most(bound: float) -> Check:
    """No number is above the bound."""

    def check(name: str, value: Any) -> None:
        if max(leaves(value)) > bound:
            reject(name, value, f"at most {bound:g}")

    return check


def among(*words: str) -> Check:
    """Every name is one of these."""

    def check(name: str, value: Any) -> None:
        for word in leaves(value):
            if word not in words:
                reject(name, repr(word), "among " + ", ".join(words))

    return check


def holding(*entries: Any) -> Check:
    """What the findings are about is not left out."""

    def check(name: str, value: Any) -> None:
        if not set(entries) <= set(value):
            reject(name, as_text(value), "a list that holds " + as_text(entries))

    return check


def increasing(name: str, value: Any) -> None:
    """Each number is above the one before it."""
    if any(b <= a for a, b in itertools.pairwise(value)):
        reject(name, as_text(value), "a list of numbers that increase")


def leaves(value: Any) -> Iterator[Any]:
    """A number or a name, or all that stand in a list or in lists of a list."""
    if isinstance(value, tuple):
        for one in value:
            yield from leaves(one)
    else:
        yield value


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an experiment may be told; see `setting`.

    Raises:
        ValueError: a value of another type than its field's, or beyond the limits.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config(Settings):
        ...     steps: tuple[int, ...] = setting((2, 4), "numbers of steps", least(1))
        >>> Config().changed(steps=[8]) == Config().typed(["steps=8"]) == Config((8,))
        True
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            name, about = field.name, field.metadata
            value = conform(getattr(self, name), hints[name], name)
            if value == () and not about["may_be_empty"]:
                reject(name, "an empty one", "a list of at least one entry")
            for one in leaves(value):
                if isinstance(one, float) and not math.isfinite(one):
                    reject(name, value, "finite")
            if value != ():
                for check in about["checks"]:
                    check(name, value)
            object.__setattr__(self, name, value)

    def changed(self, **given: Any) -> Self:
        """The same with other values of some settings.

        Raises:
            ValueError: a setting that is not there, or a value that it cannot have.
        """
        for name in given:
            self._field(name)
        return dataclasses.replace(self, **given)

    def typed(self, words: Sequence[str]) -> Self:
        """`changed`, from words such as `steps=2,4,8`.

        Entries of a list have commas between them (semicolons, where an entry holds a comma), and
        parts of an entry colons: `cases=2:5,3:4`.
        """
        given: dict[str, Any] = {}
        hints = typing.get_type_hints(type(self))
        for word in words:
            name, equals, text = word.partition("=")
            default = self._field(name).default
            form = f"{name}={as_text(default)}"
            if not equals:
                reject("a setting", repr(word), f"NAME=VALUE, such as {form}")
            if name in given:
                reject(name, repr(word), "set once")
            try:
                given[name] = _from_text(text, hints[name])
            except (ValueError, KeyError):
                kind = WORDS.get(hints[name], "a list")
                reject(name, repr(text), f"{kind}, such as {form}")
        return self.changed(**given)

    def check_rising(self, low: str, high: str) -> None:
        """The second setting is above the first."""
        if not getattr(self, low) < getattr(self, high):
            reject(high, getattr(self, high), f"above {low}, which is {getattr(self, low)}")

    def unlike(self, other: Settings) -> dict[str, Any]:
        """The settings, as JSON has them, in which this differs from another."""
        own, others = dataclasses.asdict(self), dataclasses.asdict(other)
        return {name: value for name, value in own.items() if value != others[name]}

    def words(self, names: Container[str] | None = None) -> dict[str, str]:
        """NAME=VALUE, as they are typed, and their meanings."""
        return {
            f"{field.name}={as_text(getattr(self, field.name))}": field.metadata["meaning"]
            for field in dataclasses.fields(self)
            if names is None or field.name in names
        }

    def _field(self, name: str) -> dataclasses.Field[Any]:
        fields = {field.name: field for field in dataclasses.fields(self)}
        if name not in fields:
            reject("a setting", repr(name), "among " + ", ".join(fields))
        return fields[name]


def as_text(value: Any, separator: str = ",") -> str:
    """A value as it is typed; see `Settings.typed`."""
    if isinstance(value, tuple):
        entries = [as_text(one, ":") for one in value]
        if any("," in entry for entry in entries):
            return "".join(f"{entry};" for entry in entries)
        return separator.join(entries)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from_text(text: str, kind: Any, separator: str = ",") -> Any:
    """What `as_text` wrote; ValueError or KeyError where it did not write this."""
    parts = typing.get_args(kind)
    if parts:
        words = text.removesuffix(";").split(";" if ";" in text else separator) if text else []
        kinds = parts if parts[-1] is not Ellipsis else parts[:1] * len(words)
        pairs = zip(words, kinds, strict=True)
        return tuple(_from_text(word.strip(), one, ":") for word, one in pairs)
    return {"true": True, "false": False}[text] if kind is bool else kind(text)
