"""Every experiment runs in smoke mode, is listed, and draws from its stored results alone."""

import json
import re
from pathlib import Path

import pytest

import experiments
from experiments import harness
from experiments.comparison import IDENTICAL, WITHIN

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow  # a minute in all
@pytest.mark.parametrize("name", experiments.NAMES)
def test_smoke(name: str, tmp_path: Path) -> None:
    experiment = experiments.load(name)
    assert experiment.name == name
    steps: list[float] = []
    harness.run(
        experiment,
        experiment.smoke,
        folder=tmp_path,
        progress=lambda done, total: steps.append(done / total),
    )
    assert steps, "no progress was reported"
    assert 0 <= min(steps) <= max(steps) <= 1 + 1e-9
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert record["overrides"]
    assert record["claim"]
    assert harness.is_current(experiment, experiment.smoke, folder=tmp_path)
    assert not harness.is_current(experiment, experiment.config, folder=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {f"{name}{suffix}" for suffix in (".json", ".csv", ".pdf", ".png")}
    for suffix in (".pdf", ".png"):
        (tmp_path / f"{name}{suffix}").unlink()
    harness.draw(experiment, folder=tmp_path)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before == after


@pytest.mark.parametrize("name", experiments.NAMES)
def test_committed_results_are_of_this_config(name: str) -> None:
    """What is shown under figures/ was computed by the code and config that stand here."""
    experiment = experiments.load(name)
    assert harness.is_current(experiment, experiment.config), f"run `tokenkl reproduce {name}`"
    assert harness.is_drawn(experiment), f"run `tokenkl reproduce {name} --plot-only`"


@pytest.mark.slow  # ten seconds in all
@pytest.mark.parametrize("name", experiments.QUICK)
def test_figures_are_found_again(name: str) -> None:
    """What `tokenkl reproduce --check --quick` looks at."""
    experiment = experiments.load(name)
    found = harness.run(experiment)
    compared = harness.check(experiment, found.record, found.text)
    assert compared.verdict in (IDENTICAL, WITHIN), compared


@pytest.mark.parametrize("name", experiments.NAMES)
def test_errors_are_columns(name: str) -> None:
    experiment = experiments.load(name)
    columns = set((ROOT / "figures" / f"{name}.csv").read_text().partition("\n")[0].split(","))
    assert set(experiment.errors) <= columns
    for error in experiment.errors.values():
        ends = error if isinstance(error, tuple) else (error,)
        assert {end for end in ends if isinstance(end, str)} <= columns


@pytest.mark.parametrize("name", experiments.NAMES)
def test_listed(name: str) -> None:
    assert f"tokenkl reproduce {name}" in (ROOT / "experiments" / "README.md").read_text()


@pytest.mark.parametrize("name", experiments.NAMES)
def test_no_times_stand_in_a_table(name: str) -> None:
    """Whatever differs from run to run is a fact of the record, not a row."""
    table = (ROOT / "figures" / f"{name}.csv").read_text()
    words = set(re.findall(r"[a-z]+", table.lower()))
    assert not words & {"seconds", "ms", "time", "cpu", "rtf", "duration"}


def test_draw_without_results(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no stored results"):
        harness.draw(experiments.load("path_kl"), folder=tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        '{"config": {}}',
        "[]",
        "null",
        '{"config": {}, "versions": [], "facts": {}}',
        '{"config": {}, "versions": {}, "facts": {}, "files": {}}',
        '{"config": {}, "versions": {}, "facts": {}, "files": ["nn_distance.csv"]}',
    ],
)
def test_damaged_record(damage: str, tmp_path: Path) -> None:
    experiment = experiments.load("nn_distance")
    (tmp_path / "nn_distance.csv").write_text("a,b\n1,2\n")
    (tmp_path / "nn_distance.json").write_text(damage)
    assert not harness.is_current(experiment, experiment.config, folder=tmp_path)
    assert not harness.is_drawn(experiment, folder=tmp_path)
    with pytest.raises(ValueError, match="has no stored results"):
        harness.draw(experiment, folder=tmp_path)
