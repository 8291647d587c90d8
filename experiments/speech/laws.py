"""What laws of tokens that never saw a point foretell of every set of points.

A law gives every token of the test sentences its probabilities: the classifier's given the text and
when each phoneme is spoken, the twin's given the text and all tokens before. With such a law as its
prior the exact denoiser of any points follows by Bayes, and so does its evidence bound, on the
noise that networks were measured with. Less the law's own cross-entropy, which is the same for all
points, that is the path KL of N steps of an exact denoiser that knows no other noisy token.

Hypotheses D1 to D4 are in docs/speech.md, written before the run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from experiments.speech.plans import EVIDENCE, LASTING, PLANS
from experiments.speech.units import Evidence, Material, Unit, fresh_network
from tokenkl._files import atomic_path
from tokenkl.codebooks import Codebook
from tokenkl.divergence import evidence_bound
from tokenkl.tts.ar import AR
from tokenkl.tts.cdcd import CDCD, RANGE
from tokenkl.tts.data import Batch, Example, make_batch
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import Recipe, Workspace, new_model
from tokenkl.tts.training import train
from tokenkl.tts.voice import Voice

#: Given the text alone, and given all tokens before as well.
CLASSIFIER, TWIN = "classifier", "twin"
#: Points whose networks have the output prior, and the tokens of FSQ. Some are drawn by the seed of
#: their networks; of two seeds, as differences between them are small.
FIXED = ("fsq", "relabelled", "e8-power")
DRAWN = ("perturbed-power", "permuted", "spherical", "perturbed-box")
FORETOLD = (*((name, 0) for name in FIXED), *((name, seed) for seed in range(2) for name in DRAWN))

_REGULAR = (("dropout", 0.1), ("token_dropout", 0.1))


def neutral_recipe(name: str, learned: list[Example]) -> Recipe:
    """Of one of the two networks: the sizes, the training and the end of the others."""
    plain = Unit(name, 0).recipe(LASTING)
    if name == CLASSIFIER:
        changes = dict(plain.changes) | {"output_prior": False, "drop_text": 0.0}
        return dataclasses.replace(plain, changes=tuple(changes.items()))
    pace = sum(e.tokens.size for e in learned) / sum(e.symbols.size for e in learned)
    changes = dict(_REGULAR) | {"pace": round(pace, 3)}
    training = dataclasses.replace(plain.training, learning_rate=1.5e-3)
    return dataclasses.replace(plain, model="ar", changes=tuple(changes.items()), training=training)


def neutral_network(name: str, at: Material) -> CDCD | AR:
    """Before training."""
    model = new_model(neutral_recipe(name, at.train), at.tokenizer, at.encoder, key=0)
    return blinded(model) if isinstance(model, CDCD) else model


def blinded(model: CDCD) -> CDCD:
    """Without a view of any token's state, now and after training."""
    model.noise.fill_(RANGE[0])
    nn.init.zeros_(model.enter.weight)
    model.enter.weight.requires_grad_(False)
    return model


@torch.no_grad()
def log_law(model: CDCD | AR, batch: Batch) -> Float[torch.Tensor, "B L K"]:
    """ln p of every token that there might be, at every place."""
    if isinstance(model, AR):
        logits = model(batch.tokens, batch.symbols, batch.symbol_mask)
        return logits[:, :-1, : model.config.K].log_softmax(-1)
    text = model.encode_text(batch.frames, batch.token_mask)
    nothing = torch.zeros(*batch.tokens.shape, model.config.dim)
    lowest = torch.full((len(batch.tokens),), RANGE[0])
    return model.log_probabilities(model(nothing, lowest, text, batch.token_mask))


def foretold(
    network: CDCD, codebook: Codebook, batch: Batch, law: torch.Tensor, evidence: Evidence
) -> dict[str, list[float]]:
    """By number of steps: the bound of the exact denoiser of a law, a sentence; nats.

    `network` is a fresh one of these points, whose levels and likelihoods are used and no weight.
    """
    found = {}
    for steps in evidence.steps:
        grid = np.clip(network.log_snr(1 - np.arange(steps) / steps), *RANGE)

        def logits(y: np.ndarray, snr: np.ndarray) -> np.ndarray:
            log_snr = torch.from_numpy(np.log(snr)).to(law)
            x = torch.from_numpy(y).to(law) * torch.sigmoid(-log_snr).sqrt()[:, None, None]
            return (law + network.log_likelihood(x, log_snr)).numpy()

        bound = evidence_bound(
            codebook,
            logits,
            batch.tokens.numpy(),
            np.exp(grid),
            key=steps,
            mask=batch.token_mask.numpy(),
            n_noise=evidence.draws,
        )
        found[f"{steps}"] = [round(float(x), 4) for x in bound.values.mean(axis=0)]
    return found


def measure_laws(workspace: Workspace, path: Path, say: Callable[[str], None]) -> None:
    """Of both laws, for every set of points and the seeds of its networks; one file, one by one."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    assert EVIDENCE.evidence is not None
    plain = Unit(CLASSIFIER, 0).recipe(LASTING)
    at = Material(workspace, plain)
    batch = make_batch(at.test[: EVIDENCE.evidence.sentences], plain.training.layout)
    units = {unit.label: unit for unit in PLANS["evidence"].units}
    for name in (CLASSIFIER, TWIN):
        model = neutral_network(name, at)
        recipe = neutral_recipe(name, at.train)
        trained = train(
            model, at.train, recipe.training, workspace.folder / name,
            key=0, valid=at.split("valid")[1], patience=recipe.patience,
            progress=workspace.progress, cpu=True,
        )  # fmt: skip
        law = log_law(model, batch)
        about = found.setdefault(name, {"points": {}})
        if "cross_entropy" not in about:
            losses = -law.gather(2, batch.tokens[..., None])[..., 0] * batch.token_mask
            about["cross_entropy"] = [round(float(x), 4) for x in losses.sum(1)]
            about["tokens"] = batch.token_mask.sum(1).tolist()
            about["optimum"] = {"step": trained.header["step"], **trained.header["best"]}
        for label in (f"{geometry}-{seed}" for geometry, seed in FORETOLD):
            if label in about["points"]:
                continue
            network = fresh_network(units[label], EVIDENCE, at)
            assert isinstance(network, CDCD)
            voice = Voice(
                at.tokenizer, at.encoder, Lengths({}, (1.0,)), plain.training.layout, network.eval()
            )
            with torch.no_grad():
                bounds = foretold(network, voice.codebook(), batch, law, EVIDENCE.evidence)
            about["points"][label] = bounds
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(found) + "\n")
            nats = (sum(bounds["5"]) - sum(about["cross_entropy"])) / sum(about["tokens"])
            say(f"{name}, {label}: path KL of 5 steps {nats:.3f} nats a token")
