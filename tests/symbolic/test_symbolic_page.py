"""The committed page is what the command writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tokenkl._extras import install_command
from tokenkl.cli.commands import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "theory" / "derivations.md"


@pytest.mark.slow
def test_committed_page_is_what_the_command_writes(tmp_path: Path) -> None:
    written = tmp_path / "page.md"
    # In a process of its own, with other hashes: the order of SymPy's sets must not matter.
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-m", "tokenkl.cli", "derive", "--latex", str(written)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert written.read_text() == PAGE.read_text(), "run `tokenkl derive` and commit the page"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["derive", "--latex", str(tmp_path / "no" / "page.md")])
    assert done.exit_code == 2
    assert "in a folder that exists" in done.stderr


def test_without_sympy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [one for one in sys.modules if one.startswith("tokenkl.symbolic")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sympy", None)
    done = CliRunner().invoke(app, ["derive", "--latex", str(tmp_path / "page.md")])
    assert done.exit_code == 2
    assert install_command("symbolic") in done.stderr
