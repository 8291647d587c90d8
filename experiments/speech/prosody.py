"""Does diffusion speak as variedly as the corpus? The pitch that tokens tell, over seeds.

The corpus with jitter draws the pitch of every utterance at random, whatever the text, so that a
right model gives a sentence another pitch with every seed, spread as in the corpus. Pitch is one
number that all tokens of an utterance share. It is read off the tokens themselves: by a linear
regression, on training utterances, of the pitch that was asked of the speech on how its tokens
differ from others of the same phoneme, digit by digit.

What was expected of it (V1 to V4) is in docs/speech.md, written before the run.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.speech.plans import LAST, PLANS
from experiments.speech.units import OPTIMUM, Budget, Material, trained_network, weights_of
from tokenkl._files import atomic_path
from tokenkl.tts.data import Example
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import Workspace
from tokenkl.tts.voice import Voice

SENTENCES = 48
SEEDS = (0, 1, 2, 3)
#: Of ridge regression, in utterances.
RIDGE = 0.01


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to sample."""

    guidance: float
    sampler: str
    steps: int

    @property
    def label(self) -> str:
        return f"{self.guidance:g}-{self.sampler}-{self.steps}"


WAYS = tuple(
    Way(guidance, sampler, steps)
    for steps in (5, 25)
    for sampler in ("ddim", "ancestral")
    for guidance in (0.0, 0.5)
)
BUDGETS: tuple[Budget, ...] = (200, OPTIMUM)


@dataclasses.dataclass(frozen=True)
class PitchOfTokens:
    """The pitch of an utterance by its tokens, in the units in which it was asked for.

    - `levels`: digits of every token, as indicators.
    - `usual`: their means, by phoneme.
    - `weights`, `mean`: of the regression.
    """

    levels: Float[np.ndarray, "K d"]
    usual: Float[np.ndarray, "symbols d"]
    weights: Float[np.ndarray, " d"]
    mean: float

    @classmethod
    def fit(
        cls,
        levels: Float[np.ndarray, "K d"],
        examples: Sequence[Example],
        pitches: Float[np.ndarray, " n"],
    ) -> PitchOfTokens:
        """From utterances whose pitch is known."""
        spoken = np.concatenate([_spoken(one) for one in examples])
        told = levels[np.concatenate([one.tokens for one in examples])]
        usual = np.zeros((spoken.max() + 1, levels.shape[1]))
        np.add.at(usual, spoken, told)
        usual /= np.maximum(np.bincount(spoken), 1)[:, None]
        blank = cls(levels, usual, np.zeros(levels.shape[1]), float(np.mean(pitches)))
        x = np.array([blank._features(one, one.tokens) for one in examples])
        normal = x.T @ x + RIDGE * np.eye(x.shape[1])
        weights = np.linalg.solve(normal, x.T @ (pitches - blank.mean))
        return dataclasses.replace(blank, weights=weights)

    def of(self, example: Example, tokens: Int[np.ndarray, " L"]) -> float:
        """Of tokens that say an example."""
        return float(self._features(example, tokens) @ self.weights + self.mean)

    def _features(self, example: Example, tokens: Int[np.ndarray, " L"]) -> Float[np.ndarray, " d"]:
        found: np.ndarray = (self.levels[tokens] - self.usual[_spoken(example)]).mean(axis=0)
        return found


def _spoken(example: Example) -> Int[np.ndarray, " L"]:
    """The phoneme at every token."""
    assert example.lengths is not None
    return np.repeat(example.symbols, example.lengths)


def spread(pitches: Float[np.ndarray, "sentences seeds"]) -> float:
    """Standard deviation over seeds, of a sentence."""
    return float(np.sqrt(np.var(pitches, axis=1, ddof=1).mean()))


def measure(workspace: Workspace, path: Path, say: Callable[[str], None]) -> None:
    """Of FSQ's networks of "lasting", by budget and way to sample; one file, one by one."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    plan = PLANS["lasting"]
    units = [unit for unit in plan.units if unit.name == f"fsq{LAST}"]
    at = Material(workspace, units[0].recipe(plan.settings))
    points = np.asarray(at.tokenizer.codebook().points)
    levels = np.concatenate([points == level for level in (0, 1)], axis=1).astype(float)
    asked = [one.prosody["pitch"] for one in at.split("train")[0]]
    probe = PitchOfTokens.fit(levels, at.train, np.array(asked))
    found["corpus"] = {
        "asked": [round(float(one.prosody["pitch"]), 3) for one in at.references],
        "told": [round(probe.of(one, one.tokens), 3) for one in at.test],
    }
    examples = at.test[:SENTENCES]
    runs = [(unit, budget) for unit in units for budget in BUDGETS]
    for way, (unit, budget) in itertools.product(WAYS, runs):  # the fewest steps of all come first
        label = f"{unit.seed}-{budget}-{way.label}"
        weights = weights_of(workspace.folder / unit.label, budget)
        if label in found or not weights.is_file():
            continue
        model = trained_network(unit, plan.settings, at, weights)
        voice = Voice(at.tokenizer, at.encoder, Lengths({}, (1.0,)), "aligned", model)
        told = np.empty((len(examples), len(SEEDS)))
        for column, seed in enumerate(SEEDS):
            ids = voice.tokens_of(
                examples, steps=way.steps, guidance=way.guidance, sampler=way.sampler,
                key=1000 + seed,
            )  # fmt: skip
            told[:, column] = [probe.of(one, row) for one, row in zip(examples, ids, strict=True)]
        found[label] = told.round(3).tolist()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(found) + "\n")
        ratio = spread(told) / float(np.std(found["corpus"]["told"], ddof=1))
        say(f"fsq-{label}: {ratio:.2f} of the corpus's spread")
