"""`python -m experiments.findings`: the page of the claims; `tokenkl findings` runs this."""

from __future__ import annotations

import typer

from experiments.findings.claims import Records, findings, markdown
from experiments.findings.page import load_sounds, page_files
from tokenkl.cli._app import OneCommand
from tokenkl.cli._result import Result, command
from tokenkl.cli.findings import PageFiles
from tokenkl.cli.tables import print_pairs

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@command(group=app, cls=OneCommand, files=PageFiles, epilog=None, short_help="The findings.")
def main() -> Result:
    """What came of the paper's claims: a page, from the stored records of the experiments."""
    found = findings(Records())
    fields = ("key", "title", "claim", "verdict", "answer", "figures", "commands", "pages")
    return Result(
        record={
            "kind": "tokenkl findings",
            "findings": [{name: getattr(one, name) for name in fields} for one in found],
        },
        show=lambda console: print_pairs(
            console, [(one.key, f"{one.verdict}: {one.title}") for one in found]
        ),
        report=markdown(found),
        files=page_files(found, load_sounds()),
    )


if __name__ == "__main__":
    app(prog_name="python -m experiments.findings")
