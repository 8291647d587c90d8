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

from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from tokenkl._random import generator
from tokenkl.codebooks import LatticeCodebook
from tokenkl.information.estimators import (
    DOUBLE_ALONE,
    Names,
    Progress,
    SampleAverage,
    Served,
    Task,
)
from tokenkl.information.findings import Findings
from tokenkl.information.lattice.rare import is_decoded
from tokenkl.information.methods import MonteCarlo
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.montecarlo import DEFAULT_SAMPLES, MAX_BLOCK, PILOT
from tokenkl.information.sampling.targets import sample_on, samples_needed
from tokenkl.numerics.moments import MIN_EFFECTIVE, Moments

EPS = float(np.finfo(float).eps)
#: What a ray costs for each coordinate, in seconds.
RAY_COST = 2e-6
#: Where a ray starts, in diameters of the box.
FAR = 1e4
#: Steps along a ray. Each finds a nearer half-space; a handful is the rule.
MAX_STEPS = 1000


class Rays(SampleAverage):
    """`decoded_profile`: accuracy of a lattice cut with too many tokens to list."""

    name = "lattice decoding along rays"
    kinds = LatticeCodebook
    only = DOUBLE_ALONE

    def serves(self, problem: Problem, wanted: Names, asked: bool) -> Served:
        return wanted, is_decoded(problem, wanted)

    def seconds(self, problem: Problem, method: MonteCarlo) -> float:
        count = min(method.n_samples or DEFAULT_SAMPLES, method.max_samples)
        cost = count * problem.codebook.n * RAY_COST  # of all levels together
        return cost / max(problem.snr.size, 1)

    def run(self, task: Task) -> dict[str, Findings]:
        return decoded_profile(*task)


def decoded_profile(
    problem: Problem,
    quantities: tuple[str, ...],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None = None,
) -> dict[str, Findings]:
    """Error probability and accuracy, from the same rays at every level."""
    given = cast(LatticeCodebook, problem.codebook)
    codebook, h = given.in_the_box, problem.root * given.stretch
    moments, beyond, block = Moments((2, h.size)), np.zeros(h.size), 0
    size = int(np.clip(method.memory // (8 * (16 * codebook.n + 8 * h.size)), 1, MAX_BLOCK))

    def advance(wanted: int) -> int:
        nonlocal block
        count = int(moments.n[0, 0])
        while count < wanted:
            reach, is_open = cell_reach(codebook, generator(key, block), size)
            used = slice(wanted - count)
            half_square = (h[:, None] * reach[used]) ** 2 / 2
            # The tail of the chi law, and one minus it, which need not be small.
            tails = special.gammaincc(codebook.n / 2, half_square)
            moments.add(np.stack([tails, special.gammainc(codebook.n / 2, half_square)]))
            beyond[:] += (tails * is_open[used]).sum(axis=1)
            block, count = block + 1, int(moments.n[0, 0])
            if progress is not None:
                progress(count, wanted)
        return count

    def found() -> dict[str, Findings]:
        both = _summary(moments, problem, beyond)
        return {name: both[name] for name in quantities}

    def needed() -> int:
        pairs = [(one.value, one.standard_error) for one in found().values()]
        return int(samples_needed(pairs, moments.n[0], method).max(initial=0))

    first = method.n_samples or (PILOT if method.has_target else DEFAULT_SAMPLES)
    sample_on(first, method, advance, needed)
    return found()


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
    moments: Moments, problem: Problem, beyond: Float[np.ndarray, " s"]
) -> dict[str, Findings]:
    """Means and errors. Without a signal the accuracy is 1/K, which no direction tells."""
    codebook, blind = cast(LatticeCodebook, problem.codebook), problem.snr == 0
    blind_values = (1 - 1 / codebook.K, 1 / codebook.K)
    carried = (moments.effective() >= MIN_EFFECTIVE) & moments.carried()
    out: dict[str, Findings] = {}
    for index, name in enumerate(("error_probability", "accuracy")):
        value = np.where(blind, blind_values[index], moments.mean[index])
        # Ends of rays are rounded by about eps times the number of levels, which the exponent of a
        # tail multiplies. Rays that were not followed to an end count for 0 up to their tail.
        exponent = -np.log(np.maximum(moments.mean[0], np.finfo(float).tiny))
        relative = 16 * EPS * (8 + codebook.levels * (1 + exponent))
        out[name] = Findings(
            value,
            np.where(blind, 0.0, moments.standard_error[index]),
            np.where(blind, EPS * value, relative * value + beyond / moments.n[0]),
            moments.n[0],
            carried.all(axis=0) | blind,
            1.0,
            np.where(blind, 0.0, moments.skewness[index]),
            method=Rays.name,
        )
    return out
