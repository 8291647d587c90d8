"""Entropies of laws that are nearly certain, against sixty digits."""

import mpmath
import numpy as np
import pytest

import tokenkl as tk
from tokenkl.information.exact.product import entropy_within
from tokenkl.numerics.laws import entropies, entropy_of


def in_full(law: list[float] | np.ndarray) -> mpmath.mpf:
    """What is not the largest is as it is given; the largest is the rest."""
    others = [mpmath.mpf(float(p)) for p in np.delete(law, np.argmax(law)) if p > 0]
    top = 1 - mpmath.fsum(others)
    return -mpmath.fsum(p * mpmath.log(p) for p in [*others, top] if p > 0)


@pytest.mark.parametrize("rest", [0.0, 1e-300, 1e-17, 1e-12, 1e-9, 1e-4, 0.1, 0.6])
def test_digits(rest: float) -> None:
    law = np.array([0.3 * rest, 1 - rest, 0.0, 0.7 * rest])
    with mpmath.workdps(360):
        exact = float(in_full(law))
    # As laws in single precision are: off in their sum.
    for found in (entropies(np.stack([law, 1.0001 * law]))[1], entropy_of(law.reshape(2, 2))):
        assert found == pytest.approx(exact, rel=1e-15, abs=0)
    assert entropies(np.ones((2, 1))).tolist() == [0.0, 0.0]
    assert entropies(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("rest", [1e-13, 1e-9, 1e-3])
def test_of_sources(rest: float) -> None:
    sure = np.array([1 - 3 * rest, rest, 2 * rest])
    with mpmath.workdps(60):
        exact = float(in_full(sure))
    steps = np.stack([np.roll(sure, k) for k in range(3)])
    chain = tk.sources.Markov(steps, initial=sure, length=3)
    independent = tk.sources.Independent(np.stack([sure, sure]))
    assert independent.entropy() == pytest.approx(2 * exact, rel=1e-14, abs=0)
    assert chain.entropy() == pytest.approx(3 * exact, rel=1e-14, abs=0)


@pytest.mark.parametrize("rest", [1e-12, 1e-9, 1e-6, 0.2])
def test_tokens_at_one_place(rest: float) -> None:
    """One of them is nearly certain: what is observed tells the other place apart, and no more."""
    prior = np.array([rest, 1 - 3 * rest, 2 * rest])
    levels = np.array([[0.0], [0.0], [1.0]])
    codebook = tk.PointCodebook(levels, prior, allow_duplicates=True)
    found = tk.conditional_entropy(codebook, [0.0, 1e6], method=tk.Exact())
    with mpmath.workdps(60):
        whole = mpmath.mpf(rest) + mpmath.mpf(float(prior[1]))
        share = mpmath.mpf(rest) / whole
        within = whole * in_full([float(share), float(1 - share)])
        exact = [float(in_full(prior)), float(within)]
    np.testing.assert_allclose(found.value, exact, rtol=2e-15)
    assert (np.abs(found.value - exact) <= found.numerical_error).all()
    assert entropy_within(prior, np.array([0, 0, 1])) == pytest.approx(exact[1], rel=1e-15)
