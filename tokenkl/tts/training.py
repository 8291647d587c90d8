"""Training of any speech model that has `loss(batch, rng)`, on one process or several.

Step number s, counted from 0, sees batch number s and noise from a generator seeded by (key, s):
nothing depends on when a run was stopped and started again. On the CPU, with one number of
threads, a run that was killed ends with the same bits as one that was not.

A folder holds one run:

- `checkpoint.safetensors`: weights, their moving average, state of the optimiser;
- `log.jsonl`: one line for every `log_every` steps, read by `read_log`, drawn by `plot_losses`;
- `ema-0001000.safetensors`: the averaged weights after so many steps, for every snapshot;
- `ema.safetensors`: the averaged weights at the end, read by `read_weights`.

Models must use no randomness besides that generator, and every parameter in every loss when several
processes train.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn

from tokenkl._files import PathLike, locked
from tokenkl._formats import conform, reading
from tokenkl._progress import NotedReport, Report, reporting
from tokenkl._random import generator
from tokenkl._validation import check_choice, check_count, check_positive, reject
from tokenkl.tts.data import LAYOUTS, Batch, Example, Layout, Unit, batches, make_batch
from tokenkl.tts.interrupts import Interrupt, Terminated, interrupts
from tokenkl.tts.stored import check_state, open_network, write_network
from tokenkl.tts.training_log import LOG, append_line, cut_log
from tokenkl.tts.training_log import plot_losses as plot_losses
from tokenkl.tts.training_log import read_log as read_log

CHECKPOINT, FINAL = "checkpoint.safetensors", "ema.safetensors"

#: What may differ between the two halves of a run, since the weights do not depend on it.
FREE = ("checkpoint_every", "max_seconds")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Args:
        steps: optimiser steps.
        batch: utterances in one step, over all processes.
        batch_tokens: tokens in one step, over all processes; takes the place of `batch`.
        layout: how text lies over tokens; see `tokenkl.tts.data`.
        learning_rate: the highest one, of AdamW.
        betas: of AdamW.
        weight_decay: of AdamW, on parameters with two axes or more.
        warm_up: steps over which the learning rate rises linearly.
        decay: the learning rate afterwards: "constant", or down to 0 at the last step.
        clip: largest norm of the gradient.
        ema: decay of the moving average of the weights; min(ema, (1 + s) / (10 + s)) after s steps.
        mixed_precision: "no", "bf16", or "fp16" (GPU only). bf16 is slow on most CPUs.
        checkpoint_every: steps from one checkpoint to the next.
        log_every: steps from one line of the log to the next.
        valid_every: steps from one validation to the next.
        snapshots: numbers of steps after which the averaged weights are kept, increasing.
        max_seconds: stop with a checkpoint after so long in one call; None for no limit.

    Raises:
        ValueError: a value outside its range.
    """

    steps: int = 2000
    batch: int = 16
    batch_tokens: int | None = None
    layout: Layout = "stretch"
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warm_up: int = 100
    decay: Literal["constant", "cosine", "linear"] = "cosine"
    clip: float = 1.0
    ema: float = 0.999
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_every: int = 500
    log_every: int = 20
    valid_every: int = 200
    snapshots: tuple[int, ...] = ()
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "checkpoint_every", "log_every", "valid_every"):
            check_count(getattr(self, name), name)
        if self.batch_tokens is not None:
            check_count(self.batch_tokens, "batch_tokens")
        check_choice(self.layout, LAYOUTS, "layout")
        check_choice(self.decay, ("constant", "cosine", "linear"), "decay")
        check_choice(self.mixed_precision, ("no", "bf16", "fp16"), "mixed_precision")
        check_count(self.warm_up, "warm_up", 0)
        for name in ("learning_rate", "clip"):
            check_positive(getattr(self, name), name)
        if self.max_seconds is not None:
            check_positive(self.max_seconds, "max_seconds")
        if not self.weight_decay >= 0 or math.isinf(self.weight_decay):
            reject("weight_decay", self.weight_decay, "at least 0")
        betas, snapshots = tuple(self.betas), tuple(self.snapshots)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            reject("betas", betas, "two numbers in [0, 1)")
        if not 0 <= self.ema < 1:
            reject("ema", self.ema, "in [0, 1)")
        for one in snapshots:
            check_count(one, "every entry of snapshots")
        if list(snapshots) != sorted(set(snapshots)) or any(one > self.steps for one in snapshots):
            reject("snapshots", snapshots, f"increasing, and at most steps = {self.steps}")
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "snapshots", snapshots)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        record = dataclasses.asdict(self)
        return {**record, "betas": list(self.betas), "snapshots": list(self.snapshots)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> TrainConfig:
        """The inverse of `to_json`.

        Raises:
            ValueError: something else.
        """
        return conform(record, cls, "train")


#: How long to train; which model, is chosen elsewhere. "paper" is the training of arXiv 2606.09962.
PRESETS: dict[str, TrainConfig] = {
    "tiny": TrainConfig(
        steps=300, learning_rate=2e-3, warm_up=30, ema=0.99, checkpoint_every=100, valid_every=100
    ),
    "small": TrainConfig(steps=2000),
    "paper": TrainConfig(
        steps=1_500_000,
        batch_tokens=15_000,  # 600 s
        learning_rate=1e-4,
        warm_up=20_000,
        decay="linear",
        mixed_precision="bf16",
        checkpoint_every=2000,
        log_every=100,
        valid_every=5000,
    ),
}


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of step number `step`, counted from 0.

    >>> [learning_rate(TrainConfig(steps=8, warm_up=2, decay="linear"), s) for s in (0, 1, 2, 5)]
    [0.0005, 0.001, 0.001, 0.0005]
    """
    if step < config.warm_up:
        return config.learning_rate * (step + 1) / config.warm_up
    done = (step - config.warm_up) / max(1, config.steps - config.warm_up)
    factor = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
    }
    return config.learning_rate * factor[config.decay]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What became of a run.

    - `folder`: where it is.
    - `step`: steps done.
    - `finished`: whether these are all that there will be; otherwise `train` goes on there.
    - `header`: what `read_weights` returns with the weights; empty if not finished.
    """

    folder: Path
    step: int
    finished: bool
    header: dict[str, Any]


def steps_done(folder: PathLike) -> int:
    """Steps up to the last checkpoint of a run; 0 where there is none.

    Raises:
        ValueError: a file that is not a checkpoint.
    """
    path = Path(folder)
    if (path / FINAL).is_file():
        return _ended(read_weights(path)[0])
    if not (path / CHECKPOINT).is_file():
        return 0
    return int(_read_file(path / CHECKPOINT, "a checkpoint")[0]["step"])


def is_finished(folder: PathLike) -> bool:
    """Whether a run came to its end, by its steps or by its patience."""
    return (Path(folder) / FINAL).is_file()


def _ended(header: dict[str, Any]) -> int:
    """Steps of a run that is finished: more than those of its weights where these are the best."""
    return int(header["best"]["ended"] if "best" in header else header["step"])


def read_weights(path: PathLike) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and weights of `ema.safetensors`, of the folder that holds it, or of a snapshot.

    The header has `kind` and `config` of the model, `train` (the `TrainConfig` as JSON), `step`,
    `data` (a digest of the examples), `key` (likewise) and the caller's `record`. With patience,
    `step` is that of the best validation, and `best` has its `loss` and the step at which training
    `ended`.

    Raises:
        ValueError: no such file, or not one that `train` wrote.
    """
    path = Path(path)
    return _read_file(path / FINAL if os.path.isdir(path) else path, "weights")


def train(
    model: nn.Module,
    examples: Sequence[Example],
    config: TrainConfig,
    folder: PathLike,
    *,
    key: Any,
    valid: Sequence[Example] = (),
    patience: int | None = None,
    buckets: bool = False,
    record: dict[str, Any] | None = None,
    progress: Report | None = None,
    cpu: bool = False,
) -> Trained:
    """Train a model, or go on with a run that was stopped, or return one that is finished.

    Afterwards the model carries the averaged weights, in evaluation mode. Ctrl-C ends the step at
    hand, writes a checkpoint and raises `KeyboardInterrupt`; a second one raises at once. SIGTERM
    does the same, with `Terminated`, and a second one does what it would do otherwise. Several
    processes (`accelerate launch`) each take their share of every batch.

    Args:
        model: with `loss(batch, rng)`, `kind` and `config`. Its initial weights are the caller's
            choice; those of a checkpoint replace them.
        examples: what to learn from.
        config: how.
        folder: made if it is not there.
        key: whole number or JAX random key, of the order of batches and of the noise.
        valid: examples for the validation loss of the averaged weights, always with the same noise.
        patience: end after so many validations in a row without a smaller loss than the smallest
            before, and keep the averaged weights of that one; it is one rule for every model, by
            its own loss. None for all steps and the last weights.
        buckets: let batches be of similar length, and count padding: at most `batch_tokens`, or
            else as many tokens as `batch` examples have on average. For material of very different
            lengths, as recordings are.
        record: plain values that go into the header of the weights.
        progress: called with the numbers of steps done and in all; a bar on stderr when None.
        cpu: use the CPU even where there is a GPU.

    Raises:
        ValueError: a model without the attributes above, a folder with a run of another
            configuration or one that is being trained, too few examples, patience without examples
            to validate on, or fp16 without a GPU.
        FloatingPointError: the loss is no longer finite. The last checkpoint stays.
    """
    for name in ("loss", "kind", "config"):
        if not hasattr(model, name):
            reject("model", type(model).__name__, "a model with `loss`, `kind` and `config`")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if patience is not None:
        check_count(patience, "patience")
        if not valid:
            reject("patience", patience, "None where there are no examples to validate on")
    # Not of `TrainConfig`: what is not asked for must not show in records of older runs.
    rules: dict[str, Any] = {} if patience is None else {"patience": patience}
    if buckets:
        rules["buckets"] = True
    header = _header(model, examples, config, key, record, rules)
    if (folder / FINAL).is_file():
        found, state = read_weights(folder)
        _check_same(found, header, folder)
        with reading(folder / FINAL, "the weights of this model"):
            check_state(state, model.state_dict())
        model.load_state_dict(state)
        model.eval()
        return Trained(folder, _ended(found), True, found)
    with contextlib.ExitStack() as stack:
        if int(os.environ.get("RANK", "0")) == 0:  # of the processes of one training
            held = stack.enter_context(locked(folder / ".lock", wait=False))
            if not held:
                reject("folder", str(folder), "one that no other training is writing to")
        run = _Run(model, examples, valid, config, folder, key, header, cpu)
        if run.is_main:
            report: NotedReport = stack.enter_context(
                reporting(f"training {header['kind']}", progress)
            )
        else:
            report = _silent
        finished = run.go(report)
    return Trained(folder, run.step, finished, run.header if finished else {})


def _silent(done: float, total: float, note: str = "") -> None:
    """Progress of the processes that are not the main one."""


# ---- What a run is -------------------------------------------------------------------------------


def _header(
    model: Any,
    examples: Sequence[Example],
    config: TrainConfig,
    key: Any,
    record: dict[str, Any] | None,
    rules: dict[str, Any],
) -> dict[str, Any]:
    """The description of a run; everything but `record` decides the weights."""
    data = hashlib.sha256()
    for one in examples:
        for part in (one.tokens, one.symbols, one.lengths):
            data.update(b"-" if part is None else f"{part.dtype}{part.shape}".encode())
            data.update(b"" if part is None else part.tobytes())
        if one.speaker_id:  # so that runs from before there were any are the same
            data.update(f"speaker {one.speaker_id}".encode())
    buffers = hashlib.sha256()
    for name, value in model.named_buffers():
        buffers.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        buffers.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    header = {
        "format": 1,
        "kind": model.kind,
        "config": model.config.to_json(),
        "train": config.to_json(),
        **({"rules": rules} if rules else {}),
        "data": data.hexdigest()[:16],
        "buffers": buffers.hexdigest()[:16],
        "key": int(generator(key, 3).integers(2**53)),
        "step": config.steps,
        "record": record or {},
    }
    return json.loads(json.dumps(header))  # as it will be read again: lists for tuples


def _check_same(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    """Refuse a folder with another run."""
    for part in ("kind", "config", "train", "rules", "data", "buffers", "key"):
        old, new = found.get(part, {}), wanted.get(part, {})
        if isinstance(old, dict) and isinstance(new, dict):
            for name in dict.fromkeys([*old, *new]):
                if old.get(name) != new.get(name) and not (part == "train" and name in FREE):
                    was = f"one with {part}.{name} = {old.get(name)!r}"
                    reject("folder", was, f"a run with {new.get(name)!r} or empty ({folder})")
        elif old != new:
            reject("folder", f"one with {part} = {old}", f"a run with {new} or empty ({folder})")


class _Loss(nn.Module):
    """A model's loss as `forward`, which is what accelerate wraps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return self.model.loss(batch, rng)  # type: ignore[operator]


@dataclasses.dataclass
class _Best:
    """The smallest validation loss of a run with patience, and the averaged weights that had it.

    `waited` is the number of validations since.
    """

    loss: float = math.inf
    step: int = 0
    waited: int = 0
    weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def see(self, loss: float, step: int, weights: dict[str, Tensor]) -> None:
        if self.weights and not loss < self.loss:
            self.waited += 1
            return
        self.loss, self.step, self.waited, self.weights = loss, step, 0, _copies(weights)

    def note(self) -> str:
        return f", best validation {self.loss:.3f} at step {self.step}" if self.weights else ""


def _copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}


class _Run:
    """The state of a run and what is done with it."""

    def __init__(
        self,
        model: nn.Module,
        examples: Sequence[Example],
        valid: Sequence[Example],
        config: TrainConfig,
        folder: Path,
        key: Any,
        header: dict[str, Any],
        cpu: bool,
    ) -> None:
        self.config, self.folder, self.key, self.header = config, folder, key, header
        self.examples, self.model = examples, model
        self.accelerator = accelerator = _accelerator(config, cpu)
        self.is_main = accelerator.is_main_process
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        model.to(accelerator.device).train()
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.ema = _copies(self.parameters)
        self.fused = accelerator.device.type in ("cpu", "cuda")
        self.network, self.optimiser = accelerator.prepare(_Loss(model), self._adamw())
        self.valid = _valid_batches(valid, config)
        self.patience: int | None = header.get("rules", {}).get("patience")
        self.best = _Best()
        self.step = self.tokens = self.summed = 0
        self.seconds = 0.0  # of earlier calls
        self.sums: dict[str, Any] = {}  # since the last line of the log
        self._restore()

    def _adamw(self) -> torch.optim.AdamW:
        config, every = self.config, list(self.parameters.values())
        groups = [
            {"params": [p for p in every if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in every if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            config.learning_rate,
            betas=config.betas,
            fused=self.fused,
        )

    # ---- Steps

    def go(self, report: NotedReport) -> bool:
        """Train to the end, or until told to stop; whether the end was reached."""
        config = self.config
        unit, size = self._size_of_batches()
        stream = batches(
            self.examples, config.layout, size, key=self.key, start=self.step, unit=unit
        )
        self.started = time.monotonic()
        with interrupts() as interrupted:
            report(self.step, config.steps)
            note, stop = "", False
            while not self._is_over() and not stop:
                self._one_step(next(stream))
                if self._at(config.log_every) or (self.valid and self._at(config.valid_every)):
                    note = f"loss {self._log():.3f}{self.best.note()}"
                report(self.step, config.steps, note)
                if self.step in config.snapshots:
                    self._write_weights(f"ema-{self.step:07d}.safetensors")
                stop = self._should_stop(interrupted)
                if stop or self._at(config.checkpoint_every):
                    self._write_checkpoint()
        if not self._is_over():
            if interrupted.is_set():
                raise Terminated if interrupted.by == signal.SIGTERM else KeyboardInterrupt
            return False
        if self.best.weights:
            best = {"loss": self.best.loss, "ended": self.step}
            self.header = {**self.header, "step": self.best.step, "best": best}
            self.ema = self.best.weights
        self._write_weights(FINAL)
        self.accelerator.wait_for_everyone()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.ema[name])
        self.model.eval()
        return True

    def _size_of_batches(self) -> tuple[Unit, int]:
        tokens, count = self.config.batch_tokens, self.config.batch
        if not self.header.get("rules", {}).get("buckets"):
            return ("examples", count) if tokens is None else ("tokens", tokens)
        lengths = [example.tokens.size for example in self.examples]
        if tokens is None and lengths:
            tokens = max(*lengths, round(count * sum(lengths) / len(lengths)))
        return "padded", tokens or count

    def _one_step(self, batch: Batch) -> None:
        config, step = self.config, self.step
        rate = learning_rate(config, step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        everything = int(batch.token_mask.sum())
        share = _share(batch, self.rank, self.world)
        loss, scalars = self.network(
            share.to(self.accelerator.device), _torch_rng(self.key, 2, step, self.rank)
        )
        if self.world > 1:  # so that the mean over processes is the mean over tokens
            own = int(share.token_mask.sum()) if self.rank < len(batch.tokens) else 0
            loss = loss * (self.world * own / everything)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.parameters.values(), config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        decay = min(config.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), list(self.parameters.values()), 1 - decay)
        self.step += 1
        self.tokens += everything
        self.summed += 1
        # Nothing is read from the device here: sums stay there until a line is written.
        for name, value in {"loss": loss, "gradient_norm": norm, **scalars}.items():
            value = value.detach() if isinstance(value, Tensor) else float(value)
            self.sums[name] = self.sums.get(name, 0.0) + value

    def _is_over(self) -> bool:
        waited_enough = self.patience is not None and self.best.waited >= self.patience
        return waited_enough or self.step == self.config.steps

    def _at(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self.started

    def _should_stop(self, interrupted: Interrupt) -> bool:
        """Whether to stop here. Several processes agree on it, at lines of the log only."""
        limit = self.config.max_seconds
        late = limit is not None and time.monotonic() - self.started > limit
        if self.world == 1:
            return interrupted.is_set() or late
        if not self._at(self.config.log_every):
            return False
        flags = [float(interrupted.is_set()), float(late)]
        votes = torch.tensor(flags, device=self.accelerator.device)
        anyone, anyone_late = self.accelerator.reduce(votes, "sum").tolist()
        if anyone:
            interrupted.set()
        return bool(anyone or anyone_late)

    # ---- Files

    def _settle(self) -> None:
        """Sums as plain numbers, the same in every process."""
        names = sorted(self.sums)
        values = [float(self.sums[name]) for name in names]
        if self.world > 1:
            values = self._mean_over_processes(values)
        self.sums = dict(zip(names, values, strict=True))
        if not math.isfinite(self.sums.get("loss", 0.0)):
            raise FloatingPointError(
                f"The loss is no longer finite at step {self.step}; "
                f"lower learning_rate = {self.config.learning_rate} or raise warm_up."
            )

    def _mean_over_processes(self, values: list[float]) -> list[float]:
        together = torch.tensor(values, device=self.accelerator.device)
        return self.accelerator.reduce(together, "mean").tolist()

    def _log(self) -> float:
        """Write a line of the log; the mean loss since the last one."""
        self._settle()
        means = {name: value / self.summed for name, value in self.sums.items()}
        loss = means.pop("loss")
        line: dict[str, Any] = {"step": self.step, "loss": loss}
        if self.valid and self._at(self.config.valid_every):
            line["valid_loss"] = found = self._valid_loss()
            if self.patience is not None:
                if self.world > 1:  # all processes must end at the same step
                    found = self._mean_over_processes([found])[0]
                self.best.see(found, self.step, self.ema)
                line |= {"best_step": self.best.step, "waited": self.best.waited}
        line |= {"learning_rate": learning_rate(self.config, self.step - 1), **means}
        line |= {"tokens": self.tokens, "seconds": round(self._elapsed(), 3)}
        if self.is_main:
            append_line(self.folder / LOG, line)
        self.sums, self.summed = {}, 0
        return loss

    def _valid_loss(self) -> float:
        """Mean loss of the averaged weights in nats per token, with the same noise every time."""
        total = torch.zeros((), device=self.accelerator.device)
        count = 0
        self.model.eval()
        with self._averaged(), torch.no_grad(), self.accelerator.autocast():
            for index, batch in enumerate(self.valid):
                size = int(batch.token_mask.sum())
                rng = _torch_rng(self.key, 4, index)
                loss, _ = self.model.loss(  # type: ignore[operator]
                    batch.to(self.accelerator.device), rng
                )
                total += size * loss
                count += size
        self.model.train()
        return float(total) / count

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model with the averaged weights in place of its own."""
        own = {name: parameter.data for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            parameter.data = self.ema[name]
        try:
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data = own[name]

    def _write_weights(self, name: str) -> None:
        if not self.is_main:
            return
        with self._averaged():
            # Clones: safetensors refuses tensors that share memory, such as tied weights.
            state = {n: v.detach().cpu().clone() for n, v in self.model.state_dict().items()}
        header = self.header if name == FINAL else {**self.header, "step": self.step}
        write_network(self.folder / name, state, header)

    def _buffers(self) -> dict[str, Tensor]:
        kept = self.model.state_dict().keys()
        return {name: value for name, value in self.model.named_buffers() if name in kept}

    def _tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds besides the state of the optimiser."""
        tensors = {f"ema/{name}": value for name, value in self.ema.items()}
        tensors |= {f"best/{name}": value for name, value in self.best.weights.items()}
        tensors |= {f"buffer/{name}": value for name, value in self._buffers().items()}
        return tensors | {f"model/{n}": p.detach() for n, p in self.parameters.items()}

    def _write_checkpoint(self) -> None:
        self._settle()
        if not self.is_main:
            return
        tensors = self._tensors()
        for name, parameter in self.parameters.items():
            for entry, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser/{entry}/{name}"] = value
        scaler = self.accelerator.scaler
        state = {
            "sums": self.sums,
            "summed": self.summed,
            "tokens": self.tokens,
            "seconds": self._elapsed(),
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        if self.best.weights:
            best = self.best
            state["best"] = {"loss": best.loss, "step": best.step, "waited": best.waited}
        header = {**self.header, "step": self.step, "state": state}
        write_network(self.folder / CHECKPOINT, tensors, header)

    def _restore(self) -> None:
        """Go on from the checkpoint, if there is one."""
        path = self.folder / CHECKPOINT
        if path.is_file():
            header, tensors = _read_file(path, "a checkpoint")
            _check_same(header, self.header, self.folder)
            state = header["state"]
            if "best" in state:
                self.best = _Best(**state["best"], weights=_copies(self.parameters))
            wanted = self._tensors()
            for name, parameter in self.parameters.items():
                if f"optimiser/step/{name}" in tensors:  # not of what had no gradient yet
                    wanted[f"optimiser/step/{name}"] = torch.zeros(())
                    wanted[f"optimiser/exp_avg/{name}"] = parameter.detach()
                    wanted[f"optimiser/exp_avg_sq/{name}"] = parameter.detach()
            with reading(path, "the checkpoint of this model"):
                check_state(tensors, wanted)
                for name in ("summed", "tokens"):
                    check_count(state[name], name, 0)
            self.step, self.tokens, self.seconds = header["step"], state["tokens"], state["seconds"]
            self.sums, self.summed = state["sums"], state["summed"]
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            with torch.no_grad():
                self._restore_tensors(tensors)
        if self.is_main:
            for stem in ("checkpoint", "ema", "log"):  # left by a process killed while writing
                for left in self.folder.glob(f".{stem}*.*.*"):
                    left.unlink(missing_ok=True)
            cut_log(self.folder / LOG, self.step)

    def _restore_tensors(self, tensors: dict[str, Tensor]) -> None:
        for name, value in self._buffers().items():
            value.copy_(tensors[f"buffer/{name}"])
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"model/{name}"])
            self.ema[name].copy_(tensors[f"ema/{name}"])
            if self.best.weights:
                self.best.weights[name].copy_(tensors[f"best/{name}"])
        for full, value in tensors.items():
            if full.startswith("optimiser/"):
                _, entry, name = full.split("/", 2)
                parameter = self.parameters[name]
                # AdamW that is not fused counts its steps on the CPU.
                device = parameter.device if self.fused or entry != "step" else "cpu"
                self.optimiser.state[parameter][entry] = value.to(device)


# ---- Small parts ---------------------------------------------------------------------------------


def _accelerator(config: TrainConfig, cpu: bool) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # accelerate keeps one state for a process, and would refuse another precision than before.
    AcceleratorState._reset_state(  # noqa: SLF001 - there is no public way
        reset_partial_state=not torch.distributed.is_initialized()
    )
    accelerator = Accelerator(mixed_precision=config.mixed_precision, cpu=cpu)
    if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        reject("mixed_precision", config.mixed_precision, "'no' or 'bf16' on the CPU")
    return accelerator


def _torch_rng(key: Any, *stream: int) -> torch.Generator:
    """A CPU generator that depends on the key and the stream alone."""
    rng = torch.Generator()
    return rng.manual_seed(int(generator(key, *stream).integers(2**63)))


def _share(batch: Batch, rank: int, world: int) -> Batch:
    """Every `world`-th utterance from number `rank` on; the first one, to be ignored, if none."""
    if world == 1:
        return batch
    rows = slice(rank, None, world) if rank < len(batch.tokens) else slice(0, 1)
    return Batch(*(part[rows] for part in batch))


def _valid_batches(valid: Sequence[Example], config: TrainConfig) -> list[Batch]:
    ordered = sorted(valid, key=lambda example: example.tokens.size)
    return [
        make_batch(ordered[start : start + config.batch], config.layout)
        for start in range(0, len(ordered), config.batch)
    ]


class _BestOfAll(TypedDict):
    loss: float
    ended: int


class _OfPatience(TypedDict, total=False):
    rules: dict[str, Any]
    best: _BestOfAll


class _OfWeights(_OfPatience):
    format: Literal[1]
    kind: str
    config: dict[str, Any]
    train: dict[str, Any]
    data: str
    buffers: str
    key: int
    step: int
    record: dict[str, Any]


class _BestSoFar(TypedDict):
    loss: float
    step: int
    waited: int


class _StateOfPatience(TypedDict, total=False):
    best: _BestSoFar


class _State(_StateOfPatience):
    sums: dict[str, float]
    summed: int
    tokens: int
    seconds: float
    scaler: dict[str, Any]


class _OfCheckpoint(_OfWeights):
    state: _State


_HEADERS = {"weights": _OfWeights, "a checkpoint": _OfCheckpoint}


def _read_file(path: Path, what: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with open_network(path, f"{what} that tokenkl wrote", _HEADERS[what]) as stored:
        check_count(stored.header["step"], "its step", 0)
        return stored.header, stored.tensors()
