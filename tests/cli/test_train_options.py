"""`tokenkl tts train` hands every option on: the recipe that it writes down says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tokenkl.cli.commands import app
from tokenkl.tts.recipes import RECIPE, RECIPES


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
        "--tokenizer-steps", "77", "--on-bad", "skip", "--longest", "20",
    )  # fmt: skip
    assert name == "own"
    expected = {
        "key": 7,
        "data.longest": 20.0,
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


def test_numbers_of_the_model(tokens: Path, tmp_path: Path) -> None:
    name, recipe = prepare(
        tokens, tmp_path, "--preset", "tiny", "--width", "64", "--depth", "2", "--dropout", "0.1",
        "--token-dropout", "0.2", "--drop-text", "0", "--no-output-prior", "--view", "box",
        "--learning-rate", "3e-4", "--ema", "0.9", "--patience", "4",
    )  # fmt: skip
    changes = dict(recipe["changes"])
    expected = {
        "width": 64, "depth": 2, "dropout": 0.1, "token_dropout": 0.2, "drop_text": 0.0,
        "output_prior": False, "head": "factorised", "text_width": 64,
    }  # fmt: skip
    assert changes.items() >= expected.items()
    assert (recipe["view"], recipe["patience"]) == ("box", 4)
    assert (recipe["training.learning_rate"], recipe["training.ema"]) == (3e-4, 0.9)
    told = "box width64 depth2 dropout0.1 token_dropout0.2 drop_text0 no_output_prior"
    for part in f"{told} learning_rate0.0003 ema0.9 patience4".split():
        assert f"-{part}-" in f"-{name}-"


def test_patience_is_told(tokens: Path, tmp_path: Path) -> None:
    words = "--preset tiny --width 16 --depth 1 --steps 3 --batch 4 --patience 1 --cpu --name a"
    fixed = ["--data", str(tokens), "--data-kind", "cdcd", "--folder", str(tmp_path)]
    done = CliRunner().invoke(app, ["tts", "train", *fixed, *words.split()])
    assert done.exit_code == 0, done.output
    assert "Ended after 3 of 3 steps, all made; the weights are those of step 3" in done.stderr


def test_a_twin_with_dropout(tokens: Path, tmp_path: Path) -> None:
    _, recipe = prepare(
        tokens, tmp_path, "--text", "characters", "--model", "ar", "--dropout", "0.1", "--depth",
        "3", "--token-dropout", "0.2", "--patience", "2",
    )  # fmt: skip
    assert dict(recipe["changes"]) == {"dropout": 0.1, "depth": 3, "token_dropout": 0.2}


def test_what_is_not_asked_for_is_not_recorded(tokens: Path, tmp_path: Path) -> None:
    """Records of older runs and of stored experiments stay as they are."""
    assert "patience" not in prepare(tokens, tmp_path, "--preset", "tiny")[1]
    assert "patience" not in RECIPES["tiny"].to_json()


def test_an_autoregressive_model_has_less_to_choose(tokens: Path, tmp_path: Path) -> None:
    name, recipe = prepare(
        tokens, tmp_path, "--preset", "tiny", "--text", "characters", "--model", "ar"
    )
    assert "ar" in name.split("-")
    assert "seed" not in name
    assert recipe["model"] == "ar"
    assert {part for part, _ in recipe["changes"]} <= {"width", "heads", "depth"}
    assert recipe["key"] == 0
