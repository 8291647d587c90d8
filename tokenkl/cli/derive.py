"""`tokenkl derive`: the formulas that SymPy derives, as a page of LaTeX."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenkl.cli._app import app, check_output, progress_bar, say_written, write_outputs


@app.command("derive", short_help="Formulas derived by SymPy, as LaTeX.")
def derive(
    latex: Annotated[
        str, typer.Option(metavar="FILE", help="Markdown file to write; - for standard output.")
    ] = "docs/theory/derivations.md",
) -> None:
    """Derive every formula anew by SymPy and write them as LaTeX in a Markdown page.

    Schedules, bridges, the DDPM posterior, accuracy and information in strong noise. Takes about
    twenty seconds, and needs the extra `symbolic`.
    """
    check_output("--latex", latex)
    from tokenkl.symbolic.page import page

    with progress_bar("Deriving") as progress:
        text = page(progress)
    write_outputs((latex, text))
    say_written(latex)
