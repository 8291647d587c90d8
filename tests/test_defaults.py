"""Defaults are promises: scripts, saved settings and published numbers rest on them.

tests/references/defaults.json lists those of all public functions, classes and commands, and the
presets of speech. A change that is meant goes along with `python tests/test_defaults.py`, and shows
in the difference.
"""

import dataclasses
import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer.main

import tokenkl

REFERENCE = Path(__file__).parent / "references" / "defaults.json"
#: Rooms for the project's own use: what they hold has no promise to keep.
INTERNAL = (
    *(
        f"tokenkl.information.{name}"
        for name in ("exact", "sampling", "rare", "lattice", "residual")
    ),
    *("tokenkl.numerics", "tokenkl.halfspaces", "tokenkl.cli.tables", "tokenkl.cli.typed"),
)
PLAIN = (bool, int, float, str, tuple, type(None))


def _modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(tokenkl.__path__, "tokenkl."):
        private = any(part.startswith("_") for part in found.name.split("."))
        if not private and not found.name.startswith(INTERNAL):
            yield found.name


def _callables(module: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """What a module defines and shows, and the public methods of its classes."""
    for name, thing in vars(importlib.import_module(module)).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module:
            continue
        if inspect.isclass(thing) or inspect.isroutine(thing):
            yield f"{module}.{name}", thing
        if inspect.isclass(thing):
            for method, function in vars(thing).items():
                plain = getattr(function, "__func__", function)  # of class methods
                if not method.startswith("_") and inspect.isfunction(plain):
                    yield f"{module}.{name}.{method}", plain


def _commands(command: Any, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    for child in getattr(command, "commands", {}).values():
        yield from _commands(child, f"{name} {child.name}")
    options = {one.name: repr(one.default) for one in command.params if not one.required}
    yield name, {key: value for key, value in options.items() if not value.startswith("<")}


def defaults() -> dict[str, dict[str, str]]:
    found = {}
    for module in _modules():
        for name, thing in _callables(module):
            try:
                parameters = inspect.signature(thing).parameters.values()
            except (TypeError, ValueError):  # types without a signature
                continue
            found[name] = {
                one.name: repr(one.default)
                for one in parameters
                if one.default is not one.empty and isinstance(one.default, PLAIN)
            }
    from tokenkl.cli.commands import app

    found |= dict(_commands(typer.main.get_command(app), "tokenkl"))
    from tokenkl.tts.ar import AR_SIZES
    from tokenkl.tts.recipes import _CORPORA, RECIPES
    from tokenkl.tts.tokenizers import TOKENIZERS

    sizes = {name: make(6561, 35) for name, make in AR_SIZES.items()}
    for name, config in (RECIPES | TOKENIZERS | sizes | _CORPORA).items():
        fields = dataclasses.asdict(config)
        found[f"preset {name}"] = {field: repr(value) for field, value in fields.items()}
    return {name: given for name, given in sorted(found.items()) if given}


def test_defaults_are_those_that_were_promised() -> None:
    promised = json.loads(REFERENCE.read_text())
    found = defaults()
    assert {name: found.get(name) for name in promised} == promised
    assert found == promised, "new ones: python tests/test_defaults.py writes them down"


if __name__ == "__main__":
    REFERENCE.write_text(json.dumps(defaults(), indent=1) + "\n")
