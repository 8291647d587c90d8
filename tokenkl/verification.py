"""Every theorem checked on one codebook: what must hold, by how much it does, and a verdict.

Each check is left <= right, or left = right, between measured quantities, bounds from the geometry
and bounds from other quantities. Measured values enter with their error: the verdict is

- "pass" where the inequality holds between the values themselves (an equality: to their errors);
- "within error bars" where it does not, but does at the ends of their intervals;
- "fail" where it is violated beyond the intervals at a level of 1 - 1e-8.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from tokenkl import bounds, channel
from tokenkl._random import generator
from tokenkl._validation import check_count, check_snr, reject
from tokenkl.bounds._moments import token_distance
from tokenkl.bounds._pairs import MAX_TOKENS
from tokenkl.codebooks import Codebook, OneHot, PointCodebook, ProductCodebook
from tokenkl.estimate import Bound, Estimate
from tokenkl.information import MonteCarlo, profile

#: Level of the intervals beyond which a violation is a failure: about 200 checks with errors take
#: part in a run, so that a correct codebook fails once in a million runs.
LEVEL = 1 - 1e-8
#: Relative rounding error that no verdict depends on.
ROUNDING = 1e-9
#: Samples behind the sampling error and the moved codebook.
SAMPLES = 2**12
#: Effective number of informative samples for a central-limit interval.
MIN_EFFECTIVE = 60
#: Numbers in one block of posteriors; tokens up to which the moved codebook is sampled.
BLOCK, MAX_MOVED = 2**22, 2**13

PASS, WITHIN, FAIL = "pass", "within error bars", "fail"

#: Theorem -> what it says, and who proved it.
THEOREMS: dict[str, tuple[str, str]] = {
    "complement": ("A + P_e = 1", "definition"),
    "entropy balance": ("I + H = H(prior)", "definition"),
    "sum p^2 <= max p": ("P_e <= S", "norms"),
    "max p <= sqrt(sum p^2)": ("1 - sqrt(1 - S) <= P_e", "norms, Jensen"),
    "Cover-Hart": ("S <= 2 P_e - K/(K-1) P_e^2", "Cover and Hart 1967"),
    "Jensen": ("P_e <= 1 - exp(-H)", "Jensen"),
    "Hellman-Raviv": ("P_e <= H / (2 log 2)", "Hellman and Raviv 1970"),
    "Kovalevsky": ("P_e <= polygon of H", "Kovalevsky 1965"),
    "Fano": ("H <= h_b(P_e) + P_e log(K-1)", "Fano 1961"),
    "union bound": ("P_e <= sum of pairwise errors", "Boole"),
    "largest pair": ("max_j Q(r_kj) <= P_e", "monotonicity"),
    "Bonferroni": ("second-order sum <= P_e", "Bonferroni 1936"),
    "de Caen": ("de Caen's sum <= P_e", "de Caen 1997"),
    "guess from the prior": ("P_e <= 1 - max prior", "conditioning"),
    "universal accuracy": ("A <= max prior prod(1 + sqrt(2/pi) h b)", "this project"),
    "smallest distance, S": ("(d_min^2/2) S <= mmse", "pairs of tokens"),
    "diameter, S": ("mmse <= (diam^2/2) S", "pairs of tokens"),
    "smallest distance, P_e": ("(d_min^2/2) P_e <= mmse", "pairs of tokens"),
    "diameter, P_e": ("mmse <= diam^2 (P_e - K/(2K-2) P_e^2)", "pairs, Cover-Hart"),
    "linear MMSE": ("mmse <= tr Sigma (I + snr Sigma)^-1", "orthogonality"),
    "MMSE decay": ("tr Sigma exp(-snr diam^2/4) <= mmse", "Guo et al. 2011, Gronwall"),
    "Gaussian input": ("I <= log det(I + snr Sigma) / 2", "Shannon 1948"),
    "Gaussian input in the box": ("I <= sum log(1 + snr b^2) / 2", "Shannon 1948"),
    "capacity of the box": ("I <= sum C(h b)", "Smith 1971"),
    "prior entropy": ("I <= H(prior)", "conditioning"),
    "information decay": ("decay of the MMSE, integrated <= I", "I-MMSE"),
    "MMSE falls": ("(snr/2) mmse <= I", "Guo, Shamai, Verdu 2005"),
    "monotone in the SNR": ("P_e, H, mmse fall", "data processing"),
    "slope of H, above": ("H(a) - H(b) <= (b-a)/2 mmse(a)", "I-MMSE"),
    "slope of H, below": ("(b-a)/2 mmse(b) <= H(a) - H(b)", "I-MMSE"),
    "H is convex": ("H <= its chords", "I-MMSE"),
    "I-MMSE": ("I = (1/2) integral of mmse", "Guo, Shamai, Verdu 2005"),
    "N-step KL": ("0 <= N-step KL", "chain rule of KL"),
    "isometry, names": ("H, mmse of the moved codebook agree", "invariance"),
}


@dataclasses.dataclass(frozen=True)
class Check:
    """One inequality at one SNR: left <= right (or left = right), and what became of it.

    `margin` is right - left, for an equality minus the absolute difference; `error` is how much the
    margin may be off at the level of the verdict.
    """

    theorem: str
    statement: str
    source: str
    snr: float
    left: float
    right: float
    margin: float
    error: float
    verdict: str


class _Side(NamedTuple):
    """A value and the ends of its interval."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


Measure = Callable[..., Any]


def verify(
    codebook: Codebook,
    snr: Float[Any, " s"],
    *,
    key: Any = 0,
    method: MonteCarlo | None = None,
    measure: Measure = profile,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> list[Check]:
    """Check every theorem that applies to a codebook at these SNRs.

    Args:
        codebook: any codebook. Bounds by pairs of tokens take part up to 2**15 tokens.
        snr: signal-to-noise ratios, distinct and above 0; they are sorted.
        key: integer seed for whatever has to be sampled.
        method: how the quantities are found, as in `tokenkl.profile`.
        measure: what finds them; `tokenkl.profile`, or your own function of the same arguments,
            whose results are then put to the test.
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
    found = measure(codebook, levels, method=method, key=key)
    progress(1, 4)
    ledger = _Ledger(levels)
    share = sampling_error(codebook, levels, key=key)
    progress(2, 4)
    _check_posterior(ledger, found, share, codebook)
    _check_geometry(ledger, found, share, codebook)
    progress(3, 4)
    _check_curves(ledger, found, codebook, measure, method, key)
    _check_moved(ledger, found, codebook, key)
    progress(4, 4)
    order = list(THEOREMS)
    return sorted(ledger.checks, key=lambda one: (order.index(one.theorem), one.snr))


def sampling_error(
    codebook: Codebook, snr: Float[np.ndarray, " s"], *, key: Any, n_samples: int = SAMPLES
) -> Estimate:
    """S = 1 - E sum_k p(k|Y)^2, by plain Monte-Carlo; exact for one-hot tokens.

    Codebooks whose prior does not factorise are sampled with all K posterior probabilities.
    """
    if isinstance(codebook, OneHot):
        mmse = profile(codebook, snr, ["mmse"])["mmse"]
        square = float(codebook.scale) ** 2
        return dataclasses.replace(
            mmse, value=mmse.value / square, numerical_error=mmse.numerical_error / square, unit=""
        )
    values = np.empty((snr.size, n_samples))
    for index, one in enumerate(snr):
        seed = int(generator(key, 7, index).integers(2**31))
        values[index] = _sampling_errors(codebook, float(one), seed, n_samples)
    mean, spread = values.mean(axis=1), values.std(axis=1, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = values.sum(axis=1) ** 2 / (values**2).sum(axis=1)
    return Estimate(
        mean,
        spread / math.sqrt(n_samples),
        1e-12,
        n_samples=n_samples,
        method="Monte-Carlo",
        quantity="sampling_error",
        interval_supported=np.nan_to_num(effective) >= MIN_EFFECTIVE,
        sample_range=1.0,
    )


def _sampling_errors(codebook: Codebook, snr: float, seed: int, count: int) -> np.ndarray:
    """1 - sum_k p(k|y)^2 of `count` observations."""
    if isinstance(codebook, ProductCodebook) and codebook.factorises:
        log_right = np.zeros(count)
        for axis, column in enumerate(codebook.levels):
            line = ProductCodebook([column], [codebook.priors[axis]])
            key = int(generator(seed, axis).integers(2**31))
            log_right += np.log1p(-np.minimum(_sampling_errors_of(line, snr, key, count), 1.0))
        return np.asarray(-np.expm1(log_right))
    return _sampling_errors_of(codebook, snr, seed, count)


def _sampling_errors_of(codebook: Codebook, snr: float, seed: int, count: int) -> np.ndarray:
    _, y = channel.sample(codebook, snr, count, key=seed)
    parts = []
    rows = max(1, BLOCK // codebook.K)
    for start in range(0, count, rows):
        p = np.exp(channel.log_posterior(codebook, y[start : start + rows], snr))
        parts.append((p * (1 - p)).sum(axis=1))
    return np.concatenate(parts)


# ---- Verdicts -----------------------------------------------------------------------------------


class _Ledger:
    """Where checks are written down."""

    def __init__(self, snr: np.ndarray) -> None:
        self.snr = snr
        self.checks: list[Check] = []

    def at_most(self, theorem: str, left: Any, right: Any, snr: np.ndarray | None = None) -> None:
        """left <= right, at every SNR."""
        snr = self.snr if snr is None else snr
        a, b = _side(left, snr.size), _side(right, snr.size)
        self._write(theorem, snr, a, b, b.value - a.value, b.high - a.low, equality=False)

    def equal(self, theorem: str, left: Any, right: Any, snr: np.ndarray | None = None) -> None:
        """left = right: a pass where the intervals overlap."""
        snr = self.snr if snr is None else snr
        a, b = _side(left, snr.size), _side(right, snr.size)
        overlap = np.minimum(b.high - a.low, a.high - b.low)
        self._write(theorem, snr, a, b, -np.abs(b.value - a.value), overlap, equality=True)

    def _write(
        self,
        theorem: str,
        snr: np.ndarray,
        left: _Side,
        right: _Side,
        margin: np.ndarray,
        generous: np.ndarray,
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
                    verdict,
                )
            )


def _side(given: Any, size: int) -> _Side:
    if isinstance(given, _Side):
        return given
    if isinstance(given, Bound):
        given = given.value
    if isinstance(given, Estimate):
        interval = given.confidence_interval(LEVEL)
        parts = given.value, interval.low, interval.high
    else:
        parts = given, given, given
    return _Side(*(np.broadcast_to(np.asarray(part, float), (size,)) for part in parts))


def _bound_of(function: Callable[..., Bound], estimate: Estimate, **more: Any) -> _Side:
    """A bound computed from an estimate: at its value, and at the safe end of its interval."""
    value = np.asarray(function(np.maximum(estimate.value, 0.0), **more).value)
    safe = np.asarray(function(estimate, level=LEVEL, **more).value)
    return _Side(value, np.minimum(value, safe), np.maximum(value, safe))


# ---- The checks ---------------------------------------------------------------------------------


def _check_posterior(ledger: _Ledger, found: Any, share: Estimate, codebook: Codebook) -> None:
    error, entropy = found["error_probability"], found["conditional_entropy"]
    K = codebook.K
    ledger.equal("complement", _sum(found["accuracy"], error), 1.0)
    total = _sum(entropy, found["mutual_information"])
    ledger.equal("entropy balance", total, float(codebook.prior_entropy()))
    ledger.at_most("sum p^2 <= max p", error, share)
    below = _bound_of(bounds.error_above_sampling_error, share)
    ledger.at_most("max p <= sqrt(sum p^2)", below, error)
    cover_hart = _bound_of(lambda x, **o: bounds.cover_hart_sampling_error(x, K, **o), error)
    ledger.at_most("Cover-Hart", share, cover_hart)
    ledger.at_most("Jensen", error, _bound_of(bounds.jensen_error, entropy))
    ledger.at_most("Hellman-Raviv", error, _bound_of(bounds.hellman_raviv_error, entropy))
    ledger.at_most("Kovalevsky", error, _bound_of(bounds.kovalevsky_error, entropy))
    fano = _bound_of(lambda x, **o: bounds.fano_entropy(x, K, **o), error)
    ledger.at_most("Fano", entropy, fano)


def _sum(one: Estimate, other: Estimate) -> _Side:
    """Of two quantities found from the same samples: errors add at worst."""
    a, b = (_side(part, np.size(part.value)) for part in (one, other))
    return _Side(a.value + b.value, a.low + b.low, a.high + b.high)


def _check_geometry(ledger: _Ledger, found: Any, share: Estimate, codebook: Codebook) -> None:
    snr, error, mmse = ledger.snr, found["error_probability"], found["mmse"]
    information = found["mutual_information"]
    small = codebook.K <= MAX_TOKENS
    is_grid = isinstance(codebook, ProductCodebook) and codebook.has_equal_priors
    is_one_hot = isinstance(codebook, OneHot)
    if small or is_grid or is_one_hot:
        ledger.at_most("union bound", error, bounds.union_bound(codebook, snr))
    if small or is_one_hot:
        ledger.at_most("largest pair", bounds.pairwise_bound(codebook, snr), error)
        ledger.at_most("Bonferroni", bounds.bonferroni_bound(codebook, snr), error)
        ledger.at_most("de Caen", bounds.de_caen_bound(codebook, snr), error)
    ledger.at_most("guess from the prior", error, bounds.prior_error_bound(codebook))
    universal = bounds.universal_accuracy_bound(codebook, snr)
    ledger.at_most("universal accuracy", found["accuracy"], universal)
    if codebook.K > 1:
        closest, widest = token_distance(codebook) ** 2, bounds.diameter(codebook) ** 2
        ledger.at_most("smallest distance, S", _scaled(share, closest / 2), mmse)
        ledger.at_most("diameter, S", mmse, _scaled(share, widest / 2))
        ledger.at_most("smallest distance, P_e", _scaled(error, closest / 2), mmse)
        below = _bound_of(lambda x, **o: bounds.mmse_below_error(codebook, x, **o), error)
        ledger.at_most("diameter, P_e", mmse, below)
    ledger.at_most("linear MMSE", mmse, bounds.linear_mmse_bound(codebook, snr))
    ledger.at_most("MMSE decay", bounds.mmse_decay_bound(codebook, snr), mmse)
    gaussian = bounds.gaussian_information_bound(codebook, snr)
    ledger.at_most("Gaussian input", information, gaussian)
    box = bounds.box_information_bound(codebook, snr)
    ledger.at_most("Gaussian input in the box", information, box)
    if not is_one_hot:
        ledger.at_most("capacity of the box", information, bounds.capacity_bound(codebook, snr))
    ledger.at_most("prior entropy", information, bounds.prior_information_bound(codebook))
    decay = bounds.information_decay_bound(codebook, snr)
    ledger.at_most("information decay", decay, information)
    ledger.at_most("MMSE falls", _scaled(mmse, snr / 2), information)


def _scaled(estimate: Estimate, factor: Any) -> _Side:
    side = _side(estimate, np.size(estimate.value))
    return _Side(*(part * factor for part in side))


def _check_curves(
    ledger: _Ledger, found: Any, codebook: Codebook, measure: Measure, method: Any, key: Any
) -> None:
    """What relates neighbouring SNRs."""
    snr = ledger.snr
    entropy, mmse = (_side(found[name], snr.size) for name in ("conditional_entropy", "mmse"))
    if snr.size > 1:
        start, step = snr[:-1], np.diff(snr)
        for name in ("error_probability", "conditional_entropy", "mmse"):
            curve = _side(found[name], snr.size)
            first, second = (_part(curve, part) for part in (slice(None, -1), slice(1, None)))
            ledger.at_most("monotone in the SNR", second, first, start)
        fall = _Side(
            entropy.value[:-1] - entropy.value[1:],
            entropy.low[:-1] - entropy.high[1:],
            entropy.high[:-1] - entropy.low[1:],
        )
        above, below = (
            _Side(*(part[side] * step / 2 for part in mmse))
            for side in (slice(None, -1), slice(1, None))
        )
        ledger.at_most("slope of H, above", fall, above, start)
        ledger.at_most("slope of H, below", below, fall, start)
        cost = _Side(
            np.array([above.value.sum() - (entropy.value[0] - entropy.value[-1])]),
            np.array([above.low.sum() - (entropy.high[0] - entropy.low[-1])]),
            np.array([above.high.sum() - (entropy.low[0] - entropy.high[-1])]),
        )
        ledger.at_most("N-step KL", 0.0, cost, snr[:1])
    if snr.size > 2:
        share = (snr[1:-1] - snr[:-2]) / (snr[2:] - snr[:-2])
        chord = _Side(*((1 - share) * part[:-2] + share * part[2:] for part in entropy))
        ledger.at_most("H is convex", _part(entropy, slice(1, -1)), chord, snr[1:-1])
    if not any(np.any(found[name].n_samples) for name in ("mmse", "mutual_information")):
        top = snr[-1:]
        information = _part(_side(found["mutual_information"], snr.size), slice(-1, None))

        def mmse_at(levels: np.ndarray) -> np.ndarray:
            return np.asarray(measure(codebook, levels, method=method, key=key)["mmse"].value)

        area = np.array([_area(mmse_at, float(top[0]), bounds.diameter(codebook)) / 2])
        ledger.equal("I-MMSE", information, _Side(area, area * (1 - 1e-8), area * (1 + 1e-8)), top)


def _area(curve: Callable[[np.ndarray], np.ndarray], top: float, diameter: float) -> float:
    """int_0^top of the MMSE: Gauss-Legendre over panels, where it varies, in log SNR."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    # Below `first` the midpoint rule is as good as any.
    first = 1e-4 * min(1 / max(diameter**2, 1e-300), top)
    panels = math.ceil(math.log2(top / first))
    edges = np.geomspace(first, top, panels + 1)
    half = np.diff(edges)[:, None] / 2
    points = np.concatenate([[first / 2], (edges[:-1, None] + half * (nodes + 1)).ravel()])
    values = curve(points)
    return float((half * weights * values[1:].reshape(panels, -1)).sum() + first * values[0])


def _part(side: _Side, where: slice) -> _Side:
    return _Side(*(part[where] for part in side))


def _check_moved(ledger: _Ledger, found: Any, codebook: Codebook, key: int) -> None:
    """The codebook rotated and renamed, sampled with other noise."""
    if codebook.K > MAX_MOVED or codebook.K * codebook.n > BLOCK or codebook.n > 512:
        return
    rng = generator(key, 11)
    rotation, _ = np.linalg.qr(rng.standard_normal((codebook.n, codebook.n)))
    order = rng.permutation(codebook.K)
    points = (np.asarray(codebook.points) @ rotation)[order]
    moved = PointCodebook(points, np.asarray(codebook.prior)[order], allow_duplicates=True)
    names = ("conditional_entropy", "mmse")
    sampled = profile(moved, ledger.snr, names, method=MonteCarlo(n_samples=SAMPLES), key=key + 1)
    for name in names:
        ledger.equal("isometry, names", found[name], sampled[name])


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
        "1 - E sum p^2, margins are right minus left.",
        "",
        "| theorem | statement | SNR (dB) | left | right | margin | verdict | source |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in worst(checks):
        db = 10 * math.log10(one.snr)
        lines.append(
            f"| {one.theorem} | {one.statement} | {db:.4g} | {one.left:.6g} | {one.right:.6g} | "
            f"{one.margin:.3g} | {one.verdict} | {one.source} |"
        )
    return "\n".join(lines) + "\n"
