"""Diffusion and its autoregressive twins, each trained to its own optimum and decoded at its best.

The set-up was written down in docs/speech.md before the first run. `train_rivals` makes the
networks, `hear_rivals` chooses decodings on validation sentences and hears them on test sentences;
both go on where they were.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.speech.twin import PACE
from tokenkl.tts.audio import Utterance
from tokenkl.tts.codec import own_tokenizer
from tokenkl.tts.corpus import CorpusConfig, load_corpus
from tokenkl.tts.data import examples_of
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import Recipe, Workspace, new_model
from tokenkl.tts.training import TrainConfig, train
from tokenkl.tts.voice import Voice

#: The same for all: no decay, and an end at the validation optimum, see `Recipe.patience`.
TRAINING = TrainConfig(
    steps=20_000, batch=8, learning_rate=1.5e-3, decay="constant", valid_every=100,
    checkpoint_every=100,
)  # fmt: skip
DROPOUT = (("dropout", 0.1), ("token_dropout", 0.1))


@dataclasses.dataclass(frozen=True)
class Rival:
    """A system.

    - `model`, `changes`, `training`: of its recipe.
    - `seeds`: of training.
    - `corpus`: sentences that it is trained on in place of those of the plain corpus.
    """

    model: str
    changes: tuple[tuple[str, object], ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    training: TrainConfig = TRAINING
    corpus: CorpusConfig | None = None

    def recipe(self) -> Recipe:
        """What to train."""
        return Recipe(
            text="characters",
            model=self.model,
            changes=(*self.changes, *DROPOUT),
            training=self.training,
            patience=3,
        )


#: Other sentences of the same domain, four times as many.
MORE = CorpusConfig(seed=1, train=4800, valid=0, test=0, combinations=0)

DIFFUSION = (("head", "factorised"),)
RIVALS: dict[str, Rival] = {
    "ar": Rival("ar", (("pace", PACE),)),
    "diffusion": Rival("cdcd", DIFFUSION),
    "diffusion-more": Rival("cdcd", DIFFUSION, seeds=(0,), corpus=MORE),
    "ar-10x": Rival(
        "ar-10x",
        (("pace", PACE),),
        seeds=(0,),
        training=dataclasses.replace(TRAINING, learning_rate=1e-3, mixed_precision="bf16"),
    ),
}


def order() -> list[tuple[str, int]]:
    """Names and training seeds, so that an unfinished run has whole seeds of the small ones."""
    every = [(name, seed) for name, rival in RIVALS.items() for seed in rival.seeds]
    return sorted(every, key=lambda one: (one[0] == "ar-10x", one[1], one[0] == "diffusion-more"))


def sentences_of(rival: Rival, workspace: Workspace) -> list[Utterance]:
    """What it is trained on: nothing that is said in the validation or test split."""
    plain = workspace.corpus("plain")
    if rival.corpus is None:
        return plain.split("train")
    more = load_corpus(rival.corpus, folder=workspace.corpora, progress=workspace.progress)
    kept = {one.text for split in ("valid", "test") for one in plain.split(split)}
    return [one for one in more.split("train") if one.text not in kept]


def train_rival(name: str, seed: int, workspace: Workspace) -> Voice:
    """The voice of one system and seed, trained now or before."""
    recipe = RIVALS[name].recipe()
    included = Voice.load("characters")
    tokenizer, encoder = own_tokenizer(included.tokenizer), included.encoder
    learned, valid = (
        examples_of(tokenizer, encoder, said, progress=workspace.progress)
        for said in (sentences_of(RIVALS[name], workspace), workspace.corpus("plain").split("valid"))
    )
    model = new_model(recipe, tokenizer, encoder, train=learned, key=seed)
    train(
        model, learned, recipe.training, workspace.folder / f"{name}-{seed}",
        key=seed, valid=valid, patience=recipe.patience, record={"recipe": recipe.to_json()},
        progress=workspace.progress, cpu=True,
    )  # fmt: skip
    lengths = Lengths.fit(examples_of(tokenizer, encoder, workspace.corpus("plain").split("train")))
    return Voice(tokenizer, encoder, lengths, recipe.training.layout, model)


def train_rivals(workspace: Workspace, only: Sequence[str], say: Callable[[str], None]) -> None:
    """All of them, in an order that lets an unfinished run be analysed."""
    for name, seed in order():
        if f"{name}-{seed}".startswith(tuple(only)):
            train_rival(name, seed, workspace)
            say(f"{name}-{seed} is trained")


def results(folder: Path) -> Path:
    """Where what was heard is kept."""
    return folder / "rivals"
