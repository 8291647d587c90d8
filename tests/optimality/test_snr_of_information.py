"""Where a share of the token is told: against quadrature, and against the exact root if sampled."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize

import tokenkl as tk

DECIBELS = 10 / math.log(10)


def _binary_information(snr: float) -> float:
    """I of two equally likely tokens at -1 and 1, in nats, by quadrature of the observation."""
    h = math.sqrt(snr)

    def density(y: float) -> float:
        return float(np.logaddexp(-((y - h) ** 2) / 2, -((y + h) ** 2) / 2)) - math.log(
            2 * math.sqrt(2 * math.pi)
        )

    def integrand(y: float) -> float:
        return -density(y) * math.exp(density(y))

    entropy = integrate.quad(integrand, -h - 12, h + 12, limit=200, epsabs=1e-13)[0]
    return entropy - math.log(2 * math.pi * math.e) / 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_two_tokens(share: float) -> None:
    root = optimize.brentq(lambda x: _binary_information(x) - share * math.log(2), 1e-3, 100)
    found = tk.snr_of_information(tk.FSQ((2,)), share)
    assert float(found) == pytest.approx(DECIBELS * math.log(root), abs=1e-8)
    assert found.unit == "dB"


@pytest.mark.parametrize(
    "codebook",
    [
        tk.OneHot(3, [1 - 2e-9, 1e-9, 1e-9]),
        tk.scale_to(tk.FSQ((5, 5, 4)), power=1e-12),
        tk.FSQ((3,) * 4, priors=[[0.9999, 0.00005, 0.00005]] * 4),
        tk.FSQ((3,) * 40),
    ],
    ids=str,
)
def test_information_there_is_that_share(codebook: tk.Codebook) -> None:
    """Nearly certain priors, extreme scales, many coordinates."""
    for share in (0.02, 0.5, 0.98):
        found = tk.snr_of_information(codebook, share)
        ends = 10 ** (np.asarray(found.confidence_interval()[:2]) / 10)
        told = np.asarray(tk.mutual_information(codebook, ends).value)
        target = share * float(codebook.prior_entropy())
        assert told[0] <= target * (1 + 1e-10)
        assert target * (1 - 1e-10) <= told[1]
        assert told == pytest.approx(target, rel=1e-9)


@pytest.mark.slow
def test_sampled_intervals_cover() -> None:
    """A turned grid has no structure, and the exact root of the grid."""
    grid = tk.FSQ((3, 3, 3), priors=[[0.7, 0.2, 0.1]] * 3)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    true = float(tk.snr_of_information(grid))
    method = tk.MonteCarlo(n_samples=1024)
    hits = 0
    for key in range(20):
        turned = tk.PointCodebook(grid.points @ turn + (0.0, 1e3)[key % 2], grid.prior)
        found = tk.snr_of_information(turned, method=method, key=key)
        low, high, _ = found.confidence_interval()
        hits += bool(low <= true <= high)
        assert found.standard_error > 0
    assert hits >= 13  # of 20 at 95 %: fewer happen three times in 10^6


def test_a_start_that_is_known() -> None:
    """The same root from near by as from a search, exact or sampled; none that is not there."""
    grid = tk.FSQ((3, 3, 3), priors=[[0.7, 0.2, 0.1]] * 3)
    true = float(tk.snr_of_information(grid))
    for near in (true - 8, true + 0.01, true + 8):
        assert float(tk.snr_of_information(grid, near=near)) == pytest.approx(true, abs=1e-8)
    how: dict[str, Any] = {"method": tk.MonteCarlo(1024), "key": 0}
    points = tk.PointCodebook(grid.points @ np.diag([1.0, 1.0, 1.001]), grid.prior)
    searched, found = (tk.snr_of_information(points, near=near, **how) for near in (None, true))
    assert abs(float(searched) - float(found)) <= 0.2 * float(found.standard_error)
    same = tk.PointCodebook([[0.0]] * 6 + [[1.0], [2.0]], allow_duplicates=True)
    with pytest.raises(ValueError, match=r"tell 0\.5 of their entropy"):
        tk.snr_of_information(same, near=0.0, key=0)
    with pytest.raises(ValueError, match="near must be"):
        tk.snr_of_information(grid, near=1e5)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0])
def test_shares_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share must be"):
        tk.snr_of_information(tk.FSQ((2,)), share)


def test_other_refusals() -> None:
    turned = tk.PointCodebook([[0.0, 0.0, 0.0], [1.0, 0.3, 0.0], [0.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match="key must be an integer seed"):
        tk.snr_of_information(turned)
    same = tk.PointCodebook([[0.0], [0.0]], allow_duplicates=True)
    with pytest.raises(ValueError, match="distinct tokens enough to tell"):
        tk.snr_of_information(same, key=0)
