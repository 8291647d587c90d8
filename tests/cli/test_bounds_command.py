"""`tokenkl bounds` in the terminal: table, files, and ends that are rounded outwards."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import commands

import tokenkl as tk
from tokenkl.bounds import outward
from tokenkl.cli.commands import app

run, succeed, fail = commands(app, "bounds")


def test_table_and_files(tmp_path: Path) -> None:
    files = {name: tmp_path / f"bounds.{name}" for name in ("json", "csv")}
    done = succeed(
        "fsq:3^8", "--snr", "0.1,10", "--json", files["json"], "--csv", files["csv"],
        "--quantities", "accuracy,mmse",
    )  # fmt: skip
    assert "0.529417" in done.stdout
    assert "by part < union bound" in done.stdout
    assert "MMSE (squared distance)" in done.stdout
    record, table = json.loads(files["json"].read_text()), pd.read_csv(files["csv"])
    assert record["bounds"][0].keys() == set(table.columns)
    assert len(record["bounds"]) == len(table) == 4
    found = tk.profile(tk.FSQ((3,) * 8), [0.1, 10.0])
    for row in record["bounds"]:
        value = float(found[row["quantity"]].value[[0.1, 10.0].index(row["snr"])])
        assert row["lower"] <= value * (1 + 1e-11)
        assert row["upper"] >= value * (1 - 1e-11)


def test_bits_and_messages() -> None:
    nats, bits = (
        json.loads(succeed("onehot:7", "--snr", "2", *more, "--json", "-").stdout)["bounds"]
        for more in ((), ("--bits",))
    )
    for one, other in zip(nats, bits, strict=True):
        factor = np.log(2) if one["unit"] == "nats" else 1.0
        assert other["lower"] == pytest.approx(one["lower"] / factor)
    assert "a comma list of accuracy" in fail("fsq:3", "--quantities", "loss")
    assert "CODEBOOK" in fail("nothing")


def test_a_bracket_prints_what_holds() -> None:
    rng = np.random.default_rng(0)
    for value in (*rng.normal(size=50), 1e-300, 0.0, 123456.7, 1 / 3, -2 / 3):
        assert float(outward(value, "lower")) <= value <= float(outward(value, "upper"))
        assert float(outward(value, "upper")) - value <= 1e-5 * abs(value)
    assert outward(np.inf, "upper") == "inf"
    one = tk.bracket(tk.FSQ((3,) * 8), 10.0, "accuracy")
    assert repr(one) == (
        "<0.529417 <= accuracy <= 0.531816 at snr = 10 "
        "[by part < union bound; by part < Bonferroni, second order]>"
    )
    several = repr(tk.bracket(tk.OneHot(3), [0.5, 2.0], "mutual_information"))
    assert several.startswith("Bracket of mutual_information at 2 SNRs:\n")
    assert len(several.splitlines()) == 3
    assert several.count(" nats at snr = ") == 2
    with pytest.raises(ValueError, match="bits must be asked of information or entropy"):
        _ = one.bits
