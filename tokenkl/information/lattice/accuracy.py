"""Bayes accuracy of lattice cuts too large to list, by exact decoding along random directions.

Priors are equal, so the region in which token k is guessed is a convex cell around its point. In
the direction u it ends at a distance R_k(u), which does not depend on the noise. With eps = rho u,
the length rho independent of the direction u,

    P_e = E P(rho > h R_k(u)) = E Q_n(h R_k(u)),

where Q_n is the tail of the chi law with n degrees of freedom: the length is averaged exactly, and
one sample (k, u) serves every noise level. R_k(u) is found by the decoder. A point far out on the
ray belongs to some other token j; with d = e_j - e_k, the ray leaves k's side of the half-space of
j at |d|^2 / (2 <u, d>); from there on nearer tokens are looked for, until none is nearer than k.
No step is approximate, and no token is listed.

One sample in about (h R)^(n - 1) directions comes near a nearest neighbour, so that errors of 1e-9
are within reach in few dimensions; where they are not, too few samples carry the mean and no
central-limit interval is offered. There `_lattice_rare` samples the short vectors of the lattice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from tokenkl._random import generator
from tokenkl._validation import MAX_ELEMENTS, reject
from tokenkl.codebooks import Codebook, LatticeCodebook
from tokenkl.information.lattice.rare import rare_fields
from tokenkl.information.methods import MonteCarlo
from tokenkl.information.sampling.montecarlo import (
    DEFAULT_SAMPLES,
    MAX_BLOCK,
    PILOT,
    Progress,
    samples_needed,
)
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments

EPS = float(np.finfo(float).eps)
#: What decoding can find.
DECODED_QUANTITIES = ("accuracy", "error_probability")
#: Up to this many tokens every posterior is computed, which gives all quantities.
LARGE = 2**15
#: Where a ray starts, in diameters of the box.
FAR = 1e4
#: Steps along a ray. Each finds a nearer half-space; a handful is the rule.
MAX_STEPS = 1000


def is_decoded(codebook: Codebook, quantities: tuple[str, ...]) -> bool:
    """Whether `decoded_profile` is the way: few quantities, or points too many for the others.

    Raises:
        ValueError: too many points for a quantity that needs them all.
    """
    if not isinstance(codebook, LatticeCodebook) or codebook.K <= LARGE:
        return False
    others = [name for name in quantities if name not in DECODED_QUANTITIES]
    if others and codebook.K * codebook.n > MAX_ELEMENTS:
        reject(
            "quantities",
            others[0],
            f"accuracy or error_probability for {codebook!r}: a posterior needs all tokens, and "
            "lattice decoding finds the best one only",
        )
    return not others


def decoded_profile(
    codebook: LatticeCodebook,
    snr: Float[np.ndarray, " s"],
    quantities: tuple[str, ...],
    method: MonteCarlo | None,
    key: Any,
    progress: Progress | None = None,
) -> tuple[dict[str, dict[str, Any]], str]:
    """Error probability and accuracy with their errors and sample count, and how.

    Where no method is asked for, errors that are rare enough are left to `_lattice_rare`.
    """
    h, forced = np.sqrt(snr), method is not None
    method = method or MonteCarlo()
    moments = Moments((2, h.size))
    beyond = np.zeros(h.size)
    wanted = method.n_samples or (PILOT if method.has_target else DEFAULT_SAMPLES)
    wanted = min(wanted, method.max_samples)
    size = int(np.clip(method.memory // (8 * (16 * codebook.n + 8 * h.size)), 1, MAX_BLOCK))
    block = count = 0
    while count < wanted:
        reach, is_open = cell_reach(codebook, generator(key, block), size)
        used = slice(wanted - count)
        half_square = (h[:, None] * reach[used]) ** 2 / 2
        # The tail of the chi law, and one minus it, which need not be small.
        tails = special.gammaincc(codebook.n / 2, half_square)
        moments.add(np.stack([tails, special.gammainc(codebook.n / 2, half_square)]))
        beyond += (tails * is_open[used]).sum(axis=1)
        block, count = block + 1, int(moments.n[0, 0])
        if progress is not None:
            progress(count, wanted)
        if count >= wanted and method.has_target:
            found = _summary(moments, snr, beyond, codebook)
            asked = {name: found[name] for name in quantities}
            needed = samples_needed(asked, np.full(h.size, count), 4.0, method)
            wanted = min(max(int(needed.max(initial=count)), count), method.max_samples)
    found, how = _summary(moments, snr, beyond, codebook), "lattice decoding along rays"
    if not forced:
        rare, fields = rare_fields(codebook, h, count, key)
        if rare.any():
            how += ", short vectors where errors are rare"
            _replace(found, rare, fields)
    for fields in found.values():
        fields["n_samples"] = np.full(h.size, count)
        fields["degrees_of_freedom"] = np.full(h.size, np.inf)
    return {name: found[name] for name in quantities}, how


def cell_reach(
    codebook: LatticeCodebook, rng: np.random.Generator, size: int
) -> tuple[Float[np.ndarray, " size"], Bool[np.ndarray, " size"]]:
    """R_k(u) for random tokens k and directions u, in the codebook's unit of length.

    The second array marks rays that met no other token as far as they were followed, which is what
    the first then holds; most of these cells are open in that direction.
    """
    points = codebook.sample_points(rng, size)
    u = rng.standard_normal((size, codebook.n))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    reach = np.full(size, FAR * 2 * np.sqrt(codebook.n))
    active = np.arange(size)
    ended = np.zeros(size, dtype=bool)
    for _ in range(MAX_STEPS):
        at = points[active] + reach[active, None] * u[active]
        gap = codebook.nearest_points(at) - points[active]
        along = np.einsum("pn,pn->p", gap, u[active])
        square = np.einsum("pn,pn->p", gap, gap)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = np.where((square > 0) & (along > 0), square / (2 * along), np.inf)
        # The token at a crossing is as near as k: only a clearly nearer one counts.
        nearer = crossing < reach[active] * (1 - 16 * EPS)
        active, crossing = active[nearer], crossing[nearer]
        ended[active] = True
        reach[active] = crossing
        if not active.size:
            return reach, ~ended
    raise RuntimeError(f"A ray met more than {MAX_STEPS} half-spaces; please report this.")


def _summary(
    moments: Moments, snr: np.ndarray, beyond: np.ndarray, codebook: LatticeCodebook
) -> dict[str, dict[str, Any]]:
    """Means and errors. Without a signal the accuracy is 1/K, which no direction tells."""
    blind = snr == 0
    blind_values = (1 - 1 / codebook.K, 1 / codebook.K)
    carried = (moments.effective() >= MIN_EFFECTIVE) & moments.carried()
    out: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(("error_probability", "accuracy")):
        value = np.where(blind, blind_values[index], moments.mean[index])
        # Ends of rays are rounded by about eps times the number of levels, which the exponent of a
        # tail multiplies. Rays that were not followed to an end count for 0 up to their tail.
        exponent = -np.log(np.maximum(moments.mean[0], np.finfo(float).tiny))
        relative = 16 * EPS * (8 + codebook.levels * (1 + exponent))
        out[name] = {
            "value": value,
            "standard_error": np.where(blind, 0.0, moments.standard_error[index]),
            "skewness": np.where(blind, 0.0, moments.skewness[index]),
            "numerical_error": np.where(
                blind, EPS * value, relative * value + beyond / moments.n[0]
            ),
            "interval_supported": carried.all(axis=0) | blind,
            "sample_range": 1.0,
        }
    return out


def _replace(
    found: dict[str, dict[str, Any]], rare: Bool[np.ndarray, " s"], fields: dict[str, np.ndarray]
) -> None:
    """Put the errors of `_lattice_rare` in their places."""
    accuracy = fields | {
        "value": 1 - fields["value"],
        "skewness": -fields["skewness"],
        "numerical_error": fields["numerical_error"] + EPS,
    }
    for name, values in (("error_probability", fields), ("accuracy", accuracy)):
        for field, value in values.items():
            found[name][field][rare] = value
        found[name]["interval_supported"][rare] = True
