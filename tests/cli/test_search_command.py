"""`tokenkl search`: what it shows, writes and resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import commands

import tokenkl as tk
from tokenkl.cli.commands import app

run, succeed, _ = commands(app)


def test_shows_writes_and_resumes(tmp_path: Path) -> None:
    words = ("search", "2", "4", "--starts", "2", "--hops", "0", "--folder", tmp_path / "state")
    done = succeed(*words, "-o", tmp_path / "found.npz", "--json", tmp_path / "found.json")
    assert "best known" in done.stdout
    assert "Newman's tour" in " ".join(done.stdout.split())
    record = json.loads((tmp_path / "found.json").read_text())
    assert (record["K"], record["n"], record["bound"], len(record["runs"])) == (4, 2, 2.0, 2)
    found = tk.load_codebook(tmp_path / "found.npz")
    assert tk.mean_nn_distance(found) == pytest.approx(record["value"], rel=1e-12)
    more = succeed(*words[:4], "3", *words[5:], "--json", "-")
    again = json.loads(more.stdout)
    assert [one["value"] for one in again["runs"][:2]] == [one["value"] for one in record["runs"]]
    assert len(again["runs"]) == 3


def test_without_a_box_nothing_stands_beside_it() -> None:
    words = ("--starts", "1", "--hops", "0", "--json", "-")
    record = json.loads(succeed("search", "2", "3", "--constraint", "ball", *words).stdout)
    assert (record["known"], record["bound"]) == (None, None)
    noisy = ("--objective", "accuracy", "--snr", "1")
    assert json.loads(succeed("search", "1", "2", *noisy, *words).stdout)["value"] < 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("2", "4", "-o", "found.txt"), "--output"),
        (("2", "4", "--objective", "size"), "objective"),
        (("2", "4", "--objective", "accuracy"), "snr"),
        (("0", "4"), "N"),
    ],
)
def test_refused(words: tuple[str, ...], says: str) -> None:
    done = run("search", *words)
    assert done.exit_code != 0
    assert says in done.stderr
