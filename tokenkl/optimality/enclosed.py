"""`Enclosed`: quantities at exact rational parameters, which ball arithmetic encloses."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

from tokenkl._extras import MissingExtra
from tokenkl._validation import check_count, reject
from tokenkl.codebooks.base import Codebook, check_codebook
from tokenkl.optimality.counterexamples import centre_to_edge
from tokenkl.optimality.ties import whole_numbers

#: An exact number: whole, a fraction, or text such as "17/10" or "1.7". A pair of them stands for
#: all numbers between.
Number = int | str | Fraction
Parameter = Number | tuple[Number, Number]
#: A law on a line: pairs of a point and its weight.
Law = Sequence[tuple[Parameter, Parameter]]

#: Kinds of codebooks, as certificates have them.
KINDS = (
    "product",
    "one-hot",
    "points",
    "vertex to centre",
    "parity classes",
    "centre to edge",
    "E8 cut",
)
MOVED = "centre to edge"
#: Kinds that have a verifier of their own, which knows FSQ 3^n beside them and nothing else.
OWN = {MOVED: "verify_moved", "E8 cut": "verify_cut"}
#: Most bits of precision.
MAX_PRECISION = 8192
#: Points of the plane that are enclosed one by one.
MAX_POINTS = 400
#: `e8_codebook()`: levels whose indices have an even sum, and others whose indices have an odd one
#: (0, 1, 2 and 1/2, 3/2, 5/2 there). Of such parity classes the union bound is enclosed.
E8_CUT: dict[str, Any] = {
    "kind": "parity classes",
    "parts": [
        {"levels": [[-1, "-1/5", "3/5"]] * 8, "parity": 0},
        {"levels": [["-3/5", "1/5", 1]] * 8, "parity": 1},
    ],
}

#: The same cut, whose accuracy is enclosed more closely from one side at a time.
E8_FROM_BELOW: dict[str, Any] = {"kind": "E8 cut", "known": "from below"}
E8_FROM_ABOVE: dict[str, Any] = {"kind": "E8 cut", "known": "from above"}


def verifier_of(*records: dict[str, Any]) -> str:
    """The verifier of some quantities: `verify_less`, or the first of their own."""
    for record in records:
        parts = [of for _, of in record["terms"]] if record.get("what") == "sum" else []
        kind = record["codebook"].get("kind", "") if "codebook" in record else ""
        if (name := OWN.get(kind) or verifier_of(*parts)) != "verify_less":
            return name
    return "verify_less"


@functools.cache
def verifier(name: str = "verify_less") -> ModuleType:
    """A verifier, which does all arithmetic; needs the extra `certified`.

    Raises:
        MissingExtra: python-flint is not installed.
    """
    try:
        return importlib.import_module(f"tokenkl.optimality.{name}")
    except ModuleNotFoundError as error:
        if error.name != "flint":
            raise
        raise MissingExtra("ball arithmetic", "python-flint", "certified") from error


def ends_of(
    record: dict[str, Any], precision: int, name: str | None = None
) -> tuple[Fraction, Fraction]:
    """What the verifier finds; the precision of the caller's own balls stays what it was.

    Which verifier follows from the record, unless `name` says it.

    Raises:
        ValueError: a quantity that the verifier does not know, or that is not enclosed.
    """
    module = verifier(name or verifier_of(record))
    import flint

    before = flint.ctx.prec
    try:
        low, high = module.enclose(record, precision)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        known = module.__name__.rpartition(".")[2]
        reject("quantity", repr(error), f"one that {known}.py knows")
    finally:
        flint.ctx.prec = before
    return low, high


def exact(value: Any, name: str) -> Any:
    """An exact number as JSON has it: p or "p/q", or [lo, hi].

    Raises:
        ValueError: a float, which need not be the number that is meant, or no number.
    """
    if isinstance(value, (tuple, list)):
        if len(value) != 2 or Fraction(exact(value[0], name)) > Fraction(exact(value[1], name)):
            reject(name, value, "a number, or a pair (lowest, highest)")
        return [exact(one, name) for one in value]
    try:
        if isinstance(value, bool) or not isinstance(value, (int, str, Fraction)):
            raise TypeError
        found = Fraction(value)
    except (TypeError, ValueError, ZeroDivisionError):
        reject(name, value, "exact: a whole number, a Fraction, or text such as '17/10' or '1.7'")
    return found.numerator if found.denominator == 1 else str(found)


def described(codebook: Codebook | dict[str, Any]) -> dict[str, Any]:
    """A codebook as certificates have it: levels, points, a number of one-hot tokens.

    Raises:
        ValueError: priors that are not equal, coordinates that are no fractions, a kind whose
            quantities have no enclosure.
    """
    if isinstance(codebook, dict):
        if codebook.get("kind") not in KINDS:
            reject("kind", codebook.get("kind"), f"one of {', '.join(KINDS)}")
        return codebook
    check_codebook(codebook)
    if not codebook.has_equal_priors:
        reject("codebook", repr(codebook), "one with equal priors")
    if (grid := codebook.as_grid) is not None:
        levels = [_fractions(np.sort(np.asarray(x))[:, None]) for x in grid.levels]
        return {"kind": "product", "levels": [[x for (x,) in line] for line in levels]}
    if (distance := codebook.common_distance) is not None:
        if not math.isclose(distance, math.sqrt(2), rel_tol=1e-15):
            reject("scale", distance / math.sqrt(2), "1 for one-hot tokens")
        return {"kind": "one-hot", "K": codebook.K}
    points = np.asarray(codebook.points)
    vertices = points[(np.abs(points) == 1).all(axis=1)]
    if (
        2**codebook.n == codebook.K
        and len(np.unique(vertices, axis=0)) == codebook.K - 1
        and not points[(points == 0).any(axis=1)].any()
    ):
        return {"kind": "vertex to centre", "n": codebook.n}
    if codebook.n >= 3 and 3**codebook.n == codebook.K and _is_centre_to_edge(points):
        return {"kind": MOVED, "n": codebook.n}
    if codebook.n != 2 or codebook.K > MAX_POINTS:
        expected = (
            "a product of lines, one-hot, a cube with a vertex moved to its centre, FSQ 3^n with "
            f"its centre moved to an edge, at most {MAX_POINTS} points of the plane, or a table "
            "such as E8_CUT"
        )
        reject("codebook", repr(codebook), expected)
    return {"kind": "points", "points": _fractions(points)}


def _is_centre_to_edge(points: np.ndarray) -> bool:
    known = np.asarray(centre_to_edge(points.shape[1]).points)
    return np.array_equal(np.unique(points, axis=0), np.unique(known, axis=0))


def _fractions(points: np.ndarray) -> list[list[Any]]:
    whole, over, recognised = whole_numbers(points)
    if not recognised:
        reject("codebook", "other coordinates", "one whose coordinates are fractions")
    return [[exact(Fraction(x, over), "coordinate") for x in row] for row in whole]


@dataclasses.dataclass(frozen=True)
class Enclosed:
    """A quantity at exact parameters: what `prove_less` compares, enclosed by ball arithmetic.

    Make one by the functions below. SNRs and other numbers are whole numbers, `Fraction`s or text
    ("17/10", "1.7"), never floats, which need not be what is meant; a pair (lowest, highest) stands
    for every number between. Codebooks have equal priors and fractions as coordinates (1/3 is
    recognised where a float stands for it). Sums, differences and multiples by exact numbers are
    quantities again.

    Source: docs/theory/optimality.md, O13 to O15. Needs the extra `certified` (python-flint).

    Example:
        >>> import tokenkl as tk
        >>> low, high = tk.Enclosed.accuracy(tk.FSQ((3, 3)), "1/9").enclosure()
        >>> float(low), high - low < 1e-30
        (0.17772838400803545, True)
    """

    record: dict[str, Any]

    # ---- Codebooks ------------------------------------------------------------------------------

    @classmethod
    def accuracy(cls, codebook: Codebook | dict[str, Any], snr: Parameter) -> Enclosed:
        """Bayes accuracy of products of lines, one-hot tokens and points of the plane.

        In brackets: of a cube with a vertex moved to the centre; of `E8_CUT`, and of other parity
        classes, from below by the union bound; of `E8_FROM_BELOW` and `E8_FROM_ABOVE`, the same cut
        more closely, in ten seconds.

        Raises:
            ValueError: another kind of codebook, priors that are not equal, or an SNR that is not
                exact or negative.
        """
        return cls(_of(codebook, "accuracy", snr))

    @classmethod
    def information(cls, codebook: Codebook | dict[str, Any], snr: Parameter) -> Enclosed:
        """Mutual information of token and observation in nats, of products of lines.

        Raises:
            ValueError: see `accuracy`.
        """
        return cls(_of(codebook, "information", snr))

    @classmethod
    def entropy(cls, codebook: Codebook | dict[str, Any], snr: Parameter) -> Enclosed:
        """Conditional entropy of the token in nats, of products of lines.

        Raises:
            ValueError: see `accuracy`.
        """
        return cls(_of(codebook, "entropy", snr))

    @classmethod
    def mmse(cls, codebook: Codebook | dict[str, Any], snr: Parameter) -> Enclosed:
        """Smallest mean squared error of an estimate of the token, of products of lines.

        Raises:
            ValueError: see `accuracy`.
        """
        return cls(_of(codebook, "mmse", snr))

    @classmethod
    def ancestral_kl(
        cls, codebook: Codebook | dict[str, Any], grid: Sequence[Parameter]
    ) -> Enclosed:
        """Path KL of the ancestral sampler at increasing SNRs, as `tk.ancestral_kl`; in nats.

        Raises:
            ValueError: see `accuracy`; SNRs that do not increase.
        """
        snrs = [Fraction(exact(snr, "grid")) for snr in grid]
        if len(snrs) < 2 or any(a >= b for a, b in itertools.pairwise(snrs)) or snrs[0] < 0:
            reject(
                "grid", [str(snr) for snr in snrs], "at least two SNRs, increasing from 0 or more"
            )
        steps = [(b - a) / 2 * cls.mmse(codebook, a) for a, b in itertools.pairwise(snrs)]
        gained = cls.information(codebook, snrs[-1]) - cls.information(codebook, snrs[0])
        return functools.reduce(Enclosed.__add__, steps) - gained

    # ---- Laws on a line -------------------------------------------------------------------------

    @classmethod
    def density(cls, law: Law, at: Parameter, snr: Parameter) -> Enclosed:
        """KL in nats of N(h at, 1) from the law of h X + N(0, 1), h^2 = snr.

        Its mean over X is the mutual information, and a law on [-1, 1] reaches the capacity if and
        only if no point of [-1, 1] has a larger density than that.

        Args:
            law: pairs (point, weight) of X, with positive weights that need not sum to 1.
            at: where it is seen from.
            snr: at least 0.

        Raises:
            ValueError: numbers that are not exact, weights not above 0.
        """
        return cls(_of_law(law, "density", at, snr))

    @classmethod
    def risk(cls, law: Law, at: Parameter, snr: Parameter) -> Enclosed:
        """E (at - E[X|Y])^2 for Y = h at + N(0, 1), where X is believed to have the law.

        Raises:
            ValueError: see `density`.
        """
        return cls(_of_law(law, "risk", at, snr))

    @classmethod
    def variance(cls, law: Law, at: Parameter, snr: Parameter) -> Enclosed:
        """E Var(X|Y) for Y = h at + N(0, 1): 1 minus snr times this curves the density there.

        Raises:
            ValueError: see `density`.
        """
        return cls(_of_law(law, "variance", at, snr))

    # ---- Numbers and sums -----------------------------------------------------------------------

    @classmethod
    def number(cls, value: Parameter) -> Enclosed:
        """A number.

        Raises:
            ValueError: a number that is not exact.
        """
        return cls({"what": "number", "value": exact(value, "value")})

    def __add__(self, other: Enclosed) -> Enclosed:
        return Enclosed({"what": "sum", "terms": terms_of(self) + terms_of(other)})

    def __sub__(self, other: Enclosed) -> Enclosed:
        return self + -1 * other

    def __rmul__(self, factor: Number) -> Enclosed:
        times = Fraction(exact(factor, "factor"))
        terms = [[exact(times * Fraction(one), "factor"), of] for one, of in terms_of(self)]
        return Enclosed({"what": "sum", "terms": terms})

    # ---- What is found --------------------------------------------------------------------------

    def enclosure(self, precision: int = 128) -> tuple[Fraction, Fraction]:
        """Ends of an interval that holds the quantity, found with so many bits.

        Raises:
            ValueError: a quantity that is not enclosed at this precision.
            MissingExtra: python-flint is not installed.
        """
        return ends_of(self.record, check_count(precision, "precision", 32, MAX_PRECISION))

    def __repr__(self) -> str:
        return f"<Enclosed {summary(self.record)}>"


def terms_of(quantity: Enclosed) -> list[list[Any]]:
    """Pairs of a factor and a record, whose sum it is."""
    record = quantity.record
    return list(record["terms"]) if record["what"] == "sum" else [[1, record]]


def _of(codebook: Codebook | dict[str, Any], what: str, snr: Parameter) -> dict[str, Any]:
    return {"what": what, "codebook": described(codebook), "snr": _snr(snr)}


def _of_law(law: Law, what: str, at: Parameter, snr: Parameter) -> dict[str, Any]:
    pairs = [[exact(point, "law"), exact(weight, "law")] for point, weight in law]
    return {"what": what, "law": pairs, "at": exact(at, "at"), "snr": _snr(snr)}


def _snr(snr: Parameter) -> Any:
    found = exact(snr, "snr")
    if Fraction(found[0] if isinstance(found, list) else found) < 0:
        reject("snr", snr, "at least 0")
    return found


def summary(record: dict[str, Any]) -> str:
    """A quantity in a few words."""
    if record["what"] == "number":
        return _shown(record["value"])
    if record["what"] == "sum":
        return " + ".join(f"{_shown(times)} ({summary(of)})" for times, of in record["terms"])
    if "law" in record:
        law = ", ".join(f"{_shown(s)}: {_shown(w)}" for s, w in record["law"])
        of = f"{{{law}}} seen from {_shown(record['at'])}"
    else:
        of = _codebook_in_words(record["codebook"])
    return f"{record['what']} of {of} at snr {_shown(record['snr'])}"


def _shown(value: Any) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)


def _codebook_in_words(codebook: dict[str, Any]) -> str:
    kind = codebook["kind"]
    if kind == "product":
        lines = Counter(f"{{{', '.join(map(str, levels))}}}" for levels in codebook["levels"])
        return " x ".join(line if n == 1 else f"{line}^{n}" for line, n in lines.items())
    if kind == "one-hot":
        return f"one-hot {codebook['K']}"
    if kind in ("vertex to centre", MOVED):
        return f"{kind}, n = {codebook['n']}"
    if kind == "points":
        return f"{len(codebook['points'])} points of the plane"
    if kind == "E8 cut":
        return f"E8 cut, {codebook['known']},"
    return "parity classes of " + " and of ".join(
        _codebook_in_words({"kind": "product", **part}) for part in codebook["parts"]
    )
