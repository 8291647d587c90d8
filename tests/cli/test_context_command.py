"""`tokenkl context`: what is printed, and the files that other commands read."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import commands

import tokenkl as tk
from tokenkl.cli.commands import app

run, _, fail = commands(app, "context")
FILES = {
    "context.pdf", "context.png", "labels.csv", "map.npy", "profile.csv", "schedule.csv",
    "steps.csv",
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens of a law that lives in permuted coordinates of fsq:3^2."""
    hidden = tk.permute(tk.FSQ((3, 3)), key=3).points
    rows = np.exp(1.5 * hidden @ hidden.T)
    chain = tk.sources.Markov(rows / rows.sum(axis=1, keepdims=True), 30)
    path = tmp_path_factory.mktemp("corpus") / "corpus.npy"
    np.save(path, chain.sample(200, key=1))
    return path


QUICK = ("--starts", "2", "--sequences", "32", "--length", "3")


@pytest.mark.slow
def test_what_a_user_gets(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--tokens", corpus, *QUICK, "--against", "fsq:9", "--bits", "-o", out)
    done = run("fsq:3^2", *words)
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "6,000 tokens in 200 sequences" in said
    assert "Predicted order, by the share that is read: found > " in said
    assert "These labels are better" in said
    assert "bits" in said
    assert " nats" not in said
    assert ("*" in said) == ("* without ±: too few informative samples" in said)
    assert {path.name for path in out.iterdir()} == FILES | {"record.json"}
    record = json.loads((out / "record.json").read_text())
    assert record["files"].keys() == FILES
    assert record["labels"].keys() == {"given", "found", "permuted", "one-hot", "fsq:9"}
    assert record["unit"] == "bits"
    assert record["labels"]["found"]["gain"]["interval_low"] > 0
    assert sorted(np.load(out / "map.npy")) == list(range(9))
    schedule = tk.load_schedule(out / "schedule.csv")
    profile = pd.read_csv(out / "profile.csv")
    # The whole range of the profile is trained on, the lowest SNR at t = 1.
    assert float(schedule.snr(1.0)) == pytest.approx(profile.snr.iloc[0])
    assert float(schedule.snr(0.0)) == pytest.approx(profile.snr.iloc[-1])
    assert (profile.accuracy_in_context_low <= profile.accuracy_in_context).all()
    steps = pd.read_csv(out / "steps.csv")
    assert steps.N.value_counts().to_dict() == {4: 5, 8: 9, 16: 17}
    labels = pd.read_csv(out / "labels.csv")
    assert labels.share.is_monotonic_decreasing
    assert labels.set_index("labels").loc["given", "gain"] == 0
    # The files are read by other commands.
    _, succeed, _ = commands(app, "noise-schedule")
    assert "TableSchedule" in succeed("fsq:3^2", "--schedule", out / "schedule.csv").stdout


def test_nothing_is_left_where_something_is_wrong(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    where = ("-o", out)
    assert "tokens must be whole numbers from 0 to 3" in fail("fsq:2^2", "--tokens", corpus, *where)
    assert "--steps must be" in fail("fsq:3^2", "--tokens", corpus, "--steps", "0", *where)
    assert "grounds['fsq:8'] must be at least 9, one for each token" in fail(
        "fsq:3^2", "--tokens", corpus, "--against", "fsq:8", *where
    )
    assert fail("fsq:3^2", "--tokens", corpus, "--against", "e9").startswith("Error: --against: ")
    assert "at least five levels" in fail("fsq:3^2", "--tokens", corpus, "--snr", "1,2", *where)
    assert not out.exists()


@pytest.mark.slow
def test_without_structure(tmp_path: Path) -> None:
    """Of nothing that neighbours tell, any share may be read."""
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(4, size=(20, 30)))
    out = tmp_path / "out"
    done = run("fsq:2^2", "--tokens", tmp_path / "noise.npy", *QUICK, "-o", out)
    assert done.exit_code == 0, done.output
    assert "No structure found" in done.stdout
    labels = pd.read_csv(out / "labels.csv")
    assert np.allclose(labels.share_low, 0)
    assert np.allclose(labels.share_high, 1)
