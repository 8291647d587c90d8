"""All commands, in the order of the help: each registers with the app when it is imported.

Heavy imports stay inside the commands, so that `tokenkl --help` is quick.
"""

from __future__ import annotations

import importlib

from tokenkl.cli._app import app as app

for _module in (
    "profiles",
    "path_kl",
    "derive",
    "sampling",
    "bounds",
    "relabel",
    "context",
    "verify",
    "certify",
    "search",
    "report",
    "reproduce",
    "findings",
    "tts",
    "doctor",
):
    importlib.import_module(f"tokenkl.cli.{_module}")
