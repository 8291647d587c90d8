"""`tokenkl tts`: speech files, tables and pages from small untrained voices, and mistakes."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import commands
from tts.small import SMALL

from tokenkl._extras import install_command
from tokenkl.cli.commands import app
from tokenkl.cli.tts import tokenize as tokenize_command
from tokenkl.cli.tts import train as train_command
from tokenkl.codebooks import load_codebook, load_tokens
from tokenkl.tts.ar import AR, ARConfig
from tokenkl.tts.audio import read_wav, write_wav
from tokenkl.tts.corpus import CorpusConfig, held_out_in, make_sentences
from tokenkl.tts.data import TextEncoder
from tokenkl.tts.judge import word_errors
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.recipes import RECIPES, Workspace, load_named_corpus
from tokenkl.tts.recordings import Source
from tokenkl.tts.tokenizers import TOKENIZERS, Tokenizer, evaluate_tokenizer
from tokenkl.tts.voice import Voice, new_cdcd

COMMAND = [sys.executable, "-m", "tokenkl"]
SENTENCE = "give eight silver flowers behind the village"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with untrained voices of phonemes (voice.safetensors) and of characters (ar...)."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        utterances = load_named_corpus("few").split("train")
        torch.manual_seed(0)
        tokenizer = Tokenizer(TOKENIZERS["fsq-3^8"]).eval()
        tokenizer.save(folder / "tokenizer.safetensors")
        encoder = TextEncoder.phonemes(utterances)
        model = new_cdcd(tokenizer, encoder, head="factorised", **SMALL).eval()
        record = {"recipe": {"corpus": "few"}}
        voice = Voice(tokenizer, encoder, Lengths({}, (1.0,)), "aligned", model, record)
        voice.lengths = Lengths.fit(voice.examples(utterances[:40]))
        voice.save(folder / "voice.safetensors", "tokenizer.safetensors")
        characters = TextEncoder()
        config = ARConfig(tokenizer.K, characters.size, width=16, heads=2, depth=1)
        twin = Voice(
            tokenizer, characters, Lengths({(-1, -1, -1): 2.0}, (1.0,)), "stretch",
            AR(config).eval(), record,
        )  # fmt: skip
        twin.save(folder / "ar.safetensors", "tokenizer.safetensors")
        yield folder


run, succeed, fail = commands(app, "tts", quiet=False)


# ---- The group -----------------------------------------------------------------------------------


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from tokenkl import cli; sys.argv = ['tokenkl', 'tts', 'say', '--help']\n"
        "try: cli.main()\n"
        "finally: print(sorted({'torch', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("[]\n"), done.stdout + done.stderr


def test_without_torch_the_extra_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from tokenkl import cli\n"
        "sys.argv = ['tokenkl', 'tts', 'say', 'one two three', '-o', 'out.wav']; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    how = f"which is not installed; `{install_command('tts')}` installs it."
    assert done.stderr == f"Error: `tokenkl tts` needs torch, {how}\n"


@pytest.mark.parametrize(
    ("module", "extra"),
    [("pocketsphinx", "tts"), ("espeakng_loader", "tts-data"), ("onnxruntime", "tts-mos")],
)
def test_eval_names_missing_extras(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = fail("eval", "--mos", "1")
    assert f"needs {module}" in message
    assert install_command(extra) in message


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_without_a_traceback(number: signal.Signals) -> None:
    """Each by its own exit code, and with nothing said."""
    code = (
        # A job in the background of a script begins with the signal ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys, time; from tokenkl import cli; import tokenkl.cli.tts.say as say\n"
        "say._sentences = lambda *_: ("
        "print('begun', file=sys.stderr, flush=True), time.sleep(60))\n"
        "sys.argv = ['tokenkl', 'tts', 'say', 'one', '-o', 'x.wav']; cli.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    process.send_signal(number)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 128 + number


# ---- say -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_say(home: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "out.wav", tmp_path / "out.png"
    words = ("say", SENTENCE, "-o", out, "--voice", home / "voice.safetensors", "--steps", "2")
    shown = succeed(*words, "--plot", picture).stdout
    audio = read_wav(out)
    voice = Voice.load(home / "voice.safetensors")
    expected = np.clip(voice.say(SENTENCE, steps=2), -1, 1)  # untrained, it is loud
    assert np.abs(audio - expected).max() <= 1 / 32768
    assert f"{audio.size / 16000:.2f} s of speech" in shown
    assert "real-time factor" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
    succeed(*words, "--seed", "1")
    assert not np.array_equal(read_wav(out), audio)
    succeed(*words, "--rate", "2")
    assert read_wav(out).size == pytest.approx(audio.size / 2, abs=700)


def test_say_takes_punctuation_and_capitals(home: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out.wav", tmp_path / "again.wav"
    voice = ("--voice", home / "voice.safetensors", "--steps", "1")
    succeed("say", SENTENCE, "-o", out, *voice)
    succeed("say", SENTENCE.capitalize() + ".", "-o", again, *voice)
    assert out.read_bytes() == again.read_bytes()


@pytest.mark.filterwarnings("default")
def test_say_names_what_it_leaves_out(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    voice = ("-o", out, "--voice", home / "voice.safetensors", "--steps", "1")
    done = succeed("say", "call 5 5 5 0 1 2 3", *voice)
    warning = "Warning: Left out what this voice cannot say: 'call'."
    assert done.stderr.splitlines() == [warning, f"Wrote {out}"]
    known = out.read_bytes()
    succeed("say", "five five five zero one two three", *voice)
    assert out.read_bytes() == known


def test_say_with_a_prompt(home: Path, tmp_path: Path) -> None:
    """What is written is what the voice says after the prompt, without it."""
    tokenizer = Tokenizer.load(home / "tokenizer.safetensors")
    encoder = TextEncoder()
    model = new_cdcd(tokenizer, encoder, head="factorised", prompt=0.7, **SMALL).eval()
    lengths = Lengths({(-1, -1, -1): 2.0}, (0.8, 1.2))
    record = {"recipe": {"data": {"kind": "ljspeech", "folder": "LJ"}}}
    Voice(tokenizer, encoder, lengths, "pad", model, record).save(
        home / "prompted.safetensors", "tokenizer.safetensors"
    )
    said = load_named_corpus("few").split("train")[0]
    write_wav(tmp_path / "prompt.wav", said.audio[:16000])
    voice = Voice.load(home / "prompted.safetensors")
    prompt = voice.prompt(read_wav(tmp_path / "prompt.wav"), "Hello, 2!")
    assert prompt.text == "hello, two!"
    out = tmp_path / "out.wav"
    sentence = "any sentence will do, so it is a long one"
    how = ("--voice", home / "prompted.safetensors", "--steps", "2")
    given = ("--prompt", tmp_path / "prompt.wav", "--prompt-text", "Hello, 2!")
    succeed("say", sentence, "-o", out, *how, *given)
    expected = voice.say(sentence, steps=2, prompt=prompt)
    assert np.abs(read_wav(out) - np.clip(expected, -1, 1)).max() <= 1 / 32768


def test_say_a_file_of_sentences(home: Path, tmp_path: Path) -> None:
    voice = ("--voice", home / "voice.safetensors", "--steps", "1")
    (tmp_path / "both.txt").write_text(f"{SENTENCE}\n\none two three\n")
    sizes = {}
    words: dict[str, list[str | Path]] = {
        "one": [SENTENCE], "two": ["one two three"], "both": ["--file", tmp_path / "both.txt"],
    }  # fmt: skip
    for name, what in words.items():
        succeed("say", *what, "-o", tmp_path / f"{name}.wav", *voice)
        sizes[name] = read_wav(tmp_path / f"{name}.wav").size
    assert sizes["both"] == sizes["one"] + sizes["two"] + 4800


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_say_token_by_token(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    words = ("say", SENTENCE, "-o", out, "--voice", home / "ar.safetensors")
    succeed(*words, "--temperature", "1", "--top-p", "0.9")
    assert read_wav(out).size >= 640
    assert "--guidance must be left out" in fail(*words, "--guidance", "1")
    assert "--rate must be left out" in fail(*words, "--rate", "2")
    assert "'zebra'" in fail("say", "zebra", *words[2:])
    said = run("say", "on zebra", *words[2:])
    assert "Warning: Left out what this voice cannot say: 'zebra'" in said.stderr
    succeed("say", "on zebra", *words[2:], "--any-text")


def test_what_can_be_said_is_listed() -> None:
    shown = succeed("say", "--words").stdout
    assert "silver" in shown
    assert "twentieth" in shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["say", "zebra", "-o", "out.wav"], "`tokenkl tts say --words` lists"),
        (["say", SENTENCE], "--output must be given"),
        (["say", SENTENCE, "-o", "out.mp3"], "ends in .wav"),
        (["say", SENTENCE, "-o", "nowhere/out.wav"], "in a folder that exists"),
        (["say", SENTENCE, "-o", "out.wav", "--plot", "a.jpg"], "--plot"),
        (["say", "-o", "out.wav"], "TEXT must be given"),
        (["say", SENTENCE, "--file", "a.txt", "-o", "out.wav"], "one beside --file"),
        (["say", "--file", "missing.txt", "-o", "out.wav"], "there is no such file"),
        (["say", "", "-o", "out.wav"], "at least one word"),
        (["say", "flowerz", "-o", "out.wav"], "near it: flowers"),
        (["say", SENTENCE, "-o", "out.wav", "--prompt-text", "a"], "--prompt must be given"),
        (["say", SENTENCE, "-o", "out.wav", "--prompt", "a.wav"], "--prompt-text must be given"),
        (
            ["say", SENTENCE, "-o", "out.wav", "--prompt", "a.wav", "--prompt-text", "one"],
            "voice.safetensors was trained without prompts",
        ),
        (["say", SENTENCE, "-o", "out.wav", "--grid", "best"], "--grid must be one of"),
        (["say", SENTENCE, "-o", "out.wav", "--sampler", "euler"], "--sampler must be one of"),
        (["say", SENTENCE, "-o", "out.wav", "--guidance", "-1"], "--guidance"),
        (["say", SENTENCE, "-o", "out.wav", "--rate", "0"], "--rate"),
        (["say", SENTENCE, "-o", "out.wav", "--temperature", "1"], "is a diffusion voice"),
        (["say", SENTENCE, "-o", "out.wav", "--any-text"], "for a voice of characters"),
        (["say", SENTENCE, "-o", "out.wav", "--voice", "nobody"], "a voice that tokenkl wrote"),
        (["eval", "--steps", "2,x"], "whole numbers from 1 to 1000"),
        (["eval", "--split", "train"], "--split must be one of"),
        (["eval", "--grammar", "trigram"], "--grammar must be one of"),
        (["eval", "--json", "nowhere/e.json"], "in a folder that exists"),
        (["tokenize", "a.wav"], "--output must be given"),
        (["tokenize", "a.wav", "-o", "a.txt"], "ends in .npz"),
        (["tokenize", "a.wav", "-o", "a.npz", "--on-bad", "ignore"], "--on-bad must be one of"),
        (["train", "--preset", "huge"], "--preset must be one of"),
        (["train", "--geometry", "round"], "--geometry must be one of"),
        (["train", "--model", "ar", "--geometry", "e8"], "left out for --model ar"),
        (["train", "--data", "nowhere", "--data-kind", "ljspeech"], "a folder that exists"),
        (["train", "--data", "."], "--data-kind must be given"),
        (["train", "--data-kind", "cdcd"], "given with --data"),
        (["train", "--data", ".", "--data-kind", "cdcd", "--longest", "0"], "--longest must be"),
        (["train", "--schedule", "steep"], "linear-vp"),
        (["train", "--learning-rate", "0"], "--learning-rate must be above 0; got 0"),
        (["train", "--ema", "1"], "--ema must be in [0, 1); got 1.0"),
        (["train", "--width", "100"], "--width must be a multiple of 8, for 4 heads; got 100"),
        (["train", "--width", "8", "--preset", "paper"], "a multiple of 16, for 8 heads; got 8"),
        (["train", "--depth", "9999999999"], "--depth must be"),
        (["train", "--dropout", "1"], "--dropout must be in [0, 1); got 1.0"),
        (["train", "--dropout", "1", "--model", "ar"], "--dropout must be at least 0 and below 1"),
        (["train", "--token-dropout", "-0.1"], "--token-dropout must be in [0, 1); got -0.1"),
        (["train", "--drop-text", "1.5"], "--drop-text must be in [0, 1]; got 1.5"),
        (["train", "--view", "raw"], "--view must be one of"),
        (["train", "--model", "ar", "--view", "box"], "left out for --model ar"),
        (["train", "--model", "ar", "--drop-text", "0"], "left out for --model ar"),
        (["train", "--model", "ar", "--no-output-prior"], "left out for --model ar"),
        (["train", "--geometry", "e8", "--output-prior"], "--output-prior must be left out, or"),
        (["train", "--name", "../up"], "--name must be a plain name"),
        (["train", "--minutes", "-3"], "--minutes must be above 0; got -3.0"),
    ],
)
def test_mistakes(
    words: list[str], expected: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if words[0] == "say" and "--voice" not in words:
        words = [*words, "--voice", str(home / "voice.safetensors")]
    if words[0] == "eval":
        words = [words[0], str(home / "voice.safetensors"), *words[1:]]
    assert expected in fail(*words)
    assert not list(tmp_path.rglob("*.wav"))


def test_an_output_of_before_survives_a_mistake(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    out.write_bytes(b"precious")
    fail("say", "zebra", "-o", out, "--voice", home / "voice.safetensors")
    assert out.read_bytes() == b"precious"


@pytest.mark.parametrize("voice", ["phonemes", "characters"])
def test_the_included_voices_speak(voice: str, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    succeed("say", SENTENCE, "-o", out, "--voice", voice)
    from tokenkl.tts.judge import Judge

    assert Judge("bigram").word_errors([read_wav(out)], [SENTENCE]).errors.sum() <= 1


def test_the_bar_moves_with_every_file_that_is_tokenized(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def bar(label: str, *, lines: bool) -> Iterator[Any]:
        yield lambda done, total: seen.append((done, total))

    monkeypatch.setattr(tokenize_command, "progress_bar", bar)
    paths = [tmp_path / f"{name}.wav" for name in "ab"]
    for path in paths:
        write_wav(path, 0.1 * np.sin(np.arange(8000) / 5))
    tokenizer = Tokenizer.load(home / "tokenizer.safetensors")
    tokenize_command._tokenize(tokenizer, paths, "refuse", None)
    assert seen == [(1, 2), (2, 2)]


# ---- eval ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_eval(home: Path, tmp_path: Path) -> None:
    rows, record = tmp_path / "e.csv", tmp_path / "e.json"
    words = (
        "eval", home / "voice.safetensors", "--sentences", "2", "--seeds", "1", "--steps", "1,2",
        "--grammar", "bigram", "--csv", rows, "--json", record,
    )  # fmt: skip
    shown = succeed(*words).stdout
    found = json.loads(record.read_text())
    assert list(found["reports"]) == [
        "voice, 1 steps", "voice, 2 steps",
        "true audio", "resynthesis", "true tokens", "shuffled text", "white noise",
    ]  # fmt: skip
    assert found["corpus"] == "few"
    assert found["voices"]["voice"]["parameters"]["model"] > 1000
    table = list(csv.DictReader(io.StringIO(rows.read_text())))
    by_name = {(row["system"], row["metric"]): float(row["value"]) for row in table}
    assert by_name["true audio", "wer_bigram"] < 0.2
    assert by_name["voice, 1 steps", "wer_bigram"] > 0.5  # it was never trained
    assert by_name["voice, 2 steps", "rtf"] > 0
    assert "real-time" in shown
    assert "2 sentences (few corpus, split test), 1 seed;" in shown


@pytest.mark.slow
def test_eval_says_which_held_back_pairs_were_heard(home: Path, tmp_path: Path) -> None:
    """Where the sentences of training were others than those of the corpus."""
    voice, record = Voice.load(home / "voice.safetensors"), tmp_path / "e.json"
    other = CorpusConfig(seed=1, train=300, valid=0, test=0, combinations=0)
    shutil.copy(home / "tokenizer.safetensors", tmp_path)
    quick = ("--sentences", "2", "--seeds", "1", "--steps", "1", "--grammar", "bigram")
    words = (*quick, "--no-baselines", "--split", "combinations", "--json", record)
    said = {}
    for name, own in (("plain", {}), ("other", {"sentences": dataclasses.asdict(other)})):
        voice.record = {"recipe": {"corpus": "few"}, **own}
        voice.save(tmp_path / f"{name}.safetensors", "tokenizer.safetensors")
        said[name] = succeed("eval", tmp_path / f"{name}.safetensors", *words).stderr
        said[f"{name}, record"] = json.loads(record.read_text())["voices"][name]
    heard = held_out_in(CorpusConfig(), make_sentences(other)["train"])
    assert 0 < heard < 44
    assert f"Note: other was trained on sentences with {heard} of the 44 pairs" in said["other"]
    assert said["other, record"]["pairs_in_training"] == heard
    assert said["other, record"]["pairs_held_back"] == 44
    assert "Note:" not in said["plain"]
    assert "pairs_in_training" not in said["plain, record"]
    assert (
        "Note:"
        not in succeed("eval", tmp_path / "other.safetensors", *quick, "--no-baselines").stderr
    )
    voice.record["sentences"] = {"train": "many"}
    voice.save(tmp_path / "bad.safetensors", "tokenizer.safetensors")
    message = fail("eval", tmp_path / "bad.safetensors", *words)
    assert "bad.safetensors.train must be a whole number" in message


def test_eval_of_different_corpora_or_too_many_sentences(home: Path) -> None:
    voice = home / "voice.safetensors"
    assert "at most the 20" in fail("eval", voice, "--sentences", "21")


# ---- tokenize ------------------------------------------------------------------------------------


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    folder = tmp_path / "wavs"
    folder.mkdir()
    for index in range(2):
        write_wav(folder / f"{index}.wav", 0.1 * np.sin(np.arange(8000) / (5 + index)))
    return folder


def test_tokenize(home: Path, wavs: Path, tmp_path: Path) -> None:
    out, points, again = tmp_path / "t.npz", tmp_path / "p.npz", tmp_path / "again"
    tokenizer = ("--tokenizer", home / "tokenizer.safetensors")
    shown = succeed(
        "tokenize", wavs, "-o", out, *tokenizer, "--codebook", points, "--reconstruct", again
    ).stdout
    machine = Tokenizer.load(home / "tokenizer.safetensors")
    ids = [machine.tokenize(read_wav(wavs / f"{i}.wav")) for i in range(2)]
    np.testing.assert_array_equal(load_tokens(out), np.concatenate(ids))
    with np.load(out) as file:
        assert [Path(name).name for name in file["names"]] == ["0.wav", "1.wav"]
        assert file["ends"].tolist() == [13, 26]
    assert load_codebook(points).K == 6561
    assert read_wav(again / "0.wav").size == 8000
    assert re.search(r"used +\d+ of 6561", shown)
    by_voice = tmp_path / "v.npz"
    succeed("tokenize", wavs, "-o", by_voice, "--tokenizer", home / "voice.safetensors")
    np.testing.assert_array_equal(load_tokens(by_voice), load_tokens(out))


def test_tokenize_names_bad_files(home: Path, wavs: Path, tmp_path: Path) -> None:
    (wavs / "2.wav").write_bytes(b"not audio")
    out = tmp_path / "t.npz"
    words = ("tokenize", wavs, "-o", out, "--tokenizer", home / "tokenizer.safetensors")
    message = fail(*words)
    assert "2.wav" in message
    assert "--on-bad skip" in message
    assert not out.exists()
    assert "2.wav" in succeed(*words, "--on-bad", "skip").stderr
    assert load_tokens(out).size == 26
    message = fail("tokenize", wavs / "0.wav", "-o", out, "--tokenizer", wavs / "2.wav")
    assert "--tokenizer" in message
    assert "another folder" in fail(*words, "--reconstruct", wavs)


# ---- report --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_report(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "page"
    voices = (home / "voice.safetensors", home / "ar.safetensors")
    shown = succeed("report", *voices, "-o", page, "--steps", "1,2", "--sentences", "1")
    text = (page / "index.html").read_text()
    links = re.findall(r'src="([^"]+)"', text)
    assert len([link for link in links if link.endswith(".wav")]) == 3
    assert all((page / link).is_file() for link in links)
    assert "http-equiv" in text  # which forbids what the page would load from elsewhere
    assert "http" not in text.replace("http-equiv", "")
    assert "3 samples" in shown.stdout
    assert text.count("heard as: ") == 3


# ---- train ---------------------------------------------------------------------------------------


def _recipe(**given: Any) -> Any:
    options = dict.fromkeys(
        ("corpus", "text", "model", "geometry", "head", "schedule", "tokenizer")
    ) | given.pop("options", {})
    training = dict.fromkeys(("steps", "batch", "batch_tokens", "mixed_precision", "max_seconds"))
    return train_command._recipe(
        given.pop("preset", "small"), options, training | given, None, given.pop("source", None)
    )


def test_options_make_recipes() -> None:
    assert _recipe() == RECIPES["small"]
    assert _recipe(preset="paper") == RECIPES["paper"]
    recipe = _recipe(options={"text": "characters", "head": "joint"}, steps=7)
    assert (recipe.layout, recipe.training.layout) == ("stretch", "stretch")
    assert dict(recipe.changes)["head"] == "joint"
    assert recipe.training.steps == 7
    twin = _recipe(preset="tiny", options={"model": "ar"})
    assert dict(twin.changes) == {"width": 96, "depth": 3}


def test_recordings_are_read_as_characters() -> None:
    source = Source("ljspeech", "LJ")
    options = dict.fromkeys(
        ("corpus", "text", "model", "geometry", "head", "schedule", "tokenizer")
    )
    training = dict.fromkeys(("steps", "batch", "batch_tokens", "mixed_precision", "max_seconds"))
    recipe = train_command._recipe("small", options, training, None, source)
    assert (recipe.text, recipe.layout, recipe.data) == ("characters", "stretch", source)
    with pytest.raises(ValueError, match="not aligned"):
        train_command._recipe("small", options | {"text": "phonemes"}, training, None, source)


def test_a_folder_with_another_run_is_refused(home: Path, tmp_path: Path) -> None:
    Workspace(tmp_path).claim(RECIPES["tiny"], "mine", key=0)
    words = ("train", "--preset", "tiny", "--folder", tmp_path, "--name", "mine")
    assert "begun with training.steps = 300" in fail(*words, "--steps", "7")
    assert "begun with key = 0" in fail(*words, "--seed", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]  # nothing was made before


SHORT = (
    *("train", "--preset", "tiny", "--tokenizer-steps", "2", "--steps", "100"),
    *("--width", "48", "--depth", "2", "--batch", "8"),
)


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.is_file() else 0


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_train_stops_and_goes_on(home: Path, tmp_path: Path) -> None:
    """One run: by Ctrl-C, on until it is terminated, and on to its end."""
    words = [*SHORT, "--folder", str(tmp_path), "--name", "a run"]
    log, stopped = tmp_path / "a run" / "log.jsonl", [0]
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [*COMMAND, "tts", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        # Lines, not bytes: the log is written anew before a run goes on.
        before, limit = _lines(log), time.monotonic() + 120
        while _lines(log) == before:
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 128 + number, error
        found = re.search(r"Stopped after (\d+) of 100 steps", error)
        assert found, error
        stopped.append(int(found[1]))
        assert f"`tokenkl tts {' '.join(words[:-1])} 'a run'` goes on" in error
        assert "Traceback" not in error
    assert stopped[0] < stopped[1] < stopped[2]
    done = succeed(*words)
    assert (tmp_path / "a run" / "loss.png").is_file()
    assert (tmp_path / "voice-a run.safetensors").is_file()
    assert "tokenkl tts say" in done.stdout


@pytest.mark.slow
def test_the_tiny_preset_learns_to_speak(home: Path, tmp_path: Path) -> None:
    less = ("--tokenizer-steps", "80", "--steps", "200")  # of 150 and 300: it has to learn faster
    succeed("train", "--preset", "tiny", "--folder", tmp_path, *less)
    [path] = tmp_path.glob("tokenizer-*.safetensors")
    utterances = load_named_corpus("few").split("test")
    heard = evaluate_tokenizer(Tokenizer.load(path), utterances).word_errors["bigram"]
    others = word_errors(heard.references, heard.hypotheses[1:] + heard.hypotheses[:1])
    assert heard.rate < 0.5 < others.rate  # speech through tokens
    voice, record = tmp_path / "voice-tiny.safetensors", tmp_path / "tiny" / "eval.json"
    succeed(
        "eval", voice, "--sentences", "8", "--seeds", "1", "--grammar", "bigram",
        "--no-baselines", "--json", record,
    )  # fmt: skip
    [found] = [
        row for row in json.loads(record.read_text())["summary"] if row["metric"] == "wer_bigram"
    ]
    assert found["value"] < 0.5  # what says nothing gets 1
    succeed("report", voice, "-o", tmp_path / "page", "--sentences", "1", "--steps", "2")
    text = (tmp_path / "page" / "index.html").read_text()
    assert "wer_bigram" in text
    assert "voice1-loss.png" in text


@pytest.mark.slow
def test_paper_takes_steps_on_token_files(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    folder.mkdir()
    rng = np.random.default_rng(0)
    sizes = [50 + i for i in range(8)]
    (folder / "a_info.txt").write_text("".join(f"{size / 25}|u{size}\n" for size in sizes))
    np.savez(folder / "a_speech.npz", *[rng.integers(6561, size=size) for size in sizes])
    np.savez(folder / "a_text.npz", *[rng.integers(34, size=20) for _ in sizes])
    done = succeed(
        "train", "--preset", "paper", "--data", folder, "--data-kind", "cdcd", "--steps", "2",
        "--batch-tokens", "120", "--precision", "no", "--folder", tmp_path / "runs",
    )  # fmt: skip
    assert "ema.safetensors" in done.stdout


def test_a_refused_report_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "page"
    assert "there is no such file" in fail("report", tmp_path / "missing.safetensors", "-o", folder)
    assert not folder.exists()
