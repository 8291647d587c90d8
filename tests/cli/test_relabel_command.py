"""`tokenkl relabel` in the terminal: table, map, record, verdicts."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import commands

import tokenkl as tk
from tokenkl.cli.commands import app
from tokenkl.codebooks import load_sequences

run, _, fail = commands(app, "relabel")


def _corpus(folder: Path) -> Path:
    """Tokens of a law that lives in permuted coordinates of fsq:3^2."""
    hidden = tk.permute(tk.FSQ((3, 3)), key=3).points
    rows = np.exp(1.5 * hidden @ hidden.T)
    chain = tk.sources.Markov(rows / rows.sum(axis=1, keepdims=True), 30)
    np.save(folder / "corpus.npy", chain.sample(80, key=1))
    return folder / "corpus.npy"


def test_map_and_record(tmp_path: Path) -> None:
    corpus = _corpus(tmp_path)
    files = ("-o", str(tmp_path / "map.npy"), "--json", str(tmp_path / "found.json"))
    done = run("fsq:3^2", "--tokens", str(corpus), "--starts", "4", *files)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "These labels are better" in " ".join(said.split())
    assert "Gain in what is read, on sequences left out" in said
    ids = np.load(tmp_path / "map.npy")
    record = json.loads((tmp_path / "found.json").read_text())
    assert sorted(ids) == list(range(9))
    assert record["ids"] == ids.tolist()
    assert record["is_better"]
    assert record["gain"]["interval_low"] > 0
    assert record["sequences"] == 80
    assert set(record["files"]) == {"map.npy"}
    shares = {name: row["readability"] for name, row in record["labels"].items()}
    assert shares["found"] > shares["given"]


def test_codebook_of_another_kind(tmp_path: Path) -> None:
    """Tokens of a VQ at points of a grid, as a codebook."""
    corpus = _corpus(tmp_path)
    np.save(tmp_path / "vq.npy", np.random.default_rng(0).standard_normal((9, 4)))
    out = tmp_path / "moved.npz"
    words = ("--points", "fsq:3x4", "--tokens", str(corpus), "--starts", "2", "-o", str(out))
    done = run(f"vq:{tmp_path / 'vq.npy'}", *words)
    assert done.exit_code == 0, done.output
    moved = tk.load_codebook(out)
    assert (moved.K, moved.n) == (9, 2)


def test_no_structure(tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(4, size=(20, 30)))
    done = run("fsq:2^2", "--tokens", str(tmp_path / "noise.npy"), "--starts", "1")
    assert done.exit_code == 0, done.output
    assert "No structure found" in " ".join(done.stdout.split())


def test_refusals(tmp_path: Path) -> None:
    corpus = str(_corpus(tmp_path))
    assert "ends in .npy, .npz or .safetensors" in fail(
        "fsq:3^2", "--tokens", corpus, "-o", str(tmp_path / "map.txt")
    )
    assert "--gaps must be whole numbers" in fail("fsq:3^2", "--tokens", corpus, "--gaps", "1,x")
    assert "tokens must be whole numbers from 0 to 3" in fail("fsq:2^2", "--tokens", corpus)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "0 1 2\n3 4\n\n"),
        ("a.csv", "0,1,2\n3,4\n"),
        ("a.json", "[[0, 1, 2], [3, 4], []]"),
    ],
)
def test_ragged_sequences(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert [row.tolist() for row in load_sequences(tmp_path / name)] == [[0, 1, 2], [3, 4]]


def test_sequences_of_other_forms(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("0\n1\n2\n")
    (tmp_path / "b.json").write_text("[0, 1, 2]")
    np.save(tmp_path / "b.npy", np.array([0, 1, 2]))
    for name in ("b.txt", "b.json", "b.npy"):
        assert [row.tolist() for row in load_sequences(tmp_path / name)] == [[0, 1, 2]]
    np.save(tmp_path / "c.npy", np.array([[0, 1, -1], [2, -1, -1], [-1, -1, -1]]))
    rows = load_sequences(tmp_path / "c.npy", padding=-1)
    assert [row.tolist() for row in rows] == [[0, 1], [2]]
    with pytest.raises(ValueError, match="it holds -1"):
        load_sequences(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.zeros((2, 2, 2), int))
    with pytest.raises(ValueError, match="an array with 3 axes"):
        load_sequences(tmp_path / "d.npy")
    for name, content, said in (
        ("e.txt", "0 x\n", "'x' in it is not such a number"),
        ("e.json", '[[0, "x"]]', "tokens"),
        ("e.csv", "\n", "it holds no token"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=said):
            load_sequences(tmp_path / name)


def test_every_number_in_bits(tmp_path: Path) -> None:
    """What is in nats is divided by log 2, and nothing else is changed."""
    np.save(tmp_path / "tokens.npy", np.tile([0, 1, 2, 1], (20, 10)))
    records = []
    for more in ((), ("--bits",)):
        words = ("fsq:3", "--tokens", tmp_path / "tokens.npy", "--json", tmp_path / "a.json")
        assert run(*words, *more).exit_code == 0
        records.append(json.loads((tmp_path / "a.json").read_text()))
    nats, bits = records
    assert (nats["unit"], bits["unit"]) == ("nats", "bits")
    assert np.isclose(bits["gain"]["value"] * np.log(2), nats["gain"]["value"])
    for name, row in nats["labels"].items():
        assert bits["labels"][name]["readability"] == row["readability"]
        for part in ("information", "read", "nonlinearity"):
            assert np.isclose(bits["labels"][name][part]["value"] * np.log(2), row[part]["value"])
            assert row[part]["value"] != 0
