"""A small model and examples for the tests of training, and a program that trains it.

`python training_case.py FOLDER [JSON of TrainConfig]`
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tokenkl._random import generator
from tokenkl.tts.data import Batch, Example
from tokenkl.tts.training import TrainConfig, Trained, train

torch.set_num_threads(1)


@dataclasses.dataclass(frozen=True)
class SmallConfig:
    K: int = 32
    width: int = 24

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Small(nn.Module):
    """Guesses tokens from symbols and from itself, with noise; the head is tied."""

    kind = "small"
    seen: torch.Tensor

    def __init__(self, config: SmallConfig | None = None, seed: int = 0) -> None:
        super().__init__()
        self.config = config or SmallConfig()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.symbols = nn.Embedding(40, self.config.width)
            self.mix = nn.GRU(self.config.width, self.config.width, batch_first=True)
            self.tokens = nn.Embedding(self.config.K, self.config.width)
            self.head = nn.Linear(self.config.width, self.config.K)
        self.head.weight = self.tokens.weight
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
        noise = torch.randn(*batch.frames.shape, self.config.width, generator=rng)
        if self.training:
            self.seen += 1
        x, _ = self.mix(self.symbols(batch.frames) + 0.3 * noise.to(batch.frames.device))
        logits = self.head(x)[batch.token_mask]
        loss = F.cross_entropy(logits, batch.tokens[batch.token_mask])
        hits = (logits.detach().argmax(-1) == batch.tokens[batch.token_mask]).float().mean()
        return loss, {"accuracy": hits, "constant": 2.0}


def make_examples(count: int = 40, key: int = 5) -> list[Example]:
    """Tokens that follow from the symbols, three to a symbol."""
    rng = generator(key)
    examples = []
    for index in range(count):
        symbols = 1 + rng.integers(30, size=rng.integers(4, 9))
        tokens = np.repeat(symbols % 32, 3) ^ (rng.random(3 * symbols.size) < 0.05)
        examples.append(Example(f"e{index}", "", tokens, symbols, None))
    return examples


CONFIG = TrainConfig(
    steps=60,
    batch=8,
    learning_rate=1e-2,
    warm_up=5,
    ema=0.9,
    checkpoint_every=7,
    log_every=5,
    valid_every=20,
    snapshots=(30,),
)


def run(folder: str | Path, config: TrainConfig = CONFIG, **options: Any) -> Trained:
    """Train the small model."""
    own: dict[str, Any] = {"key": 3, "valid": make_examples(9, key=6), "cpu": True}
    options = own | {"progress": lambda done, total: None} | options
    return train(Small(), make_examples(), config, folder, **options)


if __name__ == "__main__":
    changes = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    run(sys.argv[1], TrainConfig.from_json(CONFIG.to_json() | changes))
