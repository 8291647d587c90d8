"""`tokenkl verify` in the terminal: table, files, exit codes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import commands

import tokenkl as tk
from tokenkl import verification
from tokenkl.cli.commands import app

run, _, fail = commands(app, "verify")


def test_table_and_files(tmp_path: Path) -> None:
    files = {name: tmp_path / f"checks.{name}" for name in ("json", "csv", "md")}
    done = run(
        "fsq:3^2",
        "--snr-db=-10,0,10",
        *("--json", str(files["json"])),
        *("--csv", str(files["csv"])),
        *("--report", str(files["md"])),
    )
    assert done.exit_code == 0, done.output
    assert "union bound" in done.stdout
    assert "0 fail" in " ".join(done.stdout.split())
    record = json.loads(files["json"].read_text())
    table = pd.read_csv(files["csv"])
    assert record["counts"]["fail"] == 0
    assert len(record["checks"]) == len(table) == sum(record["counts"].values())
    # All but what holds for one-hot tokens only.
    assert set(table["theorem"]) == set(verification.THEOREMS) - {"largest of normals"}
    assert files["md"].read_text().startswith("# Theorems checked on FSQ 3^2")


@pytest.mark.slow
def test_report_to_standard_output_and_sampled_codebook() -> None:
    done = run("rvq-is-no-spec")
    assert done.exit_code == 2
    done = run("perturb:fsq:3^3:0.1", "--snr-db=0,10", "--report", "-", "--samples", "2000")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("# Theorems checked on")


@pytest.mark.slow
def test_bits_where_a_side_is_measured_in_nats() -> None:
    words = ("onehot:5", "--snr-db=0,10", "--json", "-")
    nats, bits = (json.loads(run(*words, *more).stdout) for more in ((), ("--bits",)))
    assert nats["counts"] == bits["counts"]
    units: dict[str, set[tuple[str, str]]] = {}
    for one, other in zip(nats["checks"], bits["checks"], strict=True):
        factor = {"nats": np.log(2)}.get(one["unit"], 1.0)
        units.setdefault(one["theorem"], set()).add((one["unit"], other["unit"]))
        for side in ("left", "right", "margin", "error"):
            assert other[side] * factor == pytest.approx(one[side], rel=1e-12)
        same = ("theorem", "snr", "verdict")
        assert [one[name] for name in same] == [other[name] for name in same]
    assert units["H, sampled anew"] == units["I-MMSE"] == units["Fano"] == {("nats", "bits")}
    assert units["complement"] == units["largest of normals"] == {("", "")}
    assert units["mmse, sampled anew"] == {("squared distance", "squared distance")}
    assert units["monotone in the SNR"] == {  # each of the quantities that fall
        ("", ""),
        ("nats", "bits"),
        ("squared distance", "squared distance"),
    }
    balance = next(one for one in bits["checks"] if one["theorem"] == "entropy balance")
    assert balance["right"] == pytest.approx(np.log2(5))
    shown = run("onehot:5", "--snr-db=0,10", "--bits", "--report", "-").stdout
    assert "| bits |" in shown
    assert "nats" not in shown


def test_exit_code_of_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has no way to inject an error, so the library's function is replaced."""
    right = verification.verify

    def wrong(*arguments: Any, **options: Any) -> Any:
        def measure(*inner: Any, **more: Any) -> tk.Profile:
            found = tk.profile(*inner, **more)
            doubled = dataclasses.replace(found["mmse"], value=2 * found["mmse"].value)
            return dataclasses.replace(found, estimates={**found.estimates, "mmse": doubled})

        return right(*arguments, **options, measure=measure)

    monkeypatch.setattr(verification, "verify", wrong)
    done = run("fsq:3^2", "--snr-db=0,10")
    assert done.exit_code == 1
    assert "fail" in done.stdout


def test_zero_snr_is_refused() -> None:
    done = run("fsq:3^2", "--snr", "0,1")
    assert done.exit_code == 2
    assert "--snr must be above 0 everywhere" in done.stderr


def test_a_codebook_of_which_not_all_is_found() -> None:
    assert "CODEBOOK must be one whose quantities are all found" in fail("d:4^24")
