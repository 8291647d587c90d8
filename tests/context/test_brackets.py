"""What clean contexts say of noisy ones, where they do not, and the identities of information."""

import numpy as np
import pytest
from sequences import QUANTITIES, pair_by_quadrature

import tokenkl as tk
from tokenkl.context import entropy_per_token
from tokenkl.sources import Joint, Markov

LINE = tk.PointCodebook([[-1.0], [0.2], [1.5]])
COPY = Joint(np.eye(2) / 2)
BITS = tk.FSQ((2,))


def _pair(seed: int) -> Joint:
    return Joint(np.random.default_rng(seed).dirichlet(np.full(9, 0.4)).reshape(3, 3))


def _whole_entropy(law: np.ndarray, points: np.ndarray, snr: np.ndarray) -> np.ndarray:
    """H(X | Y) of two tokens, as one token of a codebook in the plane; accuracy is not needed."""
    y = np.linspace(-14, 14, 500)
    found = []
    for h in np.sqrt(snr):
        each = np.exp(-((y[:, None] - h * points) ** 2) / 2) / np.sqrt(2 * np.pi)
        weight = np.einsum("ak,kl,bl->abkl", each, law, each)
        total = weight.sum(axis=(2, 3), keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(weight > 0, weight * np.log(weight / total), 0.0)
        found.append(-terms.sum() * (y[1] - y[0]) ** 2)
    return np.array(found)


@pytest.mark.parametrize("seed", range(3))
def test_a_noisy_context_is_between_none_and_a_clean_one(seed: int) -> None:
    """H(k_i | Y_i, others) <= H(k_i | Y) <= H(k_i | Y_i), for every quantity in its direction."""
    source, snr = _pair(seed), np.array([0.1, 1.0, 7.0])
    for name in QUANTITIES:
        found = tk.contextual_bracket(LINE, source, snr, name)
        answers = [pair_by_quadrature(source.law, LINE.points.ravel(), one)[name] for one in snr]
        assert (found.lower.value <= np.array(answers) + 1e-10).all(), name
        assert (found.upper.value >= np.array(answers) - 1e-10).all(), name
        assert found.lower.direction == "lower"
        assert (found.lower.value < found.upper.value).all()


@pytest.mark.parametrize("seed", range(3))
def test_entropy_of_a_sequence_is_between_sums(seed: int) -> None:
    """sum H(k_i | Y_i, others) <= H(X | Y) <= sum H(k_i | Y_i, before)."""
    source, snr = _pair(seed), np.array([0.1, 1.0, 7.0])
    found = tk.contextual_bracket(LINE, source, snr, of="sequence")
    answer = _whole_entropy(source.law, LINE.points.ravel(), snr)
    assert (found.lower.value <= answer + 1e-10).all()
    assert (found.upper.value >= answer - 1e-10).all()
    assert np.isclose(
        tk.contextual_bracket(LINE, source, 0.0, of="sequence").upper.value,
        source.entropy(),
    )


def test_mmse_of_a_sequence_and_the_trap_of_its_past() -> None:
    """Copied bits at snr 0.5: 2 m(2 snr) = 0.899, and with clean tokens before, m(snr) = 0.650.

    So sum_i mmse(e_i | Y_i, k_<i) is no upper bound at one SNR. Its integral from there on is one,
    of twice H(X | Y).
    """
    snr = 0.5
    whole = 2 * pair_by_quadrature(COPY.law, BITS.points.ravel(), snr)["mmse"]
    past = 2 * tk.contextual_profile(BITS, COPY, snr, "mmse", context="left-clean")["mmse"].value
    assert round(whole, 3) == 0.899
    assert round(float(past), 3) == 0.650
    found = tk.contextual_bracket(BITS, COPY, snr, "mmse", of="sequence")
    assert found.lower.value <= whole <= found.upper.value
    # The integral, by Gauss-Legendre in pieces.
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    left, width = edges[:-1, None], np.diff(edges)[:, None]
    grid = left + width * (nodes + 1) / 2
    values = tk.contextual_profile(BITS, COPY, grid, "mmse", context="left-clean")["mmse"].value
    integral = float((2 * values * weights * width / 2).sum())
    twice = 2 * float(_whole_entropy(COPY.law, BITS.points.ravel(), np.array([snr]))[0])
    assert integral >= twice
    clean = tk.contextual_profile(BITS, COPY, snr, "conditional_entropy", context="left-clean")[
        "conditional_entropy"
    ].value
    assert np.isclose(integral, 2 * 2 * clean, rtol=1e-9)  # I-MMSE given the past


def test_derivative_of_the_entropy_of_a_sequence() -> None:
    """d/dsnr H(X | Y) = -(1/2) sum_i mmse(e_i | Y): I-MMSE in R^(2n)."""
    source, points = _pair(5), LINE.points.ravel()
    for snr in (0.3, 2.0):
        step = 1e-4
        low, high = _whole_entropy(source.law, points, np.array([snr - step, snr + step]))
        total = 2 * pair_by_quadrature(source.law, points, snr)["mmse"]
        assert np.isclose((high - low) / (2 * step), -total / 2, rtol=1e-6)


def test_derivative_of_the_entropy_of_a_token_in_its_sequence() -> None:
    """d/dsnr H(k_i | Y) = -(1/2) [mmse(X | Y) - mmse(X | Y, k_i)] (C3), averaged over i.

    Given k_1, what is not known is k_2 with the prior p(k_2 | k_1).
    """
    source, points, step = _pair(6), LINE.points.ravel(), 1e-4
    for snr in (0.3, 2.0):
        low, high = (
            pair_by_quadrature(source.law, points, g)["conditional_entropy"]
            for g in (snr - step, snr + step)
        )
        whole = 2 * pair_by_quadrature(source.law, points, snr)["mmse"]
        known = tk.contextual_profile(LINE, source, snr, "mmse", context="others-clean")["mmse"]
        slope = -(whole - float(known.value)) / 2
        assert np.isclose((high - low) / (2 * step), slope, rtol=1e-6)


def test_context_information_and_where_half_of_it_is() -> None:
    """Against quadrature: at every SNR, the integral, and the point of its half."""
    source, snr = _pair(2), np.geomspace(0.02, 60, 25)
    found = tk.context_information(LINE, source, snr, key=1)
    alone = tk.contextual_profile(LINE, source, snr, "conditional_entropy", context="none")
    points = LINE.points.ravel()
    whole = np.array(
        [pair_by_quadrature(source.law, points, g)["conditional_entropy"] for g in snr]
    )
    answer = alone["conditional_entropy"].value - whole
    low, high, _ = found.values.confidence_interval(1 - 2e-5 / 27)
    assert ((low <= answer) & (answer <= high)).all()
    z = 5.0  # the same for the two that follow
    x = np.log(snr)
    integral = np.trapezoid(answer, x)
    assert abs(found.integral.value - integral) <= z * found.integral.standard_error
    done = np.concatenate([[0.0], np.cumsum(np.diff(x) * (answer[1:] + answer[:-1]) / 2)])
    half = np.exp(np.interp(integral / 2, done, x))
    assert abs(found.half.value - half) <= z * found.half.standard_error + 0.01 * half
    assert found.half.standard_error < 0.1 * half


def test_entropy_of_a_token_in_a_long_sequence() -> None:
    rows = np.random.default_rng(0).dirichlet(np.full(4, 0.4), 4)
    chain = Markov(rows, 400)
    exact = entropy_per_token(chain)
    assert abs(exact.value - chain.entropy_rate()) < 0.01
    found = entropy_per_token(chain, 200, key=0)
    assert abs(found.value - exact.value) < 4.3 * found.standard_error
    assert 0 < found.standard_error < 0.01


def test_refused() -> None:
    with pytest.raises(ValueError, match="quantity must be one of"):
        tk.contextual_bracket(LINE, _pair(0), 1.0, "accuracy", of="sequence")
    with pytest.raises(ValueError, match="position must be None for a sequence"):
        tk.contextual_bracket(LINE, _pair(0), 1.0, of="sequence", position=0)
    with pytest.raises(ValueError, match="in ascending order"):
        tk.context_information(LINE, _pair(0), [1.0, 0.5, 2.0], key=0)
    with pytest.raises(ValueError, match="law must be a Source"):
        tk.contextual_bracket(LINE, np.eye(3), 1.0)  # type: ignore[arg-type]
