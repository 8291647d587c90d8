"""`tokenkl path-kl`: how far apart two tokens are as reverse diffusions."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenkl.cli._app import progress_bar
from tokenkl.cli._options import Bits, ScheduleName, Seed
from tokenkl.cli._result import JsonFile, Result, command

if TYPE_CHECKING:
    import numpy as np

    from tokenkl.estimate import Estimate
    from tokenkl.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class _Points:
    """Two points, by their coordinates or as tokens of a codebook."""

    a1: Annotated[
        str | None, typer.Option("--a1", metavar="X,Y,...", help="First point: --a1=-1,-1.")
    ] = None
    a2: Annotated[
        str | None, typer.Option("--a2", metavar="X,Y,...", help="Second point: --a2=1,1.")
    ] = None
    codebook: Annotated[
        str | None,
        typer.Option(metavar="CODEBOOK", help="Take two tokens of it; see the list below."),
    ] = None
    ids: Annotated[
        str | None, typer.Option(metavar="I,J", help="Ids of the two tokens of --codebook.")
    ] = None

    def make(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        from tokenkl._validation import reject
        from tokenkl.cli.typed import parse_ids, parse_point
        from tokenkl.codebooks import grammar

        if self.codebook is not None:
            if self.a1 is not None or self.a2 is not None or self.ids is None:
                reject("--codebook", self.codebook, "given with --ids, and without --a1 and --a2")
            made = grammar.codebook(self.codebook, seed=seed)
            point1, point2 = made.points_at(parse_ids(self.ids, made.K))
            return point1, point2
        if self.a1 is None or self.a2 is None or self.ids is not None:
            options = {"--a1": self.a1, "--a2": self.a2, "--ids": self.ids}
            given = " and ".join(option for option, value in options.items() if value is not None)
            reject(
                "the two points",
                given or "neither",
                "given by --a1 and --a2, or by --codebook and --ids",
            )
        point1, point2 = parse_point(self.a1, "--a1"), parse_point(self.a2, "--a2")
        if point1.size != point2.size:
            reject("--a2", self.a2, f"of length {point1.size}, like --a1")
        return point1, point2


@dataclasses.dataclass(frozen=True)
class _Times:
    """The part of the reverse process that is compared."""

    schedule: ScheduleName = "linear-vp"
    t_min: Annotated[float, typer.Option(metavar="T", help="Where the reverse process stops.")] = (
        0.01
    )
    t_max: Annotated[
        float | None,
        typer.Option(metavar="T", help="Where it starts: 1 without it, or 0.999 with --simulate."),
    ] = None
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Estimate it by simulated paths too.")
    ] = False

    def range(self) -> tuple[Schedule, float]:
        """The schedule, and where the process starts."""
        from tokenkl._validation import reject
        from tokenkl.schedule import parse_schedule

        chosen = parse_schedule(self.schedule)
        for option, t in (("--t-min", self.t_min), ("--t-max", self.t_max)):
            if t is not None and not 0 <= t <= 1:
                reject(option, t, "a time from 0 to 1")
        end = (0.999 if self.simulate else 1.0) if self.t_max is None else self.t_max
        if self.t_min > end:
            reject("--t-min", self.t_min, f"at most --t-max, which is {end}")
        if self.simulate and float(chosen.snr(end)) == 0:
            reject("--t-max", end, f"below 1 with --simulate, where {chosen.name} has snr > 0")
        if self.simulate and math.isinf(float(chosen.snr(self.t_min))):
            where = f"above 0 with --simulate, where {chosen.name} has finite snr"
            reject("--t-min", self.t_min, where)
        return chosen, end


@command("path-kl", files=JsonFile, short_help="KL of two tokens as reverse diffusions.")
def path_kl(
    *,
    points: _Points,
    times: _Times,
    paths: Annotated[int, typer.Option(min=2, metavar="N", help="Simulated paths.")] = 4096,
    steps: Annotated[int, typer.Option(min=2, metavar="N", help="Steps of every path.")] = 256,
    seed: Seed = 0,
    bits: Bits = False,
) -> Result:
    """How far apart two tokens are as reverse diffusions: the KL between their path measures.

    In closed form, (1/2) |a1 - a2|^2 (snr(t_min) - snr(t_max)); with --simulate also by
    Euler-Maruyama paths and Girsanov's theorem.

    \b
    Examples: tokenkl path-kl --a1=-1,-1 --a2=1,1 --schedule cosine-vp --simulate
              tokenkl path-kl --codebook fsq:3^8 --ids 0,1
    """
    import numpy as np

    from tokenkl import divergence
    from tokenkl.cli.tables import plain, print_pairs
    from tokenkl.readable import format_exact

    chosen, end = times.range()
    point1, point2 = points.make(seed)
    found = divergence.path_kl(point1, point2, chosen, times.t_min, end)
    found = found.bits if bits else found
    record: dict[str, Any] = {
        "schedule": chosen.name,
        "t_min": times.t_min,
        "t_max": end,
        "distance": float(np.linalg.norm(point1 - point2)),
        "unit": found.unit,
        "path_kl": float(found),
    }
    with np.errstate(divide="ignore"):
        first, last = (10 * np.log10(float(chosen.snr(t))) for t in (times.t_min, end))
    closed = format_exact(float(found), float(found.numerical_error))
    shown = [
        ("schedule", f"{chosen.name}, t from {end:g} down to {times.t_min:g}"),
        ("SNR", f"from {last:.6g} dB up to {first:.6g} dB"),
        ("|a1 - a2|", f"{record['distance']:.6g}"),
        ("path KL", f"{closed} {found.unit} (closed form)"),
    ]
    if times.simulate:
        with progress_bar("simulated paths"):
            simulated = divergence.simulate_path_kl(
                point1, point2, chosen, times.t_min, end, key=seed, n_paths=paths, n_steps=steps
            )
        simulated = simulated.bits if bits else simulated
        how = {"n_paths": paths, "n_steps": steps, "seed": seed, "note": simulated.note}
        record["simulated"] = plain(simulated) | {
            "interval_level": 0.95, "method": simulated.method.to_json(), **how
        }  # fmt: skip
        shown += [
            ("", f"{_text(simulated)} (simulated)"),
            ("", f"{paths:,} paths of {steps:,} steps, seed {seed}; ± is a 95 % interval"),
        ]
    return Result(record, lambda console: print_pairs(console, shown))


def _text(estimate: Estimate) -> str:
    import numpy as np

    from tokenkl.readable import format_sampled, reach

    if not np.all(estimate.interval_supported):
        return f"{float(estimate.value):.3g} {estimate.unit} ({estimate.note})"
    return f"{format_sampled(float(estimate.value), float(reach(estimate)))} {estimate.unit}"
