"""The gain of a centre that is moved to an edge, against the enclosures of the verifier."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tokenkl.optimality.moved_centre import centre_to_edge_gain
from tokenkl.optimality.proved import CENTRE_TO_EDGE
from tokenkl.optimality.verify_moved import ball, ctx, gained


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("snr", ["1/9", "1", "25/9", "12", "200"])
def test_against_ball_arithmetic(n: int, snr: str) -> None:
    before = ctx.prec
    try:
        ctx.prec = 128
        found = gained(n, ball(snr).sqrt())
    finally:
        ctx.prec = before
    low, high = centre_to_edge_gain(n, float(Fraction(snr)))
    assert low * 3.0**n == pytest.approx(float(found.lower()), rel=1e-10, abs=1e-13)
    assert high * 3.0**n == pytest.approx(float(found.upper()), rel=1e-10, abs=1e-13)


def test_one_change_of_sign_on_a_fine_grid() -> None:
    """As far as the two bounds tell: worse at low noise, better beyond, up to s = 100."""
    snr = 10 ** np.linspace(-4, 2, 1501)
    for n, (above, below, _, _) in CENTRE_TO_EDGE.items():
        low, high = centre_to_edge_gain(n, snr)
        assert np.all(low <= high + 1e-15)
        assert np.all(low[snr <= float(below)] > 0)
        assert np.all(high[snr >= float(above)] < 0)


def test_arguments() -> None:
    with pytest.raises(ValueError, match="n must be"):
        centre_to_edge_gain(2, 1.0)
    with pytest.raises(ValueError, match="snr must be"):
        centre_to_edge_gain(3, -1.0)
