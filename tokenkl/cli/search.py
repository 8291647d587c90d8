"""`tokenkl search`: look for a codebook with larger distances, accuracy or information."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tokenkl.cli._app import Content
from tokenkl.cli._options import Scheduler, Seed
from tokenkl.cli._result import JsonFile, Result, command

if TYPE_CHECKING:
    from tokenkl.optimality.search import BestKnown, SearchResult


@dataclasses.dataclass(frozen=True)
class CodebookFiles(JsonFile):
    """The codebook that was found, and the record of the search."""

    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the codebook, as .npz or .safetensors."
        ),
    ] = None

    def check(self) -> None:
        from tokenkl._validation import reject

        if self.output is not None and self.output.suffix not in (".npz", ".safetensors"):
            reject("--output", str(self.output), "a name that ends in .npz or .safetensors")
        super().check()

    def _targets(self) -> dict[str, str | None]:
        output = None if self.output is None else str(self.output)
        return {"--output": output, "--json": self.json_file}

    def _outputs(self, result: Result) -> list[tuple[str | None, Content]]:
        return [(self._targets()["--output"], result.files["codebook"]), *super()._outputs(result)]


@command(files=CodebookFiles, short_help="Look for a better codebook of so many tokens.")
def search(
    *,
    n: Annotated[int, typer.Argument(metavar="N", min=1, help="Dimensions.")],
    tokens: Annotated[int, typer.Argument(metavar="K", min=2, help="Number of tokens.")],
    objective: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="mean_distance, min_distance, accuracy or mutual_information."
        ),
    ] = "mean_distance",
    constraint: Annotated[
        str, typer.Option(metavar="NAME", help="box, ball, power or variance.")
    ] = "box",
    snr: Annotated[
        float | None,
        typer.Option(metavar="X", help="1 / s^2, for accuracy and information."),
    ] = None,
    starts: Annotated[int, typer.Option(min=1, metavar="N", help="Number of starts.")] = 20,
    hops: Annotated[
        int, typer.Option(min=0, metavar="N", help="Tries to improve what a start led to.")
    ] = 10,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="State of the search, which then can be resumed."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, metavar="N", help="Processes that share the starts.")
    ] = 1,
    scheduler: Scheduler = None,
    seed: Seed = 0,
) -> Result:
    """The codebook of K tokens in N dimensions with the largest objective that many starts lead to.

    What is found is reached, and need not be the best there is: beside it stand the best that is
    known and, for the mean distance in the box, what no codebook exceeds. With --folder a search
    that was stopped goes on.

    \b
    Example: tokenkl search 2 36 --starts 40 -o better.npz
    """
    import tokenkl as tk
    from tokenkl._validation import check_choice
    from tokenkl.cli import is_ctrl_c
    from tokenkl.optimality.constraints import CONSTRAINTS
    from tokenkl.optimality.search.objectives import OBJECTIVES

    check_choice(objective, OBJECTIVES, "--objective")
    check_choice(constraint, CONSTRAINTS, "--constraint")
    try:
        with tk.cluster(scheduler):
            found = tk.search(
                n,
                tokens,
                objective,
                constraint,
                snr=snr,
                starts=starts,
                hops=hops,
                folder=folder,
                workers=workers,
                key=seed,
            )
    except (KeyboardInterrupt, SystemError) as error:
        if folder is not None and is_ctrl_c(error):
            typer.echo(f"Stopped; the same command goes on from what is in {folder}.", err=True)
        raise
    boxed = constraint == "box" and objective in ("mean_distance", "min_distance")
    known = _known(n, tokens, objective) if boxed else None
    bound = tk.nn_distance_bound(n, tokens) if boxed else None
    record: dict[str, Any] = {
        "n": n,
        "K": tokens,
        "objective": objective,
        "constraint": constraint,
        "snr": snr,
        "value": found.value,
        "known": None if known is None else known.value,
        "bound": None if bound is None else float(bound.value),
        "inequality": None if bound is None else bound.name,
        "seed": seed,
        "runs": [dataclasses.asdict(run) for run in found.runs],
    }
    return Result(
        record,
        show=lambda console: _print(console, found, known, record),
        found=found,
        title=f"{objective} ({constraint}), {tokens} tokens in {n} dimensions",
        files={"codebook": lambda path: tk.save_codebook(found.codebook, path)},
    )


def _known(n: int, K: int, objective: str) -> BestKnown | None:
    """What the atlas has, if it has anything."""
    import tokenkl as tk

    try:
        return tk.best_codebook(n, K, objective)
    except ValueError:
        return None


def _print(
    console: Console, found: SearchResult, known: BestKnown | None, record: dict[str, Any]
) -> None:
    from tokenkl.cli.tables import print_pairs

    best = found.best
    rows = [
        ("found", f"{found.value:.9g}"),
        ("start", f"{best.index} of {len(found.runs)}: {best.what}"),
        ("starts as good", str(sum(run.value >= found.value - 1e-9 for run in found.runs))),
    ]
    if known is not None:
        rows.append(("best known", f"{known.value:.9g}, {known.how}"))
    if record["bound"] is not None:
        rows.append(("no more than", f"{record['bound']:.6g} ({record['inequality']})"))
    print_pairs(console, rows)
