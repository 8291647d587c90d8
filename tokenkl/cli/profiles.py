"""`tokenkl profile`, `compare` and `info`: what a codebook loses at each noise level."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tokenkl.cli._app import progress_bar
from tokenkl.cli._options import DEFAULT_DB, Bits, Noise, Quantities, Sampling, Seed, Source
from tokenkl.cli._result import FigureFiles, JsonFile, Result, command

if TYPE_CHECKING:
    import pandas as pd

    from tokenkl.codebooks import Codebook
    from tokenkl.information import Profile
    from tokenkl.information.methods import Method


@command(files=FigureFiles, short_help="Information and errors over a range of noise.")
def profile(
    *,
    noise: Noise,
    quantities: Quantities = None,
    source: Source,
    sampling: Sampling,
    bits: Bits = False,
) -> Result:
    """What a noisy observation says about the token, over a range of noise.

    Accuracy, error probability, conditional entropy, mutual information and MMSE of the channel
    Y = sqrt(snr) e_k + eps, exactly where the codebook's structure allows it and by sampling, with
    a 95 % interval, where not.

    \b
    Example: tokenkl profile fsq:3^8 --snr-db=-20:40:1 --plot profile.pdf
    """
    from tokenkl.cli.tables import describe, frame_of, profile_figure

    asked = _Request.parse(noise, quantities, sampling, source.seed, bits)
    made = source.make()
    asked = asked.about(made)
    found = asked.find(made, made.label)
    notes = asked.left_out
    if sampling.samples is not None and not any(e.is_sampled for e in found.estimates.values()):
        notes += ["--samples had no effect: everything here has an exact formula."]
    return Result(
        record={"specification": source.codebook, **found.to_json()},
        show=lambda console: _print_profile(console, asked, found, describe(made)),
        table=lambda: frame_of(found),
        figure=lambda: profile_figure([("", found)], describe(made)),
        notes=notes,
    )


@command(files=FigureFiles, short_help="The same for several codebooks side by side.")
def compare(
    *,
    codebooks: Annotated[
        list[str],
        typer.Argument(metavar="CODEBOOK", help="Two or more, such as fsq:3^8 e8."),
    ],
    noise: Noise,
    quantities: Quantities = None,
    scale_to: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="box: scale each until its largest |coordinate| is 1; power: until its average "
            "power is 1; none: as they are. Nothing is shifted; centre:SPEC does that.",
        ),
    ] = "none",
    seed: Seed = 0,
    sampling: Sampling,
    bits: Bits = False,
) -> Result:
    """Several codebooks side by side: one table for each quantity, one column for each codebook.

    \b
    Example: tokenkl compare fsq:3^8 e8 --scale-to box --quantities accuracy
    """
    from tokenkl._validation import check_choice, reject
    from tokenkl.cli.tables import profile_figure
    from tokenkl.codebooks.grammar import parse_codebook
    from tokenkl.codebooks.transforms import scale_to as scaled

    asked = _Request.parse(noise, quantities, sampling, seed, bits)
    check_choice(scale_to, ("box", "power", "none"), "--scale-to")
    specs = list(dict.fromkeys(codebooks))
    if len(specs) < 2:
        reject("CODEBOOK...", " ".join(codebooks), "two or more different codebooks")
    made = [parse_codebook(spec, seed=seed) for spec in specs]
    if scale_to != "none":
        made = [scaled(one, **{scale_to: 1.0}) for one in made]
    labels = _short_names(specs)
    asked = asked.about(*made)
    found = [
        asked.find(one, f"{label} ({number} of {len(made)})")
        for number, (one, label) in enumerate(zip(made, labels, strict=True), 1)
    ]
    records = [
        {"specification": spec, **one.to_json()} for spec, one in zip(specs, found, strict=True)
    ]
    pairs = list(zip(labels, found, strict=True))
    return Result(
        record={"scale_to": scale_to, "codebooks": records},
        show=lambda console: _print_comparison(console, asked, made, pairs, scale_to),
        table=lambda: _table(specs, found),
        figure=lambda: profile_figure(pairs),
        notes=asked.left_out,
    )


@command(files=JsonFile, short_help="Size, prior, power and distances of a codebook.")
def info(*, source: Source) -> Result:
    """Size, prior, power and distances of a codebook, and which quantities are exact for it.

    \b
    Example: tokenkl info fsq:17^6
    """
    from tokenkl.cli.tables import facts_on, findable, print_pairs, shown_facts

    made = source.make()
    with progress_bar("distances"):
        record = facts_on(made)
    return Result(
        record={"specification": source.codebook, **record},
        show=lambda console: print_pairs(console, shown_facts(record, findable(made))),
    )


@dataclasses.dataclass(frozen=True)
class _Request:
    """What `profile` and `compare` ask about a codebook."""

    levels: Any
    names: Sequence[str]
    settings: Method | None
    sampling: Sampling
    seed: int
    bits: bool
    is_linear: bool
    are_named: bool

    @classmethod
    def parse(
        cls, noise: Noise, quantities: str | None, sampling: Sampling, seed: int, bits: bool
    ) -> _Request:
        from tokenkl import QUANTITIES
        from tokenkl.cli.typed import parse_names

        levels = noise.levels(DEFAULT_DB)
        names = parse_names(quantities, QUANTITIES, "--quantities")
        named = quantities is not None
        return cls(levels, names, sampling.settings(), sampling, seed, bits, noise.is_linear, named)

    def about(self, *codebooks: Codebook) -> _Request:
        """Leave out what is not found for every one of these, unless it was asked for by name."""
        from tokenkl.cli.tables import findable

        if self.are_named:
            return self
        found = [findable(one) for one in codebooks]
        names = [name for name in self.names if all(name in one for one in found)]
        return dataclasses.replace(self, names=names or self.names)

    @property
    def left_out(self) -> list[str]:
        from tokenkl import QUANTITIES

        missing = [name for name in QUANTITIES if name not in self.names]
        if self.are_named or not missing:
            return []
        return [f"Left out: {', '.join(missing)}, which need a list of all tokens."]

    @property
    def targets(self) -> tuple[float, float]:
        return self.sampling.rtol, self.sampling.atol

    def find(self, codebook: Codebook, title: str) -> Profile:
        from tokenkl.cli.tables import in_bits

        found = _find(
            codebook, self.levels, self.names, self.sampling.method, self.settings, self.seed, title
        )
        return in_bits(found) if self.bits else found


def _find(
    codebook: Codebook,
    snr: Any,
    names: Sequence[str],
    method: str,
    settings: Method | None,
    seed: int,
    title: str,
) -> Profile:
    """The profile: exact quantities without sampling, the others with these settings, if any."""
    import tokenkl as tk
    from tokenkl._validation import reject
    from tokenkl.information import exact_quantities

    exact = exact_quantities(codebook) if method in ("auto", "exact") else ()
    sampled = [name for name in names if name not in exact]
    if sampled and method == "exact":
        reject(
            "--method",
            "exact",
            f"auto or monte-carlo for {sampled[0]} of {codebook.label}, which has no exact formula",
        )
    with progress_bar(title) as progress:
        parts = []
        if len(sampled) < len(names):
            chosen = [name for name in names if name in exact]
            parts.append(tk.profile(codebook, snr, chosen, method=tk.Exact()))
        if sampled:
            parts.append(
                tk.profile(codebook, snr, sampled, method=settings, key=seed, progress=progress)
            )
    merged = {name: part[name] for part in parts for name in part.estimates}
    return dataclasses.replace(parts[0], estimates={name: merged[name] for name in names})


def _table(specs: Sequence[str], found: Sequence[Profile]) -> pd.DataFrame:
    import pandas as pd

    from tokenkl.cli.tables import frame_of

    frames = [frame_of(one) for one in found]
    for frame, spec in zip(frames, specs, strict=True):
        frame.insert(0, "codebook", spec)
    return pd.concat(frames, ignore_index=True)


def _print_profile(console: Console, asked: _Request, found: Profile, title: str) -> None:
    from tokenkl.cli import tables

    tables.print_title(console, title)
    columns = [
        (tables.quantity_title(one), tables.cells(one, tables.missed_target(one, *asked.targets)))
        for one in found.estimates.values()
    ]
    tables.print_table(console, tables.snr_columns(found, asked.is_linear), columns)
    console.print()
    for line in tables.footnotes([("", found)], *asked.targets):
        console.print(line)


def _print_comparison(
    console: Console,
    asked: _Request,
    made: Sequence[Codebook],
    pairs: Sequence[tuple[str, Profile]],
    scale_to: str,
) -> None:
    from tokenkl.cli import tables

    scaling = {
        "box": "every codebook scaled to the box [-1, 1]^n",
        "power": "every codebook scaled to average power 1",
        "none": "codebooks as they are, not scaled",
    }[scale_to]
    tables.print_title(console, f"Comparison: {scaling}")
    described = [
        (f"{label}:", tables.describe(one)) for (label, _), one in zip(pairs, made, strict=True)
    ]
    tables.print_pairs(console, described)
    first = pairs[0][1]
    for name, estimate in first.estimates.items():
        heading = tables.quantity_title(estimate).replace("\n", " ")
        console.print()
        console.print(heading[0].upper() + heading[1:], style="bold")
        columns = [
            (label, tables.cells(one[name], tables.missed_target(one[name], *asked.targets)))
            for label, one in pairs
        ]
        tables.print_table(console, tables.snr_columns(first, asked.is_linear), columns)
    console.print()
    for line in tables.footnotes(pairs, *asked.targets):
        console.print(line)


def _short_names(specs: Sequence[str]) -> list[str]:
    """Specifications with folders left out, where they are still different without."""
    short = [":".join(os.path.basename(word) for word in spec.split(":")) for spec in specs]
    return [long if short.count(one) > 1 else one for one, long in zip(short, specs, strict=True)]
