"""Every command that shows numbers in nats shows them in bits where that is asked for."""

from pathlib import Path

import numpy as np
import pytest
import typer
from commands import commands

from tokenkl.cli.commands import app

_, succeed, _ = commands(app)

#: Words of every command that shows what is measured in nats.
WORDS = {
    "profile": "fsq:3 --snr 1",
    "compare": "fsq:3 onehot:3 --snr 1",
    "bounds": "fsq:3 --snr 1",
    "verify": "fsq:3 --snr 1",
    "path-kl": "--a1=-1 --a2=1",
    "steps": "fsq:3 --steps 2",
    "sampler-kl": "fsq:3 --steps 2 --token",
    "noise-schedule": "fsq:3",
    "relabel": "fsq:3 --tokens {tokens}",
}
#: Those that show no information, or in bits: `info` in both; and `context`, tested elsewhere.
OTHERS = {"certify", "context", "info", "recommend-levels", "report", "search", "tts"} | {
    "derive",
    "doctor",
    "findings",
    "reproduce",
}


def test_all_commands_are_here() -> None:
    assert set(typer.main.get_group(app).commands) == WORDS.keys() | OTHERS


@pytest.mark.parametrize("command", WORDS)
def test_bits_in_place_of_nats(command: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.npy"
    np.save(tokens, np.tile([0, 1, 2, 1], (20, 10)))
    given = WORDS[command].format(tokens=tokens).split()
    words = (command, *given, "--json", tmp_path / "found.json")
    said = []
    for more in ((), ("--bits",)):
        shown = succeed(*words, *more).stdout
        record = (tmp_path / "found.json").read_text()
        said.append([(unit in shown, f'"{unit}"' in record) for unit in ("nats", "bits")])
    assert said == [[(True, True), (False, False)], [(False, False), (True, True)]]
