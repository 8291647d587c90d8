"""What is said of the error of a produced law, against the laws that it allows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special

import tokenkl as tk
from tokenkl.numerics.laws import kl_and_error

PRIOR = np.array([0.5, 0.3, 0.15, 0.05])
LAWS = [
    (np.array([0.42, 0.33, 0.2, 0.05]), 1e-3),
    (np.array([0.42, 0.33, 0.2, 0.05]), 1e-6),
    (PRIOR + np.array([1e-5, -1e-5, 3e-5, -3e-5]), 1e-7),  # near equality the first order cancels
    (np.array([0.9, 0.08, 0.02 - 1e-6, 1e-6]), 5e-8),
]


@pytest.mark.parametrize(("law", "size"), LAWS)
def test_error_of_the_kl_covers_and_is_not_idle(law: np.ndarray, size: float) -> None:
    """All corners of the box of laws that the errors allow."""
    error = size * np.array([1.0, 0.5, 0.2, 0.9])
    value, slack = kl_and_error(np.log(PRIOR), law, error)
    assert value == pytest.approx(special.kl_div(PRIOR, law).sum(), rel=1e-9)
    corners = [law + error * signs for signs in itertools.product((-1, 1), repeat=4)]
    # Laws sum to one in the end: p log(p/q) - p + q has the value of p log(p/q) then.
    worst = max(abs(special.kl_div(PRIOR, q).sum() - value) for q in corners)
    assert worst <= slack
    assert slack < 2 * worst + 1e-14


def test_error_as_large_as_a_probability_is_without_bound() -> None:
    law = np.array([0.42, 0.33, 0.2, 0.05])
    value, slack = kl_and_error(np.log(PRIOR), law, np.array([0, 0, 0, 0.05]))
    assert math.isfinite(value)
    assert slack == math.inf
    assert kl_and_error(np.log(PRIOR), law * [1, 1, 1, 0], np.zeros(4)) == (math.inf, 0.0)
    assert kl_and_error(np.log(PRIOR), law * [1, 1, 1, 0], np.full(4, 1e-9)) == (math.inf, math.inf)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_estimates_say_how_they_were_found(sampler: str) -> None:
    codebook = tk.FSQ((3, 2), priors=[[0.6, 0.3, 0.1], [0.2, 0.8]])
    law = tk.produced_law(codebook, [0.1, 1.0, 5.0], sampler=sampler)
    for estimate in (law.kl, law.total_variation):
        assert str(estimate.method) == f"{sampler}, exact by coordinate"
        assert estimate.note == ""
    assert (law.kl.quantity, law.kl.unit) == ("KL", "nats")
    assert law.sampler == sampler
    assert law.n_steps == 2
