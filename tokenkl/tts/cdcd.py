"""Continuous diffusion for categorical data, for speech tokens.

    tokens k -> points e_k -> x = alpha e_k + sigma eps -> network -> p(k | x, text) for every token
                                  ^                                     |
                                  +--- a step with less noise --- e_hat = sum_k p(k | x, text) e_k

The network is trained by cross-entropy over random noise levels; sampling starts from noise and
moves towards e_hat (Dieleman et al. 2022, arXiv 2211.15089). All tokens of an utterance are
diffused together, with the text beside them. Only the SNR of a state matters, not its scale, so
that a noise schedule is no more than a law of SNRs, here with alpha^2 + sigma^2 = 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tokenkl._formats import conform
from tokenkl._validation import check_choice, check_count, check_positive, reject, renamed
from tokenkl.samplers import Level, Sampler, as_decision, as_sampler
from tokenkl.tts.data import FILLER, Batch
from tokenkl.tts.dropout import Dropout
from tokenkl.tts.noise import Noise, normal_like
from tokenkl.tts.stored import LARGEST
from tokenkl.tts.tokenizers import ConvNeXtBlock

Head = Literal["joint", "factorised"]

#: Entries of the table of noise levels of a model, see `CDCD`.
LEVELS = 257
#: Most digits of a token id.
MAX_DIGITS = 32
#: ln(snr) beyond which there is nothing left to learn, or to see.
RANGE = (-30.0, 20.0)

#: The smallest and largest share of a sequence that is given as a prompt in training.
PROMPTS = (0.05, 0.3)


@dataclasses.dataclass(frozen=True)
class CDCDConfig:
    """What determines a model up to its weights.

    Args:
        K: number of tokens.
        symbols: number of symbols of the text, filler included.
        dim: dimension of the points; K for one-hot tokens.
        one_hot: the points are one-hot times the first entry of `points`, and not stored.
        learned: the points are parameters, kept on the sphere on which they start.
        head: "joint" gives one logit to each token; "factorised" one to every level of every digit,
            so that p is a product over digits.
        shape: number of levels of every digit of a token id, for the factorised head.
        order: "F" where the first digit counts fastest (FSQ), "C" where the last does (RVQ).
        width, heads, depth, expansion: of the transformer.
        time_width: width of what tells the blocks the noise level.
        text_width, text_blocks: of the ConvNeXt that reads the text.
        drop_text: share of training examples without text, for guidance.
        prompt: share of training examples of which a prefix of 5 to 30 % is given.
        self_conditioning: share of training examples that are shown a first guess of e_hat.
        output_prior: ln p(x | token), which is known exactly, is added to the logits, so that the
            network learns what the rest of the sequence and the text say (Gulrajani and Hashimoto
            2023, arXiv 2305.18619). A factorised head needs points with a coordinate for each
            digit.
        dropout: of what every block adds, in training.
        token_dropout: share of tokens whose state is hidden, in training.
        speakers: number of speakers, each with a vector that is added to the text; 0 for a model
            that is not told who speaks.

    Raises:
        ValueError: a value outside its range.
    """

    K: int
    symbols: int
    dim: int
    one_hot: bool = False
    learned: bool = False
    head: Head = "joint"
    shape: tuple[int, ...] = ()
    order: Literal["F", "C"] = "F"
    width: int = 192
    heads: int = 4
    depth: int = 5
    expansion: int = 4
    time_width: int = 64
    text_width: int = 128
    text_blocks: int = 2
    drop_text: float = 0.15
    prompt: float = 0.0
    self_conditioning: float = 0.0
    output_prior: bool = False  # files of voices from before it was there do not name it
    dropout: float = 0.0
    token_dropout: float = 0.0
    speakers: int = 0

    def __post_init__(self) -> None:
        for name in ("K", "symbols", "dim", "width", "heads", "depth", "expansion", "text_width"):
            check_count(getattr(self, name), name, 1, 1000 if name == "expansion" else LARGEST)
        for name in ("time_width", "text_blocks", "speakers"):
            check_count(getattr(self, name), name, 0, LARGEST)
        if self.width % (2 * self.heads) or self.time_width % 2:
            reject("width, heads, time_width", (self.width, self.heads, self.time_width), "even")
        for name in ("drop_text", "prompt", "self_conditioning"):
            if not 0 <= getattr(self, name) <= 1:
                reject(name, getattr(self, name), "in [0, 1]")
        for name in ("dropout", "token_dropout"):
            if not 0 <= getattr(self, name) < 1:
                reject(name, getattr(self, name), "in [0, 1)")
        check_choice(self.head, ("joint", "factorised"), "head")
        check_choice(self.order, ("F", "C"), "order")
        object.__setattr__(self, "shape", tuple(self.shape))
        for count in self.shape[:MAX_DIGITS]:
            check_count(count, "every entry of shape", 1, LARGEST)
        if len(self.shape) > MAX_DIGITS:
            reject("shape", f"{len(self.shape)} digits", f"at most {MAX_DIGITS}")
        if self.head == "factorised" and math.prod(self.shape) != self.K:
            reject("shape", self.shape, f"the levels of digits that make K = {self.K} tokens")
        by_digit = len(self.shape) == self.dim and not (self.one_hot or self.learned)
        if self.output_prior and self.head == "factorised" and not by_digit:
            reject("output_prior", True, "False where no coordinate belongs to each digit")
        if self.one_hot and (self.learned or self.dim != self.K):
            reject("one_hot", True, "with dim = K, and not with learned")

    def to_json(self) -> dict[str, Any]:
        """As plain values; what is newer than stored models is named only where it is used."""
        record = dataclasses.asdict(self)
        if not self.speakers:
            del record["speakers"]
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> CDCDConfig:
        """The inverse of `to_json`.

        Raises:
            ValueError: something else.
        """
        return conform(record, cls, "config")


# ---- Network -----------------------------------------------------------------------------------


class Block(nn.Module):
    """Attention, then a perceptron, each scaled, shifted and gated by the noise level.

    adaLN-zero of DiT (Peebles and Xie 2023, arXiv 2212.09748) with rotary positions (Su et al.
    2021, arXiv 2104.09864). At the start of training a block does nothing.
    """

    def __init__(self, config: CDCDConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.modulation = nn.Linear(config.time_width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, config.expansion * width)
        self.down = nn.Linear(config.expansion * width, width)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        rotation: Rotation,
        mask: Tensor | None,
        drop: Callable[[Tensor], Tensor],
    ) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(level)[:, None].chunk(6, -1)
        y = _normalised(x) * (1 + scale1) + shift1
        batch, length, width = x.shape
        q, k, v = self.qkv(y).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(rotation(q), rotation(k), v, attn_mask=mask)
        x = x + drop(gate1 * self.out(y.transpose(1, 2).reshape(batch, length, width)))
        y = _normalised(x) * (1 + scale2) + shift2
        return x + drop(gate2 * self.down(F.gelu(self.up(y))))


class Rotation:
    """Rotary positions 0 .. length - 1 for heads of a given width."""

    def __init__(self, length: int, width: int, device: torch.device) -> None:
        frequencies = 10000.0 ** (-torch.arange(0, width, 2, device=device) / width)
        angles = torch.arange(length, device=device)[:, None] * frequencies
        self.cos, self.sin = angles.cos(), angles.sin()

    def __call__(self, x: Float[Tensor, "B heads L w"]) -> Tensor:
        first, second = x.chunk(2, -1)
        cos, sin = self.cos, self.sin
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def speaker_table(speakers: int, width: int) -> nn.Embedding | None:
    """A vector for each speaker, small at first; None where nobody is told apart."""
    if not speakers:
        return None
    table = nn.Embedding(speakers, width)
    nn.init.normal_(table.weight, std=0.02)
    return table


def _normalised(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


class CDCD(nn.Module):
    """A diffusion model of token sequences given text.

    Args:
        config: what it is made of.
        points: (K, dim) points of the tokens; for one-hot tokens the (1, 1) length of every one.
            None where they will be loaded.
        noise: `LEVELS` values of ln(snr), for equal steps of diffusion time from 0 (clean) to 1
            (noise), as `noise_levels` gives them; between them the time interpolates. None where
            they will be loaded.

    Raises:
        ValueError: points or noise of another shape.
    """

    kind = "cdcd"
    points: Tensor
    noise: Tensor
    digits: Tensor
    places: Tensor

    def __init__(
        self,
        config: CDCDConfig,
        points: Float[np.ndarray, "K dim"] | None = None,
        noise: Float[np.ndarray, " levels"] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        c = config
        shape = (1, 1) if c.one_hot else (c.K, c.dim)
        table = torch.zeros(shape)
        if points is not None:
            if np.shape(points) != shape:
                reject("points", f"shape {np.shape(points)}", f"shape {shape}")
            table = torch.from_numpy(np.array(points, np.float32))
        if c.learned:
            self.points = nn.Parameter(table)
        else:
            self.register_buffer("points", table)
        if noise is not None and np.shape(noise) != (LEVELS,):
            reject("noise", f"shape {np.shape(noise)}", f"shape ({LEVELS},)")
        levels = np.zeros(LEVELS) if noise is None else np.array(noise)
        self.register_buffer("noise", torch.from_numpy(levels.astype(np.float64)))
        self.symbol = nn.Embedding(c.symbols, c.text_width)
        self.read = nn.ModuleList(ConvNeXtBlock(c.text_width) for _ in range(c.text_blocks))
        self.enter_text = nn.Linear(c.text_width, c.width)
        self.enter = nn.Linear(c.dim, c.width)
        self.enter_known = nn.Linear(c.dim + 1, c.width, bias=False) if c.prompt else None
        self.enter_guess = nn.Linear(c.dim, c.width, bias=False) if c.self_conditioning else None
        self.place = ConvNeXtBlock(c.width)
        self.level = nn.Sequential(nn.Linear(c.time_width, c.time_width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.speaker = speaker_table(c.speakers, c.width)
        self.last = nn.Linear(c.time_width, 2 * c.width)
        self.logits = nn.Linear(c.width, c.K if c.head == "joint" else sum(c.shape))
        for layer in (self.last, self.logits):  # at the start every token is as likely
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if c.head == "factorised":
            digits = torch.from_numpy(_digits(c))
            self.register_buffer("digits", digits, persistent=False)
            firsts = [
                [np.argmax(column == d) for d in range(size)]
                for column, size in zip(digits.T.numpy(), c.shape, strict=True)
            ]
            self._firsts = [torch.tensor(ids) for ids in firsts]
            places = (
                np.cumprod([1, *c.shape[:-1]])
                if c.order == "F"
                else np.cumprod([1, *c.shape[:0:-1]])[::-1]
            )
            self.register_buffer("places", torch.from_numpy(places.copy()), persistent=False)
        self._grid: tuple[Tensor, list[Tensor] | None] | None = None
        by_digit = c.output_prior and c.head == "factorised"
        if by_digit and points is not None and self._grid_levels() is None:
            reject("output_prior", True, "False for points that are no grid of their digits")

    def start_from(self, counts: Float[np.ndarray, " K"]) -> None:
        """Let the network begin at the frequencies of tokens in place of equally likely ones.

        With `output_prior` it is the exact denoiser of independent tokens then. Half a token is
        added to every count.
        """
        share = np.asarray(counts, np.float64) + 0.5
        if share.shape != (self.config.K,):
            reject("counts", f"shape {share.shape}", f"one for each of {self.config.K} tokens")
        if self.config.head == "joint":
            parts: list[np.ndarray] = [share]
        else:
            digits = self.digits.cpu().numpy()
            parts = [
                np.bincount(column, share, size)
                for column, size in zip(digits.T, self.config.shape, strict=True)
            ]
        logs = np.concatenate([np.log(part / part.sum()) for part in parts])
        with torch.no_grad():
            self.logits.bias.copy_(torch.from_numpy(logs))

    # Points.

    def table(self) -> Float[Tensor, "K dim"]:
        """The points of all tokens; those that are learned brought back to their sphere."""
        if not self.config.learned:
            return self.points
        radius = self.points.detach().square().sum(-1).mean().sqrt()
        return F.normalize(self.points, dim=-1) * radius

    def points_of(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The points of token ids."""
        if self.config.one_hot:
            return F.one_hot(ids, self.config.K) * self.points[0, 0]
        return F.embedding(ids, self.table())

    def power(self) -> Tensor:
        """Mean square of a coordinate, over equally likely tokens."""
        square = self.points.detach().square()
        return square[0, 0] / self.config.K if self.config.one_hot else square.mean()

    # Noise.

    def log_snr(self, t: Float[np.ndarray, " *shape"]) -> Float[np.ndarray, "*shape"]:
        """ln(snr) at diffusion times in [0, 1]."""
        return np.interp(t, np.linspace(0, 1, LEVELS), self.noise.cpu().numpy())

    # Network.

    def encode_text(
        self,
        frames: Int[Tensor, "B L"],
        mask: Bool[Tensor, "B L"],
        speakers: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B L width"]:
        """What the network sees of the text at every token, and of who says it (the first if None).

        Guidance leaves out the text alone: who speaks is told either way.
        """
        x = self.symbol(frames) * mask[..., None]
        for block in self.read:
            x = block(x) * mask[..., None]
        text = self.enter_text(x)
        if self.speaker is None:
            return text
        return (
            text
            + self.speaker(frames.new_zeros(len(frames)) if speakers is None else speakers)[:, None]
        )

    def forward(
        self,
        x: Float[Tensor, "B L dim"],
        log_snr: Float[Tensor, " B"],
        text: Float[Tensor, "B L width"],
        mask: Bool[Tensor, "B L"],
        known: Float[Tensor, "B L dim+1"] | None = None,
        guess: Float[Tensor, "B L dim"] | None = None,
        drop: Dropout | None = None,
    ) -> Float[Tensor, "B L outputs"]:
        """Logits, of tokens or of levels of digits, from states x = alpha e + sigma eps.

        Args:
            x: states.
            log_snr: ln(alpha^2 / sigma^2) of every sequence.
            text: from `encode_text`.
            mask: False beyond the end.
            known: points that are given, 0 where none is, and whether one is.
            guess: an earlier e_hat.
            drop: source of dropout, in training.
        """
        seen = torch.ones((), device=x.device)
        if drop is not None and self.config.token_dropout:
            seen = drop.keep(tuple(x.shape[:2]), self.config.token_dropout)[..., None]
        variance = torch.sigmoid(log_snr) * self.power() + torch.sigmoid(-log_snr)
        h = self.enter(x * variance.rsqrt()[:, None, None] * seen) + text
        if self.enter_known is not None and known is not None:
            h = h + self.enter_known(known)
        if self.enter_guess is not None and guess is not None:
            h = h + self.enter_guess(guess)
        h = self.place(h * mask[..., None])
        half = self.config.time_width // 2
        angles = log_snr[:, None] * torch.logspace(-1.5, 0.7, half, device=x.device)
        level = self.level(torch.cat([angles.cos(), angles.sin()], -1))
        rotation = Rotation(x.shape[1], self.config.width // self.config.heads, x.device)
        rate = self.config.dropout
        dropped = (lambda y: y) if drop is None else (lambda y: drop(y, rate))
        # Without a mask an accelerator has faster kernels. (On the CPU bits would change for none.)
        whole = x.device.type != "cpu" and bool(mask.all())
        for block in self.blocks:
            h = block(h, level, rotation, None if whole else mask[:, None, None], dropped)
        shift, scale = self.last(level)[:, None].chunk(2, -1)
        logits = self.logits(_normalised(h) * (1 + scale) + shift)
        if self.config.output_prior:
            logits = logits + seen * self.log_likelihood(x, log_snr)
        return logits

    def log_likelihood(
        self, x: Float[Tensor, "B L dim"], log_snr: Float[Tensor, " B"]
    ) -> Float[Tensor, "B L outputs"]:
        """ln p(x | token), or of levels of digits, without what does not depend on them:
        alpha x.e / sigma^2 - snr |e|^2 / 2."""
        snr = log_snr.exp()[:, None, None]
        seen = x * (snr / torch.sigmoid(log_snr).sqrt()[:, None, None])
        if self.config.one_hot:
            return seen * self.points[0, 0]  # all have the same length
        if self.config.head == "joint":
            table = self.table()
            return seen @ table.T - snr / 2 * table.square().sum(-1)
        levels = self._grid_levels()
        assert levels is not None  # the constructor has seen to it
        parts = [seen[..., i, None] * row - snr / 2 * row.square() for i, row in enumerate(levels)]
        return torch.cat(parts, -1)

    # From logits.

    def cross_entropy(
        self, logits: Float[Tensor, "*batch outputs"], ids: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """-ln p(id), in nats."""
        if self.config.head == "joint":
            flat = F.cross_entropy(logits.flatten(0, -2), ids.flatten(), reduction="none")
            return flat.reshape(ids.shape)
        parts = logits.split(self.config.shape, -1)
        digits = self.digits[ids]
        losses = [
            F.cross_entropy(part.flatten(0, -2), digits[..., i].flatten(), reduction="none")
            for i, part in enumerate(parts)
        ]
        return torch.stack(losses).sum(0).reshape(ids.shape)

    def log_probabilities(
        self, logits: Float[Tensor, "*batch outputs"]
    ) -> Float[Tensor, "*batch K"]:
        """ln p of every token."""
        if self.config.head == "joint":
            return logits.log_softmax(-1)
        parts = [part.log_softmax(-1) for part in logits.split(self.config.shape, -1)]
        return sum(part[..., self.digits[:, i]] for i, part in enumerate(parts))

    def mean_point(self, logits: Float[Tensor, "*batch outputs"]) -> Float[Tensor, "*batch dim"]:
        """e_hat = sum_k p(k) e_k.

        On a grid this is a matter of each coordinate alone: its mean needs only the marginal law of
        its own digit, so that a factorised head can be exact here where its p cannot.
        """
        if self.config.head == "factorised" and (levels := self._grid_levels()) is not None:
            parts = logits.split(self.config.shape, -1)
            means = [part.softmax(-1) @ row for part, row in zip(parts, levels, strict=True)]
            return torch.stack(means, -1)
        p = self.log_probabilities(logits).exp()
        return p * self.points[0, 0] if self.config.one_hot else p @ self.table()

    def _grid_levels(self) -> list[Tensor] | None:
        """The levels of every coordinate if coordinate i depends on digit i alone, else None.

        Found once for the same points: they are asked for at every call of the network.
        """
        shape, points = self.config.shape, self.points
        if self.config.one_hot or self.config.learned or len(shape) != self.config.dim:
            return None
        known = self._grid
        if known is None or known[0].device != points.device or not known[0].equal(points):
            firsts = [points[ids.to(points.device), i] for i, ids in enumerate(self._firsts)]
            grid = torch.stack([row[self.digits[:, i]] for i, row in enumerate(firsts)], -1)
            self._grid = (points.clone(), firsts if torch.equal(grid, points) else None)
            return self._grid[1]
        return known[1]

    # Training.

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Mean cross-entropy per token, in nats, at noise levels uniform in diffusion time.

        The times of a batch are stratified, which leaves their law and lowers the variance (Kingma
        et al. 2021, arXiv 2107.00630, appendix I.1).
        """
        size = batch.tokens.shape[0]
        u = (torch.randperm(size, generator=rng) + torch.rand((), generator=rng)) / size
        return self._loss_at(batch, self.log_snr(u.numpy()), rng)

    def _loss_at(
        self, batch: Batch, log_snr: np.ndarray, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        c = self.config
        size, length = batch.tokens.shape
        device = batch.tokens.device
        drop = Dropout(rng, device) if self.training and (c.dropout or c.token_dropout) else None
        dropped = (torch.rand(size, generator=rng) < c.drop_text).to(device)
        frames = batch.frames.masked_fill(dropped[:, None], FILLER)
        text = self.encode_text(frames, batch.token_mask, batch.speakers)
        e = self.points_of(batch.tokens)
        levels = torch.from_numpy(log_snr).float().to(device)
        x = self.noisy(e, levels, rng)
        counted, known = batch.token_mask, None
        if self.enter_known is not None:
            shortest, longest = PROMPTS
            share = shortest + (longest - shortest) * torch.rand(size, generator=rng)
            share = share * (torch.rand(size, generator=rng) < c.prompt)
            ends = (share.to(device) * batch.token_mask.sum(1)).floor()
            given = torch.arange(length, device=device) < ends[:, None]
            known = torch.cat([e, torch.ones_like(e[..., :1])], -1) * given[..., None]
            counted = counted & ~given
        guess = None
        if self.enter_guess is not None:
            with torch.no_grad():
                first = self(x, levels, text, batch.token_mask, known)
                guess = self.mean_point(first)
            shown = torch.rand(size, generator=rng) < c.self_conditioning
            guess = guess * shown.to(device)[:, None, None]
        # The head is the larger part of the work: it sees no padding.
        logits = self(x, levels, text, batch.token_mask, known, guess, drop)[counted]
        loss = self.cross_entropy(logits, batch.tokens[counted]).mean()
        return loss, {}

    def noisy(self, e: Tensor, log_snr: Tensor, rng: torch.Generator) -> Tensor:
        """alpha e + sigma eps."""
        eps = normal_like(e, rng)
        alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
        return alpha[:, None, None] * e + sigma[:, None, None] * eps

    @torch.no_grad()
    def cross_entropy_at(
        self, batch: Batch, log_snr: float, rng: torch.Generator
    ) -> Float[Tensor, " B"]:
        """Sum of -ln p(k | x, text) over the tokens of every sequence at one SNR, in nats."""
        levels = torch.full((batch.tokens.shape[0],), log_snr, device=batch.tokens.device)
        text = self.encode_text(batch.frames, batch.token_mask, batch.speakers)
        x = self.noisy(self.points_of(batch.tokens), levels, rng)
        losses = self.cross_entropy(self(x, levels, text, batch.token_mask), batch.tokens)
        return (losses * batch.token_mask).sum(1)

    @torch.no_grad()
    def bound(
        self, batch: Batch, rng: torch.Generator, draws: int = 16
    ) -> Float[Tensor, "draws B"]:
        """Draws whose means bound -ln p(tokens | text, length) from above, in nats a sequence.

        The generative process is the reverse diffusion with this model's e_hat from N(0, I) at the
        lowest SNR, and a token drawn from p(k | x) at the highest. Then

            -ln p <= snr_min sum |e|^2 / 2 + 1/2 int sum E|e - e_hat(x)|^2 d snr
                     + sum E[-ln p(k | x)]

        (docs/theory/speech.md, S2). With the exact posterior the right side tends to -ln p on
        average. The integral is sampled, with one draw in each of `draws` equal parts of ln(snr),
        and row i ends the process after part i: every row is a bound of its own, and `best_bound`
        picks one. A network that is not exact at high SNRs does best to stop before them.
        """
        low, high = (math.log(snr) for snr in self.snr_range())
        size, part = batch.tokens.shape[0], (high - low) / draws
        mask = batch.token_mask
        text = self.encode_text(batch.frames, mask, batch.speakers)
        e = self.points_of(batch.tokens)
        spent = math.exp(low) / 2 * (e.square().sum(-1) * mask).sum(1).double()
        rows = []
        for draw in range(draws):
            levels = (low + part * (draw + torch.rand(size, generator=rng))).to(e)
            x = self.noisy(e, levels, rng)
            wrong = (e - self.mean_point(self(x, levels, text, mask))).square().sum(-1)
            spent = spent + levels.exp() * part / 2 * (wrong * mask).sum(1)
            rows.append(spent + self.cross_entropy_at(batch, low + part * (draw + 1), rng))
        return torch.stack(rows)

    def snr_range(self) -> tuple[float, float]:
        """SNRs between which tokens go from hidden to plain; `bound` holds for any two.

        At the upper one a token is mistaken for one at the mean nearest-neighbour distance with a
        probability far below 1e-6, even with K of them.
        """
        total = float(self.power()) * self.config.dim
        if self.config.one_hot:
            near = 2 * float(self.points[0, 0]) ** 2
        else:
            table = self.table().detach()
            distances = torch.cdist(table, table[:: max(1, self.config.K // 512)])
            near = float(torch.where(distances > 1e-4, distances, math.inf).amin(0).square().mean())
        return 0.01 / total, 2 * (2 * math.log(self.config.K) + 60) / near

    # Sampling.

    @torch.no_grad()
    @renamed(decide="decision")
    def generate(
        self,
        frames: Int[Tensor, "B L"],
        mask: Bool[Tensor, "B L"],
        *,
        steps: int = 10,
        grid: Float[Any, " steps"] | None = None,
        sampler: Sampler | str = "ddim",
        guidance: float = 0.5,
        start: float = 1.0,
        decision: str = "map",
        prompt: Int[Tensor, "B P"] | None = None,
        speakers: Int[Tensor, " B"] | None = None,
        key: Any = 0,
    ) -> Generated:
        """Token ids for symbols placed over time: a call of the network a step, or two (guidance).

        The noise of a sequence depends on `key` and on its place in the batch only, not on the
        other sequences; it is drawn on the device of the frames, see `Noise`.

        Args:
            frames, mask: as `Batch` has them.
            steps: calls of the network.
            grid: ln(snr) at these calls, ascending; equal steps of diffusion time when None.
            sampler: `DDIM()` or "ddim" is deterministic given the first noise, `Ancestral()` or
                "ancestral" (or "ddpm") draws from the posterior of every step.
            guidance: w in (1 + w) logits(text) - w logits(no text), Ho and Salimans 2022.
            start: standard deviation of the first noise.
            decision: how tokens follow from the last p: "map" is the most likely, "nearest" the one
                nearest to e_hat, "sample" a draw.
            prompt: token ids that the sequences begin with; the model must be trained with prompts.
            speakers: as `Batch` has them, for a model that is told who speaks.
            key: whole number or JAX random key.

        Raises:
            ValueError: an argument out of its range.
        """
        moves, decision = as_sampler(sampler), as_decision(decision, ("map", "nearest", "sample"))
        self._check_sampling(steps, guidance, start, prompt)
        if grid is None:
            grid = self.log_snr(1 - np.arange(steps) / steps)
        levels = np.clip(np.asarray(grid, np.float64), *RANGE)
        if levels.shape != (steps,) or (np.diff(levels) <= 0).any():
            reject("grid", f"shape {levels.shape}", f"{steps} ascending values of ln(snr)")
        size, length = frames.shape
        noise = Noise(key, size, frames.device)
        shape = (length, self.config.dim)
        text = self.encode_text(frames, mask, speakers)
        if guidance:
            free = self.encode_text(torch.full_like(frames, FILLER), mask, speakers)
            text = torch.cat([text, free])
        known = self._known(prompt, length) if prompt is not None else None
        x, guess = start * noise.normal(shape), None
        logits = torch.empty(0)
        for index, level in enumerate(levels):
            logits = self._guided(x, level, text, mask, known, guess, guidance)
            e_hat = self.mean_point(logits)
            guess = e_hat
            if index + 1 < steps:
                fresh = noise.normal(shape) if moves.draws else None
                x = moves.step(x, e_hat, _level(level), _level(levels[index + 1]), fresh)
        ids = self._decided(logits, e_hat, decision, noise)
        if prompt is not None:
            ids[:, : prompt.shape[1]] = prompt
        return Generated(ids * mask, e_hat)

    def _guided(
        self,
        x: Tensor,
        level: float,
        text: Tensor,
        mask: Tensor,
        known: Tensor | None,
        guess: Tensor | None,
        guidance: float,
    ) -> Tensor:
        twice = 2 if guidance else 1

        def again(part: Tensor | None) -> Tensor | None:
            return None if part is None else torch.cat([part] * twice)

        levels = torch.full((twice * x.shape[0],), level, dtype=x.dtype, device=x.device)
        both = torch.cat([x] * twice), levels, text, torch.cat([mask] * twice)
        logits = self(*both, again(known), again(guess))
        if not guidance:
            return logits
        given, free = logits.chunk(2)
        return (1 + guidance) * given - guidance * free

    def _known(self, prompt: Tensor, length: int) -> Tensor:
        known = torch.zeros(prompt.shape[0], length, self.config.dim + 1, device=prompt.device)
        known[:, : prompt.shape[1], :-1] = self.points_of(prompt)
        known[:, : prompt.shape[1], -1] = 1
        return known

    def _decided(self, logits: Tensor, e_hat: Tensor, decision: str, noise: Noise) -> Tensor:
        if decision == "nearest" and not self.config.one_hot:
            return torch.cdist(e_hat, self.table()).argmin(-1)
        scores = logits if self.config.head == "factorised" else self.log_probabilities(logits)
        if decision == "sample":  # Gumbel's trick, so that each sequence has its own source
            scores = scores + noise.gumbel(tuple(scores.shape[1:])).to(scores)
        if self.config.head == "joint":
            return scores.argmax(-1)
        # Digits are independent: the most likely token, or a drawn one, is that of every digit.
        digits = [part.argmax(-1) for part in scores.split(self.config.shape, -1)]
        return (torch.stack(digits, -1) * self.places).sum(-1)

    def _check_sampling(
        self, steps: int, guidance: float, start: float, prompt: Tensor | None
    ) -> None:
        check_count(steps, "steps")
        check_positive(start, "start")
        if not 0 <= guidance < math.inf:
            reject("guidance", guidance, "a finite number, at least 0")
        if prompt is not None and self.enter_known is None:
            reject("prompt", "token ids", "None for a model that was trained without prompts")


def _digits(config: CDCDConfig) -> Int[np.ndarray, "K digits"]:
    """The digits of all token ids; `tokenkl.codebooks` says the same, and takes long to import."""
    digits = np.empty((config.K, len(config.shape)), np.int64)
    rest, places = np.arange(config.K), range(len(config.shape))
    for place in places if config.order == "F" else reversed(places):
        rest, digits[:, place] = np.divmod(rest, config.shape[place])
    return digits


class Generated(NamedTuple):
    """Token ids, 0 beyond the end, and the last e_hat."""

    ids: Int[Tensor, "B L"]
    points: Float[Tensor, "B L dim"]


def best_bound(rows: Float[np.ndarray, "draws B"]) -> Float[np.ndarray, " B"]:
    """The row of `CDCD.bound` with the least mean, chosen for each sequence by the others.

    Sequences of even and of odd number choose for each other, so that the choice adds no bias.
    """
    size = rows.shape[1]
    even = np.arange(size) % 2 == 0
    if size < 2:
        return rows[-1]
    chosen = [rows[:, ~mine].mean(axis=1).argmin() for mine in (even, ~even)]
    return np.where(even, rows[chosen[0]], rows[chosen[1]])


def _level(log_snr: float) -> Level:
    """With alpha^2 + sigma^2 = 1."""
    return Level(*(math.sqrt(1 / (1 + math.exp(sign * log_snr))) for sign in (-1, 1)))
