"""`prove_less`: that one quantity is smaller than another, with a file that proves it."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import tokenkl
from tokenkl._files import PathLike, atomic_path
from tokenkl._formats import conform, reading
from tokenkl._validation import check_count, printable, reject
from tokenkl.optimality.enclosed import (
    MAX_PRECISION,
    Enclosed,
    ends_of,
    summary,
    verifier,
    verifier_of,
)

#: Decimal digits of an enclosure, at least.
DIGITS = 15
#: What files of claims are called: `FORMAT` of each verifier.
FORMATS = {
    "verify_less": "tokenkl inequalities, version 1",
    "verify_moved": "tokenkl inequalities of moved tokens, version 1",
    "verify_cut": "tokenkl inequalities of a cut, version 1",
}


@dataclasses.dataclass(frozen=True)
class LessCertificate:
    """Claims that a quantity is smaller than another, and enclosures that prove them.

    - `proved`: whether all enclosures are apart, the smaller one below.
    - `claims`: as JSON has them: "less" and "than", each with its quantity (exact parameters), its
      enclosure (decimal numbers, rounded outwards) and the precision in bits.
    - `versions`: of what found them.

    - `verifier`: which script checks it.

    Certificates are joined by `+`. `save` writes one as a file that verify_less.py checks,
    verify_moved.py where a token of FSQ 3^n is moved to an edge, or verify_cut.py where the
    accuracy of the E8 cut is enclosed.
    """

    proved: bool
    claims: tuple[dict[str, Any], ...]
    versions: dict[str, str]

    @property
    def record(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {
            "format": FORMATS[self.verifier],
            "proved": self.proved,
            "versions": self.versions,
            "inequalities": list(self.claims),
        }

    @property
    def verifier(self) -> str:
        """Which script checks it: verify_less, verify_moved or verify_cut."""
        return verifier_of(*(side["quantity"] for claim in self.claims for side in _sides(claim)))

    @property
    def says(self) -> list[str]:
        """The claims in words, with enclosures of both sides."""
        return [
            printable(
                " < ".join(
                    f"{summary(side['quantity'])} [{side['enclosure'][0]}, {side['enclosure'][1]}]"
                    for side in _sides(claim)
                )
            )
            for claim in self.claims
        ]

    def __add__(self, other: LessCertificate) -> LessCertificate:
        return LessCertificate(
            self.proved and other.proved, self.claims + other.claims, self.versions
        )

    def check(self) -> str:
        """Enclose all sides again, by the verifier; returns a sentence that says what is proved.

        Raises:
            ValueError: a certificate that proves nothing.
            MissingExtra: python-flint is not installed.
        """
        if not self.proved:
            reject("certificate", "one that is not proved", "proved for it to be verified")
        sides = [side for claim in self.claims for side in _sides(claim)]
        bits = [check_count(one.get("precision"), "precision", 32, MAX_PRECISION) for one in sides]
        module = verifier(self.verifier)
        import flint

        before = flint.ctx.prec
        try:
            module.verify(self.record)
        finally:
            flint.ctx.prec = before
        count = len(self.claims)
        return (
            f"{count} inequalit{'y' if count == 1 else 'ies'} in balls of at most {max(bits)} bits."
        )

    def save(self, path: PathLike) -> None:
        """Write it as JSON: for `load_inequalities`, and for its verifier by itself."""
        with atomic_path(path) as new:
            Path(new).write_text(json.dumps(self.record) + "\n")

    def __repr__(self) -> str:
        sign = "proved" if self.proved else "NOT proved"
        return f"<LessCertificate {sign}: {'; '.join(self.says)}>"


def prove_less(
    a: Enclosed | int | str | Fraction,
    b: Enclosed | int | str | Fraction,
    *,
    precision: int = 128,
    limit: int = 1024,
) -> LessCertificate:
    """Prove a < b for quantities at exact parameters, by enclosures in ball arithmetic.

    Both sides are enclosed with all roundings, quadrature errors and tails inside; where the two
    overlap, again with twice as many bits, up to the limit. An inequality that is not proved may be
    false, an equality, or one between brackets that no precision makes narrower.

    Args:
        a: an `Enclosed` quantity, or an exact number.
        b: the same.
        precision: bits to begin with, at least 32.
        limit: most bits, at most 8192.

    Returns:
        A `LessCertificate`: `proved`, and a file for `tokenkl certify --check`.

    Raises:
        ValueError: a quantity without an enclosure, a number that is not exact, a limit below the
            precision.
        MissingExtra: python-flint is not installed.

    Source: docs/theory/optimality.md, O13 to O16; Arb: Johansson, IEEE Trans. Comput. 66 (2017).

    Example:
        >>> import tokenkl as tk
        >>> from tokenkl.optimality.counterexamples import centre_for_vertex
        >>> cube, centre = tk.FSQ((2,) * 5), centre_for_vertex(5)
        >>> accuracy = tk.Enclosed.accuracy
        >>> tk.prove_less(accuracy(cube, "81/4"), accuracy(centre, "81/4")).proved
        True
        >>> tk.prove_less(accuracy(cube, 9), accuracy(centre, 9)).proved
        False
    """
    sides = [one if isinstance(one, Enclosed) else Enclosed.number(one) for one in (a, b)]
    bits = check_count(precision, "precision", 32, MAX_PRECISION)
    if check_count(limit, "limit", 32, MAX_PRECISION) < bits:
        reject("limit", limit, f"at least the precision, {bits}")
    name = verifier_of(*(side.record for side in sides))
    widths: list[Fraction] | None = None
    while True:
        found = [ends_of(side.record, bits, name) for side in sides]
        before, widths = widths, [high - low for low, high in found]
        gap = found[1][0] - found[0][1]
        # Brackets stay as wide as they are, and what is reversed stays so.
        settled = gap > 0 or found[1][1] <= found[0][0]
        still = before is not None and max(widths) > max(before) / 2
        if settled or still or 2 * bits > limit:
            break
        bits *= 2
    digits = DIGITS
    while gap > 0 and Fraction(1, 10**digits) > gap / 8:
        digits += 1
    claim = {
        name: {
            "quantity": side.record,
            "enclosure": [_decimal(low, digits, -1), _decimal(high, digits, 1)],
            "precision": bits,
        }
        for name, side, (low, high) in zip(("less", "than"), sides, found, strict=True)
    }
    versions = {"tokenkl": tokenkl.__version__, "python-flint": metadata.version("python-flint")}
    return LessCertificate(gap > 0, (claim,), versions)


def load_inequalities(path: PathLike) -> LessCertificate:
    """A file that `LessCertificate.save` wrote; nothing is verified before `check`.

    Raises:
        FileError: a file that is missing, damaged, or has no such claims.
    """
    with reading(path, "a certificate of tk.prove_less, as JSON") as file:
        found = file.json(dict[str, Any])
        if found.get("format") not in FORMATS.values():
            file.refuse("it has no such description")
        try:
            certificate = LessCertificate(
                conform(found["proved"], bool, "proved"),
                tuple(conform(found["inequalities"], list[dict[str, Any]], "inequalities")),
                conform(found["versions"], dict[str, str], "versions"),
            )
            _ = certificate.says
            if found["format"] != certificate.record["format"]:
                file.refuse("its description is that of other claims")
        except (AttributeError, LookupError, TypeError):
            file.refuse("its claims are not pairs of quantities with enclosures")
        if not certificate.claims:
            file.refuse("it has no claims")
        return certificate


def holds_inequalities(path: PathLike) -> bool:
    """Whether a file of JSON says that it has such claims, and not another kind of certificate.

    Raises:
        FileError: a file that is missing, or no JSON.
    """
    with reading(path, "a certificate, as JSON") as file:
        return file.json(dict[str, Any]).get("format") in FORMATS.values()


def _sides(claim: dict[str, Any]) -> tuple[Any, Any]:
    return claim["less"], claim["than"]


def _decimal(value: Fraction, digits: int, outwards: int) -> str:
    """With so many digits behind the point, and two units of the last one further outwards."""
    scaled = value * 10**digits
    whole = (math.ceil(scaled) if outwards > 0 else math.floor(scaled)) + outwards
    text = str(abs(whole)).zfill(digits + 1)
    return f"{'-' if whole < 0 else ''}{text[:-digits]}.{text[-digits:]}"
