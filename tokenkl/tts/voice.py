"""A voice: everything that turns text into speech, and its files.

    text -> symbols -> durations -> model -> token ids -> tokenizer or vocoder -> audio

A voice is one safetensors file: weights, and a JSON header with everything that is not a weight. It
names the file of its tokenizer, since several voices share one; where the tokens are those of
another program, that is a file of their codebook.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int

from tokenkl._files import PathLike
from tokenkl._formats import FileError, conform
from tokenkl._random import generator
from tokenkl._validation import as_float_array, check_count, check_positive, reject
from tokenkl.tts.ar import AR, ARConfig
from tokenkl.tts.audio import Speech, Utterance
from tokenkl.tts.cdcd import CDCD, PROMPTS, RANGE, CDCDConfig
from tokenkl.tts.codec import Codec, Vocoder, check_references, own_tokenizer
from tokenkl.tts.data import (
    FILLER,
    Example,
    Layout,
    TextEncoder,
    examples_of,
    make_batch,
    numbered,
)
from tokenkl.tts.devices import as_device
from tokenkl.tts.frontend import Lexicon, LexiconRecord, PhonemeTable
from tokenkl.tts.grammar import VOCABULARY, check_words
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.normalisation import spoken
from tokenkl.tts.stored import open_network, write_network
from tokenkl.tts.tokenizers import Tokenizer

if TYPE_CHECKING:  # what speaking does not need, and takes long to import
    from tokenkl.codebooks import Codebook
    from tokenkl.divergence import EvidenceBound
    from tokenkl.tts.geometry import Geometry, View

FORMAT = 1
#: The voices that come with the package, in `WEIGHTS`.
INCLUDED = ("phonemes", "characters")
#: Speakers that a refusal names.
NAMED = 8

WEIGHTS = Path(__file__).parent / "weights"


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """Token ids of speech to go on from, and what is said in it, as the voice reads it."""

    tokens: Int[np.ndarray, " tokens"]
    text: str


@dataclasses.dataclass(eq=False)
class Voice:
    """A tokenizer, a reading of text, statistics of durations, and a model.

    Args:
        tokenizer: in evaluation mode; a `Codec` for the tokens of another program.
        encoder: text to symbols.
        lengths: durations of the symbols.
        layout: how symbols are placed over time.
        model: a `CDCD` or its autoregressive twin `AR`.
        record: how it was made; plain JSON values.
        vocoder: what makes sound of tokens; the tokenizer, by Griffin-Lim, when None.
        speakers: names, in the order of the model's numbers; none for a model that is not told who
            speaks.
    """

    tokenizer: Tokenizer | Codec
    encoder: TextEncoder
    lengths: Lengths
    layout: Layout
    model: CDCD | AR
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    vocoder: Vocoder | None = None
    speakers: tuple[str, ...] = ()
    _levels: dict[tuple[str, int], np.ndarray] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """The words that it has learned; None for a voice that was trained on a corpus on disk."""
        if self.encoder.lexicon is not None:
            return tuple(self.encoder.lexicon.entries)
        of_the_domain = self.record.get("recipe", {}).get("data") is None
        return VOCABULARY if of_the_domain else None

    @property
    def can_be_heard(self) -> bool:
        """Whether there is a way from its tokens to sound."""
        return self.vocoder is not None or self.tokenizer.can_be_heard

    def audio(self, ids: Int[np.ndarray, " tokens"], *, key: Any = 0) -> tuple[np.ndarray, int]:
        """Samples of token ids, and how many there are a second.

        Args:
            ids: as `tokens` gives them.
            key: whole number or JAX random key, of the phases that Griffin-Lim begins with.

        Raises:
            ValueError: tokens of another program without a vocoder, or what that made is no sound.
        """
        if self.vocoder is not None:
            return self.vocoder(ids), self.vocoder.rate
        if isinstance(self.tokenizer, Codec):
            reject("vocoder", None, "given to `load` for the tokens of another program")
        return self.tokenizer.synthesise(ids, key=key), self.tokenizer.config.mel.sample_rate

    def codebook(self) -> Codebook:
        """The points in which the model diffuses its tokens.

        Raises:
            ValueError: a model that has no points.
        """
        from tokenkl.codebooks import OneHot, PointCodebook

        if not isinstance(self.model, CDCD):
            reject("voice", self.model.kind, "one whose model is a diffusion model")
        if self.model.config.one_hot:
            return OneHot(self.model.config.K, scale=float(self.model.points[0, 0]))
        points = self.model.table().detach().cpu().double().numpy()
        placed = self.tokenizer.codebook()
        if points.shape == (placed.K, placed.n) and np.array_equal(points, placed.points):
            return placed
        return PointCodebook(points, name="voice", allow_duplicates=True)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device

    def to(self, device: torch.device | str) -> Voice:
        """Itself, after all that computes was moved to a device; noise is drawn there, too.

        Raises:
            ValueError: no such device here.
        """
        where = as_device(device)
        self.model.to(where)
        if isinstance(self.tokenizer, Tokenizer):
            self.tokenizer.to(where)
        return self

    # Speech.

    def speaker_id(self, speaker: str | None) -> int:
        """The model's number of a speaker; the first for None.

        Raises:
            ValueError: a voice of one speaker, or a name that it does not know.
        """
        if speaker is None:
            return 0
        if not self.speakers:
            reject("speaker", speaker, "left out for a voice that was trained without speakers")
        if speaker not in self.speakers:
            near = difflib.get_close_matches(speaker, self.speakers, n=3)
            some = [*near, *(one for one in self.speakers if one not in near)][:NAMED]
            more = f" or {len(self.speakers) - NAMED} more" if len(self.speakers) > NAMED else ""
            reject("speaker", speaker, f"one of {', '.join(some)}{more}")
        return self.speakers.index(speaker)

    def tokens(
        self,
        texts: Sequence[str],
        *,
        steps: int = 10,
        grid: str = "uniform",
        counts: Sequence[int] | None = None,
        speaker: str | None = None,
        key: Any = 0,
        **options: Any,
    ) -> list[Int[np.ndarray, " tokens"]]:
        """Token ids for each text.

        Args:
            texts: of the voice's domain.
            steps, grid: noise levels of diffusion, see `sampling_levels`.
            counts: tokens of each text, at the usual rate of the training examples when None.
            speaker: one of `speakers`; the first, who was heard most in training, when None.
            key: whole number or JAX random key.
            options: passed to `CDCD.generate` or `AR.generate`.

        Raises:
            ValueError: a text outside the domain, or an argument out of its range.
        """
        symbols = [self.encoder.encode(text) for text in texts]
        who = self.speaker_id(speaker)
        if isinstance(self.model, AR):
            unspoken = [_unspoken(s, np.ones_like(s), who) for s in symbols]
            batch = make_batch(unspoken, "pad").to(self.device)
            options["speakers"] = batch.speakers
            ids = self.model.generate(batch.symbols, batch.symbol_mask, key=key, **options)
            return [row.cpu().numpy() for row in ids]
        rates: Sequence[float] = [1.0] * len(symbols)
        if counts is not None:
            usual = [float(self.lengths.expected(s).sum()) for s in symbols]
            rates = [one / max(count, 1) for one, count in zip(usual, counts, strict=True)]
        examples = [
            _unspoken(s, self.lengths.durations(s, rate), who)
            for s, rate in zip(symbols, rates, strict=True)
        ]
        return self.tokens_of(examples, steps=steps, grid=grid, key=key, **options)

    def tokens_of(
        self,
        examples: Sequence[Example],
        *,
        steps: int = 10,
        grid: str | Float[Any, " steps"] = "uniform",
        key: Any = 0,
        **options: Any,
    ) -> list[Int[np.ndarray, " tokens"]]:
        """As `tokens`, for given symbols and durations; tokens of the examples are not looked at.

        `grid` may also be ln(snr) at the calls, ascending.

        Raises:
            ValueError: a model that is not a `CDCD`, or an argument out of its range.
        """
        if not isinstance(self.model, CDCD):
            reject("voice", self.model.kind, "a diffusion model, which takes durations")
        levels = self._sampling_levels(grid, steps)
        batch = make_batch(examples, self.layout).to(self.device)
        options["speakers"] = batch.speakers
        made = self.model.generate(
            batch.frames, batch.token_mask, steps=steps, grid=levels, key=key, **options
        )
        rows = made.ids.cpu().numpy()
        return [ids[: e.tokens.size] for ids, e in zip(rows, examples, strict=True)]

    def evidence(
        self,
        examples: Sequence[Example],
        *,
        steps: int = 10,
        grid: str | Float[Any, " steps"] = "uniform",
        n_noise: int = 2,
        key: Any = 0,
    ) -> EvidenceBound:
        """Bound on -ln p of the examples' tokens under the sampler of so many steps; nats.

        Of the ancestral sampler without guidance, given text and length; see
        `tokenkl.divergence.evidence_bound`. The same key gives the same noise to voices with the
        same tokens in the same dimension, so that `one - other` is a paired difference.

        Args:
            examples: with true tokens.
            steps, grid: as in `tokens_of`; at least 2 steps.
            n_noise: draws of the noise, at least 2.
            key: whole number or JAX random key.

        Raises:
            ValueError: a model that is not a `CDCD`, or an argument out of its range.
        """
        from tokenkl.divergence import evidence_bound

        model = self.model
        if not isinstance(model, CDCD):
            reject("voice", model.kind, "a diffusion model")
        levels = self._sampling_levels(grid, steps)
        batch = make_batch(examples, self.layout).to(self.device)
        with torch.no_grad():
            text = model.encode_text(batch.frames, batch.token_mask, batch.speakers)

        @torch.no_grad()
        def logits(y: np.ndarray, snr: np.ndarray) -> torch.Tensor:
            log_snr = torch.from_numpy(np.log(snr)).to(text)
            x = torch.from_numpy(y).to(text) * torch.sigmoid(-log_snr).sqrt()[:, None, None]
            return model(x, log_snr, text, batch.token_mask)

        @torch.no_grad()
        def mean(y: np.ndarray, snr: np.ndarray) -> np.ndarray:
            return model.mean_point(logits(y, snr)).cpu().numpy()

        return evidence_bound(
            self.codebook(),
            lambda y, snr: model.log_probabilities(logits(y, snr)).cpu().numpy(),
            batch.tokens.cpu().numpy(),
            np.exp(levels),
            key=key,
            mean=mean,
            mask=batch.token_mask.cpu().numpy(),
            n_noise=n_noise,
        )

    def _sampling_levels(
        self, grid: str | Float[Any, " steps"], steps: int
    ) -> Float[np.ndarray, " steps"]:
        """ln(snr) at the calls; finding them may take longer than speaking, so they are kept."""
        assert isinstance(self.model, CDCD)
        if not isinstance(grid, str):
            levels = np.clip(as_float_array("grid", grid, ndim=1), *RANGE)
            if levels.shape != (steps,) or (np.diff(levels) <= 0).any():
                reject("grid", f"shape {levels.shape}", f"{steps} ascending values of ln(snr)")
            return levels
        if grid == "uniform":  # without the imports that the others need
            equal = self.model.log_snr(1 - np.arange(check_count(steps, "steps")) / steps)
            return np.clip(equal, *RANGE)
        if (grid, steps) not in self._levels:
            from tokenkl.tts.levels import sampling_levels

            table = self.model.noise.cpu().numpy()
            levels = sampling_levels(grid, steps, self.codebook(), table, key=0)
            self._levels[grid, steps] = np.clip(levels, *RANGE)
        return self._levels[grid, steps]

    def read(self, text: str, *, any_text: bool = False) -> tuple[str, list[str]]:
        """What the voice can say of a text, and the words and characters that it cannot.

        Numbers, currency and accents are read as `tokenkl.tts.normalisation.spoken` does.

        Args:
            text: any.
            any_text: let a voice of characters try words that it has not learned.

        Raises:
            ValueError: nothing is left to say.
        """
        plain, unread = spoken(text)
        if self.vocabulary is None or (any_text and not self.encoder.is_phonetic):
            self.encoder.encode(plain)  # refuses an empty one
            return plain, unread
        words = [bare for word in plain.split() if (bare := word.strip(".,?!:;'"))]
        known = [word for word in words if word in self.vocabulary]
        if not known:
            check_words(" ".join(words), self.vocabulary)  # refuses it by name
        return " ".join(known), [*dict.fromkeys(w for w in words if w not in known), *unread]

    def say(
        self,
        text: str,
        *,
        steps: int = 10,
        key: Any = 0,
        any_text: bool = False,
        rate: float | None = None,
        prompt: Prompt | None = None,
        **options: Any,
    ) -> Speech:
        """Speech; what cannot be said is left out and named in one warning.

        Args:
            text: see `read`.
            steps, key: as in `tokens`.
            any_text: as in `read`.
            rate: how much faster than usual; as fast as the prompt, or 1, when None.
            prompt: from `prompt`, for models that were trained with prompts.
            options: as in `tokens`.

        Raises:
            ValueError: as `tokens`, or nothing that can be said, or a rate or a prompt for a model
                that takes none.
        """
        ids, said, given = self._said(text, steps, key, any_text, rate, prompt, options)
        audio, samples = self.audio(ids, key=key)
        return Speech(audio[round(given / self.tokenizer.token_rate * samples) :], said, samples)

    def say_tokens(
        self,
        text: str,
        *,
        steps: int = 10,
        key: Any = 0,
        any_text: bool = False,
        rate: float | None = None,
        prompt: Prompt | None = None,
        **options: Any,
    ) -> Int[np.ndarray, " tokens"]:
        """The token ids of which `say` makes sound, for a program of one's own.

        Args:
            text, steps, key, any_text, rate, prompt, options: as in `say`.

        Raises:
            ValueError: as `say`.
        """
        ids, _, given = self._said(text, steps, key, any_text, rate, prompt, options)
        return ids[given:]

    def _said(
        self,
        text: str,
        steps: int,
        key: Any,
        any_text: bool,
        rate: float | None,
        prompt: Prompt | None,
        options: dict[str, Any],
    ) -> tuple[Int[np.ndarray, " tokens"], str, int]:
        """Token ids with those of the prompt, the text, and how many are of the prompt."""
        said, left_out = self.read(text, any_text=any_text)
        if left_out:
            warnings.warn(f"Left out what {self._cannot_say(left_out)}.", stacklevel=3)
        options = {**options, "steps": steps, "key": key}
        if prompt is not None:
            return self._after(prompt, said, rate, **options), said, prompt.tokens.size
        if rate is not None:
            if not isinstance(self.model, CDCD):
                reject("rate", rate, "None for a model that decides on the length itself")
            usual = float(self.lengths.expected(self.encoder.encode(said)).sum())
            options["counts"] = [max(1, round(usual / check_positive(rate, "rate")))]
        [ids] = self.tokens([said], **options)
        return ids, said, 0

    def prompt(self, audio: Float[np.ndarray, " samples"], text: str) -> Prompt:
        """Speech to go on from, for `say`: the model sees its tokens and its text.

        Args:
            audio: at 16 kHz.
            text: what is said in it.

        Raises:
            ValueError: a model that was trained without prompts, or a text that cannot be read.
        """
        self._check_prompts()
        said, left_out = self.read(text, any_text=True)
        if left_out:
            reject("the text of the prompt", text, f"without what {self._cannot_say(left_out)}")
        return Prompt(own_tokenizer(self.tokenizer).tokenize(audio), said)

    def _check_prompts(self) -> None:
        if not (isinstance(self.model, CDCD) and self.model.config.prompt):
            reject("prompt", "given", "left out for a voice that was trained without prompts")

    def _after(
        self,
        prompt: Prompt,
        said: str,
        rate: float | None,
        *,
        speaker: str | None = None,
        **options: Any,
    ) -> Int[np.ndarray, " tokens"]:
        """The prompt and what follows; its text and the new one are one text to the model."""
        self._check_prompts()
        before, count = self.encoder.encode(prompt.text), prompt.tokens.size
        if self.encoder.is_phonetic:
            after = self.encoder.encode(said)
        else:
            after = self.encoder.encode(f"{prompt.text} {said}")[before.size :]
        speed = float(self.lengths.expected(before).sum()) / count
        lengths = [self.lengths.durations(before, speed)]
        if rate is None:  # within what was heard in training
            rate = float(np.clip(speed, 1 / self.lengths.rates[-1], 1 / self.lengths.rates[0]))
        lengths.append(self.lengths.durations(after, rate))
        symbols = np.concatenate([before, after])
        example = _unspoken(symbols, np.concatenate(lengths), self.speaker_id(speaker))
        share = count / example.tokens.size
        if share > PROMPTS[1]:
            warnings.warn(
                f"The prompt is {share:.0%} of what is to be said with it; the voice was trained "
                f"on prompts of at most {PROMPTS[1]:.0%}.",
                stacklevel=4,
            )
        given = torch.from_numpy(np.array(prompt.tokens, np.int64))[None].to(self.device)
        [ids] = self.tokens_of([example], prompt=given, **options)
        return ids

    def _cannot_say(self, left_out: list[str]) -> str:
        named = []
        for one in left_out:
            near = difflib.get_close_matches(one, self.vocabulary or (), n=3, cutoff=0.75)
            named.append(f"{one!r} (near it: {', '.join(near)})" if near else repr(one))
        return f"this voice cannot say: {', '.join(named)}"

    def examples(self, references: Sequence[Utterance] | Sequence[Example]) -> list[Example]:
        """What was said in truth with its symbols, true tokens, and the number of who says it.

        Args:
            references: utterances; examples, where the tokens are those of another program.

        Raises:
            ValueError: the others of the two, or a speaker that the voice does not know.
        """
        check_references(references, self.tokenizer)
        known: Sequence[Any] = references
        if self.tokenizer.can_be_heard:
            examples = examples_of(own_tokenizer(self.tokenizer), self.encoder, known)
        else:
            examples = list(known)
        return numbered(examples, self.speakers) if self.speakers else examples

    # Files.

    def save(self, path: PathLike, tokenizer: str, *, half: bool = False) -> None:
        """Write weights as safetensors, everything else as JSON in its header.

        Args:
            path: ends in .safetensors.
            tokenizer: name of the tokenizer's file, which lies in the same folder.
            half: networks in float16, half the size; points and noise levels keep their precision.

        Raises:
            ValueError: a name that is not one of a file in the same folder.
        """
        folder = Path(path).parent
        if Path(tokenizer).name != tokenizer or not (folder / tokenizer).is_file():
            reject("tokenizer", tokenizer, f"the name of a file in {folder}")
        state = {
            name: value.half() if half and name not in ("points", "noise") else value
            for name, value in self.model.state_dict().items()
        }
        header = {
            "format": FORMAT,
            "tokenizer": tokenizer,
            "tokenizer_sha256": _digest(folder / tokenizer),
            "kind": self.model.kind,
            "config": self.model.config.to_json(),
            "layout": self.layout,
            "text": _text_to_json(self.encoder),
            "lengths": self.lengths.to_json(),
            "record": self.record,
        }
        if isinstance(self.tokenizer, Codec):
            header["token_rate"] = self.tokenizer.token_rate
        if self.speakers:
            header["speakers"] = list(self.speakers)
        write_network(path, state, header)

    @classmethod
    def load(cls, path: PathLike = "phonemes", *, vocoder: Vocoder | None = None) -> Voice:
        """Read a voice, in evaluation mode.

        Args:
            path: a file that `save` wrote, with its tokenizer beside it, or one of `INCLUDED`.
            vocoder: what makes sound of its tokens; Griffin-Lim, where they are ours, when None.

        Raises:
            ValueError: no such file, or not one that `save` wrote, or another tokenizer beside it.
        """
        expected = f"a voice that tokenkl wrote, or {' or '.join(INCLUDED)}"
        path = WEIGHTS / f"{path}.safetensors" if path in INCLUDED else Path(path)
        with open_network(path, expected, _Header) as stored:
            header = stored.header
            name = header["tokenizer"]
            if Path(name).name != name:
                reject("its tokenizer", name, "a file in the same folder")
            tokenizer: Tokenizer | Codec
            try:
                if "token_rate" in header:
                    tokenizer = Codec.load(path.parent / name, header["token_rate"])
                else:
                    tokenizer = Tokenizer.load(path.parent / name)
            except FileError as error:
                stored.refuse(f"beside it, {error}")
            if _digest(path.parent / name) != header["tokenizer_sha256"]:
                reject("the tokenizer beside it", f"another {name}", "its own")
            config = _CONFIGS[header["kind"]].from_json(header["config"])
            encoder = _text_from_json(header["text"])
            speakers = tuple(header.get("speakers", ()))
            for what, given, there in (
                ("tokens", config.K, tokenizer.K),
                ("symbols", config.symbols, encoder.size),
                ("speakers", config.speakers, len(set(speakers))),
            ):
                if given != there:
                    reject(f"the {what} of its model", given, f"{there}, as there are")
            lengths = Lengths.from_json(header["lengths"])
            parts = config.depth + getattr(config, "text_blocks", 0)
            model = stored.network(lambda: _empty(config), parts)
        layout, record = header["layout"], header["record"]
        return cls(tokenizer, encoder, lengths, layout, model, record, vocoder, speakers)


_CONFIGS: dict[str, type[CDCDConfig] | type[ARConfig]] = {"cdcd": CDCDConfig, "ar": ARConfig}


class _Training(TypedDict, total=False):
    steps: int


class _Recipe(TypedDict, total=False):
    corpus: str
    geometry: str
    schedule: str
    training: _Training
    data: dict[str, Any] | None


class _Record(TypedDict, total=False):
    """Of how it was made, what others read; there may be more."""

    recipe: _Recipe


class _Newer(TypedDict, total=False):
    """Only in the files of voices that need it."""

    token_rate: float
    speakers: list[str]


class _Header(_Newer):
    format: Literal[1]
    tokenizer: str
    tokenizer_sha256: str
    kind: Literal["cdcd", "ar"]
    config: dict[str, Any]
    layout: Layout
    text: dict[str, Any]
    lengths: dict[str, Any]
    record: _Record


def new_cdcd(
    tokenizer: Tokenizer | Codec,
    encoder: TextEncoder,
    *,
    geometry: Geometry | Codebook = "tokenizer",
    view: View = "power",
    schedule: str = "linear-vp",
    counts: Float[np.ndarray, " K"] | None = None,
    key: Any = 0,
    **changes: Any,
) -> CDCD:
    """A fresh `CDCD` for the ids of a tokenizer, with other points if so wished.

    Args:
        tokenizer: whose tokens are diffused.
        encoder: of the text.
        geometry, view: see `place_tokens`; or a codebook of as many tokens, as it is.
        schedule: see `noise_levels`.
        counts: how often every token occurs in training; with an output prior the network starts
            from them.
        key: of the points, and of the weights.
        changes: of `CDCDConfig`. An output prior is there wherever there can be one, unless
            `output_prior` says otherwise.

    Raises:
        ValueError: an unknown geometry or schedule, or a value out of its range.
    """
    from tokenkl.codebooks import Codebook, OneHot
    from tokenkl.tts.geometry import place_tokens
    from tokenkl.tts.levels import noise_levels

    ours = tokenizer.codebook()
    learned = not isinstance(geometry, Codebook) and geometry == "learned"
    if isinstance(geometry, Codebook):
        if geometry.K != ours.K:
            reject("geometry", f"a codebook of {geometry.K} tokens", f"one of {ours.K}")
        codebook = geometry
    else:
        codebook = place_tokens(geometry, ours, view=view, key=key)
    one_hot = codebook if isinstance(codebook, OneHot) else None
    digits = tokenizer.digits()
    shape = {} if digits is None else {"shape": digits[0], "order": digits[1]}
    changes = {**shape, **changes}
    if "output_prior" not in changes:
        # A head by digits needs the grid of these digits, which only FSQ's own points are.
        on_grid = codebook is ours and tokenizer.is_grid
        changes["output_prior"] = on_grid or changes.get("head", "joint") == "joint"
    config = CDCDConfig(
        K=codebook.K, symbols=encoder.size, dim=codebook.n,
        one_hot=one_hot is not None, learned=learned, **changes,
    )  # fmt: skip
    if one_hot is not None:
        points = np.array([[one_hot.scale]])
    else:
        points = np.asarray(codebook.points)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(key, 1).integers(2**63)))
        model = CDCD(config, points, noise_levels(schedule, codebook, key=key))
    if config.output_prior and counts is not None:
        model.start_from(counts)
    return model


def _unspoken(symbols: np.ndarray, lengths: np.ndarray, speaker: int = 0) -> Example:
    tokens = np.full(int(lengths.sum()), FILLER)
    return Example("", "", tokens, symbols, lengths, speaker_id=speaker)


def _empty(config: CDCDConfig | ARConfig) -> CDCD | AR:
    return CDCD(config) if isinstance(config, CDCDConfig) else AR(config)


def _text_to_json(encoder: TextEncoder) -> dict[str, Any]:
    if encoder.table is None or encoder.lexicon is None:
        return {"symbols": "characters"}
    return {
        "symbols": "phonemes",
        "names": encoder.table.names,
        "entries": encoder.lexicon.entries,
        "before": encoder.lexicon.before,
    }


class _Text(TypedDict):
    symbols: Literal["characters", "phonemes"]


class _Phonemes(LexiconRecord):
    names: list[str]


def _text_from_json(record: dict[str, Any]) -> TextEncoder:
    if conform(record, _Text, "text")["symbols"] == "characters":
        return TextEncoder()
    conform(record, _Phonemes, "text")
    table, lexicon = PhonemeTable(record["names"]), Lexicon(record["entries"], record["before"])
    for said in (lexicon.entries, *lexicon.before.values()):
        for phonemes in said.values():
            table.encode(phonemes)
    return TextEncoder(table, lexicon)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
