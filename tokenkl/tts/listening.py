"""A page to listen to: what voices say, at several numbers of steps, with pictures and numbers.

The page is one HTML file beside its sounds and pictures; it loads nothing from elsewhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float

from tokenkl._files import PathLike, atomic_files
from tokenkl._formats import reading
from tokenkl.pages import page, pairs
from tokenkl.pages import text as html_of
from tokenkl.tts.audio import SAMPLE_RATE, write_wav
from tokenkl.tts.spectrogram import plot_spectrogram


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One thing to listen to: who says what, how ("10 steps"), and the audio at 16 kHz.

    `heard` are the words that a judge has heard in it; None where none has listened.
    """

    voice: str
    text: str
    how: str
    audio: Float[np.ndarray, " samples"]
    heard: str | None = None


@dataclasses.dataclass(frozen=True)
class About:
    """What a page says of a voice.

    - `facts`: names and values, as plain text.
    - `losses`: the folder of its training run, if it is there.
    - `evaluations`: records of `tokenkl tts eval` in which it occurs.
    """

    facts: Mapping[str, str]
    losses: Path | None = None
    evaluations: Sequence[Mapping[str, Any]] = ()


def write_page(
    folder: PathLike, samples: Sequence[Sample], about: Mapping[str, About], *, title: str
) -> tuple[Path, int]:
    """Write index.html with its .wav and .png files.

    Args:
        folder: made if it is not there; files of the same names are replaced.
        samples: in the order in which they are to be heard.
        about: of every voice that occurs.
        title: of the page, plain text.

    Returns:
        The page, and the bytes of all files that were written.

    Raises:
        ValueError: a folder that cannot be made.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    parts = [f"<h1>{html_of(title)}</h1>"]
    written: list[Path] = []
    with atomic_files() as together:

        def new(name: str) -> Path:
            written.append(root / name)
            return together(written[-1])

        for number, (voice, known) in enumerate(about.items(), start=1):
            parts.append(f"<h2>{html_of(voice)}</h2>")
            parts.append(pairs(known.facts.items()))
            ours = [sample for sample in samples if sample.voice == voice]
            if ours:
                parts.append(_players(new, f"voice{number}", ours))
            for record in known.evaluations:
                parts.append(_evaluation(record, voice))
            if known.losses is not None:
                parts.append(_losses(new, f"voice{number}", voice, known.losses))
        new("index.html").write_text(page(title, parts), encoding="utf-8")
    return written[-1], sum(path.stat().st_size for path in written)


def find_evaluations(folder: Path, voice: str, kind: str) -> list[dict[str, Any]]:
    """The records of `tokenkl tts eval` in a folder in which a voice occurs; others are ignored."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(ValueError), reading(path, "an evaluation") as file:
            record = file.json(_Evaluation)
            if record["kind"] == kind and voice in record["voices"]:
                found.append({**record, "file": path.name})
    return found


class _Row(TypedDict):
    system: str
    metric: str
    value: float | None
    low: float | None
    high: float | None


class _Evaluation(TypedDict):
    """What is shown of a record of `tokenkl tts eval`."""

    kind: str
    corpus: str
    split: str
    voices: dict[str, dict[str, Any]]
    summary: list[_Row]


def _players(new: Callable[[str], Path], stem: str, samples: Sequence[Sample]) -> str:
    """A row for every sentence, a column for every way of saying it."""
    ways = list(dict.fromkeys(sample.how for sample in samples))
    texts = list(dict.fromkeys(sample.text for sample in samples))
    cells: dict[tuple[str, str], str] = {}
    for sample in samples:
        row, column = texts.index(sample.text) + 1, ways.index(sample.how) + 1
        name = f"{stem}-sentence{row}-{column}"
        sound = new(f"{name}.wav")
        write_wav(sound, sample.audio)
        plot_spectrogram(sample.audio, new(f"{name}.png"))
        seconds = sample.audio.shape[0] / SAMPLE_RATE
        heard = ""
        if sample.heard is not None:
            heard = f"<br>heard as: {html_of(sample.heard or 'nothing')}"
        cells[sample.text, sample.how] = (
            f'<td><audio controls preload="none" src="{name}.wav"></audio>'
            f'<img src="{name}.png" alt="spectrogram">{seconds:.1f} s, '
            f"{sound.stat().st_size / 1000:.0f} kB{heard}</td>"
        )
    head = "".join(f"<th>{html_of(way)}</th>" for way in ways)
    rows = "".join(
        f"<tr><td>{html_of(text)}</td>"
        + "".join(cells.get((text, way), "<td></td>") for way in ways)
        + "</tr>"
        for text in texts
    )
    return f'<div class="scroll"><table><tr><th>sentence</th>{head}</tr>{rows}</table></div>'


def _evaluation(record: Mapping[str, Any], voice: str) -> str:
    """The numbers of this voice, and of the ceilings and floors."""
    others = {name for name in record["voices"] if name != voice}
    rows = [
        row
        for row in record["summary"]
        if not any(
            row["system"] == name or row["system"].startswith(f"{name}, ") for name in others
        )
    ]
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    found = {(row["system"], row["metric"]): row for row in rows}
    head = "".join(f"<th>{html_of(name)}</th>" for name in metrics)
    lines = "".join(
        f"<tr><td>{html_of(system)}</td>"
        + "".join(_number(found.get((system, metric))) for metric in metrics)
        + "</tr>"
        for system in systems
    )
    where = f"{record['corpus']} corpus, split {record['split']}"
    return (
        f"<h3>Evaluation: {html_of(str(record.get('file', '')))}</h3>"
        f"<p>{html_of(where)}; values with 95 % intervals; WER and length errors are shares."
        f'</p><div class="scroll"><table><tr><th>system</th>{head}</tr>{lines}</table></div>'
    )


def _number(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "<td></td>"
    low, high = (row[part] if row[part] is not None else float("nan") for part in ("low", "high"))
    return f'<td class="number">{row["value"]:.3g}<br>({low:.3g} to {high:.3g})</td>'


def _losses(new: Callable[[str], Path], stem: str, voice: str, run: Path) -> str:
    from tokenkl.tts.training_log import plot_losses

    plot_losses({voice: run}, new(f"{stem}-loss.png"))
    return f'<h3>Training</h3><img src="{stem}-loss.png" alt="loss curve" style="max-width: 40em">'
