"""One unit is one trained model with everything that was measured of it, in one JSON file.

A finished unit is never trained again, and an interrupted one goes on where it was: at its last
checkpoint, or at the first evaluation that is missing.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from experiments.speech.labels import labelled_grid
from experiments.speech.noise import equal_steps, origin, table_of
from tokenkl._files import atomic_path
from tokenkl._random import generator
from tokenkl.tts.ar import AR
from tokenkl.tts.audio import Utterance
from tokenkl.tts.cdcd import CDCD, best_bound
from tokenkl.tts.codec import own_tokenizer
from tokenkl.tts.data import Example, examples_of, make_batch
from tokenkl.tts.evaluation import Spoken, evaluate
from tokenkl.tts.geometry import View
from tokenkl.tts.judge import Grammar
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import Recipe, Workspace, new_model
from tokenkl.tts.training import FINAL, TrainConfig, read_log, read_weights, train
from tokenkl.tts.voice import Voice

#: Where finished units are kept.
RESULTS = Path(__file__).resolve().parent.parent / "data" / "speech"


#: Training steps of a snapshot, or those with the smallest validation loss.
OPTIMUM: Literal["optimum"] = "optimum"
Budget = int | Literal["optimum"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One evaluation by listening.

    - `budget`: training steps of the snapshot, or `OPTIMUM`.
    - `steps`, `grid`: of the sampler.
    - `schedule`: whose time equal steps are of, where not the network's own; see `table_of`.
    - `options`: of `CDCD.generate`, where they are not its own; guidance is that of the settings.
    """

    budget: Budget
    steps: int
    grid: str = "uniform"
    schedule: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        own = f"{self.budget}-{self.steps}-{self.grid}"
        more = () if self.schedule is None else (self.schedule,)
        return "-".join((own, *more, *(value for _, value in self.options)))


TRAINING = TrainConfig(
    steps=200, batch=16, learning_rate=2e-3, warm_up=20, decay="constant", ema=0.97,
    checkpoint_every=25, log_every=20, valid_every=10**9, snapshots=(75, 100, 200),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The evidence bound of the sampler of N steps, a sentence; see `Voice.evidence`.

    - `steps`: numbers of steps, equal in diffusion time.
    - `sentences`: of the test split.
    - `draws`: of the noise, the same for all models of one dimension and one tokenizer.
    """

    steps: tuple[int, ...] = (5, 12, 25)
    sentences: int = 48
    draws: int = 2


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all units of an experiment share.

    - `changes`, `training`: of the models; the snapshots are the budgets.
    - `patience`: of the training, see `train`; None for all steps.
    - `view`: what is equal between geometries, see `place_tokens`.
    - `sentences`: of the test split that are spoken in every cell, from number `first` on.
    - `heard`: the split that they are taken from, where not the test split.
    - `judges`: who hears them.
    - `text`: what networks read.
    - `bound_sentences`, `bound_draws`: for the variational bound of every budget.
    - `snr_points`: noise levels, over the range of the bound, for the cross-entropy.
    """

    corpus: str = "jittered"
    tokenizer_steps: int = 1200
    changes: tuple[tuple[str, Any], ...] = (
        ("width", 128),
        ("depth", 4),
        ("text_width", 64),
        ("text_blocks", 1),
        ("output_prior", False),
    )
    view: View = "raw"
    training: TrainConfig = TRAINING
    patience: int | None = None
    first: int = 0
    sentences: int = 24
    heard: str | None = None
    evidence: Evidence | None = None
    bound_sentences: int = 16
    bound_draws: int = 16
    snr_points: int = 12
    guidance: float = 0.5
    judges: tuple[Grammar, ...] = ("unigram",)
    text: Literal["phonemes", "characters"] = "phonemes"

    def to_json(self) -> dict[str, Any]:
        """As plain values; what is newer than stored records is named only where it is used."""
        made = json.loads(json.dumps(dataclasses.asdict(self)))
        usual = {"heard": None, "judges": ["unigram"], "text": "phonemes", "patience": None}
        return {k: v for k, v in made.items() if k not in usual or v != usual[k]}


@dataclasses.dataclass(frozen=True)
class Unit:
    """One model.

    - `name`: of its file, without the seed.
    - `recipe_changes`: fields of `Recipe` that differ from the settings of the experiment.
    - `labels`: in place of the recipe's geometry, the grid 3^8 whose points belong to the tokens
      that this file of `labels.py` says.
    - `noise`: in place of the recipe's schedule, that of a file of `noise.py`.
    """

    name: str
    seed: int
    recipe_changes: tuple[tuple[str, Any], ...] = ()
    labels: str | None = None
    noise: str | None = None

    @property
    def label(self) -> str:
        return f"{self.name}-{self.seed}"

    def recipe(self, settings: Settings) -> Recipe:
        """What to train."""
        given = dict(self.recipe_changes)
        changes = tuple({**dict(settings.changes), **dict(given.pop("changes", ()))}.items())
        return Recipe(
            corpus=settings.corpus,
            text=settings.text,
            view=given.pop("view", settings.view),
            tokenizer_steps=settings.tokenizer_steps,
            changes=changes,
            training=settings.training,
            patience=settings.patience,
            **given,
        )


class Material:
    """What models are trained on and heard on: a tokenizer, a reading of text, and examples."""

    def __init__(self, workspace: Workspace, recipe: Recipe) -> None:
        learned = workspace.material(recipe)
        self.tokenizer = own_tokenizer(learned.tokenizer)
        self.encoder, self.train = learned.encoder, learned.train
        self._corpus, self._progress = workspace.corpus(recipe.corpus), workspace.progress
        self.references, self.test = self.split("test")

    @functools.lru_cache(maxsize=2)  # noqa: B019  there are two of these objects at most
    def split(self, name: str) -> tuple[list[Utterance], list[Example]]:
        """What is said in a split, and the same as examples."""
        said = self._corpus.split(name)
        return said, examples_of(self.tokenizer, self.encoder, said, progress=self._progress)


def fresh_network(unit: Unit, settings: Settings, at: Material) -> CDCD | AR:
    """Before training."""
    codebook = None if unit.labels is None else labelled_grid(unit.labels)[0]
    model = new_model(
        unit.recipe(settings),
        at.tokenizer,
        at.encoder,
        train=at.train,
        codebook=codebook,
        key=unit.seed,
    )
    if unit.noise is not None:
        assert isinstance(model, CDCD)
        model.noise.copy_(torch.from_numpy(table_of(unit.noise, at.tokenizer.codebook())))
    return model


def weights_of(run: Path, budget: Budget) -> Path:
    """The averaged weights of a run at a budget."""
    return run / (FINAL if budget == OPTIMUM else f"ema-{budget:07d}.safetensors")


def trained_network(unit: Unit, settings: Settings, at: Material, weights: Path) -> CDCD:
    """With the averaged weights of a file."""
    model = fresh_network(unit, settings, at)
    assert isinstance(model, CDCD)
    model.load_state_dict(read_weights(weights)[1])
    return model.eval()


def run_unit(
    unit: Unit,
    settings: Settings,
    cells: Sequence[Cell],
    workspace: Workspace,
    folder: Path,
    material: Callable[[Recipe], Material],
    say: Callable[[str], None],
) -> None:
    """Train one model and measure it; results appear file by file in `folder`."""
    recipe = unit.recipe(settings)
    path = folder / f"{unit.label}.json"
    made_by = {name: value for name, value in recipe.to_json().items() if value is not None}
    wanted = {"recipe": made_by, "settings": settings.to_json(), "seed": unit.seed}
    if unit.labels is not None:
        _, wanted["labels"] = labelled_grid(unit.labels)
    if unit.noise is not None:
        wanted["noise"] = origin(unit.noise)
    found: dict[str, Any] = {"made_from": wanted, "cells": {}}
    if path.is_file():
        found = json.loads(path.read_text())
    if found["made_from"] != wanted:
        raise ValueError(f"{path} holds another experiment; move it away to make this one.")
    missing = [cell for cell in cells if cell.label not in found["cells"]]
    if not missing:
        return
    at = material(recipe)
    model = fresh_network(unit, settings, at)
    run = workspace.folder / unit.label
    started = time.process_time()
    train(
        model, at.train, recipe.training, run,
        key=unit.seed, valid=at.split("valid")[1] if settings.patience else (),
        patience=settings.patience, record=wanted, progress=workspace.progress, cpu=True,
    )  # fmt: skip
    if "training_cpu_seconds" not in found:
        found["training_cpu_seconds"] = time.process_time() - started
        found["parameters"] = sum(p.numel() for p in model.parameters())
    if settings.patience:
        header, validated = read_weights(run)[0], read_log(run).dropna(subset="valid_loss")
        found["optimum"] = {"step": header["step"], **header["best"]}
        found["validation"] = [
            [int(step), round(float(loss), 5)]
            for step, loss in zip(validated.step, validated.valid_loss, strict=True)
        ]
    layout = recipe.training.layout
    voice = Voice(at.tokenizer, at.encoder, Lengths({}, (1.0,)), layout, model.eval())
    for budget in dict.fromkeys(cell.budget for cell in missing):
        if not weights_of(run, budget).is_file():  # training ended before
            continue
        model.load_state_dict(read_weights(weights_of(run, budget))[1])
        if isinstance(model, CDCD) and f"{budget}" not in found.setdefault("likelihood", {}):
            found["likelihood"][f"{budget}"] = likelihood(model, at.test, voice, settings)
            if settings.evidence is not None:
                kept = found.setdefault("evidence", {})
                of = at.test[: settings.evidence.sentences]
                found["evidence_tokens"] = [int(example.tokens.size) for example in of]
                kept[f"{budget}"] = {
                    f"{steps}": [
                        round(float(x), 4)
                        for x in voice.evidence(
                            of, steps=steps, n_noise=settings.evidence.draws, key=steps
                        ).values.mean(axis=0)
                    ]
                    for steps in settings.evidence.steps
                }
        for cell in (cell for cell in missing if cell.budget == budget):
            measured = listen(voice, at, cell, unit.seed, settings)
            found["cells"][cell.label] = measured
            _write(path, found)
            judge = settings.judges[0]
            say(f"{unit.label} {cell.label}: {judge} WER {_error_rate(measured, judge):.3f}")


def listen(voice: Voice, at: Material, cell: Cell, seed: int, settings: Settings) -> dict[str, Any]:
    """A `SpeechReport` on the first sentences of the test split, as JSON."""
    spoken_of = slice(settings.first, settings.first + settings.sentences)
    references, examples = at.split(settings.heard or "test")
    chosen = examples[spoken_of]
    started = time.process_time()
    grid: Any = cell.grid
    if cell.schedule is not None:
        grid = equal_steps(cell.schedule, cell.steps, voice.codebook())
    ids = voice.tokens_of(
        chosen, steps=cell.steps, grid=grid, guidance=settings.guidance, key=seed,
        **dict(cell.options),
    )  # fmt: skip
    seconds = (time.process_time() - started) / len(chosen)
    spoken = [Spoken(e.text, i, seconds=seconds) for e, i in zip(chosen, ids, strict=True)]
    report = evaluate(
        {seed: spoken}, own_tokenizer(voice.tokenizer), references[spoken_of],
        label=cell.label, grammars=settings.judges, pitch=False, progress=lambda done, total: None,
    )  # fmt: skip
    rounded = {
        name: [[None if math.isnan(x) else round(float(x), 5) for x in row] for row in array]
        for name, array in report.measurements.items()
    }
    return {**report.to_json(), "measurements": rounded, "heard": {}}


def likelihood(
    model: CDCD, examples: Sequence[Example], voice: Voice, settings: Settings
) -> dict[str, Any]:
    """The variational bound and the cross-entropy over noise levels, in nats per token.

    Rows are sentences, so that intervals can be made from them; the same noise for all
    models of one dimension.
    """
    batch = make_batch(examples[: settings.bound_sentences], voice.layout)
    rng = torch.Generator().manual_seed(int(generator(0, 7).integers(2**62)))
    sizes = batch.token_mask.sum(1).numpy()
    bound = best_bound(model.bound(batch, rng, settings.bound_draws).numpy()) / sizes
    low, high = (math.log(x) for x in model.snr_range())
    levels = np.linspace(low, high, settings.snr_points)
    profile = [model.cross_entropy_at(batch, float(x), rng).sum() / sizes.sum() for x in levels]
    return {
        "bound": [round(float(x), 5) for x in bound],
        "tokens": sizes.tolist(),
        "log_snr": [round(float(x), 4) for x in levels],
        "cross_entropy": [round(float(x), 5) for x in profile],
    }


def _error_rate(measured: dict[str, Any], judge: Grammar) -> float:
    arrays = measured["measurements"]
    return float(np.sum(arrays[f"errors_{judge}"]) / np.sum(arrays["words"]))


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record) + "\n")
