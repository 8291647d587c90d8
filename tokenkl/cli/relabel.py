"""`tokenkl relabel`: which token should sit at which point, from a corpus of tokens."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tokenkl.cli._app import Content, progress_bar
from tokenkl.cli._options import Bits, CodebookArgument, Padding, Seed
from tokenkl.cli._result import JsonFile, Result, command

if TYPE_CHECKING:
    import numpy as np

    from tokenkl.codebooks import Codebook
    from tokenkl.context import Relabelling


@dataclasses.dataclass(frozen=True)
class MapFiles(JsonFile):
    """The map, and the record with its digest."""

    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the id of the point of every token, as .npy, or the codebook with its "
            "tokens at their points, as .npz or .safetensors.",
        ),
    ] = None

    def check(self) -> None:
        from tokenkl._validation import reject

        if self.output is not None and self.output.suffix not in (".npy", ".npz", ".safetensors"):
            reject("--output", str(self.output), "a name that ends in .npy, .npz or .safetensors")
        super().check()

    def _targets(self) -> dict[str, str | None]:
        output = None if self.output is None else str(self.output)
        return {"--output": output, "--json": self.json_file}

    def _outputs(self, result: Result) -> list[tuple[str | None, Content]]:
        return [(self._targets()["--output"], result.files["map"]), *super()._outputs(result)]


@dataclasses.dataclass(frozen=True)
class Search:
    """A codebook, its corpus, and how labels are looked for."""

    codebook: CodebookArgument
    tokens: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Sequences of token ids: rows of a .npy or .npz array, lists of a .json, lines "
            "of a .csv or .txt.",
        ),
    ]
    padding: Padding = None
    points: Annotated[
        str | None,
        typer.Option(
            metavar="CODEBOOK",
            help="Points that the tokens are moved to, at least as many, as a grid for a VQ.",
        ),
    ] = None
    gaps: Annotated[
        str, typer.Option(metavar="LIST", help="Distances of neighbours that count: 1,2,3.")
    ] = "1"
    starts: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Starts of the search; fewer for more tokens."),
    ] = None
    folds: Annotated[
        int,
        typer.Option(min=2, metavar="N", help="Parts of the sequences that test the others'."),
    ] = 4
    seed: Seed = 0

    def make(self) -> Codebook:
        """The codebook."""
        import tokenkl as tk

        return tk.codebook(self.codebook, seed=self.seed)

    def sequences_of_ids(self) -> list[np.ndarray]:
        """The corpus."""
        from tokenkl.codebooks import load_sequences

        return load_sequences(self.tokens, self.padding)

    def words(self) -> dict[str, Any]:
        """How labels are looked for, as the library's functions have it."""
        how = {"starts": self.starts, "folds": self.folds, "key": self.seed}
        return {"points": self._moved_to(), "gaps": self._distances(), **how}

    def _moved_to(self) -> Codebook | None:
        """The points that tokens are moved to; None for the codebook's own."""
        import tokenkl as tk
        from tokenkl.cli.typed import naming

        if self.points is None:
            return None
        spec = self.points
        return naming("--points", lambda: tk.codebook(spec, seed=self.seed))

    def _distances(self) -> tuple[int, ...]:
        """Of neighbours that count."""
        from tokenkl._validation import reject

        words = self.gaps.split(",")
        if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
            reject("--gaps", self.gaps, "whole numbers, at least 1, with commas between them")
        return tuple(int(word) for word in words)


@command(files=MapFiles, short_help="Labels of the same points by which neighbours are read.")
def relabel(*, search: Search, bits: Bits = False) -> Result:
    """Which token should sit at which point, so that a denoiser reads its neighbours.

    Permuting ids changes nothing that depends on one token alone, and costs much of what is
    learned: neighbours are then unreadable. From the bigrams of a corpus, tokens are placed so that
    the points' coordinates say what neighbours are told. The gain is predicted for sequences that
    were left out, with its interval; "No structure found" if neighbours tell nothing of each other.

    \b
    Example: tokenkl relabel fsq:3^4 --tokens corpus.npy -o map.npy
    """
    import tokenkl as tk
    from tokenkl.cli.tables import describe

    made, rows = search.make(), search.sequences_of_ids()
    with progress_bar(made.label) as progress:
        found = tk.relabel(made, rows, **search.words(), progress=progress)
    if bits:
        found = found.bits
    assert found.structure is not None
    labels = rows_of(found)
    record = {
        "specification": search.codebook,
        "codebook": made.label,
        "tokens": sum(row.size for row in rows),
        "sequences": len(rows),
        "verdict": found.verdict,
        "is_better": found.is_better,
        "p_value": found.structure.p_value,
        "unit": found.gain.unit,
        "gain": labels["found"]["gain"],
        "labels": labels,
        "ids": found.ids.tolist(),
    }
    return Result(
        record,
        show=lambda console: _print(console, found),
        found=found,
        title=describe(made),
        files={"map": lambda path: _write(found, path)},
    )


def rows_of(found: Relabelling) -> dict[str, dict[str, Any]]:
    """What is recorded of all labels, those first of which the largest share is read."""
    from tokenkl.cli.tables import plain

    return {
        name: {
            "readability": labels.readability,
            "information": plain(labels.index.information),
            "nonlinearity": plain(labels.index.nonlinearity),
            "read": plain(labels.index.read),
            "gain": plain(labels.gain),
            "share": plain(labels.share),
        }
        for name, labels in found.every.items()
    }


def _print(console: Console, found: Relabelling) -> None:
    from rich.table import Table

    table = Table("labels", "readability", "information", "read", "not read (nu)")
    for name, row in rows_of(found).items():
        parts = (row[part]["value"] for part in ("information", "read", "nonlinearity"))
        numbers = (row["readability"], *parts)
        table.add_row(name, *(f"{number:.4g}" for number in numbers))
    console.print(table)
    low, high, level = found.gain.confidence_interval()
    console.print(
        f"Gain in what is read, on sequences left out: {float(found.gain.value):.3g} "
        f"{found.gain.unit} a token over all log SNR ({level:.0%}: {low:.3g} to {high:.3g})."
    )
    console.print(found.verdict)


def _write(found: Relabelling, path: Path) -> None:
    from tokenkl import save_codebook

    if path.suffix == ".npy":
        save_ids(found, path)
    else:
        save_codebook(found.codebook, path)


def save_ids(found: Relabelling, path: Path) -> None:
    """The point of every token, as .npy."""
    import numpy as np

    with path.open("wb") as file:
        np.save(file, found.ids, allow_pickle=False)
