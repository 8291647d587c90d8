"""`tokenkl path-kl`: how far apart two tokens are as reverse diffusions."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from tokenkl.cli._app import (
    EPILOG,
    Bits,
    Json,
    Seed,
    app,
    check_output,
    progress_bar,
    say_written,
    stdout,
    write_outputs,
)


@app.command("path-kl", short_help="KL of two tokens as reverse diffusions.", epilog=EPILOG)
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
    from tokenkl._validation import reject
    from tokenkl.cli.tables import format_exact, format_sampled, print_pairs, reach
    from tokenkl.schedule import parse_schedule

    check_output("--json", json_file)
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
    found = divergence.path_kl(point1, point2, chosen, t_min, end)
    found = found.bits if bits else found
    closed = float(found)
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
    shown = [
        ("schedule", f"{chosen.name}, t from {end:g} down to {t_min:g}"),
        ("SNR", f"from {last:.6g} dB up to {first:.6g} dB"),
        ("|a1 - a2|", f"{record['distance']:.6g}"),
        ("path KL", f"{format_exact(closed, float(found.numerical_error))} {unit} (closed form)"),
    ]
    if simulate:
        with progress_bar("simulated paths"):
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
    write_outputs((json_file, record))
    if json_file != "-":
        print_pairs(stdout(), shown)
    say_written(json_file)


def _two_points(
    a1: str | None, a2: str | None, codebook: str | None, ids: str | None, seed: int
) -> tuple[Any, Any]:
    """The points of `path-kl`, from their coordinates or from a codebook."""
    from tokenkl._validation import reject
    from tokenkl.cli.typed import parse_ids, parse_point
    from tokenkl.codebooks.grammar import parse_codebook

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
