"""Findings from statistics that were sampled elsewhere, judged as those sampled here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from tokenkl.information.estimators import COMPLEMENTS
from tokenkl.information.findings import Findings
from tokenkl.information.problem import Problem
from tokenkl.information.sampling.clusters import _is_blind, clusters_of
from tokenkl.information.sampling.montecarlo import STATISTICS, _Precision, _summary
from tokenkl.numerics.moments import Moments

#: Roundings of a product that may add up in a difference of logits.
ROUNDINGS = 16
#: Beyond it nothing changes any more, and squares of it overflow.
LARGEST_ROOT = 1e150


def findings(
    problem: Problem,
    statistics: Float[np.ndarray, "levels statistics samples"],
    quantities: Sequence[str],
    direct: Bool[np.ndarray, " levels"] | None,
    method: str,
) -> dict[str, Findings]:
    """Means of independent samples of `STATISTICS`, in the units of the codebook.

    `direct` is where information and entropy come from the divergence from the prior.
    """
    everywhere = np.arange(problem.snr.size)
    columns = STATISTICS[: statistics.shape[1]]
    unit = np.where([name == "mmse" for name in columns], -2 * problem.exponent, 0)
    values = np.ldexp(statistics, unit[:, None])
    moments = Moments(values.shape[:2])
    moments.add(values)
    radius = float(np.max(np.sum(problem.centred**2, axis=1)))
    known = (moments, moments, moments.carriers(), radius, _Precision())
    found = _summary(problem, *known, np.full(everywhere.size, np.inf), direct, False)
    if direct is not None:
        by_divergence = found["mutual_information"].complement(problem.codebook.prior_entropy())
        where = np.flatnonzero(direct)
        routes = [(everywhere, found["conditional_entropy"]), (where, by_divergence.at(where))]
        found["conditional_entropy"] = Findings.joined(everywhere.size, routes)
    misplaced, out = misplaced_logits(problem), {}
    for name in quantities:
        small = found[COMPLEMENTS.get(name, name)]
        moved = np.minimum(misplaced * np.abs(small.value), small.sample_range)
        error = found[name].numerical_error + moved
        out[name] = dataclasses.replace(found[name], method=method, numerical_error=error)
    blind = unseen(problem, out, values.shape[-1])
    for name, one in out.items():
        out[name] = dataclasses.replace(one, interval_supported=one.interval_supported & ~blind)
    return out


def misplaced_logits(problem: Problem) -> Float[np.ndarray, " levels"]:
    """How far rounding may move a logit that comes from products of whole tokens with noise."""
    size = np.sqrt(np.sum(problem.centred**2, axis=1).max() * problem.codebook.n)
    return ROUNDINGS * np.finfo(float).eps * np.minimum(problem.h, LARGEST_ROOT) * size


def unseen(
    problem: Problem, found: dict[str, Findings], n_samples: int
) -> Bool[np.ndarray, " levels"]:
    """Where mistakes that a sample of this size hardly sees could matter (see `clusters`)."""
    blind = np.zeros(problem.snr.size, dtype=bool)
    for clusters in clusters_of(problem, n_samples):
        blind[clusters.levels] |= _is_blind(found, clusters)
    return blind
