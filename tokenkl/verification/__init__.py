"""Every theorem checked on one codebook: what must hold, by how much it does, and a verdict.

Each check is left <= right, or left = right, between measured quantities, bounds from the geometry
and bounds from other quantities. Measured values enter with their error: the verdict is

- "pass" where the inequality holds between the values themselves (an equality: to their errors);
- "within error bars" where it does not, but does at the ends of their intervals;
- "fail" where it is violated beyond the intervals.

Inequalities leave room for small errors. What pins a quantity is the equalities: the definitions,
I-MMSE, order statistics of one-hot tokens, and every quantity sampled a second time by means of
this package alone (`_anew`). Their `error` says how wrong a quantity may be without being noticed.

What is sampled here fails a correct codebook with probability at most `ALARM` in a run, at any
number of samples (proved, but for rounding). Sampled quantities that are put to the test enter with
their own intervals at `LEVEL`: central-limit ones where `Estimate` calls them supported, which no
proof covers at so high a level. Errors of quadrature are estimates with a wide margin.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special

from tokenkl import bounds
from tokenkl._validation import check_count, check_snr, reject
from tokenkl.bounds.theorems import THEOREMS as INEQUALITIES
from tokenkl.bounds.theorems import Setting
from tokenkl.codebooks import Codebook, OneHot
from tokenkl.estimate import Bound, Estimate
from tokenkl.information import MonteCarlo, Profile, profile
from tokenkl.information.methods import Method
from tokenkl.quantities import QUANTITIES
from tokenkl.verification._anew import Side, estimate

#: Level of the intervals of measured quantities, about 30 in a run.
LEVEL = 1 - 1e-8
#: Probability that any interval of what is sampled here misses the truth.
ALARM = 1e-6
#: Relative rounding error that no verdict depends on.
ROUNDING = 1e-9
#: Half-width, relative to the value, above which a sampled quantity is measured again, with a
#: standard error of `SHARP` times the value where so many samples (times tokens) can do it.
ROUGH, SHARP, SHARP_SAMPLES, SHARP_WORK = 3e-3, 7e-4, 2**20, 2**30
#: Gauss nodes in one panel of an integral, and in one around an SNR, which is the middle one; most
#: numbers in the quadrature over the largest of normals.
NODES, NEAR_NODES, MAX_NODES = 8, 5, 2**24

PASS, WITHIN, FAIL = "pass", "within error bars", "fail"

#: What is checked beside the inequalities of `tokenkl.bounds`: name -> what it says, who proved it.
EQUALITIES = {
    "complement": ("A + P_e = 1", "definition"),
    "entropy balance": ("I + H = H(prior)", "definition"),
}
ALONG_THE_SNR = {
    "monotone in the SNR": ("P_e, S, H, mmse fall", "data processing"),
    "slope of H, above": ("H(a) - H(b) <= (b-a)/2 mmse(a)", "I-MMSE"),
    "slope of H, below": ("(b-a)/2 mmse(b) <= H(a) - H(b)", "I-MMSE"),
    "H is convex": ("H <= its chords", "I-MMSE"),
    "I-MMSE": ("I = (1/2) integral of mmse", "Guo, Shamai, Verdu 2005"),
    "I-MMSE, derivative": ("dI/dsnr = mmse/2", "Guo, Shamai, Verdu 2005"),
    "N-step KL": ("0 <= N-step KL", "chain rule of KL"),
    "largest of normals": ("P_e of one-hot tokens by quadrature", "order statistics"),
}
#: Theorem -> what it says, and who proved it.
THEOREMS: dict[str, tuple[str, str]] = {
    **EQUALITIES,
    **{one.name: (one.statement, one.source) for one in INEQUALITIES},
    **ALONG_THE_SNR,
    **{
        f"{QUANTITIES[name].symbol}, sampled anew": (
            f"{QUANTITIES[name].symbol} of the moved codebook agrees",
            "invariance, I-MMSE" if name == "mutual_information" else "invariance",
        )
        for name in QUANTITIES
    },
}


@dataclasses.dataclass(frozen=True)
class Check:
    """One inequality at one SNR: left <= right (or left = right), and what became of it.

    `margin` is right - left, for an equality minus the absolute difference; `error` is how much the
    margin may be off at the level of the verdict. All four are in `unit`: "" for probabilities.
    """

    theorem: str
    statement: str
    source: str
    snr: float
    left: float
    right: float
    margin: float
    error: float
    unit: str
    verdict: str

    @property
    def bits(self) -> Check:
        """The same in bits; only for what is measured in nats or bits."""
        if self.unit == "bits":
            return self
        if self.unit != "nats":
            reject("bits", self.theorem, "asked of information or entropy")
        names = ("left", "right", "margin", "error")
        numbers = {name: getattr(self, name) / math.log(2) for name in names}
        return dataclasses.replace(self, unit="bits", **numbers)


Measure = Callable[..., Any]


def measure_all(
    codebook: Codebook, snr: Float[np.ndarray, " s"], *, method: Method | None, key: Any
) -> Profile:
    """`tokenkl.profile` of every quantity."""
    return profile(codebook, snr, tuple(QUANTITIES), method=method, key=key)


def verify(
    codebook: Codebook,
    snr: Float[Any, " s"],
    *,
    key: Any = 0,
    method: Method | None = None,
    measure: Measure = measure_all,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> list[Check]:
    """Check every theorem that applies to a codebook at these SNRs.

    Args:
        codebook: any codebook. Bounds by pairs of tokens take part up to 2**15 tokens.
        snr: signal-to-noise ratios, distinct and above 0; they are sorted.
        key: integer seed for whatever has to be sampled.
        method: how the quantities are found, as in `tokenkl.profile`. Where it is None and they are
            sampled too roughly to see an error of 1 %, `measure` is called again with a target, up
            to about a million samples in all.
        measure: what finds them; `tokenkl.profile` of all quantities, or your own function of the
            arguments codebook, snr, method and key, whose results are then put to the test. The
            sampling error may be missing among them.
        progress: called with (done, total).

    Returns:
        One `Check` for every theorem and SNR (or pair of neighbouring SNRs).

    Raises:
        ValueError: no SNR, one that is not above 0 or not finite, or a negative key.

    Example:
        >>> import tokenkl as tk
        >>> checks = verify(tk.FSQ((2, 2)), [0.5, 2.0])
        >>> any(check.verdict == "fail" for check in checks)
        False
    """
    levels = np.unique(check_snr(snr).ravel())
    if levels.size == 0 or levels[0] <= 0:
        reject("snr", snr, "one or more numbers above 0")
    check_count(key, "key", 0)
    progress(0, 4)

    def at(snr: np.ndarray, how: Method | None = method, seed: int = key) -> dict[str, Side]:
        found = measure(codebook, snr, method=how, key=seed)
        return {name: _side(found[name], snr.size) for name in names}

    first = measure(codebook, levels, method=method, key=key)
    names = [name for name in QUANTITIES if name in first.estimates]
    found = {name: _side(first[name], levels.size) for name in names}
    progress(1, 4)
    ledger = _Ledger(levels)
    again = estimate(codebook, levels, key=key, alarm=ALARM)
    progress(2, 4)
    _check_balances(ledger, found, codebook)
    share = {} if again is None else {"sampling_error": again["sampling_error"]}
    _check_inequalities(ledger, {**share, **found}, codebook)
    progress(3, 4)
    _check_curves(ledger, found)
    if not any(first[name].is_sampled for name in names):
        _check_integral(ledger, found, at, bounds.diameter(codebook))
    elif method is None:
        found = _sharpened(codebook, levels, found, at, key)
    _check_anew(ledger, found, again, codebook)
    progress(4, 4)
    order = list(THEOREMS)
    return sorted(ledger.checks, key=lambda one: (order.index(one.theorem), one.snr))


def _sharpened(
    codebook: Codebook, snr: np.ndarray, found: dict[str, Side], at: Callable[..., Any], key: int
) -> dict[str, Side]:
    """The quantities, measured again with more samples where their intervals are wide."""
    rough = np.zeros(snr.size, dtype=bool)
    for value, low, high in found.values():
        rough |= high - low > 2 * ROUGH * np.abs(value)
    most = max(int(min(SHARP_SAMPLES, SHARP_WORK / codebook.K) / max(rough.sum(), 1)), 2**12)
    # Where errors are rare, plain samples say less than what has been found already.
    rough &= most * found["error_probability"].value > 1 / ROUGH**2 / 10
    if not rough.any():
        return found
    how = MonteCarlo(rtol=SHARP, max_samples=most)
    sharp = at(snr[rough], how, key + 1)
    out = {}
    for name, side in found.items():
        # At the other levels nothing is narrower than what there is.
        other = Side(*(np.full(snr.size, end) for end in (np.nan, -np.inf, np.inf)))
        for part, given in zip(other, sharp[name], strict=True):
            part[rough] = given
        out[name] = _narrower(side, other)
    return out


def _narrower(one: Side, other: Side) -> Side:
    """At every level the side whose interval is shorter."""
    first = one.high - one.low <= other.high - other.low
    return Side(*(np.where(first, a, b) for a, b in zip(one, other, strict=True)))


# ---- Verdicts -----------------------------------------------------------------------------------


class _Ledger:
    """Where checks are written down."""

    def __init__(self, snr: np.ndarray) -> None:
        self.snr = snr
        self.checks: list[Check] = []

    def at_most(
        self, theorem: str, left: Any, right: Any, unit: str, snr: np.ndarray | None = None
    ) -> None:
        """left <= right, at every SNR."""
        snr = self.snr if snr is None else snr
        a, b = _side(left, snr.size), _side(right, snr.size)
        margin, generous = b.value - a.value, b.high - a.low
        self._write(theorem, snr, a, b, margin, generous, unit, equality=False)

    def equal(
        self, theorem: str, left: Any, right: Any, unit: str, snr: np.ndarray | None = None
    ) -> None:
        """left = right: a pass where the intervals overlap."""
        snr = self.snr if snr is None else snr
        a, b = _side(left, snr.size), _side(right, snr.size)
        overlap = np.minimum(b.high - a.low, a.high - b.low)
        margin = -np.abs(b.value - a.value)
        self._write(theorem, snr, a, b, margin, overlap, unit, equality=True)

    def _write(
        self,
        theorem: str,
        snr: np.ndarray,
        left: Side,
        right: Side,
        margin: np.ndarray,
        generous: np.ndarray,
        unit: str,
        *,
        equality: bool,
    ) -> None:
        statement, source = THEOREMS[theorem]
        for index, one in enumerate(snr):
            size = max(abs(left.value[index]), abs(right.value[index]))
            slack = ROUNDING * size + 1e-300
            # A comparison with NaN is no pass.
            if margin[index] >= -slack or (equality and generous[index] >= -slack):
                verdict = PASS
            elif generous[index] >= -slack:
                verdict = WITHIN
            else:
                verdict = FAIL
            self.checks.append(
                Check(
                    theorem,
                    statement,
                    source,
                    float(one),
                    float(left.value[index]),
                    float(right.value[index]),
                    float(margin[index]),
                    float(generous[index] - margin[index]),
                    unit,
                    verdict,
                )
            )


def _side(given: Any, size: int) -> Side:
    if isinstance(given, Side):
        return given
    if isinstance(given, Bound):
        given = given.value
    if isinstance(given, Estimate):
        interval = given.confidence_interval(LEVEL)
        parts = given.value, interval.low, interval.high
    else:
        parts = given, given, given
    return Side(*(np.broadcast_to(np.asarray(part, float), (size,)) for part in parts))


def _bound_of(function: Callable[..., Bound], at: Setting, side: Side) -> Side:
    """A bound that grows with the quantity it is computed from, at its value and at both ends."""
    ends = (np.asarray(function(at, np.maximum(np.nan_to_num(end), 0.0)).value) for end in side)
    return Side(*(np.where(np.isnan(end), np.nan, of) for end, of in zip(side, ends, strict=True)))


# ---- The checks ---------------------------------------------------------------------------------


def _check_balances(ledger: _Ledger, found: dict[str, Side], codebook: Codebook) -> None:
    ledger.equal("complement", _sum(found["accuracy"], found["error_probability"]), 1.0, "")
    total = _sum(found["conditional_entropy"], found["mutual_information"])
    ledger.equal("entropy balance", total, float(codebook.prior_entropy()), "nats")


def _check_inequalities(ledger: _Ledger, known: dict[str, Side], codebook: Codebook) -> None:
    """The first reading of every theorem, on measured values."""
    at = Setting(codebook, ledger.snr)
    for theorem in INEQUALITIES:
        reading = theorem.readings[0]
        needed = {reading.quantity} | ({reading.given} if reading.given else set())
        if not (needed <= set(known) and reading.when(at)):
            continue
        found, bound = known[reading.quantity], reading.bound
        limit = _bound_of(bound, at, known[reading.given]) if reading.given else bound(at)
        left, right = (found, limit) if reading.direction == "upper" else (limit, found)
        ledger.at_most(theorem.name, left, right, QUANTITIES[reading.quantity].unit)


def _sum(one: Side, other: Side) -> Side:
    """Of two quantities found from the same samples: errors add at worst."""
    return Side(*(a + b for a, b in zip(one, other, strict=True)))


def _scaled(side: Side, factor: Any) -> Side:
    return Side(*(part * factor for part in side))


def _check_curves(ledger: _Ledger, found: dict[str, Side]) -> None:
    """What relates neighbouring SNRs."""
    snr, entropy, mmse = ledger.snr, found["conditional_entropy"], found["mmse"]
    if snr.size > 1:
        start, step = snr[:-1], np.diff(snr)
        for name in (one for one in found if not QUANTITIES[one].grows):
            first, second = (_part(found[name], one) for one in (slice(None, -1), slice(1, None)))
            ledger.at_most("monotone in the SNR", second, first, QUANTITIES[name].unit, start)
        fall = _growth(found)
        above, below = (
            _scaled(_part(mmse, side), step / 2) for side in (slice(None, -1), slice(1, None))
        )
        ledger.at_most("slope of H, above", fall, above, "nats", start)
        ledger.at_most("slope of H, below", below, fall, "nats", start)
        cost = Side(
            np.array([above.value.sum() - (entropy.value[0] - entropy.value[-1])]),
            np.array([above.low.sum() - (entropy.high[0] - entropy.low[-1])]),
            np.array([above.high.sum() - (entropy.low[0] - entropy.high[-1])]),
        )
        ledger.at_most("N-step KL", 0.0, cost, "nats", snr[:1])
    if snr.size > 2:
        share = (snr[1:-1] - snr[:-2]) / (snr[2:] - snr[:-2])
        chord = Side(*((1 - share) * part[:-2] + share * part[2:] for part in entropy))
        ledger.at_most("H is convex", _part(entropy, slice(1, -1)), chord, "nats", snr[1:-1])


def _growth(found: dict[str, Side]) -> Side:
    """I(b) - I(a) = H(a) - H(b) of neighbouring SNRs, from the one with the smaller error."""
    rise, fall = found["mutual_information"], found["conditional_entropy"]
    below, above = np.s_[..., :-1], np.s_[..., 1:]
    return _narrower(
        Side(
            np.diff(rise.value),
            rise.low[above] - rise.high[below],
            rise.high[above] - rise.low[below],
        ),
        Side(
            -np.diff(fall.value),
            fall.low[below] - fall.high[above],
            fall.high[below] - fall.low[above],
        ),
    )


def _check_integral(
    ledger: _Ledger, found: dict[str, Side], at: Callable[..., Any], diameter: float
) -> None:
    """I-MMSE: the integral from 0 to every SNR, and the derivative there."""
    snr = ledger.snr
    edges = _edges(snr, diameter)
    ticks, weights = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges)[:, None] / 2
    nodes = edges[:-1, None] + half * (ticks + 1)
    # Since |d log(mmse)/d snr| <= diameter^2/4, the mmse varies by 5 % at most over these steps.
    step = np.minimum(0.05 * snr, 0.2 / max(diameter, 1e-150) ** 2)[:, None]
    near_ticks, near_weights = np.polynomial.legendre.leggauss(NEAR_NODES)
    beside = snr[:, None] + step * np.concatenate([near_ticks, [-1.0, 1.0]])
    values = at(np.concatenate([nodes.ravel(), beside.ravel()]))

    panels = Side(*(part[: nodes.size].reshape(nodes.shape) for part in values["mmse"]))
    area = _panel(panels, half, ticks, weights)
    total = Side(*(np.cumsum(part) for part in area))
    where = np.searchsorted(edges[1:], snr)
    ledger.equal("I-MMSE", found["mutual_information"], _part(total, where), "nats")

    near = {
        name: Side(*(part[nodes.size :].reshape(beside.shape) for part in side))
        for name, side in values.items()
    }
    growth = _growth({name: _part(side, np.s_[:, -2:]) for name, side in near.items()})
    around = _part(near["mmse"], np.s_[:, :-2])
    middle = np.arange(NEAR_NODES) == NEAR_NODES // 2  # what is put to the test
    tested = (
        np.where(middle, given[:, None], part)
        for given, part in zip(found["mmse"], around, strict=True)
    )
    area = _panel(Side(*tested), step, near_ticks, near_weights)
    width = 2 * step[:, 0]
    rise = Side(*(part[:, 0] for part in growth))
    sides = _scaled(rise, 1 / width), _scaled(area, 1 / width)
    ledger.equal("I-MMSE, derivative", *sides, "nats")


def _panel(mmse: Side, half: np.ndarray, ticks: np.ndarray, weights: np.ndarray) -> Side:
    """Half the integral of the mmse over panels of these half-widths, from its Gauss nodes."""
    area = Side(*((half * weights * part).sum(axis=1) / 2 for part in mmse))
    # The last Legendre coefficients of the interpolant say how far it is from the curve.
    degrees = np.arange(ticks.size)[-2:]
    basis = np.polynomial.legendre.legvander(ticks, ticks.size - 1)[:, degrees]
    rest = half[:, 0] * np.abs((weights * mmse.value) @ basis * (degrees + 0.5)).sum(axis=1)
    return Side(area.value, area.low - rest, area.high + rest)


def _edges(snr: np.ndarray, diameter: float) -> np.ndarray:
    """Panels from 0 to the largest SNR, with all of them among the ends and factors of 2 at most.

    Below 1/diameter^2 the MMSE is a polynomial for all that quadrature can tell.
    """
    edges = [0.0]
    for end in np.unique([min(1 / max(diameter, 1e-150) ** 2, snr[-1]), *snr]):
        start = edges[-1]
        if start == 0:
            edges.append(float(end))
        else:
            count = math.ceil(math.log2(end / start))
            edges += np.geomspace(start, end, count + 1)[1:].tolist()
    return np.array(edges)


def _part(side: Side, where: Any) -> Side:
    return Side(*(part[where] for part in side))


def _check_anew(
    ledger: _Ledger, found: dict[str, Side], again: dict[str, Side] | None, codebook: Codebook
) -> None:
    if again is not None:
        for name in found:
            theorem = f"{QUANTITIES[name].symbol}, sampled anew"
            ledger.equal(theorem, found[name], again[name], QUANTITIES[name].unit)
    if isinstance(codebook, OneHot):
        exact = [_largest_of_normals(codebook, float(one)) for one in ledger.snr]
        known = np.array([one is not None for one in exact])
        value = np.array([one for one in exact if one is not None])
        ledger.equal(
            "largest of normals",
            _part(found["error_probability"], known),
            Side(value, value * (1 - 1e-9), value * (1 + 1e-9)),
            "",
            ledger.snr[known],
        )


def _largest_of_normals(codebook: OneHot, snr: float) -> float | None:
    """P_e = sum_k pi_k P(some y_j + c_j > y_k + c_k), c = log(pi)/a, a = h scale; by quadrature.

    With t = y_k + c_k the integrand is phi(t - c_k - a) (1 - prod_{j != k} Phi(t - c_j)): no
    difference, and as smooth as a normal density. None where it would take too long.
    """
    a = math.sqrt(snr) * float(codebook.scale)
    K, step = codebook.K, 1 / 16
    if codebook.has_equal_priors:
        log_prior, count = np.array([-math.log(K)]), np.array([K])
    else:
        log_prior, count = np.unique(codebook.log_prior, return_counts=True)
    c = log_prior / a
    low, high = c.min() + a / 2 - 12, c.max() + a + 12
    if (high - low) / step * c.size > MAX_NODES:
        return None
    t = np.arange(low, high, step)[:, None]
    below = special.log_ndtr(t - c)
    others = -np.expm1((count * below).sum(axis=1, keepdims=True) - below)
    density = np.exp(log_prior - (t - c - a) ** 2 / 2) * count / math.sqrt(2 * math.pi)
    return float((density * others).sum() * step)


# ---- Reports ------------------------------------------------------------------------------------


def worst(checks: Sequence[Check]) -> list[Check]:
    """For every theorem the check that decides its verdict: fails first, then by margin.

    Margins are compared relative to the larger side.
    """

    def rank(one: Check) -> tuple[int, float]:
        size = max(abs(one.left), abs(one.right), 1e-300)
        return (FAIL, WITHIN, PASS).index(one.verdict), one.margin / size

    names = dict.fromkeys(one.theorem for one in checks)
    return [min((c for c in checks if c.theorem == name), key=rank) for name in names]


def count_verdicts(checks: Sequence[Check]) -> dict[str, int]:
    """How many checks got each verdict."""
    return {name: sum(one.verdict == name for one in checks) for name in (PASS, WITHIN, FAIL)}


def markdown_report(checks: Sequence[Check], title: str) -> str:
    """A report of one line for every theorem, at the SNR where it is closest to failing."""
    counts = count_verdicts(checks)
    lines = [
        f"# Theorems checked on {title}",
        "",
        f"{counts[PASS]} checks pass, {counts[WITHIN]} are within error bars, {counts[FAIL]} fail.",
        "Each line is the SNR at which the theorem is closest to failing; S is the sampling error",
        "1 - E sum p^2, margins are right minus left, errors are how far margins may be off.",
        "",
        "| theorem | statement | SNR (dB) | left | right | unit | margin | error | verdict "
        "| source |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in worst(checks):
        db = 10 * math.log10(one.snr)
        lines.append(
            f"| {one.theorem} | {one.statement} | {db:.4g} | {one.left:.6g} | {one.right:.6g} | "
            f"{one.unit} | {one.margin:.3g} | {one.error:.3g} | {one.verdict} | {one.source} |"
        )
    return "\n".join(lines) + "\n"
