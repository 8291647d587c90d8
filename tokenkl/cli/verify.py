"""`tokenkl verify`: every theorem, checked on one codebook."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenkl.cli._app import (
    EPILOG,
    CodebookArgument,
    Csv,
    Json,
    PriorFile,
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

#: Noise levels where none are asked for.
DEFAULT_DB = "-20:30:10"


@app.command(short_help="Check every theorem on a codebook.", epilog=EPILOG)
def verify(
    codebook: CodebookArgument,
    snr_db: SnrDb = None,
    snr: Snr = None,
    prior: PriorFile = None,
    tokens: TokensFile = None,
    smoothing: Smoothing = None,
    seed: Seed = 0,
    samples: Samples = None,
    csv: Csv = None,
    json_file: Json = None,
    report: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a report in Markdown; - for standard output."),
    ] = None,
) -> None:
    """Check every theorem on a codebook: inequalities, identities and invariances, with margins.

    Every quantity is sampled a second time by other means; the errors in --csv, --json and --report
    say how closely that pins it. "fail" means violated beyond all intervals, of measured quantities
    at a level of 1 - 1e-8. Exit code 1 if anything fails. Without --snr and --snr-db: -20:30:10 dB.

    \b
    Example: tokenkl verify fsq:3^4 --snr-db=-10,0,10 --report report.md
    """
    from tokenkl._validation import reject
    from tokenkl.cli.tables import describe, print_table
    from tokenkl.cli.typed import parse_prior, parse_snr
    from tokenkl.codebooks.grammar import parse_codebook
    from tokenkl.verification import count_verdicts, markdown_report, worst
    from tokenkl.verification import verify as check_all

    levels = parse_snr(snr_db, snr, DEFAULT_DB)
    if (levels <= 0).any():
        reject("--snr", float(levels.min()), "above 0 everywhere")
    settings = sampling_method("auto", samples, 0.0, 0.0)
    check_outputs(csv, json_file, None)
    check_output("--report", report)
    made = parse_codebook(codebook, seed=seed, prior=parse_prior(prior, tokens, smoothing))
    with progress_bar(made.label) as progress:
        checks = check_all(made, levels, key=seed, method=settings, progress=progress)
    counts = count_verdicts(checks)
    rows = [dataclasses.asdict(one) for one in checks]
    head = {"specification": codebook, "label": made.label, "counts": counts}
    write_outputs(
        (csv, lambda file: _table(rows).to_csv(file, index=False)),
        (report, markdown_report(checks, describe(made))),
        (json_file, {**head, "checks": rows}),
    )
    if "-" not in (csv, json_file, report):
        console = stdout()
        console.print(describe(made))
        console.print()
        shown = worst(checks)
        print_table(
            console,
            [("theorem", [one.theorem for one in shown])],
            [
                ("verdict", [one.verdict for one in shown]),
                ("SNR\n(dB)", [f"{10 * math.log10(one.snr):.4g}" for one in shown]),
                ("margin", [f"{one.margin:.3g}" for one in shown]),
                ("right\nside", [f"{one.right:.4g}" for one in shown]),
            ],
        )
        console.print()
        console.print(
            "Margin: right minus left side, at the SNR where the theorem is closest to failing. "
            + ", ".join(f"{count} {name}" for name, count in counts.items())
            + "."
        )
    say_written(csv, json_file, report)
    if counts["fail"]:
        raise typer.Exit(1)


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)
