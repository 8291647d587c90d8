"""tau^3 >= r = tau - snr / (1 + snr), tau = E tanh^2(h (h + z)), at every SNR
(docs/theory/context.md, C8, the lemma); and r <= 0.14374 tau."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st


def _tau(snr: float) -> float:
    """1 - mmse of a bit: a trapezoid rule for positive terms, far finer than its strip asks for."""
    h = np.sqrt(snr)
    z = np.arange(-14.0, 14.0, min(0.05, 0.2 / h))
    weight = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    return float(weight @ np.tanh(h * (h + z)) ** 2)


@given(st.floats(-3.0, 2.0))
def test_lemma(log10_snr: float) -> None:
    """Both sides are snr^3 and 2 snr^2 .. at low SNR, so that digits are lost below 1e-3."""
    snr = 10.0**log10_snr
    tau = _tau(snr)
    r = tau - snr / (1 + snr)
    assert r + 1e-14 >= 0
    assert tau**3 >= r - 1e-14
    assert r <= 0.14374 * tau


def test_largest_share() -> None:
    snr = np.linspace(2.5, 4.0, 301)
    share = np.array([1 - one / (1 + one) / _tau(one) for one in snr])
    assert abs(share.max() - 0.143734) < 1e-6
    assert abs(snr[share.argmax()] - 3.2) < 0.1
