"""`tokenkl doctor` is content here, and sees what is wrong elsewhere."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from commands import commands

from tokenkl.cli import doctor
from tokenkl.cli._app import app
from tokenkl.numerics import compiled
from tokenkl.verification import selftest

run, succeed, _ = commands(app)
REFERENCES = Path(__file__).resolve().parents[1] / "references"


def test_what_is_known_is_what_the_references_say() -> None:
    tables = {
        "onehot": json.loads((REFERENCES / "onehot.json").read_text()),
        "fsq": json.loads((REFERENCES / "product.json").read_text()),
    }
    for one in selftest.KNOWN:
        kind, _, size = one.specification.partition(":")
        entries = []
        for entry in tables[kind]:
            levels = entry.get("levels", [])
            equal = entry["prior"] == "equal" or len(set(entry["prior"])) == 1
            K = entry.get("K", len(levels))
            spaced = levels in ([], [-1.0, 1.0], [-1.0, 0.0, 1.0])
            if equal and spaced and (str(K), entry["snr"]) == (size, one.snr):
                entries.append(tuple(entry[name] for name in selftest.QUANTITIES))
        assert one.values in entries, one
    assert min(float(one.values[0]) for one in selftest.KNOWN) < 1e-77


@pytest.mark.slow
def test_all_is_well_here(tmp_path: Path) -> None:
    said = succeed("doctor", "--json", tmp_path / "found.json").stdout
    assert said.splitlines()[-1] == "All is well."
    record = json.loads((tmp_path / "found.json").read_text())
    assert record["well"] is True
    states = {one["what"].strip(): one["state"] for one in record["findings"]}
    names = {"Python", "tokenkl", "numpy", "threads", "JAX devices", "compiled code"}
    tested = {"exact formulas", "sampling", "rare errors", "gradients", "files"}
    assert names | {f"self test: {name}" for name in tested} <= states.keys()
    assert set(states.values()) <= {"ok", "note"}


def test_a_wrong_value_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    known = list(selftest.KNOWN)
    error, entropy, information, mse = known[0].values
    values = (str(float(error) * (1 + 3e-11)), entropy, information, mse)
    monkeypatch.setattr(selftest, "KNOWN", (known[0]._replace(values=values), *known[1:]))

    def broken() -> Any:
        return math.sqrt(-1)

    for name in ("rare errors", "gradients"):
        monkeypatch.setitem(selftest.CHECKS, name, broken)
    monkeypatch.setitem(selftest.CHECKS, "files", lambda: (1.0, 0.0, "in a coordinate"))
    for name in ("_python", "_packages", "_threads", "_devices", "_cache"):
        monkeypatch.setattr(doctor, name, list)
    done = run("doctor")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("self test: exact formulas  WRONG: off by 3e-11 of a value")
    assert lines[1].startswith("self test: sampling        off by 0.")
    assert " ".join(lines[2].split()).startswith("self test: rare errors WRONG: ValueError: ")
    assert lines[-1] == "4 of 5 findings are wrong."


def test_versions_that_are_too_old_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        "numpy>=99",
        "scipy>=1.15",
        "no-such-package>=1",
        'sympy>=1.13.3; extra == "symbolic"',
        'no-such-extra>=1; extra == "more"',
        'scipy>=99; extra == "old"',
    ]

    class Meta:
        def get_all(self, name: str) -> list[str]:
            return ["symbolic", "more", "old"]

    monkeypatch.setattr(doctor.metadata, "requires", lambda name: asked)
    monkeypatch.setattr(doctor.metadata, "metadata", lambda name: Meta())
    found = {one.what.strip(): (one.state, one.said) for one in doctor._packages()}
    assert {name: state for name, (state, _) in found.items()} == {
        "numpy": "WRONG",
        "scipy": "ok",
        "no-such-package": "WRONG",
        "extra symbolic": "ok",
        "extra more": "note",
        "extra old": "WRONG",
    }
    assert found["numpy"][1].endswith(", but >=99 is asked for")
    assert found["extra more"][1].startswith("without no-such-extra; `")


def test_without_a_folder_for_compiled_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "code_folder", lambda: None)
    assert [one.state for one in doctor._cache()] == ["note"]
    monkeypatch.setattr(compiled, "code_folder", lambda: tmp_path / "gone")
    (found,) = doctor._cache()
    assert (found.state, "every start compiles anew" in found.said) == ("note", True)
