"""`tokenkl findings`: what came of the paper's claims, from the experiments of a checkout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tokenkl.cli._app import check_output
from tokenkl.cli._checkout import run_in_checkout
from tokenkl.cli._options import Output, Report
from tokenkl.cli._result import FolderFiles, command


@dataclasses.dataclass(frozen=True)
class PageFiles(FolderFiles):
    """A folder with a page, and the same in Markdown; also of `python -m experiments.findings`."""

    output: Output = Path("findings")
    report: Report = None

    def check(self) -> None:
        super().check()
        check_output("--report", self.report)

    def words(self) -> list[str]:
        """The same, typed."""
        report = [] if self.report is None else ["--report", self.report]
        return ["--output", str(self.output), *report]


@command(epilog=None, short_help="What came of the paper's claims: a page.")
def findings(*, wanted: PageFiles) -> None:
    """Each claim of the paper with our answer, figure, numbers and command, and speech to hear.

    From a source checkout: index.html in a folder of its own, from the records in figures/.
    """
    run_in_checkout("ask for findings", "experiments.findings", wanted.words())
