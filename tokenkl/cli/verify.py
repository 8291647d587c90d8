"""`tokenkl verify`: every theorem, checked on one codebook."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from tokenkl.cli._app import progress_bar
from tokenkl.cli._options import Bits, Noise, SampledSource, Sampling
from tokenkl.cli._result import ReportFiles, Result, command

if TYPE_CHECKING:
    from tokenkl.verification import Check

#: Noise levels where none are asked for.
DEFAULT_DB = "-20:30:10"


@command(files=ReportFiles, short_help="Check every theorem on a codebook.")
def verify(*, noise: Noise, source: SampledSource, bits: Bits = False) -> Result:
    """Check every theorem on a codebook: inequalities, identities and invariances, with margins.

    Every quantity is sampled a second time by other means; the errors in --csv, --json and --report
    say how closely that pins it. "fail" means violated beyond all intervals, of measured quantities
    at a level of 1 - 1e-8. Exit code 1 if anything fails. Without --snr and --snr-db: -20:30:10 dB.

    \b
    Example: tokenkl verify fsq:3^4 --snr-db=-10,0,10 --report report.md
    """
    from tokenkl import QUANTITIES
    from tokenkl._validation import reject
    from tokenkl.cli.tables import describe, findable
    from tokenkl.verification import count_verdicts, markdown_report
    from tokenkl.verification import verify as check_all

    levels = noise.levels(DEFAULT_DB)
    if (levels <= 0).any():
        reject("--snr", float(levels.min()), "above 0 everywhere")
    settings = Sampling("monte-carlo", source.samples).settings() if source.samples else None
    made = source.make()
    if len(findable(made)) < len(QUANTITIES):
        expected = (
            "one whose quantities are all found, which for a lattice needs a list of all tokens"
        )
        reject("CODEBOOK", made.label, expected)
    with progress_bar(made.label) as progress:
        checks = check_all(made, levels, key=source.seed, method=settings, progress=progress)
    if bits:
        checks = [one.bits if one.unit == "nats" else one for one in checks]
    counts = count_verdicts(checks)
    rows = [dataclasses.asdict(one) for one in checks]
    head = {"specification": source.codebook, "label": made.label, "counts": counts}
    return Result(
        record={**head, "checks": rows},
        title=describe(made),
        show=lambda console: _print(console, checks, counts),
        found=checks,
        table=lambda: rows,
        report=markdown_report(checks, describe(made)),
        exit_code=1 if counts["fail"] else 0,
    )


def _print(console: Console, checks: Sequence[Check], counts: dict[str, int]) -> None:
    from tokenkl.cli.tables import UNITS, print_table
    from tokenkl.verification import worst

    shown = worst(checks)
    print_table(
        console,
        [("theorem", [one.theorem for one in shown])],
        [
            ("verdict", [one.verdict for one in shown]),
            ("SNR\n(dB)", [f"{10 * math.log10(one.snr):.4g}" for one in shown]),
            ("margin", [f"{one.margin:.3g}" for one in shown]),
            ("right\nside", [f"{one.right:.4g}" for one in shown]),
            ("unit", [UNITS.get(one.unit, "") for one in shown]),
        ],
    )
    console.print()
    console.print(
        "Margin: right minus left side, at the SNR where the theorem is closest to failing. "
        + ", ".join(f"{count} {name}" for name, count in counts.items())
        + "."
    )
