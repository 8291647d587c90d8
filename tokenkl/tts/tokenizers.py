"""Speech tokenizers: a one-dimensional ConvNeXt autoencoder of log-mel frames.

    audio -> log-mel (50 frames/s) -> encoder -> z (25/s) -> quantizer -> points, ids
    ids -> points -> decoder -> log-mel -> Griffin-Lim -> audio

`train_tokenizer` makes one, `evaluate_tokenizer` judges it; `TOKENIZERS` are those compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenkl._files import PathLike
from tokenkl._formats import conform
from tokenkl._progress import Report, reporting
from tokenkl._random import generator
from tokenkl._validation import check_choice, check_count, check_ids, check_positive, reject
from tokenkl.tts.audio import Utterance
from tokenkl.tts.devices import as_device
from tokenkl.tts.frontend import FRAMES_PER_TOKEN, MelConfig, MelFrontend
from tokenkl.tts.interrupts import Terminated, interrupts
from tokenkl.tts.quantizers import (
    E8Quantizer,
    FSQQuantizer,
    Quantized,
    Quantizer,
    RVQQuantizer,
    VQQuantizer,
)
from tokenkl.tts.stored import LARGEST, open_network, write_network
from tokenkl.tts.tokenizer_checkpoints import about, restore, write_checkpoint

if TYPE_CHECKING:  # what speaking does not need, and takes long to import
    from tokenkl.codebooks import Codebook
    from tokenkl.tts.judge import Grammar, WordErrors
    from tokenkl.usage import Usage

Kind = Literal["fsq", "vq", "rvq", "e8"]


# ---- Autoencoder ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """What determines a tokenizer up to its weights.

    Args:
        kind: "fsq", "vq", "rvq" or "e8".
        levels: levels of each coordinate (fsq), the number of tokens (vq: one entry) or of vectors
            of each stage (rvq); empty for e8.
        dim: dimension of the points of vq and rvq; that of fsq and e8 follows.
        channels: width of the networks.
        blocks: ConvNeXt blocks at the frame rate and at the token rate, in each network.
        batch_tokens: see `VQQuantizer`.
        mel: the front end.

    Raises:
        ValueError: an unknown kind, or levels that do not fit it.
    """

    kind: Kind = "fsq"
    levels: tuple[int, ...] = (3,) * 8
    dim: int = 8
    channels: int = 128
    blocks: tuple[int, int] = (2, 3)
    batch_tokens: int = 1024
    mel: MelConfig = dataclasses.field(default_factory=MelConfig)

    def __post_init__(self) -> None:
        check_choice(self.kind, ("fsq", "vq", "rvq", "e8"), "kind")
        for level in self.levels:
            check_count(level, "every entry of levels", 3 if self.kind == "fsq" else 1)
        if math.prod(self.levels) > LARGEST:
            reject("levels", self.levels, f"of at most {LARGEST} tokens")
        fits = {
            "fsq": len(self.levels) >= 1,
            "vq": len(self.levels) == 1,
            "rvq": len(self.levels) >= 1,
            "e8": len(self.levels) == 0,
        }
        if not fits[self.kind]:
            reject("levels", self.levels, f"as many entries as {self.kind} takes")
        for name in ("dim", "channels", "batch_tokens"):
            check_count(getattr(self, name), name, 1, LARGEST)
        for count in self.blocks:
            check_count(count, "every entry of blocks", 0, LARGEST)
        object.__setattr__(self, "levels", tuple(self.levels))
        object.__setattr__(self, "blocks", tuple(self.blocks))

    def quantizer(self) -> Quantizer:
        """A fresh quantizer."""
        if self.kind == "fsq":
            return FSQQuantizer(self.levels)
        if self.kind == "e8":
            return E8Quantizer()
        if self.kind == "vq":
            return VQQuantizer(self.levels[0], self.dim, self.batch_tokens)
        return RVQQuantizer(self.levels, self.dim, self.batch_tokens)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> TokenizerConfig:
        """The inverse of `to_json`.

        Raises:
            ValueError: something else.
        """
        return conform(record, cls, "config")


#: The tokenizers that are compared.
TOKENIZERS: dict[str, TokenizerConfig] = {
    "fsq-3^8": TokenizerConfig("fsq", (3,) * 8),
    "fsq-3^5": TokenizerConfig("fsq", (3,) * 5),
    "fsq-8x5x5x5": TokenizerConfig("fsq", (8, 5, 5, 5)),
    "vq-6561": TokenizerConfig("vq", (6561,)),
    "rvq-81x81": TokenizerConfig("rvq", (81, 81)),
    "e8-6561": TokenizerConfig("e8", ()),
}


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over 7 positions, then a perceptron at each; residual.

    Liu et al. 2022, arXiv 2201.03545, in one dimension. Arrays are (batch, time, channels).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, 4 * channels)
        self.down = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Float[Tensor, "batch time channels"]) -> Tensor:
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.down(F.gelu(self.up(self.norm(y))))


class Tokenizer(nn.Module):
    """Log-mel features to token ids and back. See the module for the picture.

    Args:
        config: what it is made of.

    `record` holds what `save` was told to keep along.
    """

    mean: Tensor
    std: Tensor

    #: Whether it makes sound of its tokens by itself, as a `Codec` does not.
    can_be_heard = True

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.record: dict[str, Any] = {}
        mels, width = config.mel.n_mels, config.channels
        per_frame, per_token = config.blocks
        self.quantizer = config.quantizer()

        def blocks(count: int) -> nn.Sequential:
            return nn.Sequential(*(ConvNeXtBlock(width) for _ in range(count)))

        self.enter = nn.Linear(mels, width)
        self.encode_frames = blocks(per_frame)
        self.merge = nn.Linear(FRAMES_PER_TOKEN * width, width)
        self.encode_tokens = blocks(per_token)
        self.to_point = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.quantizer.dim))
        self.from_point = nn.Linear(self.quantizer.dim, width)
        self.decode_tokens = blocks(per_token)
        self.split = nn.Linear(width, FRAMES_PER_TOKEN * width)
        self.decode_frames = blocks(per_frame)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, mels))
        self.frontend = MelFrontend(config.mel)
        self.register_buffer("mean", torch.zeros(mels))
        self.register_buffer("std", torch.ones(mels))

    @property
    def K(self) -> int:
        """Number of tokens."""
        return self.quantizer.K

    def codebook(self, prior: Float[Any, " K"] | None = None) -> Codebook:
        """The tokens as a `tokenkl` codebook, in the order of the ids."""
        return self.quantizer.codebook(prior)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.mean.device

    @property
    def kind(self) -> str:
        """Of its quantizer."""
        return self.config.kind

    @property
    def token_rate(self) -> float:
        """Tokens a second."""
        return self.config.mel.tokens_per_second

    def digits(self) -> tuple[tuple[int, ...], str] | None:
        """Levels of every digit of an id, and which counts fastest; None for ids without digits."""
        if isinstance(self.quantizer, FSQQuantizer):
            return self.quantizer.levels, "F"
        return (self.quantizer.sizes, "C") if isinstance(self.quantizer, RVQQuantizer) else None

    @property
    def is_grid(self) -> bool:
        """Whether every digit has a coordinate of its own, as FSQ's have."""
        return self.config.kind == "fsq"

    def latent(self, log_mel: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch t dim"]:
        """What is quantized: one vector for two frames; the number of frames must be even."""
        x = self.encode_frames(self.enter((log_mel - self.mean) / self.std))
        batch, frames, width = x.shape
        x = self.merge(x.reshape(batch, frames // FRAMES_PER_TOKEN, FRAMES_PER_TOKEN * width))
        return self.to_point(self.encode_tokens(x))

    def decode(self, points: Float[Tensor, "batch t dim"]) -> Float[Tensor, "batch frames mels"]:
        """Log-mel features of points, which need not be tokens."""
        x = self.split(self.decode_tokens(self.from_point(points)))
        x = x.reshape(x.shape[0], -1, x.shape[2] // FRAMES_PER_TOKEN)
        return self.leave(self.decode_frames(x)) * self.std + self.mean

    def forward(self, log_mel: Float[Tensor, "batch frames mels"]) -> tuple[Tensor, Quantized]:
        """The reconstruction, and what the quantizer gave."""
        quantized = self.quantizer(self.latent(log_mel))
        return self.decode(quantized.points), quantized

    def points_at(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The points of token ids, as `codebook().points_at` gives them, in float32."""
        return self.quantizer.points_at(ids)

    @torch.no_grad()
    def encode(self, log_mel: Float[Tensor, "batch frames mels"]) -> Int[Tensor, "batch t"]:
        """Token ids; the tokenizer must be in evaluation mode, as `load` leaves it.

        Raises:
            ValueError: an odd number of frames, or another number of mels.
        """
        shape = tuple(log_mel.shape)
        if len(shape) != 3 or shape[1] % FRAMES_PER_TOKEN or shape[2] != self.config.mel.n_mels:
            reject("log_mel", f"shape {shape}", f"(batch, even, {self.config.mel.n_mels})")
        return self.quantizer(self.latent(log_mel)).ids

    # NumPy to NumPy, one utterance at a time.

    def tokenize(self, audio: Float[np.ndarray, " samples"]) -> Int[np.ndarray, " tokens"]:
        """Token ids of one recording at 16 kHz."""
        with torch.no_grad():
            samples = torch.from_numpy(np.asarray(audio, np.float32)).to(self.device)
            mel = self.frontend(samples)
        return self.encode(mel[None])[0].cpu().numpy()

    def synthesise(
        self,
        ids: Int[Any, " tokens"] | None = None,
        points: Float[Any, "tokens dim"] | None = None,
        *,
        key: Any = 0,
    ) -> Float[np.ndarray, " samples"]:
        """Audio at 16 kHz of token ids or of points, by Griffin-Lim from the phases of `key`.

        Raises:
            ValueError: neither or both given, or an id outside 0 .. K - 1.
        """
        if (ids is None) == (points is None):
            reject("ids, points", "both" if ids is not None else "neither", "one of the two")
        with torch.no_grad():
            if ids is not None:
                where = self.points_at(torch.from_numpy(check_ids(ids, self.K)).to(self.device))
            else:
                where = torch.as_tensor(np.asarray(points, np.float32)).to(self.device)
            mel = self.decode(where[None])[0]
        return self.frontend.griffin_lim(mel, key=key).cpu().numpy()

    def save(
        self, path: PathLike, *, half: bool = False, record: dict[str, Any] | None = None
    ) -> None:
        """Write weights as safetensors, the configuration as JSON in its header.

        Args:
            path: ends in .safetensors.
            half: networks in float16, half the size; the codebook stays in float32.
            record: anything to be kept along, such as how it was trained; plain JSON values.
        """
        state = {
            name: value.half() if half and _is_network(name, value) else value
            for name, value in self.state_dict().items()
        }
        header = {"format": 1, "config": self.config.to_json(), "record": record or {}}
        write_network(path, state, header)

    @classmethod
    def load(cls, path: PathLike) -> Tokenizer:
        """Read what `save` wrote, in evaluation mode.

        Raises:
            ValueError: no such file, or not one that `save` wrote.
        """
        with open_network(path, "a tokenizer that tokenkl wrote", _Header) as stored:
            config = stored.header["config"]
            tokenizer = stored.network(lambda: cls(config), sum(config.blocks) + len(config.levels))
        tokenizer.record = stored.header["record"]
        return tokenizer


class _Header(TypedDict):
    format: Literal[1]
    config: TokenizerConfig
    record: dict[str, Any]


def _is_network(name: str, value: Tensor) -> bool:
    return value.is_floating_point() and not name.startswith("quantizer.")


# ---- Training ------------------------------------------------------------------------------------


#: Steps from one checkpoint to the next: some twenty seconds.
CHECKPOINT_EVERY = 100


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a tokenizer is trained.

    Args:
        steps: optimiser steps.
        batch: crops in one step.
        frames: frames of one crop; even.
        learning_rate: highest rate of AdamW; linear warm-up over a twentieth, then cosine to 0.
        clip: largest norm of the gradient.

    Raises:
        ValueError: a value outside its range.
    """

    steps: int = 1500
    batch: int = 16
    frames: int = 128
    learning_rate: float = 2e-3
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            check_count(getattr(self, name), name)
        if check_count(self.frames, "frames") % FRAMES_PER_TOKEN:
            reject("frames", self.frames, "even")
        check_positive(self.learning_rate, "learning_rate")
        check_positive(self.clip, "clip")


def features_of(
    utterances: Sequence[Utterance],
    config: MelConfig | None = None,
    *,
    progress: Report | None = None,
) -> list[Float[np.ndarray, "frames mels"]]:
    """Log-mel features of every utterance, float32."""
    frontend = MelFrontend(config)
    features = []
    with reporting("features", progress) as report, torch.no_grad():
        for index, utterance in enumerate(utterances):
            features.append(frontend(torch.from_numpy(utterance.audio)).numpy())
            report(index + 1, len(utterances))
    return features


def train_tokenizer(
    features: Sequence[Float[np.ndarray, "frames mels"]],
    config: TokenizerConfig | None = None,
    training: TrainingConfig | None = None,
    *,
    key: Any,
    checkpoint: PathLike | None = None,
    device: torch.device | str = "cpu",
    progress: Report | None = None,
    log: Callable[[dict[str, float]], None] | None = None,
) -> Tokenizer:
    """Train from scratch by the mean absolute error of normalised log-mel features.

    The same key gives the same weights on one machine with one number of threads. The state of
    PyTorch's global generator is left as it was.

    Args:
        features: see `features_of`.
        config: the tokenizer, FSQ 3^8 when None.
        training: how to train it.
        key: whole number or JAX random key, of the weights and of the batches.
        checkpoint: a .safetensors file, written every `CHECKPOINT_EVERY` steps, and after the step
            at hand when Ctrl-C or SIGTERM comes; training goes on from it where it is there, and
            ends with the same weights. It stays when training is over. None for no such file.
        device: on which to train; the tokenizer comes back on the CPU.
        progress: called with the numbers of steps done and in all; a bar on stderr when None.
        log: called now and then with step, loss, and mel_l1 of the last batch.

    Raises:
        ValueError: no features, or features with another number of mels, or a checkpoint of another
            run, or no such device.
        KeyboardInterrupt: interrupted, with a checkpoint written; `Terminated` for SIGTERM.
    """
    config, training = config or TokenizerConfig(), training or TrainingConfig()
    mels = config.mel.n_mels
    if not features or any(one.ndim != 2 or one.shape[1] != mels for one in features):
        reject("features", f"{len(features)} arrays", f"a list of arrays of shape (frames, {mels})")
    where = as_device(device)
    rng = generator(key, 0)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(int(generator(key, 1).integers(2**63)))
        tokenizer = Tokenizer(config)
        every = np.concatenate(features)
        tokenizer.mean.copy_(torch.from_numpy(every.mean(axis=0)))
        tokenizer.std.copy_(torch.from_numpy(every.std(axis=0)).clamp_min(1e-3))
        tokenizer.to(where)
        run = None
        if checkpoint is not None:
            plain = dataclasses.asdict(training)
            run = Path(checkpoint), about(features, config.to_json(), plain, key)
        _optimise(tokenizer, features, training, rng, run, progress, log)
    return tokenizer.cpu().eval()


def _optimise(
    tokenizer: Tokenizer,
    features: Sequence[np.ndarray],
    training: TrainingConfig,
    rng: np.random.Generator,
    run: tuple[Path, dict[str, Any]] | None,
    progress: Report | None,
    log: Callable[[dict[str, float]], None] | None,
) -> None:
    """All steps, or those after the checkpoint of the run, which is its file and what it is of."""
    tokenizer.train()
    optimiser = torch.optim.AdamW(
        tokenizer.parameters(), training.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
    )
    warm_up = max(1, training.steps // 20)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, training.steps - warm_up)))

    silence = math.log(tokenizer.config.mel.floor)
    done = 0 if run is None else restore(*run, tokenizer, optimiser)
    lengths = [one.shape[0] for one in features]
    for _ in range(done):  # what the earlier steps drew
        _places(lengths, training, rng)
    with (
        contextlib.nullcontext() if run is None else interrupts() as interrupted,
        reporting("training the tokenizer", progress) as report,
    ):
        report(done, training.steps)
        for step in range(done, training.steps):
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate * factor(step)
            crops = _crops(features, _places(lengths, training, rng), training, silence)
            batch = torch.from_numpy(crops).to(tokenizer.mean.device)
            rebuilt, quantized = tokenizer(batch)
            error = (rebuilt - batch).abs()
            loss = (error / tokenizer.std).mean() + quantized.loss
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(tokenizer.parameters(), training.clip)
            optimiser.step()
            if log is not None and (step % 50 == 0 or step == training.steps - 1):
                mel_l1 = float(error.detach().mean())
                log({"step": step, "loss": float(loss.detach()), "mel_l1": mel_l1})
            report(step + 1, training.steps)
            if run is None or interrupted is None:
                continue
            stop = interrupted.is_set() and step + 1 < training.steps
            if stop or (step + 1) % CHECKPOINT_EVERY == 0:
                write_checkpoint(*run, step + 1, tokenizer, optimiser)
            if stop:
                raise Terminated if interrupted.by == signal.SIGTERM else KeyboardInterrupt


def _places(
    lengths: Sequence[int], training: TrainingConfig, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Random utterances, and where the crops of a step begin in them."""
    chosen = rng.integers(len(lengths), size=training.batch)
    return [(i, int(rng.integers(max(1, lengths[i] - training.frames + 1)))) for i in chosen]


def _crops(
    features: Sequence[np.ndarray],
    places: Sequence[tuple[int, int]],
    training: TrainingConfig,
    silence: float,
) -> Float[np.ndarray, "batch frames mels"]:
    """Stretches of utterances, silence after the short ones."""
    shape = (training.batch, training.frames, features[0].shape[1])
    crops = np.full(shape, silence, np.float32)
    for row, (index, start) in enumerate(places):
        part = features[index][start : start + training.frames]
        crops[row, : part.shape[0]] = part
    return crops


# ---- Evaluation ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class TokenizerReport:
    """How good a tokenizer is on a set of utterances.

    - `mel_l1`: mean absolute error of the log-mel features after the round trip, in nats.
    - `usage`: tokens used, entropy and perplexity.
    - `word_errors`: by grammar, of the judge on resynthesised audio.
    """

    mel_l1: float
    usage: Usage
    word_errors: dict[str, WordErrors]

    def to_json(self) -> dict[str, Any]:
        """The numbers, as plain values."""
        return {
            "mel_l1": self.mel_l1,
            "K": self.usage.K,
            "used": self.usage.used,
            "tokens": self.usage.tokens,
            "entropy_nats": float(self.usage.entropy.value),
            "entropy_standard_error": float(self.usage.entropy.standard_error),
            "perplexity": self.usage.perplexity,
            "wer": {name: errors.rate for name, errors in self.word_errors.items()},
        }


def evaluate_tokenizer(
    tokenizer: Tokenizer,
    utterances: Sequence[Utterance],
    *,
    grammars: Sequence[Grammar] = ("unigram", "bigram"),
    progress: Report | None = None,
) -> TokenizerReport:
    """Encode, decode and resynthesise every utterance, and let the judge hear the result.

    Args:
        tokenizer: in evaluation mode.
        utterances: at least two, of the closed domain if `grammars` is not empty.
        grammars: judges to ask; none needs pocketsphinx.
        progress: called with the numbers of utterances done and in all; a bar when None.

    Raises:
        ValueError: fewer than two utterances.
    """
    from tokenkl.tts.judge import Judge
    from tokenkl.usage import token_usage

    total, count = 0.0, 0
    sequences, audio = [], []
    with reporting("evaluating the tokenizer", progress) as report, torch.no_grad():
        for index, utterance in enumerate(utterances):
            samples = torch.from_numpy(utterance.audio).to(tokenizer.device)
            mel = tokenizer.frontend(samples)[None]
            ids = tokenizer.encode(mel)
            rebuilt = tokenizer.decode(tokenizer.points_at(ids))
            total += float((rebuilt - mel).abs().sum())
            count += mel.numel()
            sequences.append(ids[0].cpu().numpy())
            if grammars:
                heard_as = tokenizer.frontend.griffin_lim(rebuilt[0], key=index)
                audio.append(heard_as.cpu().numpy())
            report(index + 1, len(utterances))
    texts = [utterance.text for utterance in utterances]
    heard: dict[str, WordErrors] = {
        grammar: Judge(grammar).word_errors(audio, texts) for grammar in grammars
    }
    return TokenizerReport(total / count, token_usage(sequences, tokenizer.K), heard)
