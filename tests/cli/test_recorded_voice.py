"""A folder of recordings by four commands: train, eval, say, report."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import commands

from tokenkl.cli.commands import app
from tokenkl.tts.audio import write_wav
from tokenkl.tts.cdcd import CDCD
from tokenkl.tts.data import make_batch
from tokenkl.tts.recipes import load_named_corpus
from tokenkl.tts.speaking import nats
from tokenkl.tts.voice import Voice

run, succeed, fail = commands(app, "tts", quiet=False)

COUNT = 60
TRAIN = (
    *("train", "--preset", "tiny", "--steps", "20", "--tokenizer-steps", "8"),
    *("--width", "48", "--depth", "2", "--batch", "8"),
    *("--data-kind", "ljspeech", "--name", "mine"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with recordings (LJ) and a voice that was trained on them, and what train said."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        utterances = load_named_corpus("few").split("train")[:COUNT]
    (folder / "LJ" / "wavs").mkdir(parents=True)
    lines = []
    for index, one in enumerate(utterances):
        write_wav(folder / "LJ" / "wavs" / f"LJ-{index}.wav", one.audio)
        # Written as people write: capitals, marks, and two words that no dictionary has.
        text = one.text.capitalize() + ("." if index % 20 else ", Xyzzy frobnicate!")
        lines.append(f"LJ-{index}|{one.text}|{text}")
    (folder / "LJ" / "metadata.csv").write_text("\n".join(lines) + "\n")
    done = succeed(*TRAIN, "--data", folder / "LJ", "--folder", folder / "runs")
    return folder, done.stdout


@pytest.mark.slow
def test_four_commands(trained: tuple[Path, str], tmp_path: Path) -> None:
    folder, said = trained
    path = folder / "runs" / "voice-mine.safetensors"
    voice = Voice.load(path)
    held = voice.record["held_out"]
    assert len(held) == COUNT // 20
    advice = said.splitlines()[-2:]
    first = next(iter(held.values()))
    assert advice[0].startswith("Next: tokenkl tts say ")
    assert first.replace("'", "") in advice[0]
    assert advice[1].split() == ["tokenkl", "tts", "eval", str(path)]
    out = folder / "runs" / "mine" / "eval.json"
    done = succeed("eval", path, "--steps", "2", "--seeds", "2", "--json", out)
    for word in ("nats a", "mel error", "unigram", "bigram", "true tokens", "split held out"):
        assert word in done.stdout
    record = json.loads(out.read_text())
    assert record["split"] == "held out"
    rows = {(row["system"], row["metric"]): row["value"] for row in record["summary"]}
    label = next(iter(record["reports"]))
    # The likelihood, anew: nothing that was heard in training.
    lines = (folder / "LJ" / "metadata.csv").read_text().splitlines()
    assert set(held) <= {line.split("|")[0] for line in lines}
    report = record["reports"][label]
    assert set(report["names"]) == set(held)
    assert report["texts"] == list(held.values())
    assert rows[label, "bound"] == pytest.approx(
        np.sum(np.array(report["measurements"]["nats"]))
        / np.sum(np.array(report["measurements"]["true_tokens"]))
    )
    assert 0 < rows[label, "bound"] < 3 * math.log(voice.tokenizer.K)
    # The recordings have no error of their own, their tokens some, and noise more.
    errors = [rows[name, "mel_error"] for name in ("true audio", "true tokens", "white noise")]
    assert errors[0] == 0 < errors[1] < errors[2]
    assert rows["true audio", "wer_bigram"] < 0.2
    audio = tmp_path / "said.wav"
    succeed("say", first, "--voice", path, "-o", audio, "--steps", "2")
    assert audio.stat().st_size > 1000
    page = tmp_path / "page"
    succeed("report", path, "--steps", "2", "--sentences", "2", "-o", page)
    html = (page / "index.html").read_text()
    assert html.count("<audio") == 2
    for text in list(held.values())[:2]:
        assert text in html
    assert "held out" in html or "wer" in html.lower()  # the evaluation beside the run


@pytest.mark.slow
def test_likelihood_is_that_of_the_model(trained: tuple[Path, str]) -> None:
    """Against the bound by itself, of all sequences together."""
    folder, _ = trained
    voice = Voice.load(folder / "runs" / "voice-mine.safetensors")
    utterances = load_named_corpus("few").split("test")[:6]
    examples = voice.examples(utterances)
    found = nats(voice, examples, draws=8)
    assert found.shape == (6,)
    assert isinstance(voice.model, CDCD)
    rows = voice.model.bound(
        make_batch(examples, voice.layout), torch.Generator().manual_seed(5), 64
    )
    assert found.mean() == pytest.approx(float(rows.mean(dim=1).min()), rel=0.2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Skipped 1 bad file")
def test_what_eval_of_recordings_refuses(trained: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = trained
    path = folder / "runs" / "voice-mine.safetensors"
    cases: list[tuple[list[Any], str]] = [
        (["--split", "combinations"], "--split must be left out for a voice that was trained on"),
        (["--corpus", "plain"], "--corpus must be left out for a voice that was trained on"),
        (["--sentences", "9"], "--sentences must be at most the 3 that were held out; got 9"),
        (["--data", tmp_path / "nowhere"], "--data must be there, or --data given with where"),
        (["phonemes"], "VOICES must be all trained on the same recordings, or on none"),
    ]
    for words, expected in cases:
        assert expected in fail("eval", path, *words)
    assert "left out for voices of a synthetic" in fail("eval", "phonemes", "--data", folder / "LJ")
    # Moved, and with a recording that is missing.
    moved = shutil.copytree(folder / "LJ", tmp_path / "moved")
    held = next(iter(Voice.load(path).record["held_out"]))
    os.remove(moved / "wavs" / f"{held}.wav")
    message = fail("eval", path, "--data", moved)
    assert f"recordings must be those that the voice was trained on; got those without {held}" in (
        message
    )
