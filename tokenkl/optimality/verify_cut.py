"""Verifier of inequalities about the E8 cut of 6561 tokens and FSQ 3^8: python-flint alone.

    python verify_cut.py inequalities.json

A file lists claims a < b, with enclosures of both sides: exact numbers ("p/q"), sums, accuracies of
FSQ 3^8 and of the E8 cut. Arb encloses each again here, with roundings, quadratures and what is cut
into cells; refused unless this is inside the enclosures of the file, and these are apart. No
`assert`: `python -O` checks as much. Y = e_k + s Z, h^2 = 1/s^2 = snr, equal priors.
(docs/theory/optimality.md, O14, has the proof.)

Here a step of the lattice is 1, 4/5 in the box. Of every token each coordinate is one of three
kinds, and all 3^8 words of kinds are there once: E has neighbours on one side only; M on both; F at
whole steps on one side, at half steps on both. x is the noise in a coordinate, u what counts of it
at whole steps (x; |x|; x), v at half steps (x; |x|; |x|). The token is beaten at whole steps where
the two largest u exceed 1 in sum, and at half steps where the v do 2: all of them, or, where an
even number of the signs that can be chosen is turned, less twice the least |x| of M and F.
"""

import itertools
import json
import sys
from collections import Counter
from fractions import Fraction
from typing import Any

from flint import acb, arb, arb_poly, ctx, fmpq

FORMAT = "tokenkl inequalities of a cut, version 1"
LEVELS = [-1, 0, 1]
#: Cells of a step, to which v is rounded; in cells, ends of u beyond 1/2 and of the least |x|.
CELLS = 1024
TOPS = [512, 528, 544, 560, 576, 608, 640, 672, 704, 768, 832, 896]
LEAST = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256]


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


def whole_steps(r: Any, low: Any) -> Any:
    """P(one u is above low >= 1/2, or none if low is None; no two u exceed 1 in sum), r = 1/s."""

    def below(u: Any) -> Any:  # P(a u is at most this one, at least 0)
        return 1 - arb(4) / 3 * Q(r * u)

    if low is None:
        return below(arb(1) / 2) ** 8
    scale = arb(32) / 3 * r / (2 * arb.pi()).sqrt()
    inner: Any = lambda u, _: scale * (-r * r * u * u / 2).exp() * below(1 - u) ** 7  # noqa: E731
    # Beyond 1 all others are below 0, which has a probability of 1/3 for each.
    return acb.integral(inner, low, 1).real + arb(0).union(arb(32) / 3**8 * Q(r))


def half_steps(r: Any, above: bool) -> Any:
    """A bound of P(beaten at half steps and not at whole ones), from below or from above.

    v is rounded to cells, down or up. The largest u, if it is above 1/2, and the least |x| lie
    between two of `TOPS` and of `LEAST`: one end or the other stands for them.
    """
    up, half = int(above), CELLS // 2
    tails = [Q(r * i / CELLS) for i in range(CELLS + 1)]
    mass = [a - b for a, b in itertools.pairwise(tails)]

    def kinds(top: int, least: int) -> list[Any]:
        """Of one coordinate, u < top, |x| >= least for M and F: coefficients of v + half.

        All kinds together; and with -1 for a sign that is turned, which leaves none of M.
        """
        every, signed = ([arb(0)] * (half + CELLS + 1) for _ in range(2))
        for line in (every, signed):  # E below 0; there F has u < 0
            line[up : half + up] = reversed(mass[:half])
            line[0] += up * Q(r / 2)
        for i, m in enumerate(mass):
            E, F = i < top, i >= least
            every[half + i + up] += m * (E + F * (3 * E + 1))
            signed[half + i + up] += m * (E + F * (1 - E))
        return [arb_poly(every), arb_poly(signed)]

    def beaten(power: Any, v: int) -> Any:
        return sum(power.coeffs()[v + 8 * half :], arb(0))

    total = up * (whole_steps(r, arb(TOPS[-1]) / CELLS) * 3**8 + 8 * 3**7 * Q(r))
    for low, high in [(0, half), *itertools.pairwise(TOPS)]:
        even, odd = [], []  # signs that are turned, for each least |x|
        bounds = LEAST[::2] if low else LEAST
        top = CELLS - (low if above else high) if low else half
        largest = [arb(0)] * (half + low + up) + [32 * m for m in mass[low:high]]
        for least in bounds:
            every, signed = kinds(top, least)
            square = every**2
            fourth = square**2
            if low:  # one u between low and high, 4 kinds of it with signs, of which 2 cancel
                powers = [arb_poly(largest) * fourth * square * every, arb_poly([])]
            else:
                powers = [fourth**2, signed**8]
            even.append((powers[0] + powers[1]) * (arb(1) / 2))
            odd.append((powers[0] - powers[1]) * (arb(1) / 2))
        total += beaten(odd[0], 2 * CELLS)
        for i, power in enumerate(even[:-1]):
            total += beaten(power - even[i + 1], 2 * (CELLS + bounds[i if above else i + 1]))
        total += up * beaten(even[-1], 2 * (CELLS + bounds[-1]))
    return total / 3**8


def farther(r: Any) -> Any:
    """Sum over all pairs of tokens but those of `whole_steps` and `half_steps`, per token."""
    pairs: Counter[Any] = Counter()  # ordered, by four times the squared distance
    for p, q in itertools.product((0, 1), repeat=2):
        states = Counter({(p, q, 0): 1})  # parities to come
        for _ in range(8):
            before, states = states, Counter()
            for (a, b, d), i, j in itertools.product(before, range(3), range(3)):
                states[a ^ i % 2, b ^ j % 2, d + (2 * i - 2 * j + p - q) ** 2] += before[a, b, d]
        pairs.update({d: count for (a, b, d), count in states.items() if a == b == 0})
    need(pairs[0] == 3**8 and min(set(pairs) - {0}) == 8, "tokens must be those of E8")
    return sum((n * Q(r * arb(d).sqrt() / 4) for d, n in pairs.items() if d > 8), arb(0)) / 3**8


def of_cut(h: Any, known: Any) -> Any:
    """An interval that holds the accuracy of the cut: one end is found, the other is 0 or 1."""
    r = h * 4 / 5
    kept = whole_steps(r, None) + whole_steps(r, arb(1) / 2)
    if known == "from above":
        return arb(0).union(kept - half_steps(r, False))
    need(known == "from below", f"{known} must be 'from below' or 'from above'")
    return arb(1).union(kept - half_steps(r, True) - farther(r))


def value(quantity: Any) -> Any:
    what = quantity["what"]
    if what == "number":
        return ball(quantity["value"])
    if what == "sum":
        return sum((ball(times) * value(one) for times, one in quantity["terms"]), arb(0))
    need(what == "accuracy", f"{what} must be a known quantity")
    codebook, h = quantity["codebook"], ball(quantity["snr"]).sqrt()
    if codebook["kind"] == "E8 cut":
        return of_cut(h, codebook["known"])
    need(codebook == {"kind": "product", "levels": [LEVELS] * 8}, "codebooks must be known")
    return (1 - arb(4) / 3 * Q(h / 2)) ** 8


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
