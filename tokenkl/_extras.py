"""What is missing of an extra, and the command that adds it to this very installation."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit


class MissingExtra(ImportError):
    """Something needs a module that is not there; says the command that installs it."""

    def __init__(self, what: str, module: str, extra: str) -> None:
        how = install_command(extra)
        super().__init__(
            f"{what} needs {module}, which is not installed; `{how}` installs it.", name=module
        )


def install_command(extra: str) -> str:
    """The command that adds an extra to tokenkl as it was installed.

    From a package index, a checkout, an archive or a repository, by pip or uv: installers leave a
    note of it (PEP 376, PEP 610).
    """
    name = f"tokenkl[{extra}]"
    try:
        found = metadata.distribution("tokenkl")
    except metadata.PackageNotFoundError:  # code that is only on the path
        return _command("pip", "-e", f"{Path(__file__).parents[1]}[{extra}]")
    installer = (found.read_text("INSTALLER") or "pip").strip()
    note = json.loads(found.read_text("direct_url.json") or "{}")
    url = note.get("url", "")
    if "dir_info" in note:
        editable = ["-e"] * bool(note["dir_info"].get("editable"))
        return _command(installer, *editable, f"{unquote(urlsplit(url).path)}[{extra}]")
    if "vcs_info" in note:
        source = note["vcs_info"]
        url = f"{source['vcs']}+{url}@{source['commit_id']}"
        if "subdirectory" in note:
            url += f"#subdirectory={note['subdirectory']}"
    return _command(installer, f"{name} @ {url}" if url else name)


def _command(installer: str, *words: str) -> str:
    pip = ["uv", "pip", "install", "--python", sys.executable]
    pip = pip if installer == "uv" else [sys.executable, "-m", "pip", "install"]
    return shlex.join([*pip, *words])
