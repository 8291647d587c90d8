"""High-precision references that the fast float64 estimators are held against.

    python tests/references/make_references.py                  # rewrite product.json, onehot.json
    python tests/references/make_references.py --only product   # one file only
    python tests/references/make_references.py --check 20       # recompute 20 stored entries
    python tests/references/make_references.py --verify         # cross-check by other methods

Needs python-flint and mpmath, and nothing of `tokenkl`. One core, about six minutes.

Channel: Y = sqrt(snr) e_k + eps, eps ~ N(0, I), token k with probability pi_k; nats. Stored for
each problem, as decimal strings of 20 significant digits, each with that RELATIVE accuracy:

    accuracy             E max_k p(k|Y)
    error_probability    1 - accuracy
    conditional_entropy  H(k|Y)
    mutual_information   H(pi) - H(k|Y)
    mmse                 E ||e_k - E[e_k|Y]||^2

Inputs are exact: levels, priors and snr are the float64 numbers in the file, the priors (already
normalised in float64) divided by their exact sum. A prior may be a recipe: "equal" is 1/K exactly,
"zipf" is `p = 1 / np.arange(1, K + 1); p /= p.sum()` in float64, then divided by its exact sum.

product.json, one-dimensional codebooks (`levels`):
    error_probability in closed form, a sum of positive normal tails over the MAP intervals (upper
    envelope of the scores); conditional_entropy and mmse by Arb's adaptive Gauss-Legendre rule with
    rigorous error bounds (`acb.integral`) on forms whose integrands are positive, for token k sent
    and the noise x, with r_j(x) = exp(log(pi_j/pi_k) - d_j x - d_j^2/2), d_j = h (u_k - u_j),
        pi_k phi(x) log1p(sum_{j != k} r_j),
        pi_k phi(x) [sum_{j != k} r_j (u_j - u_k) / (1 + sum_{j != k} r_j)]^2,
    split at x = 0 and where r_j = 1, the tails outside added to the enclosure. So every number is
    a proved enclosure, rounded.

onehot.json, e_k = basis vectors of R^K, h^2 = snr, l_k = log pi_k:
    error_probability = sum_k pi_k int Phi(v - h - l_k/h) G_k'(v) dv with
    G_k(v) = prod_{j != k} Phi(v - l_j/h): parts in the textbook formula, so that all terms are
    positive and the relative accuracy survives at 1e-80. With L(u) = E f(u + h z),
    f(t) = exp(-e^t), M = -L' and P_k(v) = prod_{j != k} L(v + l_j),
        conditional_entropy = int [f(u) - sum_k pi_k L(u + l_k - c + h^2) P_k(u - c)] du
                              - sum_k pi_k (l_k - c) - h^2,   c = max_k l_k,
        mmse = 1 - int sum_k pi_k M(v + l_k + h^2) P_k(v) dv,
    the forms that cancel, at enough digits for the cancellation (the forms that do not, which the
    library uses, are computed beside and must agree). Trapezoidal rule in u and in z, the steps set
    by the strip |Im| < pi/2 in which everything is bounded; all is repeated with smaller steps
    and must agree. L is a convolution on the grid with exact integers (fixed point, fmpz_poly) for
    h > 0.2, a plain sum over z below. L(u + h^2) and M(u + h^2) use the tilted weights
    phi(z - h), since E g(h z + h^2) = E g(h z) exp(h z - h^2/2).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from flint import acb, arb, ctx, fmpz, fmpz_poly

HERE = Path(__file__).resolve().parent
DIGITS = 20
PREC = 256  # bits, raised where a cancellation asks for it
FIELDS = (
    "accuracy",
    "error_probability",
    "conditional_entropy",
    "mutual_information",
    "mmse",
)


# ---------------------------------------------------------------------------------------- helpers
def to_mpf(x: arb) -> mpmath.mpf:
    man, exp = x.mid().man_exp()
    with mpmath.workprec(2000):
        return mpmath.ldexp(mpmath.mpf(int(man)), int(exp))


def to_string(x: arb) -> str:
    """20 significant digits; refuses a ball that is not that narrow."""
    if x == 0:
        return "0"
    if not (x > 0) or x.rad() / x.mid() > arb(10) ** -(DIGITS + 2):
        raise ArithmeticError(f"not {DIGITS} digits: {x}")
    with mpmath.workdps(40):
        return mpmath.nstr(to_mpf(x), DIGITS)


def relative(a: arb, b: arb) -> float:
    """|a - b| / |b| of the midpoints, as a float."""
    a, b = a.mid(), b.mid()
    return float(abs(a - b) / abs(b)) if b != 0 else float(abs(a))


def log_inverse(eps: arb) -> float:
    """log(1/eps) as a float, for an eps that may underflow float64."""
    return float(-eps.mid().log())


def normal_cdf(x: arb) -> arb:
    return (-x / arb(2).sqrt()).erfc() / 2


def normal_pdf(x: arb) -> arb:
    return (-x * x / 2).exp() / (2 * arb.pi()).sqrt()


def exact_prior(prior: list[float]) -> list[arb]:
    p = [arb(x) for x in prior]
    total = sum(p, arb(0))
    return [x / total for x in p]


def entropy(p: list[arb], mult: list[int] | None = None) -> arb:
    mult = mult or [1] * len(p)
    return -sum((m * x * x.log() for x, m in zip(p, mult, strict=True)), arb(0))


def normalised(p: list[float]) -> list[float]:
    a = np.asarray(p, dtype=np.float64)
    return [float(x) for x in a / a.sum()]


def zipf(K: int) -> list[float]:
    p = 1 / np.arange(1, K + 1)
    p /= p.sum()
    return [float(x) for x in p]


def skewed(K: int) -> list[float]:
    return normalised([0.98] + [0.02 / (K - 1)] * (K - 1))


# --------------------------------------------------------------------------- one-dimensional codes
def map_error(u: list[arb], p: list[arb], h: arb) -> arb:
    """Error probability of the MAP decision, from the upper envelope of the scores."""
    error = arb(0)
    for k in range(len(u)):
        low = high = None
        for j in range(len(u)):
            if j == k:
                continue
            # noise x beyond which j beats k, when k was sent
            t = (u[j] - u[k]) * h / 2 + (p[k] / p[j]).log() / (h * (u[j] - u[k]))
            if u[j] > u[k]:
                high = t if high is None else high.min(t)
            else:
                low = t if low is None else low.max(t)
        if low is not None and high is not None and not (low < high):
            if not (low > high):
                raise ArithmeticError("three scores meet: is the interval of a token empty?")
            error += p[k]  # k owns no interval
            continue
        if low is not None:
            error += p[k] * normal_cdf(low)
        if high is not None:
            error += p[k] * normal_cdf(-high)
    return error


def token_integrals(u: list[arb], p: list[arb], h: arb, k: int, T: arb, eps: arb) -> list[arb]:
    """The shares of a sent token k in H and mmse, enclosed; x is the noise.

    |x| < T by quadrature; beyond, log1p(sum) <= x^2 / 2 - log p_k and |miss| <= the width.
    """
    K = len(u)
    d = [h * (x - u[k]) for x in u]
    bias = [(a / p[k]).log() - x * x / 2 for a, x in zip(p, d, strict=True)]
    gap = [x - u[k] for x in u]
    rest = [j for j in range(K) if j != k]
    norm = p[k] / (2 * arb.pi()).sqrt()
    reach = float(T) + 1
    cuts = {0.0} | {-float(bias[j] / d[j]) for j in rest}
    edges = [-reach, *sorted(x for x in cuts if -reach < x < reach), reach]

    def entropy_density(x: acb, analytic: bool) -> acb:
        r = sum(((bias[j] + d[j] * x).exp() for j in rest), acb(0))
        if analytic and not (r.real > -1 or r.imag > 0 or r.imag < 0):
            return acb("nan")  # may touch the branch cut of the logarithm
        return norm * (-x * x / 2).exp() * r.log1p()

    def mmse_density(x: acb, _: bool) -> acb:
        r = [(bias[j] + d[j] * x).exp() for j in rest]
        miss = sum((a * gap[j] for a, j in zip(r, rest, strict=True)), acb(0))
        miss /= sum(r, acb(1))
        return norm * (-x * x / 2).exp() * miss * miss

    def integral(density: Callable[[acb, bool], acb]) -> arb:
        value = arb(0)
        for a, b in itertools.pairwise(edges):
            value += acb.integral(
                density,
                arb(a),
                arb(b),
                rel_tol=arb(2) ** -(PREC - 20),
                abs_tol=eps / len(edges),
                eval_limit=10**7,
                depth_limit=10**4,
            ).real
        return value

    Q, g = normal_cdf(-T), normal_pdf(T)
    width = arb(max(abs(float(x)) for x in gap) + 1e-6)
    tails = [p[k] * (T * g + Q - 2 * p[k].log() * Q), p[k] * 2 * Q * width**2]
    bodies = [integral(entropy_density), integral(mmse_density)]
    return [x + arb(0, tail.upper()) for x, tail in zip(bodies, tails, strict=True)]


def scalar_problem(u: list[arb], p: list[arb], snr: arb) -> dict[str, arb]:
    """All quantities of a one-dimensional code, as proved enclosures."""
    ctx.prec = PREC
    K = len(u)
    if K == 1:
        zero = arb(0)
        return dict(zip(FIELDS, (arb(1), zero, zero, zero, zero), strict=True))
    h = snr.sqrt()
    error = map_error(u, p, h)
    mean = sum((a * b for a, b in zip(p, u, strict=True)), arb(0))
    var = sum((a * (b - mean) ** 2 for a, b in zip(p, u, strict=True)), arb(0))
    gain = snr * var  # bounds the information at small snr, sets the absolute accuracy there
    eps = arb(10) ** -29 * error.mid() * (gain.mid() if gain < 1 else arb(1))
    T = arb(math.ceil(math.sqrt(2 * log_inverse(eps))) + 1)

    shares = [token_integrals(u, p, h, k, T, eps / K) for k in range(K)]
    H, mmse = (sum(column, arb(0)) for column in zip(*shares, strict=True))
    return {
        "accuracy": 1 - error,
        "error_probability": error,
        "conditional_entropy": H,
        "mutual_information": entropy(p) - H,
        "mmse": mmse,
    }


def product_problems() -> list[tuple[list[float], list[float], float]]:
    base2, base3 = [-1.0, 1.0], [-1.0, 0.0, 1.0]
    base5 = [-1.0, -0.5, 0.0, 0.5, 1.0]
    eight = [k / 4 for k in range(-4, 4)]
    seventeen = [k / 8 for k in range(-8, 9)]
    unequal = [-1.0, -0.9, 0.1, 1.0]
    pair = [-1.0, 0.0, 1e-3, 1.0]

    def equal(K: int) -> list[float]:
        return normalised([1.0] * K)

    low = [1e-6, 1e-3, 0.1, 1.0]
    mid = [5.0, 20.0, 100.0]
    table: list[tuple[list[float], list[float], list[float]]] = [
        ([0.3], [1.0], [1e-3, 1.0, 1e4]),
        # base 2; error near 1e-40 at 177, near 1e-290 at 1320
        (base2, equal(2), [*low, *mid, 177.0, 500.0, 1320.0]),
        (base2, zipf(2), [*low, *mid, 177.0, 500.0]),
        (base2, [0.98, 0.02], [*low, *mid, 170.0, 500.0]),
        (base2, normalised([1 - 1e-12, 1e-12]), [*low, *mid, 150.0, 500.0]),
        # base 3; near 1e-40 at 708
        (base3, equal(3), [*low, *mid, 500.0, 708.0, 5000.0]),
        (base3, zipf(3), [*low, *mid, 500.0, 708.0]),
        (base3, skewed(3), [*low, *mid, 500.0, 690.0]),
        (base3, normalised([0.01, 0.98, 0.01]), [1e-3, 1.0, 5.0, 20.0, 500.0]),
        (base3, normalised([5e-13, 1 - 1e-12, 5e-13]), [*low, *mid, 500.0]),
        (base3, normalised([1 - 1e-12, 9e-13, 1e-13]), [1e-6, 0.1, 5.0, 100.0]),
        (base3, [0.45, 0.1, 0.45], [*low, 2.0, 4.0, *mid, 500.0]),
        (base5, equal(5), [*low, *mid, 500.0, 2832.0, 1e4]),
        (base5, zipf(5), [*low, 20.0, 100.0, 500.0, 2832.0]),
        (base5, skewed(5), [1e-3, 1.0, 20.0, 500.0]),
        (base5, normalised([0.3, 0.05, 0.3, 0.05, 0.3]), [0.1, 5.0, 100.0]),
        (eight, equal(8), [*low, *mid, 500.0, 1e4, 1.13e4]),
        (eight, zipf(8), [1e-6, 0.1, 1.0, 20.0, 500.0, 1e4]),
        (eight, skewed(8), [1e-3, 5.0, 100.0]),
        (seventeen, equal(17), [1e-6, 1e-3, 1.0, 20.0, 500.0, 1e4, 4.5e4]),
        (seventeen, zipf(17), [1e-3, 1.0, 100.0, 1e4]),
        (unequal, equal(4), [*low, *mid, 500.0, 1e4, 7e4]),
        (unequal, zipf(4), [1e-6, 0.1, 5.0, 100.0, 1e4, 7e4]),
        (unequal, skewed(4), [1e-3, 1.0, 20.0, 500.0]),
        (pair, equal(4), [1e-6, 0.1, 1.0, 20.0, 500.0, 1e4, 1e6]),
        (pair, zipf(4), [1e-3, 1.0, 100.0, 1e4, 1e6]),
        (pair, normalised([1e-12, 0.5, 0.5 - 1e-12, 1e-12]), [1.0, 1e4, 1e6]),
    ]
    return [(u, p, snr) for u, p, grid in table for snr in grid]


def product_entry(levels: list[float], prior: list[float], snr: float) -> dict | None:
    ctx.prec = PREC
    values = scalar_problem([arb(x) for x in levels], exact_prior(prior), arb(snr))
    if len(levels) > 1 and not (values["error_probability"] > arb(10) ** -300):
        return None
    inputs = {"levels": levels, "prior": prior, "snr": snr}
    return inputs | {key: to_string(values[key]) for key in FIELDS}


# ------------------------------------------------------------------------------------ one-hot codes
class Groups:
    """A prior as distinct probabilities with their multiplicities."""

    def __init__(self, prior: str | list[float], K: int) -> None:
        if prior == "equal":
            self.p, self.mult = [1 / arb(K)], [K]
        else:
            values = zipf(K) if isinstance(prior, str) else prior
            if len(values) != K:
                raise ValueError("prior and K do not match")
            total = sum((arb(x) for x in values), arb(0))
            distinct = sorted(set(values), reverse=True)
            self.p = [arb(x) / total for x in distinct]
            self.mult = [values.count(x) for x in distinct]
        self.K = K
        self.sq = sum((m * x * x for x, m in zip(self.p, self.mult, strict=True)), arb(0))
        self.entropy = entropy(self.p, self.mult)

    def __iter__(self) -> Iterator[tuple[arb, int]]:
        return zip(self.p, self.mult, strict=True)


def without(powers: list[arb], lower: list[arb]) -> list[arb]:
    """prod_{j != k}: the powers x_g^m_g of the other groups, x_k^(m_k - 1) of its own."""
    n = len(powers)
    out, run = list(lower), arb(1)
    for g in range(n):
        out[g], run = out[g] * run, run * powers[g]
    run = arb(1)
    for g in reversed(range(n)):
        out[g], run = out[g] * run, run * powers[g]
    return out


def onehot_error(groups: Groups, snr: arb) -> tuple[arb, float]:
    """Error probability, and its relative change in the last halving of the step."""
    ctx.prec = PREC
    h = snr.sqrt()
    centre = [p.log() / h for p in groups.p]  # falls
    mult = groups.mult
    top = float(centre[0])
    second = top if mult[0] > 1 else float(centre[1])

    def density(v: arb) -> arb:
        cdf = [normal_cdf(v - c) for c in centre]
        mills = [normal_pdf(v - c) / x for c, x in zip(centre, cdf, strict=True)]
        lower = [x ** (m - 1) for x, m in zip(cdf, mult, strict=True)]
        G = without([x * y for x, y in zip(lower, cdf, strict=True)], lower)
        before, rest = arb(0), []
        for r, m in zip(mills, mult, strict=True):
            rest.append(before + (m - 1) * r)
            before += m * r
        after = arb(0)
        for g in reversed(range(len(mills))):
            rest[g] += after
            after += mult[g] * mills[g]
        total = arb(0)
        for g, (p, m) in enumerate(groups):
            total += m * p * normal_cdf(v - h - centre[g]) * G[g] * rest[g]
        return total

    def trapezoid(T: float, step: arb, odd: bool) -> arb:
        first = math.floor((second - T) / float(step))
        last = math.ceil((top + T) / float(step))
        index = range(first, last + 1)
        chosen = (i for i in index if i % 2) if odd else iter(index)
        return step * sum((density(i * step) for i in chosen), arb(0))

    step = arb(1) / 4
    rough = trapezoid(10 + float(h), 2 * step, False)
    T = math.sqrt(2 * (log_inverse(rough) + 30 * math.log(10) + math.log(groups.K))) + 1
    value = trapezoid(T, step, False)
    while True:
        step = step / 2
        finer = value / 2 + trapezoid(T, step, True)
        change = relative(value, finer)
        value = finer
        if change < 1e-25:
            return value, change
        if step < arb(1) / 200:
            raise ArithmeticError("the trapezoidal rule does not converge")


def fixed(x: arb, bits: int) -> fmpz:
    """The nearest-below integer to x 2^bits."""
    return (x * arb(2) ** bits).mid().floor().unique_fmpz()


@lru_cache(maxsize=4)
def _shared_transforms(key: tuple) -> tuple[list[arb], list[arb], list[arb]]:
    snr, tail, step, first, count, bits = key
    return transforms(snr, tail, step, first, count, bits, arb(1))


def transforms(
    snr: float, tail: float, step: float, first: int, count: int, bits: int, ratio: arb
) -> tuple[list[arb], list[arb], list[arb]]:
    """L(t), L(t + h^2), M(t + h^2) at t = (first + i) step + log ratio; absolute accuracy e^-tail.

    `step` is a float64 number and exact.
    """
    gamma = arb(snr)
    h = gamma.sqrt()
    delta = arb(step)
    reach = math.sqrt(2 * tail) + 1  # of the normal weights, in standard deviations
    cut = math.log(tail) + 3  # f(t) < e^-(20 tail) beyond
    log_ratio = float(ratio.log())
    if float(h) > 0.2:
        low = math.ceil(float(h) * reach / step)
        high = low + math.ceil(snr / step)
        norm = delta / (h * (2 * arb.pi()).sqrt())
        plain, tilted = [], []
        for j in range(high, -low - 1, -1):  # reversed: a correlation
            x = j * delta
            plain.append(fixed(norm * (-x * x / (2 * gamma)).exp(), bits))
            x -= gamma
            tilted.append(fixed(norm * (-x * x / (2 * gamma)).exp(), bits))
        f, ef = [], []
        for i in range(first - low, first + count + high):
            if i * step + log_ratio > cut:
                f.append(fmpz(0))
                ef.append(fmpz(0))
                continue
            e = (i * delta).exp() * ratio
            value = (-e).exp()
            f.append(fixed(value, bits))
            ef.append(fixed(e * value, bits))
        scale = arb(2) ** (-2 * bits)
        out = []
        for a, b in ((f, plain), (f, tilted), (ef, tilted)):
            c = (fmpz_poly(a) * fmpz_poly(b)).coeffs()
            c += [fmpz(0)] * (count + low + high - len(c))
            out.append([scale * arb(x) for x in c[low + high : low + high + count]])
        return out[0], out[1], out[2]
    dz = math.floor(64 * 0.9 * math.sqrt(2 * math.pi**2 / tail)) / 64 * (step / base_step(tail))
    n = math.ceil(reach / dz)
    z = [j * arb(dz) for j in range(-n, n + 1)]
    w = [arb(dz) * normal_pdf(x) for x in z]
    tilt = [a * (h * x - gamma / 2).exp() for a, x in zip(w, z, strict=True)]
    shift = [(h * x).exp() for x in z]
    L, L2, M2 = [], [], []
    for i in range(first, first + count):
        base = -(i * delta).exp() * ratio
        s0 = s1 = s2 = arb(0)
        for a, b, c in zip(w, tilt, shift, strict=True):
            e = base * c
            value = e.exp()
            s0 += a * value
            b = b * value
            s1 += b
            s2 -= b * e
        L.append(s0)
        L2.append(s1)
        M2.append(s2)
    return L, L2, M2


def base_step(tail: float) -> float:
    """Step in u: error exp(-2 pi a / step) for the strip |Im u| < a = pi/2."""
    return 0.85 * math.pi**2 / tail


def onehot_information(
    groups: Groups, snr: float, tail: float, refine: float
) -> tuple[dict[str, arb], float, float]:
    """H and mmse to an absolute e^-tail by the cancelling forms, and how well the others agree."""
    shared = len(groups.p) == 1
    bits = int(tail / math.log(2)) + 100
    ctx.prec = bits + 60
    h2 = snr
    step = base_step(tail) * refine
    spread = float((groups.p[0] / groups.p[-1]).log())
    normal = math.sqrt(snr * 2 * tail)
    logK = math.log(1e6 if shared else groups.K)  # one grid for every K with equal priors
    lower = normal if tail < h2 / 2 else tail + h2 / 2
    first = math.floor(-(h2 + lower + logK + 2) / step)
    last = math.ceil((normal + spread + math.log(tail) + 2) / step)
    count = last - first + 1

    ratios = [p / groups.p[0] for p in groups.p]
    if shared:
        columns = [_shared_transforms((snr, tail, step, first, count, bits))]
    else:
        columns = [transforms(snr, tail, step, first, count, bits, r) for r in ratios]
    weight = [m * p for p, m in groups]
    cut = math.log(tail) + 3
    delta = arb(step)
    H = E = H_direct = mmse_direct = arb(0)
    for i in range(count):
        L = [c[0][i] for c in columns]
        own = [x ** (m - 1) for x, m in zip(L, groups.mult, strict=True)]
        rest = without([x * y for x, y in zip(own, L, strict=True)], own)
        if (first + i) * step < cut:
            H += (-((first + i) * delta).exp()).exp()
        for g, (q, r) in enumerate(zip(weight, rest, strict=True)):
            a, b = q * columns[g][1][i], q * columns[g][2][i]
            H -= a * r
            E += b * r
            H_direct += a * (1 - r)
            mmse_direct += b * (1 - r)
    shift = sum((q * r.log() for q, r in zip(weight, ratios, strict=True)), arb(0))
    H = delta * H - shift - arb(snr)
    mmse = 1 - delta * E
    agree = max(relative(delta * H_direct, H), relative(delta * mmse_direct, mmse))
    return {"conditional_entropy": H, "mmse": mmse}, agree, step


def onehot_tail(error: arb, groups: Groups, snr: float) -> float:
    """log of 1 / (absolute accuracy that leaves 25 digits in every quantity)."""
    small = min(log_floor(error), log_floor(arb(snr) * (1 - groups.sq)), 0.0)
    return -small + 25 * math.log(10)


def log_floor(x: arb) -> float:
    return float(x.mid().log())


worst = {"steps": 0.0, "forms": 0.0, "error steps": 0.0}


def onehot_values(
    prior: str | list[float], K: int, snr: float, error_only: bool = False
) -> dict[str, arb]:
    ctx.prec = PREC
    groups = Groups(prior, K)
    error, change = onehot_error(groups, arb(snr))
    worst["error steps"] = max(worst["error steps"], change)
    values = {"accuracy": 1 - error, "error_probability": error}
    if error_only:
        return values
    if prior == "equal":  # the smallest K asks for most, and all share the arrays
        two = Groups("equal", 2)
        tail = onehot_tail(normal_cdf(-(arb(snr) / 2).sqrt()), two, snr)
    else:
        tail = onehot_tail(error, groups, snr)
    ctx.prec = int(tail / math.log(2)) + 160
    groups = Groups(prior, K)
    found = []
    for refine in (1.0, 0.7):
        info, agree, _ = onehot_information(groups, snr, tail, refine)
        info["mutual_information"] = groups.entropy - info["conditional_entropy"]
        worst["forms"] = max(worst["forms"], agree)
        found.append(info)
    for key, x in found[1].items():
        change = relative(found[0][key], x)
        worst["steps"] = max(worst["steps"], change)
        if change > 1e-21 or agree > 1e-21:
            raise ArithmeticError(f"{key} K={K} snr={snr}: steps {change:.1e}, forms {agree:.1e}")
    return values | found[1]


def onehot_problems() -> list[tuple[str | list[float], int, float, bool]]:
    problems: list[tuple[str | list[float], int, float, bool]] = []
    grid = [1e-6, 1e-3, 0.1, 1.0, 4.0, 10.0, 16.0, 30.0, 60.0, 100.0, 200.0, 400.0, 700.0]
    for snr in grid:
        for K in (2, 3, 7, 100, 6561, 65536, 1000000):
            problems.append(("equal", K, snr, False))
    for snr in [1e-6, 1e-3, 0.1, 1.0, 10.0, 60.0, 200.0]:
        for K in (2, 3, 7, 50):
            problems.append(("zipf", K, snr, False))
            problems.append((skewed(K), K, snr, False))
        problems.append((normalised([0.05] * 10 + [0.5 / 90] * 90), 100, snr, False))
    problems += [("zipf", 1000, snr, True) for snr in (1e-3, 1.0, 60.0)]
    return problems


def onehot_entry(prior: str | list[float], K: int, snr: float, error_only: bool) -> dict:
    values = onehot_values(prior, K, snr, error_only)
    inputs = {"prior": prior, "K": K, "snr": snr}
    return inputs | {key: to_string(values[key]) for key in FIELDS if key in values}


# ------------------------------------------------------------------------------------ cross-checks
def verify() -> None:
    """Other algebra and other quadrature; prints the worst relative differences."""
    print("scalar problems against mpmath tanh-sinh on -sum p log p (relative):")
    cases = [
        ([-1.0, 1.0], [0.5, 0.5], 1.0),
        ([-1.0, 0.0, 1.0], [0.45, 0.1, 0.45], 2.0),
        ([-1.0, 0.0, 1.0], zipf(3), 20.0),
        ([-1.0, -0.9, 0.1, 1.0], zipf(4), 100.0),
        ([-1.0, 0.0, 1e-3, 1.0], zipf(4), 100.0),
        ([-1.0, 1.0], normalised([1 - 1e-12, 1e-12]), 1e-3),
    ]
    for u, p, snr in cases:
        ctx.prec = PREC
        ours = scalar_problem([arb(x) for x in u], exact_prior(p), arb(snr))
        theirs = by_mpmath(u, p, snr)
        worst_here = max(
            float(abs(to_mpf(ours[key]) - value) / value) for key, value in theirs.items()
        )
        print(f"  levels {u} snr {snr:g}: {worst_here:.1e}")

    print("one-hot K = 2 against the two levels at distance sqrt(2) (rigorous quadrature):")
    worst_two = 0.0
    for prior, snrs in (
        ("equal", [1e-6, 1e-3, 0.1, 1.0, 4.0, 16.0, 60.0, 200.0, 400.0, 700.0]),
        ("zipf", [1e-6, 0.1, 1.0, 60.0, 200.0]),
        ([0.98, 0.02], [1e-3, 1.0, 10.0, 200.0]),
    ):
        for snr in snrs:
            a = onehot_values(prior, 2, snr)
            ctx.prec = PREC
            half = (arb(1) / 2).sqrt()
            p = Groups(prior, 2).p
            b = scalar_problem([-half, half], p if len(p) == 2 else p * 2, arb(snr))
            worst_two = max([worst_two, *(relative(a[key], b[key]) for key in FIELDS)])
    print(f"  {worst_two:.1e}")

    print("one-hot K = 3 against the two-dimensional integral over the posterior:")
    for prior, snr in (("equal", 1.0), ("equal", 16.0), ("zipf", 4.0), (skewed(3), 1.0)):
        a = onehot_values(prior, 3, snr)
        b = plane_three(prior, snr)
        print(f"  snr {snr:g}: {max(relative(a[key], b[key]) for key in b):.1e}")

    print("one-hot K = 3 error against the 3-PSK integral (Craig), rigorous quadrature:")
    worst_psk = 0.0
    for snr in (1e-3, 1.0, 16.0, 200.0, 700.0):
        a = onehot_values("equal", 3, snr, True)["error_probability"]
        ctx.prec = PREC
        c = arb(snr) / 4

        def craig(t: acb, _: bool, c: arb = c) -> acb:
            return (-c / t.sin() ** 2).exp()

        eps = a.mid() * arb(10) ** -28
        start = arb(1) / 64 if snr > 1 else arb(1) / 256
        # below `start` the integrand is at most exp(-c / sin^2 start)
        while start * (-c / start.sin() ** 2).exp() > eps:
            start = start / 2
        b = acb.integral(craig, start, 2 * arb.pi() / 3, abs_tol=eps, eval_limit=10**6).real
        worst_psk = max(worst_psk, relative(a, b / arb.pi()))
    print(f"  {worst_psk:.1e}")

    print("one-hot error, equal priors, against rigorous quadrature of the same integral:")
    worst_error = 0.0
    for K in (2, 7, 6561, 1000000):
        for snr in (1e-6, 1.0, 30.0, 700.0):
            a = onehot_values("equal", K, snr, True)["error_probability"]
            ctx.prec = PREC
            h, root = arb(snr).sqrt(), arb(2).sqrt()

            def parts(v: acb, _: bool, h: arb = h, root: arb = root, K: int = K) -> acb:
                left = (-(v - h) / root).erfc() / 2
                right = ((-v / root).erfc() / 2) ** (K - 2)
                return left * right * (-v * v / 2).exp()

            scale = (K - 1) / (2 * arb.pi()).sqrt()
            eps = a.mid() * arb(10) ** -28 / scale
            T = math.sqrt(2 * log_inverse(eps)) + 1
            b = acb.integral(parts, arb(-T), arb(T), abs_tol=eps, eval_limit=10**6).real
            worst_error = max(worst_error, relative(a, scale * b))
    print(f"  {worst_error:.1e}")

    print("dH/dsnr = -mmse/2, five-point difference of H against mmse:")
    for prior, K, snr in (("equal", 100, 1.0), ("equal", 1000000, 30.0), ("zipf", 7, 10.0)):
        d = 2.0**-16
        tail = 40 * math.log(10)
        ctx.prec = 400
        groups = Groups(prior, K)
        H = {
            j: onehot_information(groups, snr + j * d, tail, 1.0)[0]["conditional_entropy"]
            for j in (-3, -2, -1, 1, 2, 3)
        }
        slope = (45 * (H[1] - H[-1]) - 9 * (H[2] - H[-2]) + H[3] - H[-3]) / (60 * arb(d))
        mmse = onehot_information(groups, snr, tail, 1.0)[0]["mmse"]
        print(f"  K {K} snr {snr:g}: {relative(-2 * slope, mmse):.1e}")

    print("Monte Carlo, K = 100 and 1000, deviations in standard errors:")
    rng = np.random.default_rng(0)
    for prior, K, snr in (("equal", 100, 10.0), ("zipf", 50, 10.0), ("zipf", 1000, 1.0)):
        a = onehot_values(prior, K, snr, K == 1000)
        law = np.full(K, 1 / K) if prior == "equal" else np.array(zipf(K))
        k = rng.choice(K, size=40000, p=law)
        y = rng.standard_normal((k.size, K))
        y[np.arange(k.size), k] += math.sqrt(snr)
        score = math.sqrt(snr) * y + np.log(law)
        score -= score.max(axis=1, keepdims=True)
        q = np.exp(score)
        q /= q.sum(axis=1, keepdims=True)
        mine = {
            "accuracy": q.max(axis=1),
            "conditional_entropy": -np.log(q[np.arange(k.size), k]),
            "mmse": 1 - (q * q).sum(axis=1),
        }
        dev = {
            key: (x.mean() - float(a[key])) / (x.std() / math.sqrt(x.size))
            for key, x in mine.items()
            if key in a
        }
        print(f"  K {K} snr {snr:g}: " + ", ".join(f"{key} {x:+.1f}" for key, x in dev.items()))


def by_mpmath(u: list[float], p: list[float], snr: float) -> dict[str, mpmath.mpf]:
    """The textbook integrals by mpmath's tanh-sinh rule, split everywhere that matters."""
    with mpmath.workdps(45):
        total = mpmath.fsum(p)
        q = [mpmath.mpf(x) / total for x in p]
        h = mpmath.sqrt(mpmath.mpf(snr))
        at = [h * mpmath.mpf(x) for x in u]
        cuts = set(at)
        for j in range(len(u)):
            for k in range(j):
                width = 1 / abs(at[j] - at[k])
                t = (at[j] + at[k]) / 2 + mpmath.log(q[k] / q[j]) / (at[j] - at[k])
                cuts |= {t - 3 * width, t, t + 3 * width}
        a, b = min(at) - 17, max(at) + 17
        cuts |= {a + i for i in range(0, int(b - a), 3)}
        edges = [a, *sorted(x for x in cuts if a < x < b), b]

        def density(y: Any) -> list[Any]:
            return [x * mpmath.npdf(y, m, 1) for x, m in zip(q, at, strict=True)]

        def error(y: Any) -> Any:
            w = sorted(density(y))
            return mpmath.fsum(w[:-1])

        def ent(y: Any) -> Any:
            w = density(y)
            s = mpmath.fsum(w)
            return -mpmath.fsum(x * mpmath.log(x / s) for x in w)

        def mse(y: Any) -> Any:
            w = density(y)
            s = mpmath.fsum(w)
            mean = mpmath.fsum(x * mpmath.mpf(v) for x, v in zip(w, u, strict=True)) / s
            return mpmath.fsum(x * (mpmath.mpf(v) - mean) ** 2 for x, v in zip(w, u, strict=True))

        H = mpmath.quad(ent, edges)
        return {
            "error_probability": mpmath.quad(error, edges),
            "conditional_entropy": H,
            "mutual_information": -mpmath.fsum(x * mpmath.log(x) for x in q) - H,
            "mmse": mpmath.quad(mse, edges),
        }


def plane_three(prior: str | list[float], snr: float) -> dict[str, arb]:
    """K = 3 one-hot tokens are a triangle of side sqrt(2): the posterior over its plane."""
    ctx.prec = PREC
    groups = Groups(prior, 3)
    p = [x for x, m in groups for _ in range(m)]
    h = arb(snr).sqrt()
    r = h * (arb(2) / 3).sqrt()
    half, s3 = arb(1) / 2, arb(3).sqrt() / 2
    points = [(r, arb(0)), (-r * half, r * s3), (-r * half, -r * s3)]
    step = arb(1) / 8 if snr < 2 else arb(1) / 16
    T = int((13 + float(r)) / float(step))
    H = mmse = arb(0)
    for i in range(-T, T + 1):
        x = i * step
        for j in range(-T, T + 1):
            y = j * step
            w = [
                a * (-((x - c) ** 2 + (y - d) ** 2) / 2).exp()
                for a, (c, d) in zip(p, points, strict=True)
            ]
            s = w[0] + w[1] + w[2]
            H -= sum((a * (a / s).log() for a in w), arb(0))
            mmse += 2 * (w[0] * w[1] + w[0] * w[2] + w[1] * w[2]) / s
    scale = step * step / (2 * arb.pi())
    return {"conditional_entropy": scale * H, "mmse": scale * mmse}


# ---------------------------------------------------------------------------------------- the files
def write(name: str, entries: list[dict]) -> None:
    lines = ",\n".join("  " + json.dumps(x) for x in entries)
    path = HERE / f"{name}.json"
    path.write_text(f"[\n{lines}\n]\n")
    print(f"{path}: {len(entries)} entries")


def make(name: str) -> None:
    start = time.perf_counter()
    if name == "product":
        entries = [x for x in (product_entry(*q) for q in product_problems()) if x is not None]
    else:
        entries = [onehot_entry(*q) for q in onehot_problems()]
        print("worst relative changes:", {k: f"{v:.1e}" for k, v in worst.items()})
    write(name, entries)
    print(f"{time.perf_counter() - start:.0f} s")


def check(count: int) -> int:
    """Recompute a fixed random sample of the stored entries; the number that differ."""
    stored = [(n, x) for n in ("product", "onehot") for x in load(n)]
    bad = 0
    sample = random.Random(20).sample(stored, min(count, len(stored)))
    for name, old in sample:
        if name == "product":
            new = product_entry(old["levels"], old["prior"], old["snr"])
            assert new is not None, old  # or it would not have been stored
        else:
            error_only = "mmse" not in old
            new = onehot_entry(old["prior"], old["K"], old["snr"], error_only)
        with mpmath.workdps(40):
            for key in FIELDS:
                if key not in old:
                    continue
                a, b = mpmath.mpf(old[key]), mpmath.mpf(new[key])
                if abs(a - b) > mpmath.mpf(10) ** (2 - DIGITS) * abs(b):
                    bad += 1
                    print(f"{name} {old}: {key} {old[key]} stored, {new[key]} now")
    print(f"{len(sample)} entries recomputed, {bad} numbers differ")
    return bad


def load(name: str) -> list[dict]:
    return json.loads((HERE / f"{name}.json").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description="High-precision references for the tests.")
    parser.add_argument("--only", choices=("product", "onehot"), help="rewrite one file only")
    parser.add_argument("--check", type=int, metavar="N", help="recompute N stored entries")
    parser.add_argument("--verify", action="store_true", help="cross-check by other methods")
    args = parser.parse_args()
    if args.check is not None:
        return int(check(args.check) > 0)
    if args.verify:
        verify()
        return 0
    for name in ("product", "onehot"):
        if args.only in (None, name):
            make(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
