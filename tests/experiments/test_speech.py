"""The speech experiments end to end in small: trained, stopped, gone on with, put together."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.speech import predictors
from experiments.speech.__main__ import NAMES, _chosen, main
from experiments.speech.plans import PLANS
from experiments.speech.results import Results
from experiments.speech.units import (
    OPTIMUM,
    RESULTS,
    Cell,
    Evidence,
    Material,
    Settings,
    Unit,
    run_unit,
)
from tokenkl import FSQ, OneHot
from tokenkl.tts.recipes import Recipe, Workspace
from tokenkl.tts.training import PRESETS

SIZES = {"width": 16, "heads": 2, "depth": 1, "text_width": 8, "text_blocks": 1}
SETTINGS = Settings(
    corpus="few",
    tokenizer_steps=3,
    changes=(*SIZES.items(), ("output_prior", False)),
    training=dataclasses.replace(
        PRESETS["tiny"], steps=6, batch=4, warm_up=2, checkpoint_every=2, snapshots=(3, 6)
    ),
    sentences=3,
    bound_sentences=3,
    bound_draws=2,
    snr_points=3,
)
CELLS = (Cell(3, 2), Cell(6, 3, "log-snr"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("speech")
    return Workspace(folder, corpora=folder / "corpora", progress=lambda done, total: None)


@pytest.fixture(scope="module")
def material(workspace: Workspace) -> Material:
    return Material(workspace, Recipe(corpus="few", tokenizer_steps=3))


def test_only_what_there_is() -> None:
    names = ["ar-0", "diffusion-0", "diffusion-more-0"]
    assert _chosen(names, "") == names
    assert _chosen(names, "ar,diffusion-m") == ["ar-0", "diffusion-more-0"]
    with pytest.raises(ValueError, match=r"--only must be .* of ar-0, .* got 'nos'"):
        _chosen(names, "nos")


@pytest.mark.parametrize("what", sorted(NAMES))
def test_a_name_that_is_none_leaves_no_folder(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = ("--folder", f"{tmp_path}/runs", "--results", f"{tmp_path}/results")
    monkeypatch.setattr("sys.argv", ["speech", what, "--only", "nosuch", *folders])
    with pytest.raises(ValueError, match=r"--only must be .* got 'nosuch'"):
        main()
    monkeypatch.setattr("sys.argv", ["speech", what, "--share", "2/2", *folders])
    with pytest.raises(ValueError, match=r"--share must be i/n .* got '2/2'"):
        main()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", sorted({plan.folder for plan in PLANS.values()}))
def test_stored_units_are_those_of_their_plans(folder: str) -> None:
    """Else they would be refused, and trained anew."""
    plans = [plan for plan in PLANS.values() if plan.folder == folder]
    wanted = {
        unit.label: {
            "recipe": {k: v for k, v in unit.recipe(plan.settings).to_json().items() if v},
            "settings": plan.settings.to_json(),
        }
        for plan in plans
        for unit in plan.units
    }
    stored = sorted((RESULTS / folder).glob("*.json"))
    assert stored
    for path in stored:
        made_from = json.loads(path.read_text())["made_from"]
        found = {k: v for k, v in made_from["recipe"].items() if v}
        assert {"recipe": found, "settings": made_from["settings"]} == wanted[path.stem], path.stem


def test_cells_are_told_apart() -> None:
    """By all that they differ in, and as they were called before they had options."""
    cells = (
        Cell(6, 2), Cell(6, 2, schedule="x"), Cell(6, 2, options=(("sampler", "ancestral"),)),
        Cell(6, 2, options=(("sampler", "ancestral"), ("decision", "sample"))),
    )  # fmt: skip
    assert len({cell.label for cell in cells}) == len(cells)
    assert [cell.label for cell in cells[:2]] == ["6-2-uniform", "6-2-uniform-x"]


@pytest.mark.slow
def test_units_are_measured_once_and_put_together(
    workspace: Workspace, material: Material, tmp_path: Path
) -> None:
    lines: list[str] = []
    units = [Unit(name, seed, changes) for seed in (0, 1) for name, changes in (
        ("fsq", ()), ("one-hot", (("geometry", "one-hot"), ("schedule", "information"))),
    )]  # fmt: skip

    def run(cells: tuple[Cell, ...]) -> None:
        for unit in units:
            run_unit(unit, SETTINGS, cells, workspace, tmp_path, lambda _: material, lines.append)

    run(CELLS[:1])
    assert len(lines) == 4
    stored = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    run(CELLS)
    assert len(lines) == 8
    for path in tmp_path.iterdir():  # what was there stays
        again = json.loads(path.read_text())
        first = stored[path.name]["cells"][CELLS[0].label]
        assert again["cells"][CELLS[0].label] == first
    run(CELLS)
    assert len(lines) == 8
    with pytest.raises(ValueError, match="holds another experiment"):
        run_unit(
            units[0], dataclasses.replace(SETTINGS, guidance=0.0), CELLS, workspace, tmp_path,
            lambda _: material, lines.append,
        )  # fmt: skip
    results = Results.load(tmp_path)
    assert results.names(("fsq", "one-hot", "vq"), CELLS[1]) == ["fsq", "one-hot"]
    report = results.report("fsq", CELLS[1])
    assert report.seeds == (0, 1)
    assert report.measurements["errors_unigram"].shape == (3, 2)
    bound = results.bound("one-hot", 6)
    assert bound.shape == (3, 2)
    # Hardly trained: above the entropy of equally likely tokens, and not far.
    assert (bound > 0.9 * np.log(6561)).all()
    assert (bound < 2 * np.log(6561)).all()


@pytest.mark.slow
def test_units_with_evidence_and_labels(
    workspace: Workspace, material: Material, tmp_path: Path
) -> None:
    """By an output prior and labels that were found; what is heard is not what was chosen on."""
    settings = dataclasses.replace(
        SETTINGS, changes=tuple(SIZES.items()), view="power", first=2, evidence=Evidence((2, 3), 4),
        judges=("bigram",),
    )  # fmt: skip
    unit = Unit("relabelled", 0, labels="relabelled")
    cells = (Cell(6, 2, options=(("sampler", "ancestral"),)),)
    run_unit(unit, settings, cells, workspace, tmp_path, lambda _: material, lambda _: None)
    found = json.loads((tmp_path / "relabelled-0.json").read_text())
    assert found["made_from"]["labels"]["name"] == "relabelled"
    assert {steps: len(row) for steps, row in found["evidence"]["6"].items()} == {"2": 4, "3": 4}
    # The network starts at what is known of a token by itself: well below what others begin with.
    bound = np.array(found["likelihood"]["6"]["bound"])
    assert (bound < 0.9 * np.log(6561)).all()
    assert "errors_bigram" in found["cells"][cells[0].label]["measurements"]
    assert "errors_unigram" not in found["cells"][cells[0].label]["measurements"]
    spoken = found["cells"][cells[0].label]["texts"]
    assert spoken == [one.text for one in material.test[2:5]]


@pytest.mark.slow
def test_units_to_their_optimum(workspace: Workspace, material: Material, tmp_path: Path) -> None:
    """The weights of the smallest validation loss; budgets that training did not reach are left."""
    settings = dataclasses.replace(
        SETTINGS,
        training=dataclasses.replace(
            SETTINGS.training, steps=40, learning_rate=0.1, valid_every=2, snapshots=(2, 40)
        ),
        patience=2,
        evidence=Evidence((2,), 3),
    )
    cells = (Cell(OPTIMUM, 2), Cell(2, 2), Cell(40, 2))
    unit, lines = Unit("best", 0), list[str]()

    def run() -> dict[str, Any]:
        run_unit(unit, settings, cells, workspace, tmp_path, lambda _: material, lines.append)
        found: dict[str, Any] = json.loads((tmp_path / "best-0.json").read_text())
        return found

    found = run()
    assert len(lines) == 2
    assert list(found["cells"]) == [cells[0].label, cells[1].label]
    assert set(found["evidence"]) == {OPTIMUM, "2"}
    steps, losses = np.transpose(found["validation"])
    assert found["optimum"]["step"] == steps[losses.argmin()]
    assert found["optimum"]["loss"] == pytest.approx(losses.min(), abs=1e-5)
    assert found["optimum"]["ended"] == steps[-1] < 40
    assert run() == found
    assert len(lines) == 2


@pytest.mark.slow
def test_neighbours_on_the_grid_sound_more_alike_than_any(material: Material) -> None:
    grid = predictors.unlike_neighbours(material.tokenizer.codebook(), material, key=0, swaps=60)
    any_token = predictors.unlike_neighbours(OneHot(6561), material, key=0, swaps=60)
    assert grid < 0.8 * any_token


def test_neighbours() -> None:
    rng = np.random.default_rng(0)
    points = np.asarray(FSQ((3, 3)).points)
    found = {predictors._neighbour(points, 9, 4, rng) for _ in range(50)}
    distances = ((points - points[4]) ** 2).sum(axis=1)
    assert found == set(np.flatnonzero(np.isclose(distances, distances[distances > 0].min())))
    assert 4 not in {predictors._neighbour(None, 9, 4, rng) for _ in range(50)}


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"python -m experiments\.speech geometry"):
        Results.load(tmp_path)
