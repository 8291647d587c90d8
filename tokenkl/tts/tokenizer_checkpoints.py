"""Checkpoints of the training of a tokenizer: what a run needs to go on with the same bits.

One safetensors file: weights, the state of the optimiser, and that of PyTorch's generator, which
draws new vectors for codes that are not used. Which crops a step sees follows from the key and its
number, and is not stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenkl._formats import reading
from tokenkl._random import generator
from tokenkl._validation import check_count
from tokenkl.tts.stored import check_state, open_network, write_network

_EXPECTED = "a checkpoint of a tokenizer that tokenkl wrote"

#: What AdamW keeps for a parameter.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class _Header(TypedDict):
    format: Literal[1]
    about: dict[str, Any]
    step: int


def about(
    features: Sequence[Float[np.ndarray, "frames mels"]],
    config: dict[str, Any],
    training: dict[str, Any],
    key: Any,
) -> dict[str, Any]:
    """All that the weights depend on, as plain values."""
    data = hashlib.sha256()
    for one in features:
        data.update(f"{one.shape}".encode())
        data.update(np.ascontiguousarray(one, np.float32).data)
    record = {
        "config": config, "training": training, "features": data.hexdigest()[:16],
        "key": int(generator(key, 3).integers(2**53)),
    }  # fmt: skip
    return json.loads(json.dumps(record))  # as it will be read again: lists for tuples


def write_checkpoint(
    path: Path, run: dict[str, Any], step: int, tokenizer: nn.Module, optimiser: torch.optim.AdamW
) -> None:
    """Write where training is after so many steps; the file appears whole or not at all."""
    tensors = {f"model/{name}": value for name, value in tokenizer.state_dict().items()}
    for name, parameter in tokenizer.named_parameters():
        for entry, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{entry}/{name}"] = value
    for device, state in _generators(tokenizer).items():
        tensors[f"generator/{device}"] = state
    write_network(path, tensors, {"format": 1, "about": run, "step": step})


def restore(
    path: Path, run: dict[str, Any], tokenizer: nn.Module, optimiser: torch.optim.AdamW
) -> int:
    """Take up a checkpoint, if there is one; steps that were done.

    Raises:
        ValueError: not a checkpoint, or one of another run.
    """
    if not path.is_file():
        return 0
    with open_network(path, _EXPECTED, _Header) as stored:
        header, tensors = stored.header, stored.tensors()
        step = check_count(header["step"], "its step", 1)
    parameters = dict(tokenizer.named_parameters())
    wanted = {f"model/{name}": value for name, value in tokenizer.state_dict().items()}
    for name, parameter in parameters.items():
        if f"step/{name}" in tensors:  # not of what had no gradient yet
            wanted |= {f"{entry}/{name}": parameter.detach() for entry in _MOMENTS}
            wanted[f"step/{name}"] = torch.zeros(())
    wanted |= {f"generator/{device}": state for device, state in _generators(tokenizer).items()}
    with reading(path, "the checkpoint of this tokenizer") as file:
        for name in run:
            if header["about"].get(name) != run[name]:
                file.refuse(f"it is of a run with another {name}")
        check_state(tensors, wanted)
        try:
            torch.set_rng_state(tensors["generator/cpu"])
            if "generator/cuda" in tensors:
                torch.cuda.set_rng_state(tensors["generator/cuda"], _device(tokenizer))
        except RuntimeError:
            file.refuse("the state of its generator is none")
    tokenizer.load_state_dict({n: tensors[f"model/{n}"] for n in tokenizer.state_dict()})
    for name, parameter in parameters.items():
        if f"step/{name}" in tensors:
            own = {entry: tensors[f"{entry}/{name}"] for entry in _MOMENTS}
            moved = {e: v if e == "step" else v.to(parameter.device) for e, v in own.items()}
            optimiser.state[parameter] = moved
    return step


def steps_done(path: Path) -> int:
    """Steps up to a checkpoint; 0 where there is none.

    Raises:
        ValueError: another file.
    """
    if not path.is_file():
        return 0
    with open_network(path, _EXPECTED, _Header) as stored:
        return check_count(stored.header["step"], "its step", 1)


def _device(tokenizer: nn.Module) -> torch.device:
    return next(tokenizer.parameters()).device


def _generators(tokenizer: nn.Module) -> dict[str, Tensor]:
    """States of the generators that a step may draw from."""
    states = {"cpu": torch.get_rng_state()}
    if (device := _device(tokenizer)).type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
