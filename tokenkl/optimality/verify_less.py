"""Verifier of inequalities in ball arithmetic, with python-flint and Python's standard library.

    python verify_less.py inequalities.json

A file lists claims a < b of quantities at exact rational parameters ("p/q"; [lo, hi]: all between),
with enclosures. Arb encloses each again here, with roundings, quadratures and tails; refused unless
this is inside the enclosures of the file, and these are apart. No `assert`: `python -O` checks as
much. Y = h e_k + noise, h^2 = snr, equal priors, Z ~ N(0, 1). (docs/theory/optimality.md, O13.)
"""

import itertools
import json
import math
import sys
from collections import Counter
from fractions import Fraction
from typing import Any

from flint import acb, arb, ctx, fmpq, fmpz_poly

FORMAT = "tokenkl inequalities, version 1"
inf: Any = math.inf


def need(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def exact(value: Any) -> Fraction:
    need(type(value) in (int, str, Fraction), f"{value!r} must be a whole number or 'p/q'")
    return Fraction(value)


def ball(value: Any) -> Any:
    ends = [exact(one) for one in (value if isinstance(value, list) else [value])]
    need(len(ends) in (1, 2) and ends == sorted(ends), "an interval must be [lo, hi]")
    return arb.union(*(arb(fmpq(x.numerator, x.denominator)) for x in (ends[0], ends[-1])))


def Q(x: Any) -> Any:  # P(Z > x)
    return (x / arb(2).sqrt()).erfc() / 2


def expectation(f: Any, tail: Any) -> Any:
    """E f(Z), where |z| > c adds at most tail exp(-c^2 / 2)."""
    c, root = arb(math.isqrt(2 * ctx.prec) + 2), (2 * arb.pi()).sqrt()
    inner = acb.integral(lambda z, analytic: f(z, analytic) * (-z * z / 2).exp(), -c, c)
    return inner.real / root + arb(0, 1) * tail * (-c * c / 2).exp()


def seen_from(what: str, law: list[tuple[Any, Any]], at: Any, h: Any) -> Any:
    """X has weights w at s, Y = h at + Z: KL(Y || Y of the law), or what its posterior errs."""
    need(all(w > 0 for _, w in law), "weights must be above 0")
    away, total = [(at - s, w) for s, w in law], sum((w for _, w in law), arb(0))
    tail = (1 + (2 + h) * sum((abs(d) for d, _ in away), arb(0))) ** 2

    def moment(z: Any, p: int) -> Any:  # of the posterior, up to one factor
        return sum((w * acb(d) ** p * (-h * d * (z + h * d / 2)).exp() for d, w in away), acb(0))

    if what == "density":
        return -expectation(lambda z, a: (moment(z, 0) / total).log(analytic=a), tail)
    risk = expectation(lambda z, _: (moment(z, 1) / moment(z, 0)) ** 2, tail)
    if what == "risk":  # E (at - E[X|Y])^2
        return risk
    need(what == "variance", f"{what} must be a known quantity")  # E Var(X|Y)
    return expectation(lambda z, _: moment(z, 2) / moment(z, 0), tail) - risk


def product(what: str, codebook: Any, h: Any) -> Any:
    """Of lines with equal levels: accuracies multiply, all else adds."""

    def line(levels: tuple[Fraction, ...]) -> Any:
        need(bool(levels) and list(levels) == sorted(set(levels)), "levels must increase")
        if what == "accuracy":
            gaps = (ball(b - a) for a, b in itertools.pairwise(levels))
            return 1 - 2 * sum((Q(h * gap / 2) for gap in gaps), arb(0)) / len(levels)
        law = [(ball(s), arb(1)) for s in levels]
        name = {"mmse": "risk", "entropy": "density", "information": "density"}[what]
        mean = sum((seen_from(name, law, s, h) for s, _ in law), arb(0)) / len(levels)
        return arb(len(levels)).log() - mean if what == "entropy" else mean

    lines = [tuple(map(exact, levels)) for levels in codebook["levels"]]
    once = {levels: line(levels) for levels in set(lines)}
    return (math.prod if what == "accuracy" else sum)(once[levels] for levels in lines)


def planar_error(points: Any, h: Any) -> Any:
    """Owen's T over edges of Voronoi cells: middle + tau (d turned), low < tau < high, exact."""
    need(len(set(map(tuple, points))) == len(points), "points must be different")
    edges: Counter[Any] = Counter()  # |d|^2 and an end of an edge, to how often it adds
    for e, other in itertools.permutations(points, 2):
        d, low, high = (other[0] - e[0], other[1] - e[1]), -inf, inf
        for f in ((x - e[0], y - e[1]) for x, y in points):
            slope = 2 * (d[0] * f[1] - d[1] * f[0])  # slope tau <= room
            room = f[0] * (f[0] - d[0]) + f[1] * (f[1] - d[1])
            if slope > 0:
                high = min(high, room / slope)
            elif slope < 0 or room < 0:
                low = max(low, room / slope if slope else inf)
        if low < high:
            edges.update((d[0] ** 2 + d[1] ** 2, end) for end in (high, -low))
    total, turn = arb(0), 2 * arb.pi()
    for (square, end), count in edges.items():
        x = h * ball(square).sqrt() / 2
        kernel: Any = lambda u, _, x=x: (-x * x * (1 + u * u) / 2).exp() / (1 + u * u)  # noqa: E731
        owen = Q(x) / 2 if end == inf else acb.integral(kernel, 0, ball(2 * end)).real / turn
        total += count * owen
    return total / len(points)


def moved_vertex(n: int, snr: Any) -> Any:
    """The accuracy of the cube with one vertex moved to the centre."""
    R = n * (h := ball(snr).sqrt())
    size = R**n * (R * R / 2 + h * R).exp() / math.factorial(n - 1)
    before, bits = ctx.prec, ctx.prec + 32 + max(0, int(1.443 * float(size.log().upper())))
    ctx.prec, power, inside, last = bits, fmpz_poly([1]), arb(0), arb(0)
    c = n * (h := ball(snr).sqrt()) / 2  # E (1 - exp(h (S - c)))_+, S a sum of n half-normals
    signs = [(-1) ** j * math.prod(range(1, 2 * j, 2)) for j in range(bits // 2 + 1)]
    for _ in range(n):
        power = fmpz_poly((power * fmpz_poly(signs)).coeffs()[: len(signs)])
    term = h * c ** (n + 1) / math.factorial(n + 1)
    for i in range(bits):
        last = (power[i // 2] if i % 2 == 0 else 0) - h * last
        inside, term = inside + last * term, term * c / (i + n + 2)
    inside = (inside + arb(0, 1) * size / arb(2) ** (bits - 2)) * (2 / arb.pi()) ** (arb(n) / 2)
    ctx.prec, end = before, arb(math.isqrt(2 * before) + 2)
    near = acb.integral(lambda u, _: (-((u + h) ** 2) / 2).exp() * Q(u - h) ** (n - 1), 0, end)
    cube, there = (1 - Q(h)) ** n, near.real / (2 * arb.pi()).sqrt() + arb(0, 1) * Q(end)
    gain = inside + arb(0).union((1 - inside) / arb(2) ** n) - (cube - n * there)
    return cube + gain / 2**n


def union_bound(parts: Any, h: Any) -> Any:
    """Of parity classes: tokens are levels of one part, the sum of whose indices has its parity."""
    pairs: Counter[Any] = Counter()  # ordered, by squared distance
    for one, two in itertools.product(parts, repeat=2):
        states = Counter({(one["parity"], two["parity"], 0): 1})  # parities to come, |x - y|^2
        for xs, ys in zip(one["levels"], two["levels"], strict=True):
            before, states = states, Counter()
            steps = itertools.product(before, enumerate(xs), enumerate(ys))
            for (p, q, d), (i, x), (j, y) in steps:
                states[p ^ i % 2, q ^ j % 2, d + (exact(x) - exact(y)) ** 2] += before[p, q, d]
        pairs.update({d: count for (p, q, d), count in states.items() if p == q == 0})
    K = math.isqrt(pairs.total())
    need(pairs.pop(0) == K, "tokens must be different")
    return sum((n * Q(h * ball(d).sqrt() / 2) for d, n in pairs.items()), arb(0)) / K


def value(quantity: Any) -> Any:
    what, codebook = quantity["what"], quantity.get("codebook", {})
    if what == "number":
        return ball(quantity["value"])
    if what == "sum":
        return sum((ball(times) * value(one) for times, one in quantity["terms"]), arb(0))
    h, kind = ball(quantity["snr"]).sqrt(), codebook.get("kind")
    if "law" in quantity:
        law = [(ball(s), ball(w)) for s, w in quantity["law"]]
        return seen_from(what, law, ball(quantity["at"]), h)
    if kind == "product":
        return product(what, codebook, h)
    need(what == "accuracy", "of this codebook only the accuracy is enclosed")
    if kind == "one-hot":
        return expectation(lambda z, _: Q(-z - h) ** len(range(1, codebook["K"])), 1)
    if kind == "vertex to centre":
        return moved_vertex(codebook["n"], quantity["snr"])
    if kind == "points":
        return 1 - planar_error([list(map(exact, e)) for e in codebook["points"]], h)
    return arb(1).union(1 - union_bound(codebook["parts"], h))


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
