"""From nothing to a voice: which corpus, tokenizer, model and training, and the run itself.

`RECIPES` are the presets of `tokenkl tts train`. A workspace is a folder with the tokenizers and
runs made in it; whatever is there already is used again, and what was interrupted goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tokenkl._files import PathLike, atomic_path, locked
from tokenkl._formats import reading
from tokenkl._progress import Report
from tokenkl._random import generator
from tokenkl._validation import check_choice, check_count, reject
from tokenkl.codebooks import Codebook
from tokenkl.tts.ar import AR, AR_SIZES
from tokenkl.tts.cdcd import CDCD
from tokenkl.tts.codec import Codec
from tokenkl.tts.corpus import Corpus, CorpusConfig, load_corpus
from tokenkl.tts.data import Example, Layout, TextEncoder, examples_of, numbered, speakers_of
from tokenkl.tts.devices import as_device
from tokenkl.tts.geometry import VIEWS, Geometry, View
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.loaders import Recordings
from tokenkl.tts.recordings import (
    Source,
    content_digest,
    not_too_long,
    some_utterances,
    split_examples,
    tokenized,
)
from tokenkl.tts.tokenizers import (
    TOKENIZERS,
    Tokenizer,
    TrainingConfig,
    features_of,
    train_tokenizer,
)
from tokenkl.tts.training import FREE, PRESETS, TrainConfig, train
from tokenkl.tts.voice import Voice, new_cdcd

_CORPORA = {
    "plain": CorpusConfig(),
    "jittered": CorpusConfig.jittered(),
    "paused": CorpusConfig.paused(),
    "few": CorpusConfig(train=200, valid=20, test=20, combinations=20),
}
CORPORA = tuple(_CORPORA)
MODELS = ("cdcd", "ar", "ar-10x")

#: In the folder of a run: what it was begun with.
RECIPE = "recipe.json"

#: Layout of the text for every kind of symbols: phonemes come with durations.
_LAYOUTS: dict[str, Layout] = {"phonemes": "aligned", "characters": "stretch"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What determines a voice.

    Args:
        corpus: "plain", "jittered" (pitch and rate vary), "paused" (digits, with pauses of any
            length between them) or "few" (200 sentences, for trials).
        tokenizer: of `TOKENIZERS`.
        tokenizer_steps: of its training.
        text: "phonemes", placed by their durations, or "characters", spread evenly.
        layout: of the text, the one named above when None.
        model: "cdcd", "ar" or "ar-10x".
        geometry, view, schedule: of a cdcd; see `place_tokens` and `noise_levels`.
        changes: to the configuration of the model, as pairs of name and value.
        training: of the model.
        patience: of the model's training, see `train`.
        data: a corpus on disk, in place of `corpus`; its text is read as characters.
        speakers: tell the model who speaks, for a corpus on disk that knows.

    Raises:
        ValueError: an unknown name, or phonemes of a corpus on disk, or speakers of another.
    """

    corpus: str = "plain"
    tokenizer: str = "fsq-3^8"
    tokenizer_steps: int = 2000
    text: Literal["phonemes", "characters"] = "phonemes"
    layout: Layout | None = None
    model: str = "cdcd"
    geometry: Geometry = "tokenizer"
    view: View = "power"
    schedule: str = "linear-vp"
    changes: tuple[tuple[str, Any], ...] = (("head", "factorised"),)
    training: TrainConfig = PRESETS["small"]
    data: Source | None = None
    patience: int | None = None
    speakers: bool = False

    def __post_init__(self) -> None:
        check_choice(self.corpus, CORPORA, "corpus")
        check_choice(self.tokenizer, tuple(TOKENIZERS), "tokenizer")
        check_choice(self.text, tuple(_LAYOUTS), "text")
        check_choice(self.model, MODELS, "model")
        check_choice(self.view, VIEWS, "view")
        check_count(self.tokenizer_steps, "tokenizer_steps")
        if self.patience is not None:
            check_count(self.patience, "patience")
        if self.speakers and self.data is None:
            reject("speakers", True, "False for the synthetic corpus, which has one")
        if self.data is not None and self.text == "phonemes":
            reject("text", self.text, "'characters' for recordings, whose phonemes are not aligned")
        layout = self.layout or _LAYOUTS[self.text]
        object.__setattr__(self, "layout", layout)
        object.__setattr__(self, "changes", tuple(self.changes))
        training = dataclasses.replace(self.training, layout=layout)
        object.__setattr__(self, "training", training)

    @property
    def material(self) -> str:
        """Name of what is learned from, for the names of files."""
        return self.corpus if self.data is None else self.data.label

    def to_json(self) -> dict[str, Any]:
        """As plain values; what is newer than stored recipes is named only where it is used."""
        record = json.loads(json.dumps(dataclasses.asdict(self)))
        if self.patience is None:
            del record["patience"]
        if not self.speakers:
            del record["speakers"]
        return record


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """What a model is trained on: a tokenizer (and its file), a reading of text, and examples."""

    tokenizer: Tokenizer | Codec
    tokenizer_path: Path | None
    encoder: TextEncoder
    train: list[Example]
    valid: list[Example]
    speakers: tuple[str, ...] = ()


#: Of one model: widths, depth and reading of the text as in the CDCD-TTS repository.
_PAPER = {
    "width": 512, "heads": 8, "depth": 8, "text_width": 256, "text_blocks": 4, "time_width": 512,
    "prompt": 0.7, "drop_text": 0.2,  # without a prompt in three of ten, so that none is needed
}  # fmt: skip
_TINY = {"head": "factorised", "width": 96, "depth": 3, "text_width": 64, "text_blocks": 1}

RECIPES: dict[str, Recipe] = {
    "tiny": Recipe(
        "few", tokenizer_steps=150, changes=tuple(_TINY.items()), training=PRESETS["tiny"]
    ),
    "small": Recipe(),
    "paper": Recipe(
        text="characters", layout="pad", changes=tuple(_PAPER.items()), training=PRESETS["paper"]
    ),
}


def load_named_corpus(
    name: str, *, folder: PathLike | None = None, progress: Report | None = None
) -> Corpus:
    """One of `CORPORA`; arguments as `load_corpus`."""
    config = _CORPORA[check_choice(name, CORPORA, "corpus")]
    return load_corpus(config, folder=folder, progress=progress)


class Workspace:
    """A folder of tokenizers and runs.

    Args:
        folder: made if it is not there.
        corpora: where spoken corpora are cached; the user's cache when None.
        progress: called with what is done and what there is to do, of one thing after the other;
            bars on stderr when None.
        device: on which tokenizers are trained, and make tokens.

    Raises:
        ValueError: no such device.
    """

    def __init__(
        self,
        folder: PathLike,
        *,
        corpora: PathLike | None = None,
        progress: Report | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder = Path(folder)
        self.corpora = corpora
        self.progress = progress
        self.device = as_device(device)
        #: Checkpoint of a tokenizer whose training has begun and has not ended.
        self.unfinished: Path | None = None
        self.folder.mkdir(parents=True, exist_ok=True)

    def corpus(self, name: str) -> Corpus:
        """One of `CORPORA`."""
        return load_named_corpus(name, folder=self.corpora, progress=self.progress)

    def tokenizer(self, recipe: Recipe, *, key: Any = 0) -> Tokenizer:
        """The tokenizer of a recipe, from its file or trained now.

        Tokens come from the stored weights, which are rounded to half precision.

        Raises:
            ValueError: a file of that name that was made from something else.
        """
        if recipe.data is not None and not recipe.data.has_audio:
            if recipe.data.kind == "tokens":
                reject("recipe", "one of tokens", "one of speech, for which a tokenizer is trained")
            return _bare_tokenizer(recipe)
        recordings = _recordings(recipe)
        made_from = self._made_from(recipe, key, recordings)
        return self._tokenizer(recipe, made_from, recordings, key)[0]

    def tokenizer_path(self, recipe: Recipe, *, key: Any = 0) -> Path:
        """Where the tokenizer of a recipe lies: another one for all that its weights depend on."""
        return self._path_of(recipe, self._made_from(recipe, key, _recordings(recipe)))

    def _made_from(self, recipe: Recipe, key: Any, recordings: Recordings | None) -> dict[str, Any]:
        """All that the weights of a recipe's tokenizer depend on, besides its name."""
        if recordings is None:
            content = _CORPORA[recipe.corpus].digest()
        else:
            content = content_digest(recordings, progress=self.progress)
        return {
            "corpus": recipe.material, "content": content, "steps": recipe.tokenizer_steps,
            "key": _plain_key(key),
        }  # fmt: skip

    def _path_of(self, recipe: Recipe, made_from: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:8]
        return self.folder / f"tokenizer-{recipe.tokenizer}-{recipe.material}-{digest}.safetensors"

    def _tokenizer(
        self, recipe: Recipe, made_from: dict[str, Any], recordings: Recordings | None, key: Any
    ) -> tuple[Tokenizer, Path]:
        path = self._path_of(recipe, made_from)
        # Of two processes that want the same one, one trains it and the other waits for the file:
        # weights that differ in a bit would be another tokenizer than that of the other's voice.
        with locked(self.folder / f".{path.stem}.lock", wait=True):
            if not path.is_file():
                if recordings is None:
                    utterances = self.corpus(recipe.corpus).split("train")
                else:
                    utterances = some_utterances(recordings)
                checkpoint = path.with_name(f"{path.stem}.checkpoint.safetensors")
                self.unfinished = checkpoint
                tokenizer = train_tokenizer(
                    features_of(utterances, progress=self.progress),
                    TOKENIZERS[recipe.tokenizer],
                    TrainingConfig(steps=recipe.tokenizer_steps),
                    key=key,
                    checkpoint=checkpoint,
                    device=self.device,
                    progress=self.progress,
                )
                tokenizer.save(path, half=True, record={"made_from": made_from})
                self.unfinished = None
                checkpoint.unlink(missing_ok=True)
        found = Tokenizer.load(path)
        if found.record.get("made_from") != made_from:
            was = found.record.get("made_from")
            reject("folder", f"one where {path} was made from {was}", f"of one from {made_from}")
        return found, path

    def material(self, recipe: Recipe) -> Material:
        """Tokenizer, text and examples of a recipe, from their files or made now."""
        if recipe.data is not None and not recipe.data.has_audio:
            return self._of_tokens(recipe, recipe.data)
        recordings = _recordings(recipe)
        made_from = self._made_from(recipe, 0, recordings)
        tokenizer, path = self._tokenizer(recipe, made_from, recordings, 0)
        tokenizer.to(self.device)
        if recipe.data is not None and recordings is not None:
            examples = tokenized(
                recordings,
                tokenizer,
                path.with_name(path.name.replace("tokenizer", "tokens", 1)).with_suffix(".npz"),
                content=made_from["content"],
                progress=self.progress,
            )
            examples = not_too_long(examples, recipe.data.longest, tokenizer.token_rate)
            return _split(recipe, tokenizer.cpu(), path, examples)
        corpus = self.corpus(recipe.corpus)
        utterances = corpus.split("train")
        phonetic = recipe.text == "phonemes"
        encoder = TextEncoder.phonemes(utterances) if phonetic else TextEncoder()
        train, valid = (
            examples_of(tokenizer, encoder, corpus.split(split), progress=self.progress)
            for split in ("train", "valid")
        )
        return Material(tokenizer.cpu(), path, encoder, train, valid)

    def _of_tokens(self, recipe: Recipe, source: Source) -> Material:
        """Token ids that came from elsewhere, with what is known of their codec."""
        tokenizer: Tokenizer | Codec
        path: Path | None = None
        if source.kind == "tokens":
            tokenizer = source.codec()
            points = np.ascontiguousarray(tokenizer.stored.points)
            digest = hashlib.sha256(str(points.shape).encode() + points.tobytes()).hexdigest()[:8]
            path = self.folder / f"codec-{source.label}-{digest}.npz"
            if is_main_process() and not path.is_file():
                tokenizer.save(path)
        else:
            tokenizer = _bare_tokenizer(recipe)
        examples = source.token_examples(tokenizer.K)
        timed = sum(one.lengths is not None for one in examples)
        if timed not in (0, len(examples)) or (recipe.layout == "aligned" and not timed):
            found = f"{timed} of {len(examples)} utterances with them"
            needed = "given for all, or for none with another layout than aligned"
            reject("durations", found, needed)
        examples = not_too_long(examples, source.longest, tokenizer.token_rate)
        return _split(recipe, tokenizer, path, examples)

    def claim(self, recipe: Recipe, name: str, *, key: Any = 0) -> None:
        """Begin the folder of a run, or find it begun with the same recipe and key.

        Raises:
            ValueError: it was begun with others; the first difference is named.
        """
        path = self.folder / name / RECIPE
        wanted = {**_flat(recipe.to_json()), "key": _plain_key(key)}
        if path.is_file():
            with reading(path, "the recipe of a run") as file:
                found = file.json(dict[str, Any])
            for part in dict.fromkeys([*found, *wanted]):
                if part not in _UNIMPORTANT and found.get(part) != wanted.get(part):
                    reject(
                        "folder",
                        f"one begun with {part} = {found.get(part)!r} ({path.parent})",
                        f"new, or of a run with {part} = {wanted.get(part)!r}",
                    )
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")

    def voice(
        self, recipe: Recipe, name: str, *, key: Any = 0, half: bool = False, cpu: bool = False
    ) -> Voice:
        """Make the voice of a recipe: everything that it needs, in the order in which it needs it.

        A voice of "cdcd" token files has no tokenizer with weights: it is not written.

        Args:
            recipe: what to make.
            name: of the run, a folder in the workspace, and of the voice's file.
            key: whole number or JAX random key, of everything random.
            half: store the weights in half precision; the voice returned has them as stored.
            cpu: use the CPU even where there is a GPU.

        Raises:
            ValueError: a run of that name that was made by another recipe.
        """
        self.claim(recipe, name, key=key)
        with _main_process_first(cpu):
            made = self.material(recipe)
        model = new_model(
            recipe,
            made.tokenizer,
            made.encoder,
            train=made.train,
            speakers=len(made.speakers),
            key=key,
        )
        lengths = Lengths.fit(made.train)
        layout = recipe.training.layout
        voice = Voice(made.tokenizer, made.encoder, lengths, layout, model, {}, None, made.speakers)
        trained = train(
            model,
            made.train,
            recipe.training,
            self.folder / name,
            key=key,
            valid=made.valid,
            patience=recipe.patience,
            # Lengths of recordings differ far more than those of the corpus' sentences.
            buckets=recipe.data is not None,
            record={"recipe": recipe.to_json()},
            progress=self.progress,
            cpu=cpu,
        )
        if not trained.finished:
            return voice
        model.cpu()
        voice.record = {"recipe": recipe.to_json(), "key": _plain_key(key)}
        if recipe.data is not None:
            voice.record["held_out"] = {one.name: one.text for one in made.valid}
        if recipe.patience is not None:
            best = trained.header["best"]
            voice.record["best"] = {"step": trained.header["step"], **best}
        if not is_main_process() or made.tokenizer_path is None:
            return voice  # of several processes one writes
        path = self.voice_path(name)
        voice.save(path, made.tokenizer_path.name, half=half)
        return Voice.load(path) if half else voice

    def voice_path(self, name: str) -> Path:
        """Where a voice lies."""
        return self.folder / f"voice-{name}.safetensors"


def new_model(
    recipe: Recipe,
    tokenizer: Tokenizer | Codec,
    encoder: TextEncoder,
    *,
    train: Sequence[Example] = (),
    codebook: Codebook | None = None,
    speakers: int = 0,
    key: Any,
) -> CDCD | AR:
    """The fresh model of a recipe; the same key gives the same weights.

    Args:
        recipe: what to make.
        tokenizer, encoder: of the recipe.
        train: examples, whose token frequencies a model with an output prior starts from.
        codebook: points of the tokens in place of those of the recipe's geometry.
        speakers: that the model tells apart; 0 for one that is not told who speaks.
        key: whole number or JAX random key.
    """
    changes = dict(recipe.changes) | ({"speakers": speakers} if speakers else {})
    if recipe.model == "cdcd":
        ids = np.concatenate([e.tokens for e in train]) if train else None
        return new_cdcd(
            tokenizer,
            encoder,
            geometry=recipe.geometry if codebook is None else codebook,
            view=recipe.view,
            schedule=recipe.schedule,
            counts=None if ids is None else np.bincount(ids, minlength=tokenizer.K),
            key=key,
            **changes,
        )
    size = AR_SIZES["10x" if recipe.model == "ar-10x" else "1x"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(key, 1).integers(2**63)))
        return AR(size(K=tokenizer.K, symbols=encoder.size, **changes))


def _split(
    recipe: Recipe, tokenizer: Tokenizer | Codec, path: Path | None, examples: list[Example]
) -> Material:
    """Recordings or tokens, some of them held out, with their speakers if these are asked for."""
    speakers: tuple[str, ...] = ()
    if recipe.speakers:
        speakers = speakers_of(examples)
        examples = numbered(examples, speakers)
    return Material(tokenizer, path, TextEncoder(), *split_examples(examples), speakers)


def is_main_process() -> bool:
    """Whether this process, of those that `accelerate launch` started, writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def _main_process_first(cpu: bool) -> Iterator[None]:
    """Files are made by one process; the others wait, and read them."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from accelerate import PartialState

    with PartialState(cpu=cpu).main_process_first():
        yield


def _bare_tokenizer(recipe: Recipe) -> Tokenizer:
    """For token ids that came from elsewhere: only the points of its codebook mean anything."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Tokenizer(TOKENIZERS[recipe.tokenizer]).eval()


def _flat(record: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dots in the names."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= (
            _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
        )
    return flat


#: Parts of a recipe that do not change what comes out.
_UNIMPORTANT = tuple(f"training.{name}" for name in FREE)


def _plain_key(key: Any) -> int | str:
    """A key as JSON holds it, another value for another key."""
    if isinstance(key, int):
        return key
    return f"random key {int(generator(key, 3).integers(2**53))}"


def _recordings(recipe: Recipe) -> Recordings | None:
    """What a tokenizer is trained on, if not a synthetic corpus."""
    return None if recipe.data is None else recipe.data.recordings()
