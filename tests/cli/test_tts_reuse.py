"""What others bring: tokens of a codec (train, eval and say), speakers, devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import commands

import tokenkl as tk
from tokenkl.cli.commands import app
from tokenkl.tts.codec import Codec
from tokenkl.tts.corpus import CorpusConfig, make_sentences
from tokenkl.tts.voice import Voice

run, succeed, fail = commands(app, "tts", quiet=False)

COUNT = 60
LETTERS = "abcdefghijklmnopqrstuvwxyz "
TRAIN = ("train", "--preset", "tiny", "--data-kind", "tokens", "--name", "mine", "--cpu")
#: A network that has room for 27 letters and two speakers.
SMALL = ("--width", "48", "--depth", "2", "--batch", "8")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every letter is said by a token of its own, twice: a codec that a test can read."""
    folder = tmp_path_factory.mktemp("codec")
    (folder / "tokens").mkdir()
    rng = np.random.default_rng(0)
    tk.save_codebook(tk.PointCodebook(4 + 5 * rng.normal(size=(27, 4))), folder / "points.npz")
    for index, sentence in enumerate(make_sentences(CorpusConfig())["train"][:COUNT]):
        ids = np.repeat([LETTERS.index(c) for c in sentence.text], 2)
        path, lengths = folder / "tokens" / f"u{index}.npz", np.full(ids.size // 2, 2)
        np.savez(path, tokens=ids, text=np.array(sentence.text), durations=lengths)
    return folder


@pytest.mark.slow
def test_speakers(material: Path, tmp_path: Path) -> None:
    """Ann says every letter by its own token, Bob by the one after it."""
    (tmp_path / "tokens").mkdir()
    for index, path in enumerate(sorted((material / "tokens").glob("*.npz"))):
        with np.load(path) as file:
            arrays = dict(file)
        if index % 2:
            arrays["tokens"] = (arrays["tokens"] + 1) % 27
        who = "bob" if index % 2 else "ann"
        np.savez(tmp_path / "tokens" / path.name, **arrays, speaker=np.array(who))
    where = ("--data", tmp_path / "tokens", "--codebook", material / "points.npz", "--speakers")
    more = ("--steps", "200", "--layout", "aligned", "--token-rate", "50", "--folder", tmp_path)
    succeed(*TRAIN, *SMALL, *where, *more)
    path = tmp_path / "voice-mine.safetensors"
    voice = Voice.load(path)
    assert sorted(voice.speakers) == ["ann", "bob"]
    text = next(iter(voice.record["held_out"].values()))
    plain = np.repeat([LETTERS.index(c) for c in text], 2)
    for name, shift in (("ann", 0), ("bob", 1)):
        out = tmp_path / f"{name}.npy"
        succeed("say", text, "--voice", path, "--speaker", name, "-o", out)
        assert np.mean(np.load(out) == (plain + shift) % 27) > 0.9
    assert "speaker must be one of ann, bob; got anne" in fail(
        "say", text, "--voice", path, "--speaker", "anne", "-o", tmp_path / "no.npy"
    )
    assert not (tmp_path / "no.npy").exists()


@pytest.mark.slow
def test_train_and_say(material: Path, tmp_path: Path) -> None:
    where = ("--data", material / "tokens", "--codebook", material / "points.npz")
    more = ("--steps", "150", "--layout", "aligned", "--token-rate", "50", "--folder", tmp_path)
    done = succeed(*TRAIN, *SMALL, *where, *more)
    path = tmp_path / "voice-mine.safetensors"
    assert str(path) in done.stdout
    assert done.stdout.splitlines()[-2].endswith("-o out.npy")
    assert done.stdout.splitlines()[-1].split() == ["tokenkl", "tts", "eval", str(path)]
    voice = Voice.load(path)
    assert isinstance(voice.tokenizer, Codec)
    assert voice.tokenizer.token_rate == 50
    assert len(voice.record["held_out"]) == COUNT // 20
    # It has learned what is said by which token.
    text = next(iter(voice.record["held_out"].values()))
    out = tmp_path / "out.npy"
    done = succeed("say", text, "--voice", path, "-o", out)
    assert "s at 50 a second" in done.stdout
    said = np.load(out)
    assert np.mean(said == np.repeat([LETTERS.index(c) for c in text], 2)) > 0.9
    # Many sentences in the layout of `tokenize`, which train reads again.
    (tmp_path / "lines.txt").write_text(f"{text}\none two\n")
    succeed("say", "--file", tmp_path / "lines.txt", "--voice", path, "-o", tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as rows:
        np.testing.assert_array_equal(rows["tokens"][: rows["ends"][0]], said)
        assert rows["text"].tolist() == [text, "one two"]
    wav = tmp_path / "out.wav"
    assert "--output must be a file name that ends in .npy" in fail(
        "say", text, "--voice", path, "-o", wav
    )
    assert not wav.exists()
    record = tmp_path / "e.json"
    succeed("eval", path, "--seeds", "1", "--json", record)
    rows = {(r["system"], r["metric"]): r for r in json.loads(record.read_text())["summary"]}
    likelihood = [rows["mine, 10 steps", name] for name in ("bound", "bound_other")]
    assert likelihood[0]["high"] < 0.2 < 2 < likelihood[1]["low"]  # the text says which token
    assert rows["mine, 10 steps", "length_error"]["value"] < 0.05
    assert "are another program's" in fail(
        "tokenize", wav, "-o", tmp_path / "t.npz", "--tokenizer", path
    )


def test_token_ids_of_an_included_voice(tmp_path: Path) -> None:
    out = tmp_path / "ids.npy"
    succeed("say", "one two", "--steps", "2", "-o", out)
    expected = Voice.load("phonemes").say_tokens("one two", steps=2)
    np.testing.assert_array_equal(np.load(out), expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "--codebook must be given with --data-kind tokens"),
        (["--codebook", "none.npz"], "none.npz"),
        (["--codebook", "points.npz", "--token-rate", "0"], "--token-rate must be above 0"),
        (
            ["--codebook", "points.npz", "--tokenizer", "fsq-3^8"],
            "--tokenizer must be left out for",
        ),
        (["--codebook", "points.npz", "--tokenizer-steps", "5"], "--tokenizer-steps must be left"),
        (["--codebook", "points.npz", "--layout", "askew"], "--layout must be one of"),
        (["--codebook", "points.npz", "--text", "phonemes"], "'characters' for recordings"),
        (["--codebook", "points.npz", "--data", "nowhere"], "or an .npz file; got nowhere"),
        (["--codebook", "points.npz", "--speakers"], "speakers must be known of every example"),
        (["--codebook", "small.npz"], "ids from 0 to 4"),
        (
            ["--codebook", "points.npz", "--data", "bare", "--layout", "aligned"],
            "durations must be",
        ),
    ],
)
def test_mistakes(
    words: list[str], expected: str, material: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "points.npz").write_bytes((material / "points.npz").read_bytes())
    tk.save_codebook(tk.PointCodebook(np.eye(5)), tmp_path / "small.npz")
    (tmp_path / "bare").mkdir()
    np.savez(tmp_path / "bare" / "a.npz", tokens=[1, 2], text="a")
    data = [] if "--data" in words else ["--data", str(material / "tokens")]
    assert expected in fail(*TRAIN, *data, *words)


@pytest.mark.parametrize("option", [("--codebook", "a.npz"), ("--token-rate", "50")])
def test_options_of_tokens_alone(option: tuple[str, str]) -> None:
    assert f"{option[0]} must be left out without --data-kind tokens" in fail("train", *option)


def test_token_ids_have_no_spectrogram(tmp_path: Path) -> None:
    out = ("-o", tmp_path / "a.npy")
    assert "--plot must be left out where" in fail("say", "one", *out, "--plot", tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("one\n")
    message = fail("say", "--file", tmp_path / "a.txt", *out)
    assert "--output must be a file name that ends in .wav or .npz" in message


def test_speakers_that_are_not_there(tmp_path: Path) -> None:
    assert "--speakers must be left out without --data" in fail("train", "--speakers")
    message = fail("say", "one", "--speaker", "ann", "-o", tmp_path / "a.wav")
    assert "speaker must be left out for a voice that was trained without speakers" in message
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["say", "one", "-o", "a.wav"],
        ["eval"],
        ["report", "phonemes", "-o", "page"],
        ["tokenize", "a.wav", "-o", "a.npz"],
        ["train", "--preset", "tiny"],
    ],
)
def test_devices_that_are_not_there(words: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").touch()
    assert "--device must be one of" in fail(*words, "--device", "gpu")
    assert not (tmp_path / "page").exists()
