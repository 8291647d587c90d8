"""The inequalities whose certificates are in `proofs/`; this writes them anew:

    python -m tokenkl.optimality.proved FOLDER

Each is a bracket of a threshold: a claim at one SNR, and the reverse at another one. How these were
found (bisection) is no part of the proof. (docs/theory/optimality.md, O14 to O16.)
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from tokenkl.codebooks import FSQ, ProductCodebook
from tokenkl.optimality.counterexamples import centre_for_vertex, centre_to_edge, edge_heavy_nine
from tokenkl.optimality.enclosed import (
    E8_CUT,
    E8_FROM_ABOVE,
    E8_FROM_BELOW,
    Enclosed,
    Law,
)
from tokenkl.optimality.prove_less import LessCertificate, prove_less

#: A quantity, and a larger one.
Pair = tuple[Enclosed | int | str, Enclosed | int | str]

#: SNRs at which FSQ 2^n still has the larger accuracy than the cube whose vertex moved to the
#: centre, and at which it no longer has it.
CENTRE_OVERTAKES = {
    5: ("12.796", "13.107"),
    6: ("6.539", "6.649"),
    7: ("4.353", "4.402"),
    8: ("3.298", "3.323"),
}
#: SNRs from which on it has less, at all of them: a bound that stays positive once it is.
CENTRE_STAYS = {5: "14.053", 6: "8.825", 7: "7.223", 8: "6.487"}
#: SNR from which on the E8 cut errs less than FSQ 3^8: its union bound does.
E8_STAYS = "54.27"
#: SNRs at which it still errs more, and at which it errs less.
E8_OVERTAKES = ("48.1", "50.51")
#: SNRs of which at each it errs less than FSQ does at the next.
E8_LADDER = (
    *("51.2", "51.33", "51.49", "51.68", "51.91", "52.19"),
    *("52.52", "52.92", "53.40", "53.98", "54.69"),
)
#: h up to which two points, and then three, reach the capacity of [-h, h].
TWO_POINTS, THREE_POINTS = ("1.66592564", "1.66592565"), ("2.907464", "2.907465")
#: Weights of 0, against 1 at both ends, between which the three have the same density.
WEIGHTS = (("0.764343759", "0.764343761"), ("0.764344031", "0.764344033"))
#: h up to which two points are least favourable for the squared error in [-h, h].
LEAST_FAVOURABLE = ("1.05674351", "1.05674352")

#: SNRs at which FSQ 3^n still has the larger accuracy than the same tokens with the centre moved to
#: an edge, at which it no longer has it, and where that gains about the most; and how much it does.
CENTRE_TO_EDGE = {
    3: ("1.6626", "1.6542", "0.96", "8.01e-5"),
    4: ("4.2994", "4.2587", "2.5", "1.162e-4"),
    5: ("7.2813", "7.2014", "4.2", "8.94e-5"),
    6: ("10.1266", "10.0193", "5.75", "5.06e-5"),
    7: ("12.6922", "12.5705", "7.1", "2.42e-5"),
    8: ("14.9748", "14.8474", "8.2", "1.05e-5"),
}
#: Intervals of SNRs in all of which it has more: s from 0.7776 to 4, and from 0.4846 to 2.
CENTRE_TO_EDGE_STAYS = {3: ("1/16", "1.6538"), 4: ("1/4", "4.2582")}

ENDS: Law = [(-1, 1), (1, 1)]


def centre_overtakes(n: int) -> list[Pair]:
    """A vertex of the cube moved to its centre: less accuracy at one SNR, more at the other.

    The third claim is the bound of O14, whose normal probabilities are errors of two points and of
    a square: 2^(n+1) Q(sqrt(n) h/2) + n (n-1)/2 (Q(sqrt(2) h) + Q(h)^2) < 1 - Phi(h)^n + n Q(h).
    """
    moved, cube, (before, after) = centre_for_vertex(n), FSQ((2,) * n), CENTRE_OVERTAKES[n]
    snr, one = Fraction(CENTRE_STAYS[n]), Enclosed.number(1)
    ends = np.arange(2.0)

    def normal(square: Fraction) -> Enclosed:
        """Q(x) for x^2 = square."""
        return one - Enclosed.accuracy(ProductCodebook([ends]), 4 * square)

    both = Enclosed.accuracy(ProductCodebook([ends, ends]), 4 * snr) - one + 2 * normal(snr)
    lost = 2 ** (n + 1) * normal(n * snr / 4) + n * (n - 1) // 2 * (normal(2 * snr) + both)
    return [
        (Enclosed.accuracy(moved, before), Enclosed.accuracy(cube, before)),
        (Enclosed.accuracy(cube, after), Enclosed.accuracy(moved, after)),
        (lost, one - Enclosed.accuracy(cube, snr) + n * normal(snr)),
    ]


def nine_overtake() -> list[Pair]:
    """Nine points of the square on its edges, and 3 x 3: a bracket, and the gain at s = 3."""
    nine, grid = (
        functools.partial(Enclosed.accuracy, cb) for cb in (edge_heavy_nine(), FSQ((3, 3)))
    )
    return [
        (grid("0.1769006"), nine("0.1769006")),
        (nine("0.1769007"), grid("0.1769007")),
        ("7.57e-6", nine("1/9") - grid("1/9")),
    ]


def centre_to_edge_overtakes(n: int) -> list[Pair]:
    """The centre of FSQ 3^n moved to an edge: less accuracy at an SNR, more at a lower one, and how
    much more where the gain is about largest."""
    grid, moved = (
        functools.partial(Enclosed.accuracy, c) for c in (FSQ((3,) * n), centre_to_edge(n))
    )
    above, below, most, gain = CENTRE_TO_EDGE[n]
    return [
        (moved(above), grid(above)),
        (grid(below), moved(below)),
        (grid(most) + Enclosed.number(Fraction(gain)), moved(most)),
    ]


def centre_to_edge_stays() -> list[Pair]:
    """The gain is above 0 for every SNR of an interval, for n = 3 and for n = 4."""
    pairs: list[Pair] = []
    for n, snrs in CENTRE_TO_EDGE_STAYS.items():
        moved = {"kind": "centre to edge", "n": n}
        gain = Enclosed({"what": "gain", "codebook": moved, "snr": list(snrs)})
        pairs.append((0, gain))
    return pairs


def e8_overtakes() -> list[Pair]:
    """6561 tokens of the lattice E8 and FSQ 3^8: the union bound of the one, all of the other."""
    return [(Enclosed.accuracy(FSQ((3,) * 8), E8_STAYS), Enclosed.accuracy(E8_CUT, E8_STAYS))]


def e8_bracketed() -> list[Pair]:
    """The E8 cut is less accurate than FSQ 3^8 at one SNR, and more at the other."""
    grid = functools.partial(Enclosed.accuracy, FSQ((3,) * 8))
    before, after = E8_OVERTAKES
    return [
        (Enclosed.accuracy(E8_FROM_ABOVE, before), grid(before)),
        (grid(after), Enclosed.accuracy(E8_FROM_BELOW, after)),
    ]


def e8_between() -> list[Pair]:
    """More accurate at all SNRs of a ladder, and so between: accuracies grow with the SNR."""
    return [
        (Enclosed.accuracy(FSQ((3,) * 8), high), Enclosed.accuracy(E8_FROM_BELOW, low))
        for low, high in itertools.pairwise(E8_LADDER)
    ]


def two_points() -> list[Pair]:
    """Capacity: 0 has a smaller density than the ends at one h, and a larger one at the other."""
    below, above = (Fraction(h) ** 2 for h in TWO_POINTS)
    return [
        (Enclosed.density(ENDS, 0, below), Enclosed.density(ENDS, 1, below)),
        (Enclosed.density(ENDS, 1, above), Enclosed.density(ENDS, 0, above)),
    ]


def three_points() -> list[Pair]:
    """Capacity: the weight that balances the densities, and how they curve at 0 for all near it."""
    pairs: list[Pair] = []
    for index, (h, weights) in enumerate(zip(THREE_POINTS, WEIGHTS, strict=True)):
        snr = Fraction(h) ** 2
        light: Law = [*ENDS, (0, weights[0])]
        heavy: Law = [*ENDS, (0, weights[1])]
        pairs += [
            (Enclosed.density(light, 1, snr), Enclosed.density(light, 0, snr)),
            (Enclosed.density(heavy, 0, snr), Enclosed.density(heavy, 1, snr)),
        ]
        sides = (Enclosed.number(1 / snr), Enclosed.variance([*ENDS, (0, weights)], 0, snr))
        pairs.append(sides if index == 0 else (sides[1], sides[0]))
    return pairs


def least_favourable() -> list[Pair]:
    """Squared errors: 0 has a smaller one than the ends at one h, and a larger one at the other."""
    below, above = (Fraction(h) ** 2 for h in LEAST_FAVOURABLE)
    return [
        (Enclosed.risk(ENDS, 0, below), Enclosed.risk(ENDS, 1, below)),
        (Enclosed.risk(ENDS, 1, above), Enclosed.risk(ENDS, 0, above)),
    ]


#: Files of many short intervals, or of sums over many cells: few bits will do.
ROUGH = ("centre_to_edge_stays", "e8_bracketed", "e8_between")
#: What is in each file.
PROVED: dict[str, Callable[[], list[Pair]]] = {
    **{f"centre_overtakes_{n}": functools.partial(centre_overtakes, n) for n in CENTRE_OVERTAKES},
    "nine_overtake": nine_overtake,
    **{
        f"centre_to_edge_{n}": functools.partial(centre_to_edge_overtakes, n)
        for n in CENTRE_TO_EDGE
    },
    "centre_to_edge_stays": centre_to_edge_stays,
    "e8_overtakes": e8_overtakes,
    "e8_bracketed": e8_bracketed,
    "e8_between": e8_between,
    "two_points_reach_the_capacity": two_points,
    "three_points_reach_the_capacity": three_points,
    "two_points_are_least_favourable": least_favourable,
}


def prove(name: str) -> LessCertificate:
    """The certificate of one file, found anew."""
    bits = 64 if name in ROUGH else 128
    return functools.reduce(
        LessCertificate.__add__, (prove_less(a, b, precision=bits) for a, b in PROVED[name]())
    )


def main(folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROVED:
        certificate = prove(name)
        if not certificate.proved:
            sys.exit(f"{name} is not proved")
        certificate.save(folder / f"{name}.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tokenkl.optimality.proved")
    parser.add_argument("folder", type=Path, help="where the files go")
    main(parser.parse_args().folder)
