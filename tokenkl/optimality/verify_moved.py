"""Verifier of inequalities about FSQ 3^n with its centre moved to an edge: python-flint alone.

    python verify_moved.py inequalities.json

A file lists claims a < b, with enclosures of both sides: exact numbers ("p/q"), sums, accuracies of
FSQ 3^n, and of the same tokens with the centre moved so that one edge has the four levels -1, -1/3,
1/3, 1; and the gain, the difference of the two, for all SNRs of an interval [lo, hi] at once. Arb
encloses each again here, with roundings and quadratures; refused unless this is inside the
enclosures of the file, and these are apart. No `assert`: `python -O` checks as much. Y = e_k + s Z,
h^2 = 1/s^2 = snr, equal priors. (docs/theory/optimality.md, O16, has the proof.)
"""

import itertools
import json
import sys
from fractions import Fraction
from typing import Any

from flint import acb, arb, ctx, fmpq

FORMAT = "tokenkl inequalities of moved tokens, version 1"
#: Of the grid, and most dimensions.
LEVELS, MOST = [-1, 0, 1], 64


def need(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def exact(value: Any) -> Fraction:
    need(type(value) in (int, str, Fraction), f"{value!r} must be a whole number or 'p/q'")
    return Fraction(value)


def ball(value: Any) -> Any:
    number = exact(value)
    return arb(fmpq(number.numerator, number.denominator))


def Q(x: Any) -> Any:  # P(Z > x)
    return (x / arb(2).sqrt()).erfc() / 2


def gained(n: int, h: Any) -> Any:
    """An interval that holds 3^n times what moving the centre to an edge adds to the accuracy.

    A column is the cells of an edge: its own coordinate y is anywhere, the m others are above 1/2.
    At y, f and g are the nearest old and new level. Of the m others, those above c are nearer to
    the new level than to the same place with a 0 in this coordinate.
    """
    m, inside, third = n - 1, 1 - Q(h / 2), arb(1) / 3
    scale = h / (2 * arb.pi()).sqrt()

    def density(x: Any) -> Any:
        return scale * (-h * h * x * x / 2).exp()

    def slab(y: Any, old: Any, nearer: bool, above: bool) -> Any:
        """What the column gains at y; `nearer`: whether the new level is; a bound from above?"""
        F, G = density(y - old), density(y - third)
        c = (1 + (y - third) ** 2 - (y - old) ** 2) / 2
        lost, won = 1 - Q(h / 2) - Q(h * (c - 1)), Q(h / 2) - Q(h * c)  # between 1/2 and c
        slope = m * inside ** (m - 1)
        if nearer == above:
            kept = (inside - lost) ** m
            slope = sum((inside ** (m - 1 - i) * (inside - lost) ** i for i in range(m)), acb(0))
        else:
            kept = inside**m - slope * lost if nearer else (inside - lost) ** m
        return G * kept - F * inside**m + F * won * slope

    half, ends = arb(1) / 2, []
    for above in (False, True):
        end = arb(0)
        for low, high, old, nearer in (
            (arb(0), third / 2, 0, False),
            (third / 2, half, 0, True),
            (half, 2 * third, 1, True),
        ):
            one: Any = lambda y, _, a=(old, nearer, above): slab(y, *a)  # noqa: E731
            end += 2 * acb.integral(one, low, high).real
        ends.append(end)
    pyramid = acb.integral(lambda u, _: density(u - 1) * (1 - 2 * Q(h * u)) ** m, 0, half)
    centre = (1 - 2 * Q(h / 2)) ** n - 2 * n * pyramid.real
    return (ends[0] - centre).union(ends[1] - centre)


def gained_between(n: int, low: Any, high: Any, halvings: int = 20) -> Any:
    """The same for all h of an interval, halved until each part is known to gain or to lose."""
    found = gained(n, low.union(high))
    if found > 0 or found < 0:
        return found
    need(halvings > 0, "the gain may change its sign")
    middle = ((low + high) / 2).mid()
    parts = [(low, middle), (middle, high)]
    lower, upper = (gained_between(n, *part, halvings - 1) for part in parts)
    return lower.union(upper)


def value(quantity: Any) -> Any:
    what = quantity["what"]
    if what == "number":
        return ball(quantity["value"])
    if what == "sum":
        return sum((ball(times) * value(one) for times, one in quantity["terms"]), arb(0))
    codebook, between = quantity["codebook"], what == "gain"  # for all SNRs of [lo, hi]
    h = ball(0 if between else quantity["snr"]).sqrt()
    need(what in ("accuracy", "gain"), f"{what} must be a known quantity")
    moved = codebook["kind"] == "centre to edge"
    n = codebook["n"] if moved else len(codebook["levels"])
    need(type(n) is int and 3 <= n <= MOST, f"dimensions must be from 3 to {MOST}")
    if between:
        need(
            moved and type(quantity["snr"]) is list, "a gain is that of a moved centre, on [lo, hi]"
        )
        low, high = (ball(end) for end in quantity["snr"])
        need(low > 0 and low < high, "gains are found on [lo, hi], 0 < lo < hi")
        return gained_between(n, low.sqrt(), high.sqrt()) / arb(3) ** n
    if not moved:
        need(codebook["kind"] == "product", "codebooks must be grids, moved or not")
        need(all(line == LEVELS for line in codebook["levels"]), "levels must be -1, 0, 1")
    grid = (1 - arb(4) / 3 * Q(h / 2)) ** n
    return grid + gained(n, h) / arb(3) ** n if moved else grid


def enclose(quantity: Any, precision: int) -> list[Fraction]:
    """Ends of an interval that holds the quantity, found at a precision in bits."""
    ctx.prec = precision
    found = value(quantity)
    need(found.is_finite(), f"{quantity['what']} is not enclosed at {precision} bits")
    ends = (end.man_exp() for end in (found.lower(), found.upper()))
    return [int(mantissa) * Fraction(2) ** int(exponent) for mantissa, exponent in ends]


def verify(record: Any) -> str:
    """Check a file, a table as JSON has it; says what is proved, or raises ValueError."""
    try:
        need(record["format"] == FORMAT and bool(record["inequalities"]), f"must be {FORMAT}")
        pairs = [(claim["less"], claim["than"]) for claim in record["inequalities"]]
        for side in itertools.chain(*pairs):
            low, high = enclose(side["quantity"], side["precision"])
            inside = exact(side["enclosure"][0]) <= low and high <= exact(side["enclosure"][1])
            need(inside, "an enclosure is not what is found")
        apart = (exact(a["enclosure"][1]) < exact(b["enclosure"][0]) for a, b in pairs)
        need(all(apart), "the enclosures are not apart")
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"damaged: {error!r}") from error
    return "; ".join(f"{a['quantity']} < {b['quantity']}" for a, b in pairs)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            print(path, "is proved:", verify(json.load(file)))
