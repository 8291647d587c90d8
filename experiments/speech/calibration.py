"""What a network claims at each noise level, what is true, and what it reads along the path.

With B(snr) = 1/2 int_0^snr E|e - e_hat|^2 + sum E[-ln p(k | x)], the bound of many steps that end
at an SNR, posteriors of any one law that is a product given the text have the same B everywhere
(docs/theory/learned.md, 9h). So B(0) - B(end) is what a network reads along the path beyond text
and rounding: from noisy neighbours, above all. A bound that grows along the path is inconsistency.

Written down before the first unit, asking why the evidence bound rises with the number of steps:
that networks are too sure of themselves, with squared errors above 1.2 times what they claim on
test sentences where half of a token is decided, and near 1 on training sentences. (It was not so,
see docs/speech.md.) Written down after units fsq-0 and permuted-0 (0.19 and 0.03 nats read), before
any other: FSQ, E8, perturbed and relabelled points are read along the path by more than 0.12 nats a
token, permuted and spherical ones by less than 0.06, as the share that is read, from bigrams, has
it (`context_speech`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.speech.plans import PLAIN, PLANS
from experiments.speech.units import Material, trained_network, weights_of
from tokenkl._files import atomic_path
from tokenkl.tts.cdcd import CDCD
from tokenkl.tts.data import Batch, make_batch
from tokenkl.tts.recipes import Workspace

SENTENCES = 24
DRAWS = 2
LEVELS = 25


@torch.no_grad()
def claims(
    model: CDCD, batch: Batch, log_snr: np.ndarray, draws: int, seed: int
) -> dict[str, list[float]]:
    """Cross-entropy, squared error and the variance of the network's posteriors, per token.

    Nats, and squares of the points' units. Equal seeds have equal noise at every level.
    """
    text = model.encode_text(batch.frames, batch.token_mask)
    e, table = model.points_of(batch.tokens), model.table()
    count = draws * int(batch.token_mask.sum())
    found: dict[str, list[float]] = {"cross_entropy": [], "squared_error": [], "variance": []}
    for level in log_snr:
        rng = torch.Generator().manual_seed(seed)
        sums = np.zeros(3)
        levels = torch.full((len(e),), float(level))
        for _ in range(draws):
            x = model.noisy(e, levels, rng)
            logits = model(x, levels, text, batch.token_mask)[batch.token_mask]
            truth = batch.tokens[batch.token_mask]
            logs = model.log_probabilities(logits)
            p = logs.exp()
            mean, square = p @ table, p @ table.square().sum(-1)
            sums += [
                float(-logs.gather(1, truth[:, None]).double().sum()),
                float((table[truth] - mean).square().sum(-1).double().sum()),
                float((square - mean.square().sum(-1)).double().sum()),
            ]
        for name, value in zip(found, sums / count, strict=True):
            found[name].append(round(float(value), 6))
    return found


def measure_calibration(
    workspace: Workspace,
    name: str,
    path: Path,
    say: Callable[[str], None],
    *,
    also_train: bool = True,
) -> None:
    """Of every unit of a plan that is trained, on test sentences; one file, unit by unit.

    Of the first seed also on training sentences, unless told otherwise, and of it alone units
    without output prior.
    """
    plan = PLANS[name]
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    materials: dict[str, Material] = {}
    for unit in plan.units:
        weights = weights_of(workspace.folder / unit.label, plan.cells[0].budget)
        more = unit.seed == 0
        if unit.label in found or not weights.is_file() or (unit.name.endswith(PLAIN) and not more):
            continue
        recipe = unit.recipe(plan.settings)
        if recipe.tokenizer not in materials:
            materials[recipe.tokenizer] = Material(workspace, recipe)
        at = materials[recipe.tokenizer]
        model = trained_network(unit, plan.settings, at, weights)
        low, high = (np.log(x) for x in model.snr_range())
        log_snr = np.linspace(low, high, LEVELS)
        splits = {"test": at.test[:SENTENCES]}
        if more and also_train:
            splits["train"] = at.train[:SENTENCES]
        found[unit.label] = {"log_snr": [round(float(x), 6) for x in log_snr]} | {
            split: claims(model, make_batch(examples, recipe.training.layout), log_snr, DRAWS, 0)
            for split, examples in splits.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(found) + "\n")
        say(f"{unit.label}: done")
