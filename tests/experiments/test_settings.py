"""Settings: declared once, limited, written as they are read; and experiments from Python."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments import harness, settings
from experiments.settings import Settings, setting

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    whole: int = setting(3, "a", settings.least(0), settings.most(9))
    number: float = setting(0.5, "b", settings.least(0))
    flag: bool = setting(False, "c")
    name: str = setting("red", "d", settings.among("red", "dark, red", ""))
    list_of: tuple[float, ...] = setting((1.0, 2.0), "e", settings.increasing)
    cases: tuple[tuple[int, int], ...] = setting(((1, 2),), "f", settings.holding((1, 2)))
    names: tuple[str, ...] = setting(("red",), "g", may_be_empty=True)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("whole=7", 7),
        ("number=1e-3", 1e-3),
        ("number=2", 2.0),
        ("flag=true", True),
        ("name=", ""),
        ("name=dark, red", "dark, red"),
        ("list_of=-1, 0.5,3", (-1.0, 0.5, 3.0)),
        ("cases=1:2,30:4", ((1, 2), (30, 4))),
        ("names=", ()),
        ("names=red,blue", ("red", "blue")),
        ("names=dark, red;", ("dark, red",)),
        ("names=dark, red;blue;", ("dark, red", "blue")),
    ],
)
def test_what_is_typed_and_how_it_is_written(word: str, value: Any) -> None:
    name = word.split("=")[0]
    found = Config().typed([word])
    assert getattr(found, name) == value
    assert type(getattr(found, name)) is type(value)
    assert found == Config().changed(**{name: value})
    assert Config().typed(list(found.words())) == found
    assert list(found.unlike(Config())) == [name]
    assert list(found.words({name})) == [f"{name}={settings.as_text(value)}"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("whole=1.5", r"whole must be a whole number, such as whole=3; got '1\.5'"),
        ("whole=10", "whole must be at most 9; got 10"),
        ("number=nan", "number must be finite; got nan"),
        ("number=-1", r"number must be at least 0; got -1\.0"),
        ("flag=yes", "flag must be true or false, such as flag=false; got 'yes'"),
        ("name=blue", "name must be among red, dark, red, ; got 'blue'"),
        ("list_of=2,1", "list_of must be a list of numbers that increase; got 2.0,1.0"),
        ("list_of=", "list_of must be a list of at least one entry"),
        ("cases=1:2:3", "cases must be a list, such as cases=1:2; got '1:2:3'"),
        ("cases=2:2", "cases must be a list that holds 1:2; got 2:2"),
        ("colour=red", "a setting must be among whole, number, .*; got 'colour'"),
    ],
)
def test_what_cannot_be_is_said(word: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Config().typed([word])


def test_python_values_are_checked_as_well() -> None:
    assert Config(number=2, list_of=[1, 2]).list_of == (1.0, 2.0)  # type: ignore[arg-type]
    for given in ({"whole": 1.5}, {"whole": True}, {"number": math.inf}, {"name": 3}):
        with pytest.raises(ValueError, match=f"{next(iter(given))} must be"):
            Config().changed(**given)
    with pytest.raises(ValueError, match="a setting must be among"):
        Config().changed(n=6)


@pytest.mark.parametrize("name", experiments.NAMES)
def test_every_experiment_declares_its_settings(name: str) -> None:
    experiment = experiments.load(name)
    own = inspect.signature(experiments.run).parameters.keys() - {"settings"}
    for config in (experiment.config, experiment.smoke):
        assert experiment.config.typed(list(config.words())) == config
        assert all(config.words().values())  # the meanings
    fields = {field.name for field in dataclasses.fields(experiment.config)}
    assert not fields & own  # else `run` could not be told
    # What smoke changes can be typed, and is the same config.
    changes = experiment.smoke.unlike(experiment.config)
    assert experiment.config.typed(list(experiment.smoke.words(changes))) == experiment.smoke
    with pytest.raises(ValueError, match="a setting must be among"):
        experiments.run(name, no_such_setting=1)


# ---- From Python ---------------------------------------------------------------------------------


def test_run_computes_and_writes_only_where_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cases = [(2, 3, 20, 0), (2, 5, 20, 0)]
    found = experiments.run("nn_distance", cases=cases, seed=1)
    assert list(tmp_path.iterdir()) == []
    assert found.record["overrides"] == {"seed": 1, "cases": [list(case) for case in cases]}
    assert found.record["command"] == (
        "tokenkl reproduce nn_distance --set seed=1 --set cases=2:3:20:0,2:5:20:0"
    )
    stored = experiments.run("nn_distance", cases=cases, seed=1, folder=tmp_path / "new")
    assert stored.table.equals(found.table)
    record = json.loads((tmp_path / "new" / "nn_distance.json").read_text())
    assert record["facts"] == found.facts == stored.facts
    experiment = experiments.load("nn_distance")
    assert harness.is_drawn(experiment, folder=tmp_path / "new")
    found.figure()
    with pytest.raises(ValueError, match="the folder must be another than figures/"):
        experiments.run("nn_distance", smoke=True, folder=harness.FIGURES)
    with pytest.raises(ValueError, match="name must be one of"):
        experiments.run("nearest")


def test_smoke_is_a_set_of_overrides() -> None:
    experiment = experiments.load("fsq_in_the_wild")
    tiny = experiments.run("fsq_in_the_wild", smoke=True)
    assert tiny.record["overrides"] == experiment.smoke.unlike(experiment.config)
    same = experiments.run("fsq_in_the_wild", **tiny.record["overrides"])
    assert same.table.equals(tiny.table)
    assert same.record["command"] == tiny.record["command"]
    assert tiny.record["command"] == "tokenkl reproduce fsq_in_the_wild --smoke"


# ---- By itself -----------------------------------------------------------------------------------

SENTENCE = "Error: an experiment is not run by itself; in the folder of the source, run "


@pytest.mark.parametrize("name", experiments.NAMES)
def test_a_module_by_itself_says_what_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiments.load(name)
    monkeypatch.delitem(sys.modules, f"experiments.{name}")
    with pytest.raises(SystemExit) as left:
        runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    assert left.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"{SENTENCE}`python -m experiments {name}`")
    assert error.count("\n") == 1


def test_a_file_by_itself_says_what_to_do(tmp_path: Path) -> None:
    file = ROOT / "experiments" / "capacity.py"
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{SENTENCE}`python -m experiments capacity`")
