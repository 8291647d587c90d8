"""Training: bits do not depend on interruptions; what is written is what was promised."""

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import hostile
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from tts.training_case import CONFIG, Small, SmallConfig, make_examples, run

from tokenkl import FSQ, _progress
from tokenkl._random import generator
from tokenkl.tts import training
from tokenkl.tts.ar import AR, ARConfig
from tokenkl.tts.cdcd import CDCD, CDCDConfig
from tokenkl.tts.data import Batch, Example, batches
from tokenkl.tts.interrupts import Terminated, interrupts
from tokenkl.tts.levels import noise_levels
from tokenkl.tts.stored import write_network
from tokenkl.tts.training import (
    PRESETS,
    TrainConfig,
    learning_rate,
    plot_losses,
    read_log,
    read_weights,
    train,
)
from tokenkl.tts.training_log import LOG, loss_band, reference_band

TIMES = ["seconds"]
QUIET = {"progress": lambda done, total: None}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder).finished
    return folder


def same_runs(one: Path, other: Path) -> None:
    for name in (training.FINAL, "ema-0000030.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    first, second = (read_log(folder).drop(columns=TIMES) for folder in (one, other))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


# ---- Bits ----------------------------------------------------------------------------------------


def test_same_key_same_bits(whole: Path, tmp_path: Path) -> None:
    run(tmp_path)
    same_runs(whole, tmp_path)


@pytest.mark.parametrize("stops", [(1,), (7, 8), (29, 31, 59)])
def test_stopped_and_resumed(whole: Path, tmp_path: Path, stops: tuple[int, ...]) -> None:
    """Exceptions out of the middle of a run, as a killed process would end."""
    for stop in stops:

        def break_off(done: float, total: float, stop: int = stop) -> None:
            if done == stop:
                raise RuntimeError("stopped here")

        with pytest.raises(RuntimeError, match="stopped here"):
            run(tmp_path, progress=break_off)
    assert run(tmp_path).finished
    same_runs(whole, tmp_path)


def kill_when(
    folder: Path, condition: Callable[[], bool], steps: int, *, seconds: float = 50
) -> None:
    """Start a run in a process of its own and kill it as soon as the condition holds."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    program = [sys.executable, str(Path(__file__).with_name("training_case.py")), str(folder)]
    changes = json.dumps({"steps": steps})
    with subprocess.Popen([*program, changes], env=environment) as process:
        until = time.monotonic() + seconds
        while not condition() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL  # it was still at work


@pytest.mark.slow
def test_killed_and_resumed(tmp_path: Path) -> None:
    """SIGKILL in the middle, and again while a checkpoint is being written."""
    config = dataclasses.replace(CONFIG, steps=400)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(whole, config)
    log = killed / LOG
    size = [0]

    def grown() -> bool:
        return log.is_file() and log.stat().st_size > size[0] + 1500

    for condition in (grown, lambda: grown() and any(killed.glob(".checkpoint.*"))):
        kill_when(killed, condition, config.steps)
        size[0] = log.stat().st_size if log.is_file() else 0
    assert not (killed / training.FINAL).exists()
    run(killed, config)
    same_runs(whole, killed)
    assert {path.name for path in killed.glob(".*")} <= {".lock"}


@pytest.mark.slow
def test_killed_once_and_resumed(whole: Path, tmp_path: Path) -> None:
    """SIGKILL after the first checkpoint."""
    kill_when(tmp_path, lambda: (tmp_path / training.CHECKPOINT).is_file(), CONFIG.steps)
    header, _ = training._read_file(tmp_path / training.CHECKPOINT, "a checkpoint")
    assert 0 < header["step"] < CONFIG.steps
    run(tmp_path)
    same_runs(whole, tmp_path)


def test_interrupt_leaves_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    def interrupt(done: float, total: float) -> None:
        if done == 11:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    header, _ = training._read_file(tmp_path / training.CHECKPOINT, "a checkpoint")
    assert header["step"] == 11
    assert training.steps_done(tmp_path) == 11
    assert training.steps_done(tmp_path / "nothing") == 0
    run(tmp_path)
    same_runs(whole, tmp_path)
    assert training.steps_done(tmp_path) == CONFIG.steps


def test_time_limit(whole: Path, tmp_path: Path) -> None:
    """A limit below one step stops after every step, and the end is the same."""
    config = dataclasses.replace(CONFIG, max_seconds=1e-9, checkpoint_every=1000)
    steps = [run(tmp_path, config).step for _ in range(3)]
    assert steps == [1, 2, 3]
    assert run(tmp_path).finished  # what does not decide the weights may change
    same_runs(whole, tmp_path)


def real_model(kind: str) -> AR | CDCD:
    """A narrow model of the library for the examples of this file."""
    torch.manual_seed(0)
    if kind == "ar":
        return AR(ARConfig(K=32, symbols=40, width=16, heads=2, depth=1))
    config = CDCDConfig(
        K=32, symbols=40, dim=5, width=16, heads=2, depth=1, time_width=8, text_width=8,
        text_blocks=1,
    )  # fmt: skip
    codebook = FSQ((2,) * 5)
    return CDCD(config, np.asarray(codebook.points), noise_levels("linear-vp", codebook))


@pytest.mark.parametrize("kind", ["cdcd", "ar"])
def test_real_models_resume(tmp_path: Path, kind: str) -> None:
    config = TrainConfig(steps=9, batch=8, warm_up=2, log_every=2, valid_every=4)
    limited = dataclasses.replace(config, max_seconds=1e-9)
    options: dict[str, Any] = {"key": 1, "valid": make_examples(6, key=6), "cpu": True} | QUIET
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(real_model(kind), make_examples(), config, whole, **options)
    while not train(real_model(kind), make_examples(), limited, parts, **options).finished:
        pass
    states = [read_weights(folder)[1] for folder in (whole, parts)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    logs = [read_log(folder).drop(columns=TIMES) for folder in (whole, parts)]
    pd.testing.assert_frame_equal(*logs, check_exact=True)


@pytest.mark.parametrize("kind", ["cdcd", "ar"])
def test_every_parameter_takes_part(kind: str) -> None:
    """Several processes wait for the gradient of every parameter."""
    model = real_model(kind).train()
    batch = next(batches(make_examples(), "stretch", 8, key=0))
    model.loss(batch, torch.Generator().manual_seed(0))[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


# ---- Against a loop written by hand --------------------------------------------------------------


def test_against_a_plain_loop(whole: Path) -> None:
    """AdamW, clipping, learning rate and moving average, written once more in float32."""
    model, config = Small().train(), CONFIG
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(
        groups,
        betas=config.betas,
        weight_decay=config.weight_decay,
        foreach=False,
    )
    average = {name: p.detach().double() for name, p in model.named_parameters()}
    losses = []
    stream = batches(make_examples(), config.layout, config.batch, key=3)
    for step, batch in zip(range(config.steps), stream, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, step)
        rng = torch.Generator().manual_seed(int(generator(3, 2, step, 0).integers(2**63)))
        loss, _ = model.loss(batch, rng)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        decay = min(config.ema, (1 + step) / (10 + step))
        for name, p in model.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * p.detach().double()
        losses.append(float(loss.detach()))
    _, state = read_weights(whole)
    for name, value in average.items():
        assert torch.allclose(state[name].double(), value, rtol=1e-3, atol=1e-4), name
    log = read_log(whole)
    np.testing.assert_allclose(log["loss"], np.reshape(losses, (-1, 5)).mean(1), rtol=1e-4)


def test_learns(whole: Path) -> None:
    log = read_log(whole)
    assert log["loss"].iloc[-1] < 0.6 * log["loss"].iloc[0]
    assert log["valid_loss"].dropna().is_monotonic_decreasing
    assert log["valid_loss"].notna().tolist() == (log["step"] % 20 == 0).tolist()
    assert log["step"].tolist() == list(range(5, 61, 5))
    assert (log["constant"] == 2).all()
    assert log["accuracy"].between(0, 1).all()
    assert log["tokens"].is_monotonic_increasing
    assert log["learning_rate"].iloc[0] == CONFIG.learning_rate


def test_validation_uses_the_average(whole: Path) -> None:
    """The last validation loss is that of the final file, with the noise of the key."""
    model = Small(seed=1)
    model.load_state_dict(read_weights(whole)[1])
    model.eval()
    total, count = 0.0, 0
    for index, batch in enumerate(training._valid_batches(make_examples(9, key=6), CONFIG)):
        size = int(batch.token_mask.sum())
        with torch.no_grad():
            total += size * float(model.loss(batch, training._torch_rng(3, 4, index))[0])
        count += size
    assert read_log(whole)["valid_loss"].iloc[-1] == pytest.approx(total / count, rel=1e-6)


def test_buffers_and_tied_weights(whole: Path) -> None:
    header, state = read_weights(whole)
    assert header["kind"] == "small"
    assert header["config"] == SmallConfig().to_json()
    assert TrainConfig.from_json(header["train"]) == CONFIG
    assert state["seen"] == 60
    assert torch.equal(state["head.weight"], state["tokens.weight"])
    snapshot, early = read_weights(whole / "ema-0000030.safetensors")
    assert snapshot["step"] == 30
    assert early["seen"] == 30
    assert not torch.equal(early["head.weight"], state["head.weight"])


def test_model_carries_the_average(whole: Path, tmp_path: Path) -> None:
    model = Small()
    options: dict[str, Any] = {"key": 3, "cpu": True, "progress": lambda done, total: None}
    train(model, make_examples(), dataclasses.replace(CONFIG, steps=30), tmp_path, **options)
    assert not model.training
    for name, value in read_weights(tmp_path)[1].items():
        assert torch.equal(model.state_dict()[name], value)


# ---- Refusals ------------------------------------------------------------------------------------


def test_finished_folder_returns_at_once(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    result = run(whole, record={"not": "used"})
    assert result.finished
    assert result.header["record"] == {}
    assert before == {path: path.stat().st_mtime_ns for path in whole.iterdir()}


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_other_configuration_is_refused(whole: Path, tmp_path: Path, state: str) -> None:
    folder = whole
    if state == "stopped":
        folder = tmp_path
        run(folder, dataclasses.replace(CONFIG, max_seconds=1e-9))
    faster = dataclasses.replace(CONFIG, learning_rate=0.5)
    with pytest.raises(ValueError, match=r"^folder must be .* train\.learning_rate = 0\.01\.$"):
        run(folder, faster)
    with pytest.raises(ValueError, match=r"with key = "):
        run(folder, key=4)
    with pytest.raises(ValueError, match=r"with data = "):
        train(Small(), make_examples(41), CONFIG, folder, key=3)
    with pytest.raises(ValueError, match=r"config\.width = 24"):
        train(Small(SmallConfig(width=8)), make_examples(), CONFIG, folder, key=3)
    seen = Small().seen
    for value in (seen + 1, seen.to(torch.int32), seen.reshape(-1, 1)):
        other = Small()
        other.seen = value
        with pytest.raises(ValueError, match=r"with buffers = "):
            train(other, make_examples(), CONFIG, folder, key=3)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        read_weights(tmp_path)
    (tmp_path / training.FINAL).write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="weights that tokenkl wrote"):
        run(tmp_path)
    with pytest.raises(ValueError, match="folder with the log"):
        read_log(tmp_path)
    with pytest.raises(ValueError, match=r"^model must be a model with `loss`"):
        train(nn.Linear(1, 1), make_examples(), CONFIG, tmp_path, key=0)


def _stopped(folder: Path) -> None:
    """A run that was stopped at step 10."""

    def stop(done: float, total: float) -> None:
        if done == 10:
            raise RuntimeError("stopped here")

    with pytest.raises(RuntimeError, match="stopped here"):
        run(folder, dataclasses.replace(CONFIG, checkpoint_every=5), progress=stop)


@pytest.mark.parametrize(
    "damage",
    [b"\0" * 100, b"\xff\xfe", b"{", b"[]", b'{"step": 5}', b'{"step": "x", "loss": 1}',
     b'{"step": 5, "loss": "low"}', b"[" * 5000],
)  # fmt: skip
def test_a_damaged_line_of_the_log_is_left_out_by_name(damage: bytes, tmp_path: Path) -> None:
    log = tmp_path / LOG
    lines = [
        b'{"step": 5, "loss": 1}',
        damage,
        b'{"step": 10, "loss": 2, "more": NaN}',
        damage,
        b"",
    ]
    log.write_bytes(b"\n".join(lines))
    with pytest.warns(UserWarning, match=rf"^Left out line 2 and 1 more of {log}: damaged\.$"):
        assert read_log(tmp_path)["step"].tolist() == [5, 10]


def test_a_run_with_a_damaged_log_goes_on(whole: Path, tmp_path: Path) -> None:
    """Zeros after a loss of power, say: to the same weights and lines."""
    _stopped(tmp_path)
    log = tmp_path / LOG
    log.write_bytes(bytes(100) + b"\n" + log.read_bytes())
    with pytest.warns(UserWarning, match="Left out line 1 of"):
        assert run(tmp_path).finished
    same_runs(whole, tmp_path)


def test_a_log_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOG)
    with pytest.raises(ValueError, match="the log of a training run; it is a device or a pipe"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("model/head.bias", lambda v: v[:1], r"must be of shape \(32,\); got of shape \(1,\)"),
        ("ema/head.bias", lambda v: v.double() * np.nan, "finite everywhere"),
        (
            "optimiser/exp_avg/head.bias",
            lambda v: v.long(),
            "of type torch.float32",
        ),
        ("optimiser/exp_avg_sq/head.bias", None, r"must be of shape \(32,\); got missing"),
        ("buffer/seen", None, r"must be of shape \(\); got missing"),
        ("model/extra", lambda v: torch.zeros(2), r"must be missing; got of shape \(2,\)"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    part: str, change: Callable[..., Any] | None, message: str, tmp_path: Path
) -> None:
    """Also where PyTorch would stretch one number over many."""
    _stopped(tmp_path)
    path = tmp_path / training.CHECKPOINT
    header, tensors = training._read_file(path, "a checkpoint")
    value = tensors.pop(part, None)
    if change is not None:
        tensors[part] = change(value)
    write_network(path, tensors, header)
    named = (
        rf"{training.CHECKPOINT} must be the checkpoint of this model; in it, the tensor {part} "
    )
    with pytest.raises(ValueError, match=named + f".*{message}"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -1}, "its step must be a whole number, at least 0"),
        ({"step": "x"}, "its header.step must be a whole number of 64 bits; got 'x'"),
        ({"state": []}, "its header.state must be a table"),
        ({"format": 2}, "its header.format must be 1; got 2"),
    ],
)
def test_a_checkpoint_with_another_header_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    _stopped(tmp_path)
    path = tmp_path / training.CHECKPOINT
    header, tensors = training._read_file(path, "a checkpoint")
    write_network(path, tensors, header | change)
    for look in (training.steps_done, run):
        with pytest.raises(ValueError, match=f"a checkpoint that tokenkl wrote; in it, {message}"):
            look(tmp_path)


def test_weights_of_another_model_are_refused(whole: Path, tmp_path: Path) -> None:
    header, state = read_weights(whole)
    state["head.bias"] = state["head.bias"][:1]
    write_network(tmp_path / training.FINAL, state, header)
    with pytest.raises(
        ValueError, match=r"the weights of this model; in it, the tensor head\.bias"
    ):
        run(tmp_path)


def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with hostile.full_disk(5000), pytest.raises(OSError) as caught:
        write_network(path, {"a": torch.zeros(9000)}, {})
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_infinite_loss_stops_and_spares_the_checkpoint(tmp_path: Path) -> None:
    class Bursting(Small):
        def loss(self, batch: Batch, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
            loss, scalars = super().loss(batch, rng)
            return loss / (0.0 if self.seen == 18 else 1.0), scalars

    with pytest.raises(FloatingPointError, match="at step 20"):
        train(Bursting(), make_examples(), CONFIG, tmp_path, key=3, cpu=True,
              progress=lambda done, total: None)  # fmt: skip
    header, tensors = training._read_file(tmp_path / training.CHECKPOINT, "a checkpoint")
    assert header["step"] == 14
    assert all(value.isfinite().all() for value in tensors.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("batch", 1.5), ("layout", "diagonal"), ("learning_rate", 0), ("betas", (1, 0)),
     ("weight_decay", -1), ("weight_decay", float("nan")), ("warm_up", -1), ("decay", "step"),
     ("clip", -1), ("ema", 1), ("mixed_precision", "fp8"), ("checkpoint_every", 0),
     ("snapshots", (5, 5)), ("snapshots", (2001,)), ("snapshots", (0,)), ("max_seconds", 0),
     ("batch_tokens", 0), ("log_every", 0), ("valid_every", 0)],
)  # fmt: skip
def test_config_refuses(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets(name: str) -> None:
    config = PRESETS[name]
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_learning_rate() -> None:
    config = TrainConfig(steps=100, warm_up=10, learning_rate=1.0)
    cases: tuple[tuple[Literal["constant", "linear", "cosine"], float, float], ...] = (
        ("constant", 1.0, 1.0),
        ("linear", 0.5, 1 / 90),
        ("cosine", 0.5, 0.5 * (1 + np.cos(np.pi * 89 / 90))),
    )
    for decay, middle, last in cases:
        rates = [learning_rate(dataclasses.replace(config, decay=decay), s) for s in range(100)]
        assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
        assert rates[55] == pytest.approx(middle)
        assert rates[99] == pytest.approx(last)


def test_bf16_and_token_batches(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=30, mixed_precision="bf16", batch_tokens=150)
    run(tmp_path, config)
    log = read_log(tmp_path)
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]
    assert all(v.dtype == torch.float32 for v in read_weights(tmp_path)[1].values())
    assert (log["tokens"].diff().dropna() <= 5 * (150 + 24)).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_fp16_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^mixed_precision must be .* on the CPU"):
        run(tmp_path, dataclasses.replace(CONFIG, mixed_precision="fp16"))


# ---- Batches by tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [48, 100, 333, 10_000])
def test_token_batches(size: int) -> None:
    examples = make_examples(60)
    total = sum(e.tokens.size for e in examples)
    each = -(-total // size)
    stream = batches(examples, "stretch", size, key=1, unit="tokens")
    drawn = [next(stream) for _ in range(2 * each)]
    counts = [int(batch.token_mask.sum()) for batch in drawn]
    assert sum(counts[:each]) == sum(counts[each:]) == total
    assert min(counts) > 0
    assert max(abs(count - total / each) for count in counts) <= 24  # the longest
    late = next(batches(examples, "stretch", size, key=1, unit="tokens", start=each + each // 2))
    assert torch.equal(late.tokens, drawn[each + each // 2].tokens)


def test_token_batches_need_room() -> None:
    with pytest.raises(ValueError, match="two of the longest example's 24 tokens"):
        next(batches(make_examples(60), "stretch", 47, key=1, unit="tokens"))


# ---- Several processes ---------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes(whole: Path, tmp_path: Path) -> None:
    """Two processes with half a batch each, by the noise of the model not quite the same run."""
    program = str(Path(__file__).with_name("training_case.py"))
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2",
         "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
         "--num_cpu_threads_per_process", "1", program, str(tmp_path)],
        check=True, timeout=120, capture_output=True,
    )  # fmt: skip
    one, two = read_log(whole), read_log(tmp_path)
    assert one["tokens"].tolist() == two["tokens"].tolist()
    assert two["loss"].to_numpy() == pytest.approx(one["loss"].to_numpy(), rel=0.1)
    assert two["valid_loss"].iloc[-1] == pytest.approx(one["valid_loss"].iloc[-1], rel=0.1)


def test_shares_make_the_batch() -> None:
    batch = next(batches(make_examples(), "stretch", 5, key=0))
    parts = [training._share(batch, rank, 3) for rank in range(3)]
    assert sum(len(part.tokens) for part in parts) == 5
    assert sum(int(part.token_mask.sum()) for part in parts) == int(batch.token_mask.sum())
    assert len(training._share(batch, 7, 8).tokens) == 1


# ---- Log and picture -----------------------------------------------------------------------------


def test_log_ignores_half_a_line(whole: Path, tmp_path: Path) -> None:
    text = (whole / LOG).read_text()
    (tmp_path / LOG).write_text(text[:-20])
    assert len(read_log(tmp_path)) == len(read_log(whole)) - 1


def test_picture(whole: Path, tmp_path: Path) -> None:
    band = loss_band([whole, read_log(whole)])
    log = read_log(whole)
    assert (band["low"] < band["high"]).all()
    assert band["step"].tolist() == log["step"].tolist()
    for name in ("losses.png", "losses.svg"):
        plot_losses([whole], tmp_path / name, band)
        first = (tmp_path / name).read_bytes()
        plot_losses({whole.name: log}, tmp_path / name, band)
        assert (tmp_path / name).read_bytes() == first
    with pytest.raises(ValueError, match="logs must be"):
        plot_losses({}, tmp_path / "none.png")


def test_references_are_bands() -> None:
    for text in ("phonemes", "characters"):
        band = reference_band(text)
        assert (band.low < band.high).all()
        assert band.low.iloc[0] > band.high.iloc[-1]  # something was learned
    with pytest.raises(ValueError, match="text"):
        reference_band("words")


# ---- Patience ------------------------------------------------------------------------------------


#: Tokens that have nothing to do with the symbols: what is learned of them does not carry over.
NOISE = dataclasses.replace(CONFIG, steps=200, learning_rate=3e-2, valid_every=4, snapshots=())


def noise_examples(count: int, key: int) -> list[Example]:
    rng = generator(key)
    return [
        Example(f"n{i}", "", rng.integers(32, size=18), 1 + rng.integers(30, size=6), None)
        for i in range(count)
    ]


def run_on_noise(folder: Path, config: TrainConfig = NOISE, **options: Any) -> training.Trained:
    own: dict[str, Any] = {"key": 3, "valid": noise_examples(9, 6), "cpu": True, "patience": 3}
    return train(Small(), noise_examples(16, 5), config, folder, **(own | QUIET | options))


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patient")
    assert run_on_noise(folder).finished
    return folder


@pytest.mark.slow
def test_patience_ends_at_the_best_validation(patient: Path, tmp_path: Path) -> None:
    """Against a run to the end: the same lines up to there, and the weights of the lowest one."""
    long = dataclasses.replace(NOISE, snapshots=tuple(range(4, 201, 4)))
    run_on_noise(tmp_path, long, patience=None)
    full, log = read_log(tmp_path), read_log(patient)
    losses = full.dropna(subset=["valid_loss"])
    lowest, waited, best = np.inf, 0, 0
    for row in losses.itertuples():
        waited = 0 if row.valid_loss < lowest else waited + 1
        best = row.step if waited == 0 else best
        lowest = min(lowest, row.valid_loss)
        if waited == 3:
            break
    assert 0 < best < row.step < 200  # the case is one: it stops, and not at once
    header, state = read_weights(patient)
    assert header["step"] == best
    assert header["best"] == {"loss": lowest, "ended": row.step}
    assert training.steps_done(patient) == row.step == log["step"].iloc[-1]
    assert run_on_noise(patient).step == row.step  # finished, and only read
    for name, value in read_weights(tmp_path / f"ema-{best:07d}.safetensors")[1].items():
        if name != "seen":  # a buffer, which is not averaged
            assert torch.equal(state[name], value), name
    shared = [*set(full.columns) - set(TIMES)]
    pd.testing.assert_frame_equal(log[shared], full[shared][: len(log)], check_exact=True)
    assert log["best_step"].iloc[-1] == best
    assert log["waited"].iloc[-1] == 3


@pytest.mark.parametrize("seconds", [1e-9, None])
def test_patience_goes_on_with_the_same_bits(
    patient: Path, tmp_path: Path, seconds: float | None
) -> None:
    """Stopped after every step, and broken off in the middle."""
    if seconds is None:
        stop = training.steps_done(patient) - 2

        def break_off(done: float, total: float) -> None:
            if done == stop:
                raise RuntimeError("stopped here")

        with pytest.raises(RuntimeError, match="stopped here"):
            run_on_noise(tmp_path, progress=break_off)
    limited = dataclasses.replace(NOISE, max_seconds=seconds)
    while not run_on_noise(tmp_path, limited).finished:
        pass
    first, second = (read_weights(folder) for folder in (patient, tmp_path))
    assert first[0]["best"] == second[0]["best"]
    for name, value in first[1].items():
        assert torch.equal(value, second[1][name]), name
    logs = [read_log(folder).drop(columns=TIMES) for folder in (patient, tmp_path)]
    pd.testing.assert_frame_equal(*logs, check_exact=True)


def test_the_model_carries_the_best_weights(tmp_path: Path) -> None:
    model = Small()
    options: dict[str, Any] = {"valid": noise_examples(9, 6), "patience": 2, "key": 3, "cpu": True}
    train(model, noise_examples(16, 5), NOISE, tmp_path, **(options | QUIET))
    for name, value in read_weights(tmp_path)[1].items():
        assert torch.equal(model.state_dict()[name], value)


def test_patience_that_is_never_lost(tmp_path: Path) -> None:
    """All steps are made, and the weights are still those of the best validation."""
    short = dataclasses.replace(NOISE, steps=8)
    found = run_on_noise(tmp_path, short, patience=100)
    assert found.step == found.header["best"]["ended"] == 8
    losses = read_log(tmp_path).dropna(subset=["valid_loss"])
    assert found.header["step"] == losses["step"][losses["valid_loss"].idxmin()]


def test_patience_is_part_of_a_run(patient: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^folder must be a run with 4 .*rules\.patience = 3"):
        run_on_noise(patient, patience=4)
    with pytest.raises(ValueError, match=r"rules\.patience = 3"):
        run_on_noise(patient, patience=None)
    with pytest.raises(ValueError, match=r"rules\.patience = None"):
        run(whole, patience=3)
    with pytest.raises(ValueError, match=r"^patience must be None where .* validate on; got 3"):
        run_on_noise(tmp_path, valid=())
    with pytest.raises(ValueError, match=r"^patience must be a whole number, at least 1"):
        run_on_noise(tmp_path, patience=0)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


@pytest.mark.parametrize("kind", ["cdcd", "ar"])
def test_one_rule_for_both_models(tmp_path: Path, kind: str) -> None:
    """Diffusion and its twin end by the lowest validation loss of their own."""
    config = TrainConfig(
        steps=60, batch=8, warm_up=2, learning_rate=2e-2, ema=0.5, valid_every=3, decay="constant"
    )
    options: dict[str, Any] = {"valid": noise_examples(6, 6), "key": 1, "cpu": True} | QUIET
    model = real_model(kind)
    found = train(model, noise_examples(8, 5), config, tmp_path, patience=2, **options)
    losses = read_log(tmp_path).dropna(subset=["valid_loss"])
    assert found.step < 60
    assert found.header["step"] == losses["step"][losses["valid_loss"].idxmin()]


# ---- Buckets -------------------------------------------------------------------------------------


def test_buckets_count_padding_and_go_on(tmp_path: Path) -> None:
    """As many tokens as the examples of a batch have on average; stopped, to the same bits."""
    config = dataclasses.replace(CONFIG, steps=12, log_every=1, snapshots=())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, config, buckets=True)
    assert read_weights(whole)[0]["rules"] == {"buckets": True}
    tokens = np.diff(read_log(whole)["tokens"], prepend=0)
    sizes = [example.tokens.size for example in make_examples()]
    assert tokens.max() <= round(8 * np.mean(sizes))
    assert tokens.mean() > 6 * np.mean(sizes)
    limited = dataclasses.replace(config, max_seconds=1e-9)
    for _ in range(3):
        run(parts, limited, buckets=True)
    run(parts, config, buckets=True)
    assert (whole / training.FINAL).read_bytes() == (parts / training.FINAL).read_bytes()
    with pytest.raises(ValueError, match=r"rules\.buckets = True"):
        run(whole, config)


def test_buckets_of_a_given_size(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=6, log_every=1, batch_tokens=30, snapshots=())
    run(tmp_path, config, buckets=True)
    assert np.diff(read_log(tmp_path)["tokens"], prepend=0).max() <= 30


# ---- Signals -------------------------------------------------------------------------------------


def test_sigterm_leaves_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    """As Ctrl-C does; it is put back to what it was."""

    def terminate(done: float, total: float) -> None:
        if done == 11:
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated):
        run(tmp_path, progress=terminate)
    assert signal.getsignal(signal.SIGTERM) is before
    assert training.steps_done(tmp_path) == 11
    run(tmp_path)
    same_runs(whole, tmp_path)


def test_a_second_signal_does_what_it_did_before() -> None:
    """And one that is ignored stays ignored."""
    seen: list[int] = []
    own = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with interrupts() as event:
            signal.raise_signal(signal.SIGTERM)
            assert (event.is_set(), event.by, seen) == (True, signal.SIGTERM, [])
            signal.raise_signal(signal.SIGTERM)
            assert seen == [signal.SIGTERM]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with interrupts() as event:
            signal.raise_signal(signal.SIGTERM)
            assert not event.is_set()
    finally:
        signal.signal(signal.SIGTERM, own)


def test_lines_where_stderr_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "EVERY", 0.0)
    config = dataclasses.replace(CONFIG, steps=10, snapshots=())
    run(tmp_path, config, progress=None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training small: 0 of 10"
    assert re.fullmatch(r"training small: 10 of 10, loss \d\.\d{3}", lines[-1])
    monkeypatch.undo()
    run(tmp_path / "again", config, progress=None)
    assert capsys.readouterr().err == ""  # no line in the first half minute
