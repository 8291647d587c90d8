"""`tokenkl report`: one page for a paper on one codebook."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenkl.cli._app import say
from tokenkl.cli._options import DEFAULT_DB, Noise, SampledSource, ScheduleName
from tokenkl.cli._result import FolderFiles, Result, command


@command(files=FolderFiles, short_help="A page for a paper: all of it, with figures.")
def report(
    *,
    source: SampledSource,
    noise: Noise,
    schedule: ScheduleName = "linear-vp",
    count: Annotated[
        int, typer.Option("--steps", min=1, metavar="N", help="Number of sampling steps.")
    ] = 8,
) -> Result:
    """One page on a codebook, with what a paper needs beside it.

    index.html needs nothing else: what was read, geometry, usage (with --tokens), information
    over the noise, where half of it is lost, noise levels to train on, sampling steps, proved
    brackets, theorems, a comparison with FSQ and a lattice, and the commands that found all that.
    figures/ has the figures at column width in PDF, table.tex the profile for LaTeX, record.json
    all numbers. Without --snr and --snr-db: where the codebook's information is lost. Exit code 1
    if a theorem fails.

    \b
    Example: tokenkl report codebook.safetensors --tokens ids.npy -o page
    """
    from tokenkl._validation import reject
    from tokenkl.cli.report.chapters import CHAPTERS, OPTIONAL, Case, LeftOut
    from tokenkl.cli.report.whole import whole_page
    from tokenkl.schedule import parse_schedule

    noise.levels(DEFAULT_DB)  # refused now rather than after a minute
    parse_schedule(schedule)
    case = Case(source, noise, schedule, count)
    if not case.codebook.average_power() > 0:
        reject("CODEBOOK", case.codebook.label, "one with two distinct tokens that both occur")
    chapters = []
    for number, make in enumerate(CHAPTERS, 1):
        say(f"{number} of {len(CHAPTERS)}: {make.__name__.replace('_', ' ')}")
        try:
            chapters.append(make(case))
        except (LeftOut, ValueError) as reason:
            if not isinstance(reason, LeftOut) and make not in OPTIONAL:
                raise
            say(f"Left out: {reason}")
            case.left_out[make.__name__] = str(reason)
    return whole_page(case, chapters)
