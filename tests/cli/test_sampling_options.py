"""The sampling commands hand every option on: each is far from its default, against the library."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import tokenkl as tk
from tokenkl.cli.commands import app
from tokenkl.optimality.design import CRITERIA


def output(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    return done.stdout


def record(*words: str) -> dict[str, Any]:
    return json.loads(output(*words, "--json", "-"))


def table(*words: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(output(*words, "--csv", "-")))


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, np.ndarray]:
    path = tmp_path_factory.mktemp("prior") / "prior.npy"
    np.save(path, np.array([0.7, 0.2, 0.1]))
    return str(path), np.array([0.7, 0.2, 0.1])


@pytest.mark.slow
@pytest.mark.parametrize("by", CRITERIA)
def test_recommend_levels(by: str) -> None:
    words = "recommend-levels --budget-bits 7.3 --n-min 2 --n-max 6 --snr-db 4 --power 1.5 --top 5"
    found = record(*words.split(), "--by", by)["grids"]
    options: dict[str, Any] = {"n_range": (2, 6), "snr": 10**0.4, "power": 1.5}
    best = tk.recommend_levels(budget_bits=7.3, by=by, top=5, **options)
    assert [one["K"] for one in found] == [one.K for one in best]
    for other in set(CRITERIA) - {by}:  # or the test would not see the option
        lists = tk.recommend_levels(budget_bits=7.3, by=other, top=5, **options)
        assert [one.levels for one in lists] != [one.levels for one in best]


@pytest.mark.parametrize("grid", ["uniform", "cosine", "edm", "optimal"])
def test_sampler_kl(grid: str, prior: tuple[str, np.ndarray]) -> None:
    path, values = prior
    words = f"sampler-kl fsq:3 --prior {path} --steps 3 --grid {grid} --start-db -9 --stop-db 11"
    words += " --start-scale 0.7 --temperature 0.6 --token"
    codebook = tk.FSQ((3,), priors=[values])
    low, high = 10**-0.9, 10**1.1
    if grid == "optimal":
        steps = tk.optimal_steps(codebook, 3, low, high).snr
    else:
        steps = tk.step_grid(grid, 3, low, high)
    [row] = table(*words.split()).itertuples()
    cost = tk.ancestral_kl(codebook, steps)
    assert row.path_kl == pytest.approx(float(cost), rel=1e-6)
    for sampler in ("ddim", "ddpm"):
        law = tk.produced_law(codebook, steps, sampler=sampler, temperature=0.6, start=0.7)
        assert getattr(row, f"{sampler}_token_kl") == pytest.approx(float(law.kl), rel=1e-6)
        assert getattr(row, f"{sampler}_tv") == pytest.approx(float(law.total_variation), rel=1e-6)
    found = record(*words.split())
    start = tk.prior_mismatch(codebook, low, start=0.7)
    assert found["prior_mismatch"]["value"] == pytest.approx(float(start), rel=1e-9)
    assert found["snr_grids"] == [pytest.approx(steps.tolist(), rel=1e-9)]


def test_sampled_paths_depend_on_the_seed_and_their_number() -> None:
    words = ("sampler-kl", "perturb:fsq:2^2:0.1", "--steps", "2", "--token", "--samples", "300")
    first, second = (record(*words, "--seed", seed) for seed in ("1", "2"))
    assert first["path_kl"]["value"] != second["path_kl"]["value"]
    assert first["ddpm_token_kl"]["n_samples"] == first["path_kl"]["n_samples"] == 300
    # Where everything is exact nothing is sampled.
    exact = record(*words[:1], "fsq:3", *words[2:])
    for name in ("path_kl", "ddim_token_kl", "ddpm_tv"):
        assert exact[name]["standard_error"] in (0, [0])


def test_noise_schedule(prior: tuple[str, np.ndarray]) -> None:
    path, values = prior
    words = f"noise-schedule fsq:3 --prior {path} --points 7 --schedule flow-matching"
    frame = table(*words.split())
    law = tk.information_uniform_schedule(tk.FSQ((3,), priors=[values]))
    share = np.arange(8) / 7
    x = law.quantile(share)
    np.testing.assert_allclose(frame["information_share"], share)
    np.testing.assert_allclose(frame["snr_db"], 10 * x / np.log(10), rtol=1e-9)
    np.testing.assert_allclose(tk.FlowMatching().snr(frame["t"].to_numpy()), np.exp(x), rtol=1e-6)
    np.testing.assert_allclose(
        np.diff(frame["information_share"]),
        [np.trapezoid(law.density(np.linspace(a, b, 20001)), dx=(b - a) / 20000)
         for a, b in itertools.pairwise(x)], rtol=1e-4,
    )  # fmt: skip
    np.testing.assert_allclose(frame["density_per_db"], law.density(x) * np.log(10) / 10)


def test_steps(prior: tuple[str, np.ndarray]) -> None:
    path, values = prior
    words = f"steps fsq:3 --prior {path} --steps 3 --start-db -6 --stop-db 9 --schedule edm"
    found = record(*words.split())
    codebook = tk.FSQ((3,), priors=[values])
    best = tk.optimal_steps(codebook, 3, 10**-0.6, 10**0.9)
    assert found["snr"] == pytest.approx(best.snr.tolist(), rel=1e-9)
    assert found["asymptotic_path_kl"] == pytest.approx(float(best.asymptotic_kl), rel=1e-9)
    for name, one in found["others"].items():
        cost = tk.ancestral_kl(codebook, tk.step_grid(name, 3, 10**-0.6, 10**0.9))
        assert one["value"] == pytest.approx(float(cost), rel=1e-6)


@pytest.mark.parametrize("level", ["300", "-300"])
def test_ends_of_the_range_of_noise(level: str) -> None:
    """The limits themselves are allowed, and one beyond is not."""
    start, stop = ("-300", level) if level == "300" else (level, "-299")
    words = ("sampler-kl", "fsq:2", "--steps", "1", "--start-db", start, "--stop-db", stop)
    assert len(record(*words)["N"]) == 1
    beyond = CliRunner().invoke(app, [*words[:-1], "301"])
    assert beyond.exit_code == 2
    same = CliRunner().invoke(app, [*words[:-1], start])
    assert same.exit_code == 2


def test_files_hold_what_is_printed(tmp_path: Path) -> None:
    words = ("recommend-levels", "--budget-bits", "5", "--top", "2")
    output(*words, "--csv", str(tmp_path / "x.csv"), "--json", str(tmp_path / "x.json"))
    frame, found = pd.read_csv(tmp_path / "x.csv"), json.loads((tmp_path / "x.json").read_text())
    assert frame["K"].tolist() == [one["K"] for one in found["grids"]]
    assert len(frame) == 2
