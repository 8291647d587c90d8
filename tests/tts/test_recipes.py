"""Workspaces: files of one voice are never those of another, and edited audio is noticed."""

import dataclasses
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tts.small import SMALL

import tokenkl.tts.recipes
from tokenkl._files import locked
from tokenkl.tts.audio import write_wav
from tokenkl.tts.codec import own_tokenizer
from tokenkl.tts.data import TextEncoder
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import CORPORA, Recipe, Workspace
from tokenkl.tts.recordings import Source
from tokenkl.tts.tokenizer_checkpoints import steps_done
from tokenkl.tts.tokenizers import Tokenizer, train_tokenizer
from tokenkl.tts.voice import Voice, new_cdcd


def silent(done: float, total: float, note: str = "") -> None:
    pass


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "lj"
    (folder / "wavs").mkdir(parents=True)
    for index in range(3):
        audio = 0.1 * np.sin(np.arange(8000 + 640 * index) / (5 + index))
        write_wav(folder / "wavs" / f"{index}.wav", audio)
    (folder / "metadata.csv").write_text("0|one|one\n1|two|two\n2|three|three\n")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "space", progress=silent)


@pytest.fixture
def recipe(corpus: Path) -> Recipe:
    return Recipe(
        tokenizer="fsq-3^5", tokenizer_steps=1, text="characters",
        data=Source("ljspeech", str(corpus)),
    )  # fmt: skip


def state(tokenizer: Tokenizer) -> list[np.ndarray]:
    return [value.numpy() for value in tokenizer.state_dict().values()]


def same(one: Tokenizer, two: Tokenizer) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(state(one), state(two), strict=True))


def test_a_voice_keeps_its_tokenizer(workspace: Workspace, recipe: Recipe) -> None:
    first = workspace.tokenizer(recipe)
    path = workspace.tokenizer_path(recipe)
    encoder = TextEncoder()
    model = new_cdcd(first, encoder, head="factorised", **SMALL).eval()
    voice = Voice(first, encoder, Lengths({(-1, -1, -1): 2.0}, (1.0,)), "stretch", model, {})
    voice.save(workspace.voice_path("mine"), path.name)
    longer = dataclasses.replace(recipe, tokenizer_steps=2)
    other = workspace.tokenizer(longer, key=jax.random.key(1))
    assert not same(other, first)
    assert same(own_tokenizer(Voice.load(workspace.voice_path("mine")).tokenizer), first)
    # Each is found again, and not trained again.
    before = {one: one.stat().st_mtime_ns for one in workspace.folder.glob("tokenizer-*")}
    assert len(before) == 2
    assert same(workspace.tokenizer(longer, key=jax.random.key(1)), other)
    assert same(workspace.tokenizer(recipe), first)
    assert {one: one.stat().st_mtime_ns for one in before} == before


def test_every_setting_of_a_tokenizer_gives_another_name(
    workspace: Workspace, recipe: Recipe, tmp_path: Path
) -> None:
    copied = Source("ljspeech", str(shutil.copytree(tmp_path / "lj", tmp_path / "copy")))
    recipes = [
        recipe,
        dataclasses.replace(recipe, tokenizer_steps=2),
        dataclasses.replace(recipe, tokenizer="fsq-3^8"),
        dataclasses.replace(recipe, data=copied),
        *(dataclasses.replace(recipe, data=None, corpus=name) for name in CORPORA),
    ]
    keys = (0, 1, jax.random.key(0), jax.random.key(1))
    names = [workspace.tokenizer_path(one, key=key).name for one in recipes for key in keys]
    assert len(set(names)) == len(names) == 32
    assert names == [workspace.tokenizer_path(one, key=key).name for one in recipes for key in keys]


def test_a_tokenizer_under_the_name_of_another_is_refused(
    workspace: Workspace, recipe: Recipe
) -> None:
    workspace.tokenizer(recipe)
    other = dataclasses.replace(recipe, tokenizer_steps=2)
    os.rename(workspace.tokenizer_path(recipe), workspace.tokenizer_path(other))
    with pytest.raises(ValueError, match=r"folder must be of one from .*'steps': 2"):
        workspace.tokenizer(other)


def test_edited_audio_has_tokens_of_its_own(
    workspace: Workspace, recipe: Recipe, corpus: Path
) -> None:
    def tokens() -> list[list[int]]:
        return [one.tokens.tolist() for one in workspace.material(recipe).train]

    first = tokens()
    wav = corpus / "wavs" / "1.wav"
    old, before = wav.read_bytes(), wav.stat()
    noise = 0.3 * np.random.default_rng(0).standard_normal(8640)  # of the same length
    write_wav(wav, noise)
    os.utime(wav, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert wav.stat().st_size == before.st_size
    edited = tokens()
    assert edited[1] != first[1]
    fresh = Workspace(workspace.folder.parent / "fresh", progress=silent)
    assert edited == [one.tokens.tolist() for one in fresh.material(recipe).train]
    wav.write_bytes(old)
    assert tokens() == first


def test_a_folder_in_training_is_refused(workspace: Workspace, recipe: Recipe) -> None:
    changes = (*SMALL.items(), ("head", "factorised"))
    training = dataclasses.replace(recipe.training, steps=2, batch=2)
    recipe = dataclasses.replace(recipe, changes=changes, training=training)
    run = workspace.folder / "mine"
    run.mkdir()
    with (
        locked(run / ".lock", wait=False),
        pytest.raises(ValueError, match="folder must be one that no other training is writing to"),
    ):
        workspace.voice(recipe, "mine")
    assert not (run / "log.jsonl").exists()
    short = dataclasses.replace(training, max_seconds=1e-9)
    unfinished = workspace.voice(dataclasses.replace(recipe, training=short), "mine", cpu=True)
    assert isinstance(unfinished, Voice)
    assert not workspace.voice_path("mine").exists()
    workspace.voice(recipe, "mine", cpu=True)
    assert len((run / "log.jsonl").read_text().splitlines()) == 1
    with locked(run / ".lock", wait=False):
        workspace.voice(recipe, "mine", cpu=True)  # one that is finished is only read


@pytest.mark.slow
def test_a_tokenizer_that_was_stopped_goes_on(
    workspace: Workspace, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = dataclasses.replace(recipe, tokenizer_steps=4)
    whole = Workspace(tmp_path / "other").tokenizer(longer)
    steps: list[int] = []

    def stop(done: float, total: float) -> None:
        steps.append(int(done))
        if steps == [0, 1, 2]:
            signal.raise_signal(signal.SIGINT)

    def stopping(*args: Any, **options: Any) -> Tokenizer:
        return train_tokenizer(*args, **{**options, "progress": stop})

    monkeypatch.setattr(tokenkl.tts.recipes, "train_tokenizer", stopping)
    with pytest.raises(KeyboardInterrupt):
        workspace.tokenizer(longer)
    path = workspace.tokenizer_path(longer)
    assert not path.exists()
    assert workspace.unfinished is not None
    assert steps_done(workspace.unfinished) == 2
    assert same(workspace.tokenizer(longer), whole)
    assert steps == [0, 1, 2, 2, 3, 4]
    assert workspace.unfinished is None
    assert [one.name for one in workspace.folder.glob("tokenizer-*")] == [path.name]
