"""`tokenkl steps`, `sampler-kl`, `noise-schedule`, `recommend-levels`: tables, files, mistakes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import commands

import tokenkl as tk
from tokenkl.cli.commands import app

run, succeed, fail = commands(app)


def table(*words: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(succeed(*words, "--csv", "-").stdout))


def record(*words: str) -> dict[str, Any]:
    return json.loads(succeed(*words, "--json", "-").stdout)


def test_steps() -> None:
    best = tk.optimal_steps(tk.FSQ((3, 3)), 4, 1e-3, 10.0)
    words = ("steps", "fsq:3^2", "--steps", "4", "--stop-db", "10", "--schedule", "cosine-vp")
    frame, found = table(*words), record(*words)
    assert np.allclose(frame["snr"], best.snr, rtol=1e-9)
    assert np.allclose(tk.CosineVP().snr(frame["t"]), best.snr, rtol=1e-9)
    assert found["path_kl"]["value"] == pytest.approx(float(best.kl), rel=1e-9)
    assert set(found["others"]) == {"uniform", "cosine", "log-snr", "edm"}
    assert all(one["value"] > float(best.kl) for one in found["others"].values())
    shown = succeed(*words).stdout
    assert "times the optimum" in shown
    assert "CosineVP" in shown
    in_bits = record(*words, "--bits")
    assert (found["unit"], in_bits["unit"]) == ("nats", "bits")
    values = [(one["path_kl"]["value"], one["asymptotic_path_kl"]) for one in (found, in_bits)]
    assert np.allclose(values[0], np.multiply(values[1], np.log(2)), rtol=1e-12)
    assert in_bits["others"]["edm"]["value"] * np.log(2) == pytest.approx(
        found["others"]["edm"]["value"], rel=1e-12
    )
    assert "Path KL in bits" in succeed(*words, "--bits").stdout


def test_steps_beyond_a_schedule() -> None:
    frame = table("steps", "fsq:2^2", "--steps", "3", "--schedule", "ve:0.5,50")
    assert np.isnan(frame["t"].iloc[-1])  # VE from 0.5 stops at 6 dB
    assert np.isfinite(frame["t"].iloc[1])


def test_sampler_kl() -> None:
    words = ("sampler-kl", "fsq:3^2", "--steps", "2,5", "--grid", "log-snr", "--token")
    frame = table(*words)
    for N, row in zip((2, 5), frame.itertuples(), strict=True):
        grid = tk.step_grid("log-snr", N, 1e-3, 10**1.8)
        expected = float(tk.ancestral_kl(tk.FSQ((3, 3)), grid))
        assert row.path_kl == pytest.approx(expected, rel=1e-6)
        for sampler in ("ddim", "ddpm"):
            law = tk.produced_law(tk.FSQ((3, 3)), grid, sampler=sampler)
            assert getattr(row, f"{sampler}_token_kl") == pytest.approx(float(law.kl), rel=1e-6)
    in_bits = table(*words, "--bits")
    assert np.allclose(in_bits["path_kl_bits"] * np.log(2), frame["path_kl"])
    assert "Prior mismatch" in succeed(*words).stdout


def test_sampler_kl_of_a_sampled_codebook() -> None:
    kind = ("sampler-kl", "perturb:fsq:3^2:0.1", "--steps", "3", "--grid", "optimal")
    words = (*kind, "--samples", "500", "--token")
    found = record(*words)
    assert found["path_kl"]["n_samples"] == 500
    assert found["ddim_token_kl"]["n_samples"] == 500
    assert "±" in succeed(*words).stdout


def test_a_noise_schedule_of_a_sampled_codebook() -> None:
    words = ("noise-schedule", "perturb:fsq:3^2:0.1", "--samples")
    few, many = (record(*words, str(count))["standard_error"] for count in (300, 30_000))
    assert 0 < many < few / 3


def test_noise_schedule() -> None:
    frame = table("noise-schedule", "fsq:3^4", "--points", "4")
    law = tk.information_uniform_schedule(tk.FSQ((3,) * 4))
    assert np.allclose(np.log(frame["snr"]), law.quantile(np.arange(5) / 4))
    assert np.allclose(frame["weight"], law.weight(tk.LinearVP(), frame["t"]), rtol=1e-4)
    assert "share of" in succeed("noise-schedule", "fsq:3^4").stdout
    nats, bits = (record("noise-schedule", "fsq:3^4", *more) for more in ((), ("--bits",)))
    assert nats["information"] == law.information
    assert bits["information"] * np.log(2) == pytest.approx(law.information, rel=1e-12)


def test_prior_file(tmp_path: Path) -> None:
    np.save(tmp_path / "prior.npy", np.array([0.9, 0.05, 0.05]))
    frame = table("noise-schedule", "fsq:3", "--prior", str(tmp_path / "prior.npy"))
    equal = table("noise-schedule", "fsq:3")
    assert frame["snr_db"].iloc[5] != pytest.approx(equal["snr_db"].iloc[5], abs=0.1)


def test_a_record_in_bits_holds_bits() -> None:
    words = ("sampler-kl", "fsq:3", "--steps", "2", "--token")
    nats, bits = record(*words), record(*words, "--bits")
    assert (nats["unit"], bits["unit"]) == ("nats", "bits")
    for name in ("path_kl", "ddim_token_kl", "ddpm_token_kl", "prior_mismatch"):
        for part in ("value", "interval_high"):
            assert np.multiply(bits[name][part], np.log(2)) == pytest.approx(nats[name][part])
    assert bits["ddim_tv"] == nats["ddim_tv"]


def test_recommend_levels() -> None:
    words = ("recommend-levels", "--budget-tokens", "1000", "--n-max", "5", "--top", "3")
    frame = table(*words)
    best = tk.recommend_levels(budget_tokens=1000, n_range=(1, 5), snr=10.0, top=3)
    assert frame["K"].tolist() == [one.K for one in best]
    assert np.allclose(frame["information_bits"] * np.log(2), [one.information for one in best])
    assert len(record(*words)["grids"]) == 3
    assert "in the box" in succeed(*words).stdout


@pytest.mark.slow
def test_instead_of_levels() -> None:
    words = ("recommend-levels", "--instead-of", "8,6,5", "--error", "0.01", "--seed", "3")
    frame = table(*words, "--constraint", "power")
    found = tk.which_grid((8, 6, 5), error=0.01, constraint="power", key=3)
    assert frame["name"].tolist() == [one.name for one in found.choices]
    gains = [float(one.gain_at_power.value) for one in found.choices]
    assert np.allclose(frame["gain_at_power"], gains)
    told = record(*words, "--top", "2")
    assert (told["error"], len(told["choices"])) == (0.01, 2)
    shown = succeed(*words).stdout
    assert "checkerboard" in shown
    assert "at 50 % error it is" in " ".join(shown.split())


def test_instead_of_tokens_and_coordinates() -> None:
    words = ("recommend-levels", "--budget-tokens", "60", "--coordinates", "3", "--snr-db", "17")
    assert record(*words)["given"] == [4, 4, 4]


@pytest.mark.parametrize(
    "words",
    [
        ("steps", "fsq:3^2", "--steps", "2"),
        ("sampler-kl", "fsq:3^2", "--steps", "1,2", "--token"),
        ("noise-schedule", "fsq:3^2"),
        ("recommend-levels", "--budget-bits", "6"),
        ("recommend-levels", "--instead-of", "4,3", "--error", "0.1"),
    ],
)
def test_figures(words: tuple[str, ...], tmp_path: Path) -> None:
    target = tmp_path / "figure.png"
    assert "Wrote" in succeed(*words, "--plot", str(target)).stderr
    assert target.stat().st_size > 2000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("steps", "fsq:3", "--stop-db", "-40"), "--stop-db must be above --start-db"),
        (("steps", "fsq:3", "--start-db", "-400"), "--start-db must be between"),
        (("sampler-kl", "fsq:3", "--steps", "1.5"), "--steps must be whole numbers"),
        (("sampler-kl", "fsq:3", "--grid", "ddpm"), "--grid must be one of"),
        (("sampler-kl", "fsq:3", "--token", "--temperature", "0"), "temperature must be"),
        (("noise-schedule", "nothing"), "CODEBOOK must be"),
        (("recommend-levels",), "must be given, and only one of them"),
        (("recommend-levels", "--error", "0.1"), "--error must be given with --instead-of"),
        (("recommend-levels", "--instead-of", "8,x"), "--instead-of must be a level set such as"),
        (("recommend-levels", "--instead-of", "8,5", "--power", "1"), "must be left out with"),
        (("recommend-levels", "--coordinates", "2"), "levels, n and K must be"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str) -> None:
    assert message in fail(*words)
