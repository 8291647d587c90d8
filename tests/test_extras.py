"""The command that adds an extra, for every way in which tokenkl can have been installed."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tokenkl
from tokenkl._extras import MissingExtra, install_command

GIT = {"vcs": "git", "commit_id": "0123abc"}
PIP = [sys.executable, "-m", "pip", "install"]
UV = ["uv", "pip", "install", "--python", sys.executable]


@pytest.mark.parametrize(
    ("installer", "note", "source"),
    [
        ("pip", None, ["tokenkl[tts]"]),
        ("uv", None, ["tokenkl[tts]"]),
        (None, None, ["tokenkl[tts]"]),
        ("pip", {"url": "file:///a%20b/c", "dir_info": {"editable": True}}, ["-e", "/a b/c[tts]"]),
        ("pip", {"url": "file:///a/c", "dir_info": {}}, ["/a/c[tts]"]),
        (
            "uv",
            {"url": "https://host/t.git", "vcs_info": GIT, "subdirectory": "sub"},
            ["tokenkl[tts] @ git+https://host/t.git@0123abc#subdirectory=sub"],
        ),
        (
            "pip",
            {"url": "file:///a/tokenkl-1-py3-none-any.whl", "archive_info": {}},
            ["tokenkl[tts] @ file:///a/tokenkl-1-py3-none-any.whl"],
        ),
    ],
)
def test_as_it_was_installed(
    installer: str | None,
    note: dict[str, Any] | None,
    source: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "tokenkl-9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: tokenkl\nVersion: 9\n")
    if installer is not None:
        (folder / "INSTALLER").write_text(f"{installer}\n")
    if note is not None:
        (folder / "direct_url.json").write_text(json.dumps(note))
    monkeypatch.syspath_prepend(tmp_path)
    words = shlex.split(install_command("tts"))
    assert words == [*(UV if installer == "uv" else PIP), *source]


def test_as_code_on_the_path_alone() -> None:
    root = Path(tokenkl.__file__).parents[1]
    code = f"import runpy; its = runpy.run_path({str(root / 'tokenkl' / '_extras.py')!r})\n"
    code += "print(its['install_command']('torch'))"
    # Without the packages beside Python there is no note on how anything was installed.
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert shlex.split(done.stdout)[-2:] == ["-e", f"{root}[torch]"]


def test_the_sentence() -> None:
    error = MissingExtra("the judge", "pocketsphinx", "tts")
    assert isinstance(error, ImportError)
    how = f"which is not installed; `{install_command('tts')}` installs it."
    assert str(error) == f"the judge needs pocketsphinx, {how}"


@pytest.mark.slow
def test_all_names_without_an_extra() -> None:
    """`from tokenkl import *` takes none of a module that is not there."""
    code = "import sys; sys.modules['torch'] = None\n"
    code += "from tokenkl import *; print(FSQ((3,) * 8).K)\n"
    code += "import tokenkl; tokenkl.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "6561\n", done.stderr
    assert "MissingExtra: tokenkl.torch needs torch" in done.stderr
