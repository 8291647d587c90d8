"""The law of the token that a sampler with the exact denoiser produces in N steps.

Any sampler of `tokenkl.samplers`, from snr_0 to snr_N, started from N(0, start^2 I) in units of
the noise, that is in Y = x / sigma. Where the prior factorises the coordinates do not interact, and
the law is found without sampling (`_coordinate_laws`); elsewhere paths are simulated and counted.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._random import draws_of, generator, seed_of
from tokenkl._validation import MAX_ELEMENTS, check_positive, reject, renamed
from tokenkl.channels import gaussian as channel
from tokenkl.codebooks import Codebook, ProductCodebook
from tokenkl.codebooks.base import check_codebook
from tokenkl.divergence._coordinate_laws import EPS, Scalar, ancestral_law, ddim_law
from tokenkl.divergence.sampler import check_snr_grid
from tokenkl.estimate import Estimate
from tokenkl.information import Exact, MonteCarlo
from tokenkl.information.estimators import Progress
from tokenkl.information.exact.product import distinct_coordinates
from tokenkl.information.methods import Method, check_method
from tokenkl.numerics.laws import kl_and_error
from tokenkl.samplers import DDIM, Ancestral, Level, Sampler, as_decision, as_sampler

#: logits(y, snr): observations (paths, n) and one SNR to unnormalised log-probabilities (paths, K).
Logits = Callable[[np.ndarray, float], np.ndarray]

#: What finds the law of one coordinate.
EXACT = {DDIM: ddim_law, Ancestral: ancestral_law}
DEFAULT_PATHS = 2**16
#: Least expected count of the rarest token for intervals from counts.
MIN_COUNT = 5
#: Most posteriors times tokens held at once.
BLOCK = 2**21
#: Shares of the paths whose counts choose the tokens that the others compare.
HALVES = 2


@dataclasses.dataclass(frozen=True, eq=False)
class ProducedLaw:
    """How often a sampler produces each token, and how far that is from the prior.

    - `kl`: KL(prior || produced) in nats.
    - `total_variation`: sum |prior - produced| / 2.
    - `factors`: the law of each coordinate where the law is a product, else None.
    - `counts`: (K,) times each token was produced, else None.
    - `sampler`, `n_steps`: the name of what produced it, and in how many steps.
    """

    kl: Estimate
    total_variation: Estimate
    factors: tuple[Float[np.ndarray, " L"], ...] | None
    counts: Int[np.ndarray, " K"] | None
    sampler: str
    n_steps: int
    codebook: Codebook

    @property
    def probabilities(self) -> Float[np.ndarray, " K"]:
        """Probability of each token: exact, or the frequency among the paths."""
        if self.counts is not None:
            return np.asarray(self.counts / self.counts.sum())
        assert self.factors is not None
        grid = self.codebook.factors
        assert grid is not None
        return _outer(self.factors, grid)


@renamed(snr_grid="grid", start_scale="start")
def produced_law(
    codebook: Codebook,
    grid: Float[Any, " points"],
    *,
    sampler: Sampler | str = "ddim",
    decision: str = "map",
    temperature: float = 1.0,
    start: float = 1.0,
    logits: Logits | None = None,
    method: Method | None = None,
    key: Any = None,
    progress: Progress | None = None,
) -> ProducedLaw:
    """The law of the token produced by N sampling steps with the exact denoiser.

    From y ~ N(0, start^2 I) at snr_0, with h = sqrt(snr) and e(y) the posterior mean:
    DDIM, y <- y + (h' - h) e(y); ancestral (DDPM), z <- z + (snr' - snr) e(y) +
    N(0, (snr' - snr) I) with z = h y. At snr_N the token is the best guess ("map") or drawn from
    the posterior ("sample").

    Product priors: exact, one coordinate at a time. DDIM maps each coordinate increasingly, so
    thresholds are traced back to the start; ancestral densities are integrated by the trapezoid
    rule. Elsewhere: simulated paths. KL(prior || produced) then takes log((count + 1/2) / paths),
    whose bias is of second order in 1 / count, with a standard error that holds also where produced
    and prior agree and the fluctuation is chi-squared. The total variation lies between an estimate
    that is too low on average (tokens chosen by one half of the paths, compared on the other) and
    one too high (that of the counts); the value is their middle, `numerical_error` half their
    distance.

    Args:
        codebook: any codebook.
        grid: (N + 1,) SNRs from the start to the end, increasing, the first at least 0.
        sampler: `DDIM()` or "ddim", `Ancestral()` or "ancestral" (or "ddpm"); any other `Sampler`
            is simulated.
        decision: "map" or "sample", how the token is read off at the end.
        temperature: posteriors in the denoiser (and in "sample") are raised to 1 / temperature.
        start: standard deviation of the start in units of the noise there; 2/3 in the paper.
        logits: replaces the exact log-posteriors in denoiser and decision, for guidance or a
            learned model; paths are then simulated.
        method: `Exact()`, `MonteCarlo(n_samples=...)` (paths; 65536 if None) or None: exact where
            the prior factorises.
        key: integer seed or JAX key; needed where paths are simulated.
        progress: called with (paths done, paths wanted).

    Raises:
        ValueError: an argument out of its range, or an exact law where there is none or where
            levels so sharp (at an SNR of 1e8, say) take more numbers than memory has room for.

    Example: FSQ base 3 in one coordinate, DDIM in 8 steps, favours the middle.
        >>> import tokenkl as tk
        >>> grid = tk.step_grid("cosine", 8, 0.0, 100.0)
        >>> tk.produced_law(tk.FSQ((3,)), grid).probabilities.round(4).tolist()
        [0.3077, 0.3846, 0.3077]
    """
    check_codebook(codebook)
    snr = check_snr_grid(grid)
    moves, decision = as_sampler(sampler), as_decision(decision)
    temperature = check_positive(temperature, "temperature")
    start = check_positive(start, "start")
    check_method(method, Exact, MonteCarlo, targets=False)
    known = type(moves) in EXACT and logits is None
    product = codebook.factors if known else None
    if product is not None and product.coincides:
        product = None  # equal levels have no threshold between them
    if product is not None and not isinstance(method, MonteCarlo):
        return _exact(product, snr, moves, decision, temperature, start)
    if isinstance(method, Exact):
        unless = "the prior is no product, with logits, or for samplers other than DDIM, Ancestral"
        reject("method", "Exact()", f"MonteCarlo(...) where {unless}")
    if key is None:
        reject("key", "None", f"an integer seed or a JAX key, since {codebook!r} is sampled")
    if isinstance(method, MonteCarlo) and method.control is not None:
        reject("method", method, "MonteCarlo(n_samples=...) without a control: so many paths")
    paths = (method.n_samples if method else None) or DEFAULT_PATHS
    chosen = _Paths(codebook, snr, moves, decision, temperature, start, logits)
    log_prior = codebook.log_prior  # refuses where tokens are too many to be counted
    counts = chosen.count(paths, key, progress)
    kl = kl_from_counts(log_prior, counts)
    variation = variation_from_counts(codebook.prior, counts)
    how = f"{moves.name}, simulated paths"
    drawn: dict[str, Any] = {"method": how, "seed": seed_of(key), "draws": draws_of(key)}
    return ProducedLaw(
        dataclasses.replace(kl, **drawn),
        dataclasses.replace(variation, **drawn),
        None,
        counts.sum(axis=0),
        moves.name,
        snr.size - 1,
        codebook,
    )


# ---- Exact laws -------------------------------------------------------------------------------


def _exact(
    codebook: Any, grid: np.ndarray, sampler: Any, decision: str, temperature: float, start: float
) -> ProducedLaw:
    law_of = EXACT[type(sampler)]
    known: dict[tuple[bytes, bytes], tuple[np.ndarray, np.ndarray]] = {}
    for levels, log_prior, _ in distinct_coordinates(codebook):
        order = np.argsort(levels)
        law, error = np.ones(1), np.zeros(1)
        if levels.size > 1:
            scalar = Scalar(levels[order], log_prior[order], temperature, start)
            law, error = law_of(scalar, grid, decision)
        place = np.argsort(order)
        known[levels.tobytes(), log_prior.tobytes()] = law[place], error[place]
    factors, kl, kl_error = [], 0.0, 0.0
    log_priors, errors = [], []
    for axis, levels in enumerate(codebook.levels):
        log_prior = codebook.coordinate_log_prior(axis)
        law, error = known[levels.tobytes(), log_prior.tobytes()]
        factors.append(law)
        errors.append(error)
        log_priors.append(log_prior)
        value, slack = kl_and_error(log_prior, law, error)
        kl, kl_error = kl + value, kl_error + slack
    how = f"{sampler.name}, exact by coordinate"
    note = "some token is never produced" if math.isinf(kl) else ""
    return ProducedLaw(
        Estimate(kl, 0.0, kl_error, method=how, quantity="KL", unit="nats", note=note),
        _exact_variation(codebook, log_priors, factors, errors, how),
        tuple(factors),
        None,
        sampler.name,
        grid.size - 1,
        codebook,
    )


def _exact_variation(
    codebook: Any, log_priors: list[Any], factors: list[Any], errors: list[Any], how: str
) -> Estimate:
    named: dict[str, Any] = {"method": how, "quantity": "total variation"}
    if codebook.K > MAX_ELEMENTS // 4:
        note = "not computed: the law of so many tokens is not materialised"
        return Estimate(math.nan, 0.0, math.nan, interval_supported=False, note=note, **named)
    gap = np.abs(_outer([np.exp(one) for one in log_priors], codebook) - _outer(factors, codebook))
    error = sum(float(one.sum()) for one in errors)
    return Estimate(gap.sum() / 2, 0.0, error / 2 + 16 * EPS * codebook.n, **named)


def _outer(factors: Any, codebook: ProductCodebook) -> np.ndarray:
    """The product law in the order of the token ids."""
    order = factors if codebook.order == "C" else factors[::-1]
    return functools.reduce(np.multiply.outer, order).ravel()


# ---- Simulated paths --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Paths:
    codebook: Codebook
    grid: np.ndarray
    sampler: Sampler
    decision: str
    temperature: float
    start: float
    logits: Logits | None

    def count(self, paths: int, key: Any, progress: Progress | None) -> Int[np.ndarray, "halves K"]:
        """How often each token comes out, in the two halves of the paths."""
        K = self.codebook.K
        size = int(np.clip(BLOCK // K, 1, 2**14))
        counts = np.zeros((HALVES, K), dtype=np.int64)
        for block, start in enumerate(range(0, paths, size)):
            number = min(size, paths - start)
            ids = self._run(generator(key, block), number)
            where = (start + np.arange(number)) * HALVES // paths
            for half in range(HALVES):
                counts[half] += np.bincount(ids[where == half], minlength=K)
            if progress is not None:
                progress(start + number, paths)
        return counts

    def _run(self, rng: np.random.Generator, number: int) -> np.ndarray:
        """Ids of the tokens that some paths end in."""
        levels = [Level.of_snr(snr) for snr in self.grid]
        y = self.start * rng.standard_normal((number, self.codebook.n))
        for now, then in itertools.pairwise(levels):
            mean = self._mean(y, now.alpha)
            fresh = rng.standard_normal(y.shape) if self.sampler.draws else None
            y = self.sampler.step(y, mean, now, then, fresh)
        logits = self._logits(y, levels[-1].alpha)
        if self.decision == "sample":
            logits = logits + rng.gumbel(size=logits.shape)
        return np.asarray(logits.argmax(axis=1))

    def _logits(self, y: np.ndarray, h: float) -> np.ndarray:
        """Log-posteriors over the temperature, up to a constant."""
        if self.logits is None:
            return channel.log_posterior(self.codebook, y, h**2) / self.temperature
        given = np.asarray(self.logits(y, float(h**2)), dtype=float)
        if given.shape != (len(y), self.codebook.K):
            expected = f"a function to arrays of shape {(len(y), self.codebook.K)}"
            reject("logits", f"values of shape {given.shape}", expected)
        return given / self.temperature

    def _mean(self, y: np.ndarray, h: float) -> np.ndarray:
        if self.logits is None and self.temperature == 1:
            return np.asarray(channel.denoiser(self.codebook, y, h**2))
        return np.asarray(special.softmax(self._logits(y, h), axis=1) @ self.codebook.points)


# ---- From counts to divergences -----------------------------------------------------------------


def kl_from_counts(
    log_prior: Float[np.ndarray, " K"], counts: Int[np.ndarray, "halves K"]
) -> Estimate:
    """KL(prior || law) of the law that independent counts come from, in nats.

    sum_k p_k (log p_k - log((c_k + 1/2) / m)) + 1/(2m) for m draws: by the expansion of
    E log(c + 1/2), its bias is O(sum p_k / (m q_k)^2) (Haldane 1956, Anscombe 1956, for the logit).
    The variance is that of the linear term, Var(p_K/q_K)/m with K ~ q, plus that of the quadratic
    one, (sum r^2 - 2 sum r^2 q + 1) / (2 m^2) with r = p/q, which is all that is left where q = p
    (chi-squared with K - 1 degrees of freedom over 2m). `numerical_error` holds the bias, and 2/m
    for the curvature of the KL between the estimate and the truth: that is z^2 / (2m) at z = 2, and
    lets the 95 % interval hold in between as well, where a few tokens give a skewed estimate. The
    interval counts as supported where every token is expected at least five times.
    """
    prior = np.exp(log_prior)
    total = counts.sum(axis=0)
    m, K = int(total.sum()), total.size
    law = (total + 0.5) / (m + K / 2)
    value = float(prior @ (log_prior - np.log((total + 0.5) / m))) + 1 / (2 * m)
    r = prior / law
    linear = max(float(law @ r**2) - float(law @ r) ** 2, 0.0)
    # The estimated variance is itself inflated by the noise of the counts: 1 / (m q) each.
    noise = float(np.sum(r**2 * (1 - law))) / m
    linear = max(linear - noise, 0.0)
    quadratic = max(float(np.sum(r**2)) - 2 * float(law @ r**2) + 1, 0.0)
    error = math.sqrt(linear / m + quadratic / (2 * m**2))
    supported = bool(np.minimum(total, m * prior).min() >= MIN_COUNT)
    note = "" if supported else f"some token is expected less than {MIN_COUNT} times: more paths"
    return Estimate(
        value,
        error,
        float(np.sum(prior / (law * m) ** 2)) / 8 + 2 * float(law @ r**2) / m,
        n_samples=m,
        quantity="KL",
        unit="nats",
        interval_supported=supported,
        note=note,
    )


def variation_from_counts(
    prior: Float[np.ndarray, " K"], counts: Int[np.ndarray, "halves K"]
) -> Estimate:
    """Total variation between the prior and the law that two halves of counts come from.

    Too high on average: sum |p - c/m| / 2, a convex function of unbiased frequencies. Too low: the
    set of tokens that one half sees less often than the prior says, compared on the other half. The
    truth lies between their means.
    """
    sizes = counts.sum(axis=1, keepdims=True)
    halves = counts / np.maximum(sizes, 1)
    whole = counts.sum(axis=0) / counts.sum()
    high = 0.5 * float(np.abs(prior - whole).sum())
    lows, errors = [], []
    for choosing, testing in ((0, 1), (1, 0)):
        chosen = halves[choosing] < prior
        share = float(halves[testing][chosen].sum())
        lows.append(float(prior[chosen].sum()) - share)
        errors.append(share * (1 - share) / max(int(sizes[testing, 0]), 1))
    low = float(np.mean(lows))
    # No event's frequency has a larger variance than 1 / (4 m), nor than those of all tokens
    # together; which event the two laws differ by most in is itself a matter of chance.
    m = int(counts.sum())
    largest = max(float(law @ (1 - law)) for law in (prior, whole))
    error = max(math.sqrt(float(np.mean(errors))), math.sqrt(min(largest, 0.25) / m))
    return Estimate(
        (low + high) / 2,
        error,
        max(high - low, 0.0) / 2,
        n_samples=m,
        quantity="total variation",
        interval_supported=m >= 100,
        sample_range=1.0,
        note="" if m >= 100 else "too few paths for an interval",
    )
