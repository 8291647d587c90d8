"""Every kind of file that speech reads, damaged in many ways."""

import contextlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import torch
from scipy.io import wavfile

from tokenkl import PointCodebook
from tokenkl._formats import FileError
from tokenkl.tts.ar import AR, ARConfig
from tokenkl.tts.audio import probe_wav, read_wav
from tokenkl.tts.cdcd import CDCD, CDCDConfig
from tokenkl.tts.codec import Codec
from tokenkl.tts.corpus import _KINDS, _load_shard
from tokenkl.tts.data import TextEncoder
from tokenkl.tts.frontend import Lexicon, PhonemeTable, encode_characters
from tokenkl.tts.lengths import Lengths
from tokenkl.tts.listening import _evaluation, find_evaluations
from tokenkl.tts.loaders import load_cdcd, load_libritts, load_ljspeech
from tokenkl.tts.reports import SpeechReport
from tokenkl.tts.stored import write_network
from tokenkl.tts.tokenizer_checkpoints import restore, write_checkpoint
from tokenkl.tts.tokenizers import Tokenizer, TokenizerConfig
from tokenkl.tts.training import read_weights, steps_done
from tokenkl.tts.training_log import cut_log, read_log
from tokenkl.tts.triplets import load_triplets
from tokenkl.tts.voice import Voice

SMALL: dict[str, Any] = {"width": 8, "heads": 2, "depth": 1}
TONE = 0.1 * np.sin(np.arange(4000) / 5)


# ---- Recordings and tokens: the file beside the damaged one must still be read -------------------


def _int16(path: Path) -> None:
    wavfile.write(path, 16_000, np.round(TONE * 32767).astype(np.int16))


def _wav(path: Path) -> None:
    _int16(path)


def _read_both(path: Path) -> None:
    assert probe_wav(path) == pytest.approx(read_wav(path).size / 16_000, abs=1e-3)


def _ljspeech(path: Path) -> None:
    (path.parent / "wavs").mkdir()
    for name in "abc":
        _int16(path.parent / "wavs" / f"{name}.wav")
    path.write_text("a|one|one\nb|two|two\nc|three|three\n")


def _ljspeech_wav(path: Path) -> None:
    root = path.parent.parent
    for name in "ab":
        _int16(path.parent / f"{name}.wav")
    (root / "metadata.csv").write_text("a|one|one\nb|two|two\n")


def _libritts(path: Path) -> None:
    for name in ("1_a", "2_b"):
        _int16(path.parent / f"{name}.wav")
        (path.parent / f"{name}.normalized.txt").write_text(f"Text {name}.")


def _cdcd(path: Path) -> None:
    for name in ("a", "b"):
        stem = path.parent / name
        speech = [np.arange(25, dtype=np.int16), np.arange(50, dtype=np.int16)]
        np.savez(f"{stem}_speech.npz", *speech)
        np.savez(f"{stem}_text.npz", *[encode_characters("some text")] * 2)
        Path(f"{stem}_info.txt").write_text("1.0|u\n2.0|v\n")


def _triplets(path: Path) -> None:
    for name in "ab":
        np.savez(
            path.with_name(f"{name}.npz"), tokens=np.arange(6), ends=np.array([4, 6]),
            text=np.array([f"one {name}", "no"]), speaker=np.array(["x", "y"]),
            durations=np.array([1, 0, 1, 1, 1, 2, 0]),
        )  # fmt: skip


def _read_triplets(path: Path) -> None:
    for one in load_triplets(path.parent, K=9, on_bad="skip"):
        assert one.text
        assert 0 <= one.tokens.min() <= one.tokens.max() < 9


def _skipping(load: Callable[..., Any], folder: Path, keeps: str | None) -> None:
    found = load(folder, on_bad="skip")
    names = [one.name for one in (getattr(found, "sequences", None) or found)]
    assert keeps is None or keeps in names
    for one in found.bad:
        assert one.reason.isprintable()
        assert len(one.reason) < 1500


# ---- Networks ------------------------------------------------------------------------------------


def _tokenizer(path: Path) -> Tokenizer:
    made = Tokenizer(TokenizerConfig(levels=(3, 3), channels=8, blocks=(1, 1))).eval()
    made.save(path, record={"made": "by a test"})
    return made


def _rvq(path: Path) -> None:
    config = TokenizerConfig("rvq", (4, 3), dim=2, channels=8, blocks=(0, 1))
    Tokenizer(config).eval().save(path)


def _voice(path: Path) -> None:
    tokenizer = _tokenizer(path.parent / "tokenizer.safetensors")
    lexicon = Lexicon({"one": ["w", "V", "n"], "the": ["D", "@"]}, {"the": {"one": ["D", "i"]}})
    encoder = TextEncoder(PhonemeTable(["w", "V", "n", "D", "@", "i"]), lexicon)
    config = CDCDConfig(
        K=9, symbols=encoder.size, dim=2, head="factorised", shape=(3, 3), text_width=8,
        text_blocks=1, time_width=8, **SMALL,
    )  # fmt: skip
    model = CDCD(config, np.array(tokenizer.codebook().points), np.linspace(9, -9, 257)).eval()
    lengths = Lengths({(-1, -1, -1): 2.0, (1, 2, 3): 1.0}, (0.9, 1.0, 1.1))
    record = {"recipe": {"corpus": "few", "training": {"steps": 3}, "data": None}, "key": 0}
    Voice(tokenizer, encoder, lengths, "aligned", model, record).save(path, "tokenizer.safetensors")


def _twin(path: Path) -> None:
    tokenizer = _tokenizer(path.parent / "tokenizer.safetensors")
    model = AR(ARConfig(K=9, symbols=TextEncoder().size, **SMALL)).eval()
    lengths = Lengths({(-1, -1, -1): 2.0}, (1.0,))
    Voice(tokenizer, TextEncoder(), lengths, "stretch", model, {}).save(
        path, "tokenizer.safetensors"
    )


def _foreign(path: Path) -> None:
    codec = Codec(PointCodebook(np.arange(18.0).reshape(9, 2)), 50.0)
    codec.save(path.with_name("codec.npz"))
    model = AR(ARConfig(K=9, symbols=TextEncoder().size, **SMALL)).eval()
    lengths = Lengths({(-1, -1, -1): 2.0}, (1.0,))
    Voice(codec, TextEncoder(), lengths, "stretch", model, {}).save(path, "codec.npz")


def _load_voice(path: Path) -> None:
    voice = Voice.load(path)
    assert voice.vocabulary
    assert isinstance(voice.record.get("recipe", {}), dict)


HEADER = {
    "format": 1, "kind": "small", "config": {"width": 4}, "train": {"steps": 3}, "data": "0",
    "buffers": "0", "key": 5, "step": 3, "record": {"made": "by a test"},
}  # fmt: skip


def _weights(path: Path) -> None:
    write_network(path, {"a": torch.ones(4, 2), "b": torch.arange(3)}, HEADER)


def _checkpoint(path: Path) -> None:
    state = {"sums": {"loss": 1.5}, "summed": 2, "tokens": 70, "seconds": 1.5, "scaler": {}}
    tensors = {f"{part}/a": torch.ones(4, 2) for part in ("model", "ema", "optimiser/exp_avg")}
    write_network(path, tensors, {**HEADER, "state": state})


def _of_a_tokenizer() -> tuple[Tokenizer, torch.optim.AdamW]:
    made = Tokenizer(TokenizerConfig(levels=(3, 3), channels=8, blocks=(1, 1)))
    return made, torch.optim.AdamW(made.parameters())


def _stopped(path: Path) -> None:
    made, optimiser = _of_a_tokenizer()
    made.decode(torch.zeros(1, 2, 2)).sum().backward()
    optimiser.step()
    write_checkpoint(path, {"key": 3}, 1, made, optimiser)


def _go_on(path: Path) -> None:
    with torch.random.fork_rng():
        assert restore(path, {"key": 3}, *_of_a_tokenizer()) >= 1


# ---- Records -------------------------------------------------------------------------------------


def _report(path: Path) -> None:
    arrays = {
        "words": np.full((2, 3), 4.0),
        "errors_unigram": np.array([[0.0, 1.0, 2.0], [np.nan, 0.0, 0.0]]),
        "f0_mean": np.array([[100.0, 110.0, 95.0], [np.nan] * 3]),
    }
    heard: dict[str, tuple[tuple[str, ...], ...]] = {"unigram": (("a", "b", "c"), ("d", "", "f"))}
    names = ("one", "two")
    SpeechReport("system", names, names, (0, 1, 2), arrays, heard, 9, (4, 5, 6)).save(path)


def _evaluation_file(path: Path) -> None:
    row = {"system": "v, 5 steps", "metric": "mos", "value": 3.5, "low": 3.0, "high": None}
    record = {
        "kind": "k", "corpus": "few", "split": "test", "voices": {"v": {"options": {}}, "w": {}},
        "summary": [row, {**row, "metric": "rtf"}], "reports": {},
    }  # fmt: skip
    path.write_text(json.dumps(record))


def _page(path: Path) -> None:
    for record in find_evaluations(path.parent, "v", "k"):
        assert "Evaluation" in _evaluation(record, "v")


def _lexicon(path: Path) -> None:
    Lexicon({"one": ["w", "V", "n"], "the": ["D"]}, {"the": {"one": ["D", "i"]}}).save(path)


def _say_word(path: Path) -> None:
    lexicon = Lexicon.load(path)
    with contextlib.suppress(ValueError):
        lexicon.pronounce("the one")


def _log(path: Path) -> None:
    lines = [{"step": 5 * i, "loss": 3.0 / i, "valid_loss": 1.0, "tokens": i} for i in range(1, 7)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _read_log(path: Path) -> None:
    for one in read_log(path).itertuples():
        assert float(one.loss) is not None
    cut_log(path, 20)


def _damage_log(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.split(b"\n")
    at = int(rng.integers(len(lines) - 1))
    lines[at] = hostile.damage_json(lines[at], rng)
    return b"\n".join(lines)


def _shard(path: Path) -> None:
    arrays: dict[str, Any] = {name: np.arange(2) for name, kind in _KINDS.items() if kind == "iu"}
    arrays |= {name: np.array(["a", "b"]) for name, kind in _KINDS.items() if kind == "U"}
    arrays |= {
        "audio": np.arange(40, dtype=np.int16), "audio_ends": np.array([15, 40]),
        "phonemes": np.array(["a", "b", "_"]), "phoneme_ends": np.array([1, 3]),
        "words": np.array([0, 0, -1]), "edges": np.array([0, 15, 0, 9, 25]),
    }  # fmt: skip
    np.savez(path, **arrays)


Kind = tuple[str, Callable[[Path], object], Callable[[Path], Any], hostile.Damage | None]


def _up(load: Callable[..., Any], keeps: str | None, levels: int = 0) -> Callable[[Path], None]:
    return lambda path: _skipping(load, path.parents[levels], keeps)


KINDS: list[Kind] = [
    ("a.wav", _wav, _read_both, hostile.damage_wav),
    ("metadata.csv", _ljspeech, _up(load_ljspeech, None), hostile.damage_lines),
    ("wavs/a.wav", _ljspeech_wav, _up(load_ljspeech, "b", 1), hostile.damage_wav),
    ("1_a.wav", _libritts, _up(load_libritts, "2_b"), hostile.damage_wav),
    ("1_a.normalized.txt", _libritts, _up(load_libritts, "2_b"), None),
    ("a_info.txt", _cdcd, _up(load_cdcd, "u"), hostile.damage_lines),
    ("a_speech.npz", _cdcd, _up(load_cdcd, "u"), hostile.damage_npz),
    ("b_text.npz", _cdcd, _up(load_cdcd, "u"), hostile.damage_npz),
    ("a.npz", _triplets, _read_triplets, hostile.damage_npz),
    ("tokenizer.safetensors", _tokenizer, Tokenizer.load, hostile.damage_safetensors),
    ("rvq.safetensors", _rvq, Tokenizer.load, hostile.damage_safetensors),
    ("voice.safetensors", _voice, _load_voice, hostile.damage_safetensors),
    ("foreign.safetensors", _foreign, Voice.load, hostile.damage_safetensors),
    ("twin.safetensors", _twin, _load_voice, hostile.damage_safetensors),
    ("ema.safetensors", _weights, read_weights, hostile.damage_safetensors),
    (
        "run/checkpoint.safetensors",
        _checkpoint,
        lambda p: steps_done(p.parent),
        hostile.damage_safetensors,
    ),
    ("stopped.safetensors", _stopped, _go_on, hostile.damage_safetensors),
    ("report.json", _report, lambda p: SpeechReport.load(p).metrics, hostile.damage_json),
    ("eval.json", _evaluation_file, _page, hostile.damage_json),
    ("lexicon.json", _lexicon, _say_word, hostile.damage_json),
    ("log.jsonl", _log, _read_log, _damage_log),
    ("train-00000.npz", _shard, _load_shard, hostile.damage_npz),
]
kinds = pytest.mark.parametrize(
    ("name", "make", "load", "damage"), KINDS, ids=[k[0] for k in KINDS]
)


def _attack(kind: Kind, folder: Path, count: int, seed: int) -> dict[str, int]:
    name, make, load, damage = kind
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        make(path)
    load(path)
    corpora = (
        _ljspeech,
        _ljspeech_wav,
        _libritts,
        _cdcd,
        _triplets,
    )  # refused by the name of the folder
    error = ValueError if make in corpora else FileError
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what was skipped
        return hostile.attack(path, lambda: load(path), damage, count, seed=seed, error=error)


@kinds
def test_damaged_files(
    name: str,
    make: Callable[..., Any],
    load: Callable[..., Any],
    damage: Callable[..., Any] | None,
    tmp_path: Path,
) -> None:
    _attack((name, make, load, damage), tmp_path, 60, 0)


@pytest.mark.slow
@kinds
def test_files_damaged_in_many_ways(
    name: str,
    make: Callable[..., Any],
    load: Callable[..., Any],
    damage: Callable[..., Any] | None,
    tmp_path: Path,
) -> None:
    _attack((name, make, load, damage), tmp_path, 250, 1)
