"""Schedules that know the context: where they come from, and what samplers make of them.

From a trained network (`measure_curve`): cross-entropies and squared errors of the linear-VP
networks of "evidence", on sentences of the validation split, which nothing else looks at.

- "contextual": the law of noise levels under which this cross-entropy falls evenly (CDCD's time
  warping, Dieleman et al. 2022).
- "told": the density of ln(snr) is what context tells of a token beside its own observation,
  H(k | Y_i) - CE(snr), from the lowest level of the bound on.

From token ids alone, which know of no text:

- "corpus": as "contextual", of the law of bigrams (`tk.tokens_in_context` has the same).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

import tokenkl as tk
from experiments.speech.calibration import claims
from experiments.speech.noise import CONTEXTUAL, CORPUS, TOLD, equal_steps, write_schedule
from experiments.speech.plans import PLANS
from experiments.speech.tokens import PADDING
from experiments.speech.units import (
    RESULTS,
    Cell,
    Material,
    Unit,
    listen,
    trained_network,
    weights_of,
)
from tokenkl._files import atomic_path
from tokenkl.codebooks import Codebook
from tokenkl.divergence.measured import measured_steps
from tokenkl.optimality import NoiseSchedule
from tokenkl.tts.data import make_batch
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import Workspace
from tokenkl.tts.voice import Voice

CURVE = RESULTS / "curve.json"
#: Levels of the curve, over the range of the bound, and draws of the noise at each.
LEVELS, DRAWS = 33, 1
#: Values of t in a file.
KNOTS = 129
#: Of the profile of bigrams: tokens in a sequence, and sequences.
LENGTH, SEQUENCES = 8, 256
SEED = 20261129

#: The grid with the smallest bound of all, by the curve.
BEST = "best"
#: Grids on which trained networks are bounded, and heard: of equal steps of a schedule's time, but
#: for the best one.
BOUNDED, SPOKEN = ("linear-vp", CONTEXTUAL, BEST), ("linear-vp", CONTEXTUAL)
#: Numbers of steps for the bound and for words, and how many of the test sentences tell of either.
STEPS, HEARD, SENTENCES = (5, 12, 25), (2, 5, 25), 16


#: Seeds of FSQ: of the network whose curve is measured, and of those that samplers are tried on.
CURVES, TRIED = (0,), (0, 1, 2)


def linear_vp_units(folder: Path, seeds: tuple[int, ...]) -> list[tuple[Unit, Path]]:
    """FSQ networks with output prior that are trained, and their weights."""
    plan = PLANS["evidence"]
    units = [unit for unit in plan.units if unit.name == "fsq" and unit.seed in seeds]
    paths = [weights_of(folder / unit.label, plan.cells[0].budget) for unit in units]
    return [(unit, path) for unit, path in zip(units, paths, strict=True) if path.is_file()]


# ---- Where schedules come from ------------------------------------------------------------------


def measure_curve(workspace: Workspace, path: Path, say: Callable[[str], None]) -> None:
    """The curve, and the three schedules."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    plan = PLANS["evidence"]
    at = None
    for unit, weights in linear_vp_units(workspace.folder, CURVES):
        if unit.label in found:
            continue
        recipe = unit.recipe(plan.settings)
        at = at or Material(workspace, recipe)
        model = trained_network(unit, plan.settings, at, weights)
        low, high = (np.log(x) for x in model.snr_range())
        log_snr = np.linspace(low, high, LEVELS)
        batch = make_batch(workspace.material(recipe).valid, recipe.training.layout)
        measured = claims(model, batch, log_snr, DRAWS, 0)
        found[unit.label] = {"log_snr": [round(float(x), 6) for x in log_snr], **measured}
        _write(path, found)
        say(f"{unit.label}: cross-entropy {measured['cross_entropy'][0]:.2f} nats in all noise")
    curve = Curve.of(found)
    say("schedules")
    time = np.linspace(0, 1, KNOTS)
    law = tk.optimality.cross_entropy_schedule(np.exp(curve.log_snr), curve.cross_entropy).law
    write_schedule(CONTEXTUAL, time, np.exp(law.quantile(1 - time)))
    tokens = corpus_tokens()
    told = quantile_of_told(curve, alone(tokens, curve), 1 - time)
    write_schedule(TOLD, time, np.exp(told))
    write_schedule(CORPUS, time, np.exp(corpus_law(tokens).quantile(1 - time)))


@dataclasses.dataclass(frozen=True)
class Curve:
    """Means over networks: nats and squares of the points' units, per token, over ln(snr)."""

    log_snr: Float[np.ndarray, " levels"]
    cross_entropy: Float[np.ndarray, " levels"]
    squared_error: Float[np.ndarray, " levels"]

    @classmethod
    def of(cls, found: dict[str, Any]) -> Curve:
        every = list(found.values())
        means = (
            np.mean([one[name] for one in every], axis=0)
            for name in ("cross_entropy", "squared_error")
        )
        return cls(np.array(every[0]["log_snr"]), *means)

    @classmethod
    def load(cls, path: Path = CURVE) -> Curve:
        return cls.of(json.loads(path.read_text()))

    def cost(self, levels: Float[np.ndarray, " steps"], power: float) -> float:
        """The evidence bound of a sampler that calls its network at these ln(snr), nats a token.

        `power`: mean square of a point, for the start.
        """
        snr = np.exp(levels)
        error = np.interp(levels, self.log_snr, self.squared_error)
        decided = np.interp(levels[-1], self.log_snr, self.cross_entropy)
        return float(snr[0] * power / 2 + np.diff(snr) @ error[:-1] / 2 + decided)


def corpus_tokens() -> list[np.ndarray]:
    """Utterances of the training split."""
    rows = np.load(RESULTS / "tokens.npy", allow_pickle=False).astype(np.int64)
    return [row[row != PADDING] for row in rows]


def alone(tokens: list[np.ndarray], curve: Curve) -> Float[np.ndarray, " levels"]:
    """H(k | Y_i) of a token by its frequency and its own observation, nats."""
    counts = np.bincount(np.concatenate(tokens), minlength=3**8) + 1 / 3**8
    law = tk.FSQ((3,) * 8).with_prior(counts / counts.sum())
    found = tk.profile(law, np.exp(curve.log_snr), ("conditional_entropy",), key=SEED)
    return np.asarray(found["conditional_entropy"].value)


def quantile_of_told(
    curve: Curve, entropy: Float[np.ndarray, " levels"], u: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """ln(snr) below which a share u lies of what context tells, by trapezoids in ln(snr)."""
    told = np.maximum(entropy - curve.cross_entropy, 0) + 1e-9  # so that shares rise
    steps = np.diff(curve.log_snr) * (told[1:] + told[:-1]) / 2
    share = np.append(0, np.cumsum(steps)) / steps.sum()
    return np.interp(u, share, curve.log_snr)


def corpus_law(tokens: list[np.ndarray]) -> NoiseSchedule:
    """Where the entropy of a token in noisy sequences falls, by bigrams (`tokens_in_context`)."""
    grid = tk.FSQ((3,) * 8)
    source = tk.sources.bigrams(tokens, grid.K, LENGTH)
    snr = np.geomspace(0.002, 155.0, 25)
    found = tk.contextual_profile(
        grid, source, snr, ("conditional_entropy",), context="joint",
        method=tk.MonteCarlo(SEQUENCES), key=SEED,
    )["conditional_entropy"]  # fmt: skip
    value, error = found.value, found.standard_error
    return tk.optimality.cross_entropy_schedule(snr, value, error, key=SEED).law


# ---- What samplers make of them -----------------------------------------------------------------


def best_levels(curve: Curve, steps: int, power: float) -> Float[np.ndarray, " steps"]:
    """ln(snr) of that many calls with the smallest `Curve.cost`; where it ends is chosen, too."""
    snr = np.append(np.exp(curve.log_snr[0]) / 2, np.exp(curve.log_snr))
    error = np.minimum.accumulate(np.append(curve.squared_error[0], curve.squared_error))
    error[0] = error.max() * (1 + 1e-6)
    grids = []
    for last in range(6, snr.size):
        [found] = measured_steps(snr[: last + 1], error[: last + 1], [steps - 1])
        grids.append(np.log(found.snr))
    return min(grids, key=lambda levels: curve.cost(levels, power))


def levels_of(
    grid: str, steps: int, curve: Curve, codebook: Codebook
) -> Float[np.ndarray, " steps"]:
    """ln(snr) at the calls of a sampler on one of `GRIDS`."""
    if grid == BEST:
        return best_levels(curve, steps, codebook.average_power())
    return equal_steps(grid, steps, codebook)


def measure_grids(workspace: Workspace, path: Path, say: Callable[[str], None]) -> None:
    """Evidence bounds and word errors of the linear-VP networks on every grid; file by file."""
    plan = PLANS["evidence"]
    settings = dataclasses.replace(plan.settings, sentences=SENTENCES)
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    curve = Curve.load()
    at = None
    # All bounds first, so that an unfinished run has these.
    for what, (unit, weights) in itertools.product(
        ("evidence", "words"), linear_vp_units(workspace.folder, TRIED)
    ):
        recipe = unit.recipe(settings)
        at = at or Material(workspace, recipe)
        model = trained_network(unit, settings, at, weights)
        voice = Voice(at.tokenizer, at.encoder, Lengths({}, (1.0,)), recipe.training.layout, model)
        sizes = [int(example.tokens.size) for example in at.test[:SENTENCES]]
        empty: dict[str, Any] = {"tokens": sizes, "evidence": {}, "words": {}}
        mine = found.setdefault(unit.label, empty)
        jobs = itertools.product(*((BOUNDED, STEPS) if what == "evidence" else (SPOKEN, HEARD)))
        for grid, steps in jobs:
            if f"{grid}-{steps}" in mine[what]:
                continue
            if what == "evidence":
                mine[what][f"{grid}-{steps}"] = _evidence(voice, at, grid, steps, curve)
            else:
                cell = Cell(plan.cells[0].budget, steps, schedule=grid)
                mine[what][f"{grid}-{steps}"] = listen(voice, at, cell, unit.seed, settings)
            _write(path, found)
            say(f"{unit.label} {grid}-{steps}: {what}")


def _evidence(voice: Voice, at: Material, grid: str, steps: int, curve: Curve) -> list[float]:
    """Of the first test sentences, nats; the noise is the same on every grid."""
    settings = PLANS["evidence"].settings
    assert settings.evidence is not None
    found = voice.evidence(
        at.test[:SENTENCES],
        steps=steps,
        grid=levels_of(grid, steps, curve, at.tokenizer.codebook()),
        n_noise=settings.evidence.draws,
        key=steps,
    )
    return [round(float(x), 4) for x in found.values.mean(axis=0)]


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record) + "\n")
