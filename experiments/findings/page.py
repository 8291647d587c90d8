"""The page of `tokenkl findings`: claims, answers, figures, and players with what is heard."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from experiments import harness
from experiments.findings.claims import Finding, Verdict
from tokenkl._formats import reading
from tokenkl.pages import code, page, text

#: Verdict -> class of its colour.
COLOURS = {"confirmed": "pass", "false": "fail"}
#: The verdict on what the paper does not claim.
OURS: Verdict = "beyond the paper"
#: Folder of the sounds in figures/ and in the page, the finding beside which they stand, and what
#: they were: `python -m experiments.speech samples`.
SOUNDS, BESIDE = "speech_samples", "C6b"
WAYS = {
    "fsq": "FSQ",
    "perturbed": "perturbed",
    "permuted": "permuted",
    "e8": "E8 cut",
    "spherical": "spherical",
    "learned": "learned",
    "one-hot": "one-hot",
    "vq": "VQ, own tokens",
    "rvq": "RVQ, own tokens",
}
STEPS = (2, 5, 25)

#: A file of the page: its text, or what writes it.
Content = str | Callable[[Path], object]


class _Sound(TypedDict):
    heard: str
    errors: int


class Sounds(TypedDict):
    """What is read of the record beside the sounds."""

    text: str
    words: int
    judge: str
    sounds: dict[str, _Sound]


def load_sounds(folder: Path = harness.FIGURES) -> Sounds:
    """What was said and what is heard, of every sound.

    Raises:
        FileError: no such record; `python -m experiments.speech heard` writes it.
    """
    with reading(folder / SOUNDS / "samples.json", "a record of sounds") as file:
        return file.json(Sounds)


def page_files(
    found: Sequence[Finding], sounds: Sounds, folder: Path = harness.FIGURES
) -> dict[str, Content]:
    """The files of the page by their paths in it."""
    files: dict[str, Content] = {"index.html": _html(found, sounds)}
    pictures = [f"figures/{name}.png" for one in found for name in one.figures]
    for name in dict.fromkeys(pictures):
        files[name] = functools.partial(shutil.copyfile, folder / Path(name).name)
    for name in sounds["sounds"]:
        files[f"{SOUNDS}/{name}"] = functools.partial(shutil.copyfile, folder / SOUNDS / name)
    return files


def _html(found: Sequence[Finding], sounds: Sounds) -> str:
    ours = [one for one in found if one.verdict == OURS]
    links = "".join(f'<li><a href="#{_anchor(one)}">{text(one.title)}</a></li>' for one in ours)
    tiles = "".join(_tile(one) for one in found if one.verdict != OURS)
    body = [
        '<a class="skip" href="#content">Skip to the content</a>',
        "<header><h1>What came of the claims</h1><p>FSQ tokens for continuous diffusion: the "
        "claims of arXiv 2606.09962 in our words, our answers, and what we found besides. Every "
        "number is out of a record that the command beside it makes anew; intervals are "
        "95 %.</p></header>",
        f'<main id="content"><dl class="key">{tiles}</dl>',
        f'<nav aria-label="Beyond the paper"><p>Beyond the paper:</p><ul>{links}</ul></nav>',
    ]
    for one in found:
        body += _section(one)
        if one.key == BESIDE:
            body.append(_players(sounds))
        body.append("</section>")
    return page("tokenkl: what came of the claims", [*body, "</main>"])


def _tile(one: Finding) -> str:
    verdict = f'<dd class="{COLOURS.get(one.verdict, "")}">{text(one.verdict)}</dd>'
    title = f'<a href="#{_anchor(one)}">{text(one.key)}. {text(one.title)}</a>'
    return f"<div><dt>{title}</dt>{verdict}</div>"


def _section(one: Finding) -> list[str]:
    colour = COLOURS.get(one.verdict, "")
    title = f'{text(one.key)}. {text(one.title)}: <span class="{colour}">{one.verdict}</span>'
    lines = [f'<section id="{_anchor(one)}"><h2>{title}</h2>']
    lines.append(f"<p><em>{text(one.claim)}</em></p>")
    lines.append("<ul>" + "".join(f"<li>{text(line)}</li>" for line in one.answer) + "</ul>")
    for name in one.figures:
        caption = text(f"{name}: {one.title}")
        lines.append(
            f'<figure class="wide"><a href="figures/{name}.png">'
            f'<img src="figures/{name}.png" alt="{caption}" loading="lazy"></a>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    lines.append(code("\n".join(one.commands)))
    if one.pages:
        pages = ", ".join(f"docs/{name}" for name in one.pages)
        lines.append(f'<p class="note">More: {text(pages)}</p>')
    return lines


def _players(sounds: Sounds) -> str:
    """A row for every geometry, a column for every number of sampling steps."""
    head = "".join(f'<th scope="col">{steps} steps</th>' for steps in STEPS)
    rows = [
        f'<tr><th scope="row">{text(label)}</th>'
        + "".join(_player(sounds, f"{name}-{steps}.wav", f"{label}, {steps}") for steps in STEPS)
        + "</tr>"
        for name, label in WAYS.items()
        if f"{name}-{STEPS[0]}.wav" in sounds["sounds"]
    ]
    said = f"“{sounds['text']}”, after 100 training steps, as the {sounds['judge']} judge hears it"
    return (
        f"<h3>To listen</h3><p>{text(said)}; true tokens for comparison. One sentence shows "
        "nothing by itself: the differences above are over many.</p>"
        f"<table><tr>{_player(sounds, 'true-tokens.wav', 'true tokens')}</tr></table>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Sounds"><table><thead><tr>'
        f'<th scope="col">tokens as</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        "</div>"
    )


def _player(sounds: Sounds, name: str, label: str) -> str:
    if name not in sounds["sounds"]:
        return "<td></td>"
    one: Mapping[str, Any] = sounds["sounds"][name]
    errors = f"{one['errors']} of {sounds['words']} words wrong"
    return (
        f'<td><audio controls preload="none" src="{SOUNDS}/{name}" aria-label="{text(label)}">'
        f"</audio>“{text(one['heard'])}”: {errors}</td>"
    )


def _anchor(one: Finding) -> str:
    return f"finding-{one.key.lower()}"
