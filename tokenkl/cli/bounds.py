"""`tokenkl bounds`: proved lower and upper ends, and the inequalities behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tokenkl.cli._options import Bits, Noise, Source
from tokenkl.cli._result import Result, TableFiles, command

if TYPE_CHECKING:
    from tokenkl.bounds import Bracket

#: Noise levels where none are asked for.
DEFAULT_DB = "-10:30:10"

Bounded = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="Comma list of accuracy, error_probability, sampling_error, conditional_entropy, "
        "mutual_information, mmse.",
    ),
]


@command(files=TableFiles, short_help="Proved bounds, and which inequalities they are.")
def bounds(
    *,
    source: Source,
    noise: Noise,
    quantities: Bounded = "accuracy,mutual_information,mmse",
    bits: Bits = False,
) -> Result:
    """Proved bounds from the geometry alone: nothing is sampled, and no exact formula is used.

    "Fano < union bound" is Fano's inequality applied to the union bound; "by part < ..." joins the
    bounds of independent parts, such as the coordinates of a grid. Ends are rounded outwards. SNRs
    asked for together help each other. Without --snr and --snr-db: -10:30:10 dB.

    \b
    Example: tokenkl bounds fsq:3^8 --snr-db=0,10,20 --csv bounds.csv
    """
    from tokenkl.bounds import brackets
    from tokenkl.cli.tables import describe
    from tokenkl.cli.typed import parse_names
    from tokenkl.quantities import QUANTITIES

    names = parse_names(quantities, tuple(QUANTITIES), "--quantities")
    levels = noise.levels(DEFAULT_DB)
    made = source.make()
    found = brackets(made, levels, names)
    if bits:
        found = {name: one.bits if one.lower.unit == "nats" else one for name, one in found.items()}
    rows = [
        {"quantity": name, "unit": one.lower.unit, **row}
        for name, one in found.items()
        for row in one.rows()
    ]
    head = {"specification": source.codebook, "codebook": made.label, "K": made.K, "n": made.n}
    return Result(
        record={**head, "bounds": rows},
        title=describe(made),
        show=lambda console: _print(console, found, noise.is_linear),
        table=lambda: rows,
    )


def _print(console: Console, found: Mapping[str, Bracket], linear: bool) -> None:
    from tokenkl.bounds import outward
    from tokenkl.cli.tables import axis_title, print_pairs, print_table, snr_columns

    numbers: dict[str, str] = {}
    for one in found.values():
        columns: list[Any] = []
        for side, bound, names in (
            ("lower", one.lower, one.lower_names),
            ("upper", one.upper, one.upper_names),
        ):
            behind = [numbers.setdefault(name, str(len(numbers) + 1)) for name in names.ravel()]
            columns += [
                (side, [outward(float(value), side) for value in bound.value.ravel()]),
                ("by", behind),
            ]
        console.print(axis_title(one.quantity, one.lower.unit), style="bold")
        print_table(console, snr_columns(one.snr, linear), columns)
        console.print()
    print_pairs(console, [(number, name) for name, number in numbers.items()])
