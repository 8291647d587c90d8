"""`tokenkl profile`, `compare` and `info`: what a codebook loses at each noise level."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenkl.cli._app import (
    DEFAULT_DB,
    EPILOG,
    Atol,
    Bits,
    CodebookArgument,
    Csv,
    How,
    Json,
    Plot,
    PriorFile,
    Quantities,
    Rtol,
    Samples,
    Seed,
    Smoothing,
    Snr,
    SnrDb,
    TokensFile,
    app,
    check_output,
    check_outputs,
    progress_bar,
    sampling_method,
    say_written,
    stdout,
    write_outputs,
)

if TYPE_CHECKING:
    import pandas as pd

    from tokenkl.codebooks import Codebook
    from tokenkl.information import Profile
    from tokenkl.information.methods import Method


@app.command(short_help="Information and errors over a range of noise.", epilog=EPILOG)
def profile(
    codebook: CodebookArgument,
    snr_db: SnrDb = None,
    snr: Snr = None,
    quantities: Quantities = None,
    prior: PriorFile = None,
    tokens: TokensFile = None,
    smoothing: Smoothing = None,
    seed: Seed = 0,
    method: How = "auto",
    samples: Samples = None,
    rtol: Rtol = 0.0,
    atol: Atol = 0.0,
    bits: Bits = False,
    csv: Csv = None,
    json_file: Json = None,
    plot: Plot = None,
) -> None:
    """What a noisy observation says about the token, over a range of noise.

    Accuracy, error probability, conditional entropy, mutual information and MMSE of the channel
    Y = sqrt(snr) e_k + eps, exactly where the codebook's structure allows it and by sampling, with
    a 95 % interval, where not.

    \b
    Example: tokenkl profile fsq:3^8 --snr-db=-20:40:1 --plot profile.pdf
    """
    from tokenkl import QUANTITIES
    from tokenkl.cli.tables import describe, frame_of, in_bits
    from tokenkl.cli.typed import parse_names, parse_prior, parse_snr
    from tokenkl.codebooks.grammar import parse_codebook

    levels = parse_snr(snr_db, snr, DEFAULT_DB)
    names = parse_names(quantities, QUANTITIES, "--quantities")
    settings = sampling_method(method, samples, rtol, atol)
    check_outputs(csv, json_file, plot)
    made = parse_codebook(codebook, seed=seed, prior=parse_prior(prior, tokens, smoothing))
    found = _find(made, levels, names, method, settings, seed, made.label)
    if bits:
        found = in_bits(found)
    write_outputs(
        (csv, lambda file: frame_of(found).to_csv(file, index=False)),
        (plot, _drawing([("", found)], describe(made))),
        (json_file, {"specification": codebook, **found.to_json()}),
    )
    if "-" not in (csv, json_file):
        _print_profile(found, describe(made), snr is not None, rtol, atol)
    say_written(csv, json_file, plot)
    if samples is not None and not any(e.is_sampled for e in found.estimates.values()):
        typer.echo("--samples had no effect: everything here has an exact formula.", err=True)


@app.command(short_help="The same for several codebooks side by side.", epilog=EPILOG)
def compare(
    codebooks: Annotated[
        list[str],
        typer.Argument(metavar="CODEBOOK", help="Two or more, such as fsq:3^8 e8."),
    ],
    snr_db: SnrDb = None,
    snr: Snr = None,
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
    method: How = "auto",
    samples: Samples = None,
    rtol: Rtol = 0.0,
    atol: Atol = 0.0,
    bits: Bits = False,
    csv: Csv = None,
    json_file: Json = None,
    plot: Plot = None,
) -> None:
    """Several codebooks side by side: one table for each quantity, one column for each codebook.

    \b
    Example: tokenkl compare fsq:3^8 e8 --scale-to box --quantities accuracy
    """
    from tokenkl import QUANTITIES
    from tokenkl._validation import check_choice, reject
    from tokenkl.cli.tables import in_bits
    from tokenkl.cli.typed import parse_names, parse_snr
    from tokenkl.codebooks.grammar import parse_codebook
    from tokenkl.codebooks.transforms import scale_to as scaled

    levels = parse_snr(snr_db, snr, DEFAULT_DB)
    names = parse_names(quantities, QUANTITIES, "--quantities")
    check_choice(scale_to, ("box", "power", "none"), "--scale-to")
    settings = sampling_method(method, samples, rtol, atol)
    check_outputs(csv, json_file, plot)
    specs = list(dict.fromkeys(codebooks))
    if len(specs) < 2:
        reject("CODEBOOK...", " ".join(codebooks), "two or more different codebooks")
    made = [parse_codebook(spec, seed=seed) for spec in specs]
    if scale_to != "none":
        made = [scaled(one, **{scale_to: 1.0}) for one in made]
    labels = _short_names(specs)
    found: list[Profile] = []
    for number, (one, label) in enumerate(zip(made, labels, strict=True), 1):
        title = f"{label} ({number} of {len(made)})"
        profile_of_one = _find(one, levels, names, method, settings, seed, title)
        found.append(in_bits(profile_of_one) if bits else profile_of_one)
    records = [
        {"specification": spec, **one.to_json()} for spec, one in zip(specs, found, strict=True)
    ]
    write_outputs(
        (csv, lambda file: _table(specs, found).to_csv(file, index=False)),
        (plot, _drawing(list(zip(labels, found, strict=True)))),
        (json_file, {"scale_to": scale_to, "codebooks": records}),
    )
    if "-" not in (csv, json_file):
        _print_comparison(made, labels, found, scale_to, snr is not None, rtol, atol)
    say_written(csv, json_file, plot)


@app.command(short_help="Size, prior, power and distances of a codebook.", epilog=EPILOG)
def info(
    codebook: CodebookArgument,
    prior: PriorFile = None,
    tokens: TokensFile = None,
    smoothing: Smoothing = None,
    seed: Seed = 0,
    json_file: Json = None,
) -> None:
    """Size, prior, power and distances of a codebook, and which quantities are exact for it.

    \b
    Example: tokenkl info fsq:17^6
    """
    from tokenkl.cli.tables import facts_on, print_pairs, shown_facts
    from tokenkl.cli.typed import parse_prior
    from tokenkl.codebooks.grammar import parse_codebook

    check_output("--json", json_file)
    made = parse_codebook(codebook, seed=seed, prior=parse_prior(prior, tokens, smoothing))
    with progress_bar("distances"):
        record = facts_on(made)
    write_outputs((json_file, {"specification": codebook, **record}))
    if json_file != "-":
        print_pairs(stdout(), shown_facts(record))
    say_written(json_file)


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
    import dataclasses

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


def _drawing(found: Sequence[tuple[str, Profile]], title: str = "") -> Callable[[Path], object]:
    """What writes the figure of profiles, drawn only then."""

    def draw(path: Path) -> None:
        from tokenkl.cli.tables import profile_figure
        from tokenkl.plotting import save_figure

        save_figure(profile_figure(found, title), path)

    return draw


def _print_profile(found: Profile, title: str, linear: bool, rtol: float, atol: float) -> None:
    from tokenkl.cli import tables

    console = stdout()
    console.print(title, style="bold")
    console.print()
    columns = [
        (
            tables.quantity_title(estimate),
            tables.cells(estimate, tables.missed_target(estimate, rtol, atol)),
        )
        for estimate in found.estimates.values()
    ]
    tables.print_table(console, tables.snr_columns(found, linear), columns)
    console.print()
    lines = tables.method_lines([("", found)]) + tables.note_lines([("", found)], rtol, atol)
    for line in lines:
        console.print(line)


def _print_comparison(
    made: Sequence[Codebook],
    labels: Sequence[str],
    found: Sequence[Profile],
    scale_to: str,
    linear: bool,
    rtol: float,
    atol: float,
) -> None:
    from tokenkl.cli import tables

    console = stdout()
    scaling = {
        "box": "every codebook scaled to the box [-1, 1]^n",
        "power": "every codebook scaled to average power 1",
        "none": "codebooks as they are, not scaled",
    }[scale_to]
    console.print(f"Comparison: {scaling}", style="bold")
    console.print()
    tables.print_pairs(
        console,
        [(f"{label}:", tables.describe(one)) for label, one in zip(labels, made, strict=True)],
    )
    for name, first in found[0].estimates.items():
        heading = tables.quantity_title(first).replace("\n", " ")
        console.print()
        console.print(heading[0].upper() + heading[1:], style="bold")
        columns = [
            (label, tables.cells(one[name], tables.missed_target(one[name], rtol, atol)))
            for label, one in zip(labels, found, strict=True)
        ]
        tables.print_table(console, tables.snr_columns(found[0], linear), columns)
    console.print()
    pairs = list(zip(labels, found, strict=True))
    for line in tables.method_lines(pairs) + tables.note_lines(pairs, rtol, atol):
        console.print(line)


def _short_names(specs: Sequence[str]) -> list[str]:
    """Specifications with folders left out, where they are still different without."""
    short = [":".join(os.path.basename(word) for word in spec.split(":")) for spec in specs]
    return [long if short.count(one) > 1 else one for one, long in zip(short, specs, strict=True)]
