"""`tokenkl context`: a codebook and a token file, and what follows for tokens in context."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tokenkl.cli._app import progress_bar
from tokenkl.cli._options import Bits, Noise, Output
from tokenkl.cli._result import FolderFiles, Result, command
from tokenkl.cli.relabel import Search, rows_of, save_ids

if TYPE_CHECKING:
    import pandas as pd

    from tokenkl.corpus import TokensInContext
    from tokenkl.estimate import Estimate


@dataclasses.dataclass(frozen=True)
class ContextFiles(FolderFiles):
    """Map, schedule, steps, tables and figure, and the record with their digests."""

    output: Output = Path("context")


@dataclasses.dataclass(frozen=True)
class _Law:
    """The law that is fitted, and how it is observed."""

    order: Annotated[
        int, typer.Option(min=2, metavar="N", help="Tokens in a row that the fitted law counts.")
    ] = 2
    length: Annotated[
        int, typer.Option(min=2, metavar="N", help="Tokens of a sequence that is observed.")
    ] = 8
    sequences: Annotated[
        int, typer.Option(min=2, metavar="N", help="Sequences of the law that are sampled.")
    ] = 256
    steps: Annotated[str, typer.Option(metavar="LIST", help="Numbers of sampling steps.")] = (
        "4,8,16"
    )
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODEBOOK",
            help="Other points that tokens could sit at, as e8, with the labels that are found "
            "there; may be given several times.",
        ),
    ] = None


@command(files=ContextFiles, short_help="Tokens in their sequences: labels, schedule, steps.")
def context(*, search: Search, noise: Noise, law: _Law, bits: Bits = False) -> Result:
    """What neighbours tell of a token, which labels they are read by, and what follows.

    From a file of token sequences: how much neighbours tell; what is read of it with the given
    labels, permuted ones, one-hot tokens and the labels that were found (as by tokenkl relabel), on
    sequences left out; how well noisy tokens are known alone and in context; the noise schedule
    under which a model's cross-entropy falls evenly, and sampling steps. Without --snr and
    --snr-db: where tokens are told.

    \b
    The folder has map.npy (the point of every token), schedule.csv (for --schedule), steps.csv,
    profile.csv, labels.csv, context.pdf, context.png and record.json.
    Example: tokenkl context fsq:3^4 --tokens corpus.npy -o context
    """

    import tokenkl as tk
    from tokenkl.cli.sampling import counts_of
    from tokenkl.cli.tables import describe, plain
    from tokenkl.cli.typed import naming

    made, rows = search.make(), search.sequences_of_ids()
    parse = functools.partial(tk.codebook, seed=search.seed)
    grounds = {
        spec: naming("--against", functools.partial(parse, spec)) for spec in law.against or []
    }
    snr = None if noise.snr is None and noise.snr_db is None else noise.levels("")
    counts = counts_of(law.steps)
    with progress_bar(made.label) as progress:
        found = tk.tokens_in_context(
            made,
            rows,
            snr,
            grounds=grounds,
            order=law.order,
            length=law.length,
            sequences=law.sequences,
            steps=counts,
            **search.words(),
            progress=progress,
        )
    if bits:
        found = found.bits
    title = describe(made)
    tables = {
        "profile.csv": _profile(found),
        "labels.csv": _labels(found),
        "schedule.csv": _schedule(found),
        "steps.csv": _steps(found),
    }
    record = {
        "specification": search.codebook,
        "codebook": made.label,
        "sequences": found.n_sequences,
        "tokens": found.n_tokens,
        "unit": found.told.unit,
        "told_alone": plain(found.told_alone),
        "told": plain(found.told),
        "p_value": found.labels.structure.p_value if found.labels.structure else None,
        "labels": rows_of(found.labels),
        "order": found.order,
        "verdict": found.labels.verdict,
        "steps": [
            {"N": one.N, "snr": one.snr.tolist(), "path_kl": plain(one.kl)} for one in found.steps
        ],
    }
    files: dict[str, Any] = {
        name: table.to_csv(index=False, float_format="%.10g") for name, table in tables.items()
    }
    files["map.npy"] = functools.partial(save_ids, found.labels)
    for suffix in ("pdf", "png"):
        files[f"context.{suffix}"] = lambda path: _draw(found, title, path)
    return Result(
        record,
        show=lambda console: _print(console, found),
        found=found,
        title=title,
        files=files,
    )


def _draw(found: TokensInContext, title: str, path: Path) -> None:
    from tokenkl.plotting import save_figure

    save_figure(found.plot(title), path)


# ---- Tables -------------------------------------------------------------------------------------


def _profile(found: TokensInContext) -> pd.DataFrame:
    import pandas as pd

    from tokenkl.cli.sampling import with_intervals

    noisy = found.context.profile
    columns: dict[str, Estimate] = {}
    for name, estimate in noisy.estimates.items():
        columns |= {f"{name}_alone": found.alone[name], f"{name}_in_context": estimate}
    columns["from_context"] = found.context.values
    return pd.DataFrame({"snr_db": noisy.snr_db, "snr": noisy.snr} | with_intervals(columns))


def _labels(found: TokensInContext) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for name, row in rows_of(found.labels).items():
        values = {part: row[part]["value"] for part in ("information", "read", "nonlinearity")}
        for part in ("share", "gain"):
            values[part] = row[part]["value"]
            values |= {f"{part}_{end}": row[part][f"interval_{end}"] for end in ("low", "high")}
        rows.append({"labels": name, "readability": row["readability"], **values})
    return pd.DataFrame(rows)


def _schedule(found: TokensInContext) -> pd.DataFrame:
    import pandas as pd

    table = found.schedule.schedule
    return pd.DataFrame({"t": table.t, "snr": table.ratio})


def _steps(found: TokensInContext) -> pd.DataFrame:
    import pandas as pd

    parts = [
        pd.DataFrame({"N": one.N, "step": range(one.N + 1), "snr": one.snr}) for one in found.steps
    ]
    return pd.concat(parts, ignore_index=True)


# ---- For people ---------------------------------------------------------------------------------


def _print(console: Console, found: TokensInContext) -> None:
    import numpy as np
    from rich.table import Table

    from tokenkl.cli.sampling import shown
    from tokenkl.readable import UNSUPPORTED

    unit = found.told.unit
    console.print(
        f"{found.n_tokens:,} tokens in {found.n_sequences:,} sequences. On sequences left out a "
        f"token takes {shown(found.told_alone)} {unit} by its frequency, {shown(found.told)} by "
        "those before it."
    )
    console.print()
    table = Table("labels", "readability", "told", "read", "share that is read")
    for name, row in rows_of(found.labels).items():
        numbers = (row["readability"], row["information"]["value"], row["read"]["value"])
        share = found.labels.every[name].share
        table.add_row(name, *(f"{number:.4g}" for number in numbers), shown(share))
    console.print(table)
    console.print(f"Predicted order, by the share that is read: {found.order}.")
    console.print(found.labels.verdict)
    console.print()
    table = Table("SNR (dB)", "alone", "in context", f"own ({unit})", f"rest ({unit})")
    accuracies = found.alone["accuracy"], found.context.profile["accuracy"]
    told = found.alone["mutual_information"], found.context.values
    for index in range(0, found.context.profile.snr.size, 3):
        cells = [shown(one[index]) for one in (*accuracies, *told)]
        table.add_row(f"{found.context.profile.snr_db[index]:.1f}", *cells)
    console.print(table)
    half = found.context.half
    console.print(
        "Accuracy of a token alone and in context, and what the two tell of it: half of what the "
        f"rest tells, over log SNR, is told below {10 * np.log10(half.value):.1f} dB."
    )
    notes = {one.note: None for one in (*accuracies, *told) if not np.all(one.interval_supported)}
    for note in notes:
        console.print(f"{UNSUPPORTED} without ±: {note} (profile.csv has its ends).")
    quartiles = found.schedule.law.quantile([0.25, 0.5, 0.75]) * 10 / np.log(10)
    low, middle, high = (f"{x:.1f}" for x in quartiles)
    console.print(
        f"Noise to train on: half of the levels between {low} and {high} dB, median {middle} dB "
        "(schedule.csv, for --schedule)."
    )
    for one in found.steps:
        console.print(f"{one.N} steps: path KL {shown(one.kl)} {unit} a token (steps.csv).")
