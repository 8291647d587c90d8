"""The command `tokenkl`: profiles, comparisons, path KLs and the figures, from a terminal.

Heavy imports stay inside the commands, so that `tokenkl --help` is quick. Whatever the user got
wrong ends in one sentence on stderr and exit code 2; Ctrl-C ends in exit code 130.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typer.core import TyperGroup

if TYPE_CHECKING:
    from tokenkl.codebooks import Codebook
    from tokenkl.information import MonteCarlo, Profile

#: What can be written where a codebook is asked for, and what it stands for.
CODEBOOKS = (
    ("fsq:3^8", "FSQ, 3 levels in each of 8 coordinates"),
    ("fsq:8x5x5x5", "FSQ, levels by coordinate; also fsq:8,5,5,5"),
    ("fsq:8,5,5,5:rounding", "the grid of the FSQ paper (even counts differ)"),
    ("onehot:6561", "one-hot tokens"),
    ("e8", "6561 points of the E8 lattice in the cube"),
    ("FILE", "a .npz, .safetensors or .npy file"),
    ("vq:FILE, vq:FILE:NAME", "... that holds a table of points (called NAME)"),
    ("rvq:FILE, rvq:FILE:NAME", "... that holds the stages of a residual one"),
    ("perturb:SPEC:SD", "N(0, SD^2) noise on every coordinate (--seed)"),
    ("permute:SPEC", "the points in a random order (--seed)"),
    ("centre:SPEC", "moved so that the mean is 0"),
)

#: Noise levels where none are asked for.
DEFAULT_DB = "-20:40:5"

_EPILOG = "Ways to write a codebook:\n\n\b\n" + "\n".join(
    f"{spec:<24} {meaning}" for spec, meaning in CODEBOOKS
)

app = typer.Typer(
    name="tokenkl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Commands(TyperGroup):
    """Turns the library's errors into one sentence and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader went away: typer ends quietly
            raise
        except (ValueError, MemoryError) as error:
            _fail(str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror or error}.")


def _fail(message: str) -> NoReturn:
    typer.echo("Error: " + " ".join(message.split()), err=True)
    raise typer.Exit(2)


def main() -> None:
    """Entry point of the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± gets a question mark
    try:
        app()
    except KeyboardInterrupt:  # before or after typer looks out for it
        sys.exit(130)


def _print_version(wanted: bool) -> None:
    if wanted:
        import tokenkl

        typer.echo(f"tokenkl {tokenkl.__version__}")
        raise typer.Exit


@app.callback(cls=_Commands)
def _tokenkl(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and go."),
    ] = False,
) -> None:
    """What a tokenizer's geometry does to continuous diffusion over categorical data."""


# ---- Options that several commands share ------------------------------------------------------

CodebookArgument = Annotated[
    str, typer.Argument(metavar="CODEBOOK", help="Such as fsq:3^8; see the list below.")
]
SnrDb = Annotated[
    str | None,
    typer.Option(
        metavar="GRID",
        help="SNR in dB: --snr-db=-20:40:1 (both ends included) or --snr-db=-10,0,10. "
        f"Without --snr and --snr-db: {DEFAULT_DB}.",
        show_default=False,
    ),
]
Snr = Annotated[
    str | None,
    typer.Option(metavar="GRID", help="SNR as a ratio: --snr 0.1,1,10 or --snr 0:1:0.1."),
]
Quantities = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Comma list of accuracy, error_probability, conditional_entropy, "
        "mutual_information, mmse; all without it.",
        show_default=False,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0, max=2**32 - 1, metavar="N", help="Of everything random; same seed, same bits."
    ),
]
How = Annotated[
    str,
    typer.Option(
        "--method", metavar="NAME", help="auto (exact where possible), exact or monte-carlo."
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(min=2, metavar="N", help="Monte-Carlo samples, 16384 without it."),
]
Rtol = Annotated[
    float,
    typer.Option(
        metavar="X", help="Sample until the standard error is at most atol + rtol |value|."
    ),
]
Atol = Annotated[float, typer.Option(metavar="X", help="See --rtol; in the unit of the quantity.")]
Bits = Annotated[bool, typer.Option("--bits", help="Information in bits rather than nats.")]
Csv = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the numbers; - for standard output.")
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the numbers; - for standard output."),
]
Plot = Annotated[
    str | None, typer.Option(metavar="FILE", help="Draw a figure, as .pdf, .png or .svg.")
]
PriorFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Prior: .npz, .npy, .json, .csv or .txt, K numbers."),
]
TokensFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Prior from the token ids in a .npz, .npy or .txt file."),
]
Smoothing = Annotated[
    float | None,
    typer.Option(metavar="X", help="Added to every count of --tokens, 0.5 without it."),
]


# ---- Commands ---------------------------------------------------------------------------------


@app.command(short_help="Information and errors over a range of noise.", epilog=_EPILOG)
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
    from tokenkl._report import describe, frame_of, in_bits
    from tokenkl._specs import parse_codebook, parse_names, parse_prior, parse_snr

    levels = parse_snr(snr_db, snr, DEFAULT_DB)
    names = parse_names(quantities, QUANTITIES, "--quantities")
    settings = _monte_carlo(method, samples, rtol, atol)
    _check_outputs(csv, json_file, plot)
    made = parse_codebook(codebook, seed=seed, prior=parse_prior(prior, tokens, smoothing))
    found = _find(made, levels, names, method, settings, seed, made.label)
    if bits:
        found = in_bits(found)
    if csv is not None:
        _write_text(csv, frame_of(found).to_csv(index=False))
    if json_file is not None:
        record = {"specification": codebook, **found.to_json()}
        _write_text(json_file, _json_text(record))
    if plot is not None:
        from tokenkl._report import profile_figure
        from tokenkl.plotting import save_figure

        save_figure(profile_figure([("", found)], describe(made)), plot)
    if "-" not in (csv, json_file):
        _print_profile(found, describe(made), snr is not None, rtol, atol)
    _say_written(csv, json_file, plot)
    if samples is not None and not any(e.n_samples for e in found.estimates.values()):
        typer.echo("--samples had no effect: everything here has an exact formula.", err=True)


@app.command(short_help="The same for several codebooks side by side.", epilog=_EPILOG)
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
    from tokenkl._report import frame_of, in_bits
    from tokenkl._specs import parse_codebook, parse_names, parse_snr
    from tokenkl._validation import check_choice, reject
    from tokenkl.codebooks.transforms import scale_to as scaled

    levels = parse_snr(snr_db, snr, DEFAULT_DB)
    names = parse_names(quantities, QUANTITIES, "--quantities")
    check_choice(scale_to, ("box", "power", "none"), "--scale-to")
    settings = _monte_carlo(method, samples, rtol, atol)
    _check_outputs(csv, json_file, plot)
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
    if csv is not None:
        import pandas as pd

        frames = [frame_of(one) for one in found]
        for frame, spec in zip(frames, specs, strict=True):
            frame.insert(0, "codebook", spec)
        _write_text(csv, pd.concat(frames, ignore_index=True).to_csv(index=False))
    if json_file is not None:
        records = [
            {"specification": spec, **one.to_json()} for spec, one in zip(specs, found, strict=True)
        ]
        _write_text(json_file, _json_text({"scale_to": scale_to, "codebooks": records}))
    if plot is not None:
        from tokenkl._report import profile_figure
        from tokenkl.plotting import save_figure

        save_figure(profile_figure(list(zip(labels, found, strict=True))), plot)
    if "-" not in (csv, json_file):
        _print_comparison(made, labels, found, scale_to, snr is not None, rtol, atol)
    _say_written(csv, json_file, plot)


@app.command("path-kl", short_help="KL of two tokens as reverse diffusions.", epilog=_EPILOG)
def path_kl(
    a1: Annotated[
        str | None, typer.Option("--a1", metavar="X,Y,...", help="First point: --a1=-1,-1.")
    ] = None,
    a2: Annotated[
        str | None, typer.Option("--a2", metavar="X,Y,...", help="Second point: --a2=1,1.")
    ] = None,
    codebook: Annotated[
        str | None,
        typer.Option(metavar="CODEBOOK", help="Take two tokens of it; see the list below."),
    ] = None,
    ids: Annotated[
        str | None, typer.Option(metavar="I,J", help="Ids of the two tokens of --codebook.")
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="linear-vp, cosine-vp, beta-vp, sub-vp, ve, edm or flow-matching; parameters "
            "after a colon, as in beta-vp:0.05,20.",
        ),
    ] = "linear-vp",
    t_min: Annotated[
        float, typer.Option(metavar="T", help="Where the reverse process stops.")
    ] = 0.01,
    t_max: Annotated[
        float | None,
        typer.Option(metavar="T", help="Where it starts: 1 without it, or 0.999 with --simulate."),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Estimate it by simulated paths too.")
    ] = False,
    paths: Annotated[int, typer.Option(min=2, metavar="N", help="Simulated paths.")] = 4096,
    steps: Annotated[int, typer.Option(min=2, metavar="N", help="Steps of every path.")] = 256,
    seed: Seed = 0,
    bits: Bits = False,
    json_file: Json = None,
) -> None:
    """How far apart two tokens are as reverse diffusions: the KL between their path measures.

    In closed form, (1/2) |a1 - a2|^2 (snr(t_min) - snr(t_max)); with --simulate also by
    Euler-Maruyama paths and Girsanov's theorem.

    \b
    Examples: tokenkl path-kl --a1=-1,-1 --a2=1,1 --schedule cosine-vp --simulate
              tokenkl path-kl --codebook fsq:3^8 --ids 0,1
    """
    import numpy as np

    from tokenkl import divergence
    from tokenkl._report import format_exact, format_sampled, print_pairs, reach
    from tokenkl._specs import parse_schedule
    from tokenkl._validation import reject

    _check_output("--json", json_file)
    chosen = parse_schedule(schedule)
    point1, point2 = _two_points(a1, a2, codebook, ids, seed)
    for option, t in (("--t-min", t_min), ("--t-max", t_max)):
        if t is not None and not 0 <= t <= 1:
            reject(option, t, "a time from 0 to 1")
    end = (0.999 if simulate else 1.0) if t_max is None else t_max
    if t_min > end:
        reject("--t-min", t_min, f"at most --t-max, which is {end}")
    snr_last, snr_first = float(chosen.snr(end)), float(chosen.snr(t_min))
    if simulate and snr_last == 0:
        reject("--t-max", end, f"below 1 with --simulate, where {chosen.name} has snr > 0")
    if simulate and math.isinf(snr_first):
        reject("--t-min", t_min, f"above 0 with --simulate, where {chosen.name} has finite snr")

    unit = "bits" if bits else "nats"
    per_unit = 1 / math.log(2) if bits else 1.0
    closed = float(divergence.path_kl(point1, point2, chosen, t_min, end)) * per_unit
    with np.errstate(divide="ignore"):
        first, last = 10 * np.log10(snr_first), 10 * np.log10(snr_last)
    record: dict[str, Any] = {
        "schedule": chosen.name,
        "t_min": t_min,
        "t_max": end,
        "distance": float(np.linalg.norm(point1 - point2)),
        "unit": unit,
        "path_kl": closed,
    }
    eps = float(np.finfo(float).eps)
    shown = [
        ("schedule", f"{chosen.name}, t from {end:g} down to {t_min:g}"),
        ("SNR", f"from {last:.6g} dB up to {first:.6g} dB"),
        ("|a1 - a2|", f"{record['distance']:.6g}"),
        ("path KL", f"{format_exact(closed, 64 * eps * closed)} {unit} (closed form)"),
    ]
    if simulate:
        with _progress("simulated paths"):
            estimate = divergence.simulate_path_kl(
                point1, point2, chosen, t_min, end, key=seed, n_paths=paths, n_steps=steps
            )
        estimate = estimate.bits if bits else estimate
        interval = estimate.confidence_interval(0.95)
        half = float(reach(estimate))
        record["simulated"] = {
            "value": float(estimate.value),
            "standard_error": float(estimate.standard_error),
            "numerical_error": float(estimate.numerical_error),
            "interval_low": float(interval.low),
            "interval_high": float(interval.high),
            "interval_level": 0.95,
            "method": estimate.method,
            "n_paths": paths,
            "n_steps": steps,
            "seed": seed,
            "note": estimate.note,
        }
        text = f"{format_sampled(float(estimate.value), half)} {unit}"
        if not np.all(estimate.interval_supported):
            text = f"{float(estimate.value):.3g} {unit} ({estimate.note})"
        shown += [
            ("", f"{text} (simulated)"),
            ("", f"{paths:,} paths of {steps:,} steps, seed {seed}; ± is a 95 % interval"),
        ]
    if json_file is not None:
        _write_text(json_file, _json_text(record))
    if json_file != "-":
        print_pairs(_stdout(), shown)
    _say_written(json_file)


@app.command(short_help="Size, prior, power and distances of a codebook.", epilog=_EPILOG)
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
    from tokenkl._report import facts_on, print_pairs, shown_facts
    from tokenkl._specs import parse_codebook, parse_prior

    _check_output("--json", json_file)
    made = parse_codebook(codebook, seed=seed, prior=parse_prior(prior, tokens, smoothing))
    with _progress("distances"):
        record = facts_on(made)
    if json_file is not None:
        _write_text(json_file, _json_text({"specification": codebook, **record}))
    if json_file != "-":
        print_pairs(_stdout(), shown_facts(record))
    _say_written(json_file)


@app.command(short_help="Compute the figures and tables again.")
def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAMES", help="Figures; all without any.")
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="Names and claims; no work.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="The tiny version of each, in seconds.")
    ] = False,
    plot_only: Annotated[
        bool, typer.Option("--plot-only", help="Draw again from stored results.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Skip what is stored already for the same config.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go; figures/ without it.")
    ] = None,
) -> None:
    """Compute the figures and tables again, from a source checkout.

    After Ctrl-C, `tokenkl reproduce --keep` goes on where it stopped.
    """
    from tokenkl._validation import reject

    experiments = _experiments()
    known = tuple(experiments.NAMES)
    chosen = tuple(dict.fromkeys(names)) if names else known
    for name in chosen:
        if name not in known:
            reject("NAMES", repr(name), "among " + ", ".join(known))
    if list_them:
        from tokenkl._report import print_pairs

        print_pairs(_stdout(), [(name, experiments.load(name).claim) for name in chosen])
        return
    if plot_only and (keep or smoke):
        reject("--plot-only", "with --keep or --smoke", "given without --keep and --smoke")
    target = experiments.harness.FIGURES if folder is None else folder
    if not plot_only:
        _check_folder(target)
    _reproduce(experiments, chosen, target, smoke=smoke, plot_only=plot_only, keep=keep)


# ---- What the commands share --------------------------------------------------------------------


def _two_points(
    a1: str | None, a2: str | None, codebook: str | None, ids: str | None, seed: int
) -> tuple[Any, Any]:
    """The points of `path-kl`, from their coordinates or from a codebook."""
    from tokenkl._specs import parse_codebook, parse_ids, parse_point
    from tokenkl._validation import reject

    if codebook is not None:
        if a1 is not None or a2 is not None or ids is None:
            reject("--codebook", codebook, "given with --ids, and without --a1 and --a2")
        made = parse_codebook(codebook, seed=seed)
        point1, point2 = made.points_at(parse_ids(ids, made.K))
        return point1, point2
    if a1 is None or a2 is None or ids is not None:
        options = {"--a1": a1, "--a2": a2, "--ids": ids}
        given = " and ".join(option for option, value in options.items() if value is not None)
        reject(
            "the two points",
            given or "neither",
            "given by --a1 and --a2, or by --codebook and --ids",
        )
    point1, point2 = parse_point(a1, "--a1"), parse_point(a2, "--a2")
    if point1.size != point2.size:
        reject("--a2", a2, f"of length {point1.size}, like --a1")
    return point1, point2


def _monte_carlo(method: str, samples: int | None, rtol: float, atol: float) -> MonteCarlo | None:
    """The Monte-Carlo settings; None for the library's own choice. Checks the method's name."""
    from tokenkl import MonteCarlo
    from tokenkl._validation import check_choice, reject

    check_choice(method, ("auto", "exact", "monte-carlo"), "--method")
    for option, value in (("--rtol", rtol), ("--atol", atol)):
        if not 0 <= value < math.inf:
            reject(option, value, "a finite number, at least 0")
    if samples is not None and (rtol > 0 or atol > 0):
        reject("--samples", samples, "left out where --rtol or --atol sets the number of samples")
    if method == "auto" and samples is None and rtol == atol == 0:
        return None
    return MonteCarlo(n_samples=samples, rtol=rtol, atol=atol)


def _find(
    codebook: Codebook,
    snr: Any,
    names: Sequence[str],
    method: str,
    settings: MonteCarlo | None,
    seed: int,
    title: str,
) -> Profile:
    """The profile: exact quantities without sampling, the others with these settings, if any."""
    import dataclasses

    import tokenkl as tk
    from tokenkl._validation import reject
    from tokenkl.information import exact_quantities

    exact = () if method == "monte-carlo" else exact_quantities(codebook)
    sampled = [name for name in names if name not in exact]
    if sampled and method == "exact":
        reject(
            "--method",
            "exact",
            f"auto or monte-carlo for {sampled[0]} of {codebook.label}, which has no exact formula",
        )
    with _progress(title) as progress:
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


def _print_profile(found: Profile, title: str, linear: bool, rtol: float, atol: float) -> None:
    from tokenkl import _report

    console = _stdout()
    console.print(title, style="bold")
    console.print()
    columns = [
        (
            _report.quantity_title(estimate),
            _report.cells(estimate, _report.missed_target(estimate, rtol, atol)),
        )
        for estimate in found.estimates.values()
    ]
    _report.print_table(console, _report.snr_columns(found, linear), columns)
    console.print()
    lines = _report.method_lines([("", found)]) + _report.note_lines([("", found)], rtol, atol)
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
    from tokenkl import _report

    console = _stdout()
    scaling = {
        "box": "every codebook scaled to the box [-1, 1]^n",
        "power": "every codebook scaled to average power 1",
        "none": "codebooks as they are, not scaled",
    }[scale_to]
    console.print(f"Comparison: {scaling}", style="bold")
    console.print()
    _report.print_pairs(
        console,
        [(f"{label}:", _report.describe(one)) for label, one in zip(labels, made, strict=True)],
    )
    for name, first in found[0].estimates.items():
        heading = _report.quantity_title(first).replace("\n", " ")
        console.print()
        console.print(heading[0].upper() + heading[1:], style="bold")
        columns = [
            (label, _report.cells(one[name], _report.missed_target(one[name], rtol, atol)))
            for label, one in zip(labels, found, strict=True)
        ]
        _report.print_table(console, _report.snr_columns(found[0], linear), columns)
    console.print()
    pairs = list(zip(labels, found, strict=True))
    for line in _report.method_lines(pairs) + _report.note_lines(pairs, rtol, atol):
        console.print(line)


def _short_names(specs: Sequence[str]) -> list[str]:
    """Specifications with folders left out, where they are still different without."""
    short = [":".join(os.path.basename(word) for word in spec.split(":")) for spec in specs]
    return [long if short.count(one) > 1 else one for one, long in zip(short, specs, strict=True)]


# ---- Figures ----------------------------------------------------------------------------------


def _experiments() -> Any:
    """The package `experiments` of the source checkout that tokenkl is imported from."""
    import tokenkl

    root = Path(tokenkl.__file__).resolve().parents[1]
    if not (root / "experiments" / "__init__.py").is_file():
        raise ValueError(
            "reproduce must be run with tokenkl installed from a source checkout (pip install -e "
            f".), which holds the experiments; there is no {root / 'experiments'}."
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    import experiments
    import experiments.harness

    return experiments


def _reproduce(
    experiments: Any,
    names: Sequence[str],
    folder: Path,
    *,
    smoke: bool,
    plot_only: bool,
    keep: bool,
) -> None:
    harness = experiments.harness
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    seconds = _expected_seconds(names, harness.FIGURES, smoke)
    rows: list[tuple[str, str, str]] = []
    done: list[str] = []
    started = time.perf_counter()
    display = _display(console)
    name = names[0]
    try:
        with display:
            total = display.add_task("all", total=sum(seconds.values()))
            before = 0.0
            for name in names:
                experiment = experiments.load(name)
                task = display.add_task(name, total=None)
                report = functools.partial(_advance, display, task, total, before, seconds[name])
                began = time.perf_counter()
                stored = keep and harness.is_current(experiment, smoke=smoke, folder=folder)
                pictures = [folder / f"{name}.pdf", folder / f"{name}.png"]
                try:
                    if plot_only or stored:
                        if plot_only or not all(path.exists() for path in pictures):
                            harness.draw(experiment, folder=folder)
                    else:
                        harness.run(experiment, smoke=smoke, folder=folder, progress=report)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
                took = "kept" if stored else f"{time.perf_counter() - began:.1f}"
                what = "kept" if stored else f"{took} s"
                console.print(f"{name}: {what}: {', '.join(map(_short, pictures))}")
                files = _short(folder / f"{name}") + ".{csv,json,pdf,png}"
                rows.append((name, took, files))
                done.append(name)
                display.remove_task(task)
                before += seconds[name]
                display.update(total, completed=before)
    except KeyboardInterrupt:
        finished = f"after {' and '.join(done)}" if done else "before any figure was done"
        again = _resume_command(names, folder, harness.FIGURES, smoke, plot_only)
        typer.echo(f"Stopped in {name}, {finished}; `{again}` goes on from there.", err=True)
        raise typer.Exit(130) from None
    _print_summary(rows, time.perf_counter() - started)


def _advance(
    display: Progress,
    task: Any,
    total: Any,
    before: float,
    share: float,
    done: float,
    wanted: float,
) -> None:
    """Move the bar of one experiment, and with it the bar of all."""
    display.update(task, completed=done, total=wanted)
    if wanted > 0:
        display.update(total, completed=before + share * min(done / wanted, 1))


def _expected_seconds(names: Sequence[str], folder: Path, smoke: bool) -> dict[str, float]:
    """Seconds that each took last time; the mean of the others where it has never run."""
    known = {}
    for name in names:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads((folder / f"{name}.json").read_text())
            if record["smoke"] == smoke:
                known[name] = max(float(record["run_seconds"]), 0.1)
    usual = sum(known.values()) / len(known) if known else 1.0
    return {name: known.get(name, usual) for name in names}


def _resume_command(
    names: Sequence[str], folder: Path, default: Path, smoke: bool, plot_only: bool
) -> str:
    import shlex

    import experiments

    words = ["tokenkl", "reproduce", *(names if tuple(names) != tuple(experiments.NAMES) else ())]
    words += ["--smoke"] * smoke + ["--plot-only" if plot_only else "--keep"]
    words += ["--folder", str(folder)] * (folder != default)
    return shlex.join(words)


def _print_summary(rows: Sequence[tuple[str, str, str]], seconds: float) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True)
    table.add_column("figure", footer="all", no_wrap=True)
    table.add_column("seconds", footer=f"{seconds:.1f}", justify="right", no_wrap=True)
    table.add_column("files", overflow="fold")
    for row in rows:
        table.add_row(*row)
    _stdout().print(table)


# ---- Terminal and files -----------------------------------------------------------------------


def _stdout() -> Console:
    return Console(highlight=False, markup=False)


def _display(console: Console) -> Progress:
    """Bars on stderr, shown only where that is a terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,  # what is printed there may be on its way to a file
        speed_estimate_period=600,
    )


@contextlib.contextmanager
def _progress(title: str) -> Iterator[Callable[[float, float], None]]:
    """A bar for one piece of work; pulsing until the first report."""
    display = _display(Console(stderr=True, highlight=False))
    with display:
        task = display.add_task(title, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


def _check_outputs(csv: str | None, json_file: str | None, plot: str | None) -> None:
    """Every output can be written, which is better known before the work than after it."""
    from tokenkl._validation import reject

    _check_output("--csv", csv)
    _check_output("--json", json_file)
    if plot is not None:
        formats = (".pdf", ".png", ".svg")
        if Path(plot).suffix not in formats:
            reject("--plot", plot, f"a file name that ends in {', '.join(formats)}")
        _check_output("--plot", plot)
    given = [target for target in (csv, json_file, plot) if target is not None]
    for target in given:
        if given.count(target) > 1:
            reject("--csv, --json and --plot", f"{target} twice", "different files")


def _check_output(option: str, target: str | None) -> None:
    from tokenkl._validation import reject

    if target is None or target == "-":
        return
    path = Path(target)
    try:
        if path.is_dir():
            reject(option, target, "a file to write to, not a folder")
        if path.exists() and not path.is_file():
            return  # a device or a pipe
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            reject(option, target, "in a folder that exists")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reject(option, target, f"a file that can be written ({error.strerror})")


def _check_folder(folder: Path) -> None:
    from tokenkl._validation import reject

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reject("--folder", str(folder), f"a folder that can be written to ({error.strerror})")


def _write_text(target: str, text: str) -> None:
    """To standard output for "-", otherwise to a file that appears whole."""
    from tokenkl._files import atomic_path

    if target == "-":
        sys.stdout.write(text)
        sys.stdout.flush()  # a reader that went away is noticed here, not at exit
    elif Path(target).exists() and not Path(target).is_file():
        Path(target).write_text(text, encoding="utf-8")  # a device must not be replaced
    else:
        with atomic_path(target) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _json_text(record: Any) -> str:
    return json.dumps(_without_infinities(record), indent=1, allow_nan=False) + "\n"


def _without_infinities(value: Any) -> Any:
    """JSON has no infinities: they become null."""
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _say_written(*targets: str | None) -> None:
    for target in targets:
        if target is not None and target != "-":
            typer.echo(f"Wrote {target}", err=True)


def _short(path: Path) -> str:
    """Relative to the working folder where it lies in it."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    main()
