"""Why does diffusion speak more evenly than the corpus? F0 over seeds, by sampler.

The corpus draws the pitch of every utterance at random, whatever the text, so that a right model
gives the same sentence another pitch with every seed. Pitch is one number that all tokens of an
utterance share: it is decided where the noise still hides every single token. If samplers took the
mean because they jump over these noise levels, a grid with more of them would spread the pitch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.speech.plans import FULL, SETTINGS
from experiments.speech.units import Material, Unit, trained_network
from tokenkl._files import atomic_path
from tokenkl.tts.evaluation import Spoken, evaluate
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import Workspace
from tokenkl.tts.voice import Voice

SENTENCES = 16
SEEDS = (0, 1, 2, 3)


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to sample."""

    steps: int
    grid: str = "uniform"
    guidance: float = 0.5
    sampler: str = "ddim"
    decide: str = "argmax"

    @property
    def label(self) -> str:
        return f"{self.steps}-{self.grid}-{self.guidance:g}-{self.sampler}-{self.decide}"


WAYS = (
    *(Way(steps) for steps in (2, 5, 25)),
    Way(5, "log-snr"),
)


def measure(
    workspace: Workspace, folder: Path, train_seed: int, say: Callable[[str], None]
) -> None:
    """F0 of the same sentences by every way and seed, with the model of unit `fsq`; one file."""
    unit = Unit("fsq", train_seed)
    recipe = unit.recipe(SETTINGS)
    path = folder / f"{unit.label}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    at = Material(workspace, recipe)
    weights = workspace.folder / unit.label / f"ema-{FULL:07d}.safetensors"
    model = trained_network(unit, SETTINGS, at, weights)
    voice = Voice(at.tokenizer, at.encoder, Lengths({}, (1.0,)), "aligned", model)
    examples, references = at.test[:SENTENCES], at.references[:SENTENCES]
    folder.mkdir(parents=True, exist_ok=True)

    def heard(spoken: dict[int, list[Spoken]], label: str) -> None:
        report = evaluate(
            spoken, at.tokenizer, references, label=label, grammars=(),
            progress=lambda done, total: None,
        )  # fmt: skip
        kept = {
            name: np.round(report.measurements[name], 3).tolist()
            for name in ("f0_mean", "f0_within", "voiced")
        }
        found[label] = json.loads(json.dumps(kept).replace("NaN", "null"))
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(found) + "\n")
        say(f"{unit.label} {label}")

    if "corpus" not in found:
        heard({0: [Spoken(e.text, e.tokens) for e in examples]}, "corpus")
    for way in WAYS:
        if way.label in found:
            continue
        spoken = {}
        for seed in SEEDS:
            ids = voice.tokens_of(
                examples, steps=way.steps, grid=way.grid, guidance=way.guidance,
                sampler=way.sampler, decision=way.decide, key=1000 + seed,
            )  # fmt: skip
            spoken[seed] = [Spoken(e.text, i) for e, i in zip(examples, ids, strict=True)]
        heard(spoken, way.label)
