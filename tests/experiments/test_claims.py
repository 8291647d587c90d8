"""The findings: every number is that of a record, and the page holds together and plays."""

import json
import re
import shutil
from pathlib import Path

import pytest
from browser import BROWSER, Reader, browse, listen
from commands import commands

import experiments
from experiments import harness
from experiments.findings.__main__ import app
from experiments.findings.claims import Finding, Records, findings, markdown
from tokenkl._files import file_digest

ROOT = Path(experiments.__file__).resolve().parents[1]

run, succeed, fail = commands(app)


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    return findings(Records())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("findings") / "page"
    succeed("--output", folder, "--report", folder.parent / "findings.md")
    return folder


def test_documents_say_what_was_found(found: list[Finding], page: Path) -> None:
    """`tokenkl findings --report docs/findings.md` writes it; the README has the verdicts."""
    written = (ROOT / "docs" / "findings.md").read_text()
    assert markdown(found) == written == (page.parent / "findings.md").read_text()
    rows = re.findall(r"^\| (C\w+) \|.*\| ([^|]+) \|$", (ROOT / "README.md").read_text(), re.M)
    assert rows == [(one.key, one.verdict) for one in found if one.key.startswith("C")]


def test_every_experiment_has_its_finding(found: list[Finding]) -> None:
    assert {name for one in found for name in one.figures} == set(experiments.NAMES)
    assert len({one.key for one in found}) == len(found)
    for one in found:
        assert all((ROOT / "docs" / name).is_file() for name in one.pages)


def test_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    """Another record gives another sentence; that of other settings, and none, are refused."""
    folder = tmp_path / "figures"
    shutil.copytree(harness.FIGURES, folder, ignore=shutil.ignore_patterns("*.pdf", "*.png"))
    path = folder / "capacity.json"
    record = json.loads(path.read_text())
    record["facts"]["threshold"] = 1.2345
    path.write_text(json.dumps(record))
    (capacity,) = (one for one in findings(Records(folder)) if one.figures == ("capacity",))
    assert "1.2345" in " ".join(capacity.answer)
    path.write_text(json.dumps({**record, "overrides": {"thresholds": 3}}))
    with pytest.raises(ValueError, match=r"has other settings; run `tokenkl reproduce capacity`"):
        findings(Records(folder))
    path.unlink()
    with pytest.raises(ValueError, match="capacity has no stored results"):
        findings(Records(folder))


def test_page_holds_together(found: list[Finding], page: Path) -> None:
    reader = Reader((page / "index.html").read_text(encoding="utf-8"))
    assert not reader.tags & {"script", "iframe", "link", "object"}
    assert len(reader.ids) == len(set(reader.ids))
    assert {one[1:] for one in reader.links if one.startswith("#")} <= set(reader.ids)
    for name in (*reader.loaded, *(one for one in reader.links if not one.startswith("#"))):
        assert (page / name).is_file()
    shown = "".join(reader.shown)
    for one in found:
        assert all(line in shown for line in (one.claim, *one.answer, *one.commands))
    record = json.loads((page / "record.json").read_text())
    assert [one["key"] for one in record["findings"]] == [one.key for one in found]
    for name, digest in record["files"].items():
        assert file_digest(page / name) == digest


def test_how_sounds_are_heard() -> None:
    """The record beside the sounds is that of these sounds."""
    pytest.importorskip("pocketsphinx")
    from experiments.speech.samples import GRAMMAR, RECORD
    from tokenkl.tts.audio import read_wav
    from tokenkl.tts.judge import Judge

    folder = harness.FIGURES / "speech_samples"
    record = json.loads((folder / RECORD).read_text())
    assert {path.name for path in folder.glob("*.wav")} == set(record["sounds"])
    judge = Judge(GRAMMAR)
    for name in ("fsq-25.wav", "one-hot-2.wav"):
        assert judge.transcribe(read_wav(folder / name)) == record["sounds"][name]["heard"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "--output" in fail("--output", tmp_path / "file" / "page")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_every_player_plays(page: Path, tmp_path: Path) -> None:
    """As it is the page says nothing on the console; with a script all its sounds play."""
    said, asked = browse(page / "index.html", tmp_path, "--dump-dom")
    assert said == ""
    assert [one for one in asked if one.startswith(("http", "ws"))] == []
    html = (page / "index.html").read_text(encoding="utf-8")
    script = """<script>
    (async () => {
      const ends = [];
      for (const one of document.querySelectorAll("audio")) {
        one.muted = true;
        one.playbackRate = 16;
        await one.play();
        await new Promise(done => { one.onended = done; one.onerror = done; });
        ends.push(one.error ? 0 : one.duration);
      }
      console.log("seconds: " + ends.map(x => x.toFixed(3)).join(" ") + " end");
    })();
    </script></body>"""
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', html)
    assert policy is not None
    playing = page / "playing.html"
    playing.write_text(html.replace(policy[0], "").replace("</body>", script), encoding="utf-8")
    line = re.search(r"seconds: (.*) end", listen(playing, tmp_path, "seconds: "))
    playing.unlink()
    assert line is not None
    seconds = [float(one) for one in line[1].split()]
    assert len(seconds) == html.count("<audio ")
    assert min(seconds) > 1
