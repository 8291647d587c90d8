"""`tokenkl search`: what it shows, writes and resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import commands

import tokenkl as tk
from tokenkl.cli import guarded
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


@pytest.mark.parametrize("through", [None, SystemError("returned with an exception set")])
def test_ctrl_c_says_how_to_go_on(
    through: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where numba makes another error of it."""

    def stopped(*_: object, **__: object) -> None:
        if through is None:
            raise KeyboardInterrupt
        raise through from KeyboardInterrupt()

    monkeypatch.setattr(tk, "search", stopped)
    words = ["search", "2", "5", "--folder", str(tmp_path / "state")]
    said = []
    monkeypatch.setattr("typer.echo", lambda text, **_: said.append(text))
    with pytest.raises(SystemExit) as caught:
        guarded(lambda: app(words))
    assert caught.value.code == 130
    assert said == [f"Stopped; the same command goes on from what is in {tmp_path / 'state'}."]


def test_other_errors_are_no_ctrl_c() -> None:
    def broken() -> None:
        raise SystemError("of another kind")

    with pytest.raises(SystemError, match="another kind"):
        guarded(broken)
