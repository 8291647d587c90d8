"""Sequences as tokens: the messages' way against the list of all sequences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.codebooks import SequenceCodebook
from tokenkl.divergence.mmse_table import tabulate
from tokenkl.sources import HiddenMarkov, Independent, Joint, Markov, Source

RNG = np.random.default_rng(4)
TOKENS = tk.FSQ((3, 2))
K = TOKENS.K
SOURCES: dict[str, Source] = {
    "markov": Markov(RNG.dirichlet(np.full(K, 0.3), K), 3),
    "hidden": HiddenMarkov(RNG.dirichlet(np.ones(2), 2), RNG.dirichlet(np.full(K, 0.3), 2), 3),
    "joint": Joint(np.reshape(RNG.dirichlet(np.full(K**2, 0.3)), (K, K))),
    "cycle": Markov(np.roll(np.eye(K), 1, axis=1), 3, np.eye(K)[0] / 2 + np.eye(K)[2] / 2),
}
GRID = np.concatenate([[0.0], np.geomspace(0.05, 30, 9)])


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Source:
    return SOURCES[request.param]


def test_points_and_prior(source: Source) -> None:
    """The points side by side, in the order of the joint law, without what cannot occur."""
    found, law = tk.sequence_codebook(TOKENS, source), source.joint()
    sequences = np.argwhere(law)
    assert found.n == source.length * TOKENS.n
    assert np.array_equal(found.points, TOKENS.points[sequences].reshape(len(sequences), -1))
    assert np.allclose(found.prior, law[law > 0], rtol=1e-14)


def test_moments(source: Source) -> None:
    listed, long = tk.sequence_codebook(TOKENS, source), SequenceCodebook(TOKENS, source)
    assert np.allclose(long.mean(), listed.mean(), atol=1e-14)
    assert long.average_power() == pytest.approx(listed.average_power(), rel=1e-13)
    assert float(long.prior_entropy()) == pytest.approx(float(listed.prior_entropy()), rel=1e-13)
    ids = np.array([0, 5, 35])
    digits = np.stack(np.unravel_index(ids, (K,) * source.length), axis=1)
    assert np.array_equal(long.points_at(ids), TOKENS.points[digits].reshape(3, -1))


def test_posterior_variances(source: Source) -> None:
    """With the same draws: tr Cov from all sequences, to 1e-12 of it, down to 1e-30."""
    long, listed = SequenceCodebook(TOKENS, source), tk.sequence_codebook(TOKENS, source)
    snr, size = np.array([0.0, 0.3, 4.0, 40.0, 400.0]), 50
    found = long.posterior_variances(np.random.default_rng(8), size, snr)
    rng = np.random.default_rng(8)
    x = TOKENS.points[source.sample(size, key=int(rng.integers(2**63)))].reshape(size, -1)
    noise = rng.standard_normal((size, source.length, TOKENS.n)).reshape(size, -1)
    for h, values in zip(np.sqrt(snr), found, strict=True):
        gap = listed.points - x[:, None]
        logits = h * np.einsum("sn,skn->sk", noise, gap) - h**2 / 2 * np.square(gap).sum(axis=2)
        p = np.exp(logits + listed.log_prior)
        p /= p.sum(axis=1, keepdims=True)
        away = gap - np.take_along_axis(gap, p.argmax(axis=1)[:, None, None], axis=1)
        mean = np.einsum("sk,skn->sn", p, away)
        # The most likely sequence is at 0, so that the square of the mean is of second order.
        exact = np.einsum("sk,skn->s", p, away**2) - np.square(mean).sum(axis=1)
        assert np.allclose(values, exact, rtol=1e-11, atol=1e-30)


def test_path_kl(source: Source) -> None:
    """Sampled by messages, against a long sample of the list."""
    listed = tk.ancestral_kl(
        tk.sequence_codebook(TOKENS, source), GRID, method=tk.MonteCarlo(n_samples=2**12), key=1
    )
    long = SequenceCodebook(TOKENS, source)
    found = tk.ancestral_kl(long, GRID, method=tk.MonteCarlo(n_samples=600), key=2)
    spread = np.hypot(found.standard_error, listed.standard_error)
    slack = found.numerical_error + listed.numerical_error
    assert abs(found.value - listed.value) < 4.3 * spread + slack
    assert spread < 0.1 * listed.value


def test_independent_tokens_add_up() -> None:
    """n tokens cost n times one, which is exact, and so does the start."""
    law = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    source, single = Independent([law] * 10), TOKENS.with_prior(law)
    found = tk.ancestral_kl(tk.sequence_codebook(TOKENS, source), GRID, key=5)
    alone = tk.ancestral_kl(single, GRID, method=tk.MonteCarlo(n_samples=2**14), key=3)
    spread = np.hypot(found.standard_error, 10 * alone.standard_error)
    slack = found.numerical_error + 10 * alone.numerical_error
    assert found.n_samples == 819
    assert abs(found.value - 10 * alone.value) < 4.3 * spread + slack
    start = tk.prior_mismatch(tk.sequence_codebook(TOKENS, source), 0.05, key=1)
    assert abs(start.value - 10 * tk.prior_mismatch(single, 0.05, key=2).value) < 0.02 * start.value


def test_area_is_the_entropy() -> None:
    """I-MMSE of a chain of 12 tokens: half of the area under its MMSE is what there is to know."""
    chain = Markov(0.8 * np.eye(K) + 0.2 / K, 12)
    long = tk.sequence_codebook(TOKENS, chain)
    table = tabulate(long, 0.0, 100.0, tk.MonteCarlo(n_samples=256), 4)
    assert table.area(100.0) / 2 == pytest.approx(chain.entropy(), rel=0.03)


def test_steps_and_schedule() -> None:
    chain = Markov(0.8 * np.eye(K) + 0.2 / K, 5)
    long, few = SequenceCodebook(TOKENS, chain), tk.MonteCarlo(n_samples=64)
    best = tk.optimal_steps(long, 4, 0.0, 30.0, method=few, key=1)
    even = tk.ancestral_kl(long, np.linspace(0, 30, 5), method=few, key=1)
    assert best.kl.value < 0.5 * even.value
    law = tk.information_uniform_schedule(long, method=few, key=2)
    assert law.information == pytest.approx(chain.entropy(), rel=0.1)
    # With context the information comes at more noise than without.
    alone = tk.information_uniform_schedule(TOKENS)
    assert law.quantile(0.5) < alone.quantile(0.5) - 0.2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tk.sequence_codebook(tk.FSQ((2,)), SOURCES["markov"]), "one of 2, as codebook"),
        (lambda: tk.sequence_codebook(TOKENS, TOKENS), "source must be a tokenkl source"),  # type: ignore[arg-type]
        (lambda: tk.ancestral_kl(SequenceCodebook(TOKENS, SOURCES["markov"]), GRID), "key must be"),
        (
            lambda: tk.produced_law(
                tk.sequence_codebook(TOKENS, Markov(np.full((K, K), 1 / K), 30)), GRID, key=1
            ),
            "at most",
        ),
    ],
)
def test_refusals(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
