"""The listening page: every sentence, every way of saying it, and the right numbers beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from tokenkl.tts.audio import SAMPLE_RATE, read_wav
from tokenkl.tts.listening import About, Sample, find_evaluations, write_page


def tone(seconds: float, hertz: float) -> np.ndarray:
    return 0.2 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def row(system: str, metric: str, *numbers: float | None) -> dict[str, object]:
    value, low, high = numbers
    return {"system": system, "metric": metric, "value": value, "low": low, "high": high}


EVALUATION = {
    "kind": "tts evaluation",
    "voices": {"anna": {"steps": 10}, "ben": {"steps": 20}},
    "corpus": "words",
    "split": "test",
    "file": "eval.json",
    "summary": [
        row("anna", "wer", 0.1234, 0.1, 0.15),
        row("anna, 20 steps", "wer", 0.08, None, 0.09),
        row("ben", "wer", 0.77, 0.7, 0.8),
        row("ben, 20 steps", "wer", 0.66, 0.6, 0.7),
        row("true audio", "wer", 0.01, 0.0, 0.02),
        row("true audio", "mos", 3.5, 3.25, 3.75),
        row("anna", "mos", None, None, None),
    ],
}


def test_page(tmp_path: Path) -> None:
    samples = [
        Sample("anna", "One <two>.", "4 steps", tone(0.5, 300)),
        Sample("anna", "One <two>.", "8 steps", tone(0.7, 500)),
        Sample("anna", "Three.", "8 steps", tone(0.9, 700)),
        Sample("ben", "Three.", "4 steps", tone(1.1, 900)),
    ]
    about = {
        "anna": About({"model": "a & b"}, evaluations=[EVALUATION]),
        "ben": About({"model": "c"}, evaluations=[EVALUATION]),
    }
    page, size = write_page(tmp_path / "page", samples, about, title="What <they> say")
    files = list(page.parent.iterdir())
    assert size == sum(path.stat().st_size for path in files)
    sounds = {path.name for path in files if path.suffix == ".wav"}
    assert sounds == {f"voice1-sentence{x}.wav" for x in ("1-1", "1-2", "2-2")} | {
        "voice2-sentence1-1.wav"
    }
    heard = read_wav(page.parent / "voice1-sentence2-2.wav")
    np.testing.assert_allclose(heard, samples[2].audio, atol=1e-4)

    text = page.read_text(encoding="utf-8")
    assert "What &lt;they&gt; say" in text
    assert "a &amp; b" in text
    anna, ben = re.findall(r"<h2>.*?(?=<h2>|</body>)", text, flags=re.DOTALL)
    # The table of sounds: a missing one leaves its cell empty.
    assert re.findall(r"<th>(. steps)</th>", anna) == ["4 steps", "8 steps"]
    assert re.findall(r"<tr><td>(One[^<]*|Three\.)</td>(<td></td>)?", anna) == [
        ("One &lt;two&gt;.", ""),
        ("Three.", "<td></td>"),
    ]
    assert re.findall(r"(\d\.\d) s, (\d+) kB", anna) == [
        ("0.5", "16"),
        ("0.7", "22"),
        ("0.9", "29"),
    ]
    # The numbers of this voice and of what is no voice, not those of the other.
    assert re.findall(r"<tr><td>([^<]*(?:anna|ben|true)[^<]*)</td>", anna) == [
        "anna",
        "anna, 20 steps",
        "true audio",
    ]
    assert re.findall(r"<th>(wer|mos)</th>", anna) == ["wer", "mos"]
    assert re.findall(r'<td class="number">(.*?)</td>|<td>()</td>', anna.split("<h3>")[1]) == [
        ("0.123<br>(0.1 to 0.15)", ""),
        ("", ""),
        ("0.08<br>(nan to 0.09)", ""),
        ("", ""),
        ("0.01<br>(0 to 0.02)", ""),
        ("3.5<br>(3.25 to 3.75)", ""),
    ]
    assert "words corpus, split test" in anna
    assert "0.77<br>(0.7 to 0.8)" in ben
    assert "0.123<br>" not in ben
    assert "Training" not in text  # no losses were given


def test_evaluations_are_found_by_their_kind_and_voice(tmp_path: Path) -> None:
    other = {**EVALUATION, "kind": "another"}
    nobody = {**EVALUATION, "voices": {"carl": {}}}
    for name, content in (("b", EVALUATION), ("a", EVALUATION), ("c", other), ("d", nobody)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "e.txt").write_text(json.dumps(EVALUATION))
    found = find_evaluations(tmp_path, "ben", "tts evaluation")
    assert [one["file"] for one in found] == ["a.json", "b.json"]
    assert found[0] == {**EVALUATION, "file": "a.json"}
