"""The command line on a residual codebook that cannot be enumerated."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tokenkl as tk
from tokenkl.cli.commands import app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    stages = [rng.standard_normal((64, 4)) / 2.8**s for s in range(12)]
    tk.save_codebook(tk.ResidualCodebook(stages), tmp_path / "rvq.npz")
    return tmp_path / "rvq.npz"


def test_profile(path: Path) -> None:
    target = path.parent / "out.json"
    words = ["profile", f"rvq:{path}", "--snr-db=0,30", "--samples", "20", "--json", str(target)]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert "a bracket, of half-width up to" in " ".join(done.stdout.split())
    record = json.loads(target.read_text())
    assert record["K"] == 2**72
    direct = tk.profile(
        tk.load_codebook(path), [1.0, 1e3], key=0, method=tk.MonteCarlo(n_samples=20)
    )
    entropy = record["quantities"]["conditional_entropy"]
    assert entropy["value"] == direct["conditional_entropy"].value.tolist()
    assert "particle filter" in entropy["method"][0]["estimator"]


def test_info(path: Path) -> None:
    done = CliRunner().invoke(app, ["info", f"rvq:{path}"], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert "72 bits" in done.stdout
