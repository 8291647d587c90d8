"""`tokenkl certify`: is a codebook a local maximum of its distances, with a file that proves it.

Certificates of inequalities, which `tk.prove_less` makes, are verified here as well.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tokenkl.cli._app import Content
from tokenkl.cli._options import Seed
from tokenkl.cli._result import JsonFile, Result, command

if TYPE_CHECKING:
    from tokenkl.optimality import LessCertificate, LocalCertificate


@dataclasses.dataclass(frozen=True)
class CertificateFiles(JsonFile):
    """The certificate, and the record of what it says."""

    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the certificate, as JSON."),
    ] = None

    def _targets(self) -> dict[str, str | None]:
        output = None if self.output is None else str(self.output)
        return {"--output": output, "--json": self.json_file}

    def _outputs(self, result: Result) -> list[tuple[str | None, Content]]:
        return [
            (self._targets()["--output"], result.files["certificate"]),
            *super()._outputs(result),
        ]


@command(files=CertificateFiles, short_help="Is a codebook a local maximum, with a proof.")
def certify(
    *,
    codebook: Annotated[
        str | None,
        typer.Argument(metavar="[CODEBOOK]", help="Such as fsq:3^8; see the list below."),
    ] = None,
    objective: Annotated[
        str, typer.Option(metavar="NAME", help="mean_distance or min_distance.")
    ] = "mean_distance",
    constraint: Annotated[
        str, typer.Option(metavar="NAME", help="box, ball, power or variance.")
    ] = "box",
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Verify a certificate again instead, exactly."),
    ] = None,
    seed: Seed = 0,
) -> Result:
    """Whether no codebook near this one has larger distances of nearest neighbours, with a proof.

    The proof is weights that balance, or a direction of ascent, in whole numbers; --check, or
    "python verify_dual.py FILE" (verify_ascent.py for a direction) without tokenkl, verifies it.
    --check takes inequalities of tk.prove_less and bounds by patterns of cells, too. Exit code 1 if
    it does not hold.

    \b
    Example: tokenkl certify fsq:8x5x5x5 -o certificate.json
    """
    import tokenkl as tk
    from tokenkl._validation import reject
    from tokenkl.optimality.nn_bounds import holds_patterns
    from tokenkl.optimality.prove_less import holds_inequalities

    if (codebook is None) == (check is None):
        reject("CODEBOOK", str(codebook), "given, or --check FILE, and not both")
    if check is not None and holds_inequalities(check):
        return _inequalities(check)
    if check is not None and holds_patterns(check):
        return _patterns(check)
    if check is not None:
        found, says, code = _verified(check)
    else:
        assert codebook is not None
        found = tk.certify_local(tk.codebook(codebook, seed=seed), objective, constraint)
        says, code = "", 0
    record = {
        f.name: getattr(found, f.name) for f in dataclasses.fields(found) if f.name != "record"
    }
    return Result(
        {
            **record,
            "K": found.points.shape[0],
            "n": found.points.shape[1],
            "verified": says or None,
        },
        show=lambda console: _print(console, found, says),
        found=found,
        title=f"{found.codebook}, {found.objective} ({found.constraint})",
        files={"certificate": lambda path: found.save(path)},
        exit_code=code,
    )


def _verified(path: Path) -> tuple[LocalCertificate, str, int]:
    """A certificate out of a file, what is proved, and the exit code."""
    import tokenkl as tk

    found = tk.load_certificate(path)
    try:
        return found, f"Verified: {found.check()}", 0
    except ValueError as error:
        return found, f"NOT verified: {error}", 1


def _inequalities(path: Path) -> Result:
    """Certificates of `tk.prove_less`, enclosed anew."""
    import tokenkl as tk

    found = tk.load_inequalities(path)
    try:
        says, code = f"Verified: {found.check()}", 0
    except ValueError as error:
        says, code = f"NOT verified: {error}", 1
    return Result(
        {**found.record, "verified": says},
        show=lambda console: _print_claims(console, found, says),
        found=found,
        title=f"{len(found.claims)} inequalities",
        files={"certificate": lambda target: found.save(target)},
        exit_code=code,
    )


def _patterns(path: Path) -> Result:
    """Weights for all patterns of cells, checked in whole numbers."""
    from tokenkl.optimality.nn_bounds import check_patterns

    try:
        says, code = f"Verified: {check_patterns(path)}", 0
    except ValueError as error:
        says, code = f"NOT verified: {error}", 1
    return Result(
        {"verified": says},
        show=lambda console: console.print(says, markup=False),
        title="Patterns of cells",
        files={"certificate": lambda target: shutil.copyfile(path, target)},
        exit_code=code,
    )


def _print_claims(console: Console, found: LessCertificate, says: str) -> None:
    for claim in found.says:
        console.print(claim, markup=False, highlight=False)
    console.print()
    console.print(says, markup=False)


def _print(console: Console, found: LocalCertificate, says: str) -> None:
    from tokenkl.cli.tables import print_pairs

    rows = [
        ("verdict", found.verdict),
        ("decided by order", str(found.order)),
        ("first derivative", f"{found.value:.6g}"),
        ("second derivative", f"{found.curvature:.6g}"),
        ("arithmetic", found.arithmetic),
        ("method", found.method),
    ]
    if found.direction is not None:
        rows.insert(4, ("rises by", f"{found.gain:.6g}, after a step of {found.step:.3g}"))
    print_pairs(console, rows)
    if says:
        console.print()
        console.print(says)
