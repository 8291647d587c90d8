"""`nonlinearity_integral` against another quadrature, under scaling, and by draws."""

import itertools
from typing import Any

import numpy as np
import pytest

import tokenkl as tk
from experiments.toy.data import draw_chain
from tokenkl.context.nonlinearity import nonlinearity_bound
from tokenkl.sources import Independent, Joint

LAW = Joint([[0.4, 0.1], [0.2, 0.3]])


def test_against_gauss_legendre() -> None:
    """Three panels in log snr; what is left out at both ends is known to be small."""
    found = tk.nonlinearity_integral(tk.FSQ((2,)), LAW, position=0)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(np.log(1e-3), np.log(80.0), 4)
    total = 0.0
    for low, high in itertools.pairwise(edges):
        snr = np.exp((low + high) / 2 + (high - low) / 2 * nodes)
        values = tk.message_nonlinearity(tk.FSQ((2,)), LAW, snr, position=0).value
        total += (high - low) / 2 * float(weights @ values)
    total += tk.low_snr_nonlinearity(tk.FSQ((2,)), LAW, position=0) * 1e-6 / 2
    assert found.numerical_error < 1e-5 * found.value
    assert abs(found.value - total) < 1e-5 * found.value


def test_scale_does_not_matter() -> None:
    points = np.array([[-1.0], [1.0]])
    one, other = (
        tk.nonlinearity_integral(tk.PointCodebook(size * points), LAW) for size in (1.0, 37.0)
    )
    assert abs(one.value - other.value) <= one.numerical_error + other.numerical_error


@pytest.mark.parametrize("scale", [1e-5, 1.0])
@pytest.mark.parametrize("rare", [0.0, 1e-12, 1e-6])
def test_first_token_all_but_known(rare: float, scale: float) -> None:
    """At the noise that the spread of the first position alone suggests, all others are told."""
    T = [[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.05, 0.15, 0.8]]
    chain = tk.sources.Markov(T, 3, [rare, 1 - 2 * rare, rare])
    points, method = tk.FSQ((3,)).scaled(scale), tk.MonteCarlo(2**10)
    found = tk.nonlinearity_integral(points, chain, method=method, key=1)
    # The trapezoid rule over `message_nonlinearity` by quadrature.
    off = abs(float(found) - 0.0084265)
    assert off <= 4.5 * found.standard_error + found.numerical_error < 0.2 * float(found)


def test_independent_tokens() -> None:
    found = tk.nonlinearity_integral(tk.FSQ((2,)), Independent([[0.5, 0.5], [0.2, 0.8]]))
    assert abs(found.value) <= found.numerical_error < 1e-10


def test_by_draws() -> None:
    exact = tk.nonlinearity_integral(tk.FSQ((2,)), LAW, position=0)
    method = tk.MonteCarlo(2000)
    found = tk.nonlinearity_integral(tk.FSQ((2,)), LAW, position=0, method=method, key=1)
    off = abs(found.value - exact.value)
    assert off <= 4.5 * found.standard_error + found.numerical_error
    assert found.standard_error < 0.1 * found.value


def test_bound_by_pairs_is_above() -> None:
    snr = np.array([0.0, 0.1, 1.0, 10.0])
    bound = nonlinearity_bound(tk.FSQ((2,)), LAW, snr)
    assert (bound.value > tk.message_nonlinearity(tk.FSQ((2,)), LAW, snr).value).all()


def test_levels_far_from_each_other_do_not_start_each_other() -> None:
    """Slopes where tokens are as good as told, which are anything, once made sums of 184."""
    chain = draw_chain(3, 2, 2, 20261128)
    source = tk.sources.Markov(chain.transition, 2, chain.start)
    method = tk.MonteCarlo(2**9)
    found = tk.nonlinearity_integral(tk.FSQ((3, 3)), source, position=1, method=method, key=1)
    assert 0.02 < float(found) < 0.04  # 0.029 of 4096 draws
    assert float(found.numerical_error) < 0.3 * float(found)


def test_few_draws_say_so() -> None:
    """Laws with many parameters, fitted to few draws: the bracket is wide.

    Where tokens are nearly told, its upper end is not above the law that is not fitted at all.
    """
    chain = draw_chain(3, 2, 2, 20261128)
    source = tk.sources.Markov(chain.transition, 2, chain.start)

    def at(snr: float, size: int, **how: Any) -> tk.Estimate:
        return tk.message_nonlinearity(
            tk.FSQ((3, 3)), source, snr, position=1, method=tk.MonteCarlo(size), key=1, **how
        )

    few, many = at(3.0, 2**8), at(3.0, 2**13)
    assert float(few.numerical_error) > 4 * float(many.numerical_error) > 0
    told, unfitted = at(37.0, 2**8), at(37.0, 2**8, family="gaussian")
    assert float(told.value) + float(told.numerical_error) <= float(unfitted.value) * (
        1 + 1e-3
    )  # gap
    for found, known in ((few, 0.0110073269), (many, 0.0110073269), (told, 2.79749317e-4)):
        low, high, _ = found.confidence_interval(0.999)  # known by quadrature
        assert low <= known <= high
