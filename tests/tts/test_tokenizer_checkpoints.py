"""The training of a tokenizer, stopped at any step, goes on with the same bits."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tokenkl.tts import tokenizers
from tokenkl.tts.frontend import MelConfig
from tokenkl.tts.interrupts import Terminated
from tokenkl.tts.stored import write_network
from tokenkl.tts.tokenizer_checkpoints import steps_done
from tokenkl.tts.tokenizers import Kind, Tokenizer, TokenizerConfig, TrainingConfig, train_tokenizer

RNG = np.random.default_rng(0)
FEATURES = [RNG.normal(size=(int(n), 80)).astype("f") for n in RNG.integers(20, 90, size=12)]
STEPS = TrainingConfig(steps=12, batch=4, frames=32)
LEVELS: dict[Kind, tuple[int, ...]] = {"fsq": (3, 3), "vq": (50,), "rvq": (7, 6), "e8": ()}
CONFIGS: dict[str, TokenizerConfig] = {
    kind: TokenizerConfig(kind, levels, dim=4, channels=16, blocks=(1, 1), batch_tokens=64)
    for kind, levels in LEVELS.items()
}  # fmt: skip


class Crash(Exception):
    """Of a machine."""


def train(config: TokenizerConfig, checkpoint: Path | None, stop: Any = None) -> Tokenizer:
    """Trained; `stop` is called with the number of steps that were done."""

    def progress(done: float, total: float) -> None:
        if stop is not None:
            stop(int(done))

    return train_tokenizer(FEATURES, config, STEPS, key=3, checkpoint=checkpoint, progress=progress)


def at(step: int, number: signal.Signals = signal.SIGINT) -> Any:
    return lambda done: signal.raise_signal(number) if done == step else None


def assert_same(one: Tokenizer, two: Tokenizer) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_stopped_and_resumed(kind: str, tmp_path: Path) -> None:
    """Also where codes that are not used start anew at random, as those of VQ and RVQ do."""
    config = CONFIGS[kind]
    whole = train(config, None)
    state = torch.get_rng_state()
    path = tmp_path / "c.safetensors"
    for stop in (1, 5, 8):
        with pytest.raises(KeyboardInterrupt):
            train(config, path, at(stop))
        assert steps_done(path) == stop
    resumed = train(config, path)
    assert_same(whole, resumed)
    assert not resumed.training
    assert torch.equal(torch.get_rng_state(), state)


def test_a_crash_costs_the_steps_since_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "CHECKPOINT_EVERY", 3)
    config, path = CONFIGS["vq"], tmp_path / "c.safetensors"

    def crash(done: int) -> None:
        if done == 8:
            raise Crash

    with pytest.raises(Crash):
        train(config, path, crash)
    assert steps_done(path) == 6
    steps: list[int] = []
    assert_same(train(config, path, steps.append), train(config, None))
    assert steps == [6, 7, 8, 9, 10, 11, 12]


def test_sigterm_is_told_apart(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        with pytest.raises(Terminated):
            train(CONFIGS["fsq"], tmp_path / "c.safetensors", at(2, signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps_done(tmp_path / "c.safetensors") == 2


def test_the_last_step_is_the_end(tmp_path: Path) -> None:
    config = CONFIGS["fsq"]
    assert_same(train(config, tmp_path / "c.safetensors", at(12)), train(config, None))


def test_without_a_file_it_stops_at_once() -> None:
    # Where tests run in the background SIGINT may be ignored from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(CONFIGS["fsq"], None, at(2))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("part", ["key", "config", "training", "features"])
def test_another_run_is_refused(part: str, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(CONFIGS["fsq"], path, at(2))
    features, config, training, key = FEATURES, CONFIGS["fsq"], STEPS, 3
    if part == "key":
        key = 4
    elif part == "config":
        config = dataclasses.replace(config, mel=MelConfig(floor=1e-3))
    elif part == "training":
        training = dataclasses.replace(training, steps=13)
    else:
        features = [*FEATURES[:-1], FEATURES[-1] + np.float32(1e-3)]
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"of this tokenizer.* it is of a run with another {part}"):
        train_tokenizer(features, config, training, key=key, checkpoint=path)
    assert path.read_bytes() == before


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_network(path, {"a": torch.zeros(2)}, {"format": 1})
    with pytest.raises(ValueError, match="a checkpoint of a tokenizer that tokenkl wrote"):
        train(CONFIGS["fsq"], path)
    with pytest.raises(ValueError, match="a checkpoint of a tokenizer that tokenkl wrote"):
        steps_done(path)
    assert steps_done(tmp_path / "nothing.safetensors") == 0
