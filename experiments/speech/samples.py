"""Something to listen to: one sentence by every geometry and number of steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from experiments.speech.plans import GEOMETRIES, MIDDLE, SETTINGS
from experiments.speech.units import Material, Unit, trained_network
from tokenkl._files import atomic_path
from tokenkl.plotting import PAGE, new_figure, save_figure
from tokenkl.tts.audio import read_wav, write_wav
from tokenkl.tts.frontend import MelFrontend
from tokenkl.tts.judge import Grammar, Judge, word_errors
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import Workspace
from tokenkl.tts.voice import Voice

STEPS = (2, 5, 25)
#: The shortest command among the first sentences of the test split: sound takes room.
AMONG = 24
#: The judge who hears them, the sensitive one, and its record beside the sounds.
GRAMMAR: Grammar = "unigram"
RECORD = "samples.json"


def make_samples(workspace: Workspace, folder: Path, picture: Path) -> None:
    """Audio of the first seed of every geometry, trained for the middle budget; 16 kHz, mono."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[int, np.ndarray]] = {}
    known: dict[str, Material] = {}
    text = ""
    for name, changes in GEOMETRIES.items():
        unit = Unit(name, 0, changes)
        weights = workspace.folder / unit.label / f"ema-{MIDDLE:07d}.safetensors"
        if not weights.is_file():
            continue
        recipe = unit.recipe(SETTINGS)
        if recipe.tokenizer not in known:
            known[recipe.tokenizer] = Material(workspace, recipe)
        at = known[recipe.tokenizer]
        commands = [e for e in at.test[:AMONG] if len(e.text.split()) == 7]
        example = min(commands, key=lambda e: e.tokens.size)
        text = example.text
        model = trained_network(unit, SETTINGS, at, weights)
        voice = Voice(at.tokenizer, at.encoder, Lengths({}, (1.0,)), "aligned", model)
        found[name] = {}
        for steps in STEPS:
            [ids] = voice.tokens_of([example], steps=steps, key=0)
            found[name][steps] = at.tokenizer.synthesise(ids, key=0)
            write_wav(folder / f"{name}-{steps}.wav", found[name][steps])
        if name == "fsq":
            truth = at.tokenizer.synthesise(example.tokens, key=0)
            write_wav(folder / "true-tokens.wav", truth)
    hear_samples(folder, text)
    _draw(found, text, picture)


def hear_samples(folder: Path, text: str | None = None) -> None:
    """Write down how each sound in the folder is heard, and its word errors.

    Without a text: that of the record which is there.
    """
    if text is None:
        text = json.loads((folder / RECORD).read_text())["text"]
    judge, heard = Judge(GRAMMAR), {}
    for sound in sorted(folder.glob("*.wav")):
        words = judge.transcribe(read_wav(sound))
        [errors] = word_errors([text], [words]).errors
        heard[sound.name] = {"heard": words, "errors": int(errors)}
    record = {"text": text, "words": len(text.split()), "judge": GRAMMAR, "sounds": heard}
    with atomic_path(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")


def _draw(found: dict[str, dict[int, np.ndarray]], text: str, picture: Path) -> None:
    figure, axes = new_figure(len(found), len(STEPS), width=PAGE, panel_height=0.8, sharex=True)
    frontend = MelFrontend()
    for row, (name, sounds) in enumerate(found.items()):
        for column, (steps, audio) in enumerate(sounds.items()):
            panel = axes[row, column]
            with torch.no_grad():
                mel = frontend(torch.from_numpy(audio.astype(np.float32))).numpy()
            duration = audio.size / 16000
            panel.imshow(
                mel.T, origin="lower", aspect="auto", cmap="magma", extent=(0, duration, 0, 80),
                vmin=mel.max() - 8, vmax=mel.max(),
            )  # fmt: skip
            panel.grid(visible=False)
            panel.set_yticks([])
            if row == 0:
                panel.set_title(f"{steps} steps", fontsize=8)
            if column == 0:
                panel.set_ylabel(name, fontsize=7)
    for panel in axes[-1]:
        panel.set_xlabel("time (s)", fontsize=8)
    figure.suptitle(f"mel spectrograms, {MIDDLE} training steps: {text}", fontsize=8)
    save_figure(figure, picture)
    with atomic_path(picture) as smaller:  # spectrograms are a third of the size with 128 colours
        Image.open(picture).quantize(128).save(smaller, format="png", optimize=True)
