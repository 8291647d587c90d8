"""The inequalities, one entry each: what it says, who proved it, and the bounds that it gives.

`bracket` applies every reading that is not implied by a sharper one; `tokenkl.verify` checks the
first reading of each on measured values.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl.bounds import _capacity, _information, _moments, _pairs, _posterior
from tokenkl.bounds._union import union_bound
from tokenkl.codebooks import Codebook
from tokenkl.estimate import Bound
from tokenkl.halfspaces.bonferroni import MAX_TOKENS

#: Most tokens whose pairs are gone through at every SNR, and products of their coordinates.
FEW, MAX_PRODUCTS = 2**13, 2**32
EPS = float(np.finfo(float).eps)
#: Below a number by its rounding, where a bound has an infinite slope at the largest of them, or
#: that of Kovalevsky's, which is 1 / (1 - P_e).
BELOW = 1 - 8 * EPS


class Setting:
    """A codebook and its SNRs, and what several bounds have in common."""

    def __init__(self, codebook: Codebook, snr: Float[np.ndarray, " s"]) -> None:
        self.codebook, self.snr = codebook, snr

    @property
    def has_pairs(self) -> bool:
        """Whether the nearest rivals of every token can be looked up."""
        few = self.codebook.fits and self.codebook.K <= MAX_TOKENS
        return few or self.is_regular

    @property
    def is_regular(self) -> bool:
        """Whether all pairs of tokens are alike, and the box says nothing."""
        return self.codebook.common_distance is not None

    @property
    def known_above(self) -> Float[np.ndarray, " s"]:
        """The information is no more than this, which takes no time to find."""
        known = np.broadcast_to(float(self.codebook.prior_entropy()), self.snr.shape)
        if _has_covariance(self):
            limit = _moments.gaussian_information_bound(self.codebook, self.snr)
            known = np.minimum(known, limit.value)
        return known

    @functools.cached_property
    def by_pairs(self) -> list[Bound]:
        """Bonferroni's and de Caen's bound, which share the joint probabilities."""
        return _pairs.bounds_by_pairs(self.codebook, self.snr)


def _always(_: Setting) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Reading:
    """An inequality as a bound on one quantity.

    Args:
        quantity: what is bounded.
        direction: "upper" or "lower".
        bound: from a `Setting`, and the value of `given`, with which it grows.
        given: the quantity that it is computed from; None where geometry is enough.
        when: where it holds and is affordable.
        sharpest: False where another reading implies it.
    """

    quantity: str
    direction: str
    bound: Callable[..., Bound]
    given: str | None = None
    when: Callable[[Setting], bool] = _always
    sharpest: bool = True


@dataclasses.dataclass(frozen=True)
class Theorem:
    """One inequality: its name, what it says, who proved it, how it is read."""

    name: str
    statement: str
    source: str
    readings: tuple[Reading, ...]


def _upper(
    quantity: str, bound: Callable[..., Bound], given: str | None = None, **options: Any
) -> Reading:
    return Reading(quantity, "upper", bound, given, **options)


def _lower(
    quantity: str, bound: Callable[..., Bound], given: str | None = None, **options: Any
) -> Reading:
    return Reading(quantity, "lower", bound, given, **options)


def _some(at: Setting) -> bool:
    return at.codebook.K > 1


def _has_covariance(at: Setting) -> bool:
    return at.codebook.knows_covariance or at.codebook.fits


def _has_distances(at: Setting) -> bool:
    return at.codebook.knows_pairs or at.has_pairs


def _few_pairs(at: Setting) -> bool:
    return _information.pairs_are_few(at.codebook, FEW)


def _few_products(at: Setting) -> bool:
    parts = at.codebook.smallest_parts
    return all(part.K <= FEW and part.K**2 * part.n <= MAX_PRODUCTS for part in parts)


def _share_bound(at: Setting, mmse: Any, *, largest: bool) -> Bound:
    """mmse = (1/2) E sum_ij p_i p_j |e_i - e_j|^2, solved for the sampling error."""
    if largest:
        size, name = at.codebook.diameter_bound(), "diameter"
    else:
        size, name = _moments.token_distance(at.codebook), "smallest distance"
    useful = 0 < size < np.inf
    value = 2 * mmse / size**2 if useful else np.full(np.shape(mmse), 0.0 if largest else np.inf)
    direction = "lower" if largest else "upper"
    source = "covariance as a sum over pairs"
    return Bound(value, direction, name, source, "sampling_error")  # type: ignore[arg-type]


P_E, S, H, I, MMSE = (  # noqa: E741
    *("error_probability", "sampling_error", "conditional_entropy", "mutual_information", "mmse"),
)

#: In the order in which they are tried.
THEOREMS: tuple[Theorem, ...] = (
    # ---- From one property of the posterior to another ----
    Theorem("sum p^2 <= max p", "P_e <= S", "norms", (
        _upper(P_E, lambda at, s: _posterior.error_below_sampling_error(s), S),
        _lower(S, lambda at, p: _posterior.sampling_error_above_error(p), P_E),
    )),
    Theorem("max p <= sqrt(sum p^2)", "1 - sqrt(1 - S) <= P_e", "norms, Jensen", (
        _lower(P_E, lambda at, s: _posterior.error_above_sampling_error(s), S, sharpest=False),
    )),
    Theorem("Cover-Hart", "S <= 2 P_e - K/(K-1) P_e^2", "Cover and Hart 1967", (
        _upper(S, lambda at, p: _posterior.cover_hart_sampling_error(p, at.codebook.K), P_E),
        _lower(P_E, lambda at, s: _posterior.cover_hart_error(s * BELOW, at.codebook.K), S),
    )),
    Theorem("Jensen", "P_e <= 1 - exp(-H)", "Jensen", (
        _upper(P_E, lambda at, h: _posterior.jensen_error(h), H, sharpest=False),
    )),
    Theorem("Hellman-Raviv", "P_e <= H / (2 log 2)", "Hellman and Raviv 1970", (
        _upper(P_E, lambda at, h: _posterior.hellman_raviv_error(h), H, sharpest=False),
    )),
    Theorem("Kovalevsky", "P_e <= polygon of H", "Kovalevsky 1965", (
        _upper(P_E, lambda at, h: _posterior.kovalevsky_error(h), H),
        _lower(H, lambda at, p: _posterior.kovalevsky_entropy(np.minimum(p, 1) * BELOW), P_E),
    )),
    Theorem("Fano", "H <= h_b(P_e) + P_e log(K-1)", "Fano 1961", (
        _upper(H, lambda at, p: _posterior.fano_entropy(p, at.codebook.K), P_E),
        _lower(P_E, lambda at, h: _posterior.fano_error(h * BELOW, at.codebook.K), H),
    )),
    # ---- From the geometry ----
    Theorem("guess from the prior", "P_e <= 1 - max prior", "conditioning", (
        _upper(P_E, lambda at: _moments.prior_error_bound(at.codebook)),
    )),
    Theorem(
        "universal accuracy", "A <= max prior prod(1 + sqrt(2/pi) h b)", "this project", (
        _upper("accuracy", lambda at: _moments.universal_accuracy_bound(at.codebook, at.snr)),
    )),
    Theorem("information decay", "decay of the MMSE, integrated <= I", "I-MMSE", (
        _lower(I, lambda at: _moments.information_decay_bound(at.codebook, at.snr)),
    )),
    Theorem(
        "MMSE decay", "tr Sigma exp(-snr diam^2/4) <= mmse", "Guo et al. 2011, Gronwall", (
        _lower(MMSE, lambda at: _moments.mmse_decay_bound(at.codebook, at.snr)),
    )),
    Theorem("Gaussian input in the box", "I <= sum log(1 + snr b^2) / 2", "Shannon 1948", (
        _upper(I, lambda at: _moments.box_information_bound(at.codebook, at.snr)),
    )),
    Theorem("capacity of the box", "I <= sum C(h b)", "Smith 1971", (
        _upper(
            I,
            lambda at: _capacity.capacity_bound(at.codebook, at.snr, unless_above=at.known_above),
            when=lambda at: not at.is_regular,
        ),
    )),
    Theorem("linear MMSE", "mmse <= tr Sigma (I + snr Sigma)^-1", "orthogonality", (
        _upper(
            MMSE, lambda at: _moments.linear_mmse_bound(at.codebook, at.snr), when=_has_covariance
        ),
    )),
    Theorem("Gaussian input", "I <= log det(I + snr Sigma) / 2", "Shannon 1948", (
        _upper(
            I, lambda at: _moments.gaussian_information_bound(at.codebook, at.snr),
            when=_has_covariance,
        ),
    )),
    Theorem("union bound", "P_e <= sum of pairwise errors", "Boole", (
        _upper(P_E, lambda at: union_bound(at.codebook, at.snr), when=_has_distances),
    )),
    Theorem("largest pair", "max_j Q(r_kj) <= P_e", "monotonicity", (
        _lower(
            P_E, lambda at: _pairs.pairwise_bound(at.codebook, at.snr),
            when=lambda at: at.has_pairs, sharpest=False,
        ),
    )),
    Theorem("Bonferroni", "second-order sum <= P_e", "Bonferroni 1936", (
        _lower(P_E, lambda at: at.by_pairs[0], when=lambda at: at.has_pairs),
    )),
    Theorem("de Caen", "de Caen's sum <= P_e", "de Caen 1997", (
        _lower(P_E, lambda at: at.by_pairs[1], when=lambda at: at.has_pairs),
    )),
    Theorem(
        "Gaussian less chi-squared", "log det(I + snr Sigma) / 2 - log(1 + chi^2) <= I",
        "Shannon 1948, Jensen", (
        _lower(
            I, lambda at: _information.chi_squared_information_bound(at.codebook, at.snr),
            when=_few_products,
        ),
    )),
    Theorem(
        "pairs, below", "-sum p_i log sum p_j exp(-snr d^2/8) <= I", "Kolchinsky and Tracey 2017", (
        _lower(
            I, lambda at: _information.distance_information_bound(at.codebook, at.snr),
            when=lambda at: _few_pairs(at) or _information.pairs_are_counted(at.codebook),
        ),
    )),
    Theorem(
        "pairs, above", "I <= -sum p_i log sum p_j exp(-snr d^2/2)", "Kolchinsky and Tracey 2017", (
        _upper(
            I, lambda at: _information.divergence_information_bound(at.codebook, at.snr),
            when=_few_pairs,
        ),
    )),
    Theorem("prior entropy", "I <= H(prior)", "conditioning", (
        _upper(I, lambda at: _moments.prior_information_bound(at.codebook), sharpest=False),
    )),
    # ---- From distances, and along the SNR ----
    Theorem("smallest distance, S", "(d_min^2/2) S <= mmse", "pairs of tokens", (
        _lower(
            MMSE, lambda at, s: _moments.mmse_above_sampling_error(at.codebook, s), S, when=_some
        ),
        _upper(S, functools.partial(_share_bound, largest=False), MMSE),
    )),
    Theorem("diameter, S", "mmse <= (diam^2/2) S", "pairs of tokens", (
        _upper(
            MMSE, lambda at, s: _moments.mmse_below_sampling_error(at.codebook, s), S, when=_some
        ),
        _lower(S, functools.partial(_share_bound, largest=True), MMSE),
    )),
    Theorem("smallest distance, P_e", "(d_min^2/2) P_e <= mmse", "pairs of tokens", (
        _lower(
            MMSE, lambda at, p: _moments.mmse_above_error(at.codebook, p), P_E,
            when=_some, sharpest=False,
        ),
    )),
    Theorem("diameter, P_e", "mmse <= diam^2 (P_e - K/(2K-2) P_e^2)", "pairs, Cover-Hart", (
        _upper(
            MMSE, lambda at, p: _moments.mmse_below_error(at.codebook, p), P_E,
            when=_some, sharpest=False,
        ),
    )),
    Theorem("MMSE falls", "(snr/2) mmse <= I", "Guo, Shamai, Verdu 2005", (
        _lower(I, lambda at, m: _moments.information_above_mmse(m, at.snr), MMSE),
        _upper(
            MMSE, lambda at, i: _moments.mmse_below_information(np.minimum(i, 1e300), at.snr), I
        ),
    )),
)  # fmt: skip


def readings(given: str | None, at: Setting) -> Iterator[Reading]:
    """The sharpest readings that start from this quantity, or from the geometry alone."""
    for theorem in THEOREMS:
        for reading in theorem.readings:
            if reading.given == given and reading.sharpest and reading.when(at):
                yield reading
