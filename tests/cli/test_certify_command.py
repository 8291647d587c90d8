"""`tokenkl certify`: what it shows and writes, and what its check refuses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from commands import commands

import tokenkl as tk
from tokenkl._formats import MAX_JSON
from tokenkl.cli.commands import app
from tokenkl.optimality.nn_bounds import PROOFS

run, succeed, fail = commands(app)


def test_shows_and_writes(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    done = succeed("certify", "fsq:4x3", "-o", path, "--json", tmp_path / "found.json")
    assert "not a maximum" in done.stdout
    record = json.loads((tmp_path / "found.json").read_text())
    assert (record["order"], record["arithmetic"], record["K"]) == (2, "exact", 12)
    assert "Verified: 12 tokens" in " ".join(succeed("certify", "--check", path).stdout.split())


def test_check_fails_where_nothing_is_proved(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    succeed("certify", "fsq:3^2", "--objective", "min_distance", "-o", path)
    found = json.loads(path.read_text())
    found["dual"][0][2] += 1
    path.write_text(json.dumps(found))
    done = run("certify", "--check", path)
    assert done.exit_code == 1
    assert "NOT verified" in done.stdout


def test_check_of_inequalities(tmp_path: Path) -> None:
    path = tmp_path / "less.json"
    tk.prove_less("1/3", "1/2").save(path)
    done = succeed("certify", "--check", path, "--json", tmp_path / "found.json")
    assert "Verified: 1 inequality" in done.stdout
    assert json.loads((tmp_path / "found.json").read_text())["proved"] is True
    record = json.loads(path.read_text())
    record["inequalities"][0]["less"]["quantity"]["value"] = "1/4"
    path.write_text(json.dumps(record))
    done = run("certify", "--check", path)
    assert done.exit_code == 1
    assert "NOT verified: an enclosure is not what is found" in " ".join(done.stdout.split())


def test_check_of_patterns(tmp_path: Path) -> None:
    packed = PROOFS / "patterns_2_5.json.gz"
    done = succeed("certify", "--check", packed, "-o", tmp_path / "same.json.gz")
    assert "the sum of r is at most 711/100 (10 patterns" in " ".join(done.stdout.split())
    assert (tmp_path / "same.json.gz").read_bytes() == packed.read_bytes()
    record = json.loads(gzip.decompress(packed.read_bytes()))
    path = tmp_path / "less.json"
    path.write_text(json.dumps(record | {"limit": 700}))
    done = run("certify", "--check", path)
    assert done.exit_code == 1
    assert "more than 7" in " ".join(done.stdout.split())
    # What would take days, or unpack to more than any memory, is not begun.
    path.write_text(json.dumps(record | {"K": 60}))
    done = run("certify", "--check", path)
    assert "K must be a whole number from 1 to 12" in " ".join(done.stdout.split())
    bomb = tmp_path / "bomb.json.gz"
    bomb.write_bytes(gzip.compress(b" " * (MAX_JSON + 1)))
    assert "it unpacks to more than" in fail("certify", "--check", bomb)
    bomb.write_bytes(packed.read_bytes()[:100])
    assert "it is damaged" in fail("certify", "--check", bomb)


def test_one_of_codebook_and_check(tmp_path: Path) -> None:
    for words in ((), ("fsq:3", "--check", tmp_path / "none.json")):
        done = run("certify", *words)
        assert done.exit_code != 0
        assert "CODEBOOK" in done.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"value": "x"}, "value"),
        ({"points": 5}, "points must be rows of 1 to 256 numbers"),
        ({"points": [[1, 2], [3]]}, "points: 2 numbers a row"),
        ({"points_over": 0}, "points_over must be above 0, whole"),
        ({"points": [[10**400], [1]]}, "certificate"),
        ({"direction": [[99, 0, 1]]}, "certificate"),
        ({"direction": [["a", 0, 1]]}, "certificate"),
        ({"format": "another"}, "no such description"),
    ],
)
def test_files_that_are_no_certificate(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    succeed("certify", "fsq:3^2", "-o", path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    done = run("certify", "--check", path)
    assert done.exit_code == 2
    assert done.stderr.count("\n") <= 3
    assert says in " ".join(done.stderr.split())
