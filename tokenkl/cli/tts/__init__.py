"""`tokenkl tts`: speak, train, evaluate, tokenize, and pages to listen to.

One module for each command; what they share is in `_group`.
"""

from __future__ import annotations

import importlib

# A command registers with the group when its module is imported; this is the order of the help.
for _module in ("say", "train", "evaluate", "tokenize", "report"):
    importlib.import_module(f"tokenkl.cli.tts.{_module}")
