"""`tokenkl tts train` hands every option on: the recipe that it writes down says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tokenkl.cli.commands import app
from tokenkl.tts.recipes import RECIPE


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Token files, which need neither speech nor a tokenizer to be trained."""
    folder = tmp_path_factory.mktemp("tokens")
    rng = np.random.default_rng(0)
    sizes = [50 + i for i in range(40)]
    (folder / "a_info.txt").write_text("".join(f"{size / 25}|u{size}\n" for size in sizes))
    np.savez(folder / "a_speech.npz", *[rng.integers(6561, size=size) for size in sizes])
    np.savez(folder / "a_text.npz", *[rng.integers(34, size=20) for _ in sizes])
    return folder


def prepare(tokens: Path, runs: Path, *words: str) -> tuple[str, dict[str, Any]]:
    """The name of the run that begins, and its recipe."""
    fixed = ["--data", str(tokens), "--data-kind", "cdcd", "--folder", str(runs), "--prepare"]
    done = CliRunner().invoke(app, ["tts", "train", *fixed, *words])
    assert done.exit_code == 0, done.output
    assert "Ready: 38 examples" in done.output
    [path] = runs.glob(f"*/{RECIPE}")
    return path.parent.name, json.loads(path.read_text())


def test_options_of_training(tokens: Path, tmp_path: Path) -> None:
    name, recipe = prepare(
        tokens, tmp_path, "--preset", "paper", "--seed", "7", "--steps", "12", "--batch", "5",
        "--batch-tokens", "1500", "--precision", "bf16", "--minutes", "3", "--name", "own",
        "--tokenizer-steps", "77", "--on-bad", "skip",
    )  # fmt: skip
    assert name == "own"
    expected = {
        "key": 7,
        "training.steps": 12,
        "training.batch": 5,
        "training.batch_tokens": 1500,
        "training.mixed_precision": "bf16",
        "training.max_seconds": 180.0,
        "tokenizer_steps": 77,
        "data.on_bad": "skip",
        "data.kind": "cdcd",
    }
    assert {part: recipe[part] for part in expected} == expected


def test_options_of_the_model(tokens: Path, tmp_path: Path) -> None:
    name, recipe = prepare(
        tokens, tmp_path, "--preset", "tiny", "--text", "characters", "--head", "factorised",
        "--schedule", "cosine-vp", "--geometry", "spherical", "--seed", "3",
    )  # fmt: skip
    for part in ("factorised", "cosine-vp", "spherical", "characters", "seed3", "tiny"):
        assert f"-{part}-" in f"-{name}-"
    assert recipe["key"] == 3
    assert (recipe["geometry"], recipe["schedule"]) == ("spherical", "cosine-vp")
    assert ["head", "factorised"] in recipe["changes"]


def test_an_autoregressive_model_has_less_to_choose(tokens: Path, tmp_path: Path) -> None:
    name, recipe = prepare(
        tokens, tmp_path, "--preset", "tiny", "--text", "characters", "--model", "ar"
    )
    assert "ar" in name.split("-")
    assert "seed" not in name
    assert recipe["model"] == "ar"
    assert {part for part, _ in recipe["changes"]} <= {"width", "heads", "depth"}
    assert recipe["key"] == 0
