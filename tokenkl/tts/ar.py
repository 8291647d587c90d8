"""The autoregressive twin: a prefix language model over text and speech tokens.

    [symbols of the text] [end of text] | [BOS] [speech tokens] [EOS]

Text sees all of the text and no speech; speech sees all of the text and the speech before it. One
stack of blocks reads both (Liu et al. 2018, arXiv 1801.10198; Raffel et al. 2020, arXiv
1910.10683). Since text never sees speech, its keys and values are computed once, for training and
for generation alike (`AR.read`), and speech attends to them (`AR.speak`, `AR.step`).

Text and speech count their positions apart, and rotary embeddings place symbol number p at p times
the mean number of tokens for one symbol (`ARConfig.pace`, a constant of the corpus). So attention
starts near the diagonal, and nothing about the length of the utterance is given away.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenkl._formats import conform
from tokenkl._random import generator
from tokenkl._validation import as_float_array, check_count, check_positive, reject
from tokenkl.tts.data import Batch
from tokenkl.tts.dropout import Dropout
from tokenkl.tts.stored import LARGEST

#: Keys of all heads, then values of all heads, of one block: (B, 2 heads, T, dim).
KeysValues = Tensor


@dataclasses.dataclass(frozen=True)
class ARConfig:
    """What determines the model up to its weights.

    Args:
        K: number of speech tokens.
        symbols: number of symbol ids, the filler 0 included.
        width: of the residual stream.
        heads: attention heads; `width / heads` must be even.
        depth: blocks.
        feed_forward: hidden units of the perceptron over `width`. It is gated (SwiGLU), so two
            thirds of that many are made, which keeps the number of parameters.
        pace: tokens for one symbol on average, where rotary positions put the text.
        rope_base: base of the rotary frequencies.
        dropout: of what every block adds, in training.
        token_dropout: probability that a token is hidden from the tokens after it, in training.
        speakers: number of speakers, each with a vector that is added to the symbols; 0 for a model
            that is not told who speaks.

    Raises:
        ValueError: a value outside its range.
    """

    K: int
    symbols: int
    width: int = 256
    heads: int = 4
    depth: int = 4
    feed_forward: int = 4
    pace: float = 2.0
    rope_base: float = 1000.0
    dropout: float = 0.0
    token_dropout: float = 0.0
    speakers: int = 0

    def __post_init__(self) -> None:
        for name in ("K", "symbols", "width", "heads", "depth", "feed_forward"):
            check_count(getattr(self, name), name, 1, 1000 if name == "feed_forward" else LARGEST)
        check_count(self.speakers, "speakers", 0, LARGEST)
        for name in ("pace", "rope_base"):
            check_positive(getattr(self, name), name)
        for name in ("dropout", "token_dropout"):
            if not 0 <= as_float_array(name, getattr(self, name), ndim=0) < 1:
                reject(name, getattr(self, name), "at least 0 and below 1")
        if self.width % (2 * self.heads):
            reject("width", self.width, f"a multiple of twice the number of heads, {self.heads}")

    def to_json(self) -> dict[str, Any]:
        """As plain values; what is newer than stored models is named only where it is used."""
        record = dataclasses.asdict(self)
        if not self.speakers:
            del record["speakers"]
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ARConfig:
        """The inverse of `to_json`.

        Raises:
            ValueError: something else.
        """
        return conform(record, cls, "config")


#: Configurations given `K` and `symbols`: 3.1 and 31 million parameters without the embedding of
#: the tokens, which is the output layer as well (another 1.7 and 3.4 million at K = 6561).
AR_SIZES: dict[str, Callable[..., ARConfig]] = {
    "1x": functools.partial(ARConfig, width=256, heads=4, depth=4),
    "10x": functools.partial(ARConfig, width=512, heads=8, depth=10),
}


# ---- Network -------------------------------------------------------------------------------------


class Block(nn.Module):
    """Attention, then a gated perceptron, each on the normalised stream and added to it.

    Matrices are stored as (in, out): one row of numbers times such a matrix is up to twice as fast
    on CPUs as with the (out, in) of `nn.Linear`, and generation does little else.
    """

    def __init__(self, config: ARConfig) -> None:
        super().__init__()
        width = config.width
        hidden = 8 * math.ceil(config.feed_forward * width / 12)
        self.heads, self.dropout = config.heads, config.dropout
        self.norm_attention = nn.LayerNorm(width, bias=False)
        self.project_in = nn.Parameter(torch.empty(width, 3 * width))
        self.project_out = nn.Parameter(torch.empty(width, width))
        self.norm_perceptron = nn.LayerNorm(width, bias=False)
        self.up = nn.Parameter(torch.empty(width, 2 * hidden))
        self.down = nn.Parameter(torch.empty(hidden, width))

    def project(
        self, x: Float[Tensor, "B T width"], turns: Complex[Tensor, "T heads half"]
    ) -> tuple[Float[Tensor, "B heads T dim"], KeysValues]:
        """Queries, then keys and values in one array.

        Rotary embedding turns pairs of features, as complex numbers (Su et al. 2021, arXiv
        2104.09864). `turns` is 1 for the values: one product is faster than taking them apart.
        """
        parts = self.norm_attention(x) @ self.project_in
        pairs = torch.view_as_complex(parts.float().unflatten(-1, (*turns.shape[1:], 2)))
        turned = torch.view_as_real(pairs * turns).flatten(-2).to(parts.dtype).transpose(1, 2)
        return turned[:, : self.heads], turned[:, self.heads :]

    def forward(
        self,
        x: Float[Tensor, "B T width"],
        queries: Float[Tensor, "B heads T dim"],
        keys_values: KeysValues,
        mask: Bool[Tensor, "B 1 T S"] | None,
        drop: Dropout | None = None,
    ) -> Float[Tensor, "B T width"]:
        """The stream after the block, from what `project` gave; `mask` is True where seen."""
        keys, values = keys_values[:, : self.heads], keys_values[:, self.heads :]
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        added = seen.transpose(1, 2).flatten(2) @ self.project_out
        x = x + (added if drop is None else drop(added, self.dropout))
        gate, hidden = (self.norm_perceptron(x) @ self.up).chunk(2, dim=-1)
        added = (F.silu(gate) * hidden) @ self.down
        return x + (added if drop is None else drop(added, self.dropout))


class AR(nn.Module):
    """The model. Token id K stands for BOS where it is read and for EOS where it is predicted.

    The probability of EOS at the first position is 0, in training as in generation: every
    utterance has at least one token.

    Args:
        config: what it is made of.
    """

    kind: ClassVar[str] = "ar"
    frequencies: Tensor

    def __init__(self, config: ARConfig) -> None:
        super().__init__()
        self.config = config
        half = config.width // config.heads // 2
        self.tokens = nn.Parameter(torch.empty(config.width, config.K + 1))  # read and predicted
        self.symbols = nn.Parameter(torch.empty(config.symbols + 1, config.width))  # and the end
        self.speaker: nn.Parameter | None = None
        if config.speakers:
            self.speaker = nn.Parameter(torch.empty(config.speakers, config.width))
        blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.blocks = cast(Sequence[Block], blocks)  # for the type checker
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.register_buffer(
            "frequencies",
            config.rope_base ** (-torch.arange(half, device="cpu") / half),
            persistent=False,
        )
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = 0.02
                if name.endswith(("project_out", "down")):
                    std /= math.sqrt(2 * config.depth)  # so that the sum of all blocks is small
                nn.init.normal_(parameter, std=std)

    def _turns(self, count: int, pace: float = 1.0) -> Complex[Tensor, "count heads half"]:
        """Rotations of queries, keys and values (none) at `count` positions, `pace` apart."""
        positions = pace * torch.arange(count, device=self.frequencies.device)
        angles = (positions[:, None] * self.frequencies)[:, None]
        angles = angles * torch.tensor([1, 1, 0], device=angles.device).repeat_interleave(
            self.config.heads
        ).unsqueeze(-1)
        return torch.polar(torch.ones_like(angles), angles)

    def read(
        self,
        symbols: Int[Tensor, "B P"],
        symbol_mask: Bool[Tensor, "B P"],
        drop: Dropout | None = None,
        speakers: Int[Tensor, " B"] | None = None,
    ) -> tuple[list[KeysValues], Bool[Tensor, "B P+1"]]:
        """Keys and values of the text and its end in every block, and which of them are real.

        `speakers` are as `Batch` has them, the first when None, for a model that is told.
        """
        ends = symbol_mask.sum(dim=1, keepdim=True)
        symbols = F.pad(symbols, (0, 1)).scatter(1, ends, self.config.symbols)
        mask = F.pad(symbol_mask, (0, 1)).scatter(1, ends, True)
        seen = mask[:, None, None].expand(-1, -1, symbols.shape[1], -1)
        turns = self._turns(symbols.shape[1], self.config.pace)
        x = F.embedding(symbols, self.symbols)
        if self.speaker is not None:
            told = symbols.new_zeros(len(symbols)) if speakers is None else speakers
            x = x + F.embedding(told, self.speaker)[:, None]
        memory = []
        for number, block in enumerate(self.blocks):
            queries, keys_values = block.project(x, turns)
            memory.append(keys_values)
            if number + 1 < len(self.blocks):  # nothing reads the text after the last block
                x = block(x, queries, keys_values, seen, drop)
        return memory, mask

    def speak(
        self,
        tokens: Int[Tensor, "B L"],
        memory: list[KeysValues],
        mask: Bool[Tensor, "B S"],
        drop: Dropout | None = None,
    ) -> Float[Tensor, "B L+1 width"]:
        """What is known at BOS and after every token, given what `read` returned."""
        inputs = F.pad(tokens, (1, 0), value=self.config.K)
        x = F.embedding(inputs, self.tokens.t())
        if drop is not None and self.config.token_dropout:
            shown = drop.keep(tuple(tokens.shape), self.config.token_dropout)
            x = x * F.pad(shown, (1, 0), value=1.0)[..., None]
        rows, count = inputs.shape
        causal = torch.ones(count, count, dtype=torch.bool, device=x.device).tril()
        seen = torch.cat(
            [mask[:, None].expand(-1, count, -1), causal.expand(rows, -1, -1)], dim=-1
        )[:, None]
        turns = self._turns(count)
        for block, text in zip(self.blocks, memory, strict=True):
            queries, keys_values = block.project(x, turns)
            x = block(x, queries, torch.cat([text, keys_values], dim=2), seen, drop)
        return self.norm(x)

    def logits(
        self, hidden: Float[Tensor, "N width"], first: Bool[Tensor, " N"]
    ) -> Float[Tensor, "N K+1"]:
        """Unnormalised log probabilities of the next token; no EOS where `first`."""
        scores = hidden @ self.tokens
        scores[:, self.config.K].masked_fill_(first, -math.inf)
        return scores

    def forward(
        self,
        tokens: Int[Tensor, "B L"],
        symbols: Int[Tensor, "B P"],
        symbol_mask: Bool[Tensor, "B P"],
    ) -> Float[Tensor, "B L+1 K+1"]:
        """Logits of the token after BOS and after every token; the last class is EOS."""
        hidden = self.speak(tokens, *self.read(symbols, symbol_mask))
        first = torch.arange(hidden.shape[1], device=hidden.device) == 0
        return self.logits(hidden.flatten(0, 1), first.repeat(len(hidden))).unflatten(
            0, hidden.shape[:2]
        )

    # ---- Likelihood ------------------------------------------------------------------------------

    def _predict(
        self, batch: Batch, drop: Dropout | None
    ) -> tuple[Tensor, Tensor, Bool[Tensor, "B L+1"]]:
        """Logits and targets where there is one, which is `mask`: at BOS and every real token."""
        ends = batch.token_mask.sum(dim=1, keepdim=True)
        targets = F.pad(batch.tokens, (0, 1)).scatter(1, ends, self.config.K)
        mask = F.pad(batch.token_mask, (1, 0), value=True)
        text = self.read(batch.symbols, batch.symbol_mask, drop, batch.speakers)
        hidden = self.speak(batch.tokens, *text, drop)
        first = torch.arange(mask.shape[1], device=mask.device).expand_as(mask) == 0
        return self.logits(hidden[mask], first[mask]), targets[mask], mask

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Mean negative log likelihood in nats of a token, EOS counted as one.

        Args:
            batch: of any layout, `frames` is not used.
            rng: a CPU generator, from which dropout is seeded.

        Returns:
            The mean, and for the log the means over tokens alone (`nll`, `accuracy`) and over EOS
            alone (`eos`).
        """
        config = self.config
        active = self.training and (config.dropout or config.token_dropout)
        drop = Dropout(rng, batch.tokens.device) if active else None
        logits, targets, _ = self._predict(batch, drop)
        losses = F.cross_entropy(logits.float(), targets, reduction="none")
        with torch.no_grad():
            ends = targets == config.K
            scalars = {
                "nll": float(losses[~ends].mean()),
                "eos": float(losses[ends].mean()),
                "accuracy": float((logits.argmax(dim=-1) == targets)[~ends].float().mean()),
            }
        return losses.mean(), scalars

    @torch.no_grad()
    def nll(self, batch: Batch) -> Float[Tensor, " B"]:
        """Negative log likelihood in nats of every whole utterance, EOS included, in float64.

        The model must be in evaluation mode or be without dropout to mean anything; dropout is
        off here in either case.
        """
        logits, targets, mask = self._predict(batch, None)
        losses = F.cross_entropy(logits.double(), targets, reduction="none")
        total = torch.zeros(mask.shape, dtype=losses.dtype, device=losses.device)
        total[mask] = losses
        return total.sum(dim=1)

    # ---- Generation ------------------------------------------------------------------------------

    def step(
        self,
        tokens: Int[Tensor, " B"],
        cache: list[KeysValues],
        at: int,
        turn: Complex[Tensor, "1 heads half"],
        mask: Bool[Tensor, "B 1 1 S"] | None,
    ) -> Float[Tensor, "B width"]:
        """What is known after one more token, whose keys and values go into slot `at`."""
        x = F.embedding(tokens, self.tokens.t())[:, None]
        seen = None if mask is None else mask[..., : at + 1]
        for block, keys_values in zip(self.blocks, cache, strict=True):
            queries, keys_values[:, :, at : at + 1] = block.project(x, turn)
            x = block(x, queries, keys_values[:, :, : at + 1], seen)
        return self.norm(x)[:, 0]

    @torch.no_grad()
    def generate(
        self,
        symbols: Int[Tensor, "B P"],
        symbol_mask: Bool[Tensor, "B P"],
        *,
        temperature: float = 0.8,
        top_p: float = 1.0,
        max_tokens: int = 400,
        speakers: Int[Tensor, " B"] | None = None,
        key: Any = 0,
    ) -> list[Int[Tensor, " L"]]:
        """Speech tokens for texts, one after another until EOS.

        Args:
            symbols: texts side by side.
            symbol_mask: True where a symbol is; these come first in every row.
            temperature: logits are divided by it; 0 takes the most probable token.
            top_p: tokens are drawn from the smallest set of the most probable ones that holds at
                least this much probability (Holtzman et al. 2020, arXiv 1904.09751).
            max_tokens: where to stop at the latest, without EOS.
            speakers: as `Batch` has them, for a model that is told who speaks.
            key: whole number or JAX random key; row i draws from stream i of it. A list holds a key
                for every row, of which stream 0 is used as if the row were alone.

        Returns:
            Token ids of every row, at least one and without EOS.

        Raises:
            ValueError: a value outside its range, or a list with another number of keys than rows.
        """
        config, rows = self.config, len(symbols)
        _check_sampling(temperature, top_p)
        check_count(max_tokens, "max_tokens")
        uniforms = _uniforms(key, rows, max_tokens).to(symbols.device)
        memory, text_mask = self.read(symbols, symbol_mask, None, speakers)
        start = text_mask.shape[1]
        cache = [F.pad(keys_values, (0, 0, 0, max_tokens)) for keys_values in memory]
        mask = None
        if not text_mask.all():
            mask = F.pad(text_mask, (0, max_tokens), value=True)[:, None, None]
        turns = self._turns(max_tokens)
        said = torch.full((rows, max_tokens), config.K, device=symbols.device)
        alive = torch.arange(rows, device=symbols.device)  # rows of the batch that still speak
        tokens = torch.full((rows,), config.K, device=symbols.device)
        for t in range(max_tokens):
            hidden = self.step(tokens, cache, start + t, turns[t : t + 1], mask)
            logits = self.logits(hidden, torch.full_like(tokens, t == 0, dtype=torch.bool))
            tokens = sample(logits, uniforms[alive, t], temperature, top_p)
            tokens = torch.where(said[alive, t - 1] == config.K, config.K, tokens) if t else tokens
            said[alive, t] = tokens
            speaking = tokens != config.K
            count = int(speaking.sum())
            if count == 0:
                break
            if 2 * count <= len(alive):  # halving, so that all copies cost less than one batch
                alive, tokens = alive[speaking], tokens[speaking]
                cache = [keys_values[speaking] for keys_values in cache]
                mask = None if mask is None else mask[speaking]
        lengths = (said != config.K).sum(dim=1).tolist()
        return [row[:length] for row, length in zip(said, lengths, strict=True)]


def _check_sampling(temperature: float, top_p: float) -> None:
    if as_float_array("temperature", temperature, ndim=0) < 0:
        reject("temperature", temperature, "at least 0")
    if not 0 < as_float_array("top_p", top_p, ndim=0) <= 1:
        reject("top_p", top_p, "above 0 and at most 1")


def _uniforms(key: Any, rows: int, count: int) -> Float[Tensor, "rows count"]:
    """Numbers in [0, 1) for every row and step; see `AR.generate` for the keys."""
    if isinstance(key, (list, tuple)):
        if len(key) != rows:
            reject("key", f"{len(key)} keys", f"one key, or a key for each of {rows} rows")
        rngs = [generator(one, 0) for one in key]
    else:
        rngs = [generator(key, row) for row in range(rows)]
    return torch.from_numpy(np.array([rng.random(count) for rng in rngs]).reshape(rows, count))


def nucleus(probabilities: Float[Tensor, "B C"], top_p: float) -> Float[Tensor, "B C"]:
    """Probabilities with 0 outside the smallest set of the largest that holds at least `top_p`.

    Of equal ones the first are taken. The rest is not rescaled.

    >>> nucleus(torch.tensor([[0.2, 0.5, 0.3]]), 0.6)
    tensor([[0.0000, 0.5000, 0.3000]])
    """
    ordered, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    return torch.zeros_like(probabilities).scatter(-1, ids, ordered * (before < top_p))


def sample(
    logits: Float[Tensor, "B C"],
    uniforms: Float[Tensor, " B"],
    temperature: float,
    top_p: float,
) -> Int[Tensor, " B"]:
    """One class for every row, by inversion of the distribution function."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = (logits.double() / temperature).softmax(dim=-1)
    if top_p < 1:
        probabilities = nucleus(probabilities, top_p)
    edges = probabilities.cumsum(dim=-1)
    return torch.searchsorted(edges, uniforms[:, None] * edges[:, -1:], right=True)[:, 0]
