"""From nothing to a voice: which corpus, tokenizer, model and training, and the run itself.

`RECIPES` are the presets of `tokenkl tts train`. A workspace is a folder with the tokenizers and
runs made in it; whatever is there already is used again, and what was interrupted goes on.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Literal

import torch

from tokenkl._files import PathLike
from tokenkl._progress import Report
from tokenkl._random import generator
from tokenkl._validation import check_choice, check_count
from tokenkl.tts.ar import AR, AR_SIZES
from tokenkl.tts.cdcd import CDCD
from tokenkl.tts.corpus import Corpus, CorpusConfig, load_corpus
from tokenkl.tts.data import Layout, TextEncoder
from tokenkl.tts.geometry import Geometry
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.tokenizers import (
    TOKENIZERS,
    Tokenizer,
    TrainingConfig,
    features_of,
    train_tokenizer,
)
from tokenkl.tts.training import PRESETS, TrainConfig, train
from tokenkl.tts.voice import Voice, new_cdcd

CORPORA = ("plain", "jittered", "few")
MODELS = ("cdcd", "ar", "ar-10x")

#: Layout of the text for every kind of symbols: phonemes come with durations.
_LAYOUTS: dict[str, Layout] = {"phonemes": "aligned", "characters": "stretch"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What determines a voice.

    Args:
        corpus: "plain", "jittered" (pitch and rate vary) or "few" (200 sentences, for trials).
        tokenizer: of `TOKENIZERS`.
        tokenizer_steps: of its training.
        text: "phonemes", placed by their durations, or "characters", spread evenly.
        layout: of the text, the one named above when None.
        model: "cdcd", "ar" or "ar-10x".
        geometry, schedule: of a cdcd; see `place_tokens` and `noise_levels`.
        changes: to the configuration of the model, as pairs of name and value.
        training: of the model.

    Raises:
        ValueError: an unknown name.
    """

    corpus: str = "plain"
    tokenizer: str = "fsq-3^8"
    tokenizer_steps: int = 2000
    text: Literal["phonemes", "characters"] = "phonemes"
    layout: Layout | None = None
    model: str = "cdcd"
    geometry: Geometry = "tokenizer"
    schedule: str = "linear-vp"
    changes: tuple[tuple[str, Any], ...] = (("head", "factorised"),)
    training: TrainConfig = PRESETS["small"]

    def __post_init__(self) -> None:
        check_choice(self.corpus, CORPORA, "corpus")
        check_choice(self.tokenizer, tuple(TOKENIZERS), "tokenizer")
        check_choice(self.text, tuple(_LAYOUTS), "text")
        check_choice(self.model, MODELS, "model")
        check_count(self.tokenizer_steps, "tokenizer_steps")
        layout = self.layout or _LAYOUTS[self.text]
        object.__setattr__(self, "layout", layout)
        object.__setattr__(self, "changes", tuple(self.changes))
        training = dataclasses.replace(self.training, layout=layout)
        object.__setattr__(self, "training", training)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


#: Of one model: widths, depth and reading of the text as in the CDCD-TTS repository.
_PAPER = {
    "width": 512, "heads": 8, "depth": 8, "text_width": 256, "text_blocks": 4, "time_width": 512,
    "prompt": 1.0, "drop_text": 0.2,
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


class Workspace:
    """A folder of tokenizers and runs.

    Args:
        folder: made if it is not there.
        corpora: where spoken corpora are cached; the user's cache when None.
        progress: called with what is done and what there is to do, of one thing after the other;
            bars on stderr when None.
    """

    def __init__(
        self, folder: PathLike, *, corpora: PathLike | None = None, progress: Report | None = None
    ) -> None:
        self.folder = Path(folder)
        self.corpora = corpora
        self.progress = progress
        self.folder.mkdir(parents=True, exist_ok=True)

    def corpus(self, name: str) -> Corpus:
        """One of `CORPORA`."""
        config = {
            "plain": CorpusConfig(),
            "jittered": CorpusConfig.jittered(),
            "few": CorpusConfig(train=200, valid=20, test=20, combinations=20),
        }[check_choice(name, CORPORA, "corpus")]
        return load_corpus(config, folder=self.corpora, progress=self.progress)

    def tokenizer(self, recipe: Recipe, *, key: Any = 0) -> Tokenizer:
        """The tokenizer of a recipe, from its file or trained now.

        Tokens come from the stored weights, which are rounded to half precision.
        """
        made_from = {
            "corpus": recipe.corpus, "steps": recipe.tokenizer_steps, "key": _plain_key(key),
        }  # fmt: skip
        path = self.tokenizer_path(recipe)
        if path.is_file():
            found = Tokenizer.load(path)
            if found.record.get("made_from") == made_from:
                return found
        utterances = self.corpus(recipe.corpus).split("train")
        tokenizer = train_tokenizer(
            features_of(utterances, progress=self.progress),
            TOKENIZERS[recipe.tokenizer],
            TrainingConfig(steps=recipe.tokenizer_steps),
            key=key,
            progress=self.progress,
        )
        tokenizer.save(path, half=True, record={"made_from": made_from})
        return Tokenizer.load(path)

    def tokenizer_path(self, recipe: Recipe) -> Path:
        """Where the tokenizer of a recipe lies."""
        return self.folder / f"tokenizer-{recipe.tokenizer}-{recipe.corpus}.safetensors"

    def voice(
        self, recipe: Recipe, name: str, *, key: Any = 0, half: bool = False, cpu: bool = False
    ) -> Voice:
        """Make the voice of a recipe: everything that it needs, in the order in which it needs it.

        Args:
            recipe: what to make.
            name: of the run, a folder in the workspace, and of the voice's file.
            key: whole number or JAX random key, of everything random.
            half: store the weights in half precision; the voice returned has them as stored.
            cpu: use the CPU even where there is a GPU.

        Raises:
            ValueError: a run of that name that was made by another recipe.
        """
        tokenizer = self.tokenizer(recipe)
        corpus = self.corpus(recipe.corpus)
        utterances = corpus.split("train")
        phonetic = recipe.text == "phonemes"
        encoder = TextEncoder.phonemes(utterances) if phonetic else TextEncoder()
        model = new_model(recipe, tokenizer, encoder, key=key)
        layout = recipe.training.layout
        voice = Voice(tokenizer, encoder, Lengths({}, (1.0,)), layout, model, {})
        examples = voice.examples(utterances)
        voice.lengths = Lengths.fit(examples)
        trained = train(
            model,
            examples,
            recipe.training,
            self.folder / name,
            key=key,
            valid=voice.examples(corpus.split("valid")),
            record={"recipe": recipe.to_json()},
            progress=self.progress,
            cpu=cpu,
        )
        if not trained.finished:
            return voice
        model.cpu()
        voice.record = {"recipe": recipe.to_json(), "key": _plain_key(key)}
        path = self.voice_path(name)
        if int(os.environ.get("RANK", "0")) == 0:  # of several processes one writes
            voice.save(path, self.tokenizer_path(recipe).name, half=half)
        return Voice.load(path) if half else voice

    def voice_path(self, name: str) -> Path:
        """Where a voice lies."""
        return self.folder / f"voice-{name}.safetensors"


def new_model(recipe: Recipe, tokenizer: Tokenizer, encoder: TextEncoder, *, key: Any) -> CDCD | AR:
    """The fresh model of a recipe; the same key gives the same weights."""
    changes = dict(recipe.changes)
    if recipe.model == "cdcd":
        return new_cdcd(
            tokenizer,
            encoder,
            geometry=recipe.geometry,
            schedule=recipe.schedule,
            key=key,
            **changes,
        )
    size = AR_SIZES["10x" if recipe.model == "ar-10x" else "1x"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(key, 1).integers(2**63)))
        return AR(size(K=tokenizer.K, symbols=encoder.size, **changes))


def _plain_key(key: Any) -> Any:
    return key if isinstance(key, int) else "a random key"
