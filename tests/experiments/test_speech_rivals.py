"""Rivals in small: trained to their optimum, decodings chosen, heard, and put together."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import speech_rivals
from experiments.speech import rivals
from experiments.speech.rivals import (
    DECODINGS,
    MORE,
    ONE_CALL,
    RIVALS,
    Bench,
    Decoding,
    chosen,
    compare_voices,
    hear_rivals,
    order,
    time_rivals,
    train_rivals,
    write,
)
from experiments.speech_rivals import nats_of, reports, verdict
from tokenkl.tts.corpus import CorpusConfig, load_corpus, make_sentences
from tokenkl.tts.recipes import Workspace
from tokenkl.tts.voice import WEIGHTS


def _choice(folder: Path, seed: int, errors: dict[str, list[int]]) -> None:
    every = {one.name: [9, 9] for one in DECODINGS["cdcd"]} | errors
    write(folder / f"choice-diffusion-{seed}.json", {"words": [10, 10], "errors": every})


def test_fewest_errors_of_all_seeds_and_the_faster_of_equal_ones(tmp_path: Path) -> None:
    fast, slow = DECODINGS["cdcd"][1], DECODINGS["cdcd"][4]
    _choice(tmp_path, 0, {fast.name: [2, 2], slow.name: [1, 1]})
    assert chosen("diffusion", tmp_path)[0] == slow
    _choice(tmp_path, 1, {fast.name: [0, 0], slow.name: [1, 1]})
    best, sums = chosen("diffusion", tmp_path)
    assert sums[fast.name] == sums[slow.name] == (4, 40)
    assert best == fast
    with pytest.raises(ValueError, match="no decodings of ar"):
        chosen("ar", tmp_path)


def test_diffusion_is_tried_from_few_calls_to_many() -> None:
    calls = [
        one.options["steps"] * (2 if one.options["guidance"] else 1) for one in DECODINGS["cdcd"]
    ]
    assert calls == sorted(calls)


def test_what_is_heard_is_in_no_training() -> None:
    """Four times the sentences would hold some of those that are heard, were these not left out."""
    plain, more = make_sentences(CorpusConfig()), make_sentences(MORE)
    heard = {one.text for split in ("valid", "test") for one in plain[split]}
    assert heard & {one.text for one in more["train"]}
    assert not heard & {one.text for one in plain["train"]}


def test_small_ones_come_before_the_large_one() -> None:
    assert order()[:2] == [("ar", 0), ("diffusion", 0)]
    assert [name for name, _ in order()][-2:] == ["ar-10x"] * 2


def test_verdicts() -> None:
    assert verdict(0.2, 0.4, (0, 1)) == "confirmed"
    assert verdict(-0.2, 0.4, (0, 1)) == "open"
    assert verdict(-0.2, -0.1, (0, 1)) == "refuted"
    assert verdict(1.1, 1.2, (0, 1)) == "refuted"
    assert verdict(1.1, 9.0, (1, math.inf)) == "confirmed"


@pytest.mark.slow
def test_from_nothing_to_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = Workspace(tmp_path, progress=lambda done, total: None)
    few = load_corpus(CorpusConfig(train=12, valid=4, test=4, combinations=0), folder=tmp_path)
    splits = {name: few.split(name) for name in ("train", "valid", "test")}
    monkeypatch.setattr(quiet, "corpus", lambda _: SimpleNamespace(split=splits.get))
    # What more speech there is holds a sentence of the test split, which must not be learned.
    more = SimpleNamespace(split=lambda _: [*splits["train"][:8], splits["test"][0]])
    monkeypatch.setattr(rivals, "load_corpus", lambda *_, **__: more)
    training = dataclasses.replace(
        rivals.TRAINING, steps=8, batch=4, warm_up=2, valid_every=2, checkpoint_every=2
    )
    small = {"ar": (("width", 16), ("heads", 2), ("depth", 1)), "ar-10x": (("depth", 1),)}
    tiny = (("width", 16), ("heads", 2), ("depth", 1), ("text_width", 8), ("text_blocks", 1))
    for name, rival in list(RIVALS.items()):
        changes = (*rival.changes, *small.get(name, tiny))
        seeds = rival.seeds[:1]
        made = dataclasses.replace(rival, changes=changes, training=training, seeds=seeds)
        monkeypatch.setitem(RIVALS, name, made)
    monkeypatch.delitem(RIVALS, "ar-10x")
    short = {"max_tokens": 20}  # hardly trained, a twin finds no end by itself
    monkeypatch.setitem(
        DECODINGS,
        "ar",
        tuple(Decoding(one.name, one.options | short) for one in DECODINGS["ar"][:2]),
    )
    monkeypatch.setitem(DECODINGS, "cdcd", DECODINGS["cdcd"][:2])
    monkeypatch.setattr(rivals, "OPINIONS", 0)
    for module in (rivals, speech_rivals):
        monkeypatch.setattr(module, "SAID", DECODINGS["cdcd"][:1])
    monkeypatch.setattr(rivals, "SAMPLINGS", (0, 1))
    lines: list[str] = []
    bench = Bench(quiet, tmp_path / "rivals", lines.append)
    assert len(bench.learned(RIVALS["diffusion-more"])) == 8
    train_rivals(bench, [f"{name}-{seed}" for name, seed in order()])
    hear_rivals(bench)
    time_rivals(bench, sentences=1)
    stored = {path.name: path.read_bytes() for path in bench.folder.iterdir()}
    heard = len(lines)
    hear_rivals(Bench(quiet, bench.folder, lines.append))  # what is there is not done again
    assert len(lines) == heard
    assert stored == {path.name: path.read_bytes() for path in bench.folder.iterdir()}
    for name in ("tokenizer.safetensors", "characters.safetensors"):
        new = "voice-characters.safetensors" if name.startswith("characters") else name
        shutil.copyfile(WEIGHTS / name, tmp_path / new)
    compare_voices(bench)
    found = bench.next_voice()
    assert found.record["sentences"] == json.loads(json.dumps(dataclasses.asdict(MORE)))
    assert found.record["best"]["step"] in (2, 4, 6, 8)
    nats = nats_of("ar", "test", bench.folder)
    assert nats.value("bound") == pytest.approx(np.log(6562), rel=0.1)  # hardly trained
    assert reports("diffusion", ONE_CALL, bench.folder).seeds == (0,)
    speed = json.loads((bench.folder / "speed.json").read_text())["real_time_factor"]
    assert set(speed) == {
        "ar", "diffusion, one call", *(f"diffusion, {one.name}" for one in DECODINGS["cdcd"]),
    }  # fmt: skip
    monkeypatch.setattr(speech_rivals, "FOLDER", bench.folder)
    monkeypatch.setattr(speech_rivals, "METRICS", ("wer_bigram", "length_error"))
    table, facts = speech_rivals.compute(speech_rivals.SMOKE, lambda done, total: None)
    assert set(facts["chosen"]) == {"ar", "diffusion", "diffusion-more"}
    assert facts["verdicts"]["R7, against AR"] == {"expected": "not measured"}
    heard_of = table[(table.kind == "test") & (table.metric == "wer_bigram")].set_index("name")
    gaps = table[(table.kind == "difference") & (table.metric == "wer_bigram")].set_index("name")
    expected = heard_of.value["diffusion"] - heard_of.value["ar"]
    assert gaps.value["diffusion minus ar"] == pytest.approx(expected)
    said = table[(table.kind == "voice") & (table.metric == "wer_bigram")].set_index("name").value
    assert said["next minus included"] == pytest.approx(said["next"] - said["included"])
    assert said["included"] < 0.5 < said["next"]  # which is hardly trained
