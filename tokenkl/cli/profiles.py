"""`tokenkl profile`, `compare` and `info`: what a codebook loses at each noise level."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tokenkl.cli._app import progress_bar
from tokenkl.cli._options import (
    DEFAULT_DB,
    Bits,
    Noise,
    Quantities,
    Sampling,
    Seed,
    Source,
    Weights,
)
from tokenkl.cli._result import FigureFiles, JsonFile, Result, command

if TYPE_CHECKING:
    import pandas as pd

    from tokenkl.codebooks import Codebook
    from tokenkl.information import Profile
    from tokenkl.information.methods import Method

#: What --scale-to says at the head of a comparison.
SCALINGS = {
    "box": "every codebook scaled to the box [-1, 1]^n",
    "power": "every codebook scaled to average power 1",
    "none": "codebooks as they are, not scaled",
}


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
    Y = sqrt(snr) e_k + eps, and where it is named the error of a token drawn from the posterior,
    exactly where the codebook's structure allows it and by sampling, with a 95 % interval, where
    not.

    \b
    Example: tokenkl profile fsq:3^8 --snr-db=-20:40:1 --plot profile.pdf
    """
    from tokenkl.cli.tables import describe, frame_of

    asked = _Request.parse(noise, quantities, sampling, source.seed, bits)
    read: list[str] = []
    made = source.make(read.append)
    asked = asked.about(made)
    found = _find(asked, made, made.label)
    notes = read + asked.left_out
    if sampling.samples is not None and not any(e.is_sampled for e in found.estimates.values()):
        notes += ["--samples had no effect: everything here has an exact formula."]
    return Result(
        record={"specification": source.codebook, **found.to_json()},
        title=describe(made),
        show=lambda console: _print_profile(console, asked, found),
        found=found,
        table=lambda: frame_of(found),
        figure=lambda: found.plot(describe(made)),
        notes=notes,
    )


@command(files=FigureFiles, short_help="The same for several codebooks side by side.")
def compare(
    *,
    codebooks: Annotated[
        list[str], typer.Argument(metavar="CODEBOOK", help="Two or more, such as fsq:3^8 e8.")
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
    weights: Weights,
    seed: Seed = 0,
    sampling: Sampling,
    bits: Bits = False,
) -> Result:
    """Several codebooks side by side: one table for each quantity, one column for each codebook.

    \b
    Example: tokenkl compare fsq:3^8 e8 --scale-to box --quantities accuracy
    """
    from tokenkl._validation import check_choice, reject
    from tokenkl.codebooks import grammar
    from tokenkl.codebooks.transforms import scale_to as scaled
    from tokenkl.information.pictures import profile_figure

    asked = _Request.parse(noise, quantities, sampling, seed, bits)
    check_choice(scale_to, tuple(SCALINGS), "--scale-to")
    specs = list(dict.fromkeys(codebooks))
    if len(specs) < 2:
        reject("CODEBOOK...", " ".join(codebooks), "two or more different codebooks")
    read: list[str] = []
    prior = weights.parse(read.append)
    made = [grammar.codebook(spec, seed=seed, prior=prior) for spec in specs]
    if scale_to != "none":
        made = [scaled(one, **{scale_to: 1.0}) for one in made]
    labels = _short_names(specs)
    asked = asked.about(*made)
    found = [
        _find(asked, one, f"{label} ({number} of {len(made)})")
        for number, (one, label) in enumerate(zip(made, labels, strict=True), 1)
    ]
    records = [
        {"specification": spec, **one.to_json()} for spec, one in zip(specs, found, strict=True)
    ]
    pairs = list(zip(labels, found, strict=True))
    return Result(
        record={"scale_to": scale_to, "codebooks": records},
        title=f"Comparison: {SCALINGS[scale_to]}",
        show=lambda console: _print_comparison(console, asked, made, pairs),
        found=pairs,
        table=lambda: _table(specs, found),
        figure=lambda: profile_figure(pairs),
        notes=asked.left_out + list(dict.fromkeys(read)),
    )


@command(files=JsonFile, short_help="Size, prior, power and distances of a codebook.")
def info(*, source: Source) -> Result:
    """Size, prior, power and distances of a codebook, and which quantities are exact for it.

    \b
    Example: tokenkl info fsq:17^6
    """
    from tokenkl.cli.tables import facts_on, findable, print_pairs, shown_facts

    read: list[str] = []
    made = source.make(tell=read.append)
    with progress_bar("distances"):
        record = facts_on(made)
    shown = [("read from", how) for how in read] + shown_facts(record, findable(made))
    return Result(
        record={"specification": source.codebook, "read": read, **record},
        show=lambda console: print_pairs(console, shown),
        found=shown,
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
        from tokenkl.quantities import QUANTITIES as TABLE

        levels = noise.levels(DEFAULT_DB)
        named, names = quantities is not None, QUANTITIES
        if quantities is not None:
            names = parse_names(quantities, tuple(TABLE), "--quantities")
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


def _find(asked: _Request, codebook: Codebook, title: str) -> Profile:
    """The profile: exact quantities without sampling, the others with the settings, if any."""
    import tokenkl as tk
    from tokenkl._validation import reject
    from tokenkl.information import exact_quantities

    is_exact = asked.sampling.method in ("auto", "exact")
    exact = [name for name in asked.names if is_exact and name in exact_quantities(codebook)]
    sampled = [name for name in asked.names if name not in exact]
    if sampled and asked.sampling.method == "exact":
        reject(
            "--method",
            "exact",
            f"auto or monte-carlo for {sampled[0]} of {codebook.label}, which has no exact formula",
        )
    parts = []
    with progress_bar(title) as progress, tk.cluster(asked.sampling.scheduler):
        if exact:
            parts.append(tk.profile(codebook, asked.levels, exact, method=tk.Exact()))
        if sampled:
            how: dict[str, Any] = {"method": asked.settings, "progress": progress}
            parts.append(tk.profile(codebook, asked.levels, sampled, key=asked.seed, **how))
    merged = {name: part[name] for part in parts for name in part.estimates}
    found = dataclasses.replace(parts[0], estimates={name: merged[name] for name in asked.names})
    return found.bits if asked.bits else found


def _table(specs: Sequence[str], found: Sequence[Profile]) -> pd.DataFrame:
    import pandas as pd

    from tokenkl.cli.tables import frame_of

    frames = [frame_of(one) for one in found]
    for frame, spec in zip(frames, specs, strict=True):
        frame.insert(0, "codebook", spec)
    return pd.concat(frames, ignore_index=True)


def _print_profile(console: Console, asked: _Request, found: Profile) -> None:
    from tokenkl import readable
    from tokenkl.cli import tables

    columns = [
        (tables.quantity_title(one), readable.cells(one, tables.missed_target(one, *asked.targets)))
        for one in found.estimates.values()
    ]
    tables.print_table(console, tables.snr_columns(found.snr, asked.is_linear), columns)
    console.print()
    for line in tables.footnotes([("", found)], *asked.targets):
        console.print(line)


def _print_comparison(
    console: Console,
    asked: _Request,
    made: Sequence[Codebook],
    pairs: Sequence[tuple[str, Profile]],
) -> None:
    from tokenkl import readable
    from tokenkl.cli import tables

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
            (label, readable.cells(one[name], tables.missed_target(one[name], *asked.targets)))
            for label, one in pairs
        ]
        tables.print_table(console, tables.snr_columns(first.snr, asked.is_linear), columns)
    console.print()
    for line in tables.footnotes(pairs, *asked.targets):
        console.print(line)


def _short_names(specs: Sequence[str]) -> list[str]:
    """Specifications with folders left out, where they are still different without."""
    short = [":".join(os.path.basename(word) for word in spec.split(":")) for spec in specs]
    return [long if short.count(one) > 1 else one for one, long in zip(short, specs, strict=True)]
