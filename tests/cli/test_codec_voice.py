"""`tokenkl tts eval` and `report` of voices of another program's tokens, which make no sound."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import commands
from tts.small import SMALL

import tokenkl as tk
from tokenkl.cli.commands import app
from tokenkl.tts.ar import AR, ARConfig
from tokenkl.tts.cdcd import CDCD
from tokenkl.tts.codec import Codec
from tokenkl.tts.data import TextEncoder, make_batch
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recordings import Source
from tokenkl.tts.speaking import say_all
from tokenkl.tts.triplets import load_triplets
from tokenkl.tts.voice import Voice, new_cdcd

run, succeed, fail = commands(app, "tts", quiet=False)

K, RATE = 20, 50.0
TEXTS = ("one two", "three", "four five six", "seven", "eight nine")
HELD = {"u0": "one two", "u2": "four five six", "u3": "seven"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Token files, and voices that have learned nothing: voice-diffusion and voice-ar."""
    folder = tmp_path_factory.mktemp("codec")
    (folder / "tokens").mkdir()
    rng = np.random.default_rng(0)
    codec = Codec(tk.PointCodebook(rng.normal(size=(K, 3))), RATE)
    codec.save(folder / "codec.npz")
    for index, text in enumerate(TEXTS):
        ids = rng.integers(K, size=3 * len(text))
        np.savez(folder / "tokens" / f"u{index}.npz", tokens=ids, text=np.array(text))
    encoder, lengths = TextEncoder(), Lengths({(-1, -1, -1): 2.0}, (1.0,))
    source = Source("tokens", str(folder / "tokens"), codebook="codec.npz", token_rate=RATE)
    record = {"recipe": {"data": vars(source)}, "held_out": HELD}
    torch.manual_seed(0)
    config = ARConfig(K, encoder.size, width=16, heads=2, depth=1)
    models: dict[str, AR | CDCD] = {
        "diffusion": new_cdcd(codec, encoder, **SMALL),
        "ar": AR(config),
    }
    for name, model in models.items():
        voice = Voice(codec, encoder, lengths, "stretch", model.eval(), record)
        voice.save(folder / f"voice-{name}.safetensors", "codec.npz")
    return folder


def test_eval(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number anew, from the voice and the files; no judge has to be installed."""
    for judge in ("pocketsphinx", "jiwer", "espeakng_loader"):
        monkeypatch.setitem(sys.modules, judge, None)
    rows, record = tmp_path / "e.csv", tmp_path / "e.json"
    paths = [home / f"voice-{name}.safetensors" for name in ("diffusion", "ar")]
    where = ("--steps", "1,2", "--seeds", "2", "--csv", rows, "--json", record)
    shown = succeed("eval", *paths, *where).stdout
    found = json.loads(record.read_text())
    systems = ["diffusion, 1 steps", "diffusion, 2 steps", "ar", "true tokens", "shuffled text"]
    assert list(found["reports"]) == systems
    assert found["split"] == "held out"
    for word in ("by other", "perplexity", "split held out", "2 seeds", "Tokens used"):
        assert word in shown
    assert "WER" not in shown
    assert "of the tokenizer" not in shown
    table = list(csv.DictReader(io.StringIO(rows.read_text())))
    value = {(row["system"], row["metric"]): float(row["value"]) for row in table}
    known = {one.name: one for one in load_triplets(home / "tokens", K=K)}
    true = [known[name] for name in HELD]
    voice = Voice.load(paths[1])
    assert isinstance(voice.model, AR)
    with torch.no_grad():
        nats = voice.model.nll(make_batch(true, "stretch")).numpy()
    count = np.array([one.tokens.size for one in true])
    assert value["ar", "bound"] == pytest.approx(nats.sum() / count.sum(), rel=1e-5)
    assert value["ar", "bound_other"] != value["ar", "bound"]
    assert value["diffusion, 1 steps", "bound"] == value["diffusion, 2 steps", "bound"] > 0
    said = say_all(voice, list(HELD.values()), range(2), progress=lambda done, total: None)
    lengths = [[one.tokens.size for one in row if one.tokens is not None] for row in said.values()]
    assert value["ar", "length_error"] == pytest.approx(np.mean(np.abs(lengths / count - 1)))
    usages = [tk.token_usage([one.tokens for one in row], K) for row in said.values()]
    entropies = [float(one.entropy.value) for one in usages]
    assert value["ar", "entropy"] == pytest.approx(np.mean(entropies))
    assert found["reports"]["ar"]["used"] == [one.used for one in usages]
    assert value["ar", "latency"] > 0
    assert value["true tokens", "length_error"] == 0
    usage = tk.token_usage([one.tokens for one in true], K)
    assert value["true tokens", "entropy"] == pytest.approx(float(usage.entropy.value))
    assert f"{usage.used} by true tokens" in " ".join(shown.split())
    assert value["shuffled text", "length_error"] > 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--mos", "1"], "--mos must be left out for "),
        (["--grammar", "bigram"], "--grammar must be left out for "),
        (["--workers", "2"], "no judge hears others' tokens; got 2"),
        (["--split", "combinations"], "--split must be left out for a voice that was trained on"),
        (["--corpus", "few"], "--corpus must be left out for a voice that was trained on"),
        (["--sentences", "4"], "--sentences must be at most the 3 that were held out; got 4"),
        (["--data", "nowhere"], "--data must be there, or --data given with where it is now"),
        (["phonemes"], "VOICES must be all trained on the same recordings, or on none"),
    ],
)
def test_what_eval_refuses(words: list[str], expected: str, home: Path) -> None:
    assert expected in fail("eval", home / "voice-diffusion.safetensors", *words)


@pytest.mark.filterwarnings("ignore:Skipped 1 bad file")
def test_data_that_moved_or_changed(home: Path, tmp_path: Path) -> None:
    words: tuple[Any, ...] = ("eval", home / "voice-diffusion.safetensors", "--steps", "1")
    moved = shutil.copytree(home / "tokens", tmp_path / "moved")
    (moved / "u1.npz").unlink()  # was not held out
    (moved / "u4.npz").write_bytes(b"damaged")
    quick = ("--seeds", "1", "--no-baselines", "--sentences", "2")
    done = succeed(*words, "--data", moved, *quick)
    assert "2 sentences (tokens" in done.stdout
    with np.load(moved / "u2.npz") as file:
        tokens = file["tokens"]
    np.savez(moved / "u2.npz", tokens=tokens, text=np.array("other"))
    expected = "the text of u2 must be that which was held out, 'four five six'; got 'other'."
    assert expected in fail(*words, "--data", moved)
    (moved / "u2.npz").unlink()
    assert "those that the voice was trained on; got those without u2" in fail(
        *words, "--data", moved
    )


def test_report(home: Path, tmp_path: Path) -> None:
    """Facts, losses and evaluations, and nothing to listen to."""
    for name in ("codec.npz", "voice-diffusion.safetensors"):
        shutil.copy(home / name, tmp_path)
    path, page = tmp_path / "voice-diffusion.safetensors", tmp_path / "page"
    assert "--text must be left out where no voice can be heard" in fail(
        "report", path, "--text", "one", "-o", page
    )
    assert not page.exists()
    (tmp_path / "diffusion").mkdir()
    more = ("--steps", "1", "--seeds", "1", "--json", tmp_path / "diffusion" / "eval.json")
    succeed("eval", path, *more)
    assert "0 samples" in succeed("report", path, "-o", page).stdout
    assert [one.name for one in page.iterdir()] == ["index.html"]
    html = (page / "index.html").read_text()
    assert "<audio" not in html
    assert "sentence</th>" not in html
    for word in ("20 (of another program)", f"tokens {home / 'tokens'}", "bound_other"):
        assert word in html
    # Beside one that can be heard.
    both = tmp_path / "both"
    done = succeed("report", path, "phonemes", "--steps", "1", "--sentences", "1", "-o", both)
    assert "1 samples" in done.stdout
    assert (both / "index.html").read_text().count("<audio") == 1
