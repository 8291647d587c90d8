"""Bivariate normal tails: against closed forms and 30-digit quadrature, deep in the tail too."""

import math

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from tokenkl.bounds import bivariate_tail


def by_quadrature(h: float, k: float, rho: float) -> float:
    """The defining integral, in 30 digits, cut at every scale of its integrand."""
    with mpmath.workdps(30):
        a, b, r = (mpmath.mpf(float(x)) for x in (max(h, k), min(h, k), rho))
        root = mpmath.sqrt(1 - r**2)
        cuts = {a + mpmath.mpf(2) ** j / (abs(a) + 1) for j in range(-24, 8)} | {a}
        if r != 0:
            kink, width = b / r, root / abs(r)
            cuts |= {x for j in range(-8, 9, 2) if (x := kink + j * width) > a}
        edges = sorted(cuts)
        return float(
            mpmath.quad(
                lambda x: mpmath.npdf(x) * mpmath.erfc((b - r * x) / root / mpmath.sqrt(2)) / 2,
                [*edges, edges[-1] + 12],
            )
        )


CASES = [
    (0.5, 0.2, 0.3),
    (5.0, 5.0, 0.5),
    (20.2, 20.2, 0.047),
    (27.8, 25.0, 0.99976),
    (15.0, 4.0, -0.4),
    (6.0, 5.5, -0.9),
    (1.3, 20.5, 0.999996),
    (4.0, -2.9, -0.9956),
    (30.0, -3.0, 0.7),
    (9.0, -8.0, -0.5),
]


@pytest.mark.parametrize(("h", "k", "rho"), CASES)
def test_relative_accuracy(h: float, k: float, rho: float) -> None:
    # The 30-digit quadrature itself is good to about 3e-11 where the cuts miss a scale.
    assert float(bivariate_tail(h, k, rho)) == pytest.approx(by_quadrature(h, k, rho), rel=5e-11)
    assert float(bivariate_tail(k, h, rho)) == float(bivariate_tail(h, k, rho))


def test_closed_forms() -> None:
    rho = np.array([-0.999, -0.5, 0.0, 0.3, 0.9999])
    expected = 0.25 + np.arcsin(rho) / (2 * math.pi)
    np.testing.assert_allclose(bivariate_tail(0.0, 0.0, rho), expected, rtol=1e-12)
    h = np.array([0.0, 1.0, 8.0, 30.0])
    np.testing.assert_allclose(bivariate_tail(h, 2.0, 0.0), special.ndtr(-h) * special.ndtr(-2.0))
    np.testing.assert_allclose(bivariate_tail(h, h, 1.0), special.ndtr(-h), rtol=1e-14)
    np.testing.assert_allclose(bivariate_tail(h, -40.0, 0.6), special.ndtr(-h), rtol=1e-12)
    assert bivariate_tail(1.0, 2.0, -1.0) == 0
    opposite = special.ndtr(2.0) - special.ndtr(-1.0)
    assert bivariate_tail(-2.0, -1.0, -1.0) == pytest.approx(opposite - 0, rel=1e-14)


def test_infinite_thresholds() -> None:
    assert bivariate_tail(np.inf, 0.0, 0.5) == 0
    assert bivariate_tail(-np.inf, 1.0, 0.5) == special.ndtr(-1.0)
    assert bivariate_tail(-np.inf, -np.inf, -0.5) == 1


def test_bulk_against_scipy() -> None:
    rng = np.random.default_rng(4)
    for h, k, rho in zip(
        *rng.uniform(-2.5, 2.5, (2, 40)), rng.uniform(-0.95, 0.95, 40), strict=True
    ):
        law = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]])
        assert abs(float(bivariate_tail(h, k, rho)) - law.cdf([-h, -k])) < 1e-7


def test_no_jump_between_the_two_methods() -> None:
    """Owen's T above 1e-4, quadrature below: continuous in the threshold to 1e-10."""
    h = np.linspace(2.0, 3.5, 4001)
    for rho in (-0.3, 0.2, 0.8):
        log_value = np.log(bivariate_tail(h, h, rho))
        assert np.abs(np.diff(log_value, 3)).max() < 1e-9
