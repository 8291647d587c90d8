"""`tokenkl reproduce`: the figures and tables, by the experiments of a source checkout."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tokenkl.cli._checkout import run_in_checkout
from tokenkl.cli._options import Scheduler
from tokenkl.cli._result import command


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which figures, and how; also the options of `python -m experiments`."""

    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAMES", help="Figures; all without any.")
    ] = None
    list_them: Annotated[bool, typer.Option("--list", help="Names and claims; no work.")] = False
    list_settings: Annotated[
        bool, typer.Option("--list-settings", help="What --set takes, with defaults; no work.")
    ] = False
    smoke: Annotated[
        bool, typer.Option("--smoke", help="The tiny version of each, in seconds.")
    ] = False
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Another value of a setting of one figure; repeat."
        ),
    ] = None
    plot_only: Annotated[
        bool, typer.Option("--plot-only", help="Draw again from stored results.")
    ] = False
    keep: Annotated[
        bool, typer.Option("--keep", help="Skip what is stored already for the same config.")
    ] = False
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compute and compare with figures/, which stays: one table, exit code."
        ),
    ] = False
    scheduler: Scheduler = None
    quick: Annotated[bool, typer.Option("--quick", help="Those that take seconds.")] = False
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where results go; figures/ without it, build/experiments/ with --smoke or --set, "
            "nowhere with --check.",
        ),
    ] = None

    def words(self) -> list[str]:
        """The same, typed."""
        words = [*(self.names or ()), *["--list"] * self.list_them]
        words += ["--list-settings"] * self.list_settings + ["--smoke"] * self.smoke
        for change in self.changes or ():
            words += ["--set", change]
        words += ["--plot-only"] * self.plot_only + ["--keep"] * self.keep
        words += ["--check"] * self.check + ["--quick"] * self.quick
        words += [] if self.scheduler is None else ["--scheduler", self.scheduler]
        return words + ([] if self.folder is None else ["--folder", str(self.folder)])


@command(epilog=None, short_help="Compute the figures and tables again.")
def reproduce(*, wanted: Wanted) -> None:
    """Compute the figures and tables again, from a source checkout.

    After Ctrl-C, `tokenkl reproduce --keep` goes on where it stopped. With --check each figure's
    numbers are identical with the stored ones, within error of them, or different (exit code 1).
    """
    run_in_checkout("reproduce", "experiments", wanted.words())
